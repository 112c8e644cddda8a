"""Turns the rows of a reading into events, and records how far the rows reach."""

from datetime import UTC, datetime

from roundsman.events import Event
from roundsman.kit.feed.state import FeedState, Progress
from roundsman.kit.feed.vendor import Growing
from roundsman.kit.probing import Mark, Row

ABSORBED = 20_000
"""Maximum rows with unreadable times that are remembered as old when a source begins with `start = "now"`."""
NEVER = datetime.max.replace(tzinfo=UTC)


def take(source: Growing, state: FeedState, rows: list[Row], start: datetime | None) -> list[Event]:
    """The events of the rows since the floor and `start`: a server may list rows older than asked for."""
    progress = state.progress
    assert progress is not None
    _record_newest(progress, rows)
    bound = max(filter(None, (state.floor, start)), default=None)
    before = frozenset(state.before)
    event, name = source.shape.event, source.name
    events, absorbed = [], []
    oldest: Row | None = None
    for row in rows:
        stamp = row.created or row.occurred
        if row.id in before or (bound is not None and stamp is not None and stamp < bound):
            continue
        if stamp is None and state.absorbs:
            absorbed.append(row.id)
            continue
        events.append(event(row, name))
        if row.created is not None and (oldest is None or row.created < oldest.when):
            oldest = row
    if absorbed:
        state.before = list(dict.fromkeys([*state.before, *absorbed]))[:ABSORBED]
    if oldest is not None and (progress.oldest is None or oldest.when < progress.oldest.created):
        progress.oldest = Mark(oldest.id, oldest.when)
    return events


def _record_newest(progress: Progress, rows: list[Row]) -> None:
    """Record the latest stamp that is not from the future, and whether the awaited row is there."""
    top, top_id, awaited = progress.top, progress.top_id, progress.awaited
    latest = progress.latest or NEVER
    for row in rows:
        if row.created is not None and (top is None or top < row.created) and row.created <= latest:
            top, top_id = row.created, row.id
        if row.id == awaited:
            progress.awaited = None
    progress.top, progress.top_id = top, top_id
