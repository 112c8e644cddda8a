"""Railz's pushes: each pitfall of its API, and each kind of bad input, as a promise."""

import asyncio
import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from structlog.testing import capture_logs

from rounds import Rounds, opened
from roundsman.engine.reading import polls, visit_to
from roundsman.http.transport import Clients, HttpOptions
from roundsman.sandbox import Fault, Sandbox
from roundsman.sandbox.railz import CLIENT_ID, SECRET_KEY, Quirks, Railz
from roundsman.sandbox.vendor import Reply
from roundsman.sources.railz import Pushes
from worlds import Time, railz_pushes

SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
PUSH, BATCH, GAP = "ai.railz.push.completed", "ai.railz.batch_push.completed", "roundsman.source.gap"
STATUS = "/v2/data/pushStatus"


@pytest.fixture
def ledger(time: Time) -> Railz:
    railz = Railz(now=time.utc)
    railz.connect("CON-1")
    return railz


@pytest.fixture
def rounds(tmp_path: Path, ledger: Railz, time: Time) -> Iterator[Any]:
    yield from opened(lambda **options: Rounds(tmp_path, ledger, time, railz_pushes(**options)))


def queries(world: Rounds) -> list[dict[str, str]]:
    """The queries for statuses since the last call."""
    found = [dict(r.url.params) for r in world.transport.requests if r.url.path == STATUS]
    world.transport.requests.clear()
    return found


def ids(world: Rounds, kind: str = PUSH) -> list[str]:
    return [event.id for event in world.events(kind)]


async def test_a_push_is_reported_once_when_it_has_ended(rounds: Any, ledger: Railz) -> None:
    """Pitfall 1: there is no question for what is new."""
    ledger.push("CON-1", push_id="p1", took=2 * MINUTE)
    ledger.push(
        "CON-1",
        push_id="p2",
        status="failed",
        code=400,
        errors=[{"field": "customerRef.id", "message": "unknown"}],
    )
    world = rounds()
    for _ in range(6):
        await world.visit()
    assert ids(world) == ["p2:failed", "p1:success"]
    [data] = [e["data"] for e in world.told(PUSH) if e["outcome"] == "failed"]
    assert (data["code"], data["message"]) == ("400", "unknown")
    assert data["fields"] == [{"field": "customerRef.id", "message": "unknown"}]
    assert data["environment"] == "sandbox"
    assert data["about"]["name"] == "journalEntries"


async def test_an_idle_connection_costs_one_request(rounds: Any, ledger: Railz) -> None:
    for number in range(350):
        ledger.push("CON-1", push_id=f"p{number}")
    world = rounds()
    await world.visit()
    await world.visit()
    queries(world)
    await world.visit()
    assert queries(world) == [{"connectionUuid": "CON-1"}]
    assert len(ids(world)) == 350


async def test_a_pending_push_is_followed_when_it_falls_off_the_list(
    rounds: Any, ledger: Railz, time: Time
) -> None:
    """Pitfall 2."""
    ledger.quirks.paging = "ignored"
    ledger.push("CON-1", push_id="slow", took=20 * MINUTE)
    world = rounds()
    await world.visit()
    for number in range(150):
        ledger.push("CON-1", push_id=f"p{number}", requested=time.utc() + number * SECOND / 10)
    time.advance(60)
    await world.visit()
    await world.visit()
    assert {"connectionUuid": "CON-1", "pushCommunicationId": "slow"} in queries(world)
    for _ in range(20):
        await world.visit()
    assert "slow:success" in ids(world)
    assert "open" not in world.state["parts"]["CON-1"]


@pytest.mark.parametrize("paging", ["ignored", "refused"])
async def test_pages_that_do_not_work_make_no_loop_and_are_said_once(
    paging: Any, rounds: Any, ledger: Railz, time: Time
) -> None:
    """Pitfall 3: what is cut off is a notice, and what is known to be pending is followed one by one."""
    ledger.quirks.paging = paging
    for number in range(250):
        ledger.push("CON-1", push_id=f"p{number}", requested=time.utc() - number * SECOND)
    world = rounds()
    for _ in range(4):
        await world.visit()
        assert len(queries(world)) <= 4
    [gap] = world.told(GAP)
    assert "250 pushes and shows 100" in gap["data"]["message"]
    assert len(ids(world)) == 100
    ledger.quirks.paging = "honoured"
    await world.visit(after=3600)
    assert len(ids(world)) == 250, "and where they work again, the rest is read"


async def test_an_answer_without_pages_is_read_as_it_is(rounds: Any, ledger: Railz) -> None:
    ledger.quirks.paging = "absent"
    for number in range(150):
        ledger.push("CON-1", push_id=f"p{number}")
    world = rounds()
    await world.visit()
    assert len(ids(world)) == 150
    assert world.told(GAP) == []


@pytest.mark.parametrize("order", ["newest", "oldest", "shuffled"])
@pytest.mark.parametrize("etag", [True, False])
async def test_lists_that_shift_while_being_read_lose_nothing(
    order: Any, etag: bool, rounds: Any, ledger: Railz, time: Time
) -> None:
    """Pitfall 4."""
    ledger.quirks = Quirks(order=order, etag=etag)
    for number in range(330):
        ledger.push("CON-1", push_id=f"p{number}", requested=time.utc() - (400 - number) * MINUTE)
    world = rounds()
    answer, count = ledger.answer, 330

    def busy(method: str, path: str, query: Any, headers: Any) -> Any:
        nonlocal count
        if path == STATUS:
            ledger.push("CON-1", push_id=f"p{count}")
            count += 1
        return answer(method, path, query, headers)

    ledger.answer = busy  # type: ignore[method-assign]
    for _ in range(4):
        await world.visit()
    ledger.answer = answer  # type: ignore[method-assign]
    for _ in range(3):
        await world.visit()
    await world.visit(after=2000)
    assert set(ids(world)) == {f"p{number}:success" for number in range(count)}


@pytest.mark.parametrize("order", ["newest", "oldest"])
async def test_what_is_new_in_a_long_list_is_found_without_reading_it_all(
    order: Any, rounds: Any, ledger: Railz, time: Time
) -> None:
    ledger.quirks.order = order
    for number in range(1700):
        ledger.push("CON-1", push_id=f"p{number}", requested=time.utc() - (2000 - number) * MINUTE)
    world = rounds()
    await world.visit()
    await world.visit()
    queries(world)
    ledger.push("CON-1", push_id="new")
    await world.visit()
    assert len(queries(world)) <= 4
    assert "new:success" in ids(world)


async def test_a_connection_that_fails_does_not_stop_the_others(
    rounds: Any, ledger: Railz, time: Time
) -> None:
    """Pitfall 5."""
    for number in range(2, 6):
        ledger.connect(f"CON-{number}")
        ledger.push(f"CON-{number}", push_id=f"p{number}")
    ledger.broken["CON-3"] = 404
    world = rounds()
    for _ in range(8):
        assert await world.visit()
    assert set(ids(world)) == {"p2:success", "p4:success", "p5:success"}
    [failing] = world.told("roundsman.source.failing")
    assert "CON-3" in failing["data"]["message"]
    assert "Something is wrong with this connection" in failing["data"]["message"]
    del ledger.broken["CON-3"]
    await world.visit(after=3700)
    assert "p3:success" in ids(world)
    assert len(world.told("roundsman.source.recovered")) == 1


