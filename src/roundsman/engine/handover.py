"""Giving sources to other workers: at once those that are idle, the others after their visits under way.

A source that is visited at each look would never be given, so none of its visits is queued while its group waits. One
long visit keeps its group: the other sources are not to wait for it for ever, and are visited again for a while.
"""

from collections.abc import Collection, Sequence
from typing import Protocol

from roundsman.engine.timekeeper import Timekeeper

DRAIN = 20.0
"""Seconds for which no visits of a group begin while it waits: fewer than after which a worker counts as late."""
REST = 600.0
"""Seconds from the beginning of one such wait to the beginning of the next one."""

Group = tuple[str, ...]


class Visiting(Protocol):
    """The engine, as far as it visits what is to be given."""

    def is_idle(self, name: str) -> bool:
        """Whether nothing of a source is under way or waits to be written."""

    def drain(self, names: Collection[str]) -> None:
        """Queue no visits of these sources, and visits of all others as usual."""


class Handover:
    """The groups that this worker is to give to others."""

    def __init__(self, work: Visiting, time: Timekeeper) -> None:
        self._work, self._time = work, time
        self._since: dict[Group, float] = {}
        """When (monotonic) each group was found to be too many."""
        self.waits = False
        """Whether visits are held back for a group that is to be given."""

    def ready(self, surplus: Collection[Sequence[str]]) -> list[str]:
        """Of these groups, the sources that can be given now. The rest is drained."""
        now = self._time.monotonic()
        self._since = {group: self._since.get(group, now) for group in map(tuple, surplus)}
        given: list[str] = []
        drained: set[str] = set()
        for group, since in self._since.items():
            if all(map(self._work.is_idle, group)):
                given += group
            elif (now - since) % REST < DRAIN:
                drained.update(group)
        self._work.drain(drained)
        self.waits = bool(drained)
        return given

    def end(self) -> None:
        """Nothing is given for now: visit all sources as usual."""
        self._work.drain(())
        self.waits = False
