"""The promises of every source of jobs."""

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
from structlog.testing import capture_logs

from inside import done, visit_for_a_ring
from rounds import Rounds
from roundsman.events import Event
from roundsman.kit.asking import Ask
from roundsman.kit.jobs import Jobs
from roundsman.kit.pages import At, Job, Look, Page
from roundsman.options.values import Duration, Start
from roundsman.plugin import Source
from roundsman.sandbox import Fault, Parakey, Vendor
from roundsman.sandbox.mailchimp import Mailchimp, Operation, bad_address
from roundsman.sandbox.railz import Railz
from roundsman.sandbox.vendor import Reply
from worlds import Time, mailchimp_batches, parakey_batches, railz_pushes

GAP, GONE, STALLED = "roundsman.source.gap", "roundsman.batch.gone", "roundsman.batch.stalled"


@pytest.fixture
def world_of(tmp_path: Path, time: Time) -> Iterator[Callable[[Vendor, Source], Rounds]]:
    made: list[Rounds] = []

    def make(vendor: Vendor, source: Source) -> Rounds:
        made.append(Rounds(tmp_path, vendor, time, source))
        return made[-1]

    yield make
    for world in made:
        done(world.store.close())


def remarks(logs: Any) -> list[str]:
    return [entry["what"] for entry in logs if entry["event"] == "vendor.surprise"]


# -- two clocks --------------------------------------------------------------------------------------------------------


async def test_a_stall_is_dated_by_our_clock_and_measured_by_the_vendors(world_of: Any, time: Time) -> None:
    theirs = Time(time.wall + 3600)
    parakey = Parakey(now=theirs.utc)
    parakey.batch([{}], batch_id="b1", took=None)
    world = world_of(parakey, parakey_batches(stall_after=600))
    await world.store.follow("keys", ["b1"])
    for _ in range(13):
        theirs.advance(61)
        await world.visit()
    [stalled] = world.told(STALLED)
    began = parakey.batches["b1"].created
    assert stalled["data"]["since"] == (began + timedelta(seconds=61)).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert stalled["time"] < stalled["data"]["since"], "our clock is an hour behind"


async def test_a_thing_that_is_gone_is_dated_by_our_clock_and_since_by_the_vendors(
    world_of: Any, time: Time
) -> None:
    theirs = Time(time.wall + 3600)
    parakey = Parakey(now=theirs.utc)
    parakey.batch([{}], batch_id="b1", took=None)
    world = world_of(parakey, parakey_batches())
    await world.store.follow("keys", ["b1"])
    await world.visit()
    parakey.batches["b1"].hidden = True
    for _ in range(2):
        theirs.advance(61)
        await world.visit()
    [gone] = world.told(GONE)
    assert gone["time"] < gone["data"]["since"]


# -- what is said once -------------------------------------------------------------------------------------------------


async def test_what_is_odd_about_very_many_things_is_said_once_each(world_of: Any, time: Time) -> None:
    parakey = Parakey(now=time.utc)
    for number in range(70):
        parakey.batch([{}], batch_id=f"b{number}", status=f"word{number}")
    answer = parakey.answer
    parakey.answer = lambda *asked: Reply(200, {}, answer(*asked).body)  # type: ignore[method-assign] # no ETag
    world = world_of(parakey, parakey_batches())
    await world.store.follow("keys", [f"b{number}" for number in range(70)])
    with capture_logs() as logs:
        for _ in range(9):
            await world.visit()
    said = remarks(logs)
    assert len(said) == len(set(said)) == 70


async def test_things_that_cannot_be_asked_for_are_said_once_each_however_many(
    world_of: Any, time: Time
) -> None:
    account = Mailchimp(now=time.utc)
    answer = account.answer

    def reply(method: str, path: str, query: Any, headers: Any) -> Any:
        if "/batches/" in path:
            return Reply(400, {}, b'{"detail": "no"}')
        return answer(method, path, query, headers)

    account.answer = reply  # type: ignore[method-assign]
    world = world_of(account, mailchimp_batches())
    await world.visit()
    await world.store.follow("news", [f"b{number}" for number in range(70)])
    with capture_logs() as logs:
        for _ in range(12):
            await world.visit()
    said = remarks(logs)
    assert len(said) == len(set(said)) == 70


# -- totals ------------------------------------------------------------------------------------------------------------


