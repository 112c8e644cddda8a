"""endpoints.md, from the catalog of endpoints."""

from collections.abc import Iterator

from generated.markdown import code, codes, document, item, link, prose, wrapped
from roundsman.web.endpoints import ENDPOINTS, LIMITS, Endpoint

INTRODUCTION = """
The endpoints of the address in [`[listen]`](configuration.md#listen). Answers are plain text. Let a proxy pass on
`/hooks/` alone.
"""


def page() -> str:
    return document(
        "Endpoints",
        prose(INTRODUCTION),
        *(part for name, endpoint in ENDPOINTS.items() for part in _endpoint(name, endpoint)),
        "## Other requests",
        "\n".join([item("404: another path."), item("400: not a valid HTTP/1.1 request.")]),
        "## Limits",
        "\n".join(map(item, LIMITS)),
    )


def _endpoint(name: str, endpoint: Endpoint) -> Iterator[str]:
    yield f"## {name}"
    yield wrapped(f"{codes(endpoint.methods)} {' or '.join(map(code, endpoint.paths))}")
    yield wrapped(endpoint.what + (f" Read: {link(endpoint.page)}." if endpoint.page else ""))
    yield "\n\n".join(item(str(status), when) for status, when in endpoint.answers)
