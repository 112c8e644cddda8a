"""Speaking HTTP: conditional GET, retries, limits per host, and every header that says "not so fast".

    Http            what a plugin is given: get(), send(), download()
    Web             all connections of the daemon: one pooled client per host
    Patient         the transport below each client: slots, deadline, size limit, retries

Errors, all of which mean that the poll or the delivery did not happen:

    Trouble         the other side is unreachable, slow, or answered what it should not
      TooLarge      more body than allowed
    Reject          a receiver refuses what we posted for good (from plugin.py; `post` only)
    Backoff         429, or 503 with Retry-After (from plugin.py)
    Denied          401 or 403 (from plugin.py)
    Unreadable      not the JSON it should be (from wire.py)
"""

import asyncio
import base64
import hashlib
import ipaddress
import os
import random
import re
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.cookiejar import CookieJar, DefaultCookiePolicy
from pathlib import Path
from typing import Annotated, Any

import aiohttp
import httpx
import tenacity
from httpx_aiohttp import AiohttpTransport
from pydantic import AfterValidator, Field

from roundsman import bounded, decoding, wire
from roundsman.errors import Backoff, Denied, Reject, TooLarge, Trouble, Unreadable
from roundsman.masking import mask
from roundsman.ratelimits import CAP, http_date, number, retry_after
from roundsman.settings import Duration, FilePath, Options, Size, redact

FLOOR_AFTER_429 = 60.0
"""Seconds to stay away after a 429 that does not say how long."""
DOWNLOAD = 600.0
"""Seconds that a download may take: as long as the shortest-lived signed link."""
FULL_EVERY = 1800.0
"""Seconds after which a question is asked without its tag: a tag is no proof that nothing changed."""
HEAD = 64 * 1024
"""Bytes of one header of an answer, at most."""
DRAIN, DRAIN_BYTES = 1.0, 64 * 1024
"""Seconds, and bytes, that a body is read that nobody needs: so much is cheaper than a new connection."""
BESIDE = 10.0
"""Seconds that the body of an answer that is none may take: its status and headers say most."""
TRANSIENT = frozenset({408, 425, 500, 502, 503, 504, *range(520, 531)})
"""Statuses of faults that pass by themselves; 520 to 530 are those of a proxy that cannot reach its server."""
READABLE = frozenset({200, 202, 203})
EMPTY = frozenset({204, 205})
REJECTED = frozenset({400, 409, 410, 411, 413, 414, 415, 422, 431, 451})
"""Statuses about this very request, which no repetition mends. 401, 403 and 404 are about the setup: those are retried."""
IDEMPOTENT = frozenset({"GET", "HEAD"})

Transport = Callable[[httpx.URL], httpx.AsyncBaseTransport]


def http_url(value: str) -> str:
    """An absolute http or https URL, as it is written."""
    if value != value.strip():
        raise ValueError("begins or ends with a blank")
    try:
        url = httpx.URL(value)
    except (httpx.InvalidURL, TypeError):
        raise ValueError("is not a URL") from None
    if url.scheme not in {"http", "https"} or not url.host:
        raise ValueError('is not an http(s) URL; write "https://host/path"')
    if url.fragment or "#" in value:
        raise ValueError('has a fragment ("#..."), which is never sent')
    return value


def endpoint(value: str) -> str:
    """As `http_url`, and without a user and password: secrets have options of their own."""
    if httpx.URL(http_url(value)).userinfo:
        raise ValueError("holds a user or password; secrets have options of their own")
    return value


def base(value: str) -> str:
    """As `endpoint`, for a URL that paths are appended to: without a query, and without a slash at its end."""
    if "?" in endpoint(value):
        raise ValueError("has a query, and paths are appended to it; give scheme, host and path alone")
    return value.rstrip("/")


Endpoint = Annotated[str, AfterValidator(endpoint)]
"""A URL that is used as it is written."""
Url = Annotated[str, AfterValidator(base)]
"""A URL that paths are appended to."""


