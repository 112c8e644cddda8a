"""What tests see of a daemon and of a store from within: the only file of the tests that knows where it is kept."""

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from roundsman.engine.engine import Engine
from roundsman.engine.reception import Reception
from roundsman.events import Event
from roundsman.http.transport import Clients
from roundsman.kit.feed.state import FeedState
from roundsman.options import environment
from roundsman.plugin import Source, State
from roundsman.store import Filter, Found, Intake, SourceStatus
from roundsman.store.sqlite.files import translated
from roundsman.store.sqlite.filters import where_of
from roundsman.store.sqlite.reader import Reader
from roundsman.store.sqlite.store import SqliteStore
from roundsman.system.files import Space
from roundsman.webhook import Call
from worlds import START, ByHand

T = TypeVar("T")


def seen(read: Coroutine[Any, Any, T]) -> T:
    """What a read of the store returns, for code that cannot await: a read of this store waits for nothing."""
    try:
        read.send(None)
    except StopIteration as end:
        found: T = end.value
        return found
    raise AssertionError("it waits")


def forget_variables() -> None:
    """As in a new process, no secret was read from a variable."""
    environment._variables.clear()


def done(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine, for code that cannot await. No loop may be in the middle of a write meanwhile."""
    results: list[T] = []
    errors: list[BaseException] = []

    async def run() -> None:
        try:
            results.append(await work)
        except BaseException as exc:  # noqa: BLE001 - raised again below
            errors.append(exc)

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


class Status(NamedTuple):
    """How a source fares."""

    source: Source
    clients: Clients
    due: float
    not_before: float
    """Until when the vendor asked us to stay away."""
    last_visit: float | None
    last_success: float | None
    visits: int
    failures: int
    failing_since: float | None
    """Since when it fails."""
    unanswered_since: float | None
    busy: bool
    """A visit is under way or waits for its turn."""
    ring_at: float | None
    """When it is visited for a webhook."""
    ring_failures: int


async def status(engine: Engine, name: str) -> Status:
    watched = engine.roster[name]
    fares = watched.status
    return Status(
        watched.source,
        watched.configured.clients,
        fares.due,
        fares.not_before,
        fares.last_visit,
        fares.last_success,
        fares.visits,
        fares.failures,
        fares.failing_since,
        fares.unanswered_since,
        watched.busy,
        fares.ring_at,
        fares.ring_failures,
    )


async def statuses(engine: Engine) -> dict[str, Status]:
    """Of all sources on the round, in their order."""
    return {name: await status(engine, name) for name in engine.roster}


async def idle(engine: Engine, *names: str) -> bool:
    """Whether no visit is under way or waits for its turn, at these sources or at any."""
    return not any(watched.busy for name, watched in engine.roster.items() if not names or name in names)


async def answered(engine: Engine, *names: str) -> bool:
    """Whether each of these sources, or each of all, was visited."""
    return all(
        watched.status.last_visit for name, watched in engine.roster.items() if not names or name in names
    )


async def under_way(engine: Engine, name: str) -> bool:
    """Whether a visit is under way."""
    return engine.roster[name].task is not None


async def polled(engine: Engine, name: str) -> bool:
    """Whether a source is on the round and was visited."""
    return name in engine.roster and engine.roster[name].status.visits > 0


async def unanswered(engine: Engine, name: str) -> bool:
    """Whether the last question had no good answer."""
    return engine.roster[name].status.unanswered_since is not None


async def set_due(engine: Engine, name: str, due: float, *, held: bool = False) -> None:
    """As if the last visit had left it so; with `held`, because the vendor asks for a pause."""
    watched = engine.roster[name]
    watched.status = replace(watched.status, due=due, not_before=due if held else watched.status.not_before)
    if held:
        await engine.store.begin([(name, watched.status)])
    if isinstance(engine.turns._alarms, ByHand):
        engine.turns._alarms.set(name, due)


async def set_visited(engine: Engine, name: str, at: float) -> None:
    """As if it had been visited then."""
    watched = engine.roster[name]
    watched.status = replace(watched.status, last_visit=at)


def alarms(engine: Engine) -> ByHand:
    """The alarms of an engine that has them set by hand."""
    assert isinstance(engine.turns._alarms, ByHand)
    return engine.turns._alarms


async def ring_due(engine: Engine) -> list[str]:
    """Let every alarm ring whose time has come; their names."""
    return alarms(engine).ring_due(engine.reception.now())


def alarm(engine: Engine, *names: str) -> None:
    """As if the alarms of these sources rang, at any time."""
    engine.turns._on_alarm(names)


def publish(engine: Engine) -> None:
    """As if a caller had committed new events."""
    engine._news.publish()


def understood(reception: Reception, source: Source, call: Call) -> tuple[Intake, bool, str]:
    """What a webhook comes to, before it is stored."""
    return reception._understand(source, call)


def being_taken(engine: Engine) -> int:
    """Number of webhooks that are not on the disk yet."""
    return len(engine.reception._taking)


def cancelled(engine: Engine, name: str) -> bool:
    """Whether a sink's loop, or the one that it replaced, was cancelled."""
    return any(task.cancelling() for task in engine.deliveries._leaving[name])


async def prune(engine: Engine) -> None:
    """As the heartbeat does it now and then."""
    await engine.upkeep.prune(engine._sinks)


def disk_has(engine: Engine, free: Callable[[], int], total: int) -> None:
    """As if the store were on such a disk."""
    engine.upkeep._disk._look = lambda path: Space(free(), total)


def disk_says(store: SqliteStore, look: Callable[[Path], Space]) -> None:
    """As if the disk of the store answered this when the metrics ask it."""
    store._counting._look = look


async def sink_failed(engine: Engine, name: str) -> bool:
    """Whether a sink's last try failed."""
    return engine.deliveries[name].outage.failures > 0


def missed_the_store(engine: Engine, name: str) -> bool:
    """Whether a sink could not be called, because the store failed."""
    return engine.deliveries[name]._unread > 0


def gathered(engine: Engine, name: str) -> int:
    """Number of burials of a sink that are not logged yet."""
    found = engine.deliveries[name]._burials._gathered
    return found.count if found is not None else 0


def fail_sink(engine: Engine, name: str, error: Exception) -> None:
    """As if a delivery had ended so."""
    done(engine.deliveries[name].outage.failed(error, 300))


async def started(engine: Engine, run: "asyncio.Task[None]") -> None:
    """Wait until the engine visits and delivers, or has ended."""
    while not engine.started.is_set() and not run.done():
        await asyncio.sleep(0)


async def leaving(engine: Engine) -> bool:
    """Whether a visit to a source that was taken out still cleans up, or is still remembered."""
    return bool(engine.turns._leaving)


async def settle(engine: Engine, *names: str) -> None:
    """Wait until no visit is under way."""
    async with asyncio.timeout(30):
        await asyncio.sleep(0)
        while not await idle(engine, *names):
            await asyncio.sleep(0.001)


async def visit_for_a_ring(engine: Engine, name: str) -> bool:
    """A visit that a webhook rang for."""
    watched = engine.roster[name]
    watched.status, watched.trigger = replace(watched.status, ring_at=None), "webhook"
    try:
        return await engine.visit(name)
    finally:
        watched.trigger, watched.ring_pending = "due", False


async def caught_up(engine: Engine, name: str) -> bool:
    """Whether a sink has each event that its filter lets through."""
    cursor, _ = await engine.store.cursor(name)
    return await engine.store.lag(cursor, engine.deliveries[name].wanted) == 0


# -- states of sources -------------------------------------------------------------------------------------------------


def feed(state: State) -> FeedState:
    """What a source of a growing list remembers."""
    return FeedState.load(state)


def unpinned(state: State) -> State:
    """A state with a gap since which not all ids are kept, as versions before 0.6 left it."""
    found = feed(state)
    assert found.gap is not None
    found.gap.pinned = False
    return found.dump()


# -- stores ------------------------------------------------------------------------------------------------------------


async def sql(store: SqliteStore, statement: str, values: Sequence[Any] = ()) -> list[Any]:
    """What SQLite says to a statement, on a connection of its own; what it changes is committed."""
    with closing(sqlite3.connect(store.path, timeout=5)) as db, db:
        return db.execute(statement, values).fetchall()


def left_in(path: Path, most: int = 3000) -> list[Event]:
    """Events that a store holds, the newest of very many; none where it cannot be read."""
    query = (
        "SELECT e.id, s.name, e.type, e.outcome, e.body FROM events e JOIN sources s ON s.id = e.source "
        "WHERE e.body IS NOT NULL ORDER BY e.seq DESC LIMIT ?"
    )
    with suppress(sqlite3.Error), closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        return [Event(*row) for row in db.execute(query, (most,))]
    return []


async def pragma(store: SqliteStore, name: str) -> Any:
    """A setting of the store's own connection."""
    return store._do(f"PRAGMA {name}").fetchone()[0]


def waits(store: SqliteStore) -> list[int]:
    """Milliseconds that SQLite lets the connections wait for a lock: the one that reads, and the writer's."""
    return [each.execute("PRAGMA busy_timeout").fetchone()[0] for each in (store._db, store._writer.conn)]


@contextmanager
def statements(store: SqliteStore) -> Iterator[list[str]]:
    """Every statement that the store's own connections run meanwhile."""
    said: list[str] = []
    connections = (store._db, store._writer.conn)
    for each in connections:
        each.set_trace_callback(said.append)
    try:
        yield said
    finally:
        for each in connections:
            each.set_trace_callback(None)


class _Broken:
    """A connection whose statements fail."""

    def __init__(self, whole: Any, error: BaseException, only: str) -> None:
        self._whole, self._error, self._only = whole, error, only

    def __getattr__(self, name: str) -> Any:
        return getattr(self._whole, name)

    def execute(self, *args: Any) -> Any:
        if self._only:
            return self._whole.execute(*args)
        raise self._error

    def executemany(self, *args: Any) -> Any:
        raise self._error


@contextmanager
def broken(store: SqliteStore, error: BaseException, *, only: str = "") -> Iterator[None]:
    """A store whose every statement fails meanwhile; or `only` those that insert events."""
    reads, writes = store._db, store._writer.conn
    if not only:
        store._db = _Broken(reads, error, only)  # type: ignore[assignment]
    store._writer.conn = _Broken(writes, error, only)  # type: ignore[assignment]
    try:
        yield
    finally:
        store._db, store._writer.conn = reads, writes


class HangingDisk:
    """A disk on which each commit hangs until it is let through."""

    def __init__(self) -> None:
        self.begun = 0
        """Number of commits that began."""
        self._through = threading.Semaphore(0)

    def let(self, count: int = 1) -> None:
        """Let so many commits through."""
        self._through.release(count)

    def wait(self) -> None:
        self.begun += 1
        self._through.acquire(timeout=10)


@contextmanager
def hanging(store: SqliteStore) -> Iterator[HangingDisk]:
    """A store on a disk that hangs meanwhile."""
    disk, worker = HangingDisk(), store._writer._worker
    run = worker.run

    async def late(work: Callable[[], T]) -> T:
        def hang() -> T:
            disk.wait()
            return work()

        return await run(hang)

    worker.run = late  # type: ignore[method-assign]
    try:
        yield disk
    finally:
        worker.run = run  # type: ignore[method-assign]
        disk.let(100)


@contextmanager
def pages_left(store: SqliteStore, count: int) -> Iterator[None]:
    """A store whose file cannot grow by more pages than these meanwhile: to SQLite, as on a full disk."""
    conn = store._writer.conn
    [pages] = conn.execute("PRAGMA page_count").fetchone()
    conn.execute(f"PRAGMA max_page_count = {pages + count}")
    try:
        yield
    finally:
        conn.execute("PRAGMA max_page_count = 4294967294")


class Fault(NamedTuple):
    """An error of SQLite."""

    name: str
    undoes: bool = False
    """Whether SQLite undoes the transaction with it."""


class _Faulty:
    """A connection whose statements fail as `fault` says."""

    def __init__(self, whole: sqlite3.Connection, fault: "Callable[[str, int], Fault | None]") -> None:
        self._whole, self._fault, self._before = whole, fault, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._whole, name)

    def execute(self, sql: str, *values: Any) -> Any:
        return self._run(self._whole.execute, sql, *values)

    def executemany(self, sql: str, *values: Any) -> Any:
        return self._run(self._whole.executemany, sql, *values)

    def _run(self, run: Callable[..., Any], sql: str, *values: Any) -> Any:
        if sql.startswith("BEGIN"):
            self._before = self._whole.total_changes
        fault = (
            None if sql.startswith("ROLLBACK") else self._fault(sql, self._whole.total_changes - self._before)
        )
        if fault is None:
            return run(sql, *values)
        if fault.undoes and self._whole.in_transaction:
            self._whole.execute("ROLLBACK")
        error = sqlite3.OperationalError("as on a faulty disk")
        error.sqlite_errorname, error.sqlite_errorcode = fault.name, getattr(sqlite3, fault.name)
        raise error


