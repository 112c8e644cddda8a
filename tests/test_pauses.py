"""A paused source is not asked, a paused sink gets nothing; nothing is lost, and neither counts as failing."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import pytest
from structlog.testing import capture_logs

from doors import HEADER, PARAKEY, VALUE, open_door, until
from inside import (
    done,
    fail_sink,
    left_in,
    log,
    prune,
    publish,
    put,
    ring_due,
    settle,
    sink_failed,
    status,
    under_way,
)
from rounds import SCRIPTS, Rounds, Scripted, running
from roundsman.engine.engine import Engine
from roundsman.engine.notices import SINK_PATIENCE
from roundsman.errors import Backoff, Reject
from roundsman.events import Event
from roundsman.http.client import Http
from roundsman.plugin import Deliver, Poll, Receipt, Sink, State, Visit
from roundsman.sandbox import Parakey
from roundsman.store import Kind, StoreError
from roundsman.store.sqlite.store import SqliteStore
from roundsman.web.app import Readiness
from roundsman.web.exposition import Exposition
from worlds import (
    PLANS,
    RECORDS,
    START,
    ByHand,
    Recorder,
    Straight,
    Time,
    an_event,
    event_logs,
    parakey_batches,
    web_of,
)


async def exposition(engine: Engine) -> bytes:
    """The metrics, as text."""
    return b"".join([piece async for piece in Exposition(engine).pieces()])


@pytest.fixture
def engine(store: SqliteStore, parakey: Parakey, time: Time) -> Engine:
    SCRIPTS["a"] = SCRIPTS["b"] = nothing_new
    return Engine(store, ByHand(), web_of(Straight(parakey), time), clock=time.clock(), grace=0.2)


class Gated(Sink):
    """Delivers one event at a time, once the test opens its gate."""

    type: Literal["gated"] = "gated"

    @asynccontextmanager
    async def open(self, http: Http, receipt: Receipt | None) -> AsyncIterator[Deliver]:
        async def deliver(events: Sequence[Event]) -> None:
            BEGUN.extend(event.id for event in events)
            await GATE[0].wait()

        yield deliver
        CLOSED.append(len(BEGUN))


VISITS: list[str] = []
"""The triggers of the visits."""
BEGUN: list[str] = []
CLOSED: list[int] = []
"""How many deliveries had begun when the place was closed."""
GATE: list[asyncio.Event] = []


@pytest.fixture(autouse=True)
def none_yet() -> None:
    for each in (VISITS, BEGUN, CLOSED, GATE):
        each.clear()


async def nothing_new(visit: Visit, state: State) -> Poll:
    VISITS.append(visit.trigger)
    return Poll(state)


async def setup(engine: Engine, *names: str, sinks: Sequence[str] = ()) -> None:
    await engine.setup(
        {name: Scripted().named(name) for name in names},
        {name: Recorder(batch=1).named(name) for name in sinks},
    )


async def command(engine: Engine, act: Callable[[Any], Any]) -> None:
    """As a command in another process does it; the daemon's next heartbeat follows."""
    desk = SqliteStore.open(engine.store.path, daemon=False)
    try:
        await act(desk)
    finally:
        await desk.close()
    await engine.beat()


async def pause(engine: Engine, name: str, kind: Kind = "source") -> None:
    await command(engine, lambda desk: desk.pause(kind, name, "anna", engine.time.now()))


async def resume(engine: Engine, name: str, kind: Kind = "source") -> None:
    await command(engine, lambda desk: desk.resume(kind, name))


async def pass_time(engine: Engine, time: Time, seconds: float, step: float = 10.0) -> None:
    for _ in range(round(seconds / step)):
        time.advance(step)
        await ring_due(engine)
        await settle(engine)
        await engine.beat()


# -- sources -----------------------------------------------------------------------------------------------------------


