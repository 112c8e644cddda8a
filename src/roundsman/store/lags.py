"""What waits for a sink, counted in parts that are kept.

It may be half a million events, and a filter may match few of them. So they are counted in parts of `PART` numbers, and
the parts are kept: the next count reads only what is new, and the part that the sink's cursor is in.
"""

import time
from collections.abc import Callable, Mapping

from roundsman.store.values import Filter, Lag

PART = 20_000
"""Numbers of the log in one part, which one statement counts: a statement keeps what was replaced meanwhile from being reused."""
PATIENCE = 2.0
"""Seconds after which no further part is counted; the next count continues there."""


class Part:
    """The events of a part of the log that match a filter."""

    __slots__ = ("begin", "count", "end", "oldest")

    def __init__(self, begin: int, end: int, count: int, oldest: float | None) -> None:
        self.begin, self.end = begin, end
        """The numbers after `begin`, up to `end`."""
        self.count = count
        self.oldest = oldest
        """When the first of them was logged (Unix)."""

    def extend(self, part: "Part") -> None:
        """Add the part that follows."""
        self.end = part.end
        self.count += part.count
        self.oldest = part.oldest if self.oldest is None else self.oldest


Look = Callable[[Filter, int, int], Part]
"""Counts the events of a part of the log: those that match, after the first number and up to the second one."""


class Waiting:
    """What waits for one sink, in parts that have no hole between them."""

    def __init__(self, wanted: Filter) -> None:
        self.wanted = wanted
        self._parts: list[Part] = []

    def count(self, look: Look, cursor: int, head: int, ends: float) -> Lag:
        """What waits after `cursor`; without a number of events if that is not known by `ends` (monotonic)."""
        parts = self._parts
        if parts and cursor < parts[0].begin:
            parts.clear()  # a replay
        parts[:] = [part for part in parts if part.end > cursor]
        if parts and parts[0].begin < cursor:
            parts[0] = look(self.wanted, cursor, parts[0].end)
        at = parts[-1].end if parts else cursor
        while at < head and time.monotonic() < ends:
            part = look(self.wanted, at, min(at + PART, head))
            if parts and part.end - parts[-1].begin <= PART:
                parts[-1].extend(part)
            else:
                parts.append(part)
            at = part.end
        oldest = next((part.oldest for part in parts if part.count), None)
        return Lag(sum(part.count for part in parts) if at >= head else None, oldest)


class Lags:
    """What waits for each sink."""

    def __init__(self) -> None:
        self._waiting: dict[str, Waiting] = {}

    def count(
        self, look: Look, sinks: Mapping[str, Filter], cursors: Mapping[str, int], head: int
    ) -> dict[str, Lag]:
        """What waits for these sinks (name -> filter)."""
        ends = time.monotonic() + PATIENCE
        kept, self._waiting = self._waiting, {}
        lags = {}
        for name, wanted in sinks.items():
            waiting = kept.get(name)
            if waiting is None or waiting.wanted != wanted:
                waiting = Waiting(wanted)
            self._waiting[name] = waiting
            lags[name] = waiting.count(look, cursors.get(name, 0), head, ends)
        return lags
