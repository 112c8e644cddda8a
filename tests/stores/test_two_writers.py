"""Two workers that write about the same sources wait for each other for a moment, and never in a circle."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from inside import visited
from postgres import Postgres
from roundsman.store import (
    KEYS_KEPT,
    Counted,
    Filter,
    Intake,
    Server,
    SourceStatus,
    Store,
    open_desk,
    open_store,
)
from roundsman.store.postgres.store import PostgresStore
from worlds import START, an_event

pytest.importorskip("psycopg", reason="needs roundsman[postgres]")

NAMES = [f"s{n}" for n in range(12)]


@pytest.fixture
async def two(postgres_server: Postgres) -> AsyncIterator[list[PostgresStore]]:
    """Workers of a database in which a circle is never resolved: each wait in it ends as a refusal."""
    name = "two_writers"
    postgres_server.run(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
    postgres_server.run(f"CREATE DATABASE {name}")
    postgres_server.run(f"ALTER DATABASE {name} SET deadlock_timeout = '10min'")
    stores: list[Any] = [await open_store(Server(postgres_server.url(name)), each) for each in ("a", "b")]
    for store in stores:
        await store.register(dict.fromkeys(NAMES, "x"), {})
    yield stores
    for store in stores:
        await store.close()


async def all_at_once(writes: list[Awaitable[Any]]) -> None:
    """None of them is refused."""
    results = await asyncio.gather(*writes, return_exceptions=True)
    assert [each for each in results if isinstance(each, BaseException)] == []


async def ids(store: Store) -> list[tuple[str, str]]:
    return sorted((event.source, event.id) for event, _ in await store.events(0, 10**9, 10**6, Filter()))


async def test_webhooks_of_the_same_sources_at_two_workers_are_all_taken(two: list[PostgresStore]) -> None:
    orders = [NAMES, NAMES[::-1]]
    for n in range(20):
        await all_at_once([
            store.receive(Intake(name, [an_event(100 * n + place, name)], ring=True), START)
            for place, (store, names) in enumerate(zip(two, orders, strict=True))
            for name in names
        ])  # fmt: skip
    assert len(await ids(two[0])) == 20 * 2 * len(NAMES)


async def test_the_same_events_by_webhooks_and_by_visits_are_logged_once_and_none_is_refused(
    two: list[PostgresStore],
) -> None:
    visits, hooks = two
    for n in range(20):
        found = {name: [an_event(10 * n + k, name) for k in range(4)] for name in NAMES}
        await all_at_once([
            *(visits.commit(name, 0, *visited({"n": n}, events)) for name, events in found.items()),
            *(
                hooks.receive(Intake(name, [event], ring=True), START)
                for name, events in reversed(found.items())
                for event in reversed(events)
            ),
        ])  # fmt: skip
    logged = await ids(visits)
    assert len(logged) == len(set(logged)) == 20 * 4 * len(NAMES)


async def again_and_again(write: Callable[[], Awaitable[Any]], until: asyncio.Future[Any]) -> None:
    while not until.done():
        await write()


async def webhooks(store: PostgresStore, rounds: int) -> None:
    """Of all sources, last one first."""
    for n in range(rounds):
        await all_at_once(
            [store.receive(Intake(name, [an_event(n, name)], ring=True), START) for name in NAMES[::-1]]
        )


STATUSES = [(name, SourceStatus(last_visit=START, visits=1)) for name in NAMES]
WRITES: dict[str, Callable[[PostgresStore], Awaitable[Any]]] = {
    "record": lambda store: store.record(STATUSES),
    "schedule": lambda store: store.schedule(STATUSES),
    "begin": lambda store: store.begin(STATUSES[:6], STATUSES[6:]),
    "register": lambda store: store.register(dict.fromkeys(NAMES, "x"), {}, dict.fromkeys(NAMES, "here")),
    "note_refused": lambda store: store.note_refused([(name, 1, "signature") for name in NAMES]),
}


@pytest.mark.parametrize("write", WRITES)
async def test_what_is_written_about_many_sources_waits_for_webhooks_of_them_in_no_circle(
    two: list[PostgresStore], write: str
) -> None:
    visits, hooks = two
    hooking = asyncio.ensure_future(webhooks(hooks, 25))
    await asyncio.gather(hooking, again_and_again(lambda: WRITES[write](visits), hooking))
    assert len(await ids(visits)) == 25 * len(NAMES)


async def test_a_configuration_without_a_change_is_registered_while_others_write_about_its_sources(
    two: list[PostgresStore], postgres_server: Postgres
) -> None:
    import psycopg

    origins = dict.fromkeys(NAMES, "here")
    await two[0].register(dict.fromkeys(NAMES, "x"), {"archive": "file"}, origins)
    url = postgres_server.url("two_writers")
    async with await psycopg.AsyncConnection.connect(url) as other:
        await other.execute("SELECT FROM sources FOR NO KEY UPDATE")
        await two[1].register(dict.fromkeys(NAMES, "x"), {"archive": "file"}, origins)


async def test_webhooks_whose_connection_ends_while_they_wait_for_a_source_are_taken_on_the_next_one(
    two: list[PostgresStore], postgres_server: Postgres
) -> None:
    import psycopg

    url = postgres_server.url("two_writers")
    waiting = "FROM pg_stat_activity WHERE datname = 'two_writers' AND wait_event_type = 'Lock'"
    async with await psycopg.AsyncConnection.connect(url) as other:
        await other.execute("SELECT FROM sources FOR NO KEY UPDATE")
        taken = [
            asyncio.ensure_future(two[0].receive(Intake(name, [an_event(1, name)]), START)) for name in NAMES
        ]
        while not postgres_server.run(f"SELECT pg_terminate_backend(pid) {waiting}"):
            await asyncio.sleep(0)
    await all_at_once(list(taken))
    assert len(await ids(two[0])) == len(NAMES)


async def test_workers_that_start_at_once_create_the_rows_of_one_configuration(
    two: list[PostgresStore],
) -> None:
    many = {f"new-{n}": "x" for n in range(3000)}
    back = dict(reversed(many.items()))
    await all_at_once([
        store.register(names, {"archive": "file"}, dict.fromkeys(names, "here"))
        for store, names in zip(two, (many, back), strict=True)
    ])  # fmt: skip
    entries = await two[0].sources()
    assert {each.record.name for each in entries} == {*many, *NAMES}
    assert {each.origin for each in entries} == {"here", None}


async def test_rings_that_are_answered_wait_for_no_ring_that_is_being_stored(
    two: list[PostgresStore],
) -> None:
    visits, hooks = two
    assert visits.fleet is not None
    fleet = visits.fleet
    await fleet.offer("source", NAMES)
    await fleet.claim("source", lambda _: NAMES)
    answered = 0

    async def answer() -> None:
        nonlocal answered
        rings = await fleet.rings()
        answered += len(rings)
        await fleet.answered(sorted(rings))

    hooking = asyncio.ensure_future(webhooks(hooks, 50))
    await asyncio.gather(hooking, again_and_again(answer, hooking))
    await answer()
    assert answered >= len(NAMES)
    assert await fleet.rings() == []


async def test_what_all_workers_write_is_written_in_no_circle_in_any_order(two: list[PostgresStore]) -> None:
    one, other = two
    counted = [Counted("source", name, START, {"event.": 1}) for name in NAMES]
    for n in range(20):
        late = START + 2 * KEYS_KEPT + n
        await all_at_once([
            one.beat(START), one.record_counts(counted),
            other.record_counts(counted), other.beat(START),
        ])  # fmt: skip
        await all_at_once([
            one.prune([], late, 1.0), one.record_counts(counted),
            other.record_counts(counted), other.prune([], late, 1.0),
        ])  # fmt: skip


async def test_ids_that_commands_and_webhooks_put_into_one_inbox_wait_in_no_circle(
    two: list[PostgresStore],
) -> None:
    desk = await open_desk(two[0].place)
    for n in range(20):
        ids = [f"job-{n}-{k}" for k in range(100)]
        await all_at_once([
            two[0].receive(Intake("s0", [], ids), START),
            two[1].receive(Intake("s0", [], ids[50:]), START),
            desk.follow("s0", ids[::-1]),
        ])  # fmt: skip
    await desk.close()
    assert len((await two[0].memory("s0")).ids) == 1000, "of 2000, a visit is given so many"
