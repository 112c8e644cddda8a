"""Blanks a person in everything that the store keeps, beside a daemon that runs."""

import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from roundsman import wire
from roundsman.errors import StoreError
from roundsman.events import Event
from roundsman.store.about import DIGEST
from roundsman.store.forgetting import READ, Change, Forgetting, Text, Which, abouts, document, lines_without
from roundsman.store.person import BLANKED, Person
from roundsman.store.postgres.asking import holder
from roundsman.store.postgres.connection import connect, program, translated
from roundsman.store.postgres.filters import where_of
from roundsman.store.postgres.reading import EVENT, LOGGED, Row, reading
from roundsman.store.postgres.transaction import Transaction
from roundsman.store.postgres.units import Units, durable
from roundsman.store.rows import event_of
from roundsman.store.values import Filter
from roundsman.system.threads import in_thread

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


class Erasure(Units, Forgetting):
    """What is read and written of a person."""

    async def _is_used(self) -> bool:
        return await in_thread(holder, self.place) is not None

    async def _erase(self) -> bool:
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
        sql = f"{EVENT} WHERE e.seq > %s AND e.body IS NOT NULL ORDER BY e.seq LIMIT %s"
        return [event_of(row) for row in await self._rows(sql, (after, READ))]

    @durable
    async def _blank(self, transaction: Transaction, changes: Sequence[Change], who: Person) -> None:
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
        keys = abouts(changes)
        # The key begins with the source, which `acts` shows after the event is deleted.
        await transaction.run(
            f"UPDATE acts SET about = left(acts.about, -{DIGEST}) || g.digest "  # noqa: S608 - a number
            "FROM unnest(%s::text[], %s::text[]) AS g (about, digest) WHERE acts.about = g.about",
            (keys, [secrets.token_hex(DIGEST // 2) for _ in keys]),
        )

    async def _blank_as_it_is(self, transaction: Transaction, change: Change, who: Person) -> Change | None:
        """Store the event as it is now without the person. None if it was pruned, or does not name the person any more."""
        sql = f"{EVENT} WHERE e.seq = %s AND e.body IS NOT NULL FOR UPDATE OF e"
        row = await (await transaction.run(sql, (change.was.seq,))).fetchone()
        found = change.again(event_of(row), who) if row is not None else None
        if found is not None and found is not change:
            await transaction.run(
                "UPDATE events SET body = %s WHERE seq = %s", (found.now.body, found.was.seq)
            )
        return found

    @reading
    async def _unread_with(self, who: Person) -> list[tuple[int, str]]:
        sql = "SELECT u.n, s.name, u.body FROM unread u JOIN sources s ON s.id = u.source ORDER BY u.n"
        found = await self._rows(sql)
        return [(n, name) for n, name, body in found if who.is_of(name) and who.is_in_bytes(bytes(body))]

    @durable
    async def _blank_unread(self, transaction: Transaction, n: int) -> None:
        await transaction.run("UPDATE unread SET body = %s WHERE n = %s", (BLANKED, n))

    @reading
    async def _texts_with(self, who: Person) -> list[Text]:
        return [
            Text(table, column, of, source, text)
            for table, column, of in TEXTS
            for source, text in await self._rows(
                f"SELECT DISTINCT {of}, t.{column} FROM {table} t WHERE t.{column} IS NOT NULL"  # noqa: S608 - fixed names
            )
            if who.is_of(source) and who.is_in(text)
        ]

    @durable
    async def _blank_text(self, transaction: Transaction, text: Text, now: str) -> None:
        table, column, of, source, was = text
        same = f"t.{column} = %s AND {of} IS NOT DISTINCT FROM %s::text"
        await transaction.run(f"UPDATE {table} AS t SET {column} = %s WHERE {same}", (now, was, source))  # noqa: S608 - fixed names

    @reading
    async def _held(self) -> list[tuple[str, Any]]:
        return _read(await self._rows(RECEIPTS))

    @durable
    async def _blank_receipts(self, transaction: Transaction, who: Person) -> list[str]:
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
        return dict(await self._rows("SELECT name, greatest(cursor, reached) FROM sinks ORDER BY name"))

    @reading
    async def _count(
        self, seqs: Sequence[int], sinks: Mapping[str, Filter], which: Which, reached: Mapping[str, int]
    ) -> dict[str, int]:
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
