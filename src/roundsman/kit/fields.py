"""Reads vendors' objects leniently: a missing or unexpected value is None and never an error."""

from collections.abc import Callable, Sequence
from typing import Any

from roundsman.kit.paths import descend
from roundsman.shapes import Person, Ref

NUMBERS = (int, float)


def text(value: Any) -> str | None:
    """The value as text, if it is text or a number. Empty text is None: some vendors write it for "none"."""
    if type(value) is str:
        return value or None
    return str(value) if type(value) in NUMBERS else None


def count(value: Any) -> int | None:
    """A number of things: an integer that is not negative, or one written as text."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 16:
        return int(value)
    return value if type(value) is int and value >= 0 else None


def first(data: dict[str, Any], *names: str) -> str | None:
    """The first of these members that is text and not empty."""
    return next((value for name in names if isinstance(value := data.get(name), str) and value), None)


def getter(paths: Sequence[str]) -> Callable[[dict[str, Any]], Any]:
    """A function that returns the first value at these dotted paths. Nearly always the first path has it."""
    first, *others = paths
    if any("." in path for path in paths):
        steps = [path.split(".") for path in paths]
        return lambda data: next(
            (found for path in steps if (found := descend(data, path)) is not None), None
        )

    def get(data: dict[str, Any]) -> Any:
        value = data.get(first)
        if value is None:
            for other in others:
                value = data.get(other)
                if value is not None:
                    break
        return value

    return get


def getters(*fields: Sequence[str]) -> Callable[[dict[str, Any]], list[Any]]:
    """A function that returns the first value at the paths of each field: faster than a getter for each."""
    firsts = [paths[0] if "." not in paths[0] else None for paths in fields]
    others = [
        (place, getter(paths)) for place, paths in enumerate(fields) if len(paths) > 1 or "." in paths[0]
    ]

    def get(data: dict[Any, Any]) -> list[Any]:
        value_of = data.get
        found = [value_of(name) for name in firsts]
        for place, value in others:
            if found[place] is None:
                found[place] = value(data)
        return found

    return get


def ref(value: Any) -> Ref | None:
    """A reference to a related thing, from an object or just its id."""
    if isinstance(value, dict):
        key, name = value.get("id"), value.get("name")
        if type(key) is str and type(name) is str:  # the common case
            return {"id": key, "name": name}
        return {"id": text(key), "name": text(name)}
    key = text(value)
    return {"id": key, "name": None} if key is not None else None


def person(value: Any) -> Person | None:
    """A person, from an object, an e-mail address or an id.

    None if the vendor has blanked the person after its retention.
    """
    if isinstance(value, dict):
        key, name, email = text(value.get("id")), text(value.get("name")), text(value.get("email"))
        return {"id": key, "name": name, "email": email} if key or name or email else None
    key = text(value)
    if key is None:
        return None
    return (
        {"id": None, "name": None, "email": key} if "@" in key else {"id": key, "name": None, "email": None}
    )
