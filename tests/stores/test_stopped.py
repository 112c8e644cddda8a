"""A writer that is stopped in a commit blocks no other one, and writers whose connections fail repeat and lose nothing."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from budgets import SIMULATIONS
from inside import visited
from postgres import Postgres, Wire
from roundsman.errors import StoreError, Unclear
from roundsman.store import Counted, Filter, Intake, Server, Store, open_desk, open_store
from worlds import START, an_event

pytest.importorskip("psycopg", reason="needs roundsman[postgres]")
TABLES = {"doors": "parakey.event_logs", "windows": "parakey.event_logs"}


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock is waited for 0.3 s."""
    from roundsman.store.postgres import connection, session

    monkeypatch.setattr(session, "LOCKED", 0.3)
    monkeypatch.setattr(
        connection, "_SETUP", connection._SETUP.replace("'lock_timeout', '2s'", "'lock_timeout', '300ms'")
    )


@asynccontextmanager
async def worker(url: str, name: str) -> AsyncIterator[Store]:
    store = await open_store(Server(url), name)
    await store.register(TABLES, {})
    try:
        yield store
    finally:
        await store.close()


async def kept(store: Any) -> list[tuple[int, str, str]]:
    return [(event.seq, event.source, event.id) for event, _ in await store.events(0, 10**6, 10**6, Filter())]


async def until_cut(wire: Wire) -> None:
    while not wire.cuts:
        await asyncio.sleep(0.005)


