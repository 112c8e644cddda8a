"""What a source is owed when reloads, rewinds, rings, clocks and a store in trouble meet its visits."""

import asyncio
from collections.abc import Callable
from typing import Any, Literal

import httpx
import pytest
from msgspec.structs import replace

from doors import until
from inside import alarms, commit, done, leaving, publish, ring_due, seen, settle, sql
from rounds import SCRIPTS, Scripted, running
from roundsman.engine.engine import Engine
from roundsman.engine.reading import Dry, read, visit_to
from roundsman.errors import Backoff, Denied
from roundsman.plugin import Poll, Received, Source, State, Visit
from roundsman.sandbox import Parakey
from roundsman.store import Filter, StoreError
from roundsman.store.sqlite.store import SqliteStore
from roundsman.webhook import Call
from worlds import ByHand, Recorder, Straight, Time, an_event, web_of

FAILING, RECOVERED = "roundsman.source.failing", "roundsman.source.recovered"


@pytest.fixture
def boot(store: SqliteStore, parakey: Parakey, time: Time) -> Callable[[], Engine]:
    """A daemon on the same store, as after a restart."""
    return lambda: Engine(store, ByHand(), web_of(Straight(parakey), time), clock=time.clock(), grace=0.2)


@pytest.fixture
def engine(boot: Callable[[], Engine]) -> Engine:
    return boot()


def kinds(store: SqliteStore) -> list[str]:
    return [event.type for event, _ in seen(store.events(0, 10**9, 10**6, Filter()))]


async def go(engine: Engine, time: Time, seconds: float = 0.0) -> None:
    time.advance(seconds)
    await ring_due(engine)
    await settle(engine)


def rewind(store: SqliteStore, state: State) -> None:
    """As the command does it, beside the daemon."""
    beside = SqliteStore.open(store.path, daemon=False)
    done(beside.rewind("a", state))
    done(beside.close())


async def fine(visit: Visit, state: State) -> Poll:
    return Poll(state)


def one(**options: Any) -> dict[str, Source]:
    return {"a": Scripted(**options).named("a")}


# -- a source that is taken out, and put back --------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["raises", "returns"])
async def test_a_source_that_was_taken_out_may_end_its_visit_as_it_likes(
    ending: str, engine: Engine, time: Time
) -> None:
    begun = asyncio.Event()

    async def slow(visit: Visit, state: State) -> Poll:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if ending == "raises":
                raise OSError("the logout failed") from None
        return Poll({"n": 1}, [an_event(1, "a")])

    SCRIPTS.update(a=slow, b=fine)
    both: dict[str, Source] = {**one(), "b": Scripted().named("b")}
    await engine.setup(both, {})
    async with running(engine) as rounds:
        await go_without_waiting(engine, time)
        await begun.wait()
        await engine.setup({"b": both["b"]}, {})
        await asyncio.sleep(0.01)
        await engine.beat()
        assert not rounds.done()


async def go_without_waiting(engine: Engine, time: Time) -> None:
    time.advance(1)
    await ring_due(engine)


async def test_a_visit_that_ends_before_it_began_keeps_no_place(engine: Engine, time: Time) -> None:
    """The alarm and the reload come in the same moment, again and again: the host is still asked."""
    SCRIPTS["a"] = fine
    async with running(engine):
        for _ in range(40):
            await engine.setup(one(), {})
            time.advance(61)
            await ring_due(engine)
            await asyncio.sleep(0)  # the visit is about to begin, once its `due` is written
            await engine.setup({}, {})
            await asyncio.sleep(0)
        visits = []

        async def count(visit: Visit, state: State) -> Poll:
            visits.append(1)
            return Poll(state)

        SCRIPTS["a"] = count
        await engine.setup(one(), {})
        await go(engine, time, 61)
        assert visits == [1]


async def test_what_was_not_asked_for_a_day_did_not_fail_for_a_day(engine: Engine, time: Time) -> None:
    async def bad(visit: Visit, state: State) -> Poll:
        raise OSError("down")

    SCRIPTS["a"] = bad
    await engine.setup(one(), {})
    async with running(engine):
        await go(engine, time, 1)
        await engine.setup({}, {})
        time.advance(86400)
        await engine.beat()
        await engine.setup(one(), {})
        await engine.beat()
    assert FAILING not in kinds(engine.store)


