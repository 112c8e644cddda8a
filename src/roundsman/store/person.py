"""Finds a person in events, by an id or an e-mail address, and blanks that person there."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import unquote_to_bytes

from msgspec import structs

from roundsman import wire
from roundsman.errors import Unreadable
from roundsman.events import Event
from roundsman.redaction import (
    LAYERS,
    REDACTED,
    Removal,
    leaves,
    may_be_address,
    removal_of,
    rewritten,
    texts,
)

BLANKED = REDACTED.encode()
"""The body of an unread webhook or row that named the person."""

_SOURCE = re.compile(r" \[([^\[\]]*)\]$")
"""The source at the end of the summary of an event."""
BEGIN = 4
"""Minimum characters of a value that was cut by which it is known."""
_WITHIN = re.compile(r"[\w.+%-]\Z")
"""The end of what stands before a part of a longer name or address."""
OURS = frozenset({"failures", "fields"})
"""Lists of `data` whose items have members that are about no person."""


class Person:
    """A person to forget.

    An id is compared with the ids of `user`, `person` and the persons of `failures`, exactly. An address is searched for
    in all texts of an event, in any case; it is never found within a longer one. Two vendors can give one id to two
    persons: so an id that was found beside an address stands for the person in the same source only.
    """

    def __init__(self, name: str, sources: Iterable[str] = ()) -> None:
        """`sources`: only what is of these sources; none: of all."""
        self.name = name.strip()
        self.is_address = "@" in self.name
        self._sources = frozenset(sources)
        self._own = Removal([self.name])
        self.others: defaultdict[str, set[str]] = defaultdict(set)
        """The other ids and addresses of the persons that were found, and in which sources."""
        self._known: defaultdict[str, set[str]] = defaultdict(set)
        """Ids, addresses and names of the persons that were found, by source."""
        forms = self._own.forms or {self.name}
        self._needles = [form.encode("utf-8", "replace").lower() for form in forms]

    def is_of(self, source: str | None) -> bool:
        """Whether to look into what is of this source. None: of no source, where an id such as 1042 means another thing."""
        if self._sources:
            return source in self._sources
        return source is not None or self.is_address

    def may_be_in(self, body: bytes) -> bool:
        """Whether it is worth the time to decode this: texts can be escaped in JSON."""
        if b"\\" in body or not self.name.isascii():
            return True
        for _ in range(LAYERS):
            lower = body.lower()
            if any(each in lower for each in self._needles):
                return True
            if b"%" not in body:
                break
            body = unquote_to_bytes(body)
        return False

    def without(self, event: Event) -> Event | None:
        """The event without the person; None if it does not name the person.

        It keeps its id, type, time, outcome and number. If it is about the person, `raw` is emptied: it is the vendor's
        object about that person. Elsewhere, what stands beside the address in an object is emptied with it.
        """
        if not self.may_be_in(event.body):
            return None
        try:
            document = event.document()
        except Unreadable:  # the store is damaged, or a plugin wrote it: no sink gets it
            is_in = self.is_address and self.is_in_bytes(event.body)
            return structs.replace(event, body=BLANKED) if is_in else None
        if not isinstance(document, dict) or not isinstance(document.get("data"), dict):
            return self._odd(event, document)
        data = document["data"]
        found = [person for person in _persons(data) if self._is(person)]
        if not (found or (self.is_address and self._is_anywhere(document))):
            return None
        values = [self.name, *(each for person in found for each in leaves(person))]
        self._learn(event.source, found)
        raw = data.get("raw")
        direct = isinstance(raw, dict) and any(self._own.is_one(each) for each in raw.values())
        if isinstance(raw, dict) and (direct or any(data.get(name) in found for name in ("user", "person"))):
            data["raw"] = {}
        for person in found:
            person.update(dict.fromkeys(person))
        document["data"] = {
            name: each if name in OURS else self._member(name, each) for name, each in data.items()
        }
        if "subject" in document and document["subject"] in values:
            del document["subject"]  # also if it is too short to be searched for in texts
        return rewritten(event, document, removal_of(values))

    def text(self, text: str) -> str:
        """The text without the person's id or address."""
        return REDACTED if self._own.is_one(text) else self._own.text(text)

    def json(self, text: str) -> str:
        """The same of a text of JSON, which stays one."""
        try:
            return wire.encode(self._own.of(wire.decode(text.encode("utf-8", "replace")))).decode()
        except Unreadable:
            return self.text(text)

    def line(self, text: str) -> str:
        """The summary of an event, or what stands for it if it names the person."""
        found = _SOURCE.search(text)
        source = found[1] if found is not None else None
        values = [*([self.name] if self.is_of(source) else []), *self._known.get(source or "", ())]
        return REDACTED if removal_of(values).is_in(text) or _is_begun(text, values) else text

    def is_in(self, text: str) -> bool:
        """Whether the text has the id or the address in it."""
        return self._own.is_in(text)

    def is_in_bytes(self, body: bytes) -> bool:
        """The same for a webhook or a row that could not be read."""
        text = body.decode("utf-8", "replace")
        return self.is_in(text) or ("\\" in text and self.is_in(_ESCAPE.sub(_unescaped, text)))

    def _odd(self, event: Event, document: Any) -> Event | None:
        """The same of a plugin's event whose data is no object: nothing in it is a person, but for the address."""
        if not (self.is_address and any(map(self.is_in, texts(document)))):
            return None
        found = self._own.of(document)
        if isinstance(document, dict):
            found |= {name: document[name] for name in ("id", "source", "type") if name in document}
        return structs.replace(event, body=wire.encode(found))

    def _is(self, person: dict[str, Any]) -> bool:
        key, email = person.get("id"), person.get("email")
        is_email = isinstance(email, str) and email.strip().casefold() == self.name.casefold()
        return is_email or (key is not None and str(key) == self.name)

    def _is_anywhere(self, document: dict[str, Any]) -> bool:
        return any(map(self.is_in, texts([document["data"], document.get("subject")])))

    def _learn(self, source: str, found: list[dict[str, Any]]) -> None:
        for person in found:
            known = {str(each).strip() for each in (person.get("id"), person.get("email")) if each}
            for other in known:
                if other.casefold() != self.name.casefold():
                    self.others[other].add(source)
            self._known[source] |= known | {str(each) for each in [person.get("name")] if each}

    def _emptied(self, value: Any) -> Any:
        """A document in which each object that has the id or the address is emptied of its single values."""
        if isinstance(value, list):
            return [self._emptied(each) for each in value]
        if not isinstance(value, dict):
            return value
        names = any(self._own.is_one(each) for each in value.values())
        return {
            name: None if names and not isinstance(each, dict | list) else self._member(name, each)
            for name, each in value.items()
        }

    def _member(self, name: str, value: Any) -> Any:
        """The same of a member. What stands under the address is about the person."""
        return _nothing(value) if may_be_address(name) and self.is_in(name) else self._emptied(value)


def _is_begun(text: str, values: Iterable[str]) -> bool:
    """Whether a summary has the begin of one of these values where it was cut."""
    return any(
        begin.endswith(value[:size]) and _WITHIN.search(begin[:-size]) is None
        for begin in text.casefold().split("…")[:-1]
        for value in map(str.casefold, values)
        for size in range(BEGIN, len(value))
    )


def _nothing(value: Any) -> Any:
    """The document without its single values."""
    if isinstance(value, dict):
        return {name: _nothing(each) for name, each in value.items()}
    return (
        [_nothing(each) for each in value if isinstance(each, dict | list)]
        if isinstance(value, list)
        else None
    )


_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)


def _unescaped(found: re.Match[str]) -> str:
    """The character that an escape of JSON stands for; a blank for a control character."""
    if found[1]:
        return chr(int(found[1], 16))
    return " " if found[2] in "nrtbf" else found[2]


def _persons(data: dict[str, Any]) -> Iterator[dict[str, Any]]:
    failures = data.get("failures")
    inside = (
        [each.get("person") for each in failures if isinstance(each, dict)]
        if isinstance(failures, list)
        else []
    )
    for person in (data.get("user"), data.get("person"), *inside):
        if isinstance(person, dict):
            yield person
