"""The watched sources: for each, its configuration, its status, and the visit under way."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import httpx

from roundsman.engine import policy
from roundsman.engine.silence import Silence
from roundsman.http.transport import Clients
from roundsman.plugin import Source, Tracks, Trigger
from roundsman.store import SourceRecord, SourceStatus

SPREAD = 0.02
"""Seconds between the first visits of two sources, so that a thousand of them do not start at once."""


@dataclass(slots=True)
class Reading:
    """A backlog being read, for the progress line. Times are monotonic."""

    since: float
    rows: int = 0
    new: int = 0
    logged_at: float = 0.0
    """When the last log line about it was written."""


class Configured(NamedTuple):
    """A configured source, ready to be polled."""

    source: Source
    clients: Clients
    auth: httpx.Auth | None
    identity: str
    host: str
    tracks: bool
    """Whether it can have ids in the inbox."""

    @classmethod
    def of(cls, source: Source, clients: Clients) -> "Configured":
        """Raises what the plugin raises."""
        host = httpx.URL(source.base_url).host
        return cls(source, clients, source.auth(), source.identity(), host, isinstance(source, Tracks))


@dataclass(slots=True, eq=False)
class Watched:
    """A source on the roster."""

    configured: Configured
    status: SourceStatus
    earlier: SourceStatus | None = None
    """The status that holds again if the one that is being written cannot be written."""
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held from a decision about the status until it is written."""
    task: "asyncio.Task[None] | None" = None
    """The visit under way."""
    queued: bool = False
    """Its alarm has rung, and other visits to its host come first."""
    trigger: Trigger = "due"
    """The trigger of the visit that is under way or queued."""
    mended: bool = False
    """A reload changed its options during the visit that is under way or queued."""
    commanded: bool = False
    """A command requested a visit: the next one, or another one after the visit under way."""
    ring_pending: bool = False
    """A webhook rang during the visit under way, or the visit that answered one failed."""
    reading: Reading | None = None
    silence: Silence | None = None
    """Detects that no webhooks come any more; None if there is no listener for them."""
    gap: bool | None = None
    """Whether rows may be missing, by the last committed state; None before the first commit since the start."""

    @property
    def source(self) -> Source:
        return self.configured.source

    @property
    def interval(self) -> float:
        return self.configured.source.interval

    @property
    def busy(self) -> bool:
        return self.task is not None or self.queued

    @property
    def backlog(self) -> Reading | None:
        """The reading of several polls that is under way; None if there is none."""
        return self.reading if self.task is not None else None

    def move(self, change: Callable[[SourceStatus], SourceStatus]) -> None:
        """The clock was set: change the times of the status, also of one that may hold again."""
        self.status = change(self.status)
        self.earlier = change(self.earlier) if self.earlier is not None else None


class Swapped(NamedTuple):
    """The changes by a new set of sources."""

    gone: Mapping[str, Watched]
    new: list[str]
    moved: list[str]
    """Sources that are due at another time than before."""


class Roster(dict[str, Watched]):
    """Every source by name. A new set is made as a value (`configure`), and then swapped in (`swap`)."""

    def __init__(self) -> None:
        super().__init__()
        self.unrecorded: set[str] = set()
        """Sources whose last quiet visits are not in the store yet; the heartbeat writes them."""
        self.elsewhere: dict[str, Configured] = {}
        """Configured sources that another worker holds, or none. Webhooks for them are taken in here, too."""

    def source(self, name: str) -> Source | None:
        """A configured source, also if another worker holds it."""
        watched = self.get(name)
        configured = watched.configured if watched is not None else self.elsewhere.get(name)
        return configured.source if configured is not None else None

    def configured(self) -> dict[str, Configured]:
        """All configured sources."""
        return {name: watched.configured for name, watched in self.items()} | self.elsewhere

    def configure(self, sources: Mapping[str, Source], clients: Clients) -> dict[str, Configured]:
        """The new set. Raises what a plugin raises; changes nothing."""
        new = {}
        for name, source in sources.items():
            before = self[name].configured if name in self else self.elsewhere.get(name)
            if before is not None and before.source == source:
                new[name] = before._replace(source=source, clients=clients)
            else:
                new[name] = Configured.of(source, clients)
        return new

    def swap(self, new: Mapping[str, Configured], records: Iterable[SourceRecord], now: float) -> Swapped:
        """Take over this set, or raise what a plugin raises and change nothing.

        A visit under way continues with the options that it began with.
        """
        stored = {record.name: record.status for record in records}
        added = {}
        for position, (name, configured) in enumerate(new.items()):
            if name not in self:
                soonest = now + spread(position, configured.source.interval, len(new))
                added[name] = Watched(configured, _restored(configured, stored[name], now, soonest))
        gone = {name: self.pop(name) for name in self.keys() - new.keys()}
        moved = []
        for name, configured in new.items():
            if name in added:
                self[name] = added[name]
                continue
            before = self[name]
            if before.source != configured.source:
                before.mended = before.busy
                if not before.busy:
                    before.status = policy.mended(before.status, now, configured.source.interval)
                    moved.append(name)
            before.configured = configured
        self.unrecorded.intersection_update(self.keys())
        return Swapped(gone, list(added), moved)


def spread(position: int, interval: float, count: int) -> float:
    """Seconds from the first source's first visit to this one's: less than an interval for any `count`."""
    return min(position * SPREAD, interval * position / count)


def _restored(configured: Configured, stored: SourceStatus, now: float, soonest: float) -> SourceStatus:
    """The status to continue from after a start."""
    source = configured.source
    status, _ = policy.restored(stored, now, source.interval)
    if status.due <= now:
        status = replace(status, due=max(soonest, status.not_before))
    # The fingerprint is made last: of very many sources, only those that failed need theirs.
    failed_with = status.failed_with if status.failures else None
    if failed_with is not None and source.fingerprint(configured.identity) != failed_with:
        return policy.mended(status, soonest, source.interval)
    return status
