"""What a column gets of an event, as the text that the server casts to the type of the column."""

import re
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from roundsman import wire
from roundsman.events import Event, with_summary
from roundsman.redaction import Steps, steps_of

Kind = Literal["text", "time", "number", "json", "any"]
KINDS: dict[str, Kind] = {
    "source": "text",
    "id": "text",
    "seq": "number",
    "type": "text",
    "time": "time",
    "subject": "text",
    "outcome": "text",
    "summary": "text",
    "event": "json",
    "data": "json",
}
"""What a column may name, beside a path in the data, and the kind of value that it is."""
KEY = ("source", "id")
"""What identifies an event."""
_ESCAPES = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u0000|u[dD][89a-fA-F][0-9a-fA-F]{2})|.)"
)
"""The escapes of JSON. The group has what jsonb refuses: NUL, and one half of a pair of surrogates."""


class Part(NamedTuple):
    """What a column gets of an event."""

    name: str
    """As it is written in the configuration."""
    kind: Kind
    steps: Steps = ()
    """The path in the data."""


def part_of(name: str) -> Part:
    """ValueError, in words for a person, if events have nothing of this name."""
    if name in KINDS:
        return Part(name, KINDS[name])
    if not name.startswith("data."):
        raise ValueError(
            f"{name[:80]} is nothing of an event; write {', '.join(KINDS)} or a path such as data.user.email"
        )
    if "[" in name:
        raise ValueError(f"{name[:80]}: a path ends at a list; name the list itself")
    return Part(name, "any", steps_of(name))


def clean(text: str) -> str:
    """A text as PostgreSQL stores it: without NUL, and valid Unicode."""
    return text.replace("\0", "\ufffd").encode("utf-8", "backslashreplace").decode()


def json_of(body: bytes) -> str:
    """JSON that json and jsonb take."""
    text = body.decode("utf-8", "replace")
    return _ESCAPES.sub(lambda found: "\\ufffd" if found[1] else found[0], text) if "\\u" in text else text


class Reading:
    """One event, decoded once and only if that is needed."""

    def __init__(self, event: Event) -> None:
        self._event = event
        self._document: Mapping[str, Any] | None = None

    def value(self, part: Part, *, as_json: bool) -> str | None:
        """The text for a column; `as_json`: its type is json or jsonb. Unreadable if the event is no JSON."""
        event = self._event
        match part.name:
            case "event":
                return json_of(with_summary(event.body, event.source))
            case "id" | "source" | "type" | "outcome" | "summary":
                found: Any = getattr(event, part.name)
            case "seq":
                found = event.seq
            case "data":
                found = self._read().get("data")
                as_json = True
            case "time" | "subject":
                found = self._read().get(part.name)
            case _:
                found = self._read().get("data")
                for step in part.steps:
                    found = found.get(step) if isinstance(found, Mapping) else None
        if found is None:
            return None
        if as_json or not isinstance(found, str):
            return json_of(wire.encode(found))
        return clean(found)

    def _read(self) -> Mapping[str, Any]:
        if self._document is None:
            self._document = self._event.document()
        return self._document
