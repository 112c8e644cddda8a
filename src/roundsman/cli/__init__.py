"""The commands.

Results go to standard output, errors to standard error. Exit status: 0 success, 1 failure, 2 wrong usage or
configuration.
"""

import io
import os
import sys
import traceback
from types import TracebackType
from typing import Any

import typer

from roundsman.cli import init, check, schema, run, status, event, healthy, failures, control, pausing  # isort: skip - the order of --help
from roundsman.cli import (
    backup,
    doctor,
    forget,
    hooks,
    new,
    notify,
    page,
    pages,
    plugins,
    sandbox,
    service,
    store,
)  # isort: skip - the rest of it
from roundsman.cli.app import app, complain, complain_of
from roundsman.cli.completion import VARIABLE
from roundsman.errors import ConfigError, reason
from roundsman.masking import mask
from roundsman.store import StoreError
from roundsman.system import logs

__all__ = [
    "backup",
    "check",
    "control",
    "doctor",
    "event",
    "failures",
    "forget",
    "healthy",
    "hooks",
    "init",
    "main",
    "new",
    "notify",
    "page",
    "pages",
    "pausing",
    "plugins",
    "run",
    "sandbox",
    "schema",
    "service",
    "status",
    "store",
]

UsageError: Any = typer.BadParameter.__base__
"""click's, or that of the click that newer versions of typer include."""


def _masked(kind: type[BaseException], exc: BaseException, trace: TracebackType | None) -> None:
    """Print a traceback without secrets."""
    sys.stderr.write(mask("".join(traceback.format_exception(kind, exc, trace))))


def main() -> None:
    """The `roundsman` command."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:  # closed by the parent process: a socket or the store must not get its number
            os.open(os.devnull, os.O_RDWR)
    # Python has no stream for a handle that was closed.
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - for as long as the process
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - as above
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # what a terminal cannot show becomes a question mark
    sys.excepthook = _masked
    if VARIABLE in os.environ:
        # typer imports it to remove markup from help texts, which have none: half of the time of a completion.
        sys.modules["rich"] = None  # type: ignore[assignment]
    try:
        # typer prints a usage error on several lines; the journal gets one line (see `complain`).
        sys.exit(app(prog_name="roundsman", standalone_mode=not logs.on_journal()))
    except UsageError as exc:
        complain(exc.format_message())
        sys.exit(2)
    except ConfigError as exc:
        complain_of(exc)
        sys.exit(2)
    except StoreError as exc:
        complain(str(exc))
        sys.exit(1)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the reader has closed the pipe
    except OSError as exc:
        complain(reason(exc))
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
