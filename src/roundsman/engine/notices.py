"""The daemon's own notices, in the log of events: sinks that fail for long, a full disk, a clock jump."""

import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import structlog

from roundsman.engine.policy import Report
from roundsman.engine.shared import Shared
from roundsman.events import Event, notice
from roundsman.options.values import counted
from roundsman.store import DAEMON, Place, StoreError
from roundsman.system.files import Space, space
from roundsman.times import rfc3339, spell

SINK_PATIENCE = 600.0
"""Seconds that a sink may fail before that is reported: a receiver's restart takes less."""
CLOCK_PATIENCE = 60.0
"""Seconds that the clock may jump without a report: vendors' clocks differ by as much."""
LOW_BYTES, LOW_SHARE = 512 * 2**20, 0.05
"""A disk is nearly full if less than both is free: these bytes, and this share of it."""
CLEAR_FACTOR = 1.5
"""At this multiple of the limit, the disk has recovered: changes around the limit are reported once."""
LOGGED_BEFORE = {
    "roundsman.sink.failing",
    "roundsman.sink.recovered",
    "roundsman.store.damaged",
    "roundsman.clock.jumped",
}
"""Notices about what a line of its own has just said: `sink.failing`, `sink.recovered`, `store.damaged`, `clock.stepped`."""

log = structlog.get_logger()


class Notices:
    """Writes the daemon's own notices into the log. They wait, 20 at most, until the store can be written."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._waiting: deque[Event] = deque(maxlen=20)

    async def publish(self, event: Event | None) -> None:
        """Report this event; None means that there is nothing to report."""
        if event is not None and all(each.id != event.id for each in self._waiting):
            self._waiting.append(event)
        await self.flush()

    async def known(self, ids: Sequence[str]) -> set[str]:
        """Which of these notices, by id, were reported or are waiting."""
        there = await self._shared.store.known(DAEMON, ids)
        return there | {each.id for each in self._waiting}.intersection(ids)

    async def flush(self) -> None:
        """Report the notices that wait, if the store can be written now."""
        if not self._waiting:
            return
        store, waiting = self._shared.store, list(self._waiting)
        try:
            known = await store.known(DAEMON, [each.id for each in waiting])
            await store.append_notices(DAEMON, waiting, self._shared.time.now())
        except StoreError as exc:
            self._shared.trouble.report(exc)
            return
        # Meanwhile others may have been added, or these written by another call.
        for each in waiting:
            if each in self._waiting:
                self._waiting.remove(each)
            else:
                known = known | {each.id}
        new = [each for each in waiting if each.id not in known]
        for each in new:
            level = logging.DEBUG if each.type in LOGGED_BEFORE else logging.WARNING
            log.log(level, "daemon.notice", type=each.type, what=each.document()["data"]["message"])
        if new:
            self._shared.news.publish()


def about_source(name: str, report: Report, now: float) -> Event:
    """The event for a report that a source fails, or answers again."""
    since = datetime.fromtimestamp(report.since, UTC)
    at = datetime.fromtimestamp(now, UTC)
    return notice(report.kind, name, since.isoformat(), report.message, since=since, now=at)


class Disk:
    """The disk that the store is on."""

    def __init__(self, place: Place, look: Callable[[Any], Space | None] = space) -> None:
        """`look`: the space there; None if the disk is not seen from here: then there is never a notice."""
        self._path = place
        self._look = look
        self.low = False
        """Whether a nearly full disk was reported, by this daemon or an earlier one."""

    def notice(self, now: float) -> Event | None:
        """The notice if the disk became nearly full, or recovered, since the last look; else None."""
        found = self._look(self._path)
        if found is None:
            return None
        free, total = found
        little = min(LOW_BYTES, total * LOW_SHARE)
        if self.low and free >= little * CLEAR_FACTOR:
            self.low = False
            return _own(
                "roundsman.disk.recovered",
                "disk",
                f"The disk of {self._path} has {_mib(free)} free again.",
                now,
            )
        if not self.low and free < little:
            self.low = True
            message = (
                f"The disk of {self._path} has only {_mib(free)} free. If it fills up, nothing can be stored, and "
                "sources are not visited. Free space on it, or move the store to a larger disk."
            )
            return _own("roundsman.disk.low", "disk", message, now, free=free, total=total)
        return None


def sink_failing(sink: str, since: float, lasted: float, error: str, now: float) -> Event | None:
    """The notice about a sink that has failed for `lasted` seconds; None if that is below `SINK_PATIENCE`."""
    if lasted < SINK_PATIENCE:
        return None
    message = (
        f"No event could be delivered to {sink} for {spell(lasted)}: {error}. The events are kept, and delivery is "
        f"retried. Check the receiver of {sink}, and its options."
    )
    return _own("roundsman.sink.failing", sink, message, now, since=since, error=error)


async def sink_recovered(
    sink: str,
    since: float,
    lasted: float,
    now: float,
    known: Callable[[Sequence[str]], Awaitable[set[str]]],
) -> Event | None:
    """The notice about a sink that works again; None if its failure was not reported."""
    failing = sink_failing(sink, since, max(lasted, SINK_PATIENCE), "", now)
    if failing is None or not await known([failing.id]):
        return None
    message = (
        f"{sink} accepts events again, after {spell(lasted)}. The events that waited are delivered to it."
    )
    return _own("roundsman.sink.recovered", sink, message, now, since=since)


def sink_gap(sink: str, missed: int, reached: int, now: float) -> Event | None:
    """The notice about events after `reached` that were pruned before the sink got them; None if none."""
    if not missed:
        return None
    message = (
        f"{counted(missed, 'event')} cannot be delivered to {sink}: their payloads were pruned while {sink} was "
        "not in the configuration. To keep payloads for longer, raise [daemon] retention."
    )
    return _own("roundsman.sink.gap", sink, message, now, which=f"{sink}:{reached}", missed=missed)


def store_damaged(found: str, now: float) -> Event:
    """The notice about a store in which a check found damage."""
    message = f"{found}. Until then, webhooks are refused, so that the vendors send them again."
    return _own("roundsman.store.damaged", "store", message, now, which="store:damaged")


def clock_jumped(seconds: float, now: float) -> Event | None:
    """The notice about a clock that was set; None below `CLOCK_PATIENCE`."""
    if abs(seconds) < CLOCK_PATIENCE:
        return None
    way = "forward" if seconds > 0 else "back"
    message = (
        f"The clock of this machine was set {way} by {spell(abs(seconds))}. Visits keep their intervals. If the clock "
        "is wrong now, correct it: it decides when events are pruned."
    )
    return _own("roundsman.clock.jumped", "clock", message, now, seconds=round(seconds, 1))


def _own(
    kind: str,
    about: str,
    message: str,
    now: float,
    *,
    since: float | None = None,
    which: str | None = None,
    **details: float | str,
) -> Event:
    begun = datetime.fromtimestamp(since or now, UTC)
    return notice(
        kind,
        DAEMON,
        which or f"{about}:{rfc3339(begun)}",
        message,
        since=begun,
        now=datetime.fromtimestamp(now, UTC),
        details=details,
        subject=about,
    )


def _mib(count: int) -> str:
    return f"{count / 2**20:,.0f} MiB"
