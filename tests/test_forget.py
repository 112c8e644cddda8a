"""`roundsman forget`: a person is blanked in everything that the store keeps."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from inside import done, publish, put, seen, sql, started
from roundsman.engine.engine import Engine
from roundsman.errors import Reject
from roundsman.events import Event, notice
from roundsman.http.client import Http
from roundsman.plugin import Deliver, Receipt, Waiting
from roundsman.sandbox import Parakey
from roundsman.store import Filter, Forgotten, Later, open_desk
from roundsman.store.sqlite import erasure
from roundsman.store.sqlite.store import SqliteStore
from roundsman.wire import Damage
from typed import Program, typed
from worlds import (
    START,
    ByHand,
    Recorder,
    Straight,
    Time,
    a_failure,
    an_event,
    event_logs,
    keeps_the_contract,
    web_of,
)

ANNA = {"id": "u4711", "name": "Anna Berg", "email": "Anna.Berg@a.example"}
BO = {"id": "u12", "name": "Bo Ek", "email": "bo.ek@a.example"}
DOOR = {"id": "d1", "name": "Front door"}
ADDRESS = "anna.berg@A.example"


def access(number: int, user: Any, **raw: Any) -> Event:
    """A person at a door, as a source reports it: the summary names the person."""
    data = {
        "occurred_at": None,
        "recorded_at": None,
        "door": DOOR,
        "user": user,
        "place": None,
        "key": {"id": "k1", "name": f"Key of {user['name']}"} if user else None,
        "activity": None,
        "raw": {"number": number, "user": user, **raw},
    }
    return Event.of(
        vendor="parakey",
        source="doors",
        type="co.parakey.event_log.created",
        id=f"a{number}",
        subject="d1",
        data=data,
        outcome="granted",
    )


def batch() -> Event:
    failures = [
        {"item_id": who["email"], "code": "X", "message": f"{who['email']} is unknown", "person": who}
        for who in (ANNA, BO)
    ]
    data = {
        "batch_id": "b1",
        "outcome": "partial",
        "status": "finished",
        "total": 9,
        "failed": 2,
        "submitted_at": None,
        "completed_at": None,
        "failures": failures,
        "failures_cap": 20,
        "raw": {"id": "b1", "by": [{"mail": ANNA["email"], "phone": "070-1"}, {"mail": BO["email"], "n": 2}]},
    }
    return Event.of(
        vendor="mailchimp",
        source="doors",
        type="com.mailchimp.batch.completed",
        id="b1:completed",
        subject="b1",
        data=data,
        outcome="partial",
    )


@pytest.fixture
async def open_store(store: SqliteStore) -> AsyncIterator[SqliteStore]:
    """As a daemon has it."""
    await store.register(
        {"doors": "parakey.event_logs", "news": "mailchimp.batches"}, {"archive": "file", "chat": "notify"}
    )
    yield store


def data(store: SqliteStore, seq: int) -> dict[str, Any]:
    [(event, _)] = seen(store.events(seq - 1, seq, 1, Filter()))
    if event.type.startswith("co"):
        keeps_the_contract(event)
    found: dict[str, Any] = event.document()
    return found


async def forget(
    store: SqliteStore, person: str, *, sources: Sequence[str] = (), dry: bool = False, **sinks: Filter
) -> Forgotten:
    """As a command in another process."""
    desk = await open_desk(store.path)
    try:
        return await desk.forget(person, sinks, sources=sources, dry=dry)
    finally:
        await desk.close()


def files_with(store: SqliteStore, *texts: bytes) -> list[str]:
    return [
        path.name
        for path in store.path.parent.glob("roundsman.db*")
        if any(text in path.read_bytes().lower() for text in texts)
    ]


async def test_the_bytes_of_a_person_are_gone_from_the_files_while_the_daemon_has_them_open(
    open_store: SqliteStore,
) -> None:
    many = [
        access(number, ANNA if number % 3 else BO, pad="x" * (3000 if number % 10 else 30_000))
        for number in range(300)
    ]
    await put(open_store, *many)
    assert files_with(open_store, b"anna")
    found = await forget(open_store, ADDRESS)
    assert (found.events, found.erased) == ({"doors": 200}, True)
    assert files_with(open_store, b"anna", b"u4711") == []
    assert len(seen(open_store.events(0, 999, 999, Filter()))) == 300


async def test_a_blanked_event_keeps_what_it_is_known_by(open_store: SqliteStore) -> None:
    await put(open_store, access(1, ANNA, phone="070-1"), access(2, BO))
    before, other = data(open_store, 1), data(open_store, 2)
    await forget(open_store, ADDRESS)
    after = data(open_store, 1)
    kept = ("id", "type", "source", "subject", "outcome", "specversion", "datacontenttype")
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
    assert after["data"] == before["data"] | {
        "user": {"id": None, "name": None, "email": None},
        "key": {"id": "k1", "name": "Key of [redacted]"},
        "raw": {},
    }
    assert after["summary"] == "unknown person: granted at Front door [doors]"
    assert data(open_store, 2) == other
    assert (await forget(open_store, ADDRESS)).events == {}


async def test_of_a_batch_only_the_person_is_blanked(open_store: SqliteStore) -> None:
    await put(open_store, batch())
    assert (await forget(open_store, ADDRESS)).events == {"doors": 1}
    found = data(open_store, 1)["data"]
    blank = {"item_id": None, "code": "X", "message": "[redacted] is unknown"}
    assert found["failures"][0] == blank | {"person": {"id": None, "name": None, "email": None}}
    assert found["failures"][1]["person"] == BO
    assert found["batch_id"] == "b1"
    assert found["raw"]["by"] == [{"mail": None, "phone": None}, {"mail": BO["email"], "n": 2}]


@pytest.mark.parametrize(
    ("person", "events"),
    [
        ("u4711", 2),
        ("ANNA.BERG@a.EXAMPLE", 2),
        ("u471", 0),
        ("U4711", 0),
        ("berg@a.example", 0),
        ("anna.berg@a.exampl", 0),
        ("Anna Berg", 0),
        ("d1", 0),
        ("7", 1),
    ],
)
async def test_a_person_is_found_by_the_whole_id_or_address(
    person: str, events: int, open_store: SqliteStore
) -> None:
    short = access(7, {"id": "7", "name": None, "email": None})
    await put(open_store, access(1, ANNA), access(2, BO), batch(), short)
    assert sum((await forget(open_store, person, dry=True)).events.values()) == events


@pytest.mark.parametrize("person", ["u7", "c@a.example"])
async def test_a_person_without_a_name_is_blanked_in_an_event_without_a_subject(
    person: str, open_store: SqliteStore
) -> None:
    await put(open_store, a_failure(1, person={"id": "u7", "name": None, "email": "c@a.example"}))
    assert (await forget(open_store, person)).events == {"doors": 1}
    assert data(open_store, 1)["data"]["person"] == {"id": None, "name": None, "email": None}


async def test_an_address_is_found_where_no_person_is_named(open_store: SqliteStore) -> None:
    row = structs.replace(an_event(1), body=an_event(1, raw={"by": {"mail": ADDRESS, "tel": 1}}).body)
    asked = notice("roundsman.source.gap", "doors", "x", f"rows of {ADDRESS} may be missing")
    spelled = an_event(3, raw={"text": f'{{"mail":"{ADDRESS}"}}', "a": "anna.berg%40a.example"})
    escaped = an_event(4)
    escaped = structs.replace(
        escaped, body=escaped.body.replace(b'"number":4', b'"mail":"anna.berg\\u0040a.example"')
    )
    await put(open_store, row, asked, spelled, escaped)
    assert (await forget(open_store, ADDRESS)).events == {"doors": 4}
    assert data(open_store, 1)["data"]["raw"] == {"by": {"mail": None, "tel": None}}
    assert files_with(open_store, b"anna.berg") == []


@pytest.mark.parametrize(
    ("raw", "left"),
    [
        (
            {"by": {ADDRESS: {"tel": "1", "rooms": ["a", {"n": 2}]}, "n": 1}},
            {"by": {"[redacted]": {"tel": None, "rooms": [{"n": None}]}, "n": 1}},
        ),
        ({"to": "mailto:%3CAnna.Berg%40a.example%3E?x"}, {"to": "mailto:%3C[redacted]%3E?x"}),
        ({"to": "https://a.example/?to=anna%2Eberg%40a.example"}, {"to": "[redacted]"}),
        ({"to": "https://a.example/?next=%2Fx%3Fto%3Danna.berg%2540a.example"}, {"to": "[redacted]"}),
        ({"body": json.dumps({"note": f"sent\n{ADDRESS}"})}, {"body": "[redacted]"}),
        ({"body": json.dumps({"a": json.dumps([f"\t{ADDRESS}"])})}, {"body": "[redacted]"}),
        ({"to": "joe%2Banna.berg%40a.example"}, None),
        ({"to": "https://a.example/?to=%6Aanna.berg%40a.example"}, None),
        ({"to": "anna.berg%40a.example%2Eorg"}, None),
        ({f"jo{ADDRESS}": 1}, None),
    ],
)
async def test_an_address_is_found_in_the_way_that_it_is_written(
    raw: dict[str, Any], left: dict[str, Any] | None, open_store: SqliteStore
) -> None:
    await put(open_store, an_event(1, **raw))
    found = await forget(open_store, ADDRESS)
    assert found.events == ({} if left is None else {"doors": 1})
    assert data(open_store, 1)["data"]["raw"] == {"number": 1, **(raw if left is None else left)}


async def test_a_person_is_found_in_values_of_other_types_and_in_what_is_not_readable(
    open_store: SqliteStore,
) -> None:
    store = open_store
    note = "text\\nanna.berg@a.example"
    await put(store, *(access(number, ANNA) for number in range(5)))
    await store.commit("news", 0, *visit_with([Damage(b"{}", ""), Damage(f'{{"a":"{note}'.encode(), "")]))
    for seq, value in (
        (1, "CAST(body AS TEXT)"),
        (2, "17"),
        (3, f'\'{{"a": "{note}\''),
        (4, f"'[\"{ADDRESS}\"]'"),
        (5, f'\'{{"id":"a","data":["{ADDRESS}"]}}\''),
    ):
        await sql(store, f"UPDATE events SET body = {value} WHERE seq = {seq}")
    await sql(store, f"UPDATE unread SET body = 'to {ADDRESS}' WHERE n = 1")
    found = await forget(store, ADDRESS)
    assert (found.events, found.unread) == ({"doors": 4}, {"news": 2})
    first, *bodies = [
        body for [body] in await sql(store, "SELECT CAST(body AS TEXT) FROM events ORDER BY seq")
    ]
    assert "anna" not in first.lower()
    assert bodies == ["17", "[redacted]", '["[redacted]"]', '{"id":"a","data":["[redacted]"]}']
    assert await sql(store, "SELECT DISTINCT CAST(body AS TEXT) FROM unread") == [("[redacted]",)]
    await sql(store, "DELETE FROM events WHERE seq > 1")  # what is left must be events


async def test_what_else_names_the_person_is_blanked(open_store: SqliteStore) -> None:
    store = open_store
    failure = a_failure(1, person=ANNA, about={"id": "k1", "name": None})
    await put(store, failure, a_failure(2, person=BO))
    await store.tick_off([1], "anna.berg@a.example", "wrote to Anna.Berg@a.example", START)
    await store.bury("archive", 0, 1, "422: Anna.Berg@a.example is unknown", START)
    raw = b"mail=anna.berg%40a.example&x"
    await store.commit(
        "news",
        0,
        *visit_with([Damage(raw, "no JSON: anna.berg@a.example"), Damage(b"joanna.berg@a.example", "")]),
    )
    await store.reloaded(store.path, "d", ["sinks.a.to: Anna.Berg@a.example", '"anna%2Eberg%40a.example"'])
    key = (await sql(store, "SELECT about FROM acts"))[0][0]
    found = await forget(store, ADDRESS)
    assert (found.events, found.unread) == ({"doors": 1}, {"news": 1})
    assert files_with(store, b" anna", b"anna.berg%40", b'"anna', b">anna") == []
    assert (await store.daemon()).problems == ("sinks.a.to: [redacted]", "[redacted]")
    [act] = await store.acts()
    assert (act.act.who, act.act.note) == ("[redacted]", "wrote to [redacted]")
    assert [letter.reason for letter in await store.dead("archive")] == ["422: [redacted] is unknown"]
    first, second = await store.unread("news")
    assert (first.why, bytes(first.body)) == ("no JSON: [redacted]", b"[redacted]")
    assert bytes(second.body) == b"joanna.berg@a.example"
    [(now,)] = await sql(store, "SELECT about FROM acts")
    assert now != key
    assert (now[:6], len(now)) == ("doors:", len(key))
    again = a_failure(3, person=ANNA, about={"id": "k1", "name": None})
    assert await store.again([structs.replace(again, seq=3)]) == {}


async def test_a_failure_that_only_mentions_the_person_is_found_again_as_before(
    open_store: SqliteStore,
) -> None:
    bo = {"person": BO, "about": {"id": "k1", "name": None}}
    await put(open_store, a_failure(1, **bo, message=f"sent to {ADDRESS}"), a_failure(2, person=ANNA))
    await open_store.tick_off([1, 2], "bo", None, START)
    assert (await forget(open_store, ADDRESS)).events == {"doors": 2}
    again = [structs.replace(a_failure(3, **bo), seq=3), structs.replace(a_failure(4, person=ANNA), seq=4)]
    assert {seq: act.seq for seq, act in (await open_store.again(again)).items()} == {3: 1}


async def test_two_persons_that_are_forgotten_at_the_same_time_are_both_gone(open_store: SqliteStore) -> None:
    both = [access(number, ANNA, by=BO["email"], pad="x" * 3000) for number in range(150)]
    await put(open_store, *both, a_failure(900, person={"id": "u7"}))
    for number in range(40):
        who = f"{number} Anna.Berg@a.example bo.ek@a.example"
        await open_store.tick_off([151], who, f"{who}, note", START)
        await open_store.reopen([151], who, None, START)
    found = await asyncio.gather(*(forget(open_store, each) for each in (ADDRESS, "bo.ek@a.example")))
    assert [each.events for each in found] == [{"doors": 150}] * 2
    assert files_with(open_store, b"anna.berg", b"bo.ek") == []


def visit_with(unread: list[Damage]) -> tuple[Any, Any, float]:
    from roundsman.store import Found, SourceStatus

    return Found({}, (), 0, None, unread), SourceStatus(), START


async def test_what_a_sink_holds_back_is_blanked(
    open_store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roundsman.store.forgetting.AGAIN", 0.0)
    await put(open_store, access(1, ANNA), access(2, BO))
    lines = [event.summary for event, _ in seen(open_store.events(0, 9, 9, Filter()))]
    held = Waiting(START + 60, {"digest": {"count": 2, "lines": lines}}, 2)
    await open_store.ack("chat", 0, 2, held.receipt, START, later=Later(held.until, held.held))
    found = await forget(open_store, ADDRESS, dry=True)
    assert (found.held, found.still_held) == ({"chat": 1}, ())
    assert (await open_store.cursor("chat"))[1] == held.receipt
    found = await forget(open_store, ADDRESS)
    assert (found.held, found.still_held) == ({"chat": 1}, [])
    _, receipt = await open_store.cursor("chat")
    assert receipt == {"digest": {"count": 2, "lines": ["[redacted]", lines[1]]}}


@pytest.mark.parametrize("said", ["", "The address of this subscriber is refused by the list: "])
async def test_what_a_sink_holds_back_is_blanked_also_where_the_address_was_cut(
    said: str, open_store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roundsman.store.forgetting.AGAIN", 0.0)
    long = f"{'anna.' * 12}berg@a.example"
    asked = {"person": None, "message": f"{said * 2}{long}"} if said else {"person": {"email": long}}
    other = {"person": {"email": f"jo{long}"}}
    await put(open_store, a_failure(1, item_id="i1", **asked), a_failure(2, item_id="i2", **other))
    lines = [event.summary for event, _ in seen(open_store.events(0, 9, 9, Filter()))]
    assert all("anna" in line and long not in line for line in lines)
    held = Waiting(START + 60, {"lines": lines}, 2)
    await open_store.ack("chat", 0, 2, held.receipt, START, later=Later(held.until, held.held))
    assert (await forget(open_store, "bo.ek@a.example")).held == {}
    assert (await forget(open_store, long)).held == {"chat": 1}
    assert (await open_store.cursor("chat"))[1] == {"lines": ["[redacted]", lines[1]]}


@pytest.mark.parametrize(
    ("receipt", "held", "left"),
    [(f'{{"lines":["to {ADDRESS}', {"chat": 1}, '"[redacted]"'), ('{"lines":["', {}, '{"lines":["')],
)
async def test_what_a_sink_holds_back_and_is_not_readable_is_blanked_if_it_names_the_person(
    receipt: str,
    held: dict[str, int],
    left: str,
    open_store: SqliteStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("roundsman.store.forgetting.AGAIN", 0.0)
    await sql(open_store, f"UPDATE sinks SET held = 1, receipt = '{receipt}' WHERE name = 'chat'")
    found = await forget(open_store, ADDRESS)
    assert (found.held, found.still_held) == (held, [])
    assert await sql(open_store, "SELECT receipt FROM sinks WHERE name = 'chat'") == [(left,)]


async def test_in_the_sources_that_are_named_an_id_is_blanked_and_elsewhere_it_stays(
    open_store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roundsman.store.forgetting.AGAIN", 0.0)
    store = open_store
    await put(store, a_failure(1, person=ANNA), a_failure(2, person=BO))
    await put(store, a_failure(3, "news", person=BO | {"id": "u4711"}))
    for cursor, seq in ((0, 1), (1, 3)):
        await store.bury("archive", cursor, seq, f"422: u4711 is unknown, {seq}", START)
        await store.tick_off([seq], "bo", "wrote to u4711", START)
    held = Waiting(START + 60, {"lines": ["u4711: failed [doors]", "u4711: failed [news]"]}, 2)
    await store.ack("chat", 0, 3, held.receipt, START, later=Later(held.until, held.held))
    await store.record_failure("chat", 1, START, "500: u4711 requests")
    found = await forget(store, "u4711", sources=["doors"])
    assert (found.events, found.texts) == ({"doors": 1}, 2)
    reasons = [letter.reason for letter in await store.dead("archive")]
    assert sorted(reasons) == ["422: [redacted] is unknown, 1", "422: u4711 is unknown, 3"]
    assert {each.act.note for each in await store.acts()} == {"wrote to [redacted]", "wrote to u4711"}
    assert await sql(store, "SELECT error FROM sinks WHERE name = 'chat'") == [("500: u4711 requests",)]
    _, receipt = await store.cursor("chat")
    assert receipt == {"lines": ["[redacted]", "u4711: failed [news]"]}


async def test_a_sink_that_may_hold_the_person_back_still_is_named(
    open_store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roundsman.store.forgetting.PATIENCE", 0.0)
    await open_store.ack("chat", 0, 0, {"lines": [ADDRESS]}, START, later=Later(START + 60, 1))
    assert (await forget(open_store, ADDRESS)).still_held == ["chat"], "it was not looked at again"


class Slow(Recorder):
    """Delivers one event at a time, each once a test permits it."""

    @asynccontextmanager
    async def open(self, http: Http, receipt: Receipt | None) -> AsyncIterator[Deliver]:
        async def deliver(events: Sequence[Event]) -> None:
            if len(events) > 1:
                raise Reject("one at a time")
            waiting, permitted = GATES[self.name]
            waiting.set()
            await permitted.acquire()
            self.told().extend(events)

        yield deliver


GATES: dict[str, tuple[asyncio.Event, asyncio.Semaphore]] = {}


@pytest.mark.parametrize("batch", [1, 10])
async def test_a_slow_sink_gets_no_event_that_was_blanked_after_it_was_read(
    store: SqliteStore, time: Time, parakey: Parakey, batch: int
) -> None:
    engine = Engine(store, ByHand(), web_of(Straight(parakey), time), clock=time.clock())
    slow = Slow(batch=batch).named(f"slow{batch}")
    waiting, permitted = GATES[slow.name] = asyncio.Event(), asyncio.Semaphore(0)
    await engine.setup({"doors": event_logs()}, {slow.name: slow})
    run = asyncio.create_task(engine.run())
    await started(engine, run)
    await put(store, *(access(number, ANNA) for number in range(5)))
    publish(engine)
    async with asyncio.timeout(10):
        await waiting.wait()
        found = await forget(store, ADDRESS, **{slow.name: Filter()})
        assert (found.delivered, found.due) == ({}, {slow.name: 5}), "the first of them is under way"
        await engine.beat()
        for _ in range(5):
            permitted.release()
        while len(slow.told()) < 5:
            await asyncio.sleep(0.001)
    engine.stop()
    await run
    assert [event.seq for event in slow.told()] == [1, 2, 3, 4, 5]
    assert [b"Anna" in event.body for event in slow.told()] == [True, False, False, False, False]
    assert (await store.cursor(slow.name))[0] == 5
    assert await store.dead(slow.name) == []


class Holding(Recorder):
    """Holds back the summaries of what it got, in its receipt."""

    @asynccontextmanager
    async def open(self, http: Http, receipt: Receipt | None) -> AsyncIterator[Deliver]:
        lines = list((receipt or {}).get("lines", ()))
        OPENED.append(list(lines))

        async def deliver(events: Sequence[Event]) -> Waiting:
            lines.extend(event.summary for event in events)
            return Waiting(START + 3600, {"lines": lines}, len(lines))

        yield deliver


OPENED: list[list[str]] = []


async def test_a_daemon_that_runs_holds_the_person_back_no_longer(
    store: SqliteStore, time: Time, parakey: Parakey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roundsman.store.forgetting.AGAIN", 0.0)
    OPENED.clear()
    engine = Engine(store, ByHand(), web_of(Straight(parakey), time), clock=time.clock())
    await engine.setup({"doors": event_logs()}, {"chat": Holding().named("chat")})
    run = asyncio.create_task(engine.run())
    await started(engine, run)
    await put(store, access(1, ANNA), access(2, BO))
    publish(engine)
    async with asyncio.timeout(10):
        while not (await store.later("chat")).held:
            await asyncio.sleep(0.001)
        await forget(store, ADDRESS)
        await engine.beat()
        while OPENED[-1] != ["[redacted]", "Bo Ek: granted at Front door [doors]"]:
            await asyncio.sleep(0.001)
    engine.stop()
    await run
    assert files_with(store, b"anna") == []


async def test_it_counts_what_each_sink_has(open_store: SqliteStore) -> None:
    await put(open_store, *(access(number, ANNA) for number in range(5)))
    await open_store.ack("archive", 0, 4, None, START)
    await open_store.bury("archive", 4, 5, "no", START)
    await open_store.ack("chat", 0, 5, None, START)
    found = await forget(open_store, ADDRESS, dry=True, chat=Filter(outcomes=("failed",)))
    assert found.delivered == {"archive": 4}
    await open_store.replay("archive", 0)
    found = await forget(open_store, ADDRESS)
    assert found.delivered == {"archive": 4, "chat": 5}, "a replay takes nothing back"
    assert found.others == {"u4711": ["doors"]}


async def test_an_event_that_is_delivered_while_it_counts_is_counted(
    open_store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store
    await put(store, *(access(number, ANNA) for number in range(5)))
    await store.ack("archive", 0, 2, None, START)
    count = erasure.Erasure._count

    async def counts(self: erasure.Erasure, *given: Any) -> dict[str, int]:
        found = await count(self, *given)
        [cursor] = [at for [at] in await sql(store, "SELECT cursor FROM sinks WHERE name = 'archive'")]
        await store.ack("archive", cursor, cursor + 1, None, START)
        return found

    monkeypatch.setattr(erasure.Erasure, "_count", counts)
    found = await forget(store, ADDRESS, archive=Filter())
    assert (found.delivered, found.due) == ({"archive": 2}, {"archive": 3})


async def test_what_stays_is_said(open_store: SqliteStore) -> None:
    key = structs.replace(access(1, ANNA), id="Anna.Berg@a.example")
    key = structs.replace(key, body=key.body.replace(b'"id":"a1"', b'"id":"Anna.Berg@a.example"'))
    await put(open_store, key)
    await open_store.rewind("news", {"at": ADDRESS})
    found = await forget(open_store, ADDRESS)
    assert (found.in_ids, found.in_states) == ({"doors": 1}, ["news"])


async def test_a_sink_that_is_late_gets_the_blanked_event_from_a_daemon_that_has_the_old_one_in_memory(
    open_store: SqliteStore,
) -> None:
    await open_store.commanded()
    await put(open_store, access(1, ANNA))
    await forget(open_store, ADDRESS)
    await open_store.commanded()
    assert b"Anna" not in (await open_store.read("archive", 10, Filter())).events[0].body


async def test_the_daemon_writes_between_two_steps(
    open_store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roundsman.store.forgetting.PIECE", 20)
    await put(open_store, *(access(number, ANNA, pad="x" * 2000) for number in range(400)))
    forgetting = asyncio.create_task(forget(open_store, ADDRESS))
    written = 0
    while not forgetting.done():
        written += await put(open_store, access(10_000 + written, BO))
        await asyncio.sleep(0)
    assert (await forgetting).events == {"doors": 400}
    assert written > 3


@pytest.fixture
def roundsman(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> Program:
    """The command, in a folder with a store and no daemon."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "roundsman.toml").write_text(
        '[daemon]\nstore = "roundsman.db"\n'
        '[sources.doors]\ntype = "parakey.event_logs"\naccess_token = { env = "NOT_SET" }\n'
        '[sinks.archive]\ntype = "file"\npath = "events.jsonl"\n'
        '[sinks.crm]\ntype = "http"\nurl = "https://user:pass@crm.example/hook?key=1"\n'
    )
    store = SqliteStore.open(tmp_path / "roundsman.db")
    done(store.register({"doors": "parakey.event_logs"}, {"archive": "file", "crm": "http"}))
    done(put(store, access(1, ANNA), access(2, BO), access(3, ANNA)))
    done(store.ack("archive", 0, 3, None, START))
    done(store.ack("crm", 0, 1, None, START))
    done(store.close())

    return typed(tmp_path, monkeypatch, capfd)


