"""The policy: what a visit's outcome means for its source, as pure functions. No clock, no store, no I/O.

Each function takes a `SourceStatus` and returns a new one. Times are Unix times, durations are seconds. The
caller gives `now` and the source's `interval`; an outcome carries its own randomness.

    restored     a status as the store has it, when the daemon starts
    begin        a visit begins                       -> the next `due`, written before the first request
    after        a poll or a visit has an outcome     -> the new status, and what to report
    silent       no good answer for too long          -> the same; None if that is not so
    ring         a webhook rings                      -> when to answer it
    paused, resumed      a person's pause             -> no visit, and no report, until its end
    wanted, mended, postponed, stepped, slept         other reasons to move a visit
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
"""Minimum seconds between two webhook-triggered visits to a source, however many webhooks come."""


class Page(NamedTuple):
    """A yielded poll. Only the end of the visit decides the source's status."""

    answers: bool
    """It has rows or events: the source answers, even if the visit takes long."""


class Answer(NamedTuple):
    """A good answer."""

    took: float
    """Seconds since the visit began."""
    more: bool = False
    """There is a backlog: the visit continues at once."""
    wait: float = 0.0
    """Seconds that the vendor asked to wait."""
    asked: bool = True
    """Whether a request was made. A visit without one is not a good answer."""


Refusal = Literal["denied", "unauthorized"] | None
"""Whether the credentials are refused. `unauthorized` is a 401: it affects all requests, and is permanent."""


class Failure(NamedTuple):
    """No good answer."""

    error: str
    wait: float = 0.0
    """Seconds that the vendor asked to wait."""
    refusal: Refusal = None
    jitter: float = 0.5
    """A random number in 0..1: sources that failed together are not retried together."""


class Unwritten(NamedTuple):
    """What the visit found could not be stored. The vendor is not at fault."""

    wait: float = 0.0


Outcome = Page | Answer | Failure | Unwritten


class Report(NamedTuple):
    """Something to report about a source, as an event for every sink."""

    kind: Literal["roundsman.source.failing", "roundsman.source.recovered"]
    message: str
    since: float
    """The Unix time that the event's id and its `since` are made of."""


class Verdict(NamedTuple):
    """The new status after an outcome, and what to report."""

    status: SourceStatus
    reports: Sequence[Report] = ()


# -- durations ---------------------------------------------------------------------------------------------------------


def backoff(interval: float, failures: int, asked: float = 0.0, jitter: float = 0.5) -> float:
    """Seconds until a source is asked again after `failures` failures in a row: doubling, up to an hour.

    Never less than `interval` or what the vendor `asked` for; `jitter` in 0..1 adds up to a tenth.
    """
    doubled = min(interval * 2.0 ** min(failures, 30), max(CAP, interval))
    return max(doubled * (1 + jitter / 10), asked)


def ring_debounce(failures: int, interval: float, asked: float = 0.0) -> float:
    """Seconds between the starts of two webhook-triggered visits: doubled if they fail, up to an interval."""
    return max(DEBOUNCE, min(DEBOUNCE * 2.0 ** min(failures, 20), interval), asked)


def next_due(took: float, interval: float, asked: float = 0.0) -> float:
    """Seconds until `due` after a good visit: an interval after its start, or after its end if it overran."""
    return max(interval - took if took < interval else interval, asked)


def longest_lead(interval: float, *, waits: bool = True) -> float:
    """Maximum seconds that a `due` can be in the future. If it is more, the clock was set back.

    `waits`: the source fails, or its vendor asked to wait; otherwise `due` is at most an interval ahead.
    """
    return (max(interval, CAP) if waits else interval) * 1.1


# -- a status from the store -------------------------------------------------------------------------------------------


class Restored(NamedTuple):
    """A stored status, with its times limited to plausible ones."""

    status: SourceStatus
    """Its `due` is in the past, or no further in the future than a policy can set it."""
    early: bool
    """A plausible stored time is in the future: the source is not due."""


def restored(stored: SourceStatus, now: float, interval: float) -> Restored:
    """Believe a stored `due` and `not_before` only if they are no later than a policy could have set them."""
    rest = stored.not_before
    if stored.last_visit is not None and stored.last_visit > now:
        rest += now - stored.last_visit  # the clock was set back since the vendor asked to wait
    longest = longest_lead(interval)
    resting = now < rest < now + longest
    bound = now + longest_lead(interval, waits=stored.failures > 0 or rest > now)
    early = resting or now < stored.due < now + longest
    due, not_before = min(stored.due, bound), min(rest, now + longest)
    return Restored(replace(stored, due=max(due, not_before), not_before=not_before), early)


