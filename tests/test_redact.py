"""`redact`: what is not kept of a source, and what a sink does not get."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from time import process_time
from typing import Any

import pytest
from msgspec import structs
from structlog.testing import capture_logs

from inside import done, put, seen, sql, understood
from roundsman.cli.run import configuration
from roundsman.engine.engine import Engine
from roundsman.errors import ConfigError
from roundsman.events import Event
from roundsman.http.client import Http
from roundsman.plugin import Deliver, OpenFailures, Poll, Receipt, Received, State, Visit
from roundsman.redaction import Removal, redacted
from roundsman.sandbox import Parakey
from roundsman.sources.http_json.source import HttpJson
from roundsman.store import Filter
from roundsman.store.about import about
from roundsman.store.sqlite.store import SqliteStore
from roundsman.webhook import Call
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
DOOR = {"id": "d1", "name": "Front door"}


def engine_with(store: SqliteStore, time: Time, vendor: Parakey, source: Any, *sinks: Recorder) -> Engine:
    engine = Engine(store, ByHand(), web_of(Straight(vendor), time), clock=time.clock())
    done(engine.setup({"doors": source}, {sink.name: sink for sink in sinks}))
    return engine


def logged(store: SqliteStore) -> list[Event]:
    return [event for event, _ in seen(store.events(0, 100, 100, Filter()))]


async def test_what_a_source_does_not_keep_is_nowhere_in_the_store(
    store: SqliteStore, time: Time, parakey: Parakey, tmp_path: Path
) -> None:
    row = parakey.add(
        user=ANNA, door=DOOR, note="seen by ANNA.BERG@a.example", phones=[{"of": ANNA["email"]}]
    )
    sink = Recorder().named("all")
    engine = engine_with(store, time, parakey, event_logs(redact=["user.email", "data.raw.user.name"]), sink)
    assert await engine.visit("doors")
    await engine.deliveries.once()
    [event] = logged(store)
    assert event.id == row.id
    data = event.document()["data"]
    assert data["user"] == {"id": "u4711", "name": None, "email": None}
    assert data["raw"]["note"] == "seen by [redacted]"
    assert data["raw"]["phones"] == [{"of": None}]
    assert event.summary == "u4711: result unknown at Front door [doors]"
    assert sink.told() == [event]
    for path in tmp_path.glob("roundsman.db*"):
        assert b"anna.berg" not in path.read_bytes().lower()


async def test_an_unreadable_row_of_a_source_that_redacts_leaves_its_size(
    store: SqliteStore, time: Time, parakey: Parakey
) -> None:
    for number in range(2):
        row = parakey.add(user=ANNA, door=DOOR)
        if number:
            row.encoded = row.encoded[:-1] + b',"n":NaN}'
    engine = engine_with(store, time, parakey, event_logs(redact=["user"]))
    with capture_logs() as lines:
        assert await engine.visit("doors")
    [unread] = await store.unread("doors")
    assert unread.body == f"[redacted] {len(row.encoded)} bytes".encode()
    [what] = [line["what"] for line in lines if line["event"] == "poll.unread"]
    assert what.endswith("its size is kept: roundsman unread doors")
    assert [event.document()["data"]["user"] for event in logged(store)] == [None, None]


async def test_a_webhook_that_is_not_understood_leaves_its_size(
    store: SqliteStore, time: Time, parakey: Parakey, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = event_logs(redact=["user"])
    engine = engine_with(store, time, parakey, source)
    call = Call(b'{"user": "anna.berg@a.example"', {}, START)
    unread = understood(engine.reception, source, call)[0].unread
    assert unread is not None
    assert unread[1] == b"[redacted] 30 bytes"
    monkeypatch.setattr(type(source), "receive", lambda self, call: {}[ANNA["email"]])
    assert understood(engine.reception, source, call)[0].unread == ("KeyError", b"[redacted] 30 bytes")


async def test_a_webhook_is_redacted_before_it_is_stored(
    store: SqliteStore, time: Time, parakey: Parakey
) -> None:
    row = parakey.add(user=ANNA, door=DOOR)
    source = event_logs(redact=["user"])
    engine = engine_with(store, time, parakey, source)
    await engine.reception.take(source, Call(row.encoded, {}, START))
    [event] = logged(store)
    assert (event.id, event.document()["data"]["user"], b"Anna" in event.body) == (row.id, None, False)


class Reminding(Recorder):
    """Asks for the open failures, and remembers them, too."""

    @asynccontextmanager
    async def open_with(
        self, http: Http, receipt: Receipt | None, still_open: OpenFailures
    ) -> AsyncIterator[Deliver]:
        async def deliver(events: Sequence[Event]) -> None:
            _, newest = await still_open(0, 9)
            self.told().extend([*events, *newest])

        yield deliver


@pytest.mark.parametrize(
    "body", ['"ANNA"', '["ANNA"]', '{"data":"ANNA"}', '{"data":[{"user":"ANNA"}]}', "ANNA"]
)
async def test_an_event_in_which_nothing_can_be_found_is_not_kept_and_no_sink_gets_it(
    body: str, store: SqliteStore, time: Time, parakey: Parakey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a plugin can make one."""
    event = Event("a1", "doors", "acme.x", None, body.encode())
    source, sink = event_logs(redact=["user"]), Reminding(redact=["user"]).named("chat")
    engine = engine_with(store, time, parakey, source, sink)
    monkeypatch.setattr(type(source), "receive", lambda self, call: Received([event]))
    await engine.reception.take(source, Call(b"ANNA", {}, START))
    assert [each.body for each in await store.unread("doors")] == [b"[redacted] 4 bytes"]
    monkeypatch.setattr(type(source), "poll", poll_of(event))
    assert not await engine.visit("doors")
    assert logged(store) == []
    await put(store, structs.replace(event, failure=1), an_event(2))
    assert await engine.deliveries.once()
    assert [each.id for each in sink.told()] == ["id00002"]
    assert [each.seq for each in await store.dead("chat")] == [1]
    await sql(store, "DELETE FROM events WHERE seq = 1")  # what is left must be events


