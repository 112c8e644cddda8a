"""The vendors that are measured against, each served in a process of its own. Prints its address.

`vendors.py history ROWS`: Parakey with so many event logs. `archive OPERATIONS FAILING TOGETHER`: Mailchimp with one
finished batch, of which this share failed; TOGETHER 1: one file has all results. `connections COUNT`: Railz.
"""

import asyncio
import json
import sys
from datetime import UTC, datetime, timedelta

from roundsman.sandbox import Building, Parakey, Sandbox, Vendor
from roundsman.sandbox.mailchimp import Mailchimp, Operation, bad_address, pack
from roundsman.sandbox.parakey import Log
from roundsman.sandbox.railz import Railz
from roundsman.times import rfc3339

APART = timedelta(milliseconds=250)
LATE = timedelta(milliseconds=400)
SCENES = 240
SCATTER = 0x9E3779B97F
"""Odd, so that its multiples modulo 2^40 are all different: ids without an order."""


def history(rows: str) -> Parakey:
    """Rows as the sandbox makes them, but a million in seconds: only their ids and times differ from `SCENES` rows."""
    parakey, count = Parakey(), int(rows)
    first = datetime.now(UTC).replace(microsecond=0) - count * APART - timedelta(minutes=1)
    Building(parakey).fill(SCENES, first)
    scenes = [(log.data, json.dumps(log.data, separators=(",", ":")).encode()[1:]) for log in parakey.logs]
    parakey.logs = []
    for n in range(count):
        data, rest = scenes[n % SCENES]
        created = first + n * APART
        occurred, key = created - LATE, f"{n * SCATTER % (1 << 40):010x}"
        head = f'{{"id":"{key}","timestamp":"{rfc3339(occurred)}","createdAt":"{rfc3339(created)}",'
        parakey.logs.append(Log(key, created, occurred, created, data, head.encode() + rest))
    return parakey


def archive(operations: str, failing: str, together: str) -> Mailchimp:
    """One finished batch, of which every so-manieth operation failed."""
    mailchimp = Mailchimp()
    every = round(1 / float(failing))
    fine = {
        "id": "0" * 32,
        "email_address": "somebody@harbour.example",
        "status": "subscribed",
        "merge_fields": {"FNAME": "Ada"},
    }
    made = [
        bad_address(f"row{n}@harbour", f"row-{n}") if n % every == 0 else Operation(200, fine, f"row-{n}")
        for n in range(int(operations))
    ]
    mailchimp.add(made, batch_id="big", archive=pack(made, together=together == "1"))
    return mailchimp


def connections(count: str) -> Railz:
    """So many connections, each with some history."""
    railz = Railz()
    for n in range(int(count)):
        key = railz.connect(f"CON-{n:06d}")
        railz.push(key)
    return railz


async def serve(vendor: Vendor) -> None:
    async with Sandbox(vendor) as box:
        print(box.url, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    name, *args = sys.argv[1:]
    made = {"history": history, "archive": archive, "connections": connections}[name](*args)
    asyncio.run(serve(made))
