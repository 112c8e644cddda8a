"""The one writer of a process: all units that wait become one transaction.

A unit is one caller's change. It has a savepoint of its own: if it fails, it fails alone. Events get their numbers at
the end of the transaction (`transaction.py`). If that end fails for what a single unit may have caused, smaller
transactions are tried, so that only units that cannot be written alone are refused. A caller gets the result of its unit
after the commit. If the connection ends in a commit, the server is asked whether it was made.

Before its units run, a transaction locks the rows of the sources that they write about, in one order. All else that units
write for a source is written under this lock: two workers that take webhooks of the same sources, or the same events by
a webhook and by a visit, wait for each other, and not in a circle.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import psycopg

from roundsman.errors import StoreError, Unclear
from roundsman.options.server import Server
from roundsman.store.postgres import connection
from roundsman.store.postgres.connection import FULL, ONLY_READS, is_lost, only_reads, translated
from roundsman.store.postgres.session import Session
from roundsman.store.postgres.transaction import Transaction
from roundsman.store.queued import Queued, refuse

ROWS = 4000
"""A transaction takes no further unit after so many changed rows: a larger one makes no row cheaper."""
WAITED = 0.05
"""A transaction takes no further unit after so many seconds: the callers of the first ones wait for it."""
RENEWED = 1.0
"""Seconds between two connections, while new ones only read, too."""
TRIES = 5
"""How often a transaction is tried that was undone for another one (a deadlock)."""
TOGETHER = 500
"""Maximum units whose sources are locked at once: more than these seldom fit into a transaction."""
LOCK = "SELECT FROM sources WHERE name = ANY (%s::text[]) ORDER BY id FOR NO KEY UPDATE"
DEADLOCKS = frozenset({"40P01", "40001"})
IS_LOCKED = "55P03"
ALIKE = frozenset({IS_LOCKED, ONLY_READS, "57014"})
"""Codes of errors that smaller transactions would meet, too: a lock, a server that only reads, a slow one."""

T = TypeVar("T")
Work = Callable[[Transaction], Awaitable[T]]
"""The statements of a unit. They run again if a transaction is undone."""


class _Undone(Exception):
    """The server has undone the transaction for another one, or a smaller one may fit."""


@dataclass(slots=True, eq=False)
class Unit(Queued):
    """A unit of this store."""

    sources: frozenset[str] = frozenset()
    """The sources that it writes about."""


class Writer:
    """Writes units in the order in which they came."""

    def __init__(self, server: Server, session: Session) -> None:
        self._server, self.session = server, session
        self.unsynced = False
        """Whether a power cut of the server may undo a commit since the last durable one."""
        self.full_at = float("-inf")
        """When (monotonic) the server's disk last had no place, unless new events were written since then."""
        self._units: deque[Unit] = deque()
        self._draining: asyncio.Task[None] | None = None
        self._most = ROWS
        """Maximum number of units of the next transaction."""
        self._tries = 0
        self._closed = False
        self._renewed = float("-inf")
        """When (monotonic) a connection that only reads was last replaced."""

    async def write(
        self, work: Work[T], *, durable: bool, large: bool = False, sources: Iterable[str] = ()
    ) -> T:
        """The result of the work, once it is committed. What it raises, or StoreError: then nothing is written.

        `sources`: the names of those that it writes about. A caller that is cancelled before its unit begins has written
        nothing either.
        """
        if self._closed:
            raise StoreError(f"{self._server} is closed")
        loop = asyncio.get_running_loop()
        unit = Unit(work, loop.create_future(), durable, large, sources=frozenset(sources))
        self._units.append(unit)
        if self._draining is None or self._draining.done():
            self._draining = loop.create_task(self._drain(), name="store")
        result: T = await unit.done
        return result

    async def close(self) -> None:
        """Write what waits. Later units are refused."""
        self._closed = True
        while self._draining is not None and not self._draining.done():
            await asyncio.wait([self._draining])
        self._refuse_all()
        await self.session.close()

    async def _drain(self) -> None:
        try:
            while self._units:
                await self._transaction()
        finally:
            self._refuse_all()  # only if this task was cancelled: the event loop ends

    def _refuse_all(self) -> None:
        refuse(self._units, StoreError(f"{self._server} is closed"))
        self._units.clear()

    # -- a transaction -------------------------------------------------------------------------------------------------

    async def _transaction(self) -> None:
        """Write units that wait, in one transaction."""
        durable = any(unit.durable for unit in self._units)
        written: list[Unit] = []
        try:
            if not await self._begun(durable):
                return
            transaction = Transaction(self.session.connection, counts=not self.session.daemon)
            locked = await self._locked()
            if locked is None:
                return
            await self._insert(transaction, written, durable, locked)
            if written:
                await self._commit(transaction, written)
                self.unsynced = not durable
        except _Undone:
            await self.session.roll_back()
            self._units.extendleft(reversed(written))
        except Exception as exc:  # noqa: BLE001 - handed to the callers
            await self.session.roll_back()
            refuse(written, exc)
        except BaseException:
            refuse(written, StoreError(f"{self._server} is closed"))
            raise
        else:
            self._tries, self._most = 0, min(ROWS, 2 * self._most)
            if written and transaction.base is not None:
                self.full_at = float("-inf")
            for unit in written:
                unit.settle()
            if not written:
                await self.session.roll_back()

    async def _begun(self, durable: bool) -> bool:
        """Begin a transaction. If that fails, the units that waited for it are refused; later ones get another one."""
        waiting = len(self._units)
        try:
            with translated(self._server):
                await self._begin(durable)
        except Exception as exc:  # noqa: BLE001 - handed to the callers
            await self.session.roll_back()
            for _ in range(waiting):
                self._units.popleft().refuse(exc)
            return False
        return True

    async def _begin(self, durable: bool) -> None:
        """Begin; on a new connection, if the server has ended this one meanwhile."""
        async with self._answered():
            if not self.session.connection.closed:
                try:
                    await self.session.begin(durable=durable)
                except psycopg.Error as exc:
                    if not is_lost(exc) and not self._may_write_anew(exc):
                        raise
                else:
                    return
            await self.session.renew()
            await self.session.begin(durable=durable)

    def _may_write_anew(self, error: psycopg.Error) -> bool:
        """Whether a new connection may write, although this one only reads. Looked at once a second."""
        if not only_reads(error) or time.monotonic() - self._renewed < RENEWED:
            return False
        self._renewed = time.monotonic()
        return True

    async def _locked(self) -> frozenset[str] | None:
        """Lock the sources of the next units. None if that failed: then these units are refused."""
        units = list(islice(self._units, min(self._most, TOGETHER)))
        ends = next((n for n, unit in enumerate(units) if unit.large), len(units))
        units = units[: max(1, ends)]  # others must not wait for what a large one does not need
        sources = frozenset[str]().union(*(unit.sources for unit in units))
        if not sources:
            return sources
        try:
            with translated(self._server):
                await self._lock(sources, alone=len(units) == 1)
        except StoreError as exc:
            await self.session.roll_back()
            for unit in units:
                self._units.popleft()
                unit.refuse(exc)
            return None
        return sources

    async def _lock(self, sources: frozenset[str], *, alone: bool) -> None:
        async with self._answered():
            try:
                await self.session.connection.execute(LOCK, (list(sources),), binary=True)
            except psycopg.Error as exc:
                if self._is_undone(exc):
                    raise _Undone from None
                if is_lost(exc) and self._tries < TRIES:  # nothing was written yet
                    self._tries += 1
                    raise _Undone from None
                if exc.sqlstate == IS_LOCKED and not alone:  # those of other sources need not wait
                    self._most = 1
                    raise _Undone from None
                raise

    async def _insert(
        self, transaction: Transaction, written: list[Unit], durable: bool, locked: frozenset[str]
    ) -> None:
        """Run units until the transaction is large enough, or the next one needs sources that are not locked."""
        began = time.perf_counter()
        while self._units:
            unit = self._units[0]
            if unit.durable > durable or not unit.sources <= locked:
                break
            if written and (
                unit.large
                or len(written) >= self._most
                or transaction.changed >= ROWS
                or time.perf_counter() - began >= WAITED
            ):
                break
            self._units.popleft()
            if unit.abandoned:
                continue
            try:
                with translated(self._server):
                    await self._run(unit, transaction, first=not written)
            except _Undone:
                self._units.appendleft(unit)
                raise
            except Exception as exc:
                unit.refuse(exc)
                if not written:
                    return  # the transaction had nothing else
                if self.session.connection.closed:
                    raise
            except BaseException:
                unit.refuse(StoreError(f"{self._server} is closed"))
                raise
            else:
                written.append(unit)

    async def _run(self, unit: Unit, transaction: Transaction, *, first: bool) -> None:
        """Run a unit. The first of a transaction needs no savepoint."""
        async with self._answered():
            try:
                async with nullcontext() if first else transaction.savepoint():
                    unit.result = await unit.work(transaction)
            except psycopg.Error as exc:
                if self._is_undone(exc):
                    raise _Undone from None
                self._look_for_place(exc)
                raise

    async def _commit(self, transaction: Transaction, written: list[Unit]) -> None:
        try:
            async with self._answered():
                await transaction.commit()
        except (psycopg.Error, StoreError) as exc:
            if self.session.connection.closed or is_lost(exc):
                try:
                    made = await self.session.committed()
                except StoreError as unknown:
                    raise Unclear(str(unknown)) from None
                if made:
                    return
            elif isinstance(exc, psycopg.Error):
                self._look_for_place(exc)
                if self._is_undone(exc) or await self._freed(exc):
                    raise _Undone from None
                if len(written) > 1 and exc.sqlstate not in ALIKE:
                    self._most = max(1, len(written) // 2)
                    raise _Undone from None
            with translated(self._server):
                raise

    def _look_for_place(self, error: psycopg.Error) -> None:
        if error.sqlstate == FULL:
            self.full_at = time.monotonic()

    def _is_undone(self, error: psycopg.Error) -> bool:
        """Whether to try the transaction again."""
        if error.sqlstate in DEADLOCKS:
            self._tries += 1
            self._most = 1  # a smaller transaction is in the way of fewer others
        return error.sqlstate in DEADLOCKS and self._tries < TRIES

    async def _freed(self, error: psycopg.Error) -> bool:
        """Whether to try the transaction again, because what held a lock for too long was ended."""
        if error.sqlstate != IS_LOCKED or self._tries >= TRIES:
            return False
        async with self._answered():
            await self.session.roll_back()
            if self.session.connection.closed or not await self.session.end_stopped():
                return False
        self._tries += 1
        return True

    @asynccontextmanager
    async def _answered(self) -> AsyncIterator[None]:
        """A time in which the server must answer; else the connection is closed, and StoreError is raised."""
        try:
            async with asyncio.timeout(connection.HANGS):
                yield
        except TimeoutError:
            await self.session.connection.close()
            raise StoreError(f"{self._server} has not answered for {connection.HANGS:.0f}s") from None
