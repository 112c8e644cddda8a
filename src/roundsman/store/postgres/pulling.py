"""Reads stretches of the log: for a program that pulls it, and to search it; bounded in numbers, events and bytes."""

from roundsman.events import KIND, SUMMARY
from roundsman.store.postgres.filters import where_of
from roundsman.store.postgres.reading import Reading, events_of, reading, rows
from roundsman.store.rows import event_of
from roundsman.store.searching import Search, pattern
from roundsman.store.values import Filter, Pulled, Searched

STRETCH = 20_000
"""Numbers of the log that one call looks at, from the first that is left: some 10 ms where no event matches."""
BYTES = 4 * 2**20
"""Approximate bytes of events that one pull returns."""


class Pulling(Reading):
    """What is read of the log in stretches."""

    @reading
    async def pull(self, after: int, limit: int, wanted: Filter) -> Pulled:
        """The next events after `after` that match the filter, in log order: at most `limit`, and about 4 MiB."""
        async with self._snapshot() as connection:
            # What was pruned whole is passed in one step, however long it is.
            sql = "SELECT (SELECT seq FROM log_head), (SELECT min(seq) FROM events WHERE seq > %s)"
            [[head, first]] = await rows(connection, sql, (after,))
            if first is None:
                upto = max(after, head)
                return Pulled([], upto, head, upto - after)
            upto = min(head, first - 1 + STRETCH)
            where, values = where_of(wanted)
            condition = (f" AND e.seq > %s AND e.seq <= %s{where}", [after, upto, *values])
            found = await events_of(connection, condition, limit, BYTES)
            if len(found) == limit or sum(len(row[5]) for row in found) > BYTES:
                upto = found[-1][0]
            there = "SELECT count(*) FROM events WHERE seq > %s AND seq <= %s AND body IS NOT NULL"
            [[kept]] = await rows(connection, there, (after, upto))
        return Pulled([(event_of(row), row[6]) for row in found], upto, head, upto - after - kept)

    @reading
    async def search(
        self, wanted: Filter, words: str, span: tuple[int, int], limit: int, *, oldest_first: bool = False
    ) -> Searched:
        """Events that match the filter and whose summary contains `words`, in upper or lower case, with a `seq` after the
        first number of the span and up to the second one: the newest, or the oldest. The newest of them comes first.
        """
        search = Search(words, (span[0], min(span[1], await self._last())), limit, oldest_first=oldest_first)
        where, values = where_of(wanted)
        if words:
            where += f" AND ({_MAY_MATCH} OR {_WITHOUT_SUMMARY})"
            values += [pattern(words, "%"), KIND.decode(), SUMMARY.decode()]
        while part := search.part():
            condition = (f" AND e.seq > %s AND e.seq <= %s{where}", [*part, *values])
            async with self._reads.one() as connection:
                found = await events_of(connection, condition, None, BYTES, newest_first=not oldest_first)
            if any(map(search.take, found)):
                break
            if sum(len(row[5]) for row in found) > BYTES:  # the rest of the part was left out
                search.reach(found[-1][0])
            else:
                search.through(part)
        return search.result()

    async def _last(self) -> int:
        return int(await self._value("SELECT seq FROM log_head"))


# The server searches whole bodies, as bytes that need not be UTF-8. What it finds is looked at again.
_MAY_MATCH = (
    "CASE WHEN position('\\x00'::bytea IN e.body) = 0 "
    "THEN convert_from(e.body, 'LATIN1') COLLATE \"C\" ILIKE %s ESCAPE '!' ELSE false END"
)
_WITHOUT_SUMMARY = "position(convert_to(%s || coalesce(',\"outcome\":\"' || e.outcome || '\"', '') || %s, 'UTF8') IN e.body) = 0"
"""Whether an event has no summary at its place, as before 0.10: what a reader sees of it is made of its data."""