async def test_a_paused_source_is_not_asked_when_it_is_due_and_soon_after_the_pause(
    engine: Engine, time: Time
) -> None:
    await setup(engine, "a", "b")
    async with running(engine):
        await pass_time(engine, time, 10)
        VISITS.clear()
        await pause(engine, "a")
        await pass_time(engine, time, 600)
        assert len(VISITS) == 10, "the other source goes on"
        VISITS.clear()
        await resume(engine, "a")
        await settle(engine)
        assert VISITS == ["command"]
        await pass_time(engine, time, 60)
        assert len(VISITS) == 3, "and then at its interval"


@pytest.mark.parametrize("wish", ["ring", "rewind", "track"])
async def test_no_wish_has_a_paused_source_asked_and_the_end_of_the_pause_fulfils_it(
    engine: Engine, time: Time, wish: str
) -> None:
    states: list[State] = []

    async def looks(visit: Visit, state: State) -> Poll:
        states.append(state)
        return Poll(state)

    SCRIPTS["a"] = looks
    await setup(engine, "a")
    async with running(engine):
        await pass_time(engine, time, 10)
        await pause(engine, "a")
        states.clear()
        if wish == "ring":
            engine.turns.ring("a")
        if wish == "rewind":
            await command(engine, lambda desk: desk.rewind("a", {"at": "then"}))
        if wish == "track":
            await command(engine, lambda desk: desk.follow("a", ["x1"]))
        await pass_time(engine, time, 600)
        assert states == []
        await resume(engine, "a")
        await settle(engine)
        assert len(states) == 1
    if wish == "rewind":
        assert states == [{"at": "then"}]
    if wish == "track":
        assert states == [{"ids": ["x1"]}]


async def test_a_pause_ends_the_visit_under_way_and_what_it_had_committed_stays(
    engine: Engine, time: Time
) -> None:
    gate, begun = asyncio.Event(), 0

    async def pages(visit: Visit, state: State) -> Any:
        nonlocal begun
        for number in range(state.get("n", 0), 3):
            begun += 1
            if number == 1:
                await gate.wait()
            yield Poll({"n": number + 1}, [an_event(number, "a")], page=number < 2)

    SCRIPTS["a"] = pages
    await setup(engine, "a")
    async with running(engine):
        time.advance(1)
        await ring_due(engine)
        await until(lambda: begun == 2)
        await pause(engine, "a")
        await settle(engine)
        assert [event.id for event in await log(engine.store)] == ["id00000"]
        gate.set()
        await pass_time(engine, time, 300)
        assert begun == 2
        await resume(engine, "a")
        await settle(engine)
    assert [event.id for event in await log(engine.store)] == ["id00000", "id00001", "id00002"]
    assert (await engine.store.memory("a")).state == {"n": 3}