async def test_if_all_connections_fail_the_source_fails(rounds: Any, ledger: Railz) -> None:
    ledger.connect("CON-2")
    ledger.broken = {"CON-1": 403, "CON-2": 403}
    world = rounds()
    assert not await world.visit()
    assert not await world.visit(after=200)
    assert any("CON-1" not in e["data"]["message"] for e in world.told("roundsman.source.failing"))


async def test_a_vendor_that_is_down_is_not_asked_for_every_connection(rounds: Any, ledger: Railz) -> None:
    for number in range(2, 60):
        ledger.connect(f"CON-{number}")
    world = rounds()
    await world.visit()
    queries(world)
    ledger.faults.extend([Fault(503, path=STATUS)] * 1000)
    assert not await world.visit()
    assert len(queries(world)) <= 5 * 3
    ledger.faults.clear()
    for number in range(1, 60):
        ledger.push(f"CON-{number}", push_id=f"p{number}")
    await world.visit(after=4000)
    assert len(ids(world)) == 59


async def test_being_sent_away_in_the_middle_goes_on_there(rounds: Any, ledger: Railz, time: Time) -> None:
    """Pitfall 13: the connections before it must not be asked again and again while those after it wait."""
    names = [f"CON-{number:03d}" for number in range(120)]
    ledger.connections.clear()
    for name in names:
        ledger.connect(name)
        ledger.push(name, push_id=f"p-{name}")
    world = rounds()
    ledger.quirks.per_minute = 30
    for _ in range(12):
        await world.visit()
        assert (await world.status("ledger")).due > time.now()
        time.advance(300)
    assert len(ids(world)) == 120


