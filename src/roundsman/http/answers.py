"""An HTTP answer as a value, and the errors for answers that failed, with all their messages."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from roundsman import wire
from roundsman.errors import Backoff, Denied, Reject, RequestFailed, Unreadable
from roundsman.http.ratelimits import http_date, retry_after
from roundsman.http.urls import host_of
from roundsman.http.words import is_page, refusal, said
from roundsman.masking import mask

if TYPE_CHECKING:
    import httpx

FLOOR_AFTER_429 = 60.0
"""Seconds to wait after a 429 that does not state how long to wait."""


REFUSED = frozenset({400, 403, 404, 405, 406, 409, 413, 414, 416, 422, 501})
"""Statuses that refuse a question as it was asked."""
TRANSIENT = frozenset({408, 425, 500, 502, 503, 504, *range(520, 531)})
"""Statuses of transient faults; 520 to 530 come from a proxy that cannot reach its server."""
READABLE = frozenset({200, 202, 203})
EMPTY = frozenset({204, 205})
REJECTED = frozenset({400, 409, 410, 411, 413, 414, 415, 422, 431, 451})
"""Statuses that a retry would get again. 401, 403 and 404 are faults of the setup, and are retried."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One complete answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    unchanged: bool = False
    """304, or 200 with the tag that was sent and the body that belongs to it: an answer, not an error."""
    tag: Mapping[str, str] | None = None
    """Send this as `tag` next time: the ETag of a 200, bound to URL, credentials and headers."""
    asked: tuple[str, str] | None = None
    """The method and the URL of its request, for messages."""

    def json(self) -> Any:
        with self.naming():
            return wire.decode(self.body)

    def items(self, path: str = "", damaged: list[wire.Damage] | None = None) -> list[wire.Item]:
        """The rows of a list. With `damaged`, unreadable rows are appended to it, the others returned."""
        with self.naming():
            return list(self.each(path, damaged))

    def each(self, path: str = "", damaged: list[wire.Damage] | None = None) -> Iterator[wire.Item]:
        """The same, one after the other: no row is kept decoded."""
        return iter(()) if self.status in EMPTY else wire.each(self.body, path, damaged)

    def envelope(self) -> dict[str, Any]:
        """The members of the answer's object that are not lists."""
        return wire.envelope(self.body)

    @contextmanager
    def naming(self) -> Iterator[None]:
        """Names the request, without its query, in the message of an `Unreadable`."""
        try:
            yield
        except Unreadable as exc:
            what = _named(*self.asked) if self.asked is not None else ""
            if what and not str(exc).startswith(what):
                exc.args = (f"{what}: {exc}", *exc.args[1:])
            raise

    def date(self) -> datetime | None:
        """The vendor's clock, from the `Date` header."""
        return http_date(self.headers.get("date"))


def is_refusal(exc: Exception, statuses: frozenset[int] = REFUSED) -> bool:
    """Whether the question was refused as it was asked, and not for a passing fault or by a proxy."""
    return getattr(exc, "status", None) in statuses and not getattr(exc, "passing", False)


def error_for(method: str, url: "str | httpx.URL", answer: Answer, now: float) -> Exception:
    """The error for an answer that failed; its class defines what the caller must do."""
    import httpx

    url = httpx.URL(url)
    status = answer.status
    what = f"{_named(method, url)} answered {status}"
    words = said(answer.body)
    words = f" ({words})" if words else ""
    passing = 400 <= status < 500 and _is_from_between(answer)
    if status == 401 or (status == 403 and not passing):
        return Denied(
            f"{what}: the credentials are refused or lack a permission{words}", status, answer.body[:10_000]
        )
    asked = retry_after(status, answer.headers, now)
    if status == 429 or asked is not None:
        return Backoff(asked or FLOOR_AFTER_429, what + words)
    if status == 304:
        return RequestFailed(
            f"{what}, although the request had no condition: check for a cache in between", status
        )
    if 300 <= status < 400:
        return RequestFailed(f"{what}: {_redirects(answer)}, which is not followed: check base_url", status)
    if passing:
        return RequestFailed(
            f"{what} with an HTML page or without a reason: check for a firewall in between",
            status,
            passing=True,
        )
    hint = ": check base_url" if status == 404 and not words else ""
    return RequestFailed(what + hint + words, status, passing=status in TRANSIENT)


def _named(method: str, url: "str | httpx.URL") -> str:
    """A request in a message: method, host and path."""
    import httpx

    return mask(f"{method} {host_of(url)}{httpx.URL(url).path}")


def refuse_delivery(url: str, answer: Answer, now: float) -> None:
    """Return if the receiver accepted the request (2xx), else raise `Reject`, `Backoff`, `RequestFailed`.

    The message has the receiver's own words, if the answer has any.
    """
    if 200 <= answer.status < 300:
        return
    what = f"{host_of(url).partition('://')[2]} answered {answer.status}"
    redirects = 300 <= answer.status < 400 and answer.headers.get("location")
    words = "" if redirects else refusal(answer.body, answer.headers.get("content-type", ""))
    what += f": {words}" if words else ""
    if answer.status in REJECTED:
        raise Reject(what)
    after = retry_after(answer.status, answer.headers, now)
    if after is not None:
        raise Backoff(after, what)
    if redirects:
        what += f": {_redirects(answer)}, which is not followed: check url"
    raise RequestFailed(what, answer.status)


def _redirects(answer: Answer) -> str:
    """The target of a redirect, without the parts that may be secret: user, password, query and fragment."""
    import httpx

    try:
        target = httpx.URL(answer.headers.get("location", ""))
    except (httpx.InvalidURL, TypeError):
        return "it redirects to a text that is not a URL"
    origin = f"{target.scheme}://{target.host}" if target.host else ""
    if target.host and target.port:
        origin += f":{target.port}"
    where = (
        f"it redirects to {origin}{target.path}" if origin or target.path else "it redirects without a target"
    )
    return mask(where[:10_000])[:200]


def _is_from_between(answer: Answer) -> bool:
    """Whether a firewall or proxy refused it and not the API: an HTML page, or a 403 without a reason."""
    if is_page(answer.body):
        return True
    words = answer.body[:100].strip(b" .!\r\n").lower()
    return answer.status == 403 and words in {b"", b"forbidden", b"403 forbidden", b"access denied"}
