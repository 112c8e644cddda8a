"""Nothing is lost and nothing told twice, whatever the vendor does and whenever the daemon dies.

A made-up Parakey whose rows come late, share stamps and become visible late, whose server errs, cuts its answers, and lies
about order; a daemon that is killed between any two steps; sinks that fail and refuse. At the end everything is healed,
time passes, and then: every row since the start is in the log once, every sink got it, in order.
"""

import asyncio
import os
import shutil
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import structlog
from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from roundsman.engine import Engine
from roundsman.plugin import Reject
from roundsman.sandbox import Fault, Parakey, Quirks
from roundsman.sinks.file import FileSink
from roundsman.store import Filter, Store
from worlds import PLANS, RECORDS, ByHand, Recorder, Straight, Time, event_logs, web_of

DAY = 86400.0


class Killed(BaseException):
    """`kill -9`, as far as a test can raise it."""


class Endless(BaseException):
    """A visit that asks without end."""


class Fuse:
    """Counts steps, and kills at the one that was chosen."""

    def __init__(self) -> None:
        self.left: int | None = None

    def step(self) -> None:
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                self.left = None
                raise Killed


class MortalStore(Store):
    """A store whose process may die before or after any write."""

    fuse: Fuse

    def commit(self, *args: Any, **kwargs: Any) -> int:
        self.fuse.step()
        new = super().commit(*args, **kwargs)
        self.fuse.step()
        return new

    def ack(self, *args: Any, **kwargs: Any) -> None:
        self.fuse.step()
        super().ack(*args, **kwargs)
        self.fuse.step()

    def claim(self, dues: Any) -> None:
        self.fuse.step()
        super().claim(dues)
        self.fuse.step()


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
FAULTS = st.one_of(
    st.builds(Fault, status=st.sampled_from([400, 401, 403, 404, 500, 502, 503])),
    st.builds(
        Fault,
        status=st.just(429),
        headers=st.sampled_from([{"Retry-After": "90"}, {"Retry-After": "soon"}, {}]),
    ),
    st.builds(
        Fault, status=st.just(200), body=st.sampled_from([b"", b"<html>", b'[{"id":', b"{}", b"[1]", b"null"])
    ),
    st.builds(Fault, kind=st.sampled_from(["hang", "drop"])),
)


