"""Workers that share a store: real processes, a real PostgreSQL, real sockets."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from postgres import Postgres
from processes import Daemon
from roundsman.sandbox import TOKEN, Parakey, Sandbox

pytest.importorskip("psycopg", reason="needs roundsman[postgres]")

MANY = 20


class World:
    """A vendor for each of 20 sources, and workers that poll them."""

    def __init__(self, folder: Path, database: str, server: Postgres) -> None:
        self.folder, self.server = folder, server
        self.name = database.rpartition("/")[2]
        self.environ = {"PARAKEY_TOKEN": TOKEN, "STORE": database}
        self.boxes: list[Sandbox] = []
        self.out = folder / "events.jsonl"

    def config(self, more: str = "") -> Path:
        """The configuration of all workers; the file is served by "one"."""
        path = self.folder / "roundsman.toml"
        sources = "".join(
            f'[sources.doors-{n:02}]\ntype = "parakey.event_logs"\nbase_url = "{box.url}"\nstart = "beginning"\n'
            'access_token = { env = "PARAKEY_TOKEN" }\ninterval = "200ms"\n'
            for n, box in enumerate(self.boxes)
        )
        path.write_text(
            f'[daemon]\nstore = {{ env = "STORE" }}\nlog_format = "json"\nname = {{ env = "NAME" }}\n{sources}'
            f'[sinks.archive]\ntype = "file"\npath = "{self.out}"\non = "one"\n{more}'
        )
        path.chmod(0o600)
        return path

    def worker(self, name: str) -> Daemon:
        return Daemon(self.config(), program="worker", NAME=name, **self.environ)

    def ids(self) -> list[str]:
        """The events in the file."""
        return (
            [json.loads(line)["id"] for line in self.out.read_bytes().splitlines()]
            if self.out.exists()
            else []
        )

    def run(self, sql: str) -> list[Any]:
        return self.server.run(sql, database=self.name)

    def held(self) -> dict[str, int]:
        """By worker, how many sources it holds."""
        sql = (
            "SELECT b.name, count(h.name)::int FROM beats b LEFT JOIN holds h ON h.holder = b.worker AND h.kind = 'source' "
            "GROUP BY b.name"
        )
        return dict(self.run(sql))

    def add(self, word: str) -> None:
        """An event at each vendor."""
        for n, box in enumerate(self.boxes):
            box.vendor.add(log_id=f"{word}-{n}")


@pytest.fixture
async def world(tmp_path: Path, database: str, postgres_server: Postgres) -> AsyncIterator[World]:
    found = World(tmp_path, database, postgres_server)
    async with AsyncExitStack() as stack:
        for n in range(MANY):
            found.boxes.append(await stack.enter_async_context(Sandbox(Parakey(), host=f"127.0.0.{n + 2}")))
        yield found


@asynccontextmanager
async def two(world: World) -> AsyncIterator[tuple[Daemon, Daemon]]:
    """Two workers, each of which holds about its half."""
    async with world.worker("one") as one, world.worker("two") as other:
        await one.ready()
        await other.ready()
        await until(one, lambda: sorted(world.held().values())[:-1] in ([MANY // 2], [MANY // 2 - 1]))
        yield one, other


async def until(daemon: Daemon, condition: Callable[[], bool], seconds: float = 20) -> None:
    """Wait for what another process does; asks in a thread, because this one serves the vendors."""
    ends = asyncio.get_running_loop().time() + seconds
    while not await asyncio.to_thread(condition):
        assert asyncio.get_running_loop().time() < ends, daemon.stderr[-4000:]
        await asyncio.sleep(0.05)


async def test_two_workers_share_sources_and_one_takes_over_from_one_that_is_killed(world: World) -> None:
    world.add("a")
    async with two(world) as (one, other):
        await until(one, lambda: len(world.ids()) == MANY)
        other.process.kill()
        await other.process.wait()
        world.add("b")
        await until(one, lambda: len(world.ids()) == 2 * MANY)
        assert world.held() == {"one": MANY}
        assert one.logged("worker.lost")[0]["worker"] == "two"
        assert await one.stop() < 10
    assert one.code == 0
    ids = world.ids()
    assert len(set(ids)) == len(ids) == 2 * MANY, "each once"
    assert world.run("SELECT count(*)::int FROM holds WHERE holder IS NOT NULL") == [(0,)]
    assert world.run("SELECT count(*)::int FROM beats") == [(0,)]
