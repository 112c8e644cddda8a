"""The rounds: when a source is asked, what a failure leads to, and how it all ends."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
from structlog.testing import capture_logs

from doors import until
from inside import (
    alarm,
    alarms,
    broken,
    done,
    forget_tail,
    idle,
    missed_the_store,
    publish,
    put,
    ring_due,
    seen,
    settle,
    sink_failed,
    started,
    status,
    statuses,
    unanswered,
    under_way,
)
from rounds import SCRIPTS, Rounds, Scripted, running
from roundsman.engine.engine import Engine
from roundsman.engine.upkeep import SYNC_EVERY
from roundsman.errors import Backoff, Denied, Reject
from roundsman.events import Event
from roundsman.http.client import Http
from roundsman.plugin import Deliver, Poll, Receipt, Sink, Source, State, Visit
from roundsman.sandbox import Fault, Parakey
from roundsman.store import Filter, GaveUp, Intake, StoreError
from roundsman.store.sqlite import store as sqlite_store
from roundsman.store.sqlite.store import SqliteStore
from worlds import PLANS, RECORDS, START, ByHand, Recorder, Straight, Time, an_event, event_logs, web_of


@pytest.fixture
def engine(store: SqliteStore, parakey: Parakey, time: Time) -> Engine:
    return Engine(store, ByHand(), web_of(Straight(parakey), time), clock=time.clock(), grace=0.2)


# -- when --------------------------------------------------------------------------------------------------------------


async def test_due_is_on_the_disk_before_the_question_is_asked(engine: Engine, time: Time) -> None:
    """A daemon that dies in each visit must not ask at each restart."""
    seen = []

    async def look(visit: Visit, state: State) -> Poll:
        seen.append((await engine.store.sources())[0].status.due)
        return Poll(state)

    SCRIPTS["a"] = look
    await engine.setup({"a": Scripted().named("a")}, {})
    async with running(engine):
        await ring_due(engine)
        await until(lambda: seen)
    assert seen == [START + 60]


async def test_a_restart_does_not_ask_before_due(tmp_path: Path, parakey: Parakey, time: Time) -> None:
    world = Rounds(tmp_path, parakey, time)
    await world.visit()
    for _ in range(5):
        world.reboot()
        await world.visit(after=1)
        assert world.asked() == []
        assert (await world.status("doors")).due == pytest.approx(START + 61 + 60)
    await world.store.close()


async def test_two_visits_of_one_source_never_overlap(engine: Engine, time: Time) -> None:
    inside = most = visits = 0
    gate = asyncio.Event()

    async def slow(visit: Visit, state: State) -> Poll:
        nonlocal inside, most, visits
        inside, visits = inside + 1, visits + 1
        most = max(most, inside)
        await gate.wait()
        inside -= 1
        return Poll(state)

    SCRIPTS["a"] = slow
    await engine.setup({"a": Scripted().named("a")}, {})
    async with running(engine):
        await ring_due(engine)
        await until(lambda: visits == 1)
        for _ in range(5):
            time.advance(100)
            engine.turns.ring("a")
            alarm(engine, "a")
            await asyncio.sleep(0.001)
        assert (visits, most) == (1, 1)
        gate.set()
        await until(lambda: idle(engine, "a"))
        await ring_due(engine)
        await until(lambda: visits == 2)
        assert most == 1, "and the ring that came meanwhile was not forgotten"


async def test_a_slow_host_keeps_no_other_host_waiting(engine: Engine, time: Time) -> None:
    """However many of its sources hang: they wait as names, are visited in turn, and are loud."""
    inside: set[str] = set()

    async def hang(visit: Visit, state: State) -> Poll:
        inside.add("slow")
        SCRIPTS["count"] = SCRIPTS.get("count", 0) + 1
        await asyncio.Event().wait()
        raise AssertionError

    async def quick(visit: Visit, state: State) -> Poll:
        inside.add("quick")
        return Poll(state)

    SCRIPTS.pop("count", None)
    sources: dict[str, Source] = {f"s{n}": Scripted().named(f"s{n}") for n in range(100)}
    SCRIPTS.update(dict.fromkeys(sources, hang), quick=quick)
    await engine.setup({**sources, "quick": Scripted(base_url="http://localhost:1").named("quick")}, {})
    async with running(engine):
        time.advance(30)
        await ring_due(engine)
        await until(lambda: "quick" in inside)
        assert SCRIPTS["count"] == 32
        time.advance(181)
        await engine.beat()
        fates = await statuses(engine)
        assert all(fate.failing_since for name, fate in fates.items() if name != "quick")


async def test_what_the_vendor_asks_for_moves_due(tmp_path: Path, parakey: Parakey, time: Time) -> None:
    world = Rounds(tmp_path, parakey, time)
    parakey.faults.append(Fault(429, {"Retry-After": "1800"}))
    await world.visit()
    assert (await world.status("doors")).due - time.now() == pytest.approx(1800, abs=5)
    world.reboot()
    assert (await world.status("doors")).due - time.now() == pytest.approx(1800, abs=5), "also over a restart"
    await world.store.close()


async def test_a_vendors_pause_is_kept_through_all_triggers(
    tmp_path: Path, parakey: Parakey, time: Time
) -> None:
    """A restart, a reload with other options, and commands that want a visit now."""
    world = Rounds(tmp_path, parakey, time)
    parakey.faults.append(Fault(429, {"Retry-After": "3000"}))
    await world.visit()
    ends = time.now() + 3000
    world.asked()
    time.advance(70)
    world.reboot()
    changed = event_logs(domain_id="other")
    await world.engine.setup({changed.name: changed}, {"recorder": world.sink})
    beside = SqliteStore.open(world.path, daemon=False)
    async with running(world.engine):
        for _ in range(5):
            time.advance(2)
            await beside.rewind("doors", {})
            await world.engine.beat()
            world.alarms.ring_due(time.now())
            await asyncio.sleep(0.001)
        assert world.asked() == []
        assert (await world.status("doors")).due == pytest.approx(ends, abs=5)
    await beside.close()
    await world.store.close()


async def test_what_was_mended_while_no_daemon_ran_is_tried_soon(
    tmp_path: Path, parakey: Parakey, time: Time
) -> None:
    """But where nothing was changed, a restart asks no sooner."""
    world = Rounds(tmp_path, parakey, time)
    parakey.token = "another"
    for _ in range(3):
        await world.visit(after=4000)
    assert (await world.status("doors")).due > time.now() + 400
    time.advance(30)
    world.reboot()
    assert (await world.status("doors")).due > time.now() + 400
    world.source = event_logs(access_token="another")
    world.reboot()
    assert (await world.status("doors")).due == time.now() + 30, "an interval after the last visit"
    parakey.token = "a third"
    time.advance(31)
    assert not await world.engine.visit("doors")
    world.reboot()
    assert (await world.status("doors")).due > time.now() + 400, "once"
    await world.store.close()


async def wants_a_rest(world: Rounds, until: float, *, due: float | None = None) -> None:
    """As if the vendor had asked for it, and the daemon had ended."""
    [record] = [each for each in await world.store.statuses() if each.name == "doors"]
    due = record.status.due if due is None else due
    await world.store.begin([("doors", replace(record.status, not_before=until, due=due))])


async def test_a_rest_of_another_time_is_not_believed_after_a_restart(
    tmp_path: Path, parakey: Parakey, time: Time
) -> None:
    """Neither one that was over when the clock was set back, nor one that was said while it was years ahead; nor by `once`."""
    world = Rounds(tmp_path, parakey, time)
    await world.visit()
    await wants_a_rest(world, time.now() - 3600)
    time.set_wall(-86400)
    world.reboot()
    assert (await world.status("doors")).due <= time.now() + 66
    await world.visit()
    world.asked()
    await wants_a_rest(world, time.now() + 365 * 86400, due=0.0)
    world.reboot()
    await world.visit(after=0.001)
    assert world.asked()
    await world.store.close()


async def test_a_clock_set_forward_brings_no_visit_closer_to_the_last(engine: Engine, time: Time) -> None:
    asked = []

    async def count(visit: Visit, state: State) -> Poll:
        asked.append(time.ticks)
        return Poll(state)

    SCRIPTS["a"] = count
    await engine.setup({"a": Scripted().named("a")}, {})
    async with running(engine):
        await ring_due(engine)
        await until(lambda: asked and idle(engine, "a"))
        time.advance(5)
        time.set_wall(3600)
        await engine.beat()
        await engine.setup({"a": Scripted(concurrency=5).named("a")}, {})
        await ring_due(engine)
        await asyncio.sleep(0.001)
    assert len(asked) == 1


async def test_a_clock_set_back_while_no_daemon_ran_costs_an_interval(
    tmp_path: Path, parakey: Parakey, time: Time
) -> None:
    world = Rounds(tmp_path, parakey, time)
    await world.visit()
    time.set_wall(-3000)
    world.reboot()
    assert (await world.status("doors")).due <= time.now() + 66
    await world.store.close()


async def test_a_clock_set_back_silences_no_source(engine: Engine, time: Time) -> None:
    visits = []

    async def count(visit: Visit, state: State) -> Poll:
        visits.append(time.ticks)
        return Poll(state)

    SCRIPTS["a"] = count
    await engine.setup({"a": Scripted().named("a")}, {})
    async with running(engine):
        await ring_due(engine)
        await until(lambda: len(visits) == 1)
        for step in (-86400, 86400 * 3):
            await until(lambda: idle(engine, "a"))
            before = len(visits)
            time.set_wall(step)
            with capture_logs() as logs:
                await engine.beat()
            assert [entry["seconds"] for entry in logs if entry["event"] == "clock.stepped"] == [step]
            assert await ring_due(engine) == [], "neither a burst"
            time.advance(61)
            await ring_due(engine)
            await until(lambda n=before: len(visits) == n + 1)  # nor a silence


async def test_a_due_of_another_time_is_not_believed_after_a_restart(
    tmp_path: Path, parakey: Parakey, time: Time
) -> None:
    world = Rounds(tmp_path, parakey, time)
    await world.visit()
    time.set_wall(-30 * 86400)
    world.reboot()
    assert (await world.status("doors")).due <= time.now() + 3600 * 1.1
    await world.store.close()


async def test_first_visits_are_spread(store: SqliteStore, parakey: Parakey, time: Time) -> None:
    engine = Engine(store, ByHand(), web_of(Straight(parakey), time), clock=time.clock())
    await engine.setup({f"s{n}": event_logs(f"s{n}") for n in range(100)}, {})
    dues = [fate.due for fate in (await statuses(engine)).values()]
    assert dues[0] == time.now()
    assert dues == sorted(set(dues))
    assert dues[-1] - dues[0] < 60


# -- what ---------------------------------------------------------------------------------------------------------------


async def test_events_and_state_come_together_or_not_at_all(engine: Engine, time: Time) -> None:
    async def poll(visit: Visit, state: State) -> Poll:
        return Poll({"at": state.get("at", 0) + 1}, [an_event(state.get("at", 0), "a")])

    SCRIPTS["a"] = poll
    await engine.setup({"a": Scripted().named("a")}, {})

    class Died(BaseException):
        pass

    for error in (Died(), RuntimeError("a bug")):
        with broken(engine.store, error, only="inserts"):
            assert not await engine.visit("a")
    assert (await engine.store.memory("a")).state == {}
    assert await engine.store.head() == 0
    await engine.visit("a")
    assert (await engine.store.memory("a")).state == {"at": 1}
    assert await engine.store.head() == 1


async def test_a_backlog_is_committed_page_by_page(engine: Engine) -> None:
    heads = []

    async def pages(visit: Visit, state: State) -> Poll:
        page = state.get("page", 0)
        heads.append(await engine.store.head())
        return Poll(
            {"page": page + 1}, [an_event(n, "a") for n in range(page * 10, page * 10 + 10)], more=page < 3
        )

    SCRIPTS["a"] = pages
    await engine.setup({"a": Scripted().named("a")}, {})
    assert await engine.visit("a")
    assert heads == [0, 10, 20, 30]
    assert await engine.store.head() == 40


async def test_the_daemon_continues_after_any_exception_of_a_source(engine: Engine, time: Time) -> None:
    async def bad(visit: Visit, state: State) -> Poll:
        raise ZeroDivisionError

    async def good(visit: Visit, state: State) -> Poll:
        return Poll({"n": 1}, [an_event(1, "good")])

    SCRIPTS.update(bad=bad, good=good)
    await engine.setup({"bad": Scripted().named("bad"), "good": Scripted().named("good")}, {})
    with capture_logs() as logs:
        assert not await engine.once()
    assert await engine.store.head() == 1
    assert (await engine.store.sources())[0].status.error == "ZeroDivisionError"
    assert [entry["source"] for entry in logs if entry["event"] == "poll.failed"] == ["bad"]


ODD = "a file named donn\udce9es"
"""As Python spells a path that is no text."""


async def test_an_error_that_is_no_text_ends_nothing(fed: Engine) -> None:
    """Neither a source's, nor a sink's, nor a refusal's."""

    async def bad(visit: Visit, state: State) -> Poll:
        raise ValueError(ODD)

    def one(event: Event) -> None:
        raise Reject(ODD) if event.id == "id00001" else OSError(2, "No such file", ODD)

    SCRIPTS["a"], PLANS["one"] = bad, one
    await put(fed.store, an_event(1, "a"), an_event(2, "a"))
    assert not await fed.once()
    assert (await fed.store.sources())[0].status.error == "a file named donn\\udce9es"
    assert [row.reason for row in await fed.store.dead("one")] == ["a file named donn\\udce9es"]
    assert (await fed.store.sinks())[0].error == "a file named donn\\udce9es: No such file"
    assert [e.seq for e in RECORDS["two"]] == [1, 2]


