"""Everything we must not forget, in one SQLite file, and all the SQL there is.

    events    the log: append-only, numbered by `seq`, `(source, id)` unique
    sources   what each source remembers, when it is due, how it fares
    inbox     ids that somebody wants a source to follow, until a visit takes them up
    sinks     how far each sink is, and its receipt
    dead      events that a sink will never take
    unread    webhooks that were authentic and not understood

Methods do not await, so nothing can come between the statements of a transaction. Two connections write: the log with
`synchronous=FULL` (what it says is committed survives a power cut), the books (due, cursors of sinks, counters) with
`NORMAL` (they survive `kill -9`; a power cut may cost their last second, which means one early question or one repeat).
"""

import fcntl
import os
import shutil
import sqlite3
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

from roundsman import wire
from roundsman.events import Event
from roundsman.files import hand_over, sync_folder
from roundsman.plugin import Receipt, State

DAEMON = "daemon"
"""The source that the daemon's own notices are of; no configured one can have this name."""
KEYS_KEPT = 35 * 86400.0
"""Seconds that `(source, id)` is kept at least: longer than any re-read reaches back."""
BATCH_BYTES = 8 * 2**20
"""Bytes of events read in one go, roughly: rows of 10 MB must not fill the memory by the thousand."""
UNREAD, UNREAD_BYTES = 1000, 32 * 2**20
"""Webhooks that were not understood and are kept, by source, and bytes of them."""
SPARE_PAGES = 1000
"""Pages (of 8 KiB) that may be free without being given back."""
BUSY = 1.0
"""Seconds to wait for another process's short write (`replay`, `rewind`, `dead`)."""

Via = Literal["push", "ring"] | None
"""Who had it first: a webhook, the visit that a webhook rang for, or (None) a visit when it was due."""

migrations = Migrations("roundsman")


LOG = (
    """
    CREATE TABLE sources (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        type TEXT NOT NULL,
        state TEXT NOT NULL DEFAULT '{}',
        revision INTEGER NOT NULL DEFAULT 0, -- moved by rewind: a visit begun before it is void
        due REAL NOT NULL DEFAULT 0,         -- -1: wanted at once
        visited REAL,
        answered REAL,
        changed REAL,
        polls INTEGER NOT NULL DEFAULT 0,
        failures INTEGER NOT NULL DEFAULT 0, -- in a row
        unanswered REAL,                     -- since when there is no good answer
        failing REAL,                        -- since when that was said out loud
        error TEXT,
        position REAL                        -- the newest stamp: readings reach back from it
    )
    """,
    "CREATE INDEX wanted ON sources (due) WHERE due < 0",
    """
    CREATE TABLE sinks (
        name TEXT PRIMARY KEY,
        type TEXT NOT NULL,
        cursor INTEGER NOT NULL,             -- the last seq it has
        receipt TEXT,                        -- what it wanted to remember of that
        delivered REAL,
        failures INTEGER NOT NULL DEFAULT 0,
        failing REAL,
        error TEXT
    ) WITHOUT ROWID
    """,
    # AUTOINCREMENT: without it a log pruned empty would number from 1 again, behind its readers.
    """
    CREATE TABLE events (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        source INTEGER NOT NULL REFERENCES sources (id),
        id TEXT NOT NULL,
        type TEXT NOT NULL,
        outcome TEXT,
        logged REAL NOT NULL,
        stamp REAL,                          -- the vendor's time, as in sources.position
        body BLOB,                           -- the CloudEvent; NULL when pruned
        UNIQUE (source, id)
    )
    """,
    """
    CREATE TABLE dead (
        sink TEXT NOT NULL,
        seq INTEGER NOT NULL,
        buried REAL NOT NULL,
        reason TEXT NOT NULL,
        retry INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (sink, seq)
    ) WITHOUT ROWID
    """,
)


@migrations(name="001_log")
def _log(db: Database) -> None:
    for statement in LOG:
        db.execute(statement)


FOLLOW = (
    # AUTOINCREMENT: a visit takes up what was there when it began, by number.
    """
    CREATE TABLE inbox (
        n INTEGER PRIMARY KEY AUTOINCREMENT,
        source INTEGER NOT NULL REFERENCES sources (id),
        id TEXT NOT NULL,
        UNIQUE (source, id)
    )
    """,
    "ALTER TABLE events ADD COLUMN failure INTEGER",  # 1: something went wrong for somebody; 0: ticked off; else NULL
    "CREATE INDEX failures ON events (failure, seq) WHERE failure IS NOT NULL",
)


@migrations(name="002_follow")
def _follow(db: Database) -> None:
    for statement in FOLLOW:
        db.execute(statement)


