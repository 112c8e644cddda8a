"""How stores keep the counts of sources and sinks: a number for each name, packed."""

from collections.abc import Callable, Mapping

import msgspec

from roundsman.store.tally import BUCKETS, LARGEST, Counts, Span

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


def add_stored(total: Stored, more: Stored) -> None:
    """Add counts to a total; of some, the largest is kept."""
    for key, n in more.items():
        before = total.get(key, 0)
        total[key] = max(before, n) if key in KEEPS_LARGEST else before + n
