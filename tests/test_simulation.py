"""Nothing is lost and nothing reported twice, with any fault of the vendor and whenever the daemon dies.

A simulated Parakey whose rows come late, share stamps and become visible late, whose server errs, cuts its answers, and lies
about order; a daemon that is killed between any two steps; sinks that fail and refuse. At the end everything is healed,
time passes, and then: every row since the start is in the log once, every sink got it, in order.
"""

from datetime import timedelta

from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import initialize, rule

from budgets import SIMULATIONS
from doors import HEADER, PARAKEY, VALUE, subscribe
from inside import feed, seen
from mortal import Mortal, faults
from roundsman.plugin import Source
from roundsman.sandbox import Fault, Parakey, Quirks
from worlds import event_logs

DAY = 86400.0

QUIRKS = st.builds(
    Quirks,
    cap=st.sampled_from([5, 7, 10, 25, 1000]),
    inclusive=st.booleans(),
    filters=st.sampled_from(["createdAt", "createdAt", "timestamp", "nothing"]),
    order=st.sampled_from(["honoured", "honoured", "descending", "shuffled", "newest-ascending"]),
    offset_param=st.sampled_from([None, "offset", "skip"]),
    envelope=st.sampled_from([None, "data"]),
    weak_etag=st.booleans(),
    unconditional=st.booleans(),
)


class World(Mortal):
    @initialize(
        quirks=QUIRKS,
        start=st.sampled_from(["beginning", "now", "date"]),
        history=st.integers(0, 30),
        limit=st.sampled_from([10, 1000]),
        took=st.sampled_from([0.0, 0.4]),
    )
    def begin(self, quirks: Quirks, start: str, history: int, limit: int, took: float) -> None:
        self.parakey = self.vendor = Parakey(now=self.time.utc, quirks=quirks)
        for number in range(history):
            created = self.time.utc() - timedelta(minutes=history - number)
            self.parakey.add(
                created=created, timestamp=created - timedelta(seconds=took), log_id=f"h{number}"
            )
        self.start = (self.time.utc() - timedelta(minutes=5)).isoformat() if start == "date" else start
        self.limit = limit
        self.count = 0
        subscribe(self.parakey, "http://daemon/hooks/doors", headers={HEADER: VALUE})
        self.boot()

    def sources(self) -> dict[str, Source]:
        paging = {"limit": self.limit, "max_limit": 40}
        return {"doors": event_logs(start=self.start, paging=paging, webhook=PARAKEY)}

    @rule(
        count=st.integers(1, 12),
        together=st.booleans(),
        late=st.sampled_from([0.0, 0.0, 300.0, 3600.0, 3 * DAY]),
        hidden=st.sampled_from([0.0, 0.0, 20.0, 3600.0]),
    )
    def unlock(self, count: int, together: bool, late: float, hidden: float) -> None:
        for _ in range(count):
            if not together:
                self.time.advance(0.37)
            now = self.time.utc()
            self.count += 1
            self.parakey.add(
                created=now,
                timestamp=now - timedelta(seconds=late + 0.2),
                visible=now + timedelta(seconds=hidden),
                log_id=f"r{self.count}",
            )

    @rule(seconds=st.sampled_from([1.0, 61.0, 61.0, 700.0, 4000.0, 7 * 3600.0]))
    def wait(self, seconds: float) -> None:
        self.time.advance(seconds)

    @rule(fault=faults(), times=st.integers(1, 4))
    def fault(self, fault: Fault, times: int) -> None:
        self.parakey.faults.extend([fault] * times)

    @rule()
    def refuse_one(self) -> None:
        self.refused.add(f"r{self.count + 1}")

    @rule()
    def retention(self) -> None:
        self.parakey.blank(self.time.utc() - timedelta(hours=1))

    def heal_and_check(self) -> None:
        assert self.engine is not None
        self.parakey.faults.clear()
        for seconds in (3700, 3700, 61, 7 * 3600, 61, 7 * 3600, 61):
            self.time.advance(seconds)
            self.round()
        log = self.log()
        told = {event.id for event in log}
        state = feed(seen(self.engine.store.memory("doors")).state)
        missing = [
            row
            for row in self.parakey.logs
            if row.id not in told
            and row.id not in state.before
            and (state.floor is None or row.created >= state.floor)
        ]
        if any(event.type == "roundsman.source.gap" for event in log):
            missing = []  # it was said that rows may be missing
        if "cut" in state.learned.doubted and self.parakey.quirks.order != "honoured":
            missing = []  # neither order nor offset works, and nothing showed a cut: that was said, too
        assert not missing, (missing, state)
        self.check_sinks()


World.TestCase.settings = settings(
    max_examples=SIMULATIONS,
    stateful_step_count=30,
    deadline=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)
TestNothingIsLost = World.TestCase
