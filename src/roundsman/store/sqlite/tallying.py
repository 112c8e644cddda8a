"""Units about the counts of sources and sinks: add to them, and delete old ones."""

from collections.abc import Sequence

from roundsman.store.packed import SPAN, Stored, add_stored, as_stored, pack, unpack
from roundsman.store.sqlite.units import Units, relaxed
from roundsman.store.tally import Counted, number_of, window
from roundsman.store.values import Kind

COLUMNS: dict[Kind, tuple[str, str]] = {
    "source": ("source_counts", "source"),
    "sink": ("sink_counts", "sink"),
}
"""The table of each kind, and its column for the name: of a source it has the number."""
Subjects = dict[int | str, Stored]
"""Counts by a source's number or a sink's name."""


class Tallying(Units):
    """A store that can count."""

    @relaxed
    def record_counts(self, counted: Sequence[Counted]) -> None:
        """Add these counts to those of their hours and days; counts of unknown sources and sinks are ignored."""
        for kind, subjects in self._subjects(counted).items():
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
                self._add(kind, at, part)

    def _subjects(self, counted: Sequence[Counted]) -> dict[Kind, dict[str, int | str]]:
        """What the tables have in the place of each name."""
        found: dict[Kind, dict[str, int | str]] = {}
        for kind, what in (("source", "id"), ("sink", "name")):
            names = {each.name for each in counted if each.kind == kind}
            if names:
                marks = ",".join("?" * len(names))
                rows = self._do(f"SELECT name, {what} FROM {kind}s WHERE name IN ({marks})", [*names])  # noqa: S608 - fixed words
                found["source" if kind == "source" else "sink"] = dict(rows.fetchall())
        return found

    def _add(self, kind: Kind, at: tuple[int, int], more: Subjects) -> None:
        """Add to the counts of one hour or day: its span and its number."""
        table, column = COLUMNS[kind]
        marks = ",".join("?" * len(more))
        sql = f"SELECT {column}, counts FROM {table} WHERE span = ? AND at = ? AND {column} IN ({marks})"  # noqa: S608 - fixed words
        for subject, data in self._do(sql, [*at, *more]).fetchall():
            add_stored(more[subject], unpack(data))
        self._do_many(
            f"INSERT OR REPLACE INTO {table} (span, at, {column}, counts) VALUES (?, ?, ?, ?)",  # noqa: S608 - fixed words
            [(*at, subject, pack(more[subject])) for subject in sorted(more)],
        )

    def _delete_old_counts(self, now: float, limit: int) -> bool:
        """Delete up to `limit` old counts of each table and span. Returns whether there may be more."""
        more = False
        for table, column in COLUMNS.values():
            for span, number in SPAN.items():
                old = f"SELECT span, at, {column} FROM {table} WHERE span = ? AND at < ? LIMIT ?"  # noqa: S608 - fixed words
                sql = f"DELETE FROM {table} WHERE (span, at, {column}) IN ({old})"  # noqa: S608 - fixed words
                more |= self._do(sql, (number, window(span, now)[0], limit)).rowcount == limit
        return more