async def test_after_a_pause_the_other_connections_are_asked_first(
    rounds: Any, ledger: Railz, time: Time
) -> None:
    """`X-RateLimit-Remaining: 0` ends a visit, and the next one begins where it ended."""
    for number in range(6):
        name = ledger.connect(f"CON-{number:03d}")
        ledger.push(name, push_id=f"p-{name}")
    world = rounds()
    answer = ledger.answer

    def tired(*args: Any) -> Any:
        reply = answer(*args)
        return type(reply)(
            reply.status,
            {**reply.headers, "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "7"},
            reply.body,
        )

    ledger.answer = tired  # type: ignore[method-assign]
    for _ in range(7):
        await world.visit()
    assert len(ids(world)) == 6


async def test_more_than_the_vendor_allows_in_a_minute_comes_bit_by_bit(
    rounds: Any, ledger: Railz, time: Time
) -> None:
    ledger.quirks.per_minute = 100
    for number in range(300):
        ledger.push("CON-1", push_id=f"p{number}", batch=f"b{number // 2}")
    world = rounds()
    for _ in range(12):
        await world.visit(after=400)
    assert len(ids(world)) == 300
    assert len(world.told(BATCH)) == 150


@pytest.mark.parametrize("status", [429, 401])
async def test_a_connection_that_alone_is_refused_starves_no_other(
    status: int, rounds: Any, ledger: Railz
) -> None:
    for number in range(2, 9):
        ledger.connect(f"CON-{number}")
        ledger.push(f"CON-{number}", push_id=f"p{number}")
    ledger.broken["CON-2"] = status
    world = rounds()
    for _ in range(12):
        await world.visit(after=4000)
    assert set(ids(world)) == {f"p{number}:success" for number in range(3, 9)}


@pytest.mark.parametrize("connections", ["discover", ["CON-1"], ["CON-1", "CON-2"]])
@pytest.mark.parametrize("trouble", ["key", "server", "connections"])
async def test_trouble_is_said_once_and_pauses_grow(
    connections: Any, trouble: str, rounds: Any, ledger: Railz, time: Time
) -> None:
    """However few connections there are, and although a visit yields."""
    world = rounds(connections=connections)
    await world.visit()
    ledger.connect("CON-2")
    if trouble == "key":
        ledger.secret = "another"
        ledger.tokens.clear()
    elif trouble == "server":
        ledger.faults.extend([Fault(kind="drop")] * 10_000)
    else:
        ledger.broken = {"CON-1": 404, "CON-2": 404}
    pauses = []
    for _ in range(6):
        await world.engine.beat()
        assert not await world.visit(after=max(61.0, (await world.status("ledger")).due - time.now() + 1))
        pauses.append((await world.status("ledger")).due - time.now())
    await world.engine.beat()
    assert pauses == sorted(pauses)
    assert pauses[-1] > 3000
    kinds = [e["type"] for e in world.told("roundsman.source.*") if "connection" not in e["data"]["details"]]
    assert kinds == ["roundsman.source.failing"]


@pytest.mark.parametrize("status", [400, 404, 410])
async def test_a_push_that_cannot_be_asked_for_stops_nothing_else(
    status: int, rounds: Any, ledger: Railz, time: Time
) -> None:
    ledger.quirks.paging = "ignored"
    ledger.push("CON-1", push_id="odd", took=None, requested=time.utc() - MINUTE)
    ledger.push("CON-1", push_id="b0", batch="odd-batch")
    world = rounds()
    await world.visit()
    answer = ledger.answer

    def reply(method: str, path: str, query: Any, headers: Any) -> Any:
        if "odd" in query.get("pushCommunicationId", "") or "odd" in query.get("batchId", ""):
            return type(answer(method, path, query, headers))(status, {}, b"")
        return answer(method, path, query, headers)

    ledger.answer = reply  # type: ignore[method-assign]
    for number in range(120):
        ledger.push("CON-1", push_id=f"p{number}")
    for _ in range(5):
        assert await world.visit()
    assert "p0:success" in ids(world)
    assert len(world.told("roundsman.batch.gone")) == 2


async def test_very_many_hidden_pushes_are_asked_for_in_turn(rounds: Any, ledger: Railz, time: Time) -> None:
    ledger.quirks.paging = "ignored"
    old = time.utc() - 900 * MINUTE
    for number in range(130):
        ledger.push("CON-1", push_id=f"x{number}")
    for number in range(170):
        ledger.push(
            "CON-1",
            push_id=f"p{number}",
            requested=old,
            took=timedelta(minutes=930) if number > 100 else None,
        )
    world = rounds(start="now")
    await world.visit()
    await world.store.follow("ledger", [f"CON-1/p{number}" for number in range(170)])
    for _ in range(50):
        await world.visit()
    assert set(ids(world)) >= {f"p{number}:success" for number in range(101, 170)}


async def test_a_new_connection_is_looked_for_when_something_there_is_tracked(
    rounds: Any, ledger: Railz, time: Time
) -> None:
    world = rounds()
    await world.visit()
    ledger.connect("CON-NEW")
    ledger.push("CON-NEW", push_id="first", took=5 * MINUTE)
    await world.store.follow("ledger", ["CON-NEW/first"])
    for _ in range(8):
        await world.visit()
    assert ids(world) == ["first:success"]
    assert world.told("roundsman.batch.gone") == []


async def test_a_deletion_at_a_connection_that_vanished_is_followed(rounds: Any, ledger: Railz) -> None:
    ledger.connect("CON-2")
    ledger.push("CON-2", push_id="d1", took=30 * MINUTE, deletion=True, status="failed")
    world = rounds(deletes=True)
    await world.visit()
    page = ledger._page
    ledger._page = lambda rows, q, h, around: page(  # type: ignore[method-assign]
        [row for row in rows if row.get("connectionUuid") != "CON-2"] if "meta" not in around else rows,
        q,
        h,
        around,
    )
    for _ in range(6):
        await world.visit(after=700)
    assert ids(world, "ai.railz.delete.completed") == ["d1:failed"]


async def test_a_second_page_that_is_empty_is_a_cut(rounds: Any, ledger: Railz) -> None:
    for number in range(300):
        ledger.push("CON-1", push_id=f"p{number}")
    answer = ledger.answer

    def reply(method: str, path: str, query: Any, headers: Any) -> Any:
        found = answer(method, path, query, headers)
        if "offset" in query and path == STATUS:
            body = json.loads(found.body) | {"data": []}
            return type(found)(200, {}, json.dumps(body).encode())
        return found

    ledger.answer = reply  # type: ignore[method-assign]
    world = rounds()
    await world.visit()
    assert len(world.told(GAP)) == 1


async def test_a_batch_that_hides_pushes_is_given_up_with_a_notice(rounds: Any, ledger: Railz) -> None:
    ledger.quirks.paging = "ignored"
    for number in range(150):
        ledger.push("CON-1", push_id=f"p{number}", batch="big")
    world = rounds()
    for _ in range(4):
        await world.visit()
    assert any("Batch big has 150 pushes" in e["data"]["message"] for e in world.told(GAP))
    queries(world)
    await world.visit()
    assert len(queries(world)) == 1


@pytest.mark.parametrize("status", [["failed"], {"x": 1}, None, 7])
async def test_a_status_of_another_type_stops_no_connection(status: Any, rounds: Any, ledger: Railz) -> None:
    ledger.connect("CON-2")
    ledger.push("CON-1", push_id="odd", more={"status": status})
    ledger.push("CON-2", push_id="good")
    world = rounds()
    assert await world.visit()
    assert ids(world) == ["good:success"]


async def test_nothing_is_asked_without_a_token(ledger: Railz, time: Time) -> None:
    """Who waited for a token that could not be had fetches it, or fails as the first did."""
    web = Clients(HttpOptions(attempts=1))
    for number in range(2, 12):
        ledger.connect(f"CON-{number}")
    seen = []
    answer = ledger.answer

    def reply(method: str, path: str, query: Any, headers: Any) -> Any:
        seen.append(headers.get("authorization", ""))
        return answer(method, path, query, headers)

    ledger.answer = reply  # type: ignore[method-assign]
    async with Sandbox(ledger, latency=0.01) as box:
        source = railz_pushes(
            base_url=box.url,
            auth_url=f"{box.url}/getAccess",
            connections=list(ledger.connections),
            concurrency=4,
        )
        ledger.faults.append(Fault(503, headers={"Retry-After": "900"}, path="/getAccess"))
        visit = visit_to(source, web)
        async for _ in polls(source, visit, {}):
            pass
    assert visit.wait == 900
    assert "Bearer None" not in seen
    await web.aclose()


async def test_pages_that_are_no_content_are_a_cut_and_each_cut_is_said(rounds: Any, ledger: Railz) -> None:
    for number in range(250):
        ledger.push("CON-1", push_id=f"p{number}")
    answer = ledger.answer

    def reply(method: str, path: str, query: Any, headers: Any) -> Any:
        found = answer(method, path, query, headers)
        return type(found)(204, {}, b"") if "offset" in query and path == STATUS else found

    ledger.answer = reply  # type: ignore[method-assign]
    world = rounds()
    for _ in range(3):
        await world.visit()
    assert len(world.told(GAP)) == 1
    ledger.answer = answer  # type: ignore[method-assign]
    await world.visit(after=4000)
    assert len(ids(world)) == 250
    ledger.quirks.paging = "ignored"
    for number in range(150):
        ledger.push("CON-1", push_id=f"q{number}")
    await world.visit()
    assert len(world.told(GAP)) == 2


async def test_a_push_that_the_vendor_stumbles_over_delays_no_other(
    rounds: Any, ledger: Railz, time: Time
) -> None:
    ledger.quirks.paging = "ignored"
    for number in range(120):
        ledger.push("CON-1", push_id=f"x{number}")
    world = rounds(start="now")
    await world.visit()
    ledger.push("CON-1", push_id="bad", requested=time.utc() - 900 * MINUTE, took=None)
    ledger.push("CON-1", push_id="p1", batch="B", requested=time.utc() - 900 * MINUTE, status="failed")
    answer = ledger.answer

    def reply(method: str, path: str, query: Any, headers: Any) -> Any:
        found = answer(method, path, query, headers)
        return type(found)(500, {}, b"") if query.get("pushCommunicationId") == "bad" else found

    ledger.answer = reply  # type: ignore[method-assign]
    await world.store.follow("ledger", ["bad", "batch:B"])
    for _ in range(4):
        assert await world.visit()
    assert ids(world) == ["p1:failed"]
    assert len(world.told(BATCH)) == 1


async def test_fewer_requests_than_connections_is_slow_and_no_failure(rounds: Any, ledger: Railz) -> None:
    for number in range(2, 121):
        ledger.connect(f"CON-{number}")
    ledger.quirks.per_minute = 50
    world = rounds()
    for _ in range(12):
        assert await world.visit()
    assert world.told("roundsman.*") == []


async def test_a_discovery_that_is_suddenly_empty_drops_no_connection(rounds: Any, ledger: Railz) -> None:
    world = rounds()
    await world.visit()
    page = ledger._page
    ledger._page = lambda rows, q, h, around: page([] if "meta" not in around else rows, q, h, around)  # type: ignore[method-assign]
    await world.visit(after=700)
    ledger.push("CON-1", push_id="y", status="failed")
    await world.visit()
    assert ids(world) == ["y:failed"]


@pytest.mark.parametrize("fault", [Fault(200, body=b"<html>"), Fault(400), Fault(404), Fault(500)])
async def test_a_token_that_cannot_be_had_is_no_connections_trouble(
    fault: Fault, rounds: Any, ledger: Railz
) -> None:
    for number in range(2, 30):
        ledger.connect(f"CON-{number}")
    world = rounds(connections=list(ledger.connections))
    faults = [Fault(fault.status, body=fault.body, path="/getAccess")] * 100
    ledger.faults.extend(faults)
    for _ in range(5):
        assert not await world.visit(after=4000)
    assert ledger.asked <= 5 * 2 * 3
    assert len(world.told("roundsman.source.failing")) <= 1


async def test_a_secret_that_a_server_repeats_is_masked(rounds: Any, ledger: Railz) -> None:
    said = json.dumps({"error": {"message": [f"no such key: {SECRET_KEY}"]}}).encode()
    ledger.faults.extend([Fault(401, body=said, path="/getAccess")] * 9)
    world = rounds()
    with capture_logs() as logs:
        await world.visit()
    assert "no such key: ***" in json.dumps(logs, default=str)
    assert SECRET_KEY not in json.dumps([logs, world.told()], default=str)


async def test_requests_are_no_faster_than_they_may_be(ledger: Railz, time: Time) -> None:
    """Counted are its own requests, and the wait is before each of them."""
    from worlds import Straight, web_of

    for number in range(2, 40):
        ledger.connect(f"CON-{number}")
    source = railz_pushes(
        base_url="https://api.railz.example", auth_url="https://auth.railz.example/getAccess", interval=60
    )
    web = web_of(Straight(ledger), time)
    web.seen = 100_000  # others have been busy
    began = time.now()
    async for _ in polls(source, visit_to(source, web), {}):
        pass
    assert 40 / 300 * 60 <= time.now() - began <= 3 * 40 / 300 * 60


async def test_connections_are_discovered(rounds: Any, ledger: Railz) -> None:
    world = rounds()
    await world.visit()
    ledger.connect("CON-9")
    ledger.connections["CON-9"]["status"] = "disconnected"  # a push there can still end
    ledger.push("CON-9", push_id="late")
    await world.visit(after=700)
    assert ids(world) == ["late:success"]


async def test_what_is_under_way_at_a_connection_that_vanished_is_followed(
    rounds: Any, ledger: Railz
) -> None:
    ledger.push("CON-1", push_id="p1", took=20 * MINUTE)
    world = rounds()
    await world.visit()
    kept = dict(ledger.connections)
    page = ledger._page
    ledger._page = lambda rows, q, h, around: page([] if "meta" not in around else rows, q, h, around)  # type: ignore[method-assign]
    await world.visit(after=700)
    await world.visit(after=700)
    assert ids(world) == ["p1:success"]
    assert kept


# -- tokens ------------------------------------------------------------------------------------------------------------


async def test_the_token_says_itself_how_long_it_lives(rounds: Any, ledger: Railz) -> None:
    ledger.quirks.token_life = 10 * MINUTE
    world = rounds()
    for _ in range(9):
        await world.visit()
    assert ledger.handed_out == 2, "renewed at half of its ten minutes, before the vendor refuses it"


@pytest.mark.parametrize("says", [True, False])
async def test_requests_side_by_side_share_one_token(says: bool, ledger: Railz) -> None:
    ledger.quirks.says_expiry = says
    for number in range(2, 12):
        ledger.connect(f"CON-{number}")
    web = Clients(HttpOptions())
    async with Sandbox(ledger, latency=0.005) as box:
        source = railz_pushes(base_url=box.url, auth_url=f"{box.url}/getAccess", concurrency=5)
        source = source.model_copy(update={"connections": tuple(ledger.connections)}).named("ledger")
        ledger.now = Time().utc
        web.now = Time().now
        async for _ in polls(source, visit_to(source, web), {}):
            pass
        assert ledger.handed_out == 1
        ledger.tokens.clear()  # all at once find it refused
        async for _ in polls(source, visit_to(source, web), {}):
            pass
    assert ledger.handed_out == 2
    await web.aclose()


async def test_a_wrong_key_is_reported_and_shown_nowhere(rounds: Any, ledger: Railz) -> None:
    ledger.secret = "another"
    world = rounds()
    with capture_logs() as logs:
        assert not await world.visit()
    assert ledger.asked <= 2
    [failing] = world.told("roundsman.source.failing")
    assert "/getAccess answered 401" in failing["data"]["message"]
    assert SECRET_KEY not in json.dumps([failing, logs], default=str)


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"{}", b'{"access_token": 7}', b'{"access_token": "a\\nb"}', b"[]"]
)
async def test_a_token_answer_that_is_none_is_said(body: bytes, rounds: Any, ledger: Railz) -> None:
    ledger.faults.append(Fault(200, body=body, path="/getAccess"))
    world = rounds()
    with capture_logs() as logs:
        assert not await world.visit()
    assert next(entry["error"] for entry in logs if entry["event"] == "poll.failed")
    await world.visit(after=200)
    assert len(world.transport.requests) >= 3


