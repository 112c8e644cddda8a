"""From the vendor's first answer with a row to the sink called, on an idle daemon.

`ours COUNT`: milliseconds over so many events.
"""

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

from measure import Figures, daemon, main, quantile

from roundsman.events import Event
from roundsman.http.client import Http
from roundsman.plugin import Deliver, Receipt, Sink
from roundsman.sandbox import TOKEN, Building, Parakey, Sandbox
from roundsman.sandbox.vendor import Reply
from roundsman.sources.parakey import EventLogs

WARM = 5


class Timed(Parakey):
    """Knows when it first answered with each row."""

    def __init__(self) -> None:
        super().__init__()
        self.answered: dict[str, float] = {}

    def reply(self, method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str]) -> Reply:
        reply = super().reply(method, path, query, headers)
        if self.logs and self.logs[-1].encoded in reply.body:
            self.answered.setdefault(self.logs[-1].id, time.perf_counter())
        return reply


class Called(Sink):
    """Notes when it is called."""

    type: Literal["called"] = "called"

    @asynccontextmanager
    async def open(self, http: Http, receipt: Receipt | None) -> AsyncIterator[Deliver]:
        async def deliver(events: Sequence[Event]) -> None:
            CALLED.extend([time.perf_counter()] * len(events))

        yield deliver


CALLED: list[float] = []


async def ours(folder: Path, count: str) -> Figures:
    parakey = Timed()
    building, took = Building(parakey), []
    async with Sandbox(parakey) as box:
        source = EventLogs(
            type="parakey.event_logs",
            base_url=box.url,
            access_token=TOKEN,
            interval=0.05,
            start="beginning",
        )
        async with daemon(folder, {"doors": source}, {"watch": Called()}) as running:
            for n in range(int(count) + WARM):

                async def called(known: int = n) -> bool:
                    return len(CALLED) > known

                building.unlock()
                await running.until(called, 0.005)
                took.append((CALLED[n] - parakey.answered[parakey.logs[-1].id]) * 1000)
    return {"p50": quantile(took[WARM:], 0.5), "p99": quantile(took[WARM:], 0.99)}


if __name__ == "__main__":
    main({"ours": ours})
