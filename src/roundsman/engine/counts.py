"""Writes the counts for the charts to the store, each minute.

A crash loses the counts of one minute at most. Of very many sources, the counts of a few thousand are written at a time,
so that the memory holds no more of them.
"""

import asyncio

from roundsman.engine.deliveries import Deliveries
from roundsman.engine.shared import Shared
from roundsman.errors import Unclear
from roundsman.store import Counted, StoreError
from roundsman.store.tally import number_of

EVERY = 60.0
"""Seconds between two writes, and between two looks at what waits for sinks."""
MANY = 5000
"""Number of sources and sinks from which on their counts are written earlier."""
PIECE = 100
"""Number of them in one unit, which takes two milliseconds."""
LEFT = 20_000
"""Maximum number of counts of a source or sink that wait for a store which cannot be written. The oldest are dropped."""


class Counts:
    """Takes what was counted, and writes it."""

    def __init__(self, shared: Shared, deliveries: Deliveries) -> None:
        self._shared, self._store, self._time = shared, shared.store, shared.time
        self._pending = shared.meter.pending
        self._deliveries = deliveries
        self._left: list[Counted] = []
        """What could not be written yet."""
        self._began = self._time.now()
        """A time of the hour that what is counted now belongs to (Unix)."""
        self._written = self._looked = self._time.monotonic()
        self._job: asyncio.Task[None] | None = None
        self._ending = False

    def start_what_is_due(self, group: asyncio.TaskGroup) -> None:
        """Begin to write beside the heartbeat, if a minute or the hour has passed, or if there is much to write."""
        if self._job is None or self._job.done():
            now = self._time.monotonic()
            another = number_of("hour", self._time.now()) != number_of("hour", self._began)
            if another or now - self._written >= EVERY or len(self._pending) >= MANY:
                self._job = group.create_task(self._look_and_flush(), name="counts")

    def stop(self) -> None:
        """End after the unit that is being written. `flush` then writes the rest."""
        self._ending = True

    async def _look_and_flush(self) -> None:
        if self._time.monotonic() - self._looked >= EVERY:
            await self.look()
        await self._flush()

    async def look(self) -> None:
        """Count what waits for each sink, if something does: in a thread, as for the metrics."""
        self._looked = self._time.monotonic()
        try:
            head = await self._store.head()
            cursors = [(await self._store.cursor(name))[0] for name in list(self._deliveries)]
            if all(cursor >= head for cursor in cursors):
                return
            census = await self._store.census({name: each.wanted for name, each in self._deliveries.items()})
        except StoreError as exc:
            self._shared.trouble.report(exc)
            return
        for name, lag in census.lags.items():
            if lag.events:
                self._pending.add_to_sink(name, "lag", lag.events)

    async def flush(self) -> None:
        """Write everything that was counted, at the end."""
        self._ending = False
        await self._flush()

    async def _flush(self) -> None:
        counted = [*self._left, *self._pending.take(self._began)]
        self._began, self._written = self._time.now(), self._time.monotonic()
        written = 0
        try:
            while written < len(counted) and not self._ending:
                piece = counted[written : written + PIECE]
                written += (
                    PIECE  # also if this task is cancelled meanwhile: the piece may be in the store then
                )
                try:
                    await self._store.record_counts(piece)
                except Unclear:
                    raise  # rather lost than counted twice
                except StoreError:
                    written -= PIECE
                    raise
        except StoreError as exc:
            self._shared.trouble.report(exc)
        finally:
            self._left = counted[written:][-LEFT:]
