"""`check`: a file by its name, JSON for programs, and what a configuration would do."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from plugins import install
from typed import Program, Result, typed

ALL = """
[daemon]
store = "roundsman.db"
[sources.front-doors]
type = "parakey.event_logs"
base_url = "http://127.0.0.1:1"
access_token = "s3cret-token"
[sources.newsletter]
type = "mailchimp.batches"
api_key = "0123456789abcdef-us6"
[sources.ledger]
type = "railz.pushes"
client_id = "ID_1"
secret_key = "ID_a-long-secret"
connections = ["CON-1", "CON-2"]
deletes = true
[sources.github]
type = "http.json"
base_url = "http://127.0.0.1:1"
interval = "30s"
rows = { id = "id" }
event = { type = "com.github.{type}" }
[sinks.archive]
type = "file"
path = "events.jsonl"
[sinks.crm]
type = "http"
url = "https://crm.example.org/events"
types = ["com.github.PushEvent", "com.mailchimp.*"]
outcomes = ["failed"]
"""


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> Program:
    """`roundsman check`, in a folder with the configuration above under another name."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "other.toml").write_text(ALL)
    return partial(typed(tmp_path, monkeypatch, capfd), "check")


def found(done: Result) -> dict[str, Any]:
    """What `--json` printed: nothing else is on standard error."""
    assert done.err == ""
    document: dict[str, Any] = json.loads(done.out)
    return document


def test_a_file_is_checked_by_its_name(check: Program) -> None:
    done = check("other.toml")
    assert done.code == 0
    assert done.out.startswith("other.toml: no mistakes; 4 sources, 2 sinks, store ")
    both = check("other.toml", "-c", "another.toml")
    assert (both.code, both.out) == (2, "")
    assert both.err == "other.toml, another.toml: name one file, either alone or behind -c\n"


def test_json_has_each_mistake_with_its_place(check: Program, tmp_path: Path) -> None:
    wrong = ALL.replace("interval = ", "intervall = ").replace('path = "events.jsonl"', "")
    (tmp_path / "other.toml").write_text(wrong)
    done = check("other.toml", "--json")
    assert done.code == 2
    document = found(done)
    assert (document["file"], document["valid"], document["warnings"]) == ("other.toml", False, [])
    lines = wrong.splitlines()
    assert document["problems"] == [
        {
            "file": "other.toml",
            "line": lines.index('intervall = "30s"') + 1,
            "column": None,
            "place": "sources.github.intervall",
            "message": "unknown option; did you mean interval?",
        },
        {
            "file": "other.toml",
            "line": lines.index("[sinks.archive]") + 1,
            "column": None,
            "place": "sinks.archive.path",
            "message": "is missing",
        },
    ]


def test_json_has_a_mistake_without_a_place(check: Program, tmp_path: Path) -> None:
    (tmp_path / "other.toml").write_text("[sources\n")
    for name, message in (("other.toml", ""), ("absent.toml", "cannot be read: No such file")):
        done = check(name, "--json")
        assert done.code == 2
        [problem] = found(done)["problems"]
        assert (problem["file"], problem["place"]) == (name, None)
        assert problem["message"].startswith(message)


