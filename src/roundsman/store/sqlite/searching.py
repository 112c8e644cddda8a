"""Searches the log by filter and words, a bounded part of it at a time."""

import time
from collections.abc import Iterator

from roundsman import wire
from roundsman.events import Event
from roundsman.store.sqlite.filters import where_of
from roundsman.store.sqlite.reading import EVENT, Reading, event_of, reading
from roundsman.store.values import Filter, Searched

PART = 20_000
"""Numbers of the log that one statement looks at."""
PATIENCE = 1.0
"""Seconds after which no further part is begun."""
BYTES = 8 * 2**20
"""Approximate bytes of events that a search returns."""


class Searching(Reading):
    """What is read to search the log."""

    @reading
    def search(
        self, wanted: Filter, words: str, span: tuple[int, int], limit: int, *, oldest_first: bool = False
    ) -> Searched:
        """Events that match the filter and whose summary contains `words`, in upper or lower case, with a `seq` after the
        first number of the span and up to the second one: the newest, or the oldest. The newest of them comes first.
        """
        ends = time.monotonic() + PATIENCE
        low, high = span[0], min(span[1], self._last())
        found: list[tuple[Event, float]] = []
        volume = 0
        while low < high:
            part = (low, min(high, low + PART)) if oldest_first else (max(low, high - PART), high)
            for event, logged in self._part(wanted, words, part, oldest_first=oldest_first):
                found.append((event, logged))
                volume += len(event.body)
                if len(found) == limit or volume > BYTES:
                    reached = event.seq if oldest_first else event.seq - 1
                    return Searched(found[::-1] if oldest_first else found, reached)
            low, high = (part[1], high) if oldest_first else (low, part[0])
            if time.monotonic() > ends:
                break
        return Searched(found[::-1] if oldest_first else found, low if oldest_first else high)

    def _last(self) -> int:
        return int(self._run("SELECT coalesce(max(seq), 0) FROM events").fetchone()[0])

    def _part(
        self, wanted: Filter, words: str, part: tuple[int, int], *, oldest_first: bool
    ) -> Iterator[tuple[Event, float]]:
        where, values = where_of(wanted)
        if words:
            # SQLite searches the whole text, without a call of ours for each row. What it finds is looked at below.
            where += " AND CAST(e.body AS TEXT) LIKE ? ESCAPE '!'"
            values.append(_pattern(words))
        order = "ASC" if oldest_first else "DESC"
        sql = f"{EVENT} WHERE e.seq > ? AND e.seq <= ? AND e.body IS NOT NULL{where} ORDER BY e.seq {order}"
        folded = words.casefold()
        for row in self._run(sql, [*part, *values]):
            event = event_of(row)
            if not words or (event.sound and folded in event.summary.casefold()):
                yield event, row[6]


_WILD = str.maketrans({"!": "!!", "%": "!%", "_": "!_"})


def _pattern(words: str) -> str:
    """A pattern for LIKE that matches any text of JSON with these words. LIKE knows upper and lower case only in ASCII."""
    coded = wire.encode(words).decode()[1:-1]
    return "%" + "".join(char.translate(_WILD) if char.isascii() else "_" for char in coded) + "%"
