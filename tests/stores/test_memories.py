"""What visits cost the server: those that begin at once read little, and each its own; what they write moves no index."""

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest

from inside import visited
from postgres import Postgres
from roundsman.options.server import Server
from roundsman.store import Intake, SourceStatus, Store, StoreError, open_store
from worlds import START, an_event

psycopg = pytest.importorskip("psycopg", reason="needs roundsman[postgres]")
NAMES = [f"doors-{n:02}" for n in range(40)]


@pytest.fixture
async def store(database: str) -> AsyncIterator[Store]:
    store = await open_store(Server(database))
    await store.register(dict.fromkeys(NAMES, "parakey.event_logs"), {})
    yield store
    await store.close()


async def test_visits_that_begin_at_once_read_what_they_remember_by_one_statement(
    store: Store, database: str, postgres_server: Postgres
) -> None:
    for n, name in enumerate(NAMES):
        await store.commit(name, 0, *visited({"page": n}, []))
    await store.receive(Intake(NAMES[7], follow=["job-1", "job-2"]), START)
    name = database.rpartition("/")[2]
    log = postgres_server.folder / "log"
    postgres_server.run(f"ALTER DATABASE {name} SET log_min_duration_statement = 0")
    await store.close()  # settings of a database are of new connections
    again = await open_store(Server(database))
    before = log.stat().st_size
    found = await asyncio.gather(*(again.memory(each) for each in [*NAMES, "never-seen", NAMES[0]]))
    with log.open("rb") as lines:
        lines.seek(before)
        asked = [line for line in lines if b"FROM sources WHERE name" in line]
    await again.close()
    assert [each.state for each in found] == [{"page": n} for n in range(40)] + [{}, {"page": 0}]
    assert [(list(each.ids), each.taken > 0) for each in found if each.ids] == [(["job-1", "job-2"], True)]
    assert len(asked) <= 4  # a long one may be logged as parse, bind and execute


async def test_a_read_that_fails_after_its_visits_were_cancelled_is_no_complaint_in_the_journal(
    store: Store, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from roundsman.store.postgres import connection

    monkeypatch.setattr(connection, "HANGS", 0.3)
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, about: complaints.append(about))
    async with await psycopg.AsyncConnection.connect(database) as other:
        await other.execute("LOCK TABLE sources IN ACCESS EXCLUSIVE MODE")
        visit = asyncio.create_task(store.memory(NAMES[0]))
        await asyncio.wait([visit], timeout=0.1)
        visit.cancel()
        with pytest.raises(StoreError, match="has not answered"):
            await store.memory(NAMES[1])
    gc.collect()
    await asyncio.sleep(0)
    assert complaints == []


async def test_visits_that_ask_at_once_which_events_are_logged_get_each_its_own_answer(
    store: Store, database: str, postgres_server: Postgres
) -> None:
    for n, name in enumerate(NAMES[:4]):
        await store.commit(name, 0, *visited({"page": n}, [an_event(n, name), an_event(9, name)]))
    one, two, nine = (an_event(n).id for n in (1, 2, 9))
    questions = [(name, [one, two, "other"]) for name in NAMES] + [("never-seen", [one]), (NAMES[1], [])]
    name = database.rpartition("/")[2]
    log = postgres_server.folder / "log"
    postgres_server.run(f"ALTER DATABASE {name} SET log_min_duration_statement = 0")
    await store.close()
    again = await open_store(Server(database))
    before = log.stat().st_size
    found = await asyncio.gather(*(again.known(*each) for each in questions))
    many = await again.known(NAMES[2], [nine, *(f"id-{n}" for n in range(3000))])
    with log.open("rb") as lines:
        lines.seek(before)
        asked = [line for line in lines if b"JOIN LATERAL" in line]
    await again.close()
    assert found == [set(), {one}, {two}, *(set() for _ in NAMES[3:]), set(), set()]
    assert many == {nine}
    assert len(asked) <= 9  # a long one may be logged as parse, bind and execute


async def test_a_question_that_cannot_be_asked_spoils_no_other_one(store: Store) -> None:
    await store.commit(NAMES[0], 0, *visited({}, [an_event(1, NAMES[0])]))
    wrong: Any = [an_event(1).id, 5]
    found = await asyncio.gather(
        store.known(NAMES[0], [an_event(1).id]),
        store.known(NAMES[1], ["half a pair: \ud800"]),
        store.known(NAMES[2], wrong),
        store.known(NAMES[0], [an_event(1).id, "other"]),
        return_exceptions=True,
    )
    assert [found[0], found[3]] == [{an_event(1).id}] * 2
    assert all(isinstance(each, Exception) for each in found[1:3])


