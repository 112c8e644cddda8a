"""What probing is given and what it remembers: rows, questions and limits, what was learned, and the reading."""

from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple

import msgspec

from roundsman.events import Event
from roundsman.kit.documents import Count

MILLISECOND = timedelta(milliseconds=1)
"""The precision of times in questions."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SHORTEST_TRUNCATED = 5
"""Minimum rows of an answer that may be truncated; a shorter answer is complete."""

Mode = Literal["auto", "keyset", "offset", "grow"]


class Row(msgspec.Struct, frozen=True, gc=False):
    """One row of a list, reduced to what reading needs."""

    id: str
    created: datetime | None
    """When the vendor stored it: the sort key of the list."""
    occurred: datetime | None
    """When it happened: earlier than `created`, sometimes much earlier."""
    event: Event
    """What is reported of it."""
    odd_time: str = ""
    """The form of `created`, if it is present and cannot be read as a time."""

    @property
    def when(self) -> datetime:
        """When it was stored or, if that is not known, happened; 1970 for a row without a time."""
        return self.created or self.occurred or EPOCH


class Question(NamedTuple):
    """One request for rows."""

    start: datetime | None
    limit: int
    offset_param: str = ""
    offset: int = 0
    backwards: bool = False
    """Newest first."""


class Limits(NamedTuple):
    """The user's options for reading."""

    limit: int
    most: int
    mode: Mode
    offset_params: tuple[str, ...]

    def strategies(self) -> list[str]:
        """All strategies to get past a truncation, in the order to try them."""
        offsets = [f"offset:{name}" for name in self.offset_params]
        first = {"auto": [], "keyset": ["keyset"], "offset": offsets, "grow": ["grow"]}[self.mode]
        return [*first, *(each for each in ("keyset", *offsets, "grow") if each not in first), "gap"]


class Mark(msgspec.Struct, frozen=True):
    """A row that was reported: its id, and when the vendor stored it."""

    id: str
    created: datetime


class Learned(msgspec.Struct, omit_defaults=True, kw_only=True):
    """What the answers of a server showed."""

    largest: Count = 0
    """Number of rows of the longest answer; kept by `forget`."""
    cuts: Count = 0
    """Number of rows at which the server cut an answer, past every strategy; kept by `forget`. 0: not known."""
    doubted: list[str] = []
    """The doubts that were reported; kept by `forget`."""
    strategies: list[str] = []
    """The strategies that are left, if others failed; empty: all."""
    accepted: Count = 1
    """The largest limit that the server accepted."""
    fits: Count = 0
    """The largest limit whose answer is not too large; 0: not known."""
    ascends: bool = False
    """It accepts the ascending order."""
    descending: bool = False
    """It accepts the descending order only."""
    dates: bool = False
    """It accepts a start."""
    undated: bool = False
    """It refuses any start."""
    unordered: bool = False
    """It refuses any order."""
    ignores_limit: Count = 0
    """Number of rows that it sent although one was asked for: it ignores `limit`. 0: it does not."""
    ignores_larger: bool = False
    """A larger limit was tried, and brought no more."""
    heads: bool = False
    """A page in ascending order holds the oldest rows."""
    by_created: bool = False
    """The start compares with the time of storing."""
    exclusive: bool = False
    """The start is exclusive."""

    def forget(self) -> None:
        """Forget what may have changed at the server."""
        fresh = Learned(largest=self.largest, cuts=self.cuts, doubted=self.doubted)
        for name in self.__struct_fields__:
            setattr(self, name, getattr(fresh, name))

    def limit(self, limits: Limits) -> int:
        """The first limit to ask for: the user's, or a lower one that fits."""
        return min(limits.limit, self.fits or limits.limit)

    def most(self, limits: Limits) -> int:
        """The largest limit to ask for: the user's, or a lower one that fits."""
        return min(limits.most, self.fits or limits.most)

    def answered_one(self, count: int) -> None:
        """One row was asked for, and `count` rows came."""
        if count > 1:
            self.ignores_limit = count

    def refuses_order(self) -> None:
        """A question was refused, and the same without an order was accepted."""
        self.unordered = True

    def counted(self, count: int, question: Question) -> None:
        """The question brought `count` rows."""
        if question.limit > 1:
            self.largest = max(self.largest, count)
            self.cuts = self.cuts if count <= self.cuts else 0  # the server shows more now
        if self.ignores_limit and count > self.ignores_limit + SHORTEST_TRUNCATED:
            self.ignores_limit = 0  # the server does not ignore `limit`: it has a minimum

    def accepts(self, question: Question, limit: int) -> None:
        """The server accepted the question with this limit."""
        self.accepted = max(self.accepted, limit)
        self.dates = self.dates or question.start is not None
        self.ascends = self.ascends or not question.backwards

    def accepts_only(self, easier: Question, question: Question) -> None:
        """The server refused the question, and accepted an easier one."""
        self.descending = self.descending or (easier.backwards and not question.backwards)
        self.undated = self.undated or easier.start != question.start


class Reading(msgspec.Struct, omit_defaults=True, kw_only=True):
    """One reading: where it begins, and its position, from which it continues after a crash."""

    start: datetime | None = None
    """Where the list is read from; None: the beginning."""
    known: str | None = None
    """The newest row that was known before: reaching it is enough. None: rows below it are looked for."""
    edge: Mark | None = None
    """A row that a long reading should show, too."""
    floor: datetime | None = None
    """Rows before it are not wanted; None: there is no such time."""
    strategy: str = ""
    """The strategy in use; empty before the first question."""
    limit: Count = 0
    low: datetime | None = None
    """The earliest stamp of the rows read."""
    high: datetime | None = None
    """The latest stamp of the rows read."""

    # The position of the strategy in use:
    at: datetime | None = None
    """keyset: where the next page starts."""
    anchor: str | None = None
    """The last row of the previous page, which the next page must contain."""
    earlier: bool = False
    """keyset: the page lacked the anchor, and is asked for from a millisecond earlier."""
    offset: Count = 0
    first: str | None = None
    """offset: the first row of the previous page."""
    back: Count = 0
    """offset: number of steps back."""
    proved: bool = False
    """offset: the server accepted an offset, and it advanced the reading."""
    full: Count | None = None
    """grow: number of rows of the last full answer."""

    def begin_with(self, strategy: str, limit: int) -> None:
        """Begin again with this strategy and this limit."""
        self.strategy, self.limit = strategy, limit
        self.at = self.anchor = self.first = self.full = None
        self.offset = self.back = 0
        self.earlier = self.proved = False

    def saw(self, stamps: list[datetime]) -> None:
        """Rows with these stamps were read."""
        if stamps:
            self.low = min(stamps) if self.low is None else min(self.low, *stamps)
            self.high = max(stamps) if self.high is None else max(self.high, *stamps)
