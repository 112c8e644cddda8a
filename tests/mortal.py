"""What a simulation needs: a daemon that dies between any two steps, sinks that fail and refuse, and the last judgement."""

import asyncio
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import structlog
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from inside import end_commits, seen, statuses, visit_for_a_ring
from roundsman import wire
from roundsman.engine.engine import Engine
from roundsman.errors import Reject
from roundsman.http.transport import Clients
from roundsman.plugin import Sink, Source
from roundsman.sandbox import Fault, Outgoing, Subscription, Vendor
from roundsman.sinks.file import FileSink
from roundsman.store import Filter, Kind, Store
from roundsman.store.sqlite.store import SqliteStore
from roundsman.web.app import app
from worlds import PLANS, RECORDS, ByHand, Recorder, Straight, Time, keeps_the_contract, web_of


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


class MortalStore(SqliteStore):
    """A store whose process may die before or after any write."""

    fuse: Fuse

    async def commit(self, *args: Any, **kwargs: Any) -> int:
        self.fuse.step()
        new = await super().commit(*args, **kwargs)
        self.fuse.step()
        return new

    async def receive(self, *args: Any, **kwargs: Any) -> int:
        self.fuse.step()
        new = await super().receive(*args, **kwargs)
        self.fuse.step()
        return new

    async def ack(self, *args: Any, **kwargs: Any) -> None:
        self.fuse.step()
        await super().ack(*args, **kwargs)
        self.fuse.step()

    async def begin(self, *args: Any) -> None:
        self.fuse.step()
        await super().begin(*args)
        self.fuse.step()


def faults(*paths: str) -> st.SearchStrategy[Fault]:
    """What may go wrong, everywhere or at some paths."""
    path = st.sampled_from(paths or ("",))
    return st.one_of(
        st.builds(Fault, status=st.sampled_from([400, 401, 403, 404, 500, 502, 503]), path=path),
        st.builds(
            Fault,
            status=st.just(429),
            headers=st.sampled_from([{"Retry-After": "90"}, {"Retry-After": "soon"}, {}]),
            path=path,
        ),
        st.builds(
            Fault,
            status=st.just(200),
            body=st.sampled_from([b"", b"<html>", b'[{"id":', b"{}", b"[1]", b"null"]),
            path=path,
        ),
        st.builds(Fault, kind=st.sampled_from(["hang", "drop"]), path=path),
    )


