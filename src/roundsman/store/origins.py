"""Warnings about sources whose stored state is from something else than they are configured to read.

A source's state is from the address and the account that it read (`Source.origin`): a cursor of one account
is not valid for another one. The origin is stored beside the state and compared when sources are
registered; `status`, `check` and the log report a difference.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from roundsman.store.values import SourceEntry
from roundsman.times import rfc3339

if TYPE_CHECKING:
    from roundsman.plugin import Source


class Change(NamedTuple):
    """A changed origin or name, for a warning: events may be missed."""

    source: str
    what: str


def another_origin(name: str, was: str, now: str) -> str:
    """The message about a source that reads another origin than its state is from."""
    return (
        f"it reads {now} now, and its state is from {was}: `roundsman rewind {name} --to beginning` reads everything "
        f"there, `roundsman rewind {name} --accept` continues from the state"
    )


def changes(
    entries: Sequence[SourceEntry], sources: "Mapping[str, Source]", others: Mapping[str, str] | None = None
) -> list[Change]:
    """The warnings about these sources: another origin, or a new name for what a removed source has read.

    `others`: sources that other workers hold, with their names: these were not removed.
    """
    others = others or {}
    known = {entry.name: entry for entry in entries}
    found = []
    for name, source in sources.items():
        entry, origin = known.get(name), source.origin()
        if entry is not None and entry.status.last_visit is not None:
            if entry.origin is not None and entry.origin != origin:
                found.append(Change(name, another_origin(name, entry.origin, origin)))
            continue
        behind = [
            left
            for left in entries
            if left.name not in sources and left.type == source.type and left.status.last_visit is not None
        ]
        for left in behind:
            # Versions before 0.5 stored no origin. A single removed source may have been renamed; of several,
            # it is not known which.
            if left.origin == origin or (left.origin is None and len(behind) == 1):
                at = left.status.last_success or left.status.last_visit or 0.0
                last, old = rfc3339(datetime.fromtimestamp(at, UTC).replace(microsecond=0)), left.name
                newer = f"read what is newer: `roundsman rewind {name} --to {last}`"
                if old in others:
                    what = (
                        f"it is new, and {old}, which reads the same, is of another configuration: the worker {others[old]} "
                        f"visits it; if this is its new name, {newer}"
                    )
                else:
                    what = (
                        f"it is new, and {old}, which read the same until {last}, was removed from the configuration: name it "
                        f"{old} again, or {newer}"
                    )
                found.append(Change(name, what))
    return found
