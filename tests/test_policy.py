"""What a visit's outcome means for its source: a table, and what holds over all histories."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, strategies as st

from roundsman.engine import policy
from roundsman.engine.policy import (
    DEBOUNCE,
    Answer,
    Failure,
    Outcome,
    Page,
    Unwritten,
    after,
    backoff,
    begin,
    next_due,
    ring_debounce,
)
from roundsman.plugin import Trigger
from roundsman.store import SourceStatus

NOW, INTERVAL = 1_000_000.0, 60.0
GOOD = SourceStatus(due=NOW + 60, last_visit=NOW - 60, last_success=NOW - 60, visits=5, unanswered_since=NOW)
RETRYING = replace(GOOD, failures=2, unanswered_since=NOW - 90, error="503")
FAILING = replace(RETRYING, failures=7, failing_since=NOW - 600, unanswered_since=NOW - 900)

TABLE: list[tuple[str, SourceStatus, Trigger, Outcome, dict[str, Any], list[str]]] = [
    (
        "a good answer: due an interval after the visit's start",
        GOOD,
        "due",
        Answer(took=10),
        {"due": NOW + 50, "last_success": NOW, "visits": 6, "unanswered_since": None, "failures": 0},
        [],
    ),
    ("a visit that overran: an interval after its end", GOOD, "due", Answer(took=90), {"due": NOW + 60}, []),
    (
        "a good answer and a wish for a rest",
        GOOD,
        "due",
        Answer(took=1, wait=900),
        {"due": NOW + 900, "not_before": NOW + 900},
        [],
    ),
    (
        "a backlog: due at once, and no visit yet",
        GOOD,
        "due",
        Answer(took=1, more=True),
        {"due": NOW, "visits": 5},
        [],
    ),
    (
        "nothing was asked: that is no answer",
        GOOD,
        "due",
        Answer(took=1, asked=False),
        {"last_success": NOW - 60, "visits": 6},
        [],
    ),
    (
        "nothing was asked after a failure: it does not fail any more",
        RETRYING,
        "due",
        Answer(took=1, asked=False),
        {"last_success": NOW, "failures": 0, "error": None},
        [],
    ),
    (
        "it answers again",
        FAILING,
        "due",
        Answer(took=1),
        {"failing_since": None, "failures": 0, "error": None, "unanswered_since": None},
        ["roundsman.source.recovered It answers again."],
    ),
    (
        "it fails, and then asks nothing: that is over, and is called no answer",
        FAILING,
        "due",
        Answer(took=1, asked=False),
        {"failing_since": None, "failures": 0, "error": None},
        ["roundsman.source.recovered It has nothing to ask the vendor about any more."],
    ),
    (
        "a first failure: later, not loud",
        GOOD,
        "due",
        Failure("503", jitter=0),
        {"due": NOW + 120, "failures": 1, "error": "503", "failing_since": None, "last_success": NOW - 60},
        [],
    ),
    (
        "no good answer for three intervals",
        replace(RETRYING, unanswered_since=NOW - 180),
        "due",
        Failure("503", jitter=0),
        {"failing_since": NOW},
        ["roundsman.source.failing No good answer since 1970-01-12T13:45:40Z: 503"],
    ),
    (
        "a fourth failure in a row, however quick",
        replace(RETRYING, failures=3, unanswered_since=NOW - 5),
        "due",
        Failure("503", jitter=0),
        {"failing_since": NOW, "failures": 4},
        ["roundsman.source.failing No good answer since 1970-01-12T13:45:40Z: 503"],
    ),
    (
        "refused credentials: loud at once",
        GOOD,
        "due",
        Failure("401", refusal="unauthorized", jitter=0),
        {"failing_since": NOW, "failures": 1},
        ["roundsman.source.failing No good answer since 1970-01-12T13:45:40Z: 401"],
    ),
    (
        "a 403 is loud, too",
        GOOD,
        "due",
        Failure("403", refusal="denied", jitter=0),
        {"failing_since": NOW},
        ["roundsman.source.failing No good answer since 1970-01-12T13:45:40Z: 403"],
    ),
    ("it goes on failing: reported once", FAILING, "due", Failure("503"), {"failing_since": NOW - 600}, []),
    (
        "a failure with a wish for a rest",
        GOOD,
        "due",
        Failure("429", wait=3000, jitter=0),
        {"due": NOW + 3000, "not_before": NOW + 3000},
        [],
    ),
    (
        "the store is full: not the vendor's fault",
        GOOD,
        "due",
        Unwritten(),
        {"due": NOW + 60, "failures": 0, "unanswered_since": None, "last_success": NOW - 60},
        [],
    ),
    ("a page on the way: it does answer", RETRYING, "due", Page(True), {"unanswered_since": NOW}, []),
    ("an empty page says nothing", RETRYING, "due", Page(False), {"unanswered_since": NOW - 90}, []),
    (
        "a page on the way says nothing of how the visit ends",
        FAILING,
        "due",
        Page(True),
        {"failing_since": NOW - 600, "failures": 7, "due": NOW + 60, "visits": 5},
        [],
    ),
    (
        "a ring that goes well leaves the failures of scheduled visits alone",
        FAILING,
        "webhook",
        Answer(took=1),
        {"failures": 7, "failing_since": NOW - 600, "due": NOW + 60, "visits": 6, "last_visit": NOW},
        [],
    ),
    (
        "a ring that fails counts for rings only",
        GOOD,
        "webhook",
        Failure("503"),
        {"failures": 0, "ring_failures": 1, "due": NOW + 60, "error": None},
        [],
    ),
    (
        "a ring that goes well ends the row of failed rings",
        replace(GOOD, ring_failures=3),
        "webhook",
        Answer(took=1),
        {"ring_failures": 0},
        [],
    ),
    (
        "a 401 to a ring is about no single thing",
        GOOD,
        "webhook",
        Failure("401", refusal="unauthorized"),
        {"failing_since": NOW, "failures": 0, "error": "401"},
        ["roundsman.source.failing No good answer since 1970-01-12T13:45:40Z: 401"],
    ),
    (
        "a 403 to a ring may be about the one thing that it named",
        GOOD,
        "webhook",
        Failure("403", refusal="denied"),
        {"failing_since": None},
        [],
    ),
    (
        "a rest that a ring's answer asks for holds for scheduled visits, too",
        GOOD,
        "webhook",
        Answer(took=1, wait=900),
        {"due": NOW + 900, "not_before": NOW + 900},
        [],
    ),
]


@pytest.mark.parametrize(
    ("before", "trigger", "outcome", "expected", "reports"),
    [row[1:] for row in TABLE],
    ids=[r[0] for r in TABLE],
)
def test_what_an_outcome_means(
    before: SourceStatus, trigger: Trigger, outcome: Outcome, expected: dict[str, Any], reports: list[str]
) -> None:
    status, found = after(before, trigger, outcome, NOW, INTERVAL)
    assert {name: getattr(status, name) for name in expected} == expected
    assert [f"{each.kind} {each.message}" for each in found] == reports


def test_each_pause_is_longer_up_to_an_hour() -> None:
    assert [backoff(60, n, jitter=0) for n in (1, 2, 3, 10, 500)] == [120, 240, 480, 3600, 3600]
    assert backoff(7200, 3, jitter=0) == 7200, "but never under the interval"
    assert backoff(60, 1, asked=900, jitter=0) == 900
    assert backoff(60, 1, jitter=1) == pytest.approx(132)


def test_an_interval_counts_from_the_start_of_a_visit_unless_it_overran() -> None:
    assert next_due(took=10, interval=60) == 50
    assert next_due(took=90, interval=60) == 60
    assert next_due(took=10, interval=60, asked=300) == 300


def test_rings_are_kept_apart_and_more_so_while_they_fail() -> None:
    assert [ring_debounce(n, 60) for n in (0, 1, 2, 3, 4, 99)] == [5, 10, 20, 40, 60, 60]
    assert ring_debounce(1, 2) == 5
    assert ring_debounce(1, 60, asked=300) == 300


# -- a status from the store ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stored", "due", "early"),
    [
        (SourceStatus(), 0.0, False),
        (SourceStatus(due=NOW - 5), NOW - 5, False),
        (SourceStatus(due=NOW + 30), NOW + 30, True),
        (SourceStatus(due=NOW + 3000), NOW + 66, True),  # an interval of before, or the clock was set back
        (SourceStatus(due=NOW + 3000, failures=4), NOW + 3000, True),
        (SourceStatus(due=NOW + 86400, failures=4), NOW + 3960, False),
        (SourceStatus(due=NOW + 1, not_before=NOW + 900), NOW + 900, True),
        (SourceStatus(due=NOW - 5, not_before=NOW - 1), NOW - 1, False),
        (SourceStatus(due=0, not_before=NOW + 10**8), NOW + 3960, False),
        (
            SourceStatus(due=0, not_before=NOW + 500, last_visit=NOW + 400),
            NOW + 100,
            True,
        ),  # said 400 s "from now"
    ],
)
def test_a_stored_due_is_believed_as_far_as_it_can_be_right(
    stored: SourceStatus, due: float, early: bool
) -> None:
    found = policy.restored(stored, NOW, INTERVAL)
    assert (found.status.due, found.early) == (due, early)


def test_what_was_mended_is_tried_an_interval_after_its_last_visit() -> None:
    waiting = SourceStatus(due=NOW + 3000, failures=6, last_visit=NOW - 20)
    assert policy.mended(waiting, NOW, INTERVAL).due == NOW + 40
    assert policy.mended(replace(waiting, not_before=NOW + 900), NOW, INTERVAL).due == NOW + 900
    assert policy.mended(replace(waiting, due=NOW + 5), NOW, INTERVAL).due == NOW + 5


# -- over all histories -----------------------------------------------------------------------------------------------

waits = st.sampled_from([0.0, 5.0, 70.0, 900.0])
outcomes = st.one_of(
    st.builds(Page, st.booleans()),
    st.builds(Answer, st.sampled_from([0.0, 3.0, 90.0]), st.booleans(), st.just(0.0), st.booleans()),
    st.builds(Answer, st.just(1.0), st.just(False), waits, st.just(True)),  # no backlog goes on in a rest
    st.builds(
        Failure,
        error=st.just("no"),
        wait=waits,
        refusal=st.sampled_from([None, "denied", "unauthorized"]),
        jitter=st.floats(0, 1),
    ),
    st.builds(Unwritten, waits),
)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("wait"), st.sampled_from([0.0, 1.0, 5.0, 61.0, 400.0, 5000.0])),
        st.tuples(st.just("ring"), st.none()),
        st.tuples(st.just("visit"), outcomes),
    ),
    max_size=40,
)


class History:
    """A source and its visits, as `Turns` and `Visits` would make them."""

    def __init__(self) -> None:
        self.now = NOW
        self.status = SourceStatus(due=NOW)
        self.begun: list[tuple[float, str]] = []
        self.not_before = 0.0
        self.reports: list[str] = []

    def wait(self, seconds: float) -> None:
        self.now += seconds
        verdict = policy.silent(self.status, self.now, INTERVAL)
        if verdict:
            self._keep(verdict)

    def ring(self, _: None) -> None:
        self.status = policy.ring(self.status, self.now, INTERVAL)

    def visit(self, outcome: Outcome) -> None:
        if self.status.next_visit > self.now:
            return
        assert self.now >= self.not_before, "the vendor wanted no request"
        trigger = policy.trigger_of(self.status, self.now)
        self.begun.append((self.now, trigger))
        self.status = begin(self.status, trigger, self.now, INTERVAL)
        if trigger == "due":
            assert self.status.due == self.now + INTERVAL, "before the first request"
        self._keep(after(self.status, trigger, outcome, self.now, INTERVAL))
        if isinstance(outcome, Page):  # each visit ends
            self._keep(after(self.status, trigger, Answer(0.0), self.now, INTERVAL))
        elif not isinstance(outcome, Unwritten) and (wait := outcome.wait):
            self.not_before = self.now + wait
        more = isinstance(outcome, Answer) and outcome.more and trigger == "due"
        assert self.status.due > self.now or more

    def _keep(self, verdict: policy.Verdict) -> None:
        self.status = verdict.status
        self.reports += [each.kind for each in verdict.reports]


@given(steps)
def test_no_history_asks_too_often_or_reports_twice(history: list[tuple[str, Any]]) -> None:
    world = History()
    for name, argument in history:
        getattr(world, name)(argument)
    kinds = world.reports
    assert kinds[::2] == ["roundsman.source.failing"] * len(kinds[::2])
    assert kinds[1::2] == ["roundsman.source.recovered"] * len(kinds[1::2])
    assert (world.status.failing_since is not None) == bool(len(kinds) % 2)
    rung = [at for at, trigger in world.begun if trigger == "webhook"]
    assert all(b - a >= DEBOUNCE for a, b in pairwise(rung))


@given(steps, outcomes, st.sampled_from([-86400.0, -10.0, 3.0, 10**7]))
def test_a_clock_that_is_set_changes_no_distance(
    history: list[tuple[str, Any]], outcome: Outcome, step: float
) -> None:
    """Set before an outcome or after it: every time is as far away."""
    world = History()
    for name, argument in history:
        getattr(world, name)(argument)
    at = max(world.now, world.status.next_visit)
    trigger = policy.trigger_of(world.status, at)

    def ends(status: SourceStatus, now: float) -> SourceStatus:
        status = begin(status, trigger, now, INTERVAL)
        status = after(status, trigger, outcome, now, INTERVAL).status
        return policy.ring(status, now, INTERVAL)

    before = ends(policy.stepped(world.status, step), at + step)
    later = policy.stepped(ends(world.status, at), step)
    for name in ("due", "not_before", "last_visit", "unanswered_since", "ring_at", "last_ring"):
        one, other = getattr(before, name), getattr(later, name)
        assert one == other or one == pytest.approx(other, abs=0.01), name


# -- pauses ------------------------------------------------------------------------------------------------------------

PAUSED = policy.paused(GOOD, NOW)


def test_a_paused_source_has_no_next_visit_and_no_ring() -> None:
    assert PAUSED.next_visit == float("inf")
    assert policy.paused(replace(GOOD, ring_at=NOW + 1), NOW).ring_at is None
    assert policy.ring(PAUSED, NOW + 10, INTERVAL).ring_at is None


@pytest.mark.parametrize("outcome", [Failure("503"), Failure("401", refusal="unauthorized")])
@pytest.mark.parametrize("trigger", ["due", "webhook", "command"])
def test_a_visit_that_ends_in_an_error_during_a_pause_reports_nothing(
    outcome: Outcome, trigger: Trigger
) -> None:
    status = replace(RETRYING, failures=9, paused=NOW)
    verdict = after(status, trigger, outcome, NOW + 5, INTERVAL)
    assert verdict.reports == ()
    assert verdict.status.failing_since is None
    assert policy.silent(replace(GOOD, paused=NOW), NOW + 9000, INTERVAL) is None


@pytest.mark.parametrize("lasted", [0.0, 5.0, 90_000.0, -500.0])
def test_after_a_pause_a_source_is_due_and_as_long_without_an_answer_as_before_it(lasted: float) -> None:
    status = policy.resumed(policy.paused(RETRYING, NOW), NOW + lasted)
    assert status.paused is None
    assert status.due == NOW + lasted
    before = NOW - (RETRYING.unanswered_since or 0)
    since = NOW + lasted - (status.unanswered_since or 0)
    assert since == (before if lasted >= 0 else max(0.0, before + lasted))


def test_after_a_pause_the_wait_that_the_vendor_asked_for_holds() -> None:
    resting = replace(PAUSED, not_before=NOW + 900)
    assert policy.resumed(resting, NOW + 10).due == NOW + 900


def test_time_that_a_start_has_moved_already_is_not_counted_into_the_future() -> None:
    moved = policy.idle(PAUSED, 500)
    assert policy.resumed(moved, NOW + 1000).unanswered_since == NOW + 1000
