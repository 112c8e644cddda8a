"""How a request gets its credentials: by an authentication of ours, or by any flow of httpx, such as a plugin's own."""

import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator
from functools import partial
from typing import Any

import httpx

from roundsman.http.answers import Answer
from roundsman.http.headers import CODING, Headers
from roundsman.http.request import Request, target

Send = Callable[[Request], Awaitable[Answer]]
Now = Callable[[], float]


class Direct(httpx.Auth, ABC):
    """An authentication that needs no request of httpx: making one costs more than all else about a request."""

    @abstractmethod
    async def answer(self, request: Request, send: Send, now: Now) -> Answer:
        """The answer to this request, with credentials. `send` may be called several times, and for others."""

    def auth_flow(self, request: httpx.Request) -> Any:  # noqa: ARG002 - it is never sent
        """Without this, httpx would send the request without credentials."""
        name = type(self).__name__
        raise TypeError(
            f"{name} has no auth_flow: a flow around it defines async_auth_flow, and uses that of {name}"
        )

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """For a flow of a plugin around this one: the requests of `answer`, as httpx documents them."""
        now = request.extensions.get("now", time.time)
        asking = self.answer(await _ours(request), _send, now)
        answer: Answer | None = None
        try:
            while (asked := await _Step(asking, answer)) is not None:
                response = yield _question(asked, now)
                body = await response.aread()
                answer = Answer(response.status_code, Headers(response.headers.raw).decoded(), body)
        finally:
            asking.close()


class _Asked:
    """What `_send` waits for: the answer to this request, which `_Step` passes on."""

    def __init__(self, request: Request) -> None:
        self.request = request

    def __await__(self) -> Generator[Any, Answer, Answer]:
        return (yield self)


async def _send(request: Request) -> Answer:
    return await _Asked(request)


class _Step:
    """Runs a coroutine with an answer to its next request, which is the result; None if the coroutine has ended."""

    def __init__(self, asking: Coroutine[Any, Any, Answer], answer: Answer | None) -> None:
        self._asking = asking
        self._answer = answer

    def __await__(self) -> Generator[Any, Any, Request | None]:
        run = partial(self._asking.send, self._answer)
        while True:
            try:
                found = run()
            except StopIteration:
                return None
            if isinstance(found, _Asked):
                return found.request
            try:
                value = yield found  # it waits for something else, such as a lock
            except BaseException as exc:  # noqa: BLE001 - the coroutine handles it, or raises it
                run = partial(self._asking.throw, exc)
            else:
                run = partial(self._asking.send, value)


async def authenticated(auth: httpx.Auth | None, request: Request, send: Send, now: Now) -> Answer:
    """The answer to a request that is sent with these credentials."""
    if auth is None:
        return await send(request)
    if isinstance(auth, Direct):
        return await auth.answer(request, send, now)
    flow = auth.async_auth_flow(_question(request, now))
    try:
        asked = await anext(flow)
        while True:
            answer = await send(await _ours(asked))
            try:
                asked = await flow.asend(_theirs(answer, asked))
            except StopAsyncIteration:
                return answer
    finally:
        await flow.aclose()


def _question(request: Request, now: Now) -> httpx.Request:
    """A request of ours as one of httpx."""
    return httpx.Request(
        request.method,
        request.target.url,
        headers=request.headers,
        content=request.content,
        extensions={
            "now": now,
            "read": request.reads,
            "retry_timeouts": request.retry_timeouts,
            "asker": request.asker,
        },
    )


async def _ours(asked: httpx.Request) -> Request:
    """What a flow asks for. The body of the answer to a request that the flow made itself is always read."""
    return Request(
        asked.method,
        target(str(asked.url)),
        {name: value for name, value in asked.headers.items() if name != "transfer-encoding"},
        await asked.aread() or None,
        asked.extensions.get("read", True),
        asked.extensions.get("retry_timeouts", True),
        asker=asked.extensions.get("asker", ""),
    )


def _theirs(answer: Answer, asked: httpx.Request) -> httpx.Response:
    """The answer for a flow. Its headers stay apart: several challenges or cookies in one text cannot be separated."""
    assert isinstance(answer.headers, Headers)
    fields = [field for field in answer.headers.fields if field[0].decode("latin-1").lower() not in CODING]
    return httpx.Response(answer.status, headers=fields, content=answer.body, request=asked)
