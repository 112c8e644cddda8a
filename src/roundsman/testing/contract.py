"""The promises of every source, as a test: read whole, cut, killed, cancelled, with a wrong clock, and again."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

from roundsman.engine.reading import Step
from roundsman.errors import Backoff
from roundsman.plugin import Rewinds, Source, State, Trigger
from roundsman.testing.clock import Time
from roundsman.testing.faults import (
    DAMAGED,
    FOREVER,
    NO_ANSWERS,
    STRANGE,
    Fault,
    faulty,
    hanging,
    rows_instead,
    strangers,
    with_damage,
)
from roundsman.testing.promises import (
    Broken,
    Secrets,
    broken,
    error_is_documented,
    few,
    state_is_json,
    steps_keep_promises,
)
from roundsman.testing.visits import Made, Memory, copy, fresh, make, run
from roundsman.testing.web import Reply, Request, Web

APART = 61.0
"""Seconds between two visits."""
VISITS = 6
"""Visits after which nothing may change any more: some items are read twice."""
POINTS = 12
"""Requests and polls of a visit that are tried in turn; of more, so many are chosen."""
WRONG_CLOCK = 30 * 86400.0
TURNS = 1000
"""Turns of the event loop after which an expected request counts as missing."""
CANCELLED = 2.0
"""Seconds (of real time) that a cancelled visit has to end."""


def contract(
    source: Source, web: Web, *, news: Web | None = None, state: State | None = None, ids: Sequence[str] = ()
) -> None:
    """Keep every promise of a source, or raise AssertionError with the one that it breaks, in a sentence.

    `web` is the vendor with something to report. `news` is the same vendor later, with something more. Both
    are read again and again: their answers depend on the request and the web's clock only. `state` and `ids`
    are what the first visit begins with, for a source that reports only what it tracks.
    """
    hidden = Secrets(source)
    hidden.keep_out(f"{source!r} {source.origin()} {list(source.warnings())}", "its origin, warnings or repr")
    stage = _first_reading(Stage(fresh(source), web, Memory(state or {}, (), ids)))
    last = _news(stage, news) if news is not None else stage
    for each in (stage, last) if news is not None else (stage,):
        _keeps_nothing_but_its_state(each)
        _kills(each)
        _triggers(each)
        _faults(each)
        _strange_answers(each)
        _damage(each)
        _cancels(each)
    _read_again_later(last, Memory(state or {}, (), ids))
    if news is not None:
        for seconds in (WRONG_CLOCK, -WRONG_CLOCK):
            _wrong_clock(stage, last, seconds)
    if isinstance(source, Rewinds):
        _rewinds(last)


@dataclass(frozen=True)
class Stage:
    """The start of a trial, and what is expected of it."""

    source: Source
    web: Web
    memory: Memory
    at: float = 0.0
    """Seconds since the first visit."""
    expected: frozenset[str] = frozenset()
    """The ids of all events, in the end."""
    requests: int = 0
    """Requests of the first visit."""
    polls: int = 0
    """Polls of the first visit."""
    end: "Trial | None" = field(default=None, repr=False)

    def points(self, many: int) -> list[int]:
        """The numbers below `many`, or `POINTS` of them."""
        return list(range(many)) if many <= POINTS else [many * n // POINTS for n in range(POINTS)]


class Trial:
    """Visits to one source, with their own clock and memory."""

    def __init__(self, stage: Stage, source: Source | None = None, memory: Memory | None = None) -> None:
        self.source = source or fresh(stage.source)
        self.memory = memory or stage.memory.again()
        self.time = Time()
        self.time.advance(stage.at)
        self.web = stage.web.again(self.time)

    def visit(self, web: Web | None = None, made: Made | None = None) -> list[Step]:
        """One visit, and the time after it. Raises what the source raises."""
        made = made or Made()
        wait = 0.0
        try:
            run(lambda: make(self.source, web or self.web, self.memory, made))
        except Backoff as exc:
            wait = exc.after
            raise
        finally:
            self.time.advance(max(APART, made.wait, wait))
            steps_keep_promises(self.source, made.steps)
            self._nothing_was_changed(made)
        return made.steps

    def _nothing_was_changed(self, made: Made) -> None:
        if any(lent != before for lent, before in self.memory.lent):
            broken("a poll is a value", "the source changed the state that it was given; copy it first")
        if any(step.poll.state != state for step, state in zip(made.steps, made.states, strict=True)):
            broken("a poll is a value", "the state of one was changed after it was yielded; yield a copy")
        self.memory.lent.clear()

    def faulty_visit(self, wrong: Sequence[int], fault: Fault) -> None:
        """A visit with wrong answers to these requests."""
        try:
            self.visit(faulty(self.web, self.time, wrong, fault.spoil))
        except Broken:
            raise
        except (Exception, SystemExit, asyncio.CancelledError) as exc:  # noqa: BLE001 - a source may raise anything, and this is to find it
            error_is_documented(self.source, exc, f"after {fault.what}")

    def settle(self, when: str = "") -> tuple[int, int]:
        """Visits until nothing changes any more, from a vendor whose answers are right.

        Returns the number of requests and of polls of the first of them.
        """
        first: tuple[int, int] | None = None
        for _ in range(VISITS):
            before, ids, asked = self.memory.state, len(self.memory.ids), len(self.web.requests)
            polls = self.healthy_visit(when)
            first = first or (len(self.web.requests) - asked, polls)
            if len(self.memory.ids) == ids and _undated(self.memory.state) == _undated(before):
                return first
        changed = [key for key, value in self.memory.state.items() if before.get(key) != value]
        what = few(changed) or "there are new events"
        raise Broken(
            f"without news, a visit changes nothing, but the {VISITS}th one still does{when}: {what}"
        )

    def healthy_visit(self, when: str, made: Made | None = None) -> int:
        """One visit that must succeed. Returns the number of its polls."""
        try:
            return len(self.visit(made=made))
        except Broken:
            raise
        except (Exception, SystemExit, asyncio.CancelledError) as exc:
            Secrets(self.source).keep_out_of_errors(exc)
            what = f"this visit{when} failed with {type(exc).__name__}: {exc}"
            raise Broken(f"a visit to a vendor that answers succeeds, but {what}") from exc


def _undated(value: Any) -> Any:
    """A state without the times of its tags: an answer in full renews a tag, and nothing has changed."""
    if isinstance(value, Mapping):
        tag = "etag" in value
        return {key: _undated(each) for key, each in value.items() if not (tag and key == "at")}
    return [_undated(each) for each in value] if isinstance(value, list) else value


def _first_reading(stage: Stage) -> Stage:
    """The events that can be found."""
    stage = _read(stage, "")
    if not stage.requests:
        broken("a source asks by visit.http", "this one made no request")
    return stage


def _news(stage: Stage, news: Web) -> Stage:
    assert stage.end is not None
    later = _read(
        Stage(stage.source, news, stage.end.memory.again(), stage.end.time.ticks), " after the news"
    )
    if later.expected == stage.expected:
        broken("what is new is reported", "a visit after the news finds nothing")
    return later


def _read(stage: Stage, when: str) -> Stage:
    trial = Trial(stage)
    requests, polls = trial.settle(when)
    if not trial.memory.ids:
        broken("a contract is kept over something", "there is no event in this web; give it one at least")
    return replace(stage, expected=frozenset(trial.memory.ids), requests=requests, polls=polls, end=trial)


def _complete(stage: Stage, trial: Trial, when: str) -> None:
    """That the trial has found exactly what was expected."""
    missing = stage.expected - trial.memory.ids
    if missing:
        broken("nothing is lost", f"{few(missing)} is never reported {when}")
    more = trial.memory.ids - stage.expected
    if more:
        broken("nothing is reported twice", f"{few(more)} is reported, too, {when}")


def _keeps_nothing_but_its_state(stage: Stage) -> None:
    """Neither the class nor the instance keeps data between visits."""
    other = Trial(stage)
    other.settle()
    more = other.memory.ids - stage.expected
    if more:
        broken(
            "an id is derived from the vendor's", f"a second instance reports {few(more)} for the same things"
        )
    missing = stage.expected - other.memory.ids
    if missing:
        broken("a source keeps nothing but its state", f"a second instance does not report {few(missing)}")
    source = fresh(stage.source)
    with suppress(Exception):
        Trial(stage, source).visit()  # which is never committed
    trial = Trial(stage, source)
    trial.settle()
    if stage.expected - trial.memory.ids:
        broken(
            "a visit that was not committed did not happen",
            f"the next one does not report {few(stage.expected - trial.memory.ids)}",
        )


def _kills(stage: Stage) -> None:
    """Killed after each poll that was committed."""
    for number in stage.points(stage.polls):
        killed = Trial(stage)
        killed.healthy_visit("", Made(stop=number + 1))
        trial = Trial(stage, memory=killed.memory)
        trial.time = killed.time
        trial.web = stage.web.again(trial.time)
        when = f"if the daemon is killed after poll {number + 1}"
        trial.settle(f" {when}")
        _complete(stage, trial, when)


def _triggers(stage: Stage) -> None:
    """Visits for a webhook and for a command find what a visit that is due finds."""
    triggers: tuple[Trigger, ...] = ("webhook", "command")
    for trigger in triggers:
        trial = Trial(stage)
        trial.healthy_visit(f" for a {trigger}", Made(trigger))
        trial.settle(f" after one for a {trigger}")
        _complete(stage, trial, f"after a visit for a {trigger}")


def _each(stage: Stage, faults: Sequence[Fault], *, lasts: bool = True) -> Iterator[tuple[Trial, str]]:
    """A trial for each fault at each request: at that one only, and (if it `lasts`) from that one on."""
    for fault in faults:
        for number in stage.points(stage.requests):
            for end in (number + 1, FOREVER.stop) if lasts else (number + 1,):
                trial = Trial(stage)
                trial.faulty_visit(range(number, end), fault)
                yield trial, f"after {fault.what} to request {number + 1}"


def _faults(stage: Stage) -> None:
    for trial, when in _each(stage, NO_ANSWERS):
        trial.settle(f" {when}")
        _complete(stage, trial, when)


def _strange_answers(stage: Stage) -> None:
    for trial, when in _each(stage, STRANGE):
        trial.settle(f" {when}")
        more = trial.memory.ids - stage.expected
        if more:
            broken("nothing is reported twice", f"{few(more)} is reported, too, {when}")
    rows = Fault("rows of which nothing is known", rows_instead(strangers))
    for trial, when in _each(stage, [rows], lasts=False):
        trial.settle(f" {when}")


def _damage(stage: Stage) -> None:
    """A row that is no object stands in each list."""
    promise = "a row that cannot be read keeps no other from being reported, and is kept once, in unread"
    applied, spoil = [0], rows_instead(with_damage)

    def damage(request: Request, reply: Reply) -> Reply:
        changed: Reply = spoil(request, reply)
        applied[0] += changed is not reply
        return changed

    trial = Trial(stage)
    for _ in range(VISITS):
        try:
            trial.visit(faulty(trial.web, trial.time, FOREVER, damage))
        except Broken:
            raise
        except Exception as exc:  # noqa: BLE001 - a source may raise anything, and this is to find it
            if applied[0]:
                broken(promise, f"it raised {type(exc).__name__} ({exc}); read with items(damaged=...)")
    if not applied[0]:
        return
    missing = stage.expected - trial.memory.ids
    if missing:
        broken(promise, f"{few(missing)} is never reported beside one")
    unread = [each.raw for each in trial.memory.unread]
    if not any(
        DAMAGED.encode() in each for each in (*unread, *(event.body for event in trial.memory.events))
    ):
        broken(promise, "it is in no poll; return Poll(..., unread=...)")
    if len(unread) != len(set(unread)):
        broken(promise, "each visit keeps it again; roundsman.Unread remembers what was kept")


def _cancels(stage: Stage) -> None:
    """The daemon stops while a request is under way."""
    for number in stage.points(stage.requests):
        trial = Trial(stage)
        if not run(partial(_cancelled, trial, number)):
            broken(
                "a visit that is cancelled ends at once",
                f"this one goes on at request {number + 1}: let asyncio.CancelledError pass",
            )
        trial.settle(" after one that was cancelled")
        _complete(stage, trial, f"if the daemon is stopped at request {number + 1}")


async def _cancelled(trial: Trial, number: int) -> bool:
    """Whether a visit that is cancelled while this request waits ends by that."""
    web, reached, freed = hanging(trial.web, trial.time, number)
    visit = asyncio.ensure_future(make(trial.source, web, trial.memory, Made()))
    for _ in range(TURNS):
        await asyncio.sleep(0)
        if reached.is_set():
            break
    if visit.done() or not reached.is_set():
        visit.cancel()
        await asyncio.wait({visit}, timeout=CANCELLED)
        return True
    visit.cancel()
    await asyncio.wait({visit}, timeout=CANCELLED)
    ended = visit.done() and visit.cancelled()
    freed.set()
    if visit.done() and not visit.cancelled():
        visit.exception()
    return ended


def _wrong_clock(stage: Stage, last: Stage, seconds: float) -> None:
    """This machine's clock is wrong, and set right before the news."""
    trial = Trial(stage)
    trial.time.set_wall(seconds)
    trial.settle(" by a wrong clock")
    trial.time.set_wall(-seconds)
    trial.web = last.web.again(trial.time)
    trial.settle(" after the clock was set")
    missing = last.expected - trial.memory.ids
    if missing:
        ahead = "ahead" if seconds > 0 else "behind"
        broken(
            "a cursor comes from the vendor and not from this machine's clock",
            f"{few(missing)} is never reported if the clock was {ahead}",
        )


