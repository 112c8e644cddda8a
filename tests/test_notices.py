"""What the daemon reports about itself, as events that any sink can pass on."""

import asyncio
import sqlite3
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from doors import until
from inside import (
    broken,
    disk_has,
    done,
    fail_sink,
    idle,
    publish,
    put,
    ring_due,
    seen,
    set_due,
    status,
    statuses,
)
from rounds import SCRIPTS, Scripted, running
from roundsman.engine.engine import Engine
from roundsman.engine.notices import Disk
from roundsman.events import Event
from roundsman.http.client import Http
from roundsman.plugin import Deliver, Poll, Receipt, Sink, State, Visit
from roundsman.sandbox import Parakey
from roundsman.store import Filter, StoreError
from roundsman.store.sqlite.store import SqliteStore
from roundsman.system.files import Space, space
from worlds import (
    PLANS,
    RECORDS,
    START,
    ByHand,
    Recorder,
    Straight,
    Time,
    an_event,
    keeps_the_contract,
    web_of,
)

MIB = 2**20


def engine_on(path: Path, parakey: Parakey, time: Time, *sinks: Sink) -> Engine:
    engine = Engine(
        SqliteStore.open(path), ByHand(), web_of(Straight(parakey), time), clock=time.clock(), grace=0.2
    )

    async def nothing(visit: Visit, state: State) -> Poll:
        return Poll(state)

    SCRIPTS["a"] = nothing
    done(engine.setup({"a": Scripted().named("a")}, {sink.name: sink for sink in sinks}))
    return engine


def own(store: SqliteStore) -> list[Event]:
    found = [event for event, _ in seen(store.events(0, 10**9, 1000, Filter(sources=("daemon",))))]
    for event in found:
        keeps_the_contract(event)
    return found


# -- sinks -------------------------------------------------------------------------------------------------------------


async def test_a_sink_that_fails_for_long_is_reported_to_the_others_once_and_so_is_its_recovery(
    tmp_path: Path, parakey: Parakey, time: Time
) -> None:
    path, down = tmp_path / "x.db", True
    sinks = (Recorder().named("one"), Recorder().named("two"))

    def one(event: Event) -> None:
        if down:
            raise OSError("no route to host")

    PLANS["one"] = one
    engine = engine_on(path, parakey, time, *sinks)
    await put(engine.store, an_event(1, "a"))
    for minutes in (0, 9, 2, 5):
        time.advance(minutes * 60)
        assert not await engine.once()
        assert len(own(engine.store)) == (minutes in {2, 5}), "after ten minutes"
    assert [e.type for e in RECORDS["two"][1:]] == ["roundsman.sink.failing"]
    [event] = own(engine.store)
    data = event.document()
    assert data["source"] == "/roundsman/daemon"
    assert data["subject"] == "one"
    assert "No event could be delivered to one for 11m: no route to host" in data["data"]["message"]
    assert data["data"]["details"]["error"] == "no route to host"
    await engine.store.close()
    # A restart does not begin to count anew, nor report it again.
    engine = engine_on(path, parakey, time, *sinks)
    assert not await engine.once()
    assert len(own(engine.store)) == 1
    down = False
    with capture_logs() as logs:
        assert await engine.once()
    assert [e.type for e in own(engine.store)] == ["roundsman.sink.failing", "roundsman.sink.recovered"]
    assert [(entry["type"], entry["log_level"]) for entry in logs if entry["event"] == "daemon.notice"] == [
        ("roundsman.sink.recovered", "debug")
    ], "`sink.recovered` says it"
    await engine.once()
    assert [e.type for e in RECORDS["one"]][1:] == ["roundsman.sink.failing", "roundsman.sink.recovered"]
    await engine.store.close()


