"""The strategies to get past a truncation. Each call asks for one page, and says what follows from it."""

from datetime import datetime
from typing import Literal

from roundsman.kit.probing.proofs import Inquiry, Look
from roundsman.kit.probing.values import MILLISECOND, Question

ROUND_TO = 5
"""Servers truncate at multiples of this. Such a number of rows is a reason to check, and no proof."""
BACKSTEPS = 6
"""Maximum steps back of an offset, after rows before it have vanished; then offsets are given up."""

Step = Literal["done", "more", "again", "failed"]
"""The list is read; go on to the next page; ask again; this strategy does not get past the truncation."""


async def step(inquiry: Inquiry) -> Step:
    """Ask for the next page with the strategy in use."""
    strategy, _, param = inquiry.reading.strategy.partition(":")
    if strategy == "keyset":
        return await _keyset(inquiry)
    return await _offset(inquiry, param) if strategy == "offset" else await _grow(inquiry)


async def _keyset(inquiry: Inquiry) -> Step:
    reading, learned, anchor = inquiry.reading, inquiry.learned, inquiry.reading.anchor
    at = reading.at or reading.start
    exclusive = bool(anchor) and (learned.exclusive or reading.earlier)
    page = await inquiry.page(Question(at - MILLISECOND if at and exclusive else at, reading.limit))
    if anchor and not page.has(anchor):
        # The anchor is missing. Either startDate is exclusive (then a start a millisecond earlier brings it),
        # or it does not compare with the sort key (then paging by the sort key skips rows).
        reading.earlier = True
        return "failed" if exclusive else "again"
    if reading.earlier:
        reading.earlier, learned.exclusive = False, True
    if anchor and (inquiry.contradicts(page, at) or await inquiry.hides(page, at)):
        return "failed"
    if not page.truncated or (not anchor and inquiry.reaches_down(page)):
        return "done"
    if not page.ascending or not (anchor or await inquiry.begins_with_oldest(page, at)):
        return "failed"
    return _next_keyset(inquiry, page, at)


def _next_keyset(inquiry: Inquiry, page: Look, at: datetime | None) -> Step:
    """Go on from the last row of the page, or from the last one that proves something."""
    reading, last = inquiry.reading, page.rows[-1]
    assert last.created is not None  # an ascending page has a stamp in each row
    if at is not None and reading.anchor and last.created <= at:
        # More rows share one stamp than fit into a page.
        most = inquiry.learned.most(inquiry.limits)
        if len(page.rows) < reading.limit or reading.limit >= most:
            return "failed"
        reading.limit = min(reading.limit * 2, most)
        return "again"
    last = inquiry.telling(page, at) or last
    reading.at, reading.anchor = last.created, last.id
    return "more"


async def _offset(inquiry: Inquiry, param: str) -> Step:
    reading, offset = inquiry.reading, inquiry.reading.offset
    page = await inquiry.page(Question(reading.start, reading.limit, param if offset else "", offset))
    if offset and page.rows and page.rows[0].id == reading.first:
        return "failed"  # the same page again: the server ignores the parameter
    if offset and not page.has(reading.anchor):
        # Rows before the offset have vanished and the others moved up: step back.
        reading.back += 1
        reading.offset = max(0, offset - max(1, inquiry.learned.largest // 2))
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


async def _grow(inquiry: Inquiry) -> Step:
    reading, learned = inquiry.reading, inquiry.learned
    most = learned.most(inquiry.limits)
    page = await inquiry.page(Question(reading.start, reading.limit))
    count, full = len(page.rows), reading.full
    if not page.truncated or inquiry.reaches_down(page):
        return "done"
    ignored = bool(learned.ignores_limit)
    if ignored and full == count:
        learned.ignores_larger = True  # tried once; a larger question costs the whole list
    if count >= reading.limit and reading.limit < most and not learned.ignores_larger:
        reading.limit, reading.full = min(reading.limit * 2, most), count
        return "again"
    if full is not None and full < count < reading.limit and count % ROUND_TO and not ignored:
        return "done"  # longer than the last full answer, below the limit, no multiple to truncate at
    return await _compared(inquiry, page, count, ignored=ignored)


async def _compared(inquiry: Inquiry, page: Look, count: int, *, ignored: bool) -> Step:
    """Compare the page with one in the other order, to see whether it is the whole list."""
    same, page = await inquiry.same_from_the_end(page)
    if same is None:
        same = not inquiry.is_truncated(page)
        if same and not (ignored and count % ROUND_TO):
            inquiry.doubt("cut", f"an answer has exactly {count} rows: whether that is all cannot be told")
    return "done" if same else "failed"
