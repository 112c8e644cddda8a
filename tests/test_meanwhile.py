"""What may happen while a write waits: each test holds the store for a moment, and lets something else come first."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from typing import Any, ClassVar, Literal

import pytest

from doors import until
from inside import (
    alarms,
    cancelled,
    hanging,
    idle,
    locked,
    log,
    prune,
    publish,
    put,
    ring_due,
    seen,
    settle,
    status,
    under_way,
)
from rounds import SCRIPTS, Scripted, running
from roundsman.engine.engine import Engine
from roundsman.errors import Denied, Reject
from roundsman.events import Event
from roundsman.http.client import Http
from roundsman.plugin import Deliver, Poll, Receipt, Source, State, Visit
from roundsman.sandbox import Parakey
from roundsman.store import Filter, Intake, StoreError
from roundsman.store.sqlite.store import SqliteStore
from worlds import PLANS, RECORDS, START, ByHand, Recorder, Straight, Time, an_event, web_of

NOTHING = "DELETE FROM inbox WHERE 0"
"""A statement that changes nothing, and holds the store all the same."""
FAILING, RECOVERED = "roundsman.source.failing", "roundsman.source.recovered"


@pytest.fixture
def engine(store: SqliteStore, parakey: Parakey, time: Time) -> Engine:
    return Engine(store, ByHand(), web_of(Straight(parakey), time), clock=time.clock(), grace=0.2)


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The store waits for others for longer than a busy machine needs."""
    monkeypatch.setattr("roundsman.store.sqlite.writer.BUSY", 30.0)


