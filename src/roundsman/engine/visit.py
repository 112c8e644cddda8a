"""One visit to one source: poll, commit, and write up how it fared.

A poll is a value: it is committed whole or it did not happen. `except Exception` stands here and in `delivery.py`, for
the same reason in both: whatever a plugin raises means "again later", and must not end the daemon.
"""

import asyncio
import logging
import random
from collections.abc import Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count

import httpx
import structlog

from roundsman.engine.clock import Clock
from roundsman.engine.meter import Meter
from roundsman.engine.silence import Silence
from roundsman.errors import Backoff, Denied, reason
from roundsman.events import Event, notice
from roundsman.http.client import Http
from roundsman.http.ratelimits import CAP
from roundsman.http.transport import Clients
from roundsman.plugin import Poll, Source, State, polls
from roundsman.store import Conflict, Store, StoreError, Via
from roundsman.times import parse_time

PATIENCE = 3
"""Intervals without a good answer after which a source is failing, out loud."""
RINGS_APART = 5.0
"""Seconds between two visits to a source that webhooks rang for: a flood of webhooks is not a flood of visits."""
LONG_REST = 60.0
"""Seconds that a vendor wants a rest, from which on that is said."""
SAY_EVERY = 10.0
"""Seconds between two lines in the log about one long reading."""

log = structlog.get_logger()


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
    web: Clients
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
    wanted: bool = False
    """A command wants it visited once more after the visit under way."""
    rung: bool = False
    """A webhook rang while a visit was under way."""
    ring_at: float | None = None
    """When to visit it because a webhook rang, where that is before it is due."""
    ringing: bool = False
    """The visit under way is such a one."""
    rang: float = float("-inf")
    """When the last one began."""
    unheard: int = 0
    """How many of these failed in a row. The visits that are due know nothing of it."""
    silence: Silence | None = None
    """What speaks for its webhooks having fallen silent, where they are listened to."""
    reading: Reading | None = None

    @property
    def follows(self) -> bool:
        """Whether ids may wait for it; a source that follows nothing need not look."""
        return type(self.source).follow.__func__ is not Source.follow.__func__  # type: ignore[attr-defined]

    @property
    def via(self) -> Via:
        """Who had it first, of what the visit under way finds."""
        return "ring" if self.ringing else None

    def next(self) -> float:
        """When to visit it next, rung for or not."""
        return self.due if self.ring_at is None else min(self.due, self.ring_at)

    def busy(self) -> bool:
        return self.task is not None or self.queued


def pause(interval: float, failures: int, asked: float = 0.0, jitter: float = 0.5) -> float:
    """Seconds until a source is asked again after `failures` failures in a row: doubling, up to an hour.

    Never under `interval` nor what the vendor `asked` for; `jitter` in 0..1 adds up to a tenth.
    """
    doubled = min(interval * 2.0 ** min(failures, 30), max(CAP, interval))
    return max(doubled * (1 + jitter / 10), asked)


def _gap(source: Source, state: State) -> float | None:
    """Since when something may be missing, in seconds since the epoch; 0 where nobody can tell. None: nothing is."""
    try:
        since = source.gap(state)
    except Exception:  # noqa: BLE001 - a plugin may raise anything, and what was found is to be kept all the same
        return None
    moment = parse_time(since)
    return moment.timestamp() if moment else 0.0 if since else None


def ring_pause(failures: int, interval: float, asked: float = 0.0) -> float:
    """Seconds between the beginnings of two visits that webhooks rang for: doubling where they fail, up to an interval."""
    return max(RINGS_APART, min(RINGS_APART * 2.0 ** min(failures, 20), interval), asked)


def rest(took: float, interval: float, asked: float = 0.0) -> float:
    """Seconds until a source is due after a good visit: an interval from its start, or from its end where it overran."""
    return max(interval - took if took < interval else interval, asked)


