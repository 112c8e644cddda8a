"""How to get from one page of a list to the next: one class for each kind of `pages.next`."""

import hashlib
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from roundsman.errors import Unreadable
from roundsman.http.answers import Answer
from roundsman.kit import fields, paths
from roundsman.options.values import counted
from roundsman.sources.http_json.ages import Ages
from roundsman.sources.http_json.asking import Asking, Value, found
from roundsman.sources.http_json.options import Pages
from roundsman.sources.http_json.rows import Found
from roundsman.sources.http_json.state import Walk
from roundsman.sources.http_json.table import Table
from roundsman.times import parse_time, rfc3339

FULL_FROM = 10
"""A first page with at least so many rows may not be all, if the rows of a full page are not known."""
ROUND_TO = 10
"""Servers cut their answers at multiples of this number of rows."""
MOST_BACKS = 3
"""Maximum steps back of a walk, to find the rows that its last page ended with."""
TRAIL = 100
"""Positions that a walk remembers, to recognise a circle."""


@dataclass(frozen=True, slots=True)
class Page:
    """One page that was read."""

    answer: Answer
    found: Found

    @property
    def count(self) -> int:
        """How many rows the vendor counts on it."""
        return self.found.count


class Lost(Exception):
    """The walk cannot continue; rows behind this page may be missing. The message has the reason."""


class Pager(Protocol):
    """Moves a walk from page to page."""

    def on(self, walk: Walk, page: Page) -> bool:
        """Move the walk to the page after this one. Returns whether there is one."""


class One:
    """The list has one page."""

    def on(self, walk: Walk, page: Page) -> bool:
        return False


class Named:
    """The answer names the next page: by a link, a URL or a token."""

    def __init__(self, pages: Pages, asking: Asking) -> None:
        self._pages = pages
        self._asking = asking
        self.names_itself = False
        """A page named itself as the next one."""

    def on(self, walk: Walk, page: Page) -> bool:
        position = self._asking.next(page.answer, walk.at)
        more = found(self._pages.more, page.answer) if self._pages.more else None
        if more is not None and not paths.is_true(more):
            return False
        if position is None:
            if paths.is_true(more):
                raise Unreadable(
                    f"the answer states that there is more, and has nothing at {self._pages.next}: check pages.next"
                )
            return False
        if position == walk.at:
            self.names_itself = True
            return False
        walk.at = position
        return True


class Counted:
    """What skipping rows and numbering pages have in common."""

    def __init__(self, source: Table) -> None:
        pages = source.pages
        assert pages is not None
        self._pages = pages
        # A number in the query may be the number of rows to ask for.
        self._sizes = {int(value) for value in source.visible_query().values() if value.isdecimal()}
        self.is_cut = False
        """The last page stated that another one follows."""

    def total(self, page: Page) -> int | None:
        """The number of rows of the list, if the answer states it."""
        return fields.count(found(self._pages.total, page.answer)) if self._pages.total else None

    def is_last(self, walk: Walk, page: Page) -> bool:
        """Whether the number of its rows shows that nothing follows; for a list without a total."""
        more = found(self._pages.more, page.answer) if self._pages.more else None
        self.is_cut = paths.is_true(more)
        if more is not None:
            return not self.is_cut
        if self._pages.size is not None:
            return page.count < self._pages.size
        if walk.pages:
            return page.count < walk.largest
        return page.count < FULL_FROM and page.count not in self._sizes

    def ends(self, walk: Walk, page: Page, read: int, total: int | None) -> bool:
        """Whether the list ends with this page, with which `read` of `total` rows were read."""
        if total is None or total < read:
            return self.is_last(walk, page)  # a wrong total proves nothing
        self.is_cut = read < total
        if total == page.count and not walk.pages and self._may_be_cut(page):
            return False  # perhaps the total counts the page only: one more question shows it
        return read >= total

    def _may_be_cut(self, page: Page) -> bool:
        """Whether a page has as many rows as were asked for, or a round number of them."""
        if self._pages.size is not None:
            return page.count >= self._pages.size
        return page.count in self._sizes or (page.count >= FULL_FROM and page.count % ROUND_TO == 0)

    def refuse_same(self, walk: Walk, page: Page) -> None:
        """The same rows again mean that the parameter is ignored."""
        if walk.pages and page.count and digest_of(page) == walk.last:
            raise Unreadable(
                f"another {self._pages.param or 'since.param'} brings the same rows: check the parameter. (Without pages, one "
                "answer counts as the whole list.)"
            )


