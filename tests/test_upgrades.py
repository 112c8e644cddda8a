"""Stores of earlier versions: brought up to date, and gone on with as if nothing had been.

`stores/` has what the programs of those versions really wrote, watching the sandbox for some seconds: `.dump` of SQLite's shell, bodies as text.
"""

import gc
import json
import os
import random
import sqlite3
import subprocess
import sys
import textwrap
from contextlib import closing, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from sqlite_utils import Database
from structlog.testing import capture_logs

from budgets import CUTS
from conftest import need
from inside import done, seen, statuses
from power.disk import Disk, changes, library
from roundsman.engine.engine import Engine
from roundsman.sandbox.company import Company
from roundsman.sinks.file import FileSink
from roundsman.store import DAEMON, KEYS_KEPT, Filter, StoreError, restore
from roundsman.store.sqlite import files, schema as module
from roundsman.store.sqlite.migrations import migrations
from roundsman.store.sqlite.reader import Reader
from roundsman.store.sqlite.store import SqliteStore
from roundsman.system.files import Space, space
from roundsman.times import parse_time
from worlds import (
    START,
    ByHand,
    Straight,
    Time,
    an_event,
    event_logs,
    mailchimp_batches,
    parakey_batches,
    railz_pushes,
    web_of,
)

STORES = Path(__file__).parent / "stores"
SOURCES = {
    "front-doors": event_logs,
    "keys": parakey_batches,
    "newsletter": mailchimp_batches,
    "ledger": railz_pushes,
}


def all_of(store: Reader) -> list[str]:
    return [event.id for event, _ in seen(store.events(0, 10**9, 10**6, Filter()))]


def told(lines: list[bytes]) -> list[str]:
    """The ids; not of notices that what an earlier version followed is gone, for the vendor of these tests never had it."""
    return [e["id"] for e in map(json.loads, lines) if e["type"] != "roundsman.batch.gone"]


class Old:
    """A store as an earlier version left it, the file of its sink beside it."""

    def __init__(self, version: str, folder: Path) -> None:
        self.path = folder / "roundsman.db"
        with closing(sqlite3.connect(self.path)) as db:
            db.execute("PRAGMA page_size = 8192")
            db.execute("PRAGMA journal_mode = WAL")
            db.executescript((STORES / f"{version}.sql").read_text())
            self.names = [
                name
                for [name] in db.execute("SELECT name FROM sources WHERE type != 'roundsman' ORDER BY id")
            ]
            self.bodies = [body for [body] in db.execute("SELECT body FROM events ORDER BY seq")]
            [self.last] = db.execute("SELECT max(due) FROM sources").fetchone()
        self.file = folder / "events.jsonl"
        self.file.write_bytes(b"".join(body + b"\n" for body in self.bodies))

    def logs(self) -> list[dict[str, Any]]:
        """The vendor's own rows of event logs."""
        documents = [json.loads(body) for body in self.bodies]
        return [d["data"]["raw"] for d in documents if d["type"] == "co.parakey.event_log.created"]


@pytest.mark.parametrize("version", sorted(path.stem for path in STORES.glob("*.sql")))
async def test_a_store_that_an_earlier_version_wrote_is_gone_on_with(version: str, tmp_path: Path) -> None:
    """Its vendor still has the same rows, and a new one: that is reported, and nothing else again, neither in log nor file."""
    old = Old(version, tmp_path)
    assert "front-doors" in old.names
    time = Time(old.last + 1)
    company = Company(now=time.utc)
    for row in old.logs():
        created, happened = parse_time(row["createdAt"]), parse_time(row["timestamp"])
        rest = {k: v for k, v in row.items() if k not in {"id", "createdAt", "timestamp"}}
        company.parakey.add(log_id=row["id"], created=created, timestamp=happened, **rest)
    store = SqliteStore.open(old.path)
    engine = Engine(store, ByHand(), web_of(Straight(company.town), time), clock=time.clock())
    archive = FileSink(type="file", path=old.file).named("archive")
    await engine.setup({name: SOURCES[name](name) for name in old.names}, {"archive": archive})
    before = all_of(store)
    assert len(before) == len(old.bodies) > 15
    assert await engine.once()
    time.advance(61)
    new = company.parakey.add(note="new")
    assert await engine.once()
    time.advance(61)
    assert await engine.once()
    lines = old.file.read_bytes().splitlines()
    assert lines[: len(before)] == old.bodies
    assert told(lines) == [*before, new.id]
    assert [event["id"] for event in map(json.loads, lines)] == all_of(store)
    assert [fate.failing_since for fate in (await statuses(engine)).values()] == [None] * len(old.names)
    await store.close()


