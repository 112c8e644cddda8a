"""One event whole: all that the log knows of it, what persons did with it, and which sinks have it."""

import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from roundsman.events import Event
from roundsman.masking import mask, safe
from roundsman.screen.acts import act, act_text, again_of, ending
from roundsman.screen.words import stamp
from roundsman.store import Filter, SinkEntry, View
from roundsman.summary import without_source
from roundsman.terminal.columns import paragraph, row, wrapped
from roundsman.terminal.events import tone_of
from roundsman.terminal.terminal import Terminal

BEFORE = 1000
"""Events before this one that a sink gets first are counted up to this number."""
FAILED = {"failed", "partial"}
NAMES = 7
"""Columns for the name of a fact."""
WIDE = 1_000_000
"""Columns of a line that is not wrapped."""


async def whole(
    view: View,
    seq: int,
    filters: Mapping[str, Filter],
    configured: Collection[str] | None = None,
) -> dict[str, Any] | None:
    """The event with this number; None if the log has no payload of it. `filters`: of each sink; `configured`: the sinks
    that the configuration has.
    """
    found = await view.events(seq - 1, seq, 1, Filter())
    if not found:
        return None
    event, logged = found[0]
    if configured is not None:  # a sink that only another worker's configuration has is held by that worker
        configured = {*configured, *await view.holders("sink")}
    return {
        "seq": event.seq,
        "logged": stamp(logged),
        "via": (await view.via([seq])).get(seq) or "poll",
        "failure": await _failure(view, event, logged),
        "sinks": [
            await _delivery(view, event, sink, filters.get(sink.name, Filter()), configured)
            for sink in await view.sinks()
        ],
        "event": event.document(),
    }


async def _failure(view: View, event: Event, logged: float) -> dict[str, Any] | None:
    """What persons did with the event, newest first; None if it is no failure."""
    acts = [act(each) for each in await view.acts((), event.seq)]
    if (await view.still_open(Filter(), (event.seq - 1, event.seq), 1)).total:
        again = await view.again([event])
        return {"done": False, "again": again_of(again.get(event.seq)), "acts": acts}
    if not acts:  # versions before 0.10 did not record who marked a failure as done
        found = await view.failures((event.source,), logged, done=True) if event.outcome in FAILED else []
        if event.seq not in {each.event.seq for each in found}:
            return None
    return {"done": True, "again": None, "acts": acts}


async def _delivery(
    view: View, event: Event, sink: SinkEntry, wanted: Filter, configured: Collection[str] | None
) -> dict[str, Any]:
    """Whether a sink has the event. The log knows cursors only: a sink that began after it counts as having it."""
    buried = [each for each in await view.dead(sink.name) if each.seq == event.seq]
    selected = bool(await view.events(event.seq - 1, event.seq, 1, wanted))
    state, why, before = "delivered", None, 0
    if buried:
        state, why = ("retrying" if buried[0].retry else "dead"), buried[0].reason
    elif not selected:
        state = "filtered"
    elif sink.cursor < event.seq:
        retired = configured is not None and sink.name not in configured
        state, why = ("retired" if retired else "waiting"), sink.error
        before = len(await view.events(sink.cursor, event.seq - 1, BEFORE, wanted))
    elif sink.held and len(await view.events(event.seq - 1, sink.cursor, sink.held + 1, wanted)) <= sink.held:
        state = "held"
    return {
        "name": sink.name,
        "state": state,
        "reason": why,
        "before": before,
        "paused": stamp(sink.paused),
        "until": stamp(sink.until) if state == "held" else None,
    }


def whole_lines(found: Mapping[str, Any], event: Event, terminal: Terminal | None) -> list[str]:
    """The event for a person; without a terminal, in lines that are not wrapped, with times in UTC."""
    columns = terminal.columns if terminal is not None else WIDE
    head = paragraph(safe(f"#{event.seq}  {without_source(event.line, event.source)}"), columns, 0)
    if terminal is not None:
        head = [terminal.paint(line, tone_of(event)) for line in head]
    lines, before = [*head, ""], ""
    for name, value in _facts(found, event, terminal):
        lines += row([f"  {'' if name == before else name:<{NAMES}}"], safe(value), columns)
        before = name
    return [*lines, "", *_data(found["event"].get("data"), columns)]


def _facts(found: Mapping[str, Any], event: Event, terminal: Terminal | None) -> Iterator[tuple[str, str]]:
    document = found["event"]
    yield "source", event.source
    yield "type", event.type
    if event.outcome:
        yield "outcome", event.outcome
    for name in ("subject", "id"):
        if document.get(name):
            yield name, str(document[name])
    if document.get("time"):
        yield "time", _time(str(document["time"]), terminal)
    how = {"push": "a webhook brought it", "ring": "a visit after a webhook found it"}
    yield "logged", f"{_time(found['logged'], terminal)}; {how.get(found['via'], 'a poll found it')}"
    if failure := found["failure"]:
        yield "failure", _state_of(failure, event.seq, utc=terminal is None or terminal.utc)
        for each in failure["acts"]:
            yield "failure", f"{_time(each['at'], terminal)}  {act_text(each)}"
    for sink in found["sinks"]:
        yield "sinks", f"{sink['name']}: {mask(_has(sink, terminal))}"


def _time(text: str, terminal: Terminal | None) -> str:
    return text if terminal is None else terminal.moment(text)


def _state_of(failure: Mapping[str, Any], seq: int, *, utc: bool) -> str:
    if failure["done"]:
        return f"done; to open it again: roundsman failures undo {seq}"
    again = ending({"done": False, "again": failure["again"]}, utc=utc)
    return f"open; to mark it as done: roundsman failures done {seq}{again}"


def _has(sink: Mapping[str, Any], terminal: Terminal | None) -> str:
    """What a sink has of the event, in words."""
    why = f": {sink['reason']}" if sink["reason"] else ""
    match sink["state"]:
        case "dead":
            return f"refused for good{why}"
        case "retrying":
            return f"refused, and will be retried{why}"
        case "filtered":
            return "its filter leaves it out"
        case "held":
            return (
                f"gathered it, and sends it at {_time(sink['until'], terminal)}"
                if sink["until"]
                else "gathered it"
            )
        case "retired":
            return "has not got it, and is not in the configuration now"
        case "delivered":
            return "has it"
    count = f"{sink['before']}{' or more' if sink['before'] >= BEFORE else ''}"
    first = f" behind {count} {'other' if sink['before'] == 1 else 'others'}" if sink["before"] else ""
    return f"paused; it waits{first}" if sink["paused"] else f"waits for it{first}{why}"


def _data(data: Any, columns: int) -> list[str]:
    """The data as JSON with indentation; a long line is wrapped and indented below its value."""
    lines: list[str] = []
    for line in json.dumps(data, indent=2, ensure_ascii=False).split("\n"):
        indent = len(line) - len(line.lstrip(" "))
        begin, *rest = wrapped(safe(line.strip(" ")), columns, first=indent, indent=indent + 4) or [""]
        lines += [" " * indent + begin, *rest]
    return lines
