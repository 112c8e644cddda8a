"""What one id, job or connection that fails keeps from no other."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from jobs import ends, hidden_from_the_list, troubled, two_connections
from roundsman.sandbox import Parakey
from roundsman.sandbox.railz import Railz
from roundsman.sandbox.vendor import Reply
from roundsman.times import rfc3339
from worlds import Time, parakey_batches, railz_pushes

GONE, GAP = "roundsman.batch.gone", "roundsman.source.gap"


async def test_of_many_ids_that_may_be_in_any_connection_none_is_gone_unasked(
    world_of: Any, time: Time
) -> None:
    ledger = two_connections(time)
    ids = [f"p{number}" for number in range(130)]
    for each in ids:
        ledger.push("CON-2", push_id=each)
    hidden_from_the_list(ledger)
    world = await world_of(ledger, railz_pushes())
    await world.visit()
    await world.store.follow("ledger", ids)
    for _ in range(8):
        await world.visit()
    assert [event.id for event in world.events(GONE)] == []
    assert ends(world) == set(ids)


async def test_an_id_is_not_gone_where_the_vendor_asked_to_wait_before_it_was_searched(
    world_of: Any, time: Time
) -> None:
    ledger = two_connections(time)
    ledger.push("CON-2", push_id="busy", took=None)
    ledger.push("CON-2", push_id="wanted")
    hidden_from_the_list(ledger)

    def trouble(path: str, query: Mapping[str, str]) -> Reply | None:
        return Reply(429, {}, b"") if query.get("pushCommunicationId") == "busy" and busy else None

    busy = False
    troubled(ledger, trouble)
    world = await world_of(ledger, railz_pushes())
    await world.store.follow("ledger", ["CON-2/busy"])
    await world.visit()
    busy = True
    await world.store.follow("ledger", ["wanted"])
    for _ in range(3):
        await world.visit(200)
    busy = False
    for _ in range(4):
        await world.visit(4000)
    assert [event.id for event in world.events(GONE)] == []
    assert ends(world) == {"wanted"}


async def test_an_id_that_a_connection_cannot_answer_hides_no_other_id(world_of: Any, time: Time) -> None:
    ledger = two_connections(time)
    ledger.push("CON-1", push_id="good")
    hidden_from_the_list(ledger)

    def trouble(path: str, query: Mapping[str, str]) -> Reply | None:
        bad = query.get("pushCommunicationId") == "bad"
        return Reply(500, {}, b"") if bad and query.get("connectionUuid") == "CON-1" else None

    troubled(ledger, trouble)
    world = await world_of(ledger, railz_pushes())
    await world.visit()
    await world.store.follow("ledger", ["bad", "good"])
    for _ in range(100):
        await world.visit()
    assert ends(world) == {"good"}


async def test_pushes_that_cannot_be_asked_for_hide_no_batch(world_of: Any, time: Time) -> None:
    ledger = Railz(now=time.utc)
    ledger.connect("CON-1")
    bad = ["x1", "x2", "x3"]
    ledger.push("CON-1", push_id="member", batch="b1", took=timedelta(minutes=5))
    world = await world_of(ledger, railz_pushes())

    def trouble(path: str, query: Mapping[str, str]) -> Reply | None:
        return Reply(500, {}, b"") if query.get("pushCommunicationId") in bad else None

    troubled(ledger, trouble)
    await world.store.follow("ledger", [f"CON-1/{each}" for each in bad])
    for _ in range(60):
        await world.visit()
    assert ends(world) == {"member"}
    assert [event.id for event in world.events("ai.railz.batch_push.completed")] == ["b1:completed"]


async def test_a_listed_batch_that_began_before_the_start_and_ended_after_it_is_reported(
    world_of: Any, time: Time
) -> None:
    parakey = Parakey(now=time.utc)
    parakey.quirks.batch_list = True
    start = time.utc() + timedelta(minutes=5)
    parakey.batch([{"error": "no"}], batch_id="b1", took=timedelta(minutes=10))
    time.advance(1200)
    source = parakey_batches(request={"list_path": "/batches"}, start=rfc3339(start))
    world = await world_of(parakey, source)
    for _ in range(3):
        await world.visit()
    assert [event.id for event in world.events("co.parakey.batch.completed")] == ["b1:completed"]


@pytest.mark.parametrize(
    "reply",
    [
        Reply(200, {}, b'{"error": {"message": "later"}}'),
        Reply(200, {}, b"<html></html>"),
        Reply(403, {}, b'{"error": {"statusCode": 403, "message": ["not in your plan"]}}'),
    ],
    ids=["an error", "a page", "a refusal"],
)
async def test_connections_that_cannot_be_discovered_again_are_watched_on(
    reply: Reply, world_of: Any, time: Time
) -> None:
    ledger = two_connections(time)
    world = await world_of(ledger, railz_pushes())
    await world.visit()
    troubled(ledger, lambda path, query: reply if path.endswith("/connections") else None)
    time.advance(3600)
    ledger.push("CON-1", push_id="p1", status="failed", code=400)
    for _ in range(15):
        await world.visit(4000)
    assert ends(world) == {"p1"}


async def test_a_business_may_have_a_number_sign_in_its_name(world_of: Any, time: Time) -> None:
    ledger = Railz(now=time.utc)
    ledger.connect("CON-1", business="Shop #1")
    ledger.connect("CON-2", business="Shop #2")
    ledger.push("CON-1", push_id="p1", status="failed", code=400)
    ledger.push("CON-2", push_id="p2")
    source = railz_pushes(api_version="v1", connections=["Shop #1", "Shop #2"])
    world = await world_of(ledger, source)
    for _ in range(3):
        await world.visit()
    assert ends(world) == {"p1", "p2"}


async def test_a_list_that_is_forbidden_hides_no_tracked_batch(world_of: Any, time: Time) -> None:
    parakey = Parakey(now=time.utc)
    parakey.batch([{"error": "no"}], batch_id="b1")

    def trouble(path: str, query: Mapping[str, str]) -> Reply | None:
        return Reply(403, {}, b'{"message": "not for you"}') if path == "/batches" else None

    troubled(parakey, trouble)
    world = await world_of(parakey, parakey_batches(request={"list_path": "/batches"}))
    await world.store.follow("keys", ["b1"])
    for _ in range(4):
        await world.visit()
    assert [event.id for event in world.events("co.parakey.batch.completed")] == ["b1:completed"]


async def test_a_clock_that_was_ahead_hides_no_tracked_batch(world_of: Any, time: Time) -> None:
    parakey = Parakey(now=time.utc)
    ids = [f"b{number}" for number in range(90)]
    for each in ids:
        parakey.batch([{"error": "no"}], batch_id=each, took=None)
    world = await world_of(parakey, parakey_batches())
    await world.store.follow("keys", ids)
    time.advance(30 * 86400)
    for _ in range(6):
        await world.visit()
    time.wall -= 30 * 86400  # the clock is right again
    world.reboot()
    world.transport.requests.clear()
    for _ in range(3):
        await world.visit()
    asked = {request.url.path.rpartition("/")[2] for request in world.transport.requests}
    assert asked == set(ids), "30 at a visit: all have their turn in three"


async def test_an_id_that_no_connection_knows_is_not_searched_for_ever(world_of: Any, time: Time) -> None:
    ledger = Railz(now=time.utc)
    for number in range(10):
        ledger.connect(f"CON-{number}")
    ledger.broken["CON-7"] = 404  # its provider does not support this
    world = await world_of(ledger, railz_pushes())
    await world.visit()
    await world.store.follow("ledger", ["typo"])
    for _ in range(400):
        await world.visit()
    world.asked()
    for _ in range(100):
        await world.visit()
    searches = [query for query in world.asked() if "pushCommunicationId" in query]
    assert searches == []
