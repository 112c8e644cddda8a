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
from typing import Any

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from roundsman.config.daemon import DaemonOptions
from roundsman.config.heartbeat import HeartbeatOptions
from roundsman.config.loading import NAME
from roundsman.config.registry import load_type, sinks_registry, sources_registry
from roundsman.http.transport import HttpOptions
from roundsman.options.listen import ListenOptions


def json_schema() -> dict[str, Any]:
    """A JSON Schema of the whole file, for editors."""
    definitions: dict[str, Any] = {}

    def reference(model: type[BaseModel], name: str) -> dict[str, Any]:
        schema = TypeAdapter(model).json_schema(
            ref_template="#/$defs/{model}", mode="validation", schema_generator=Described
        )
        definitions.update(schema.pop("$defs", {}))
        definitions[name] = schema
        return {"$ref": f"#/$defs/{name}"}

    def any_of(section: str, registry: Mapping[str, EntryPoint]) -> dict[str, Any]:
        kinds = [reference(load_type(cls), f"{section}.{kind}") for kind, cls in registry.items()]
        typed = {"type": "object", "required": ["type"], "properties": {"type": {"enum": list(registry)}}}
        branches = [
            {"if": {"properties": {"type": {"const": kind}}}, "then": ref}
            for kind, ref in zip(registry, kinds, strict=True)
        ]
        return {
            "type": "object",
            "minProperties": 1,
            "propertyNames": {"pattern": f"^{NAME.pattern}$"},
            "additionalProperties": {**typed, "allOf": branches},
        }

    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Roundsman configuration",
        "type": "object",
        "additionalProperties": False,
        "required": ["sources", "sinks"],
        "properties": {
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
            shown = made.get("properties", {}).get(field.alias or name)
            if shown is not None and name in texts:
                shown.setdefault("description", texts[name])
        return made


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
