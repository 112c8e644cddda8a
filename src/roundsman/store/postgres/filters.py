"""A sink's filter as a condition in SQL."""

from collections.abc import Iterator
from typing import Any

from roundsman.store.values import Filter

NEVER = "$."
"""A regular expression that matches no text."""


def where_of(wanted: Filter) -> tuple[str, list[Any]]:
    """The filter's condition in SQL and its values, for any number of names."""
    clauses: list[str] = []
    values: list[Any] = []
    for column, names in (
        ("e.type", wanted.types),
        ("s.name", wanted.sources),
        ("e.outcome", wanted.outcomes),
    ):
        plain = [each for each in names if not set(each) & set("*?[")]
        simple = [each for each in names if set(each) & set("*?") and "[" not in each]
        terms = []
        for test, some in (
            ("=", plain),
            ("LIKE", [_pattern(each) for each in simple]),
            ("~", [_expression(each) for each in names if "[" in each]),
        ):
            if some:
                terms.append(f"{column} {test} ANY (%s::text[])")
                values.append(some)
        if terms:
            clauses.append(f"({' OR '.join(terms)})")
    if wanted.for_people:
        clauses.append("(e.outcome IN ('failed', 'partial') OR e.type LIKE 'roundsman.%%')")
    return "".join(f" AND {clause}" for clause in clauses), values


def like(glob: str) -> str:
    """A glob without brackets, as a pattern."""
    return _pattern(glob)


def _pattern(glob: str) -> str:
    wild = {"*": "%", "?": "_", "%": "\\%", "_": "\\_", "\\": "\\\\"}
    return "".join(wild.get(char, char) for char in glob)


def _expression(glob: str) -> str:
    """A glob as SQLite reads it: only `^` negates a set, and a set that is not closed matches nothing."""
    parts = []
    chars = iter(glob)
    for char in chars:
        if char == "*":
            parts.append(".*")
        elif char == "?":
            parts.append(".")
        elif char == "[":
            parts.append(_set(chars))
        else:
            parts.append(_one(char))
    return f"^(?:{''.join(parts)})$"


def _set(chars: Iterator[str]) -> str:
    members: list[str] = []
    char = next(chars, None)
    negated = char == "^"
    if negated:
        char = next(chars, None)
    if char == "]":
        members.append(char)
        char = next(chars, None)
    while char is not None and char != "]":
        members.append(char)
        char = next(chars, None)
    if char is None:
        return NEVER
    inside, at = "", 0
    while at < len(members):
        if at + 2 < len(members) and members[at + 1] == "-":
            if members[at] <= members[at + 2]:
                inside += f"{_one(members[at])}-{_one(members[at + 2])}"
            at += 3
        else:
            inside += _one(members[at])
            at += 1
    if not inside:
        return "." if negated else NEVER
    return f"[{'^' if negated else ''}{inside}]"


def _one(char: str) -> str:
    return f"\\U{ord(char):08x}"
