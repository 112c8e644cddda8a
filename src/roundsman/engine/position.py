"""The position of a sink during a delivery: a sink in the database of the store moves it in the transaction of its rows."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from roundsman.errors import Reject, reason
from roundsman.events import Event
from roundsman.store import Joint, Step


class Position:
    """What the sink is given: the position that the delivery under way moves to."""

    def __init__(self, joint: Joint | None, sink: str, now: Callable[[], float]) -> None:
        self._joint, self._sink, self._now = joint, sink, now
        self._step = Step(sink, 0, 0)
        self._buried: list[tuple[Event, str]] = []
        self._events: Sequence[Event] = ()
        self.moved = False
        """Whether the sink has moved it in this delivery. The delivery then returns only if that was committed."""

    def expect(self, was: int, events: Sequence[Event], *, retried: bool = False) -> None:
        """These events are delivered next, from this cursor on; or one dead letter is `retried`."""
        cursor = events[-1].seq if events and not retried else was
        self._step = Step(self._sink, was, cursor, events[0].seq if retried else None)
        self._events = events
        self.moved = False

    @property
    def buried(self) -> Sequence[tuple[Event, str]]:
        """The events that the delivery has made dead letters, and why."""
        return self._buried if self.moved else ()

    async def is_here(self, connection: Any) -> bool:
        """Whether this connection of a sink is one to the database of the store."""
        return self._joint is not None and await self._joint.is_here(connection)

    async def move(self, connection: Any, refused: Mapping[int, str]) -> None:
        """Move it in the transaction of this connection. `refused`: events that become dead letters, by their number."""
        assert self._joint is not None
        why = [(seq, reason(Reject(words))) for seq, words in refused.items()]
        await self._joint.move(connection, self._step._replace(refused=why), self._now())
        given = {event.seq: event for event in self._events} if why else {}
        self._buried = [(given[seq], words) for seq, words in why]
        self.moved = True
