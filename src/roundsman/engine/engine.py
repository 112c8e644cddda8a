"""The daemon's engine: its parts, their start, what they do each second, and their stop."""

import asyncio
import gc
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import structlog

from roundsman.engine import policy
from roundsman.engine.alarms import Alarms
from roundsman.engine.clock import Clock
from roundsman.engine.counts import Counts
from roundsman.engine.deliveries import GRACE, Deliveries
from roundsman.engine.meter import Meter
from roundsman.engine.notices import Notices, clock_jumped
from roundsman.engine.pauses import Pauses
from roundsman.engine.reception import Reception
from roundsman.engine.roster import Configured, Roster, Watched
from roundsman.engine.shared import News, Shared, Trouble
from roundsman.engine.silence import Silence
from roundsman.engine.timekeeper import Timekeeper
from roundsman.engine.turns import LATE, Turns
from roundsman.engine.upkeep import Upkeep
from roundsman.engine.visit import Visits
from roundsman.http.transport import Clients
from roundsman.legacy import takes_a_visit
from roundsman.plugin import Plugin, Sink, Source
from roundsman.store import SourceRecord, Store, StoreError

if TYPE_CHECKING:
    from roundsman.engine.fleet import Fleet, Pace

BEAT = 1.0
"""Seconds between two heartbeats."""

log = structlog.get_logger()


