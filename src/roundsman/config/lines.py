"""The line of each key and table of a TOML text, which tomllib does not keep.

The text is one that tomllib has read. Where the scan meets something that it does not know, it ends: a line that it
has given is right.
"""

import re
import tomllib
from bisect import bisect_left
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass

from roundsman.errors import Place

_KEY = re.compile(r"""[A-Za-z0-9_-]+|"(?:\\.|[^"\\\n])*"|'[^'\n]*'""")
_TEXT = re.compile(
    r'"""(?:\\.|[^\\])*?""""{0,2}'
    r"|'''.*?''''{0,2}"
    r'|"(?:\\.|[^"\\\n])*"'
    r"|'[^'\n]*'",
    re.DOTALL,
)
_BARE = re.compile(r"[^,\]}#\n]+")
"""A number, a truth value, a date: a date may contain a blank."""
_BLANKS = re.compile(r"[ \t]*")
_GAP = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")


@dataclass(frozen=True)
class Twice:
    """A name that is set for the second time."""

    place: Place
    first: int
    second: int
    """The lines."""


@dataclass(frozen=True)
class Lines:
    """Where everything in a text is."""

    known: dict[Place, int]
    twice: Twice | None
    """The first name that is set twice: there is one only in a text that is no TOML."""

    def of(self, place: Place) -> int | None:
        """The line of a place, counted from 1; if it is not in the text, that of the innermost table around it."""
        while place and place not in self.known:
            place = place[:-1]
        return self.known.get(place)


def lines(text: str) -> Lines:
    """Where each key and each table of the text is, as far as the text is TOML."""
    scan = _Scan(text)
    with suppress(_Unknown, RecursionError):
        scan.statements()
    return Lines(scan.known, scan.twice)


class _Unknown(Exception):
    """The text goes on in a way that this scan does not know."""


class _Scan:
    """One walk over a text, from its begin to its end."""

    def __init__(self, text: str) -> None:
        self.known: dict[Place, int] = {}
        self.twice: Twice | None = None
        self._text = text
        self._at = 0
        self._ends = [match.start() for match in re.finditer("\n", text)]
        self._set: set[Place] = set()
        """What a value or a header of its own has set: it cannot be set again."""
        self._values: set[Place] = set()
        """What nothing can be added to."""
        self._items = Counter[Place]()
        """The number of tables in each list of tables, `[[...]]`."""

    def statements(self) -> None:
        table: Place = ()
        while self._skip(_GAP) < len(self._text):
            if self._text.startswith("[", self._at):
                table = self._header()
            else:
                self._pair(table)

    def _skip(self, pattern: re.Pattern[str]) -> int:
        match = pattern.match(self._text, self._at)
        self._at = match.end() if match else self._at
        return self._at

    def _expect(self, mark: str) -> None:
        if not self._text.startswith(mark, self._at):
            raise _Unknown
        self._at += len(mark)

    def _line(self) -> int:
        return bisect_left(self._ends, self._at) + 1

    def _header(self) -> Place:
        line = self._line()
        listed = self._text.startswith("[[", self._at)
        self._at += 2 if listed else 1
        self._skip(_BLANKS)
        keys = self._keys()
        self._expect("]]" if listed else "]")
        place: Place = ()
        for at, key in enumerate(keys):
            place = (*place, key)
            is_last = at == len(keys) - 1
            if place in self._values or (is_last and not listed and place in self._set):
                self._again(place, line)
            self.known.setdefault(place, line)
            if is_last and listed:
                self._items[place] += 1
            if place in self._items:  # what follows belongs to the last table of the list
                place = (*place, self._items[place] - 1)
        self.known[place] = line  # its own header, also if one of its tables came before
        self._set.add(place)
        return place

    def _pair(self, table: Place) -> None:
        line = self._line()
        place = table
        keys = self._keys()
        for key in keys[:-1]:
            place = (*place, key)
            if place in self._values:
                self._again(place, line)
            self.known.setdefault(place, line)
            self._set.add(place)
        place = (*place, keys[-1])
        if place in self.known:
            self._again(place, line)
        self.known.setdefault(place, line)
        self._expect("=")
        self._skip(_BLANKS)
        self._value(place)
        self._set.add(place)
        self._values.add(place)

    def _keys(self) -> list[str]:
        keys = []
        while True:
            match = _KEY.match(self._text, self._at)
            if match is None:
                raise _Unknown
            keys.append(_unquoted(match[0]))
            self._at = match.end()
            self._skip(_BLANKS)
            if not self._text.startswith(".", self._at):
                return keys
            self._at += 1
            self._skip(_BLANKS)

    def _value(self, place: Place) -> None:
        if self._text.startswith("[", self._at):
            self._at += 1
            number = 0
            while not self._closed("]"):
                self.known.setdefault((*place, number), self._line())
                self._value((*place, number))
                number += 1
        elif self._text.startswith("{", self._at):
            self._at += 1
            while not self._closed("}"):
                self._pair(place)
        else:
            match = _TEXT.match(self._text, self._at) or _BARE.match(self._text, self._at)
            if match is None:
                raise _Unknown
            self._at = match.end()

    def _closed(self, end: str) -> bool:
        """Whether the list or the table ends here; if not, step over a comma to its next element."""
        self._skip(_GAP)
        if self._text.startswith(",", self._at):
            self._at += 1
            self._skip(_GAP)
        if not self._text.startswith(end, self._at):
            return False
        self._at += 1
        return True

    def _again(self, place: Place, line: int) -> None:
        self.twice = self.twice or Twice(place, self.known[place], line)


def _unquoted(key: str) -> str:
    if key[0] not in "\"'":
        return key
    if "\\" not in key or key[0] == "'":
        return key[1:-1]
    try:
        text: str = tomllib.loads(f"key = {key}")["key"]
    except tomllib.TOMLDecodeError:
        raise _Unknown from None
    return text
