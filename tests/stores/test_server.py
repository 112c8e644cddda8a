"""A server that is old, read-only, full, slow or away: one sentence, and nothing is lost."""

import asyncio
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog

from conftest import need
from inside import visited
from postgres import Postgres, Wire
from roundsman.errors import Unclear
from roundsman.masking import mask
from roundsman.options.server import Server
from roundsman.store import Filter, Intake, Store, StoreError, holder, holds, open_desk, open_store, open_view
from worlds import START, an_event

KINDS = {"doors": "parakey.event_logs"}


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Store]:
    store = await open_store(Server(url))
    await store.register(KINDS, {"archive": "file"})
    yield store
    await store.close()


async def find(store: Store, *numbers: int) -> int:
    return await store.commit("doors", 0, *visited({}, [an_event(n) for n in numbers]))


async def ids(store: Any) -> list[str]:
    return [event.id for event, _ in await store.events(0, 10**6, 10**6, Filter())]


async def refusal(url: str) -> str:
    with pytest.raises(StoreError) as refused:
        await (await open_store(Server(url))).close()
    assert "correct-horse" not in str(refused.value)
    assert "\n" not in str(refused.value)
    return str(refused.value).replace(str(Server(url)), "URL")


# -- at the start ------------------------------------------------------------------------------------------------------


