"""Delivers the log to one sink: read, deliver, ack; if it fails, back off and retry, or bury."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from typing import Any

import structlog

from roundsman.engine.burials import Burials
from roundsman.engine.keeping import asking, delivering
from roundsman.engine.notices import SINK_PATIENCE, Notices
from roundsman.engine.outage import Outage
from roundsman.engine.position import Position
from roundsman.engine.shared import STORE_AGAIN, Shared
from roundsman.errors import Backoff, Reject, RequestFailed, reason
from roundsman.events import Event
from roundsman.http.client import Http
from roundsman.plugin import Deliver, Joins, Receipt, Reminds, Sink, Waiting
from roundsman.store import NEVER, Conflict, Filter, Later, StoreError

READ_AHEAD = 1000
"""Minimum number of events that are requested from the store at a time."""
FIRST, LONGEST = 1.0, 300.0
"""Seconds between two tries of a sink that fails: the first wait, which then doubles, and the longest."""

log = structlog.get_logger()


def delivery_backoff(failures: int, asked: float = 0.0, jitter: float = 0.5) -> float:
    """Seconds to wait after `failures` failures in a row; `jitter` in 0..1 varies them by a quarter."""
    return max(asked, min(LONGEST, FIRST * 2.0 ** min(failures - 1, 20) * (0.75 + jitter / 2)))


def wanted_by(sink: Sink) -> Filter:
    """The events that a sink selects."""
    return Filter.of(sink.types, sink.sources, sink.outcomes, for_people=sink.for_people)


class Delivery:
    """Delivers the log to one sink, from the sink's cursor on, until it is stopped."""

    def __init__(
        self,
        sink: Sink,
        http: Http,
        shared: Shared,
        notices: Notices,
        failures: tuple[int, float | None] = (0, None),
    ) -> None:
        """`failures`: how often it has failed in a row, and since when (Unix)."""
        self.sink = sink
        self.name = sink.name
        self.http = http
        self.wanted = wanted_by(sink)
        self._store, self._meter = shared.store, shared.meter
        self._now, self._monotonic = shared.time.now, shared.time.monotonic
        self._trouble = shared.trouble
        self._news = shared.news
        self._burials = Burials(self.name, self._monotonic)
        self._position = Position(self._store.joint, self.name, self._now)
        self._wake = asyncio.Event()
        self._stop = asyncio.Event()
        self._reopen = False
        self._stale = False
        """A command has written into the store since the log was read: it may have blanked what was read."""
        self._later = NEVER
        """When the sink is called again on purpose, also without events."""
        self._due: float | None = None
        """The same by the monotonic clock, for a clock that is set back; None if it is not called."""
        self.outage = Outage(self.name, shared, notices, failures)
        self._unread = 0
        """How often in a row the store has failed before the sink was called."""
        self._unnoted = False
        """The sink was called, and its answer is not in the store yet."""
        self._nudge = asyncio.Event()
        """Ends the wait after a failure: a person has paused or resumed it, or it stops."""
        self._under_way: float | None = None
        """Since when (monotonic) it has been opening the place or delivering; None if it does neither."""

    @property
    def paused(self) -> float | None:
        """Since when a person has paused it (Unix); None if none has."""
        return self.outage.paused

    @property
    def held(self) -> int:
        """Events that the sink has acked, and sends later on purpose."""
        return self._later.held

    def reopen(self) -> None:
        """Close the place and open it again, between two deliveries: a log rotation has moved the file."""
        self._reopen = True
        self._wake.set()

    def read_again(self) -> None:
        """Read the log again after the delivery under way: a command has written into the store."""
        self._stale = True

    def stop(self) -> None:
        """Stop after the delivery under way."""
        self._stop.set()
        self._nudge.set()
        self._wake.set()

    def pause(self, since: float) -> None:
        """A person has paused it at `since` (Unix): its place is closed after the delivery under way, and events wait."""
        self.outage.pause(since)
        self._nudge.set()
        self._wake.set()

    def resume(self) -> None:
        """The pause has ended: it continues at its cursor. The pause does not count as time in which it failed."""
        self.outage.resume()
        if self._under_way is not None:
            self._under_way = self._monotonic()
        self._nudge.set()
        self._wake.set()

    async def run(self) -> None:
        structlog.contextvars.bind_contextvars(sink=self.name)  # in every log line of this task
        self._news.listen(self._wake)
        try:
            await self._deliver()
        finally:
            self._news.leave(self._wake)
            self._burials.flush()

    async def _deliver(self) -> None:
        while not self._stop.is_set():
            if self.paused is not None:
                self._wake.clear()
                await self._wake.wait()
                continue
            try:
                self._nudge.clear()
                self._unnoted = False
                self._reopen = False  # before opening: a file that is moved meanwhile is opened again
                async with self._opened() as deliver:
                    await self._pump(deliver)
            except asyncio.CancelledError:
                if not _cancelled():  # the sink raised it; this task was not cancelled
                    await self._again(RuntimeError("the sink cancelled itself"))
                else:
                    raise
            except StoreError as exc:
                # Each try with an answer that cannot be noted is a repeat for the receiver: it gets longer waits.
                await (self._again(exc) if self._unnoted else self._store_failed(exc))
            except Exception as exc:  # noqa: BLE001 - any error of a sink means a retry
                await self._again(exc)

    async def once(self) -> bool:
        """Deliver what is in the log, without retries. Returns whether it succeeded."""
        try:
            self._reopen = True
            while self._reopen:
                self._reopen = self._unnoted = False
                async with self._opened() as deliver:
                    while await self.step(deliver) and not self._reopen:
                        pass
            await self.outage.ended()
        except StoreError as exc:
            if self._unnoted:
                await self.outage.failed(exc, 0.0)
            else:
                self._trouble.report(exc)
            return False
        except Exception as exc:  # noqa: BLE001 - any error of a sink means a retry, at the next call
            await self.outage.failed(exc, 0.0)
            return False
        finally:
            self._burials.flush()
        return True

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[Deliver]:
        _, receipt = await self._store.cursor(self.name)
        self._expect(await self._store.later(self.name))
        # Its options may have changed, and the clock may have been set back: it decides anew.
        self._due = None if self._due is None else self._monotonic()
        if isinstance(self.sink, Reminds):
            place = self.sink.open_with(self.http, receipt, asking(self.sink, self._still_open))
        elif isinstance(self.sink, Joins):
            place = self.sink.open_with_position(self.http, receipt, self._position)
        else:
            place = self.sink.open(self.http, receipt)
        async with AsyncExitStack() as stack:
            with self._at_work():
                deliver = await stack.enter_async_context(place)
            yield delivering(self.sink, deliver)

    async def _still_open(self, after: int, most: int) -> tuple[int, Sequence[Event]]:
        """What `Reminds` may ask the log."""
        cursor, _ = await self._store.cursor(self.name)
        found = await self._store.still_open(self.wanted, (after, cursor), most)
        return found.total, [each.event for each in found.newest]

    @contextmanager
    def _at_work(self) -> Iterator[None]:
        """Marks a call that may hang, for `look`."""
        self._under_way = self._monotonic()
        try:
            yield
        finally:
            self._under_way = None

    async def step(self, deliver: Deliver) -> bool:
        """Retry requeued dead letters, read the log once, and deliver. Returns whether there may be more."""
        self._stale = False
        try:
            for event in await self._store.retries(self.name):
                if self.paused is not None or self._stale:
                    return True
                if event.sound:
                    await self._retry(deliver, event)
                else:
                    await self._bury_damaged(event)
            cursor, events, head, damaged = await self._store.read(
                self.name, max(READ_AHEAD, self.sink.batch), self.wanted
            )
            for event in damaged:
                await self._bury_damaged(event)
            for at in range(0, len(events), self.sink.batch):
                if self._stop.is_set():
                    return False
                if self.paused is not None or self._stale:
                    return True
                cursor = await self._chunk(deliver, cursor, events[at : at + self.sink.batch])
            if events and (self.paused is not None or self._stale):
                return True  # not all of them may be delivered
            end = damaged[-1].seq if damaged else cursor if events else head
            if end > cursor:
                await self._store.ack(self.name, cursor, end, None, self._now(), moved=False)
            if self._is_time() and not (events or self._stop.is_set()):
                await self._chunk(deliver, max(cursor, end), [])
            return bool(events) or end > cursor
        except Conflict:
            self._reopen = True  # what the sink holds is ahead of its receipt
            return True

    def _is_time(self) -> bool:
        """Whether the sink has asked to be called by now, also without events."""
        until, due = self._later.until, self._due
        return until is not None and due is not None and (until <= self._now() or due <= self._monotonic())

    def _expect(self, later: Later) -> None:
        """The sink is called again `later`."""
        self._later = later
        self._due = None if later.until is None else self._monotonic() + max(0.0, later.until - self._now())

    async def _bury_damaged(self, event: Event) -> None:
        """An event that is not JSON is buried, and no sink gets it."""
        why = "the store is damaged: the event cannot be read"
        await self._store.bury_again(self.name, event.seq, why, self._now())
        self._burials.add(event, why)

    async def _pump(self, deliver: Deliver) -> None:
        while not (self._stop.is_set() or self._reopen or self.paused is not None):
            self._wake.clear()
            if await self.step(deliver):
                continue
            await self.outage.ended()  # opening may have failed, and now succeeded
            self._unread = 0
            if not self._wake.is_set():
                await self._wake.wait()

    async def _chunk(self, deliver: Deliver, cursor: int, events: Sequence[Event]) -> int:
        """Deliver and ack these events, or call the sink without any. Returns the new cursor.

        If the sink rejects them, they are delivered one by one, so that only the bad event is buried.
        """
        began = time.perf_counter()
        self._position.expect(cursor, events)
        try:
            with self._at_work():
                self._unnoted = True
                receipt = await deliver(events)
        except Reject as reject:
            if not events:
                raise RequestFailed(f"what was held back is refused: {reject}") from None
            if len(events) > 1:
                self._unnoted = False
                for event in events:
                    if self.paused is None and not self._stale:
                        cursor = await self._chunk(deliver, cursor, [event])
                return cursor
            [event] = events
            why = reason(reject)
            await self._store.bury(self.name, cursor, event.seq, why, self._now())
            self._unnoted = False
            self._burials.add(event, why)
            return event.seq
        end = events[-1].seq if events else cursor
        await self._acked(cursor, end, receipt)
        self._unnoted = False
        for event, why in self._position.buried:
            self._burials.add(event, why)
        self._meter.delivered(self.name, len(events) - len(self._position.buried))
        ms = round((time.perf_counter() - began) * 1000, 1)
        log.debug("sink.delivered", sink=self.name, events=len(events), ms=ms)
        await self.outage.ended()
        return end

    async def _retry(self, deliver: Deliver, event: Event) -> None:
        self._position.expect(0, [event], retried=True)
        try:
            with self._at_work():
                self._unnoted = True
                receipt = await deliver([event])
        except Conflict:
            raise
        except Exception as exc:
            why = reason(exc)
            await self._store.bury_again(self.name, event.seq, why, self._now())
            self._unnoted = False
            self._burials.add(event, why)
            if not isinstance(exc, Reject):
                raise  # the place is closed and opened again
        else:
            await _to_its_end(self._raised(event, receipt))

    async def _raised(self, event: Event, receipt: Receipt | Waiting | None) -> None:
        """A dead letter was delivered."""
        cursor, _ = await self._store.cursor(self.name)
        await self._acked(cursor, cursor, receipt)
        self._meter.delivered(self.name, 1)
        if not self._position.moved:
            await self._store.drop_dead(self.name, [event.seq])
        self._unnoted = False
        log.info("event.raised", sink=self.name, seq=event.seq, id=event.id)
        await self.outage.ended()

    async def _acked(self, was: int, cursor: int, receipt: Receipt | Waiting | None) -> None:
        later, kept = NEVER, receipt
        if isinstance(receipt, Waiting):
            later, kept = Later(receipt.until, receipt.held), receipt.receipt
        assert not isinstance(kept, Waiting)
        if not self._position.moved:
            await _to_its_end(self._store.ack(self.name, was, cursor, kept, self._now(), later=later))
        self._expect(later)

    async def look(self) -> None:
        """Wake up at the time that the sink has asked for. Count a call that hangs for `SINK_PATIENCE` seconds as a
        failure: it raises nothing. Log what was buried in the last minute.
        """
        self._burials.look()
        if self._under_way is None or self.paused is not None:
            if self._is_time():
                self._wake.set()
            return
        lasts = self._monotonic() - self._under_way
        if lasts > SINK_PATIENCE:
            self._under_way = self._monotonic()
            await self.outage.hangs(lasts)

    async def _again(self, exc: Exception) -> None:
        """The sink has failed: it is tried again after a while."""
        asked = exc.after if isinstance(exc, Backoff) else 0.0
        wait = delivery_backoff(self.outage.failures + 1, asked, random.random())
        self._burials.flush()
        await self.outage.failed(exc, wait)
        with suppress(TimeoutError):
            await asyncio.wait_for((self._stop if asked else self._nudge).wait(), wait)

    async def _store_failed(self, exc: StoreError) -> None:
        """The store has failed before the sink was called, so this is no failure of the sink."""
        self._unread += 1
        self._trouble.report(exc)
        began = self._monotonic()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._nudge.wait(), min(STORE_AGAIN, delivery_backoff(self._unread)))
        self.outage.idle(self._monotonic() - began)


async def _to_its_end(work: Coroutine[Any, Any, None]) -> None:
    """Do this even if the current task is cancelled meanwhile: what was delivered is acked. Only then the task ends, so
    that a loop which replaces it reads the new cursor.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        if not task.done():
            await asyncio.wait([task])
        raise


def _cancelled() -> bool:
    """Whether the current task was cancelled."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
