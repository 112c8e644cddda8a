"""Turns alarms and rings into visits: up to `PER_HOST` at a time to a host, and never two to one source."""

import asyncio
import math
from collections import Counter, defaultdict, deque
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from functools import partial

from roundsman.engine import policy
from roundsman.engine.alarms import Alarms
from roundsman.engine.roster import Roster, Watched
from roundsman.engine.shared import STORE_AGAIN, Shared
from roundsman.engine.visit import Visits
from roundsman.store import SourceStatus, StoreError

PER_HOST = 32
"""Maximum visits under way to one host; others wait as names, which are cheap. `[http]` limits requests."""
LATE = 30.0
"""If a visit has not begun so many seconds after `due`, the daemon is unhealthy."""


class Turns:
    """Starts visits when they are due, and cancels them at the stop."""

    def __init__(self, shared: Shared, roster: Roster, alarms: Alarms, visits: Visits) -> None:
        self._shared, self._store, self._time = shared, shared.store, shared.time
        self._roster = roster
        self._alarms = alarms
        self._visits = visits
        self._group: asyncio.TaskGroup | None = None
        self.ending = False
        """The daemon is stopping: webhooks are still taken in, but no longer ring."""
        self.draining: set[str] = set()
        """Sources that another worker is to visit: none of their visits is queued."""
        self._queues: defaultdict[str, deque[tuple[str, Watched]]] = defaultdict(deque)
        self._under_way: Counter[str] = Counter()
        self._leaving: dict[str, set[asyncio.Task[None]]] = {}
        """Visits to dropped sources that have not ended: a source may be added again while its last visit cleans up."""

    # -- from the start to the stop ------------------------------------------------------------------------------------

    def start(self, group: asyncio.TaskGroup) -> None:
        """Start the alarms; visits run in this group."""
        self._group = group
        self._alarms.start(self._on_alarm)
        self.schedule(self._roster)

    def schedule(self, names: Iterable[str]) -> None:
        """Set the alarms of these sources, once started. A busy source gets its alarm after its visit."""
        if self._group is None:
            return
        for name in names:
            watched = self._roster[name]
            if not watched.busy:
                self._set(name, watched)

    def _set(self, name: str, watched: Watched) -> None:
        if watched.status.paused is None and name not in self.draining:
            self._alarms.set(name, watched.status.next_visit)
        else:
            self._alarms.clear(name)

    def reschedule(self) -> None:
        """Set every alarm again, because the clock was set.

        They are cleared first: an alarm that is kept for the same moment would ring late by as much.
        """
        for name, watched in self._roster.items():
            if not watched.busy:
                self._alarms.clear(name)
        self.schedule(self._roster)

    def drop(self, name: str, watched: Watched) -> None:
        """Stop watching a source: its alarm is removed, its visit cancelled."""
        self.draining.discard(name)
        self._alarms.clear(name)
        if watched.task is not None:
            watched.task.cancel()
            self._leaving.setdefault(name, set()).add(watched.task)
            watched.task.add_done_callback(partial(self._left, name))

    def _left(self, name: str, task: "asyncio.Task[None]") -> None:
        """The visit to a dropped source has ended."""
        tasks = self._leaving[name]
        tasks.discard(task)
        if not tasks:
            del self._leaving[name]

    def drain(self, names: Collection[str]) -> None:
        """Queue no visits of these sources, and visits of all others as usual."""
        before, self.draining = self.draining, set(names)
        for name in self.draining - before:
            watched = self._roster.get(name)
            if watched is not None and not watched.busy:
                # The ring is in the store: who visits the source next finds it there.
                watched.status = replace(watched.status, ring_at=None)
        self.schedule(name for name in before ^ self.draining if name in self._roster)

    def stop(self) -> None:
        """Cancel all visits; their polls under way are dropped."""
        self._group = None
        self._alarms.stop()
        for watched in self._roster.values():
            if watched.task is not None:
                watched.task.cancel()

    def healthy(self) -> bool:
        """Whether no idle source is long overdue."""
        late = self._time.now() - LATE
        return not any(
            not watched.busy
            and watched.status.due < late
            and watched.status.paused is None
            and name not in self.draining
            for name, watched in self._roster.items()
        )

    # -- pauses --------------------------------------------------------------------------------------------------------

    def pause(self, name: str, since: float) -> None:
        """A person has paused a source: it is not visited, and its visit under way is cancelled."""
        watched = self._roster[name]
        watched.move(lambda status: policy.paused(status, since))
        watched.queued = watched.ring_pending = False
        self._alarms.clear(name)
        if watched.task is not None and self._group is not None:
            self._group.create_task(self._cut_off(watched, watched.task))

    async def _cut_off(self, watched: Watched, visit: "asyncio.Task[None]") -> None:
        """Cancel a visit between two of its writes: a status that is decided must also be written."""
        async with watched.writing:
            if watched.status.paused is not None:
                visit.cancel()

    def resume(self, name: str) -> None:
        """The pause of a source has ended: it is visited as soon as its vendor allows."""
        watched, now = self._roster[name], self._time.now()
        watched.move(lambda status: policy.resumed(status, now))
        if watched.silence is not None:
            watched.silence.begin_anew()
        self.schedule([name])

    # -- requests for visits -------------------------------------------------------------------------------------------

    def visit_now(self, name: str) -> None:
        """A command requests a visit now; during a visit, another one after it."""
        watched, now = self._roster[name], self._time.now()
        watched.commanded = True
        if watched.busy:
            return
        watched.status = policy.wanted(watched.status, now)
        self._begin_or_wait(name, watched, now)

    def ring(self, name: str) -> None:
        """A webhook rings: visit now instead of at `due`, if `policy.ring` allows it. Rings are coalesced."""
        watched = self._roster.get(name)
        if self.ending or watched is None or name in self.draining or watched.status.ring_at is not None:
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
            return  # not started yet; `start` sets the alarm
        if watched.status.next_visit <= now:
            self._on_alarm([name])
        else:
            self._set(name, watched)

    # -- the visits ----------------------------------------------------------------------------------------------------

    def _on_alarm(self, names: Iterable[str]) -> None:
        """Alarms ring: the visits of those that are due begin."""
        now = self._time.now()
        idle = [
            (name, watched)
            for name in names
            if (watched := self._roster.get(name)) and not watched.busy and name not in self.draining
        ]
        # An alarm may have been set before the clock was.
        self.schedule(name for name, watched in idle if watched.status.next_visit > now)
        due = [(name, watched) for name, watched in idle if watched.status.next_visit <= now]
        if due and self._group is not None:
            for _, watched in due:
                watched.queued = True
            self._group.create_task(self._begin(due))

    async def _begin(self, due: Sequence[tuple[str, Watched]]) -> None:
        """Store the next `due` of these sources, and only then let their visits begin."""
        now = self._time.now()
        scheduled: list[tuple[str, SourceStatus]] = []
        rung: list[tuple[str, SourceStatus]] = []
        asked = {name for name, watched in due if watched.status.unanswered_since is not None}
        for name, watched in due:
            watched.trigger = policy.trigger_of(watched.status, now)
            if watched.trigger == "due":
                self._shared.meter.was_late(name, max(0.0, now - watched.status.due))
            watched.status = policy.begin(watched.status, watched.trigger, now, watched.interval)
            if watched.trigger == "webhook":
                rung.append((name, policy.debounced(watched.status, now)))
            else:
                scheduled.append((name, watched.status))
        try:
            await self._store.begin(scheduled, rung)
        except StoreError as exc:
            self._postpone(due, asked)
            self._shared.trouble.report(exc)
            return
        for name, watched in due:
            if watched.commanded and watched.trigger == "due":
                watched.trigger, watched.commanded = "command", False
            self._queues[watched.configured.host].append((name, watched))
        for host in {watched.configured.host for _, watched in due}:
            self._admit(host)

    def _postpone(self, due: Sequence[tuple[str, Watched]], asked: Collection[str]) -> None:
        """Results could not be stored, so no request is made, and the sources are due again soon.

        All get the same time: apart, each would wait for the store, one after the other. `asked`: those with an
        earlier request that has no answer yet.
        """
        again = math.ceil(self._time.now() / STORE_AGAIN + 1) * STORE_AGAIN
        for name, watched in due:
            # Not the earlier status: the clock may have been set meanwhile, or a failure reported.
            status = watched.status if name in asked else replace(watched.status, unanswered_since=None)
            watched.status = policy.postponed(status, watched.trigger, again)
            watched.queued = False
        self.schedule(name for name, watched in due if self._roster.get(name) is watched)

    def _admit(self, host: str) -> None:
        """Begin visits that wait for this host, up to `PER_HOST`: a slow host must not fill the memory."""
        queue = self._queues[host]
        while queue and self._under_way[host] < PER_HOST and self._group is not None:
            name, watched = queue.popleft()
            if self._roster.get(name) is watched and watched.queued:
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
        """One visit, and then what was requested during it."""
        try:
            while before := self._leaving.get(name):
                await asyncio.wait(set(before))
            if watched.trigger != "webhook":  # its end decides when the next one is due, by the new options
                watched.mended = False
            await self._visits.visit(name, watched)
        finally:
            watched.task = None
            watched.reading = None
            if self._roster.get(name) is watched and self._group is not None:
                if watched.mended:
                    watched.mended = False
                    watched.status = policy.mended(watched.status, self._time.now(), watched.interval)
                self._next(name, watched)

    def _next(self, name: str, watched: Watched) -> None:
        """Set the next alarm, with what was requested during the visit."""
        now = self._time.now()
        if watched.commanded:
            soon = policy.wanted(watched.status, now)
            watched.status = min(watched.status, soon, key=lambda status: status.due)
        pending, watched.ring_pending, watched.trigger = watched.ring_pending, False, "due"
        if pending:
            self.ring(name)
        self.schedule([name])
