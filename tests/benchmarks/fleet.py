"""`make bench-fleet`: workers on a PostgreSQL beside one daemon on SQLite, and what each costs.

The vendor, the server and the workers share the machine. So the CPU of each process is measured, and the limit of a
row is the process, or the machine, that has no CPU left.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crew import STORE
from measure import CORES, ENVIRON, HERE, cpu_of, end_on_sigterm, machine, quantile

sys.path.insert(0, str(HERE.parent))  # the server of the tests
from postgres import HOW, Postgres, programs

SETTINGS = {"shared_buffers": "256MB", "max_wal_size": "4GB", "max_connections": "100"}
"""`fsync` and `full_page_writes` are on. No checkpoint falls into a short row."""
FULL_CORE = 0.93
"""A process that uses more of a core is the limit."""
LONGEST = 300.0
"""Seconds until something must have come."""


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    seconds: float
    """Of each load."""
    quiet: int
    """For one worker; for several, twice as many."""
    busy: int
    """Sources at `OFTEN` seconds: more than can be visited, and so few that each is visited within three times that."""
    many: int
    """At `interval` seconds."""
    interval: float
    backlog: int
    webhooks: int
    """A second."""
    workers: tuple[int, ...]


FULL = Size(12, 3600, 1800, 50_000, 60, 100_000, 1000, (1, 2, 4))
QUICK = Size(4, 2400, 1000, 2000, 5, 20_000, 300, (1, 2))
TINY = Size(3, 60, 60, 40, 1, 1000, 20, (2,))
FIRST, OFTEN = 10.0, 2.0
"""Seconds between visits until each source had its first one, which costs more, and then."""


# -- processes ---------------------------------------------------------------------------------------------------------


class Member:
    """A process of ours that answers lines."""

    def __init__(self, script: str, *args: object, folder: Path | None = None, **environ: str) -> None:
        command = [sys.executable, str(HERE / script), *map(str, args)]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, text=True, env={**ENVIRON, **environ}, cwd=folder
        )
        self.pid = self._process.pid

    def line(self) -> str:
        """What it prints next."""
        assert self._process.stdout is not None
        said = self._process.stdout.readline()
        if not said:
            raise SystemExit(f"{' '.join(self._process.args[1:4])} has ended by itself")  # type: ignore[index]
        return said.strip()

    def ask(self, line: str = "") -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def close(self) -> str:
        """Let it end. Returns what it printed."""
        try:
            rest, _ = self._process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            rest, _ = self._process.communicate()
        return rest

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


def tree(pid: int) -> float:
    """CPU seconds of a process, of its children, and of children that have ended."""
    own = cpu_of(pid)
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    found = own + sum(map(int, fields[13:15])) / os.sysconf("SC_CLK_TCK")
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        with contextlib.suppress(OSError):  # it has just ended
            found += cpu_of(int(child))
    return found


@dataclass
class Costs:
    """CPU seconds by part, and bytes of WAL."""

    worker: list[float]
    server: float
    vendor: float
    wal: int
    at: float = field(default_factory=time.perf_counter)


@dataclass
class Crew:
    """A store, a vendor, and workers."""

    members: list[Member]
    ports: list[int]
    server: Postgres | None
    database: str
    vendor: int

    def costs(self) -> Costs:
        wal = 0
        if self.server is not None:
            [[wal]] = self.server.run("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn")
        own = [cpu_of(each.pid) for each in self.members]
        served = tree(self.server.pid) if self.server is not None else 0.0
        return Costs(own, served, cpu_of(self.vendor), int(wal))

    def figures(self, line: str = "") -> list[dict[str, Any]]:
        for each in self.members:
            each.ask(line)
        return [json.loads(each.line()) for each in self.members]

    def until(self, condition: Callable[[list[dict[str, Any]]], bool], every: float = 0.25) -> None:
        ends = time.monotonic() + LONGEST
        while not condition(self.figures()):
            if time.monotonic() > ends:
                raise SystemExit("the workers do not come to the work that is measured")
            time.sleep(every)


@contextlib.contextmanager
def crew(
    server: Postgres | None, workers: int, work: tuple[str, int, float], vendor_: tuple[int, str]
) -> Iterator[Crew]:
    """Workers on a new store: on the server, or one daemon on SQLite."""
    kind, sources, interval = work
    pid, url = vendor_
    with tempfile.TemporaryDirectory() as folder:
        name = server.database() if server is not None else ""
        place = server.url(name) if server is not None else str(Path(folder) / "roundsman.db")
        members: list[Member] = []
        try:
            for n in range(workers):
                own = Path(folder) / f"w{n}"
                own.mkdir()
                args = (f"w{n}", kind, url, sources, interval)
                members.append(Member("crew.py", *args, folder=own, **{STORE: place}))
            ports = [int(each.line().removeprefix("ready ")) for each in members]
            yield Crew(members, ports, server, name, pid)
            for each in members:
                each.close()
        finally:
            for each in members:
                each.kill()
            if server is not None:
                server.drop(name)


# -- figures -----------------------------------------------------------------------------------------------------------


@dataclass
class Result:
    """One line of a row."""

    who: str
    count: float
    seconds: float
    costs: tuple[list[float], float, float]
    """CPU seconds of each worker, of the server and of the vendor."""
    wal: int
    note: str = ""

    @property
    def rate(self) -> float:
        return self.count / self.seconds

    @property
    def each(self) -> float:
        """CPU microseconds of workers and server for one."""
        return (sum(self.costs[0]) + self.costs[1]) / max(1, self.count) * 1e6

    def limit(self) -> str:
        """What has no CPU left."""
        workers, served, vendor_ = ([each / self.seconds for each in self.costs[0]], *self.costs[1:])
        total = (sum(self.costs[0]) + served + vendor_) / self.seconds
        if max(workers) > FULL_CORE:
            return "worker"
        if vendor_ / self.seconds > FULL_CORE:
            return "vendor"
        return "machine" if total > FULL_CORE * len(CORES) else "-"


def between(crew_: Crew, before: Costs, count: float, note: str = "") -> Result:
    after = crew_.costs()
    kind = "worker" if len(crew_.members) == 1 else "workers"
    who = f"{len(crew_.members)} {kind}" if crew_.server is not None else "SQLite"
    spent = [late - early for early, late in zip(before.worker, after.worker, strict=True)]
    costs = (spent, after.server - before.server, after.vendor - before.vendor)
    return Result(who, count, after.at - before.at, costs, after.wal - before.wal, note)


HEAD = (
    "| work, by | a second | worker us | server us | vendor us | WAL B | CPU x SQLite | limit |",
    "|---|---|---|---|---|---|---|---|",
)


def show(work: str, results: Iterable[Result]) -> None:
    """The lines of a row as they come: CPU microseconds and bytes for one, and the CPU of workers and server against SQLite's."""
    print(f"| **{work}** | | | | | | | |", flush=True)
    base = 0.0
    for each in results:
        base = base or each.each or 1.0  # of a tiny amount, no CPU may be counted
        workers, served, vendor_ = sum(each.costs[0]), each.costs[1], each.costs[2]
        costs = " | ".join(f"{cpu / max(1, each.count) * 1e6:,.0f}" for cpu in (workers, served, vendor_))
        wal = f"{each.wal / max(1, each.count):,.0f}" if each.wal else "-"
        who = f"{each.who}{each.note and ': '}{each.note}"
        print(f"| {who} | {each.rate:,.0f} | {costs} | {wal} | {each.each / base:.2f} | {each.limit()} |", flush=True)  # fmt: skip