async def test_an_error_of_any_length_is_kept_short(engine: Engine) -> None:
    async def bad(visit: Visit, state: State) -> Poll:
        raise ValueError("x" * 10**6)

    SCRIPTS["a"] = bad
    await engine.setup({"a": Scripted().named("a")}, {})
    assert not await engine.once()
    assert len((await engine.store.sources())[0].status.error) < 2000


async def test_a_sink_that_cancels_itself_is_tried_again(fed: Engine) -> None:
    times = iter([asyncio.CancelledError, None])

    def one(event: Event) -> None:
        if (error := next(times, None)) is not None:
            raise error

    PLANS["one"] = one
    await put(fed.store, an_event(1, "a"))
    async with running(fed):
        await until(lambda: RECORDS.get("one"))
    assert [e.seq for e in RECORDS["one"]] == [1]


async def test_a_refusal_that_could_not_be_reported_is_reported_by_the_next(
    engine: Engine, time: Time
) -> None:
    """The source was rewound during the visit that was refused: that visit did not happen."""
    beside = SqliteStore.open(engine.store.path, daemon=False)
    rewind = iter([True])

    async def denied(visit: Visit, state: State) -> Poll:
        if next(rewind, False):
            await beside.rewind("a", {"x": 1})
        raise Denied("no", 401)

    SCRIPTS["a"] = denied
    await engine.setup({"a": Scripted().named("a")}, {})
    for _ in range(3):
        await engine.visit("a")
        time.advance(4000)
    assert [e.type for e, _ in await engine.store.events(0, 99, 99, Filter())] == ["roundsman.source.failing"]
    await beside.close()


