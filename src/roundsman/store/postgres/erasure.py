"""Blanks a person in everything that the store keeps, beside a daemon that runs."""

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from roundsman import wire
from roundsman.errors import StoreError
from roundsman.events import Event
from roundsman.store.about import DIGEST
from roundsman.store.forgetting import Change, document, lines_with, lines_without, pieces
from roundsman.store.person import BLANKED, Person
from roundsman.store.postgres.asking import holder
from roundsman.store.postgres.connection import connect, program, translated
from roundsman.store.postgres.filters import where_of
from roundsman.store.postgres.reading import EVENT, LOGGED, Row, reading
from roundsman.store.postgres.transaction import Transaction
from roundsman.store.postgres.units import Units, durable
from roundsman.store.rows import about_event, event_of
from roundsman.store.values import Filter, Forgotten
from roundsman.system.threads import in_thread

Which = Literal["<=", ">"]
"""Events up to the cursor of a sink, or after it."""
READ = 500
"""Events that are read in one step."""
ROUNDS = 5
"""How often texts are read again that have changed meanwhile."""
PATIENCE = 20.0
"""Seconds in which what sinks hold back is looked at again."""
AGAIN = 2.5
"""Seconds until then."""
_OF_EVENT = "(SELECT s.name FROM events e JOIN sources s ON s.id = e.source WHERE e.seq = t.seq)"
# Of an act whose event was deleted, the key has the source.
_OF_ACT = f"coalesce({_OF_EVENT}, left(t.about, -{DIGEST + 1}))"
TEXTS = (
    ("dead", "reason", _OF_EVENT),
    ("acts", "note", _OF_ACT),
    ("acts", "who", _OF_ACT),
    ("sources", "error", "t.name"),
    ("sources", "refusal", "t.name"),
    ("sources", "paused_by", "t.name"),
    ("sinks", "error", "NULL::text"),
    ("sinks", "paused_by", "NULL::text"),
    ("unread", "why", "(SELECT s.name FROM sources s WHERE s.id = t.source)"),
    ("daemons", "problems", "NULL::text"),
    ("beats", "problems", "NULL::text"),
)
"""Columns with words of vendors, receivers and persons, and the source that they are about."""


