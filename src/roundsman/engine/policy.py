"""The policy: what a visit's outcome means for its source, as pure functions. No clock, no store, no I/O.

Each function takes a `SourceStatus` and returns a new one. Times are Unix times, durations are seconds. The caller gives
`now` and the source's `interval`; randomness comes in with the outcome.

    restored     a status as the store has it, when the daemon starts
    begin        a visit begins                       -> the next `due`, written before the first request
    after        a visit came to something            -> the new status, and what to report
    silent       no good answer for too long          -> the same, if that is so
    ring         a webhook rings                      -> when to answer it
    wanted, mended, postponed, stepped, slept         what else moves a visit
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Literal, NamedTuple

from roundsman.http.ratelimits import CAP
from roundsman.plugin import Trigger
from roundsman.store import SourceStatus
from roundsman.times import rfc3339, spell

FAILING_AFTER = 3
"""Intervals without a good answer, or failures in a row, after which a source is reported as failing."""
DEBOUNCE = 5.0
"""Seconds between two webhook-triggered visits to a source: a flood of webhooks is not a flood of visits."""


class Page(NamedTuple):
    """A poll that was yielded on the way. Only the end of the visit decides how the source fares."""

    answers: bool
    """It brings rows or events: the source does answer, however long the visit takes."""


class Answer(NamedTuple):
    """A good answer."""

    took: float
    """Seconds since the visit began."""
    more: bool = False
    """A backlog: the visit goes on at once."""
    wait: float = 0.0
    """Seconds until the vendor wants the next request."""
    asked: bool = True
    """Whether a request was made. A visit with nothing to ask is no answer."""


Refusal = Literal["denied", "unauthorized"] | None
"""Whether the credentials are refused; `unauthorized` is a 401, which is about no single thing and does not pass."""


class Failure(NamedTuple):
    """No good answer."""

    error: str
    wait: float = 0.0
    """Seconds until the vendor wants the next request."""
    refusal: Refusal = None
    jitter: float = 0.5
    """A random number in 0..1: sources that failed together are not asked again together."""


class Unwritten(NamedTuple):
    """The store could not take what the visit found. The vendor is not at fault."""

    wait: float = 0.0


Outcome = Page | Answer | Failure | Unwritten


class Report(NamedTuple):
    """Something to report about a source, as an event for every sink."""

    kind: Literal["roundsman.source.failing", "roundsman.source.recovered"]
    message: str
    since: float
    """What the event's id and its `since` are made of."""


class Verdict(NamedTuple):
    """What an outcome means."""

    status: SourceStatus
    reports: Sequence[Report] = ()


# -- how long ----------------------------------------------------------------------------------------------------------


def backoff(interval: float, failures: int, asked: float = 0.0, jitter: float = 0.5) -> float:
    """Seconds until a source is asked again after `failures` failures in a row: doubling, up to an hour.

    Never under `interval` nor what the vendor `asked` for; `jitter` in 0..1 adds up to a tenth.
    """
    doubled = min(interval * 2.0 ** min(failures, 30), max(CAP, interval))
    return max(doubled * (1 + jitter / 10), asked)


def ring_debounce(failures: int, interval: float, asked: float = 0.0) -> float:
    """Seconds between the beginnings of two webhook-triggered visits: doubling while they fail, up to an interval."""
    return max(DEBOUNCE, min(DEBOUNCE * 2.0 ** min(failures, 20), interval), asked)


def next_due(took: float, interval: float, asked: float = 0.0) -> float:
    """Seconds until a source is due after a good visit: an interval after its start, or after its end if it overran."""
    return max(interval - took if took < interval else interval, asked)


def longest_lead(interval: float, *, waits: bool = True) -> float:
    """Seconds that a `due` can lie ahead. If it is more, the clock was set back.

    `waits`: the source fails, or its vendor asked for time; otherwise a `due` is an interval ahead at most.
    """
    return (max(interval, CAP) if waits else interval) * 1.1


# -- a status from the store -------------------------------------------------------------------------------------------


class Restored(NamedTuple):
    """A stored status, with its times as far as they are believed."""

    status: SourceStatus
    """Its `due` is in the past, or no further ahead than anything legitimate."""
    early: bool
    """A stored time that is believed lies ahead: the source is not due."""


