"""The URLs of databases as libpq reads them: what it would refuse before it connects."""

from collections.abc import Iterator

from roundsman.config.loading import Config
from roundsman.errors import Problem
from roundsman.masking import mask
from roundsman.options.server import Server

SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")


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
    mode = str(found.get("sslmode") or SSL_MODES[0])
    if mode not in SSL_MODES:
        return f"sslmode is {mode}: write one of {', '.join(SSL_MODES)}"
    for port in str(found.get("port") or "").split(","):
        if port and not (port.isascii() and port.isdigit() and 0 < int(port) < 2**16):
            return f"the port is {mask(port)}: write a number from 1 to 65535"
    return None
