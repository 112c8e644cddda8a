"""A worker in a process of its own: `crew.py NAME WORK URL SOURCES INTERVAL`, with the store in the environment.

WORK is a path of the stub, `backlog` or `hooks`. It prints `ready PORT` once it runs. Each line on its standard input is
answered with its figures since the last one, as JSON; a number there is another interval. It ends with its input.
"""

import asyncio
import json
import logging
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Literal

import structlog
import uvloop
from measure import LINES, memory, named
from stub import ADDRESSES
from webhooks import VALUE, free_port

from roundsman.engine.alarms import Scheduler
from roundsman.engine.engine import Engine
from roundsman.http.transport import Clients
from roundsman.options.listen import Address, ListenOptions
from roundsman.options.server import Server
from roundsman.plugin import Poll, State, Visit
from roundsman.sandbox import TOKEN
from roundsman.sinks.file import FileSink
from roundsman.sources.http_json.source import HttpJson
from roundsman.sources.parakey import EventLogs
from roundsman.store import open_store

STORE = "CREW_STORE"
GROUPS = 480
"""Credentials, so that work can be shared: all over the addresses of the stub."""
KEPT = 2000
"""Figures of lateness that are printed."""


class Lateness:
    """Sources that note how late their visits begin, and the alarms that say when they should."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        scheduled: dict[str, float] = {}
        seconds = self.seconds

        class Noted(Scheduler):
            def set(self, name: str, at: float) -> None:
                scheduled[name] = at
                super().set(name, at)

        class Punctual(EventLogs):
            type: Literal["parakey.event_logs"] = "parakey.event_logs"

            async def poll(self, visit: Visit, state: State) -> Poll:
                seconds.append(time.time() - scheduled[self.name])
                return await super().poll(visit, state)

        class Listed(HttpJson):
            type: Literal["http.json"] = "http.json"

            def poll(self, visit: Visit, state: State) -> AsyncIterator[Poll]:
                seconds.append(time.time() - scheduled[self.name])
                return super().poll(visit, state)

        self.alarms, self.parakey, self.listed = Noted(), Punctual, Listed

    def figures(self) -> dict[str, Any]:
        """How many visits, and quantiles of their lateness in seconds."""
        some, found = sorted(self.seconds), len(self.seconds)
        self.seconds.clear()
        return {"count": found, "late": some[:: max(1, found // KEPT)]}


def sources(work: str, url: str, count: int, interval: float, lateness: Lateness) -> Mapping[str, Any]:
    """The sources of each worker."""
    parakey = {"type": "parakey.event_logs", "base_url": url, "access_token": TOKEN, "interval": 3600}
    if work == "backlog":
        return {"doors": EventLogs(**parakey, start="beginning")}
    if work == "hooks":
        return {
            "doors": EventLogs(**parakey, start="now", webhook={"header": "Authorization", "value": VALUE})
        }
    found: dict[str, Any] = {}
    for n in range(count):
        address = f"http://{ADDRESSES[n % len(ADDRESSES)]}:{url}/{work}/{n}"
        token = f"token-{n % GROUPS}"
        often = {"base_url": address, "interval": interval, "start": "now"}
        if work == "busy":  # one request a visit, also if there is a new row
            rows = {"id": "id", "time": "createdAt"}
            found[f"s{n}"] = lateness.listed(**often, auth={"bearer": token}, rows=rows)
        else:
            found[f"s{n}"] = lateness.parakey(**often, access_token=token)
    return found


async def main(name: str, work: str, url: str, count: str, interval: str) -> None:
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    logging.getLogger("apscheduler").setLevel(logging.CRITICAL)  # it complains of jobs that a stop cancels
    place, lateness = os.environ[STORE], Lateness()
    shared = "://" in place
    store = await open_store(Server(place) if shared else Path(place), name if shared else None)
    engine = Engine(store, lateness.alarms, Clients())
    if shared:
        engine.join(name)
    sink = FileSink(type="file", path=Path(LINES).absolute(), on=name)

    async def setup(interval: str) -> None:
        found = sources(work, url, int(count), float(interval), lateness)
        await engine.setup(named(found), named({"archive": sink} if work == "backlog" else {}))

    await setup(interval)
    task = asyncio.create_task(engine.run())
    port, listener = 0, None
    await engine.started.wait()
    if work == "hooks":
        from roundsman.web import Listener

        port, engine.listening = free_port(), time.time()
        listener = Listener(engine, ListenOptions(address=Address("127.0.0.1", port)))
        await listener.start()
    print("ready", port, flush=True)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        if line.strip():
            await setup(line)
        figures = lateness.figures() | {
            "peak_mb": memory("VmHWM"),
            "held": len(engine.roster),
            "visited": sum(each.status.last_success is not None for each in engine.roster.values()),
            "delivered": (await store.cursor("archive"))[0] if work == "backlog" else 0,
            "head": await store.head(),
        }
        print(json.dumps(figures), flush=True)
    if listener is not None:
        await listener.close()
    engine.stop()
    await task
    await engine.aclose()
    await store.close()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    uvloop.run(main(*sys.argv[1:]))
