"""The rows of a store in a file as they are, to copy it."""

import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from roundsman.errors import StoreError
from roundsman.store.copying import NUMBERED, Row, Table
from roundsman.store.sqlite.files import BESIDE, applied, claim_file, connect, must_exist, translated
from roundsman.store.sqlite.schema import STEPS
from roundsman.system.files import create, is_there, resolve, sync_folder

PART = ".copying"
"""Behind the name of a store: a copy that is not complete."""
MARK = "_copied_from"
"""The table in it that names the store of which it has a part."""


class FileTables:
    """The tables of a SQLite file."""

    def __init__(
        self, place: Path, db: sqlite3.Connection, *, part: Path | None = None, lock: int = -1
    ) -> None:
        """`part`: the file that is written, until it takes the place of the store."""
        self._place, self._db, self._part, self._lock = place, db, part, lock

    @classmethod
    def read(cls, path: Path) -> "FileTables":
        """An existing store, as it is now. StoreError if there is none, or if another version wrote it."""
        from roundsman.store.sqlite.reader import Reader

        must_exist(path)
        with translated(path):
            db = Reader.open(path)._db  # noqa: SLF001 - its checks are needed, and no method of it
            db.execute("BEGIN")
        return cls(path, db)

    @classmethod
    def write(cls, path: Path) -> "FileTables":
        """A new store, in a file beside it. StoreError if there is one already."""
        from roundsman.store.sqlite.migrations import migrate

        with translated(path):
            path = resolve(path, 0o700)
            if is_there(path):
                raise StoreError(f"{path} has a store already: name an empty one")
            lock = claim_file(path)
            part = path.with_name(path.name + PART)
            handle, _ = create(part, os.O_RDWR, 0o600)
            os.close(handle)
            db = connect(part)
            if STEPS.keys() - applied(part, db):
                migrate(part, db, daemon=False)
            db.isolation_level = None
            return cls(path, db, part=part, lock=lock)

    @property
    def place(self) -> Path:
        return self._place

    def copied_from(self) -> str | None:
        there = "SELECT 1 FROM sqlite_master WHERE name = ?"
        if self._db.execute(there, (MARK,)).fetchone() is None:
            return None
        return str(self._db.execute(f"SELECT origin FROM {MARK}").fetchone()[0])  # noqa: S608 - a fixed name

    def is_empty(self) -> bool:
        return not is_there(self._place)

    def begin(self, origin: str) -> None:
        with translated(self._place):
            if self.copied_from() is None:
                self._db.execute(f"CREATE TABLE {MARK} AS SELECT ? AS origin", (origin,))

    def last(self) -> int:
        with translated(self._place):
            return int(self._db.execute("SELECT coalesce(max(seq), 0) FROM events").fetchone()[0])

    def rows(self, table: Table, after: int = 0) -> Iterator[Row]:
        beyond = f" WHERE seq > {after:d}" if after else ""
        sql = f"SELECT {', '.join(table.columns)} FROM {table.name}{beyond} ORDER BY {', '.join(table.key)}"  # noqa: S608 - fixed names
        with translated(self._place):
            yield from self._db.execute(sql)

    def clear(self, table: Table) -> None:
        with translated(self._place):
            self._db.execute(f"DELETE FROM {table.name}")  # noqa: S608 - a fixed name

    def put(self, table: Table, rows: Sequence[Row]) -> None:
        marks = ", ".join("?" * len(table.columns))
        sql = f"INSERT INTO {table.name} ({', '.join(table.columns)}) VALUES ({marks})"  # noqa: S608 - fixed names
        with translated(self._place):
            self._db.execute("BEGIN")
            self._db.executemany(sql, rows)
            self._db.execute("COMMIT")

    def numbers(self) -> dict[str, int]:
        found = dict(self._db.execute("SELECT name, seq FROM sqlite_sequence"))
        return {name: int(found.get(name, 0)) for name in NUMBERED}

    def finish(self, numbers: Mapping[str, int]) -> None:
        assert self._part is not None
        with translated(self._place):
            run = self._db.execute
            run("BEGIN")
            for name, number in numbers.items():
                run("DELETE FROM sqlite_sequence WHERE name = ?", (name,))
                run("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (name, number))
            run(f"DROP TABLE {MARK}")
            run("COMMIT")
            run("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            self._db.close()
            for end in BESIDE:
                self._part.with_name(self._part.name + end).unlink(missing_ok=True)
            self._part.replace(self._place)
            sync_folder(self._place.parent)

    def close(self) -> None:
        self._db.close()
        if self._lock >= 0:
            os.close(self._lock)
