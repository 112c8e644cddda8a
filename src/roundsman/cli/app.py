"""The root command, and what all commands share: options, error output, the store."""

import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TextIO, TypeVar

import typer

import roundsman
from roundsman import config as configuration
from roundsman.cli.layout import App
from roundsman.masking import mask, safe
from roundsman.system import logs

if TYPE_CHECKING:
    from roundsman.errors import ConfigError
    from roundsman.events import Event
    from roundsman.store import Desk, Place, View

app = App(
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,  # they show local variables, which may hold secrets
    help="Poll SaaS APIs, and report each new event once. `roundsman help` lists the pages of the documentation.",
)

T = TypeVar("T")

Named = Annotated[str, typer.Argument(metavar="SOURCE", help="The name of a source in the configuration.")]
NamedSink = Annotated[str, typer.Argument(metavar="SINK", help="The name of a sink in the configuration.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
Sources = Annotated[
    list[str] | None,
    typer.Option(
        "--source",
        metavar="SOURCE",
        help="Only events of this source; a glob is allowed. Can be repeated.",
    ),
]
Since = Annotated[
    str | None,
    typer.Option(
        "--since",
        metavar="WHEN",
        help='Only what was logged since then: a date-time, or "2h" for two hours ago.',
    ),
]
Utc = Annotated[bool, typer.Option("--utc", help="Show times in UTC. Default on a terminal: the local time.")]


def complain(*lines: str) -> None:
    """Print the lines to standard error; if that is the journal, write them as one log entry instead."""
    if logs.on_journal():
        import structlog

        logs.configure("info", "json")
        structlog.get_logger().error("command.failed", problems=[safe(mask(line)) for line in lines])
        return
    for line in lines:
        print(_fitted(safe(mask(line)), sys.stderr), file=sys.stderr)


def say(text: str, *, flush: bool = False) -> None:
    """Print a sentence to standard output, on a terminal in lines that fit."""
    print(_fitted(safe(text), sys.stdout), flush=flush)


def _fitted(line: str, stream: "TextIO | None") -> str:
    if stream is None or not stream.isatty():
        return line
    from roundsman.terminal.terminal import fitted

    return fitted(line, stream)


def complain_of(exc: "ConfigError") -> None:
    from roundsman.options.values import counted

    where = [f"{exc.path}: {counted(len(exc.problems), 'mistake')}"] if exc.path else []
    complain(*where, *exc.problems)


def fail(message: str, status: int = 1) -> NoReturn:
    complain(message)
    raise typer.Exit(status)


def _warn_of_skipped(ctx: typer.Context, path: Path | None) -> Path | None:
    """Warn about each configuration file that `find` skips."""
    for line in () if path or ctx.resilient_parsing else configuration.passed_over():
        complain(f"warning: {line}")
    return path


def config_option(default: str, callback: Callable[..., Path | None] | None = None) -> Any:
    # readable=False: `load`, not typer, reports a file that cannot be read, like all other mistakes.
    return typer.Option(
        "--config",
        "-c",
        metavar="FILE",
        help=f"The configuration file. Default: {default}.",
        readable=False,
        callback=callback,
    )


ConfigPath = Annotated[
    Path | None,
    config_option(
        "$ROUNDSMAN_CONFIG, else the first that exists of ./roundsman.toml, ~/.config/roundsman/roundsman.toml and "
        "/etc/roundsman/roundsman.toml",
        _warn_of_skipped,
    ),
]


def _version(requested: bool) -> None:
    if requested:
        print(f"roundsman {roundsman.__version__}")
        raise typer.Exit


WITH_HTTP = frozenset(
    {
        "run",
        "once",
        "poll",
        "demo",
        "check",
        "hooks",
        "rewind",
        "schema",
        "plugins",
        "sandbox",
        "notify-test",
        "doctor",
    }
)
"""Commands that import an HTTP library: they make requests, or read all options."""


@app.callback()
def _root(
    context: typer.Context,
    version: Annotated[  # noqa: ARG001 - its callback acts on it
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    if context.invoked_subcommand in WITH_HTTP:
        from roundsman.cli import slim_imports  # noqa: F401 - before anything else imports these libraries


async def known_sources(view: "View", names: Sequence[str]) -> None:
    """Fail if a name is not a source's, or a glob matches none: a typo must not look like an empty result."""
    from fnmatch import fnmatchcase

    from roundsman.store import DAEMON

    there = [entry.name for entry in await view.sources()]
    for name in names:
        if not any(fnmatchcase(each, name) for each in (*there, DAEMON)) and name not in there:
            what = "matches no source" if set(name) & set("*?[") else "no such source"
            fail(f"{name}: {what}; there is {', '.join(there) or 'none yet'}", 2)


async def known_kinds(
    view: "View", config: Path | None, types: Sequence[str], outcomes: Sequence[str]
) -> None:
    """Fail if a type or an outcome, or a glob, is unknown to the schema, the configuration and the log.

    A warning instead if the configuration has a source of a plugin, which may report it one day.
    """
    if not types and not outcomes:
        return
    from roundsman.config.document import read
    from roundsman.config.vocabulary import of_document
    from roundsman.store import Filter

    words = of_document(read(configuration.find(config)).tables)
    asked = [
        ("event type", each, words.unknown_type(each, shortened=True), Filter([each, f"*.{each}"], (), ()))
        for each in types
    ]
    asked += [("outcome", each, words.unknown_outcome(each), Filter((), (), [each])) for each in outcomes]
    for noun, each, hint, wanted in asked:
        if hint is None or await view.last(1, wanted):
            continue
        message = f"{each}: {f'matches no {noun}' if set(each) & set('*?[') else f'no such {noun}'}{hint}"
        if not words.is_open:
            fail(message, 2)
        complain(f"warning: {message}")


async def known_sink(view: "View", sink: str) -> None:
    names = [entry.name for entry in await view.sinks()]
    if sink not in names:
        fail(f"{sink}: no such sink; there is {', '.join(names) or 'none yet'}", 2)


def when(text: str) -> datetime:
    """A date-time such as `2026-05-01T00:00:00Z`, or a duration such as `2h`: that long ago."""
    from roundsman.options.values import duration, moment

    try:
        return datetime.fromtimestamp(time.time() - duration(text), UTC)
    except ValueError:
        pass
    try:
        return moment(text)
    except ValueError:
        fail(f'{text}: is neither a date-time such as "2026-05-01T00:00:00Z" nor a duration such as "2h"', 2)


def store_of(path: Path | None) -> "Place":
    """The store of this configuration, or of the one that is found."""
    return configuration.store_of(configuration.find(path))


def reading(store: "Place", work: "Callable[[View], Awaitable[T]]") -> T:
    """Read the store, beside a daemon or without one."""
    from roundsman.store import open_view

    async def read() -> T:
        view = await open_view(store)
        try:
            return await work(view)
        finally:
            await view.close()

    return _run(read())


def writing(path: Path | None, work: "Callable[[Desk], Awaitable[T]]") -> T:
    """Write into the store beside a daemon, which reads the change."""
    from roundsman.store import open_desk

    store = store_of(path)

    async def write() -> T:
        desk = await open_desk(store)
        try:
            return await work(desk)
        finally:
            await desk.close()

    return _run(write())


def _run(work: Coroutine[Any, Any, T]) -> T:
    import asyncio

    return asyncio.run(work)


def printer(as_json: bool, *, utc: bool = False) -> Callable[[Any], None]:
    from roundsman import screen

    console = None if as_json else screen.console(utc=utc)

    def show(event: "Event") -> None:
        if not event.sound:
            complain(f"#{event.seq}: cannot be read: the store is damaged")
        elif as_json:
            # JSON is UTF-8, also on a terminal with another encoding.
            sys.stdout.flush()
            sys.stdout.buffer.write(event.body + b"\n")
            sys.stdout.buffer.flush()
        else:
            screen.show_event(event, console)

    return show
