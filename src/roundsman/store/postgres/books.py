"""Units about the visits of sources and the positions of sinks."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from roundsman import wire
from roundsman.errors import Conflict
from roundsman.options.server import Server
from roundsman.store.postgres.gathering import Writes
from roundsman.store.postgres.transaction import Transaction
from roundsman.store.postgres.units import Units, durable, relaxed, relaxed_for
from roundsman.store.postgres.writer import Writer
from roundsman.store.values import NEVER, Later, SourceStatus

if TYPE_CHECKING:
    from roundsman.plugin import Receipt

Statuses = Sequence[tuple[str, SourceStatus]]


class Books(Units):
    """When sources are due, and how far sinks are."""

    def __init__(self, place: Server, writer: Writer) -> None:
        super().__init__(place, writer)
        self._plans = Writes(self._schedule)

    async def begin(self, scheduled: Statuses, rung: Statuses = ()) -> None:
        """Write when these sources are due next, *before* their visits: a daemon that dies during one does not ask again
        until then. A scheduled visit fulfils a command's request for one; a visit that a webhook `rung` for does not.
        """
        self._plans.drop([name for name, _ in (*scheduled, *rung)])
        await self._begin(scheduled, rung)

    @relaxed_for(lambda scheduled, rung: [*dict(scheduled), *dict(rung)])
    async def _begin(self, transaction: Transaction, scheduled: Statuses, rung: Statuses) -> None:
        await _plan(transaction, "g.due", scheduled)
        await _plan(transaction, _KEPT, rung)

    async def schedule(self, statuses: Statuses) -> None:
        """Store `due` and `not_before` of these sources; `due` stays if a command has requested a visit."""
        # Visits that are late write it each: a statement for each costs more than the rest of such a visit.
        await self._plans.add(statuses)

    @relaxed_for(dict)
    async def _schedule(self, transaction: Transaction, statuses: Statuses) -> None:
        await _plan(transaction, _KEPT, statuses)

    @relaxed_for(lambda refused: [name for name, _, _ in refused])
    async def note_refused(self, transaction: Transaction, refused: Sequence[tuple[str, int, str]]) -> None:
        """Count refused webhooks: source, how many, and why the last one was refused."""
        await transaction.run_many(
            "UPDATE sources SET refused = refused + %s, refusal = %s WHERE name = %s",
            [(count, why, name) for name, count, why in refused],
        )

    @relaxed_for(dict)
    async def record(self, transaction: Transaction, statuses: Statuses) -> None:
        """Store visits that found nothing, several at a time. Not `due`: a command may have changed it."""
        given = dict(statuses)
        if not given:
            return
        values = given.values()
        await transaction.run(
            "UPDATE sources SET visited = g.visited, answered = g.answered, polls = g.polls, unanswered = g.unanswered "
            "FROM unnest(%s::text[], %s::float8[], %s::float8[], %s::bigint[], %s::float8[]) "
            "AS g (name, visited, answered, polls, unanswered) WHERE sources.name = g.name",
            (
                list(given),
                [each.last_visit for each in values],
                [each.last_success for each in values],
                [each.visits for each in values],
                [each.unanswered_since for each in values],
            ),
        )

    @durable
    async def ack(
        self,
        transaction: Transaction,
        sink: str,
        was: int,
        cursor: int,
        receipt: "Receipt | None",
        now: float,
        *,
        moved: bool = True,
        later: Later = NEVER,
    ) -> None:
        """The sink has everything up to `cursor`. Raises `Conflict` if it was replayed meanwhile."""
        # Durable: a server that is killed loses relaxed commits, and this worker goes on. It would take that for a replay.
        given = wire.encode(receipt).decode() if receipt is not None else None
        called = "delivered = %s, until = %s, held = %s, " if moved else ""
        done = await transaction.run(
            f"UPDATE sinks SET {called}cursor = %s, receipt = coalesce(%s, receipt), failures = 0, failing = NULL, "  # noqa: S608 - fixed words
            "error = NULL WHERE name = %s AND cursor = %s",
            (*((now, *later) if moved else ()), cursor, given, sink, was),
        )
        if not done.rowcount:
            raise Conflict

    @durable
    async def bury(
        self, transaction: Transaction, sink: str, was: int, seq: int, reason: str, now: float
    ) -> None:
        """Bury an event as a dead letter and move the cursor past it. Raises `Conflict` as `ack` does."""
        sql = "UPDATE sinks SET cursor = %s WHERE name = %s AND cursor = %s"
        if not (await transaction.run(sql, (seq, sink, was))).rowcount:
            raise Conflict
        await _dead(transaction, (sink, seq, now, reason))

    @durable
    async def bury_again(
        self, transaction: Transaction, sink: str, seq: int, reason: str, now: float
    ) -> None:
        """Bury an event without moving the cursor: a retry that was refused again, or a damaged event."""
        await _dead(transaction, (sink, seq, now, reason))

    @relaxed
    async def record_failure(
        self, transaction: Transaction, sink: str, failures: int, failing: float | None, error: str | None
    ) -> None:
        """Store a sink's failures, for `status` and for the next start."""
        await transaction.run(
            "UPDATE sinks SET failures = %s, failing = %s, error = %s WHERE name = %s",
            (failures, failing, error, sink),
        )


_KEPT = "CASE WHEN sources.due < 0 THEN sources.due ELSE g.due END"
"""When a source is due, unless a command has requested a visit."""


async def _plan(transaction: Transaction, due: str, statuses: Statuses) -> None:
    given = dict(statuses)
    if given:
        sql = (
            f"UPDATE sources SET due = {due}, held = g.held FROM unnest(%s::text[], %s::float8[], %s::float8[]) "  # noqa: S608 - fixed words
            "AS g (name, due, held) WHERE sources.name = g.name"
        )
        values = given.values()
        await transaction.run(
            sql, (list(given), [each.due for each in values], [each.not_before for each in values])
        )


async def _dead(transaction: Transaction, row: tuple[str, int, float, str]) -> None:
    await transaction.run(
        "INSERT INTO dead (sink, seq, buried, reason) VALUES (%s, %s, %s, %s) ON CONFLICT (sink, seq) DO UPDATE "
        "SET buried = excluded.buried, reason = excluded.reason, retry = 0",
        row,
    )
