"""What a source and a sink did is counted by hour and by day, and is in the store a minute later."""

import asyncio
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from inside import broken, ring_due, settle
from rounds import SCRIPTS, Rounds, Scripted, opened, running
from roundsman.engine.engine import Engine
from roundsman.errors import Unclear
from roundsman.plugin import Poll, State, Visit
from roundsman.sandbox import Parakey
from roundsman.store import Counted, Counts
from roundsman.store.tally import BOUNDS, Tally, add, bucket
from worlds import PLANS, START, Time, an_event

HOUR = START - START % 3600


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Callable[..., Rounds]]:
    yield from opened(lambda vendor, time, **options: Rounds(tmp_path, vendor, time, **options))


async def counted(world: Rounds, kind: Any = "source", name: str = "doors") -> dict[float, Counts]:
    """The counts of each hour, by the seconds from `HOUR`."""
    found = await world.store.tallies(kind, name, "hour", world.time.wall)
    return {each.start - HOUR: each.counts for each in found}


def of(counts: Counts, *groups: str) -> dict[str, int]:
    """The counts of these groups, those of buckets as one."""
    found: dict[str, int] = {}
    add(
        found,
        (
            (name.partition(".")[0] if "late" in name or "latency" in name else name, n)
            for name, n in counts.items()
        ),
    )
    return {name: n for name, n in found.items() if name.partition(".")[0] in groups}


async def beat(engine: Engine) -> None:
    """What the heartbeat does about counts, to its end."""
    async with asyncio.TaskGroup() as group:
        engine.counts.start_what_is_due(group)


async def test_visits_requests_and_events_of_a_source_are_counted(
    world: Callable[..., Rounds], parakey: Parakey, time: Time
) -> None:
    doors = world(parakey, time)
    parakey.add(granted=True)
    parakey.add(granted=False)
    assert await doors.visit()
    assert await doors.visit()
    assert await doors.visit()
    [(_, counts)] = (await counted(doors)).items()
    assert of(counts, "poll") == {"poll.new": 1, "poll.unchanged": 2}
    assert of(counts, "event") == {"event.granted": 1, "event.denied": 1}
    asked = of(counts, "request")
    assert asked["request"] == len(doors.transport.requests) == of(counts, "latency")["latency"]
    assert asked["request.304"] == 2
    assert await doors.store.unchanged_shares(time.wall) == {"doors": 2 / asked["request"]}
    [sink] = (await counted(doors, "sink", "recorder")).values()
    assert sink == {"delivered": 2}


@pytest.mark.garbles
async def test_outcomes_that_a_plugin_has_of_its_own_are_counted_together(
    world: Callable[..., Rounds], time: Time
) -> None:
    """There may be ever more of them."""

    async def report(visit: Visit, state: State) -> Poll:
        outcomes = ["failed", None, *(f"error {number}" for number in range(20))]
        return Poll(state, [an_event(number, outcome=each) for number, each in enumerate(outcomes)])

    SCRIPTS["doors"] = report
    doors = world(Parakey(time.utc), time, source=Scripted().named("doors"))
    assert await doors.visit()
    [counts] = (await counted(doors)).values()
    assert of(counts, "event") == {"event.failed": 1, "event.": 1, "event.other": 20}


async def test_what_fails_is_counted(world: Callable[..., Rounds], parakey: Parakey, time: Time) -> None:
    doors = world(parakey, time)
    parakey.add()

    def refuse(event: object) -> None:
        raise OSError("no")

    PLANS["recorder"] = refuse
    assert not await doors.visit()
    doors.transport.before = lambda: (_ for _ in ()).throw(httpx.ConnectError("no"))
    assert not await doors.visit()
    [counts] = (await counted(doors)).values()
    assert of(counts, "poll") == {"poll.new": 1, "poll.failed": 1}
    assert of(counts, "latency")["latency"] == counts["request"], (
        "a request without an answer has lasted, too"
    )
    [sink] = (await counted(doors, "sink", "recorder")).values()
    assert sink == {"failed": 2}
    time.advance(61)
    await beat(doors.engine)
    [sink] = (await counted(doors, "sink", "recorder")).values()
    assert sink == {"failed": 2, "lag": 1}


