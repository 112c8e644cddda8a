"""The store on a PostgreSQL server: its session, and the daemon's own record."""

import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from roundsman import __version__
from roundsman.errors import StoreError
from roundsman.options.server import Server
from roundsman.store.apart import PATIENCE, Apart, Work
from roundsman.store.place import LATE
from roundsman.store.postgres.books import Books
from roundsman.store.postgres.census import Counting
from roundsman.store.postgres.connection import full, translated
from roundsman.store.postgres.desk import Desk
from roundsman.store.postgres.erasure import Erasure
from roundsman.store.postgres.joint import Joint
from roundsman.store.postgres.log import Log
from roundsman.store.postgres.pruning import Pruning
from roundsman.store.postgres.reader import Reader
from roundsman.store.postgres.reading import reading
from roundsman.store.postgres.session import Session
from roundsman.store.postgres.ticking import Ticking
from roundsman.store.postgres.transaction import Transaction
from roundsman.store.postgres.units import relaxed_for_all
from roundsman.store.postgres.workers import Workers
from roundsman.store.postgres.writer import Writer
from roundsman.store.reloads import column_of, results_of, text_of
from roundsman.store.rows import must_be
from roundsman.store.values import DAEMON, Census, Filter, Intake, New
from roundsman.system.files import Space
from roundsman.system.threads import in_thread

T = TypeVar("T")
CLOCKS = 10.0
"""Seconds by which the server's clock and ours may differ without a warning: a heartbeat is looked for by either."""
FULL_FOR = 10.0
"""Seconds for which a disk without place counts as full, if nothing was written since then: a look at it needs no place."""


