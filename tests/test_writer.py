"""The one writer of a store in SQLite: a caller gets the true result also if the disk, other processes or callers fail.

`stores/test_conformance.py` has what every store promises.
"""

import asyncio
import json
import os
import random
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings, strategies as st

from budgets import CUTS, SIMULATIONS
from conftest import need
from inside import Fault, done, faulty, hanging, pages_left, visited
from power.disk import library
from roundsman.errors import Conflict, StoreError
from roundsman.store.sqlite.store import SqliteStore
from worlds import START, an_event

FULL = "SQLITE_FULL"
QUOTA = "SQLITE_IOERR_WRITE"
READ = "SQLITE_IOERR_READ"
SYNC = "SQLITE_IOERR_FSYNC"


async def opened(path: Path) -> SqliteStore:
    store = SqliteStore.open(path)
    await store.register({"doors": "parakey.event_logs"}, {"archive": "file"})
    return store


@asynccontextmanager
async def a_store(path: Path) -> AsyncIterator[SqliteStore]:
    store = await opened(path)
    try:
        yield store
    finally:
        await store.close()


def ids(name: str, count: int) -> list[str]:
    return [f"{name}/{n}" for n in range(count)]


def unit(store: SqliteStore, name: str, rows: int = 1) -> "asyncio.Task[int]":
    """A durable unit that writes so many rows of this name."""
    return asyncio.create_task(store.follow("doors", ids(name, rows)), name=name)


async def heard(units: Sequence["asyncio.Task[int]"]) -> dict[str, Any]:
    """What the caller of each unit got: its result or its error. It fails where one gets nothing."""
    ended, waiting = await asyncio.wait(units, timeout=20)
    assert not waiting, "no caller waits for ever"
    return {each.get_name(): _outcome(each) for each in ended}


def _outcome(task: "asyncio.Task[int]") -> Any:
    if task.cancelled():
        return "cancelled"
    return task.exception() or task.result()


def kept(path: Path) -> dict[str, int]:
    """Rows of each unit that a connection of its own finds in a store, which is sound."""
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        found: dict[str, int] = {}
        for [each] in db.execute("SELECT id FROM inbox"):
            name = each.partition("/")[0]
            found[name] = found.get(name, 0) + 1
        return found


def kept_elsewhere(path: Path) -> dict[str, int]:
    """As `kept`, by another process that opens the store as a daemon does."""
    script = """
        import asyncio, sys
        from pathlib import Path
        from roundsman.store.sqlite.store import SqliteStore
        store = SqliteStore.open(Path(sys.argv[1]))
        assert asyncio.run(store.check()) is None
        asyncio.run(store.close())
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script), str(path)], check=True)
    return kept(path)


def acknowledged(outcomes: dict[str, Any]) -> dict[str, int]:
    return {name: found for name, found in outcomes.items() if isinstance(found, int)}


# -- no space ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("large", [0, 3, 6])
@pytest.mark.parametrize("fault", [Fault(FULL), Fault(FULL, undoes=True), Fault(QUOTA)])
async def test_a_small_unit_is_not_refused_for_a_large_one_beside_it(
    fault: Fault, large: int, tmp_path: Path
) -> None:
    """The disk has space for 50 rows a transaction; one of seven units has 4,000."""
    async with a_store(tmp_path / "roundsman.db") as store:
        with faulty(store, lambda sql, rows: fault if sql == "COMMIT" and rows > 50 else None):
            units = [unit(store, f"u{n}", 3000 if n == large else 5) for n in range(7)]
            outcomes = await heard(units)
        refused = outcomes.pop(f"u{large}")
        assert isinstance(refused, StoreError)
        assert "the disk is full" in str(refused) or "the disk reports an error" in str(refused)
        assert outcomes == {f"u{n}": 5 for n in range(7) if n != large}
        assert await store.follow("doors", ids("next", 2)) == 2
    assert kept_elsewhere(store.path) == {**outcomes, "next": 2}


async def test_the_transactions_of_a_disk_with_little_space_grow_again(tmp_path: Path) -> None:
    """Each further one costs an fsync."""
    async with a_store(tmp_path / "roundsman.db") as store:
        commits = 0

        def fault(sql: str, rows: int) -> Fault | None:
            nonlocal commits
            commits += sql == "COMMIT"
            return Fault(FULL) if sql == "COMMIT" and rows > 50 else None

        with faulty(store, fault):
            await heard([unit(store, f"a{n}", 60 if n == 0 else 1) for n in range(40)])
            commits = 0
            assert len(acknowledged(await heard([unit(store, f"b{n}") for n in range(40)]))) == 40
        assert commits <= 3


async def test_on_a_full_disk_every_unit_is_refused_and_later_ones_are_tried(tmp_path: Path) -> None:
    async with a_store(tmp_path / "roundsman.db") as store:
        with faulty(store, lambda sql, rows: Fault(FULL) if sql == "COMMIT" else None):
            outcomes = await heard([unit(store, f"u{n}") for n in range(20)])
            assert {str(each) for each in outcomes.values()} == {
                f"{store.path} cannot be written: the disk is full"
            }
        assert await store.follow("doors", ids("next", 2)) == 2
    assert kept_elsewhere(store.path) == {"next": 2}


async def test_a_unit_that_needs_more_pages_than_there_are_is_refused_and_the_others_are_written(
    tmp_path: Path,
) -> None:
    """By SQLite's own limit, which it meets in the middle of a statement."""
    async with a_store(tmp_path / "roundsman.db") as store:
        with pages_left(store, 8):
            outcomes = await heard(
                [unit(store, "a", 20), unit(store, "huge", 9000), unit(store, "b", 20), unit(store, "c", 20)]
            )
        assert "the disk is full" in str(outcomes.pop("huge"))
        assert outcomes == {"a": 20, "b": 20, "c": 20}
        assert await store.follow("doors", ids("huge", 9000)) == 9000
    assert kept_elsewhere(store.path) == {**outcomes, "huge": 9000}