async def test_how_late_a_visit_begins_is_counted(
    world: Callable[..., Rounds], parakey: Parakey, time: Time
) -> None:
    doors = world(parakey, time)
    async with running(doors.engine):
        for late in (0.0, 7.5):
            time.advance(60 + late)
            await ring_due(doors.engine)
            await settle(doors.engine)
    [counts] = (await counted(doors)).values()
    assert of(counts, "lateness") == {"lateness": 2}
    assert counts[f"lateness.{bucket(7.5)}"] == 1


async def test_counts_are_written_each_minute_and_belong_to_the_hour_in_which_they_began(
    world: Callable[..., Rounds], time: Time
) -> None:
    SCRIPTS["doors"] = quiet
    doors = world(Parakey(time.utc), time, source=Scripted().named("doors"))
    time.set_wall(3590 - START % 3600)
    await doors.engine.counts.flush()
    await doors.engine.visit("doors")
    await beat(doors.engine)
    assert await counted(doors) == {}, "not yet"
    time.advance(11)
    await beat(doors.engine)
    assert await counted(doors) == {0: {"poll.unchanged": 1}}
    await doors.engine.visit("doors")
    time.advance(59)
    await beat(doors.engine)
    assert set(await counted(doors)) == {0}
    time.advance(2)
    await beat(doors.engine)
    assert await counted(doors) == {0: {"poll.unchanged": 1}, 3600: {"poll.unchanged": 1}}


async def test_a_crash_loses_the_counts_of_the_last_minute_only_and_a_restart_goes_on(
    world: Callable[..., Rounds], time: Time
) -> None:
    SCRIPTS["doors"] = quiet
    doors = world(Parakey(time.utc), time, source=Scripted().named("doors"))
    for _ in range(3):
        await doors.engine.visit("doors")
        time.advance(61)
        await beat(doors.engine)
    await doors.engine.visit("doors")
    doors.reboot()
    await doors.engine.visit("doors")
    async with running(doors.engine):
        pass
    assert sum(each["poll.unchanged"] for each in (await counted(doors)).values()) == 4


async def test_counts_wait_for_a_store_that_cannot_be_written(
    world: Callable[..., Rounds], time: Time
) -> None:
    SCRIPTS["doors"] = quiet
    doors = world(Parakey(time.utc), time, source=Scripted().named("doors"))
    await doors.engine.visit("doors")
    with broken(doors.store, sqlite3.OperationalError("disk I/O error")):
        await doors.engine.counts.flush()
    assert doors.engine.trouble.error is not None
    await doors.engine.counts.flush()
    await doors.engine.counts.flush()
    assert list((await counted(doors)).values()) == [{"poll.unchanged": 1}]


