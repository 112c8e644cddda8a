"""What persons did with failures, as words and lines."""

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from roundsman.masking import safe
from roundsman.screen.words import day, stamp, unix
from roundsman.summary import without_source
from roundsman.terminal.terminal import Row, Terminal

if TYPE_CHECKING:
    from roundsman.store import Act, LoggedAct


def by(act: "Act | None") -> str:
    """` by anna on 3 May: her note`; empty if no act is recorded."""
    return _by(act.who, act.at, act.note) if act else ""


def _by(who: str, at: float, note: str | None = None, *, utc: bool = True) -> str:
    return f" by {who} on {day(at, time.time(), utc=utc)}" + (f": {note}" if note else "")


def ending(row: Mapping[str, Any], *, utc: bool = True) -> str:
    """What stands at the end of a failure's line: who has marked it as done, or an earlier one like it."""
    if row["done"]:
        who, at = row["done_by"], unix(row["done_at"])
        return f"  (done{_by(who, at, row['note'], utc=utc) if who and at else ''})"
    if not (again := row["again"]):
        return ""
    return f"  (again; ticked off{_by(again['by'], unix(again['at']) or 0.0, utc=utc)})"


def done_of(act: "Act | None") -> dict[str, Any]:
    """The members of a failure about the act by which it is done."""
    if act is None or not act.done:
        return {"done_by": None, "done_at": None, "note": None}
    return {"done_by": act.who, "done_at": stamp(act.at), "note": act.note}


def again_of(act: "Act | None") -> dict[str, Any] | None:
    """The member of a failure about an earlier one of the same person and thing."""
    return {"id": act.seq, "by": act.who, "at": stamp(act.at), "note": act.note} if act else None


def act(found: "LoggedAct") -> dict[str, Any]:
    """One row of `roundsman failures log`."""
    act, source, event = found
    return {
        "id": act.seq,
        "at": stamp(act.at),
        "by": act.who,
        "done": act.done,
        "note": act.note,
        "source": source,
        "summary": event.summary if event is not None else None,
    }


def act_line(row: Mapping[str, Any]) -> str:
    """A row of `roundsman failures log` as a plain line."""
    return f"{row['at']}  {row['id']:<6}  {row['source'] or '-':<12}  {act_text(row)}"


def act_row(row: Mapping[str, Any], terminal: Terminal) -> Row:
    """A row of `roundsman failures log` on a terminal."""
    cells = [terminal.moment(row["at"]), f"#{row['id']}", safe(row["source"] or "-")]
    return Row(cells, safe(act_text(row)))


def act_text(row: Mapping[str, Any]) -> str:
    """What was done with a failure, without the time."""
    verb, who = "done" if row["done"] else "opened again", row["by"]
    what = f"{verb} by {who}: {row['note']}" if row["note"] else f"{verb} by {who}"
    text = f"  ({without_source(row['summary'], row['source'])})" if row["summary"] else ""
    return f"{what}{text}"
