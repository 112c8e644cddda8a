"""Which of very many things were seen: only a digest of each is kept."""

from collections import Counter

DIGEST = 9
"""Bytes of a digest."""
_SHELVES = 4096


class Digests:
    """Counts digests of 9 bytes. Holds 9 bytes for each, and about 150 for each that occurred again.

    A million of them in a `Counter` take 180 MB.
    """

    def __init__(self) -> None:
        self._shelves = [bytearray() for _ in range(_SHELVES)]
        self._again: Counter[bytes] = Counter()

    def add(self, digest: bytes) -> int:
        """Add one. Returns how often it was added, with this time."""
        shelf = self._shelves[digest[0] << 4 | digest[1] >> 4]
        at = shelf.find(digest)
        while at % DIGEST and at > 0:  # a find across two digests
            at = shelf.find(digest, at + 1)
        if at < 0:
            shelf += digest
            return 1
        self._again[digest] += 1
        return 1 + self._again[digest]
