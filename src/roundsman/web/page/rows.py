"""The sources and sinks of the running daemon, as the page lists them: state, what each waits for, last and next."""

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice
from types import MappingProxyType
from typing import NamedTuple

from roundsman.engine.delivery import Delivery
from roundsman.engine.engine import Engine
from roundsman.engine.roster import Watched
from roundsman.options.values import counted
from roundsman.screen.status import LONG_REST, state_of
from roundsman.store import Census, Lag, SourceStatus
from roundsman.web.page.words import lasts, number

TURN = 0.002
"""Seconds after which other tasks may run. It is measured, because the machine may be a slow or a busy one."""
FEW = 16
"""Sources that are looked at between two looks at the clock."""
UNKNOWN = Lag(None, None)
STATES = ("failing", "retrying", "gap", "paused", "new", "idle", "ok")
"""Every state of a source, those first that need a person."""


class SourceRow(NamedTuple):
    """A source now. Times are Unix times."""

    name: str
    type: str
    state: str
    waits: str
    """What it waits for, or what it does."""
    answered: float | None
    visited: float | None
    next: float | None
    """The next visit; None if none is due."""
    interval: float
    failures: int
    error: str | None


class SinkRow(NamedTuple):
    """A sink now."""

    name: str
    type: str
    state: str
    waits: str
    lag: Lag
    """What waits for it."""
    dead: int | None
    """Number of its dead letters."""


class Other(NamedTuple):
    """A source that this worker does not hold."""

    type: str
    state: str


class Listing(NamedTuple):
    """Sources by state."""

    by_state: Mapping[str, Sequence[str]]
    """Their names, in the order of the configuration."""

    @property
    def total(self) -> int:
        return sum(map(len, self.by_state.values()))

    def count(self, state: str) -> int:
        return len(self.by_state.get(state, ()))

    def names(self, offset: int, limit: int) -> list[str]:
        """Those that need a person first."""
        every = chain.from_iterable(self.by_state.get(state, ()) for state in STATES)
        return list(islice(every, offset, offset + limit))


async def listing(
    engine: Engine, words: str = "", state: str = "", others: Mapping[str, Other] = MappingProxyType({})
) -> Listing:
    """The sources whose names or types contain `words`, with this state if one is given. `others`: those that this worker
    does not hold.
    """
    found: dict[str, list[str]] = {}
    folded = words.casefold()
    began = time.perf_counter()
    for at, name in enumerate(list(engine.roster)):
        if at % FEW == 0 and time.perf_counter() - began > TURN:
            await asyncio.sleep(0)
            began = time.perf_counter()
        watched = engine.roster.get(name)  # a reload may have removed it meanwhile
        if watched is None:
            continue
        if folded and folded not in name.casefold() and folded not in _type(watched):
            continue
        now = _state(watched)
        if not state or state == now:
            found.setdefault(now, []).append(name)
    for name, each in others.items():
        matches = not folded or folded in name.casefold() or folded in each.type
        if matches and name not in engine.roster and (not state or state == each.state):
            found.setdefault(each.state, []).append(name)
    return Listing(found)


def source_rows(engine: Engine, names: Sequence[str]) -> dict[str, SourceRow]:
    """Those of these sources that this worker holds."""
    return {name: source_row(engine, name) for name in names if name in engine.roster}


def source_row(engine: Engine, name: str) -> SourceRow:
    watched, now = engine.roster[name], engine.time.now()
    status = watched.status
    following = None if status.paused is not None else status.next_visit
    return SourceRow(
        name,
        _type(watched),
        _state(watched),
        _waits(watched, now),
        status.last_success,
        status.last_visit,
        following,
        watched.interval,
        status.failures,
        status.error if status.failures else None,
    )


def _type(watched: Watched) -> str:
    return watched.source.type


def _state(watched: Watched) -> str:
    """The state of a source, in one word."""
    return (
        "paused"
        if watched.status.paused is not None
        else state_of(watched.status, "gap" if watched.gap else None)
    )


def _waits(watched: Watched, now: float) -> str:
    """What a source does or waits for, in some words."""
    status, backlog = watched.status, watched.backlog
    if backlog is not None:
        return f"reads a backlog: {number(backlog.rows)} rows so far"
    if watched.task is not None:
        return "is polled now"
    if status.paused is not None:
        return "waits until a person resumes it"
    if watched.queued:
        return "waits for other polls of its host"
    return next_visit(status, now)


def next_visit(status: SourceStatus, now: float) -> str:
    """When a source is polled next, and why then."""
    at = max(status.next_visit, status.not_before)
    wait = at - now
    if wait < 1:
        return "polls now"
    if status.not_before > now + LONG_REST:
        return f"polls in {lasts(wait)}: the vendor asked to wait"
    if status.ring_at is not None and status.ring_at <= status.due:
        return f"polls in {lasts(wait)}: a webhook came"
    if status.failures:
        return f"tries again in {lasts(wait)}"
    return f"polls in {lasts(wait)}"


def sink_rows(engine: Engine, census: Census | None) -> Iterator[SinkRow]:
    """Every sink that this worker holds. Without a census, what waits and what is dead is not known."""
    return (sink_row(name, delivery, census) for name, delivery in engine.deliveries.items())


def sink_row(name: str, delivery: Delivery, census: Census | None) -> SinkRow:
    lag = census.lags.get(name, UNKNOWN) if census is not None else UNKNOWN
    state = "paused" if delivery.paused is not None else "failing" if delivery.outage.fails else "ok"
    if state == "ok" and delivery.held:
        state = "waiting"
    dead = census.dead.get(name, 0) if census is not None else None
    return SinkRow(name, delivery.sink.type, state, _sink_waits(delivery, lag), lag, dead)


def _sink_waits(delivery: Delivery, lag: Lag) -> str:
    if delivery.paused is not None:
        return "waits until a person resumes it"
    if delivery.outage.fails:
        return "tries again by itself, at the latest in 5 min"
    if delivery.held:
        return f"holds {counted(delivery.held, 'event')} for the next message"
    return "delivers" if lag.events else "waits for events"
