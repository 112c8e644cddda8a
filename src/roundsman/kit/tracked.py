"""A thing that is followed by its id until it ends: how it looks, since when, and which looks failed.

Two clocks, one rule: how long something has lasted is measured by the vendor's clock, because ours may be
set (`since`, `failed`); when we looked and when we look again is written by ours (`missed`, `looked`,
`next`).
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import msgspec

from roundsman.events import Event, notice
from roundsman.kit.documents import Count
from roundsman.plugin import Visit
from roundsman.times import parse_time, rfc3339

APART = 0.75
"""Minimum intervals between two looks that count separately: webhooks may trigger many in a row."""
GONE_AFTER = 2
"""A thing is gone after so many looks in a row that do not find it: a single one may be a fault."""
HOPELESS_AFTER = 10
"""Minimum failed looks in a row before a thing is given up.

Time alone does not count: a machine that was suspended for a week did not look.
"""
LATER_FIRST, LATER_MOST = 60.0, 3600.0
"""Seconds until the next try: after the first one, doubled after each, and at most."""


class Later(msgspec.Struct, omit_defaults=True):
    """Something that is tried again later, and later each time."""

    tries: Count = 0
    next: str | None = None
    """When it is tried again."""

    def postpone(self, now: datetime) -> float:
        """Set the time of the next try. Returns the wait in seconds."""
        self.tries += 1
        wait: float = min(LATER_MOST, LATER_FIRST * 2.0 ** min(self.tries - 1, 10))
        self.next = rfc3339(now + timedelta(seconds=wait))
        return wait

    def is_early(self, now: datetime) -> bool:
        """Whether the next try is still to come; a time too far ahead was written by a wrong clock."""
        then = parse_time(self.next)
        return then is not None and 0 < (then - now).total_seconds() <= LATER_MOST


class Tracked(Later, omit_defaults=True, kw_only=True):
    """One thing. `follow` makes it, `saw`, `not_found` and `has_failed` record looks."""

    since: str = ""
    """When `seen` last changed, or tracking began; "" if an earlier version wrote nothing that can be read."""
    seen: list[Any] | None = None
    """What counts of its last look; None before the first one."""
    misses: Count = 0
    """Looks in a row at which the vendor did not know it."""
    missed: str | None = None
    """When the last of them was."""
    fails: Count = 0
    """Looks in a row that failed."""
    failed: str | None = None
    """When the first of them was."""
    looked: str | None = None
    """When its turn was, where not all can be looked at in one visit."""
    stalled: bool = False
    """Whether the present stall was reported."""
    remarked: list[str] = []
    """What was remarked on about it."""
    listed: bool = False
    """Whether the last answer of the list shows it."""
    group: str | None = None
    """The group that it belongs to."""
    asked: bool = False
    """A person or a webhook named it: how it ends is reported, however long ago that was."""
    tag: dict[str, str] | None = None
    """The ETag of the last answer about it."""

    @classmethod
    def follow(cls, visit: Visit, *, asked: bool = False) -> "Tracked":
        """A thing that is tracked from now on."""
        return cls(since=rfc3339(visit.vendor_now), asked=asked)

    def answered(self) -> None:
        """Record that the vendor knows it."""
        self.misses, self.missed, self.fails, self.failed = 0, None, 0, None
        self.tries, self.next = 0, None

    def stands(self, seen: Sequence[Any], visit: Visit, interval: float) -> bool:
        """Whether it looks as it did at a look that was an interval ago."""
        since = parse_time(self.since)
        return self.seen == list(seen) and since is not None and _are_apart(since, visit.vendor_now, interval)

    def saw(self, seen: Sequence[Any], visit: Visit) -> None:
        """Record its present state."""
        self.answered()
        if self.seen != list(seen) or parse_time(self.since) is None:
            self.seen, self.since, self.stalled = list(seen), rfc3339(visit.vendor_now), False

    def not_found(self, visit: Visit, interval: float) -> bool:
        """Record that the vendor did not know it. Returns whether it is gone."""
        self.fails, self.failed = 0, None
        before = parse_time(self.missed)
        if before is None or _are_apart(before, visit.now, interval):
            self.misses += 1
            self.missed = rfc3339(visit.now)
        return self.misses >= GONE_AFTER

    def has_failed(self, visit: Visit, after: float) -> bool:
        """Record that a look failed. Returns whether many in a row have failed, for over `after` seconds."""
        self.failed = self.failed or rfc3339(visit.vendor_now)
        self.fails += 1
        since = parse_time(self.failed)
        lasted = (visit.vendor_now - since).total_seconds() if since is not None else 0.0
        return self.fails >= HOPELESS_AFTER and lasted > after

    def stalls(self, visit: Visit, after: float) -> bool:
        """Whether it has not changed for `after` seconds, which was not reported yet."""
        since = parse_time(self.since)
        if self.stalled or since is None or (visit.vendor_now - since).total_seconds() < after:
            return False
        self.stalled = True
        return True

    def remarks(self, about: str) -> bool:
        """Whether to remark on something about it: each remark is made once."""
        if about in self.remarked:
            return False
        self.remarked.append(about)
        return True


def _are_apart(before: datetime, now: datetime, interval: float) -> bool:
    """Whether a look at `now` counts besides one at `before`; also if the clock was set back between them."""
    return not 0 <= (now - before).total_seconds() < APART * interval


class About(NamedTuple):
    """What a notice is about."""

    source: str
    what: str
    """The vendor's word for such a thing: a batch, a push."""
    key: str

    @property
    def _name(self) -> str:
        return f"{self.what[:1].upper()}{self.what[1:]} {self.key}"

    def stalled(self, entry: Tracked, now: datetime, details: Mapping[str, Any]) -> Event:
        """The notice that it does not change, once per stall. A stall is not a failure."""
        since = parse_time(entry.since)
        message = (
            f"{self._name} has not changed since {entry.since}. It may still end, and is still followed. Look for "
            "it at the vendor."
        )
        found = {"id": self.key, **details}
        about = f"{self.key}:{entry.since}"
        return notice(
            "roundsman.batch.stalled", self.source, about, message, since=since, now=now, details=found
        )

    def gone(self, entry: Tracked, now: datetime, why: str = "") -> Event:
        """The notice that the vendor no longer knows it."""
        message = (
            f"{self._name} is not known to the vendor: it was deleted, has expired, or never existed. "
            f"{why}Its outcome is not known, and it is no longer followed."
        )
        since, details = parse_time(entry.since), {"id": self.key, "last_seen": entry.seen}
        return notice(
            "roundsman.batch.gone", self.source, self.key, message, since=since, now=now, details=details
        )
