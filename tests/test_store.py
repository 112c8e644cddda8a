"""The store: what it promises of files, locks, transactions and its own trouble."""

import errno
import fcntl
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from sqlite_utils import Database

from conftest import need
from inside import close_books, commit, one_moment, pragma, put, run_by, sql, statements
from roundsman import store as store_module
from roundsman.cli.control import replay
from roundsman.store import (
    KEYS_KEPT,
    Conflict,
    Filter,
    GaveUp,
    Intake,
    Reader,
    Store,
    StoreError,
    check,
    holder,
    migrations,
    restore,
)
from worlds import START, an_event


async def test_its_files_are_for_its_owner_only(tmp_path: Path) -> None:
    os.umask(umask := os.umask(0))
    store = Store.open(tmp_path / "new" / "roundsman.db")
    await put(store, an_event(1))
    assert {p.stat().st_mode & 0o777 for p in (tmp_path / "new").iterdir()} == {0o600}
    assert os.umask(umask) == umask
    store.close()


async def test_it_is_durable(store: Store) -> None:
    assert await pragma(store, "journal_mode") == "wal"
    assert await pragma(store, "synchronous") == 2


async def test_an_event_is_kept_once_and_numbers_have_no_holes(store: Store) -> None:
    assert await put(store, an_event(1), an_event(2), an_event(1)) == 2
    assert await put(store, an_event(2), an_event(3)) == 1
    assert [e.seq for e, _ in store.events(0, 100, 100, Filter())] == [1, 2, 3]