RECEIVE = (
    "ALTER TABLE events ADD COLUMN via TEXT",  # push: a webhook told it; ring: the visit that one rang for; NULL: a poll
    "ALTER TABLE sources ADD COLUMN heard REAL",  # when the last authentic webhook came
    "ALTER TABLE sources ADD COLUMN calls INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE sources ADD COLUMN refused INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE sources ADD COLUMN refusal TEXT",  # why the last one was
    "ALTER TABLE sources ADD COLUMN held REAL",  # not to be asked before, also when a webhook rings
    """
    CREATE TABLE unread (
        n INTEGER PRIMARY KEY AUTOINCREMENT,
        source INTEGER NOT NULL REFERENCES sources (id),
        received REAL NOT NULL,
        why TEXT NOT NULL,
        body BLOB NOT NULL
    )
    """,
    "CREATE INDEX letters ON unread (source, n)",
)


@migrations(name="003_receive")
def _receive(db: Database) -> None:
    for statement in RECEIVE:
        db.execute(statement)


OWN = (
    # The daemon's own notices are events of a source like others. Whoever had a source of that name keeps its log.
    "UPDATE sources SET name = 'daemon (a source)' WHERE name = 'daemon'",
    # revision and state: how often it was reloaded, and what was wrong. position: how far the round of forgetting is.
    "INSERT INTO sources (name, type) VALUES ('daemon', 'roundsman')",
)


@migrations(name="004_own")
def _own(db: Database) -> None:
    for statement in OWN:
        db.execute(statement)


NAMES = frozenset({"001_log", "002_follow", "003_receive", "004_own"})
"""Every migration this program knows; a store with another one is newer than we are."""


class StoreError(Exception):
    """The store cannot be used; the message is one sentence that says why and what to do."""


class Moved(Exception):
    """Somebody moved the cursor (`rewind`, `replay`) since it was read: what was based on it is void."""


class Fare(NamedTuple):
    """How a source fared, for the engine to go on from."""

    name: str
    due: float
    visited: float | None
    answered: float | None
    polls: int
    failures: int
    unanswered: float | None
    failing: float | None
    error: str | None
    heard: float | None
    held: float | None


class Mail(NamedTuple):
    """What one webhook brought for a source."""

    source: str
    events: Sequence[Event] = ()
    follow: Sequence[str] = ()
    unread: tuple[str, bytes] | None = None
    """Why it was not understood, and the raw body."""


class Visited(NamedTuple):
    """One line of the books: how a source fares."""

    name: str
    visited: float | None
    answered: float | None
    polls: int


class Filter(NamedTuple):
    """Which events somebody wants; each a tuple of globs, empty for all."""

    types: Sequence[str] = ()
    sources: Sequence[str] = ()
    outcomes: Sequence[str] = ()

    def where(self) -> tuple[str, list[str]]:
        clauses: list[str] = []
        values: list[str] = []
        for column, globs in (("e.type", self.types), ("s.name", self.sources), ("e.outcome", self.outcomes)):
            if globs:
                clauses.append("(" + " OR ".join([f"{column} GLOB ?"] * len(globs)) + ")")
                values += globs
        return "".join(f" AND {clause}" for clause in clauses), values


_EVENT = "SELECT e.seq, s.name, e.id, e.type, e.outcome, e.body, e.logged FROM events e JOIN sources s ON s.id = e.source"


