"""Runs inside the machine: a simulated Parakey on port 8399, and a socket by which the test controls it."""

import asyncio
import json
import sys
import time
from datetime import UTC, datetime, timedelta

from aiohttp import web

from roundsman.sandbox import Fault, Parakey, Sandbox

asked: list[float] = []


class Watched(Parakey):
    """Remembers when it was asked."""

    def answer(self, *args, **more):
        asked.append(time.time())
        return super().answer(*args, **more)


async def tell(request: web.Request) -> web.Response:
    """`add`: so many event logs happened, `apart` seconds each. `faults`: so many answers go wrong, in one way. What it knows in any case."""
    wish = json.loads(await request.text() or "{}")
    parakey = request.app["parakey"]
    count, apart = wish.get("add", 0), wish.get("apart", 0.0)
    for n in range(count):
        created = datetime.now(UTC) - timedelta(seconds=(count - n) * apart)
        # A lock reports after a moment: without that, no source could find out what `startDate` compares with.
        parakey.add(
            log_id=f"{wish['name']}-{n:05d}", created=created, timestamp=created - timedelta(seconds=1)
        )
    parakey.faults.extend([Fault(kind=wish["faults"])] * wish.get("times", 0) if "faults" in wish else [])
    return web.json_response({"asked": asked, "faults": len(parakey.faults)})


async def main(path: str) -> None:
    parakey = Watched()
    app = web.Application()
    app["parakey"] = parakey
    app.router.add_post("/", tell)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.UnixSite(runner, path).start()
    async with Sandbox(parakey, port=8399):
        await asyncio.Event().wait()


asyncio.run(main(sys.argv[1]))
