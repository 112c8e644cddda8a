"""Deliveries to a sink through the daemon's own loop, and what is promised of every sink, as a test."""

import asyncio
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from roundsman.engine.alarms import Scheduler
from roundsman.engine.clock import Clock
from roundsman.engine.engine import Engine
from roundsman.events import Event
from roundsman.http.client import Http
from roundsman.plugin import Deliver, Receipt, Sink, Waiting
from roundsman.store import Filter, Store, open_store
from roundsman.testing.clock import Time
from roundsman.testing.faults import FOREVER, NO_ANSWERS, Fault, faulty
from roundsman.testing.promises import Broken, Secrets, broken, few, state_is_json
from roundsman.testing.visits import fresh, run
from roundsman.testing.web import Reply, Request, Web

MANY = 5
"""Events of one trial."""
REFUSAL = 422
"""A status by which a receiver refuses an event for good."""


@dataclass
class Delivered:
    """The result of a delivery."""

    acked: list[Event] = field(default_factory=list)
    """What the sink took, in this order."""
    buried: dict[str, str] = field(default_factory=dict)
    """What it refused for good: id -> why."""
    receipt: Receipt | None = None
    """What the place is opened with next time."""
    error: Exception | None = None
    """What ended it; the daemon then opens the place again, and delivers again what was not acked."""
    requests: list[Request] = field(default_factory=list)
    """Those of this delivery, retries included."""


def deliver(
    sink: Sink, events: Sequence[Event], web: Web | None = None, *, receipt: Receipt | None = None
) -> Delivered:
    """Open the sink with this receipt and give it these events, as the daemon does, until it raises."""
    with Outbox.opened(sink, receipt) as outbox:
        outbox.append(events)
        return outbox.deliver(web or Web({}))


class Outbox:
    """A log in a store of its own, for one sink."""

    def __init__(self, sink: Sink, store: Store) -> None:
        self.sink = sink
        self.time = Time()
        self._store = store
        self._kind = {sink.name: sink.type}

    @classmethod
    @contextmanager
    def opened(cls, sink: Sink, receipt: Receipt | None = None) -> "Iterator[Outbox]":
        sink = sink if sink.name else fresh(sink)
        with tempfile.TemporaryDirectory() as folder:
            store = run(lambda: open_store(Path(folder) / "roundsman.db"))
            run(lambda: store.register({}, {sink.name: sink.type}))
            if receipt is not None:
                run(lambda: store.ack(sink.name, 0, 0, receipt, 0.0))
            try:
                yield cls(sink, store)
            finally:
                run(store.close)

    def append(self, events: Sequence[Event]) -> None:
        """Add these events to the log."""

        async def add() -> None:
            for event in events:
                await self._store.register({event.source: "testing"}, self._kind)
                await self._store.append_notices(event.source, [event], self.time.now())

        run(add)

    def deliver(self, web: Web, on_ack: Callable[[Sequence[Event]], None] = lambda _: None) -> Delivered:
        """Deliver what is not acked yet. `on_ack` is called before an ack counts."""
        return run(lambda: self._deliver(Observed(self.sink, on_ack), web))

    async def _deliver(self, observed: "Observed", web: Web) -> Delivered:
        store, name = self._store, self.sink.name
        seen, (before, _) = len(web.requests), await store.cursor(name)
        await self._once(observed, web)
        cursor, receipt = await store.cursor(name)
        buried = {str(each.id): each.reason for each in await store.dead(name) if each.seq > before}
        there = [event for event, _ in await store.events(before, cursor, 10**6, Filter())]
        acked = [event for event in there if event.id in observed.acked]
        return Delivered(acked, buried, receipt, observed.error, web.requests[seen:])

    async def _once(self, observed: "Observed", web: Web) -> None:
        clock = Clock(self.time.now, lambda: self.time.ticks, self.time.sleep, lambda: 0.0)
        engine = Engine(self._store, Scheduler(), web.clients(), clock=clock)
        sinks: dict[str, Any] = {self.sink.name: observed}
        await engine.setup({}, sinks)
        await engine.deliveries.once()
        await engine.aclose()


class Observed:
    """The sink, and the error that it raised: the daemon keeps only its text."""

    def __init__(self, sink: Sink, on_ack: Callable[[Sequence[Event]], None]) -> None:
        self.error: Exception | None = None
        self.acked: set[str] = set()
        self._sink = sink
        self._on_ack = on_ack

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sink, name)

    @asynccontextmanager
    async def open(self, http: Http, receipt: Receipt | None) -> AsyncIterator[Deliver]:
        async def deliver(events: Sequence[Event]) -> Receipt | Waiting | None:
            result = await _named(inner(events))
            receipt = result.receipt if isinstance(result, Waiting) else result
            if receipt is not None:
                state_is_json(receipt, "receipt")
            self._on_ack(events)
            self.acked |= {event.id for event in events}
            return result

        try:
            async with self._sink.open(http, receipt) as inner:
                yield deliver
        except Exception as exc:
            self.error = exc
            raise


async def _named(delivery: Awaitable[Receipt | Waiting | None]) -> Receipt | Waiting | None:
    """A delivery; an error that would end more than the delivery is named."""
    try:
        return await delivery
    except (SystemExit, asyncio.CancelledError) as exc:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        what = f"it raised {type(exc).__name__} ({exc})"
        raise Broken(f"a sink raises Reject, Backoff or an error that is retried, but {what}") from exc


NO_ACKS = tuple(
    fault
    for fault in NO_ANSWERS
    if fault.what in {"a 500", "a 429", "a 401", "a broken connection", "a request without an answer"}
)


