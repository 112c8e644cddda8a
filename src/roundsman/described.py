"""JSON Schemas of options that say what each option is for: the text below its field.

pydantic can do so itself, but reads and parses every source file for it whenever the classes are made, which was a tenth of the
daemon's start; here that is done when somebody asks for a schema.
"""

import ast
import inspect
import textwrap
from itertools import pairwise
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema


class Described(GenerateJsonSchema):
    """`TypeAdapter(...).json_schema(schema_generator=Described)`."""

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
    """The text below each field of a table, by the field's name; a table inherits those it does not write itself."""
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