async def test_a_sink_that_fails_for_a_moment_is_not_worth_an_event(
    tmp_path: Path, parakey: Parakey, time: Time
) -> None:
    failures = iter([OSError("restarting")])

    def one(event: Event) -> None:
        for failure in failures:
            raise failure

    PLANS["one"] = one
    engine = engine_on(tmp_path / "x.db", parakey, time, Recorder().named("one"))
    await put(engine.store, an_event(1, "a"))
    assert not await engine.once()
    time.advance(60)
    assert await engine.once()
    assert own(engine.store) == []
    await engine.store.close()


async def test_a_sleep_before_a_sinks_trouble_delays_no_notice(
    tmp_path: Path, parakey: Parakey, time: Time
) -> None:
    engine = engine_on(tmp_path / "x.db", parakey, time, Recorder().named("one"))
    time.suspend(8 * 3600)
    await engine.beat()
    fail_sink(engine, "one", OSError("down"))
    time.advance(660)
    await engine.beat()
    fail_sink(engine, "one", OSError("down"))
    assert [event.type for event in own(engine.store)] == ["roundsman.sink.failing"]
    await engine.store.close()


async def test_a_clock_or_a_sleep_during_a_sinks_failure_reports_nothing_wrong(
    tmp_path: Path, parakey: Parakey, time: Time
) -> None:
    def one(event: Event) -> None:
        raise OSError("down")

    PLANS["one"] = one
    engine = engine_on(tmp_path / "x.db", parakey, time, Recorder().named("one"))
    await put(engine.store, an_event(1, "a"))
    assert not await engine.once()
    time.advance(30)
    time.suspend(8 * 3600)  # nothing was tried meanwhile
    time.set_wall(86400)
    await engine.beat()
    assert not await engine.once()
    assert [event.type for event in own(engine.store)] == ["roundsman.clock.jumped"]
    for step in (5, -7, 100, 0):
        time.set_wall(step)
        await engine.beat()
        time.advance(400)
        assert not await engine.once()
    failing = [event for event in own(engine.store) if event.type == "roundsman.sink.failing"]
    assert len(failing) == 1, "one outage is one outage"
    await engine.store.close()


class Hanging(Recorder):
    """Never ends a delivery."""

    @asynccontextmanager
    async def open(self, http: Http, receipt: Receipt | None) -> AsyncIterator[Deliver]:
        async def deliver(events: Sequence[Event]) -> None:
            RECORDS.setdefault("begun", []).extend(events)
            await asyncio.Event().wait()

        yield deliver


async def test_a_delivery_that_hangs_for_long_is_reported_too(
    tmp_path: Path, parakey: Parakey, time: Time
) -> None:
    engine = engine_on(tmp_path / "x.db", parakey, time, Hanging().named("deaf"), Recorder().named("two"))
    async with running(engine):
        await put(engine.store, an_event(1, "a"))
        publish(engine)
        await until(lambda: RECORDS.get("begun"))
        await engine.beat()
        assert own(engine.store) == []
        for _ in range(3):
            time.advance(601)
            await engine.beat()
        await until(lambda: len(RECORDS.get("two", [])) == 2)
        [event] = own(engine.store)
        assert "a delivery has not ended for 10m" in event.document()["data"]["message"]
        assert (await engine.store.sinks())[0].failures == 3
    await engine.store.close()


class Closed(Recorder):
    """Never opens."""

    @asynccontextmanager
    async def open(self, http: Http, receipt: Receipt | None) -> AsyncIterator[Deliver]:
        RECORDS.setdefault("begun", [])
        await asyncio.Event().wait()
        yield  # type: ignore[misc]


@pytest.mark.parametrize("what", ["opening", "trying again"])
async def test_any_call_that_hangs_in_a_sink_is_reported(
    what: str, tmp_path: Path, parakey: Parakey, time: Time
) -> None:
    sink = (Closed if what == "opening" else Hanging)().named("deaf")
    engine = engine_on(tmp_path / "x.db", parakey, time, sink, Recorder().named("two"))
    await put(engine.store, an_event(1, "a"))
    if what == "trying again":
        await engine.store.bury("deaf", 0, 1, "no", START)
        await engine.store.requeue_dead("deaf", None)
    async with running(engine):
        await until(lambda: "begun" in RECORDS)
        time.advance(601)
        await engine.beat()
        [event] = own(engine.store)
        assert (event.type, event.document()["subject"]) == ("roundsman.sink.failing", "deaf")
        assert [delivery.outage.fails for delivery in engine.deliveries.values()] == [True, False]
    await engine.store.close()


