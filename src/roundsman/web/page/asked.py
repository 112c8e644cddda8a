"""What the address of a page asks for: filters, words to search for, and the place in a list. A value that is none counts as
left out.
"""

from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlencode

from roundsman.store import Filter

LONGEST = 200
"""Maximum characters of a value."""
MOST = 2**62
"""The greatest number of an event."""


def seq_of(text: str) -> int | None:
    """The number of an event; None if it is none."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else None


def _text(values: Mapping[str, str], name: str) -> str:
    return values.get(name, "").strip()[:LONGEST].replace("\0", "")


class LogQuery(NamedTuple):
    """Which events."""

    source: str
    type: str
    outcome: str
    words: str
    before: int | None
    """Only events with a smaller number."""
    after: int | None
    """Only events with a greater number."""

    @classmethod
    def of(cls, values: Mapping[str, str]) -> "LogQuery":
        source, kind, outcome, words = (_text(values, name) for name in ("source", "type", "outcome", "q"))
        before, after = (seq_of(values.get(name, "")) for name in ("before", "after"))
        return cls(source, kind, outcome, words, before, after)

    def filter(self) -> Filter:
        """As `roundsman events` reads these options: a short type matches, too."""
        types = [self.type, f"*.{self.type}"] if self.type else []
        return Filter(types, [self.source] if self.source else [], [self.outcome] if self.outcome else [])

    def span(self) -> tuple[int, int]:
        """The numbers after the first, up to the second one."""
        return self.after or 0, self.before - 1 if self.before else MOST

    @property
    def narrows(self) -> bool:
        return any((self.source, self.type, self.outcome, self.words))

    def link(self, *, before: int | None = None, after: int | None = None) -> str:
        """The same query from another place on."""
        fields = {"source": self.source, "type": self.type, "outcome": self.outcome, "q": self.words}
        at = {"before": before, "after": after}
        given = {key: value for key, value in (fields | at).items() if value or value == 0}
        return f"?{urlencode(given)}"


class SourceQuery(NamedTuple):
    """Which sources."""

    words: str
    state: str
    offset: int

    @classmethod
    def of(cls, values: Mapping[str, str]) -> "SourceQuery":
        return cls(_text(values, "q"), _text(values, "state"), seq_of(values.get("from", "")) or 0)

    @property
    def narrows(self) -> bool:
        return bool(self.words or self.state)

    def link(self, offset: int, state: str | None = None) -> str:
        """The same query from another place on, or with another state."""
        fields = {"q": self.words, "state": self.state if state is None else state, "from": offset}
        return f"?{urlencode({key: value for key, value in fields.items() if value})}"
