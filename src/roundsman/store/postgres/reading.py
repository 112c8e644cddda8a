"""What every read of the store is made of: a few connections, and the server's errors in sentences."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import psycopg

from roundsman.errors import StoreError
from roundsman.options.server import Server
from roundsman.store.postgres import connection
from roundsman.store.postgres.connection import connect, is_lost, program, translated

EVENT = "SELECT e.seq, s.name, e.id, e.type, e.outcome, e.body, e.logged FROM events e JOIN sources s ON s.id = e.source"
LOGGED = "FROM events e JOIN sources s ON s.id = e.source"
MOST = 4
"""Maximum connections that read."""

P = ParamSpec("P")
T = TypeVar("T")
S = TypeVar("S", bound="Reading")
Row = tuple[Any, ...]


class Connections:
    """Connections that read. One that has ended is replaced by the next read."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._idle: list[psycopg.AsyncConnection[Any]] = []
        self._turns = asyncio.Semaphore(MOST)
        self._closed = False

    @asynccontextmanager
    async def one(self) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        """A connection in autocommit mode."""
        async with self._turns:
            if self._closed:
                raise StoreError(f"{self._server} is closed")
            one = self._idle.pop() if self._idle else None
            if one is None:
                one, _ = await connect(self._server, program())
            try:
                yield one
            finally:
                at_rest = one.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
                if self._closed or one.closed or not at_rest:
                    await one.close()
                else:
                    self._idle.append(one)

    async def drop(self) -> None:
        """Close those that nothing uses: the server may have ended them."""
        idle, self._idle = self._idle, []
        for each in idle:
            await each.close()

    async def close(self) -> None:
        self._closed = True
        await self.drop()


def reading(
    method: Callable[Concatenate[S, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, T]]:
    """Makes the server's errors a StoreError. If its connection has ended, a read is tried again with another one."""

    @wraps(method)
    async def wrapped(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        with translated(self.place):
            try:
                async with asyncio.timeout(connection.HANGS):
                    try:
                        return await method(self, *args, **kwargs)
                    except psycopg.Error as exc:
                        if not is_lost(exc):
                            raise
                    await self._reads.drop()
                    return await method(self, *args, **kwargs)
            except TimeoutError:
                await self._reads.drop()
                raise StoreError(f"{self.place} has not answered for {connection.HANGS:.0f}s") from None

    return wrapped


class Reading:
    """Connections that read the store."""

    def __init__(self, place: Server) -> None:
        self.place = place
        self._reads = Connections(place)

    async def _rows(self, sql: str, values: Sequence[object] = ()) -> list[Row]:
        async with self._reads.one() as one:
            return await rows(one, sql, values)

    async def _row(self, sql: str, values: Sequence[object] = ()) -> Row | None:
        found = await self._rows(sql, values)
        return found[0] if found else None

    async def _value(self, sql: str, values: Sequence[object] = ()) -> Any:
        """The first column of the first row; None without one."""
        row = await self._row(sql, values)
        return row[0] if row is not None else None

    @asynccontextmanager
    async def _snapshot(self) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        """A connection on which several statements see the same store."""
        async with self._reads.one() as one:
            await one.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            try:
                yield one
            finally:
                if not one.closed:
                    await one.execute("ROLLBACK")


async def rows(one: psycopg.AsyncConnection[Any], sql: str, values: Sequence[object] = ()) -> list[Row]:
    """What a statement returns."""
    # A tuple, also an empty one: then a percent sign is always written twice.
    return await (await one.execute(sql, tuple(values), binary=True)).fetchall()


async def events_of(
    one: psycopg.AsyncConnection[Any],
    where: tuple[str, Sequence[object]],
    limit: int | None,
    most: int,
    *,
    newest_first: bool = False,
) -> list[Row]:
    """Rows of `EVENT` in log order, or the newest first: at most `limit`, and about `most` bytes of bodies, which are measured first."""
    condition, values = where
    order = "DESC" if newest_first else "ASC"
    # A large body is stored apart, and fetched only if it is returned.
    sql = (
        "SELECT seq, name, id, type, outcome, body, logged FROM (SELECT some_of.*, "  # noqa: S608 - fixed words
        f"sum(octet_length(body)) OVER (ORDER BY seq {order}) - octet_length(body) AS before FROM ({EVENT} "
        f"WHERE e.body IS NOT NULL{condition} ORDER BY e.seq {order} LIMIT %s) some_of) measured "
        f"WHERE before <= %s ORDER BY seq {order}"
    )
    return await rows(one, sql, [*values, limit, most])