async def test_a_visit_on_a_full_disk_leaves_nothing_of_itself(tmp_path: Path) -> None:
    """It is inserted in pieces; its last one does not fit."""
    async with a_store(tmp_path / "roundsman.db") as store:
        events = [an_event(n, note="x" * 300) for n in range(1000)]
        with pages_left(store, 20):
            visit = asyncio.create_task(store.commit("doors", 0, *visited({"at": 1}, events)))
            small = unit(store, "small", 3)
            outcomes = await heard([visit, small])
        assert "the disk is full" in str(outcomes[visit.get_name()])
        assert outcomes["small"] == 3
        assert await store.head() == 0
        assert (await store.memory("doors")).state == {}
        assert await store.commit("doors", 0, *visited({"at": 2}, events)) == 1000


# -- errors ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [READ, SYNC])
async def test_an_error_at_commit_reaches_every_unit_of_the_transaction(code: str, tmp_path: Path) -> None:
    async with a_store(tmp_path / "roundsman.db") as store:
        failures = 1

        def fault(sql: str, rows: int) -> Fault | None:
            nonlocal failures
            if sql != "COMMIT" or not failures:
                return None
            failures -= 1
            return Fault(code)

        with faulty(store, fault):
            outcomes = await heard([unit(store, f"u{n}") for n in range(5)])
            assert all("the disk reports an error" in str(each) for each in outcomes.values())
            assert await store.follow("doors", ids("next", 2)) == 2
    assert kept_elsewhere(store.path) == {"next": 2}


async def test_a_unit_is_not_refused_for_the_space_that_one_takes_which_was_undone(tmp_path: Path) -> None:
    """SQLite writes a page, too, that was changed and changed back."""
    async with a_store(tmp_path / "roundsman.db") as store:
        with faulty(store, lambda sql, rows: Fault(FULL) if sql == "COMMIT" and rows > 50 else None):
            small = unit(store, "small", 3)
            events: list[Any] = [an_event(n) for n in range(300)]
            events[-1] = msgspec.structs.replace(events[-1], body=set())
            odd = asyncio.create_task(store.commit("doors", 0, *visited({"at": 1}, events)), name="odd")
            outcomes = await heard([small, odd])
        assert isinstance(outcomes.pop("odd"), sqlite3.Error)
        assert outcomes == {"small": 3}


