"""The commands. Results on standard output, complaints on standard error; 0 fine, 1 it failed, 2 it was asked wrongly."""

import os
import sys

import roundsman.lean  # isort: skip # noqa: F401 - before anything else imports these libraries
from roundsman.cli import setup, running, looking, steering, keeping, hooks, service  # isort: skip - the order of --help
from roundsman.cli.app import app, complain
from roundsman.config import ConfigError
from roundsman.plugin import reason
from roundsman.settings import counted
from roundsman.store import StoreError

__all__ = ["hooks", "keeping", "looking", "main", "running", "service", "setup", "steering"]


def main() -> None:
    """The `roundsman` command."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:  # closed by whoever started us: a socket or the store must not get its number
            os.open(os.devnull, os.O_RDWR)
    try:
        app()
    except ConfigError as exc:
        where = [f"{exc.path}: {counted(len(exc.problems), 'mistake')}"] if exc.path else []
        complain(*where, *exc.problems)
        sys.exit(2)
    except StoreError as exc:
        complain(str(exc))
        sys.exit(1)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # whoever read has enough
    except OSError as exc:
        complain(reason(exc))
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
