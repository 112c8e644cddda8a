"""Takes values out of events: those at the paths of an option `redact`, and copies of them elsewhere in the event.

The paths lead into `data`, as `roundsman events --json` shows it. What is taken out becomes null, a list becomes an
empty one, and inside a longer text it becomes `[redacted]`: the data still have the shape of their type.
"""

import hashlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any
from urllib.parse import quote, quote_plus, unquote

from msgspec import structs

from roundsman import wire
from roundsman.errors import Unreadable
from roundsman.events import Event
from roundsman.summary import summary as summary_of

REDACTED = "[redacted]"
"""What stands for a value inside a longer text, and for a member of a list."""
SHORTEST, SHORTEST_NUMBER = 3, 4
"""Minimum characters of a text, and of a number, whose copies are taken out, too: shorter ones have other meanings elsewhere."""
LAYERS = 3
"""How often a text is decoded: a URL that is a part of another one, JSON in a text of JSON."""
FEW = 64
"""Up to so many values, a `Removal` is remembered; and up to so many beginnings, one pattern has them all. With more, the
first takes much memory and the second much time.
"""
FIXED = frozenset({"batch_id", "outcome", "failures_cap", "source"})
"""Members of `data` that always have a value, and that name no person."""

Steps = tuple[str, ...]
# Not within another name or address: `anna@a.example` is no part of `joanna@a.example` or `anna@a.example.org`.
# Before it can stand an escape of a URL for a character that is in neither: %3C is a `<`.
_BEFORE = r"(?:(?<![\w.+%-])|(?<=%(?:[01][0-9a-f]|2[0-46-9acf]|3[a-f]|40|5[b-e]|60|7[b-e])))"
_END = re.compile(r"(?![\w-]|\.\w|%2[de])")
_JSON = ("{", "[", '"')
_MD5 = re.compile(r"[0-9a-fA-F]{32}")
_PLAIN = re.compile(r"[A-Za-z0-9._~@-]*")
"""Only the `@` of such a text is written in another way in JSON or in a URL."""
_STEP = re.compile(r'(?:([A-Za-z_][\w-]*)|"((?:[^"\\]|\\.)+)")(?:\[\*?\])?(?:\.|$)')


@lru_cache(maxsize=1024)
def steps_of(path: str) -> Steps:
    """The names on a path such as `user.email`, `failures[].person` or `data.raw."e-mail"`. ValueError if it is none."""
    names: list[str] = []
    at = 0
    while at < len(path) or not names:
        found = _STEP.match(path, at)
        if found is None:
            raise ValueError(f"{path[:80]}: is not a path of names and dots, such as user.email")
        names.append(found[1] or json.loads(f'"{found[2]}"'))
        at = found.end()
    if path.endswith("."):
        raise ValueError(f"{path[:80]}: ends in a dot")
    return tuple(names[1:] if names[0] == "data" and len(names) > 1 else names)


class Removal:
    """Takes these values out of any document. Case does not matter.

    A value is found by a look at each place where a word begins, and not by one pattern of all values: with thousands of
    them, such a pattern takes seconds.
    """

    def __init__(self, values: Iterable[object]) -> None:
        texts = {text for value in values if (text := _text(value)) is not None}
        self.forms = {form for text in texts for form in _forms(text)}
        """The values as they can be written."""
        self._whole = {_folded(form) for form in self.forms}
        lengths: defaultdict[str, set[int]] = defaultdict(set)
        for form in self._whole:
            lengths[form[:SHORTEST]].add(len(form))
        self._lengths = {begin: sorted(found, reverse=True) for begin, found in lengths.items()}
        """The first characters of a form -> the lengths of the forms that begin with them, the longest first."""
        begins = ("|".join(map(re.escape, lengths)) or "(?!)") if len(lengths) <= FEW else "."
        self._begin = re.compile(rf"{_BEFORE}(?={begins})", re.DOTALL)
        """Where one may begin."""

    def __bool__(self) -> bool:
        return bool(self._whole)

    def is_one(self, value: object) -> bool:
        """Whether the value is one of those."""
        text = _text(value)
        return text is not None and _folded(text) in self._whole

    def is_in(self, text: str) -> bool:
        """Whether one of them is the text, or a part of it, also of one that is encoded within it."""
        return self._is_in(text) or any(map(self._is_in, _encoded(text)))

    def text(self, text: str) -> str:
        """The text without them. Of one that has them encoded in another way than vendors do, nothing is left."""
        text = self._without(text)
        return REDACTED if any(map(self._is_in, _encoded(text))) else text

    def _is_in(self, text: str) -> bool:
        return self.is_one(text) or next(self._spans(text), None) is not None

    def _without(self, text: str) -> str:
        if self._begin.search(_folded(text)) is None:  # the common case
            return text
        kept, at = [], 0
        for begin, end in self._spans(text):
            kept += [text[at:begin], REDACTED]
            at = end
        return "".join([*kept, text[at:]]) if at else text

    def of(self, value: Any, *, listed: bool = False) -> Any:
        """The document without them. `listed`: it is a member of a list."""
        if isinstance(value, dict):
            return self._object(value)
        if isinstance(value, list):
            return [self.of(each, listed=True) for each in value]
        if self.is_one(value):
            return REDACTED if listed else None
        return self.text(value) if isinstance(value, str) else value

    def _object(self, value: dict[str, Any]) -> dict[str, Any]:
        """An object without them. Its keys are names of members, and stay: only one that is an address does not."""
        found: dict[str, Any] = {}
        used = Counter[str]()
        for key, each in value.items():
            name = kept = self.text(key) if may_be_address(key) else key
            while name in found or (name != key and name in value):  # two addresses as keys of one object
                used[kept] += 1
                name = f"{kept} {used[kept] + 1}"
            found[name] = self.of(each)
        return found

    def _spans(self, text: str) -> Iterator[tuple[int, int]]:
        """Where they are in the text: the begin and the end of each."""
        text, at = _folded(text), 0
        for found in self._begin.finditer(text):
            begin = found.start()
            if begin < at:
                continue
            for length in self._lengths.get(text[begin : begin + SHORTEST], ()):
                end = begin + length
                if text[begin:end] in self._whole and _END.match(text, end):
                    yield begin, end
                    at = end
                    break


