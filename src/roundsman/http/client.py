"""The HTTP client of one plugin: conditional GET, POST judged by its status, downloads from signed links."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import httpx

from roundsman.errors import RequestFailed
from roundsman.http.answers import EMPTY, READABLE, Answer, error_for, refuse_delivery
from roundsman.http.carriers import Reply
from roundsman.http.faults import translated
from roundsman.http.flows import authenticated
from roundsman.http.ratelimits import RateAccount, number
from roundsman.http.request import Request, Target, target, target_of
from roundsman.http.transport import Clients
from roundsman.http.urls import is_loopback

DOWNLOAD = 600.0
"""Maximum seconds of a download: the lifetime of the shortest-lived signed link."""
FULL_EVERY = 1800.0
"""Seconds after which a GET is sent without its tag: a tag does not prove that nothing changed."""


@dataclass(slots=True)
class Http:
    """The HTTP client of one plugin. It sends the credentials of this plugin only."""

    clients: "Clients"
    auth: httpx.Auth | None = None
    identity: str = ""
    concurrency: int | None = None
    """Maximum concurrent requests with these credentials; None: only the limit in `[http]` applies."""
    retry_timeouts: bool = True
    """Whether to retry at once after a timeout or a firewall's page. False if the vendor throttles that way,
    or if the first request may still hold a slot at the vendor.
    """
    account: RateAccount = field(default_factory=RateAccount)
    """What the answers stated about time."""
    asker: str = ""
    """The name of the source that it belongs to; empty for others. Its requests are counted by this name."""

    def now(self) -> datetime:
        """Our clock."""
        return datetime.fromtimestamp(self.clients.now(), UTC)

    async def get(
        self,
        url: str,
        params: Mapping[str, str | int] | None = None,
        headers: Mapping[str, str] | None = None,
        tag: Mapping[str, str] | None = None,
        full_every: float = FULL_EVERY,
    ) -> Answer:
        """The answer to a GET: its body, 204 if it is empty, or unchanged if `tag` still holds; else raises.

        A tag of `full_every` seconds ago or earlier is not sent: it does not prove that nothing changed.
        """
        try:
            asked = target_of(url, params)
        except httpx.InvalidURL as exc:
            raise RequestFailed(f"GET {url[:200]}: no URL can have these parameters: {exc}"[:500]) from exc
        key = self._key("GET", asked.url, headers)
        now = self.clients.now()
        holds = tag is not None and tag.get("key") == key and 0 <= now - _at(tag) < full_every
        sent = tag["etag"] if tag is not None and holds else None
        asking = {**(headers or {}), "if-none-match": sent} if sent else headers
        answer = await self._send("GET", asked, asking)
        if answer.status == 304 and sent:
            return Answer(304, answer.headers, b"", unchanged=True, tag=tag)
        if answer.status in READABLE:
            etag = answer.headers.get("etag")
            digest = hashlib.blake2b(answer.body, digest_size=8).hexdigest() if etag else ""
            if sent and etag and tag and _opaque(etag) == _opaque(sent) and tag.get("body") == digest:
                return Answer(answer.status, answer.headers, answer.body, unchanged=True, tag=tag)
            fresh = None
            if etag and etag.isascii():
                fresh = {"key": key, "etag": etag, "body": digest, "at": str(int(now))}
            about = ("GET", asked.url)
            return Answer(answer.status, answer.headers, answer.body, tag=fresh, asked=about)
        if answer.status in EMPTY:
            return Answer(204, answer.headers, b"")
        raise error_for("GET", asked.url, answer, now)

    async def search(
        self,
        url: str,
        content: bytes,
        params: Mapping[str, str | int] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """The answer to a POST that only reads, with a JSON document as its body; raises as `get` does."""
        asked = target_of(url, params)
        kind = {"content-type": "application/json"}
        answer = await self._send("POST", asked, {**(headers or {}), **kind}, content)
        if answer.status in EMPTY:
            return Answer(204, answer.headers, b"")
        if answer.status not in READABLE:
            raise error_for("POST", asked.url, answer, self.clients.now())
        return Answer(answer.status, answer.headers, answer.body, asked=("POST", asked.url))

    async def post(
        self, url: str, *, headers: Mapping[str, str] | None = None, content: bytes | None = None
    ) -> None:
        """POST. Only the status counts: any 2xx is the ack, with any body.

        Raises `Reject` if the receiver never accepts it, `Backoff` if it asks to wait, else `RequestFailed`, with
        the receiver's words in the message.
        """
        answer = await self.send("POST", url, headers=headers, content=content, read=False)
        refuse_delivery(url, answer, self.clients.now())

    async def send(
        self,
        method: str,
        url: str | httpx.URL,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        read: bool = True,
    ) -> Answer:
        """The answer with any status, a 500 too; the caller judges it. `RequestFailed` if there is none.

        Without `read`, an answer 2xx has no body, any other the beginning of it, and faults in the body are ignored.
        """
        with translated(url):
            asked = target(str(url))
        return await self._send(method, asked, headers, content, read=read)

    async def _send(
        self,
        method: str,
        asked: Target,
        headers: Mapping[str, str] | None,
        content: bytes | None = None,
        *,
        read: bool = True,
    ) -> Answer:
        clients = self.clients
        fields = dict(clients.headers)
        if headers:
            fields.update((name.lower(), value) for name, value in headers.items())
        request = Request(method, asked, fields, content, read, self.retry_timeouts, asker=self.asker)
        sender = clients.sender(asked)
        async with clients.slot(self.identity, self.concurrency):
            self.account.asked += 1
            with translated(asked.url):
                answer = await authenticated(self.auth, request, sender.send, clients.now)
        self.account.heed(answer.status, answer.headers, clients.now())
        return answer

    @asynccontextmanager
    async def download(
        self, url: str, hosts: Sequence[str], *, local: bool = False
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """The body of a GET in pieces, undecoded, from a signed link that a vendor sent.

        The request has no credentials and goes only to `hosts` over https (with `local`, also to a loopback
        address, and over http). Redirects are not followed. Raises `RequestFailed`, with the status if there
        was one. No message contains the link, because it is a secret.
        """
        link = _link(url, hosts, local)
        asked = target(str(link))
        headers = {**self.clients.headers, "accept": "*/*", "accept-encoding": "identity"}
        try:
            async with asyncio.timeout(DOWNLOAD), AsyncExitStack() as stack:
                with translated(asked.origin):
                    reply = await stack.enter_async_context(
                        self.clients.sender(asked).streamed(Request("GET", asked, headers))
                    )
                if reply.status != 200:
                    raise RequestFailed(f"{asked.origin} answered {reply.status} to a download", reply.status)
                yield _pieces(asked.origin, reply)
        except TimeoutError:
            raise RequestFailed(
                f"{asked.origin} did not send a download within {DOWNLOAD:.0f} seconds"
            ) from None

    def _key(self, method: str, url: str, headers: Mapping[str, str] | None) -> str:
        """What an ETag belongs to. It includes the headers, because a version header changes the answer."""
        parts = (method, url, self.identity, repr(sorted((headers or {}).items())))
        return hashlib.blake2b("\n".join(parts).encode(), digest_size=8).hexdigest()


def _link(url: str, hosts: Sequence[str], local: bool) -> httpx.URL:
    """The link, if its scheme and host are allowed; else raises `RequestFailed`."""
    try:
        link = httpx.URL(url)
    except (httpx.InvalidURL, TypeError):
        raise RequestFailed("the vendor's link is not a URL") from None
    local = local and is_loopback(str(link))
    if link.scheme != "https" and not (local and link.scheme == "http"):
        raise RequestFailed(
            f"the vendor's link is not an https link but {link.scheme or 'relative'}, and is not followed"
        )
    if link.userinfo or not (link.host in hosts or local):
        raise RequestFailed(
            f"the vendor's link leads to {link.host[:100]}, which is not among result_hosts, and is not followed"
        )
    return link


async def _pieces(origin: str, reply: Reply) -> AsyncIterator[bytes]:
    with translated(origin):
        async for piece in reply.stream:
            yield piece


def _at(tag: Mapping[str, str] | None) -> float:
    """When the tag and its body were received (Unix seconds); 0 if the tag does not state it."""
    return number(tag.get("at")) or 0.0 if tag is not None else 0.0


def _opaque(etag: str) -> str:
    """The tag for weak comparison (RFC 9110 section 8.8.3.2)."""
    return etag.removeprefix("W/")
