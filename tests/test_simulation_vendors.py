"""Each completion and each failed item is reported exactly once, with any fault of three vendors and whenever the daemon dies.

Batches that stall, vanish and finish late; lists that shift while being read, with pages that work or do not; rows that become
visible one by one; tokens that end in the middle; links that expire; faults everywhere.
"""

from collections import Counter
from datetime import timedelta
from typing import Any

from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import initialize, rule

from budgets import SIMULATIONS
from doors import HEADER, MAILCHIMP, PARAKEY, RAILZ, SECRET, TOKEN, VALUE, subscribe
from inside import done
from mortal import Mortal, faults
from roundsman.plugin import Source
from roundsman.sandbox import Fault, Parakey, Town, Vendor
from roundsman.sandbox.mailchimp import Mailchimp, Operation, Quirks as MailchimpQuirks, bad_address
from roundsman.sandbox.railz import Quirks as RailzQuirks, Railz
from worlds import mailchimp_batches, parakey_batches, railz_pushes

CONNECTIONS = ("CON-1", "CON-2", "CON-3")
SECOND = timedelta(seconds=1)
TOOK = st.sampled_from([0.0, 0.0, 30.0, 90.0, 900.0, 9000.0])
MAILCHIMPS = st.builds(
    MailchimpQuirks,
    order=st.sampled_from(["newest", "oldest", "shuffled"]),
    etag=st.booleans(),
    cap=st.sampled_from([20, 1000]),
    link_life=st.sampled_from([timedelta(seconds=1), timedelta(minutes=10)]),
)
RAILZES = st.builds(
    RailzQuirks,
    paging=st.sampled_from(["honoured", "honoured", "ignored", "refused", "absent"]),
    order=st.sampled_from(["newest", "oldest", "shuffled"]),
    cap=st.sampled_from([20, 25, 100]),
    etag=st.booleans(),
    token_life=st.sampled_from([timedelta(minutes=2), timedelta(minutes=60)]),
    says_expiry=st.booleans(),
    empty=st.sampled_from([200, 204]),
    per_minute=st.sampled_from([None, None, 10]),
)
FAULTS = faults("", "/3.0", "/rsg-api", "/getAccess", "/v2/data", "/v2/connections", "/batches")


