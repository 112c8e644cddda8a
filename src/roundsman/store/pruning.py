"""Pruning what is old, in steps so small that nobody waits for one, and giving the room back."""

from collections.abc import Sequence

from roundsman.store.database import BUSY, translated
from roundsman.store.reader import Reader
from roundsman.store.values import DAEMON

KEYS_KEPT = 35 * 86400.0
"""Seconds that `(source, id)` is kept at least: longer than any re-read reaches back."""
STEP_BYTES = 4 * 2**20
"""Bytes of payloads that one step of forgetting touches, roughly: each is written over."""
SPARE_PAGES = 1000
"""Pages (of 8 KiB) that may be free without being given back."""


class Pruning(Reader):
    """A store that can forget."""

    def prune(self, sinks: Sequence[str], now: float, retention: float, limit: int = 500) -> bool:
        """One small step of forgetting: payloads that every sink has had for `retention`, later their keys too.

        Each step looks at the next `limit` events and remembers where it was; whether there are more to look at before the
        next round begins. Buried events are kept.
        """
        run = self._run
        # By our time *and* by the vendor's: where a source is quiet, readings still reach back from its last event. Without
        # a stamp nobody knows how far readings reach back: such ids are kept for good.
        kept = max(KEYS_KEPT, retention)
        old, older = self.seq_before(now - retention), self.seq_before(now - kept)
        marks = ",".join("?" * len(sinks))
        low = run(f"SELECT min(cursor) FROM sinks WHERE name IN ({marks})", sinks).fetchone()[0]  # noqa: S608 - only marks
        blank = old if low is None else min(old, low)
        with translated(self.path), self._db.atomic():
            [mark] = run("SELECT coalesce(position, 0) FROM sources WHERE name = ?", (DAEMON,)).fetchone()
            last, looked, enough = run(
                # The length is taken innermost: a window over payloads would copy them all.
                "SELECT max(seq), count(*), max(bytes) >= ?4 FROM (SELECT seq, size, sum(size) OVER (ORDER BY seq) AS bytes "
                "FROM (SELECT seq, coalesce(length(body), 0) AS size FROM events WHERE seq > ?1 AND seq <= ?2 "
                "ORDER BY seq LIMIT ?3)) WHERE bytes - size < ?4",
                (mark, max(blank, older), limit, STEP_BYTES),
            ).fetchone()
            if looked:
                run(
                    "UPDATE events SET body = NULL WHERE seq > ? AND seq <= ? AND logged < ? AND body IS NOT NULL "
                    "AND NOT EXISTS (SELECT 1 FROM dead WHERE dead.seq = events.seq)",
                    (mark, min(last, blank), now - retention),
                )
                run(
                    "DELETE FROM events WHERE seq IN (SELECT e.seq FROM events e JOIN sources s ON s.id = e.source "
                    "WHERE e.seq > ? AND e.seq <= ? AND e.logged < ? AND e.body IS NULL "
                    "AND (e.stamp < s.position - ? OR e.type GLOB 'roundsman.*'))",
                    (mark, min(last, older), now - kept, kept),
                )
            letters = run(
                "DELETE FROM unread WHERE n IN (SELECT n FROM unread WHERE received < ? ORDER BY n LIMIT ?)",
                (now - retention, limit),
            ).rowcount
            through = looked < limit and not enough
            if mark or not through:
                run("UPDATE sources SET position = ? WHERE name = ?", (0 if through else last, DAEMON))
            return not through or letters == limit

    def shrink(self, pages: int = 200) -> bool:
        """Give some of what is free in the file back to the disk; whether there is more worth it.

        Never the whole file at once: `VACUUM` would lock it, and write all of it anew. A quarter may stay, for new events.
        """
        [total], [free] = (
            self._run(f"PRAGMA {what}").fetchone() for what in ("page_count", "freelist_count")
        )
        if free < SPARE_PAGES or free < total // 4 or not self._run("PRAGMA auto_vacuum").fetchone()[0]:
            return False
        self._run(f"PRAGMA incremental_vacuum({pages})").fetchall()
        return True

    def checkpoint(self) -> None:
        """Move what is in the -wal file into the store, and cut it; not at all while somebody reads."""
        self._run("PRAGMA busy_timeout = 0")
        try:
            self._run("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        finally:
            self._run(f"PRAGMA busy_timeout = {round(BUSY * 1000)}")