async def test_a_visit_that_is_cancelled_takes_no_other_ones_memory_along(store: Store) -> None:
    await store.commit(NAMES[1], 0, *visited({"page": 1}, []))
    gone, kept = (asyncio.ensure_future(store.memory(name)) for name in NAMES[:2])
    await asyncio.sleep(0)
    gone.cancel()
    with suppress(asyncio.CancelledError):
        await gone
    assert (await kept).state == {"page": 1}


async def test_each_visit_learns_that_the_store_is_away_and_later_ones_that_it_is_back(
    store: Store, postgres_server: Postgres
) -> None:
    postgres_server.stop()
    found = await asyncio.gather(*(store.memory(name) for name in NAMES), return_exceptions=True)
    postgres_server.start()
    assert all(isinstance(each, StoreError) and "cannot be reached" in str(each) for each in found)
    assert (await store.memory(NAMES[0])).revision == 0


async def test_visits_that_are_late_write_when_they_are_due_next_by_few_statements(
    store: Store, database: str, postgres_server: Postgres
) -> None:
    await store.schedule([(name, SourceStatus(due=START)) for name in NAMES])
    before = await commits(postgres_server, database)
    calls = [
        asyncio.ensure_future(store.schedule([(name, SourceStatus(due=START + n))]))
        for n, name in enumerate(NAMES)
    ]
    await asyncio.sleep(0)
    calls[3].cancel()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [each for each in results if each is not None] == [results[3]]
    await store.schedule([(NAMES[0], SourceStatus(due=START + 100))])
    due = {row.name: row.status.due for row in await store.statuses()}
    assert [due[name] - START for name in NAMES] == [100, *range(1, 40)], "others do not end with one"
    assert await commits(postgres_server, database) - before <= 4


async def commits(postgres_server: Postgres, database: str) -> int:
    """Transactions of the store that wrote something."""
    [[writes]] = postgres_server.run("SELECT max(writes) FROM workers", database=database.rpartition("/")[2])
    return int(writes)


async def test_the_plan_of_a_visit_that_was_cancelled_is_not_written_over_that_of_the_next_one(
    store: Store, database: str
) -> None:
    import psycopg

    async with await psycopg.AsyncConnection.connect(database) as other:
        await other.execute("SELECT FROM sources WHERE name = %s FOR UPDATE", (NAMES[0],))
        writing = asyncio.ensure_future(store.schedule([(NAMES[0], SourceStatus(due=START))]))
        for _ in range(5):
            await asyncio.sleep(0)  # it waits for the lock
        cancelled = asyncio.ensure_future(store.schedule([(NAMES[1], SourceStatus(due=START + 1))]))
        await asyncio.sleep(0)
        cancelled.cancel()
        next_one = asyncio.ensure_future(store.begin([(NAMES[1], SourceStatus(due=START + 50))]))
        await asyncio.sleep(0)
    await asyncio.gather(writing, next_one)
    await store.schedule([(NAMES[0], SourceStatus(due=START))])  # all that waited is written now
    assert {row.name: row.status.due for row in await store.statuses()}[NAMES[1]] == START + 50


async def test_each_late_visit_learns_that_the_store_is_away(store: Store, postgres_server: Postgres) -> None:
    postgres_server.stop()
    calls = (store.schedule([(name, SourceStatus(due=START + 1))]) for name in NAMES)
    found = await asyncio.gather(*calls, return_exceptions=True)
    postgres_server.start()
    assert all(isinstance(each, StoreError) and "cannot be reached" in str(each) for each in found)
    await store.schedule([(NAMES[0], SourceStatus(due=START + 2))])
    assert {row.name: row.status.due for row in await store.statuses()}[NAMES[0]] == START + 2


async def test_a_visit_that_finds_nothing_writes_into_no_index(
    store: Store, database: str, postgres_server: Postgres
) -> None:
    for n in range(20):
        await store.begin([(name, SourceStatus(due=START + n)) for name in NAMES])
        await store.record(
            [(name, SourceStatus(due=START + n, last_visit=START, visits=n)) for name in NAMES]
        )
    await store.close()  # then the server counts what was done
    sql = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'sources'"
    for _ in range(200):
        [[updates, within]] = postgres_server.run(sql, database=database.rpartition("/")[2])
        if updates >= 1600:
            break
        await asyncio.sleep(0.05)
    assert updates >= 1600
    assert within >= 0.9 * updates
