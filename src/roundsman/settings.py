"""What options are made of: durations, sizes, dates and secrets, each read from TOML or refused in one sentence."""

import ipaddress
import os
import re
import ssl
import stat
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, WithJsonSchema, model_validator
from pydantic_core import core_schema

from roundsman.masking import mask
from roundsman.times import UNITS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic.json_schema import JsonSchemaValue

BYTES = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}

_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)(ms|[smhdw]))")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)")


class Options(BaseModel):
    """A table of the configuration: frozen, keyword-only, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


def duration(value: object) -> float:
    """Seconds from `"90s"`, `"5m"`, `"1h30m"` or a number of seconds."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError('is not a duration; write "90s", "5m", "1h30m" or a number of seconds')
    if isinstance(value, str):
        parts = _DURATION.findall(value)
        if not parts or "".join(n + u for n, u in parts) != value.replace(" ", ""):
            raise ValueError('is not a duration; write "90s", "5m", "1h30m" or a number of seconds')
        value = sum(float(n) * UNITS[u] for n, u in parts)
    if not 0 <= value < 10 * 366 * 86400:
        raise ValueError("is not a duration between 0 and ten years")
    return float(value)


def counted(number: int, noun: str) -> str:
    """`1 source`, `2 sources`."""
    return f"{number} {noun}" + ("" if number == 1 else "s")


def size(value: object) -> int:
    """Bytes from `"64MiB"`, `"100MB"` or a number."""
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
        raise ValueError("is a date out of reach")
    return value.replace(tzinfo=value.tzinfo or UTC).astimezone(UTC)


_DURATION_SCHEMA = {
    "anyOf": [
        {"type": "string", "pattern": r"^(\d+(\.\d+)?(ms|[smhdw])\s*)+$", "examples": ["90s", "5m", "1h30m"]},
        {"type": "number", "minimum": 0},
    ]
}
_SIZE_SCHEMA = {
    "anyOf": [{"type": "string", "examples": ["64MiB", "100MB"]}, {"type": "integer", "exclusiveMinimum": 0}]
}

Duration = Annotated[float, BeforeValidator(duration), WithJsonSchema(_DURATION_SCHEMA)]
Size = Annotated[int, BeforeValidator(size), WithJsonSchema(_SIZE_SCHEMA)]


def _start(value: object) -> object:
    if value in {"now", "beginning"}:
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
    WithJsonSchema({"anyOf": [{"enum": ["now", "beginning"]}, {"type": "string", "format": "date-time"}]}),
]
"""Where a source begins on its first run."""


class Secret:
    """A value that is never shown: a string, or where to find one.

    TOML: `{ credential = "name" }` (systemd's `LoadCredential`, or `credentials/name` beside the file), `{ env = "NAME" }`, `{ file = "path" }`, or a
    bare string, of which `roundsman check` warns. Read once, when the configuration is loaded.
    """

    __slots__ = ("_value", "origin")
    kinds: ClassVar = ("credential", "env", "file")

    def __init__(self, value: str, origin: str | Path = "literal") -> None:
        self._value = value
        self.origin = origin
        """`literal`, `env NAME`, or the path of the file it came from."""

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
                raise ValueError(
                    'is a placeholder that nothing fills in; write { credential = "name" }, { env = "NAME" } or { file = "path" }'
                )
            return cls(_fit(value, "the text"))
        if isinstance(value, dict) and len(value) > 1:
            raise ValueError("names several places; one of credential, env, file")
        if not isinstance(value, dict) or not value or not isinstance(next(iter(value.values())), str):
            raise ValueError(
                'is not a secret; write { credential = "name" }, { env = "NAME" } or { file = "path" }'
            )
        [(kind, name)] = value.items()
        match kind:
            case "env":
                if name not in os.environ:
                    shown = _name_of(name) if _VARIABLE.fullmatch(name) else HIDDEN
                    raise ValueError(f"the environment has no variable {shown}")
                if _UNFILLED.fullmatch(os.environ[name].strip()) or _SURELY_INSIDE.search(os.environ[name]):
                    raise ValueError(
                        f"the variable {_name_of(name)} holds a placeholder that nothing fills in"
                    )
                return cls(_fit(os.environ[name], f"the variable {name}"), f"env {name}")
            case "file":
                return cls(*_from_file(beside(name), f"the file {_name_of(name)}"))
            case "credential":
                if Path(name).name != name:
                    raise ValueError("a credential's name is a plain name, not a path")
                return cls(*_from_file(_credential(name), f"the credential {_name_of(name)}"))
            case _:
                raise ValueError(
                    f"{_name_of(kind)} is not a place for a secret; use one of {', '.join(cls.kinds)}"
                )

    @classmethod
    def __get_pydantic_core_schema__(cls, _: Any, __: "GetCoreSchemaHandler") -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls.read, serialization=core_schema.plain_serializer_function_ser_schema(repr)
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, _: Any, __: "GetJsonSchemaHandler") -> "JsonSchemaValue":
        places = [
            {
                "type": "object",
                "properties": {k: {"type": "string"}},
                "required": [k],
                "additionalProperties": False,
            }
            for k in cls.kinds
        ]
        return {"anyOf": [*places, {"type": "string", "description": "a literal secret; check warns of it"}]}


