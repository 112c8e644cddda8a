"""The receiver's answers: only the vendor is believed, nothing is acknowledged before it is on the disk, no caller gets 410."""

import asyncio
import contextlib
import hashlib
import hmac
import json
import re
import sqlite3
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Literal

import pytest
import structlog

from doors import HEADER, MAILCHIMP, PARAKEY, RAILZ, SECRET, TOKEN, VALUE, Door, open_door, until
from inside import answered, being_taken, locked, statements, statuses
from roundsman import screen
from roundsman.cli.hooks import hooks_app
from roundsman.http.client import Http
from roundsman.plugin import Poll, Received, Source, State
from roundsman.sandbox.vendor import signature
from roundsman.store import StoreError
from roundsman.store.sqlite.store import SqliteStore
from roundsman.terminal.terminal import Terminal
from roundsman.web import app as web_app
from roundsman.webhook import Call
from worlds import an_event, event_logs, mailchimp_batches, parakey_batches, railz_pushes

KEY = {HEADER: VALUE}
LOG = {
    "id": "log1",
    "createdAt": "2026-11-21T10:00:00Z",
    "timestamp": "2026-11-21T10:00:00Z",
    "success": True,
}
FORM = b"type=batch_operation_completed&fired_at=2026-01-05+10%3A00%3A44&data%5Bid%5D=8b2428d747&data%5Bstatus%5D=finished"
PUSH = {
    "data": {
        "event": "push",
        "connectionId": "CON-1",
        "serviceName": "xero",
        "pushCommunicationId": "p1",
        "status": "success",
        "responseCode": 200,
        "completedOn": "2026-11-21T10:00:00.000Z",
        "sourceObjectIds": ["7"],
        "dataType": "journalEntries",
    }
}


class Odd(Source):
    """A source whose `receive` does what the body says."""

    type: Literal["odd"] = "odd"
    base_url: str = "http://127.0.0.1:1"

    async def poll(self, http: Http, state: State) -> Poll:
        return Poll(state)

    def receive(self, call: Call) -> Received:
        match call.body:
            case b"raise":
                raise RuntimeError("a bug")
            case b"recursion":
                raise RecursionError
            case b"nonsense":
                return None  # type: ignore[return-value]
            case b"poison":
                event = an_event(1, self.name)
                return Received([type(event)(event.id + "\ud800", self.name, event.type, None, event.body)])
        return Received([an_event(int(call.body), self.name)])


class Plain(Source):
    """A source that knows nothing of webhooks."""

    type: Literal["plain"] = "plain"
    base_url: str = "http://127.0.0.1:1"

    async def poll(self, http: Http, state: State) -> Poll:
        return Poll({"visits": state.get("visits", 0) + 1})


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    """All kinds of sources, of which only the listening runs."""
    sources = [
        event_logs(webhook=PARAKEY),
        parakey_batches(webhook=PARAKEY),
        mailchimp_batches(webhook=MAILCHIMP),
        railz_pushes(webhook=RAILZ),
        event_logs("deaf"),
        Odd(webhook={"token": TOKEN}).named("odd"),
        Plain(webhook={"token": TOKEN}).named("plain"),
    ]
    async with open_door(tmp_path, *sources, rounds=False) as door:
        yield door


def sign(body: bytes, scheme: str, door: Door, ago: float = 0.0, secret: str = SECRET) -> dict[str, str]:
    now = door.engine.reception.now() - ago
    if scheme == "mailchimp":
        return {"x-mailchimp-signature": signature(secret, str(int(now)), "v1", body)}
    return {"railz-signature": signature(secret, str(int(now * 1000)), "v", body)}


def refused(door: Door) -> Mapping[tuple[str, str], int]:
    return door.engine.meter.webhooks


NEWS = f"/hooks/news/{TOKEN}"


