"""The state of a feed, and how the states of earlier versions are read.

`learned` and `reading` are written by `kit/probing`, `unread` by `kit/unread`, all else by the feed.
"""

from datetime import UTC, datetime
from typing import Any

import msgspec

from roundsman.kit.documents import Document, renamed
from roundsman.kit.probing import Learned, Mark, Reading, Row

NEVER = datetime.max.replace(tzinfo=UTC)


class Progress(msgspec.Struct, omit_defaults=True, kw_only=True):
    """The feed's part of the reading under way: what it began with, and what it has found."""

    sweep: bool = False
    tag: dict[str, str] | None = None
    """The ETag from before the reading, to be stored when the reading is complete."""
    latest: datetime | None = None
    """The latest stamp that the cursor may move to: a later one is from the future."""
    awaited: str | None = None
    """The row that the ETag belongs to; None once the list has shown it."""
    probed: datetime | None = None
    """The stamp of that row."""
    since: datetime | None = None
    """Since when rows may be missing, if the reading ends in a gap."""
    top: datetime | None = None
    """The latest stamp of the rows read."""
    top_id: str | None = None
    oldest: Mark | None = None
    """The oldest row that was reported."""

    def saw(self, rows: list[Row]) -> None:
        """Record the latest stamp that is not from the future, and whether the awaited row is there."""
        latest = self.latest or NEVER
        for row in rows:
            stamp = row.created
            if stamp is not None and (self.top is None or self.top < stamp) and stamp <= latest:
                self.top, self.top_id = stamp, row.id
            if row.id == self.awaited:
                self.awaited = None


class Gap(msgspec.Struct, omit_defaults=True, kw_only=True):
    """A gap in what was read: no strategy gets past a truncation."""

    since: str
    """A time, or "beginning"."""
    pinned: bool = False
    """Whether all ids since then are kept. Versions before 0.6 did not keep them."""
    newest: str | None = None
    """The newest row that was reported beyond the gap, and its time."""
    newest_at: datetime | None = None


class FeedState(Document):
    """All that a feed remembers. Times are the vendor's, except `full_at` and `swept_at`."""

    begun: bool = False
    """Whether the first visit has decided where to begin."""
    floor: datetime | None = None
    """Where the first visit began: nothing before it is reported."""
    before: list[str] = []
    """Rows that were there at the first visit although their times do not show it."""
    absorbs: bool = False
    """Rows without a readable time are added to `before`, until the first reading has ended."""
    cursor: datetime | None = None
    """The latest stamp that was read."""
    anchor: str | None = None
    """The row of that stamp."""
    swept: datetime | None = None
    """The cursor at the end of the last complete sweep."""
    edge: Mark | None = None
    """A row that a sweep should show, too."""
    tag: dict[str, str] | None = None
    """The ETag of the newest row alone."""
    leads: bool | None = None
    """Whether that request shows the newest row; None if that is not known."""
    full_at: datetime | None = None
    """When the ETag was last ignored, or did not hold."""
    swept_at: datetime | None = None
    """When the last sweep began."""
    odd_times: bool = False
    """Whether unreadable times were reported."""
    gap: Gap | None = None
    unread: list[str] = []
    learned: Learned = msgspec.field(default_factory=Learned)
    reading: Reading | None = None
    progress: Progress | None = None

    @classmethod
    def upgrade(cls, old: dict[str, Any]) -> dict[str, Any]:
        """Until 0.6, a state was one object of loose keys, in it one of the reading under way, `walk`."""
        walk = old.get("walk") or {}
        edge, oldest = _mark(walk.get("edge")), _mark(walk.get("oldest"))
        new = {
            **old,
            "edge": _mark(old.get("edge")),
            "gap": renamed(old, {"gap": "since", "newest_told": "newest"}) if old.get("gap") else None,
            "learned": renamed(old, {"ways": "strategies"}),
            "reading": renamed({**walk, "edge": edge}, {"way": "strategy"}) if walk else None,
            "progress": renamed({**walk, "oldest": oldest}, {"newest": "awaited"}) if walk else None,
        }
        return renamed(new, {})

    def repaired(self) -> None:
        """The list is read again from the cursor on: a source with a state has begun."""
        self.begun, self.tag = True, None


def _mark(old: Any) -> dict[str, Any] | None:
    """A row as [id, time]."""
    return {"id": old[0], "created": old[1]} if old else None
