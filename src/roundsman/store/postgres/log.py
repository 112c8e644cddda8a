"""Units about the log: results of visits, contents of webhooks, and the daemon's notices."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from roundsman import wire
from roundsman.errors import Conflict
from roundsman.events import Event
from roundsman.store.postgres.arrays import clean
from roundsman.store.postgres.reader import HEAD
from roundsman.store.postgres.reading import reading, rows
from roundsman.store.postgres.transaction import Appended, Transaction
from roundsman.store.postgres.units import Units, durable_for
from roundsman.store.rows import columns_of, must_be
from roundsman.store.values import Filter, Found, Intake, New, Slice, SourceStatus, Via

UNREAD, UNREAD_BYTES = 1000, 32 * 2**20
"""Maximum number and bytes of unread webhooks and rows that are kept, per source."""
PIECE, PIECE_BYTES = 500, 2 * 2**20
"""Maximum events of a piece, and about how many bytes of them, before other tasks may run."""
REGISTERS = 30.0
"""Seconds that a worker waits for another one that creates the rows of the same configuration."""
SCANNED = 10_000
"""Numbers that one read for a sink with a filter looks at."""


@dataclass(slots=True)
class Also:
    """A statement that is sent together with the ids of new events, which it sees as `new`."""

    sql: str
    values: Sequence[object]
    done: bool = False


_CALLED = (
    "UPDATE sources SET heard = %s, calls = calls + 1, "
    "changed = CASE WHEN EXISTS (SELECT 1 FROM new) THEN %s ELSE changed END WHERE id = %s"
)


_VISITED = (
    "UPDATE sources SET due = CASE WHEN due < 0 AND %s THEN due ELSE %s END, held = %s, visited = %s, answered = %s, "
    "polls = %s, failures = %s, failing = %s, unanswered = %s, error = %s, options = %s, state = coalesce(%s, state), "
    "changed = CASE WHEN %s THEN %s ELSE changed END, "
    # `greatest` and `least` pass over NULL; only a gap of a source with a position moves it.
    "position = CASE WHEN NOT %s THEN position WHEN %s::float8 IS NULL OR greatest(position, %s::float8) IS NULL "
    "THEN greatest(position, %s::float8) ELSE least(greatest(position, %s::float8), %s::float8) END "
    "WHERE name = %s AND revision = %s"
)


def _advance(found: Found, now: float, *, changed: bool) -> Sequence[object]:
    """Values for `_VISITED`, which moves a source's position on to the newest stamp of the poll. Events from webhooks count,
    too.
    """
    moves = found.state is not None and bool(found.events)
    # A stamp in the future must not cause ids to be pruned that are not old.
    stamps = [event.stamp for event in found.events if event.stamp is not None] if moves else []
    newest = min(max(stamps), now) if stamps else None
    return (moves and changed, now, moves, found.gap, newest, newest, newest, found.gap)


class Log(Units):
    """What is written into the log, and the state that it was read with."""

    async def commit(self, name: str, revision: int, found: Found, status: SourceStatus, now: float) -> New:
        """Commit a poll's result and the source's new status in one transaction.

        Returns the number of new events. Raises `Conflict` if the source was rewound since `revision` was
        read.
        """

        async def work(transaction: Transaction) -> Appended:
            source = await self._number(transaction, name)
            new = await self._insert(transaction, source, found.events, (now, found.via))
            # Last: one change of the row. It is locked since the transaction began.
            advance = _advance(found, now, changed=bool(new.events))
            await self._visited(transaction, (name, revision), found, status, advance)
            if found.taken:
                sql = "DELETE FROM inbox WHERE source = %s AND n <= %s"
                await transaction.run(sql, (source, found.taken))
            for each in found.unread:
                await self._keep_unread(transaction, source, now, each.why, each.raw)
            if found.unread:
                await self._trim_unread(transaction, source)
            return new

        large = len(found.events) > PIECE
        return self._note(name, await self._writer.write(work, durable=True, large=large, sources=[name]))

    async def _visited(
        self,
        transaction: Transaction,
        seen: tuple[str, int],
        found: Found,
        status: SourceStatus,
        advance: Sequence[object],
    ) -> None:
        """Store what a visit leaves but for events."""
        state = wire.encode(found.state).decode() if found.state is not None else None
        values = (found.keeps_wish, *columns_of(status), state, *advance, *seen)
        done = await transaction.run(_VISITED, values)
        if not done.rowcount:
            raise Conflict

    @reading
    async def read(self, sink: str, limit: int, wanted: Filter) -> Slice:
        """The next events for a sink, at most `limit` of them and about 8 MiB."""
        async with self._reads.one() as connection:
            # The head first: what is committed between two statements is left for the next read.
            sql = f"SELECT coalesce((SELECT cursor FROM sinks WHERE name = %s), 0), ({HEAD})"  # noqa: S608 - fixed words
            [[cursor, head]] = await rows(connection, sql, (sink,))
            kept = self._tail.after(cursor, limit, wanted)
            if kept is not None:
                return Slice(cursor, *kept)
            if any(wanted):
                head = min(head, cursor + SCANNED)
            found = [event for event, _ in await self._events(connection, (cursor, head), limit, wanted)]
        damaged = [event for event in found if not event.sound]
        if damaged:
            found = [event for event in found if event not in damaged]
        return Slice(cursor, found, head, damaged)

    async def receive(self, intake: Intake, now: float) -> New:
        """Commit the content of a webhook. Returns the number of new events.

        A source's position does not move: a webhook proves nothing about earlier events.
        """
        return self._note(intake.source, await self._receive(intake, now))

    @durable_for(lambda intake, _: [intake.source])
    async def _receive(self, transaction: Transaction, intake: Intake, now: float) -> Appended:
        source = await self._number(transaction, intake.source)
        called = Also(_CALLED, (now, now, source))
        new = await self._insert(transaction, source, intake.events, (now, "push"), called)
        if intake.follow:
            await transaction.run(
                "INSERT INTO inbox (source, id) SELECT %s, id FROM unnest(%s::text[]) WITH ORDINALITY AS g (id, n) ORDER BY n "
                "ON CONFLICT DO NOTHING",
                (source, list(intake.follow)),
            )
        if intake.ring:
            done = await transaction.run(
                "INSERT INTO rings (source, n) VALUES (%s, nextval('ring_numbers')) "
                # Not the number above: another ring may have got a later one, and its lock, before this one.
                "ON CONFLICT (source) DO UPDATE SET n = nextval('ring_numbers') RETURNING n",
                (source,),
            )
            [new.ring] = await done.fetchone() or [0]
        if intake.unread is not None:
            await self._keep_unread(transaction, source, now, *intake.unread)
            await self._trim_unread(transaction, source)
        if not called.done:
            values = (bool(new.events), *called.values)
            await transaction.run(f"WITH new AS (SELECT 1 WHERE %s) {_CALLED}", values)
        return new

    async def append_notices(self, name: str, events: Sequence[Event], now: float) -> int:
        """Append notices that no poll returned, such as the daemon's own. Returns the number of new ones."""
        return self._note(name, await self._append_notices(name, events, now))

    @durable_for(lambda name, *_: [name])
    async def _append_notices(
        self, transaction: Transaction, name: str, events: Sequence[Event], now: float
    ) -> Appended:
        source = await self._number(transaction, name)
        return await self._insert(transaction, source, events, (now, None))

    def _note(self, source: str, new: Appended) -> New:
        """These events of a source were committed. Returns how many there are."""
        self._numbers[source] = new.source
        if new.events and new.last:
            self._tail.add(source, new.events, new.last)
        elif new.events:
            self._tail.clear()
        return New.of(new.events, new.ring)

    async def _number(self, transaction: Transaction, name: str) -> int:
        """The number of a source, which never changes."""
        found = self._numbers.get(name)
        if found is None:
            done = await transaction.run("SELECT id FROM sources WHERE name = %s", (name,))
            [found] = await done.fetchone() or [None]
            assert found is not None, name
        return found

    async def register(
        self,
        sources: Mapping[str, str],
        sinks: Mapping[str, str],
        origins: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Create missing rows of configured sources and sinks (name -> type). A new sink starts at the head.

        `origins`: what each source reads. If its state is from another origin, both origins are stored.
        StoreError if the type of a name has changed.
        """

        async def work(transaction: Transaction) -> None:
            await transaction.run(f"SET LOCAL lock_timeout = '{REGISTERS:.0f}s'")
            await _create(transaction, "sources", sources)
            await _create(transaction, "sinks", sinks)
            await _note_origins(transaction, {name: origins[name] for name in sources if name in origins})

        # Large: it locks what it changes by itself, and nothing is locked before it.
        await self._writer.write(work, durable=True, large=True)

    async def _insert(
        self,
        transaction: Transaction,
        source: int,
        events: Sequence[Event],
        how: tuple[float, Via],
        also: "Also | None" = None,
    ) -> Appended:
        """Append events whose ids are new. `how`: when (Unix), and by what they came. `also`: sent with the ids, if they are
        one piece.
        """
        new: list[Event] = []
        at = 0
        while at < len(events):
            if at:
                transaction.seal()
                await asyncio.sleep(0)
            piece = _fitting(events[at : at + PIECE])
            at += len(piece)
            whole = len(piece) == len(events)
            some = await self._unknown(transaction, source, piece, also if whole else None)
            transaction.append(source, some, *how)
            new += some
        return transaction.appended(source, new)

    async def _unknown(
        self, transaction: Transaction, source: int, events: Sequence[Event], also: "Also | None"
    ) -> list[Event]:
        """The events whose ids are new and that are not too late. From now on, their ids are known."""
        candidates: dict[str, Event] = {}
        known = await self._known(transaction, source, events)
        for event in events:
            key = clean(event.id)
            if key not in candidates and key not in known and event.unless not in known:
                candidates[key] = event
                known.add(key)
        if not candidates:
            return []
        # In one order: two transactions with the same ids wait for each other, and not in a circle.
        sql = "INSERT INTO ids (source, id) SELECT %s, unnest(%s::text[]) ON CONFLICT DO NOTHING RETURNING id"
        values: list[object] = [source, sorted(candidates)]
        if also is not None:
            sql = f"WITH new AS ({sql}), also AS ({also.sql}) SELECT id FROM new"  # noqa: S608 - statements of ours
            values += also.values
            also.done = True
        done = await transaction.run(sql, values)
        new = {each for [each] in await done.fetchall()}
        return [event for key, event in candidates.items() if key in new]

    async def _known(self, transaction: Transaction, source: int, events: Sequence[Event]) -> set[str | None]:
        """Which ids are in the log, of those that decide whether an event is too late; without such events, none."""
        if not any(event.unless for event in events):
            return set()
        ids = {clean(event.id) for event in events} | {clean(e.unless) for e in events if e.unless}
        done = await transaction.run(
            "SELECT id FROM ids WHERE source = %s AND id = ANY (%s::text[])", (source, list(ids))
        )
        return {each for [each] in await done.fetchall()}

    async def _keep_unread(
        self, transaction: Transaction, source: int, now: float, why: str, body: bytes
    ) -> None:
        sql = "INSERT INTO unread (source, received, why, body) VALUES (%s, %s, %s, %s)"
        await transaction.run(sql, (source, now, why, body))

    async def _trim_unread(self, transaction: Transaction, source: int) -> None:
        # An authentic caller can also flood us: only the newest are kept, limited in number and in bytes.
        await transaction.run(
            "DELETE FROM unread WHERE source = %s AND n <= (SELECT max(n) FROM (SELECT n, "
            "sum(octet_length(body)) OVER (ORDER BY n DESC) AS bytes, row_number() OVER (ORDER BY n DESC) AS place "
            "FROM unread WHERE source = %s) AS kept WHERE bytes > %s OR place > %s)",
            (source, source, UNREAD_BYTES, UNREAD),
        )


def _fitting(piece: Sequence[Event]) -> Sequence[Event]:
    """The first events of a piece, of about `PIECE_BYTES` together."""
    while len(piece) > 1 and sum(len(event.body) for event in piece) > PIECE_BYTES:
        piece = piece[: len(piece) // 2]
    return piece


async def _create(transaction: Transaction, table: str, kinds: Mapping[str, str]) -> None:
    """Create missing rows of sources or sinks. StoreError if the type of a name has changed."""
    names = sorted(kinds)
    sql = f"SELECT name, type FROM {table} WHERE name = ANY (%s::text[])"  # noqa: S608 - fixed names
    there = await (await transaction.run(sql, (names,))).fetchall()
    for name, was in there:
        must_be(f"{table}.{name}", was, kinds[name])
    missing = sorted(kinds.keys() - {name for name, _ in there})
    if not missing:
        return
    columns, values = (
        ("name, type, cursor", f"name, type, ({HEAD})") if table == "sinks" else ("name, type",) * 2
    )
    sql = f"INSERT INTO {table} ({columns}) SELECT {values} FROM unnest(%s::text[], %s::text[]) AS g (name, type) "  # noqa: S608 - fixed words
    await transaction.run(sql + "ON CONFLICT DO NOTHING", (missing, [kinds[name] for name in missing]))
    # Another worker may have created some meanwhile.
    await _create(transaction, table, {name: kinds[name] for name in missing})


async def _note_origins(transaction: Transaction, origins: Mapping[str, str]) -> None:
    """Store the origins of sources that have none or another one. Rows that stay as they are need no lock."""
    if origins:
        await transaction.run(
            "WITH g AS MATERIALIZED (SELECT s.id, g.origin FROM sources s JOIN unnest(%s::text[], %s::text[]) AS g (name, origin) "
            "ON s.name = g.name WHERE s.origin IS DISTINCT FROM g.origin OR s.moved IS NOT NULL "
            "ORDER BY s.id FOR NO KEY UPDATE OF s) "
            "UPDATE sources SET origin = CASE WHEN sources.origin IS NULL OR visited IS NULL THEN g.origin ELSE "
            "sources.origin END, moved = CASE WHEN visited IS NOT NULL AND sources.origin != g.origin THEN g.origin END "
            "FROM g WHERE sources.id = g.id",
            (list(origins), list(origins.values())),
        )
