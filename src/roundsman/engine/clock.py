"""The clocks, and the detection of a clock that was set and of a machine that was suspended."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NamedTuple

STEP = 2.0
"""Seconds that two clocks may drift apart between two looks; more is a step."""


def suspended() -> float:
    """Seconds that this machine was suspended since its boot."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)


@dataclass(frozen=True, slots=True)
class Clock:
    now: Callable[[], float] = time.time
    """Unix time: for `due`, which must survive a restart."""
    monotonic: Callable[[], float] = time.monotonic
    """For durations, and to detect that `now` was set."""
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    asleep: Callable[[], float] = suspended
    """Seconds that the machine was suspended: the other two cannot distinguish that from a set clock."""


class Jump(NamedTuple):
    """Changes of the time since the last look, both in seconds; 0 if less than `STEP`."""

    step: float
    """By how much the clock was set; negative if it was set back."""
    slept: float
    """How long the machine was suspended."""


class Jumps:
    """Compares the clocks at each look."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._asleep = clock.asleep()
        self._drift = clock.now() - clock.monotonic() - self._asleep

    def look(self) -> Jump:
        asleep = self._clock.asleep()
        drift = self._clock.now() - self._clock.monotonic() - asleep
        step, self._drift = drift - self._drift, drift
        slept, self._asleep = asleep - self._asleep, asleep
        return Jump(step if abs(step) >= STEP else 0.0, slept if slept >= STEP else 0.0)
