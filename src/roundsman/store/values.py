"""What goes into the store and comes out of it: plain values, which know nothing of SQL."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

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


class Reload(NamedTuple):
    """The result of the daemon's last reload."""

    times: int
    """How many reloads were tried."""
    config: str
    """The path of the file."""
    digest: str
    """A digest of the file's content."""
    problems: tuple[str, ...]
    """Why the file was refused; empty if it was taken over."""
