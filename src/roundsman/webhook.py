"""What a webhook contains, and how its caller proves to be the vendor.

A source's `webhook` table defines what a caller must present; all that it names must be correct. If a vendor has
an API for its webhooks, a `Registrar` calls it.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, NamedTuple, Protocol, Self

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

    def signing(self) -> Sequence[Secret]:
        """The secrets of which each call has to be signed with one. Empty: calls are not signed."""
        return ()

    @property
    def wants_signature(self) -> bool:
        """Whether calls without a signature are refused."""
        return bool(self.signing())

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

    def dressed(self, body: bytes, now: float) -> dict[str, str]:  # noqa: ARG002 - for hooks that sign the body
        """The headers with which the vendor would send this body at `now` (Unix seconds)."""
        return (
            {self.header: self.value.reveal()} if self.header is not None and self.value is not None else {}
        )

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

    def sign(self, secret: Secret, body: bytes, now: float) -> str:
        """The value of the header for this body at `now` (Unix seconds)."""
        at = str(int(now * self.per_second))
        return f"t={at},{self.tag}={self._made(secret, at.encode() + b'.' + body)}"

    @staticmethod
    def _made(secret: Secret, signed: bytes) -> str:
        return hmac.new(secret.reveal().encode(), signed, hashlib.sha256).hexdigest()

    def check(self, call: Call, keys: Sequence[Secret], tolerance: float) -> None:
        """Raises `NotAuthentic` if none of the keys made any of the signatures, or if their time is more
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
        made = [self._made(key, signed) for key in keys]
        if not any([same(one, other) for one in shown for other in made]):  # noqa: C419 - compares all of them
            raise NotAuthentic("wrong signature")
        # Checked last: the age of an unsigned time proves nothing.
        if tolerance and abs(call.now - int(times[0]) / self.per_second) > tolerance:
            raise NotAuthentic("stale signature")


class SignedHook(Hook):
    """A `webhook` whose vendor signs what it sends."""

    signature_tolerance: Duration = 300.0
    """How old a signature may be, or how far in the future. 0: any age."""

    scheme: ClassVar[Scheme]
    """How the vendor signs."""

    def proofs(self) -> list[Secret]:
        return [*super().proofs(), *self.signing()]

    def check(self, call: Call) -> None:
        super().check(call)
        if keys := self.signing():
            self.scheme.check(call, keys, self.signature_tolerance)

    def dressed(self, body: bytes, now: float) -> dict[str, str]:
        headers = super().dressed(body, now)
        if keys := self.signing():
            headers[self.scheme.header] = self.scheme.sign(keys[0], body, now)
        return headers


# -- the sample of `roundsman hooks test` ------------------------------------------------------------------------------


class Sample(NamedTuple):
    """A webhook that nothing is stored of, and the answer that proves where it arrived."""

    body: bytes
    answer: str


_SAMPLE = re.compile(rb'\{"roundsman_test":"([0-9a-f]{32})","proof":"([0-9a-f]{64})"\}')


def sample(hook: Hook, name: str) -> Sample:
    """A new sample for the source `name`. Only a daemon with the same secrets gives this answer, and only to this one."""
    nonce = secrets.token_hex(16)
    key = _keys(hook)[0]
    body = b'{"roundsman_test":"%b","proof":"%b"}' % (
        nonce.encode(),
        _proof(key, "ask", name, nonce).encode(),
    )
    return Sample(body, _proof(key, "answer", name, nonce))


def answer_to_sample(hook: Hook, name: str, body: bytes) -> str | None:
    """The answer to a body that was found to be authentic; None if it is no sample, but a webhook of the vendor.

    The proof in the body is made with the secrets, so that a caller who can only repeat a webhook cannot turn it into a
    sample. The vendor's own signature is over the body as well.
    """
    found = _SAMPLE.fullmatch(body)
    if found is None:
        return None
    nonce, proof = (each.decode() for each in found.groups())
    for key in _keys(hook):
        if same(proof, _proof(key, "ask", name, nonce)):
            return _proof(key, "answer", name, nonce)
    return None


def _keys(hook: Hook) -> list[bytes]:
    """The keys of proofs: one for each signing secret, together with token and header. Not the secrets themselves: a proof
    must not be usable as a signature.
    """
    head = [secret.reveal() if secret is not None else "" for secret in (hook.token, hook.value)]
    signing = [secret.reveal() for secret in hook.signing()] or [""]
    parts = ["\0".join([*head, secret]).encode() for secret in signing]
    return [hmac.digest(part, b"roundsman hooks test", "sha256") for part in parts]


def _proof(key: bytes, *parts: str) -> str:
    return hmac.new(key, "\n".join(parts).encode("utf-8", "replace"), hashlib.sha256).hexdigest()
