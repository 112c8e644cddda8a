"""All requests of the daemon: for each origin its connections, with slots, deadlines, limits and retries."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from pathlib import Path
from typing import Annotated, Any

import aiohttp
import httpx
import structlog
import tenacity
from pydantic import AfterValidator, Field

from roundsman.errors import RequestFailed, TooLarge
from roundsman.http import bounded, decoding
from roundsman.http.answers import READABLE, TRANSIENT, Answer
from roundsman.http.carriers import Carrier, Connections, Reply, Transported
from roundsman.http.exchange import Exchange, Observer, Unobserved, log_exchange
from roundsman.http.faults import fault
from roundsman.http.headers import Headers
from roundsman.http.request import Request, Target
from roundsman.http.urls import hidden, http_url, is_loopback
from roundsman.http.words import BEGINNING, is_page
from roundsman.options.elsewhere import Elsewhere
from roundsman.options.paths import FilePath
from roundsman.options.values import Duration, Options, Size

DRAIN, DRAIN_BYTES = 1.0, 64 * 1024
"""Maximum seconds and bytes for reading an unneeded body: up to that, it is cheaper than a new connection."""
BESIDE = 10.0
"""Maximum seconds for the body of an answer that failed: the status and the headers matter most."""


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
    """Maximum concurrent requests to one host, over all its sources; of machines that share a store, from each of them. A
    source can have a limit of its own.
    """
    max_body: Size = 64 * 2**20
    """Maximum size of an answer, after decompression. A larger answer fails the visit."""
    attempts: Annotated[int, Field(ge=1, le=10)] = 3
    """Maximum attempts of one GET request in one visit. Only transient faults are retried: connection errors,
    timeouts and answers such as 503.
    """
    proxy: Annotated[
        Annotated[str, AfterValidator(http_url), Elsewhere(hidden)] | None, Field(repr=False)
    ] = None
    """A proxy for all requests: `"http://proxy.example:3128"`."""
    ca_file: Annotated[FilePath, AfterValidator(certificates)] | None = None
    """A PEM file with additional certificate authorities to trust, for a proxy or server of your own."""


class Clients:
    """All requests of the daemon: one pool of connections per origin, shared by all sources and sinks there."""

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
        self.headers = {
            "user-agent": f"roundsman/{version}",
            "accept": "application/json",
            "accept-encoding": "gzip",  # one fixed value: an ETag may depend on it
            "connection": "keep-alive",
        }
        """What every request has, unless it has another value."""
        self._transport = transport
        self._senders: dict[str, RetryingSender] = {}
        self._slots: dict[str, tuple[int, asyncio.Semaphore]] = {}
        self._tls: ssl.SSLContext | None = None

    def sender(self, target: Target) -> "RetryingSender":
        """What sends requests to the target's origin, created on first use."""
        sender = self._senders.get(target.origin)
        if sender is None:
            sender = self._senders[target.origin] = RetryingSender(self._carrier(target), self)
        return sender

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
        senders, self._senders = self._senders, {}
        for sender in senders.values():
            await sender.aclose()

    def _carrier(self, target: Target) -> Carrier:
        options = self.options
        if self._transport is not None:
            return Transported(self._transport(httpx.URL(target.url)), timeout=options.timeout)
        plain = target.origin.startswith("http:")
        # Without TLS an empty context is enough; the real one costs memory and start-up time. A token may be
        # fetched from another host, with TLS.
        bare = plain and is_loopback(target.url) and not options.proxy
        return Connections(
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if bare else self._trust(),
            concurrency=options.concurrency,
            timeout=options.timeout,
            proxy=options.proxy,
            plain=plain,
        )

    def _trust(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = httpx.create_ssl_context()
            if self.options.ca_file:
                self._tls.load_verify_locations(self.options.ca_file)
        return self._tls


class RetryingSender:
    """Waits for a free slot, sends a request, reads the answer within limits, retries transient faults."""

    def __init__(self, carrier: Carrier, clients: Clients) -> None:
        options = clients.options
        self._carrier = carrier
        self._clients = clients
        self._deadline = options.deadline
        self._max_body = options.max_body
        self._attempts = options.attempts
        self._slots = asyncio.Semaphore(options.concurrency)

    async def send(self, request: Request) -> Answer:
        """The answer with any status. Raises httpx.TransportError, an error of aiohttp, or RequestFailed."""
        retries = request.method in IDEMPOTENT and self._attempts > 1
        first: Answer | Exception
        try:
            first = await self._once(request)
        except (httpx.TransportError, TimeoutError) as exc:
            slow = isinstance(exc, TimeoutError | httpx.TimeoutException)
            if not retries or (slow and not request.retry_timeouts):
                raise
            first = exc
        else:
            if not retries or not _passing(request, first):
                return first
        return await self._again(request, first)

    async def _again(self, request: Request, first: Answer | Exception) -> Answer:
        """All attempts, the `first` of which has failed: apart from the common path, since tenacity costs."""
        outcomes = [first]

        async def attempt() -> Answer:
            outcome = outcomes.pop() if outcomes else await self._once(request)
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

        retrying = tenacity.AsyncRetrying(
            stop=tenacity.stop_after_attempt(self._attempts),
            wait=tenacity.wait_exponential(multiplier=0.25, max=5) + tenacity.wait_random(0, 0.5),
            # CancelledError is not an Exception, and must never be retried.
            retry=tenacity.retry_if_exception_type((httpx.TransportError, TimeoutError))
            | tenacity.retry_if_result(lambda answer: _passing(request, answer)),
            sleep=self._clients.sleep,
            before_sleep=lambda state: self._retries(request.target.host, state),
            retry_error_callback=lambda state: state.outcome.result() if state.outcome else None,
        )
        answer: Answer = await retrying(attempt)
        return answer

    def _retries(self, host: str, state: tenacity.RetryCallState) -> None:
        """Log and count a retry. A library's own text may hold a URL with a secret, and is left out."""
        outcome = state.outcome
        assert outcome is not None
        exc = outcome.exception()
        why = fault(exc) if isinstance(exc, Exception) else str(outcome.result().status)
        wait = round(state.upcoming_sleep, 1)
        log.info("http.retry", host=host, attempt=state.attempt_number, error=why, wait=wait)
        self._clients.observer.retried(host)

    async def _once(self, request: Request) -> Answer:
        async with self._slots:
            self._clients.seen += 1
            began = time.monotonic()
            answer, error = None, ""
            try:
                answer = await self._ask(request)
            except RequestFailed as exc:  # its body could not be read
                error = type(exc).__name__ if exc.status is None else f"{type(exc).__name__} {exc.status}"
                raise
            except BaseException as exc:
                error = type(exc).__name__
                raise
            else:
                return answer
            finally:
                seconds = time.monotonic() - began
                self._observe(Exchange.of(request, answer, error, seconds, is_link=request.is_secret))

    def _observe(self, exchange: Exchange) -> None:
        log_exchange(exchange)
        self._clients.observer.exchanged(exchange)

    async def _ask(self, request: Request) -> Answer:
        """One attempt: the answer, read within its limits."""
        ends = asyncio.get_running_loop().time() + self._deadline
        try:
            async with asyncio.timeout_at(ends):
                reply = await self._carrier.send(request)
            try:
                if not request.reads:
                    return await _drained(reply)
                if reply.status == 304 or request.method == "HEAD":
                    return Answer(reply.status, reply.headers.decoded(), b"")
                async with asyncio.timeout_at(ends):
                    return await self._whole(request, reply)
            finally:
                await reply.stream.aclose()
        except TimeoutError:
            raise httpx.ReadTimeout("deadline") from None
        except _UNTRANSLATED as exc:  # the few that the aiohttp transport does not translate
            broken = bounded.broken(exc)
            if broken and (broken.code not in READABLE or not request.reads):  # the status is enough
                return Answer(broken.code, Headers(broken.fields).decoded(), b"")
            raise httpx.ReadError(type(exc).__name__) from exc

    @asynccontextmanager
    async def streamed(self, request: Request) -> AsyncIterator[Reply]:
        """The answer with its body as a stream, limited by the caller. It holds a slot until it is closed."""
        async with self._slots:
            self._clients.seen += 1
            began = time.monotonic()
            try:
                reply = await self._carrier.send(request)
            except BaseException as exc:
                error = type(exc).__name__
                self._observe(Exchange.of(request, None, error, time.monotonic() - began, is_link=True))
                raise
            head = Answer(reply.status, reply.headers, b"")
            self._observe(Exchange.of(request, head, "", time.monotonic() - began, is_link=True))
            try:
                yield reply
            finally:
                await reply.stream.aclose()

    async def _whole(self, request: Request, reply: Reply) -> Answer:
        status, headers = reply.status, reply.headers
        if status not in READABLE:
            body = await self._beside(reply)
            return Answer(status, headers.decoded(), body)
        try:
            body = await self._decoded(reply)
        except decoding.TooMuch:
            raise TooLarge(
                f"{request.target.origin} answered with more than {self._max_body} bytes"
            ) from None
        except decoding.Undecodable as exc:
            raise RequestFailed(
                f"{request.target.origin} answered {status} with a body that {exc}", status
            ) from None
        return Answer(status, headers.decoded(), body)

    async def _beside(self, reply: Reply) -> bytes:
        """The body of an answer that failed; b"" if it cannot be read."""
        try:
            async with asyncio.timeout(BESIDE):
                return await self._decoded(reply)
        except (decoding.TooMuch, decoding.Undecodable, httpx.TransportError, *_UNTRANSLATED):
            return b""

    async def _decoded(self, reply: Reply) -> bytes:
        coding, kind = reply.headers.get("content-encoding", ""), reply.headers.get("content-type", "")
        return decoding.utf8(await decoding.read(reply.stream, coding, self._max_body), kind)

    async def aclose(self) -> None:
        await self._carrier.aclose()


def _passing(request: Request, answer: Answer) -> bool:
    """Whether a fault may pass by itself within seconds."""
    if request.method not in IDEMPOTENT or "retry-after" in answer.headers:
        return False  # the engine waits for Retry-After, not this sender
    return answer.status in TRANSIENT or (
        request.retry_timeouts and answer.status == 403 and is_page(answer.body)
    )


async def _drained(reply: Reply) -> Answer:
    """The answer without its body; of a refusal, with the beginning of its body.

    A little of the body is read so that the connection can be used again.
    """
    accepted = 200 <= reply.status < 300
    coding = reply.headers.get("content-encoding", "")
    kept = None if accepted else decoding.Beginning(coding, BEGINNING)
    size, ended = 0, False
    try:
        async with asyncio.timeout(DRAIN):
            async for piece in reply.stream:
                size += len(piece)
                if kept is not None:
                    kept.feed(piece)
                if size > DRAIN_BYTES:
                    break
        ended = True
    except (httpx.TransportError, *_UNTRANSLATED):  # a TimeoutError is an OSError
        pass  # the status is enough; the connection is closed
    body = kept.read(ended=ended) if kept is not None else b""
    return Answer(reply.status, reply.headers.decoded(), body)


_UNTRANSLATED = (
    aiohttp.ClientError,
    aiohttp.EofStream,
    aiohttp.http_exceptions.HttpProcessingError,
    OSError,
)
