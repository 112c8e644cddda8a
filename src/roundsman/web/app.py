"""The web application: webhooks, health, readiness and metrics.

A webhook is answered 2xx once it is on the disk, even if it could not be parsed: vendors disable hooks that
are refused. Parakey never sends again after a 410, so no answer is 410.
"""

import asyncio
import time

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from roundsman.engine.engine import Engine
from roundsman.errors import NotAuthentic
from roundsman.options.page import PageOptions
from roundsman.plugin import Source
from roundsman.store import StoreError
from roundsman.web.exposition import Exposition
from roundsman.web.metrics import CONTENT_TYPE
from roundsman.web.pieces import Pieces
from roundsman.webhook import PATH, Call, answer_to_sample

LARGEST = 2**20
"""Maximum bytes of a webhook's body. A larger body is refused while it arrives."""
UNDER_WAY = 32 * 2**20
"""Maximum bytes of bodies in memory, for all callers with a token or header; as much again for all others."""
PATIENCE = 5.0
"""Seconds that an answer of `/readyz` waits for the store: who asks gives up soon, and the store may hang for a minute."""
BUSY_AGAIN = "5"
"""Seconds in Retry-After, if the receiver is busy or the webhook cannot be stored."""


class TooLarge(Exception):
    """The body exceeds LARGEST."""


class Busy(Exception):
    """The bodies in memory exceed UNDER_WAY."""


class Receiver:
    """The endpoint of webhooks."""

    def __init__(self, engine: Engine) -> None:
        self._reception = engine.reception
        self._held = {False: 0, True: 0}
        """Bytes of bodies in memory. True: callers that showed a token or header; False: all others."""

    async def __call__(self, request: Request) -> Response:
        name, token = request.path_params["name"], request.path_params.get("token", "")
        source = self._reception.source(name)
        if source is None or source.webhook is None or (token and source.webhook.token is None):
            return self.unknown(request)
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
            return Response(status_code=400)  # the caller is gone
        except Busy:
            self._reception.refuse(name, "busy")
            return _say(503, "busy", retry_after=BUSY_AGAIN)
        except StoreError:
            return _say(503, "cannot be stored now", retry_after=BUSY_AGAIN)

    def unknown(self, request: Request) -> Response:
        """404: no source receives webhooks at this path."""
        # Only the name: the rest of the path may be a token.
        self._reception.refuse("", "unknown source", "/".join(request.url.path.split("/")[:3]))
        return _say(404, "no such webhook")

    def _try(self, source: Source, call: Call) -> Response:
        """Answer a vendor that checks the address before it uses it: only the token must be right."""
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
            answer = answer_to_sample(source.webhook, source.name, whole.body)
            if answer is not None:
                await self._reception.test(source)
                return _say(200, answer)
            await self._reception.take(source, whole)
        finally:
            self._held[known] -= len(body)
        return Response(status_code=200)


def app(engine: Engine, look_again: float = 1.0, page: PageOptions | None = None) -> Starlette:
    """The web application. It only reads from the engine, and passes webhooks to it. `page`: with the page for people."""

    async def healthz(_: Request) -> Response:
        return (
            _say(200, "ok")
            if engine.healthy()
            else _say(503, "visits or deliveries do not run, or the store does not answer")
        )

    readiness = Readiness(engine, look_again)

    async def readyz(_: Request) -> Response:
        missing = await readiness.missing()
        return _say(503, "\n".join(missing)) if missing else _say(200, "ready")

    exposition = Exposition(engine)

    async def metrics(_: Request) -> Response:
        return Pieces(exposition.pieces(), CONTENT_TYPE)

    receiver = Receiver(engine)

    async def receive(request: Request) -> Response:
        began = time.monotonic()
        response = await receiver(request)
        if request.method == "POST":
            engine.meter.answers.add(time.monotonic() - began)
        return response

    async def nowhere(request: Request) -> Response:
        return receiver.unknown(request)

    async def failed(request: Request, exc: Exception) -> Response:
        engine.reception.fail(request.url.path.split("/")[1][:20], exc)
        return _say(500, "internal error")

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
            *(_page(engine, page) if page is not None else []),
        ],
    )
    # A vendor treats a redirect as a failure, or follows it to any address.
    application.router.redirect_slashes = False
    return application


def _page(engine: Engine, options: PageOptions) -> list[Route]:
    from roundsman.web.page import routes  # without the page, do not import it

    return routes(engine, options)


class Readiness:
    """Whether the daemon is ready: the store can be written, and every source was visited, well or not. A worker must also
    beat.

    The store is checked at most once a second, because the check may have to wait for another program's lock, or for a
    server that does not answer.
    """

    def __init__(self, engine: Engine, look_again: float) -> None:
        self._engine = engine
        self._look_again = look_again
        self._looked = float("-inf")
        self._looking = asyncio.Lock()
        self._store: str | None = None
        self._asked: asyncio.Task[None] | None = None
        """A look that may last longer than the answer to who asked."""

    async def _ask(self) -> None:
        await self._engine.store.writable()

    async def _look(self) -> str | None:
        """Why the store cannot be written; None if it can."""
        if self._asked is None or self._asked.done():
            self._asked = asyncio.create_task(self._ask())
            self._asked.add_done_callback(lambda task: task.cancelled() or task.exception())
        done, _ = await asyncio.wait([self._asked], timeout=PATIENCE)
        if not done:
            return f"{self._engine.store.place} has not answered for {PATIENCE:.0f}s"
        try:
            self._asked.result()
        except StoreError as exc:
            return str(exc)
        return None

    async def missing(self, most: int = 10) -> list[str]:
        """What is not ready, one line each; empty if the daemon is. Names at most `most` sources."""
        async with self._looking:  # a look may last long: who asks meanwhile waits for what it finds
            if time.monotonic() - self._looked >= self._look_again:
                self._store = await self._look()
                self._looked = time.monotonic()
        roster = self._engine.roster
        waits = [name for name, watched in roster.items() if watched.status.paused is None]
        new = [name for name in waits if roster[name].status.last_visit is None]
        fleet = self._engine.fleet
        reasons = [each for each in (self._store, fleet.missing if fleet is not None else None) if each]
        reasons += [f"{name}: not visited yet" for name in new[:most]]
        return reasons + ([f"and {len(new) - most} more"] if len(new) > most else [])


def _say(status: int, text: str, *, retry_after: str | None = None) -> Response:
    headers = {"retry-after": retry_after} if retry_after else None
    return PlainTextResponse(text + "\n", status_code=status, headers=headers)
