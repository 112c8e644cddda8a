"""`status --watch` on a real terminal: it waits for a store, fits the window, and leaves the terminal as it was."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Self

import pytest
from rich.cells import cell_len

from inside import commit, done
from roundsman.store.sqlite.store import SqliteStore
from roundsman.terminal.alternate import ENTER, LEAVE
from worlds import START

PATIENCE = 60.0
"""Seconds to wait for the program: the machine may have much else to do."""
CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
CONFIG = """
[daemon]
store = "roundsman.db"
[sinks.archive]
type = "file"
path = "events.jsonl"
"""
SOURCE = '[sources.{}]\ntype = "parakey.event_logs"\naccess_token = {{ env = "NOT_SET" }}\n'


class Window:
    """The command in a window of a terminal, as its foreground process."""

    def __init__(self, folder: Path, *args: str, lines: int = 24, columns: int = 80) -> None:
        self.keyboard, self.terminal = pty.openpty()
        self.resize(lines, columns)
        self.before = termios.tcgetattr(self.terminal)
        environ = {k: v for k, v in os.environ.items() if k not in {"COLUMNS", "LINES", "NO_COLOR"}}

        def in_front() -> None:
            os.setsid()
            fcntl.ioctl(self.terminal, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen(
            [sys.executable, "-m", "roundsman", *args],
            cwd=folder,
            env={**environ, "TERM": "xterm"},
            stdin=self.terminal,
            stdout=self.terminal,
            stderr=self.terminal,
            preexec_fn=in_front,  # noqa: PLW1509 - this process starts no threads meanwhile
        )
        self.shown = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.keyboard)
        os.close(self.terminal)

    def resize(self, lines: int, columns: int) -> None:
        fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def read(self, seconds: float) -> bool:
        """Take what was printed meanwhile. Returns whether there was something."""
        if not select.select([self.keyboard], [], [], seconds)[0]:
            return False
        self.shown += os.read(self.keyboard, 2**16).decode("utf-8", "replace")
        return True

    def until(self, text: str, after: int = 0) -> None:
        ends = time.monotonic() + PATIENCE
        while text not in " ".join(CODES.sub("", self.shown[after:]).split()):  # lines may be wrapped in it
            assert time.monotonic() < ends, self.shown[-3000:]
            self.read(0.2)

    def types(self, keys: bytes) -> None:
        os.write(self.keyboard, keys)

    def ends(self) -> int:
        """The exit status."""
        code = self.process.wait(PATIENCE)
        while self.read(0.0):
            pass
        return code


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    names = [f"doors-{number:02}" for number in range(40)]
    (tmp_path / "roundsman.toml").write_text(CONFIG + "".join(map(SOURCE.format, names)))
    return tmp_path


def fill(folder: Path) -> None:
    """What a daemon leaves behind: the last source fails."""
    store = SqliteStore.open(folder / "roundsman.db")
    names = [f"doors-{number:02}" for number in range(40)]
    done(store.register(dict.fromkeys(names, "parakey.event_logs"), {"archive": "file"}))
    commit(store, "doors-39", {}, [], failures=3, failing_since=START, error="the vendor\x1b[2J answers 500")
    done(store.close())


def test_it_waits_for_the_first_start_fits_the_window_and_leaves_the_terminal_as_it_was(folder: Path) -> None:
    with Window(folder, "status", "--watch", lines=14, columns=60) as window:
        window.until("waiting for the first start")
        assert window.shown.startswith(ENTER), "nothing is printed on the screen with the history"
        assert not termios.tcgetattr(window.terminal)[3] & termios.ECHO
        fill(folder)
        window.until("doors-39")
        window.until("Ctrl-C ends", after=len(window.shown))
        frames = [CODES.sub("", each).split("\r\n") for each in window.shown.split("\x1b[H")[1:-1]]
        assert max(map(len, frames)) <= 14
        assert [line for frame in frames for line in frame if cell_len(line) > 60] == []
        last = frames[-1]
        assert any(re.match(r"doors-39 +failing", line) for line in last), "the most urgent one is shown"
        assert any(re.search(r"and \d+ more sources: \d+ (new|idle)", line) for line in last)
        assert "\x1b[2J" not in window.shown
        window.resize(60, 100)
        window.until("doors-38", after=len(window.shown))
        window.types(b"\x03")
        assert window.ends() == 130
        assert window.shown.endswith(LEAVE)
        assert window.shown.count(LEAVE) == 1
        assert termios.tcgetattr(window.terminal) == window.before


def test_a_signal_that_ends_it_leaves_the_terminal_as_it_was_too(folder: Path) -> None:
    fill(folder)
    with Window(folder, "status", "--watch") as window:
        window.until("doors-39")
        window.process.send_signal(signal.SIGTERM)
        assert window.ends() == -signal.SIGTERM
        assert window.shown.endswith(LEAVE)
        assert termios.tcgetattr(window.terminal) == window.before


def test_a_store_that_cannot_be_read_is_said_and_tried_again(folder: Path) -> None:
    (folder / "roundsman.db").write_bytes(b"no store" * 1000)
    with Window(folder, "status", "--watch", columns=400) as window:
        window.until("it is tried again")
        (folder / "roundsman.db").unlink()
        fill(folder)
        window.until("doors-39")


def test_it_follows_a_configuration_that_changes(folder: Path) -> None:
    """A source that goes, a file that is half written, a store that moves. In a pipe, a store that is not there ends it."""
    fill(folder)
    config = folder / "roundsman.toml"
    text = config.read_text().replace("[sources.doors-39]", "[sources.annex]")
    command = [sys.executable, "-m", "roundsman", "status", "--watch"]
    pipe = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert pipe.stdout is not None
    assert pipe.stderr is not None
    with pipe, Window(folder, "status", "--watch", lines=60, columns=200) as window:
        window.until("doors-39 failing")
        config.write_text(text)
        window.until("doors-39 retired")
        assert any("doors-39" in line and "state=retired" in line for line in pipe.stdout)
        config.write_text("[daemon\n")
        window.until("doors-39 retired", after=len(window.shown))
        config.write_text(text.replace("roundsman.db", "moved.db"))
        window.until("waiting for the first start")
        assert list(pipe.stdout)
        assert "there is no store at" in pipe.stderr.read()
    assert pipe.returncode == 1
