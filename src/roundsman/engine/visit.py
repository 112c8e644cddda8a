"""One visit to one source: read, decide, commit.

A poll is a value: it is committed as a whole or not at all. `read` yields the polls, `policy` decides what
they mean, and `_settle` carries that out. `except Exception` is used here and in `delivery.py` for the same
reason: any error of a plugin means a retry, and must not end the daemon.
"""

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field, replace
from itertools import count

import structlog

from roundsman.engine import gaps, keeping, policy
from roundsman.engine.failed import log_failure, refusal
from roundsman.engine.notices import about_source
from roundsman.engine.policy import Answer, Failure, Page, Unwritten, Verdict
from roundsman.engine.reading import Step, ahead, read
from roundsman.engine.roster import Configured, Reading, Roster, Watched
from roundsman.engine.shared import Shared
from roundsman.errors import Backoff, reason
from roundsman.events import Event
from roundsman.http.client import Http
from roundsman.http.exchange import is_debugging
from roundsman.plugin import Poll, Source, State, Trigger, Visit
from roundsman.store import Conflict, Found, Memory, New, SourceStatus, StoreError, Via

LONG_REST = 60.0
"""A wait that a vendor asks for is logged from this many seconds on."""
LONGEST_WAIT = 366 * 86400.0
"""The longest wait in seconds that a plugin can ask for: `due` must stay a time that a calendar has."""
LOG_EVERY = 10.0
"""Seconds between two log lines about one long reading."""

log = structlog.get_logger()


@dataclass(slots=True)
class Run:
    """A visit under way. Times are monotonic."""

    name: str
    watched: Watched
    configured: Configured
    """The options that the visit began with. A reload does not change them."""
    visit: Visit
    started: float
    began: float
    """When the poll under way began."""
    revision: int = 0
    state: State = field(default_factory=dict)
    """The source's state at the last commit."""

    @property
    def trigger(self) -> Trigger:
        return self.visit.trigger

    @property
    def scheduled(self) -> bool:
        """Whether this is a visit that was due, or that a command asked for."""
        return self.visit.trigger != "webhook"

    @property
    def via(self) -> Via:
        """The `via` of the new events that this visit finds."""
        return None if self.scheduled else "ring"

    @property
    def wait(self) -> float:
        """Seconds that the vendor asked to wait before the next visit."""
        return min(LONGEST_WAIT, max(self.visit.wait, self.visit.http.account.interval))

    @property
    def source(self) -> Source:
        return self.configured.source

    @property
    def interval(self) -> float:
        return self.configured.source.interval


