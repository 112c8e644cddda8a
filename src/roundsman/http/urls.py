"""URLs in options and in messages.

httpx is imported where it is used, here and in `answers`: a command that only reads states needs the sources' classes
and no HTTP.
"""

import ipaddress
import re
from typing import TYPE_CHECKING, Annotated
from urllib.parse import quote, unquote, unquote_plus, urlsplit

from pydantic import AfterValidator, WithJsonSchema

from roundsman.options.elsewhere import Elsewhere
from roundsman.options.values import END

if TYPE_CHECKING:
    import httpx

LONG_PATH = 12
"""A path of at least so many characters is masked as a whole: a shorter one may occur in any text."""
_KEY = re.compile(r"(?=[^/]*[0-9])(?:[A-Za-z0-9]{8,}|[A-Za-z0-9_-]{16,})")
"""A part of a path or the value of a parameter that looks like a key."""


def http_url(value: str) -> str:
    """An absolute http or https URL, unchanged."""
    import httpx

    if value != value.strip():
        raise ValueError("begins or ends with a blank")
    try:
        url = httpx.URL(value)
    except (httpx.InvalidURL, TypeError):
        raise ValueError("is not a URL") from None
    if url.scheme not in {"http", "https"} or not url.host:
        raise ValueError('is not an http(s) URL; write "https://host/path"')
    if url.port is not None and not 0 < url.port < 2**16:
        raise ValueError(f"has the port {url.port}; write a number from 1 to 65535")
    if url.fragment or "#" in value:
        raise ValueError('has a fragment ("#..."), which is never sent')
    return value


def endpoint(value: str) -> str:
    """As `http_url`, but without a user and password: secrets have options of their own."""
    import httpx

    if httpx.URL(http_url(value)).userinfo:
        raise ValueError("has a user or a password; write them in the options for secrets")
    return value


def base(value: str) -> str:
    """As `endpoint`, for a URL that paths are appended to: without a query, and with no slash at its end."""
    if "?" in endpoint(value):
        raise ValueError("has a query, and paths are appended to it; give scheme, host and path alone")
    return value.rstrip("/")


def hidden(url: str) -> list[str]:
    """What a message must not show of a URL that was not written in the configuration: all but the host."""
    parts = urlsplit(url)
    if parts.scheme.lower() not in {"http", "https"}:
        return [url]
    return [*keys(url), url] if parts.path.strip("/") or parts.query else []


def keys(url: str) -> list[str]:
    """The parts of a URL that may be its key: the password, parts of the path, values of parameters.

    A word such as a user's name is left out: masking it would garble other messages.
    """
    parts = urlsplit(url)
    password = parts.password or ""
    found = [text for text in {password, unquote(password)} if text]
    values = [pair.partition("=")[2] for pair in parts.query.split("&")]
    pieces = [parts.username or "", *parts.path.split("/"), *values]
    found += [piece for piece in pieces if _KEY.fullmatch(piece)]
    path = parts.path.rstrip("/")
    return found + ([path] if len(path) >= LONG_PATH else [])


_URL = r"^[Hh][Tt][Tt][Pp][Ss]?://[^\s/?#]"
_ENDPOINT = WithJsonSchema({"type": "string", "pattern": rf"{_URL}([^#]*[^#\s])?{END}"})
Endpoint = Annotated[str, AfterValidator(endpoint), _ENDPOINT, Elsewhere()]
"""A URL that is used as it is written; or the place where it is, such as `{ env = "NAME" }`."""
SecretEndpoint = Annotated[str, AfterValidator(endpoint), _ENDPOINT, Elsewhere(hidden)]
"""The same, with a secret in its path or query."""
Url = Annotated[
    str,
    AfterValidator(base),
    WithJsonSchema({"type": "string", "pattern": rf"{_URL}([^#?]*[^#?\s])?{END}"}),
    Elsewhere(),
]
"""A URL that paths are appended to; or the place where it is, such as `{ env = "NAME" }`."""


def set_param(url: "httpx.URL", name: str, value: str | None) -> "httpx.URL":
    """The URL with this query parameter, or without it if the value is None; the rest as it is written."""
    pairs = [pair for pair in url.query.decode("ascii").split("&") if pair]
    kept = [pair for pair in pairs if unquote_plus(pair.partition("=")[0]) != name]
    if value is not None:
        kept.append(f"{quote(name, safe='')}={quote(value, safe='')}")
    if kept == pairs:
        return url
    return url.copy_with(query="&".join(kept).encode() or None)


def host_of(url: "str | httpx.URL") -> str:
    """Scheme, host and port only: a query may contain secrets, which must not be in a log."""
    import httpx

    try:
        url = httpx.URL(url) if isinstance(url, str) else url
    except httpx.InvalidURL:
        return "the URL"
    host = f"[{url.host}]" if ":" in url.host else url.host
    return f"{url.scheme}://{host}" + (f":{url.port}" if url.port else "")


def is_loopback(url: str) -> bool:
    """Whether the URL's host can only be this machine."""
    import httpx

    host = httpx.URL(url).host
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