def certificates(path: Path) -> Path:
    """The path of a file with certificates, or ValueError."""
    try:
        ssl.create_default_context(cafile=str(path))
    except OSError as exc:
        raise ValueError(f"cannot be used: {exc.strerror or 'it holds no certificate'}") from None
    return path


class HttpOptions(Options):
    """`[http]`: how the daemon speaks to the outside. Everything here has a default that fits."""

    timeout: Annotated[Duration, Field(gt=0)] = 30.0
    """Wait for a connection, and between two pieces of an answer, at most this long."""
    deadline: Annotated[Duration, Field(gt=0)] = 120.0
    """A whole answer takes at most this long."""
    concurrency: Annotated[int, Field(ge=1, le=1000)] = 8
    """Requests under way to one host at the same time, at most."""
    max_body: Size = 64 * 2**20
    """The largest answer that is read, after decompression."""
    attempts: Annotated[int, Field(ge=1, le=10)] = 3
    """Tries of one read in one visit, for faults that pass by themselves."""
    proxy: Annotated[Annotated[str, AfterValidator(http_url)] | None, Field(repr=False)] = None
    """A proxy for all requests: "http://proxy.example:3128"."""
    ca_file: Annotated[FilePath, AfterValidator(certificates)] | None = None
    """A PEM file with further certificate authorities to trust, for a proxy or server of your own."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    unchanged: bool = False
    """304, or 200 with the very tag that was sent and the very body that came with it: an answer, not an error."""
    tag: Mapping[str, str] | None = None
    """What to send as `tag` next time: the ETag of a 200, bound to URL, credentials and headers."""

    def json(self) -> Any:
        return wire.decode(self.body)

    def items(self, path: str = "", damaged: list[wire.Damage] | None = None) -> list[wire.Item]:
        """The rows of a list; with `damaged`, what cannot be read of it goes there and keeps nothing else back."""
        return [] if self.status in EMPTY else wire.items(self.body, path, damaged)

    def envelope(self) -> dict[str, Any]:
        """What stands beside the rows of a list."""
        return wire.envelope(self.body)

    def date(self) -> datetime | None:
        """The vendor's clock, from the `Date` header."""
        return http_date(self.headers.get("date"))


