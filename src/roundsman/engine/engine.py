"""The rounds: whose turn it is, one delivery loop per sink, the heartbeat; and stopping."""

import asyncio
import gc
import math
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Mapping
from contextlib import suppress

import httpx
import structlog

from roundsman.engine.alarms import Alarms
from roundsman.engine.clock import Clock, Jumps
from roundsman.engine.delivery import Delivery
from roundsman.engine.meter import Meter
from roundsman.engine.notices import Disk, clock_jumped, sink_gap, store_damaged
from roundsman.engine.reception import Reception
from roundsman.engine.silence import Silence
from roundsman.engine.visit import RINGS_APART, Visits, Watch, ring_pause
from roundsman.events import Event
from roundsman.http.client import Http
from roundsman.http.ratelimits import CAP
from roundsman.http.transport import Clients
from roundsman.plugin import Sink, Source
from roundsman.store import DAEMON, Fare, GaveUp, Store, StoreError, Visited, check as soundness
from roundsman.system.threads import in_thread
from roundsman.times import spell

GRACE = 1.5
"""Seconds that a delivery under way is given when the daemon stops: people and systemd wait for it."""
BEAT = 1.0
"""Seconds between two heartbeats: books, clock, other processes' changes."""
SPREAD = 0.02
"""Seconds between the first visits of two sources, so that a thousand of them do not start at once."""
PER_HOST = 32
"""Visits under way to one host; more than that wait as names, which cost nothing. Requests are limited in `[http]`."""
NETWORK_BACK = 5.0
"""Seconds that the network is given to come back after a sleep."""
STORE_AGAIN = 10.0
"""Seconds until a visit that could not be written down is tried again, and between two lines about it."""
DISK_EVERY = 60.0
"""Seconds between two looks at the room on the disk."""
PRUNE_FIRST, PRUNE_EVERY = 300.0, 3600.0
"""Seconds from the start to the first round of forgetting, and between two: a machine may never be up for an hour."""
CHECK_FIRST, CHECK_EVERY = 2.0, 86400.0
"""Seconds from the start to the first check whether the store is sound, and between two."""
SYNC_EVERY = 0.5
"""Seconds until what was written as books survives a power cut."""
PRUNE_PAUSE = 0.05
PLAUSIBLE = 7 * 86400.0
"""Seconds from the last event before a jump within which the new time is likely the right one: a machine was off for the night."""
PRUNE_NOT = 86400.0
"""Seconds after the clock jumped in which nothing is forgotten: it may have been a mistake, and somebody may see it."""
PRUNE_ONCE = 20
"""Steps of forgetting in one `once`, at most: cron wants it to end."""

log = structlog.get_logger()


def longest_lead(interval: float, *, waits: bool = True) -> float:
    """Seconds that a `due` can lie ahead: more than that, and the clock was set back since.

    `waits`: the source fails, or its vendor wanted a rest; else it is an interval.
    """
    return (max(interval, CAP) if waits else interval) * 1.1


def _host(source: Source) -> str:
    return httpx.URL(source.base_url).host


def _held(fare: Fare, now: float, bound: float) -> float:
    """Until when the vendor wants to be left alone, by our clock as it is now: it may have been set back since that was said."""
    held = fare.held or 0.0
    if fare.visited is not None and fare.visited > now:
        held += now - fare.visited
    return min(held, now + bound)


def _kinds(sources: Mapping[str, Source], sinks: Mapping[str, Sink]) -> tuple[dict[str, str], dict[str, str]]:
    """Names to types."""
    return {name: each.type for name, each in sources.items()}, {
        name: each.type for name, each in sinks.items()
    }


