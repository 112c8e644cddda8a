"""Applies the migrations to a store. Before one that rewrites rows, a copy of the store is made beside it.

Older versions can read the copy, and not the migrated store. Only what writes a store imports this: sqlite_utils is slow
to import.
"""

import glob
import sqlite3
from pathlib import Path

from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

from roundsman.errors import StoreError
from roundsman.store.sqlite.files import BESIDE, applied, copy_beside, holder, translated
from roundsman.store.sqlite.schema import APPLIED, REWRITING, STEPS
from roundsman.system.files import resolve

COPY_KEPT = 86400.0
"""Seconds after the migrations for which the copy is kept."""

migrations = Migrations(APPLIED[1])


def _add(name: str) -> None:
    def step(db: Database) -> None:
        for statement in STEPS[name]:
            db.execute(statement)

    migrations(name=name)(step)


for each in STEPS:
    _add(each)


def migrate(path: Path, conn: sqlite3.Connection, *, daemon: bool) -> None:
    """Bring the store up to date, in one transaction. StoreError if a newer version wrote it, or another program; for a
    command, also if a daemon that does not know the migrations is running on it.
    """
    if applied(path, conn) == STEPS.keys():
        return
    if not daemon and (who := holder(path)):
        raise StoreError(
            f"{path} is in use by an older roundsman ({who}): restart it first, which brings the store up to date"
        )
    # If nothing is left in the -wal file, a later change of the store also changes the time of its file.
    conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    with conn:
        conn.execute("BEGIN IMMEDIATE")  # no other process writes between the copy and the migrations
        done = applied(path, conn)
        missing = [name for name in STEPS if name not in done]
        if REWRITING.intersection(missing) and done and _has_rows(conn):
            _copy(resolve(path), missing[0])
        migrations.apply(Database(conn, recursive_triggers=False, execute_plugins=False))


def _has_rows(conn: sqlite3.Connection) -> bool:
    sql = (
        "SELECT EXISTS (SELECT 1 FROM events) OR EXISTS (SELECT 1 FROM sinks) "
        "OR EXISTS (SELECT 1 FROM sources WHERE type != 'roundsman')"
    )
    return bool(conn.execute(sql).fetchone()[0])


# -- copies ------------------------------------------------------------------------------------------------------------


def _copy(store: Path, step: str) -> None:
    """Copy the store, which lacks this migration and later ones. It has its name once it is complete and synced.

    Without space or time for it, the migrations go on: they are undone if they fail, the copy is only for going back to an
    older version, and a service that refuses to start would not receive webhooks until an operator acts.
    """
    from structlog import get_logger  # slow to import, and seldom needed

    copy = store.with_name(f"{store.name}.before-{step.partition('_')[0]}")
    if _is_current(copy, store):
        return
    if reason := copy_beside(store, copy):
        get_logger().warning("store.uncopied", path=str(store), reason=reason)
    else:
        get_logger().info("store.copied", path=str(copy), kept=COPY_KEPT)


def _is_current(copy: Path, store: Path) -> bool:
    """Whether the store is as it was when the copy was made: then the migrations were interrupted."""
    wal = store.with_name(store.name + BESIDE[0])
    try:
        same = copy.lstat().st_mtime_ns == store.stat().st_mtime_ns
    except FileNotFoundError:
        return False
    return same and not (wal.exists() and wal.stat().st_size)


def copies(path: Path) -> list[Path]:
    """The copies that migrations left beside the store."""
    store = resolve(path)
    return sorted(store.parent.glob(f"{glob.escape(store.name)}.before-[0-9][0-9][0-9]"))


def migrated(conn: sqlite3.Connection, copy: Path) -> float | None:
    """When the store was migrated of which this is the copy (Unix); None if it was not yet."""
    table, ours = APPLIED
    sql = f"SELECT strftime('%s', applied_at) FROM {table} WHERE migration_set = ? AND name GLOB ?"  # noqa: S608 - a fixed name
    row = conn.execute(sql, (ours, f"{copy.name.rpartition('-')[2]}_*")).fetchone()
    return float(row[0]) if row and row[0] else None


def remove(copy: Path) -> None:
    """Remove a copy. StoreError if that is not possible."""
    from structlog import get_logger

    with translated(copy):
        copy.unlink(missing_ok=True)
    get_logger().info("store.tidied", path=str(copy), reason="the store was upgraded a day ago")
