"""Times and words on a terminal."""

import os
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from roundsman.times import rfc3339, spell

if TYPE_CHECKING:
    from rich.console import Console

FORCED = ("FORCE_COLOR", "TTY_COMPATIBLE")
"""Variables by which rich writes as to a terminal where there is none."""


def stamp(moment: float | None) -> str | None:
    return rfc3339(datetime.fromtimestamp(moment, UTC).replace(microsecond=0)) if moment else None


def ago(moment: float | None, now: float) -> str:
    if not moment:
        return "never"
    return f"in {spell(moment - now)}" if moment > now + 0.5 else f"{spell(round(now - moment))} ago"


MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December",
)  # fmt: skip


def day(moment: float, now: float) -> str:
    """`3 May`, with the year unless it is this year; in UTC, as all times."""
    at = datetime.fromtimestamp(moment, UTC)
    year = "" if at.year == datetime.fromtimestamp(now, UTC).year else f" {at.year}"
    return f"{at.day} {MONTHS[at.month - 1]}{year}"


def console() -> "Console | None":
    """Standard output, if it is a terminal; None for plain lines, which need no rich."""
    if not (sys.stdout is not None and sys.stdout.isatty()) and not any(map(os.environ.get, FORCED)):
        return None
    from rich.console import Console

    found = Console(highlight=False, soft_wrap=True)
    return found if found.is_terminal else None


def unix(text: str | None) -> float | None:
    return datetime.fromisoformat(text).timestamp() if text else None


def plain(value: object) -> str:
    text = str(value)
    if " " not in text:
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
