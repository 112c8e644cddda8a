"""Units of commands: replay, rewind, pause, track, requeue."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from roundsman import wire
from roundsman.store.postgres.transaction import Transaction
from roundsman.store.postgres.units import Units, durable, durable_for
from roundsman.store.values import Kind

if TYPE_CHECKING:
    from roundsman.plugin import State


class Desk(Units):
    """What commands write."""

    @durable
    async def replay(self, transaction: Transaction, sink: str, after: int) -> bool:
        """Move a sink's cursor back, never forward. Returns whether it exists. The daemon detects it."""
        sql = (
            "UPDATE sinks SET reached = greatest(cursor, reached), cursor = least(cursor, %s) WHERE name = %s"
        )
        return bool((await transaction.run(sql, (after, sink))).rowcount)

    @durable
    async def rewind(
        self, transaction: Transaction, source: str, state: "State", origin: str | None = None
    ) -> None:
        """Replace a source's state (from `origin`) and request a visit. A poll under way becomes void."""
        await transaction.run(
            "UPDATE sources SET state = %s, revision = revision + 1, due = -1, origin = coalesce(%s, moved, origin), "
            "moved = NULL WHERE name = %s",
            (wire.encode(state).decode(), origin, source),
        )

    @durable
    async def accept(self, transaction: Transaction, source: str) -> bool:
        """Accept a source's state for the origin that it reads now. Returns whether that was another one."""
        sql = "UPDATE sources SET origin = moved, moved = NULL WHERE name = %s AND moved IS NOT NULL"
        return bool((await transaction.run(sql, (source,))).rowcount)

    @durable
    async def pause(self, transaction: Transaction, kind: Kind, name: str, who: str, now: float) -> bool:
        """Pause a source or a sink. Returns whether that changed anything: False if it is paused, or was never registered."""
        sql = f"UPDATE {kind}s SET paused = %s, paused_by = %s WHERE name = %s AND paused IS NULL"  # noqa: S608 - one of two words
        return bool((await transaction.run(sql, (now, who, name))).rowcount)

    @durable
    async def resume(self, transaction: Transaction, kind: Kind, name: str) -> bool:
        """End a pause; for a source, request a visit. Returns whether it was paused."""
        visit = ", due = -1" if kind == "source" else ""
        sql = f"UPDATE {kind}s SET paused = NULL, paused_by = NULL{visit} WHERE name = %s AND paused IS NOT NULL"  # noqa: S608 - fixed words
        return bool((await transaction.run(sql, (name,))).rowcount)

    # The webhooks of a source add to its inbox, too, in an order of their own.
    @durable_for(lambda source, _: [source])
    async def follow(self, transaction: Transaction, source: str, ids: Sequence[str]) -> int:
        """Put ids into a source's inbox, for its next visit to track. Returns how many are new there."""
        sql = (
            "INSERT INTO inbox (source, id) SELECT s.id, g.id FROM sources s, "
            "unnest(%s::text[]) WITH ORDINALITY AS g (id, n) WHERE s.name = %s ORDER BY g.n ON CONFLICT DO NOTHING"
        )
        return (await transaction.run(sql, (list(ids), source))).rowcount

    @durable
    async def requeue_dead(self, transaction: Transaction, sink: str, seqs: Sequence[int] | None) -> int:
        """Mark dead letters (all of the sink's if `seqs` is None) for a retry. Returns how many."""
        return await _each(transaction, "UPDATE dead SET retry = 1 WHERE sink = %s", sink, ("seq", seqs))

    @durable
    async def drop_dead(self, transaction: Transaction, sink: str, seqs: Sequence[int] | None) -> int:
        """Delete dead letters (all of the sink's if `seqs` is None). Returns how many."""
        return await _each(transaction, "DELETE FROM dead WHERE sink = %s", sink, ("seq", seqs))

    @durable
    async def drop_unread(self, transaction: Transaction, source: str, numbers: Sequence[int] | None) -> int:
        """Delete unread webhooks and rows of a source (all if `numbers` is None). Returns how many."""
        sql = "DELETE FROM unread WHERE source = (SELECT id FROM sources WHERE name = %s)"
        return await _each(transaction, sql, source, ("n", numbers))


async def _each(
    transaction: Transaction, sql: str, name: str, which: tuple[str, Sequence[int] | None]
) -> int:
    column, numbers = which
    if numbers is None:
        return (await transaction.run(sql, (name,))).rowcount
    return (await transaction.run(f"{sql} AND {column} = ANY (%s::bigint[])", (name, list(numbers)))).rowcount