def poll_of(event: Event) -> Any:
    async def poll(self: Any, visit: Visit, state: State) -> Poll:
        return Poll(state, [event])

    return poll


async def test_a_sink_that_reminds_of_failures_does_not_get_it_either(
    store: SqliteStore, time: Time, parakey: Parakey
) -> None:
    sink = Reminding(redact=["person"]).named("chat")
    engine = engine_with(store, time, parakey, event_logs(), sink)
    await put(store, a_failure(1, person=ANNA))
    await store.ack("chat", 0, 1, None, START)
    await put(store, a_failure(2, person=ANNA))
    assert await engine.deliveries.once()
    assert [event.seq for event in sink.told()] == [2, 1]
    assert not [event for event in sink.told() if b"Anna" in event.body]


async def test_a_sink_does_not_get_what_another_one_gets(
    store: SqliteStore, time: Time, parakey: Parakey
) -> None:
    parakey.add(user=ANNA, door=DOOR)
    whole, part = Recorder().named("whole"), Recorder(redact=["user", "raw"]).named("part")
    engine = engine_with(store, time, parakey, event_logs(), whole, part)
    assert await engine.visit("doors")
    assert await engine.deliveries.once()
    [kept], [got] = whole.told(), part.told()
    assert kept == logged(store)[0]
    assert b"Anna" not in got.body
    assert (got.id, got.seq, got.type, got.outcome) == (kept.id, kept.seq, kept.type, kept.outcome)
    assert got.document()["data"]["raw"] == {}
    assert got.summary == "unknown person: result unknown at Front door [doors]"
    keeps_the_contract(got)


@pytest.mark.parametrize(
    "path", ["person", "person.email", "message", "fields", "raw", "raw.rows.mail", "about.name", "code"]
)
def test_an_event_keeps_its_shape(path: str) -> None:
    event = Event.of(
        vendor="json",
        source="table",
        type="http.json.row",
        id="7",
        subject="anna.berg@a.example",
        outcome="failed",
        data={
            "batch_id": None,
            "item_id": "anna.berg@a.example",
            "index": 4711,
            "code": "REFUSED",
            "message": "anna.berg@a.example was refused",
            "fields": [{"field": "mail", "message": "anna.berg@a.example is known"}],
            "person": ANNA,
            "about": {"id": "k1", "name": "Staff"},
            "raw": {"rows": [{"mail": "anna.berg@a.example"}, 4], "code": "REFUSED"},
        },
    )
    found = redacted(event, [path])
    assert found != event
    assert found.id == "7"
    keeps_the_contract(found)
    if "mail" in path or path == "person":
        assert b"anna.berg" not in found.body.lower()
        assert "subject" not in found.document()


def test_an_event_without_the_member_is_passed_on_byte_for_byte() -> None:
    event = an_event(1)
    assert redacted(event, ["user.email", "raw.user.phone"]) is event


