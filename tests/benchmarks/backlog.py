"""A backlog, from the vendor's pages to lines in a file.

`ours URL ROWS`: fetch, parse, normalise, commit to the log, deliver to the file sink, acknowledge. `bare URL ROWS`:
what a careful person writes in thirty lines, see `bare`. `grown URL ROWS OTHER MORE`: ROWS events, and then another
source's MORE events into the store that has them.
"""

import json
import os
import sqlite3
import time
from pathlib import Path

from httpx_aiohttp import HttpxAiohttpClient
from measure import LINES, Cost, Figures, Lines, Running, daemon, file_sink, main, memory, named

from roundsman.sandbox import TOKEN
from roundsman.sources.parakey import EventLogs

MARK = 100_000
"""The first and the last so many events of a long backlog are compared."""


def source(url: str) -> EventLogs:
    return EventLogs(
        type="parakey.event_logs", base_url=url, access_token=TOKEN, start="beginning", interval=3600
    )


async def ours(folder: Path, url: str, rows: str) -> Figures:
    count = int(rows)
    async with daemon(folder, {"doors": source(url)}, file_sink(folder)) as running:
        cost = Cost()
        await running.until_delivered(count)
        figures = cost.figures(count)
    return {**figures, "peak_mb": memory("VmHWM"), "delivered": Lines(folder)()}


async def bare(folder: Path, url: str, rows: str) -> Figures:
    """A loop with an outbox: at least once, also after a power cut.

    A page's lines, the next cursor and the end of the last page's outbox are one transaction, synced to the disk.
    A page leaves the outbox only after its lines in the file are synced, too. So a page costs two syncs, and a
    crash costs lines that are written twice, never a lost one. There is no log, no unique id, no retry, no ETag.
    """
    db = sqlite3.connect(folder / "bare.db", isolation_level=None)
    db.executescript(
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; CREATE TABLE outbox (seq INTEGER PRIMARY KEY, line TEXT);"
        "CREATE TABLE state (cursor TEXT, last TEXT); INSERT INTO state VALUES ('', '');"
    )
    told, cost = 0, Cost()
    with (folder / LINES).open("a") as out:
        out.writelines(line for (line,) in db.execute("SELECT line FROM outbox ORDER BY seq"))
        [(at, last)] = db.execute("SELECT cursor, last FROM state")
        async with HttpxAiohttpClient(headers={"access-token": TOKEN}) as client:
            while told < int(rows):
                query = {"limit": "1000", "orderBy": "createdAt:ASC"} | ({"startDate": at} if at else {})
                page = (await client.get(f"{url}/eventLogs", params=query)).raise_for_status().json()
                fresh = page[1:] if page[0]["id"] == last else page
                at, last = page[-1]["createdAt"], page[-1]["id"]
                texts = [json.dumps(row) + "\n" for row in fresh]
                db.execute("BEGIN")
                db.execute("DELETE FROM outbox")
                db.executemany("INSERT INTO outbox (line) VALUES (?)", [(text,) for text in texts])
                db.execute("UPDATE state SET cursor = ?, last = ?", (at, last))
                db.execute("COMMIT")
                out.writelines(texts)
                out.flush()
                os.fsync(out.fileno())
                told += len(texts)
    figures = cost.figures(told)
    db.close()
    return {**figures, "peak_mb": memory("VmHWM"), "delivered": Lines(folder)()}


async def grown(folder: Path, url: str, rows: str, other: str, more: str) -> Figures:
    count, added = int(rows), int(more)
    mark = min(MARK, count // 2)
    sources = {"doors": source(url)}
    async with daemon(folder, sources, file_sink(folder)) as running:
        began, cost = time.perf_counter(), Cost()
        first = await _logged(running, mark)
        before = await _logged(running, count - mark)
        last = await _logged(running, count)
        await running.until_delivered(count)
        figures, peak = cost.figures(count), memory("VmHWM")
        cost = Cost()
        await running.engine.setup(named({**sources, "others": source(other)}), named(file_sink(folder)))
        await running.until_delivered(count + added)
        late = cost.figures(added)
    assert Lines(folder)() == count + added
    return {
        **figures,
        "first_rate": mark / (first - began),
        "last_rate": mark / (last - before),
        "peak_mb": peak,
        "late_rate": late["rate"],
        "late_us": late["us"],
    }


async def _logged(running: Running, count: int) -> float:
    """When so many events were in the log."""

    async def logged() -> bool:
        return await running.engine.store.head() >= count

    await running.until(logged)
    return time.perf_counter()


if __name__ == "__main__":
    main({"ours": ours, "bare": bare, "grown": grown})
