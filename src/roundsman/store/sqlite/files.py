"""The SQLite file: opening, locking for one daemon, copying, restoring; and messages for SQLite's errors."""

import errno
import fcntl
import glob
import os
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from roundsman.errors import StoreError
from roundsman.store.place import LATE
from roundsman.store.sqlite.schema import APPLIED, STEPS
from roundsman.system.files import create, is_there, refuse_links, require_file, resolve, space, sync_folder

BUSY = 1.0
"""Seconds to wait for another process's short write (`replay`, `rewind`, `dead`)."""
SPARE = 64 * 2**20
"""Free bytes that a copy beside the store must leave."""
COPY_TIME = 30.0
"""Seconds after which such a copy is given up: systemd ends a service that takes 90 s to start."""
COPY_PIECE = 50_000
"""Instructions of SQLite's virtual machine, a few thousand rows, between two syncs of the copy."""
BESIDE = ("-wal", "-shm", "-journal")
"""Suffixes of the files that SQLite creates beside the store."""


def exists(path: Path) -> bool:
    """Whether there is a store. StoreError if its folder cannot be read."""
    with translated(path):
        return is_there(path)


def must_exist(path: Path) -> None:
    """StoreError if there is no store to read, or to make a change in."""
    if not exists(path):
        raise StoreError(f"there is no store at {path} yet: `roundsman run` or `roundsman once` creates it")


def restore(path: Path, backup: Path) -> int:
    """Replace the store with a backup; no process may be using it. Returns the last event's number.

    StoreError if that is not possible. The old store stays until the new one is complete. A -wal file that a
    crash left is first checkpointed into the old store: otherwise SQLite would apply it to the new one. A
    damaged old store is moved aside, with all its files.
    """
    with translated(path):
        path = resolve(path, 0o700)
        if is_there(path) and path.samefile(backup):
            raise StoreError(f"{backup} is the store itself: name a backup")
        lock = claim_file(path)
        try:
            with _half(path, ".restoring") as (half, handle):
                head = _copy(backup, half, handle)
                _make_room(path)
                half.replace(path)
                sync_folder(path.parent)
        finally:
            os.close(lock)
    return head


@contextmanager
def _half(path: Path, suffix: str) -> Iterator[tuple[Path, int]]:
    """An empty file to write before it takes the place of `path`, and its handle. It is removed if it does not."""
    half = path.with_name(path.name + suffix)
    half.unlink(missing_ok=True)
    try:
        handle, _ = create(half, os.O_RDWR, 0o600)
        try:
            yield half, handle
        finally:
            os.close(handle)
    finally:
        half.unlink(missing_ok=True)


@contextmanager
def backed_up(target: Path, *, replace: bool) -> Iterator[Path]:
    """The path of a file to write, which then takes the place of `target`. StoreError if that exists."""
    with translated(target):
        if is_there(target) and not target.is_file():
            raise StoreError(f"{target} is not a file")
        if is_there(target) and not replace:
            raise StoreError(f"{target} exists, and is not overwritten; use --force to overwrite it")
        half = target.absolute().with_name(f".{target.name}.{os.getpid()}.part")
        refuse_links(half)
        try:
            yield half
            half.replace(target)
            sync_folder(target.absolute().parent)
        finally:
            for each in half.parent.glob(f"{glob.escape(half.name)}*"):
                each.unlink()


def copy_beside(store: Path, copy: Path) -> str | None:
    """Copy the store to a file beside it. Why that is not possible; None if it was done.

    The copy's name stands for a complete file, and its time is that of the store's file.
    """
    changed = store.stat().st_mtime_ns
    reader = connect(store, readonly=True)
    try:
        with _half(copy, ".part") as (half, handle):
            copy.unlink(missing_ok=True)
            # Twice: what is going to be written needs as much space again, if it is every row.
            if space(store).free < 2 * _size(reader) + SPARE:
                return "the disk has no space for a copy"
            _limit(reader, handle)
            write_copy(reader, half, handle)
            os.utime(handle, ns=(changed, changed))
            half.replace(copy)
            sync_folder(copy.parent)
    except (sqlite3.OperationalError, OSError) as exc:
        if getattr(exc, "sqlite_errorcode", 0) == sqlite3.SQLITE_INTERRUPT:
            return f"a copy takes more than {COPY_TIME:.0f}s, or cannot be synced"
        if not lacks_space(exc):
            raise
        return "the disk has no space for a copy"
    finally:
        reader.close()
    return None


def _limit(db: sqlite3.Connection, handle: int) -> None:
    """Interrupt this connection's copy to a file after `COPY_TIME`."""
    ends = time.monotonic() + COPY_TIME

    def late() -> bool:
        os.fsync(handle)  # else the copy would only be in memory, and the last sync take all the time
        return time.monotonic() > ends

    db.set_progress_handler(late, COPY_PIECE)


def _size(db: sqlite3.Connection) -> int:
    """Bytes of the pages that are in use."""
    pages, free, size = (
        int(db.execute(f"PRAGMA {what}").fetchone()[0])
        for what in ("page_count", "freelist_count", "page_size")
    )
    return (pages - free) * size


