"""Reads a list of jobs as far as it has changed. The vendor need not state the number of pages.

A list may have a total or none, pages or none, and any order; it shifts while it is read. So pages overlap, a
full page without a total gets one more question, a list whose pages do not work is asked for in one larger
answer, and where rows may still be missing, that is reported. A long list is read completely now and
then; in between, only as far as its first answer shows changes.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Literal, Protocol

import msgspec

from roundsman.errors import Backoff, Denied, RequestFailed, Unreadable
from roundsman.http.answers import is_refusal
from roundsman.kit.pages import FULL_FROM, At, Job, Page, is_about_all, is_about_one
from roundsman.times import is_due, parse_time, rfc3339

OVERLAP = 10
"""Rows by which two pages overlap: lists shift while they are read."""
ROUND_TO = 5
"""Servers truncate lists at multiples of this."""
PAGES = 20
"""Maximum pages of a short list."""
TRIES = 3
"""Visits at which a guess may fail before it counts as refused."""


class Place(msgspec.Struct, array_like=True, frozen=True):
    """A place in a list: an offset, and the key of the row that is there, if that is known."""

    offset: int
    key: str | None = None


class Whole(msgspec.Struct, array_like=True, frozen=True):
    """A number of rows that was taken for all, and the key of the oldest of them."""

    rows: int
    oldest: str


class ListState(msgspec.Struct, omit_defaults=True):
    """What is remembered of a list."""

    tag: dict[str, str] | None = None
    """The ETag of the first answer, once all that it promises was read."""
    page: str | None = None
    """The digest of that answer; `count`: the number of rows that it states or has."""
    count: int = 0
    complete: bool = False
    """The last reading came to its end."""
    newest: str | None = None
    """When the newest job was begun: how far a long list has to be read."""
    top: str | None = None
    """The same of the reading that is under way: it counts when that has ended."""
    full: str | None = None
    """When a long list was last read completely."""
    at: Place | None = None
    """Where the next visit begins."""
    under_way: Literal["", "full", "part"] = ""
    """The reading that goes on at `at`; "" if it is where new rows are added."""
    rising: bool = False
    """The oldest rows come first."""
    paged: bool = False
    """A further page has worked."""
    tries: int = 0
    """Visits in a row at which a further page, or a larger answer, failed."""
    cut: bool = False
    """Its pages do not work, which was reported; `larger`: a larger answer shows more rows."""
    larger: bool = False
    whole: Whole | None = None
    """A round number of rows that was taken for all."""


@dataclass(frozen=True, slots=True)
class Paging:
    """How a vendor's list is asked for."""

    documented: bool = False
    """Its pages are documented: the whole list is read at every visit, and a fault in a page is the list's."""
    pages: int = 20
    """Maximum pages that are read per visit; the next visit continues."""
    size: int | None = None
    """Rows to ask for in further pages; None: the vendor has no parameter for that."""
    largest: int | None = None
    """Rows to ask for if pages do not work; None: as `size`."""
    full_every: float = 1800.0
    """Seconds between two complete reads of a long list."""
    overlap: float | None = None
    """How far behind the newest job to read again, in seconds; None: until a page shows nothing new."""

    @property
    def sizes(self) -> tuple[int, int]:
        """How many rows to ask for, and how many at most."""
        return self.size or FULL_FROM * 2, self.largest or self.size or FULL_FROM * 2


class Reading(Protocol):
    """What a list needs of the visit that reads it."""

    async def ask(self, at: At) -> Page:
        """One answer of the list."""

    async def take(self, page: Page, *, listed: bool) -> int:
        """Track and report its jobs; `listed`: it is the first answer. Returns how many are news."""

    def shows(self, page: Page) -> None:
        """The first answer has the jobs that it had."""

    async def knows(self, key: str) -> bool:
        """Whether the vendor still knows a job."""

    def cut(self, total: int | None, shown: int, why: str) -> bool:
        """Report that the list shows fewer rows than it has, or may have. Returns whether that was reported."""


