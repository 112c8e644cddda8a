"""The address of a database server: a URL whose password is never shown."""

import re
from collections.abc import Iterable
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

from roundsman.masking import mask

SCHEMES = ("postgresql://", "postgres://")
NEEDS = (
    "is the URL of a PostgreSQL database, whose driver is not installed: install roundsman[postgres], or only the driver, by "
    "`pipx inject roundsman 'psycopg[binary]'` or `pip install 'psycopg[binary]'`"
)
"""What is missing where a database is configured, and the package psycopg is not installed."""
_KEYWORD = re.compile(r"\b(?:ssl)?password\s*=\s*(?:'((?:\\.|[^'\\])*)'|(\S+))", re.IGNORECASE)
"""A password in the other form that libpq knows, `host=h password=p`. It is no URL, and a message about that shows the text."""

_DENIED = re.compile(r"permission denied for (schema|table|sequence|database) (\S+)$")


def _is_hidden(parameter: str) -> bool:
    """Whether this parameter of the URL is a secret, also if its name is misspelt."""
    return "pass" in parameter.lower() and parameter != "passfile"


class Server:
    """The URL of a database. As a text, it has no password."""

    __slots__ = ("_shown", "_url")

    def __init__(self, url: str) -> None:
        """ValueError, without the URL, if it is none."""
        self._shown = without_password(url)
        mask.add(secrets_of(url))
        scheme, _, rest = url.partition(":")
        self._url = f"{scheme.lower()}:{rest}"  # libpq knows the scheme in lower case only

    def reveal(self) -> str:
        """The whole URL, to connect by."""
        return self._url

    def __str__(self) -> str:
        return self._shown

    __repr__ = __str__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Server) and other._url == self._url

    def __hash__(self) -> int:
        return hash(self._url)


def without_password(url: str) -> str:
    """The URL as it is shown. ValueError, without the URL, if it is none."""
    parts = urlsplit(url)
    if f"{parts.scheme}://" not in SCHEMES or not url.lower().startswith(SCHEMES):
        raise ValueError('is not the URL of a PostgreSQL database; write "postgresql://user@host/database"')
    # libpq ends the password at the first "@", and the host begins after it: any other one may be in the password.
    if url.count("@") > ("@" in parts.netloc) or parts.fragment or "#" in url:
        raise ValueError('has a "/", "@" or "#" in its user or password; write it as "%2F", "%40" or "%23"')
    user, _, hosts = parts.netloc.rpartition("@")
    if not parts.path.strip("/") or not (hosts or "host=" in parts.query):
        raise ValueError('names no host or no database; write "postgresql://user@host/database"')
    name = user.partition(":")[0]
    query = [(key, value) for key, value in parse_qsl(parts.query) if not _is_hidden(key)]
    shown = (
        parts.scheme,
        f"{name}@{hosts}" if name else hosts,
        parts.path,
        urlencode(query, quote_via=quote, safe="/=,*"),
        "",
    )
    return urlunsplit(shown)


def is_server(url: str) -> bool:
    """Whether it is the URL of a database."""
    try:
        return bool(without_password(url.strip()))
    except ValueError:
        return False


def secrets_of(url: str) -> list[str]:
    """What a message must not show of such a URL: passwords, as they are written and decoded."""
    if "://" not in url:
        return [each for found in _KEYWORD.findall(url) for each in found if each]
    try:
        parts = urlsplit(url)
    except ValueError:
        return [url]
    written = parts.netloc.rpartition("@")[0].partition(":")[2]
    # With a "/", "?" or "#" in it, the password seems to end there.
    longer = url.partition("://")[2].rpartition("@")[0].partition(":")[2]
    found: Iterable[str] = [written, unquote(written), longer]
    found = [*found, *(value for key, value in parse_qsl(parts.query) if _is_hidden(key))]
    return [each for each in dict.fromkeys(found) if each]


def granted(said: str) -> str:
    """What gives the user the right that is missing, as a part of a sentence. `said`: the server's words."""
    found = _DENIED.search(said)
    if found is None:  # it speaks another language
        return "; GRANT its user all rights on the schema, and on its tables and sequences"
    kind, name = found.groups()
    rights = "USAGE, CREATE" if kind == "schema" else "ALL"
    return f"; GRANT {rights} ON {kind.upper()} {name} to its user, or name the user that owns it"
