"""The values that the store takes and returns; they are independent of SQL."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from roundsman.events import Event
from roundsman.plugin import State
from roundsman.wire import Damage

DAEMON = "daemon"
"""The source of the daemon's own notices; no configured source can have this name."""

Via = Literal["push", "ring"] | None
"""What brought an event first: a webhook, a webhook-triggered visit, or (None) another visit."""


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """When a source is due, and the results of its visits. All times are Unix times."""

    due: float = 0.0
    """The next scheduled visit."""
    not_before: float = 0.0
    """The vendor wants no request before this time."""
    last_visit: float | None = None
    last_success: float | None = None
    """When the last good answer came."""
    visits: int = 0
    failures: int = 0
    """Scheduled visits that failed in a row; webhook-triggered visits count in `ring_failures`."""
    failing_since: float | None = None
    """When `roundsman.source.failing` was reported; None while the source answers."""
    unanswered_since: float | None = None
    """When the first request without a good answer was made."""
    error: str | None = None
    """Why the last visit failed."""
    failed_with: str | None = None
    """The fingerprint of the options with which the source last failed: other options are worth a retry."""
    ring_at: float | None = None
    """When to visit for a ring, if before `due`. Not stored: a scheduled visit answers a ring, too."""
    last_ring: float = float("-inf")
    """When the last webhook-triggered visit began. Not stored."""
    ring_failures: int = 0
    """Webhook-triggered visits that failed in a row. Not stored."""

    @property
    def next_visit(self) -> float:
        """The next visit, scheduled or for a ring."""
        return self.due if self.ring_at is None else min(self.due, self.ring_at)


class SourceRecord(NamedTuple):
    """What the store has about a source; the daemon continues from it."""

    name: str
    status: SourceStatus
    last_webhook: float | None
    """When the last authentic webhook was received."""


class Found(NamedTuple):
    """The result of one poll, committed in one transaction."""

    state: State | None = None
    """The new state; None keeps the old one."""
    events: Sequence[Event] = ()
    """New and known events: an id that is in the log already is skipped."""
    taken: int = 0
    """The number of the last inbox id that the state includes; 0 for none."""
    via: Via = None
    unread: Sequence[Damage] = ()
    """Rows that could not be read."""
    keeps_wish: bool = False
    """A command's wish for a visit outlives this commit, since it is not a scheduled visit's."""
    gap: float | None = None
    """Since when rows may be missing (Unix). Ids are kept from then on: the source reads from there again."""


class Intake(NamedTuple):
    """The content of one webhook, for one source."""

    source: str
    events: Sequence[Event] = ()
    follow: Sequence[str] = ()
    unread: tuple[str, bytes] | None = None
    """Why the body was not understood, and the raw body."""


class DaemonRecord(NamedTuple):
    """What the store has about its daemon, which may have ended meanwhile."""

    pid: int | None
    started: float | None
    beat: float | None
    """When it last wrote that it runs."""
    version: str | None
    config: str | None
    """The path of its configuration; None for `roundsman once`."""
    digest: str | None
    """A digest of the configuration file that it loaded or refused last."""
    reloads: int
    """Number of reloads that were attempted."""
    problems: tuple[str, ...]
    """Why the last reload was refused; empty if it was not."""
