"""The `auth` table: the ways to authenticate that a configuration can name."""

from typing import TYPE_CHECKING, Self

from pydantic import model_validator

from roundsman.http.urls import Endpoint
from roundsman.options.elsewhere import Name, Text
from roundsman.options.secrets import Parameter, Secret
from roundsman.options.values import HeaderName, Options

if TYPE_CHECKING:
    from roundsman.http.auth import Auth


class OAuth(Options):
    """`auth.oauth`: a token for the credentials of a client (RFC 6749, section 4.4). It is renewed before it expires."""

    token_url: Endpoint
    """The URL that tokens are fetched from."""
    client_id: Name
    """The id of the client."""
    client_secret: Secret
    """The secret of the client."""
    scope: Text | None = None
    """The scopes to request, separated by blanks."""
    form: dict[str, Parameter] = {}
    """More fields of the token request, such as `audience`. A value is a text or a secret."""
    in_body: bool = False
    """Send the client's id and secret as fields of the form, and not in a header."""

    def flow(self) -> "Auth":
        from roundsman.http import auth

        form = {"scope": self.scope} if self.scope else {}
        form |= {k: v.reveal() if isinstance(v, Secret) else v for k, v in self.form.items()}
        secret = self.client_secret.reveal()
        return auth.ClientToken(self.token_url, self.client_id, secret, form, in_body=self.in_body)


class Credentials(Options):
    """`auth`: one way to authenticate: `bearer`; `header` and `value`; `user` and `password`; or `oauth`."""

    bearer: Secret | None = None
    """A token, sent as `Authorization: Bearer ...`."""
    header: HeaderName = "Authorization"
    """The header that carries `value`."""
    value: Secret | None = None
    """The whole value of `header`."""
    user: Text | None = None
    """The user of HTTP basic authentication; with `password`."""
    password: Secret | None = None
    """The password of HTTP basic authentication."""
    oauth: OAuth | None = None
    """Fetch tokens with OAuth client credentials."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        ways = [self.bearer, self.value, self.user if self.user is not None else self.password, self.oauth]
        if sum(way is not None for way in ways) != 1:
            raise ValueError("needs one of: bearer; header and value; user and password; oauth")
        if (self.user is None) != (self.password is None):
            raise ValueError("user and password belong together")
        if "header" in self.model_fields_set and self.value is None:
            raise ValueError("header needs value, what it carries")
        return self

    def flow(self) -> "Auth":
        """The authentication of requests; one token is shared by all that use the same flow."""
        from roundsman.http import auth

        if self.bearer is not None:
            return auth.bearer(self.bearer)
        if self.value is not None:
            return auth.header(self.header, self.value)
        if self.oauth is not None:
            return self.oauth.flow()
        assert self.password is not None
        return auth.basic(self.user or "", self.password)
