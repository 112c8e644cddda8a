"""Times, numbers and texts as the page shows them. All times are Unix times, and are shown in UTC."""

import json
from datetime import UTC, datetime
from typing import Any

from markupsafe import Markup, escape

from roundsman.masking import mask, safe
from roundsman.screen.words import share

UNITS = ((86400, "d"), (3600, "h"), (60, "min"))
"""Seconds of a unit, and its sign."""
LONGEST = 20_000
"""Maximum characters of an event's data on the page."""


def shown(value: Any) -> Any:
    """What stands on the page for a value: printable, and without secrets. Markup is ours, and stays as it is."""
    if value is None:
        return ""
    return value if isinstance(value, Markup) else safe(mask(str(value)))


def lasts(seconds: float) -> str:
    """A duration in its largest unit: `40 s`, `12 min`, `5 h`, `3 d`."""
    for size, unit in UNITS:
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{max(0, round(seconds))} s"


def ago(at: float | None, now: float) -> Markup:
    """How long ago a time was, or in how long it will be."""
    if at is None:
        return Markup("never")
    text = f"in {lasts(at - now)}" if at > now + 0.5 else f"{lasts(now - at)} ago"
    return Markup('<time datetime="{}" title="{} UTC">{}</time>').format(_iso(at), _whole(at), text)


def clock(at: float | None, now: float) -> Markup:
    """A time of day, and its date unless it is today."""
    if at is None:
        return Markup("-")
    moment = datetime.fromtimestamp(at, UTC)
    today = moment.date() == datetime.fromtimestamp(now, UTC).date()
    text = f"{moment:%H:%M:%S}" if today else _whole(at)[:16]
    kind = "day" if today else "date"
    return Markup('<time datetime="{}" title="{} UTC" data-as="{}">{}</time>').format(
        _iso(at), _whole(at), kind, text
    )


def number(value: float | None) -> Markup:
    """A number with its thousands apart; `?` if it is not known. Markup, because a text is shown with its thin spaces escaped."""
    return Markup("?" if value is None else f"{value:,}".replace(",", "\u202f"))  # noqa: S704 - a number


def percent(part: float | None) -> str:
    """A share of requests; `-` if there were none."""
    return share(part) or "-"


def pretty(document: object) -> Markup:
    """A document as JSON for a person, at most `LONGEST` characters."""
    pieces, size = [], 0
    for piece in json.JSONEncoder(indent=2, ensure_ascii=False).iterencode(document):
        pieces.append(piece[: LONGEST + 1 - size])
        size += len(pieces[-1])
        if size > LONGEST:  # the rest of some MiB is neither written nor masked
            break
    text = "".join(pieces)
    lines = [safe(line) for line in (mask.cut(text[:LONGEST]) if size > LONGEST else mask(text)).splitlines()]
    more = [f"… and more than these {number(LONGEST)} characters"] if size > LONGEST else []
    return Markup("\n").join(escape(line) for line in [*lines, *more])


def short(kind: str) -> str:
    """An event type without its vendor, as `roundsman events` prints it."""
    return ".".join(kind.split(".")[-2:])


def _iso(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _whole(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S}"
