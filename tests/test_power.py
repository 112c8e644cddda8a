"""Power cuts and disks that fail: what was acknowledged is there, whole, and each line once.

ROUNDSMAN_CUTS says at how many moments the power is cut and how many calls fail (CI: 10; `make proof`: 400).
"""

import asyncio
import json
import os
import random
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from budgets import CUTS
from conftest import need
from ports import free_port
from power.disk import Disk, changes, library
from processes import Daemon
from roundsman.sandbox import TOKEN, Building, Parakey, Sandbox

ROWS = 1500
KEY = {"Authorization": "Basic a2V5"}


@pytest.fixture(scope="module")
def recorder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = library(tmp_path_factory.mktemp("recorder"))
    need(made is not None, "needs a C compiler: apt install gcc libc6-dev")
    assert made is not None
    return made


def configure(folder: Path, url: str, *, listen: int = 0, receiver: str = "") -> Path:
    path = folder / "roundsman.toml"
    hook = '[sources.doors.webhook]\nheader = "Authorization"\nvalue = "Basic a2V5"\n' if listen else ""
    path.write_text(
        f'[daemon]\nstore = "{folder}/roundsman.db"\nlog_format = "json"\n'
        + (f'[listen]\naddress = "127.0.0.1:{listen}"\n' if listen else "")
        + f'[sources.doors]\ntype = "parakey.event_logs"\nbase_url = "{url}"\nstart = "beginning"\n'
        + 'interval = "200ms"\naccess_token = { env = "PARAKEY_TOKEN" }\n[sources.doors.paging]\nlimit = 50\n'
        + f'{hook}[sinks.archive]\ntype = "file"\npath = "{folder}/out/events.jsonl"\nbatch = 40\nrotate_size = "150kB"\n'
        + "compress = true\n"
        + (
            f'[sinks.crm]\ntype = "http"\nurl = "{receiver}"\ncontent = "batch"\nbatch = 20\n'
            if receiver
            else ""
        )
    )
    path.chmod(0o600)
    return path


def logged(folder: Path) -> list[str]:
    with closing(sqlite3.connect(folder / "roundsman.db")) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        if not db.execute("SELECT count(*) FROM sqlite_master WHERE name = 'events'").fetchone()[0]:
            return []  # the cut was before there were tables
        sql = "SELECT id FROM events WHERE type NOT GLOB 'roundsman.*' ORDER BY seq"
        return [key for [key] in db.execute(sql)]


def lines(folder: Path) -> list[str]:
    """The ids in the file and in what was rotated."""
    import gzip

    found = []
    files = list((folder / "out").glob("events*"))
    packed = {path.name.removesuffix(".gz") for path in files if path.suffix == ".gz"}
    for path in files:
        if path.suffix == ".tmp" or path.name in packed:  # a crash between packing and removing leaves both
            continue
        body = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        found += [json.loads(line) for line in body.splitlines()]
    return [event["id"] for event in found if not event["type"].startswith("roundsman.")]


def once(config: Path, **environ: str) -> subprocess.CompletedProcess[bytes]:
    """One round, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "roundsman", "once", "--now", "-c", str(config)],
        env={**os.environ, "HOME": str(config.parent), "PARAKEY_TOKEN": TOKEN, **environ},
        capture_output=True,
        check=False,
    )


def mend_inode(folder: Path, disk: Disk, root: Path) -> None:
    """A file that was played back has another inode than the receipt says; on a real disk it has not."""
    with closing(sqlite3.connect(folder / "roundsman.db")) as db, suppress(sqlite3.OperationalError), db:
        found = db.execute("SELECT receipt FROM sinks WHERE name = 'archive'").fetchone()
        if not found or not found[0]:
            return
        receipt = json.loads(found[0])
        current = root / "out" / "events.jsonl"
        if (
            receipt.get("inode") == disk.inodes.get(str(current))
            and (folder / "out" / "events.jsonl").exists()
        ):
            receipt["inode"] = (folder / "out" / "events.jsonl").stat().st_ino
            db.execute("UPDATE sinks SET receipt = ? WHERE name = 'archive'", (json.dumps(receipt),))


class Town:
    """A vendor with a history, a receiver of events, and what both could swear to: ids, and the moment of each."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self.thanked: list[tuple[str, int]] = []
        self.acked: list[tuple[str, int]] = []

    def now(self) -> int:
        return self.log.stat().st_size if self.log.exists() else 0

    async def receive(self, request: web.Request) -> web.Response:
        ids = [event["id"] for event in json.loads(await request.read())]
        self.acked += [(key, self.now()) for key in ids]
        return web.Response(status=204)


