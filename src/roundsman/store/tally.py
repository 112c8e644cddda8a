"""What is counted of each source and each sink by hour and by day, and how durations become counts.

Counts have names, and most are sums:

    event.<outcome>         new events with this outcome; `event.` those without one, `event.other` those with another one
    poll.<result>           visits that have ended: `new`, `unchanged`, `failed`
    request, request.304    requests of a source, and those of them that were answered 304 Not Modified
    latency.<bucket>        requests by the time that they took
    lateness.<bucket>       visits by the time from their due time to their beginning
    delivered, failed       events that a sink has acknowledged; deliveries to it that failed
    lag                     events that waited for a sink. Not a sum: the largest number that was seen

Buckets are numbered by `BOUNDS`. A count of zero is left out.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, MutableMapping
from math import floor
from typing import Literal, NamedTuple

HOUR, DAY = 3600.0, 86400.0
Span = Literal["hour", "day"]
SPANS: Mapping[Span, float] = {"hour": HOUR, "day": DAY}
"""Seconds of each span. An hour and a day begin in UTC."""
KEPT: Mapping[Span, int] = {"hour": 48, "day": 35}
"""How many hours and days are kept, with the present one."""

BOUNDS = tuple(round(step * 10.0**power, 4) for power in range(-3, 3) for step in (1, 1.5, 2, 3, 5, 7))
"""Upper bounds of the buckets in seconds, from 1 ms to 700 s. Stores have their numbers: they stay as they are."""
BUCKETS = range(len(BOUNDS) + 1)
"""Their numbers; the last one is for durations above every bound."""

LARGEST = frozenset({"lag"})
"""Counts of which the largest is kept, instead of their sum."""

Counts = Mapping[str, int]
"""Counts by name."""


class Counted(NamedTuple):
    """What was counted of a source or a sink since the last time."""

    kind: Literal["source", "sink"]
    name: str
    at: float
    """A time of the hour that it is counted for (Unix)."""
    counts: Counts


class Tally(NamedTuple):
    """The counts of one hour or one day of a source or a sink."""

    start: float
    """When it begins (Unix)."""
    counts: Counts

    def of(self, group: str) -> dict[str, int]:
        """The counts whose names begin with this word and a point, by the rest of their names."""
        begin = f"{group}."
        return {name[len(begin) :]: n for name, n in self.counts.items() if name.startswith(begin)}

    def quantile(self, group: str, share: float) -> float | None:
        """The seconds below which this share of the durations of a group lies; None without any.

        A bucket's durations count as spread evenly in it: the error is at most the width of one bucket.
        """
        buckets = {int(bucket): n for bucket, n in self.of(group).items()}
        left = share * sum(buckets.values())
        for bucket, n in sorted(buckets.items()):
            if left <= n:
                low, high = (BOUNDS[bucket - 1] if bucket else 0.0), BOUNDS[min(bucket, len(BOUNDS) - 1)]
                return low + (high - low) * left / n
            left -= n
        return None


def bucket(seconds: float) -> int:
    """The number of the bucket for a duration."""
    return bisect_left(BOUNDS, seconds)


def add(total: MutableMapping[str, int], more: Iterable[tuple[str, int]]) -> None:
    """Add counts to a total."""
    for name, n in more:
        before = total.get(name, 0)
        total[name] = max(before, n) if name in LARGEST else before + n


def number_of(span: Span, at: float) -> int:
    """The number of the hour or the day that a time is in, since 1970."""
    return floor(at / SPANS[span])


def window(span: Span, now: float) -> range:
    """The numbers of the hours or days that are kept."""
    last = number_of(span, now)
    return range(last - KEPT[span] + 1, last + 1)