def is_placeholder(text: str) -> bool:
    """Whether a value is without doubt what another program would fill in."""
    return bool(_PLACEHOLDER.fullmatch(text.strip()) or _SURELY_INSIDE.search(text))


def may_be_placeholder(text: str) -> bool:
    """Whether a value may be what another program, or a person, would fill in. A generated password can look so, too."""
    return is_placeholder(text) or bool(_DOUBTFUL.fullmatch(text.strip()) or INSIDE.search(text))


_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]{0,80}")
HIDDEN = "of that name (is it the secret itself? then it is in the wrong place)"
_PLACEHOLDER = re.compile(
    r"\$\{\s*[A-Za-z_][^{}]*\}|\$\([^()]*\)|(?-i:\$\{?[A-Z_][A-Z0-9_]+)|\{\{[^{}]*\}\}|%\{[^{}]*\}|%[A-Za-z_]\w*%|<[^<>]*>"
    r"|(?-i:\[[A-Z_ ]+\]|[#$]?\{[A-Z_][A-Z0-9_]*\}|\$\$[A-Z_][A-Z0-9_]*|CHANGE[-_ ]?ME|YOUR[-_ ][A-Z_ -]+)"
    r"|!(?:env|secret|vault|ref)\b.*|(?:process\.env|os\.environ|ENV)[.\[].*|ENC\[.*\]|ref\+\w+://\S*"
    r"|@?/(?:run|etc|var|home)/\S+|(?:env|file|credential|vault)[:=]\S*|(?:op|vault|env|file|awssm|gcpsm)://\S*",
    re.IGNORECASE,
)
_UNFILLED = re.compile(r"\$\{\s*[A-Za-z_][^{}]*\}|\{\{[^{}]*\}\}|%\{[^{}]*\}")
"""What a shell or a template left as it was, in the value of a variable."""
_SURELY_INSIDE = re.compile(
    r"\$\{\s*[A-Z_][A-Z0-9_]{2,}(?::[^{}]*)?\s*\}|\{\{\s*[A-Za-z_][\w. |()-]*\s*\}\}|%\([A-Za-z_]\w{2,}\)s"
)
"""What other programs fill in, as a part of a value."""
_DOUBTFUL = re.compile(
    r"\[[a-z_ ]+\]|[#$]?\{[a-z_]\w*\}|\$\$[a-z_]\w*|change[-_ ]?me|(?:your|my)[-_][a-z_-]*(?:token|key|secret|password)[a-z_-]*",
    re.IGNORECASE,
)
INSIDE = re.compile(r"\$\{\s*[A-Za-z_][\w.:-]*\s*\}|\{\{[^{}]*\}\}|%\([A-Za-z_]\w*\)s")
_WORD = re.compile(r"[A-Za-z]{1,20}[0-9]{0,4}|[0-9]{1,4}|")


