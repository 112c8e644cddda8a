"""Types of option values: durations, sizes, dates and headers, read from TOML or refused with one sentence."""

import re
from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    WithJsonSchema,
)
from pydantic_core import CoreSchema, core_schema

from roundsman.times import UNITS

BYTES = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}


_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)(ms|[smhdw]))")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)")


_INNER = (
    "schema",
    "fields",
    "items_schema",
    "values_schema",
    "keys_schema",
    "choices",
    "definitions",
    "steps",
)
"""The members of a core schema that have other schemas in them."""


def _be_strict(schema: Any) -> None:
    """Let numbers and booleans be no texts and not one another, as in TOML and in JSON Schema.

    pydantic's own strict mode would refuse every list for a tuple.
    """
    if isinstance(schema, list | tuple):
        for each in schema:
            _be_strict(each)
    elif isinstance(schema, dict):
        if schema.get("type") in {"bool", "float"}:
            schema["strict"] = True
        elif schema.get("type") == "int" and not schema.get("strict"):
            # JSON Schema takes 5.0 for a whole number.
            inner: Any = {**schema, "strict": True}
            schema.clear()
            schema.update(core_schema.no_info_before_validator_function(_whole, inner))
            return
        for name in _INNER:
            inside = schema.get(name)
            _be_strict(list(inside.values()) if name == "fields" and isinstance(inside, dict) else inside)


def _whole(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


class Options(BaseModel):
    """A table of the configuration: frozen, keyword-only, unknown keys refused, no value of another type taken."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        found = handler(source)
        _be_strict(found)
        return found


LONGEST = 10 * 366 * 86400
"""Seconds that a duration is shorter than."""
END = r"$(?!\n)"
"""The end of a pattern: in Python's expressions, `$` alone is also before a line break at the end."""


def duration(value: object) -> float:
    """Seconds from `"90s"`, `"5m"`, `"1h30m"` or a number of seconds."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError('is not a duration; write "90s", "5m", "1h30m" or a number of seconds')
    if isinstance(value, str):
        parts = _DURATION.findall(value)
        if not parts or "".join(n + u for n, u in parts) != value.replace(" ", ""):
            raise ValueError('is not a duration; write "90s", "5m", "1h30m" or a number of seconds')
        value = sum(float(n) * UNITS[u] for n, u in parts)
    if not 0 <= value < LONGEST:
        raise ValueError("is not a duration between 0 and ten years")
    return float(value)


def counted(number: int, noun: str) -> str:
    """`1 source`, `2 sources`."""
    return f"{number} {noun}" + ("" if number == 1 else "s")


def size(value: object) -> int:
    """Bytes from `"64MiB"`, `"100MB"` or a number."""
    value = _whole(value)
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    match = _SIZE.fullmatch(value.strip().lower()) if isinstance(value, str) else None
    if match is None or match[2] not in BYTES or not (count := int(float(match[1]) * BYTES[match[2]])):
        raise ValueError('is not a size; write "64MiB", "100MB" or a number of bytes')
    return count


def moment(value: object) -> datetime:
    """A UTC date-time from RFC 3339 text, a TOML date-time or a TOML date."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise ValueError('is not a date-time; write "2026-05-01T00:00:00Z"') from None
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day, tzinfo=UTC)
    if not isinstance(value, datetime):
        raise ValueError('is not a date-time; write "2026-05-01T00:00:00Z"')
    if not 1970 < value.year < 9999:
        raise ValueError("is not between the years 1971 and 9998")
    return value.replace(tzinfo=value.tzinfo or UTC).astimezone(UTC)


DURATION_SCHEMA = {
    "anyOf": [
        {
            "type": "string",
            "pattern": r"^(\d+(\.\d+)?(ms|[smhdw]) *)+" + END,
            "examples": ["90s", "5m", "1h30m"],
        },
        {"type": "number", "minimum": 0, "exclusiveMaximum": LONGEST},
    ]
}
_SIZES = r"^\s*\d+(\.\d+)?\s*([kKmMgG]([iI]?[bB])|[bB])?\s*" + END
SIZE_SCHEMA = {
    "anyOf": [
        {"type": "string", "pattern": _SIZES, "examples": ["64MiB", "100MB"]},
        {"type": "integer", "exclusiveMinimum": 0},
    ]
}


Duration = Annotated[float, BeforeValidator(duration), WithJsonSchema(DURATION_SCHEMA)]
"""A text such as `"90s"`, `"5m"`, `"1h30m"` or `"7d"`, or a number of seconds; ten years at most. The units are `ms`, `s`,
`m`, `h`, `d` and `w`.
"""
LONGEST_LOOKBACK = 30 * 86400.0
"""Maximum seconds that a reading may look back.

Ids are kept for 35 days; a row whose id was pruned is reported again.
"""
Lookback = Annotated[Duration, Field(le=LONGEST_LOOKBACK)]
Size = Annotated[int, BeforeValidator(size), WithJsonSchema(SIZE_SCHEMA)]
"""A text such as `"64MiB"` or `"100MB"`, or a number of bytes. The units are `B`, `kB`, `MB`, `GB`, `KiB`, `MiB` and `GiB`."""


def _start(value: object) -> object:
    if value in ("now", "beginning"):
        return value
    try:
        return moment(value)
    except ValueError:
        raise ValueError(
            'is neither "now", "beginning" nor a date-time such as "2026-05-01T00:00:00Z"'
        ) from None


Start = Annotated[
    Literal["now", "beginning"] | datetime,
    BeforeValidator(_start),
    WithJsonSchema(
        {
            "anyOf": [
                {"enum": ["now", "beginning"]},
                {"type": "string", "format": "date-time", "pattern": r"^[0-9]{4}-?[0-9W]"},
            ]
        }
    ),
]
"""Where a source begins on its first run."""


_HEADER = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"


def _header_name(value: str) -> str:
    if not re.fullmatch(_HEADER, value):
        raise ValueError("is not the name of a header")
    return value


def _header_value(value: str) -> str:
    if not value.isprintable() or not value.isascii():
        raise ValueError("is not printable ASCII, as a header requires")
    return value


HeaderName = Annotated[
    str,
    AfterValidator(_header_name),
    WithJsonSchema({"type": "string", "pattern": f"^{_HEADER}{END}"}),
]
HeaderValue = Annotated[
    str,
    AfterValidator(_header_value),
    WithJsonSchema({"type": "string", "pattern": r"^[\x20-\x7e]*" + END}),
]


def redact(text: str) -> str:
    """The text with everything before an `@` masked: the user and password of a URL, even of a broken one."""
    if "@" not in text:
        return text
    return re.sub(
        r"([A-Za-z][A-Za-z0-9+.-]{0,20}://)\S*@|[^\s:@]+:\S*@", lambda m: (m[1] or "") + "***@", text
    )