# -- rows --------------------------------------------------------------------------------------------------------------


async def test_the_environment_is_the_keys(rounds: Any) -> None:
    """Pitfall 7: both are at one address."""
    make = lambda key: railz_pushes(secret_key=key).environment  # noqa: E731 - short
    assert (make("SB_1"), make("ID_1"), make("other")) == ("sandbox", "production", None)


@pytest.mark.parametrize(
    ("errors", "message", "fields"),
    [
        ([{"message": "a"}], "a", [{"field": None, "message": "a"}]),
        ([{"field": "x"}], None, [{"field": "x", "message": None}]),
        ([{"field": "x", "message": ["a", "b"]}], "a; b", [{"field": "x", "message": "a; b"}]),
        (["plain"], "plain", [{"field": None, "message": "plain"}]),
        ("text", "text", [{"field": None, "message": "text"}]),
        ({"message": "a"}, "a", [{"field": None, "message": "a"}]),
        (None, None, []),
        ([None, 7, [], {}], None, [{"field": None, "message": None}]),
    ],
)
async def test_what_was_wrong_is_read_however_it_is_written(
    errors: Any, message: Any, fields: Any, rounds: Any, ledger: Railz
) -> None:
    """Pitfalls 8, 9 and 11."""
    ledger.push("CON-1", push_id="p1", status="failed", code=500, errors=errors)
    world = rounds()
    await world.visit()
    [event] = world.told(PUSH)
    assert (event["data"]["message"], event["data"]["fields"]) == (message, fields)
    assert (event["outcome"], event["data"]["code"]) == ("failed", "500")


async def test_messages_can_be_left_out(rounds: Any, ledger: Railz) -> None:
    ledger.push("CON-1", push_id="p1", status="failed", batch="b", errors=[{"message": "Ada owes 7"}])
    world = rounds(messages=False)
    for _ in range(3):
        await world.visit()
    assert len(world.events()) == 2
    assert b"Ada owes" not in b"".join(event.body for event in world.events())


@pytest.mark.parametrize("completed", [None, "", "soon"])
@pytest.mark.parametrize("batch", ["b1", {"id": "b1"}, {}, 7])
async def test_rows_are_read_leniently(completed: Any, batch: Any, rounds: Any, ledger: Railz) -> None:
    """Pitfall 10."""
    more = {
        "completedOn": completed,
        "batchId": batch,
        "unheardOf": {"a": 1},
        "serviceName": "brandNew",
        "sourceObjectIds": None,
    }
    ledger.push("CON-1", push_id="p1", more=more)
    world = rounds()
    await world.visit()
    [event] = world.told(PUSH)
    assert event["data"]["completed_at"] is None
    assert event["data"]["object_ids"] == []
    assert event["data"]["batch_id"] == ("b1" if batch in ("b1", {"id": "b1"}) else None)


@pytest.mark.parametrize("message", [["a", "b"], "a", None, {"x": 1}, 7])
async def test_an_error_is_reported_with_any_message(message: Any, rounds: Any, ledger: Railz) -> None:
    body = json.dumps({"error": {"statusCode": 400, "message": message}, "payload": {}}).encode()
    ledger.faults.append(Fault(400, body=body, path=STATUS))
    world = rounds()
    with capture_logs() as logs:
        assert not await world.visit()
    error = next(entry["error"] for entry in logs if entry["event"] == "poll.failed")
    assert "400" in error
    assert ("a; b" in error) == (message == ["a", "b"])


