"""Units about the log: results of visits, contents of webhooks, and the daemon's notices."""

import sqlite3
import time
from collections.abc import Generator, Mapping, Sequence
from types import MappingProxyType

from roundsman import wire
from roundsman.errors import Conflict, StoreError
from roundsman.events import Event
from roundsman.store.rows import columns_of, must_be
from roundsman.store.sqlite.reader import known_ids
from roundsman.store.sqlite.reading import reading
from roundsman.store.sqlite.units import Units, durable
from roundsman.store.sqlite.writer import Work
from roundsman.store.values import Filter, Found, Intake, New, Slice, SourceStatus, Via

_APPEND = (
    "INSERT INTO events (source, id, type, outcome, logged, stamp, body, failure, via) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
Appended = tuple[list[Event], int]
"""New events, and the number of the last one."""
UNREAD, UNREAD_BYTES = 1000, 32 * 2**20
"""Maximum number and bytes of unread webhooks and rows that are kept, per source."""
PIECE, SMALLEST, LARGEST = 200, 25, 800
"""Rows that are inserted before other tasks may run: at first, at least and at most."""
PIECE_BYTES = 2 * 2**20
"""Bytes of events above which a piece is halved."""
SCANNED = 10_000
"""Numbers that one read for a sink with a filter looks at: some 5 ms where none of their events matches."""
SHORT, LONG = 0.002, 0.006
"""Seconds between which inserting a piece should take. A row takes 7 us, or 60 in a store of a million rows."""


class Log(Units):
    """What is written into the log, and the state that it was read with."""

    async def commit(self, name: str, revision: int, found: Found, status: SourceStatus, now: float) -> New:
        """Commit a poll's result and the source's new status in one transaction.

        Returns the number of new events. Raises `Conflict` if the source was rewound since `revision` was
        read.
        """
        work: Work[Appended] = lambda: self._commit(name, revision, found, status, now)  # noqa: E731 - for its type
        new, last = await self._writer.write(work, durable=True, large=len(found.events) > PIECE)
        return self._note(name, new, last)

    @reading
    def read(self, sink: str, limit: int, wanted: Filter) -> Slice:
        """The next events for a sink, at most `limit` of them and about `BATCH_BYTES` bytes."""
        cursor, _ = self._position(sink)
        kept = self._tail.after(cursor, limit, wanted)
        if kept is not None:
            return Slice(cursor, *kept)
        head = self._head()
        if any(wanted):
            head = min(head, cursor + SCANNED)
        found = [event for event, _ in self._events(cursor, head, limit, wanted)]
        damaged = [event for event in found if not event.sound]
        if damaged:
            found = [event for event in found if event not in damaged]
        return Slice(cursor, found, head, damaged)

    def _commit(
        self, name: str, revision: int, found: Found, status: SourceStatus, now: float
    ) -> Generator[None, None, Appended]:
        run = self._do
        row = run(
            "UPDATE sources SET due = CASE WHEN due < 0 AND ? THEN due ELSE ? END, held = ?, visited = ?, answered = ?, "
            "polls = ?, failures = ?, failing = ?, unanswered = ?, error = ?, options = ? "
            "WHERE name = ? AND revision = ? RETURNING id",
            (found.keeps_wish, *columns_of(status), name, revision),
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
        new: list[Event] = []
        if not found.events:
            return new, 0
        size, at = PIECE, 0
        while at < len(found.events):
            if at:
                yield
            began = time.perf_counter()
            piece = _fitting(found.events[at : at + size])
            new += self._insert(source, piece, now, found.via)
            at, size = at + len(piece), _resized(len(piece), time.perf_counter() - began)
        if found.state is not None:
            self._advance(source, found, now, changed=bool(new))
        return new, self._last()

    async def receive(self, intake: Intake, now: float) -> New:
        """Commit the content of a webhook. Returns the number of new events.

        A source's position does not move: a webhook proves nothing about earlier events.
        """
        return self._note(intake.source, *await self._receive(intake, now))

    @durable
    def _receive(self, intake: Intake, now: float) -> Appended:
        run = self._do
        [source] = run("SELECT id FROM sources WHERE name = ?", (intake.source,)).fetchone()
        new, last = self._insert(source, intake.events, now, "push"), self._last()
        self._read_back(source, intake)
        for each in intake.follow:
            run("INSERT OR IGNORE INTO inbox (source, id) VALUES (?, ?)", (source, each))
        if intake.unread is not None:
            self._keep_unread(source, now, *intake.unread)
            self._trim_unread(source)
        run(
            "UPDATE sources SET heard = :now, calls = calls + 1, changed = CASE WHEN :new THEN :now ELSE changed END WHERE id = :source",
            {"now": now, "new": bool(new), "source": source},
        )
        return new, last

    async def append_notices(self, name: str, events: Sequence[Event], now: float) -> int:
        """Append notices that no poll returned, such as the daemon's own. Returns the number of new ones."""
        return self._note(name, *await self._append_notices(name, events, now))

    @durable
    def _append_notices(self, name: str, events: Sequence[Event], now: float) -> Appended:
        [source] = self._do("SELECT id FROM sources WHERE name = ?", (name,)).fetchone()
        return self._insert(source, events, now, None), self._last()

    def _note(self, source: str, new: Sequence[Event], last: int) -> New:
        """These events of a source were committed, the last one with the number `last`. Returns how many there are."""
        if new:
            self._tail.add(source, new, last)
        return New.of(new)

    def _last(self) -> int:
        """The number of the event that was inserted last."""
        return int(self._do("SELECT last_insert_rowid()").fetchone()[0])

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
                    "UPDATE sources SET origin = CASE WHEN origin IS NULL OR visited IS NULL THEN :origin ELSE origin END, "
                    "moved = CASE WHEN visited IS NOT NULL AND origin != :origin THEN :origin END WHERE name = :name",
                    {"origin": origins[name], "name": name},
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
        stamps = [event.stamp for event in found.events if event.stamp is not None]
        if stamps:
            self._do(
                "UPDATE sources SET position = :newest WHERE id = :source AND coalesce(position, 0) < :newest",
                {"newest": min(max(stamps), now), "source": source},
            )
        if found.gap is not None:
            self._do("UPDATE sources SET position = min(position, ?) WHERE id = ?", (found.gap, source))

    def _insert(self, source: int, events: Sequence[Event], now: float, via: Via) -> list[Event]:
        """Append events whose ids are new. Returns these.

        Most pages are all new: they are inserted without a look at each id first, which costs a third more. Not
        `INSERT OR IGNORE`: an ignored row uses up a `seq`.
        """
        inserted = 0
        if not any(event.unless for event in events):
            before = self._writer.conn.total_changes
            try:
                self._append(source, events, now, via)
            except sqlite3.IntegrityError:  # from the first known id on, each is looked up
                inserted = self._writer.conn.total_changes - before
            else:
                return list(events)
        rest = self._unknown(source, events[inserted:])
        self._append(source, rest, now, via)
        return [*events[:inserted], *rest]

    def _append(self, source: int, events: Sequence[Event], now: float, via: Via) -> None:
        rows = [(source, e.id, e.type, e.outcome, now, e.stamp, e.body, e.failure, via) for e in events]
        self._do_many(_APPEND, rows)

    def _unknown(self, source: int, events: Sequence[Event]) -> list[Event]:
        """The events whose ids are new and that are not too late."""
        ids = {event.id for event in events} | {event.unless for event in events if event.unless}
        known = known_ids(self._writer.conn, source, list(ids))
        found = []
        for event in events:
            if event.id not in known and event.unless not in known:
                known.add(event.id)
                found.append(event)
        return found

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
            "DELETE FROM unread WHERE source = :source AND n <= (SELECT max(n) FROM (SELECT n, "
            "sum(length(body)) OVER (ORDER BY n DESC) AS bytes, row_number() OVER (ORDER BY n DESC) AS place "
            "FROM unread WHERE source = :source) WHERE bytes > :bytes OR place > :count)",
            {"source": source, "bytes": UNREAD_BYTES, "count": UNREAD},
        )


def _fitting(piece: Sequence[Event]) -> Sequence[Event]:
    """The first events of a piece, of about `PIECE_BYTES` together."""
    while len(piece) > 1 and sum(len(event.body) for event in piece) > PIECE_BYTES:
        piece = piece[: len(piece) // 2]
    return piece


def _resized(size: int, took: float) -> int:
    """The size of the next piece, after one that took so many seconds."""
    if took > LONG:
        return max(SMALLEST, size // 2)
    return min(LARGEST, size * 2) if took < SHORT else size
