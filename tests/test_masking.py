"""No secret in a message, however it is spelled and however many there are."""

import time

import pytest

from roundsman.masking import MASK, Masker, masked


@pytest.mark.parametrize("others", [0, 1000])
@pytest.mark.parametrize(
    "text", ["a TOP/secret 1 b", "?k=TOP%2Fsecret%201", "?k=TOP%2Fsecret+1", "TOP/secret 1TOP/secret 1"]
)
def test_every_spelling_of_a_secret_is_masked(text: str, others: int) -> None:
    mask = Masker()
    mask.add(["TOP/secret 1", *(f"another-{n}" for n in range(others))])
    assert "secret" not in mask(text)
    assert MASK in mask(text)


def test_the_longer_of_two_secrets_goes_first() -> None:
    mask = Masker()
    mask.add(["abcd", "abcdefgh"])
    assert mask("x abcdefgh y") == f"x {MASK} y"


def test_a_token_that_was_renewed_is_forgotten_and_short_words_are_none() -> None:
    mask = Masker()
    mask.add(["token-1", "abc"])
    mask.discard("token-1")
    assert mask("token-1 abc") == "token-1 abc"


def test_a_token_of_two_sources_is_masked_until_both_have_renewed_it() -> None:
    mask = Masker()
    mask.add(["token-1"])
    mask.add(["token-1"])
    mask.discard("token-1")
    assert mask("token-1") == MASK
    mask.discard("token-1")
    assert mask("token-1") == "token-1"


def test_documents_are_masked_to_their_leaves() -> None:
    from roundsman.masking import mask

    mask.add(["hidden-thing"])
    assert masked({"a": ["x hidden-thing"], "hidden-thing": 1}) == {"a": [f"x {MASK}"], MASK: 1}


@pytest.mark.parametrize(
    "text",
    ["TOP%2fsecret%201", "dGVzdCBUT1Avc2VjcmV0IDE", "Basic VE9QL3NlY3JldCAx", "a VE9QL3NlY3JldCAx== b"],
)
def test_a_secret_in_another_coding_is_masked(text: str) -> None:
    mask = Masker()
    mask.add(["TOP/secret 1", "test TOP/secret 1"])
    assert MASK in mask(text)


def test_a_secret_that_is_added_later_is_masked_and_many_cost_little() -> None:
    masker = Masker()
    masker.add(["first-token"])
    assert masker("first-token, second-token") == "***, second-token"
    masker.add(["second-token"])
    assert masker("first-token, second-token") == "***, ***"
    began = time.process_time()
    for n in range(5000):  # as so many sources do, each with a token of its own
        masker.add([f"a-token-of-its-own-{n}"])
    assert time.process_time() - began < 3
    assert masker("a-token-of-its-own-4999, second-token") == "***, ***"
    assert masker.cut("the begin of a-token-of-its-o") == "the begin of ***"
