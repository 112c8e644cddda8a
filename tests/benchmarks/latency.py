"""From the response received to the sink called, on an idle daemon: prints milliseconds."""

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

import httpx
import structlog
import uvloop

from roundsman.engine.alarms import Scheduler
from roundsman.engine.engine import Engine
from roundsman.events import Event
from roundsman.http.client import Http
from roundsman.http.transport import Clients
from roundsman.plugin import Deliver, Receipt, Sink
from roundsman.sandbox import TOKEN, Building, Parakey, Sandbox
from roundsman.sources.parakey import EventLogs
from roundsman.store.sqlite.store import SqliteStore

RECEIVED = 0.0
TOOK: list[float] = []


class Stopwatch(Sink):
    type: Literal["stopwatch"] = "stopwatch"

    @asynccontextmanager
    async def open(self, http: Http, receipt: Receipt | None) -> AsyncIterator[Deliver]:
        async def deliver(events: Sequence[Event]) -> None:
            TOOK.append(time.perf_counter() - RECEIVED)

        yield deliver


async def received(response: httpx.Response) -> None:
    global RECEIVED  # noqa: PLW0603 - one measurement at a time
    RECEIVED = time.perf_counter()


async def main() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))
    parakey = Parakey()
    building = Building(parakey)
    with tempfile.TemporaryDirectory() as folder:
        async with Sandbox(parakey) as sandbox:
            store, web = SqliteStore.open(Path(folder) / "store.db"), Clients()
            web.client(sandbox.url).event_hooks["response"].append(received)
            engine = Engine(store, Scheduler(), web)
            source = EventLogs(
                type="parakey.event_logs",
                base_url=sandbox.url,
                access_token=TOKEN,
                interval=0.05,
                start="beginning",
            )
            await engine.setup({"doors": source.named("doors")}, {"watch": Stopwatch().named("watch")})
            running = asyncio.create_task(engine.run())
            while len(TOOK) < int(sys.argv[1]):
                count = len(TOOK)
                building.unlock()
                while len(TOOK) == count:
                    await asyncio.sleep(0.01)
            engine.stop()
            await running
            await web.aclose()
            await store.close()
    late = sorted(TOOK[5:])
    print(json.dumps({"p50": late[len(late) // 2] * 1000, "p99": late[int(len(late) * 0.99)] * 1000}))


if __name__ == "__main__":
    uvloop.run(main())
