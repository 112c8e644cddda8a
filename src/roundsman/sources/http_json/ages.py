"""Which rows are new by their times, and how far a walk has come."""

import math
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from roundsman.options.values import LONGEST_LOOKBACK
from roundsman.sources.http_json.asking import Value
from roundsman.sources.http_json.rows import Row
from roundsman.sources.http_json.state import Memory, Walk
from roundsman.sources.http_json.table import Table
from roundsman.times import parse_time, rfc3339

_INTEGER = re.compile(r"-?[0-9]{1,300}")


class Ages:
    """Compares the rows of one source with where it began and where a walk began."""

    def __init__(self, source: Table, memory: Memory) -> None:
        self._source = source
        self._since = source.since
        self._memory = memory
        self.has_numbers = source.since is not None and source.since.format == "number"
        """Whether rows are compared by numbers, and not by times."""
        self._floor: datetime | None = None
        """Rows before it were there before the source began."""
        self._begin: Any = None
        """What the walk asks for begins here: a server that shows earlier rows ignores the parameter."""
        self._latest = datetime.max.replace(tzinfo=UTC)

    def fits_cursor(self) -> bool:
        """Whether the stored cursor is a number where it comes from numbers of rows, else a time."""
        cursor = self._memory.cursor
        if cursor is None:
            return True
        if self.has_numbers and self._since is not None and self._since.row is not None:
            return not isinstance(cursor, str)
        return isinstance(cursor, str) and parse_time(cursor) is not None

    def fits(self) -> bool:
        """Whether the list can be read from the stored position: one that is damaged would fail each visit."""
        walk, pages = self._memory.walk, self._source.pages
        counts = pages is not None and pages.next in {"rows", "page"}
        return self.fits_cursor() and (not counts or walk is None or str(walk.at or 0).isdecimal())

    def look_at(self, walk: Walk, floor: str | None, latest: datetime) -> None:
        """Take the bounds of a walk. `floor` is RFC 3339; None or "" if there is none. `latest`: no row is later."""
        self._floor = parse_time(floor)
        self._latest = latest
        self._begin = self._comparable(walk.begin)
        if self._since is not None and self._since.format == "date" and self._begin is not None:
            self._begin = _midnight(self._begin)
        if self._source.keeps_next:
            # Ids of rows that are older than this may have been forgotten; they were reported when new.
            top = parse_time(self._memory.cursor) if self._memory.again else None
            self._begin = top - timedelta(seconds=LONGEST_LOOKBACK) if top is not None else None

    def moment(self, row: Row) -> datetime | None:
        """The time by which a row is old or new."""
        return row.time or (None if self.has_numbers else parse_time(row.since))

    def is_old(self, row: Row) -> bool:
        """Whether it was there before the source began, or lies before what was asked for."""
        moment = self.moment(row)
        if self._floor is not None and moment is not None and moment < self._floor:
            return not self._is_day_of_floor(moment)
        value: Any = moment if self._source.keeps_next else self._comparable(row.since)
        if value is None:
            return False
        low = self._memory.low
        if low is not None and self.has_numbers and not self._source.keeps_next and value <= low:
            return True
        return self._begin is not None and bool(value < self._begin)

    @property
    def all_were_there(self) -> bool:
        """Whether a first visit shows old rows only: it begins "now", and no time shows which rows existed before."""
        has_times = self._source.rows.time is not None or (
            self._since is not None and self._since.row is not None and not self.has_numbers
        )
        return self._source.start == "now" and not has_times

    def was_there(self, row: Row) -> bool:
        """For the first walk: whether a row whose time does not show it counts as old."""
        moment = self.moment(row)
        unsaid = moment is None or (self._is_day_of_floor(moment) and moment != self._floor)
        return self.all_were_there or (self._floor is not None and unsaid)

    def _is_day_of_floor(self, moment: datetime) -> bool:
        """Whether it may be a date without a time of day, and that of the floor."""
        return self._floor is not None and moment == _midnight(self._floor)

    def stamp(self, walk: Walk, row: Row) -> datetime | None:
        """The time by which the list is read, for how long an id is kept; None for a list that is not."""
        if self._since is None:
            return None  # the whole list may come again: ids are kept permanently
        if not (self._source.keeps_next or self.has_numbers):
            return parse_time(row.since)
        # In the order of the vendor: a late row is as new as the rows around it.
        moments = [row.time, parse_time(walk.top), parse_time(self._memory.cursor)] if row.time else []
        return max((moment for moment in moments if moment is not None), default=None)

    def raise_top(self, walk: Walk, rows: Sequence[Row]) -> None:
        """Record the greatest value of the rows in their walk."""
        by_row = self._since is not None and self._since.row is not None
        values = [self._comparable(row.since) if by_row else row.time for row in rows]
        # A time from the future would move the cursor past rows to come.
        best = max((v for v in values if v is not None and not self._is_ahead(v)), default=None)
        top = self._comparable(walk.top) if by_row else parse_time(walk.top)
        if best is not None and (top is None or best > top):
            walk.top = rfc3339(best) if isinstance(best, datetime) else best

    def cannot_compare(self, rows: Sequence[Row]) -> bool:
        """Whether `since.row` is a value in none of them that can be compared."""
        by_row = self._since is not None and self._since.row is not None
        return by_row and all(self._comparable(row.since) is None for row in rows)

    def last(self, walk: Walk, rows: Sequence[Row]) -> Value | None:
        """The greatest value of `since.row` on the page and before, also one from the future."""
        values = [self._comparable(row.since) for row in rows] + [self._comparable(walk.top)]
        best: Any = max((value for value in values if value is not None), default=None)
        return rfc3339(best) if isinstance(best, datetime) else best

    def is_at_or_before(self, value: Value, other: Value) -> bool:
        """Whether a value of `since.param` is not after another one; False if they cannot be compared."""
        first, last = self._comparable(value), self._comparable(other)
        return first is not None and last is not None and bool(first <= last)

    def is_ahead(self, row: Row) -> bool:
        """Whether its time is in the future."""
        return self._is_ahead(self.moment(row))

    def _is_ahead(self, value: Any) -> bool:
        return isinstance(value, datetime) and value > self._latest

    def _comparable(self, value: Any) -> Any:
        """A value of `since.row` as something that can be compared: a time, or a number."""
        return _number(value) if self.has_numbers else parse_time(value)


def _midnight(moment: datetime) -> datetime:
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)


def _number(value: Any) -> int | float | None:
    """The value as a number, if it is one. An integer stays exact: as a float, a long id would be another."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    if isinstance(value, int) or (isinstance(value, str) and _INTEGER.fullmatch(value)):
        return int(value)
    try:
        number = float(value)
    except ValueError:
        return None
    return int(number) if number.is_integer() else number if math.isfinite(number) else None
