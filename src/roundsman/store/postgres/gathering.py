"""Calls that come while an earlier one is being written become one call."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Gathering(Generic[K, V]):
    """Writes values by key; of two for the same key that wait, the later one."""

    def __init__(self, write: Callable[[list[tuple[K, V]]], Awaitable[None]]) -> None:
        self._write = write
        self._waiting: dict[K, V] = {}
        self._running: asyncio.Task[None] | None = None
        self._next: asyncio.Task[None] | None = None

    async def add(self, values: Iterable[tuple[K, V]]) -> None:
        """Returns once these values are written. Raises what the write raises."""
        self._waiting.update(values)
        if self._next is None:
            self._next = asyncio.create_task(self._after(self._running), name="store")
            self._next.add_done_callback(_seen)
        await asyncio.shield(self._next)

    async def _after(self, before: "asyncio.Task[None] | None") -> None:
        if before is not None and not before.done():
            await asyncio.wait([before])
        values, self._waiting = list(self._waiting.items()), {}
        self._running, self._next = self._next, None
        await self._write(values)


def _seen(task: "asyncio.Task[None]") -> None:
    if not task.cancelled():
        task.exception()  # its callers may have been cancelled: then it is of no interest
