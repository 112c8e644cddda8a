"""Whether a store is sound: SQLite's own check, on a connection of its own, in a thread, given up where it holds others up."""

import sqlite3
from pathlib import Path

from roundsman.errors import StoreError
from roundsman.store.database import BESIDE, connect, translated

GROWN = 32 * 2**20
"""Bytes by which the -wal file may grow while the check reads: it keeps what is written meanwhile from being tidied away."""
LOOK_EVERY = 50_000
"""Steps of SQLite's machine between two looks at that."""


class GaveUp(Exception):
    """The check was not finished: it says nothing about the store."""


def check(path: Path) -> str | None:
    """What is damaged in the store, in a sentence; None where it is sound. Reads the whole file.

    GaveUp where the check would hold others up, or the store cannot be asked just now.
    """
    wal = path.with_name(path.name + BESIDE[0])

    def size() -> int:
        try:
            return wal.stat().st_size
        except OSError:
            return 0

    before = size()
    try:
        with translated(path):
            db = connect(path, readonly=True)
    except StoreError as exc:
        if "damaged" in str(exc):
            return str(exc)
        raise GaveUp from None
    try:
        db.conn.set_progress_handler(lambda: size() - before > GROWN, LOOK_EVERY)
        found = db.conn.execute("PRAGMA quick_check(1)").fetchone()[0]
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
    return f"{path} is damaged: restore it from a backup (roundsman restore), or move it away to start anew"
