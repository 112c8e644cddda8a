"""What all made-up vendors have in common: a function from request to answer, which may be told to fail.

So a vendor can stand behind a socket (`server.py`) or behind a transport.
"""

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


class Vendor(ABC):
    """Somebody who answers requests."""

    slots: int | None = None
    """Requests at the same time that it stands; more are answered 429."""

    def __init__(self, now: Callable[[], datetime] | None = None) -> None:
        self.now = now or (lambda: datetime.now(UTC))
        self.faults: deque[Fault] = deque()
        self.asked = 0
        """Requests so far, faults included."""
        self.under_way = 0
        """Requests that it works on and that hold a slot; whoever serves it counts them."""

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

    def answer(self, method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str]) -> Reply:
        self.asked += 1
        return self.whose(path).answer(method, path, query, headers)

    def reply(self, *_: Any) -> Reply:
        raise NotImplementedError


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
