"""`roundsman pause` and `resume` as a person types them, beside a real daemon and without one."""

import json
import os
import pwd
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import typed
from inside import done, seen
from machine import awaited
from roundsman.sandbox import Parakey, Sandbox
from roundsman.store.sqlite.reader import Reader
from roundsman.store.sqlite.store import SqliteStore

CONFIG = """
[daemon]
store = "roundsman.db"
[sources.doors]
type = "parakey.event_logs"
base_url = "{url}"
access_token = "sandbox-access-token"
interval = "1s"
[sinks.archive]
type = "file"
path = "events.jsonl"
"""


class Program:
    """The program in a folder: in the process of the tests, or in one of its own."""

    def __init__(self, folder: Path, here: typed.Program) -> None:
        self.folder = folder
        self._here = here
        self.environ = {
            **{key: value for key, value in os.environ.items() if key != "ROUNDSMAN_CONFIG"},
            "HOME": str(folder),
        }

    def __call__(self, *words: str) -> "subprocess.CompletedProcess[str]":
        result = self._here(*words, "-c", "roundsman.toml")
        return subprocess.CompletedProcess(words, result.code, result.out, result.err)

    def apart(self, *words: str, **environ: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            self._line(*words),
            cwd=self.folder,
            env=self.environ | environ,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def _line(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "roundsman", *words, "-c", "roundsman.toml"]

    @contextmanager
    def running(self) -> Iterator["subprocess.Popen[str]"]:
        """A daemon."""
        with (self.folder / "log").open("a") as log:
            process = subprocess.Popen(
                self._line("run"), cwd=self.folder, env=self.environ, stderr=log, text=True
            )
            try:
                awaited(lambda: self.logged("daemon.started") or process.poll() is not None)
                yield process
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(20)

    def logged(self, name: str) -> bool:
        return name in (self.folder / "log").read_text()

    def state(self, name: str) -> dict[str, Any]:
        """A source or a sink in `status --json`."""
        found = json.loads(self("status", "--json").stdout)
        return next(row for row in [*found["sources"], *found["sinks"]] if row["name"] == name)


@pytest.fixture
def program(tmp_path: Path, roundsman: typed.Program) -> Program:
    """A configuration whose names a daemon has loaded once; none runs."""
    (tmp_path / "roundsman.toml").write_text(CONFIG.format(url="http://127.0.0.1:1"))
    store = SqliteStore.open(tmp_path / "roundsman.db")
    done(store.register({"doors": "parakey.event_logs", "gone": "parakey.event_logs"}, {"archive": "file"}))
    done(store.close())
    return Program(tmp_path, roundsman)


def test_a_pause_names_who_and_how_to_end_it_and_status_shows_it(program: Program) -> None:
    result = program("pause", "doors", "--by", "anna")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == "doors: paused by anna; to end it: roundsman resume doors\n"
    row = program.state("doors")
    assert (row["state"], row["paused_by"], row["due"]) == ("paused", "anna", None)
    assert row["paused"].endswith("Z")
    shown = program.apart("status", "--utc", FORCE_COLOR="1", COLUMNS="200").stdout
    assert f"doors: paused by anna since {row['paused'][11:]}: roundsman resume doors" in shown
    line = next(each for each in program("status").stdout.splitlines() if each.startswith("source doors"))
    assert "state=paused" in line
    assert f"paused={row['paused']} paused_by=anna" in line


def test_pausing_twice_and_resuming_what_is_not_paused_are_sentences_and_no_failures(
    program: Program,
) -> None:
    program("pause", "archive", "--by", "anna")
    again = program("pause", "archive", "--by", "bob")
    assert again.returncode == 0
    assert again.stdout.startswith("archive: is paused already, by anna since ")
    assert program("resume", "archive").stdout.startswith("archive: resumed; it was paused by anna since ")
    result = program("resume", "archive")
    assert (result.returncode, result.stdout) == (0, "archive: is not paused\n")
    assert program.state("archive")["state"] == "ok"


def test_a_pause_is_said_in_the_local_time_of_a_terminal_or_in_utc(program: Program) -> None:
    program("pause", "doors", "--by", "anna")
    at = datetime.fromisoformat(program.state("doors")["paused"])
    there = {"FORCE_COLOR": "1", "TZ": "XYZ-5:30"}
    local, utc = (at + timedelta(hours=5, minutes=30)).strftime("%H:%M:%S"), at.strftime("%H:%M:%SZ")
    assert program.apart("pause", "doors", **there).stdout.endswith(f" {local}\n")
    assert program.apart("pause", "doors", "--utc", **there).stdout.endswith(f" {utc}\n")
    assert program.apart("pause", "doors", TZ="XYZ-5:30").stdout.endswith(f" {at:%Y-%m-%dT%H:%M:%SZ}\n")
    assert program.apart("resume", "doors", **there).stdout.endswith(f" {local}\n")


def test_a_name_of_a_source_and_a_sink_needs_an_option(program: Program, tmp_path: Path) -> None:
    text = (tmp_path / "roundsman.toml").read_text()
    (tmp_path / "roundsman.toml").write_text(text.replace("[sinks.archive]", "[sinks.doors]"))
    store = SqliteStore.open(tmp_path / "roundsman.db")
    done(store.register({}, {"doors": "file"}))
    done(store.close())
    for command in ("pause", "resume"):
        result = program(command, "doors")
        assert (result.returncode, result.stdout) == (2, "")
        assert result.stderr == "doors: is a source and a sink; add --source or --sink\n"
        assert program(command, "doors", "--source", "--sink").returncode == 2
    result = program("pause", "doors", "--sink")
    assert result.stdout.endswith("to end it: roundsman resume doors --sink\n")
    view = Reader.open(tmp_path / "roundsman.db")
    assert [(pause.kind, pause.name) for pause in seen(view.pauses())] == [("sink", "doors")]
    done(view.close())
    shown = program.apart("status", "--utc", FORCE_COLOR="1", COLUMNS="200").stdout
    assert "roundsman resume doors --sink" in shown


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["attic"], 2, "attic: no such source or sink; `roundsman status` lists them"),
        (["gone"], 2, "gone: no such source or sink; `roundsman status` lists them"),
        (["doors", "--sink"], 2, "doors: no such sink; `roundsman status` lists them"),
        (["doors", "--by", " "], 2, '--by: is empty; it should be a name, as in --by "anna"'),
    ],
)
def test_a_wrong_name_pauses_nothing(program: Program, words: list[str], code: int, sentence: str) -> None:
    result = program("pause", *words)
    assert (result.returncode, result.stdout, result.stderr) == (code, "", f"{sentence}\n")
    assert program.state("doors")["paused"] is None


