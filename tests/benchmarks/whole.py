"""Whole processes, measured from outside: a backlog from start to end, commands that only read, start, and idling.

`once URL ROWS`; `delivered URL ROWS`: the daemon until all are delivered; `bare URL ROWS`: the bare loop. `reading URL
ROWS` and `bare-reading`; `first` and `bare-first`: until the first request; `idle SECONDS`.
"""

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

from measure import ENVIRON, HERE, LINES, Figures, Lines, cpu_of, main, memory, whole

from processes import Daemon, configure
from roundsman.sandbox import TOKEN, Parakey, Sandbox

SINK = f'[sinks.archive]\ntype = "file"\npath = "{LINES}"\n'
IMPORTS = """
import time
began = time.perf_counter()
import uvloop, httpx, aiohttp, httpx_aiohttp, apscheduler.schedulers.asyncio, tenacity, sqlite_utils, structlog, pydantic
print(time.perf_counter() - began, open("/proc/self/statm").read().split()[1])
"""
SOURCES = 10
SECRET = {**ENVIRON, "PARAKEY_TOKEN": TOKEN}


def roundsman(command: str, config: Path) -> list[str]:
    return [sys.executable, "-m", "roundsman", command, "-c", str(config)]


async def once(folder: Path, url: str, rows: str) -> Figures:
    figures = whole(roundsman("once", configure(folder, url, SINK)), environ=SECRET)
    assert Lines(folder)() == int(rows)
    return figures


async def delivered(folder: Path, url: str, rows: str) -> Figures:
    count, config = Lines(folder), configure(folder, url, SINK)
    figures = whole(roundsman("run", config), lambda: count() >= int(rows), SECRET)
    assert count() == int(rows)
    return figures


async def bare(folder: Path, url: str, rows: str) -> Figures:
    return whole([sys.executable, str(HERE / "backlog.py"), "bare", url, rows])


async def reading(folder: Path, url: str, rows: str) -> Figures:
    """User CPU seconds of each command, on a store with so many events."""
    config = configure(folder, url, SINK)
    whole(roundsman("once", config), environ=SECRET)
    assert Lines(folder)() == int(rows)
    found = {}
    for command in ("status", "events", "failures"):
        found[command] = whole(roundsman(command, config), environ=SECRET)["user"]
    return found


async def bare_reading(folder: Path) -> Figures:
    return whole([sys.executable, "-c", "import json, sqlite3"])


async def first(folder: Path) -> Figures:
    parakey = Parakey()
    async with Sandbox(parakey) as box:
        config = configure(folder, box.url, SINK)
        began = time.perf_counter()
        async with Daemon(config, PARAKEY_TOKEN=TOKEN) as daemon:
            await daemon.until(lambda: parakey.asked)
            return {"seconds": time.perf_counter() - began}


async def bare_first(folder: Path) -> Figures:
    """What the libraries cost before any code of ours: seconds of their imports, and the memory after them."""
    done = subprocess.run([sys.executable, "-c", IMPORTS], capture_output=True, text=True, check=True)
    seconds, pages = done.stdout.split()
    return {"seconds": float(seconds), "mb": int(pages) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)}


async def idle(folder: Path, seconds: str) -> Figures:
    parakey = Parakey()
    async with Sandbox(parakey) as box:
        config = configure(folder, box.url, SINK)
        more = "".join(
            f'[sources.s{n}]\ntype = "parakey.event_logs"\nbase_url = "{box.url}"\naccess_token = "{TOKEN}"\n'
            for n in range(SOURCES - 1)
        )
        config.write_text(config.read_text() + more)
        async with Daemon(config, PARAKEY_TOKEN=TOKEN) as daemon:
            await daemon.until(lambda: parakey.asked >= SOURCES)
            await asyncio.sleep(1)
            pid = daemon.process.pid
            before = cpu_of(pid)
            await asyncio.sleep(float(seconds))
            return {"core": (cpu_of(pid) - before) / float(seconds), "mb": memory("VmRSS", pid)}


if __name__ == "__main__":
    runs = {
        "once": once,
        "delivered": delivered,
        "bare": bare,
        "reading": reading,
        "bare-reading": bare_reading,
        "first": first,
        "bare-first": bare_first,
        "idle": idle,
    }
    main(runs, asyncio.run)
