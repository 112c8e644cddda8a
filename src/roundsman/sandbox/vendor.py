"""The base of the simulated vendors: a function from request to answer, with faults on demand.

So a vendor can be served by a socket (`server.py`) or by a transport.
"""

import hashlib
import hmac
import json
import zlib
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Fault:
    """A failure in place of the next answer."""

    status: int = 500
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    kind: Literal["answer", "hang", "drop", "endless"] = "answer"
    path: str = ""
    """Only for paths with this prefix."""


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes
    kind: str = "answer"


@dataclass(frozen=True, slots=True)
class Subscription:
    """An address that a vendor sends webhooks to."""

    url: str
    secret: str = ""
    """The key for signatures, if the vendor signs."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Headers that the user entered for it, if the vendor supports that."""
    kinds: frozenset[str] = frozenset()
    """Kinds of events to send; empty: all."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A webhook to send: a POST."""

    url: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(slots=True)
class News:
    """Something to send to a vendor's subscribers."""

    at: datetime
    kind: str
    say: Callable[[], Any]
    """Returns the body's document at the time of sending; None if it is not ready yet."""


class Vendor(ABC):
    """A simulated vendor: answers requests and sends webhooks."""

    slots: int | None = None
    """Maximum number of concurrent requests; more are answered 429. None: no limit."""

    def __init__(self, now: Callable[[], datetime] | None = None) -> None:
        self.now = now or (lambda: datetime.now(UTC))
        self.faults: deque[Fault] = deque()
        self.asked = 0
        """Requests so far, faults included."""
        self.under_way = 0
        """Current requests that hold a slot; the server counts them."""
        self.body = b""
        """The body of the current request; the server sets it."""
        self.subscriptions: list[Subscription] = []
        self._news: list[News] = []

    def announce(self, at: datetime, kind: str, say: Callable[[], Any]) -> None:
        """Queue a webhook to all subscribers, to be sent at `at` or later."""
        self._news.append(News(at, kind, say))

    def due(self) -> "list[tuple[Subscription, Any]]":
        """Takes what is due from the queue: each document once for each subscriber."""
        now, found, left = self.now(), list[tuple[Subscription, Any]](), list[News]()
        for news in self._news:
            document = news.say() if news.at <= now else None
            if document is None:
                left.append(news)
            else:
                matching = [s for s in self.subscriptions if not s.kinds or news.kind in s.kinds]
                found += [(each, document) for each in matching]
        self._news = left
        return found

    def outgoing(self) -> list[Outgoing]:
        """The webhooks that are due, signed now."""
        return [self.letter(*each) for each in self.due()]

    def letter(self, subscription: Subscription, document: Any) -> Outgoing:
        """One webhook, as this vendor encodes and signs it."""
        body = json.dumps(document, separators=(",", ":")).encode()
        kind = {"content-type": "application/json"}
        return Outgoing(subscription.url, {**kind, **subscription.headers}, body)

    def tries(self, method: str, path: str) -> str | None:  # noqa: ARG002 - for overrides
        """The URL in the current request that must answer a GET before the request is granted, if any."""
        return None

    def answer(self, method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str]) -> Reply:
        """The answer to one request. Header names in lower case."""
        self.asked += 1
        date = {"Date": self.now().strftime("%a, %d %b %Y %H:%M:%S GMT"), "Content-Type": "application/json"}
        fault = next((fault for fault in self.faults if path.startswith(fault.path)), None)
        if fault is not None:
            self.faults.remove(fault)
            reply = Reply(fault.status, fault.headers, fault.body, fault.kind)
        elif self.slots is not None and self.under_way > self.slots and self.holds_slot(path):
            reply = Reply(429, {}, b"")
        else:
            reply = self.reply(method, path, query, headers)
        return Reply(reply.status, {**date, **reply.headers}, reply.body, reply.kind)

    def holds_slot(self, path: str) -> bool:
        """Whether a request for this path counts against `slots`."""
        return self.slots is not None and bool(path)

    @abstractmethod
    def reply(self, method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str]) -> Reply:
        """The answer to a request without a fault."""


class Town(Vendor):
    """Several vendors at one address, distinguished by path."""

    def __init__(self, vendors: Mapping[str, Vendor]) -> None:
        super().__init__()
        self._vendors = vendors
        """By path prefix; "" for all other paths."""

    def whose(self, path: str) -> Vendor:
        found = [start for start in self._vendors if path.startswith(start)]
        return self._vendors[max(found, key=len)]

    def outgoing(self) -> list[Outgoing]:
        unique = {id(vendor): vendor for vendor in self._vendors.values()}
        return [letter for vendor in unique.values() for letter in vendor.outgoing()]

    def answer(self, method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str]) -> Reply:
        self.asked += 1
        vendor = self.whose(path)
        vendor.body = self.body
        return vendor.answer(method, path, query, headers)

    def reply(self, *_: Any) -> Reply:
        raise NotImplementedError


def signature(secret: str, time: str, tag: str, body: bytes) -> str:
    """`t=TIME,TAG=HEX`: the signature header of Mailchimp and Railz."""
    made = hmac.new(secret.encode(), f"{time}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={time},{tag}={made}"


def document(status: int, body: Any, **headers: str) -> Reply:
    """An answer in JSON."""
    return Reply(status, headers, json.dumps(body, separators=(",", ":")).encode())


def tagged(body: bytes, headers: Mapping[str, str], *, weak: bool = False, conditional: bool = True) -> Reply:
    """The body with an ETag made from it, or 304 if the caller has it and `conditional` is set."""
    etag = f'"{zlib.crc32(body):08x}-{len(body):x}"'
    etag = "W/" + etag if weak else etag
    if headers.get("if-none-match") == etag and conditional:
        return Reply(304, {"ETag": etag}, b"")
    return Reply(200, {"ETag": etag}, body)
