"""A store that is used for years: forgetting in small steps, giving room back, backups."""

import asyncio
import os
import shutil
import sqlite3
import subprocess
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest

from conftest import need
from doors import until
from inside import being_read, commit, done, locked, seen, sql, statements
from rounds import SCRIPTS, Scripted, running
from roundsman.engine.clock import Clock
from roundsman.engine.engine import BEAT, Engine
from roundsman.http.client import Http
from roundsman.http.transport import Clients
from roundsman.plugin import Poll, State, Visit
from roundsman.sandbox import Parakey
from roundsman.sinks.file import FileSink
from roundsman.store import KEYS_KEPT, Filter, StoreError, holder, restore
from roundsman.store.sqlite.files import write_copy
from roundsman.store.sqlite.reader import Reader
from roundsman.store.sqlite.store import SqliteStore
from worlds import START, ByHand, Straight, Time, an_event, web_of

LATE = START + 2 * KEYS_KEPT


def fill(store: SqliteStore, count: int, size: int = 1000, begin: int = 0) -> None:
    done(store.register({"doors": "parakey.event_logs"}, {"archive": "file"}))
    events = [
        msgspec.structs.replace(an_event(n, note="x" * size), stamp=START)
        for n in range(begin, begin + count)
    ]
    commit(store, "doors", {}, events, revision=seen(store.memory("doors")).revision)
    done(store.ack("archive", seen(store.cursor("archive"))[0], seen(store.head()), None, START))


def all_of(store: SqliteStore) -> list[str]:
    return [event.id for event, _ in seen(store.events(0, 10**9, 10**6, Filter()))]


# -- forgetting --------------------------------------------------------------------------------------------------------


def test_each_step_of_forgetting_is_small_and_the_next_goes_on(store: SqliteStore) -> None:
    fill(store, 1200, 10)
    for left in (1000, 800, 600):
        assert done(store.prune(["archive"], LATE, 60.0, limit=200))
        assert len(all_of(store)) == left, "no step looks at more than it was given"
    path = store.path
    done(store.close())
    again = SqliteStore.open(path)
    while done(again.prune(["archive"], LATE, 60.0, limit=200)):
        pass
    assert all_of(again) == [], "a restart does not begin anew, nor leave anything out"
    done(again.close())


async def test_what_is_kept_for_good_is_not_looked_at_without_end(store: SqliteStore) -> None:
    """A round ends also if it may prune nothing; `once` makes a few steps each time, and gets through all the same."""
    await store.register({"doors": "parakey.event_logs"}, {"archive": "file"})
    forever = [msgspec.structs.replace(an_event(n), stamp=None) for n in range(1000)]
    commit(store, "doors", {}, forever)
    fill(store, 100, 10, begin=1000)
    steps = 1
    while await store.prune(["archive"], LATE, 60.0, limit=100):
        steps += 1
    assert steps == 12
    assert all_of(store) == []
    assert await sql(store, "SELECT count(*) FROM events") == [(1100,)], (
        "nothing newer than their stamps came"
    )


async def test_each_step_of_forgetting_touches_few_bytes_and_is_not_slowed_by_what_is_buried(
    store: SqliteStore,
) -> None:
    fill(store, 100, 10**6)
    for seq in (3, 7, 50):
        await store.bury("archive", 100, seq, "no", START)
        await sql(store, "UPDATE sinks SET cursor = 100")
    steps = 1
    while await store.prune(["archive"], LATE, 60.0):
        steps += 1
    assert 15 < steps < 40
    assert len(all_of(store)) == 3
    plan = "EXPLAIN QUERY PLAN SELECT 1 FROM events WHERE NOT EXISTS (SELECT 1 FROM dead WHERE dead.seq = events.seq)"
    assert any("USING COVERING INDEX buried" in row[3] for row in await sql(store, plan))


async def test_nothing_is_forgotten_by_a_clock_that_has_just_jumped(
    store: SqliteStore, parakey: Parakey, time: Time
) -> None:
    """It may be wrong, and a person may see to it; once it is right again, or for a day, all is as ever."""
    engine = Engine(store, ByHand(), web_of(Straight(parakey), time), clock=time.clock())
    SCRIPTS["doors"] = None
    fill(store, 20)
    await engine.setup(
        {}, {"archive": FileSink(type="file", path=store.path.with_name("e.jsonl")).named("archive")}
    )
    ten_years = 3650 * 86400.0
    time.set_wall(ten_years)
    await engine.beat()
    await engine.upkeep.prune(list(engine.deliveries))
    assert await engine.once()
    time.set_wall(-ten_years)
    await engine.beat()
    time.advance(86401)
    await engine.upkeep.prune(list(engine.deliveries))
    assert len(all_of(store)) == 22, "and the two notices"
    time.set_wall(ten_years)
    await engine.beat()
    time.advance(86401)
    await engine.upkeep.prune(list(engine.deliveries))
    assert [each for each in all_of(store) if not each.startswith("daemon:")] == []


