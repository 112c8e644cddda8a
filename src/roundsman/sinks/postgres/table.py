"""The table: it is created and checked when the sink is opened, and rows are inserted or updated by (source, id)."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple

import psycopg

from roundsman.errors import Conflict, RequestFailed, StoreError
from roundsman.sinks.postgres.link import Link, is_of_a_row, said
from roundsman.sinks.postgres.names import quoted
from roundsman.sinks.postgres.values import KEY, Kind, Part

CREATED: Mapping[Kind, str] = {
    "text": "text",
    "time": "timestamptz",
    "number": "bigint",
    "json": "jsonb",
    "any": "text",
}
"""The types of columns of a table that the sink creates."""
STATEMENT = 8 * 2**20
"""Characters of values in one statement, about: an array of PostgreSQL ends at 1 GB."""
JSON = frozenset({"json", "jsonb"})
_NUMBERS = frozenset({"int8", "numeric"})

_FOUND = "SELECT c.oid::bigint, n.nspname, c.relkind::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = to_regclass($1)"
# Of a domain, what counts is the type below it. format_type with -1 names the type without its length: a cast to
# varchar(5) would cut a text without an error.
_COLUMNS = (
    "SELECT a.attname::text, format_type(a.atttypid, -1), coalesce(b.typname, t.typname)::text, t.typcategory::text, "
    "a.attnotnull AND NOT a.atthasdef AND a.attidentity = '', a.attgenerated != '' OR a.attidentity = 'a' "
    "FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid LEFT JOIN pg_type b ON b.oid = t.typbasetype "
    "WHERE a.attrelid = $1::bigint::oid AND a.attnum > 0 AND NOT a.attisdropped"
)
_UNIQUE = (
    "SELECT array(SELECT a.attname::text FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k (n, place) "
    "JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.n WHERE k.place <= i.indnkeyatts) "
    "FROM pg_index i WHERE i.indrelid = $1::bigint::oid AND i.indisunique AND i.indimmediate AND i.indisvalid "
    "AND i.indpred IS NULL AND i.indexprs IS NULL"
)


class Column(NamedTuple):
    """A column of the table that is there."""

    type: str
    """As it is written in SQL, without a length."""
    base: str
    """The short name of the type, or of the type below a domain."""
    category: str
    required: bool
    """Whether a row must give it a value."""
    computed: bool
    """Whether only the server gives it a value."""


Row = tuple[str | None, ...]
Finish = Callable[[Mapping[int, str]], Awaitable[None]]
"""Takes the rows that were refused, by their place, and why; called at the end of a transaction, before its commit."""


class Table:
    """A table that fits the columns of the sink."""

    def __init__(self, name: Sequence[str], parts: Mapping[str, Part], found: Mapping[str, Column]) -> None:
        self.is_new = False
        """Whether it was created when it was opened."""
        self._json = [found[column].base in JSON for column in parts]
        key = [column for column, part in parts.items() if part.name in KEY]
        others = [quoted(column) for column in parts if column not in key]
        numbers = range(1, len(parts) + 1)
        arrays = ", ".join(f"${n}::text[]" for n in numbers)
        values = ", ".join(
            f"r.v{n}{_cast(part, found[column])}" for n, (column, part) in enumerate(parts.items(), 1)
        )
        updates = ", ".join(f"{column} = EXCLUDED.{column}" for column in others)
        self._insert = (
            f"INSERT INTO {quoted(*name)} ({', '.join(map(quoted, parts))}) SELECT {values} "  # noqa: S608 - quoted names
            f"FROM unnest({arrays}) AS r ({', '.join(f'v{n}' for n in numbers)}) "
            f"ON CONFLICT ({', '.join(map(quoted, key))}) DO "
            + (f"UPDATE SET {updates}" if updates else "NOTHING")
        )

    @property
    def json(self) -> Sequence[bool]:
        """Whether each column is json or jsonb."""
        return self._json

    @classmethod
    async def open(
        cls, link: Link, name: Sequence[str], parts: Mapping[str, Part], *, create: bool
    ) -> "Table":
        """The table, which is created if it is missing and `create` is set. RequestFailed with all that does not fit."""
        row = await link.run(_FOUND, (quoted(*name),))
        is_new = not row
        if not row and create:
            columns = [f"{quoted(column)} {CREATED[part.kind]}" for column, part in parts.items()]
            key = [
                next(quoted(column) for column, part in parts.items() if part.name == each) for each in KEY
            ]
            columns.append(f"PRIMARY KEY ({', '.join(key)})")
            await link.run(f"CREATE TABLE IF NOT EXISTS {quoted(*name)} ({', '.join(columns)})")
            row = await link.run(_FOUND, (quoted(*name),))
        shown = ".".join(name)
        if not row:
            raise RequestFailed(f"there is no table {shown}: create it, or set create = true")
        [(oid, schema, kind)] = row
        if kind not in "rp":
            raise RequestFailed(f"{shown} is not a table: a view or a foreign table cannot be updated by key")
        found = {each[0]: Column(*each[1:]) for each in await link.run(_COLUMNS, (oid,))}
        wrong = [*_mistakes(parts, found)]
        key_columns = {column for column, part in parts.items() if part.name in KEY}
        if not wrong and not any(set(key[0]) == key_columns for key in await link.run(_UNIQUE, (oid,))):
            columns_of_key = ", ".join(column for column, part in parts.items() if part.name in KEY)
            wrong = [f"no primary key or unique index of it is on ({columns_of_key}): create one"]
        if wrong:
            raise RequestFailed(f"table {shown} does not fit: {'; '.join(wrong)}")
        table = cls((schema, name[-1]), parts, found)
        table.is_new = is_new
        return table

    async def write(self, link: Link, rows: Sequence[Row], finish: Finish | None = None) -> dict[int, str]:
        """Write rows, and what `finish` writes, in one transaction. Returns which of them the server refuses, by their place, and why: they are left out.

        No two rows have the same source and id.
        """
        refused: dict[int, str] = {}
        await link.begin()
        try:
            for places in _pieces(rows):
                await self._piece(link, rows, places, refused)
            if finish is not None:
                await finish(refused)
        except (psycopg.Error, Conflict, StoreError):
            if not link.closed:
                await link.run("ROLLBACK")
            raise
        await link.run("COMMIT")
        return refused

    async def insert(self, link: Link, rows: Sequence[Row]) -> None:
        """Insert or update rows. Also without any, the server checks the rights."""
        columns = zip(*rows, strict=True) if rows else [()] * len(self._json)
        await link.run(self._insert, [list(column) for column in columns])

    async def _piece(
        self, link: Link, rows: Sequence[Row], places: Sequence[int], refused: dict[int, str]
    ) -> None:
        """Write these rows; if one of them is refused, each half of them alone."""
        await link.run("SAVEPOINT piece")
        try:
            await self.insert(link, [rows[n] for n in places])
        except psycopg.Error as exc:
            if not is_of_a_row(exc):
                raise
            await link.run("ROLLBACK TO piece")
            await link.run("RELEASE piece")
            if len(places) == 1:
                refused[places[0]] = said(exc)
                return
            half = len(places) // 2
            await self._piece(link, rows, places[:half], refused)
            await self._piece(link, rows, places[half:], refused)
        else:
            await link.run("RELEASE piece")


def _cast(part: Part, column: Column) -> str:
    """How the text of a value becomes one of the column."""
    # A cast to a timestamp without a time zone would ignore the one of the text.
    is_time = part.kind == "time" and column.category == "D"
    return f"::timestamptz::{column.type}" if is_time else f"::{column.type}"


def _pieces(rows: Sequence[Row]) -> list[list[int]]:
    """The places of rows, in groups that are not too large for a statement."""
    pieces: list[list[int]] = []
    size = STATEMENT
    for place, row in enumerate(rows):
        size += sum(len(value) for value in row if value is not None)
        if size > STATEMENT:
            pieces.append([])
            size = 0
        pieces[-1].append(place)
    return pieces


def _mistakes(parts: Mapping[str, Part], found: Mapping[str, Column]) -> Any:
    """What does not fit, a sentence each."""
    for column, part in parts.items():
        if column not in found:
            yield f"it has no column {column}"
        elif wrong := _mistake(part.kind, found[column]):
            yield f"column {column} is {found[column].type}: {part.name} needs {wrong}"
    for column, there in found.items():
        if there.required and column not in parts:
            yield f"column {column} is NOT NULL without a default, and columns does not name it"


def _mistake(kind: Kind, column: Column) -> str | None:
    """What a column of this kind would have to be; None if it fits."""
    is_text = column.category == "S"
    if column.computed:
        return "a column that the server does not compute"
    match kind:
        case "text":
            return None if is_text or column.category == "E" else "text"
        case "time":
            return None if is_text or column.category == "D" else "timestamptz or text"
        case "number":
            return None if column.base in _NUMBERS else "bigint or numeric"
        case "json":
            return None if is_text or column.base in JSON else "jsonb, json or text"
        case _:
            return "jsonb or text" if column.category in "AC" else None
