"""What a failure is about: a key that a later failure of the same person and thing has, too."""

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from roundsman import wire

DIGEST = 32
"""Characters of the digest in a key."""


def about(source: str, data: object) -> str | None:
    """The key of a failure with this data; None if it names neither a person nor a thing.

    A person is named by an id, else by an e-mail address, of which case does not matter: two persons can have one name.
    A thing is named by its id. For a person without one, the vendor's code for what went wrong stands for it; a code
    alone does not make two failures the same. The key has a digest of the names, because it is kept longer than the
    event: no e-mail address stays.
    """
    if not isinstance(data, Mapping):
        return None
    person, thing = _person(data.get("person")), _named(data.get("about"), "id")
    if person is None and thing is None:
        return None
    what = ["id", thing] if thing is not None else ["code", _text(data.get("code"))]
    return f"{source}:{sha256(wire.encode([person, what])).hexdigest()[:DIGEST]}"


def _person(person: object) -> list[str] | None:
    if (found := _named(person, "id")) is not None:
        return ["id", found]
    if (found := _named(person, "email")) is not None:
        return ["email", found.strip().lower()]
    return None


def _named(thing: Any, member: str) -> str | None:
    return _text(thing.get(member)) if isinstance(thing, Mapping) else None


def _text(value: object) -> str | None:
    """A text or a number as a text; None for anything else, and for an empty text."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    return str(value).strip() or None
