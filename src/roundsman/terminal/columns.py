"""Text in the columns of a terminal: how wide it is, where it is wrapped, and rows and tables that fit."""

import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

BETWEEN = "  "
"""What stands between two columns."""
ROOM = 40
"""Columns that the text of a row needs beside its cells; with less room, it begins on a line of its own."""
INDENT = 4
"""Columns by which the second line of a row is indented."""
KEPT = "\u00a0"
"""A space at which a line is not wrapped, as in a command that a person copies. It is printed as a space."""

Paint = Callable[[str, str], str]
"""Puts a text into a colour, by the name of the colour."""


def width(text: str) -> int:
    """How many columns a terminal takes for the text, which is printable."""
    return len(text) if text.isascii() else sum(map(_cells, text))


@lru_cache(maxsize=4096)
def _cells(char: str) -> int:
    if unicodedata.category(char) in {"Mn", "Me", "Cf"} or "\u1160" <= char <= "\u11ff":
        return 0  # an accent, or a part of a Korean syllable: it is drawn over the character before it
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def padded(text: str, columns: int, *, right: bool = False) -> str:
    """The text in at least so many columns; `right`: at their right end."""
    space = " " * (columns - width(text))
    return space + text if right else text + space


def kept(command: str) -> str:
    """A command that stays in one line, if it fits into one."""
    return command.replace(" ", KEPT)


def wrapped(text: str, columns: int, *, first: int = 0, indent: int = 0) -> list[str]:
    """The text in lines of at most so many columns, wrapped between words. A word is only broken if no line could hold it.

    `first`: columns of the first line that are taken already; `indent`: spaces before each other line.
    """
    indent = min(indent, columns // 2)
    lines, line, left = [], "", columns - first
    for word in filter(None, text.split(" ")):
        if line and width(line) + 1 + width(word) <= left:
            line += f" {word}"
            continue
        if line or (width(word) > left and left < columns - indent):
            lines.append(line)
            left = columns - indent
        *whole, line = _broken(word, left)
        lines += whole
        left = columns - indent if whole else left
    lines.append(line)
    return [lines[0], *(" " * indent + each for each in lines[1:])] if lines else []


def _broken(word: str, columns: int) -> Iterator[str]:
    """The word in parts of at most so many columns."""
    columns = max(2, columns)
    while width(word) > columns:
        at, taken = 0, 0
        while taken + _cells(word[at]) <= columns:
            taken += _cells(word[at])
            at += 1
        yield word[:at]
        word = word[at:]
    yield word


def _printed(lines: Iterable[str]) -> list[str]:
    return [line.replace(KEPT, " ").rstrip() for line in lines]


def row(cells: Sequence[str], text: str, columns: int) -> list[str]:
    """A row of padded cells and a text after them: in one line; else the text in a column; else below the cells."""
    head = BETWEEN.join(cells)
    taken = width(head) + len(BETWEEN)
    if taken + width(text) <= columns:
        return _printed([f"{head}{BETWEEN}{text}"])
    if columns - taken >= ROOM:
        first, *rest = wrapped(text, columns, first=taken, indent=taken)
        return _printed([f"{head}{BETWEEN}{first}", *rest])
    heads = wrapped(_flowing(cells), columns, indent=INDENT) if width(head.rstrip()) > columns else [head]
    begin, *rest = wrapped(text, columns, first=INDENT, indent=INDENT) or [""]
    return _printed([*heads, " " * INDENT + begin, *rest])


def paragraph(text: str, columns: int, indent: int = 2) -> list[str]:
    """A sentence in lines that fit, all indented, each but the first by two columns more."""
    begin, *rest = wrapped(text, columns, first=indent, indent=indent + 2) or [""]
    return _printed([" " * indent + begin, *rest])


def _flowing(cells: Iterable[str]) -> str:
    """Cells that need several lines: without padding, each kept together."""
    return " ".join(kept(cell.strip()) + KEPT for cell in cells if cell.strip()).removesuffix(KEPT)


class Column(NamedTuple):
    """A column of a table."""

    head: str
    right: bool = False
    """Whether its values stand at its right end, as numbers do."""
    label: str | None = None
    """What stands before its value in a second line; None: its head."""


class Cell(NamedTuple):
    """A value in a table."""

    text: str
    tone: str = ""
    """The name of its colour."""


class Table(NamedTuple):
    """The lines of a table."""

    head: str
    rows: list[list[str]]
    """The lines of each row."""


def table(columns: Sequence[Column], rows: Sequence[Sequence[Cell]], space: int, paint: Paint) -> Table:
    """A line for the head, and one for each row. Columns that do not fit are named in a second line of each row.

    A column whose values are all empty is left out.
    """
    shown = [n for n in range(len(columns)) if not n or any(each[n].text for each in rows)]
    sizes = {n: max([width(columns[n].head), *(width(each[n].text) for each in rows)]) for n in shown}
    first = _fitting(shown, sizes, space)
    heads = (padded(columns[n].head, sizes[n], right=columns[n].right) for n in first)
    found = Table(paint(BETWEEN.join(heads).rstrip()[:space], "dim"), [])
    for cells in rows:
        *lines, line = wrapped(cells[0].text, space) or [""]
        line = padded(line, min(sizes[0], space))
        for n in first[1:]:
            text = padded(cells[n].text, sizes[n], right=columns[n].right)
            line += BETWEEN + (paint(text, cells[n].tone) if cells[n].tone else text)
        rest = [(columns[n], cells[n]) for n in shown if n not in first]
        found.rows.append([*lines, line.rstrip(), *_second_line(rest, space, paint)])
    return found


def _fitting(shown: Sequence[int], sizes: Mapping[int, int], space: int) -> list[int]:
    """The first column, and as many after it as fit into a line."""
    first, taken = list(shown[:1]), sizes[shown[0]]
    for n in shown[1:]:
        taken += len(BETWEEN) + sizes[n]
        if taken > space:
            break
        first.append(n)
    return first


def _second_line(cells: Sequence[tuple[Column, Cell]], space: int, paint: Paint) -> list[str]:
    """Values with their names, as many in a line as fit."""
    lines: list[str] = []
    taken = space
    for column, cell in cells:
        if not cell.text:
            continue
        label = column.head if column.label is None else column.label
        text = f"{label} {cell.text}".strip()
        if taken + len(BETWEEN) + width(text) > space:
            lines.append(" " * INDENT)
            taken = INDENT
        else:
            lines[-1] += BETWEEN
            taken += len(BETWEEN)
        if taken + width(text) > space:
            begin, *rest = wrapped(text, space, first=taken, indent=INDENT)
            lines[-1] += begin
            lines += rest
            taken = space
            continue
        lines[-1] += paint(text, cell.tone) if cell.tone else text
        taken += width(text)
    return [line.rstrip() for line in lines]
