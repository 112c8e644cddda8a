"""A simulated company with an account at each vendor: building, newsletter, ledger, and their failures."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from roundsman.sandbox.building import KEYS, PEOPLE, Building
from roundsman.sandbox.mailchimp import Mailchimp, Operation, bad_address
from roundsman.sandbox.parakey import Parakey
from roundsman.sandbox.railz import Railz
from roundsman.sandbox.vendor import Subscription, Town

HOOK_VALUE = "Basic c2FuZGJveDpob29r"
HOOK_TOKEN = "sandbox-hook-token"  # noqa: S105 - not a real secret, nor is the next one
HOOK_SECRET = "sandbox-hook-secret"  # noqa: S105 - of a simulation
CONNECTION = "CON-harbour-xero"
EVERY = 8.0
"""Seconds between two jobs at the same vendor."""
TYPOS = ["{}@harbour", "{}@@harbour.example", "{} at harbour.example"]
REFUSALS = [
    ("journalEntries", "The accounting period is closed."),
    ("journalEntries", "Debits and credits do not match."),
    ("invoices", "customerRef.id: no such customer."),
]


async def ignored(_: str) -> None:
    """Does nothing: the caller has no use for the batch."""


class Company:
    """Simulates activity at all three vendors, which share one address (`town`)."""

    def __init__(self, seed: int = 1, now: Callable[[], datetime] | None = None) -> None:
        self.parakey, self.mailchimp, self.railz = Parakey(now), Mailchimp(now), Railz(now)
        self.building = Building(self.parakey, seed)
        self.railz.connect(CONNECTION, "Harbour House AB")
        self.town = Town(
            {
                "": self.parakey,
                "/3.0": self.mailchimp,
                "/rsg-api-batches-prod": self.mailchimp,
                "/getAccess": self.railz,
                "/v2": self.railz,
                "/data": self.railz,
            }
        )
        self._random = random.Random(seed)

    def hand_out_keys(self) -> str:
        """Submit a batch of access keys; one is refused. Returns its id, which only the submitter knows."""
        people = self._random.sample(PEOPLE, 4)
        items: list[dict[str, Any]] = [
            {
                "user": {"name": name, "email": f"{name.lower()}@harbour.example"},
                "access": {
                    "id": f"aCcEsS{(key := self._random.randrange(len(KEYS))):04d}",
                    "name": KEYS[key],
                },
            }
            for name in people
        ]
        items[-1]["error"] = {
            "code": "ACCESS_NOT_SHARED",
            "message": "this integration may not manage the key",
        }
        return self.parakey.batch(items, took=timedelta(seconds=self._random.uniform(2, 5))).id

    def import_contacts(self) -> None:
        """Submit a newsletter import with some bad addresses."""
        operations = []
        for number in range(self._random.randint(10, 20)):
            name = self._random.choice(PEOPLE).lower()
            if self._random.random() < 0.15 or not number:
                operations.append(bad_address(self._random.choice(TYPOS).format(name), f"row-{number + 1}"))
            else:
                operations.append(
                    Operation(200, {"email_address": f"{name}@harbour.example"}, f"row-{number + 1}")
                )
        self.mailchimp.add(operations, took=timedelta(seconds=self._random.uniform(3, 6)))

    def push_entries(self) -> None:
        """Push some journal entries as one batch; one of them is refused."""
        key = f"{self._random.getrandbits(96):024x}"
        for number in range(self._random.randint(2, 4)):
            took = timedelta(seconds=self._random.uniform(1, 5))
            if number:
                self.railz.push(CONNECTION, took=took, batch=key)
            else:
                kind, message = self._random.choice(REFUSALS)
                errors = [{"message": message}]
                more: dict[str, Any] = {"status": "failed", "code": 400, "errors": errors, "data_type": kind}
                self.railz.push(CONNECTION, took=took, batch=key, **more)

    def subscribe(self, url: str, *, newsletter: bool) -> None:
        """Subscribe a daemon at `url` to the vendors' webhooks, as users configure them there."""
        header = {"Authorization": HOOK_VALUE}
        self.parakey.subscriptions += [
            Subscription(f"{url}/hooks/front-doors", headers=header, kinds=frozenset({"eventLog"})),
            Subscription(f"{url}/hooks/keys", headers=header, kinds=frozenset({"batch"})),
        ]
        self.railz.subscriptions.append(Subscription(f"{url}/hooks/ledger", HOOK_SECRET))
        if newsletter:  # else the user creates it with `roundsman hooks create`
            self.mailchimp.subscribe(Subscription(f"{url}/hooks/newsletter/{HOOK_TOKEN}", HOOK_SECRET))

    def fill(self, rows: int, apart: timedelta) -> None:
        """Add a history of unlocks."""
        self.building.fill(rows, datetime.now(UTC) - rows * apart - timedelta(minutes=1), apart)

    async def live(self, per_second: float, submitted: Callable[[str], Awaitable[None]] = ignored) -> None:
        """Simulate unlocks, and jobs every few seconds. `submitted` gets the id of each batch of keys."""
        jobs = asyncio.create_task(self._work(submitted))
        try:
            for pause in self.building.pauses(per_second):
                await asyncio.sleep(pause)
                self.building.step()
        finally:
            jobs.cancel()

    async def _work(self, submitted: Callable[[str], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(EVERY / 4)
            self.import_contacts()
            await asyncio.sleep(EVERY / 4)
            self.push_entries()
            await asyncio.sleep(EVERY / 4)
            await submitted(self.hand_out_keys())
            await asyncio.sleep(EVERY / 4)
