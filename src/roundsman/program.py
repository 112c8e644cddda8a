"""One run of a program: input and output are bounded, and its whole process group ends with it."""

import errno
import math
import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import IO, NamedTuple

from roundsman.masking import LONG, MASK, SHORTEST, mask, one_line
from roundsman.times import spell

GRACE = 2.0
"""Seconds between SIGTERM and SIGKILL for a program that did not end in time."""
GRACE_AT_STOP = 0.2
"""The same when the daemon stops: the delivery has already had its own grace, and a stop takes less than 2 s."""
REAP = 1.0
"""Maximum seconds to wait for the ends of what was left in a group, and of a program that prints a value and was killed."""
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
_WATCHER = "((trap '' HUP INT QUIT USR1 USR2 ALRM TERM; read -r line; kill -KILL 0) {} >/dev/null 2>&1 &)"
WATCHED = _WATCHER.format("<&1") + ' && exec "$@" >/dev/null'
# A program whose output is read gets no input: its standard input is the read end, which the watcher takes over as 3.
READ = "exec 3<&0; " + _WATCHER.format("<&3 3<&-") + ' && exec "$@" </dev/null 3<&-'
SHELL = "/bin/sh"


class Ended(NamedTuple):
    """How a program ended."""

    status: int
    """Its exit status, or the negative number of the signal that ended it."""
    late: bool
    """Whether it had to be ended, because its time was over or the daemon stops."""
    words: str
    """The last words of its standard error, at most `WORDS` characters, printable and masked."""
    output: bytes = b""
    """Its standard output, if that was read. If it is longer than the limit, the program was killed for that."""
    left: bool = False
    """Whether it still runs: it could not be killed, because it runs as another user, or waits for a dead disk."""


def fault(ended: Ended, seconds: float) -> str | None:
    """Why a run that might last so many seconds has failed, with its last words; None after exit status 0."""
    words = f": {ended.words}" if ended.words else ""
    if ended.late:
        more = ", and cannot be killed" if ended.left else ""
        return f"did not end within {spell(seconds)}{more}{words}"
    if ended.status < 0:
        return f"ended by {_signal(-ended.status)}{words}"
    return f"exit status {ended.status}{words}" if ended.status else None


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"


