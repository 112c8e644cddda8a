"""A clock for tests: it is set by hand, and sleeping moves it."""

import asyncio
from datetime import UTC, datetime

START = datetime(2026, 5, 1, 6, tzinfo=UTC).timestamp()


class Time:
    """A clock that moves only by calls; sleeping moves it, too."""

    def __init__(self, now: float = START) -> None:
        self.wall = now
        """This machine's clock (Unix seconds)."""
        self.ticks = 0.0
        """Seconds that have passed."""
        self._began = now

    def now(self) -> float:
        return self.wall

    def vendor(self) -> float:
        """The vendor's clock (Unix seconds). `set_wall` does not change it."""
        return self._began + self.ticks

    def advance(self, seconds: float) -> None:
        self.wall += seconds
        self.ticks += seconds

    def set_wall(self, seconds: float) -> None:
        """Set the clock of this machine: only the wall clock moves."""
        self.wall += seconds

    async def sleep(self, seconds: float) -> None:
        self.advance(seconds)
        await asyncio.sleep(0)
