"""SQLite's own check of a store, on a connection of its own, in a thread; given up if it delays others."""

import sqlite3
import time
from pathlib import Path

from roundsman.errors import StoreError
from roundsman.store.sqlite.files import BESIDE, connect, translated

GROWN = 32 * 2**20
"""Bytes by which the -wal file may grow during the check: the check keeps it from being checkpointed."""
LOOK_EVERY = 50_000
"""Instructions of SQLite's virtual machine between two checks of that size."""


class GaveUp(Exception):
    """The check was not finished: whether the store is damaged is not known."""


def check(path: Path, seconds: float | None = None) -> str | None:
    """A sentence about the damage to the store; None if it is sound. Reads the whole file.

    GaveUp if the check would delay others, takes longer than `seconds`, or the store cannot be read at the moment.
    """
    wal = path.with_name(path.name + BESIDE[0])

    def size() -> int:
        try:
            return wal.stat().st_size
        except OSError:
            return 0

    before, end = size(), None if seconds is None else time.monotonic() + seconds
    try:
        with translated(path):
            db = connect(path, readonly=True)
    except StoreError as exc:
        if "damaged" in str(exc):
            return str(exc)
        raise GaveUp from None
    try:
        db.set_progress_handler(
            lambda: size() - before > GROWN or (end is not None and time.monotonic() > end), LOOK_EVERY
        )
        found = db.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.OperationalError as exc:
        if exc.sqlite_errorcode & 0xFF not in {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT}:
            raise GaveUp from None  # too little memory, too many open files
        found = "it cannot be read"
    except sqlite3.DatabaseError:
        found = "it cannot be read"
    finally:
        db.close()
    if found == "ok":
        return None
    return f"{path} is damaged: restore a backup (roundsman restore), or move it away to begin with an empty store"
