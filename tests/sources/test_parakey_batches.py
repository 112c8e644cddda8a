"""Parakey's batches: what is not documented is read leniently, and nothing that failed goes untold."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from inside import done
from rounds import Rounds, opened
from roundsman.sandbox import Fault, Parakey
from roundsman.sandbox.vendor import Reply
from roundsman.sources.parakey import Batches
from worlds import Time, parakey_batches

MINUTE = timedelta(minutes=1)
COMPLETED, FAILED = "co.parakey.batch.completed", "co.parakey.batch.item_failed"
ADA = {"user": {"email": "ada@harbour.example", "name": "Ada"}, "access": {"id": "k1", "name": "Staff"}}
REFUSED = {**ADA, "error": {"code": "NO_SUCH_KEY", "message": "the key is not shared with this integration"}}


@pytest.fixture
def rounds(tmp_path: Path, parakey: Parakey, time: Time) -> Iterator[Any]:
    def make(*ids: str, **options: Any) -> Rounds:
        world = Rounds(tmp_path, parakey, time, parakey_batches(**options))
        done(world.store.follow("keys", ids))
        return world

    yield from opened(make)


def answering(parakey: Parakey, document: Any) -> None:
    """Every batch looks like this."""
    answer = parakey.answer

    def reply(*args: Any) -> Any:
        return type(answer(*args))(200, {}, json.dumps(document).encode())

    parakey.answer = reply  # type: ignore[method-assign]


async def test_a_tracked_batch_is_reported_when_it_ends_with_each_item_that_failed(
    rounds: Any, parakey: Parakey
) -> None:
    """Pitfall 23."""
    parakey.batch([ADA, REFUSED, ADA], batch_id="b1", took=3 * MINUTE)
    world = rounds("b1")
    for _ in range(6):
        await world.visit()
    [failed], [completed] = world.told(FAILED), world.told(COMPLETED)
    assert [event.id for event in world.events()] == ["b1:1:failed", "b1:completed"]
    assert completed["outcome"] == "partial"
    assert (completed["data"]["total"], completed["data"]["failed"]) == (3, 1)
    data = failed["data"]
    assert data["person"] == {"id": None, "name": "Ada", "email": "ada@harbour.example"}
    assert data["about"] == {"id": "k1", "name": "Staff"}
    assert (data["code"], data["message"]) == ("NO_SUCH_KEY", "the key is not shared with this integration")
    assert completed["data"]["failures"][0]["person"]["name"] == "Ada"


async def test_without_anything_tracked_nothing_is_asked(rounds: Any, parakey: Parakey) -> None:
    world = rounds()
    assert await world.visit()
    assert parakey.asked == 0


async def test_an_unchanged_batch_costs_a_304(rounds: Any, parakey: Parakey) -> None:
    parakey.batch([ADA], batch_id="b1", took=None)
    world = rounds("b1")
    await world.visit()
    await world.visit()
    world.transport.requests.clear()
    await world.visit()
    [request] = world.transport.requests
    assert "if-none-match" in request.headers


@pytest.mark.parametrize(
    ("batch", "outcome", "items"),
    [
        ({"status": "COMPLETED", "items": [{"status": "FAILED"}]}, "failed", ["0"]),
        ({"state": "Partially_Failed", "results": [{"state": "ok", "id": "a"}, {"state": "denied", "id": "b"}]}, "partial", ["b"]),
        ({"status": "done", "items": [{"success": True}, {"success": False, "id": 7}]}, "partial", ["7"]),
        ({"status": "finished", "items": [{"error": "no such user"}, {}]}, "partial", ["0"]),
        ({"status": "finished", "items": [{"error": None, "status": "succeeded"}]}, "succeeded", []),
        ({"status": "finished", "items": []}, "empty", []),
        ({"status": "finished"}, "unknown", []),
        ({"status": "failed"}, "failed", []),
        ({"status": "timed-out", "items": "?"}, "failed", []),
        ({"completedAt": "2026-05-01T06:00:00Z", "items": [{"status": "failed"}]}, "failed", ["0"]),
        ({"items": [{"status": "failed"}, {"status": "ok"}]}, "partial", ["0"]),
        ({"status": "completed", "items": [{"status": "failed", "id": "x"}, {"status": "failed", "id": "x"}]}, "failed", ["x", "x#1"]),
    ],
)  # fmt: skip
async def test_states_and_items_are_read_leniently(
    batch: Any, outcome: str, items: list[str], rounds: Any, parakey: Parakey
) -> None:
    answering(parakey, {"id": "b1", **batch})
    world = rounds("b1")
    await world.visit()
    await world.visit()  # without a state, the second look counts
    [completed] = world.told(COMPLETED)
    assert completed["outcome"] == outcome
    assert [event.id for event in world.events(FAILED)] == [f"b1:{item}:failed" for item in items]


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        ({"code": "X", "message": "no"}, "X", "no"),
        ({"code": 7}, "7", None),
        ("no", None, "no"),
        (["a", "b"], None, None),
        ({"message": {"en": "no"}}, None, None),
    ],
)
async def test_an_error_of_any_form_is_read(
    error: Any, code: Any, message: Any, rounds: Any, parakey: Parakey
) -> None:
    answering(
        parakey, {"id": "b1", "status": "completed", "items": [{"error": error, "user": "a@b.example"}]}
    )
    world = rounds("b1")
    await world.visit()
    [failed] = world.told(FAILED)
    assert (failed["data"]["code"], failed["data"]["message"]) == (code, message)
    assert failed["data"]["person"]["email"] == "a@b.example"


async def test_an_unknown_state_is_no_end_and_said_once(rounds: Any, parakey: Parakey) -> None:
    batch = parakey.batch([ADA], batch_id="b1", status="archived")
    world = rounds("b1")
    with capture_logs() as logs:
        for _ in range(4):
            await world.visit()
    assert world.told() == []
    [said] = [entry["what"] for entry in logs if entry["event"] == "vendor.surprise"]
    assert "states.ended" in said
    batch.status = "completed"
    await world.visit()
    assert len(world.told(COMPLETED)) == 1


async def test_an_item_in_an_unknown_state_is_no_failure_and_said(rounds: Any, parakey: Parakey) -> None:
    answering(
        parakey, {"id": "b1", "status": "completed", "items": [{"status": "skipped"}, {"status": "ok"}]}
    )
    world = rounds("b1")
    with capture_logs() as logs:
        await world.visit()
    assert world.told(FAILED) == []
    assert any("'skipped'" in entry.get("what", "") for entry in logs)


async def test_the_words_can_be_changed(rounds: Any, parakey: Parakey) -> None:
    answering(parakey, {"key": "b1", "phase": "over", "rows": {"list": [{"how": "nope"}]}})
    options = {
        "fields": {"status": ["phase"], "items": ["rows.list"], "item_status": ["how"]},
        "states": {"ended": ["over"], "failed": ["nope"]},
    }
    world = rounds("b1", **options)
    await world.visit()
    assert [event.type for event in world.events()] == [FAILED, COMPLETED]


async def test_a_clock_of_ours_that_jumps_stalls_no_batch(tmp_path: Path, time: Time) -> None:
    theirs = Time()
    parakey = Parakey(now=theirs.utc)
    parakey.batch([ADA], batch_id="a", took=timedelta(days=2))
    world = Rounds(tmp_path, parakey, time, parakey_batches())
    await world.store.follow("keys", ["a"])
    for step in (0, 0, 8 * 86400, 0):
        time.set_wall(step)
        await world.engine.beat()
        theirs.advance(61)
        assert await world.visit()
    assert [event.type for event in world.events("roundsman.*")] == ["roundsman.clock.jumped"]
    await world.store.close()


async def test_one_bad_answer_delays_and_loses_nothing(rounds: Any, parakey: Parakey) -> None:
    """Pitfall 24: items are reported once, however often the batch is read."""
    parakey.batch([REFUSED], batch_id="b1")
    parakey.batch([REFUSED], batch_id="b2")
    parakey.faults.append(Fault(200, body=b"<html>", path="/batches/b2"))
    world = rounds("b1", "b2")
    assert await world.visit()
    assert [event.id for event in world.events(FAILED)] == ["b1:0:failed"]
    world.reboot()
    assert await world.visit()
    assert sorted(event.id for event in world.events(FAILED)) == ["b1:0:failed", "b2:0:failed"]


@pytest.mark.parametrize(
    "body",
    [
        {"id": "b1", "status": "error", "message": "Internal error, try again"},
        {"id": "b1", "success": False, "state": "failed"},
        {"id": "b1", "status": "completed"},
        {"id": "b1", "status": "completed", "items": None},
        {"id": "b1", "status": "completed", "items": []},
    ],
)
async def test_an_end_without_items_is_looked_at_twice(body: Any, rounds: Any, parakey: Parakey) -> None:
    parakey.batch([ADA, REFUSED], batch_id="b1")
    parakey.faults.append(Fault(200, body=json.dumps(body).encode(), path="/batches/b1"))
    world = rounds("b1")
    await world.visit()
    assert world.told() == []
    for _ in range(3):
        await world.visit()
    assert [event.id for event in world.events()] == ["b1:1:failed", "b1:completed"]


@pytest.mark.parametrize("tag", [{}, {"ETag": '"1"'}])
async def test_an_end_without_items_that_stays_so_is_one(tag: Any, rounds: Any, parakey: Parakey) -> None:
    body = json.dumps({"id": "b1", "status": "failed"}).encode()

    def reply(method: str, path: str, query: Any, headers: Any) -> Any:
        return Reply(304, tag, b"") if "if-none-match" in headers else Reply(200, tag, body)

    parakey.answer = reply  # type: ignore[method-assign]
    world = rounds("b1")
    for _ in range(4):
        await world.visit()
    [completed] = world.told(COMPLETED)
    assert completed["data"]["batch_id"] == "b1"


async def test_a_batch_that_does_not_repeat_its_id_is_known_by_its_shape(
    rounds: Any, parakey: Parakey
) -> None:
    answering(parakey, {"status": "failed", "createdAt": "2026-05-01T05:00:00Z", "items": [REFUSED]})
    world = rounds("b1")
    await world.visit()
    assert [event.id for event in world.events()] == ["b1:0:failed", "b1:completed"]


async def test_items_by_their_ids_are_items(rounds: Any, parakey: Parakey) -> None:
    answering(
        parakey, {"id": "b1", "status": "completed", "items": {"i1": {"id": "i1", **REFUSED}, "i2": ADA}}
    )
    world = rounds("b1")
    await world.visit()
    assert [event.id for event in world.events(FAILED)] == ["b1:i1:failed"]


@pytest.mark.parametrize(("start", "told"), [("now", {"slow", "new"}), ("beginning", {"old", "slow", "new"})])
async def test_where_there_is_a_list_all_batches_are_followed(
    start: str, told: set[str], rounds: Any, parakey: Parakey, time: Time
) -> None:
    parakey.quirks.batch_list = True
    parakey.batch([ADA], batch_id="old")
    parakey.batch([ADA], batch_id="slow", took=70 * MINUTE)
    time.advance(3600)
    world = rounds(start=start, request={"list_path": "/batches"})
    await world.visit()
    parakey.batch([REFUSED], batch_id="new")
    for _ in range(20):
        await world.visit()
    assert {e["data"]["batch_id"] for e in world.told(COMPLETED)} == told
    assert len(world.told(FAILED)) == 1


@pytest.mark.parametrize("pages", [True, False])
async def test_a_list_of_batches_is_read_to_its_end(
    pages: bool, rounds: Any, parakey: Parakey, time: Time
) -> None:
    parakey.quirks.batch_list, parakey.quirks.batch_pages = True, pages
    for n in range(250):
        parakey.batch([ADA], batch_id=f"b{n}")
    world = rounds(start="beginning", request={"list_path": "/batches"})
    for _ in range(20):
        await world.visit()
    assert len(world.told(COMPLETED)) == (250 if pages else 100)
    world.asked()
    await world.visit()
    assert len(world.asked()) == 1, "an unchanged list costs one question"


@pytest.mark.parametrize(
    "second",
    [
        Reply(500, {}, b""),
        Reply(200, {}, b'{"status":"error","message":"no offset"}'),
        Reply(400, {"content-type": "text/html"}, b"<html>no"),
        Reply(404, {}, b"{}"),
        Reply(429, {"retry-after": "1"}, b""),
    ],
)
@pytest.mark.parametrize("count", [9, 10, 60])
async def test_a_second_page_that_is_not_to_be_had_costs_nothing(
    count: int, second: Reply, rounds: Any, parakey: Parakey, time: Time
) -> None:
    """It is a guess: what the first one showed is followed."""
    parakey.quirks.batch_list = True
    for n in range(count):
        parakey.batch([ADA], batch_id=f"b{n}")
    answer = parakey.answer
    parakey.answer = lambda *asked: second if "offset" in asked[2] else answer(*asked)  # type: ignore[method-assign]
    world = rounds(start="beginning", request={"list_path": "/batches"})
    for _ in range(20):
        assert await world.visit()
    assert len(world.told(COMPLETED)) == count
    assert world.told("roundsman.source.failing") == []
    world.asked()
    await world.visit()
    assert len(world.asked()) == 1, "and it is not asked for without end"


async def test_a_vendor_that_allows_one_page_at_a_time_is_read_one_page_a_visit(
    rounds: Any, parakey: Parakey, time: Time
) -> None:
    parakey.quirks.batch_list, parakey.quirks.default_limit = True, 20
    for n in range(60):
        parakey.batch([ADA], batch_id=f"b{n}")
    answer, asked_at = parakey.answer, 0.0

    def reply(method: str, path: str, query: Any, headers: Any) -> Any:
        nonlocal asked_at
        if path == "/batches" and time.wall - asked_at < 5:
            return Reply(429, {"Retry-After": "60"}, b"")
        asked_at = time.wall if path == "/batches" else asked_at
        return answer(method, path, query, headers)

    parakey.answer = reply  # type: ignore[method-assign]
    world = rounds(start="beginning", request={"list_path": "/batches"})
    for _ in range(12):
        await world.visit(after=300)
    assert len(world.told(COMPLETED)) == 60


@pytest.mark.parametrize("count", [25, 250])
@pytest.mark.parametrize("size", [10, 100])
async def test_batches_that_a_list_appends_at_its_end_are_found(
    size: int, count: int, rounds: Any, parakey: Parakey, time: Time
) -> None:
    """Oldest first, and more pages than one visit reads."""
    parakey.quirks.batch_list, parakey.quirks.batch_order = True, "oldest"
    parakey.quirks.default_limit = size
    for n in range(count):
        parakey.batch([ADA], batch_id=f"b{n}")
        time.advance(1)
    world = rounds(start="beginning", request={"list_path": "/batches"})
    for _ in range(14):
        await world.visit()
    for n in range(5):
        parakey.batch([ADA], batch_id=f"new{n}")
    for _ in range(4):
        await world.visit()
    assert len(world.told(COMPLETED)) == count + 5


async def test_batches_are_found_where_older_ones_leave_the_list(
    rounds: Any, parakey: Parakey, time: Time
) -> None:
    parakey.quirks.batch_list, parakey.quirks.batch_order = True, "oldest"
    parakey.quirks.default_limit = 10
    for n in range(35):
        parakey.batch([ADA], batch_id=f"b{n}")
        time.advance(1)
    world = rounds(start="beginning", request={"list_path": "/batches"})
    for _ in range(4):
        await world.visit()
    for gone in range(25):
        del parakey.batches[f"b{gone}"]
    for n in range(25):
        parakey.batch([ADA], batch_id=f"new{n}")
    for _ in range(4):
        await world.visit()
    assert len(world.told(COMPLETED)) == 60


@pytest.mark.parametrize("faults", [[500], [404], [429, 429]])
async def test_what_a_fault_on_a_later_page_hid_is_found_afterwards(
    faults: list[int], rounds: Any, parakey: Parakey, time: Time
) -> None:
    parakey.quirks.batch_list, parakey.quirks.default_limit = True, 10
    left: list[int] = []
    answer = parakey.answer

    def reply(*asked: Any) -> Any:
        return (
            Reply(left.pop(0), {"Retry-After": "1"}, b"{}")
            if left and "offset" in asked[2]
            else answer(*asked)
        )

    parakey.answer = reply  # type: ignore[method-assign]

    def add(count: int, name: str) -> None:
        for n in range(count):
            time.advance(1)
            parakey.batch([ADA], batch_id=f"{name}{n}")

    add(5, "old")
    world = rounds(start="beginning", request={"list_path": "/batches"})
    await world.visit()
    add(25, "new")
    left += faults
    for _ in range(5):
        await world.visit()
    add(1, "last")  # the list changes
    for _ in range(10):
        await world.visit()
    assert len(world.told(COMPLETED)) == 31


@pytest.mark.parametrize("order", ["newest", "oldest"])
async def test_a_long_list_that_grows_while_it_is_read_costs_few_questions(
    order: str, rounds: Any, parakey: Parakey, time: Time
) -> None:
    """More pages than one visit reads, and a new batch at every visit."""
    parakey.quirks.batch_list, parakey.quirks.default_limit = True, 10
    parakey.quirks.batch_order = order  # type: ignore[assignment]
    for n in range(250):
        time.advance(1)
        parakey.batch([ADA], batch_id=f"b{n}")
    world = rounds(start="beginning", request={"list_path": "/batches"})
    asked = []
    for n in range(30):
        parakey.batch([ADA], batch_id=f"new{n}")
        world.transport.requests.clear()
        await world.visit()
        asked.append(sum(request.url.path == "/batches" for request in world.transport.requests))
    assert len(world.told(COMPLETED)) >= 279
    assert max(asked[5:]) <= 4, asked


@pytest.mark.parametrize("order", ["newest", "oldest"])
async def test_a_rewind_reads_the_whole_list_again(
    order: str, rounds: Any, parakey: Parakey, time: Time
) -> None:
    parakey.quirks.batch_list, parakey.quirks.default_limit = True, 10
    parakey.quirks.batch_order = order  # type: ignore[assignment]
    for n in range(35):
        time.advance(60)
        parakey.batch([ADA], batch_id=f"old{n}")
    time.advance(7200)
    world = rounds(start="now", request={"list_path": "/batches"})
    await world.visit()
    for n in range(12):
        time.advance(1)
        parakey.batch([ADA], batch_id=f"new{n}")
    for _ in range(3):
        await world.visit()
    assert len(world.told(COMPLETED)) == 12
    await world.store.rewind("keys", world.source.rewound(world.state, None))
    for _ in range(4):
        await world.visit()
    assert len(world.told(COMPLETED)) == 47


async def test_a_vendor_that_always_asks_for_a_pause_is_asked_about_each_in_turn(
    rounds: Any, parakey: Parakey, time: Time
) -> None:
    answer = parakey.answer

    def tired(*asked: Any) -> Any:
        found = answer(*asked)
        limits = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "30"}
        return type(found)(found.status, {**found.headers, **limits}, found.body)

    parakey.answer = tired  # type: ignore[method-assign]
    parakey.quirks.batch_list = True
    parakey.batch([ADA], batch_id="slow", took=None)
    for n in range(30):
        parakey.batch([ADA], batch_id=f"b{n}")
    world = rounds(start="beginning", request={"list_path": "/batches"})
    for _ in range(80):
        await world.visit(after=31)
    assert len(world.told(COMPLETED)) == 30


async def test_what_runs_is_followed_however_far_down_the_list_it_is(
    rounds: Any, parakey: Parakey, time: Time
) -> None:
    parakey.quirks.batch_list, parakey.quirks.default_limit = True, 10
    parakey.batch([ADA], batch_id="slow", took=7200 * MINUTE)
    for n in range(35):
        time.advance(60)
        parakey.batch([ADA], batch_id=f"old{n}")
    time.advance(7200)
    world = rounds(start="now", request={"list_path": "/batches"})
    await world.visit()
    assert list(world.state["open"]) == ["slow"]


@pytest.mark.parametrize("name", ["error", "request"])
async def test_an_error_about_a_batch_is_not_its_end(name: str, rounds: Any, parakey: Parakey) -> None:
    about = {"id": "b1", "status": "failed", "message": "the backend timed out"}
    answering(parakey, {name: about, "success": False})
    world = rounds("b1")
    assert not await world.visit()
    assert world.events("co.parakey.*") == []


async def test_a_batch_in_an_envelope_is_that_batch(rounds: Any, parakey: Parakey) -> None:
    batch = {"id": "b1", "status": "completed", "items": [ADA, REFUSED]}
    answering(parakey, {"success": True, "data": batch, "meta": {"id": "request-1"}})
    world = rounds("b1")
    await world.visit()
    assert [event.id for event in world.events()] == ["b1:1:failed", "b1:completed"]
    assert world.told(COMPLETED)[0]["data"]["raw"]["id"] == "b1"


async def test_another_batch_in_an_envelope_is_none(rounds: Any, parakey: Parakey) -> None:
    answering(parakey, {"data": {"id": "b2", "status": "completed", "items": [REFUSED]}})
    world = rounds("b1")
    assert not await world.visit()
    assert world.events("co.parakey.*") == []


@pytest.mark.parametrize("status", [400, 403, 410, 500])
async def test_a_batch_that_cannot_be_asked_for_stops_no_other(
    status: int, rounds: Any, parakey: Parakey
) -> None:
    parakey.batch([REFUSED], batch_id="good", took=5 * MINUTE)
    answer = parakey.answer

    def reply(method: str, path: str, query: Any, headers: Any) -> Any:
        found = answer(method, path, query, headers)
        return type(found)(status, {}, b"") if path.endswith("/odd") else found

    parakey.answer = reply  # type: ignore[method-assign]
    parakey.batch([REFUSED], batch_id="slow", took=None)
    world = rounds("odd", "good", "slow")
    for _ in range(8):
        await world.visit()
    assert [event.type for event in world.events("co.parakey.*")] == [FAILED, COMPLETED]
    for _ in range(9):
        await world.visit(after=86400)
    assert len(world.told("roundsman.batch.gone")) == 1, "and is not asked for without end"
    assert list(world.state["open"]) == ["slow"]


@pytest.mark.parametrize(
    "trouble", ["one answer that fails after a week", "a sleep of a week", "a week without the vendor"]
)
async def test_a_batch_is_not_given_up_for_a_trouble_that_is_not_its_own(
    trouble: str, rounds: Any, parakey: Parakey, time: Time
) -> None:
    parakey.batch([REFUSED], batch_id="a", took=timedelta(days=12))
    parakey.batch([REFUSED], batch_id="b", took=timedelta(days=12))
    world = rounds("a", "b")
    await world.visit()
    if trouble.startswith("one"):
        for _ in range(8):
            assert await world.visit(after=86400)
        parakey.faults.extend([Fault(status=502, path="/batches/a")] * 3)
    elif trouble.startswith("a sleep"):
        time.suspend(8 * 86400)
        parakey.faults.extend([Fault(kind="drop")] * 3)
    else:
        for _ in range(16):
            parakey.faults.extend([Fault(status=503)] * 10)
            assert not await world.visit(after=43200)
        parakey.faults.clear()
        parakey.faults.extend([Fault(status=502, path="/batches/a")] * 3)
    await world.visit()
    parakey.faults.clear()
    for _ in range(6):
        await world.visit(after=86400)
    assert [event["data"]["batch_id"] for event in world.told(COMPLETED)] == ["a", "b"]
    assert world.told("roundsman.batch.gone") == []


async def test_a_token_that_is_refused_is_loud_although_one_batch_is_followed(
    rounds: Any, parakey: Parakey
) -> None:
    parakey.batch([ADA], batch_id="b1", took=None)
    parakey.token = "another"
    world = rounds("b1")
    assert not await world.visit()
    assert len(world.told("roundsman.source.failing")) == 1


@pytest.mark.parametrize(
    ("item", "outcome"),
    [
        ({"errorCode": "ACCESS_NOT_SHARED"}, "failed"),
        ({"reason": "no such key"}, "failed"),
        ({"errors": ["x"]}, "failed"),
        ({"status": 403}, "failed"),
        ({"status": 201}, "succeeded"),
        ({"status": "ok", "message": "granted"}, "succeeded"),
        ({"status": "not_granted"}, "unknown"),
        ({"status": "pending"}, "unknown"),
        ({}, "unknown"),
        ("i1", "unknown"),
    ],
)
async def test_what_is_not_known_to_have_succeeded_is_not_reported_as_success(
    item: Any, outcome: str, rounds: Any, parakey: Parakey
) -> None:
    answering(parakey, {"id": "b1", "status": "completed", "items": [item]})
    world = rounds("b1")
    await world.visit()
    [completed] = world.told(COMPLETED)
    assert completed["outcome"] == outcome
    assert len(world.told(FAILED)) == (outcome == "failed")


async def test_a_batch_without_a_state_has_not_ended_while_it_grows(rounds: Any, parakey: Parakey) -> None:
    world = rounds("b1")
    items = [{"status": "ok"}, {"status": "ok"}, {"status": "failed"}]
    for count in (1, 2, 3):
        answering(parakey, {"id": "b1", "items": items[:count]})
        await world.visit()
        assert world.told() == []
    await world.visit()
    assert [event.type for event in world.events()] == [FAILED, COMPLETED]


async def test_very_many_batches_are_asked_for_in_turn(rounds: Any, parakey: Parakey) -> None:
    for number in range(100):
        parakey.batch([ADA], batch_id=f"b{number}", took=20 * MINUTE)
    world = rounds(*(f"b{number}" for number in range(100)))
    await world.visit()
    assert len(world.asked()) == 30
    parakey.faults.append(Fault(429, headers={"Retry-After": "90"}))
    assert not await world.visit()
    assert len(world.asked()) <= 2, "and the vendor is not asked again after a 429"
    for _ in range(30):
        await world.visit(after=200)
    assert len(world.told(COMPLETED)) == 100


@pytest.mark.parametrize("key", ["", "a/b", "..", "a b", "x" * 65])
def test_what_is_no_id_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match="not the id of a batch"):
        Batches.follow({}, [key])


@pytest.mark.parametrize("items", [[ADA], []])
async def test_a_list_without_etags_that_stays_the_same_hides_no_end(
    items: list[Any], rounds: Any, parakey: Parakey
) -> None:
    parakey.quirks.batch_list = True
    answer = parakey.answer

    def reply(method: str, path: str, query: Any, headers: Any) -> Any:
        if path != "/batches":
            return answer(method, path, query, headers)
        headers = {name: value for name, value in headers.items() if name != "if-none-match"}
        answered = answer(method, path, query, headers)
        found = [{"id": row["id"], "createdAt": row["createdAt"]} for row in json.loads(answered.body)]
        return Reply(answered.status, {}, json.dumps(found).encode())

    parakey.answer = reply  # type: ignore[method-assign]
    parakey.batch(items, batch_id="b1", took=3 * MINUTE)
    world = rounds(start="beginning", request={"list_path": "/batches"})
    for _ in range(6):
        await world.visit()
    assert [event.id for event in world.events()] == ["b1:completed"]


async def test_batches_that_a_person_named_hide_no_older_ones(
    rounds: Any, parakey: Parakey, time: Time
) -> None:
    parakey.quirks.batch_list, parakey.quirks.default_limit = True, 10

    def add(count: int, name: str) -> list[str]:
        for n in range(count):
            time.advance(1)
            parakey.batch([ADA], batch_id=f"{name}{n}")
        return [f"{name}{n}" for n in range(count)]

    add(15, "old")
    world = rounds(start="beginning", request={"list_path": "/batches"})
    await world.visit()
    add(15, "hidden")
    await world.store.follow("keys", add(10, "named"))
    for _ in range(3):
        await world.visit()
    assert len(world.told(COMPLETED)) == 40


@pytest.mark.parametrize("status", [500, 404, 429])
async def test_a_fault_where_a_list_grows_hides_none_of_its_new_batches(
    status: int, rounds: Any, parakey: Parakey, time: Time
) -> None:
    parakey.quirks.batch_list, parakey.quirks.default_limit = True, 10
    parakey.quirks.batch_order = "oldest"
    for n in range(25):
        time.advance(1)
        parakey.batch([ADA], batch_id=f"b{n}")
    world = rounds(start="beginning", request={"list_path": "/batches"})
    await world.visit()
    parakey.faults.extend([Fault(status=status, headers={"Retry-After": "1"}, path="/batches")] * 4)
    await world.visit()
    parakey.faults.clear()
    for n in range(5):
        parakey.batch([ADA], batch_id=f"new{n}")
    for _ in range(4):
        await world.visit(after=400)
    assert len(world.told(COMPLETED)) == 30
