"""Unchanged polls, in a process of its own: prints CPU per poll or request, how late starts were, and memory.

`bare N`: N conditional requests over httpx-aiohttp, each a 304. `ours SOURCES INTERVAL SECONDS`: the engine with so many
sources, all unchanged: alarm, `due` on disk, request, accounted.
"""

import asyncio
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Literal

import structlog
import uvloop

from roundsman.engine.alarms import Scheduler
from roundsman.engine.engine import Engine
from roundsman.http.transport import Clients
from roundsman.plugin import Poll, State, Visit
from roundsman.sandbox import TOKEN
from roundsman.sources.parakey import EventLogs
from roundsman.store.sqlite.store import SqliteStore

SCHEDULED: dict[str, float] = {}
LATE: list[float] = []


class Punctual(EventLogs):
    """Takes note of how late it is asked."""

    type: Literal["parakey.event_logs"] = "parakey.event_logs"

    async def poll(self, visit: Visit, state: State) -> Poll:
        LATE.append(time.time() - SCHEDULED[self.name])
        return await super().poll(visit, state)


class Noted(Scheduler):
    """Alarms that remember what they were set to."""

    def set(self, name: str, at: float) -> None:
        SCHEDULED[name] = at
        super().set(name, at)


def status(key: str) -> float:
    """MB of a line of /proc/self/status."""
    text = Path("/proc/self/status").read_text()
    return float(next(line for line in text.splitlines() if line.startswith(key)).split()[1]) / 1024


async def bare(url: str, count: int) -> dict[str, float]:
    from httpx_aiohttp import HttpxAiohttpClient

    query = {"limit": "1", "orderBy": "createdAt:DESC"}
    async with HttpxAiohttpClient(headers={"access-token": TOKEN}) as client:
        etag = (await client.get(f"{url}/eventLogs", params=query)).headers["etag"]
        for _ in range(200):
            await client.get(f"{url}/eventLogs", params=query, headers={"if-none-match": etag})
        cpu = time.process_time()
        for _ in range(count):
            answer = await client.get(f"{url}/eventLogs", params=query, headers={"if-none-match": etag})
            assert answer.status_code == 304
    return {"us": (time.process_time() - cpu) / count * 1e6}


async def ours(url: str, folder: Path, sources: int, interval: float, seconds: float) -> dict[str, float]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(20))
    store = SqliteStore.open(folder / "store.db")
    web = Clients()
    engine = Engine(store, Noted(), web)
    await engine.setup(
        {
            name: Punctual(base_url=url, access_token=TOKEN, start="now", interval=interval).named(name)
            for name in (f"s{n}" for n in range(sources))
        },
        {},
    )
    running = asyncio.create_task(engine.run())
    # First visits set out from nothing: two requests and a commit each. What is measured is the round after them all.
    while any(watched.status.last_success is None for watched in engine.roster.values()):
        await asyncio.sleep(1)
    await asyncio.sleep(interval)
    LATE.clear()
    cpu, wall = time.process_time(), time.perf_counter()
    await asyncio.sleep(seconds)
    cpu, wall, polls = time.process_time() - cpu, time.perf_counter() - wall, len(LATE)
    engine.stop()
    await running
    await web.aclose()
    await store.close()
    late = sorted(LATE)
    return {
        "us": cpu / polls * 1e6,
        "polls_per_s": polls / wall,
        "core": cpu / wall,
        "late_p50": late[len(late) // 2],
        "late_p99": late[int(len(late) * 0.99)],
        "peak_mb": status("VmHWM"),
    }


def main() -> None:
    which, url = sys.argv[1:3]
    if cpus := os.environ.get("ONE_CORE"):
        os.sched_setaffinity(0, {int(cpus)})
    with tempfile.TemporaryDirectory() as folder:
        if which == "bare":
            found = uvloop.run(bare(url, int(sys.argv[3])))
        else:
            found = uvloop.run(
                ours(url, Path(folder), int(sys.argv[3]), float(sys.argv[4]), float(sys.argv[5]))
            )
    print(json.dumps(found))


if __name__ == "__main__":
    main()
