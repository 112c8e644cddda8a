"""JSON that arrives in pieces."""

import json
import random

import pytest

from roundsman.errors import Overlong, Unreadable
from roundsman.kit.splitting import stream


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 10**6])
def test_a_stream_gives_the_objects_of_a_list_however_it_is_cut(size: int) -> None:
    pick = random.Random(size)
    rows = [{"n": n, "s": 'x"{[\\' * pick.randrange(4), "l": [1, {"b": "]"}]} for n in range(80)]
    body = json.dumps(rows).encode()
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    assert [json.loads(each or b"") for each in stream(pieces, 1000)] == rows


def test_a_stream_holds_one_object_at_a_time_and_says_what_it_is_not() -> None:
    with pytest.raises(Overlong):
        list(stream([b'[{"a":"', b"x" * 500, b'"}]'], 400))
    for body in (b'[{"a":1},{"b"', b'[{"a":1},{"b":2}', b'[{"a":1},"b', b"nonsense", b"[1, 2]", b"[]"):
        with pytest.raises(Unreadable):
            list(stream([body], 400))


def test_a_stream_looks_at_each_byte_once() -> None:
    """Of work that grows with the square of the length, this would be minutes."""
    body = b'[{"response":"' + b'\\"x' * 8_000_000 + b'\\\\"},{"b":1}]'
    pieces = [body[at : at + 65_536] for at in range(0, len(body), 65_536)]
    assert [len(each or b"") for each in stream(pieces, len(body))] == [len(body) - 10, 7]
