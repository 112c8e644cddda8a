"""Counts what the metrics show of a store, in a thread, on a connection of its own."""

from collections.abc import Mapping
from threading import Lock
from typing import Any

import psycopg

from roundsman.options.server import Server
from roundsman.store.lags import Lags, Part
from roundsman.store.postgres.connection import connect_here, is_lost, program, translated
from roundsman.store.postgres.filters import where_of
from roundsman.store.postgres.reading import LOGGED
from roundsman.store.values import Census, Filter, Lag

TABLES = ("events", "ids", "sources", "sinks", "dead", "unread", "acts", "source_counts", "sink_counts")
"""The tables that grow."""


class Counting:
    """Counts for the metrics of one store. A count may be made in any thread, one at a time."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._lags = Lags()
        self._open = Lock()
        """Held while its connection is used."""
        self._connection: psycopg.Connection[Any] | None = None

    def count(self, sinks: Mapping[str, Filter]) -> Census:
        """What the metrics show. StoreError if the store cannot be read."""
        with self._open, translated(self._server):
            try:
                return self._counted(self._connected(), sinks)
            except psycopg.Error as exc:
                if not is_lost(exc):
                    raise
            return self._counted(self._connected(), sinks)

    def close(self) -> None:
        with self._open:
            if self._connection is not None:
                self._connection.close()

    def _connected(self) -> psycopg.Connection[Any]:
        """A connection, kept from one count to the next; another one if the server has ended it."""
        if self._connection is None or self._connection.closed:
            self._connection, _ = connect_here(self._server, program())
        return self._connection

    def _counted(self, connection: psycopg.Connection[Any], sinks: Mapping[str, Filter]) -> Census:
        run = connection.execute
        failures = f"SELECT s.name, count(*) {LOGGED} WHERE e.failure = 1 AND e.body IS NOT NULL GROUP BY 1"
        unread = "SELECT s.name, count(*) FROM unread u JOIN sources s ON s.id = u.source GROUP BY s.name"
        sizes = "SELECT sum(pg_total_relation_size(each::regclass))::bigint FROM unnest(%s::text[]) AS each"
        [size] = run(sizes, (list(TABLES),)).fetchone() or (0,)
        return Census(
            dict(run(failures).fetchall()),
            dict(run(unread).fetchall()),
            dict(run("SELECT sink, count(*) FROM dead GROUP BY sink").fetchall()),
            self._waiting(connection, sinks),
            {"store": int(size)},
            None,
        )

    def _waiting(self, connection: psycopg.Connection[Any], sinks: Mapping[str, Filter]) -> dict[str, Lag]:
        def look(wanted: Filter, begin: int, end: int) -> Part:
            where, values = where_of(wanted)
            within = "e.seq > %s AND e.seq <= %s AND e.body IS NOT NULL"
            sql = f"SELECT count(*), (array_agg(e.logged ORDER BY e.seq))[1] {LOGGED} WHERE {within}{where}"
            [count, oldest] = connection.execute(sql, [begin, end, *values]).fetchone() or (0, None)
            return Part(begin, end, count, oldest)

        cursors = dict(connection.execute("SELECT name, cursor FROM sinks").fetchall())
        [head] = connection.execute("SELECT seq FROM log_head").fetchone() or (0,)
        return self._lags.count(look, sinks, cursors, head)
