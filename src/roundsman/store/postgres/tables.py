"""The rows of a store on a server as they are, to copy it."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import psycopg
from psycopg import sql

from roundsman.options.server import Server
from roundsman.store.copying import EVENTS, NUMBERED, Row, Table
from roundsman.store.postgres.connection import connect, connect_here, program, translated
from roundsman.store.postgres.schema import migrate, must_be_current

FETCHED = 200
"""Rows that are fetched at a time."""


class ServerTables:
    """The tables of a schema."""

    def __init__(self, server: Server, connection: psycopg.Connection[Any]) -> None:
        self._server, self._connection = server, connection

    @classmethod
    def read(cls, server: Server) -> "ServerTables":
        """An existing store, as it is now. StoreError if there is none, or if another version wrote it."""
        with translated(server):
            asyncio.run(_prepare(server, create=False))
            connection = _patient(server)
            connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        return cls(server, connection)

    @classmethod
    def write(cls, server: Server) -> "ServerTables":
        """A store to copy into; it is created if it is missing."""
        with translated(server):
            asyncio.run(_prepare(server, create=True))
            return cls(server, _patient(server))

    @property
    def place(self) -> Server:
        return self._server

    def _one(self, statement: Any, values: Sequence[object] = ()) -> Any:
        with translated(self._server):
            row = self._connection.execute(statement, values).fetchone()
        return row[0] if row is not None else None

    def copied_from(self) -> str | None:
        found = self._one("SELECT copied_from FROM store")
        return str(found) if found is not None else None

    def is_empty(self) -> bool:
        return not self._one(
            "SELECT (SELECT seq FROM log_head) > 0 OR EXISTS (SELECT 1 FROM events) OR EXISTS (SELECT 1 FROM sinks) "
            "OR EXISTS (SELECT 1 FROM sources WHERE type != 'roundsman')"
        )

    def begin(self, origin: str) -> None:
        self._one("UPDATE store SET copied_from = %s RETURNING 1", (origin,))

    def last(self) -> int:
        return int(self._one("SELECT coalesce(max(seq), 0) FROM events"))

    def rows(self, table: Table, after: int = 0) -> Iterator[Row]:
        statement = sql.SQL("SELECT {} FROM {} {} ORDER BY {}").format(
            _names(table.columns),
            sql.Identifier(table.name),
            sql.SQL("WHERE seq > {}").format(after) if after else sql.SQL(""),
            _names(table.key),
        )
        with (
            translated(self._server),
            self._connection.transaction(),
            self._connection.cursor("rows") as cursor,
        ):
            cursor.execute(statement, binary=True)
            while some := cursor.fetchmany(FETCHED):
                yield from some

    def clear(self, table: Table) -> None:
        with translated(self._server):
            self._connection.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(table.name)))

    def put(self, table: Table, rows: Sequence[Row]) -> None:
        into = sql.SQL("COPY {} ({}) FROM STDIN").format(sql.Identifier(table.name), _names(table.columns))
        with translated(self._server), self._connection.transaction():
            with self._connection.cursor().copy(into) as target:
                for row in rows:
                    target.write_row(row)
            if table is EVENTS:
                self._connection.execute(
                    "INSERT INTO ids (source, id) SELECT source, id FROM events WHERE seq >= %s AND seq <= %s ORDER BY 1, 2",
                    (rows[0][0], rows[-1][0]),
                )

    def numbers(self) -> dict[str, int]:
        found = {"events": int(self._one("SELECT seq FROM log_head"))}
        for name in NUMBERED:
            if name not in found:
                last = "SELECT coalesce(pg_sequence_last_value(pg_get_serial_sequence(%s, 'n')::regclass), 0)"
                found[name] = int(self._one(last, (name,)))
        return found

    def finish(self, numbers: Mapping[str, int]) -> None:
        with translated(self._server), self._connection.transaction():
            run = self._connection.execute
            run("UPDATE log_head SET seq = %s", (numbers["events"],))
            for name in NUMBERED:
                if name != "events" and numbers[name]:
                    run("SELECT setval(pg_get_serial_sequence(%s, 'n'), %s)", (name, numbers[name]))
            run("SELECT setval(pg_get_serial_sequence('sources', 'id'), (SELECT max(id) FROM sources))")
            run("UPDATE store SET copied_from = NULL")
        with translated(self._server):
            self._connection.execute("ANALYZE")

    def close(self) -> None:
        self._connection.close()


async def _prepare(server: Server, *, create: bool) -> None:
    """StoreError if there is no store; or create it."""
    connection, facts = await connect(server, program())
    async with connection:
        if create:
            await migrate(server, connection, facts.space)
        else:
            await must_be_current(server, connection)


def _patient(server: Server) -> psycopg.Connection[Any]:
    """A connection whose statements may take long."""
    connection, _ = connect_here(server, program())
    connection.execute("SET idle_in_transaction_session_timeout = 0")
    connection.execute("SET statement_timeout = 0")
    return connection


def _names(columns: Sequence[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, columns))