class Engine:
    """Visits sources when they are due, takes in their webhooks, and runs one delivery loop per sink."""

    def __init__(
        self,
        store: Store,
        alarms: Alarms,
        clients: Clients,
        *,
        clock: Clock | None = None,
        retention: float = 35 * 86400.0,
        grace: float = GRACE,
    ) -> None:
        self.store = store
        self.clients = clients
        self.meter = Meter()
        self.listening: float | None = None
        """Since when webhooks can be received (Unix); None if there is no listener."""
        self.roster = Roster()
        self.time = Timekeeper(clock or Clock(), self.roster)
        self.trouble = Trouble(store, self.time)
        self._shared = shared = Shared(store, self.time, self.meter, News(), self.trouble)
        self._news = shared.news
        self.notices = Notices(shared)
        self._visits = Visits(shared, self.roster)
        self.turns = Turns(shared, self.roster, alarms, self._visits)
        self.reception = Reception(shared, self.roster, self.turns)
        self.deliveries = Deliveries(shared, self.notices, grace)
        self.pauses = Pauses(shared, self.roster, self.turns, self.deliveries)
        self.counts = Counts(shared, self.deliveries)
        self.upkeep = Upkeep(shared, self.notices, retention)
        self._sinks: set[str] = set()
        """Sinks whose events are not pruned: the configured ones, and during a reload the coming ones, too."""
        self._abroad: set[str] = set()
        """Sinks of other workers' configurations: their events are not pruned either."""
        self.fleet: Fleet | None = None
        """What this worker holds, if it shares the store with others; None if it is alone."""
        self.sinks: Mapping[str, Sink] = {}
        """The configured sinks, also those that other workers hold."""
        self._changing = asyncio.Lock()
        """Held while sources and sinks come and go."""
        self._group: asyncio.TaskGroup | None = None
        self.started = asyncio.Event()
        """Set once it visits and delivers."""
        self._beating: float | None = None
        """Since when (monotonic) the heartbeat under way lasts."""
        self._stop = asyncio.Event()
        self._retired: list[Clients] = []
        clients.observer = self.meter

    def join(self, name: str, pace: "Pace | None" = None) -> None:
        """Share the store with other workers, under this name, if the store is a shared one."""
        if self.store.fleet is not None:
            from roundsman.engine.fleet import Fleet, Pace  # a single daemon does not need it

            self.fleet = Fleet(self._shared, self, self.store.fleet, name, pace or Pace())
            self.reception.rang = self.fleet.rang

    # -- a set of sources and sinks ------------------------------------------------------------------------------------

    async def fits(self, sources: Mapping[str, Source], sinks: Mapping[str, Sink]) -> None:
        """StoreError if `setup` would refuse one of these types."""
        await self.store.fits(_kinds(sources), _kinds(sinks))

    async def setup(
        self, sources: Mapping[str, Source], sinks: Mapping[str, Sink], clients: Clients | None = None
    ) -> None:
        """Take over this set of sources and sinks; states and cursors are kept by name.

        A visit under way continues with its old options, and the next one has the new ones. Errors of
        plugins and of `Store.register` are raised before anything is taken over.
        """
        async with self._changing:
            await self._setup(sources, sinks, clients or self.clients)

    async def _setup(
        self, sources: Mapping[str, Source], sinks: Mapping[str, Sink], clients: Clients
    ) -> None:
        new = self.roster.configure(sources, clients)
        for kind in {type(source) for source in sources.values() if not takes_a_visit(type(source))}:
            what = "poll(http, state) works until 1.0; write poll(visit, state)"
            log.warning("plugin.deprecated", plugin=f"{kind.__module__}.{kind.__qualname__}", what=what)
        origins = {name: source.origin() for name, source in sources.items()}
        self._sinks.update(sinks)  # before their cursors are read
        try:
            await self.store.register(_kinds(sources), _kinds(sinks), origins)
            if self.fleet is not None:
                await self.fleet.offer(new, sinks)
            deliveries = await self.deliveries.configure(self._held_sinks(sinks), clients)
            gaps = await self.deliveries.gaps(deliveries)
            records = await self.store.statuses()
            # Nothing is awaited from here: all of it, or nothing.
            self._watch(new, records)
            if self.fleet is not None:
                self.fleet.take_over(new, sinks)
            self._use(clients)
            self.deliveries.swap(deliveries, clients)
            self.sinks = sinks
        finally:
            self._sinks.intersection_update({*self.sinks, *self._abroad})
        for gap in gaps:
            await self.notices.publish(gap)

    def _use(self, clients: Clients) -> None:
        if clients is not self.clients:
            self._retired.append(self.clients)  # visits and deliveries under way still use them
            self.clients = clients
            clients.observer = self.meter

    def _watch(self, new: Mapping[str, Configured], records: Sequence[SourceRecord]) -> None:
        """Visit these sources; of a fleet, those that this worker holds."""
        now = self.time.now()
        held = self.fleet.held["source"] if self.fleet is not None else new.keys()
        swapped = self.roster.swap({name: each for name, each in new.items() if name in held}, records, now)
        self.roster.elsewhere = {name: each for name, each in new.items() if name not in held}
        if self._group is not None:
            stored = {record.name: record.status for record in records}
            for name in swapped.new:  # one that comes back was not asked meanwhile
                watched = self.roster[name]
                watched.status = policy.idle(watched.status, policy.unasked(stored[name], now))
        for name, gone in swapped.gone.items():
            self.turns.drop(name, gone)
        self.turns.schedule([*swapped.new, *swapped.moved])
        for record in records:
            if record.name in self.roster:
                self._listen_for(self.roster[record.name], record.last_webhook)

    def _held_sinks(self, sinks: Mapping[str, Sink]) -> Mapping[str, Sink]:
        """Of a fleet, the sinks that this worker holds."""
        if self.fleet is None:
            return sinks
        held = self.fleet.held["sink"] & self.fleet.serves(sinks).keys()
        return {name: sink for name, sink in sinks.items() if name in held}

    # -- what a worker of a fleet holds --------------------------------------------------------------------------------

    async def hold(self) -> None:
        """Visit the sources and serve the sinks that this worker holds now."""
        assert self.fleet is not None
        async with self._changing:
            if self.fleet.held["source"] != self.roster.keys():
                records = await self.store.statuses()
                self._watch(self.roster.configured(), records)
            if self.fleet.held["sink"] != self.deliveries.keys():
                sinks = self._held_sinks(self.sinks)
                deliveries = await self.deliveries.configure(sinks, self.clients)
                gaps = await self.deliveries.gaps(deliveries)
                self.deliveries.swap(deliveries, self.clients)
                for gap in gaps:
                    await self.notices.publish(gap)
            await self.pauses.look()

    def visits(self, name: str) -> bool:
        """Whether this worker visits the source, and is not about to end that."""
        return name in self.roster and name not in self.turns.draining and not self.turns.ending

    def is_idle(self, name: str, *, rung: bool = False) -> bool:
        """Whether nothing of a source is under way or waits to be written; with `rung`, only whether no visit is due for a ring."""
        watched = self.roster.get(name)
        if watched is None:
            return True
        if watched.busy or watched.ring_pending or watched.status.ring_at is not None:
            return False
        if rung:
            return True
        return not (
            watched.writing.locked() or name in self.roster.unrecorded or self.reception.is_taking(name)
        )

    def delivers(self, sink: str) -> bool:
        """Whether a delivery to the sink may be under way, also if it was stopped."""
        return self.deliveries.runs(sink)

    def drain(self, names: Collection[str]) -> None:
        """Queue no visits of these sources, and visits of all others as usual."""
        self.turns.drain(names)

    def let_go(self, names: Iterable[str]) -> None:
        """Visit these idle sources no longer: another worker is to hold them."""
        for name in names:
            watched = self.roster.pop(name, None)
            if watched is not None:
                self.turns.drop(name, watched)
                self.roster.elsewhere[name] = watched.configured

    def keep_for(self, sinks: Iterable[str]) -> None:
        """Keep events until these sinks have them, too: those of other workers' configurations."""
        self._abroad = set(sinks)
        coming = self._sinks if self._changing.locked() else ()
        self._sinks.update(sinks)
        self._sinks.intersection_update({*self.sinks, *sinks, *coming})

    def ring(self, name: str) -> None:
        """A webhook came on another machine: visit the source, as if it had come here."""
        self.turns.ring(name)

    def received(self, name: str, at: float) -> None:
        """A webhook was received at `at` (Unix), on any machine: it is not silent."""
        watched = self.roster.get(name)
        silence = watched.silence if watched is not None else None
        if silence is not None and (silence.last_webhook is None or at > silence.last_webhook):
            silence.received(at)

    async def flush(self) -> None:
        """Write what is known of quiet visits."""
        await self._visits.flush()

    def _listen_for(self, watched: Watched, last_webhook: float | None) -> None:
        """Start or stop the detection of missing webhooks."""
        if self.listening is None or watched.source.webhook is None:
            watched.silence = None
        elif watched.silence is None:
            watched.silence = Silence(max(self.listening, self.time.now()), last_webhook)

    # -- from the start to the stop ------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Run until `stop()`."""
        commanded = await self.upkeep.begin()
        await self.pauses.look(start=True)
        await self._come_back()
        for name in commanded:  # since `setup` read when they are due
            if name in self.roster:
                self.turns.visit_now(name)
        # These objects live as long as the daemon: with 50,000 sources, scanning them took a second in each
        # collection.
        gc.collect()
        gc.freeze()
        async with asyncio.TaskGroup() as self._group:
            beat = self._group.create_task(self._beat_forever(self._group), name="beat")
            fleet: list[asyncio.Task[None]] = []
            try:
                self.upkeep.start(self._group)
                self.turns.start(self._group)
                self.deliveries.start(self._group)
                if self.fleet is not None:
                    fleet = self.fleet.start(self._group)
                self.started.set()
                await self._stop.wait()
            finally:
                for task in (beat, *fleet):
                    task.cancel()
                self.upkeep.stop()
                self.counts.stop()
                self.turns.stop()
                await self.deliveries.stop()
        await self._visits.end()
        try:
            await self._visits.flush()
        except StoreError as exc:  # the store is only a second behind
            self.trouble.report(exc)
        await self.counts.flush()

    async def _come_back(self) -> None:
        """The time without a daemon does not count as failing: no source or sink was tried."""
        now, beat = self.time.now(), await self.store.last_beat()
        away = max(0.0, now - beat) if beat is not None else 0.0
        records = {record.name: record.status for record in await self.store.statuses()}
        with suppress(StoreError):
            await self.store.beat(now)
        for name, watched in self.roster.items():
            idle = max(away, policy.unasked(records[name], now)) if name in records else away
            watched.status = policy.idle(watched.status, idle)
        self.deliveries.idle(away)

    async def once(self, *, everything: bool = False) -> bool:
        """Visit the sources that are due (or all) and deliver the log, but for what is paused. Returns whether all succeeded."""
        await self.upkeep.begin()
        await self.pauses.look(start=True)
        await self.upkeep.look_at_the_disk()
        now = self.time.now()
        due = []
        for record in await self.store.statuses():
            watched = self.roster.get(record.name)
            if watched is None or watched.status.paused is not None:
                continue
            if everything or not policy.restored(record.status, now, watched.interval).early:
                watched.status = policy.begin(watched.status, "due", now, watched.interval)
                due.append((record.name, watched))
        await self.store.begin([(name, watched.status) for name, watched in due])
        visits = await asyncio.gather(*(self._visits.visit(name, watched) for name, watched in due))
        delivered = await self.deliveries.once()
        await self._visits.flush()
        await self.counts.flush()
        await self._settle_time()  # by a wrong clock, everything is old
        await self.upkeep.prune_a_little(self.deliveries)
        return all(visits) and delivered

    async def visit(self, name: str) -> bool:
        """Make one visit to a source now. Returns whether it succeeded."""
        return await self._visits.visit(name, self.roster[name])

    def stop(self) -> None:
        """Stop promptly: polls under way are dropped, deliveries under way get the grace period."""
        self.turns.ending = True
        self._stop.set()

    async def aclose(self) -> None:
        """Close all connections."""
        for clients in (*self._retired, self.clients):
            await clients.aclose()

    # -- the heartbeat -------------------------------------------------------------------------------------------------

    async def _beat_forever(self, group: asyncio.TaskGroup) -> None:
        while True:
            await self.time.sleep(BEAT)
            await self.beat()
            if self.fleet is None or self.fleet.leads:
                self.upkeep.start_what_is_due(group, self._sinks)
            self.counts.start_what_is_due(group)

    async def beat(self) -> None:
        """Do what is due about once a second. If one part fails, the others still run."""
        self._beating = self.time.monotonic()
        for part in (
            self.upkeep.look_at_the_file,
            self._obey_commands,
            self._visits.flush,
            self.reception.flush,
            self._settle_time,
            self.upkeep.look_at_the_disk,
            self.deliveries.look,
            self.notices.flush,
            self._visits.look,
        ):
            try:
                await part()
            except StoreError as exc:
                self.trouble.report(exc)
        self._beating = None
        if self.upkeep.lost or (self.fleet is not None and self.fleet.ended):
            self.stop()

    async def _obey_commands(self) -> None:
        """React to what a command wrote into the store: a replay, a rewind, a retry, a pause."""
        commanded = await self.store.commanded()
        if commanded is not None or self.pauses.missed:
            await self.pauses.look()
        if commanded is not None:
            self.deliveries.read_again()
            self._news.publish()
            for name in commanded:
                if name in self.roster:
                    self.turns.visit_now(name)

    async def _settle_time(self) -> None:
        """Reschedule after the clock was set or the machine suspended: no burst of visits, and no gap."""
        jump = self.time.take_jump()
        if jump is None:
            return
        self.turns.reschedule()  # before anything is awaited: an alarm may ring meanwhile
        with suppress(StoreError):  # reported below
            await (
                self._obey_commands()
            )  # a command's request is a `due` in the store: read it before `due` is written
        await self.notices.publish(clock_jumped(jump.step, self.time.now()))
        await self.store.schedule([(name, watched.status) for name, watched in self.roster.items()])

    # -- health --------------------------------------------------------------------------------------------------------

    def healthy(self) -> bool:
        """Whether the engine works: no idle source is long overdue, every sink's loop runs, and the store answers."""
        hangs = self._beating is not None and self.time.monotonic() - self._beating > LATE
        return self.turns.healthy() and self.deliveries.healthy() and not hangs


def _kinds(plugins: Mapping[str, Plugin]) -> dict[str, str]:
    """Name -> type."""
    return {name: plugin.type for name, plugin in plugins.items()}  # type: ignore[attr-defined] # of sources and sinks
