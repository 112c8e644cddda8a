"""Alarms on APScheduler, with the real clock and short times."""

import asyncio
import time
from typing import Any

import pytest
from structlog.contextvars import bound_contextvars, get_contextvars
from structlog.testing import capture_logs

from doors import until
from roundsman.engine.alarms import STEP, Scheduler


async def test_it_rings_at_the_moment_and_never_before() -> None:
    rung: dict[str, float] = {}
    done = asyncio.Event()

    def ring(names: list[str]) -> None:
        rung.update(dict.fromkeys(names, time.time()))
        if len(rung) == 3:
            done.set()

    alarms = Scheduler()
    alarms.start(ring)
    now = time.time()
    wanted = {"a": now + 0.05, "b": now + 0.15, "late": now - 5}
    for name, at in wanted.items():
        alarms.set(name, at)
    await asyncio.wait_for(done.wait(), 5)
    assert all(rung[name] >= at for name, at in wanted.items())
    alarms.stop()


async def test_an_alarm_that_is_set_again_rings_once_and_a_cleared_one_never() -> None:
    rung: list[str] = []
    done = asyncio.Event()

    def ring(names: list[str]) -> None:
        rung.extend(names)
        if "end" in names:
            done.set()

    alarms = Scheduler()
    alarms.start(ring)
    now = time.time()
    alarms.set("a", now + 0.01)
    alarms.set("a", now + 0.1)
    alarms.set("gone", now + 0.05)
    alarms.clear("gone")
    alarms.clear("never-there")
    alarms.set("end", now + 0.3)
    await asyncio.wait_for(done.wait(), 5)
    assert rung == ["a", "end"]
    alarms.stop()


async def test_many_sources_of_one_moment_share_an_alarm() -> None:
    rung: list[str] = []
    done = asyncio.Event()

    def ring(names: list[str]) -> None:
        rung.extend(names)
        done.set()

    alarms = Scheduler()
    alarms.start(ring)
    at = (time.time() // STEP + 3) * STEP - STEP / 2
    for n in range(1000):
        alarms.set(f"s{n}", at)
    assert len(alarms._scheduler.get_jobs()) == 1
    await asyncio.wait_for(done.wait(), 5)
    assert len(rung) == 1000
    alarms.stop()


@pytest.mark.parametrize("zone", ["Europe/Stockholm", "America/St_Johns", "Australia/Lord_Howe"])
async def test_summer_time_is_nothing_to_it(zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the hour that is there twice and in the one that is left out, wherever the machine is."""
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        scheduler = Scheduler()
        scheduler.start(lambda names: None)
        for day in range(365):
            moment = (
                1_798_761_600 + day * 86400
            )  # every hour of 2027 would take longer, and no change is at noon
            for hour in range(24):
                scheduler.set("a", moment + hour * 3600)
                [job] = scheduler._scheduler.get_jobs()
                assert job.next_run_time.timestamp() == moment + hour * 3600
        scheduler.stop()
    finally:
        monkeypatch.delenv("TZ")
        time.tzset()


async def test_an_alarm_that_could_not_ring_is_said() -> None:
    def ring(names: list[str]) -> None:
        raise RuntimeError("no")

    alarms = Scheduler()
    with capture_logs() as logs:
        alarms.start(ring)
        alarms.set("a", time.time() - 1)
        await until(lambda: logs)
    alarms.stop()
    assert (logs[0]["event"], logs[0]["error"]) == ("alarm.failed", "no")


async def test_an_alarm_is_not_about_the_visit_that_set_it() -> None:
    seen: list[dict[str, Any]] = []
    alarms = Scheduler()
    alarms.start(lambda names: seen.append(get_contextvars()))
    with bound_contextvars(source="doors", visit=1):
        alarms.set("a", time.time() + 0.05)
    await until(lambda: seen)
    alarms.stop()
    assert seen == [{}]
