"""A pydantic error as a sentence for a person: the place, the value and what would be right."""

import difflib
import re
from typing import Any

from pydantic import BaseModel, ValidationError

from roundsman.options.secrets import Secret
from roundsman.options.values import redact
from roundsman.times import spell


def read_table(model: type[BaseModel], place: str, table: object, problems: list[str]) -> Any:
    if not isinstance(table, dict):
        problems.append(f"{place}: is not a table; write [{place}]")
        return None
    try:
        return model.model_validate(table)
    except ValidationError as exc:
        for error in exc.errors(include_url=False, include_context=True, include_input=True):
            problems.append(_sentence(model, place, error))
    return None


def _sentence(model: type[BaseModel], place: str, error: Any) -> str:
    """A pydantic error as a sentence: `sources.doors.batch: 0 is less than 1`."""
    path = [part for part in error["loc"] if not str(part).startswith(("function-", "[key]"))]
    owner, secret = _owner(model, path)
    where = ".".join([place, *(str(part) for part in path)])
    context, value = error.get("ctx", {}), error["input"]
    quoted = "the value" if secret else shown(value)
    match error["type"]:
        case "missing":
            return f"{where}: is missing"
        case "extra_forbidden":
            known = [info.alias or name for name, info in owner.model_fields.items()]
            return f"{where}: unknown option{nearest(str(path[-1]), known)}"
        case "value_error":
            message = str(context["error"])
            return f"{where}: {message if secret or not message.startswith(('is ', 'cannot ')) else f'{quoted} {message}'}"
        case "literal_error":
            expected = context["expected"].replace("'", "")
            close = difflib.get_close_matches(str(value), re.split(", | or ", expected), n=1)
            return f"{where}: {quoted} is not one of {expected}" + (
                f"; did you mean {close[0]}?" if close else ""
            )
        case "string_pattern_mismatch":
            return f"{where}: {quoted} is not of the form {context['pattern']}"
        case "greater_than_equal":
            return f"{where}: {quoted} is less than {_limit(context['ge'], value)}"
        case "greater_than":
            return f"{where}: {quoted} is not more than {context['gt']}"
        case "less_than_equal":
            return f"{where}: {quoted} is more than {_limit(context['le'], value)}"
        case "model_type" | "dict_type" | "model_attributes_type":
            return f"{where}: {quoted} is not a table"
        case kind if kind.endswith(("_type", "_parsing")):
            nouns = {
                "bool": "true or false",
                "int": "a whole number",
                "string": "a text",
                "float": "a number",
                "tuple": "a list",
            }
            noun = kind.removesuffix("_type").removesuffix("_parsing")
            example = f'["{value}"]' if quoted == value else "it inside [ ]"
            hint = f"; write {example}" if noun == "tuple" else ""
            return f"{where}: {quoted} is not {nouns.get(noun, f'a {noun}')}{hint}"
        case "int_from_float":
            return f"{where}: {quoted} is not a whole number"
        case _:
            return f"{where}: {quoted}: {error['msg'][:1].lower()}{error['msg'][1:]}"


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
