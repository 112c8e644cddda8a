"""The program: `roundsman`, and `python -m roundsman`. It imports the commands, and ends without a word on Ctrl-C meanwhile."""

import os
import signal
from types import FrameType


def _end(_: int, __: FrameType | None) -> None:
    os._exit(
        130
    )  # nothing was done yet; an exception inside of an import would be printed, or even caught there


def main() -> None:
    """The `roundsman` command."""
    interrupts = (
        signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )  # else a parent process ignores them
    if interrupts:
        signal.signal(signal.SIGINT, _end)
    from roundsman.cli import main as commands

    if interrupts:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    commands()


if __name__ == "__main__":
    main()
