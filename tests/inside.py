"""What tests see of a daemon and of a store from within: the only file of the tests that knows where it is kept."""

import asyncio
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from roundsman.engine.engine import Engine
from roundsman.events import Event
from roundsman.http.transport import Clients
from roundsman.plugin import Source, State
from roundsman.store import Filter, Reader, Store
from worlds import START, ByHand


class Status(NamedTuple):
    """How a source fares."""

    source: Source
    web: Clients
    due: float
    held: float
    """Until when the vendor asked us to stay away."""
    visited: float | None
    answered: float | None
    polls: int
    failures: int
    failing: float | None
    """Since when it fails."""
    unanswered: float | None
    busy: bool
    """A visit is under way or waits for its turn."""
    ring_at: float | None
    """When it is visited for a webhook."""
    ring_failures: int


async def status(engine: Engine, name: str) -> Status:
    watch = engine.watches[name]
    return Status(
        watch.source,
        watch.web,
        watch.due,
        watch.held,
        watch.visited,
        watch.answered,
        watch.polls,
        watch.failures,
        watch.failing,
        watch.unanswered,
        watch.busy(),
        watch.ring_at,
        watch.unheard,
    )


async def statuses(engine: Engine) -> dict[str, Status]:
    """Of all sources on the round, in their order."""
    return {name: await status(engine, name) for name in engine.watches}


async def idle(engine: Engine, *names: str) -> bool:
    """Whether no visit is under way or waits for its turn, at these sources or at any."""
    return not any(watch.busy() for name, watch in engine.watches.items() if not names or name in names)


async def answered(engine: Engine, *names: str) -> bool:
    """Whether each of these sources, or each of all, was visited."""
    return all(watch.visited for name, watch in engine.watches.items() if not names or name in names)


async def under_way(engine: Engine, name: str) -> bool:
    """Whether a visit is under way."""
    return engine.watches[name].task is not None


async def polled(engine: Engine, name: str) -> bool:
    """Whether a source is on the round and was visited."""
    return name in engine.watches and engine.watches[name].polls > 0


async def unanswered(engine: Engine, name: str) -> bool:
    """Whether the last question had no good answer."""
    return engine.watches[name].unanswered is not None


async def set_due(engine: Engine, name: str, due: float, *, held: bool = False) -> None:
    """As if the last visit had left it so; with `held`, because the vendor wants a rest."""
    watch = engine.watches[name]
    watch.due = due
    if held:
        watch.held = due
        engine.store.defer([(name, due)])
    if isinstance(engine._alarms, ByHand):
        engine._alarms.set(name, due)


async def set_visited(engine: Engine, name: str, at: float) -> None:
    """As if it had been visited then."""
    engine.watches[name].visited = at


def alarms(engine: Engine) -> ByHand:
    """The alarms of an engine that has them set by hand."""
    assert isinstance(engine._alarms, ByHand)
    return engine._alarms


async def ring_due(engine: Engine) -> list[str]:
    """Let every alarm ring whose time has come; their names."""
    return alarms(engine).ring_due(engine.reception.now())


async def settle(engine: Engine, *names: str) -> None:
    """Wait until no visit is under way."""
    async with asyncio.timeout(5):
        await asyncio.sleep(0)
        while not await idle(engine, *names):
            await asyncio.sleep(0.001)


async def visit_for_a_ring(engine: Engine, name: str) -> bool:
    """A visit that a webhook rang for."""
    watch = engine.watches[name]
    watch.ring_at, watch.ringing = None, True
    try:
        return await engine.visit(name)
    finally:
        watch.ringing = watch.rung = False


# -- stores ------------------------------------------------------------------------------------------------------------


async def sql(store: Store, statement: str, values: Sequence[Any] = ()) -> list[Any]:
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


async def pragma(store: Store, name: str) -> Any:
    """A setting of the store's own connection."""
    return store._run(f"PRAGMA {name}").fetchone()[0]


@contextmanager
def statements(store: Store) -> Iterator[list[str]]:
    """Every statement that the store's own connection runs meanwhile."""
    said: list[str] = []
    store._db.conn.set_trace_callback(said.append)
    try:
        yield said
    finally:
        store._db.conn.set_trace_callback(None)


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
def broken(store: Store, error: BaseException, *, only: str = "") -> Iterator[None]:
    """A store whose every statement fails meanwhile; or `only` those that insert events."""
    whole, books = store._db.conn, store._books.conn
    store._db.conn = _Broken(whole, error, only)  # type: ignore[assignment]
    store._books.conn = _Broken(books, error, only)  # type: ignore[assignment]
    try:
        yield
    finally:
        store._db.conn, store._books.conn = whole, books


@contextmanager
def locked(store: Store, statement: str) -> Iterator[None]:
    """A store that another program is in the middle of writing to; what it wrote is taken back."""
    with closing(sqlite3.connect(store.path, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        db.execute(statement)
        yield
        db.execute("ROLLBACK")


async def put(
    store: Store, *events: Any, state: State | None = None, now: float = START, source: str = ""
) -> int:
    """As if a visit had found these events; how many of them were new."""
    name = source or (events[0].source if events else "doors")
    if name not in [row["name"] for row in store.sources()]:
        store.register({name: "parakey.event_logs"}, {"archive": "file"})
    return store.commit(name, store.state(name)[1], state or {}, events, now=now, due=now)


async def log(store: Store, *kinds: str) -> list[Any]:
    """The events in the log, of these types or of all."""
    return [event for event, _ in store.events(0, 10**9, 10**6, Filter(types=kinds))]


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
    reader.head()
    yield
    reader._run("COMMIT")


def close_books(store: Store) -> None:
    """Let go of a store that is lost: only the connection for the books is still open."""
    store._books.close()


async def run_by(reader: Reader, statement: str) -> None:
    """Run a statement on the reader's own connection."""
    reader._run(statement)
