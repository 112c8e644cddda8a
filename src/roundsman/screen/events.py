"""Events and failures as lines for people, and failures as rows for programs."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from roundsman.events import Event
from roundsman.masking import safe
from roundsman.screen.acts import again_of, done_of, ending
from roundsman.screen.words import stamp
from roundsman.summary import without_source
from roundsman.terminal.events import event_line, event_rows
from roundsman.terminal.terminal import Row, Terminal, write

if TYPE_CHECKING:
    from roundsman.store import Act


def show_event(event: Event, console: Terminal | None, first: str | None = None) -> None:
    """Print an event: in columns and colours on a terminal, else (None) as one line. `first`: push, ring or poll."""
    write([event_line(event, first)] if console is None else event_rows(event, console, first))


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


def show_failure(row: Mapping[str, Any], console: Terminal | None) -> None:
    """Print a failure for a person, as `show_event` does."""
    what = without_source(row["summary"], row["source"])
    if console is None:
        when = (row["time"] or row["logged"] or "-")[:19].removesuffix("Z") + "Z"
        cells = f"{row['id']:<6}  {when:<20}  {safe(row['source']):<12}"
        write([f"{cells}  {safe(what + ending(row))}".rstrip()])
        return
    write(console.row("failure", _failure_row(row, console)))


def show_failures(rows: Sequence[Mapping[str, Any]], console: Terminal | None) -> None:
    """Print all of these failures, for a person."""
    if console is not None:
        write(console.rows([_failure_row(row, console) for row in rows]))
        return
    for row in rows:
        show_failure(row, None)


def _failure_row(row: Mapping[str, Any], console: Terminal) -> Row:
    what = without_source(row["summary"], row["source"]) + ending(row, utc=console.utc)
    cells = [f"#{row['id']}", console.moment(row["time"] or row["logged"]), safe(row["source"])]
    return Row(cells, safe(what), "dim" if row["done"] else "red")
