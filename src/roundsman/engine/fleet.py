"""What this worker holds, among the workers that share the store: it beats, claims, gives back, and takes over.

The engine runs over what is held, as a single daemon runs over everything. What is held by others still takes webhooks
and commands here; the holder learns of them by a word, or at its next beat.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple, Protocol

import structlog

from roundsman.engine import shares
from roundsman.engine.handover import Handover, Visiting
from roundsman.engine.roster import Configured
from roundsman.engine.shared import Shared
from roundsman.plugin import Sink
from roundsman.store import StoreError
from roundsman.store.fleet import Fleet as Session, Ring, Worker
from roundsman.store.values import Kind

DIFFER = 600.0
"""Seconds for which configurations may differ: a reload of one machine after the other takes minutes."""
LOOK_EVERY = 10.0
"""Seconds between two looks for split groups while configurations differ: each reads all holders, under the lock of claims."""
TOGETHER = 0.05
"""Seconds between two words about new events: one word for all that were committed meanwhile."""
APART = 60.0
"""Seconds by which times of webhooks from two machines may be out of order."""
SOON = 0.2
"""The same between two beats while there is more to claim or to take over."""

log = structlog.get_logger()


class Pace(NamedTuple):
    """Times of a worker, in seconds."""

    beat: float = 5.0
    """Between two beats."""
    dead: float = 20.0
    """Without a beat, until the others end a worker's session."""


class Work(Visiting, Protocol):
    """The engine, as far as it is the work on what is held."""

    async def hold(self) -> None:
        """Visit the sources and serve the sinks that this worker holds now."""

    async def flush(self) -> None:
        """Write what is known of quiet visits."""

    def visits(self, name: str) -> bool:
        """Whether this worker visits the source, and is not about to end that."""

    def is_idle(self, name: str, *, rung: bool = False) -> bool:
        """Whether nothing of a source is under way or waits to be written; with `rung`, only whether no visit is due for a ring."""

    def delivers(self, sink: str) -> bool:
        """Whether a delivery to the sink may be under way, also if it was stopped."""

    def let_go(self, names: Iterable[str]) -> None:
        """Visit these idle sources no longer: another worker is to hold them."""

    def keep_for(self, sinks: Iterable[str]) -> None:
        """Keep events until these sinks have them, too."""

    def ring(self, name: str) -> None:
        """A webhook came on another machine."""

    def received(self, name: str, at: float) -> None:
        """A webhook was received at `at` (Unix), on any machine."""

    def stop(self) -> None:
        """Stop: all that is in memory is void."""