async def test_a_machine_whose_clock_is_right_after_each_jump_forgets_too(
    store: SqliteStore, parakey: Parakey, time: Time
) -> None:
    """One without a battery: each morning it begins in the past."""
    engine = Engine(store, ByHand(), web_of(Straight(parakey), time), clock=time.clock(), retention=5 * 86400)
    await engine.setup({}, {})
    for day in range(20):
        fill(store, 1, 10, begin=100 + day)
        await sql(store, "UPDATE events SET logged = ? WHERE logged = ?", (time.now(), START))
        time.set_wall(-50 * 365 * 86400.0)
        await engine.beat()
        time.set_wall(50 * 365 * 86400.0 + 86400)
        await engine.beat()
        await engine.upkeep.prune(list(engine.deliveries))
    assert 5 <= len([each for each in all_of(store) if not each.startswith("daemon:")]) <= 7


async def test_a_machine_that_is_never_up_for_an_hour_forgets_too(
    store: SqliteStore, parakey: Parakey, time: Time
) -> None:
    fill(store, 20)
    beating = asyncio.Event()

    async def sleep(seconds: float) -> None:
        if seconds == BEAT:
            await beating.wait()
            beating.clear()

    clock = Clock(time.now, lambda: time.ticks, sleep, lambda: 0.0)
    time.advance(LATE - START)
    engine = Engine(store, ByHand(), web_of(Straight(parakey), time), clock=clock)
    await engine.setup({}, {})
    async with running(engine):
        time.advance(600)
        beating.set()
        await until(lambda: not all_of(store))


async def test_visits_and_heartbeats_continue_while_much_is_pruned(
    store: SqliteStore, parakey: Parakey, time: Time
) -> None:
    """During a long round of pruning, a command is carried out and a visit made."""
    visits: list[float] = []

    async def visit(visit: Visit, state: State) -> Poll:
        visits.append(time.ticks)
        return Poll(state)

    SCRIPTS["a"] = visit
    fill(store, 5000, 10)
    beating, forgetting = asyncio.Event(), asyncio.Event()

    async def sleep(seconds: float) -> None:
        waits = beating if seconds == BEAT else forgetting
        await waits.wait()
        waits.clear()

    clock = Clock(time.now, lambda: time.ticks, sleep, lambda: 0.0)
    engine = Engine(store, ByHand(), web_of(Straight(parakey), time), clock=clock, retention=60.0)
    await engine.setup({"a": Scripted().named("a")}, {})
    async with running(engine):
        time.advance(LATE - START)
        beating.set()
        await until(lambda: len(all_of(store)) == 4500)  # one step, and then a pause that does not end
        command = SqliteStore.open(store.path, daemon=False)
        await command.rewind("a", {})
        await command.close()
        beating.set()
        await until(lambda: visits)
        assert len(all_of(store)) == 4500
        for _ in range(12):
            forgetting.set()
            await asyncio.sleep(0.01)
        await until(lambda: not all_of(store))


