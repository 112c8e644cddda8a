"""Whether a vendor's webhooks have fallen silent: visits go on finding what no webhook told."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from roundsman.events import Event, notice
from roundsman.times import parse_time, rfc3339

FINDS = 3
"""Visits in a row that found something before any webhook told of it, until that is no accident."""
SILENT_AFTER = 1800.0
"""Seconds that they have to spread over: vendors try a webhook again for some twenty minutes."""
SAME = 30.0
"""Seconds within which finds are those of one visit, page by page."""
LOOKED_AT = 50
"""Events of one visit that are looked at, at most."""


@dataclass(slots=True)
class Silence:
    """What speaks for it, since the last webhook."""

    since: float
    """When we began to listen (Unix): what happened before says nothing, for nobody was there to hear of it."""
    heard: float | None = None
    """When the last authentic webhook came."""
    finds: int = 0
    first: float = 0.0
    """When the first of these finds was."""
    last: float = 0.0
    """When the last one was."""
    told: bool = False

    def hear(self, now: float) -> None:
        """A webhook came."""
        self.heard, self.finds, self.told = now, 0, False

    def step(self, seconds: float) -> None:
        """The clock was set."""
        self.since += seconds
        self.first += seconds
        self.last += seconds

    def find(self, source: str, events: Sequence[Event], now: float) -> list[Event]:
        """A visit, rung for by nobody, found these; the notice, where that is once too often."""
        if self.told or not any(self._speaks(event) for event in events[-LOOKED_AT:]):
            return []
        if self.finds and now - self.last < SAME:
            return []
        self.finds, self.last = self.finds + 1, now
        if self.finds == 1:
            self.first = now
        if self.finds < FINDS or now - self.first < SILENT_AFTER:
            return []
        self.told = True
        since = datetime.fromtimestamp(self.heard or self.since, UTC)
        last = f"since {rfc3339(since)}" if self.heard else "at all so far"
        message = (
            f"No webhook came {last}, while {self.finds} visits found something new. Was the hook disabled or deleted, or does "
            "it lead elsewhere? Everything is still found, at the next visit."
        )
        about = rfc3339(since) if self.heard else "never"
        now_ = datetime.fromtimestamp(now, UTC)
        return [notice("roundsman.source.webhook_silent", source, about, message, since=since, now=now_)]

    def _speaks(self, event: Event) -> bool:
        if event.type.startswith("roundsman."):
            return False
        at = parse_time(event.document().get("time"))
        return at is not None and at.timestamp() >= self.since
