"""The one writer: all units that wait become one transaction and one fsync.

A unit is one caller's change. It has a savepoint of its own: if it fails, it fails alone. If the disk has no space for
a transaction, smaller ones are tried, so that only units that do not fit alone are refused. Rows are inserted on the
event loop, in pieces too short to delay other tasks. `COMMIT` runs in a thread, because it waits for the disk;
meanwhile nothing else uses the connection, and new units wait. A caller gets the result of its unit after the commit.

Rows are not inserted in the thread: beside a busy loop, `executemany` waits up to 5 ms for the GIL at each row.
"""

import asyncio
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from roundsman.errors import StoreError
from roundsman.store.queued import Queued, refuse
from roundsman.store.sqlite.files import BUSY, lacks_space, translated
from roundsman.system.worker import Worker

AGAIN = 0.005
"""Seconds until `BEGIN` is tried again while another process writes."""
ROWS = 4000
"""A transaction takes no further unit after so many changed rows: a larger one makes no row cheaper."""
WAITED = 0.02
"""A transaction takes no further unit after so many seconds: the callers of the first ones wait for it."""

T = TypeVar("T")
Work = Callable[[], T | Generator[None, None, T]]
"""The statements of a unit. A generator yields where other tasks may run. They run again if a transaction is undone."""


class _TooLarge(Exception):
    """The disk has no space for a transaction of several units."""


@dataclass(slots=True, eq=False)
class Unit(Queued):
    """A unit of this store."""

    apart: bool = False
    """Whether it must not be part of a transaction."""
    threaded: bool = False
    """Whether it runs in the thread. Only without rows: see above."""