FOUND = """Anna.Berg@a.example: {} in 2 events of doors
archive has 2 of these: delete them in events.jsonl and its rotated files
crm has 1 of these: crm.example must delete them
also named u4711: roundsman forget u4711 --source doors
"""


def test_it_says_what_it_blanks_and_what_is_elsewhere(roundsman: Any, tmp_path: Path) -> None:
    before = roundsman("events", "--json").out
    assert roundsman("forget", "Anna.Berg@a.example", "--dry-run") == (0, FOUND.format("found"), "")
    assert roundsman("events", "--json").out == before
    (tmp_path / "roundsman.db.before-008").write_bytes(b"")
    done = roundsman("forget", "Anna.Berg@a.example", "--yes")
    copy = f"{tmp_path}/roundsman.db.before-008 is a copy of the store and is not changed: delete it\n"
    assert done == (0, FOUND.format("blanked") + copy, "")
    assert "Anna" not in roundsman("events", "--json").out
    said = "Anna.Berg@a.example: nothing in the store names this person\n"
    assert roundsman("forget", "Anna.Berg@a.example", "--yes").out == said + copy


def test_what_is_no_address_is_said_to_be_looked_for_as_an_id(roundsman: Any) -> None:
    """A name finds nothing, and must not look as if the person were not there."""
    found = roundsman("forget", "Anna", "--dry-run")
    said = "nothing in the store names this person; it is looked for as an id, not as a name\n"
    assert (found.code, found.out) == (0, f"Anna: {said}")


