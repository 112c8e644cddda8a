"""The workers that share a store: as values, as lines, and as a sentence if their configurations differ."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from roundsman.screen.words import stamp
from roundsman.store import View

FEW = 5
"""Names in a sentence."""
LATE = 15.0
"""Seconds since the last beat after which a worker is shown as silent; after some more, others take over."""


async def workers(view: View) -> list[dict[str, Any]]:
    """Each worker with a session; none if the store is not shared."""
    return [
        {
            "name": each.name,
            "state": "silent" if each.age > LATE else "ok",
            "host": each.host,
            "pid": each.pid,
            "version": each.version,
            "since": stamp(each.since),
            "beat": stamp(each.beat),
            "sources": each.sources,
            "sinks": each.sinks,
            "config": each.digest,
        }
        for each in await view.workers()
    ]


def remarks(found: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Sentences about workers that need a look."""
    for each in found:
        if each["state"] == "silent":
            yield f"{each['name']}: the worker has not recorded since {each['beat']} that it runs"
    digests = Counter(each["config"] for each in found if each["config"] is not None)
    if len(digests) > 1:
        usual, _ = digests.most_common(1)[0]
        others = ", ".join(each["name"] for each in found if each["config"] not in {usual, None})
        yield f"the workers have different configurations: reload those of {others}, or the others"


def unheld(found: Mapping[str, Any]) -> Iterator[str]:
    """A sentence about sources, and one about sinks, that no worker holds; `found`: what `status` shows."""
    for kind, why in (
        ("source", ""),
        ("sink", ": events wait there, for the machine in `on` if there is one"),
    ):
        rows = [row for row in found[f"{kind}s"] if row["state"] != "retired" and row["worker"] is None]
        if found.get("workers") and rows:
            names = ", ".join(row["name"] for row in rows[:FEW])
            more = f" and {len(rows) - FEW:,} more" if len(rows) > FEW else ""
            yield f"no worker holds the {kind}{'s' if len(rows) > 1 else ''} {names}{more}{why}"
