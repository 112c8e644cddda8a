"""Result archives and many connections, each side in a process of its own; prints what was measured as JSON.

`serve archive OPERATIONS FAILING` and `serve connections COUNT` are the vendors, and print their address first.
`archive URL`: the engine reads the results of one batch, to the sink's ack. `bare-archive URL`: download, `tarfile`, `json`.
`connections URL SECONDS`: rounds over all connections, one conditional request each. `bare-connections URL COUNT`: the requests alone.
"""

import asyncio
import json
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import structlog
import uvloop
from polls import status

from roundsman.engine.alarms import Scheduler
from roundsman.engine.engine import Engine
from roundsman.http.transport import Clients, HttpOptions
from roundsman.sandbox import Sandbox, Vendor
from roundsman.sandbox.mailchimp import API_KEY, Mailchimp, Operation, bad_address, pack
from roundsman.sandbox.railz import CLIENT_ID, SECRET_KEY, Railz
from roundsman.sinks.file import FileSink
from roundsman.sources.mailchimp import Batches
from roundsman.sources.railz import Pushes
from roundsman.store.sqlite.store import SqliteStore


def account(operations: int, failing: float) -> Mailchimp:
    """One finished batch, of which every so-manieth operation failed."""
    mailchimp = Mailchimp()
    every = round(1 / failing)
    fine = {
        "id": "0" * 32,
        "email_address": "somebody@harbour.example",
        "status": "subscribed",
        "merge_fields": {"FNAME": "Ada"},
    }
    made = [
        bad_address(f"row{n}@harbour", f"row-{n}") if n % every == 0 else Operation(200, fine, f"row-{n}")
        for n in range(operations)
    ]
    mailchimp.add(made, batch_id="big", archive=pack(made))
    return mailchimp


def ledger(count: int) -> Railz:
    """So many connections, each with some history."""
    railz = Railz()
    for n in range(count):
        key = railz.connect(f"CON-{n:06d}")
        railz.push(key)
    return railz


async def serve(vendor: Vendor) -> None:
    async with Sandbox(vendor) as box:
        print(box.url, flush=True)
        await asyncio.Event().wait()


async def archive(url: str, folder: Path) -> dict[str, float]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))
    store, web = SqliteStore.open(folder / "store.db"), Clients()
    engine = Engine(store, Scheduler(), web)
    source = Batches(
        type="mailchimp.batches", base_url=f"{url}/3.0", api_key=API_KEY, start="beginning", interval=3600
    )
    sink = FileSink(type="file", path=folder / "events.jsonl").named("archive")
    await engine.setup({"news": source.named("news")}, {"archive": sink})
    began = time.perf_counter()
    running = asyncio.create_task(engine.run())
    total = failed = 0
    while not total:
        await asyncio.sleep(0.02)
        head = await store.head()
        [(last, _)] = await store.events(head - 1, head, 1, _everything()) or [(None, 0)]
        if last is not None and last.id == "big:completed" and (await store.cursor("archive"))[0] >= head:
            data = last.document()["data"]
            total, failed = data["total"], data["failed"]
    took = time.perf_counter() - began
    engine.stop()
    await running
    await web.aclose()
    assert await store.head() == failed + 1
    await store.close()
    return {"rate": total / took, "failed": failed, "peak_mb": status("VmHWM")}


def _everything() -> object:
    from roundsman.store import Filter

    return Filter()


async def bare_archive(url: str, folder: Path) -> dict[str, float]:
    import httpx

    began = time.perf_counter()
    count = failed = 0
    async with httpx.AsyncClient(auth=("x", API_KEY)) as client:
        link = (await client.get(f"{url}/3.0/batches/big")).json()["response_body_url"]
    packed = folder / "results.tar.gz"
    async with httpx.AsyncClient() as client, client.stream("GET", link) as answer:
        with packed.open("wb") as file:
            async for piece in answer.aiter_raw():
                file.write(piece)
    with tarfile.open(packed, "r|gz") as tar:
        for member in tar:
            content = tar.extractfile(member) if member.isfile() and member.size else None
            for operation in json.load(content) if content else ():
                response = json.loads(operation["response"])
                count += 1
                if operation["status_code"] != 200:
                    failed += 1
                    assert response["detail"]
    return {"rate": count / (time.perf_counter() - began), "failed": failed, "peak_mb": status("VmHWM")}


async def connections(url: str, folder: Path, seconds: float) -> dict[str, float]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))
    store, web = SqliteStore.open(folder / "store.db"), Clients(HttpOptions())
    engine = Engine(store, Scheduler(), web)
    source = Pushes(
        type="railz.pushes",
        base_url=url,
        auth_url=f"{url}/getAccess",
        client_id=CLIENT_ID,
        secret_key=SECRET_KEY,
        connections="discover",
        concurrency=8,
        interval=60,
    )
    await engine.setup({"ledger": source.named("ledger")}, {})
    running = asyncio.create_task(engine.run())
    ledger = engine.roster["ledger"]
    while ledger.status.visits < 1:
        await asyncio.sleep(0.1)
    # The first round takes up everything; what is measured is rounds in which nothing is new.
    asked, cpu, wall, polls = web.seen, time.process_time(), time.perf_counter(), ledger.status.visits
    rounds = []
    while time.perf_counter() - wall < seconds:
        await asyncio.sleep(0.05)
        if ledger.busy:
            began = time.perf_counter()
            while ledger.busy:
                await asyncio.sleep(0.05)
            rounds.append(time.perf_counter() - began)
    cpu, asked = time.process_time() - cpu, web.seen - asked
    assert ledger.status.visits > polls
    engine.stop()
    await running
    await web.aclose()
    await store.close()
    return {"us": cpu / asked * 1e6, "asked": asked, "round_s": max(rounds), "peak_mb": status("VmHWM")}


async def bare_connections(url: str, count: int) -> dict[str, float]:
    from httpx_aiohttp import HttpxAiohttpClient

    async with HttpxAiohttpClient() as client:
        token = (await client.get(f"{url}/getAccess", auth=(CLIENT_ID, SECRET_KEY))).json()["access_token"]
        client.headers["authorization"] = f"Bearer {token}"
        address = f"{url}/v2/data/pushStatus"
        tags = {}
        for n in range(200):
            key = f"CON-{n:06d}"
            tags[key] = (await client.get(address, params={"connectionUuid": key})).headers["etag"]
        cpu = time.process_time()
        for n in range(count):
            key = f"CON-{n % 200:06d}"
            answer = await client.get(
                address, params={"connectionUuid": key}, headers={"if-none-match": tags[key]}
            )
            assert answer.status_code == 304
    return {"us": (time.process_time() - cpu) / count * 1e6}


def main() -> None:
    match sys.argv[1:]:
        case ["serve", "archive", operations, failing]:
            asyncio.run(serve(account(int(operations), float(failing))))
        case ["serve", "connections", count]:
            asyncio.run(serve(ledger(int(count))))
        case [which, url, *more]:
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                runs = {
                    "archive": lambda: archive(url, folder),
                    "bare-archive": lambda: bare_archive(url, folder),
                    "connections": lambda: connections(url, folder, float(more[0])),
                    "bare-connections": lambda: bare_connections(url, int(more[0])),
                }
                print(json.dumps(uvloop.run(runs[which]())))


if __name__ == "__main__":
    main()
