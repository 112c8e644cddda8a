"""Searches the log by filter and words, a bounded part of it at a time."""

from roundsman.events import KIND, SUMMARY
from roundsman.store.searching import Search, pattern
from roundsman.store.sqlite.filters import where_of
from roundsman.store.sqlite.reading import EVENT, Reading, reading
from roundsman.store.values import Filter, Searched


class Searching(Reading):
    """What is read to search the log."""

    @reading
    def search(
        self, wanted: Filter, words: str, span: tuple[int, int], limit: int, *, oldest_first: bool = False
    ) -> Searched:
        """Events that match the filter and whose summary contains `words`, in upper or lower case, with a `seq` after the
        first number of the span and up to the second one: the newest, or the oldest. The newest of them comes first.
        """
        search = Search(words, (span[0], min(span[1], self._head())), limit, oldest_first=oldest_first)
        sql, values = _statement(wanted, words, oldest_first=oldest_first)
        while part := search.part():
            if not any(map(search.take, self._run(sql, [*part, *values]))):
                search.through(part)
        return search.result()


_WITHOUT_SUMMARY = (
    "instr(e.body, CAST(? || coalesce(',\"outcome\":\"' || e.outcome || '\"', '') || ? AS BLOB)) = 0"
)
"""Whether an event has no summary at its place, as before 0.10: what a reader sees of it is made of its data."""


def _statement(wanted: Filter, words: str, *, oldest_first: bool) -> tuple[str, list[str]]:
    """Reads what may match, with the values after the two ends of the part."""
    where, values = where_of(wanted)
    if words:
        # SQLite searches the whole text, without a call of ours for each row. What it finds is looked at by the caller.
        where += f" AND (CAST(e.body AS TEXT) LIKE ? ESCAPE '!' OR {_WITHOUT_SUMMARY})"
        values += [pattern(words, "_"), KIND.decode(), SUMMARY.decode()]
    order = "ASC" if oldest_first else "DESC"
    sql = f"{EVENT} WHERE e.seq > ? AND e.seq <= ? AND e.body IS NOT NULL{where} ORDER BY e.seq {order}"
    return sql, values
