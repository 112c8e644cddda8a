"""Nothing is lost and nothing reported twice of lists that a table of TOML describes, with any fault of their servers.

Five servers: the newest first, a next that is kept, a cursor in the body, windows, and times. Rows come late, share
stamps, are edited, are removed; pages shift while they are read; tags lie; the daemon dies between any two steps.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import initialize, invariant, rule

from budgets import SIMULATIONS
from lists import doors, graph, windows, worked
from mortal import Mortal, faults
from roundsman.plugin import Source
from roundsman.sandbox import Fault, Parakey, Quirks as ParakeyQuirks, Town, Vendor
from roundsman.sandbox.github import GitHub, Quirks as GitHubQuirks
from roundsman.sandbox.nvd import Nvd, Quirks as NvdQuirks
from roundsman.sandbox.okta import Okta, Quirks as OktaQuirks
from roundsman.sandbox.paging import Listing
from roundsman.sandbox.zendesk import Quirks as ZendeskQuirks, Zendesk
from worlds import event_logs

CAPS = st.sampled_from([None, 7, 25])
GITHUBS = st.builds(
    GitHubQuirks,
    cap=CAPS,
    ties=st.sampled_from(["newest", "oldest", "shuffled"]),
    late=st.sampled_from(["by_stamp", "on_top"]),
    weak_tag=st.booleans(),
    stale_tag=st.booleans(),
    limit=st.sampled_from([None, 30]),
)
OKTAS = st.builds(OktaQuirks, cap=CAPS, limit=st.sampled_from([None, 10]), retry_after=st.booleans())
ZENDESKS = st.builds(
    ZendeskQuirks,
    cap=CAPS,
    limit=st.sampled_from([None, 10]),
    repeats=st.sampled_from([0, 2]),
    null_when_empty=st.booleans(),
)
NVDS = st.builds(
    NvdQuirks,
    cap=st.sampled_from([None, 15, 25]),
    limit=st.sampled_from([None, 5]),
    order=st.sampled_from(["published", "modified"]),
    no_total=st.booleans(),
)
PARAKEYS = st.builds(
    ParakeyQuirks,
    cap=st.sampled_from([10, 1000]),
    inclusive=st.booleans(),
    envelope=st.sampled_from([None, "data"]),
    weak_etag=st.booleans(),
    unconditional=st.booleans(),
)
FAULTS = faults("", "/rep", "/graphql", "/api/v1", "/api/v2", "/rest", "/eventLogs")
HOUR = 3600.0
START = "2026-04-30T00:00:00Z"
"""Before anything happens. Without a time, the log of Okta begins seven days ago."""


class Lists(Mortal):
    patience = 4000

    @initialize(
        github=GITHUBS, okta=OKTAS, zendesk=ZENDESKS, nvd=NVDS, parakey=PARAKEYS, history=st.integers(0, 30)
    )
    def begin(
        self,
        github: GitHubQuirks,
        okta: OktaQuirks,
        zendesk: ZendeskQuirks,
        nvd: NvdQuirks,
        parakey: ParakeyQuirks,
        history: int,
    ) -> None:
        now = self.time.utc
        self.github, self.okta = GitHub(now, github), Okta(now, okta)
        self.zendesk, self.nvd, self.parakey = Zendesk(now, zendesk), Nvd(now, nvd), Parakey(now, parakey)
        self.vendor = Town(
            {
                "": self.parakey,
                "/rep": self.github,
                "/graphql": self.github,
                "/api/v1": self.okta,
                "/api/v2": self.zendesk,
                "/rest": self.nvd,
            }
        )
        self.count = 0
        self.hurry = 0
        self.seen: dict[tuple[str, str], int] = {}
        """The number of each event in the log, also of those that were pruned."""
        self.was_away = False
        self.boot()
        for number in range(history):
            self.happen(now() - timedelta(minutes=history - number), now())

    def sources(self) -> dict[str, Source]:
        table, logs = doors(), event_logs(name="logs", paging={"limit": 10})
        made = [
            worked("github"),
            worked("okta", start=START),
            worked("zendesk"),
            windows(),
            graph(),
            table,
            logs,
        ]
        return {source.name: source for source in made}

    def lists(self) -> dict[str, Listing[Any]]:
        return {
            "github": self.github,
            "okta": self.okta,
            "zendesk": self.zendesk,
            "nvd": self.nvd,
            "graph": self.github,
        }

    def everybody(self) -> list[Vendor]:
        return [self.github, self.okta, self.zendesk, self.nvd, self.parakey]

    def happen(self, at: datetime, shown: datetime) -> None:
        """One row everywhere."""
        self.count += 1
        key = self.count
        self.github.add(str(key), at=at, shown=shown)
        self.okta.add(f"uuid{key}", at=at, shown=shown, failed=key % 3 == 0)
        self.zendesk.add(str(key), at=at, shown=shown)
        # What is read by times is late by less than the overlap.
        late = min(shown, at + timedelta(minutes=5))
        self.nvd.add(f"CVE-{key}", at=at, shown=late)
        # Four of them share a stamp: with more than a page, only a larger page would help.
        at += timedelta(milliseconds=key // 4)
        self.parakey.add(created=at, timestamp=at, visible=max(at, late), log_id=f"log{key}")

    @rule(
        count=st.integers(1, 12),
        together=st.booleans(),
        late=st.sampled_from([0.0, 0.0, 0.0, 45.0, 240.0, 4000.0, 6 * HOUR]),
    )
    def rows(self, count: int, together: bool, late: float) -> None:
        for _ in range(count):
            if not together:
                self.time.advance(0.4)
            now = self.time.utc()
            self.happen(now, now + timedelta(seconds=late))

    @rule(which=st.integers(0, 10**6))
    def edit(self, which: int) -> None:
        if self.count:
            key = which % self.count + 1
            self.time.advance(1.1)
            self.zendesk.edit(str(key), status="solved")
            self.nvd.edit(f"CVE-{key}", vulnStatus="Analyzed")

    @rule(seconds=st.sampled_from([1.0, 61.0, 61.0, 700.0, 2000.0, 4 * HOUR, 3 * 24 * HOUR]))
    def wait(self, seconds: float) -> None:
        self.time.advance(seconds)

    @rule(days=st.sampled_from([40, 130, 300]))
    def away(self, days: int) -> None:
        """For a long time there is no visit, and nothing happens. Old events and ids are pruned."""
        self.was_away = True
        self.time.advance(days * 24 * HOUR)

    @rule(fault=FAULTS, times=st.integers(1, 4))
    def fault(self, fault: Fault, times: int) -> None:
        for vendor in self.everybody():
            vendor.faults.extend([fault] * times)

    @rule(times=st.integers(1, 3))
    def errors_in_200(self, times: int) -> None:
        for vendor in self.lists().values():
            vendor.quirks.errors_in_200 = times

    @rule(requests=st.integers(1, 12))
    def busy(self, requests: int) -> None:
        """While the next requests are on their way, more happens: lists shift while they are read."""
        self.hurry = requests

    def _request(self) -> None:
        super()._request()
        if self.hurry:
            self.hurry -= 1
            self.happen(self.time.utc(), self.time.utc())

    @rule(seconds=st.sampled_from([61.0, 61.0, 20.0, 3.0]))
    def go_round(self, seconds: float) -> None:
        self.time.advance(seconds)
        self.round()

    def heal_and_check(self) -> None:
        self.hurry = 0
        for vendor in self.everybody():
            vendor.faults.clear()
        for listing in self.lists().values():
            listing.quirks.errors_in_200 = 0
            listing.quirks.limit = None
        self.time.advance(7 * HOUR)  # what is late has come
        for seconds in (3700, 3700, 3700, 61, 2000, 61, 61):
            self.time.advance(seconds)
            self.round()
        self.remember()
        for name, listing in self.lists().items():
            got = self._told(name)
            lost_position = any(
                event.type == "roundsman.source.gap" for event in self.log() if event.source == name
            )
            if not lost_position:
                assert listing.current() <= got, (name, listing.current() - got)
            assert got <= {row.key for row in listing.versions} | listing.expected(), (
                name,
                "reported and never there",
            )
        logs = {log.id for log in self.parakey.logs}
        assert self._told("logs") == logs, logs ^ self._told("logs")
        assert self._told("table") == logs, logs ^ self._told("table")
        if not self.was_away:
            self.check_sinks()

    @invariant()
    def nothing_comes_twice(self) -> None:
        if self.engine is not None:
            self.remember()

    def remember(self) -> None:
        for event in self.log():
            if not event.type.startswith("roundsman."):
                assert self.seen.setdefault((event.source, event.id), event.seq) == event.seq, event

    def _told(self, name: str) -> set[str]:
        return {key for source, key in self.seen if source == name}


def _make(case: Callable[..., Any]) -> Any:
    case.settings = settings(
        max_examples=SIMULATIONS,
        stateful_step_count=30,
        deadline=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
    return case


TestEachRowIsToldOnce = _make(Lists.TestCase)


class OnlyLogs(Lists):
    """The event logs alone."""

    def sources(self) -> dict[str, Source]:
        return {"logs": super().sources()["logs"]}


@pytest.mark.parametrize("steps", range(8, 16))
def test_a_reading_that_was_cut_off_for_months_reports_each_row_once(steps: int) -> None:
    """Rows of today were the future when it began: they moved what ids are kept by, and not where the next reading begins."""
    state = OnlyLogs()
    state.begin(GitHubQuirks(), OktaQuirks(), ZendeskQuirks(), NvdQuirks(), ParakeyQuirks(cap=10), history=37)
    try:
        state.kill_soon(steps)
        state.visit()
        state.remember()
        state.fuse.left = None
        state.away(130)
        state.rows(count=3, together=False, late=0.0)
        for seconds in (7 * HOUR, 3700, 3700, 61):
            state.go_round(seconds)
            state.remember()
        assert {key for source, key in state.seen if source == "logs"} == {
            log.id for log in state.parakey.logs
        }
    finally:
        state.end()
