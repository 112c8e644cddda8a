"""The postgres sink: rows by (source, id) on a real server, what the server refuses, and a server that goes away."""

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from doors import until
from postgres import Postgres
from processes import Daemon, configure
from roundsman import config
from roundsman.config import advice
from roundsman.errors import RequestFailed
from roundsman.events import Event
from roundsman.http.client import Http
from roundsman.http.transport import Clients
from roundsman.masking import mask
from roundsman.sandbox import TOKEN, Sandbox
from roundsman.testing import Delivered, deliver, sink_contract
from worlds import an_event

pytest.importorskip("psycopg", reason="needs roundsman[postgres]")

from roundsman.sinks.postgres import PostgresSink

Run = Callable[..., list[Any]]


@pytest.fixture
def run(postgres_server: Postgres, database: str) -> Run:
    """Runs a statement in the database."""
    name = database.rpartition("/")[2]
    return lambda sql, *values: postgres_server.run(sql, values, name)


def sink(database: str, **options: Any) -> PostgresSink:
    table = {"type": "postgres", "url": database, "table": "events", **options}
    return PostgresSink.model_validate(table).named("rows")


def an_odd_event(id_: str = "odd", **more: Any) -> Event:
    return Event.of(vendor="acme", source="doors", type="t", id=id_, **{"data": {}, **more})


def error(found: Delivered) -> str:
    """Why a delivery failed that is made again."""
    assert isinstance(found.error, RequestFailed), found
    assert (found.acked, found.buried) == ([], {})
    return str(found.error)


# -- rows --------------------------------------------------------------------------------------------------------------


def test_each_event_is_a_row_and_an_event_that_comes_again_updates_it(database: str, run: Run) -> None:
    rows = sink(database, create=True)
    assert len(deliver(rows, [an_event(n) for n in range(3)]).acked) == 3
    assert run("SELECT source, id, seq, type, time::text, subject, outcome FROM events WHERE seq = 2") == [
        ("doors", "id00001", 2, "co.parakey.event_log.created", "2026-05-01 06:00:00+00", None, "granted")
    ]
    assert run("SELECT event->'data'->'raw'->>'number' FROM events ORDER BY seq") == [("0",), ("1",), ("2",)]
    key = "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'events'::regclass AND contype = 'p'"
    assert run(key) == [("PRIMARY KEY (source, id)",)]
    again = [an_event(1, outcome="denied"), an_event(3)]
    assert len(deliver(rows, again).acked) == 2
    assert run("SELECT id, outcome FROM events ORDER BY id") == [
        ("id00000", "granted"),
        ("id00001", "denied"),
        ("id00002", "granted"),
        ("id00003", "granted"),
    ]


def test_it_keeps_the_contract(database: str, run: Run) -> None:
    sink_contract(
        sink(database, create=True),
        lambda: [id_ for [id_] in run("SELECT id FROM events ORDER BY seq, ctid")],
    )


def test_columns_are_cast_to_the_types_of_the_table(database: str, run: Run) -> None:
    run(
        "CREATE TABLE events (n int GENERATED ALWAYS AS IDENTITY, s varchar(20), i text, at timestamp, mail text, number "
        "numeric, ok boolean, list jsonb, whole json, note text DEFAULT 'none', UNIQUE (i, s))"
    )
    columns = {
        "s": "source",
        "i": "id",
        "at": "time",
        "mail": "data.user.email",
        "number": 'data."a.number"',
        "ok": "data.ok",
        "list": "data.list",
        "whole": "data",
    }
    data = {"user": {"email": "anna@a.example"}, "a.number": 12.5, "ok": True, "list": ["a", {"b": None}]}
    found = deliver(
        sink(database, columns=columns),
        [an_odd_event(data=data, time="2026-05-01T08:00:00+02:00"), an_odd_event("2", data={"user": "anna"})],
    )
    assert found.error is None
    sql = "SELECT s, i, at::text, mail, number::float8, ok, list, whole, note FROM events ORDER BY n"
    assert run(sql) == [
        (
            "doors",
            "odd",
            "2026-05-01 06:00:00",
            "anna@a.example",
            12.5,
            True,
            ["a", {"b": None}],
            data,
            "none",
        ),
        ("doors", "2", None, None, None, None, None, {"user": "anna"}, "none"),
    ]


