"""The program: `roundsman`, and `python -m roundsman`. It imports the commands, and ends without a word on Ctrl-C meanwhile."""

import os
import signal
import sys
from types import FrameType


def _end(_: int, __: FrameType | None) -> None:
    os._exit(
        130
    )  # nothing was done yet; an exception inside of an import would be printed, or even caught there


def _end_first(number: int, _: FrameType | None) -> None:
    os._exit(128 + number)  # as a shell reports the same signal


def main() -> None:
    """The `roundsman` command."""
    if os.getpid() == 1:
        # In a container. The kernel drops a signal for the first process if that has no handler; the daemon has one later.
        signal.signal(signal.SIGTERM, _end_first)
    if sys.argv[1:2] == ["run"]:
        # It asks the daemon to read its configuration: until the daemon handles it, it would end the process.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
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
