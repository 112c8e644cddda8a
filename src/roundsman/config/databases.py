"""The URLs of databases as libpq reads them: what it would refuse before it connects."""

from collections.abc import Iterator

from roundsman.config.loading import Config
from roundsman.errors import Problem
from roundsman.masking import mask
from roundsman.options.server import Server

CHOICES = {
    "sslmode": ("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
    "target_session_attrs": ("any", "read-write", "read-only", "primary", "standby", "prefer-standby"),
    "channel_binding": ("disable", "prefer", "require"),
    "gssencmode": ("disable", "prefer", "require"),
    "load_balance_hosts": ("disable", "random"),
}
"""Values of parameters that libpq checks only when it connects."""


def problems(config: Config) -> list[Problem]:
    """The mistakes in the URLs of the store and of sinks."""
    return [
        Problem(place, refused)
        for place, server in _servers(config)
        if (refused := _refused(server)) is not None
    ]


def _servers(config: Config) -> Iterator[tuple[tuple[str, ...], Server]]:
    if isinstance(config.store, Server):
        yield ("daemon", "store"), config.store
    for name, sink in config.sinks.items():
        if isinstance(url := getattr(sink, "url", None), Server):
            yield ("sinks", name, "url"), url


def _refused(server: Server) -> str | None:
    """What libpq refuses, without the password; None if nothing, or if there is no libpq."""
    try:
        from psycopg import ProgrammingError
        from psycopg.conninfo import conninfo_to_dict
    except ImportError:
        return None
    try:
        found = conninfo_to_dict(server.reveal())
    except ProgrammingError as exc:
        return f"{server} is refused by libpq: {mask(str(exc).strip())}"
    for name, choices in CHOICES.items():
        if (value := str(found.get(name) or choices[0])) not in choices:
            return f"{name} is {mask(value)}: write one of {', '.join(choices)}"
    for port in str(found.get("port") or "").split(","):
        if port and not (port.isascii() and port.isdigit() and 0 < int(port) < 2**16):
            return f"the port is {mask(port)}: write a number from 1 to 65535"
    return None
