"""Rounds over many Railz connections in which nothing is new: one conditional request each.

`ours URL SECONDS`: the engine. `bare URL COUNT`: the requests alone.
"""

import asyncio
import time
from pathlib import Path

from httpx_aiohttp import HttpxAiohttpClient
from measure import Cost, Figures, daemon, main, memory

from roundsman.sandbox.railz import CLIENT_ID, SECRET_KEY
from roundsman.sources.railz import Pushes

AT_ONCE = 8
TAKEN_IN_TURN = 200
"""Connections that the bare requests ask about."""


async def ours(folder: Path, url: str, interval: str, rounds: str) -> Figures:
    source = Pushes(
        type="railz.pushes",
        base_url=url,
        auth_url=f"{url}/getAccess",
        client_id=CLIENT_ID,
        secret_key=SECRET_KEY,
        connections="discover",
        concurrency=AT_ONCE,
        interval=float(interval),
    )
    async with daemon(folder, {"ledger": source}) as running:
        ledger, clients = running.engine.roster["ledger"], running.engine.clients

        async def busy() -> bool:
            return ledger.busy

        async def idle() -> bool:
            return ledger.status.visits > 0 and not ledger.busy

        await running.until(idle)  # the first round takes up everything
        cost, before, took = Cost(), clients.seen, []
        for _ in range(int(rounds)):
            await running.until(busy)
            began = time.perf_counter()
            await running.until(idle)
            took.append(time.perf_counter() - began)
        asked = clients.seen - before
        figures = cost.figures(asked)
    return {**figures, "asked": asked, "round_s": max(took), "peak_mb": memory("VmHWM")}


async def bare(folder: Path, url: str, count: str) -> Figures:
    address, asked = f"{url}/v2/data/pushStatus", int(count)
    async with HttpxAiohttpClient() as client:
        token = (await client.get(f"{url}/getAccess", auth=(CLIENT_ID, SECRET_KEY))).json()["access_token"]
        client.headers["authorization"] = f"Bearer {token}"
        tags = {}
        for n in range(min(TAKEN_IN_TURN, asked)):
            key = f"CON-{n:06d}"
            tags[key] = (await client.get(address, params={"connectionUuid": key})).headers["etag"]
        keys = list(tags)
        began, limit = Cost(), asyncio.Semaphore(AT_ONCE)

        async def ask(key: str) -> None:
            async with limit:
                answer = await client.get(
                    address, params={"connectionUuid": key}, headers={"if-none-match": tags[key]}
                )
                assert answer.status_code == 304

        await asyncio.gather(*(ask(keys[n % len(keys)]) for n in range(asked)))
    return began.figures(asked)


if __name__ == "__main__":
    main({"ours": ours, "bare": bare})