class PostgresStore(Log, Books, Desk, Ticking, Erasure, Pruning):
    """The store, for a daemon that has it alone or shares it with others; or for a command that writes beside them."""

    def __init__(self, place: Server, session: Session) -> None:
        super().__init__(place, Writer(place, session))
        self._session = session
        self._counting = Counting(place)
        self._apart = Apart(place)
        self._config: str | None = None
        """The path of the configuration that the daemon runs with."""
        self.fleet = Workers(place, session) if session.worker is not None else None
        """This process among the workers that share the store; None if it does not share it."""
        self.joint = Joint(session, self._answers)
        """The positions of sinks, for sinks that write into the same database."""
        self._whoami = (os.getpid(), time.time(), __version__)
        self._commands: int | None = None
        """How often commands had written at the last look."""
        self.damage: str | None = None
        """What a check found to be damaged."""
        self.recoveries = 0
        """There are no files to recover."""

    gone = "another daemon has taken it over"

    @classmethod
    async def open(cls, server: Server, *, daemon: bool = True, worker: str | None = None) -> "PostgresStore":
        """Open the store; the daemon creates it if it is missing. StoreError, in one sentence, on failure.

        `worker`: the name of a daemon that shares the store with others.
        """
        with translated(server):
            session = await Session.open(server, daemon=daemon, worker=worker)
        store = cls(server, session)
        if daemon:
            if abs(session.ahead) > CLOCKS:
                from structlog import get_logger  # slow to import, and seldom needed

                get_logger().warning("store.clock", path=str(server), ahead=round(session.ahead, 1))
            await store._begin_record()
        return store

    @relaxed_for_all
    async def _begin_record(self, transaction: Transaction) -> None:
        await transaction.run("UPDATE daemons SET pid = %s, config = NULL, digest = NULL", (os.getpid(),))

    async def close(self) -> None:
        """Write what waits, and end the connections."""
        await self._writer.close()
        if self.fleet is not None:
            await self.fleet.leave()
        await super().close()
        await in_thread(self._counting.close)

    # -- upkeep --------------------------------------------------------------------------------------------------------

    def lost(self) -> bool:
        """Whether another daemon has ended the right of this one to write."""
        return self._session.ended and self.fleet is None  # a worker begins a new session

    async def recover(self) -> bool:
        return False

    def space(self) -> Space | None:
        """None: the server's disk is not seen from here."""
        return None

    @property
    def unsynced(self) -> bool:
        """Whether a power cut of the server would undo a relaxed write."""
        return self._writer.unsynced

    async def sync(self) -> None:
        """Let relaxed writes survive a power cut of the server. StoreError on failure."""
        if self.unsynced:
            await self._writer.write(_nothing, durable=True)

    async def check(self) -> str | None:
        """None: the server checks its own pages."""
        return None

    @relaxed_for_all
    async def record_check(self, transaction: Transaction, damage: str | None) -> None:
        """Record what a check has found, for `known_damage`, in the row of the daemon's notices."""
        sql = "UPDATE sources SET error = %s WHERE name = %s AND error IS DISTINCT FROM %s"
        await transaction.run(sql, (damage, DAEMON, damage))

    # -- the daemon ----------------------------------------------------------------------------------------------------

    @relaxed_for_all
    async def beat(self, transaction: Transaction, now: float) -> None:
        """Record that the daemon runs."""
        await transaction.run(
            "UPDATE daemons SET beat = %s, config = coalesce(%s, config), pid = %s, started = %s, version = %s",
            (now, self._config, *self._whoami),
        )

    @relaxed_for_all
    async def runs(self, transaction: Transaction, config: Path, digest: str) -> None:
        """Record that the daemon runs with this configuration."""
        self._config = text_of(config)
        await transaction.run(
            "UPDATE daemons SET config = %s, digest = %s, problems = '[]', pid = %s, started = %s, version = %s",
            (self._config, digest, *self._whoami),
        )
        await transaction.run(
            "UPDATE beats SET config = %s, digest = %s, problems = '[]' WHERE worker = %s",
            (self._config, digest, self._session.number),
        )

    @relaxed_for_all
    async def reloaded(
        self,
        transaction: Transaction,
        config: Path,
        digest: str,
        problems: Sequence[str],
        changes: Sequence[str] = (),
        *,
        dry: bool = False,
    ) -> None:
        """Record a reload of this configuration; `problems`: why it was refused, else empty; `changes`: what it changed."""
        # A worker's own row: others reload at other times.
        which = (
            f"beats WHERE worker = {self._session.number}"
            if self.fleet is not None
            else "daemons WHERE id = 1"
        )
        row = await (await transaction.run(f"SELECT problems FROM {which} FOR UPDATE")).fetchone()  # noqa: S608 - fixed words and a number
        results = results_of(row[0] if row else "")
        table, _, where = which.partition(" ")
        if dry:
            results.compare(config, digest, problems, changes)
            await transaction.run(f"UPDATE {table} SET problems = %s {where}", (column_of(results),))  # noqa: S608 - likewise
            return
        results.problems, results.changes = tuple(problems), tuple(changes)
        await transaction.run(
            f"UPDATE {table} SET config = %s, digest = %s, reloads = reloads + 1, problems = %s {where}",  # noqa: S608 - likewise
            (text_of(config), digest, column_of(results)),
        )

    async def apart(self, work: Work[T], patience: float = PATIENCE) -> T:
        """What `work` reads, in a thread and by a view of its own. One at a time: a reader waits, and no thread does."""
        return await self._apart.read(self._read_apart, work, patience)

    def _read_apart(self, work: Work[T], ends: float) -> T:
        return asyncio.run(self._read(work, ends))

    async def _read(self, work: Work[T], ends: float) -> T:
        try:
            async with asyncio.timeout(ends - time.monotonic()):
                view = await Reader.open(self.place)
                try:
                    return await work(view)
                finally:
                    await view.close()
        except TimeoutError:
            raise StoreError(LATE.format(self.place)) from None

    async def census(self, sinks: Mapping[str, Filter]) -> Census:
        """What the metrics show, for these sinks (name -> filter). It is counted in a thread, a few seconds at most."""
        return await in_thread(self._counting.count, sinks)

    @reading
    async def last_beat(self) -> float | None:
        """When a daemon last recorded a beat, a visit or a delivery (Unix); None if it never did."""
        last = await self._value(
            "SELECT greatest((SELECT max(visited) FROM sources), (SELECT max(delivered) FROM sinks), "
            "(SELECT max(beat) FROM daemons))"
        )
        return float(last) if last is not None else None

    @reading
    async def fits(self, sources: Mapping[str, str], sinks: Mapping[str, str]) -> None:
        """StoreError if `register` would refuse one of these types."""
        for table, kinds in (("sources", sources), ("sinks", sinks)):
            for name, was in await self._rows(f"SELECT name, type FROM {table}"):  # noqa: S608 - fixed names
                must_be(f"{table}.{name}", was, kinds.get(name, was))

    async def receive(self, intake: Intake, now: float) -> New:
        """As `Log.receive`. StoreError also if the store is known to be damaged: the vendor sends the webhook again."""
        self._usable()
        return await super().receive(intake, now)

    async def writable(self) -> None:
        """StoreError if the store cannot be written."""
        if time.monotonic() - self._writer.full_at < FULL_FOR:
            raise full(self.place)
        await self._answers()

    async def _answers(self) -> None:
        """StoreError if no transaction can be made."""
        self._usable()
        await self._writer.write(_nothing, durable=False)

    def _usable(self) -> None:
        if self.damage:
            raise StoreError(self.damage)

    @reading
    async def commanded(self) -> list[str] | None:
        """Sources for which a command requested a visit; None if no command has written since the last call."""
        count = int(await self._value("SELECT commands FROM store"))
        if count == self._commands:
            return None
        wanted = [name for [name] in await self._rows("SELECT name FROM sources WHERE due < 0 ORDER BY id")]
        self._commands = count
        self._tail.clear()  # a command may have blanked some of its events
        return wanted


async def _nothing(transaction: Transaction) -> None:
    """A transaction alone: its commit makes earlier ones durable, and proves that the server can be written."""
