"""A web of functions: a plugin's real HTTP client, connected to a test's answers without a socket."""

import asyncio
import hashlib
import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any, TypeAlias

import httpx

from roundsman.http.transport import Clients, HttpOptions
from roundsman.testing.clock import Time

TURN = 100
"""Requests after which the event loop gets a turn: without one, a source that asks without end has no time limit."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request as the vendor gets it."""

    method: str
    url: str
    path: str
    params: Mapping[str, str]
    """The query."""
    headers: Mapping[str, str]
    """By lower-case name."""
    body: bytes = b""

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer in full."""

    body: Any = b""
    """Bytes and text as they are; anything else as JSON."""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def content(self) -> bytes:
        if isinstance(self.body, bytes):
            return self.body
        return self.body.encode() if isinstance(self.body, str) else json.dumps(self.body).encode()


class InTurn(tuple[Any, ...]):
    """Answers, one after the other; the last one stays."""

    __slots__ = ()


def in_turn(*answers: Any) -> InTurn:
    """The first request gets the first answer, the second the second, and so on; the last one stays."""
    return InTurn(answers)


Answers: TypeAlias = Callable[[Request], Any] | Mapping[str, Any]
"""From a request to its answer: a function, or a table by path (`"/orders"`, or `"POST /orders"`).

An answer is a document (sent as JSON), a status, text or bytes (sent as they are), a `Reply`, `in_turn(...)`,
an exception (there is no answer: `TimeoutError()` is one that never comes, any other a broken connection), or
a function from the request to one of these. Paths that the table has not are answered with 404.
"""


class Web(httpx.AsyncBaseTransport):
    """The vendor or the receiver of a test. Plugins reach it at any address."""

    def __init__(self, answers: Answers, *, time: Time | None = None, etags: bool = True) -> None:
        """`etags`: a GET's 200 has the ETag of its body, and a request with that ETag is answered with 304."""
        self.time = time or Time()
        self.requests: list[Request] = []
        """Every request, retries included."""
        self._answers = answers
        self._etags = etags
        self._turns: dict[int, int] = {}
        """How many answers of each `in_turn` were given."""

    def again(self, time: Time | None = None) -> "Web":
        """The same answers from the start: no request was made yet."""
        return Web(self._answers, time=time or Time(), etags=self._etags)

    def clients(self, **options: Any) -> Clients:
        """The connections of a daemon whose every address is this web; `options` are those of [http]."""
        return Clients(
            HttpOptions(**options), now=self.time.now, sleep=self.time.sleep, transport=lambda _: self
        )

    async def reply(self, request: Request) -> Reply | Exception:
        """The answer to a request; an exception if there is none."""
        found = self._found(request)
        while True:
            if inspect.isawaitable(found):
                found = await found
            elif isinstance(found, InTurn):
                at = self._turns.get(id(found), 0)
                self._turns[id(found)] = at + 1
                found = found[min(at, len(found) - 1)]
            elif callable(found):
                found = found(request)
            else:
                break
        if isinstance(found, Exception):
            return found
        if isinstance(found, int) and not isinstance(found, bool):
            found = Reply(status=found)
        return self._tagged(request, found if isinstance(found, Reply) else Reply(found))

    def _found(self, request: Request) -> Any:
        answers = self._answers
        if not isinstance(answers, Mapping):
            return answers(request)
        for key in (f"{request.method} {request.path}", request.path):
            if key in answers:
                return answers[key]
        return Reply({"message": f"there is no {request.path} in this web"}, 404)

    def _tagged(self, request: Request, reply: Reply) -> Reply:
        if not self._etags or request.method != "GET" or reply.status != 200:
            return reply
        etag = f'"{hashlib.blake2b(reply.content, digest_size=6).hexdigest()}"'
        headers = {"ETag": etag, **reply.headers}
        if request.headers.get("if-none-match") == headers["ETag"]:
            return Reply(status=304, headers=headers)
        return Reply(reply.body, reply.status, headers)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        asked = Request(
            request.method,
            str(request.url),
            request.url.path,
            dict(request.url.params),
            {name.lower(): value for name, value in request.headers.items()},
            request.content if request.method != "GET" else b"",
        )
        self.requests.append(asked)
        if len(self.requests) % TURN == 0:
            await asyncio.sleep(0)
        reply = await self.reply(asked)
        if isinstance(reply, TimeoutError):
            raise httpx.ReadTimeout("no answer", request=request)
        if isinstance(reply, Exception):
            raise httpx.RemoteProtocolError("broken connection", request=request)
        kind = {} if isinstance(reply.body, bytes | str) else {"Content-Type": "application/json"}
        headers = {"Date": formatdate(self.time.vendor(), usegmt=True), **kind, **reply.headers}
        stream = httpx.ByteStream(reply.content)
        return httpx.Response(reply.status, headers=headers, stream=stream, request=request)
