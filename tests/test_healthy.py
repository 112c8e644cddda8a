"""`roundsman healthy`: one line and an exit status, by what a daemon has written into the store."""

import asyncio
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest

from conftest import need
from inside import disk_has, done
from processes import Daemon, configure
from rounds import running
from roundsman.engine.engine import Engine
from roundsman.sandbox import TOKEN, Sandbox
from roundsman.screen.health import health
from roundsman.store import Store, open_view
from roundsman.store.sqlite.store import SqliteStore
from typed import Program
from worlds import ByHand, Straight, Time, event_logs, web_of

FILE = '[sinks.archive]\ntype = "file"\npath = "events.jsonl"\n'
MINUTE = 60.0


class Said(NamedTuple):
    status: int
    line: str


async def healthy(config: Path, *before: str) -> Said:
    """`roundsman healthy` in a process of its own, without a secret in its environment. `before`: what starts it."""
    process = await asyncio.create_subprocess_exec(
        *(*before, sys.executable, "-m", "roundsman", "healthy", "-c", str(config)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={k: v for k, v in os.environ.items() if k != "PARAKEY_TOKEN"},
    )
    out, err = (each.decode() for each in await process.communicate())
    assert bool(out) == (process.returncode == 0), "the line is on standard error if it is unhealthy"
    assert (out + err).count("\n") == 1
    return Said(process.returncode or 0, (out + err).strip())


def recorded(
    path: Path, beat: float | None, *, started: float | None = None, config: str | None = "x.toml"
) -> None:
    """As a daemon has left its record; times are seconds from now."""
    now = time.time()
    times = [now + each if each is not None else None for each in (beat, started)]
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE daemons SET pid = 1, beat = ?, started = ?, config = ?", (*times, config))


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration whose store no program has opened since it was created."""
    store = SqliteStore.open(tmp_path / "roundsman.db")
    done(store.close())
    recorded(tmp_path / "roundsman.db", None, config=None)
    return configure(tmp_path, "http://127.0.0.1:1", FILE)


async def test_a_daemon_is_healthy_from_its_start_and_for_three_minutes_after_a_kill(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    config = configure(tmp_path, sandbox.url, FILE, interval="100ms")
    assert await healthy(config) == (
        1,
        f"unhealthy: there is no store at {tmp_path}/roundsman.db yet: `roundsman run` or `roundsman once` creates it",
    )
    async with Daemon(config, PARAKEY_TOKEN=TOKEN) as daemon:
        await daemon.ready()
        status, line = await healthy(config)
        assert status == 0, line
        assert re.fullmatch(r"healthy: the daemon recorded \d+s ago that it runs", line)
        daemon.send(signal.SIGKILL)
        await daemon.process.wait()
        assert (await healthy(config)).status == 0
    recorded(tmp_path / "roundsman.db", -150, started=-9000)
    assert (await healthy(config)).status == 0
    recorded(tmp_path / "roundsman.db", -181, started=-9000)
    status, line = await healthy(config)
    assert status == 1
    assert re.fullmatch(
        r"unhealthy: no daemon has recorded since 20\S+Z that it runs: it has ended, hangs or cannot write; see its log",
        line,
    )


@pytest.mark.parametrize(
    ("beat", "started", "status"),
    [
        (None, -5, 0),
        (-9000, -5, 0),
        (-9000, -181, 1),
        (-30, 3600, 0),
        (3600, -30, 0),
        (3600, 3600, 1),
        (3600, -9000, 1),
        (5, 5, 0),
        (None, None, 1),
    ],
    ids=[
        "started a moment ago",
        "started again",
        "hangs since its start",
        "the clock was set back since the start",
        "the beat is of an earlier daemon",
        "the clock was set back since the end",
        "the clock was set back and no start is recent",
        "the clock of another machine",
        "never",
    ],
)
def test_only_a_record_of_the_last_three_minutes_counts(
    beat: float | None, started: float | None, status: int, config: Path, roundsman: Program
) -> None:
    recorded(config.parent / "roundsman.db", beat, started=started)
    assert roundsman("healthy", "-c", str(config)).code == status


async def test_a_person_reads_the_local_time_or_utc(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded(config.parent / "roundsman.db", -9000)
    monkeypatch.setenv("FORCE_COLOR", "1")
    view = await open_view(config.parent / "roundsman.db")
    local, utc = (await health(view)).line, (await health(view, utc=True)).line
    await view.close()
    assert re.search(r" since (\d+ \w+ )?\d\d:\d\d:\d\d that", local)
    assert re.search(r" since (\d+ \w+ )?\d\d:\d\d:\d\dZ that", utc)


async def test_a_record_in_the_future_is_named_as_one(config: Path) -> None:
    recorded(config.parent / "roundsman.db", 3600, started=3000)
    assert re.fullmatch(
        r"unhealthy: the last time that a daemon recorded that it runs, 20\S+Z, is in the future: the clock was set back",
        (await healthy(config)).line,
    )


async def test_once_is_no_daemon(sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARAKEY_TOKEN", TOKEN)
    config = configure(tmp_path, sandbox.url, FILE)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "roundsman", "once", "-c", str(config)), stderr=subprocess.DEVNULL
    )
    assert await process.wait() == 0
    status, line = await healthy(config)
    assert status == 1
    assert re.fullmatch(
        r"unhealthy: no daemon has recorded that it runs; `roundsman once` did at 20\S+Z, and ends each time",
        line,
    )


async def test_a_store_that_no_daemon_has_used_is_unhealthy(config: Path) -> None:
    assert await healthy(config) == (1, "unhealthy: no daemon has recorded that it runs")


async def test_known_damage_is_unhealthy_while_the_daemon_runs(config: Path) -> None:
    path = config.parent / "roundsman.db"
    store = SqliteStore.open(path)
    await store.record_check("a sentence about damage")
    await store.close()
    recorded(path, -5)
    assert await healthy(config) == (1, "unhealthy: a sentence about damage")
    recorded(path, -9000)
    assert (await healthy(config)).line.endswith("see its log; a sentence about damage")


@pytest.mark.garbles
async def test_a_file_that_is_no_store_is_one_sentence(config: Path) -> None:
    path = config.parent / "roundsman.db"
    path.write_bytes(b"\xff" * 8192)
    status, line = await healthy(config)
    assert (status, line.startswith(f"unhealthy: {path}")) == (1, True)


async def test_a_store_of_an_older_version_is_unhealthy_and_stays_as_it_is(config: Path) -> None:
    path = config.parent / "roundsman.db"
    path.unlink()
    with closing(sqlite3.connect(path)) as db:
        db.executescript((Path(__file__).parent / "stores" / "0.8.sql").read_text())
    before = path.read_bytes()
    status, line = await healthy(config)
    assert status == 1
    assert line == (
        f"unhealthy: {path} was written by an older roundsman: `roundsman run` or `once` brings it up to date"
    )
    assert path.read_bytes() == before


async def test_another_user_without_permission_gets_one_sentence(config: Path) -> None:
    """Root without its privileges over the files of others: the interpreter may be in a folder of root's own."""
    need(os.geteuid() == 0 and shutil.which("setpriv") is not None, "needs root and setpriv (util-linux)")
    path = config.parent / "roundsman.db"
    recorded(path, -5)
    os.chown(path, 12345, 12345)
    path.chmod(0o600)
    rights = "-dac_override,-dac_read_search"
    status, line = await healthy(config, "setpriv", f"--inh-caps={rights}", f"--bounding-set={rights}")
    assert (status, line) == (1, f"unhealthy: {path} cannot be opened: Permission denied")


async def test_no_process_is_looked_for(sandbox: Sandbox, tmp_path: Path) -> None:
    """As from another container over a shared volume: a pid namespace of its own, with a /proc of its own."""
    need(os.geteuid() == 0 and shutil.which("unshare") is not None, "needs root and unshare")
    config = configure(tmp_path, sandbox.url, FILE, interval="100ms")
    async with Daemon(config, PARAKEY_TOKEN=TOKEN) as daemon:
        await daemon.ready()
        process = await asyncio.create_subprocess_exec(
            *("unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-m", "roundsman", "healthy"),
            *("-c", str(config)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        out, err = await process.communicate()
        need(b"unshare" not in err, "needs the right to make namespaces (in a container: CAP_SYS_ADMIN)")
        assert (process.returncode, out.startswith(b"healthy: ")) == (0, True), err
        await daemon.stop()


def test_it_imports_no_plugin_and_nothing_for_http(config: Path) -> None:
    recorded(config.parent / "roundsman.db", -5)
    code = "import sys\nfrom roundsman.cli import main\ntry:\n    main()\nfinally:\n    print(*sys.modules)"
    found = subprocess.run(
        [sys.executable, "-c", code, "healthy", "-c", str(config)], capture_output=True, text=True, check=True
    )
    imported = set(found.stdout.split())
    assert "roundsman.screen.health" in imported
    slow = {"httpx", "aiohttp", "structlog", "rich", "roundsman.plugin", "roundsman.config.loading", "uvloop"}
    assert imported & slow == set()


# -- what the daemon writes --------------------------------------------------------------------------------------------


@pytest.fixture
async def engine(tmp_path: Path, parakey: object, time: Time) -> "Engine":
    made = Engine(
        SqliteStore.open(tmp_path / "beats.db"),
        ByHand(),
        web_of(Straight(parakey), time),  # type: ignore[arg-type]
        clock=time.clock(),
    )
    await made.setup({"doors": event_logs()}, {})
    return made


async def beat(store: Store) -> float | None:
    view = await open_view(store.path)
    try:
        return (await view.daemon()).beat
    finally:
        await view.close()


async def test_the_daemon_records_at_its_start_and_each_minute_that_it_runs(
    engine: Engine, time: Time
) -> None:
    async with running(engine):
        start = time.now()
        assert await beat(engine.store) == start, "before it has visited any source"
        await engine.beat()
        for _ in range(3):
            time.advance(MINUTE)
            await engine.beat()
            assert await beat(engine.store) == time.now()
        assert time.now() == start + 3 * MINUTE
    await engine.store.close()


async def test_it_records_that_it_runs_if_its_disk_cannot_be_looked_at(engine: Engine, time: Time) -> None:
    def fails() -> int:
        raise OSError(5, "Input/output error")

    disk_has(engine, fails, 1)
    async with running(engine):
        await engine.beat()
        time.advance(MINUTE)
        await engine.beat()
        assert await beat(engine.store) == time.now()
        assert engine.trouble.error == f"{engine.store.path}: Input/output error"
    await engine.store.close()
