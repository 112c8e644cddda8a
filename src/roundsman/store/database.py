"""The SQLite file itself: opened, claimed by one daemon, put back from a backup; and SQLite's errors in plain words."""

import errno
import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from sqlite_utils import Database

from roundsman.files import make, refuse_links, sync_folder
from roundsman.store.schema import NAMES, migrations

BUSY = 1.0
"""Seconds to wait for another process's short write (`replay`, `rewind`, `dead`)."""


class StoreError(Exception):
    """The store cannot be used; the message is one sentence that says why and what to do."""


def restore(path: Path, backup: Path) -> int:
    """Put a backup in the place of the store, which nobody may be using; the last event's number. StoreError where that cannot be.

    What a crash left beside the old store goes with it: SQLite would play an old -wal file into the new store.
    """
    if path.exists() and path.samefile(backup):
        raise StoreError(f"{backup} is the store itself")
    with plain(path):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = claim_file(path)
        half = path.with_name(path.name + ".restoring")
        try:
            half.unlink(missing_ok=True)
            os.close(make(half, os.O_RDWR, 0o600)[0])
            head = _copy(backup, half)
            for left in ("-wal", "-shm"):
                path.with_name(path.name + left).unlink(missing_ok=True)
            half.replace(path)
            sync_folder(path.parent)
        finally:
            half.unlink(missing_ok=True)
            os.close(lock)
    return head


def _copy(backup: Path, target: Path) -> int:
    """The backup, with what may be in a -wal file beside it, read page by page: what is damaged does not get through."""
    try:
        copy = connect(backup, readonly=True)
        try:
            if not applied(backup, copy):
                raise StoreError(f"{backup} is empty")
            if copy.conn.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
                raise StoreError(f"{backup} is no backup: it is damaged")
            copy.conn.execute("VACUUM INTO ?", (str(target),))
            [head] = copy.conn.execute("SELECT coalesce(max(seq), 0) FROM events").fetchone()
        finally:
            copy.close()
    except sqlite3.DatabaseError as exc:
        name = getattr(exc, "sqlite_errorname", "") or ""
        if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
            raise StoreError(f"{backup} is no backup: it is damaged or not a SQLite file") from None
        raise
    with target.open("rb") as file:
        os.fsync(file.fileno())
    return int(head)


def connect(path: Path, *, readonly: bool = False) -> Database:
    uri = f"{path.absolute().as_uri()}?mode={'ro' if readonly else 'rw'}"
    conn = sqlite3.connect(uri, uri=True, timeout=BUSY)
    run = conn.execute
    if not readonly:
        run(
            "PRAGMA auto_vacuum = INCREMENTAL"
        )  # of a new store: what was forgotten can be given back in small steps
        run("PRAGMA page_size = 8192")  # with the long WAL below: half the cost of random keys, measured
        run("PRAGMA journal_mode = WAL")
        run("PRAGMA synchronous = FULL")
        run("PRAGMA wal_autocheckpoint = 4000")
        run("PRAGMA journal_size_limit = 67108864")
    run("PRAGMA cache_size = -16000")
    return Database(conn, recursive_triggers=False, execute_plugins=False)


def applied(path: Path, db: Database) -> set[str]:
    """What was applied to the file. StoreError where the file was written by a program that knew more migrations, or is not ours."""
    applied = {m.name for m in migrations.applied(db)}
    newer = sorted(applied - NAMES)
    if newer:
        raise StoreError(
            f"{path} was written by a newer roundsman (it has {newer[-1]}): upgrade, or use another store"
        )
    if not applied and db.table_names():
        raise StoreError(f"{path} is a SQLite file of something else: use another path for the store")
    return applied


def claim_file(path: Path) -> int:
    """Take the lock beside the store, or say who holds it. The kernel releases it however the holder ends."""
    refuse_links(beside := path.with_name(path.name + ".lock"))
    lock, _ = make(beside, os.O_RDWR, 0o600)
    ends = time.monotonic() + BUSY
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() < ends:  # somebody may only be looking who has it
                time.sleep(0.02)
                continue
            holder = os.pread(lock, 200, 0).decode(errors="replace").strip() or "another process"
            os.close(lock)
            raise StoreError(f"{path} is in use by {holder}: one daemon per store") from None
    os.ftruncate(lock, 0)
    started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    os.pwrite(lock, f"roundsman, pid {os.getpid()}, since {started}\n".encode(), 0)
    return lock


@contextmanager
def plain(path: Path) -> Iterator[None]:
    """SQLite's and the system's words in a sentence that says what to do."""
    try:
        yield
    except sqlite3.DatabaseError as exc:
        name = getattr(exc, "sqlite_errorname", "") or ""
        if "FULL" in name:
            raise StoreError(f"{path} cannot be written: the disk is full") from None
        if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
            raise StoreError(
                f"{path} is damaged or not a SQLite file: restore it from a backup, or move it away to start anew"
            ) from None
        if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")):
            raise StoreError(f"{path} cannot be written: it or its folder is read-only or missing") from None
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            raise StoreError(f"{path} is locked by another program for more than {BUSY:.0f}s") from None
        if name.startswith("SQLITE_IOERR"):
            raise StoreError(
                f"{path} cannot be read or written: the disk reports an error ({name})"
            ) from None
        if isinstance(exc, sqlite3.OperationalError):
            raise StoreError(f"{path} cannot be used: {exc}") from None
        raise
    except OSError as exc:
        hint = "; it is another user's, try sudo" if exc.errno == errno.EACCES and os.geteuid() else ""
        raise StoreError(f"{path} cannot be opened: {exc.strerror}{hint}") from None


def holder(path: Path) -> str | None:
    """Who runs on the store: `roundsman, pid 123, since ...`; None where nobody does."""
    with plain(path):
        try:
            lock = os.open(path.with_name(path.name + ".lock"), os.O_RDONLY | os.O_NOFOLLOW)
        except FileNotFoundError:
            return None
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.pread(lock, 200, 0).decode(errors="replace").strip()
    finally:
        os.close(lock)
    return None


def default_path(environ: Mapping[str, str] = os.environ) -> Path:
    """Where the store is without `[daemon] store`: systemd's state directory, else the user's."""
    if folder := environ.get("STATE_DIRECTORY"):
        return Path(folder.partition(":")[0]) / "roundsman.db"
    home = environ.get("XDG_STATE_HOME") or str(
        Path(environ.get("HOME", "~")).expanduser() / ".local" / "state"
    )
    return Path(home) / "roundsman" / "roundsman.db"
