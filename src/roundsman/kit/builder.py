"""Builds the polls of one visit: the new state, the events found so far, and remarks for the log."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from roundsman import wire
from roundsman.events import Event
from roundsman.kit.unread import Unread
from roundsman.plugin import Poll, State
from roundsman.times import rfc3339

REMARKED_KEPT = 200
"""Maximum subjects of remarks that a source remembers; of more, those that occurred last."""
CLOCK_MARGIN, NO_CLOCK_MARGIN = timedelta(minutes=1), timedelta(hours=1)
"""How long before the present a first visit begins: with the vendor's clock, and without it."""


class PollBuilder:
    """The working data of one visit. Later changes to `memory` do not change a poll that `poll` returned."""

    def __init__(self, state: State) -> None:
        self.memory: dict[str, Any] = _copy(state)
        self.events: list[Event] = []
        self.remarks: list[str] = []
        self.rows = 0
        self.unread = Unread(self.memory)
        self._state = state

    def remark(self, what: str, about: str = "") -> None:
        """Add a remark to the log; with `about`, only once per source."""
        odd, about = self.memory.get("odd", []), about[:100]
        place = odd.index(about) if about in odd else None
        if about and (place is None or place < len(odd) - REMARKED_KEPT // 2):
            # What still occurs is remembered: only subjects of which nothing was heard for long are forgotten.
            self.memory["odd"] = [*(each for each in odd if each != about), about][-REMARKED_KEPT:]
        if place is None:
            self.remarks.append(what)

    def begin(self, start: str | datetime, date: datetime | None, now: datetime) -> None:
        """Set `floor` at the source's first answer: nothing before it is reported; "" means no floor.

        `date` is the vendor's clock. With `start = "now"`, the floor is one minute before it, or before our
        clock if the vendor's is ahead of it, because such a floor would hide new events. Without `date`, the
        floor is one hour before our clock.
        """
        if "floor" in self.memory:
            return
        floor = start if isinstance(start, datetime) else None
        if start == "now":
            floor = min(date, now) - CLOCK_MARGIN if date else now - NO_CLOCK_MARGIN
        self.memory["floor"] = rfc3339(floor) if floor else ""

    def poll(self) -> Poll:
        """The poll with everything found since the previous one."""
        state = self._stored()
        if state != self._state:
            self._state = state
        poll = Poll(self._state, self.events, rows=self.rows, remarks=self.remarks, unread=self.unread.found)
        self.events, self.remarks, self.rows, self.unread = [], [], 0, Unread(self.memory)
        return poll

    def _stored(self) -> dict[str, Any]:
        """The state to store; it shares nothing that may change."""
        return _copy({key: value for key, value in self.memory.items() if value not in ({}, [], None)})

    def page(self, events: list[Event]) -> Poll:
        """A poll in the middle of a reading: some events, and the state as it was."""
        return Poll(self._state, events, rows=len(events))


def _copy(state: Mapping[str, Any]) -> dict[str, Any]:
    copy: dict[str, Any] = wire.decode(wire.encode(state))
    return copy