class Engine:
    """Visits sources when they are due and keeps one delivery loop per sink."""

    def __init__(
        self,
        store: Store,
        alarms: Alarms,
        web: Clients,
        *,
        clock: Clock | None = None,
        retention: float = 35 * 86400.0,
        grace: float = GRACE,
    ) -> None:
        self.store = store
        self.web = web
        self.watches: dict[str, Watch] = {}
        self.deliveries: dict[str, Delivery] = {}
        self.retention = retention
        self.grace = grace
        self._alarms = alarms
        self._clock = clock or Clock()
        self._dirty: set[str] = set()
        self.meter = Meter()
        self._visits = Visits(store, self._clock, self.meter, self._wake, self._dirty.add)
        self._visits.mind_clock = self._check_clock
        self._visits.failed = self.failed
        web.took = self._took
        self.reception = Reception(store, self.watches, self._clock, self.meter, self._wake, self.ring)
        self.listening: float | None = None
        """Since when webhooks can reach us (Unix); None where nobody listens."""
        self._group: asyncio.TaskGroup | None = None
        self._loops: dict[str, asyncio.Task[None]] = {}
        self._leaving: defaultdict[str, list[asyncio.Task[None]]] = defaultdict(list)
        """Delivery loops that have not ended, by sink; the last is the one in `_loops`."""
        self._stop = asyncio.Event()
        self._retired: list[Clients] = []
        self._queues: defaultdict[str, deque[str]] = defaultdict(deque)
        self._under_way: Counter[str] = Counter()
        self._jumps = Jumps(self._clock)
        told = store.last_notice("roundsman.disk.*")
        self._disk = Disk(store.path, told is not None and told[0].type == "roundsman.disk.low")
        self._disk_seen = float("-inf")
        self._version = 0
        self._pruned = self._clock.monotonic() - PRUNE_EVERY + PRUNE_FIRST
        self._pruning: asyncio.Task[None] | None = None
        self._checked = self._clock.monotonic() - CHECK_EVERY + CHECK_FIRST
        self._checking: asyncio.Task[None] | None = None
        self._untold: deque[Event] = deque(maxlen=20)
        """Notices that the store could not take; they wait until it can."""
        self._failure = ""
        self._failed_at = self._failure_said = float("-inf")
        self._hurried = self._missing = False
        self._recovered = 0
        self.lost = False
        """Somebody deleted or replaced the store: the daemon ends, for another one to begin with what is there."""

    # -- what is watched ---------------------------------------------------------------------------------------------

    def setup(
        self, sources: Mapping[str, Source], sinks: Mapping[str, Sink], web: Clients | None = None
    ) -> None:
        """Take over this set of sources and sinks; state and cursors are kept by name.

        A visit under way goes on with the options it began with, and the next one has the new ones. What a plugin or the store
        raises, it raises before anything is taken over.
        """
        ready = {
            name: (source.auth(), source.identity(), _host(source))
            for name, source in sources.items()
            if name not in self.watches or self.watches[name].source != source
        }
        origins = {name: source.origin() for name, source in sources.items()}
        self.store.register(*_kinds(sources, sinks), origins)
        if web is not None and web is not self.web:
            self._retired.append(self.web)  # visits and deliveries under way still use it
            self.web = web
            web.took = self._took
        self._check_clock()
        fares = {fare.name: fare for fare in self.store.statuses()}
        for name in self.watches.keys() - sources.keys():
            self._drop(name)
        now = self._clock.now()
        for position, (name, source) in enumerate(sources.items()):
            watch = self.watches.get(name)
            if watch is not None:
                if name in ready:
                    watch.auth, watch.identity, watch.host = ready[name]
                    # Somebody has mended it: do not wait out a long pause, unless the vendor wants us to.
                    soon = max(now, watch.held, (watch.visited or 0.0) + source.interval)
                    if not watch.busy() and soon < watch.due:
                        watch.due = soon
                        if self._group is not None:
                            self._alarms.set(name, watch.next())
                watch.source, watch.web = source, self.web
                self._listen_for(watch, fares[name].heard)
                continue
            fare = fares[name]
            auth, identity, host = ready[name]
            watch = self.watches[name] = Watch(source, auth, identity, self.web, host)
            watch.visited, watch.answered, watch.polls = fare.visited, fare.answered, fare.polls
            watch.failures, watch.unanswered, watch.failing = fare.failures, fare.unanswered, fare.failing
            watch.error = fare.error
            watch.held = _held(fare, now, longest_lead(source.interval))
            self._listen_for(watch, fare.heard)
            # A stored `due` is believed, unless the clock was set back since: nothing legitimate is that far ahead.
            spread = now + min(position * SPREAD, source.interval * position / len(sources))
            waits = fare.failures > 0 or watch.held > now
            bound = now + longest_lead(source.interval, waits=waits)
            watch.due = min(fare.due, bound) if fare.due > now else spread
            failed = fare.failures and fare.options is not None
            if failed and source.fingerprint(identity) != fare.options:  # mended while no daemon ran
                watch.due = min(watch.due, max(spread, (fare.visited or 0.0) + source.interval))
            watch.due = max(watch.due, watch.held)
            if self._group is not None:
                self._alarms.set(name, watch.due)
        self._set_sinks(sinks)

    def fits(self, sources: Mapping[str, Source], sinks: Mapping[str, Sink]) -> None:
        """StoreError where `setup` would refuse these for their types."""
        self.store.fits(*_kinds(sources, sinks))

    def _listen_for(self, watch: Watch, heard: float | None = None) -> None:
        """Begin to notice its webhooks' silence, or end it."""
        if self.listening is None or watch.source.webhook is None:
            watch.silence = None
        elif watch.silence is None:
            watch.silence = Silence(max(self.listening, self._clock.now()), heard)

    def reopen(self) -> None:
        """Have every sink leave its place and open it anew: a log rotation has moved its file."""
        for delivery in self.deliveries.values():
            delivery.reopen()

    def _set_sinks(self, sinks: Mapping[str, Sink]) -> None:
        for name, delivery in list(self.deliveries.items()):
            if sinks.get(name) != delivery.sink:
                delivery.stop()
                del self.deliveries[name]
            else:
                delivery.http.web = self.web
                delivery.reopen()
        for name, sink in sinks.items():
            if name not in self.deliveries:
                http = Http(self.web)
                self.deliveries[name] = Delivery(
                    sink,
                    http,
                    self.store,
                    self.meter,
                    now=self._clock.now,
                    tell=self._tell,
                    failed=self.failed,
                )
                with suppress(StoreError):
                    missed = self.store.lost_to_pruning(name, self.deliveries[name].wanted)
                    self._tell(sink_gap(name, *missed, self._clock.now()))
                if self._group is not None and not self._stop.is_set():
                    self._start(name)

    def _start(self, name: str) -> None:
        """Start the delivery loop of a sink, after the one it replaces has ended: two must never write."""
        assert self._group is not None
        delivery = self.deliveries[name]
        before = [task for task in self._leaving[name] if not task.done()]

        async def loop() -> None:
            if before:
                await asyncio.wait(before, timeout=self.grace)
                for task in before:
                    if not task.cancelling():
                        task.cancel()
                await asyncio.wait(before)
            await delivery.run()

        self._loops[name] = self._group.create_task(loop(), name=f"sink {name}")
        # All of them: the one before may itself still wait, for one that takes its time.
        self._leaving[name] = [*before, self._loops[name]]

    def _drop(self, name: str) -> None:
        self._alarms.clear(name)
        watch = self.watches.pop(name)
        if watch.task is not None:
            watch.task.cancel()

    # -- the round ---------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Make rounds until `stop()`."""
        self._version = self.store.version()
        self._come_back()
        # What lives as long as the daemon: with 50,000 sources, looking at it again in each collection took a second.
        gc.collect()
        gc.freeze()
        async with asyncio.TaskGroup() as self._group:
            try:
                self._alarms.start(self._ring)
                for name, watch in self.watches.items():
                    self._alarms.set(name, watch.next())
                for name in self.deliveries:
                    self._start(name)
                beat = self._group.create_task(self._beat(), name="beat")
                sync = self._group.create_task(self._sync_books(), name="sync")
                await self._stop.wait()
                for task in (beat, sync, self._pruning, self._checking):
                    if task is not None:
                        task.cancel()
            finally:
                self._alarms.stop()
                await self._end()
        try:
            self._flush()
        except StoreError as exc:  # the books are a second behind, no more
            self.failed(exc)

    def _come_back(self) -> None:
        """What failed before a time without a daemon did not fail during it: nobody tried."""
        alive = self.store.last_beat()
        away = max(0.0, self._clock.now() - alive) if alive is not None else 0.0
        with suppress(StoreError):
            self.store.beat(self._clock.now())
        for watch in self.watches.values():
            if watch.unanswered is not None:
                watch.unanswered += away
        for delivery in self.deliveries.values():
            delivery.step_clock(away)

    async def once(self, *, everything: bool = False) -> bool:
        """Visit every source that is due (or every one), deliver what there is to deliver; whether all went well."""
        self._look_after_disk()
        now = self._clock.now()
        due = []
        for fare in self.store.statuses():
            watch = self.watches.get(fare.name)
            if watch is not None:
                bound = longest_lead(watch.source.interval)
                early = any(now < at < now + bound for at in (fare.due, _held(fare, now, bound)))
                due += [fare.name] if everything or not early else []
        for name in due:
            self.watches[name].due = now + self.watches[name].source.interval
        self.store.claim([(name, self.watches[name].due) for name in due])
        visits = await asyncio.gather(*(self.visit(name) for name in due))
        deliveries = await asyncio.gather(*(delivery.once() for delivery in self.deliveries.values()))
        self._flush()
        for _ in range(PRUNE_ONCE if self._may_forget() else 0):
            if not self.store.prune(list(self.deliveries), self._clock.now(), self.retention):
                break
        return all([*visits, *deliveries])

    def stop(self) -> None:
        """Stop promptly: polls did not happen, deliveries under way get the grace."""
        self._stop.set()

    async def _end(self) -> None:
        for watch in self.watches.values():
            if watch.task is not None:
                watch.task.cancel()
        for delivery in self.deliveries.values():
            delivery.stop()
        loops = [task for tasks in self._leaving.values() for task in tasks if not task.done()]
        if loops:
            _, late = await asyncio.wait(loops, timeout=self.grace)
            for task in late:
                task.cancel()

    async def aclose(self) -> None:
        """Close all connections."""
        for web in (*self._retired, self.web):
            await web.aclose()

    def visit_now(self, name: str) -> None:
        """A command wants it visited now; while a visit is under way, once more after it."""
        self._check_clock()
        watch = self.watches[name]
        if watch.busy():
            watch.wanted = True
            return
        now = self._clock.now()
        watch.due = max(now, watch.held)  # but not before the vendor wants to be asked again
        if watch.due > now:
            self._alarms.set(name, watch.due)
        else:
            self._ring([name])

    def ring(self, name: str) -> None:
        """A webhook rings: visit the source now instead of at `due`. Rings are coalesced, and kept apart.

        They never make anybody ask before the vendor wants to be asked again, nor faster than an interval while it fails.
        """
        watch = self.watches.get(name)
        if watch is None or watch.ring_at is not None or self._stop.is_set():
            return
        if watch.busy():
            watch.rung = True
            return
        self._check_clock()
        now = self._clock.now()
        bad = watch.failures or watch.failing is not None
        failing = (watch.visited or 0.0) + watch.source.interval if bad else 0.0
        at = max(now, watch.rang + ring_pause(watch.unheard, watch.source.interval), watch.held, failing)
        if at >= watch.due or (bad and watch.due - at < watch.source.interval):
            return  # the visit that is due comes soon enough
        watch.ring_at = at
        if self._group is None:
            return  # the rounds have not begun, and begin with this
        if at <= now:
            self._ring([name])
        else:
            self._alarms.set(name, at)

    def _ring(self, names: Iterable[str]) -> None:
        """The alarm: move `due` on, on disk, and only then ask."""
        if self._check_clock():
            # What seemed due is not, or not all at once; that has new alarms already.
            now = self._clock.now()
            names = [name for name in names if name in self.watches and self.watches[name].next() <= now]
        now = self._clock.now()
        idle = [(name, w) for name in names if (w := self.watches.get(name)) is not None and not w.busy()]
        due: list[tuple[str, Watch]] = []
        rung: list[tuple[str, Watch]] = []
        for name, watch in idle:
            watch.ringing = watch.ring_at is not None and watch.due > now
            watch.ring_at = None
            if watch.ringing:
                watch.rang = now  # what is due keeps its time
                rung.append((name, watch))
            else:
                self.meter.late.add(max(0.0, now - watch.due))
                watch.due = now + watch.source.interval
                due.append((name, watch))
        try:
            if due:
                self.store.claim([(name, watch.due) for name, watch in due])
            if rung:
                self.store.defer([(name, now + RINGS_APART) for name, _ in rung])
        except StoreError as exc:
            # Without a place to write down what comes, asking is pointless. Nobody was asked: they are not due much later for it.
            # All of them together: each would have to wait for the store, one after the other.
            self.failed(exc)
            again = math.ceil(now / STORE_AGAIN + 1) * STORE_AGAIN
            for name, watch in idle:
                if watch.ringing:
                    watch.ringing, watch.ring_at = False, again
                else:
                    watch.due = again
                self._alarms.set(name, watch.next())
            return
        if self._group is None or self._stop.is_set():
            return
        for name, watch in idle:
            watch.queued = True
            if not watch.ringing:
                watch.unanswered = watch.unanswered or now
            self._queues[watch.host].append(name)
        for host in {watch.host for _, watch in idle}:
            self._admit(host)

    def _admit(self, host: str) -> None:
        """Begin the visits that wait for this host, as far as there is room: a slow one must not fill the memory."""
        queue = self._queues[host]
        while queue and self._under_way[host] < PER_HOST and self._group is not None:
            name = queue.popleft()
            watch = self.watches.get(name)
            if watch is not None and watch.queued:
                watch.queued = False
                self._under_way[host] += 1
                watch.task = self._group.create_task(self._visit(name, watch, host))

    async def _visit(self, name: str, watch: Watch, host: str) -> None:
        try:
            await self.visit(name)
        finally:
            watch.task = None
            watch.reading = None
            self._under_way[host] -= 1
            if not self._stop.is_set():
                self._admit(host)
            if self.watches.get(name) is watch and not self._stop.is_set():
                if watch.wanted:
                    watch.wanted = False
                    watch.due = min(watch.due, max(self._clock.now(), watch.held))
                rung, watch.rung, watch.ringing = watch.rung, False, False
                if rung:
                    self.ring(name)
                if not watch.busy():
                    self._alarms.set(name, watch.next())

    async def visit(self, name: str) -> bool:
        """One visit to a source now; whether it went well."""
        return await self._visits.visit(name, self.watches[name])

    def _took(self, host: str, seconds: float) -> None:
        self.meter.requests[host].add(seconds)

    def _wake(self) -> None:
        for delivery in self.deliveries.values():
            delivery.wake()

    # -- the heartbeat -----------------------------------------------------------------------------------------------

    async def _beat(self) -> None:
        while True:
            await self._clock.sleep(BEAT)
            self.beat()
            idle = self._pruning is None or self._pruning.done()
            if idle and self._group is not None and self._clock.monotonic() - self._pruned > PRUNE_EVERY:
                # Beside the heartbeat: with very many ids a round takes a minute.
                self._pruning = self._group.create_task(self._prune(), name="prune")
            checks = self._checking is not None and not self._checking.done()
            if self._group and not checks and self._clock.monotonic() - self._checked > CHECK_EVERY:
                self._checking = self._group.create_task(self.check_store(), name="check")

    async def _sync_books(self) -> None:
        """Acks and books are committed without waiting for the disk; a power cut takes no more than the last second of them."""
        while True:
            await asyncio.sleep(SYNC_EVERY)  # by the real clock: a power cut goes by no other
            await self.sync()

    async def sync(self) -> None:
        """Have the books on the disk."""
        if self.store.unsynced:
            try:
                await in_thread(self.store.sync)
            except OSError as exc:
                self.failed(StoreError(f"{self.store.path} cannot be written: {exc.strerror}"))

    async def check_store(self) -> None:
        """Look whether the store is sound, in a thread; say it, once, where it is not."""
        self._checked = self._clock.monotonic()
        try:
            found = await in_thread(soundness, self.store.path)
        except GaveUp:
            return  # what was found before still holds
        if found is not None and self.store.damage is None:
            log.error("store.damaged", error=found)
            self._tell(store_damaged(found, self._clock.now()))
        self.store.damage = found

    def beat(self) -> None:
        """What wants doing about once a second; that one thing fails is no reason to leave out the others."""
        for part in (
            self._look_after_store,
            self._hear,
            self._flush,
            self.reception.flush,
            self._check_clock,
            self._look_after_disk,
            self._look_after_deliveries,
            self._tell,
            self._look_after_sources,
        ):
            try:
                part()
            except StoreError as exc:
                self.failed(exc)
        if self._hurried and self._failed_at < self._clock.monotonic() - BEAT / 2:
            self._hurried = False
            self.store.wait_less(False)

    def _look_after_store(self) -> None:
        """A store that somebody deleted takes what it is told, and forgets it when we end."""
        self.store.recover()
        if self.store.recoveries > self._recovered:
            self._recovered = self.store.recoveries
            log.error(
                "store.recovered", path=str(self.store.path), reason="its -wal file was deleted while in use"
            )
        before, self._missing = self._missing, self.store.lost()
        if self._missing and before and not self.lost:  # two looks: it may be about to be put back
            self.lost = True
            log.error("store.lost", path=str(self.store.path), reason="deleted or replaced while in use")
            self.stop()

    def _look_after_deliveries(self) -> None:
        for delivery in self.deliveries.values():
            delivery.look()

    def _look_after_sources(self) -> None:
        """A visit that hangs is no answer either, nor is a vendor that sends us away for an hour."""
        now = self._clock.now()
        for name, watch in self.watches.items():
            if watch.failing is None and self._visits.overdue(watch, now):
                error = watch.error or f"no answer for {spell(now - (watch.unanswered or now))}"
                _, revision = self.store.state(name)
                self._visits.write_up(name, watch, revision, error, loud=True, now=now)

    def failed(self, exc: StoreError) -> None:
        """Say that the store cannot be written, now and then; and remember it, for who asks how we are."""
        now, error = self._clock.monotonic(), str(exc)
        same = error == self._failure
        self._failure, self._failed_at = error, now
        if not self._hurried:
            self._hurried = True
            self.store.wait_less(True)  # else whoever comes next waits as long, for the same
        if not same or now - self._failure_said >= STORE_AGAIN:
            self._failure_said = now
            log.error("store.failed", error=error)

    @property
    def store_trouble(self) -> str | None:
        """What is wrong with the store; None where it was written since, or nobody wanted to."""
        if self.store.damage:
            return self.store.damage
        recent = self._clock.monotonic() - self._failed_at < 3 * STORE_AGAIN
        return self._failure if recent else None

    def _flush(self) -> None:
        if self._dirty:
            watches = [(name, w) for name in self._dirty if (w := self.watches.get(name)) is not None]
            self.store.record_visits(Visited(name, w.visited, w.answered, w.polls) for name, w in watches)
            self._dirty.clear()

    def _check_clock(self) -> bool:
        """Notice that the clock was set, or that the machine slept; whether it was so. Neither makes a burst nor a silence."""
        step, slept = self._jumps.look()
        if not step and not slept:
            return False
        if step:
            log.warning("clock.stepped", seconds=round(step, 1))
            self._step(step)
        if slept:
            log.warning("clock.slept", seconds=round(slept, 1))
            self._wake_up(slept)
        with suppress(StoreError):  # said below
            self._hear()  # a command's wish is a `due` in the store, which is about to be written over
        for name, watch in self.watches.items():
            if not watch.busy():
                self._alarms.clear(name)  # also one for the same moment: it would ring late by as much
                self._alarms.set(name, watch.next())
        now = self._clock.now()
        self._tell(clock_jumped(step, now))
        try:
            self.store.claim([(name, watch.due) for name, watch in self.watches.items()])
            self.store.defer([(name, watch.held) for name, watch in self.watches.items() if watch.held > now])
        except StoreError as exc:  # the next visits write it
            self.failed(exc)
        return True

    def _step(self, step: float) -> None:
        """After a step of the wall clock, keep the *distance* to every due."""
        for watch in self.watches.values():
            watch.due += step
            watch.held += step
            watch.rang += step
            if watch.ring_at is not None:
                watch.ring_at += step
            if watch.silence is not None:
                watch.silence.step(step)
            if watch.unanswered is not None:
                watch.unanswered += step
            if watch.visited is not None:
                watch.visited += step  # what must be an interval apart stays so
        for delivery in self.deliveries.values():
            delivery.step_clock(step)

    def _wake_up(self, slept: float) -> None:
        """After a sleep, what is overdue is asked as after a start: spread, and once the network may be there again."""
        now = self._clock.now()
        for position, watch in enumerate(self.watches.values()):
            soon = (
                now
                + NETWORK_BACK
                + min(position * SPREAD, watch.source.interval * position / len(self.watches))
            )
            watch.due = max(watch.due, soon)
            if watch.ring_at is not None:
                watch.ring_at = max(watch.ring_at, soon)
            if watch.unanswered is not None:
                watch.unanswered += slept  # nobody was asked meanwhile
            if watch.silence is not None:
                watch.silence.step(slept)
        for delivery in self.deliveries.values():
            delivery.step_clock(slept)  # nothing was tried meanwhile

    def _look_after_disk(self) -> None:
        if self._clock.monotonic() - self._disk_seen >= DISK_EVERY:
            self._disk_seen = self._clock.monotonic()
            try:
                self._tell(self._disk.notice(self._clock.now()))
            except OSError as exc:  # the folder has gone, say
                raise StoreError(f"{self.store.path}: {exc.strerror}") from None
            self.store.beat(self._clock.now())

    def _tell(self, event: Event | None = None) -> None:
        """Log what the daemon has to say of itself; what the store cannot take, with the next heartbeat."""
        if event is not None and all(each.id != event.id for each in self._untold):
            self._untold.append(event)
        if not self._untold:
            return
        try:
            known = self.store.known(DAEMON, [each.id for each in self._untold])
            self.store.append_notices(DAEMON, list(self._untold), self._clock.now())
        except StoreError as exc:
            self.failed(exc)
            return
        new = [each for each in self._untold if each.id not in known]
        for each in new:
            log.warning("daemon.notice", type=each.type, what=each.document()["data"]["message"])
        self._untold.clear()
        if new:
            self._wake()

    def _hear(self) -> None:
        """Notice what a command wrote beside us: a replay, a rewind, a retry."""
        version = self.store.version()
        if version == self._version:
            return
        wanted = self.store.wanted()
        self._version = version
        self._wake()
        for name in wanted:
            if name in self.watches:
                self.visit_now(name)

    def _may_forget(self) -> bool:
        """Not soon after the clock jumped to a time that is far from all we know: by a clock that is wrong, everything is old."""
        now, jump = self._clock.now(), self.store.last_notice("roundsman.clock.jumped")
        if jump is None or abs(now - jump[1]) > PRUNE_NOT:
            return True
        before = self.store.logged_before(jump[0].seq)
        return before is not None and abs(now - before) < PLAUSIBLE

    async def _prune(self) -> None:
        """Forget what is old, in steps so small that nobody waits for one."""
        self._pruned = self._clock.monotonic()
        try:
            if not self._may_forget():
                return
            while self.store.prune(list(self.deliveries), self._clock.now(), self.retention):
                await self._clock.sleep(PRUNE_PAUSE)
            while self.store.shrink():
                await self._clock.sleep(PRUNE_PAUSE)
            self.store.checkpoint()
        except StoreError as exc:
            self.failed(exc)

    def healthy(self) -> bool:
        """Whether the rounds are really made: no idle source is long overdue, and every sink has its loop."""
        late = self._clock.now() - 30
        overdue = any(not w.busy() and w.due < late for w in self.watches.values())
        return not overdue and all(not task.done() for n, task in self._loops.items() if n in self.deliveries)