@pytest.mark.garbles
@pytest.mark.parametrize("before", sorted(module.STEPS.keys() - {"001_log"}))
def test_a_store_of_any_schema_is_brought_up_to_date(before: str, tmp_path: Path) -> None:
    """Written by the program that knew the migrations before this one; also where a source is named `daemon`."""
    path = tmp_path / "roundsman.db"
    old = Database(path)
    migrations.apply(old, stop_before=before)
    old.execute(
        "INSERT INTO sources (name, type, state) VALUES ('doors', 'parakey.event_logs', '{\"tag\":1}')"
    )
    if before == "004_own":
        old.execute("INSERT INTO sources (name, type) VALUES ('daemon', 'parakey.batches')")
    old.execute(
        "INSERT INTO events (source, id, type, logged, body) VALUES (1, 'a', 'co.x', 5.0, '{}'), (1, 'b', 'co.x', 6.0, '{}')"
    )
    old.execute("INSERT INTO sinks (name, type, cursor) VALUES ('archive', 'file', 1)")
    old.conn.commit()
    old.close()
    store = SqliteStore.open(path)
    done(store.register({"doors": "parakey.event_logs"}, {"archive": "file"}))
    assert seen(store.memory("doors")).state == {"tag": 1}
    assert seen(store.cursor("archive")) == (1, None)
    assert all_of(store) == ["a", "b"]
    assert done(store.append_notices(DAEMON, [an_event(1, DAEMON)], 7.0)) == 1
    names = [row.name for row in seen(store.sources())]
    assert names == (["daemon (a source)", "doors"] if before == "004_own" else ["doors"])
    while done(store.prune(["archive"], START + 2 * KEYS_KEPT, 60.0)):
        pass
    assert not done(store.shrink()), "an old file cannot be shrunk in steps, and is left alone"
    done(store.close())


@pytest.mark.garbles
def test_what_was_known_of_the_daemon_is_kept(tmp_path: Path) -> None:
    """Until 0.5 it stood in the row that the daemon's notices belong to."""
    path = tmp_path / "roundsman.db"
    old = Database(path)
    migrations.apply(old, stop_before="006_daemons")
    state = json.dumps({"config": "/x.toml", "digest": "d", "problems": ["p"]})
    old.execute(
        "UPDATE sources SET visited = 9, revision = 3, position = 7, state = ? WHERE name = ?",
        (state, DAEMON),
    )
    old.conn.commit()
    old.close()
    store = SqliteStore.open(path)
    assert seen(store.last_beat()) == 9
    assert seen(store.daemon()).reloads == 3
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT pruned FROM daemons").fetchall() == [(7,)]
        assert db.execute("SELECT state, revision FROM sources").fetchall() == [("{}", 0)]
    done(store.close())


# -- a copy from before ------------------------------------------------------------------------------------------------

VERSIONS = {"0.1": "002", "0.2": "003", "0.3": "004", "0.4": "005", "0.5": "006"}
"""Versions whose stores have rows that a migration rewrites, and the first one that they lack."""
DAY = 86400


def dump(path: Path) -> list[str]:
    """All that is in a store, as SQL."""
    with closing(sqlite3.connect(path)) as db:
        return list(db.iterdump())


def copy_of(path: Path) -> Path:
    """The one copy beside a store."""
    [copy] = path.parent.glob("*.before-*")
    return copy


def upgraded_at(path: Path) -> float:
    with closing(sqlite3.connect(path)) as db:
        [text] = db.execute("SELECT applied_at FROM _sqlite_migrations WHERE name = '006_daemons'").fetchone()
    return datetime.fromisoformat(text).timestamp()


def upgrade(path: Path, *, daemon: bool = True) -> list[str]:
    """Open the store and close it again. What is logged about it."""
    with capture_logs() as logs:
        done(SqliteStore.open(path, daemon=daemon).close())
    return [entry["event"] for entry in logs]


@pytest.mark.parametrize("version", sorted(path.stem for path in STORES.glob("*.sql")))
def test_a_store_whose_rows_are_rewritten_is_copied_before(version: str, tmp_path: Path) -> None:
    """The copy is as the older version left its store, and it can be put back; who only reads makes none."""
    path = Old(version, tmp_path).path
    before = dump(path)
    with suppress(StoreError):
        done(Reader.open(path).close())
    assert not list(tmp_path.glob("*.before-*"))
    with capture_logs() as logs:
        done(SqliteStore.open(path).close())
    if version not in VERSIONS:
        assert not list(tmp_path.glob("*.before-*"))
        assert logs == []
        return
    copy = copy_of(path)
    assert copy.name == f"roundsman.db.before-{VERSIONS[version]}"
    assert copy.stat().st_mode & 0o777 == 0o600
    assert dump(copy) == before != dump(path)
    assert [(entry["event"], entry["path"]) for entry in logs] == [("store.copied", str(copy))]
    restore(path, copy)
    assert dump(path) == before
    assert upgrade(path) == ["store.copied"]
    assert upgrade(path) == []


