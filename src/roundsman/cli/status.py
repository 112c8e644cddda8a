"""Commands that show the content of the store: status, events, unread."""

import json
from collections.abc import AsyncIterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Annotated

import typer

from roundsman import config as configuration
from roundsman.cli.app import (
    ConfigPath,
    Json,
    Named,
    app,
    known_sources,
    printer,
    reading,
    store_of,
    when,
    writing,
)
from roundsman.masking import safe

if TYPE_CHECKING:
    from roundsman.events import Event
    from roundsman.store import Desk, Filter, Memory, UnreadItem, View

FOLLOW_EVERY = 0.3
"""Seconds between two checks for new events; `status --watch` waits three times as long."""


@app.command()
def status(
    config: ConfigPath = None,
    as_json: Json = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Print it again every second, until Ctrl-C.")
    ] = False,
) -> None:
    """Show each source and each sink: the last visit, the next one, failures, and events that wait.

    Tables on a terminal, elsewhere lines with key=value.

    More: `roundsman help runbook`.
    """
    import asyncio

    from roundsman import screen
    from roundsman.errors import ConfigError
    from roundsman.plugin import Source

    path = configuration.find(config)
    store = configuration.store_of(path)
    filters, there = configuration.filters(path), configuration.names(path)

    @cache  # each search reads the metadata of all installed packages
    def class_of(kind: str) -> type[Source]:
        try:
            return configuration.source_class(kind)
        except ConfigError:  # a type that is not installed any more
            return Source

    def following(kind: str, memory: "Memory") -> Sequence[str]:
        try:
            followed = class_of(kind).following(memory.state)
        except ValueError:  # a later version's state
            return memory.ids
        return [*followed, *memory.ids]

    def gap(kind: str, memory: "Memory") -> str | None:
        source = class_of(kind)
        try:
            since = source.gap(memory.state)
        except ValueError:
            return None
        return since if since or source.gap.__func__ is Source.gap.__func__ else ""  # type: ignore[attr-defined]

    console = screen.console()

    async def show(view: "View") -> None:
        if watch and console is not None and not as_json:
            from rich.live import Live

            with Live(console=console, screen=False, auto_refresh=False) as live:
                while True:
                    found = await screen.status(view, filters, following, there, gap)
                    live.update(screen.status_tables(found), refresh=True)
                    await asyncio.sleep(FOLLOW_EVERY * 3)
        while True:
            found = await screen.status(view, filters, following, there, gap)
            if as_json:
                print(json.dumps(found, indent=None if watch else 2), flush=True)
            elif console is not None:
                console.print(screen.status_tables(found))
            else:
                print(*screen.status_lines(found), sep="\n", flush=True)
            if not watch:
                return
            await asyncio.sleep(FOLLOW_EVERY * 3)

    reading(store, show)


@app.command()
def events(
    config: ConfigPath = None,
    follow: Annotated[
        bool, typer.Option("-f", "--follow", help="Go on with new events, until Ctrl-C.")
    ] = False,
    count: Annotated[
        int | None,
        typer.Option("-n", metavar="N", help="How many events. Default: 20; with --since: all.", min=0),
    ] = None,
    source: Annotated[
        list[str] | None,
        typer.Option(
            "--source",
            metavar="SOURCE",
            help="Only events of this source; a glob is allowed. Can be repeated.",
        ),
    ] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option(
            "--type",
            metavar="TYPE",
            help="Only events of this type, also in the short form that is printed; a glob is allowed. Can be repeated.",
        ),
    ] = None,
    outcome: Annotated[
        list[str] | None,
        typer.Option(
            "--outcome",
            metavar="OUTCOME",
            help="Only events with this outcome; a glob is allowed. Can be repeated.",
        ),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            "--since",
            metavar="WHEN",
            help='Only what was logged since then: a date-time, or "2h" for two hours ago.',
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Print events of the log, and follow it with -f."""
    import asyncio

    from roundsman.store import Filter

    store = store_of(config)
    # Short names as the output shows them match, too: batch.completed of any vendor.
    matching = Filter([*(kind or ()), *(f"*.{each}" for each in kind or ())], source or (), outcome or ())
    start = when(since).timestamp() if since else 0.0
    show = printer(as_json)

    async def print_log(view: "View") -> None:
        await known_sources(view, source or ())
        at = await view.head()
        async for event in _last(view, count, matching, start, since is not None, at):
            show(event)
        while follow:
            await asyncio.sleep(FOLLOW_EVERY)
            head = await view.head()
            while found := await view.events(at, head, 500, matching):
                for event, _ in found:
                    show(event)
                at = found[-1][0].seq
            at = head

    reading(store, print_log)


async def _last(
    view: "View", count: int | None, matching: "Filter", start: float, ranged: bool, head: int
) -> "AsyncIterator[Event]":
    if count is None and ranged:
        at = await view.seq_since(start)
        while found := await view.events(at, head, 500, matching):
            for event, logged in found:
                if logged >= start:
                    yield event
            at = found[-1][0].seq
    else:
        for event, _ in await view.last(20 if count is None else count, matching, start):
            yield event


@app.command()
def unread(
    source: Named,
    config: ConfigPath = None,
    as_json: Json = False,
    drop: Annotated[bool, typer.Option("--drop", help="Delete them.")] = False,
) -> None:
    """List the webhooks and rows of a source that could not be read. With --json: their content, too.

    More: `roundsman help unread`.
    """
    from roundsman import screen

    if drop:

        async def forget(desk: "Desk") -> int:
            await known_sources(desk, [source])
            return await desk.drop_unread(source, None)

        print(f"{source}: {writing(config, forget)} dropped")
        return

    async def found(view: "View") -> "list[UnreadItem]":
        await known_sources(view, [source])
        return await view.unread(source)

    items = reading(store_of(config), found)
    if as_json:
        shown = [
            {
                **each._asdict(),
                "received": screen.stamp(each.received),
                "body": each.body.decode("utf-8", "replace"),
            }
            for each in items
        ]
        print(json.dumps(shown, indent=2))
        return
    for each in items:
        print(safe(f"{each.n}  {screen.stamp(each.received)}  {len(each.body)} bytes: {each.why}"))
