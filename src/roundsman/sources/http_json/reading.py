"""One visit to a list: from the stored position to the newest row, page by page."""

import copy
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

from roundsman.errors import Denied, RequestFailed, Unreadable
from roundsman.events import notice
from roundsman.http.answers import Answer, is_refusal
from roundsman.kit.builder import PollBuilder
from roundsman.options.values import LONGEST_LOOKBACK
from roundsman.plugin import Poll, State, Visit
from roundsman.sources.http_json import paging
from roundsman.sources.http_json.ages import Ages
from roundsman.sources.http_json.asking import Asking, Value
from roundsman.sources.http_json.paging import Lost, Page, Pager, digest
from roundsman.sources.http_json.rows import Row
from roundsman.sources.http_json.state import ListState, Walk
from roundsman.sources.http_json.table import Table
from roundsman.times import is_due, parse_time, rfc3339

EXPIRED = frozenset({400, 404, 410, 416, 422})
"""Statuses that refuse a position that was kept from an earlier visit."""
GIVE_UP_AFTER = 3
"""Visits in a row at which a kept position is refused before it is given up: one refusal may be a fault."""
BEYOND = frozenset({404, 416})
"""Statuses of a page behind the last one, when pages are counted by us."""
MARKS = 50
"""Rows of the first page that mark where the next walk ends, for a list with the newest row first."""
ABSORBED = 20_000
"""Maximum rows without a time that are remembered as old when a source begins with `start = "now"`."""
CLOCK_DOUBT = timedelta(days=1)
"""How far our clock may be ahead of the vendor's, if the vendor sends no `Date`."""