def _encoded(text: str, layers: int = LAYERS) -> Iterator[str]:
    """The texts that are in this one, percent-encoded or as JSON."""
    if not layers:
        return
    if "%" in text and (plain := unquote(text)) != text:
        yield plain
        yield from _encoded(plain, layers - 1)
    # Without a backslash, each text of it is found as it is.
    if "\\" in text and text.lstrip()[:1] in _JSON:
        try:
            document = wire.decode(text.encode("utf-8", "replace"))
        except Unreadable:
            return
        for each in texts(document):
            yield each
            yield from _encoded(each, layers - 1)


def may_be_address(key: str) -> bool:
    """Whether a key of an object can be an address, or the MD5 of one: any other key is the name of a member."""
    return "@" in key or "%40" in key or _MD5.fullmatch(key) is not None


def _folded(text: str) -> str:
    """The text without the difference of case, with as many characters."""
    if text.isascii():
        return text.lower()
    folded = text.casefold()
    if len(folded) == len(text):
        return folded
    return "".join(low if len(low := each.casefold()) == 1 else each for each in text)


def _text(value: object) -> str | None:
    """A value whose copies can be found, as a text; None for any other."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    text = str(value).strip()
    return text if len(text) >= (SHORTEST_NUMBER if text.isdecimal() else SHORTEST) else None


def _forms(text: str) -> set[str]:
    """How vendors write a text inside another: as it is, in JSON, in a URL, and the MD5 by which Mailchimp names an address."""
    if _PLAIN.fullmatch(text):  # the common case, five times as fast
        forms = {text, text.replace("@", "%40")}
    else:
        forms = {text, json.dumps(text)[1:-1], quote(text, safe="", errors="replace")}
        forms.add(quote_plus(text, errors="replace"))
    if "@" in text:
        lower = text.lower().encode("utf-8", "replace")
        forms.add(hashlib.md5(lower, usedforsecurity=False).hexdigest())
    return forms


def redacted(event: Event, paths: Sequence[str]) -> Event:
    """The event without the values at these paths; the same one if it has none. Its id stays.

    Unreadable if its body is not JSON, or its data is no object: nothing can be found in it.
    """
    if event.type.startswith("roundsman."):
        return event  # the words of a notice are ours, and say what is wrong
    document = event.document()
    data = document.get("data") if isinstance(document, dict) else document
    if data is None:
        return event
    if not isinstance(data, dict):
        raise Unreadable("the data of an event is not an object, so redact finds nothing in it")
    values: list[object] = []
    changed = False
    for path in paths:
        changed = _take(data, steps_of(path), values, top=True) or changed
    if not changed:
        return event
    return rewritten(event, document, removal_of(values))


def removal_of(values: Sequence[object]) -> Removal:
    """What takes these values out. It is remembered, because a log has few persons."""
    return _removal(tuple(values)) if len(values) <= FEW else Removal(values)


_removal = lru_cache(maxsize=1024)(Removal)


def rewritten(event: Event, document: dict[str, Any], removal: Removal) -> Event:
    """The event with this document, without these values in its data, its subject and its summary."""
    data = document["data"]
    if removal:
        data = removal.of(data) | {name: data[name] for name in FIXED & data.keys()}
        document["data"] = data
        subject = document.get("subject")
        if isinstance(subject, str) and removal.is_in(subject):
            del document["subject"]
    if "summary" in document:
        thing = str(document.get("subject") or event.id)
        document["summary"] = summary_of(event.source, event.type, event.outcome, data, thing)
    return structs.replace(event, body=wire.encode(document))


def _take(node: Any, steps: Steps, values: list[object], *, top: bool = False) -> bool:
    """Empty the member at these steps, and add what was there to `values`. Returns whether anything was."""
    if isinstance(node, list):
        return sum(_take(each, steps, values) for each in node) > 0  # each of them
    name, *rest = steps
    if not isinstance(node, dict) or name not in node:
        return False
    if rest:
        return _take(node[name], tuple(rest), values)
    was = node[name]
    if was is None or was in ([], {}):
        return False
    values += _copied(was, steps, top=top)
    node[name] = [] if isinstance(was, list) else {} if top and name == "raw" else None
    return True


def _copied(was: Any, steps: Steps, *, top: bool) -> list[object]:
    """The values whose copies are taken out, too: of an object that is no person, only addresses.

    Its other words, such as `"type": "User"`, have other meanings elsewhere; and `raw` has all that the event says.
    """
    if top and steps == ("raw",):
        return []
    is_person = isinstance(was, dict) and was.keys() == {"id", "name", "email"}
    found = leaves(was)
    if not isinstance(was, dict | list) or is_person:
        return found
    return [each for each in found if isinstance(each, str) and "@" in each]


def leaves(value: Any) -> list[object]:
    """Every single value in a document."""
    if isinstance(value, dict | list):
        inner = value.values() if isinstance(value, dict) else value
        return [leaf for each in inner for leaf in leaves(each)]
    return [value]


def texts(value: Any) -> Iterator[str]:
    """Every text in a document, also those that are keys."""
    if isinstance(value, dict):
        yield from value
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from texts(each)
    if isinstance(value, str):
        yield value