class Listing:
    """One reading of one list: `first`, then `rest` with what it returned."""

    def __init__(self, paging: Paging, state: ListState, now: datetime, reading: Reading) -> None:
        self._paging, self._state, self._now, self._reading = paging, state, now, reading
        self._full = paging.documented
        """Whether to read to the end, regardless of the first answer."""
        self._start = 0
        """The offset of the first answer: as many rows were read by earlier visits."""
        self.goes_on = False
        """Whether this reading continues one that an earlier visit began."""
        self._limit = paging.size
        self.seen: set[str] = set()
        """Keys of the rows of this reading."""
        self._top: datetime | None = None
        """When the newest job of this reading was begun."""

    def _reads_all(self, hidden: int) -> bool:
        """Whether a complete read is due, or cheaper than asking for `hidden` jobs one by one."""
        state = self._state
        if self._paging.documented or state.full is None:
            return self._paging.documented
        few = state.count / max(1, (self._paging.size or FULL_FROM * 2) - OVERLAP) + 2
        return is_due(state.full, self._paging.full_every, self._now) or (hidden > few and not state.cut)

    async def first(self, hidden: int) -> Page | None:
        """The answer to begin with; None if the vendor asks to wait where the last reading was interrupted."""
        state, reads_all = self._state, self._reads_all(hidden)
        if state.at is not None and (state.under_way or not reads_all):
            place, under_way = state.at, state.under_way
            state.at, state.under_way = None, ""
            page = await self._further(place.offset)
            found = page if isinstance(page, Page) and page.rows else None
            as_it_was = found is not None and found.first == place.key
            if found is not None and not (as_it_was or place.key is None or not state.rising):
                found = None
            if found is None and not under_way:
                # What the list begins with does not show the rows that are added there.
                state.page, state.tag, state.full = None, None, None
            if isinstance(page, Exception):
                if not isinstance(page, Backoff):
                    raise page
                self._count_fault(page)
                return None
            if found is not None:
                self._start, self._full, self.goes_on = place.offset, under_way == "full", bool(under_way)
                if as_it_was:
                    state.paged, state.tries = True, 0
                return found
            # Older rows have left the list: new ones may be before this offset.
        self._full = reads_all or state.full is None
        first = await self._reading.ask(
            At(tag=state.tag if self._paging.documented or not reads_all else None)
        )
        state.at, state.under_way = None, ""
        return first

    async def rest(self, first: Page) -> None:
        """Take the jobs of the answer, and read on as far as the list has changed."""
        state = self._state
        if first.unchanged:
            return
        same = not self._start and first.digest() == state.page
        if same:
            self._reading.shows(first)
        news = 0 if same else await self._reading.take(first, listed=not self._start)
        self.seen |= first.rows.keys()
        if not self._start and first.is_all(len(first.rows)):
            state.cut, state.tries = False, 0
            self._settle(first)
        elif same and not self._full:
            state.tag = first.tag
        elif await self._pages(first, news):
            if self._full:
                state.full = rfc3339(self._now)
            self._settle(first)

    def _settle(self, first: Page) -> None:
        """The list counts as read: the same first answer brings nothing new."""
        state = self._state
        state.complete, state.under_way = True, ""
        if self._start:  # what the list begins with is not known
            state.page, state.tag = None, None
            return
        # The tag of one page proves nothing about the others, if all have to be read.
        counts = not self._paging.documented or first.is_all(len(first.rows))
        state.page, state.tag = first.digest(), first.tag if counts else None
        state.count = first.total if first.total is not None else len(first.rows)

    async def _pages(self, first: Page, news: int) -> bool:
        """Read the rest of a long list, or as much of it as can be new. Returns whether it counts as read."""
        state, paging = self._state, self._paging
        if state.cut and not self._full:
            # If a larger answer shows more rows, it has to arrive before this list counts as read.
            return not state.larger or await self._larger() is not None
        if paging.size and not self._start:
            self._limit = min(paging.size, max(first.size, OVERLAP * 2))
        newest, was_complete, state.complete = parse_time(state.newest), state.complete, False
        known = None if self._full else newest
        page, total, steady, order = first, first.total_for(0), True, _order(first)
        self._top = _latest(newest, first)
        if self.goes_on and (top := parse_time(state.top)) is not None:
            self._top = max(self._top or top, top)
        place = _after(first, self._start)
        if known and order > 0 and not self._start and state.count - first.size > place.offset:
            place = Place(state.count - first.size)  # new rows are at the end
        tail = Place(self._start, first.first) if self._start else None
        for _ in range(paging.pages):
            if total is None and page.size < FULL_FROM:
                break  # it is the last one
            if known and order < 0 and self._is_far_enough(page, known, news, was_complete):
                break
            found = await self._further(place.offset)
            if isinstance(found, Exception):
                return await self._faulty(found, first, total, place)
            if found is None:
                return await self._ends(first, total, "it refuses offset")
            page = found
            if page.rows and list(page.rows) == list(first.rows):
                if total is None and self._limit and page.size > self._limit:
                    break  # it has no pages, and shows all rows
                return await self._ends(first, total, "it answers with the same rows for every offset")
            if not page.rows and total is not None and place.offset < total:
                return await self._ends(first, total, "its further pages are empty")
            fresh = page.rows.keys() - self.seen
            news = await self._reading.take(page, listed=paging.documented)
            self.seen |= fresh
            order, self._top = _order(page), _latest(self._top, page)
            if page.total is not None:
                # The total may change while the list is read. If it changes by more than the overlap of two
                # pages, a row may have been missed.
                room = 0 if paging.documented else OVERLAP
                steady, total = steady and (total is None or abs(page.total - total) <= room), page.total
            if fresh:
                tail = Place(place.offset, page.first)
                state.rising = order > 0 if len(page.rows) > 1 else state.rising
                state.paged, state.tries = True, state.tries if state.paged else 0
            # A total below the number of rows counts something else.
            total = total if total is not None and total >= max(self._shown, page.size) else None
            if self._reaches(total, place, page, first):
                break
            if not fresh and (total is None or self._shown >= total):
                break  # one further request brought no new row: that was all
            if not fresh:
                return steady and await self._ends(first, total, "its pages bring nothing new")
            place = _after(page, place.offset)
        else:
            self._interrupt(place)
            return False
        state.cut, state.tries = False, 0
        state.newest = rfc3339(self._top) if self._top is not None else state.newest
        state.top = None
        # Rows that are added to a later page change nothing in the first answer, unless it has a total.
        state.at, state.under_way = tail if state.rising and total is None else None, ""
        return steady

    def _reaches(self, total: int | None, place: Place, page: Page, first: Page) -> bool:
        """Whether the total proves that nothing comes after this page.

        A total that a full page reaches exactly is checked by one more request.
        """
        if total is None:
            return False
        reached = self._shown if self._paging.documented else place.offset + page.size
        return reached > total or (reached == total and page.size < max(first.size, FULL_FROM))

    @property
    def _shown(self) -> int:
        """How many rows the list has shown."""
        return self._start + len(self.seen)

    def _interrupt(self, place: Place) -> None:
        """The next visit goes on there."""
        self._state.at, self._state.under_way = place, "full" if self._full else "part"
        self._state.top = rfc3339(self._top) if self._top is not None else None

    def _is_far_enough(self, page: Page, newest: datetime, news: int, was_complete: bool) -> bool:
        """Whether what comes after this page was read before."""
        last = page.stamps[-1] if page.rows else None
        if self._paging.overlap is None:
            # Nothing may be news because webhooks or a person named all of it: older rows may be.
            return was_complete and not news and (last is None or last <= newest)
        return last is not None and last < newest - timedelta(seconds=self._paging.overlap)

    async def _further(self, offset: int) -> Page | Exception | None:
        """A page of the list; None if it is refused, an error if it cannot be read now.

        Where pages are not documented, they are a guess: what was read before counts. A limit that is refused
        is left out from then on.
        """
        for limit in dict.fromkeys((self._limit, None)):
            try:
                return await self._reading.ask(At(offset, limit))
            except (RequestFailed, Denied, Unreadable, Backoff) as exc:
                if self._paging.documented or is_about_all(exc):
                    raise
                if not is_refusal(exc):
                    return exc
                self._limit = None
        return None

    async def _faulty(self, exc: Exception, first: Page, total: int | None, place: Place) -> bool:
        """Handle a page that cannot be read now. Returns whether the list counts as read."""
        if isinstance(exc, Backoff) or self._state.paged:
            self._interrupt(place)
        if self._state.paged and not isinstance(exc, Backoff):
            raise exc
        if self._count_fault(exc):
            self._state.at, self._state.under_way = None, ""
            return await self._ends(first, total, "its further pages fail")
        return False

    def _count_fault(self, exc: Exception) -> bool:
        """Count a fault of a page. Returns whether there are so many that there may be no pages."""
        if self._state.paged and isinstance(exc, Backoff):
            return False
        self._state.tries += 1
        return self._state.tries >= TRIES

    async def _ends(self, first: Page, total: int | None, why: str) -> bool:
        """Handle a list whose pages lead no further. Returns whether the list counts as read.

        A larger answer may show the rest; if it does not, report a gap, unless these rows may be all.
        """
        state, paging = self._state, self._paging
        larger = await self._larger() if paging.largest else Page({})
        if (larger is None and state.tries < TRIES) or (paging.documented and not state.tries):
            state.tries += 1
            return False  # the next visit tries again
        larger, state.tries = larger or Page({}), 0
        self.seen |= larger.rows.keys()
        stated = larger.total_for(0)
        total = stated if stated is not None else total
        rows = self._shown
        helped = len(first.rows) < len(larger.rows) < (paging.largest or 0)
        state.larger = state.larger or len(larger.rows) > len(first.rows)
        if total is not None and rows >= total:
            state.cut = False
            return True
        size = max(len(first.rows), len(larger.rows))
        if total is None and (
            size % ROUND_TO or await self._may_be_all(first, larger if helped else first, rows)
        ):
            state.cut = state.cut and not helped
            return True
        if total is None and state.whole and state.whole.rows == rows:
            why = f"older ones leave it when new ones come, and {why}"  # so that number was not the total
        state.cut = state.cut or self._reading.cut(total, rows, why)
        return True

    async def _larger(self) -> Page | None:
        """The largest possible answer; an empty one if refused, None after an error that may be transient."""
        try:
            page = await self._reading.ask(At(limit=self._paging.largest))
        except (RequestFailed, Denied, Unreadable, Backoff) as exc:
            if is_about_all(exc):
                raise
            # The request is a guess: if it fails, what was read before still counts.
            return Page({}) if is_about_one(exc) else None
        await self._reading.take(page, listed=False)
        return page

    async def _may_be_all(self, first: Page, largest: Page, rows: int) -> bool:
        """Whether a round number of rows may be all: by the list, or because a larger answer had room for more.

        Refuted if the same number comes again and the oldest row has left the list, but the vendor still
        knows it.
        """
        if largest is first and not (first.doubtful and rows == len(first.rows)):
            return False
        taken = self._state.whole or Whole(0, "")
        if taken.rows == rows and taken.oldest not in self.seen and await self._reading.knows(taken.oldest):
            return False
        self._state.whole = Whole(rows, largest.oldest)
        return True


