"""The axes of charts: round numbers, decades of seconds, and the hours and days with their labels."""

from collections.abc import Sequence
from datetime import UTC, datetime
from math import ceil, floor, log10
from typing import NamedTuple

from roundsman.store.tally import SPANS, Span, window

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
TICKS = 4
"""Maximum number of steps of an axis with numbers."""


class Slot(NamedTuple):
    """One hour or day of a chart."""

    span: Span
    start: float
    """When it begins (Unix)."""
    label: str
    """Its name: "Sat 28 Nov 14:00"."""
    tick: str
    """What the axis says below it; empty for most."""


def slots(span: Span, now: float) -> list[Slot]:
    """The last 48 hours or 35 days, in UTC."""
    slot = _day if span == "day" else _hour
    starts = [number * SPANS[span] for number in window(span, now)]
    return [slot(start, datetime.fromtimestamp(start, UTC)) for start in starts]


def _hour(start: float, at: datetime) -> Slot:
    tick = {0: f"{DAYS[at.weekday()]} {at.day}", 12: "12:00"}.get(at.hour, "")
    return Slot("hour", start, f"{_date(at)} {at.hour:02}:00", tick)


def _day(start: float, at: datetime) -> Slot:
    return Slot("day", start, _date(at), f"{at.day} {MONTHS[at.month - 1]}" if at.weekday() == 0 else "")


def _date(at: datetime) -> str:
    return f"{DAYS[at.weekday()]} {at.day} {MONTHS[at.month - 1]}"


def steps(largest: int) -> list[int]:
    """Round whole numbers from zero to at least `largest`, which is at least 1: 0, 20, 40, 60."""
    least = largest / TICKS
    power = 10 ** max(0, floor(log10(least))) if least > 1 else 1
    step = next(step * power for step in (1, 2, 5, 10) if step * power >= least)
    return list(range(0, ceil(largest / step) * step + 1, step))


def decades(values: Sequence[float]) -> list[int]:
    """The powers of ten between which these seconds lie, two decades at least and none below 1 ms."""
    low = max(-3, min(floor(log10(max(each, 1e-3))) for each in values))
    high = max(ceil(log10(max(each, 1e-3))) for each in values)
    if high - low < 2:
        high = max(high, low + 1)
        low = max(-3, high - 2)
    return list(range(low, max(high, low + 2) + 1))


def short(number: int) -> str:
    """A number for an axis: 950, 1.2k, 15M."""
    for size, sign in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= size:
            return f"{number / size:.1f}".removesuffix(".0") + sign
    return str(number)


def whole(number: int) -> str:
    """A number in full: 12,345."""
    return f"{number:,}"


def lasting(seconds: float) -> str:
    """A duration with two digits that count: 80 ms, 2.4 s, 5 min."""
    if seconds < 1:
        ms = seconds * 1000
        return f"{ms:.1f} ms" if ms < 9.95 else f"{round(ms, 1 - floor(log10(ms))):.0f} ms"
    if seconds < 100:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min"
