"""What a webhook brings, and how whoever calls proves to be the vendor.

A source's `webhook` table says what a caller has to show; all of what it names must be right. Where a vendor has an API for its
webhooks, a `Registrar` speaks to it.
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
"""Where webhooks are received: `/hooks/NAME`, or `/hooks/NAME/TOKEN`."""
FIELD = re.compile(r"\s*([A-Za-z0-9_-]{1,20})=([0-9A-Za-z+/=_-]{1,200})\s*")
SHORTEST = 8
"""Characters of a secret, at least."""
ANYBODYS = frozenset(
    {"host", "content-type", "content-length", "user-agent", "accept", "accept-encoding", "connection"}
)
MOST_FIELDS = 20
"""Members of a signature that are looked at: a vendor that changes secrets sends two or three."""


@dataclass(frozen=True, slots=True)
class Call:
    """One webhook, as it came."""

    body: bytes
    """The raw body: signatures are over it."""
    headers: Mapping[str, str]
    """By name in small letters."""
    now: float
    """When it came, by our clock (Unix)."""
    token: str = ""
    """The last part of the path, behind the source's name."""


def _token(secret: Secret) -> Secret:
    if not re.fullmatch(r"[A-Za-z0-9._~-]{16,200}", secret.reveal()):
        raise ValueError(
            "is not a token: 16 or more letters, digits, dots, dashes and underscores, made at random"
        )
    return secret


def _value(secret: Secret) -> Secret:
    value = secret.reveal()
    if not value.isascii():
        raise ValueError("is not what a header can carry: printable ASCII")
    if value != value.strip():
        raise ValueError("begins or ends with a blank, which no header keeps")
    return strong(secret)


def strong(secret: Secret) -> Secret:
    """The secret, if it could keep anybody out."""
    if len(secret.reveal()) < SHORTEST:
        raise ValueError(f"is too short to keep anybody out: at least {SHORTEST} characters, made at random")
    return secret


Strong = Annotated[Secret, AfterValidator(strong)]
"""A secret that callers prove themselves by."""


def _header(name: str) -> str:
    if name.lower() in ANYBODYS:
        raise ValueError(
            "is a header that anybody sends; vendors are told to send one of their own, such as Authorization"
        )
    return name


@dataclass(frozen=True, slots=True)
class Registration:
    """A webhook as the vendor has it."""

    id: str
    url: str
    enabled: bool = True
    secret: str | None = None
    """What it will be signed with; only in the answer to its creation."""
    signed: bool | None = None
    """Whether what it sends is signed; None where the vendor does not say."""


class Registrar(Protocol):
    """A vendor's API for its webhooks. Raises what asking raises."""

    most: int
    """How many webhooks an account can have."""

    async def list(self) -> Sequence[Registration]: ...

    async def create(self, url: str) -> Registration: ...

    async def delete(self, key: str) -> None: ...


class Hook(Options):
    """`webhook`: what a caller must show to be taken for the vendor. All of what is set must be right."""

    token: Annotated[Secret, AfterValidator(_token)] | None = None
    """The last part of the URL: /hooks/NAME/TOKEN."""
    header: Annotated[HeaderName, AfterValidator(_header)] | None = None
    """A header that the vendor was told to send, with `value`; compared in constant time."""
    value: Annotated[Secret, AfterValidator(_value)] | None = None
    """The value of `header`."""

    answers_get: ClassVar[bool] = False
    """Whether the vendor tries the address with GET before it uses it."""

    @model_validator(mode="after")
    def _closed(self) -> Self:
        if (self.header is None) != (self.value is None):
            raise ValueError("names only one of header and value; the vendor sends both")
        if not self.proofs():
            raise ValueError(f"has nothing to recognise the vendor by; set {self.ways()}")
        return self

    def proofs(self) -> list[Secret]:
        """The secrets that a caller can show; without any, the door would be open."""
        return [secret for secret in (self.token, self.value) if secret is not None]

    @property
    def wants_signature(self) -> bool:
        """Whether calls without a signature are refused."""
        return False

    @classmethod
    def ways(cls) -> str:
        """The options that recognise the vendor, for a message."""
        return "header and value, or token"

    def check_head(self, call: Call) -> None:
        """What can be judged before the body is read. Raises `NotAuthentic`."""
        if self.token is not None and not same(call.token, self.token.reveal()):
            raise NotAuthentic("wrong token")
        if self.header is not None and self.value is not None:
            shown = call.headers.get(self.header.lower())
            if shown is None or not same(shown, self.value.reveal()):
                raise NotAuthentic("wrong header" if shown is not None else "no header")

    def check(self, call: Call) -> None:
        """Everything, once the body is there. Raises `NotAuthentic`."""
        self.check_head(call)

    def path(self, name: str, token: str | None = None) -> str:
        """Where the webhooks of the source `name` go; the token as itself, or as what stands for it."""
        return f"{PATH}{name}" + (f"/{token or self.token.reveal()}" if self.token is not None else "")


def same(shown: str, expected: str) -> bool:
    """Whether two secrets are the same, in a time that does not tell how much of it was right."""
    return hmac.compare_digest(shown.encode("utf-8", "replace"), expected.encode("utf-8", "replace"))


@dataclass(frozen=True, slots=True)
class Scheme:
    """A vendor's way to sign: `HEADER: t=TIME,TAG=HEX`, an HMAC-SHA256 over `TIME.BODY`."""

    header: str
    tag: str
    per_second: int
    """How many of the time's units make a second."""

    def check(self, call: Call, secrets: Sequence[Secret], tolerance: float) -> None:
        """Raises `NotAuthentic` where none of the secrets made any of the signatures, or they are older than `tolerance` seconds (0: any age)."""
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
        if not any([same(one, other) for one in shown for other in made]):  # noqa: C419 - all of them, whichever is right
            raise NotAuthentic("wrong signature")
        # Only now: the age of a time that nobody signed says nothing.
        if tolerance and abs(call.now - int(times[0]) / self.per_second) > tolerance:
            raise NotAuthentic("stale signature")


class SignedHook(Hook):
    """A `webhook` whose vendor signs what it sends."""

    signature_tolerance: Duration = 300.0
    """How old a signature may be, or how far ahead; 0: as old as it likes."""
