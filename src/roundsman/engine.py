"""The rounds: due -> poll -> commit, for every source; and stopping.

A poll is a value: it is committed whole or it did not happen. `except Exception` stands here and in `delivery.py`, for
the same reason in both: whatever a plugin raises means "again later", and must not end the daemon.
"""

import asyncio
import gc
import random
import time
from collections import Counter, defaultdict, deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import httpx
import structlog

from roundsman.alarms import Alarms
from roundsman.delivery import Delivery
from roundsman.events import Event, notice
from roundsman.http import CAP, Http, Web
from roundsman.plugin import Backoff, Denied, Poll, Sink, Source, reason
from roundsman.settings import spell
from roundsman.store import Moved, Store, StoreError, Visited

GRACE = 5.0
"""Seconds that a delivery under way is given when the daemon stops."""
PATIENCE = 3
"""Intervals without a good answer after which a source is failing, out loud."""
BEAT = 1.0
"""Seconds between two heartbeats: books, clock, other processes' changes."""
STEP = 2.0
"""Seconds that the wall clock may drift from the monotonic one between two heartbeats before it is a step."""
SPREAD = 0.02
"""Seconds between the first visits of two sources, so that a thousand of them do not start at once."""
PER_HOST = 32
"""Visits under way to one host; more than that wait as names, which cost nothing. Requests are limited in `[http]`."""
SAY_EVERY = 10.0
"""Seconds between two lines in the log about one long reading."""
PRUNE_EVERY = 3600.0
PRUNE_PAUSE = 0.05
PRUNE_ONCE = 20
"""Steps of forgetting in one `once`, at most: cron wants it to end."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Clock:
    now: Callable[[], float] = time.time
    """Unix time: for `due`, which must survive a restart."""
    monotonic: Callable[[], float] = time.monotonic
    """For durations, and for noticing that the other one was set."""
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


@dataclass(slots=True)
class Reading:
    """A backlog being read, for the progress line."""

    since: float
    rows: int = 0
    new: int = 0
    said: float = 0.0
    """When the log last heard of it."""


@dataclass(slots=True)
class Watch:
    """A source on the round, and how it fares."""

    source: Source
    auth: httpx.Auth | None
    identity: str
    web: Web
    host: str
    due: float = 0.0
    visited: float | None = None
    answered: float | None = None
    polls: int = 0
    failures: int = 0
    failing: float | None = None
    error: str | None = None
    held: float = 0.0
    """Until when the vendor asked us to stay away."""
    unanswered: float | None = None
    """When the first question without a good answer was asked: what "no answer for three intervals" counts from."""
    task: "asyncio.Task[None] | None" = None
    queued: bool = False
    """Its alarm has rung, and others at its host are first."""
    rung: bool = False
    """Somebody rang while a visit was under way."""
    reading: Reading | None = None

    def busy(self) -> bool:
        return self.task is not None or self.queued


def pause(interval: float, failures: int, asked: float = 0.0, jitter: float = 0.5) -> float:
    """Seconds until a source is asked again after `failures` failures in a row: doubling, up to an hour.

    Never under `interval` nor what the vendor `asked` for; `jitter` in 0..1 adds up to a tenth.
    """
    doubled = min(interval * 2.0 ** min(failures, 30), max(CAP, interval))
    return max(doubled * (1 + jitter / 10), asked)


def rest(took: float, interval: float, asked: float = 0.0) -> float:
    """Seconds until a source is due after a good visit: an interval from its start, or from its end where it overran."""
    return max(interval - took if took < interval else interval, asked)


def furthest(interval: float) -> float:
    """Seconds that a `due` can lie ahead: more than that, and the clock was set back since."""
    return max(interval, CAP) * 1.1


def _host(source: Source) -> str:
    return httpx.URL(source.base_url).host


class Engine:
    """Visits sources when they are due and keeps one delivery loop per sink."""

    def __init__(
        self,
        store: Store,
        alarms: Alarms,
        web: Web,
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
        self._group: asyncio.TaskGroup | None = None
        self._loops: dict[str, asyncio.Task[None]] = {}
        self._stop = asyncio.Event()
        self._dirty: set[str] = set()
        self._retired: list[Web] = []
        self._queues: defaultdict[str, deque[str]] = defaultdict(deque)
        self._under_way: Counter[str] = Counter()
        self._drift = self._clock.now() - self._clock.monotonic()
        self._version = 0
        self._pruned = self._clock.monotonic()

    # -- what is watched ---------------------------------------------------------------------------------------------

    def setup(self, sources: Mapping[str, Source], sinks: Mapping[str, Sink], web: Web | None = None) -> None:
        """Take over this set of sources and sinks; state and cursors are kept by name.

        A visit under way goes on with the options it began with, and the next one has the new ones.
        """
        kinds = {name: source.type for name, source in sources.items()}
        self.store.register(kinds, {name: sink.type for name, sink in sinks.items()})
        if web is not None and web is not self.web:
            self._retired.append(self.web)  # visits and deliveries under way still use it
            self.web = web
        fares = {fare.name: fare for fare in self.store.fares()}
        for name in self.watches.keys() - sources.keys():
            self._drop(name)
        now = self._clock.now()
        for position, (name, source) in enumerate(sources.items()):
            watch = self.watches.get(name)
            if watch is not None:
                if watch.source != source:
                    watch.auth, watch.identity, watch.host = source.auth(), source.identity(), _host(source)
                    # Somebody has mended it: do not wait out a long pause, unless the vendor wants us to.
                    soon = max(now, watch.held, (watch.visited or 0.0) + source.interval)
                    if not watch.busy() and soon < watch.due:
                        watch.due = soon
                        if self._group is not None:
                            self._alarms.set(name, soon)
                watch.source, watch.web = source, self.web
                continue
            fare = fares[name]
            watch = self.watches[name] = Watch(
                source, source.auth(), source.identity(), self.web, _host(source)
            )
            watch.visited, watch.answered, watch.polls = fare.visited, fare.answered, fare.polls
            watch.failures, watch.unanswered, watch.failing = fare.failures, fare.unanswered, fare.failing
            # A stored `due` is believed, unless the clock was set back since: nothing legitimate is that far ahead.
            spread = min(position * SPREAD, source.interval * position / len(sources))
            watch.due = min(fare.due, now + furthest(source.interval)) if fare.due > now else now + spread
            if self._group is not None:
                self._alarms.set(name, watch.due)
        self._set_sinks(sinks)

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
                self.deliveries[name] = Delivery(sink, http, self.store, now=self._clock.now)
                if self._group is not None:
                    self._start(name)

    def _start(self, name: str) -> None:
        """Start the delivery loop of a sink, after the one it replaces has ended: two must never write."""
        assert self._group is not None
        before, delivery = self._loops.get(name), self.deliveries[name]

        async def loop() -> None:
            if before is not None:
                await asyncio.wait([before], timeout=self.grace)
                before.cancel()
                await asyncio.wait([before])
            await delivery.run()

        self._loops[name] = self._group.create_task(loop(), name=f"sink {name}")

    def _drop(self, name: str) -> None:
        self._alarms.clear(name)
        watch = self.watches.pop(name)
        if watch.task is not None:
            watch.task.cancel()

    # -- the round ---------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Make rounds until `stop()`."""
        self._version = self.store.version()
        # What lives as long as the daemon: with 50,000 sources, looking at it again in each collection took a second.
        gc.collect()
        gc.freeze()
        async with asyncio.TaskGroup() as self._group:
            try:
                self._alarms.start(self._ring)
                for name, watch in self.watches.items():
                    self._alarms.set(name, watch.due)
                for name in self.deliveries:
                    self._start(name)
                beat = self._group.create_task(self._beat(), name="beat")
                await self._stop.wait()
                beat.cancel()
            finally:
                self._alarms.stop()
                await self._end()
        self._flush()

    async def once(self, *, everything: bool = False) -> bool:
        """Visit every source that is due (or every one), deliver what there is to deliver; whether all went well."""
        now = self._clock.now()
        due = []
        for fare in self.store.fares():
            watch = self.watches.get(fare.name)
            if watch is not None and (
                everything or not now < fare.due < now + furthest(watch.source.interval)
            ):
                due.append(fare.name)
        self.store.claim([(name, now + self.watches[name].source.interval) for name in due])
        visits = await asyncio.gather(*(self.visit(name) for name in due))
        deliveries = await asyncio.gather(*(delivery.once() for delivery in self.deliveries.values()))
        self._flush()
        for _ in range(PRUNE_ONCE):
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
        loops = [task for task in self._loops.values() if not task.done()]
        if loops:
            _, late = await asyncio.wait(loops, timeout=self.grace)
            for task in late:
                task.cancel()

    async def aclose(self) -> None:
        """Close all connections."""
        for web in (*self._retired, self.web):
            await web.aclose()

    def ring(self, name: str) -> None:
        """Visit a source now instead of at `due`; while a visit is under way, once more after it."""
        watch = self.watches[name]
        if watch.busy():
            watch.rung = True
        else:
            self._ring([name])

    def _ring(self, names: Iterable[str]) -> None:
        """The alarm: move `due` on, on disk, and only then ask."""
        now = self._clock.now()
        idle = [(name, w) for name in names if (w := self.watches.get(name)) is not None and not w.busy()]
        for _, watch in idle:
            watch.due = now + watch.source.interval
        try:
            self.store.claim([(name, watch.due) for name, watch in idle])
        except StoreError as exc:
            # Without a place to write down what comes, asking is pointless.
            log.error("store.failed", error=str(exc), waiting=[name for name, _ in idle][:10])
            for name, watch in idle:
                self._alarms.set(name, watch.due)
            return
        if self._group is None:
            return
        for name, watch in idle:
            watch.queued, watch.unanswered = True, watch.unanswered or now
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
                if watch.rung:
                    watch.rung = False
                    watch.due = min(watch.due, self._clock.now())
                self._alarms.set(name, watch.due)

    async def visit(self, name: str) -> bool:
        """One visit, page after page until nothing is left; whether it went well."""
        watch = self.watches[name]
        source = watch.source
        http = Http(watch.web, watch.auth, watch.identity)
        started = self._clock.monotonic()
        watch.reading, revision = None, 0
        while True:
            began = self._clock.monotonic()
            watch.unanswered = watch.unanswered or self._clock.now()
            try:
                state, revision = self.store.state(name)
                poll = await source.poll(http, state)
                if not isinstance(poll, Poll):
                    raise TypeError(f"poll() must return a Poll, not {type(poll).__name__}")  # noqa: TRY301 - told as any
                same = poll.state == state
                self._good(name, watch, revision, poll, same, started, http, began)
                # A page that brings neither events nor a new state would bring the same again, without end.
                if not poll.more or http.wait or (same and not poll.events):
                    return True
            except Moved:
                log.info("source.rewound", source=name)
            except Exception as exc:  # noqa: BLE001 - whatever a source raises means "again later"
                self._bad(name, watch, revision, exc, http.wait)
                return False
            await asyncio.sleep(0)  # a backlog must not keep the others waiting

    def _good(
        self,
        name: str,
        watch: Watch,
        revision: int,
        poll: Poll,
        same: bool,
        started: float,
        http: Http,
        began: float,
    ) -> None:
        now = self._clock.now()
        recovered = watch.failing is not None
        if poll.more and not http.wait:
            due = now  # a restart in the middle of a backlog goes on with it
        else:
            asked = max(http.wait, http.interval)
            watch.held = now + asked
            due = now + rest(self._clock.monotonic() - started, watch.source.interval, asked)
        if same and not poll.events and not watch.failures and not recovered:
            # The common case: nothing new. `due` is on disk since the alarm rang; the rest can wait for the heartbeat.
            if due > watch.due + 0.5:
                self.store.claim([(name, due)])
            watch.due, watch.visited, watch.answered, watch.unanswered = due, now, now, None
            watch.polls += 1
            self._dirty.add(name)
            log.debug("poll.unchanged", source=name)
            return
        events = list(poll.events)
        if recovered:
            since = datetime.fromtimestamp(watch.failing or now, UTC)
            events.append(self._notice("roundsman.source.recovered", name, "It answers again.", since))
        new = self.store.commit(name, revision, poll.state, events, now=now, due=due)
        watch.due, watch.visited, watch.answered = due, now, now
        watch.polls += 1
        watch.failures, watch.unanswered, watch.failing, watch.error = 0, None, None, None
        self._dirty.add(name)
        ms = round((self._clock.monotonic() - began) * 1000, 1)
        if recovered:
            log.info("source.recovered", source=name)
        if new:
            self._wake()
        reading = watch.reading
        if poll.more or reading is not None:
            reading = watch.reading = reading or Reading(began, said=began)
            reading.rows += poll.rows
            reading.new += new
            end = self._clock.monotonic()
            if poll.more and end - reading.said < SAY_EVERY:
                return
            reading.said = end
            ms = round((end - reading.since) * 1000, 1)
            log.info("poll.committed", source=name, new=reading.new, rows=reading.rows, more=poll.more, ms=ms)
        elif new:
            log.info("poll.committed", source=name, new=new, rows=poll.rows, ms=ms)
        else:
            log.debug("poll.unchanged", source=name, rows=poll.rows, ms=ms)

    def _bad(self, name: str, watch: Watch, revision: int, exc: Exception, asked: float) -> None:
        now = self._clock.now()
        watch.failures += 1
        watch.visited = now
        watch.polls += 1
        if isinstance(exc, Backoff):
            asked = max(asked, exc.after)
        wait = pause(watch.source.interval, watch.failures, asked, random.random())
        watch.due, watch.held = now + wait, now + asked
        watch.error = error = reason(exc)
        expected = isinstance(exc, Backoff | Denied | StoreError) or type(exc).__module__.startswith(
            "roundsman."
        )
        log.warning(
            "poll.failed",
            source=name,
            error=error,
            failures=watch.failures,
            wait=round(wait, 1),
            exc_info=None if expected else exc,
        )
        loud = isinstance(exc, Denied) or self._overdue(watch, now)
        self._write_up(name, watch, revision, error, loud=loud, now=now)

    def _overdue(self, watch: Watch, now: float) -> bool:
        return watch.unanswered is not None and now - watch.unanswered >= PATIENCE * watch.source.interval

    def _write_up(
        self, name: str, watch: Watch, revision: int, error: str, *, loud: bool, now: float
    ) -> None:
        """Store a source's failure; the first time it is `loud`, as an event for every sink to tell."""
        events = []
        begins = loud and watch.failing is None
        if begins:
            watch.failing = now
            since = datetime.fromtimestamp(watch.answered or watch.unanswered or now, UTC)
            message = f"No good answer since {since:%Y-%m-%dT%H:%M:%SZ}: {error}"
            events = [
                self._notice("roundsman.source.failing", name, message, datetime.fromtimestamp(now, UTC))
            ]
        try:
            self.store.commit(
                name,
                revision,
                None,
                events,
                now=now,
                due=watch.due,
                failures=watch.failures,
                unanswered=watch.unanswered,
                failing=watch.failing,
                error=error,
            )
        except Moved:
            watch.due = now
        except StoreError as exc:
            if begins:
                watch.failing = None  # it was not told; the next failure tells it
            log.error("store.failed", error=str(exc))
            return
        self._dirty.add(name)
        if begins:
            log.error("source.failing", source=name, error=error)
            self._wake()

    def _notice(self, kind: str, name: str, message: str, since: datetime) -> Event:
        now = datetime.fromtimestamp(self._clock.now(), UTC)
        return notice(kind, name, since.isoformat(), message, since=since, now=now)

    def _wake(self) -> None:
        for delivery in self.deliveries.values():
            delivery.wake()

    # -- the heartbeat -----------------------------------------------------------------------------------------------

    async def _beat(self) -> None:
        while True:
            await self._clock.sleep(BEAT)
            try:
                self.beat()
                if self._clock.monotonic() - self._pruned > PRUNE_EVERY:
                    await self._prune()
            except StoreError as exc:
                log.error("store.failed", error=str(exc))

    def beat(self) -> None:
        """What wants doing about once a second."""
        self._flush()
        self._check_clock()
        self._hear()
        now = self._clock.now()
        for name, watch in self.watches.items():
            # A visit that hangs is no answer either, nor is a vendor that sends us away for an hour.
            if watch.failing is None and self._overdue(watch, now):
                error = watch.error or f"no answer for {spell(now - (watch.unanswered or now))}"
                _, revision = self.store.state(name)
                self._write_up(name, watch, revision, error, loud=True, now=now)

    def _flush(self) -> None:
        if self._dirty:
            watches = [(name, w) for name in self._dirty if (w := self.watches.get(name)) is not None]
            self.store.note(Visited(name, w.visited, w.answered, w.polls) for name, w in watches)
            self._dirty.clear()

    def _check_clock(self) -> None:
        """After a step of the wall clock, keep the *distance* to every due: neither a burst nor a silence."""
        drift = self._clock.now() - self._clock.monotonic()
        step, self._drift = drift - self._drift, drift
        if abs(step) < STEP:
            return
        log.warning("clock.stepped", seconds=round(step, 1))
        for name, watch in self.watches.items():
            watch.due += step
            watch.held += step
            if watch.unanswered is not None:
                watch.unanswered += step
            if not watch.busy():
                self._alarms.set(name, watch.due)
        self.store.claim([(name, watch.due) for name, watch in self.watches.items()])

    def _hear(self) -> None:
        """Notice what a command wrote beside us: a replay, a rewind, a retry."""
        version = self.store.version()
        if version == self._version:
            return
        self._version = version
        self._wake()
        for name in self.store.wanted():
            if name in self.watches:
                self.ring(name)

    async def _prune(self) -> None:
        self._pruned = self._clock.monotonic()
        while self.store.prune(list(self.deliveries), self._clock.now(), self.retention):
            await self._clock.sleep(PRUNE_PAUSE)

    def healthy(self) -> bool:
        """Whether the rounds are really made: no idle source is long overdue, and every sink has its loop."""
        late = self._clock.now() - 30
        overdue = any(not w.busy() and w.due < late for w in self.watches.values())
        return not overdue and all(not task.done() for n, task in self._loops.items() if n in self.deliveries)
