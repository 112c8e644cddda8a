"""Commands that show the content of the store: status, events, unread."""

import json
import sys
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from roundsman import config as configuration
from roundsman.cli.app import (
    ConfigPath,
    Json,
    Named,
    Since,
    Sources,
    Utc,
    app,
    complain,
    known_kinds,
    known_sources,
    printer,
    reading,
    store_of,
    when,
    writing,
)
from roundsman.cli.layout import App
from roundsman.masking import safe

if TYPE_CHECKING:
    from roundsman.events import Event
    from roundsman.store import Desk, Filter, Place, UnreadItem, View

FOLLOW_EVERY = 0.3
"""Seconds between two checks for new events; `status --watch` waits three times as long."""

events_app = App(help="Print events of the log, and follow it with -f. `events show` prints one event whole.")
app.add_typer(events_app, name="events")


@app.command()
def status(
    config: ConfigPath = None,
    as_json: Json = False,
    watch: Annotated[bool, typer.Option("--watch", help="Show it again every second, until Ctrl-C.")] = False,
    utc: Utc = False,
) -> None:
    """Show each source and each sink: the last visit, the next one, failures, and events that wait.

    Tables on a terminal, elsewhere lines with key=value. With --watch on a terminal: the whole window, with a clock; it
    waits for the first start of a daemon.

    More: `roundsman help runbook`.
    """
    import asyncio

    from roundsman import screen
    from roundsman.config.current import Current
    from roundsman.screen.states import States

    current = Current(configuration.find(config))
    states = States(configuration.source_class)
    console = screen.console(utc=utc)

    async def look(view: "View") -> dict[str, Any]:
        return await screen.status(
            view,
            current.filters,
            states.following,
            current.names,
            states.gap,
            states.progress,
            current.worker,
        )

    if watch and console is not None and not as_json and sys.stdout.isatty():
        from roundsman.cli.watching import watch_status

        asyncio.run(watch_status(current, console, look))

    async def show(view: "View") -> None:
        store = current.store
        while store == current.store:
            found = await look(view)
            if as_json:
                print(json.dumps(found, indent=None if watch else 2), flush=True)
            elif console is not None:
                print(*screen.status_tables(found, console), sep="\n", flush=True)
            else:
                print(*screen.status_lines(found), sep="\n", flush=True)
            if not watch:
                return
            await asyncio.sleep(FOLLOW_EVERY * 3)
            current.renew()

    reading(current.store, show)
    while watch:  # the configuration names another store now
        reading(current.store, show)


@events_app.callback(invoke_without_command=True)
def events(
    context: typer.Context,
    config: ConfigPath = None,
    follow: Annotated[
        bool, typer.Option("-f", "--follow", help="Go on with new events, until Ctrl-C.")
    ] = False,
    count: Annotated[
        int | None,
        typer.Option("-n", metavar="N", help="How many events. Default: 20; with --since: all.", min=0),
    ] = None,
    source: Sources = None,
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
    since: Since = None,
    as_json: Json = False,
    utc: Utc = False,
) -> None:
    """`roundsman events`: the newest ones, the oldest of them first."""
    if context.invoked_subcommand is not None:
        return
    import asyncio

    from roundsman.store import Filter

    store = store_of(config)
    # Short names as the output shows them match, too: batch.completed of any vendor.
    matching = Filter([*(kind or ()), *(f"*.{each}" for each in kind or ())], source or (), outcome or ())
    start = when(since).timestamp() if since else 0.0
    show, filtered = printer(as_json, utc=utc), bool(source or kind or outcome or since)

    async def print_log(view: "View") -> None:
        await known_sources(view, source or ())
        await known_kinds(view, config, kind or (), outcome or ())
        at, shown = await view.head(), 0
        async for event in _last(view, count, matching, start, since is not None, at):
            show(event)
            shown += 1
        if not shown and count != 0 and (not follow or sys.stderr.isatty()):
            complain(_nothing(at, view.place, filtered=filtered))
        while follow:
            await asyncio.sleep(FOLLOW_EVERY)
            head = await view.head()
            while found := await view.events(at, head, 500, matching):
                for event, _ in found:
                    show(event)
                at = found[-1][0].seq
            at = head

    reading(store, print_log)


def _nothing(head: int, store: "Place", *, filtered: bool) -> str:
    """Why no event is shown. `head`: the last number of the log."""
    from roundsman.store import holder

    if head and filtered:
        return "no event matches"
    if head:
        return "no event is left: all were pruned"
    if holder(store) is None:
        return "no events yet: no daemon runs; `roundsman run` starts one"
    return "no events yet: `roundsman status` shows when each source is visited next"


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
    utc: Utc = False,
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
    console = screen.console(utc=utc)
    rows = []
    for each in items:
        what = f"{len(each.body)} bytes: {each.why}"
        if console is None:
            print(safe(f"{each.n}  {screen.stamp(each.received)}  {what}"))
        else:
            rows.append(screen.Row([str(each.n), console.clock(each.received)], safe(what)))
    if console is not None and rows:
        print(*console.rows(rows), sep="\n")
    if not items:
        complain(f"{source}: nothing is unread: every webhook and every row could be read")