# -- the rows ----------------------------------------------------------------------------------------------------------


def each_side(
    size: Size, server: Postgres, workers: tuple[int, ...]
) -> Iterator[tuple[Postgres | None, int]]:
    yield None, 1
    for count in workers:
        yield server, count


def visited(size: Size, server: Postgres, kind: str, sources: tuple[int, int]) -> Iterator[Result]:
    """Visits of sources that are all due all the time; `sources` of one worker and of several."""
    with stub() as vendor_:
        for side, workers in each_side(size, server, size.workers):
            count = sources[workers > 1]
            with crew(side, workers, (kind, count, FIRST), vendor_) as found:
                found.until(lambda each, enough=count: sum(e["visited"] for e in each) >= enough)
                found.figures(str(OFTEN))
                time.sleep(OFTEN)
                found.figures()
                before = found.costs()
                time.sleep(size.seconds)
                yield between(found, before, sum(each["count"] for each in found.figures()))


def quiet(size: Size, server: Postgres) -> None:
    """Visits that find nothing: a 304."""
    show(
        "unchanged visits, all that are possible",
        visited(size, server, "quiet", (size.quiet, 2 * size.quiet)),
    )


def busy(size: Size, server: Postgres) -> None:
    """Visits that find an event each."""
    show(
        "visits with an event each, all that are possible",
        visited(size, server, "busy", (size.busy, size.busy)),
    )


def many(size: Size, server: Postgres) -> None:
    """Many sources at an interval, of which 1 % have an event: how late (p50/p99), and memory of a worker; after how long each was visited once."""
    show(f"{size.many:,} sources at {size.interval:.0f} s, 1 % changed", _many(size, server))