async def test_a_refusal_names_the_connection_also_if_it_is_the_only_one(rounds: Any, ledger: Railz) -> None:
    ledger.faults.append(Fault(400, path=STATUS))
    world = rounds()
    with capture_logs() as logs:
        assert not await world.visit()
    error = next(entry["error"] for entry in logs if entry["event"] == "poll.failed")
    assert error.startswith("connection CON-1: GET ")
    assert "answered 400" in error


async def test_no_content_is_an_empty_list_and_not_ready_is_not(rounds: Any, ledger: Railz) -> None:
    """Pitfall 12."""
    ledger.quirks.empty = 204
    world = rounds()
    assert await world.visit()
    ledger.push("CON-1", push_id="p1")
    ledger.faults.append(Fault(202, path=STATUS))
    assert not await world.visit()
    assert await world.visit(after=200)
    assert ids(world) == ["p1:success"]


async def test_an_unknown_status_is_no_end_and_said_once(rounds: Any, ledger: Railz) -> None:
    push = ledger.push("CON-1", push_id="p1", status="reviewing")
    world = rounds()
    with capture_logs() as logs:
        for _ in range(4):
            await world.visit()
    assert ids(world) == []
    assert sum("'reviewing'" in entry.get("what", "") for entry in logs) == 1
    push.status = "success"
    await world.visit()
    assert ids(world) == ["p1:success"]


async def test_a_push_that_never_ends_is_said_once(rounds: Any, ledger: Railz) -> None:
    ledger.push("CON-1", push_id="p1", took=None)
    world = rounds()
    for _ in range(30):
        await world.visit(after=3600)
    [stalled] = world.told("roundsman.batch.stalled")
    assert stalled["data"]["details"] == {"id": "p1", "connection": "CON-1", "batch": None}


@pytest.mark.parametrize(("start", "told"), [("now", {"slow", "new"}), ("beginning", {"old", "slow", "new"})])
async def test_the_first_run_reports_the_past_only_if_asked(
    start: str, told: set[str], rounds: Any, ledger: Railz, time: Time
) -> None:
    ledger.push("CON-1", push_id="old")
    ledger.push("CON-1", push_id="slow", took=90 * MINUTE)
    time.advance(3600)
    world = rounds(start=start)
    await world.visit()
    ledger.push("CON-1", push_id="new")
    for _ in range(3):
        await world.visit(after=1000)
    assert {key.partition(":")[0] for key in ids(world)} == told


# -- batches -----------------------------------------------------------------------------------------------------------


async def test_a_batch_is_reported_once_when_nothing_of_it_is_pending(rounds: Any, ledger: Railz) -> None:
    """Pitfall 14."""
    for number in range(3):
        failed: Any = {"status": "failed", "code": 400, "errors": [{"message": "no"}]} if number == 1 else {}
        ledger.push("CON-1", push_id=f"p{number}", batch="b1", took=number * 2 * MINUTE, **failed)
    world = rounds()
    for _ in range(9):
        await world.visit()
    assert len(ids(world)) == 3
    [batch] = world.told(BATCH)
    assert batch["outcome"] == "partial"
    assert (batch["data"]["total"], batch["data"]["failed"]) == (3, 1)
    assert [f["item_id"] for f in batch["data"]["failures"]] == ["p1"]
    assert "groups" not in world.state["parts"]["CON-1"]


async def test_a_batch_whose_rows_appear_one_by_one_is_not_reported_too_early(
    rounds: Any, ledger: Railz, time: Time
) -> None:
    now = time.utc()
    for number in range(4):
        ledger.push(
            "CON-1", push_id=f"p{number}", batch="b1", requested=now, visible=now + number * 50 * SECOND
        )
    world = rounds()
    for _ in range(8):
        await world.visit()
    [batch] = world.told(BATCH)
    assert batch["data"]["total"] == 4


async def test_a_large_batch_is_looked_at_as_one(rounds: Any, ledger: Railz) -> None:
    for number in range(230):
        ledger.push("CON-1", push_id=f"p{number}", batch="b1", took=MINUTE * 3)
    world = rounds()
    for _ in range(8):
        await world.visit()
    [batch] = world.told(BATCH)
    assert batch["data"]["total"] == 230
    assert len(ids(world)) == 230


async def test_a_push_that_the_list_hides_is_reported_while_another_one_of_its_batch_is_pending(
    rounds: Any, ledger: Railz, time: Time
) -> None:
    ledger.quirks.paging, ledger.quirks.cap = "ignored", 20
    ledger.push("CON-1", push_id="hidden", batch="b1", took=30 * MINUTE, status="failed", code=400)
    world = rounds()
    await world.visit()
    for number in range(25):
        ledger.push("CON-1", push_id=f"p{number}", requested=time.utc() - SECOND)
    ledger.push("CON-1", push_id="shown", batch="b1", took=None)
    for _ in range(3):
        await world.visit(after=15 * 60)
    assert "hidden:failed" in ids(world)
    assert world.told(BATCH) == [], "the other one is pending"


async def test_deletes_are_watched_if_asked(rounds: Any, ledger: Railz) -> None:
    ledger.push("CON-1", push_id="d1", deletion=True)
    ledger.push("CON-1", push_id="p1")
    world = rounds(deletes=True)
    await world.visit()
    assert ids(world, "ai.railz.delete.completed") == ["d1:success"]
    assert ids(world) == ["p1:success"]


async def test_the_first_generation_asks_by_business(rounds: Any, ledger: Railz) -> None:
    ledger.push("CON-1", push_id="p1")
    world = rounds(api_version="v1", connections=["Harbour House"])
    await world.visit()
    assert ids(world) == ["p1:success"]


# -- tracking ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", ["p1", "CON-1/p1", "batch:b1", "CON-1/batch:b1"])
@pytest.mark.parametrize("connections", [1, 3])
async def test_what_is_tracked_is_followed_to_its_end(
    spec: str, connections: int, rounds: Any, ledger: Railz, time: Time
) -> None:
    for number in range(2, connections + 1):
        ledger.connect(f"CON-{number}")
    ledger.quirks.paging = "ignored"
    old = time.utc()
    for number in range(120):
        ledger.push("CON-1", push_id=f"x{number}")
    time.advance(3600)
    world = rounds(start="now")
    await world.visit()
    ledger.push("CON-1", push_id="p1", batch="b1", requested=old - MINUTE, took=80 * MINUTE)
    await world.store.follow("ledger", [spec])
    for _ in range(25):
        await world.visit()
    assert ids(world) == ["p1:success"]
    assert len(world.told(BATCH)) == 1
    assert "wanted" not in world.state
    await world.store.follow("ledger", [spec])
    for _ in range(3):
        await world.visit()
    assert len(world.events()) == len({e.id for e in world.events()})
    assert world.told("roundsman.batch.gone") == []


@pytest.mark.parametrize("spec", ["nosuch", "CON-1/nosuch", "CON-9/p1", "batch:nosuch"])
async def test_an_id_that_the_vendor_does_not_have_is_gone(spec: str, rounds: Any, ledger: Railz) -> None:
    ledger.connect("CON-2")
    world = rounds()
    await world.visit()
    await world.store.follow("ledger", [spec])
    for _ in range(5):
        await world.visit()
    assert len(world.told("roundsman.batch.gone")) == 1
    assert "wanted" not in world.state


