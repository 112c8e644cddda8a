"""`roundsman page`: the address of the page, or how to turn it on; and what `check` says about it."""

import subprocess
import sys
from pathlib import Path

import pytest

from processes import Daemon
from typed import Program

TOKEN = "a-token-of-24-letters-ok"
REST = """
[sources.doors]
type = "parakey.event_logs"
access_token = "a-token-of-parakey"
base_url = "http://127.0.0.1:1"

[sinks.archive]
type = "file"
path = "events.jsonl"
"""


def write(folder: Path, listen: str) -> Path:
    config = folder / "roundsman.toml"
    config.write_text(f'[daemon]\nstore = "roundsman.db"\n{listen}\n{REST}')
    return config


def run(config: Path, command: str = "page") -> "subprocess.CompletedProcess[str]":
    line = [sys.executable, "-m", "roundsman", command, "-c", str(config)]
    return subprocess.run(line, capture_output=True, text=True, check=False)


PAGE = '[listen.page]\nuser = "ops"\npassword = { file = "only-the-daemon-has-it" }\n'


@pytest.mark.parametrize(
    ("listen", "page", "printed"),
    [
        ("", "", ["http://127.0.0.1:8377/"]),
        ('address = "[::1]:80"', "", ["http://[::1]/"]),
        ('address = "0.0.0.0:8443"\ntls_certificate = "c"\ntls_key = "k"', "", ["https://127.0.0.1:8443/"]),
        ("", 'host = "ops.example.org"', ["https://ops.example.org/"]),
        ('address = "unix:x.sock"', 'host = ["a.example", "b.example"]', ["https://a.example/", "https://b.example/"]),
        ('address = "192.0.2.7:8377"', 'host = "ops.example.org"', ["http://ops.example.org:8377/"]),
        ('address = "0.0.0.0:443"\ntls_certificate = "c"\ntls_key = "k"', 'host = "a.example"', ["https://a.example/"]),
        ('address = "unix:x.sock"', "", []),
    ],
)  # fmt: skip
def test_it_prints_the_address_without_reading_a_secret(
    listen: str, page: str, printed: list[str], tmp_path: Path, roundsman: Program
) -> None:
    done = roundsman("page", "-c", str(write(tmp_path, f"[listen]\n{listen}\n{PAGE}{page}")))
    assert (done.code, done.out.splitlines()) == (0, printed)
    assert done.err.splitlines()[-1] == "no daemon is running: `roundsman run` starts one"


@pytest.mark.parametrize("listen", ["", '[listen]\naddress = "127.0.0.1:8377"'])
def test_without_a_page_it_prints_what_to_write(listen: str, tmp_path: Path) -> None:
    done = run(write(tmp_path, listen))
    assert (done.returncode, done.stdout) == (2, "")
    assert "[listen.page]" in done.stderr
    written = (
        done.stderr.split("\n\n")[1].replace("credential", "env").replace("page-password", "PAGE_PASSWORD")
    )
    config = write(tmp_path, f'[listen]\naddress = "127.0.0.1:0"\n{written}')
    checked = subprocess.run(
        [sys.executable, "-m", "roundsman", "check", "-c", str(config)],
        env={"PAGE_PASSWORD": "long-enough"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr


def test_a_mistake_in_the_table_is_said(tmp_path: Path) -> None:
    done = run(write(tmp_path, '[listen.page]\nuser = "a:b"\n'))
    assert done.returncode == 2
    assert "listen.page.user: a:b cannot have a colon" in done.stderr


async def test_beside_a_daemon_it_prints_the_address_alone_and_a_change_that_was_not_read(
    tmp_path: Path,
) -> None:
    page = f'[listen]\naddress = "127.0.0.1:0"\n[listen.page]\ntoken = "{TOKEN}"\nhost = "ops.example.org"\n'
    config = write(tmp_path, page)
    async with Daemon(config) as daemon:
        await daemon.ready()
        done = run(config)
        assert (done.returncode, done.stdout, done.stderr) == (0, "https://ops.example.org/\n", "")
        write(tmp_path, page.replace("ops.example", "new.example"))
        assert "the daemon has not read the file" in run(config).stderr


def test_check_warns_of_a_login_in_the_clear_and_in_the_file(tmp_path: Path) -> None:
    page = f'[listen]\naddress = "0.0.0.0:8377"\n[listen.page]\ntoken = "{TOKEN}"\n'
    done = run(write(tmp_path, page), "check")
    assert done.returncode == 0
    assert "listen.page: 0.0.0.0:8377 gets the login without TLS" in done.stderr + done.stdout
    assert "listen.page: a secret is in the file" in done.stderr + done.stdout
    assert TOKEN not in done.stderr + done.stdout
