"""The end of the log in memory: a sink without lag gets what was just committed, without a read of the store."""

import re
from collections.abc import Callable, Sequence
from fnmatch import translate

from roundsman.events import SUMMARY, Event, with_summary
from roundsman.store.values import Filter

ROWS, BYTES = 10_000, 4 * 2**20
"""Maximum events, and bytes of events, that are kept."""


ALARMING = frozenset({"failed", "partial"})
"""Outcomes that `Filter.for_people` selects."""


class Tail:
    """The last events of the log, with numbers that have no hole. Only committed ones are added."""

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._bytes = 0

    def add(self, source: str, events: Sequence[Event], last: int) -> None:
        """These events of a source were committed. `last`: the number of the last one."""
        first = last - len(events) + 1
        if any(b"\n" in event.body for event in events):
            return  # a plugin's event that is not one line of JSON: read back, it is found to be damaged
        if self._events and self._events[-1].seq != first - 1:
            self.clear()  # others were committed in between
        for seq, event in enumerate(events, first):
            body = event.body
            if SUMMARY not in body:  # a plugin made it itself
                body = with_summary(body, source)
            self._events.append(Event(event.id, source, event.type, event.outcome, body, seq))
            self._bytes += len(body)
        most = min(len(self._events), ROWS)
        gone = len(self._events) - most
        self._bytes -= sum(len(event.body) for event in self._events[:gone])
        while self._bytes > BYTES:
            self._bytes -= len(self._events[gone].body)
            gone += 1
        del self._events[:gone]

    def clear(self) -> None:
        """Forget the events: some of them may have been pruned."""
        self._events, self._bytes = [], 0

    def after(self, cursor: int, limit: int, wanted: Filter) -> tuple[list[Event], int] | None:
        """The next events for a sink, at most `limit`, and the last number here.

        None if the event after `cursor` is not here, or a glob has brackets: only SQLite compares as SQLite does.
        """
        if not self._events or not self._events[0].seq <= cursor + 1 <= self._events[-1].seq:
            return None
        *names, for_people = wanted
        if any("[" in each for option in names for each in option):
            return None
        begin, last = cursor + 1 - self._events[0].seq, self._events[-1].seq
        if not any(wanted):
            return self._events[begin : begin + limit], last
        type_, source, outcome = map(_matches, names)
        found: list[Event] = []
        for event in self._events[begin:]:
            if for_people and event.outcome not in ALARMING and not event.type.startswith("roundsman."):
                continue
            if type_(event.type) and source(event.source) and outcome(event.outcome):
                found.append(event)
                if len(found) == limit:
                    break
        return found, last


def _matches(wanted: Sequence[str]) -> Callable[[str | None], bool]:
    """Whether a value is one of these names, or matches one of these globs, which have no brackets."""
    globs = [each for each in wanted if set(each) & set("*?")]
    names = frozenset(wanted).difference(globs)
    patterns = [re.compile(translate(each)) for each in globs]
    return lambda value: (
        not wanted or (value is not None and (value in names or any(each.match(value) for each in patterns)))
    )