def _name_of(text: str) -> str:
    """The name of a variable or file, for a message; not what may be a secret that stands in its place."""
    words = re.split(r"[-_./~ ]", text)
    alone = len(words) == 1 and not (text.isupper() or text.islower())
    mixed = "/" not in text and not (text.isupper() or text.islower() or text.isdigit())
    if len(text) > 80 or alone or mixed or not all(_WORD.fullmatch(word) for word in words):
        return HIDDEN
    return text


def _credential(name: str) -> Path:
    """Where a credential is: as systemd gives it to a service (systemd.exec(5), LoadCredential=), alone or with the whole
    folder of ours; for commands beside the service, in that folder itself.
    """
    given = _handed_over()
    if given is None:
        place = beside("credentials") / name
        if not _exists(place):
            shown = _name_of(name)
            there = place if shown == name else f"file of that name in {place.parent}"
            raise ValueError(
                f"no credential {shown}: $CREDENTIALS_DIRECTORY is not set (systemd sets it for LoadCredential=), and there is no {there}"
            )
        return place
    alone, ours = given / name, given / f"roundsman_{name}"
    return ours if _exists(ours) and not _exists(alone) else alone


def _handed_over() -> Path | None:
    """Where systemd puts a service's credentials; None where we are none."""
    given = os.environ.get("CREDENTIALS_DIRECTORY")
    return None if given is None else Path(given)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a folder that only root may look into: reading says so
        return True


def _from_file(path: Path, what: str) -> tuple[str, Path]:
    try:
        # A pipe that nobody writes to would keep us for ever.
        if not stat.S_ISREG(path.stat().st_mode):
            raise ValueError(f"{what} is not a plain file, and only such a one is read")
        with open(path, encoding="utf-8-sig", opener=_without_waiting) as file:
            return _fit(file.read().rstrip("\r\n"), what), path
    except UnicodeDecodeError:
        raise ValueError(f"{what} cannot be read: it is not UTF-8 text") from None
    except OSError as exc:
        hint = forbidden(exc)
        if isinstance(exc, FileNotFoundError) and path.parent == _handed_over():
            hint = "; systemd hands credentials over at a start only: systemctl restart roundsman"
        raise ValueError(f"{what} cannot be read: {exc.strerror}{hint}") from None


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def forbidden(exc: OSError, in_service: str = "") -> str:
    """What to do where a file is not to be read by us: as a person, and as the service's user."""
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


_folder: ContextVar[Path] = ContextVar("folder", default=Path())


@contextmanager
def relative_to(folder: Path) -> "Iterator[None]":
    """Paths in options are read relative to the configuration file, not to wherever the daemon was started."""
    token = _folder.set(folder)
    try:
        yield
    finally:
        _folder.reset(token)


def beside(path: str | Path) -> Path:
    try:
        return _folder.get() / Path(path).expanduser()
    except RuntimeError:
        raise ValueError("names the home of nobody") from None


def _path(value: object) -> Path:
    if not isinstance(value, str | Path) or not str(value) or "\0" in str(value):
        raise ValueError("is not a path")
    if isinstance(value, str) and _NO_PATH.match(value):
        raise ValueError("is a URL and not a path; this version knows files only")
    return beside(value)


_NO_PATH = re.compile(
    r"[A-Za-z][A-Za-z0-9+.-]*://|(?:sqlite|file|jdbc|postgres|postgresql|mysql|redis|http|https):|:memory:|\S+=\S+ \S+=\S+"
    r"|.*\?(?:mode|cache|vfs|immutable)=",
    re.IGNORECASE,
)
"""How other programs name a database."""


def _data_path(value: object) -> Path:
    folder = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    path = _path(value)
    if str(value).endswith(("/", "/.", "/..")) or str(value) in {".", ".."}:
        raise ValueError("is a folder and not a file")
    if not folder or not isinstance(value, str) or value.startswith("~"):
        return path
    return Path(folder) / value


_PATH_SCHEMA = {"type": "string", "minLength": 1}
FilePath = Annotated[Path, BeforeValidator(_path), WithJsonSchema(_PATH_SCHEMA)]
"""A file to read; relative to the configuration file."""
DataPath = Annotated[Path, BeforeValidator(_data_path), WithJsonSchema(_PATH_SCHEMA)]
"""A file to write; relative to systemd's `StateDirectory` where there is one, else to the configuration file."""


