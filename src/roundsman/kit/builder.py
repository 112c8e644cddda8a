"""A poll in the making: the state to be, what was found so far, and what was odd."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from roundsman import wire
from roundsman.events import Event
from roundsman.kit.unread import Unread
from roundsman.plugin import Poll, State
from roundsman.times import rfc3339

REMARKED_KEPT = 50
"""Oddities that are remembered as said, per source."""
CLOCK_MARGIN, NO_CLOCK_MARGIN = timedelta(minutes=1), timedelta(hours=1)
"""How long before now a first visit begins, with the vendor's clock and without."""


class PollBuilder:
    """What a visit works on. `memory` may be changed at will; what `poll` returned does not change any more."""

    def __init__(self, state: State) -> None:
        self.memory: dict[str, Any] = _copy(state)
        self.events: list[Event] = []
        self.remarks: list[str] = []
        self.rows = 0
        self.unread = Unread(self.memory)
        self._state = state

    def remark(self, what: str, about: str = "") -> None:
        """Have it said in the log; with `about`, once for good."""
        odd = self.memory.get("odd", [])
        if about[:100] in odd:
            return
        if about:
            self.memory["odd"] = [*odd, about[:100]][-REMARKED_KEPT:]
        self.remarks.append(what)

    def begin(self, start: str | datetime, date: datetime | None, now: datetime) -> None:
        """At the first answer of all: settle `floor`, the time before which nothing is told; "" for everything.

        `date` is the vendor's clock. With "now" that decides, a minute early; but not where it is ahead of ours, for then it
        would hide what is to come. Without one, ours has to do, an hour early.
        """
        if "floor" in self.memory:
            return
        floor = start if isinstance(start, datetime) else None
        if start == "now":
            floor = min(date, now) - CLOCK_MARGIN if date else now - NO_CLOCK_MARGIN
        self.memory["floor"] = rfc3339(floor) if floor else ""

    def poll(self, *, settled: bool = False) -> Poll:
        """What was found since the last one. `settled`: the memory's members are replaced and never changed, so no copy is needed."""
        memory = {key: value for key, value in self.memory.items() if value not in ({}, [], None)}
        if memory != self._state:
            self._state = memory if settled else _copy(memory)
        poll = Poll(self._state, self.events, rows=self.rows, remarks=self.remarks, unread=self.unread.found)
        self.events, self.remarks, self.rows, self.unread = [], [], 0, Unread(self.memory)
        return poll

    def page(self, events: list[Event]) -> Poll:
        """Some events on the way, with the memory as it was."""
        return Poll(self._state, events, rows=len(events))


def _copy(state: Mapping[str, Any]) -> dict[str, Any]:
    copy: dict[str, Any] = wire.decode(wire.encode(state))
    return copy
