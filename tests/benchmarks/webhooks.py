"""Webhooks at a fixed rate: a slow answer delays no other webhook.

`ours RATE SECONDS`: to the real daemon, which polls 20 sources each second and is then killed. `bare RATE SECONDS`: to
Starlette and uvicorn with one SQLite commit for each. Both answer 200 once the webhook is on the disk.
`storm URL RATE SOURCES INTERVAL ROWS`: to a daemon in this process, which polls so many sources and reads a backlog
meanwhile. `load PORT RATE [WORD]`: the webhooks alone, until standard input ends; their ids begin with the word.
"""

import asyncio
import json
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import count
from math import inf
from pathlib import Path

from measure import ENVIRON, Cost, Figures, cpu_of, daemon, file_sink, main, memory, named, pin, quantile
from polls import Lateness

from roundsman.options.listen import Address, ListenOptions
from roundsman.sandbox import TOKEN, Parakey, Sandbox
from roundsman.sources.parakey import EventLogs

CONNECTIONS = 900
"""At most; the daemon takes 1,000."""
POLLED = 20
GRACE = 5.0
"""Seconds after the end in which webhooks are sent that are late already."""
VALUE = "Basic YmVuY2htYXJrOmxvYWQ="
TICK = 0.005
"""Seconds between two looks at whether the event loop comes back."""
STALL = 0.020
LONGEST_START = 20.0
BARE = """
import sqlite3, sys
import uvicorn
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("PRAGMA journal_mode = WAL")
db.execute("PRAGMA synchronous = FULL")
db.execute("CREATE TABLE events (id INTEGER PRIMARY KEY, body BLOB)")
async def receive(request):
    db.execute("INSERT INTO events (body) VALUES (?)", (await request.body(),))
    return Response()
app = Starlette(routes=[Route("/hooks/doors", receive, methods=["POST"])])
uvicorn.run(app, port=int(sys.argv[2]), log_level="error", access_log=False)
"""
CONFIG = """
[daemon]
store = "roundsman.db"
log_level = "warning"
[listen]
address = "127.0.0.1:{port}"
[sinks.archive]
type = "file"
path = "events.jsonl"
[sources.doors]
type = "parakey.event_logs"
base_url = "{vendor}"
access_token = "{token}"
[sources.doors.webhook]
header = "Authorization"
value = "{value}"
"""
POLLED_CONFIG = """
[sources.polled-{n}]
type = "parakey.event_logs"
base_url = "{vendor}"
access_token = "{token}"
interval = "1s"
"""


class Load:
    """Sends `rate` webhooks a second, and records which were acknowledged, and when.

    Each goes out when it is due, on a connection that is free or a new one: callers do not wait for each other.
    """

    def __init__(self, port: int, rate: int, word: str = "w") -> None:
        self._port, self._rate, self._word = port, rate, word
        self.ends = inf
        """When no more are sent."""
        self.thanked: list[str] = []
        self._took: list[float] = []
        self._held: list[float] = []
        """How late each was sent: the machine is too slow for the load, or there is no connection left."""
        self._refused = self._unsent = 0
        self._places = asyncio.Semaphore(CONNECTIONS)
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._now = datetime.now(UTC).isoformat()

    async def run(self, seconds: float = inf) -> Figures:
        """Milliseconds from when each was due to its answer."""
        began = time.perf_counter()
        self.ends = began + seconds
        async with asyncio.TaskGroup() as group:
            for number in count():
                due = began + number / self._rate
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                if due >= self.ends:
                    break
                group.create_task(self._send(f"{self._word}{number:07d}", due))
        took = time.perf_counter() - began
        for _, writer in self._idle:
            writer.close()
        return {
            "rate": len(self.thanked) / took,
            "p50": quantile(self._took, 0.5) * 1000,
            "p99": quantile(self._took, 0.99) * 1000,
            "most": max(self._took) * 1000,
            "sent_p99": quantile(self._held, 0.99) * 1000,
            "thanked": len(self.thanked),
            "refused": self._refused,
            "unsent": self._unsent,
        }

    async def _send(self, key: str, due: float) -> None:
        body = json.dumps(
            {
                "id": key,
                "createdAt": self._now,
                "timestamp": self._now,
                "device": {"id": "dEvIcE0001", "name": "Main entrance"},
                "user": {"id": "uSeR000001", "name": "Ada", "email": "ada@harbour.example"},
                "success": True,
            }
        ).encode()
        head = f"POST /hooks/doors HTTP/1.1\r\nHost: x\r\nAuthorization: {VALUE}\r\nContent-Length: {len(body)}\r\n\r\n"
        async with self._places:
            if time.perf_counter() > self.ends + GRACE:
                self._unsent += 1
                self._took.append(time.perf_counter() - due)  # at least
                return
            try:
                free = (
                    self._idle.pop() if self._idle else await asyncio.open_connection("127.0.0.1", self._port)
                )
                reader, writer = free
                self._held.append(time.perf_counter() - due)
                writer.write(head.encode() + body)
                answer = await reader.readuntil(b"\r\n\r\n")
            except (OSError, EOFError):
                self._refused += 1
                return
            self._idle.append(free)
        self._took.append(time.perf_counter() - due)
        if answer.startswith(b"HTTP/1.1 200"):
            self.thanked.append(key)
        else:
            self._refused += 1


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def ready(port: int) -> None:
    async with asyncio.timeout(LONGEST_START):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                return


# -- on a daemon that is killed ----------------------------------------------------------------------------------------


