"""`roundsman demo`: a simulated company, the real daemon watching its three vendors, and events as they come."""

import asyncio
import contextlib
import secrets
import signal
import sys
import tempfile
import time
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from roundsman import screen
from roundsman.engine.alarms import Scheduler
from roundsman.engine.engine import Engine
from roundsman.http.transport import HttpOptions
from roundsman.options.listen import Address, ListenOptions
from roundsman.options.page import PageOptions
from roundsman.options.secrets import Secret
from roundsman.plugin import Source
from roundsman.sandbox.company import HOOK_SECRET, HOOK_TOKEN, HOOK_VALUE, Company
from roundsman.sandbox.mailchimp import API_KEY
from roundsman.sandbox.parakey import TOKEN
from roundsman.sandbox.railz import CLIENT_ID, SECRET_KEY
from roundsman.sandbox.server import Sandbox
from roundsman.service.service import web
from roundsman.sinks.file import FileSink
from roundsman.sources import mailchimp, parakey, railz
from roundsman.store import Filter, Store, open_desk, open_store, open_view
from roundsman.system import logs
from roundsman.web import Listener

if TYPE_CHECKING:
    from roundsman.terminal.terminal import Terminal

USER = "demo"
"""Who logs in to the page."""
HISTORY = 20
PER_SECOND = 0.7
INTERVAL = 10.0
SHOWN = 12
"""Number of failures in the summary."""


async def demo(seconds: float | None) -> int:
    """Run for this many seconds, or until Ctrl-C."""
    logs.configure("warning", "auto")
    company = Company(seed=int(time.time()))
    company.fill(HISTORY, timedelta(seconds=45))
    with tempfile.TemporaryDirectory(prefix="roundsman-demo-") as folder:
        async with Sandbox(company.town) as sandbox:
            await _show(Path(folder), sandbox.url, company, seconds)
    return 0


def _sources(url: str) -> dict[str, Source]:
    """The sources as a user would configure them."""
    header = {"header": "Authorization", "value": HOOK_VALUE}
    found: dict[str, Source] = {
        "front-doors": parakey.EventLogs(
            type="parakey.event_logs",
            base_url=url,
            access_token=TOKEN,
            interval=INTERVAL,
            start="beginning",
            webhook=header,
        ),
        "keys": parakey.Batches(
            type="parakey.batches", base_url=url, access_token=TOKEN, interval=INTERVAL, webhook=header
        ),
        "newsletter": mailchimp.Batches(
            type="mailchimp.batches",
            base_url=f"{url}/3.0",
            api_key=API_KEY,
            interval=INTERVAL,
            webhook={"token": HOOK_TOKEN, "signing_secret": HOOK_SECRET},
        ),
        "ledger": railz.Pushes(
            type="railz.pushes",
            base_url=url,
            auth_url=f"{url}/getAccess",
            client_id=CLIENT_ID,
            secret_key=SECRET_KEY,
            connections="discover",
            interval=INTERVAL,
            webhook={"signing_secrets": [HOOK_SECRET]},
        ),
    }
    return {name: source.named(name) for name, source in found.items()}


async def _show(folder: Path, url: str, company: Company, seconds: float | None) -> None:
    console = screen.console()
    archive = FileSink(type="file", path=folder / "events.jsonl")
    path = folder / "roundsman.db"
    store = await open_store(path)
    connections = web(HttpOptions())
    engine = Engine(store, Scheduler(), connections)
    engine.listening = time.time()
    await engine.setup(_sources(url), {"archive": archive.named("archive")})
    password = secrets.token_urlsafe(9)
    page = PageOptions(user=USER, password=Secret(password))
    listener = Listener(engine, ListenOptions(address=Address("127.0.0.1", 0), page=page))
    await listener.start()
    company.subscribe(listener.places[0], newsletter=True)
    length = f"for {seconds:.0f} seconds" if seconds is not None else "until Ctrl-C"
    lines = [
        f"A simulated company at {url}:",
        "its doors and keys (Parakey), its newsletter (Mailchimp), its ledger (Railz).",
        f"Each is visited every {INTERVAL:.0f} seconds (real vendors: 60), {length},",
        f"and sends webhooks to {listener.places[0]}.",
        f"The page for a browser: {listener.places[0]}/ (user {USER}, password {password}).",
        f"First the history of the doors, then new events; times are {'UTC' if console is None else 'local'}.",
        f"The {'second' if console is None else 'third'} column shows what brought it first: push (a webhook with content),",
        "ring (a visit that a webhook triggered), or poll.",
    ]
    if console is not None:
        lines.append("Red: denied or failed.")
    _say("\n".join(lines) + "\n")
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, engine.stop)
    if seconds is not None:
        loop.call_later(seconds, engine.stop)
    began = time.monotonic()

    async def track(batch: str) -> None:
        """Does what `roundsman track keys ID` does while the daemon runs."""
        desk = await open_desk(path)
        await desk.follow("keys", [batch])
        await desk.close()

    living = [
        asyncio.create_task(company.live(PER_SECOND, track)),
        asyncio.create_task(_print_log(path, console)),
    ]
    try:
        await engine.run()
    finally:
        for task in living:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*living)
        await listener.close()
        await connections.aclose()
    delivered = archive.path.read_bytes().count(b"\n") if archive.path.exists() else 0
    await _summary(console, store, delivered, connections.seen, time.monotonic() - began)
    await store.close()


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - output for a person


async def _print_log(path: Path, console: "Terminal | None") -> None:
    """Follow the log as `roundsman events -f` does: from the store, while the daemon runs."""
    view = await open_view(path)
    at = 0
    try:
        while True:
            found = [event for event, _ in await view.events(at, await view.head(), 100, Filter())]
            first = await view.via([event.seq for event in found])
            for event in found:
                screen.show_event(event, console, first[event.seq] or "poll")
                at = event.seq
            await asyncio.sleep(0.1)
    finally:
        await view.close()


async def _summary(
    console: "Terminal | None", store: Store, lines: int, requests: int, seconds: float
) -> None:
    sources = Counter(
        event.source for event, _ in await store.events(0, await store.head(), 1_000_000, Filter())
    )
    counts = ", ".join(f"{count} from {name}" for name, count in sources.most_common())
    first = Counter(via or "poll" for via in (await store.via(range(1, await store.head() + 1))).values())
    had = ", ".join(f"{count} by {who}" for who, count in first.most_common())
    _say(
        f"\n{seconds:.0f} seconds, {requests} requests: {await store.head()} events, {counts}.\n"
        f"Brought first: {had}.\n"
        f"The file sink has {lines} lines, one for each."
    )
    failures = await store.failures(limit=SHOWN)
    left = await store.open_failures() - len(failures)
    if not failures:
        _say("\nNothing failed.")
    else:
        _say(f"\nroundsman failures{f' -n {SHOWN}' if left else ''}\n")
    for event, logged, done in failures:
        screen.show_failure(screen.failure(event, logged, done), console)
    if left:
        _say(f"... and {left} more")
    sys.stdout.flush()
