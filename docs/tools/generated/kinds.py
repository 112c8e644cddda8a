"""Kinds and defaults of options, as TOML has them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from generated.markdown import code
from roundsman.options.secrets import Secret
from roundsman.options.values import BYTES, DURATION_SCHEMA, SIZE_SCHEMA
from roundsman.times import spell

WORDS = {"string": "text", "boolean": "true or false", "integer": "integer", "number": "number"}


def parts(annotation: Any) -> Iterator[Any]:
    """An annotation and what is inside it."""
    yield annotation
    for inner in get_args(annotation):
        yield from parts(inner)


def model_of(field: FieldInfo) -> type[BaseModel] | None:
    """The table that an option is, if it is one."""
    inner = (each for each in parts(field.annotation) if isinstance(each, type))
    return next((each for each in inner if issubclass(each, BaseModel)), None)


def kind(field: FieldInfo, schema: dict[str, Any]) -> str:
    """What may be written, in words."""
    inside = list(parts(field.annotation))
    if model_of(field) is not None:
        return "table"
    if Secret in inside:
        if dict in inside or any(getattr(each, "__origin__", None) is dict for each in inside):
            return "table of texts, numbers or secrets"
        return "list of secrets" if schema.get("type") == "array" else "secret"
    return "path" if Path in inside else _of_schema(schema)


def _of_schema(schema: dict[str, Any]) -> str:
    choices = [each for each in schema.get("anyOf", [schema]) if each.get("type") != "null"]
    if choices == DURATION_SCHEMA["anyOf"]:
        return "duration"
    if choices == SIZE_SCHEMA["anyOf"]:
        return "size"
    return " or ".join(dict.fromkeys(_plain(each) for each in choices))


def _plain(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        *others, last = [code(toml(each)) for each in schema["enum"]]
        return f"{', '.join(others)} or {last}"
    if "const" in schema:
        return code(toml(schema["const"]))
    if schema.get("format") == "date-time":
        return "date-time"
    match schema.get("type"):
        case "array":
            return "list of texts"
        case "object":
            return "table of texts" if schema.get("additionalProperties") != True else "table"  # noqa: E712 - or a schema
        case "integer" if "minimum" in schema:
            most = f" to {schema['maximum']}" if "maximum" in schema else " or more"
            return f"integer, {schema['minimum']}{most}"
        case other:
            return WORDS[str(other)]


def toml(value: Any) -> str:
    """A value as TOML has it."""
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return f"[{', '.join(map(toml, value))}]"
    if isinstance(value, str | bool | int):
        return json.dumps(value)
    return json.dumps(str(value))


def default(field: FieldInfo, sort: str) -> str:
    """The default of an option of this kind; empty if it has none."""
    value = field.default
    if field.is_required() or value is None or isinstance(value, BaseModel) or value in ((), {}, ""):
        return ""
    if sort == "duration":
        return toml(spell(value))
    if sort == "size":
        unit = next(unit for unit in ("GiB", "MiB", "KiB", "B") if value % BYTES[unit.lower()] == 0)
        return toml(f"{value // BYTES[unit.lower()]}{unit}")
    return toml(value)
