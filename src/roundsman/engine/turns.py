"""Whose turn it is: alarms and rings become visits, so many at a time to one host, and never two to one source."""

import asyncio
import math
from collections import Counter, defaultdict, deque
from collections.abc import Iterable
from functools import partial

from roundsman.engine import policy
from roundsman.engine.alarms import Alarms
from roundsman.engine.roster import Roster, Watched
from roundsman.engine.shared import STORE_AGAIN, Shared
from roundsman.engine.visit import Visits
from roundsman.store import SourceStatus, StoreError

PER_HOST = 32
"""Visits under way to one host; more than that wait as names, which cost nothing. Requests are limited in `[http]`."""
LATE = 30.0
"""Seconds after its time at which a visit that has not begun shows that the daemon is not well."""


class Turns:
    """Starts visits when they are due, and ends them."""

    def __init__(self, shared: Shared, roster: Roster, alarms: Alarms, visits: Visits) -> None:
        self._shared, self._store, self._time = shared, shared.store, shared.time
        self._roster = roster
        self._alarms = alarms
        self._visits = visits
        self._group: asyncio.TaskGroup | None = None
        self.ending = False
        """The daemon stops: webhooks still come in, and ring no more."""
        self._queues: defaultdict[str, deque[str]] = defaultdict(deque)
        self._under_way: Counter[str] = Counter()
        self._leaving: dict[str, asyncio.Task[None]] = {}
        """Visits to sources that were dropped: the source may come back while its last visit still cleans up."""

    # -- from the start to the stop ------------------------------------------------------------------------------------

    def start(self, group: asyncio.TaskGroup) -> None:
        """Ring from now on; visits run in this group."""
        self._group = group
        self._alarms.start(self._on_alarm)
        self.schedule(self._roster)

    def schedule(self, names: Iterable[str]) -> None:
        """Set the alarms of these sources, if visits are made; a source that is busy gets its alarm after its visit."""
        if self._group is None:
            return
        for name in names:
            watched = self._roster[name]
            if not watched.busy:
                self._alarms.set(name, watched.status.next_visit)

    def reschedule(self) -> None:
        """Set every alarm anew: the clock was set, and an alarm for the same moment would ring late by as much."""
        for name, watched in self._roster.items():
            if not watched.busy:
                self._alarms.clear(name)
        self.schedule(self._roster)

    def drop(self, name: str, watched: Watched) -> None:
        """A source is not watched any more."""
        self._alarms.clear(name)
        if watched.task is not None:
            watched.task.cancel()
            self._leaving[name] = watched.task

    def stop(self) -> None:
        """End all visits: their polls did not happen."""
        self._group = None
        self._alarms.stop()
        for watched in self._roster.values():
            if watched.task is not None:
                watched.task.cancel()

    def healthy(self) -> bool:
        """Whether no idle source is long overdue."""
        late = self._time.now() - LATE
        return not any(not watched.busy and watched.status.due < late for watched in self._roster.values())

    # -- who wants a visit ---------------------------------------------------------------------------------------------

    def visit_now(self, name: str) -> None:
        """A command wants a visit now; during a visit, another one after it."""
        watched, now = self._roster[name], self._time.now()
        watched.commanded = True
        if watched.busy:
            return
        watched.status = policy.wanted(watched.status, now)
        self._begin_or_wait(name, watched, now)

    def ring(self, name: str) -> None:
        """A webhook rings: a visit now instead of at `due`, as far as `policy.ring` allows. Rings are coalesced."""
        watched = self._roster.get(name)
        if self.ending or watched is None or watched.status.ring_at is not None:
            return
        if watched.busy:
            watched.ring_pending = True
            return
        now = self._time.now()
        watched.status = policy.ring(watched.status, now, watched.interval)
        if watched.status.ring_at is not None:
            self._begin_or_wait(name, watched, now)

    def _begin_or_wait(self, name: str, watched: Watched, now: float) -> None:
        if self._group is None:
            return  # visits are not made yet, and the first alarms know of it
        if watched.status.next_visit <= now:
            self._on_alarm([name])
        else:
            self._alarms.set(name, watched.status.next_visit)

    # -- the visits ----------------------------------------------------------------------------------------------------

    def _on_alarm(self, names: Iterable[str]) -> None:
        """Alarms ring: move `due` on, on the disk, and only then ask."""
        now = self._time.now()
        idle = [(n, watched) for n in names if (watched := self._roster.get(n)) and not watched.busy]
        # An alarm may be of a time before the clock was set.
        early = [name for name, watched in idle if watched.status.next_visit > now]
        due = [(name, watched) for name, watched in idle if watched.status.next_visit <= now]
        self.schedule(early)
        begun: dict[bool, list[tuple[str, SourceStatus]]] = {False: [], True: []}
        for name, watched in due:
            watched.trigger = policy.trigger_of(watched.status, now)
            if watched.trigger == "due":
                self._shared.meter.late.add(max(0.0, now - watched.status.due))
            status = policy.begin(watched.status, watched.trigger, now, watched.interval)
            begun[watched.trigger == "webhook"].append((name, status))
        try:
            self._store.begin(begun[False], begun[True])
        except StoreError as exc:
            # Without a place to write down what comes, asking is pointless. Nobody was asked, so they are not due much later
            # for it. All of them together: each alone would wait for the store, one after the other.
            self._shared.trouble.report(exc)
            again = math.ceil(now / STORE_AGAIN + 1) * STORE_AGAIN
            for _, watched in due:
                watched.status = policy.postponed(watched.status, watched.trigger, again)
            self.schedule(name for name, _ in due)
            return
        statuses = dict((*begun[False], *begun[True]))
        for name, watched in due:
            watched.status, watched.queued = statuses[name], True
            if watched.commanded and watched.trigger == "due":
                watched.trigger, watched.commanded = "command", False
            self._queues[watched.configured.host].append(name)
        for host in {watched.configured.host for _, watched in due}:
            self._admit(host)

    def _admit(self, host: str) -> None:
        """Begin the visits that wait for this host, as far as there is room: a slow one must not fill the memory."""
        queue = self._queues[host]
        while queue and self._under_way[host] < PER_HOST and self._group is not None:
            name = queue.popleft()
            watched = self._roster.get(name)
            if watched is not None and watched.queued:
                watched.queued = False
                self._under_way[host] += 1
                watched.task = self._group.create_task(self._take(name, watched))
                # Not in the task: one that is cancelled before its first step runs nothing.
                watched.task.add_done_callback(partial(self._leave, host))

    def _leave(self, host: str, _: "asyncio.Task[None]") -> None:
        """A visit to this host has ended, and another one may begin."""
        self._under_way[host] -= 1
        self._admit(host)

    async def _take(self, name: str, watched: Watched) -> None:
        """One turn: a visit, and what was wanted during it."""
        before = self._leaving.pop(name, None)
        if before is not None and not before.done():
            await asyncio.wait([before])
        try:
            await self._visits.visit(name, watched)
        finally:
            watched.task = None
            watched.reading = None
            if self._roster.get(name) is watched and self._group is not None:
                self._next(name, watched)

    def _next(self, name: str, watched: Watched) -> None:
        """Set the next alarm, after what came during the visit."""
        now = self._time.now()
        if watched.commanded:
            soon = policy.wanted(watched.status, now)
            watched.status = min(watched.status, soon, key=lambda status: status.due)
        pending, watched.ring_pending, watched.trigger = watched.ring_pending, False, "due"
        if pending:
            self.ring(name)
        self.schedule([name])
