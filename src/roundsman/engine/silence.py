"""Detects that a vendor's webhooks are silent: visits keep finding events that no webhook reported."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from roundsman.events import Event, notice
from roundsman.times import parse_time, rfc3339

FINDS = 3
"""Visits in a row that found something before a webhook reported it; fewer may be chance."""
SILENT_AFTER = 1800.0
"""Minimum seconds from the first to the last of them: vendors retry a webhook for some twenty minutes."""
SAME = 30.0
"""Seconds within which finds count as one: a visit may find events page by page."""
LOOKED_AT = 50
"""Maximum number of events of one poll that are looked at."""


@dataclass(slots=True)
class Silence:
    """The evidence of silence since the last webhook."""

    since: float
    """When the daemon began to listen (Unix). Webhooks of earlier events could not be received."""
    last_webhook: float | None = None
    """When the last authentic webhook was received."""
    finds: int = 0
    first: float = 0.0
    """When the first of the finds was."""
    last: float = 0.0
    """When the last one was."""
    reported: bool = False

    def received(self, now: float) -> None:
        """A webhook was received."""
        self.last_webhook, self.finds, self.reported = now, 0, False

    def begin_anew(self) -> None:
        """The source was paused: what its visits found before says nothing about the time after it."""
        self.finds = 0

    def step(self, seconds: float) -> None:
        """The clock was set by `seconds`, or the machine was suspended for `seconds`."""
        self.since += seconds
        self.first += seconds
        self.last += seconds

    def find(self, source: str, events: Sequence[Event], now: float) -> list[Event]:
        """A visit not triggered by a webhook found these. Returns the notice if webhooks count as silent."""
        if self.reported or not any(self._speaks(event) for event in events[-LOOKED_AT:]):
            return []
        if self.finds and now - self.last < SAME:
            return []
        self.finds, self.last = self.finds + 1, now
        if self.finds == 1:
            self.first = now
        if self.finds < FINDS or now - self.first < SILENT_AFTER:
            return []
        self.reported = True
        since = datetime.fromtimestamp(self.last_webhook or self.since, UTC)
        none = (
            f"No webhook was received since {rfc3339(since)}"
            if self.last_webhook
            else "No webhook was ever received"
        )
        message = (
            f"{none}, and {self.finds} visits found new events meanwhile. Check at the vendor that the webhook exists, "
            "is enabled and has the right URL. Until it works, events are reported by scheduled visits, and later."
        )
        about = rfc3339(since) if self.last_webhook else "never"
        now_ = datetime.fromtimestamp(now, UTC)
        return [notice("roundsman.source.webhook_silent", source, about, message, since=since, now=now_)]

    def _speaks(self, event: Event) -> bool:
        if event.type.startswith("roundsman."):
            return False
        at = parse_time(event.document().get("time"))
        return at is not None and at.timestamp() >= self.since