def lacks_space(error: sqlite3.Error | OSError) -> bool:
    """Whether the disk, a quota or the limit of a file's size is reached. For SQLite, the last two are errors of writing."""
    if isinstance(error, OSError):
        return error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
    return getattr(error, "sqlite_errorcode", 0) in {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE}


def _make_room(path: Path) -> None:
    """Remove the files beside the old store, so that the new one can take its place in one step."""
    left = [path.with_name(path.name + end) for end in BESIDE]
    if is_there(path):
        try:
            old = connect(path)
            try:
                busy, *_ = old.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            finally:
                old.close()
            damaged = bool(busy)
        except (sqlite3.Error, OSError):
            damaged = True
        if damaged:
            for each in (*left, path):
                if is_there(each):
                    each.replace(each.with_name(each.name.replace(path.name, path.name + ".replaced", 1)))
            sync_folder(path.parent)
    for each in left:
        each.unlink(missing_ok=True)


def _copy(backup: Path, target: Path, handle: int) -> int:
    """Copy the backup and any -wal file beside it, page by page. StoreError if it is damaged.

    Returns the last event's number.
    """
    try:
        try:
            copy = connect(backup, readonly=True)
        except OSError as exc:
            raise StoreError(f"{backup} cannot be opened: {exc.strerror}") from None
        try:
            if not applied(backup, copy):
                raise StoreError(f"{backup} is no backup: it is empty")
            if copy.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
                raise StoreError(f"{backup} is no backup: it is damaged")
            write_copy(copy, target, handle)
            [head] = copy.execute("SELECT coalesce(max(seq), 0) FROM events").fetchone()
        finally:
            copy.close()
    except sqlite3.DatabaseError as exc:
        name = getattr(exc, "sqlite_errorname", "") or ""
        if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
            raise StoreError(f"{backup} is no backup: it is damaged or not a SQLite file") from None
        raise
    return int(head)


def write_copy(db: sqlite3.Connection, target: Path, handle: int) -> None:
    """Copy all data of `db` to a file that was just created, and sync it.

    SQLite opens the file again, by its name. The folder's owner may have replaced it meanwhile. So no file is
    created through a link (`mode=rw`), SQLite refuses a file that is not empty, and OSError is raised if it
    is not the created file. The worst possible result is a copy of the store in an empty file of another
    user.
    """
    try:
        db.execute("VACUUM INTO ?", (f"{target.absolute().as_uri()}?mode=rw",))
    except sqlite3.Error:
        # A connection that only reads leaves it behind on a full disk.
        target.with_name(target.name + "-journal").unlink(missing_ok=True)
        raise
    os.fsync(handle)
    if not os.path.samestat(os.fstat(handle), target.lstat()):
        raise OSError(errno.EBUSY, f"{target.name} was replaced while it was written")


def connect(path: Path, *, readonly: bool = False) -> sqlite3.Connection:
    """Open the SQLite file. OSError if one of its files is not regular, or a link that root does not follow.

    SQLite opens the files by name, so the folder's owner may still create a link between our check and that.
    SQLite reads the link's target, and does not change it unless it is a SQLite file. Beside the store,
    SQLite itself follows no link.
    """
    path = resolve(path)
    for each in (path, *(path.with_name(path.name + end) for end in BESIDE)):
        refuse_links(each)
        with suppress(FileNotFoundError):
            if not stat.S_ISREG(each.lstat().st_mode):  # opening a FIFO would block forever
                raise OSError(errno.EINVAL, f"{each.name} is not a file")
    if readonly and not os.access(path, os.R_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))  # SQLite's own message has no reason
    uri = f"{path.as_uri()}?mode={'ro' if readonly else 'rw'}"
    conn = sqlite3.connect(uri, uri=True, timeout=BUSY, check_same_thread=False)  # a commit runs in a thread
    try:
        _prepare(conn.execute, readonly=readonly)
    except BaseException:
        conn.close()
        raise
    return conn


def _prepare(run: Callable[[str], object], *, readonly: bool) -> None:
    """Set how this connection reads and writes."""
    if not readonly:
        run("PRAGMA auto_vacuum = INCREMENTAL")  # new stores: pruned pages are returned in small steps
        run("PRAGMA page_size = 8192")  # with the long WAL below, half the cost of random keys (measured)
        run("PRAGMA journal_mode = WAL")
        run("PRAGMA synchronous = FULL")
        run("PRAGMA wal_autocheckpoint = 4000")
        run("PRAGMA journal_size_limit = 67108864")
        run(
            "PRAGMA secure_delete = ON"
        )  # what is pruned or blanked is overwritten; Debian's SQLite does it by default
    run("PRAGMA cache_size = -4000")  # a larger one helps only if it holds the whole index of ids (measured)


