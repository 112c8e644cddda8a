"""Small worlds to test in: a clock that is set by hand, transports without sockets, sinks that remember."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Literal

import httpx
from cloudevents.core.formats.json import JSONFormat
from pydantic import TypeAdapter

from roundsman import kinds, shapes, testing
from roundsman.engine.clock import Clock
from roundsman.events import Event
from roundsman.http.client import Http
from roundsman.http.transport import Clients, HttpOptions
from roundsman.plugin import Deliver, Receipt, Sink
from roundsman.sandbox import TOKEN, Vendor
from roundsman.sandbox.mailchimp import API_KEY
from roundsman.sandbox.railz import CLIENT_ID, SECRET_KEY
from roundsman.shapes import Access
from roundsman.sources import mailchimp, railz
from roundsman.sources.parakey import Batches, EventLogs
from roundsman.testing import START


class Time(testing.Time):
    """A clock that moves only by calls; sleeping moves it, too."""

    def __init__(self, now: float = START) -> None:
        super().__init__(now)
        self.asleep = 0.0

    def utc(self) -> datetime:
        return datetime.fromtimestamp(self.wall, UTC)

    def suspend(self, seconds: float) -> None:
        """The machine sleeps: the monotonic clock stands still."""
        self.wall += seconds
        self.asleep += seconds

    async def never(self, seconds: float) -> None:
        """What the heartbeat waits for: tests beat by hand."""
        await asyncio.Event().wait()

    def clock(self) -> Clock:
        return Clock(self.now, lambda: self.ticks, self.never, lambda: self.asleep)


class ByHand:
    """Alarms that a test rings."""

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

    def __init__(self, vendor: Vendor, before: Callable[[], None] = lambda: None) -> None:
        self.vendor = vendor
        self.before = before
        self.requests: list[httpx.Request] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        self.before()
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.vendor.body = await request.aread()
        reply = self.vendor.answer(request.method, request.url.path, dict(request.url.params), headers)
        self.before()
        if reply.kind == "hang":
            raise httpx.ReadTimeout("hangs", request=request)
        if reply.kind == "drop":
            raise httpx.RemoteProtocolError("dropped", request=request)
        body = httpx.ByteStream(reply.body)
        return httpx.Response(reply.status, headers=reply.headers, stream=body, request=request)


def web_of(transport: httpx.AsyncBaseTransport, time: Time, **options: Any) -> Clients:
    return Clients(HttpOptions(**options), now=time.now, sleep=time.sleep, transport=lambda url: transport)


def event_logs(name: str = "doors", **options: Any) -> EventLogs:
    given = {
        "base_url": "http://127.0.0.1:1",
        "access_token": TOKEN,
        "start": "beginning",
        "interval": 60,
    } | options
    return EventLogs(type="parakey.event_logs", **given).named(name)


def mailchimp_batches(name: str = "news", **options: Any) -> mailchimp.Batches:
    given = {"base_url": "http://127.0.0.1:1/3.0", "api_key": API_KEY, "start": "beginning"} | options
    return mailchimp.Batches(type="mailchimp.batches", **given).named(name)


def railz_pushes(name: str = "ledger", **options: Any) -> railz.Pushes:
    given = {
        "base_url": "http://127.0.0.1:1",
        "auth_url": "http://127.0.0.1:1/getAccess",
        "client_id": CLIENT_ID,
        "secret_key": SECRET_KEY,
        "connections": "discover",
        "start": "beginning",
    } | options
    return railz.Pushes(type="railz.pushes", **given).named(name)


def parakey_batches(name: str = "keys", **options: Any) -> Batches:
    given = {"base_url": "http://127.0.0.1:1", "access_token": TOKEN, "start": "beginning"} | options
    return Batches(type="parakey.batches", **given).named(name)


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
    """A valid event whose raw object has a number in it."""
    access: Access = {
        "occurred_at": None,
        "recorded_at": None,
        "door": None,
        "user": None,
        "place": None,
        "key": None,
        "activity": None,
        "raw": {"number": number},
    }
    for name, value in data.items():
        if name in access:
            access[name] = value  # type: ignore[literal-required]
        else:
            access["raw"][name] = value
    return Event.of(
        vendor="parakey",
        source=source,
        type="co.parakey.event_log.created",
        id=f"id{number:05d}",
        data=access,
        time="2026-05-01T06:00:00Z",
        outcome=outcome,
    )


def a_failure(number: int, source: str = "doors", **data: Any) -> Event:
    """A failure with this data, of a plugin's type."""
    return Event.of(
        vendor="parakey",
        source=source,
        type="co.parakey.test.failed",
        id=f"id{number:05d}",
        data=data,
        time="2026-05-01T06:00:00Z",
        outcome="failed",
    )


SHAPES = {kind: TypeAdapter(shape) for kind, shape in kinds.TYPES.items()}
ENVELOPE = TypeAdapter(shapes.Envelope)


def keeps_the_contract(event: Event) -> None:
    """That it has the shape of its type, and is a CloudEvent to the official SDK."""
    assert b"\n" not in event.body
    document = json.loads(event.body)
    ENVELOPE.validate_python(document, strict=True)
    if event.type in SHAPES:  # a test's own type has a shape of its own
        SHAPES[event.type].validate_python(document["data"], strict=True)
    parsed = JSONFormat().read(None, event.body)
    assert parsed.get_id() == event.id == document["id"]
    assert parsed.get_type() == event.type
    assert parsed.get_source() == document["source"]
    assert document["source"].endswith(f"/{event.source}")