@pytest.mark.parametrize("spec", ["CON-1/p1", "p1"])
async def test_what_is_tracked_waits_for_a_connection_that_fails(
    spec: str, rounds: Any, ledger: Railz, time: Time
) -> None:
    """Not having been asked is not the same as not being known."""
    ledger.connect("CON-2")
    ledger.quirks.paging = "ignored"
    world = rounds(start="now")
    await world.visit()
    push = ledger.push("CON-1", push_id="p1", requested=time.utc() - 90 * MINUTE)
    push.visible = time.utc() + 9000 * MINUTE  # in no list
    ledger.broken["CON-1"] = 404
    await world.store.follow("ledger", [spec])
    for _ in range(6):
        await world.visit()
    assert world.told("roundsman.batch.gone") == []
    del ledger.broken["CON-1"]
    push.visible = None
    for _ in range(32):
        await world.visit(after=4000)
    assert ids(world) == ["p1:success"]


async def test_an_offset_that_is_ignored_is_found_out_while_the_list_shifts(
    rounds: Any, ledger: Railz, time: Time
) -> None:
    ledger.quirks.paging = "ignored"
    for number in range(300):
        ledger.push("CON-1", push_id=f"p{number}", requested=time.utc() - number * SECOND)
    answer, count = ledger.answer, 300

    def busy(method: str, path: str, query: Any, headers: Any) -> Any:
        nonlocal count
        if path == STATUS:
            ledger.push("CON-1", push_id=f"p{count}")
            count += 1
        return answer(method, path, query, headers)

    ledger.answer = busy  # type: ignore[method-assign]
    world = rounds()
    await world.visit()
    ledger.answer = answer  # type: ignore[method-assign]
    await world.visit()
    assert len(world.told(GAP)) == 1


@pytest.mark.parametrize("spec", ["a b", "a/b/c", "", "batch:", "x" * 65, "ä"])
def test_what_is_no_id_is_refused(spec: str) -> None:
    with pytest.raises(ValueError, match="not the id of a push"):
        Pushes.follow({}, [spec])


@pytest.mark.parametrize(
    "options",
    [
        {"connections": []},
        {"connections": "all"},
        {"connections": [""]},
        {"api_version": "v1"},
        {"api_version": "v1", "connections": ["x"], "deletes": True},
        {"client_id": ""},
    ],
)
def test_what_does_not_fit_is_refused(options: Any) -> None:
    given = {"client_id": CLIENT_ID, "secret_key": SECRET_KEY, "connections": "discover"} | options
    with pytest.raises(ValidationError):
        Pushes(type="railz.pushes", **given)


async def test_only_reading_is_done(rounds: Any, ledger: Railz) -> None:
    """Pitfall 20."""
    ledger.push("CON-1", push_id="p1", batch="b1", took=MINUTE)
    world = rounds(deletes=True)
    for _ in range(4):
        await world.visit()
    assert {request.method for request in world.transport.requests} == {"GET"}
    await asyncio.sleep(0)


# -- lists that do not say how many they have -------------------------------------------------------------------------


@pytest.mark.parametrize("meta_count", ["total", "page"])
@pytest.mark.parametrize("count", [9, 100, 150, 230])
async def test_a_list_without_a_total_is_read_to_its_end(
    count: int, meta_count: Any, rounds: Any, ledger: Railz
) -> None:
    ledger.quirks.pagination, ledger.quirks.meta_count = False, meta_count
    for n in range(count):
        ledger.push("CON-1", push_id=f"p{n:04d}", status="failed")
    world = rounds()
    for _ in range(3):
        assert await world.visit()
    assert len(ids(world)) == count
    assert world.told(GAP) == []


@pytest.mark.parametrize("paging", ["ignored", "refused"])
async def test_a_full_list_without_pages_or_a_total_leaves_a_doubt_that_is_said(
    paging: Any, rounds: Any, ledger: Railz
) -> None:
    ledger.quirks.pagination, ledger.quirks.paging = False, paging
    for n in range(150):
        ledger.push("CON-1", push_id=f"p{n:04d}", status="failed")
    world = rounds(connections=["CON-1"])
    for _ in range(3):
        assert await world.visit()
    assert len(ids(world)) == 100
    [gap] = world.told(GAP)
    assert "does not state how many pushes it has, and shows 100" in gap["data"]["message"]


@pytest.mark.parametrize("paging", ["ignored", "refused"])
@pytest.mark.parametrize("count", [10, 20, 50, 100])
async def test_a_round_number_that_the_list_itself_states_is_no_gap(
    count: int, paging: Any, rounds: Any, ledger: Railz, time: Time
) -> None:
    ledger.quirks.paging = paging
    for n in range(count):
        ledger.push("CON-1", push_id=f"p{n:04d}", status="failed", requested=time.utc() - n * SECOND)
    world = rounds(connections=["CON-1"])
    for _ in range(3):
        assert await world.visit(after=3600)
    ledger.push("CON-1", push_id="late", status="failed", requested=time.utc())
    assert await world.visit(after=3600)
    assert "late:failed" in ids(world)
    assert len(world.told(GAP)) == (1 if count == 100 else 0), "101 are said and 100 shown"


async def test_a_stated_number_is_refuted_when_old_rows_leave_as_new_ones_come(
    rounds: Any, ledger: Railz, time: Time
) -> None:
    ledger.quirks.paging, ledger.quirks.miscounts = "ignored", "page"
    for n in range(150):
        ledger.push("CON-1", push_id=f"p{n:04d}", status="failed", requested=time.utc() - n * SECOND)
    world = rounds(connections=["CON-1"])
    await world.visit()
    assert world.told(GAP) == []
    ledger.push("CON-1", push_id="late", status="failed", requested=time.utc())
    await world.visit(after=60)
    [gap] = world.told(GAP)
    assert "older ones leave it when new ones come" in gap["data"]["message"]


async def test_where_offset_is_refused_a_larger_limit_shows_the_rest(rounds: Any, ledger: Railz) -> None:
    for n in range(250):
        ledger.push("CON-1", push_id=f"p{n:04d}", status="failed")
    ledger.quirks.refuses, ledger.quirks.cap = frozenset({"offset"}), 500
    world = rounds(connections=["CON-1"])
    await world.visit()
    assert (len(ids(world)), world.told(GAP)) == (250, [])


async def test_where_limit_is_refused_pages_are_read_without_it(rounds: Any, ledger: Railz) -> None:
    for n in range(250):
        ledger.push("CON-1", push_id=f"p{n:04d}", status="failed")
    ledger.quirks.refuses = frozenset({"limit"})
    world = rounds(connections=["CON-1"])
    await world.visit()
    assert (len(ids(world)), world.told(GAP)) == (250, [])


