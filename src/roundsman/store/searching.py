"""A search of the log, a bounded part of it at a time: which part is next, and when it ends."""

import time
from collections.abc import Sequence
from typing import Any

from roundsman import wire
from roundsman.events import Event
from roundsman.store.rows import event_of
from roundsman.store.values import Searched

FIRST, LEAST, MOST = 500, 50, 20_000
"""Numbers of the log that one statement looks at: at first, at least and at most."""
SHORT, LONG = 0.05, 0.2
"""Seconds between which one statement should take: a thousand events of 1 MB take longer than a million small ones."""
PATIENCE = 1.0
"""Seconds after which a search ends where it is."""
BYTES = 8 * 2**20
"""Approximate bytes of events that a search returns."""
_WILD = str.maketrans({"!": "!!", "%": "!%", "_": "!_"})


class Search:
    """One search."""

    def __init__(self, words: str, span: tuple[int, int], limit: int, *, oldest_first: bool) -> None:
        """`span`: after the first number, up to the second one."""
        self._low, self._high = span
        self._words, self._folded, self._limit = words, words.casefold(), limit
        self.oldest_first = oldest_first
        self._found: list[tuple[Event, float]] = []
        self._volume, self._size = 0, FIRST
        self._began = time.monotonic()
        self._ends = self._began + PATIENCE
        self._enough = False

    def part(self) -> tuple[int, int] | None:
        """The next part of the log to read: after the first number, up to the second one. None if the search has ended."""
        low, high = self._low, self._high
        if self._enough or low >= high:
            return None
        return (
            (low, min(high, low + self._size)) if self.oldest_first else (max(low, high - self._size), high)
        )

    def take(self, row: Sequence[Any]) -> bool:
        """A row that the part has, in the order of the search. Returns whether the search has ended with it."""
        event = event_of(row)
        if not self._words or (event.sound and self._folded in event.summary.casefold()):
            self._found.append((event, row[6]))
            self._volume += len(event.body)
        if len(self._found) == self._limit or self._volume > BYTES or time.monotonic() > self._ends:
            self.reach(event.seq)
            self._enough = True
        return self._enough

    def reach(self, seq: int) -> None:
        """The search has looked at the log up to this number, and at it."""
        if self.oldest_first:
            self._low = seq
        else:
            self._high = seq - 1

    def through(self, part: tuple[int, int]) -> None:
        """All rows of the part were taken."""
        self.reach(part[1] if self.oldest_first else part[0] + 1)
        now = time.monotonic()
        took, self._began = now - self._began, now
        if took < SHORT:
            self._size = min(MOST, self._size * 2)
        elif took > LONG:
            self._size = max(LEAST, self._size // 4)
        self._enough = now > self._ends

    def result(self) -> Searched:
        if self.oldest_first:
            return Searched(self._found[::-1], self._low)
        return Searched(self._found, self._high)


def pattern(words: str, other: str) -> str:
    """A pattern for LIKE that matches any text of JSON with these words, `other` for each character that is not ASCII: only
    ASCII is compared in upper and lower case.
    """
    coded = wire.encode(words).decode()[1:-1]
    return "%" + "".join(char.translate(_WILD) if char.isascii() else other for char in coded) + "%"