@dataclass(slots=True)
class Http:
    """HTTP as one plugin may use it: with its credentials, and none of anybody else's."""

    web: "Web"
    auth: httpx.Auth | None = None
    identity: str = ""
    told: Callable[[Sequence[str]], set[str]] = lambda _: set()
    """Which of these event ids of this source the log has already: what was told needs no second look."""
    concurrency: int | None = None
    """Requests under way with these credentials, at most; None for what `[http]` says."""
    retry_timeouts: bool = True
    """Whether to ask again at once after a timeout or a firewall's page; not where the vendor throttles so, or the first
    request may still hold a slot there.
    """
    rung: bool = field(default=False, init=False)
    """This visit is made because a webhook rang: what it named is enough to ask for; all else has its time."""
    asked: int = field(default=0, init=False)
    """Questions that were asked."""
    wait: float = field(default=0.0, init=False)
    """Seconds the vendor asked us to stay away, over all answers so far."""
    date: datetime | None = field(default=None, init=False)
    """The vendor's clock at its last answer that told it."""
    interval: float = field(default=0.0, init=False)
    """Seconds the vendor wants between two visits; pages of one visit are not meant."""

    def now(self) -> datetime:
        """Our clock, for *when to look again*; never for where to read from."""
        return datetime.fromtimestamp(self.web.now(), UTC)

    def vendor_now(self) -> datetime:
        """The vendor's clock, where it has told it, else ours: for *how long* something has not moved there. Nobody who sets our
        clock sets that one.
        """
        return self.date or self.now()

    async def rest(self, seconds: float) -> None:
        """Wait, where a source knows that it should not ask faster."""
        await self.web.sleep(seconds)

    async def get(
        self,
        url: str,
        params: Mapping[str, str | int] | None = None,
        headers: Mapping[str, str] | None = None,
        tag: Mapping[str, str] | None = None,
        full_every: float = FULL_EVERY,
    ) -> Answer:
        """The answer to a GET: its body, 204 for an empty one or, with a `tag` that still holds, unchanged. All else is raised.

        After `full_every` seconds without a whole body the tag is not sent: a tag is no proof.
        """
        asked = httpx.URL(url, params=params) if params else httpx.URL(url)
        key = self._key("GET", asked, headers)
        now = self.web.now()
        holds = tag is not None and tag.get("key") == key and 0 <= now - _at(tag) < full_every
        sent = tag["etag"] if tag is not None and holds else None
        asking = {**(headers or {}), "if-none-match": sent} if sent else headers
        answer = await self.send("GET", asked, headers=asking)
        if answer.status == 304 and sent:
            return Answer(304, answer.headers, b"", unchanged=True, tag=tag)
        if answer.status in READABLE:
            etag = answer.headers.get("etag")
            digest = hashlib.blake2b(answer.body, digest_size=8).hexdigest()
            if sent and etag and tag and _opaque(etag) == _opaque(sent) and tag.get("body") == digest:
                return Answer(answer.status, answer.headers, answer.body, unchanged=True, tag=tag)
            fresh = None
            if etag and etag.isascii():
                fresh = {"key": key, "etag": etag, "body": digest, "at": str(int(now))}
            return Answer(answer.status, answer.headers, answer.body, tag=fresh)
        if answer.status in EMPTY:
            return Answer(204, answer.headers, b"")
        raise error_for("GET", asked, answer, now)

    async def post(
        self, url: str, *, headers: Mapping[str, str] | None = None, content: bytes | None = None
    ) -> None:
        """Post, where only the status counts: any 2xx is the ack, whatever body comes with it.

        Raises `Reject` where the receiver will never take it, `Backoff` where it asks for time, else `Trouble`.
        """
        refuse_delivery(
            await self.send("POST", url, headers=headers, content=content, read=False), self.web.now()
        )

    async def send(
        self,
        method: str,
        url: str | httpx.URL,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        read: bool = True,
    ) -> Answer:
        """Raw: whatever the other side answered, a 500 too, to whoever can judge it. Raises `Trouble` where there was no answer.

        Without `read`, the answer has no body, and nothing that may be wrong with it matters.
        """
        async with self.web.slot(self.identity, self.concurrency), _troubles(url):
            client = self.web.client(url)
            about = {"now": self.web.now, "retry_timeouts": self.retry_timeouts, "read": read}
            self.asked += 1
            request = client.build_request(method, url, headers=headers, content=content, extensions=about)
            response = await client.send(request, auth=self.auth)
        answer = Answer(response.status_code, response.headers, response.content)
        self._heed(answer)
        return answer

    @asynccontextmanager
    async def download(
        self, url: str, hosts: Sequence[str], *, local: bool = False
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """The body of a GET in pieces, undecoded, from a signed link that a vendor gave us.

        Without our credentials, only from `hosts` over https (with `local`, from a loopback address too, and over http), without
        following redirects. Raises `Trouble`, with the status where there was one. The link is in no message: it is a secret.
        """
        asked = _link(url, hosts, local)
        client = self.web.client(asked)
        request = client.build_request("GET", asked, headers={"accept": "*/*", "accept-encoding": "identity"})
        request.extensions["streamed"] = True
        try:
            async with asyncio.timeout(DOWNLOAD):
                async with _troubles(asked):
                    response = await client.send(request, auth=None, stream=True)
                try:
                    if response.status_code != 200:
                        raise Trouble(
                            f"{_place(asked)} answered {response.status_code} to a download",
                            response.status_code,
                        )
                    yield _pieces(asked, response)
                finally:
                    await response.aclose()
        except TimeoutError:
            raise Trouble(f"{_place(asked)} did not send a download within {DOWNLOAD:.0f} seconds") from None

    def _heed(self, answer: Answer) -> None:
        self.date = answer.date() or self.date
        asked = retry_after(answer.status, answer.headers, self.web.now())
        self.wait = max(self.wait, asked or 0.0)
        self.interval = max(self.interval, min(CAP, number(answer.headers.get("x-poll-interval")) or 0.0))

    def _key(self, method: str, url: httpx.URL, headers: Mapping[str, str] | None) -> str:
        """What an ETag belongs to. Headers are in it because a version header changes the answer."""
        parts = (method, str(url), self.identity, repr(sorted((headers or {}).items())))
        return hashlib.blake2b("\n".join(parts).encode(), digest_size=8).hexdigest()


class Web:
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
        self.took: Callable[[str, float], None] = lambda *_: None
        """Hears of each request how long its answer took; the engine has it counted."""
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
        """The client for the URL's host, made on first use."""
        url = httpx.URL(url) if isinstance(url, str) else url
        origin = (url.scheme, url.host, url.port)
        client = self._clients.get(origin)
        if client is None:
            patient = Patient(self._transport(url), self.options, self.sleep, self._count, self._time)
            # Sources with different credentials share this client: no cookie may pass from one to another.
            jar = CookieJar(DefaultCookiePolicy(allowed_domains=[]))
            client = self._clients[origin] = httpx.AsyncClient(
                transport=patient,
                headers=self._headers,
                cookies=jar,
                timeout=self.options.timeout,
                trust_env=False,
            )
        return client

    def slot(self, identity: str, concurrency: int | None) -> AbstractAsyncContextManager[Any]:
        """A place among the requests that may be under way with these credentials."""
        if concurrency is None:
            return nullcontext()
        most, slots = self._slots.get(identity, (concurrency, None))
        if slots is None or concurrency < most:  # sources that share credentials share the smaller number
            slots = asyncio.Semaphore(concurrency)
            self._slots[identity] = (concurrency, slots)
        return slots

    async def aclose(self) -> None:
        clients, self._clients = self._clients, {}
        for client in clients.values():
            await client.aclose()

    def _count(self) -> None:
        self.seen += 1

    def _time(self, host: str, seconds: float) -> None:
        self.took(host, seconds)

    def _connect(self, url: httpx.URL) -> httpx.AsyncBaseTransport:
        # Without TLS an empty context will do; the real one costs memory and start-up.
        plain = url.scheme == "http" and not self.options.proxy
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if plain else self._trust()

        proxy = _proxy(self.options.proxy)
        # Without TLS the request itself goes to the proxy, and with it the proxy's password; with TLS only CONNECT does.
        own = dict(proxy.headers) if proxy is not None and url.scheme == "http" else None

        def session() -> aiohttp.ClientSession:
            # The transport's own session would keep cookies, and hand them from one source to another.
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


class Patient(httpx.AsyncBaseTransport):
    """Waits for a free slot, asks, reads the whole answer within its limits, and asks again after a passing fault."""

    def __init__(
        self,
        inner: httpx.AsyncBaseTransport,
        options: HttpOptions,
        sleep: Callable[[float], Awaitable[None]],
        count: Callable[[], None],
        took: Callable[[str, float], None],
    ) -> None:
        self._inner = inner
        self._took = took
        self._deadline = options.deadline
        self._max_body = options.max_body
        self._attempts = options.attempts
        self._slots = asyncio.Semaphore(options.concurrency)
        self._sleep = sleep
        self._count = count

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.extensions.get("streamed"):
            return await self._streamed(request)
        try:
            response = await self._once(request)
        except (httpx.TransportError, TimeoutError) as exc:
            slow = isinstance(exc, TimeoutError | httpx.TimeoutException)
            if slow and not request.extensions.get("retry_timeouts", True):
                raise
            if request.method not in IDEMPOTENT or self._attempts == 1:
                raise
        else:
            if not self._passing(request, response) or self._attempts == 1:
                return response
        return await self._again(request)

    async def _again(self, request: httpx.Request) -> httpx.Response:
        """The remaining attempts, jittered: apart from the common path because it is rare and costs."""
        retrying = tenacity.AsyncRetrying(
            stop=tenacity.stop_after_attempt(self._attempts - 1),
            wait=tenacity.wait_exponential(multiplier=0.5, max=5) + tenacity.wait_random(0, 0.5),
            # CancelledError is no Exception, and must never be retried.
            retry=tenacity.retry_if_exception_type((httpx.TransportError, TimeoutError))
            | tenacity.retry_if_result(lambda response: self._passing(request, response)),
            sleep=self._sleep,
            retry_error_callback=lambda state: state.outcome.result() if state.outcome else None,
        )
        await self._sleep(random.uniform(0.2, 0.8))
        response: httpx.Response = await retrying(self._once, request)
        return response

    def _passing(self, request: httpx.Request, response: httpx.Response) -> bool:
        if request.method not in IDEMPOTENT or "retry-after" in response.headers:
            return False  # the engine waits, not we
        status = response.status_code
        patient = request.extensions.get("retry_timeouts", True)
        return status in TRANSIENT or (patient and status == 403 and is_page(response.content))

    async def _once(self, request: httpx.Request) -> httpx.Response:
        async with self._slots:
            self._count()
            began = time.monotonic()
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
                ):  # its status says all
                    headers = _plain_headers(broken.fields)
                    return httpx.Response(broken.code, headers=headers, request=request)
                raise httpx.ReadError(type(exc).__name__, request=request) from exc
            finally:
                self._took(request.url.host, time.monotonic() - began)

    async def _drained(self, request: httpx.Request, response: httpx.Response) -> httpx.Response:
        """The answer without its body, of which a little is read so that the connection can be used again."""
        assert isinstance(response.stream, httpx.AsyncByteStream)
        size = 0
        try:
            async with asyncio.timeout(DRAIN):
                async for piece in response.stream:
                    size += len(piece)
                    if size > DRAIN_BYTES:
                        break
        except (httpx.TransportError, *_UNTRANSLATED):  # a TimeoutError is an OSError
            pass  # the status has said all; the connection is closed
        return httpx.Response(
            response.status_code, headers=_plain_headers(response.headers.raw), request=request
        )

    async def _streamed(self, request: httpx.Request) -> httpx.Response:
        """The answer as it comes; whoever reads it limits it. It holds a slot until it is closed."""
        await self._slots.acquire()
        try:
            self._count()
            response = await self._inner.handle_async_request(request)
        except BaseException:
            self._slots.release()
            raise
        assert isinstance(response.stream, httpx.AsyncByteStream)
        stream = _Slotted(response.stream, self._slots)
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
            raise TooLarge(f"{_place(request.url)} answered with more than {self._max_body} bytes") from None
        except decoding.Undecodable as exc:
            status = response.status_code
            raise Trouble(f"{_place(request.url)} answered {status} with a body that {exc}", status) from None
        return httpx.Response(response.status_code, headers=headers, content=body, request=request)

    async def _beside(self, response: httpx.Response) -> bytes:
        """The body of an answer that its status and headers say most of: nothing, where it cannot be read."""
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
    """A body under way, and the slot that it holds."""

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
    """The headers that still hold once the body is decoded."""
    gone = {b"content-encoding", b"content-length", b"transfer-encoding"}
    return [(name, value) for name, value in fields if name.lower() not in gone]