def test_hostile_names_of_tables_and_columns_are_names(database: str, run: Run) -> None:
    run('CREATE SCHEMA "My.""Schema; --"')
    name = '"; DROP TABLE x; -- %s $1'
    rows = sink(
        database,
        table='"My.""Schema; --".Events%',
        columns={name: "source", "ID": "id", "'é": "data.x"},
        create=True,
    )
    for x in ("a", "b"):
        assert deliver(rows, [an_odd_event(data={"x": x})]).error is None
    quoted = name.replace('"', '""').replace("%", "%%")
    assert run(f'SELECT "{quoted}", "ID", "\'é" FROM "My.""Schema; --"."Events%%"', *()) == [
        ("doors", "odd", "b")
    ]


def test_nul_and_half_pairs_of_surrogates_are_replaced(database: str, run: Run) -> None:
    columns = {"source": "source", "id": "id", "x": "data.x", "event": "event"}
    body = rb'{"id":"i","data":{"x":"a\u0000b","y":"\\u0000 \ud800 \ud83d\ude00 \udc00"}}'
    event = Event("i\0", "doors", "t", None, body)
    found = deliver(sink(database, columns=columns, create=True), [event])
    assert (found.error, found.buried) == (None, {})
    [(id_, x, whole)] = run("SELECT id, x, event FROM events")
    assert (id_, x) == ("i\ufffd", "a\ufffdb")
    assert whole["data"] == {"x": "a\ufffdb", "y": "\\u0000 \ufffd \U0001f600 \ufffd"}


# -- the table that is there -------------------------------------------------------------------------------------------


def test_what_does_not_fit_is_said_in_one_sentence_each(database: str, run: Run) -> None:
    where = str(sink(database).url)
    assert (
        error(deliver(sink(database), [an_event(1)]))
        == "there is no table events: create it, or set create = true"
    )
    assert error(deliver(sink(database, table="no.events", create=True), [an_event(1)])) == (
        f'{where} cannot be written: schema "no" does not exist'
    )
    run('CREATE TABLE events (source text, id int, seq int, type text, time date, subject text, outcome text, "event" '
        "int[], must text NOT NULL)")  # fmt: skip
    assert error(deliver(sink(database), [an_event(1)])) == (
        "table events does not fit: column id is integer: id needs text; column seq is integer: seq needs bigint or numeric; "
        "it has no column summary; column event is integer[]: event needs jsonb, json or text; column must is NOT NULL "
        "without a default, and columns does not name it"
    )
    columns = {"source": "source", "id": "id"}
    run("DROP TABLE events")
    run("CREATE TABLE events (source text, id text, PRIMARY KEY (source))")
    assert error(deliver(sink(database, columns=columns), [an_event(1)])) == (
        "table events does not fit: no primary key or unique index of it is on (source, id): create one"
    )
    run("CREATE VIEW seen AS SELECT * FROM events")
    assert "seen is not a table" in error(
        deliver(sink(database, table="seen", columns=columns), [an_event(1)])
    )


async def test_the_table_is_examined_without_writing_into_it(
    postgres_server: Postgres, database: str, run: Run
) -> None:
    rows, where = sink(database, create=True), str(sink(database).url)
    assert await rows.examined() == f"table events at {where} can be created and written"
    assert run("SELECT to_regclass('events')") == [(None,)]
    with pytest.raises(RequestFailed, match="there is no table events: create it, or set create = true"):
        await sink(database).examined()
    assert (await asyncio.to_thread(deliver, rows, [an_event(1)])).error is None
    assert await sink(database).examined() == f"table events at {where} fits, and can be written"
    assert run("SELECT count(*) FROM events") == [(1,)]
    run("CREATE ROLE reader LOGIN PASSWORD 'correct-horse-1'")
    try:
        run("GRANT SELECT, INSERT ON events TO reader")
        with pytest.raises(
            RequestFailed,
            match="permission denied for table events; GRANT ALL ON TABLE events to its user, or name the user that owns it",
        ):
            await sink(database.replace("rm:", "reader:")).examined()
    finally:
        run("DROP OWNED BY reader")
        run("DROP ROLE reader")


