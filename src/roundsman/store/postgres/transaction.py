"""One transaction: the statements of its units, and its end, in which its events get their numbers."""

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, LiteralString, NamedTuple

import psycopg
from psycopg import generators, pq
from psycopg.abc import PQGen
from psycopg.pq.abc import PGconn, PGresult

from roundsman.events import Event
from roundsman.store.postgres.arrays import (
    ARRAYS,
    BODY,
    COLUMNS,
    INT8,
    Fields,
    columns,
    fields_of,
    joined,
    long,
)
from roundsman.store.values import Via

_FIELDS = b"source, id, type, outcome, logged, stamp, body, failure, via"
_ROWS = b"unnest($2, $3, $4, $5, $6, $7, $8, $9, $10) WITH ORDINALITY AS n (" + _FIELDS + b", place)"
_NUMBERED = (
    b"head AS (UPDATE log_head SET seq = seq + $1 RETURNING seq), put AS (INSERT INTO events (seq, "
    + _FIELDS
    + b") SELECT head.seq - $1 + n.place, "
    + b", ".join(b"n." + each for each in _FIELDS.split(b", "))
    + b" FROM head, "
)
_INSERT = b"WITH " + _NUMBERED + _ROWS + b") SELECT seq FROM head"
_STAGE = b"INSERT INTO staged (place, " + _FIELDS + b") SELECT $1 + n.place, " + _FIELDS + b" FROM " + _ROWS
# A transaction sees only its own rows there: they are deleted before it ends.
_INSERT_STAGED = b"WITH n AS (DELETE FROM staged RETURNING *), " + _NUMBERED + b"n) SELECT seq FROM head"
_COUNT = b"UPDATE store SET commands = commands + 1"
_TYPES = (INT8, *(ARRAYS[kind] for kind in COLUMNS))
WHOLE_BYTES = 32 * 2**20
"""About how many bytes of rows one statement has at most."""


_BEGIN: LiteralString = "SAVEPOINT unit"
_END: LiteralString = "RELEASE unit"


class Command(NamedTuple):
    """A statement with its values in binary form."""

    sql: bytes
    values: Sequence[bytes] = ()
    types: Sequence[int] = ()


class Appended:
    """New events of a unit. Their numbers are known after the commit."""

    def __init__(self, transaction: "Transaction", source: int, events: list[Event], upto: int) -> None:
        self.source, self.events = source, events
        self.ring = 0
        """The number of the ring that was stored with them; 0 if none was."""
        self._transaction, self._upto = transaction, upto

    @property
    def last(self) -> int:
        """The number of the last one; 0 if it is not known, because the connection ended in the commit."""
        base = self._transaction.base
        return base + self._upto if base is not None else 0