@pytest.mark.parametrize("place", ["before the end of the events", "before the end of the commit"])
async def test_a_writer_that_is_stopped_while_it_sends_a_commit_blocks_no_other(
    place: str,
    database: str,
    postgres_server: Postgres,
    impatient: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of the events, it holds nothing. Before the end, another one waits for as long as for any lock, and goes on."""
    if place.endswith("events"):
        monkeypatch.undo()  # a lock would be waited for longer than the write may take
    async with Wire(postgres_server.port) as wire:
        through = database.replace(f":{postgres_server.port}/", f":{wire.port}/")
        async with worker(through, "one") as one, worker(database, "two") as two:
            wire.stops_at = b"last-words" if place.endswith("events") else b"COMMIT"
            events = [an_event(n, note=f"{'x' * 9999} last-words") for n in range(20)]
            stopped = asyncio.create_task(one.receive(Intake("doors", events), START))
            await until_cut(wire)
            began = time.perf_counter()
            assert await two.receive(Intake("windows", [an_event(1, "windows")]), START) == 1
            assert time.perf_counter() - began < (1.8 if place.endswith("events") else 10)
            assert [seq for seq, _, _ in await kept(two)] == [1], "no number was lost"
            wire.goes.set()
            with pytest.raises(StoreError, match="cannot be reached"):
                await stopped
            assert await one.receive(Intake("doors", events), START) == 20
            assert [seq for seq, _, _ in await kept(two)] == list(range(1, 22))


async def test_a_command_that_is_stopped_holds_up_no_other_command(database: str) -> None:
    async with worker(database, "one") as store:
        first, second = await open_desk(Server(database)), await open_desk(Server(database))
        inside, go_on = asyncio.Event(), asyncio.Event()
        await store.commanded()

        async def work(transaction: Any) -> None:
            await transaction.run("UPDATE sources SET due = -1 WHERE name = 'doors'")
            inside.set()
            await go_on.wait()

        writing = asyncio.create_task(first._writer.write(work, durable=True))  # type: ignore[attr-defined]
        await inside.wait()
        async with asyncio.timeout(20):
            await second.resume("source", "windows")
        assert await store.commanded() == []
        go_on.set()
        await writing
        assert await store.commanded() == ["doors"]
        await first.close()
        await second.close()


async def test_events_that_are_too_many_for_one_statement_get_their_numbers_in_order(
    database: str, postgres_server: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roundsman.store.postgres.transaction.WHOLE_BYTES", 100_000)
    async with worker(database, "one") as store:
        events = [an_event(n) for n in range(1200)]
        small = [store.receive(Intake("windows", [an_event(n, "windows")]), START) for n in range(2)]
        found = await asyncio.gather(store.commit("doors", 0, *visited({"a": 1}, events)), *small)
        assert found == [1200, 1, 1]
        log = await kept(store)
        assert [seq for seq, _, _ in log] == list(range(1, 1203))
        assert [event for _, source, event in log if source == "doors"] == [event.id for event in events]
        sizes = postgres_server.run("SELECT count(*) FROM staged", database=database.rpartition("/")[2])
        assert sizes == [(0,)]


async def test_a_commit_of_which_the_server_says_nothing_counts_as_unclear_and_not_as_undone(
    database: str, postgres_server: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roundsman.store.postgres.session.OUTCOME", 0.1)
    async with (
        Wire(postgres_server.port) as wire,
        worker(database.replace(f":{postgres_server.port}/", f":{wire.port}/"), "one") as store,
    ):
        wire.cut_at, wire.passes, wire.refuses = b"COMMIT", True, True
        with pytest.raises(Unclear, match="does not say whether it was made"):
            await store.record_counts([Counted("source", "doors", START, {"poll.new": 3})])
        wire.refuses = False
        found = await store.tallies("source", "doors", "hour", START)
        assert [each.counts for each in found] == [{"poll.new": 3}], "it was made"


class Rough:
    """Failures at random moments, while two workers write."""

    def __init__(self, chance: random.Random, server: Postgres, database: str) -> None:
        self._chance, self._server, self._name = chance, server, database.rpartition("/")[2]

    async def fail(self, wire: Wire) -> None:
        chance = self._chance
        for _ in range(4):
            await asyncio.sleep(chance.uniform(0, 0.06))
            match chance.randrange(4):
                case 0:
                    wire.bytes_left = chance.randrange(30_000)
                case 1:
                    wire.cut_at, wire.passes = b"COMMIT", chance.random() < 0.5
                case 2:
                    await self._run(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
                        self._name,
                    )
                case 3:
                    await self._hold()

    async def _hold(self) -> None:
        import psycopg

        url = self._server.url(self._name)
        async with await psycopg.AsyncConnection.connect(url) as other:
            await other.execute("SELECT seq FROM log_head FOR UPDATE")
            await asyncio.sleep(0.4)

    async def _run(self, sql: str, *values: object) -> None:
        await asyncio.to_thread(self._server.run, sql, values)


async def test_with_any_failure_of_connections_and_locks_each_caller_gets_the_true_result(
    postgres_server: Postgres, impatient: None
) -> None:
    """Nothing is there twice, no number is missing, units are whole, and what was acknowledged is there."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")  # shown where it fails
    chance = random.Random(seed)
    for _ in range(max(1, SIMULATIONS // 10)):
        name = postgres_server.database()
        try:
            await _at_random(postgres_server, postgres_server.url(name), chance)
        finally:
            postgres_server.drop(name)


async def _at_random(server: Postgres, database: str, chance: random.Random) -> None:
    outcomes: dict[tuple[str, int], Any] = {}
    sizes = {
        (source, number): chance.choice([1, 1, 2, 30])
        for source in TABLES
        for number in range(chance.randrange(10, 40))
    }

    async def unit(store: Store, source: str, number: int) -> None:
        events = [an_event(number * 100 + n, source) for n in range(sizes[source, number])]
        try:
            outcomes[source, number] = await store.receive(Intake(source, events), START)
        except StoreError as exc:
            outcomes[source, number] = exc

    async def write(store: Store, source: str) -> None:
        units = []
        for number in [number for of, number in sizes if of == source]:
            units.append(asyncio.create_task(unit(store, source, number)))
            await asyncio.sleep(chance.choice([0, 0, 0, 0.02]))
        await asyncio.gather(*units)

    async with Wire(server.port) as wire, AsyncExitStack() as stack:
        through = database.replace(f":{server.port}/", f":{wire.port}/")
        doors = await stack.enter_async_context(worker(through, "one"))
        windows = await stack.enter_async_context(worker(database, "two"))
        rough = asyncio.create_task(Rough(chance, server, database).fail(wire))
        async with asyncio.timeout(60):
            await asyncio.gather(write(doors, "doors"), write(windows, "windows"))
            await rough
        wire.cut_at = wire.bytes_left = None
        assert len(outcomes) == len(sizes), "no caller waits for ever"
        found = await kept(windows)
        assert [seq for seq, _, _ in found] == list(range(1, len(found) + 1))
        assert len({(source, event) for _, source, event in found}) == len(found)
        there: dict[tuple[str, int], int] = {}
        for _, source, event in found:
            key = source, int(event[2:]) // 100
            there[key] = there.get(key, 0) + 1
        assert all(rows == sizes[each] for each, rows in there.items()), "a unit is whole"
        for each, outcome in outcomes.items():
            assert isinstance(outcome, StoreError) or outcome == sizes[each]
            unknown = "does not say" in str(outcome)
            assert unknown or (each in there) == (outcome == sizes[each]), (each, outcome)
        for source, number in sizes:
            store = doors if source == "doors" else windows
            await unit(store, source, number)
        assert all(outcomes[each] == (0 if each in there else sizes[each]) for each in sizes)
        assert len(await kept(windows)) == sum(sizes.values())
