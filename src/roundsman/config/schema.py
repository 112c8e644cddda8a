"""The JSON Schema of the configuration file. The text below a field is the option's description.

pydantic can read these texts itself, but does so when the classes are made, which took a tenth of the
daemon's start-up time. Here they are read when a schema is requested.
"""

import ast
import inspect
import textwrap
from collections.abc import Mapping
from importlib.metadata import EntryPoint
from itertools import pairwise
from typing import Any, get_args

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from roundsman.config.daemon import DaemonOptions
from roundsman.config.heartbeat import HeartbeatOptions
from roundsman.config.loading import NAME
from roundsman.config.registry import load_type, sinks_registry, sources_registry
from roundsman.http.transport import HttpOptions
from roundsman.options.listen import ListenOptions

INCLUDE = """More files of the configuration: file names and patterns such as `conf.d/*.toml`, relative to this file. It stands
above the first table. A relative path in an included file begins at the folder of the main file, too. Each source, each
sink, and each other table stands in one of the files. An included file cannot include others.
"""


def json_schema() -> dict[str, Any]:
    """A JSON Schema of the whole file, for editors."""
    definitions: dict[str, Any] = {}

    def reference(model: type[BaseModel], name: str) -> dict[str, Any]:
        # Two vendors may have tables of the same name, so each definition has the name of its type before it.
        schema = TypeAdapter(model).json_schema(
            ref_template=f"#/$defs/{name}.{{model}}", mode="validation", schema_generator=Described
        )
        definitions.update({f"{name}.{inner}": each for inner, each in schema.pop("$defs", {}).items()})
        definitions[name] = schema
        return {"$ref": f"#/$defs/{name}", "description": summary(model)}

    def any_of(section: str, registry: Mapping[str, EntryPoint]) -> dict[str, Any]:
        kinds = [reference(load_type(cls), f"{section}.{kind}") for kind, cls in registry.items()]
        typed = {"type": "object", "required": ["type"], "properties": {"type": {"enum": list(registry)}}}
        branches = [
            {"if": {"properties": {"type": {"const": kind}}}, "then": ref}
            for kind, ref in zip(registry, kinds, strict=True)
        ]
        return {
            "type": "object",
            "description": f"The {section}, each as a table [{section}.NAME].",
            "minProperties": 1,
            "propertyNames": {"pattern": f"^{NAME.pattern}$"},
            "additionalProperties": {**typed, "allOf": branches},
        }

    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Roundsman configuration",
        "type": "object",
        "additionalProperties": False,
        "anyOf": [{"required": ["sources", "sinks"]}, {"required": ["include"]}],
        "properties": {
            "include": {"type": "array", "items": {"type": "string", "minLength": 1}, "description": INCLUDE},
            "daemon": reference(DaemonOptions, "daemon"),
            "http": reference(HttpOptions, "http"),
            "listen": reference(ListenOptions, "listen"),
            "heartbeat": reference(HeartbeatOptions, "heartbeat"),
            "sources": any_of("sources", sources_registry()),
            "sinks": any_of("sinks", sinks_registry()),
        },
        "$defs": definitions,
    }


class Described(GenerateJsonSchema):
    """Adds `descriptions` to a schema: `TypeAdapter(...).json_schema(schema_generator=Described)`."""

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        made = super().model_schema(schema)
        cls: Any = schema["cls"]
        texts = descriptions(cls)
        for name, field in cls.model_fields.items():
            _without_null(made.get("properties", {}).get(field.alias or name))
            shown = made.get("properties", {}).get(field.alias or name)
            table = _table(field.annotation)
            text = texts.get(name) or (summary(table) if table is not None else None)
            if shown is not None and text:
                shown.setdefault("description", text)
        return made


def _without_null(shown: dict[str, Any] | None) -> None:
    """Drop null, which no TOML has: an editor then shows the mistake in the option, and not in the table around it."""
    if shown is None or "anyOf" not in shown:
        return
    kept = [each for each in shown["anyOf"] if each != {"type": "null"}]
    if len(kept) == len(shown["anyOf"]):
        return
    if shown.get("default", 0) is None:
        del shown["default"]
    shown["anyOf"] = kept
    if len(kept) == 1:
        del shown["anyOf"]
        shown.update(kept[0])


def summary(model: type[BaseModel]) -> str:
    """The first paragraph of a table's docstring."""
    return " ".join((inspect.getdoc(model) or "").split("\n\n")[0].split())


def _table(annotation: Any) -> type[BaseModel] | None:
    """The table that an option is, if it is one."""
    kinds = [annotation, *get_args(annotation)]
    return next((each for each in kinds if isinstance(each, type) and issubclass(each, BaseModel)), None)


def descriptions(model: type[BaseModel]) -> dict[str, str]:
    """The text below each field of a table, by field name; texts are inherited unless overridden."""
    found: dict[str, str] = {}
    for cls in reversed(model.__mro__):
        if issubclass(cls, BaseModel) and cls is not BaseModel:
            [body] = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
            assert isinstance(body, ast.ClassDef)
            for field, text in pairwise(body.body):
                match field, text:
                    case (
                        ast.AnnAssign(target=ast.Name(id=name)),
                        ast.Expr(value=ast.Constant(value=str(words))),
                    ):
                        found[name] = inspect.cleandoc(words)
    return found
