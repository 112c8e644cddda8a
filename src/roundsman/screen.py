"""What a person sees: tables on a terminal, plain lines elsewhere."""

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from roundsman.events import Event
from roundsman.memories import another_origin
from roundsman.store import Filter, Reader, holder
from roundsman.system.logs import safe
from roundsman.times import parse_time, rfc3339, spell

COLOURS = {"granted": "green", "succeeded": "green", "denied": "red", "failed": "red", "partial": "yellow"}
LATE = 60.0
LONG_REST = 60.0
"""Seconds that a vendor wants a rest, from which on `status` says so."""
RED = {"roundsman.source.failing", "roundsman.source.gap", "roundsman.source.webhook_silent"}


def stamp(moment: float | None) -> str | None:
    return rfc3339(datetime.fromtimestamp(moment, UTC).replace(microsecond=0)) if moment else None


def ago(moment: float | None, now: float) -> str:
    if not moment:
        return "never"
    return f"in {spell(moment - now)}" if moment > now + 0.5 else f"{spell(round(now - moment))} ago"


def status(
    reader: Reader,
    filters: Mapping[str, Filter] | None = None,
    following: Callable[[str, str], Sequence[str]] | None = None,
    configured: tuple[Collection[str], Collection[str]] | None = None,
    gap: Callable[[str, str], str | None] | None = None,
) -> dict[str, Any]:
    """Everything `status` tells. `filters` by sink, where the configuration could be read: then waiting is exact.

    `following` says what a source (by name and type) follows, `gap` since when something may be missing of it, `configured` which sources and sinks there are: what a name
    remembers is kept when it is taken out, but that is neither due nor does it fail.
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
            "waiting": reader.waiting(row["cursor"], (filters or {}).get(row["name"], Filter()))
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
        times = [ago(_unix(row[key]), now) for key in ("answered", "changed")]
        due = _unix(row["due"])
        soon = due is None or due < now + 0.5
        idle = row["state"] == "retired" or (soon and not found["daemon"])  # who would?
        times.append("-" if idle else "now" if soon or due is None else ago(due, now))
        if hooked:
            times.append(ago(_unix(row["heard"]), now) if row["webhooks"] else "")
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
            ago(_unix(row["delivered"]), now),
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
    """What about a source is neither fine nor a failure."""
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
    """One line each, `key=value`: for grep."""
    yield f"daemon {found['daemon'] or 'not running'}"
    if found["trouble"]:
        yield f"store {safe(found['trouble'])}"
    yield f"failures open={found['open_failures']}"
    for kind in ("sources", "sinks"):
        for row in found[kind]:
            facts = " ".join(f"{k}={_plain(v)}" for k, v in row.items() if k != "name" and v is not None)
            yield safe(f"{kind.removesuffix('s')} {row['name']} {facts}")


FIRST = 4
"""Width of the column that says who had an event first."""
WIDTHS = (20, 12, 22, 9)
"""Columns of time, source, type and outcome; the rest of the line says what it is about."""
NARROW = 100
"""Columns of a terminal under which lines are left to it to break."""


def show_event(event: Event, console: Console, first: str | None = None) -> None:
    """Print an event for a person: in columns and colours on a terminal, else in one line. `first`: who had it first."""
    cells = _event_cells(event)
    widths: Sequence[int] = WIDTHS
    tone = "red" if event.type in RED else COLOURS.get(event.outcome or "")
    if first is not None:
        cells, widths = [cells[0], first, *cells[1:]], (WIDTHS[0], FIRST, *WIDTHS[1:])
    _show(cells, widths, tone, console)


def _event_cells(event: Event) -> list[str]:
    document = event.document()
    return [
        document["time"][:19] + "Z" if "time" in document else "-",
        event.source,
        ".".join(event.type.split(".")[-2:]),
        event.outcome or "-",
        _what(document, document.get("data") or {}),
    ]


def _show(cells: Sequence[str], widths: Sequence[int], tone: str | None, console: Console) -> None:
    cells = [safe(cell) for cell in cells]
    *heads, what = cells
    if console.is_terminal and console.width >= NARROW:
        grid = Table.grid(padding=(0, 2))
        for width in widths:
            grid.add_column(width=width, no_wrap=True, overflow="ellipsis")
        grid.add_column(overflow="fold")
        grid.add_row(*(Text(cell, style=tone or "") for cell in cells))
        console.print(grid, soft_wrap=False)
        return
    line = "  ".join([*(cell.ljust(width) for cell, width in zip(heads, widths, strict=True)), what]).rstrip()
    if console.is_terminal:
        console.print(Text(line, style=tone or ""))
    else:
        print(line, flush=True)  # noqa: T201 - what a person reads, or grep


def _what(document: Mapping[str, Any], data: Mapping[str, Any]) -> str:
    """What an event is about, for a person: by what its data has, whatever its type."""
    if str(document["type"]).startswith("roundsman."):
        return str(data.get("message", ""))
    if "failures_cap" in data:
        total, failed = data.get("total"), data.get("failed")
        counts = f"{failed} of {total} failed" if failed and total is not None else f"{total} done"
        return f"{data.get('batch_id')}: {counts}" if total is not None else str(data.get("batch_id"))
    if "item_id" in data:
        return concerned(data)
    parts = [p for key in ("user", "door", "place") if isinstance(p := data.get(key), dict)]
    named = [str(p.get("name") or p.get("email") or p.get("id")) for p in parts if any(p.values())]
    what = ", ".join(named) or str(data.get("name") or document.get("subject") or document["id"])
    late = _late(data)
    return what + (f" ({late} late)" if late else "")


def concerned(data: Mapping[str, Any]) -> str:
    """Whom and what a failure or a push concerns, and what is wrong."""
    person, about = data.get("person") or {}, data.get("about") or {}
    who = person.get("name") or person.get("email") or person.get("id")
    if person.get("name") and person.get("email"):
        who = f"{person['name']} <{person['email']}>"
    what = about.get("name") or about.get("id")
    item = data.get("item_id")
    named = [str(each) for each in (who, what, item if item not in {who, None} else None) if each]
    where = ", ".join(named) or (f"item {data['index']}" if data.get("index") is not None else "something")
    message, code = data.get("message"), data.get("code")
    if not message and not (code and data.get("status") != "success" and "fields" in data):
        return where
    return f"{where}: {message}" + (f" ({code})" if code else "") if message else f"{where}: {code}"


def failure(event: Event, logged: float, done: bool) -> dict[str, Any]:
    """What `failures` tells of one, whoever reported it."""
    document = event.document()
    data = document.get("data") or {}
    names = (
        "connection",
        "environment",
        "batch_id",
        "item_id",
        "person",
        "about",
        "code",
        "message",
        "fields",
    )
    told = {name: data.get(name) for name in names}
    if "failures_cap" in data:  # a batch of which no more is known
        failed, total = data.get("failed"), data.get("total")
        count = f"{failed} of {total}" if failed and total else "some"
        told["message"] = f"{count} failed; which ones is not known"
    return {
        "id": event.seq,
        "logged": stamp(logged),
        "time": document.get("time"),
        "source": event.source,
        "type": event.type,
        "outcome": event.outcome,
        "done": done,
        **told,
    }


def show_failure(row: Mapping[str, Any], console: Console) -> None:
    """Print a failure for a person, as `show_event` does."""
    what = concerned({**row, "status": None}) if row["item_id"] or row["person"] or row["about"] else None
    if what is None:
        what = f"{row['batch_id'] or ''}: {row['message'] or row['code'] or 'failed'}".lstrip(": ")
    when = (row["time"] or row["logged"] or "-")[:19].removesuffix("Z") + "Z"
    where = row["connection"] or (
        row["batch_id"] if what and not what.startswith(str(row["batch_id"])) else None
    )
    what += f"  [{where}]" if where else ""
    what += "  (done)" if row["done"] else ""
    _show([str(row["id"]), when, row["source"], what], (6, 20, 12), "dim" if row["done"] else "red", console)


def _late(data: Mapping[str, Any]) -> str:
    """How long a log took to reach the vendor, where that is remarkable: the lock was offline."""
    occurred, recorded = parse_time(data.get("occurred_at")), parse_time(data.get("recorded_at"))
    took = (recorded - occurred).total_seconds() if occurred and recorded else 0.0
    return spell(took) if took >= LATE else ""


def console() -> Console:
    return Console(highlight=False, soft_wrap=True)


def _state(state: str) -> str:
    tone = {"ok": "green", "failing": "bold red", "retrying": "yellow", "gap": "yellow"}.get(state, "dim")
    return f"[{tone}]{state}[/]"


def _unix(text: str | None) -> float | None:
    return datetime.fromisoformat(text).timestamp() if text else None


def _plain(value: object) -> str:
    text = str(value)
    return f'"{text}"' if " " in text else text
