"""The root command, and what all commands share: options, error output, the store."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, NoReturn

import structlog
import typer

import roundsman
from roundsman import config as configuration
from roundsman.config.load import Config
from roundsman.errors import ConfigError
from roundsman.events import Event
from roundsman.masking import mask
from roundsman.options.values import counted, duration, moment
from roundsman.store import DAEMON, Reader, Store
from roundsman.system import logs

app = typer.Typer(
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,  # they show local variables, which may hold secrets
    rich_markup_mode=None,
    help="Polls what only answers questions, and tells each new thing once.",
)

Named = Annotated[str, typer.Argument(metavar="SOURCE", help="Its name in the configuration.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]


def complain(*lines: str) -> None:
    """Print the lines to standard error; if that is the journal, write them as one log entry instead."""
    if logs.on_journal():
        logs.configure("info", "json")
        structlog.get_logger().error("command.failed", problems=[logs.safe(mask(line)) for line in lines])
        return
    for line in lines:
        print(logs.safe(mask(line)), file=sys.stderr)


def complain_of(exc: ConfigError) -> None:
    where = [f"{exc.path}: {counted(len(exc.problems), 'mistake')}"] if exc.path else []
    complain(*where, *exc.problems)


def fail(message: str, status: int = 1) -> NoReturn:
    complain(message)
    raise typer.Exit(status)


def _told(ctx: typer.Context, path: Path | None) -> Path | None:
    """Warn about each configuration file that `find` skips."""
    for line in () if path or ctx.resilient_parsing else configuration.passed_over():
        complain(f"warning: {line}")
    return path


def config_option(default: str, callback: Callable[..., Path | None] | None = None) -> Any:
    # readable=False: `load`, not typer, reports a file that cannot be read, like all other mistakes.
    return typer.Option(
        "--config", "-c", help=f"The configuration. Default: {default}.", readable=False, callback=callback
    )


ConfigPath = Annotated[
    Path | None,
    config_option(
        "$ROUNDSMAN_CONFIG, ./roundsman.toml, ~/.config/roundsman/roundsman.toml, /etc/roundsman/roundsman.toml",
        _told,
    ),
]


def _version(wanted: bool) -> None:
    if wanted:
        print(f"roundsman {roundsman.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def known_sources(reader: Reader, names: Sequence[str]) -> None:
    """Fail if a name without globs is not a source's: a typo must not look like an empty result."""
    there = [row["name"] for row in reader.sources()]
    for name in names:
        if name not in (*there, DAEMON) and not set(name) & set("*?["):
            fail(f"{name}: no such source; there is {', '.join(there) or 'none yet'}", 2)


def known_sink(reader: Reader, sink: str) -> None:
    names = [row["name"] for row in reader.sinks()]
    if sink not in names:
        fail(f"{sink}: no such sink; there is {', '.join(names) or 'none yet'}", 2)


def when(text: str) -> datetime:
    """A date-time, or the time a duration ago."""
    try:
        return datetime.fromtimestamp(time.time() - duration(text), UTC)
    except ValueError:
        pass
    try:
        return moment(text)
    except ValueError:
        fail(f'{text}: is neither a date-time such as "2026-05-01T00:00:00Z" nor a duration such as "2h"', 2)


@contextmanager
def reading(config: Config) -> Iterator[Reader]:
    reader = Reader.open(config.store)
    try:
        yield reader
    finally:
        reader.close()


@contextmanager
def writing(path: Path | None) -> Iterator[Store]:
    loaded = configuration.load(configuration.find(path), only_daemon=True)
    store = Store.open(loaded.store, daemon=False)
    try:
        yield store
    finally:
        store.close()


def printer(as_json: bool) -> Callable[[Any], None]:
    from roundsman import screen

    console = None if as_json else screen.console()

    def show(event: Event) -> None:
        if not event.sound:
            complain(f"#{event.seq}: cannot be read: the store is damaged")
        elif console is None:
            # JSON is UTF-8, whatever the terminal's encoding.
            sys.stdout.flush()
            sys.stdout.buffer.write(event.body + b"\n")
            sys.stdout.buffer.flush()
        else:
            screen.show_event(event, console)

    return show
