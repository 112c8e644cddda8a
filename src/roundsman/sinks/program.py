"""One run of a program: its input is written, its last words are kept, and its whole process group ends with it."""

import asyncio
import errno
import math
import os
import select
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import IO, NamedTuple

from roundsman.masking import mask, one_line
from roundsman.system.threads import in_thread

GRACE = 2.0
"""Seconds between SIGTERM and SIGKILL for a program that did not end in time."""
GRACE_AT_STOP = 0.2
"""The same when the daemon stops: the delivery has already had its own grace, and a stop takes less than 2 s."""
REAP = 1.0
"""Maximum seconds to wait for the ends of what was left in a group."""
WORDS = 200
"""Maximum characters of the last words."""
TAIL = 16_384
"""Bytes of standard error that are kept."""
MARGIN = 4096
"""Bytes at the begin of a tail that was cut off, which are not shown: a secret cut in two would not be masked."""
CHUNK = 65_536
FAST = 1 << 20
"""Bytes of standard error after which reading is slowed to a chunk a millisecond: it would take a processor."""

# Started in a session and a process group of its own. Its standard output is the read end of a pipe whose write end
# only the daemon has. When the daemon dies, `read` ends, and the watcher kills its group, which is the program's.
# - The watcher is the child of a shell that has ended, so that a program which waits for all its children does not wait
#   for it. It has none of the program's files, and ignores the signals that a program may send to its own group.
# - `exec` makes the shell the program: its exit status and the signal that ended it are the program's own.
# - The command is passed as arguments. The shell never reads it as shell text.
WATCHED = (
    "((trap '' HUP INT QUIT USR1 USR2 ALRM TERM; read -r line; kill -KILL 0) <&1 >/dev/null 2>&1 &)"
    ' && exec "$@" >/dev/null'
)
SHELL = "/bin/sh"


class Ended(NamedTuple):
    """How a program ended."""

    status: int
    """Its exit status, or the negative number of the signal that ended it."""
    late: bool
    """Whether it had to be ended, because its time was over or the daemon stops."""
    words: str
    """The last words of its standard error, at most `WORDS` characters, printable and masked."""


async def run(command: Sequence[str], environ: Mapping[str, str], given: bytes, seconds: float) -> Ended:
    """Start the program, write `given` to its standard input, and wait for its end, at most `seconds`.

    At the end, also of this task by cancelling, no process of its group is left. Raises OSError if it cannot be started.
    """
    stop = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    # In a thread of its own: starting a program from a dead disk must not block the event loop.
    task = asyncio.ensure_future(in_thread(Run(command, environ, seconds, stop).over, given))

    def ended(task: "asyncio.Task[Ended]") -> None:
        os.close(stop)
        if not task.cancelled():
            task.exception()  # taken note of, also if no caller is left

    task.add_done_callback(ended)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if not task.done():
            os.eventfd_write(stop, 1)
            # Not for ever: a process in a call to a dead disk does not end.
            await asyncio.wait([task], timeout=2 * GRACE_AT_STOP)
        raise


