"""Reads failures, and what persons did with them."""

from collections.abc import Iterable, Sequence

from roundsman import wire
from roundsman.events import Event
from roundsman.store.about import DIGEST
from roundsman.store.rows import about_event, act_of, earlier_acts, event_of
from roundsman.store.sqlite.filters import where_of
from roundsman.store.sqlite.reading import EVENT, Reading, reading
from roundsman.store.values import Act, Filter, LoggedAct, LoggedFailure, StillOpen

LAST_ACTS = (
    "SELECT seq, at, who, done, note FROM acts WHERE n IN "
    "(SELECT max(n) FROM acts WHERE seq IN (SELECT value FROM json_each(?)) GROUP BY seq)"
)
"""The last act on each failure of a JSON array of numbers."""


def listed(values: Iterable[object]) -> str:
    """Values as SQL takes any number of them: with `json_each`."""
    return wire.encode(list(values)).decode()


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

    @reading
    def last_acts(self, seqs: Sequence[int]) -> dict[int, Act]:
        """The last act on each of these failures, by `seq`."""
        return {row[0]: act_of(row) for row in self._run(LAST_ACTS, (listed(seqs),))}

    @reading
    def again(self, failures: Sequence[Event]) -> dict[int, Act]:
        """For each failure, by `seq`, the newest act that marked an earlier one as done which was about the same person
        and thing of its source. An act that was undone does not count.
        """
        if self._run("SELECT 1 FROM acts LIMIT 1").fetchone() is None:
            return {}  # no failure needs to be decoded
        keys = {event.seq: key for event in failures if (key := about_event(event)) is not None}
        sql = (
            "SELECT a.seq, a.at, a.who, a.done, a.note, a.n, a.about FROM acts a "
            "WHERE a.about IN (SELECT value FROM json_each(?)) AND a.done = 1 "
            "AND NOT EXISTS (SELECT 1 FROM acts b WHERE b.seq = a.seq AND b.n > a.n) ORDER BY a.about, a.seq"
        )
        return earlier_acts(keys, self._run(sql, (listed(set(keys.values())),)))

    @reading
    def acts(
        self, sources: Sequence[str] = (), seq: int | None = None, *, limit: int = -1
    ) -> list[LoggedAct]:
        """What persons did with failures (with `seq`: with this one), newest first."""
        where, values = where_of(Filter(sources=sources))
        # Of a failure that was deleted, the act still has the source, if it was about something.
        name = f"coalesce(s.name, substr(a.about, 1, length(a.about) - {DIGEST + 1}))"
        where = where.replace("+s.name", name)
        given: list[object] = list(values)
        if seq is not None:
            where += " AND a.seq = ?"
            given.append(seq)
        sql = (
            f"SELECT a.seq, a.at, a.who, a.done, a.note, {name}, e.id, e.type, e.outcome, e.body FROM acts a "  # noqa: S608 - fixed words
            f"LEFT JOIN events e ON e.seq = a.seq LEFT JOIN sources s ON s.id = e.source WHERE 1{where} "
            "ORDER BY a.n DESC LIMIT ?"
        )
        return [
            LoggedAct(act_of(row), row[5], event_of((row[0], *row[5:])) if row[9] is not None else None)
            for row in self._run(sql, [*given, limit])
        ]