async def record(folder: Path, recorder: Path, log: Path, sandbox: Sandbox) -> Town:
    """Run a daemon with a backlog and webhooks under the recorder, and kill it."""
    town = Town(log)
    app = web.Application()
    app.router.add_post("/e", town.receive)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await (site := web.TCPSite(runner, "127.0.0.1", 0)).start()
    del site
    port = free_port()
    receiver = f"http://127.0.0.1:{runner.addresses[0][1]}/e"
    config = configure(folder, sandbox.url, listen=port, receiver=receiver)
    now = datetime.now(UTC).isoformat()

    async def send(client: aiohttp.ClientSession, who: int) -> None:
        for n in range(10**6):
            row = {"id": f"w{who}-{n}", "createdAt": now, "timestamp": now}
            with suppress(aiohttp.ClientError):
                async with client.post(
                    f"http://127.0.0.1:{port}/hooks/doors", json=row, headers=KEY
                ) as answer:
                    if answer.status == 200:
                        town.thanked.append((row["id"], town.now()))
            await asyncio.sleep(0.02)

    environ = {
        "LD_PRELOAD": str(recorder),
        "DISK_ROOT": str(folder),
        "DISK_LOG": str(log),
        "PARAKEY_TOKEN": TOKEN,
    }
    async with aiohttp.ClientSession() as client, Daemon(config, **environ) as daemon:
        await daemon.ready()
        sending = [asyncio.create_task(send(client, who)) for who in range(3)]
        try:
            await daemon.until(lambda: len(town.acked) >= ROWS and len(town.thanked) > 100, 60)
        finally:
            for task in sending:
                task.cancel()
            await asyncio.gather(*sending, return_exceptions=True)
            daemon.process.kill()
    await runner.cleanup()
    return town


async def test_a_power_cut_at_any_moment_takes_nothing_that_was_sworn_to(
    recorder: Path, tmp_path: Path
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")  # shown where it fails
    chance = random.Random(seed)
    parakey = Parakey()
    Building(parakey, seed).fill(ROWS, datetime.now(UTC) - timedelta(hours=2), timedelta(milliseconds=100))
    (root := tmp_path / "root").mkdir()
    log = tmp_path / "disk.log"
    async with Sandbox(parakey) as sandbox:
        town = await record(root, recorder, log, sandbox)
        found = changes(log)
        moments = sorted(chance.sample(range(len(found) // 50, len(found)), CUTS))
        disk, at = Disk(root), 0
        for number, moment in enumerate(moments):
            while at <= moment:
                disk.play(found[at])
                at += 1
            left = tmp_path / f"cut{number}"
            left.mkdir()
            how = random.Random(seed + number) if number % 2 else None
            for path, body in disk.after_a_cut(how):
                (left / path).parent.mkdir(exist_ok=True)
                (left / path).write_bytes(body)
            end = found[moment].end
            sworn = {key for key, when in (*town.thanked, *town.acked) if when <= end}
            if not (left / "roundsman.db").exists():
                assert not sworn
                continue
            kept = logged(left)
            assert len(kept) == len(set(kept))
            assert sworn <= set(kept), (seed, number, len(sworn - set(kept)))
            if number % 4 == 0:
                mend_inode(left, disk, root)
                await asyncio.to_thread(go_on, left, sandbox.url)


def go_on(folder: Path, url: str) -> None:
    """After the cut it starts again, and catches up."""
    with closing(sqlite3.connect(folder / "roundsman.db")) as db, suppress(sqlite3.OperationalError), db:
        db.execute("DELETE FROM sinks WHERE name = 'crm'")  # there may be no tables yet
    config = configure(folder, url)
    for _ in range(2):
        done = once(config)
        assert done.returncode == 0, done.stderr[-3000:]
    whole, written = logged(folder), Counter(lines(folder))
    assert {key: count for key, count in written.items() if count > 1} == {}, "no line twice"
    assert set(written) == set(whole), "and none missing"


def failing() -> list[tuple[str, int]]:
    """Which call fails, and the how-manieth."""
    kinds = {"fdatasync": 24, "fsync": 8, "write": 16, "pwrite": 120, "ftruncate": 3}
    chance = random.Random(0)
    every = [(kind, n) for kind, most in kinds.items() for n in range(1, most + 1)]
    chance.shuffle(every)
    return every[:CUTS]


@pytest.mark.parametrize(("call", "which"), failing())
async def test_a_disk_that_reports_an_error_costs_nothing(
    call: str, which: int, recorder: Path, tmp_path: Path
) -> None:
    parakey = Parakey()
    Building(parakey, 1).fill(200, datetime.now(UTC) - timedelta(hours=2), timedelta(milliseconds=100))
    async with Sandbox(parakey) as sandbox:
        config = configure(tmp_path, sandbox.url)
        environ = {"LD_PRELOAD": str(recorder), "DISK_ROOT": str(tmp_path), "DISK_FAIL": f"{call}:{which}"}
        failed = await asyncio.to_thread(once, config, **environ)
        assert b"Traceback" not in failed.stderr, failed.stderr[-3000:]
        for _ in range(2):
            done = await asyncio.to_thread(once, config)
        assert done.returncode == 0, done.stderr[-3000:]
    whole: list[Any] = logged(tmp_path)
    assert set(whole) == {row.id for row in parakey.logs}
    assert len(whole) == len(set(whole))
    assert sorted(lines(tmp_path)) == sorted(whole)