def _proxy(address: str | None) -> httpx.Proxy | None:
    """The proxy, its user and password as the header that aiohttp wants them in."""
    if address is None:
        return None
    url = httpx.URL(address)
    if not url.userinfo:
        return httpx.Proxy(url)
    password = base64.b64encode(f"{url.username}:{url.password}".encode()).decode()
    return httpx.Proxy(url.copy_with(userinfo=b""), headers={"Proxy-Authorization": f"Basic {password}"})


def error_for(method: str, url: str | httpx.URL, answer: Answer, now: float) -> Exception:
    """An answer that is none, as the error that says what to do about it."""
    url = httpx.URL(url)
    status = answer.status
    what = mask(f"{method} {_place(url)}{url.path} answered {status}")
    said = _said(answer.body)
    said = f" ({said})" if said else ""
    passing = 400 <= status < 500 and _by_somebody_between(answer)
    if status == 401 or (status == 403 and not passing):
        return Denied(
            f"{what}: the credentials are refused or lack the right{said}", status, answer.body[:10_000]
        )
    asked = retry_after(status, answer.headers, now)
    if status == 429 or asked is not None:
        return Backoff(asked or FLOOR_AFTER_429, what + said)
    if status == 304:
        return Trouble(f"{what}, although nothing was asked on a condition: is a cache in between?", status)
    if 300 <= status < 400:
        return Trouble(f"{what}: {_redirects(answer)}, which is not followed; is base_url right?", status)
    if passing:
        return Trouble(
            f"{what} with a page instead of an answer: is a firewall in between?", status, passing=True
        )
    hint = ": is base_url right?" if status == 404 and not said else ""
    return Trouble(what + hint + said, status, passing=status in TRANSIENT)


