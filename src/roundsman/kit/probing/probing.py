"""One reading: the pages of a list, strategy after strategy, until the list is read or none is left."""

from collections.abc import AsyncGenerator
from datetime import datetime
from typing import Literal, NamedTuple

from roundsman.kit.probing.asking import Refused, asked
from roundsman.kit.probing.documents import MILLISECOND, Question, Row
from roundsman.kit.probing.proofs import Inquiry, Look

ROUND_TO = 5
"""Servers truncate at multiples of this. Such a number of rows is a reason to check, and no proof."""
BACKSTEPS = 6
"""Maximum steps back of an offset, after rows before it have vanished; then offsets are given up."""

Step = Literal["done", "more", "again", "failed"]
"""The list is read; go on to the next page; ask again; this strategy does not get past the truncation."""


class Truncated(Exception):
    """No strategy gets past the truncation: rows may be missing."""


class Page(NamedTuple):
    """What one step of a reading brought."""

    rows: list[Row]
    doubts: list[str]
    """What the answers neither prove nor contradict, for a person; each is reported only once."""
    resumable: bool
    """The reading has advanced: the caller may store it here, and go on with another generator later."""


class Probing(Inquiry):
    """Reads a list. `reading` is where it begins or goes on; it and `learned` change with each page."""

    async def pages(self) -> AsyncGenerator[Page, None]:
        """The pages of the list. When they end, the list is read.

        The same row may be in several pages. Raises `Truncated` if no strategy is left, and the server's
        error if it refuses a question that has no guess in it, or one that it accepted before.
        """
        reading = self.reading
        every, most = self.limits.strategies(), max(self.limits.limit, self.limits.most)
        if reading.strategy not in every or not 1 <= reading.limit <= most:
            # It is new, or its position is that of other options, or damaged: a limit of 0 does not grow.
            strategies = [each for each in self.learned.strategies if each in every] or every
            reading.begin_with(strategies[0], self.learned.limit(self.limits))
        while reading.strategy != "gap":
            self.rows, self.doubts = [], []
            came = await self._step()
            if came == "failed":
                self._try_another()
            yield Page(self.rows, self.doubts, came == "more")
            if came == "done":
                return
        self.learned.strategies = []
        self.learned.cuts = self.cut_at or self.learned.largest
        raise Truncated

    async def _step(self) -> Step:
        """Ask for the next page with the strategy in use."""
        strategy, _, param = self.reading.strategy.partition(":")
        try:
            if strategy == "keyset":
                return await self._keyset()
            return await self._offset(param) if strategy == "offset" else await self._grow()
        except Refused as refused:
            if await self._is_no_answer(refused):
                raise refused.cause from None
            return "failed"

    async def _is_no_answer(self, refused: Refused) -> bool:
        """Whether a refusal proves nothing about the strategy: nothing was guessed, or it is transient."""
        reading = self.reading
        guessed = reading.limit > self.learned.accepted or (
            reading.strategy.startswith("offset") and not reading.proved
        )
        if refused.doubtful and not guessed and not await self._is_about_the_offset():
            return True  # all of it was accepted before
        return reading.anchor is None and reading.full is None

    async def _is_about_the_offset(self) -> bool:
        """Whether a page was refused for its offset: the same question without an offset is accepted."""
        reading = self.reading
        if not reading.offset:
            return False
        try:
            await asked(self.learned, Question(reading.start, reading.limit), self._ask)
        except Refused:
            return False
        return True

    def _try_another(self) -> None:
        """Begin again with the next strategy, and remember that the others failed."""
        every, failed = self.limits.strategies(), self.reading.strategy
        left = every[every.index(failed) + 1 :] if failed in every else every
        self.learned.strategies = left
        self.reading.begin_with(left[0], self.learned.limit(self.limits))

    # -- the strategies: each call asks for one page, and returns what follows -------------------------------

    async def _keyset(self) -> Step:
        reading, learned, anchor = self.reading, self.learned, self.reading.anchor
        at = reading.at or reading.start
        exclusive = bool(anchor) and (learned.exclusive or reading.earlier)
        page = await self.page(Question(at - MILLISECOND if at and exclusive else at, reading.limit))
        if anchor and not page.has(anchor):
            # Either startDate is exclusive (then a start a millisecond earlier brings the anchor), or it does not compare with the sort key (then paging by the sort key skips rows).
            reading.earlier = True
            return "failed" if exclusive else "again"
        if reading.earlier:
            reading.earlier, learned.exclusive = False, True
        if anchor and (self.contradicts(page, at) or await self.hides(page, at)):
            return "failed"
        if not page.truncated or (not anchor and self.reaches_down(page)):
            return "done"
        if not page.ascending or not (anchor or await self.begins_with_oldest(page, at)):
            return "failed"
        return self._next_keyset(page, at)

    def _next_keyset(self, page: Look, at: datetime | None) -> Step:
        """Go on from the last row of the page, or from the last one that proves something."""
        reading, last = self.reading, page.rows[-1]
        assert last.created is not None  # an ascending page has a stamp in each row
        if at is not None and reading.anchor and last.created <= at:
            # More rows share one stamp than fit into a page.
            most = self.learned.most(self.limits)
            if len(page.rows) < reading.limit or reading.limit >= most:
                return "failed"
            reading.limit = min(reading.limit * 2, most)
            return "again"
        last = self.proving(page, at) or last
        reading.at, reading.anchor = last.created, last.id
        return "more"

    async def _offset(self, param: str) -> Step:
        reading, offset = self.reading, self.reading.offset
        page = await self.page(Question(reading.start, reading.limit, param if offset else "", offset))
        if offset and page.rows and page.rows[0].id == reading.first:
            return "failed"  # the same page again: the server ignores the parameter
        if offset and not page.has(reading.anchor):
            # Rows before the offset have vanished and the others moved up: step back.
            reading.back += 1
            reading.offset = max(0, offset - max(1, self.learned.largest // 2))
            reading.first = None
            return "failed" if reading.back > BACKSTEPS else "more"
        if offset:
            reading.proved = True
        if not page.truncated or (offset and len(page.rows) == 1):
            return "done"
        # Pages overlap by a row, to prove that nothing is missing between.
        reading.offset = offset + max(1, len(page.rows) - 1)
        reading.anchor, reading.first = page.rows[-1].id, page.rows[0].id
        return "more"

    async def _grow(self) -> Step:
        reading, learned = self.reading, self.learned
        most = learned.most(self.limits)
        page = await self.page(Question(reading.start, reading.limit))
        count, full = len(page.rows), reading.full
        if not page.truncated or self.reaches_down(page):
            return "done"
        ignored = bool(learned.ignores_limit)
        if ignored and full == count:
            learned.ignores_larger = True  # tried once; a larger question costs the whole list
        if count >= reading.limit and reading.limit < most and not learned.ignores_larger:
            reading.limit, reading.full = min(reading.limit * 2, most), count
            return "again"
        if full is not None and full < count < reading.limit and count % ROUND_TO and not ignored:
            return "done"  # longer than the last full answer, below the limit, no multiple to truncate at
        return await self._compared(page, count, ignored=ignored)

    async def _compared(self, page: Look, count: int, *, ignored: bool) -> Step:
        """Compare the page with one in the other order, to see whether it is the whole list."""
        same, page = await self.same_from_the_end(page)
        if same is None:
            same = not self.is_truncated(page)
            if same and not (ignored and count % ROUND_TO):
                self.doubt(
                    "cut", f"an answer has exactly {count} rows, and nothing shows whether these are all"
                )
        return "done" if same else "failed"