async def test_a_restart_in_a_long_pause_between_two_visits_is_no_absence(
    tmp_path: Path, parakey: Parakey, time: Time
) -> None:
    """The daemon was there, though no source was visited: what failed has failed for so long."""
    PLANS["one"] = lambda event: (_ for _ in ()).throw(OSError("down"))
    path = tmp_path / "x.db"
    engine = engine_on(path, parakey, time, Recorder().named("one"))
    await put(engine.store, an_event(1, "a"))
    assert not await engine.once()
    for _ in range(40):
        time.advance(30)
        await engine.beat()
    await engine.store.close()
    engine = engine_on(path, parakey, time, Recorder().named("one"))
    async with running(engine):
        await until(lambda: own(engine.store))
    [event] = own(engine.store)
    assert "to one for 20m" in event.document()["data"]["message"]
    await engine.store.close()


async def test_a_time_without_a_daemon_is_no_failure(tmp_path: Path, parakey: Parakey, time: Time) -> None:
    """One visit and one delivery failed, and then it was switched off for a week."""
    PLANS["one"] = lambda event: (_ for _ in ()).throw(OSError("down"))
    engine = engine_on(tmp_path / "x.db", parakey, time, Recorder().named("one"))
    await put(engine.store, an_event(1, "a"))
    SCRIPTS["a"] = lambda *_: (_ for _ in ()).throw(OSError("down"))
    assert not await engine.once()
    await engine.store.close()
    time.advance(7 * 86400)
    engine = engine_on(tmp_path / "x.db", parakey, time, Recorder().named("one"))
    SCRIPTS["a"] = hang = asyncio.Event()
    SCRIPTS["a"] = lambda *_: hang.wait()
    with capture_logs() as logs:
        async with running(engine):
            await ring_due(engine)
            await until(lambda: any(entry["event"] == "sink.failing" for entry in logs))
            time.advance(1)
            await engine.beat()
    assert await engine.store.events(0, 99, 99, Filter(("roundsman.*",))) == []
    await engine.store.close()


async def test_a_sink_that_comes_back_too_late_for_some_events_is_reported(
    tmp_path: Path, parakey: Parakey, time: Time
) -> None:
    one, two = Recorder().named("one"), Recorder(outcomes=("granted",)).named("two")
    engine = engine_on(tmp_path / "x.db", parakey, time, one, two)
    sources = {"a": (await status(engine, "a")).source}
    await put(engine.store, an_event(1, "a"))
    await engine.once()
    await engine.setup(sources, {"one": one})
    await put(engine.store, an_event(2, "a"))
    await put(engine.store, an_event(3, "a"))
    await engine.once()
    engine.upkeep.retention = 3600
    time.advance(7200)
    await put(engine.store, an_event(4, "a"))
    await engine.upkeep.prune(list(engine.deliveries))
    for _ in range(2):
        await engine.setup(sources, {"one": one, "two": two})
        await engine.once()
        await engine.setup(sources, {"one": one})
    await engine.setup(sources, {"one": one, "two": two})
    await engine.store.replay("two", 0)
    for sinks in ({}, {"one": one, "two": two}):
        await engine.setup(sources, sinks)  # what it had once, it does not miss
    await engine.once()
    [gap] = own(engine.store)
    assert gap.type == "roundsman.sink.gap"
    assert gap.document()["data"]["message"].startswith("2 events cannot be delivered to two")
    assert [event.id for event in RECORDS["two"]][:2] == ["id00001", "id00004"]
    await engine.store.close()


# -- the disk ----------------------------------------------------------------------------------------------------------


