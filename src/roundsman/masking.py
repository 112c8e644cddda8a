"""Keeps secrets out of messages: one registry of secrets, and one function that masks them in a text.

Every text that leaves the daemon for a person goes through `mask`: log lines, tracebacks, errors in `status`,
the daemon's own notices, what commands print on standard error. A vendor's own data in events is never
changed.
"""

import base64
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote, quote_plus

SHORTEST = 4
"""Minimum characters of a secret that is masked: anything shorter occurs in ordinary words."""
LONG = 8
"""Minimum characters of a secret whose base64 is masked, too."""
_ESCAPE = re.compile("%[0-9A-F]{2}")
FEW_SPELLINGS = 50
"""Up to this many spellings, each is searched for alone; more are looked up by windows of their length."""
MASK = "***"


class Masker:
    """The registry of secrets. A reload only adds to it: an old secret is still one."""

    def __init__(self) -> None:
        self._forms: dict[int, set[str]] = {}
        """Every spelling of every secret, by its length."""
        self._held = Counter[str]()
        """How often each was added: two sources may share a token."""
        self.changes = 0
        """How often a secret was added or forgotten: what was masked before may be masked otherwise now."""
        self._sorted: tuple[int, list[str]] = (0, [])
        """The same as they were after so many changes, the longest first, because one secret may be part of another."""

    def add(self, secrets: Iterable[str]) -> None:
        for secret in secrets:
            self._held[secret] += 1
            for form in _forms(secret):
                self._forms.setdefault(len(form), set()).add(form)
        self.changes += 1  # last: another thread may be sorting

    def discard(self, secret: str) -> None:
        """Forget a secret that has ended, such as a renewed token, once for each time that it was added."""
        self._held[secret] -= 1
        if self._held[secret] <= 0:
            del self._held[secret]
            for form in _forms(secret):
                self._forms.get(len(form), set()).discard(form)
            self._forms = {length: forms for length, forms in self._forms.items() if forms}
        self.changes += 1

    def clear(self) -> None:
        self._forms.clear()
        self._held.clear()
        self.changes += 1

    def _longest_first(self) -> list[str]:
        """Every spelling. They are sorted when they are needed: after each of 50,000 secrets, it would take hours."""
        changes, found = self._sorted
        if changes != self.changes:
            changes = self.changes
            found = [form for forms in list(self._forms.values()) for form in list(forms)]
            found.sort(key=lambda form: (-len(form), form))
            self._sorted = changes, found
        return found

    def __call__(self, text: str) -> str:
        """The text with `***` in place of every secret."""
        by_length = self._forms.copy()  # another thread may be adding or discarding
        if sum(map(len, by_length.values())) <= FEW_SPELLINGS:
            for form in self._longest_first():
                if form in text:
                    text = text.replace(form, MASK)
            return text
        for length in sorted(by_length, reverse=True):
            forms, at = by_length[length], 0
            while at + length <= len(text):
                if text[at : at + length] in forms:
                    text = text[:at] + MASK + text[at + length :]
                    at += len(MASK)
                else:
                    at += 1
        return text

    def cut(self, text: str) -> str:
        """The text, also with `***` in place of the begin of a secret at its end: its writer may have been stopped there."""
        text = self(text)
        for form in self._longest_first():
            at = text.find(form[:SHORTEST], max(0, len(text) - len(form)))
            while at >= 0:
                if form.startswith(text[at:]):
                    return text[:at] + MASK
                at = text.find(form[:SHORTEST], at + 1)
        return text


def _forms(secret: str) -> set[str]:
    """How a secret may be spelled in a text: as it is, in a URL, in JSON, in base64."""
    if len(secret) < SHORTEST:
        return set()
    quoted = {quote(secret, safe=""), quote_plus(secret), quote(secret)}
    lower = {_ESCAPE.sub(lambda found: found[0].lower(), each) for each in quoted}
    forms = {secret, *quoted, *lower, json.dumps(secret)[1:-1]}
    if len(secret) >= LONG:  # that of a short one may occur in any text
        forms.add(base64.b64encode(secret.encode("utf-8", "replace")).decode().rstrip("="))
    return forms


def masked(value: Any) -> Any:
    """A document with every text in it masked."""
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, Mapping):
        return {masked(key): masked(each) for key, each in value.items()}
    return [masked(each) for each in value] if isinstance(value, list | tuple) else value


def safe(text: str) -> str:
    """The text with everything unprintable escaped: control characters, terminal codes, marks that reverse a text."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


_CODES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # colours, cursor movements
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\|\x9c)?"  # titles, links, strings
    r"|\x1b[ -/]*[0-~]"
)
"""Control sequences of terminals (ECMA-48), in seven and eight bits."""


def one_line(text: str) -> str:
    """The words of another program in one line, without control sequences and unprintable characters: these would hide a
    secret from `mask`, but not from a reader.
    """
    text = " ".join(_CODES.sub("", text).split())
    return text if text.isprintable() else "".join(char for char in text if char.isprintable())


HIDDEN = "of that name (the value may be the secret itself; write its name instead)"
_WORD = re.compile(r"[A-Za-z]{1,20}[0-9]{0,4}|[0-9]{1,4}|")


def name_of(text: str) -> str:
    """The name of a variable or file, for a message; `HIDDEN` if it may be a secret put in its place."""
    words = re.split(r"[-_./~ ]", text)
    alone = len(words) == 1 and not (text.isupper() or text.islower())
    mixed = "/" not in text and not (text.isupper() or text.islower() or text.isdigit())
    if len(text) > 80 or alone or mixed or not all(_WORD.fullmatch(word) for word in words):
        return HIDDEN
    return text


mask = Masker()
"""The registry of this process. `Secret` adds what it reads; the configuration adds secrets in its URLs."""