class Transaction:
    """What a unit writes with."""

    def __init__(self, connection: psycopg.AsyncConnection[Any], *, counts: bool = False) -> None:
        """`counts`: whether it is one of a command, which the daemon notices by their number."""
        self._connection, self._counts = connection, counts
        self._pieces: list[list[Fields] | Sequence[bytes]] = []
        """Events to insert: rows, or the columns of rows."""
        self._sizes: list[int] = []
        self.base: int | None = None
        """The number before the first event, once it is known."""
        self.changed = 0
        """Rows that were written, about."""
        self._pending: list[LiteralString] = []
        """What is sent with the next statement."""

    async def run(self, sql: str, values: Sequence[object] = ()) -> psycopg.AsyncCursor[Any]:
        """Run a statement. A percent sign in it is written twice."""
        connection = self._connection
        if self._pending:
            pending, self._pending = self._pending, []
            async with connection.pipeline():
                for each in pending:
                    await connection.execute(each, prepare=False)
                done = await connection.execute(sql, tuple(values), binary=True)
        else:
            done = await connection.execute(sql, tuple(values), binary=True)
        self.changed += max(0, done.rowcount)
        return done

    async def run_many(self, sql: str, rows: Iterable[Sequence[object]]) -> int:
        """Run a statement for each row. Returns the number of changed rows."""
        given = list(rows)
        if not given:
            return 0
        while self._pending:
            await self._connection.execute(self._pending.pop(0), prepare=False)
        cursor = self._connection.cursor()
        await cursor.executemany(sql, given)
        self.changed += cursor.rowcount
        return cursor.rowcount

    def append(self, source: int, events: Sequence[Event], now: float, via: Via) -> None:
        """Events to insert at the end of the transaction."""
        if events:
            self._pieces.append([fields_of(source, event, now, via) for event in events])
            self._sizes.append(len(events))
            self.changed += len(events)

    def seal(self) -> None:
        """Make the last piece ready to be sent: of a large unit, not all of them at once."""
        if self._pieces and isinstance(self._pieces[-1], list):
            self._pieces[-1] = tuple(columns(self._pieces[-1]))

    def appended(self, source: int, events: list[Event]) -> Appended:
        """These events of a source were the last to be appended."""
        return Appended(self, source, events, sum(self._sizes))

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """What is written within is undone if it raises. The savepoint is sent with the first statement."""
        mark = len(self._pieces)
        self._pending.append(_BEGIN)
        try:
            yield
        except BaseException:
            del self._pieces[mark:], self._sizes[mark:]
            if _BEGIN in self._pending:
                self._pending.remove(_BEGIN)
            elif not self._connection.closed:
                await self._connection.execute(b"ROLLBACK TO unit; RELEASE unit", prepare=False)
            raise
        if _BEGIN in self._pending:
            self._pending.remove(_BEGIN)
        else:
            self._pending.append(_END)

    async def commit(self) -> None:
        """Number the events, insert them and commit.

        The numbers are locked by one statement, which the server begins once it has all of it: a process that is stopped
        while it sends events holds no lock that others wait for.
        """
        connection = self._connection
        total = sum(self._sizes)
        commands = [Command(_COUNT), Command(b"COMMIT")] if self._counts else [Command(b"COMMIT")]
        if total:
            chunks, done = list(self._chunks()), 0
            if len(chunks) == 1:
                commands.insert(0, Command(_INSERT, [long(total), *chunks[0][1]], _TYPES))
            else:
                for size, values in chunks:
                    stage = Command(_STAGE, [long(done), *values], _TYPES)
                    await connection.wait(_together(connection.pgconn, [stage]))
                    done += size
                commands.insert(0, Command(_INSERT_STAGED, [long(total)], [INT8]))
        first = await connection.wait(_together(connection.pgconn, commands))
        if total and first is not None:
            self.base = int(first) - total

    def _chunks(self) -> Iterator[tuple[int, Sequence[bytes]]]:
        """The pieces as columns, of about `WHOLE_BYTES` at most, each with its number of rows."""
        parts: list[tuple[int, Sequence[bytes]]] = []
        rows: list[Fields] = []
        volume = 0
        for piece, size in zip(self._pieces, self._sizes, strict=True):
            more = _volume(piece) if isinstance(piece, list) else len(piece[BODY])
            if volume and volume + more > WHOLE_BYTES:
                yield _one(parts, rows)
                parts, rows, volume = [], [], 0
            volume += more
            if isinstance(piece, list):
                rows += piece
                continue
            if rows:
                parts.append((len(rows), columns(rows)))
                rows = []
            parts.append((size, piece))
        yield _one(parts, rows)


def _one(parts: list[tuple[int, Sequence[bytes]]], rows: list[Fields]) -> tuple[int, Sequence[bytes]]:
    """Columns of all parts and then of the rows."""
    if rows:
        parts.append((len(rows), columns(rows)))
    return parts[0] if len(parts) == 1 else joined(parts)


def _volume(rows: Sequence[Fields]) -> int:
    return sum(len(row[BODY] or b"") for row in rows)


def _together(pgconn: PGconn, commands: Sequence[Command]) -> PQGen[bytes | None]:
    """Send commands in one go. Returns the first value of the first one; raises the first error."""
    pgconn.enter_pipeline_mode()
    for sql, values, types in commands:
        pgconn.send_query_params(sql, values, types, [pq.Format.BINARY] * len(values))
    pgconn.pipeline_sync()
    yield from generators.send(pgconn)
    found: list[list[PGresult]] = []
    while len(found) <= len(commands):
        found.append((yield from generators.fetch_many(pgconn)))
    pgconn.exit_pipeline_mode()
    for [result, *_] in found:
        if result.status == pq.ExecStatus.FATAL_ERROR:
            raise psycopg.errors.error_from_result(result)
    [first, *_] = found[0]
    return first.get_value(0, 0) if first.ntuples else None
