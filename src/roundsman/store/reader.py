"""Reads the store, for the daemon and for commands beside it."""

import glob
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypeVar

from sqlite_utils import Database

from roundsman import wire
from roundsman.errors import StoreError
from roundsman.events import Event
from roundsman.plugin import Receipt, State
from roundsman.store.database import BESIDE, applied, connect, must_exist, translated, write_copy
from roundsman.store.schema import NAMES
from roundsman.store.values import DAEMON, DaemonRecord, SourceRecord, SourceStatus, Via
from roundsman.system.files import refuse_links, resolve, space, sync_folder

FULL_BELOW = 256 * 2**10
"""Free bytes below which the disk counts as full: one write may still fit into free pages of the file, and
the next one fail.
"""
BATCH_BYTES = 8 * 2**20
"""Approximate bytes of events that are read at a time: a thousand rows of 10 MB must not fill the memory."""


class Filter(NamedTuple):
    """Which events are wanted. Each field is a sequence of names and globs; an empty one matches all."""

    types: Sequence[str] = ()
    sources: Sequence[str] = ()
    outcomes: Sequence[str] = ()

    def where(self) -> tuple[str, list[str]]:
        """The condition in SQL and its values, for any number of names."""
        clauses: list[str] = []
        values: list[str] = []
        # The plus keeps SQLite from using the column's index, so that it reads the log in `seq` order.
        for column, wanted in (
            ("+e.type", self.types),
            ("+s.name", self.sources),
            ("+e.outcome", self.outcomes),
        ):
            globs = [each for each in wanted if set(each) & set("*?[")]
            names = [each for each in wanted if not set(each) & set("*?[")]
            terms = [f"{column} GLOB ?"] * len(globs)
            values += globs
            if names:
                terms.append(f"{column} IN (SELECT value FROM json_each(?))")  # noqa: S608 - fixed names
                values.append(wire.encode(names).decode())
            if terms:
                clauses.append(_either(terms))
        return "".join(f" AND {clause}" for clause in clauses), values


def _either(terms: Sequence[str]) -> str:
    """These conditions joined by OR, as a balanced tree: a chain of a thousand ORs is too deep for SQLite."""
    if len(terms) == 1:
        return terms[0]
    middle = len(terms) // 2
    return f"({_either(terms[:middle])} OR {_either(terms[middle:])})"


_EVENT = "SELECT e.seq, s.name, e.id, e.type, e.outcome, e.body, e.logged FROM events e JOIN sources s ON s.id = e.source"


P = ParamSpec("P")
T = TypeVar("T")


def reads_rows(method: "Callable[Concatenate[Reader, P], T]") -> "Callable[Concatenate[Reader, P], T]":
    """Wraps a method that fetches rows after `_run`: SQLite's errors become a StoreError then, too."""

    @wraps(method)
    def wrapped(self: "Reader", /, *args: P.args, **kwargs: P.kwargs) -> T:
        with translated(self.path):
            return method(self, *args, **kwargs)

    return wrapped


