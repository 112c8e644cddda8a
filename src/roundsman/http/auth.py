"""How requests authenticate, as httpx auth flows (https://www.python-httpx.org/advanced/authentication/)."""

import asyncio
import base64
from collections.abc import AsyncGenerator, Callable
from typing import Any, TypeAlias

import httpx

from roundsman import wire
from roundsman.errors import Backoff, Denied, NoToken, Unreadable
from roundsman.http.answers import Answer, error_for
from roundsman.masking import mask
from roundsman.options.secrets import Secret

Auth: TypeAlias = httpx.Auth
"""How the requests of a source authenticate: what `bearer`, `header` and `basic` return, or any `httpx.Auth`."""


class HeaderToken(httpx.Auth):
    """A fixed token in a header."""

    def __init__(self, header: str, value: str) -> None:
        self._header = header
        self._value = value

    def auth_flow(self, request: httpx.Request) -> Any:
        request.headers[self._header] = self._value
        yield request


def bearer(secret: Secret) -> Auth:
    """`Authorization: Bearer SECRET`."""
    return header("Authorization", secret, prefix="Bearer ")


def header(name: str, secret: Secret, prefix: str = "") -> Auth:
    """The secret in the header `name`, after `prefix`."""
    return HeaderToken(name, prefix + secret.reveal())


def basic(user: str, secret: Secret) -> Auth:
    """HTTP basic authentication, with the secret as the password."""
    return httpx.BasicAuth(user, secret.reveal())


class FetchedToken(httpx.Auth):
    """A bearer token that is fetched with a user and password, kept in memory, and renewed before it expires.

    Concurrent requests share one token: the first that finds it expired fetches a new one, the others wait.
    After a 401 the token is renewed once and the request repeated once; a second 401 is returned.
    """

    requires_response_body = True

    def __init__(self, url: str, user: str, password: str, *, life: float, margin: float) -> None:
        """`life`: seconds of a token, at most (a JWT may say less). `margin`: how much earlier to renew it."""
        self._url = url
        self._basic = httpx.BasicAuth(user, password)
        self._life = life
        self._margin = margin
        self._token: str | None = None
        self._until = 0.0
        self._lock = asyncio.Lock()

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        now: Callable[[], float] = request.extensions["now"]
        token = self._token
        if token is None or not self._until - self._life <= now() < self._until:
            async with self._lock:
                # Another request may have renewed it meanwhile; after a failed renewal there is no token.
                if self._token is token or self._token is None:
                    self._take((yield self._question(request)), now())
        token = self._token
        request.headers["Authorization"] = f"Bearer {token}"
        response = yield request
        if response.status_code != 401:
            return
        async with self._lock:
            if self._token is token or self._token is None:
                self._take((yield self._question(request)), now())
        request.headers["Authorization"] = f"Bearer {self._token}"
        yield request

    def _question(self, request: httpx.Request) -> httpx.Request:
        question = httpx.Request("GET", self._url, headers=request.headers, extensions=request.extensions)
        question.headers["host"] = httpx.URL(self._url).netloc.decode("ascii")
        question.headers.pop("if-none-match", None)
        return next(self._basic.sync_auth_flow(question))

    def _take(self, response: httpx.Response, now: float) -> None:
        if self._token is not None:
            mask.discard(self._token)
        self._token = None
        answer = Answer(response.status_code, response.headers, response.content)
        if answer.status != 200:
            exc = error_for("GET", self._url, answer, now)
            if isinstance(exc, Denied):
                raise Denied(str(exc), 401)
            raise exc if isinstance(exc, Backoff) else NoToken(str(exc))
        try:
            document = answer.json()
        except Unreadable as exc:
            raise NoToken(f"the answer to the token request cannot be read: {exc}") from None
        token = document.get("access_token") if isinstance(document, dict) else None
        if not isinstance(token, str) or not token.isascii() or not token.isprintable() or not token:
            raise NoToken("the answer to the token request has no access_token")
        life = min(self._life, _life(token) or self._life)
        self._token = token
        mask.add([token])
        self._until = now + max(life - self._margin, life / 2)


def _life(token: str) -> float | None:
    """The lifetime in seconds that a JWT states, by its issuer's clock alone; None if it states none."""
    try:
        payload = token.split(".")[1]
        claims = wire.decode(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        life = claims["exp"] - claims["iat"]
    except (IndexError, ValueError, KeyError, TypeError, Unreadable):
        return None
    return float(life) if life > 0 else None
