"""Every part of the configuration, reloaded by a running daemon."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from doors import until
from inside import done, polled, seen, sql
from processes import Daemon, configure
from roundsman import config as configuration
from roundsman.config.differences import differences
from roundsman.config.loading import Config
from roundsman.sandbox import TOKEN, Fault, Sandbox
from roundsman.service.service import Service
from roundsman.store import StoreError, holder, open_store
from roundsman.store.sqlite.store import SqliteStore
from roundsman.system import logs

SINK = '[sinks.{0}]\ntype = "file"\npath = "{0}.jsonl"\n'


def told(path: Path) -> list[str]:
    """The ids of the vendor's events in a sink's file."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [event["id"] for event in map(json.loads, lines) if event["type"].startswith("co.")]


async def reload(
    daemon: Daemon, *options: str, program: Sequence[str] = ("-m", "roundsman")
) -> tuple[int, str]:
    """`roundsman reload` in a process of its own: its status, and what it said."""
    return await run(daemon, "reload", *options, program=program)


async def run(daemon: Daemon, *words: str, program: Sequence[str] = ("-m", "roundsman")) -> tuple[int, str]:
    command = [sys.executable, *program, *words, "-c", str(daemon.config)]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=daemon.folder
    )
    said, _ = await process.communicate()
    return process.returncode or 0, said.decode()


async def test_sources_and_sinks_come_go_and_change(sandbox: Sandbox, tmp_path: Path) -> None:
    config = configure(tmp_path, sandbox.url, SINK.format("one"), interval="100ms")
    first = config.read_text()
    second = (
        first.replace("[sources.doors]", "[sources.annex]").partition("[sources.")[2].partition("[sinks")[0]
    )
    async with Daemon(config, PARAKEY_TOKEN=TOKEN) as daemon:
        await daemon.ready()
        a = sandbox.vendor.add().id
        await daemon.until(lambda: told(tmp_path / "one.jsonl") == [a])
        # One more of each: the new sink begins with what is new, the new source with the beginning.
        config.write_text(first + f"[sources.{second}" + SINK.format("two"))
        assert await reload(daemon) == (0, "reloaded: 2 changes\nsources.annex: added\nsinks.two: added\n")
        await daemon.until(lambda: told(tmp_path / "one.jsonl") == [a, a])
        b = sandbox.vendor.add().id
        await daemon.until(lambda: sorted(told(tmp_path / "two.jsonl")) == sorted([a, b, b]))
        # The first source goes, the first sink is changed.
        changed = first.replace("[sources.doors]", "[sources.annex]").replace('"one.jsonl"', '"moved.jsonl"')
        config.write_text(changed)
        assert await reload(daemon) == (
            0,
            (
                "reloaded: 3 changes\n"
                "sources.doors: removed; its events and its cursor are kept\n"
                "sinks.one: changed: path\n"
                "sinks.two: removed; its position is kept\n"
            ),
        )
        c = sandbox.vendor.add().id
        await daemon.until(lambda: told(tmp_path / "moved.jsonl") == [c])
        assert len(told(tmp_path / "one.jsonl")) == 4, "what it had, it keeps"
        # And comes back, where it was.
        config.write_text(first)
        assert (await reload(daemon))[0] == 0
        await daemon.until(lambda: told(tmp_path / "one.jsonl")[4:] == [c])
        assert [len(told(tmp_path / f"{name}.jsonl")) for name in ("one", "two", "moved")] == [5, 3, 1]
        await daemon.stop()


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ('type = "parakey.event_logs"', 'type = "parakey.batches"', "sources.doors was a parakey.event_logs and is now a parakey.batches"),
        ('type = "file"\npath = "one.jsonl"', 'type = "stdout"', "sinks.one was a file and is now a stdout: give the new sink another name"),
        ('store = "roundsman.db"', 'store = "other.db"', "other.db is another store; that needs a restart"),
        ("[daemon]", "[daemon", "is not TOML"),
        ('interval = "100ms"', 'interval = "never"', "sources.doors.interval: never is not a duration"),
        ("[daemon]", '[listen]\naddress = "127.0.0.1:{taken}"\n[daemon]', "cannot be used: Address already in use"),
    ],
)  # fmt: skip
async def test_what_cannot_be_is_refused_whole_and_the_old_one_goes_on(
    old: str, new: str, why: str, sandbox: Sandbox, tmp_path: Path
) -> None:
    config = configure(tmp_path, sandbox.url, SINK.format("one"), interval="100ms")
    text = config.read_text()
    async with Daemon(config, PARAKEY_TOKEN=TOKEN) as daemon:
        await daemon.ready()
        assert old in text
        taken = sandbox.url.rpartition(":")[2]
        config.write_text(text.replace(old, new.replace("{taken}", taken)) + SINK.format("two"))
        status, said = await reload(daemon)
        if "another store" in why:
            # The command looks for the daemon in the store that the file names.
            assert (status, "the daemon is not running" in said) == (1, True)
            daemon.send(signal.SIGHUP)
            await daemon.until(lambda: daemon.logged("config.refused"))
            said = str(daemon.logged("config.refused"))
        assert status
        assert why in said
        assert not any(word.startswith("STATUS=2 ") for word in daemon.said)
        a = sandbox.vendor.add().id
        await daemon.until(lambda: told(tmp_path / "one.jsonl") == [a])
        assert not (tmp_path / "two.jsonl").exists()
        config.write_text(text)
        assert await reload(daemon) == (0, "reloaded: nothing has changed\n")
        await daemon.stop()