async def test_room_is_given_back_in_small_steps_and_never_by_a_vacuum(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(store, 3000, 8000)
    await store.checkpoint()
    large = store.path.stat().st_size
    with statements(store) as said:
        while await store.prune(["archive"], LATE, 60.0):
            pass
        steps = came = 0
        while await store.shrink():
            steps += 1
            if steps % 50 == 0:
                came += 1
                fill(store, 1, 10, begin=10_000 + steps)  # and events come meanwhile
        await store.checkpoint()
    assert came > 5
    assert store.path.stat().st_size < large / 2
    assert not [each for each in said if each.strip().upper().startswith("VACUUM")]
    assert await sql(store, "PRAGMA quick_check") == [("ok",)]
    assert len(all_of(store)) == came
    assert not await store.shrink(), "what is left free is for new events"


def test_the_wal_is_cut_and_no_write_waits_for_a_reader(store: SqliteStore) -> None:
    fill(store, 2000)
    wal = store.path.with_name(store.path.name + "-wal")
    assert wal.stat().st_size > 2**20
    with being_read(store):
        done(store.checkpoint())  # not now, and without waiting
        assert wal.stat().st_size > 2**20
    done(store.checkpoint())
    assert wal.stat().st_size == 0


# -- backups -----------------------------------------------------------------------------------------------------------


def test_a_backup_is_whole_while_others_write(store: SqliteStore, tmp_path: Path) -> None:
    fill(store, 2000)
    with locked(store, "UPDATE events SET type = 'half'"):
        reader = Reader.open(store.path)
        done(reader.backup(tmp_path / "copy.db"))
        done(reader.close())
    assert (tmp_path / "copy.db").stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in tmp_path.iterdir() if "copy" in path.name) == ["copy.db"]
    copy = Reader.open(tmp_path / "copy.db")
    assert seen(copy.head()) == 2000
    assert {e.type for e, _ in seen(copy.events(0, 9999, 9999, Filter()))} == {"co.parakey.event_log.created"}
    done(copy.close())


def test_a_backup_overwrites_only_with_force_and_leaves_the_old_one_where_it_fails(
    store: SqliteStore, tmp_path: Path
) -> None:
    target = tmp_path / "copy.db"
    target.write_text("precious")
    with pytest.raises(StoreError, match="exists, and is not overwritten; use --force to overwrite it"):
        done(store.backup(target))
    with pytest.raises(StoreError, match="folder is read-only or missing|cannot be opened"):
        done(store.backup(tmp_path / "nowhere" / "copy.db"))
    assert target.read_text() == "precious"
    done(store.backup(target, replace=True))
    assert target.read_bytes().startswith(b"SQLite format 3")


def test_a_backup_on_a_full_disk_says_so_and_leaves_nothing_behind(
    store: SqliteStore, small_disk: Path
) -> None:
    fill(store, 3000)
    reader = Reader.open(store.path)
    for view in (store, reader):
        with pytest.raises(StoreError, match="the disk is full"):
            done(view.backup(small_disk / "copy.db"))
        assert list(small_disk.iterdir()) == []
    done(reader.close())


def test_what_a_killed_backup_left_is_removed_by_the_next_one(store: SqliteStore, tmp_path: Path) -> None:
    """Also where each has the same number, as in a container. What another one is just writing is left to it."""
    fill(store, 10)
    (folder := tmp_path / "backups").mkdir()
    ended = subprocess.Popen(["true"])
    ended.wait()
    ours, theirs = f".copy.db.{os.getpid()}.part", f".copy.db.{os.getppid()}.part"
    for name in (f".copy.db.{ended.pid}.part", ours, theirs, f".other.db.{ended.pid}.part", ".copy.db.part"):
        (folder / name).write_bytes(b"half")
    done(store.backup(folder / "copy.db"))
    names = {path.name for path in folder.iterdir()}
    assert names == {theirs, f".other.db.{ended.pid}.part", ".copy.db.part", "copy.db"}
    assert done(Reader.open(folder / "copy.db").head()) == 10


