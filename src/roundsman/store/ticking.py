"""Marks failures as done, and undoes that, in pieces. What a piece reads and writes, each kind of store defines."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from roundsman.store.values import Act, Acted

PIECE = 1000
"""Failures of one unit: a daemon that writes waits until the unit ends, and gives up after a second."""


class Acting(ABC):
    """What commands write about failures, a piece at a time."""

    async def tick_off(self, seqs: Sequence[int] | None, who: str, note: str | None, now: float) -> Acted:
        """Mark failures as done (all open ones if `seqs` is None), and record who did it. Several commits if there are
        many.
        """
        return await self._act(
            await self._open_seqs() if seqs is None else seqs, Act(0, now, who, True, note)
        )

    async def reopen(self, seqs: Sequence[int], who: str, note: str | None, now: float) -> Acted:
        """Undo that failures were marked as done, and record who did it. Those whose payloads were pruned stay done."""
        return await self._act(seqs, Act(0, now, who, False, note))

    async def _act(self, seqs: Sequence[int], act: Act) -> Acted:
        """Record this act on each of these failures, except on those on which it changes nothing."""
        seqs = list(dict.fromkeys(seqs))
        changed: list[int] = []
        already: dict[int, Act | None] = {}
        for at in range(0, len(seqs), PIECE):
            some = seqs[at : at + PIECE]
            # Read before the unit: of a store in a file, no other process can write while one runs.
            keys = await self._keys(some) if act.done else {}
            piece = await self._act_on(some, act, keys)
            changed += piece.changed
            already |= piece.already
        return Acted(changed, already)

    @abstractmethod
    async def _open_seqs(self) -> list[int]:
        """The failures that are listed, oldest first."""

    @abstractmethod
    async def _keys(self, seqs: Sequence[int]) -> dict[int, str | None]:
        """What each of these failures is about."""

    @abstractmethod
    async def _act_on(self, seqs: Sequence[int], act: Act, keys: dict[int, str | None]) -> Acted:
        """Record this act on these failures, in one unit."""
