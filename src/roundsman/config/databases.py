"""The URLs of databases as libpq reads them: what it would refuse before it connects."""

import os
from collections.abc import Iterator
from ipaddress import ip_address
from itertools import zip_longest

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
HERE = ("localhost", "localhost.localdomain", "ip6-localhost")
"""Names of this machine, besides those below `.localhost`."""


def problems(config: Config) -> list[Problem]:
    """The mistakes in the URLs of the store and of sinks."""
    return [
        Problem(place, refused)
        for place, server in _servers(config)
        if (refused := _refused(server)) is not None
    ]


def warnings(config: Config) -> list[str]:
    """A sentence for each URL of another machine that does not say whether the connection has TLS."""
    return [
        f"{'.'.join(place)}: without sslmode, the connection to {host} may be unencrypted, and its certificate is not "
        "checked; write sslmode=verify-full, or sslmode=disable in a network of your own machines"
        for place, server in _servers(config)
        if (host := _open_to(server)) is not None
    ]


def _open_to(server: Server) -> str | None:
    """The first host of the URL that is another machine, if libpq's default decides about TLS."""
    try:
        found = _read(server)
    except ValueError:
        return None  # a mistake, which is said as such
    said = {name[2:].lower(): value for name, value in os.environ.items() if name.startswith("PG")} | found
    decided = "sslmode" in said or "service" in said  # a service is a file with parameters
    if decided or said.get("gssencmode") == "require" or said.get("channel_binding") == "require":
        return None
    if said.get("sslrootcert") == "system":  # libpq 16 and later then checks the certificate
        return None
    names, addresses = (found.get(name, "").split(",") for name in ("host", "hostaddr"))
    hosts = (address or name for name, address in zip_longest(names, addresses, fillvalue=""))
    return next((host for host in hosts if _is_another_machine(host)), None)


def _is_another_machine(host: str) -> bool:
    name = host.lower().rstrip(".")
    if not host or host[0] in "/@":  # "/" and "@" begin the name of a socket
        return False
    if name in HERE or name.endswith(".localhost"):
        return False
    try:
        address = ip_address(host)
        address = getattr(address, "ipv4_mapped", None) or address
        return not (address.is_loopback or address.is_unspecified)
    except ValueError:
        return True


def _servers(config: Config) -> Iterator[tuple[tuple[str, ...], Server]]:
    if isinstance(config.store, Server):
        yield ("daemon", "store"), config.store
    for name, sink in config.sinks.items():
        if isinstance(url := getattr(sink, "url", None), Server):
            yield ("sinks", name, "url"), url


def _refused(server: Server) -> str | None:
    """What libpq refuses, without the password; None if nothing, or if there is no libpq."""
    try:
        found = _read(server)
    except ValueError as exc:
        return f"{server} is refused by libpq: {mask(str(exc).strip())}"
    for name, choices in CHOICES.items():
        if (value := found.get(name, choices[0])) not in choices:
            return f"{name} is {mask(value) or 'empty'}: write one of {', '.join(choices)}"
    for port in (found.get("port") or "").split(","):
        if port and not (port.isascii() and port.isdigit() and 0 < int(port) < 2**16):
            return f"the port is {mask(port)}: write a number from 1 to 65535"
    return None


def _read(server: Server) -> dict[str, str]:
    """The parameters in the URL; none if there is no libpq. ValueError, with the URL perhaps, if libpq refuses it."""
    try:
        from psycopg import ProgrammingError
        from psycopg.conninfo import conninfo_to_dict
    except ImportError:
        return {}
    try:
        return {
            name: str(value) for name, value in conninfo_to_dict(server.reveal()).items() if value is not None
        }
    except ProgrammingError as exc:
        raise ValueError(str(exc)) from None
