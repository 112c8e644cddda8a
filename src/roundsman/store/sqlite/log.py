"""Units about the log: what visits find, what webhooks bring, and the daemon's notices."""

import sqlite3
from collections.abc import Generator, Mapping, Sequence
from types import MappingProxyType

from roundsman import wire
from roundsman.errors import Conflict, StoreError
from roundsman.events import Event
from roundsman.store.sqlite.reader import known_ids
from roundsman.store.sqlite.units import Units, durable, in_pieces
from roundsman.store.values import Found, Intake, SourceStatus, Via

_INSERT = "INSERT INTO events (source, id, type, outcome, logged, stamp, body, failure, via)"
_IF_NEW = (
    "SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9 WHERE NOT EXISTS (SELECT 1 FROM events WHERE source = ?1 AND id = ?2) "
    "AND (?10 IS NULL OR NOT EXISTS (SELECT 1 FROM events WHERE source = ?1 AND id = ?10))"
)
UNREAD, UNREAD_BYTES = 1000, 32 * 2**20
"""Maximum number and bytes of unread webhooks and rows that are kept, per source."""
PIECE = 200
"""Rows that are inserted before other tasks may run: on a store of a million rows, 60 us each."""


class Log(Units):
    """What is written into the log, and the state that it was read with."""

    @in_pieces
    def commit(
        self, name: str, revision: int, found: Found, status: SourceStatus, now: float
    ) -> Generator[None, None, int]:
        """Commit a poll's result and the source's new status in one transaction.

        Returns the number of new events. Raises `Conflict` if the source was rewound since `revision` was
        read.
        """
        run = self._do
        row = run(
            "UPDATE sources SET due = CASE WHEN due < 0 AND ? THEN due ELSE ? END, held = ?, visited = ?, answered = ?, "
            "polls = ?, failures = ?, failing = ?, unanswered = ?, error = ?, options = ? "
            "WHERE name = ? AND revision = ? RETURNING id",
            (found.keeps_wish, *_columns(status), name, revision),
        ).fetchone()
        if row is None:
            raise Conflict
        [source] = row
        if found.state is not None:
            run("UPDATE sources SET state = ? WHERE id = ?", (wire.encode(found.state).decode(), source))
        if found.taken:
            run("DELETE FROM inbox WHERE source = ? AND n <= ?", (source, found.taken))
        for each in found.unread:
            self._keep_unread(source, now, each.why, each.raw)
        if found.unread:
            self._trim_unread(source)
        if not found.events:
            return 0
        new = 0
        for at in range(0, len(found.events), PIECE):
            if at:
                yield
            new += self._insert(source, found.events[at : at + PIECE], now, found.via)
        if found.state is not None:
            self._advance(source, found, now, changed=new > 0)
        return new

    @durable
    def receive(self, intake: Intake, now: float) -> int:
        """Commit the content of a webhook. Returns the number of new events.

        A source's position does not move: a webhook says nothing about what came before it.
        """
        run = self._do
        [source] = run("SELECT id FROM sources WHERE name = ?", (intake.source,)).fetchone()
        new = self._insert(source, intake.events, now, "push")
        self._read_back(source, intake)
        for each in intake.follow:
            run("INSERT OR IGNORE INTO inbox (source, id) VALUES (?, ?)", (source, each))
        if intake.unread is not None:
            self._keep_unread(source, now, *intake.unread)
            self._trim_unread(source)
        run(
            "UPDATE sources SET heard = ?1, calls = calls + 1, changed = CASE WHEN ?2 THEN ?1 ELSE changed END WHERE id = ?3",
            (now, new, source),
        )
        return new

    @durable
    def append_notices(self, name: str, events: Sequence[Event], now: float) -> int:
        """Append notices that no poll returned, such as the daemon's own. Returns the number of new ones."""
        [source] = self._do("SELECT id FROM sources WHERE name = ?", (name,)).fetchone()
        return self._insert(source, events, now, None)

    @durable
    def register(
        self,
        sources: Mapping[str, str],
        sinks: Mapping[str, str],
        origins: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Create missing rows of configured sources and sinks (name -> type). A new sink starts at the head.

        `origins`: what each source reads. If its state is from another origin, both origins are stored.
        StoreError if the type of a name has changed.
        """
        run = self._do
        for name, kind in sources.items():
            run("INSERT OR IGNORE INTO sources (name, type) VALUES (?, ?)", (name, kind))
            [was] = run("SELECT type FROM sources WHERE name = ?", (name,)).fetchone()
            must_be(f"sources.{name}", was, kind)
            if name in origins:
                run(
                    "UPDATE sources SET origin = CASE WHEN origin IS NULL OR visited IS NULL THEN ?1 ELSE origin END, "
                    "moved = CASE WHEN visited IS NOT NULL AND origin != ?1 THEN ?1 END WHERE name = ?2",
                    (origins[name], name),
                )
        for name, kind in sinks.items():
            run(
                "INSERT OR IGNORE INTO sinks (name, type, cursor) "
                "VALUES (?, ?, (SELECT coalesce(max(seq), 0) FROM events))",
                (name, kind),
            )
            [was] = run("SELECT type FROM sinks WHERE name = ?", (name,)).fetchone()
            must_be(f"sinks.{name}", was, kind)

    def _advance(self, source: int, found: Found, now: float, *, changed: bool) -> None:
        """Move a source's position on to the newest stamp of the poll. Events from webhooks count, too."""
        if changed:
            self._do("UPDATE sources SET changed = ? WHERE id = ?", (now, source))
        # A stamp in the future must not cause ids to be pruned that are not old.
        newest = max((min(e.stamp, now) for e in found.events if e.stamp is not None), default=None)
        if newest is not None:
            self._do(
                "UPDATE sources SET position = ?1 WHERE id = ?2 AND coalesce(position, 0) < ?1",
                (newest, source),
            )
        if found.gap is not None:
            self._do("UPDATE sources SET position = min(position, ?) WHERE id = ?", (found.gap, source))

    def _insert(self, source: int, events: Sequence[Event], now: float, via: Via) -> int:
        """Append events whose ids are new. Returns how many.

        Most pages are all new: they are inserted without a look at each id first, which costs a third more. From the
        first known id on, each is looked up. Not `INSERT OR IGNORE`: an ignored row uses up a `seq`.
        """
        rows = [(source, e.id, e.type, e.outcome, now, e.stamp, e.body, e.failure, via) for e in events]
        new = 0
        if not any(event.unless for event in events):
            before = self._writer.conn.total_changes
            try:
                return self._do_many(f"{_INSERT} VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)", rows)
            except sqlite3.IntegrityError:
                new = self._writer.conn.total_changes - before
        looked_up = [(*row, event.unless) for row, event in zip(rows[new:], events[new:], strict=True)]
        return new + self._do_many(f"{_INSERT} {_IF_NEW}", looked_up)

    def _read_back(self, source: int, intake: Intake) -> None:
        """StoreError if an event that was just written cannot be found by id: then the store is damaged."""
        written = [event.id for event in intake.events if event.unless is None]
        if set(written) - known_ids(self._writer.conn, source, written):
            raise StoreError(f"{self.path} is damaged: what is written cannot be read back")

    def _keep_unread(self, source: int, now: float, why: str, body: bytes) -> None:
        self._do(
            "INSERT INTO unread (source, received, why, body) VALUES (?, ?, ?, ?)", (source, now, why, body)
        )

    def _trim_unread(self, source: int) -> None:
        # An authentic caller can also flood us: only the newest are kept, limited in number and in bytes.
        self._do(
            "DELETE FROM unread WHERE source = ?1 AND n <= (SELECT max(n) FROM (SELECT n, "
            "sum(length(body)) OVER (ORDER BY n DESC) AS bytes, row_number() OVER (ORDER BY n DESC) AS place "
            "FROM unread WHERE source = ?1) WHERE bytes > ?2 OR place > ?3)",
            (source, UNREAD_BYTES, UNREAD),
        )


def _columns(status: SourceStatus) -> tuple[object, ...]:
    """The stored fields of a status, in the order of `commit`."""
    return (
        status.due,
        status.not_before,
        status.last_visit,
        status.last_success,
        status.visits,
        status.failures,
        status.failing_since,
        status.unanswered_since,
        status.error,
        status.failed_with,
    )


def must_be(place: str, was: str, kind: str) -> None:
    """StoreError if the type of a name has changed: what is stored under the name fits only the old type."""
    if was != kind:
        what = place.partition(".")[0].removesuffix("s")
        raise StoreError(f"{place} was a {was} and is now a {kind}: give the new {what} another name")