class Run:
    """A run, in a thread of its own."""

    def __init__(self, command: Sequence[str], environ: Mapping[str, str], seconds: float, stop: int) -> None:
        """`stop`: a handle that becomes readable when the run is to end."""
        self._command, self._environ = command, environ
        self._seconds = seconds
        self._stop = stop
        self._poll = select.poll()
        self._tail = Tail()
        self._deadline = math.inf
        self._late = False

    def over(self, given: bytes) -> Ended:
        """Run it."""
        with ExitStack() as stack:
            lifeline, held = os.pipe()  # neither is inherited, except as the standard output below
            stack.callback(os.close, held)
            try:
                process = subprocess.Popen(  # noqa: S603 - the command is an option; no shell text is made of it
                    [SHELL, "-c", WATCHED, "roundsman", *self._command],
                    stdin=subprocess.PIPE,
                    stdout=lifeline,
                    stderr=subprocess.PIPE,
                    bufsize=0,
                    cwd="/",
                    env=dict(self._environ),
                    start_new_session=True,
                )
            finally:
                os.close(lifeline)
            assert process.stdin is not None
            assert process.stderr is not None
            stack.enter_context(process.stdin)
            stack.enter_context(process.stderr)
            try:
                end = os.pidfd_open(process.pid)
                stack.callback(os.close, end)
                self._serve(process, end, given)
            finally:
                status = _end(process)
            self._tail.drain(process.stderr)
            return Ended(status, self._late, self._tail.words())

    def _serve(self, process: "subprocess.Popen[bytes]", end: int, given: bytes) -> None:
        """Write, read and wait until the program has ended."""
        stdin, stderr, left = process.stdin, process.stderr, memoryview(given)
        assert stdin is not None
        assert stderr is not None
        for file in (stdin, stderr):
            os.set_blocking(file.fileno(), False)
        waits = {stdin.fileno(): select.POLLOUT, stderr.fileno(): select.POLLIN}
        for handle, what in {**waits, end: select.POLLIN, self._stop: select.POLLIN}.items():
            self._poll.register(handle, what)
        self._deadline = time.monotonic() + self._seconds
        while True:
            wait = self._deadline - time.monotonic()
            if wait <= 0:
                if self._late:
                    _send(signal.SIGKILL, process.pid)
                    self._deadline = math.inf
                else:
                    self._hurry(process.pid, GRACE)
                continue
            for handle, _ in self._poll.poll(None if wait == math.inf else wait * 1000):
                if handle == end:
                    return
                if handle == self._stop:
                    self._poll.unregister(handle)
                    self._hurry(process.pid, GRACE_AT_STOP)
                elif handle == stderr.fileno():
                    if not self._tail.read(stderr):
                        self._poll.unregister(handle)
                elif not (left := _written(handle, left)):
                    self._poll.unregister(handle)
                    stdin.close()

    def _hurry(self, group: int, grace: float) -> None:
        """Ask the program to end within `grace` seconds."""
        _send(signal.SIGTERM, group)
        self._deadline = min(self._deadline if self._late else math.inf, time.monotonic() + grace)
        self._late = True


def _send(number: int, group: int) -> None:
    with suppress(PermissionError, ProcessLookupError):  # it runs as another user; it is gone
        os.killpg(group, number)


def _written(handle: int, left: memoryview) -> memoryview:
    """What is left to write; nothing if the program has closed its input, which is not an error by itself."""
    try:
        return left[os.write(handle, left) :]
    except BlockingIOError:
        return left
    except BrokenPipeError:
        return left[:0]


def _end(process: "subprocess.Popen[bytes]") -> int:
    """Kill what is left of the group, and return the program's status."""
    # The number of the group is not used again before its leader is waited for.
    _send(signal.SIGKILL, process.pid)
    try:
        _, status = os.waitpid(process.pid, 0)
    except ChildProcessError:  # Popen would take that for a success
        raise OSError(errno.ECHILD, "the exit status is lost, because SIGCHLD is ignored") from None
    process.returncode = os.waitstatus_to_exitcode(status)
    # As the first process of a container, the daemon is the parent of what was left in the group.
    ends = time.monotonic() + REAP
    with suppress(ChildProcessError):
        while time.monotonic() < ends:
            if os.waitpid(-process.pid, os.WNOHANG) == (0, 0):
                time.sleep(0.001)  # in the thread of this run; a process that was killed ends within that
    return process.returncode


class Tail:
    """The end of a program's standard error, in bounded memory."""

    def __init__(self) -> None:
        self._kept = bytearray()
        self._read = 0
        """Bytes that were read."""

    def read(self, file: IO[bytes]) -> bool:
        """Read what there is, a chunk at most. Whether there may be more."""
        try:
            chunk = os.read(file.fileno(), CHUNK)
        except BlockingIOError:
            return True
        self._kept += chunk
        del self._kept[:-TAIL]
        self._read += len(chunk)
        if self._read > FAST:
            time.sleep(0.001)
        return bool(chunk)

    def drain(self, file: IO[bytes]) -> None:
        """Read what is in the pipe. A process that has left the group may go on writing: no more than a pipe holds."""
        before = -1
        ends = self._read + FAST
        while before < self._read < ends:
            before = self._read
            self.read(file)

    def words(self) -> str:
        """The last words: one line, printable and masked."""
        text = bytes(self._kept[MARGIN if self._read > len(self._kept) else 0 :]).decode("utf-8", "replace")
        text = mask.cut(one_line(text))
        return text if len(text) <= WORDS else "..." + text[3 - WORDS :]
