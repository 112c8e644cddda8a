"""When to ring: one APScheduler date job per moment, shared by all sources due in it.

A date and no interval: when a source is due stands in the store, and an interval that a scheduler counts would be a second clock
beside it, which knows nothing of a restart, a rest that the vendor wants, or a failure.
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
"""Seconds that a moment lasts. A date job costs about 500 us of CPU with 50,000 of them; a moment shares one."""

log = structlog.get_logger()

Ring = Callable[[list[str]], None]


class Alarms(Protocol):
    """What the engine needs of a scheduler."""

    def start(self, ring: Ring) -> None: ...

    def set(self, name: str, at: float) -> None:
        """Ring for `name` at `at` (Unix time) or a moment later, never before; replaces its earlier alarm."""

    def clear(self, name: str) -> None:
        """Forget the alarm of `name`, if there is one."""

    def stop(self) -> None: ...


class Scheduler:
    """Alarms on APScheduler. It only rings; the engine owns the work, so that stopping is the engine's alone."""

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
            misfire_grace_time=None,  # however late, it rings
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
        with suppress(JobLookupError):  # it is ringing
            self._scheduler.remove_job(str(moment))

    async def _fire(self, moment: int) -> None:
        # The alarm may have been set in a visit: what that has bound for its lines is not what this one is about.
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
    """An alarm that did not ring is ours to mend: its sources would wait for the next start."""
    log.error(
        "alarm.failed",
        due=event.scheduled_run_time.isoformat(),
        error=reason(event.exception or TimeoutError()),
    )