def totalling(account: Mailchimp, total: Callable[[int], int]) -> None:
    """The list says that it has so many; `total` is given what it has."""
    listed = account._list

    def changed(query: Any, headers: Any) -> Any:
        reply = listed(query, headers)
        document = json.loads(reply.body)
        document["total_items"] = total(document["total_items"])
        return Reply(reply.status, reply.headers, json.dumps(document).encode())

    account._list = changed  # type: ignore[method-assign]


async def test_a_total_that_changes_whenever_the_list_is_read_is_no_gap(world_of: Any, time: Time) -> None:
    account = Mailchimp(now=time.utc)
    for number in range(12):
        account.add([Operation()], batch_id=f"b{number}")
    asked = 0

    def total(real: int) -> int:
        nonlocal asked
        asked += 1
        return real + 3 + asked % 5

    totalling(account, total)
    world = world_of(account, mailchimp_batches())
    for _ in range(6):
        await world.visit()
    assert world.told(GAP) == [], "the number of jobs is unknown"
    assert len(world.told("com.mailchimp.batch.completed")) == 12


async def test_a_gap_of_a_list_says_the_total_that_the_vendor_says(world_of: Any, time: Time) -> None:
    account = Mailchimp(now=time.utc)
    for number in range(12):
        account.add([Operation()], batch_id=f"b{number}")
    totalling(account, lambda real: real + 3)
    world = world_of(account, mailchimp_batches())
    for _ in range(5):
        await world.visit()
    [gap] = world.told(GAP)
    assert "has 15 batches and shows 12" in gap["data"]["message"]


# -- results -----------------------------------------------------------------------------------------------------------


async def test_downloads_that_failed_are_no_reads_of_incomplete_results(world_of: Any, time: Time) -> None:
    account = Mailchimp(now=time.utc)
    batch = account.add([bad_address("a@b.example"), bad_address("c@b.example")], batch_id="b1")
    world = world_of(account, mailchimp_batches())
    for _ in range(6):
        account.faults.append(Fault(500, path="/rsg-api"))
        account.faults.append(Fault(500, path="/rsg-api"))
        account.faults.append(Fault(500, path="/rsg-api"))
        await world.visit(after=3700)
        account.faults.clear()
    batch.archive = b"\0" * 10_240  # an empty archive
    await world.visit(after=3700)
    assert world.told(GAP) == [], "the first incomplete read is not the last"
    batch.archive = None
    await world.visit(after=3700)
    assert len(world.told("com.mailchimp.batch.operation_failed")) == 2
    assert world.told(GAP) == []


# -- one thing's trouble -----------------------------------------------------------------------------------------------


async def test_a_push_that_answers_only_with_errors_for_days_is_given_up(world_of: Any, time: Time) -> None:
    ledger = Railz(now=time.utc)
    ledger.connect("CON-1")
    ledger.push("CON-1", push_id="p1", took=None)
    world = world_of(ledger, railz_pushes())
    await world.visit()
    ledger.pushes["CON-1"][0].hidden = True
    answered = ledger._status

    def stumbles(connection: Any, deletions: bool, query: Any, headers: Any) -> Any:
        if "pushCommunicationId" in query:
            return Reply(500, {}, b"{}")
        return answered(connection, deletions, query, headers)

    ledger._status = stumbles  # type: ignore[method-assign]
    for _ in range(12):
        assert await world.visit(after=43_200)
    assert world.told(GONE) == [], "not before a week"
    for _ in range(4):
        assert await world.visit(after=43_200)
    [gone] = world.told(GONE)
    assert "500" in gone["data"]["message"]
    assert world.source.following(world.state) == []


async def test_where_nothing_is_answered_one_by_one_the_next_visit_begins_with_the_others(
    world_of: Any, time: Time
) -> None:
    ledger = Railz(now=time.utc)
    ledger.connect("CON-1")
    ledger.quirks.paging = "ignored"
    for number in range(120):
        ledger.push("CON-1", push_id=f"x{number}")
    world = world_of(ledger, railz_pushes(start="now", concurrency=1))
    await world.visit()
    for number in range(8):
        ledger.push("CON-1", push_id=f"p{number}", requested=time.utc() - timedelta(hours=9), took=None)
    await world.store.follow("ledger", [f"CON-1/p{number}" for number in range(8)])
    answered, asked = ledger._status, []

    def down(connection: Any, deletions: bool, query: Any, headers: Any) -> Any:
        if "pushCommunicationId" in query:
            asked.append(query["pushCommunicationId"])
            return Reply(500, {}, b"{}")
        return answered(connection, deletions, query, headers)

    ledger._status = down  # type: ignore[method-assign]
    seen = []
    for _ in range(3):
        asked.clear()
        assert await world.visit(), "the list was answered"
        seen.append(set(asked))
    assert [len(each) for each in seen] == [3, 3, 3], "three in a row without an answer are enough"
    assert seen[0] | seen[1] | seen[2] == {f"p{number}" for number in range(8)}
    assert world.told("roundsman.source.failing") == []


