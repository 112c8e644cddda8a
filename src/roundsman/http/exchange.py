"""One request and what came of it: for counting, for the debug log and for `poll --trace`."""

import logging
from typing import NamedTuple, Protocol

import httpx
import structlog

from roundsman.http.urls import host_of

log = structlog.get_logger()


class Exchange(NamedTuple):
    """A request and its answer. A retry is an exchange of its own."""

    method: str
    url: httpx.URL
    seconds: float
    status: int | None
    """None: there was no answer."""
    error: str
    """The name of the fault if there was no answer; a library's own words may hold a secret."""
    sent_tag: str | None
    """The ETag that the request asked about."""
    tag: str | None
    """The answer's ETag."""
    size: int | None
    """Bytes of the body, decompressed; None for a body that is read as a stream."""
    is_link: bool
    """The URL is a link that a vendor gave us, such as a signed one: it is a secret."""

    @classmethod
    def of(
        cls, request: httpx.Request, response: httpx.Response | None, error: str, seconds: float
    ) -> "Exchange":
        """`response` is None if there was none; `error` then names the fault."""
        is_link = bool(request.extensions.get("streamed"))
        status = tag = size = None
        if response is not None:
            status, tag = response.status_code, response.headers.get("etag")
            size = None if is_link else len(response.content)
        sent = request.headers.get("if-none-match")
        return cls(request.method, request.url, seconds, status, error, sent, tag, size, is_link)

    @property
    def place(self) -> str:
        """Host and path, without the query; of a link only the host."""
        return host_of(self.url) if self.is_link else f"{host_of(self.url)}{self.url.path}"


class Observer(Protocol):
    """Hears of every request."""

    def exchanged(self, exchange: Exchange) -> None:
        """A request has ended."""

    def retried(self, host: str) -> None:
        """A request failed, and is tried again."""


class Unobserved:
    """Hears of nothing."""

    def exchanged(self, exchange: Exchange) -> None:
        pass

    def retried(self, host: str) -> None:
        pass


def log_exchange(exchange: Exchange) -> None:
    """One line at debug. The query is left out: it may hold a key."""
    if not log.is_enabled_for(logging.DEBUG):
        return  # making the facts costs more than the rest
    facts = {
        "status": exchange.status,
        "error": exchange.error or None,
        "sent_tag": exchange.sent_tag,
        "tag": exchange.tag,
        "bytes": exchange.size,
    }
    log.debug(
        "http.request",
        method=exchange.method,
        url=exchange.place,
        **{name: value for name, value in facts.items() if value is not None},
        ms=round(exchange.seconds * 1000, 1),
    )
