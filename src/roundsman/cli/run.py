"""Commands that visit sources: run, once, poll, demo."""

import signal
from contextlib import aclosing
from time import sleep
from typing import TYPE_CHECKING, Annotated

import typer

from roundsman import config as configuration
from roundsman.cli.app import ConfigPath, Json, Named, app, complain, complain_of, fail, printer
from roundsman.errors import ConfigError, reason
from roundsman.system import logs
from roundsman.times import spell

if TYPE_CHECKING:
    from roundsman.config.loading import Config

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

    loaded = configuration.load(configuration.find(config))
    raise typer.Exit(service.run(lambda: service.once(loaded, everything=now)))


@app.command()
def poll(
    source: Named,
    config: ConfigPath = None,
    as_json: Json = False,
    trace: Annotated[
        bool, typer.Option("--trace", help="Also print each request, its answer, and what was found in it.")
    ] = False,
) -> None:
    """Poll one source, and print the events that it would report. Nothing is stored.

    Reads the secrets of this source alone. Works while the daemon runs. Exit status 1: the visit failed.

    More: `roundsman help source-by-toml`.
    """
    from roundsman.service import service

    loaded = configuration.load(configuration.find(config), only_source=source)
    logs.configure("warning", loaded.daemon.log_format)
    raise typer.Exit(service.run(lambda: _poll(loaded, source, as_json, trace)))


async def _poll(config: "Config", name: str, as_json: bool, trace: bool) -> int:
    from roundsman.cli.pauses import pause
    from roundsman.engine.reading import Dry, read, visit_to
    from roundsman.service.service import web
    from roundsman.store import exists, open_view

    clients, source = web(config.http), config.sources[name]
    view = await open_view(config.store) if exists(config.store) else None
    dry = Dry(name, view)
    visit = visit_to(source, clients, log=dry.known)
    if trace:
        from roundsman.cli.trace import Trace

        clients.observer = shown = Trace()
        visit.explain = shown.explain
    show = printer(as_json)
    new = 0
    try:
        if view is not None and (why := await pause(view, source)):
            complain(f"sources.{name}: {why}")
            return 1
        async with aclosing(read(source, visit, dry.remembered)) as steps:
            async for step in steps:
                for event in await dry.keep(step):
                    show(event)
                    new += 1
                for remark in step.poll.remarks:
                    complain(f"{name}: {remark}")
    except Exception as exc:  # noqa: BLE001 - a plugin may raise anything
        complain(f"sources.{name}: {reason(exc)}")
        return 1
    finally:
        await clients.aclose()
        if view:
            await view.close()
    if visit.wait:
        complain(f"{name}: the vendor asks to wait for {spell(visit.wait)}; further rows were not read")
    elif not new:
        first = "" if view else ' (with start = "now", a first visit only stores where to begin)'
        complain(f"{name}: nothing new{first}")
    return 0


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
