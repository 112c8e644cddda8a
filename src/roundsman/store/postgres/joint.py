"""The position of a sink, moved in the sink's own transaction, if that is in the database of the store."""

from collections.abc import Awaitable, Callable
from typing import Any

import psycopg

from roundsman.errors import Conflict, StoreError
from roundsman.store.joint import Step
from roundsman.store.postgres.arrays import clean
from roundsman.store.postgres.connection import IDLE
from roundsman.store.postgres.session import HERE, Session
from roundsman.store.postgres.transaction import Transaction

# The session's lock is in the memory of one server: no copy of the database has it, and no URL has to be compared.
_SCHEMA = (
    f"SELECT quote_ident(nspname) FROM pg_namespace n WHERE n.oid = %s::bigint::oid AND EXISTS (SELECT 1 FROM pg_locks WHERE {HERE} "  # noqa: S608 - fixed words
    "AND locktype = 'advisory' AND classid = n.oid AND objid = %s::bigint::oid AND objsubid = 2 AND granted) "
    "AND has_schema_privilege(n.oid, 'USAGE') AND (SELECT bool_and(has_table_privilege(c.oid, needed)) FROM pg_class c JOIN (VALUES "
    "('sinks', 'SELECT'), ('sinks', 'UPDATE'), ('workers', 'SELECT'), ('workers', 'UPDATE'), ('dead', 'SELECT'), ('dead', 'INSERT'), "
    "('dead', 'UPDATE'), ('dead', 'DELETE')) AS r (name, needed) ON c.relname = r.name WHERE c.relnamespace = n.oid)"
)
_MINE = "SELECT 1 FROM workers WHERE id = %s AND started = %s AND ended IS NULL"
_MOVE = (
    "UPDATE sinks SET delivered = %s, until = NULL, held = 0, cursor = %s, failures = 0, failing = NULL, error = NULL "
    "WHERE name = %s AND cursor = %s"
)
_BURY = (
    "INSERT INTO dead (sink, seq, buried, reason) VALUES (%s, %s, %s, %s) ON CONFLICT (sink, seq) DO UPDATE "
    "SET buried = excluded.buried, reason = excluded.reason, retry = 0"
)


class Joint:
    """The positions of sinks, for the transactions of sinks whose tables are in the database of the store."""

    def __init__(self, session: Session, writable: Callable[[], Awaitable[None]]) -> None:
        """`writable`: StoreError if the session cannot write."""
        self._session, self._writable = session, writable
        self._schema = ""
        """The schema of the store, as it is written in SQL."""

    async def is_here(self, connection: psycopg.AsyncConnection[Any]) -> bool:
        """Whether this connection, which is in no transaction, is one to the store, whose user may move positions.

        StoreError if that cannot be found out now.
        """
        # Without it, a session whose connection was just lost, or that has ended, would be taken for one elsewhere.
        await self._writable()
        session = self._session
        found = await connection.execute(_SCHEMA, (session.space % 2**32, session.number))
        row = await found.fetchone()
        if row is None:
            return False
        [self._schema] = row
        async with connection.transaction():
            await self._enter(connection)
            return (await (await connection.execute(_MINE, session.identity)).fetchone()) is not None

    async def _enter(self, connection: psycopg.AsyncConnection[Any]) -> None:
        """For the rest of the transaction, names are those of the tables of the store."""
        await connection.execute(
            "SELECT set_config('search_path', %s, true), set_config('idle_in_transaction_session_timeout', %s, true)",
            (f"{self._schema}, pg_temp", f"{IDLE:.0f}s"),
        )

    async def move(self, connection: psycopg.AsyncConnection[Any], step: Step, now: float) -> None:
        """Move a position in the transaction of this connection. The caller then commits it, or undoes it.

        `Conflict` if the position was moved meanwhile. StoreError if the right to write has ended.
        """
        await self._enter(connection)
        transaction = Transaction(connection)
        if step.retried is not None:
            sql = "DELETE FROM dead WHERE sink = %s AND seq = %s"
            done = await transaction.run(sql, (step.sink, step.retried))
        else:
            done = await transaction.run(_MOVE, (now, step.cursor, step.sink, step.was))
        if not done.rowcount:
            raise Conflict
        await transaction.run_many(_BURY, [(step.sink, seq, now, clean(why)) for seq, why in step.refused])
        # Last: who ends this session waits for this lock. A transaction of the writer does not.
        done = await transaction.run(f"{_MINE} FOR KEY SHARE", self._session.identity)
        if not done.rowcount:
            raise StoreError(self._session.why_ended)