def test_what_no_daemon_has_loaded_yet_cannot_be_paused(program: Program, tmp_path: Path) -> None:
    with (tmp_path / "roundsman.toml").open("a") as file:
        file.write('[sinks.new]\ntype = "stdout"\n')
    result = program("pause", "new")
    assert result.returncode == 1
    assert result.stderr == (
        "new: no daemon has loaded this sink yet: first `roundsman reload`, or start the daemon\n"
    )


def test_a_pause_outlasts_the_name_in_the_configuration_and_can_be_ended_meanwhile(
    program: Program, tmp_path: Path
) -> None:
    program("pause", "doors", "--by", "anna")
    text = (tmp_path / "roundsman.toml").read_text()
    (tmp_path / "roundsman.toml").write_text(text.replace("[sources.doors]", "[sources.other]"))
    assert program.state("doors")["state"] == "retired"
    assert program.state("doors")["paused_by"] == "anna"
    assert program("resume", "doors").stdout.startswith("doors: resumed")


def test_the_person_is_the_login_name_or_who_called_sudo(program: Program) -> None:
    login = pwd.getpwuid(os.getuid()).pw_name
    program.apart("pause", "doors", SUDO_USER="")
    assert program.state("doors")["paused_by"] == login
    program("resume", "doors")
    program.apart("pause", "doors", SUDO_USER="anna")
    assert program.state("doors")["paused_by"] == ("anna" if os.getuid() == 0 else login)


async def test_a_running_daemon_follows_soon_and_continues(program: Program, tmp_path: Path) -> None:
    import asyncio

    parakey = Parakey()
    async with Sandbox(parakey) as box:
        (tmp_path / "roundsman.toml").write_text(CONFIG.format(url=box.url))
        await asyncio.to_thread(_follow, program, parakey)


def _follow(program: Program, parakey: Parakey) -> None:
    with program.running():
        awaited(lambda: parakey.asked >= 1)
        program.apart("pause", "doors", "--by", "anna")
        awaited(lambda: program.logged("source.paused"), 10)
        asked = parakey.asked
        assert program.apart("once").returncode == 1, (
            "the daemon runs, and the pause changes nothing about that"
        )
        program.apart("pause", "archive", "--by", "anna")
        awaited(lambda: program.logged("sink.paused"), 10)
        assert parakey.asked == asked
        program.apart("resume", "doors")
        awaited(lambda: parakey.asked > asked, 10)
    program.apart("pause", "doors", "--by", "anna")
    (program.folder / "log").write_text("")
    with program.running():
        asked = parakey.asked
        awaited(lambda: program.logged("source.paused"))
        assert program.apart("poll", "doors").returncode == 0, "a person may ask"
        assert parakey.asked == asked + 1
