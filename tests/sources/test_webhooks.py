"""What webhooks must never do to the polls: nothing is settled too early, skipped, starved, hammered or hushed up by them."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from doors import MAILCHIMP, PARAKEY, RAILZ, TOKEN
from inside import understood, visit_for_a_ring
from rounds import Rounds, opened
from roundsman.plugin import Source
from roundsman.sandbox import Fault, Parakey
from roundsman.sandbox.mailchimp import Mailchimp, Operation, bad_address
from roundsman.sandbox.railz import Railz
from roundsman.webhook import Call, same
from worlds import Time, mailchimp_batches, parakey_batches, railz_pushes

SECOND = timedelta(seconds=1)


class Hooked(Rounds):
    """Visits by hand, and webhooks that arrive."""

    async def push(self, document: Any, *, ring: bool = True) -> None:
        """An authentic webhook; with `ring`, the visit that it rings for follows."""
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        mail, rings, _ = understood(self.engine.reception, self.source, Call(body, {}, self.time.now()))
        await self.store.receive(mail, self.time.now())
        if ring and rings:
            await self.ring()

    async def ring(self) -> bool:
        return await visit_for_a_ring(self.engine, self.source.name)

    def told_ids(self) -> list[str]:
        return sorted(event.id for event in self.events() if not event.type.startswith("roundsman."))

    def notices(self) -> list[str]:
        return [event.type for event in self.events("roundsman.*")]


@pytest.fixture
def railz(time: Time) -> Railz:
    vendor = Railz(now=time.utc)
    for number in range(5):
        vendor.connect(f"CON-{number}")
    return vendor


@pytest.fixture
def hooked(tmp_path: Path, time: Time) -> Iterator[Any]:
    yield from opened(lambda vendor, source: Hooked(tmp_path, vendor, time, source))


def ledger(**more: Any) -> Source:
    return railz_pushes(webhook=RAILZ, **more)


def pushed(vendor: Railz, push: Any, **without: Any) -> dict[str, Any]:
    """The webhook of one push; like the documented one, it does not name the batch."""
    row = {k: v for k, v in push.row(vendor.now()).items() if k != "batchId"}
    return {"data": {"event": "push", "connectionId": push.connection, **row, **without}}


def form(key: str) -> bytes:
    return f"type=batch_operation_completed&data%5Bid%5D={key}".encode()


# -- nothing is settled too early, or never ----------------------------------------------------------------------------


async def test_pushes_reported_by_webhooks_do_not_hide_their_batch(railz: Railz, hooked: Any) -> None:
    world = hooked(railz, ledger())
    await world.visit()
    for number in range(2):
        push = railz.push("CON-0", push_id=f"p{number}", batch="b1")
        await world.push(pushed(railz, push))
    for _ in range(3):
        await world.visit()
    assert world.told_ids() == ["b1:completed", "p0:success", "p1:success"]


async def test_a_batch_that_was_given_up_is_not_opened_again_by_its_pushes(railz: Railz, hooked: Any) -> None:
    world = hooked(railz, ledger())
    push = railz.push("CON-0", push_id="p0", batch="b1", took=30 * SECOND)
    await world.visit()
    push.hidden = True
    for _ in range(4):
        await world.visit()
    assert "roundsman.batch.gone" in world.notices()
    push.hidden = False
    for number in range(4):
        railz.push("CON-0", push_id=f"q{number}")
        await world.visit()
        assert world.state["parts"]["CON-0"].get("groups", {}) == {}


async def test_two_looks_that_rings_brought_close_together_do_not_end_a_batch(
    railz: Railz, hooked: Any, time: Time
) -> None:
    """A row that becomes visible half a minute later still counts."""
    world = hooked(railz, ledger())
    await world.visit()
    railz.push("CON-0", push_id="p1", batch="b1")
    railz.push("CON-0", push_id="p2", batch="b1", visible=time.utc() + 75 * SECOND, status="failed")
    await world.visit()
    for _ in range(5):
        time.advance(5)
        await world.push(pushed(railz, railz.push("CON-0"), status=None))
    assert "b1:completed" not in world.told_ids()
    for _ in range(3):
        await world.visit()
    [batch] = world.told("ai.railz.batch_push.completed")
    assert (batch["data"]["total"], batch["data"]["failed"]) == (2, 1)


@pytest.mark.parametrize("kind", ["parakey", "mailchimp"])
async def test_two_answers_that_rings_brought_close_together_do_not_make_a_batch_gone(
    kind: str, hooked: Any, time: Time
) -> None:
    if kind == "parakey":
        vendor: Any = Parakey(time.utc)
        world = hooked(vendor, parakey_batches(webhook=PARAKEY))
        said: Any = {"id": "b1", "status": "processing", "items": []}
        path = "/batches/b1"
    else:
        vendor = Mailchimp(time.utc)
        world = hooked(vendor, mailchimp_batches(webhook=MAILCHIMP))
        said, path = form("b1"), "/3.0/batches/b1"
    await world.visit()
    vendor.faults.extend([Fault(404, body=b"{}", path=path)] * 3)
    for _ in range(3):
        await world.push(said)
        time.advance(5)
    vendor.faults.clear()
    if kind == "parakey":
        vendor.batch([{}, {"error": {"message": "no"}}], batch_id="b1")
    else:
        vendor.add([Operation(), bad_address("a@b.example")], batch_id="b1")
    await world.visit()
    await world.visit()
    assert "b1:completed" in world.told_ids()
    assert "roundsman.batch.gone" not in world.notices()


async def test_a_batch_without_a_state_is_looked_at_again_an_interval_later(hooked: Any, time: Time) -> None:
    vendor = Parakey(time.utc)
    answer = vendor.reply
    items: list[dict[str, Any]] = [{"id": "1", "success": True}]

    def reply(method: str, path: str, query: Any, headers: Any) -> Any:
        found = answer(method, path, query, headers)
        return (
            type(found)(200, {}, json.dumps({"id": "b1", "items": items}).encode()) if "b1" in path else found
        )

    vendor.reply = reply  # type: ignore[method-assign]
    world = hooked(vendor, parakey_batches(webhook=PARAKEY))
    await world.visit()
    for _ in range(4):
        await world.push({"id": "b1", "status": "processing", "items": []})
        time.advance(6)
    items.append({"id": "2", "error": {"message": "no"}})
    for _ in range(3):
        await world.visit()
    assert world.told_ids() == ["b1:2:failed", "b1:completed"]


@pytest.mark.parametrize("said", [{}, {"items": [{"id": "1", "status": "who knows"}]}])
async def test_a_webhook_that_does_not_say_what_failed_is_asked_about(
    said: dict[str, Any], hooked: Any, time: Time
) -> None:
    vendor = Parakey(time.utc)
    world = hooked(vendor, parakey_batches(webhook=PARAKEY))
    await world.visit()
    vendor.batch([{}, {"error": {"message": "no"}}], batch_id="b1")
    await world.push({"id": "b1", "status": "completed", **said})
    assert world.told_ids() == ["b1:1:failed", "b1:completed"]


async def test_items_that_a_webhook_numbers_otherwise_are_not_reported_again(hooked: Any, time: Time) -> None:
    vendor = Parakey(time.utc)
    world = hooked(vendor, parakey_batches(webhook=PARAKEY))
    vendor.batch([{}, {"error": {"message": "no"}}], batch_id="b1")
    await world.store.follow("keys", ["b1"])
    failed = {"id": "another-id", "status": "failed", "error": {"message": "no"}}
    await world.push(
        {"id": "b1", "status": "completed", "items": [{"id": "x", "status": "succeeded"}, failed]}
    )
    for _ in range(3):
        await world.visit()
    assert world.told_ids() == ["b1:another-id:failed", "b1:completed"]


async def test_a_late_webhook_does_not_turn_a_finished_push_back(railz: Railz, hooked: Any) -> None:
    world = hooked(railz, ledger())
    push = railz.push("CON-0", push_id="p1", status="failed", errors=[])
    await world.visit()
    for late in ({"status": "pending"}, {"status": "success"}, {}):
        await world.push({"data": {**pushed(railz, push)["data"], **late}})
    await world.visit()
    assert world.told_ids() == ["p1:failed"]


async def test_a_batch_of_which_a_push_cannot_be_read_is_asked_for(railz: Railz, hooked: Any) -> None:
    world = hooked(railz, ledger())
    await world.visit()
    push = railz.push("CON-0", push_id="p1", batch="b1")
    railz.push("CON-0", push_id="p2", batch="b1", status="failed")
    data = {"event": "batchPush", "connectionId": "CON-0", "batchId": "b1"}
    await world.push({"data": {**data, "batch": [push.row(railz.now()), None]}})
    for _ in range(2):
        await world.visit()
    [batch] = world.told("ai.railz.batch_push.completed")
    assert (batch["data"]["total"], batch["data"]["failed"]) == (2, 1)


# -- no source is starved, and no vendor hammered ----------------------------------------------------------------------


async def test_webhooks_of_a_broken_connection_starve_no_other(railz: Railz, hooked: Any, time: Time) -> None:
    world = hooked(railz, ledger())
    await world.visit()
    railz.broken["CON-0"] = 500
    railz.push("CON-1", push_id="p1", took=600 * SECOND)
    for _ in range(60):
        time.advance(20)
        await world.push({"data": {"event": "push", "connectionId": "CON-0", "pushCommunicationId": "x1"}})
        await world.engine.once()
    assert "p1:success" in world.told_ids()
    assert (await world.status()).failing_since is None
    [trouble] = world.told("roundsman.source.failing")
    assert "CON-0" in trouble["data"]["message"], "the connection's, not the source's"


async def test_a_webhook_asks_for_no_more_than_it_named(railz: Railz, hooked: Any, time: Time) -> None:
    world = hooked(railz, ledger(deletes=True))
    await world.visit()
    railz.push("CON-3", push_id="p1")
    world.asked()
    await world.push({"data": {"event": "push", "connectionId": "CON-3", "pushCommunicationId": "p1"}})
    assert {query["connectionUuid"] for query in world.asked()} == {"CON-3"}
    assert "p1:success" in world.told_ids()
    await world.push({"data": {"event": "delete", "connectionId": "CON-3", "deleteCommunicationId": "d1"}})
    assert world.asked() == [], "left to the next visit"
    for _ in range(3):
        time.advance(6)
        await world.push({"data": {"event": "push", "connectionId": "CON-new", "pushCommunicationId": "n1"}})
        assert not [query for query in world.asked() if "connectionUuid" in query]


async def test_a_webhook_of_one_batch_asks_for_no_other(hooked: Any, time: Time) -> None:
    vendor = Parakey(time.utc)
    keys = hooked(vendor, parakey_batches(webhook=PARAKEY))
    for number in range(20):
        vendor.batch([{}], batch_id=f"b{number}", took=None)
    await keys.store.follow("keys", [f"b{number}" for number in range(20)])
    await keys.visit()
    keys.transport.requests.clear()
    await keys.push({"id": "b20", "status": "processing", "items": []})
    assert [request.url.path for request in keys.transport.requests] == ["/batches/b20"]


async def test_a_ring_that_fails_moves_no_visit_that_is_due_and_is_rung_again(
    hooked: Any, time: Time
) -> None:
    vendor = Mailchimp(time.utc)
    world = hooked(vendor, mailchimp_batches(webhook=MAILCHIMP, interval=6 * 3600))
    await world.visit()
    due = (await world.status()).due
    vendor.add([Operation()], batch_id="b1")
    vendor.faults.extend([Fault(500, path="/3.0/batches/b1")] * 9)
    for number in range(1, 4):
        await world.push(form("b1"), ring=False)
        assert not await world.ring()
        fate = await world.status()
        assert (fate.due, fate.failures, fate.ring_failures) == (due, 0, number)
    vendor.faults.clear()
    assert await world.ring()
    assert world.told_ids() == ["b1:completed"]
    fate = await world.status()
    assert (fate.due, fate.ring_failures) == (due, 0)


async def test_a_refused_key_is_loud_when_a_ring_finds_out(hooked: Any, time: Time) -> None:
    vendor = Mailchimp(time.utc)
    world = hooked(vendor, mailchimp_batches(webhook=MAILCHIMP, interval=6 * 3600))
    await world.visit()
    vendor.key = "another"
    await world.push(form("b1"))
    assert world.notices() == ["roundsman.source.failing"]


async def test_rings_that_go_well_do_not_hush_up_that_the_visits_fail(hooked: Any, time: Time) -> None:
    """The list is broken for hours, while single batches answer: the source fails, and its visits keep their pauses."""
    vendor = Mailchimp(time.utc)
    world = hooked(vendor, mailchimp_batches(webhook=MAILCHIMP))
    await world.visit()
    answer = vendor.answer
    lists = 0

    def reply(method: str, path: str, query: Any, headers: Any) -> Any:
        nonlocal lists
        if path == "/3.0/batches":
            lists += 1
            vendor.faults.append(Fault(500, path=path))
        return answer(method, path, query, headers)

    vendor.answer = reply  # type: ignore[method-assign]
    for number in range(200):
        time.advance(30)
        vendor.add([Operation()], batch_id=f"b{number}")
        await world.push(form(f"b{number}"))
        await world.engine.once()
    assert world.notices().count("roundsman.source.failing") == 1
    assert "roundsman.source.recovered" not in world.notices()
    assert lists < 30
    assert len(world.told_ids()) == 200


async def test_a_pause_that_the_vendor_asked_for_lasts_over_a_restart(hooked: Any, time: Time) -> None:
    vendor = Mailchimp(time.utc)
    world = hooked(vendor, mailchimp_batches(webhook=MAILCHIMP))
    await world.visit()
    vendor.faults.append(Fault(429, headers={"Retry-After": "3000"}))
    await world.visit()
    world.reboot()
    world.engine.turns.ring("news")
    assert (await world.status()).ring_at is None or (await world.status()).ring_at >= time.now() + 2900


async def test_a_restart_remembers_what_a_webhook_named(hooked: Any, time: Time) -> None:
    """The ring is gone with the process; what it was for waits on the disk, and no list would show it."""
    vendor = Parakey(time.utc)
    world = hooked(vendor, parakey_batches(webhook=PARAKEY))
    await world.visit()
    await world.push({"id": "b1", "status": "processing", "items": []}, ring=False)
    vendor.batch([{"error": {"message": "no"}}], batch_id="b1")
    world.reboot()
    await world.visit()
    assert world.told_ids() == ["b1:0:failed", "b1:completed"]
    memory = await world.store.memory("keys")
    assert (memory.ids, memory.taken) == ([], 0)


async def test_nothing_rings_any_more_while_it_stops(hooked: Any, time: Time) -> None:
    world = hooked(Mailchimp(time.utc), mailchimp_batches(webhook=MAILCHIMP))
    await world.visit()
    world.engine.stop()
    world.engine.turns.ring("news")
    assert (await world.status()).ring_at is None


def test_tokens_are_in_no_url_that_is_shown() -> None:
    from roundsman.cli import registrations

    source = mailchimp_batches(webhook=MAILCHIMP)
    for url in (
        f"https://x/hooks/news/{TOKEN}",
        "https://x/a/hooks/news/an-older-token-1234",
        "https://x/hooks/other/t0k?x",
    ):
        shown = registrations.masked(source, url)
        assert shown.endswith(("/***", "/***?x"))


def test_secrets_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []

    def noted(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return one == other

    monkeypatch.setattr("roundsman.webhook.hmac.compare_digest", noted)
    assert same("a", "a")
    assert not same("a", "b")
    assert compared == [(b"a", b"a"), (b"a", b"b")]