@pytest.mark.parametrize("undoes", [False, True])
@pytest.mark.parametrize("place", [0, 2, 4])
async def test_an_error_in_the_middle_of_a_transaction_reaches_its_unit_alone(
    place: int, undoes: bool, tmp_path: Path
) -> None:
    async with a_store(tmp_path / "roundsman.db") as store:
        inserts = 0

        def fault(sql: str, rows: int) -> Fault | None:
            nonlocal inserts
            if "INTO inbox" not in sql:
                return None
            inserts += 1
            return Fault(READ, undoes) if inserts == place + 1 else None

        with faulty(store, fault):
            outcomes = await heard([unit(store, f"u{n}", 3) for n in range(5)])
        assert "the disk reports an error" in str(outcomes.pop(f"u{place}"))
        assert outcomes == {f"u{n}": 3 for n in range(5) if n != place}
    assert kept_elsewhere(store.path) == outcomes


async def test_nothing_stays_of_a_unit_that_cannot_be_undone_alone(tmp_path: Path) -> None:
    """The statement that would undo it fails, too: its transaction is undone, and the others are tried again."""
    async with a_store(tmp_path / "roundsman.db") as store:
        releases = 0

        def fault(sql: str, rows: int) -> Fault | None:
            nonlocal releases
            releases += sql == "RELEASE unit"
            return Fault(READ) if sql == "RELEASE unit" and releases in {2, 3} else None

        with faulty(store, fault):
            outcomes = await heard([unit(store, f"u{n}", 3) for n in range(5)])
        assert [name for name, each in outcomes.items() if isinstance(each, StoreError)] == ["u2"]
    assert kept_elsewhere(store.path) == acknowledged(outcomes)


@pytest.mark.parametrize("place", [0, 2, 4])
async def test_a_unit_that_raises_fails_alone(place: int, tmp_path: Path) -> None:
    """A visit that is void, and one whose last event cannot be stored, after two pieces of it."""
    async with a_store(tmp_path / "roundsman.db") as store:
        good = [unit(store, f"u{n}", 3) for n in range(place)]
        void = asyncio.create_task(store.commit("doors", 7, *visited({"at": 1}, [an_event(1)])))
        events: list[Any] = [an_event(n) for n in range(401)]
        events[-1] = msgspec.structs.replace(events[-1], body=set())
        odd = asyncio.create_task(store.commit("doors", 0, *visited({"at": 1}, events)))
        good += [unit(store, f"u{n}", 3) for n in range(place, 5)]
        outcomes = await heard([*good, void, odd])
        assert isinstance(outcomes.pop(void.get_name()), Conflict)
        assert isinstance(outcomes.pop(odd.get_name()), sqlite3.Error)
        assert outcomes == {f"u{n}": 3 for n in range(5)}
        assert await store.head() == 0
        assert (await store.memory("doors")).state == {}
    assert kept_elsewhere(store.path) == outcomes


# -- other processes ---------------------------------------------------------------------------------------------------


