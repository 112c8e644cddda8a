"""The search of all parts for ids that may be in any: which are due in a round, and what the parts answered."""

from collections.abc import Iterable, Mapping

SEARCH_EVERY = 30
"""Rounds between two searches for an id, while a part that may have it does not answer."""
HOPELESS_AFTER = 12 * SEARCH_EVERY
"""Rounds after which an id is given up, although a part never answered about it."""
FIRST = 2
"""Rounds at the beginning that all search for an id."""


class Searches:
    """The searches of one round."""

    def __init__(self) -> None:
        self.due: list[str] = []
        """Ids to search for, as they are written: each part is asked about the same ones."""
        self._answered: dict[str, set[str]] = {}
        self._failed: dict[str, set[str]] = {}
        self.silent: set[str] = set()
        """Parts that failed as a whole, or are left alone after they did."""

    def choose(self, ids: Iterable[str], rounds: Mapping[str, int], most: int) -> None:
        """Choose those whose time has come; if there are more than `most`, those of the fewest rounds."""
        self.due = sorted((each for each in ids if is_due(rounds[each])), key=rounds.__getitem__)[:most]

    def answered(self, written: str, part: str) -> None:
        """Record that the part does not know the id."""
        self._answered.setdefault(written, set()).add(part)

    def failed(self, written: str, part: str) -> None:
        """Record that the part could not answer about the id."""
        self._failed.setdefault(written, set()).add(part)

    def missing(self, written: str, parts: set[str]) -> set[str]:
        """Parts that did not answer about the id."""
        return set(parts) - self._answered.get(written, set())

    def is_complete(self, written: str, parts: set[str]) -> bool:
        """Whether each part was asked about the id, or fails: none was left out."""
        return self.missing(written, parts) <= self.silent | self._failed.get(written, set())


def is_due(rounds: int) -> bool:
    """Whether to search for an id: at first always, later every `SEARCH_EVERY` rounds."""
    return rounds < FIRST or rounds % SEARCH_EVERY == 0
