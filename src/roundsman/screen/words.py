"""Times and words for people."""

import re
from datetime import UTC, datetime

from roundsman.times import rfc3339, spell


def stamp(moment: float | None) -> str | None:
    return rfc3339(datetime.fromtimestamp(moment, UTC).replace(microsecond=0)) if moment else None


def ago(moment: float | None, now: float) -> str:
    if not moment:
        return "never"
    return f"in {spell(moment - now)}" if moment > now + 0.5 else f"{spell(round(now - moment))} ago"


def age(seconds: float) -> str:
    """A duration in its largest unit, and from below ten of it in the next one, too: `39m`, `5m12s`; `0s` for none."""
    parts = UNIT.findall(spell(max(0, round(seconds))))
    return "".join(parts[:1] if len(parts[0].rstrip("dhms")) > 1 else parts[:2])


def since(moment: float | None, now: float) -> str:
    """How long ago a time was, or how soon it will be, in short; empty for none."""
    if not moment:
        return ""
    return f"in {age(moment - now)}" if moment > now + 0.5 else f"{age(now - moment)} ago"


def share(part: float | None) -> str:
    """A part of a whole, from 0 to 1, in percent; empty for None. It says 100 % only for all, and 0 % only for none."""
    if part is None:
        return ""
    percent = round(part * 100)
    if part not in {0, 1} and percent in {0, 100}:
        return "< 1 %" if percent == 0 else "> 99 %"
    return f"{percent} %"


UNIT = re.compile(r"\d+[a-z]+")

MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December",
)  # fmt: skip


def day(moment: float, now: float, *, utc: bool = True) -> str:
    """`3 May`, with the year unless it is this year; in UTC, or in the local time of a terminal."""
    zone = UTC if utc else None
    at = datetime.fromtimestamp(moment, zone)
    year = "" if at.year == datetime.fromtimestamp(now, zone).year else f" {at.year}"
    return f"{at.day} {MONTHS[at.month - 1]}{year}"


def unix(text: str | None) -> float | None:
    return datetime.fromisoformat(text).timestamp() if text else None


def plain(value: object) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if " " not in text:
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
