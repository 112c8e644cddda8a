"""Secrets: where they are read from, and how placeholders and mistakes are recognised."""

import os
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import PlainValidator, WithJsonSchema
from pydantic_core import core_schema

from roundsman.masking import HIDDEN, mask, name_of
from roundsman.options.command import COMMAND_SCHEMA
from roundsman.options.environment import withhold
from roundsman.options.paths import beside
from roundsman.options.printed import LIMIT, call_of, printed
from roundsman.options.values import DURATION_SCHEMA, END

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic.json_schema import JsonSchemaValue


ONE_LINE = r"^[^\x00-\x1f\x7f]*[^\s\x00-\x1f\x7f][^\x00-\x1f\x7f]*" + END
"""A text with something in it, and without line breaks and control characters."""
KINDS = ("credential", "env", "file", "command")
"""The keys of a table that names a place."""
_WAYS = '{ credential = "name" }, { env = "NAME" } or { file = "path" }'


class Secret:
    """A value that is never shown: a text, or the place where it is.

    `{ credential = "name" }` is a systemd credential, or outside a service the file `credentials/name` beside the
    configuration file. `{ env = "NAME" }` is a variable of the environment. `{ file = "path" }` is a file; line breaks at
    its end are removed. `{ command = ["op", "read", "op://vault/item/field"] }` is what a program prints, also without line
    breaks at its end; `timeout`, by default `"10s"`, can be beside it. A bare text is possible, and `roundsman check` warns
    about it. A secret is read when the configuration is loaded, and again at a reload.
    """

    __slots__ = ("_value", "origin")

    def __init__(self, value: str, origin: str | Path = "literal") -> None:
        self._value = value
        self.origin = origin
        """`literal`, `env NAME`, `program NAME`, or the path of the file it came from."""

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    @classmethod
    def read(cls, value: object) -> "Secret":
        secret = value if isinstance(value, Secret) else cls._read(value)
        mask.add([secret.reveal()])
        return secret

    @classmethod
    def _read(cls, value: object) -> "Secret":
        if isinstance(value, str):
            if is_placeholder(value):
                raise ValueError(f"is a placeholder that no program replaces; write {_WAYS}")
            return cls(_fit(value, "the text"))
        if not isinstance(value, dict):
            raise ValueError(f"is not a secret; write {_WAYS}")
        return cls.placed(value)

    @classmethod
    def placed(cls, table: dict[str, Any]) -> "Secret":
        """The secret at the place that a table names, or ValueError. It is not masked in messages yet."""
        text, origin = placed(table, "a secret")
        if isinstance(origin, str) and origin.startswith("env "):
            withhold(origin.removeprefix("env "))
        return cls(text, origin)

    @classmethod
    def __get_pydantic_core_schema__(cls, _: Any, __: "GetCoreSchemaHandler") -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls.read, serialization=core_schema.plain_serializer_function_ser_schema(repr)
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, _: Any, __: "GetJsonSchemaHandler") -> "JsonSchemaValue":
        literal = {
            "type": "string",
            "pattern": ONE_LINE,
            "description": "a literal secret; check warns of it",
        }
        return {"anyOf": [*place_schemas(), literal]}


def place_schemas() -> list[dict[str, Any]]:
    """The JSON Schemas of the tables that `placed` reads."""
    plain: list[dict[str, Any]] = [
        {
            "type": "object",
            "properties": {k: {"type": "string"}},
            "required": [k],
            "additionalProperties": False,
        }
        for k in KINDS
        if k != "command"
    ]
    program = {"command": COMMAND_SCHEMA, "timeout": DURATION_SCHEMA}
    return [
        *plain,
        {"type": "object", "properties": program, "required": ["command"], "additionalProperties": False},
    ]


def placed(value: dict[str, Any], what: str) -> tuple[str, str | Path]:
    """The text at the place that a table names, and the place: `env NAME`, the path of a file, or `program NAME`.

    ValueError, in words for a person. `what`: what the text is, such as "a secret".
    """
    if "command" in value:
        call = call_of(value)
        return _fit(printed(call), f"what the program {call.name} printed"), f"program {call.name}"
    if len(value) > 1:
        raise ValueError(f"names several places; use one of {', '.join(KINDS)}")
    if not value or not isinstance(next(iter(value.values())), str):
        raise ValueError(f"is not {what}; write {_WAYS}")
    [(kind, name)] = value.items()
    match kind:
        case "env":
            if name not in os.environ:
                shown = name_of(name) if _VARIABLE.fullmatch(name) else HIDDEN
                raise ValueError(f"the environment has no variable {shown}")
            if _UNFILLED.fullmatch(os.environ[name].strip()) or _SURELY_INSIDE.search(os.environ[name]):
                raise ValueError(f"the variable {name_of(name)} holds a placeholder that no program replaces")
            return _fit(os.environ[name], f"the variable {name}"), f"env {name}"
        case "file":
            return _from_file(beside(name), f"the file {name_of(name)}")
        case "credential":
            if Path(name).name != name:
                raise ValueError("a credential's name is a plain name, not a path")
            return _from_file(_credential(name), f"the credential {name_of(name)}")
        case _:
            raise ValueError(f"{name_of(kind)} is not a place for {what}; use one of {', '.join(KINDS)}")


def _parameter(value: object) -> object:
    if isinstance(value, dict | Secret):
        return Secret.read(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | int | float):
        return str(value)
    raise ValueError('is not a text, a number or a secret such as { env = "NAME" }')


