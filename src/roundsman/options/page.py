"""`[listen.page]`: how a reader of the page logs in, and the names under which the page is reached."""

import ipaddress
import re
import unicodedata
from typing import Annotated, Self

from pydantic import AfterValidator, BeforeValidator, WithJsonSchema, model_validator

from roundsman.options.secrets import Secret
from roundsman.options.values import Options

SHORTEST_PASSWORD = 8
"""Minimum characters of a password."""
LONGEST = 200
"""Maximum characters of a user, a password and a token: a longer one fits no form."""
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]{16,}=*")
"""A token as the header `Authorization: Bearer` can carry it, RFC 6750."""
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")


def _user(value: str) -> str:
    if not value.strip() or value != value.strip() or not value.isprintable() or len(value) > LONGEST:
        raise ValueError(f"is not a name of 1 to {LONGEST} printable characters, without blanks around it")
    if ":" in value:
        raise ValueError("cannot have a colon: HTTP Basic separates the user from the password with it")
    return unicodedata.normalize("NFC", value)


def _password(secret: Secret) -> Secret:
    if not SHORTEST_PASSWORD <= len(secret.reveal()) <= LONGEST:
        raise ValueError(f"is not a password of {SHORTEST_PASSWORD} to {LONGEST} characters")
    return secret


def _token(secret: Secret) -> Secret:
    if not _TOKEN.fullmatch(secret.reveal()) or len(secret.reveal()) > LONGEST:
        raise ValueError(
            f"is not a token: 16 to {LONGEST} letters, digits, dots, dashes and underscores, made at random"
        )
    return secret


def _hosts(value: object) -> tuple[str, ...]:
    listed = [value] if isinstance(value, str) else value
    if (
        not isinstance(listed, list | tuple)
        or not listed
        or not all(isinstance(each, str) for each in listed)
    ):
        raise ValueError('is not a name; write "ops.example.org", or a list of names')
    return tuple(_host(each) for each in listed)


def _host(text: str) -> str:
    """A name or an IP address as it stands in the header Host: in lower case, a name of other letters in ASCII."""
    bare = text.removeprefix("[").removesuffix("]") if text.startswith("[") else text
    try:
        return str(ipaddress.ip_address(bare))
    except ValueError:
        pass
    try:
        name = text.removesuffix(".").encode("idna").decode().lower()
    except UnicodeError:
        name = ""
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in name.split(".")):
        raise ValueError(
            'is not the name of a host; write it without scheme, port and path: "ops.example.org"'
        )
    return name


class PageOptions(Options):
    """`[listen.page]`: a page about the daemon, for people, and answers for programs that pull events.

    It needs a login: `user` and `password`, or `token`. Without this table, nothing of it can be read.
    """

    user: Annotated[str, AfterValidator(_user)] | None = None
    """The name to log in with; with `password`. In a browser by a form, in a program by HTTP Basic."""
    password: Annotated[Secret, AfterValidator(_password)] | None = None
    """The password of `user`: 8 to 200 characters. A new one ends every login."""
    token: Annotated[Secret, AfterValidator(_token)] | None = None
    """A token to log in with, in place of `user` and `password`: 16 to 200 letters, digits, dots, dashes and underscores,
    made at random. In a browser by a form, in a program by the header `Authorization: Bearer TOKEN`.
    """
    host: Annotated[
        tuple[str, ...],
        BeforeValidator(_hosts),
        WithJsonSchema(
            {
                "anyOf": [
                    {"type": "string", "examples": ["ops.example.org"]},
                    {"type": "array", "items": {"type": "string"}, "minItems": 1},
                ]
            }
        ),
    ] = ()
    """The name of the host in the address of the page, or a list of names, if a proxy is in front of it or the machine has a
    name: `"ops.example.org"`. A request for another host is refused; the address that the daemon listens on, and
    `localhost` on this machine, are always right.
    """

    @model_validator(mode="after")
    def _one_way_in(self) -> Self:
        if (self.user is None) != (self.password is None):
            raise ValueError("names only one of user and password")
        if self.user is not None and self.token is not None:
            raise ValueError("has both user with password, and token; keep one of them")
        if self.user is None and self.token is None:
            raise ValueError("has no login; set user and password, or token")
        return self

    @property
    def secret(self) -> Secret:
        """The password or the token."""
        found = self.password or self.token
        assert found is not None
        return found

    def warnings(self) -> list[str]:
        """Warnings about options that are valid but unwise, a sentence each."""
        return []
