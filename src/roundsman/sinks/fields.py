"""The fields of an event that a template can have, as flat texts."""

from collections.abc import Collection, Mapping
from typing import Any

from roundsman.events import Event
from roundsman.options.template import Verbatim
from roundsman.summary import person_name

LONGEST = 1000
"""Maximum characters of a value: chats refuse long messages. Only the whole event is never cut."""

FIELDS = {
    "summary": "The event in one line, without mentions of a chat.",
    "id": "The id of the event.",
    "source": "The name of the source in the configuration.",
    "type": "The type of the event.",
    "subject": "What the event is about.",
    "time": "When it happened, in RFC 3339.",
    "outcome": "How it ended.",
    "message": "The vendor's text about what went wrong, or the text of a notice.",
    "person": "The person concerned, or who tried to open a door: name (address), else the id.",
    "code": "The vendor's word or number for what went wrong.",
    "event": "The whole event as JSON. In a body of JSON it is inserted as it is.",
}
"""Name -> what it is. One that an event does not have is empty."""


def fields_of(event: Event, names: Collection[str]) -> dict[str, str]:
    """These fields of an event. Values are the vendor's own texts: they have to be escaped."""
    found: dict[str, Any] = {"id": event.id, "source": event.source, "type": event.type}
    if "summary" in names:
        found["summary"] = event.summary
    if "event" in names:
        found["event"] = Verbatim(event.body.decode())
    if not found.keys() >= set(names):
        document = event.document()
        data = document.get("data")
        found |= {name: document.get(name) for name in ("subject", "time", "outcome")}
        if isinstance(data, Mapping):
            found |= {name: data.get(name) for name in ("message", "code")}
            found["person"] = person_name(data.get("person") or data.get("user"))
    return {name: _flat(found.get(name)) for name in names}


def _flat(value: Any) -> str:
    if isinstance(value, Verbatim):
        return value
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    text = str(value)
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."