async def test_a_visit_that_waits_for_its_turn_does_not_begin_after_a_pause(
    engine: Engine, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roundsman.engine.turns.PER_HOST", 1)
    gate = asyncio.Event()

    async def slow(visit: Visit, state: State) -> Poll:
        await gate.wait()
        return Poll(state)

    SCRIPTS["a"] = slow
    await setup(engine, "a", "b")
    async with running(engine):
        time.advance(1)
        await ring_due(engine)
        await until(lambda: under_way(engine, "a"))
        await pause(engine, "b")
        gate.set()
        await settle(engine)
        assert VISITS == []
        await resume(engine, "b")
        await settle(engine)
        assert VISITS == ["command"]


async def test_the_wait_that_a_vendor_asked_for_outlasts_a_pause(engine: Engine, time: Time) -> None:
    async def busy(visit: Visit, state: State) -> Poll:
        VISITS.append(visit.trigger)
        raise Backoff(900, "later")

    SCRIPTS["a"] = busy
    await setup(engine, "a")
    async with running(engine):
        await pass_time(engine, time, 10)
        await pause(engine, "a")
        await pass_time(engine, time, 60)
        await resume(engine, "a")
        await pass_time(engine, time, 800)
        assert len(VISITS) == 1
        await pass_time(engine, time, 60)
        assert len(VISITS) == 2


async def test_the_wait_that_a_vendor_asked_for_outlasts_a_pause_of_the_visit_that_read_it(
    engine: Engine, time: Time
) -> None:
    """The wait is known with the first page, and is written at the end of a visit."""
    asked = 0

    async def pages(visit: Visit, state: State) -> Any:
        nonlocal asked
        asked += 1
        visit.defer(900)
        yield Poll({"n": 1}, [an_event(asked, "a")], page=True)
        await asyncio.Event().wait()

    SCRIPTS["a"] = pages
    await setup(engine, "a")
    async with running(engine):
        time.advance(1)
        await ring_due(engine)
        await until(lambda: left_in(engine.store.path))
        await pause(engine, "a")
        await settle(engine)
        time.advance(10)
        await resume(engine, "a")
        await pass_time(engine, time, 800)
        assert asked == 1
        assert (await status(engine, "a")).not_before > engine.time.now()
        time.advance(100)
        await ring_due(engine)
        await until(lambda: asked == 2)


async def test_a_source_is_visited_after_its_pause_if_its_visit_waited_for_the_end_of_an_earlier_one(
    engine: Engine, time: Time
) -> None:
    """A reload takes it out during a visit and another one adds it again; the first visit still cleans up."""
    begun, cleaned = asyncio.Event(), asyncio.Event()

    async def ends_slowly(visit: Visit, state: State) -> Poll:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            await cleaned.wait()
        return Poll(state)

    SCRIPTS["a"] = ends_slowly
    await setup(engine, "a", "b")
    async with running(engine):
        time.advance(1)
        await ring_due(engine)
        await begun.wait()
        await setup(engine, "b")
        SCRIPTS["a"] = nothing_new
        await setup(engine, "a", "b")
        time.advance(100)
        await ring_due(engine)
        await until(lambda: under_way(engine, "a"))
        await pause(engine, "a")
        cleaned.set()
        await settle(engine)
        VISITS.clear()
        await resume(engine, "a")
        await settle(engine)
        assert VISITS == ["command"]


async def test_a_long_backoff_ends_with_the_pause(engine: Engine, time: Time) -> None:
    async def broken(visit: Visit, state: State) -> Poll:
        VISITS.append(visit.trigger)
        raise OSError("maintenance")

    SCRIPTS["a"] = broken
    await setup(engine, "a")
    async with running(engine):
        await pass_time(engine, time, 3000)
        assert (await status(engine, "a")).due > engine.time.now() + 300
        VISITS.clear()
        await pause(engine, "a")
        await pass_time(engine, time, 60)
        SCRIPTS["a"] = nothing_new
        await resume(engine, "a")
        await settle(engine)
    assert VISITS == ["command"]
    assert (await status(engine, "a")).failures == 0


async def test_a_paused_source_is_neither_late_nor_failing_and_the_pause_is_no_time_without_an_answer(
    engine: Engine, time: Time
) -> None:
    async def broken(visit: Visit, state: State) -> Poll:
        raise OSError("maintenance")

    SCRIPTS["a"] = broken
    await setup(engine, "a")
    async with running(engine):
        await pass_time(engine, time, 10)
        await pause(engine, "a")
        await pass_time(engine, time, 7200, step=600)
        assert engine.healthy()
        await resume(engine, "a")
        await settle(engine)
        assert (await status(engine, "a")).failures == 2
        await engine.beat()
        assert await log(engine.store) == []
        await pass_time(engine, time, 600)
        assert [event.type for event in await log(engine.store)] == ["roundsman.source.failing"]


async def test_a_source_that_was_reported_as_failing_is_reported_as_recovered_after_its_pause(
    engine: Engine, time: Time
) -> None:
    async def broken(visit: Visit, state: State) -> Poll:
        raise OSError("maintenance")

    SCRIPTS["a"] = broken
    await setup(engine, "a")
    async with running(engine):
        await pass_time(engine, time, 900)
        await pause(engine, "a")
        assert b'roundsman_source_failing{source="a"} 0.0' in await exposition(engine)
        assert b'roundsman_source_paused{source="a"} 1.0' in await exposition(engine)
        SCRIPTS["a"] = nothing_new
        await resume(engine, "a")
        await settle(engine)
        assert b'roundsman_source_paused{source="a"} 0.0' in await exposition(engine)
    kinds = [event.type for event in await log(engine.store)]
    assert kinds == ["roundsman.source.failing", "roundsman.source.recovered"]


async def test_a_restart_and_a_reload_keep_a_pause(
    store: SqliteStore, engine: Engine, parakey: Parakey, time: Time
) -> None:
    await setup(engine, "a", sinks=["rec"])
    async with running(engine):
        await pause(engine, "a")
        await pause(engine, "rec", "sink")
        await setup(engine, "b")  # both leave the configuration,
        await setup(engine, "a", "b", sinks=["rec"])  # and come back
        await put(store, an_event(1, "a"))
        await pass_time(engine, time, 300)
    assert (await status(engine, "a")).visits == 0
    assert (await status(engine, "b")).visits > 0
    again = Engine(store, ByHand(), web_of(Straight(parakey), time), clock=time.clock(), grace=0.2)
    await setup(again, "a", sinks=["rec"])
    VISITS.clear()
    with capture_logs() as logs:
        async with running(again):
            await pass_time(again, time, 300)
            assert VISITS == []
            assert RECORDS.get("rec", []) == []
            await resume(again, "a")
            await resume(again, "rec", "sink")
            await settle(again)
            await until(lambda: RECORDS.get("rec"))
    assert VISITS == ["command"]
    about = [each for each in logs if each["event"].endswith(("paused", "resumed"))]
    assert [(each["event"], each.get("by")) for each in about] == [
        ("source.paused", "anna"),
        ("sink.paused", "anna"),
        ("source.resumed", None),
        ("sink.resumed", None),
    ]


async def test_once_asks_and_delivers_nothing_that_is_paused(
    tmp_path: Path, parakey: Parakey, time: Time
) -> None:
    world = Rounds(tmp_path, parakey, time)
    parakey.add()
    done(world.store.pause("source", "doors", "anna", START))
    with capture_logs() as logs:
        assert await world.visit()
        assert await world.engine.once(everything=True)
    assert world.asked() == []
    assert {"event": "source.paused", "source": "doors", "by": "anna"}.items() <= logs[0].items()
    done(world.store.resume("source", "doors"))
    done(world.store.pause("sink", "recorder", "anna", START))
    assert await world.visit(after=1), "it is due at once"
    assert len(world.ids()) == 1
    assert RECORDS.get("recorder", []) == []
    done(world.store.resume("sink", "recorder"))
    assert await world.visit(after=1)
    assert len(RECORDS["recorder"]) == 1
    await world.store.close()


async def test_a_webhook_is_taken_during_a_pause_and_does_not_ring(tmp_path: Path) -> None:
    doors, keys = event_logs(webhook=PARAKEY), parakey_batches(webhook=PARAKEY)
    async with open_door(tmp_path, doors, keys, rounds=False) as door:
        for name in ("doors", "keys"):
            await pause(door.engine, name)
        now = datetime.fromtimestamp(door.engine.time.now(), UTC).isoformat()
        row = {"id": "log1", "createdAt": now, "timestamp": now, "success": True}
        assert await door.post("/hooks/doors", row, {HEADER: VALUE}) == 200
        assert await door.post("/hooks/keys", {"id": "b1", "state": "running"}, {HEADER: VALUE}) == 200
        assert door.ids() == ["log1"]
        assert (await door.store.memory("keys")).ids == ["b1"]
        assert (await door.status("keys")).ring_at is None


async def test_a_pause_that_cannot_be_read_is_read_at_the_next_heartbeat(
    engine: Engine, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    await setup(engine, "a")
    read = engine.store.pauses
    async with running(engine):
        await pass_time(engine, time, 10)
        VISITS.clear()

        async def broken() -> Any:
            raise StoreError("the disk")

        monkeypatch.setattr(engine.store, "pauses", broken)
        await pause(engine, "a")
        monkeypatch.setattr(engine.store, "pauses", read)
        await engine.beat()
        await pass_time(engine, time, 300)
    assert VISITS == []


async def test_a_new_source_that_is_paused_does_not_keep_the_daemon_from_being_ready(engine: Engine) -> None:
    await setup(engine, "a")
    await engine.store.pause("source", "a", "anna", START)
    async with running(engine):
        assert await Readiness(engine, 0).missing() == []


async def test_a_clock_that_is_set_during_a_pause_leaves_no_time_without_an_answer(
    engine: Engine, time: Time
) -> None:
    async def broken(visit: Visit, state: State) -> Poll:
        raise OSError("maintenance")

    SCRIPTS["a"] = broken
    await setup(engine, "a")
    async with running(engine):
        await pass_time(engine, time, 10)
        await pause(engine, "a")
        time.set_wall(7 * 3600)
        await pass_time(engine, time, 600)
        await resume(engine, "a")
        await settle(engine)
        await engine.beat()
    assert "roundsman.source.failing" not in [event.type for event in await log(engine.store)]


# -- sinks -------------------------------------------------------------------------------------------------------------


async def test_a_paused_sink_gets_nothing_and_continues_where_it_was(
    store: SqliteStore, engine: Engine, time: Time
) -> None:
    await setup(engine, "a", sinks=["rec", "other"])
    async with running(engine):
        await put(store, an_event(1, "a"))
        publish(engine)
        await until(lambda: len(RECORDS.get("rec", [])) == 1)
        await pause(engine, "rec", "sink")
        await put(store, an_event(2, "a"), an_event(3, "a"))
        publish(engine)
        await until(lambda: len(RECORDS.get("other", [])) == 3)
        assert len(RECORDS["rec"]) == 1
        assert b'roundsman_sink_paused{sink="rec"} 1.0' in await exposition(engine)
        await resume(engine, "rec", "sink")
        await until(lambda: len(RECORDS["rec"]) == 3)
    assert [event.id for event in RECORDS["rec"]] == ["id00001", "id00002", "id00003"]


async def test_events_of_a_paused_sink_are_not_pruned(store: SqliteStore, engine: Engine, time: Time) -> None:
    await setup(engine, "a", sinks=["rec"])
    async with running(engine):
        await pause(engine, "rec", "sink")
        await put(store, an_event(1, "a"))
        time.advance(400 * 86400)
        await prune(engine)
        await resume(engine, "rec", "sink")
        await until(lambda: RECORDS.get("rec"))


async def test_a_delivery_under_way_ends_and_the_next_does_not_begin(
    store: SqliteStore, engine: Engine
) -> None:
    GATE.append(asyncio.Event())
    await engine.setup({"a": Scripted().named("a")}, {"gated": Gated(batch=1).named("gated")})
    await put(store, an_event(1, "a"), an_event(2, "a"))
    async with running(engine):
        await until(lambda: BEGUN == ["id00001"])
        await pause(engine, "gated", "sink")
        GATE[0].set()
        await until(lambda: CLOSED)
        assert BEGUN == ["id00001"]
        assert (await store.cursor("gated"))[0] == 1
        await resume(engine, "gated", "sink")
        await until(lambda: BEGUN == ["id00001", "id00002"])


async def test_a_refused_batch_is_not_gone_on_with_one_by_one_after_a_pause(
    store: SqliteStore, engine: Engine
) -> None:
    class Single(Sink):
        """Takes no two events at once, and is paused after the first."""

        type: Literal["single"] = "single"

        @asynccontextmanager
        async def open(self, http: Http, receipt: Receipt | None) -> AsyncIterator[Deliver]:
            async def deliver(events: Sequence[Event]) -> None:
                if len(events) > 1:
                    raise Reject("one at a time")
                BEGUN.extend(event.id for event in events)
                if BEGUN == ["id00001"]:
                    engine.deliveries["rec"].pause(engine.time.now())

            yield deliver
            CLOSED.append(len(BEGUN))

    await engine.setup({"a": Scripted().named("a")}, {"rec": Single(batch=10).named("rec")})
    await put(store, *(an_event(number, "a") for number in range(1, 5)))
    async with running(engine):
        await until(lambda: CLOSED)
        assert BEGUN == ["id00001"]
        assert (await store.cursor("rec"))[0] == 1
        engine.deliveries["rec"].resume()
        await until(lambda: len(BEGUN) == 4)
    assert BEGUN == ["id00001", "id00002", "id00003", "id00004"]


async def test_a_paused_sink_does_not_fail_and_is_tried_at_once_after_the_pause(
    store: SqliteStore, engine: Engine, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(event: Any) -> None:
        raise OSError("the receiver is down")

    PLANS["rec"] = broken
    monkeypatch.setattr("roundsman.engine.delivery.delivery_backoff", lambda *_: 60.0)
    await setup(engine, "a", sinks=["rec"])
    async with running(engine):
        await put(store, an_event(1, "a"))
        publish(engine)
        await until(lambda: sink_failed(engine, "rec"))
        await pause(engine, "rec", "sink")
        assert not engine.deliveries["rec"].outage.fails
        await pass_time(engine, time, 3 * SINK_PATIENCE, step=SINK_PATIENCE)
        PLANS["rec"] = lambda event: None
        await resume(engine, "rec", "sink")
        await until(lambda: RECORDS.get("rec"))  # it had been waiting for a minute
    assert [event.type for event in await log(store) if event.type.startswith("roundsman.")] == []


async def test_the_pause_of_a_sink_is_no_time_in_which_it_failed(
    store: SqliteStore, engine: Engine, time: Time
) -> None:
    await setup(engine, "a", sinks=["rec"])
    fail_sink(engine, "rec", OSError("down"))
    delivery = engine.deliveries["rec"]
    delivery.pause(engine.time.now())
    time.advance(3 * SINK_PATIENCE)
    delivery.resume()
    fail_sink(engine, "rec", OSError("down"))
    assert await log(store) == []
    time.advance(SINK_PATIENCE + 1)
    fail_sink(engine, "rec", OSError("down"))
    await engine.notices.flush()
    assert [event.type for event in await log(store)] == ["roundsman.sink.failing"]


async def test_the_pause_of_a_sink_is_no_time_in_which_it_failed_after_a_later_restart_either(
    store: SqliteStore, engine: Engine, parakey: Parakey, time: Time
) -> None:
    await setup(engine, "a", sinks=["rec"])
    fail_sink(engine, "rec", OSError("down"))
    delivery = engine.deliveries["rec"]
    delivery.pause(engine.time.now())
    time.advance(3 * SINK_PATIENCE)
    delivery.resume()
    fail_sink(engine, "rec", OSError("down"))
    again = Engine(store, ByHand(), web_of(Straight(parakey), time), clock=time.clock())
    await setup(again, "a", sinks=["rec"])
    assert again.deliveries["rec"].outage.fails
    assert not again.deliveries["rec"].outage.is_reported
    time.advance(SINK_PATIENCE + 1)
    assert again.deliveries["rec"].outage.is_reported


async def test_a_sink_that_was_reported_as_failing_before_its_pause_is_not_reported_again(
    store: SqliteStore, engine: Engine, time: Time
) -> None:
    await setup(engine, "a", sinks=["rec"])
    fail_sink(engine, "rec", OSError("down"))
    time.advance(SINK_PATIENCE + 1)
    fail_sink(engine, "rec", OSError("down"))
    delivery = engine.deliveries["rec"]
    delivery.pause(engine.time.now())
    time.advance(3 * SINK_PATIENCE)
    delivery.resume()
    fail_sink(engine, "rec", OSError("down"))
    await engine.notices.flush()
    assert [event.type for event in await log(store)] == ["roundsman.sink.failing"]