async def test_no_good_answer_for_three_intervals_is_loud_once(
    tmp_path: Path, parakey: Parakey, time: Time
) -> None:
    world = Rounds(tmp_path, parakey, time)
    await world.visit()
    answer = parakey.answer
    parakey.answer = lambda *args: type(answer("GET", "/", {}, {}))(500, {}, b"")  # type: ignore[method-assign]
    with capture_logs() as logs:  # each in a process of its own, as `once` is
        for _ in range(30):
            await world.visit(after=60)
            world.reboot()
    assert len(world.events("roundsman.source.failing")) == 1
    assert len([entry for entry in logs if entry["event"] == "source.failing"]) == 1
    parakey.answer = answer  # type: ignore[method-assign]
    with capture_logs() as logs:
        await world.visit(after=3700)
        await world.visit()
    assert [entry["event"] for entry in logs if entry["event"].startswith("source.")] == ["source.recovered"]
    assert len(world.events("roundsman.source.recovered")) == 1
    assert RECORDS["recorder"][-1].type == "roundsman.source.recovered", "sinks receive it too"
    await world.store.close()


async def test_a_visit_that_hangs_is_loud_too(engine: Engine, time: Time) -> None:
    async def hang(visit: Visit, state: State) -> Poll:
        await asyncio.Event().wait()
        raise AssertionError

    SCRIPTS["a"] = hang
    await engine.setup({"a": Scripted().named("a")}, {})
    async with running(engine):
        await ring_due(engine)
        await until(lambda: unanswered(engine, "a"))
        with capture_logs() as logs:
            time.advance(179)
            await engine.beat()
            assert logs == []
            time.advance(2)
            await engine.beat()
            await engine.beat()
        assert [entry["event"] for entry in logs] == ["source.failing"]


async def test_a_full_disk_stops_no_source_and_loses_nothing(
    small_disk: Path, parakey: Parakey, time: Time
) -> None:
    import subprocess

    for n in range(400):
        parakey.add(log_id=f"r{n}", note="x" * 6000)
        time.advance(1)
    world = Rounds(small_disk, parakey, time, paging={"limit": 50})
    with capture_logs() as logs:
        assert not await world.visit()
    assert any("the disk is full" in str(entry.get("error")) for entry in logs)
    assert await world.store.head() < 400
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    assert await world.visit(after=4000)
    assert world.ids() == [f"r{n}" for n in range(400)]
    await world.store.close()


async def test_a_store_that_cannot_be_written_means_no_requests(
    engine: Engine, time: Time, monkeypatch: Any
) -> None:
    async def never(visit: Visit, state: State) -> Poll:
        raise AssertionError("asked, with no place to write the answer")

    def full(*_: object) -> None:
        raise StoreError("the disk is full")

    SCRIPTS["a"] = never
    await engine.setup({"a": Scripted().named("a")}, {})
    async with running(engine):
        monkeypatch.setattr(engine.store, "begin", full)
        with capture_logs() as logs:
            await ring_due(engine)
            await settle(engine)
        assert [entry["event"] for entry in logs] == ["store.failed"]
        assert alarms(engine).at["a"] == time.now() + 10, (
            "but it will try again, and soon: no vendor was asked"
        )
        monkeypatch.undo()


