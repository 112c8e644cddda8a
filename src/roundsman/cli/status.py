"""Commands that show what is in the store: status, events, unread, failures."""

import json
import time
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import typer

from roundsman import config as configuration
from roundsman.cli.app import (
    ConfigPath,
    Json,
    Named,
    app,
    complain,
    fail,
    known_sources,
    printer,
    reading,
    when,
    writing,
)
from roundsman.errors import ConfigError
from roundsman.options.values import counted
from roundsman.store import Filter, Reader
from roundsman.system import logs

FOLLOW_EVERY = 0.3
"""Seconds between two checks for new events; `status --watch` waits three times as long."""

failures_app = typer.Typer(help="What went wrong for whom, over all vendors.")
app.add_typer(failures_app, name="failures")


@app.command()
def status(
    config: ConfigPath = None,
    as_json: Json = False,
    watch: Annotated[bool, typer.Option("--watch", help="Go on showing it.")] = False,
) -> None:
    """Show every source and sink: last visit, last change, next due, failures, what waits."""
    from roundsman import screen

    path = configuration.find(config)
    loaded = configuration.load(path, only_daemon=True)
    try:
        filters = {
            n: Filter(s.types, s.sources, s.outcomes) for n, s in configuration.load(path).sinks.items()
        }
    except ConfigError:  # a secret that only the service can read, say
        filters = {}
    there = configuration.names(path)
    with reading(loaded) as reader:

        def following(name: str, kind: str) -> Sequence[str]:
            try:
                state = configuration.source_class(kind).following(reader.state(name)[0])
            except (
                ConfigError,
                ValueError,
            ):  # a type that is not installed any more, or a later version's state
                return reader.inbox(name)[0]
            return [*state, *reader.inbox(name)[0]]

        def gap(name: str, kind: str) -> str | None:
            try:
                return configuration.source_class(kind).gap(reader.state(name)[0])
            except (ConfigError, ValueError):
                return None

        console = screen.console()
        if watch and console.is_terminal and not as_json:
            from rich.live import Live

            with Live(console=console, screen=False, auto_refresh=False) as live:
                while True:
                    live.update(
                        screen.status_tables(screen.status(reader, filters, following, there, gap)),
                        refresh=True,
                    )
                    time.sleep(FOLLOW_EVERY * 3)
        while True:
            found = screen.status(reader, filters, following, there, gap)
            if as_json:
                print(json.dumps(found, indent=None if watch else 2), flush=True)
            elif console.is_terminal:
                console.print(screen.status_tables(found))
            else:
                print(*screen.status_lines(found), sep="\n", flush=True)
            if not watch:
                return
            time.sleep(FOLLOW_EVERY * 3)


@app.command()
def events(
    config: ConfigPath = None,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on with new ones.")] = False,
    count: Annotated[
        int | None, typer.Option("-n", help="How many; 20 unless --since is given.", min=0)
    ] = None,
    source: Annotated[
        list[str] | None, typer.Option("--source", help="Only of this source; globs, repeatable.")
    ] = None,
    kind: Annotated[
        list[str] | None, typer.Option("--type", help="Only of this type; globs, repeatable.")
    ] = None,
    outcome: Annotated[
        list[str] | None, typer.Option("--outcome", help="Only with this outcome; globs, repeatable.")
    ] = None,
    since: Annotated[
        str | None, typer.Option("--since", help='Logged since: a date-time, or "2h" for two hours ago.')
    ] = None,
    as_json: Json = False,
) -> None:
    """Read the log, or follow it."""
    loaded = configuration.load(configuration.find(config), only_daemon=True)
    # Short names as the output shows them match, too: batch.completed of any vendor.
    wanted = Filter([*(kind or ()), *(f"*.{each}" for each in kind or ())], source or (), outcome or ())
    start = when(since).timestamp() if since else 0.0
    show = printer(as_json)
    with reading(loaded) as reader:
        known_sources(reader, source or ())
        at = reader.head()
        for event in _last(reader, count, wanted, start, since is not None, at):
            show(event)
        version = reader.version()
        while follow:
            time.sleep(FOLLOW_EVERY)
            if (now := reader.version()) == version:
                continue
            version, head = now, reader.head()
            while found := reader.events(at, head, 500, wanted):
                for event, _ in found:
                    show(event)
                at = found[-1][0].seq
            at = head


