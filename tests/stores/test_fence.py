"""A worker whose session has ended writes nothing more, at any moment that it was stopped."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from inside import visited
from postgres import Postgres
from roundsman.errors import StoreError
from roundsman.store import Filter, Intake, Server, Store, copy, open_desk, open_store
from roundsman.store.fleet import Fleet
from roundsman.store.postgres import session
from worlds import START, an_event

pytest.importorskip("psycopg", reason="needs roundsman[postgres]")


@asynccontextmanager
async def worker(url: str, name: str) -> AsyncIterator[tuple[Any, Fleet]]:
    store: Store = await open_store(Server(url), name)
    assert store.fleet is not None
    try:
        await store.register({"doors": "parakey.event_logs"}, {"archive": "file"})
        await store.fleet.offer("source", ["doors"])
        await store.fleet.offer("sink", ["archive"])
        yield store, store.fleet
    finally:
        await store.close()


async def claim(fleet: Fleet) -> set[str]:
    await fleet.claim("source", lambda holders: [name for name, holder in holders.items() if holder is None])
    return await fleet.held("source")


async def test_after_the_end_of_its_session_a_worker_writes_nothing(database: str) -> None:
    async with worker(database, "one") as (one, its), worker(database, "two") as (two, others):
        assert await claim(its) == {"doors"}
        assert await claim(others) == set(), "it is held"
        await others.end([its.number])
        assert await claim(others) == {"doors"}
        late = [
            lambda: one.commit("doors", 0, *visited({"n": 1}, [an_event(1)])),
            lambda: one.receive(Intake("doors", [an_event(2)]), START),
            lambda: one.ack("archive", 0, 0, {"offset": 1}, START),
            lambda: one.append_notices("doors", [an_event(3)], START),
            lambda: one.begin([]),
            lambda: its.claim("source", lambda _: ["doors"]),
        ]
        for write in late:
            with pytest.raises(StoreError, match="another worker has ended the session of this one"):
                await write()
        assert await its.beat([], "") == []
        assert its.ended
        assert [each.name for each in await others.beat(["archive"], "")] == ["two"]
        assert await two.events(0, 100, 100, Filter()) == []
        assert (await two.cursor("archive"))[1] is None
        assert await others.held("source") == {"doors"}


async def test_a_worker_that_was_stopped_in_a_transaction_holds_up_no_other_and_commits_nothing(
    database: str,
) -> None:
    async with worker(database, "one") as (one, its), worker(database, "two") as (two, others):
        await claim(its)
        inside, go_on = asyncio.Event(), asyncio.Event()

        async def work(transaction: Any) -> None:
            await transaction.run("UPDATE sources SET polls = 77 WHERE name = 'doors'")
            inside.set()
            await go_on.wait()

        writing = asyncio.create_task(one._writer.write(work, durable=True))
        await inside.wait()  # as if by SIGSTOP: its transaction is open, and locks its rows
        await others.end([its.number])
        assert await claim(others) == {"doors"}
        await two.commit("doors", 0, *visited({"n": 2}, [an_event(2)]))
        go_on.set()
        with pytest.raises(StoreError):
            await writing
        [entry] = await two.sources(["doors"])
        assert entry.status.visits != 77
        with pytest.raises(StoreError, match="has ended the session"):
            await one.commit("doors", 0, *visited({"n": 1}, [an_event(1)]))


async def test_a_worker_that_still_starts_does_not_count_as_silent(database: str) -> None:
    async with worker(database, "one") as (_, its), worker(database, "two") as (_, others):
        assert [each.name for each in await others.beat([], "")] == ["two"]
        assert [each.name for each in await its.beat([], "")] == ["one", "two"]


async def test_a_worker_that_was_killed_before_its_first_beat_leaves_nothing_although_its_machine_is_gone(
    database: str, postgres_server: Postgres
) -> None:
    name = database.rpartition("/")[2]

    def there() -> list[Any]:
        return postgres_server.run(
            "SELECT w.host, w.ended IS NULL, b.worker IS NULL FROM workers w LEFT JOIN beats b ON b.worker = w.id "
            "WHERE w.host IN ('gone', 'slow', 'here') ORDER BY w.id",
            database=name,
        )

    async with (
        worker(database, "one") as (one, _),
        worker(database, "two") as (two, _),
        worker(database, "three"),
    ):
        postgres_server.run(
            "UPDATE workers w SET host = CASE b.name WHEN 'one' THEN 'gone' WHEN 'two' THEN 'slow' ELSE 'here' END, "
            "started = w.started - CASE b.name WHEN 'two' THEN 60 ELSE 7200 END FROM beats b WHERE b.worker = w.id",
            database=name,
        )
        for each in (one, two):
            pid = each._session.connection.info.backend_pid
            postgres_server.run(f"SELECT pg_terminate_backend({pid}, 5000)", database=name)
        async with worker(database, "four"):
            # One that has begun a minute ago may be about to reach the server again; one that is connected still starts.
            assert there() == [("gone", False, True), ("slow", True, False), ("here", True, False)]


async def test_a_second_worker_with_the_name_of_one_that_runs_is_refused(
    database: str, postgres_server: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "WAITS", 0.2)
    said = r"is in use by roundsman, pid .*, with the same name, one: give each worker a name of its own"

    async def refused() -> None:
        with pytest.raises(StoreError, match=said):
            await open_store(Server(database), "one")

    async with worker(database, "one") as (one, its):
        await refused()  # it still starts
        await its.beat([], "")
        await refused()
        # On another machine, also while it is not connected: it may be about to reach the server again.
        name = database.rpartition("/")[2]
        postgres_server.run("UPDATE workers SET host = 'elsewhere'", database=name)
        await one._session.connection.close()
        await refused()
        postgres_server.run("UPDATE beats SET beat = beat - 21", database=name)
        async with worker(database, "one"):
            pass
    async with worker(database, "one") as (one, its):
        await its.beat([], "")
        await one._session.connection.close()  # as if its process, on this machine, were killed
        async with worker(database, "one") as (_, others):
            assert [each.number for each in await others.beat([], "")] == [others.number]


async def test_a_worker_that_leaves_gives_everything_back_and_once_waits_for_its_end(
    database: str, tmp_path: Path
) -> None:
    async with worker(database, "two") as (_, others):
        async with worker(database, "one") as (_, its):
            await claim(its)
            said = (
                r"in use by 2 workers \(roundsman, pid .*\): `roundsman once` is refused while a worker runs"
            )
            with pytest.raises(StoreError, match=said):
                await open_store(Server(database))
            with pytest.raises(StoreError, match=r"in use by 2 workers \(.*\): stop the daemon first"):
                await asyncio.to_thread(copy, Server(database), tmp_path / "a.db", lambda _table, _rows: None)
        assert await others.free("source") == {"doors"}
        assert [each.name for each in await others.beat([], "")] == ["two"]


async def test_a_newer_version_ends_the_sessions_of_older_workers_and_an_older_one_is_refused(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from roundsman.store.postgres import schema

    older = schema.STEPS
    async with worker(database, "one") as (one, _):
        monkeypatch.setattr(schema, "STEPS", {**older, "999_next": ["CREATE TABLE next_one ()"]})
        async with worker(database, "two") as (two, _):
            with pytest.raises(StoreError, match="has ended the session"):
                await one.receive(Intake("doors", [an_event(1)]), START)
            await two.receive(Intake("doors", [an_event(2)]), START)
            monkeypatch.setattr(schema, "STEPS", older)
            with pytest.raises(StoreError, match="was written by a newer roundsman"):
                await open_store(Server(database), "one")
            assert len(await two.events(0, 9, 9, Filter())) == 1


async def test_the_end_of_a_session_ends_no_connection_of_a_store_in_another_database(
    database: str, postgres_server: Postgres
) -> None:
    """The schema "public" has the same number in every database, and sessions are counted from one in each."""
    name = postgres_server.database()
    try:
        async with (
            worker(database, "one") as (_, its),
            worker(database, "two") as (_, others),
            worker(postgres_server.url(name), "one") as (strange, theirs),
        ):
            assert theirs.number == its.number
            before = strange._session.connection.info.backend_pid
            await others.end([its.number])
            await strange.begin([])
            assert strange._session.connection.info.backend_pid == before
    finally:
        postgres_server.drop(name)


async def test_what_an_ended_session_still_holds_is_free_after_the_next_start(
    database: str, postgres_server: Postgres
) -> None:
    """A migration ends the sessions of an older version; a process that was killed does not give back what it held."""
    async with worker(database, "one") as (_, its):
        await claim(its)
        postgres_server.run("UPDATE workers SET ended = 1", database=database.rpartition("/")[2])
        async with worker(database, "two") as (_, others):
            assert await claim(others) == {"doors"}


async def test_a_ring_that_is_committed_later_has_a_larger_number(
    database: str, postgres_server: Postgres
) -> None:
    """Else it would be deleted with an earlier one that was answered, and its visit would not be made."""
    import psycopg

    async with worker(database, "one") as (one, its):
        await claim(its)
        ring = Intake("doors", [], ring=True)
        await one.receive(ring, START)
        async with await psycopg.AsyncConnection.connect(database) as other:
            await other.execute("SELECT n FROM rings FOR UPDATE")
            late = asyncio.create_task(one.receive(ring, START))
            waits = "SELECT count(*)::int FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            while postgres_server.run(waits) == [(0,)]:
                await asyncio.sleep(0.01)
            done = await other.execute("UPDATE rings SET n = nextval('ring_numbers') RETURNING n")
            [number] = await done.fetchone() or [None]
        await late
        [last] = await its.rings()
        assert last.number > number
        await its.answered([last._replace(number=number)])
        assert await its.rings() == [last]


async def test_a_worker_with_a_role_of_its_own_takes_over_although_it_may_not_end_connections_of_others(
    database: str, postgres_server: Postgres
) -> None:
    name = database.rpartition("/")[2]
    async with worker(database, "one") as (one, its):
        await claim(its)
        role = f"other_{name}"
        postgres_server.run(f"CREATE ROLE {role} LOGIN PASSWORD '{postgres_server.password}'")
        for what in ("TABLES", "SEQUENCES"):
            grant = f"GRANT ALL ON ALL {what} IN SCHEMA public TO {role}"
            postgres_server.run(grant, database=name)
        async with worker(postgres_server.url(name, user=role), "two") as (_, others):
            await others.end([its.number])
            assert await claim(others) == {"doors"}
            with pytest.raises(StoreError, match="has ended the session"):
                await one.begin([])


async def test_after_a_time_in_which_the_server_only_read_a_worker_writes_again(
    postgres_server: Postgres, database: str
) -> None:
    name = database.rpartition("/")[2]
    async with worker(database, "one") as (one, its):
        assert await claim(its) == {"doors"}
        postgres_server.run(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        # Connections from before the change write on: the administrator ends them.
        postgres_server.run(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,)
        )
        writes = [
            lambda: one.commit("doors", 0, *visited({"n": 1}, [an_event(1)])),
            lambda: its.beat(["archive"], ""),
        ]
        for write in [*writes, *writes]:
            with pytest.raises(StoreError, match="cannot be"):
                await write()
        postgres_server.run(f"ALTER DATABASE {name} RESET default_transaction_read_only")
        # The connections that only read are those of this worker: no one else ends them. It tries a new one each second.
        await asyncio.sleep(1)
        assert await one.commit("doors", 0, *visited({"n": 1}, [an_event(1)])) == 1
        assert [each.name for each in await its.beat(["archive"], "")] == ["one"]
        assert await its.held("source") == {"doors"}


async def test_a_person_is_forgotten_in_what_the_reloads_of_workers_said(
    postgres_server: Postgres, database: str
) -> None:
    name = database.rpartition("/")[2]
    async with worker(database, "one") as (one, _), worker(database, "two") as (two, _):
        for each in (one, two):
            await each.reloaded(Path("roundsman.toml"), "d", ["sinks.a.to: Anna@a.example"])
        desk = await open_desk(Server(database))
        try:
            assert (await desk.forget("anna@a.example", {})).texts == 1
        finally:
            await desk.close()
        assert (await one.daemon()).problems == ("sinks.a.to: [redacted]",)
        assert "anna" not in str(postgres_server.run("SELECT problems FROM beats", database=name)).lower()


async def test_a_server_that_does_not_answer_a_beat_is_named_with_the_time(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import psycopg

    from roundsman.store.postgres import holds, line

    async with (
        worker(database, "one") as (one, its),
        await psycopg.AsyncConnection.connect(database) as other,
    ):
        await other.execute("SELECT pg_advisory_lock(%s, %s)", (one._session.space, holds.CLAIMS))
        monkeypatch.setattr(line, "ANSWERS", 0.2)
        with pytest.raises(StoreError, match="has not answered for 0s"):
            await claim(its)