def test_a_copy_is_written_into_the_file_that_was_made_for_it_and_no_other(
    store: SqliteStore, tmp_path: Path
) -> None:
    """SQLite opens it by name; whose the folder is may have put something else there."""
    fill(store, 10)
    half = tmp_path / "half"
    for put in (
        lambda: half.symlink_to(tmp_path / "nothing-yet"),
        lambda: half.symlink_to(tmp_path / "precious"),
        lambda: half.write_text("theirs"),
        half.touch,
    ):
        (tmp_path / "precious").write_text("precious")
        handle = os.open(half, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        half.unlink()
        put()
        with pytest.raises((sqlite3.Error, OSError)):
            write_copy(store._db, half, handle)
        os.close(handle)
        half.unlink()
        assert (tmp_path / "precious").read_text() == "precious"
        assert not (tmp_path / "nothing-yet").exists()


async def test_a_backup_takes_the_place_of_a_store_that_crashed(tmp_path: Path) -> None:
    """What the crash left in -wal belongs to the old store; SQLite would play it into the new one."""
    path = tmp_path / "roundsman.db"
    store = SqliteStore.open(path)
    fill(store, 10)
    await store.backup(tmp_path / "copy.db")
    fill(store, 3000, begin=10)
    for name in ("roundsman.db", "roundsman.db-wal", "roundsman.db-shm"):
        shutil.copy(tmp_path / name, tmp_path / f"crashed-{name}")
    await store.close()
    for name in ("roundsman.db", "roundsman.db-wal", "roundsman.db-shm"):
        shutil.copy(tmp_path / f"crashed-{name}", tmp_path / name)
    restore(path, tmp_path / "copy.db")
    again = SqliteStore.open(path)
    assert len(all_of(again)) == 10
    assert await sql(again, "PRAGMA integrity_check") == [("ok",)]
    assert path.stat().st_mode & 0o777 == 0o600
    fill(again, 5, begin=10)
    assert await again.head() == 15
    await again.close()


def test_a_copy_by_hand_works_as_well(tmp_path: Path) -> None:
    path = tmp_path / "roundsman.db"
    store = SqliteStore.open(path)
    fill(store, 10)
    done(store.backup(tmp_path / "copy.db"))
    fill(store, 10, begin=10)
    done(store.close())
    shutil.copy(tmp_path / "copy.db", path)
    again = SqliteStore.open(path)
    assert len(all_of(again)) == 10
    done(again.close())


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda p: p.write_bytes(b""), "is empty"),
        (lambda p: p.write_bytes(b"hello"), "no backup: it is damaged or not"),
        (lambda p: p.write_bytes(p.read_bytes()[: p.stat().st_size // 2]), "damaged"),
        (lambda p: _sql(p, "CREATE TABLE mine (x)", "DROP TABLE _sqlite_migrations"), "of something else"),
        (lambda p: _sql(p, "UPDATE _sqlite_migrations SET name = '999_new' WHERE name = '001_log'"), "newer"),
    ],
)  # fmt: skip
def test_what_is_no_backup_replaces_nothing(spoil: Any, why: str, tmp_path: Path) -> None:
    path, copy = tmp_path / "roundsman.db", tmp_path / "copy.db"
    store = SqliteStore.open(path)
    fill(store, 50)
    done(store.backup(copy))
    with pytest.raises(StoreError, match="is in use by roundsman, pid"):
        restore(path, copy)
    done(store.close())
    spoil(copy)
    with pytest.raises(StoreError, match=why):
        restore(path, copy)
    again = SqliteStore.open(path)
    assert len(all_of(again)) == 50
    done(again.close())


def _sql(path: Path, *statements: str) -> None:
    with sqlite3.connect(path) as db:
        for statement in statements:
            db.execute(statement)


def test_a_restore_leaves_the_old_store_where_the_disk_is_full(tmp_path: Path, small_disk: Path) -> None:
    path = small_disk / "roundsman.db"
    store = SqliteStore.open(path)
    fill(store, 50)
    done(store.close())
    large = SqliteStore.open(tmp_path / "large.db")
    fill(large, 3000)
    done(large.backup(tmp_path / "copy.db"))
    done(large.close())
    with pytest.raises(StoreError, match="disk is full|cannot be opened: No space left"):
        restore(path, tmp_path / "copy.db")
    again = SqliteStore.open(path)
    assert len(all_of(again)) == 50
    done(again.close())


def test_a_backup_never_takes_the_place_of_the_store_itself(store: SqliteStore, tmp_path: Path) -> None:
    fill(store, 10)
    (tmp_path / "link.db").symlink_to(store.path)
    for name in ("roundsman.db", "roundsman.db-wal", "roundsman.db.lock", "link.db"):
        with pytest.raises(StoreError, match="is the store itself, or belongs to it"):
            done(store.backup(tmp_path / name, replace=True))
    with pytest.raises(StoreError, match="/dev/null is not a file"):
        done(store.backup(Path("/dev/null"), replace=True))
    assert len(all_of(store)) == 10


def test_a_raw_copy_with_its_wal_is_taken_whole(tmp_path: Path) -> None:
    """What an operator saved after a crash: most of it may be in the -wal file."""
    path, copies = tmp_path / "roundsman.db", tmp_path / "copies"
    copies.mkdir()
    store = SqliteStore.open(path)
    fill(store, 200)
    for file in tmp_path.glob("roundsman.db*"):
        shutil.copy(file, copies / file.name)
    done(store.close())
    path.unlink()
    assert restore(path, copies / "roundsman.db") == 200
    again = SqliteStore.open(path)
    assert len(all_of(again)) == 200
    done(again.close())


def test_a_store_is_put_back_where_a_link_leads_to(tmp_path: Path) -> None:
    (tmp_path / "large-disk").mkdir()
    (tmp_path / "roundsman.db").symlink_to("large-disk/roundsman.db")
    store = SqliteStore.open(tmp_path / "roundsman.db")
    fill(store, 10)
    done(store.backup(tmp_path / "copy.db"))
    fill(store, 10, begin=10)
    done(store.close())
    (tmp_path / "large-disk" / "roundsman.db-wal").write_bytes(b"of the old store")
    assert restore(tmp_path / "roundsman.db", tmp_path / "copy.db") == 10
    assert (tmp_path / "roundsman.db").is_symlink()
    again = SqliteStore.open(tmp_path / "large-disk" / "roundsman.db")
    assert len(all_of(again)) == 10
    done(again.close())


def test_a_store_is_not_put_back_over_itself(tmp_path: Path) -> None:
    path = tmp_path / "roundsman.db"
    store = SqliteStore.open(path)
    fill(store, 10)
    for name in ("roundsman.db", "roundsman.db-wal", "roundsman.db-shm"):
        shutil.copy(tmp_path / name, tmp_path / f"crashed-{name}")
    done(store.close())
    for name in ("roundsman.db", "roundsman.db-wal", "roundsman.db-shm"):
        (tmp_path / f"crashed-{name}").replace(tmp_path / name)
    with pytest.raises(StoreError, match="is the store itself"):
        restore(path, path)
    again = SqliteStore.open(path)
    assert len(all_of(again)) == 10
    done(again.close())


def test_looking_who_has_the_store_keeps_no_daemon_from_starting(tmp_path: Path) -> None:
    path = tmp_path / "roundsman.db"
    done(SqliteStore.open(path).close())
    looking = threading.Event()

    def look() -> None:
        while not looking.is_set():
            holder(path)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        for _ in range(200):
            done(SqliteStore.open(path).close())
    finally:
        looking.set()
        thread.join()


# -- commands of root's ------------------------------------------------------------------------------------------------


async def test_root_gives_no_user_what_a_planted_link_leads_to(tmp_path: Path) -> None:
    need(os.geteuid() == 0, "needs root, to make a file that is another's")
    folder, precious = tmp_path / "state", tmp_path / "precious"
    folder.mkdir()
    precious.write_text("precious")
    os.chown(folder, 12345, 12345)
    for name in ("roundsman.db", "roundsman.db.lock", "roundsman.db-wal"):
        for leads_to in (precious, tmp_path / "nothing-yet"):
            (folder / name).symlink_to(leads_to)
            with pytest.raises(StoreError, match="is a link in a folder that is not root's"):
                SqliteStore.open(folder / "roundsman.db")
            (folder / name).unlink()
            (folder / "roundsman.db.lock").unlink(missing_ok=True)
    assert (precious.read_text(), precious.stat().st_uid) == ("precious", 0)
    assert not (tmp_path / "nothing-yet").exists()
    (folder / "events.jsonl").symlink_to(precious)
    sink = FileSink(type="file", path=folder / "events.jsonl").named("archive")
    with pytest.raises(OSError, match="is a link"):
        async with sink.open(Http(Clients()), None):
            pass
    # A store that is another's is written to, and stays theirs.
    (folder / "mine.db").touch()
    await SqliteStore.open(folder / "mine.db").close()
    assert (folder / "mine.db").stat().st_uid == 0, "nor given away, if it was there before"


def test_root_does_not_lock_the_service_out(tmp_path: Path) -> None:
    """What a command with sudo makes in the service's folder is the service's."""
    need(os.geteuid() == 0, "needs root, to make a file that is another's")
    folder = tmp_path / "state"
    folder.mkdir()
    os.chown(folder, 12345, 12345)
    store = SqliteStore.open(folder / "roundsman.db")
    fill(store, 1)
    owners = {path.name: path.stat().st_uid for path in folder.iterdir()}
    assert set(owners) == {"roundsman.db", "roundsman.db-wal", "roundsman.db-shm", "roundsman.db.lock"}
    assert set(owners.values()) == {12345}
    done(store.backup(folder / "copy.db"))
    assert (folder / "copy.db").stat().st_uid == 0, "but a backup of root's stays root's"
    done(store.backup(tmp_path / "copy.db"))
    done(store.close())
    (folder / "roundsman.db").unlink()
    restore(folder / "roundsman.db", tmp_path / "copy.db")
    assert (folder / "roundsman.db").stat().st_uid == 12345
