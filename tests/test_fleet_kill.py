"""Workers and the server are killed under load: each event is in the log once, and in the file once."""

import asyncio
import random
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import pytest

from budgets import KILLS
from postgres import Postgres
from processes import Daemon
from roundsman.sandbox import Parakey, Sandbox
from test_fleet import MANY, World, until

pytest.importorskip("psycopg", reason="needs roundsman[postgres]")

NAMES = ("one", "two")
WORKERS, SERVERS = max(20, KILLS // 2), max(5, KILLS // 8)


@pytest.fixture
async def world(tmp_path: Path, database: str, postgres_server: Postgres) -> AsyncIterator[World]:
    found = World(tmp_path, database, postgres_server)
    async with AsyncExitStack() as stack:
        for n in range(MANY):
            found.boxes.append(await stack.enter_async_context(Sandbox(Parakey(), host=f"127.0.0.{n + 2}")))
        yield found


def events(world: World) -> list[str]:
    return [each for each in world.ids() if each.startswith("e-")]


async def working(daemon: Daemon) -> None:
    """Wait until it holds something, or has ended."""
    while daemon.process.returncode is None and not daemon.logged("worker.holds"):
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.3)


async def test_kills_of_workers_and_of_the_server_lose_and_repeat_nothing(world: World) -> None:
    chance = random.Random(18)
    kills = ["worker"] * WORKERS + ["server"] * SERVERS
    chance.shuffle(kills)
    added = 0

    async def happen() -> None:
        nonlocal added
        while True:
            world.boxes[added % MANY].vendor.add(log_id=f"e-{added}")
            added += 1
            await asyncio.sleep(0.02)

    async with AsyncExitStack() as stack:

        async def begin(name: str) -> Daemon:
            return await stack.enter_async_context(world.worker(name))

        running = {name: await begin(name) for name in NAMES}
        happening = asyncio.create_task(happen())
        for kill in kills:
            await asyncio.sleep(chance.uniform(0.1, 0.8))  # at any moment of its life, also of its start
            if kill == "worker":
                name = chance.choice(NAMES)
                if chance.random() < 0.7:
                    await working(running[name])
                # One that starts while the server is away has ended already, as systemd expects.
                with suppress(ProcessLookupError):
                    running[name].process.kill()
                await running[name].process.wait()
                running[name] = await begin(name)
            else:
                await asyncio.to_thread(world.server.stop, signal.SIGKILL)
                await asyncio.to_thread(world.server.start)
                for name, daemon in running.items():  # likewise
                    if daemon.process.returncode is not None:
                        running[name] = await begin(name)
        happening.cancel()
        for name, daemon in running.items():
            await working(daemon)
            if daemon.process.returncode is not None:
                running[name] = await begin(name)
        await until(running["one"], lambda: len(events(world)) >= added)
        for daemon in running.values():
            await daemon.stop()
    ids = world.ids()
    assert sorted(ids) == sorted(set(ids)), "each once in the file"
    assert len(events(world)) == added, "the others are notices of the daemons"
    [(count, highest, different)] = world.run(
        "SELECT count(*)::int, max(seq)::int, count(DISTINCT id)::int FROM events WHERE type NOT LIKE 'roundsman.%%'"
    )
    assert (count, different) == (added, added), "each once in the log"
    assert highest >= count