class Fleet:
    """This worker among the others."""

    def __init__(self, shared: Shared, work: Work, session: Session, name: str, pace: Pace) -> None:
        self._shared, self._work, self.session = shared, work, session
        self.name, self._pace = name, pace
        self.held: dict[Kind, set[str]] = {"source": set(), "sink": set()}
        """What this worker holds."""
        self.workers: list[Worker] = []
        """All workers, at the last beat."""
        self._handover = Handover(work, shared.time)
        self._groups: shares.Groups = {}
        self._look_at: float | None = None
        """When (monotonic) to look next whether groups are split; None until the configuration changes."""
        self._places: dict[str, str | None] = {}
        """Each sink that this machine can serve, with the machine that its options name."""
        self._sinks: list[str] = []
        self.common = ""
        """A digest of the part of this worker's configuration that all workers have to have."""
        self._seen: dict[int, tuple[float, float]] = {}
        """The last beat of each worker, and when (as `_watched`) it came: the server's clock may be set."""
        self._last = self._watched = 0.0
        """When (monotonic) it last looked at the others' beats; and for how many seconds it has watched them."""
        self._whole = shared.time.monotonic()
        """When (monotonic) all that a beat does was last done."""
        self._unreached = False
        """Whether the server could not be reached since then."""
        self._free_since: dict[Kind, float | None] = {"source": None, "sink": None}
        self._rung: dict[str, int] = {}
        """The number of the last ring of a source that this worker has followed."""
        self._heard = shared.time.now()
        self._webhooks = False
        """Whether a configured source has webhooks."""
        self._differ: float | None = None
        """Since when (monotonic) workers have different configurations."""
        self._compared = False
        """Whether that was logged."""
        self._soon, self._news = asyncio.Event(), asyncio.Event()
        self._words: set[str] = set()

    @property
    def ended(self) -> bool:
        """Whether another worker has ended this session: all that is in memory is void."""
        return self.session.ended

    @property
    def missing(self) -> str | None:
        """What is wrong if this worker's heartbeats have failed for too long: others may take over what it holds."""
        quiet = self._shared.time.monotonic() - self._whole
        return (
            f"the heartbeats of this worker have failed for {quiet:.0f}s"
            if quiet >= self._pace.dead
            else None
        )

    @property
    def leads(self) -> bool:
        """Whether it does what one worker does for all: pruning."""
        return bool(self.workers) and self.workers[0].number == self.session.number

    # -- the configuration ---------------------------------------------------------------------------------------------

    async def offer(self, sources: Mapping[str, Configured], sinks: Mapping[str, Sink]) -> None:
        """All that any worker can hold by this configuration, before it is taken over. StoreError if that is refused."""
        await self.session.offer("source", sources)
        await self.session.offer("sink", sinks)

    def serves(self, sinks: Mapping[str, Sink]) -> dict[str, str | None]:
        """Of these sinks, those that this machine can serve, with the machine that their options name."""
        places = {name: getattr(sink, "on", None) for name, sink in sinks.items()}
        return {name: on for name, on in places.items() if on in {None, self.name}}

    def take_over(self, sources: Mapping[str, Configured], sinks: Mapping[str, Sink]) -> None:
        """From now on, claim by this configuration."""
        self._groups = shares.groups_of(sources)
        self._look_at = self._shared.time.monotonic()
        self._webhooks = any(each.source.webhook is not None for each in sources.values())
        self._sinks = list(sinks)
        self._places = self.serves(sinks)
        # Others are to visit and serve the rest; the next beat gives it back.
        for kind, held in self.held.items():
            held.intersection_update(self._known(kind))
        self._soon.set()

    # -- from the start to the stop ------------------------------------------------------------------------------------

    def start(self, group: asyncio.TaskGroup) -> list["asyncio.Task[None]"]:
        """Beat, listen and announce, until these tasks are cancelled."""
        self._shared.news.listen(self._news)
        return [
            group.create_task(self._beat_forever(), name="fleet"),
            group.create_task(self.session.listen(self._hear), name="words"),
            group.create_task(self._announce_forever(), name="announce"),
        ]

    def _hear(self, word: str) -> None:
        """A word of another worker; an empty one if some may have been lost."""
        if word in {"log", ""}:
            self._shared.news.relay(self._news)
        if word != "log":
            self._soon.set()

    async def _beat_forever(self) -> None:
        while True:
            self._soon.clear()
            try:
                more = await self.beat()
            except StoreError as exc:
                self._shared.trouble.report(exc)
                self._handover.end()  # a later beat begins again
                more = False
            if self.ended:
                self._work.stop()
                return
            with suppress(TimeoutError):
                await asyncio.wait_for(
                    self._soon.wait(), min(SOON, self._pace.beat) if more else self._pace.beat
                )

    async def _announce_forever(self) -> None:
        """Send others a word after commits with new events, and for what `say` was called for."""
        while True:
            await self._news.wait()
            self._news.clear()
            words, self._words = self._words | {"log"}, set()
            if len(self.workers) > 1:
                with suppress(StoreError):  # a word is only a hint: the others look at each beat
                    await self.session.notify(*words)
            await asyncio.sleep(TOGETHER)

    def say(self, word: str) -> None:
        """Send the others this word soon."""
        self._words.add(word)
        self._news.set()

    # -- each beat -----------------------------------------------------------------------------------------------------

    async def beat(self) -> bool:
        """Record that this worker runs, and hold its share. Returns whether there may be more to take over."""
        now = self._shared.time.monotonic()
        try:
            workers = await self.session.beat(self._sinks, self.common)
        except StoreError:
            self._unreached = True
            raise
        if self.ended:
            return False
        dead = self._silent(workers, now)
        self.workers = [each for each in workers if each not in dead and each.age <= self._pace.dead]
        if dead:
            await self._end(dead)
        self._compare(now)
        await self._balance("sink")
        await self._balance("source")
        await self._work.hold()
        await self._look_at_rings()
        await self._look_at_webhooks()
        self._work.keep_for(await self.session.all_sinks())
        self._shared.news.relay(self._news)
        self._whole = self._shared.time.monotonic()
        return self._handover.waits or any(each is not None for each in self._free_since.values())

    def _silent(self, workers: list[Worker], now: float) -> list[Worker]:
        """The workers whose beats have not changed for too long, while this one has looked."""
        late = now - self._last > self._pace.dead / 2
        if late and self._unreached:
            self._seen.clear()  # then it does not know of the others' beats
        # If beats come late without that, this machine is busy, or the program was stopped, and the others with it.
        self._watched += min(now - self._last, self._pace.dead / 2)
        self._last, self._unreached = now, False
        before, watched = self._seen, self._watched
        # At the first look, no beat counts as old: a worker may be about to reach the server again.
        ago = {each.number: min(max(each.age, 0.0), self._pace.beat) if before else 0.0 for each in workers}
        self._seen = {each.number: (each.beat, watched - ago[each.number]) for each in workers}
        for number, (beat, at) in before.items():
            if number in self._seen and self._seen[number][0] == beat:
                self._seen[number] = beat, at
        return [each for each in workers if watched - self._seen[each.number][1] >= self._pace.dead]

    def _compare(self, now: float) -> None:
        """Warn if the configurations of workers differ for longer than it takes to reload one machine after the other."""
        known = [each for each in self.workers if each.digest is not None]
        if len({each.digest for each in known}) < 2:
            self._differ, self._compared = None, False
            return
        self._differ = now if self._differ is None else self._differ
        if now - self._differ >= DIFFER and not self._compared:
            self._compared = True
            mine = next((each.digest for each in known if each.number == self.session.number), None)
            different = sorted({each.name for each in known if each.digest != mine})
            log.warning("worker.differs", worker=self.name, others=different)

    async def _end(self, dead: list[Worker]) -> None:
        await self.session.end([each.number for each in dead])
        for each in dead:
            log.warning("worker.lost", worker=each.name, pid=each.pid, seconds=round(each.age, 1))
        self.say("holds")

    @property
    def _peers(self) -> set[int]:
        """The workers with the same configuration, and this one."""
        mine = next((each.digest for each in self.workers if each.number == self.session.number), None)
        return {
            each.number for each in self.workers if each.digest == mine or None in {mine, each.digest}
        } | {self.session.number}

    async def _balance(self, kind: Kind) -> None:
        """Claim what is free, up to the share; of sources, give back what is above it."""
        counted = {each.number: (each.sources, each.sinks) for each in self.workers}
        mine = counted.get(self.session.number, (0, 0))[kind == "sink"]
        if mine != len(self.held[kind]):
            await self._read(kind)
        free, since, alone = await self.session.free(kind), None, False
        if free:  # sources that were removed, and sinks of other machines, stay free
            free &= self._known(kind)
        if free:
            now = self._shared.time.monotonic()
            since = self._free_since[kind] or now
            left: set[str] = set()
            # The worker that should have taken the rest does not.
            alone = now - since > 2 * self._pace.dead
            await self.session.claim(kind, self._chooses(kind, left, alone=alone))
            await self._read(kind)
            free -= left
        self._free_since[kind] = since if free else None
        if kind == "source" and not alone:
            await self._give_surplus()

    async def _read(self, kind: Kind) -> None:
        held = await self.session.held(kind)
        strange = held.difference(self._known(kind))
        # Two machines do not deliver to one sink at once. A later beat gives back the others.
        idle = sorted(each for each in strange if kind == "source" or not self._work.delivers(each))
        if idle:
            await self.session.give(kind, idle)
            self.say("holds")
        if held - strange != self.held[kind]:
            self.held[kind] = held - strange
            log.info(
                "worker.holds",
                sources=len(self.held["source"]),
                sinks=len(self.held["sink"]),
                workers=len(self.workers),
            )

    def _known(self, kind: Kind) -> set[str]:
        """What this worker can hold."""
        if kind == "sink":
            return set(self._places)
        return {name for names in self._groups.values() for name in names}

    def _chooses(
        self, kind: Kind, left: set[str], *, alone: bool
    ) -> Callable[[Mapping[str, int | None]], list[str]]:
        """What to claim. `left`: gets what waits for another worker."""
        me = self.session.number
        peers = 1 if alone else len(self._peers)

        def choose(holders: Mapping[str, int | None]) -> list[str]:
            if kind == "sink":
                return list(shares.sinks_to_claim(self._places, holders, me, peers))
            left.update(shares.left_to_others(self._groups, holders, me))
            return shares.claims(self._groups, holders, me, peers)

        return choose

    async def _give_surplus(self) -> None:
        over = await self._strays() or shares.surplus(self._groups, self.held["source"], len(self._peers))
        if over:
            await self._work.flush()
        names = self._handover.ready(over)
        if names:
            # At once: between the look and this, no visit can begin.
            self.held["source"].difference_update(names)
            self._work.let_go(names)
            await self.session.give("source", names)
            self.say("holds")

    async def _strays(self) -> list[Sequence[str]]:
        """What this worker holds of groups that another one is to have as a whole."""
        found: list[Sequence[str]] = []
        now = self._shared.time.monotonic()
        if self._look_at is None or now < self._look_at or len(self.workers) < 2:
            return found

        def look(holders: Mapping[str, int | None]) -> list[str]:
            found.extend(shares.strays(self._groups, holders, self.session.number, self._peers))
            return []

        # Also if this look fails, or if another worker may not have its new configuration yet.
        again = self._look_at = now + LOOK_EVERY
        await self.session.claim("source", look)
        if self._look_at == again:  # else the configuration has changed meanwhile
            if found:
                self._look_at = now  # they are given when they are idle
            elif len({each.digest for each in self.workers}) < 2:
                self._look_at = None
        return found

    # -- what came on any machine --------------------------------------------------------------------------------------

    def rang(self, name: str, number: int) -> bool:
        """A webhook that rings was stored here. Returns whether to follow it now."""
        if not self._work.visits(name):
            self.say("ring")
            return False
        return self._follows(Ring(name, number))

    def _follows(self, ring: Ring) -> bool:
        """Whether this ring, or a later one, was not followed yet. From now on, it was."""
        is_new = self._rung.get(ring.source, 0) < ring.number
        if is_new:
            self._rung[ring.source] = ring.number
        return is_new

    async def _look_at_rings(self) -> None:
        """Follow the rings of what is held. One is deleted after its visit, so that a new holder finds it."""
        done: list[Ring] = []
        self._rung = {name: number for name, number in self._rung.items() if self._work.visits(name)}
        for ring in await self.session.rings():
            if not self._work.visits(ring.source):
                continue
            if self._follows(ring):
                self._work.ring(ring.source)
            elif self._work.is_idle(ring.source, rung=True):
                done.append(ring)
        if done:
            await self.session.answered(done)
            for ring in done:
                if self._rung.get(ring.source) == ring.number:
                    del self._rung[ring.source]

    async def _look_at_webhooks(self) -> None:
        """Learn of webhooks that came on any machine: without them, a source's webhooks would count as silent."""
        if not self._webhooks:
            return  # it reads every source
        # Clocks of machines differ, and what was received first may be committed last.
        for name, at in (await self.session.heard(self._heard - APART)).items():
            self._work.received(name, at)
            self._heard = max(self._heard, at)