def test_a_disk_that_is_nearly_full_is_reported_once_until_there_is_room_again() -> None:
    free = 10_000 * MIB
    disk = Disk(Path("/x"), look=lambda path: Space(free, 20_000 * MIB))
    assert disk.notice(START) is None
    free = 511 * MIB
    event = disk.notice(START)
    assert event
    keeps_the_contract(event)
    assert "The disk of /x has only 511 MiB free." in event.document()["data"]["message"]
    assert disk.notice(START + 60) is None
    free = 600 * MIB  # files come and go
    assert disk.notice(START + 120) is None
    free = 400 * MIB
    assert disk.notice(START + 180) is None
    free = 800 * MIB
    event = disk.notice(START + 240)
    assert event
    assert event.type == "roundsman.disk.recovered"


@pytest.mark.parametrize(("free", "total"), [(100, 1000), (1000, 100_000)])
def test_a_small_disk_and_a_large_one_are_not_full_by_one_measure_alone(free: int, total: int) -> None:
    """A tenth of a small one is enough; so is a gigabyte of a large one."""
    disk = Disk(Path("/x"), look=lambda path: Space(free * MIB, total * MIB))
    assert disk.notice(START) is None


def test_a_restart_on_a_full_disk_does_not_report_again(
    small_disk: Path, parakey: Parakey, time: Time
) -> None:
    """On a real disk, of 16 MB."""
    subprocess.run(["mount", "-o", "remount,size=16m", str(small_disk)], check=True)
    path, ballast = small_disk / "x.db", small_disk / "ballast"
    engine = engine_on(path, parakey, time)
    done(engine.beat())
    assert own(engine.store) == []
    ballast.write_bytes(bytes(space(path).free - 600_000))
    time.advance(61)
    done(engine.beat())
    assert [event.type for event in own(engine.store)] == ["roundsman.disk.low"]
    done(engine.store.close())
    engine = engine_on(path, parakey, time)
    done(engine.beat())
    assert len(own(engine.store)) == 1
    ballast.unlink()
    time.advance(61)
    done(engine.beat())
    assert [event.type for event in own(engine.store)] == ["roundsman.disk.low", "roundsman.disk.recovered"]
    done(engine.store.close())