class Writer:
    """Writes units in the order in which they came."""

    def __init__(self, path: Path, conn: sqlite3.Connection) -> None:
        self._path = path
        self.conn = conn
        """The connection that only this writer uses, in autocommit mode."""
        self.unsynced = False
        """Whether a power cut may undo a commit since the last sync."""
        self._units: deque[Unit] = deque()
        self._draining: asyncio.Task[None] | None = None
        self._worker = Worker("commit")
        self._threaded = False
        """Whether the thread uses the connection. A cancellation does not stop it."""
        self._full = True
        """Whether commits are synced to the disk, as the connection is set now."""
        self._most = ROWS
        """Maximum number of units of the next transaction: fewer while the disk has little space."""
        self._closed = False

    async def write(self, work: Work[T], *, durable: bool, large: bool = False) -> T:
        """The result of the work, once it is committed. What it raises, or StoreError: then nothing is written.

        A caller that is cancelled before its unit begins has written nothing either.
        """
        return await self._enqueue(work, durable=durable, large=large)

    async def apart(self, work: Callable[[], T], *, threaded: bool = False) -> T:
        """The result of work that is done between two transactions."""
        return await self._enqueue(work, apart=True, threaded=threaded)

    def use(self, conn: sqlite3.Connection) -> None:
        """Use this connection from now on. Called from work that is done apart."""
        self.conn, self._full = conn, True

    async def close(self) -> None:
        """Write what waits. Later units are refused."""
        self._closed = True
        while self._draining is not None and not self._draining.done():
            await asyncio.wait([self._draining])
        self._refuse_all()  # if that task was cancelled
        await self._end_threaded()
        self._worker.close()

    async def _enqueue(self, work: Work[T], **how: bool) -> T:
        if self._closed:
            raise StoreError(f"{self._path} is closed")
        loop = asyncio.get_running_loop()
        unit = Unit(work, loop.create_future(), **how)
        self._units.append(unit)
        if self._draining is None or self._draining.done():
            self._draining = loop.create_task(self._drain(), name="store")
        result: T = await unit.done
        return result

    async def _drain(self) -> None:
        try:
            await self._end_threaded()
            while self._units:
                if self._units[0].apart:
                    await self._run_apart(self._units.popleft())
                else:
                    await self._transaction()
        finally:
            self._refuse_all()  # only if this task was cancelled: the event loop ends

    def _refuse_all(self) -> None:
        """Refuse what waits."""
        refuse(self._units, StoreError(f"{self._path} is closed"))
        self._units.clear()

    async def _run_apart(self, unit: Unit) -> None:
        if unit.abandoned:
            return
        try:
            with translated(self._path):
                unit.result = await self._in_thread(unit.work) if unit.threaded else unit.work()
        except Exception as exc:  # noqa: BLE001 - handed to the caller
            unit.refuse(exc)
        except BaseException:
            unit.refuse(StoreError(f"{self._path} is closed"))
            raise
        else:
            unit.settle()

    # -- a transaction -------------------------------------------------------------------------------------------------

    async def _transaction(self) -> None:
        """Write units that wait, in one transaction."""
        durable = any(unit.durable for unit in self._units)
        written: list[Unit] = []
        try:
            if not await self._begun(durable):
                return
            tried = await self._insert(written, durable)
            if written:
                with self._fitting(alone=tried == 1):
                    await self._in_thread(lambda: self.conn.execute("COMMIT"))
                self.unsynced = not durable
        except _TooLarge:
            self._roll_back()
            self._units.extendleft(reversed(written))
            self._most = max(1, len(written) // 2)
        except Exception as exc:  # noqa: BLE001 - handed to the callers
            self._roll_back()
            refuse(written, exc)
        except BaseException:
            self._roll_back()
            refuse(written, StoreError(f"{self._path} is closed"))
            raise
        else:
            self._most = min(ROWS, 2 * self._most)
            for unit in written:
                unit.settle()
        finally:
            self._roll_back()  # if nothing was written

    async def _begun(self, durable: bool) -> bool:
        """Begin a transaction. If that fails, the units that waited for it are refused; later ones get another one."""
        waiting = len(self._units)
        try:
            with translated(self._path):
                self._sync_commits(durable)
                await self._begin()
        except Exception as exc:  # noqa: BLE001 - handed to the callers
            units, self._units = list(self._units), deque()
            for number, unit in enumerate(units):
                if number < waiting and not unit.apart:
                    unit.refuse(exc)
                else:
                    self._units.append(unit)
            return False
        return True

    @contextmanager
    def _fitting(self, *, alone: bool) -> Iterator[None]:
        """As `translated`; _TooLarge if the disk has no space, and less than this transaction may fit."""
        with translated(self._path):
            try:
                yield
            except sqlite3.Error as exc:
                if not alone and lacks_space(exc):
                    raise _TooLarge from None
                raise

    def _sync_commits(self, durable: bool) -> None:
        if durable != self._full:
            self.conn.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._full = durable

    async def _begin(self) -> None:
        """Begin, and wait for another process's write, but not on the loop."""
        ends = time.monotonic() + BUSY
        while True:
            try:
                self.conn.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as exc:
                if not _is_busy(exc) or time.monotonic() >= ends:
                    raise
            else:
                return
            await asyncio.sleep(AGAIN)

    async def _insert(self, written: list[Unit], durable: bool) -> int:
        """Run units until the transaction is large enough. Returns how many: what was undone of one may need space, too."""
        began, before, tried = time.perf_counter(), self.conn.total_changes, 0
        while self._units:
            unit = self._units[0]
            if unit.apart or (unit.durable and not durable):
                break
            if written and (
                unit.large
                or len(written) >= self._most
                or self.conn.total_changes - before >= ROWS
                or time.perf_counter() - began >= WAITED
            ):
                break
            self._units.popleft()
            if unit.abandoned:
                continue
            tried += 1
            try:
                with self._fitting(alone=not written):
                    await (self._savepoint(unit) if written else self._run(unit))
            except _TooLarge:
                self._units.appendleft(unit)
                raise
            except Exception as exc:  # noqa: BLE001 - handed to the caller
                unit.refuse(exc)
                if not written:
                    self._roll_back()
                if not self.conn.in_transaction:
                    # An I/O error may undo the whole transaction: the others are tried again.
                    self._units.extendleft(reversed(written))
                    written.clear()
                    break
            except BaseException:
                unit.refuse(StoreError(f"{self._path} is closed"))
                raise
            else:
                written.append(unit)
        return tried

    async def _run(self, unit: Unit) -> None:
        found = unit.work()
        unit.result = await _in_pieces(found) if isinstance(found, Generator) else found

    async def _savepoint(self, unit: Unit) -> None:
        """Run a unit behind others. The first of a transaction needs no savepoint, which copies each page it changes."""
        self.conn.execute("SAVEPOINT unit")
        try:
            await self._run(unit)
            self.conn.execute("RELEASE unit")
        except BaseException:
            if self.conn.in_transaction:
                try:
                    self.conn.execute("ROLLBACK TO unit")
                    self.conn.execute("RELEASE unit")
                except sqlite3.Error:
                    self._roll_back()  # no part of this unit may be committed
            raise

    async def _in_thread(self, work: Callable[[], T]) -> T:
        self._threaded = True
        try:
            result = await self._worker.run(work)
        except Exception:
            self._threaded = False
            raise
        self._threaded = False
        return result

    async def _end_threaded(self) -> None:
        """Wait for what the thread still does with the connection, for a task that was cancelled meanwhile."""
        if self._threaded:
            await self._worker.run(lambda: None)
            self._threaded = False
            self._roll_back()

    def _roll_back(self) -> None:
        if self._threaded:
            return
        with suppress(sqlite3.Error):
            if self.conn.in_transaction:
                self.conn.execute("ROLLBACK")


def _is_busy(error: sqlite3.Error) -> bool:
    """Whether another process writes."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY


async def _in_pieces(pieces: Generator[None, None, T]) -> T:
    """The generator's return value; other tasks run wherever it yields."""
    while True:
        try:
            next(pieces)
        except StopIteration as end:
            result: T = end.value
            return result
        await asyncio.sleep(0)
