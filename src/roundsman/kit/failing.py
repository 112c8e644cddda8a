"""What fails several times in a row: when it is left alone, and when its failure is reported."""

from datetime import datetime, timedelta
from typing import NamedTuple

import msgspec

from roundsman.errors import RequestFailed
from roundsman.events import Event, notice
from roundsman.kit.documents import Count
from roundsman.times import parse_time, rfc3339, spell

BREAKER_AFTER = 3
"""Questions in a row without any answer, after which the fault is taken to be the vendor's."""
REPORT_AFTER = 3
"""Failures of one part in a row, after which they are reported."""
LONGEST = 3600.0
"""Maximum seconds between two tries of a part that fails."""


class PartLabel(NamedTuple):
    """A part: its name in ids, and its title for a person."""

    name: str
    title: str


class Breaker:
    """Opens when the vendor gives no answer to several questions in a row."""

    def __init__(self) -> None:
        self._silent = 0

    def answered(self) -> None:
        self._silent = 0

    def count(self, exc: Exception) -> bool:
        """Count the error. Returns whether to ask no more."""
        silent = isinstance(exc, RequestFailed) and (exc.status is None or exc.status >= 500)
        self._silent = self._silent + 1 if silent else 0
        return self.is_open

    @property
    def is_open(self) -> bool:
        return self._silent >= BREAKER_AFTER


class Failing(msgspec.Struct):
    """A part that fails: how many times in a row, since when, and until when it is left alone; by our clock."""

    since: str
    times: Count = 0
    until: str | None = None

    def rests(self, now: datetime) -> bool:
        """Whether it failed recently and is left alone."""
        until = parse_time(self.until)
        return until is not None and 0 < (until - now).total_seconds() <= LONGEST

    def count(self, now: datetime, interval: float) -> str:
        """Record a failure; the pause after it grows. Returns the pause, in words."""
        self.times += 1
        pause = min(LONGEST, interval * 2.0 ** min(self.times - 1, 10))
        self.until = rfc3339(now + timedelta(seconds=pause - 1))
        return spell(pause)

    def failed(self, source: str, part: PartLabel, exc: Exception, now: datetime) -> list[Event]:
        """The notice of the third failure in a row."""
        text = f"Connection {part.title} has failed since {self.since}: {exc}"
        report = self.times == REPORT_AFTER
        return [self._notice("roundsman.source.failing", source, part, text, now)] if report else []

    def recovered(self, source: str, part: PartLabel, now: datetime) -> list[Event]:
        """The notice that it answers again, if its failure was reported."""
        text = f"Connection {part.title} answers again."
        report = self.times >= REPORT_AFTER
        return [self._notice("roundsman.source.recovered", source, part, text, now)] if report else []

    def _notice(self, kind: str, source: str, part: PartLabel, text: str, now: datetime) -> Event:
        about, since = f"{part.name}:{self.since}", parse_time(self.since)
        details = {"connection": part.title}
        return notice(kind, source, about, text, since=since, now=now, details=details)