async def ours(folder: Path, rate: str, seconds: str) -> Figures:
    port, config = free_port(), folder / "roundsman.toml"
    async with Sandbox(Parakey()) as box:
        words = {"port": port, "vendor": box.url, "token": TOKEN, "value": VALUE}
        polled = "".join(POLLED_CONFIG.format(n=n, **words) for n in range(POLLED))
        config.write_text(CONFIG.format(**words) + polled)
        config.chmod(0o600)

        def stored() -> set[str]:
            db = sqlite3.connect(folder / "roundsman.db")
            found = db.execute("SELECT id, count(*) FROM events GROUP BY source, id").fetchall()
            db.close()
            return {key for key, times in found if times == 1}

        command = [sys.executable, "-m", "roundsman", "run", "-c", str(config)]
        return await _killed(command, Load(port, int(rate)), port, float(seconds), stored)


async def bare(folder: Path, rate: str, seconds: str) -> Figures:
    port = free_port()

    def stored() -> set[str]:
        db = sqlite3.connect(folder / "bare.db")
        found = db.execute("SELECT body FROM events").fetchall()
        db.close()
        return {json.loads(body)["id"] for (body,) in found}

    command = [sys.executable, "-c", BARE, str(folder / "bare.db"), str(port)]
    return await _killed(command, Load(port, int(rate)), port, float(seconds), stored)


async def _killed(
    command: list[str], load: Load, port: int, seconds: float, stored: Callable[[], set[str]]
) -> Figures:
    """The server under load, killed with SIGKILL at the end; what it acknowledged must be on the disk."""
    with subprocess.Popen(command, stderr=sys.stderr, stdout=sys.stderr, env=ENVIRON) as process:
        pin(process.pid, 0)
        pin(0, -1)
        try:
            await ready(port)
            before = cpu_of(process.pid)
            figures = await load.run(seconds)
            core = (cpu_of(process.pid) - before) / seconds
        finally:
            process.send_signal(signal.SIGKILL)
    return {**figures, "core": core, "lost": len(set(load.thanked) - stored())}


# -- beside a backlog --------------------------------------------------------------------------------------------------


class Stalls:
    """How late the event loop comes back to a timer: nothing else runs meanwhile.

    The loop may be late because our code keeps it, or because the machine runs something else. Only the first
    uses this thread's CPU.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._late: list[float] = []
        self._own: list[float] = []
        self._wall, self._cpu = time.perf_counter(), time.thread_time()
        self._timer = self._loop.call_later(TICK, self._tick)

    def _tick(self) -> None:
        wall, cpu = time.perf_counter(), time.thread_time()
        self._late.append(wall - self._wall - TICK)
        self._own.append(cpu - self._cpu)
        self._wall, self._cpu = wall, cpu
        self._timer = self._loop.call_later(TICK, self._tick)

    def end(self) -> Figures:
        """Milliseconds."""
        self._timer.cancel()
        return {
            "stall_p99": quantile(self._late, 0.99) * 1000,
            "stall_most": max(self._late) * 1000,
            "own_most": max(self._own) * 1000,
            "stalls": sum(late > STALL for late in self._late),
            "ticks": len(self._late),
        }


async def storm(folder: Path, url: str, rate: str, sources: str, interval: str, rows: str) -> Figures:
    from roundsman.web import Listener

    port, lateness = free_port(), Lateness()
    account = {"type": "parakey.event_logs", "base_url": url, "access_token": TOKEN}
    hook = {"header": "Authorization", "value": VALUE}
    doors = EventLogs(**account, start="now", webhook=hook, interval=3600)
    polled = {"doors": doors, **lateness.sources(url, int(sources), float(interval))}
    backlog = EventLogs(**account, start="beginning", interval=3600)
    pin(0, 0)
    async with daemon(folder, polled, file_sink(folder), lateness.alarms) as running:
        engine = running.engine

        async def read() -> bool:
            return engine.meter.events["backlog", "poll"] >= int(rows)

        engine.listening = time.time()
        listener = Listener(engine, ListenOptions(address=Address("127.0.0.1", port)))
        await listener.start()
        await running.until_visited()
        command = [sys.executable, __file__, "load", str(port), rate]
        pipe = asyncio.subprocess.PIPE
        load = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, env=ENVIRON)
        try:
            pin(load.pid, -1)
            await asyncio.sleep(1)
            lateness.seconds.clear()
            cost, stalls = Cost(), Stalls()
            await engine.setup(named({**polled, "backlog": backlog}), named(file_sink(folder)))
            await running.until(read)
            figures = {**cost.figures(int(rows)), **lateness.figures(), **stalls.end()}
            out, _ = await load.communicate(b"")  # which ends its standard input
        except BaseException:
            load.kill()
            raise
        hooks = json.loads(out)
        await running.until_delivered(await engine.store.head())
        counts = await engine.store.counts()
        await listener.close()
    return {
        **figures,
        "polled": len(lateness.seconds),
        "lost": max(0, hooks["thanked"] - counts["doors"]) + int(rows) - counts["backlog"],
        "peak_mb": memory("VmHWM"),
        **{f"hook_{key}": value for key, value in hooks.items()},
    }


async def load(folder: Path, port: str, rate: str, word: str = "w") -> Figures:
    sending = Load(int(port), int(rate), word)
    asked_to_end = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)

    def end(_: object) -> None:
        sending.ends = time.perf_counter()

    asked_to_end.add_done_callback(end)
    return await sending.run()


if __name__ == "__main__":
    main({"ours": ours, "bare": bare, "storm": storm, "load": load})
