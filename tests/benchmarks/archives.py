"""The results of one Mailchimp batch, from the signed link on.

`ours URL OPERATIONS`: the engine reads them, to the sink's acknowledgement of one event for each that failed.
`bare URL OPERATIONS`: download, `tarfile`, `json`, and count.
"""

import json
import tarfile
from pathlib import Path

import httpx
from measure import Cost, Figures, Lines, daemon, file_sink, main, memory

from roundsman.sandbox.mailchimp import API_KEY
from roundsman.sources.mailchimp import Batches
from roundsman.store import Filter


async def ours(folder: Path, url: str, operations: str) -> Figures:
    source = Batches(
        type="mailchimp.batches", base_url=f"{url}/3.0", api_key=API_KEY, start="beginning", interval=3600
    )
    async with daemon(folder, {"news": source}, file_sink(folder)) as running:
        store = running.engine.store

        async def completed() -> bool:
            newest = await store.last(1, Filter())
            return bool(newest) and newest[0][0].id == "big:completed"

        cost = Cost()
        await running.until(completed)
        await running.until_delivered(await store.head())
        figures = cost.figures(int(operations))
        [(event, _)] = await store.last(1, Filter())
        data = event.document()["data"]
    assert data["total"] == int(operations)
    assert Lines(folder)() == data["failed"] + 1
    return {**figures, "failed": data["failed"], "peak_mb": memory("VmHWM")}


async def bare(folder: Path, url: str, operations: str) -> Figures:
    cost = Cost()
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
    assert count == int(operations)
    return {**cost.figures(count), "failed": failed, "peak_mb": memory("VmHWM")}


if __name__ == "__main__":
    main({"ours": ours, "bare": bare})