def test_every_migration_that_changes_rows_is_marked() -> None:
    """By what it says: those of tables that it creates itself are new."""
    changing = {
        name
        for name, statements in module.STEPS.items()
        if any(statement.lstrip().startswith(("UPDATE", "DELETE", "REPLACE")) for statement in statements)
    }
    assert changing == module.REWRITING


def test_a_store_without_rows_is_not_copied(tmp_path: Path) -> None:
    old = Database(tmp_path / "roundsman.db")
    migrations.apply(old, stop_before="006_daemons")
    old.close()
    assert upgrade(tmp_path / "roundsman.db") == []
    assert upgrade(tmp_path / "new.db") == []
    assert not list(tmp_path.glob("*.before-*"))


def test_a_command_that_writes_makes_a_copy_too(tmp_path: Path) -> None:
    path = Old("0.5", tmp_path).path
    assert upgrade(path, daemon=False) == ["store.copied"]
    assert upgrade(path) == []
    assert copy_of(path).exists()


def test_a_command_does_not_upgrade_the_store_under_a_daemon_of_the_older_version(tmp_path: Path) -> None:
    path = Old("0.4", tmp_path).path
    before = dump(path)
    lock = files.claim_file(path)
    with pytest.raises(
        StoreError, match=rf"is in use by an older roundsman \(roundsman, pid {os.getpid()}, .*\): restart it"
    ):
        SqliteStore.open(path, daemon=False)
    os.close(lock)
    gc.collect()
    assert dump(path) == before
    assert upgrade(path, daemon=False) == ["store.copied"]


def test_an_upgrade_that_fails_leaves_the_old_store_and_one_copy_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All migrations are one transaction. The next try makes no second copy, unless the older version wrote meanwhile."""
    path = Old("0.3", tmp_path).path
    before = dump(path)
    with monkeypatch.context() as patched:
        patched.setitem(module.STEPS, "006_daemons", ("CREATE TABLE daemons (id)", "SELECT no_such_column"))  # type: ignore[arg-type]
        for _ in range(2):
            with pytest.raises(StoreError, match="no such column"):
                SqliteStore.open(path)
            gc.collect()
            assert dump(path) == before == dump(copy_of(path))
            assert len({copy_of(path).stat().st_ino}) == 1
    made = copy_of(path).stat().st_ino
    assert upgrade(path) == []
    assert copy_of(path).stat().st_ino == made
    restore(path, copy_of(path))
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE sources SET polls = polls + 1")
    before = dump(path)
    assert upgrade(path) == ["store.copied"]
    assert dump(copy_of(path)) == before


@pytest.mark.parametrize("step", range(1, 4))
@pytest.mark.parametrize("call", ["replace", "unlink", "fsync", "utime"])
def test_an_upgrade_that_is_cut_off_while_it_copies_is_gone_on_with(
    call: str, step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Old("0.5", tmp_path).path
    before = dump(path)

    class Died(BaseException):
        pass

    real, calls = getattr(os, call), 0

    def dies(*args: Any, **more: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == step:
            raise Died
        return real(*args, **more)

    with monkeypatch.context() as patched, suppress(Died):
        patched.setattr(os, call, dies)
        done(SqliteStore.open(path).close())
    gc.collect()
    assert all(dump(copy) == before for copy in tmp_path.glob("*.before-006"))
    upgrade(path)
    assert sorted(each.name for each in tmp_path.glob("*.before-*")) == ["roundsman.db.before-006"]
    assert dump(copy_of(path)) == before
    done(Reader.open(path).close())


RECORDED = """
    import os, sqlite3, sys
    from contextlib import closing
    from pathlib import Path
    from roundsman.store.sqlite.store import SqliteStore
    from roundsman.system.files import sync_folder
    path, old, log = map(Path, sys.argv[1:])
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.executescript(old.read_text())
    sync_folder(path.parent)  # that was long ago
    print(log.stat().st_size)
    SqliteStore.open(path)
    print("upgraded", flush=True)
    os._exit(0)
