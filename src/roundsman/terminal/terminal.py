"""Standard output as a terminal: its size, its colours, and the width that its rows have come to."""

import os
import re
import shutil
import sys
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple, TextIO

from roundsman.terminal.clock import clock
from roundsman.terminal.columns import padded, paragraph, row, width
from roundsman.times import parse_time, rfc3339

FORCED = ("FORCE_COLOR", "TTY_COMPATIBLE")
"""Variables by which a user asks for the output of a terminal where there is none."""
_COMMAND = re.compile(r" (?<=: )(roundsman [^;:,`]*)$")
"""A command at the end of a sentence."""
NARROWEST = 20
"""Columns that are used even if the terminal has fewer: a word must have room."""
WIDEST = 24
"""Columns to which a cell of a row widens its column. A wider one moves only the rest of its own row."""
CODES = {
    "red": "31",
    "green": "32",
    "yellow": "33",
    "dim": "2",
    "bold": "1",
    "bold red": "1;31",
}


class Row(NamedTuple):
    """A row of a list: its cells, the text after them, and the name of its colour."""

    cells: Sequence[str]
    text: str
    tone: str = ""


class Terminal:
    """A terminal on standard output. Its size is asked for each time, because a window changes."""

    def __init__(self, *, utc: bool = False, colours: bool = True) -> None:
        self.utc = utc
        """Whether times are shown in UTC, and not in the local time."""
        self._colours = colours
        self._sizes: dict[str, list[int]] = {}

    @property
    def columns(self) -> int:
        return max(NARROWEST, shutil.get_terminal_size().columns)

    @property
    def lines(self) -> int:
        return max(2, shutil.get_terminal_size().lines)

    def paint(self, text: str, tone: str) -> str:
        """The text in a colour, by its name; unchanged without one."""
        return f"\x1b[{CODES[tone]}m{text}\x1b[0m" if tone and self._colours and text else text

    def clock(self, moment: float | None) -> str:
        """A Unix time for a person; `-` for none."""
        return clock(moment, time.time(), utc=self.utc) if moment else "-"

    def moment(self, text: str | None) -> str:
        """A time in RFC 3339 for a person; another text as it is."""
        moment = parse_time(text)
        return self.clock(moment.timestamp()) if moment else text or "-"

    def row(self, kind: str, found: Row, least: Sequence[int] = ()) -> list[str]:
        """A row of a list that is written row by row: cells of one `kind` of rows stand below each other. `least`: the
        widths to begin with.
        """
        sizes = self._sizes.setdefault(kind, list(least) or [0] * len(found.cells))
        for n, cell in enumerate(found.cells):
            sizes[n] = max(sizes[n], min(width(cell), WIDEST))
        return self._lines(found, sizes)

    def rows(self, found: Sequence[Row]) -> list[str]:
        """The lines of a whole list: its columns are as wide as its cells."""
        columns = zip(*(each.cells for each in found), strict=True)
        sizes = [max(min(width(cell), WIDEST) for cell in cells) for cells in columns]
        return [line for each in found for line in self._lines(each, sizes)]

    def _lines(self, found: Row, sizes: Sequence[int]) -> list[str]:
        cells = [padded(cell, size) for cell, size in zip(found.cells, sizes, strict=True)]
        return [self.paint(line, found.tone) for line in row(cells, found.text, self.columns)]

    def paragraph(self, text: str, tone: str = "", indent: int = 2) -> list[str]:
        return [self.paint(line, tone) for line in paragraph(text, self.columns, indent)]


def write(lines: Iterable[str]) -> None:
    print(*lines, sep="\n", flush=True)  # noqa: T201 - output for a person


def terminal(*, utc: bool = False) -> Terminal | None:
    """Standard output, if it is a terminal; None for plain lines."""
    forced = any(map(os.environ.get, FORCED))
    if not (sys.stdout is not None and sys.stdout.isatty()) and not forced:
        return None
    return Terminal(utc=utc, colours=colours())


def fitted(text: str, stream: TextIO | None) -> str:
    """A sentence in lines that fit, if the stream is a terminal. A word that no line could hold is not broken here, nor a
    command at the end of the sentence: they may be there to be copied, and half a command does another thing.
    """
    columns = max(NARROWEST, shutil.get_terminal_size().columns)
    if stream is None or not stream.isatty() or width(text) <= columns:
        return text
    start = len(text) - len(text.lstrip(" "))
    command = _COMMAND.search(text, start)
    first, *words = text[start : command.start() if command else len(text)].split(" ")
    words += [command[1]] if command else []
    lines = [" " * start + first]
    for word in words:
        if width(lines[-1]) + 1 + width(word) <= columns:
            lines[-1] += f" {word}"
        else:
            lines.append(" " * (start + 2) + word)
    return "\n".join(lines)


def spoken(moment: float, *, utc: bool = False, stream: TextIO | None = None) -> str:
    """A Unix time in a sentence, as in a table if the sentence goes to a terminal, else in RFC 3339.

    `stream`: where it goes. Default: standard output.
    """
    to = stream if stream is not None else sys.stdout
    if (to is not None and to.isatty()) or any(map(os.environ.get, FORCED)):
        return clock(moment, time.time(), utc=utc)
    return rfc3339(datetime.fromtimestamp(moment, UTC).replace(microsecond=0))


def colours() -> bool:
    """Whether the terminal shows colours, and the user does not refuse them (no-color.org)."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM", "") not in {"dumb", "unknown"}
