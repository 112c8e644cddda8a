"""What an answer proves: that more rows follow, that it lacks one, or what the server compares with."""

from datetime import datetime, timedelta
from typing import NamedTuple

from roundsman.kit.probing.asking import Ask, asked
from roundsman.kit.probing.documents import (
    MILLISECOND,
    SHORTEST_TRUNCATED,
    Learned,
    Limits,
    Question,
    Reading,
    Row,
)

SLACK = timedelta(seconds=1)
"""How much earlier than asked for a row may be: some servers round."""


class Look(NamedTuple):
    """One answer, and what it shows by itself."""

    rows: list[Row]
    truncated: bool
    """More rows may follow: the answer is full, or at least as long as the longest so far."""
    ascending: bool
    descending: bool

    def has(self, row_id: str | None) -> bool:
        return any(row.id == row_id for row in self.rows)

    @property
    def ids(self) -> set[str]:
        return {row.id for row in self.rows}

    @property
    def spans(self) -> bool:
        """Whether its first and last row have different stamps."""
        return bool(self.rows) and self.rows[0].created != self.rows[-1].created


class Inquiry:
    """Asks the questions of one reading, and judges the answers."""

    def __init__(self, learned: Learned, reading: Reading, limits: Limits, ask: Ask) -> None:
        self.learned = learned
        self.reading = reading
        self.limits = limits
        self._ask = ask
        self.rows: list[Row] = []
        """The rows of the pages read."""
        self.doubts: list[str] = []
        """What the answers neither prove nor contradict, for a person."""
        self.cut_at = 0
        """Number of rows of the last answer after which more rows may follow."""

    async def page(self, question: Question) -> Look:
        """An answer whose rows belong to the reading."""
        page = await self.look(question)
        self.rows += page.rows
        self.reading.saw([row.created for row in page.rows if row.created])
        return page

    async def look(self, question: Question) -> Look:
        """An answer that only serves as a proof."""
        learned = self.learned
        rows, limit = await asked(learned, question, self._ask)
        if limit < question.limit:
            self.reading.limit = learned.fits = limit
        largest = learned.largest
        learned.counted(len(rows), question)
        stamps = [row.created for row in rows if row.created is not None]
        sortable = len(stamps) == len(rows)
        ascending = sortable and stamps == sorted(stamps)
        descending = sortable and stamps == sorted(stamps, reverse=True)
        if learned.ignores_limit:
            truncated = not self._ends(rows, largest, newest_first=descending and not ascending)
        else:
            truncated = len(rows) >= limit or (len(rows) >= SHORTEST_TRUNCATED and len(rows) >= largest)
        if truncated and question.limit > 1:
            self.cut_at = len(rows)
        return Look(rows, truncated, ascending, descending)

    def _ends(self, rows: list[Row], largest: int, *, newest_first: bool) -> bool:
        """Whether an answer of a server that ignores `limit` is complete: its number of rows proves nothing.

        It may be a window of fixed length: then it always has the same number of rows, or does not reach down
        to `known`.
        """
        if len(rows) < SHORTEST_TRUNCATED:
            return True
        known = self.reading.known
        if known is None or all(row.id != known for row in rows):
            return False
        return rows[-1].id == known or newest_first or len(rows) > largest

    # -- what startDate compares with --------------------------------------------------------------------------

    def contradicts(self, page: Look, at: datetime | None) -> bool:
        """Whether a page disproves that startDate compares with `created`: it lists rows stored before `at`.

        A listed row that occurred before `at` and was stored after it proves that startDate compares with
        `created`. Without either, reading goes on as documented.
        """
        if at is None or self.learned.by_created:
            return False
        bound = at - MILLISECOND
        if any(row.created and row.created < bound - SLACK for row in page.rows):
            return True
        proof = any(row.occurred and row.created and row.occurred < bound <= row.created for row in page.rows)
        if proof or self.limits.mode == "keyset" or not any(row.occurred for row in page.rows):
            # Rows without `occurred` leave nothing else to compare with; mode = "keyset" is the user's
            # decision.
            self.learned.by_created = True
        else:
            self.doubt(
                "startDate",
                "the rows do not show whether startDate compares with createdAt: they are read as documented, and sweeps "
                "look for what that could miss",
            )
        return False

    def proving(self, page: Look, at: datetime | None) -> Row | None:
        """The last row that, as the next anchor, proves what startDate compares with; None if no row does."""
        if self.learned.by_created:
            return None
        for row in reversed(page.rows):
            stored_later = row.created and row.occurred and row.occurred < row.created - MILLISECOND
            if stored_later and (at is None or row.when > at):
                return row
        return None

    async def hides(self, page: Look, at: datetime | None) -> bool:
        """Whether the last page of a doubtful reading lacks one of the newest rows, which it should have."""
        if page.truncated or at is None or self.learned.by_created:
            return False
        newest = await self.page(Question(None, self.reading.limit, backwards=True))
        due = {row.id for row in newest.rows if row.created and row.created >= at + MILLISECOND}
        if due <= page.ids:
            return False
        # The missing row may have been added between the two questions.
        page = await self.page(Question(at, self.reading.limit))
        return not due <= page.ids

    # -- whether an answer is the whole list --------------------------------------------------------------------

    def reaches_down(self, page: Look) -> bool:
        """Whether it is newest first, down to what was the newest row before: it lacks nothing newer."""
        return page.descending and not page.ascending and page.has(self.reading.known)

    async def begins_with_oldest(self, page: Look, at: datetime | None) -> bool:
        """Whether an ascending page holds the oldest rows, not the newest ones in ascending order."""
        if self.learned.heads:
            return True
        one = (await self.look(Question(at, 1))).rows
        first = page.rows[0]
        if one and (one[0].id == first.id or (page.spans and one[0].created == first.created)):
            self.learned.heads = True
        return self.learned.heads

    def is_truncated(self, page: Look) -> bool:
        """Whether something shows that there are more rows; a suspicious number of rows alone does not."""
        reading, count = self.reading, len(page.rows)
        if not self.learned.ignores_limit and (count >= reading.limit or reading.full == count):
            return True  # it is full, or a larger limit brought no more than a full answer
        if reading.known is not None and not page.has(reading.known):
            return True  # it does not reach down to the newest row known
        edge, start = reading.edge, reading.start
        if edge and not page.has(edge.id) and (start is None or edge.created > start + SLACK):
            return True  # a row that was reported before is missing
        stamps = [row.created for row in page.rows if row.created]
        if reading.known is None and edge is None and 0 < self.learned.cuts <= count:
            # The server cut an answer of this length before, and no row read earlier can disprove it.
            return reading.floor is None or not stamps or min(stamps) > reading.floor
        low, high = reading.low, reading.high
        return bool(stamps) and bool((low and low < min(stamps)) or (high and high > max(stamps)))

    async def same_from_the_end(self, page: Look) -> tuple[bool | None, Look]:
        """Whether the newest rows are also the oldest: then they are all, however suspicious their number.

        None if unknown. Also returns the page, read again if rows were added meanwhile.
        """
        question = Question(self.reading.start, self.reading.limit, backwards=True)
        back = await self.look(question)
        if page.ids != back.ids:
            if not self._follows(back, page):
                return False, page
            # The other rows may have been added between the two questions.
            page = await self.page(question._replace(backwards=False))
            if page.ids != back.ids:
                return False, page
        return (True if page.ascending and back.descending and page.spans else None), page

    def _follows(self, back: Look, page: Look) -> bool:
        """Whether the rows that only `back` has are not older than those of the page."""
        stamps, there = [row.created for row in page.rows if row.created], page.ids
        fresh = [row for row in back.rows if row.id not in there]
        return bool(stamps) and all(row.created is not None and row.created >= max(stamps) for row in fresh)

    def doubt(self, about: str, what: str) -> None:
        """Report it, only once."""
        if about not in self.learned.doubted:
            self.learned.doubted = [*self.learned.doubted, about]
            self.doubts.append(what)
