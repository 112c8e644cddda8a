"""Writes the store: each change is one transaction."""

import os
import sqlite3
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from types import MappingProxyType

from sqlite_utils import Database

from roundsman import __version__, wire
from roundsman.errors import Conflict, StoreError
from roundsman.events import Event
from roundsman.plugin import Receipt, State
from roundsman.store.database import (
    BUSY,
    applied,
    claim_file,
    claim_inode,
    connect,
    must_exist,
    open_wal,
    translated,
)
from roundsman.store.pruning import Pruning
from roundsman.store.schema import migrations
from roundsman.store.values import Found, Intake, SourceStatus, Via
from roundsman.system.files import create, resolve

UNREAD, UNREAD_BYTES = 1000, 32 * 2**20
"""Maximum number and bytes of unread webhooks and rows that are kept, per source."""


class Store(Pruning):
    """The store, for its one daemon; with `daemon=False`, for a command that writes beside the daemon."""

    def __init__(
        self, path: Path, db: Database, relaxed: Database, lock: int | None, handle: int = -1, wal: int = -1
    ) -> None:
        """The daemon's own handles: `handle` of the store, to lock it; `wal` of its -wal file, to sync it."""
        super().__init__(path, db)
        self._relaxed = relaxed
        self._lock = lock
        self._handle = handle
        self._place = _identity(path)
        self._links = os.fstat(lock).st_nlink if lock is not None else 0
        self.unsynced = False
        """Whether there were relaxed writes since the last `sync`: a power cut would lose them."""
        self.damage: str | None = None
        """What a check found to be damaged."""
        self._patience = round(BUSY * 1000)
        """Milliseconds to wait for another process's write."""
        self._config: str | None = None
        """The path of the configuration that the daemon runs with."""
        self._whoami = (os.getpid(), time.time(), __version__)
        self._wal = wal
        self._guard = Lock()
        """Held while `_wal` changes, because a thread may be about to sync it."""
        self.recoveries = 0
        """How often a deleted -wal file was recovered."""

    @classmethod
    def open(cls, path: Path, *, daemon: bool = True) -> "Store":
        """Open the store; the daemon creates it if it is missing. StoreError, in one sentence, on failure."""
        if not daemon:
            must_exist(path)
        lock, handle, wal = None, -1, -1
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
                db, relaxed = _connections(path)
                applied(path, db)
                migrations.apply(db)
                if daemon:
                    # A full disk is no reason not to start; `runs` and `beat` say it again.
                    with suppress(sqlite3.OperationalError), relaxed.atomic():
                        relaxed.execute(
                            "UPDATE daemons SET pid = ?, config = NULL, digest = NULL", (os.getpid(),)
                        )
                    wal = open_wal(path)
            except BaseException:
                for each in (handle, lock):
                    if each is not None and each >= 0:
                        os.close(each)
                raise
            return cls(path, db, relaxed, lock, handle, wal)

    def close(self) -> None:
        self._relaxed.close()
        super().close()
        # Last, because closing a handle of the store releases SQLite's locks on it.
        with self._guard:
            for each in (self._wal, self._handle):
                if each >= 0:
                    os.close(each)
            self._wal = self._handle = -1
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def lost(self) -> bool:
        """Whether the store, its -wal file or its lock was deleted, or the store was replaced.

        What is written to a deleted file is lost when the daemon ends. Without the lock, another may start.
        """
        unlocked = self._lock is not None and not os.fstat(self._lock).st_nlink and bool(self._links)
        try:
            return unlocked or self._unlinked() or _identity(self.path) != self._place
        except OSError:  # unknown: a network disk does not answer, for example
            return False

    def _unlinked(self) -> bool:
        """Whether the -wal file was deleted, which contains the latest commits."""
        return self._wal >= 0 and not os.fstat(self._wal).st_nlink

    def recover(self) -> bool:
        """If the -wal file was deleted, checkpoint it into the store while it is open, and begin a new one.

        Returns whether that was done. It is not if another program has begun a new -wal file: then both files
        have changes of their own.
        """
        path = resolve(self.path)
        wal, shared = (path.with_name(path.name + end) for end in ("-wal", "-shm"))
        others = wal.exists() and wal.stat().st_size
        if not self._unlinked() or others or _identity(self.path) != self._place:
            return False
        try:
            busy, *_ = self._db.conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            if busy:
                return False
            self._relaxed.close()
            self._db.close()
            # -shm is the old -wal file's index: a process that still reads by it must keep it, not get ours.
            shared.unlink(missing_ok=True)
            self._db, self._relaxed = _connections(path)
        except (sqlite3.Error, OSError):
            self._place = None  # the connections are unusable: from now on, `lost` is true
            return False
        with self._guard:
            os.close(self._wal)
            self._wal = open_wal(path)
        self.recoveries += 1
        return True

    def sync(self) -> None:
        """Sync relaxed writes to the disk, so that they survive a power cut. May be called in a thread."""
        with self._guard:
            if self._wal < 0:
                return
            handle = os.dup(self._wal)
        self.unsynced = False  # before the fsync: it need not include what is written meanwhile
        try:
            os.fsync(handle)
        except OSError:
            self.unsynced = True
            raise
        finally:
            os.close(handle)

    def wait_less(self, yes: bool) -> None:
        """Wait 20 ms (`yes`) or `BUSY` seconds for another process's write.

        After a busy timeout, waiting long again would delay all other tasks.
        """
        self._patience = 20 if yes else round(BUSY * 1000)
        for db in (self._db, self._relaxed):
            with suppress(sqlite3.Error):  # a closed or broken store raises when it is used
                db.conn.execute(f"PRAGMA busy_timeout = {self._patience}")

    @contextmanager
    def _relaxed_transaction(self) -> Iterator[None]:
        """A transaction that is on the disk within a second, by `sync`."""
        with translated(self.path), self._relaxed.atomic():
            yield
        self.unsynced = True

    def beat(self, now: float) -> None:
        """Record that the daemon runs."""
        if self._lock is not None:
            os.utime(self._lock)  # so that a program that deletes old files spares it
        with self._relaxed_transaction():
            self._relaxed.conn.execute(
                "UPDATE daemons SET beat = ?, config = coalesce(?, config), pid = ?, started = ?, version = ?",
                (now, self._config, *self._whoami),
            )

    def last_beat(self) -> float | None:
        """When a daemon last recorded a beat, a visit or a delivery (Unix); None if it never did."""
        [last] = self._run(
            "SELECT max(at) FROM (SELECT max(visited) AS at FROM sources UNION ALL SELECT max(delivered) FROM sinks "
            "UNION ALL SELECT beat FROM daemons)"
        ).fetchone()
        return float(last) if last is not None else None

    def register(
        self,
        sources: Mapping[str, str],
        sinks: Mapping[str, str],
        origins: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Create missing rows of configured sources and sinks (name -> type). A new sink starts at the head.

        `origins`: what each source reads. If its state is from another origin, both origins are stored.
        StoreError if the type of a name has changed.
        """
        with translated(self.path), self._db.atomic():
            run = self._run
            for name, kind in sources.items():
                run("INSERT OR IGNORE INTO sources (name, type) VALUES (?, ?)", (name, kind))
                [was] = run("SELECT type FROM sources WHERE name = ?", (name,)).fetchone()
                _same_type(f"sources.{name}", was, kind)
                if name in origins:
                    run(
                        "UPDATE sources SET origin = CASE WHEN origin IS NULL OR visited IS NULL THEN ?1 ELSE origin END, "
                        "moved = CASE WHEN visited IS NOT NULL AND origin != ?1 THEN ?1 END WHERE name = ?2",
                        (origins[name], name),
                    )
            for name, kind in sinks.items():
                run(
                    "INSERT OR IGNORE INTO sinks (name, type, cursor) "
                    "VALUES (?, ?, (SELECT coalesce(max(seq), 0) FROM events))",
                    (name, kind),
                )
                [was] = run("SELECT type FROM sinks WHERE name = ?", (name,)).fetchone()
                _same_type(f"sinks.{name}", was, kind)

    def fits(self, sources: Mapping[str, str], sinks: Mapping[str, str]) -> None:
        """StoreError if `register` would refuse one of these types."""
        for table, kinds in (("sources", sources), ("sinks", sinks)):
            for name, was in self._run(f"SELECT name, type FROM {table}").fetchall():  # noqa: S608 - fixed names
                _same_type(f"{table}.{name}", was, kinds.get(name, was))

    def begin(
        self,
        scheduled: Iterable[tuple[str, SourceStatus]],
        rung: Iterable[tuple[str, SourceStatus]] = (),
    ) -> None:
        """Write when these sources are due next, *before* their visits: a daemon that dies during one does not ask again
        until then. A scheduled visit fulfils a command's wish for one; a visit that a webhook `rung` for does not.
        """
        with self._relaxed_transaction():
            self._relaxed.conn.executemany(
                "UPDATE sources SET due = ?, held = ? WHERE name = ?",
                [(status.due, status.not_before, name) for name, status in scheduled],
            )
            self._reschedule(rung)

    def schedule(self, statuses: Iterable[tuple[str, SourceStatus]]) -> None:
        """Store `due` and `not_before` of these sources; `due` stays if a command has requested a visit."""
        with self._relaxed_transaction():
            self._reschedule(statuses)

    def _reschedule(self, statuses: Iterable[tuple[str, SourceStatus]]) -> None:
        self._relaxed.conn.executemany(
            "UPDATE sources SET due = CASE WHEN due < 0 THEN due ELSE ? END, held = ? WHERE name = ?",
            [(status.due, status.not_before, name) for name, status in statuses],
        )

    def note_refused(self, refused: Iterable[tuple[str, int, str]]) -> None:
        """Count refused webhooks: source, how many, and why the last one was refused."""
        with self._relaxed_transaction():
            self._relaxed.conn.executemany(
                "UPDATE sources SET refused = refused + ?, refusal = ? WHERE name = ?",
                [(count, why, name) for name, count, why in refused],
            )

    def record(self, statuses: Iterable[tuple[str, SourceStatus]]) -> None:
        """Store visits that found nothing, several at a time. Not `due`: a command may have changed it."""
        with self._relaxed_transaction():
            self._relaxed.conn.executemany(
                "UPDATE sources SET visited = ?, answered = ?, polls = ?, unanswered = ? WHERE name = ?",
                [(s.last_visit, s.last_success, s.visits, s.unanswered_since, name) for name, s in statuses],
            )

    def commit(self, name: str, revision: int, found: Found, status: SourceStatus, now: float) -> int:
        """Commit a poll's result and the source's new status in one transaction.

        Returns the number of new events. Raises `Conflict` if the source was rewound since `revision` was
        read.
        """
        with translated(self.path), self._db.atomic():
            run = self._run
            row = run(
                "UPDATE sources SET due = CASE WHEN due < 0 AND ? THEN due ELSE ? END, held = ?, visited = ?, answered = ?, "
                "polls = ?, failures = ?, failing = ?, unanswered = ?, error = ?, options = ? "
                "WHERE name = ? AND revision = ? RETURNING id",
                (found.keeps_wish, *_columns(status), name, revision),
            ).fetchone()
            if row is None:
                raise Conflict
            [source] = row
            if found.state is not None:
                run("UPDATE sources SET state = ? WHERE id = ?", (wire.encode(found.state).decode(), source))
            if found.taken:
                run("DELETE FROM inbox WHERE source = ? AND n <= ?", (source, found.taken))
            for each in found.unread:
                self._keep_unread(source, now, each.why, each.raw)
            if found.unread:
                self._trim_unread(source)
            if not found.events:
                return 0
            new = self._insert(source, found.events, now, found.via)
            if found.state is not None:
                self._advance(source, found, now, changed=new > 0)
            return new

    def _advance(self, source: int, found: Found, now: float, *, changed: bool) -> None:
        """Move a source's position on to the newest stamp of the poll. Events from webhooks count, too."""
        if changed:
            self._run("UPDATE sources SET changed = ? WHERE id = ?", (now, source))
        # A stamp in the future must not cause ids to be pruned that are not old.
        newest = max((min(e.stamp, now) for e in found.events if e.stamp is not None), default=None)
        if newest is not None:
            self._run(
                "UPDATE sources SET position = ?1 WHERE id = ?2 AND coalesce(position, 0) < ?1",
                (newest, source),
            )
        if found.gap is not None:
            self._run("UPDATE sources SET position = min(position, ?) WHERE id = ?", (found.gap, source))

    def _insert(self, source: int, events: Sequence[Event], now: float, via: Via) -> int:
        # Not INSERT OR IGNORE: an ignored row uses up a `seq`, so every overlap would leave gaps.
        return self._db.conn.executemany(
            "INSERT INTO events (source, id, type, outcome, logged, stamp, body, failure, via) "
            "SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9 "
            "WHERE NOT EXISTS (SELECT 1 FROM events WHERE source = ?1 AND id = ?2) "
            "AND (?10 IS NULL OR NOT EXISTS (SELECT 1 FROM events WHERE source = ?1 AND id = ?10))",
            [
                (source, e.id, e.type, e.outcome, now, e.stamp, e.body, e.failure, via, e.unless)
                for e in events
            ],
        ).rowcount

    def receive(self, intakes: Sequence[Intake], now: float) -> list[int]:
        """Commit the content of many webhooks in one transaction. Returns the number of new events of each.

        A source's position does not move: a webhook says nothing about what came before it. StoreError also
        if the store is lost or damaged.
        """
        if self.lost() and not self.recover():  # the vendor would not send them again
            raise StoreError(f"{self.path} was deleted or replaced while it was in use")
        if self.damage:
            raise StoreError(self.damage)
        with translated(self.path), self._db.atomic():
            run = self._run
            found: list[int] = []
            calls: Counter[int] = Counter()
            changed: set[int] = set()
            unread: set[int] = set()
            for intake in intakes:
                [source] = run("SELECT id FROM sources WHERE name = ?", (intake.source,)).fetchone()
                calls[source] += 1
                new = self._insert(source, intake.events, now, "push") if intake.events else 0
                if intake.events:
                    self._read_back(intake)
                for each in intake.follow:
                    run("INSERT OR IGNORE INTO inbox (source, id) VALUES (?, ?)", (source, each))
                if intake.unread is not None:
                    unread.add(source)
                    self._keep_unread(source, now, *intake.unread)
                found.append(new)
                if new:
                    changed.add(source)
            for source, count in calls.items():
                run("UPDATE sources SET heard = ?, calls = calls + ? WHERE id = ?", (now, count, source))
            for source in changed:
                run("UPDATE sources SET changed = ? WHERE id = ?", (now, source))
            for source in unread:
                self._trim_unread(source)
            return found

    def _read_back(self, intake: Intake) -> None:
        """StoreError if events that were just written cannot be found by id: then the store is damaged."""
        written = {event.id for event in intake.events if event.unless is None}
        if written - self.known(intake.source, list(written)):
            raise StoreError(f"{self.path} is damaged: what is written cannot be read back")

    def _keep_unread(self, source: int, now: float, why: str, body: bytes) -> None:
        self._run(
            "INSERT INTO unread (source, received, why, body) VALUES (?, ?, ?, ?)", (source, now, why, body)
        )

    def _trim_unread(self, source: int) -> None:
        # An authentic caller can also flood us: only the newest are kept, limited in number and in bytes.
        self._run(
            "DELETE FROM unread WHERE source = ?1 AND n <= (SELECT max(n) FROM (SELECT n, "
            "sum(length(body)) OVER (ORDER BY n DESC) AS bytes, row_number() OVER (ORDER BY n DESC) AS place "
            "FROM unread WHERE source = ?1) WHERE bytes > ?2 OR place > ?3)",
            (source, UNREAD_BYTES, UNREAD),
        )

    def append_notices(self, name: str, events: Sequence[Event], now: float) -> int:
        """Append notices that no poll returned, such as the daemon's own. Returns the number of new ones."""
        with translated(self.path), self._db.atomic():
            [source] = self._run("SELECT id FROM sources WHERE name = ?", (name,)).fetchone()
            return self._insert(source, events, now, None)

    def runs(self, config: Path, digest: str) -> None:
        """Record that the daemon runs with this configuration."""
        self._config = _text(config)
        with self._relaxed_transaction():
            self._relaxed.conn.execute(
                "UPDATE daemons SET config = ?, digest = ?, problems = '[]', pid = ?, started = ?, version = ?",
                (self._config, digest, *self._whoami),
            )

    def reloaded(self, config: Path, digest: str, problems: Sequence[str]) -> None:
        """Record a reload of this configuration; `problems` says why it was refused, else it is empty."""
        with self._relaxed_transaction():
            self._relaxed.conn.execute(
                "UPDATE daemons SET config = ?, digest = ?, reloads = reloads + 1, problems = ?",
                (_text(config), digest, wire.encode(list(problems)).decode()),
            )

    def drop_unread(self, source: str, numbers: Sequence[int] | None) -> int:
        """Delete unread webhooks and rows of a source (all if `numbers` is None). Returns how many."""
        sql = "DELETE FROM unread WHERE source = (SELECT id FROM sources WHERE name = ?)"
        with translated(self.path), self._db.atomic():
            if numbers is None:
                return self._run(sql, (source,)).rowcount
            return sum(self._run(sql + " AND n = ?", (source, n)).rowcount for n in numbers)

    def writable(self) -> None:
        """StoreError if the store cannot be written. Waits only `BUSY` / 10 seconds, as a caller waits."""
        if self.lost():
            raise StoreError(f"{self.path} was deleted or replaced while it was in use")
        if self.damage:
            raise StoreError(self.damage)
        if full := self.full():
            raise StoreError(full)
        relaxed = self._relaxed.conn
        with translated(self.path):
            relaxed.execute(f"PRAGMA busy_timeout = {min(self._patience, round(BUSY * 100))}")
            try:
                with self._relaxed.atomic():
                    relaxed.execute("UPDATE sources SET due = due WHERE id = (SELECT min(id) FROM sources)")
            finally:
                relaxed.execute(f"PRAGMA busy_timeout = {self._patience}")

    def ack(
        self, sink: str, was: int, cursor: int, receipt: Receipt | None, now: float, *, moved: bool = True
    ) -> None:
        """The sink has everything up to `cursor`. Raises `Conflict` if it was replayed meanwhile."""
        with self._relaxed_transaction():
            done = self._relaxed.conn.execute(
                "UPDATE sinks SET cursor = ?, receipt = coalesce(?, receipt), failures = 0, failing = NULL, error = NULL, "
                "delivered = CASE WHEN ? THEN ? ELSE delivered END WHERE name = ? AND cursor = ?",
                (
                    cursor,
                    wire.encode(receipt).decode() if receipt is not None else None,
                    moved,
                    now,
                    sink,
                    was,
                ),
            ).rowcount
            if not done:
                raise Conflict

    def bury(self, sink: str, was: int, seq: int, reason: str, now: float) -> None:
        """Bury an event as a dead letter and move the cursor past it. Raises `Conflict` as `ack` does."""
        with translated(self.path), self._db.atomic():
            if not self._run(
                "UPDATE sinks SET cursor = ? WHERE name = ? AND cursor = ?", (seq, sink, was)
            ).rowcount:
                raise Conflict
            self._dead(sink, seq, reason, now)

    def bury_again(self, sink: str, seq: int, reason: str, now: float) -> None:
        """Bury an event without moving the cursor: a retry that was refused again, or a damaged event."""
        with translated(self.path), self._db.atomic():
            self._dead(sink, seq, reason, now)

    def _dead(self, sink: str, seq: int, reason: str, now: float) -> None:
        self._run(
            "INSERT OR REPLACE INTO dead (sink, seq, buried, reason) VALUES (?, ?, ?, ?)",
            (sink, seq, now, reason),
        )

    def requeue_dead(self, sink: str, seqs: Sequence[int] | None) -> int:
        """Mark dead letters (all of the sink's if `seqs` is None) for a retry. Returns how many."""
        return self._each_dead("UPDATE dead SET retry = 1 WHERE sink = ?", sink, seqs)

    def drop_dead(self, sink: str, seqs: Sequence[int] | None) -> int:
        """Delete dead letters (all of the sink's if `seqs` is None). Returns how many."""
        return self._each_dead("DELETE FROM dead WHERE sink = ?", sink, seqs)

    def _each_dead(self, sql: str, sink: str, seqs: Sequence[int] | None) -> int:
        with translated(self.path), self._db.atomic():
            if seqs is None:
                return self._run(sql, (sink,)).rowcount
            return sum(self._run(sql + " AND seq = ?", (sink, seq)).rowcount for seq in seqs)

    def record_failure(self, sink: str, failures: int, failing: float | None, error: str | None) -> None:
        """Store a sink's failures, for `status` and for the next start."""
        with self._relaxed_transaction():
            self._relaxed.conn.execute(
                "UPDATE sinks SET failures = ?, failing = ?, error = ? WHERE name = ?",
                (failures, failing, error, sink),
            )

    def replay(self, sink: str, after: int) -> bool:
        """Move a sink's cursor back, never forward. Returns whether it exists. Its daemon notices it."""
        with translated(self.path), self._db.atomic():
            return bool(
                self._run(
                    "UPDATE sinks SET reached = max(cursor, coalesce(reached, 0)), cursor = min(cursor, ?) WHERE name = ?",
                    (after, sink),
                ).rowcount
            )

    def rewind(self, source: str, state: State, origin: str | None = None) -> None:
        """Replace a source's state (from `origin`) and request a visit. A poll under way becomes void."""
        with translated(self.path), self._db.atomic():
            self._run(
                "UPDATE sources SET state = ?, revision = revision + 1, due = -1, origin = coalesce(?, moved, origin), "
                "moved = NULL WHERE name = ?",
                (wire.encode(state).decode(), origin, source),
            )

    def accept(self, source: str) -> bool:
        """Accept a source's state for the origin that it reads now. Returns whether that was another one."""
        with translated(self.path), self._db.atomic():
            sql = "UPDATE sources SET origin = moved, moved = NULL WHERE name = ? AND moved IS NOT NULL"
            return bool(self._run(sql, (source,)).rowcount)

    def follow(self, source: str, ids: Sequence[str]) -> int:
        """Put ids into a source's inbox, for its next visit to track. Returns how many are new there."""
        with translated(self.path), self._db.atomic():
            return self._db.conn.executemany(
                "INSERT OR IGNORE INTO inbox (source, id) SELECT s.id, ?2 FROM sources s WHERE s.name = ?1",
                [(source, each) for each in ids],
            ).rowcount

    def tick_off(self, seqs: Sequence[int]) -> list[int]:
        """Mark failures as done. Returns those of `seqs` that are failures."""
        with translated(self.path), self._db.atomic():
            self._db.conn.executemany(
                "UPDATE events SET failure = 0 WHERE seq = ? AND failure = 1", [(s,) for s in seqs]
            )
            there = "SELECT 1 FROM events WHERE seq = ? AND failure = 0"
            return [seq for seq in seqs if self._run(there, (seq,)).fetchone()]


def _connections(path: Path) -> tuple[Database, Database]:
    """A connection whose commits are on the disk at once, and one whose commits are within a second."""
    db, relaxed = connect(path), connect(path)
    relaxed.conn.execute("PRAGMA synchronous = NORMAL")
    relaxed.conn.execute("PRAGMA cache_size = -1000")
    return db, relaxed


def _columns(status: SourceStatus) -> tuple[object, ...]:
    """The stored fields of a status, in the order of `commit`."""
    return (
        status.due,
        status.not_before,
        status.last_visit,
        status.last_success,
        status.visits,
        status.failures,
        status.failing_since,
        status.unanswered_since,
        status.error,
        status.failed_with,
    )


def _text(path: Path) -> str:
    """A path as SQLite can store it: names of files may hold bytes that are no UTF-8."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _same_type(place: str, was: str, kind: str) -> None:
    """StoreError if the type of a name has changed: what is stored under the name fits only the old type."""
    if was != kind:
        what = place.partition(".")[0].removesuffix("s")
        raise StoreError(f"{place} was a {was} and is now a {kind}: give the new {what} another name")


def _identity(path: Path) -> tuple[int, int] | None:
    """The device and inode of the file; None if there is none. OSError if that cannot be found out."""
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_dev, status.st_ino
