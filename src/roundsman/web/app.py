"""Who may say what, and what is answered: webhooks, health, readiness, metrics.

A webhook is answered 2xx once it is on the disk, whether it was understood or not: vendors disable hooks that are refused, and
Parakey takes 410 for "never again", which is therefore said to nobody.
"""

import time

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from roundsman.engine.engine import Engine
from roundsman.errors import NotAuthentic
from roundsman.plugin import Source
from roundsman.store import StoreError
from roundsman.web.metrics import CONTENT_TYPE, exposition
from roundsman.webhook import PATH, Call

LARGEST = 2**20
"""Bytes of a webhook's body; more are refused while they come."""
UNDER_WAY = 32 * 2**20
"""Bytes of bodies in memory at a time, over all callers who showed a token or header, and as much over all others."""
BUSY_AGAIN = "5"
"""Seconds after which a caller that found us busy, or the disk full, may come again."""


class TooLarge(Exception):
    """More body than a webhook has."""


class Busy(Exception):
    """More bodies than memory is meant for."""


class Receiver:
    """The endpoint of webhooks."""

    def __init__(self, engine: Engine) -> None:
        self._reception = engine.reception
        self._held = {False: 0, True: 0}
        """Bytes of bodies under way: of callers who have shown something already, and of those who may be anybody."""

    async def __call__(self, request: Request) -> Response:
        name, token = request.path_params["name"], request.path_params.get("token", "")
        source = self._reception.source(name)
        if source is None or source.webhook is None or (token and source.webhook.token is None):
            return self.nobody(request)
        hook = source.webhook
        headers = {key: ", ".join(request.headers.getlist(key)) for key in request.headers}
        call = Call(b"", headers, self._reception.now(), token)
        try:
            if request.method in {"GET", "HEAD"} and hook.answers_get:
                return self._try(source, call)
            if request.method != "POST":
                self._reception.refuse(name, "wrong method")
                return Response(status_code=405, headers={"allow": "POST"})
            hook.check_head(call)
            return await self._take(source, request, call)
        except NotAuthentic as exc:
            self._reception.refuse(name, str(exc))
            return _say(401, "not authentic")
        except TooLarge:
            self._reception.refuse(name, "too large")
            return _say(413, f"at most {LARGEST} bytes")
        except ClientDisconnect:
            self._reception.refuse(name, "cut off")
            return Response(status_code=400)  # to nobody
        except Busy:
            self._reception.refuse(name, "busy")
            return _say(503, "busy", retry_after=BUSY_AGAIN)
        except StoreError:
            return _say(503, "cannot be stored now", retry_after=BUSY_AGAIN)

    def nobody(self, request: Request) -> Response:
        """No source takes webhooks there."""
        # The name alone: what follows it may be a token.
        self._reception.refuse("", "unknown source", "/".join(request.url.path.split("/")[:3]))
        return _say(404, "no such webhook")

    def _try(self, source: Source, call: Call) -> Response:
        """The vendor tries the address before it uses it: it only has to be the right one."""
        hook = source.webhook
        if hook is not None and hook.token is not None:
            hook.model_copy(update={"header": None, "value": None}).check_head(call)
        return _say(200, "webhooks are received here")

    async def _take(self, source: Source, request: Request, call: Call) -> Response:
        assert source.webhook is not None
        known = source.webhook.token is not None or source.webhook.header is not None
        body = bytearray()
        try:
            declared = call.headers.get("content-length", "0")
            if not declared.isdecimal() or len(declared) > 12 or int(declared) > LARGEST:
                raise TooLarge
            async for piece in request.stream():
                body += piece
                self._held[known] += len(piece)
                if len(body) > LARGEST:
                    raise TooLarge
                if self._held[known] > UNDER_WAY:
                    raise Busy
            whole = Call(bytes(body), call.headers, call.now, call.token)
            source.webhook.check(whole)
            if "transfer-encoding" not in call.headers and len(body) != int(declared):
                raise ClientDisconnect
            await self._reception.take(source, whole)
        finally:
            self._held[known] -= len(body)
        return Response(status_code=200)


def app(engine: Engine, look_again: float = 1.0) -> Starlette:
    """The web application: everything it tells is the engine's."""

    async def healthz(_: Request) -> Response:
        return _say(200, "ok") if engine.healthy() else _say(503, "the rounds are not made")

    readiness = Readiness(engine, look_again)

    async def readyz(_: Request) -> Response:
        missing = readiness.missing()
        return _say(503, "\n".join(missing)) if missing else _say(200, "ready")

    async def metrics(_: Request) -> Response:
        return Response(exposition(engine), media_type=CONTENT_TYPE)

    receiver = Receiver(engine)

    async def receive(request: Request) -> Response:
        began = time.monotonic()
        response = await receiver(request)
        if request.method == "POST":
            engine.meter.answers.add(time.monotonic() - began)
        return response

    async def nowhere(request: Request) -> Response:
        return receiver.nobody(request)

    async def failed(request: Request, exc: Exception) -> Response:
        engine.reception.fail(request.url.path.split("/")[1][:20], exc)
        return _say(500, "something is wrong here")

    every = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
    application = Starlette(
        exception_handlers={Exception: failed},
        routes=[
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/metrics", metrics),
            Route(f"{PATH}{{name}}", receive, methods=every),
            Route(f"{PATH}{{name}}/{{token}}", receive, methods=every),
            Route(f"{PATH}{{rest:path}}", nowhere, methods=every),
        ],
    )
    application.router.redirect_slashes = (
        False  # a vendor takes a redirection for a failure, or follows it anywhere
    )
    return application


class Readiness:
    """Whether it is ready: the store takes what comes, and every source was visited once, well or not.

    Found out once a second at most, for trying to write may have to wait for another program's lock.
    """

    def __init__(self, engine: Engine, look_again: float) -> None:
        self._engine = engine
        self._look_again = look_again
        self._looked = float("-inf")
        self._store: str | None = None

    def missing(self, most: int = 10) -> list[str]:
        """Why not, a line each; empty where it is."""
        now = time.monotonic()
        if now - self._looked >= self._look_again:
            self._looked = now
            try:
                self._store = None
                self._engine.store.writable()
            except StoreError as exc:
                self._store = str(exc)
        roster = self._engine.roster
        new = [name for name, watched in roster.items() if watched.status.last_visit is None]
        reasons = [self._store] if self._store else []
        reasons += [f"{name}: not visited yet" for name in new[:most]]
        return reasons + ([f"and {len(new) - most} more"] if len(new) > most else [])


def _say(status: int, text: str, *, retry_after: str | None = None) -> Response:
    headers = {"retry-after": retry_after} if retry_after else None
    return PlainTextResponse(text + "\n", status_code=status, headers=headers)
