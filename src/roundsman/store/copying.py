"""Copies a store into another one, of any kind: table by table, to be continued after an interruption, and compared."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec

from roundsman.errors import StoreError
from roundsman.store.place import Place

Row = Sequence[Any]
Report = Callable[[str, int], None]
"""Called with the name of a table, and how many of its rows are copied."""
ROWS, ROW_BYTES = 2000, 8 * 2**20
"""Maximum rows, and approximate bytes of them, that are copied in one transaction."""


class Table(NamedTuple):
    """A table that all kinds of stores have, with the same columns."""

    name: str
    key: tuple[str, ...]
    """The columns by which it is ordered."""
    columns: tuple[str, ...]


def _table(name: str, key: str, columns: str) -> Table:
    return Table(name, tuple(key.split()), tuple(columns.split()))


EVENTS = _table("events", "seq", "seq source id type outcome logged stamp body failure via")
TABLES = (
    _table(
        "sources",
        "id",
        "id name type state revision due visited answered changed polls failures unanswered failing error position heard "
        "calls refused refusal held options origin moved paused paused_by",
    ),
    _table(
        "sinks",
        "name",
        "name type cursor receipt delivered failures failing error reached paused paused_by until held",
    ),
    EVENTS,
    _table("dead", "sink seq", "sink seq buried reason retry"),
    _table("inbox", "n", "n source id"),
    _table("unread", "n", "n source received why body"),
    _table("acts", "n", "n seq at who done note about"),
    _table("source_counts", "span at source", "span at source counts"),
    _table("sink_counts", "span at sink", "span at sink counts"),
    _table(
        "daemons",
        "id",
        "id pid started beat version config digest reloads problems pruned ids_pruned",
    ),
)
"""All tables; the log is the only large one."""
NUMBERED = ("events", "inbox", "unread", "acts")
"""Tables whose numbers are never given out again, also after their rows are deleted."""


class Tables(Protocol):
    """The rows of a store as they are."""

    @property
    def place(self) -> Place: ...

    def copied_from(self) -> str | None:
        """Of which store it has a part; None if it is a whole one."""

    def is_empty(self) -> bool:
        """Whether nothing was stored in it yet."""

    def begin(self, origin: str) -> None:
        """It has a part of this store from now on."""

    def last(self) -> int:
        """The last number in the log; 0 without any."""

    def rows(self, table: Table, after: int = 0) -> Iterator[Row]:
        """The rows of a table in its order; of the log, those after a number."""

    def clear(self, table: Table) -> None:
        """Delete the rows of a table."""

    def put(self, table: Table, rows: Sequence[Row]) -> None:
        """Add rows, in one transaction."""

    def numbers(self) -> dict[str, int]:
        """The last number that was given out, by table of `NUMBERED`."""

    def finish(self, numbers: Mapping[str, int]) -> None:
        """It is a whole store from now on."""

    def close(self) -> None: ...


def copy(source: Tables, target: Tables, report: Report) -> int:
    """Copy all rows, and compare them. Returns the last number of the log.

    An interrupted copy is continued: of the log, only what is missing is copied. StoreError if the target has something
    else, or if the two differ at the end.
    """
    origin, part = str(source.place), target.copied_from()
    if source.copied_from() is not None:
        raise StoreError(f"{origin} is a copy that is not complete: continue that one first")
    if part is None and not target.is_empty():
        raise StoreError(f"{target.place} has a store already: name an empty one")
    if part not in {None, origin}:
        raise StoreError(f"{target.place} has a part of {part}, and not of {origin}: name an empty one")
    target.begin(origin)
    for table in TABLES:
        after = target.last() if table is EVENTS else 0
        if table is not EVENTS:
            target.clear(table)
        done = 0
        for some in _pieces(source.rows(table, after)):
            target.put(table, some)
            done += len(some)
            report(table.name, done)
    for table in TABLES:
        _compare(table, source, target)
    numbers = source.numbers()
    target.finish(numbers)
    return numbers["events"]


def completed(source: Tables, target: Tables) -> int | None:
    """The last number of the log if the target has all that the source has, as after a copy; else None."""
    head = source.last()
    if source.copied_from() or target.copied_from() or target.is_empty() or target.last() != head:
        return None
    same = all(_digest(source.rows(table)) == _digest(target.rows(table)) for table in TABLES)
    return source.numbers()["events"] if same else None


def _pieces(rows: Iterator[Row]) -> Iterator[list[Row]]:
    piece: list[Row] = []
    size = 0
    for row in rows:
        piece.append(row)
        size += sum(len(each) for each in row if isinstance(each, bytes | str))
        if len(piece) >= ROWS or size >= ROW_BYTES:
            yield piece
            piece, size = [], 0
    if piece:
        yield piece


def _compare(table: Table, source: Tables, target: Tables) -> None:
    """StoreError if the two tables differ, by the number of their rows and a digest of them."""
    was, now = (_digest(each.rows(table)) for each in (source, target))
    if was != now:
        raise StoreError(
            f"{target.place} differs from {source.place} in {table.name} ({now[0]} of {was[0]} rows, or another content): "
            "the copy is not used; copy into an empty store while no daemon runs"
        )


def _digest(rows: Iterator[Row]) -> tuple[int, bytes]:
    digest, count, encode = hashlib.sha256(), 0, msgspec.msgpack.Encoder().encode
    for row in rows:
        # PostgreSQL stores no NUL in a text.
        digest.update(
            encode([each.replace("\0", "\ufffd") if isinstance(each, str) else each for each in row])
        )
        count += 1
    return count, digest.digest()