class Mortal(RuleBasedStateMachine):
    """A daemon on some vendors. A subclass sets `vendor`, has `sources` and calls `boot`."""

    vendor: Vendor
    patience = 1000
    """Requests in one round after which it is taken for endless."""

    def __init__(self) -> None:
        super().__init__()
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
        self.folder = Path(
            tempfile.mkdtemp(prefix="roundsman-sim-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None)
        )
        self.loop = asyncio.new_event_loop()
        self.others = set(threading.enumerate())
        """Threads of other tests, such as the servers of a session: they do not end with this daemon."""
        self.time = Time()
        self.fuse = Fuse()
        self.name = f"recorder-{id(self)}"
        self.refused: set[str] = set()
        self.sink_fails = 0
        self.engine: Engine | None = None
        self.asked = 0
        self.requests = 0
        """Number of requests to vendors in all."""
        self.paused: set[str] = set()
        """What was paused at the last look, and what the recorder and the vendors had got by then."""
        self.got = self.had = 0
        self.mail: list[tuple[Vendor, Subscription, Any]] = []
        """Webhooks on their way."""
        PLANS[self.name] = self._receive

    def sources(self) -> dict[str, Source]:
        raise NotImplementedError

    def senders(self) -> list[Vendor]:
        """Who sends webhooks."""
        return [self.vendor]

    def boot(self) -> None:
        store = MortalStore.open(self.folder / "store.db")
        assert isinstance(store, MortalStore)
        store.fuse = self.fuse
        self.transport = Straight(self.vendor, self._request)
        web: Clients = web_of(self.transport, self.time, attempts=2)
        self.engine = Engine(store, ByHand(), web, clock=self.time.clock())
        archive = FileSink(type="file", path=self.folder / "events.jsonl", batch=4, rotate_size=3000)
        sinks: dict[str, Sink] = {
            self.name: Recorder(batch=3).named(self.name),
            "archive": archive.named("archive"),
        }
        self.engine.listening = self.time.now()
        self.loop.run_until_complete(self.engine.setup(self.sources(), sinks))
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(app(self.engine)))

    def _request(self) -> None:
        self.fuse.step()
        self.asked += 1
        self.requests += 1
        if self.asked > self.patience:
            raise Endless

    def _receive(self, event: Any) -> None:
        self.fuse.step()
        if self.sink_fails:
            self.sink_fails -= 1
            raise OSError("the receiver is down")
        if event.id in self.refused:
            raise Reject("never")

    @rule(steps=st.integers(0, 40))
    def kill_soon(self, steps: int) -> None:
        self.fuse.left = steps

    @rule(times=st.integers(1, 3))
    def sink_down(self, times: int) -> None:
        self.sink_fails = times

    @rule()
    def restart(self) -> None:
        self.shut()
        self.boot()

    # -- pauses ----------------------------------------------------------------------------------------------------------

    def names(self) -> list[tuple[Kind, str]]:
        """What can be paused."""
        return [*(("source", name) for name in self.sources()), ("sink", self.name), ("sink", "archive")]

    @rule(which=st.integers(0, 10**6))
    def pause(self, which: int) -> None:
        kind, name = self.names()[which % len(self.names())]
        self._command(lambda store: store.pause(kind, name, "anna", self.time.now()))

    @rule(which=st.integers(0, 10**6))
    def resume(self, which: int) -> None:
        kind, name = self.names()[which % len(self.names())]
        self._command(lambda store: store.resume(kind, name))

    def resume_all(self) -> None:
        for kind, name in self.names():
            self._command(lambda store, kind=kind, name=name: store.resume(kind, name))

    def _command(self, act: Callable[[Store], Coroutine[Any, Any, Any]]) -> None:
        """A command, and the daemon's next heartbeat."""
        assert self.engine is not None
        self.loop.run_until_complete(act(self.engine.store))
        self.loop.run_until_complete(self.engine.pauses.look())

    @invariant()
    def nothing_that_is_paused_got_anything(self) -> None:
        """Neither a request to a vendor nor an event to a sink, whenever the daemon died."""
        if self.engine is None:
            return
        paused = {pause.name for pause in seen(self.engine.store.pauses())}
        got = len(RECORDS.get(self.name, []))
        if self.name in paused and self.name in self.paused:
            assert got == self.got
        if self.sources().keys() <= paused and self.sources().keys() <= self.paused:
            assert self.requests == self.had
        self.paused, self.got, self.had = paused, got, self.requests

    # -- rounds ----------------------------------------------------------------------------------------------------------

    @rule()
    def visit(self) -> None:
        self.round()

    def round(self) -> None:
        assert self.engine is not None
        early = all(row.status.due > self.time.now() for row in seen(self.engine.store.sources()))
        self.asked = 0
        try:
            self.loop.run_until_complete(self.engine.once())
        except Killed:
            self._die()
        else:
            assert not (early and self.asked), "asked before due"

    # -- webhooks: lost, repeated, late, in any order, forged ----------------------------------------------------------

    @rule(which=st.integers(0, 10**6), times=st.integers(1, 3), keep=st.booleans(), ring=st.booleans())
    def deliver(self, which: int, times: int, keep: bool, ring: bool = False) -> None:
        """One webhook of those under way arrives, perhaps several times, and perhaps once more much later."""
        letter = self._pick(which, keep=keep)
        if letter is not None:
            vendor, subscription, document = letter
            for _ in range(times):
                status = self._post(vendor.letter(subscription, document))
                if status is None:
                    self.mail.append(letter)  # it was not acknowledged
                    return
                assert status == 200
            if ring:
                self.answer_rings()

    @rule(most=st.integers(1, 30), ring=st.booleans())
    def deliver_all(self, most: int, ring: bool) -> None:
        """The vendor's queue is worked off."""
        self._collect()
        for _ in range(min(most, len(self.mail))):
            self.deliver(0, 1, keep=False)
        if ring:
            self.answer_rings()

    @rule(which=st.integers(0, 10**6))
    def lose(self, which: int) -> None:
        self._pick(which, keep=False)

    @rule(which=st.integers(0, 10**6), how=st.sampled_from(["secret", "body", "stale", "nothing"]))
    def forge(self, which: int, how: str) -> None:
        """An attacker calls, who has seen a webhook and does not know the secret."""
        letter = self._pick(which, keep=True)
        if letter is None:
            return
        vendor, subscription, document = letter
        signed = bool(subscription.secret)
        headers = dict(subscription.headers)
        if how == "secret" or not signed:
            headers = {name: f"{value}x" for name, value in headers.items()}
        forger = replace(
            subscription, headers=headers, secret=subscription.secret + ("x" if how == "secret" else "")
        )
        sent = vendor.letter(forger, document)
        if signed and how == "body":
            sent = replace(sent, body=sent.body.replace(b"x", b"y", 1) + b"&y=1")
        if signed and how == "nothing":
            sent = replace(sent, headers={})
        if how == "stale" and signed:
            self.time.advance(301)
        assert self._post(sent) in {401, None}

    @rule()
    def answer_rings(self) -> None:
        """The visits that webhooks rang for."""
        assert self.engine is not None
        for name, fate in self.loop.run_until_complete(statuses(self.engine)).items():
            if fate.ring_at is None or fate.due <= self.time.now():
                continue
            self.asked = 0
            try:
                self.loop.run_until_complete(visit_for_a_ring(self.engine, name))
            except Killed:
                self._die()
                return

    def _collect(self) -> None:
        for vendor in self.senders():
            self.mail += [(vendor, *each) for each in vendor.due()]

    def _pick(self, which: int, *, keep: bool) -> tuple[Vendor, Subscription, Any] | None:
        self._collect()
        if not self.mail:
            return None
        which %= len(self.mail)
        return self.mail[which] if keep else self.mail.pop(which)

    def _post(self, sent: Outgoing) -> int | None:
        """The answer; None where the daemon died over it."""
        assert self.engine is not None

        async def post() -> int:
            return (await self.client.post(sent.url, content=sent.body, headers=sent.headers)).status_code

        task = self.loop.create_task(post())

        def died(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
            assert isinstance(context.get("exception"), Killed), context
            task.cancel()

        self.loop.set_exception_handler(died)
        try:
            return self.loop.run_until_complete(task)
        except (Killed, asyncio.CancelledError):
            self._die()
            return None
        finally:
            self.loop.set_exception_handler(None)

    def _die(self) -> None:
        self.bury()
        self.shut()
        self.boot()

    def bury(self) -> None:
        """What was under way beside the visit that died has died with it."""
        left = asyncio.all_tasks(self.loop)
        for task in left:
            task.cancel()

        async def end() -> None:
            await asyncio.gather(*left, return_exceptions=True)

        self.loop.run_until_complete(end())
        if self.engine is not None:
            end_commits(self.engine.store)
        for thread in set(threading.enumerate()) - self.others:
            # A write that had begun, which a real end would have cut short. Commits have ended by now.
            if thread.daemon and thread.name != "commit":
                while not thread.is_alive() and thread in threading.enumerate():
                    time.sleep(0)  # it is about to start
                thread.join()

    def shut(self) -> None:
        if self.engine is not None:
            self.loop.run_until_complete(self.engine.store.close())
            self.engine = None

    def log(self) -> list[Any]:
        """Every event in the log."""
        assert self.engine is not None
        return [event for event, _ in seen(self.engine.store.events(0, 10**9, 10**6, Filter()))]

    @invariant()
    def log_is_exact(self) -> None:
        if self.engine is not None:
            ids = [(event.source, event.id) for event in self.log()]
            assert len(ids) == len(set(ids))

    def teardown(self) -> None:
        try:
            if self.engine is not None:
                self.fuse.left = None
                self.sink_fails = 0
                self.resume_all()
                self.heal_and_check()
                for event in self.log():
                    keeps_the_contract(event)
        finally:
            self.end()

    def end(self) -> None:
        """Leave nothing behind."""
        self.shut()
        PLANS.pop(self.name, None)
        RECORDS.pop(self.name, None)
        self.loop.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def heal_and_check(self) -> None:
        raise NotImplementedError

    def check_sinks(self) -> None:
        """Everything in the log reached every sink, in order."""
        assert self.engine is not None
        log = [event.id for event in self.log()]
        buried = {row.id for row in seen(self.engine.store.dead(self.name))}
        got = list(dict.fromkeys((event.source, event.id) for event in RECORDS.get(self.name, [])))
        wanted = [(event.source, event.id) for event in self.log() if event.id not in buried]
        assert got == wanted, "every event reached the recorder, in order"
        # By age: their names have the day of the machine's clock, which is not the simulation's.
        files = sorted(
            self.folder.glob("events*.jsonl"), key=lambda p: (p.name == "events.jsonl", p.stat().st_mtime_ns)
        )
        lines = [line for path in files for line in path.read_bytes().splitlines()]
        written = [wire.decode(line)["id"] for line in lines]
        assert written == log, (written, log, "every event is in the file once, in order")
