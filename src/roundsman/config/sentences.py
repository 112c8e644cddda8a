"""A pydantic error as a sentence for a person: the place, the value and what would be right."""

import difflib
import re
from typing import Any

from pydantic import BaseModel, ValidationError

from roundsman.errors import Place, Problem
from roundsman.options.secrets import Secret
from roundsman.options.values import redact
from roundsman.times import spell

NOUNS = {
    "bool": "true or false",
    "int": "a whole number",
    "string": "a text",
    "float": "a number",
    "tuple": "a list",
}
UNQUOTED = {"bool": "true|false", "int": r"\d+", "float": r"\d+(\.\d+)?"}
"""Texts that are right without quotes."""


def read_table(model: type[BaseModel], place: Place, table: object, problems: list[Problem]) -> Any:
    if not isinstance(table, dict):
        problems.append(Problem(place, f"is not a table; write [{'.'.join(map(str, place))}]"))
        return None
    try:
        return model.model_validate(table)
    except ValidationError as exc:
        for error in exc.errors(include_url=False, include_context=True, include_input=True):
            problems.append(_sentence(model, place, error))
    return None


def _sentence(model: type[BaseModel], place: Place, error: Any) -> Problem:
    """A pydantic error with its place, such as `sources.doors.batch`, and a sentence: `0 is less than 1`."""
    path = [part for part in error["loc"] if not str(part).startswith(("function-", "[key]"))]
    owner, secret = _owner(model, path)
    quoted = "the value" if secret else shown(error["input"])
    return Problem((*place, *path), _words(error, owner, quoted, secret=secret))


def _words(error: Any, owner: type[BaseModel], quoted: str, *, secret: bool) -> str:
    """What is wrong with the value of an option of the table `owner`."""
    context, value = error.get("ctx", {}), error["input"]
    match error["type"]:
        case "missing":
            return "is missing"
        case "extra_forbidden":
            known = [info.alias or name for name, info in owner.model_fields.items()]
            return f"unknown option{nearest(str(error['loc'][-1]), known)}"
        case "value_error":
            message = str(context["error"])
            is_about_it = not secret and message.startswith(("is ", "cannot "))
            return f"{quoted} {message}" if is_about_it else message
        case "literal_error":
            expected = context["expected"].replace("'", "")
            close = difflib.get_close_matches(str(value), re.split(", | or ", expected), n=1)
            return f"{quoted} is not one of {expected}" + (f"; did you mean {close[0]}?" if close else "")
        case "string_pattern_mismatch":
            return f"{quoted} is not of the form {context['pattern']}"
        case "greater_than_equal":
            return f"{quoted} is less than {_limit(context['ge'], value)}"
        case "greater_than":
            return f"{quoted} is not more than {context['gt']}"
        case "less_than_equal":
            return f"{quoted} is more than {_limit(context['le'], value)}"
        case "model_type" | "dict_type" | "model_attributes_type":
            return f"{quoted} is not a table"
        case kind if kind.endswith(("_type", "_parsing")):
            return _of_another_type(kind.removesuffix("_type").removesuffix("_parsing"), value, quoted)
        case "int_from_float":
            return f"{quoted} is not a whole number"
        case _:
            return f"{quoted}: {error['msg'][:1].lower()}{error['msg'][1:]}"


def _of_another_type(noun: str, value: object, quoted: str) -> str:
    """What the value is not, and how to write it if that is clear."""
    right = NOUNS.get(noun, f"a {noun}")
    if noun == "tuple":
        example = f'["{value}"]' if quoted == value else "it inside [ ]"
        return f"{quoted} is not {right}; write {example}"
    if noun == "string" and isinstance(value, int | float):
        return f"{quoted} is not {right}; write it in quotes"
    if noun in UNQUOTED and isinstance(value, str) and re.fullmatch(UNQUOTED[noun], value):
        return f"{quoted} is a text, and not {right}; write it without quotes"
    return f"{quoted} is not {right}"


def _limit(limit: float, value: object) -> str:
    """A limit as the value is written: a text is a duration."""
    return spell(limit) if isinstance(value, str) else str(limit)


def _owner(model: type[BaseModel], path: list[Any]) -> tuple[type[BaseModel], bool]:
    """The table that a path's last key belongs to, and whether the path contains an option for a secret."""
    owner, secret = model, False
    for at, part in enumerate(path):
        info = next((i for name, i in owner.model_fields.items() if part == (i.alias or name)), None)
        if info is None:
            continue
        names = _types(info.annotation)
        tables = [t for t in names if isinstance(t, type) and issubclass(t, BaseModel)]
        is_last = at == len(path) - 1
        # In place of a table of secrets, there may be one of them.
        secret = secret or Secret in names or (is_last and any(map(_has_secret, tables)))
        if tables and not is_last:
            owner = tables[0]
    return owner, secret


def _has_secret(table: type[BaseModel]) -> bool:
    return any(Secret in _types(info.annotation) for info in table.model_fields.values())


def _types(annotation: Any) -> set[Any]:
    inner = getattr(annotation, "__args__", None)
    return {annotation}.union(*(_types(a) for a in inner)) if inner else {annotation}


def shown(value: object) -> str:
    """The value as the user wrote it, shortened. Tables and lists are only named: they may hold secrets."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict | list):
        return "a table" if isinstance(value, dict) else "a list"
    text = redact(str(value))
    text = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)
    return (text if len(text) <= 60 else text[:57] + "...") or '""'


def nearest(word: str, known: list[str]) -> str:
    """The closest known word, or all known words if none is close, as the end of a sentence."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else f"; known: {', '.join(known)}"
