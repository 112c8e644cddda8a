"""Whether a daemon works, by what it has written into the store: its last beat, a full disk, damage.

No process is looked for: the daemon may run in another container, whose processes are hidden.
"""

import sys
import time
from typing import NamedTuple

from roundsman.screen.words import ago, stamp
from roundsman.store import DaemonRecord, View, holds
from roundsman.terminal.terminal import spoken

BEAT_LATE = 180.0
"""Seconds without a beat in the store after which the daemon hangs or has ended; it writes one each minute."""
AHEAD = 10.0
"""Seconds that a beat may lie in the future: the clocks of two machines differ by as much."""


class Health(NamedTuple):
    """Whether a daemon works, and a line that says why."""

    works: bool
    line: str


async def health(view: View, worker: str | None = None, *, utc: bool = False) -> Health:
    """Whether a daemon has recorded recently that it runs, and no trouble of the store is known. `utc`: not the local time.

    `worker`: its name, if it shares the store.
    """
    daemon, now = await view.daemon(worker), time.time()
    beat = _latest(daemon, now)
    wrong = [each for each in (await view.full(), await view.known_damage()) if each]
    if beat is None or now - beat >= BEAT_LATE:
        wrong.insert(0, _absence(daemon, now, utc=utc))
    if wrong or beat is None:
        return Health(False, f"unhealthy: {'; '.join(wrong)}")
    return Health(True, f"healthy: the daemon recorded {ago(min(beat, now), now)} that it runs")


def _latest(daemon: DaemonRecord, now: float) -> float | None:
    """When the daemon last recorded that it runs (Unix); None if it never did.

    A time in the future is older than the last change of the clock, and proves nothing.
    """
    if daemon.config is None:
        return None
    return max(
        (at for at in (daemon.beat, daemon.started) if at is not None and at <= now + AHEAD), default=None
    )


def _absence(daemon: DaemonRecord, now: float, *, utc: bool) -> str:
    """A sentence, for standard error, about a daemon that has not recorded that it runs."""

    def at(moment: float) -> str:
        return spoken(moment, utc=utc, stream=sys.stderr)

    if daemon.config is None:
        once = f"; `roundsman once` did at {at(daemon.beat)}, and ends each time" if daemon.beat else ""
        return f"no daemon has recorded that it runs{once}"
    beat = _latest(daemon, now)
    if beat is None:
        ahead = at(max(daemon.beat or 0.0, daemon.started or 0.0))
        return f"the last time that a daemon recorded that it runs, {ahead}, is in the future: the clock was set back"
    return f"no daemon has recorded since {at(beat)} that it runs: it has ended, hangs or cannot write; see its log"


async def late_beat(view: View, worker: str | None = None) -> str | None:
    """A message if a daemon runs and does not write into the store; None if it does, or none runs. `worker`: as in `health`."""
    daemon = await view.daemon(worker)
    if daemon.pid is None or daemon.config is None or not holds(daemon.pid, view.place):
        return None
    last = max(daemon.beat or 0.0, daemon.started or 0.0)
    if time.time() - last < BEAT_LATE:
        return None
    since = stamp(last)
    return f"{view.place}: the daemon has not recorded since {since} that it runs: it hangs or cannot write; see its log"
