"""Quiet hours: when no message is sent, by the clock on a person's wall."""

import re
from collections.abc import Sequence
from datetime import datetime, time, timedelta, tzinfo
from typing import NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_RANGE = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)\s*-\s*([01]?\d|2[0-4]):([0-5]\d)")
DAY = 24 * 60


class Range(NamedTuple):
    """A part of each day, in minutes since midnight; it may go over midnight."""

    begin: int
    end: int

    def __str__(self) -> str:
        return f"{self.begin // 60:02}:{self.begin % 60:02}-{self.end // 60:02}:{self.end % 60:02}"

    def left(self, minute: int) -> int:
        """Minutes from `minute` to the end of the range; 0 if it is not in the range."""
        inside = (minute - self.begin) % DAY < self.length
        return (self.end - minute) % DAY or DAY if inside else 0

    @property
    def length(self) -> int:
        return (self.end - self.begin) % DAY or DAY


def read_range(value: object) -> Range:
    """A range from `"22:00-07:00"`, or ValueError."""
    if isinstance(value, Range):
        return value
    found = _RANGE.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None:
        raise ValueError('is not a part of the day; write "22:00-07:00"')
    begin, end = int(found[1]) * 60 + int(found[2]), int(found[3]) * 60 + int(found[4])
    if end > DAY:
        raise ValueError('is not a part of the day; the latest end is "24:00"')
    return Range(begin, end % DAY)


def read_zone(value: object) -> tzinfo:
    """A time zone from its name, such as `"Europe/Stockholm"`, or ValueError."""
    if isinstance(value, tzinfo):
        return value
    try:
        return ZoneInfo(str(value))
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(
            'is not a time zone that this machine knows; write a name such as "Europe/Stockholm"'
        ) from None


def covers_the_day(ranges: Sequence[Range]) -> bool:
    """Whether no minute of the day is left for messages."""
    return all(any(each.left(minute) for each in ranges) for minute in range(DAY))


def quiet_until(now: datetime, ranges: Sequence[Range], zone: tzinfo | None) -> datetime | None:
    """When the quiet hours end that `now` is in; None if it is in none. `zone`: None is the machine's own.

    Days on which a clock is set have another length: the end is the moment at which the wall clock shows it.
    """
    at = now.astimezone(zone)
    end = None
    for _ in range(2 * len(ranges)):  # one range may end in another
        minute = at.hour * 60 + at.minute
        left = max((each.left(minute) for each in ranges), default=0)
        if not left:
            break
        day, minutes = divmod(minute + left, DAY)
        wall = datetime.combine(at.date() + timedelta(days=day), time(minutes // 60, minutes % 60))
        at = end = (wall.replace(tzinfo=zone) if zone is not None else wall.astimezone()).astimezone(zone)
    # Where the clock is set back, the wall shows the same end twice; it must not be in the past.
    return None if end is None else max(end.astimezone(now.tzinfo), now + timedelta(seconds=1))
