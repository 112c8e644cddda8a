"""Sentences of commands on a terminal of 80 columns: no word is broken, also no path that is longer than a line."""

import asyncio
import os
import pty
import subprocess
import sys
from pathlib import Path

from roundsman.sandbox import Parakey, Sandbox

URL = "https://hooks.example.org"


def on_terminal(folder: Path, *words: str, module: tuple[str, ...] = ("-m", "roundsman")) -> list[str]:
    """The lines that a terminal of 80 columns gets."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, *module, *words],
        cwd=folder,
        env={**os.environ, "COLUMNS": "80", "TERM": "xterm", "HOME": str(folder)},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    got = b""
    while piece := _read(ours):
        got += piece
    os.close(ours)
    process.wait(60)
    return got.decode().replace("\r\n", "\n").splitlines()


def _read(handle: int) -> bytes:
    try:
        return os.read(handle, 65536)
    except OSError:  # the other end is closed
        return b""


async def test_warnings_and_answers_are_wrapped_between_words(sandbox: Sandbox, tmp_path: Path) -> None:
    config = tmp_path / "roundsman.toml"
    config.write_text(f"""\
[listen]
address = "127.0.0.1:0"
[sources.front-doors]
type = "parakey.event_logs"
base_url = "{sandbox.url}"
access_token = "not-the-token-77"
[sources.front-doors.webhook]
header = "Authorization"
value = "a-value-of-16-letters"
[sinks.archive]
type = "file"
path = "events.jsonl"
""")
    lines = await asyncio.to_thread(on_terminal, tmp_path, "check", "--live")
    lines += await asyncio.to_thread(on_terminal, tmp_path, "hooks", "create", "front-doors", "--url", URL)
    assert [line for line in lines if len(line) > 80 and not line.startswith(f"  {tmp_path}")] == []
    text = " ".join(" ".join(lines).split())
    assert 'write { credential = "name" }, { env = "NAME" } or { file = "path" } instead' in text
    assert "a webhook of the type Unlock event" in text
    assert "answered 401: the credentials are refused or lack a permission" in text


def test_a_command_at_the_end_is_in_one_line(tmp_path: Path) -> None:
    """The first half of `roundsman forget ID --source NAME` would forget another person, too."""
    key = "5f0d9c6a1b2c3d4e5f6a7b8c"
    command = f"roundsman forget {key} --source front-doors"
    script = f"from roundsman.cli.app import say; say('also named {key}: {command}')"
    assert on_terminal(tmp_path, "-c", script, module=()) == [f"also named {key}:", f"  {command}"]


async def test_a_preview_shows_events_without_numbers(sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "roundsman.toml").write_text(f"""\
[sources.front-doors]
type = "parakey.event_logs"
base_url = "{sandbox.url}"
access_token = "sandbox-access-token"
[sinks.console]
type = "stdout"
""")
    assert isinstance(sandbox.vendor, Parakey)
    sandbox.vendor.add()
    words = ("poll", "front-doors", "--since", "1h")
    lines = await asyncio.to_thread(on_terminal, tmp_path, *words)
    assert "#" not in "".join(lines)
    assert "event_log.created" in "".join(lines)
