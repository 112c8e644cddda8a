"""Blanks a person in everything that the store keeps, beside a daemon that runs."""

import asyncio
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from roundsman import wire
from roundsman.events import Event
from roundsman.store.about import DIGEST
from roundsman.store.forgetting import (
    PATIENCE,
    READ,
    Change,
    Forgetting,
    Text,
    Which,
    abouts,
    document,
    lines_without,
)
from roundsman.store.person import BLANKED, Person
from roundsman.store.rows import event_of
from roundsman.store.sqlite.failures import listed
from roundsman.store.sqlite.files import holder
from roundsman.store.sqlite.filters import where_of
from roundsman.store.sqlite.reading import EVENT, reading
from roundsman.store.sqlite.units import Units, durable
from roundsman.store.values import Filter

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


class Erasure(Units, Forgetting):
    """What is read and written of a person."""

    @reading
    def _some(self, after: int) -> list[Event]:
        sql = f"{EVENT} WHERE e.seq > ? AND e.body IS NOT NULL ORDER BY e.seq LIMIT ?"
        return [event_of(row) for row in self._run(sql, (after, READ))]

    @durable
    def _blank(self, changes: Sequence[Change], who: Person) -> None:
        rows = [(change.now.body, change.was.seq, change.was.body) for change in changes]
        if self._do_many("UPDATE events SET body = ? WHERE seq = ? AND body = ?", rows) < len(rows):
            changes = [
                found for change in changes if (found := self._blank_as_it_is(change, who)) is not None
            ]
        # The key begins with the source, which `acts` shows after the event is deleted.
        self._do(
            f"UPDATE acts SET about = substr(about, 1, length(about) - {DIGEST}) || lower(hex(randomblob({DIGEST // 2}))) "  # noqa: S608 - numbers
            "WHERE about IN (SELECT value FROM json_each(?))",
            (listed(abouts(changes)),),
        )

    def _blank_as_it_is(self, change: Change, who: Person) -> Change | None:
        """Store the event as it is now without the person. None if it was pruned, or does not name the person any more."""
        row = self._do(f"{EVENT} WHERE e.seq = ? AND e.body IS NOT NULL", (change.was.seq,)).fetchone()
        found = change.again(event_of(row), who) if row is not None else None
        if found is not None and found is not change:
            self._do("UPDATE events SET body = ? WHERE seq = ?", (found.now.body, found.was.seq))
        return found

    @reading
    def _unread_with(self, who: Person) -> list[tuple[int, str]]:
        sql = "SELECT u.n, s.name, u.body FROM unread u JOIN sources s ON s.id = u.source ORDER BY u.n"
        return [
            (n, name) for n, name, body in self._run(sql) if who.is_of(name) and who.is_in_bytes(_bytes(body))
        ]

    @durable
    def _blank_unread(self, n: int) -> None:
        self._do("UPDATE unread SET body = ? WHERE n = ?", (BLANKED, n))

    @reading
    def _texts_with(self, who: Person) -> list[Text]:
        return [
            Text(table, column, of, source, text)
            for table, column, of in TEXTS
            for source, text in self._run(
                f"SELECT DISTINCT {of}, t.{column} FROM {table} t WHERE t.{column} IS NOT NULL"  # noqa: S608 - fixed names
            )
            if who.is_of(source) and who.is_in(str(text))
        ]

    @durable
    def _blank_text(self, text: Text, now: str) -> None:
        table, column, of, source, was = text
        sql = f"UPDATE {table} AS t SET {column} = ? WHERE t.{column} = ? AND {of} IS ?"  # noqa: S608 - fixed names
        self._do(sql, (now, was, source))

    @reading
    def _held(self) -> list[tuple[str, Any]]:
        return _receipts(self._run)

    @durable
    def _blank_receipts(self, who: Person) -> list[str]:
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
        sql = "SELECT name, max(cursor, coalesce(reached, 0)) FROM sinks ORDER BY name"
        return dict(self._run(sql).fetchall())

    @reading
    def _count(
        self, seqs: Sequence[int], sinks: Mapping[str, Filter], which: Which, reached: Mapping[str, int]
    ) -> dict[str, int]:
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

    async def _is_used(self) -> bool:
        return holder(self.path) is not None

    async def _erase(self) -> bool:
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


def _receipts(run: Callable[[str], sqlite3.Cursor]) -> list[tuple[str, Any]]:
    """The receipts of sinks that hold events back, by name."""
    rows = run("SELECT name, receipt FROM sinks WHERE held > 0 AND receipt IS NOT NULL").fetchall()
    return [(name, document(_bytes(receipt))) for name, receipt in rows]
