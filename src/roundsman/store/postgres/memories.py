"""What sources remember. All that is asked for while the server answers is read by one statement."""

import asyncio
from collections.abc import Sequence
from typing import Any

from roundsman import wire
from roundsman.options.server import Server
from roundsman.store.postgres.reading import Reading, Row, reading
from roundsman.store.values import Memory

TOGETHER = 100
"""Maximum sources of a statement: their states are in memory at once."""


class Memories(Reading):
    """Reads what sources remember, at the beginning of each visit."""

    def __init__(self, place: Server) -> None:
        super().__init__(place)
        self._wanted: list[tuple[str, asyncio.Future[Row | None]]] = []
        self._recalling: asyncio.Task[None] | None = None

    async def memory(self, name: str) -> Memory:
        """What a source remembers; empty if it was never registered."""
        # A statement for each visit costs worker and server more than the rest of a visit that finds nothing.
        loop = asyncio.get_running_loop()
        wanted: asyncio.Future[Row | None] = loop.create_future()
        self._wanted.append((name, wanted))
        if self._recalling is None or self._recalling.done():
            self._recalling = loop.create_task(self._recall(), name="memories")
        row = await wanted
        if row is None:
            return Memory({})
        source, state, revision, followed = row
        inbox = await self._inbox(source) if followed else []
        ids, taken = [each for each, _ in inbox], inbox[-1][1] if inbox else 0
        return Memory(wire.decode(state.encode()), revision, ids, taken)

    async def _recall(self) -> None:
        """Read what is wanted, until nothing is."""
        while self._wanted:
            some, self._wanted = self._wanted[:TOGETHER], self._wanted[TOGETHER:]
            [read], _ = await asyncio.wait([asyncio.ensure_future(self._states([name for name, _ in some]))])
            for name, wanted in some:
                if not wanted.done():  # its visit may have been cancelled
                    _settle(wanted, read, name)

    @reading
    async def _states(self, names: Sequence[str]) -> dict[str, Row]:
        sql = (
            "SELECT name, id, state, revision, EXISTS (SELECT 1 FROM inbox WHERE source = sources.id) "
            "FROM sources WHERE name = ANY (%s)"
        )
        return {name: tuple(rest) for name, *rest in await self._rows(sql, (list(names),))}

    @reading
    async def _inbox(self, source: int) -> list[Any]:
        # Rare, and each statement costs.
        sql = "SELECT id, n FROM inbox WHERE source = %s ORDER BY n LIMIT 1000"
        return await self._rows(sql, (source,))


def _settle(wanted: "asyncio.Future[Row | None]", read: "asyncio.Future[dict[str, Row]]", name: str) -> None:
    """Pass on what was read, or why it was not."""
    if read.cancelled():
        wanted.cancel()
    elif (error := read.exception()) is not None:
        wanted.set_exception(error)
    else:
        wanted.set_result(read.result().get(name))