async def test_what_is_authentic_is_taken(door: Door) -> None:
    assert await door.post("/hooks/doors", LOG, KEY) == 200
    assert await door.post(NEWS, FORM, sign(FORM, "mailchimp", door)) == 200
    body = json.dumps(PUSH).encode()
    assert await door.post("/hooks/ledger", body, sign(body, "railz", door)) == 200
    assert door.ids() == ["log1", "p1:success"]
    assert (await door.store.memory("news")).ids == ["8b2428d747"]
    assert (await door.status("news")).ring_at is not None


async def test_what_the_log_has_is_acknowledged_and_not_reported_again(door: Door) -> None:
    for _ in range(3):
        assert await door.post("/hooks/doors", LOG, KEY) == 200
    assert door.ids() == ["log1"]


@pytest.mark.parametrize(
    ("path", "headers", "reason"),
    [
        ("/hooks/doors", {}, "no header"),
        ("/hooks/doors", {HEADER: VALUE + "x"}, "wrong header"),
        ("/hooks/doors", {HEADER: VALUE[:-1]}, "wrong header"),
        ("/hooks/doors", {HEADER: ""}, "wrong header"),
        ("/hooks/news", {}, "wrong token"),
        ("/hooks/news/another-token-of-24-letters", {}, "wrong token"),
        (NEWS, {}, "no signature"),
        (NEWS, {"x-mailchimp-signature": "t=1,v2=00"}, "unreadable signature"),
        (NEWS, {"x-mailchimp-signature": "v1=00"}, "unreadable signature"),
        (NEWS, {"x-mailchimp-signature": "t=1,t=2,v1=00"}, "unreadable signature"),
        (NEWS, {"x-mailchimp-signature": "t=-1,v1=00"}, "unreadable signature"),
        (NEWS, {"x-mailchimp-signature": "t=" + "9" * 400 + ",v1=00"}, "unreadable signature"),
        (NEWS, {"x-mailchimp-signature": "t=1,v1=" + "0" * 64}, "wrong signature"),
        ("/hooks/ledger", {}, "no signature"),
        ("/hooks/ledger", {"railz-signature": "t=1,v=" + "0" * 64}, "wrong signature"),
    ],
)
async def test_a_caller_that_is_not_the_vendor_is_refused(
    door: Door, path: str, headers: dict[str, str], reason: str
) -> None:
    assert await door.post(path, FORM, headers) == 401
    assert refused(door)[path.split("/")[2], reason] == 1
    assert door.ids() == []


@pytest.mark.parametrize(("scheme", "path"), [("mailchimp", NEWS), ("railz", "/hooks/ledger")])
async def test_a_signature_is_good_for_five_minutes_either_way(door: Door, scheme: str, path: str) -> None:
    body = FORM if scheme == "mailchimp" else json.dumps(PUSH).encode()
    for ago, status in ((295, 200), (305, 401), (-290, 200), (-310, 401)):
        assert await door.post(path, body, sign(body, scheme, door, ago)) == status, ago
    assert refused(door)[path.split("/")[2], "stale signature"] == 2


async def test_a_signature_is_of_the_raw_body(door: Door) -> None:
    body = json.dumps(PUSH).encode()
    assert await door.post("/hooks/ledger", body + b" ", sign(body, "railz", door)) == 401
    spaced = json.dumps(PUSH, indent=3).encode() + b"\n\n"
    assert await door.post("/hooks/ledger", spaced, sign(spaced, "railz", door)) == 200


async def test_several_signatures_and_several_secrets_are_tried(door: Door) -> None:
    now = int(door.engine.reception.now())
    good = hmac.new(SECRET.encode(), f"{now}.".encode() + FORM, hashlib.sha256).hexdigest()
    both = {"X-Mailchimp-Signature": f"t={now}, v1={'0' * 64}, v1={good.upper()}"}
    assert await door.post(NEWS, FORM, both) == 200
    body = json.dumps(PUSH).encode()
    assert await door.post("/hooks/ledger", body, sign(body, "railz", door, secret="another-one")) == 200


