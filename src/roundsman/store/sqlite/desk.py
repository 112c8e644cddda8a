"""Units of commands: replay, rewind, pause, track, requeue."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from roundsman import wire
from roundsman.store.sqlite.units import Units, durable
from roundsman.store.values import Kind

if TYPE_CHECKING:
    from roundsman.plugin import State


_TABLES: Mapping[Kind, str] = {"source": "sources", "sink": "sinks"}


class Desk(Units):
    """What commands write."""

    @durable
    def replay(self, sink: str, after: int) -> bool:
        """Move a sink's cursor back, never forward. Returns whether it exists. The daemon detects it."""
        return bool(
            self._do(
                "UPDATE sinks SET reached = max(cursor, coalesce(reached, 0)), cursor = min(cursor, ?) WHERE name = ?",
                (after, sink),
            ).rowcount
        )

    @durable
    def rewind(self, source: str, state: "State", origin: str | None = None) -> None:
        """Replace a source's state (from `origin`) and request a visit. A poll under way becomes void."""
        self._do(
            "UPDATE sources SET state = ?, revision = revision + 1, due = -1, origin = coalesce(?, moved, origin), "
            "moved = NULL WHERE name = ?",
            (wire.encode(state).decode(), origin, source),
        )

    @durable
    def accept(self, source: str) -> bool:
        """Accept a source's state for the origin that it reads now. Returns whether that was another one."""
        sql = "UPDATE sources SET origin = moved, moved = NULL WHERE name = ? AND moved IS NOT NULL"
        return bool(self._do(sql, (source,)).rowcount)

    @durable
    def pause(self, kind: Kind, name: str, who: str, now: float) -> bool:
        """Pause a source or a sink. Returns whether that changed anything: False if it is paused, or was never registered."""
        table = _TABLES[kind]
        sql = f"UPDATE {table} SET paused = ?, paused_by = ? WHERE name = ? AND paused IS NULL"  # noqa: S608 - fixed names
        return bool(self._do(sql, (now, who, name)).rowcount)

    @durable
    def resume(self, kind: Kind, name: str) -> bool:
        """End a pause; for a source, request a visit. Returns whether it was paused."""
        visit = ", due = -1" if kind == "source" else ""
        sql = f"UPDATE {_TABLES[kind]} SET paused = NULL, paused_by = NULL{visit} WHERE name = ? AND paused IS NOT NULL"  # noqa: S608 - fixed words
        return bool(self._do(sql, (name,)).rowcount)

    @durable
    def follow(self, source: str, ids: Sequence[str]) -> int:
        """Put ids into a source's inbox, for its next visit to track. Returns how many are new there."""
        return self._do_many(
            "INSERT OR IGNORE INTO inbox (source, id) SELECT s.id, ? FROM sources s WHERE s.name = ?",
            [(each, source) for each in ids],
        )

    @durable
    def requeue_dead(self, sink: str, seqs: Sequence[int] | None) -> int:
        """Mark dead letters (all of the sink's if `seqs` is None) for a retry. Returns how many."""
        return self._each_dead("UPDATE dead SET retry = 1 WHERE sink = ?", sink, seqs)

    @durable
    def drop_dead(self, sink: str, seqs: Sequence[int] | None) -> int:
        """Delete dead letters (all of the sink's if `seqs` is None). Returns how many."""
        return self._each_dead("DELETE FROM dead WHERE sink = ?", sink, seqs)

    def _each_dead(self, sql: str, sink: str, seqs: Sequence[int] | None) -> int:
        if seqs is None:
            return self._do(sql, (sink,)).rowcount
        return sum(self._do(sql + " AND seq = ?", (sink, seq)).rowcount for seq in seqs)

    @durable
    def drop_unread(self, source: str, numbers: Sequence[int] | None) -> int:
        """Delete unread webhooks and rows of a source (all if `numbers` is None). Returns how many."""
        sql = "DELETE FROM unread WHERE source = (SELECT id FROM sources WHERE name = ?)"
        if numbers is None:
            return self._do(sql, (source,)).rowcount
        return sum(self._do(sql + " AND n = ?", (source, n)).rowcount for n in numbers)
