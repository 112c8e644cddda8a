"""JSON as vendors send it: what one row has wrong with it is that row's own trouble."""

import json
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec
import pytest

from roundsman import wire
from roundsman.errors import Unreadable
from roundsman.events import Event
from roundsman.times import restated, rfc3339

GOOD = b'{"id":"good"}'


def items(body: bytes, damaged: list[wire.Damage] | None = None) -> list[wire.Item]:
    return list(wire.each(body, damaged=damaged))


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (b'{"id":"x","n":NaN}', {"id": "x", "n": None}),
        (b'{"id":"x","n":-Infinity}', {"id": "x", "n": None}),
        (b'{"id":"x","n":1e400}', {"id": "x", "n": None}),
        (b'{"id":"x","n":1' + b"0" * 5000 + b"}", {"id": "x", "n": None}),
        (b"null", None),
        (b"17", None),
        (b'"text"', None),
        (b"[1]", None),
        (b'{"id": nonsense}', None),
    ],
)
@pytest.mark.parametrize("around", ["%s", '{"data":%s}', '\ufeff{"data": %s, "n": 1}'])
def test_a_row_that_cannot_be_read_hides_no_other(row: bytes, told: object, around: str) -> None:
    body = around.encode().replace(b"%s", b"[" + GOOD + b", " + row + b"," + GOOD + b"]")
    damaged: list[wire.Damage] = []
    found = items(body, damaged=damaged)
    expected = [{"id": "good"}, *([told] if told else []), {"id": "good"}]
    assert [data for data, _ in found] == expected
    assert [json.loads(bytes(raw)) for _, raw in found] == expected, "and what is kept of it is JSON"
    assert [each.raw for each in damaged] == [row], "as it came"
    assert [each.told for each in damaged] == [told is not None]


@pytest.mark.parametrize("depth", [59, 61, 200, 960, 990, 5000, 100_000])
def test_what_is_nested_too_deeply_is_left_out_where_it_is_read(depth: int) -> None:
    row = b'{"id":"deep","x":' + b"[" * depth + b"]" * depth + b',"y":{"z":"]}"}}'
    damaged: list[wire.Damage] = []
    [(data, raw), _] = items(b"[" + row + b"," + GOOD + b"]", damaged=damaged)
    assert (data["id"], data["y"]) == ("deep", {"z": "]}"})
    assert [each.raw for each in damaged] == ([row] if depth >= wire.DEPTH else [])
    around = wire.encode({"data": {"raw": raw}})
    assert json.loads(around) == wire.decode(around), "any reader of JSON takes it"


def test_two_texts_that_utf_8_cannot_say_stay_two() -> None:
    [(one, _), (other, _)] = items(b'[{"id":"x\\ud800"},{"id":"x\\ud801"}]')
    assert one["id"] != other["id"]


@pytest.mark.parametrize(
    "body",
    [
        b'{"status":"error","data":[]}',
        b'{"success":false,"data":[]}',
        b'{"error":{"code":1},"data":[]}',
        b'{"errors":[{"message":"x"}]}',
        b'{"errors":[]}',
        b'{"message":"x"}',
    ],
)
def test_an_envelope_of_an_error_is_no_list(body: bytes) -> None:
    with pytest.raises(Unreadable):
        items(body, damaged=[])


@pytest.mark.parametrize("read", [items, wire.decode, wire.objects])
def test_a_string_without_an_end_is_looked_at_once(read: Callable[[bytes], object]) -> None:
    """Of work that grows with the square of the length, this would be hours."""
    quotes = b'\\"' * 300_000
    for body in (b'[{"id":"x","a":"' + quotes, b"[" * (wire.DEPTH + 1) + b'"' + quotes):
        with pytest.raises(Unreadable):
            read(body)


def test_what_json_can_spell_is_a_line() -> None:
    assert wire.is_line(b'{"a":{"b":"cut in half \\ud83d"}}')
    garbled = (
        b'{"a":1}\n',
        b'{"a":1',
        b"[1]",
        b'{"a":NaN}',
        b'\xef\xbb\xbf{"a":1}',
        '{"a":1}'.encode("utf-16"),
    )
    assert not any(map(wire.is_line, garbled))


def test_an_empty_list_is_one() -> None:
    for body in (b"[]", b'{"data":[]}', b'{"status":"ok","error":null,"errors":[],"data":[]}'):
        assert items(body, damaged=[]) == []


def test_a_row_with_two_kinds_of_broken_text_becomes_an_event_that_is_json() -> None:
    """Half a character, spelled out, kept the row's own bytes, and the broken UTF-8 beside it with them."""
    body = b'[{"id":"x","a":"\\udc00","b":"\xff"}]'
    [(row, raw)] = items(body)
    assert row == {"id": "x", "a": "\\udc00", "b": "\ufffd"}
    assert wire.is_line(bytes(raw))
    assert wire.decode(raw) == row


class Renamed(msgspec.Struct, rename="camel", omit_defaults=True, tag="renamed"):
    said_by: str
    left_out: int = 0


def test_a_struct_beside_a_text_that_utf_8_cannot_say_is_encoded_as_ever() -> None:
    alone = wire.encode(Renamed("\\ud800"))
    assert wire.encode(Renamed("\ud800")) == alone == rb'{"type":"renamed","saidBy":"\\ud800"}'
    event = Event.of(vendor="v", source="s", type="t", id="1", data={"a": "\ud800", "b": Renamed("me")})
    assert event.document()["data"] == {"a": "\\ud800", "b": {"type": "renamed", "saidBy": "me"}}


@pytest.mark.parametrize("text", ["2026-05-01T24:00:00Z", "2026-05-01T23:59:59.000Z", "2026-05-01T23:59:59z"])
def test_a_time_is_passed_on_as_it_came_only_if_it_is_written_as_our_own(text: str) -> None:
    """Newer versions of Python read 24:00 as the next day; RFC 3339 has no such hour."""
    moment = datetime(2026, 5, 2, tzinfo=UTC)
    assert restated(text, moment) == rfc3339(moment)


@pytest.mark.parametrize("blank", [b"", b"\n", b"\r\n  "])
def test_half_a_character_fails_no_list_that_has_lines(blank: bytes) -> None:
    """A page in lines, or an archive, failed at each try."""
    body = b'[{"id":"a","name":"\\ud83d"},%b{"id":%b"b"}]' % (blank, blank)
    rows = items(body)
    assert [row["id"] for row, _ in rows] == ["a", "b"]
    for row, raw in rows:
        assert wire.is_line(bytes(raw))
        assert wire.decode(raw) == row
