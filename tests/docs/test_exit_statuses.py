"""The exit statuses of the documentation are those of the code and of the program."""

import ast
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from inside import done
from roundsman.cli.statuses import STATUSES
from roundsman.store.sqlite.store import SqliteStore

SRC = Path(__file__).parents[2] / "src" / "roundsman"
CONFIGURATION = """
[daemon]
store = "roundsman.db"
[sources.doors]
type = "parakey.event_logs"
access_token = "0123456789abcdef"
base_url = "http://127.0.0.1:1"
[sinks.file]
type = "file"
path = "events.jsonl"
"""


def start(*words: str, folder: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "roundsman", *words],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "HOME": str(folder), "ROUNDSMAN_CONFIG": "roundsman.toml"},
    )


def status(*words: str, folder: Path) -> int:
    process = start(*words, folder=folder)
    process.communicate()
    return process.returncode


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "roundsman.toml").write_text(CONFIGURATION)
    return tmp_path


def test_each_status_of_the_code_is_in_the_catalog() -> None:
    found = set()
    for path in (*(SRC / "cli").glob("*.py"), SRC / "service" / "service.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Return(value=ast.Constant(value=int(number))) if number in range(256):
                    found.add(number)
                case ast.Call(func=ast.Name(id="fail"), args=[_, ast.Constant(value=int(number))]):
                    found.add(number)
                case ast.Call(
                    func=ast.Attribute(attr="exit" | "Exit"), args=[ast.Constant(value=int(number))]
                ):
                    found.add(number)
    assert found == set(STATUSES)


@pytest.mark.parametrize(
    ("words", "expected"),
    [(("--help",), 0), (("poll", "doors"), 1), (("check", "-c", "nothing.toml"), 2)],
)
def test_a_process_ends_with_the_documented_status(
    words: tuple[str, ...], expected: int, folder: Path
) -> None:
    assert status(*words, folder=folder) == expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("check",), 0),
        ((), 2),
        (("nothing",), 2),
        (("dead",), 2),
        (("status", "--nothing"), 2),
        (("poll", "nothing"), 2),
        (("status",), 1),
        (("reload",), 1),
        (("init", "roundsman.toml"), 1),
        (("restore", "nothing.db"), 2),
        (("failures", "done"), 2),
        (("failures", "undo", "one"), 2),
    ],
)
def test_a_command_ends_with_the_documented_status(
    words: tuple[str, ...],
    expected: int,
    folder: Path,
    roundsman: Any,
) -> None:
    assert folder.is_dir()
    assert roundsman(*words).code == expected


def test_a_failure_that_is_not_there_is_a_failure(
    store: SqliteStore,
    folder: Path,
    roundsman: Any,
) -> None:
    assert folder.joinpath("roundsman.db").exists()
    done(store.close())
    assert roundsman("failures", "done", "1").code == 1
    assert roundsman("failures", "undo", "1").code == 1
    assert roundsman("failures", "done", "1-2").code == 0
    assert roundsman("failures", "log", "1").code == 0


def test_once_fails_if_a_visit_fails(folder: Path) -> None:
    assert status("once", "--now", folder=folder) == 1


@pytest.mark.parametrize(
    ("number", "expected"), [(signal.SIGINT, 130), (signal.SIGTERM, -15), (signal.SIGHUP, -1)]
)
def test_a_signal_ends_a_command_that_goes_on(
    number: signal.Signals, expected: int, store: SqliteStore, folder: Path
) -> None:
    done(store.close())
    process = start("status", "--watch", "--json", folder=folder)
    assert process.stdout
    assert process.stdout.readline().startswith("{")
    process.send_signal(number)
    process.communicate()
    assert process.returncode == expected


def test_a_reader_that_has_ended_is_a_failure(folder: Path) -> None:
    process = start("schema", "config", folder=folder)
    assert process.stdout
    process.stdout.close()
    assert process.stderr
    process.stderr.read()
    assert process.wait() == 1
    process.stderr.close()