class Run:
    """A run, in a thread of its own."""

    def __init__(
        self,
        command: Sequence[str],
        environ: Mapping[str, str],
        seconds: float,
        stop: int | None = None,
        limit: int | None = None,
    ) -> None:
        """`stop`: a handle that becomes readable when the run is to end.

        `limit`: read standard output, at most so many bytes. Without it, the output goes nowhere.
        """
        self._command, self._environ = command, environ
        self._seconds = seconds
        self._stop = stop
        self._poll = select.poll()
        self._tail = Tail()
        self._output = None if limit is None else Output(limit)
        self._deadline = math.inf
        self._late = False
        self._killed = False

    def over(self, given: bytes = b"") -> Ended:
        """Run it. Without its output being read, `given` is its standard input."""
        with ExitStack() as stack:
            lifeline, held = os.pipe()  # neither is inherited, except as a standard stream below
            stack.callback(os.close, held)
            streams = (subprocess.PIPE, lifeline) if self._output is None else (lifeline, subprocess.PIPE)
            try:
                process = subprocess.Popen(  # noqa: S603 - the command is an option; no shell text is made of it
                    [SHELL, "-c", WATCHED if self._output is None else READ, "roundsman", *self._command],
                    stdin=streams[0],
                    stdout=streams[1],
                    stderr=subprocess.PIPE,
                    bufsize=0,
                    cwd="/",
                    env=dict(self._environ),
                    start_new_session=True,
                )
            finally:
                os.close(lifeline)
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    os.set_blocking(stream.fileno(), False)
                    stack.enter_context(stream)
            assert process.stderr is not None
            left = False
            try:
                end = os.pidfd_open(process.pid)
                stack.callback(os.close, end)
                left = not self._serve(process, end, given)
            finally:
                status = _leave(process) if left else _end(process)
            self._tail.drain(process.stderr)
            if self._output is None or process.stdout is None:
                return Ended(status, self._late, self._tail.words(), left=left)
            self._output.drain(process.stdout)
            output = bytes(self._output.kept)
            lines = [one_line(line) for line in output.decode("utf-8", "replace").splitlines()]
            # One line is the value itself. One of many can be a plain word, which would be missed elsewhere.
            least = SHORTEST if sum(map(bool, lines)) == 1 else LONG
            words = self._tail.words([line for line in lines if len(line) >= least])
            return Ended(status, self._late, words, output, left)

    def _serve(self, process: "subprocess.Popen[bytes]", end: int, given: bytes) -> bool:
        """Write, read and wait until the program has ended. False if it prints a value and could not be killed."""
        stdin, stdout, stderr, left = process.stdin, process.stdout, process.stderr, memoryview(given)
        assert stderr is not None
        waits = {stderr.fileno(): select.POLLIN, end: select.POLLIN}
        waits |= {stdin.fileno(): select.POLLOUT} if stdin else {}
        waits |= {stdout.fileno(): select.POLLIN} if stdout else {}
        waits |= {self._stop: select.POLLIN} if self._stop is not None else {}
        for handle, what in waits.items():
            self._poll.register(handle, what)
        self._deadline = time.monotonic() + self._seconds
        while True:
            wait = self._deadline - time.monotonic()
            if wait <= 0:
                if self._killed:
                    return False
                if self._late:
                    _send(signal.SIGKILL, process.pid)
                    self._killed = True
                    # A sink would start it again and again: it waits. A load of the configuration does not.
                    self._deadline = math.inf if self._output is None else time.monotonic() + REAP
                else:
                    self._hurry(process.pid, GRACE)
                continue
            for handle, _ in self._poll.poll(None if wait == math.inf else wait * 1000):
                if handle == end:
                    return True
                if handle == self._stop:
                    self._poll.unregister(handle)
                    self._hurry(process.pid, GRACE_AT_STOP)
                elif handle == stderr.fileno():
                    if not self._tail.read(stderr):
                        self._poll.unregister(handle)
                elif stdout is not None and self._output is not None and handle == stdout.fileno():
                    if not self._output.read(stdout):
                        self._poll.unregister(handle)
                    if self._output.is_over:
                        _send(signal.SIGKILL, process.pid)
                elif stdin is not None and not (left := _written(handle, left)):
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


def _leave(process: "subprocess.Popen[bytes]") -> int:
    """Leave a program that cannot be killed to a thread, which waits for its end. Returns the signal that it was sent."""
    threading.Thread(target=process.wait, daemon=True, name="wait for a program").start()
    return -signal.SIGKILL


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


class Output:
    """The beginning of a program's standard output, in bounded memory."""

    def __init__(self, limit: int) -> None:
        self.kept = bytearray()
        self._limit = limit

    @property
    def is_over(self) -> bool:
        """Whether there is more than the limit."""
        return len(self.kept) > self._limit

    def read(self, file: IO[bytes]) -> bool:
        """Read what there is, a chunk at most. Whether there may be more."""
        try:
            chunk = os.read(file.fileno(), CHUNK)
        except BlockingIOError:
            return True
        self.kept += chunk[: self._limit + 1 - len(self.kept)]
        return bool(chunk)

    def drain(self, file: IO[bytes]) -> None:
        """Read what is in the pipe of a program that has ended."""
        before = -1
        while before < len(self.kept) and not self.is_over:
            before = len(self.kept)
            self.read(file)


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

    def words(self, hidden: Sequence[str] = ()) -> str:
        """The last words: one line, printable and masked, also without the texts in `hidden`, of which one may be part of
        another.
        """
        text = bytes(self._kept[MARGIN if self._read > len(self._kept) else 0 :]).decode("utf-8", "replace")
        text = one_line(text)
        for each in sorted(hidden, key=len, reverse=True):
            text = text.replace(each, MASK)
        text = mask.cut(text)
        return text if len(text) <= WORDS else "..." + text[3 - WORDS :]
