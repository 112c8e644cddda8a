"""Commands that visit sources: run, once, poll, demo."""

import signal
from contextlib import aclosing
from time import sleep
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from roundsman import config as configuration
from roundsman.cli.app import ConfigPath, Json, Named, app, complain, complain_of, fail, printer, when
from roundsman.errors import ConfigError, reason
from roundsman.system import logs
from roundsman.times import spell

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from roundsman.config.loading import Config
    from roundsman.engine.reading import Dry
    from roundsman.events import Event
    from roundsman.http.exchange import Observer
    from roundsman.plugin import Source, Visit
    from roundsman.store import View

BEFORE_NEXT = 5.0
"""Seconds between two starts with a wrong configuration.

It is the unit's RestartSec, which does not apply to starts by a socket.
"""


@app.command()
def run(config: ConfigPath = None) -> None:
    """Run the daemon. SIGTERM and SIGINT stop it, SIGHUP reloads the configuration.

    Reads all secrets of the configuration. Exit status 1: the store cannot be used, or was deleted or replaced while the
    daemon ran.

    More: `roundsman help systemd`.
    """
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # it would end the process until the daemon handles it
    from roundsman.service import service, systemd

    try:
        loaded = configuration.load(configuration.find(config))
    except ConfigError as exc:
        if not systemd.handed_over():
            raise
        # A connection that waits in systemd's socket makes systemd start the daemon again at once.
        complain_of(exc)
        sleep(BEFORE_NEXT)
        raise typer.Exit(2) from None
    raise typer.Exit(service.run(lambda: service.daemon(loaded)))


@app.command()
def once(
    config: ConfigPath = None,
    now: Annotated[bool, typer.Option("--now", help="Poll every source, due or not.")] = False,
) -> None:
    """Poll every source that is due, deliver, and end. For cron, in place of the daemon.

    Reads all secrets of the configuration. Exit status 1: a visit or a delivery failed. Exit status 130: SIGINT or SIGTERM
    interrupted it.
    """
    from roundsman.service import service
    from roundsman.service.once import once as one_round

    loaded = configuration.load(configuration.find(config))
    raise typer.Exit(service.run(lambda: one_round(loaded, everything=now)))


NO_LIST = "; without ids from `roundsman track` or a webhook, there was nothing to ask for"


class Shown(NamedTuple):
    """How much of a source `poll` shows, and how."""

    since: "datetime | str | None"
    """Where to begin: a time, "beginning", or None for the stored position."""
    limit: int | None
    """Maximum number of events."""
    show: "Callable[[Event], None]"
    trace: bool

    @property
    def is_preview(self) -> bool:
        return self.since is not None or self.limit is not None


@app.command()
def poll(
    source: Named,
    config: ConfigPath = None,
    as_json: Json = False,
    trace: Annotated[
        bool, typer.Option("--trace", help="Also print each request, its answer, and what was found in it.")
    ] = False,
    since: Annotated[
        str | None,
        typer.Option(
            "--since",
            metavar="WHEN",
            help='Show what a source that began then would report: "2h" for two hours ago, a date-time, or "beginning". '
            "Events that the log has are shown, too.",
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            "-n", metavar="NUMBER", min=1, help="End after so many events, without further requests."
        ),
    ] = None,
) -> None:
    """Poll one source, and print the events that it would report. Nothing is stored.

    Reads the secrets of this source alone. Works while the daemon runs, and before it was ever started. With --since or -n,
    the last line says how many requests were made. Exit status 1: the visit failed.

    More: `roundsman help source-by-toml`.
    """
    from roundsman.service import service

    begin = when(since) if since is not None and since != "beginning" else since
    loaded = configuration.load(configuration.find(config), only_source=source)
    logs.configure("warning", loaded.daemon.log_format)
    shown = Shown(begin, limit, printer(as_json), trace)
    raise typer.Exit(service.run(lambda: _poll(loaded, source, shown)))


async def _poll(config: "Config", name: str, shown: Shown) -> int:
    from roundsman.cli.pauses import pause
    from roundsman.cli.preview import Counter, beginning
    from roundsman.engine.reading import Dry, visit_to
    from roundsman.service.service import web
    from roundsman.store import exists, open_view

    clients, source = web(config.http), config.sources[name]
    dry_state = None
    if shown.since is not None:
        source, dry_state = beginning(source, shown.since)
    view = await open_view(config.store) if exists(config.store) else None
    # What is shown since a time includes what the log has.
    dry = Dry(name, view) if dry_state is None else Dry(state=dry_state)
    visit = visit_to(source, clients, log=dry.known)
    inner: Observer = clients.observer
    if shown.trace:
        from roundsman.cli.trace import Trace

        inner = trace = Trace()
        visit.explain = trace.explain
    clients.observer = counter = Counter(inner)
    try:
        if view is not None and (why := await pause(view, source)):
            complain(f"sources.{name}: {why}")
            return 1
        new = await _show(source, visit, dry, shown)
    except Exception as exc:  # noqa: BLE001 - a plugin may raise anything
        complain(f"sources.{name}: {reason(exc)}")
        if shown.is_preview:
            complain(f"{name}: {counter.made}")
        return 1
    finally:
        await clients.aclose()
        if view:
            await view.close()
    if visit.wait:
        complain(f"{name}: the vendor asks to wait for {spell(visit.wait)}; further rows were not read")
    elif not new:
        complain(f"{name}: nothing new{_first(view, shown)}{'' if counter.count else NO_LIST}")
    if shown.is_preview:
        from roundsman.options.values import counted

        complain(f"{name}: {counted(new, 'event')}, {counter.made}; nothing is kept")
    return 0


def _first(view: "View | None", shown: Shown) -> str:
    """What a first visit does, for a person who sees no event."""
    if shown.since is not None:
        return " since then"
    return "" if view else ' (with start = "now", a first visit only stores where to begin)'


async def _show(source: "Source", visit: "Visit", dry: "Dry", shown: Shown) -> int:
    """Show the events of a visit, up to the limit. Returns how many there were."""
    from roundsman.engine.reading import read

    new = 0
    async with aclosing(read(source, visit, dry.remembered)) as steps:
        async for step in steps:
            for remark in step.poll.remarks:
                complain(f"{source.name}: {remark}")
            for event in await dry.keep(step):
                shown.show(event)
                new += 1
                if new == shown.limit:
                    return new
    return new


@app.command()
def demo(
    length: Annotated[
        str | None,
        typer.Option("--for", metavar="DURATION", help='How long, such as "30s". Default: until Ctrl-C.'),
    ] = None,
) -> None:
    """Simulate a company at three vendors on this machine, run the daemon against them, and print events as they come.

    More: `roundsman help install`.
    """
    from roundsman.demo import demo as show
    from roundsman.options.values import duration
    from roundsman.service import service

    try:
        seconds = duration(float(length) if length.isdecimal() else length) if length is not None else None
    except ValueError as exc:
        fail(f"--for: {length} {exc}", 2)
    raise typer.Exit(service.run(lambda: show(seconds)))
