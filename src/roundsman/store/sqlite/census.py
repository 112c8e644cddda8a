"""Counts what the metrics show of a store, in a thread, on a connection of its own."""

import sqlite3
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Lock

from roundsman.store.lags import Lags, Part
from roundsman.store.sqlite.files import BESIDE, connect, translated
from roundsman.store.sqlite.filters import where_of
from roundsman.store.values import Census, Filter, Lag
from roundsman.system.files import Space, resolve, space

SLOW, REST = 0.1, 20.0
"""If counting the failures took longer than this many seconds, the result is used again for `REST` times as long."""


class Counting:
    """Counts for the metrics of one store. A count may be made in any thread, one at a time."""

    def __init__(self, path: Path, look: Callable[[Path], Space] = space) -> None:
        self._path = path
        self._look = look
        self.open = Lock()
        """Held while its connection is open."""
        self._lags = Lags()
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
                    self._open_failures(db),
                    unread,
                    dead,
                    self._waiting(db, sinks),
                    self._sizes(),
                    self._disk(),
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

    def _waiting(self, db: sqlite3.Connection, sinks: Mapping[str, Filter]) -> dict[str, Lag]:
        def look(wanted: Filter, begin: int, end: int) -> Part:
            where, values = where_of(wanted)
            # With min(), SQLite takes `logged` from the same row.
            sql = "SELECT count(*), min(e.seq), e.logged FROM events e JOIN sources s ON s.id = e.source"
            within = "e.seq > ? AND e.seq <= ? AND e.body IS NOT NULL"
            count, _, oldest = db.execute(f"{sql} WHERE {within}{where}", [begin, end, *values]).fetchone()
            return Part(begin, end, count, oldest)

        cursors = dict(db.execute("SELECT name, cursor FROM sinks"))
        [head] = db.execute("SELECT coalesce(max(seq), 0) FROM events").fetchone()
        return self._lags.count(look, sinks, cursors, head)

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