def test_json_has_the_warnings_and_what_is_configured(check: Program) -> None:
    done = check("other.toml", "--json")
    assert done.code == 0
    assert "s3cret" not in done.out
    document = found(done)
    assert document["valid"]
    assert {each["place"] for each in document["warnings"]} >= {"sources.front-doors", "sources.newsletter"}
    sources = {each["name"]: each for each in document["sources"]}
    assert sources["ledger"]["requests_a_day"] == pytest.approx(4 * 1440 + 86400 / 3300, abs=0.1)
    assert sources["github"]["requests_a_day"] == 2880
    assert sources["newsletter"]["event_types"] == [
        "com.mailchimp.batch.completed",
        "com.mailchimp.batch.operation_failed",
    ]
    [archive, crm] = document["sinks"]
    assert archive["place"].endswith("/events.jsonl")
    assert crm["gets"] == [
        {"source": "newsletter", "type": "com.mailchimp.batch.completed", "outcomes": ["failed"]},
        {"source": "newsletter", "type": "com.mailchimp.batch.operation_failed", "outcomes": None},
        {"source": "github", "type": "com.github.*", "outcomes": ["failed"]},
    ]
    assert document["live"] is None


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgresql://rm:s3cret-pw@h/db?sslmodee=require", 'invalid URI query parameter: "sslmodee"'),
        ("postgresql://rm:s3cret-pw@h/db?sslmode=", "sslmode is empty: write one of disable,"),
        ("postgresql://rm:s3cret-pw@h/db?sslmode=verifyfull", "sslmode is verifyfull: write one of disable,"),
        (
            "postgresql://rm:s3cret-pw@h/db?target_session_attrs=primery",
            "target_session_attrs is primery: write one of any,",
        ),
        ("postgresql://rm:s3cret-pw@h:54x/db", "the port is 54x: write a number from 1 to 65535"),
        ("postgresql://rm:s3cret-pw%zz@h/db", "is refused by libpq: "),
        ("postgresql://rm:s3cret-pw@h:5432,k:5433/db?sslmode=verify-full", ""),
    ],
)
def test_a_url_that_libpq_refuses_is_a_mistake_with_its_line_and_without_the_password(
    check: Program, tmp_path: Path, url: str, words: str
) -> None:
    pytest.importorskip("psycopg", reason="needs roundsman[postgres]")
    text = ALL.replace('"roundsman.db"', f'"{url}"').replace('jsonl"', 'jsonl"\non = "one"')
    (tmp_path / "other.toml").write_text(text.replace('"s3cret-token"', '{ env = "HOME" }'))
    (tmp_path / "other.toml").chmod(0o600)
    done = check("other.toml")
    if words:
        assert done.code == 2
        assert "other.toml:3:" in done.err
        assert "daemon.store: " in done.err
    else:
        assert done.code == 0, done.err
    assert words in done.err
    assert "s3cret-pw" not in done.out + done.err


def test_json_has_what_live_found(check: Program) -> None:
    done = check("other.toml", "--json", "--live")
    assert done.code == 1
    live = {each["place"]: each for each in found(done)["live"]}
    assert not live["sources.front-doors"]["ok"]
    assert "the connection was refused" in live["sources.front-doors"]["message"]
    assert live["sinks.archive"] == {"place": "sinks.archive", "message": "opens", "ok": True}


def test_explain_fits_a_terminal_and_names_what_each_sink_gets(check: Program) -> None:
    done = check("other.toml", "--explain")
    assert done.code == 0
    lines = done.out.splitlines()
    assert max(map(len, lines[1:])) <= 80
    assert "  github           2,880  every 30s, 1 request a visit" in lines
    assert "sinks.crm (http) gets:" in lines
    assert "  github      com.github.*, only failed" in lines
    assert "  daemon       all 13 notices of the daemon: roundsman.*" in lines
    assert "No sink sends messages to people" in done.out


def test_explain_says_what_people_get_no_message_about(check: Program, tmp_path: Path) -> None:
    notify = '[sinks.oncall]\ntype = "notify"\nurls = ["json://localhost"]\nsources = ["ledger"]\n'
    (tmp_path / "other.toml").write_text(ALL + notify)
    last = check("other.toml", "--explain").out.rpartition("\n\n")[2]
    assert " ".join(last.split()) == (
        "Messages to people: 1 sink, oncall. No message comes about events of front-doors, newsletter, github. "
        "No message comes when a source or a sink fails: `sources` leaves out daemon."
    )


def test_a_source_of_a_plugin_has_unknown_types(check: Program, tmp_path: Path, monkeypatch: Any) -> None:
    install(tmp_path, "acme-unknown", sources={"acme.orders": "acme_unknown:Orders"})
    (tmp_path / "acme_unknown.py").write_text(
        "from roundsman import Source\n"
        "class Orders(Source):\n"
        "    base_url: str = 'http://127.0.0.1:1'\n"
        "    async def poll(self, visit, state): ...\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "other.toml").write_text(
        '[sources.orders]\ntype = "acme.orders"\n[sinks.console]\ntype = "stdout"\n'
    )
    done = check("other.toml", "--explain")
    assert "  orders  all types, which are unknown here" in done.out.splitlines()


