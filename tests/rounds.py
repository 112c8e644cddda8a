"""One source, one recorder, a clock by hand: what most tests of a source or of the engine want."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

from inside import Status, done, seen, started, status
from roundsman.engine.engine import Engine
from roundsman.events import Event
from roundsman.plugin import Sink, Source, State, Visit
from roundsman.sandbox import Vendor
from roundsman.store import Filter
from roundsman.store.sqlite.store import SqliteStore
from worlds import ByHand, Recorder, Straight, Time, event_logs, web_of


class Scripted(Source):
    """Does what the test says, by name; at once, or page by page."""

    type: Literal["scripted"] = "scripted"
    base_url: str = "http://127.0.0.1:1"

    def poll(self, visit: Visit, state: State) -> Any:
        return SCRIPTS[self.name](visit, state)

    @classmethod
    def follow(cls, state: State, ids: Sequence[str]) -> State:
        return {**state, "ids": [*state.get("ids", ()), *ids]}


SCRIPTS: dict[str, Any] = {}


@asynccontextmanager
async def running(engine: Engine) -> AsyncIterator["asyncio.Task[None]"]:
    task = asyncio.create_task(engine.run())
    await started(engine, task)
    try:
        yield task
    finally:
        engine.stop()
        await asyncio.wait_for(task, 30)


def opened(make: Callable[..., "Rounds"]) -> Iterator[Callable[..., "Rounds"]]:
    """For a fixture: the function that makes worlds, whose stores are closed in the end."""
    worlds: list[Rounds] = []

    def one(*args: Any, **options: Any) -> Rounds:
        worlds.append(make(*args, **options))
        return worlds[-1]

    yield one
    for world in worlds:
        done(world.store.close())


class Rounds:
    """Visits by hand, and what came of them."""

    def __init__(
        self, folder: Path, vendor: Vendor, time: Time, source: Source | None = None, **options: Any
    ) -> None:
        self.vendor, self.time = vendor, time
        self.path = folder / "roundsman.db"
        self.source = source or event_logs(**options)
        self.sink: Sink = Recorder().named("recorder")
        self.boot()

    def boot(self) -> None:
        self.store = SqliteStore.open(self.path)
        self.transport = Straight(self.vendor)
        self.alarms = ByHand()
        self.engine = Engine(
            self.store, self.alarms, web_of(self.transport, self.time), clock=self.time.clock()
        )
        done(self.engine.setup({self.source.name: self.source}, {"recorder": self.sink}))

    def reboot(self) -> None:
        """What `kill -9` and a restart leave."""
        done(self.store.close())
        self.boot()

    async def visit(self, after: float = 61.0) -> bool:
        self.time.advance(after)
        return await self.engine.once()

    async def status(self, name: str = "") -> Status:
        """How a source fares; ours, if no other is named."""
        return await status(self.engine, name or self.source.name)

    @property
    def state(self) -> Any:
        return seen(self.store.memory(self.source.name)).state

    def events(self, kind: str = "*") -> list[Event]:
        return [event for event, _ in seen(self.store.events(0, 10**9, 10**6, Filter(types=(kind,))))]

    def ids(self) -> list[str]:
        return [event.id for event in self.events("co.parakey.*")]

    def told(self, kind: str = "*") -> list[Any]:
        """The documents of the events of this kind."""
        return [event.document() for event in self.events(kind)]

    def asked(self) -> list[dict[str, str]]:
        """The queries since the last call."""
        queries = [dict(request.url.params) for request in self.transport.requests]
        self.transport.requests.clear()
        return queries
