"""`roundsman events show`: one event of the log, whole."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from roundsman import config as configuration
from roundsman.cli.app import ConfigPath, Json, Utc, fail, reading
from roundsman.cli.status import events_app

if TYPE_CHECKING:
    from roundsman.store import View

LONGEST = 18
"""Maximum digits of a number."""


@events_app.command("show")
def events_show(
    number: Annotated[
        str,
        typer.Argument(
            metavar="NUMBER",
            help="The number of the event, as `roundsman events`, `failures` and `dead list` print it on a terminal: 833 or '#833'.",
        ),
    ],
    config: ConfigPath = None,
    as_json: Json = False,
    utc: Utc = False,
) -> None:
    """Show one event whole: its data, what brought it, what was done with a failure, and which sinks have it.

    A sink that was added later, or whose filter was another one then, counts as having it: the log keeps one position
    for each sink. Exit status 1: the log has no such event, or its content was pruned.
    """
    from roundsman import screen
    from roundsman.screen.whole import whole, whole_lines
    from roundsman.store import Filter

    digits = number.removeprefix("#")
    if not (digits.isascii() and digits.isdecimal() and len(digits) <= LONGEST):
        fail(
            f"{number}: is not the number of an event; `roundsman events` shows the numbers on a terminal", 2
        )
    seq, path = int(digits), configuration.find(config)
    store, (_, sinks) = configuration.store_of(path), configuration.names(path)
    filters = configuration.filters(path)

    async def find(view: "View") -> "tuple[dict[str, Any] | None, list[Any], int]":
        there = await view.events(seq - 1, seq, 1, Filter())
        if there and not there[0][0].sound:
            fail(f"#{seq}: cannot be read: the store is damaged")
        return await whole(view, seq, filters, sinks), there, await view.head()

    found, there, head = reading(store, find)
    if found is None:
        last = f"the last number is {head}" if head else "the log is empty"
        fail(f"#{seq}: " + (f"no event has this number; {last}" if seq > head or not seq else "was pruned"))
    if as_json:
        print(json.dumps(found, indent=2))
        return
    event, _ = there[0]
    print(*whole_lines(found, event, screen.console(utc=utc)), sep="\n")
