"""The status of sources and sinks, as tables and lines."""

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from roundsman.screen.words import ago, plain, stamp, unix
from roundsman.store import Filter, Reader, holder
from roundsman.store.origins import another_origin
from roundsman.system.logs import safe

LONG_REST = 60.0
"""`status` shows a vendor's backoff if more than this many seconds of it are left."""
RED = {"roundsman.source.failing", "roundsman.source.gap", "roundsman.source.webhook_silent"}


def status(
    reader: Reader,
    filters: Mapping[str, Filter] | None = None,
    following: Callable[[str, str], Sequence[str]] | None = None,
    configured: tuple[Collection[str], Collection[str]] | None = None,
    gap: Callable[[str, str], str | None] | None = None,
) -> dict[str, Any]:
    """All data that `roundsman status` shows.

    `filters` holds each sink's filter, if the configuration could be read. Without it, `waiting` also counts
    events that the sink does not want. `following` returns the ids that a source (name, type) follows, and
    `gap` the time since which its rows may be missing. `configured` holds the names of the configured sources
    and sinks: one that was removed keeps its history, and is neither due nor failing.
    """
    sources_now, sinks_now = configured if configured is not None else (None, None)
    counts, unread = reader.counts(), reader.unread_counts()
    sources = [
        {
            "name": row["name"],
            "type": row["type"],
            "state": "retired"
            if sources_now is not None and row["name"] not in sources_now
            else "failing"
            if row["failing"]
            else "retrying"
            if row["failures"]
            else "gap"
            if gap and gap(row["name"], row["type"])
            else "ok"
            if row["answered"]
            else "idle"
            if row["visited"]
            else "new",
            "visited": stamp(row["visited"]),
            "answered": stamp(row["answered"]),
            "changed": stamp(row["changed"]),
            "due": stamp(row["due"])
            if row["due"] > 0 and (sources_now is None or row["name"] in sources_now)
            else None,
            "visits": row["polls"],
            "failures": row["failures"],
            "error": row["error"],
            "events": counts.get(row["name"], 0),
            "following": len(following(row["name"], row["type"])) if following else 0,
            "webhooks": row["calls"],
            "heard": stamp(row["heard"]),
            "unread": unread.get(row["name"], 0),
            "refused": row["refused"],
            "refusal": row["refusal"],
            "gap": gap(row["name"], row["type"]) if gap else None,
            "rests_until": stamp(row["held"]) if (row["held"] or 0) > time.time() + LONG_REST else None,
            "origin": row["origin"],
            "reads": row["moved"],
        }
        for row in reader.sources()
    ]
    sinks = [
        {
            "name": row["name"],
            "type": row["type"],
            "state": "retired"
            if sinks_now is not None and row["name"] not in sinks_now
            else "failing"
            if row["failing"]
            else "ok",
            "cursor": row["cursor"],
            "waiting": reader.lag(row["cursor"], (filters or {}).get(row["name"], Filter()))
            if sinks_now is None or row["name"] in sinks_now
            else 0,
            "delivered": stamp(row["delivered"]),
            "failures": row["failures"],
            "error": row["error"],
            "dead": row["dead"],
        }
        for row in reader.sinks()
    ]
    running = holder(reader.path)
    return {
        "store": str(reader.path),
        "daemon": running,
        "trouble": reader.full(),
        "events": reader.head(),
        "open_failures": reader.open_failures(),
        "sources": sources,
        "sinks": sinks,
    }


def status_tables(found: Mapping[str, Any]) -> RenderableType:
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
        idle = row["state"] == "retired" or (soon and not found["daemon"])  # no daemon would visit it
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
    troubles = [Text(safe(f"  {found['trouble']}"), style="red")] if found["trouble"] else []
    troubles += [
        Text.from_markup(f"  [red]{escape(safe(row['name']))}: {escape(safe(row['error']))}[/]")
        for row in [*found["sources"], *found["sinks"]]
        if row["error"] and row["state"] != "retired"
    ]
    for row in found["sources"]:
        if row["unread"]:
            what = f"{row['name']}: {row['unread']:,} could not be read, and are kept: roundsman unread {row['name']}"
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


def _remarks(row: Mapping[str, Any]) -> list[str]:
    """Warnings about a source that is not failing: a gap, a long backoff, a changed origin."""
    name, found = row["name"], []
    if row["gap"]:
        found.append(
            f"{name}: gap since {row['gap']}: rows after that may be missing, and are looked for at each sweep"
        )
    if row["rests_until"]:
        found.append(f"{name}: the vendor wants a rest until {row['rests_until']}")
    if row["reads"]:
        found.append(f"{name}: {another_origin(name, row['origin'], row['reads'])}")
    return found


def status_lines(found: Mapping[str, Any]) -> Iterable[str]:
    """One line per item, `key=value`, for grep."""
    yield f"daemon {found['daemon'] or 'not running'}"
    if found["trouble"]:
        yield f"store {safe(found['trouble'])}"
    yield f"failures open={found['open_failures']}"
    for kind in ("sources", "sinks"):
        for row in found[kind]:
            facts = " ".join(f"{k}={plain(v)}" for k, v in row.items() if k != "name" and v is not None)
            yield safe(f"{kind.removesuffix('s')} {row['name']} {facts}")


def _state(state: str) -> str:
    tone = {"ok": "green", "failing": "bold red", "retrying": "yellow", "gap": "yellow"}.get(state, "dim")
    return f"[{tone}]{state}[/]"
