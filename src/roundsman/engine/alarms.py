"""Alarms for sources that are due: one APScheduler date job per moment, shared by all sources due in it.

The jobs have a date, not an interval. `due` is in the store; a scheduler's interval would be a second
schedule, which does not know of a restart, a wait that the vendor asked for, or a failure.
"""

import math
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Protocol

import structlog
from apscheduler.events import EVENT_JOB_ERROR, EVENT_JOB_MISSED, JobExecutionEvent
from apscheduler.jobstores.base import JobLookupError
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.date import DateTrigger

from roundsman.errors import reason

STEP = 0.05
"""Seconds that a moment lasts. With 50,000 date jobs, each costs about 500 us of CPU; all sources due in a
moment share one.
"""

log = structlog.get_logger()

Ring = Callable[[list[str]], None]


class Alarms(Protocol):
    """The scheduler, as the engine uses it."""

    def start(self, ring: Ring) -> None: ...

    def set(self, name: str, at: float) -> None:
        """Ring for `name` at `at` (Unix time) or a moment later, never before. Replaces its earlier alarm."""

    def clear(self, name: str) -> None:
        """Remove the alarm of `name`, if there is one."""

    def stop(self) -> None: ...


class Scheduler:
    """Alarms on APScheduler. It only rings; the engine owns the visits, so that it alone stops them."""

    def __init__(self) -> None:
        self._scheduler = AsyncIOScheduler(timezone=UTC)
        self._scheduler.add_listener(_complain, EVENT_JOB_ERROR | EVENT_JOB_MISSED)
        self._ring: Ring | None = None
        self._moments: dict[int, set[str]] = {}
        self._set: dict[str, int] = {}

    def start(self, ring: Ring) -> None:
        self._ring = ring
        self._scheduler.start()

    def set(self, name: str, at: float) -> None:
        moment = math.ceil(at / STEP)
        if self._set.get(name) == moment:
            return
        self.clear(name)
        self._set[name] = moment
        names = self._moments.get(moment)
        if names is not None:
            names.add(name)
            return
        self._moments[moment] = {name}
        self._scheduler.add_job(
            self._fire,
            DateTrigger(datetime.fromtimestamp(moment * STEP, UTC)),
            args=(moment,),
            id=str(moment),
            name=name,
            misfire_grace_time=None,  # it rings even if it is late
        )

    def clear(self, name: str) -> None:
        moment = self._set.pop(name, None)
        if moment is None:
            return
        names = self._moments[moment]
        names.discard(name)
        if not names:
            self._forget(moment)

    def _forget(self, moment: int) -> None:
        del self._moments[moment]
        with suppress(JobLookupError):  # the job is running
            self._scheduler.remove_job(str(moment))

    async def _fire(self, moment: int) -> None:
        # The alarm may have been set in a visit; what the visit bound for its log lines does not apply here.
        structlog.contextvars.clear_contextvars()
        names: Iterable[str] = self._moments.pop(moment, ())
        for name in names:
            del self._set[name]
        if names and self._ring is not None:
            self._ring(list(names))

    def stop(self) -> None:
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)


def _complain(event: JobExecutionEvent) -> None:
    """Log an alarm that did not ring: its sources would wait for the next start."""
    log.error(
        "alarm.failed",
        due=event.scheduled_run_time.isoformat(),
        error=reason(event.exception or TimeoutError()),
    )
