"""Workers that share a store: real processes, a real PostgreSQL, real sockets."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import structlog

from postgres import Postgres
from processes import Daemon
from roundsman import config as configuration
from roundsman.sandbox import TOKEN, Parakey, Sandbox
from roundsman.service import service
from roundsman.service.reopening import reopened
from roundsman.service.service import Service
from worker import PACE

pytest.importorskip("psycopg", reason="needs roundsman[postgres]")

MANY = 20
HOOK = '[sources.doors-{:02}.webhook]\nheader = "Authorization"\nvalue = "of a vendor"\n'
LISTEN = '[listen]\naddress = "unix:listen.sock"\n[listen.page]\ntoken = "0123456789abcdef"\nhost = "x"\n'


class World:
    """A vendor for each of 20 sources, and workers that poll them."""

    def __init__(self, folder: Path, database: str, server: Postgres) -> None:
        self.folder, self.server = folder, server
        self.name = database.rpartition("/")[2]
        self.environ = {"PARAKEY_TOKEN": TOKEN, "STORE": database}
        self.boxes: list[Sandbox] = []
        self.interval = "200ms"
        self.out = folder / "events.jsonl"

    def config(self, name: str) -> Path:
        """The configuration of a worker; the file sink is served by "one"."""
        path = self.folder / "roundsman.toml"
        sources = "".join(
            f'[sources.doors-{n:02}]\ntype = "parakey.event_logs"\nbase_url = "{box.url}"\nstart = "beginning"\n'
            f'access_token = {{ env = "PARAKEY_TOKEN" }}\ninterval = "{self.interval}"\n{HOOK.format(n)}'
            for n, box in enumerate(self.boxes)
        )
        path.write_text(
            f'[daemon]\nstore = {{ env = "STORE" }}\nlog_format = "json"\nname = {{ env = "NAME" }}\n{sources}'
            f'[sinks.archive]\ntype = "file"\npath = "{self.out}"\non = "one"\n{LISTEN}'
            # What is not common to all may differ: the sources are shared all the same.
            f"# the file of {name}\n"
        )
        path.chmod(0o600)
        return path

    def worker(self, name: str) -> Daemon:
        state = self.folder / name
        state.mkdir(exist_ok=True)
        return Daemon(
            self.config(name), program="worker", NAME=name, STATE_DIRECTORY=str(state), **self.environ
        )

    async def ask(
        self, name: str, path: str, body: Any = None, authorization: str = "of a vendor"
    ) -> tuple[int, str]:
        """The answer of a worker's listener: to a webhook if there is a body."""
        connector = aiohttp.UnixConnector(str(self.folder / name / "listen.sock"))
        async with aiohttp.ClientSession(connector=connector) as client:
            headers = {"Authorization": authorization}
            method = "GET" if body is None else "POST"
            async with client.request(method, f"http://x{path}", json=body, headers=headers) as answer:
                return answer.status, await answer.text()

    async def command(self, *args: str, name: str = "three", code: int = 0) -> str:
        """What a command prints, on a third machine or as a worker's."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "roundsman", *args, "-c", str(self.folder / "roundsman.toml"),
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, "HOME": str(self.folder), "NAME": name, **self.environ},
        )  # fmt: skip
        assert process.stdout is not None
        printed = (await process.stdout.read()).decode()
        assert await process.wait() == code, printed
        return printed

    def ids(self) -> list[str]:
        """The events in the file, without a line that is just being written."""
        whole = self.out.read_bytes().rpartition(b"\n")[0] if self.out.exists() else b""
        return [json.loads(line)["id"] for line in whole.splitlines()]

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


def now() -> str:
    return datetime.now(UTC).isoformat()


async def until(daemon: Daemon, condition: Callable[[], bool], seconds: float = 60) -> None:
    """Wait for what another process does; asks in a thread, because this one serves the vendors."""
    ends = asyncio.get_running_loop().time() + seconds
    while not await asyncio.to_thread(condition):
        assert asyncio.get_running_loop().time() < ends, daemon.stderr[-4000:]
        await asyncio.sleep(0.05)


async def test_two_workers_share_sources_and_one_takes_over_from_one_that_is_killed(world: World) -> None:
    world.add("a")
    async with two(world) as (one, other):
        await until(one, lambda: len(world.ids()) == MANY)
        # On one machine, a command is for the worker with the name in its configuration.
        for name, daemon, neighbour in (("one", one, other), ("two", other, one)):
            before = len(neighbour.logged("config.reloaded"))
            await world.command("reload", name=name)
            await daemon.until(lambda daemon=daemon: daemon.logged("config.reloaded"))
            assert len(neighbour.logged("config.reloaded")) == before
            assert (await world.command("status", name=name)).startswith(
                f"daemon 2 workers (roundsman, pid {daemon.process.pid} "
            )
        refused = await world.command("reload", code=1)
        assert "no worker three runs on this machine" in refused
        other.process.kill()
        await other.process.wait()
        world.add("b")
        await until(one, lambda: len(world.ids()) == 2 * MANY)
        assert world.held() == {"one": MANY}
        await one.until(lambda: one.logged("worker.lost"))
        assert one.logged("worker.lost")[0]["worker"] == "two"
        assert (await world.command("healthy", name="one")).startswith("healthy: ")
        assert (await world.command("healthy", name="two", code=1)).startswith("unhealthy: ")
        assert await one.stop() < 10
    assert one.code == 0
    ids = world.ids()
    assert len(set(ids)) == len(ids) == 2 * MANY, "each once"
    assert world.run("SELECT count(*)::int FROM holds WHERE holder IS NOT NULL") == [(0,)]
    assert world.run("SELECT count(*)::int FROM beats") == [(0,)]


async def test_a_worker_that_was_stopped_past_its_heartbeat_is_replaced_and_begins_again(
    world: World,
) -> None:
    world.add("a")
    async with two(world) as (one, other):
        other.send(signal.SIGSTOP)
        await until(one, lambda: world.held() == {"one": MANY})
        world.add("b")
        await until(one, lambda: len(world.ids()) == 2 * MANY)
        other.send(signal.SIGCONT)
        await until(other, lambda: len(world.held()) == 2 and min(world.held().values()) >= MANY // 2 - 1)
        await other.until(lambda: other.logged("worker.replaced"))
        world.add("c")
        await until(one, lambda: len(world.ids()) == 3 * MANY)
        assert await other.stop() < 10
        assert other.code == 0
    ids = world.ids()
    assert len(set(ids)) == len(ids) == 3 * MANY, "each once"


async def test_while_the_server_is_away_workers_wait_and_afterwards_nothing_is_lost(world: World) -> None:
    world.add("a")
    async with two(world) as (one, other):
        await until(one, lambda: len(world.ids()) == MANY)
        assert await world.ask("one", "/readyz") == (200, "ready\n")
        found = json.loads(await world.command("status", "--json"))["workers"]
        assert [each["state"] for each in found] == ["ok", "ok"]
        assert sum(each["sources"] for each in found) == MANY
        assert "roundsman_workers 2" in (await world.ask("two", "/metrics"))[1]
        token = "Bearer 0123456789abcdef"
        status, page = await world.ask("one", "/", authorization=token)
        assert (status, '<span class="name">two</span>' in page) == (200, True)
        assert all(f'href="/source/doors-{n:02}"' in page for n in range(MANY)), "also those of the other one"
        assert (
            page.count('<td class="wide name">one</td>') + page.count('<td class="wide name">two</td>')
            == MANY + 1
        )
        assert "<dt>sources</dt><dd>20</dd>" in page
        held = world.run(
            "SELECT h.name FROM holds h JOIN beats b ON b.worker = h.holder WHERE b.name = 'two' LIMIT 1"
        )
        status, page = await world.ask("one", f"/source/{held[0][0]}", authorization=token)
        assert (status, '<dt>Worker</dt><dd class="name">two</dd>' in page) == (200, True)
        assert "polls in" in page or "polls now" in page
        status, page = await world.ask("two", "/sink/archive", authorization=token)
        assert (status, '<dt>Worker</dt><dd class="name">one</dd>' in page) == (200, True)
        listed = (await world.ask("one", "/sources?state=ok", authorization=token))[1]
        assert f'href="/source/{held[0][0]}"' in listed
        found = json.loads((await world.ask("one", "/status.json", authorization=token))[1])
        assert {each["state"] for each in found["sources"]} <= {"ok", "new", "idle"}, "none is retired"
        await asyncio.to_thread(world.server.stop, signal.SIGQUIT)
        world.add("b")
        for name, daemon in (("one", one), ("two", other)):
            await daemon.until(lambda daemon=daemon: daemon.logged("store.failed"))
            status, why = await world.ask(name, "/readyz")
            assert (status, "cannot be reached" in why) == (503, True)
            row = {"id": f"w-{name}", "createdAt": now(), "timestamp": now()}
            assert (await world.ask(name, "/hooks/doors-00", row))[0] == 503
        await asyncio.sleep(2 * PACE.dead)  # longer than a worker may be silent
        await asyncio.to_thread(world.server.start)
        await until(one, lambda: len(world.ids()) == 2 * MANY)
        await until(one, lambda: len(world.held()) == 2 and sum(world.held().values()) == MANY)
        assert await world.ask("two", "/readyz") == (200, "ready\n")
        for daemon in (one, other):
            assert len(daemon.logged("store.failed")) < 10
            assert not daemon.logged("worker.lost")
            assert not daemon.logged("worker.replaced")
    ids = world.ids()
    assert len(set(ids)) == len(ids) == 2 * MANY, "each once"


async def test_webhooks_rings_and_commands_work_on_any_machine(world: World) -> None:
    world.interval = "10m"
    world.add("a")
    async with two(world) as (one, _):
        await until(one, lambda: len(world.ids()) == MANY)
        mine = set(
            world.run(
                "SELECT h.name FROM holds h JOIN beats b ON b.worker = h.holder WHERE b.name = 'one' AND kind = 'source'"
            )
        )
        for n in range(MANY):
            path = f"/hooks/doors-{n:02}"
            elsewhere = "two" if (path[7:],) in mine else "one"
            # An event, and a row that only rings: the holder finds what the vendor has.
            assert (
                await world.ask(elsewhere, path, {"id": f"w-{n}", "createdAt": now(), "timestamp": now()})
            )[0] == 200
            world.boxes[n].vendor.add(log_id=f"r-{n}")
            assert (await world.ask(elsewhere, path, {"createdAt": now(), "timestamp": now()}))[0] == 200
        await until(one, lambda: len(world.ids()) == 3 * MANY)
        await until(one, lambda: world.run("SELECT count(*)::int FROM rings") == [(0,)])
        # Commands need no worker in particular.
        for name in ("doors-03", "doors-17"):
            await world.command("pause", name)
        paused = "SELECT count(*)::int FROM sources WHERE paused IS NOT NULL"
        assert world.run(paused) == [(2,)]
        world.add("b")
        for name in ("doors-03", "doors-04", "doors-05"):
            await world.command("rewind", name, "--to", "1h")
        await until(one, lambda: len(world.ids()) == 3 * MANY + 2)
        await world.command("resume", "doors-03")
        await until(one, lambda: len(world.ids()) == 3 * MANY + 3)
        await world.command("replay", "archive", "--from", "beginning")
        await until(one, lambda: len(world.ids()) == 2 * (3 * MANY + 3))
    assert len(set(world.ids())) == 3 * MANY + 3


async def test_a_replaced_worker_waits_for_the_server_before_it_begins_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAME", "one")
    for name, value in world.environ.items():
        monkeypatch.setenv(name, value)
    config = configuration.load(world.config("one"))
    await asyncio.to_thread(world.server.stop, signal.SIGQUIT)
    try:
        with structlog.testing.capture_logs() as lines:
            waiting = asyncio.create_task(reopened(config.store, config.worker, set()))
            while not lines:
                await asyncio.sleep(0.01)
                assert not waiting.done()
            os.kill(os.getpid(), signal.SIGTERM)
            assert await waiting is None, "a signal ends the wait"
            asked: set[bool] = set()
            waiting = asyncio.create_task(reopened(config.store, config.worker, asked))
            while len(lines) < 2:
                await asyncio.sleep(0.01)
                assert not waiting.done()
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        await asyncio.to_thread(world.server.start)
    store = await waiting
    assert store is not None
    await store.close()
    assert all("cannot be reached" in line["error"] for line in lines)
    assert asked == {False}, "the next service reloads the configuration"


async def test_a_replaced_worker_begins_again_also_if_the_server_goes_away_while_it_does(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAME", "one")
    for name, value in world.environ.items():
        monkeypatch.setenv(name, value)
    begun: list[Service] = []

    class Brief(Service):
        is_replaced = property(lambda self: self is begun[0])

        async def run(self) -> int:
            begun.append(self)
            try:
                if self is begun[0]:
                    return 0
                if len(begun) == 2:
                    os.kill(os.getpid(), signal.SIGHUP)
                    await asyncio.sleep(0)
                    await asyncio.to_thread(world.server.stop, signal.SIGQUIT)
                    await self.engine.setup(self.config.sources, self.config.sinks)
                return 0
            finally:
                await self.engine.aclose()
                await self.store.close()
                if len(begun) == 2:
                    await asyncio.to_thread(world.server.start)

    monkeypatch.setattr(service, "Service", Brief)
    assert await service.daemon(configuration.load(world.config("one"))) == 0
    assert len(begun) == 3
    assert begun[2].asked == {False}, "the changed file is read"
