"""The sources and sinks that other workers hold, or none, as the page lists them: from the store."""

from collections.abc import Iterable, Mapping, Sequence

from roundsman.engine.roster import Configured
from roundsman.options.values import counted
from roundsman.plugin import Source
from roundsman.screen.status import REFUSES, state_of, state_of_sink
from roundsman.store import Census, SinkEntry, SourceEntry, View
from roundsman.web.page.rows import UNKNOWN, Other, SinkRow, SourceRow, next_visit

LOOKED_AT = 1000
"""Sources whose states are read, to find out whether rows may be missing: of more, only what is stored beside them counts."""
NO_HOLDER = "waits for a worker that takes it over"
ORDER = ("failing", "refusing", "paused")
"""The states of sinks that are shown first."""


async def others(view: View, configured: Mapping[str, Configured]) -> dict[str, Other]:
    """Each of these sources, by name."""
    found = {}
    for entry in await view.sources(list(configured)):
        source = configured[entry.name].source
        gap = len(configured) <= LOOKED_AT and await _has_gap(view, source)
        found[entry.name] = Other(source.type, _state(entry, gap=gap))
    return found


async def source_rows(
    view: View,
    configured: Mapping[str, Configured],
    stored: Mapping[str, SourceEntry],
    holders: Mapping[str, str],
    now: float,
) -> dict[str, SourceRow]:
    """These sources, by name, at `now` (Unix)."""
    found = {}
    for name, each in configured.items():
        entry, source = stored.get(name), each.source
        if entry is None:  # it was added a moment ago
            found[name] = SourceRow(
                name, source.type, "new", NO_HOLDER, None, None, None, source.interval, 0, None
            )
            continue
        status = entry.status
        paused = status.paused is not None
        waits = "waits until a person resumes it" if paused else next_visit(status, now)
        found[name] = SourceRow(
            name,
            source.type,
            _state(entry, gap=await _has_gap(view, source)),
            waits if paused or name in holders else NO_HOLDER,
            status.last_success,
            status.last_visit,
            None if paused else status.next_visit,
            source.interval,
            status.failures,
            status.error if status.failures else None,
        )
    return found


def _state(entry: SourceEntry, *, gap: bool) -> str:
    return "paused" if entry.status.paused is not None else state_of(entry.status, "gap" if gap else None)


async def _has_gap(view: View, source: Source) -> bool:
    memory = await view.memory(source.name)
    try:
        return bool(source.gap(memory.state))
    except ValueError:  # a later version's state
        return False


def sink_rows(
    own: Iterable[SinkRow],
    types: Mapping[str, str],
    stored: Mapping[str, SinkEntry],
    holders: Mapping[str, str],
    census: Census | None,
) -> list[SinkRow]:
    """Every sink, those first that need a person. `own`: those that this worker holds; `types`: of all, by name."""
    found = {row.name: row for row in own}
    for name, kind in types.items():
        entry = stored.get(name)
        if name not in found:
            found[name] = _sink_row(name, kind, entry, holders, census)
        elif entry is not None and entry.refused >= REFUSES and found[name].state in {"ok", "waiting"}:
            found[name] = found[name]._replace(state="refusing")
    return sorted(
        found.values(), key=lambda row: ORDER.index(row.state) if row.state in ORDER else len(ORDER)
    )


def _sink_row(
    name: str, kind: str, entry: SinkEntry | None, holders: Mapping[str, str], census: Census | None
) -> SinkRow:
    lag = census.lags.get(name, UNKNOWN) if census is not None else UNKNOWN
    state = state_of_sink(entry) if entry is not None else "ok"
    if state == "paused":
        waits = "waits until a person resumes it"
    elif name not in holders:
        waits = NO_HOLDER
    elif state == "failing":
        waits = "tries again by itself, at the latest in 5 min"
    elif entry is not None and entry.held:
        waits = f"holds {counted(entry.held, 'event')} for the next message"
    else:
        waits = "delivers" if lag.events else "waits for events"
    dead = census.dead.get(name, 0) if census is not None else None
    return SinkRow(name, kind, state, waits, lag, dead)


def in_order(names: Sequence[str], *rows: Mapping[str, SourceRow]) -> list[SourceRow]:
    """The rows of these sources, in this order, without those that are not configured any more."""
    known = {name: row for each in rows for name, row in each.items()}
    return [known[name] for name in names if name in known]
