"""Reads the store, for the daemon and for commands beside it."""

import glob
import os
import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from roundsman import wire
from roundsman.errors import StoreError
from roundsman.events import Event
from roundsman.store.fleet import Worker
from roundsman.store.reloads import results_of
from roundsman.store.rows import STATUS, event_of, record_of
from roundsman.store.sqlite.failures import Failures, listed
from roundsman.store.sqlite.files import BESIDE, applied, connect, must_exist, translated, write_copy
from roundsman.store.sqlite.filters import where_of
from roundsman.store.sqlite.pulling import Pulling
from roundsman.store.sqlite.reading import EVENT, reading
from roundsman.store.sqlite.schema import STEPS
from roundsman.store.sqlite.searching import Searching
from roundsman.store.sqlite.tallies import Tallies
from roundsman.store.values import (
    DAEMON,
    NEVER,
    DaemonRecord,
    DeadLetter,
    Filter,
    Kind,
    Later,
    Memory,
    Pause,
    Reload,
    SinkEntry,
    SourceEntry,
    SourceRecord,
    UnreadItem,
    Via,
)
from roundsman.system.files import is_there, refuse_links, resolve, space, sync_folder

if TYPE_CHECKING:
    from roundsman.plugin import Receipt

FULL_BELOW = 256 * 2**10
"""Free bytes below which the disk counts as full: one write may still fit into free pages of the file, and
the next one fail.
"""
BATCH_BYTES = 8 * 2**20
"""Approximate bytes of events that are read at a time: a thousand rows of 10 MB must not fill the memory."""