async def test_a_time_in_seconds_is_no_time_in_milliseconds(door: Door) -> None:
    body = json.dumps(PUSH).encode()
    seconds = str(int(door.engine.reception.now()))
    assert (
        await door.post("/hooks/ledger", body, {"railz-signature": signature(SECRET, seconds, "v", body)})
        == 401
    )


async def test_without_webhooks_there_is_no_path_for_them(door: Door) -> None:
    for path in (
        "/hooks/nobody",
        "/hooks/deaf",
        "/hooks/doors/some-token-of-24-letters",
        "/hooks/",
        "/",
        "/hooks/doors/",
        "/hooks/a/b/c",
    ):
        assert await door.post(path, LOG, KEY) == 404
    assert refused(door)["", "unknown source"] == 6


async def test_a_refusal_of_no_source_names_none(door: Door) -> None:
    with structlog.testing.capture_logs() as logs:
        assert await door.post("/hooks/nobody", LOG, KEY) == 404
    [line] = [line for line in logs if line["event"] == "webhook.refused"]
    assert line["reason"] == "unknown source"
    assert line["path"] == "/hooks/nobody"
    assert "source" not in line


async def test_the_vendor_may_try_the_address(door: Door) -> None:
    for method in ("GET", "HEAD"):
        assert (await door.client.request(method, door.url + NEWS)).status_code == 200
        assert (await door.client.request(method, f"{door.url}/hooks/news/{'x' * 24}")).status_code == 401
        assert (await door.client.request(method, f"{door.url}/hooks/doors", headers=KEY)).status_code == 405
    assert (await door.store.memory("news")).ids == []
    for method in ("PUT", "DELETE", "OPTIONS", "PATCH"):
        answer = await door.client.request(method, f"{door.url}/hooks/doors", headers=KEY)
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/hooks/doors", b""),
        ("/hooks/doors", b"not json"),
        ("/hooks/doors", b"[1]"),
        ("/hooks/doors", b"{}"),
        (
            "/hooks/doors",
            b'{"id": "b1", "createdAt": "2026-11-21T10:00:00Z", "status": "completed", "items": []}',
        ),
        ("/hooks/doors", b"[" * 100_000),
        ("/hooks/doors", b'{"id": "' + b"\xff" * 10 + b'"}'),
        ("/hooks/keys", b'{"id": "log1", "timestamp": "2026-11-21T10:00:00Z"}'),
        ("/hooks/keys", b'{"status": "completed"}'),
        ("/hooks/keys", b'{"id": "../x", "status": "completed"}'),
        (NEWS, b""),
        (NEWS, b"type=subscribe&data%5Bid%5D=8b2428d747"),
        (NEWS, b"type=batch_operation_completed"),
        (NEWS, b"type=batch_operation_completed&data%5Bid%5D=a&data%5Bid%5D=b"),
        (NEWS, b"type=batch_operation_completed&data%5Bid%5D=..%2F..%2Fx"),
        (NEWS, b"&".join(b"a%d=1" % n for n in range(2000))),
        (NEWS, b'{"type": "batch_operation_completed"}'),
        ("/hooks/ledger", b"{}"),
        ("/hooks/ledger", b'{"data": []}'),
        ("/hooks/ledger", b'{"data": {"event": "brandNew"}}'),
        ("/hooks/ledger", b'{"data": {"event": ["push"]}}'),
        ("/hooks/ledger", b'{"data": {"event": "push"}}'),
        ("/hooks/ledger", b'{"data": {"event": "batchPush", "batch": []}}'),
        ("/hooks/ledger", b'{"data": {"event": "delete", "deleteCommunicationId": "d1"}}'),
        (f"/hooks/odd/{TOKEN}", b"raise"),
        (f"/hooks/odd/{TOKEN}", b"recursion"),
        (f"/hooks/odd/{TOKEN}", b"nonsense"),
    ],
)
async def test_what_is_authentic_and_not_understood_is_kept_and_thanked_for(
    door: Door, path: str, body: bytes
) -> None:
    headers = {**KEY, **sign(body, "mailchimp", door), **sign(body, "railz", door)}
    with structlog.testing.capture_logs() as logs:
        assert await door.post(path, body, headers) == 200
    name = path.split("/")[2]
    [kept] = await door.store.unread(name)
    assert kept.body == body
    assert kept.why
    assert refused(door)[name, "unread"] == 1
    assert [line["event"] for line in logs] == ["webhook.unread"]
    assert door.ids() == []