async def test_a_dry_run_says_what_would_change_and_changes_nothing(sandbox: Sandbox, tmp_path: Path) -> None:
    config = configure(tmp_path, sandbox.url, SINK.format("one"), interval="100ms")
    text = config.read_text()
    async with Daemon(config, PARAKEY_TOKEN=TOKEN) as daemon:
        await daemon.ready()
        assert await reload(daemon, "--dry-run") == (0, "a reload would change nothing\n")
        config.write_text(
            text.replace("100ms", "200ms").replace('{ env = "PARAKEY_TOKEN" }', '"an-0ther-s3cret"')
            + SINK.format("two")
            + '[listen]\naddress = "127.0.0.1:0"\n[listen.page]\nuser = "ops"\npassword = "a-long-password"\n'
        )
        would = (
            "daemon: changed: log_level\n"
            "listen: added\n"
            "sources.doors: changed: interval, access_token\n"
            "sinks.two: added\n"
        )
        config.write_text(config.read_text().replace("[daemon]", '[daemon]\nlog_level = "debug"'))
        assert await reload(daemon, "--dry-run") == (0, f"a reload would change:\n{would}")
        a = sandbox.vendor.add().id
        await daemon.until(lambda: told(tmp_path / "one.jsonl") == [a])
        assert not daemon.logged("config.reloaded")
        assert not daemon.logged("listen.started")
        assert not any(word.startswith("RELOADING") for word in daemon.said)
        page = await run(daemon, "page")
        assert "the daemon has not read the file since it was changed" in page[1]
        assert await reload(daemon) == (0, f"reloaded: 4 changes\n{would}")
        [logged] = daemon.logged("config.reloaded")
        assert logged["changes"] == would.splitlines()
        config.write_text(text.replace('"100ms"', '"never"'))
        assert await reload(daemon, "--dry-run") == (
            1,
            (
                "a reload would be refused: 1 mistake\n"
                f"{config}:9: "
                'sources.doors.interval: never is not a duration; write "90s", "5m", "1h30m" or a number of seconds\n'
            ),
        )
        config.write_text(text.replace("[daemon]", "[daemon"))
        assert (await reload(daemon, "--dry-run"))[0] == 1
        assert not daemon.logged("config.refused")
        await daemon.stop()
        assert daemon.code == 0


def test_options_of_tables_inside_a_table_are_named_and_values_are_not(tmp_path: Path) -> None:
    def loaded(url: str, token: str, retries: int) -> Config:
        path = tmp_path / "roundsman.toml"
        path.write_text(
            f"""
            [listen]
            address = "127.0.0.1:0"
            [sources.news]
            type = "mailchimp.batches"
            api_key = "k3y-us1"
            [sources.news.webhook]
            token = "{token}"
            [sinks.crm]
            type = "http"
            url = "{url}"
            headers = {{ retries = "{retries}" }}
            """
        )
        return configuration.load(path)

    old = loaded("https://crm.example.org/a", "s3cret-a-of-ours", 1)
    assert differences(old, loaded("https://crm.example.org/a", "s3cret-a-of-ours", 1)) == []
    assert differences(old, loaded("https://crm.example.org/b", "s3cret-b-of-ours", 2)) == [
        "sources.news: changed: webhook.token",
        "sinks.crm: changed: url, headers",
    ]