Parameter = Annotated[
    str | Secret,
    PlainValidator(_parameter),
    WithJsonSchema({"anyOf": [{"type": ["string", "number", "boolean"]}, *place_schemas()]}),
]
"""The value of a query parameter or of a form's field: a text, a number, or the place of a secret."""


def is_placeholder(text: str) -> bool:
    """Whether a value is certainly a placeholder for another program to fill in."""
    return bool(_PLACEHOLDER.fullmatch(text.strip()) or _SURELY_INSIDE.search(text))


def may_be_placeholder(text: str) -> bool:
    """Whether it may be a placeholder for a program or a person. A generated password can look so, too."""
    return is_placeholder(text) or bool(_DOUBTFUL.fullmatch(text.strip()) or INSIDE.search(text))


_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]{0,80}")
_PLACEHOLDER = re.compile(
    r"\$\{\s*[A-Za-z_][^{}]*\}|\$\([^()]*\)|(?-i:\$\{?[A-Z_][A-Z0-9_]+)|\{\{[^{}]*\}\}|%\{[^{}]*\}|%[A-Za-z_]\w*%|<[^<>]*>"
    r"|(?-i:\[[A-Z_ ]+\]|[#$]?\{[A-Z_][A-Z0-9_]*\}|\$\$[A-Z_][A-Z0-9_]*|CHANGE[-_ ]?ME|YOUR[-_ ][A-Z_ -]+)"
    r"|!(?:env|secret|vault|ref)\b.*|(?:process\.env|os\.environ|ENV)[.\[].*|ENC\[.*\]|ref\+\w+://\S*"
    r"|@?/(?:run|etc|var|home)/\S+|(?:env|file|credential|vault)[:=]\S*|(?:op|vault|env|file|awssm|gcpsm)://\S*",
    re.IGNORECASE,
)
_UNFILLED = re.compile(r"\$\{\s*[A-Za-z_][^{}]*\}|\{\{[^{}]*\}\}|%\{[^{}]*\}")
"""Placeholders that a shell or a template left unfilled in the value of a variable."""
_SURELY_INSIDE = re.compile(
    r"\$\{\s*[A-Z_][A-Z0-9_]{2,}(?::[^{}]*)?\s*\}|\{\{\s*[A-Za-z_][\w. |()-]*\s*\}\}|%\([A-Za-z_]\w{2,}\)s"
)
"""Placeholders of other programs, as a part of a value."""
_DOUBTFUL = re.compile(
    r"\[[a-z_ ]+\]|[#$]?\{[a-z_]\w*\}|\$\$[a-z_]\w*|change[-_ ]?me|(?:your|my)[-_][a-z_-]*(?:token|key|secret|password)[a-z_-]*",
    re.IGNORECASE,
)
INSIDE = re.compile(r"\$\{\s*[A-Za-z_][\w.:-]*\s*\}|\{\{[^{}]*\}\}|%\([A-Za-z_]\w*\)s")


def _credential(name: str) -> Path:
    """The path of a credential. systemd gives it to a service (systemd.exec(5), LoadCredential=) alone, as
    `name`, or with the whole folder, as `roundsman_name`. Outside the service it is in that folder
    itself: `credentials` beside the configuration file.
    """
    given = _handed_over()
    if given is None:
        place = beside("credentials") / name
        if not _exists(place):
            shown = name_of(name)
            there = place if shown == name else f"file of that name in {place.parent}"
            raise ValueError(
                f"no credential {shown}: $CREDENTIALS_DIRECTORY is not set (systemd sets it for LoadCredential=), and there is no {there}"
            )
        return place
    alone, ours = given / name, given / f"roundsman_{name}"
    return ours if _exists(ours) and not _exists(alone) else alone


def _handed_over() -> Path | None:
    """The folder of a service's credentials, set by systemd; None outside a service."""
    given = os.environ.get("CREDENTIALS_DIRECTORY")
    return None if given is None else Path(given)


def _exists(path: Path) -> bool:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False
    except OSError:  # only root may look into the folder: reading the file reports that
        return True
    return True


def _from_file(path: Path, what: str) -> tuple[str, Path]:
    try:
        # Reading a pipe that no process writes to would block forever.
        if not stat.S_ISREG(path.stat().st_mode):
            raise ValueError(f"{what} is not a regular file, and only a regular file is read")
        with open(path, encoding="utf-8-sig", opener=_without_waiting) as file:
            text = file.read(LIMIT + 1)
        if len(text) > LIMIT:
            raise ValueError(f"{what} has more than {LIMIT // 1024} KiB")
        return _fit(text.rstrip("\r\n"), what), path
    except UnicodeDecodeError:
        raise ValueError(f"{what} cannot be read: it is not UTF-8 text") from None
    except OSError as exc:
        hint = forbidden(exc)
        if isinstance(exc, FileNotFoundError) and path.parent == _handed_over():
            hint = "; systemd passes credentials only at a start: systemctl restart roundsman"
        raise ValueError(f"{what} cannot be read: {exc.strerror}{hint}") from None


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def forbidden(exc: OSError, in_service: str = "") -> str:
    """A hint for a file that this user may not read: one for a person, another for the service's user."""
    if not isinstance(exc, PermissionError) or os.geteuid() == 0:
        return ""
    hint = "try sudo" if _handed_over() is None else in_service
    return f"; {hint}" if hint else ""


def _fit(value: str, what: str) -> str:
    if not value.strip():
        raise ValueError(f"{what} is empty")
    if any(ord(c) < 32 or ord(c) == 127 for c in value):
        raise ValueError(f"{what} holds a line break or a control character")
    return value
