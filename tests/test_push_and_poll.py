"""Three processes, as a user has them: the sandbox's vendors, the daemon, and the commands."""

import asyncio
import json
import os
import re
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from inside import done, seen
from ports import free_port
from processes import Daemon
from roundsman.sandbox.company import HOOK_SECRET, HOOK_TOKEN, HOOK_VALUE
from roundsman.sandbox.vendor import signature
from roundsman.store import Filter
from roundsman.store.sqlite.reader import Reader


@dataclass
class World:
    """The sandbox as a process, and what it printed."""

    folder: Path
    config: Path
    environ: dict[str, str]
    url: str

    async def roundsman(self, *args: str) -> tuple[int, str, str]:
        command = [sys.executable, "-m", "roundsman", *args, "-c", str(self.config)]
        pipes: Any = {"stdout": asyncio.subprocess.PIPE, "stderr": asyncio.subprocess.PIPE}
        environ = {**os.environ, **self.environ, "COLUMNS": "200"}
        process = await asyncio.create_subprocess_exec(*command, **pipes, env=environ, cwd=self.folder)
        out, err = await asyncio.wait_for(process.communicate(), 60)
        return process.returncode or 0, out.decode(), err.decode()

    def first(self) -> set[tuple[str, str | None]]:
        """Sources of which the log has something, and who had it first."""
        reader = Reader.open(self.folder / "sandbox.db")
        found = [event for event, _ in seen(reader.events(0, 10**9, 10**6, Filter()))]
        via = seen(reader.via([event.seq for event in found]))
        done(reader.close())
        return {(event.source, via[event.seq]) for event in found}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with sandbox_process(tmp_path) as world:
        yield world


@asynccontextmanager
async def sandbox_process(folder: Path) -> AsyncIterator[World]:
    listen = f"127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "roundsman.sandbox", "--per-second", "5", "--listen", listen]
    pipes: Any = {"stdout": asyncio.subprocess.PIPE, "stderr": asyncio.subprocess.DEVNULL}
    process = await asyncio.create_subprocess_exec(*command, **pipes)
    assert process.stdout is not None
    try:
        printed = ""
        while 'path = "sandbox.jsonl"' not in printed:
            line = await asyncio.wait_for(process.stdout.readline(), 60)
            assert line, printed
            printed += line.decode()
        exports = "\n".join(re.findall(r"^# export (.*)$", printed, re.MULTILINE))
        environ = {k: v.strip('"') for k, v in re.findall(r'(\w+)=("[^"]*"|\S+)', exports)}
        text = re.sub(r'interval = ".*"', 'interval = "10m"', printed)
        config = folder / "roundsman.toml"
        assert '\nstore = "sandbox.db"\n' in text, "a store of its own"
        config.write_text(text.replace("[daemon]\n", '[daemon]\nlog_format = "json"\n'))
        config.chmod(0o600)
        draining = asyncio.create_task(process.stdout.read())
        yield World(folder, config, environ, f"http://{listen}")
    finally:
        process.kill()
        await process.wait()
    await draining


async def test_a_sandbox_that_is_started_again_has_other_events(world: World, tmp_path: Path) -> None:
    """With the ids of its last start, they would be in the log already, and a reader would wait for nothing."""
    (tmp_path / "again").mkdir()
    found: list[set[str]] = []
    async with sandbox_process(tmp_path / "again") as another:
        for each in (world, another):
            code, out, err = await each.roundsman(
                "poll", "front-doors", "--since", "1h", "-n", "50", "--json"
            )
            assert code == 0, err
            found.append({json.loads(line)["id"] for line in out.splitlines()})
    first, second = found
    assert first
    assert second
    assert not first & second


