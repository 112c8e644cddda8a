"""The alternate screen of a terminal: a picture that is drawn again and again, and leaves the terminal as it was."""

import os
import signal
import sys
import termios
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

ENTER, LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
"""The other screen without a cursor; and back (xterm's control sequences, which all terminals of today know)."""
ENDING = (signal.SIGTERM, signal.SIGHUP)

Draw = Callable[[Sequence[str]], None]


@contextmanager
def alternate() -> Iterator[Draw]:
    """The function that draws lines which fit the terminal. What is typed meanwhile is not shown."""
    before = _without_echo()

    def leave() -> None:
        _write(LEAVE)
        _restore(before)

    def end(number: int, _: FrameType | None) -> None:
        leave()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    def suspend(number: int, _: FrameType | None) -> None:
        end(number, None)  # it goes on here once the shell continues it
        signal.signal(number, suspend)
        _without_echo()
        _write(ENTER)

    handlers: dict[int, Any] = {number: signal.signal(number, end) for number in ENDING}
    handlers[signal.SIGTSTP] = signal.signal(signal.SIGTSTP, suspend)
    _write(ENTER)
    try:
        yield _draw
    finally:
        leave()
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _draw(lines: Sequence[str]) -> None:
    # Each line erases what was right of it, and the last one what was below: the picture does not flicker.
    _write("\x1b[H" + "\x1b[K\r\n".join(lines) + "\x1b[K\x1b[J")


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _without_echo() -> list[Any] | None:
    """Turn off the echo of what is typed. Returns the settings before; None if standard input is no terminal."""
    with suppress(termios.error, ValueError, OSError):
        before = termios.tcgetattr(0)
        after = termios.tcgetattr(0)
        after[3] &= ~termios.ECHO
        termios.tcsetattr(0, termios.TCSADRAIN, after)
        return before
    return None


def _restore(before: list[Any] | None) -> None:
    if before is not None:
        with suppress(termios.error, OSError):
            termios.tcsetattr(0, termios.TCSAFLUSH, before)
