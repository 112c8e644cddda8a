"""What carries a request to its server: aiohttp's connections, or any httpx transport, as in tests."""

import base64
import ssl
from dataclasses import dataclass
from typing import Protocol

import aiohttp
import httpx
from httpx_aiohttp.transport import AiohttpResponseStream, map_aiohttp_exceptions

from roundsman.http import bounded
from roundsman.http.bounded import HEAD
from roundsman.http.headers import Headers
from roundsman.http.request import Request

KEEPALIVE = 75.0
"""Seconds that an idle connection is kept."""


@dataclass(slots=True)
class Reply:
    """The head of an answer, and its body as a stream, which the receiver closes."""

    status: int
    headers: Headers
    stream: httpx.AsyncByteStream


class Carrier(Protocol):
    """Sends a request once."""

    async def send(self, request: Request) -> Reply:
        """Raises httpx.TransportError, an error of aiohttp that is none of those, or ValueError."""

    async def aclose(self) -> None: ...


class Connections:
    """aiohttp's connections for requests to one origin. They keep no cookies, and follow no redirects."""

    def __init__(
        self, tls: ssl.SSLContext, *, concurrency: int, timeout: float, proxy: str | None, plain: bool
    ) -> None:
        """`plain`: requests are sent without TLS."""
        self._tls = tls
        self._concurrency = concurrency
        self._timeout = aiohttp.ClientTimeout(connect=timeout, sock_connect=timeout, sock_read=timeout)
        self._proxy, self._password = _proxy(proxy)
        # Without TLS the request itself goes to the proxy, with its password; with TLS only CONNECT does.
        self._own = self._password if plain else {}
        self._session: aiohttp.ClientSession | None = None

    async def send(self, request: Request) -> Reply:
        for name, value in request.headers.items():
            if not (name.isascii() and value.isascii()):
                raise ValueError("a header has a character that HTTP does not have")
        with map_aiohttp_exceptions():
            response = await self._open().request(
                request.method,
                request.target.url,
                headers=request.headers,
                data=request.content or None,  # of an empty body aiohttp would state a type
                allow_redirects=False,
                timeout=self._timeout,
                proxy=self._proxy,
                proxy_headers=self._password,
            )
        return Reply(response.status, Headers(response.raw_headers), AiohttpResponseStream(response))

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=bounded.connector(
                    limit=self._concurrency, keepalive_timeout=KEEPALIVE, ssl=self._tls
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers=self._own,
                skip_auto_headers=("User-Agent",),
                auto_decompress=False,
                max_line_size=HEAD,
                max_field_size=HEAD,
            )
        return self._session

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()


class Transported:
    """Carries requests by an httpx transport."""

    def __init__(self, transport: httpx.AsyncBaseTransport, *, timeout: float) -> None:
        self._transport = transport
        self._timeout = httpx.Timeout(timeout).as_dict()

    async def send(self, request: Request) -> Reply:
        response = await self._transport.handle_async_request(
            httpx.Request(
                request.method,
                request.target.url,
                headers=request.headers,
                content=request.content,
                extensions={"timeout": self._timeout},
            )
        )
        assert isinstance(response.stream, httpx.AsyncByteStream)
        return Reply(response.status_code, Headers(response.headers.raw), response.stream)

    async def aclose(self) -> None:
        await self._transport.aclose()


def _proxy(address: str | None) -> tuple[str | None, dict[str, str]]:
    """The proxy's address, and its user and password as a header."""
    if address is None:
        return None, {}
    url = httpx.URL(address)
    if not url.userinfo:
        return str(url), {}
    password = base64.b64encode(f"{url.username}:{url.password}".encode()).decode()
    return str(url.copy_with(userinfo=b"")), {"Proxy-Authorization": f"Basic {password}"}