async def test_a_store_that_is_locked_for_a_moment_costs_no_interval(engine: Engine, time: Time) -> None:
    visits = []

    async def count(visit: Visit, state: State) -> Poll:
        visits.append(time.now())
        return Poll(state)

    SCRIPTS["a"] = count
    await engine.setup({"a": Scripted(interval=86400).named("a")}, {})
    other = sqlite3.connect(engine.store.path)
    async with running(engine):
        other.execute("BEGIN IMMEDIATE")
        await ring_due(engine)
        await until(lambda: engine.trouble.error)
        other.rollback()
        time.advance(11)
        await ring_due(engine)
        await until(lambda: visits)
    other.close()
    assert visits == [START + 11]


async def test_a_store_that_is_locked_is_tried_once_for_all(engine: Engine, time: Time) -> None:
    """Each try waits for the lock: one for each of very many sources would stop all other work."""
    for n in range(100):
        SCRIPTS[f"s{n}"] = lambda http, state: Poll(state)
    await engine.setup({f"s{n}": Scripted().named(f"s{n}") for n in range(100)}, {})
    other = sqlite3.connect(engine.store.path)
    async with running(engine):
        other.execute("BEGIN IMMEDIATE")
        for _ in range(3):
            time.advance(1)
            await ring_due(engine)
        await settle(engine)
        later = {at for at in alarms(engine).at.values() if at > time.now() + 3}
        assert len(later) == 1
        assert len(alarms(engine).at) == 100
        other.rollback()
        engine.stop()
    other.close()


