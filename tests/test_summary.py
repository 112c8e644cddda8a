"""Each event describes itself in one line for a person: safe to print, to mail and to post."""

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from roundsman import kinds, wire
from roundsman.events import Event, notice, with_summary
from roundsman.masking import mask

ANNA = {"id": "u1", "name": "Anna Berg", "email": "anna@berg.example"}


def event(kind: str = "co.parakey.batch.item_failed", outcome: Any = "failed", **data: Any) -> Event:
    return Event.of(
        vendor="parakey", source="keys", type=kind, id="e1", subject="b1", outcome=outcome, data=data
    )


def failure(**data: Any) -> Event:
    return event(**{"batch_id": "b1", "item_id": None, "person": ANNA, "about": None, **data})


def access(**data: Any) -> Event:
    door, place = {"id": "d1", "name": "Front door"}, {"id": "p1", "name": "Harbour House"}
    said = {"door": door, "place": place, "user": ANNA, **data}
    return event("co.parakey.event_log.created", data.pop("outcome", "denied"), **said)


@pytest.mark.parametrize(
    ("made", "line"),
    [
        (access(), "Anna Berg: denied at Front door, Harbour House [keys]"),
        (access(user=None), "unknown person: denied at Front door, Harbour House [keys]"),
        (access(place=None, door={"id": "d1", "name": None}), "Anna Berg: denied at d1 [keys]"),
        (access(door=None, place=None), "Anna Berg: denied at b1 [keys]"),
        (
            access(occurred_at="2026-05-01T06:00:00Z", recorded_at="2026-05-01T08:30:00Z"),
            "Anna Berg: denied at Front door, Harbour House (2h30m late) [keys]",
        ),
        (
            access(occurred_at="2026-05-01T06:59:59Z", recorded_at="2026-05-01T07:00:01Z"),
            "Anna Berg: denied at Front door, Harbour House [keys]",
        ),
        (
            failure(message="no such key", code="KEY_GONE", about={"id": "k1", "name": "Parking"}),
            "Anna Berg (anna@berg.example), Parking: failed: no such key (KEY_GONE), batch b1 [keys]",
        ),
        (failure(code="KEY_GONE"), "Anna Berg (anna@berg.example): failed: KEY_GONE, batch b1 [keys]"),
        (failure(person=None, index=3), "item 3: failed, batch b1 [keys]"),
        (failure(person=None, item_id="i7"), "i7: failed, batch b1 [keys]"),
        (
            failure(person={"id": None, "name": None, "email": "a@b.example"}, item_id="a@b.example"),
            "a@b.example: failed, batch b1 [keys]",
        ),
        (failure(connection="CON-1", batch_id=None), "Anna Berg (anna@berg.example): failed, connection CON-1 [keys]"),
        (event(outcome="partial", failures_cap=20, batch_id="b1", total=40, failed=3), "batch b1: 3 of 40 failed [keys]"),
        (event(outcome="succeeded", failures_cap=20, batch_id="b1", total=40, failed=0), "batch b1: all 40 succeeded [keys]"),
        (event(outcome="empty", failures_cap=20, batch_id="b1", total=0, failed=0), "batch b1: ended without operations [keys]"),
        (event(outcome="unknown", failures_cap=20, batch_id="b1"), "batch b1: ended, result unknown [keys]"),
        (event(outcome="failed", failures_cap=20, batch_id="b1"), "batch b1: failed [keys]"),
        (event("com.example.thing", None, name="A thing"), "A thing [keys]"),
        (event("com.example.thing", "failed"), "b1: failed [keys]"),
        (notice("roundsman.disk.low", "daemon", "disk", "Only 3 MiB are free."), "Only 3 MiB are free."),
        (notice("roundsman.source.failing", "keys", "1", "It refuses the key."), "It refuses the key. [keys]"),
    ],
)  # fmt: skip
def test_an_event_names_the_person_the_thing_the_result_the_reason_and_the_place(
    made: Event, line: str
) -> None:
    assert made.summary == line
    assert made.document()["summary"] == line


