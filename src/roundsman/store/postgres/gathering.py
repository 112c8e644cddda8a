"""Calls that come while the server works on earlier ones become one call."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


TOGETHER = 100
"""Maximum keys of a read: all that is found for them is in memory at once."""


class Reads(Generic[K, V]):
    """Reads values by key."""

    def __init__(self, read: Callable[[list[K]], Awaitable[Mapping[K, V]]]) -> None:
        self._read = read
        self._waiting: list[tuple[K, asyncio.Future[V | None]]] = []
        self._running: asyncio.Task[None] | None = None

    async def get(self, key: K) -> V | None:
        """The value of a key; None if the read returns none. Raises what the read raises."""
        loop = asyncio.get_running_loop()
        value: asyncio.Future[V | None] = loop.create_future()
        self._waiting.append((key, value))
        if self._running is None or self._running.done():
            self._running = loop.create_task(self._run(), name="store reads")
        return await value

    async def _run(self) -> None:
        while self._waiting:
            some, self._waiting = self._waiting[:TOGETHER], self._waiting[TOGETHER:]
            [read], _ = await asyncio.wait([asyncio.ensure_future(self._read([key for key, _ in some]))])
            _seen(read)
            for key, value in some:
                if value.done():  # its caller was cancelled
                    continue
                if read.cancelled():
                    value.cancel()
                elif (error := read.exception()) is not None:
                    value.set_exception(error)
                else:
                    value.set_result(read.result().get(key))


class Writes(Generic[K, V]):
    """Writes values by key: of two for the same key that wait, the later one."""

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

    def drop(self, keys: Iterable[K]) -> None:
        """What waits for these keys is void: something newer is written."""
        for key in keys:
            self._waiting.pop(key, None)

    async def _after(self, before: "asyncio.Task[None] | None") -> None:
        if before is not None and not before.done():
            await asyncio.wait([before])
        values, self._waiting = list(self._waiting.items()), {}
        self._running, self._next = self._next, None
        if values:
            await self._write(values)


def _seen(task: "asyncio.Task[None]") -> None:
    if not task.cancelled():
        task.exception()  # its callers may have been cancelled: then it is of no interest
