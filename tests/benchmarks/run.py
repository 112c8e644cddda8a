"""`make bench`: our figures beside the bare tools', in one Markdown table. Ratios and medians: machines are noisy.

`run.py quick` leaves out the long rows (50,000 sources, 1,000,000 events, 10,000 connections).
"""

import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ENVIRON = {"PYTHONPATH": str(HERE.parent), **os.environ}


@contextlib.contextmanager
def sandbox(rows: int) -> Iterator[str]:
    """A vendor in a process of its own."""
    with serving("-m", "roundsman.sandbox", "--rows", str(rows), "--per-second", "0") as url:
        yield url


@contextlib.contextmanager
def serving(*args: str) -> Iterator[str]:
    """A process that prints its address first."""
    command = [sys.executable, *args]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=ENVIRON) as process:
        assert process.stdout is not None
        try:
            if (os.cpu_count() or 1) > 1:
                os.sched_setaffinity(process.pid, {1})
            yield next(word for word in process.stdout.readline().split() if word.startswith("http"))
        finally:
            process.terminate()


def measure(script: str, *args: object, **environ: str) -> dict[str, float]:
    """One run in a process of its own."""
    command = [sys.executable, str(HERE / script), *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=ENVIRON | environ)
    if done.returncode:
        raise SystemExit(done.stderr)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def in_turn(times: int, *runs: Any) -> list[dict[str, float]]:
    """The runs one after the other, several times over: the median of each figure."""
    found: list[list[dict[str, float]]] = [[] for _ in runs]
    for _ in range(times):
        for results, run in zip(found, runs, strict=True):
            results.append(run())
    return [{key: statistics.median(r[key] for r in results) for key in results[0]} for results in found]


def row(what: str, ours: str, bare: str, goal: str) -> None:
    print(f"| {what} | {ours} | {bare} | {goal} |", flush=True)


def poll() -> None:
    with sandbox(100) as url:
        bare, ours = in_turn(
            3,
            lambda: measure("polls.py", "bare", url, 3000),
            lambda: measure("polls.py", "ours", url, 1000, 2, 6),
        )
    row(
        "an unchanged poll, CPU of our process",
        f"{ours['us']:.0f} us = {ours['us'] / bare['us']:.2f} x",
        f"{bare['us']:.0f} us: the 304 alone, httpx over aiohttp",
        "2 x the bare request",
    )


def many() -> None:
    with sandbox(100) as url:
        ours = measure("polls.py", "ours", url, 50_000, 60, 60, ONE_CORE="0")
    row(
        "50,000 sources at 60 s on one core",
        f"p99 {ours['late_p99'] * 1000:.0f} ms late, {ours['core'] * 100:.0f} % of the core, {ours['peak_mb']:.0f} MB",
        f"{ours['polls_per_s']:.0f} polls/s served",
        "p99 under 1 s, under 300 MB",
    )


def backlog() -> None:
    with sandbox(100_000) as url:
        bare, ours = in_turn(
            3,
            lambda: measure("backlog.py", "bare", url, 100_000),
            lambda: measure("backlog.py", "ours", url, 100_000),
        )
    row(
        "backlog of 100,000 events, page to JSON line, log kept",
        f"{ours['rate']:,.0f} events/s = {ours['rate'] / bare['rate']:.2f} x",
        f"{bare['rate']:,.0f} events/s: a bare loop with an outbox, no log, no unique ids",
        "50,000 events/s",
    )


def million() -> None:
    with sandbox(1_000_000) as url:
        ours = measure("backlog.py", "ours", url, 1_000_000)
    row(
        "backlog of 1,000,000 events",
        f"{ours['rate']:,.0f} events/s, {ours['peak_mb']:.0f} MB",
        "-",
        "under 100 MB",
    )


def archive() -> None:
    for failing, note in (("0.05", "5 % of them failed"), ("1", "all of them failed")):
        with serving(str(HERE / "vendors.py"), "serve", "archive", "100000", failing) as url:
            bare, ours = in_turn(
                3,
                lambda url=url: measure("vendors.py", "bare-archive", url),
                lambda url=url: measure("vendors.py", "archive", url),
            )
        row(
            f"results of 100,000 operations, {note}, link to JSON lines",
            f"{ours['rate']:,.0f} operations/s = {ours['rate'] / bare['rate']:.2f} x, {ours['peak_mb']:.0f} MB",
            f"{bare['rate']:,.0f} operations/s: download, tarfile, json, count",
            "20,000 operations/s, under 150 MB",
        )


def connections() -> None:
    with serving(str(HERE / "vendors.py"), "serve", "connections", "10000") as url:
        bare = measure("vendors.py", "bare-connections", url, 3000)
        ours = measure("vendors.py", "connections", url, 125)
    row(
        "10,000 Railz connections at 60 s, nothing new, CPU for each",
        f"{ours['us']:.0f} us = {ours['us'] / bare['us']:.2f} x; a round takes {ours['round_s']:.1f} s, {ours['peak_mb']:.0f} MB",
        f"{bare['us']:.0f} us: the 304 alone, httpx over aiohttp",
        "2 x the bare request, one request each",
    )


