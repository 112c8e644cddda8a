"""Events and failures as lines that fit the terminal."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from roundsman.events import Event
from roundsman.masking import safe
from roundsman.screen.acts import again_of, done_of, ending
from roundsman.screen.status import RED
from roundsman.screen.words import stamp
from roundsman.summary import without_source

if TYPE_CHECKING:
    from rich.console import Console

    from roundsman.store import Act

COLOURS = {"granted": "green", "succeeded": "green", "denied": "red", "failed": "red", "partial": "yellow"}

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
        without_source(event.line, event.source),
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


def failure(
    event: Event, logged: float, done: bool, act: "Act | None" = None, again: "Act | None" = None
) -> dict[str, Any]:
    """One row of `roundsman failures`, with the same fields for every vendor. `act`: by which it is done. `again`: on an
    earlier failure of the same person and thing.
    """
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
        **done_of(act),
        "again": again_of(again),
        "summary": event.summary,
        **facts,
    }


def show_failure(row: Mapping[str, Any], console: "Console | None") -> None:
    """Print a failure for a person, as `show_event` does."""
    when = (row["time"] or row["logged"] or "-")[:19].removesuffix("Z") + "Z"
    what = without_source(row["summary"], row["source"])
    what += ending(row)
    _show([str(row["id"]), when, row["source"], what], (6, 20, 12), "dim" if row["done"] else "red", console)