@pytest.mark.parametrize("status", [403, 405, 413, 429, 500, 503])
async def test_a_larger_answer_that_is_not_to_be_had_costs_nothing(
    status: int, rounds: Any, ledger: Railz, time: Time
) -> None:
    """It is a guess: what was read without it counts."""
    ledger.quirks.paging, ledger.quirks.pagination = "ignored", False
    for n in range(100):
        ledger.push("CON-1", push_id=f"p{n:04d}", status="failed", requested=time.utc() - n * SECOND)
    answer = ledger.answer

    def reply(method: str, path: str, query: Any, headers: Any) -> Any:
        if query.get("limit") == "500" and path == STATUS:
            return Reply(status, {}, b'{"message":"no"}')
        return answer(method, path, query, headers)

    ledger.answer = reply  # type: ignore[method-assign]
    world = rounds(connections=["CON-1"])
    for n in range(3):
        assert await world.visit(after=120)
        ledger.push("CON-1", push_id=f"new{n}", status="failed", requested=time.utc())
    await world.visit(after=120)
    assert len(ids(world)) == 103
    assert world.told("roundsman.source.failing") == []


@pytest.mark.parametrize("count", [249, 250, 260])
async def test_a_larger_answer_with_room_for_more_is_all_there_is(
    count: int, rounds: Any, ledger: Railz, time: Time
) -> None:
    ledger.quirks.refuses, ledger.quirks.cap, ledger.quirks.pagination = frozenset({"offset"}), 500, False
    for n in range(count):
        ledger.push("CON-1", push_id=f"p{n:04d}", status="failed", requested=time.utc() - n * SECOND)
    world = rounds(connections=["CON-1"])
    for n in range(4):
        await world.visit()
        for k in range(60):
            ledger.push("CON-1", push_id=f"n{n}-{k}", status="failed", requested=time.utc())
    await world.visit()
    assert len(set(ids(world))) == count + 240
    assert len(world.told(GAP)) == (1 if count == 260 else 0), "the last one is full with 500"


@pytest.mark.parametrize("pagination", [True, False])
async def test_a_fault_of_the_moment_at_a_larger_answer_is_no_gap(
    pagination: bool, rounds: Any, ledger: Railz, time: Time
) -> None:
    ledger.quirks.refuses, ledger.quirks.cap = frozenset({"offset"}), 500
    ledger.quirks.pagination = pagination
    for n in range(260):
        ledger.push("CON-1", push_id=f"p{n:04d}", status="failed", requested=time.utc() - n * SECOND)
    answer, faults = ledger.answer, [429, 500]

    def reply(method: str, path: str, query: Any, headers: Any) -> Any:
        if query.get("limit") == "500" and path == STATUS and faults:
            return Reply(faults.pop(), {}, b"{}")
        return answer(method, path, query, headers)

    ledger.answer = reply  # type: ignore[method-assign]
    world = rounds(connections=["CON-1"])
    for _ in range(4):
        await world.visit(after=120)
    assert len(ids(world)) == 260
    assert world.told(GAP) == []


@pytest.mark.parametrize("cap", [200, 240, 250])
async def test_a_larger_answer_that_is_cut_itself_is_a_gap_once_rows_leave_it(
    cap: int, rounds: Any, ledger: Railz, time: Time
) -> None:
    ledger.quirks.refuses, ledger.quirks.cap, ledger.quirks.pagination = frozenset({"offset"}), cap, False
    for n in range(400):
        ledger.push("CON-1", push_id=f"p{n:04d}", status="failed", requested=time.utc() - n * SECOND)
    world = rounds(connections=["CON-1"])
    for n in range(5):
        await world.visit()
        ledger.push("CON-1", push_id=f"n{n}", status="failed", requested=time.utc())
    await world.visit()
    assert len(world.told(GAP)) == 1


async def test_where_the_vendor_forgets_old_pushes_that_is_no_gap(
    rounds: Any, ledger: Railz, time: Time
) -> None:
    """A list that states 100 each time, because one leaves for good as one comes."""
    ledger.quirks.paging = "ignored"
    for n in range(100):
        ledger.push("CON-1", push_id=f"p{n:04d}", status="failed", requested=time.utc() - n * SECOND)
    world = rounds(connections=["CON-1"])
    for n in range(3):
        await world.visit()
        ledger.pushes["CON-1"].sort(key=lambda push: push.requested)
        del ledger.pushes["CON-1"][0]
        ledger.push("CON-1", push_id=f"new{n}", status="failed", requested=time.utc())
    await world.visit()
    assert len(ids(world)) == 103
    assert world.told(GAP) == []


async def test_all_connections_are_discovered_page_by_page(rounds: Any, ledger: Railz) -> None:
    """The list of connections has no total, also where the others have one."""
    ledger.quirks.cap = 20
    for n in range(70):
        ledger.connect(f"CON-more-{n}")
        ledger.push(f"CON-more-{n}", push_id=f"m{n}", status="failed")
    world = rounds()
    await world.visit()
    assert {f"m{n}:failed" for n in range(70)} <= set(ids(world))


# -- files inside a push ----------------------------------------------------------------------------------------------


async def test_a_file_that_failed_in_a_push_that_succeeded_is_a_failure(rounds: Any, ledger: Railz) -> None:
    files = [
        {"path": "2026/a.csv", "name": "a.csv", "status": "success"},
        {"path": "2026/b.csv", "name": "b.csv", "status": "failed", "message": "no header"},
    ]
    ledger.push("CON-1", push_id="p1", batch="b1", more={"files": files})
    ledger.push("CON-1", push_id="p2", batch="b1")
    world = rounds()
    for _ in range(4):
        await world.visit()
    [failed] = world.told("ai.railz.push.file_failed")
    assert failed["data"]["about"] == {"id": "2026/b.csv", "name": "b.csv"}
    assert failed["data"]["message"] == "no header"
    outcomes = {e["id"]: e["outcome"] for e in world.told("ai.railz.push.completed")}
    assert outcomes == {"p1:success": "partial", "p2:success": "succeeded"}
    [batch] = world.told("ai.railz.batch_push.completed")
    assert (batch["outcome"], batch["data"]["failed"]) == ("partial", 1)
    assert [event.id for event, _, _ in await world.store.failures()] == [failed["id"]], (
        "one failure, not two"
    )


@pytest.mark.parametrize("miscounts", ["page", "zero"])
async def test_a_total_that_is_that_of_the_page_is_none(miscounts: Any, rounds: Any, ledger: Railz) -> None:
    ledger.quirks.miscounts = miscounts
    for n in range(150):
        ledger.push("CON-1", push_id=f"p{n}", batch="b1")
    world = rounds(page_size=100)
    for _ in range(4):
        await world.visit()
    assert len(world.told("ai.railz.push.completed")) == 150
    [batch] = world.told("ai.railz.batch_push.completed")
    assert batch["data"]["total"] == 150


@pytest.mark.parametrize(
    "how",
    [
        {"status": "Failed"},
        {"status": "failure"},
        {"status": "unsupported"},
        {"status": 400},
        {"status": "422"},
        {"error": "broken"},
        {"responseCode": 422},
        {"status": "success", "errors": ["no header"]},
    ],
)
async def test_however_a_files_failure_is_written_it_is_one(how: Any, rounds: Any, ledger: Railz) -> None:
    good = {"name": "good.csv", "status": "success", "responseCode": 200, "errors": [], "error": None}
    ledger.push("CON-1", push_id="p1", more={"files": [good, {"name": "a.csv", **how}]})
    world = rounds()
    for _ in range(3):
        await world.visit()
    [failure] = world.told("ai.railz.push.file_failed")
    assert failure["data"]["about"]["name"] == "a.csv"


