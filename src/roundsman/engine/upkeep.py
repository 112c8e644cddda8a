"""Maintains the store: syncs it, prunes it, and checks its content, its file and the space on the disk."""

import asyncio
from collections.abc import Collection

import structlog

from roundsman.engine.notices import Disk, Notices, store_damaged
from roundsman.engine.shared import Shared
from roundsman.store import GaveUp, StoreError

DISK_EVERY = 60.0
"""Seconds between two looks at the space on the disk."""
PRUNE_FIRST, PRUNE_EVERY = 300.0, 3600.0
"""Seconds from the start to the first pruning, and between two: some machines are never up for an hour."""
PRUNE_PAUSE = 0.05
"""Seconds between two steps of pruning."""
PRUNE_ONCE = 20
"""Maximum steps of pruning in one `once`: a cron job has to end."""
PRUNE_NOT = 86400.0
"""Seconds without pruning after the clock jumped: it may be a mistake, which a person may correct."""
PLAUSIBLE = 7 * 86400.0
"""If the new time is within so many seconds of the last event before a jump, it is likely right: the machine
was off for the night, for example.
"""
CHECK_FIRST, CHECK_EVERY = 2.0, 86400.0
"""Seconds from the start to the first check whether the store is sound, and between two."""
SYNC_EVERY = 0.5
"""Seconds until a relaxed write survives a power cut."""

log = structlog.get_logger()


class Upkeep:
    """Maintains the store."""

    def __init__(self, shared: Shared, notices: Notices, retention: float) -> None:
        self._shared, self._store, self._time = shared, shared.store, shared.time
        self._notices = notices
        self.retention = retention
        """Seconds that delivered events are kept."""
        self.lost = False
        """The store was deleted or replaced while in use: the daemon ends, and is started on the file that is there."""
        self._disk = Disk(self._store.place, lambda _: self._store.space())
        self._disk_seen = float("-inf")
        now = self._time.monotonic()
        self._pruned = now - PRUNE_EVERY + PRUNE_FIRST
        self._checked = now - CHECK_EVERY + CHECK_FIRST
        self._jobs: dict[str, asyncio.Task[None]] = {}
        self._missing = False
        self._recovered = 0

    async def begin(self) -> list[str]:
        """Take up what an earlier daemon has reported. Returns sources for which a command requested a visit."""
        low = await self._store.last_notice("roundsman.disk.*")
        self._disk.low = low is not None and low[0].type == "roundsman.disk.low"
        return await self._store.commanded() or []

    def start(self, group: asyncio.TaskGroup) -> None:
        """Start to sync."""
        self._jobs["sync"] = group.create_task(self._sync_forever(), name="sync")

    def stop(self) -> None:
        for task in self._jobs.values():
            task.cancel()

    # -- each heartbeat ------------------------------------------------------------------------------------------------

    async def look_at_the_file(self) -> None:
        """SQLite keeps writing to a deleted file. Recover a deleted -wal; a store missing twice is lost."""
        await self._store.recover()
        if self._store.recoveries > self._recovered:
            self._recovered = self._store.recoveries
            reason = "its -wal file was deleted while in use"
            log.error("store.recovered", path=str(self._store.place), reason=reason)
        before, self._missing = self._missing, self._store.lost()
        if self._missing and before and not self.lost:  # two looks: it may be about to be put back
            self.lost = True
            log.error("store.lost", path=str(self._store.place), reason=self._store.gone)

    async def look_at_the_disk(self) -> None:
        """Report a disk that is nearly full; record that the daemon runs."""
        if self._time.monotonic() - self._disk_seen < DISK_EVERY:
            return
        self._disk_seen = self._time.monotonic()
        notice = failed = None
        try:
            notice = self._disk.notice(self._time.now())
        except OSError as exc:  # the folder was deleted, for example
            failed = StoreError(f"{self._store.place}: {exc.strerror}")
        await self._notices.publish(notice)
        await self._store.beat(self._time.now())  # also if the disk cannot be looked at
        if failed is not None:
            raise failed

    def start_what_is_due(self, group: asyncio.TaskGroup, sinks: Collection[str]) -> None:
        """Start pruning or a check beside the heartbeat: with very many ids, pruning takes a minute."""
        now = self._time.monotonic()
        if now - self._pruned > PRUNE_EVERY and not self._runs("prune"):
            self._jobs["prune"] = group.create_task(self.prune(sinks), name="prune")
        if now - self._checked > CHECK_EVERY and not self._runs("check"):
            self._jobs["check"] = group.create_task(self.check(), name="check")

    def _runs(self, job: str) -> bool:
        task = self._jobs.get(job)
        return task is not None and not task.done()

    # -- jobs ----------------------------------------------------------------------------------------------------------

    async def _sync_forever(self) -> None:
        """Acks and `due` are committed without a sync. With this one, a power cut costs at most a second."""
        while True:
            await asyncio.sleep(SYNC_EVERY)  # by the real clock, even in a simulation: a power cut is real
            await self.sync()

    async def sync(self) -> None:
        """Sync all relaxed writes to the disk."""
        try:
            await self._store.sync()
        except StoreError as exc:
            self._shared.trouble.report(exc)

    async def check(self) -> None:
        """Check in a thread whether the store is sound. Damage is reported once, and shown until a check finds none."""
        self._checked = self._time.monotonic()
        try:
            found = await self._store.check()
        except GaveUp:
            return  # the result of the last check stays
        before, self._store.damage = self._store.damage, found  # from now on, webhooks are refused
        if found is not None and before is None:
            log.error("store.damaged", error=found)
            await self._notices.publish(store_damaged(found, self._time.now()))
        try:
            await self._store.record_check(found)
        except StoreError as exc:
            self._shared.trouble.report(exc)

    async def prune(self, sinks: Collection[str]) -> None:
        """Prune old events, in steps so small that no other task waits for one. A reload may change `sinks` meanwhile."""
        self._pruned = self._time.monotonic()
        now = self._time.now()  # once: a clock that is set meanwhile prunes nothing
        try:
            if not await self._may_prune(now):
                return
            while await self._store.prune(list(sinks), now, self.retention):
                await self._time.sleep(PRUNE_PAUSE)
            while await self._store.shrink():
                await self._time.sleep(PRUNE_PAUSE)
            await self._store.checkpoint()
        except StoreError as exc:
            self._shared.trouble.report(exc)

    async def prune_a_little(self, sinks: Collection[str]) -> None:
        """A few steps of pruning, for `once`."""
        now = self._time.now()
        for _ in range(PRUNE_ONCE if await self._may_prune(now) else 0):
            if not await self._store.prune(list(sinks), now, self.retention):
                break

    async def _may_prune(self, now: float) -> bool:
        """False soon after the clock jumped to an implausible time: by a wrong clock, everything is old."""
        jump = await self._store.last_notice("roundsman.clock.jumped")
        if jump is None or abs(now - jump[1]) > PRUNE_NOT:
            return True
        before = await self._store.logged_before(jump[0].seq)
        return before is not None and abs(now - before) < PLAUSIBLE