"""
"""A store of an earlier version, and its upgrade."""


def test_a_power_cut_at_any_moment_of_an_upgrade_leaves_the_old_store_or_the_new_one_and_the_copy(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    recorder = library(tmp_path_factory.mktemp("recorder"))
    need(recorder is not None, "needs a C compiler: apt install gcc libc6-dev")
    seed = random.randrange(2**32)
    print(f"seed {seed}")  # shown where it fails
    chance = random.Random(seed)
    (root := tmp_path / "root").mkdir()
    path, log = root / "roundsman.db", tmp_path / "disk.log"
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(RECORDED), str(path), str(STORES / "0.3.sql"), str(log)],
        env={**os.environ, "LD_PRELOAD": str(recorder), "DISK_ROOT": str(root), "DISK_LOG": str(log)},
        stdout=subprocess.PIPE,
        check=True,
    )
    begun, *logged, upgraded = ran.stdout.split()
    assert b"store.copied" in b" ".join(logged)
    assert upgraded == b"upgraded"
    before = dump(copy_of(path))
    found = changes(log)
    first = sum(change.end <= int(begun) for change in found)
    cuts = min(CUTS, len(found) - first)
    disk, at = Disk(root), 0
    for number, moment in enumerate(sorted(chance.sample(range(first, len(found)), cuts))):
        while at <= moment:
            disk.play(found[at])
            at += 1
        (left := tmp_path / f"cut{number}").mkdir()
        for name, body in disk.after_a_cut(chance if number % 2 else None):
            (left / name).write_bytes(body)
        store = left / "roundsman.db"
        if "CREATE TABLE daemons" in "".join(dump(store)):
            assert dump(copy_of(store)) == before
        else:
            assert dump(store) == before
        assert upgrade(store) in ([], ["store.copied"])
        assert dump(copy_of(store)) == before
        assert not list(left.glob("*.part"))


def test_without_space_for_a_copy_the_upgrade_goes_on_and_says_so(small_disk: Path) -> None:
    path = Old("0.5", small_disk).path
    with capture_logs() as logs:
        done(SqliteStore.open(path).close())
    assert [(entry["event"], entry["log_level"]) for entry in logs] == [("store.uncopied", "warning")]
    assert not list(small_disk.glob("*.before-*"))
    done(Reader.open(path).close())


def test_a_disk_that_is_full_before_the_copy_is_complete_keeps_nothing_of_it(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Old("0.5", small_disk).path
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE events SET body = zeroblob(500000) WHERE seq = 1")
        before = db.execute("SELECT count(*) FROM events").fetchone()
    (small_disk / "theirs").write_bytes(bytes(space(small_disk).free - 300_000))
    monkeypatch.setattr(files, "space", lambda path: Space(10**12, 10**12))  # as it was a moment ago
    assert upgrade(path) == ["store.uncopied"]
    assert not list(small_disk.glob("*.before-*"))
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT count(*) FROM events").fetchone() == before


def test_a_copy_that_takes_too_long_keeps_no_service_from_starting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Old("0.5", tmp_path).path
    with closing(sqlite3.connect(path)) as db, db:
        numbers = "WITH RECURSIVE n(x) AS (VALUES (1) UNION ALL SELECT x + 1 FROM n WHERE x < 20000) SELECT x FROM n"
        db.execute(f"INSERT INTO events (source, id, type, logged) SELECT 1, x, 'x', 1 FROM ({numbers})")
    monkeypatch.setattr(files, "COPY_TIME", 0.0)
    with capture_logs() as logs:
        done(SqliteStore.open(path).close())
    assert [(entry["event"], entry["reason"]) for entry in logs] == [
        ("store.uncopied", "a copy takes more than 0s, or cannot be synced")
    ]
    assert not list(tmp_path.glob("*.before-*"))
    done(Reader.open(path).close())


async def test_the_copy_is_removed_a_day_after_the_upgrade(tmp_path: Path) -> None:
    """By the clock of the daemon, also if that starts again meanwhile; a copy of no migration that was made is left alone."""
    path = Old("0.5", tmp_path).path
    (tmp_path / "roundsman.db.before-999").write_text("of a newer version")
    for hours in (0, 23.9):
        store = SqliteStore.open(path)
        while await store.prune([], upgraded_at(path) + hours * 3600, 10.0**9):
            pass
        await store.close()
    copy = tmp_path / "roundsman.db.before-006"
    assert copy.exists()
    store = SqliteStore.open(path)
    with capture_logs() as logs:
        for _ in range(3):
            await store.prune([], upgraded_at(path) + DAY + 1, 10.0**9)
    assert [(entry["event"], entry["path"]) for entry in logs] == [("store.tidied", str(copy))]
    assert [each.name for each in tmp_path.glob("*.before-*")] == ["roundsman.db.before-999"]
    await store.close()
