"""Reading a source: poll after poll, until nothing is left. The one loop of every visit, committed or dry."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import NamedTuple

from roundsman.events import Event
from roundsman.http.client import Http
from roundsman.http.transport import Clients
from roundsman.legacy import VisitHttp, takes_a_visit
from roundsman.plugin import Poll, Source, State, Tracks, Trigger, Visit
from roundsman.store import Reader


class Remembered(NamedTuple):
    """What a source remembers, and what waits for it."""

    state: State
    revision: int = 0
    """Moved by a rewind: what is based on another revision is void."""
    ids: Sequence[str] = ()
    """Ids to track that no visit has taken up yet."""
    taken: int = 0
    """The inbox number of the last of them."""


class Step(NamedTuple):
    """One poll of a visit. Whoever reads commits it before asking for the next."""

    poll: Poll
    revision: int
    taken: int
    """The last inbox number that the poll's state takes up."""
    changed: bool
    """Whether the state is another one."""
    more: bool
    """Whether the visit goes on: the source says `more`, it brought something, and the vendor wants no rest."""

    @property
    def quiet(self) -> bool:
        """Whether there is nothing to commit and nothing to say."""
        poll = self.poll
        return not (self.changed or poll.events or poll.remarks or poll.unread)


def visit_to(
    source: Source,
    clients: Clients,
    trigger: Trigger = "command",
    log: Callable[[Sequence[str]], set[str]] = lambda _: set(),
) -> Visit:
    """A visit to a source with its own credentials. `log`: which event ids the log has."""
    http = Http(clients, source.auth(), source.identity(), source.concurrency, source.retry_timeouts)
    return Visit(http, trigger, log=log)


async def read(
    source: Source, visit: Visit, remembered: Callable[[], Remembered]
) -> AsyncGenerator[Step, None]:
    """The polls of one visit. `remembered` is called before each call of `source.poll`.

    Ends where the vendor asked for time, and where a poll that says `more` brought neither events nor a new state: another
    one would bring the same, without end.
    """
    more = True
    while more:
        memory = remembered()
        visit.ids = memory.ids
        state, taken, more, brought = memory.state, memory.taken, False, False
        if memory.ids and isinstance(source, Tracks):
            state = source.follow(memory.state, memory.ids)
        last = memory.state
        async with aclosing(polls(source, visit, state)) as found:
            async for poll in found:
                same = (poll.state is last or poll.state == last) and not taken
                brought = brought or bool(poll.events) or not same
                more = poll.more and brought and not visit.wait
                yield Step(poll, memory.revision, taken, not same, more)
                last, taken = poll.state, 0
                await asyncio.sleep(0)  # a backlog must not keep the others waiting


async def polls(source: Source, visit: Visit, state: State) -> AsyncGenerator[Poll, None]:
    """One call of `source.poll`, as the polls it gives. Of several, each says `more`; the last one settles the visit."""
    if takes_a_visit(type(source)):
        found = source.poll(visit, state)
    else:
        found = source.poll(VisitHttp(visit), state)  # type: ignore[arg-type] # as it was before 0.6
    if isinstance(found, Awaitable):
        yield _checked(await found)
        return
    last = Poll(state)
    async with aclosing(found) as yielded:  # type: ignore[type-var] # an async generator, in practice
        async for poll in yielded:
            last = _checked(poll)
            yield replace(last, more=True, page=True)
    yield Poll(last.state, more=last.more)


def _checked(poll: object) -> Poll:
    if not isinstance(poll, Poll):
        raise TypeError(f"poll() must return or yield a Poll, not {type(poll).__name__}")
    return poll


class Dry:
    """A visit's memory that is never written: what a visit would find, from the store's state or from none."""

    def __init__(self, name: str = "", reader: Reader | None = None, state: State | None = None) -> None:
        self._name, self._reader = name, reader
        self._seen: set[str] = set()
        """Ids of the last page: pages overlap, and memory is bounded by a page."""
        self._next = Remembered(state or {})
        if reader is not None:
            stored, revision = reader.state(name)
            self._next = Remembered(stored, revision, *reader.inbox(name))

    def known(self, ids: Sequence[str]) -> set[str]:
        """Which of these event ids the log has."""
        return self._reader.known(self._name, ids) if self._reader is not None else set()

    def remembered(self) -> Remembered:
        return self._next

    def keep(self, step: Step) -> list[Event]:
        """Go on from this step; the events that a commit would have added to the log."""
        ids = [event.id for event in step.poll.events]
        there = self.known(ids) | self._seen
        self._seen = set(ids)
        self._next = Remembered(step.poll.state)
        return [event for event in step.poll.events if event.id not in there]
