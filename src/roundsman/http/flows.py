"""How a request gets its credentials: by an authentication of ours, or by any flow of httpx, such as a plugin's own."""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
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
        raise TypeError(f"{type(self).__name__} cannot be part of another flow of httpx")


async def authenticated(auth: httpx.Auth | None, request: Request, send: Send, now: Now) -> Answer:
    """The answer to a request that is sent with these credentials."""
    if auth is None:
        return await send(request)
    if isinstance(auth, Direct):
        return await auth.answer(request, send, now)
    flow = auth.async_auth_flow(
        httpx.Request(
            request.method,
            request.target.url,
            headers=request.headers,
            content=request.content,
            extensions={"now": now, "read": request.reads, "retry_timeouts": request.retry_timeouts},
        )
    )
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


async def _ours(asked: httpx.Request) -> Request:
    """What a flow asks for. The body of the answer to a request that the flow made itself is always read."""
    return Request(
        asked.method,
        target(str(asked.url)),
        {name: value for name, value in asked.headers.items() if name != "transfer-encoding"},
        await asked.aread() or None,
        asked.extensions.get("read", True),
        asked.extensions.get("retry_timeouts", True),
    )


def _theirs(answer: Answer, asked: httpx.Request) -> httpx.Response:
    """The answer for a flow. Its headers stay apart: several challenges or cookies cannot be told from one text."""
    assert isinstance(answer.headers, Headers)
    fields = [field for field in answer.headers.fields if field[0].decode("latin-1").lower() not in CODING]
    return httpx.Response(answer.status, headers=fields, content=answer.body, request=asked)