async def test_a_write_that_is_cancelled_counts_nothing_twice(
    world: Callable[..., Rounds], time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    SCRIPTS["doors"] = quiet
    doors = world(Parakey(time.utc), time, source=Scripted().named("doors"))
    await doors.engine.visit("doors")
    with broken(doors.store, sqlite3.OperationalError("disk I/O error")):
        await doors.engine.counts.flush()
    written = asyncio.Event()

    async def hang(counted: Sequence[Counted]) -> None:
        await record(counted)
        written.set()
        await asyncio.Event().wait()

    record = doors.store.record_counts
    with monkeypatch.context() as patch:
        patch.setattr(doors.store, "record_counts", hang)
        flushing = asyncio.create_task(doors.engine.counts.flush())
        await written.wait()
        flushing.cancel()
        await asyncio.gather(flushing, return_exceptions=True)
    await doors.engine.counts.flush()
    assert list((await counted(doors)).values()) == [{"poll.unchanged": 1}]


async def test_what_may_have_been_written_is_not_counted_again(
    world: Callable[..., Rounds], time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    SCRIPTS["doors"] = quiet
    doors = world(Parakey(time.utc), time, source=Scripted().named("doors"))
    await doors.engine.visit("doors")
    record = doors.store.record_counts

    async def unanswered(counted: Sequence[Counted]) -> None:
        await record(counted)
        raise Unclear("the server went away in a commit")

    with monkeypatch.context() as patch:
        patch.setattr(doors.store, "record_counts", unanswered)
        await doors.engine.counts.flush()
    assert doors.engine.trouble.error is not None
    await doors.engine.counts.flush()
    assert list((await counted(doors)).values()) == [{"poll.unchanged": 1}]


async def test_of_counts_that_wait_for_long_the_oldest_are_dropped(
    world: Callable[..., Rounds], time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roundsman.engine.counts.LEFT", 2)
    doors = world(Parakey(time.utc), time, source=Scripted().named("doors"))
    with broken(doors.store, sqlite3.OperationalError("disk I/O error")):
        for n in (1, 20, 300):
            doors.engine.meter.delivered("recorder", n)
            await doors.engine.counts.flush()
    await doors.engine.counts.flush()
    assert list((await counted(doors, "sink", "recorder")).values()) == [{"delivered": 320}]


async def test_counts_of_very_many_sources_are_written_earlier(
    world: Callable[..., Rounds], parakey: Parakey, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roundsman.engine.counts.MANY", 450)
    doors = world(parakey, time)
    names = [f"s{number}" for number in range(450)]
    await doors.store.register(dict.fromkeys(names, "parakey.event_logs"), {})
    for name in names[1:]:
        doors.engine.meter.visited(name, "new")
    await beat(doors.engine)
    assert await counted(doors, name=names[-1]) == {}
    doors.engine.meter.visited(names[0], "new")
    await beat(doors.engine)
    for name in names:
        assert list((await counted(doors, name=name)).values()) == [{"poll.new": 1}]


@pytest.mark.parametrize("step", [3600, -3600, 400 * 86400], ids=["forward", "back", "years"])
async def test_a_clock_that_is_set_loses_no_count(
    step: int, world: Callable[..., Rounds], time: Time
) -> None:
    SCRIPTS["doors"] = quiet
    doors = world(Parakey(time.utc), time, source=Scripted().named("doors"))
    await doors.engine.visit("doors")
    before = time.wall
    time.set_wall(step)
    await beat(doors.engine)
    await doors.engine.visit("doors")
    await doors.engine.counts.flush()
    then = await doors.store.tallies("source", "doors", "hour", before)
    now = await doors.store.tallies("source", "doors", "hour", time.wall)
    assert (
        sum(each.counts["poll.unchanged"] for each in {each.start: each for each in (*then, *now)}.values())
        == 2
    )


async def quiet(visit: Visit, state: State) -> Poll:
    return Poll(state)


# -- durations ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [0.0004, 0.012, 0.3, 1.0, 44.0, 690.0])
def test_a_quantile_is_right_but_for_the_width_of_a_bucket(seconds: float) -> None:
    counts: dict[str, int] = {}
    for share in range(100):
        name = f"latency.{bucket(seconds if share < 90 else 5 * seconds)}"
        counts[name] = counts.get(name, 0) + 1
    tally = Tally(START, counts)
    median, high = tally.quantile("latency", 0.5), tally.quantile("latency", 0.95)
    assert median is not None
    assert high is not None
    assert abs(median - seconds) <= max(0.001, seconds / 2)
    assert abs(high - min(5 * seconds, BOUNDS[-1])) <= max(0.001, 5 * seconds / 2)


def test_without_durations_there_is_no_quantile() -> None:
    assert Tally(START, {"lateness.3": 1}).quantile("latency", 0.5) is None
