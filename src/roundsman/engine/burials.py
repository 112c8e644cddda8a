"""The log lines about events that a sink refused: a receiver that refuses thousands must not fill the journal."""

from collections.abc import Callable
from dataclasses import dataclass

import structlog

from roundsman.events import Event

GATHER = 60.0
"""Seconds after a line within which further burials of the same sink are gathered into one line."""

log = structlog.get_logger()


@dataclass(slots=True)
class _Gathered:
    """Burials that are not logged yet. The first and the last are by the order in which they were buried."""

    count: int
    first: int
    last: Event
    reason: str


class Burials:
    """Logs the burials of one sink: the first at once, and those of the next minute in one line."""

    def __init__(self, sink: str, monotonic: Callable[[], float]) -> None:
        self._sink = sink
        self._monotonic = monotonic
        self._logged_at = float("-inf")
        """When (monotonic) the last line was logged."""
        self._gathered: _Gathered | None = None

    def add(self, event: Event, why: str) -> None:
        """An event was buried."""
        self.look()
        if self._gathered is not None:
            self._gathered.count += 1
            self._gathered.last, self._gathered.reason = event, why
        elif self._monotonic() - self._logged_at < GATHER:
            self._gathered = _Gathered(1, event.seq, event, why)
        else:
            self._log(_Gathered(1, event.seq, event, why))

    def look(self) -> None:
        """Log what was gathered, if its minute is over."""
        if self._gathered is not None and self._monotonic() - self._logged_at >= GATHER:
            self.flush()

    def flush(self) -> None:
        """Log what was gathered, now: the sink stops or fails."""
        gathered, self._gathered = self._gathered, None
        if gathered is not None:
            self._log(gathered)

    def _log(self, gathered: _Gathered) -> None:
        self._logged_at = self._monotonic()
        event = gathered.last
        if gathered.count == 1:
            about = {"seq": event.seq, "id": event.id, "source": event.source, "type": event.type}
        else:
            about = {"count": gathered.count, "first": gathered.first, "last": event.seq}
        log.error("event.buried", sink=self._sink, **about, reason=gathered.reason)
