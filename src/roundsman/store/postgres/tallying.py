"""Units about the counts of sources and sinks: add to them, and delete old ones."""

from collections.abc import Sequence

from roundsman.store.packed import SPAN, Stored, add_stored, as_stored, pack, unpack
from roundsman.store.postgres.transaction import Transaction
from roundsman.store.postgres.units import Units, relaxed_for_all
from roundsman.store.tally import Counted, number_of, window
from roundsman.store.values import Kind

COLUMNS: dict[Kind, tuple[str, str, str]] = {
    "source": ("source_counts", "source", "integer"),
    "sink": ("sink_counts", "sink", "text"),
}
"""The table of each kind, its column for the name (of a source it has the number), and the column's type."""
ADDS = 1_386_226_401
"""The number of the lock that a transaction holds while it adds: else two could add to the same old count."""
Subjects = dict[int | str, Stored]
"""Counts by a source's number or a sink's name."""


class Tallying(Units):
    """A store that can count."""

    @relaxed_for_all
    async def record_counts(self, transaction: Transaction, counted: Sequence[Counted]) -> None:
        """Add these counts to those of their hours and days; counts of unknown sources and sinks are ignored."""
        await transaction.run("SELECT pg_advisory_xact_lock(%s)", (ADDS,))
        for kind, subjects in (await self._subjects(transaction, counted)).items():
            parts: dict[tuple[int, int], Subjects] = {}
            for each in counted:
                subject = subjects.get(each.name)
                if each.kind != kind or subject is None:
                    continue
                counts = as_stored(each.counts)
                for span, number in SPAN.items():
                    part = parts.setdefault((number, number_of(span, each.at)), {})
                    if subject in part:
                        add_stored(part[subject], counts)
                    else:
                        part[subject] = counts.copy()
            for at, part in parts.items():
                await self._add(transaction, kind, at, part)

    async def _subjects(
        self, transaction: Transaction, counted: Sequence[Counted]
    ) -> dict[Kind, dict[str, int | str]]:
        """What the tables have in the place of each name."""
        found: dict[Kind, dict[str, int | str]] = {}
        kinds: tuple[Kind, ...] = ("source", "sink")
        for kind in kinds:
            names = {each.name for each in counted if each.kind == kind}
            if names:
                what = "id" if kind == "source" else "name"
                sql = f"SELECT name, {what} FROM {kind}s WHERE name = ANY (%s::text[])"  # noqa: S608 - fixed words
                done = await transaction.run(sql, (list(names),))
                found[kind] = dict(await done.fetchall())
        return found

    async def _add(self, transaction: Transaction, kind: Kind, at: tuple[int, int], more: Subjects) -> None:
        """Add to the counts of one hour or day: its span and its number."""
        table, column, form = COLUMNS[kind]
        order = sorted(more, key=str)
        sql = f"SELECT {column}, counts FROM {table} WHERE span = %s AND at = %s AND {column} = ANY (%s::{form}[])"  # noqa: S608 - fixed words
        for subject, data in await (await transaction.run(sql, (*at, order))).fetchall():
            add_stored(more[subject], unpack(data))
        await transaction.run(
            f"INSERT INTO {table} (span, at, {column}, counts) SELECT %s, %s, subject, counts "  # noqa: S608 - fixed words
            f"FROM unnest(%s::{form}[], %s::bytea[]) AS g (subject, counts) "
            f"ON CONFLICT (span, at, {column}) DO UPDATE SET counts = excluded.counts",
            (*at, order, [pack(more[subject]) for subject in order]),
        )

    async def _delete_old_counts(self, transaction: Transaction, now: float, limit: int) -> bool:
        """Delete up to `limit` old counts of each table and span. Returns whether there may be more."""
        more = False
        for table, column, _ in COLUMNS.values():
            for span, number in SPAN.items():
                old = f"SELECT span, at, {column} FROM {table} WHERE span = %s AND at < %s LIMIT %s"  # noqa: S608 - fixed words
                sql = f"DELETE FROM {table} WHERE (span, at, {column}) IN ({old})"  # noqa: S608 - fixed words
                done = await transaction.run(sql, (number, window(span, now)[0], limit))
                more |= done.rowcount == limit
        return more
