"""The commands as a user meets them: what they print, where, and their exit status."""

import asyncio
import json
import os
import re
import shlex
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from importlib.metadata import entry_points
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import httpx
import jsonschema
import pytest

from conftest import need
from inside import commit, done, seen
from lists import EXAMPLES
from raw import answer, raw_server
from roundsman import kinds
from roundsman.cli import run
from roundsman.config import registry
from roundsman.config.vocabulary import meets
from roundsman.engine.engine import Engine
from roundsman.events import notice
from roundsman.http.client import Http
from roundsman.http.transport import HttpOptions
from roundsman.plugin import Poll, Source, State
from roundsman.sandbox import Fault, Parakey, Town
from roundsman.sandbox.mailchimp import Mailchimp, Operation, bad_address
from roundsman.sandbox.okta import API_TOKEN as OKTA_TOKEN, Okta, Quirks as OktaQuirks
from roundsman.sandbox.railz import Railz
from roundsman.sandbox.server import Sandbox
from roundsman.screen.words import plain
from roundsman.service.service import web
from roundsman.sources import SOURCES
from roundsman.store import open_store
from roundsman.store.sqlite import reader
from roundsman.store.sqlite.reader import Reader
from roundsman.store.sqlite.store import SqliteStore
from roundsman.system import logs
from roundsman.system.files import Space
from roundsman.wire import Damage
from typed import Result
from worlds import (
    START,
    ByHand,
    Straight,
    Time,
    an_event,
    mailchimp_batches,
    parakey_batches,
    railz_pushes,
    web_of,
)

CONFIG = """
[daemon]
store = "roundsman.db"
[sources.doors]
type = "parakey.event_logs"
base_url = "http://127.0.0.1:1"
access_token = "s3cret"
[sinks.archive]
type = "file"
path = "events.jsonl"
"""


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    (tmp_path / "roundsman.toml").write_text(CONFIG)
    store = SqliteStore.open(tmp_path / "roundsman.db")
    done(store.register({"doors": "parakey.event_logs"}, {"archive": "file"}))
    commit(
        store,
        "doors",
        {"cursor": "x"},
        [
            an_event(1),
            an_event(2, outcome="denied", user={"id": None, "name": "Eve\x1b[31m", "email": None}),
            an_event(3),
        ],
    )
    done(store.bury("archive", 0, 1, "too large", START))
    done(store.close())
    return tmp_path


def test_without_a_configuration_it_says_where_it_looked(roundsman: Any) -> None:
    result = roundsman("check")
    assert result.code == 2
    assert (
        "/.config/roundsman/roundsman.toml nor /etc/roundsman/roundsman.toml exists; `roundsman init` writes one"
        in result.err
    )


def test_a_file_that_root_does_not_take_is_said(roundsman: Any, filled: Path) -> None:
    need(os.geteuid() == 0, "needs root, who is asked for")
    filled.chmod(0o777)
    result = roundsman("check")
    assert (result.code, result.out) == (2, "")
    passed, nothing = result.err.splitlines()
    assert passed.startswith(
        "warning: ./roundsman.toml is skipped: another user than root may change it or its folder"
    )
    assert nothing.startswith("no configuration: neither ")
    assert roundsman("check", "-c", "./roundsman.toml").code == 0


