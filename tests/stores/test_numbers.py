"""Numbers of events on a server: given out in the order of commits, without holes, with any number of writers."""

import asyncio
import os
import signal
import sys
import textwrap
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from inside import visited
from roundsman.events import Event
from roundsman.options.server import Server
from roundsman.store import Filter, Intake, open_store

pytest.importorskip("psycopg", reason="needs roundsman[postgres]")

from roundsman.store.postgres.connection import connect, translated
from roundsman.store.postgres.session import Session
from roundsman.store.postgres.store import PostgresStore
from roundsman.store.postgres.transaction import Transaction
from worlds import START, an_event

KINDS = dict.fromkeys(("a", "b", "c", "d"), "parakey.event_logs")
WRITER = """
    import asyncio, sys
    from roundsman.options.server import Server
    from roundsman.store import Intake
    from stores.test_numbers import another
    from worlds import START, an_event

    async def main(url, name, count):
        store = await another(Server(url))
        print("ready", flush=True)
        for n in range(0, count, 2):
            both = an_event(n, name), an_event(n + 1, name)
            shared = an_event(n // 2, "d")  # that the other writers write, too
            await asyncio.gather(
                store.receive(Intake(name, both), START), store.receive(Intake("d", [shared]), START)
            )
        await store.close()

    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
"""


async def another(server: Server) -> PostgresStore:
    """A further worker of the same store."""
    with translated(server):
        session = Session(server, *await connect(server, "worker"))
        session.daemon = True
        async with session.connection.transaction():
            await session._add()
    return PostgresStore(server, session)


async def writer(database: str, name: str, count: int) -> asyncio.subprocess.Process:
    """A worker in a process of its own, once it is about to write."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", textwrap.dedent(WRITER), database, name, str(count),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(["src", "tests", os.environ.get("PYTHONPATH", "")])},
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert process.stdout is not None
    assert await process.stdout.readline() == b"ready\n"
    return process


def send(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):  # it has just ended
        process.send_signal(number)


async def test_a_reader_skips_nothing_while_writers_are_stopped_in_the_middle(database: str) -> None:
    count = 60
    store = await open_store(Server(database))
    await store.register(KINDS, {"archive": "file"})
    writers = [await writer(database, name, count) for name in ("a", "b", "c")]
    seen: list[Event] = []
    while any(each.returncode is None for each in writers) or len(seen) < await store.head():
        running = [each for each in writers if each.returncode is None]
        if running and len(seen) % 3 == 0:
            stopped = running[len(seen) % len(running)]
            send(stopped, signal.SIGSTOP)
        else:
            stopped = None
        cursor, events, head, _ = await store.read("archive", 7, Filter())
        seen += events
        end = events[-1].seq if events else head
        if end > cursor:
            await store.ack("archive", cursor, end, None, START)
        if stopped is not None:
            send(stopped, signal.SIGCONT)
    assert [each.returncode for each in writers] == [0, 0, 0]
    assert [event.seq for event in seen] == list(range(1, 3 * count + count // 2 + 1)), (
        "no hole, none skipped"
    )
    logged = {(event.source, event.id) for event in seen}
    assert len(logged) == len(seen), "and none twice"
    await store.close()


async def test_a_writer_that_was_stopped_before_its_commit_holds_no_other_back(database: str) -> None:
    """It has written rows, and has no number yet: so the others get theirs before it."""
    store = await open_store(Server(database))
    await store.register(KINDS, {"archive": "file"})
    slow = await another(Server(database))
    waits, goes_on = asyncio.Event(), asyncio.Event()

    async def work(transaction: Transaction) -> Any:
        new = await slow._insert(transaction, 2, [an_event(1, "a")], (START, None))
        waits.set()
        await goes_on.wait()
        return new

    writing = asyncio.create_task(slow._writer.write(work, durable=True))
    await waits.wait()
    async with asyncio.timeout(20):  # a write that waited for a lock would be refused sooner
        assert await store.receive(Intake("b", [an_event(2, "b")]), START) == 1
    assert (await store.read("archive", 9, Filter())).head == 1
    goes_on.set()
    assert (await writing).last == 2
    assert [event.source for event, _ in await store.events(0, 9, 9, Filter())] == ["b", "a"]
    await slow.close()
    await store.close()


async def test_two_transactions_that_wait_for_each_other_are_both_made(database: str) -> None:
    store = await open_store(Server(database))
    await store.register(KINDS, {})
    other = await another(Server(database))
    met = asyncio.Barrier(2)
    tries: list[str] = []

    def work(first: str, second: str) -> Any:
        async def run(transaction: Transaction) -> None:
            sql = "UPDATE sources SET calls = calls + 1 WHERE name = %s"
            await transaction.run(sql, (first,))
            tries.append(first)
            if tries.count(first) == 1:
                await met.wait()
            await transaction.run(sql, (second,))

        return run

    await asyncio.gather(
        store._writer.write(work("a", "b"), durable=True),  # type: ignore[attr-defined]
        other._writer.write(work("b", "a"), durable=True),
    )
    assert {each.name: each.webhooks for each in await store.sources()} == {"a": 2, "b": 2, "c": 0, "d": 0}
    assert len(tries) > 2, "one of them, or both, a second time"
    await other.close()
    await store.close()


async def test_a_large_visit_is_numbered_as_a_whole(database: str) -> None:
    store = await open_store(Server(database))
    await store.register(KINDS, {"archive": "file"})
    other = await another(Server(database))
    many = [an_event(n, "a") for n in range(3000)]
    await asyncio.gather(
        store.commit("a", 0, *visited({}, many)),
        *(other.receive(Intake("b", [an_event(n, "b")]), START) for n in range(20)),
    )
    found = [event for event, _ in await store.events(0, 9999, 9999, Filter())]
    assert [event.seq for event in found] == list(range(1, 3021))
    places = [event.seq for event in found if event.source == "a"]
    assert places == list(range(places[0], places[0] + 3000))
    assert [event.id for event in found if event.source == "a"] == [event.id for event in many]
    await other.close()
    await store.close()
