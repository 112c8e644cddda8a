"""Reads failures, and what persons did with them."""

from collections.abc import Sequence

from roundsman.events import Event
from roundsman.store.about import DIGEST
from roundsman.store.postgres.filters import where_of
from roundsman.store.postgres.reading import EVENT, LOGGED, Reading, reading
from roundsman.store.rows import about_event, act_of, earlier_acts, event_of
from roundsman.store.values import Act, Filter, LoggedAct, LoggedFailure, StillOpen

LAST_ACTS = "SELECT DISTINCT ON (seq) seq, at, who, done, note FROM acts WHERE seq = ANY (%s::bigint[]) ORDER BY seq, n DESC"
"""The last act on each failure of an array of numbers."""


class Failures(Reading):
    """What is read about failures."""

    @reading
    async def failures(
        self, sources: Sequence[str] = (), since: float = 0.0, *, done: bool = False, limit: int = -1
    ) -> list[LoggedFailure]:
        """Failures, newest first."""
        where, values = where_of(Filter(sources=sources))
        which = "IS NOT NULL" if done else "= 1"
        sql = EVENT.replace(" FROM", ", e.failure FROM") + f" WHERE e.failure {which} AND e.body IS NOT NULL"
        found = await self._rows(
            f"{sql} AND e.logged >= %s{where} ORDER BY e.seq DESC LIMIT %s",
            [since, *values, limit if limit >= 0 else None],
        )
        return [LoggedFailure(event_of(row), row[6], not row[7]) for row in found]

    @reading
    async def open_failures(self) -> int:
        """Number of failures that are not marked as done."""
        return int(await self._value("SELECT count(*) FROM events WHERE failure = 1 AND body IS NOT NULL"))

    @reading
    async def still_open(self, wanted: Filter, span: tuple[int, int], limit: int) -> StillOpen:
        """Open failures that match the filter, after the first number and up to the second one: how many, and the newest."""
        where, values = where_of(wanted)
        condition = f" WHERE e.failure = 1 AND e.seq > %s AND e.seq <= %s AND e.body IS NOT NULL{where}"
        # One statement: a command may mark some as done between two.
        sql = (
            f"SELECT counted.n, listed.* FROM (SELECT count(*) AS n {LOGGED}{condition}) counted "  # noqa: S608 - fixed words
            f"LEFT JOIN ({EVENT}{condition} ORDER BY e.seq DESC LIMIT %s) listed ON true ORDER BY listed.seq DESC"
        )
        found = await self._rows(sql, [*span, *values, *span, *values, limit])
        newest = [LoggedFailure(event_of(row[1:]), row[7], False) for row in found if row[1] is not None]
        return StillOpen(int(found[0][0]), newest)

    @reading
    async def last_acts(self, seqs: Sequence[int]) -> dict[int, Act]:
        """The last act on each of these failures, by `seq`."""
        return {row[0]: act_of(row) for row in await self._rows(LAST_ACTS, (list(seqs),))}

    @reading
    async def again(self, failures: Sequence[Event]) -> dict[int, Act]:
        """For each failure, by `seq`, the newest act that marked an earlier one as done which was about the same person
        and thing of its source. An act that was undone does not count.
        """
        if await self._row("SELECT 1 FROM acts LIMIT 1") is None:
            return {}  # no failure needs to be decoded
        keys = {event.seq: key for event in failures if (key := about_event(event)) is not None}
        sql = (
            "SELECT a.seq, a.at, a.who, a.done, a.note, a.n, a.about FROM acts a "
            "WHERE a.about = ANY (%s::text[]) AND a.done = 1 "
            "AND NOT EXISTS (SELECT 1 FROM acts b WHERE b.seq = a.seq AND b.n > a.n) ORDER BY a.about, a.seq"
        )
        return earlier_acts(keys, await self._rows(sql, (list(set(keys.values())),)))

    @reading
    async def acts(
        self, sources: Sequence[str] = (), seq: int | None = None, *, limit: int = -1
    ) -> list[LoggedAct]:
        """What persons did with failures (with `seq`: with this one), newest first."""
        where, values = where_of(Filter(sources=sources))
        # Of a failure that was deleted, the act still has the source, if it was about something.
        name = f"coalesce(s.name, left(a.about, -{DIGEST + 1}))"
        where = where.replace("s.name", name)
        if seq is not None:
            where += " AND a.seq = %s"
            values.append(seq)
        sql = (
            f"SELECT a.seq, a.at, a.who, a.done, a.note, {name}, e.id, e.type, e.outcome, e.body FROM acts a "  # noqa: S608 - fixed words
            f"LEFT JOIN events e ON e.seq = a.seq LEFT JOIN sources s ON s.id = e.source WHERE true{where} "
            "ORDER BY a.n DESC LIMIT %s"
        )
        return [
            LoggedAct(act_of(row), row[5], event_of((row[0], *row[5:])) if row[9] is not None else None)
            for row in await self._rows(sql, [*values, limit if limit >= 0 else None])
        ]
