"""Writing the store: every change, each whole or not at all."""

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
"""Webhooks and rows that could not be read and are kept, by source, and bytes of them."""


class Store(Pruning):
    """The store, for its one daemon; with `daemon=False`, for a command that writes one thing beside it."""

    def __init__(
        self, path: Path, db: Database, relaxed: Database, lock: int | None, handle: int = -1, wal: int = -1
    ) -> None:
        """`handle` and `wal` are the daemon's own of the store and its -wal file: to lock the one and sync the other."""
        super().__init__(path, db)
        self._relaxed = relaxed
        self._lock = lock
        self._handle = handle
        self._place = _identity(path)
        self._links = os.fstat(lock).st_nlink if lock is not None else 0
        self.unsynced = False
        """Whether books were written since the last `sync`: a power cut would take them."""
        self.damage: str | None = None
        """What a check found to be damaged."""
        self._whoami = (os.getpid(), time.time(), __version__)
        self._wal = wal
        self._guard = Lock()
        """Held while `_wal` changes: a thread may be about to sync it."""
        self.recoveries = 0
        """How often the -wal file was deleted, and what was in it kept."""

    @classmethod
    def open(cls, path: Path, *, daemon: bool = True) -> "Store":
        """Open or create the store. StoreError in one sentence where that cannot be."""
        if not daemon:
            must_exist(path)
        lock, handle, wal = None, -1, -1
        with translated(path):
            if daemon:
                resolve(path, 0o700)  # makes its folder
                lock = claim_file(path)
            try:
                # Created by us, so that the mode is right from the first byte; SQLite gives -wal and -shm the same.
                handle, _ = create(path, os.O_RDWR, 0o600)
                if daemon:
                    claim_inode(path, handle)
                else:
                    # Before SQLite opens the file: closing any handle of it gives up SQLite's locks.
                    os.close(handle)
                    handle = -1
                db, relaxed = _connections(path)
                applied(path, db)
                migrations.apply(db)
                if daemon:
                    # A full disk is no reason not to start; `runs` and `beat` say it again.
                    with suppress(sqlite3.OperationalError), relaxed.atomic():
                        relaxed.execute("UPDATE daemons SET pid = NULL, config = NULL, digest = NULL")
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
        # Only now: closing a handle of the store gives up SQLite's locks on it.
        with self._guard:
            for each in (self._wal, self._handle):
                if each >= 0:
                    os.close(each)
            self._wal = self._handle = -1
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def lost(self) -> bool:
        """Whether somebody deleted the file or its -wal file, or put another one in its place: what we write then is gone when we
        end. Or its lock: then another daemon may begin beside us.
        """
        unlocked = self._lock is not None and not os.fstat(self._lock).st_nlink and bool(self._links)
        try:
            return unlocked or self._unlinked() or _identity(self.path) != self._place
        except OSError:  # a network's disk that does not answer, say: nobody knows
            return False

    def _unlinked(self) -> bool:
        """Whether the -wal file was deleted, with what was committed lately in it."""
        return self._wal >= 0 and not os.fstat(self._wal).st_nlink

    def recover(self) -> bool:
        """Where the -wal file was deleted: play it into the store while we still have it open, and begin a new one.

        Whether that was done. Not where another program has begun one already: then both have changes of their own.
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
            # The index of the old one: who still reads by it shall go on so, and not by ours.
            shared.unlink(missing_ok=True)
            self._db, self._relaxed = _connections(path)
        except (sqlite3.Error, OSError):
            self._place = None  # there is nothing that could be gone on with
            return False
        with self._guard:
            os.close(self._wal)
            self._wal = open_wal(path)
        self.recoveries += 1
        return True

    def sync(self) -> None:
        """Have what was written as books survive a power cut; may be called in a thread."""
        with self._guard:
            if self._wal < 0:
                return
            handle = os.dup(self._wal)
        self.unsynced = False  # before: what is written meanwhile is not on the disk
        try:
            os.fsync(handle)
        except OSError:
            self.unsynced = True
            raise
        finally:
            os.close(handle)

    def wait_less(self, yes: bool) -> None:
        """Whether to wait for others' writes as little as can be: who has just waited in vain must not keep everybody."""
        for db in (self._db, self._relaxed):
            with suppress(sqlite3.Error):  # a store that is closed or broken says so where it is used
                db.conn.execute(f"PRAGMA busy_timeout = {20 if yes else round(BUSY * 1000)}")

    @contextmanager
    def _relaxed_transaction(self) -> Iterator[None]:
        """A transaction that is on the disk within a second: see `sync`."""
        with translated(self.path), self._relaxed.atomic():
            yield
        self.unsynced = True

    def beat(self, now: float) -> None:
        """Write down that a daemon is at work."""
        if self._lock is not None:
            os.utime(self._lock)  # who tidies up old files leaves it
        with self._relaxed_transaction():
            self._relaxed.conn.execute(
                "UPDATE daemons SET beat = ?, pid = ?, started = ?, version = ?", (now, *self._whoami)
            )

    def last_beat(self) -> float | None:
        """When a daemon was last at work here (Unix), as far as that was written down."""
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
        """Make sure that every configured source and sink (name -> type) has its row. A new sink starts at the head.

        `origins`: what each source reads. Where its state is of something else, that stays, and is noted beside it.
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
        """StoreError where `register` would refuse these for their types."""
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
        """Write when these sources are due next, but for those that a command wants visited at once."""
        with self._relaxed_transaction():
            self._reschedule(statuses)

    def _reschedule(self, statuses: Iterable[tuple[str, SourceStatus]]) -> None:
        self._relaxed.conn.executemany(
            "UPDATE sources SET due = CASE WHEN due < 0 THEN due ELSE ? END, held = ? WHERE name = ?",
            [(status.due, status.not_before, name) for name, status in statuses],
        )

    def note_refused(self, refused: Iterable[tuple[str, int, str]]) -> None:
        """Webhooks that were turned away: source, how many, and why the last one was."""
        with self._relaxed_transaction():
            self._relaxed.conn.executemany(
                "UPDATE sources SET refused = refused + ?, refusal = ? WHERE name = ?",
                [(count, why, name) for name, count, why in refused],
            )

    def record(self, statuses: Iterable[tuple[str, SourceStatus]]) -> None:
        """Write up visits that found nothing, some at a time. Not when they are due: a command may have changed that."""
        with self._relaxed_transaction():
            self._relaxed.conn.executemany(
                "UPDATE sources SET visited = ?, answered = ?, polls = ?, unanswered = ? WHERE name = ?",
                [(s.last_visit, s.last_success, s.visits, s.unanswered_since, name) for name, s in statuses],
            )

    def commit(self, name: str, revision: int, found: Found, status: SourceStatus, now: float) -> int:
        """What a visit found and how its source fares, in one transaction; how many of the events were new.

        Raises `Conflict` if the source was rewound since `revision` was read.
        """
        with translated(self.path), self._db.atomic():
            run = self._run
            row = run(
                "UPDATE sources SET due = ?, held = ?, visited = ?, answered = ?, polls = ?, failures = ?, failing = ?, "
                "unanswered = ?, error = ?, options = ? WHERE name = ? AND revision = ? RETURNING id",
                (*_columns(status), name, revision),
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
        """Move a source's position on, by what the reading saw: events that a webhook brought before are among them."""
        if changed:
            self._run("UPDATE sources SET changed = ? WHERE id = ?", (now, source))
        # A stamp of the future must not have ids pruned that are not old.
        newest = max((min(e.stamp, now) for e in found.events if e.stamp is not None), default=None)
        if newest is not None:
            self._run(
                "UPDATE sources SET position = ?1 WHERE id = ?2 AND coalesce(position, 0) < ?1",
                (newest, source),
            )
        if found.gap is not None:
            self._run("UPDATE sources SET position = min(position, ?) WHERE id = ?", (found.gap, source))

    def _insert(self, source: int, events: Sequence[Event], now: float, via: Via) -> int:
        # Not INSERT OR IGNORE: an ignored row uses up a number, and every overlap would leave holes.
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
        """What webhooks brought, many in one transaction; how many events of each were new.

        The position of a source stays where its readings put it: a webhook says nothing about what came before it.
        """
        if self.lost() and not self.recover():  # nobody would be told again
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
        """StoreError where what was just written cannot be found by its id: then the store is damaged."""
        written = {event.id for event in intake.events if event.unless is None}
        if written - self.known(intake.source, list(written)):
            raise StoreError(f"{self.path} is damaged: what is written cannot be read back")

    def _keep_unread(self, source: int, now: float, why: str, body: bytes) -> None:
        self._run(
            "INSERT INTO unread (source, received, why, body) VALUES (?, ?, ?, ?)", (source, now, why, body)
        )

    def _trim_unread(self, source: int) -> None:
        # Somebody who may call can also flood us: the newest are kept, however many come and however large they are.
        self._run(
            "DELETE FROM unread WHERE source = ?1 AND n <= (SELECT max(n) FROM (SELECT n, "
            "sum(length(body)) OVER (ORDER BY n DESC) AS bytes, row_number() OVER (ORDER BY n DESC) AS place "
            "FROM unread WHERE source = ?1) WHERE bytes > ?2 OR place > ?3)",
            (source, UNREAD_BYTES, UNREAD),
        )

    def append_notices(self, name: str, events: Sequence[Event], now: float) -> int:
        """Log what is not a visit's finding: the daemon's own notices. How many were new."""
        with translated(self.path), self._db.atomic():
            [source] = self._run("SELECT id FROM sources WHERE name = ?", (name,)).fetchone()
            return self._insert(source, events, now, None)

    def runs(self, config: Path, digest: str) -> None:
        """A daemon runs with this configuration."""
        with self._relaxed_transaction():
            self._relaxed.conn.execute(
                "UPDATE daemons SET config = ?, digest = ?, problems = '[]', pid = ?, started = ?, version = ?",
                (str(config), digest, *self._whoami),
            )

    def reloaded(self, config: Path, digest: str, problems: Sequence[str]) -> None:
        """The daemon took over its configuration, or refused to."""
        with self._relaxed_transaction():
            self._relaxed.conn.execute(
                "UPDATE daemons SET config = ?, digest = ?, reloads = reloads + 1, problems = ?",
                (str(config), digest, wire.encode(list(problems)).decode()),
            )

    def drop_unread(self, source: str, numbers: Sequence[int] | None) -> int:
        """Forget webhooks that were not understood (all of a source, without `numbers`); how many."""
        sql = "DELETE FROM unread WHERE source = (SELECT id FROM sources WHERE name = ?)"
        with translated(self.path), self._db.atomic():
            if numbers is None:
                return self._run(sql, (source,)).rowcount
            return sum(self._run(sql + " AND n = ?", (source, n)).rowcount for n in numbers)

    def writable(self) -> None:
        """Nothing, where the store can be written; else StoreError, soon: somebody waits for the answer."""
        if self.lost():
            raise StoreError(f"{self.path} was deleted or replaced while it was in use")
        if self.damage:
            raise StoreError(self.damage)
        if full := self.full():
            raise StoreError(full)
        relaxed = self._relaxed.conn
        with translated(self.path):
            relaxed.execute(f"PRAGMA busy_timeout = {round(BUSY * 100)}")
            try:
                with self._relaxed.atomic():
                    relaxed.execute("UPDATE sources SET due = due WHERE id = (SELECT min(id) FROM sources)")
            finally:
                relaxed.execute(f"PRAGMA busy_timeout = {round(BUSY * 1000)}")

    def ack(
        self, sink: str, was: int, cursor: int, receipt: Receipt | None, now: float, *, moved: bool = True
    ) -> None:
        """The sink has everything up to `cursor`. Raises `Conflict` where it was replayed meanwhile."""
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
        """The sink will never take this event: remember it, and move on."""
        with translated(self.path), self._db.atomic():
            if not self._run(
                "UPDATE sinks SET cursor = ? WHERE name = ? AND cursor = ?", (seq, sink, was)
            ).rowcount:
                raise Conflict
            self._dead(sink, seq, reason, now)

    def bury_again(self, sink: str, seq: int, reason: str, now: float) -> None:
        """A retried event was refused again."""
        with translated(self.path), self._db.atomic():
            self._dead(sink, seq, reason, now)

    def _dead(self, sink: str, seq: int, reason: str, now: float) -> None:
        self._run(
            "INSERT OR REPLACE INTO dead (sink, seq, buried, reason) VALUES (?, ?, ?, ?)",
            (sink, seq, now, reason),
        )

    def requeue_dead(self, sink: str, seqs: Sequence[int] | None) -> int:
        """Mark buried events (all, without `seqs`) to be tried again; how many."""
        return self._each_dead("UPDATE dead SET retry = 1 WHERE sink = ?", sink, seqs)

    def drop_dead(self, sink: str, seqs: Sequence[int] | None) -> int:
        """Forget buried events; how many."""
        return self._each_dead("DELETE FROM dead WHERE sink = ?", sink, seqs)

    def _each_dead(self, sql: str, sink: str, seqs: Sequence[int] | None) -> int:
        with translated(self.path), self._db.atomic():
            if seqs is None:
                return self._run(sql, (sink,)).rowcount
            return sum(self._run(sql + " AND seq = ?", (sink, seq)).rowcount for seq in seqs)

    def record_failure(self, sink: str, failures: int, failing: float | None, error: str | None) -> None:
        """Write up a sink's trouble, for `status`."""
        with self._relaxed_transaction():
            self._relaxed.conn.execute(
                "UPDATE sinks SET failures = ?, failing = ?, error = ? WHERE name = ?",
                (failures, failing, error, sink),
            )

    def replay(self, sink: str, after: int) -> bool:
        """Move a sink's cursor back, never on; whether there is such a sink. Its daemon notices by itself."""
        with translated(self.path), self._db.atomic():
            return bool(
                self._run(
                    "UPDATE sinks SET reached = max(cursor, coalesce(reached, 0)), cursor = min(cursor, ?) WHERE name = ?",
                    (after, sink),
                ).rowcount
            )

    def rewind(self, source: str, state: State, origin: str | None = None) -> None:
        """Give a source another state (of `origin`), due at once; a poll under way in the daemon is void."""
        with translated(self.path), self._db.atomic():
            self._run(
                "UPDATE sources SET state = ?, revision = revision + 1, due = -1, origin = coalesce(?, moved, origin), "
                "moved = NULL WHERE name = ?",
                (wire.encode(state).decode(), origin, source),
            )

    def accept(self, source: str) -> bool:
        """Take a source's state for one of what it reads now; whether that was something else."""
        with translated(self.path), self._db.atomic():
            sql = "UPDATE sources SET origin = moved, moved = NULL WHERE name = ? AND moved IS NOT NULL"
            return bool(self._run(sql, (source,)).rowcount)

    def follow(self, source: str, ids: Sequence[str]) -> int:
        """Leave ids for a source to follow from its next visit on; how many were not waiting already."""
        with translated(self.path), self._db.atomic():
            return self._db.conn.executemany(
                "INSERT OR IGNORE INTO inbox (source, id) SELECT s.id, ?2 FROM sources s WHERE s.name = ?1",
                [(source, each) for each in ids],
            ).rowcount

    def tick_off(self, seqs: Sequence[int]) -> list[int]:
        """Mark failures as done; those that there are."""
        with translated(self.path), self._db.atomic():
            self._db.conn.executemany(
                "UPDATE events SET failure = 0 WHERE seq = ? AND failure = 1", [(s,) for s in seqs]
            )
            there = "SELECT 1 FROM events WHERE seq = ? AND failure = 0"
            return [seq for seq in seqs if self._run(there, (seq,)).fetchone()]


def _connections(path: Path) -> tuple[Database, Database]:
    """For what must be on the disk when it is committed, and for books, which are a little later."""
    db, relaxed = connect(path), connect(path)
    relaxed.conn.execute("PRAGMA synchronous = NORMAL")
    relaxed.conn.execute("PRAGMA cache_size = -1000")
    return db, relaxed


def _columns(status: SourceStatus) -> tuple[object, ...]:
    """What the store keeps of a status, in the order of `commit`."""
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


def _same_type(place: str, was: str, kind: str) -> None:
    """What a name remembers means nothing to another type."""
    if was != kind:
        what = place.partition(".")[0].removesuffix("s")
        raise StoreError(f"{place} was a {was} and is now a {kind}: give the new {what} another name")


def _identity(path: Path) -> tuple[int, int] | None:
    """Which file is there; None for none. OSError where that cannot be known."""
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_dev, status.st_ino
