"""Reads a source, poll after poll, until nothing is left: the loop of every visit, committed or dry."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any, NamedTuple

from roundsman.engine.keeping import without
from roundsman.events import Event
from roundsman.http.client import Http
from roundsman.http.transport import Clients
from roundsman.legacy import VisitHttp, takes_a_visit
from roundsman.plugin import Poll, Source, State, Tracks, Trigger, Visit, knows_nothing
from roundsman.store import Memory, View

AHEAD = 2000
"""Rows that may wait to be committed while further ones are requested."""


class Step(NamedTuple):
    """One poll of a visit. The caller of `read` commits it before it requests the next one."""

    poll: Poll
    revision: int
    taken: int
    """The number of the last inbox id that the poll's state includes; 0 for none."""
    changed: bool
    """Whether the state has changed."""
    more: bool
    """Whether the visit continues: the source returned `more` and found something, and the vendor asked for no wait."""

    @property
    def quiet(self) -> bool:
        """Whether there is nothing to commit and nothing to log."""
        poll = self.poll
        return not (self.changed or poll.events or poll.remarks or poll.unread)


def visit_to(
    source: Source,
    clients: Clients,
    trigger: Trigger = "command",
    log: Callable[[Sequence[str]], Awaitable[set[str]]] = knows_nothing,
) -> Visit:
    """A visit to a source with its own credentials. `log` returns which event ids the log has."""
    http = Http(clients, source.auth(), source.identity(), source.concurrency, source.retry_timeouts)
    return Visit(http, trigger, log=log)


async def read(
    source: Source, visit: Visit, remembered: Callable[[], Awaitable[Memory]], *, chained: bool = False
) -> AsyncGenerator[Step, None]:
    """The polls of one visit. `remembered` is called before each call of `source.poll`.

    With `chained`, only before the first: a further one continues from the last poll's state, committed or not.

    They end if the vendor asks to wait, and after a poll that has `more` but neither events nor a new state:
    the next one would bring the same, without end.
    """
    more, memory = True, None
    while more:
        if memory is None or not chained:
            memory = await remembered()
        visit.ids = memory.ids
        state, taken, more, paged = memory.state, memory.taken, False, False
        if memory.ids and isinstance(source, Tracks):
            state = source.follow(memory.state, memory.ids)
        last = memory.state
        async with aclosing(polls(source, visit, state)) as found:
            async for poll in found:
                same = (poll.state is last or poll.state == last) and not taken
                # Of several pages, only a new state counts: their events are in the log by now.
                new = poll.state != memory.state if paged else not same or await _has_new(visit, poll)
                paged = paged or poll.page
                more = poll.more and new and not visit.wait
                yield Step(poll, memory.revision, taken, not same, more)
                last, taken = poll.state, 0
                await asyncio.sleep(0)  # a backlog must not delay other tasks
        memory = memory._replace(state=last, ids=(), taken=0)


async def ahead(steps: AsyncGenerator[Step, None]) -> AsyncGenerator[Step, None]:
    """The same steps. Once there are several, the next ones are requested while the caller commits the last one.

    Steps that wait for the caller become one, so that a backlog is written in few large transactions.
    """
    async with aclosing(steps):
        first = await anext(steps, None)
        if first is None:
            return
        yield first
        if not first.more:
            async for step in steps:
                yield step
            return
        line = _Line()
        task = asyncio.create_task(line.fill(steps))
        try:
            while (waiting := await line.take()) is not None:
                yield waiting
            await task  # raises what ended the steps
        finally:
            task.cancel()
            await asyncio.wait([task])


