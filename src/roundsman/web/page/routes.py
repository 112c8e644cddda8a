"""The paths of the page. None of them is below the path of webhooks."""

from starlette.routing import Route

from roundsman.engine.engine import Engine
from roundsman.options.page import PageOptions
from roundsman.web.page import login, views
from roundsman.web.page.door import Door
from roundsman.web.page.pull import Pull
from roundsman.web.page.status import Status


def routes(engine: Engine, options: PageOptions) -> list[Route]:
    """The routes of the page, behind its door."""
    door = Door(engine, options)
    return [
        *views.routes(engine, door),
        door.reader("/status.json", Status(engine)),
        door.reader("/events", Pull(engine)),
        *login.routes(door),
    ]
