"""Webhooks under load: `ours RATE SECONDS` on the real daemon, which is then killed; `bare RATE SECONDS` on a plain receiver.

Both answer 200 once the webhook is on the disk. The plain one is Starlette and uvicorn with one SQLite commit for each. The load
comes at a fixed rate, whatever is answered: a slow answer delays none of the others, and counts from when it should have been sent.
"""

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).parent
CONNECTIONS = 64
VALUE = "Basic YmVuY2htYXJrOmxvYWQ="
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
POLLED = """
[sources.polled-{n}]
type = "parakey.event_logs"
base_url = "{vendor}"
access_token = "{token}"
interval = "1s"
"""


class Load:
    """Sends so many webhooks a second, and remembers which were thanked for, and when."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.thanked: list[str] = []
        self.took: list[float] = []
        self.refused = 0
        self._sent = 0

    async def run(self, rate: int, seconds: float) -> None:
        began = time.perf_counter()
        ends = began + seconds
        await asyncio.gather(
            *(self._connection(n, rate / CONNECTIONS, began, ends) for n in range(CONNECTIONS))
        )

    async def _connection(self, number: int, rate: float, began: float, ends: float) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        due, now = began + number / (rate * CONNECTIONS), datetime.now(UTC).isoformat()
        while due < ends:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            self._sent += 1
            key = f"w{number:03d}-{self._sent:07d}"
            body = json.dumps(
                {
                    "id": key,
                    "createdAt": now,
                    "timestamp": now,
                    "device": {"id": "dEvIcE0001", "name": "Main entrance"},
                    "user": {"id": "uSeR000001", "name": "Ada", "email": "ada@harbour.example"},
                    "success": True,
                }
            ).encode()
            head = f"POST /hooks/doors HTTP/1.1\r\nHost: x\r\nAuthorization: {VALUE}\r\nContent-Length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            self.took.append(time.perf_counter() - due)
            if answer.startswith(b"HTTP/1.1 200"):
                self.thanked.append(key)
            else:
                self.refused += 1
            due += 1 / rate
        writer.close()

    def figures(self, seconds: float) -> dict[str, float]:
        took = sorted(self.took)
        at = lambda share: took[int(share * (len(took) - 1))] * 1000  # noqa: E731
        return {
            "rate": len(self.thanked) / seconds,
            "p50": at(0.5),
            "p99": at(0.99),
            "most": took[-1] * 1000,
            "refused": self.refused,
        }


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def measured(
    command: list[str], port: int, rate: int, seconds: float, count: Callable[[], set[str]], **environ: str
) -> dict[str, float]:
    """The server under load, and in the end killed as hard as can be; what it thanked for must be on the disk."""
    with subprocess.Popen(
        command, stderr=sys.stderr, stdout=sys.stderr, env={**os.environ, **environ}
    ) as process:
        if (os.cpu_count() or 1) > 1:
            os.sched_setaffinity(process.pid, {0})
            os.sched_setaffinity(0, {1})
        try:
            await ready(port)
            load = Load(port)
            proc = Path(f"/proc/{process.pid}/stat")
            ticks = lambda: sum(map(int, proc.read_text().split()[13:15])) / os.sysconf("SC_CLK_TCK")  # noqa: E731
            before = ticks()
            await load.run(rate, seconds)
            core = (ticks() - before) / seconds
        finally:
            process.send_signal(signal.SIGKILL)
    lost = set(load.thanked) - count()
    return {**load.figures(seconds), "core": core, "lost": len(lost), "thanked": len(load.thanked)}


async def ready(port: int) -> None:
    async with asyncio.timeout(20):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                return


async def ours(rate: int, seconds: float) -> dict[str, float]:
    from roundsman.sandbox import TOKEN, Parakey, Sandbox

    with tempfile.TemporaryDirectory() as name:
        folder, port = Path(name), free_port()
        async with Sandbox(Parakey()) as box:
            text = CONFIG.format(port=port, vendor=box.url, token=TOKEN, value=VALUE)
            text += "".join(POLLED.format(n=n, vendor=box.url, token=TOKEN) for n in range(20))
            (folder / "roundsman.toml").write_text(text)
            (folder / "roundsman.toml").chmod(0o600)
            command = [sys.executable, "-m", "roundsman", "run", "-c", str(folder / "roundsman.toml")]

            def count() -> set[str]:
                found = sqlite3.connect(folder / "roundsman.db").execute(
                    "SELECT id, count(*) FROM events GROUP BY source, id"
                )
                return {key for key, times in found if times == 1}

            return await measured(command, port, rate, seconds, count)


async def bare(rate: int, seconds: float) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as name:
        folder, port = Path(name), free_port()
        command = [sys.executable, "-c", BARE, str(folder / "bare.db"), str(port)]

        def count() -> set[str]:
            found = sqlite3.connect(folder / "bare.db").execute("SELECT body FROM events")
            return {json.loads(body)["id"] for (body,) in found}

        return await measured(command, port, rate, seconds, count)


if __name__ == "__main__":
    which, rate, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    print(json.dumps(asyncio.run((ours if which == "ours" else bare)(rate, seconds))))
