"""Carries out what persons have paused and resumed, as the store has it."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog

from roundsman.engine.deliveries import Deliveries
from roundsman.engine.roster import Roster
from roundsman.engine.shared import Shared
from roundsman.engine.turns import Turns
from roundsman.store import StoreError
from roundsman.times import rfc3339

if TYPE_CHECKING:
    from roundsman.store import Pause

log = structlog.get_logger()


class Pauses:
    """Pauses and resumes the sources and sinks of the configuration."""

    def __init__(self, shared: Shared, roster: Roster, turns: Turns, deliveries: Deliveries) -> None:
        self._store, self._time, self._meter = shared.store, shared.time, shared.meter
        self._trouble = shared.trouble
        self._roster = roster
        self._turns = turns
        self._deliveries = deliveries
        self.missed = False
        """Whether the last look failed: then the next heartbeat looks again."""

    async def look(self, *, start: bool = False) -> None:
        """Carry out what a command has paused or resumed since the last look. At the `start`, log each pause."""
        self.missed = True
        try:
            found = await self._store.pauses()
        except StoreError as exc:
            self._trouble.report(exc)
            return
        self.missed = False
        self._sources({pause.name: pause for pause in found if pause.kind == "source"}, start)
        self._sinks({pause.name: pause for pause in found if pause.kind == "sink"}, start)

    def _sources(self, pauses: "dict[str, Pause]", start: bool) -> None:
        for name, watched in self._roster.items():
            pause, since = pauses.get(name), watched.status.paused
            if pause is not None and since is None:
                self._turns.pause(name, pause.since)
                self._meter.changes += 1
            if pause is not None and (since is None or start):
                log.info("source.paused", source=name, by=pause.by, since=_text(pause.since))
            if pause is None and since is not None:
                self._turns.resume(name)
                self._meter.changes += 1
                log.info("source.resumed", source=name, seconds=self._lasted(since))

    def _sinks(self, pauses: "dict[str, Pause]", start: bool) -> None:
        for name, delivery in self._deliveries.items():
            pause, since = pauses.get(name), delivery.paused
            if pause is not None and since is None:
                delivery.pause(pause.since)
                self._meter.changes += 1
            if pause is not None and (since is None or start):
                log.info("sink.paused", sink=name, by=pause.by, since=_text(pause.since))
            if pause is None and since is not None:
                delivery.resume()
                self._meter.changes += 1
                log.info("sink.resumed", sink=name, seconds=self._lasted(since))

    def _lasted(self, since: float) -> float:
        return round(max(0.0, self._time.now() - since), 1)


def _text(since: float) -> str:
    return rfc3339(datetime.fromtimestamp(since, UTC).replace(microsecond=0))