def _many(size: Size, server: Postgres) -> Iterator[Result]:
    with stub() as vendor_:
        for side, workers in each_side(size, server, tuple(n for n in size.workers if n <= 2)):
            with crew(side, workers, ("some", size.many, size.interval), vendor_) as found:
                began = time.monotonic()
                found.until(lambda each: sum(e["visited"] for e in each) >= size.many, 1.0)
                first = time.monotonic() - began
                time.sleep(size.interval)  # a first visit costs more: the next ones are late for a while
                early = max(figures["head"] for figures in found.figures())
                before = found.costs()
                time.sleep(size.interval / 2)
                each = found.figures()
                events = max(figures["head"] for figures in each) - early
                late = sorted(one for figures in each for one in figures["late"])
                p50, p99 = (quantile(late, share) * 1000 for share in (0.5, 0.99))
                peak = max(figures["peak_mb"] for figures in each)
                note = f"late {p50:,.0f}/{p99:,.0f} ms, {peak:.0f} MB, {events} events, all visited after {first:.0f} s"
                yield between(found, before, sum(figures["count"] for figures in each), note)


def backlog(size: Size, server: Postgres) -> None:
    """A backlog into a file, log kept."""
    show(f"backlog of {size.backlog:,} events into a file, log kept", _backlog(size, server))


def _backlog(size: Size, server: Postgres) -> Iterator[Result]:
    for side, workers in each_side(size, server, (1,)):
        with (
            vendor_of("history", size.backlog) as vendor_,
            crew(side, workers, ("backlog", 1, 3600.0), vendor_) as found,
        ):
            before = found.costs()
            early = found.figures()[0]["delivered"]
            found.until(lambda each: each[0]["delivered"] >= size.backlog, 0.05)
            yield between(found, before, size.backlog - early)


def webhooks(size: Size, server: Postgres) -> None:
    """Webhooks at a rate, shared by the workers: p50/p99 to the answer."""
    show(f"{size.webhooks:,} webhooks/s, stored before the answer", _webhooks(size, server))


def _webhooks(size: Size, server: Postgres) -> Iterator[Result]:
    with vendor_of("history", 1) as vendor_:
        for side, workers in each_side(size, server, tuple(n for n in size.workers if n <= 2)):
            with crew(side, workers, ("hooks", 1, 3600.0), vendor_) as found:
                share = size.webhooks // workers
                loads = [Member("webhooks.py", "load", port, share, f"p{port}-") for port in found.ports]
                try:
                    found.until(lambda each: max(e["head"] for e in each) > size.webhooks, 0.1)
                    before = found.costs()
                    time.sleep(size.seconds)
                    after = between(found, before, 0)
                    ended = [json.loads(load.close()) for load in loads]
                finally:
                    for load in loads:
                        load.kill()
                after.count = sum(each["rate"] for each in ended) * after.seconds
                p50, p99 = (max(each[key] for each in ended) for key in ("p50", "p99"))
                lost = sum(each["thanked"] for each in ended) - max(each["head"] for each in found.figures())
                after.note = f"{p50:,.0f}/{p99:,.0f} ms, {max(0, lost):.0f} lost"
                yield after


@contextlib.contextmanager
def stub() -> Iterator[tuple[int, str]]:
    """The pid and the port of the vendor that costs little."""
    found = Member("stub.py")
    try:
        yield found.pid, found.line()
    finally:
        found.kill()


@contextlib.contextmanager
def vendor_of(*args: object) -> Iterator[tuple[int, str]]:
    """The pid and the address of a simulated vendor."""
    found = Member("vendors.py", *args)
    try:
        yield found.pid, found.line()
    finally:
        found.kill()


ROWS: dict[str, Callable[[Size, Postgres], None]] = {
    each.__name__: each for each in (quiet, busy, many, backlog, webhooks)
}
SIZES = {"quick": QUICK, "tiny": TINY}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="fleet.py",
        description="Measures rows of the table: those that are named, or all.",
        epilog="rows:\n" + "\n".join(f"  {name:12} {each.__doc__}" for name, each in ROWS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("words", nargs="*", metavar="ROW", help="a row, see below; or a size: quick or tiny")
    given = parser.parse_args()
    if unknown := set(given.words) - ROWS.keys() - SIZES.keys():
        parser.error(f"there is no row {', '.join(sorted(unknown))}; there is {', '.join(ROWS)}")
    end_on_sigterm()
    found = programs()
    if found is None:
        parser.exit(1, f"fleet.py {HOW}\n")
    size = next((SIZES[word] for word in given.words if word in SIZES), FULL)
    print(f"Before: {machine()}.\n")
    print("\n".join(HEAD), flush=True)
    server = Postgres(found, SETTINGS)
    try:
        for name in [word for word in given.words if word in ROWS] or ROWS:
            ROWS[name](size, server)
    finally:
        server.close()
    print(f"\nAfter: {machine()}.")


if __name__ == "__main__":
    main()
