"""A daemon that listens, on real sockets of the loopback interface; and what vendors would send it."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from inspect import isawaitable
from pathlib import Path
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from inside import Status, seen, set_due, status
from roundsman.engine.alarms import Scheduler
from roundsman.engine.engine import Engine
from roundsman.events import Event
from roundsman.http.transport import Clients
from roundsman.options.listen import Address, ListenOptions
from roundsman.plugin import Source
from roundsman.sandbox import Outgoing, Subscription, Vendor
from roundsman.store import Filter
from roundsman.store.sqlite.store import SqliteStore
from roundsman.web import Listener
from roundsman.web.protocol import Limits
from worlds import Recorder

HEADER, VALUE = "Authorization", "Basic c2VjcmV0OmhlYWRlcg=="
RECENT = datetime.now(UTC).replace(microsecond=0).isoformat()
TOKEN = "a-token-of-24-letters-ok"
SECRET = "whsec-0123456789abcdef"
PARAKEY = {"header": HEADER, "value": VALUE}
MAILCHIMP = {"token": TOKEN, "signing_secret": SECRET}
RAILZ = {"signing_secrets": ["another-one", SECRET]}


@dataclass
class Door:
    """A daemon, and how to knock."""

    engine: Engine
    url: str
    client: httpx.AsyncClient
    listener: Listener

    @property
    def store(self) -> SqliteStore:
        return self.engine.store

    async def post(self, path: str, body: bytes | Any = b"", headers: Mapping[str, str] | None = None) -> int:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return (await self.client.post(self.url + path, content=content, headers=headers or {})).status_code

    async def send(self, letter: Outgoing) -> int:
        return (await self.client.post(letter.url, content=letter.body, headers=letter.headers)).status_code

    async def status(self, name: str) -> Status:
        return await status(self.engine, name)

    async def polls(self, name: str, count: int) -> bool:
        """Whether the source was visited so often."""
        return (await self.status(name)).visits >= count

    def events(self) -> list[Event]:
        return [event for event, _ in seen(self.store.events(0, 10**9, 10**6, Filter()))]

    def ids(self) -> list[str]:
        return [event.id for event in self.events()]


@asynccontextmanager
async def open_door(
    folder: Path,
    *sources: Source,
    rounds: bool = True,
    options: ListenOptions | None = None,
    limits: Limits | None = None,
) -> AsyncIterator[Door]:
    """The daemon with these sources; without `rounds`, it only listens."""
    store = SqliteStore.open(folder / "door.db")
    engine = Engine(store, Scheduler(), Clients())
    engine.listening = engine.reception.now()
    await engine.setup({source.name: source for source in sources}, {"rec": Recorder().named("rec")})
    if not rounds:
        for source in sources:
            await set_due(engine, source.name, engine.reception.now() + 3600)  # as after a visit
    listener = Listener(engine, options or ListenOptions(address=Address("127.0.0.1", 0)), limits)
    await listener.start()
    running = asyncio.create_task(engine.run()) if rounds else None
    async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
        try:
            yield Door(engine, listener.places[0], client, listener)
        finally:
            await listener.close()
            engine.stop()
            if running is not None:
                await running
            await engine.aclose()
            await store.close()


async def metrics(door: Door) -> dict[str, float]:
    """Every series of the metrics, as Prometheus' own parser reads them: `name{label="value"}` with sorted labels."""
    answer = await door.client.get(f"{door.url}/metrics")
    assert answer.status_code == 200
    return {
        each.name
        + ("{" + ",".join(f'{key}="{value}"' for key, value in sorted(each.labels.items())) + "}")
        * bool(each.labels): each.value
        for family in text_string_to_metric_families(answer.text)
        for each in family.samples
    }


def subscribe(vendor: Vendor, url: str, secret: str = "", headers: Mapping[str, str] | None = None) -> None:
    vendor.subscriptions.append(Subscription(url, secret, headers or {}))


async def until(true: Callable[[], Any], seconds: float = 60.0) -> None:
    """Wait until `true` holds; after `seconds` the test fails. `true` may be a coroutine function."""
    async with asyncio.timeout(seconds):
        while True:
            found = true()
            if await found if isawaitable(found) else found:
                return
            await asyncio.sleep(0.01)


def types(events: Sequence[Event]) -> list[str]:
    return [event.type for event in events]
