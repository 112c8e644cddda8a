"""The store in one SQLite file: its files and locks, its two connections, and the daemon's own record."""

import asyncio
import os
import sqlite3
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import TypeVar

from roundsman import __version__
from roundsman.errors import StoreError
from roundsman.store.apart import PATIENCE, Apart, Work
from roundsman.store.reloads import column_of, results_of, text_of
from roundsman.store.rows import must_be
from roundsman.store.sqlite.books import Books
from roundsman.store.sqlite.census import Counting
from roundsman.store.sqlite.desk import Desk
from roundsman.store.sqlite.erasure import Erasure
from roundsman.store.sqlite.files import (
    claim_file,
    claim_inode,
    connect,
    must_exist,
    open_wal,
    translated,
)
from roundsman.store.sqlite.log import Log
from roundsman.store.sqlite.migrations import COPY_KEPT, copies, migrate, migrated, remove
from roundsman.store.sqlite.pruning import Pruning
from roundsman.store.sqlite.reader import Reader
from roundsman.store.sqlite.reading import reading
from roundsman.store.sqlite.soundness import check
from roundsman.store.sqlite.ticking import Ticking
from roundsman.store.sqlite.units import relaxed
from roundsman.store.sqlite.writer import Writer
from roundsman.store.values import DAEMON, Census, Filter, Intake, New
from roundsman.system.files import Space, create, resolve, space
from roundsman.system.threads import in_thread

T = TypeVar("T")


