"""Searches the log by filter and words, a bounded part of it at a time."""

import time

from roundsman import wire
from roundsman.events import KIND, SUMMARY, Event
from roundsman.store.rows import event_of
from roundsman.store.sqlite.filters import where_of
from roundsman.store.sqlite.reading import EVENT, Reading, reading
from roundsman.store.values import Filter, Searched

FIRST, LEAST, MOST = 500, 50, 20_000
"""Numbers of the log that one statement looks at: at first, at least and at most."""
SHORT, LONG = 0.05, 0.2
"""Seconds between which one statement should take: a thousand events of 1 MB take longer than a million small ones."""
PATIENCE = 1.0
"""Seconds after which a search ends where it is."""
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
        began = time.monotonic()
        ends = began + PATIENCE
        low, high = span[0], min(span[1], self._last())
        found: list[tuple[Event, float]] = []
        volume, size = 0, FIRST
        sql, values = _statement(wanted, words, oldest_first=oldest_first)
        folded = words.casefold()
        while low < high:
            part = (low, min(high, low + size)) if oldest_first else (max(low, high - size), high)
            for row in self._run(sql, [*part, *values]):
                event = event_of(row)
                if not words or (event.sound and folded in event.summary.casefold()):
                    found.append((event, row[6]))
                    volume += len(event.body)
                if len(found) == limit or volume > BYTES or time.monotonic() > ends:
                    reached = event.seq if oldest_first else event.seq - 1
                    return Searched(found[::-1] if oldest_first else found, reached)
            low, high = (part[1], high) if oldest_first else (low, part[0])
            now = time.monotonic()
            if now > ends:
                break
            size = _next(size, now - began)
            began = now
        return Searched(found[::-1] if oldest_first else found, low if oldest_first else high)

    def _last(self) -> int:
        return int(self._run("SELECT coalesce(max(seq), 0) FROM events").fetchone()[0])


def _next(size: int, took: float) -> int:
    """Numbers of the next part, after one of `size` numbers took so many seconds."""
    return min(MOST, size * 2) if took < SHORT else max(LEAST, size // 4) if took > LONG else size


_WITHOUT_SUMMARY = (
    "instr(e.body, CAST(? || coalesce(',\"outcome\":\"' || e.outcome || '\"', '') || ? AS BLOB)) = 0"
)
"""Whether an event has no summary at its place, as before 0.10: what a reader sees of it is made of its data."""


def _statement(wanted: Filter, words: str, *, oldest_first: bool) -> tuple[str, list[str]]:
    """Reads what may match, with the values after the two ends of the part."""
    where, values = where_of(wanted)
    if words:
        # SQLite searches the whole text, without a call of ours for each row. What it finds is looked at by the caller.
        where += f" AND (CAST(e.body AS TEXT) LIKE ? ESCAPE '!' OR {_WITHOUT_SUMMARY})"
        values += [_pattern(words), KIND.decode(), SUMMARY.decode()]
    order = "ASC" if oldest_first else "DESC"
    sql = f"{EVENT} WHERE e.seq > ? AND e.seq <= ? AND e.body IS NOT NULL{where} ORDER BY e.seq {order}"
    return sql, values


_WILD = str.maketrans({"!": "!!", "%": "!%", "_": "!_"})


def _pattern(words: str) -> str:
    """A pattern for LIKE that matches any text of JSON with these words. LIKE knows upper and lower case only in ASCII."""
    coded = wire.encode(words).decode()[1:-1]
    return "%" + "".join(char.translate(_WILD) if char.isascii() else "_" for char in coded) + "%"