class Reader:
    """The store, read-only. It can be used beside a running daemon and never blocks it."""

    def __init__(self, path: Path, db: Database) -> None:
        self.path = path
        self._db = db

    def _run(self, sql: str, values: Sequence[object] = ()) -> sqlite3.Cursor:
        with translated(self.path):
            return self._db.conn.execute(sql, values)

    @classmethod
    def open(cls, path: Path) -> "Reader":
        """Open the store at `path`. StoreError if there is none, or if another version wrote it."""
        must_exist(path)
        with translated(path):
            db = connect(path, readonly=True)
            if NAMES - applied(path, db):
                raise StoreError(
                    f"{path} was written by an older roundsman: `roundsman run` or `once` brings it up to date"
                )
        return cls(path, db)

    def close(self) -> None:
        self._db.close()

    def full(self) -> str | None:
        """A message if the disk is full; None if it is not."""
        with suppress(OSError):
            if space(self.path).free < FULL_BELOW:
                return f"{self.path} cannot be written: the disk is full"
        return None

    def version(self) -> int:
        """A number that changes when another connection has written."""
        return int(self._run("PRAGMA data_version").fetchone()[0])

    def head(self) -> int:
        """The last event's `seq`; 0 for an empty log."""
        return int(self._run("SELECT coalesce(max(seq), 0) FROM events").fetchone()[0])

    def sources(self) -> list[dict[str, Any]]:
        """Every source that was ever configured."""
        return self._rows("SELECT * FROM sources WHERE type != 'roundsman' ORDER BY name")

    def statuses(self) -> Iterator[SourceRecord]:
        """The stored status of each source, one at a time, because there may be very many."""
        sql = (
            "SELECT name, heard, due, coalesce(held, 0), visited, answered, polls, failures, failing, unanswered, error, "
            "options FROM sources"
        )
        for name, heard, *fields in self._run(sql):
            yield SourceRecord(name, SourceStatus(*fields), heard)

    def sinks(self) -> list[dict[str, Any]]:
        return self._rows(
            "SELECT k.*, (SELECT count(*) FROM dead d WHERE d.sink = k.name) AS dead FROM sinks k ORDER BY name"
        )

    def lag(self, cursor: int, wanted: Filter) -> int:
        """Number of events after `cursor` that match the filter."""
        where, values = wanted.where()
        join = "FROM events e JOIN sources s ON s.id = e.source WHERE e.seq > ?"
        return int(self._run(f"SELECT count(*) {join}{where}", [cursor, *values]).fetchone()[0])

    @reads_rows
    def counts(self) -> dict[str, int]:
        """Number of events in the log, by source."""
        return dict(
            self._run(
                "SELECT s.name, count(*) FROM events e JOIN sources s ON s.id = e.source GROUP BY 1"
            ).fetchall()
        )

    def state(self, name: str) -> tuple[State, int]:
        """The source's state, and the revision to commit against."""
        row = self._run("SELECT state, revision FROM sources WHERE name = ?", (name,)).fetchone()
        return (wire.decode(row[0].encode()), row[1]) if row else ({}, 0)

    def backup(self, target: Path, *, replace: bool = False) -> None:
        """Write a complete, compact copy of the store, while others may write. StoreError on failure."""
        with translated(target):
            store = resolve(self.path)
            ours = [store, *(store.with_name(store.name + end) for end in (*BESIDE, ".lock"))]
            if any(each.exists() and target.exists() and each.samefile(target) for each in ours):
                raise StoreError(f"{target} is the store itself, or belongs to it")
            if target.exists() and not target.is_file():
                raise StoreError(f"{target} is not a file")
            if target.exists() and not replace:
                raise StoreError(
                    f"{target} is there already, and is not overwritten; --force does it all the same"
                )
            half = target.with_name(f".{target.name}.{os.getpid()}.part")
            refuse_links(half)
            _sweep(target)
            # Not `create`: root's backup stays root's, even in another user's folder.
            handle = os.open(half, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            self._run("PRAGMA busy_timeout = 10000")
            with translated(target):  # from here on, errors are about `target`
                write_copy(self._db, half, handle)
                half.replace(target)
                sync_folder(target.absolute().parent)
        finally:
            half.unlink(missing_ok=True)
            os.close(handle)

    def daemon(self) -> DaemonRecord:
        """The record of the daemon that runs on the store, or of the last one."""
        row = self._run(
            "SELECT pid, started, beat, version, config, digest, reloads, problems FROM daemons"
        ).fetchone()
        return DaemonRecord._make((*row[:-1], tuple(wire.decode(row[-1].encode()))))

    def inbox(self, name: str) -> tuple[list[str], int]:
        """Ids to track, at most 1,000, and the number to commit when they are taken up; 0 if none."""
        sql = "SELECT i.id, i.n FROM inbox i JOIN sources s ON s.id = i.source WHERE s.name = ? ORDER BY i.n LIMIT 1000"
        rows = self._run(sql, (name,)).fetchall()
        return [row[0] for row in rows], rows[-1][1] if rows else 0

    @reads_rows
    def failures(
        self, sources: Sequence[str] = (), since: float = 0.0, *, done: bool = False, limit: int = -1
    ) -> list[tuple[Event, float, bool]]:
        """Failures, newest first: the event, when it was logged (Unix), and whether it is marked as done."""
        where, values = Filter(sources=sources).where()
        which = "IS NOT NULL" if done else "= 1"
        sql = _EVENT.replace(" FROM", ", e.failure FROM") + f" WHERE e.failure {which} AND e.body IS NOT NULL"
        rows = self._run(
            f"{sql} AND e.logged >= ?{where} ORDER BY e.seq DESC LIMIT ?", [since, *values, limit]
        ).fetchall()
        return [(Event(k, s, t, o, b, q), logged, not f) for q, s, k, t, o, b, logged, f in rows]

    def open_failures(self) -> int:
        """Number of failures that are not marked as done."""
        sql = "SELECT count(*) FROM events WHERE failure = 1 AND body IS NOT NULL"
        return int(self._run(sql).fetchone()[0])

    def kind(self, source: str) -> str | None:
        """The type that a source was registered with; None if it never was."""
        row = self._run("SELECT type FROM sources WHERE name = ?", (source,)).fetchone()
        return str(row[0]) if row else None

    @reads_rows
    def events(self, after: int, upto: int, limit: int, wanted: Filter) -> list[tuple[Event, float]]:
        """Events after `after` in log order, and when each was logged (Unix); pruned ones are left out."""
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

    @reads_rows
    def last(self, count: int, wanted: Filter, since: float = 0.0) -> list[tuple[Event, float]]:
        """The newest `count` events, the oldest of them first."""
        where, values = wanted.where()
        sql = f"{_EVENT} WHERE e.body IS NOT NULL AND e.logged >= ?{where} ORDER BY e.seq DESC LIMIT ?"
        rows = self._run(sql, [since, *values, count]).fetchall()
        return [(Event(k, s, t, o, b, q), logged) for q, s, k, t, o, b, logged in reversed(rows)]

    @reads_rows
    def known(self, name: str, ids: Sequence[str]) -> set[str]:
        """Which of these event ids of a source are in the log."""
        found: set[str] = set()
        for at in range(0, len(ids), 500):
            some = ids[at : at + 500]
            marks = ",".join("?" * len(some))
            sql = f"SELECT e.id FROM events e JOIN sources s ON s.id = e.source WHERE s.name = ? AND e.id IN ({marks})"  # noqa: S608 - only marks
            found.update(row[0] for row in self._run(sql, [name, *some]))
        return found

    def seq_before(self, when: float) -> int:
        """The `seq` after which events were logged at or after `when`. Fast: a bisection of the log.

        It assumes that `logged` grows with `seq`. If a clock was set back, only `seq_since` is right.
        """
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

    def seq_since(self, when: float) -> int:
        """As `seq_before`, but right even if a clock was set back. Scans the log."""
        sql = "SELECT seq FROM events WHERE logged >= ? ORDER BY seq LIMIT 1"
        row = self._run(sql, (when,)).fetchone()
        return int(row[0]) - 1 if row else self.head()

    def moved(self) -> dict[str, tuple[str, str]]:
        """Sources that read another origin than their state is from: name -> (state's origin, new one)."""
        rows = self._run("SELECT name, origin, moved FROM sources WHERE moved IS NOT NULL").fetchall()
        return {name: (origin, moved) for name, origin, moved in rows}

    def wanted(self) -> list[str]:
        """Sources for which a command requested a visit."""
        return [row[0] for row in self._run("SELECT name FROM sources WHERE due < 0")]

    def unread(self, source: str) -> list[dict[str, Any]]:
        """Webhooks and rows of a source that could not be read, oldest first."""
        sql = "SELECT u.n, u.received, u.why, u.body FROM unread u JOIN sources s ON s.id = u.source WHERE s.name = ?"
        return self._rows(f"{sql} ORDER BY u.n", (source,))

    @reads_rows
    def unread_counts(self) -> dict[str, int]:
        """Number of unread webhooks and rows, by source."""
        sql = "SELECT s.name, count(*) FROM unread u JOIN sources s ON s.id = u.source GROUP BY 1"
        return dict(self._run(sql).fetchall())

    def via(self, seqs: Sequence[int]) -> dict[int, Via]:
        """What brought each of these events first, by `seq`."""
        marks = ",".join("?" * len(seqs))
        return dict(self._run(f"SELECT seq, via FROM events WHERE seq IN ({marks})", seqs).fetchall())  # noqa: S608 - only marks

    def oldest(self, sink: str, wanted: Filter) -> float | None:
        """When the oldest event was logged (Unix) that a sink wants and has not got; None if it has all."""
        where, values = wanted.where()
        sql = "SELECT e.logged FROM events e JOIN sources s ON s.id = e.source WHERE e.seq > ? AND e.body IS NOT NULL"
        cursor, _ = self.cursor(sink)
        row = self._run(f"{sql}{where} ORDER BY e.seq LIMIT 1", [cursor, *values]).fetchone()
        return float(row[0]) if row else None

    def lost_to_pruning(self, sink: str, wanted: Filter) -> tuple[int, int]:
        """Number of events that a sink wants and never got, and whose payloads were pruned.

        Also returns the last `seq` that it got.
        """
        row = self._run(
            "SELECT max(cursor, coalesce(reached, 0)) FROM sinks WHERE name = ?", (sink,)
        ).fetchone()
        reached = int(row[0]) if row else 0
        where, values = wanted.where()
        sql = "SELECT count(*) FROM events e JOIN sources s ON s.id = e.source WHERE e.seq > ? AND e.body IS NULL"
        return int(self._run(f"{sql}{where}", [reached, *values]).fetchone()[0]), reached

    def last_notice(self, kind: str) -> tuple[Event, float] | None:
        """The daemon's newest notice of this type (a glob), and when it was logged (Unix).

        It uses the index on `(source, id)`, so that the length of the log does not matter.
        """
        where = " WHERE e.source = (SELECT id FROM sources WHERE name = ?) AND e.type GLOB ? AND e.body IS NOT NULL"
        row = self._run(_EVENT + where + " ORDER BY +e.seq DESC LIMIT 1", (DAEMON, kind)).fetchone()
        return (Event(row[2], row[1], row[3], row[4], row[5], row[0]), row[6]) if row else None

    def logged_before(self, seq: int) -> float | None:
        """When the last event before `seq` that is not the daemon's was logged (Unix); None if none."""
        others = "source != (SELECT id FROM sources WHERE name = ?)"
        sql = f"SELECT logged FROM events WHERE seq < ? AND {others} ORDER BY seq DESC LIMIT 1"  # noqa: S608 - fixed words
        row = self._run(sql, (seq, DAEMON)).fetchone()
        return float(row[0]) if row else None

    def dead(self, sink: str) -> list[dict[str, Any]]:
        return self._rows(
            "SELECT d.seq, d.buried, d.reason, d.retry, s.name AS source, e.id, e.type, e.outcome FROM dead d "
            "LEFT JOIN events e ON e.seq = d.seq LEFT JOIN sources s ON s.id = e.source WHERE d.sink = ? ORDER BY d.seq",
            (sink,),
        )

    def cursor(self, sink: str) -> tuple[int, Receipt | None]:
        """A sink's cursor, and the receipt of its last ack."""
        row = self._run("SELECT cursor, receipt FROM sinks WHERE name = ?", (sink,)).fetchone()
        return (row[0], wire.decode(row[1].encode()) if row[1] else None) if row else (0, None)

    def failure(self, sink: str) -> tuple[int, float | None]:
        """How often a sink has failed in a row, and since when (Unix)."""
        row = self._run("SELECT failures, failing FROM sinks WHERE name = ?", (sink,)).fetchone()
        return (row[0], row[1]) if row else (0, None)

    def has_pruned_ids(self) -> bool:
        """Whether ids of events were ever pruned: a source that is read again from before that may repeat some."""
        return bool(self._run("SELECT ids_pruned FROM daemons").fetchone()[0])

    def retries(self, sink: str) -> list[Event]:
        """Dead letters of a sink that were requeued, at most 100 at a time."""
        sql = f"{_EVENT} JOIN dead d ON d.seq = e.seq WHERE d.sink = ? AND d.retry = 1 AND e.body IS NOT NULL"
        rows = self._run(sql + " ORDER BY e.seq LIMIT 100", (sink,)).fetchall()
        return [Event(k, s, t, o, b, q) for q, s, k, t, o, b, _ in rows]

    @reads_rows
    def _rows(self, sql: str, values: Sequence[object] = ()) -> list[dict[str, Any]]:
        cursor = self._run(sql, values)
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor]


def _sweep(target: Path) -> None:
    """Delete the partial files of backups to `target` that were killed."""
    for half in target.parent.glob(f".{glob.escape(target.name)}.*.part"):
        pid = half.name.split(".")[-2]
        # By the pid, not by a lock on the file: on a network disk, a lock would keep SQLite from writing it.
        if pid.isascii() and pid.isdecimal() and len(pid) < 10 and not _runs(int(pid)):
            half.unlink(missing_ok=True)


def _runs(pid: int) -> bool:
    """Whether another process with this pid runs."""
    with suppress(PermissionError):  # it is another user's process
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
    return pid != os.getpid()
