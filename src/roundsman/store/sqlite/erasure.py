"""Blanks a person in everything that the store keeps, beside a daemon that runs."""

import asyncio
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from roundsman import wire
from roundsman.events import Event
from roundsman.store.about import DIGEST
from roundsman.store.forgetting import Change, document, lines_with, lines_without, pieces
from roundsman.store.person import BLANKED, Person
from roundsman.store.rows import about_event, event_of
from roundsman.store.sqlite.failures import listed
from roundsman.store.sqlite.files import holder
from roundsman.store.sqlite.filters import where_of
from roundsman.store.sqlite.reading import EVENT, reading
from roundsman.store.sqlite.units import Units, durable
from roundsman.store.values import Filter, Forgotten

Which = Literal["<=", ">"]
"""Events up to the cursor of a sink, or after it."""
READ = 500
"""Events that are read in one step."""
ROUNDS = 5
"""How often texts are read again that have changed meanwhile."""
PATIENCE = 20.0
"""Seconds to wait until no reader needs the old bytes of the -wal file any more."""
AGAIN = 2.5
"""Seconds until what sinks hold back is looked at again."""
_OF_EVENT = "(SELECT s.name FROM events e JOIN sources s ON s.id = e.source WHERE e.seq = t.seq)"
# Of an act whose event was deleted, the key has the source.
_OF_ACT = f"coalesce({_OF_EVENT}, substr(t.about, 1, length(t.about) - {DIGEST + 1}))"
TEXTS = (
    ("dead", "reason", _OF_EVENT),
    ("acts", "note", _OF_ACT),
    ("acts", "who", _OF_ACT),
    ("sources", "error", "t.name"),
    ("sources", "refusal", "t.name"),
    ("sources", "paused_by", "t.name"),
    ("sinks", "error", "NULL"),
    ("sinks", "paused_by", "NULL"),
    ("unread", "why", "(SELECT s.name FROM sources s WHERE s.id = t.source)"),
    ("daemons", "problems", "NULL"),
)
"""Columns with words of vendors, receivers and persons, and the source that they are about."""


class Text(NamedTuple):
    """A text that names the person."""

    table: str
    column: str
    of: str
    """Its source, in SQL."""
    source: str | None
    text: object
    """A text; of a damaged store, any value."""