def mended(status: SourceStatus, now: float, interval: float) -> SourceStatus:
    """Its options were changed, which may have fixed it: a long backoff ends, the vendor's wait does not."""
    soon = max(now, status.not_before, (status.last_visit or 0.0) + interval)
    return replace(status, due=min(status.due, soon))


# -- a visit -----------------------------------------------------------------------------------------------------------


def trigger_of(status: SourceStatus, now: float) -> Trigger:
    """The trigger of a visit that begins now. A scheduled visit answers a ring, too."""
    return "webhook" if status.ring_at is not None and status.due > now else "due"


def begin(status: SourceStatus, trigger: Trigger, now: float, interval: float) -> SourceStatus:
    """A visit begins. The next `due` is stored before the first request: a crash causes no early visit."""
    if trigger == "webhook":  # the scheduled visit keeps its time
        return replace(status, ring_at=None, last_ring=now)
    unanswered = now if status.unanswered_since is None else status.unanswered_since
    return replace(status, ring_at=None, due=now + interval, unanswered_since=unanswered)


def debounced(status: SourceStatus, now: float) -> SourceStatus:
    """What is stored when a webhook-triggered visit begins: after a crash in it, no ring is answered for a while."""
    return replace(status, not_before=max(status.not_before, now + DEBOUNCE))


def asking(status: SourceStatus, trigger: Trigger, now: float) -> SourceStatus:
    """A request is about to be made. Only scheduled visits decide the source's status."""
    if trigger == "webhook" or status.unanswered_since is not None:
        return status
    return replace(status, unanswered_since=now)


def postponed(status: SourceStatus, trigger: Trigger, until: float) -> SourceStatus:
    """A visit could not begin, because its next `due` could not be stored."""
    if trigger == "webhook":
        return replace(status, ring_at=until)
    return replace(status, due=until, ring_at=None)


def after(status: SourceStatus, trigger: Trigger, outcome: Outcome, now: float, interval: float) -> Verdict:
    """What an outcome means for its source: the new status, and what to report."""
    match outcome:
        case Page():
            answers = outcome.answers and trigger != "webhook"
            unanswered = now if answers else status.unanswered_since
            return Verdict(replace(status, last_visit=now, unanswered_since=unanswered))
        case Answer() if trigger == "webhook":
            return Verdict(
                replace(
                    _rested(status, now, outcome.wait),
                    ring_failures=0,
                    last_visit=now,
                    visits=status.visits + (not outcome.more),
                )
            )
        case Answer():
            return _answered(status, outcome, now, interval)
        case Failure() if trigger == "webhook":
            status = replace(
                _rested(status, now, outcome.wait),
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
                unanswered_since=status.unanswered_since if trigger == "webhook" else None,
            )
            return Verdict(_rested(status, now, outcome.wait))


def _answered(status: SourceStatus, outcome: Answer, now: float, interval: float) -> Verdict:
    """A scheduled visit succeeded, or one of its polls did."""
    if outcome.more:
        due, not_before = now, status.not_before  # a restart continues the backlog at once
    else:
        due, not_before = now + next_due(outcome.took, interval, outcome.wait), now + outcome.wait
    fails = status.failures > 0 or status.failing_since is not None
    reports = []
    if status.failing_since is not None:
        words = "It answers again." if outcome.asked else "It has nothing to ask the vendor about any more."
        reports.append(Report("roundsman.source.recovered", words, status.failing_since))
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
    """A source is failing. It is reported once, and not while it is paused."""
    if status.failing_since is not None or status.paused is not None:
        return Verdict(status)
    since = datetime.fromtimestamp(status.last_success or status.unanswered_since or now, UTC)
    message = f"No good answer since {rfc3339(since.replace(microsecond=0))}: {status.error}"
    return Verdict(replace(status, failing_since=now), [Report("roundsman.source.failing", message, now)])


