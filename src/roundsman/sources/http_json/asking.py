"""Asks for one page: the URL or the body of the request, and where the answer names the next page."""

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urljoin

from roundsman import wire
from roundsman.errors import Unreadable
from roundsman.http.answers import EMPTY, Answer
from roundsman.http.urls import is_loopback, set_param
from roundsman.kit import paths
from roundsman.masking import MASK, mask
from roundsman.plugin import Visit
from roundsman.sources.http_json.options import HEADER
from roundsman.sources.http_json.table import Table
from roundsman.times import rfc3339

Position = str | int
"""Where a page is: a URL or a token that the vendor named, a number of rows, or the number of a page."""
Value = str | int | float
"""What `since.param` carries: a time as RFC 3339, or a number."""

LONGEST = 60_000
"""Maximum characters of a token in a URL: the library takes a query of 65,536."""
_LINK = re.compile(r'<([^<>]*)>((?:[^,"]|"[^"]*")*)')
_LINKED = re.compile(r';\s*([A-Za-z*-]+)\s*=\s*(?:"([^"]*)"|([^\s;,"]*))')
"""A link and its parameters (RFC 8288 section 3): `rel` is a list of words, in any case."""


class Asking:
    """The requests of one source."""

    def __init__(self, source: Table, visit: Visit) -> None:
        self._source = source
        self._visit = visit
        self._asked = False

    async def page(
        self, at: Position | None, begin: Value | None, end: datetime | None, tag: Mapping[str, str] | None
    ) -> Answer:
        """The page at this position (None: the first one) of what came after `begin` and before `end`."""
        source = self._source
        if source.pace and self._asked and not is_loopback(source.base_url):
            await self._visit.pause(source.pace)
        self._asked = True
        url, members = f"{source.base_url}{source.path}", self._members(at, begin, end)
        if self.is_url(at):
            url, members = str(at), {}
        http = self._visit.http
        # A next URL has a query of its own, which ours would replace.
        query: dict[str, str | int] = {} if self.is_url(at) else {**source.visible_query()}
        if source.method == "POST":
            # A next URL of a search takes the same body.
            return await http.search(url, wire.encode(self._body(members)), query, source.visible_headers())
        query |= members
        return await http.get(url, query, source.visible_headers(), tag, math.inf)

    def _members(
        self, at: Position | None, begin: Value | None, end: datetime | None
    ) -> dict[str, str | int]:
        """The parameters that select the page."""
        pages, since = self._source.pages, self._source.since
        members: dict[str, str | int] = {}
        if since is not None and since.param and begin is not None:
            members[since.param] = written(begin, since.format)
        if since is not None and since.until and end is not None:
            members[since.until] = written(rfc3339(end), since.format)
        if pages is not None and pages.param and at is not None:
            members[pages.param] = at
        return members

    def _body(self, members: Mapping[str, str | int]) -> dict[str, Any]:
        body: dict[str, Any] = wire.decode(wire.encode(self._source.body or {}))
        for path, value in members.items():
            *way, last = path.split(".")
            place = body
            for step in way:
                place = place.setdefault(step, {})
            place[last] = value
        return body

    def is_url(self, at: Position | None) -> bool:
        """Whether the position is a URL by itself."""
        pages = self._source.pages
        return isinstance(at, str) and pages is not None and not pages.param

    def next(self, answer: Answer, asked: Position | None) -> Position | None:
        """The position that the answer names as the next one, if it does. Only for links and paths.

        Raises `Unreadable` for what is neither a URL of the same host nor a token with a parameter.
        """
        pages = self._source.pages
        assert pages is not None
        value = self._link(answer) if pages.next == "link" else found(pages.next, answer)
        if value is None or value is False or value == "":
            return None
        if pages.param:
            if isinstance(value, str | int | float) and value is not True:
                token = value if isinstance(value, str | int) else str(value)
                if len(quote(str(token))) > LONGEST and self._source.method == "GET":
                    raise Unreadable(f"pages.next found a token at {pages.next} that is too long for a URL")
                return token
            raise Unreadable(f"pages.next found {type(value).__name__} at {pages.next}, which is no token")
        if not isinstance(value, str) or not (pages.next == "link" or _is_reference(value)):
            shown = value[:80] if isinstance(value, str) else type(value).__name__
            raise Unreadable(
                f"pages.next found {shown!r}, which is no URL; name the parameter that carries it in pages.param"
            )
        return self._followed(value, asked)

    @staticmethod
    def _link(answer: Answer) -> str | None:
        for url, parameters in _LINK.findall(answer.headers.get("link", "")):
            rels = [
                quoted or bare for name, quoted, bare in _LINKED.findall(parameters) if name.lower() == "rel"
            ]
            if rels and "next" in rels[0].lower().split():
                return str(url)
        return None

    def _followed(self, value: str, asked: Position | None) -> str:
        """The next URL, if it leads to the same host: the credentials must never go to another one."""
        import httpx

        source = self._source
        here = str(asked) if self.is_url(asked) else f"{source.base_url}{source.path}"
        try:
            base, url = httpx.URL(here), httpx.URL(urljoin(here, value))
        except (httpx.InvalidURL, ValueError):
            raise Unreadable("pages.next found a text that is no URL") from None
        if url.scheme == "http" and base.scheme == "https" and url.port in {None, 80}:
            url = url.copy_with(scheme="https", port=None)  # a server behind a proxy does not know better
        if (url.scheme, url.host, url.port) != (base.scheme, base.host, base.port) or url.userinfo:
            raise Unreadable(
                f"pages.next leads to {url.host[:100]}, and is not followed: credentials go only to {base.host}"
            )
        # A secret that the vendor repeats, by any name, is not kept.
        repeated = [name for name, text in url.params.multi_items() if mask(text) == MASK]
        for name in (*source.hidden_query(), *repeated):
            url = set_param(url, name, None)
        return str(url.copy_with(fragment=None))


def _is_reference(value: str) -> bool:
    """Whether a text is a URL, or a reference to one (RFC 3986 section 4.2), and no token: no token has a "?"."""
    return value.lower().startswith(("http://", "https://", "/", "./", "../")) or "?" in value


def found(place: str, answer: Answer) -> Any:
    """The value at a path of the answer, or in a header."""
    if header := HEADER.fullmatch(place):
        return answer.headers.get(header[1])
    if paths.is_plain(place):
        return paths.getter(place)(answer.envelope())
    return paths.getter(place)(answer.json()) if answer.status not in EMPTY else None


def written(value: Value, form: str) -> str | int:
    """The value as `since.param` carries it, rounded down. A time is given as RFC 3339."""
    if not isinstance(value, str):
        return value if isinstance(value, int) else int(value) if value.is_integer() else str(value)
    moment = datetime.fromisoformat(value).astimezone(UTC)
    if form == "date":
        return moment.date().isoformat()
    if form.startswith("unix"):
        return math.floor(moment.timestamp() * (1000 if form == "unix_ms" else 1))
    return rfc3339(moment.replace(microsecond=moment.microsecond // 1000 * 1000))
