"""A webhook rings: its source is visited at once, but no vendor is hammered and no visit that is due is lost for it."""

import asyncio
from itertools import pairwise
from typing import Any

import pytest

from doors import until
from inside import done, ring_due, settle, status
from rounds import SCRIPTS, Scripted, running
from roundsman.engine.engine import Engine
from roundsman.engine.policy import DEBOUNCE
from roundsman.errors import Backoff
from roundsman.plugin import Poll, State, Visit
from roundsman.sandbox import Parakey
from roundsman.store import Intake, New
from roundsman.store.sqlite.store import SqliteStore
from worlds import START, ByHand, Straight, Time, an_event, web_of


async def noted(visit: Visit, state: State) -> Poll:
    """Does what the test says, and remembers when and why."""
    VISITS.append((visit.now.timestamp() - START, visit.trigger == "webhook"))
    found: Poll = await SCRIPT[0](visit, state)
    return found


async def nothing_new(visit: Visit, state: State) -> Poll:
    return Poll(state)


VISITS: list[tuple[float, bool]] = []
SCRIPT: list[Any] = [nothing_new]


@pytest.fixture
def engine(store: SqliteStore, time: Time) -> Engine:
    VISITS.clear()
    SCRIPT[0], SCRIPTS["bell"] = nothing_new, noted
    engine = Engine(store, ByHand(), web_of(Straight(Parakey(time.utc)), time), clock=time.clock(), grace=0.2)
    done(engine.setup({"bell": Scripted().named("bell")}, {}))
    return engine


async def pass_time(engine: Engine, time: Time, seconds: float, step: float = 0.5) -> None:
    for _ in range(round(seconds / step)):
        time.advance(step)
        await ring_due(engine)
        await settle(engine)


async def test_a_ring_is_a_visit_at_once_and_the_next_one_keeps_its_time(engine: Engine, time: Time) -> None:
    async with running(engine):
        await pass_time(engine, time, 10)
        engine.turns.ring("bell")
        await settle(engine)
        assert VISITS == [(0.5, False), (10, True)]
        assert (await status(engine, "bell")).due == START + 60.5
        await pass_time(engine, time, 60)
    assert VISITS[2:] == [(60.5, False)]


async def test_a_flood_of_webhooks_is_not_a_flood_of_visits(engine: Engine, time: Time) -> None:
    async with running(engine):
        await pass_time(engine, time, 10)
        for _ in range(100):
            for _ in range(50):
                engine.turns.ring("bell")
            await settle(engine)
            await pass_time(engine, time, 0.5)
    rung = [at for at, ring in VISITS if ring]
    assert all(b - a >= DEBOUNCE for a, b in pairwise(rung)), rung
    assert len(rung) <= 11
    assert [at for at, ring in VISITS if not ring] == [0.5], "and what is due comes when it is due"
    assert (await status(engine, "bell")).due == START + 60.5


async def test_a_flood_never_starves_the_visits_that_are_due(engine: Engine, time: Time) -> None:
    async with running(engine):
        for _ in range(600):
            engine.turns.ring("bell")
            await pass_time(engine, time, 0.5)
    due = [at for at, ring in VISITS if not ring]
    assert due == [0.5, 60.5, 120.5, 180.5, 240.5]


async def test_a_ring_during_a_visit_is_a_visit_after_it(engine: Engine, time: Time) -> None:
    gate = asyncio.Event()

    async def slow(visit: Visit, state: State) -> Poll:
        await gate.wait()
        return Poll(state)

    SCRIPT[0] = slow
    async with running(engine):
        time.advance(1)
        await ring_due(engine)
        await until(lambda: len(VISITS) == 1)
        for _ in range(5):
            engine.turns.ring("bell")
        gate.set()
        await until(lambda: len(VISITS) == 2)
        await settle(engine)
    assert [ring for _, ring in VISITS] == [False, True]


async def test_a_ring_waits_as_long_as_the_vendor_asks(engine: Engine, time: Time) -> None:
    async def busy(visit: Visit, state: State) -> Poll:
        raise Backoff(300, "come again later")

    SCRIPT[0] = busy
    async with running(engine):
        await pass_time(engine, time, 1)
        SCRIPT[0] = nothing_new
        for _ in range(20):
            engine.turns.ring("bell")
            await pass_time(engine, time, 10)
        assert len(VISITS) == 1
        await pass_time(engine, time, 150)
    assert VISITS[1][0] >= 300


async def test_a_ring_while_a_source_fails_asks_no_faster_than_an_interval(
    engine: Engine, time: Time
) -> None:
    async def broken(visit: Visit, state: State) -> Poll:
        raise OSError("no")

    SCRIPT[0] = broken
    async with running(engine):
        for _ in range(120):
            engine.turns.ring("bell")
            await pass_time(engine, time, 10, step=5)
    times = [at for at, _ in VISITS]
    assert len(times) > 5
    assert all(b - a >= 60 for a, b in pairwise(times)), times


async def test_what_a_ring_found_says_so(engine: Engine, time: Time) -> None:
    async def finds(visit: Visit, state: State) -> Poll:
        number = len(VISITS)
        return Poll({"n": number}, [an_event(number, "bell")])

    SCRIPT[0] = finds
    async with running(engine):
        await pass_time(engine, time, 10)
        engine.turns.ring("bell")
        await settle(engine)
    assert await engine.store.via([1, 2]) == {1: None, 2: "ring"}
    assert dict(engine.meter.events) == {("bell", "poll"): 1, ("bell", "ring"): 1}
    assert dict(engine.meter.polls) == {("bell", "new"): 2}


async def test_a_clock_that_is_set_moves_rings_along(engine: Engine, time: Time) -> None:
    async with running(engine):
        await pass_time(engine, time, 10)
        engine.turns.ring("bell")
        await settle(engine)
        engine.turns.ring("bell")  # at 15
        time.set_wall(-7200)
        await engine.beat()
        await pass_time(engine, time, 10)
    assert len(VISITS) == 3


async def test_a_webhook_that_is_kept_as_unread_still_rings_in_a_fleet(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored: list[Intake] = []

    async def receive(intake: Intake, _: float) -> New:
        stored.append(intake)
        if intake.unread is None:
            raise ValueError("surrogates not allowed")
        return New()

    monkeypatch.setattr(engine.store, "receive", receive)
    event = an_event(1, "bell")
    await engine.reception._write(Intake("bell", [event], ring=True), START)
    assert [(each.unread is not None, each.ring) for each in stored] == [(False, True), (True, True)]
