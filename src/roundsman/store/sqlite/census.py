"""Counts what the metrics show of a store, in a thread, on a connection of its own.

What waits for a sink may be half a million events, and a filter may match few of them. So they are counted in
parts of `PART` numbers, and the parts are kept: the next count reads only what is new, and the part that the
sink's cursor is in.
"""

import sqlite3
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Lock

from roundsman.store.sqlite.files import BESIDE, connect, translated
from roundsman.store.sqlite.filters import where_of
from roundsman.store.values import Census, Filter, Lag
from roundsman.system.files import Space, resolve, space

PART = 20_000
"""Numbers of the log in one part, which one statement counts: a statement keeps the -wal file from being reused."""
PATIENCE = 2.0
"""Seconds after which no further part is counted; the next count continues there."""
SLOW, REST = 0.1, 20.0
"""If counting the failures took longer than this many seconds, the result is used again for `REST` times as long."""


class Part:
    """The events of a part of the log that match a filter."""

    __slots__ = ("begin", "count", "end", "oldest")

    def __init__(self, begin: int, end: int, count: int, oldest: float | None) -> None:
        self.begin, self.end = begin, end
        """The numbers after `begin`, up to `end`."""
        self.count = count
        self.oldest = oldest
        """When the first of them was logged (Unix)."""

    def extend(self, part: "Part") -> None:
        """Add the part that follows."""
        self.end = part.end
        self.count += part.count
        self.oldest = part.oldest if self.oldest is None else self.oldest


class Waiting:
    """What waits for one sink, in parts that have no hole between them."""

    def __init__(self, wanted: Filter) -> None:
        self.wanted = wanted
        self._parts: list[Part] = []

    def count(self, db: sqlite3.Connection, cursor: int, head: int, ends: float) -> Lag:
        """What waits after `cursor`; without a number of events if that is not known by `ends` (monotonic)."""
        parts = self._parts
        if parts and cursor < parts[0].begin:
            parts.clear()  # a replay
        parts[:] = [part for part in parts if part.end > cursor]
        if parts and parts[0].begin < cursor:
            parts[0] = self._part(db, cursor, parts[0].end)
        at = parts[-1].end if parts else cursor
        while at < head and time.monotonic() < ends:
            part = self._part(db, at, min(at + PART, head))
            if parts and part.end - parts[-1].begin <= PART:
                parts[-1].extend(part)
            else:
                parts.append(part)
            at = part.end
        oldest = next((part.oldest for part in parts if part.count), None)
        return Lag(sum(part.count for part in parts) if at >= head else None, oldest)

    def _part(self, db: sqlite3.Connection, begin: int, end: int) -> Part:
        where, values = where_of(self.wanted)
        # With min(), SQLite takes `logged` from the same row.
        sql = "SELECT count(*), min(e.seq), e.logged FROM events e JOIN sources s ON s.id = e.source"
        within = "e.seq > ? AND e.seq <= ? AND e.body IS NOT NULL"
        count, _, oldest = db.execute(f"{sql} WHERE {within}{where}", [begin, end, *values]).fetchone()
        return Part(begin, end, count, oldest)


class Counting:
    """Counts for the metrics of one store. A count may be made in any thread, one at a time."""

    def __init__(self, path: Path, look: Callable[[Path], Space] = space) -> None:
        self._path = path
        self._look = look
        self.open = Lock()
        """Held while its connection is open."""
        self._waiting: dict[str, Waiting] = {}
        self._failures: dict[str, int] = {}
        self._again = float("-inf")
        """When (monotonic) the failures are counted again."""

    def count(self, sinks: Mapping[str, Filter]) -> Census:
        """What the metrics show. StoreError if the store cannot be read."""
        with self.open, translated(self._path):
            db = connect(self._path, readonly=True)
            try:
                dead = dict(db.execute("SELECT sink, count(*) FROM dead GROUP BY sink"))
                sql = "SELECT s.name, count(*) FROM unread u JOIN sources s ON s.id = u.source GROUP BY u.source"
                unread = dict(db.execute(sql))
                return Census(
                    self._open_failures(db), unread, dead, self._lags(db, sinks), self._sizes(), self._disk()
                )
            finally:
                db.close()

    def _open_failures(self, db: sqlite3.Connection) -> dict[str, int]:
        began = time.monotonic()
        if began >= self._again:
            sql = (
                "SELECT s.name, count(*) FROM events e JOIN sources s ON s.id = e.source "
                "WHERE e.failure = 1 AND e.body IS NOT NULL GROUP BY e.source"
            )
            self._failures = dict(db.execute(sql))
            took = time.monotonic() - began
            self._again = began + (took * REST if took > SLOW else 0.0)
        return self._failures

    def _lags(self, db: sqlite3.Connection, sinks: Mapping[str, Filter]) -> dict[str, Lag]:
        ends = time.monotonic() + PATIENCE
        cursors = dict(db.execute("SELECT name, cursor FROM sinks"))
        [head] = db.execute("SELECT coalesce(max(seq), 0) FROM events").fetchone()
        kept, self._waiting = self._waiting, {}
        lags = {}
        for name, wanted in sinks.items():
            waiting = kept.get(name)
            if waiting is None or waiting.wanted != wanted:
                waiting = Waiting(wanted)
            self._waiting[name] = waiting
            lags[name] = waiting.count(db, cursors.get(name, 0), head, ends)
        return lags

    def _sizes(self) -> dict[str, int]:
        sizes = {}
        store = resolve(self._path)
        for name, path in (("store", store), ("wal", store.with_name(store.name + BESIDE[0]))):
            try:
                sizes[name] = path.stat().st_size
            except FileNotFoundError:
                sizes[name] = 0
        return sizes

    def _disk(self) -> Space | None:
        try:
            return self._look(self._path)
        except OSError:
            return None
