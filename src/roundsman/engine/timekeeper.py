"""The engine's time. It notices that the clock was set or that the machine slept, and keeps every source's distance to its times."""

from collections.abc import Mapping

import structlog

from roundsman.engine import policy
from roundsman.engine.clock import Clock, Jump, Jumps
from roundsman.engine.roster import Watched, spread

NETWORK_BACK = 5.0
"""Seconds that the network is given to come back after a sleep."""

log = structlog.get_logger()


class Timekeeper:
    """The time for all decisions. A jump is noticed before anybody gets a time from after it."""

    def __init__(self, clock: Clock, roster: Mapping[str, Watched]) -> None:
        self._clock = clock
        self._roster = roster
        self._jumps = Jumps(clock)
        self._jump = Jump(0.0, 0.0)

    def now(self) -> float:
        """Unix time, for what must survive a restart."""
        self._look()
        return self._clock.now()

    def monotonic(self) -> float:
        """For durations."""
        return self._clock.monotonic()

    async def sleep(self, seconds: float) -> None:
        await self._clock.sleep(seconds)

    def take_jump(self) -> Jump | None:
        """What happened to the time since the last call: alarms and the store still have the old times."""
        self._look()
        jump, self._jump = self._jump, Jump(0.0, 0.0)
        return jump if any(jump) else None

    def _look(self) -> None:
        step, slept = self._jumps.look()
        if step:
            log.warning("clock.stepped", seconds=round(step, 1))
            self._step(step)
        if slept:
            log.warning("clock.slept", seconds=round(slept, 1))
            self._wake_up(slept)
        if step or slept:
            self._jump = Jump(self._jump.step + step, self._jump.slept + slept)

    def _step(self, step: float) -> None:
        for watched in self._roster.values():
            watched.status = policy.stepped(watched.status, step)
            if watched.silence is not None:
                watched.silence.step(step)

    def _wake_up(self, slept: float) -> None:
        """What is overdue is asked as after a start: spread, and once the network may be there again."""
        soon = self._clock.now() + NETWORK_BACK
        for position, watched in enumerate(self._roster.values()):
            soonest = soon + spread(position, watched.interval, len(self._roster))
            watched.status = policy.slept(watched.status, slept, soonest)
            if watched.silence is not None:
                watched.silence.step(slept)
