"""What all kinds of stores need to forget a person: events in pieces, and lines that sinks hold back."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from roundsman import wire
from roundsman.errors import Unreadable
from roundsman.events import Event
from roundsman.redaction import leaves
from roundsman.store.person import Person

PIECE, PIECE_BYTES = 100, 2**20
"""Maximum events, and approximate bytes of them, of one commit: a daemon that writes waits until it ends."""


class Change(NamedTuple):
    """An event that names the person."""

    was: Event
    now: Event


def pieces(changes: Sequence[Change]) -> list[list[Change]]:
    """The changes, in pieces for one commit each."""
    found: list[list[Change]] = []
    size = 0
    for change in changes:
        size += len(change.was.body)
        if not found or len(found[-1]) >= PIECE or size > PIECE_BYTES:
            found.append([])
            size = len(change.was.body)
        found[-1].append(change)
    return found


def document(receipt: bytes) -> Any:
    """A receipt; of a damaged store, a text that is no JSON."""
    try:
        return wire.decode(receipt)
    except Unreadable:
        return receipt.decode("utf-8", "replace")


def lines_with(value: Any, who: Person) -> int:
    """How many lines of a receipt name the person."""
    return sum(isinstance(each, str) and who.line(each) != each for each in leaves(value))


def lines_without(value: Any, who: Person) -> Any:
    """A receipt without the lines that name the person."""
    if isinstance(value, dict):
        return {key: lines_without(each, who) for key, each in value.items()}
    if isinstance(value, list):
        return [lines_without(each, who) for each in value]
    return who.line(value) if isinstance(value, str) else value