def test_notices_that_wait_push_no_other_out(
    tmp_path: Path, parakey: Parakey, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full, the books are behind, and sinks fail again and again."""
    engine = engine_on(tmp_path / "x.db", parakey, time, Recorder().named("one"))
    done(engine.beat())
    asyncio.run(engine.visit("a"))  # the books are a line behind
    free = 1
    disk_has(engine, lambda: free, 100_000 * MIB)

    def full(*_: object, **__: object) -> int:
        raise StoreError("the disk is full")

    for name in ("append_notices", "record", "record_failure"):
        monkeypatch.setattr(engine.store, name, full)
    for _ in range(30):
        time.advance(301)
        done(engine.beat())
        fail_sink(engine, "one", OSError("down"))
    monkeypatch.undo()
    done(engine.beat())
    free = 50_000 * MIB
    time.advance(61)
    done(engine.beat())
    found = [event.type for event in own(engine.store)]
    assert found == ["roundsman.disk.low", "roundsman.sink.failing", "roundsman.disk.recovered"]
    done(engine.store.close())


# -- the clock ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("step", "told"), [(-7200, "back by 2h"), (86400, "forward by 1d"), (30, "")])
def test_a_clock_that_jumps_by_much_is_reported(
    step: float, told: str, tmp_path: Path, parakey: Parakey, time: Time
) -> None:
    engine = engine_on(tmp_path / "x.db", parakey, time)
    done(engine.beat())
    time.set_wall(step)
    done(engine.beat())
    done(engine.beat())
    said = [event.document()["data"]["message"] for event in own(engine.store)]
    assert [told in text for text in said] == ([True] if told else [])
    done(engine.store.close())


def test_a_notice_that_cannot_be_stored_now_is_stored_as_soon_as_possible(
    tmp_path: Path, parakey: Parakey, time: Time
) -> None:
    """A disk without any room is the very case: the notice about it cannot be written either."""
    engine = engine_on(tmp_path / "x.db", parakey, time)
    free = 0
    disk_has(engine, lambda: free, 100_000 * MIB)
    full = sqlite3.OperationalError("database or disk is full")
    with broken(engine.store, full):
        time.set_wall(86400)
        with capture_logs() as logs, suppress(StoreError):
            done(engine.beat())
        with suppress(StoreError):
            done(engine.beat())
        assert [entry["event"] for entry in logs if entry["event"] == "clock.stepped"]
    done(engine.beat())
    told = [event.type for event in own(engine.store)]
    assert sorted(told) == ["roundsman.clock.jumped", "roundsman.disk.low"]
    done(engine.beat())
    assert len(own(engine.store)) == 2
    done(engine.store.close())


async def test_a_vendors_rest_is_kept_over_a_step_and_a_restart(
    tmp_path: Path, parakey: Parakey, time: Time
) -> None:
    engine = engine_on(tmp_path / "x.db", parakey, time)
    await set_due(engine, "a", time.now() + 3000, held=True)
    await engine.beat()
    time.set_wall(7200)
    await engine.beat()
    await engine.store.close()
    engine = engine_on(tmp_path / "x.db", parakey, time)
    assert (await status(engine, "a")).not_before - time.now() == pytest.approx(3000)
    await engine.store.close()


async def test_a_machine_that_slept_asks_soon_and_not_all_at_once(
    tmp_path: Path, parakey: Parakey, time: Time
) -> None:
    visits: list[float] = []

    async def count(visit: Visit, state: State) -> Poll:
        visits.append(time.now())
        return Poll(state)

    engine = engine_on(tmp_path / "x.db", parakey, time)
    names = [f"s{n:02d}" for n in range(20)]
    for name in names:
        SCRIPTS[name] = count
    await engine.setup({name: Scripted().named(name) for name in names}, {})
    async with running(engine):
        time.advance(2)
        await ring_due(engine)
        await until(lambda: len(visits) == 20)
        await until(lambda: idle(engine))
        await set_due(engine, "s07", time.now() + 50_000)  # sent away for long
        time.suspend(8 * 3600)
        # The first thing to wake up may be the alarm, or the heartbeat: neither makes a burst.
        assert len(await ring_due(engine)) == 19
        await asyncio.sleep(0)
        assert len(visits) == 20, "no vendor is asked while the network is not back"
        with capture_logs() as logs:
            await engine.beat()
        assert logs == [], "seen already"
        found = await statuses(engine)
        dues = sorted(found[name].due - time.now() for name in names if name != "s07")
        assert 5 <= dues[0] < dues[10] < dues[-1] < 7
        assert (await status(engine, "s07")).due - time.now() == pytest.approx(50_000 - 8 * 3600)
        time.advance(7)
        await ring_due(engine)
        await until(lambda: len(visits) == 39)
    assert own(engine.store) == [], "sleeping is no trouble"
    await engine.store.close()


async def test_an_alarm_that_rings_right_after_a_jump_asks_no_vendor_early(
    tmp_path: Path, parakey: Parakey, time: Time
) -> None:
    """The scheduler sees all alarms in the past before the heartbeat sees that the clock was set."""
    asked = 0

    async def count(visit: Visit, state: State) -> Poll:
        nonlocal asked
        asked += 1
        return Poll(state)

    engine = engine_on(tmp_path / "x.db", parakey, time)
    SCRIPTS["a"] = count
    async with running(engine):
        await ring_due(engine)
        await until(lambda: asked == 1 and idle(engine, "a"))
        time.set_wall(86400)
        assert await ring_due(engine) == ["a"]
        await asyncio.sleep(0)
        assert asked == 1
        time.advance(61)
        await ring_due(engine)
        await until(lambda: asked == 2)
    await engine.store.close()