class Reader(Failures, Pulling, Searching, Tallies):
    """The store, read-only. It can be used beside a running daemon and never blocks it."""

    @classmethod
    def open(cls, path: Path) -> "Reader":
        """Open the store at `path`. StoreError if there is none, or if another version wrote it."""
        must_exist(path)
        with translated(path):
            db = connect(path, readonly=True)
            if STEPS.keys() - applied(path, db):
                raise StoreError(
                    f"{path} was written by an older roundsman: `roundsman run` or `once` brings it up to date"
                )
        return cls(path, db)

    async def close(self) -> None:
        self._db.close()

    @reading
    def full(self) -> str | None:
        """A message if the disk is full; None if it is not."""
        with suppress(OSError):
            if space(self.path).free < FULL_BELOW:
                return f"{self.path} cannot be written: the disk is full"
        return None

    @reading
    def known_damage(self) -> str | None:
        """What the daemon's last check found to be damaged; None if it found nothing, or none was made."""
        row = self._run("SELECT error FROM sources WHERE name = ?", (DAEMON,)).fetchone()
        return row[0] if row else None

    @reading
    def head(self) -> int:
        """The last event's `seq`; 0 for an empty log."""
        return self._head()

    @reading
    def sources(self, names: Sequence[str] | None = None) -> list[SourceEntry]:
        """Every source that was ever configured; with `names`, those of them."""
        columns = "type, changed, calls, refused, refusal, origin, moved, paused_by"
        these = "" if names is None else " AND name IN (SELECT value FROM json_each(?))"
        sql = f"SELECT {columns}, {STATUS} FROM sources WHERE type != 'roundsman'{these} ORDER BY name"  # noqa: S608 - fixed names
        rows = self._run(sql, () if names is None else (listed(names),))
        return [SourceEntry._make((*row[:8], record_of(row[8:]))) for row in rows]

    @reading
    def statuses(self) -> list[SourceRecord]:
        """The stored status of each source."""
        return [record_of(row) for row in self._run(f"SELECT {STATUS} FROM sources")]  # noqa: S608 - fixed names

    @reading
    def sinks(self) -> list[SinkEntry]:
        """Every sink that was ever configured."""
        sql = (
            "SELECT name, type, cursor, delivered, failures, failing, error, "
            "(SELECT count(*) FROM dead WHERE sink = sinks.name), until, held, paused, paused_by, (SELECT min(buried) FROM dead WHERE sink = sinks.name), "
            "(SELECT count(*) FROM dead WHERE sink = sinks.name AND buried > coalesce(delivered, 0)) FROM sinks ORDER BY name"
        )
        return [SinkEntry(*row) for row in self._run(sql)]

    @reading
    def pauses(self) -> list[Pause]:
        """Every source and sink that is paused."""
        one = "SELECT '{0}', name, paused, paused_by FROM {0}s WHERE paused IS NOT NULL"
        return [Pause(*row) for row in self._run(f"{one.format('source')} UNION ALL {one.format('sink')}")]

    @reading
    def lag(self, cursor: int, wanted: Filter) -> int:
        """Number of events after `cursor` that match the filter and can be delivered: those not pruned."""
        where, values = where_of(wanted)
        join = "FROM events e JOIN sources s ON s.id = e.source WHERE e.seq > ? AND e.body IS NOT NULL"
        return int(self._run(f"SELECT count(*) {join}{where}", [cursor, *values]).fetchone()[0])

    @reading
    def counts(self, names: Sequence[str] | None = None) -> dict[str, int]:
        """Number of events in the log, by source; with `names`, of these sources."""
        these = "" if names is None else " WHERE s.name IN (SELECT value FROM json_each(?))"
        sql = f"SELECT s.name, count(*) FROM events e JOIN sources s ON s.id = e.source{these} GROUP BY 1"  # noqa: S608 - fixed words
        return dict(self._run(sql, () if names is None else (listed(names),)).fetchall())

    @reading
    def names(self, offset: int = 0, limit: int = -1) -> tuple[list[str], int]:
        """Names of sources that were ever configured: at most `limit` after `offset`; and how many there are in all."""
        ours = "FROM sources WHERE type != 'roundsman'"
        some = self._run(f"SELECT name {ours} ORDER BY name LIMIT ? OFFSET ?", (limit, offset)).fetchall()
        return [name for (name,) in some], int(self._run(f"SELECT count(*) {ours}").fetchone()[0])

    @reading
    def memory(self, name: str) -> Memory:
        """What a source remembers; empty if it was never registered."""
        sql = (
            "SELECT id, state, revision, EXISTS (SELECT 1 FROM inbox WHERE source = sources.id) "
            "FROM sources WHERE name = ?"
        )
        row = self._run(sql, (name,)).fetchone()
        if row is None:
            return Memory({})
        source, state, revision, followed = row
        inbox = []
        if followed:  # rare, and each statement costs
            sql = "SELECT id, n FROM inbox WHERE source = ? ORDER BY n LIMIT 1000"
            inbox = self._run(sql, (source,)).fetchall()
        ids, taken = [each for each, _ in inbox], inbox[-1][1] if inbox else 0
        return Memory(wire.decode(state.encode()), revision, ids, taken)

    @reading
    def backup(self, target: Path, *, replace: bool = False) -> None:
        """Write a complete, compact copy of the store, while others may write. StoreError on failure."""
        with translated(target):
            store = resolve(self.path)
            ours = [store, *(store.with_name(store.name + end) for end in (*BESIDE, ".lock"))]
            if any(is_there(each) and is_there(target) and each.samefile(target) for each in ours):
                raise StoreError(f"{target} is the store itself, or belongs to it")
            if is_there(target) and not target.is_file():
                raise StoreError(f"{target} is not a file")
            if is_there(target) and not replace:
                raise StoreError(f"{target} exists, and is not overwritten; use --force to overwrite it")
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

    async def workers(self) -> list[Worker]:
        """None: one daemon uses a file."""
        return []

    async def holders(self, kind: Kind, names: Sequence[str] | None = None) -> dict[str, str]:  # noqa: ARG002 - as above
        """None: one daemon uses a file."""
        return {}

    @reading
    def daemon(self, worker: str | None = None) -> DaemonRecord:  # noqa: ARG002 - a file has one daemon
        """The record of the daemon that runs on the store, or of the last one."""
        row = self._run(
            "SELECT pid, started, beat, version, config, digest, reloads, problems FROM daemons"
        ).fetchone()
        results = results_of(row[-1])
        compared = results.compared or Reload(0)
        return DaemonRecord._make((*row[:-1], results.problems, results.changes, compared))

    @reading
    def kind(self, source: str) -> str | None:
        """The type that a source was registered with; None if it never was."""
        row = self._run("SELECT type FROM sources WHERE name = ?", (source,)).fetchone()
        return str(row[0]) if row else None

    @reading
    def events(self, after: int, upto: int, limit: int, wanted: Filter) -> list[tuple[Event, float]]:
        """Events after `after` in log order, and when each was logged (Unix); pruned ones are left out."""
        return self._events(after, upto, limit, wanted)

    def _events(self, after: int, upto: int, limit: int, wanted: Filter) -> list[tuple[Event, float]]:
        where, values = where_of(wanted)
        sql = f"{EVENT} WHERE e.seq > ? AND e.seq <= ? AND e.body IS NOT NULL{where} ORDER BY e.seq LIMIT ?"
        found: list[tuple[Event, float]] = []
        volume = 0
        cursor = self._run(sql, [after, upto, *values, limit])
        for row in cursor:
            event = event_of(row)
            found.append((event, row[6]))
            volume += len(event.body)
            if volume > BATCH_BYTES:
                cursor.close()
                break
        return found

    @reading
    def last(self, count: int, wanted: Filter, since: float = 0.0) -> list[tuple[Event, float]]:
        """The newest `count` events, the oldest of them first."""
        where, values = where_of(wanted)
        sql = f"{EVENT} WHERE e.body IS NOT NULL AND e.logged >= ?{where} ORDER BY e.seq DESC LIMIT ?"
        rows = self._run(sql, [since, *values, count]).fetchall()
        return [(event_of(row), row[6]) for row in reversed(rows)]

    @reading
    def known(self, name: str, ids: Sequence[str]) -> set[str]:
        """Which of these event ids of a source are in the log."""
        row = self._run("SELECT id FROM sources WHERE name = ?", (name,)).fetchone()
        return known_ids(self._db, row[0], ids) if row else set()

    def _seq_before(self, when: float) -> int:
        """The `seq` after which events were logged at or after `when`. Fast: a bisection of the log.

        It assumes that `logged` grows with `seq`. If a clock was set back, only `seq_since` is right.
        """
        low, high = 0, self._head()
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

    @reading
    def seq_since(self, when: float) -> int:
        """The `seq` after which events were logged at or after `when`, even if a clock was set back. Scans the log."""
        sql = "SELECT seq FROM events WHERE logged >= ? ORDER BY seq LIMIT 1"
        row = self._run(sql, (when,)).fetchone()
        return int(row[0]) - 1 if row else self._head()

    @reading
    def unread(self, source: str) -> list[UnreadItem]:
        """Webhooks and rows of a source that could not be read, oldest first."""
        sql = "SELECT u.n, u.received, u.why, u.body FROM unread u JOIN sources s ON s.id = u.source WHERE s.name = ?"
        return [UnreadItem(*row) for row in self._run(f"{sql} ORDER BY u.n", (source,))]

    @reading
    def unread_counts(self) -> dict[str, int]:
        """Number of unread webhooks and rows, by source."""
        sql = "SELECT s.name, count(*) FROM unread u JOIN sources s ON s.id = u.source GROUP BY 1"
        return dict(self._run(sql).fetchall())

    @reading
    def via(self, seqs: Sequence[int]) -> dict[int, Via]:
        """What brought each of these events first, by `seq`."""
        marks = ",".join("?" * len(seqs))
        return dict(self._run(f"SELECT seq, via FROM events WHERE seq IN ({marks})", seqs).fetchall())  # noqa: S608 - only marks

    @reading
    def lost_to_pruning(self, sink: str, wanted: Filter) -> tuple[int, int]:
        """Number of undelivered events of a sink whose payloads were pruned.

        Also returns the last `seq` that it got.
        """
        row = self._run(
            "SELECT max(cursor, coalesce(reached, 0)) FROM sinks WHERE name = ?", (sink,)
        ).fetchone()
        reached = int(row[0]) if row else 0
        where, values = where_of(wanted)
        sql = "SELECT count(*) FROM events e JOIN sources s ON s.id = e.source WHERE e.seq > ? AND e.body IS NULL"
        return int(self._run(f"{sql}{where}", [reached, *values]).fetchone()[0]), reached

    @reading
    def reported(self, source: str, kind: str) -> float | None:
        """When the newest notice of this type about a source was logged (Unix); None if the log has none."""
        begin = f"{source}:{kind.rpartition('.')[2]}"  # an index on (source, id) is used
        where = "source = (SELECT id FROM sources WHERE name = ?) AND id > ? AND id < ? AND type = ?"
        sql = f"SELECT max(logged) FROM events WHERE {where} AND body IS NOT NULL"  # noqa: S608 - fixed words
        row = self._run(sql, (source, f"{begin}:", f"{begin};", kind)).fetchone()
        return float(row[0]) if row[0] is not None else None

    @reading
    def last_notice(self, kind: str) -> tuple[Event, float] | None:
        """The daemon's newest notice of this type (a glob), and when it was logged (Unix).

        It uses the index on `(source, id)`, so that the length of the log does not matter.
        """
        where = " WHERE e.source = (SELECT id FROM sources WHERE name = ?) AND e.type GLOB ? AND e.body IS NOT NULL"
        row = self._run(EVENT + where + " ORDER BY +e.seq DESC LIMIT 1", (DAEMON, kind)).fetchone()
        return (event_of(row), row[6]) if row else None

    @reading
    def logged_before(self, seq: int) -> float | None:
        """When the last event before `seq` that is not the daemon's was logged (Unix); None if none."""
        others = "source != (SELECT id FROM sources WHERE name = ?)"
        sql = f"SELECT logged FROM events WHERE seq < ? AND {others} ORDER BY seq DESC LIMIT 1"  # noqa: S608 - fixed words
        row = self._run(sql, (seq, DAEMON)).fetchone()
        return float(row[0]) if row else None

    @reading
    def dead(self, sink: str, limit: int = -1) -> list[DeadLetter]:
        """The sink's dead letters in the order of the log, at most `limit`."""
        sql = (
            "SELECT d.seq, d.buried, d.reason, d.retry, s.name, e.id, e.type, e.outcome FROM dead d "
            "LEFT JOIN events e ON e.seq = d.seq LEFT JOIN sources s ON s.id = e.source WHERE d.sink = ? ORDER BY d.seq LIMIT ?"
        )
        return [DeadLetter(*row) for row in self._run(sql, (sink, limit))]

    @reading
    def cursor(self, sink: str) -> "tuple[int, Receipt | None]":
        """A sink's cursor, and the receipt of its last ack."""
        return self._position(sink)

    def _position(self, sink: str) -> "tuple[int, Receipt | None]":
        row = self._run("SELECT cursor, receipt FROM sinks WHERE name = ?", (sink,)).fetchone()
        return (row[0], wire.decode(row[1].encode()) if row[1] else None) if row else (0, None)

    @reading
    def later(self, sink: str) -> Later:
        """When a sink is called again on purpose."""
        row = self._run("SELECT until, held FROM sinks WHERE name = ?", (sink,)).fetchone()
        return Later(*row) if row else NEVER

    @reading
    def failure(self, sink: str) -> tuple[int, float | None]:
        """How often a sink has failed in a row, and since when (Unix)."""
        row = self._run("SELECT failures, failing FROM sinks WHERE name = ?", (sink,)).fetchone()
        return (row[0], row[1]) if row else (0, None)

    @reading
    def has_pruned_ids(self) -> bool:
        """Whether ids of events were ever pruned: a source that is read again from an earlier time may repeat some."""
        return bool(self._run("SELECT ids_pruned FROM daemons").fetchone()[0])

    @reading
    def retries(self, sink: str) -> list[Event]:
        """Dead letters of a sink that were requeued, at most 100 at a time."""
        sql = f"{EVENT} JOIN dead d ON d.seq = e.seq WHERE d.sink = ? AND d.retry = 1 AND e.body IS NOT NULL"
        rows = self._run(sql + " ORDER BY e.seq LIMIT 100", (sink,)).fetchall()
        return [event_of(row) for row in rows]


def known_ids(conn: sqlite3.Connection, source: int, ids: Sequence[str]) -> set[str]:
    """Which of these event ids are in the log of the source with this row id."""
    found: set[str] = set()
    for at in range(0, len(ids), 500):
        some = ids[at : at + 500]
        marks = ",".join("?" * len(some))
        sql = f"SELECT id FROM events WHERE source = ? AND id IN ({marks})"  # noqa: S608 - only marks
        found.update(row[0] for row in conn.execute(sql, [source, *some]))
    return found


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
