"""`roundsman demo`: a lively made-up building, the real daemon against it, and events as they come."""

import asyncio
import contextlib
import signal
import sys
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rich.console import Console

from roundsman import logs, screen
from roundsman.alarms import Scheduler
from roundsman.engine import Engine
from roundsman.events import Event
from roundsman.http import HttpOptions
from roundsman.sandbox.building import Building
from roundsman.sandbox.parakey import TOKEN, Parakey
from roundsman.sandbox.server import Sandbox
from roundsman.service import web
from roundsman.sinks.file import FileSink
from roundsman.sources.parakey import EventLogs
from roundsman.store import Filter, Reader, Store

HISTORY = 40
PER_SECOND = 1.2
INTERVAL = 2.0


async def demo(seconds: float | None) -> int:
    """Run for so long, or until Ctrl-C."""
    logs.configure("warning", "auto")
    parakey = Parakey()
    building = Building(parakey, seed=int(time.time()))
    building.fill(HISTORY, datetime.now(UTC) - timedelta(minutes=30), timedelta(seconds=45))
    with tempfile.TemporaryDirectory(prefix="roundsman-demo-") as folder:
        async with Sandbox(parakey) as sandbox:
            await _show(Path(folder), sandbox, building, seconds)
    return 0


async def _show(folder: Path, sandbox: Sandbox, building: Building, seconds: float | None) -> None:
    console = screen.console()
    source = EventLogs(
        type="parakey.event_logs",
        base_url=sandbox.url,
        access_token=TOKEN,
        interval=INTERVAL,
        start="beginning",
    )
    archive = FileSink(type="file", path=folder / "events.jsonl")
    store = Store.open(folder / "roundsman.db")
    connections = web(HttpOptions())
    engine = Engine(store, Scheduler(), connections)
    engine.setup({"harbour-house": source.named("harbour-house")}, {"archive": archive.named("archive")})
    length = f"for {seconds:.0f} seconds" if seconds is not None else "until Ctrl-C"
    console.print(
        f"A made-up building at {sandbox.url}, polled every {INTERVAL:.0f} seconds (a real vendor: 60), {length}.\n"
        "First its history, then what happens now; times are UTC."
        + (" Red is a door that stayed shut." if console.is_terminal else "")
        + '\nA log marked "late" is of a lock that was offline: it happened before what stands above it.\n'
    )
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, engine.stop)
    if seconds is not None:
        loop.call_later(seconds, engine.stop)
    began = time.monotonic()
    living = [asyncio.create_task(_live(building)), asyncio.create_task(_print_log(store.path, console))]
    try:
        await engine.run()
    finally:
        for task in living:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*living)
        await connections.aclose()
    _summary(console, store, building.parakey, archive.path, connections.seen, time.monotonic() - began)
    store.close()


async def _live(building: Building) -> None:
    for pause in building.pauses(PER_SECOND):
        await asyncio.sleep(pause)
        building.step()


async def _print_log(path: Path, console: Console) -> None:
    """Follow the log as `roundsman events -f` does: from the store, beside the daemon."""
    reader = Reader.open(path)
    at = 0
    try:
        while True:
            for event, _ in reader.events(at, reader.head(), 100, Filter()):
                _print(event, console)
                at = event.seq
            await asyncio.sleep(0.1)
    finally:
        reader.close()


def _print(event: Event, console: Console) -> None:
    colour = console.is_terminal
    line = screen.event_line(event, colour=colour)
    if colour:
        console.print(line)
    else:
        print(line, flush=True)  # noqa: T201 - a demo prints


def _summary(
    console: Console, store: Store, parakey: Parakey, archive: Path, requests: int, seconds: float
) -> None:
    outcomes = Counter(event.outcome for event, _ in store.events(0, store.head(), 1_000_000, Filter()))
    lines = archive.read_bytes().count(b"\n") if archive.exists() else 0
    known = store.known("harbour-house", [log.id for log in parakey.logs])
    waiting = len(parakey.logs) - len(known)
    console.print(
        f"\n{seconds:.0f} seconds: the building made {len(parakey.logs)} logs; {requests} requests found "
        f"{store.head()} of them"
        + (f" ({waiting} came after the last visit)" if waiting else "")
        + f": {', '.join(f'{count} {outcome}' for outcome, count in outcomes.most_common())}.\n"
        f"The archive has {lines} lines, one for each."
    )
    sys.stdout.flush()
