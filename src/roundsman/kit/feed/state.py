"""The state of a feed: its documents, and how the states of earlier versions are read.

A document is written by one owner: `learned` and `reading` by `kit/probing`, `unread` by `kit/unread`, all else
by the feed.
"""

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any

import msgspec

from roundsman.kit.probing import Learned, Mark, Reading
from roundsman.plugin import State
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


# -- 0.1 to 0.6: one object of loose keys, in it one of the reading under way, `walk` --------------------------


def _flat(old: State) -> FeedState:
    """What can be read of such a state; what cannot is as if it was never stored."""
    walk = old.get("walk")
    newest, newest_at = old.get("newest_told"), old.get("newest_at")
    gap = {"since": old.get("gap"), "pinned": old.get("pinned"), "newest": newest, "newest_at": newest_at}
    document = {
        **old,
        "v": VERSION,
        "edge": _mark(old.get("edge")),
        "gap": _present(gap) if old.get("gap") else None,
        "unread": _present({"unread": old.get("unread")}),
        "learned": _present({**old, "strategies": old.get("ways")}),
    }
    if walk:
        edge, oldest = _mark(walk.get("edge")), _mark(walk.get("oldest"))
        document["reading"] = _present({**walk, "strategy": walk.get("way"), "edge": edge})
        document["progress"] = _present({**walk, "awaited": walk.get("newest"), "oldest": oldest})
    state = FeedState(v=VERSION)
    for field in msgspec.structs.fields(FeedState):
        if document.get(field.name) is not None:
            with suppress(msgspec.ValidationError):
                setattr(state, field.name, msgspec.convert(document[field.name], field.type))
    return state


def _present(members: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}


def _mark(old: Any) -> dict[str, Any] | None:
    """A row as [id, time]."""
    return {"id": old[0], "created": old[1]} if old else None
