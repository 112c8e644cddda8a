"""Reports a gap: rows may be missing, because no strategy gets past a truncation."""

from datetime import datetime

from roundsman.events import Event, notice
from roundsman.kit.feed.state import FeedState, Gap
from roundsman.kit.feed.vendor import Growing
from roundsman.kit.probing import Row
from roundsman.times import rfc3339, spell


def open_gap(source: Growing, state: FeedState, newest: list[Row], now: datetime) -> list[Event]:
    """Record that rows before the newest ones may be missing. The notice of it, unless it was reported.

    The cursor stays, and each sweep tries again.
    """
    assert state.progress is not None
    gap, since = state.gap, state.progress.since
    found = gap is None
    if gap is None:
        gap = state.gap = Gap(since=_about(since), pinned=True)  # from now on, ids since then are kept
    elif gap.newest is not None and all(row.id != gap.newest for row in newest):
        since = gap.newest_at or since  # another gap: more rows came than an answer shows
        found = since is not None
    if newest:
        latest = max(newest, key=lambda row: row.when)
        gap.newest, gap.newest_at = latest.id, latest.when
    return [_notice(source, state, newest, since, now)] if found else []


def _notice(
    source: Growing, state: FeedState, newest: list[Row], since: datetime | None, now: datetime
) -> Event:
    about = _about(since)
    until = rfc3339(min(row.when for row in newest)) if newest else None
    rows = state.learned.largest
    every = spell(source.reread.sweep_interval)
    bounds = [f"after {about}"] if since else []
    bounds += [f"before {until}"] if until else []
    where = f"Rows {' and '.join(bounds)}" if bounds else "Rows"
    message = (
        f"The server cuts its answers at {rows} rows, and no parameter tried gets past that. {where} may be "
        f"missing. Each visit still reports the newest rows, and a sweep tries again every {every}. To get the "
        "missing rows, raise paging.max_limit, name the right parameter in paging.offset_params, or set "
        'paging.mode = "keyset" if startDate compares with createdAt. To accept the loss, run '
        f"`roundsman rewind {source.name} --to` a later time."
    )
    cursor = rfc3339(state.cursor) if state.cursor else None
    details = {"cursor": cursor, "since": about, "until": until, "rows": rows}
    kind = "roundsman.source.gap"
    return notice(kind, source.name, about, message, since=since, now=now, details=details)


def _about(since: datetime | None) -> str:
    return rfc3339(since) if since else "beginning"