def _last(
    reader: Reader, count: int | None, wanted: Filter, start: float, ranged: bool, head: int
) -> Iterator[Any]:
    if count is None and ranged:
        at = reader.seq_since(start)
        while found := reader.events(at, head, 500, wanted):
            yield from (event for event, logged in found if logged >= start)
            at = found[-1][0].seq
    else:
        yield from (event for event, _ in reader.last(20 if count is None else count, wanted, start))


@app.command()
def unread(
    source: Named,
    config: ConfigPath = None,
    as_json: Json = False,
    drop: Annotated[bool, typer.Option("--drop", help="Forget them.")] = False,
) -> None:
    """Show webhooks and rows of a source that could not be read; with --json, what they said, too."""
    from roundsman import screen

    if drop:
        with writing(config) as store:
            known_sources(store, [source])
            print(f"{source}: {store.drop_unread(source, None)} dropped")
        return
    loaded = configuration.load(configuration.find(config), only_daemon=True)
    with reading(loaded) as reader:
        known_sources(reader, [source])
        rows = reader.unread(source)
    if as_json:
        shown = [
            {**row, "received": screen.stamp(row["received"]), "body": row["body"].decode("utf-8", "replace")}
            for row in rows
        ]
        print(json.dumps(shown, indent=2))
        return
    for row in rows:
        print(
            logs.safe(f"{row['n']}  {screen.stamp(row['received'])}  {len(row['body'])} bytes: {row['why']}")
        )


@failures_app.callback(invoke_without_command=True)
def failures(
    context: typer.Context,
    config: ConfigPath = None,
    since: Annotated[
        str | None, typer.Option("--since", help='Logged since: a date-time, or "2h" for two hours ago.')
    ] = None,
    source: Annotated[
        list[str] | None, typer.Option("--source", help="Only of this source; globs, repeatable.")
    ] = None,
    count: Annotated[int | None, typer.Option("-n", help="How many, at most.", min=1)] = None,
    everything: Annotated[bool, typer.Option("--all", help="Those that were ticked off, too.")] = False,
    as_json: Json = False,
) -> None:
    """What went wrong for whom, over all vendors, newest first. `failures done ID...` ticks one off."""
    if context.invoked_subcommand is not None:
        return
    from roundsman import screen

    loaded = configuration.load(configuration.find(config), only_daemon=True)
    start = when(since).timestamp() if since else 0.0
    with reading(loaded) as reader:
        known_sources(reader, source or ())
        found = reader.failures(source or (), start, done=everything, limit=-1 if count is None else count)
        left = reader.open_failures()
    rows = [screen.failure(event, logged, done) for event, logged, done in found]
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    console = screen.console()
    for row in rows:
        screen.show_failure(row, console)
    if not rows:
        complain(
            "nothing of that is open"
            if since or source
            else "nothing is open; --all shows what was ticked off"
        )
    elif console.is_terminal and left:
        done = f"roundsman failures done {rows[0]['id']}"
        complain("", f"{counted(left, 'failure')} open; to tick off the first: {done}")


@failures_app.command("done")
def failures_done(
    ids: Annotated[
        list[str] | None, typer.Argument(help="Their numbers, as `failures` shows them; 9-12 for several.")
    ] = None,
    config: ConfigPath = None,
    everything: Annotated[bool, typer.Option("--all", help="All that are open.")] = False,
) -> None:
    """Tick failures off: somebody has seen to them."""
    if not ids and not everything:
        fail("which ones? their numbers, 9-12 for several, or --all", 2)
    numbers: list[int] = []
    for each in ids or ():
        first, dash, last = each.removeprefix("#").partition("-")
        span = [part.removeprefix("#") for part in ((first, last) if dash else (first, first))]
        if not all(part.isascii() and part.isdecimal() and len(part) < 19 for part in span):
            fail(f"{each}: not the number of a failure; `roundsman failures` shows them", 2)
        numbers += range(int(span[0]), min(int(span[1]), int(span[0]) + 100_000) + 1)
    with writing(config) as store:
        if everything:
            numbers += [event.seq for event, _, _ in store.failures()]
        before = store.open_failures()
        done = store.tick_off(numbers)
        left = store.open_failures()
        print(f"{counted(before - left, 'failure')} ticked off, {left} left")
    named = [int(each.removeprefix("#")) for each in ids or () if "-" not in each]
    if missing := [str(number) for number in named if number not in done]:
        fail(f"{', '.join(missing)}: no such failure")