class Touchy(Scripted):
    """A plugin whose options raise when they are looked at, if the test says so."""

    type: Literal["touchy"] = "touchy"
    raises: bool = False

    def fingerprint(self, identity: str) -> str:
        if self.raises:
            raise RuntimeError("no fingerprint")
        return "x"


async def test_a_plugin_that_raises_in_a_reload_changes_nothing(
    engine: Engine, boot: Callable[[], Engine], time: Time
) -> None:
    async def bad(visit: Visit, state: State) -> Poll:
        raise OSError("down")

    SCRIPTS.update(a=fine, n=fine, t=bad)
    await engine.setup({"t": Touchy().named("t")}, {})
    async with running(engine):
        await go(engine, time, 1)
    engine = boot()
    await engine.setup(one(), {})
    async with running(engine):
        with pytest.raises(RuntimeError, match="no fingerprint"):
            await engine.setup({"n": Scripted().named("n"), "t": Touchy(raises=True).named("t")}, {})
        assert list(engine.roster) == ["a"]
        await go(engine, time, 61)
        assert list(alarms(engine).at) == ["a"], "and it is visited as before"


async def test_a_plugin_that_raises_while_its_failure_is_stored_ends_no_daemon(
    engine: Engine, time: Time
) -> None:
    async def bad(visit: Visit, state: State) -> Poll:
        raise Denied("no", 401)

    SCRIPTS["t"] = bad
    await engine.setup({"t": Touchy(raises=True).named("t")}, {})
    async with running(engine) as rounds:
        await go(engine, time, 1)
        await engine.beat()
        assert not rounds.done()
    assert kinds(engine.store) == [FAILING]