@contextmanager
def locked_elsewhere(path: Path) -> Iterator[None]:
    """Another process is in the middle of a write; it takes back what it wrote."""
    script = """
        import sqlite3, sys
        db = sqlite3.connect(sys.argv[1], isolation_level=None)
        db.execute("BEGIN IMMEDIATE")
        db.execute("INSERT INTO inbox (source, id) VALUES (1, 'theirs/0')")
        print(flush=True)
        sys.stdin.read()
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield


async def test_a_lock_that_is_held_for_too_long_refuses_only_units_that_need_it(tmp_path: Path) -> None:
    """Work that is done between two transactions needs no lock. What comes while the others wait is tried once more."""
    async with a_store(tmp_path / "roundsman.db") as store:
        with locked_elsewhere(store.path):
            first = unit(store, "first")
            wish = asyncio.create_task(store.commanded())
            relaxed = asyncio.create_task(store.ack("archive", 0, 0, None, START), name="ack")
            await asyncio.sleep(0.05)
            later = unit(store, "later", 2)
            outcomes = await heard([first, relaxed])
        assert all("is locked by another program" in str(each) for each in outcomes.values())
        assert await heard([later]) == {"later": 2}
        assert (await heard([wish])).popitem()[1] == []
    assert kept_elsewhere(store.path) == {"later": 2}


# -- cancelled callers, and the end ------------------------------------------------------------------------------------


async def test_a_caller_may_go_at_any_moment_and_its_unit_is_whole_or_not_there(tmp_path: Path) -> None:
    """Before its unit begins nothing is written; during its commit everything is; the others get their results."""
    async with a_store(tmp_path / "roundsman.db") as store:
        with hanging(store) as disk:
            during, other = unit(store, "during", 3), unit(store, "other", 3)
            while not disk.begun:
                await asyncio.sleep(0)
            before, last = unit(store, "before", 3), unit(store, "last", 3)
            await asyncio.sleep(0)
            for each in (during, before):
                each.cancel()
            await asyncio.sleep(0)
            disk.let(10)
            outcomes = await heard([during, before, other, last])
        assert outcomes == {"during": "cancelled", "before": "cancelled", "other": 3, "last": 3}
    assert kept_elsewhere(store.path) == {"during": 3, "other": 3, "last": 3}


async def test_a_caller_that_goes_between_two_pieces_of_its_unit_leaves_all_of_it(tmp_path: Path) -> None:
    async with a_store(tmp_path / "roundsman.db") as store:
        events = [an_event(n) for n in range(1000)]
        visit = asyncio.create_task(store.commit("doors", 0, *visited({"at": 1}, events)))
        small = unit(store, "small", 3)
        for _ in range(4):
            await asyncio.sleep(0)
        visit.cancel()
        assert await heard([visit, small]) == {visit.get_name(): "cancelled", "small": 3}
        assert await store.head() in {0, 1000}
        assert (await store.memory("doors")).state == ({"at": 1} if await store.head() else {})


async def test_a_stop_writes_what_waits_and_refuses_what_comes(tmp_path: Path) -> None:
    store = await opened(tmp_path / "roundsman.db")
    with hanging(store) as disk:
        units = [unit(store, "first")]
        while not disk.begun:
            await asyncio.sleep(0)
        units += [unit(store, f"u{n}") for n in range(5)]
        await asyncio.sleep(0)
        closing_it = asyncio.create_task(store.close())
        await asyncio.sleep(0)
        late = unit(store, "late")
        assert "is closed" in str((await heard([late]))["late"])
        disk.let(10)
        outcomes = await heard(units)
        await closing_it
    assert outcomes == {"first": 1} | {f"u{n}": 1 for n in range(5)}
    assert kept_elsewhere(store.path) == outcomes


async def test_an_event_loop_that_ends_in_the_middle_of_a_commit_reports_no_success(
    tmp_path: Path,
) -> None:
    """The writer's own task is cancelled, and what comes after it waits for the commit that is under way."""
    async with a_store(tmp_path / "roundsman.db") as store:
        with hanging(store) as disk:
            under_way = [unit(store, "a"), unit(store, "b")]
            while not disk.begun:
                await asyncio.sleep(0)
            waiting = unit(store, "waiting")
            await asyncio.sleep(0)
            [writing] = [task for task in asyncio.all_tasks() if task.get_name() == "store"]
            writing.cancel()
            outcomes = await heard([*under_way, waiting])
            assert all("is closed" in str(each) for each in outcomes.values())
            after = unit(store, "after")
            for _ in range(5):
                await asyncio.sleep(0)
            disk.let(10)
            assert await heard([after]) == {"after": 1}
    assert kept_elsewhere(store.path).items() >= {"after": 1}.items()
    assert "waiting" not in kept(store.path)


# -- at random ---------------------------------------------------------------------------------------------------------