async def test_what_cannot_be_written_down_is_not_the_vendors_doing(
    engine: Engine, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answered, and is asked again when it is due anyway: neither sooner, nor ever more rarely."""

    async def good(visit: Visit, state: State) -> Poll:
        return Poll({"n": time.now()}, [an_event(1, "a")])

    def full(*_: object, **__: object) -> int:
        raise StoreError("the disk is full")

    SCRIPTS["a"] = good
    await engine.setup({"a": Scripted().named("a")}, {})
    monkeypatch.setattr(engine.store, "commit", full)
    async with running(engine):
        for _ in range(5):
            await ring_due(engine)
            await until(lambda: idle(engine, "a"))
            assert alarms(engine).at["a"] == time.now() + 60
            time.advance(60)
            await engine.beat()
        assert (await status(engine, "a")).failing_since is None
        monkeypatch.undo()
        await ring_due(engine)
        await until(lambda: seen(engine.store.head()) == 1)


async def test_a_rest_that_cannot_be_written_down_is_kept_all_the_same(
    tmp_path: Path, parakey: Parakey, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> int:
        raise StoreError("the disk is full")

    world = Rounds(tmp_path, parakey, time)
    monkeypatch.setattr(world.store, "commit", full)
    parakey.add()
    answer = parakey.answer

    def patient(*request: Any) -> Any:
        found = answer(*request)
        return replace(found, headers={**found.headers, "X-Poll-Interval": "900"})

    monkeypatch.setattr(parakey, "answer", patient)
    assert not await world.visit()
    assert (await world.status("doors")).due == time.now() + 900
    monkeypatch.undo()
    await world.store.close()


async def test_a_disk_that_does_not_answer_is_no_lost_store(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hiccup(path: Path) -> None:
        raise OSError(116, "Stale file handle")

    await engine.setup({}, {})
    monkeypatch.setattr(sqlite_store, "_identity", hiccup)
    for _ in range(3):
        await engine.beat()
    assert not engine.upkeep.lost


async def test_each_error_of_the_store_is_logged_now_and_then_also_if_callers_meet_several(
    engine: Engine, time: Time, monkeypatch: Any
) -> None:
    await engine.setup({"doors": event_logs()}, {})

    def fails(name: str, why: str) -> None:
        async def failing(*_: object) -> None:
            raise StoreError(why)

        monkeypatch.setattr(engine.store, name, failing)

    fails("commanded", "the server only reads")
    fails("beat", "the server is too slow")
    fails("receive", "the server only reads")
    with capture_logs() as logs:
        for _ in range(9):
            await engine.beat()
            for _ in range(3):
                with pytest.raises(StoreError, match="only reads"):
                    await engine.reception._commit(Intake("doors", []), True)
            time.advance(1)
        said = sorted(entry["error"] for entry in logs if entry["event"] == "store.failed")
        assert said == ["the server is too slow", "the server only reads"]
        time.advance(1)
        await engine.beat()
        assert [entry["error"] for entry in logs if entry["event"] == "store.failed"].count(
            "the server only reads"
        ) == 2


async def test_a_store_that_fails_is_said_now_and_then(engine: Engine, time: Time, monkeypatch: Any) -> None:
    def full(*_: object) -> None:
        raise StoreError("the disk is full")

    await engine.setup({"a": Scripted().named("a")}, {})
    async with running(engine):
        monkeypatch.setattr(engine.store, "begin", full)
        with capture_logs() as logs:
            for _ in range(60):
                time.advance(1)
                await ring_due(engine)
                await engine.beat()
        assert 5 <= len([entry for entry in logs if entry["event"] == "store.failed"]) <= 7
        assert engine.trouble.error == "the disk is full"
        monkeypatch.undo()
        time.advance(31)
        assert engine.trouble.error is None


@pytest.mark.parametrize("ends", [("", "-wal", "-shm"), (".lock",)])
async def test_a_store_that_was_deleted_ends_the_daemon_and_takes_nothing_more(
    ends: tuple[str, ...], engine: Engine
) -> None:
    """What it took would be gone with it; a new one begins with what is there."""
    await engine.setup({"a": Scripted().named("a")}, {})
    for end in ends:
        Path(f"{engine.store.path}{end}").unlink()
    with pytest.raises(StoreError, match="was deleted or replaced"):
        await engine.store.receive([Intake("a", [an_event(1, "a")])], START)
    with pytest.raises(StoreError, match="was deleted or replaced"):
        await engine.store.writable()
    with capture_logs() as logs:
        async with running(engine) as rounds:
            await engine.beat()
            assert not engine.upkeep.lost, "one look may be a slip"
            await engine.beat()
            await asyncio.wait_for(rounds, 5)
    assert engine.upkeep.lost
    assert "store.lost" in [entry["event"] for entry in logs]


# -- commands beside it ------------------------------------------------------------------------------------------------


async def test_a_rewind_beside_the_daemon_counts(engine: Engine, time: Time) -> None:
    states = []

    async def poll(visit: Visit, state: State) -> Poll:
        states.append(dict(state))
        return Poll({"at": "end"})

    SCRIPTS["a"] = poll
    await engine.setup({"a": Scripted().named("a")}, {})
    beside = SqliteStore.open(engine.store.path, daemon=False)
    async with running(engine):
        await ring_due(engine)
        await until(lambda: len(states) == 1 and idle(engine, "a"))
        await beside.rewind("a", {"at": "beginning"})
        await engine.beat()
        await until(lambda: len(states) == 2)
    assert states[1] == {"at": "beginning"}
    await beside.close()


async def test_a_rewind_in_the_second_of_a_step_counts(engine: Engine, time: Time) -> None:
    visits = []

    async def count(visit: Visit, state: State) -> Poll:
        visits.append(time.ticks)
        return Poll(state)

    SCRIPTS["a"] = count
    await engine.setup({"a": Scripted().named("a")}, {})
    beside = SqliteStore.open(engine.store.path, daemon=False)
    async with running(engine):
        await ring_due(engine)
        await until(lambda: visits and idle(engine, "a"))
        time.advance(1)
        await beside.rewind("a", {"x": 1})
        time.set_wall(100)
        alarm(engine)  # an alarm comes before the heartbeat, and sees the step first
        await engine.beat()
        await until(lambda: len(visits) == 2)
    await beside.close()


async def test_a_rewind_during_a_visit_is_not_lost(engine: Engine, time: Time) -> None:
    states = []

    async def poll(visit: Visit, state: State) -> Poll:
        states.append(dict(state))
        if len(states) == 1:
            beside = SqliteStore.open(engine.store.path, daemon=False)
            await beside.rewind("a", {"at": "beginning"})
            await beside.close()
        return Poll({"at": "end"}, [an_event(len(states), "a")])

    SCRIPTS["a"] = poll
    await engine.setup({"a": Scripted().named("a")}, {})
    await engine.visit("a")
    assert states == [{}, {"at": "beginning"}]
    assert (await engine.store.memory("a")).state == {"at": "end"}


# -- sinks ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def fed(engine: Engine) -> Engine:
    """An engine with an idle source, whose log the test fills."""

    async def nothing(visit: Visit, state: State) -> Poll:
        return Poll(state)

    SCRIPTS["a"] = nothing
    done(
        engine.setup(
            {"a": Scripted().named("a")},
            {"one": Recorder(batch=3).named("one"), "two": Recorder().named("two")},
        )
    )
    return engine


async def test_every_sink_gets_every_event_in_order(fed: Engine) -> None:
    async with running(fed):
        await put(fed.store, *(an_event(n, "a") for n in range(10)))
        publish(fed)
        await until(lambda: len(RECORDS.get("one", [])) == 10 and len(RECORDS.get("two", [])) == 10)
    assert [e.seq for e in RECORDS["one"]] == list(range(1, 11))


async def test_one_failing_sink_neither_stops_nor_loses_for_another(fed: Engine) -> None:
    down = True

    def one(event: Event) -> None:
        if down:
            raise OSError("down")

    PLANS["one"] = one
    await put(fed.store, *(an_event(n, "a") for n in range(5)))
    with capture_logs() as logs:
        assert not await fed.once()
    assert len(RECORDS["two"]) == 5
    assert RECORDS.get("one", []) == []
    assert [entry["sink"] for entry in logs if entry["event"] == "sink.failing"] == ["one"]
    assert (await fed.store.sinks())[0].error == "down"
    down = False
    with capture_logs() as logs:
        await fed.once()
    assert len(RECORDS["one"]) == 5
    assert [entry["event"] for entry in logs if entry["event"].startswith("sink.r")] == ["sink.recovered"]
    assert (await fed.store.sinks())[0].error is None


async def test_the_poison_is_buried_and_the_rest_goes_on(fed: Engine) -> None:
    def one(event: Event) -> None:
        if event.id == "id00004":
            raise Reject("too salty")

    PLANS["one"] = one
    await put(fed.store, *(an_event(n, "a") for n in range(8)))
    await fed.once()
    assert {e.id for e in RECORDS["one"]} == {f"id{n:05d}" for n in range(8)} - {"id00004"}
    [dead] = await fed.store.dead("one")
    assert (dead.id, dead.reason) == ("id00004", "too salty")
    assert await fed.store.dead("two") == []
    assert (await fed.store.cursor("one"))[0] == 8


class Keeper(Recorder):
    """Remembers the receipts that it was opened with, and returns one with each delivery."""

    type: Literal["keeper"] = "keeper"

    @asynccontextmanager
    async def open(self, http: Http, receipt: Receipt | None) -> AsyncIterator[Deliver]:
        OPENED.append(receipt)

        async def deliver(events: Sequence[Event]) -> Receipt:
            return {"last": events[-1].id}

        yield deliver


OPENED: list[Receipt | None] = []


async def test_what_a_sink_asks_to_remember_is_kept_with_the_ack(
    store: SqliteStore, parakey: Parakey, time: Time
) -> None:
    OPENED.clear()
    SCRIPTS["a"] = lambda http, state: asyncio.sleep(0, Poll(state))
    for n in range(3):
        engine = Engine(store, ByHand(), web_of(Straight(parakey), time), clock=time.clock())
        await engine.setup({"a": Scripted().named("a")}, {"keeper": Keeper().named("keeper")})
        await put(engine.store, an_event(n, "a"))
        await engine.once()
    assert OPENED == [None, {"last": "id00000"}, {"last": "id00001"}]


async def test_a_failed_visit_moves_no_time_of_a_good_answer(engine: Engine, time: Time) -> None:
    good = True

    async def sometimes(visit: Visit, state: State) -> Poll:
        visit.http.account.asked += 1
        if not good:
            raise OSError("down")
        return Poll({"n": state.get("n", 0) + 1})

    SCRIPTS["a"] = sometimes
    await engine.setup({"a": Scripted().named("a")}, {})
    await engine.once()
    answered = (await engine.store.sources())[0].status.last_success
    assert answered == time.now()
    good = False
    time.advance(600)
    await engine.once()
    row = (await engine.store.sources())[0]
    assert (row.status.last_success, row.status.last_visit) == (answered, time.now())


async def test_a_delivery_that_is_cancelled_ends(fed: Engine) -> None:
    """A sink may swallow its own cancellation; the loop's is not swallowed."""
    began = asyncio.Event()

    class Slow(Recorder):
        type: Literal["slow"] = "slow"

        @asynccontextmanager
        async def open(self, http: Http, receipt: Receipt | None) -> AsyncIterator[Deliver]:
            async def deliver(events: Sequence[Event]) -> None:
                began.set()
                await asyncio.Event().wait()

            yield deliver

    await put(fed.store, an_event(1, "a"))
    delivery = fed.deliveries["one"]
    delivery.sink = Slow().named("one")
    task = asyncio.create_task(delivery.run())
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 5)


