"""How requests authenticate: with a fixed token, or with one that is fetched."""

import asyncio
import base64
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, TypeAlias
from urllib.parse import quote_plus, urlencode

import httpx

from roundsman import wire
from roundsman.errors import Backoff, Denied, NoToken, Unreadable
from roundsman.http.answers import Answer, error_for
from roundsman.http.flows import Direct, Now, Send, authenticated
from roundsman.http.ratelimits import number
from roundsman.http.request import Request, Target, target
from roundsman.http.urls import set_param
from roundsman.masking import mask
from roundsman.options.secrets import Secret

Auth: TypeAlias = httpx.Auth
"""How the requests of a source authenticate: what `bearer`, `header` and `basic` return, or any `httpx.Auth`."""

COMMON = ("user-agent", "accept", "accept-encoding")
"""Headers of a request that the request for its token has, too."""
LONGEST, MARGIN = 86400.0, 60.0
"""Seconds: the life of a token that does not state one, at most; and how long before its end it is renewed."""


class HeaderToken(Direct):
    """A fixed token in a header."""

    def __init__(self, header: str, value: str) -> None:
        self._header = header.lower()
        self._value = value

    async def answer(self, request: Request, send: Send, now: Now) -> Answer:  # noqa: ARG002 - it never expires
        request.headers[self._header] = self._value
        return await send(request)

    def auth_flow(self, request: httpx.Request) -> Any:
        """For plugins that use httpx themselves."""
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
    return HeaderToken("Authorization", _basic(user, secret.reveal()))


def _basic(user: str, password: str) -> str:
    """The value of `Authorization`."""
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


class FetchedToken(Direct):
    """A bearer token that is fetched, kept in memory, and renewed before it expires.

    Concurrent requests share one token: the first that finds it expired fetches a new one, the others wait.
    After a 401 the token is renewed once and the request repeated once; a second 401 is returned.
    """

    method: ClassVar[str] = "GET"
    """How a token is requested."""

    def __init__(self, url: str, *, life: float, margin: float) -> None:
        """`life`: seconds of a token, at most (it may state less). `margin`: how much earlier to renew it."""
        self._url = url
        self._life = life
        self._margin = margin
        self._token: str | None = None
        self._until = 0.0
        self._lock = asyncio.Lock()

    @abstractmethod
    def question(self, where: Target, headers: dict[str, str]) -> Request:
        """The request for a token. `headers` has what every request has."""

    async def answer(self, request: Request, send: Send, now: Now) -> Answer:
        token = self._token
        if token is None or not self._until - self._life <= now() < self._until:
            token = await self._renewed(token, request, send, now)
        request.headers["authorization"] = f"Bearer {token}"
        answer = await send(request)
        if answer.status != 401:
            return answer
        token = await self._renewed(token, request, send, now)
        request.headers["authorization"] = f"Bearer {token}"
        return await send(request)

    async def _renewed(self, token: str | None, request: Request, send: Send, now: Now) -> str | None:
        """The token that is used instead of this one."""
        async with self._lock:
            # Another request may have renewed it meanwhile; after a failed renewal there is no token.
            if self._token is token or self._token is None:
                kept = {name: request.headers[name] for name in COMMON if name in request.headers}
                question = self.question(target(self._url), kept)
                question.retry_timeouts = request.retry_timeouts
                self._take(await send(question), now())
            return self._token

    def _take(self, answer: Answer, now: float) -> None:
        if self._token is not None:
            mask.discard(self._token)
        self._token = None
        if answer.status != 200:
            raise self._refusal(answer, now)
        try:
            document = answer.json()
        except Unreadable as exc:
            raise NoToken(f"the answer to the token request cannot be read: {exc}") from None
        token = document.get("access_token") if isinstance(document, dict) else None
        if not isinstance(token, str) or not token.isascii() or not token.isprintable() or not token:
            raise NoToken("the answer to the token request has no access_token")
        life = min(self._life, _life(token) or self._life, _stated(document) or self._life)
        self._token = token
        mask.add([token])
        self._until = now + max(life - self._margin, life / 2)

    def _refusal(self, answer: Answer, now: float) -> Exception:
        exc = error_for(self.method, self._url, answer, now)
        if isinstance(exc, Denied):
            return Denied(str(exc), 401)
        return exc if isinstance(exc, Backoff) else NoToken(str(exc))


class PasswordToken(FetchedToken):
    """A token for a user and a password, by GET with basic authentication."""

    def __init__(self, url: str, user: str, password: str, *, life: float, margin: float) -> None:
        super().__init__(url, life=life, margin=margin)
        self._basic = _basic(user, password)

    def question(self, where: Target, headers: dict[str, str]) -> Request:
        return Request(self.method, where, {**headers, "authorization": self._basic})


class ClientToken(FetchedToken):
    """A token for a client's own credentials (RFC 6749 section 4.4)."""

    method = "POST"

    def __init__(
        self, url: str, client_id: str, secret: str, form: Mapping[str, str], *, in_body: bool = False
    ) -> None:
        """`form`: more fields of the request, such as `scope`. `in_body`: the credentials are fields, too."""
        super().__init__(url, life=LONGEST, margin=MARGIN)
        self._form = {"grant_type": "client_credentials", **form}
        if in_body:
            self._form |= {"client_id": client_id, "client_secret": secret}
        # Section 2.3.1: both are form-encoded before they become the user and the password.
        self._basic = None if in_body else _basic(quote_plus(client_id), quote_plus(secret))

    def question(self, where: Target, headers: dict[str, str]) -> Request:
        fields = {**headers, "content-type": "application/x-www-form-urlencoded"}
        if self._basic is not None:
            fields["authorization"] = self._basic
        return Request(self.method, where, fields, urlencode(self._form).encode())

    def _refusal(self, answer: Answer, now: float) -> Exception:
        exc = super()._refusal(answer, now)
        # Section 5.2: refused credentials may come as a 400.
        refused = any(word in answer.body for word in (b"invalid_client", b"unauthorized_client"))
        return Denied(str(exc), 401) if answer.status == 400 and refused else exc


def _stated(document: Any) -> float | None:
    """The lifetime in seconds that the answer states as `expires_in`: a number, or a text of one."""
    stated = document.get("expires_in")
    return _seconds(number(stated) if isinstance(stated, str) else stated)


def _life(token: str) -> float | None:
    """The lifetime in seconds that a JWT states, by its issuer's clock alone; None if it states none."""
    try:
        payload = token.split(".")[1]
        claims = wire.decode(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return _seconds(claims["exp"] - claims["iat"])
    except (IndexError, ValueError, KeyError, TypeError, Unreadable):
        return None


def _seconds(life: Any) -> float | None:
    """A lifetime, if it is one; no token is kept longer than `LONGEST`."""
    is_number = isinstance(life, int | float) and not isinstance(life, bool)
    return float(min(life, LONGEST)) if is_number and life > 0 else None


class Hidden(Direct):
    """Adds secrets to the query and the headers of each request, so that no URL that is kept contains one."""

    def __init__(
        self, inner: httpx.Auth | None, query: Mapping[str, str], headers: Mapping[str, str]
    ) -> None:
        """`inner`: the authentication besides them."""
        self._inner = inner
        self._query = query
        self._headers = {name.lower(): value for name, value in headers.items()}

    async def answer(self, request: Request, send: Send, now: Now) -> Answer:
        if self._query:
            url = httpx.URL(request.target.url)
            for name, value in self._query.items():
                url = set_param(url, name, value)
            request.target = request.target._replace(url=str(url))
        request.headers |= self._headers
        return await authenticated(self._inner, request, send, now)
