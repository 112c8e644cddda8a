"""What a store on a server promises to workers: processes that share it, and each of which holds some sources and sinks.

A worker has a session: the right to write. It holds a source or a sink until it gives it back, or until its session has
ended. Another worker ends the session of one that no longer beats. From then on, nothing that the ended one writes has
an effect.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from roundsman.store.values import Kind


class Worker(NamedTuple):
    """A worker with a session."""

    number: int
    """The number of its session."""
    name: str
    host: str
    pid: int
    version: str
    since: float
    """When its session began (Unix)."""
    beat: float
    """When it last recorded that it runs (Unix, by the server's clock)."""
    age: float
    """Seconds since then."""
    digest: str | None
    """A digest of its sources and sinks: the part of the configuration that all workers have to have."""
    sources: int
    """Number of sources that it holds."""
    sinks: int


class Ring(NamedTuple):
    """A webhook rang for a source, on any machine."""

    source: str
    number: int
    """Later rings have larger numbers."""


Holders = Mapping[str, int | None]
"""By name, the session that holds it; None if none does."""
Choose = Callable[[Holders], Sequence[str]]
"""Which names to claim, given who holds what."""


class Fleet(Protocol):
    """A worker's place among the others. StoreError if the server does not answer; then the next call tries again."""

    number: int
    """The number of this worker's session."""

    @property
    def ended(self) -> bool:
        """Whether another worker has ended this session."""

    async def offer(self, kind: Kind, names: Iterable[str]) -> None:
        """These can be held."""

    async def beat(self, sinks: Sequence[str], common: str) -> list[Worker]:
        """Record that this worker runs, with these sinks in its configuration, and the digest of what is common to all. Returns all workers with a session, by their numbers; none if this one's has ended."""

    async def end(self, workers: Sequence[int]) -> None:
        """End these sessions. What they hold can be claimed then."""

    async def held(self, kind: Kind) -> set[str]:
        """What this worker holds."""

    async def free(self, kind: Kind) -> set[str]:
        """What no worker holds, also if no configuration has it any more."""

    async def claim(self, kind: Kind, choose: Choose) -> None:
        """Hold what `choose` returns, as far as it is free. Only one worker claims at a time."""

    async def give(self, kind: Kind, names: Sequence[str]) -> None:
        """Hold these no longer."""

    async def all_sinks(self) -> set[str]:
        """The sinks of all workers' configurations."""

    async def rings(self) -> list[Ring]:
        """The rings of sources that this worker holds."""

    async def answered(self, rings: Sequence[Ring]) -> None:
        """These rings were followed by a visit."""

    async def heard(self, since: float) -> dict[str, float]:
        """When the last webhook of each source was received, if that was after `since` (both Unix)."""

    async def notify(self, *words: str) -> None:
        """Send words to all other workers. A word may be lost."""

    async def listen(self, hear: Callable[[str], None]) -> None:
        """Call `hear` with each word of the others, until it is cancelled; with an empty one if some may have been lost."""

    async def leave(self) -> None:
        """End this session: everything that it holds can be claimed."""
