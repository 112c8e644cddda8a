"""Visits to a source, through the daemon's own loop, with a log in memory."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, TypeVar

from structlog.testing import capture_logs

from roundsman import store, wire
from roundsman.engine.reading import Step, read, visit_to
from roundsman.errors import Unreadable
from roundsman.events import Event
from roundsman.plugin import Plugin, Poll, Source, State, Trigger
from roundsman.testing.promises import broken
from roundsman.testing.web import Request, Web
from roundsman.wire import Damage

LIMIT = 30.0
"""Seconds (of real time) after which a visit or a delivery counts as endless."""
ENDLESS = 1000
"""Polls of one visit after which it counts as endless."""
T = TypeVar("T")
P = TypeVar("P", bound=Plugin)


@dataclass
class Visited:
    """What one visit found, as the daemon commits it."""

    state: State
    """What the next visit begins with."""
    polls: list[Poll] = field(default_factory=list)
    """As the source returned or yielded them."""
    events: list[Event] = field(default_factory=list)
    """The new ones, in the order of the log: an id that is known is left out."""
    remarks: list[str] = field(default_factory=list)
    unread: list[Damage] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    """Those of this visit, retries included."""
    wait: float = 0.0
    """Seconds that the vendor asked to wait; 0 if it did not."""


def visit(
    source: Source,
    web: Web,
    state: State | None = None,
    *,
    known: set[str] | None = None,
    trigger: Trigger = "due",
    ids: Sequence[str] = (),
) -> Visited:
    """Make one visit, poll after poll until nothing is left. Raises what the source raises.

    `state` is that of the visit before, `{}` if there was none. `known` has the ids of the events that the log
    has; those of the new ones are added to it, so that one set can serve several visits. `ids` are those that a
    webhook or `roundsman track` named.
    """
    memory = Memory(state or {}, () if known is None else known, ids)
    seen = len(web.requests)
    found = run(lambda: make(source, web, memory, Made(trigger)))
    if known is not None:
        known |= memory.ids
    visited = Visited(memory.state, requests=web.requests[seen:], events=memory.events, wait=found.wait)
    for step in found.steps:
        visited.polls.append(step.poll)
        visited.remarks += step.poll.remarks
        visited.unread += step.poll.unread
    return visited


class Memory:
    """What the store remembers of one source: its state and the ids of its events."""

    def __init__(self, state: State, ids: Iterable[str] = (), inbox: Sequence[str] = ()) -> None:
        self.state: State = copy(state)
        self.ids = set(ids)
        self.events: list[Event] = []
        self.unread: list[Damage] = []
        self.inbox = inbox
        self.lent: list[tuple[State, State]] = []
        """The states that were given to the source, and a copy of each."""

    def again(self) -> "Memory":
        """A copy, to begin from the same place."""
        memory = Memory(self.state, self.ids, self.inbox)
        memory.unread = [*self.unread]
        return memory

    async def remembered(self) -> store.Memory:
        lent = copy(self.state)
        self.lent.append((lent, copy(lent)))
        return store.Memory(lent, 0, self.inbox, len(self.inbox))

    async def known(self, ids: Sequence[str]) -> set[str]:
        return self.ids.intersection(ids)

    def commit(self, step: Step) -> None:
        """Take over a poll: its state, and the events that are not known."""
        if step.quiet:
            return
        self.state = copy(step.poll.state)
        if step.taken:
            self.inbox = ()
        for event in step.poll.events:
            if not self.ids.intersection({event.id, event.unless}):
                self.ids.add(event.id)
                self.events.append(event)
        self.unread += step.poll.unread


@dataclass
class Made:
    """The trigger of a visit, and its steps, complete or not."""

    trigger: Trigger = "due"
    stop: int = ENDLESS
    """It ends after so many polls."""
    steps: list[Step] = field(default_factory=list)
    states: list[State] = field(default_factory=list)
    """The state of each, as it was when it came."""
    wait: float = 0.0
    """Seconds that the vendor asked to wait."""


async def make(source: Source, web: Web, memory: Memory, made: Made) -> Made:
    """One visit. What was committed before an error is in `memory` and in `made`."""
    clients = web.clients()
    visit = visit_to(source, clients, made.trigger, memory.known)
    try:
        async with aclosing(read(source, visit, memory.remembered)) as steps:
            async for step in steps:
                memory.commit(step)
                made.steps.append(step)
                made.states.append(copy(step.poll.state))
                if len(made.steps) == ENDLESS:
                    broken("a visit comes to an end", f"this one has {ENDLESS} polls")
                if len(made.steps) == made.stop:
                    break
    finally:
        made.wait = visit.wait
        await clients.aclose()
    return made


def run(coroutine: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """The result of a coroutine in an event loop of its own, without log lines on the terminal.

    Broken if it takes longer than `LIMIT`. A loop without an `await` cannot be ended from here.
    """

    async def limited() -> T:
        limit = asyncio.timeout(LIMIT)
        try:
            async with limit:
                return await coroutine()
        except TimeoutError:
            if limit.expired():
                broken("a visit or a delivery comes to an end", f"this one has not after {LIMIT:g} seconds")
            raise

    with capture_logs():
        return asyncio.run(limited())


def copy(state: State) -> State:
    """The state as the store gives it back. A state that is no JSON stays what it is, for `contract` to name."""
    try:
        stored: State = wire.decode(wire.encode(state))
    except (TypeError, ValueError, OverflowError, RecursionError, Unreadable):
        return state
    return stored


def fresh(plugin: P) -> P:
    """The same options in a new instance, as after a restart."""
    fields = type(plugin).model_fields
    given = {fields[name].alias or name: getattr(plugin, name) for name in plugin.model_fields_set}
    return type(plugin)(**given).named(plugin.name or "testing")
