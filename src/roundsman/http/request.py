"""A request as a value."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import urlencode

import httpx

from roundsman.http.urls import host_of

LONGEST_QUERY = 60_000
"""Characters of a query from which on httpx is asked whether the URL is too long."""
KEPT = 500
"""Maximum characters of a URL, or of the value of a parameter, that is kept: a long one, as of a page, seldom returns."""


class Target(NamedTuple):
    """Where a request goes."""

    url: str
    """The whole URL, as httpx writes it."""
    origin: str
    """Scheme, host and port."""
    host: str


@dataclass(slots=True, repr=False)  # its headers hold credentials
class Request:
    """What is sent. The names of headers are in lower case."""

    method: str
    target: Target
    headers: dict[str, str]
    content: bytes | None = None
    reads: bool = True
    """Whether the answer's body is wanted; else only the beginning of a refusal is read, and faults in it are ignored."""
    retry_timeouts: bool = True
    """Whether a timeout or a firewall's page is retried at once."""
    is_secret: bool = False
    """Whether the path is a secret: then only the host is logged."""
    asker: str = ""
    """The name of the source that asks. Empty: another part of the program, or a request for a token."""


def target(url: str) -> Target:
    """Where a URL leads. Raises httpx.InvalidURL."""
    return _kept(url) if len(url) <= KEPT else _parsed(url)


def _parsed(url: str) -> Target:
    parsed = httpx.URL(url)
    return Target(str(parsed), host_of(parsed), parsed.host)


_kept = lru_cache(maxsize=1024)(_parsed)  # to parse a URL costs as much as all else about a request


def target_of(url: str, params: Mapping[str, str | int] | None) -> Target:
    """Where a URL leads with these parameters in place of its own; with none, with its own."""
    found = target(url)
    if not params:
        return found
    if all(type(value) is int or (type(value) is str and len(value) <= KEPT) for value in params.values()):
        query = _query(tuple(params.items()))
        if "#" not in found.url and len(query) < LONGEST_QUERY:
            return Target(f"{found.url.partition('?')[0]}?{query}", found.origin, found.host)
    return found._replace(url=str(httpx.URL(url, params=params)))


@lru_cache(maxsize=1024)  # of many sources, most ask the same
def _query(params: tuple[tuple[str, str | int], ...]) -> str:
    return urlencode(params)
