"""Who may read the page, and who may act on it: every request to it comes through here.

A handler gets a request that was let in, and the session of its person. What the door adds to each answer, no handler
needs to think of: the headers that keep a browser from running or sending anything else.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hmac import compare_digest
from html import escape
from math import ceil
from urllib.parse import parse_qs, quote, urlsplit

import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from roundsman.engine.engine import Engine
from roundsman.options.page import PageOptions
from roundsman.store import StoreError
from roundsman.system.threads import in_thread
from roundsman.web.page.attempts import Attempts
from roundsman.web.page.hosts import address_of, is_ours, is_same_origin, is_secure
from roundsman.web.page.sessions import LASTS, Sessions, basic, bearer

log = structlog.get_logger()

EVERY = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"]
READ = ("GET", "HEAD")
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "x-content-type-options": "nosniff",
    # Not no-referrer: with it, a browser leaves the origin out of the page's own POST.
    "referrer-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
"""Of every answer. A handler that sets one of them itself keeps its own."""
LARGEST_FORM = 2**16
"""Maximum bytes of a form."""
ONWARD = '<!doctype html><title>Roundsman</title><meta http-equiv="refresh" content="0;url={}">\n'
PROGRAM = "program"
"""The session of a caller that shows its password or token with each request."""


@dataclass(frozen=True)
class Session:
    """A person, or a program of that person, who has logged in."""

    user: str
    """The name of the person; empty for the login by token."""
    form_token: str
    """The token that each form of the page carries, in a field called `form_token`."""
    fields: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """The fields of the form that was sent, each with its values."""

    def said(self, name: str) -> str:
        """The value of a field of the form; empty if there is none."""
        return self.fields.get(name, [""])[-1]


class Refused(Exception):
    """The request is not let in; it is answered with this."""

    def __init__(self, answer: Response) -> None:
        super().__init__()
        self.answer = answer


def refusal(status: int, why: str, headers: Mapping[str, str] | None = None) -> Refused:
    """A refusal in one line."""
    return Refused(PlainTextResponse(why + "\n", status, headers))


Handler = Callable[[Request, Session], Awaitable[Response]]
Open = Callable[[Request], Awaitable[Response]]


class Door:
    """The one way to the page."""

    def __init__(self, engine: Engine, options: PageOptions) -> None:
        self.sessions = Sessions(options, str(engine.store.place))
        self.attempts = Attempts(engine.time.monotonic)
        self.now = engine.time.now
        self._reception = engine.reception
        self._hosts = frozenset(options.host)
        self._deriving = asyncio.Lock()

    def reader(self, path: str, handler: Handler) -> Route:
        """A route that reads, for those who have logged in."""

        async def answer(request: Request) -> Response:
            return await handler(request, await self._enter(request))

        return self.anyone(path, answer)

    def actor(self, path: str, handler: Handler) -> Route:
        """A route that changes something: a form of the page, sent by POST, from the same origin, with its token."""

        async def answer(request: Request) -> Response:
            self.same_origin(request)
            session = await self._enter(request)
            fields = await form_of(request)
            made = Session(session.user, session.form_token, fields)
            if not compare_digest(made.said("form_token").encode(), session.form_token.encode()):
                raise refusal(403, "the form is out of date: load the page again")
            return await handler(request, made)

        return self.anyone(path, answer, methods=("POST",))

    def anyone(self, path: str, answer: Open, methods: Sequence[str] = READ) -> Route:
        """A route that needs no login, such as the login itself."""

        async def guarded(request: Request) -> Response:
            try:
                self._check(request, methods)
                response = await answer(request)
            except Refused as exc:
                response = exc.answer
            except ClientDisconnect:
                response = Response(status_code=400)  # the caller is gone
            except StoreError as exc:
                response = PlainTextResponse(f"{exc}\n", 503, {"retry-after": "5"})
            for name, value in HEADERS.items():
                response.headers.setdefault(name, value)
            return response

        return Route(path, guarded, methods=EVERY)

    def _check(self, request: Request, methods: Sequence[str]) -> None:
        if not is_ours(request, self._hosts):
            raise refusal(421, "the page is not at this host: set host in [listen.page]")
        if request.method not in methods:
            raise refusal(405, "this method is not for this page", {"allow": ", ".join(methods)})

    # -- for the login -------------------------------------------------------------------------------------------------

    def same_origin(self, request: Request) -> None:
        """Refuse what a page of another origin sends."""
        if not is_same_origin(request, self._hosts):
            raise refusal(403, "this was sent by a page of another origin")

    async def is_in(self, request: Request) -> bool:
        """Whether the browser has logged in already."""
        await self._ready()
        return self._session_of(request) is not None

    def try_login(self, request: Request, user: str, secret: str) -> float:
        """Seconds to wait before a login can be tried; 0 if it was tried and is right, -1 if it is wrong."""
        address = address_of(request)
        wait = self.attempts.wait(address)
        if wait > 0:
            self._reception.refuse_login(address, "too often")
            return wait
        if not self.sessions.is_right(user, secret):
            self.attempts.failed(address)
            self._reception.refuse_login(address, "wrong login")
            return -1.0
        if self.attempts.succeeded(address) or request.method == "POST":
            log.info("page.entered", address=address)
        return 0.0

    async def admit(self, request: Request, response: Response) -> None:
        """Let the browser remember the login."""
        await self._ready()
        response.set_cookie(
            self.sessions.name,
            self.sessions.cookie(self.now()),
            max_age=LASTS,
            secure=is_secure(request),
            httponly=True,
            samesite="strict",
        )

    def forget(self, response: Response) -> None:
        """Let the browser forget the login."""
        response.delete_cookie(self.sessions.name, httponly=True, samesite="strict")

    # -- who it is -----------------------------------------------------------------------------------------------------

    async def _enter(self, request: Request) -> Session:
        """The session of the request, or `Refused`."""
        await self._ready()
        name = self._session_of(request)
        if name is not None:
            self.attempts.knows(address_of(request))
        elif "authorization" not in request.headers:
            raise self._to_login(request)
        else:
            self._check_program(request)
        return Session(self.sessions.user, self.sessions.form(name or PROGRAM))

    def _check_program(self, request: Request) -> None:
        header = request.headers["authorization"]
        if self.sessions.by_token:
            token = bearer(header)
            shown = ("", token) if token is not None else None
        else:
            shown = basic(header)
        if shown is None:
            raise self._unknown()
        wait = self.try_login(request, *shown)
        if wait > 0:
            seconds = str(ceil(wait))
            raise refusal(429, f"too many wrong logins: wait {seconds} s", {"retry-after": seconds})
        if wait < 0:
            raise self._unknown()

    def _unknown(self) -> Refused:
        scheme = "Bearer" if self.sessions.by_token else "Basic"
        charset = "" if self.sessions.by_token else ', charset="UTF-8"'
        return refusal(401, "not logged in", {"www-authenticate": f'{scheme} realm="Roundsman"{charset}'})

    def _to_login(self, request: Request) -> Refused:
        """A browser is led to the form; a program is asked for the header, which a browser would ask its user for."""
        headers = request.headers
        if "text/html" not in headers.get("accept", "") and "sec-fetch-mode" not in headers:
            return self._unknown()
        query = f"?{request.url.query}" if request.url.query else ""
        target = quote(request.url.path + query if request.method in READ else "/", safe="/")
        login = f"/login?next={target}"
        if headers.get("sec-fetch-site") == "cross-site":
            # By a link of another site, a browser comes without the cookie: it is SameSite=Strict. By a step of our own
            # it comes with it, and the form leads on.
            return Refused(HTMLResponse(ONWARD.format(escape(login))))
        return Refused(RedirectResponse(login, 303))

    def _session_of(self, request: Request) -> str | None:
        return self.sessions.session(request.cookies.get(self.sessions.name, ""), self.now())

    async def _ready(self) -> None:
        """Derive the key in a thread, before its first use."""
        async with self._deriving:
            if not self.sessions.derived:
                await in_thread(self.sessions.derive)


async def form_of(request: Request) -> Mapping[str, Sequence[str]]:
    """The fields of a form. `Refused` if it is none, or too large."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise refusal(415, "is not a form: send application/x-www-form-urlencoded")
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > LARGEST_FORM:
            raise refusal(413, f"at most {LARGEST_FORM} bytes")
    try:
        return parse_qs(body.decode(), keep_blank_values=True, max_num_fields=1000)
    except ValueError:
        raise refusal(400, "is not a form that can be read") from None


def inside(path: str) -> str:
    """A path of the page with its query, to go on to; `/` for anything that may lead elsewhere."""
    fits = path.startswith("/") and not path.startswith("//") and path.isascii() and path.isprintable()
    if not fits or "\\" in path:
        return "/"
    try:
        parts = urlsplit(path)
    except ValueError:
        return "/"
    return "/" if parts.netloc or parts.scheme or parts.path in {"/login", "/logout"} else path