class Visits:
    """Makes visits."""

    def __init__(self, shared: Shared, roster: Roster) -> None:
        self._shared = shared
        self._store, self._time, self._meter = shared.store, shared.time, shared.meter
        self._roster = roster
        self._numbers = count(1)
        self._writes: set[asyncio.Task[New]] = set()
        """Commits under way. They are completed even if their visits are cancelled."""

    async def visit(self, name: str, watched: Watched) -> bool:
        """Make one visit, poll after poll until nothing is left. Returns whether it succeeded.

        Each of its log lines has `source` and `visit`, a number since the start.
        """
        bound = structlog.contextvars.bind_contextvars(source=name, visit=next(self._numbers))
        try:
            return await self._visit(self._begun(name, watched))
        finally:
            structlog.contextvars.reset_contextvars(**bound)

    async def _visit(self, run: Run) -> bool:
        run.watched.reading = None
        while True:
            try:
                async with aclosing(self._steps(run)) as steps:
                    async for step in steps:
                        await self._settle(run, step)
            except Conflict:
                log.info("source.rewound", source=run.name)
                if run.wait:
                    await self._rest(run)
                    return True
                await asyncio.sleep(0)
            except asyncio.CancelledError:
                if run.watched.status.paused is not None and run.wait:
                    await self._rest(run)
                raise
            except Exception as exc:  # noqa: BLE001 - any error of a source means a retry
                async with run.watched.writing:
                    await self._fail(run, exc)
                return False
            else:
                return True

    def _steps(self, run: Run) -> AsyncGenerator[Step, None]:
        """The visit's steps. The next one is requested during a commit where the source allows it."""
        chained = run.source.reads_ahead and not run.configured.tracks
        steps = read(run.source, run.visit, lambda: self._remembered(run), chained=chained)
        return ahead(steps) if chained else steps

    def _begun(self, name: str, watched: Watched) -> Run:
        source, clients, auth, identity, *_ = configured = watched.configured
        http = Http(clients, auth, identity, source.concurrency, source.retry_timeouts, asker=name)
        visit = Visit(http, watched.trigger, log=lambda ids: self._store.known(name, ids))
        now = self._time.monotonic()
        return Run(name, watched, configured, visit, now, now)

    async def _remembered(self, run: Run) -> Memory:
        """The source's current state: a rewind may have changed it since the last poll."""
        watched = run.watched
        run.began = self._time.monotonic()
        now = self._time.now()  # before the status is read: a clock that was set moves it
        watched.status = policy.asking(watched.status, run.trigger, now)
        memory = await self._store.memory(run.name)
        run.revision, run.state = memory.revision, memory.state
        return memory if run.configured.tracks else memory._replace(ids=(), taken=0)

    # -- good answers --------------------------------------------------------------------------------------------------

    async def _settle(self, run: Run, step: Step) -> None:
        """Commit what a poll found, with the source's new status."""
        watched, poll = run.watched, step.poll
        async with watched.writing:
            notices = await self._new_notices(run.name, poll)
            now, before = self._time.now(), watched.status
            verdict = policy.after(before, run.trigger, self._outcome(run, step), now, run.interval)
            with _provisional(watched, verdict.status):
                new = await self._write(run, step, before, verdict, now)
            if step.changed or watched.gap is not False:
                watched.gap = gaps.begin(run.source, poll.state) is not None
            if step.more:  # the next request may be under way already
                asked = self._time.now()  # before the status is read: a clock that was set moves it
                watched.status = policy.asking(watched.status, run.trigger, asked)
        self._roster.unrecorded.add(run.name)
        self._meter.changes += before.failures != verdict.status.failures or bool(verdict.reports)
        if new:
            await self._mind_silence(run, poll, now)
        self._count(run, poll, new, more=step.more)
        self._say(run.name, poll, notices)
        if step.changed:
            gaps.log_end(run.name, run.source, run.state, poll.state)
            run.state = poll.state
        self._log(run, step, new, verdict)

    async def _new_notices(self, name: str, poll: Poll) -> list[Event]:
        """The notices of a poll that the log does not have. A source may repeat one at each visit."""
        found = {event.id: event for event in poll.events if event.type.startswith("roundsman.")}
        known = await self._store.known(name, list(found)) if found else set()
        return [event for key, event in found.items() if key not in known]

    async def _write(self, run: Run, step: Step, before: SourceStatus, verdict: Verdict, now: float) -> New:
        """Write what a poll found, if that is anything. Returns the number of new events."""
        poll, status = step.poll, verdict.status
        settles = before.failures > 0 or before.failing_since is not None or run.watched.reading is not None
        if not step.quiet or (settles and not poll.page and run.scheduled):
            events = [*poll.events, *(about_source(run.name, report, now) for report in verdict.reports)]
            gap = gaps.begin(run.source, poll.state)
            found = Found(poll.state, events, step.taken, run.via, poll.unread, not run.scheduled, gap)
            return await self._commit(run.name, step.revision, found, status, now)
        # The common case. The next `due` was stored when the visit began; the heartbeat stores the rest.
        if status.due > before.due + 0.5 or (run.wait and not poll.page):
            await self._store.schedule([(run.name, status)])
        return New()

    async def _commit(self, name: str, revision: int, found: Found, status: SourceStatus, now: float) -> New:
        """Commit, and notify the sinks of new events, even if the visit is cancelled meanwhile. Returns their number."""
        write = asyncio.ensure_future(self._store.commit(name, revision, found, status, now))
        self._writes.add(write)
        write.add_done_callback(self._written)
        return await asyncio.shield(write)

    def _written(self, write: "asyncio.Task[New]") -> None:
        self._writes.discard(write)
        if not write.cancelled() and write.exception() is None and write.result():
            self._shared.news.publish()

    def _outcome(self, run: Run, step: Step) -> policy.Outcome:
        if step.poll.page:
            return Page(bool(step.poll.rows or step.poll.events))
        return Answer(
            took=self._time.monotonic() - run.started,
            more=step.more,
            wait=run.wait,
            asked=run.visit.http.account.asked > 0 or not step.quiet,
        )

    def _count(self, run: Run, poll: Poll, new: New, *, more: bool) -> None:
        self._meter.logged(run.name, run.via or "poll", new)
        if not poll.page and not more:
            before = run.watched.reading.new if run.watched.reading is not None else 0
            self._meter.visited(run.name, "new" if new or before else "unchanged")

    async def _mind_silence(self, run: Run, poll: Poll, now: float) -> None:
        """Report that no webhook was received for too long."""
        silence = run.watched.silence
        if silence is not None and run.scheduled:
            for event in silence.find(run.name, poll.events, now):
                await self._store.append_notices(run.name, [event], now)
                _log_notice(run.name, event)

    def _say(self, name: str, poll: Poll, notices: Sequence[Event]) -> None:
        """Log remarks, unread rows and new notices, for a person."""
        for remark in poll.remarks:
            log.warning("vendor.surprise", source=name, what=remark)
        if poll.unread:
            self._meter.unread[name] += len(poll.unread)
            what = f"{poll.unread[0].why}; {keeping.how(poll.unread[0])}: roundsman unread {name}"
            log.warning("poll.unread", source=name, rows=len(poll.unread), what=what)
        for event in notices:
            _log_notice(name, event)

    def _log(self, run: Run, step: Step, new: int, verdict: Verdict) -> None:
        """Log the visit: a line at its end, and one every `LOG_EVERY` seconds of a long reading."""
        name, poll, reading = run.name, step.poll, run.watched.reading
        if verdict.reports:
            log.info("source.recovered", source=name)
        if run.wait >= LONG_REST and not poll.page and not step.more:
            log.info("source.rests", source=name, seconds=round(run.wait, 1))
        end = self._time.monotonic()
        began, run.began = run.began, end
        ms = round((end - began) * 1000, 1)
        if poll.page and step.quiet:
            return
        if not run.scheduled and not poll.page:
            found = new + (reading.new if reading is not None else 0)
            whole = round((end - run.started) * 1000, 1)
            log.log(logging.INFO if found else logging.DEBUG, "poll.rung", source=name, new=found, ms=whole)
        elif step.more or poll.page or reading is not None:
            self._log_reading(run, step, new, began)
        elif new:
            log.info("poll.committed", source=name, new=new, rows=poll.rows, ms=ms)
        elif is_debugging():
            log.debug("poll.unchanged", source=name, rows=poll.rows, ms=ms)

    def _log_reading(self, run: Run, step: Step, new: int, began: float) -> None:
        poll, end = step.poll, run.began
        goes_on = step.more or poll.page
        reading = run.watched.reading
        if reading is None:
            reading = run.watched.reading = Reading(began, logged_at=began)
        reading.rows += poll.rows
        reading.new += new
        if goes_on and end - reading.logged_at < LOG_EVERY:
            return
        reading.logged_at = end
        ms = round((end - reading.since) * 1000, 1)
        level = logging.INFO if reading.new or goes_on else logging.DEBUG
        log.log(
            level, "poll.committed", source=run.name, new=reading.new, rows=reading.rows, more=goes_on, ms=ms
        )

    # -- no good answer ------------------------------------------------------------------------------------------------

    async def _fail(self, run: Run, exc: Exception) -> None:
        """A visit ended in an error."""
        name, watched, now = run.name, run.watched, self._time.now()
        before = watched.status
        self._meter.visited(name, "failed")
        self._roster.unrecorded.add(name)
        if run.scheduled and isinstance(exc, StoreError):
            unwritten = Unwritten(run.wait)
            watched.status = policy.after(before, run.trigger, unwritten, now, run.interval).status
            self._shared.trouble.report(exc)
            if run.wait:
                await self._schedule(name, watched.status)
            return
        asked = min(LONGEST_WAIT, max(run.visit.wait, exc.after if isinstance(exc, Backoff) else 0.0))
        outcome = Failure(reason(exc), asked, refusal(exc), random.random())
        verdict = policy.after(before, run.trigger, outcome, now, run.interval)
        status = watched.status = verdict.status
        if run.scheduled:
            self._meter.changes += 1
            failures, wait = status.failures, status.due - now
        else:
            watched.ring_pending = True  # it is still to be answered
            failures = status.ring_failures
            wait = policy.ring_debounce(failures, run.interval, asked)
        log_failure(name, exc, failures, wait, reported=bool(verdict.reports))
        if run.scheduled or verdict.reports or status.error != before.error:
            await self._record_failure(run, before, verdict, now)
        elif asked:
            await self._schedule(name, status)

    async def _rest(self, run: Run) -> None:
        """The vendor asked to wait, and the visit ends: the source was rewound, or a person has paused it. It is read
        again after the wait.
        """
        async with run.watched.writing:
            now = self._time.now()
            answered = policy.after(run.watched.status, run.trigger, Unwritten(run.wait), now, run.interval)
            run.watched.status = policy.wanted(answered.status, now)
            self._roster.unrecorded.add(run.name)
            await self._schedule(run.name, run.watched.status)

    async def _schedule(self, name: str, status: SourceStatus) -> None:
        """Write the wait that the vendor asked for, where nothing else of the visit can be written."""
        try:
            await self._store.schedule([(name, status)])
        except StoreError as exc:
            self._shared.trouble.report(exc)

    async def _record_failure(self, run: Run, before: SourceStatus, verdict: Verdict, now: float) -> None:
        """Commit a source's failure, and report it if that is due."""
        name, watched = run.name, run.watched
        status = watched.status = replace(verdict.status, failed_with=_fingerprint(run))
        events = [about_source(name, report, now) for report in verdict.reports]
        found = Found(events=events, keeps_wish=not run.scheduled)
        try:
            await self._commit(name, run.revision, found, status, now)
        except (Conflict, StoreError) as exc:
            now = self._time.now()  # the clock may have been set meanwhile, which has moved the status
            rewound = isinstance(exc, Conflict)
            watched.status = policy.unreported(watched.status, before, now, rewound=rewound)
            if isinstance(exc, StoreError):
                self._shared.trouble.report(exc)
            if watched.status.not_before > now:  # the vendor's wait still holds
                await self._schedule(name, watched.status)
            return
        if verdict.reports:
            self._meter.changes += 1
            wait = round(max(0.0, status.due - now), 1)
            log.error("source.failing", source=name, error=status.error, failures=status.failures, wait=wait)

    async def end(self) -> None:
        """Wait for commits under way, whose visits were cancelled."""
        if self._writes:
            await asyncio.wait(self._writes)

    # -- between visits ------------------------------------------------------------------------------------------------

    async def look(self) -> None:
        """Report sources without a good answer for too long: a visit that hangs raises nothing."""
        now = self._time.now()
        silent = [
            name
            for name, each in self._roster.items()
            if each.status.unanswered_since is not None and policy.silent(each.status, now, each.interval)
        ]
        # All at once: they become one transaction.
        reports = await asyncio.gather(
            *(self._report_silence(name, self._roster[name]) for name in silent), return_exceptions=True
        )
        for report in reports:
            if report is not None:
                raise report

    async def _report_silence(self, name: str, watched: Watched) -> None:
        if watched.writing.locked():
            return  # its visit is about to end
        async with watched.writing:
            run = self._begun(name, watched)
            run.revision = (await self._store.memory(name)).revision
            now = self._time.now()
            verdict = policy.silent(watched.status, now, watched.interval)
            if verdict is not None and self._roster.get(name) is watched:
                await self._record_failure(run, watched.status, verdict, now)

    async def flush(self) -> None:
        """Store the times and counts of sources that had visits since the last call."""
        unrecorded = self._roster.unrecorded
        if unrecorded:
            # A visit may end after its source was taken out of the configuration.
            there = [(name, self._roster[name].status) for name in unrecorded if name in self._roster]
            names = set(unrecorded)
            unrecorded.clear()
            try:
                await self._store.record(there)
            except BaseException:
                unrecorded |= names & self._roster.keys()
                raise


@contextmanager
def _provisional(watched: Watched, status: SourceStatus) -> Iterator[None]:
    """The source has this status while it is being written. If that fails, the earlier one holds again.

    At once, because meanwhile the heartbeat must not report a source as silent that has answered.
    """
    watched.earlier, watched.status = watched.status, status
    try:
        yield
    except Exception:
        watched.status = watched.earlier or watched.status
        raise
    finally:
        watched.earlier = None


def _fingerprint(run: Run) -> str | None:
    """The fingerprint of the options that the visit failed with; None if the plugin cannot make it."""
    try:
        return run.source.fingerprint(run.configured.identity)
    except Exception:  # noqa: BLE001 - a plugin may raise anything, and its failure is stored anyway
        return None


def _log_notice(name: str, event: Event) -> None:
    log.warning("source.notice", source=name, type=event.type, what=event.document()["data"]["message"])