async def test_a_reload_waits_for_the_programs_that_print_secrets(sandbox: Sandbox, tmp_path: Path) -> None:
    config = configure(tmp_path, sandbox.url, SINK.format("one"), interval="100ms")
    script = f"[ -e {tmp_path}/slow ] && sleep 1; echo {TOKEN}"
    secret = f'{{ command = ["/bin/sh", "-c", """{script}"""], timeout = "20s" }}'
    config.write_text(config.read_text().replace('{ env = "PARAKEY_TOKEN" }', secret))
    hasty = "from roundsman import cli; from roundsman.cli import control; control.ANSWERS = 0.1; cli.main()"
    async with Daemon(config) as daemon:
        await daemon.ready()
        (tmp_path / "slow").touch()
        assert await reload(daemon, program=("-c", hasty)) == (0, "reloaded: nothing has changed\n")
        await daemon.stop()


async def test_levels_and_the_listener_change_too(sandbox: Sandbox, tmp_path: Path) -> None:
    config = configure(tmp_path, sandbox.url, SINK.format("one"), interval="100ms")
    text = config.read_text()
    async with Daemon(config, PARAKEY_TOKEN=TOKEN) as daemon:
        await daemon.ready()
        assert not daemon.logged("poll.unchanged")
        config.write_text(
            text.replace("[daemon]", '[listen]\naddress = "127.0.0.1:0"\n[daemon]\nlog_level = "debug"')
        )
        assert (await reload(daemon))[0] == 0
        await daemon.until(lambda: daemon.logged("poll.unchanged"))
        [place] = daemon.logged("listen.started")[-1]["address"]
        async with httpx.AsyncClient(timeout=60) as client:
            assert (await client.get(f"{place}/healthz")).status_code == 200
            config.write_text(text)
            assert (await reload(daemon))[0] == 0
            with pytest.raises(httpx.ConnectError):
                await client.get(f"{place}/healthz")
        await daemon.until(lambda: daemon.logged("listen.stopped"))
        before: Any = len(daemon.logged("poll.unchanged"))
        a = sandbox.vendor.add().id
        await daemon.until(lambda: told(tmp_path / "one.jsonl") == [a])
        assert len(daemon.logged("poll.unchanged")) == before
        await daemon.stop()


async def test_the_answer_is_about_the_file_as_it_is(sandbox: Sandbox, tmp_path: Path) -> None:
    """Many ask at once while the file changes: each answer is about the file as its caller left it."""
    config = configure(tmp_path, sandbox.url, SINK.format("one"), interval="100ms")
    good = config.read_text()
    other = tmp_path / "other.toml"
    other.write_text(good)
    async with Daemon(config, PARAKEY_TOKEN=TOKEN) as daemon:
        await daemon.ready()
        for _ in range(3):
            config.write_text(good.replace('"100ms"', '"never"'))
            for _ in range(5):
                daemon.send(signal.SIGHUP)
            bad = await reload(daemon)
            assert (bad[0], "never is not a duration" in bad[1]) == (1, True)
            for _ in range(5):
                daemon.send(signal.SIGHUP)
            config.write_text(good)
            assert await reload(daemon) == (0, "reloaded: nothing has changed\n")
        daemon.config = other
        status, said = await reload(daemon)
        assert (status, f"runs with {config}" in said) == (1, True)
        await daemon.stop()


async def test_a_pattern_that_matches_no_file_is_logged_once(sandbox: Sandbox, tmp_path: Path) -> None:
    config = configure(tmp_path, sandbox.url, SINK.format("one"), interval="100ms")
    text = config.read_text()
    config.write_text(f'include = ["conf.d/*.toml"]\n{text}')
    first = f"{config}:1: include.0: conf.d/*.toml matches no file"
    async with Daemon(config, PARAKEY_TOKEN=TOKEN) as daemon:
        await daemon.ready()
        assert await reload(daemon) == (0, "reloaded: nothing has changed\n")
        assert [line["what"] for line in daemon.logged("config.unmatched")] == [first]
        config.write_text(f'include = ["conf.d/*.toml", "more/*.toml"]\n{text}')
        assert await reload(daemon) == (0, "reloaded: nothing has changed\n")
        said = [line["what"] for line in daemon.logged("config.unmatched")]
        assert said == [first, f"{config}:1: include.1: more/*.toml matches no file"]
        await daemon.stop()