def step(rows: int) -> int:
    """How far to move the offset to the next page: pages overlap, because lists shift while they are read."""
    return max(1, rows - min(OVERLAP, rows // 2))


def _after(page: Page, offset: int) -> Place:
    """Where the page after this one begins."""
    keys, further = list(page.rows), step(page.size)
    known = len(keys) == page.size and further < len(keys)
    return Place(offset + further, keys[further] if known else None)


def _order(page: Page) -> int:
    """How rows are sorted: 1 oldest first, -1 newest first or all at once, 0 unknown."""
    stamps = page.stamps
    if all(a and b and a >= b for a, b in pairwise(stamps)):
        return -1
    return 1 if all(a and b and a <= b for a, b in pairwise(stamps)) else 0


def _latest(known: datetime | None, page: Page) -> datetime | None:
    return max(filter(None, [known, *page.stamps]), default=None)


async def whole(ask: Callable[[At], Awaitable[Page]], size: int, largest: int, most: int = PAGES) -> Page:
    """All rows of a short list, as far as its pages or one larger answer show them, and the stated total.

    The total is larger than the number of rows if the end was not reached, or some rows could not be read.
    """
    rows: dict[str, Job] = {}
    at, total, unread = At(), None, False
    for _ in range(most):
        page = await ask(at)
        fresh = page.rows.keys() - rows.keys()
        rows |= page.rows
        unread = unread or page.unread > 0
        total = page.total if at == At() else total  # later answers may be refusals
        if total is not None and total < len(rows):
            total = None  # it counts something else
        if not rows or page._replace(total=total).is_all(len(rows)):
            break
        if fresh:
            at = At(at.offset + step(page.size) if at.offset else step(len(rows)), at.limit or size)
        elif total is None or at.limit == largest:
            break  # one further request brought no new row
        else:
            at = At(limit=largest)  # perhaps a larger answer shows more, if there are no pages
    else:
        unread = True  # there may be more behind
    return Page(rows, total=max(total or 0, len(rows) + 1) if unread else total)
