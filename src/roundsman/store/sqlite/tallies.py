"""Reads the counts of sources and sinks by hour and by day, and how they are stored."""

from collections.abc import Mapping

import msgspec

from roundsman.store.sqlite.reading import Reading, reading
from roundsman.store.tally import BUCKETS, SPANS, Counts, Span, Tally, window
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

_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(dict[int | str, int]).decode


def packed(counts: Counts) -> bytes:
    """Counts as they are stored. The smallest numbers come first, so that equal counts are equal bytes."""
    return _pack({NUMBERS.get(name, name): counts[name] for name in counts})


def unpacked(data: bytes) -> dict[str, int]:
    """Counts from the store; none where it is damaged."""
    try:
        return {
            NAMES.get(key, str(key)) if type(key) is int else str(key): n for key, n in _unpack(data).items()
        }
    except msgspec.DecodeError:
        return {}


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
        return [Tally(at * SPANS[span], unpacked(data)) for at, data in rows]

    @reading
    def unchanged_shares(self, now: float) -> dict[str, float]:
        """By source, the share of its requests that were answered 304 Not Modified, yesterday and today."""
        sql = (
            "SELECT s.name, c.counts FROM source_counts c JOIN sources s ON s.id = c.source "
            "WHERE c.span = ? AND c.at IN (?, ?)"
        )
        found: dict[str, tuple[int, int]] = {}
        for name, data in self._run(sql, (SPAN["day"], *window("day", now)[-2:])):
            counts = unpacked(data)
            asked, unchanged = found.get(name, (0, 0))
            found[name] = (asked + counts.get("request", 0), unchanged + counts.get("request.304", 0))
        return {name: unchanged / asked for name, (asked, unchanged) in found.items() if asked}
