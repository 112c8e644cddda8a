"""What all parts of the engine share: the store and its errors, the clock, the counters, and the news."""

import asyncio
from dataclasses import dataclass

import structlog

from roundsman.engine.meter import Meter
from roundsman.engine.timekeeper import Timekeeper
from roundsman.store import Store, StoreError

STORE_AGAIN = 10.0
"""Seconds until a visit that could not be stored is retried, and between two log lines about it."""

log = structlog.get_logger()


class News:
    """Notifies every reader of the log when new events were committed."""

    def __init__(self) -> None:
        self._readers: set[asyncio.Event] = set()

    def listen(self, reader: asyncio.Event) -> None:
        """Set this event whenever there are new events, until `leave`."""
        self._readers.add(reader)

    def leave(self, reader: asyncio.Event) -> None:
        self._readers.discard(reader)

    def publish(self) -> None:
        """Notify all readers: there are new events in the log."""
        for reader in self._readers:
            reader.set()

    def relay(self, announcer: asyncio.Event) -> None:
        """Another worker has new events: notify all readers but the one that announces ours to the others."""
        for reader in self._readers:
            if reader is not announcer:
                reader.set()


class Trouble:
    """The errors of the store: each is logged every `STORE_AGAIN` seconds, and the last is kept for the daemon's health."""

    def __init__(self, store: Store, time: Timekeeper) -> None:
        self._store = store
        self._time = time
        self._error = ""
        self._failed_at = float("-inf")
        self._logged: dict[str, float] = {}
        """When (monotonic) each error was last logged, if that was recently. Callers meet different ones at the same time."""

    def report(self, exc: StoreError) -> None:
        """Take note of an error of the store."""
        now, error = self._time.monotonic(), str(exc)
        self._error, self._failed_at = error, now
        self._logged = {each: at for each, at in self._logged.items() if now - at < STORE_AGAIN}
        if error not in self._logged:
            self._logged[error] = now
            log.error("store.failed", error=error)

    @property
    def error(self) -> str | None:
        """The store's damage, or its last error, for 3 * `STORE_AGAIN` seconds; else None."""
        if self._store.damage:
            return self._store.damage
        recent = self._time.monotonic() - self._failed_at < 3 * STORE_AGAIN
        return self._error if recent else None


@dataclass(frozen=True, slots=True)
class Shared:
    """The objects that every part of the engine uses."""

    store: Store
    time: Timekeeper
    meter: Meter
    news: News
    trouble: Trouble
