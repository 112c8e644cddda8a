"""What the benchmarks share: processes and runs in turn, what a run costs, and a daemon in this process.

A script that measures has runs with names. `script.py NAME ARG...` makes one run in a process of its own, in a
temporary folder, and prints its figures as one JSON object.
"""

import asyncio
import contextlib
import json
import logging
import os
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog
import uvloop

from roundsman.engine.alarms import Alarms, Scheduler
from roundsman.engine.engine import Engine
from roundsman.http.transport import Clients
from roundsman.plugin import Plugin
from roundsman.sinks.file import FileSink
from roundsman.store import open_store

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
SEARCHED = [str(ROOT / "src"), str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
ENVIRON = {**os.environ, "PYTHONPATH": os.pathsep.join(SEARCHED)}
"""The environment of each process: it imports the Roundsman of this folder, not an installed one."""
CORES = sorted(os.sched_getaffinity(0))
"""Those that we may use, before any run is pinned to one."""
LINES = "events.jsonl"
BLOCK = bytes(4096)

Figures = dict[str, float]


# -- processes ---------------------------------------------------------------------------------------------------------


def pin(pid: int, core: int) -> None:
    """Let a process run on one core: 0 is the first that we may use, -1 the last. 0 for `pid`: this process."""
    if len(CORES) > 1:
        os.sched_setaffinity(pid, {CORES[core]})


@contextlib.contextmanager
def vendor(*args: object) -> Iterator[str]:
    """`vendors.py ARG...` in a process of its own, on the last core; its address."""
    command = [sys.executable, str(HERE / "vendors.py"), *map(str, args)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=ENVIRON) as process:
        assert process.stdout is not None
        try:
            pin(process.pid, -1)
            url = process.stdout.readline().strip()
            assert url, f"{' '.join(command[1:])} did not start"
            yield url
        finally:
            process.terminate()


def measured(script: str, *args: object) -> Figures:
    """The figures of one run of a script, in a process of its own."""
    command = [sys.executable, str(HERE / script), *map(str, args)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=ENVIRON) as process:
        try:
            out, errors = process.communicate()
        except BaseException:
            process.terminate()  # it ends those that it started
            raise
    if process.returncode:
        raise SystemExit(f"{script} {' '.join(map(str, args))}:\n{errors}")
    sys.stderr.write(errors)  # a warning belongs beside its figures
    found: Figures = json.loads(out)
    return found


def end_on_sigterm() -> None:
    """Let SIGTERM raise SystemExit, so that the processes that this one started end, too."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


def whole(
    command: Sequence[str], until: Callable[[], bool] | None = None, environ: Mapping[str, str] = ENVIRON
) -> Figures:
    """Wall and CPU seconds of a process, from its start to its end.

    With `until`, the wall time ends when that holds. The process is then stopped.
    """
    with tempfile.TemporaryFile() as errors:
        began = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors, env=environ)
        took = 0.0
        try:
            if until is not None:
                while not until() and not ended(process.pid):
                    time.sleep(0.01)
                took = time.perf_counter() - began
                process.terminate()
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            process.wait()
            raise
        took = took or time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            errors.seek(0)
            raise SystemExit(f"{' '.join(command)}:\n{errors.read().decode()}")
    return {"seconds": took, "user": usage.ru_utime, "cpu": usage.ru_utime + usage.ru_stime}


def ended(pid: int) -> bool:
    """Whether a process of ours has ended; its cost can still be read."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def main(
    runs: Mapping[str, Callable[..., Coroutine[Any, Any, Figures]]], loop: Callable[..., Any] = uvloop.run
) -> None:
    """Make the run that the command line names: each gets a temporary folder and the arguments."""
    end_on_sigterm()
    name, *args = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(loop(runs[name](Path(folder), *args))))


# -- figures -----------------------------------------------------------------------------------------------------------


@dataclass
class Runs:
    """The figures of several runs of the same work."""

    each: list[Figures] = field(default_factory=list)

    def __getitem__(self, key: str) -> float:
        """The median of a figure."""
        return statistics.median(figures[key] for figures in self.each)

    def over(self, other: "Runs", key: str) -> str:
        """The ratio of a figure to that of the other's run in the same turn: the median, and its range."""
        ratios = [mine[key] / theirs[key] for mine, theirs in zip(self.each, other.each, strict=True)]
        text = f"{statistics.median(ratios):.2f} x"
        return f"{text} ({min(ratios):.2f}-{max(ratios):.2f})" if len(ratios) > 1 else text


