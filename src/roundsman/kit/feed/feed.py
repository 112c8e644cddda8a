"""The polls of a feed: look whether something changed, read what is new, and move the cursor."""

from contextlib import aclosing
from datetime import datetime, timedelta

from roundsman.errors import NoRows, RequestFailed
from roundsman.events import Event
from roundsman.http.answers import Answer
from roundsman.http.urls import is_loopback
from roundsman.kit.feed.asking import Asker
from roundsman.kit.feed.beginning import Beginning
from roundsman.kit.feed.gaps import open_gap
from roundsman.kit.feed.state import FeedState, Progress
from roundsman.kit.feed.vendor import Growing
from roundsman.kit.probing import MILLISECOND, Learned, Mark, Probing, Reading, Row, Truncated, newest
from roundsman.options.values import LONGEST_LOOKBACK
from roundsman.plugin import Poll, State, Visit
from roundsman.times import is_due, rfc3339

ABSORBED = 20_000
"""Maximum rows with unreadable times that are remembered as old when a source begins with `start = "now"`."""


class Feed(Growing):
    """A source that reads a list that only grows."""

    reads_ahead = True

    async def poll(self, visit: Visit, state: State) -> Poll:
        """One page of a reading, with `more` until the reading is complete.

        A plugin may derive from a feed and await this, so it does not yield the pages.
        """
        return await _Round(self, visit, state).poll()

    def rewound(self, state: State, to: datetime | None) -> State:
        """The state from which the list is read again. What proves that the server cuts its answers is kept."""
        old = FeedState.load(state)
        known, edge = old.learned, None
        learned = Learned(largest=known.largest, cuts=known.cuts)
        if old.gap is not None:
            learned.cuts = known.cuts or known.largest  # a state of a version before 0.9 has no `cuts`
            if old.anchor is not None and old.cursor is not None and (to is None or to <= old.cursor):
                edge = Mark(old.anchor, old.cursor)
        return FeedState(begun=True, floor=to, edge=edge, learned=learned).dump()

    @classmethod
    def gap(cls, state: State) -> str | None:
        found = FeedState.load(state).gap
        return found.since if found is not None else None

    @classmethod
    def reading(cls, state: State) -> str | None:
        found = FeedState.load(state)
        if found.reading is None or found.progress is None:
            return None
        # Only the pages in ascending order have a time up to which all was read.
        at = found.reading.at
        return rfc3339(at) if at is not None else ""


