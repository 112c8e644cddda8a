"""An event as a line for a person: its number, its time, where it is from, and its summary."""

from roundsman.events import Event
from roundsman.masking import safe
from roundsman.summary import without_source
from roundsman.terminal.terminal import Row, Terminal

GAP = "roundsman.source.gap"
RED = {"roundsman.source.failing", GAP, "roundsman.source.webhook_silent"}
COLOURS = {"granted": "green", "succeeded": "green", "denied": "red", "failed": "red", "partial": "yellow"}

WIDTHS = (20, 12, 22, 9)
"""Widths of the time, source, type and outcome in a plain line. The rest of it describes the event."""
LEAST = (4, 8)
"""Widths of the number and the time to begin with, on a terminal."""
ROOMY = 72
"""Columns from which on the widths of a plain line are used on a terminal, too."""
FIRST = 4
"""Width of what brought an event first: push, ring or poll."""


def event_line(event: Event, first: str | None = None) -> str:
    """The event as one plain line, for a pipe or a file; times are UTC. `first`: push, ring or poll."""
    time, *cells = _cells(event)
    moment = time[:19] + "Z" if time else "-"
    named = [moment, *cells] if first is None else [moment, first, *cells]
    widths = WIDTHS if first is None else (WIDTHS[0], FIRST, *WIDTHS[1:])
    heads = (safe(cell).ljust(size) for cell, size in zip(named, widths, strict=True))
    return "  ".join([*heads, safe(_text(event))]).rstrip()


def event_rows(event: Event, terminal: Terminal, first: str | None = None) -> list[str]:
    """The event in lines that fit the terminal, in its time and in a colour; with its number, if it is in a log."""
    time, *cells = _cells(event)
    number = [f"#{event.seq}"] if event.seq else []
    named = [*number, terminal.moment(time), *([first] if first is not None else []), *cells]
    least = [*LEAST[: len(number)], LEAST[1], *([FIRST] if first is not None else []), *WIDTHS[1:]]
    found = Row([safe(cell) for cell in named], safe(_text(event)), tone_of(event))
    return terminal.row("event" if number else "preview", found, least if terminal.columns >= ROOMY else ())


def tone_of(event: Event) -> str:
    """The name of its colour; empty for none."""
    return "red" if event.type in RED else COLOURS.get(event.outcome or "", "")


def _cells(event: Event) -> list[str]:
    time = event.document().get("time")
    return [
        time if isinstance(time, str) else "",
        event.source,
        ".".join(event.type.split(".")[-2:]),
        event.outcome or "-",
    ]


def _text(event: Event) -> str:
    return without_source(event.line, event.source)
