"""What goes into the store and comes out of it: plain values, which know nothing of SQL."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from roundsman.events import Event
from roundsman.plugin import State
from roundsman.wire import Damage

DAEMON = "daemon"
"""The source of the daemon's own notices; no configured source can have this name."""

Via = Literal["push", "ring"] | None
"""What brought an event first: a webhook, the visit that a webhook rang for, or (None) a scheduled visit."""


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """When a source is due, and what its visits have shown. All times are Unix times."""

    due: float = 0.0
    """The next scheduled visit."""
    not_before: float = 0.0
    """Until then the vendor wants no request."""
    last_visit: float | None = None
    last_success: float | None = None
    """The last good answer."""
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
    """The fingerprint of the options with which the last scheduled visit failed: others are worth another try."""
    ring_at: float | None = None
    """When to answer a ring, if that is before `due`. Not stored: the next scheduled visit answers it, too."""
    last_ring: float = float("-inf")
    """When the last webhook-triggered visit began. Not stored."""
    ring_failures: int = 0
    """Webhook-triggered visits that failed in a row. Not stored."""

    @property
    def next_visit(self) -> float:
        """The next visit, scheduled or for a ring."""
        return self.due if self.ring_at is None else min(self.due, self.ring_at)


class SourceRecord(NamedTuple):
    """What the store has about a source, for the daemon to go on from."""

    name: str
    status: SourceStatus
    last_webhook: float | None
    """When the last authentic webhook came."""


class Found(NamedTuple):
    """What one poll brought, to be committed in one transaction."""

    state: State | None = None
    """The new state; None keeps the old one."""
    events: Sequence[Event] = ()
    """Events, known ones included: an id that the log has is skipped."""
    taken: int = 0
    """The last inbox number that the state takes up."""
    via: Via = None
    unread: Sequence[Damage] = ()
    """Rows that could not be read."""
    gap: float | None = None
    """Since when rows may be missing (Unix): ids are kept from there on, since the source reads from there again."""


class Intake(NamedTuple):
    """What one webhook brought for a source."""

    source: str
    events: Sequence[Event] = ()
    follow: Sequence[str] = ()
    unread: tuple[str, bytes] | None = None
    """Why the body was not understood, and the raw body."""


class DaemonRecord(NamedTuple):
    """What the store has about its daemon, which may have ended since."""

    pid: int | None
    started: float | None
    beat: float | None
    """When it last wrote that it runs."""
    version: str | None
    config: str | None
    """The path of its configuration; None for `roundsman once`."""
    digest: str | None
    """A digest of the file that it took over or refused last."""
    reloads: int
    """How many reloads were tried."""
    problems: tuple[str, ...]
    """Why the last reload was refused; empty if it was not."""