def test_only_whole_names_and_addresses_are_taken_out_of_texts() -> None:
    removal = Removal(["anna@a.example", "Bo Ek", "no", 12, 4711])
    said = "joanna@a.example, anna@a.example.org, Bo Ekman, (ANNA@a.example), bo ek. no 12 4711"
    assert removal.text(said) == (
        "joanna@a.example, anna@a.example.org, Bo Ekman, ([redacted]), [redacted]. no 12 [redacted]"
    )
    assert removal.text("a?mail=anna%40a.example") == "a?mail=[redacted]"
    digest = "7bf4a3d4a9bb1a6e5f4a4d2c0d9c6f8e"
    assert removal.text(digest) == digest
    assert removal.of({"n": 4711, "m": 12, "anna@a.example": [True, "Bo Ek"]}) == {
        "n": None,
        "m": 12,
        "[redacted]": [True, "[redacted]"],
    }


def test_a_key_stays_unless_it_is_an_address() -> None:
    """A person can be named `status`, or have the id `code`."""
    removal = Removal(["status", "code", "anna@a.example", "bo@a.example"])
    keyed = {
        "status": 1,
        "code": "code",
        "[redacted]": 2,
        "bo@a.example": {"code": 3},
        "Anna@a.example": "status",
    }
    assert removal.of(keyed) == {
        "status": 1,
        "code": None,
        "[redacted]": 2,
        "[redacted] 2": {"code": 3},
        "[redacted] 3": None,
    }
    member = "3b1d3ae2ffd0d0a4f8b8a0f7d2f8d8a1"
    assert removal.of({member: 1}) == {member: 1}


def test_an_event_with_very_many_persons_delays_the_loop_a_moment() -> None:
    """One pattern of all these addresses takes a minute."""
    users = [{"mail": f"user.number{n}@company{n % 7}.example"} for n in range(20_000)]
    text = f"{users[0]['mail']}, {users[-1]['mail']} " * 10
    event = an_event(1, users=users, texts=[text] * 20)
    began = process_time()
    found = redacted(event, ["raw.users"])
    assert process_time() - began < 5
    assert found.document()["data"]["raw"] == {
        "number": 1,
        "users": [],
        "texts": ["[redacted], [redacted] " * 10] * 20,
    }


def test_a_later_failure_of_a_redacted_person_is_not_found_by_that_person() -> None:
    data = {"person": ANNA | {"id": None}, "about": {"id": "k1", "name": None}, "code": "X"}
    without = redacted(a_failure(1, **data), ["person"]).document()["data"]
    assert about("doors", without) == about("doors", {"about": {"id": "k1"}}) != about("doors", data)


MISTAKES = [
    ("sources.doors", '"user.emial"', "no event of parakey.event_logs has it; did you mean user.email?"),
    ("sources.doors", '"person.email"', "no event of parakey.event_logs has it; did you mean user.email?"),
    ("sources.doors", '"user..email"', "is not a path of names and dots, such as user.email"),
    ("sources.doors", '"user[?id]"', "is not a path of names and dots, such as user.email"),
    (
        "sources.news",
        '"batch_id"',
        "always has a value in an event of mailchimp.batches, and cannot be redacted",
    ),
    ("sinks.out", '"usr.email"', "no built-in event has it; did you mean user.email?"),
]


@pytest.mark.parametrize(("place", "path", "said"), MISTAKES, ids=[path for _, path, _ in MISTAKES])
def test_a_path_that_leads_nowhere_is_a_mistake(place: str, path: str, said: str, tmp_path: Path) -> None:
    tables = {
        "sources.doors": 'type = "parakey.event_logs"\naccess_token = "x"\n',
        "sources.news": 'type = "mailchimp.batches"\napi_key = "0123456789abcdef-us1"\n',
        "sinks.out": 'type = "stdout"\n',
    }
    tables[place] += f"redact = [{path}]\n"
    (tmp_path / "a.toml").write_text("".join(f"[{name}]\n{table}" for name, table in tables.items()))
    with pytest.raises(ConfigError) as wrong:
        configuration.load(tmp_path / "a.toml")
    [problem] = wrong.value.problems
    assert f": {place}.redact: " in problem or f": {place}.redact.0: " in problem
    assert said in problem


def test_a_path_to_an_id_is_warned_of() -> None:
    rows = {"id": ["mail", "n"]}
    source = HttpJson(
        type="http.json", base_url="http://127.0.0.1:1", rows=rows, redact=["data.raw.mail", "raw"]
    )
    assert source.warnings() == ["redact: data.raw.mail is the id of a row, and ids are kept"]


@pytest.mark.parametrize("path", ["raw.any.thing", 'data.raw."e-mail"', "raw.a-b", "user", "user.email"])
def test_a_path_that_may_lead_somewhere_is_taken(path: str) -> None:
    assert event_logs(redact=[path]).redact == (path,)
    assert json.loads(Recorder(redact=[path]).model_dump_json())["redact"] == [path]
