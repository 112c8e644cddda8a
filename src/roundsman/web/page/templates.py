"""The templates of the page and its static files: read once, when the page is first used."""

import hashlib
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined

import roundsman
from roundsman.options.values import counted
from roundsman.web.page import words

STATIC = {"page.css": "text/css", "page.js": "text/javascript", "page.svg": "image/svg+xml"}
"""The files that a page loads, with their types."""


class Static(NamedTuple):
    """A file that a page loads."""

    body: bytes
    kind: str
    path: str
    """Where it is loaded from; another one, if the file is another one."""


@cache
def static() -> dict[str, Static]:
    """Every static file by name."""
    found = {}
    for name, kind in STATIC.items():
        body = (files("roundsman.web.page") / "static" / name).read_bytes()
        version = hashlib.sha256(body).hexdigest()[:12]
        found[name] = Static(body, kind, f"/{name}?v={version}")
    return found


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("roundsman.web.page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
        finalize=words.shown,
    )
    made.filters |= {
        "lasts": words.lasts,
        "number": words.number,
        "percent": words.percent,
        "pretty": words.pretty,
        "short": words.short,
        "counted": counted,
        "path": lambda text: quote(str(text), safe=""),
    }
    paths = {name: each.path for name, each in static().items()}
    made.globals.update(ago=words.ago, clock=words.clock, files=paths, version=roundsman.__version__)
    return made


def render(template: str, **values: Any) -> str:
    """The HTML of a page."""
    return _environment().get_template(template).render(**values)
