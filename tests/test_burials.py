"""The log lines about refused events: the first at once, those of the next minute in one line, and none is forgotten."""

from collections.abc import Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from doors import until
from inside import done, gathered, publish, put, seen
from raw import answer, raw_server
from rounds import running
from roundsman.engine.engine import Engine
from roundsman.errors import Reject
from roundsman.events import Event
from roundsman.http.transport import Clients
from roundsman.sinks.http import HttpSink
from roundsman.store.sqlite.store import SqliteStore
from worlds import PLANS, RECORDS, ByHand, Recorder, Time, an_event

Lines = list[dict[str, Any]]


@pytest.fixture
def engine(store: SqliteStore, time: Time) -> Engine:
    engine = Engine(store, ByHand(), Clients(now=time.now), clock=time.clock(), grace=0.2)
    done(engine.setup({}, {"crm": Recorder().named("crm")}))
    return engine


@pytest.fixture
def logs() -> Iterator[Lines]:
    with capture_logs() as lines:
        yield lines  # type: ignore[misc] # mutable mappings


def refuse(event: Event) -> None:
    raise Reject(f"no {event.id}")


def buried(logs: Lines) -> list[tuple[int, int, int]]:
    """(count, first, last) of each line."""
    lines = [line for line in logs if line["event"] == "event.buried"]
    return [
        (line.get("count", 1), line.get("first", line.get("seq")), line.get("last", line.get("seq")))
        for line in lines
    ]


async def refused(engine: Engine, logs: Lines, *numbers: int) -> None:
    """These events are refused now."""

    def count() -> int:
        return sum(line[0] for line in buried(logs)) + gathered(engine, "crm")

    end = count() + len(numbers)
    await put(engine.store, *(an_event(n) for n in numbers))
    publish(engine)
    await until(lambda: count() == end, 60)


async def test_a_receiver_that_refuses_10000_events_fills_two_lines(engine: Engine, logs: Lines) -> None:
    PLANS["crm"] = refuse
    async with running(engine):
        await refused(engine, logs, *range(10_000))
        assert buried(logs) == [(1, 1, 1)], "the first at once"
    assert buried(logs) == [(1, 1, 1), (9_999, 2, 10_000)]
    first, rest = (line for line in logs if line["event"] == "event.buried")
    assert first == {
        "event": "event.buried",
        "log_level": "error",
        "sink": "crm",
        "seq": 1,
        "id": "id00000",
        "source": "doors",
        "type": "co.parakey.event_log.created",
        "reason": "no id00000",
    }
    assert rest == {
        "event": "event.buried",
        "log_level": "error",
        "sink": "crm",
        "count": 9_999,
        "first": 2,
        "last": 10_000,
        "reason": "no id09999",
    }
    assert len(await engine.store.dead("crm")) == 10_000, "each is a dead letter"


async def test_what_was_gathered_is_logged_when_its_minute_is_over(
    engine: Engine, logs: Lines, time: Time
) -> None:
    """Also if nothing else happens: the heartbeat looks."""
    PLANS["crm"] = refuse
    async with running(engine):
        await refused(engine, logs, 1, 2, 3)
        time.advance(59)
        await engine.beat()
        assert buried(logs) == [(1, 1, 1)]
        time.advance(1)
        await engine.beat()
        await engine.beat()
        assert buried(logs) == [(1, 1, 1), (2, 2, 3)]
        await refused(engine, logs, 4, 5)
        assert len(buried(logs)) == 2, "a minute after that line"
        time.advance(60)
        await engine.beat()
        assert buried(logs)[2:] == [(2, 4, 5)]
        time.advance(60)
        await refused(engine, logs, 6)
        assert buried(logs)[3:] == [(1, 6, 6)], "at once"


async def test_a_receiver_that_refuses_all_the_time_fills_a_line_a_minute(
    engine: Engine, logs: Lines, time: Time
) -> None:
    """Also if no heartbeat comes. It refuses one event in twenty seconds."""
    PLANS["crm"] = refuse
    async with running(engine):
        for n in range(11):
            await refused(engine, logs, n)
            time.advance(20)
        assert buried(logs) == [(1, 1, 1), (2, 2, 3), (3, 4, 6), (3, 7, 9)]
    assert buried(logs)[4:] == [(2, 10, 11)]


