"""Templates: texts with fields, checked when the configuration is loaded, and filled in for each event.

The form is that of `string.Template`: `$name`, `${name}`, and `$$` for a dollar sign.
"""

import string
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic_core import core_schema

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic.json_schema import JsonSchemaValue

EXCERPT = 12
"""Characters of a template that a message shows."""
_AS_TEXT = core_schema.plain_serializer_function_ser_schema(str)


class Verbatim(str):
    """A value that is inserted as it is, without escaping."""

    __slots__ = ()


class Template:
    """A text with fields. It is made by `Fields`, in the type of an option."""

    __slots__ = ("names", "parts", "text")

    def __init__(self, text: str, known: Collection[str]) -> None:
        """ValueError, with what would be right, if the text has no content, an unknown field or a stray dollar sign."""
        if not text.strip():
            raise ValueError("has no text")
        self.text = text
        self.parts: list[tuple[str, str]] = []
        """Each is a text, and the field behind it; the last field is empty."""
        at, before = 0, ""
        for found in string.Template.pattern.finditer(text):
            before += text[at : found.start()]
            at = found.end()
            name = found["named"] or found["braced"]
            if name is not None:
                if name not in known:
                    raise ValueError(f"${name} is no field{_nearest(name, known)}")
                self.parts.append((before, name))
                before = ""
            elif found["escaped"] is not None:
                before += "$"
            else:
                raise ValueError(
                    f"the $ in {_excerpt(text[found.start() :])} names no field; write $$ for a dollar sign"
                )
        self.parts.append((before + text[at:], ""))
        self.names = frozenset(name for _, name in self.parts if name)
        """The fields that it has."""

    def fill(self, fields: Mapping[str, str], escape: Callable[[str], str] = str) -> str:
        """The text with a value in place of each field. `escape` is applied to all values but `Verbatim` ones."""
        filled = []
        for before, name in self.parts:
            value = fields[name] if name else ""
            filled += [before, value if isinstance(value, Verbatim) else escape(value)]
        return "".join(filled)

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"Template({self.text!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Template) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)

    @classmethod
    def __get_pydantic_core_schema__(cls, _: Any, __: "GetCoreSchemaHandler") -> core_schema.CoreSchema:
        """Of a default, which is shown as its text."""
        return core_schema.is_instance_schema(cls, serialization=_AS_TEXT)


@dataclass(frozen=True, eq=False)
class Fields:
    """The fields that the templates of an option may have: `Annotated[Template, Fields({...})]`."""

    known: Mapping[str, str]
    """Name -> what it is, for a person."""

    def read(self, value: object) -> Template:
        """The template in an option's value, or ValueError."""
        if isinstance(value, Template):
            return value
        if not isinstance(value, str):
            raise ValueError("is not a text")
        return Template(value, self.known)

    def __get_pydantic_core_schema__(self, _: Any, __: "GetCoreSchemaHandler") -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(self.read, serialization=_AS_TEXT)

    def __get_pydantic_json_schema__(self, _: Any, __: "GetJsonSchemaHandler") -> "JsonSchemaValue":
        return {"type": "string", "minLength": 1}


def _nearest(name: str, known: Collection[str]) -> str:
    """The closest field, or all fields if none is close, as the end of a sentence."""
    import difflib  # for a mistake only

    close = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.6)
    return f"; did you mean ${close[0]}?" if close else f"; known: {', '.join(f'${each}' for each in known)}"


def _excerpt(text: str) -> str:
    """The beginning of a text, for a message."""
    short = text[:EXCERPT].split("\n", maxsplit=1)[0]
    return '"' + "".join(char if char.isprintable() else " " for char in short).rstrip() + '"'
