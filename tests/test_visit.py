"""One visit, where a source yields several polls, follows ids, and has something to remark."""

import io
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from inside import done, seen, status
from rounds import SCRIPTS, Scripted
from roundsman.engine.engine import Engine
from roundsman.plugin import Poll, State, Visit
from roundsman.sandbox import Parakey
from roundsman.store import Filter
from roundsman.store.sqlite.store import SqliteStore
from roundsman.system import logs
from worlds import START, ByHand, Straight, Time, an_event, web_of


@pytest.fixture
def engine(store: SqliteStore, time: Time) -> Engine:
    engine = Engine(store, ByHand(), web_of(Straight(Parakey(time.utc)), time), clock=time.clock())
    done(engine.setup({"doors": Scripted().named("doors")}, {}))
    return engine


def logged(engine: Engine) -> list[str]:
    return [event.id for event, _ in seen(engine.store.events(0, 10**6, 10**6, Filter()))]


async def test_each_page_is_committed_before_the_next_is_asked_for(engine: Engine) -> None:
    seen = []

    async def pages(visit: Visit, state: State) -> AsyncIterator[Poll]:
        for number in range(3):
            seen.append((logged(engine), (await engine.store.memory("doors")).state))
            yield Poll({"at": number}, [an_event(number)])

    SCRIPTS["doors"] = pages
    assert await engine.visit("doors")
    assert seen == [([], {}), (["id00000"], {"at": 0}), (["id00000", "id00001"], {"at": 1})]
    assert (await status(engine, "doors")).due == START + 60
    assert (await status(engine, "doors")).visits == 1, "one visit, however many pages"


async def test_a_visit_of_one_poll_has_its_numbers_as_numbers_in_the_log(engine: Engine) -> None:
    async def one(visit: Visit, state: State) -> Poll:
        return Poll({"at": 1}, [an_event(1), an_event(2)], rows=2)

    SCRIPTS["doors"] = one
    out = io.StringIO()
    logs.configure("info", "json", logs.Line(out))
    assert await engine.visit("doors")
    [line] = [json.loads(each) for each in out.getvalue().splitlines()]
    assert [line["event"], line["new"], line["rows"]] == ["poll.committed", 2, 2]
    assert isinstance(line["ms"], float)


async def test_what_was_committed_stays_when_a_later_page_fails(engine: Engine) -> None:
    async def pages(visit: Visit, state: State) -> AsyncIterator[Poll]:
        yield Poll({"at": 1}, [an_event(1)])
        raise OSError("the vendor went away")

    SCRIPTS["doors"] = pages
    assert not await engine.visit("doors")
    assert logged(engine) == ["id00001"]
    assert (await engine.store.memory("doors")).state == {"at": 1}
    assert (await status(engine, "doors")).failures == 1


async def test_a_rewind_between_two_pages_begins_anew_and_closes_what_was_open(engine: Engine) -> None:
    begun, closed = [], []

    async def pages(visit: Visit, state: State) -> AsyncIterator[Poll]:
        begun.append(dict(state))
        try:
            yield Poll({"at": 1}, [an_event(1)])
            if len(begun) == 1:
                await engine.store.rewind("doors", {"at": "back"})
            yield Poll({"at": 2}, [an_event(2)])
        finally:
            closed.append(1)

    SCRIPTS["doors"] = pages
    assert await engine.visit("doors")
    assert begun == [{}, {"at": "back"}]
    assert len(closed) == 2
    assert logged(engine) == ["id00001", "id00002"]
    assert (await engine.store.memory("doors")).state == {"at": 2}


async def test_a_visit_that_fails_in_the_end_has_failed_however_much_it_yielded(
    engine: Engine, time: Time
) -> None:
    """Neither "recovered" nor a good answer is said of it; the pauses grow, and after three intervals it is loud."""

    async def pages(visit: Visit, state: State) -> AsyncIterator[Poll]:
        yield Poll({"at": state.get("at", 0) + 1}, [an_event(state.get("at", 0))])
        raise OSError("the vendor went away")

    SCRIPTS["doors"] = pages
    for visit in range(4):
        assert not await engine.visit("doors")
        time.advance(100)
        await engine.beat()
        assert (await status(engine, "doors")).failures == visit + 1
    kinds = [event.type for event, _ in await engine.store.events(0, 99, 99, Filter(types=("roundsman.*",)))]
    assert kinds == ["roundsman.source.failing"]
    assert (await engine.store.sources())[0].status.failures == 4


async def test_ids_to_follow_are_given_until_a_visit_with_them_was_committed(engine: Engine) -> None:
    given = []

    async def pages(visit: Visit, state: State) -> AsyncIterator[Poll]:
        given.append(list(state.get("ids", ())))
        await engine.store.follow("doors", ["late"])  # while the visit is under way
        if len(given) == 1:
            raise OSError("not yet")
        yield Poll(state)

    SCRIPTS["doors"] = pages
    await engine.store.follow("doors", ["a", "b"])
    assert not await engine.visit("doors")
    assert await engine.visit("doors")
    assert given == [["a", "b"], ["a", "b", "late"]]
    assert (await engine.store.memory("doors")).ids == []
    assert (await engine.store.memory("doors")).state == {"ids": ["a", "b", "late"]}


async def test_what_is_odd_stands_in_the_log_after_the_commit(engine: Engine) -> None:
    async def pages(visit: Visit, state: State) -> AsyncIterator[Poll]:
        yield Poll({"at": 1}, remarks=["the counts shrank"])

    SCRIPTS["doors"] = pages
    with capture_logs() as logs:
        await engine.visit("doors")
    [entry] = [entry for entry in logs if entry["event"] == "vendor.surprise"]
    assert (entry["source"], entry["what"]) == ("doors", "the counts shrank")


async def test_nothing_but_polls_may_be_yielded(engine: Engine) -> None:
    async def pages(visit: Visit, state: State) -> AsyncIterator[Any]:
        yield {"at": 1}

    SCRIPTS["doors"] = pages
    with capture_logs() as logs:
        assert not await engine.visit("doors")
    assert "must return or yield a Poll, not dict" in logs[0]["error"]
