"""Rows of a store as values: an event, an act, a source's status."""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

from roundsman.errors import StoreError, Unreadable
from roundsman.events import Event, with_summary
from roundsman.store.about import about
from roundsman.store.values import Act, SourceRecord, SourceStatus

STATUS = "name, heard, due, coalesce(held, 0), visited, answered, polls, failures, failing, unanswered, error, options, paused"
"""The columns of `record_of`."""


def event_of(row: Sequence[Any]) -> Event:
    """The event in a row: number, source, id, type, outcome, body."""
    seq, source, key, kind, outcome, body = row[:6]
    if type(body) is not bytes:  # a damaged store may return anything
        body = str(body).encode("utf-8", "replace")
    return Event(key, source, kind, outcome, with_summary(body, source), seq)


def act_of(row: Sequence[Any]) -> Act:
    """The act in a row: failure, time, person, done, note."""
    seq, at, who, done, note = row[:5]
    return Act(seq, at, who, bool(done), note)


def record_of(row: Sequence[Any]) -> SourceRecord:
    """The record in a row of `STATUS`."""
    name, heard, due, *fields = row
    # A negative `due` is a command's wish for a visit.
    return SourceRecord(name, SourceStatus(max(due, 0.0), *fields), heard)


def columns_of(status: SourceStatus) -> tuple[object, ...]:
    """The stored fields of a status, from `due` on, in the order of `STATUS`."""
    return (
        status.due,
        status.not_before,
        status.last_visit,
        status.last_success,
        status.visits,
        status.failures,
        status.failing_since,
        status.unanswered_since,
        status.error,
        status.failed_with,
    )


def about_event(event: Event) -> str | None:
    """What a failure is about; None also if it cannot be read."""
    try:
        document = event.document()
    except Unreadable:
        return None
    return about(event.source, document.get("data")) if isinstance(document, dict) else None


class _Numbered(NamedTuple):
    """An act with its number: a later one has a greater number."""

    n: int
    act: Act


def earlier_acts(keys: Mapping[int, str], rows: Iterable[Sequence[Any]]) -> dict[int, Act]:
    """For each failure (number -> what it is about), the newest act on an earlier one that was about the same.

    `rows`: the acts, as for `act_of`, each with its number and what it was about; by that, then by failure.
    """
    done: dict[str | None, list[_Numbered]] = {}
    for row in rows:
        done.setdefault(row[6], []).append(_Numbered(row[5], act_of(row)))
    # At each place, the newest act on that failure and on those before it: there may be many acts, and many failures.
    newest = {key: list(accumulate(acts, max)) for key, acts in done.items()}
    found = {}
    for seq, key in keys.items():
        earlier = bisect_left(done.get(key, []), seq, key=lambda each: each.act.seq)
        if earlier:
            found[seq] = newest[key][earlier - 1].act
    return found


def must_be(place: str, was: str, kind: str) -> None:
    """StoreError if the type of a name has changed: what is stored under the name fits only the old type."""
    if was != kind:
        what = place.partition(".")[0].removesuffix("s")
        raise StoreError(f"{place} was a {was} and is now a {kind}: give the new {what} another name")