class Skipping(Counted):
    """Each page skips the rows before it, but for some that both have: lists shift while they are read."""

    def __init__(self, source: Table) -> None:
        super().__init__(source)
        self.shifts = False
        """The list shifted so far that rows may have been missed."""

    def on(self, walk: Walk, page: Page) -> bool:
        at, total = int(walk.at or 0), self.total(page)
        if not page.count:
            if total is not None and at < total:
                raise Unreadable(
                    f"the list has {counted(total, 'row')} and shows none from {at} on: check pages.param"
                )
            return False
        if self._jumped(walk, page):
            walk.backs += 1
            walk.at = max(0, at - max(walk.largest, page.count))
            return True
        if self.ends(walk, page, at + page.count, total):
            return False
        self.refuse_same(walk, page)
        overlap = min(self._pages.overlap, page.count // 2)
        walk.at = at + max(1, page.count - overlap)
        keys = [digest(row.key) for row in page.found.rows]
        walk.tail = keys[-overlap:] if overlap else []
        return True

    def _jumped(self, walk: Walk, page: Page) -> bool:
        """Whether none of the rows that the last page ended with is here: those between are missing."""
        if not walk.tail or not walk.at or any(digest(row.key) in walk.tail for row in page.found.rows):
            return False
        if walk.backs < MOST_BACKS:
            return True
        self.shifts = True
        return False


class Numbered(Counted):
    """Pages have numbers."""

    def on(self, walk: Walk, page: Page) -> bool:
        total = self.total(page)
        if not page.count:
            if total is not None and walk.rows < total and walk.pages:
                raise Unreadable(f"the list has {counted(total, 'row')}, and its pages show {walk.rows}")
            return False
        if self.ends(walk, page, walk.rows + page.count, total):
            return False
        self.refuse_same(walk, page)
        walk.at = (self._pages.first if walk.at is None else int(walk.at)) + 1
        return True


class Continued(Counted):
    """Each page begins at the time, or number, of the last row before it."""

    def __init__(self, source: Table, ages: Ages) -> None:
        super().__init__(source)
        assert source.since is not None
        self._since = source.since
        self._ages = ages

    def on(self, walk: Walk, page: Page) -> bool:
        if not page.count or self.is_last(walk, page):
            return False
        last = self._ages.last(walk, page.found.rows)
        begin = before(last, self._since.format)
        if begin is None or begin == walk.begin:
            if walk.pages or page.count >= FULL_FROM:
                raise Unreadable(
                    f"{page.count} rows have the {self._since.row} {last}, and more may follow: ask for more rows per page"
                )
            return False
        walk.begin = begin
        return True


def before(value: Value | None, form: str) -> Value | None:
    """The smallest step before a value, for servers that leave the row with this very value out."""
    if value is None or form == "number":
        return value - 1 if isinstance(value, int) else value
    return back(value, {"unix": 1.0, "date": 0.0}.get(form, 0.001))


def back(value: Value | None, seconds: float) -> Value | None:
    """The time so many seconds before this one. A number that is no time stays."""
    moment = parse_time(value) if isinstance(value, str) else None
    return rfc3339(moment - timedelta(seconds=seconds)) if moment is not None else value


def step(walk: Walk, page: Page) -> None:
    """Record a page in its walk, after the walk has moved on. Raises `Lost` if it was there before."""
    walk.last = digest_of(page)
    walk.pages += 1
    walk.rows += page.count
    walk.largest = max(walk.largest, page.count)
    here = digest(f"{walk.at} {walk.begin} {walk.backs}")
    if here in walk.trail:
        raise Lost("its pages form a circle")
    walk.trail = [*walk.trail, here][-TRAIL:]


def digest(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def digest_of(page: Page) -> str:
    return digest("\n".join(row.key for row in page.found.rows))
