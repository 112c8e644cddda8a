"""The store of a worker that was replaced: opened again as soon as its server answers."""

import asyncio
import signal

import structlog

from roundsman.errors import StoreAway
from roundsman.store import Store, open_store
from roundsman.store.place import Place

AGAIN = 0.5
"""Seconds between two tries."""

log = structlog.get_logger()


async def reopened(place: Place, worker: str, asked: set[bool]) -> Store | None:
    """The store; None if a signal ends the wait. StoreError for what does not pass by itself.

    `asked` gets what signals request meanwhile: False for a reload, True for its result alone.
    """
    loop, stopped, said = asyncio.get_running_loop(), asyncio.Event(), ""
    ends = (signal.SIGTERM, signal.SIGINT)
    for number in ends:
        loop.add_signal_handler(number, stopped.set)
    # The earlier service must not answer them, the next one does.
    loop.add_signal_handler(signal.SIGHUP, asked.add, False)
    loop.add_signal_handler(signal.SIGUSR1, asked.add, True)
    while not stopped.is_set():
        try:
            store = await open_store(place, worker)
        except StoreAway as exc:
            if str(exc) != said:
                said = str(exc)
                log.error("store.failed", error=said)
            await asyncio.sleep(AGAIN)
            continue
        if not stopped.is_set():
            for number in ends:  # until the next service handles them, they end the process
                loop.remove_signal_handler(number)
            return store
        await store.close()
    return None