async def test_a_webhook_costs_one_question_about_what_it_named(world_of: Any, time: Time) -> None:
    ledger = Railz(now=time.utc)
    ledger.connect("CON-1")
    for number in range(3):
        ledger.push("CON-1", push_id=f"p{number}", took=timedelta(hours=2))
    world = world_of(ledger, railz_pushes())
    await world.visit()
    time.advance(10_000)
    await world.store.follow("ledger", ["CON-1/p1"])
    world.transport.requests.clear()
    await visit_for_a_ring(world.engine, "ledger")
    statuses = [dict(r.url.params) for r in world.transport.requests if r.url.path.endswith("/pushStatus")]
    assert statuses == [{"connectionUuid": "CON-1", "pushCommunicationId": "p1"}]
    assert [event.id for event in world.events("ai.railz.push.completed")] == ["p1:success"]


# -- lists -------------------------------------------------------------------------------------------------------------


async def test_rows_that_a_list_without_a_total_appends_are_found_without_reading_it_all(
    world_of: Any, time: Time
) -> None:
    ledger = Railz(now=time.utc)
    ledger.connect("CON-1")
    ledger.quirks.order, ledger.quirks.pagination, ledger.quirks.meta_count = "oldest", False, "page"
    for number in range(330):
        ledger.push(
            "CON-1", push_id=f"p{number}", requested=time.utc() - (400 - number) * timedelta(minutes=1)
        )
    world = world_of(ledger, railz_pushes())
    for _ in range(2):
        await world.visit()
    for number in range(4):
        ledger.push("CON-1", push_id=f"new{number}", requested=time.utc())
        world.transport.requests.clear()
        await world.visit()
        assert f"new{number}:success" in [event.id for event in world.events("ai.railz.push.completed")]
        assert len(world.transport.requests) <= 3


async def test_a_first_answer_without_content_sets_where_to_begin(world_of: Any, time: Time) -> None:
    """What ends before the next visit is new, however long that takes to come."""
    ledger = Railz(now=time.utc)
    ledger.connect("CON-1")
    ledger.quirks.empty = 204
    world = world_of(ledger, railz_pushes(start="now", connections=["CON-1"], interval=7200))
    await world.visit()
    ledger.push("CON-1", push_id="p1")
    await world.visit(after=7201)
    assert [event.id for event in world.events("ai.railz.push.completed")] == ["p1:success"]


async def test_an_unfinished_reading_of_a_long_list_goes_on_after_a_restart(
    world_of: Any, time: Time
) -> None:
    ledger = Railz(now=time.utc)
    ledger.connect("CON-1")
    for number in range(4500):
        ledger.push("CON-1", push_id=f"p{number}", requested=time.utc() - number * timedelta(seconds=1))
    world = world_of(ledger, railz_pushes())
    await world.visit()
    assert 1000 < len(world.events("ai.railz.push.completed")) < 4500
    for _ in range(3):
        world.reboot()
        await world.visit()
    assert len(world.events("ai.railz.push.completed")) == 4500


async def test_what_a_fault_hid_in_a_list_whose_pages_work_is_found_soon(world_of: Any, time: Time) -> None:
    parakey = Parakey(now=time.utc)
    parakey.quirks.batch_list, parakey.quirks.default_limit = True, 10
    for number in range(35):
        time.advance(1)
        parakey.batch([{}], batch_id=f"old{number}")
    world = world_of(parakey, parakey_batches(request={"list_path": "/batches"}))
    for _ in range(5):
        await world.visit()
    assert len(world.events("co.parakey.batch.completed")) == 35
    for number in range(25):
        time.advance(1)
        parakey.batch([{}], batch_id=f"new{number}")
    answer, left = parakey.answer, [500] * 3

    def reply(*asked: Any) -> Any:
        return Reply(left.pop(), {}, b"{}") if left and "offset" in asked[2] else answer(*asked)

    parakey.answer = reply  # type: ignore[method-assign]
    for _ in range(4):
        await world.visit()
    assert not left
    assert len(world.events("co.parakey.batch.completed")) == 60