class Reading(PollBuilder):
    """One visit."""

    doc: ListState

    def __init__(self, source: Table, visit: Visit, state: State) -> None:
        super().__init__(state, ListState.load(state))
        self._source = source
        self._visit = visit
        self._list = self.doc.list
        self._asking = Asking(source, visit)
        self._ages = Ages(source, self._list)
        self._pager = self._make_pager()
        self._before = set(self._list.before)
        self._restarted = False
        self._has_passed = False
        """The window that was read last ended before the present: the next one follows at once."""

    def _make_pager(self) -> Pager:
        source = self._source
        if source.pages is None:
            return paging.One()
        match source.pages.next:
            case "rows":
                return paging.Skipping(source)
            case "page":
                return paging.Numbered(source)
            case "since":
                return paging.Continued(source, self._ages)
        return paging.Named(source.pages, self._asking)

    async def polls(self) -> AsyncIterator[Poll]:
        table = self._source.table()
        if self._list.table not in {"", table}:
            self._forget_position("the options of its list have changed")
        elif not self._ages.fits():
            self._forget_position("what is stored of its position does not fit")
        self._list.table = table
        another = self._list.walk is not None  # what came since it began is read by a walk of its own
        while True:
            async for poll in self._walk():
                yield poll
                if self._visit.wait:
                    return  # the vendor asks us to wait; the next visit goes on from here
            if not (another or self._has_passed):
                return
            another = False

    # -- one walk --------------------------------------------------------------------------------------------

    async def _walk(self) -> AsyncIterator[Poll]:
        """Read from the walk's position to its end; each page is one poll."""
        walk = copy.deepcopy(self._list.walk) or self._begin()
        first, is_kept, self._has_passed = self._list.walk is None, walk.at is not None, False
        while True:
            try:
                answer = await self._ask(walk, first=first)
            except (RequestFailed, Denied) as exc:
                if not is_kept and self._is_end(walk, exc):
                    yield self._end(walk)
                    return
                if not (is_kept and self._has_expired(exc)):
                    raise
                if self._source.keeps_next and self._list.refusals + 1 < GIVE_UP_AFTER:
                    self._list.refusals += 1  # what came late is behind this position only
                    yield self.poll()
                    raise
                if self._source.keeps_next and self._list.cursor is not None:
                    self._report_gap(
                        walk,
                        "the vendor refuses the position that was kept, and rows that came late are only behind it",
                    )
                self._forget_position(f"the vendor refuses the position that was kept ({exc})")
                walk, first, is_kept = self._begin(), True, False
                continue
            if answer.unchanged:
                self._visit.explain("the answer is unchanged: there is nothing new")
                if self._list.refusals:
                    self._list.refusals = 0
                    yield self.poll()
                return
            self._list.refusals = 0
            with answer.naming():
                found = self._source.reader.read(answer, proven=self._list.begun or walk.pages > 0)
            page = Page(answer, found)
            self.begin(self._source.start, answer.date(), self._visit.now)
            goes_on = await self._take(walk, page, first=first)
            if not goes_on:
                yield self._end(walk)
                return
            self._list.walk = None if self._source.keeps_next else copy.deepcopy(walk)
            first = is_kept = False
            yield self.poll()

    def _begin(self) -> Walk:
        """A walk from the stored position on."""
        source, memory = self._source, self._list
        full = is_due(memory.full_at, source.full_read_every, self._visit.now)
        walk = Walk(full=full)
        if self._source.keeps_next:
            walk.at = memory.next
        since = source.since
        if since is not None and since.param and walk.at is None:
            walk.begin = self._first_value(memory.cursor)
            if since.until:
                begin = parse_time(walk.begin) or self._visit.vendor_now
                walk.end = rfc3339(self._window_end(begin))
        walk.fills_gap = self._reaches_gap(walk)
        return walk

    def _reaches_gap(self, walk: Walk) -> bool:
        """Whether a walk that begins now asks for all rows of the gap, if there is one."""
        gap, since = self._list.gap, self._source.since
        if gap is None or self._source.keeps_next or (since is not None and since.window):
            return False  # a kept position is behind the gap, and a window may end before it
        return walk.begin is None or self._ages.is_at_or_before(walk.begin, gap)

    def _first_value(self, cursor: Value | None) -> Value | None:
        """What `since.param` carries: a little before the cursor, or before the floor of the first visit."""
        since = self._source.since
        assert since is not None
        if since.format == "number":
            return paging.before(cursor, since.format)
        floor = self.doc.floor
        if cursor is None and floor is None:
            # The vendor's clock is not known yet: this decides what is read, not what is reported.
            start = self._source.start
            now = self._visit.now - CLOCK_DOUBT
            moment = start if isinstance(start, datetime) else now if start == "now" else None
            floor = rfc3339(moment) if moment else None
        here = cursor or floor or None
        return paging.back(here, since.overlap) if since.overlap else paging.before(here, since.format)

    def _window_end(self, begin: datetime) -> datetime:
        since = self._source.since
        assert since is not None
        return begin + timedelta(seconds=since.window) if since.window else self._latest() + 2 * CLOCK_DOUBT

    def _latest(self) -> datetime:
        """The latest time that surely is not in the future: by the clock that is behind; or by ours, with doubt."""
        date, now = self._visit.http.account.date, self._visit.now
        return min(date, now) if date is not None else now - CLOCK_DOUBT

    async def _ask(self, walk: Walk, *, first: bool) -> Answer:
        kept = self._list.tag if first and not walk.full else None
        begin = None if self._source.keeps_next and walk.at is not None else walk.begin
        return await self._asking.page(walk.at, begin, parse_time(walk.end), kept)

    def _has_expired(self, exc: Exception) -> bool:
        """Whether a position from an earlier visit is refused. Then the list is read from the cursor on."""
        return is_refusal(exc, EXPIRED) and not self._restarted

    def _is_end(self, walk: Walk, exc: Exception) -> bool:
        """Whether a refused page is behind the last one: some servers answer 404 instead of an empty page."""
        if not isinstance(self._pager, paging.Counted) or self._pager.is_cut:
            return False
        return walk.pages > 0 and is_refusal(exc, BEYOND)

    def _forget_position(self, why: str) -> None:
        """Give up what was kept of the list's pages; the cursor and the known ids stay."""
        memory = self._list
        if memory.walk is not None or memory.next is not None:
            self.remark(f"{why}: the list is read again from {memory.cursor or 'its beginning'} on")
        memory.walk, memory.next, memory.tag, memory.shown = None, None, None, []
        if (isinstance(memory.cursor, str) and self._ages.has_numbers) or not self._ages.fits_cursor():
            self._begin_again()
        memory.again = self._restarted = True

    def _begin_again(self) -> None:
        """Forget a cursor of another kind: a number where times are compared now, or a time where numbers are."""
        self._list.cursor, self._list.low = None, None
        # Ids of older rows may have been forgotten.
        reach = self._visit.now - timedelta(seconds=LONGEST_LOOKBACK)
        floor = parse_time(self.doc.floor)
        self.doc.floor = rfc3339(max(reach, floor) if floor is not None else reach)

    # -- one page --------------------------------------------------------------------------------------------

    async def _take(self, walk: Walk, page: Page, *, first: bool) -> bool:
        """Report what is new on a page, and move the walk on. Returns whether another page follows."""
        self.keep(page.found.damaged)
        if page.found.nameless:
            path = " and ".join(self._source.rows.id)
            self.remark(f"a row has no {path}: it is kept as unread", about="a row without id")
        self._mind_repeats(page)
        rows = page.found.rows
        if rows and self._ages.cannot_compare(rows):
            self._mind_standstill(walk)
        keys = [row.key for row in rows]
        known = await self._visit.known(keys)
        known |= {key for key in keys if digest(key) in self._before or digest(key) in self._list.shown}
        if first:
            walk.mark, walk.tag = [digest(key) for key in keys[:MARKS]], _plain(page.answer)
            walk.began = rfc3339(self._latest())
        self._ages.look_at(walk, self.doc.floor, self._visit.vendor_now + CLOCK_DOUBT)
        if any(self._ages.is_ahead(row) for row in rows):
            self.remark("a row has a time in the future: the cursor does not follow it", about="ahead")
        old = {row.key for row in rows if self._ages.is_old(row)}
        new = [row for row in rows if row.key not in old and row.key not in known]
        self._ages.raise_top(walk, rows)
        if self._source.keeps_next:
            self._move_cursor(walk.top)  # it has no walk to be remembered by
        self._report(walk, self._absorbed(new))
        self.rows += len(rows)
        self._explain_rows(page, new)
        if self._reaches_known(walk, page, known, old):
            walk.fills_gap = walk.fills_gap and self._is_behind_gap(page)
            return False
        return self._goes_on(walk, page)

    def _goes_on(self, walk: Walk, page: Page) -> bool:
        """Move the walk to the next page. Returns whether there is one."""
        asked = walk.at
        goes_on = self._pager.on(walk, page)
        if self._source.keeps_next:
            goes_on = self._keep_next(page, asked, goes_on=goes_on)
        if isinstance(self._pager, paging.Named) and self._pager.names_itself and not self._source.keeps_next:
            self.remark("a page names itself as the next one: it counts as the last", about="names itself")
            walk.fills_gap = False
        pages = self._source.pages
        try:
            if goes_on:
                paging.step(walk, page)
            if goes_on and pages is not None and walk.pages >= pages.limit:
                raise Lost(f"pages.limit = {pages.limit} is reached")  # noqa: TRY301 - as if its pager had
        except Lost as exc:
            self._report_gap(walk, str(exc))
            goes_on = False
        self._explain_pages(walk, goes_on=goes_on)
        return goes_on

    def _keep_next(self, page: Page, asked: Any, *, goes_on: bool) -> bool:
        """Keep the next page for the next visit. An empty page means that nothing is new."""
        memory = self._list
        pager = self._pager
        assert isinstance(pager, paging.Named)
        following = self._asking.next(page.answer, asked)
        if following is None and not page.count:
            following = asked  # some servers name no next page behind an empty one
        elif following is None:
            raise Unreadable(
                f"there is nothing at {self._source.pages and self._source.pages.next}, and since.next = true needs it: "
                "check pages.next"
            )
        memory.next = following
        memory.shown = [digest(row.key) for row in page.found.rows] if following == asked else []
        memory.tag = _plain(page.answer) if following == asked else None
        has_more = self._source.pages is not None and self._source.pages.more is not None
        return goes_on and (has_more or page.count > 0)

    def _mind_standstill(self, walk: Walk) -> None:
        """Report values that do not move the cursor."""
        since = self._source.since
        assert since is not None
        kind = "number" if self._ages.has_numbers else "time"
        said = f"no {since.row} of a page can be read as a {kind}, and the cursor does not move"
        if not self._list.begun and not walk.pages:
            raise Unreadable(f"{said}: check since.row and since.format")
        self.remark(said, about="standstill")

    def _mind_repeats(self, page: Page) -> None:
        """Report ids that are not unique: rows would be lost."""
        seen: dict[str, bytes] = {}
        for row in page.found.rows:
            raw = bytes(row.item[1])
            if seen.setdefault(row.key, raw) != raw:
                path = ", ".join(self._source.rows.id)
                self.remark(
                    f"two different rows have the same {path} ({row.key[:80]}): only one of them is reported; "
                    "rows.id can name several paths",
                    about="repeated id",
                )

    def _absorbed(self, rows: list[Row]) -> list[Row]:
        """Remember which rows were there at the beginning, if nothing else shows it. Returns the others."""
        if self._list.begun:
            return rows
        old = [row for row in rows if self._ages.was_there(row)]
        if old and self._source.is_read_again:
            found = [digest(row.key) for row in old]
            self._before |= set(found)
            self._list.before = [*self._list.before, *found]
        if len(self._list.before) > ABSORBED:
            raise Unreadable(
                f'the list has more than {ABSORBED} rows, and nothing shows which existed before now: set rows.time, or start = "beginning"'
            )
        return [row for row in rows if not self._ages.was_there(row)]

    def _report(self, walk: Walk, rows: list[Row]) -> None:
        event = self._source.reader.event
        for row in rows:
            self.events.append(event(row, self._ages.stamp(walk, row)))

    def _reaches_known(self, walk: Walk, page: Page, known: set[str], old: set[str]) -> bool:
        """For a list with the newest row first: whether nothing new can follow this page."""
        if not self._source.rows.newest_first or not page.found.rows:
            return False
        rows = page.found.rows
        if len(old) == len(rows) and self.doc.floor:
            return True  # it is all from before the beginning
        if not all(row.key in known or row.key in old for row in rows):
            return False
        # A walk that went on later may see rows that it has reported itself: the mark of the last complete walk decides.
        reaches = any(digest(row.key) in self._list.mark for row in rows)
        if not walk.full:
            return reaches
        top = parse_time(walk.top)
        depth = timedelta(seconds=self._source.full_read_depth)
        deep = top is not None and all(row.time is not None and row.time < top - depth for row in rows)
        return deep and bool(self._list.mark)

    def _is_behind_gap(self, page: Page) -> bool:
        """Whether all rows of a page are older than the gap: with the newest row first, no more can be in it."""
        bound = parse_time(self._list.gap)
        moments = [self._ages.moment(row) for row in page.found.rows]
        return bound is not None and all(moment is not None and moment < bound for moment in moments)

    # -- the end ---------------------------------------------------------------------------------------------

    def _end(self, walk: Walk) -> Poll:
        """The walk is complete: move the cursor."""
        memory = self._list
        if isinstance(self._pager, paging.Skipping) and self._pager.shifts:
            self._report_gap(walk, "the list changes faster than it is read")
            self._pager.shifts = False
        if walk.fills_gap:
            memory.gap = None
        if not memory.begun and self._ages.all_were_there and not isinstance(walk.top, str):
            memory.low = walk.top
        memory.walk, memory.begun, memory.again = None, True, False
        self._move_cursor(self._reached(walk))
        end, began = parse_time(walk.end), parse_time(walk.began) or self._latest()
        if end is not None and end <= began:
            # All rows of a window that has passed were read, also if there are none.
            self._has_passed = True
            self._move_cursor(walk.end)
        if walk.full:
            memory.full_at = rfc3339(self._visit.now)
        if not self._source.keeps_next:
            one_page = walk.pages == 0
            memory.mark = walk.mark if self._source.rows.newest_first else []
            memory.tag = walk.tag if one_page or self._source.rows.newest_first else None
        if self._source.since is not None:
            begins = memory.next if self._source.keeps_next else self._first_value(memory.cursor)
            self._visit.explain(f"since: the next visit begins at {begins}")
        return self.poll()

    def _reached(self, walk: Walk) -> Value | None:
        """Where the cursor may move. Rows that came while a long walk was under way may be on its first pages."""
        since, began = self._source.since, parse_time(walk.began)
        top = parse_time(walk.top) if isinstance(walk.top, str) else None
        if since is None or began is None or top is None or isinstance(self._pager, paging.Continued):
            return walk.top
        is_long = self._latest() - began > timedelta(seconds=since.overlap)
        return rfc3339(min(top, began)) if is_long else walk.top

    def _move_cursor(self, to: Value | None) -> None:
        """Move the cursor forwards; it never moves back."""
        cursor, then = (parse_time(v) if isinstance(v, str) else v for v in (self._list.cursor, to))
        if then is not None and (cursor is None or then > cursor):  # type: ignore[operator] # both are of one kind
            self._list.cursor = to

    def _report_gap(self, walk: Walk, why: str) -> None:
        """Report that rows may be missing."""
        memory, name = self._list, self._source.name
        since = str(memory.cursor if memory.cursor is not None else self.doc.floor or "beginning")
        memory.gap, walk.fills_gap = memory.gap or since, False
        is_all = since == "beginning"
        missing = "Rows of any age" if is_all else f"Rows after {since}"
        rewind = (
            f"`roundsman rewind {name} --to {since}`"
            if is_all
            else f"`roundsman rewind {name}` to an earlier time"
        )
        message = (
            f"The list was not read to its end: {why}. {missing} may be missing. Remove the cause, then run "
            f"{rewind}: it reads the rows again."
        )
        details = {"since": since, "pages": walk.pages, "rows": walk.rows}
        kind, now = "roundsman.source.gap", self._visit.now
        self.events.append(
            notice(kind, name, since, message, since=parse_time(since), now=now, details=details)
        )

    def _explain_rows(self, page: Page, new: list[Row]) -> None:
        rows = page.found.rows
        text = f"rows: {page.count}"
        if rows:
            first, last = (f"{row.key} of {_shown(self._ages.moment(row))}" for row in (rows[0], rows[-1]))
            text += f", from {first} to {last}"
        self._visit.explain(f"{text}, {len(new)} to report")
        if page.found.damaged:
            self._visit.explain(
                f"rows: {len(page.found.damaged)} cannot be read: {page.found.damaged[0].why}"
            )

    def _explain_pages(self, walk: Walk, *, goes_on: bool) -> None:
        if self._source.pages is None:
            return
        following = walk.begin if self._source.pages.next == "since" else walk.at
        self._visit.explain(
            f"pages: the next one is at {following}" if goes_on else "pages: this was the last one"
        )


def _plain(answer: Answer) -> dict[str, str] | None:
    return dict(answer.tag) if answer.tag is not None else None


def _shown(moment: datetime | None) -> str:
    return rfc3339(moment) if moment is not None else "no time"
