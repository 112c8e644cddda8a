"""Units about the visits of sources and the positions of sinks."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from roundsman import wire
from roundsman.errors import Conflict
from roundsman.store.sqlite.units import Units, durable, relaxed
from roundsman.store.values import NEVER, Later, SourceStatus

if TYPE_CHECKING:
    from roundsman.plugin import Receipt


class Books(Units):
    """When sources are due, and how far sinks are."""

    @relaxed
    def begin(
        self,
        scheduled: Sequence[tuple[str, SourceStatus]],
        rung: Sequence[tuple[str, SourceStatus]] = (),
    ) -> None:
        """Write when these sources are due next, *before* their visits: a daemon that dies during one does not ask again
        until then. A scheduled visit fulfils a command's request for one; a visit that a webhook `rung` for does not.
        """
        self._do_many(
            "UPDATE sources SET due = ?, held = ? WHERE name = ?",
            [(status.due, status.not_before, name) for name, status in scheduled],
        )
        self._reschedule(rung)

    @relaxed
    def schedule(self, statuses: Sequence[tuple[str, SourceStatus]]) -> None:
        """Store `due` and `not_before` of these sources; `due` stays if a command has requested a visit."""
        self._reschedule(statuses)

    def _reschedule(self, statuses: Sequence[tuple[str, SourceStatus]]) -> None:
        self._do_many(
            "UPDATE sources SET due = CASE WHEN due < 0 THEN due ELSE ? END, held = ? WHERE name = ?",
            [(status.due, status.not_before, name) for name, status in statuses],
        )

    @relaxed
    def note_refused(self, refused: Sequence[tuple[str, int, str]]) -> None:
        """Count refused webhooks: source, how many, and why the last one was refused."""
        self._do_many(
            "UPDATE sources SET refused = refused + ?, refusal = ? WHERE name = ?",
            [(count, why, name) for name, count, why in refused],
        )

    @relaxed
    def record(self, statuses: Sequence[tuple[str, SourceStatus]]) -> None:
        """Store visits that found nothing, several at a time. Not `due`: a command may have changed it."""
        self._do_many(
            "UPDATE sources SET visited = ?, answered = ?, polls = ?, unanswered = ? WHERE name = ?",
            [(s.last_visit, s.last_success, s.visits, s.unanswered_since, name) for name, s in statuses],
        )

    @relaxed
    def ack(
        self,
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
        done = self._do(
            "UPDATE sinks SET cursor = :cursor, receipt = coalesce(:receipt, receipt), failures = 0, failing = NULL, error = NULL, "
            "delivered = CASE WHEN :moved THEN :now ELSE delivered END, until = CASE WHEN :moved THEN :until ELSE until END, "
            "held = CASE WHEN :moved THEN :held ELSE held END WHERE name = :sink AND cursor = :was",
            {
                "cursor": cursor,
                "receipt": wire.encode(receipt).decode() if receipt is not None else None,
                "moved": moved,
                "now": now,
                "until": later.until,
                "held": later.held,
                "sink": sink,
                "was": was,
            },
        ).rowcount
        if not done:
            raise Conflict

    @durable
    def bury(self, sink: str, was: int, seq: int, reason: str, now: float) -> None:
        """Bury an event as a dead letter and move the cursor past it. Raises `Conflict` as `ack` does."""
        if not self._do(
            "UPDATE sinks SET cursor = ? WHERE name = ? AND cursor = ?", (seq, sink, was)
        ).rowcount:
            raise Conflict
        self._dead(sink, seq, reason, now)

    @durable
    def bury_again(self, sink: str, seq: int, reason: str, now: float) -> None:
        """Bury an event without moving the cursor: a retry that was refused again, or a damaged event."""
        self._dead(sink, seq, reason, now)

    def _dead(self, sink: str, seq: int, reason: str, now: float) -> None:
        self._do(
            "INSERT OR REPLACE INTO dead (sink, seq, buried, reason) VALUES (?, ?, ?, ?)",
            (sink, seq, now, reason),
        )

    @relaxed
    def record_failure(self, sink: str, failures: int, failing: float | None, error: str | None) -> None:
        """Store a sink's failures, for `status` and for the next start."""
        self._do(
            "UPDATE sinks SET failures = ?, failing = ?, error = ? WHERE name = ?",
            (failures, failing, error, sink),
        )
