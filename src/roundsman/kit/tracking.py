"""Tracks things by id until they end: what changes, what stalls, what the vendor no longer knows.

An entry is a small JSON object in a source's state:

    seen      its last observed state, as a list; None before the first look
    since     when `seen` last changed, or tracking began: by the clock that the caller passes
    misses    looks in a row at which the vendor did not know it; `missed`: when the last of them was
    fails     looks in a row that failed; `failed`: when the first of them was
    stalled   whether the present stall was reported
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from roundsman.events import Event, notice
from roundsman.times import parse_time, rfc3339

Entry = dict[str, Any]
APART = 0.75
"""Minimum intervals between two looks that count separately: webhooks may trigger many in a row."""
GONE_AFTER = 2
"""A thing is gone after so many looks in a row that do not find it: a single one may be a fault."""


def entry(now: datetime) -> Entry:
    """The entry of a thing that is tracked from now on."""
    return {"seen": None, "since": rfc3339(now), "misses": 0, "stalled": False}


def answered(entry: Entry) -> None:
    """Record that the vendor knows it."""
    entry["misses"] = 0
    for name in ("missed", "fails", "failed"):
        entry.pop(name, None)


def saw(entry: Entry, seen: Sequence[Any], now: datetime) -> None:
    """Record its present state."""
    answered(entry)
    if entry["seen"] != list(seen):
        entry |= {"seen": list(seen), "since": rfc3339(now), "stalled": False}


def missed(entry: Entry, now: datetime, interval: float) -> bool:
    """Record that the vendor did not know it. Returns whether it is gone."""
    for name in ("fails", "failed"):
        entry.pop(name, None)
    before = parse_time(entry.get("missed"))
    if before is None or apart(before, now, interval):
        entry["misses"] += 1
        entry["missed"] = rfc3339(now)
    return bool(entry["misses"] >= GONE_AFTER)


def apart(before: datetime, now: datetime, interval: float) -> bool:
    """Whether a look at `now` counts besides one at `before`; also if the clock was set back between them."""
    return not 0 <= (now - before).total_seconds() < APART * interval


def stalled(
    source: str, what: str, key: str, entry: Entry, after: float, now: datetime, details: Mapping[str, Any]
) -> list[Event]:
    """The notice that it has not changed for `after` seconds, once per stall. A stall is not a failure."""
    since = parse_time(entry["since"])
    if entry["stalled"] or since is None or (now - since).total_seconds() < after:
        return []
    entry["stalled"] = True
    message = (
        f"{what} {key} has not moved since {rfc3339(since)}. It is followed on; nothing says that it failed."
    )
    about = f"{key}:{entry['since']}"
    kind = "roundsman.batch.stalled"
    return [notice(kind, source, about, message, since=since, now=now, details={"id": key, **details})]


def gone(source: str, what: str, key: str, entry: Entry, now: datetime, why: str = "") -> Event:
    """The notice that the vendor no longer knows it; its outcome cannot be found out."""
    since = parse_time(entry["since"])
    message = f"The vendor does not know {what} {key}: it was deleted, has expired, or never was. {why}How it ended is not known."
    details = {"id": key, "last_seen": entry["seen"]}
    return notice("roundsman.batch.gone", source, key, message, since=since, now=now, details=details)