def refuse_delivery(answer: Answer, now: float) -> None:
    """Nothing where a receiver took what was sent (2xx); else the error that says what to do about it."""
    if 200 <= answer.status < 300:
        return
    what = f"the receiver answered {answer.status}"
    if answer.status in REJECTED:
        raise Reject(what)
    after = retry_after(answer.status, answer.headers, now)
    if after is not None:
        raise Backoff(after, what)
    if 300 <= answer.status < 400 and answer.headers.get("location"):
        raise Trouble(f"{what}: {_redirects(answer)}, which is not followed; is url right?", answer.status)
    raise Trouble(what, answer.status)


def _redirects(answer: Answer) -> str:
    """Where an answer leads, without what may be secret: user, password, query and fragment."""
    try:
        target = httpx.URL(answer.headers.get("location", ""))
    except (httpx.InvalidURL, TypeError):
        return "it redirects to what is no URL"
    origin = f"{target.scheme}://{target.host}" if target.host else ""
    if target.host and target.port:
        origin += f":{target.port}"
    where = f"it redirects to {origin}{target.path}" if origin or target.path else "it redirects nowhere"
    return mask(where[:10_000])[:200]


def _by_somebody_between(answer: Answer) -> bool:
    """Whether a refusal is not the API's own: a firewall's or proxy's page, or a 403 without any reason."""
    if is_page(answer.body):
        return True
    words = answer.body[:100].strip(b" .!\r\n").lower()
    return answer.status == 403 and words in {b"", b"forbidden", b"403 forbidden", b"access denied"}


