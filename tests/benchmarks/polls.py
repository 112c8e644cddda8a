"""Unchanged polls: CPU for each, how late visits begin, and memory.

`bare URL RATE SECONDS`: conditional requests at that rate over httpx-aiohttp, each a 304. `ours URL SOURCES INTERVAL
SECONDS [CORE]`: the engine with so many sources, all unchanged: alarm, `due` on the disk, request, accounted.
"""

import asyncio
import time
from pathlib import Path
from typing import Literal

from httpx_aiohttp import HttpxAiohttpClient
from measure import Cost, Figures, daemon, main, memory, pin, quantile

from roundsman.engine.alarms import Scheduler
from roundsman.plugin import Poll, State, Visit
from roundsman.sandbox import TOKEN
from roundsman.sources.parakey import EventLogs

WARM = 200
"""Requests before those that are measured."""


class Lateness:
    """Sources that note how late their visits begin, and the alarms that say when they should.

    The first visits are spread evenly over the interval, and so are all later ones.
    """

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._phases = phases = dict[str, float]()
        scheduled: dict[str, float] = {}
        seconds = self.seconds

        class Noted(Scheduler):
            def set(self, name: str, at: float) -> None:
                scheduled[name] = at + phases.get(name, 0.0)
                super().set(name, scheduled[name])

        class Punctual(EventLogs):
            type: Literal["parakey.event_logs"] = "parakey.event_logs"

            async def poll(self, visit: Visit, state: State) -> Poll:
                phases.pop(self.name, None)
                seconds.append(time.time() - scheduled[self.name])
                return await super().poll(visit, state)

        self.alarms = Noted()
        self._source = Punctual

    def sources(self, url: str, count: int, interval: float) -> dict[str, EventLogs]:
        """So many sources, of which each has seen everything at its first visit."""
        options = {"base_url": url, "access_token": TOKEN, "start": "now", "interval": interval}
        found = {f"s{n}": self._source(**options) for n in range(count)}
        self._phases.update((name, n * interval / count) for n, name in enumerate(found))
        return found

    def figures(self) -> Figures:
        """Milliseconds."""
        return {f"late_p{share}": quantile(self.seconds, share / 100) * 1000 for share in (50, 99)}


async def ours(folder: Path, url: str, sources: str, interval: str, seconds: str, core: str = "") -> Figures:
    if core:
        pin(0, int(core))
    lateness = Lateness()
    asked = lateness.sources(url, int(sources), float(interval))
    async with daemon(folder, asked, alarms=lateness.alarms) as running:
        # First visits set out from nothing: two requests and a commit each, which may delay the second ones.
        await running.until_visited()
        await asyncio.sleep(float(interval))
        lateness.seconds.clear()
        cost = Cost()
        await asyncio.sleep(float(seconds))
        figures = cost.figures(len(lateness.seconds))
    return {**figures, **lateness.figures(), "peak_mb": memory("VmHWM")}


async def bare(folder: Path, url: str, rate: str, seconds: str) -> Figures:
    address, query = f"{url}/eventLogs", {"limit": "1", "orderBy": "createdAt:DESC"}
    pause, count = 1 / float(rate), 0
    async with HttpxAiohttpClient(headers={"access-token": TOKEN}) as client:
        known = {"if-none-match": (await client.get(address, params=query)).headers["etag"]}
        for _ in range(WARM):
            await client.get(address, params=query, headers=known)
        cost = Cost()
        began = time.perf_counter()
        while count * pause < float(seconds):
            # A busy loop would flatter it: it never wakes up, and its caches are warm.
            await asyncio.sleep(max(0.0, began + count * pause - time.perf_counter()))
            answer = await client.get(address, params=query, headers=known)
            assert answer.status_code == 304
            count += 1
    return cost.figures(count)


if __name__ == "__main__":
    main({"ours": ours, "bare": bare})
