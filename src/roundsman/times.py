"""Times and durations: reads vendors' times, writes RFC 3339 and readable durations."""

import re
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

_FRACTION = re.compile(r"(\.\d{6})\d+")
_UNIX = re.compile(r"(\d{9,19}(?:\.\d+)?)|/Date\((-?\d{1,19})(?:[+-]\d{4})?\)/")
_MAIL = re.compile(r"(?:[A-Za-z]{3}, )?\d{1,2} [A-Za-z]{3} \d{4} ")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def parse_time(value: object) -> datetime | None:
    """A vendor's time as UTC, or None if it is not a time.

    Takes ISO 8601 text (any offset, none meaning UTC, any number of decimals), Unix times as numbers or text
    in seconds or smaller units, "/Date(1777618692000)/", "2026-05-01 06:58:12 UTC", and dates as in mail headers.
    """
    try:
        if isinstance(value, str):
            try:
                parsed = datetime.fromisoformat(value)
            except ValueError:
                parsed = datetime.fromisoformat(_FRACTION.sub(r"\1", value.strip()))
            if parsed.year < 1970:
                return None  # some programs write such a year for "none"
            if parsed.tzinfo is UTC:
                return parsed
            return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return _EPOCH + timedelta(seconds=_in_seconds(value))
    except (ValueError, OverflowError):
        pass
    return _otherwise(value) if isinstance(value, str) else None


def _in_seconds(number: float) -> float:
    """A Unix time in seconds from one in seconds, milliseconds, microseconds or nanoseconds."""
    while abs(number) > 1e11:
        number /= 1000
    return number


def _otherwise(text: str) -> datetime | None:
    """A time that is not ISO 8601: a Unix time as text, .NET's form, one that ends in " UTC", or a date as in mail
    (RFC 2822).
    """
    if text.endswith(" UTC"):
        rest = text.removesuffix(" UTC")
        return parse_time(rest) if not rest.endswith(" UTC") else None
    try:
        if found := _UNIX.fullmatch(text.strip()):
            return _EPOCH + timedelta(seconds=_in_seconds(float(found[1] or found[2])))
        if found := _MAIL.match(text):
            parsed = parsedate_to_datetime(text)
            return parsed.replace(tzinfo=parsed.tzinfo or UTC).astimezone(UTC)
    except (ValueError, TypeError, OverflowError):
        pass
    return None


def is_due(last: object, every: float, now: datetime) -> bool:
    """Whether `every` seconds have passed since the recorded time; also if there is none, or a future one."""
    then = last if isinstance(last, datetime) else parse_time(last)
    return then is None or not 0 <= (now - then).total_seconds() < every


def rfc3339(moment: datetime) -> str:
    """`2026-05-01T06:58:12Z` from a UTC date-time, with milliseconds (or microseconds) if there are some."""
    text = moment.isoformat()[:-6]  # without +00:00
    return (text[:-3] if text.endswith("000") and moment.microsecond else text) + "Z"


_RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT(?!24)\d\d:\d\d:\d\d(?:\.(?!000)\d{3})?Z", re.ASCII)


def restated(value: object, moment: datetime) -> str:
    """`rfc3339(moment)`, where `moment` was parsed from `value`: most vendors write just that form."""
    if type(value) is str and _RFC3339.fullmatch(value):
        return value
    return rfc3339(moment)


UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def spell(seconds: float) -> str:
    """`5400` as `1h30m`: the form of durations for people."""
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms" if seconds else "0s"
    left, words = round(seconds), ""
    for unit in ("d", "h", "m", "s"):
        count, left = divmod(left, int(UNITS[unit]))
        words += f"{count}{unit}" if count else ""
    return words
