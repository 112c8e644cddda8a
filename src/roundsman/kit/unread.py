"""Keeps rows that could not be read as their raw bytes, each once, for a person to inspect.

A source's state remembers which rows were kept, because an overlap or a sweep reads the same rows again.
"""

import hashlib
from collections.abc import Iterable
from typing import Any

from roundsman.wire import Damage

REMEMBERED = 200
"""Maximum kept rows that a source remembers; beyond that, the oldest may be kept once more."""


def keep(damaged: Iterable[Damage], kept: list[str]) -> list[Damage]:
    """The rows that were not kept before. `kept`, the digests that the state remembers, gets theirs."""
    found = []
    for each in damaged:
        digest = hashlib.blake2b(each.raw, digest_size=6).hexdigest()
        if digest not in kept:
            kept.append(digest)
            found.append(each)
    del kept[:-REMEMBERED]
    return found


class Unread:
    """The unreadable rows of one visit, for a plugin; `memory` is the source's new state."""

    def __init__(self, memory: dict[str, Any]) -> None:
        self._memory = memory
        self.found: list[Damage] = []
        """Rows to keep, for `Poll.unread`."""

    def add(self, damaged: Iterable[Damage]) -> None:
        kept = list(self._memory.get("unread", []))
        self.found += keep(damaged, kept)
        if self.found:
            self._memory["unread"] = kept
