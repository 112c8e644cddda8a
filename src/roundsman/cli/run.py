"""Commands that visit: run, once, poll, demo."""

import signal
from collections.abc import Sequence
from time import sleep
from typing import Annotated, Any

import typer

from roundsman import config as configuration
from roundsman.cli.app import ConfigPath, Json, app, complain, complain_of, fail, printer
from roundsman.config.load import Config
from roundsman.errors import ConfigError, reason
from roundsman.options.values import duration
from roundsman.plugin import polls
from roundsman.store import Reader, exists
from roundsman.system import logs
from roundsman.times import spell

BEFORE_NEXT = 5.0
"""Seconds between two starts with a wrong configuration: the unit's RestartSec, which does not count for starts by a socket."""


@app.command()
def run(config: ConfigPath = None) -> None:
    """Run the daemon. SIGTERM and SIGINT stop it, SIGHUP reloads the configuration."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # it would end us, until there is somebody to take it
    from roundsman.service import service, systemd

    try:
        loaded = configuration.load(configuration.find(config))
    except ConfigError as exc:
        if not systemd.handed_over():
            raise
        # Whoever waits in systemd's socket has it start us again at once.
        complain_of(exc)
        sleep(BEFORE_NEXT)
        raise typer.Exit(2) from None
    raise typer.Exit(service.run(lambda: service.daemon(loaded)))


@app.command()
def once(
    config: ConfigPath = None,
    now: Annotated[bool, typer.Option("--now", help="Visit every source, due or not.")] = False,
) -> None:
    """Visit every source that is due, deliver, and end; for cron."""
    from roundsman.service import service

    loaded = configuration.load(configuration.find(config))
    raise typer.Exit(service.run(lambda: service.once(loaded, everything=now)))


@app.command()
def poll(
    source: Annotated[str, typer.Argument(help="Its name in the configuration.")],
    config: ConfigPath = None,
    as_json: Json = False,
) -> None:
    """Visit one source dry: print the events it would emit, commit nothing."""
    from roundsman.service import service

    loaded = configuration.load(configuration.find(config), only_source=source)
    logs.configure("warning", loaded.daemon.log_format)
    raise typer.Exit(service.run(lambda: _poll(loaded, source, as_json)))


async def _poll(config: Config, name: str, as_json: bool) -> int:
    from roundsman.http.client import Http
    from roundsman.service.service import web

    connections, source, seen = web(config.http), config.sources[name], set[str]()
    reader = Reader.open(config.store) if exists(config.store) else None

    def known(ids: Sequence[str]) -> set[str]:
        return reader.known(name, ids) if reader else set()

    http = Http(connections, source.auth(), source.identity(), known, source.concurrency)
    show = printer(as_json)
    told, rest = 0, 0.0
    try:
        state: Any = reader.state(name)[0] if reader else {}
        if reader and (ids := reader.inbox(name)[0]):
            state = source.follow(state, ids)
        more = True
        while more:
            more = False
            async for visit in polls(source, http, state):
                ids = [event.id for event in visit.events]
                there = known(ids)
                for event in visit.events:
                    if event.id not in there and event.id not in seen:
                        show(event)
                        told += 1
                for remark in visit.remarks:
                    complain(f"{name}: {remark}")
                # What brings neither events nor a new state would bring the same again, without end.
                more = visit.more and bool(visit.events or visit.state != state)
                # Only the last page's ids: pages overlap, and memory is bounded by a page.
                seen, state = set(ids), visit.state
            if http.wait:
                rest, more = http.wait, False
    except Exception as exc:  # noqa: BLE001 - a plugin may raise anything
        complain(f"sources.{name}: {reason(exc)}")
        return 1
    finally:
        await connections.aclose()
        if reader:
            reader.close()
    if rest:
        complain(f"{name}: the vendor wants a rest of {spell(rest)}; what is behind that was not read")
    if not told and not rest:
        first = "" if reader else ' (a first visit with start = "now" only marks where now is)'
        complain(f"{name}: nothing new{first}")
    return 0


@app.command()
def demo(
    length: Annotated[
        str | None, typer.Option("--for", help='How long, such as "30s"; until Ctrl-C without.')
    ] = None,
) -> None:
    """Run the daemon against a made-up company at three vendors on this machine, and show events as they come."""
    from roundsman.demo import demo as show
    from roundsman.service import service

    try:
        seconds = duration(float(length) if length.isdecimal() else length) if length is not None else None
    except ValueError as exc:
        fail(f"--for: {length} {exc}", 2)
    raise typer.Exit(service.run(lambda: show(seconds)))
