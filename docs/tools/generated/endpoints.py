"""endpoints.md, from the catalog of endpoints."""

from collections.abc import Iterator

from generated.events import collect, fields
from generated.markdown import code, codes, document, item, link, prose, slug, wrapped
from generated.texts import doc
from roundsman.web.endpoints import ENDPOINTS, LIMITS, Endpoint

INTRODUCTION = """
The endpoints of the address in [`[listen]`](configuration.md#listen). Answers are plain text, unless stated otherwise.
Let a proxy pass on `/hooks/` alone to the public. JSON Schemas of the answers in JSON are among the definitions of
`roundsman schema events`.
"""


def page() -> str:
    return document(
        "Endpoints",
        prose(INTRODUCTION),
        *(part for name, endpoint in ENDPOINTS.items() for part in _endpoint(name, endpoint)),
        "## Shapes of answers",
        *(part for shape in shapes() for part in _shape(shape)),
        "## Other requests",
        "\n".join([item("404: another path."), item("400: not a valid HTTP/1.1 request.")]),
        "## Limits",
        "\n".join(map(item, LIMITS)),
    )


def _endpoint(name: str, endpoint: Endpoint) -> Iterator[str]:
    yield f"## {name}"
    yield wrapped(f"{codes(endpoint.methods)} {' or '.join(map(code, endpoint.paths))}")
    yield wrapped(endpoint.what + (f" Read: {link(endpoint.page)}." if endpoint.page else ""))
    if endpoint.shape is not None:
        name = endpoint.shape.__name__
        yield f"Shape: [{name}](#{slug(name)})"
    yield "\n\n".join(item(str(status), when) for status, when in endpoint.answers)


def shapes() -> list[type]:
    """The shapes of answers, each before those that it is made of."""
    found: dict[str, type] = {}
    for endpoint in ENDPOINTS.values():
        if endpoint.shape is not None:
            collect(endpoint.shape, found)
    return list(found.values())


def _shape(shape: type) -> Iterator[str]:
    yield f"### {shape.__name__}"
    yield wrapped(doc(shape))
    yield from fields(shape)