async def test_an_error_about_one_push_is_that_pushs_trouble(rounds: Any, ledger: Railz) -> None:
    ledger.push("CON-1", push_id="p1", took=None)
    world = rounds(connections=["CON-1"])
    await world.visit()
    ledger.pushes["CON-1"][0].hidden = True
    answered = ledger._status

    def stumbles(connection: Any, deletions: bool, query: Any, headers: Any) -> Any:
        if "pushCommunicationId" in query:
            return Reply(200, {}, b'{"status": "error"}')
        return answered(connection, deletions, query, headers)

    ledger._status = stumbles  # type: ignore[method-assign]
    ledger.push("CON-1", push_id="p2")
    for _ in range(3):
        assert await world.visit(after=120)
    assert {e["subject"] for e in world.told("ai.railz.push.completed")} == {"p2"}


async def test_files_of_one_name_are_failures_of_their_own(rounds: Any, ledger: Railz) -> None:
    files = [{"name": "a.csv", "status": "failed", "message": why} for why in ("no header", "too large")]
    ledger.push("CON-1", push_id="p1", batch="b1", more={"files": files})
    world = rounds()
    for _ in range(4):
        await world.visit()
    failures = world.told("ai.railz.push.file_failed")
    assert [each["data"]["message"] for each in failures] == ["no header", "too large"]
    [batch] = world.told("ai.railz.batch_push.completed")
    assert batch["data"]["failures"][0]["message"] == "no header; too large"


async def test_a_files_message_can_be_left_out_too(rounds: Any, ledger: Railz) -> None:
    files = [{"name": "a.csv", "status": "failed", "message": "customer Jane", "error": "Jane"}]
    ledger.push("CON-1", push_id="p1", batch="b1", more={"files": files})
    world = rounds(messages=False)
    for _ in range(4):
        await world.visit()
    assert len(world.told("ai.railz.push.file_failed")) == 1
    assert b"Jane" not in b"".join(event.body for event in world.events())


async def test_a_firewalls_answer_about_one_push_does_not_call_it_gone(rounds: Any, ledger: Railz) -> None:
    ledger.push("CON-1", push_id="p1", took=None)
    world = rounds(connections=["CON-1"])
    await world.visit()
    ledger.pushes["CON-1"][0].hidden = True
    page = b"<!DOCTYPE html><title>Blocked</title>"
    answered = ledger._status

    def blocked(connection: Any, deletions: bool, query: Any, headers: Any) -> Any:
        if "pushCommunicationId" in query:
            return Reply(404, {}, page)
        return answered(connection, deletions, query, headers)

    ledger._status = blocked  # type: ignore[method-assign]
    for _ in range(4):
        await world.visit(after=600)
    assert world.told("roundsman.batch.gone") == []


async def test_a_row_that_moves_over_the_edge_of_a_page_is_seen_in_the_same_reading(
    rounds: Any, ledger: Railz
) -> None:
    """A list shifts while it is read: pages overlap, so that what moves up is in one of them."""
    for n in range(150):
        ledger.push("CON-1", push_id=f"p{n:04d}", status="failed")
    world = rounds(connections=["CON-1"])
    page, asked = ledger._page, 0

    def shifting(rows: Any, query: Any, headers: Any, around: Any) -> Any:
        nonlocal asked
        asked += 1
        return page(rows[5:] if asked > 1 else rows, query, headers, around)

    ledger._page = shifting  # type: ignore[method-assign]
    await world.visit()
    assert len(ids(world)) == 150


async def test_a_batch_of_more_pushes_than_are_read_has_not_ended_while_some_are_pending(
    rounds: Any, ledger: Railz, time: Time
) -> None:
    ledger.quirks = Quirks(pagination=False, order="oldest")
    began = time.utc()
    for number in range(2000):
        took = timedelta(0) if number < 1900 else None
        requested = began + number * timedelta(milliseconds=1)
        ledger.push("CON-1", push_id=f"p{number}", batch="big", requested=requested, took=took)
    world = rounds()
    for _ in range(12):
        await world.visit()
    assert [
        event.document()["data"]["total"] for event in world.events("ai.railz.batch_push.completed")
    ] == []


async def test_a_push_ends_once_even_if_the_list_changes_later(rounds: Any, ledger: Railz) -> None:
    push = ledger.push("CON-1", push_id="p1", status="success")
    world = rounds()
    await world.visit()
    push.status = "failed"
    for _ in range(3):
        await world.visit()
    assert [event.id for event in world.events("ai.railz.push.completed")] == ["p1:success"]


@pytest.mark.parametrize("row", ["5", '{"status": "pending"}'])
async def test_a_batch_with_a_push_that_cannot_be_read_has_not_ended(
    row: str, rounds: Any, ledger: Railz, time: Time
) -> None:
    ledger.push("CON-1", push_id="p1", batch="b1")

    def trouble(path: str, query: Any) -> Reply | None:
        if "batchId" not in query:
            return None
        good = json.dumps(ledger.pushes["CON-1"][0].row(time.utc()))
        return Reply(200, {}, f'{{"data": [{good}, {row}]}}'.encode())

    answer = ledger.answer

    def changed(method: str, path: str, query: Any, headers: Any) -> Reply:
        return trouble(path, query) or answer(method, path, query, headers)

    ledger.answer = changed  # type: ignore[method-assign]
    world = rounds()
    for _ in range(6):
        await world.visit()
    assert [event.id for event in world.events("ai.railz.batch_push.completed")] == []


async def test_a_total_that_is_too_low_hides_no_push(rounds: Any, ledger: Railz, time: Time) -> None:
    for number in range(400):
        ledger.push("CON-1", push_id=f"p{number}", requested=time.utc() - timedelta(minutes=number))
    answer = ledger.answer

    def low(method: str, path: str, query: Any, headers: Any) -> Reply:
        reply = answer(method, path, query, headers)
        if not path.endswith("pushStatus") or reply.status != 200:
            return reply
        document = json.loads(reply.body)
        document["pagination"]["count"] = 150
        return Reply(200, {}, json.dumps(document).encode())

    ledger.answer = low  # type: ignore[method-assign]
    world = rounds()
    for _ in range(40):
        await world.visit()
    assert len({each.partition(":")[0] for each in ids(world)}) == 400


async def test_a_batch_whose_id_fits_in_no_query_stops_no_other_connection(
    rounds: Any, ledger: Railz
) -> None:
    ledger.connect("CON-2")
    ledger.push("CON-1", push_id="p1", batch="b" * 70_000)
    ledger.push("CON-2", push_id="p2")
    world = rounds()
    for _ in range(4):
        await world.visit()
    assert {each.partition(":")[0] for each in ids(world)} == {"p1", "p2"}


async def test_a_count_of_one_page_hides_no_push_with_any_number(
    rounds: Any, ledger: Railz, time: Time
) -> None:
    ledger.quirks = Quirks(cap=25, miscounts="page", order="oldest")
    for number in range(60):
        ledger.push("CON-1", push_id=f"p{number}", requested=time.utc() - timedelta(minutes=100 - number))
    world = rounds()
    for _ in range(40):
        await world.visit()
    assert len({each.partition(":")[0] for each in ids(world)}) == 60 or world.events(GAP)
