"""Reads the counts of sources and sinks by hour and by day, and how they are stored."""

from collections.abc import Callable, Mapping

import msgspec

from roundsman.store.sqlite.reading import Reading, reading
from roundsman.store.tally import BUCKETS, LARGEST, SPANS, Counts, Span, Tally, window
from roundsman.store.values import Kind

SPAN: Mapping[Span, int] = {"hour": 0, "day": 1}
"""The spans as numbers."""
NUMBERS: Mapping[str, int] = {
    **{f"poll.{result}": n for n, result in enumerate(("new", "unchanged", "failed"))},
    "request": 3,
    "request.304": 4,
    "delivered": 5,
    "failed": 6,
    "lag": 7,
    **{f"event.{outcome}": 8 + n for n, outcome in enumerate(("", "succeeded", "partial", "failed"))},
    **{f"event.{outcome}": 12 + n for n, outcome in enumerate(("empty", "granted", "denied", "unknown"))},
    **{f"latency.{bucket}": 32 + bucket for bucket in BUCKETS},
    **{f"lateness.{bucket}": 80 + bucket for bucket in BUCKETS},
}
"""The numbers that are stored for the names of counts: a number takes one byte. They never change. A name that is not
here is stored as it is.
"""
NAMES: Mapping[int, str] = {number: name for name, number in NUMBERS.items()}
REQUESTS, UNCHANGED = NUMBERS["request"], NUMBERS["request.304"]
KEEPS_LARGEST = frozenset(NUMBERS[name] for name in LARGEST)

Stored = dict[int | str, int]
"""Counts by the number of their name, or by their name."""

pack: Callable[[Stored], bytes] = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(Stored).decode


def unpack(data: bytes) -> Stored:
    """Counts as they are stored; none where the store is damaged."""
    try:
        return _unpack(data)
    except msgspec.DecodeError:
        return {}


def as_stored(counts: Counts) -> Stored:
    return {NUMBERS.get(name, name): n for name, n in counts.items()}


def as_named(stored: Stored) -> dict[str, int]:
    return {NAMES.get(key, str(key)) if type(key) is int else str(key): n for key, n in stored.items()}


class Tallies(Reading):
    """A store whose counts can be read."""

    @reading
    def tallies(self, kind: Kind, name: str, span: Span, now: float) -> list[Tally]:
        """What was counted of a source or a sink in each of the last 48 hours or 35 days, the oldest first."""
        numbers = window(span, now)
        marks = ",".join("?" * len(numbers))  # with each number given, SQLite looks up a row for each
        table = "source_counts WHERE source = (SELECT id FROM sources WHERE name = ?)"
        sql = f"SELECT at, counts FROM {table if kind == 'source' else 'sink_counts WHERE sink = ?'}"  # noqa: S608 - fixed words
        rows = self._run(f"{sql} AND span = ? AND at IN ({marks}) ORDER BY at", (name, SPAN[span], *numbers))
        return [Tally(at * SPANS[span], as_named(unpack(data))) for at, data in rows]

    @reading
    def unchanged_shares(self, now: float) -> dict[str, float]:
        """By source, the share of its requests that were answered 304 Not Modified, yesterday and today."""
        sql = "SELECT source, counts FROM source_counts WHERE span = ? AND at IN (?, ?)"
        asked: dict[int, int] = {}
        unchanged: dict[int, int] = {}
        for source, data in self._run(sql, (SPAN["day"], *window("day", now)[-2:])):
            counts = unpack(data)
            asked[source] = asked.get(source, 0) + counts.get(REQUESTS, 0)
            unchanged[source] = unchanged.get(source, 0) + counts.get(UNCHANGED, 0)
        names = self._run("SELECT id, name FROM sources")
        return {name: unchanged[source] / asked[source] for source, name in names if asked.get(source)}
