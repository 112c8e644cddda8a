"""Reads the rows of a growing list: what identifies a row, when it was stored, and when it happened."""

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence

from roundsman import wire
from roundsman.errors import NoRows
from roundsman.events import Event
from roundsman.http.answers import Answer
from roundsman.kit import fields
from roundsman.kit.probing import Row
from roundsman.times import parse_time

NO_TIME, NO_YEAR = (None, "", 0, "null", "-"), ("0000-", "0001-", "1900-", "1753-", "1601-")
"""Values that mean "no time", and the prefixes of times that mean it."""


class Shape(ABC):
    """Turns a vendor's rows into events. Its getters are made once, because they run for every row."""

    def __init__(self, key: Sequence[str], created: Sequence[str], occurred: Sequence[str]) -> None:
        """Dotted paths to a row's id, to when it was stored, and to when it happened."""
        self._id, self._created, self._occurred = map(fields.getter, (key, created, occurred))
        self.created_name = created[0]

    @abstractmethod
    def event(self, row: Row, source: str) -> Event:
        """The row as an event of this source."""

    def rows(self, answer: Answer, path: str, damaged: list[wire.Damage]) -> list[Row]:
        """The rows of the list at `path`; anything else is added to `damaged`.

        Raises `NoRows` if no item is a row.
        """
        items = answer.items(path, damaged)
        found = [row for item in items if (row := self.row(item)) is not None]
        if len(found) < len(items):
            why = "an object of the list has neither an id nor a time"
            said = {each.rest for each in damaged}
            none = (bytes(item[1]) for item in items if self.row(item) is None)
            damaged += [wire.Damage(raw, why) for raw in none if raw not in said]
        if items and not found:
            raise NoRows("nothing in the list has an id or a time")
        return found

    def row(self, item: wire.Item) -> Row | None:
        """A row; without an id, its content identifies it. None if it has neither an id nor a time."""
        data, raw = item
        key, written = self._id(data), self._created(data)
        created, occurred = parse_time(written), parse_time(self._occurred(data))
        if not isinstance(key, str) or not key:
            key = str(key) if type(key) is int else f"row:{_digest(bytes(raw))}"
        if created is None:
            odd = "" if written in NO_TIME or str(written).startswith(NO_YEAR) else _form(written)
            if not odd and occurred is None and key.startswith("row:") and self._id(data) is None:
                return None
            return Row(key, None, occurred, item, odd)
        return Row(key, created, occurred, item)

    def named(self, row: Row) -> bool:
        """Whether it has an id of its own."""
        return not row.id.startswith("row:")


def _form(value: object) -> str:
    """The form of a value without its content: 9 for digits, a for letters."""
    if not isinstance(value, str):
        return "a number" if isinstance(value, int | float) else type(value).__name__
    text = re.sub(r"[^\W\d_]", "a", re.sub(r"\d", "9", value[:40]))
    return f"{text!r}"


def _digest(raw: bytes) -> str:
    return hashlib.blake2b(raw, digest_size=12).hexdigest()