LONGEST_SOCKET = 107
"""Bytes of a unix socket's path, unix(7)."""


class Address(NamedTuple):
    """Where to listen: a host and port, or the path of a unix socket."""

    host: str
    port: int
    path: Path | None = None

    def __str__(self) -> str:
        if self.path is not None:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def clashes(self, other: "Address") -> bool:
        """Whether two sockets cannot have both."""
        return self.path == other.path and self.port == other.port

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        return self.path is not None or self.host == "::1" or self.host.startswith("127.")


def _address(value: object) -> Address:
    if isinstance(value, Address):
        return value
    if not isinstance(value, str):
        raise ValueError('is not an address; write "127.0.0.1:8377" or "unix:/run/roundsman.sock"')
    if value.startswith("unix:"):
        path = _data_path(value.removeprefix("unix:"))
        if len(os.fsencode(path)) > LONGEST_SOCKET:
            raise ValueError(
                f"is too long for the path of a socket: at most {LONGEST_SOCKET} bytes, with its folder"
            )
        return Address("", 0, path)
    host, _, port = value.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") if host.startswith("[") else host
    host = {"localhost": "127.0.0.1"}.get(host, host)
    try:
        ipaddress.ip_address(host)
        number = int(port) if port.isascii() and port.isdecimal() else -1
    except ValueError:
        number = -1
    if not 0 <= number < 65536:
        raise ValueError(
            'is not an address; write "127.0.0.1:8377", "[::1]:8377" or "unix:/run/roundsman.sock"'
        )
    return Address(host, number)


class ListenOptions(Options):
    """`[listen]`: take webhooks, and tell health and metrics. Without this table, no socket is opened."""

    address: Annotated[
        Address,
        BeforeValidator(_address),
        WithJsonSchema({"type": "string", "examples": ["127.0.0.1:8377", "unix:/run/roundsman.sock"]}),
    ] = Address("127.0.0.1", 8377)
    """Host and port, or "unix:/path"; not used where systemd hands over a socket."""
    tls_certificate: FilePath | None = None
    """A PEM file with the certificate and its chain, where no proxy in front speaks TLS; read again on SIGHUP."""
    tls_key: FilePath | None = None
    """The certificate's key, without a password."""

    @model_validator(mode="after")
    def _both(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("names only one of tls_certificate and tls_key")
        self.tls()
        return self

    def tls(self, context: ssl.SSLContext | None = None) -> ssl.SSLContext | None:
        """The certificate and its key in a context; None where there are none. ValueError where they cannot be used."""
        if self.tls_certificate is None or self.tls_key is None:
            return None
        context = context or ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            # A key with a password would have Python ask for it on the terminal.
            context.load_cert_chain(self.tls_certificate, self.tls_key, password="")
        except (OSError, ValueError) as exc:  # SSLError is an OSError
            why = "they are not a PEM certificate and its key without a password"
            if isinstance(exc, ssl.SSLError) and exc.reason == "KEY_VALUES_MISMATCH":
                why = "the key is another certificate's"
            elif isinstance(exc, OSError) and exc.strerror and not isinstance(exc, ssl.SSLError):
                why = exc.strerror
            raise ValueError(f"{self.tls_certificate}, {self.tls_key}: cannot be used: {why}") from None
        context.set_alpn_protocols(["http/1.1"])
        return context


def _header_name(value: str) -> str:
    if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", value):
        raise ValueError("is not the name of a header")
    return value


def _header_value(value: str) -> str:
    if not value.isprintable() or not value.isascii():
        raise ValueError("is not what a header can carry: printable ASCII")
    return value


HeaderName = Annotated[str, AfterValidator(_header_name)]
HeaderValue = Annotated[str, AfterValidator(_header_value)]


def redact(text: str) -> str:
    """The text without whatever stands before an `@`: the user and password of a URL, however broken."""
    if "@" not in text:
        return text
    return re.sub(
        r"([A-Za-z][A-Za-z0-9+.-]{0,20}://)\S*@|[^\s:@]+:\S*@", lambda m: (m[1] or "") + "***@", text
    )
