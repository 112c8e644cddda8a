"""Texts that differ between machines: written in the configuration, or in a variable, a file or a credential.

They are no secrets: a message shows them as every other value. A URL may have one in it; see `Elsewhere.hidden`.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, ValidationError
from pydantic_core import core_schema

from roundsman.masking import mask
from roundsman.options.secrets import Secret, place_schemas, placed

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic.json_schema import JsonSchemaValue


@dataclass(frozen=True)
class Elsewhere:
    """Put behind the type of a text, in `Annotated`: a table that names a place is read before the text is checked."""

    hidden: Callable[[str], Iterable[str]] | None = None
    """What of a text from elsewhere may be a secret. Then no message shows these parts, nor a text with a mistake."""

    def read(self, value: object, check: core_schema.ValidatorFunctionWrapHandler) -> object:
        if not isinstance(value, dict):
            return check(value)
        if self.hidden is None:
            return check(placed(value, "a text")[0])
        text = Secret.placed(value).reveal()
        mask.add(self.hidden(text))
        try:
            return check(text)
        except ValidationError as exc:
            [first, *_] = exc.errors(include_url=False, include_input=False)
            raise ValueError(f"the text there {first.get('ctx', {}).get('error', first['msg'])}") from None

    def __get_pydantic_core_schema__(
        self, source: Any, handler: "GetCoreSchemaHandler"
    ) -> core_schema.CoreSchema:
        return core_schema.no_info_wrap_validator_function(self.read, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: "GetJsonSchemaHandler"
    ) -> "JsonSchemaValue":
        return {"anyOf": [handler(schema), *place_schemas()]}


Text = Annotated[str, Elsewhere()]
"""A text, or the place where it is: `{ env = "NAME" }`, `{ file = "path" }`, `{ credential = "name" }` or `{ command =
["program"] }`.
"""
Name = Annotated[str, Field(min_length=1), Elsewhere()]
"""The same, and not empty."""