def test_its_json_has_the_same(roundsman: Any) -> None:
    found = json.loads(roundsman("forget", "u4711", "--yes", "--json").out)
    assert found == {
        "dry_run": False,
        "events": {"doors": 2},
        "unread": {},
        "texts": 0,
        "held": {},
        "still_held": [],
        "due": {},
        "sinks": [
            {
                "name": "archive",
                "events": 2,
                "place": "delete them in events.jsonl and its rotated files",
            },
            {"name": "crm", "events": 1, "place": "crm.example must delete them"},
        ],
        "in_ids": {},
        "in_states": [],
        "also_named": ["Anna.Berg@a.example"],
        "also_named_in": {"Anna.Berg@a.example": ["doors"]},
        "copies": [],
        "erased": True,
        "vendors": {"parakey": ["doors"]},
    }


@pytest.fixture
def two_vendors(roundsman: Any, tmp_path: Path) -> None:
    """A person of another vendor has Anna's id, and one of two accounts of the first vendor."""
    store = SqliteStore.open(tmp_path / "roundsman.db")
    done(store.register({"crm": "http.json", "keys": "parakey.batches"}, {}))
    for name in ("crm", "keys"):
        event = a_failure(1, name, person=BO | {"id": "u4711"}, about=None)
        done(put(store, event))
        done(store.commit(name, 0, *visit_with([Damage(b'{"of":"u4711"', "no JSON")])))
    done(store.close())


