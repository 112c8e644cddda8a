"""Plugins that were written for a version before 0.6 work as they did, and the log says what to change."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import pytest
from structlog.testing import capture_logs

import roundsman
from rounds import Scripted
from roundsman.engine.engine import Engine
from roundsman.engine.reading import visit_to
from roundsman.http.client import Http
from roundsman.legacy import takes_a_visit
from roundsman.plugin import Poll, Received, Receives, Registers, Source, State, Tracks, Visit
from roundsman.sandbox import TOKEN, Parakey
from roundsman.sources.parakey import EventLogs
from roundsman.store.sqlite.store import SqliteStore
from roundsman.webhook import Call
from worlds import ByHand, Recorder, Straight, Time, an_event, web_of


class Old(Source):
    """As it stood in the README of 0.5: `poll` is given an `Http`."""

    type: Literal["old"] = "old"
    base_url: str = "http://127.0.0.1:1"

    async def poll(self, http: Http, state: State) -> Poll:  # type: ignore[override]
        SEEN.append({"rung": http.rung, "told": http.told(["id00001", "x"]), "asked": http.asked})
        return Poll({"n": state.get("n", 0) + 1}, [an_event(state.get("n", 0) + 1, self.name)])

    @classmethod
    def follow(cls, state: State, ids: Sequence[str]) -> State:
        return {**state, "ids": list(ids)}


class OldPages(Source):
    type: Literal["old"] = "old"
    base_url: str = "http://127.0.0.1:1"

    async def poll(self, client: Http, state: State) -> AsyncIterator[Poll]:  # type: ignore[override]
        yield Poll({"at": 1}, [an_event(1, self.name)])
        client.wait = max(client.wait, 900.0)
        SEEN.append({"now": client.now(), "vendor": client.vendor_now(), "date": client.date})
        await client.rest(1)


SEEN: list[dict[str, Any]] = []


@pytest.fixture
def engine(store: SqliteStore, time: Time) -> Engine:
    SEEN.clear()
    return Engine(store, ByHand(), web_of(Straight(Parakey(time.utc)), time), clock=time.clock())


async def test_a_source_that_is_given_an_http_works_and_the_log_says_what_to_write(engine: Engine) -> None:
    with capture_logs() as logs:
        await engine.setup({name: Old().named(name) for name in ("a", "b")}, {})
    said = [each for each in logs if each["event"] == "plugin.deprecated"]
    assert [(each["plugin"].rpartition(".")[2], each["log_level"]) for each in said] == [("Old", "warning")]
    assert await engine.visit("a")
    assert await engine.visit("a")
    assert SEEN[0] == {"rung": False, "told": set(), "asked": 0}
    assert SEEN[1] == {"rung": False, "told": {"id00001"}, "asked": 0}
    assert (await engine.store.memory("a")).state == {"n": 2}


async def test_one_that_yields_may_ask_for_a_rest(engine: Engine, time: Time) -> None:
    await engine.setup({"a": OldPages().named("a")}, {})
    assert await engine.visit("a")
    assert await engine.store.head() == 1
    assert engine.roster["a"].status.not_before >= time.now() + 899
    assert [{"now": SEEN[0]["now"], "vendor": SEEN[0]["now"], "date": None}] == SEEN


def test_a_visit_is_known_by_its_name_or_its_annotation() -> None:
    class Named(Scripted):
        async def poll(self, visit: Any, state: State) -> Poll:
            return Poll(state)

    class Annotated(Scripted):
        async def poll(self, v: Visit, state: State) -> Poll:
            return Poll(state)

    class Neither(Scripted):
        async def poll(self, x: Any, state: State) -> Poll:
            return Poll(state)

    assert [takes_a_visit(each) for each in (Named, Annotated, Neither, Old)] == [True, True, False, False]


def test_what_a_source_can_do_is_what_it_has() -> None:
    assert isinstance(Old(), Tracks)
    assert not isinstance(OldPages(), Tracks)
    assert not isinstance(Old(), Receives)


async def test_a_visit_gives_what_an_http_gave(time: Time) -> None:
    async def known(ids: Sequence[str]) -> set[str]:
        return {"x"} & set(ids)

    visit = visit_to(Old().named("a"), web_of(Straight(Parakey(time.utc)), time), log=known)
    assert (visit.trigger, visit.wait, visit.now) == ("command", 0.0, time.utc())
    assert await visit.known(["x", "y"]) == {"x"}
    assert await visit.known([]) == set()
    visit.defer(30)
    visit.defer(20)
    assert visit.wait == 30
    before = time.now()
    await visit.pause(5)
    assert time.now() - before == 5


class Delegating(Scripted):
    """Handles what it knows, and leaves the rest to `super()`, as was natural before 0.6."""

    type: Literal["delegating"] = "delegating"  # type: ignore[assignment]

    def receive(self, call: Call) -> Received:
        return super().receive(call)

    def rewound(self, state: State, to: Any) -> State:
        return super().rewound(state, to)

    def registrar(self, http: Http) -> Any:
        return super().registrar(http)


class Followed(Source):
    type: Literal["followed"] = "followed"
    base_url: str = "http://127.0.0.1:1"

    def poll(self, http: Http, state: State) -> Any:  # type: ignore[override]
        raise NotImplementedError

    @classmethod
    def follow(cls, state: State, ids: Sequence[str]) -> State:
        return super().follow(state, ids)


async def test_what_is_left_to_super_is_what_it_was(time: Time) -> None:
    source = Delegating().named("a")
    assert isinstance(source, Receives)
    assert source.receive(Call(b"", {}, time.now(), "")) == Received(ring=True)
    assert isinstance(source, Registers)
    assert source.registrar(Http(web_of(Straight(Parakey(time.utc)), time))) is None
    with pytest.raises(NotImplementedError, match="cannot be rewound"):
        source.rewound({}, None)
    with pytest.raises(NotImplementedError, match="follows nothing by id"):
        Followed.follow({}, ["x"])


class Doors(EventLogs):
    """Derives from a source that is given a visit, and hands on what it is given."""

    async def poll(self, http: Http, state: State) -> Poll:  # type: ignore[override]
        SEEN.append({"now": http.now(), "vendor": http.vendor_now()})
        http.retry_timeouts = False
        http.interval = max(http.interval, 300.0)
        assert http.web is http.clients
        return await super().poll(http, state)  # type: ignore[arg-type]


async def test_a_source_may_derive_from_one_that_is_given_a_visit(store: SqliteStore, time: Time) -> None:
    SEEN.clear()
    parakey = Parakey(time.utc)
    parakey.add()
    engine = Engine(store, ByHand(), web_of(Straight(parakey), time), clock=time.clock())
    options = {"base_url": "http://127.0.0.1:1", "access_token": TOKEN, "start": "beginning"}
    await engine.setup({"a": Doors(type="parakey.event_logs", **options).named("a")}, {})
    assert await engine.visit("a")
    assert await engine.store.head() == 1
    assert SEEN[0]["now"] == time.utc()
    assert engine.roster["a"].status.due == time.now() + 300, "it asked for that much"


def test_an_annotation_is_read_as_it_is_written() -> None:
    class Dotted(Scripted):
        async def poll(self, v: roundsman.Visit, state: State) -> Poll:
            return Poll(state)

    class Bare(Scripted):
        @staticmethod
        async def poll(visit: Any, state: State) -> Poll:  # type: ignore[override]
            return Poll(state)

    class Unknown(Scripted):
        async def poll(self, http: NotImportedHere, state: State) -> Poll:  # type: ignore[name-defined] # noqa: F821 - on purpose
            return Poll(state)

    assert [takes_a_visit(each) for each in (Dotted, Bare, Unknown)] == [True, True, False]


async def test_a_sink_gets_what_it_got(time: Time) -> None:
    seen: list[Any] = []

    class Slow(Recorder):
        type: Literal["slow"] = "slow"  # type: ignore[assignment]

        @asynccontextmanager
        async def open(self, http: Any, receipt: Any) -> AsyncIterator[Any]:
            await http.rest(0)
            seen.append((http.now(), http.wait, http.asked, http.date, http.told(["x"])))

            async def deliver(events: Sequence[Any]) -> None:
                pass

            yield deliver

    store = SqliteStore.open(Path(tempfile.mkdtemp()) / "x.db")
    engine = Engine(store, ByHand(), web_of(Straight(Parakey(time.utc)), time), clock=time.clock())
    await engine.setup({}, {"one": Slow().named("one")})
    assert await engine.once()
    assert seen == [(time.utc(), 0.0, 0, None, set())]
    await store.close()


async def test_the_time_of_before_can_be_stored_and_goes_on(engine: Engine, time: Time) -> None:
    class Clocked(Source):
        type: Literal["clocked"] = "clocked"
        base_url: str = "http://127.0.0.1:1"

        async def poll(self, http: Http, state: State) -> Poll:  # type: ignore[override]
            clock = http.now
            began = clock()
            await http.rest(5)
            assert (clock() - began).total_seconds() == 5
            moment = http.now  # as a source that is given a visit has it
            return Poll({"at": http.now(), "vendor": http.vendor_now(), "visit": moment})

    await engine.setup({"a": Clocked().named("a")}, {})
    assert await engine.visit("a")
    state = (await engine.store.memory("a")).state
    assert state["at"] == state["vendor"] == state["visit"]


def test_what_is_called_is_what_counts() -> None:
    """A mixin behind `Source` is shadowed by what `Source` has, and one before it is not."""

    class Follows:
        @classmethod
        def follow(cls, state: State, ids: Sequence[str]) -> State:
            return {**state, "ids": list(ids)}

    class Behind(OldPages, Follows):
        pass

    class Before(Follows, OldPages):  # type: ignore[misc]
        pass

    assert not isinstance(Behind(), Tracks)
    assert isinstance(Before(), Tracks)
    assert Before.follow({}, ["x"]) == {"ids": ["x"]}