async def test_a_commit_is_whole_or_not_at_all(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    await put(store, an_event(1), state={"cursor": "a"})
    bad = an_event(2)
    broken = type(bad)(bad.id, bad.source, bad.type, object(), bad.body)  # type: ignore[arg-type]
    with pytest.raises(sqlite3.Error):
        await put(store, an_event(3), broken, state={"cursor": "b"})
    assert store.state("doors")[0] == {"cursor": "a"}
    assert store.head() == 1


async def test_a_source_that_was_rewound_meanwhile_is_not_overwritten(store: Store) -> None:
    await put(store, state={"cursor": "old"})
    _, revision = store.state("doors")
    store.rewind("doors", {"cursor": "back"})
    with pytest.raises(Conflict):
        commit(store, "doors", {"cursor": "new"}, [an_event(1)], revision=revision)
    assert store.state("doors")[0] == {"cursor": "back"}
    assert store.head() == 0
    assert store.wanted() == ["doors"]


async def test_a_sink_that_was_replayed_meanwhile_is_not_overwritten(store: Store) -> None:
    await put(store, *map(an_event, range(5)))
    store.ack("archive", 0, 4, None, START)
    store.replay("archive", 2)
    with pytest.raises(Conflict):
        store.ack("archive", 4, 5, None, START)
    assert store.cursor("archive")[0] == 2


async def test_a_new_sink_begins_at_the_head(store: Store) -> None:
    await put(store, an_event(1), an_event(2))
    store.register({}, {"late": "stdout"})
    assert store.cursor("late") == (2, None)
    assert store.cursor("archive") == (0, None)


async def test_ids_without_a_stamp_are_kept_for_good(store: Store) -> None:
    """A source that always lists everything would tell it all again."""
    await put(store, *map(an_event, range(3)))
    store.ack("archive", 0, 3, None, START)
    while store.prune(["archive"], START + 10 * KEYS_KEPT, 60.0):
        pass
    assert await put(store, *map(an_event, range(4)), now=START + 10 * KEYS_KEPT) == 1


async def test_the_numbers_go_on_when_everything_was_forgotten(store: Store) -> None:
    await put(store, *(msgspec.structs.replace(an_event(n), stamp=START) for n in range(3)))
    store.ack("archive", 0, 3, None, START)
    later = START + 2 * KEYS_KEPT + 60
    await sql(store, "UPDATE sources SET position = ? WHERE name = 'doors'", (later,))
    while store.prune(["archive"], later, 60.0):
        pass
    assert await sql(store, "SELECT count(*) FROM events") == [(0,)]
    await put(store, an_event(9), now=later)
    assert store.events(0, 100, 10, Filter())[0][0].seq == 4


async def test_payloads_go_first_and_ids_stay_for_35_days(store: Store) -> None:
    await put(store, *map(an_event, range(3)))
    store.ack("archive", 0, 2, None, START)
    while store.prune(["archive"], START + 1000, 60.0):
        pass
    assert [e.seq for e, _ in store.events(0, 100, 10, Filter())] == [3], "what a sink has not got stays"
    assert await put(store, an_event(0), an_event(1)) == 0, "and what it has got is still known"


async def test_buried_events_are_never_pruned(store: Store) -> None:
    await put(store, *map(an_event, range(3)))
    store.bury("archive", 0, 1, "no", START)
    store.ack("archive", 1, 3, None, START)
    while store.prune(["archive"], START + 10 * KEYS_KEPT, 60.0):
        pass
    assert [e.seq for e, _ in store.events(0, 100, 10, Filter())] == [1]
    assert store.dead("archive")[0]["reason"] == "no"


async def test_bisection_finds_when(store: Store) -> None:
    for n in range(20):
        await put(store, an_event(n), now=START + n * 10)
    assert store.seq_before(START - 1) == 0
    assert store.seq_before(START + 95) == 10
    assert store.seq_before(START + 100) == 10
    assert store.seq_before(START + 1e6) == 20


async def test_a_replay_leaves_nothing_out_after_a_clock_that_was_set_back(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for n in range(90):
        await put(store, an_event(n), now=START + n * 60)
    for n in range(90, 215):
        await put(store, an_event(n), now=START - 7200 + n * 60)
    store.ack("archive", 0, 215, None, START)
    when = START + 30 * 60
    assert store.seq_since(when) == 30
    assert store.seq_since(START + 1e6) == 215
    (tmp_path / "roundsman.toml").write_text('[daemon]\nstore = "roundsman.db"\n')
    replay("archive", "2026-05-01T06:30:00Z", tmp_path / "roundsman.toml")
    assert store.cursor("archive")[0] == 30
    assert "185 events from #31 on will be delivered again" in capsys.readouterr().out


async def test_filters_are_globs_over_types_sources_and_outcomes(store: Store) -> None:
    await put(store, an_event(1), an_event(2, outcome="denied"), an_event(3, outcome=None))
    count = lambda **wanted: store.lag(0, Filter(**wanted))  # noqa: E731 - said four times below
    assert count(outcomes=("d*",)) == 1
    assert count(types=("co.parakey.*",), sources=("do*",)) == 3
    assert count(sources=("windows",)) == 0
    assert count(outcomes=("granted", "denied")) == 2


@pytest.mark.garbles
async def test_a_filter_may_name_fifty_thousand_sources(store: Store) -> None:
    await put(store, an_event(1), an_event(2, "windows"))
    names = tuple(f"s{n}" for n in range(50_000))
    assert store.lag(0, Filter(sources=names)) == 0
    assert store.lag(0, Filter(sources=(*names, "doors"))) == 2
    assert store.lag(0, Filter(sources=(*names, "do*"), types=("co.parakey.event_log.created",))) == 2
    globs = tuple(f"s{n}*" for n in range(5_000))
    assert store.lag(0, Filter(sources=globs)) == 0
    assert store.lag(0, Filter(sources=(*globs, "d[o]ors"), outcomes=("granted", *names))) == 2


async def test_a_filter_reads_the_log_in_its_order_and_only_as_far_as_it_must(store: Store) -> None:
    for wanted in (Filter(sources=("doors",)), Filter(("a", "b*"), ("doors", "*"), ("granted",))):
        where, values = wanted.where()
        query = f"SELECT e.seq FROM events e JOIN sources s ON s.id = e.source WHERE e.seq > 0{where} ORDER BY e.seq"
        plan = [row[3] for row in await sql(store, f"EXPLAIN QUERY PLAN {query}", values)]
        assert plan[0].startswith("SEARCH e USING INTEGER PRIMARY KEY")
        assert not [step for step in plan if "TEMP B-TREE FOR ORDER" in step]


async def test_large_events_are_read_a_few_at_a_time(store: Store) -> None:
    await put(store, *(an_event(n, note="x" * 3_000_000) for n in range(6)))
    assert len(store.events(0, 100, 1000, Filter())) == 3


def test_one_daemon_per_store_and_the_second_says_who_has_it(tmp_path: Path) -> None:
    first = Store.open(tmp_path / "a.db")
    with pytest.raises(StoreError, match=rf"in use by roundsman, pid {os.getpid()}, since 20"):
        Store.open(tmp_path / "a.db")
    first.close()
    Store.open(tmp_path / "a.db").close()


def test_one_daemon_per_store_whatever_links_lead_to_it(tmp_path: Path) -> None:
    """Each would have a lock of its own, beside its own name."""
    first = Store.open(tmp_path / "real.db")
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "link.db").symlink_to(tmp_path / "real.db")
    (tmp_path / "y").symlink_to("x")
    for name in ("x/link.db", "y/link.db"):
        assert holder(tmp_path / name) == holder(tmp_path / "real.db")
        with pytest.raises(StoreError, match=rf"in use by roundsman, pid {os.getpid()}, since 20"):
            Store.open(tmp_path / name)
    with pytest.raises(StoreError, match="belongs to it"):
        Reader.open(tmp_path / "x" / "link.db").backup(tmp_path / "real.db.lock", replace=True)
    first.close()
    assert sorted(path.name for path in (tmp_path / "x").iterdir()) == ["link.db"]


def test_a_circle_of_links_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "loop.db").symlink_to("loop.db")
    for use in (Store.open, Reader.open, holder):
        with pytest.raises(StoreError, match="symbolic links|there is no store at"):
            use(tmp_path / "loop.db")


