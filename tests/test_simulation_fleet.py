"""Two workers on one PostgreSQL: nothing is lost or written by two, whenever a worker is killed or stopped, or the server is.

Simulated vendors with late and hidden rows, and random histories: workers that are killed at any step, or stopped past their
heartbeat in a visit, a commit or a delivery, and go on; connections that are cut; a server that is killed; webhooks and rings on
either worker; reloads; a sink that fails. At the end all is healed, and then: each row is in the log once, the numbers are
dense, the sinks got the log in order, and each source is held by one worker. Workers send each other no words here.
"""

import asyncio
import random
import signal
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from budgets import SIMULATIONS
from doors import HEADER, PARAKEY, VALUE, subscribe
from postgres import Postgres
from roundsman.plugin import Sink, Source
from roundsman.sandbox import Fault, Parakey, Quirks
from worlds import Time, event_logs

pytest.importorskip("psycopg", reason="needs roundsman[postgres]")

from mortal_worker import Kept, Worker, owned

STEPS = 40
"""Things that happen in a history."""
BEAT = 5.0
ALL = ("doors-1", "doors-2", "doors-3", "doors-4")
SINKS = ("told", "shaky")


class World:
    def __init__(self, server: Postgres, database: str, seed: int) -> None:
        self.server, self.database = server, database
        self.url = server.url(database)
        self.chance = random.Random(seed)
        self.time = Time()
        quirks = Quirks(cap=self.chance.choice([40, 1000]), inclusive=self.chance.random() < 0.5)
        self.vendors = {f"127.0.0.{n}": Parakey(now=self.time.utc, quirks=quirks) for n in range(1, 5)}
        for n, vendor in enumerate(self.vendors.values(), 1):
            subscribe(vendor, f"http://daemon/hooks/doors-{n}", headers={HEADER: VALUE})
        self.names = list(ALL)
        self.got: dict[str, list[int]] = {name: [] for name in SINKS}
        self.acked = dict.fromkeys(SINKS, 0)
        self.fails = self.count = 0
        self.mail: list[Any] = []
        self.taken: set[tuple[str, str]] = set()
        self.wrong: list[str] = []
        self.workers = [Worker(self, "one"), Worker(self, "two")]

    def sources(self) -> dict[str, Source]:
        return {
            name: event_logs(
                name,
                base_url=f"http://127.0.0.{name[-1]}",
                webhook=PARAKEY,
                paging={"limit": 10, "max_limit": 40},
            )
            for name in self.names
        }

    def sinks(self) -> dict[str, Sink]:
        return {name: Kept(type="kept", batch=3).named(name) for name in SINKS}

    def run(self, sql: str) -> list[Any]:
        return self.server.run(sql, database=self.database)

    @property
    def running(self) -> list[Worker]:
        return [each for each in self.workers if each.engine is not None]

    def look(self) -> None:
        """Whose session has ended, and that no source is held by two."""
        live = {number for [number] in self.run("SELECT id FROM workers WHERE ended IS NULL")}
        for each in self.running:
            each.over = each.fleet.session.number not in live
        held = [name for each in self.running if not each.over for name in each.roster]
        assert len(held) == len(set(held)), held

    async def boot(self, worker: Worker) -> None:
        await worker.boot()
        self.look()

    async def beat(self, workers: Sequence[Worker], times: int = 1) -> None:
        for _ in range(times):
            self.time.advance(BEAT)
            for each in workers:
                await each.do(each.beat())
            self.look()

    async def replace(self) -> None:
        """What the service does after a session was ended."""
        for each in self.running:
            if each.over:
                for _ in range(3):  # the first ones may find a connection that was cut
                    await each.do(each.beat())
                assert each.fleet.ended
                await each.leave()
                await self.boot(each)

    # -- what happens --------------------------------------------------------------------------------------------------

    async def step(self) -> None:
        kinds = {
            self.unlock: 8, self.wait: 4, self.rounds: 8, self.beats: 6, self.webhooks: 3, self.ring: 2, self.kill: 3,
            self.stop: 5, self.cut: 2, self.reload: 2, self.fail: 2, self.again: 1, self.crash: 0.4,
        }  # fmt: skip
        [kind] = self.chance.choices(list(kinds), list(kinds.values()))
        await kind()
        await self.replace()
        if not self.running or (len(self.running) < 2 and self.chance.random() < 0.3):
            for each in self.workers:
                if each.engine is None:
                    await self.boot(each)

    async def unlock(self) -> None:
        vendor = self.chance.choice(list(self.vendors.values()))
        for _ in range(self.chance.randint(1, 12)):
            self.time.advance(self.chance.choice([0.0, 0.37]))
            now = self.time.utc()
            self.count += 1
            vendor.add(
                created=now,
                timestamp=now - timedelta(seconds=self.chance.choice([0.2, 0.2, 300.0])),
                visible=now + timedelta(seconds=self.chance.choice([0.0, 0.0, 20.0])),
                log_id=f"r{self.count}",
            )

    async def wait(self) -> None:
        self.time.advance(self.chance.choice([1.0, 61.0, 61.0, 700.0]))

    async def rounds(self) -> None:
        """All at once: they commit into one log, and read it meanwhile."""
        self.time.advance(61)
        await asyncio.gather(*(each.do(each.round()) for each in self.running))

    async def beats(self) -> None:
        await self.beat(self.running, self.chance.randint(1, 3))

    async def fail(self) -> None:
        self.fails = self.chance.randint(1, 3)
        vendor = self.chance.choice(list(self.vendors.values()))
        vendor.faults.append(Fault(status=self.chance.choice([500, 503, 429])))

    async def webhooks(self) -> None:
        for vendor in self.vendors.values():
            self.mail += [(vendor, *each) for each in vendor.due()]
        self.chance.shuffle(self.mail)
        for letter in self.mail[: self.chance.randint(1, 8)]:
            vendor, subscription, document = letter
            if await self.post(vendor.letter(subscription, document)):
                self.mail.remove(letter)
                self.taken.add((subscription.url[-7:], document["id"]))

    async def ring(self) -> None:
        vendor = self.chance.choice(list(self.vendors.values()))
        now = self.time.utc().isoformat()
        await self.post(vendor.letter(vendor.subscriptions[0], {"createdAt": now, "timestamp": now}))

    async def post(self, sent: Any) -> bool:
        worker = self.chance.choice(self.running)
        answer = await worker.do(worker.client.post(sent.url, content=sent.body, headers=sent.headers))
        assert answer.status_code in {200, 404, 503}, answer.text
        return answer.status_code == 200

    async def interrupted(self, worker: Worker, *, at_commit: bool) -> "asyncio.Task[None]":
        """Its round, stopped somewhere, or at its end."""
        await self.unlock()
        self.time.advance(61)
        worker.stopped, worker.goes = asyncio.Event(), asyncio.Event()
        if at_commit:
            worker.wire.stops_at, worker.wire.goes = b"COMMIT", worker.goes
            cuts = worker.wire.cuts
        else:
            worker.left = self.chance.randint(0, 10)
        task = worker.do(worker.round())
        while not (task.done() or worker.stopped.is_set() or (at_commit and worker.wire.cuts > cuts)):
            await asyncio.sleep(0.001)
        worker.left = worker.wire.stops_at = None
        return task

    async def kill(self) -> None:
        worker = self.chance.choice(self.running)
        await self.interrupted(worker, at_commit=self.chance.random() < 0.3)
        await worker.kill()

    async def stop(self) -> None:
        """A worker is stopped, perhaps past its heartbeat, and goes on."""
        worker = self.chance.choice(self.running)
        at_commit = self.chance.random() < 0.4
        task = await self.interrupted(worker, at_commit=at_commit)
        others = [each for each in self.running if each is not worker]
        await self.beat(others, self.chance.choice([1, 6, 8]))
        if worker.over or not at_commit:  # else the others wait for its commit, for seconds
            for each in others:
                self.time.advance(61)
                await each.do(each.round())
        worker.goes.set()
        await task

    async def cut(self) -> None:
        """The server ends all connections, in the middle of what they do."""
        tasks = [await self.interrupted(each, at_commit=False) for each in self.running]
        self.run(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid != pg_backend_pid()"
        )
        for each in self.running:
            each.goes.set()
        await asyncio.gather(*tasks)

    async def crash(self) -> None:
        tasks = [await self.interrupted(each, at_commit=False) for each in self.running]
        await asyncio.to_thread(self.server.stop, signal.SIGKILL)
        for each in self.running:
            each.goes.set()
        await asyncio.sleep(self.chance.choice([0.0, 0.1]))
        await asyncio.to_thread(self.server.start)
        await asyncio.gather(*tasks)

    async def again(self) -> None:
        """An orderly end."""
        worker = self.chance.choice(self.running)
        await worker.leave()

    async def reload(self) -> None:
        """Of one machine after the other, perhaps with something between."""
        self.names = [*ALL[:3], *ALL[3:] * (len(self.names) < 4)]
        for each in self.chance.sample(self.running, len(self.running)):
            await each.do(each.reload())
            if self.chance.random() < 0.5:
                await self.beats()
                await self.rounds()

    # -- the last judgement --------------------------------------------------------------------------------------------

    async def heal(self) -> None:
        self.fails, self.names = 0, list(ALL)
        for vendor in self.vendors.values():
            vendor.faults.clear()
        for each in self.workers:
            if each.engine is None:
                await self.boot(each)
            for _ in range(3):  # as a person does after a refusal
                if await each.do(each.reload()):
                    break
        for seconds in (61, 3700, 61, 7 * 3600, 61):
            self.time.advance(seconds)
            await self.beat(self.workers)
            await self.replace()
            await self.rounds()
        await self.beat(self.workers, 2)

    def check(self) -> None:
        assert self.wrong == []
        log = self.run(
            "SELECT e.seq, s.name, e.id FROM events e JOIN sources s ON s.id = e.source ORDER BY e.seq"
        )
        assert [seq for seq, _, _ in log] == list(range(1, len(log) + 1)), "dense"
        found = [(name, id_) for _, name, id_ in log]
        assert len(found) == len(set(found)), "each once"
        rows = {(f"doors-{host[-1]}", row.id) for host, each in self.vendors.items() for row in each.logs}
        assert rows <= set(found), sorted(rows.difference(found))
        assert self.taken <= set(found), "what was answered with 200 is in the log"
        for sink in SINKS:
            assert list(dict.fromkeys(self.got[sink])) == [seq for seq, _, _ in log], sink
        held = self.run("SELECT name, holder FROM holds WHERE kind = 'source' AND holder IS NOT NULL")
        mine = [(name, each.fleet.session.number) for each in self.workers for name in each.roster]
        assert sorted(held) == sorted(mine)
        assert sorted(name for name, _ in mine) == list(ALL)
        assert self.run("SELECT count(*)::int FROM rings") == [(0,)], "each ring was followed by a visit"


@pytest.mark.parametrize("seed", range(max(4, SIMULATIONS // 5)))
async def test_whenever_workers_and_the_server_end_nothing_is_lost_or_done_by_two(
    seed: int, postgres_server: Postgres
) -> None:
    world = World(postgres_server, postgres_server.database(), seed)
    loop = asyncio.get_running_loop()
    loop.set_task_factory(owned)
    try:
        for each in world.workers:
            await world.boot(each)
        for _ in range(STEPS):
            await world.step()
        await world.heal()
        world.check()
    finally:
        for each in world.running:
            await each.kill()
        loop.set_task_factory(None)
        postgres_server.drop(world.database)
