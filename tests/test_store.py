"""The store in one SQLite file: its files, locks, schema and its own trouble. `stores/test_conformance.py` has the rest."""

import asyncio
import errno
import fcntl
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import pytest
from sqlite_utils import Database

from conftest import need
from inside import (
    close_books,
    condition,
    done,
    one_moment,
    pragma,
    put,
    run_by,
    seen,
    seq_before,
    sql,
    statements,
    waits,
)
from roundsman.cli.control import replay
from roundsman.store import KEYS_KEPT, Filter, GaveUp, Intake, StoreError, holder, restore
from roundsman.store.sqlite import schema
from roundsman.store.sqlite.migrations import migrations
from roundsman.store.sqlite.reader import Reader
from roundsman.store.sqlite.soundness import check
from roundsman.store.sqlite.store import SqliteStore
from worlds import START, an_event


async def test_its_files_are_for_its_owner_only(tmp_path: Path) -> None:
    os.umask(umask := os.umask(0))
    store = SqliteStore.open(tmp_path / "new" / "roundsman.db")
    await put(store, an_event(1))
    assert {p.stat().st_mode & 0o777 for p in (tmp_path / "new").iterdir()} == {0o600}
    assert os.umask(umask) == umask
    await store.close()


async def test_it_is_durable(store: SqliteStore) -> None:
    assert await pragma(store, "journal_mode") == "wal"
    assert await pragma(store, "synchronous") == 2


async def test_an_event_is_kept_once_and_numbers_have_no_holes(store: SqliteStore) -> None:
    assert await put(store, an_event(1), an_event(2), an_event(1)) == 2
    assert await put(store, an_event(2), an_event(3)) == 1
    assert [e.seq for e, _ in await store.events(0, 100, 100, Filter())] == [1, 2, 3]


async def test_the_numbers_go_on_when_everything_was_forgotten(store: SqliteStore) -> None:
    await put(store, *(msgspec.structs.replace(an_event(n), stamp=START) for n in range(3)))
    await store.ack("archive", 0, 3, None, START)
    later = START + 2 * KEYS_KEPT + 60
    await sql(store, "UPDATE sources SET position = ? WHERE name = 'doors'", (later,))
    while await store.prune(["archive"], later, 60.0):
        pass
    assert await sql(store, "SELECT count(*) FROM events") == [(0,)]
    await put(store, an_event(9), now=later)
    assert (await store.events(0, 100, 10, Filter()))[0][0].seq == 4


async def test_bisection_finds_when(store: SqliteStore) -> None:
    for n in range(20):
        await put(store, an_event(n), now=START + n * 10)
    assert seq_before(store, START - 1) == 0
    assert seq_before(store, START + 95) == 10
    assert seq_before(store, START + 100) == 10
    assert seq_before(store, START + 1e6) == 20


async def test_a_replay_leaves_nothing_out_after_a_clock_that_was_set_back(
    store: SqliteStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for n in range(90):
        await put(store, an_event(n), now=START + n * 60)
    for n in range(90, 215):
        await put(store, an_event(n), now=START - 7200 + n * 60)
    await store.ack("archive", 0, 215, None, START)
    when = START + 30 * 60
    assert await store.seq_since(when) == 30
    assert await store.seq_since(START + 1e6) == 215
    (tmp_path / "roundsman.toml").write_text('[daemon]\nstore = "roundsman.db"\n')
    await asyncio.to_thread(replay, "archive", "2026-05-01T06:30:00Z", tmp_path / "roundsman.toml")
    assert (await store.cursor("archive"))[0] == 30
    assert "185 events from #31 on will be delivered again" in capsys.readouterr().out


async def test_a_filter_reads_the_log_in_its_order_and_only_as_far_as_it_must(store: SqliteStore) -> None:
    for wanted in (Filter(sources=("doors",)), Filter(("a", "b*"), ("doors", "*"), ("granted",))):
        where, values = condition(wanted)
        query = f"SELECT e.seq FROM events e JOIN sources s ON s.id = e.source WHERE e.seq > 0{where} ORDER BY e.seq"
        plan = [row[3] for row in await sql(store, f"EXPLAIN QUERY PLAN {query}", values)]
        assert plan[0].startswith("SEARCH e USING INTEGER PRIMARY KEY")
        assert not [step for step in plan if "TEMP B-TREE FOR ORDER" in step]


def test_one_daemon_per_store_and_the_second_says_who_has_it(tmp_path: Path) -> None:
    first = SqliteStore.open(tmp_path / "a.db")
    with pytest.raises(StoreError, match=rf"in use by roundsman, pid {os.getpid()}, since 20"):
        SqliteStore.open(tmp_path / "a.db")
    done(first.close())
    done(SqliteStore.open(tmp_path / "a.db").close())


def test_one_daemon_per_store_through_any_links(tmp_path: Path) -> None:
    """Each would have a lock of its own, beside its own name."""
    first = SqliteStore.open(tmp_path / "real.db")
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "link.db").symlink_to(tmp_path / "real.db")
    (tmp_path / "y").symlink_to("x")
    for name in ("x/link.db", "y/link.db"):
        assert holder(tmp_path / name) == holder(tmp_path / "real.db")
        with pytest.raises(StoreError, match=rf"in use by roundsman, pid {os.getpid()}, since 20"):
            SqliteStore.open(tmp_path / name)
    with pytest.raises(StoreError, match="belongs to it"):
        done(Reader.open(tmp_path / "x" / "link.db").backup(tmp_path / "real.db.lock", replace=True))
    done(first.close())
    assert sorted(path.name for path in (tmp_path / "x").iterdir()) == ["link.db"]