NASTY = [
    ("Robert\r\nBcc: all@berg.example", "Robert Bcc: all@berg.example"),
    ("\x1b]0;owned\x07\x1b[2JAnna", "\\x1b]0;owned\\x07\\x1b[2JAnna"),
    ("Anna \u202egreB", "Anna \\u202egreB"),
    ("@everyone", "＠everyone"),  # noqa: RUF001 - another character on purpose
    ("hi @here, <@123> <!channel>", "hi ＠here, ‹＠123> ‹!channel>"),  # noqa: RUF001 - another character on purpose
    ("<script>alert(1)</script>", "‹script>alert(1)‹/script>"),  # noqa: RUF001 - another character on purpose
    ("\ud800", "\\ud800"),
    ("a\0b", "a\\x00b"),
]


@pytest.mark.parametrize(("name", "shown"), NASTY)
def test_no_name_acts_on_a_terminal_a_mail_or_a_chat(name: str, shown: str) -> None:
    person = {"id": None, "name": name, "email": None}
    line = failure(person=person).summary
    assert line == f"{shown}: failed, batch b1 [keys]"
    assert line.isprintable()
    assert access(user=person).summary.startswith(f"{shown}: denied at Front door")
    assert failure(person=None, message=name).summary == f"b1: failed: {shown}, batch b1 [keys]"


def test_an_address_stays_an_address() -> None:
    assert "anna+keys@berg.example" in failure(message="anna+keys@berg.example is taken").summary


@pytest.mark.parametrize(
    "data", [{"message": "x" * 5000}, {"person": {"name": "y" * 5000}}, {"message": "€\n" * 500}]
)
def test_a_summary_has_at_most_200_characters_and_keeps_the_source(data: Any) -> None:
    line = failure(**data).summary
    assert len(line) <= 200
    assert line.endswith(" [keys]")


def test_a_secret_is_masked_also_where_the_text_is_cut() -> None:
    mask.add(["token-of-the-vendor"])
    try:
        for before in range(150, 200):
            line = failure(message="-" * before + "token-of-the-vendor").summary
            assert "token" not in line, line
    finally:
        mask.discard("token-of-the-vendor")


@pytest.mark.parametrize(
    "data",
    [
        {"door": 5, "user": [1], "occurred_at": 3, "recorded_at": {}},
        {"item_id": {"a": 1}, "person": "Anna", "about": [1], "message": ["x"], "batch_id": {}},
        {"failures_cap": 20, "total": "x", "failed": ["y"], "batch_id": None},
        {"name": {"first": "A"}},
        {},
    ],
)
@pytest.mark.parametrize("outcome", [None, "failed", "succeeded", "partial"])
def test_the_data_of_a_plugin_may_have_any_shape(data: Any, outcome: Any) -> None:
    line = event("com.example.thing", outcome, **data).summary
    assert line.endswith(" [keys]")
    assert line.isprintable()


def test_an_event_that_was_stored_without_a_summary_gets_one_when_it_is_read() -> None:
    for made in (access(), failure(message='quote " and \\'), event("com.example.thing", None)):
        document = made.document()
        del document["summary"]
        old = wire.encode(document)
        assert b"summary" not in old
        assert with_summary(old, "keys") == made.body
        assert Event("e1", "keys", made.type, made.outcome, old).summary == made.summary


def test_the_body_of_a_plugin_gets_a_summary_in_any_order_of_its_members() -> None:
    body = (
        b'{"data":{"name":"A"},"id":"e1","type":"com.example.thing","source":"/x/keys","specversion":"1.0"}'
    )
    document = json.loads(with_summary(body, "keys"))
    assert document["summary"] == "A [keys]"
    assert with_summary(wire.encode(document), "keys") == wire.encode(document)
    own = b'{"summary":"mine","data":{},"id":"e1"}'
    assert with_summary(own, "keys") == own


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"\0\xff", b'{"data":5}', b'{"datacontenttype":"application/json"']
)
def test_a_body_that_cannot_be_read_stays_as_it_is(body: bytes) -> None:
    assert with_summary(body, "keys") == body


def test_the_schema_knows_the_summary() -> None:
    validator = Draft202012Validator(kinds.schemas())
    assert validator.schema["properties"]["summary"]["maxLength"] == 200
