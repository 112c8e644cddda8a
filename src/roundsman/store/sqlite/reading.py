"""What every read of the store is made of: one connection, SQLite's errors in sentences, and a row as an event."""

import sqlite3
import time
from collections.abc import Callable, Coroutine, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from roundsman.store.sqlite.files import translated

LOOK = 10_000
"""Instructions of SQLite between two looks at the time: some 0.2 ms."""
EVENT = "SELECT e.seq, s.name, e.id, e.type, e.outcome, e.body, e.logged FROM events e JOIN sources s ON s.id = e.source"

P = ParamSpec("P")
T = TypeVar("T")
S = TypeVar("S", bound="Reading")


def reading(method: Callable[Concatenate[S, P], T]) -> Callable[Concatenate[S, P], Coroutine[Any, Any, T]]:
    """Makes a method awaitable, and SQLite's errors a StoreError. A read never waits: WAL has no lock for it."""

    @wraps(method)
    async def wrapped(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        with translated(self.path):
            return method(self, *args, **kwargs)

    return wrapped


class Reading:
    """A connection that reads the store."""

    def __init__(self, path: Path, db: sqlite3.Connection) -> None:
        self.path = path
        self._db = db

    def end_at(self, when: float) -> None:
        """Interrupt a statement that runs at this time (monotonic), and every later one that is not short."""
        self._db.set_progress_handler(lambda: time.monotonic() > when, LOOK)

    @property
    def place(self) -> Path:
        """The file."""
        return self.path

    def _run(self, sql: str, values: Sequence[object] = ()) -> sqlite3.Cursor:
        return self._db.execute(sql, values)

    def _head(self) -> int:
        """The last event's `seq`; 0 for an empty log."""
        return int(self._run("SELECT coalesce(max(seq), 0) FROM events").fetchone()[0])
