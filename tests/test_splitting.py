"""JSON that arrives in pieces."""

import itertools
import json
import random
from typing import Any

import pytest
from hypothesis import given, strategies as st

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


@pytest.mark.parametrize(
    "body", [b"[" + b" " * 8_000_000, b'[{"a":1}, {"a":1' + b"0" * 8_000_000, b'[{"a":"' + b"x" * 8_000_000]
)
def test_a_stream_does_not_search_what_it_has_searched(body: bytes) -> None:
    """Blanks and digits were searched again with each piece: 16 MB of them took a minute."""
    pieces = [body[at : at + 4096] for at in range(0, len(body), 4096)]
    with pytest.raises(Unreadable):
        list(stream(pieces, len(body)))


rows = st.lists(
    st.dictionaries(
        st.text('ab{}[],":\\ ', max_size=3),
        st.text('ab{}[],":\\ ', max_size=6)
        | st.just('},{"')
        | st.just("}, {")
        | st.lists(st.dictionaries(st.just("x"), st.integers(), min_size=1), max_size=3),
        max_size=3,
    ),
    max_size=8,
)


@given(
    rows, st.sampled_from([(",", ":"), (", ", ": "), (",\n", ":")]), st.lists(st.integers(1, 60), min_size=1)
)
def test_a_guess_where_an_object_ends_is_never_believed(
    found: list[Any], marks: tuple[str, str], sizes: list[int]
) -> None:
    body = json.dumps(found, separators=marks).encode()
    cuts = [0, *itertools.accumulate(itertools.islice(itertools.cycle(sizes), len(body))), len(body)]
    pieces = [body[a:b] for a, b in itertools.pairwise(cuts)]
    for cut in (pieces, [body]):
        if found:
            assert [json.loads(each or b"") for each in stream(cut, 1000)] == found


def test_a_pause_among_the_pieces_is_passed_on() -> None:
    assert list(stream([b'[{"a"', None, b":1}", None, b"]"], 99)) == [None, b'{"a":1}', None]
