"""The right of a process to write: its row in `workers`, and the connection that it writes with.

The row says which of the process's transactions were committed, also if the connection ended in a commit. Another
process can end the right; then no transaction begins any more.
"""

import asyncio
import os
import socket
import time
from contextlib import suppress
from typing import Any

import psycopg

from roundsman import __version__
from roundsman.errors import StoreError
from roundsman.options.server import Server
from roundsman.store.postgres.connection import LOCKED, Facts, connect, is_lost, program
from roundsman.store.postgres.roll import NOW
from roundsman.store.postgres.schema import ALONE, migrate, must_be_current, must_be_whole

WAITS = 3.0
"""Seconds to wait for the end of a daemon that has just died: the server has to notice it."""
OUTCOME = 20.0
"""Seconds to wait for the server, to find out whether a transaction was committed."""
AGAIN = 0.1
BEATS = 20.0
"""Seconds since its last beat for which a worker counts as running: it may be about to reach the server again."""
STARTS = 3600.0
"""Seconds after which a worker of another machine that never beat, and is not connected, counts as ended."""
UNKNOWN = "{} went away in a commit, and does not say whether it was made: what was written is read again"

LIVES = (
    "EXISTS (SELECT 1 FROM pg_locks l JOIN pg_database d ON d.oid = l.database WHERE l.locktype = 'advisory' "
    "AND d.datname = current_database() AND l.classid = {space}::bigint::oid AND l.objid = w.id::oid AND l.objsubid = 2 "
    "AND l.granted)"
)
"""Whether the process of a row `w` of `workers` is connected."""
HERE = "database = (SELECT oid FROM pg_database WHERE datname = current_database())"
"""Of locks, those in this database: schemas of others may have the same number."""


def lives(space: int) -> str:
    return LIVES.format(space=space % 2**32)


def spoken(pid: int, host: str, started: float) -> str:
    """A process as a person reads of it."""
    return (
        f"roundsman, pid {pid} on {host}, since {time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(started))}"
    )


