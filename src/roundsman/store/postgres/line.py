"""A worker's connection for its beats: what it asks and writes there never waits for the writer."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import psycopg

from roundsman.errors import StoreError
from roundsman.options.server import Server
from roundsman.store.postgres.connection import connect, only_reads, program, translated
from roundsman.store.postgres.reading import Row, rows

ANSWERS = 15.0
"""Seconds in which the server must answer; else the connection is closed."""


class Line:
    """One connection, which is opened again after it has ended. One user at a time."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._connection: psycopg.AsyncConnection[Any] | None = None
        self._alone = asyncio.Lock()

    async def rows(self, sql: str, values: Sequence[object] = ()) -> list[Row]:
        """What a statement returns, committed. StoreError on failure."""
        async with self._open() as connection:
            return await rows(connection, sql, values)

    async def run(self, sql: str, values: Sequence[object] = ()) -> int:
        """Run a statement, and commit. Returns the number of changed rows. StoreError on failure."""
        async with self._open() as connection:
            return (await connection.execute(sql, tuple(values), binary=True)).rowcount

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        """Several statements in one transaction."""
        async with self._open() as connection, connection.transaction():
            yield connection

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        async with self._alone:
            try:
                # Outside: a TimeoutError is an OSError, too.
                async with asyncio.timeout(ANSWERS):
                    with translated(self._server):
                        if self._connection is None or self._connection.closed:
                            self._connection, _ = await connect(self._server, program())
                        try:
                            yield self._connection
                        except psycopg.Error as exc:
                            if only_reads(exc):
                                await self.close()
                            raise
            except TimeoutError:
                await self.close()
                raise StoreError(f"{self._server} has not answered for {ANSWERS:.0f}s") from None

    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.close()
