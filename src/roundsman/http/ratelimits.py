"""How long a vendor asks us to wait, read from its headers.

These are `Retry-After` (RFC 9110 section 10.2.3), `Retry-After-Ms`, `X-RateLimit-Reset` and its spellings if
nothing remains, and `RateLimit` of the IETF drafts. Values are seconds, durations such as "6m0s", Unix times
in seconds or smaller units, HTTP dates or ISO 8601; one header may hold a list of them. Unreadable values are
ignored.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache

from roundsman.options.values import duration

CAP = 3600.0
"""Maximum seconds that a vendor can make us wait: a garbled header must not stop a source for a year."""
LEAST = 1.0
"""Minimum seconds of a wait, also for a Retry-After of 0 or in the past."""
UNIX = 1e9
"""From this number on, seconds are a Unix time: as a wait they would be 30 years."""
LARGEST_UNIX = 1e11
"""Above this number, a Unix time is in milliseconds or smaller units."""
RESETS = ("x-ratelimit-reset", "x-rate-limit-reset", "ratelimit-reset")
REMAINING = ("x-ratelimit-remaining", "x-rate-limit-remaining", "ratelimit-remaining")
ASKING = frozenset(
    {"retry-after", "x-retry-after", "retry-after-ms", *RESETS, "x-ratelimit-reset-after", "ratelimit"}
)
"""The headers that can ask to wait: most answers have none of them."""
_DATE = re.compile(r"[A-Za-z]{3,9}, \d\d[ -][A-Za-z]{3}[ -]\d{2,4} \d\d:\d\d:\d\d(?: GMT| UTC| [+-]\d{4})?")
_QUOTED = re.compile(r"^[\"'](.*)[\"']$")
_SECONDS = re.compile(r"^(\d+)\s*(?:s|sec|secs|second|seconds)$", re.IGNORECASE)
_MEMBER = re.compile(r"[,;]\s*([A-Za-z]+)\s*=\s*([0-9.]+)")


def retry_after(status: int, headers: Mapping[str, str], now: float) -> float | None:
    """Seconds that the answer asks us to wait, from `LEAST` to `CAP`; None if it does not ask.

    `now` is this machine's clock (Unix seconds); the vendor's clock in `Date` is preferred to it.
    """
    if ASKING.isdisjoint(headers):
        return None
    since = http_date(headers.get("date"))
    clock = since.timestamp() if since is not None else now
    asks: list[float] = []
    if status >= 300:
        for name in ("retry-after", "x-retry-after"):
            asks += _waits(headers.get(name), clock)
        asks += [
            ms / 1000 for text in _list(headers.get("retry-after-ms")) if (ms := number(text)) is not None
        ]
    asks += _used_up(status, headers, clock)
    return min(CAP, max(LEAST, *asks)) if asks else None


def _used_up(status: int, headers: Mapping[str, str], now: float) -> Iterator[float]:
    """The waits of limits of which nothing remains.

    After a 429, also those of limits that do not state what remains, and of all resets if none is used up.
    """
    for reset, left in zip(RESETS, REMAINING, strict=True):
        remaining = _list(headers.get(left))
        waits = [next(_waits(text, now), None) for text in _members(headers.get(reset))]
        for at, wait in enumerate(waits):
            said = remaining[at] if at < len(remaining) else remaining[-1] if remaining else None
            if wait is not None and (_none_left(said) or (status == 429 and said is None)):
                yield wait
        if status == 429 and waits and not any(map(_none_left, remaining)):
            yield from (wait for wait in waits if wait is not None)
    after = number(headers.get("x-ratelimit-reset-after"))
    if after is not None and (
        status == 429 or any(map(_none_left, _list(headers.get("x-ratelimit-remaining"))))
    ):
        yield after
    # The drafts: `limit=100, remaining=0, reset=50` and, later, `"default";r=0;t=50`, one or more.
    policies = re.split(r",(?=\s*[\"A-Za-z][^=,;]*;)", headers.get("ratelimit", ""))
    for policy in policies:
        facts = dict(_MEMBER.findall(f",{policy}"))
        left_over, wait = facts.get("remaining", facts.get("r")), facts.get("reset", facts.get("t"))
        seconds = next(_waits(wait, now), None)
        if seconds is not None and (_none_left(left_over) or (status == 429 and left_over is None)):
            yield seconds


class RateAccount:
    """What a client's answers stated about time, so far."""

    __slots__ = ("asked", "date", "interval", "wait")

    def __init__(self) -> None:
        self.asked = 0
        """Requests made; retries and downloads are not counted."""
        self.wait = 0.0
        """The longest wait in seconds that an answer asked for so far."""
        self.interval = 0.0
        """Seconds between two visits that the vendor asks for; they do not apply to the pages of one visit."""
        self.date: datetime | None = None
        """The vendor's clock, from the last answer with a `Date`."""

    def heed(self, status: int, headers: Mapping[str, str], now: float) -> None:
        """Take an answer into account. `now`: our clock (Unix)."""
        self.date = http_date(headers.get("date")) or self.date
        self.wait = max(self.wait, retry_after(status, headers, now) or 0.0)
        if "x-poll-interval" in headers:
            self.interval = max(self.interval, min(CAP, number(headers["x-poll-interval"]) or 0.0))


def _none_left(said: str | None) -> bool:
    """Whether a header states that nothing remains."""
    found = re.match(r"-?\d+(?:\.\d+)?", said or "")
    return found is not None and float(found[0]) == 0  # some servers send -1 for "no limit"


def _waits(text: str | None, now: float) -> Iterator[float]:
    """The seconds that each value in a header asks for."""
    for each in _members(text):
        moment = http_date(each) or _iso(each)
        if moment is not None:
            yield max(LEAST, moment.timestamp() - now)
            continue
        plain = _QUOTED.sub(r"\1", each.partition(";")[0].strip()).removeprefix("+")
        value = number(plain)
        if value is not None and value >= UNIX:
            while value > LARGEST_UNIX:
                value /= 1000
            value -= now
        if value is None:
            value = _spelled(plain)
        if value is not None:
            yield max(LEAST, value)


def _members(text: str | None) -> list[str]:
    """The values of a list. Dates are taken out first, because they contain commas."""
    text = text or ""
    dates = _DATE.findall(text)
    return dates + _list(_DATE.sub("", text))


def _list(text: str | None) -> list[str]:
    return [each for part in (text or "").split(",") if (each := part.strip())]


def _spelled(text: str) -> float | None:
    """Seconds from "6m0s" or "500ms"."""
    try:
        text = _SECONDS.sub(r"\1s", text)
        return duration(text) if text[-1:].isalpha() and text.isascii() and len(text) < 40 else None
    except ValueError:
        return None


def _iso(text: str) -> datetime | None:
    """An ISO 8601 date-time. A plain number is not one, although the basic format looks like it."""
    if "-" not in text[1:] or ":" not in text:
        return None
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        return None
    return parsed.replace(tzinfo=parsed.tzinfo or UTC)


def number(text: str | None) -> float | None:
    """A plain decimal number that is not negative; None for any other text."""
    text = (text or "").strip()
    return float(text) if text.isascii() and text.replace(".", "", 1).isdigit() and len(text) < 21 else None


@lru_cache(maxsize=64)  # servers' dates: all answers of a second have the same one
def http_date(text: str | None) -> datetime | None:
    """The date of a header such as `Date` in UTC; None if it is not a date."""
    try:
        parsed = parsedate_to_datetime(text or "")
        return parsed.replace(tzinfo=parsed.tzinfo or UTC).astimezone(UTC)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