async def test_a_list_that_breaks_off_far_down_is_a_gap_and_its_beginning_is_read_on(
    world_of: Any, time: Time
) -> None:
    ledger = Railz(now=time.utc)
    ledger.connect("CON-1")
    for number in range(4500):
        ledger.push("CON-1", push_id=f"p{number}", requested=time.utc() - number * timedelta(seconds=1))
    page = ledger._page
    ledger._page = lambda rows, q, h, around: page(  # type: ignore[method-assign]
        [] if int(q.get("offset", 0)) > 2500 else rows, q, h, around | {"pagination": {"count": 4500}}
    )
    world = world_of(ledger, railz_pushes())
    for _ in range(3):
        await world.visit()
    for number in range(3):
        ledger.push("CON-1", push_id=f"new{number}", requested=time.utc())
        await world.visit()
        assert f"new{number}:success" in [event.id for event in world.events("ai.railz.push.completed")]
    [gap] = world.told(GAP)
    assert "has 4500 pushes and shows 26" in gap["data"]["message"]


# -- a plugin's vendor -------------------------------------------------------------------------------------------------


class Tickets(Jobs):
    """All that a vendor has to say: a list without pages, and one ticket by its number."""

    type: Literal["tickets"] = "tickets"
    base_url: str = "http://127.0.0.1:1"
    start: Start = "beginning"
    stall_after: Duration = 3600.0
    noun: ClassVar[str] = "ticket"

    async def listed(self, ask: Ask, part: str, at: At) -> Page:
        return ask.rows_of(await ask.get("tickets", {}, tag=at.tag), "tickets", self.read)

    async def one(self, ask: Ask, part: str, key: str, tag: Any) -> Look:
        answer = await ask.get(f"tickets/{key}", {}, tag=tag)
        return Look(self.read(answer.json(), answer.body), answer.tag, answer.unchanged)

    def read(self, data: dict[str, Any], raw: Any) -> Job:
        end: Any = {"open": "runs", "closed": "ended"}.get(data["state"], "unknown")
        return Job(data["id"], data["state"], end, [data["state"]], data, raw)

    def ended(self, ask: Ask, part: str, job: Job) -> list[Event]:
        return [
            Event.of(
                vendor="tickets",
                source=self.name,
                type="com.tickets.closed",
                id=self.event_id(job),
                data=job.data,
            )
        ]


class Desk(Vendor):
    """Tickets by their ids, of which the list shows some."""

    def __init__(self, time: Time) -> None:
        super().__init__(time.utc)
        self.tickets: dict[str, str] = {}
        self.hidden: set[str] = set()

    def reply(self, method: str, path: str, query: Any, headers: Any) -> Reply:
        rows = {key: {"id": key, "state": state} for key, state in self.tickets.items()}
        key = path.rpartition("/")[2]
        if key == "tickets":
            shown = [row for key, row in rows.items() if key not in self.hidden]
            return Reply(200, {}, json.dumps({"tickets": shown}).encode())
        return Reply(200, {}, json.dumps(rows[key]).encode()) if key in rows else Reply(404, {}, b"{}")


async def test_a_vendor_that_answers_few_questions_has_all_of_this(world_of: Any, time: Time) -> None:
    desk = Desk(time)
    desk.tickets = {"a": "closed", "b": "open", "c": "open", "d": "paused"}
    world = world_of(desk, Tickets().named("desk"))
    await world.visit()
    desk.hidden = {"b", "c", "d"}
    await world.store.follow("desk", ["nosuch"])
    desk.tickets |= {"b": "closed"}
    await world.visit()
    assert [event.id for event in world.events("com.tickets.closed")] == ["a:completed", "b:completed"]
    del desk.tickets["c"]
    for _ in range(3):
        await world.visit()
    assert [event.id for event in world.events(GONE)] == ["desk:gone:nosuch", "desk:gone:c"]
    await world.visit(after=4000)
    assert [event.document()["data"]["details"]["id"] for event in world.events(STALLED)] == ["d"]
    world.reboot()
    desk.tickets["d"] = "closed"
    await world.visit()
    assert len(world.events("com.tickets.closed")) == 3
    assert world.source.following(world.state) == []
