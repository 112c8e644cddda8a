"""All connections of the daemon: one pooled client per host, with slots, deadlines, limits and retries."""

import asyncio
import base64
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from http.cookiejar import CookieJar, DefaultCookiePolicy
from pathlib import Path
from typing import Annotated, Any

import aiohttp
import httpx
import structlog
import tenacity
from httpx_aiohttp import AiohttpTransport
from pydantic import AfterValidator, Field

from roundsman.errors import RequestFailed, TooLarge
from roundsman.http import bounded, decoding
from roundsman.http.answers import READABLE, TRANSIENT, is_page
from roundsman.http.bounded import HEAD
from roundsman.http.exchange import Exchange, Observer, Unobserved, log_exchange
from roundsman.http.urls import host_of, http_url, is_loopback
from roundsman.options.paths import FilePath
from roundsman.options.values import Duration, Options, Size

DRAIN, DRAIN_BYTES = 1.0, 64 * 1024
"""Maximum seconds and bytes for reading an unneeded body: up to that, it is cheaper than a new connection."""
BESIDE = 10.0
"""Maximum seconds for the body of an answer that failed: the status and headers say most."""


IDEMPOTENT = frozenset({"GET", "HEAD"})

log = structlog.get_logger()


Transport = Callable[[httpx.URL], httpx.AsyncBaseTransport]


def certificates(path: Path) -> Path:
    """The path of a file with certificates, or ValueError."""
    try:
        ssl.create_default_context(cafile=str(path))
    except OSError as exc:
        raise ValueError(f"cannot be used: {exc.strerror or 'it holds no certificate'}") from None
    return path


class HttpOptions(Options):
    """`[http]`: settings of all outgoing requests. The defaults are good for most setups."""

    timeout: Annotated[Duration, Field(gt=0)] = 30.0
    """Maximum time to wait for a connection, and between two pieces of an answer."""
    deadline: Annotated[Duration, Field(gt=0)] = 120.0
    """Maximum time for a whole answer."""
    concurrency: Annotated[int, Field(ge=1, le=1000)] = 8
    """Maximum concurrent requests to one host."""
    max_body: Size = 64 * 2**20
    """Maximum size of an answer, after decompression."""
    attempts: Annotated[int, Field(ge=1, le=10)] = 3
    """Maximum attempts of one read in one visit; only transient faults are retried."""
    proxy: Annotated[Annotated[str, AfterValidator(http_url)] | None, Field(repr=False)] = None
    """A proxy for all requests: "http://proxy.example:3128"."""
    ca_file: Annotated[FilePath, AfterValidator(certificates)] | None = None
    """A PEM file with additional certificate authorities to trust, for a proxy or server of your own."""