def test_a_configuration_that_cannot_be_read_is_one_sentence(filled: Path) -> None:
    (filled / "roundsman.toml").chmod(0)
    # Root without root's right to read everything.
    setpriv = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    for command in ("check", "run", "status"):
        done = subprocess.run(
            [*setpriv, sys.executable, "-m", "roundsman", command, "-c", str(filled / "roundsman.toml")],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 2
        assert done.stderr.startswith(f"{filled}/roundsman.toml: cannot be read: Permission denied")
        assert done.stderr.count("\n") == 1


def test_init_never_overwrites(roundsman: Any, tmp_path: Path, monkeypatch: Any) -> None:
    assert roundsman("init").code == 0
    assert (tmp_path / "roundsman.toml").stat().st_mode & 0o777 == 0o600
    again = roundsman("init")
    assert (again.code, again.out) == (1, "")
    assert "exists already and is not overwritten" in again.err
    monkeypatch.setenv("PARAKEY_ACCESS_TOKEN", "x")
    assert roundsman("check").code == 0, "what it writes is fine as it is"
    (tmp_path / "file").write_text("")
    assert roundsman("init", "file/folder.toml").err == "file/folder.toml: cannot be written: File exists\n"


def test_init_for_a_service_is_for_its_user_to_read_with_any_umask(roundsman: Any, tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        assert roundsman("init", "--service", "etc/roundsman.toml").code == 0
    finally:
        os.umask(before)
    modes = {
        path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "etc", *(tmp_path / "etc").iterdir())
    }
    assert modes == {"etc": 0o755, "roundsman.toml": 0o644, "credentials": 0o700}


def test_check_shows_every_mistake_and_warning(roundsman: Any, filled: Path) -> None:
    fine = roundsman("check")
    assert fine.code == 0
    assert "no mistakes; 1 source, 1 sink, store" in fine.out
    assert "roundsman.toml:4: warning: sources.doors: a secret is in the file" in fine.err
    (filled / "roundsman.toml").write_text(CONFIG.replace("path =", "pth ="))
    wrong = roundsman("check")
    assert (wrong.code, wrong.out) == (2, "")
    assert wrong.err.splitlines() == [
        "roundsman.toml: 2 mistakes",
        "roundsman.toml:8: sinks.archive.path: is missing",
        "roundsman.toml:10: sinks.archive.pth: unknown option; did you mean path?",
    ]
    assert "s3cret" not in fine.out + fine.err + wrong.err


def test_check_live_asks(roundsman: Any, filled: Path) -> None:
    result = roundsman("check", "--live")
    assert result.code == 1
    assert "sources.doors: http://127.0.0.1:1 cannot be reached: the connection was refused" in result.err
    assert "sinks.archive: opens" in result.out


def test_check_live_leaves_nothing_that_only_its_user_could_use(roundsman: Any, filled: Path) -> None:
    """Root's file would keep the service from its own. And a sink that is not asked is reported so."""
    file = filled / "roundsman.toml"
    more = f'[sinks.new]\ntype = "file"\npath = "{filled}/a/b/new.jsonl"\n[sinks.crm]\ntype = "http"\nurl = "http://127.0.0.1:1/"\n'
    file.write_text(file.read_text() + more)
    before = (filled / "events.jsonl").exists()
    result = roundsman("check", "--live")
    assert "sinks.new: opens" in result.out
    assert "sinks.crm: not tested: it opens at the first event" in result.out
    assert not (filled / "a").exists()
    assert (filled / "events.jsonl").exists() == before


def test_a_full_disk_is_said_by_status(roundsman: Any, filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "disk is full" not in roundsman("status").out
    monkeypatch.setattr(reader, "space", lambda path: Space(1000, 10**9))
    assert "the disk is full" in roundsman("status").out.splitlines()[1]
    assert "the disk is full" in json.loads(roundsman("status", "--json").out)["trouble"]


def test_status_searches_the_installed_types_once_however_many_sources_there_are(
    roundsman: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search reads the metadata of all installed packages: milliseconds."""
    one = '[sources.{}]\ntype = "parakey.event_logs"\nbase_url = "http://127.0.0.1:1"\naccess_token = "s3cret"\n'
    (tmp_path / "roundsman.toml").write_text(
        '[daemon]\nstore = "roundsman.db"\n[http]\nattempts = 1\n[sinks.out]\ntype = "stdout"\n'
        + "".join(one.format(f"doors-{number}") for number in range(20))
    )
    assert roundsman("once", "--now").code == 1, "the rows are there"
    searches: list[str] = []

    def search(*, group: str) -> Any:
        searches.append(group)
        return entry_points(group=group)

    monkeypatch.setattr("roundsman.config.registry.entry_points", search)
    assert len(json.loads(roundsman("status", "--json").out)["sources"]) == 20
    assert searches.count("roundsman.sources") < 5


def test_damage_that_the_daemon_found_is_in_the_status_until_a_check_finds_none(
    roundsman: Any, filled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert json.loads(roundsman("status", "--json").out)["damage"] is None
    found = ["x.db is damaged: restore it from a backup", None]
    monkeypatch.setattr("roundsman.store.sqlite.store.check", lambda path: found.pop(0))

    async def check() -> None:
        store = await open_store(filled / "roundsman.db")
        try:
            await Engine(store, ByHand(), web(HttpOptions())).upkeep.check()
        finally:
            await store.close()

    asyncio.run(check())
    said = "x.db is damaged: restore it from a backup"
    assert roundsman("status").out.splitlines()[1] == f"store {said}"
    assert json.loads(roundsman("status", "--json").out)["damage"] == said
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert said in roundsman("status").out
    asyncio.run(check())
    assert said not in roundsman("status").out


def test_a_daemon_that_cannot_write_is_in_the_status(roundsman: Any, filled: Path) -> None:
    store = SqliteStore.open(filled / "roundsman.db")
    done(store.runs(filled / "roundsman.toml", "digest"))
    assert json.loads(roundsman("status", "--json").out)["trouble"] is None
    with closing(sqlite3.connect(filled / "roundsman.db")) as db:
        db.execute("UPDATE daemons SET beat = 1777615200, started = 1777615100")
        db.commit()
    said = "the daemon has not recorded since 2026-05-01T06:00:00Z that it runs"
    assert said in roundsman("status").out.splitlines()[1]
    done(store.close())
    assert said not in roundsman("status").out, "no daemon runs"


def test_a_sink_waits_for_no_event_that_was_pruned(roundsman: Any, filled: Path) -> None:
    assert json.loads(roundsman("status", "--json").out)["sinks"][0]["waiting"] == 2
    with closing(sqlite3.connect(filled / "roundsman.db")) as db:
        db.execute("UPDATE events SET body = NULL WHERE seq = 2")
        db.commit()
    assert json.loads(roundsman("status", "--json").out)["sinks"][0]["waiting"] == 1


def test_no_command_asks_a_vendor_during_a_pause_that_it_asked_for(roundsman: Any, filled: Path) -> None:
    store = SqliteStore.open(filled / "roundsman.db")
    commit(store, "doors", {"cursor": "y"}, [], not_before=time.time() + 900)
    until = json.loads(roundsman("status", "--json").out)["sources"][0]["rests_until"]
    for command in (["poll", "doors"], ["check", "--live"]):
        result = roundsman(*command)
        assert result.code == 1
        said = f"sources.doors: the vendor asked to wait until {until}; not asked"
        assert said in result.err.splitlines()
        assert "connection was refused" not in result.err
    commit(store, "doors", {"cursor": "z"}, [], not_before=time.time() - 1)
    assert "the connection was refused" in roundsman("poll", "doors").err, "the pause is over"
    done(store.close())


def test_once_says_1_when_something_failed(roundsman: Any, filled: Path) -> None:
    result = roundsman("once", "--now")
    assert result.code == 1
    assert '"event":"poll.failed"' in result.err
    assert (filled / "events.jsonl").read_text().count("\n") == 2, "and delivers all the same"


def test_poll_names_the_sources_there_are(roundsman: Any, filled: Path) -> None:
    assert roundsman("poll", "windows").err == "windows: no such source; there is doors\n"
    result = roundsman("poll", "doors")
    assert (result.code, result.out) == (1, "")
    assert seen(Reader.open(filled / "roundsman.db").memory("doors")).state == {"cursor": "x"}


def test_status_is_one_line_each_and_json(roundsman: Any, filled: Path) -> None:
    plain = roundsman("status")
    assert plain.code == 0
    assert plain.out.splitlines()[0] == "daemon not running"
    assert plain.out.splitlines()[2].startswith(
        "source doors type=parakey.event_logs state=ok visited=2026-05-01T06:00:00Z"
    )
    assert "sink archive type=file state=ok cursor=1 waiting=2 failures=0 dead=1" in plain.out
    found = json.loads(roundsman("status", "--json").out)
    assert found["sources"][0]["events"] == 3
    assert found["sinks"][0]["dead"] == 1


def test_events_are_filtered_and_escaped(roundsman: Any, filled: Path) -> None:
    assert len(roundsman("events").out.splitlines()) == 3
    denied = roundsman("events", "--outcome", "den*")
    assert "Eve\\x1b[31m" in denied.out
    assert "\x1b" not in denied.out
    assert len(denied.out.splitlines()) == 1
    assert json.loads(roundsman("events", "-n", "1", "--json").out)["id"] == "id00003"
    assert roundsman("events", "--source", "win*").out == ""
    assert len(roundsman("events", "--since", "2026-05-01").out.splitlines()) == 3
    assert roundsman("events", "--since", "1s").out == ""
    assert roundsman("events", "--since", "whenever").code == 2


def test_reading_without_a_store_is_one_sentence(roundsman: Any, tmp_path: Path) -> None:
    (tmp_path / "roundsman.toml").write_text(CONFIG)
    for command in (
        ["status"],
        ["events"],
        ["dead", "list", "archive"],
        ["replay", "archive", "--from", "beginning"],
    ):
        result = roundsman(*command)
        assert result.code == 1
        assert "`roundsman run` or `roundsman once` creates it" in result.err
        assert result.err.count("\n") == 1


def test_replay_moves_a_sink_back(roundsman: Any, filled: Path) -> None:
    def to_3() -> None:
        store = SqliteStore.open(filled / "roundsman.db", daemon=False)
        done(store.ack("archive", seen(store.cursor("archive"))[0], 3, None, START))
        done(store.close())

    to_3()
    assert "3 events from #1 on" in roundsman("replay", "archive", "--from", "beginning").out
    to_3()
    assert "1 event from #3 on" in roundsman("replay", "archive", "--from", "#3").out
    assert "3 events from #1 on" in roundsman("replay", "archive", "--from", "2026-05-01T06:00:00Z").out
    assert "3 events from #1 on" in roundsman("replay", "archive", "--from", "2037-01-01").out, (
        "never forward"
    )
    assert (
        roundsman("replay", "absent", "--from", "beginning").err == "absent: no such sink; there is archive\n"
    )


def test_rewind_moves_a_source_back(roundsman: Any, filled: Path) -> None:
    assert roundsman("rewind", "doors", "--to", "2026-04-30T00:00:00Z").code == 0
    store = SqliteStore.open(filled / "roundsman.db")
    assert seen(store.memory("doors")).state["floor"] == "2026-04-30T00:00:00Z"
    assert done(store.commanded()) == ["doors"]
    done(store.close())


def test_dead_letters_are_listed_retried_and_dropped(roundsman: Any, filled: Path) -> None:
    assert "id00001: too large" in roundsman("dead", "list", "archive").out
    assert json.loads(roundsman("dead", "list", "archive", "--json").out)[0]["reason"] == "too large"
    assert roundsman("dead", "retry", "archive", "1").out == "archive: 1 dead letter will be retried\n"
    assert "(will be retried)" in roundsman("dead", "list", "archive").out
    which = roundsman("dead", "drop", "archive")
    assert (which.code, which.out) == (2, ""), "it requires numbers, or --all"
    both = roundsman("dead", "drop", "archive", "1", "--all")
    assert (both.code, both.out) == (2, ""), "it does not say which is meant"
    assert roundsman("dead", "drop", "archive", "1").out == "archive: 1 dead letter dropped\n"
    assert roundsman("dead", "drop", "archive", "--all").out == "archive: 0 dead letters dropped\n"


def test_schemas_are_schemas(roundsman: Any, filled: Path) -> None:
    jsonschema.Draft202012Validator.check_schema(json.loads(roundsman("schema", "config").out))
    schema = json.loads(roundsman("schema", "events").out)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema == kinds.schemas()
    assert roundsman("schema", "nonsense").code == 2


def test_a_wrong_command_line_is_2(roundsman: Any) -> None:
    assert roundsman("frobnicate").code == 2
    assert roundsman("demo", "--for", "soon").code == 2
    assert roundsman("replay", "archive").code == 2


def test_a_wrong_command_line_is_one_line_in_the_journal(roundsman: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(logs, "on_journal", lambda: True)
    for args, why in (
        (["frobnicate"], "No such command 'frobnicate'."),
        (["replay", "archive"], "Missing option '--from'."),
    ):
        result = roundsman(*args)
        [line] = result.err.splitlines()
        assert (result.code, json.loads(line.removeprefix("<3>"))["problems"]) == (2, [why])
    assert roundsman("demo", "--for", "soon").code == 2, "a command's own status"
    assert roundsman("--version").code == 0


@pytest.fixture
def hangups() -> Any:
    before = signal.getsignal(signal.SIGHUP)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("hangups")
def test_with_a_socket_a_wrong_configuration_is_tried_again_after_a_while(
    roundsman: Any, filled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each caller in systemd's socket starts the service again, with any exit status."""
    waited: list[float] = []
    monkeypatch.setattr(run, "sleep", waited.append)
    (filled / "roundsman.toml").write_text(CONFIG.replace("path =", "pth ="))
    alone = roundsman("run")
    assert (alone.code, waited) == (2, [])
    monkeypatch.setenv("LISTEN_FDS", "1")
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    held = roundsman("run")
    assert (held.code, held.err, waited) == (2, alone.err, [5.0])


def test_a_process_that_waits_before_the_next_start_ends_at_once(filled: Path) -> None:
    (filled / "roundsman.toml").write_text("")
    script = f"LISTEN_PID=$$ LISTEN_FDS=1 exec {sys.executable} -m roundsman run -c {filled}/roundsman.toml"
    with subprocess.Popen(["sh", "-c", script], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        assert "2 mistakes" in process.stderr.readline(), "said before it waits"
        process.terminate()
        assert process.wait(4) == -signal.SIGTERM


def test_a_reload_that_comes_before_anything_else_does_not_end_it(tmp_path: Path) -> None:
    pipe = tmp_path / "roundsman.toml"
    os.mkfifo(pipe)
    with subprocess.Popen(
        [sys.executable, "-m", "roundsman", "run", "-c", str(pipe)], stderr=subprocess.PIPE
    ) as process:
        with pipe.open("w"):  # as soon as the program reads it
            process.send_signal(signal.SIGHUP)
        assert process.wait(20) == 2, "the end of an empty configuration"


def test_the_demo_shows_three_vendors_and_ends_with_failures(roundsman: Any) -> None:
    result = roundsman("demo", "--for", "20s")
    assert result.code == 0
    for kind in ("event_log.created", "batch.item_failed", "batch.operation_failed", "push.completed"):
        assert kind in result.out, kind
    _, failures = result.out.split("\nroundsman failures")
    for source in ("keys", "newsletter", "ledger"):
        assert source in failures
    counted = int(result.out.partition(" requests: ")[2].split()[0])
    assert f"The file sink has {counted} lines" in result.out
    assert result.err == ""


def test_the_demo_has_the_page_and_prints_its_address_and_login() -> None:
    command = [sys.executable, "-m", "roundsman", "demo", "--for", "60s"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = next(line for line in process.stdout if line.startswith("The page"))
            found = re.fullmatch(r"The page for a browser: (\S+) \(user (\S+), password (\S+)\)\.\n", line)
            assert found is not None
            url, user, password = found.groups()
            assert httpx.get(url, timeout=20).status_code == 401
            page = httpx.get(url, auth=(user, password), timeout=20)
            assert (page.status_code, "front-doors" in page.text) == (200, True)
        finally:
            process.terminate()


def test_help_names_every_command(roundsman: Any) -> None:
    text = roundsman("--help").out
    for command in (
        "init",
        "check",
        "run",
        "once",
        "poll",
        "status",
        "events",
        "replay",
        "rewind",
        "dead",
        "schema",
        "demo",
    ):
        assert f"\n  {command} " in text
    assert roundsman("--version").out.startswith("roundsman 0.")


def test_the_configuration_is_found_by_environment(roundsman: Any, filled: Path, monkeypatch: Any) -> None:
    (filled / "other.toml").write_text(CONFIG)
    (filled / "roundsman.toml").unlink()
    monkeypatch.setenv("ROUNDSMAN_CONFIG", str(filled / "other.toml"))
    assert roundsman("status").code == 0
    assert os.environ["ROUNDSMAN_CONFIG"]


def test_a_rewind_to_the_future_is_refused(roundsman: Any, filled: Path) -> None:
    result = roundsman("rewind", "doors", "--to", "2037-01-01")
    assert result.code == 2
    assert "is in the future" in result.err


@pytest.mark.parametrize("verb", ["list", "retry", "drop"])
def test_dead_names_the_sinks_there_are(verb: str, roundsman: Any, filled: Path) -> None:
    result = roundsman("dead", verb, "absent")
    assert (result.code, result.err) == (2, "absent: no such sink; there is archive\n")


def test_a_full_disk_behind_the_output_is_one_sentence(filled: Path) -> None:
    command = f"{sys.executable} -m roundsman status -c {filled}/roundsman.toml > /dev/full"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    assert "No space left on device" in done.stderr


def test_closed_output_ends_nothing(filled: Path) -> None:
    """A socket or the store must not get the number of standard output."""
    command = f"{sys.executable} -m roundsman once --now -c {filled}/roundsman.toml >&-"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "poll.failed" in done.stderr


def test_a_broken_plugin_hurts_only_who_uses_it(roundsman: Any, filled: Path, monkeypatch: Any) -> None:
    import importlib.metadata

    point = importlib.metadata.EntryPoint("broken.thing", "no_such_module:Thing", "roundsman.sources")
    monkeypatch.setattr(
        registry, "entry_points", lambda group: [point] if group == "roundsman.sources" else []
    )
    assert roundsman("check").code == 0
    (filled / "roundsman.toml").write_text(CONFIG.replace("parakey.event_logs", "broken.thing"))
    result = roundsman("check")
    assert result.code == 2
    assert (
        "the plugin broken.thing (no_such_module:Thing) cannot be loaded: ModuleNotFoundError" in result.err
    )


# -- failures and tracking ---------------------------------------------------------------------------------------------


@pytest.fixture
def troubled(tmp_path: Path) -> Path:
    """A log with a failure of each vendor, and what is none."""
    world = Time()
    parakey, mailchimp, railz = Parakey(world.utc), Mailchimp(world.utc), Railz(world.utc)
    parakey.batch(
        [{"user": {"email": "ada@a.example"}, "error": {"message": "no such key"}}, {}], batch_id="b1"
    )
    mailchimp.add([Operation(), bad_address("x@y.example", "row-2")], batch_id="m1")
    mailchimp.add([bad_address("z@y.example")], batch_id="m2")
    railz.connect("CON-1")
    railz.push("CON-1", push_id="p1", status="failed", code=400, errors=[{"message": "period is closed"}])
    railz.push("CON-1", push_id="p2")
    mailchimp.faults.extend([Fault(500, path="/rsg-api-batches-prod/m2")] * 9)
    town = Town({"": parakey, "/3.0": mailchimp, "/rsg-api": mailchimp, "/v2": railz, "/getAccess": railz})
    store = SqliteStore.open(tmp_path / "roundsman.db")
    engine = Engine(store, ByHand(), web_of(Straight(town), world), clock=world.clock())
    sources = {
        "keys": parakey_batches("keys"),
        "news": mailchimp_batches("news"),
        "ledger": railz_pushes("ledger"),
    }
    done(engine.setup(sources, {}))
    done(store.follow("keys", ["b1"]))
    asyncio.run(engine.once())
    done(store.close())
    (tmp_path / "roundsman.toml").write_text(CONFIG)
    return tmp_path


def test_failures_of_all_vendors_look_the_same(roundsman: Any, troubled: Path) -> None:
    rows = json.loads(roundsman("failures", "--json").out)
    assert {(row["source"], row["item_id"], row["message"]) for row in rows} == {
        ("keys", None, "no such key"),
        ("news", "row-2", "x@y.example looks fake or invalid, please enter a real email address."),
        ("news", None, "1 of 1 failed; the failed items are not known"),
        ("ledger", "p1", "period is closed"),
    }
    assert len({frozenset(row) for row in rows}) == 1
    seqs = [row["id"] for row in rows]
    assert seqs == sorted(seqs, reverse=True), "newest first"
    lines = roundsman("failures").out.splitlines()
    assert len(lines) == 4
    assert any("ada@a.example" in line and "no such key" in line for line in lines)
    assert len(roundsman("failures", "--source", "le*").out.splitlines()) == 1
    assert len(roundsman("failures", "-n", "2").out.splitlines()) == 2
    assert roundsman("failures", "--since", "1s").out == ""


def test_a_failure_is_ticked_off_and_counted(roundsman: Any, troubled: Path) -> None:
    first, second, *_ = [row["id"] for row in json.loads(roundsman("failures", "--json").out)]
    assert json.loads(roundsman("status", "--json").out)["open_failures"] == 4
    assert (
        roundsman("failures", "done", f"#{first}", str(second)).out == "2 failures marked as done, 2 left\n"
    )
    assert roundsman("failures", "done", str(first)).out == "0 failures marked as done, 2 left\n"
    assert "failures open=2" in roundsman("status").out
    assert len(roundsman("failures").out.splitlines()) == 2
    everything = json.loads(roundsman("failures", "--all", "--json").out)
    assert sum(row["done"] for row in everything) == 2
    missing = roundsman("failures", "done", "99999")
    assert (missing.code, missing.err) == (1, "99999: no such failure\n")
    for wrong in ("p1:failed", "9" * 30, "1-x", "-"):
        assert roundsman("failures", "done", "--", wrong).code == 2, wrong
    assert roundsman("failures", "done").code == 2
    assert roundsman("failures", "done", "1-100").out == "2 failures marked as done, 0 left\n"
    assert roundsman("failures", "done", "--all").out == "0 failures marked as done, 0 left\n"
    assert roundsman("failures").err == "no failure is open; --all also shows those that are done\n"


def test_failures_say_where_they_are(roundsman: Any, troubled: Path) -> None:
    out = roundsman("failures").out
    assert "journalEntries, p1: failed: period is closed (400), connection CON-1\n" in out
    assert "batch m1" in out
    rows = json.loads(roundsman("failures", "--json", "--source", "ledger").out)
    assert (rows[0]["connection"], rows[0]["environment"]) == ("CON-1", "sandbox")
    wrong = roundsman("failures", "--source", "nope")
    assert (wrong.code, wrong.err) == (2, "nope: no such source; there is keys, ledger, news\n")


def test_events_are_found_by_the_names_that_are_shown(roundsman: Any, troubled: Path) -> None:
    assert len(roundsman("events", "--type", "batch.completed").out.splitlines()) == 3
    assert len(roundsman("events", "--type", "com.mailchimp.*").out.splitlines()) == 3
    assert roundsman("events", "--source", "nope").code == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--type batch.compleated", "batch.compleated: no such event type; did you mean batch.completed?"),
        ("--type co.parakey.batch.complete", "no such event type; did you mean co.parakey.batch.completed?"),
        ("--type zz.*", "zz.*: matches no event type; `roundsman schema events` has all"),
        ("--outcome faild", "faild: no such outcome; did you mean failed?"),
        ("--outcome FAILED", "FAILED: no such outcome; did you mean failed?"),
        ("--type Batch.Completed", "Batch.Completed: no such event type; did you mean batch.completed?"),
        ("--outcome x*", "x*: matches no outcome; known: succeeded, partial, failed, empty, "),
        ("--source e*", "e*: matches no source; there is "),
        ("--type batch.completed --type nonsense", "nonsense: no such event type; "),
    ],
)
def test_a_filter_that_can_match_nothing_is_a_mistake(
    options: str, said: str, roundsman: Any, troubled: Path
) -> None:
    found = roundsman("events", *shlex.split(options))
    assert (found.code, found.out) == (2, "")
    assert said in found.err
    assert found.err.count("\n") == 1


@pytest.mark.garbles
def test_a_filter_matches_what_the_schema_a_template_or_the_log_has(roundsman: Any, filled: Path) -> None:
    audit = (
        '[sources.audit]\ntype = "http.json"\nbase_url = "http://127.0.0.1:1"\npath = "/"\n'
        '[sources.audit.event]\ntype = "org.{kind}.acme"\n'
    )
    for options in ("--type com.mailchimp.*", "--type push.completed", "--outcome part*"):
        assert roundsman("events", *options.split()) == (0, "", "no event matches\n"), "known"
    assert roundsman("events", "--type", "org.login.acme").code == 2
    (filled / "roundsman.toml").write_text(CONFIG + audit)
    for kind in ("org.login.acme", "org.*", "login.acme", "*.acme"):
        assert roundsman("events", "--type", kind).code == 0, kind
    assert roundsman("events", "--type", "org.login.acne").code == 2
    with closing(sqlite3.connect(filled / "roundsman.db")) as db, db:
        db.execute("UPDATE events SET type = 'net.gone.old' WHERE seq = 3")
    assert roundsman("events", "--type", "net.gone.old").out.count("\n") == 1, "of a source that is removed"


def test_with_a_source_of_a_plugin_an_unknown_type_is_a_warning(roundsman: Any, filled: Path) -> None:
    """It may report the type one day."""
    (filled / "roundsman.toml").write_text(CONFIG + '[sources.orders]\ntype = "acme.orders"\n')
    found = roundsman("events", "--type", "order.refused")
    assert (found.code, found.out) == (0, "")
    assert found.err.startswith("warning: order.refused: no such event type; ")


@pytest.mark.parametrize(
    ("one", "other", "meet"),
    [
        ("a.b", "a.b", True),
        ("a.*", "a.b.c", True),
        ("*.failed", "org.*.acme", False),
        ("*.ac?e", "org.*.acme", True),
        ("org.[xy]*", "org.*.acme", True),
        ("**", "", True),
        ("a*b", "b*a", False),
        ("*a" * 60, "*b" * 60 + "*", True),
    ],
)
def test_two_globs_meet_if_some_name_matches_both(one: str, other: str, meet: bool) -> None:
    assert meets(one, other) is meet
    assert meets(other, one) is meet


def test_what_is_followed_is_shown(roundsman: Any, troubled: Path) -> None:
    roundsman("track", "keys", "x1", "x2")
    rows = {row["name"]: row for row in json.loads(roundsman("status", "--json").out)["sources"]}
    assert rows["keys"]["following"] == 2
    assert rows["news"]["following"] == 1, "results that are still owed"


def test_commands_for_one_source_need_only_its_secrets(roundsman: Any, troubled: Path) -> None:
    other = '[sources.other]\ntype = "mailchimp.batches"\napi_key = { env = "NOT_SET" }\n'
    (troubled / "roundsman.toml").write_text(CONFIG + other)
    assert "no such source; there is doors, other" in roundsman("rewind", "nope", "--to", "1h").err
    assert "cannot be reached" in roundsman("poll", "doors").err
    assert "NOT_SET" in roundsman("poll", "other").err


def test_nothing_went_wrong_is_said(roundsman: Any, filled: Path) -> None:
    result = roundsman("failures")
    assert (result.code, result.out, result.err) == (
        0,
        "",
        "no failure is open; --all also shows those that are done\n",
    )
    assert json.loads(roundsman("failures", "--json").out) == []


def test_events_of_all_vendors_are_one_line_each(roundsman: Any, troubled: Path) -> None:
    lines = roundsman("events").out.splitlines()
    assert len(lines) == 7
    assert any("batch.completed" in line and "b1: 1 of 2 failed" in line for line in lines)
    assert any("push.completed" in line and "period is closed (400)" in line for line in lines)


def test_tracking_needs_no_secret_and_refuses_what_cannot_be(roundsman: Any, troubled: Path) -> None:
    (troubled / "roundsman.toml").write_text(CONFIG.replace('"s3cret"', '{ env = "NOT_SET" }'))
    assert (
        roundsman("track", "news", "abc", "def", "abc").out
        == "news: 2 ids will be tracked from the next visit on\n"
    )
    assert (
        roundsman("track", "news", "abc").out
        == "news: 0 ids will be tracked from the next visit on, 1 waited already\n"
    )
    assert roundsman("track", "ledger", "CON-1/batch:x").code == 0
    wrong = roundsman("track", "news", "a/b")
    assert (wrong.code, wrong.err) == (2, "news: 'a/b' is not the id of a batch\n")
    missing = roundsman("track", "nosuch", "a")
    assert (missing.code, missing.err) == (2, "nosuch: no such source; there is keys, ledger, news\n")


def test_what_follows_nothing_says_so(roundsman: Any, filled: Path) -> None:
    result = roundsman("track", "doors", "x")
    assert (result.code, result.err) == (2, "doors: this type of source follows nothing by id\n")


# -- what is neither fine nor a failure -------------------------------------------------------------------------------


def test_what_could_not_be_read_is_shown_by_either_name(roundsman: Any, filled: Path) -> None:
    store = SqliteStore.open(filled / "roundsman.db")
    kept = [Damage(b"null", "item 0 of the list is null"), Damage(b"{}", "neither an id nor a time")]
    commit(store, "doors", {"cursor": "y"}, [], unread=kept)
    done(store.close())
    lines = roundsman("unread", "doors").out.splitlines()
    assert [line.partition(": ")[2] for line in lines] == [each.why for each in kept]
    assert roundsman("hooks", "unread", "doors").out.splitlines() == lines
    assert [row["body"] for row in json.loads(roundsman("unread", "doors", "--json").out)] == ["null", "{}"]
    assert json.loads(roundsman("status", "--json").out)["sources"][0]["unread"] == 2
    assert roundsman("unread", "doors", "--drop").out == "doors: 2 dropped\n"
    assert roundsman("unread", "windows").code == 2


def test_a_gap_a_rest_and_another_address_are_in_the_status(roundsman: Any, filled: Path) -> None:
    store = SqliteStore.open(filled / "roundsman.db")
    done(store.register({"doors": "parakey.event_logs"}, {}, {"doors": "https://a.example"}))
    resting = time.time() + 900
    commit(store, "doors", {"gap": "2026-05-01T00:00:00Z"}, [], not_before=resting)
    done(store.register({"doors": "parakey.event_logs"}, {}, {"doors": "https://b.example"}))
    done(store.close())
    [row] = json.loads(roundsman("status", "--json").out)["sources"]
    assert (row["state"], row["gap"]) == ("gap", "2026-05-01T00:00:00Z")
    assert row["rests_until"]
    assert (row["origin"], row["reads"]) == ("https://a.example", "https://b.example")
    accepted = roundsman("rewind", "doors", "--accept")
    assert (accepted.code, accepted.out) == (0, "doors: continues from its cursor\n")
    [row] = json.loads(roundsman("status", "--json").out)["sources"]
    assert (row["origin"], row["reads"]) == ("https://b.example", None)
    assert roundsman("rewind", "doors", "--accept").code == 1
    assert roundsman("rewind", "doors").code == 2


def test_a_gap_that_was_reported_is_in_the_status_of_a_source_without_such_a_state(
    roundsman: Any, filled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (filled / "roundsman.toml").write_text(CONFIG.replace('"parakey.event_logs"', '"parakey.batches"'))
    (filled / "roundsman.db").unlink()
    store = SqliteStore.open(filled / "roundsman.db")
    done(store.register({"doors": "parakey.batches"}, {}))
    [row] = json.loads(roundsman("status", "--json").out)["sources"]
    assert row["gap_reported"] is None
    reported = notice("roundsman.source.gap", "doors", "short list", "Batches may be missing.")
    commit(store, "doors", {}, [reported, notice("roundsman.source.gone", "doors", "b1", "Gone.")])
    done(store.close())
    [row] = json.loads(roundsman("status", "--json").out)["sources"]
    assert (row["gap"], row["state"]) == (None, "ok")
    assert row["gap_reported"] == "2026-05-01T06:00:00Z"
    assert f"gap_reported={row['gap_reported']}" in roundsman("status").out
    monkeypatch.setenv("FORCE_COLOR", "1")
    shown = " ".join(roundsman("status").out.split())
    assert "doors: a gap was reported at" in shown
    assert "roundsman events --source doors --type roundsman.source.gap" in shown


def test_a_gap_that_has_ended_is_not_in_the_status_of_a_source_that_states_its_gaps(
    roundsman: Any, filled: Path
) -> None:
    store = SqliteStore.open(filled / "roundsman.db")
    commit(
        store, "doors", {"cursor": "y"}, [notice("roundsman.source.gap", "doors", "x", "Rows are missing.")]
    )
    done(store.close())
    [row] = json.loads(roundsman("status", "--json").out)["sources"]
    assert (row["gap"], row["gap_reported"], row["state"]) == (None, None, "ok")


def test_a_name_with_a_memory_that_is_left_behind_is_warned_of(roundsman: Any, filled: Path) -> None:
    (filled / "roundsman.toml").write_text(CONFIG.replace("sources.doors", "sources.front-doors"))
    result = roundsman("check")
    assert result.code == 0
    assert "sources.front-doors: it is new, and doors, which read the same until" in result.err
    assert "roundsman rewind front-doors --to 2026-05-01T06:00:00Z" in result.err


def test_another_address_under_a_name_with_a_memory_is_warned_of(roundsman: Any, filled: Path) -> None:
    assert "its state is from" not in roundsman("check").err
    store = SqliteStore.open(filled / "roundsman.db")
    done(store.register({"doors": "parakey.event_logs"}, {}, {"doors": "http://127.0.0.1:1"}))
    done(store.close())
    (filled / "roundsman.toml").write_text(CONFIG.replace("127.0.0.1:1", "127.0.0.2:1"))
    said = roundsman("check").err
    assert "sources.doors: it reads http://127.0.0.2:1 now, and its state is from http://127.0.0.1:1" in said
    assert "roundsman rewind doors --to beginning" in said
    assert "roundsman rewind doors --accept" in said


def test_accepting_before_the_daemon_has_loaded_the_change_says_what_to_do(
    roundsman: Any, filled: Path
) -> None:
    store = SqliteStore.open(filled / "roundsman.db")
    done(store.register({"doors": "parakey.event_logs"}, {}, {"doors": "http://127.0.0.1:1"}))
    early = roundsman("rewind", "doors", "--accept")
    assert early.code == 1
    assert "first `roundsman reload`, or start the daemon" in early.err
    done(store.register({"doors": "parakey.event_logs"}, {}, {"doors": "http://127.0.0.2:1"}))
    assert roundsman("rewind", "doors", "--accept").code == 0
    done(store.close())


class Endless(Source):
    """Says that there is more, for ever, or that its vendor asks for a pause."""

    type: Literal["endless"] = "endless"
    base_url: str = "http://127.0.0.1:1"
    rests: bool = False

    async def poll(self, http: Http, state: State) -> Poll:
        http.wait = 900.0 if self.rests else 0.0
        return Poll({"n": state.get("n", 0) + 1} if self.rests else state, more=True)


@pytest.mark.parametrize("rests", [False, True])
def test_a_dry_visit_ends(rests: bool, roundsman: Any, filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    point = SimpleNamespace(name="endless", group="roundsman.sources", load=lambda: Endless)
    monkeypatch.setattr(
        registry, "entry_points", lambda group: [point] if group == "roundsman.sources" else []
    )
    (filled / "roundsman.toml").write_text(
        f'[sources.doors]\ntype = "endless"\nrests = {str(rests).lower()}\n'
    )
    result = roundsman("poll", "doors")
    assert result.code == 0
    assert result.err.startswith("doors: the vendor asks to wait for 15m" if rests else "doors: nothing new")


def test_a_trace_shows_each_request_and_no_secret(roundsman: Any, filled: Path) -> None:
    async def serve() -> Result:
        async with raw_server(lambda _: answer(b"[]")) as server:
            text = CONFIG.replace("http://127.0.0.1:1", server.url).replace('"s3cret"', '"s3cret-of-ours"')
            text = text.replace("[sinks", 'domain_id = "s3cret-of-ours"\n\n[sinks', 1)
            (filled / "roundsman.toml").write_text(text)
            (filled / "roundsman.toml").chmod(0o600)
            return await asyncio.to_thread(in_a_process, filled, "poll", "doors", "--trace")

    result = asyncio.run(serve())
    lines = result.err.splitlines()
    assert lines[0].startswith("GET http://127.0.0.1:")
    assert "/eventLogs?" in lines[0]
    assert lines[1].startswith("  200, 2 bytes, ")
    assert "domainId=***" in lines[0]
    assert "s3cret" not in result.out + result.err


def test_a_trace_shows_what_a_table_found_in_each_answer(filled: Path) -> None:
    vendor = Okta(quirks=OktaQuirks(cap=5))
    keys = [vendor.add(failed=number == 0) for number in range(7)]
    text = f"""[sources.okta]
type = "http.json"
base_url = "URL"
path = "/api/v1/logs"
start = "beginning"
auth = {{ value = "SSWS {OKTA_TOKEN}" }}
rows = {{ id = "uuid", time = "published" }}
pages = {{ next = "link" }}
since = {{ next = true }}
[sinks.out]
type = "stdout"
"""

    async def serve() -> Result:
        async with Sandbox(vendor) as box:
            (filled / "roundsman.toml").write_text(text.replace("URL", box.url))
            (filled / "roundsman.toml").chmod(0o600)
            return await asyncio.to_thread(in_a_process, filled, "poll", "okta", "--trace")

    result = asyncio.run(serve())
    lines = result.err.splitlines()
    assert f"  rows: 5, from {keys[0]} of 20" in result.err
    assert "  rows: 0, 0 to report" in lines
    assert [line for line in lines if line.startswith("  pages: the next one is at http://127.0.0.1:")]
    assert lines[-1].startswith("  since: the next visit begins at http://127.0.0.1:")
    assert OKTA_TOKEN not in result.out + result.err
    assert len(result.out.splitlines()) == 7


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_printed_and_can_be_checked(
    name: str, roundsman: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("GITHUB_TOKEN", "OKTA_SSWS", "ZENDESK_TOKEN"):
        monkeypatch.setenv(variable, "0123456789abcdef")
    printed = roundsman("init", "--example", name)
    assert printed.code == 0
    assert printed.err == (
        'this is a source; the file also needs a sink, for example [sinks.console] with type = "stdout"\n'
    )
    path = tmp_path / "printed.toml"
    path.write_text(f'{printed.out}\n[sinks.out]\ntype = "stdout"\n')
    checked = roundsman("check", "-c", str(path))
    assert (checked.code, checked.err) == (0, "")


@pytest.mark.parametrize("command", [["poll", "doors"], ["check", "--live"]])
def test_no_command_shows_a_secret_that_a_server_repeats(
    command: list[str], roundsman: Any, filled: Path
) -> None:
    body = b'{"message": "unknown token s3cret-of-ours in /x"}'

    async def serve() -> Result:
        async with raw_server(lambda _: answer(body, 400)) as server:
            text = CONFIG.replace("http://127.0.0.1:1", server.url).replace('"s3cret"', '"s3cret-of-ours"')
            (filled / "roundsman.toml").write_text(text)
            (filled / "roundsman.toml").chmod(0o600)
            return await asyncio.to_thread(in_a_process, filled, *command)

    result = asyncio.run(serve())
    assert "answered 400" in result.err
    assert "s3cret" not in result.out + result.err


def in_a_process(folder: Path, *command: str, **environ: str) -> Result:
    """The command in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "roundsman", *command],
        cwd=folder,
        env={**os.environ, "HOME": str(folder), **environ},
        capture_output=True,
        check=False,
    )
    return Result(
        done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")
    )


@pytest.mark.parametrize(
    "environ",
    [
        {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "latin-1"},
    ],
)
def test_a_terminal_that_cannot_show_a_name_gets_a_question_mark(
    environ: dict[str, str], filled: Path
) -> None:
    store = SqliteStore.open(filled / "roundsman.db")
    event = an_event(9, user={"id": None, "name": "\u017dofie \u674e\u96f7", "email": None})
    commit(store, "doors", {}, [event])
    done(store.close())
    shown = in_a_process(filled, "events", "-n", "1", **environ)
    assert (shown.code, shown.err) == (0, "")
    assert "?ofie" in shown.out
    whole = in_a_process(filled, "events", "-n", "1", "--json", **environ)
    assert json.loads(whole.out)["data"]["user"]["name"] == "\u017dofie \u674e\u96f7", "JSON is UTF-8"


@pytest.mark.garbles
def test_an_event_that_a_damaged_store_garbled_is_said_and_the_others_are_shown(
    roundsman: Any, filled: Path
) -> None:
    with closing(sqlite3.connect(filled / "roundsman.db")) as db:
        db.execute("UPDATE events SET body = CAST(x'7b22737065ff00' AS BLOB) WHERE seq = 2")
        db.commit()
    for more in ([], ["--json"]):
        result = roundsman("events", *more)
        assert result.code == 0
        assert len(result.out.splitlines()) == 2
        assert result.err == "#2: cannot be read: the store is damaged\n"


def test_a_traceback_shows_no_secret(filled: Path) -> None:
    code = (
        "from roundsman import cli\n"
        "from roundsman.options.secrets import Secret\n"
        "Secret.read('s3cret-of-ours')\n"
        "cli.app = lambda **_: 1 / int('s3cret-of-ours')\n"
        "cli.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=filled, check=False)
    assert b"ValueError" in done.stderr
    assert b"literal for int() with base 10: '***'" in done.stderr


REPORT = """
import atexit, sys
from pathlib import Path
atexit.register(lambda: Path("modules").write_text(" ".join(sys.modules)))
from roundsman.cli import main
for line in sys.argv[1:]:
    sys.argv = ["roundsman", *line.split()]
    try:
        main()
    except SystemExit as exc:
        assert not exc.code, line
"""
"""The commands; the names of the modules that they imported are then in the file `modules`."""

INTERRUPTED = """
import os, signal, sys


class Terminal:
    def find_spec(self, name, *_):
        if name == os.environ["WHILE"]:
            os.kill(os.getpid(), int(os.environ.get("SENT", signal.SIGINT)))


sys.meta_path.insert(0, Terminal())
from roundsman.__main__ import main
main()
"""
"""The command; Ctrl-C, or the signal SENT, comes while it imports the module WHILE."""


@pytest.mark.parametrize(
    "module", ["typer", "typer.core", "roundsman.cli.status", "pydantic", "httpx", "roundsman.http.client"]
)
def test_ctrl_c_while_a_command_starts_prints_nothing(module: str, filled: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, "check"],
        cwd=filled,
        env={**os.environ, "WHILE": module},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


@pytest.mark.parametrize(("command", "status"), [("run", 0), ("check", -signal.SIGHUP)])
def test_a_request_to_reload_does_not_end_a_daemon_that_still_starts(
    command: str, status: int, filled: Path
) -> None:
    """Other commands end when their terminal is closed."""
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, command, "--help"],
        cwd=filled,
        env={**os.environ, "WHILE": "typer", "SENT": str(int(signal.SIGHUP))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (status, "")


def test_a_command_whose_parent_ignores_ctrl_c_ignores_it(filled: Path) -> None:
    """As in the background of a script."""
    done = subprocess.run(
        ["sh", "-c", f"trap '' INT; exec {shlex.quote(sys.executable)} -c \"$0\" --version", INTERRUPTED],
        cwd=filled,
        env={**os.environ, "WHILE": "typer"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("roundsman ")


SLOW = {
    *(
        "aiohttp",
        "apscheduler",
        "h11",
        "httpx",
        "prometheus_client",
        "pygments",
        "rich",
        "sqlite_utils",
        "starlette",
    ),
    *("structlog", "tenacity", "uvicorn", "uvloop", "roundsman.http.transport", "roundsman.engine.engine"),
}
"""What only the daemon needs, what requests need, and what a terminal needs."""


def imported_by(folder: Path, *commands: str) -> set[str]:
    """The modules that commands import whose output is no terminal: one process runs all of them."""
    env = {name: value for name, value in os.environ.items() if name not in {"FORCE_COLOR", "TTY_COMPATIBLE"}}
    process = subprocess.run(
        [sys.executable, "-c", REPORT, *commands],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return set((folder / "modules").read_text().split())


def test_a_command_that_reads_imports_nothing_of_the_daemon(filled: Path) -> None:
    commands = ("--version", "--help", "events", "events --json", "failures", "failures --json")
    imported = imported_by(filled, *commands, "failures log", "unread doors", "dead list archive")
    assert imported & {*SLOW, "roundsman.plugin", "roundsman.config.loading"} == set()


def test_help_and_version_read_no_options(filled: Path) -> None:
    """pydantic is imported where options are read; completions start without it, too."""
    assert "pydantic" not in imported_by(filled, "--version", "--help")


def test_status_imports_no_http_with_any_sources(filled: Path) -> None:
    """It asks the class of each source what it follows, and nothing of it makes requests."""
    store = SqliteStore.open(filled / "roundsman.db")
    done(store.register({kind: kind for kind in SOURCES}, {"archive": "file"}))
    done(store.close())
    imported = imported_by(filled, "status", "status --json")
    assert {place.partition(":")[0] for place in SOURCES.values()} <= imported
    assert imported & SLOW == set()


def test_a_command_with_http_imports_no_terminal_library(filled: Path) -> None:
    """httpx and structlog would, and it would be part of the daemon's memory."""
    imported = imported_by(filled, "check")
    assert imported >= {"aiohttp", "httpx", "structlog"}
    assert imported & {"rich", "pygments"} == set()


def test_what_waits_is_counted_by_the_sinks_filter_without_its_secrets(roundsman: Any, filled: Path) -> None:
    """The service has them, and who asks for the status has not."""
    (filled / "roundsman.toml").write_text(
        CONFIG.replace('"s3cret"', '{ credential = "only-the-services" }')
        + 'outcomes = ["den*"]\n[sinks.all]\ntype = "file"\npath = "all.jsonl"\ntypes = "not-a-list"\n'
    )
    found = json.loads(roundsman("status", "--json").out)
    assert [sink["waiting"] for sink in found["sinks"]] == [1]


def test_a_value_with_quotes_in_a_line_of_status_can_be_split_by_a_shell() -> None:
    text = 'no mail to "127.0.0.1": C:\\mail'
    assert shlex.split(f"error={plain(text)} dead=0") == [f"error={text}", "dead=0"]
