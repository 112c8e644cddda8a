"""The workers that share the store: their beats, and the end of those that no longer beat."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress

import psycopg

from roundsman.errors import StoreError
from roundsman.options.server import Server
from roundsman.store.fleet import Worker
from roundsman.store.postgres.connection import connect, program, translated
from roundsman.store.postgres.holds import Holds
from roundsman.store.postgres.roll import ALL_WORKERS, NOW
from roundsman.store.postgres.session import HERE, Session

AGAIN = 1.0
"""Seconds between two tries to listen."""
OURS = "EXISTS (SELECT 1 FROM pg_stat_activity a WHERE a.pid = pg_locks.pid AND pg_has_role(a.usesysid, 'USAGE'))"
"""Of locks, those of processes that this one may end."""


class Workers(Holds):
    """This worker among the others. It has a connection of its own."""

    def __init__(self, server: Server, session: Session) -> None:
        super().__init__(server, session)
        self._channel = f"roundsman_{session.space % 2**32}"

    @property
    def ended(self) -> bool:
        """Whether another worker has ended this session."""
        return self._session.ended

    async def beat(self, sinks: Sequence[str], common: str) -> list[Worker]:
        """Record that this worker runs, with these sinks in its configuration, and the digest of what is common to all. Returns all workers with a session, by their numbers; none if this one's has ended."""
        sql = (
            f"UPDATE beats SET beat = {NOW}, sinks = %s, common = %s WHERE worker = %s AND EXISTS "  # noqa: S608 - fixed words
            "(SELECT 1 FROM workers w WHERE w.id = worker AND w.ended IS NULL)"
        )
        if not await self._line.run(sql, (list(sinks), common, self.number)):
            self._session.ended = True
            return []
        return [Worker._make(row) for row in await self._line.rows(ALL_WORKERS)]

    async def end(self, workers: Sequence[int]) -> None:
        """End these sessions. What they hold can be claimed then."""
        numbers = list(workers)
        async with self._alone() as connection:
            # A process that was stopped in a transaction would hold its row for as long as it is stopped.
            # One of another role cannot be ended: then the server ends its transaction, after a few seconds.
            await connection.execute(
                f"SELECT pg_terminate_backend(pid) FROM pg_locks WHERE {HERE} AND locktype = 'advisory' "  # noqa: S608 - fixed words
                "AND classid = %s::bigint::oid AND objid = ANY (%s::bigint[]::oid[]) AND objsubid = 2 AND pid != pg_backend_pid() "
                f"AND {OURS}",
                (self._session.space % 2**32, numbers),
            )
            # An UPDATE alone would not wait for a transaction that is about to commit.
            await connection.execute("SELECT id FROM workers WHERE id = ANY (%s) FOR UPDATE", (numbers,))
            await connection.execute(f"UPDATE workers SET ended = {NOW} WHERE id = ANY (%s)", (numbers,))  # noqa: S608 - fixed words
            await connection.execute("UPDATE holds SET holder = NULL WHERE holder = ANY (%s)", (numbers,))
            await connection.execute("DELETE FROM beats WHERE worker = ANY (%s)", (numbers,))

    async def all_sinks(self) -> set[str]:
        """The sinks of all workers' configurations."""
        return {name for [name] in await self._line.rows("SELECT DISTINCT unnest(sinks) FROM beats")}

    async def leave(self) -> None:
        """End this session: everything that it holds can be claimed."""
        with suppress(StoreError):
            async with self._line.transaction() as connection:
                await connection.execute("UPDATE holds SET holder = NULL WHERE holder = %s", (self.number,))
                await connection.execute("DELETE FROM beats WHERE worker = %s", (self.number,))
                await connection.execute("DELETE FROM workers WHERE id = %s", (self.number,))
            await self.notify("holds")
        await self._line.close()

    async def notify(self, *words: str) -> None:
        """Send words to all other workers. A word may be lost."""
        texts = [f"{self.number} {word}" for word in words]
        await self._line.run(
            "SELECT pg_notify(%s, word) FROM unnest(%s::text[]) AS word", (self._channel, texts)
        )

    async def listen(self, hear: Callable[[str], None]) -> None:
        """Call `hear` with each word of the others, until it is cancelled; with an empty one if some may have been lost."""
        while True:
            with suppress(StoreError):  # the next beat reports it
                await self._listen(hear)
            await asyncio.sleep(AGAIN)

    async def _listen(self, hear: Callable[[str], None]) -> None:
        with translated(self.server):
            connection, _ = await connect(self.server, program())
            try:
                await connection.execute(f"LISTEN {self._channel}".encode())
                hear("")  # what was sent before is lost
                mine = str(self.number)
                async for note in connection.notifies():
                    sender, _, word = note.payload.partition(" ")
                    if sender != mine:
                        hear(word)
            finally:
                with suppress(psycopg.Error):
                    await connection.close()
