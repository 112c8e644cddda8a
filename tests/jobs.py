"""Vendors with trouble at one path, and what became of jobs there."""

from collections.abc import Callable, Mapping
from typing import Any

from rounds import Rounds
from roundsman.sandbox.railz import Quirks as RailzQuirks, Railz
from roundsman.sandbox.vendor import Reply
from worlds import Time

Answer = Callable[[str, Mapping[str, str]], Reply | None]


def troubled(vendor: Any, trouble: Answer) -> None:
    """The vendor answers otherwise where `trouble` does, given the path and the query."""
    answer = vendor.answer

    def changed(method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str]) -> Reply:
        found: Reply = trouble(path, query) or answer(method, path, query, headers)
        return found

    vendor.answer = changed


def two_connections(time: Time, **quirks: Any) -> Railz:
    ledger = Railz(now=time.utc, quirks=RailzQuirks(**quirks))
    ledger.connect("CON-1")
    ledger.connect("CON-2")
    return ledger


def hidden_from_the_list(ledger: Railz) -> None:
    """The list shows nothing; a push is shown where it is asked for."""

    def trouble(path: str, query: Mapping[str, str]) -> Reply | None:
        single = {"pushCommunicationId", "batchId", "deleteCommunicationId"} & query.keys()
        if path.endswith("pushStatus") and not single:
            return Reply(200, {}, b'{"meta": {}, "pagination": {"count": 0}, "data": []}')
        return None

    troubled(ledger, trouble)


def ends(world: Rounds) -> set[str]:
    return {event.id.partition(":")[0] for event in world.events("ai.railz.push.completed")}