async def test_a_store_that_raises_in_a_reload_leaves_every_sink_its_loop(
    engine: Engine, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    SCRIPTS["a"] = fine
    await engine.setup(one(), {"one": Recorder().named("one")})
    async with running(engine):

        def locked(*_: object) -> Any:
            raise StoreError("locked")

        with monkeypatch.context() as patched:
            patched.setattr(engine.store, "failure", locked)
            with pytest.raises(StoreError):
                await engine.setup(one(), {"one": Recorder(batch=5).named("one")})
        commit(engine.store, "a", {"n": 1}, [an_event(1, "a")])
        publish(engine)
        await until(lambda: seen(engine.store.cursor("one"))[0] == 1)


# -- a rewind, and what comes meanwhile --------------------------------------------------------------------------------


class Keyed(Source):
    """A source with an address and a key."""

    type: Literal["keyed"] = "keyed"
    base_url: str = "http://127.0.0.1:1"
    key: str = "old"

    def auth(self) -> httpx.Auth:
        return httpx.BasicAuth(self.key, "")

    def identity(self) -> str:
        return self.key

    def poll(self, visit: Visit, state: State) -> Any:
        return SCRIPTS["keyed"](self, visit, state)


async def test_no_new_address_gets_an_old_key(engine: Engine, time: Time) -> None:
    """A reload and a rewind during a visit: it begins again, with the options that it began with."""
    seen: list[tuple[str, str, str]] = []
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def poll(source: Keyed, visit: Visit, state: State) -> Poll:
        seen.append((source.base_url, source.key, visit.http.identity))
        if len(seen) == 1:
            begun.set()
            await go_on.wait()
        return Poll({**state, "n": len(seen)}, [an_event(len(seen), "a")])

    SCRIPTS["keyed"] = poll
    await engine.setup({"a": Keyed().named("a")}, {})
    async with running(engine):
        await go_without_waiting(engine, time)
        await begun.wait()
        await engine.setup({"a": Keyed(key="new", base_url="http://127.0.0.2:1").named("a")}, {})
        rewind(engine.store, {"x": 1})
        go_on.set()
        await settle(engine)
    assert len(seen) > 1
    assert all(key == used for _, key, used in seen)


@pytest.mark.parametrize("dies", [False, True])
async def test_a_rewind_counts_although_a_webhook_rings_first(
    dies: bool, engine: Engine, boot: Callable[[], Engine], time: Time
) -> None:
    """The ring's visit fails, or the daemon ends in it: the scheduled visit that the command asks for still comes."""
    SCRIPTS["a"] = fine
    await engine.setup(one(interval=3600), {})
    visits: list[str] = []

    async def bad(visit: Visit, state: State) -> Poll:
        visits.append(visit.trigger)
        if dies:
            await asyncio.Event().wait()
        raise OSError("down")

    async with running(engine):
        await go(engine, time, 1)
        await engine.beat()
        time.advance(10)
        SCRIPTS["a"] = bad
        rewind(engine.store, {"x": 1})
        engine.turns.ring("a")
        if dies:
            await until(lambda: visits)
        else:
            await settle(engine)
            await engine.beat()
            await settle(engine)
            assert visits == ["webhook", "command"]
    if dies:
        assert await engine.store.commanded() == ["a"]


async def test_a_vendors_rest_is_kept_over_a_rewind_and_a_restart(
    engine: Engine, boot: Callable[[], Engine], time: Time
) -> None:
    asked: list[float] = []

    async def later(visit: Visit, state: State) -> Poll:
        asked.append(time.now())
        if len(asked) == 1:
            rewind(engine.store, {"x": 1})
        raise Backoff(1800)

    SCRIPTS["a"] = later
    await engine.setup(one(), {})
    async with running(engine):
        await go(engine, time, 1)
        await engine.beat()
    engine = boot()
    await engine.setup(one(), {})
    async with running(engine):
        for _ in range(20):
            await go(engine, time, 5)
    assert len(asked) == 1


async def test_a_visit_that_was_rewound_asks_no_more_in_a_rest(engine: Engine, time: Time) -> None:
    asked: list[float] = []

    async def rests(visit: Visit, state: State) -> Poll:
        asked.append(time.now())
        visit.defer(600)
        if len(asked) == 1:
            rewind(engine.store, {"x": 1})
        return Poll({"n": len(asked)})

    SCRIPTS["a"] = rests
    await engine.setup(one(), {})
    async with running(engine):
        await go(engine, time, 1)
        assert len(asked) == 1
        await engine.beat()
        await go(engine, time, 300)
        assert len(asked) == 1
        await go(engine, time, 301)
        assert len(asked) == 2


# -- a store in trouble ------------------------------------------------------------------------------------------------


async def test_a_rest_holds_although_the_answer_could_not_be_stored(
    engine: Engine, boot: Callable[[], Engine], time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []

    async def rests(visit: Visit, state: State) -> Poll:
        asked.append(time.now())
        visit.defer(600)
        return Poll({"n": len(asked)})

    def locked(*_: object) -> int:
        raise StoreError("locked")

    SCRIPTS["a"] = rests
    await engine.setup(one(), {})
    async with running(engine):
        with monkeypatch.context() as patched:
            patched.setattr(engine.store, "commit", locked)
            await go(engine, time, 1)
    engine = boot()
    await engine.setup(one(), {})
    async with running(engine):
        for _ in range(6):
            await go(engine, time, 61)
    assert len(asked) == 1


async def test_a_refusal_that_could_not_be_reported_is_reported_the_next_time(
    engine: Engine, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also with the same words; and nothing recovers that was not reported."""

    async def denied(visit: Visit, state: State) -> Poll:
        raise Denied("no", 401)

    def locked(*_: object) -> int:
        raise StoreError("locked")

    SCRIPTS["a"] = fine
    await engine.setup(one(interval=3600), {})
    async with running(engine):
        await go(engine, time, 1)
        SCRIPTS["a"] = denied
        time.advance(10)
        with monkeypatch.context() as patched:
            patched.setattr(engine.store, "commit", locked)
            engine.turns.ring("a")
            await settle(engine)
        await go(engine, time, 11)
        assert kinds(engine.store) == [FAILING]
        SCRIPTS["a"] = fine
        await go(engine, time, 4000)
    assert kinds(engine.store) == [FAILING, RECOVERED]


async def test_what_was_paged_and_then_quiet_is_no_failure_of_long_ago(
    engine: Engine, boot: Callable[[], Engine], time: Time
) -> None:
    paged = asyncio.Event()

    async def pages(visit: Visit, state: State) -> Any:
        yield Poll({"at": 1}, [an_event(1, "a")], rows=1)
        paged.set()
        await asyncio.Event().wait()

    SCRIPTS["a"] = pages
    await engine.setup(one(), {})
    async with running(engine):
        await go_without_waiting(engine, time)
        await paged.wait()
    SCRIPTS["a"] = fine
    for _ in range(2):  # restarts, with an hour of quiet visits before each
        engine = boot()
        await engine.setup(one(), {})
        async with running(engine):
            await engine.beat()
            for _ in range(60):
                await go(engine, time, 60)
                await engine.beat()
    assert FAILING not in kinds(engine.store)


# -- clocks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [3600.0, -86400.0])
async def test_a_clock_that_is_set_between_alarm_and_visit_is_no_silence(
    step: float, engine: Engine, time: Time
) -> None:
    async def bad(visit: Visit, state: State) -> Poll:
        raise OSError("down")

    SCRIPTS["a"] = fine
    await engine.setup(one(), {})
    async with running(engine):
        await go(engine, time, 1)
        SCRIPTS["a"] = bad
        time.advance(60)
        await ring_due(engine)  # the visit is a task that has not begun
        time.set_wall(step)
        await settle(engine)
        assert FAILING not in kinds(engine.store)
        await engine.beat()
        for _ in range(3):
            await go(engine, time, 200)
    assert FAILING in kinds(engine.store), "and after three intervals it is one"


async def test_once_prunes_nothing_by_a_clock_that_jumped_in_it(
    boot: Callable[[], Engine], store: SqliteStore, time: Time
) -> None:
    async def first(visit: Visit, state: State) -> Poll:
        return Poll({"n": 1}, [an_event(1, "a")])

    async def step(visit: Visit, state: State) -> Poll:
        time.set_wall(60 * 86400)
        return Poll({"n": 2})

    for script in (first, step):
        SCRIPTS["a"] = script
        time.advance(61)
        engine = boot()
        await engine.setup(one(), {})
        await engine.once()
    assert "roundsman.clock.jumped" in kinds(store)
    assert await sql(store, "SELECT count(*) FROM events WHERE body IS NULL") == [(0,)]


async def test_once_asks_no_sooner_for_a_shorter_interval(boot: Callable[[], Engine], time: Time) -> None:
    asked: list[float] = []

    async def count(visit: Visit, state: State) -> Poll:
        asked.append(time.now())
        return Poll(state)

    SCRIPTS["a"] = count
    for interval in (3600, 60):
        engine = boot()
        await engine.setup(one(interval=interval), {})
        await engine.once()
        time.advance(1)
    assert len(asked) == 1


# -- sources of one's own ----------------------------------------------------------------------------------------------


async def test_a_backlog_that_brings_nothing_waits_for_its_interval(engine: Engine, time: Time) -> None:
    asked: list[float] = []

    async def more(visit: Visit, state: State) -> Poll:
        asked.append(time.now())
        return Poll(state, more=True)

    SCRIPTS["a"] = more
    await engine.setup(one(), {})
    async with running(engine):
        time.advance(1)
        for _ in range(20):
            await go(engine, time, 0.05)
    assert len(asked) == 1


async def test_a_rest_beyond_every_calendar_ends_no_daemon(engine: Engine, time: Time) -> None:
    async def later(visit: Visit, state: State) -> Poll:
        visit.defer(1e14)
        raise Backoff(1e13)

    SCRIPTS["a"] = later
    await engine.setup(one(), {})
    async with running(engine) as rounds:
        await go(engine, time, 1)
        await engine.beat()
        assert not rounds.done()
        assert engine.roster["a"].status.due < time.now() + 400 * 86400


async def test_ids_that_no_source_would_follow_are_kept_for_a_person(engine: Engine, time: Time) -> None:
    class Deaf(Source):
        type: Literal["deaf"] = "deaf"
        base_url: str = "http://127.0.0.1:1"

        async def poll(self, visit: Visit, state: State) -> Poll:
            return Poll(state)

        def receive(self, call: Call) -> Received:
            return Received(follow=["x1"])

    source = Deaf().named("a")
    await engine.setup({"a": source}, {})
    async with running(engine):
        await engine.reception.take(source, Call(b"{}", {}, time.now(), ""))
    assert await sql(engine.store, "SELECT count(*) FROM inbox") == [(0,)]
    [unread] = await engine.store.unread("a")
    assert "has no follow()" in unread.why


# -- pruning -----------------------------------------------------------------------------------------------------------


async def test_a_sink_that_comes_back_during_pruning_keeps_what_it_has_not_got(
    engine: Engine, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    SCRIPTS["doors"] = fine
    source: dict[str, Source] = {"doors": Scripted().named("doors")}
    both = {name: Recorder().named(name) for name in ("one", "two")}
    await engine.setup(source, both)
    for page in range(4):
        events = [an_event(number, "doors") for number in range(page * 500, page * 500 + 500)]
        commit(engine.store, "doors", {"page": page}, events, now=time.now())
    await engine.store.ack("one", 0, await engine.store.head(), None, time.now())
    await engine.setup(source, {"one": both["one"]})
    time.advance(40 * 86400)
    steps = 0
    prune = engine.store.prune

    def one_step(*args: Any) -> bool:
        nonlocal steps
        steps += 1
        if steps == 2:
            done(engine.setup(source, both))
        return prune(*args)

    async def no_wait(seconds: float) -> None:
        await asyncio.sleep(0)

    monkeypatch.setattr(engine.store, "prune", one_step)
    monkeypatch.setattr(engine.time, "sleep", no_wait)
    await engine.upkeep.prune(engine.deliveries)
    left = await sql(engine.store, "SELECT count(*) FROM events WHERE body IS NOT NULL AND type GLOB 'co.*'")
    assert left == [(1000,)], "those of the two steps before it came back are gone; the rest is kept for it"


# -- what the mends of these had left ----------------------------------------------------------------------------------


async def test_pages_of_known_events_end_even_if_the_source_says_more(engine: Engine, time: Time) -> None:
    """A source without a state, which gives the same page each time and says that there is more."""
    calls = 0

    async def same(visit: Visit, state: State) -> Any:
        nonlocal calls
        calls += 1
        assert calls < 10
        yield Poll(state, [an_event(1, "a")], more=True)

    SCRIPTS["a"] = same
    await engine.setup(one(), {})
    async with running(engine):
        await go(engine, time, 1)
        assert calls == 1
        assert engine.roster["a"].status.due == time.now() + 60


@pytest.mark.parametrize("fails", [False, True])
async def test_a_shorter_interval_holds_for_a_visit_that_was_under_way(
    fails: bool, engine: Engine, time: Time
) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow(visit: Visit, state: State) -> Poll:
        begun.set()
        await go_on.wait()
        if fails:
            raise OSError("down")
        return Poll(state)

    SCRIPTS["a"] = slow
    await engine.setup(one(interval=86400), {})
    async with running(engine):
        await go_without_waiting(engine, time)
        await begun.wait()
        await engine.setup(one(interval=60), {})
        go_on.set()
        await settle(engine)
        assert alarms(engine).at["a"] == engine.roster["a"].status.due <= time.now() + 60


async def test_a_rest_after_a_rewind_is_no_silence(engine: Engine, time: Time) -> None:
    asked = []

    async def rests(visit: Visit, state: State) -> Poll:
        asked.append(time.now())
        visit.defer(900)
        if len(asked) == 1:
            rewind(engine.store, {"x": 1})
        return Poll({"n": len(asked)})

    SCRIPTS["a"] = rests
    await engine.setup(one(), {})
    async with running(engine):
        for _ in range(14):
            await go(engine, time, 60)
            await engine.beat()
    assert len(asked) == 1
    assert FAILING not in kinds(engine.store)


@pytest.mark.parametrize("restart", [False, True])
async def test_only_the_time_without_requests_is_forgiven(
    restart: bool, engine: Engine, boot: Callable[[], Engine], time: Time
) -> None:
    async def bad(visit: Visit, state: State) -> Poll:
        raise OSError("down")

    SCRIPTS["a"] = bad
    await engine.setup(one(interval=600), {})
    async with running(engine):
        await go(engine, time, 1)
        time.advance(500)
        await engine.setup({}, {})
        await engine.setup(one(interval=600), {})  # out and in at the same moment
        assert engine.roster["a"].status.unanswered_since == time.now() - 500
        await engine.setup({}, {})
        if not restart:
            time.advance(9000)
            await engine.setup(one(interval=600), {})
        else:
            for _ in range(150):
                time.advance(60)
                await engine.beat()
    if restart:
        engine = boot()
        await engine.setup(one(interval=600), {})
        async with running(engine):
            await engine.beat()
    else:
        await engine.beat()
    assert FAILING not in kinds(engine.store)


@pytest.mark.parametrize("times", [1, 3])
async def test_a_source_that_comes_back_waits_for_its_last_visits(
    times: int, engine: Engine, time: Time
) -> None:
    """Which may still clean up: a source is never polled twice at the same time."""
    inside, most, clean = 0, 0, asyncio.Event()

    async def slow(visit: Visit, state: State) -> Poll:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            await clean.wait()
            raise
        finally:
            inside -= 1
        return Poll(state)

    SCRIPTS["a"] = slow
    await engine.setup(one(), {})
    async with running(engine):
        for _ in range(times):
            time.advance(61)
            await ring_due(engine)
            await until(lambda: inside == 1)
            await asyncio.sleep(0.01)
            await engine.setup({}, {})
            await engine.setup(one(), {})
        time.advance(61)
        await ring_due(engine)
        await asyncio.sleep(0.01)
        assert (inside, most) == (1, 1)
        clean.set()

        async def follows() -> bool:
            return inside == 1 and not await leaving(engine)

        await until(follows)
        assert most == 1


async def test_a_rewind_counts_although_a_ring_finds_something_first(engine: Engine, time: Time) -> None:
    visits: list[str] = []

    async def finds(visit: Visit, state: State) -> Poll:
        visits.append(visit.trigger)
        return Poll({**state, "n": len(visits)}, [an_event(len(visits), "a")])

    SCRIPTS["a"] = finds
    await engine.setup(one(interval=3600), {})
    async with running(engine):
        await go(engine, time, 1)
        await engine.beat()
        time.advance(10)
        rewind(engine.store, {"back": 1})
        engine.turns.ring("a")
        await settle(engine)
        await engine.beat()
        await settle(engine)
    assert visits == ["due", "webhook", "command"]


async def test_a_reload_that_is_refused_is_not_half_taken_over(
    engine: Engine, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    def locked(*_: object) -> Any:
        raise StoreError("locked")

    SCRIPTS.update(a=fine, b=fine)
    await engine.setup(one(), {"one": Recorder().named("one")})
    async with running(engine):
        with monkeypatch.context() as patched:
            patched.setattr(engine.store, "failure", locked)
            with pytest.raises(StoreError):
                await engine.setup({"b": Scripted().named("b")}, {"two": Recorder().named("two")})
        assert (list(engine.roster), list(engine.deliveries)) == (["a"], ["one"])
        await go(engine, time, 61)
        assert engine.roster["a"].status.visits == 1


async def test_the_same_events_again_and_again_are_no_backlog(engine: Engine, time: Time) -> None:
    calls = 0

    async def same(visit: Visit, state: State) -> Poll:
        nonlocal calls
        calls += 1
        assert calls < 10
        return Poll(state, [an_event(1, "a")], more=True)

    SCRIPTS["a"] = same
    await engine.setup(one(), {})
    async with running(engine):
        await go(engine, time, 1)
        assert calls == 2, "the second time, the log has it"
        assert engine.roster["a"].status.due == time.now() + 60


async def test_a_vendor_that_hangs_after_a_long_reading_is_reported_in_time(
    engine: Engine, boot: Callable[[], Engine], time: Time
) -> None:
    """An hour of pages, a restart, and then no answer any more."""
    page, stop = 0, asyncio.Event()

    async def pages(visit: Visit, state: State) -> Any:
        nonlocal page
        for page in range(60):
            time.advance(60)
            yield Poll({"at": page}, [an_event(page, "a")], rows=1)
        stop.set()
        await asyncio.Event().wait()

    async def hangs(visit: Visit, state: State) -> Poll:
        await asyncio.Event().wait()
        raise AssertionError

    SCRIPTS["a"] = pages
    await engine.setup(one(), {})
    async with running(engine):
        await go_without_waiting(engine, time)
        await stop.wait()
    SCRIPTS["a"] = hangs
    time.advance(5)
    engine = boot()
    await engine.setup(one(), {})
    async with running(engine):
        waited = 0
        while FAILING not in kinds(engine.store) and waited < 240:
            waited += 1
            time.advance(1)
            await ring_due(engine)
            await engine.beat()
        assert waited <= 181


async def test_a_source_that_was_out_when_the_daemon_began_did_not_fail_meanwhile(
    engine: Engine, boot: Callable[[], Engine], time: Time
) -> None:
    async def bad(visit: Visit, state: State) -> Poll:
        raise OSError("down")

    SCRIPTS["a"] = bad
    await engine.setup(one(), {})
    async with running(engine):
        await go(engine, time, 1)
    engine = boot()
    await engine.setup({}, {})
    async with running(engine):
        time.advance(9000)
        await engine.setup(one(), {})
        await engine.beat()
    assert FAILING not in kinds(engine.store)


async def test_a_shorter_interval_holds_for_a_visit_that_had_not_begun(engine: Engine, time: Time) -> None:
    """It is for a ring, which leaves the scheduled visit where it was."""
    SCRIPTS["a"] = fine
    await engine.setup(one(interval=86400), {})
    async with running(engine):
        await go(engine, time, 1)
        time.advance(100)
        engine.turns.ring("a")
        await engine.setup(one(interval=60), {})
        await settle(engine)
        assert alarms(engine).at["a"] <= time.now() + 60


async def test_a_refusal_that_a_ring_found_was_brought_by_none(engine: Engine, time: Time) -> None:
    async def denied(visit: Visit, state: State) -> Poll:
        raise Denied("no", 401)

    SCRIPTS["a"] = fine
    await engine.setup(one(interval=3600), {})
    async with running(engine):
        await go(engine, time, 1)
        SCRIPTS["a"] = denied
        time.advance(10)
        engine.turns.ring("a")
        await settle(engine)
    assert await sql(engine.store, "SELECT type, via FROM events") == [(FAILING, None)]


@pytest.mark.parametrize("restart", [False, True])
async def test_a_rewind_of_a_source_that_is_out_makes_no_failure(
    restart: bool, engine: Engine, boot: Callable[[], Engine], time: Time
) -> None:
    async def bad(visit: Visit, state: State) -> Poll:
        raise OSError("down")

    SCRIPTS["a"] = bad
    await engine.setup(one(), {})
    async with running(engine):
        await go(engine, time, 1)
        await engine.setup({}, {})
        for _ in range(100):
            time.advance(60)
            await engine.beat()
        rewind(engine.store, {"x": 1})
        if not restart:
            await engine.setup(one(), {})
            await engine.beat()
    if restart:
        engine = boot()
        await engine.setup(one(), {})
        async with running(engine):
            await engine.beat()
    assert FAILING not in kinds(engine.store)


async def test_events_that_another_one_stands_for_are_no_backlog(engine: Engine, time: Time) -> None:
    calls = 0

    async def same(visit: Visit, state: State) -> Poll:
        nonlocal calls
        calls += 1
        assert calls < 10
        return Poll(state, [an_event(1, "a"), replace(an_event(2, "a"), unless="id00001")], more=True)

    SCRIPTS["a"] = same
    await engine.setup(one(), {})
    async with running(engine):
        await go(engine, time, 1)
        assert calls == 2


async def test_a_dry_visit_of_the_same_events_ends(time: Time) -> None:
    calls = 0

    async def same(visit: Visit, state: State) -> Poll:
        nonlocal calls
        calls += 1
        assert calls < 10
        return Poll(state, [an_event(1, "a")], more=True)

    SCRIPTS["a"] = same
    source, dry = one()["a"], Dry()
    visit = visit_to(source, web_of(Straight(Parakey(time.utc)), time), log=dry.known)
    found = [event.id async for step in read(source, visit, dry.remembered) for event in await dry.keep(step)]
    assert found == ["id00001"]
    assert calls == 2