@settings(max_examples=SIMULATIONS, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_with_any_failure_each_caller_gets_the_true_result(seed: int) -> None:
    """Units of any size, callers that go, and errors at any statement: the store has what was acknowledged, whole."""
    chance = random.Random(seed)
    with TemporaryDirectory() as folder:
        asyncio.run(_at_random(Path(folder) / "roundsman.db", chance))


async def _at_random(path: Path, chance: random.Random) -> None:
    room = chance.choice([1, 10, 100, 10**6])
    often = chance.choice([0.0, 0.02, 0.2])
    undoes = chance.random() < 0.5

    def fault(sql: str, rows: int) -> Fault | None:
        if rows > room and (sql == "COMMIT" or chance.random() < 0.1):
            return Fault(chance.choice([FULL, QUOTA]), undoes)
        if chance.random() < often and not sql.startswith("PRAGMA"):
            return Fault(chance.choice([READ, SYNC]), undoes)
        return None

    async with a_store(path) as store:
        sizes: dict[str, int] = {}
        units: list[asyncio.Task[int]] = []
        with faulty(store, fault):
            for number in range(chance.randrange(1, 25)):
                sizes[f"u{number}"] = chance.choice([1, 2, 30, 300])
                units.append(unit(store, f"u{number}", sizes[f"u{number}"]))
                for _ in range(chance.choice([0, 0, 0, 1, 5])):
                    await asyncio.sleep(0)
                if chance.random() < 0.1:
                    chance.choice(units).cancel()
            outcomes = await heard(units)
        for name, outcome in outcomes.items():
            assert outcome in {"cancelled", sizes[name]} or isinstance(outcome, StoreError)
            if often == 0 and sizes[name] <= room:
                assert not isinstance(outcome, StoreError), "it would have fitted alone"
        assert await store.follow("doors", ids("next", 2)) == 2
    found = kept(path)
    assert found.items() >= acknowledged(outcomes).items()
    cancelled = {name for name, outcome in outcomes.items() if outcome == "cancelled"}
    assert found.keys() <= {*acknowledged(outcomes), *cancelled, "next"}
    assert all(rows == {**sizes, "next": 2}[name] for name, rows in found.items())


# -- disks that fail, in a process of their own ------------------------------------------------------------------------

SCRIPT = """
    import asyncio, json, os, resource, signal, sys
    from pathlib import Path
    from roundsman.errors import StoreError
    from roundsman.store.sqlite.store import SqliteStore

    async def main(path, limit):
        store = SqliteStore.open(path)
        await store.register({"doors": "parakey.event_logs"}, {"archive": "file"})
        if limit:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

        async def unit(name, rows):
            try:
                done = await store.follow("doors", [f"{name}/{n}" for n in range(rows)])
            except StoreError as exc:
                done = str(exc)
            print(json.dumps([name, done]), flush=True)

        for round in range(3):
            await asyncio.gather(*(unit(f"r{round}u{n}", 40000 if n == round else 5) for n in range(6)))
        os._exit(0)  # as a kill would end it: closing would write, too

    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
"""


def on_a_disk(path: Path, *, limit: int = 0, **environ: str) -> dict[str, Any]:
    """What the callers of 18 units get in a process whose disk fails."""
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SCRIPT), str(path), str(limit)],
        env={**os.environ, **environ},
        capture_output=True,
        timeout=60,
        check=False,
    )
    return dict(json.loads(line) for line in ran.stdout.splitlines())


def test_a_limit_of_the_files_sizes_refuses_only_what_does_not_fit(tmp_path: Path) -> None:
    """A quota is such a limit; SQLite reports it as an error of writing."""
    outcomes = on_a_disk(tmp_path / "roundsman.db", limit=900_000)
    assert len(outcomes) == 18
    large = {f"r{n}u{n}" for n in range(3)}
    assert acknowledged(outcomes) == {name: 5 for name in outcomes if name not in large}
    assert all("the disk reports an error" in outcomes[name] for name in large)
    assert kept_elsewhere(tmp_path / "roundsman.db") == acknowledged(outcomes)


@pytest.mark.parametrize("call", ["pwrite", "fdatasync"])
def test_a_disk_that_breaks_at_any_call_acknowledges_nothing_that_is_not_written(
    call: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """At a write, what was refused is not there. What could only not be synced may be, but as a whole."""
    recorder = library(tmp_path_factory.mktemp("recorder"))
    need(recorder is not None, "needs a C compiler: apt install gcc libc6-dev")
    seed = random.randrange(2**32)
    print(f"seed {seed}")  # shown where it fails
    chance = random.Random(seed)
    for number in range(CUTS // 5):
        (folder := tmp_path / str(number)).mkdir()
        path = folder / "roundsman.db"
        done(done(opened(path)).close())
        at = chance.randrange(1, 2600 if call == "pwrite" else 10)
        outcomes = on_a_disk(path, LD_PRELOAD=str(recorder), DISK_ROOT=str(folder), DISK_FAIL=f"{call}:{at}")
        found = kept_elsewhere(path)
        assert len(outcomes) in {0, 18}, "it does not start, or each caller gets a result"
        assert found.items() >= acknowledged(outcomes).items()
        extra = found.keys() - acknowledged(outcomes)
        assert not extra or call == "fdatasync"
        assert all(found[name] in {5, 40000} for name in extra)
