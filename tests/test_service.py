"""The process: started, reloaded, watched, stopped, as systemd does it."""

import asyncio
import os
import signal
import socket
from pathlib import Path

import pytest

from processes import Daemon, configure
from roundsman.sandbox import TOKEN, Fault, Sandbox

FILE = '[sinks.archive]\ntype = "file"\npath = "events.jsonl"\n'


def lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


async def test_it_says_when_it_is_ready_and_what_it_does(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.vendor.add(log_id="a")
    config = configure(tmp_path, sandbox.url, FILE, interval="200ms")
    async with Daemon(config, PARAKEY_TOKEN=TOKEN, WATCHDOG_USEC="300000") as daemon:
        await daemon.ready()
        await daemon.until(lambda: lines(tmp_path / "events.jsonl") == 1)
        await daemon.until(lambda: daemon.said.count("WATCHDOG=1") >= 2)
        assert any(word.startswith("STATUS=1 source, 1 sink; ") for word in daemon.said)
        assert daemon.logged("daemon.started")[0]["store"] == str(tmp_path / "roundsman.db")
        assert set(daemon.logs[0]) >= {"timestamp", "level", "event"}
        await daemon.stop()
        assert daemon.code == 0
        assert [entry["event"] for entry in daemon.logs[-2:]] == ["daemon.stopping", "daemon.stopped"]
    assert TOKEN not in daemon.stderr
    assert TOKEN.encode() not in (tmp_path / "roundsman.db").read_bytes()


async def test_its_status_shows_a_failure_at_once(sandbox: Sandbox, tmp_path: Path) -> None:
    dead = '[sinks.crm]\ntype = "http"\nurl = "http://127.0.0.1:1/"\n'
    config = configure(tmp_path, sandbox.url, FILE + dead, interval="200ms")
    async with Daemon(config, PARAKEY_TOKEN=TOKEN) as daemon:
        await daemon.ready()
        sandbox.vendor.token = "another"
        # Sooner than the ten seconds after which it says how things are in any case.
        await daemon.until(
            lambda: any("1 source (1 failing), 2 sinks (1 failing)" in w for w in daemon.said), 8
        )
        sandbox.vendor.token = TOKEN
        await daemon.until(lambda: daemon.said[-1].startswith("STATUS=1 source, 2 sinks (1 failing)"))
        await daemon.stop()


async def test_a_store_that_is_deleted_ends_it_for_another_to_begin(sandbox: Sandbox, tmp_path: Path) -> None:
    """Going on, it would report events that are lost when it ends; with 1, systemd starts it again."""
    async with Daemon(configure(tmp_path, sandbox.url, FILE), PARAKEY_TOKEN=TOKEN) as daemon:
        await daemon.ready()
        (tmp_path / "roundsman.db").unlink()
        await asyncio.wait_for(daemon.process.wait(), 60)
        assert daemon.process.returncode == 1
    assert daemon.logged("store.lost")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_stops_promptly_while_a_server_hangs(number: int, sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.vendor.faults.extend([Fault(kind="hang")] * 3)
    async with Daemon(configure(tmp_path, sandbox.url, FILE), PARAKEY_TOKEN=TOKEN) as daemon:
        await daemon.ready()
        await daemon.until(lambda: sandbox.vendor.asked)
        assert await daemon.stop(number) < 10
        assert daemon.code == 0


async def test_it_stops_while_its_output_is_not_read(sandbox: Sandbox, tmp_path: Path) -> None:
    """A full pipe hangs a thread; the grace is 1.5 s, and then it goes."""
    for n in range(300):
        sandbox.vendor.add(log_id=f"r{n}", note="x" * 4000)
    config = configure(tmp_path, sandbox.url, FILE + '[sinks.out]\ntype = "stdout"\n')
    read, write = os.pipe()
    async with Daemon(config, stdout=write, PARAKEY_TOKEN=TOKEN) as daemon:
        os.close(write)
        await daemon.until(lambda: lines(tmp_path / "events.jsonl") == 300)
        assert 1 < await daemon.stop() < 15
        assert daemon.code == 0
    os.close(read)


async def test_a_good_new_file_is_taken_over_and_a_bad_one_refused(sandbox: Sandbox, tmp_path: Path) -> None:
    config = configure(tmp_path, sandbox.url, FILE, interval="100ms")
    async with Daemon(config, PARAKEY_TOKEN=TOKEN) as daemon:
        await daemon.ready()
        good = config.read_text()
        config.write_text(good + '[sinks.second]\ntype = "fil"\n')
        line = config.read_text().splitlines().index('type = "fil"') + 1
        daemon.send(signal.SIGHUP)
        await daemon.until(lambda: daemon.logged("config.refused"))
        assert daemon.logged("config.refused")[0]["problems"] == [
            f"{config}:{line}: sinks.second.type: fil is unknown; did you mean file?"
        ]
        sandbox.vendor.add(log_id="a")
        await daemon.until(lambda: lines(tmp_path / "events.jsonl") == 1)
        config.write_text(good + '[sinks.second]\ntype = "file"\npath = "second.jsonl"\n')
        daemon.send(signal.SIGHUP)
        await daemon.until(lambda: daemon.logged("config.reloaded"))
        sandbox.vendor.add(log_id="b")
        await daemon.until(lambda: lines(tmp_path / "second.jsonl") == 1)
        await daemon.until(lambda: lines(tmp_path / "events.jsonl") == 2)
        assert daemon.said.count("RELOADING=1") == 2
        assert daemon.said.count("READY=1") == 3


async def test_files_are_reopened_for_logrotate(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.vendor.add(log_id="a")
    async with Daemon(
        configure(tmp_path, sandbox.url, FILE, interval="100ms"), PARAKEY_TOKEN=TOKEN
    ) as daemon:
        await daemon.until(lambda: lines(tmp_path / "events.jsonl") == 1)
        (tmp_path / "events.jsonl").rename(tmp_path / "events.jsonl.1")
        daemon.send(signal.SIGHUP)
        await daemon.until(lambda: daemon.logged("config.reloaded"))
        sandbox.vendor.add(log_id="b")
        await daemon.until(lambda: lines(tmp_path / "events.jsonl") == 1)
    assert lines(tmp_path / "events.jsonl.1") == 1


async def test_a_second_daemon_says_who_holds_the_store(sandbox: Sandbox, tmp_path: Path) -> None:
    config = configure(tmp_path, sandbox.url, FILE)
    async with Daemon(config, PARAKEY_TOKEN=TOKEN) as first:
        await first.ready()
        async with Daemon(config, PARAKEY_TOKEN=TOKEN) as second:
            # Not 2, after which systemd would not try again: it passes.
            assert await asyncio.wait_for(second.process.wait(), 60) == 1
        assert f"is in use by roundsman, pid {first.process.pid}, since" in second.stderr
        assert second.stderr.count("\n") == 1


async def test_a_wrong_configuration_ends_with_2_and_all_the_reasons(tmp_path: Path) -> None:
    config = configure(tmp_path, "http://127.0.0.1:1", FILE, intervall=5)
    async with Daemon(config) as daemon:
        assert await asyncio.wait_for(daemon.process.wait(), 60) == 2
    assert daemon.stderr.splitlines() == [
        f"{config}: 2 mistakes",
        f"{config}:8: sources.doors.access_token: the environment has no variable PARAKEY_TOKEN",
        f"{config}:9: sources.doors.intervall: unknown option; did you mean interval?",
    ]


async def test_a_dead_server_is_reported_and_the_daemon_continues(tmp_path: Path) -> None:
    config = configure(tmp_path, "http://127.0.0.1:1", FILE, interval="50ms")
    async with Daemon(config, PARAKEY_TOKEN=TOKEN) as daemon:
        await daemon.until(lambda: daemon.logged("source.failing") and daemon.logged("poll.failed"))
        assert (
            daemon.logged("poll.failed")[0]["error"]
            == "http://127.0.0.1:1 cannot be reached: the connection was refused"
        )
        await daemon.until(lambda: lines(tmp_path / "events.jsonl") == 1)  # the notice
        await daemon.stop()
        assert daemon.code == 0
        assert "Traceback" not in daemon.stderr


async def test_a_failure_that_is_reported_is_said_once(sandbox: Sandbox, tmp_path: Path) -> None:
    """`source.failing` and `poll.failed` of one visit have the same error: one of them is for debugging."""
    sandbox.vendor.token = "another"
    config = configure(tmp_path, sandbox.url, FILE)
    config.write_text(config.read_text().replace("[daemon]", '[daemon]\nlog_level = "debug"'))
    async with Daemon(config, PARAKEY_TOKEN=TOKEN) as daemon:
        await daemon.until(lambda: daemon.logged("source.failing"))
        await daemon.stop()
        said = [line for name in ("poll.failed", "source.failing") for line in daemon.logged(name)]
        assert [(line["event"], line["level"], line["failures"]) for line in said] == [
            ("poll.failed", "debug", 1),
            ("source.failing", "error", 1),
        ]
        assert said[0]["error"] == said[1]["error"]
        assert said[0]["wait"] == said[1]["wait"]


async def test_under_journald_lines_have_priorities(sandbox: Sandbox, tmp_path: Path) -> None:
    """JOURNAL_STREAM names the socket that standard error is; a real socket stands for journald's."""
    import subprocess
    import sys

    ours, theirs = socket.socketpair()
    status = os.fstat(theirs.fileno())
    sandbox.vendor.token = "another"
    config = configure(tmp_path, sandbox.url, FILE, interval="50ms")
    environ = os.environ | {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}", "PARAKEY_TOKEN": TOKEN}
    process = subprocess.Popen(
        [sys.executable, "-m", "roundsman", "run", "-c", str(config)],
        env=environ,
        stderr=theirs,
        stdout=subprocess.DEVNULL,
    )
    theirs.close()
    ours.setblocking(False)
    seen = b""
    while b"poll.failed" not in seen:  # of the second visit
        seen += await asyncio.wait_for(asyncio.get_running_loop().sock_recv(ours, 65536), 60)
    process.terminate()
    process.wait()
    ours.close()
    levels = {line[:3] for line in seen.splitlines()}
    assert levels == {b"<6>", b"<4>", b"<3>"}
    assert all(line[3:4] == b"{" for line in seen.splitlines())
