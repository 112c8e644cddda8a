"""Following things by id until they end: what moved, what stalls, what the vendor no longer knows.

An entry is a small JSON object in a source's state:

    seen      what was last seen of it, as a list; None before the first look
    since     when that was, by our clock: how long it has not moved
    misses    looks in a row at which the vendor did not know it, and `missed`: when the last of them was
    fails     looks in a row that failed, and `failed`: when the first of them was
    stalled   whether its stalling was told
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from roundsman.events import Event, notice
from roundsman.times import parse_time, rfc3339

Entry = dict[str, Any]
APART = 0.75
"""Two looks say more than one only if they are so many intervals apart: webhooks may ring for many in a row."""
GONE_AFTER = 2
"""Looks in a row at which the vendor does not know a thing, before it is believed: one may be a slip."""
HOPELESS_AFTER = 10
"""Looks in a row that fail, at least, before a thing is given up: a machine that slept for a week saw none of it."""


def entry(now: datetime) -> Entry:
    """Something followed from now on."""
    return {"seen": None, "since": rfc3339(now), "misses": 0, "stalled": False}


def answered(entry: Entry) -> None:
    """Take note that the vendor knows it."""
    entry["misses"] = 0
    for name in ("missed", "fails", "failed"):
        entry.pop(name, None)


def saw(entry: Entry, seen: Sequence[Any], now: datetime) -> None:
    """Take note of how it looks now."""
    answered(entry)
    if entry["seen"] != list(seen):
        entry |= {"seen": list(seen), "since": rfc3339(now), "stalled": False}


def missed(entry: Entry, now: datetime, interval: float) -> bool:
    """Take note that the vendor did not know it; whether it is gone."""
    for name in ("fails", "failed"):
        entry.pop(name, None)
    before = parse_time(entry.get("missed"))
    if before is None or apart(before, now, interval):
        entry["misses"] += 1
        entry["missed"] = rfc3339(now)
    return bool(entry["misses"] >= GONE_AFTER)


def hopeless(entry: Entry, after: float, now: datetime) -> bool:
    """Take note that it could not be asked for; whether every one of many looks has failed so, for `after` seconds."""
    since = parse_time(entry.setdefault("failed", rfc3339(now)))
    entry["fails"] = entry.get("fails", 0) + 1
    lasted = (now - since).total_seconds() if since is not None else 0.0
    return bool(entry["fails"] >= HOPELESS_AFTER and lasted > after)


def apart(before: datetime, now: datetime, interval: float) -> bool:
    """Whether a second look, after one `before`, says more than that one; also where the clock was set back between them."""
    return not 0 <= (now - before).total_seconds() < APART * interval


def stalled(
    source: str, what: str, key: str, entry: Entry, after: float, now: datetime, details: Mapping[str, Any]
) -> list[Event]:
    """The notice that it has not moved for `after` seconds, once for each time it stalls. Stalling is not failing."""
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
    """The notice that the vendor no longer knows it: how it ended cannot be found out."""
    since = parse_time(entry["since"])
    message = f"The vendor does not know {what} {key}: it was deleted, has expired, or never was. {why}How it ended is not known."
    details = {"id": key, "last_seen": entry["seen"]}
    return notice("roundsman.batch.gone", source, key, message, since=since, now=now, details=details)
