"""The failing of one sink: how often in a row and since when, in memory, in the store, in the log and in reports."""

import structlog

from roundsman.engine.notices import SINK_PATIENCE, Notices, sink_failing, sink_recovered
from roundsman.engine.shared import Shared
from roundsman.errors import Backoff, reason
from roundsman.store import StoreError
from roundsman.times import spell

log = structlog.get_logger()


class Outage:
    """Time in which nothing was tried does not count as failing: a pause, or a stopped daemon."""

    def __init__(
        self, sink: str, shared: Shared, notices: Notices, failures: tuple[int, float | None] = (0, None)
    ) -> None:
        """`failures`: how often it has failed in a row, and since when (Unix)."""
        self._sink = sink
        self._store, self._meter, self._trouble = shared.store, shared.meter, shared.trouble
        self._now, self._monotonic = shared.time.now, shared.time.monotonic
        self._notices = notices
        self.failures, self.since = failures
        self._failed_at = self._monotonic() - (self._now() - self.since if self.since else 0.0)
        """Since when it has been failing, by the monotonic clock, and without time in which nothing was tried."""
        self.paused: float | None = None
        """Since when a person has paused the sink (Unix); None if none has."""
        self._paused_at = 0.0
        """The same by the monotonic clock."""

    @property
    def fails(self) -> bool:
        """Whether the last try failed. A paused sink does not count as failing."""
        return self.since is not None and self.paused is None

    @property
    def is_reported(self) -> bool:
        """Whether it has been failing for so long that this is reported."""
        return self._lasted() >= SINK_PATIENCE and self.paused is None

    def _lasted(self) -> float:
        """For how many seconds the sink has been failing."""
        return max(0.0, self._monotonic() - self._failed_at) if self.since is not None else 0.0

    # -- time in which nothing is tried --------------------------------------------------------------------------------

    def idle(self, seconds: float) -> None:
        """No delivery was tried for so long."""
        self._failed_at += seconds

    def pause(self, since: float) -> None:
        """A person has paused the sink at `since` (Unix)."""
        self.paused = since
        self._paused_at = self._monotonic() - max(0.0, self._now() - since)

    def resume(self) -> None:
        """The pause has ended."""
        now = self._monotonic()
        self._failed_at = min(now, self._failed_at + now - self._paused_at)
        if self.since is not None and self._lasted() < SINK_PATIENCE:
            # Not reported yet: the store has this time for the next start. The ids of reports are made of it.
            self.since = self._now() - self._lasted()
        self.paused = None

    # -- failures and the end ------------------------------------------------------------------------------------------

    async def failed(self, exc: Exception, wait: float) -> None:
        """Opening or a delivery has raised; the next try comes after `wait` seconds."""
        self._count()
        error = reason(exc)
        expected = isinstance(exc, OSError | Backoff) or type(exc).__module__.startswith("roundsman.")
        log.warning(
            "sink.failing",
            sink=self._sink,
            error=error,
            failures=self.failures,
            wait=round(wait, 1),
            exc_info=None if expected else exc,
        )
        await self._book(error)
        await self._report(error)

    async def hangs(self, seconds: float) -> None:
        """A call has not ended for so long: it raises nothing."""
        self._count(seconds)
        error = f"a delivery has not ended for {spell(self._lasted())}"
        log.warning(
            "sink.failing", sink=self._sink, error=error, failures=self.failures, wait=0.0, exc_info=None
        )
        # Before anything else is awaited: it may recover meanwhile, and then reports that, too.
        await self._report(error)
        if self.since is not None:
            await self._book(error)

    async def ended(self) -> None:
        """The sink works. If it had failed, this is logged, and reported if its failing was."""
        if not self.failures and self.since is None:
            return
        since, recovered = self.since, None
        if since is not None:  # if that raises, the next call reports it
            recovered = await sink_recovered(
                self._sink, since, self._lasted(), self._now(), self._notices.known
            )
        log.info("sink.recovered", sink=self._sink, failures=self.failures)
        self.failures, self.since = 0, None
        self._meter.changes += 1
        await self._notices.publish(recovered)
        await self._book(None)

    def _count(self, lasted: float = 0.0) -> None:
        """It has been failing for `lasted` seconds, at least."""
        if self.since is None:
            self.since, self._failed_at = self._now() - lasted, self._monotonic() - lasted
        self.failures += 1
        self._meter.failed(self._sink)
        self._meter.changes += 1

    async def _report(self, error: str) -> None:
        """Report it if it has been failing for long, and is not paused."""
        assert self.since is not None
        if self.paused is None:
            await self._notices.publish(
                sink_failing(self._sink, self.since, self._lasted(), error, self._now())
            )

    async def _book(self, error: str | None) -> None:
        try:
            await self._store.record_failure(self._sink, self.failures, self.since, error)
        except StoreError as exc:
            self._trouble.report(exc)
