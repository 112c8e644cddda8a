"""The new policy and the code it replaces, side by side over random histories."""

import asyncio
import contextlib
import random
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import structlog
from hypothesis import given, settings, strategies as st

from rounds import SCRIPTS, Scripted
from roundsman.engine import policy
from roundsman.engine.engine import Engine
from roundsman.engine.policy import Answer, Failure, Page, Unwritten
from roundsman.errors import Backoff, Denied, reason
from roundsman.plugin import Poll
from roundsman.sandbox import Parakey
from roundsman.store import Filter, SourceStatus, Store, StoreError
from worlds import ByHand, Straight, Time, an_event, web_of

INTERVAL = 60.0
OURS = Filter(types=("roundsman.source.*",))


def of(watch: Any) -> SourceStatus:
    return SourceStatus(
        watch.due,
        watch.held,
        watch.visited,
        watch.answered,
        watch.polls,
        watch.failures,
        watch.failing,
        watch.unanswered,
        watch.error,
        watch.ring_at,
        watch.rang,
        watch.unheard,
    )


class Pair:
    def __init__(self, folder: str) -> None:
        self.time, self.number, self.option = Time(), 0, 1
        self.path = Path(folder) / "x.db"
        self.boot()
        self.status = of(self.watch)
        self.reports: list[str] = []

    @property
    def watch(self) -> Any:
        return self.engine.watches["a"]

    def source(self) -> Scripted:
        return Scripted(concurrency=self.option).named("a")

    def boot(self) -> None:
        self.store = Store.open(self.path)
        parakey = Parakey(self.time.utc)
        self.engine = Engine(
            self.store, ByHand(), web_of(Straight(parakey), self.time), clock=self.time.clock()
        )
        self.engine.setup({"a": self.source()}, {})

    def reboot(self, mended: bool) -> None:
        self.engine._dirty.add("a")
        self.engine._flush()
        self.store.defer([("a", self.watch.held)])  # that of a ring was not moved along with the clock
        self.store.claim([("a", self.watch.due)])  # nor was a `due` that a reload moved written
        # It is written with the visits that are committed only.
        [row] = [each for each in self.store.statuses() if each.name == "a"]
        self.status = replace(self.status, unanswered_since=row.unanswered)
        self.store.close()
        self.option += mended
        source = self.source()
        other = row.options not in {None, source.fingerprint(source.identity())}
        failed_so = self.status.failures > 0 and other
        self.boot()
        now = self.time.now()
        stored = replace(self.status, ring_at=None, last_ring=float("-inf"), ring_failures=0)
        new, _ = policy.restored(stored, now, INTERVAL)
        if new.due <= now:
            new = replace(new, due=max(now, new.not_before))
        if failed_so:
            new = policy.mended(new, now, INTERVAL)
        self.status = new

    def reload(self) -> None:
        self.option += 1
        self.engine.setup({"a": self.source()}, {})
        self.status = policy.mended(self.status, self.time.now(), INTERVAL)

    def ring(self) -> None:
        self.engine.ring("a")
        self.status = policy.ring(self.status, self.time.now(), INTERVAL)

    def step(self, seconds: float) -> None:
        self.time.set_wall(seconds)
        self.engine.beat()
        if abs(seconds) >= 2:
            self.status = policy.stepped(self.status, seconds)
        self.look()

    def sleep(self, seconds: float) -> None:
        self.time.suspend(seconds)
        self.engine.beat()
        if seconds >= 2:
            self.status = policy.slept(self.status, seconds, self.time.now() + 5.0)
        self.look()

    def look(self) -> None:
        found = policy.silent(self.status, self.time.now(), INTERVAL)
        if found:
            self.keep(found)

    def beat(self) -> None:
        self.engine.beat()
        self.look()

    def keep(self, verdict: policy.Verdict) -> None:
        self.status = verdict.status
        self.reports += [f"{each.kind} {each.message}" for each in verdict.reports]

    def plain(self, status: SourceStatus) -> SourceStatus:
        """A rest that is over is none; nor is the one of a few seconds that keeps rings apart."""
        over = status.not_before <= self.time.now() + policy.DEBOUNCE
        return replace(status, not_before=0.0) if over else status

    def visit(self, steps: list[Any], wait: float, end: Any) -> None:
        now = self.time.now()
        if self.watch.next() > now:
            return
        trigger = policy.trigger_of(self.status, now)
        self.engine._ring(["a"])
        self.watch.unanswered = (
            (self.watch.unanswered or now) if not self.watch.ringing else self.watch.unanswered
        )
        asyncio.run(self._visit(steps, wait, end))
        rung, self.watch.rung, self.watch.ringing = self.watch.rung, False, False
        if rung:
            self.engine.ring("a")
        # The same in the new way.
        self.status = policy.begin(self.status, trigger, now, INTERVAL)

        def after(outcome: Any) -> None:
            self.keep(policy.after(self.status, trigger, outcome, now, INTERVAL))

        for kind in steps:
            if kind == "more":
                after(Answer(0.0, more=True))
                self.status = policy.asking(self.status, trigger, now)
            else:
                after(Page(kind == "page"))
        if end in {"nothing", "event"}:
            after(Answer(0.0, wait=wait, asked=end == "event" or "page" in steps or "state" in steps))
        elif isinstance(end, StoreError) and trigger == "due":
            after(Unwritten(wait))
        else:
            asked = max(wait, end.after) if isinstance(end, Backoff) else wait
            status_code = getattr(end, "status", None)
            refusal = None
            if isinstance(end, Denied):
                refusal = "unauthorized" if status_code == 401 else "denied"
            after(Failure(reason(end), asked, refusal))  # type: ignore[arg-type]
            if trigger == "webhook":
                self.status = policy.ring(self.status, now, INTERVAL)

    async def _visit(self, steps: list[Any], wait: float, end: Any) -> None:
        left = list(steps)

        async def poll(http: Any, state: Any) -> Any:
            def new() -> tuple[Any, list[Any]]:
                self.number += 1
                return {"n": self.number}, [an_event(self.number, "a")]

            if left and left[0] == "more":
                left.pop(0)
                made, events = new()
                return Poll(made, events, more=True)
            http.wait = wait
            if isinstance(end, Exception):
                raise end
            if end == "event":
                made, events = new()
                return Poll(made, events)
            return Poll(state)

        async def pages(http: Any, state: Any) -> Any:
            for kind in left:
                self.number += 1
                events = [an_event(self.number, "a")] if kind == "page" else []
                yield Poll({"n": self.number}, events)
            http.wait = wait
            if isinstance(end, Exception):
                raise end

        SCRIPTS["a"] = pages if left and left[0] != "more" else poll
        await self.engine.visit("a")