def _read_again_later(stage: Stage, begin: Memory) -> None:
    """A day later, everything is read again from the start."""
    assert stage.end is not None
    trial = Trial(stage, memory=stage.end.memory.again())
    trial.time.advance(86400.0)
    trial.settle(" a day later")
    again = Trial(stage, memory=begin)
    again.time.advance(86400.0)
    again.settle(" that reads all again")
    more = again.memory.ids - trial.memory.ids
    if more:
        broken(
            "an id is derived from the vendor's",
            f"{few(more)} is new when everything is read again a day later",
        )


def _rewinds(stage: Stage) -> None:
    """Rewound to the beginning, twice: the second time brings nothing that the first has not."""
    assert stage.end is not None
    trial = Trial(stage, memory=stage.end.memory.again())
    known: set[str] = set()
    for _ in range(2):
        known = set(trial.memory.ids)
        rewound = _rewound(trial, None)
        if rewound is None:
            return
        trial.memory.state = copy(rewound)
        trial.settle(" after a rewind")
    if trial.memory.ids - known:
        broken("nothing is reported twice", f"{few(trial.memory.ids - known)} is new after a second rewind")
    trial.memory.ids.clear()
    trial.memory.state = copy(_rewound(trial, None) or {})
    trial.settle(" after a rewind")
    if not trial.memory.ids:
        broken("rewound() returns a state that reads again", "a visit after it reads no event")
    _rewound(trial, datetime.fromtimestamp(trial.time.now(), UTC))


def _rewound(trial: Trial, to: datetime | None) -> State | None:
    """The state that the source rewinds to; None if there is nothing to read again with these options."""
    given = copy(trial.memory.state)
    assert isinstance(trial.source, Rewinds)
    try:
        rewound = trial.source.rewound(given, to)
    except ValueError:
        return None
    except (Exception, SystemExit, asyncio.CancelledError) as exc:
        when = "the beginning (None)" if to is None else "a time"
        what = f"it raised {type(exc).__name__} ({exc}) for {when}"
        raise Broken(f"rewound() returns a state, or raises ValueError with the reason, but {what}") from exc
    state_is_json(rewound)
    if given != trial.memory.state:
        broken("rewound() returns a new state", "it changed the one that it was given")
    return rewound