@asynccontextmanager
async def serving(config: Path) -> AsyncIterator[Service]:
    """A daemon in this process."""
    loaded = configuration.load(config)
    service = Service(loaded, await open_store(loaded.store), logs.Line())
    running = asyncio.create_task(service.run())
    await until(lambda: polled(service.engine, "doors"))
    yield service
    service._stop("SIGTERM")
    assert await running == 0


async def refused(service: Service) -> tuple[str, ...]:
    """Why a reload is refused now."""
    before = (await service.store.daemon()).reloads
    with capture_logs() as said:
        service.reload()
        await until(lambda: seen(service.store.daemon()).reloads > before)
    [entry] = [entry for entry in said if entry["event"] == "config.refused"]
    problems = (await service.store.daemon()).problems
    assert entry["problems"] == [*problems]
    return problems


async def test_a_reload_always_has_an_answer(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It fails on a plugin's options, or on a library that is half upgraded."""
    config = configure(tmp_path, sandbox.url, SINK.format("one"), interval="100ms")
    monkeypatch.setenv("PARAKEY_TOKEN", TOKEN)

    async def stumble(self: Service, new: Config) -> None:
        raise ImportError("no module named half")

    async with serving(config) as service:
        monkeypatch.setattr(Service, "_take_over", stumble)
        assert await refused(service) == ("no module named half",)


async def test_a_refused_reload_names_each_mistake_once_and_listens_as_before(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if the name of the file looks like a place in it, and if only the store stands against it."""
    monkeypatch.setenv("PARAKEY_TOKEN", TOKEN)
    monkeypatch.chdir(tmp_path)
    listen = '[listen]\naddress = "unix:{0}.sock"\n'
    config = configure(tmp_path, sandbox.url, SINK.format("one") + listen.format("a"), interval="100ms")
    config = config.rename("sinks.toml")
    text = config.read_text()

    async def fail(self: Service, new: Config) -> None:
        raise StoreError("the disk is full")

    async with serving(config) as service:
        config.write_text(text.replace('"100ms"', '"never"'))
        [mistake] = await refused(service)
        assert mistake.startswith("sinks.toml:9: sources.doors.interval: never is not a duration")
        config.write_text(text.replace("roundsman.db", "other.db"))
        [mistake] = await refused(service)
        assert mistake.startswith(f"sinks.toml:2: daemon.store: {tmp_path}/other.db is another store")
        config.write_text(text.replace("a.sock", "b.sock"))
        monkeypatch.setattr(Service, "_mind_memories", fail)
        assert await refused(service) == ("the disk is full",)
        assert service.listener is not None
        assert str(service.listener.options.address) == f"unix:{tmp_path}/a.sock"
        assert not Path("b.sock").exists()


async def test_an_included_file_that_cannot_be_read_blocks_no_daemon(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    """A pipe that no process writes to, the home of an unknown user, a name that is too long; the main file as a pipe."""
    config = configure(tmp_path, sandbox.url, SINK.format("one"), interval="100ms")
    text = config.read_text()
    os.mkfifo(tmp_path / "pipe.toml")
    long = "x" * 300
    async with Daemon(config, PARAKEY_TOKEN=TOKEN) as daemon:
        await daemon.ready()
        refused = {
            "pipe.toml": f"{config}:1: include.0: {tmp_path}/pipe.toml cannot be read: it is not a regular file",
            "~no-such-user/x.toml": f"{config}:1: include.0: ~no-such-user/x.toml names the home of an unknown user",
            long: f"{config}:1: include.0: {tmp_path}/{long} cannot be read: File name too long",
            f"{long}/*.toml": f"{config}:1: include.0: {tmp_path}/{long} cannot be read: File name too long",
        }
        for number, (pattern, why) in enumerate(refused.items(), 1):
            config.write_text(f'include = ["{pattern}"]\n{text}')
            assert await reload(daemon) == (
                1,
                f"refused; the old configuration stays in effect: 1 mistake\n{why}\n",
            )
            assert len(daemon.logged("config.refused")) == number
            assert daemon.logged("config.refused")[-1]["problems"] == [why]
        config.unlink()
        os.mkfifo(config)
        daemon.send(signal.SIGHUP)
        await daemon.until(lambda: len(daemon.logged("config.refused")) == 5)
        a = sandbox.vendor.add().id
        await daemon.until(lambda: told(tmp_path / "one.jsonl") == [a])
        await daemon.stop()


@pytest.mark.parametrize("trouble", ["the service may not read it", "a full disk"])
async def test_a_reload_ends_soon_where_the_daemon_can_read_or_write_nothing(
    trouble: str, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A daemon that is this process, and answers as one that could not read the file; or not at all."""
    config = configure(small_disk, "http://127.0.0.1:1", SINK.format("one"))
    store = SqliteStore.open(small_disk / "roundsman.db")
    await store.runs(config, "")

    def answer(*_: object) -> None:
        if "read" in trouble:
            done(store.reloaded(config, "", [f"{config}: cannot be read: Permission denied"]))

    old = signal.signal(signal.SIGHUP, answer)
    try:
        if "disk" in trouble:
            with suppress(OSError):
                (small_disk / "ballast").write_bytes(b"x" * 4 * 2**20)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "roundsman", "reload", "-c", str(config)), stderr=subprocess.PIPE
        )
        _, said = await asyncio.wait_for(process.communicate(), 15)
    finally:
        signal.signal(signal.SIGHUP, old)
        await store.close()
    assert process.returncode == 1
    assert ("cannot be read: Permission denied" if "read" in trouble else "the disk is full") in said.decode()


