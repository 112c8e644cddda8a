"""What workers hold while configurations change: engines in one process, and a real PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import PrivateAttr
from structlog.testing import capture_logs

from inside import visit_for_a_ring
from postgres import Postgres
from roundsman import screen
from roundsman.engine.engine import Engine
from roundsman.engine.fleet import LOOK_EVERY, Fleet
from roundsman.events import Event
from roundsman.http.client import Http
from roundsman.plugin import Deliver, Receipt, Sink, Source
from roundsman.sandbox import Parakey, Vendor
from roundsman.screen.whole import whole
from roundsman.sinks.file import FileSink
from roundsman.store import Filter, Intake, Server, SourceRecord, StoreError, open_store
from roundsman.store.origins import changes
from roundsman.terminal.terminal import Terminal
from roundsman.web.app import app
from worlds import ByHand, Recorder, Straight, Time, a_failure, an_event, event_logs, web_of

psycopg = pytest.importorskip("psycopg", reason="needs roundsman[postgres]")


@asynccontextmanager
async def worker(
    url: str, name: str, time: Time, vendor: Straight | None = None, alarms: ByHand | None = None
) -> AsyncIterator[tuple[Engine, Fleet]]:
    store = await open_store(Server(url), name)
    web = web_of(vendor or Straight(Parakey()), time)
    engine = Engine(store, alarms or ByHand(), web, clock=time.clock())
    engine.join(name)
    assert engine.fleet is not None
    try:
        yield engine, engine.fleet
    finally:
        await store.close()


def doors(*numbers: int) -> dict[str, Source]:
    """Sources at one vendor each."""
    return {f"doors-{n}": event_logs(f"doors-{n}", base_url=f"http://127.0.0.{n}") for n in numbers}


async def test_sources_are_shared_also_after_one_was_removed_from_all_configurations(
    database: str, time: Time
) -> None:
    async with worker(database, "one", time) as (one, its):
        await one.setup(doors(*range(1, 10)), {})
        await its.beat()
        await one.setup(doors(*range(1, 9)), {})
        await its.beat()
        assert its.held["source"] == one.roster.keys()
        assert await its.session.free("source") == {"doors-9"}
        assert not await its.beat(), "nothing is left to claim"
        async with worker(database, "two", time) as (two, others):
            await two.setup(doors(*range(1, 9)), {})
            for _ in range(3):
                await others.beat()
                await its.beat()
            assert (len(one.roster), len(two.roster)) == (4, 4)


async def test_a_sink_whose_machine_is_away_causes_no_beats_without_a_pause(
    database: str, time: Time
) -> None:
    archive = FileSink.model_validate({"type": "file", "path": "/nowhere", "on": "three"})
    async with worker(database, "one", time) as (one, its):
        await one.setup({}, {"archive": archive})
        await its.beat()
        assert not await its.beat(), "only worker three may hold it"


HOOK = {"header": "Authorization", "value": "of a vendor"}


async def test_a_source_is_not_given_to_another_worker_while_a_webhook_for_it_is_stored(
    database: str, time: Time
) -> None:
    """The webhook rings here; the other worker would not learn of it."""
    async with worker(database, "one", time) as (one, its):
        await one.setup({"doors": event_logs(webhook=HOOK)}, {})
        await its.beat()
        assert one.is_idle("doors")
        async with await psycopg.AsyncConnection.connect(database) as other:
            await other.execute("SELECT FROM sources WHERE name = 'doors' FOR UPDATE")
            taking = asyncio.create_task(one.reception._commit(Intake("doors", []), True))
            await asyncio.sleep(0)
            assert not one.is_idle("doors")
            assert one.is_idle("doors", rung=True)
        await taking
        assert one.is_idle("doors")


async def test_a_webhook_that_a_machine_with_a_slow_clock_took_in_counts_as_heard(
    database: str, time: Time
) -> None:
    """Else the source's webhooks would be reported as silent."""
    sources = {
        name: event_logs(name, base_url=f"http://{name}", access_token=name, webhook=HOOK)
        for name in ("doors", "gates")
    }
    async with worker(database, "one", time) as (one, its), worker(database, "two", time) as (two, _):
        one.listening = now = time.now()
        await one.setup(sources, {})
        await its.session.claim("source", list)
        await its.beat()
        await two.store.receive(Intake("gates", []), now + 5)
        await its.beat()
        await two.store.receive(Intake("doors", []), now + 2)
        await its.beat()
        heard = {name: each.silence and each.silence.last_webhook for name, each in one.roster.items()}
        assert heard == {"gates": now + 5, "doors": now + 2}


