"""A sink that fails while the store fails, too: what counts as a failure of the sink, what is reported, and how often it is asked."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from doors import until
from inside import fail_sink, missed_the_store, publish, put
from rounds import running
from roundsman.engine.engine import Engine
from roundsman.events import Event
from roundsman.http.client import Http
from roundsman.plugin import Deliver, Receipt
from roundsman.sandbox import Parakey
from roundsman.store import StoreError
from test_notices import engine_on, own
from worlds import PLANS, RECORDS, Recorder, Time, an_event


def fails_at_first(call: Callable[..., Awaitable[Any]], times: int = 1) -> Callable[..., Awaitable[Any]]:
    """A method of a store that fails so many times, and then works."""
    left = [times]

    async def method(*args: Any, **options: Any) -> Any:
        if left[0]:
            left[0] -= 1
            raise StoreError("is locked by another program")
        return await call(*args, **options)

    return method


async def reported(engine: Engine, time: Time) -> None:
    """The sink has been failing for 11 minutes, and was reported."""
    fail_sink(engine, "one", OSError("down"))
    time.advance(660)
    fail_sink(engine, "one", OSError("down"))
    assert [event.type for event in own(engine.store)] == ["roundsman.sink.failing"]


@pytest.mark.parametrize("types", [("co.*",), ("*",)])
async def test_a_recovery_is_reported_also_if_the_store_fails_meanwhile(
    types: tuple[str, ...], tmp_path: Path, parakey: Parakey, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the sink recovers by its opening (it has nothing to deliver), or by a delivery, which is noted already."""
    engine = engine_on(tmp_path / "x.db", parakey, time, Recorder(types=types).named("one"))
    await reported(engine, time)
    monkeypatch.setattr(engine.store, "known", fails_at_first(engine.store.known))
    with capture_logs() as logs:
        async with running(engine):
            await until(lambda: len(own(engine.store)) == 2)
            await until(lambda: not engine.deliveries["one"].outage.fails)
            [sink] = await engine.store.sinks()
            await until(lambda: _failures(engine, 0))
    assert [event.type for event in own(engine.store)][1] == "roundsman.sink.recovered"
    assert "sink.failing" not in {entry["event"] for entry in logs}, sink
    await engine.store.close()


async def _failures(engine: Engine, count: int) -> bool:
    [sink] = await engine.store.sinks()
    return sink.failures == count


async def test_once_counts_an_answer_that_cannot_be_noted_as_a_failure(
    tmp_path: Path, parakey: Parakey, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The receiver gets the events again each time: a person has to know."""
    engine = engine_on(tmp_path / "x.db", parakey, time, Recorder(types=("co.*",)).named("one"))
    await put(engine.store, an_event(1, "a"))
    monkeypatch.setattr(engine.store, "ack", fails_at_first(engine.store.ack, 3))
    for _ in range(3):
        assert not await engine.once()
        time.advance(660)
    assert len(RECORDS["one"]) == 3
    assert await _failures(engine, 3)
    assert [event.type for event in own(engine.store)] == ["roundsman.sink.failing"]
    assert await engine.once()
    await engine.store.close()


class Counts(Recorder):
    """Counts how often it is asked."""

    @asynccontextmanager
    async def open(self, http: Http, receipt: Receipt | None) -> AsyncIterator[Deliver]:
        async def deliver(events: Sequence[Event]) -> None:
            self.told().extend(events)

        yield deliver


@pytest.mark.parametrize("method", ["ack", "drop_dead"])
async def test_a_receiver_gets_longer_waits_while_its_answer_cannot_be_noted(
    method: str, tmp_path: Path, parakey: Parakey, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each try is a repeat for the receiver."""
    engine = engine_on(tmp_path / "x.db", parakey, time, Counts().named("one"))
    await put(engine.store, an_event(1, "a"))
    if method == "drop_dead":
        await engine.store.bury("one", 0, 1, "no", time.now())
        await engine.store.requeue_dead("one", None)
    monkeypatch.setattr(engine.store, method, fails_at_first(getattr(engine.store, method), 9))
    waits: list[float] = []
    with capture_logs() as logs:
        async with running(engine):
            await until(lambda: len(RECORDS.get("one", [])) >= 3)
            waits = [entry["wait"] for entry in logs if entry["event"] == "sink.failing"]
    assert waits[1] > waits[0] >= 0.7
    await engine.store.close()


async def test_time_in_which_the_store_failed_does_not_count_as_failing(
    tmp_path: Path, parakey: Parakey, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sink failed once before, and once after that: it was not tried meanwhile."""
    engine = engine_on(tmp_path / "x.db", parakey, time, Recorder().named("one"))
    await put(engine.store, an_event(1, "a"))
    PLANS["one"] = lambda event: (_ for _ in ()).throw(OSError("restarting"))
    async with running(engine):
        publish(engine)
        await until(lambda: engine.deliveries["one"].outage.failures == 1)
        with monkeypatch.context() as patched:
            patched.setattr(engine.store, "cursor", fails_at_first(engine.store.cursor, 2))
            await until(lambda: missed_the_store(engine, "one"))
            time.advance(900)
            await until(lambda: engine.deliveries["one"].outage.failures == 2)
    assert own(engine.store) == []
    await engine.store.close()
