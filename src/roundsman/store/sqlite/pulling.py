"""Reads the log for a program that pulls it: a stretch after a position, bounded in numbers, events and bytes."""

from roundsman.store.rows import event_of
from roundsman.store.sqlite.filters import where_of
from roundsman.store.sqlite.reading import EVENT, Reading, reading
from roundsman.store.values import Filter, Pulled

STRETCH = 20_000
"""Numbers of the log that one call looks at, from the first that is left: some 10 ms where no event matches."""
BYTES = 4 * 2**20
"""Approximate bytes of events that one call returns."""


class Pulling(Reading):
    """What is read to pull the log."""

    @reading
    def pull(self, after: int, limit: int, wanted: Filter) -> Pulled:
        """The next events after `after` that match the filter, in log order: at most `limit`, and about 4 MiB."""
        # All of it at one moment: what is pruned between two reads would be in the answer, and counted as pruned.
        self._run("BEGIN")
        try:
            return self._pull(after, limit, wanted)
        finally:
            if self._db.in_transaction:
                self._run("ROLLBACK")

    def _pull(self, after: int, limit: int, wanted: Filter) -> Pulled:
        run = self._run
        # Not the greatest number in the table: the newest events may be pruned whole, too.
        row = run("SELECT seq FROM sqlite_sequence WHERE name = 'events'").fetchone()
        head = int(row[0]) if row else 0
        # What was pruned whole is passed in one step, however long it is.
        first = run("SELECT min(seq) FROM events WHERE seq > ?", (after,)).fetchone()[0]
        if first is None:
            return Pulled([], max(after, head), head, max(0, head - after))
        upto = min(head, int(first) - 1 + STRETCH)
        where, values = where_of(wanted)
        sql = f"{EVENT} WHERE e.seq > ? AND e.seq <= ? AND e.body IS NOT NULL{where} ORDER BY e.seq LIMIT ?"
        found, volume = [], 0
        cursor = run(sql, [after, upto, *values, limit])
        for row in cursor:
            event = event_of(row)
            found.append((event, row[6]))
            volume += len(event.body)
            if len(found) == limit or volume > BYTES:
                upto = row[0]
                cursor.close()
                break
        there = "SELECT count(*) FROM events WHERE seq > ? AND seq <= ? AND body IS NOT NULL"
        kept = int(run(there, (after, upto)).fetchone()[0])
        return Pulled(found, upto, head, upto - after - kept)
