"""The postgres sink with its table in the store's own database: each event is written exactly once."""

import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest

from postgres import Postgres
from processes import Daemon
from roundsman.engine.engine import Engine
from roundsman.engine.position import Position
from roundsman.errors import Conflict, StoreError
from roundsman.http.client import Http
from roundsman.http.transport import Clients
from roundsman.sandbox import TOKEN, Sandbox
from roundsman.sinks.postgres import PostgresSink
from roundsman.store import Intake, Server, open_store
from worlds import ByHand, Time, an_event, event_logs

psycopg = pytest.importorskip("psycopg", reason="needs roundsman[postgres]")

Run = Callable[..., list[Any]]
TABLE = """
CREATE SCHEMA crm;
CREATE TABLE crm.events (source text, id text, result text CHECK (result != 'denied'), PRIMARY KEY (source, id));
CREATE TABLE crm.writes (n int GENERATED ALWAYS AS IDENTITY, id text);
CREATE FUNCTION crm.count() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN INSERT INTO crm.writes (id) VALUES (NEW.id); RETURN NULL; END';
CREATE TRIGGER counts AFTER INSERT OR UPDATE ON crm.events FOR EACH ROW EXECUTE FUNCTION crm.count();
"""
"""A table that counts how often each event is written into it."""
TIMES = (
    "SELECT n, count(*) FROM (SELECT count(*) AS n FROM crm.writes GROUP BY id) AS each GROUP BY n ORDER BY n"
)
POSITION = "SELECT cursor = (SELECT seq FROM log_head), failures FROM sinks WHERE name = 'rows'"
SINK = """
[sinks.rows]
type = "postgres"
url = { env = "ROWS_URL" }
table = "crm.events"
types = ["co.*"]
columns = { source = "source", id = "id", result = "outcome" }
"""


@pytest.fixture
def run(postgres_server: Postgres, database: str) -> Iterator[Run]:
    """Runs a statement in the database, which has a table that counts."""
    name = database.rpartition("/")[2]
    postgres_server.run(TABLE.replace("%", "%%"), (), name)
    yield lambda sql, *values: postgres_server.run(sql, values, name)


def configured(folder: Path, url: str, sinks: str = SINK) -> Path:
    path = folder / "roundsman.toml"
    path.write_text(
        f'[daemon]\nstore = {{ env = "STORE" }}\nlog_format = "json"\n'
        f'[sources.doors]\ntype = "parakey.event_logs"\nbase_url = "{url}"\nstart = "beginning"\n'
        f'access_token = {{ env = "PARAKEY_TOKEN" }}\ninterval = "100ms"\n{sinks}'
    )
    path.chmod(0o600)
    return path


async def test_a_kill_between_the_table_and_the_position_writes_each_event_once(
    tmp_path: Path, sandbox: Sandbox, database: str, run: Run
) -> None:
    path, environ = configured(tmp_path, sandbox.url), {"PARAKEY_TOKEN": TOKEN, "STORE": database}
    waits = (
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%%sinks SET%%'"
    )
    async with Daemon(path, **environ, ROWS_URL=database) as daemon:
        sandbox.vendor.add(log_id="first")
        await daemon.until(lambda: run(TIMES) == [(1, 1)])
        with closing(psycopg.connect(database)) as lock:
            lock.execute("SELECT 1 FROM sinks WHERE name = 'rows' FOR UPDATE")
            for number in range(150):
                sandbox.vendor.add(log_id=f"log{number}")
            await daemon.until(lambda: run(waits) == [(1,)])
            await daemon.stop(signal.SIGKILL)
    async with Daemon(path, **environ, ROWS_URL=database) as daemon:
        await daemon.until(lambda: run("SELECT count(*) FROM crm.events") == [(151,)])
        await daemon.until(lambda: run(POSITION) == [(True, 0)])
        assert run(TIMES) == [(1, 151)]
        assert daemon.logged("sink.failing") == []


@asynccontextmanager
async def engine(store: str, sink: str, time: Time, worker: str | None = None) -> AsyncIterator[Engine]:
    """An engine with a sink that writes into the table."""
    found = Engine(
        await open_store(Server(store), worker), ByHand(), Clients(now=time.now), clock=time.clock()
    )
    columns = {"source": "source", "id": "id", "result": "outcome"}
    table = {"type": "postgres", "url": sink, "table": "crm.events", "types": ["co.*"], "columns": columns}
    try:
        if worker is not None:
            found.join(worker)
        await found.setup({"doors": event_logs()}, {"rows": PostgresSink.model_validate(table).named("rows")})
        yield found
    finally:
        await found.store.close()


