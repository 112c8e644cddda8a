"""The daemon on a PostgreSQL server: started, killed and asked, as an operator does it; all over real sockets."""

import asyncio
import json
import os
import re
import signal
import socket
import sys
from pathlib import Path

import pytest

from postgres import Postgres
from processes import Daemon, configure
from roundsman.options.server import Server, secrets_of
from roundsman.sandbox import TOKEN, Sandbox

FILE = f'[sinks.archive]\ntype = "file"\npath = "events.jsonl"\non = "{socket.gethostname()}"\n'


def lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


async def roundsman(config: Path, *args: str, **environ: str) -> tuple[int, str]:
    """A command's exit status, and what it printed."""
    return await roundsman_([*args, "-c", str(config)], config, environ)


async def roundsman_(args: list[str], config: Path, environ: dict[str, str]) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "roundsman", *args,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "HOME": str(config.parent), **environ},
    )  # fmt: skip
    assert process.stdout is not None
    printed = await process.stdout.read()
    return await process.wait(), printed.decode()


async def test_a_daemon_and_its_commands_work_on_a_server_and_show_no_password(
    postgres_server: Postgres, database: str, sandbox: Sandbox, tmp_path: Path
) -> None:
    out = tmp_path / "events.jsonl"
    sandbox.vendor.add(log_id="a")
    listen = f'[listen]\naddress = "unix:{tmp_path}/listen.sock"\n'
    config = configure(tmp_path, sandbox.url, FILE + listen, interval="200ms")
    config.write_text(config.read_text().replace('store = "roundsman.db"', 'store = { env = "STORE" }'))
    environ = {"PARAKEY_TOKEN": TOKEN, "STORE": database}
    said = []

    async def run(*args: str) -> str:
        code, printed = await roundsman(config, *args, **environ)
        said.append(printed)
        assert code == 0, printed
        return printed

    async with Daemon(config, **environ) as daemon:
        await daemon.ready()
        await daemon.until(lambda: lines(out) == 1)
        assert daemon.logged("daemon.started")[0]["store"] == database.replace(":correct-horse-1", "")
        assert "daemon.store: opens\n" in await run("check", "--live")
        wrong = {**environ, "STORE": database.replace("horse-1", "horse-2")}
        code, printed = await roundsman(config, "check", "--live", **wrong)
        assert (
            code,
            "daemon.store: postgresql://rm@" in printed,
            "password authentication failed" in printed,
        ) == (1, True, True)
        assert "horse-2" not in printed
        status = json.loads(await run("status", "--json"))
        assert (status["store"], status["events"]) == (daemon.logged("daemon.started")[0]["store"], 1)
        assert re.match(r"roundsman, pid \d+ on .+, since ", status["daemon"])
        assert '"a"' in await run("events", "--json") or "a" in await run("events")
        await run("healthy")
        await run("reload")
        await run("pause", "doors")
        await run("resume", "doors")
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "listen.sock"))
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        metrics = (await reader.read()).decode()
        writer.close()
        assert 'roundsman_store_bytes{file="store"}' in metrics
        # The server crashes: the daemon says so, waits, and goes on.
        await asyncio.to_thread(postgres_server.stop, signal.SIGKILL)
        sandbox.vendor.add(log_id="b")
        await daemon.until(lambda: "cannot be reached" in daemon.stderr)
        await asyncio.to_thread(postgres_server.start)
        await daemon.until(lambda: lines(out) == 2)
        daemon.process.kill()
        await daemon.process.wait()
        said.append(daemon.stderr)
    sandbox.vendor.add(log_id="c")
    async with Daemon(config, **environ) as daemon:
        await daemon.ready()
        await daemon.until(lambda: lines(out) == 3)
        await daemon.stop()
        assert daemon.code == 0
        said.append(daemon.stderr)
    ids = [json.loads(line)["id"] for line in out.read_text().splitlines()]
    assert len(set(ids)) == 3, "each once"
    assert "postgresql://rm@" in "".join(said)
    assert postgres_server.password not in "".join(said)
    assert not list(tmp_path.glob("*.db*")), "and there is no file"
    code, printed = await roundsman_(
        ["store", "copy", str(config), str(tmp_path / "copy.db")], config, environ
    )
    assert (code, "complete, the log up to #" in printed) == (0, True), printed


async def test_a_password_that_is_not_written_as_one_is_not_shown(tmp_path: Path) -> None:
    for password in ("a/b", "horse/battery", "horse#battery", "horse?battery"):
        url = f"postgresql://rm:{password}@h/x"
        assert password in secrets_of(url)
    code, printed = await roundsman_(
        ["store", "copy", "postgresql://rm:a/b@h/x", "x.db"], tmp_path / "none.toml", {}
    )
    assert code == 2
    assert printed.startswith('postgresql://***: has a "/", "@" or "#" in its user or password; ')
    assert "a/b" not in printed


@pytest.mark.parametrize("name", ["password", "sslpassword", "PassWord", "passwort", "pass"])
def test_a_password_in_the_url_is_not_shown_if_its_name_is_misspelt(name: str) -> None:
    url = f"postgresql://me@host/db?{name}=correct-horse&passfile=/etc/pass"
    assert str(Server(url)) == "postgresql://me@host/db?passfile=/etc/pass"
    assert "correct-horse" in secrets_of(url)
