"""What a store's methods are made of: reads on one connection, and units for the writer on another."""

import sqlite3
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from roundsman.store.sqlite.reader import Reader
from roundsman.store.sqlite.writer import Writer
from roundsman.store.tail import Tail

P = ParamSpec("P")
T = TypeVar("T")
S = TypeVar("S", bound="Units")


class Units(Reader):
    """A store that can be written."""

    def __init__(self, path: Any, db: sqlite3.Connection, writer: Writer) -> None:
        super().__init__(path, db)
        self._writer = writer
        self._tail = Tail()

    def _do(self, sql: str, values: Sequence[object] | Mapping[str, object] = ()) -> sqlite3.Cursor:
        """Run a statement of a unit, on the writer's connection."""
        return self._writer.conn.execute(sql, values)

    def _do_many(self, sql: str, rows: Iterable[Sequence[object] | Mapping[str, object]]) -> int:
        """Run a statement of a unit for each row. Returns the number of changed rows."""
        return self._writer.conn.executemany(sql, rows).rowcount


def durable(method: Callable[Concatenate[S, P], T]) -> Callable[Concatenate[S, P], Coroutine[Any, Any, T]]:
    """Makes a method one unit. Once it returns, its change survives a power cut."""
    return _unit(method, durable=True)


def relaxed(method: Callable[Concatenate[S, P], T]) -> Callable[Concatenate[S, P], Coroutine[Any, Any, T]]:
    """Makes a method one unit. Its change survives the end of the process at once, and a power cut after `sync`."""
    return _unit(method, durable=False)


def _unit(
    method: Callable[Concatenate[S, P], T], *, durable: bool
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, T]]:
    @wraps(method)
    async def wrapped(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._writer.write(lambda: method(self, *args, **kwargs), durable=durable)

    return wrapped