def _rested(status: SourceStatus, now: float, wait: float) -> SourceStatus:
    """The vendor asked to wait: no request is made before then, not for a ring and not after a restart."""
    if not wait:
        return status
    not_before = max(status.not_before, now + wait)
    return replace(status, not_before=not_before, due=max(status.due, not_before))


def overdue(status: SourceStatus, now: float, interval: float) -> bool:
    """Whether there was no good answer for `FAILING_AFTER` intervals."""
    unanswered = status.unanswered_since
    return unanswered is not None and now - unanswered >= FAILING_AFTER * interval


def silent(status: SourceStatus, now: float, interval: float) -> Verdict | None:
    """Between visits: a source also fails if its visit hangs, or its vendor asked to wait for an hour."""
    if status.failing_since is not None or status.paused is not None or not overdue(status, now, interval):
        return None
    error = status.error or f"no answer for {spell(now - (status.unanswered_since or now))}"
    return _failing(replace(status, error=error), now)


def unreported(status: SourceStatus, before: SourceStatus, now: float, *, rewound: bool) -> SourceStatus:
    """A failure could not be stored: the next one reports it. After a rewind, the source is due at once."""
    due = max(now, status.not_before) if rewound else status.due
    return replace(status, failing_since=before.failing_since, due=due)


# -- what else moves a visit -------------------------------------------------------------------------------------------


def ring(status: SourceStatus, now: float, interval: float) -> SourceStatus:
    """A webhook rings: `ring_at` is set, unless the scheduled visit is soon enough.

    It is never within the time that the vendor asked to wait. While the source fails, it is not within an interval of the
    last visit. While the source is paused, it is never: the visit at the end of the pause answers it.
    """
    if status.ring_at is not None or status.paused is not None:
        return status
    fails = status.failures > 0 or status.failing_since is not None
    spaced = (status.last_visit or 0.0) + interval if fails else 0.0
    apart = status.last_ring + ring_debounce(status.ring_failures, interval)
    at = max(now, apart, status.not_before, spaced)
    if at >= status.due or (fails and status.due - at < interval):
        return status
    return replace(status, ring_at=at)


def wanted(status: SourceStatus, now: float) -> SourceStatus:
    """A command requests a visit: it is due now, or when the vendor's wait ends."""
    return replace(status, due=max(now, status.not_before))


def paused(status: SourceStatus, since: float) -> SourceStatus:
    """A person has paused the source at `since`: it is not visited, and a ring is not answered."""
    return replace(status, paused=since, ring_at=None)


def resumed(status: SourceStatus, now: float) -> SourceStatus:
    """The pause has ended: the source is due now, or when the vendor's wait ends. The time without requests does not count
    as time without an answer.
    """
    seconds = max(0.0, now - status.paused) if status.paused is not None else 0.0
    unanswered = status.unanswered_since
    if unanswered is not None:  # a start during the pause may have moved it already
        unanswered = min(now, unanswered + seconds)
    return wanted(replace(status, paused=None, unanswered_since=unanswered), now)


def stepped(status: SourceStatus, seconds: float) -> SourceStatus:
    """The clock was set by `seconds`: the times that decide about visits are moved by as much."""

    def moved(at: float | None) -> float | None:
        return None if at is None else at + seconds

    return replace(
        status,
        due=status.due + seconds,
        not_before=status.not_before + seconds,
        last_visit=moved(status.last_visit),
        unanswered_since=moved(status.unanswered_since),
        paused=moved(status.paused),
        ring_at=moved(status.ring_at),
        last_ring=status.last_ring + seconds,
    )


def slept(status: SourceStatus, seconds: float, soonest: float) -> SourceStatus:
    """The machine was suspended: no request was made meanwhile, and none is made before `soonest`."""
    return replace(
        idle(status, seconds),
        due=max(status.due, soonest),
        ring_at=None if status.ring_at is None else max(status.ring_at, soonest),
    )


def unasked(stored: SourceStatus, now: float) -> float:
    """Seconds since a stored source was due and no visit came: no daemon ran, or it was not in the configuration."""
    since = max(stored.due, stored.last_visit or 0.0)
    return max(0.0, now - since) if since > 0 else 0.0


def idle(status: SourceStatus, seconds: float) -> SourceStatus:
    """No request was made for `seconds`: they do not count as time without an answer."""
    if status.unanswered_since is None:
        return status
    return replace(status, unanswered_since=status.unanswered_since + seconds)