def sink_contract(sink: Sink, received: Callable[[], Iterable[str]], web: Web | None = None) -> None:
    """Keep every promise of a sink, or raise AssertionError with the one that it breaks, in a sentence.

    `received` returns the ids of the events that the place has, in the order in which they came. `web` is the
    receiver, if the sink delivers by `http`. The place is filled by this; it is one for the test alone.
    """
    hidden = Secrets(sink)
    hidden.keep_out(f"{sink!r} {sink.place()} {list(sink.warnings())}", "its place, warnings or repr")
    with Outbox.opened(fresh(sink)) as outbox:
        trial = SinkTrial(outbox, received, web or Web({}), hidden)
        trial.arrives()
        trial.again()
        if web is not None:
            requests = trial.arrives()
            for fault in NO_ACKS:
                trial.fails(fault, Web(partial(_spoilt, fault)))
                for number in range(requests):
                    wrong = range(number, FOREVER.stop)
                    trial.fails(fault, faulty(web, outbox.time, wrong, fault.spoil))
            trial.buries()


def _spoilt(fault: Fault, request: Request) -> Any:
    """The answer of a receiver that does not get the request."""
    return fault.spoil(request, Reply())


class SinkTrial:
    """Deliveries to one place."""

    def __init__(
        self, outbox: Outbox, received: Callable[[], Iterable[str]], web: Web, hidden: Secrets
    ) -> None:
        self.outbox, self.web = outbox, web
        self._received, self._hidden = received, hidden
        self._count = 0

    def arrives(self) -> int:
        """Events that are delivered arrive. Returns how many requests that took."""
        ids = self._append()
        requests = len(self._delivered(ids, "").requests)
        twice = [each for each, times in Counter(self._received()).items() if each in ids and times > 1]
        if twice:
            broken(
                "what is acked is not delivered again", f"{few(twice)} came twice although nothing is wrong"
            )
        return requests

    def again(self) -> None:
        """Killed between a delivery and its ack, it is opened with the receipt before, and gets all again."""
        ids = self._append()
        receipt = self._delivered([], "").receipt
        with Outbox.opened(fresh(self.outbox.sink), receipt) as outbox:
            outbox.append(self._events(self._count - MANY, self._count))
            again = outbox.deliver(self.web.again(outbox.time))
        if again.error is not None:
            self._raise(again.error, "when it gets events that it has already")
        self._arrived(ids, "when they are delivered twice")

    def fails(self, fault: Fault, web: Web) -> None:
        """A delivery fails, and is made again."""
        ids = self._append()
        found = self._deliver(web)
        self._hidden.keep_out_of_errors(found.error)
        self._delivered(ids, f" after {fault.what}")

    def buries(self) -> None:
        """One event is refused, and the others are delivered."""
        ids = self._append()
        bad, receiver = ids[MANY // 2], self.web.again(self.outbox.time)

        async def answer(request: Request) -> Any:
            said = f"{request.url} {dict(request.headers)}".encode() + request.body
            return REFUSAL if bad.encode() in said else await receiver.reply(request)

        found = self._deliver(Web(answer, time=self.outbox.time))
        promise = "an event that is refused for good is buried, and holds up no other"
        if found.error is not None:
            broken(promise, f"{type(found.error).__name__} ({found.error}) is raised for it and not Reject")
        if list(found.buried) != [bad]:
            broken(promise, f"there is buried {few(found.buried) or 'none'}")
        self._arrived([each for each in ids if each != bad], "beside one that is refused")

    def _append(self) -> list[str]:
        events = self._events(self._count, self._count + MANY)
        self._count += MANY
        self.outbox.append(events)
        return [event.id for event in events]

    def _events(self, first: int, end: int) -> list[Event]:
        return [
            Event.of(
                vendor="testing",
                source="testing",
                type="com.example.thing.created",
                id=f"testing-{number:05d}",
                time="2026-05-01T06:00:00Z",
                data={"raw": {"number": number}},
            )
            for number in range(first, end)
        ]

    def _deliver(self, web: Web) -> Delivered:
        """One delivery by a new instance, as after a restart."""
        self.outbox.sink = fresh(self.outbox.sink)
        self.outbox.time.advance(600.0)
        found = self.outbox.deliver(web, self._acked)
        if isinstance(found.error, Broken):
            raise found.error
        self._hidden.keep_out(str(found.receipt), "the receipt")
        return found

    def _acked(self, events: Sequence[Event]) -> None:
        self._arrived([event.id for event in events], "when its delivery returns")

    def _delivered(self, ids: Sequence[str], when: str) -> Delivered:
        """A delivery to a place that is right again."""
        found = self._deliver(self.web.again(self.outbox.time))
        if found.error is not None:
            self._raise(found.error, f"although nothing is wrong{when}")
        if found.buried:
            broken(
                "only what is refused for good is buried",
                f"{few(found.buried)} is{when} ({few(found.buried.values())})",
            )
        self._arrived(ids, f"in the end{when}")
        return found

    def _raise(self, exc: Exception, when: str) -> None:
        self._hidden.keep_out_of_errors(exc)
        raise Broken(f"a place takes its events, but {type(exc).__name__} ({exc}) is raised {when}") from exc

    def _arrived(self, ids: Sequence[str], when: str) -> None:
        place = list(dict.fromkeys(self._received()))
        missing = set(ids) - set(place)
        if missing:
            broken("what a sink acks has arrived", f"{few(missing)} is not there {when}")
        if [each for each in place if each in set(ids)] != list(ids):
            broken("events arrive in the order of the log", f"{few(ids)} did not {when}")
