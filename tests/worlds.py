"""Small worlds to test in: a clock that is set by hand, transports without sockets, sinks that remember."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Literal

import httpx

from roundsman.events import Event
from roundsman.http import Http, HttpOptions, Web
from roundsman.plugin import Deliver, Receipt, Sink
from roundsman.sandbox import TOKEN, Parakey
from roundsman.sources.parakey import EventLogs
from roundsman.visit import Clock

START = datetime(2026, 5, 1, 6, tzinfo=UTC).timestamp()


class Time:
    """A clock that moves when told; sleeping moves it."""

    def __init__(self, now: float = START) -> None:
        self.wall = now
        self.ticks = 0.0

    def now(self) -> float:
        return self.wall

    def utc(self) -> datetime:
        return datetime.fromtimestamp(self.wall, UTC)

    def advance(self, seconds: float) -> None:
        self.wall += seconds
        self.ticks += seconds

    def set_wall(self, seconds: float) -> None:
        """Somebody sets the clock: only the wall clock moves."""
        self.wall += seconds

    async def sleep(self, seconds: float) -> None:
        self.advance(seconds)
        await asyncio.sleep(0)

    async def never(self, seconds: float) -> None:
        """What the heartbeat waits for: tests beat by hand."""
        await asyncio.Event().wait()

    def clock(self) -> Clock:
        return Clock(self.now, lambda: self.ticks, self.never)


class ByHand:
    """Alarms that ring when told."""

    def __init__(self) -> None:
        self.at: dict[str, float] = {}
        self._ring: Callable[[list[str]], None] = lambda names: None

    def start(self, ring: Callable[[list[str]], None]) -> None:
        self._ring = ring

    def set(self, name: str, at: float) -> None:
        self.at[name] = at

    def clear(self, name: str) -> None:
        self.at.pop(name, None)

    def stop(self) -> None:
        self.at.clear()

    def ring_due(self, now: float) -> list[str]:
        due = [name for name, at in self.at.items() if at <= now]
        for name in due:
            del self.at[name]
        if due:
            self._ring(due)
        return due


class Straight(httpx.AsyncBaseTransport):
    """From the request to the sandbox's answer without a socket."""

    def __init__(self, parakey: Parakey, before: Callable[[], None] = lambda: None) -> None:
        self.parakey = parakey
        self.before = before
        self.requests: list[httpx.Request] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        self.before()
        headers = {name.lower(): value for name, value in request.headers.items()}
        reply = self.parakey.answer(request.method, request.url.path, dict(request.url.params), headers)
        self.before()
        if reply.kind == "hang":
            raise httpx.ReadTimeout("hangs", request=request)
        if reply.kind == "drop":
            raise httpx.RemoteProtocolError("dropped", request=request)
        return httpx.Response(reply.status, headers=reply.headers, content=reply.body, request=request)


def web_of(transport: httpx.AsyncBaseTransport, time: Time, **options: Any) -> Web:
    return Web(HttpOptions(**options), now=time.now, sleep=time.sleep, transport=lambda url: transport)


def event_logs(name: str = "doors", **options: Any) -> EventLogs:
    given = {
        "base_url": "http://127.0.0.1:1",
        "access_token": TOKEN,
        "start": "beginning",
        "interval": 60,
    } | options
    return EventLogs(type="parakey.event_logs", **given).named(name)


class Recorder(Sink):
    """Remembers what it was given, in lists that belong to the test."""

    type: Literal["recorder"] = "recorder"

    def told(self) -> list[Event]:
        return RECORDS.setdefault(self.name, [])

    @asynccontextmanager
    async def open(self, http: Http, receipt: Receipt | None) -> AsyncIterator[Deliver]:
        async def deliver(events: Sequence[Event]) -> None:
            for event in events:
                PLANS.get(self.name, lambda event: None)(event)
                self.told().append(event)

        yield deliver


RECORDS: dict[str, list[Event]] = {}
PLANS: dict[str, Callable[[Event], None]] = {}
"""What happens when an event reaches a recorder: raise to fail."""


def an_event(number: int, source: str = "doors", outcome: Any = "granted", **data: Any) -> Event:
    return Event.of(
        vendor="parakey",
        source=source,
        type="co.parakey.event_log.created",
        id=f"id{number:05d}",
        data={"number": number, **data},
        time="2026-05-01T06:00:00Z",
        outcome=outcome,
    )