def test_check_and_doctor_look_at_the_table(
    tmp_path: Path, database: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("CREATE TABLE events (source text, id text, PRIMARY KEY (source, id))")
    table = '[sinks.{}]\ntype = "postgres"\nurl = {{ env = "ROWS_URL" }}\ntable = "{}"\n'
    keys = 'columns = { source = "source", id = "id" }\n'
    path = configure(
        tmp_path, "http://127.0.0.1:1", table.format("rows", "events") + keys + table.format("lost", "x")
    )
    for name, value in {"PARAKEY_TOKEN": TOKEN, "ROWS_URL": database, "HOME": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    said = {}
    for command in ("check", "doctor"):
        asked = [
            sys.executable,
            "-m",
            "roundsman",
            command,
            "-c",
            str(path),
            *["--live"][: command == "check"],
        ]
        done = subprocess.run(asked, check=False, capture_output=True, text=True)
        assert done.returncode == 1
        said[command] = done.stdout + done.stderr
        assert "correct-horse" not in said[command]
    fits, lost = (
        "fits, and can be written",
        "sinks.lost: there is no table x: create it, or set create = true",
    )
    assert f"sinks.rows: table events at {sink(database).url} {fits}" in said["check"]
    assert lost in said["check"]
    assert re.search(rf"^ok +sinks.rows: table events at .+ {fits}$", said["doctor"], re.MULTILINE)
    assert f"failure  {lost}; roundsman help sink-failing" in said["doctor"]


async def test_a_table_that_changes_is_checked_again(database: str, run: Run) -> None:
    rows = sink(database, create=True)
    async with rows.open(Http(Clients()), None) as taken:
        await taken([an_event(1)])
        run("ALTER TABLE events DROP COLUMN subject")
        with pytest.raises(RequestFailed, match='column "subject" of relation "events" does not exist'):
            await taken([an_event(2)])
    with pytest.raises(RequestFailed, match="it has no column subject"):
        async with rows.open(Http(Clients()), None):
            pass
    run("ALTER TABLE events ADD COLUMN subject text")
    async with rows.open(Http(Clients()), None) as taken:
        await taken([an_event(2)])
    assert run("SELECT count(*) FROM events") == [(2,)]


MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "no URL": ({"url": "mysql://db/x"}, "is not the URL of a PostgreSQL database"),
    "no key": ({"columns": {"id": "id"}}, "source is in 0 columns"),
    "two keys": ({"columns": {"id": "id", "b": "id", "source": "source"}}, "id is in 2 columns"),
    "nothing of an event": ({"columns": {"a": "sum"}}, "sum is nothing of an event"),
    "a path into a list": ({"columns": {"a": "data.list[].x"}}, "name the list itself"),
    "a long name": ({"columns": {"a" * 64: "id"}}, "1 to 63 bytes"),
    "three parts": ({"table": "a.b.c"}, "is not the name of a table"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_in_an_option_is_found_without_a_server(name: str) -> None:
    options, words = MISTAKES[name]
    with pytest.raises(ValidationError, match=words.replace("(", r"\(")):
        sink(
            **{
                "database": "postgresql://rm@db/x",
                **({"database": options["url"]} if "url" in options else options),
            }
        )


# -- what the server refuses -------------------------------------------------------------------------------------------


def test_one_bad_event_of_a_hundred_is_buried_and_the_others_are_one_transaction(
    database: str, run: Run
) -> None:
    run(
        "CREATE TABLE events (source text, id text, number int CHECK (number != 70), PRIMARY KEY (source, id))"
    )
    columns = {"source": "source", "id": "id", "number": "data.raw.number"}
    events = [an_event(n) for n in range(100)]
    events[40] = an_odd_event("no number", data={"raw": {"number": "forty"}})
    found = deliver(sink(database, columns=columns), events)
    assert found.error is None
    assert found.buried == {
        "no number": 'invalid input syntax for type integer: "forty"',
        "id00070": 'new row for relation "events" violates check constraint "events_number_check"',
    }
    assert len(found.acked) == 98
    assert run("SELECT count(*), count(DISTINCT xmin::text) <= 20 FROM events") == [(98, True)]
    assert run("SELECT count(*) FROM events WHERE number IN (40, 70)") == [(0,)]


def test_an_id_that_no_index_takes_and_a_deferred_constraint_bury_one_event(database: str, run: Run) -> None:
    run("CREATE TABLE events (source text, id text, x text, PRIMARY KEY (source, id), "
        "CONSTRAINT once UNIQUE (x) DEFERRABLE INITIALLY DEFERRED)")  # fmt: skip
    columns = {"source": "source", "id": "id", "x": "data.x"}
    long = "".join(chr(0x4E00 + n * 7919 % 20000) for n in range(3000))
    events = [
        an_odd_event(id_, data={"x": x}) for id_, x in (("1", "a"), (long, "b"), ("3", "a"), ("4", "d"))
    ]
    found = deliver(sink(database, columns=columns), events)
    assert found.error is None
    assert [event.id for event in found.acked] == ["1", "4"]
    assert "index row" in found.buried[long]
    assert found.buried["3"] == 'duplicate key value violates unique constraint "once"'


def test_ids_that_the_table_takes_for_the_same_update_one_row(database: str, run: Run) -> None:
    run("CREATE TABLE events (source text, id char(9), x text, PRIMARY KEY (source, id))")
    columns = {"source": "source", "id": "id", "x": "data.x"}
    events = [an_odd_event(id_, data={"x": id_}) for id_ in ("a", "a ", "b\0", "b\ufffd")]
    assert deliver(sink(database, columns=columns), events).buried == {}
    assert run("SELECT x FROM events ORDER BY id") == [("a ",), ("b\ufffd",)]


# -- a server that fails -----------------------------------------------------------------------------------------------


def test_a_server_that_cannot_be_used_is_one_sentence_without_a_secret(
    postgres_server: Postgres, database: str, run: Run
) -> None:
    name = database.rpartition("/")[2]
    rows = sink(database, create=True)
    where = str(rows.url)
    assert postgres_server.password not in repr(rows) + where
    wrong = sink(database.replace(postgres_server.password, "correct-horse-2"))
    assert error(deliver(wrong, [an_event(1)])) == (
        f'{where} cannot be reached: password authentication failed for user "rm"'
    )
    missing = error(deliver(sink(postgres_server.url("missing")), [an_event(1)]))
    assert missing.endswith('cannot be reached: database "missing" does not exist')
    refused = error(deliver(sink(database.replace(f":{postgres_server.port}/", ":1/")), [an_event(1)]))
    assert "Connection refused" in refused
    assert deliver(rows, [an_event(1)]).error is None
    postgres_server.run(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    assert "the server is a standby, or default_transaction_read_only is set" in error(
        deliver(rows, [an_event(2)])
    )
    postgres_server.run(f"ALTER DATABASE {name} RESET default_transaction_read_only")
    run("CREATE ROLE reader LOGIN PASSWORD 'correct-horse-1'")
    try:
        run("GRANT SELECT ON events TO reader")
        reader = sink(database.replace("rm:", "reader:"))
        assert error(deliver(reader, [an_event(2)])).endswith(
            "cannot be written: permission denied for table events; GRANT ALL ON TABLE events to its user, or name the user that owns it"
        )
    finally:
        run("DROP OWNED BY reader")
        run("DROP ROLE reader")
    assert mask(postgres_server.password) == "***"


async def test_a_lock_and_a_cancelled_delivery_end_soon_and_write_nothing(database: str, run: Run) -> None:
    import psycopg

    assert (await asyncio.to_thread(deliver, sink(database, create=True), [an_event(1)])).error is None
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    with psycopg.connect(database) as other:
        other.execute("LOCK TABLE events IN ACCESS EXCLUSIVE MODE")
        async with sink(database, timeout=1.0).open(Http(Clients()), None) as taken:
            with pytest.raises(RequestFailed, match="longer than timeout"):
                await taken([an_event(2)])
        async with sink(database).open(Http(Clients()), None) as taken:
            task = asyncio.ensure_future(taken([an_event(3)]))  # type: ignore[arg-type] # it is a coroutine
            await until(lambda: run(waiting) == [(1,)])
            task.cancel()
            with suppress(asyncio.CancelledError):
                await asyncio.wait_for(task, 20)
            assert task.cancelled()
    assert run("SELECT id FROM events") == [("id00001",)]


async def test_a_server_that_restarts_between_two_deliveries_is_no_failure(
    postgres_server: Postgres, database: str, run: Run
) -> None:
    async with sink(database, create=True).open(Http(Clients()), None) as taken:
        await taken([an_event(1)])
        await asyncio.to_thread(postgres_server.stop, signal.SIGKILL)
        with pytest.raises(RequestFailed, match="cannot be reached"):
            await taken([an_event(2)])
        await asyncio.to_thread(postgres_server.start)
        await taken([an_event(2)])
    assert run("SELECT id FROM events ORDER BY id") == [("id00001",), ("id00002",)]


async def test_a_server_that_does_not_answer_is_given_up(
    postgres_server: Postgres, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from roundsman.sinks.postgres import link

    async with sink(database, create=True, timeout=1.0).open(Http(Clients()), None) as taken:
        backends = "SELECT pid FROM pg_stat_activity WHERE application_name = 'roundsman sink rows'"
        [(backend,)] = postgres_server.run(backends)
        monkeypatch.setattr(link, "SILENT", 0.2)
        os.kill(backend, signal.SIGSTOP)
        try:
            with pytest.raises(RequestFailed, match="has not answered for"):
                await asyncio.wait_for(taken([an_event(1)]), 20)
        finally:
            os.kill(backend, signal.SIGCONT)


async def test_a_server_that_is_killed_in_a_batch_has_each_event_once_in_the_end(
    tmp_path: Path, sandbox: Sandbox, postgres_server: Postgres, database: str, run: Run
) -> None:
    import psycopg

    rows = '[sinks.rows]\ntype = "postgres"\nurl = { env = "ROWS_URL" }\ntable = "events"\ncreate = true\n'
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'INSERT%%'"
    with closing(psycopg.connect(database)) as lock:
        path = configure(tmp_path, sandbox.url, rows, interval="100ms")
        async with Daemon(path, PARAKEY_TOKEN=TOKEN, ROWS_URL=database) as daemon:
            await daemon.until(lambda: run("SELECT to_regclass('events') IS NOT NULL") == [(True,)])
            lock.execute("LOCK TABLE events IN SHARE ROW EXCLUSIVE MODE")
            for number in range(150):
                sandbox.vendor.add(log_id=f"log{number}")
            await daemon.until(lambda: run(waiting) == [(1,)])
            await asyncio.to_thread(postgres_server.stop, signal.SIGKILL)
            await daemon.until(lambda: daemon.logged("sink.failing"))
            await asyncio.to_thread(postgres_server.start)
            await daemon.until(lambda: daemon.logged("sink.recovered"))
            await daemon.until(lambda: run("SELECT count(*) FROM events WHERE type LIKE 'co.%%'") == [(150,)])
            await daemon.stop(signal.SIGINT)
    assert daemon.code == 0
    assert "cannot be reached" in daemon.logged("sink.failing")[0]["error"]
    assert postgres_server.password not in daemon.stderr


def test_check_warns_of_a_password_in_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "roundsman.toml"
    source = '[sources.doors]\ntype = "parakey.event_logs"\naccess_token = { env = "PARAKEY_TOKEN" }\n'
    monkeypatch.setenv("PARAKEY_TOKEN", TOKEN)
    table = f'{source}[sinks.rows]\ntype = "postgres"\ntable = "events"\nurl = '
    path.write_text(f'{table}"postgresql://rm:hunter22@db.example/x"\n')
    found = advice.warnings(config.load(path))
    assert "sinks.rows.url: a password is in the file" in found
    (tmp_path / "url").write_text("postgresql://rm:hunter33@db.example/x")
    (tmp_path / "url").chmod(0o600)
    (tmp_path / "roundsman.toml").write_text(f'{table}{{ file = "url" }}\n')
    loaded = config.load(path)
    assert [each for each in advice.warnings(loaded) if "password" in each] == []
    script = f"import sys; from pathlib import Path; from roundsman import config; config.load(Path({str(path)!r}))"
    script += "; print([name for name in sys.modules if name.startswith('psycopg')])"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", "the driver is imported when the sink is opened"
    assert "hunter" not in repr(loaded.sinks) + mask("hunter33")