async def test_each_vendors_webhook_works_as_the_sandbox_and_the_readme_say(world: World) -> None:
    async with (
        Daemon(world.config, **world.environ) as daemon,
        httpx.AsyncClient(trust_env=False, timeout=60) as client,
    ):
        await daemon.ready()
        code, out, err = await world.roundsman("hooks", "create", "newsletter", "--url", world.url)
        assert code == 0, err
        [secret] = re.findall(r"^signing secret, shown only now: (\S+)$", out, re.MULTILINE)
        [key] = re.findall(rf"^(\w+): sends to {world.url}/hooks/newsletter/\*\*\*$", out, re.MULTILINE)
        # The interval is ten minutes: what comes now comes by webhooks.
        wanted = {("front-doors", "push"), ("keys", "push"), ("ledger", "push"), ("newsletter", "ring")}
        await daemon.until(lambda: wanted <= world.first())

        text = world.config.read_text().replace(
            "[sources.newsletter.webhook]\n", f'[sources.newsletter.webhook]\nsigning_secret = "{secret}"\n'
        )
        world.config.write_text(text)
        daemon.send(signal.SIGHUP)
        await daemon.until(lambda: daemon.logged("config.reloaded"))
        news = f"{world.url}/hooks/newsletter/{HOOK_TOKEN}"
        body = b"type=batch_operation_completed&data%5Bid%5D=forged1234"
        assert (await client.post(news, content=body)).status_code == 401
        stale = {"x-mailchimp-signature": signature(secret, str(int(time.time()) - 400), "v1", body)}
        assert (await client.post(news, content=body, headers=stale)).status_code == 401
        before = len(daemon.logged("webhook.taken"))
        await daemon.until(
            lambda: any(line["source"] == "newsletter" for line in daemon.logged("webhook.taken")[before:])
        )

        code, out, err = await world.roundsman("hooks", "list", "newsletter")
        assert (code, err) == (0, "")
        assert f"{key}  {world.url}/hooks/newsletter/***  leads here\n1 of 20 that the vendor allows\n" == out
        code, out, err = await world.roundsman("hooks", "create", "newsletter", "--url", f"{world.url}/")
        assert code == 1
        assert f"exists already as {key}; for a new secret: roundsman hooks delete newsletter {key}" in err
        assert (await world.roundsman("hooks", "delete", "newsletter", key))[:2] == (0, f"{key}: deleted\n")
        code, out, err = await world.roundsman("hooks", "list", "newsletter")
        assert (code, out) == (1, "0 of 20 that the vendor allows\n")
        assert "warning: no webhook leads here yet: roundsman hooks create newsletter" in err
        code, out, err = await world.roundsman("hooks", "delete", "newsletter", key)
        assert code == 1
        assert "answered 404" in err
        await daemon.stop()
        assert daemon.code == 0
    log = daemon.stderr + out + err
    for word in (secret, HOOK_TOKEN, HOOK_SECRET, HOOK_VALUE, *world.environ.values()):
        assert word not in log


async def test_hooks_create_says_what_to_enter_where_the_vendor_has_no_api(world: World) -> None:
    code, out, _ = await world.roundsman(
        "hooks", "create", "front-doors", "--url", "http://127.0.0.1:1/deep/"
    )
    assert code == 0
    assert (
        "  in Parakey: Settings, Integrations, your integration, Webhooks, a webhook of the type Unlock event:"
        in out
    )
    assert "  URL: http://127.0.0.1:1/deep/hooks/front-doors\n" in out
    assert "  header Authorization: the value of the variable PARAKEY_HOOK\n" in out
    assert HOOK_VALUE not in out
    _, out, _ = await world.roundsman(
        "hooks", "create", "keys", "--url", "https://hooks.example.org", "--reveal"
    )
    assert f"  URL: https://hooks.example.org/hooks/keys\n  header Authorization: {HOOK_VALUE}\n" in out
    code, out, _ = await world.roundsman("hooks", "create", "ledger", "--url", "https://hooks.example.org")
    assert "  URL: https://hooks.example.org/hooks/ledger\n" in out
    for command in (("list", "ledger"), ("delete", "ledger", "x")):
        code, _, err = await world.roundsman("hooks", *command)
        assert code == 2
        assert "has no API" in err