def applied(path: Path, db: sqlite3.Connection) -> set[str]:
    """The migrations applied to the file. StoreError if a newer version wrote it, or another program."""
    table, ours = APPLIED
    tables = {name for [name] in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    applied: set[str] = set()
    if table in tables:
        sql = f"SELECT name FROM {table} WHERE migration_set = ?"  # noqa: S608 - a fixed name
        applied = {name for [name] in db.execute(sql, (ours,))}
    newer = sorted(applied - STEPS.keys())
    if newer:
        raise StoreError(
            f"{path} was written by a newer roundsman (it has {newer[-1]}): upgrade, or use another store"
        )
    # An interrupted first start leaves an empty list of migrations: such a file is ours to continue with.
    if not applied and tables - {table}:
        raise StoreError(f"{path} is a SQLite file of something else: use another path for the store")
    return applied


def lock_of(path: Path) -> Path:
    """The lock of a store, beside the resolved file: else each link to it could have its own daemon."""
    path = resolve(path)
    refuse_links(lock := path.with_name(path.name + ".lock"))
    return lock


def claim_file(path: Path) -> int:
    """Take the lock beside the store, or raise StoreError. The kernel releases it however the holder ends."""
    lock, _ = create(lock_of(path), os.O_RDWR, 0o600)
    ends = time.monotonic() + BUSY
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() < ends:  # `holder` takes it for a moment in another process
                time.sleep(0.02)
                continue
            who = _written(lock)
            os.close(lock)
            raise StoreError(f"{path} is in use by {who}: one daemon per store") from None
    os.ftruncate(lock, 0)
    started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    os.pwrite(lock, f"roundsman, pid {os.getpid()}, since {started}\n".encode(), 0)
    return lock


def claim_inode(path: Path, handle: int) -> None:
    """Lock the store itself. StoreError if a daemon holds it by a hard link, which has its own lock file."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise StoreError(
            f"{path} is in use by a daemon under another name, a hard link: one daemon per store"
        ) from None


def open_wal(path: Path) -> int:
    """A handle of the -wal file, which exists once the store was read; else -1."""
    path = resolve(path)
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    with suppress(FileNotFoundError):
        return os.open(path.with_name(path.name + "-wal"), flags)
    return -1


def _written(lock: int) -> str:
    """What the holder wrote. The folder's owner may write anything there, so only printable text is kept."""
    text = os.pread(lock, 200, 0).decode("ascii", "ignore")
    return "".join(char for char in text if char.isprintable()).strip() or "another process"


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turns SQLite's and the system's errors into a StoreError with what to do."""
    try:
        yield
    except sqlite3.DatabaseError as exc:
        name = getattr(exc, "sqlite_errorname", "") or ""
        if "FULL" in name:
            raise StoreError(f"{path} cannot be written: the disk is full") from None
        if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
            raise StoreError(
                f"{path} is damaged or not a SQLite file: restore a backup (roundsman restore), or move it away to begin with an empty store"
            ) from None
        if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")):
            raise StoreError(
                f"{path} cannot be written: it or its folder is read-only or missing{_hint(path)}"
            ) from None
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            raise StoreError(f"{path} is locked by another program for more than {BUSY:.0f}s") from None
        if name == "SQLITE_INTERRUPT":
            raise StoreError(LATE.format(path)) from None
        if name.startswith("SQLITE_IOERR"):
            raise StoreError(
                f"{path} cannot be read or written: the disk reports an error ({name})"
            ) from None
        if isinstance(exc, sqlite3.OperationalError):
            raise StoreError(f"{path} cannot be used: {exc}") from None
        raise
    except OSError as exc:
        hint = _hint(path) if exc.errno == errno.EACCES else ""
        raise StoreError(f"{path} cannot be opened: {exc.strerror}{hint}") from None


def _hint(path: Path) -> str:
    """Advice if the store is another user's. PermissionError means that: its folder is usually private."""
    try:
        theirs = path.stat().st_uid != os.geteuid()
    except PermissionError:
        theirs = True
    except OSError:
        theirs = False
    return "; it belongs to another user: use sudo" if theirs and os.geteuid() else ""


def holder(path: Path) -> str | None:
    """The process that holds the store's lock: `roundsman, pid 123, since ...`; None if there is none."""
    with translated(path):
        try:
            lock = os.open(lock_of(path), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return None
        try:
            require_file(lock)
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _written(lock)
        finally:
            os.close(lock)
    return None


def holds(pid: int, path: Path) -> bool:
    """Whether this process has the store's lock open: a pid in the store may be of a daemon that was killed.

    A user namespace of its own, as systemd gives `ExecReload=`, hides other processes' files. Then the text in the
    lock decides.
    """
    try:
        lock = lock_of(path).stat()
        for each in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(FileNotFoundError):
                if os.path.samestat(each.stat(), lock):
                    return True
    except OSError:
        return f"pid {pid}," in (holder(path) or "")
    return False


def default_path() -> Path:
    """The path of the store without `[daemon] store`: in systemd's state directory, else in the user's."""
    if folder := os.environ.get("STATE_DIRECTORY"):
        return Path(folder.partition(":")[0]) / "roundsman.db"
    home = os.environ.get("XDG_STATE_HOME") or str(
        Path(os.environ.get("HOME", "~")).expanduser() / ".local" / "state"
    )
    return Path(home) / "roundsman" / "roundsman.db"
