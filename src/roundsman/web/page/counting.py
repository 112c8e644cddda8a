"""What costs more than a page may, and is counted at most as often as that is worth: the census, and the list of sources."""

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress

from roundsman.engine.delivery import wanted_by
from roundsman.engine.engine import Engine
from roundsman.errors import StoreError
from roundsman.store import Census
from roundsman.web.page import elsewhere, rows

PATIENCE = 5.0
"""Seconds to wait for the store."""
SHARE = 0.001
"""What was counted is used again, until counting took at most this share of the time."""
SOONEST, LONGEST = 1.0, 60.0
"""Seconds that it is used, at least and at most."""

MINUTE = 60.0
"""Seconds between two times that the counts of requests are written."""


class Counting:
    """Counts for all readers of one page together."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._census: Census | None = None
        self._census_until = float("-inf")
        self._listing: rows.Listing | None = None
        self._listing_until = float("-inf")
        self._others: Mapping[str, rows.Other] = {}
        self._others_until = float("-inf")
        self._shares: Mapping[str, float] = {}
        self._shares_until = float("-inf")
        self._under_way: asyncio.Task[Census] | None = None

    async def census(self) -> Census | None:
        """What the store has; None if it cannot be read now."""
        if time.monotonic() < self._census_until:
            return self._census
        if self._under_way is None or self._under_way.done():
            self._under_way = asyncio.create_task(self._count(), name="page census")
            self._under_way.add_done_callback(lambda task: task.cancelled() or task.exception())
        with suppress(TimeoutError, StoreError):
            return await asyncio.wait_for(asyncio.shield(self._under_way), PATIENCE)
        return None

    async def _count(self) -> Census:
        began, used = time.monotonic(), time.process_time()
        sinks = {name: wanted_by(sink) for name, sink in self._engine.sinks.items()}
        self._census = await self._engine.store.census(sinks)
        self._census_until = began + max(SOONEST, min(LONGEST, (time.process_time() - used) / SHARE))
        return self._census

    async def shares(self) -> Mapping[str, float]:
        """By source, the share of its requests that were answered 304; the last known ones, if the store does not answer."""
        began = time.monotonic()
        if began >= self._shares_until:
            self._shares_until = began + MINUTE
            now = self._engine.time.now()
            with suppress(StoreError):
                self._shares = await self._engine.store.apart(
                    lambda view: view.unchanged_shares(now), PATIENCE
                )
        return self._shares

    async def listing(self) -> rows.Listing:
        """Every source by state."""
        began = time.monotonic()
        if self._listing is None or began >= self._listing_until:
            used = time.process_time()
            self._listing = await rows.listing(self._engine, others=await self.others())
            self._listing_until = began + max(SOONEST, min(LONGEST, (time.process_time() - used) / SHARE))
        return self._listing

    async def others(self) -> Mapping[str, rows.Other]:
        """The sources that this worker does not hold; the last known ones, if the store does not answer."""
        configured = dict(self._engine.roster.elsewhere)
        began = time.monotonic()
        if not configured:
            return {}
        if began >= self._others_until or configured.keys() - self._others.keys():
            used = time.process_time()
            with suppress(StoreError):
                self._others = await self._engine.store.apart(
                    lambda view: elsewhere.others(view, configured), PATIENCE
                )
            self._others_until = began + max(SOONEST, min(LONGEST, (time.process_time() - used) / SHARE))
        return {name: each for name, each in self._others.items() if name in configured}

    def changed(self) -> None:
        """A person has changed something: count again for the next page."""
        self._census_until = float("-inf")
