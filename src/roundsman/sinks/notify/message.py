"""The message that is being sent. It stays the same until every service has taken it: otherwise those that have taken it
would get it again, longer each time, for as long as another one fails.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from roundsman.events import Event

About = Literal["events", "reminder"]


class Message(NamedTuple):
    """A message that not every service has taken yet."""

    about: About
    title: str
    body: str
    first: int | None
    """The number of its first event that is not acked; None if it has none."""
    last: int
    """The number of its last such event."""

    @classmethod
    def of(cls, about: About, title: str, body: str, events: Sequence[Event]) -> "Message":
        if not events:
            return cls(about, title, body, None, 0)
        return cls(about, title, body, events[0].seq, events[-1].seq)

    def split(self, events: Sequence[Event]) -> tuple[Sequence[Event], Sequence[Event]] | None:
        """Which of these events it is about, and which came later; None if it is about others: the sink was replayed."""
        if self.first is None:
            return [], events
        if not events or events[0].seq != self.first:
            return None
        return [e for e in events if e.seq <= self.last], [e for e in events if e.seq > self.last]