async def test_a_server_that_cannot_have_a_store_is_refused_in_one_sentence(
    postgres_server: Postgres, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, name = postgres_server.run, database.rpartition("/")[2]
    ascii_ = postgres_server.url(
        postgres_server.database("ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0")
    )
    assert await refusal(ascii_) == (
        "URL stores texts as SQL_ASCII: create a database with ENCODING 'UTF8' TEMPLATE template0"
    )
    assert "has no schema" in await refusal(f"{database}?options=-csearch_path%3Dnone")
    assert (
        await refusal(postgres_server.url("missing"))
        == 'URL cannot be reached: database "missing" does not exist'
    )
    wrong = database.replace(postgres_server.password, "correct-horse-2")
    assert await refusal(wrong) == 'URL cannot be reached: password authentication failed for user "rm"'
    assert "Connection refused" in await refusal(database.replace(f":{postgres_server.port}/", ":1/"))
    run("CREATE TABLE events (n INT)", database=name)
    assert "has a table events of something else" in await refusal(database)
    run("DROP TABLE events", database=name)
    run(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    assert "is a standby, or default_transaction_read_only is set" in await refusal(database)
    run(f"ALTER DATABASE {name} SET default_transaction_read_only = off")
    monkeypatch.setattr("roundsman.store.postgres.connection.OLDEST", 99)
    assert "roundsman needs 99 or later" in await refusal(database)
    monkeypatch.undo()
    for kind in (open_view, open_desk):
        with pytest.raises(StoreError, match="there is no store at"):
            await kind(Server(database))
    async with opened(database):
        run("INSERT INTO roundsman_migrations (name) VALUES ('999_later')", database=name)
    assert "was written by a newer roundsman (it has 999_later)" in await refusal(database)


async def test_a_right_that_the_user_lacks_is_named(postgres_server: Postgres, database: str) -> None:
    run, name = postgres_server.run, database.rpartition("/")[2]
    run(f"CREATE ROLE guest_{name} LOGIN PASSWORD '{postgres_server.password}'")
    run("REVOKE ALL ON SCHEMA public FROM public", database=name)
    guest = postgres_server.url(name, user=f"guest_{name}")
    assert "GRANT USAGE, CREATE ON SCHEMA ... to its user" in await refusal(guest)
    run("GRANT USAGE ON SCHEMA public TO public", database=name)
    assert "GRANT USAGE, CREATE ON SCHEMA public to its user" in await refusal(guest)
    right = (
        f"has no store, and its user cannot create one: GRANT USAGE, CREATE ON SCHEMA public TO guest_{name}"
    )
    with pytest.raises(StoreError, match=right):
        await open_view(Server(guest))
    async with opened(database):
        with pytest.raises(StoreError, match="GRANT ALL ON TABLE roundsman_migrations to its user"):
            await open_view(Server(guest))
    run(f"DROP OWNED BY guest_{name}; DROP ROLE guest_{name}", database=name)


async def test_a_schema_is_a_store_of_its_own(postgres_server: Postgres, database: str) -> None:
    name = database.rpartition("/")[2]
    for each in ("one", "two"):
        postgres_server.run(f"CREATE SCHEMA {each}", database=name)
    async with (
        opened(f"{database}?options=-csearch_path%3Done") as one,
        opened(f"{database}?options=-csearch_path%3Dtwo") as two,
    ):
        await find(one, 1)
        assert (await ids(one), await ids(two)) == (["id00001"], [])


async def test_a_store_has_one_daemon_and_another_one_can_take_it_over_after_its_end(
    postgres_server: Postgres, database: str
) -> None:
    server, name = Server(database), database.rpartition("/")[2]
    assert holder(server) is None
    async with opened(database) as store:
        found = await asyncio.to_thread(holder, server)
        assert found is not None
        assert f"pid {(await store.daemon()).pid} on " in found
        assert await asyncio.to_thread(holds, (await store.daemon()).pid or 0, server)
        assert f"URL is in use by {found}: one daemon per store" == await refusal(database)
        # The server lost it, and it does not know yet.
        await asyncio.to_thread(
            postgres_server.run,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
            (name,),
        )
        async with opened(database) as other:
            with pytest.raises(StoreError, match="is written by another daemon now"):
                await find(store, 1)
            assert store.lost()
            assert await find(other, 2) == 1
        assert await ids(store) == ["id00002"]
    assert await asyncio.to_thread(holder, server) is None


def test_no_text_of_the_url_shows_its_password() -> None:
    for url in (
        "postgresql://rm:hunter22@db.example:5433/rm",
        "postgres://rm@db.example/rm?password=hunter22&sslmode=require",
        "postgresql://rm:hunter%2F22@db.example,other.example:1/rm",
    ):
        server = Server(url)
        shown = f"{server} {server!r} {[server]}"
        assert "hunter" not in shown
        assert "rm@db.example" in shown
        assert server.reveal() == url
        assert "hunter" not in mask(f"failed: {url}")
        assert server == Server(url)
    for wrong in ("postgresql://rm:a/b@db/x", "postgresql://db", "mysql://db/x", "postgresql://rm:a#b@db/x"):
        with pytest.raises(ValueError) as refused:
            Server(wrong)
        assert "a/b" not in str(refused.value)


# -- later -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("made", [True, False])
async def test_a_commit_whose_answer_is_lost_is_looked_up(
    made: bool, postgres_server: Postgres, database: str
) -> None:
    async with Wire(postgres_server.port) as wire:
        url = database.replace(f":{postgres_server.port}/", f":{wire.port}/")
        async with opened(url) as store:
            assert await find(store, 1) == 1
            wire.cut_at, wire.passes = b"COMMIT", made
            if made:
                assert await find(store, 2) == 1, "it was made"
            else:
                with pytest.raises(StoreError, match="cannot be reached"):
                    await find(store, 2)
            assert wire.cuts == 1
            assert await find(store, 2, 3) == (1 if made else 2)
            assert await ids(store) == ["id00001", "id00002", "id00003"]
            assert [event.id for event in (await store.read("archive", 9, Filter())).events] == await ids(
                store
            )


async def test_a_command_whose_record_was_deleted_does_not_say_that_it_wrote_nothing(
    postgres_server: Postgres, database: str
) -> None:
    """Its connection ended in the commit, and a daemon that started meanwhile took it for one that had ended."""
    async with opened(database):
        pass
    async with Wire(postgres_server.port) as wire:
        desk = await open_desk(Server(database.replace(f":{postgres_server.port}/", f":{wire.port}/")))
        wire.cut_at, wire.passes, wire.refuses = b"COMMIT", True, True
        pausing = asyncio.create_task(desk.pause("source", "doors", "a person", START))
        there = ("SELECT 1 FROM pg_stat_activity WHERE datname = %s", (database.rpartition("/")[2],))
        while not wire.cuts or await asyncio.to_thread(postgres_server.run, *there):
            await asyncio.sleep(0.01)
        async with opened(database) as store:
            assert [each.name for each in await store.pauses()] == ["doors"]
            wire.refuses = False
            with pytest.raises(Unclear, match="does not say whether it was made"):
                await pausing
        await desk.close()


async def test_a_server_that_does_not_answer_is_given_up_and_asked_on_another_connection(
    postgres_server: Postgres, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Wire(postgres_server.port) as wire:
        url = database.replace(f":{postgres_server.port}/", f":{wire.port}/")
        async with opened(url) as store:
            await store.head()
            monkeypatch.setattr("roundsman.store.postgres.connection.HANGS", 3.0)
            wire.hangs_at = b"COMMIT"
            with pytest.raises(StoreError, match="has not answered for"):
                await find(store, 1)
            assert wire.cuts == 1
            monkeypatch.undo()
            assert await find(store, 1) == 1
            assert await store.head() == 1


async def test_a_server_that_crashes_under_load_has_what_was_acknowledged_and_nothing_twice(
    postgres_server: Postgres, database: str
) -> None:
    acknowledged: set[int] = set()
    async with opened(database) as store:

        async def write(number: int) -> None:
            try:
                await store.receive(Intake("doors", [an_event(number)]), START)
            except StoreError:
                return
            acknowledged.add(number)

        for crash in range(2):
            numbers = range(crash * 1000, crash * 1000 + 300)
            writes = [asyncio.create_task(write(each)) for each in numbers]
            while len(acknowledged) < crash * 100 + 20:
                await asyncio.sleep(0)
            await asyncio.to_thread(postgres_server.stop, signal.SIGKILL)
            with pytest.raises(StoreError, match="cannot be reached"):
                await store.writable()
            await asyncio.to_thread(postgres_server.start)
            await asyncio.gather(*writes)
        assert await store.receive(Intake("doors", [an_event(9999)]), START) == 1, "it goes on by itself"
        found = [event for event, _ in await store.events(0, 10**6, 10**6, Filter())]
    kept = [int(event.id[2:]) for event in found]
    assert acknowledged <= set(kept)
    assert len(kept) == len(set(kept))
    assert [event.seq for event in found] == list(range(1, len(found) + 1))


@pytest.fixture
def little(postgres_server: Postgres, database: str) -> Iterator[str]:
    """A disk of 3 MB on which the events are."""
    name = database.rpartition("/")[2]
    disk = postgres_server.folder / "small"
    disk.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(disk)], check=False)
    need(done.returncode == 0, "needs the right to mount a tmpfs (in a container: CAP_SYS_ADMIN)")
    shutil.chown(disk, "nobody", "nogroup")
    postgres_server.run(f"CREATE TABLESPACE small LOCATION '{disk}'")
    yield name
    postgres_server.drop(name)
    postgres_server.run("DROP TABLESPACE small")
    subprocess.run(["umount", "-l", str(disk)], check=True)
    disk.rmdir()


async def test_on_a_full_disk_only_what_does_not_fit_is_refused(
    postgres_server: Postgres, database: str, little: str
) -> None:
    async with opened(database) as store:
        await asyncio.to_thread(postgres_server.run, "ALTER TABLE events SET TABLESPACE small", (), little)
        noise = "".join(chr(0x4E00 + (n * 7919) % 20000) for n in range(200_000))  # that does not compress
        large = Intake("doors", [an_event(n, note=noise) for n in range(100, 120)])
        results = await asyncio.gather(
            *(store.receive(Intake("doors", [an_event(n)]), START) for n in range(5)),
            store.receive(large, START),
            *(store.receive(Intake("doors", [an_event(n)]), START) for n in range(5, 10)),
            return_exceptions=True,
        )
        assert results[:5] == [1] * 5
        # The server frees what the large one has filled at a vacuum: until then, small ones may not fit either.
        refused = [str(each) for each in results if isinstance(each, Exception)]
        assert str(results[5]) in refused
        assert all(each.endswith("cannot be written: the disk of the server is full") for each in refused)
        for write in (store.receive(large, START), store.writable()):
            with pytest.raises(StoreError, match="the disk of the server is full"):
                await write
        disk = str(postgres_server.folder / "small")
        subprocess.run(["mount", "-o", "remount,size=16m", disk], check=True)
        for n in range(5, 10):
            assert await store.receive(Intake("doors", [an_event(n)]), START) == (results[n + 1] != 1)
        assert await store.receive(Intake("doors", [an_event(10)]), START) == 1
        await store.writable()
        assert await ids(store) == [f"id{n:05d}" for n in range(11)]
        assert (await store.events(0, 99, 99, Filter()))[-1][0].seq == 11


async def test_a_server_that_ends_slow_statements_is_named_as_such(
    postgres_server: Postgres, database: str
) -> None:
    import psycopg

    postgres_server.run(f"ALTER DATABASE {database.rpartition('/')[2]} SET statement_timeout = '1500ms'")
    async with opened(database) as store:
        with psycopg.connect(database) as other:
            other.execute("LOCK TABLE workers IN EXCLUSIVE MODE")
            with pytest.raises(StoreError, match="is too slow: the server ended a statement"):
                await find(store, 1)
        assert await find(store, 1) == 1


async def test_texts_with_what_the_server_cannot_store_are_stored(database: str) -> None:
    odd = an_event(1)
    event = type(odd)("a\0b", odd.source, odd.type, "out\0come", odd.body)
    async with opened(database) as store:
        assert await store.commit("doors", 0, *visited({"a": "\0"}, [event], error="no\0")) == 1
        assert await store.commit("doors", 0, *visited(None, [event])) == 0
        assert await store.known("doors", ["a\0b"]) == {"a\ufffdb"}
        assert (await store.memory("doors")).state == {"a": "\0"}


def test_it_is_not_imported_unless_it_is_used() -> None:
    code = "import sys, roundsman.store, roundsman.cli, roundsman.config; assert 'psycopg' not in sys.modules"
    import sys

    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2] / "src")


async def test_without_its_driver_the_sentence_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    import roundsman.store.postgres

    # The failed import replaces the attribute of the package above, too.
    monkeypatch.setattr(roundsman.store, "postgres", roundsman.store.postgres)
    for name in [each for each in sys.modules if each.startswith("roundsman.store.postgres")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(StoreError, match=r"install roundsman\[postgres\]"):
        await open_view(Server("postgresql://rm@db.example/rm"))


async def test_a_clock_that_differs_from_the_servers_is_reported(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from roundsman.store.postgres import connection

    with structlog.testing.capture_logs() as logs:
        async with opened(database):
            assert logs == []
        monkeypatch.setattr(
            connection, "_SETUP", connection._SETUP.replace("clock_timestamp()", "now() - interval '1 hour'")
        )
        async with opened(database):
            [line] = logs
    assert (line["event"], line["path"]) == ("store.clock", str(Server(database)))
    assert 3590 < line["ahead"] < 3610