class Vendors(Mortal):
    patience = 5000

    @initialize(
        mailchimp=MAILCHIMPS,
        railz=RAILZES,
        results=st.sampled_from(["failures", "all", "off"]),
        history=st.integers(0, 3),
    )
    def begin(self, mailchimp: MailchimpQuirks, railz: RailzQuirks, results: str, history: int) -> None:
        self.mailchimp = Mailchimp(self.time.utc, mailchimp)
        self.railz = Railz(self.time.utc, railz)
        self.parakey = Parakey(self.time.utc)
        for name in CONNECTIONS:
            self.railz.connect(name)
        parts: dict[str, Any] = {"": self.parakey, "/3.0": self.mailchimp, "/rsg-api": self.mailchimp}
        self.vendor = Town({**parts, "/v2": self.railz, "/getAccess": self.railz})
        subscribe(self.mailchimp, f"http://daemon/hooks/news/{TOKEN}", SECRET)
        subscribe(self.railz, "http://daemon/hooks/ledger", SECRET)
        subscribe(self.parakey, "http://daemon/hooks/keys", headers={HEADER: VALUE})
        self.results = results
        self.count = 0
        self.hidden: set[str] = set()
        self.tracked: set[str] = set()
        self.hurry = (0, "")
        self.boot()
        for _ in range(history):
            self.import_contacts([True, False], 0.0, None)
            self.push(CONNECTIONS[0], 30, 0.0, [True, False], batched=True)

    def sources(self) -> dict[str, Source]:
        return {
            "news": mailchimp_batches(results=self.results, page_size=20, webhook=MAILCHIMP),
            "ledger": railz_pushes(page_size=20, webhook=RAILZ),
            "keys": parakey_batches(webhook=PARAKEY),
        }

    def senders(self) -> list[Vendor]:
        return [self.mailchimp, self.railz, self.parakey]

    def fresh(self) -> str:
        self.count += 1
        return f"x{self.count}"

    @rule(
        good=st.lists(st.booleans(), max_size=6),
        took=TOOK,
        stuck=st.sampled_from([None, None, "started", "finalizing", "paused"]),
        many=st.sampled_from([1, 1, 1, 25]),
    )
    def submit(self, good: list[bool], took: float, stuck: str | None, many: int) -> None:
        for _ in range(many):
            self.import_contacts(good, took, stuck)

    def import_contacts(self, good: list[bool], took: float, stuck: str | None) -> None:
        operations = [Operation() if fine else bad_address("a@b.example") for fine in good]
        self.mailchimp.add(operations, batch_id=self.fresh(), took=took * SECOND, stuck=stuck)

    @rule(
        connection=st.sampled_from(CONNECTIONS),
        count=st.sampled_from([1, 2, 3, 30]),
        took=TOOK,
        good=st.lists(st.booleans(), min_size=1, max_size=4),
        batched=st.booleans(),
    )
    def push(self, connection: str, count: int, took: float, good: list[bool], batched: bool) -> None:
        batch = self.fresh() if batched else None
        for number in range(count):
            self.time.advance(0.01)
            fine = good[number % len(good)]
            now = self.time.utc()
            self.railz.push(
                connection,
                push_id=self.fresh(),
                took=(took + number) * SECOND,
                batch=batch,
                status="success" if fine else "failed",
                visible=now + (number % 3) * 25 * SECOND,  # within the minute that two looks are apart
            )

    @rule(good=st.lists(st.booleans(), max_size=4), took=TOOK)
    def hand_out(self, good: list[bool], took: float) -> None:
        items: list[dict[str, Any]] = [{} if fine else {"error": {"message": "no"}} for fine in good]
        batch = self.parakey.batch(items, batch_id=self.fresh(), took=took * SECOND)
        assert self.engine is not None
        done(self.engine.store.follow("keys", [batch.id]))
        self.tracked.add(batch.id)

    @rule(which=st.integers(0, 10**6))
    def vanish(self, which: int) -> None:
        """Something is deleted at the vendor."""
        things = [b.id for b in self.mailchimp.batches.values()] + [
            p.id for ps in self.railz.pushes.values() for p in ps
        ]
        if things:
            key = things[which % len(things)]
            self.hidden.add(key)
            if key in self.mailchimp.batches:
                self.mailchimp.batches[key].deleted = True
            for push in (p for ps in self.railz.pushes.values() for p in ps if p.id == key):
                push.hidden = True

    @rule()
    def unstick(self) -> None:
        for batch in self.mailchimp.batches.values():
            batch.stuck = None

    @rule()
    def tokens_end(self) -> None:
        self.railz.tokens.clear()

    @rule(paging=st.sampled_from(["honoured", "ignored", "refused"]))
    def pages_change(self, paging: Any) -> None:
        self.railz.quirks.paging = paging

    @rule(seconds=st.sampled_from([1.0, 35.0, 61.0, 61.0, 700.0, 4000.0]))
    def wait(self, seconds: float) -> None:
        self.time.advance(seconds)

    @rule(fault=FAULTS, times=st.integers(1, 4))
    def fault(self, fault: Fault, times: int) -> None:
        for vendor in (self.mailchimp, self.railz, self.parakey):
            vendor.faults.extend([fault] * times)

    @rule(requests=st.integers(1, 12), connection=st.sampled_from(CONNECTIONS))
    def busy(self, requests: int, connection: str) -> None:
        """While the next requests are on their way, more happens at the vendors: lists shift while they are read."""
        self.hurry = (requests, connection)

    def _request(self) -> None:
        super()._request()
        requests, connection = self.hurry
        if requests:
            self.hurry = (requests - 1, connection)
            self.import_contacts([True, False], 0.0, None)
            self.push(connection, 2, 0.0, [True, False], batched=False)

    @rule(seconds=st.sampled_from([61.0, 61.0, 61.0, 20.0, 3.0]))
    def go_round(self, seconds: float) -> None:
        self.time.advance(seconds)
        self.round()

    def heal_and_check(self) -> None:
        assert self.engine is not None
        for vendor in (self.mailchimp, self.railz, self.parakey):
            vendor.faults.clear()
        self.unstick()
        self.hurry = (0, "")
        self.railz.quirks.per_minute = None
        for seconds in (3700, 3700, 3700, 3700, 61, 61, 2000, 61, 61):
            self.time.advance(seconds)
            self.round()
        told = Counter((event.source, event.id) for event in self.log())
        assert not told or max(told.values()) == 1
        self.check_newsletter({key for source, key in told if source == "news"})
        self.check_ledger({key for source, key in told if source == "ledger"})
        self.check_keys({key for source, key in told if source == "keys"})
        self.check_sinks()

    def check_newsletter(self, told: set[str]) -> None:
        for batch in self.mailchimp.batches.values():
            completed = f"{batch.id}:completed" in told
            operations = sum(key.startswith(f"{batch.id}:") for key in told) - completed
            if batch.id in self.hidden:
                assert completed + (f"news:gone:{batch.id}" in told) <= 1
                continue
            assert completed, batch
            failed = sum(operation.status != 200 for operation in batch.operations)
            wanted = {"off": 0, "failures": failed, "all": len(batch.operations)}[self.results]
            assert operations == wanted, (batch, operations)

    def check_ledger(self, told: set[str]) -> None:
        batches: dict[str, list[Any]] = {}
        for connection, pushes in self.railz.pushes.items():
            cut = any(key.startswith(f"ledger:gap:{connection}:cut") for key in told)
            for push in pushes:
                if push.batch:
                    batches.setdefault(push.batch, []).append((push, cut))
                if push.id not in self.hidden and not cut:
                    assert f"{push.id}:{push.status}" in told, push
        for batch, rows in batches.items():
            cut = any(cut for _, cut in rows)
            if any(push.id in self.hidden for push, _ in rows) or cut:
                continue
            if len(rows) > self.railz.quirks.cap and f"ledger:gap:batch:{batch}" in told:
                continue  # without pages, no answer showed all of it
            assert f"{batch}:completed" in told, batch
        totals = {
            document["data"]["batch_id"]: document["data"]["total"]
            for document in (e.document() for e in self.log() if e.type == "ai.railz.batch_push.completed")
        }
        for batch, total in totals.items():
            if not any(push.id in self.hidden for push, _ in batches[batch]):
                assert total == len(batches[batch]), (batch, total)

    def check_keys(self, told: set[str]) -> None:
        for key in self.tracked:
            batch = self.parakey.batches[key]
            # Two 404s in a row from a faulty server are as good as a deletion.
            if f"keys:gone:{key}" in told:
                continue
            assert f"{key}:completed" in told, batch
            failed = {n for n, item in enumerate(batch.items) if "error" in item}
            assert {k for k in told if k.startswith(f"{key}:") and k.endswith(":failed")} == {
                f"{key}:{n}:failed" for n in failed
            }


Vendors.TestCase.settings = settings(
    max_examples=SIMULATIONS,
    stateful_step_count=30,
    deadline=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)
TestEachThingIsToldOnce = Vendors.TestCase