def is_page(body: bytes) -> bool:
    """Whether a body is HTML, which no API answers with."""
    return body[:200].lstrip().lower().startswith((b"<!doctype html", b"<html", b"<head", b"<!--"))


_TOKEN = re.compile(r"[A-Za-z0-9_\-.=+/]{28,}")


def _said(body: bytes) -> str:
    """What an error body says for itself, in short: problem+json, a message, or a list of messages.

    Whatever could be a token is masked, for some servers repeat what they were given.
    """
    try:
        document = wire.decode(body) if len(body) < 100_000 else None
    except Unreadable:
        return ""
    found: Any = document
    for _ in range(3):
        if not isinstance(found, dict):
            break
        found = next((found[key] for key in ("detail", "message", "error", "title") if found.get(key)), None)
    if isinstance(found, list):
        found = "; ".join(str(each) for each in found[:5] if isinstance(each, str))
    text = " ".join(found.split()) if isinstance(found, str) else ""
    # Without what cannot be seen, which would hide a secret from the mask and not from a reader.
    text = "".join(char for char in text if char.isprintable())
    text = redact(_TOKEN.sub("***", mask(text[:5000])[:1000]))
    return text if len(text) <= 200 else text[:197] + "..."


def _link(url: str, hosts: Sequence[str], local: bool) -> httpx.URL:
    """The link, if it leads where it may."""
    try:
        link = httpx.URL(url)
    except (httpx.InvalidURL, TypeError):
        raise Trouble("the vendor's link is not a URL") from None
    local = local and is_loopback(str(link))
    if link.scheme != "https" and not (local and link.scheme == "http"):
        raise Trouble(
            f"the vendor's link is not an https link but {link.scheme or 'relative'}, and is not followed"
        )
    if link.userinfo or not (link.host in hosts or local):
        raise Trouble(
            f"the vendor's link leads to {link.host[:100]}, which is not among result_hosts, and is not followed"
        )
    return link


