"""The form to log in with, and the end of a login."""

from math import ceil

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from roundsman.web.page import views
from roundsman.web.page.door import READ, Door, Session, form_of, inside

WRONG = {False: "The user or the password is wrong.", True: "The token is wrong."}
"""By whether the login is a token."""


def routes(door: Door) -> list[Route]:
    by_token = door.sessions.by_token

    def form(target: str, status: int = 200, problem: str = "") -> Response:
        return HTMLResponse(views.login(target, by_token=by_token, problem=problem), status)

    async def ask(request: Request) -> Response:
        target = inside(request.query_params.get("next", "/"))
        return RedirectResponse(target, 303) if await door.is_in(request) else form(target)

    async def enter(request: Request) -> Response:
        door.same_origin(request)
        fields = await form_of(request)
        user, secret, target = (fields.get(name, [""])[-1] for name in ("user", "secret", "next"))
        target = inside(target)
        wait = door.try_login(request, "" if by_token else user, secret)
        if wait > 0:
            seconds = ceil(wait)
            response = form(target, 429, f"Too many wrong logins: wait {seconds} s.")
            response.headers["retry-after"] = str(seconds)
            return response
        if wait < 0:
            return form(target, 401, WRONG[by_token])
        response = RedirectResponse(target, 303)
        await door.admit(request, response)
        return response

    async def leave(_: Request, __: Session) -> Response:
        response = RedirectResponse("/login", 303)
        door.forget(response)
        return response

    async def either(request: Request) -> Response:
        return await (enter(request) if request.method == "POST" else ask(request))

    return [door.anyone("/login", either, (*READ, "POST")), door.actor("/logout", leave)]