async def test_what_was_gathered_is_logged_when_the_sink_fails(engine: Engine, logs: Lines) -> None:
    PLANS["crm"] = refuse
    async with running(engine):
        await refused(engine, logs, 1, 2, 3)

        def down(event: Event) -> None:
            raise OSError("down")

        PLANS["crm"] = down
        await put(engine.store, an_event(4))
        publish(engine)
        await until(lambda: any(line["event"] == "sink.failing" for line in logs))
        names = [line["event"] for line in logs if line["event"] in {"event.buried", "sink.failing"}]
        assert names == ["event.buried", "event.buried", "sink.failing"]
        assert buried(logs) == [(1, 1, 1), (2, 2, 3)]


async def test_what_was_gathered_is_logged_when_a_reload_removes_the_sink(
    engine: Engine, logs: Lines
) -> None:
    PLANS["crm"] = refuse
    async with running(engine):
        await refused(engine, logs, 1, 2, 3)
        await engine.setup({}, {"other": Recorder().named("other")})
        await until(lambda: len(buried(logs)) == 2)
    assert buried(logs) == [(1, 1, 1), (2, 2, 3)]


async def test_once_logs_what_was_gathered(engine: Engine, logs: Lines) -> None:
    PLANS["crm"] = refuse
    await put(engine.store, *(an_event(n) for n in range(5)))
    assert await engine.once()
    assert buried(logs) == [(1, 1, 1), (4, 2, 5)]


async def test_a_single_one_that_was_gathered_is_named(engine: Engine, logs: Lines) -> None:
    PLANS["crm"] = refuse
    await put(engine.store, an_event(1), an_event(2))
    await engine.once()
    lines = [line for line in logs if line["event"] == "event.buried"]
    assert [(line["seq"], line["id"], line["reason"]) for line in lines] == [
        (1, "id00001", "no id00001"),
        (2, "id00002", "no id00002"),
    ]


async def test_each_sink_has_lines_of_its_own(store: SqliteStore, time: Time, logs: Lines) -> None:
    """By HTTP, with the receiver's words of the last refusal; the sink that takes the events is not slowed down."""
    replies = iter(range(1000))

    def refuses(_: str) -> bytes:
        return answer(f"seat {next(replies)} is taken".encode(), 422)

    async with raw_server(refuses) as first, raw_server(lambda _: answer(b"closed", 410)) as second:
        engine = Engine(store, ByHand(), Clients(now=time.now), clock=time.clock(), grace=0.2)
        sinks: dict[str, Any] = {
            name: HttpSink(type="http", url=f"{server.url}/").named(name)
            for name, server in (("first", first), ("second", second))
        }
        await engine.setup({}, {**sinks, "takes": Recorder().named("takes")})
        await put(store, *(an_event(n) for n in range(300)))
        async with running(engine):
            await until(lambda: all(len(seen(store.dead(name))) == 300 for name in sinks), 60)
        await engine.aclose()
    lines = [line for line in logs if line["event"] == "event.buried"]
    assert len(lines) == 4
    for name, server, said in (("first", first, "seat 299 is taken"), ("second", second, "closed")):
        [single, rest] = [line for line in lines if line["sink"] == name]
        assert (single["seq"], rest["count"]) == (1, 299)
        status = 422 if name == "first" else 410
        assert rest["reason"] == f"{server.url.removeprefix('http://')} answered {status}: {said}"
    assert len(RECORDS["takes"]) == 300


async def test_a_retried_letter_that_is_refused_again_is_logged(
    engine: Engine, logs: Lines, time: Time
) -> None:
    PLANS["crm"] = refuse
    async with running(engine):
        await refused(engine, logs, 1)
        time.advance(60)
        await engine.store.requeue_dead("crm", None)
        publish(engine)
        await until(lambda: len(buried(logs)) == 2)
    assert buried(logs) == [(1, 1, 1), (1, 1, 1)]