def restored(stored: SourceStatus, now: float, interval: float) -> Restored:
    """When a stored `due` and `not_before` are believed: if they lie no further ahead than a policy could have put them."""
    rest = stored.not_before
    if stored.last_visit is not None and stored.last_visit > now:
        rest += now - stored.last_visit  # the clock was set back since the vendor asked for time
    longest = longest_lead(interval)
    resting = now < rest < now + longest
    bound = now + longest_lead(interval, waits=stored.failures > 0 or rest > now)
    early = resting or now < stored.due < now + longest
    due, not_before = min(stored.due, bound), min(rest, now + longest)
    return Restored(replace(stored, due=max(due, not_before), not_before=not_before), early)


def mended(status: SourceStatus, now: float, interval: float) -> SourceStatus:
    """Its options were changed, presumably by a person who has mended it: a long backoff ends, the vendor's rest does not."""
    soon = max(now, status.not_before, (status.last_visit or 0.0) + interval)
    return replace(status, due=min(status.due, soon))


# -- a visit -----------------------------------------------------------------------------------------------------------


def trigger_of(status: SourceStatus, now: float) -> Trigger:
    """What a visit that begins now is for. A scheduled visit answers a ring, too."""
    return "webhook" if status.ring_at is not None and status.due > now else "due"


def begin(status: SourceStatus, trigger: Trigger, now: float, interval: float) -> SourceStatus:
    """A visit begins. Its next `due` is on the disk before the first request: a crash is no early visit."""
    if trigger == "webhook":  # the scheduled visit keeps its time
        apart = max(status.not_before, now + DEBOUNCE)  # also after a crash
        return replace(status, ring_at=None, last_ring=now, not_before=apart)
    return asking(replace(status, ring_at=None, due=now + interval), trigger, now)


def asking(status: SourceStatus, trigger: Trigger, now: float) -> SourceStatus:
    """A request is about to be made; only scheduled visits decide how a source fares."""
    if trigger == "webhook" or status.unanswered_since is not None:
        return status
    return replace(status, unanswered_since=now)


def postponed(status: SourceStatus, trigger: Trigger, until: float) -> SourceStatus:
    """A visit could not begin, since the store could not take its next `due`."""
    if trigger == "webhook":
        return replace(status, ring_at=until)
    return replace(status, due=until, ring_at=None)


def after(status: SourceStatus, trigger: Trigger, outcome: Outcome, now: float, interval: float) -> Verdict:
    """What an outcome means for its source."""
    match outcome:
        case Page():
            answers = outcome.answers and trigger != "webhook"
            unanswered = now if answers else status.unanswered_since
            return Verdict(replace(status, last_visit=now, unanswered_since=unanswered))
        case Answer() if trigger == "webhook":
            return Verdict(
                replace(
                    rested(status, now, outcome.wait),
                    ring_failures=0,
                    last_visit=now,
                    visits=status.visits + (not outcome.more),
                )
            )
        case Answer():
            return _answered(status, outcome, now, interval)
        case Failure() if trigger == "webhook":
            status = replace(
                rested(status, now, outcome.wait),
                ring_failures=status.ring_failures + 1,
                last_visit=now,
                visits=status.visits + 1,
            )
            if outcome.refusal == "unauthorized":
                return _failing(replace(status, error=outcome.error), now)
            return Verdict(status)
        case Failure():
            return _failed(status, outcome, now, interval)
        case Unwritten():
            status = replace(
                status,
                due=now + interval if status.due <= now else status.due,
                last_visit=now,
                visits=status.visits + 1,
                unanswered_since=None,
            )
            return Verdict(rested(status, now, outcome.wait))


def _answered(status: SourceStatus, outcome: Answer, now: float, interval: float) -> Verdict:
    """The end of a scheduled visit that went well, or one of its polls."""
    if outcome.more:
        due, not_before = now, status.not_before  # after a restart the backlog goes on
    else:
        due, not_before = now + next_due(outcome.took, interval, outcome.wait), now + outcome.wait
    fails = status.failures > 0 or status.failing_since is not None
    reports = []
    if status.failing_since is not None:
        reports.append(Report("roundsman.source.recovered", "It answers again.", status.failing_since))
    new = replace(
        status,
        due=due,
        not_before=not_before,
        last_visit=now,
        last_success=now if outcome.asked or fails else status.last_success,
        visits=status.visits + (not outcome.more),
        failures=0,
        failing_since=None,
        unanswered_since=None,
        error=None,
    )
    return Verdict(new, reports)