async def _pieces(url: httpx.URL, response: httpx.Response) -> AsyncIterator[bytes]:
    async with _troubles(url):
        async for piece in response.aiter_raw():
            yield piece


@asynccontextmanager
async def _troubles(url: str | httpx.URL) -> AsyncIterator[None]:
    """The transports' errors in our words."""
    try:
        yield
    except (httpx.TransportError, httpx.InvalidURL, aiohttp.ClientError, ValueError) as exc:
        raise Trouble(f"{_place(url)} {_fault(exc)}", passing=True) from None


def _fault(exc: Exception) -> str:
    """What went wrong, in words of our own: a library's text may carry a URL, a header or a body."""
    chain: list[BaseException] = []
    at: BaseException | None = exc
    while at is not None and at not in chain:
        chain.append(at)
        at = at.__cause__ or at.__context__
    if _timed_out(exc):
        return "did not answer in time"
    for each in chain:
        for kinds, words in _FAULTS:
            if isinstance(each, kinds):
                return words
        if isinstance(each, OSError) and each.strerror:
            refused = "Connect call failed" in each.strerror
            return f"cannot be reached: {'the connection was refused' if refused else os.strerror(each.errno) if each.errno else 'the connection failed'}"
    return f"cannot be reached ({type(chain[-1]).__name__})"


_FAULTS: tuple[tuple[Any, str], ...] = (
    (
        (aiohttp.ClientConnectorCertificateError, ssl.SSLCertVerificationError),
        "cannot be reached: its certificate is not trusted",
    ),
    (aiohttp.ClientConnectorDNSError, "cannot be reached: its name cannot be resolved"),
    (aiohttp.ClientHttpProxyError, "cannot be reached: the proxy refuses"),
    (ssl.SSLError, "cannot be reached: it does not speak TLS as it should"),
    (
        (aiohttp.ServerDisconnectedError, aiohttp.ClientConnectionResetError),
        "closed the connection without an answer",
    ),
    (aiohttp.http_exceptions.LineTooLong, f"sent a header of more than {HEAD // 1024} KiB"),
    (
        (aiohttp.http_exceptions.TransferEncodingError, aiohttp.http_exceptions.ContentLengthError),
        "broke off its answer",
    ),
    ((aiohttp.ClientPayloadError, aiohttp.EofStream), "broke off its answer"),
    (
        (aiohttp.http_exceptions.HttpProcessingError, aiohttp.ClientResponseError),
        "answered what is not HTTP",
    ),
)
"""What libraries raise, the more exact ones first."""


_UNTRANSLATED = (
    aiohttp.ClientError,
    aiohttp.EofStream,
    aiohttp.http_exceptions.HttpProcessingError,
    OSError,
)


def _at(tag: Mapping[str, str] | None) -> float:
    """When a tag's body was read whole (Unix); long ago, where it does not say so."""
    return number(tag.get("at")) or 0.0 if tag is not None else 0.0


def _opaque(etag: str) -> str:
    """The tag for weak comparison (RFC 9110 section 8.8.3.2)."""
    return etag.removeprefix("W/")


def _place(url: str | httpx.URL) -> str:
    """Scheme, host and port: a query may hold what nobody should read in a log."""
    try:
        url = httpx.URL(url) if isinstance(url, str) else url
    except httpx.InvalidURL:
        return "the URL"
    host = f"[{url.host}]" if ":" in url.host else url.host
    return f"{url.scheme}://{host}" + (f":{url.port}" if url.port else "")


def _timed_out(exc: Exception) -> bool:
    """Whether it was slowness. The aiohttp transport calls every failed connection a timeout; its cause is the truth."""
    if exc.__cause__ is not None:
        return isinstance(exc.__cause__, TimeoutError)
    return isinstance(exc, httpx.TimeoutException)


def is_loopback(url: str) -> bool:
    """Whether the URL's host can only be this machine."""
    host = httpx.URL(url).host
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
