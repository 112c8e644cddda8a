"""Reads of a store that may take long: in a thread, by a view of their own, and one at a time."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from roundsman.errors import StoreError
from roundsman.store.place import LATE, Place
from roundsman.store.protocol import View
from roundsman.system.threads import in_thread

T = TypeVar("T")
Work = Callable[[View], Coroutine[Any, Any, T]]
PATIENCE = 10.0
"""Seconds after which a read is given up."""


class Apart:
    """The reads of one store. A reader waits for the one before it, and no thread does."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._turn = asyncio.Lock()
        """Held while a view is open in a thread."""

    async def read(self, read: Callable[[Work[T], float], T], work: Work[T], patience: float) -> T:
        """What `work` reads, by `read` in a thread until a time (monotonic). StoreError after `patience` seconds."""
        ends = time.monotonic() + patience
        try:
            async with asyncio.timeout(patience):
                await self._turn.acquire()
                # Its end frees the place, and not that of the caller: callers that give up one after the other would leave
                # a thread each at a disk or a server that does not answer.
                reads = asyncio.ensure_future(in_thread(read, work, ends))
                reads.add_done_callback(self._ended)
                return await asyncio.shield(reads)
        except TimeoutError:
            raise StoreError(LATE.format(self._place)) from None

    def _ended(self, reads: "asyncio.Future[Any]") -> None:
        self._turn.release()
        if not reads.cancelled():
            reads.exception()  # its caller may have given up: then it is of no interest
