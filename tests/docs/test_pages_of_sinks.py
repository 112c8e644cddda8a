"""The pages of sinks: options, refused statuses, and the check of a signature, as the code has them."""

import gzip
import os
import re
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import need
from roundsman import Event
from roundsman.http.answers import REJECTED
from roundsman.sinks.exec import ExecSink
from roundsman.sinks.file import FileSink
from roundsman.sinks.http import HttpSink
from roundsman.sinks.postgres import PostgresSink
from roundsman.sinks.stdout import StdoutSink
from roundsman.testing import Request, Web, deliver
from worlds import an_event

FOLDER = Path(__file__).parents[2] / "docs" / "sinks"
SECRET = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
EVER = 10**9
"""Seconds: a signature of any time counts."""
Check = Callable[..., bool]


def page(name: str) -> str:
    return (FOLDER / f"{name}.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("stdout", StdoutSink),
        ("file", FileSink),
        ("http", HttpSink),
        ("exec", ExecSink),
        ("postgres", PostgresSink),
    ],
)
def test_the_table_of_options_has_each_option_and_its_default(name: str, kind: Any) -> None:
    table = page(name).split("\n## Options\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`.+?`) \| (.*?) \|", table, re.MULTILINE)
    shown = {option: default for cell, default in rows for option in re.findall(r"`(\w+)`", cell)}
    assert set(shown) == set(kind.model_fields) - {"type"}
    for option, default in shown.items():
        if re.fullmatch(r"`\S+`", default):
            meant = default.strip('`"').replace("false", "False")
            assert str(kind.model_fields[option].default) == meant, option


def test_the_refused_statuses_are_those_of_the_code() -> None:
    [row] = re.findall(r"^\| (\d{3}, .*?) \| the receiver refuses this event", page("http"), re.MULTILINE)
    assert {int(status) for status in row.split(", ")} == REJECTED


@pytest.fixture
def is_authentic() -> Check:
    """The function that the page gives to receivers."""
    [code] = [
        block for block in re.findall(r"```python\n(.*?)```", page("http"), re.DOTALL) if "hmac" in block
    ]
    names: dict[str, Any] = {}
    exec(code, names)
    return names["is_authentic"]  # type: ignore[no-any-return] # what exec left there


@pytest.mark.parametrize("options", [{}, {"content": "binary"}, {"content": "batch"}, {"compress": True}])
def test_a_receiver_checks_a_signature_as_the_page_says(options: dict[str, Any], is_authentic: Check) -> None:
    requests: list[Request] = []

    def receiver(request: Request) -> int:
        requests.append(request)
        return 204

    data = {"raw": {"text": "x" * 2000}}
    events = [Event.of(vendor="acme", source="s", type="t", id=f"{n} ü", data=data) for n in range(3)]
    table = {"type": "http", "url": "http://127.0.0.1:1/", "signing_secret": SECRET, **options}
    deliver(HttpSink.model_validate(table).named("crm"), events, Web(receiver))
    assert requests
    for request in requests:
        packed = request.headers.get("content-encoding") == "gzip"
        assert packed == bool(options.get("compress"))
        body = gzip.decompress(request.body) if packed else request.body
        assert is_authentic(request.headers, body, SECRET, tolerance=EVER)
        assert not is_authentic(request.headers, body, SECRET), "it is not of now"
        assert not is_authentic(request.headers, body + b" ", SECRET, tolerance=EVER)
        assert not is_authentic({**request.headers, "webhook-id": "x"}, body, SECRET, tolerance=EVER)
        assert not is_authentic(request.headers, body, SECRET.replace("M", "N"), tolerance=EVER)


# -- exec --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def bell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ExecSink:
    """The program of the page, with a `logger` that writes into a file."""
    [code] = re.findall(r"```python\n(.*?)```", page("exec"), re.DOTALL)
    (tmp_path / "ring-bell").write_text(code)
    (tmp_path / "logger").write_text(
        f'#!/bin/sh\n[ ! -e {tmp_path}/broken ] && echo "$@" >> {tmp_path}/log\n'
    )
    for name in ("ring-bell", "logger"):
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    table = {"type": "exec", "command": [str(tmp_path / "ring-bell"), "--all"]}
    return ExecSink.model_validate(table).named("bell")


def test_the_program_of_the_page_takes_events_and_refuses_one(bell: ExecSink, tmp_path: Path) -> None:
    events = [an_event(n, outcome="denied") for n in range(3)]
    events.insert(1, Event.of(vendor="acme", source="doors", type="t", id="odd", data={"raw": {}}))
    found = deliver(bell, events)
    assert found.error is None
    assert found.buried == {"odd": "exit status 65: odd has no outcome"}
    lines = [f"--tag bell -- /parakey/doors id{n:05d} denied" for n in range(3)]
    assert (tmp_path / "log").read_text().splitlines() == lines, "each once"


def test_the_program_of_the_page_fails_with_what_it_calls(bell: ExecSink, tmp_path: Path) -> None:
    (tmp_path / "broken").touch()
    found = deliver(bell, [an_event(1)])
    assert (found.acked, found.buried) == ([], {})
    assert str(found.error).startswith("exit status 1: ")
    assert "returned non-zero exit status 1." in str(found.error)


def test_the_shell_line_of_the_page_gets_the_events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need(shutil.which("jq") is not None, "needs jq: apt-get install jq")
    [block] = [each for each in re.findall(r"```toml\n(.*?)```", page("exec"), re.DOTALL) if "mail" in each]
    (tmp_path / "mail").write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/sent; cat >> {tmp_path}/sent\n')
    (tmp_path / "mail").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    sink = ExecSink.model_validate(tomllib.loads(block)["sinks"]["mail"]).named("mail")
    assert list(sink.warnings()) == []
    assert len(deliver(sink, [an_event(n) for n in range(2)]).acked) == 2
    assert (tmp_path / "sent").read_text() == "-s events of Roundsman op@example.org\nid00000\nid00001\n"