def test_a_plugin_that_fails_at_its_own_warnings_hides_no_others(
    check: Program, tmp_path: Path, monkeypatch: Any
) -> None:
    install(tmp_path, "acme-unsure", sources={"acme.unsure": "acme_unsure:Orders"})
    (tmp_path / "acme_unsure.py").write_text(
        "from roundsman import Source\n"
        "class Orders(Source):\n"
        "    base_url: str = 'http://127.0.0.1:1'\n"
        "    async def poll(self, visit, state): ...\n"
        "    def warnings(self): raise RuntimeError('unsure')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    orders = '[sources.orders]\ntype = "acme.unsure"\n'
    (tmp_path / "other.toml").write_text(ALL.replace("[sinks.archive]", f"{orders}[sinks.archive]"))
    done = check("other.toml")
    assert done.code == 0
    assert "sources.orders: its warnings cannot be read: unsure" in done.err
    assert "sources.front-doors: a secret is in the file" in done.err


def test_a_type_that_a_template_makes_is_no_mistake_of_a_filter(check: Program, tmp_path: Path) -> None:
    assert "matches nothing" not in check("other.toml").err
    (tmp_path / "other.toml").write_text(ALL.replace("com.github.PushEvent", "com.gitlab.PushEvent"))
    assert "sinks.crm.types: com.gitlab.PushEvent matches nothing" in check("other.toml").err


def test_a_filter_that_matches_nothing_is_shown_with_its_line_and_the_nearest_name(
    check: Program, tmp_path: Path
) -> None:
    """Also in an included file; and an example of a glob matches something."""
    (tmp_path / "other.toml").write_text(f'include = ["more.toml"]\n{ALL}')
    sink = '[sinks.more]\ntype = "file"\npath = "more.jsonl"\ntypes = ["batch.complted", "{0}"]\n'
    (tmp_path / "more.toml").write_text(sink.format("zzz"))
    (tmp_path / "more.toml").chmod(0o644)
    said = check("other.toml").err
    where = "more.toml:4: warning: sinks.more.types"
    assert f"{where}: batch.complted matches nothing; did you mean *.batch.completed?\n" in said
    [(line, glob)] = re.findall(r"(.*: zzz matches nothing); .* a glob such as (.*)", said)
    assert line == f"{where}: zzz matches nothing"
    (tmp_path / "more.toml").write_text(sink.format(glob))
    assert f"{glob} matches nothing" not in check("other.toml").err


def test_a_retention_of_days_without_their_unit_is_a_warning(check: Program, tmp_path: Path) -> None:
    path = tmp_path / "other.toml"
    path.write_text(ALL.replace("[daemon]", "[daemon]\nretention = 35", 1))
    words = "payloads of events, also of open failures, are pruned after 35s"
    assert (
        f'other.toml:3: warning: daemon.retention: {words}; write "35d" for days' in check("other.toml").err
    )
    path.write_text(ALL.replace("[daemon]", '[daemon]\nretention = "1h"', 1))
    assert "retention" not in check("other.toml").err


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("roundsman.db", "/usr", "daemon.store: /usr is a folder and not a file"),
        (
            "https://crm.example.org/events",
            "http://127.0.0.1:99999/",
            "sinks.crm.url: has the port 99999; write a number from 1 to 65535",
        ),
    ],
)
def test_what_no_daemon_can_open_is_a_mistake(
    before: str, after: str, said: str, check: Program, tmp_path: Path
) -> None:
    (tmp_path / "wrong.toml").write_text(ALL.replace(before, after))
    done = check("wrong.toml")
    assert done.code == 2
    assert said in done.err


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["check", "--live"], ["no mistakes"]),
        (["poll", "keys", "--trace", "--since", "1h"], ["GET http://", "  given up, "]),
    ],
)
def test_ctrl_c_while_a_vendor_does_not_answer_says_nothing_of_libraries(
    command: list[str], words: list[str], tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        (tmp_path / "a.toml").write_text(
            '[sources.keys]\ntype = "parakey.event_logs"\naccess_token = "a-long-token"\n'
            f'base_url = "http://127.0.0.1:{silent.getsockname()[1]}"\n[sinks.out]\ntype = "stdout"\n'
        )
        environ = {**os.environ, "HOME": str(tmp_path), "NO_COLOR": "1"}
        program = [sys.executable, "-m", "roundsman", *command, "-c", "a.toml"]
        with subprocess.Popen(
            program, cwd=tmp_path, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            asked, _ = silent.accept()
            asked.recv(1)  # the request is under way
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
            asked.close()
    assert process.returncode == 130
    for each in words:
        assert each in out + err
    assert not re.search("CancelledError|Unclosed|Traceback", out + err)