def _failed(status: SourceStatus, outcome: Failure, now: float, interval: float) -> Verdict:
    """A scheduled visit that failed."""
    failures = status.failures + 1
    status = replace(
        status,
        due=now + backoff(interval, failures, outcome.wait, outcome.jitter),
        not_before=now + outcome.wait,
        last_visit=now,
        visits=status.visits + 1,
        failures=failures,
        error=outcome.error,
    )
    if outcome.refusal or failures > FAILING_AFTER or overdue(status, now, interval):
        return _failing(status, now)
    return Verdict(status)


def _failing(status: SourceStatus, now: float) -> Verdict:
    """A source is failing: that is reported once."""
    if status.failing_since is not None:
        return Verdict(status)
    since = datetime.fromtimestamp(status.last_success or status.unanswered_since or now, UTC)
    message = f"No good answer since {rfc3339(since.replace(microsecond=0))}: {status.error}"
    return Verdict(replace(status, failing_since=now), [Report("roundsman.source.failing", message, now)])


def rested(status: SourceStatus, now: float, wait: float) -> SourceStatus:
    """The vendor asked for time: no request is made before, neither for a ring nor after a restart."""
    if not wait:
        return status
    not_before = max(status.not_before, now + wait)
    return replace(status, not_before=not_before, due=max(status.due, not_before))


def overdue(status: SourceStatus, now: float, interval: float) -> bool:
    """Whether there was no good answer for `FAILING_AFTER` intervals."""
    unanswered = status.unanswered_since
    return unanswered is not None and now - unanswered >= FAILING_AFTER * interval


def silent(status: SourceStatus, now: float, interval: float) -> Verdict | None:
    """Between visits: a visit that hangs is no answer either, nor is a vendor that wants no request for an hour."""
    if status.failing_since is not None or not overdue(status, now, interval):
        return None
    error = status.error or f"no answer for {spell(now - (status.unanswered_since or now))}"
    return _failing(replace(status, error=error), now)


def unreported(status: SourceStatus, before: SourceStatus, now: float, *, rewound: bool) -> SourceStatus:
    """A failure could not be stored: the next failure reports it. After a rewind the source is wanted at once."""
    due = max(now, status.not_before) if rewound else status.due
    return replace(status, failing_since=before.failing_since, due=due)


# -- what else moves a visit -------------------------------------------------------------------------------------------


def ring(status: SourceStatus, now: float, interval: float) -> SourceStatus:
    """A webhook rings: the visit that answers it, unless the scheduled one comes soon enough.

    It is never before the vendor wants a request, nor within an interval of the last visit while the source fails.
    """
    if status.ring_at is not None:
        return status
    fails = status.failures > 0 or status.failing_since is not None
    spaced = (status.last_visit or 0.0) + interval if fails else 0.0
    apart = status.last_ring + ring_debounce(status.ring_failures, interval)
    at = max(now, apart, status.not_before, spaced)
    if at >= status.due or (fails and status.due - at < interval):
        return status
    return replace(status, ring_at=at)


def wanted(status: SourceStatus, now: float) -> SourceStatus:
    """A command wants a visit now, or as soon as the vendor wants a request."""
    return replace(status, due=max(now, status.not_before))


def stepped(status: SourceStatus, seconds: float) -> SourceStatus:
    """The clock was set: the distance to every time is kept."""

    def moved(at: float | None) -> float | None:
        return None if at is None else at + seconds

    return replace(
        status,
        due=status.due + seconds,
        not_before=status.not_before + seconds,
        last_visit=moved(status.last_visit),
        unanswered_since=moved(status.unanswered_since),
        ring_at=moved(status.ring_at),
        last_ring=status.last_ring + seconds,
    )


def slept(status: SourceStatus, seconds: float, soonest: float) -> SourceStatus:
    """The machine was suspended: nothing was asked meanwhile, and nothing is asked before `soonest`."""
    return replace(
        idle(status, seconds),
        due=max(status.due, soonest),
        ring_at=None if status.ring_at is None else max(status.ring_at, soonest),
    )


def idle(status: SourceStatus, seconds: float) -> SourceStatus:
    """No daemon asked for so long: a source that did not answer before did not fail meanwhile."""
    if status.unanswered_since is None:
        return status
    return replace(status, unanswered_since=status.unanswered_since + seconds)
