"""The status of sources and sinks, as values and as plain lines."""

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from roundsman.masking import safe
from roundsman.screen.health import late_beat
from roundsman.screen.words import plain, stamp
from roundsman.screen.workers import remarks, unheld, workers
from roundsman.store import Filter, Memory, SinkEntry, SourceStatus, View, holder
from roundsman.terminal.events import GAP

REFUSES = 2
"""A sink with so many dead letters since its last delivery is shown as `refusing`: one bad event may come to any sink."""
LONG_REST = 60.0
"""`status` shows a vendor's backoff if more than this many seconds of it are left."""


class Progress(NamedTuple):
    """How far a source has come, by its class."""

    reading: str | None = None
    """Where a reading that spans several polls has come: a time, or words; "" if that is not known. None: none is under way."""
    tracks: bool | None = None
    """Whether it follows jobs by id. None if it does not, or if its class is not known."""


UNKNOWN = Progress()


async def status(
    view: View,
    filters: Mapping[str, Filter] | None = None,
    following: Callable[[str, Memory], Sequence[str]] | None = None,
    configured: tuple[Collection[str], Collection[str]] | None = None,
    gap: Callable[[str, Memory], str | None] | None = None,
    progress: Callable[[str, Memory], Progress] | None = None,
    worker: str | None = None,
) -> dict[str, Any]:
    """All data that `roundsman status` shows.

    `filters` holds each sink's filter, if the configuration could be read. Without it, `waiting` also counts
    events that the sink's filter excludes. `following` returns the ids that a source (type, memory) follows, and
    `gap` the time since which its rows may be missing: "" if none are, None if the state does not show it; then
    `gap_reported` is the time of the newest notice. `progress` returns how far it has come. `configured` holds the names of the configured sources
    and sinks: one that was removed keeps its history, and is neither due nor failing. `worker`: the name of the daemon to
    show, if several share the store.
    """
    sources_now, sinks_now = configured if configured is not None else (None, None)
    counts, unread = await view.counts(), await view.unread_counts()
    shared = await workers(view)
    holders = await view.holders("source") if shared else {}
    unchanged = await view.unchanged_shares(time.time())
    sources = []
    for entry in await view.sources():
        memory = await view.memory(entry.name) if following or gap or progress else Memory({})
        at = progress(entry.type, memory) if progress else UNKNOWN
        missing = gap(entry.type, memory) if gap else None
        # Of another configuration, if a worker visits it.
        retired = sources_now is not None and entry.name not in sources_now and entry.name not in holders
        status, rest = entry.status, entry.status.not_before
        sources.append(
            {
                "name": entry.name,
                "type": entry.type,
                "state": "retired" if retired else "paused" if status.paused else state_of(status, missing),
                "visited": stamp(status.last_visit),
                "answered": stamp(status.last_success),
                "changed": stamp(entry.changed),
                "due": stamp(status.due) if status.due > 0 and not retired and not status.paused else None,
                "visits": status.visits,
                "unchanged_share": round(unchanged[entry.name], 3) if entry.name in unchanged else None,
                "failures": status.failures,
                "error": status.error,
                "events": counts.get(entry.name, 0),
                "following": len(following(entry.type, memory)) if following else 0,
                "webhooks": entry.webhooks,
                "heard": stamp(entry.record.last_webhook),
                "unread": unread.get(entry.name, 0),
                "refused": entry.refused,
                "refusal": entry.refusal,
                "gap": missing or None,
                "gap_reported": stamp(await view.reported(entry.name, GAP)) if missing is None else None,
                "rests_until": stamp(rest) if rest > time.time() + LONG_REST else None,
                "origin": entry.origin,
                "reads": entry.reads,
                "paused": stamp(status.paused),
                "paused_by": entry.paused_by,
                "reading": at.reading,
                "tracks": at.tracks or None,
                "worker": holders.get(entry.name),
            }
        )
    sinks = []
    holders = await view.holders("sink") if shared else {}
    for sink in await view.sinks():
        retired = sinks_now is not None and sink.name not in sinks_now and sink.name not in holders
        found = (filters or {}).get(sink.name, Filter())
        waiting = 0 if retired else await view.lag(sink.cursor, found)
        sinks.append(
            {
                "name": sink.name,
                "type": sink.type,
                "state": "retired" if retired else state_of_sink(sink),
                "cursor": sink.cursor,
                "waiting": waiting,
                "held": sink.held or None,
                "until": stamp(sink.until),
                "delivered": stamp(sink.delivered),
                "failures": sink.failures,
                "error": sink.error,
                "dead": sink.dead,
                "dead_since": stamp(sink.dead_since),
                "paused": stamp(sink.paused),
                "paused_by": sink.paused_by,
                "oldest": stamp(await _oldest(view, sink.cursor, found)) if waiting else None,
                "worker": holders.get(sink.name),
            }
        )
    return {
        "store": str(view.place),
        "daemon": holder(view.place, worker),
        "trouble": await view.full() or await late_beat(view, worker),
        "damage": await view.known_damage(),
        "events": await view.head(),
        "open_failures": await view.open_failures(),
        "sources": sources,
        "sinks": sinks,
        **({"workers": shared} if shared else {}),
    }


async def _oldest(view: View, cursor: int, wanted: Filter) -> float | None:
    """When the first event after `cursor` that matches the filter was logged (Unix); None if there is none."""
    found = await view.events(cursor, await view.head(), 1, wanted)
    return found[0][1] if found else None


def state_of(status: SourceStatus, gap: str | None) -> str:
    """The state of a configured source, in one word."""
    if status.failing_since:
        return "failing"
    if status.failures:
        return "retrying"
    if gap:
        return "gap"
    return "ok" if status.last_success else "idle" if status.last_visit else "new"


def state_of_sink(sink: SinkEntry) -> str:
    """The state of a configured sink, in one word.

    `refusing`: its receiver has refused every event since the last delivery; `waiting`: it holds events on purpose, and
    sends them later.
    """
    if sink.paused:
        return "paused"
    if sink.failing:
        return "failing"
    return "refusing" if sink.refused >= REFUSES else "waiting" if sink.held else "ok"


def status_lines(found: Mapping[str, Any]) -> Iterable[str]:
    """One line per item, `key=value`, for grep."""
    yield f"daemon {found['daemon'] or 'not running'}"
    for key in ("trouble", "damage"):
        if found[key]:
            yield f"store {safe(found[key])}"
    yield f"failures open={found['open_failures']}"
    for remark in remarks(found.get("workers", ())):
        yield f"workers {safe(remark)}"
    for remark in unheld(found):
        yield f"workers {safe(remark)}"
    for kind in ("workers", "sources", "sinks"):
        for row in found.get(kind, ()):
            facts = " ".join(f"{k}={plain(v)}" for k, v in row.items() if k != "name" and v is not None)
            yield safe(f"{kind.removesuffix('s')} {row['name']} {facts}")