async def test_a_webhook_that_cannot_be_stored_is_kept_and_those_beside_it_are_taken(door: Door) -> None:
    path = f"/hooks/odd/{TOKEN}"
    statuses = await asyncio.gather(*(door.post(path, body) for body in (b"1", b"poison", b"2")))
    assert statuses == [200, 200, 200]
    assert sorted(door.ids()) == ["id00001", "id00002"]
    assert len(await door.store.unread("odd")) == 1


async def test_a_source_that_knows_nothing_of_webhooks_is_rung_for(tmp_path: Path) -> None:
    plain = Plain(interval=3600, webhook={"token": TOKEN}).named("plain")
    async with open_door(tmp_path, plain) as door:
        await until(lambda: answered(door.engine, "plain"))
        assert await door.post(f"/hooks/plain/{TOKEN}", b"whatever it says") == 200
        await until(lambda: door.polls("plain", 2))
        assert await door.store.unread("plain") == []


async def test_too_much_is_refused_while_it_comes(door: Door) -> None:
    assert await door.post("/hooks/doors", b"x" * (web_app.LARGEST + 1), KEY) == 413

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"x" * 65536

    answer = await door.client.post(f"{door.url}/hooks/doors", content=endless(), headers=KEY)
    assert answer.status_code == 413
    assert refused(door)["doors", "too large"] == 2
    assert await door.post("/hooks/doors", b" " * web_app.LARGEST, KEY) == 200, "just fits"