def test_a_circle_of_links_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "loop.db").symlink_to("loop.db")
    for use in (SqliteStore.open, Reader.open, holder):
        with pytest.raises(StoreError, match="symbolic links|there is no store at"):
            use(tmp_path / "loop.db")


@contextmanager
def locked(path: Path, text: bytes) -> Iterator[None]:
    """Another process has the lock, and has written `text` into it."""
    with path.open("wb") as lock:
        lock.write(text)
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def test_the_owner_of_a_lock_controls_no_terminal(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    done(SqliteStore.open(path).close())
    with locked(
        tmp_path / "a.db.lock",
        "\x1b]0;owned\x07me\x9b31m\r\nfailures open=0 é\x00".encode() + b"\xff" + b"x" * 500,
    ):
        who = holder(path) or ""
        with pytest.raises(StoreError) as refused:
            SqliteStore.open(path)
    for text in (who, str(refused.value)):
        assert text.isascii()
        assert text.isprintable()
    assert who.startswith("]0;ownedme31mfailures open=0")
    assert len(who) <= 200
    with locked(tmp_path / "a.db.lock", b"\x1b\n"):
        assert holder(path) == "another process"


@pytest.mark.parametrize("name", ["a.db", "a.db.lock", "a.db-wal", "a.db-shm"])
def test_a_pipe_in_the_place_of_a_file_keeps_no_command_waiting(name: str, tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    done(SqliteStore.open(path).close())
    (tmp_path / name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / name)
    uses = [SqliteStore.open, holder] if name.endswith(".lock") else [SqliteStore.open, Reader.open]
    for use in uses:
        with pytest.raises(StoreError, match="is not a file"):
            use(path)


@contextmanager
def nobody() -> Iterator[None]:
    """As a user who may look into no folder of root's."""
    need(os.geteuid() == 0, "needs root, to become another user")
    os.seteuid(12345)
    try:
        yield
    finally:
        os.seteuid(0)


def test_whose_the_store_is_and_what_to_do_is_said_to_everybody_who_may_not_read_it() -> None:
    with TemporaryDirectory() as above:  # pytest's own folders let no other user through
        path = Path(above) / "state" / "a.db"
        done(SqliteStore.open(path).close())
        for modes in ((0o700, 0o755, 0o644), (0o755, 0o700, 0o644), (0o755, 0o755, 0o600)):
            for each, mode in zip((Path(above), path.parent, path), modes, strict=True):
                each.chmod(mode)
            for opening in (Reader.open, lambda path: SqliteStore.open(path, daemon=False)):
                with nobody(), pytest.raises(StoreError, match="it belongs to another user: use sudo"):
                    opening(path)


def test_a_folder_that_may_only_be_gone_through_is_enough() -> None:
    """As for root without its capabilities in a container, or a user who may write to a folder and not list it."""
    with TemporaryDirectory() as above:
        Path(above).chmod(0o711)
        folder = Path(above) / "drop"
        folder.mkdir()
        folder.chmod(0o733)
        with nobody():
            done(SqliteStore.open(folder / "a.db").close())
            done(SqliteStore.open(folder / "a.db").close())


async def test_the_daemons_own_notices_are_found_however_long_the_log_is(store: SqliteStore) -> None:
    with statements(store) as said:
        await store.last_notice("roundsman.disk.*")
    plan = [row[3] for row in await sql(store, "EXPLAIN QUERY PLAN " + said[-1])]
    assert any("SEARCH e USING INDEX sqlite_autoindex_events_1 (source=?)" in step for step in plan), plan


def test_root_reads_no_store_that_a_planted_link_leads_to(tmp_path: Path) -> None:
    need(os.geteuid() == 0, "needs root, to make a folder that is another's")
    secret, folder = tmp_path / "secret.db", tmp_path / "theirs"
    done(SqliteStore.open(secret).close())
    folder.mkdir()
    os.chown(folder, 12345, 12345)
    (folder / "out").symlink_to(tmp_path)
    link = "is a link in a folder that is not root's alone"
    for end in ("", "-wal", "-shm", "-journal"):
        done(SqliteStore.open(folder / "a.db").close())
        (folder / f"a.db{end}").unlink(missing_ok=True)
        (folder / f"a.db{end}").symlink_to(secret)
        with pytest.raises(StoreError, match=link):
            Reader.open(folder / "a.db")
        (folder / f"a.db{end}").unlink()
    (folder / "b.db.lock").symlink_to(secret)
    with pytest.raises(StoreError, match=link):
        holder(folder / "b.db")
    with pytest.raises(StoreError, match=link):
        Reader.open(folder / "out" / "secret.db")
    reader = Reader.open(secret)
    with pytest.raises(StoreError, match=link):
        done(reader.backup(folder / "out" / "copy.db"))
    assert not (tmp_path / "copy.db").exists()
    done(reader.close())


def test_the_lock_ends_with_its_holder(tmp_path: Path) -> None:
    code = f"import os; from pathlib import Path; from roundsman.store.sqlite.store import SqliteStore; SqliteStore.open(Path({str(tmp_path / 'a.db')!r})); os._exit(9)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
    done(SqliteStore.open(tmp_path / "a.db").close())


async def test_readers_work_beside_the_daemon_and_do_not_block_it(store: SqliteStore) -> None:
    await put(store, an_event(1))
    reader = Reader.open(store.path)
    with one_moment(reader):
        assert await reader.head() == 1
        await put(store, an_event(2))
        assert await reader.head() == 1, "a reader sees its moment"
    assert await reader.head() == 2
    await reader.close()


async def test_a_reader_writes_nothing(store: SqliteStore) -> None:
    reader = Reader.open(store.path)
    with pytest.raises(StoreError, match="cannot be written"):
        await run_by(reader, "DELETE FROM events")
    await reader.close()


async def test_a_newer_store_is_left_alone(tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path / "a.db")
    await sql(
        store,
        "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES ('roundsman', '999_future', 'x')",
    )
    await store.close()
    with pytest.raises(StoreError, match="was written by a newer roundsman .it has 999_future.: upgrade"):
        SqliteStore.open(tmp_path / "a.db")
    with pytest.raises(StoreError, match="newer roundsman"):
        Reader.open(tmp_path / "a.db")


def test_every_migration_is_known_by_name() -> None:
    assert {m.name for m in migrations._migrations} == schema.STEPS.keys()


async def test_a_first_start_that_was_cut_off_is_gone_on_with(tmp_path: Path) -> None:
    """Its list of migrations was there, and nothing else yet: that was taken for a file of something else."""
    db = Database(tmp_path / "roundsman.db")
    migrations.ensure_migrations_table(db)
    db.close()
    store = SqliteStore.open(tmp_path / "roundsman.db")
    assert await put(store, an_event(1)) == 1
    await store.close()


def test_a_file_of_something_else_is_left_alone(tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    conn = sqlite3.connect(other)
    conn.execute("CREATE TABLE theirs (x)")
    conn.commit()
    conn.close()
    before = other.read_bytes()
    with pytest.raises(StoreError, match="is a SQLite file of something else"):
        SqliteStore.open(other)
    text = tmp_path / "notes.txt"
    text.write_text("not a database at all, but long enough to look at" * 30)
    with pytest.raises(StoreError, match="is damaged or not a SQLite file"):
        SqliteStore.open(text)
    assert text.read_text().startswith("not a database")
    assert other.read_bytes()[100:] == before[100:]


async def test_a_damaged_store_says_so(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    store = SqliteStore.open(path)
    await put(store, *(an_event(n, note="x" * 500) for n in range(200)))
    await store.close()
    body = bytearray(path.read_bytes())
    body[8192:-8192] = os.urandom(len(body) - 16384)
    path.write_bytes(body)
    with pytest.raises(StoreError, match="is damaged"):
        store = SqliteStore.open(path)
        await put(store, *(an_event(n) for n in range(1000)))


def test_a_folder_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be opened: (Not a directory|File exists)"):
        SqliteStore.open(tmp_path / "file" / "a.db")


def test_a_read_only_folder_says_so(small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(StoreError, match="cannot be opened: Read-only file system"):
        SqliteStore.open(small_disk / "a.db")


async def test_a_full_disk_is_one_sentence_and_damages_nothing(small_disk: Path) -> None:
    store = SqliteStore.open(small_disk / "a.db")
    await put(store, an_event(0), state={"at": 0})
    number = 1
    with pytest.raises(StoreError, match="the disk is full"):
        while True:
            await put(
                store, *(an_event(number + n, note="x" * 2000) for n in range(50)), state={"at": number}
            )
            number += 50
    assert (await store.memory("doors")).state["at"] == (number - 50 if number > 1 else 0)
    head = await store.head()
    await store.close()
    subprocess.run(["mount", "-o", "remount,size=32m", str(small_disk)], check=True)
    store = SqliteStore.open(small_disk / "a.db")
    assert await store.head() == head
    assert await sql(store, "PRAGMA integrity_check") == [("ok",)]
    assert await put(store, an_event(10**5)) == 1
    await store.close()


def test_no_store_yet_is_said_to_who_only_reads(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no store at .* yet"):
        Reader.open(tmp_path / "none.db")
    with pytest.raises(StoreError, match="there is no store at .* yet"):
        SqliteStore.open(tmp_path / "none.db", daemon=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.garbles
def test_a_store_of_the_first_schema_is_brought_up_to_date(tmp_path: Path) -> None:
    old = Database(tmp_path / "roundsman.db")
    migrations.apply(old, stop_before="002_follow")
    old.execute("INSERT INTO sources (name, type) VALUES ('doors', 'parakey.event_logs')")
    old.execute("INSERT INTO events (source, id, type, logged, body) VALUES (1, 'a', 't', 1.0, x'7b7d')")
    old.conn.commit()
    old.close()
    with pytest.raises(StoreError, match="older roundsman"):
        Reader.open(tmp_path / "roundsman.db")
    store = SqliteStore.open(tmp_path / "roundsman.db")
    assert [event.id for event, _ in seen(store.events(0, 9, 9, Filter()))] == ["a"]
    assert done(store.follow("doors", ["x", "y", "x"])) == 2
    assert seen(store.memory("doors"))[2:] == (["x", "y"], 2)
    done(store.close())


# -- what a daemon has open, and others take away ---------------------------------------------------------------------


def rows(path: Path) -> list[str]:
    """The ids that another program finds in the log."""
    with closing(sqlite3.connect(path)) as db:
        return [key for [key] in db.execute("SELECT id FROM events ORDER BY seq")]


async def test_a_removed_wal_file_costs_nothing(tmp_path: Path) -> None:
    """What was committed lately is only in there; it is played into the store, and a new one is begun."""
    store = SqliteStore.open(path := tmp_path / "roundsman.db")
    await put(store, an_event(1))
    (tmp_path / "roundsman.db-wal").unlink()
    assert store.lost()
    assert await store.receive(Intake("doors", [an_event(2)]), START) == 1, "and what comes is stored"
    assert not store.lost()
    assert store.recoveries == 1
    await put(store, an_event(3))
    copy = tmp_path / "after-a-kill.db"
    for end in ("", "-wal"):
        shutil.copy(f"{path}{end}", f"{copy}{end}")
    assert rows(copy) == ["id00001", "id00002", "id00003"]
    await store.close()


async def test_not_where_another_program_has_begun_a_new_one(tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path / "roundsman.db")
    await put(store, an_event(1))
    wal = tmp_path / "roundsman.db-wal"
    wal.unlink()
    wal.write_bytes(b"somebody else's")
    assert not await store.recover()
    with pytest.raises(StoreError, match="was deleted or replaced"):
        await store.receive(Intake("doors", [an_event(2)]), START)
    close_books(store)


@pytest.mark.parametrize("what", ["roundsman.db", "roundsman.db.lock"])
async def test_webhooks_are_refused_where_their_events_could_not_be_delivered(
    what: str, tmp_path: Path
) -> None:
    store = SqliteStore.open(tmp_path / "roundsman.db")
    await put(store, an_event(1))
    (tmp_path / what).unlink()
    with pytest.raises(StoreError, match="was deleted or replaced"):
        await store.receive(Intake("doors", [an_event(2)]), START)
    await store.close()


async def test_one_daemon_per_store_through_any_hard_link(tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path / "roundsman.db")
    os.link(tmp_path / "roundsman.db", tmp_path / "other.db")
    with pytest.raises(StoreError, match="under another name, a hard link"):
        SqliteStore.open(tmp_path / "other.db")
    await put(store, an_event(1))
    await store.close()
    await SqliteStore.open(tmp_path / "other.db").close()


async def test_what_is_written_as_books_is_synced_on_demand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SqliteStore.open(tmp_path / "roundsman.db")
    await put(store, an_event(1))
    synced: list[str] = []
    fsync = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda fd: (fsync(fd), synced.append(Path(f"/proc/self/fd/{fd}").readlink().name))
    )
    await store.sync()
    assert synced == [], "what is durable was synced by its commit"
    await store.ack("archive", 0, 1, {"size": 1}, START)
    assert store.unsynced
    await store.sync()
    assert synced == ["roundsman.db-wal"]
    assert not store.unsynced
    await store.ack("archive", 1, 2, {"size": 1}, START)

    def fail(handle: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StoreError, match="roundsman.db cannot be written: Input/output error"):
        await store.sync()
    assert store.unsynced, "it is tried again"
    await store.close()


async def test_a_backup_changes_nothing_about_how_long_the_daemon_waits(
    store: SqliteStore, tmp_path: Path
) -> None:
    """The writer waits for a lock without blocking the event loop; SQLite would block it."""
    before = waits(store)
    await store.backup(tmp_path / "copy.db")
    assert waits(store) == before
    assert before[1] == 0, "the writer"


# -- restoring --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", range(1, 9))
@pytest.mark.parametrize("call", ["replace", "unlink", "fsync"])
async def test_a_restore_that_is_cut_off_leaves_the_old_store_or_the_new_one(
    call: str, step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a crash has left the newest events in the -wal file."""
    store = SqliteStore.open(tmp_path / "origin.db")
    await put(store, an_event(1))
    await store.backup(tmp_path / "backup.db")
    await put(store, an_event(2))
    path = tmp_path / "roundsman.db"
    for end in ("", "-wal"):
        shutil.copy(f"{store.path}{end}", f"{path}{end}")  # as a kill leaves it
    await store.close()

    class Died(BaseException):
        pass

    real, calls = getattr(os, call), 0

    def dies(*args: Any, **more: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == step:
            raise Died
        return real(*args, **more)

    monkeypatch.setattr(os, call, dies)
    with suppress(Died):
        restore(path, tmp_path / "backup.db")
    monkeypatch.undo()
    assert rows(path) in (["id00001", "id00002"], ["id00001"])
    restore(path, tmp_path / "backup.db")
    assert rows(path) == ["id00001"]
    assert not list(tmp_path.glob("*.restoring"))


async def test_a_damaged_store_is_moved_aside_and_not_destroyed(tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path / "roundsman.db")
    await put(store, an_event(1))
    await store.backup(tmp_path / "backup.db")
    await store.close()
    (tmp_path / "roundsman.db").write_bytes(b"not SQLite at all" * 1000)
    restore(tmp_path / "roundsman.db", tmp_path / "backup.db")
    assert rows(tmp_path / "roundsman.db") == ["id00001"]
    assert (tmp_path / "roundsman.db.replaced").read_bytes().startswith(b"not SQLite")


# -- damage -----------------------------------------------------------------------------------------------------------


async def damaged(path: Path, count: int = 300) -> Path:
    """A store of some size in which bytes were flipped in the middle."""
    store = SqliteStore.open(path)
    await put(store, *(an_event(n, note="x" * 500) for n in range(count)))
    await store.close()
    body = bytearray(path.read_bytes())
    for at in range(8192 * 3, len(body) - 8192, 8192):
        for n in range(at + 40, at + 90):
            body[n] ^= 0xFF
    path.write_bytes(body)
    return path


async def test_a_check_finds_damage_and_says_what_to_do(tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path / "sound.db")
    await put(store, an_event(1))
    assert check(tmp_path / "sound.db") is None
    await store.close()
    found = check(await damaged(tmp_path / "damaged.db"))
    assert found is not None
    assert "is damaged: restore a backup" in found


async def test_a_check_is_given_up_where_the_wal_file_grows_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = await damaged(tmp_path / "damaged.db")
    monkeypatch.setattr("roundsman.store.sqlite.soundness.GROWN", -1)
    monkeypatch.setattr("roundsman.store.sqlite.soundness.LOOK_EVERY", 1)
    with pytest.raises(GaveUp):
        check(path)


@pytest.mark.parametrize(
    ("code", "found"),
    [
        (sqlite3.SQLITE_CORRUPT, True),
        (sqlite3.SQLITE_NOTADB, True),
        (sqlite3.SQLITE_IOERR, True),
        (sqlite3.SQLITE_IOERR | 1 << 8, True),  # SQLITE_IOERR_READ
        (sqlite3.SQLITE_BUSY, False),
        (sqlite3.SQLITE_NOMEM, False),
        (sqlite3.SQLITE_CANTOPEN, False),
        (sqlite3.SQLITE_INTERRUPT, False),
    ],
)
def test_only_what_is_read_wrongly_counts_as_damage(
    code: int, found: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that cannot be asked just now is not a damaged one."""

    class Failing:
        def __init__(self, path: Path, *, readonly: bool) -> None:
            self.conn = self

        def set_progress_handler(self, *_: object) -> None: ...

        def close(self) -> None: ...

        def execute(self, sql: str) -> Any:
            plain = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
            error = (sqlite3.DatabaseError if code in plain else sqlite3.OperationalError)("no")
            error.sqlite_errorcode = code
            raise error

    monkeypatch.setattr("roundsman.store.sqlite.soundness.connect", Failing)
    if found:
        assert "is damaged" in (check(tmp_path / "x.db") or "")
    else:
        with pytest.raises(GaveUp):
            check(tmp_path / "x.db")


async def test_webhooks_are_refused_by_a_store_that_is_known_to_be_damaged(store: SqliteStore) -> None:
    await put(store, an_event(1))
    store.damage = "it is damaged"
    for refused in (store.receive(Intake("doors", [an_event(2)]), START), store.writable()):
        with pytest.raises(StoreError, match="it is damaged"):
            await refused


async def test_a_webhook_that_cannot_be_read_back_is_refused(
    store: SqliteStore,
) -> None:
    await put(store, an_event(1))
    swallowing = (
        "CREATE TRIGGER swallows AFTER INSERT ON events BEGIN DELETE FROM events WHERE seq = new.seq; END"
    )
    await sql(store, swallowing)
    with pytest.raises(StoreError, match="cannot be read back"):
        await store.receive(Intake("doors", [an_event(2)]), START)
    assert await store.head() == 1, "and it is not stored either"


async def test_what_is_pruned_during_a_pull_is_in_the_answer_or_counted_and_not_both(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put(store, *(an_event(number) for number in range(5)))
    reader = Reader.open(store.path)
    run = reader._run

    def meanwhile(text: str, values: Sequence[object] = ()) -> sqlite3.Cursor:
        if "count(*)" in text:
            done(sql(store, "UPDATE events SET body = NULL"))
        return run(text, values)

    monkeypatch.setattr(reader, "_run", meanwhile)
    try:
        found = await reader.pull(0, 3, Filter())
        assert (len(found.events), found.next, found.pruned) == (3, 3, 0)
        found = await reader.pull(0, 3, Filter())
        assert (len(found.events), found.next, found.pruned) == (0, 5, 5)
    finally:
        await reader.close()
