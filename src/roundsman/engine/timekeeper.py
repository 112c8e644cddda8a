"""The engine's clock. If it was set or the machine suspended, the times of all sources are moved along."""

from collections.abc import Mapping

import structlog

from roundsman.engine import policy
from roundsman.engine.clock import Clock, Jump, Jumps
from roundsman.engine.roster import Watched, spread

NETWORK_BACK = 5.0
"""Seconds that the network has to come back after the machine was suspended."""

log = structlog.get_logger()


class Timekeeper:
    """The clock for all decisions. A jump is handled before `now` returns a time after it."""

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
        """Monotonic seconds, for durations."""
        return self._clock.monotonic()

    async def sleep(self, seconds: float) -> None:
        await self._clock.sleep(seconds)

    def take_jump(self) -> Jump | None:
        """The jump since the last call; None without one. Alarms and the store still have the old times."""
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
            watched.move(lambda status: policy.stepped(status, step))
            if watched.silence is not None:
                watched.silence.step(step)

    def _wake_up(self, slept: float) -> None:
        """Overdue sources are visited as after a start: spread out, and after `NETWORK_BACK` seconds."""
        soon = self._clock.now() + NETWORK_BACK
        for position, watched in enumerate(self._roster.values()):
            soonest = soon + spread(position, watched.interval, len(self._roster))
            watched.move(lambda status, soonest=soonest: policy.slept(status, slept, soonest))  # type: ignore[misc]
            if watched.silence is not None:
                watched.silence.step(slept)