@pytest.mark.garbles
async def test_what_a_damaged_store_garbled_is_buried_and_given_to_no_sink(fed: Engine) -> None:
    await put(fed.store, *(an_event(n, "a") for n in range(5)))
    for seq, body in ((2, b"\x00\xff garbage"), (5, b'{"specversion": ')):
        with closing(sqlite3.connect(fed.store.path)) as db, db:
            db.execute("UPDATE events SET body = ? WHERE seq = ?", (body, seq))
    forget_tail(fed.store)
    with capture_logs() as logs:
        await fed.once()
    lines = [line for line in logs if line["event"] == "event.buried"]
    assert {(line["source"], line["type"]) for line in lines} == {("a", an_event(0, "a").type)}
    buried = [(line["sink"], line["seq"]) for line in lines]
    assert sorted(buried) == [("one", 2), ("one", 5), ("two", 2), ("two", 5)]
    for sink in ("one", "two"):
        assert [event.seq for event in RECORDS[sink]] == [1, 3, 4]
        assert [row.seq for row in await fed.store.dead(sink)] == [2, 5]
        assert (await fed.store.cursor(sink))[0] == 5
    await fed.store.requeue_dead("one", None)
    await fed.once()
    assert len(RECORDS["one"]) == 3, "nor after a requeue"