@contextmanager
def locked(path: Path, text: bytes) -> Iterator[None]:
    """Somebody has the lock, and has written into it whatever they like."""
    with path.open("wb") as lock:
        lock.write(text)
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def test_whoever_has_the_lock_steers_no_terminal(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    Store.open(path).close()
    with locked(
        tmp_path / "a.db.lock",
        "\x1b]0;owned\x07me\x9b31m\r\nfailures open=0 é\x00".encode() + b"\xff" + b"x" * 500,
    ):
        who = holder(path) or ""
        with pytest.raises(StoreError) as refused:
            Store.open(path)
    for text in (who, str(refused.value)):
        assert text.isascii()
        assert text.isprintable()
    assert who.startswith("]0;ownedme31mfailures open=0")
    assert len(who) <= 200
    with locked(tmp_path / "a.db.lock", b"\x1b\n"):
        assert holder(path) == "another process"


@pytest.mark.parametrize("name", ["a.db", "a.db.lock", "a.db-wal", "a.db-shm"])
def test_a_pipe_in_the_place_of_a_file_keeps_nobody_waiting(name: str, tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    Store.open(path).close()
    (tmp_path / name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / name)
    uses = [Store.open, holder] if name.endswith(".lock") else [Store.open, Reader.open]
    for use in uses:
        with pytest.raises(StoreError, match="is not a file"):
            use(path)


@contextmanager
def nobody() -> Iterator[None]:
    """As a user who may look into no folder of root's."""
    need(os.geteuid() == 0, "needs root, to become somebody else")
    os.seteuid(12345)
    try:
        yield
    finally:
        os.seteuid(0)


def test_whose_the_store_is_and_what_to_do_is_said_to_everybody_who_may_not_read_it() -> None:
    with TemporaryDirectory() as above:  # pytest's own folders let nobody through
        path = Path(above) / "state" / "a.db"
        Store.open(path).close()
        for modes in ((0o700, 0o755, 0o644), (0o755, 0o700, 0o644), (0o755, 0o755, 0o600)):
            for each, mode in zip((Path(above), path.parent, path), modes, strict=True):
                each.chmod(mode)
            for opening in (Reader.open, lambda path: Store.open(path, daemon=False)):
                with nobody(), pytest.raises(StoreError, match="it is another user's, try sudo"):
                    opening(path)


def test_a_folder_that_may_only_be_gone_through_is_enough() -> None:
    """As root without its capabilities has it in a container, or whoever may write somewhere and not look around."""
    with TemporaryDirectory() as above:
        Path(above).chmod(0o711)
        folder = Path(above) / "drop"
        folder.mkdir()
        folder.chmod(0o733)
        with nobody():
            Store.open(folder / "a.db").close()
            Store.open(folder / "a.db").close()


async def test_the_daemons_own_notices_are_found_however_long_the_log_is(store: Store) -> None:
    with statements(store) as said:
        store.last_notice("roundsman.disk.*")
    plan = [row[3] for row in await sql(store, "EXPLAIN QUERY PLAN " + said[-1])]
    assert any("SEARCH e USING INDEX sqlite_autoindex_events_1 (source=?)" in step for step in plan), plan


def test_root_reads_no_store_that_a_planted_link_leads_to(tmp_path: Path) -> None:
    need(os.geteuid() == 0, "needs root, to make a folder that is another's")
    secret, folder = tmp_path / "secret.db", tmp_path / "theirs"
    Store.open(secret).close()
    folder.mkdir()
    os.chown(folder, 12345, 12345)
    (folder / "out").symlink_to(tmp_path)
    link = "is a link in a folder that is not root's alone"
    for end in ("", "-wal", "-shm", "-journal"):
        Store.open(folder / "a.db").close()
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
        reader.backup(folder / "out" / "copy.db")
    assert not (tmp_path / "copy.db").exists()
    reader.close()


def test_the_lock_ends_with_its_holder(tmp_path: Path) -> None:
    code = f"import os; from pathlib import Path; from roundsman.store import Store; Store.open(Path({str(tmp_path / 'a.db')!r})); os._exit(9)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
    Store.open(tmp_path / "a.db").close()


async def test_readers_work_beside_the_daemon_and_do_not_block_it(store: Store) -> None:
    await put(store, an_event(1))
    reader = Reader.open(store.path)
    with one_moment(reader):
        assert reader.head() == 1
        await put(store, an_event(2))
        assert reader.head() == 1, "a reader sees its moment"
    assert reader.head() == 2
    reader.close()


async def test_a_reader_writes_nothing(store: Store) -> None:
    reader = Reader.open(store.path)
    with pytest.raises(StoreError, match="cannot be written"):
        await run_by(reader, "DELETE FROM events")
    reader.close()


async def test_a_newer_store_is_left_alone(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "a.db")
    await sql(
        store,
        "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES ('roundsman', '999_future', 'x')",
    )
    store.close()
    with pytest.raises(StoreError, match="was written by a newer roundsman .it has 999_future.: upgrade"):
        Store.open(tmp_path / "a.db")
    with pytest.raises(StoreError, match="newer roundsman"):
        Reader.open(tmp_path / "a.db")


def test_every_migration_is_known_by_name() -> None:
    assert {m.name for m in store_module.migrations._migrations} == store_module.NAMES


async def test_a_first_start_that_was_cut_off_is_gone_on_with(tmp_path: Path) -> None:
    """Its list of migrations was there, and nothing else yet: that was taken for a file of something else."""
    db = Database(tmp_path / "roundsman.db")
    migrations.ensure_migrations_table(db)
    db.close()
    store = Store.open(tmp_path / "roundsman.db")
    assert await put(store, an_event(1)) == 1
    store.close()


def test_a_file_of_something_else_is_left_alone(tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    conn = sqlite3.connect(other)
    conn.execute("CREATE TABLE theirs (x)")
    conn.commit()
    conn.close()
    before = other.read_bytes()
    with pytest.raises(StoreError, match="is a SQLite file of something else"):
        Store.open(other)
    text = tmp_path / "notes.txt"
    text.write_text("not a database at all, but long enough to look at" * 30)
    with pytest.raises(StoreError, match="is damaged or not a SQLite file"):
        Store.open(text)
    assert text.read_text().startswith("not a database")
    assert other.read_bytes()[100:] == before[100:]


async def test_a_damaged_store_says_so(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    store = Store.open(path)
    await put(store, *(an_event(n, note="x" * 500) for n in range(200)))
    store.close()
    body = bytearray(path.read_bytes())
    body[8192:-8192] = os.urandom(len(body) - 16384)
    path.write_bytes(body)
    with pytest.raises(StoreError, match="is damaged"):
        store = Store.open(path)
        await put(store, *(an_event(n) for n in range(1000)))


def test_a_folder_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be opened: (Not a directory|File exists)"):
        Store.open(tmp_path / "file" / "a.db")


def test_a_read_only_folder_says_so(small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(StoreError, match="cannot be opened: Read-only file system"):
        Store.open(small_disk / "a.db")


async def test_a_full_disk_is_one_sentence_and_damages_nothing(small_disk: Path) -> None:
    store = Store.open(small_disk / "a.db")
    await put(store, an_event(0), state={"at": 0})
    number = 1
    with pytest.raises(StoreError, match="the disk is full"):
        while True:
            await put(
                store, *(an_event(number + n, note="x" * 2000) for n in range(50)), state={"at": number}
            )
            number += 50
    assert store.state("doors")[0]["at"] == (number - 50 if number > 1 else 0)
    head = store.head()
    store.close()
    subprocess.run(["mount", "-o", "remount,size=32m", str(small_disk)], check=True)
    store = Store.open(small_disk / "a.db")
    assert store.head() == head
    assert await sql(store, "PRAGMA integrity_check") == [("ok",)]
    assert await put(store, an_event(10**5)) == 1
    store.close()


def test_no_store_yet_is_said_to_who_only_reads(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no store at .* yet"):
        Reader.open(tmp_path / "none.db")
    with pytest.raises(StoreError, match="there is no store at .* yet"):
        Store.open(tmp_path / "none.db", daemon=False)
    assert list(tmp_path.iterdir()) == []


async def test_ids_are_remembered_as_far_back_as_readings_reach_from_a_quiet_source(store: Store) -> None:
    stamped = [msgspec.structs.replace(an_event(n), stamp=START + n * 86400) for n in range(7)]
    await put(store, *stamped, now=START + 7 * 86400)
    store.ack("archive", 0, 7, None, START)
    late = START + 400 * 86400
    while store.prune(["archive"], late, 60.0):
        pass
    assert await put(store, *stamped, now=late) == 0, "however long it is quiet"
    await put(store, msgspec.structs.replace(an_event(99), stamp=late), now=late)
    store.ack("archive", 7, 8, None, late)
    while store.prune(["archive"], late + 36 * 86400, 60.0):
        pass
    assert await sql(store, "SELECT id FROM events") == [("id00099",)], "and no longer than that"


async def test_a_clock_that_was_in_the_past_makes_nobody_forget_what_is_recent(store: Store) -> None:
    await put(store, *map(an_event, range(10)))
    await put(store, *map(an_event, range(10, 20)), now=5000.0)
    await put(store, *map(an_event, range(20, 25)))
    store.ack("archive", 0, 25, None, START)
    while store.prune(["archive"], START + 3600, 35 * 86400.0):
        pass
    kept = {e.id for e, _ in store.events(0, 100, 100, Filter())}
    assert {f"id{n:05d}" for n in (*range(10), *range(20, 25))} <= kept


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
    store = Store.open(tmp_path / "roundsman.db")
    assert [event.id for event, _ in store.events(0, 9, 9, Filter())] == ["a"]
    assert store.follow("doors", ["x", "y", "x"]) == 2
    assert store.inbox("doors") == (["x", "y"], 2)
    store.close()


def test_what_came_into_the_inbox_during_a_visit_waits_for_the_next(store: Store) -> None:
    store.register({"doors": "parakey.event_logs"}, {})
    store.follow("doors", ["a"])
    ids, taken = store.inbox("doors")
    store.follow("doors", ["b"])
    commit(store, "doors", {"open": ids}, [], taken=taken)
    assert store.inbox("doors")[0] == ["b"]
    store.follow("doors", ["a"])
    assert store.inbox("doors")[0] == ["b", "a"]


def test_a_visit_that_fails_takes_nothing_from_the_inbox(store: Store) -> None:
    store.register({"doors": "parakey.event_logs"}, {})
    store.follow("doors", ["a"])
    commit(store, "doors", None, [], failures=1)
    assert store.inbox("doors")[0] == ["a"]


# -- what a daemon has open, and others take away ---------------------------------------------------------------------


def rows(path: Path) -> list[str]:
    """The ids that another program finds in the log."""
    with closing(sqlite3.connect(path)) as db:
        return [key for [key] in db.execute("SELECT id FROM events ORDER BY seq")]


async def test_a_removed_wal_file_costs_nothing(tmp_path: Path) -> None:
    """What was committed lately is only in there; it is played into the store, and a new one is begun."""
    store = Store.open(path := tmp_path / "roundsman.db")
    await put(store, an_event(1))
    (tmp_path / "roundsman.db-wal").unlink()
    assert store.lost()
    assert store.receive([Intake("doors", [an_event(2)])], START) == [1], "and what comes is stored"
    assert not store.lost()
    assert store.recoveries == 1
    await put(store, an_event(3))
    copy = tmp_path / "after-a-kill.db"
    for end in ("", "-wal"):
        shutil.copy(f"{path}{end}", f"{copy}{end}")
    assert rows(copy) == ["id00001", "id00002", "id00003"]
    store.close()


async def test_not_where_another_program_has_begun_a_new_one(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "roundsman.db")
    await put(store, an_event(1))
    wal = tmp_path / "roundsman.db-wal"
    wal.unlink()
    wal.write_bytes(b"somebody else's")
    assert not store.recover()
    with pytest.raises(StoreError, match="was deleted or replaced"):
        store.receive([Intake("doors", [an_event(2)])], START)
    close_books(store)


@pytest.mark.parametrize("what", ["roundsman.db", "roundsman.db.lock"])
async def test_webhooks_are_refused_where_nobody_would_be_told_again(what: str, tmp_path: Path) -> None:
    store = Store.open(tmp_path / "roundsman.db")
    await put(store, an_event(1))
    (tmp_path / what).unlink()
    with pytest.raises(StoreError, match="was deleted or replaced"):
        store.receive([Intake("doors", [an_event(2)])], START)
    store.close()


async def test_one_daemon_per_store_by_whatever_hard_link(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "roundsman.db")
    os.link(tmp_path / "roundsman.db", tmp_path / "other.db")
    with pytest.raises(StoreError, match="by another name, a hard link"):
        Store.open(tmp_path / "other.db")
    await put(store, an_event(1))
    store.close()
    Store.open(tmp_path / "other.db").close()


async def test_what_is_written_as_books_is_synced_on_demand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store.open(tmp_path / "roundsman.db")
    await put(store, an_event(1))
    synced: list[str] = []
    fsync = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda fd: (fsync(fd), synced.append(Path(f"/proc/self/fd/{fd}").readlink().name))
    )
    store.sync()
    assert not store.unsynced
    store.ack("archive", 0, 1, {"size": 1}, START)
    assert store.unsynced
    store.sync()
    assert synced == ["roundsman.db-wal"] * 2
    assert not store.unsynced
    store.ack("archive", 1, 2, {"size": 1}, START)

    def fail(handle: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input"):
        store.sync()
    assert store.unsynced, "it is tried again"
    store.close()


# -- restoring --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", range(1, 9))
@pytest.mark.parametrize("call", ["replace", "unlink", "fsync"])
async def test_a_restore_that_is_cut_off_leaves_the_old_store_or_the_new_one(
    call: str, step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a crash has left the newest events in the -wal file."""
    store = Store.open(tmp_path / "origin.db")
    await put(store, an_event(1))
    store.backup(tmp_path / "backup.db")
    await put(store, an_event(2))
    path = tmp_path / "roundsman.db"
    for end in ("", "-wal"):
        shutil.copy(f"{store.path}{end}", f"{path}{end}")  # as a kill leaves it
    store.close()

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
    store = Store.open(tmp_path / "roundsman.db")
    await put(store, an_event(1))
    store.backup(tmp_path / "backup.db")
    store.close()
    (tmp_path / "roundsman.db").write_bytes(b"not SQLite at all" * 1000)
    restore(tmp_path / "roundsman.db", tmp_path / "backup.db")
    assert rows(tmp_path / "roundsman.db") == ["id00001"]
    assert (tmp_path / "roundsman.db.replaced").read_bytes().startswith(b"not SQLite")


# -- damage -----------------------------------------------------------------------------------------------------------


async def damaged(path: Path, count: int = 300) -> Path:
    """A store of some size in which bytes were flipped in the middle."""
    store = Store.open(path)
    await put(store, *(an_event(n, note="x" * 500) for n in range(count)))
    store.close()
    body = bytearray(path.read_bytes())
    for at in range(8192 * 3, len(body) - 8192, 8192):
        for n in range(at + 40, at + 90):
            body[n] ^= 0xFF
    path.write_bytes(body)
    return path


async def test_a_check_finds_damage_and_says_what_to_do(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "sound.db")
    await put(store, an_event(1))
    assert check(tmp_path / "sound.db") is None
    store.close()
    found = check(await damaged(tmp_path / "damaged.db"))
    assert found is not None
    assert "is damaged: restore it from a backup" in found


async def test_a_check_is_given_up_where_the_wal_file_grows_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = await damaged(tmp_path / "damaged.db")
    monkeypatch.setattr("roundsman.store.soundness.GROWN", -1)
    monkeypatch.setattr("roundsman.store.soundness.LOOK_EVERY", 1)
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

    monkeypatch.setattr("roundsman.store.soundness.connect", Failing)
    if found:
        assert "is damaged" in (check(tmp_path / "x.db") or "")
    else:
        with pytest.raises(GaveUp):
            check(tmp_path / "x.db")


async def test_webhooks_are_refused_by_a_store_that_is_known_to_be_damaged(store: Store) -> None:
    await put(store, an_event(1))
    store.damage = "it is damaged"
    for refused in (lambda: store.receive([Intake("doors", [an_event(2)])], START), store.writable):
        with pytest.raises(StoreError, match="it is damaged"):
            refused()


async def test_a_webhook_that_cannot_be_read_back_is_refused(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put(store, an_event(1))
    monkeypatch.setattr(store, "known", lambda name, ids: set())
    with pytest.raises(StoreError, match="cannot be read back"):
        store.receive([Intake("doors", [an_event(2)])], START)
    monkeypatch.undo()
    assert store.head() == 1, "and it is not stored either"


# -- what a memory is of ----------------------------------------------------------------------------------------------


async def test_a_memory_of_another_address_is_noted_until_somebody_decides(store: Store) -> None:
    kinds = {"doors": "parakey.event_logs"}
    store.register(kinds, {}, {"doors": "https://a.example"})
    store.register(kinds, {}, {"doors": "https://b.example"})
    assert store.moved() == {}, "nothing was read yet"
    await put(store, an_event(1))
    store.register(kinds, {}, {"doors": "https://c.example"})
    assert store.moved() == {"doors": ("https://b.example", "https://c.example")}
    store.register(kinds, {}, {"doors": "https://b.example"})
    assert store.moved() == {}, "it was taken back"
    store.register(kinds, {}, {"doors": "https://c.example"})
    assert store.accept("doors")
    assert not store.accept("doors")
    store.register(kinds, {}, {"doors": "https://d.example"})
    store.rewind("doors", {}, "https://d.example")
    store.register(kinds, {}, {"doors": "https://d.example"})
    assert store.moved() == {}


async def test_that_ids_were_pruned_is_known_although_the_first_one_is_kept(store: Store) -> None:
    """An event without a stamp keeps its id for good; those after it do not."""
    old = [replace(an_event(2), stamp=START), replace(an_event(3), stamp=START)]
    await put(store, an_event(1), *old)
    await put(store, replace(an_event(4), stamp=START + 80 * 86400), now=START + 80 * 86400)
    store.ack("archive", 0, store.head(), None, START)
    assert not store.has_pruned_ids()
    while store.prune(["archive"], START + 80 * 86400, 86400.0):
        pass
    assert store.known("doors", ["id00001", "id00002"]) == {"id00001"}
    assert store.has_pruned_ids()
