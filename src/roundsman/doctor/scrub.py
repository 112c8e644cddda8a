"""Removes from a text what a stranger must not see: known secrets, what looks like one, and e-mail addresses.

`mask` removes the secrets that this process has read. A log may hold others: a token that was replaced since, or one that
only the service can read. So everything in the form of a secret is removed, too.
"""

import base64
import hashlib
import json
import re
import secrets
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from roundsman.masking import MASK, SHORTEST, mask
from roundsman.options.server import is_server, secrets_of, without_password

SHORT = 6
"""A value that is no secret by its name is looked for in other texts from this length on, unless it is a plain word."""
_PLAIN = re.compile(
    r"[A-Z]?[a-z]{0,19}|[A-Z]{0,19}|[a-z]+(?:[A-Z][a-z]+){1,3}|[0-9]{0,11}|[0-9]{4}-[0-9]{2}-[0-9]{2}|[vV]?[0-9.]{1,12}|[0-9.]+(?:ms|[smhd])"
)
_SECRET_NAME = re.compile(
    r"pass|token|secret|key|credential|auth|cookie|signature|bearer|dsn|pwd", re.IGNORECASE
)
_WORDS = re.compile(r"[^\s\"'`<>{}()\[\],;=$\\]+")
_URL = re.compile(r"\b([A-Za-z][A-Za-z0-9+.-]*)://[^\s\"'<>\\`]+")
_MAIL = re.compile(r"[\w.+%'-]+(?:@|%40)[\w-]+(?:\.[\w-]+)+")
_MAIL_OR_DATABASE = re.compile(rf"(\bpostgres(?:ql)?://[^\s\"'<>\\`]*)|{_MAIL.pattern}")
"""The user and the host of a database are no address of e-mail."""
_NAMED = re.compile(
    r"(?i)((?:authorization|proxy-authorization|set-cookie|cookie)[\"']?\s*[:=]\s*)[^\r\n\"']+"
    r"|((?:[\w-]*(?:passw(?:or)?d|passwd|token|secret|api[_-]?key|signature)[\w-]*)[\"']?\s*(?:=|:(?! [a-z]+ ))\s*[\"']?)[^\s\"',;&}{*]+"
    r"|(\b(?:bearer|basic)\s+)[A-Za-z0-9._~+/=-]{4,}"
)
_LONG = re.compile(
    r"(?<![A-Za-z0-9_+=~-])(?=[A-Za-z0-9_+=~-]*[0-9])(?=[A-Za-z0-9_+=~-]*[A-Za-z])[A-Za-z0-9_+=~-]{16,}"
)
"""A number with letters of this length may be a token, or the id of an event."""


class Scrub:
    """One run's removal. The same long token gets the same stand-in in all texts of this run, and another in the next."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(16)

    def __call__(self, text: str) -> str:
        text = mask(text)
        text = _URL.sub(_origin, text)
        text = _MAIL_OR_DATABASE.sub(lambda found: found[1] or "***@***", text)
        text = _NAMED.sub(lambda found: f"{found[1] or found[2] or found[3]}{MASK}", text)
        text = _LONG.sub(self._stand_in, text)
        return mask(text)

    def document(self, value: Any) -> Any:
        """A document with every text in it scrubbed, and each value whose name is that of a secret removed."""
        if isinstance(value, str):
            return self(value)
        if isinstance(value, Mapping):
            return {
                self(str(key)): MASK
                if isinstance(each, str) and is_secret_name(str(key))
                else self.document(each)
                for key, each in value.items()
            }
        return [self.document(each) for each in value] if isinstance(value, list | tuple) else value

    def log_line(self, line: str) -> str:
        """A line of a log. One in JSON is read first: its text may be spelled with escapes."""
        try:
            read = json.loads(line)
        except (ValueError, RecursionError):
            return self(line)
        if not isinstance(read, dict):
            return self(line)
        return self(json.dumps(self.document(read), ensure_ascii=False, default=str))

    def _stand_in(self, found: "re.Match[str]") -> str:
        digest = hashlib.blake2b(
            found[0].encode("utf-8", "replace"), key=self._key, digest_size=4
        ).hexdigest()
        return f"<id {digest}>"


def _origin(found: "re.Match[str]") -> str:
    """A URL without its user, path and query; of a database, without its password. Of other schemes only the scheme: the rest may be a token."""
    scheme = found[1].lower()
    if is_server(found[0]):
        shown = without_password(found[0])
        return _MAIL.sub(f"{MASK}@***", shown) if "%40" in shown else shown
    if scheme not in {"http", "https"}:
        return f"{scheme}://{MASK}"
    try:
        parts = urlsplit(found[0])
        host, port = parts.hostname or MASK, parts.port
    except ValueError:
        return f"{scheme}://{MASK}"
    host = f"[{host}]" if ":" in host else host
    more = f"/{MASK}" if parts.path.strip("/") or parts.query or parts.fragment else ""
    return f"{scheme}://{host}" + (f":{port}" if port else "") + more


def is_secret_name(name: str) -> bool:
    return bool(_SECRET_NAME.search(name))


def conceal(values: Iterable[str], *, surely: bool) -> None:
    """Mask these in every text of this run. `surely`: they are secrets; else only those that are no plain word."""
    found = set[str]()
    for value in values:
        for each in {value, value.strip(), *(line.strip() for line in value.splitlines())}:
            if len(each) >= (SHORTEST if surely else SHORT) and (surely or not _PLAIN.fullmatch(each)):
                found.add(each)
    mask.add(sorted(found))


def conceal_parts(text: str, *, surely: bool) -> None:
    """Mask the words of a text that may be secrets: of a header, of the arguments of a program, of a template."""
    words = _WORDS.findall(text)
    conceal(words, surely=False)
    scheme = words[0].lower() if len(words) == 2 else ""
    if scheme in {"bearer", "basic", "token"} or (scheme and surely):
        conceal(words[1:], surely=True)
    if scheme == "basic":
        with suppress(ValueError):
            decoded = base64.b64decode(words[1] + "==").decode("utf-8", "replace")
            conceal([decoded.partition(":")[2] or decoded], surely=True)
    named = re.match(r"-{0,2}([\w-]+)=(.+)", text, re.DOTALL)
    if named:
        conceal([named[2]], surely=is_secret_name(named[1]))


def conceal_url(url: str) -> None:
    """Mask the parts of a URL that may be secret."""
    if is_server(url):  # only the password is
        conceal(secrets_of(url), surely=True)
        return
    parts = re.split(r"[/?#&=@:;,]", url.partition("://")[2])
    host = ""
    try:
        host = urlsplit(url).hostname or ""
        user = urlsplit(url).netloc.rpartition("@")[0]
    except ValueError:
        user = ""
    web = url.lower().startswith(("http://", "https://"))
    if not web and "." not in host:
        host = ""  # of the address of a chat service, this is the place of its token
    held = {each for each in parts if each and each.lower() != host and not each.isdigit()}
    conceal({*held, *map(unquote, held), quote(url, safe="")}, surely=False)
    for name, given in re.findall(r"[?&;]([^=&;#]*)=([^&;#]*)", url):
        conceal({given, unquote(given)}, surely=is_secret_name(name) and len(given) >= SHORT)
    conceal({user.partition(":")[2], unquote(user.partition(":")[2])} - {""}, surely=True)
    if not web:
        conceal({url, url.partition("://")[2]}, surely=False)
