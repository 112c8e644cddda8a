"""Events and failures as lines that fit the terminal."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from roundsman.events import Event
from roundsman.screen.status import RED
from roundsman.screen.words import stamp
from roundsman.system.logs import safe
from roundsman.times import parse_time, spell

if TYPE_CHECKING:
    from rich.console import Console

COLOURS = {"granted": "green", "succeeded": "green", "denied": "red", "failed": "red", "partial": "yellow"}
LATE = 60.0


FIRST = 4
"""Width of the column that shows what brought an event first: push, ring or poll."""
WIDTHS = (20, 12, 22, 9)
"""Widths of the time, source, type and outcome columns. The rest of the line describes the event."""
NARROW = 100
"""A terminal with fewer columns gets plain lines, which it wraps itself."""


def show_event(event: Event, console: "Console | None", first: str | None = None) -> None:
    """Print an event: in columns and colours on a terminal, else (None) as one line. `first`: push, ring or poll."""
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


def _show(cells: Sequence[str], widths: Sequence[int], tone: str | None, console: "Console | None") -> None:
    cells = [safe(cell) for cell in cells]
    *heads, what = cells
    if console is not None and console.width >= NARROW:
        from rich.table import Table
        from rich.text import Text

        grid = Table.grid(padding=(0, 2))
        for width in widths:
            grid.add_column(width=width, no_wrap=True, overflow="ellipsis")
        grid.add_column(overflow="fold")
        grid.add_row(*(Text(cell, style=tone or "") for cell in cells))
        console.print(grid, soft_wrap=False)
        return
    line = "  ".join([*(cell.ljust(width) for cell, width in zip(heads, widths, strict=True)), what]).rstrip()
    if console is not None:
        from rich.text import Text

        console.print(Text(line, style=tone or ""))
    else:
        print(line, flush=True)  # noqa: T201 - output for a person or grep


def _what(document: Mapping[str, Any], data: Mapping[str, Any]) -> str:
    """What an event is about, for a person. Except for notices, it depends on the data, not on the type."""
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
    """The person and the item that a failure or a push concerns, and the error."""
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
    """One row of `roundsman failures`, with the same fields for every vendor."""
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
    facts = {name: data.get(name) for name in names}
    if "failures_cap" in data:  # a batch whose failed items are not known
        failed, total = data.get("failed"), data.get("total")
        count = f"{failed} of {total}" if failed and total else "some"
        facts["message"] = f"{count} failed; the failed items are not known"
    return {
        "id": event.seq,
        "logged": stamp(logged),
        "time": document.get("time"),
        "source": event.source,
        "type": event.type,
        "outcome": event.outcome,
        "done": done,
        **facts,
    }


def show_failure(row: Mapping[str, Any], console: "Console | None") -> None:
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
    """How long a log took to reach the vendor, if LATE seconds or more (the lock was offline); else empty."""
    occurred, recorded = parse_time(data.get("occurred_at")), parse_time(data.get("recorded_at"))
    took = (recorded - occurred).total_seconds() if occurred and recorded else 0.0
    return spell(took) if took >= LATE else ""