class Clients:
    """All connections of the daemon: one pooled client per host, shared by all sources and sinks there."""

    def __init__(
        self,
        options: HttpOptions | None = None,
        *,
        version: str = "0",
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        transport: Transport | None = None,
    ) -> None:
        self.options = options or HttpOptions()
        self.now = now
        self.seen = 0
        """Requests sent, retries included."""
        self.observer: Observer = Unobserved()
        """Counts what is sent."""
        self.sleep = sleep
        self._headers = {
            "user-agent": f"roundsman/{version}",
            "accept": "application/json",
            "accept-encoding": "gzip",  # one fixed value: an ETag may depend on it
        }
        self._transport = transport or self._connect
        self._clients: dict[tuple[str, str, int | None], httpx.AsyncClient] = {}
        self._slots: dict[str, tuple[int, asyncio.Semaphore]] = {}
        self._tls: ssl.SSLContext | None = None

    def client(self, url: str | httpx.URL) -> httpx.AsyncClient:
        """The client for the URL's host, created on first use."""
        url = httpx.URL(url) if isinstance(url, str) else url
        origin = (url.scheme, url.host, url.port)
        client = self._clients.get(origin)
        if client is None:
            retrying = RetryingTransport(self._transport(url), self)
            # Sources with different credentials share this client: no cookie may pass from one to another.
            jar = CookieJar(DefaultCookiePolicy(allowed_domains=[]))
            client = self._clients[origin] = httpx.AsyncClient(
                transport=retrying,
                headers=self._headers,
                cookies=jar,
                timeout=self.options.timeout,
                trust_env=False,
            )
        return client

    def slot(self, identity: str, concurrency: int | None) -> AbstractAsyncContextManager[Any]:
        """A slot for one of the concurrent requests with these credentials."""
        if concurrency is None:
            return nullcontext()
        most, slots = self._slots.get(identity, (concurrency, None))
        if slots is None or concurrency < most:  # sources that share credentials share the smaller limit
            slots = asyncio.Semaphore(concurrency)
            self._slots[identity] = (concurrency, slots)
        return slots

    async def aclose(self) -> None:
        clients, self._clients = self._clients, {}
        for client in clients.values():
            await client.aclose()

    def _connect(self, url: httpx.URL) -> httpx.AsyncBaseTransport:
        # Without TLS an empty context is enough; the real one costs memory and start-up time. A token may be
        # fetched from another host, with TLS.
        plain = url.scheme == "http" and is_loopback(str(url)) and not self.options.proxy
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if plain else self._trust()

        proxy = _proxy(self.options.proxy)
        # Without TLS the request itself goes to the proxy, with its password; with TLS only CONNECT does.
        own = dict(proxy.headers) if proxy is not None and url.scheme == "http" else None

        def session() -> aiohttp.ClientSession:
            # The transport's own session would keep cookies and pass them from one source to another.
            return aiohttp.ClientSession(
                connector=bounded.connector(limit=self.options.concurrency, keepalive_timeout=75, ssl=tls),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers=own,
                skip_auto_headers=("User-Agent",),
                max_line_size=HEAD,
                max_field_size=HEAD,
            )

        return AiohttpTransport(verify=tls, proxy=proxy, client=session)

    def _trust(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = httpx.create_ssl_context()
            if self.options.ca_file:
                self._tls.load_verify_locations(self.options.ca_file)
        return self._tls


class RetryingTransport(httpx.AsyncBaseTransport):
    """Waits for a free slot, sends a request, reads the answer within limits, retries transient faults."""

    def __init__(self, inner: httpx.AsyncBaseTransport, clients: Clients) -> None:
        options = clients.options
        self._inner = inner
        self._clients = clients
        self._deadline = options.deadline
        self._max_body = options.max_body
        self._attempts = options.attempts
        self._slots = asyncio.Semaphore(options.concurrency)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.extensions.get("streamed"):
            return await self._streamed(request)
        retries = request.method in IDEMPOTENT and self._attempts > 1
        first: httpx.Response | Exception
        try:
            first = await self._once(request)
        except (httpx.TransportError, TimeoutError) as exc:
            slow = isinstance(exc, TimeoutError | httpx.TimeoutException)
            if not retries or (slow and not request.extensions.get("retry_timeouts", True)):
                raise
            first = exc
        else:
            if not retries or not self._passing(request, first):
                return first
        return await self._again(request, first)

    async def _again(self, request: httpx.Request, first: httpx.Response | Exception) -> httpx.Response:
        """All attempts, the `first` of which has failed: apart from the common path, since tenacity costs."""
        outcomes = [first]

        async def attempt() -> httpx.Response:
            outcome = outcomes.pop() if outcomes else await self._once(request)
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

        retrying = tenacity.AsyncRetrying(
            stop=tenacity.stop_after_attempt(self._attempts),
            wait=tenacity.wait_exponential(multiplier=0.25, max=5) + tenacity.wait_random(0, 0.5),
            # CancelledError is not an Exception, and must never be retried.
            retry=tenacity.retry_if_exception_type((httpx.TransportError, TimeoutError))
            | tenacity.retry_if_result(lambda response: self._passing(request, response)),
            sleep=self._clients.sleep,
            before_sleep=lambda state: self._retries(request.url.host, state),
            retry_error_callback=lambda state: state.outcome.result() if state.outcome else None,
        )
        response: httpx.Response = await retrying(attempt)
        return response

    def _retries(self, host: str, state: tenacity.RetryCallState) -> None:
        """Log and count a retry. A library's own text may hold a URL with a secret, and is left out."""
        outcome = state.outcome
        assert outcome is not None
        exc = outcome.exception()
        why = type(exc).__name__ if exc is not None else str(outcome.result().status_code)
        wait = round(state.upcoming_sleep, 1)
        log.info("http.retry", host=host, attempt=state.attempt_number, error=why, wait=wait)
        self._clients.observer.retried(host)

    def _passing(self, request: httpx.Request, response: httpx.Response) -> bool:
        if request.method not in IDEMPOTENT or "retry-after" in response.headers:
            return False  # the engine waits for Retry-After, not this transport
        status = response.status_code
        patient = request.extensions.get("retry_timeouts", True)
        return status in TRANSIENT or (patient and status == 403 and is_page(response.content))

    async def _once(self, request: httpx.Request) -> httpx.Response:
        async with self._slots:
            self._clients.seen += 1
            began = time.monotonic()
            response, error = None, ""
            try:
                response = await self._ask(request)
            except RequestFailed as exc:  # its body could not be read
                error = type(exc).__name__ if exc.status is None else f"{type(exc).__name__} {exc.status}"
                raise
            except BaseException as exc:
                error = type(exc).__name__
                raise
            else:
                return response
            finally:
                self._observe(Exchange.of(request, response, error, time.monotonic() - began))

    def _observe(self, exchange: Exchange) -> None:
        log_exchange(exchange)
        self._clients.observer.exchanged(exchange)

    async def _ask(self, request: httpx.Request) -> httpx.Response:
        """One attempt: the answer, read within its limits."""
        ends = asyncio.get_running_loop().time() + self._deadline
        try:
            async with asyncio.timeout_at(ends):
                response = await self._inner.handle_async_request(request)
            try:
                if not request.extensions.get("read", True):
                    return await self._drained(request, response)
                async with asyncio.timeout_at(ends):
                    return await self._whole(request, response)
            finally:
                await response.aclose()
        except TimeoutError:
            raise httpx.ReadTimeout("deadline", request=request) from None
        except _UNTRANSLATED as exc:  # the few that the aiohttp transport does not translate
            broken = bounded.broken(exc)
            if broken and (
                broken.code not in READABLE or not request.extensions.get("read", True)
            ):  # the status is enough
                headers = _plain_headers(broken.fields)
                return httpx.Response(broken.code, headers=headers, request=request)
            raise httpx.ReadError(type(exc).__name__, request=request) from exc

    async def _drained(self, request: httpx.Request, response: httpx.Response) -> httpx.Response:
        """The answer without its body. A little of it is read so that the connection can be used again."""
        assert isinstance(response.stream, httpx.AsyncByteStream)
        size = 0
        try:
            async with asyncio.timeout(DRAIN):
                async for piece in response.stream:
                    size += len(piece)
                    if size > DRAIN_BYTES:
                        break
        except (httpx.TransportError, *_UNTRANSLATED):  # a TimeoutError is an OSError
            pass  # the status is enough; the connection is closed
        return httpx.Response(
            response.status_code, headers=_plain_headers(response.headers.raw), request=request
        )

    async def _streamed(self, request: httpx.Request) -> httpx.Response:
        """The answer with its body as a stream, limited by the caller. It holds a slot until it is closed."""
        await self._slots.acquire()
        began = time.monotonic()
        try:
            self._clients.seen += 1
            response = await self._inner.handle_async_request(request)
        except BaseException as exc:
            self._slots.release()
            self._observe(Exchange.of(request, None, type(exc).__name__, time.monotonic() - began))
            raise
        assert isinstance(response.stream, httpx.AsyncByteStream)
        stream = _Slotted(response.stream, self._slots)
        self._observe(Exchange.of(request, response, "", time.monotonic() - began))
        return httpx.Response(response.status_code, headers=response.headers, stream=stream, request=request)

    async def _whole(self, request: httpx.Request, response: httpx.Response) -> httpx.Response:
        headers = _plain_headers(response.headers.raw)
        if response.status_code == 304 or request.method == "HEAD":
            return httpx.Response(response.status_code, headers=headers, request=request)
        if response.status_code not in READABLE:
            return httpx.Response(
                response.status_code, headers=headers, content=await self._beside(response), request=request
            )
        try:
            body = await self._decoded(response)
        except decoding.TooMuch:
            raise TooLarge(f"{host_of(request.url)} answered with more than {self._max_body} bytes") from None
        except decoding.Undecodable as exc:
            status = response.status_code
            raise RequestFailed(
                f"{host_of(request.url)} answered {status} with a body that {exc}", status
            ) from None
        return httpx.Response(response.status_code, headers=headers, content=body, request=request)

    async def _beside(self, response: httpx.Response) -> bytes:
        """The body of an answer that failed; b"" if it cannot be read."""
        try:
            async with asyncio.timeout(BESIDE):
                return await self._decoded(response)
        except (decoding.TooMuch, decoding.Undecodable, httpx.TransportError, *_UNTRANSLATED):
            return b""

    async def _decoded(self, response: httpx.Response) -> bytes:
        assert isinstance(response.stream, httpx.AsyncByteStream)
        coding, kind = response.headers.get("content-encoding", ""), response.headers.get("content-type", "")
        return decoding.utf8(await decoding.read(response.stream, coding, self._max_body), kind)

    async def aclose(self) -> None:
        await self._inner.aclose()


class _Slotted(httpx.AsyncByteStream):
    """A streamed body and the slot that it holds."""

    def __init__(self, stream: httpx.AsyncByteStream, slots: asyncio.Semaphore) -> None:
        self._stream = stream
        self._slots: asyncio.Semaphore | None = slots

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self._stream:
            yield piece

    async def aclose(self) -> None:
        slots, self._slots = self._slots, None
        if slots is not None:
            slots.release()
        await self._stream.aclose()


def _plain_headers(fields: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The headers that are still true once the body is decoded."""
    gone = {b"content-encoding", b"content-length", b"transfer-encoding"}
    return [(name, value) for name, value in fields if name.lower() not in gone]


def _proxy(address: str | None) -> httpx.Proxy | None:
    """The proxy, with its user and password as the header that aiohttp expects."""
    if address is None:
        return None
    url = httpx.URL(address)
    if not url.userinfo:
        return httpx.Proxy(url)
    password = base64.b64encode(f"{url.username}:{url.password}".encode()).decode()
    return httpx.Proxy(url.copy_with(userinfo=b""), headers={"Proxy-Authorization": f"Basic {password}"})


_UNTRANSLATED = (
    aiohttp.ClientError,
    aiohttp.EofStream,
    aiohttp.http_exceptions.HttpProcessingError,
    OSError,
)