async def test_a_refused_event_and_its_retry_are_in_the_transaction_of_the_rows(
    database: str, time: Time, run: Run
) -> None:
    run("CREATE SCHEMA rm")
    events = [an_event(n, outcome="denied" if n == 2 else "granted") for n in range(5)]
    async with engine(f"{database}?options=-csearch_path%3Drm", database, time) as one:
        await one.store.receive(Intake("doors", events), time.now())
        assert await one.deliveries.once()
        same = "SELECT (SELECT xmin FROM rm.dead)::text = xmin::text FROM rm.sinks"
        assert run(same) == [(True,)], "it is buried where the position is moved"
        [dead] = await one.store.dead("rows")
        assert (dead.seq, "violates check constraint" in dead.reason) == (3, True)
        assert (await one.store.cursor("rows"))[0] == 5
        assert run(TIMES) == [(1, 4)]
        run("ALTER TABLE crm.events DROP CONSTRAINT events_result_check")
        await one.store.requeue_dead("rows", None)
        assert await one.deliveries.once()
        assert (await one.store.dead("rows"), run(TIMES)) == ([], [(1, 5)])
        await one.store.replay("rows", 3)
        assert await one.deliveries.once()
        assert run(TIMES) == [(1, 3), (2, 2)], "what a person has delivered again is written again"


async def test_a_worker_whose_session_has_ended_writes_no_row(database: str, time: Time, run: Run) -> None:
    async with engine(database, database, time, "one") as one:
        assert one.fleet is not None
        assert one.store.fleet is not None
        await one.fleet.beat()
        await one.store.receive(Intake("doors", [an_event(1)]), time.now())
        async with engine(database, database, time, "two") as two:
            assert two.store.fleet is not None
            # As a worker that was stopped in a delivery: its sink is open, and the connection of the sink lives.
            sink, position = one.sinks["rows"], Position(one.store.joint, "rows", time.now)
            assert isinstance(sink, PostgresSink)
            async with sink.open_with_position(Http(one.clients), None, position) as taken:
                position.expect(0, [an_event(1)])
                await two.store.fleet.end([one.store.fleet.number])
                with pytest.raises(StoreError, match="another worker has ended the session of this one"):
                    await taken([an_event(1)])
        assert not await one.deliveries.once()
        assert run("SELECT count(*) FROM crm.events") == [(0,)]


async def test_a_user_without_rights_on_the_store_delivers_all_the_same(
    database: str, postgres_server: Postgres, time: Time, run: Run
) -> None:
    run("CREATE ROLE crm LOGIN PASSWORD 'correct-horse-1'")
    try:
        run("GRANT ALL ON SCHEMA crm TO crm")
        run("GRANT ALL ON ALL TABLES IN SCHEMA crm TO crm")
        async with engine(database, postgres_server.url(database.rpartition("/")[2], "crm"), time) as one:
            await one.store.receive(Intake("doors", [an_event(1)]), time.now())
            assert await one.deliveries.once()
            assert (await one.store.cursor("rows"))[0] == 1
            assert run(TIMES) == [(1, 1)]
    finally:
        run("DROP OWNED BY crm")
        run("DROP ROLE crm")


async def test_a_table_in_another_database_of_the_server_does_not_have_the_position(
    database: str, postgres_server: Postgres, time: Time, run: Run
) -> None:
    other = postgres_server.database()
    try:
        postgres_server.run(TABLE.replace("%", "%%"), (), other)
        async with engine(database, postgres_server.url(other), time) as one:
            await one.store.receive(Intake("doors", [an_event(1)]), time.now())
            assert await one.deliveries.once()
            assert (await one.store.cursor("rows"))[0] == 1
        assert postgres_server.run(TIMES, (), other) == [(1, 1)]
        assert run(TIMES) == []
    finally:
        postgres_server.drop(other)


async def test_a_delivery_whose_commit_was_made_is_not_made_again(
    database: str, time: Time, run: Run
) -> None:
    """As after a connection that ended before the server's answer to the commit."""
    async with engine(database, database, time) as one:
        await one.store.receive(Intake("doors", [an_event(1)]), time.now())
        _, [event], *_ = await one.store.read("rows", 10, one.deliveries["rows"].wanted)
        sink, position = one.sinks["rows"], Position(one.store.joint, "rows", time.now)
        assert isinstance(sink, PostgresSink)
        async with sink.open_with_position(Http(one.clients), None, position) as taken:
            position.expect(0, [event])
            await taken([event])
            assert position.moved
            position.expect(0, [event])
            with pytest.raises(Conflict):
                await taken([event])
        assert run(TIMES) == [(1, 1)]
        assert await one.deliveries.once()
        assert run(TIMES) == [(1, 1)]