async def test_a_reload_that_comes_too_soon_is_made_up_for(sandbox: Sandbox, tmp_path: Path) -> None:
    """As soon as the lock of its store names its process."""
    config = configure(tmp_path, sandbox.url, SINK.format("one"), interval="100ms")
    async with Daemon(config, PARAKEY_TOKEN=TOKEN) as daemon:
        await daemon.until(
            lambda: (tmp_path / "roundsman.db.lock").exists() and holder(tmp_path / "roundsman.db")
        )
        daemon.send(signal.SIGHUP)
        await daemon.until(lambda: daemon.logged("config.reloaded"))
        await daemon.stop()
        assert daemon.code == 0


async def test_a_refused_file_leaves_the_listener_alone(sandbox: Sandbox, tmp_path: Path) -> None:
    listen = '[listen]\naddress = "unix:{0}.sock"\n'
    config = configure(tmp_path, sandbox.url, SINK.format("one") + listen.format("a"), interval="100ms")
    async with Daemon(config, PARAKEY_TOKEN=TOKEN) as daemon:
        await daemon.ready()
        text = (
            config.read_text().replace('type = "file"', 'type = "stdout"').replace('path = "one.jsonl"', "")
        )
        config.write_text(text.replace('"unix:a.sock"', '"unix:b.sock"'))
        assert (await reload(daemon))[0] == 1
        assert [line["event"] for line in daemon.logs if line["event"].startswith("listen.")] == [
            "listen.started"
        ]
        await daemon.stop()


@pytest.mark.parametrize("wrong", [False, True])
async def test_a_log_rotation_works_with_any_configuration(
    wrong: bool, sandbox: Sandbox, tmp_path: Path
) -> None:
    """The program that rotates logs cannot mend a mistake in the configuration."""
    config = configure(tmp_path, sandbox.url, SINK.format("one"), interval="100ms")
    async with Daemon(config, PARAKEY_TOKEN=TOKEN) as daemon:
        await daemon.ready()
        a = sandbox.vendor.add().id
        await daemon.until(lambda: told(tmp_path / "one.jsonl") == [a])
        if wrong:
            config.write_text(config.read_text() + "\nnonsense = [\n")
        (tmp_path / "one.jsonl").rename(tmp_path / "one.jsonl.1")
        daemon.send(signal.SIGHUP)
        await daemon.until(lambda: daemon.logged("config.refused" if wrong else "config.reloaded"))
        await daemon.until((tmp_path / "one.jsonl").exists)
        b = sandbox.vendor.add().id
        await daemon.until(lambda: told(tmp_path / "one.jsonl") == [b])
        assert told(tmp_path / "one.jsonl.1") == [a]
        await daemon.stop()


