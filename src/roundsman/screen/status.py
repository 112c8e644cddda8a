"""The status of sources and sinks, as tables and lines."""

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from roundsman.masking import safe
from roundsman.screen.health import late_beat
from roundsman.screen.words import ago, plain, stamp, unix
from roundsman.store import Filter, Memory, SinkEntry, SourceStatus, View, holder
from roundsman.store.origins import another_origin

if TYPE_CHECKING:
    from rich.console import RenderableType

LONG_REST = 60.0
"""`status` shows a vendor's backoff if more than this many seconds of it are left."""
GAP = "roundsman.source.gap"
RED = {"roundsman.source.failing", GAP, "roundsman.source.webhook_silent"}


async def status(
    view: View,
    filters: Mapping[str, Filter] | None = None,
    following: Callable[[str, Memory], Sequence[str]] | None = None,
    configured: tuple[Collection[str], Collection[str]] | None = None,
    gap: Callable[[str, Memory], str | None] | None = None,
) -> dict[str, Any]:
    """All data that `roundsman status` shows.

    `filters` holds each sink's filter, if the configuration could be read. Without it, `waiting` also counts
    events that the sink's filter excludes. `following` returns the ids that a source (type, memory) follows, and
    `gap` the time since which its rows may be missing: "" if none are, None if the state does not show it; then
    `gap_reported` is the time of the newest notice. `configured` holds the names of the configured sources
    and sinks: one that was removed keeps its history, and is neither due nor failing.
    """
    sources_now, sinks_now = configured if configured is not None else (None, None)
    counts, unread = await view.counts(), await view.unread_counts()
    unchanged = await view.unchanged_shares(time.time())
    sources = []
    for entry in await view.sources():
        memory = await view.memory(entry.name) if following or gap else Memory({})
        missing = gap(entry.type, memory) if gap else None
        retired = sources_now is not None and entry.name not in sources_now
        status, rest = entry.status, entry.status.not_before
        sources.append(
            {
                "name": entry.name,
                "type": entry.type,
                "state": "retired" if retired else "paused" if status.paused else _state_of(status, missing),
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
            }
        )
    sinks = []
    for sink in await view.sinks():
        retired = sinks_now is not None and sink.name not in sinks_now
        found = (filters or {}).get(sink.name, Filter())
        sinks.append(
            {
                "name": sink.name,
                "type": sink.type,
                "state": _state_of_sink(sink, retired),
                "cursor": sink.cursor,
                "waiting": 0 if retired else await view.lag(sink.cursor, found),
                "held": sink.held or None,
                "until": stamp(sink.until),
                "delivered": stamp(sink.delivered),
                "failures": sink.failures,
                "error": sink.error,
                "dead": sink.dead,
                "paused": stamp(sink.paused),
                "paused_by": sink.paused_by,
            }
        )
    return {
        "store": str(view.path),
        "daemon": holder(view.path),
        "trouble": await view.full() or await late_beat(view),
        "damage": await view.known_damage(),
        "events": await view.head(),
        "open_failures": await view.open_failures(),
        "sources": sources,
        "sinks": sinks,
    }


def _state_of(status: SourceStatus, gap: str | None) -> str:
    """The state of a configured source, in one word."""
    if status.failing_since:
        return "failing"
    if status.failures:
        return "retrying"
    if gap:
        return "gap"
    return "ok" if status.last_success else "idle" if status.last_visit else "new"


def _state_of_sink(sink: SinkEntry, retired: bool) -> str:
    """The state of a sink, in one word; `waiting`: it holds events on purpose, and sends them later."""
    if retired:
        return "retired"
    if sink.paused:
        return "paused"
    return "failing" if sink.failing else "waiting" if sink.held else "ok"


