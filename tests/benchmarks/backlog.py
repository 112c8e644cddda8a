"""One backlog run in a process of its own, so that its memory is its own: prints events/s and peak memory.

`ours`: fetch, parse, normalise, commit to the log, deliver to the file sink, ack. `bare`: the same job as a bare loop:
fetch, one transaction a page with an outbox, a JSON line, ack.
"""

import asyncio
import json
import resource
import sqlite3
import sys
import tempfile
import time
from pathlib import Path

import structlog
import uvloop

from roundsman.engine.alarms import Scheduler
from roundsman.engine.engine import Engine
from roundsman.http.transport import Clients
from roundsman.sandbox import TOKEN
from roundsman.sinks.file import FileSink
from roundsman.sources.parakey import EventLogs
from roundsman.store.sqlite.store import SqliteStore


async def ours(url: str, folder: Path, rows: int) -> float:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))
    store = SqliteStore.open(folder / "store.db")
    web = Clients()
    engine = Engine(store, Scheduler(), web)
    source = EventLogs(
        type="parakey.event_logs", base_url=url, access_token=TOKEN, start="beginning", interval=3600
    ).named("doors")
    sink = FileSink(type="file", path=folder / "events.jsonl").named("archive")
    await engine.setup({"doors": source}, {"archive": sink})
    began = time.perf_counter()
    running = asyncio.create_task(engine.run())
    while (await store.cursor("archive"))[0] < rows:
        await asyncio.sleep(0.02)
    took = time.perf_counter() - began
    engine.stop()
    await running
    await web.aclose()
    assert await store.head() == rows
    await store.close()
    return took


async def bare(url: str, folder: Path, rows: int) -> float:
    from httpx_aiohttp import HttpxAiohttpClient

    conn = sqlite3.connect(folder / "bare.db", isolation_level=None)
    conn.executescript(
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; CREATE TABLE outbox (seq INTEGER PRIMARY KEY, body TEXT);"
        "CREATE TABLE state (cursor TEXT);"
    )
    told, at, last = 0, "", ""
    out = (folder / "bare.jsonl").open("w")
    began = time.perf_counter()
    async with HttpxAiohttpClient(headers={"access-token": TOKEN}) as client:
        while told < rows:
            query = {"limit": "1000", "orderBy": "createdAt:ASC"} | ({"startDate": at} if at else {})
            page = (await client.get(f"{url}/eventLogs", params=query)).json()
            fresh = page[1:] if page[0]["id"] == last else page
            at, last = page[-1]["createdAt"], page[-1]["id"]
            lines = [json.dumps(row) for row in fresh]
            with conn:
                conn.execute("BEGIN")
                conn.executemany("INSERT INTO outbox (body) VALUES (?)", [(line,) for line in lines])
                conn.execute("DELETE FROM state")
                conn.execute("INSERT INTO state VALUES (?)", (at,))
                conn.execute("COMMIT")
            out.write("\n".join(lines) + "\n")
            out.flush()
            conn.execute("DELETE FROM outbox")
            told += len(lines)
    return time.perf_counter() - began


def main() -> None:
    which, url, rows = sys.argv[1], sys.argv[2], int(sys.argv[3])
    with tempfile.TemporaryDirectory() as folder:
        took = uvloop.run((ours if which == "ours" else bare)(url, Path(folder), rows))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"rate": rows / took, "peak_mb": peak}))


if __name__ == "__main__":
    main()
