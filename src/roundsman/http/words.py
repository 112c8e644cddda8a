"""What an answer says about an error: one line without markup, terminal codes and secrets."""

import codecs
import re
from typing import Any

from roundsman import wire
from roundsman.errors import Unreadable
from roundsman.http.decoding import Undecodable, utf8
from roundsman.masking import mask, one_line
from roundsman.options.values import redact

LONGEST = 200
"""Maximum characters of the line."""
BEGINNING = 8 * 1024
"""Maximum bytes of a refusal that are read for it."""
CUT = 1000
"""Characters at the end of a text that was cut which are not shown: a part of a secret would not be recognised."""
SAYING = ("detail", "message", "error", "title", "errors", "errorSummary")
"""Members that state what went wrong, the best first."""
_TOKEN = re.compile(r"[A-Za-z0-9_\-.=+/]{28,}")
_TITLE = re.compile(r"<title\b[^<>]*>([^<]+)", re.IGNORECASE)
_UNSEEN = re.compile(r"<(?:script|style)\b", re.IGNORECASE)
_SEEN = re.compile(r"</(?:script|style)\b[^<>]*>", re.IGNORECASE)
_TAG = re.compile(r"<[^<>]*>")


def is_page(body: bytes) -> bool:
    """Whether a body is HTML, which no API answers with."""
    return body[:200].lstrip().lower().startswith((b"<!doctype html", b"<html", b"<head", b"<!--"))


def said(body: bytes) -> str:
    """The error text of a body: from problem+json, a message, or a list of messages; empty if there is none.

    Everything that could be a token is masked, because some servers repeat what they received.
    """
    try:
        document = wire.decode(body) if len(body) < 100_000 else None
    except Unreadable:
        return ""
    return _line(_message(document))


def refusal(body: bytes, content_type: str = "") -> str:
    """The words of a refusal, from the first `BEGINNING` bytes of its body; empty if there are none.

    Of JSON, the error text, or all of it if it has none; of markup, the title or the text.
    """
    text, whole = _text(body, content_type), len(body) < BEGINNING
    begin = text.lstrip()[:1]
    if begin in {"{", "[", '"'}:
        try:
            document = wire.decode(text.encode())
        except Unreadable:
            return ""  # it is cut, or broken
        return _line(_message(document) or wire.encode(document).decode())
    return _line(_seen(text) if begin == "<" else text, whole=whole)


def _message(document: Any) -> str:
    found = document
    for _ in range(3):
        if not isinstance(found, dict):
            break
        found = next((found[key] for key in SAYING if found.get(key)), None)
        if isinstance(found, list) and found and isinstance(found[0], dict):
            found = found[0]
    if isinstance(found, list):
        found = "; ".join(str(each) for each in found[:5] if isinstance(each, str))
    return found if isinstance(found, str) else ""


def _text(body: bytes, content_type: str) -> str:
    """The body as text; Latin-1 if it is neither UTF-8 nor in the charset that it names."""
    try:
        body = utf8(body, content_type)
        # The last character may be cut.
        return codecs.getincrementaldecoder("utf-8")().decode(body, final=len(body) < BEGINNING)
    except (Undecodable, UnicodeDecodeError):
        return body.decode("latin-1")


def _seen(markup: str) -> str:
    """What a page shows: its title, else its text."""
    import html  # seldom needed

    title = _TITLE.search(markup)
    if title is not None and title[1].strip():
        return html.unescape(title[1])
    first, *others = _UNSEEN.split(markup)
    # Each part is searched once: a search from every `<script` to the end would take long for a page full of them.
    kept = [first, *(_SEEN.split(other, maxsplit=1)[1] for other in others if _SEEN.search(other))]
    return html.unescape(_TAG.sub(" ", " ".join(kept)))


def _line(text: str, *, whole: bool = True) -> str:
    """The text in one line of at most `LONGEST` characters."""
    text = mask.cut(one_line(text)[: max(BEGINNING, 5000)])
    text = redact(_TOKEN.sub("***", (text if whole else text[:-CUT])[:1000]))
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."
