"""What Parakey's sources have in common: the address, the token and how requests are sent."""

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import AfterValidator, Field, WithJsonSchema

from roundsman.http.urls import Url
from roundsman.options.elsewhere import Text
from roundsman.options.secrets import Secret
from roundsman.options.values import END, HeaderName, HeaderValue, Options
from roundsman.plugin import Source

if TYPE_CHECKING:
    from roundsman.http.auth import Auth


def _some(value: tuple[str, ...]) -> tuple[str, ...]:
    if not value:
        raise ValueError("is empty; name at least one path")
    return value


Paths = Annotated[
    tuple[str, ...],
    AfterValidator(_some),
    WithJsonSchema({"type": "array", "items": {"type": "string"}, "minItems": 1}),
]
"""Dotted paths, of which the first one present counts."""
PLACE: Paths = ("domain", "place", "domainId")
"""Where a resource names its place."""


class Asking(Options):
    """How to send requests, if your API differs from what is known."""

    auth_header: HeaderName = "access-token"
    """The header that carries the token."""
    auth_format: Annotated[
        HeaderValue,
        Field(pattern=r"\{token\}"),
        WithJsonSchema({"type": "string", "pattern": r"^[\x20-\x7e]*\{token\}[\x20-\x7e]*" + END}),
    ] = "{token}"
    """The value of `auth_header`, with `{token}` in it; `"Bearer {token}"` for a bearer token."""
    version_header: HeaderName | None = None
    """The header that selects the version of the API; `version` is its value."""
    version: HeaderValue | None = None
    """The value of `version_header`."""
    query: dict[str, str] = {}
    """Further query parameters for every request."""
    domain_param: str = "domainId"
    """The query parameter that carries `domain_id`."""


class Account(Source):
    """What Parakey's sources have in common."""

    base_url: Url = "https://api.parakey.co"
    """The URL of the vendor's API."""
    access_token: Secret
    """The access token of the integration. In Parakey: Settings, Integrations."""
    domain_id: Text | None = None
    """The id of the place, if the integration sees several."""
    request: Asking

    account: ClassVar[tuple[str, ...]] = ("domain_id",)
    webhook_place: ClassVar[str] = "in Parakey: Settings, Integrations, your integration, Webhooks"

    def auth(self) -> "Auth":
        from roundsman.http.auth import HeaderToken

        value = self.request.auth_format.replace("{token}", self.access_token.reveal())
        return HeaderToken(self.request.auth_header, value)

    def query(self, **more: str | int) -> dict[str, str | int]:
        domain = {self.request.domain_param: self.domain_id} if self.domain_id else {}
        return {**domain, **self.request.query, **more}

    def headers(self) -> dict[str, str]:
        chosen = self.request.version_header
        return {chosen: self.request.version or ""} if chosen else {}
