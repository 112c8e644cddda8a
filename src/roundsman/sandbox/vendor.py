"""What all made-up vendors have in common: a function from request to answer, which may be told to fail.

So a vendor can stand behind a socket (`server.py`) or behind a transport.
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
    """What goes wrong instead of the next answer."""

    status: int = 500
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    kind: Literal["answer", "hang", "drop", "endless"] = "answer"
    path: str = ""
    """Only where the path begins so."""


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes
    kind: str = "answer"


@dataclass(frozen=True, slots=True)
class Subscription:
    """Where a vendor sends webhooks."""

    url: str
    secret: str = ""
    """What they are signed with, where the vendor signs."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Headers that somebody entered for it, where the vendor has that."""
    kinds: frozenset[str] = frozenset()
    """Which ones; empty: all."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A webhook on its way: a POST."""

    url: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(slots=True)
class News:
    """What a vendor will tell its subscribers."""

    at: datetime
    kind: str
    say: Callable[[], Any]
    """Its body's document when it is sent; None while it is not so far."""


class Vendor(ABC):
    """Somebody who answers requests, and sends webhooks."""

    slots: int | None = None
    """Requests at the same time that it stands; more are answered 429."""

    def __init__(self, now: Callable[[], datetime] | None = None) -> None:
        self.now = now or (lambda: datetime.now(UTC))
        self.faults: deque[Fault] = deque()
        self.asked = 0
        """Requests so far, faults included."""
        self.under_way = 0
        """Requests that it works on and that hold a slot; whoever serves it counts them."""
        self.body = b""
        """That of the request which is answered at present; whoever serves it sets it."""
        self.subscriptions: list[Subscription] = []
        self._news: list[News] = []

    def announce(self, at: datetime, kind: str, say: Callable[[], Any]) -> None:
        """Have something told to subscribers, from `at` on."""
        self._news.append(News(at, kind, say))

    def due(self) -> "list[tuple[Subscription, Any]]":
        """What has to be told by now, each once to each subscriber."""
        now, found, left = self.now(), list[tuple[Subscription, Any]](), list[News]()
        for news in self._news:
            document = news.say() if news.at <= now else None
            if document is None:
                left.append(news)
            else:
                wanted = [s for s in self.subscriptions if not s.kinds or news.kind in s.kinds]
                found += [(each, document) for each in wanted]
        self._news = left
        return found

    def outgoing(self) -> list[Outgoing]:
        """The webhooks that have become due, signed now."""
        return [self.letter(*each) for each in self.due()]

    def letter(self, subscription: Subscription, document: Any) -> Outgoing:
        """One webhook, as this vendor writes and signs it."""
        body = json.dumps(document, separators=(",", ":")).encode()
        kind = {"content-type": "application/json"}
        return Outgoing(subscription.url, {**kind, **subscription.headers}, body)

    def tries(self, method: str, path: str) -> str | None:  # noqa: ARG002 - for those who try
        """The address in the present request that has to answer a GET, before the request is granted."""
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
        """Whether a request for this path counts."""
        return self.slots is not None and bool(path)

    @abstractmethod
    def reply(self, method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str]) -> Reply:
        """The answer where nothing goes wrong."""


class Town(Vendor):
    """Several vendors at one address, told apart by path."""

    def __init__(self, vendors: Mapping[str, Vendor]) -> None:
        super().__init__()
        self._vendors = vendors
        """By the beginnings of their paths; "" for whoever takes the rest."""

    def whose(self, path: str) -> Vendor:
        found = [start for start in self._vendors if path.startswith(start)]
        return self._vendors[max(found, key=len)]

    def outgoing(self) -> list[Outgoing]:
        everybody = {id(vendor): vendor for vendor in self._vendors.values()}
        return [letter for vendor in everybody.values() for letter in vendor.outgoing()]

    def answer(self, method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str]) -> Reply:
        self.asked += 1
        return self.whose(path).answer(method, path, query, headers)

    def reply(self, *_: Any) -> Reply:
        raise NotImplementedError


def signature(secret: str, time: str, tag: str, body: bytes) -> str:
    """`t=TIME,TAG=HEX`: what Mailchimp and Railz put into their headers."""
    made = hmac.new(secret.encode(), f"{time}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={time},{tag}={made}"


def document(status: int, body: Any, **headers: str) -> Reply:
    """An answer in JSON."""
    return Reply(status, headers, json.dumps(body, separators=(",", ":")).encode())


def tagged(body: bytes, headers: Mapping[str, str], *, weak: bool = False, conditional: bool = True) -> Reply:
    """The body with an ETag made from it, or 304 where the asker has it."""
    etag = f'"{zlib.crc32(body):08x}-{len(body):x}"'
    etag = "W/" + etag if weak else etag
    if headers.get("if-none-match") == etag and conditional:
        return Reply(304, {"ETag": etag}, b"")
    return Reply(200, {"ETag": etag}, body)