@contextmanager
def faulty(store: SqliteStore, fault: "Callable[[str, int], Fault | None]") -> Iterator[None]:
    """A store whose statements fail meanwhile where `fault` says so: by the statement, and the rows changed so far in its
    transaction.
    """
    conn = store._writer.conn
    store._writer.conn = _Faulty(conn, fault)  # type: ignore[assignment]
    try:
        yield
    finally:
        store._writer.conn = conn


@contextmanager
def locked(store: SqliteStore, statement: str) -> Iterator[None]:
    """A store that another program is in the middle of writing to; what it wrote is taken back."""
    with closing(sqlite3.connect(store.path, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        db.execute(statement)
        yield
        db.execute("ROLLBACK")


def commit(
    store: SqliteStore,
    name: str,
    state: State | None,
    events: Sequence[Event],
    *,
    revision: int = 0,
    **more: Any,
) -> int:
    """As a visit at `START` commits what it found; how many events were new. `more`: of `Found` or of `SourceStatus`."""
    return done(store.commit(name, revision, *visited(state, events, **more)))


def visited(state: State | None, events: Sequence[Event], **more: Any) -> tuple[Found, SourceStatus, float]:
    """What a visit at `START` commits. `more`: of `Found` or of `SourceStatus`, or `now`."""
    names = ("taken", "via", "unread", "keeps_wish", "gap")
    of_the_find = {key: more.pop(key) for key in names if key in more}
    now = more.pop("now", START)
    answered = {} if state is None else {"last_success": now}
    status = SourceStatus(**{"due": now + 60, "last_visit": now, "visits": 1, **answered, **more})
    return Found(state, events, **of_the_find), status, now


async def put(
    store: SqliteStore, *events: Any, state: State | None = None, now: float = START, source: str = ""
) -> int:
    """As if a visit had found these events; how many of them were new."""
    name = source or (events[0].source if events else "doors")
    if name not in [entry.name for entry in await store.sources()]:
        await store.register({name: "parakey.event_logs"}, {"archive": "file"})
    revision = (await store.memory(name)).revision
    return await store.commit(name, revision, *visited(state or {}, events, now=now, due=now))


async def log(store: SqliteStore, *kinds: str) -> list[Any]:
    """The events in the log, of these types or of all."""
    return [event for event, _ in await store.events(0, 10**9, 10**6, Filter(types=kinds))]


@contextmanager
def being_read(store: Reader) -> Iterator[sqlite3.Connection]:
    """A store that another program is in the middle of reading."""
    with closing(sqlite3.connect(store.path, isolation_level=None)) as db:
        db.execute("BEGIN")
        db.execute("SELECT count(*) FROM events").fetchone()
        yield db
        db.execute("COMMIT")


@contextmanager
def one_moment(reader: Reader) -> Iterator[None]:
    """A reader that sees the same moment all the while."""
    reader._run("BEGIN")
    seen(reader.head())
    yield
    reader._run("COMMIT")


def condition(wanted: Filter) -> tuple[str, list[str]]:
    """A filter's condition in SQL, and its values."""
    return where_of(wanted)


def seq_before(store: SqliteStore, when: float) -> int:
    """The bisection that pruning uses."""
    return store._seq_before(when)


async def moved(store: SqliteStore) -> dict[str, tuple[str | None, str]]:
    """Sources that read another origin than their state is from: name -> (state's origin, new one)."""
    return {entry.name: (entry.origin, entry.reads) for entry in await store.sources() if entry.reads}


def forget_tail(store: SqliteStore) -> None:
    """From now on, sinks are given what the file has, as after a restart."""
    store._tail.clear()


def end_commits(store: SqliteStore) -> None:
    """Wait for a commit that had begun when its caller ended; no further one may begin."""
    worker = store._writer._worker
    thread = worker._thread
    worker.close()
    if thread is not None:
        thread.join()


def close_books(store: SqliteStore) -> None:
    """Let go of a store that is lost: only the connection for the books is still open."""
    store._writes.close()


async def run_by(reader: Reader, statement: str) -> None:
    """Run a statement on the reader's own connection."""
    with translated(reader.path):
        reader._run(statement)