ends = st.sampled_from(
    [
        "nothing",
        "event",
        OSError("away"),
        Backoff(90, "later"),
        Denied("no", 401),
        Denied("no", 403),
        StoreError("full"),
    ]
)
moves = st.one_of(
    st.tuples(st.just("wait"), st.sampled_from([0.0, 1.0, 5.0, 20.0, 61.0, 200.0, 4000.0])),
    st.tuples(
        st.just("visit"),
        st.lists(st.sampled_from(["more"]), max_size=2),
        st.sampled_from([0.0, 70.0, 900.0]),
        ends,
    ),
    st.tuples(
        st.just("visit"),
        st.lists(st.sampled_from(["page", "state"]), min_size=1, max_size=3),
        st.sampled_from([0.0, 70.0]),
        st.sampled_from(["nothing", OSError("away"), Backoff(90, "later"), Denied("no", 401)]),
    ),
    st.tuples(st.just("ring")),
    st.tuples(st.just("beat")),
    st.tuples(st.just("step"), st.sampled_from([-86400.0, -100.0, 1.0, 30.0, 7200.0])),
    st.tuples(st.just("sleep"), st.sampled_from([1.0, 100.0, 30000.0])),
    st.tuples(st.just("reload")),
    st.tuples(st.just("reboot"), st.booleans()),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(moves, max_size=30))
def test_the_new_policy_is_the_old_one(history: list[Any]) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder, contextlib.ExitStack() as stack:
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
        was, random.random = random.random, lambda: 0.5  # type: ignore[assignment]
        stack.callback(setattr, random, "random", was)
        pair = Pair(folder)
        stack.callback(lambda: pair.store.close())
        for name, *args in history:
            if name == "wait":
                pair.time.advance(*args)
            else:
                getattr(pair, name)(*args)
            assert pair.plain(of(pair.watch)) == pair.plain(pair.status), (name, args)
        told = [e.document() for e, _ in pair.store.events(0, 10**6, 10**6, OURS)]
        assert [f"{each['type']} {each['data']['message']}" for each in told] == pair.reports