def test_an_id_that_two_vendors_have_is_blanked_in_the_sources_that_are_named(
    roundsman: Any, two_vendors: None
) -> None:
    before = roundsman("events", "--json").out
    said = "u4711 is an id at 2 vendors, and can be 2 persons: add --source crm or --source doors --source keys\n"
    assert roundsman("forget", "u4711", "--yes") == (2, "", f"nothing is changed: {said}")
    shown = roundsman("forget", "u4711", "--dry-run")
    assert shown.code == 0
    assert "found in 1 event of crm, 2 of doors, 1 of keys; 1 unread row of crm, 1 of keys\n" in shown.out
    assert said in shown.out
    assert "also named bo.ek@a.example: roundsman forget bo.ek@a.example\n" in shown.out
    assert roundsman("events", "--json").out == before
    done = roundsman("forget", "u4711", "--yes", "--source", "d*")
    assert (done.code, done.out.splitlines()[0]) == (0, "u4711: blanked in 2 events of doors")
    assert ("Anna" in roundsman("events", "--json").out, "Bo Ek" in roundsman("events", "--json").out) == (
        False,
        True,
    )
    assert [each["body"] for each in json.loads(roundsman("unread", "crm", "--json").out)] == [
        '{"of":"u4711"'
    ]
    found = json.loads(roundsman("forget", "u4711", "--dry-run", "--json").out)
    assert found["vendors"] == {"http.json:crm": ["crm"], "parakey": ["keys"]}
    assert found["also_named_in"] == {"bo.ek@a.example": ["crm", "keys"]}
    wrong = roundsman("forget", "u4711", "--yes", "--source", "door")
    assert (wrong.code, wrong.err) == (2, "door: no such source; there is crm, doors, keys\n")