def status_tables(found: Mapping[str, Any]) -> "RenderableType":
    from rich.console import Group
    from rich.markup import escape
    from rich.table import Table
    from rich.text import Text

    now = time.time()
    sources = Table(box=None, padding=(0, 1))
    sources.add_column(
        "source", no_wrap=True, min_width=min(24, max((len(r["name"]) for r in found["sources"]), default=0))
    )
    hooked = any(row["webhooks"] or row["refused"] for row in found["sources"])
    for head in ("state", "answered", "changed", "next", *(["webhook"] if hooked else [])):
        sources.add_column(head, no_wrap=True)
    for head in ("errors", "follows", "events"):
        sources.add_column(head, justify="right", no_wrap=True)
    for row in found["sources"]:
        times = [ago(unix(row[key]), now) for key in ("answered", "changed")]
        due = unix(row["due"])
        soon = due is None or due < now + 0.5
        idle = row["state"] in {"retired", "paused"} or (
            soon and not found["daemon"]
        )  # no daemon would visit it
        times.append("-" if idle else "now" if soon or due is None else ago(due, now))
        if hooked:
            times.append(ago(unix(row["heard"]), now) if row["webhooks"] else "")
        sources.add_row(
            escape(safe(row["name"])),
            _state(row["state"]),
            *times,
            str(row["failures"] or ""),
            str(row["following"] or ""),
            f"{row['events']:,}",
        )
    sinks = Table("sink", "state", "last delivery", "waiting", "buried", box=None, padding=(0, 1))
    for row in found["sinks"]:
        dead = f"[red]{row['dead']}[/]" if row["dead"] else "0"
        sinks.add_row(
            escape(safe(row["name"])),
            _state(row["state"]),
            ago(unix(row["delivered"]), now),
            f"{row['waiting']:,}",
            dead,
        )
    troubles = [Text(safe(f"  {found[key]}"), style="red") for key in ("trouble", "damage") if found[key]]
    troubles += [
        Text.from_markup(f"  [red]{escape(safe(row['name']))}: {escape(safe(row['error']))}[/]")
        for row in [*found["sources"], *found["sinks"]]
        if row["error"] and row["state"] not in {"retired", "paused"}
    ]
    troubles += [
        Text(safe(f"  {row['name']}: {row['held']:,} gathered, {_when_sent(row)}"), style="dim")
        for row in found["sinks"]
        if row["held"] and row["state"] != "retired"
    ]
    troubles += [Text(safe(f"  {line}"), style="yellow") for line in _paused(found)]
    for row in found["sources"]:
        if row["unread"]:
            what = f"{row['name']}: {row['unread']:,} could not be read and are kept: roundsman unread {row['name']}"
            troubles.append(Text(safe(f"  {what}"), style="yellow"))
        if row["state"] != "retired":
            troubles += [Text(safe(f"  {line}"), style="yellow") for line in _remarks(row)]
        if row["refused"]:
            noun = "webhook was" if row["refused"] == 1 else "webhooks were"
            what = f"{row['name']}: {row['refused']:,} {noun} refused, the last one: {row['refusal']}"
            troubles.append(Text(safe(f"  {what}"), style="dim"))
    running = Text(f"  {found['daemon']}" if found["daemon"] else "  no daemon is running", style="dim")
    count = found["open_failures"]
    if count:
        noun = "failure is" if count == 1 else "failures are"
        troubles.append(Text.from_markup(f"  [yellow]{count:,} {noun} open: roundsman failures[/]"))
    return Group(running, Text(), sources, Text(), sinks, *([Text(), *troubles] if troubles else []))


def _when_sent(row: Mapping[str, Any]) -> str:
    return {
        "failing": "sent once it works again",
        "paused": "sent after the pause",
    }.get(row["state"], f"sent at {row['until']}")


def _paused(found: Mapping[str, Any]) -> Iterable[str]:
    """A line for each source and sink that is paused, also one that is not in the configuration now."""
    both = {row["name"] for row in found["sources"]} & {row["name"] for row in found["sinks"]}
    for kind in ("source", "sink"):
        for row in found[f"{kind}s"]:
            if row["paused"]:
                option = f" --{kind}" if row["name"] in both else ""
                name, who = row["name"], row["paused_by"]
                yield f"{name}: paused by {who} since {row['paused']}: roundsman resume {name}{option}"


def _remarks(row: Mapping[str, Any]) -> list[str]:
    """Warnings about a source that is not failing: a gap, a long backoff, a changed origin."""
    name, found = row["name"], []
    shows = f"roundsman events --source {name} --type {GAP}"
    if row["gap"]:
        found.append(f"{name}: gap since {row['gap']}: rows may be missing; details: {shows}")
    elif row["gap_reported"]:
        found.append(f"{name}: a gap was reported at {row['gap_reported']}; details: {shows}")
    if row["rests_until"]:
        found.append(f"{name}: the vendor asked for no request until {row['rests_until']}")
    if row["reads"]:
        found.append(f"{name}: {another_origin(name, row['origin'], row['reads'])}")
    return found


def status_lines(found: Mapping[str, Any]) -> Iterable[str]:
    """One line per item, `key=value`, for grep."""
    yield f"daemon {found['daemon'] or 'not running'}"
    for key in ("trouble", "damage"):
        if found[key]:
            yield f"store {safe(found[key])}"
    yield f"failures open={found['open_failures']}"
    for kind in ("sources", "sinks"):
        for row in found[kind]:
            facts = " ".join(f"{k}={plain(v)}" for k, v in row.items() if k != "name" and v is not None)
            yield safe(f"{kind.removesuffix('s')} {row['name']} {facts}")


def _state(state: str) -> str:
    tone = {
        "ok": "green",
        "failing": "bold red",
        "retrying": "yellow",
        "gap": "yellow",
        "paused": "yellow",
    }.get(state, "dim")
    return f"[{tone}]{state}[/]"
