"""Rows of a vendor's answers that could not be read: kept as the bytes that they came as, each once, for a person to see.

A source's state remembers which ones were kept: an overlap or a sweep shows the same rows again and again.
"""

import hashlib
from collections.abc import Iterable
from typing import Any

from roundsman.wire import Damage

REMEMBERED = 200
"""Rows that a source remembers as kept; with more than that, the earliest may be kept once more."""


class Unread:
    """What could not be read at one visit; `memory` is the source's state to be."""

    def __init__(self, memory: dict[str, Any]) -> None:
        self._memory = memory
        self.found: list[Damage] = []
        """What has to be kept, for `Poll.unread`."""

    def add(self, damaged: Iterable[Damage]) -> None:
        kept = self._memory.get("unread", [])
        for each in damaged:
            digest = hashlib.blake2b(each.raw, digest_size=6).hexdigest()
            if digest not in kept:
                kept = [*kept, digest]
                self.found.append(each)
        if self.found:
            self._memory["unread"] = kept[-REMEMBERED:]
