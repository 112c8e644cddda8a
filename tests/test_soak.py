"""Months of rounds in simulated time: nothing grows that has no reason to.

The suite makes a round every third day of 150, `make soak` one every hour of a whole year; all else is the same.
"""

import asyncio
import gc
import os
import resource
import threading
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from doors import until
from inside import caught_up, idle, sql, statuses
from rounds import running
from roundsman.engine.clock import Clock
from roundsman.engine.engine import BEAT, Engine
from roundsman.plugin import Source
from roundsman.sandbox.company import Company
from roundsman.sinks.file import FileSink
from roundsman.store import Filter
from roundsman.store.sqlite.store import SqliteStore
from worlds import (
    ByHand,
    Straight,
    Time,
    event_logs,
    mailchimp_batches,
    parakey_batches,
    railz_pushes,
    web_of,
)

DAY = 86400.0
HOURS = float(os.environ.get("ROUNDSMAN_SOAK_HOURS", "72"))
"""Between two visits of each of the twenty sources."""
DAYS = int(os.environ.get("ROUNDSMAN_SOAK_DAYS", "150"))
WARM = 90
"""Days after which all that is kept for a while has its size: 35 for ids, and the vendors' own 40."""
KEPT = 600
"""Bytes that an id may take that is kept for good: with its place in the index, on pages that others have left."""


class Sizes(NamedTuple):
    store: int
    """Bytes of the store."""
    wal: int
    memory: int
    """Bytes of this process."""
    handles: int
    threads: int
    tasks: int
    forever: int
    """Ids that are kept for good: vendors go on listing what they stand for."""


class Year:
    """Twenty sources, a vendor's town, and a clock by hand."""

    def __init__(self, folder: Path, time: Time) -> None:
        self.time = time
        self.company = Company(now=time.utc)
        self.path = folder / "roundsman.db"
        self.store = SqliteStore.open(self.path)
        self.hand = ByHand()
        self._pause = asyncio.Event()
        self._first: tuple[int, int, int] | None = None
        """Threads, handles and tasks at the first measurement."""
        clock = Clock(time.now, lambda: time.ticks, self._sleep, lambda: 0.0)
        self.transport = Straight(self.company.town)
        self.engine = Engine(self.store, self.hand, web_of(self.transport, time), clock=clock)
        options: dict[str, Any] = {"interval": HOURS * 3600, "start": "now"}
        sources: list[Source] = [event_logs(f"doors-{n}", **options) for n in range(12)]
        sources += [mailchimp_batches(f"news-{n}", **options) for n in range(3)]
        sources += [railz_pushes(f"ledger-{n}", **options) for n in range(3)]
        sources += [parakey_batches(f"keys-{n}", **options) for n in range(2)]
        archive = FileSink(type="file", path=folder / "events.jsonl", rotate_size="1MiB", keep=2)
        self.sources = {source.name: source for source in sources}
        self.sinks = {"archive": archive.named("archive")}

    async def _sleep(self, seconds: float) -> None:
        """The heartbeat waits for the hour; a pause between two steps is none."""
        if seconds == BEAT:
            self._pause.clear()
            await self._pause.wait()
        else:
            await asyncio.sleep(0)

    async def run(self) -> list[Sizes]:
        """Day by day; what everything measures every thirty days after the first ninety."""
        found = []
        await self.engine.setup(self.sources, self.sinks)
        async with running(self.engine):
            for day in range(1, DAYS + 1):
                await self.a_day(day)
                ends = self.time.now() + DAY
                while (at := min(self.hand.at.values())) < ends:
                    await self._hours(at)
                await self._hours(ends)
                if day >= WARM and (day - WARM) % 30 == 0:
                    found.append(await self.measure())
        await self.store.close()
        return found

    async def _hours(self, at: float) -> None:
        """On to this time, some hours at most between two heartbeats."""
        while self.time.now() < at:
            self.time.advance(min(12 * 3600.0, at - self.time.now()))
            self._pause.set()
            await asyncio.sleep(0)
        self.hand.ring_due(self.time.now())
        while not await idle(self.engine):
            await asyncio.sleep(0)
        # A delivery that was under way for hours would be one that hangs.
        await until(lambda: caught_up(self.engine, "archive"), 20)

    async def a_day(self, day: int) -> None:
        """What happens at the company; and vendors forget, too."""
        company, utc = self.company, self.time.utc()
        for hour in range(6, 18, 4):
            at = utc + timedelta(hours=hour)
            company.parakey.add(created=at, timestamp=at - timedelta(seconds=2), visible=at, note="x" * 200)
        if day % 3 == 0:
            company.import_contacts()
        company.push_entries()
        if day % 7 == 0:
            key = company.hand_out_keys()
            for n in range(2):
                await self.store.follow(f"keys-{n}", [key])
        old = utc - timedelta(days=40)
        parakey, mailchimp, railz = company.parakey, company.mailchimp, company.railz
        parakey.logs[:] = [log for log in parakey.logs if log.created > old]
        parakey.batches = {k: b for k, b in parakey.batches.items() if b.created > old}
        mailchimp.batches = {k: b for k, b in mailchimp.batches.items() if b.submitted > old}
        mailchimp._packed = {k: packed for k, packed in mailchimp._packed.items() if k in mailchimp.batches}
        for pushes in railz.pushes.values():
            pushes[:] = [push for push in pushes if push.requested > old]
        railz.tokens.clear()
        self.transport.requests.clear()

    async def measure(self) -> Sizes:
        # First: the look itself opens a file.
        [[forever]] = await sql(
            self.store, "SELECT count(*) FROM events WHERE stamp IS NULL AND type NOT GLOB 'roundsman.*'"
        )
        passing = {"store", "prune", "check"}
        await until(lambda: not [task for task in asyncio.all_tasks() if task.get_name() in passing], 20)
        # Others pass, too; and a thread whose task has ended may still have files open.
        with suppress(TimeoutError):
            first = self._first = self._first or running_now()
            await until(lambda: all(now <= then for now, then in zip(running_now(), first, strict=True)), 10)
        threads, handles, tasks = running_now()
        wal = self.path.with_name(self.path.name + "-wal")
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return Sizes(
            self.path.stat().st_size,
            wal.stat().st_size if wal.exists() else 0,
            pages * resource.getpagesize(),
            handles,
            threads,
            tasks,
            forever,
        )