class SqliteStore(Log, Books, Desk, Ticking, Erasure, Pruning):
    """The store, for its one daemon; with `daemon=False`, for a command that writes beside the daemon."""

    fleet = None
    joint = None
    """One daemon uses a file."""

    def __init__(
        self,
        path: Path,
        connections: tuple[sqlite3.Connection, sqlite3.Connection],
        *,
        lock: int = -1,
        handle: int = -1,
        wal: int = -1,
    ) -> None:
        """`connections`: to read and to write. The daemon's handles: the lock's; the store's, to lock it; the -wal file's,
        to sync it.
        """
        reads, writes = connections
        super().__init__(path, reads, Writer(path, writes))
        self._writes = writes
        self._lock, self._handle, self._wal = lock, handle, wal
        self._copies = copies(path) if lock >= 0 else []
        """Copies from before the migrations."""
        self._place = _identity(path)
        self._links = os.fstat(lock).st_nlink if lock >= 0 else 0
        self._guard = Lock()
        """Held while `_wal` changes, because a thread may be about to sync it."""
        self._counting = Counting(path)
        self._reading = Lock()
        """Held while a view is open in a thread."""
        self._apart = Apart(path)
        self._config: str | None = None
        """The path of the configuration that the daemon runs with."""
        self._whoami = (os.getpid(), time.time(), __version__)
        self._version = 0
        """SQLite's number of other connections' changes, at the last look."""
        self.damage: str | None = None
        """What a check found to be damaged."""
        self.recoveries = 0
        """How often a deleted -wal file was recovered."""

    gone = "deleted or replaced while in use"

    @classmethod
    def open(cls, path: Path, *, daemon: bool = True) -> "SqliteStore":
        """Open the store; the daemon creates it if it is missing. StoreError, in one sentence, on failure."""
        if not daemon:
            must_exist(path)
        lock, handle, wal = -1, -1, -1
        writes: sqlite3.Connection | None = None
        with translated(path):
            if daemon:
                resolve(path, 0o700)  # creates its folder
                lock = claim_file(path)
            try:
                # Created here, so that its mode is right from the start; SQLite gives -wal and -shm the same.
                handle, _ = create(path, os.O_RDWR, 0o600)
                if daemon:
                    claim_inode(path, handle)
                else:
                    # Before SQLite opens the file: closing any handle of it releases SQLite's locks.
                    os.close(handle)
                    handle = -1
                writes = connect(path)
                migrate(path, writes, daemon=daemon)
                if daemon:
                    # The daemon starts on a full disk, too; `runs` and `beat` report it.
                    with suppress(sqlite3.OperationalError), writes:
                        writes.execute(
                            "UPDATE daemons SET pid = ?, config = NULL, digest = NULL", (os.getpid(),)
                        )
                    wal = open_wal(path)
                store = cls(path, _connections(path, writes), lock=lock, handle=handle, wal=wal)
            except BaseException:
                if writes is not None:
                    writes.close()
                for each in (handle, lock):
                    if each >= 0:
                        os.close(each)
                raise
        return store

    async def close(self) -> None:
        """Write what waits, and close the files."""
        await self._writer.close()
        await super().close()
        self._writes.close()  # the last connection to be closed checkpoints, which one that only reads cannot do
        # Last, because closing a handle of the store releases SQLite's locks on it.
        with self._guard:
            for each in (self._wal, self._handle, self._lock):
                if each >= 0:
                    os.close(each)
            self._wal = self._handle = self._lock = -1

    # -- the file ------------------------------------------------------------------------------------------------------

    def lost(self) -> bool:
        """Whether the store, its -wal file or its lock was deleted, or the store was replaced.

        What is written to a deleted file is lost when the daemon ends. Without the lock, another may start.
        """
        unlocked = self._lock >= 0 and not os.fstat(self._lock).st_nlink and bool(self._links)
        try:
            return unlocked or self._unlinked() or _identity(self.path) != self._place
        except OSError:  # unknown: a network disk does not answer, for example
            return False

    def _unlinked(self) -> bool:
        """Whether the -wal file was deleted, which contains the latest commits."""
        return self._wal >= 0 and not os.fstat(self._wal).st_nlink

    def space(self) -> Space | None:
        """The space on the disk of the file. OSError if that cannot be found out."""
        return space(self.path)

    async def recover(self) -> bool:
        """If the -wal file was deleted, checkpoint it into the store while it is open, and begin a new one.

        Returns whether that was done. It is not if another program has begun a new -wal file: then both files
        have changes of their own.
        """
        return self._unlinked() and await self._writer.apart(self._recover)

    def _recover(self) -> bool:
        path = resolve(self.path)
        wal, shared = (path.with_name(path.name + end) for end in ("-wal", "-shm"))
        others = wal.exists() and wal.stat().st_size
        if not self._unlinked() or others or _identity(self.path) != self._place:
            return False
        # SQLite shares one -shm between the connections of a process: none may keep the old one open.
        locks = [lock for lock in (self._counting.open, self._reading) if lock.acquire(blocking=False)]
        try:
            if len(locks) < 2:
                return False
            busy, *_ = self._do("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            if busy:
                return False
            self._db.close()
            self._writes.close()
            # -shm is the old -wal file's index: a process that still reads by it must keep it, not get ours.
            shared.unlink(missing_ok=True)
            self._db, self._writes = _connections(path, connect(path))
            self._writer.use(self._writes)
        except (sqlite3.Error, OSError):
            self._place = None  # the connections are unusable: from now on, `lost` is true
            return False
        finally:
            for lock in locks:
                lock.release()
        with self._guard:
            os.close(self._wal)
            self._wal = open_wal(path)
        self.recoveries += 1
        return True

    @property
    def unsynced(self) -> bool:
        """Whether a power cut would undo a relaxed write."""
        return self._writer.unsynced

    async def sync(self) -> None:
        """Sync relaxed writes to the disk, so that they survive a power cut. StoreError on failure."""
        if self.unsynced:
            try:
                await in_thread(self._sync)
            except OSError as exc:
                raise StoreError(f"{self.path} cannot be written: {exc.strerror}") from None

    def _sync(self) -> None:
        with self._guard:
            if self._wal < 0:
                return
            handle = os.dup(self._wal)
        self._writer.unsynced = False  # before the fsync: it need not include what is written meanwhile
        try:
            os.fsync(handle)
        except OSError:
            self._writer.unsynced = True
            raise
        finally:
            os.close(handle)

    async def backup(self, target: Path, *, replace: bool = False) -> None:
        """As `Reader.backup`, which changes its connection: so not with those of the daemon."""
        view = Reader.open(self.path)
        try:
            await view.backup(target, replace=replace)
        finally:
            await view.close()

    async def prune(self, sinks: Sequence[str], now: float, retention: float, limit: int = 500) -> bool:
        """As `Pruning.prune`. After a round, a copy from before migrations is removed a day after them."""
        more = await super().prune(sinks, now, retention, limit)
        if not more and self._copies:
            await self._remove_copies(now)
        return more

    async def _remove_copies(self, now: float) -> None:
        with translated(self.path):
            times = {copy: migrated(self._db, copy) for copy in self._copies}
        for copy, at in times.items():
            if at is not None and now - at >= COPY_KEPT:
                await in_thread(remove, copy)  # of a large file, this takes seconds
                self._copies = [each for each in self._copies if each != copy]

    async def check(self) -> str | None:
        """A sentence about damage to the store; None if it is sound. GaveUp if that cannot be found out now."""
        return await in_thread(check, self.path)

    @relaxed
    def record_check(self, damage: str | None) -> None:
        """Record what a check has found, for `known_damage`, in the row of the daemon's notices."""
        self._do("UPDATE sources SET error = ? WHERE name = ? AND error IS NOT ?", (damage, DAEMON, damage))

    # -- the daemon ----------------------------------------------------------------------------------------------------

    @relaxed
    def beat(self, now: float) -> None:
        """Record that the daemon runs."""
        if self._lock >= 0:
            os.utime(self._lock)  # so that a program that deletes old files spares it
        self._do(
            "UPDATE daemons SET beat = ?, config = coalesce(?, config), pid = ?, started = ?, version = ?",
            (now, self._config, *self._whoami),
        )

    @relaxed
    def runs(self, config: Path, digest: str) -> None:
        """Record that the daemon runs with this configuration."""
        self._config = text_of(config)
        self._do(
            "UPDATE daemons SET config = ?, digest = ?, problems = '[]', pid = ?, started = ?, version = ?",
            (self._config, digest, *self._whoami),
        )

    @relaxed
    def reloaded(
        self,
        config: Path,
        digest: str,
        problems: Sequence[str],
        changes: Sequence[str] = (),
        *,
        dry: bool = False,
    ) -> None:
        """Record a reload of this configuration; `problems`: why it was refused, else empty; `changes`: what it changed."""
        results = results_of(*self._do("SELECT problems FROM daemons").fetchone())
        if dry:
            results.compare(config, digest, problems, changes)
            self._do("UPDATE daemons SET problems = ?", (column_of(results),))
            return
        results.problems, results.changes = tuple(problems), tuple(changes)
        self._do(
            "UPDATE daemons SET config = ?, digest = ?, reloads = reloads + 1, problems = ?",
            (text_of(config), digest, column_of(results)),
        )

    async def apart(self, work: Work[T], patience: float = PATIENCE) -> T:
        """What `work` reads, in a thread and by a view of its own. One at a time: a reader waits, and no thread does."""
        return await self._apart.read(self._read_apart, work, patience)

    def _read_apart(self, work: Work[T], ends: float) -> T:
        with self._reading:
            return asyncio.run(self._read(work, ends))

    async def _read(self, work: Work[T], ends: float) -> T:
        view = Reader.open(self.path)
        try:
            view.end_at(ends)
            return await work(view)
        finally:
            await view.close()

    async def census(self, sinks: Mapping[str, Filter]) -> Census:
        """What the metrics show, for these sinks (name -> filter). It is counted in a thread, a few seconds at most."""
        return await in_thread(self._counting.count, sinks)

    @reading
    def last_beat(self) -> float | None:
        """When a daemon last recorded a beat, a visit or a delivery (Unix); None if it never did."""
        [last] = self._run(
            "SELECT max(at) FROM (SELECT max(visited) AS at FROM sources UNION ALL SELECT max(delivered) FROM sinks "
            "UNION ALL SELECT beat FROM daemons)"
        ).fetchone()
        return float(last) if last is not None else None

    @reading
    def fits(self, sources: Mapping[str, str], sinks: Mapping[str, str]) -> None:
        """StoreError if `register` would refuse one of these types."""
        for table, kinds in (("sources", sources), ("sinks", sinks)):
            for name, was in self._run(f"SELECT name, type FROM {table}").fetchall():  # noqa: S608 - fixed names
                must_be(f"{table}.{name}", was, kinds.get(name, was))

    async def receive(self, intake: Intake, now: float) -> New:
        """As `Log.receive`. StoreError also if the store is lost or damaged: the vendor sends the webhook again."""
        await self._usable()
        return await super().receive(intake, now)

    async def writable(self) -> None:
        """StoreError if the store cannot be written."""
        await self._usable()
        if full := await self.full():
            raise StoreError(full)
        await self._try()

    @relaxed
    def _try(self) -> None:
        self._do("UPDATE sources SET due = due WHERE id = (SELECT min(id) FROM sources)")

    async def _usable(self) -> None:
        if self.lost() and not await self.recover():
            raise StoreError(f"{self.path} was deleted or replaced while it was in use")
        if self.damage:
            raise StoreError(self.damage)

    async def commanded(self) -> list[str] | None:
        """Sources for which a command requested a visit; None if no other process has written since the last call."""
        return await self._writer.apart(self._commanded)

    def _commanded(self) -> list[str] | None:
        # By the connection that writes: for any other one, our own commits count, too.
        version = int(self._do("PRAGMA data_version").fetchone()[0])
        if version == self._version:
            return None
        wanted = [row[0] for row in self._do("SELECT name FROM sources WHERE due < 0")]
        self._version = version
        self._tail.clear()  # a command may have blanked some of its events
        return wanted


def _connections(path: Path, writes: sqlite3.Connection) -> tuple[sqlite3.Connection, sqlite3.Connection]:
    """A connection to read, which sees each commit, and the one to write, in autocommit mode."""
    reads = connect(path, readonly=True)
    reads.execute("PRAGMA cache_size = -4000")
    writes.isolation_level = None
    writes.execute("PRAGMA temp_store = MEMORY")  # savepoints copy pages there
    writes.execute("PRAGMA busy_timeout = 0")  # the writer waits, not the event loop
    return reads, writes


def _identity(path: Path) -> tuple[int, int] | None:
    """The device and inode of the file; None if there is none. OSError if that cannot be found out."""
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_dev, status.st_ino
