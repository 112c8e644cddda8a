"""Warnings about sources that are configured to read something else than their stored state is from.

A source's state is from the address and the account that it read (`Source.origin`): a cursor of one account
says nothing about another one. The origin is stored beside the state and compared when sources are
registered; `status`, `check` and the log report a difference.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from roundsman.plugin import Source
from roundsman.store import Reader
from roundsman.times import rfc3339


class Change(NamedTuple):
    """A changed origin or name that a person should know of, because events may be missed."""

    source: str
    what: str


def another_origin(name: str, was: str, now: str) -> str:
    """The message about a source that reads another origin than its state is from."""
    return (
        f"it reads {now} now, and what it remembers is of {was}: `roundsman rewind {name} --to beginning` reads everything "
        f"there, `roundsman rewind {name} --accept` goes on where it was"
    )


def changes(reader: Reader, sources: Mapping[str, Source]) -> list[Change]:
    """The warnings about these sources: another origin, or a new name for what a removed source has read."""
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
            # Versions before 0.5 stored no origin. A single removed source may have been renamed; of several,
            # it is not known which.
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