def latency() -> None:
    [ours] = in_turn(3, lambda: measure("latency.py", 200))
    row(
        "response received to sink called, idle",
        f"p50 {ours['p50']:.1f} ms, p99 {ours['p99']:.1f} ms",
        "-",
        "p99 under 20 ms",
    )


def webhooks(quick: bool) -> None:
    seconds = 10 if quick else 60
    bare, ours = in_turn(
        1,
        lambda: measure("webhooks.py", "bare", 1000, seconds),
        lambda: measure("webhooks.py", "ours", 1000, seconds),
    )
    row(
        f"1,000 webhooks/s for {seconds} s while 20 sources are polled each second, then kill -9",
        f"{ours['rate']:,.0f}/s, p50 {ours['p50']:.1f} ms, p99 {ours['p99']:.1f} ms, {ours['core'] * 100:.0f} % of a core; "
        f"{ours['lost']:.0f} of {ours['thanked']:,.0f} lost",
        f"p50 {bare['p50']:.1f} ms, p99 {bare['p99']:.1f} ms: Starlette, uvicorn, one commit for each",
        "1,000/s, p99 under 50 ms, none lost",
    )


def start_and_idle() -> None:
    from processes import Daemon, configure
    from roundsman.sandbox import TOKEN, Parakey, Sandbox

    async def to_first_poll(folder: Path) -> float:
        parakey = Parakey()
        async with Sandbox(parakey) as box:
            config = configure(folder, box.url, '[sinks.out]\ntype = "file"\npath = "events.jsonl"\n')
            began = time.perf_counter()
            async with Daemon(config, PARAKEY_TOKEN=TOKEN) as daemon:
                await daemon.until(lambda: parakey.asked)
                return time.perf_counter() - began

    async def idle(folder: Path, seconds: float) -> tuple[float, float]:
        parakey = Parakey()
        async with Sandbox(parakey) as box:
            config = configure(folder, box.url, '[sinks.out]\ntype = "file"\npath = "events.jsonl"\n')
            more = "".join(
                f'[sources.s{n}]\ntype = "parakey.event_logs"\nbase_url = "{box.url}"\naccess_token = "{TOKEN}"\n'
                for n in range(9)
            )
            config.write_text(config.read_text() + more)
            async with Daemon(config, PARAKEY_TOKEN=TOKEN) as daemon:
                await daemon.until(lambda: parakey.asked >= 10)
                proc = Path(f"/proc/{daemon.process.pid}")
                ticks = lambda: sum(map(int, (proc / "stat").read_text().split()[13:15]))  # noqa: E731
                before = ticks()
                await asyncio.sleep(seconds)
                used = (ticks() - before) / os.sysconf("SC_CLK_TCK") / seconds
                line = next(x for x in (proc / "status").read_text().splitlines() if x.startswith("VmRSS"))
                return used, int(line.split()[1]) / 1024

    times = []
    for _ in range(9):
        with tempfile.TemporaryDirectory() as folder:
            times.append(asyncio.run(to_first_poll(Path(folder))))
    imports = "import uvloop, httpx, aiohttp, httpx_aiohttp, apscheduler.schedulers.asyncio, tenacity, sqlite_utils, structlog, pydantic"
    code = f"import time; t = time.perf_counter(); {imports}; print(time.perf_counter() - t, open('/proc/self/statm').read().split()[1])"
    bare = [
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.split()
        for _ in range(5)
    ]
    row(
        "start of the process to the first request",
        f"{statistics.median(times):.2f} s",
        f"{statistics.median(float(b[0]) for b in bare):.2f} s: the bare imports",
        "0.7 s",
    )
    with tempfile.TemporaryDirectory() as folder:
        used, memory = asyncio.run(idle(Path(folder), 60))
    row(
        "idle with 10 sources at 60 s",
        f"{used * 100:.2f} % CPU, {memory:.0f} MB",
        f"{statistics.median(int(b[1]) for b in bare) * 4 / 1024:.0f} MB: the bare imports",
        "0.2 % CPU, 60 MB",
    )


def main() -> None:
    quick = sys.argv[1:] == ["quick"]
    sys.path.insert(0, str(HERE.parent))
    print("| work | roundsman | the bare tool, same run | goal |\n|---|---|---|---|", flush=True)
    for part in (
        poll,
        *(() if quick else (many,)),
        backlog,
        *(() if quick else (million,)),
        archive,
        *(() if quick else (connections,)),
        latency,
        lambda: webhooks(quick),
        start_and_idle,
    ):
        part()


if __name__ == "__main__":
    main()
