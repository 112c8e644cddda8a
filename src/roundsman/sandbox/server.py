"""Serves the sandbox on a real socket of the loopback interface, and sends its webhooks over HTTP."""

import asyncio
import contextlib
from types import TracebackType
from typing import Self

import aiohttp
from aiohttp import web

from roundsman.sandbox.vendor import Outgoing, Reply, Town, Vendor, document

PIECE = b" " * 65536
LOOK_EVERY = 0.05
"""Seconds between two checks for webhooks to send."""
TRIES, APART = 3, 2.0
"""Number of attempts to send a webhook, and seconds between two of them."""
PATIENCE = aiohttp.ClientTimeout(total=10)


class Sandbox:
    """Serves one vendor, or a `Town` of them: `async with Sandbox(Parakey()) as box: box.url`."""

    def __init__(self, vendor: Vendor, host: str = "127.0.0.1", port: int = 0, latency: float = 0.0) -> None:
        self.vendor = vendor
        self._latency = latency
        self._host, self._port = host, port
        self._runner: web.ServerRunner | None = None

    @property
    def url(self) -> str:
        return f"http://{self._host}:{self._port}"

    async def __aenter__(self) -> Self:
        self._runner = web.ServerRunner(web.Server(self._serve), shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self._port)
        await site.start()
        self._port = int(self._runner.addresses[0][1])
        self._post = asyncio.create_task(self._send_webhooks())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._runner is not None
        self._post.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._post
        await self._runner.cleanup()

    async def _send_webhooks(self) -> None:
        """Send the webhooks that are due. Like vendors, give up after some attempts."""
        async with aiohttp.ClientSession(timeout=PATIENCE) as session, asyncio.TaskGroup() as group:
            while True:
                for letter in self.vendor.outgoing():
                    group.create_task(self._send(session, letter))
                await asyncio.sleep(LOOK_EVERY)

    async def _send(self, session: aiohttp.ClientSession, letter: Outgoing) -> None:
        for attempt in range(TRIES):
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                async with session.post(letter.url, data=letter.body, headers=letter.headers) as answer:
                    if answer.ok:
                        return
            if attempt + 1 < TRIES:
                await asyncio.sleep(APART)

    async def _answers(self, url: str) -> bool:
        """Whether a GET to this URL succeeds: vendors try an address before they use it."""
        try:
            async with aiohttp.ClientSession(timeout=PATIENCE) as session, session.get(url) as answer:
                return answer.ok
        except (aiohttp.ClientError, ValueError, TimeoutError):
            return False

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        vendor = self.vendor.whose(request.path) if isinstance(self.vendor, Town) else self.vendor
        holds = vendor.holds_slot(request.path)
        vendor.under_way += holds
        try:
            if self._latency:
                await asyncio.sleep(self._latency)
            body = await request.read()
            vendor.body = self.vendor.body = body
            tried = vendor.tries(request.method, request.path)
            if tried is not None and not await self._answers(tried):
                reply = document(
                    400, {"status": 400, "title": "Invalid Resource", "detail": "The URL does not answer."}
                )
            else:
                vendor.body = self.vendor.body = body  # other requests came while the address was tried
                reply = self.vendor.answer(request.method, request.path, dict(request.query), headers)
        finally:
            vendor.under_way -= holds
        if reply.kind == "hang":
            await asyncio.Event().wait()
        if reply.kind == "drop" and request.transport is not None:
            request.transport.abort()
        if reply.kind == "endless":
            return await self._endless(request, reply)
        return web.Response(status=reply.status, headers=reply.headers, body=reply.body)

    async def _endless(self, request: web.BaseRequest, reply: Reply) -> web.StreamResponse:
        response = web.StreamResponse(status=200, headers=reply.headers)
        await response.prepare(request)
        await response.write(b"[")
        while True:
            await response.write(PIECE)