async def test_a_url_that_cannot_be_right_is_refused(world: World) -> None:
    wrong = {
        "hooks.example.org": "is not a URL",
        "ftp://hooks.example.org": "is not an https URL",
        "https://u:p@hooks.example.org": "has a user, a query or a fragment",
        "https://hooks.example.org/?a=b": "has a user, a query or a fragment",
        "https://hooks.example.org/hooks/other": "has another path than /hooks/newsletter/TOKEN",
        "https://[bad": "is not a URL",
    }
    for url, said in wrong.items():
        code, _, err = await world.roundsman("hooks", "create", "newsletter", "--url", url)
        assert (url, code) == (url, 1)
        assert said in err, url


async def test_an_address_that_does_not_answer_is_refused_by_the_vendor_and_explained(world: World) -> None:
    code, _, err = await world.roundsman("hooks", "create", "newsletter", "--url", world.url)
    assert code == 1
    assert "the daemon must run and be reachable there" in err
    assert HOOK_TOKEN not in err


async def test_an_address_in_use_ends_the_daemon_with_a_sentence(world: World) -> None:
    with socket.socket() as other:
        host, _, port = world.url.removeprefix("http://").partition(":")
        other.bind((host, int(port)))
        other.listen()
        async with Daemon(world.config, **world.environ) as daemon:
            assert await asyncio.wait_for(daemon.process.wait(), 60) == 1
    assert "listen.address: 127.0.0.1:" in daemon.stderr
    assert "Traceback" not in daemon.stderr


async def test_a_reload_moves_the_listener_and_a_bad_one_leaves_it(world: World) -> None:
    other = f"127.0.0.1:{free_port()}"
    text = world.config.read_text()
    here = world.url.removeprefix("http://")
    async with (
        Daemon(world.config, **world.environ) as daemon,
        httpx.AsyncClient(trust_env=False, timeout=60) as client,
    ):

        async def answers(url: str) -> bool:
            try:
                return (await client.get(f"{url}/healthz")).status_code == 200
            except httpx.TransportError:
                return False

        await daemon.ready()
        assert await answers(world.url)
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            world.config.write_text(text.replace(here, f"127.0.0.1:{taken.getsockname()[1]}"))
            daemon.send(signal.SIGHUP)
            await daemon.until(lambda: daemon.logged("config.refused"))
            assert await answers(world.url)
        world.config.write_text(text.replace(here, other))
        daemon.send(signal.SIGHUP)
        await daemon.until(lambda: daemon.logged("config.reloaded"))
        assert await answers(f"http://{other}")
        assert not await answers(world.url)
        without = re.sub(r"\[sources\.[a-z-]+\.webhook\]\n(?:[a-z_]+ = .*\n)*", "", text)
        world.config.write_text(without.replace(f'[listen]\naddress = "{here}"\n', ""))
        daemon.send(signal.SIGHUP)
        await daemon.until(lambda: len(daemon.logged("config.reloaded")) == 2)
        assert not await answers(f"http://{other}")
        await daemon.stop()


async def test_a_socket_that_systemd_opened_is_taken(world: World) -> None:
    launcher = (
        "import os, sys\n"
        "os.dup2(int(sys.argv[1]), 3); os.environ |= {'LISTEN_FDS': '1', 'LISTEN_PID': str(os.getpid())}\n"
        "os.execv(sys.executable, [sys.executable, '-m', 'roundsman', 'run', '-c', sys.argv[2]])\n"
    )
    opened = socket.socket()
    opened.bind(("127.0.0.1", 0))
    opened.listen()
    port, number = opened.getsockname()[1], opened.fileno()
    command = [sys.executable, "-c", launcher, str(number), str(world.config)]
    more: Any = {"env": {**os.environ, **world.environ}, "pass_fds": [number]}
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.DEVNULL, **more)
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
            # The kernel takes the connection before the daemon is there: no caller is refused.
            answer = await client.get(f"http://127.0.0.1:{port}/healthz")
            assert answer.text == "ok\n"
            with pytest.raises(httpx.ConnectError):
                await client.get(f"{world.url}/healthz")
    finally:
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 60) == 0
        opened.close()
