"""TOML documents: joined, and written."""

import json
from typing import Any


def lines(table: dict[str, Any], place: str) -> list[str]:
    """A document as TOML."""
    found = [f"[{place}]\n"] if place else []
    found += [f"{key} = {value_of(value)}\n" for key, value in table.items() if not _is_table(place, value)]
    for key, value in table.items():
        if _is_table(place, value):
            found += lines(value, f"{place}.{key}".lstrip("."))
    return found


def _is_table(place: str, value: object) -> bool:
    return isinstance(value, dict) and place.count(".") < 1


def value_of(value: object) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {value_of(each)}" for key, each in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(value_of, value)) + "]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)  # a text of JSON is one of TOML, too
    return str(value).lower()


def joined(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Both documents in one; of an option that both have, the second's."""
    both = {**first, **second}
    for key in first.keys() & second.keys():
        if isinstance(first[key], dict) and isinstance(second[key], dict):
            both[key] = joined(first[key], second[key])
    return both
