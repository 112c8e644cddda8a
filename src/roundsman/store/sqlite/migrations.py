"""Applies the migrations to a store. Only what writes a store imports this: sqlite_utils is slow to import."""

import sqlite3

from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

from roundsman.store.sqlite.schema import APPLIED, STEPS

migrations = Migrations(APPLIED[1])


def _add(name: str) -> None:
    def step(db: Database) -> None:
        for statement in STEPS[name]:
            db.execute(statement)

    migrations(name=name)(step)


for each in STEPS:
    _add(each)


def migrate(conn: sqlite3.Connection) -> None:
    """Bring the store up to date; each migration is one transaction."""
    migrations.apply(Database(conn, recursive_triggers=False, execute_plugins=False))
