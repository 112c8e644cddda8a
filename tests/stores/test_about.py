"""What a failure is about: which failures are of the same person and thing."""

from typing import Any

import pytest

from roundsman.store.about import about

ADA = {"id": "u1", "name": "Ada", "email": "ada@a.example"}
KEY = {"id": "k1", "name": "Staff"}


def data(person: Any = ADA, thing: Any = KEY, code: Any = "NO_KEY", **more: Any) -> dict[str, Any]:
    return {"person": person, "about": thing, "code": code, "message": "no such key", **more}


def mail(address: str, **more: Any) -> dict[str, Any]:
    return {"id": None, "name": "Ada", "email": address, **more}


SAME = [
    ("another batch, item and message", data(), data(batch_id="b2", item_id="i", message="other words")),
    ("an id, with another name and address", data(), data(ADA | {"name": "A. L.", "email": None})),
    ("another code, for a thing is named", data(), data(code="OTHER")),
    ("an address in another case", data(mail("Ada@A.example")), data(mail("ada@a.EXAMPLE"))),
    ("an address with a space", data(mail(" ada@a.example")), data(mail("ada@a.example"))),
    ("a number as a text", data({"id": 7}, {"id": 8}), data({"id": "7"}, {"id": "8"})),
    ("a code for want of a thing", data(thing=None), data(thing={"id": None, "name": "Staff"})),
    ("neither thing nor code", data(thing=None, code=None), data(thing={"id": ""}, code="")),
    ("a thing without a person", data(None), data(None, code="OTHER")),
    ("a lone surrogate", data(mail("a\ud800@a.example")), data(mail("A\ud800@a.example"))),
]


@pytest.mark.parametrize(("one", "other"), [pair[1:] for pair in SAME], ids=[pair[0] for pair in SAME])
def test_failures_are_about_the_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert about("doors", one) == about("doors", other) is not None


OTHERS = [
    ("another id, with the same name and address", data(), data(ADA | {"id": "u2"})),
    ("an id that is the address of another", data({"id": "ada@a.example"}), data(mail("ada@a.example"))),
    ("another thing", data(), data(thing={"id": "k2", "name": "Staff"})),
    ("an id in another case", data(), data(ADA | {"id": "U1"})),
    ("another code for want of a thing", data(thing=None), data(thing=None, code="OTHER")),
    ("a thing that is called as a code", data(thing={"id": "NO_KEY"}), data(thing=None)),
    ("no person", data(), data(None)),
    ("no thing", data(), data(thing=None)),
]


@pytest.mark.parametrize(("one", "other"), [pair[1:] for pair in OTHERS], ids=[pair[0] for pair in OTHERS])
def test_failures_are_about_others(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert about("doors", one) != about("doors", other)


def test_the_same_person_and_thing_of_another_source_are_others() -> None:
    assert about("doors", data()) != about("gates", data())


@pytest.mark.parametrize(
    "nothing",
    [
        data(None, None),
        data({"id": None, "name": "Ada", "email": None}, None),
        data({"id": "", "name": "Ada", "email": " "}, {"id": None, "name": "Staff"}),
        data("ada", "k1"),
        data(["u1"], ["k1"]),
        data({"id": ["u1"]}, {"id": {"k": 1}}),
        data({"id": True}, {"id": False}),
        {},
        None,
        "text",
        [ADA],
    ],
    ids=str,
)
def test_a_failure_that_names_neither_person_nor_thing_is_about_nothing(nothing: Any) -> None:
    """A code alone would make all failures of a source with it the same."""
    assert about("doors", nothing) is None


def test_a_key_has_the_source_and_no_personal_data() -> None:
    """It is kept longer than the event."""
    key = about("a:b", data(mail("ada@a.example", id=None)))
    assert key is not None
    source, _, digest = key.rpartition(":")
    assert (source, len(digest)) == ("a:b", 32)
    assert "ada" not in digest
    assert about("doors", data(mail("a" * 100_000))) != about("doors", data(mail("a" * 99_999)))
