"""One request and what came of it: for counting, for the debug log and for `poll --trace`."""

import logging
from typing import NamedTuple, Protocol

import httpx
import structlog

from roundsman.http.answers import Answer
from roundsman.http.request import Request, Target

log = structlog.get_logger()


class Exchange(NamedTuple):
    """A request and its answer. A retry is an exchange of its own."""

    method: str
    target: Target
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
    """The URL is a secret: a link that a vendor gave us, such as a signed one, or one whose path is a key."""
    asker: str
    """As `Request.asker`."""

    @classmethod
    def of(
        cls, request: Request, answer: Answer | None, error: str, seconds: float, *, is_link: bool = False
    ) -> "Exchange":
        """`answer` is None if there was none; `error` then names the fault."""
        status = tag = size = None
        if answer is not None:
            status, tag = answer.status, answer.headers.get("etag")
            size = None if is_link else len(answer.body)
        sent = request.headers.get("if-none-match")
        target, asker = request.target, request.asker
        return cls(request.method, target, seconds, status, error, sent, tag, size, is_link, asker)

    @property
    def url(self) -> httpx.URL:
        """The whole URL."""
        return httpx.URL(self.target.url)

    @property
    def place(self) -> str:
        """Host and path, without the query; of a link only the host."""
        return self.target.origin if self.is_link else f"{self.target.origin}{self.url.path}"


class Observer(Protocol):
    """Is called for every request."""

    def exchanged(self, exchange: Exchange) -> None:
        """A request has ended."""

    def retried(self, host: str) -> None:
        """A request failed, and is tried again."""


class Unobserved:
    """Ignores every request."""

    def exchanged(self, exchange: Exchange) -> None:
        pass

    def retried(self, host: str) -> None:
        pass


def is_debugging() -> bool:
    """Whether lines at debug are logged. To ask a logger for it costs more than a request's other bookkeeping."""
    wrapper = structlog.get_config()["wrapper_class"]
    return bool(wrapper.is_enabled_for(None, logging.DEBUG))


def log_exchange(exchange: Exchange) -> None:
    """One line at debug. The query is left out: it may hold a key."""
    if not is_debugging():
        return
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
