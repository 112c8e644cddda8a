"""What each worker holds, and rings for what it holds."""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import psycopg

from roundsman.errors import StoreError
from roundsman.options.server import Server
from roundsman.store.fleet import Choose, Ring
from roundsman.store.postgres.line import Line
from roundsman.store.postgres.session import Session
from roundsman.store.values import Kind

CLAIMS = -1
"""The number, beside the schema's, of the advisory lock under which holders change."""


class Holds:
    """What this worker holds."""

    def __init__(self, server: Server, session: Session) -> None:
        self.server = server
        self.number = session.number
        self._session = session
        self._line = Line(server)

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        """A transaction in which no other worker changes holders."""
        async with self._line.transaction() as connection:
            await connection.execute("SELECT pg_advisory_xact_lock(%s, %s)", (self._session.space, CLAIMS))
            yield connection

    async def offer(self, kind: Kind, names: Iterable[str]) -> None:
        """These can be held."""
        # In one order: two workers that start at once wait for each other, and not in a circle.
        sql = "INSERT INTO holds (kind, name) SELECT %s, unnest(%s::text[]) ON CONFLICT DO NOTHING"
        await self._line.run(sql, (kind, sorted(names)))

    async def held(self, kind: Kind) -> set[str]:
        """What this worker holds."""
        sql = "SELECT name FROM holds WHERE holder = %s AND kind = %s"
        return {name for [name] in await self._line.rows(sql, (self.number, kind))}

    async def free(self, kind: Kind) -> set[str]:
        """What no worker holds, also if no configuration has it any more."""
        sql = "SELECT name FROM holds WHERE holder IS NULL AND kind = %s"
        return {name for [name] in await self._line.rows(sql, (kind,))}

    async def claim(self, kind: Kind, choose: Choose) -> None:
        """Hold what `choose` returns, as far as it is free. Only one worker claims at a time."""
        async with self._alone() as connection:
            sql = "SELECT 1 FROM workers WHERE id = %s AND ended IS NULL FOR KEY SHARE"
            if await (await connection.execute(sql, (self.number,))).fetchone() is None:
                self._session.ended = True
                raise StoreError(self._session.why_ended)
            sql = "SELECT name, holder FROM holds WHERE kind = %s"
            holders = dict(await (await connection.execute(sql, (kind,))).fetchall())
            names = list(choose(holders))
            sql = "UPDATE holds SET holder = %s WHERE kind = %s AND name = ANY (%s) AND holder IS NULL"
            await connection.execute(sql, (self.number, kind, names))

    async def give(self, kind: Kind, names: Sequence[str]) -> None:
        """Hold these no longer."""
        sql = "UPDATE holds SET holder = NULL WHERE kind = %s AND name = ANY (%s) AND holder = %s"
        await self._line.run(sql, (kind, list(names), self.number))

    async def rings(self) -> list[Ring]:
        """The rings of sources that this worker holds."""
        # OFFSET 0: the server looks up each ring. Without statistics of the few rings, it would read all that is held.
        sql = (
            "SELECT s.name, r.n FROM rings r "
            "CROSS JOIN LATERAL (SELECT name FROM sources WHERE id = r.source OFFSET 0) s "
            "CROSS JOIN LATERAL (SELECT holder FROM holds WHERE kind = 'source' AND name = s.name OFFSET 0) h "
            "WHERE h.holder = %s"
        )
        return [Ring._make(row) for row in await self._line.rows(sql, (self.number,))]

    async def answered(self, rings: Sequence[Ring]) -> None:
        """These rings were followed by a visit."""
        # One that is locked is just being stored again, and needs another visit.
        sql = (
            "DELETE FROM rings WHERE source IN (SELECT r.source FROM rings r JOIN sources s ON s.id = r.source "
            "JOIN unnest(%s::text[], %s::bigint[]) AS g (name, n) ON s.name = g.name WHERE r.n <= g.n "
            "FOR UPDATE OF r SKIP LOCKED)"
        )
        await self._line.run(sql, ([each.source for each in rings], [each.number for each in rings]))

    async def heard(self, since: float) -> dict[str, float]:
        """When the last webhook of each source was received, if that was after `since` (both Unix)."""
        sql = "SELECT name, heard FROM sources WHERE heard > %s"
        return dict(await self._line.rows(sql, (since,)))
