"""Builds the polls of one visit: the new state, the events found so far, and remarks for the log."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, Protocol

from roundsman.events import Event
from roundsman.kit.unread import keep
from roundsman.plugin import Poll, State
from roundsman.times import rfc3339
from roundsman.wire import Damage

REMARKED_KEPT = 200
"""Maximum subjects of remarks that a source remembers; of more, those that occurred last."""
CLOCK_MARGIN, NO_CLOCK_MARGIN = timedelta(minutes=1), timedelta(hours=1)
"""How long before the present a first visit begins: with the vendor's clock, and without it."""


class Remembers(Protocol):
    """What a builder needs of a source's document."""

    floor: str | None
    """What happened before it is not reported; "" for no floor, None before the first answer."""
    remarked: list[str]
    """Subjects of remarks that were made."""
    unread: list[str]
    """Digests of unreadable rows that were kept."""

    def remarks(self) -> list[str]: ...
    def dump(self) -> dict[str, Any]: ...


class PollBuilder:
    """The working data of one visit. Later changes to `doc` do not change a poll that `poll` returned."""

    def __init__(self, state: State, doc: Remembers) -> None:
        self.doc = doc
        self.events: list[Event] = []
        self.remarks = doc.remarks()
        self.rows = 0
        self._unread: list[Damage] = []
        self._state = state

    def remark(self, what: str, about: str = "") -> None:
        """Add a remark to the log; with `about`, only once per source."""
        odd, about = self.doc.remarked, about[:100]
        place = odd.index(about) if about in odd else None
        if about and (place is None or place < len(odd) - REMARKED_KEPT // 2):
            # Only subjects that have not occurred for long are forgotten.
            self.doc.remarked = [*(each for each in odd if each != about), about][-REMARKED_KEPT:]
        if place is None:
            self.remarks.append(what)

    def keep(self, damaged: Iterable[Damage]) -> None:
        """Keep unreadable rows, each once per source."""
        self._unread += keep(damaged, self.doc.unread)

    def begin(self, start: str | datetime, date: datetime | None, now: datetime) -> None:
        """Set `floor` at the source's first answer: nothing before it is reported; "" means no floor.

        `date` is the vendor's clock. With `start = "now"`, the floor is one minute before it, or before our
        clock if the vendor's is ahead of it, because such a floor would hide new events. Without `date`, the
        floor is one hour before our clock.
        """
        if self.doc.floor is not None:
            return
        floor = start if isinstance(start, datetime) else None
        if start == "now":
            floor = min(date, now) - CLOCK_MARGIN if date else now - NO_CLOCK_MARGIN
        self.doc.floor = rfc3339(floor) if floor else ""

    def poll(self) -> Poll:
        """The poll with everything found since the previous one."""
        state = self.doc.dump()
        if state != self._state:
            self._state = state
        poll = Poll(self._state, self.events, rows=self.rows, remarks=self.remarks, unread=self._unread)
        self.events, self.remarks, self.rows, self._unread = [], [], 0, []
        return poll

    def page(self, events: list[Event]) -> Poll:
        """A poll in the middle of a reading: some events, and the state as it was."""
        return Poll(self._state, events, rows=len(events))
