"""Starts, replaces and stops the delivery loops, one per sink. Two loops never write to one place."""

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress

from roundsman.engine.delivery import Delivery
from roundsman.engine.notices import Notices, sink_gap
from roundsman.engine.shared import Shared
from roundsman.events import Event
from roundsman.http.transport import Clients
from roundsman.legacy import OldHttp
from roundsman.plugin import Sink
from roundsman.store import StoreError

GRACE = 1.5
"""Seconds that a delivery under way has to end when the daemon stops: people and systemd wait for it."""


class Deliveries(dict[str, Delivery]):
    """The delivery of every sink, by name."""

    def __init__(self, shared: Shared, notices: Notices, grace: float = GRACE) -> None:
        super().__init__()
        self._shared = shared
        self._notices = notices
        self._grace = grace
        self._group: asyncio.TaskGroup | None = None
        self._loops: dict[str, asyncio.Task[None]] = {}
        self._leaving: defaultdict[str, list[asyncio.Task[None]]] = defaultdict(list)
        """Loops that have not ended, by sink; the last is the one in `_loops`."""

    async def configure(self, sinks: Mapping[str, Sink], clients: Clients) -> dict[str, Delivery]:
        """The new set: a sink with the same options keeps its delivery. Raises StoreError, and changes nothing."""
        new = {}
        pauses = {pause.name: pause for pause in await self._shared.store.pauses() if pause.kind == "sink"}
        for name, sink in sinks.items():
            failures = await self._shared.store.failure(name)
            kept = self.get(name)
            new[name] = (
                kept
                if kept is not None and kept.sink == sink
                else Delivery(sink, OldHttp(clients), self._shared, self._notices, failures)
            )
            if new[name] is not kept and name in pauses:
                new[name].pause(pauses[name].since)
        return new

    async def gaps(self, new: Mapping[str, Delivery]) -> list[Event]:
        """Notices about events that were pruned while sinks of the new set were not in the configuration."""
        found: list[Event] = []
        with suppress(StoreError):
            for name, delivery in new.items():
                if self.get(name) is not delivery:
                    missed = await self._shared.store.lost_to_pruning(name, delivery.wanted)
                    gap = sink_gap(name, *missed, self._shared.time.now())
                    found += [gap] if gap is not None else []
        return found

    def swap(self, new: Mapping[str, Delivery], clients: Clients) -> None:
        """Take over this set. Sinks that stay open their places again."""
        before = dict(self)
        self.clear()
        self.update(new)
        for name, delivery in before.items():
            if new.get(name) is not delivery:
                delivery.stop()
                if name not in new and self._group is not None:
                    self._group.create_task(self._end(self._running(name)), name=f"end of sink {name}")
        for name, delivery in new.items():
            if before.get(name) is delivery:
                delivery.http.clients = clients
                delivery.reopen()
                continue
            if self._group is not None:
                self._start(name)

    def start(self, group: asyncio.TaskGroup) -> None:
        """Start every loop, in this group."""
        self._group = group
        for name in self:
            self._start(name)

    def _start(self, name: str) -> None:
        """Start a sink's loop once the loops that it replaces have ended."""
        assert self._group is not None
        delivery = self[name]
        before = self._running(name)

        async def loop() -> None:
            await self._end(before)
            await delivery.run()

        self._loops[name] = self._group.create_task(loop(), name=f"sink {name}")
        # All of them, because the previous loop may itself still wait for an earlier one.
        self._leaving[name] = [*before, self._loops[name]]

    def runs(self, name: str) -> bool:
        """Whether a loop of this sink has not ended, also one that was stopped."""
        return bool(self._running(name))

    def _running(self, name: str) -> list[asyncio.Task[None]]:
        """The loops of a sink that have not ended."""
        return [task for task in self._leaving[name] if not task.done()]

    async def _end(self, loops: Sequence[asyncio.Task[None]]) -> None:
        """Wait until these loops, which were stopped, have ended; those that last longer than the grace are cancelled."""
        if not loops:
            return
        await asyncio.wait(loops, timeout=self._grace)
        for task in loops:
            if not task.cancelling():
                task.cancel()
        await asyncio.wait(loops)

    async def once(self) -> bool:
        """Deliver what is in the log, but not to paused sinks. Returns whether all deliveries succeeded."""
        running = [delivery for delivery in self.values() if delivery.paused is None]
        return all(await asyncio.gather(*(delivery.once() for delivery in running)))

    def reopen(self) -> None:
        """Have every sink close its place and open it again: a log rotation has moved its file."""
        for delivery in self.values():
            delivery.reopen()

    def read_again(self) -> None:
        """Have each sink read the log again, and what it holds back: a command may have blanked some of it."""
        for delivery in self.values():
            delivery.read_again()
            if delivery.held:
                delivery.reopen()

    async def look(self) -> None:
        """Report deliveries that hang."""
        await asyncio.gather(*(delivery.look() for delivery in self.values()))

    def idle(self, seconds: float) -> None:
        """No delivery was tried for `seconds`: they do not count as failing."""
        for delivery in self.values():
            delivery.outage.idle(seconds)

    def healthy(self) -> bool:
        """Whether every sink's loop runs."""
        return all(not task.done() for name, task in self._loops.items() if name in self)

    async def stop(self) -> None:
        """Stop every loop; deliveries under way get the grace period."""
        self._group = None
        for delivery in self.values():
            delivery.stop()
        loops = [task for tasks in self._leaving.values() for task in tasks if not task.done()]
        if loops:
            _, late = await asyncio.wait(loops, timeout=self._grace)
            for task in late:
                task.cancel()
