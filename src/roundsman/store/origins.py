"""What a configuration changes under names that have a memory: a cursor of one account says nothing about another one.

A source's memory is of what it read: an address and an account (`Source.origin`). That is kept beside the state and compared
when sources are registered; `status`, `check` and the log say where they differ.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from roundsman.plugin import Source
from roundsman.store import Reader
from roundsman.times import rfc3339


class Change(NamedTuple):
    """Something that somebody should hear of before it costs them events."""

    source: str
    what: str


def another_origin(name: str, was: str, now: str) -> str:
    """The sentence about a source that reads something else than what it remembers."""
    return (
        f"it reads {now} now, and what it remembers is of {was}: `roundsman rewind {name} --to beginning` reads everything "
        f"there, `roundsman rewind {name} --accept` goes on where it was"
    )


def changes(reader: Reader, sources: Mapping[str, Source]) -> list[Change]:
    """What these sources would do that their names' memories do not say."""
    rows = {row["name"]: row for row in reader.sources()}
    found = []
    for name, source in sources.items():
        row, origin = rows.get(name), source.origin()
        if row is not None and row["visited"] is not None:
            if row["origin"] not in {None, origin}:
                found.append(Change(name, another_origin(name, row["origin"], origin)))
            continue
        behind = [
            (old, left)
            for old, left in rows.items()
            if old not in sources and left["type"] == source.type and left["visited"] is not None
        ]
        for old, left in behind:
            # Versions before 0.5 wrote down no origin: one source that is left behind may have been renamed, several not.
            if left["origin"] == origin or (left["origin"] is None and len(behind) == 1):
                last = rfc3339(
                    datetime.fromtimestamp(left["answered"] or left["visited"], UTC).replace(microsecond=0)
                )
                what = (
                    f"it is new, and {old}, which read the same until {last}, is not in the configuration any more: call it "
                    f"{old} again, or have it read what came since: `roundsman rewind {name} --to {last}`"
                )
                found.append(Change(name, what))
    return found