class World(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
        self.folder = Path(
            tempfile.mkdtemp(prefix="roundsman-sim-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None)
        )
        self.loop = asyncio.new_event_loop()
        self.time = Time()
        self.fuse = Fuse()
        self.name = f"recorder-{id(self)}"
        self.refused: set[str] = set()
        self.sink_fails = 0
        self.engine: Engine | None = None
        self.asked = 0

    @initialize(
        quirks=QUIRKS,
        start=st.sampled_from(["beginning", "now", "date"]),
        history=st.integers(0, 30),
        limit=st.sampled_from([10, 1000]),
        took=st.sampled_from([0.0, 0.4]),
    )
    def begin(self, quirks: Quirks, start: str, history: int, limit: int, took: float) -> None:
        self.parakey = Parakey(now=self.time.utc, quirks=quirks)
        for number in range(history):
            created = self.time.utc() - timedelta(minutes=history - number)
            self.parakey.add(
                created=created, timestamp=created - timedelta(seconds=took), log_id=f"h{number}"
            )
        self.start = (self.time.utc() - timedelta(minutes=5)).isoformat() if start == "date" else start
        self.limit = limit
        self.count = 0
        PLANS[self.name] = self._receive
        self.boot()

    def boot(self) -> None:
        store = MortalStore.open(self.folder / "store.db")
        assert isinstance(store, MortalStore)
        store.fuse = self.fuse
        self.transport = Straight(self.parakey, self._request)
        web = web_of(self.transport, self.time, attempts=2)
        self.engine = Engine(store, ByHand(), web, clock=self.time.clock())
        paging = {"limit": self.limit, "max_limit": 40}
        archive = FileSink(type="file", path=self.folder / "events.jsonl", batch=4, rotate_size=3000)
        sinks = {self.name: Recorder(batch=3).named(self.name), "archive": archive.named("archive")}
        self.engine.setup({"doors": event_logs(start=self.start, paging=paging)}, sinks)

    def _request(self) -> None:
        self.fuse.step()
        self.asked += 1
        if self.asked > 1000:
            raise Endless

    def _receive(self, event: Any) -> None:
        self.fuse.step()
        if self.sink_fails:
            self.sink_fails -= 1
            raise OSError("the receiver is down")
        if event.id in self.refused:
            raise Reject("never")

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

    @rule(fault=FAULTS, times=st.integers(1, 4))
    def fault(self, fault: Fault, times: int) -> None:
        self.parakey.faults.extend([fault] * times)

    @rule(steps=st.integers(0, 40))
    def kill_soon(self, steps: int) -> None:
        self.fuse.left = steps

    @rule(times=st.integers(1, 3))
    def sink_down(self, times: int) -> None:
        self.sink_fails = times

    @rule()
    def refuse_one(self) -> None:
        self.refused.add(f"r{self.count + 1}")

    @rule()
    def retention(self) -> None:
        self.parakey.blank(self.time.utc() - timedelta(hours=1))

    @rule()
    def restart(self) -> None:
        self.shut()
        self.boot()

    @rule()
    def visit(self) -> None:
        self.round()

    def round(self) -> None:
        assert self.engine is not None
        due = self.engine.store.sources()[0]["due"]
        self.asked = 0
        early = due > self.time.now()
        try:
            self.loop.run_until_complete(self.engine.once())
        except Killed:
            self.shut()
            self.boot()
        else:
            assert not (early and self.asked), "asked before due"

    def shut(self) -> None:
        if self.engine is not None:
            self.engine.store.close()
            self.engine = None

    @invariant()
    def log_is_exact(self) -> None:
        if self.engine is None:
            return
        ids = [event.id for event, _ in self.engine.store.events(0, 10**9, 10**6, Filter())]
        assert len(ids) == len(set(ids))

    def teardown(self) -> None:
        try:
            if self.engine is not None:
                self.heal_and_check()
        finally:
            self.shut()
            PLANS.pop(self.name, None)
            RECORDS.pop(self.name, None)
            self.loop.close()
            shutil.rmtree(self.folder, ignore_errors=True)

    def heal_and_check(self) -> None:
        assert self.engine is not None
        self.fuse.left = None
        self.sink_fails = 0
        self.parakey.faults.clear()
        for seconds in (3700, 3700, 61, 7 * 3600, 61, 7 * 3600, 61):
            self.time.advance(seconds)
            self.round()
        log = [event for event, _ in self.engine.store.events(0, 10**9, 10**6, Filter())]
        told = {event.id for event in log}
        state, _ = self.engine.store.state("doors")
        floor = state.get("floor")
        missing = [
            row
            for row in self.parakey.logs
            if row.id not in told
            and row.id not in state.get("before", ())
            and (floor is None or row.created.isoformat() >= floor.replace("Z", "+00:00"))
        ]
        if any(event.type == "roundsman.source.gap" for event in log):
            missing = []  # it was said that rows may be missing
        assert not missing, (missing, state)
        self.check_sinks([event.id for event in log])

    def check_sinks(self, log: list[str]) -> None:
        assert self.engine is not None
        buried = {row["id"] for row in self.engine.store.dead(self.name)}
        got = list(dict.fromkeys(event.id for event in RECORDS.get(self.name, [])))
        assert got == [i for i in log if i not in buried], "every event reached the recorder, in order"
        # By age: their names have the day of the machine's clock, which is not the simulation's.
        files = sorted(
            self.folder.glob("events*.jsonl"), key=lambda p: (p.name == "events.jsonl", p.stat().st_mtime_ns)
        )
        lines = [line for path in files for line in path.read_bytes().splitlines()]
        from roundsman import wire

        written = [wire.decode(line)["id"] for line in lines]
        assert written == log, "every event is in the file once, in order"


World.TestCase.settings = settings(
    max_examples=int(os.environ.get("ROUNDSMAN_SIMULATIONS", "120")),
    stateful_step_count=30,
    deadline=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)
TestNothingIsLost = World.TestCase