async def test_without_a_disk_nothing_is_acknowledged(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> list[int]:
        raise StoreError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(SqliteStore, "receive", full)
        answer = await door.client.post(f"{door.url}/hooks/doors", content=json.dumps(LOG), headers=KEY)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert "disk" not in answer.text
    assert await door.post("/hooks/doors", LOG, KEY) == 200
    assert door.ids() == ["log1"]


async def test_the_answer_comes_after_the_commit_and_many_share_one(door: Door) -> None:
    async def one(number: int) -> None:
        assert await door.post("/hooks/doors", {**LOG, "id": f"log{number}"}, KEY) == 200
        with contextlib.closing(sqlite3.connect(f"file:{door.store.path}?mode=ro", uri=True)) as other:
            found = other.execute("SELECT count(*) FROM events WHERE id = ?", (f"log{number}",)).fetchone()
        assert found == (1,), "for any reader when the answer is there"

    with statements(door.store) as said:
        with locked(door.store, "DELETE FROM inbox"):
            posted = [asyncio.create_task(one(number)) for number in range(40)]
            await until(lambda: being_taken(door.engine) == 40)
        await asyncio.gather(*posted)
    transactions = ["INSERT INTO events" in each for each in "\n".join(said).split("COMMIT")]
    assert 1 <= sum(transactions) <= 4, "as many in one as can be inserted within some milliseconds"


async def test_refusals_are_logged_seldom_and_without_what_was_sent(door: Door) -> None:
    with structlog.testing.capture_logs() as logs:
        for _ in range(20):
            await door.post("/hooks/doors", b"a private body", {HEADER: "a guessed secret"})
    [line] = [line for line in logs if line["event"] == "webhook.refused"]
    assert line == {
        "event": "webhook.refused",
        "log_level": "warning",
        "source": "doors",
        "reason": "wrong header",
        "calls": 1,
    }
    assert refused(door)["doors", "wrong header"] == 20


async def test_status_and_hooks_unread_show_what_went_wrong(
    door: Door, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    await door.post("/hooks/doors", LOG, KEY)
    await door.post("/hooks/doors", b"garbage with a name in it", KEY)
    for _ in range(3):
        await door.post("/hooks/doors", LOG, {HEADER: "another"})
    await door.engine.reception.flush()
    found = await screen.status(door.store)
    [row] = [row for row in found["sources"] if row["name"] == "doors"]
    shown = {key: row[key] for key in ("webhooks", "unread", "refused", "refusal")}
    assert shown == {"webhooks": 2, "unread": 1, "refused": 3, "refusal": "wrong header"}
    assert row["heard"]
    monkeypatch.setenv("COLUMNS", "120")
    text = "\n".join(screen.status_tables(found, Terminal(colours=False)))
    assert "doors: 1 could not be read and are kept: roundsman unread doors" in text
    assert "doors: 3 webhooks were refused, the last one: wrong header" in text

    config = tmp_path / "roundsman.toml"
    config.write_text(f'[daemon]\nstore = "{door.store.path}"\n')

    async def unread(*args: str) -> str:
        command = ["unread", "doors", "-c", str(config), *args]
        await asyncio.to_thread(hooks_app, command, standalone_mode=False)
        return capsys.readouterr().out

    assert re.fullmatch(r"1 +\S+Z  25 bytes: the body is .*, not JSON\n", await unread())
    [letter] = json.loads(await unread("--json"))
    assert letter["body"] == "garbage with a name in it"
    assert await unread("--drop") == "doors: 1 dropped\n"
    assert await unread() == ""


async def test_no_secret_is_in_an_answer_or_a_log(door: Door) -> None:
    said = []
    with structlog.testing.capture_logs() as logs:
        for path in (
            "/hooks/doors",
            "/hooks/news",
            "/hooks/ledger",
            NEWS,
            "/metrics",
            "/readyz",
            "/hooks/odd/x",
        ):
            for method in ("GET", "POST"):
                answer = await door.client.request(method, door.url + path, headers={HEADER: "x"})
                said.append(answer.text + repr(answer.headers))
    for secret in (VALUE, TOKEN, SECRET):
        assert secret not in repr(logs) + "".join(said)


async def test_logs_of_another_place_are_passed_over(tmp_path: Path) -> None:
    async with open_door(tmp_path, event_logs(domain_id="d1", webhook=PARAKEY), rounds=False) as door:
        for place in ({"domain": {"id": "d2"}}, {"domain": {"id": "d1"}}, {"domainId": "d2"}, {}):
            assert (
                await door.post("/hooks/doors", {**LOG, "id": f"log-{len(str(place))}", **place}, KEY) == 200
            )
        assert len(door.ids()) == 2
        assert refused(door)["doors", "ignored"] == 2


async def test_a_log_that_a_poll_would_name_otherwise_only_rings(tmp_path: Path) -> None:
    by_place = event_logs("places", dedupe="place", webhook=PARAKEY)
    async with open_door(tmp_path, event_logs(webhook=PARAKEY), by_place, rounds=False) as door:
        assert await door.post("/hooks/doors", {k: v for k, v in LOG.items() if k != "id"}, KEY) == 200
        assert await door.post("/hooks/places", {**LOG, "domain": {"id": "d1"}}, KEY) == 200
        assert door.ids() == []
        assert all(fate.ring_at is not None for fate in (await statuses(door.engine)).values())


async def test_a_webhook_older_than_ids_are_kept_is_no_news(door: Door) -> None:
    """A replay after its id was pruned reports nothing again."""
    old = "2026-01-01T10:00:00Z"
    assert await door.post("/hooks/doors", {**LOG, "createdAt": old, "timestamp": old}, KEY) == 200
    assert door.ids() == []
    assert (await door.status("doors")).ring_at is not None