class Visits:
    """Makes visits for the engine: `wake` is called where there is something new, `noted` where the books are behind."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        meter: Meter,
        wake: Callable[[], None],
        noted: Callable[[str], None],
    ) -> None:
        self.store = store
        self._meter = meter
        self._clock = clock
        self._wake = wake
        self._noted = noted
        self._numbers = count(1)
        self.mind_clock: Callable[[], object] = lambda: None
        """Called before a time is taken that `due` will go by."""
        self.failed: Callable[[StoreError], None] = lambda exc: log.error("store.failed", error=str(exc))
        """Hears of a store that cannot be written."""

    def _now(self) -> float:
        # A clock that was set during the visit is seen first: a `due` by the new time must not be moved once more.
        self.mind_clock()
        return self._clock.now()

    async def visit(self, name: str, watch: Watch) -> bool:
        """One visit, poll after poll until nothing is left; whether it went well.

        Every line of the log that comes of it says `source` and `visit`, a number since the start.
        """
        with structlog.contextvars.bound_contextvars(source=name, visit=next(self._numbers)):
            return await self._visit(name, watch)

    async def _visit(self, name: str, watch: Watch) -> bool:
        source = watch.source
        told = lambda ids: self.store.known(name, ids)  # noqa: E731 - one line says it
        http = Http(watch.web, watch.auth, watch.identity, told, source.concurrency)
        http.rung = watch.ringing
        started = self._clock.monotonic()
        watch.reading, revision = None, 0
        while True:
            began = self._clock.monotonic()
            if not watch.ringing:
                watch.unanswered = watch.unanswered or self._clock.now()
            try:
                state, revision = self.store.state(name)
                asked, taken = state, 0
                if watch.follows:
                    ids, taken = self.store.inbox(name)
                    asked = source.follow(state, ids) if ids else state
                more = False
                async with aclosing(polls(source, http, asked)) as found:
                    async for poll in found:
                        same = (poll.state is state or poll.state == state) and not taken
                        if poll.page:
                            self._page(name, watch, revision, poll, same, taken)
                        elif watch.ringing:
                            self._answered_a_ring(name, watch, revision, poll, same, http, began, taken)
                            if http.wait:
                                return True
                        else:
                            self._good(name, watch, revision, poll, same, started, http, began, taken)
                            if http.wait:
                                return True
                        # A page that brings neither events nor a new state would bring the same again, without end.
                        more = poll.more and not (same and not poll.events)
                        state, taken, began = poll.state, 0, self._clock.monotonic()
                        await asyncio.sleep(0)  # a backlog must not keep the others waiting
                if not more:
                    return True
            except Conflict:
                log.info("source.rewound", source=name)
                await asyncio.sleep(0)
            except Exception as exc:  # noqa: BLE001 - whatever a source raises means "again later"
                if watch.ringing:
                    self._missed_a_ring(name, watch, revision, exc, http.wait)
                elif isinstance(exc, StoreError):
                    self._unwritten(name, watch, exc, max(http.wait, http.interval))
                else:
                    self._bad(name, watch, revision, exc, http.wait)
                return False

    # -- visits that a webhook rang for: what they find counts, but how a source fares is for those that are due to say --

    def _answered_a_ring(
        self,
        name: str,
        watch: Watch,
        revision: int,
        poll: Poll,
        same: bool,
        http: Http,
        began: float,
        taken: int,
    ) -> None:
        now = self._now()
        self._hold(name, watch, now, max(http.wait, http.interval))
        new = 0
        if not same or poll.events or poll.remarks or poll.unread:
            new = self._commit_as_it_fares(name, watch, revision, poll, now, taken)
        self._count(name, watch, poll, new)
        self._say(name, poll)
        watch.unheard, watch.visited = 0, now
        watch.polls += not poll.more
        self._noted(name)
        if new:
            self._wake()
        found = new + (watch.reading.new if watch.reading is not None else 0)
        ms = round((self._clock.monotonic() - began) * 1000, 1)
        log.log(logging.INFO if found else logging.DEBUG, "poll.rung", source=name, new=found, ms=ms)

    def _missed_a_ring(self, name: str, watch: Watch, revision: int, exc: Exception, asked: float) -> None:
        now = self._now()
        watch.unheard += 1
        watch.visited = now
        watch.rung = True  # it is still to be answered, a while later
        watch.polls += 1
        self._meter.polls[name, "failed"] += 1
        if isinstance(exc, Backoff):
            asked = max(asked, exc.after)
        self._failed(name, exc, watch.unheard, ring_pause(watch.unheard, watch.source.interval, asked))
        try:
            self._hold(name, watch, now, asked)
        except StoreError as error:
            self.failed(error)
            return
        if isinstance(exc, Denied) and exc.status == 401:  # that is not about one thing, and does not pass
            watch.error = reason(exc)
            self.write_up(name, watch, revision, reason(exc), loud=True, now=now)

    def _hold(self, name: str, watch: Watch, now: float, asked: float) -> None:
        """The vendor wants a rest: nobody asks before, neither after a ring nor after a restart."""
        if asked:
            watch.held = max(watch.held, now + asked)
            watch.due = max(watch.due, watch.held)
            self.store.defer([(name, watch.held)])
            self.store.claim([(name, watch.due)])

    def _commit_as_it_fares(
        self, name: str, watch: Watch, revision: int, poll: Poll, now: float, taken: int
    ) -> int:
        """Commit what was found; how the source fares stays as it is."""
        return self.store.commit(
            name,
            revision,
            poll.state,
            poll.events,
            now=now,
            due=watch.due,
            failures=watch.failures,
            unanswered=watch.unanswered,
            failing=watch.failing,
            error=watch.error,
            taken=taken,
            answered=False,
            via=watch.via,
            unread=poll.unread,
            gap=_gap(watch.source, poll.state),
        )

    # -- visits that were due ------------------------------------------------------------------------------------------

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
        taken: int,
    ) -> None:
        now = self._now()
        recovered = watch.failing is not None
        due = self._due(name, watch, poll, http, started, now)
        quiet = same and not poll.events and not poll.remarks and not poll.unread
        if quiet and not watch.failures and not recovered and watch.reading is None:
            # The common case: nothing new. `due` is on disk since the alarm rang; the rest can wait for the heartbeat.
            if due > watch.due + 0.5:
                self.store.claim([(name, due)])
            watch.due, watch.visited, watch.unanswered = due, now, None
            watch.answered = now if http.asked else watch.answered  # nothing asked, nothing answered
            watch.polls += not poll.more
            self._meter.polls[name, "unchanged"] += not poll.more
            self._noted(name)
            log.debug("poll.unchanged", source=name)
            return
        events = list(poll.events)
        if recovered:
            since = datetime.fromtimestamp(watch.failing or now, UTC)
            events.append(self._notice("roundsman.source.recovered", name, "It answers again.", since))
        new = self.store.commit(
            name,
            revision,
            poll.state,
            events,
            now=now,
            due=due,
            taken=taken,
            unread=poll.unread,
            gap=_gap(watch.source, poll.state),
        )
        self._count(name, watch, poll, new)
        self._say(name, poll)
        watch.due, watch.visited, watch.answered = due, now, now
        watch.polls += not poll.more
        self._meter.changes += watch.failures > 0 or recovered
        watch.failures, watch.unanswered, watch.failing, watch.error = 0, None, None, None
        self._noted(name)
        ms = round((self._clock.monotonic() - began) * 1000, 1)
        if recovered:
            log.info("source.recovered", source=name)
        if new:
            self._wake()
            self._mind_silence(name, watch, poll, now)
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
            say = log.info if reading.new or poll.more else log.debug
            say("poll.committed", source=name, new=reading.new, rows=reading.rows, more=poll.more, ms=ms)
        elif new:
            log.info("poll.committed", source=name, new=new, rows=poll.rows, ms=ms)
        else:
            log.debug("poll.unchanged", source=name, rows=poll.rows, ms=ms)

    def _due(self, name: str, watch: Watch, poll: Poll, http: Http, started: float, now: float) -> float:
        """When a source is due after a good visit."""
        if poll.more and not http.wait:
            return now  # a restart in the middle of a backlog goes on with it
        asked = max(http.wait, http.interval)
        watch.held = now + asked
        if asked >= LONG_REST:
            log.info("source.rests", source=name, seconds=round(asked, 1))
        if asked:
            self.store.defer([(name, watch.held)])  # `due` alone holds off neither a ring nor a command
        return now + rest(self._clock.monotonic() - started, watch.source.interval, asked)

    def _page(self, name: str, watch: Watch, revision: int, poll: Poll, same: bool, taken: int) -> None:
        """Commit what a visit has yielded on its way. How the source fares is for the visit's end to say."""
        now = self._now()
        if (poll.rows or poll.events) and not watch.ringing:
            watch.unanswered = now  # it does answer, however long the visit takes
        if same and not poll.events and not poll.remarks and not poll.unread:
            return
        new = self._commit_as_it_fares(name, watch, revision, poll, now, taken)
        self._count(name, watch, poll, new)
        self._say(name, poll)
        if new:
            self._wake()
            self._mind_silence(name, watch, poll, now)
        began = self._clock.monotonic()
        reading = watch.reading = watch.reading or Reading(began, said=began)
        reading.rows += poll.rows
        reading.new += new
        if began - reading.said >= SAY_EVERY:
            reading.said = began
            ms = round((began - reading.since) * 1000, 1)
            log.info("poll.committed", source=name, new=reading.new, rows=reading.rows, more=True, ms=ms)

    def _count(self, name: str, watch: Watch, poll: Poll, new: int) -> None:
        self._meter.events[name, watch.via or "poll"] += new
        if not poll.page and not poll.more:
            before = watch.reading.new if watch.reading is not None else 0
            self._meter.polls[name, "new" if new or before else "unchanged"] += 1

    def _mind_silence(self, name: str, watch: Watch, poll: Poll, now: float) -> None:
        """Once its webhooks have been silent for too long, tell it."""
        if watch.silence is not None and not watch.ringing:
            for event in watch.silence.find(name, poll.events, now):
                self.store.append_notices(name, [event], now)
                log.warning(
                    "source.notice", source=name, type=event.type, what=event.document()["data"]["message"]
                )

    def _say(self, name: str, poll: Poll) -> None:
        """What a person who reads the log should hear of."""
        for remark in poll.remarks:
            log.warning("vendor.surprise", source=name, what=remark)
        if poll.unread:
            self._meter.unread[name] += len(poll.unread)
            what = f"{poll.unread[0].why}; it is kept as it came: roundsman unread {name}"
            log.warning("poll.unread", source=name, rows=len(poll.unread), what=what)
        for event in poll.events:
            if event.type.startswith("roundsman."):
                what = event.document()["data"]["message"]
                log.warning("source.notice", source=name, type=event.type, what=what)

    def _bad(self, name: str, watch: Watch, revision: int, exc: Exception, asked: float) -> None:
        now = self._now()
        watch.failures += 1
        self._meter.changes += 1
        watch.visited = now
        watch.polls += 1
        self._meter.polls[name, "failed"] += 1
        if isinstance(exc, Backoff):
            asked = max(asked, exc.after)
        wait = pause(watch.source.interval, watch.failures, asked, random.random())
        watch.due, watch.held = now + wait, now + asked
        watch.error = error = reason(exc)
        self._failed(name, exc, watch.failures, wait)
        if asked:
            with suppress(StoreError):  # said below
                self.store.defer([(name, watch.held)])
        loud = isinstance(exc, Denied) or self.overdue(watch, now) or watch.failures > PATIENCE
        self.write_up(name, watch, revision, error, loud=loud, now=now)

    def _unwritten(self, name: str, watch: Watch, exc: StoreError, asked: float) -> None:
        """What a visit found could not be written down. That is not the vendor's doing, who is asked again when it is due anyway."""
        now = self._now()
        watch.visited, watch.unanswered = now, None
        watch.polls += 1
        self._meter.polls[name, "failed"] += 1
        if watch.due <= now:
            watch.due = now + watch.source.interval
        if asked:
            watch.held = now + asked
            watch.due = max(watch.due, watch.held)
        self.failed(exc)

    def _failed(self, name: str, exc: Exception, failures: int, wait: float) -> None:
        expected = isinstance(exc, Backoff | Denied | StoreError) or type(exc).__module__.startswith(
            "roundsman."
        )
        log.warning(
            "poll.failed",
            source=name,
            error=reason(exc),
            failures=failures,
            wait=round(wait, 1),
            exc_info=None if expected else exc,
        )

    def overdue(self, watch: Watch, now: float) -> bool:
        return watch.unanswered is not None and now - watch.unanswered >= PATIENCE * watch.source.interval

    def write_up(self, name: str, watch: Watch, revision: int, error: str, *, loud: bool, now: float) -> None:
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
        except (Conflict, StoreError) as exc:
            if begins:
                watch.failing = None  # it was not told; the next failure tells it
            if isinstance(exc, Conflict):
                watch.due = max(now, watch.held)  # rewound meanwhile, and wanted at once
            else:
                self.failed(exc)
            return
        try:
            self.store.failed_with(name, watch.source.fingerprint(watch.identity))
        except StoreError as exc:  # it was told all the same, and is not told again
            self.failed(exc)
        self._noted(name)
        if begins:
            self._meter.changes += 1
            log.error("source.failing", source=name, error=error)
            self._wake()

    def _notice(self, kind: str, name: str, message: str, since: datetime) -> Event:
        now = datetime.fromtimestamp(self._clock.now(), UTC)
        return notice(kind, name, since.isoformat(), message, since=since, now=now)
