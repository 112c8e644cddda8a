"""Prunes old events in steps so small that no caller waits for one."""

from collections.abc import Sequence

from roundsman.store.postgres.tallying import Tallying
from roundsman.store.postgres.transaction import Transaction
from roundsman.store.postgres.units import relaxed_for_all
from roundsman.store.values import KEYS_KEPT

STEP_BYTES = 4 * 2**20
"""Approximate bytes of payloads that one step of pruning touches."""


class Pruning(Tallying):
    """A store that can be pruned."""

    @relaxed_for_all
    async def prune(
        self, transaction: Transaction, sinks: Sequence[str], now: float, retention: float, limit: int = 500
    ) -> bool:
        """One small step: prune payloads older than `retention` that every sink has; later their keys, too.

        Each step examines the next `limit` events and stores its position. Returns whether there is more to
        examine in this round. Buried events are kept. Unread rows older than `retention` are deleted, and counts older than they
        are kept.
        """
        # Old by our clock *and* by the vendor's: re-reads of a quiet source still reach back from its last
        # event. Ids without a stamp are kept forever: it is not known how far re-reads reach back to them.
        kept = max(KEYS_KEPT, retention)
        old = await _seq_before(transaction, now - retention)
        older = await _seq_before(transaction, now - kept)
        low, mark = await _one(
            transaction,
            "SELECT (SELECT min(cursor) FROM sinks WHERE name = ANY (%s::text[])), pruned FROM daemons",
            (list(sinks),),
        )
        blank = old if low is None else min(old, low)
        last, looked, enough = await _one(
            transaction,
            "SELECT max(seq), count(*), coalesce(max(bytes) >= %s, false) FROM (SELECT seq, size, sum(size) OVER (ORDER BY seq) "
            "AS bytes FROM (SELECT seq, coalesce(octet_length(body), 0) AS size FROM events WHERE seq > %s AND seq <= %s "
            "ORDER BY seq LIMIT %s) a) b WHERE bytes - size < %s",
            (STEP_BYTES, mark, max(blank, older), limit, STEP_BYTES),
        )
        if looked:
            await self._prune_span(transaction, (mark, min(last, blank)), now - retention)
            await self._delete_span(transaction, (mark, min(last, older)), now, kept)
        letters = await transaction.run(
            "DELETE FROM unread WHERE n IN (SELECT n FROM unread WHERE received < %s ORDER BY n LIMIT %s)",
            (now - retention, limit),
        )
        counts = await self._delete_old_counts(transaction, now, limit)
        through = looked < limit and not enough
        if mark or not through:
            await transaction.run("UPDATE daemons SET pruned = %s", (0 if through else last,))
        return not through or letters.rowcount == limit or counts

    async def _prune_span(self, transaction: Transaction, span: tuple[int, int], before: float) -> None:
        blanked = await transaction.run(
            "UPDATE events SET body = NULL WHERE seq > %s AND seq <= %s AND logged < %s AND body IS NOT NULL "
            "AND NOT EXISTS (SELECT 1 FROM dead WHERE dead.seq = events.seq)",
            (*span, before),
        )
        if blanked.rowcount:
            self._tail.clear()

    async def _delete_span(
        self, transaction: Transaction, span: tuple[int, int], now: float, kept: float
    ) -> None:
        deleted = await transaction.run(
            "WITH gone AS (DELETE FROM events WHERE seq IN (SELECT e.seq FROM events e JOIN sources s ON s.id = e.source "
            "WHERE e.seq > %s AND e.seq <= %s AND e.logged < %s AND e.body IS NULL "
            "AND (e.stamp < s.position - %s OR e.type LIKE 'roundsman.%%')) RETURNING source, id) "
            "DELETE FROM ids USING gone WHERE ids.source = gone.source AND ids.id = gone.id",
            (*span, now - kept, kept),
        )
        if deleted.rowcount:
            await transaction.run("UPDATE daemons SET ids_pruned = 1 WHERE ids_pruned = 0")

    async def shrink(self, pages: int = 200) -> bool:
        """Nothing: the server's autovacuum returns space."""
        del pages
        return False

    async def checkpoint(self) -> None:
        """Nothing: the server does it."""


async def _one(transaction: Transaction, sql: str, values: Sequence[object] = ()) -> tuple[int, ...]:
    row = await (await transaction.run(sql, values)).fetchone()
    assert row is not None
    return tuple(row)


async def _seq_before(transaction: Transaction, when: float) -> int:
    """The `seq` after which events were logged at or after `when`. Fast: a bisection of the log.

    It assumes that `logged` grows with `seq`. If a clock was set back, only `seq_since` is right.
    """
    low, [high] = 0, await _one(transaction, "SELECT seq FROM log_head")
    while low < high:
        middle = (low + high + 1) // 2
        sql = "SELECT seq, logged FROM events WHERE seq <= %s ORDER BY seq DESC LIMIT 1"
        row = await (await transaction.run(sql, (middle,))).fetchone()
        if row is None or row[1] < when:
            low = middle
        else:
            high = row[0] - 1
    return low