async def test_events_that_were_pruned_while_no_worker_had_the_sink_are_reported(
    database: str, postgres_server: Postgres, time: Time
) -> None:
    sources, sinks = {"doors": event_logs()}, {"told": Recorder().named("told")}
    async with worker(database, "one", time) as (one, its):
        await one.setup(sources, sinks)
        await its.beat()
        await one.store.receive(Intake("doors", [an_event(1)]), time.now())
    postgres_server.run("UPDATE events SET body = NULL", database=database.rpartition("/")[2])
    async with worker(database, "one", time) as (one, its):
        await one.setup(sources, sinks)
        await its.beat()
        [(notice, *_)] = await one.store.events(0, 100, 100, Filter())
        assert notice.type == "roundsman.sink.gap"


async def test_status_names_the_worker_that_holds_each_source_and_sink(
    database: str, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = doors(*range(1, 5))
    sinks = {
        "told": Recorder().named("told"),
        "away": FileSink(type="file", path=Path("/x"), on="three").named("away"),
    }
    async with worker(database, "one", time) as (one, its), worker(database, "two", time) as (two, others):
        for each in (one, two):
            await each.setup(sources, sinks)
        for _ in range(3):
            await its.beat()
            await others.beat()
        assert (len(one.roster), len(two.roster)) == (2, 2)
        found = await screen.status(one.store, {}, None, (sources, sinks))
        holders = {row["name"]: row["worker"] for row in found["sources"]}
        assert holders == dict.fromkeys(one.roster, "one") | dict.fromkeys(two.roster, "two")
        [away, told] = [row["worker"] for row in found["sinks"]]
        assert (away, told in {"one", "two"}) == (None, True)
        monkeypatch.setenv("COLUMNS", "80")
        lines = screen.status_tables(found, Terminal(utc=True, colours=False))
        assert all(
            any(line.split()[:3] == [name, "new", on] for line in lines) for name, on in holders.items()
        )
        said = "no worker holds the sink away: events wait there"
        assert any(said in line for line in lines)
        assert any(
            line.startswith("source doors-1 ") and " worker=" in line for line in screen.status_lines(found)
        )


async def test_a_ring_outlives_the_worker_that_took_it_in_and_is_gone_after_its_visit(
    database: str, time: Time
) -> None:
    """Also one for a source that the worker held itself: else the source would wait until it is due."""
    sources = {"doors": event_logs(webhook=HOOK)}
    async with worker(database, "one", time) as (one, its), worker(database, "two", time) as (two, others):
        await one.setup(sources, {})
        await its.beat()
        await two.setup(sources, {})
        await one.once()
        time.advance(10)
        await one.reception._commit(Intake("doors", []), True)
        assert one.roster["doors"].status.ring_at is not None
        await others.session.end([its.session.number])  # as after `kill -9`
        await others.beat()
        assert two.roster["doors"].status.ring_at is not None
        rings = await others.session.rings()
        await others.beat()
        assert await others.session.rings() == rings, "it was not visited yet"
        await visit_for_a_ring(two, "doors")
        await others.beat()
        assert await others.session.rings() == []


async def test_a_reload_that_fails_leaves_what_a_worker_holds_and_claims_as_it_was(
    database: str, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away() -> list[SourceRecord]:
        raise StoreError("the server is away")

    async with worker(database, "one", time) as (one, its):
        await one.setup(doors(1, 2), {})
        await its.beat()
        with monkeypatch.context() as patched:
            patched.setattr(one.store, "statuses", away)
            with pytest.raises(StoreError, match="is away"):
                await one.setup(doors(1, 3), {})
        await its.beat()
        assert its.held["source"] == one.roster.keys() == {"doors-1", "doors-2"}
        await one.setup(doors(1, 3), {})
        await its.beat()
        assert its.held["source"] == one.roster.keys() == {"doors-1", "doors-3"}


@pytest.mark.parametrize("hours", [-1, 1])
async def test_a_server_clock_that_is_set_ends_no_live_worker_and_keeps_no_dead_one(
    database: str, postgres_server: Postgres, time: Time, hours: int
) -> None:
    # The other beats were recorded before the clock was set.
    was_set = f"UPDATE beats SET beat = beat - {hours * 3600} WHERE name != 'one'"
    async with (
        worker(database, "one", time) as (_, its),
        worker(database, "two", time) as (_, others),
        worker(database, "three", time) as (_, dead),
    ):
        for each in (its, others, dead):
            await each.beat()
        postgres_server.run(was_set, database=database.rpartition("/")[2])
        for _ in range(5):
            time.advance(5)
            await its.beat()
            await others.beat()
        assert not others.ended
        assert [each.name for each in its.workers] == ["one", "two"]
        await dead.beat()
        assert dead.ended


async def test_a_reload_does_not_let_events_be_pruned_that_sinks_of_other_workers_need(
    database: str, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[set[str]] = []
    async with worker(database, "one", time) as (one, its), worker(database, "two", time) as (two, others):
        await two.setup({}, {"theirs": Recorder().named("theirs")})
        await others.beat()
        await one.setup({}, {"mine": Recorder().named("mine")})
        await its.beat()
        gaps = one.deliveries.gaps

        async def beaten(new: Any) -> list[Event]:
            await its.session.beat([], "")
            one.keep_for(await its.session.all_sinks())
            kept.append(set(one._sinks))
            return await gaps(new)

        monkeypatch.setattr(one.deliveries, "gaps", beaten)
        await one.setup({}, {"coming": Recorder().named("coming")})
        kept.append(set(one._sinks))
        assert kept == [{"mine", "theirs", "coming"}, {"theirs", "coming"}]


async def test_a_sink_that_all_configurations_have_removed_is_not_claimed_and_keeps_no_events(
    database: str, time: Time
) -> None:
    told, gone = (Recorder().named(name) for name in ("told", "gone"))
    async with worker(database, "one", time) as (one, its), worker(database, "two", time) as (two, others):

        async def prune() -> int:
            """How many events the sink that was removed has lost, once one worker has pruned for all."""
            for each in (others, its):
                await each.beat()
            while await one.store.prune(list(one._sinks), time.now(), 86400.0):
                pass
            found = await one.store.lost_to_pruning("gone", Filter())
            return found[0]

        for each in (one, two):
            await each.setup({"doors": event_logs()}, {"told": told, "gone": gone})
        for each in (its, others):
            await each.beat()
        await one.store.receive(Intake("doors", [an_event(1)]), time.now())
        for each in (one, two):
            if "told" in each.deliveries:
                await each.deliveries["told"].once()
        time.advance(2 * 86400)
        await one.setup({"doors": event_logs()}, {"told": told})
        assert await prune() == 0, "the other worker has it"
        await two.setup({"doors": event_logs()}, {"told": told})
        assert await prune() == 1
        assert its.held["sink"] | others.held["sink"] == {"told"}
        assert await its.session.free("sink") == {"gone"}
        assert not await its.beat(), "nothing is left to claim"


async def test_two_workers_with_different_files_never_ask_one_account_and_do_not_beat_without_a_pause(
    database: str, time: Time
) -> None:
    def account(*numbers: int) -> dict[str, Source]:
        return {f"doors-{n}": event_logs(f"doors-{n}") for n in numbers}

    async with worker(database, "one", time) as (one, its), worker(database, "two", time) as (two, others):
        await one.setup(account(1, 2), {})
        its.common = "before"
        await its.beat()
        await two.setup(account(1, 2, 3) | doors(4), {})
        others.common = "after"
        for _ in range(2):
            await others.beat()
            assert not await others.beat(), "what waits for the other worker is nothing to claim"
            assert not await its.beat()
            assert (its.held["source"], others.held["source"]) == ({"doors-1", "doors-2"}, {"doors-4"})
            time.advance(100)
        await one.setup(account(1, 2, 3) | doors(4), {})
        its.common = "after"
        await its.beat()
        assert (its.held["source"], others.held["source"]) == ({*account(1, 2, 3)}, {"doors-4"})


async def test_a_source_of_another_configuration_is_not_called_removed_while_a_worker_visits_it(
    database: str, time: Time
) -> None:
    async with worker(database, "one", time) as (one, its), worker(database, "two", time) as (two, others):
        await one.setup(doors(1), {})
        await its.beat()
        await one.once()
        again = {"gates": event_logs("gates", base_url="http://127.0.0.1")}
        await two.setup(again, {})
        await others.beat()
        entries, held = await two.store.sources(), await two.store.holders("source")
        [change] = changes(entries, again, held)
        assert change.what.startswith(
            "it is new, and doors-1, which reads the same, is of another configuration: the worker one visits it; "
        )
        found = await screen.status(two.store, {}, None, ({"gates"}, set()))
        states = {row["name"]: (row["state"], row["worker"]) for row in found["sources"]}
        assert states["doors-1"] == ("ok", "one")
        await its.session.end([its.session.number])
        assert (
            "was removed from the configuration"
            in changes(entries, again, await two.store.holders("source"))[0].what
        )
        found = await screen.status(two.store, {}, None, ({"gates"}, set()))
        assert {row["state"] for row in found["sources"] if row["name"] == "doors-1"} == {"retired"}


async def test_a_sink_of_another_configuration_is_not_called_removed_while_a_worker_serves_it(
    database: str, time: Time
) -> None:
    told, gone = (Recorder().named(name) for name in ("told", "gone"))
    async with worker(database, "one", time) as (one, its), worker(database, "two", time) as (two, others):
        await one.setup(doors(1), {"told": told, "gone": gone})
        await two.setup(doors(1), {"told": told})
        await its.beat()
        await others.beat()
        await one.store.receive(Intake("doors-1", [an_event(1)]), time.now())

        async def shown() -> tuple[str, str | None, int, str]:
            """The state, the worker and the lag of the sink that one configuration has, and its part in `events show`."""
            found = await screen.status(two.store, {}, None, (doors(1), {"told"}))
            [row] = [each for each in found["sinks"] if each["name"] == "gone"]
            event = await whole(two.store, 1, {}, {"told"})
            assert event is not None
            [part] = [each["state"] for each in event["sinks"] if each["name"] == "gone"]
            return row["state"], row["worker"], row["waiting"], part

        assert await shown() == ("ok", "one", 1, "waiting")
        await one.setup(doors(1), {"told": told})
        await its.beat()
        assert await shown() == ("retired", None, 0, "retired")


async def test_while_workers_reload_one_after_the_other_each_source_is_held_by_one(
    database: str, time: Time
) -> None:
    before, after = doors(1, 2, 3, 4), doors(1, 2, 3, 5)
    async with worker(database, "one", time) as (one, its), worker(database, "two", time) as (two, others):

        async def held(rounds: int = 3) -> list[str]:
            for _ in range(rounds):
                await its.beat()
                await others.beat()
            assert (its.held["source"], others.held["source"]) == (one.roster.keys(), two.roster.keys())
            return sorted([*one.roster, *two.roster])

        for engine, part in ((one, its), (two, others)):
            await engine.setup(before, {})
            part.common = "before"
        assert await held() == sorted(before)
        await one.setup(after, {})
        its.common = "after"
        with capture_logs() as lines:
            assert await held() == sorted(before | after)
            assert not [line for line in lines if line["event"] == "worker.differs"]
            time.advance(601)
            assert await held() == sorted(before | after)
        said = [(line["worker"], line["others"]) for line in lines if line["event"] == "worker.differs"]
        assert sorted(said) == [("one", ["two"]), ("two", ["one"])]
        await two.setup(after, {})
        others.common = "after"
        assert await held() == sorted(after)
        assert await its.session.free("source") == {"doors-4"}


async def test_a_worker_that_beats_no_more_is_found_by_one_whose_own_beats_come_late(
    database: str, time: Time
) -> None:
    async with worker(database, "one", time) as (one, its), worker(database, "two", time) as (two, others):
        for each in (one, two):
            await each.setup(doors(1, 2), {})
        for each in (its, others, its):
            await each.beat()
        assert await _seconds_until_alone(its, time, 12.0) <= 60, "it needs 12 s for all that a beat does"
        assert others.session.number not in {each.number for each in its.workers}


async def _seconds_until_alone(fleet: Fleet, time: Time, step: float) -> float:
    began = time.ticks
    while len(fleet.workers) > 1 and time.ticks - began < 600:
        time.advance(step)
        await fleet.beat()
    return time.ticks - began


async def test_a_worker_is_not_lost_because_the_server_or_both_machines_stood_still(
    database: str, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with worker(database, "one", time) as (one, its), worker(database, "two", time) as (two, others):
        for each in (one, two):
            await each.setup(doors(1, 2), {})
        for each in (its, others, its):
            await each.beat()
        time.advance(600)
        await its.beat()
        assert len(its.workers) == 2, "both were suspended, and this one went on first"
        for each in (others, its):
            await each.beat()
        with monkeypatch.context() as away:
            away.setattr(its.session, "beat", _away)
            for _ in range(10):
                time.advance(5)
                with pytest.raises(StoreError):
                    await its.beat()
        for _ in range(3):
            time.advance(6)
            await its.beat()
            assert len(its.workers) == 2, "the other one has as long to reach the server again"


async def _away(*_: object) -> None:
    raise StoreError("cannot be reached")


async def test_a_sink_that_moves_to_another_machine_is_given_back_after_the_delivery_under_way(
    database: str, time: Time
) -> None:
    """Else both machines would write the same events."""
    async with worker(database, "one", time) as (one, its), worker(database, "two", time) as (two, others):
        slow = Slow(type="slow", on="one").named("archive")
        moved = Slow(type="slow", on="two").named("archive")
        await one.setup({"doors": event_logs()}, {"archive": slow})
        await two.setup({"doors": event_logs()}, {"archive": moved})
        await its.beat()
        await one.store.receive(Intake("doors", [an_event(1)]), time.now())
        async with asyncio.TaskGroup() as group:
            one.deliveries.start(group)
            await slow.began.wait()
            await one.setup({"doors": event_logs()}, {"archive": moved})
            for each in (its, others):
                await each.beat()
            assert (its.held["sink"], others.held["sink"]) == (set(), set())
            assert not two.deliveries
            slow.ends.set()
        for each in (its, others):
            await each.beat()
        assert others.held["sink"] == {"archive"}
        assert await two.store.cursor("archive") == (1, None)


class Slow(Sink):
    """A sink of a machine, whose delivery lasts until the test ends it."""

    on: str = ""
    _began: asyncio.Event = PrivateAttr(default_factory=asyncio.Event)
    _ends: asyncio.Event = PrivateAttr(default_factory=asyncio.Event)

    @property
    def began(self) -> asyncio.Event:
        return self._began

    @property
    def ends(self) -> asyncio.Event:
        return self._ends

    @asynccontextmanager
    async def open(self, http: Http, receipt: Receipt | None) -> AsyncIterator[Deliver]:
        async def deliver(events: Sequence[Event]) -> None:
            self._began.set()
            await self._ends.wait()

        yield deliver


async def test_a_worker_that_is_always_late_gives_a_new_one_its_share_after_the_visits_under_way(
    database: str, time: Time
) -> None:
    vendor, alarms = Waits(Parakey()), ByHand()
    async with (
        worker(database, "one", time, vendor, alarms) as (one, its),
        worker(database, "two", time) as (two, others),
        asyncio.TaskGroup() as group,
    ):
        await one.setup(doors(1, 2, 3, 4), {})
        await its.beat()
        one.turns.start(group)
        await all_visited(one, vendor, alarms, time)
        await two.setup(doors(1, 2, 3, 4), {})
        await others.beat()
        assert await its.beat(), "it looks again soon"
        assert its.held["source"] == {"doors-1", "doors-2", "doors-3", "doors-4"}
        assert not its.rang("doors-4", 1), "the next holder follows this ring"
        await vendor.answer_all(one)
        time.advance(120)
        assert sorted(alarms.ring_due(time.now())) == ["doors-1", "doors-2"]
        await its.beat()
        await others.beat()
        assert (its.held["source"], others.held["source"]) == (
            {"doors-1", "doors-2"},
            {"doors-3", "doors-4"},
        )
        assert not await its.beat()
        await vendor.begun(2)
        await vendor.answer_all(one)


async def test_a_long_visit_keeps_its_group_and_the_other_sources_are_visited_meanwhile(
    database: str, time: Time
) -> None:
    """The sources of one account are given together: without an end, one long reading would stop the others."""
    vendor, alarms = Waits(Parakey()), ByHand()
    account = {name: event_logs(name, base_url="http://127.0.0.9") for name in ("doors", "gates")}
    async with (
        worker(database, "one", time, vendor, alarms) as (one, its),
        worker(database, "two", time) as (two, others),
        asyncio.TaskGroup() as group,
    ):
        await one.setup(doors(1, 2) | account, {})
        await its.beat()
        one.turns.start(group)
        time.advance(1)
        alarms._ring(["doors"])
        await vendor.begun(1)
        await two.setup(doors(1, 2) | account, {})
        await others.beat()
        await its.beat()
        time.advance(120)
        assert "gates" not in alarms.ring_due(time.now())
        for each in (others, its):
            await each.beat()
        time.advance(120)
        assert "gates" in alarms.ring_due(time.now()), "the reading was too long"
        await vendor.begun(4)
        await vendor.answer_all(one)
        for each in (others, its, others):
            await each.beat()
        assert others.held["source"] == {"doors", "gates"}


async def all_visited(engine: Engine, vendor: "Waits", alarms: ByHand, time: Time) -> None:
    """Begin a visit of each source."""
    time.advance(120)
    alarms.ring_due(time.now())
    await vendor.begun(len(engine.roster))


class Waits(Straight):
    """A vendor that answers when the test lets it."""

    def __init__(self, vendor: Vendor) -> None:
        super().__init__(vendor)
        self._may, self._asked = asyncio.Event(), asyncio.Event()
        self.waiting = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.waiting += 1
        self._asked.set()
        await self._may.wait()
        return await super().handle_async_request(request)

    async def begun(self, requests: int) -> None:
        """Wait until so many requests wait for their answer."""
        while self.waiting < requests:
            self._asked.clear()
            await asyncio.wait_for(self._asked.wait(), 30)

    async def answer_all(self, engine: Engine) -> None:
        """Answer, and wait until the visits have ended."""
        self._may.set()
        await asyncio.wait({each.task for each in engine.roster.values() if each.task}, timeout=30)
        self._may.clear()
        self.waiting = 0


async def test_what_metrics_count_of_sources_is_right_as_a_sum_over_machines(
    database: str, time: Time
) -> None:
    """Also of a source that no configuration has any more."""
    async with worker(database, "one", time) as (one, its), worker(database, "two", time) as (two, others):
        for sources in (doors(*range(1, 6)), doors(*range(1, 5))):
            for each in (one, two):
                await each.setup(sources, {})
        for _ in range(3):
            await its.beat()
            await others.beat()
        assert (len(one.roster), len(two.roster)) == (2, 2)
        for number in range(1, 6):
            name = f"doors-{number}"
            came = Intake(name, [a_failure(number, name)], unread=("no event log", b"{}"))
            await one.store.receive(came, time.now())
        texts = [await scraped(each) for each in (one, two)]
        for name in ("roundsman_source_open_failures", "roundsman_source_unread"):
            found = [line for text in texts for line in text.splitlines() if line.startswith(f"{name}{{")]
            assert sorted(found) == [f'{name}{{source="doors-{number}"}} 1.0' for number in range(1, 6)]


async def scraped(engine: Engine) -> str:
    """The metrics of a worker."""
    transport = httpx.ASGITransport(app(engine))
    async with httpx.AsyncClient(transport=transport, base_url="http://worker") as client:
        return (await client.get("/metrics")).text


async def test_a_worker_whose_heartbeats_fail_is_not_ready(
    database: str, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with worker(database, "one", time) as (one, its):
        await one.setup({}, {})
        await its.beat()
        transport = httpx.ASGITransport(app(one, look_again=0))
        async with httpx.AsyncClient(transport=transport, base_url="http://one") as proxy:
            assert (await proxy.get("/readyz")).text == "ready\n"
            monkeypatch.setattr(its.session, "all_sinks", _away)
            time.advance(25)
            with pytest.raises(StoreError):
                await its.beat()
            answer = await proxy.get("/readyz")
            assert answer.status_code == 503
            assert answer.text == "the heartbeats of this worker have failed for 25s\n"
            monkeypatch.undo()
            await its.beat()
            assert (await proxy.get("/readyz")).text == "ready\n"


async def test_sources_that_get_the_same_account_by_a_reload_come_to_one_worker(
    database: str, time: Time
) -> None:
    """Else two workers would ask one account, each up to the vendor's limit."""
    async with worker(database, "one", time) as (one, its), worker(database, "two", time) as (two, others):
        sources = doors(*range(1, 9))
        await one.setup(sources, {})
        await two.setup(sources, {})
        for each in (its, others, its, others):
            await each.beat()
        mine, theirs = min(its.held["source"]), min(others.held["source"])
        joined = sources | {name: event_logs(name, base_url="http://127.0.0.9") for name in (mine, theirs)}
        await one.setup(joined, {})
        await its.beat()
        assert theirs in others.held["source"], "the other worker does not know yet"
        await two.setup(joined, {})
        for each in (its, others, its, others):
            await each.beat()
        assert {mine, theirs} <= its.held["source"]
        assert its.held["source"] ^ others.held["source"] == joined.keys()
        assert not await others.beat()
        assert not await its.beat()


async def test_sources_come_to_one_worker_also_if_the_one_that_gives_its_part_reloads_first(
    database: str, time: Time
) -> None:
    """It gives nothing to a worker that would not take it, and looks again until that one has its new configuration."""
    async with worker(database, "one", time) as (one, its), worker(database, "two", time) as (two, others):
        sources = doors(*range(1, 9))
        for engine, part in ((one, its), (two, others)):
            await engine.setup(sources, {})
            part.common = "before"
        for each in (its, others, its, others):
            await each.beat()
        mine, theirs = min(its.held["source"]), min(others.held["source"])
        joined = sources | {name: event_logs(name, base_url="http://127.0.0.9") for name in (mine, theirs)}
        await two.setup(joined, {})
        others.common = "after"
        for each in (others, its, others):
            await each.beat()
        assert theirs in others.held["source"], "the other worker does not know yet"
        await one.setup(joined, {})
        its.common = "after"
        await its.beat()
        time.advance(LOOK_EVERY)
        for each in (others, its, others, its):
            await each.beat()
        assert {mine, theirs} <= its.held["source"]
        assert its.held["source"] ^ others.held["source"] == joined.keys()


async def test_a_reload_while_a_worker_looks_for_split_groups_is_followed_by_another_look(
    database: str, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with worker(database, "one", time) as (one, its), worker(database, "two", time) as (two, others):
        sources = doors(*range(1, 9))
        await one.setup(sources, {})
        await two.setup(sources, {})
        for each in (its, others, its, others):
            await each.beat()
        mine, theirs = min(its.held["source"]), min(others.held["source"])
        joined = sources | {name: event_logs(name, base_url="http://127.0.0.9") for name in (mine, theirs)}
        await one.setup(joined, {})
        await its.beat()
        await two.setup(sources, {})
        real, reloads = others.session.claim, [joined]

        async def claim(kind: Any, choose: Any) -> Any:
            found = await real(kind, choose)
            if kind == "source" and reloads:
                await two.setup(reloads.pop(), {})
            return found

        monkeypatch.setattr(others.session, "claim", claim)
        for each in (others, its, others, its):
            await each.beat()
        assert not reloads
        assert {mine, theirs} <= its.held["source"]


async def test_a_source_whose_webhooks_ring_all_the_time_is_given_and_its_ring_with_it(
    database: str, time: Time
) -> None:
    alarms = ByHand()
    rung = {
        f"doors-{n}": event_logs(f"doors-{n}", base_url=f"http://127.0.0.{n}", webhook=HOOK) for n in range(4)
    }
    async with (
        worker(database, "one", time, None, alarms) as (one, its),
        worker(database, "two", time) as (two, others),
        asyncio.TaskGroup() as group,
    ):
        await one.setup(rung, {})
        await its.beat()
        await one.once()
        one.turns.start(group)
        time.advance(1)
        await two.setup(rung, {})
        await others.beat()
        for _ in range(2):  # the second ring comes too soon after the visit, and waits
            time.advance(1)
            for name in rung:
                await one.reception._commit(Intake(name, []), True)
            async with asyncio.timeout(30):
                while any(each.busy for each in one.roster.values()):
                    await asyncio.sleep(0.01)
        assert all(each.status.ring_at is not None for each in one.roster.values())
        await its.beat()
        for name in rung:
            await one.reception._commit(Intake(name, []), True)
        await its.beat()
        assert len(its.held["source"]) == 2
        for _ in range(2):
            await others.beat()
        assert all(each.status.ring_at is not None for each in two.roster.values())
        assert len(two.roster) == 2


async def test_a_worker_holds_what_another_one_beats_for_and_does_not_claim(
    database: str, time: Time
) -> None:
    async with worker(database, "one", time) as (one, its), worker(database, "two", time) as (two, others):
        for engine in (one, two):
            await engine.setup(doors(*range(1, 7)), {})
        held = []
        for _ in range(12):
            time.advance(5)
            await others.session.beat([], "")
            await its.beat()
            held.append(len(one.roster))
        assert max(held) == 6


async def test_while_heartbeats_fail_all_sources_are_visited(
    database: str, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    vendor, alarms = Waits(Parakey()), ByHand()
    async with (
        worker(database, "one", time, vendor, alarms) as (one, its),
        worker(database, "two", time) as (two, others),
        asyncio.TaskGroup() as group,
    ):
        await one.setup(doors(1, 2, 3, 4), {})
        await its.beat()
        one.turns.start(group)
        await all_visited(one, vendor, alarms, time)
        await two.setup(doors(1, 2, 3, 4), {})
        await others.beat()
        await its.beat()
        assert one.turns.draining == {"doors-3", "doors-4"}
        monkeypatch.setattr(its.session, "free", _away)
        beating = group.create_task(its._beat_forever())
        async with asyncio.timeout(30):
            while one.turns.draining:
                await asyncio.sleep(0.01)
        beating.cancel()
        await vendor.answer_all(one)
        time.advance(120)
        assert len(alarms.ring_due(time.now())) == 4
        await vendor.begun(4)
        await vendor.answer_all(one)