async def test_a_damaged_store_is_reported_once_and_webhooks_are_refused(
    fed: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put(fed.store, an_event(1, "a"))
    found = ["x.db is damaged: restore it", "x.db is damaged: restore it", GaveUp(), None]

    def look(path: Path) -> object:
        if isinstance(one := found.pop(0), Exception):
            raise one
        return one

    monkeypatch.setattr("roundsman.store.sqlite.store.check", look)
    with capture_logs() as logs:
        await fed.upkeep.check()
        await fed.upkeep.check()
    assert [line["event"] for line in logs if line["event"].startswith("store.")] == ["store.damaged"]
    assert fed.trouble.error == "x.db is damaged: restore it"
    [notice] = [e for e, _ in await fed.store.events(0, 100, 100, Filter(types=("roundsman.store.*",)))]
    assert "webhooks are refused" in notice.document()["data"]["message"]
    for _ in range(2):
        with pytest.raises(StoreError, match="is damaged"):
            await fed.store.receive(Intake("a", [an_event(2, "a")]), START)
        await fed.upkeep.check()  # the first is given up, and says nothing
    await fed.store.receive(Intake("a", [an_event(2, "a")]), START)


async def test_the_books_are_on_the_disk_a_moment_after_they_are_written(fed: Engine) -> None:
    async with running(fed):
        await put(fed.store, an_event(1, "a"))
        publish(fed)
        await until(lambda: seen(fed.store.cursor("one"))[0] == 1)
        await until(lambda: not fed.store.unsynced)
    assert SYNC_EVERY <= 1


async def test_a_rest_that_is_longer_than_a_minute_is_said(engine: Engine, time: Time) -> None:
    async def rests(visit: Visit, state: State) -> Poll:
        visit.defer(900.0)
        return Poll(state)

    SCRIPTS["a"] = rests
    await engine.setup({"a": Scripted().named("a")}, {})
    with capture_logs() as logs:
        await engine.once()
    assert [line["seconds"] for line in logs if line["event"] == "source.rests"] == [900.0]


async def test_buried_events_are_tried_again_on_request(fed: Engine) -> None:
    PLANS["one"] = lambda event: (_ for _ in ()).throw(Reject("no"))
    await put(fed.store, an_event(1, "a"))
    await fed.once()
    assert await fed.store.requeue_dead("one", None) == 1
    await fed.once()
    assert (await fed.store.dead("one"))[0].retry == 0, "refused again, buried again"
    del PLANS["one"]
    await fed.store.requeue_dead("one", [1])
    await fed.once()
    assert await fed.store.dead("one") == []
    assert [e.seq for e in RECORDS["one"]] == [1]


async def test_a_crash_between_delivery_and_ack_sends_again(fed: Engine, monkeypatch: Any) -> None:
    class Died(BaseException):
        pass

    def die(*args: Any, **kwargs: Any) -> None:
        raise Died

    await put(fed.store, an_event(1, "a"), an_event(2, "a"))
    with monkeypatch.context() as patched, pytest.raises(Died):
        patched.setattr(fed.store, "ack", die)
        await fed.deliveries["two"].once()
    await fed.deliveries["two"].once()
    assert [e.id for e in RECORDS["two"]] == ["id00001", "id00002"] * 2


async def test_filters_choose_and_the_cursor_moves_all_the_same(engine: Engine) -> None:
    await engine.setup({"a": Scripted().named("a")}, {"one": Recorder(outcomes=("den*",)).named("one")})
    await put(engine.store, an_event(1, "a"), an_event(2, "a", outcome="denied"), an_event(3, "a"))
    await engine.deliveries["one"].once()
    assert [e.id for e in RECORDS["one"]] == ["id00002"]
    assert (await engine.store.cursor("one"))[0] == 3


async def test_a_replay_beside_the_daemon_counts(fed: Engine) -> None:
    await put(fed.store, *(an_event(n, "a") for n in range(4)))
    beside = SqliteStore.open(fed.store.path, daemon=False)
    async with running(fed):
        await until(lambda: len(RECORDS.get("one", [])) == 4)
        await beside.replay("one", 2)
        await fed.beat()
        await until(lambda: len(RECORDS["one"]) == 6)
    assert [e.seq for e in RECORDS["one"]] == [1, 2, 3, 4, 3, 4]
    assert len(RECORDS["two"]) == 4
    await beside.close()


async def test_an_hour_of_trouble_is_asked_of_a_sink_ever_more_rarely() -> None:
    from roundsman.engine.delivery import delivery_backoff

    waits = [delivery_backoff(n) for n in range(1, 20)]
    assert waits[:3] == [1, 2, 4]
    assert max(waits) == 300
    assert delivery_backoff(1, asked=900) == 900
    assert delivery_backoff(10**6) == 300


# -- stopping -------------------------------------------------------------------------------------------------------------


async def test_it_stops_promptly_during_any_visit(engine: Engine, time: Time) -> None:
    begun = asyncio.Event()

    async def hang(visit: Visit, state: State) -> Poll:
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    SCRIPTS["a"] = hang
    await engine.setup({"a": Scripted().named("a")}, {"one": Recorder().named("one")})
    task = asyncio.create_task(engine.run())
    await started(engine, task)
    await ring_due(engine)
    await begun.wait()
    engine.stop()
    await asyncio.wait_for(task, 20)
    assert (await engine.store.memory("a")).state == {}


class Hanging(Sink):
    type: Literal["hanging"] = "hanging"

    @asynccontextmanager
    async def open(self, http: Http, receipt: Receipt | None) -> AsyncIterator[Deliver]:
        async def deliver(events: Sequence[Event]) -> None:
            RECORDS.setdefault(self.name, []).extend(events)
            await asyncio.Event().wait()

        yield deliver


async def test_a_delivery_that_hangs_gets_the_grace_and_no_more(engine: Engine) -> None:
    await engine.setup(
        {"a": Scripted().named("a")}, {"stuck": Hanging().named("stuck"), "fine": Recorder().named("fine")}
    )
    await put(engine.store, an_event(1, "a"))
    task = asyncio.create_task(engine.run())
    await until(lambda: RECORDS.get("stuck") and RECORDS.get("fine"))
    engine.stop()
    await asyncio.wait_for(task, 20)
    assert (await engine.store.cursor("stuck"))[0] == 0
    assert (await engine.store.cursor("fine"))[0] == 1


async def test_a_sink_that_a_reload_removes_ends_after_the_grace(engine: Engine) -> None:
    sources, sinks = {"a": Scripted().named("a")}, {"fine": Recorder().named("fine")}
    await engine.setup(sources, {**sinks, "stuck": Hanging().named("stuck")})
    await put(engine.store, an_event(1, "a"))
    async with running(engine):
        await until(lambda: RECORDS.get("stuck"))
        await engine.setup(sources, sinks)
        await until(lambda: not [task for task in asyncio.all_tasks() if "stuck" in task.get_name()])


async def test_two_reloads_in_a_row_have_never_two_deliveries_of_one_sink(engine: Engine) -> None:
    """The one that hangs takes a while to leave, and the one that waits for that is replaced itself."""
    inside, most, begun = 0, 0, 0

    class Slow(Recorder):
        @asynccontextmanager
        async def open(self, http: Http, receipt: Receipt | None) -> AsyncIterator[Deliver]:
            async def deliver(events: Sequence[Event]) -> None:
                nonlocal inside, most, begun
                begun += 1
                inside += 1
                most = max(most, inside)
                try:
                    await asyncio.Event().wait()
                finally:
                    await asyncio.sleep(0.3)
                    inside -= 1

            yield deliver

    await engine.setup({"a": Scripted().named("a")}, {"one": Slow(batch=1).named("one")})

    async def nothing(visit: Visit, state: State) -> Poll:
        return Poll(state)

    SCRIPTS["a"] = nothing
    async with running(engine):
        await put(engine.store, an_event(1, "a"))
        publish(engine)
        await until(lambda: inside == 1)
        for batch in (2, 3, 4):
            await engine.setup({"a": Scripted().named("a")}, {"one": Slow(batch=batch).named("one")})
            await asyncio.sleep(0.05)
        await until(lambda: begun == 2)
    assert most == 1


async def test_a_sink_that_backs_off_does_not_hold_up_the_stop(fed: Engine) -> None:
    PLANS["one"] = lambda event: (_ for _ in ()).throw(Backoff(3600))
    await put(fed.store, an_event(1, "a"))
    async with running(fed):
        await until(lambda: sink_failed(fed, "one"))


# -- reloading ------------------------------------------------------------------------------------------------------------


async def test_a_new_set_is_taken_over_without_losing_a_visit(engine: Engine, time: Time) -> None:
    gate = asyncio.Event()
    done = []

    async def slow(visit: Visit, state: State) -> Poll:
        await gate.wait()
        done.append("a")
        return Poll({"n": 1}, [an_event(1, "a")])

    async def quick(visit: Visit, state: State) -> Poll:
        done.append("b")
        return Poll({"n": 1})

    SCRIPTS.update(a=slow, b=quick)
    await engine.setup({"a": Scripted().named("a")}, {"one": Recorder().named("one")})
    async with running(engine):
        await ring_due(engine)
        await until(lambda: under_way(engine, "a"))
        await engine.setup(
            {"a": Scripted(interval=90).named("a"), "b": Scripted().named("b")},
            {"two": Recorder().named("two")},
        )
        gate.set()
        await until(lambda: idle(engine, "a"))
        time.advance(1)
        await ring_due(engine)
        await until(lambda: done == ["a", "b"])
        await until(lambda: len(RECORDS.get("two", [])) == 1)
        assert (await status(engine, "a")).source.interval == 90
        await engine.setup({"b": Scripted().named("b")}, {"two": Recorder().named("two")})
        assert list(await statuses(engine)) == ["b"]
        assert "a" not in alarms(engine).at
    assert RECORDS.get("one", []) == [] or len(RECORDS["one"]) == 1


async def test_a_source_of_another_type_under_an_old_name_is_refused_whole(engine: Engine) -> None:
    await engine.setup({"a": Scripted().named("a")}, {})
    with pytest.raises(
        StoreError, match=r"sources\.a was a scripted and is now a parakey.event_logs: give the new"
    ):
        await engine.setup({"a": event_logs("a"), "b": Scripted().named("b")}, {})
    assert list(await statuses(engine)) == ["a"]
    assert [row.name for row in await engine.store.sources()] == ["a"]


async def test_once_ignores_a_source_that_is_configured_no_more(engine: Engine, time: Time) -> None:
    async def nothing(visit: Visit, state: State) -> Poll:
        return Poll(state)

    SCRIPTS.update(a=nothing, b=nothing)
    await engine.setup({"a": Scripted().named("a")}, {})
    await engine.once()
    time.advance(3600)
    await engine.setup({"b": Scripted().named("b")}, {})
    assert await engine.once()


async def test_once_forgets_what_is_old(engine: Engine, time: Time) -> None:
    async def one(visit: Visit, state: State) -> Poll:
        return Poll({"n": 1}, [an_event(1, "a")])

    SCRIPTS["a"] = one
    await engine.setup({"a": Scripted().named("a")}, {"one": Recorder().named("one")})
    await engine.once()
    time.advance(36 * 86400)
    await engine.once()
    assert await engine.store.events(0, 9, 9, Filter()) == []
    assert await engine.store.head() == 1


async def test_once_does_not_believe_a_due_of_another_time(engine: Engine, time: Time) -> None:
    visits = []

    async def count(visit: Visit, state: State) -> Poll:
        visits.append(1)
        return Poll(state)

    SCRIPTS["a"] = count
    await engine.setup({"a": Scripted().named("a")}, {})
    await engine.once()
    time.set_wall(-365 * 86400)
    await engine.once()
    assert len(visits) == 2


async def test_a_clock_set_during_a_visit_moves_nothing(engine: Engine, time: Time) -> None:
    async def step(visit: Visit, state: State) -> Poll:
        time.advance(5)
        time.set_wall(-86400)
        return Poll(state)

    SCRIPTS["a"] = step
    await engine.setup({"a": Scripted().named("a")}, {})
    await engine.visit("a")
    assert (await status(engine, "a")).due - time.now() == pytest.approx(55)
    await (
        engine.beat()
    )  # which would see the step only now: to move what goes by the new time already would silence the source
    assert (await status(engine, "a")).due - time.now() == pytest.approx(55)
    time.set_wall(7200)
    engine.turns.visit_now("a")
    await engine.beat()
    assert (await status(engine, "a")).due - time.now() <= 60


async def test_being_sent_away_for_an_hour_is_no_good_answer(
    tmp_path: Path, parakey: Parakey, time: Time
) -> None:
    world = Rounds(tmp_path, parakey, time)
    parakey.faults.append(Fault(503, {"Retry-After": "3600"}))
    await world.visit()
    time.advance(200)
    await world.engine.beat()
    assert len(world.events("roundsman.source.failing")) == 1
    await world.store.close()


async def test_a_mended_source_is_asked_soon_after_a_reload(
    tmp_path: Path, parakey: Parakey, time: Time
) -> None:
    world = Rounds(tmp_path, parakey, time)
    parakey.token = "new"
    for _ in range(6):
        await world.visit(after=4000)
    assert (await world.status("doors")).due - time.now() > 3000
    await world.engine.setup({"doors": event_logs(access_token="new")}, {"recorder": world.sink})
    assert (await world.status("doors")).due - time.now() <= 60
    await world.store.close()


async def test_a_store_that_breaks_while_running_ends_nothing_and_is_no_failure_of_a_sink(
    engine: Engine, time: Time
) -> None:
    async def never(visit: Visit, state: State) -> Poll:
        raise AssertionError

    SCRIPTS["a"] = never
    await engine.setup({"a": Scripted().named("a")}, {"one": Recorder().named("one")})
    with capture_logs() as logs:
        async with running(engine) as task:
            with broken(engine.store, sqlite3.OperationalError("disk I/O error")):
                await ring_due(engine)
                publish(engine)
                await until(lambda: missed_the_store(engine, "one"))
            assert not task.done()
            await put(engine.store, an_event(1, "a"))
            publish(engine)
            await until(lambda: RECORDS.get("one"))
    said = {entry["event"] for entry in logs}
    assert "store.failed" in said
    assert not said & {"sink.failing", "sink.recovered"}


async def test_new_http_options_reach_sources_and_sinks(engine: Engine, time: Time) -> None:
    await engine.setup({"a": event_logs("a")}, {"one": Recorder().named("one")})
    fresh = web_of(Straight(Parakey()), time)
    await engine.setup({"a": event_logs("a")}, {"one": Recorder().named("one")}, fresh)
    assert (await status(engine, "a")).clients is fresh
    assert engine.deliveries["one"].http.clients is fresh
    await engine.aclose()


async def test_a_retried_event_that_fails_does_not_hold_up_the_new_ones(fed: Engine) -> None:
    def one(event: Event) -> None:
        if event.id == "id00001":
            raise Reject("no") if not RECORDS.get("one") else OSError("500")

    PLANS["one"] = one
    await put(fed.store, an_event(1, "a"), an_event(2, "a"))
    await fed.once()
    await fed.store.requeue_dead("one", None)
    await put(fed.store, an_event(3, "a"))
    await fed.once()
    await fed.once()
    assert [e.id for e in RECORDS["one"]] == ["id00002", "id00003"]
    assert (await fed.store.dead("one"))[0].reason == "500"
