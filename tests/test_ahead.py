"""A backlog is requested ahead of its commits: as exact as without, and never far ahead."""

from collections.abc import AsyncIterator
from typing import ClassVar, Literal

import pytest

from inside import broken, locked, log
from rounds import SCRIPTS
from roundsman.engine.engine import Engine
from roundsman.plugin import Poll, Source, State, Visit
from roundsman.sandbox import Parakey
from roundsman.store.sqlite.store import SqliteStore
from worlds import ByHand, Recorder, Straight, Time, an_event, web_of

PAGE = 1000


class Eager(Source):
    """A source whose polls may be requested ahead."""

    type: Literal["eager"] = "eager"
    base_url: str = "http://127.0.0.1:1"
    reads_ahead: ClassVar[bool] = True

    async def poll(self, visit: Visit, state: State) -> Poll:
        found: Poll = await SCRIPTS[self.name](visit, state)
        return found


@pytest.fixture
async def engine(store: SqliteStore, time: Time) -> AsyncIterator[Engine]:
    made = Engine(store, ByHand(), web_of(Straight(Parakey()), time), clock=time.clock())
    await made.setup({"doors": Eager().named("doors")}, {"rec": Recorder().named("rec")})
    yield made
    await made.aclose()


class Backlog:
    """Pages of a thousand rows; remembers what was asked for, and what was committed then."""

    def __init__(self, store: SqliteStore, pages: int) -> None:
        self.store, self.pages = store, pages
        self.asked: list[int] = []
        self.ahead: list[int] = []

    async def poll(self, visit: Visit, state: State) -> Poll:
        at = int(state.get("at", 0))
        self.asked.append(at)
        self.ahead.append(at - int((await self.store.memory("doors")).state.get("at", 0)))
        if at == self.pages:
            return Poll(state)
        events = [an_event(number) for number in range(at * PAGE, (at + 1) * PAGE)]
        return Poll({"at": at + 1}, events, more=True, rows=PAGE)


async def test_each_page_is_requested_once_and_reported_once(engine: Engine, store: SqliteStore) -> None:
    backlog = Backlog(store, 12)
    SCRIPTS["doors"] = backlog.poll
    assert await engine.visit("doors")
    assert backlog.asked == [*range(13)]
    ids = [event.id for event in await log(store)]
    assert ids == [an_event(number).id for number in range(12 * PAGE)], "in the vendor's order"
    assert (await store.memory("doors")).state == {"at": 12}


async def test_no_more_than_a_few_pages_wait_for_the_disk(engine: Engine, store: SqliteStore) -> None:
    """Behind a slow disk, or another program's lock, the memory is not filled."""
    backlog = Backlog(store, 40)
    SCRIPTS["doors"] = backlog.poll
    assert await engine.visit("doors")
    assert 1 < max(backlog.ahead) <= 8


async def test_what_was_requested_ahead_is_void_if_the_commit_before_it_fails(
    engine: Engine, store: SqliteStore
) -> None:
    backlog = Backlog(store, 6)
    SCRIPTS["doors"] = backlog.poll
    with locked(store, "UPDATE sources SET due = 0"):  # for longer than the writer waits
        assert not await engine.visit("doors")
    assert await log(store) == []
    assert (await store.memory("doors")).state == {}
    assert await engine.visit("doors")
    assert len(await log(store)) == 6 * PAGE


async def test_what_was_requested_ahead_is_void_after_a_rewind(engine: Engine, store: SqliteStore) -> None:
    backlog = Backlog(store, 8)

    async def poll(visit: Visit, state: State) -> Poll:
        if state.get("at") == 4 and backlog.asked.count(4) == 0:
            await store.rewind("doors", {"at": 2})
        return await backlog.poll(visit, state)

    SCRIPTS["doors"] = poll
    assert await engine.visit("doors")
    assert backlog.asked.count(2) == 2, "it was read again from there"
    events = [event.id for event in await log(store)]
    assert len(events) == len(set(events)) == 8 * PAGE
    assert (await store.memory("doors")).state == {"at": 8}


async def test_an_error_ahead_loses_no_page_before_it(engine: Engine, store: SqliteStore) -> None:
    backlog = Backlog(store, 5)

    async def poll(visit: Visit, state: State) -> Poll:
        if state.get("at") == 3:
            raise OSError("the vendor went away")
        return await backlog.poll(visit, state)

    SCRIPTS["doors"] = poll
    assert not await engine.visit("doors")
    assert len(await log(store)) == 3 * PAGE
    assert (await store.memory("doors")).state == {"at": 3}


async def test_a_statement_that_fails_raises_in_the_visit(engine: Engine, store: SqliteStore) -> None:
    backlog = Backlog(store, 5)
    SCRIPTS["doors"] = backlog.poll
    with broken(store, OSError("the disk is gone"), only="events"):
        assert not await engine.visit("doors")
    assert await log(store) == []