class Text(NamedTuple):
    """A text that names the person."""

    table: str
    column: str
    of: str
    """Its source, in SQL."""
    source: str | None
    text: str


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
        runs = not dry and await in_thread(holder, self.place) is not None
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
            erased=not dry and await self._vacuum(),
        )

    async def _vacuum(self) -> bool:
        """Let the server delete the old rows, as far as it still needs none of them. Returns whether that was done."""
        try:
            with translated(self.place):
                connection, _ = await connect(self.place, program())
                async with connection:
                    await connection.execute("SET statement_timeout = 0")
                    await connection.execute(
                        "VACUUM events, acts, dead, unread, sources, sinks, daemons, beats"
                    )
        except StoreError:
            return False
        return True

    @reading
    async def _some(self, after: int) -> list[Event]:
        """The next events that are not pruned, up to `READ`."""
        sql = f"{EVENT} WHERE e.seq > %s AND e.body IS NOT NULL ORDER BY e.seq LIMIT %s"
        return [event_of(row) for row in await self._rows(sql, (after, READ))]

    @durable
    async def _blank(self, transaction: Transaction, changes: Sequence[Change], who: Person) -> None:
        """Store these events without the person. What an act on them was about no longer shows who it was.

        Another command may have blanked another person in one of them since it was read: then it is read again.
        """
        done = await transaction.run(
            "UPDATE events SET body = g.now FROM unnest(%s::bigint[], %s::bytea[], %s::bytea[]) AS g (seq, was, now) "
            "WHERE events.seq = g.seq AND events.body = g.was",
            (
                [change.was.seq for change in changes],
                [change.was.body for change in changes],
                [change.now.body for change in changes],
            ),
        )
        if done.rowcount < len(changes):
            again = [await self._blank_as_it_is(transaction, change, who) for change in changes]
            changes = [change for change in again if change is not None]
        # Of a failure that only mentions the person, the key stays: it is about another one.
        keys = {
            key
            for change in changes
            if (key := about_event(change.was)) is not None and key != about_event(change.now)
        }
        # The key begins with the source, which `acts` shows after the event is deleted.
        await transaction.run(
            f"UPDATE acts SET about = left(acts.about, -{DIGEST}) || g.digest "  # noqa: S608 - a number
            "FROM unnest(%s::text[], %s::text[]) AS g (about, digest) WHERE acts.about = g.about",
            (list(keys), [secrets.token_hex(DIGEST // 2) for _ in keys]),
        )

    async def _blank_as_it_is(self, transaction: Transaction, change: Change, who: Person) -> Change | None:
        """Store the event as it is now without the person. None if it was pruned, or does not name the person any more."""
        sql = f"{EVENT} WHERE e.seq = %s AND e.body IS NOT NULL FOR UPDATE OF e"
        row = await (await transaction.run(sql, (change.was.seq,))).fetchone()
        if row is None:
            return None
        event = event_of(row)
        if event.body == change.now.body:
            return change
        now = change.now if event.body == change.was.body else who.without(event)
        if now is None:
            return None
        await transaction.run("UPDATE events SET body = %s WHERE seq = %s", (now.body, event.seq))
        return Change(event, now)

    @reading
    async def _unread_with(self, who: Person) -> list[tuple[int, str]]:
        """The numbers and sources of unread webhooks and rows that name the person."""
        sql = "SELECT u.n, s.name, u.body FROM unread u JOIN sources s ON s.id = u.source ORDER BY u.n"
        found = await self._rows(sql)
        return [(n, name) for n, name, body in found if who.is_of(name) and who.is_in_bytes(bytes(body))]

    @durable
    async def _blank_unread(self, transaction: Transaction, n: int) -> None:
        await transaction.run("UPDATE unread SET body = %s WHERE n = %s", (BLANKED, n))

    @reading
    async def _texts_with(self, who: Person) -> list[Text]:
        """Texts that name the person, each once for a source."""
        return [
            Text(table, column, of, source, text)
            for table, column, of in TEXTS
            for source, text in await self._rows(
                f"SELECT DISTINCT {of}, t.{column} FROM {table} t WHERE t.{column} IS NOT NULL"  # noqa: S608 - fixed names
            )
            if who.is_of(source) and who.is_in(text)
        ]

    async def _blank_texts(self, texts: Sequence[Text], who: Person) -> None:
        """Blank the person in these texts, and again in those that have changed since they were read."""
        for _ in range(ROUNDS):
            for text in texts:
                now = who.json(text.text) if text.column == "problems" else who.text(text.text)
                await self._blank_text(text, now)
            texts = await self._texts_with(who)
            if not texts:
                return

    @durable
    async def _blank_text(self, transaction: Transaction, text: Text, now: str) -> None:
        table, column, of, source, was = text
        same = f"t.{column} = %s AND {of} IS NOT DISTINCT FROM %s::text"
        await transaction.run(f"UPDATE {table} AS t SET {column} = %s WHERE {same}", (now, was, source))  # noqa: S608 - fixed names

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
    async def _held_with(self, who: Person) -> dict[str, int]:
        """How many lines that name the person are held back, by sink."""
        found = {name: lines_with(receipt, who) for name, receipt in _read(await self._rows(RECEIPTS))}
        return {name: count for name, count in found.items() if count}

    @durable
    async def _blank_receipts(self, transaction: Transaction, who: Person) -> list[str]:
        """The sinks of which there was anything to blank."""
        found = []
        done = await transaction.run(f"{RECEIPTS} FOR UPDATE")
        for name, was in _read(await done.fetchall()):
            if (now := lines_without(was, who)) != was:
                sql = "UPDATE sinks SET receipt = %s WHERE name = %s"
                await transaction.run(sql, (wire.encode(now).decode(), name))
                found.append(name)
        return found

    @reading
    async def _states_with(self, who: Person) -> list[str]:
        found = await self._rows("SELECT name, state FROM sources ORDER BY id")
        return [name for name, state in found if who.is_of(name) and who.is_in(state)]

    @reading
    async def _reached(self) -> Mapping[str, int]:
        """The last event that each sink has: its cursor, also the one before a replay."""
        return dict(await self._rows("SELECT name, greatest(cursor, reached) FROM sinks ORDER BY name"))

    @reading
    async def _count(
        self, seqs: Sequence[int], sinks: Mapping[str, Filter], which: Which, reached: Mapping[str, int]
    ) -> dict[str, int]:
        """How many of these events each sink has. Or, of a configured sink, how many it does not have yet."""
        found = {}
        for name, last in reached.items():
            where, values = where_of(sinks.get(name, Filter()))
            sql = (
                f"SELECT count(*) {LOGGED} WHERE e.seq = ANY (%s::bigint[]) AND e.seq {which} %s "  # noqa: S608 - fixed words
                f"AND NOT EXISTS (SELECT 1 FROM dead d WHERE d.sink = %s AND d.seq = e.seq){where}"
            )
            count = int(await self._value(sql, [list(seqs), last, name, *values]))
            if count and (which == "<=" or name in sinks):
                found[name] = count
        return found


RECEIPTS = "SELECT name, receipt FROM sinks WHERE held > 0 AND receipt IS NOT NULL"


def _read(found: Sequence[Row]) -> list[tuple[str, Any]]:
    """The receipts of sinks that hold events back, by name."""
    return [(name, document(receipt.encode("utf-8", "replace"))) for name, receipt in found]