class Session:
    """A process that writes."""

    def __init__(self, server: Server, connection: psycopg.AsyncConnection[Any], facts: Facts) -> None:
        self._server, self._space = server, facts.space
        self.connection = connection
        self.ahead = time.time() - facts.clock
        """Seconds by which our clock was ahead of the server's."""
        self.daemon = False
        self.worker: str | None = None
        """The name of this process as a worker that shares the store; None if it is alone, or a command."""
        self._number = 0
        self._started = 0.0
        self._writes = 0
        """The number of the last transaction that was begun."""
        self.ended = False
        """Whether another process has ended the right to write."""

    @classmethod
    async def open(cls, server: Server, *, daemon: bool, worker: str | None = None) -> "Session":
        """Begin to write; the daemon creates the store if it is missing. StoreError if that is not possible.

        `worker`: the name of a daemon that shares the store with others.
        """
        connection, facts = await connect(server, program())
        try:
            if daemon:
                await migrate(server, connection, facts.space)
            else:
                await must_be_current(server, connection)
            session = cls(server, connection, facts)
            session.daemon, session.worker = daemon, worker
            await session._enter()
        except BaseException:
            await connection.close()
            raise
        return session

    async def _enter(self) -> None:
        connection, space = self.connection, self._space
        ends = time.monotonic() + WAITS
        while True:
            async with connection.transaction():
                await connection.execute("SELECT pg_advisory_xact_lock(%s, %s)", (space, ALONE))
                part = await (await connection.execute("SELECT copied_from FROM store")).fetchone()
                must_be_whole(self._server, part and part[0])
                other = await self._other() if self.daemon else None
                if other is None:
                    await self._add()
                    return
            if time.monotonic() > ends:
                raise StoreError(f"{self._server} is in use by {other}")
            await asyncio.sleep(AGAIN)

    @property
    def number(self) -> int:
        """The number of its row in `workers`, and of its lock."""
        return self._number

    @property
    def identity(self) -> tuple[int, float]:
        """The number, and when it began: no other row in `workers` has both, also not in a copy of the database."""
        return self._number, self._started

    @property
    def space(self) -> int:
        """The number of the schema, for advisory locks."""
        return self._space

    @property
    def _kind(self) -> str:
        return "worker" if self.worker is not None else "daemon" if self.daemon else "command"

    async def _other(self) -> str | None:
        """A daemon that is connected and does not share the store, and why that is refused; the right of those that have gone is ended."""
        run = self.connection.execute
        others = "= 'daemon'" if self.worker is not None else "IN ('daemon', 'worker')"
        sql = (
            "SELECT w.pid, w.host, w.started, w.kind FROM workers w "  # noqa: S608 - fixed words and a number
            f"WHERE w.kind {others} AND {lives(self._space)} ORDER BY w.id"
        )
        found = await (await run(sql)).fetchall()
        if found:
            *first, kind = found[0]
            if kind == "daemon" or self.worker is not None:
                return f"{spoken(*first)}: one daemon per store"
            workers = "1 worker" if len(found) == 1 else f"{len(found)} workers"
            return f"{workers} ({spoken(*first)}): `roundsman once` is refused while a worker runs"
        await self._end_the_gone(others)
        if self.worker is not None and (same := await self._namesake(self.worker)) is not None:
            return same
        old = f"(w.kind = 'command' OR w.ended < %s) AND NOT {lives(self._space)}"
        await run(f"DELETE FROM workers w WHERE {old}", (time.time() - 86400.0,))  # noqa: S608 - a number
        return None

    async def _namesake(self, name: str) -> str | None:
        """A worker with this name that runs, and what to do: both would serve the sinks of that machine."""
        sql = (
            "SELECT w.pid, w.host, w.started FROM workers w JOIN beats b ON b.worker = w.id "  # noqa: S608 - fixed words and a number
            "WHERE w.ended IS NULL AND b.name = %s AND CASE WHEN b.beat IS NULL "
            f"THEN {lives(self._space)} ELSE {NOW} - b.beat < %s END ORDER BY w.id LIMIT 1"
        )
        found = await (await self.connection.execute(sql, (name, BEATS))).fetchone()
        if found is None:
            return None
        return (
            f"{spoken(*found)}, with the same name, {name}: give each worker a name of its own, by `name` in [daemon]; if "
            f"that one has just ended without giving back what it held, start this one {BEATS:.0f} s later"
        )

    async def _end_the_gone(self, others: str) -> None:
        """End the right of each that is not connected; of workers, of those on this machine whose process has ended, and of
        those that ended on another one before their first beat.
        """
        run = self.connection.execute
        sql = f"SELECT id FROM workers w WHERE kind {others} AND ended IS NULL FOR UPDATE"  # noqa: S608 - fixed words
        gone = [number for [number] in await (await run(sql)).fetchall()]
        if self.worker is not None:
            here = socket.gethostname()
            # The others do not miss what never beat.
            unborn = (
                "started < %s AND EXISTS (SELECT 1 FROM beats b WHERE b.worker = w.id AND b.beat IS NULL)"
            )
            sql = (
                f"SELECT id, host, pid FROM workers w WHERE kind = 'worker' AND ended IS NULL AND (host = %s OR {unborn}) "  # noqa: S608 - fixed words and a number
                f"AND NOT {lives(self._space)} FOR UPDATE"
            )
            found = await (await run(sql, (here, time.time() - STARTS))).fetchall()
            gone += [number for number, host, pid in found if host != here or not _runs(pid)]
        await run("UPDATE workers SET ended = %s WHERE id = ANY (%s)", (time.time(), gone))
        # Also what sessions hold that a migration has ended.
        await run(
            "UPDATE holds SET holder = NULL WHERE holder IS NOT NULL AND NOT EXISTS "
            "(SELECT 1 FROM workers w WHERE w.id = holder AND w.ended IS NULL)"
        )
        await run("DELETE FROM beats WHERE worker = ANY (%s)", (gone,))

    async def _add(self) -> None:
        run = self.connection.execute
        self._started = time.time()
        facts = (
            self._kind,
            socket.gethostname(),
            os.getpid(),
            self._started,
            __version__,
        )
        columns = "(kind, host, pid, started, version)"
        row = await (
            await run(f"INSERT INTO workers {columns} VALUES (%s, %s, %s, %s, %s) RETURNING id", facts)  # noqa: S608 - fixed names
        ).fetchone()
        assert row is not None
        [self._number] = row
        if self.worker is not None:
            await run("INSERT INTO beats (worker, name) VALUES (%s, %s)", (self._number, self.worker))
        await run("SELECT pg_advisory_lock(%s, %s)", (self._space, self._number))

    async def begin(self, *, durable: bool) -> None:
        """Begin a transaction. StoreError if the right to write was ended."""
        steps = ["BEGIN"]
        if not durable:
            steps.append("SET LOCAL synchronous_commit = off")
        mine = f"id = {self._number} AND ended IS NULL"
        steps.append(f"UPDATE workers SET writes = writes + 1 WHERE {mine} RETURNING writes")  # noqa: S608 - a number
        done = await self.connection.execute("; ".join(steps).encode(), prepare=False)
        while done.nextset():
            pass
        row = await done.fetchone()
        if row is None:
            self.ended = True
            raise StoreError(self.why_ended)
        [self._writes] = row

    @property
    def why_ended(self) -> str:
        if self.worker is not None:
            return f"{self._server}: another worker has ended the session of this one, which did not beat any more"
        return f"{self._server} is written by another daemon now, which has ended the right of this one"

    async def end_stopped(self) -> bool:
        """End sessions that hold the numbers of the log and wait for the rest of a commit: their process was stopped while it
        sent it, or cannot be reached. Returns whether there were any.
        """
        sql = (
            f"SELECT pg_terminate_backend(a.pid) FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid WHERE l.{HERE} "  # noqa: S608 - fixed words
            "AND l.locktype = 'relation' AND l.relation IN ('log_head'::regclass, 'store'::regclass) AND l.granted "
            "AND l.mode = 'RowExclusiveLock' AND a.state = 'active' AND a.wait_event = 'ClientRead' "
            "AND a.state_change < clock_timestamp() - make_interval(secs => %s)"
        )
        try:
            found = await (await self.connection.execute(sql, (LOCKED / 2,))).fetchall()
        except psycopg.Error:  # it is of another role
            return False
        return bool(found)

    async def roll_back(self) -> None:
        """Undo the transaction, if there is one."""
        connection = self.connection
        if connection.closed:
            return
        if connection.pgconn.pipeline_status:  # it ended in the middle: what is still to come is not known
            await connection.close()
            return
        if connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE:
            return
        try:
            await connection.execute("ROLLBACK", prepare=False)
        except psycopg.Error:
            await connection.close()

    async def renew(self) -> None:
        """Connect again. What the old connection was doing has ended then."""
        await self.connection.close()
        connection, facts = await connect(self._server, program())
        try:
            self._space = facts.space
            await self._take_over(connection)
        except BaseException:
            await connection.close()
            raise
        self.connection = connection

    async def _take_over(self, connection: psycopg.AsyncConnection[Any]) -> None:
        """Take the lock of this process from its old connection, which the server may not know to have ended."""
        held = (
            "locktype = 'advisory' AND classid = %s::bigint::oid AND objid = %s::bigint::oid AND objsubid = 2"
        )
        ends = time.monotonic() + WAITS
        while True:
            sql = "SELECT pg_try_advisory_lock(%s, %s)"
            row = await (await connection.execute(sql, (self._space, self._number))).fetchone()
            if row is not None and row[0]:
                return
            sql = f"SELECT pg_terminate_backend(pid) FROM pg_locks WHERE {held} AND {HERE} AND pid != pg_backend_pid()"  # noqa: S608 - fixed words
            await connection.execute(sql, (self._space % 2**32, self._number))
            if time.monotonic() > ends:
                raise StoreError(f"{self._server} still serves an old connection of this process")
            await asyncio.sleep(AGAIN)

    async def committed(self) -> bool:
        """Whether the last transaction was committed, after its connection has ended. StoreError if that stays unknown."""
        ends = time.monotonic() + OUTCOME
        while True:
            try:
                await self.renew()
                # An old transaction that still runs holds this row.
                sql = "SELECT writes, ended FROM workers WHERE id = %s FOR UPDATE"
                row = await (await self.connection.execute(sql, (self._number,))).fetchone()
            except (psycopg.Error, OSError) as exc:
                if not (is_lost(exc) or isinstance(exc, OSError)) or time.monotonic() > ends:
                    raise StoreError(UNKNOWN.format(self._server)) from None
                await asyncio.sleep(AGAIN)
                continue
            if row is None:
                # Another process has started meanwhile, and deleted the row of a command that it saw to be gone.
                self.ended = True
                raise StoreError(UNKNOWN.format(self._server))
            return bool(row[0] >= self._writes)

    async def close(self) -> None:
        """End the right to write."""
        if not self.connection.closed and self.worker is None:  # a worker first gives back what it holds
            with suppress(psycopg.Error):
                await self.connection.execute("DELETE FROM workers WHERE id = %s", (self._number,))
        await self.connection.close()


def _runs(pid: int) -> bool:
    """Whether this machine has another process with this number."""
    if pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it is of another user
        return True
    return True