@pytest.fixture
def impatient(patient: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store waits for others so briefly that it fails."""
    monkeypatch.setattr("roundsman.store.sqlite.writer.BUSY", 0.2)


def one(**options: Any) -> dict[str, Source]:
    return {"a": Scripted(**options).named("a")}


async def fine(visit: Visit, state: State) -> Poll:
    return Poll(state)


def kinds(engine: Engine) -> list[str]:
    return [event.type for event, _ in seen(engine.store.events(0, 10**9, 10**6, Filter()))]


class Gated(Recorder):
    """A recorder that takes events only once its gate is open."""

    type: Literal["gated"] = "gated"  # type: ignore[assignment]

    @asynccontextmanager
    async def open(self, http: Http, receipt: Receipt | None) -> AsyncIterator[Deliver]:
        async def deliver(events: Sequence[Event]) -> None:
            BEGUN[self.name].set()
            await GATES[self.name].wait()
            self.told().extend(events)

        yield deliver


GATES: dict[str, asyncio.Event] = {}
BEGUN: dict[str, asyncio.Event] = {}


def gated(name: str) -> Gated:
    GATES[name], BEGUN[name] = asyncio.Event(), asyncio.Event()
    return Gated().named(name)


# -- a visit's beginning waits -----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("impatient")
async def test_a_clock_set_back_while_due_cannot_be_written_delays_no_visit(
    engine: Engine, time: Time
) -> None:
    SCRIPTS["a"] = fine
    await engine.setup(one(), {})
    async with running(engine):
        with locked(engine.store, NOTHING):
            await ring_due(engine)
            await until(lambda: not seen_idle(engine))
            time.set_wall(-3600)
            await until(lambda: engine.trouble.error)
            await settle(engine)
        assert alarms(engine).at["a"] <= time.now() + 20
        assert (await status(engine, "a")).unanswered_since is None, "no vendor was asked"


def seen_idle(engine: Engine) -> bool:
    return seen(idle(engine))


async def test_a_clock_set_back_while_due_is_written_delays_no_visit(engine: Engine, time: Time) -> None:
    SCRIPTS["a"] = fine
    await engine.setup(one(), {})
    async with running(engine):
        with locked(engine.store, NOTHING):
            await ring_due(engine)
            await until(lambda: not seen_idle(engine))
            time.set_wall(-3600)
            beat = asyncio.create_task(engine.beat())
            await asyncio.sleep(0)
        await beat
        await settle(engine)
        assert (await status(engine, "a")).due == time.now() + 60
        [row] = await engine.store.sources()
        assert row.status.due == time.now() + 60


async def test_a_rewind_while_due_is_written_is_read_by_that_visit(engine: Engine, time: Time) -> None:
    states = []

    async def poll(visit: Visit, state: State) -> Poll:
        states.append(dict(state))
        return Poll({"at": "end"})

    SCRIPTS["a"] = poll
    await engine.setup(one(), {})
    async with running(engine):
        with closing(sqlite3.connect(engine.store.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            other.execute('UPDATE sources SET state = \'{"at":"x"}\', revision = revision + 1, due = -1')
            await ring_due(engine)
            await until(lambda: not seen_idle(engine))
            other.execute("COMMIT")
        await settle(engine)
        await engine.beat()
        await settle(engine)
    assert states == [{"at": "x"}], "and it is visited once for both"


async def test_a_ring_while_due_is_written_is_answered(engine: Engine, time: Time) -> None:
    visits = []

    async def count(visit: Visit, state: State) -> Poll:
        visits.append(visit.trigger)
        return Poll(state)

    SCRIPTS["a"] = count
    await engine.setup(one(), {})
    async with running(engine):
        with locked(engine.store, NOTHING):
            await ring_due(engine)
            await until(lambda: not seen_idle(engine))
            engine.turns.ring("a")
        await settle(engine)
        time.advance(6)
        await ring_due(engine)
        await settle(engine)
    assert visits[0] == "due"
    assert set(visits[1:]) <= {"webhook"}
    assert (await status(engine, "a")).ring_at is None, "it was answered"


async def test_a_source_that_comes_back_is_not_asked_before_its_due_is_written(
    engine: Engine, time: Time
) -> None:
    """It waited for its turn when it was taken out: that turn is not the new one's."""
    gate = asyncio.Event()
    asked = []

    async def hang(visit: Visit, state: State) -> Poll:
        await gate.wait()
        return Poll(state)

    async def count(visit: Visit, state: State) -> Poll:
        asked.append(seen(engine.store.sources())[-1].status.due)
        return Poll(state)

    others: dict[str, Source] = {f"s{n}": Scripted(interval=86400).named(f"s{n}") for n in range(32)}
    last: dict[str, Source] = {"z": Scripted(interval=86400).named("z")}
    SCRIPTS.update(dict.fromkeys(others, hang), z=count)
    await engine.setup(others, {})
    async with running(engine):
        time.advance(60)
        await ring_due(engine)
        await until(lambda: seen(under_way(engine, "s31")))
        await engine.setup(others | last, {})
        time.advance(60)
        await ring_due(engine)
        await until(lambda: seen(engine.store.sources())[-1].status.due > time.now())
        await engine.setup(others, {})
        await engine.setup(others | last, {})
        with locked(engine.store, NOTHING):
            engine.turns.visit_now("z")
            await asyncio.sleep(0)
            gate.set()
            await until(lambda: not seen(under_way(engine, "s31")))
            assert asked == []
        await until(lambda: asked)
        assert asked == [time.now() + 86400]


async def test_a_stop_while_due_is_written_asks_no_vendor_and_leaves_nothing(
    engine: Engine, time: Time
) -> None:
    asked = []

    async def count(visit: Visit, state: State) -> Poll:
        asked.append(1)
        return Poll(state)

    SCRIPTS["a"] = count
    await engine.setup(one(), {})
    async with running(engine) as run:
        with locked(engine.store, NOTHING):
            await ring_due(engine)
            await until(lambda: not seen_idle(engine))
            engine.stop()
            await asyncio.sleep(0)
        await asyncio.wait_for(run, 30)
    assert asked == []
    assert asyncio.all_tasks() == {asyncio.current_task()}


# -- a visit's find waits ----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("clock", ["is set", "runs"])
async def test_a_recovery_that_could_not_be_written_is_reported_by_the_next(
    engine: Engine, time: Time, clock: str
) -> None:
    good = False

    async def poll(visit: Visit, state: State) -> Poll:
        if not good:
            raise Denied("no", 401)
        return Poll({"n": state.get("n", 0) + 1})

    SCRIPTS["a"] = poll
    await engine.setup(one(), {})
    await engine.visit("a")
    assert kinds(engine) == [FAILING]
    good = True
    with locked(engine.store, NOTHING):
        visit = asyncio.create_task(engine.visit("a"))
        await asyncio.sleep(0.01)
        if clock == "is set":
            time.set_wall(300)
            engine.reception.now()
        assert not await visit
    assert (await status(engine, "a")).failing_since is not None
    await engine.visit("a")
    assert kinds(engine) == [FAILING, RECOVERED]
    assert (await engine.store.memory("a")).state == {"n": 1}


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("clock", ["is set", "runs"])
async def test_a_failure_that_could_not_be_written_is_reported_by_the_next(
    engine: Engine, time: Time, clock: str
) -> None:
    async def poll(visit: Visit, state: State) -> Poll:
        raise Denied("no", 401)

    SCRIPTS["a"] = poll
    await engine.setup(one(), {})
    with locked(engine.store, NOTHING):
        visit = asyncio.create_task(engine.visit("a"))
        await asyncio.sleep(0.01)
        if clock == "is set":
            time.set_wall(-300)
            engine.reception.now()
        assert not await visit
    assert (await status(engine, "a")).failing_since is None
    await engine.visit("a")
    assert kinds(engine) == [FAILING]


@pytest.mark.usefixtures("impatient")
async def test_a_rest_that_could_not_be_written_counts_one_visit(engine: Engine, time: Time) -> None:
    async def rests(visit: Visit, state: State) -> Poll:
        visit.defer(900.0)
        return Poll(state)

    SCRIPTS["a"] = rests
    await engine.setup(one(), {})
    with locked(engine.store, NOTHING):
        assert not await engine.visit("a")
    assert (await status(engine, "a")).visits == 1
    assert (await status(engine, "a")).not_before == time.now() + 900


async def test_a_rewind_while_a_find_is_written_voids_it(engine: Engine, time: Time) -> None:
    async def poll(visit: Visit, state: State) -> Poll:
        at = state.get("at", 0)
        return Poll({"at": at + 1}, [an_event(at, "a")])

    SCRIPTS["a"] = poll
    await engine.setup(one(), {})
    with closing(sqlite3.connect(engine.store.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("UPDATE sources SET state = '{\"at\":7}', revision = revision + 1, due = -1")
        visit = asyncio.create_task(engine.visit("a"))
        await asyncio.sleep(0.01)
        other.execute("COMMIT")
    assert await visit
    assert [event.id for event in await log(engine.store)] == ["id00007"]
    assert (await engine.store.memory("a")).state == {"at": 8}


async def test_a_stop_while_a_find_is_written_keeps_it(engine: Engine, time: Time) -> None:
    async def poll(visit: Visit, state: State) -> Poll:
        at = state.get("at", 0)
        return Poll({"at": at + 1}, [an_event(at, "a")])

    SCRIPTS["a"] = poll
    await engine.setup(one(), {})
    async with running(engine) as run:
        found = asyncio.Event()

        async def last(visit: Visit, state: State) -> Poll:
            found.set()
            await GATES["poll"].wait()
            return await poll(visit, state)

        GATES["poll"] = asyncio.Event()
        SCRIPTS["a"] = last
        await ring_due(engine)
        await found.wait()
        with locked(engine.store, NOTHING):
            GATES["poll"].set()
            await asyncio.sleep(0.2)
            engine.stop()
            await asyncio.sleep(0.01)
        await asyncio.wait_for(run, 30)
    assert [event.id for event in await log(engine.store)] == ["id00000"]
    assert (await engine.store.memory("a")).state == {"at": 1}
    [row] = await engine.store.sources()
    assert row.status.visits == 1
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_sinks_get_what_a_source_found_last(engine: Engine, time: Time) -> None:
    """It is taken out while its find is written: no visit is left to say that there is something new."""
    begun, gate = asyncio.Event(), asyncio.Event()

    async def poll(visit: Visit, state: State) -> Poll:
        begun.set()
        await gate.wait()
        return Poll({"at": 1}, [an_event(1, "a")])

    SCRIPTS["a"] = poll
    sinks = {"one": Recorder().named("one")}
    await engine.setup(one(), sinks)
    async with running(engine):
        await ring_due(engine)
        await begun.wait()
        with hanging(engine.store) as disk:
            reload = asyncio.create_task(engine.setup({}, sinks))
            await until(lambda: disk.begun == 1)
            gate.set()
            await asyncio.sleep(0.2)  # what it found waits for the next transaction
            disk.let()
            await until(lambda: reload.done() and disk.begun == 2)
            await asyncio.sleep(0.01)  # the sink, which the reload has opened again, has found nothing new
        await until(lambda: RECORDS.get("one"))


class Ahead(Source):
    """A source whose next page is requested while the last one is written."""

    type: Literal["ahead"] = "ahead"
    base_url: str = "http://127.0.0.1:1"
    reads_ahead: ClassVar[bool] = True

    def poll(self, visit: Visit, state: State) -> Any:
        return SCRIPTS[self.name](visit, state)


def pages(gates: Sequence[asyncio.Event]) -> Any:
    """A backlog: each page comes once its gate is open."""

    async def poll(visit: Visit, state: State) -> Poll:
        at = state.get("at", 0)
        visit.http.account.asked += 1
        await gates[at].wait()
        return Poll({"at": at + 1}, [an_event(at, "a")], more=at < len(gates) - 1)

    return poll


async def test_a_clock_set_while_a_page_is_written_makes_no_source_fail(engine: Engine, time: Time) -> None:
    """The next page is requested already, by the new time."""
    gates = [asyncio.Event(), asyncio.Event(), asyncio.Event()]
    SCRIPTS["a"] = pages(gates)
    await engine.setup({"a": Ahead().named("a")}, {})
    async with running(engine):
        await ring_due(engine)
        await until(lambda: seen(under_way(engine, "a")))
        with locked(engine.store, NOTHING):
            gates[0].set()
            await asyncio.sleep(0.01)
            time.set_wall(3600)
            engine.reception.now()
        await until(lambda: seen(engine.store.head()) == 1)
        await engine.beat()
        assert FAILING not in kinds(engine)
        for gate in gates:
            gate.set()
        await settle(engine)
    assert [event.id for event in await log(engine.store, "co.*")] == ["id00000", "id00001", "id00002"]


async def test_a_stop_while_pages_are_read_ahead_keeps_what_is_being_written(
    engine: Engine, time: Time
) -> None:
    gates = [asyncio.Event() for _ in range(4)]
    SCRIPTS["a"] = pages(gates)
    await engine.setup({"a": Ahead().named("a")}, {})
    async with running(engine) as run:
        await ring_due(engine)
        gates[0].set()
        await until(lambda: seen(engine.store.head()) == 1)
        with locked(engine.store, NOTHING):
            gates[1].set()  # its commit waits, and the next page is requested
            await asyncio.sleep(0.2)
            engine.stop()
            await asyncio.sleep(0.01)
        await asyncio.wait_for(run, 30)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert (await engine.store.memory("a")).state == {"at": 2}
    for gate in gates:
        gate.set()
    assert await engine.visit("a")
    assert [event.id for event in await log(engine.store)] == [f"id0000{n}" for n in range(4)]


# -- the heartbeat waits -----------------------------------------------------------------------------------------------


async def test_a_store_that_hangs_is_no_health(engine: Engine, time: Time) -> None:
    SCRIPTS["a"] = fine
    await engine.setup(one(interval=86400), {})
    async with running(engine):
        await ring_due(engine)
        await settle(engine)
        assert engine.healthy()
        with hanging(engine.store) as disk:
            beat = asyncio.create_task(engine.beat())
            await until(lambda: disk.begun)
            assert engine.healthy()
            time.advance(31)
            assert not engine.healthy()
        await beat
        assert engine.healthy()


async def test_webhooks_are_refused_while_damage_is_being_reported(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roundsman.store.sqlite.store.check", lambda path: "x.db is damaged: restore it")
    await engine.setup(one(), {})
    with locked(engine.store, NOTHING):
        check = asyncio.create_task(engine.upkeep.check())
        await until(lambda: engine.store.damage, 20)
        with pytest.raises(StoreError, match="is damaged"):
            await engine.store.receive(Intake("a", [an_event(2, "a")]), START)
    await check
    assert kinds(engine) == ["roundsman.store.damaged"]


async def test_a_set_clock_makes_no_sink_fail_for_long(engine: Engine, time: Time) -> None:
    """A delivery may fail while the heartbeat, which saw the step, waits for the store."""

    def bad(event: Event) -> None:
        raise OSError("down")

    await engine.setup(one(), {"one": Recorder().named("one")})
    SCRIPTS["a"], PLANS["one"] = fine, bad
    await put(engine.store, an_event(1, "a"))
    await engine.deliveries["one"].once()
    time.advance(5)
    with locked(engine.store, NOTHING):
        time.set_wall(3600)
        visits = asyncio.create_task(engine.store.schedule([]))
        beat = asyncio.create_task(engine.beat())
        await asyncio.sleep(0.01)
        again = asyncio.create_task(engine.deliveries["one"].once())
        await asyncio.sleep(0.01)
    await asyncio.gather(visits, beat, again)
    assert [kind for kind in kinds(engine) if "sink" in kind] == []


async def test_a_command_before_the_first_heartbeat_counts(engine: Engine, time: Time) -> None:
    """It came after the set of sources was taken over."""
    visits = []

    async def count(visit: Visit, state: State) -> Poll:
        visits.append(dict(state))
        return Poll(state)

    SCRIPTS["a"] = count
    await engine.setup(one(), {})
    await engine.visit("a")
    beside = SqliteStore.open(engine.store.path, daemon=False)
    await beside.rewind("a", {"x": 1})
    await beside.close()
    async with running(engine):
        await ring_due(engine)
        await until(lambda: visits[-1] == {"x": 1})


# -- a sink waits ------------------------------------------------------------------------------------------------------


async def test_a_replaced_sink_gets_nothing_twice(engine: Engine, time: Time) -> None:
    """The old loop delivers in the last moment of its grace, and its ack waits for the store longer than that."""
    SCRIPTS["a"] = fine
    await engine.setup(one(), {"one": gated("one")})
    await put(engine.store, an_event(1, "a"))
    async with running(engine):
        await BEGUN["one"].wait()
        await engine.setup(one(), {"one": Gated(batch=2).named("one")})
        with locked(engine.store, NOTHING):
            GATES["one"].set()
            await until(lambda: RECORDS.get("one"))
            await until(lambda: cancelled(engine, "one"))
            await asyncio.sleep(0.01)
        await engine.store.append_notices("a", [an_event(2, "a")], START)
        publish(engine)
        await until(lambda: len(RECORDS["one"]) > 1 and RECORDS["one"][-1].id == "id00002")
    assert [event.id for event in RECORDS["one"]] == ["id00001", "id00002"]


async def test_a_dead_letter_that_was_delivered_at_the_stop_is_not_delivered_again(
    engine: Engine, time: Time
) -> None:
    def reject(event: Event) -> None:
        raise Reject("no")

    SCRIPTS["a"], PLANS["one"] = fine, reject
    await engine.setup(one(), {"one": Recorder().named("one")})
    await put(engine.store, an_event(1, "a"))
    async with running(engine) as run:
        await until(lambda: seen(engine.store.dead("one")))
        PLANS.clear()
        await engine.store.requeue_dead("one", None)
        with locked(engine.store, NOTHING):
            publish(engine)
            await until(lambda: RECORDS.get("one"))
            engine.stop()
            await until(lambda: cancelled(engine, "one"))
        await asyncio.wait_for(run, 30)
    assert await engine.store.dead("one") == []
    await engine.deliveries["one"].once()
    assert len(RECORDS["one"]) == 1


async def test_a_sink_that_recovers_while_its_failure_is_written_is_reported_as_such(
    engine: Engine, time: Time
) -> None:
    SCRIPTS["a"] = fine
    await engine.setup(one(interval=86400), {"one": gated("one")})
    await put(engine.store, an_event(1, "a"))
    async with running(engine):
        await BEGUN["one"].wait()
        time.advance(700)
        with locked(engine.store, NOTHING):
            look = asyncio.create_task(engine.deliveries.look())
            await asyncio.sleep(0)
            GATES["one"].set()
            await until(lambda: RECORDS.get("one"))
        await look
        await until(lambda: "roundsman.sink.recovered" in kinds(engine))
        assert [k for k in kinds(engine) if "sink" in k] == [
            "roundsman.sink.failing",
            "roundsman.sink.recovered",
        ]
        await until(lambda: seen(engine.store.sinks())[0].error is None)


async def test_each_sink_that_comes_back_too_late_is_reported(engine: Engine, time: Time) -> None:
    """Also one whose delivery begins while the notice about another is written."""
    SCRIPTS["a"] = fine
    names = ("one", "two", "three")
    await engine.setup(one(interval=86400), {name: Recorder().named(name) for name in names})
    await engine.setup(one(interval=86400), {})
    await put(engine.store, an_event(1, "a"))
    engine.upkeep.retention = 3600
    time.advance(7200)
    await put(engine.store, an_event(2, "a"), now=time.now())
    await engine.upkeep.prune([])
    async with running(engine):
        await engine.setup(one(interval=86400), {name: Recorder().named(name) for name in names})
        await until(lambda: all(RECORDS.get(name) for name in names))
    assert kinds(engine).count("roundsman.sink.gap") == 3


async def test_what_a_coming_sink_has_not_got_is_not_pruned(engine: Engine, time: Time) -> None:
    """It is about to be taken over, and its cursor is read already, when a step of pruning comes."""
    SCRIPTS["a"] = fine
    await engine.setup(one(interval=86400), {"one": Recorder().named("one")})
    await engine.setup(one(interval=86400), {})
    await put(engine.store, an_event(1, "a"))
    engine.upkeep.retention = 3600
    time.advance(7200)
    async with running(engine):
        with locked(engine.store, NOTHING):
            reload = asyncio.create_task(engine.setup(one(interval=86400), {"one": Recorder().named("one")}))
            await asyncio.sleep(0)
            pruning = asyncio.create_task(prune(engine))
            await asyncio.sleep(0)
        await asyncio.gather(reload, pruning)
        await until(lambda: RECORDS.get("one"))
    assert [event.id for event in RECORDS["one"]] == ["id00001"]


# -- a reload waits ----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("impatient")
async def test_a_reload_that_could_not_be_written_changes_nothing(engine: Engine, time: Time) -> None:
    visits = []

    async def count(visit: Visit, state: State) -> Poll:
        visits.append(time.now())
        return Poll(state)

    SCRIPTS.update(a=count, b=count)
    await engine.setup(one(), {"one": Recorder().named("one")})
    async with running(engine):
        with locked(engine.store, NOTHING), pytest.raises(StoreError, match="locked"):
            await engine.setup({"b": Scripted().named("b")}, {"two": Recorder().named("two")})
        assert list(engine.roster) == ["a"]
        assert list(engine.deliveries) == ["one"]
        await ring_due(engine)
        await until(lambda: visits)
