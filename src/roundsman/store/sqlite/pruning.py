"""Prunes old events in steps so small that no caller waits for one, and returns free pages to the disk."""

from collections.abc import Sequence

from roundsman.store.sqlite.tallying import Tallying
from roundsman.store.sqlite.units import relaxed
from roundsman.store.values import KEYS_KEPT

STEP_BYTES = 4 * 2**20
"""Approximate bytes of payloads that one step of pruning touches: each is overwritten."""
SPARE_PAGES = 1000
"""Number of free pages (of 8 KiB) below which none are returned."""


class Pruning(Tallying):
    """A store that can be pruned."""

    @relaxed
    def prune(self, sinks: Sequence[str], now: float, retention: float, limit: int = 500) -> bool:
        """One small step: prune payloads older than `retention` that every sink has; later their keys, too.

        Each step examines the next `limit` events and stores its position. Returns whether there is more to
        examine in this round. Buried events are kept. Unread rows older than `retention` are deleted, and counts older than they
        are kept.
        """
        run = self._do
        # Old by our clock *and* by the vendor's: re-reads of a quiet source still reach back from its last
        # event. Ids without a stamp are kept forever: it is not known how far re-reads reach back to them.
        kept = max(KEYS_KEPT, retention)
        old, older = self._seq_before(now - retention), self._seq_before(now - kept)
        marks = ",".join("?" * len(sinks))
        low = run(f"SELECT min(cursor) FROM sinks WHERE name IN ({marks})", sinks).fetchone()[0]  # noqa: S608 - only marks
        blank = old if low is None else min(old, low)
        [mark] = run("SELECT pruned FROM daemons").fetchone()
        last, looked, enough = run(
            # The length is taken in the innermost query: a window over payloads would copy all of them.
            "SELECT max(seq), count(*), max(bytes) >= :bytes FROM (SELECT seq, size, sum(size) OVER (ORDER BY seq) AS bytes "
            "FROM (SELECT seq, coalesce(length(body), 0) AS size FROM events WHERE seq > :mark AND seq <= :last "
            "ORDER BY seq LIMIT :limit)) WHERE bytes - size < :bytes",
            {"mark": mark, "last": max(blank, older), "limit": limit, "bytes": STEP_BYTES},
        ).fetchone()
        if looked:
            blanked = run(
                "UPDATE events SET body = NULL WHERE seq > ? AND seq <= ? AND logged < ? AND body IS NOT NULL "
                "AND NOT EXISTS (SELECT 1 FROM dead WHERE dead.seq = events.seq)",
                (mark, min(last, blank), now - retention),
            ).rowcount
            if blanked:
                self._tail.clear()
            deleted = run(
                "DELETE FROM events WHERE seq IN (SELECT e.seq FROM events e JOIN sources s ON s.id = e.source "
                "WHERE e.seq > ? AND e.seq <= ? AND e.logged < ? AND e.body IS NULL "
                "AND (e.stamp < s.position - ? OR e.type GLOB 'roundsman.*'))",
                (mark, min(last, older), now - kept, kept),
            ).rowcount
            if deleted:
                run("UPDATE daemons SET ids_pruned = 1 WHERE NOT ids_pruned")
        letters = run(
            "DELETE FROM unread WHERE n IN (SELECT n FROM unread WHERE received < ? ORDER BY n LIMIT ?)",
            (now - retention, limit),
        ).rowcount
        counts = self._delete_old_counts(now, limit)
        through = looked < limit and not enough
        if mark or not through:
            run("UPDATE daemons SET pruned = ?", (0 if through else last,))
        return not through or letters == limit or counts

    async def shrink(self, pages: int = 200) -> bool:
        """Return up to `pages` free pages to the disk; returns whether there may be more.

        The file is never rewritten as a whole: `VACUUM` would lock it meanwhile. A quarter may stay free for
        new events.
        """
        return await self._writer.apart(lambda: self._shrink(pages))

    def _shrink(self, pages: int) -> bool:
        [total], [free] = (self._do(f"PRAGMA {what}").fetchone() for what in ("page_count", "freelist_count"))
        if free < SPARE_PAGES or free < total // 4 or not self._do("PRAGMA auto_vacuum").fetchone()[0]:
            return False
        self._do(f"PRAGMA incremental_vacuum({pages})").fetchall()
        return True

    async def checkpoint(self) -> None:
        """Checkpoint the -wal file into the store, without waiting. It is truncated unless others read."""
        await self._writer.apart(
            lambda: self._do("PRAGMA wal_checkpoint(TRUNCATE)").fetchall(), threaded=True
        )
