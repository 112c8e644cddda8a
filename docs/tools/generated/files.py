"""files.md, from the catalog of places."""

from collections.abc import Iterator

from generated.markdown import code, document, item, items, link, prose, wrapped
from roundsman.service.layout import BESIDE_FILE, BESIDE_STORE, ELSEWHERE, INSTALLATIONS, Installation, Place

INTRODUCTION = """
What is where, for each way to install Roundsman. Owner and mode are named where Roundsman, its units or the package
set them. [`[daemon]`](configuration.md#daemon) and the sinks can name other places.
"""


def page() -> str:
    return document(
        "Files",
        prose(INTRODUCTION),
        *(part for name, each in INSTALLATIONS.items() for part in _installation(name, each)),
        "## Beside the store",
        wrapped(
            f"Added to the name of the store, such as `roundsman.db{next(iter(BESIDE_STORE))}`. The mode is 0600."
        ),
        items((code(end), what) for end, what in BESIDE_STORE.items()),
        "## Beside the file of a sink",
        wrapped(
            "Beside `events.jsonl`, with the mode of the sink. DAY is a date, NNNN a number from 0001 on."
        ),
        items((code(name), what) for name, what in BESIDE_FILE.items()),
        "## Other files",
        items((name if "`" in name else code(name), what) for name, what in ELSEWHERE.items()),
    )


def _installation(name: str, each: Installation) -> Iterator[str]:
    yield f"## {name}"
    yield wrapped(f"{each.how} Read: {link(each.page)}.")
    yield "\n\n".join(map(_place, each.places))


def _place(place: Place) -> str:
    owner = f" Owner: {place.owner}." if place.owner else ""
    mode = f" Mode: {place.mode}." if place.mode else ""
    return item(code(place.path), f"{place.what}{owner}{mode}")
