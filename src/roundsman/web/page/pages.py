"""What each page shows, as values: from the running daemon and from the store, and never more than fits a page."""

import socket
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from roundsman import shapes
from roundsman.engine.engine import Engine
from roundsman.errors import Unreadable
from roundsman.events import Event
from roundsman.plugin import Source
from roundsman.screen.words import unix
from roundsman.screen.workers import workers
from roundsman.store import Act, DeadLetter, Filter, Kind, LoggedAct, Searched, SinkEntry, SourceEntry, View
from roundsman.store.tally import SPANS
from roundsman.summary import without_source
from roundsman.web.page import charted
from roundsman.web.page.words import short

NEWEST = 12
"""Events on a page about something else."""
OPEN = 5
"""Open failures there."""
LISTED = 50
"""Rows of a page that lists."""
FORMS = 20
"""Acts of persons below the open failures."""
EVERYTHING = (0, 2**62)
"""The span of the whole log."""
OUTCOMES = tuple(shapes.OUTCOMES)
"""Outcomes to choose from."""


class Line(NamedTuple):
    """An event in one line."""

    seq: int
    at: float
    """When it was logged (Unix)."""
    source: str
    type: str
    outcome: str
    what: str
    alarming: bool
    """Whether a person must know: a failure, or a notice that something fails."""


class FailureRow(NamedTuple):
    """A failure that is not marked as done."""

    line: Line
    again: Act | None
    """The act on an earlier failure of the same person and thing."""


class ActRow(NamedTuple):
    """What a person did with a failure."""

    act: Act
    source: str
    what: str
    """Empty if the failure was pruned."""
    can_undo: bool


ALARMING = frozenset({"failing", "gap", "webhook_silent", "damaged", "low", "stalled", "gone", "jumped"})
"""Ends of the types of notices that a person must know."""


def line(event: Event, logged: float) -> Line:
    """An event as the page lists it; also one of a damaged store."""
    try:
        what = without_source(event.line, event.source)
    except (Unreadable, AttributeError):
        what = f"{event.id}: the store is damaged: the event cannot be read"
    notice = event.type.startswith("roundsman.")
    alarming = event.type.rpartition(".")[2] in ALARMING if notice else event.outcome in {"failed", "partial"}
    return Line(event.seq, logged, event.source, event.type, event.outcome or "", what, alarming)


class Shared(NamedTuple):
    """What every page shows."""

    now: float
    host: str
    started: float | None
    open_failures: int
    trouble: str | None
    """What is wrong with the store."""
    acted: Act | None
    """The act that the person has just made, by which a failure was marked as done or opened again."""


async def shared(view: View, engine: Engine, acted: int | None) -> Shared:
    """`acted`: the number of the failure that was just changed."""
    daemon = await view.daemon(engine.fleet.name if engine.fleet is not None else None)
    trouble = engine.trouble.error or await view.full() or await view.known_damage()
    acts = await view.last_acts([acted]) if acted is not None else {}
    count = await view.open_failures()
    made = acts.get(acted) if acted is not None else None
    return Shared(engine.time.now(), socket.gethostname(), daemon.started, count, trouble, made)


async def open_failures(
    view: View, wanted: Filter, before: int | None, limit: int
) -> tuple[int, list[FailureRow]]:
    """How many failures are open, and the newest before this number."""
    span = (0, before - 1 if before is not None else EVERYTHING[1])
    found = await view.still_open(wanted, span, limit)
    again = await view.again([each.event for each in found.newest])
    rows = [FailureRow(line(each.event, each.logged), again.get(each.event.seq)) for each in found.newest]
    return found.total, rows


async def acts(view: View, limit: int = FORMS) -> list[ActRow]:
    """What persons did with failures, the newest first."""
    found = await view.acts(limit=limit)
    newest: dict[int, int] = {}
    for at, each in enumerate(found):
        newest.setdefault(each.act.seq, at)
    return [_act_row(each, is_last=newest[each.act.seq] == at) for at, each in enumerate(found)]


def _act_row(found: LoggedAct, *, is_last: bool) -> ActRow:
    act, source, event = found
    what = line(event, act.at).what if event is not None else ""
    return ActRow(act, source or "-", what, act.done and is_last and event is not None)


class Lines(NamedTuple):
    """Events of the log, and how far it was looked through for them."""

    events: Sequence[Line]
    """The newest first."""
    reached: int
    """As `Searched.reached`."""


async def newest(view: View, wanted: Filter, limit: int = NEWEST) -> Lines:
    """The newest events that match."""
    return lines(await view.search(wanted, "", EVERYTHING, limit))


def lines(found: Searched) -> Lines:
    return Lines([line(event, logged) for event, logged in found.events], found.reached)


async def stored(view: View, names: Sequence[str]) -> dict[str, SourceEntry]:
    """What the store has about these sources, by name."""
    return {entry.name: entry for entry in await view.sources(names)}


async def follows(view: View, source: Source) -> int:
    """How many ids a source follows."""
    memory = await view.memory(source.name)
    try:
        return len(source.following(memory.state)) + len(memory.ids)
    except ValueError:  # a later version's state
        return len(memory.ids)


async def dead_letters(view: View, sink: str) -> list[DeadLetter]:
    """The oldest dead letters of a sink."""
    return await view.dead(sink, LISTED)


class Whole(NamedTuple):
    """One event with everything about it."""

    event: Event
    line: Line
    document: Mapping[str, Any]
    """Its members, without its data."""
    data: Any
    via: str
    """What brought it first."""
    acts: Sequence[LoggedAct]
    is_open: bool
    """Whether it is a failure that is not marked as done."""
    again: Act | None


VIA = {"push": "a webhook with its content", "ring": "a poll that a webhook triggered"}


async def whole(view: View, seq: int) -> Whole | None:
    """The event with this number; None if there is none, or only its id was kept."""
    found = await view.events(seq - 1, seq, 1, Filter())
    if not found:
        return None
    event, logged = found[0]
    try:
        document = event.document()
    except Unreadable:
        document = {}
    document = document if isinstance(document, dict) else {}
    data = document.pop("data", None)
    brought = (await view.via([seq])).get(seq)
    is_open = (await view.still_open(Filter(), (seq - 1, seq), 1)).total > 0
    again = (await view.again([event])).get(seq) if is_open else None
    return Whole(
        event,
        line(event, logged),
        document,
        data,
        VIA.get(brought or "", "a poll"),
        await view.acts(seq=seq, limit=FORMS),
        is_open,
        again,
    )


async def all_workers(view: View) -> list[dict[str, Any]]:
    """The workers that share the store. Times are Unix times."""
    times = ("since", "beat")
    return [{**each, **{key: unix(each[key]) for key in times}} for each in await workers(view)]


async def sink_entry(view: View, name: str) -> SinkEntry | None:
    """What the store has about a sink."""
    return next((entry for entry in await view.sinks() if entry.name == name), None)


def kinds() -> list[str]:
    """Types of events to choose from, without the vendor."""
    from roundsman.kinds import KINDS

    return sorted({short(kind) for kind in KINDS})


async def source_charts(view: View, name: str, now: float) -> Sequence[charted.Group]:
    """What was counted of a source."""
    return charted.of_source(await _counted(view, "source", name, now), now)


async def sink_charts(view: View, name: str, now: float) -> Sequence[charted.Group]:
    """What was counted of a sink."""
    return charted.of_sink(await _counted(view, "sink", name, now), now)


async def _counted(view: View, kind: Kind, name: str, now: float) -> charted.Counted:
    hours, days = [await view.tallies(kind, name, span, now) for span in SPANS]
    return charted.Counted(name, hours, days)