class _Round:
    """One poll. `state` is the new state."""

    def __init__(self, source: Growing, visit: Visit, state: State) -> None:
        self.source = source
        self.visit = visit
        self.before = state
        self.state = FeedState.load(state)
        self.asker = Asker(source, visit, self.state)
        self.events: list[Event] = []
        self.count = 0

    async def poll(self) -> Poll:
        state, reread, now = self.state, self.source.reread, self.visit.now
        if state.reading is not None and state.progress is not None:
            if not is_loopback(self.source.base_url):
                await self.visit.pause(60 / self.source.paging.requests_per_minute)
            return await self._read(state.reading, state.progress)
        sweep = is_due(state.swept_at, reread.sweep_interval, now)
        full = sweep or is_due(state.full_at, reread.full_read_every, now)
        if sweep:
            state.learned.forget()
        probe = await self.asker.probe(None if full else state.tag)
        if probe.unchanged:
            return Poll(self.before)
        state.full_at = now
        if sweep:
            state.swept_at = now
        return await self._changed(probe, sweep=sweep)

    async def _changed(self, probe: Answer, *, sweep: bool) -> Poll:
        """The list may have changed: read it, if this is the first visit from where the source begins."""
        state, reread, paging = self.state, self.source.reread, self.source.paging
        rows = await self._first_row(probe)
        beginning = Beginning(self.asker, probe, self.visit.now, reread.overlap, paging.limit)
        readable = rows is not None
        if rows is None:
            rows = [] if state.begun else await beginning.readable()
        # A row from the future stays the newest one: its ETag would hide new rows. Whether the list has an
        # unreadable row cannot be checked.
        tag = dict(probe.tag) if probe.tag and readable and not beginning.ahead(rows) else None
        if not state.begun:
            state.begun = True
            if not await self._begin(beginning, rows):
                state.tag = tag if self._leads else None
                return self._poll()
        state.reading = self._reading(sweep=sweep)
        state.progress = Progress(
            sweep=sweep,
            tag=tag,
            latest=beginning.latest,
            awaited=rows[0].id if rows else None,
            probed=rows[0].created if rows else None,
            since=(state.swept if sweep else state.cursor) or state.floor,
        )
        if state.gap is not None and not sweep:
            return await self._read_newest(state.reading, state.progress)
        return await self._read(state.reading, state.progress)

    async def _first_row(self, probe: Answer) -> list[Row] | None:
        """The rows of the probe's answer: one, if the server heeds `limit`. None if it is unreadable."""
        try:
            rows = await self.asker.rows(probe)
        except NoRows:
            return None  # the other rows are asked for; the reading meets this one again
        if not rows and self.state.cursor:
            raise RequestFailed(
                "the list is empty although it had rows before: check that the integration still has its keys and its "
                "place (if the list is really empty: roundsman rewind)"
            )
        self.state.learned.answered_one(len(rows))
        return rows

    async def _begin(self, beginning: Beginning, rows: list[Row]) -> bool:
        """At the first visit, set where to begin. Returns whether to read now."""
        state, start = self.state, self.source.start
        if start != "now":
            state.floor = start if isinstance(start, datetime) else None
            return True
        found = await beginning.floor(rows)
        state.floor, state.before, state.absorbs = found.floor, sorted(found.before), found.absorbs
        if found.newest is not None:
            state.cursor, state.anchor = found.newest.created, found.newest.id
        return found.reads

    def _reading(self, *, sweep: bool) -> Reading:
        """A reading from `overlap` before the cursor on, or on a sweep from `sweep_depth` before it."""
        state, reread = self.state, self.source.reread
        back = timedelta(seconds=max(reread.sweep_depth, reread.overlap) if sweep else reread.overlap)
        begin = state.cursor or state.floor
        # A sweep asks from before the floor, too: a server whose startDate compares with the time of the
        # unlock would not list what happened before the floor and was stored after it. A millisecond more
        # serves servers whose startDate is exclusive.
        start = begin - back - MILLISECOND if begin else None
        # For new rows it is enough to reach the newest known row; a sweep looks for rows below it.
        return Reading(start=start, known=None if sweep else state.anchor, edge=state.edge, floor=state.floor)

    async def _read(self, reading: Reading, progress: Progress) -> Poll:
        """Read until the reading has advanced by a page, or is complete."""
        probing = Probing(self.state.learned, reading, self.source.paging.limits(), self.asker.ask)
        try:
            async with aclosing(probing.pages()) as pages:
                async for page in pages:
                    self.asker.remarks += page.doubts
                    self._take(page.rows, reading.start, progress)
                    if page.resumable:
                        return self._poll(more=True)
        except Truncated:
            return await self._read_newest(reading, progress)
        self._arrive(reading, progress)
        return self._end()

    async def _read_newest(self, reading: Reading, progress: Progress) -> Poll:
        """If no strategy gets past the truncation, report the newest rows, and a gap before them."""
        state, now = self.state, self.visit.now
        rows = await newest(state.learned, self.source.paging.limits(), self.asker.ask)
        start, gap = reading.start, state.gap
        if gap is not None and gap.newest_at is not None and not gap.pinned:
            # Old ids from a gap that an earlier version opened have been forgotten; rows that old were
            # reported when they were new.
            known = min(gap.newest_at, now)  # a row's time can lie in the future
            start = max(filter(None, (start, known - timedelta(seconds=LONGEST_LOOKBACK))))
        self._take(rows, start, progress)
        self.events += open_gap(self.source, state, rows, now)
        state.tag = progress.tag if progress.awaited is None else None
        return self._end()

    def _take(self, rows: list[Row], start: datetime | None, progress: Progress) -> None:
        """Report the rows since the floor and `start`: a server may list rows older than asked for."""
        state = self.state
        bound = max(filter(None, (state.floor, start)), default=None)
        before = frozenset(state.before)
        absorbed = []
        for row in rows:
            stamp = row.created or row.occurred
            if row.id in before or (bound is not None and stamp is not None and stamp < bound):
                continue
            if stamp is None and state.absorbs:
                absorbed.append(row.id)
                continue
            self.events.append(row.event)
            if row.created is not None and (progress.oldest is None or row.created < progress.oldest.created):
                progress.oldest = Mark(row.id, row.created)
        if progress.latest is not None:
            # An earlier daemon may have begun this reading long ago: what was the future then is not any more.
            overlap = timedelta(seconds=self.source.reread.overlap)
            progress.latest = max(progress.latest, self.visit.vendor_now + overlap)
        if absorbed:
            state.before = list(dict.fromkeys([*state.before, *absorbed]))[:ABSORBED]
        progress.saw(rows)
        self.count += len(rows)

    def _arrive(self, reading: Reading, progress: Progress) -> None:
        """The reading is complete: move the cursor, and store the ETag from before the reading."""
        state, top = self.state, progress.top
        if top is not None and (state.cursor is None or top > state.cursor):
            state.cursor, state.anchor = top, progress.top_id
        if progress.sweep:
            state.swept = state.cursor
        depth = timedelta(seconds=self.source.reread.sweep_depth)
        if state.cursor and not (state.edge and state.edge.created > state.cursor - depth / 2):
            state.edge = progress.oldest or state.edge
        self._judge_probe(reading, progress)
        # If the list lacked the row that the probe showed, do not store the ETag until the list has it.
        state.tag = progress.tag if progress.awaited is None and self._leads else None
        state.gap = None

    def _judge_probe(self, reading: Reading, progress: Progress) -> None:
        """Judge by the rows read whether the probe shows the newest row."""
        state, top, probed = self.state, progress.top, progress.probed
        if top is not None and probed is not None and probed < top:
            # A row was added since, or the order is not the one asked for and the first row stays the same.
            state.leads = False
        elif probed is not None and reading.low is not None and reading.low < probed:
            state.leads = True
        elif state.leads is False:
            state.leads = None

    @property
    def _leads(self) -> bool:
        """Whether the probe shows the newest row: the ETag of any other row would hide new ones.

        If the server refuses the order, a reading must prove it first.
        """
        return not self.state.learned.unordered if self.state.leads is None else self.state.leads

    def _end(self) -> Poll:
        self.state.absorbs = False
        self.state.reading = self.state.progress = None
        return self._poll()

    def _poll(self, *, more: bool = False) -> Poll:
        asker, state = self.asker, self.state.dump()
        return Poll(
            state, self.events, more=more, rows=self.count, remarks=asker.remarks, unread=asker.unread
        )
