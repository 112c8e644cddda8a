"""A worker in this process that can be killed, or stopped at any of its steps, and what it does is noted."""

import asyncio
from collections.abc import Awaitable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar, copy_context
from typing import Any, Literal, Protocol, TypeVar

import httpx

from inside import visit_for_a_ring
from postgres import Postgres, Wire
from roundsman.engine.engine import Engine
from roundsman.engine.fleet import Fleet
from roundsman.errors import StoreError
from roundsman.events import Event
from roundsman.http.transport import Clients, HttpOptions
from roundsman.plugin import Sink, Source
from roundsman.sandbox import Parakey
from roundsman.store import Server
from roundsman.store.postgres.store import PostgresStore
from roundsman.web.app import app
from worlds import ByHand, Straight, Time

T = TypeVar("T")
OWNER: ContextVar["Worker"] = ContextVar("owner")
"""The worker whose task runs."""


class Surroundings(Protocol):
    """What is around a worker, and what is noted about it."""

    server: Postgres
    url: str
    time: Time
    vendors: dict[str, Parakey]
    workers: "list[Worker]"
    wrong: list[str]
    """What must not happen, and did."""
    fails: int
    """How often the sink "shaky" fails next."""
    got: dict[str, list[int]]
    """By sink, the numbers of the events that it got."""
    acked: dict[str, int]
    """By sink, how far it has acknowledged."""

    def sources(self) -> dict[str, Source]: ...
    def sinks(self) -> dict[str, Sink]: ...


class Kept(Sink):
    """Keeps the numbers of what it was given; "shaky" fails now and then."""

    type: Literal["kept"] = "kept"

    @asynccontextmanager
    async def open(self, http: Any, receipt: Any) -> Any:
        async def deliver(events: Sequence[Event]) -> None:
            worker = OWNER.get()
            await worker.deliver(self.name, [event.seq for event in events])

        yield deliver


class Watched(PostgresStore):
    """A store whose process can be stopped before any write, and that says which writes had an effect."""

    async def commit(self, name: str, *args: Any, **options: Any) -> Any:
        return await OWNER.get().write(f"commit of {name}", super().commit(name, *args, **options), name)

    async def receive(self, *args: Any, **options: Any) -> Any:
        return await OWNER.get().write("receive", super().receive(*args, **options))

    async def begin(self, visits: Any) -> None:
        await OWNER.get().write("begin", super().begin(visits))

    async def ack(self, name: str, was: int, cursor: int, *args: Any, **options: Any) -> None:
        worker = OWNER.get()
        await worker.write("ack", super().ack(name, was, cursor, *args, **options))
        worker.world.acked[name] = max(worker.world.acked[name], cursor)


class Net(httpx.AsyncBaseTransport):
    """From the request to the vendor's answer; the process can be stopped before and after."""

    def __init__(self, vendors: dict[str, Parakey]) -> None:
        self._straight = {host: Straight(vendor) for host, vendor in vendors.items()}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await OWNER.get().gate()
        response = await self._straight[request.url.host].handle_async_request(request)
        await OWNER.get().gate()
        return response


class Worker:
    """A worker in this process, with a connection to the server that can be cut or stopped."""

    def __init__(self, world: Surroundings, name: str) -> None:
        self.world, self.name = world, name
        self.engine: Engine | None = None
        self.over = False
        """Whether another worker has ended its session."""
        self.left: int | None = None
        """At which step it stops."""
        self.stopped, self.goes = asyncio.Event(), asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._context = copy_context()
        self._context.run(OWNER.set, self)

    def do(self, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        """Work of this process."""
        task = asyncio.get_running_loop().create_task(work, context=self._context.copy())
        self.own(task)
        return task

    def own(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def boot(self) -> None:
        self.over, self.left = False, None
        self.stopped, self.goes = asyncio.Event(), asyncio.Event()
        self.wire = await Wire(self.world.server.port).__aenter__()
        await self.do(self._boot())

    async def _boot(self) -> None:
        url = self.world.url.replace(f":{self.world.server.port}/", f":{self.wire.port}/")
        store = await Watched.open(Server(url), worker=self.name)
        self.store = store
        time = self.world.time
        web = Clients(
            HttpOptions(attempts=2),
            now=time.now,
            sleep=time.sleep,
            transport=lambda _: Net(self.world.vendors),
        )
        engine = Engine(store, ByHand(), web, clock=time.clock())
        engine.join(self.name)
        engine.listening = time.now()
        await engine.setup(self.world.sources(), self.world.sinks())
        self.engine = engine
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(app(engine)))

    @property
    def fleet(self) -> Fleet:
        assert self.engine is not None
        assert self.engine.fleet is not None
        return self.engine.fleet

    @property
    def roster(self) -> list[str]:
        """The sources that it visits."""
        return list(self.engine.roster) if self.engine is not None else []

    # -- its steps -----------------------------------------------------------------------------------------------------

    async def gate(self) -> None:
        """A step at which it may be stopped."""
        if self.left is None:
            return
        self.left -= 1
        if self.left < 0:
            self.left = None
            self.stopped.set()
            await self.goes.wait()

    async def write(self, what: str, work: Awaitable[T], name: str = "") -> T:
        try:
            await self.gate()
        except BaseException:
            work.close()  # type: ignore[attr-defined] # it is a coroutine
            raise
        over = self.over
        done = await work
        if over:
            self.world.wrong.append(f"{what} by {self.name}, whose session was ended")
        for other in self.world.workers:
            if other is not self and not (over or other.over) and name in other.roster:
                self.world.wrong.append(f"{what} by {self.name}, and {other.name} holds it")
        return done

    async def deliver(self, sink: str, numbers: list[int]) -> None:
        again = [number for number in numbers if number <= self.world.acked[sink]]
        if again:
            self.world.wrong.append(f"{sink} got {again} after it had acknowledged them")
        await self.gate()
        if sink == "shaky" and self.world.fails:
            self.world.fails -= 1
            raise OSError("the receiver is down")
        self.world.got[sink] += numbers
        await self.gate()

    # -- what it does --------------------------------------------------------------------------------------------------

    async def round(self) -> None:
        """Visit what is due or rang, and deliver."""
        assert self.engine is not None
        with suppress(StoreError):
            for name, watched in list(self.engine.roster.items()):
                if watched.status.ring_at is not None or watched.ring_pending:
                    await visit_for_a_ring(self.engine, name)
            await self.engine.once()

    async def beat(self) -> None:
        with suppress(StoreError):
            await self.fleet.beat()

    async def reload(self) -> bool:
        """Take over the configuration. Returns whether the store took it: its connection may have been cut."""
        assert self.engine is not None
        try:
            await self.engine.setup(self.world.sources(), self.world.sinks())
        except StoreError:
            return False
        return True

    async def kill(self) -> None:
        """As by `kill -9`: the server sees its connections end, and nothing is written any more."""
        await self.wire.__aexit__()
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks)
        if self.engine is not None:
            self.engine = None
            await self.store.close()  # in memory; it does not reach the server

    async def leave(self) -> None:
        """As the service: orderly, or after its session was ended."""
        assert self.engine is not None
        self.engine = None
        await self.do(self.store.close())
        await self.wire.__aexit__()


def owned(loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> "asyncio.Task[Any]":
    """A factory of tasks: each belongs to the worker whose task made it, and ends with it."""
    task = asyncio.Task(work, loop=loop, **options)
    owner = OWNER.get(None)
    if owner is not None:
        owner.own(task)
    return task
