"""What a webhook contains, and how its caller proves to be the vendor.

A source's `webhook` table defines what a caller must present; all that it names must be correct. If a vendor has
an API for its webhooks, a `Registrar` calls it.
"""

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Protocol, Self

from pydantic import AfterValidator, model_validator

from roundsman.errors import NotAuthentic
from roundsman.options.secrets import Secret
from roundsman.options.values import Duration, HeaderName, Options

PATH = "/hooks/"
"""The path of webhooks: `/hooks/NAME`, or `/hooks/NAME/TOKEN`."""
FIELD = re.compile(r"\s*([A-Za-z0-9_-]{1,20})=([0-9A-Za-z+/=_-]{1,200})\s*")
SHORTEST = 8
"""Minimum characters of a secret."""
COMMON_HEADERS = frozenset(
    {"host", "content-type", "content-length", "user-agent", "accept", "accept-encoding", "connection"}
)
MOST_FIELDS = 20
"""Maximum members of a signature that are read: a vendor that changes secrets sends two or three."""


@dataclass(frozen=True, slots=True)
class Call:
    """One webhook as it was received."""

    body: bytes
    """The raw body, over which signatures are made."""
    headers: Mapping[str, str]
    """By lower-case name."""
    now: float
    """When it was received, by this machine's clock (Unix seconds)."""
    token: str = ""
    """The last part of the path, after the source's name."""


def _token(secret: Secret) -> Secret:
    if not re.fullmatch(r"[A-Za-z0-9._~-]{16,200}", secret.reveal()):
        raise ValueError(
            "is not a token: 16 or more letters, digits, dots, dashes and underscores, made at random"
        )
    return secret


def _value(secret: Secret) -> Secret:
    value = secret.reveal()
    if not value.isascii():
        raise ValueError("is not printable ASCII, as a header requires")
    if value != value.strip():
        raise ValueError("begins or ends with a blank, which no header keeps")
    return strong(secret)


def strong(secret: Secret) -> Secret:
    """The secret, if it is long enough; else ValueError."""
    if len(secret.reveal()) < SHORTEST:
        raise ValueError(f"is too short: use at least {SHORTEST} characters, made at random")
    return secret


Strong = Annotated[Secret, AfterValidator(strong)]
"""A secret that authenticates callers."""


def _header(name: str) -> str:
    if name.lower() in COMMON_HEADERS:
        raise ValueError(
            "is a header that every client sends; set another one at the vendor, such as Authorization"
        )
    return name


@dataclass(frozen=True, slots=True)
class Registration:
    """A webhook as it is registered at the vendor."""

    id: str
    url: str
    enabled: bool = True
    secret: str | None = None
    """The secret that its calls are signed with; only in the answer to its creation."""
    signed: bool | None = None
    """Whether its calls are signed; None if the vendor does not state it."""


class Registrar(Protocol):
    """A vendor's API for its webhooks. Raises what `Http.get` raises."""

    most: int
    """Maximum number of webhooks of an account."""

    async def list(self) -> Sequence[Registration]: ...

    async def create(self, url: str) -> Registration: ...

    async def delete(self, key: str) -> None: ...


class Hook(Options):
    """`webhook`: what a caller must present to be accepted as the vendor. All that is set must be correct."""

    token: Annotated[Secret, AfterValidator(_token)] | None = None
    """The last part of the URL, `/hooks/NAME/TOKEN`: 16 to 200 letters, digits, dots, dashes, underscores and
    tildes, made at random.
    """
    header: Annotated[HeaderName, AfterValidator(_header)] | None = None
    """The name of a header that the vendor is set to send with each webhook; with `value`."""
    value: Annotated[Secret, AfterValidator(_value)] | None = None
    """The value of `header`: at least 8 characters of printable ASCII."""

    answers_get: ClassVar[bool] = False
    """Whether the vendor tests the address with GET before it uses it."""

    @model_validator(mode="after")
    def _closed(self) -> Self:
        if (self.header is None) != (self.value is None):
            raise ValueError("has only one of header and value; set both")
        if not self.proofs():
            raise ValueError(f"authenticates no caller; set {self.ways()}")
        return self

    def proofs(self) -> list[Secret]:
        """The secrets that a caller can present; without any, every caller would be accepted."""
        return [secret for secret in (self.token, self.value) if secret is not None]

    @property
    def wants_signature(self) -> bool:
        """Whether calls without a signature are refused."""
        return False

    @classmethod
    def ways(cls) -> str:
        """The options that authenticate the vendor, for a message."""
        return "header and value, or token"

    def check_head(self, call: Call) -> None:
        """Check what is known before the body is read. Raises `NotAuthentic`."""
        if self.token is not None and not same(call.token, self.token.reveal()):
            raise NotAuthentic("wrong token")
        if self.header is not None and self.value is not None:
            shown = call.headers.get(self.header.lower())
            if shown is None or not same(shown, self.value.reveal()):
                raise NotAuthentic("wrong header" if shown is not None else "no header")

    def check(self, call: Call) -> None:
        """Check everything, after the body is read. Raises `NotAuthentic`."""
        self.check_head(call)

    def path(self, name: str, token: str | None = None) -> str:
        """The path of the webhooks of the source `name`, with its token, or with `token` in its place."""
        return f"{PATH}{name}" + (f"/{token or self.token.reveal()}" if self.token is not None else "")


def same(shown: str, expected: str) -> bool:
    """Whether two secrets are equal, in a time that does not show how much of it was right."""
    return hmac.compare_digest(shown.encode("utf-8", "replace"), expected.encode("utf-8", "replace"))


@dataclass(frozen=True, slots=True)
class Scheme:
    """How a vendor signs: `HEADER: t=TIME,TAG=HEX`, an HMAC-SHA256 over `TIME.BODY`."""

    header: str
    tag: str
    per_second: int
    """How many units of `TIME` make a second."""

    def check(self, call: Call, secrets: Sequence[Secret], tolerance: float) -> None:
        """Raises `NotAuthentic` if none of the secrets made any of the signatures, or if their time is more
        than `tolerance` seconds before or after ours (0: any time).
        """
        text = call.headers.get(self.header)
        if text is None:
            raise NotAuthentic("no signature")
        fields = [
            match.groups() for part in text.split(",")[:MOST_FIELDS] if (match := FIELD.fullmatch(part))
        ]
        times = [value for name, value in fields if name == "t"]
        shown = [value.lower() for name, value in fields if name == self.tag]
        if (
            len(times) != 1
            or not shown
            or not (times[0].isascii() and times[0].isdecimal() and len(times[0]) < 20)
        ):
            raise NotAuthentic("unreadable signature")
        signed = times[0].encode() + b"." + call.body
        made = [hmac.new(secret.reveal().encode(), signed, hashlib.sha256).hexdigest() for secret in secrets]
        if not any([same(one, other) for one in shown for other in made]):  # noqa: C419 - compares all of them
            raise NotAuthentic("wrong signature")
        # Checked last: the age of an unsigned time proves nothing.
        if tolerance and abs(call.now - int(times[0]) / self.per_second) > tolerance:
            raise NotAuthentic("stale signature")


class SignedHook(Hook):
    """A `webhook` whose vendor signs what it sends."""

    signature_tolerance: Duration = 300.0
    """How old a signature may be, or how far in the future. 0: any age."""
