"""The sandbox on a real socket of the loopback interface."""

import asyncio
from types import TracebackType
from typing import Self

from aiohttp import web

from roundsman.sandbox.vendor import Reply, Town, Vendor

PIECE = b" " * 65536


class Sandbox:
    """Serves a made-up vendor, or a town of them: `async with Sandbox(Parakey()) as box: box.url`."""

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
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        vendor = self.vendor.whose(request.path) if isinstance(self.vendor, Town) else self.vendor
        holds = vendor.holds_slot(request.path)
        vendor.under_way += holds
        try:
            if self._latency:
                await asyncio.sleep(self._latency)
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