class Reader:
    """The store, read only: works beside a running daemon and never blocks it."""

    def __init__(self, path: Path, db: Database) -> None:
        self.path = path
        self._db = db

    def _run(self, sql: str, values: Sequence[object] = ()) -> sqlite3.Cursor:
        with _plain(self.path):
            return self._db.conn.execute(sql, values)

    @classmethod
    def open(cls, path: Path) -> "Reader":
        """The store at `path`; StoreError where there is none."""
        if not path.exists():
            raise StoreError(f"there is no store at {path} yet: has `roundsman run` or `once` ever run?")
        with _plain(path):
            db = _connect(path, readonly=True)
            if NAMES - _known(path, db):
                raise StoreError(
                    f"{path} was written by an older roundsman: `roundsman run` or `once` brings it up to date"
                )
        return cls(path, db)

    def close(self) -> None:
        self._db.close()

    def version(self) -> int:
        """A number that changes when another connection has written."""
        return int(self._run("PRAGMA data_version").fetchone()[0])

    def head(self) -> int:
        """The last event's `seq`; 0 for an empty log."""
        return int(self._run("SELECT coalesce(max(seq), 0) FROM events").fetchone()[0])

    def sources(self) -> list[dict[str, Any]]:
        """Every source that was ever configured."""
        return self._rows("SELECT * FROM sources WHERE type != 'roundsman' ORDER BY name")

    def fares(self) -> Iterator[Fare]:
        """How each source fared; one at a time, for there may be very many."""
        return map(Fare._make, self._run(f"SELECT {', '.join(Fare._fields)} FROM sources"))  # noqa: S608 - fixed names

    def sinks(self) -> list[dict[str, Any]]:
        return self._rows(
            "SELECT k.*, (SELECT count(*) FROM dead d WHERE d.sink = k.name) AS dead FROM sinks k ORDER BY name"
        )

    def waiting(self, cursor: int, wanted: Filter) -> int:
        """How many events after `cursor` somebody wants."""
        where, values = wanted.where()
        join = "FROM events e JOIN sources s ON s.id = e.source WHERE e.seq > ?"
        return int(self._run(f"SELECT count(*) {join}{where}", [cursor, *values]).fetchone()[0])

    def counts(self) -> dict[str, int]:
        """Events in the log by source."""
        return dict(
            self._run(
                "SELECT s.name, count(*) FROM events e JOIN sources s ON s.id = e.source GROUP BY 1"
            ).fetchall()
        )

    def state(self, name: str) -> tuple[State, int]:
        """What the source remembers, and the revision to commit against."""
        row = self._run("SELECT state, revision FROM sources WHERE name = ?", (name,)).fetchone()
        return (wire.decode(row[0].encode()), row[1]) if row else ({}, 0)

    def backup(self, target: Path, *, replace: bool = False) -> None:
        """A copy of the store as it is now, whole and compact, while others write. StoreError where that cannot be."""
        if target.exists() and not replace:
            raise StoreError(
                f"{target} is there already, and is not overwritten; --force does it all the same"
            )
        half = target.with_name(target.name + ".part")
        with _plain(target):
            half.unlink(missing_ok=True)
            os.close(os.open(half, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        try:
            self._run("PRAGMA busy_timeout = 10000")
            self._run("VACUUM INTO ?", (str(half),))
            with _plain(target):
                with half.open("rb") as file:
                    os.fsync(file.fileno())
                half.replace(target)
                sync_folder(target.absolute().parent)
        finally:
            half.unlink(missing_ok=True)

    def reloads(self) -> tuple[int, list[str]]:
        """How often the daemon was told to take over its configuration, and why it did not the last time."""
        state, count = self.state(DAEMON)
        return count, list(state.get("problems", ()))

    def inbox(self, name: str) -> tuple[list[str], int]:
        """Ids that wait to be followed, and the number to commit when they are taken up; 0 where none wait."""
        sql = "SELECT i.id, i.n FROM inbox i JOIN sources s ON s.id = i.source WHERE s.name = ? ORDER BY i.n LIMIT 1000"
        rows = self._run(sql, (name,)).fetchall()
        return [row[0] for row in rows], rows[-1][1] if rows else 0

    def failures(
        self, sources: Sequence[str] = (), since: float = 0.0, *, done: bool = False, limit: int = -1
    ) -> list[tuple[Event, float, bool]]:
        """What went wrong for somebody, newest first: event, when it was logged, whether it is ticked off."""
        where, values = Filter(sources=sources).where()
        which = "IS NOT NULL" if done else "= 1"
        sql = _EVENT.replace(" FROM", ", e.failure FROM") + f" WHERE e.failure {which} AND e.body IS NOT NULL"
        rows = self._run(
            f"{sql} AND e.logged >= ?{where} ORDER BY e.seq DESC LIMIT ?", [since, *values, limit]
        ).fetchall()
        return [(Event(k, s, t, o, b, q), logged, not f) for q, s, k, t, o, b, logged, f in rows]

    def open_failures(self) -> int:
        """How many failures nobody has ticked off."""
        sql = "SELECT count(*) FROM events WHERE failure = 1 AND body IS NOT NULL"
        return int(self._run(sql).fetchone()[0])

    def kind(self, source: str) -> str | None:
        """The type that a source was registered with; None where it never was."""
        row = self._run("SELECT type FROM sources WHERE name = ?", (source,)).fetchone()
        return str(row[0]) if row else None

    def events(self, after: int, upto: int, limit: int, wanted: Filter) -> list[tuple[Event, float]]:
        """Events after `after` in log order, with the time each was logged; pruned ones are left out."""
        where, values = wanted.where()
        sql = f"{_EVENT} WHERE e.seq > ? AND e.seq <= ? AND e.body IS NOT NULL{where} ORDER BY e.seq LIMIT ?"
        found: list[tuple[Event, float]] = []
        volume = 0
        cursor = self._run(sql, [after, upto, *values, limit])
        for seq, source, key, kind, outcome, body, logged in cursor:
            found.append((Event(key, source, kind, outcome, body, seq), logged))
            volume += len(body)
            if volume > BATCH_BYTES:
                cursor.close()
                break
        return found

    def last(self, count: int, wanted: Filter, since: float = 0.0) -> list[tuple[Event, float]]:
        """The newest events, oldest first."""
        where, values = wanted.where()
        sql = f"{_EVENT} WHERE e.body IS NOT NULL AND e.logged >= ?{where} ORDER BY e.seq DESC LIMIT ?"
        rows = self._run(sql, [since, *values, count]).fetchall()
        return [(Event(k, s, t, o, b, q), logged) for q, s, k, t, o, b, logged in reversed(rows)]

    def known(self, name: str, ids: Sequence[str]) -> set[str]:
        """Which of these ids of a source the log has."""
        found: set[str] = set()
        for at in range(0, len(ids), 500):
            some = ids[at : at + 500]
            marks = ",".join("?" * len(some))
            sql = f"SELECT e.id FROM events e JOIN sources s ON s.id = e.source WHERE s.name = ? AND e.id IN ({marks})"  # noqa: S608 - only marks
            found.update(row[0] for row in self._run(sql, [name, *some]))
        return found

    def before(self, when: float) -> int:
        """The `seq` after which events were logged at or after `when`, by bisection: `logged` grows with `seq`."""
        low, high = 0, self.head()
        while low < high:
            middle = (low + high + 1) // 2
            row = self._run(
                "SELECT seq, logged FROM events WHERE seq <= ? ORDER BY seq DESC LIMIT 1", (middle,)
            ).fetchone()
            if row is None or row[1] < when:
                low = middle
            else:
                high = row[0] - 1
        return low

    def wanted(self) -> list[str]:
        """Sources that a command wants visited at once."""
        return [row[0] for row in self._run("SELECT name FROM sources WHERE due < 0")]

    def unread(self, source: str) -> list[dict[str, Any]]:
        """Webhooks of a source that were not understood, oldest first."""
        sql = "SELECT u.n, u.received, u.why, u.body FROM unread u JOIN sources s ON s.id = u.source WHERE s.name = ?"
        return self._rows(f"{sql} ORDER BY u.n", (source,))

    def unread_counts(self) -> dict[str, int]:
        """How many there are, by source."""
        sql = "SELECT s.name, count(*) FROM unread u JOIN sources s ON s.id = u.source GROUP BY 1"
        return dict(self._run(sql).fetchall())

    def via(self, seqs: Sequence[int]) -> dict[int, Via]:
        """Who had these events first, by `seq`."""
        marks = ",".join("?" * len(seqs))
        return dict(self._run(f"SELECT seq, via FROM events WHERE seq IN ({marks})", seqs).fetchall())  # noqa: S608 - only marks

    def oldest(self, sink: str, wanted: Filter) -> float | None:
        """When the oldest event was logged that a sink wants and has not got."""
        where, values = wanted.where()
        sql = "SELECT e.logged FROM events e JOIN sources s ON s.id = e.source WHERE e.seq > ? AND e.body IS NOT NULL"
        cursor, _ = self.cursor(sink)
        row = self._run(f"{sql}{where} ORDER BY e.seq LIMIT 1", [cursor, *values]).fetchone()
        return float(row[0]) if row else None

    def dead(self, sink: str) -> list[dict[str, Any]]:
        return self._rows(
            "SELECT d.seq, d.buried, d.reason, d.retry, s.name AS source, e.id, e.type, e.outcome FROM dead d "
            "LEFT JOIN events e ON e.seq = d.seq LEFT JOIN sources s ON s.id = e.source WHERE d.sink = ? ORDER BY d.seq",
            (sink,),
        )

    def cursor(self, sink: str) -> tuple[int, Receipt | None]:
        """Where a sink stands, and the receipt of its last ack."""
        row = self._run("SELECT cursor, receipt FROM sinks WHERE name = ?", (sink,)).fetchone()
        return (row[0], wire.decode(row[1].encode()) if row[1] else None) if row else (0, None)

    def trouble(self, sink: str) -> tuple[int, float | None]:
        """How often a sink has failed in a row, and since when (Unix)."""
        row = self._run("SELECT failures, failing FROM sinks WHERE name = ?", (sink,)).fetchone()
        return (row[0], row[1]) if row else (0, None)

    def forgot(self) -> bool:
        """Whether keys were ever forgotten: events before the log's first number."""
        [low] = self._run("SELECT min(seq) FROM events").fetchone()
        [last] = self._run(
            "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'events'"
        ).fetchone()
        return bool(low > 1 if low is not None else last)

    def retries(self, sink: str) -> list[Event]:
        """Buried events that somebody wants tried again."""
        sql = f"{_EVENT} JOIN dead d ON d.seq = e.seq WHERE d.sink = ? AND d.retry = 1 AND e.body IS NOT NULL"
        rows = self._run(sql + " ORDER BY e.seq LIMIT 100", (sink,)).fetchall()
        return [Event(k, s, t, o, b, q) for q, s, k, t, o, b, _ in rows]

    def _rows(self, sql: str, values: Sequence[object] = ()) -> list[dict[str, Any]]:
        cursor = self._run(sql, values)
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor]


class Store(Reader):
    """The store, for its one daemon; with `daemon=False`, for a command that writes one thing beside it."""

    def __init__(self, path: Path, db: Database, books: Database, lock: int | None) -> None:
        super().__init__(path, db)
        self._books = books
        self._lock = lock

    @classmethod
    def open(cls, path: Path, *, daemon: bool = True) -> "Store":
        """Open or create the store. StoreError in one sentence where that cannot be."""
        if not daemon and not path.exists():
            raise StoreError(f"there is no store at {path} yet: has `roundsman run` or `once` ever run?")
        lock = None
        with _plain(path):
            if daemon:
                path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                lock = _claim(path)
            try:
                # Created by us, so that the mode is right from the first byte; SQLite gives -wal and -shm the same.
                os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
                hand_over(path)
                db = _connect(path)
                _known(path, db)
                migrations.apply(db)
                books = _connect(path)
                books.conn.execute("PRAGMA synchronous = NORMAL")
                books.conn.execute("PRAGMA cache_size = -1000")
            except BaseException:
                if lock is not None:
                    os.close(lock)
                raise
        return cls(path, db, books, lock)

    def close(self) -> None:
        self._books.close()
        super().close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def register(self, sources: Mapping[str, str], sinks: Mapping[str, str]) -> None:
        """Make sure that every configured source and sink (name -> type) has its row. A new sink starts at the head."""
        with _plain(self.path), self._db.atomic():
            run = self._run
            for name, kind in sources.items():
                run("INSERT OR IGNORE INTO sources (name, type) VALUES (?, ?)", (name, kind))
                [was] = run("SELECT type FROM sources WHERE name = ?", (name,)).fetchone()
                _same_type(f"sources.{name}", was, kind)
            for name, kind in sinks.items():
                run(
                    "INSERT OR IGNORE INTO sinks (name, type, cursor) "
                    "VALUES (?, ?, (SELECT coalesce(max(seq), 0) FROM events))",
                    (name, kind),
                )
                [was] = run("SELECT type FROM sinks WHERE name = ?", (name,)).fetchone()
                _same_type(f"sinks.{name}", was, kind)

    def claim(self, dues: Iterable[tuple[str, float]]) -> None:
        """Move `due` on *before* the visits: a daemon that dies during one does not ask again until then."""
        with _plain(self.path), self._books.atomic():
            self._books.conn.executemany(
                "UPDATE sources SET due = ? WHERE name = ?", [(d, n) for n, d in dues]
            )

    def hold(self, helds: Iterable[tuple[str, float]]) -> None:
        """Nobody asks these sources before then, not even after a restart."""
        with _plain(self.path), self._books.atomic():
            self._books.conn.executemany(
                "UPDATE sources SET held = ? WHERE name = ?", [(h, n) for n, h in helds]
            )

    def note_refused(self, refused: Iterable[tuple[str, int, str]]) -> None:
        """Webhooks that were turned away: source, how many, and why the last one was."""
        with _plain(self.path), self._books.atomic():
            self._books.conn.executemany(
                "UPDATE sources SET refused = refused + ?, refusal = ? WHERE name = ?",
                [(count, why, name) for name, count, why in refused],
            )

    def note(self, visits: Iterable[Visited]) -> None:
        """Write up visits that found nothing, some at a time."""
        with _plain(self.path), self._books.atomic():
            self._books.conn.executemany(
                "UPDATE sources SET visited = ?, answered = ?, polls = ? WHERE name = ?",
                [(v.visited, v.answered, v.polls, v.name) for v in visits],
            )

    def commit(
        self,
        name: str,
        revision: int,
        state: State | None,
        events: Sequence[Event],
        *,
        now: float,
        due: float,
        failures: int = 0,
        unanswered: float | None = None,
        failing: float | None = None,
        error: str | None = None,
        taken: int = 0,
        answered: bool = True,
        via: Via = None,
    ) -> int:
        """A visit's events, new state and fate in one transaction; how many of the events were new.

        `state=None` keeps the old one (the visit failed); so does `answered=False` the time of the last good answer. `taken` is how far the inbox was taken up. Raises `Moved` where the source was rewound meanwhile.
        """
        with _plain(self.path), self._db.atomic():
            run = self._run
            row = run(
                "UPDATE sources SET due = ?, failures = ?, unanswered = ?, failing = ?, error = ?, visited = ?, "
                "answered = CASE WHEN ? THEN answered ELSE ? END "
                "WHERE name = ? AND revision = ? RETURNING id",
                (
                    due,
                    failures,
                    unanswered,
                    failing,
                    error,
                    now,
                    state is None or not answered,
                    now,
                    name,
                    revision,
                ),
            ).fetchone()
            if row is None:
                raise Moved
            if state is not None:
                run("UPDATE sources SET state = ? WHERE id = ?", (wire.encode(state).decode(), row[0]))
            if taken:
                run("DELETE FROM inbox WHERE source = ? AND n <= ?", (row[0], taken))
            if not events:
                return 0
            new = self._insert(row[0], events, now, via)
            if new and state is not None:
                run("UPDATE sources SET changed = ? WHERE id = ?", (now, row[0]))
            # By what the reading saw, new or told by a webhook before. A stamp of the future must not make us forget what is not old.
            newest = max((min(e.stamp, now) for e in events if e.stamp is not None), default=None)
            if newest is not None and state is not None:
                run(
                    "UPDATE sources SET position = ?1 WHERE id = ?2 AND coalesce(position, 0) < ?1",
                    (newest, row[0]),
                )
            return new

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

    def receive(self, mails: Sequence[Mail], now: float) -> list[int]:
        """What webhooks brought, many in one transaction; how many events of each were new.

        The position of a source stays where its readings put it: a webhook says nothing about what came before it.
        """
        with _plain(self.path), self._db.atomic():
            run = self._run
            found: list[int] = []
            calls: Counter[int] = Counter()
            changed: set[int] = set()
            unread: set[int] = set()
            for mail in mails:
                [source] = run("SELECT id FROM sources WHERE name = ?", (mail.source,)).fetchone()
                calls[source] += 1
                new = self._insert(source, mail.events, now, "push") if mail.events else 0
                for each in mail.follow:
                    run("INSERT OR IGNORE INTO inbox (source, id) VALUES (?, ?)", (source, each))
                if mail.unread is not None:
                    unread.add(source)
                    run(
                        "INSERT INTO unread (source, received, why, body) VALUES (?, ?, ?, ?)",
                        (source, now, *mail.unread),
                    )
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

    def _trim_unread(self, source: int) -> None:
        # Somebody who may call can also flood us: the newest are kept, however many come and however large they are.
        self._run(
            "DELETE FROM unread WHERE source = ?1 AND n <= (SELECT max(n) FROM (SELECT n, "
            "sum(length(body)) OVER (ORDER BY n DESC) AS bytes, row_number() OVER (ORDER BY n DESC) AS place "
            "FROM unread WHERE source = ?1) WHERE bytes > ?2 OR place > ?3)",
            (source, UNREAD_BYTES, UNREAD),
        )

    def tell(self, name: str, events: Sequence[Event], now: float) -> int:
        """Log what is not a visit's finding: the daemon's own notices. How many were new."""
        with _plain(self.path), self._db.atomic():
            [source] = self._run("SELECT id FROM sources WHERE name = ?", (name,)).fetchone()
            return self._insert(source, events, now, None)

    def reloaded(self, problems: Sequence[str]) -> None:
        """The daemon took over its configuration, or refused to."""
        with _plain(self.path), self._books.atomic():
            self._books.conn.execute(
                "UPDATE sources SET revision = revision + 1, state = ? WHERE name = ?",
                (wire.encode({"problems": list(problems)}).decode(), DAEMON),
            )

    def drop_unread(self, source: str, numbers: Sequence[int] | None) -> int:
        """Forget webhooks that were not understood (all of a source, without `numbers`); how many."""
        sql = "DELETE FROM unread WHERE source = (SELECT id FROM sources WHERE name = ?)"
        with _plain(self.path), self._db.atomic():
            if numbers is None:
                return self._run(sql, (source,)).rowcount
            return sum(self._run(sql + " AND n = ?", (source, n)).rowcount for n in numbers)

    def writable(self) -> None:
        """Nothing, where the store can be written; else StoreError, soon: somebody waits for the answer."""
        books = self._books.conn
        with _plain(self.path):
            books.execute(f"PRAGMA busy_timeout = {round(BUSY * 100)}")
            try:
                with self._books.atomic():
                    books.execute("UPDATE sources SET due = due WHERE id = (SELECT min(id) FROM sources)")
            finally:
                books.execute(f"PRAGMA busy_timeout = {round(BUSY * 1000)}")

    def ack(
        self, sink: str, was: int, cursor: int, receipt: Receipt | None, now: float, *, moved: bool = True
    ) -> None:
        """The sink has everything up to `cursor`. Raises `Moved` where it was replayed meanwhile."""
        with _plain(self.path), self._books.atomic():
            done = self._books.conn.execute(
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
                raise Moved

    def bury(self, sink: str, was: int, seq: int, reason: str, now: float) -> None:
        """The sink will never take this event: remember it, and move on."""
        with _plain(self.path), self._db.atomic():
            if not self._run(
                "UPDATE sinks SET cursor = ? WHERE name = ? AND cursor = ?", (seq, sink, was)
            ).rowcount:
                raise Moved
            self._dead(sink, seq, reason, now)

    def rebury(self, sink: str, seq: int, reason: str, now: float) -> None:
        """A retried event was refused again."""
        with _plain(self.path), self._db.atomic():
            self._dead(sink, seq, reason, now)

    def _dead(self, sink: str, seq: int, reason: str, now: float) -> None:
        self._run(
            "INSERT OR REPLACE INTO dead (sink, seq, buried, reason) VALUES (?, ?, ?, ?)",
            (sink, seq, now, reason),
        )

    def raise_dead(self, sink: str, seqs: Sequence[int] | None) -> int:
        """Mark buried events (all, without `seqs`) to be tried again; how many."""
        return self._each_dead("UPDATE dead SET retry = 1 WHERE sink = ?", sink, seqs)

    def drop_dead(self, sink: str, seqs: Sequence[int] | None) -> int:
        """Forget buried events; how many."""
        return self._each_dead("DELETE FROM dead WHERE sink = ?", sink, seqs)

    def _each_dead(self, sql: str, sink: str, seqs: Sequence[int] | None) -> int:
        with _plain(self.path), self._db.atomic():
            if seqs is None:
                return self._run(sql, (sink,)).rowcount
            return sum(self._run(sql + " AND seq = ?", (sink, seq)).rowcount for seq in seqs)

    def suffer(self, sink: str, failures: int, failing: float | None, error: str | None) -> None:
        """Write up a sink's trouble, for `status`."""
        with _plain(self.path), self._books.atomic():
            self._books.conn.execute(
                "UPDATE sinks SET failures = ?, failing = ?, error = ? WHERE name = ?",
                (failures, failing, error, sink),
            )

    def replay(self, sink: str, after: int) -> bool:
        """Move a sink's cursor back, never on; whether there is such a sink. Its daemon notices by itself."""
        with _plain(self.path), self._db.atomic():
            return bool(
                self._run("UPDATE sinks SET cursor = min(cursor, ?) WHERE name = ?", (after, sink)).rowcount
            )

    def rewind(self, source: str, state: State) -> None:
        """Give a source another state, due at once; a poll under way in the daemon is void."""
        with _plain(self.path), self._db.atomic():
            self._run(
                "UPDATE sources SET state = ?, revision = revision + 1, due = -1 WHERE name = ?",
                (wire.encode(state).decode(), source),
            )

    def follow(self, source: str, ids: Sequence[str]) -> int:
        """Leave ids for a source to follow from its next visit on; how many were not waiting already."""
        with _plain(self.path), self._db.atomic():
            return self._db.conn.executemany(
                "INSERT OR IGNORE INTO inbox (source, id) SELECT s.id, ?2 FROM sources s WHERE s.name = ?1",
                [(source, each) for each in ids],
            ).rowcount

    def tick_off(self, seqs: Sequence[int]) -> list[int]:
        """Mark failures as done; those that there are."""
        with _plain(self.path), self._db.atomic():
            self._db.conn.executemany(
                "UPDATE events SET failure = 0 WHERE seq = ? AND failure = 1", [(s,) for s in seqs]
            )
            there = "SELECT 1 FROM events WHERE seq = ? AND failure = 0"
            return [seq for seq in seqs if self._run(there, (seq,)).fetchone()]

    def prune(self, sinks: Sequence[str], now: float, retention: float, limit: int = 500) -> bool:
        """One small step of forgetting: payloads that every sink has had for `retention`, later their keys too.

        Each step looks at the next `limit` events and remembers where it was; whether there are more to look at before the
        next round begins. Buried events are kept.
        """
        run = self._run
        # By our time *and* by the vendor's: where a source is quiet, readings still reach back from its last event. Without
        # a stamp nobody knows how far readings reach back: such ids are kept for good.
        kept = max(KEYS_KEPT, retention)
        old, older = self.before(now - retention), self.before(now - kept)
        marks = ",".join("?" * len(sinks))
        low = run(f"SELECT min(cursor) FROM sinks WHERE name IN ({marks})", sinks).fetchone()[0]  # noqa: S608 - only marks
        blank = old if low is None else min(old, low)
        with _plain(self.path), self._db.atomic():
            [mark] = run("SELECT coalesce(position, 0) FROM sources WHERE name = ?", (DAEMON,)).fetchone()
            last, looked = run(
                "SELECT max(seq), count(*) FROM (SELECT seq FROM events WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?)",
                (mark, max(blank, older), limit),
            ).fetchone()
            if looked:
                run(
                    "UPDATE events SET body = NULL WHERE seq > ? AND seq <= ? AND logged < ? AND body IS NOT NULL "
                    "AND seq NOT IN (SELECT seq FROM dead)",
                    (mark, min(last, blank), now - retention),
                )
                run(
                    "DELETE FROM events WHERE seq IN (SELECT e.seq FROM events e JOIN sources s ON s.id = e.source "
                    "WHERE e.seq > ? AND e.seq <= ? AND e.logged < ? AND e.body IS NULL "
                    "AND (e.stamp < s.position - ? OR e.type GLOB 'roundsman.*'))",
                    (mark, min(last, older), now - kept, kept),
                )
            letters = run(
                "DELETE FROM unread WHERE n IN (SELECT n FROM unread WHERE received < ? ORDER BY n LIMIT ?)",
                (now - retention, limit),
            ).rowcount
            through = looked < limit
            if mark or not through:
                run("UPDATE sources SET position = ? WHERE name = ?", (0 if through else last, DAEMON))
            return not through or letters == limit

    def shrink(self, pages: int = 200) -> bool:
        """Give some of what is free in the file back to the disk; whether there is more worth it.

        Never the whole file at once: `VACUUM` would lock it, and write all of it anew. A quarter may stay, for new events.
        """
        [total], [free] = (
            self._run(f"PRAGMA {what}").fetchone() for what in ("page_count", "freelist_count")
        )
        if free < SPARE_PAGES or free < total // 4 or not self._run("PRAGMA auto_vacuum").fetchone()[0]:
            return False
        self._run(f"PRAGMA incremental_vacuum({pages})").fetchall()
        return True

    def checkpoint(self) -> None:
        """Move what is in the -wal file into the store, and cut it; not at all while somebody reads."""
        self._run("PRAGMA busy_timeout = 0")
        try:
            self._run("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        finally:
            self._run(f"PRAGMA busy_timeout = {round(BUSY * 1000)}")


def _same_type(place: str, was: str, kind: str) -> None:
    """What a name remembers means nothing to another type."""
    if was != kind:
        what = place.partition(".")[0].removesuffix("s")
        raise StoreError(f"{place} was a {was} and is now a {kind}: give the new {what} another name")


def restore(path: Path, backup: Path) -> None:
    """Put a backup in the place of the store, which nobody may be using. StoreError where that cannot be.

    What a crash left beside the old store goes with it: SQLite would play an old -wal file into the new store.
    """
    with _plain(backup):
        copy = _connect(backup, readonly=True)
        try:
            if not _known(backup, copy):
                raise StoreError(f"{backup} is empty")
            if copy.conn.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
                raise StoreError(f"{backup} is damaged")
        finally:
            copy.close()
    with _plain(path):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = _claim(path)
        half = path.with_name(path.name + ".restoring")
        try:
            half.unlink(missing_ok=True)
            handle = os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with backup.open("rb") as source, os.fdopen(handle, "wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
                target.flush()
                os.fsync(target.fileno())
            hand_over(half)
            for left in ("-wal", "-shm"):
                path.with_name(path.name + left).unlink(missing_ok=True)
            half.replace(path)
            sync_folder(path.parent)
        finally:
            half.unlink(missing_ok=True)
            os.close(lock)


def _connect(path: Path, *, readonly: bool = False) -> Database:
    uri = f"{path.absolute().as_uri()}?mode={'ro' if readonly else 'rw'}"
    conn = sqlite3.connect(uri, uri=True, timeout=BUSY)
    run = conn.execute
    if not readonly:
        run(
            "PRAGMA auto_vacuum = INCREMENTAL"
        )  # of a new store: what was forgotten can be given back in small steps
        run("PRAGMA page_size = 8192")  # with the long WAL below: half the cost of random keys, measured
        run("PRAGMA journal_mode = WAL")
        run("PRAGMA synchronous = FULL")
        run("PRAGMA wal_autocheckpoint = 4000")
        run("PRAGMA journal_size_limit = 67108864")
    run("PRAGMA cache_size = -16000")
    return Database(conn, recursive_triggers=False, execute_plugins=False)


def _known(path: Path, db: Database) -> set[str]:
    """What was applied to the file. StoreError where the file was written by a program that knew more migrations, or is not ours."""
    applied = {m.name for m in migrations.applied(db)}
    newer = sorted(applied - NAMES)
    if newer:
        raise StoreError(
            f"{path} was written by a newer roundsman (it has {newer[-1]}): upgrade, or use another store"
        )
    if not applied and db.table_names():
        raise StoreError(f"{path} is a SQLite file of something else: use another path for the store")
    return applied


def _claim(path: Path) -> int:
    """Take the lock beside the store, or say who holds it. The kernel releases it however the holder ends."""
    beside = path.with_name(path.name + ".lock")
    lock = os.open(beside, os.O_RDWR | os.O_CREAT, 0o600)
    hand_over(beside)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(lock, 200, 0).decode(errors="replace").strip() or "another process"
        os.close(lock)
        raise StoreError(f"{path} is in use by {holder}: one daemon per store") from None
    os.ftruncate(lock, 0)
    started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    os.pwrite(lock, f"roundsman, pid {os.getpid()}, since {started}\n".encode(), 0)
    return lock


@contextmanager
def _plain(path: Path) -> Iterator[None]:
    """SQLite's and the system's words in a sentence that says what to do."""
    try:
        yield
    except sqlite3.DatabaseError as exc:
        name = getattr(exc, "sqlite_errorname", "") or ""
        if "FULL" in name:
            raise StoreError(f"{path} cannot be written: the disk is full") from None
        if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
            raise StoreError(
                f"{path} is damaged or not a SQLite file: restore it from a backup, or move it away to start anew"
            ) from None
        if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")):
            raise StoreError(f"{path} cannot be written: it or its folder is read-only or missing") from None
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            raise StoreError(f"{path} is locked by another program for more than {BUSY:.0f}s") from None
        if name.startswith("SQLITE_IOERR"):
            raise StoreError(
                f"{path} cannot be read or written: the disk reports an error ({name})"
            ) from None
        if isinstance(exc, sqlite3.OperationalError):
            raise StoreError(f"{path} cannot be used: {exc}") from None
        raise
    except OSError as exc:
        raise StoreError(f"{path} cannot be opened: {exc.strerror}") from None


def holder(path: Path) -> str | None:
    """Who runs on the store: `roundsman, pid 123, since ...`; None where nobody does."""
    try:
        lock = os.open(path.with_name(path.name + ".lock"), os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.pread(lock, 200, 0).decode(errors="replace").strip()
    finally:
        os.close(lock)
    return None


def default_path(environ: Mapping[str, str] = os.environ) -> Path:
    """Where the store is without `[daemon] store`: systemd's state directory, else the user's."""
    if folder := environ.get("STATE_DIRECTORY"):
        return Path(folder.partition(":")[0]) / "roundsman.db"
    home = environ.get("XDG_STATE_HOME") or str(
        Path(environ.get("HOME", "~")).expanduser() / ".local" / "state"
    )
    return Path(home) / "roundsman" / "roundsman.db"