def running_now() -> tuple[int, int, int]:
    """Threads, handles and tasks."""
    gc.collect()  # what nothing refers to may still have files open
    handles = len(list(Path("/proc/self/fd").iterdir()))
    return threading.active_count(), handles, len(asyncio.all_tasks())


@pytest.fixture
def every_event_keeps_the_contract() -> None:
    """Here, not each of two hundred thousand."""


async def test_after_months_nothing_has_grown(tmp_path: Path, time: Time) -> None:
    days = DAYS
    year = Year(tmp_path, time)
    found = await year.run()
    fates = (await statuses(year.engine)).values()
    polls = sum(fate.visits for fate in fates)
    print(f"{polls:,} visits in {days} days")
    for n, sizes in enumerate(found):
        print(f"day {WARM + 30 * n}:", "  ".join(f"{k} {v:,}" for k, v in sizes._asdict().items()))
    first, last = found[0], found[-1]
    assert polls > 0.95 * days * 24 / HOURS * 20, "neither a burst nor a silence"
    assert polls < 1.3 * days * 24 / HOURS * 20
    assert all(fate.failing_since is None for fate in fates)
    kept = (last.forever - first.forever) * KEPT
    assert max(sizes.store for sizes in found) < first.store * 1.15 + kept
    assert max(sizes.wal for sizes in found) < 8 * 2**20
    assert last.memory - first.memory < 12 * 2**20
    assert max(sizes.handles for sizes in found) <= first.handles
    assert max(sizes.tasks for sizes in found) <= first.tasks
    assert max(sizes.threads for sizes in found) <= first.threads + 1
    store = SqliteStore.open(year.path)
    assert await store.head() > days * (12 * 3 + 3) * 0.9
    recent = await store.events(0, 10**9, 10**6, Filter())
    assert [event.type for event, _ in recent if event.source == "daemon"] == [], "there was no trouble"
    assert recent[0][1] > time.now() - 36.5 * DAY, "payloads go after retention"
    await store.close()
