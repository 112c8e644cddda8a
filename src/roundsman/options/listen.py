"""`[listen]`: the address to listen on, and the certificate."""

import ipaddress
import os
import ssl
from pathlib import Path
from typing import Annotated, NamedTuple, Self

from pydantic import BeforeValidator, WithJsonSchema, model_validator

from roundsman.options.page import PageOptions
from roundsman.options.paths import FilePath, data_path
from roundsman.options.values import Options

LONGEST_SOCKET = 107
"""Maximum bytes of a unix socket's path, unix(7)."""


class Address(NamedTuple):
    """The address to listen on: a host and port, or the path of a unix socket."""

    host: str
    port: int
    path: Path | None = None

    def __str__(self) -> str:
        if self.path is not None:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def clashes(self, other: "Address") -> bool:
        """Whether two sockets cannot be bound to both addresses."""
        return self.path == other.path and self.port == other.port

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the address."""
        return self.path is not None or self.host == "::1" or self.host.startswith("127.")


def _address(value: object) -> Address:
    if isinstance(value, Address):
        return value
    if not isinstance(value, str):
        raise ValueError('is not an address; write "127.0.0.1:8377" or "unix:/run/roundsman.sock"')
    if value.startswith("unix:"):
        path = data_path(value.removeprefix("unix:"))
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
    """`[listen]`: receive webhooks, and serve health and metrics. Without this table, no socket is opened."""

    address: Annotated[
        Address,
        BeforeValidator(_address),
        WithJsonSchema({"type": "string", "examples": ["127.0.0.1:8377", "unix:/run/roundsman.sock"]}),
    ] = Address("127.0.0.1", 8377)
    """An IP address and a port, such as `"127.0.0.1:8377"` or `"[::1]:8377"`, or the path of a socket file, such as
    `"unix:/run/roundsman.sock"`. Not used if systemd passes a socket.
    """
    tls_certificate: FilePath | None = None
    """A PEM file with the certificate and its chain, for TLS without a proxy; with `tls_key`. Read again on a
    reload.
    """
    tls_key: FilePath | None = None
    """A PEM file with the key of the certificate, without a password."""
    page: PageOptions | None = None
    """The page for people, and answers for programs that pull events."""

    @model_validator(mode="after")
    def _both(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("names only one of tls_certificate and tls_key")
        self.tls()
        return self

    def tls(self, context: ssl.SSLContext | None = None) -> ssl.SSLContext | None:
        """A context with certificate and key; None if there are none. ValueError if they are unusable."""
        if self.tls_certificate is None or self.tls_key is None:
            return None
        context = context or ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            # Without this password, Python would ask on the terminal for that of an encrypted key.
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