def test_an_id_beside_an_address_is_followed_where_it_was_seen(roundsman: Any, two_vendors: None) -> None:
    hint = "also named u4711: roundsman forget u4711 --source doors"
    shown = roundsman("forget", "Anna.Berg@a.example", "--yes").out
    assert [line for line in shown.splitlines() if line.startswith("also named")] == [hint]
    assert roundsman(*hint.split()[4:], "--yes").out.startswith("u4711: nothing in the store")
    assert roundsman("events", "--json").out.count('"id":"u4711","name":"Bo Ek"') == 2


def test_without_a_terminal_and_without_yes_it_changes_nothing(roundsman: Any) -> None:
    before = roundsman("events", "--json").out
    refused = roundsman("forget", "u4711")
    assert (refused.code, refused.err) == (
        2,
        "nothing is changed: without a terminal to ask on, add --yes\n",
    )
    assert roundsman("events", "--json").out == before


@pytest.mark.parametrize("person", ["", " ", "a", "a\x1b[31m"])
def test_a_text_that_is_no_person_is_refused(person: str, roundsman: Any) -> None:
    refused = roundsman("forget", person, "--yes")
    assert refused.code == 2
    assert "is neither an address nor an id of two characters or more" in refused.err
    assert "\x1b" not in refused.err
