"""The state of a feed: its documents, and how the states of earlier versions are read.

A document is written by one owner: `learned` and `reading` by `kit/probing`, `unread` by `kit/unread`, all else
by the feed.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from roundsman.kit.probing import Learned, Mark, Reading
from roundsman.plugin import State
from roundsman.times import parse_time
from roundsman.wire import plain_time

VERSION = 1
"""The version of a state; states of Roundsman 0.1 to 0.6 have none."""


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


class Gap(msgspec.Struct, omit_defaults=True, kw_only=True):
    """A gap in what was read: no strategy gets past a truncation."""

    since: str
    """A time, or "beginning"."""
    pinned: bool = False
    """Whether all ids since then are kept. Versions before 0.6 did not keep them."""
    newest: str | None = None
    """The newest row that was reported beyond the gap, and its time."""
    newest_at: datetime | None = None


class FeedState(msgspec.Struct, omit_defaults=True, kw_only=True):
    """All that a feed remembers. Times are the vendor's, except `full_at` and `swept_at`."""

    v: int
    """The version, which is always written."""
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
    unread: dict[str, Any] = {}
    learned: Learned = msgspec.field(default_factory=Learned)
    reading: Reading | None = None
    progress: Progress | None = None


def stored(state: FeedState) -> State:
    """The state as a small JSON object."""
    document: State = msgspec.to_builtins(state, enc_hook=plain_time)
    return document


def upgrade(stored: State) -> FeedState:
    """A copy of a stored state of this version or an earlier one. ValueError for a later version."""
    version = stored.get("v", 0)
    if version == 0:
        return _flat(stored)
    if version != VERSION:
        raise ValueError("the source's state was written by a later version of Roundsman")
    return msgspec.convert(stored, FeedState)


# -- 0.1 to 0.6: one object of loose keys, and one of the reading under way, `walk` ----------------------------

_LEARNED = (
    *("largest", "doubted", "heads", "by_created", "exclusive", "accepted", "ascends", "descending"),
    *("dates", "undated", "unordered", "fits", "ignores_limit", "ignores_larger"),
)
_READING = ("known", "limit", "anchor", "earlier", "offset", "first", "back", "proved", "full")
_READING_TIMES = ("start", "low", "high", "at")
_PROGRESS_TIMES = ("latest", "probed", "since", "top")
_TIMES = ("floor", "cursor", "swept", "full_at", "swept_at")
_PLAIN = ("begun", "before", "absorbs", "anchor", "tag", "leads", "odd_times")


def _flat(old: State) -> FeedState:
    state = FeedState(v=VERSION, **_some(old, _PLAIN), **_times(old, _TIMES))
    state.edge = _mark(old.get("edge"))
    state.learned = Learned(strategies=old.get("ways", []), **_some(old, _LEARNED))
    if old.get("unread"):
        state.unread = {"unread": old["unread"]}
    if old.get("gap"):
        state.gap = Gap(
            since=old["gap"],
            pinned=old.get("pinned", False),
            newest=old.get("newest_told"),
            newest_at=parse_time(old.get("newest_at")),
        )
    if walk := old.get("walk"):
        state.reading = Reading(
            strategy=walk.get("way", ""),
            edge=_mark(walk.get("edge")),
            **_some(walk, _READING),
            **_times(walk, _READING_TIMES),
        )
        state.progress = Progress(
            awaited=walk.get("newest"),
            oldest=_mark(walk.get("oldest")),
            **_some(walk, ("sweep", "tag", "top_id")),
            **_times(walk, _PROGRESS_TIMES),
        )
    return state


def _some(old: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: old[name] for name in names if old.get(name) is not None}


def _times(old: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: parse_time(old.get(name)) for name in names}


def _mark(old: Any) -> Mark | None:
    """A row as [id, time]."""
    created = parse_time(old[1]) if old else None
    return Mark(old[0], created) if created else None
