"""Plugins that were written for a version before 0.6 work as they did, and the log says what to change."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, Literal

import pytest
from structlog.testing import capture_logs

from rounds import Scripted
from roundsman.engine.engine import Engine
from roundsman.engine.reading import visit_to
from roundsman.http.client import Http
from roundsman.legacy import takes_a_visit
from roundsman.plugin import Poll, Receives, Source, State, Tracks, Visit
from roundsman.sandbox import Parakey
from roundsman.store import Store
from worlds import ByHand, Straight, Time, an_event, web_of


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
def engine(store: Store, time: Time) -> Engine:
    SEEN.clear()
    return Engine(store, ByHand(), web_of(Straight(Parakey(time.utc)), time), clock=time.clock())


async def test_a_source_that_is_given_an_http_works_and_the_log_says_what_to_write(engine: Engine) -> None:
    with capture_logs() as logs:
        engine.setup({name: Old().named(name) for name in ("a", "b")}, {})
    said = [each for each in logs if each["event"] == "plugin.deprecated"]
    assert [(each["plugin"].rpartition(".")[2], each["log_level"]) for each in said] == [("Old", "warning")]
    assert await engine.visit("a")
    assert await engine.visit("a")
    assert SEEN[0] == {"rung": False, "told": set(), "asked": 0}
    assert SEEN[1] == {"rung": False, "told": {"id00001"}, "asked": 0}
    assert engine.store.state("a")[0] == {"n": 2}


async def test_one_that_yields_may_ask_for_a_rest(engine: Engine, time: Time) -> None:
    engine.setup({"a": OldPages().named("a")}, {})
    assert await engine.visit("a")
    assert engine.store.head() == 1
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
    parakey = Parakey(time.utc)
    visit = visit_to(Old().named("a"), web_of(Straight(parakey), time), log=lambda ids: {"x"} & set(ids))
    assert (visit.trigger, visit.wait, visit.now) == ("command", 0.0, time.utc())
    assert await visit.known(["x", "y"]) == {"x"}
    assert await visit.known([]) == set()
    visit.defer(30)
    visit.defer(20)
    assert visit.wait == 30
    before = time.now()
    await visit.pause(5)
    assert time.now() - before == 5