class _Line:
    """Steps between the task that requests them and the one that commits them."""

    def __init__(self) -> None:
        self._steps: list[Step] = []
        self._ended = False
        self._filled, self._taken = asyncio.Event(), asyncio.Event()

    async def fill(self, steps: AsyncGenerator[Step, None]) -> None:
        """Add steps to the end; wait while `AHEAD` rows are not taken."""
        try:
            async for step in steps:
                self._steps.append(step)
                self._filled.set()
                while sum(each.poll.rows for each in self._steps) >= AHEAD:
                    self._taken.clear()
                    await self._taken.wait()
        finally:
            self._ended = True
            self._filled.set()

    async def take(self) -> Step | None:
        """All steps that wait, as one; None at the end."""
        while not self._steps and not self._ended:
            self._filled.clear()
            await self._filled.wait()
        steps, self._steps = self._steps, []
        self._taken.set()
        return _joined(steps) if steps else None


def _joined(steps: Sequence[Step]) -> Step:
    """One step that has what these have found, one after the other."""
    if len(steps) == 1:
        return steps[0]
    polls = [step.poll for step in steps]
    poll = replace(
        polls[-1],
        events=[event for poll in polls for event in poll.events],
        rows=sum(poll.rows for poll in polls),
        remarks=[remark for poll in polls for remark in poll.remarks],
        unread=[damage for poll in polls for damage in poll.unread],
    )
    last = steps[-1]
    return Step(poll, last.revision, max(s.taken for s in steps), any(s.changed for s in steps), last.more)


async def _has_new(visit: Visit, poll: Poll) -> bool:
    """Whether a poll that goes on without a new state has events that the log has not: else it would never end."""
    if not poll.more or not poll.events:
        return False
    known = await visit.log(
        [key for event in poll.events for key in (event.id, event.unless) if key is not None]
    )
    return any(event.id not in known and event.unless not in known for event in poll.events)


async def polls(source: Source, visit: Visit, state: State) -> AsyncGenerator[Poll, None]:
    """The polls of one call of `source.poll`.

    Each yielded one gets `more`, and a last one without events ends the visit.
    """
    given: Any = visit
    if not takes_a_visit(type(source)):  # as it was before 0.6; the same one in each call of a visit
        given = visit.http = visit.http if isinstance(visit.http, VisitHttp) else VisitHttp(visit)
    found = source.poll(given, state)
    if isinstance(found, Awaitable):
        yield await without(source, _checked(await found))
        return
    if not isinstance(found, AsyncIterator):
        raise TypeError(f"poll() must be `async def`; it returned a {type(found).__name__}")
    last = Poll(state)
    async with aclosing(found) as yielded:  # type: ignore[type-var] # an async generator, in practice
        async for poll in yielded:
            last = await without(source, _checked(poll))
            yield replace(last, more=True, page=True)
    yield Poll(last.state, more=last.more)


def _checked(poll: object) -> Poll:
    if not isinstance(poll, Poll):
        raise TypeError(f"poll() must return or yield a Poll, not {type(poll).__name__}")
    return poll


class Dry:
    """A dry visit, which shows what a visit would find, from the stored state or none. It writes nothing."""

    def __init__(self, name: str = "", view: View | None = None, state: State | None = None) -> None:
        self._name, self._view = name, view
        self._seen: set[str] = set()
        """Ids of the last page, because pages overlap. Only one page is kept, to limit memory."""
        self._next = Memory(state) if state is not None else None

    async def known(self, ids: Sequence[str]) -> set[str]:
        """Which of these event ids the log has, or would have by the last poll."""
        there = await self._view.known(self._name, ids) if self._view is not None else set()
        return there | self._seen.intersection(ids)

    async def remembered(self) -> Memory:
        if self._next is None:
            self._next = await self._view.memory(self._name) if self._view is not None else Memory({})
        return self._next

    async def keep(self, step: Step) -> list[Event]:
        """Continue from this step. Returns the events that a commit would have added to the log."""
        ids = [event.id for event in step.poll.events]
        there = await self.known(ids)
        self._seen = set(ids)
        self._next = Memory(step.poll.state)
        return [event for event in step.poll.events if event.id not in there]
