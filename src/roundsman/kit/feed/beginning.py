"""Where a feed begins at its first visit: nothing before the floor is reported, everything after it is."""

from datetime import datetime, timedelta
from typing import NamedTuple

from roundsman.http.answers import Answer
from roundsman.kit.feed.asking import Asker
from roundsman.kit.probing import MILLISECOND, Question, Row


class Floor(NamedTuple):
    """Where a source begins."""

    floor: datetime | None = None
    """The time before which nothing is reported; None: everything is."""
    before: frozenset[str] = frozenset()
    """Rows that are old although their times do not show it."""
    newest: Row | None = None
    """The newest row, if it is known: there is nothing to read yet."""
    reads: bool = True
    """Whether to read the list at once."""
    absorbs: bool = False
    """Whether rows without a readable time are old."""


class Beginning:
    """Finds the floor of a source that begins now."""

    def __init__(self, asker: Asker, probe: Answer, now: datetime, overlap: float, limit: int) -> None:
        self._asker = asker
        self._now = now
        self._overlap = timedelta(seconds=overlap)
        self._limit = limit
        self._date = probe.date()

    @property
    def latest(self) -> datetime:
        """The latest time that a row may have: the vendor's clock, or ours if unknown, plus the overlap."""
        return (self._date or self._now) + self._overlap

    def ahead(self, rows: list[Row]) -> list[Row]:
        """The rows from the future."""
        latest = self.latest
        return [row for row in rows if row.created is not None and row.created > latest]

    async def readable(self) -> list[Row]:
        """The newest readable row, for a list whose first row is unreadable."""
        rows = await self._asker.some(Question(None, self._limit, backwards=True))
        return [max(rows, key=lambda row: row.when)] if rows else []

    async def floor(self, rows: list[Row]) -> Floor:
        """The floor, by the newest row, which is the first of `rows`, and by the vendor's clock."""
        if not rows:
            # An earlier floor than the vendor's clock reports no old row: the list is empty.
            date = min(self._date, self._now) if self._date else None
            return Floor(date - self._overlap if date else None, reads=False)
        newest = rows[0]
        if newest.created is None:
            # Never use our clock: if the vendor sends no time, every row that it shows from now on is new.
            return Floor(self._vendor_floor, absorbs=bool(newest.odd_time))
        if not self.ahead(rows):
            return await self._beside(newest, newest.created, [])
        # A time in the future is no floor: rows before it would not be new.
        listed = await self._asker.some(Question(None, self._limit, backwards=True)) or rows
        ahead = self.ahead(listed)
        past = [row for row in listed if row.created is not None and row not in ahead]
        last = max(past, key=lambda row: row.when, default=None)
        if last is None or last.created is None:
            return Floor(self._vendor_floor, frozenset(row.id for row in ahead))
        return await self._beside(last, last.created, ahead)

    @property
    def _vendor_floor(self) -> datetime | None:
        return self._date - self._overlap if self._date else None

    async def _beside(self, newest: Row, created: datetime, ahead: list[Row]) -> Floor:
        """The floor at the newest row, if the rows beside it show that it is the newest."""
        beside = await self._asker.some(Question(created, self._limit))
        if beside is not None and all(row.id != newest.id for row in beside):
            # startDate may be exclusive.
            beside = await self._asker.some(Question(created - MILLISECOND, self._limit))
        before = {row.id for row in ahead}
        if ahead and beside is not None:
            before |= {row.id for row in self.ahead(beside)}
            beside = [row for row in beside if row.id not in before]
        if beside is None or any(row.created and row.created > created for row in beside):
            return Floor(self._by_clock(created, beside or []), frozenset(before))
        # Rows that share the stamp and are added later are new.
        same = (
            row for row in beside if row.created == created or (row.created, row.occurred) == (None, None)
        )
        return Floor(created, frozenset({*before, *(row.id for row in same), newest.id}), newest, reads=False)

    def _by_clock(self, created: datetime, beside: list[Row]) -> datetime:
        """The floor if a row is not the newest: another one has just been added, or the order is not the one
        asked for. Then the vendor's clock, minus the overlap, decides.
        """
        clock, ours = self._vendor_floor, self._now
        ours_is_behind = any(row.created and row.created > ours for row in beside)
        if clock and not ours_is_behind:
            clock = min(clock, ours)
        return max(created, clock) if clock else created