def in_turn(times: int, *runs: Callable[[], Figures]) -> list[Runs]:
    """The runs one after the other, several times over: a noisy minute then meets all of them."""
    found = [Runs() for _ in runs]
    for _ in range(times):
        for results, run in zip(found, runs, strict=True):
            results.each.append(run())
    return found


def quantile(values: Sequence[float], share: float) -> float:
    """The value that this share of all is not above."""
    return sorted(values)[int(share * (len(values) - 1))]


class Cost:
    """What this process spends from now on: wall time, and the CPU time of all its threads."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def figures(self, count: int) -> Figures:
        """Seconds, pieces of work per second, CPU microseconds for each, and CPU in cores."""
        wall, cpu = time.perf_counter() - self._wall, time.process_time() - self._cpu
        return {
            "seconds": wall,
            "rate": count / wall,
            "cpu": cpu,
            "us": cpu / count * 1e6,
            "core": cpu / wall,
        }


def cpu_of(pid: int) -> float:
    """CPU seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def memory(key: str, pid: int | str = "self") -> float:
    """MB of a line of /proc/PID/status: VmRSS is the current memory, VmHWM the peak since the start."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return float(next(line for line in lines if line.startswith(key)).split()[1]) / 1024


def machine() -> str:
    """What the figures depend on: cores, versions, the disk under our temporary folders, other work."""
    took = []
    with tempfile.TemporaryFile(buffering=0) as file:
        for _ in range(300):
            file.write(BLOCK)
            began = time.perf_counter()
            os.fsync(file.fileno())
            took.append((time.perf_counter() - began) * 1000)
    loads = " ".join(f"{load:.1f}" for load in os.getloadavg())
    return (
        f"{len(CORES)} cores, Python {sys.version.split()[0]}, SQLite {sqlite3.sqlite_version}; "
        f"an fsync takes {quantile(took, 0.5):.2f} ms (median), {quantile(took, 0.99):.2f} ms (p99); "
        f"load average {loads}"
    )


# -- a daemon in this process ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Running:
    """An engine that runs, with its store, its alarms and its connections."""

    engine: Engine
    _task: asyncio.Task[None]

    async def until(self, condition: Callable[[], Awaitable[bool]], every: float = 0.02) -> None:
        """Wait for what it does. Raises what ended it."""
        while not await condition():
            if self._task.done():
                await self._task
                raise AssertionError("the engine stopped by itself")
            await asyncio.sleep(every)

    async def until_delivered(self, count: int) -> None:
        """Wait until the file sink has acknowledged so many events."""

        async def delivered() -> bool:
            return (await self.engine.store.cursor("archive"))[0] >= count

        await self.until(delivered)

    async def until_visited(self) -> None:
        """Wait until each source was visited with success."""

        async def visited() -> bool:
            return all(watched.status.last_success is not None for watched in self.engine.roster.values())

        await self.until(visited, 0.2)


@contextlib.asynccontextmanager
async def daemon(
    folder: Path, sources: Mapping[str, Any], sinks: Mapping[str, Any] = {}, alarms: Alarms | None = None
) -> AsyncIterator[Running]:
    """The daemon's engine, about to start. Nothing of it has run before the first `await`."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    store = await open_store(folder / "roundsman.db")
    engine = Engine(store, alarms or Scheduler(), Clients())
    await engine.setup(named(sources), named(sinks))
    task = asyncio.create_task(engine.run())
    try:
        yield Running(engine, task)
    finally:
        engine.stop()
        await task
        await engine.aclose()
        await store.close()


def named(plugins: Mapping[str, Any]) -> dict[str, Any]:
    """Sources or sinks with their names."""
    found: dict[str, Plugin] = {name: plugin.named(name) for name, plugin in plugins.items()}
    return found


def file_sink(folder: Path) -> dict[str, FileSink]:
    """A sink that writes to the file that `Lines` counts."""
    return {"archive": FileSink(type="file", path=folder / LINES)}


class Lines:
    """Counts the lines of the sink's file, also while it grows."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / LINES
        self._read = self._count = 0

    def __call__(self) -> int:
        if self._path.exists():
            with self._path.open("rb") as file:
                file.seek(self._read)
                self._count += sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(1 << 20), b""))
                self._read = file.tell()
        return self._count