async def test_another_address_under_a_name_with_a_memory_is_said_and_read_on(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    config = configure(tmp_path, sandbox.url, SINK.format("one"), interval="100ms")
    async with Daemon(config, PARAKEY_TOKEN=TOKEN) as daemon:
        await daemon.ready()
        a = sandbox.vendor.add().id
        await daemon.until(lambda: told(tmp_path / "one.jsonl") == [a])
        config.write_text(config.read_text().replace("127.0.0.1", "localhost"))
        status, answer = await reload(daemon)
        assert (status, answer.splitlines()[:2]) == (
            0,
            ["reloaded: 2 changes", "sources.doors: changed: base_url"],
        )
        assert "sources.doors: it reads http://localhost" in answer
        [said] = daemon.logged("source.changed")
        assert "its state is from http://127.0.0.1" in said["what"]
        b = sandbox.vendor.add().id
        await daemon.until(lambda: told(tmp_path / "one.jsonl") == [a, b])
        await daemon.stop()


async def test_a_storm_of_reloads_becomes_two_and_keeps_no_command_waiting(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    config = configure(tmp_path, sandbox.url, SINK.format("one"), interval="100ms")
    async with Daemon(config, PARAKEY_TOKEN=TOKEN) as daemon:
        await daemon.ready()
        for _ in range(300):
            daemon.send(signal.SIGHUP)
        a = sandbox.vendor.add().id
        await daemon.until(lambda: told(tmp_path / "one.jsonl") == [a])
        assert len(daemon.logged("config.reloaded")) < 100
        await daemon.stop()


async def test_a_reload_while_it_stops_keeps_it_from_nothing(sandbox: Sandbox, tmp_path: Path) -> None:
    """A sink that is added by it would be a loop that is never ended."""
    sink = f'[sinks.slow]\ntype = "http"\nurl = "{sandbox.url}/nowhere"\n'
    config = configure(tmp_path, sandbox.url, sink, interval="100ms")
    async with Daemon(config, PARAKEY_TOKEN=TOKEN) as daemon:
        await daemon.ready()
        sandbox.vendor.faults.extend([Fault(kind="hang", path="/nowhere")] * 9)
        sandbox.vendor.add()
        await daemon.until(lambda: len(sandbox.vendor.faults) < 9)
        config.write_text(config.read_text() + SINK.format("two"))
        daemon.send(signal.SIGTERM)
        await daemon.until(lambda: daemon.logged("daemon.stopping"))
        for _ in range(5):
            daemon.send(signal.SIGHUP)
        await asyncio.wait_for(daemon.process.wait(), 10)
        assert not daemon.logged("config.reloaded")


async def test_a_reload_without_a_daemon_is_an_error(tmp_path: Path) -> None:
    config = configure(tmp_path, "http://127.0.0.1:1", SINK.format("one"))
    done = subprocess.run(
        [sys.executable, "-m", "roundsman", "reload", "-c", str(config)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, "the daemon is not running: no process uses" in done.stderr) == (1, True)


async def test_only_the_process_that_has_the_store_gets_a_signal(tmp_path: Path) -> None:
    """What the store says may be of a daemon that was killed, whose number another process has now."""
    config = configure(tmp_path, "http://127.0.0.1:1", SINK.format("one"))
    store = SqliteStore.open(tmp_path / "roundsman.db")
    other = await asyncio.create_subprocess_exec("sleep", "60")
    try:
        await store.runs(config, "")
        await sql(store, "UPDATE daemons SET pid = ?", (other.pid,))
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "roundsman", "reload", "-c", str(config)), stderr=subprocess.PIPE
        )
        _, said = await asyncio.wait_for(process.communicate(), 15)
        assert process.returncode == 1
        assert "another process uses" in said.decode()
        assert other.returncode is None, "SIGHUP would have ended it"
    finally:
        other.kill()
        await other.wait()
        await store.close()


async def test_once_is_no_daemon_to_reload(tmp_path: Path) -> None:
    config = configure(tmp_path, "http://127.0.0.1:1", SINK.format("one"))
    store = SqliteStore.open(
        tmp_path / "roundsman.db"
    )  # as `once` does: it never says with which configuration
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "roundsman", "reload", "-c", str(config)), stderr=subprocess.PIPE
    )
    _, said = await asyncio.wait_for(process.communicate(), 15)
    await store.close()
    assert "the daemon is not running: `roundsman once` uses" in said.decode()