class Erasure(Units):
    """A store that can forget a person."""

    async def forget(
        self, person: str, sinks: Mapping[str, Filter], *, sources: Sequence[str] = (), dry: bool = False
    ) -> Forgotten:
        """Blank a person in everything that the store keeps. Several commits if there is much."""
        who = Person(person, sources)
        seqs: dict[int, str] = {}
        in_ids = Counter[str]()
        after = 0
        while found := await self._some(after):
            after = found[-1].seq
            mine = (event for event in found if who.is_of(event.source))
            changes = [Change(event, now) for event in mine if (now := who.without(event)) is not None]
            seqs |= {change.was.seq: change.was.source for change in changes}
            in_ids.update(change.was.source for change in changes if who.is_in(change.was.id))
            for piece in () if dry else pieces(changes):
                await self._blank(piece, who)
            await asyncio.sleep(0)
        unread = await self._unread_with(who)
        texts = await self._texts_with(who)
        held = await self._held_with(who)
        still_held: Sequence[str] = ()
        if not dry:
            for n, _ in unread:
                await self._blank_unread(n)
            await self._blank_texts(texts, who)
            still_held = await self._blank_what_is_held(who)
            self._tail.clear()
        runs = not dry and holder(self.path) is not None
        reached = await self._reached()  # once: an event that is delivered meanwhile is counted all the same
        return Forgotten(
            events=Counter(seqs.values()),
            unread=Counter(source for _, source in unread),
            texts=len({(each.table, each.column, each.text) for each in texts}),
            delivered=await self._count(list(seqs), sinks, "<=", reached),
            in_ids=in_ids,
            in_states=await self._states_with(who),
            held=held,
            still_held=still_held,
            due=await self._count(list(seqs), sinks, ">", reached) if runs else {},
            others={other: sorted(who.others[other]) for other in sorted(who.others)},
            erased=not dry and await self._scrub(),
        )

    @reading
    def _some(self, after: int) -> list[Event]:
        """The next events that are not pruned, up to `READ`."""
        sql = f"{EVENT} WHERE e.seq > ? AND e.body IS NOT NULL ORDER BY e.seq LIMIT ?"
        return [_event(row) for row in self._run(sql, (after, READ))]

    @durable
    def _blank(self, changes: Sequence[Change], who: Person) -> None:
        """Store these events without the person. What an act on them was about no longer shows who it was.

        Another command may have blanked another person in one of them since it was read: then it is read again.
        """
        rows = [(change.now.body, change.was.seq, change.was.body) for change in changes]
        if self._do_many("UPDATE events SET body = ? WHERE seq = ? AND body = ?", rows) < len(rows):
            changes = [
                found for change in changes if (found := self._blank_as_it_is(change, who)) is not None
            ]
        # Of a failure that only mentions the person, the key stays: it is about another one.
        keys = {
            key
            for change in changes
            if (key := about_event(change.was)) is not None and key != about_event(change.now)
        }
        # The key begins with the source, which `acts` shows after the event is deleted.
        self._do(
            "UPDATE acts SET about = substr(about, 1, length(about) - 32) || lower(hex(randomblob(16))) "
            "WHERE about IN (SELECT value FROM json_each(?))",
            (listed(keys),),
        )

    def _blank_as_it_is(self, change: Change, who: Person) -> Change | None:
        """Store the event as it is now without the person. None if it was pruned, or does not name the person any more."""
        row = self._do(f"{EVENT} WHERE e.seq = ? AND e.body IS NOT NULL", (change.was.seq,)).fetchone()
        if row is None:
            return None
        event = _event(row)
        if event.body == change.now.body:
            return change
        now = change.now if event.body == change.was.body else who.without(event)
        if now is None:
            return None
        self._do("UPDATE events SET body = ? WHERE seq = ?", (now.body, event.seq))
        return Change(event, now)

    @reading
    def _unread_with(self, who: Person) -> list[tuple[int, str]]:
        """The numbers and sources of unread webhooks and rows that name the person."""
        sql = "SELECT u.n, s.name, u.body FROM unread u JOIN sources s ON s.id = u.source ORDER BY u.n"
        return [
            (n, name) for n, name, body in self._run(sql) if who.is_of(name) and who.is_in_bytes(_bytes(body))
        ]

    @durable
    def _blank_unread(self, n: int) -> None:
        self._do("UPDATE unread SET body = ? WHERE n = ?", (BLANKED, n))

    @reading
    def _texts_with(self, who: Person) -> list[Text]:
        """Texts that name the person, each once for a source."""
        return [
            Text(table, column, of, source, text)
            for table, column, of in TEXTS
            for source, text in self._run(
                f"SELECT DISTINCT {of}, t.{column} FROM {table} t WHERE t.{column} IS NOT NULL"  # noqa: S608 - fixed names
            )
            if who.is_of(source) and who.is_in(str(text))
        ]

    async def _blank_texts(self, texts: Sequence[Text], who: Person) -> None:
        """Blank the person in these texts, and again in those that have changed since they were read."""
        for _ in range(ROUNDS):
            for text in texts:
                is_json = text.table == "daemons"
                now = who.json(str(text.text)) if is_json else who.text(str(text.text))
                await self._blank_text(text, now)
            texts = await self._texts_with(who)
            if not texts:
                return

    @durable
    def _blank_text(self, text: Text, now: str) -> None:
        table, column, of, source, was = text
        sql = f"UPDATE {table} AS t SET {column} = ? WHERE t.{column} = ? AND {of} IS ?"  # noqa: S608 - fixed names
        self._do(sql, (now, was, source))

    async def _blank_what_is_held(self, who: Person) -> Sequence[str]:
        """Blank what sinks hold back to send it later. Returns the sinks that had it still when the time was over.

        The daemon opens such a sink again within a second or two. Until then, the sink may store once more what it has in
        memory: so it is looked at again.
        """
        ends = time.monotonic() + PATIENCE
        while True:
            found = await self._blank_receipts(who)
            if not found or time.monotonic() > ends:
                return found
            await asyncio.sleep(AGAIN)

    @reading
    def _held_with(self, who: Person) -> dict[str, int]:
        """How many lines that name the person are held back, by sink."""
        found = {name: lines_with(receipt, who) for name, receipt in _receipts(self._run)}
        return {name: count for name, count in found.items() if count}

    @durable
    def _blank_receipts(self, who: Person) -> list[str]:
        """The sinks of which there was anything to blank."""
        found = []
        for name, was in _receipts(self._do):
            if (now := lines_without(was, who)) != was:
                self._do("UPDATE sinks SET receipt = ? WHERE name = ?", (wire.encode(now).decode(), name))
                found.append(name)
        return found

    @reading
    def _states_with(self, who: Person) -> list[str]:
        states = self._run("SELECT name, state FROM sources").fetchall()
        return [name for name, state in states if who.is_of(name) and who.is_in(str(state))]

    @reading
    def _reached(self) -> Mapping[str, int]:
        """The last event that each sink has: its cursor, also the one before a replay."""
        sql = "SELECT name, max(cursor, coalesce(reached, 0)) FROM sinks ORDER BY name"
        return dict(self._run(sql).fetchall())

    @reading
    def _count(
        self, seqs: Sequence[int], sinks: Mapping[str, Filter], which: Which, reached: Mapping[str, int]
    ) -> dict[str, int]:
        """How many of these events each sink has. Or, of a configured sink, how many it does not have yet."""
        found = {}
        for name, last in reached.items():
            where, values = where_of(sinks.get(name, Filter()))
            sql = (
                "SELECT count(*) FROM events e JOIN sources s ON s.id = e.source "  # noqa: S608 - fixed words
                f"WHERE e.seq IN (SELECT value FROM json_each(?)) AND e.seq {which} ? "
                f"AND NOT EXISTS (SELECT 1 FROM dead d WHERE d.sink = ? AND d.seq = e.seq){where}"
            )
            [count] = self._run(sql, [listed(seqs), last, name, *values]).fetchone()
            if count and (which == "<=" or name in sinks):
                found[name] = int(count)
        return found

    async def _scrub(self) -> bool:
        """Write the -wal file into the store, and empty it: it has the old bytes. Returns whether that was done."""
        ends = time.monotonic() + PATIENCE
        while True:
            busy = await self._writer.apart(
                lambda: self._do("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0], threaded=True
            )
            if not busy or time.monotonic() > ends:
                return not busy
            await asyncio.sleep(0.05)


def _bytes(value: object) -> bytes:
    """A column of bytes or text: SQLite stores any type in any column, and a damaged store returns any."""
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")


def _event(row: Sequence[Any]) -> Event:
    """The event in a row of `EVENT`."""
    return event_of([*row[:5], _bytes(row[5])])


def _receipts(run: Callable[[str], sqlite3.Cursor]) -> list[tuple[str, Any]]:
    """The receipts of sinks that hold events back, by name."""
    rows = run("SELECT name, receipt FROM sinks WHERE held > 0 AND receipt IS NOT NULL").fetchall()
    return [(name, document(_bytes(receipt))) for name, receipt in rows]
