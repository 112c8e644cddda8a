"""Reads failures, and what persons did with them."""

from collections.abc import Sequence

from roundsman.store.sqlite.filters import where_of
from roundsman.store.sqlite.reading import EVENT, Reading, event_of, reading
from roundsman.store.values import Filter, LoggedFailure, StillOpen


class Failures(Reading):
    """What is read about failures."""

    @reading
    def failures(
        self, sources: Sequence[str] = (), since: float = 0.0, *, done: bool = False, limit: int = -1
    ) -> list[LoggedFailure]:
        """Failures, newest first."""
        where, values = where_of(Filter(sources=sources))
        which = "IS NOT NULL" if done else "= 1"
        sql = EVENT.replace(" FROM", ", e.failure FROM") + f" WHERE e.failure {which} AND e.body IS NOT NULL"
        rows = self._run(
            f"{sql} AND e.logged >= ?{where} ORDER BY e.seq DESC LIMIT ?", [since, *values, limit]
        ).fetchall()
        return [LoggedFailure(event_of(row), row[6], not row[7]) for row in rows]

    @reading
    def open_failures(self) -> int:
        """Number of failures that are not marked as done."""
        sql = "SELECT count(*) FROM events WHERE failure = 1 AND body IS NOT NULL"
        return int(self._run(sql).fetchone()[0])

    @reading
    def still_open(self, wanted: Filter, span: tuple[int, int], limit: int) -> StillOpen:
        """Open failures that match the filter, after the first number and up to the second one: how many, and the newest."""
        where, values = where_of(wanted)
        condition = f" WHERE e.failure = 1 AND e.seq > ? AND e.seq <= ? AND e.body IS NOT NULL{where}"
        events = EVENT.partition(" FROM ")[2]
        # One statement: a command may mark some as done between two.
        sql = (
            f"SELECT counted.n, listed.* FROM (SELECT count(*) AS n FROM {events}{condition}) counted "  # noqa: S608 - fixed words
            f"LEFT JOIN ({EVENT}{condition} ORDER BY e.seq DESC LIMIT ?) listed ORDER BY listed.seq DESC"
        )
        rows = self._run(sql, [*span, *values, *span, *values, limit]).fetchall()
        newest = [LoggedFailure(event_of(row[1:]), row[7], False) for row in rows if row[1] is not None]
        return StillOpen(int(rows[0][0]), newest)
