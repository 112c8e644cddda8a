"""A file with one event a line, rotated and exact: after a crash no line is torn, lost or doubled.

The receipt of the last ack (which file, its size, the newest rotated file) shows which lines were written but
not acked. Complete lines after it are not written again when their events are delivered again; torn ones and
those with holes are cut out. The rest is written to the disk anew before it is acked, because a crash or an
I/O error may have kept it from there. So a crash between write and ack repeats no line. Nor does a store
restored from a backup: all lines since then are after its receipt.

The open handle is not enough: before each ack, the path must still lead to the open file.

Everything is done by a handle of the folder, and no link in it is followed: root may run it (a command beside
the service, or the daemon in a container) in a folder whose owner must not get root's rights.
"""

import errno
import fcntl
import gzip
import os
import threading
import zlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import Field

from roundsman import wire
from roundsman.errors import Unreadable
from roundsman.events import Event
from roundsman.http.client import Http
from roundsman.options.paths import DataPath
from roundsman.options.values import Size
from roundsman.plugin import Deliver, Receipt
from roundsman.sinks.local import LocalSink
from roundsman.sinks.rotated import Rotated, day, sync
from roundsman.system.files import create_at, open_folder, require_file
from roundsman.system.threads import in_thread

OURS = b'{"specversion":"1.0"'
"""The start of our lines: only our own torn lines are cut out."""
HOLE = b"\0" * 4
"""What a power cut leaves in place of a block that did not reach the disk; no text contains it."""
CHUNK = 1 << 16
ENDLESS = 1 << 62
DOUBT_BYTES, DOUBT_LINES = 64 << 20, 50_000
"""Bytes at the end of a file that are searched for lines without ack, and how many are remembered, at most:
many batches, and some 15 MB of memory.
"""
ELSEWHERE = -1
DOUBTED = 86400.0
"""Seconds for which such lines are remembered. Their events come first after a crash; after a restore, when
their source is visited.
"""


class FileSink(LocalSink):
    """Appends each event as one line of JSON to a file."""

    type: Literal["file"]
    path: DataPath
    """The file. Its folder is created if it is missing."""
    batch: Annotated[int, Field(ge=1, le=10_000)] = 4000
    """Maximum number of events in one delivery. They share one write and one `fsync`."""
    rotate_size: Size | None = None
    """Start a new file before this one gets larger than this. Default: no limit."""
    rotate_daily: bool = False
    """Start a new file each UTC day."""
    keep: Annotated[int, Field(ge=1)] | None = None
    """Number of rotated files to keep. The oldest are deleted first. Default: all are kept."""
    compress: bool = False
    """Compress rotated files with gzip."""
    mode: Annotated[str, Field(pattern=r"^0?[0-7]{3}$")] = "0600"
    """Permissions of a new file, in octal."""

    def place(self) -> str:
        return os.path.realpath(self.path)

    @asynccontextmanager
    async def open(self, http: Http, receipt: Receipt | None) -> AsyncIterator[Deliver]:
        appender = _Appender(self, http.now)
        try:
            # In a thread: a slow or missing disk must not block the event loop.
            await in_thread(appender.open, receipt)

            async def deliver(events: Sequence[Event]) -> Receipt:
                return await in_thread(appender.append, events)

            yield deliver
        finally:
            appender.close()


class _Appender:
    """The open file. After any error, the next `open` repairs what is wrong."""

    def __init__(self, options: FileSink, now: Callable[[], datetime]) -> None:
        self._options = options
        self._path = options.path
        self._now = now
        self._folder = self._file = -1
        self._size = 0
        self._day = ""
        self._busy = threading.Lock()
        self._left = False
        """Closed while a thread was opening or writing: that thread then closes the handles."""
        self._tidy = False
        """Whether an interrupted rotation was finished; `open` leaves it, because it may be only a check."""
        self._doubtful: dict[tuple[str, str], int] = {}
        """Source and id of lines written but not acked, with their offset; `ELSEWHERE` in a rotated file."""
        self._last = ""
        """The name of the newest rotated file."""
        self._base: Receipt = {}
        """The receipt that `open` was given; it stays valid while lines in rotated files are in doubt."""
        self._until = 0.0
        """When the lines in doubt that were not delivered again count as acked (Unix seconds)."""
        self._past = False
        """Whether something new was written: events that a crash left without ack come before that."""

    def open(self, receipt: Receipt | None) -> None:
        with self._busy:
            try:
                self._open(receipt)
            finally:
                if self._left:
                    self._close()

    def _open(self, receipt: Receipt | None) -> None:
        # With links resolved: a rotation must not rename a link.
        self._folder, self._path = open_folder(self._options.path, 0o777)
        self._rotated = Rotated(self._folder, self._path, self._options.keep, compress=self._options.compress)
        self._open_file()
        known = max(0, self._size - DOUBT_BYTES)
        self._base = receipt or {}
        if (
            receipt
            and receipt.get("inode") == os.fstat(self._file).st_ino
            and not self._rotated_since(receipt)
        ):
            known = max(known, min(receipt.get("size", 0), self._size))
        elif receipt:
            # Not the file of the last ack: it was rotated before acks that were lost, or another program moved it.
            # The inode proves little: the next file gets that of a compressed one.
            self._look_into_rotated(receipt)
        self._last = max(self._rotated.all(), default=("", 0, ""))[2]
        self._until = (receipt or {}).get("until") or self._now().timestamp() + DOUBTED
        self._repair(known)

    def close(self) -> None:
        self._left = True
        if self._busy.acquire(blocking=False):
            self._close()
            self._busy.release()

    def _close(self) -> None:
        for handle in (self._file, self._folder):
            if handle >= 0:
                os.close(handle)
        self._file = self._folder = -1

    def append(self, events: Sequence[Event]) -> Receipt:
        """Write and sync to the disk; the receipt says up to where."""
        with self._busy:
            try:
                return self._append(events)
            finally:
                if self._left:
                    self._close()

    def _append(self, events: Sequence[Event]) -> Receipt:
        # The time is over, or the clock was set back by more than a day.
        over = not 0 < self._until - self._now().timestamp() < 2 * DOUBTED
        if over and self._past:
            self._doubtful.clear()
        # Each counts only once: an event that is delivered once more is a replay, and is written again.
        doubtful = self._doubtful
        fresh = [e for e in events if not doubtful or doubtful.pop((e.source, e.id), None) is None]
        self._require_place()
        if fresh:
            lines = b"\n".join([*(event.body for event in fresh), b""])
            # After another crash, lines without ack that a rotation left in the old file would not be found.
            if len(fresh) == len(events) and (self._past or not self._doubtful):
                self._rotate_for(len(lines))
            self._write(lines)
            self._past = True
            if over:
                self._doubtful.clear()
            self._require_place(written=True)
        return self._receipt()

    def _receipt(self) -> Receipt:
        """The receipt ends before the first line in doubt, so that the next `open` finds that line."""
        first = next(iter(self._doubtful.values()), self._size)
        if first == ELSEWHERE:
            return {**self._base, "until": self._until}
        receipt = {"inode": os.fstat(self._file).st_ino, "size": first, "rotated": self._last}
        return {**receipt, "until": self._until} if self._doubtful else receipt

    def _require_place(self, *, written: bool = False) -> None:
        """Raises OSError if the path no longer leads to the open file: readers would not find new lines.

        Lines that are `written` already are found if the file was only moved, as by logrotate.
        """
        file = os.fstat(self._file)
        try:
            same = os.path.samestat(self._path.parent.stat(), os.fstat(self._folder))
            if same and not (written and file.st_nlink):
                there = os.stat(self._path.name, dir_fd=self._folder, follow_symlinks=False)
                same = os.path.samestat(there, file)
        except FileNotFoundError:
            same = False
        if not same:
            raise OSError(errno.ESTALE, "it was removed or replaced while it was open", str(self._path))

    def _write(self, lines: bytes) -> None:
        """Append and sync to the disk. Other processes may have written or truncated the file meanwhile."""
        self._size = os.fstat(self._file).st_size
        if self._ends_in_a_line():
            lines = b"\n" + lines
        left = memoryview(lines)
        begun = -1
        while left:
            count = os.write(self._file, left)
            if begun < 0:
                begun = os.lseek(self._file, 0, os.SEEK_CUR) - count
            left = left[count:]
        if (
            begun > 0
            and begun != self._size
            and os.pread(self._file, 1, begun - 1) != b"\n"
            and lines[:1] != b"\n"
        ):
            # Another process wrote half a line in between, and our first one continued it: write that again.
            os.write(self._file, lines[: lines.index(b"\n") + 1])
        os.fdatasync(self._file)
        self._size = os.fstat(self._file).st_size

    def _ends_in_a_line(self) -> bool:
        """Whether the last line has no newline: another process's line, or one of ours that was truncated."""
        return self._size > 0 and os.pread(self._file, 1, self._size - 1) != b"\n"

    def _open_file(self) -> None:
        mode = int(self._options.mode, 8)
        self._file, new = create_at(self._folder, self._path, os.O_RDWR | os.O_APPEND, mode)
        if new:
            with suppress(OSError):  # a file system without permissions
                os.fchmod(self._file, mode)  # exactly: the umask of a service reduces it
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BlockingIOError(errno.EBUSY, "another writer has it open", str(self._path)) from None
        if new:
            sync(self._folder)
        status = os.fstat(self._file)
        self._size = status.st_size
        # The day of the file is that of its last line. With today's, a restart would delay the rotation.
        self._day = day(datetime.fromtimestamp(status.st_mtime, UTC) if self._size else self._now())

    def _repair(self, known: int) -> None:
        """Read after `known`: whole lines are in doubt, torn ones and holes are cut, the rest is rewritten."""
        at = known
        if at and os.pread(self._file, 1, at - 1) != b"\n":
            at = self._line_start(at)
        before = dict(self._doubtful)
        bad = self._look_through(at)
        if not bad and self._doubtful.keys() == before.keys():
            return
        # By a handle that does not append. After an I/O error the kernel may take unwritten pages for clean.
        flags = os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        handle = os.open(self._path.name, flags, dir_fd=self._folder)
        try:
            if not os.path.samestat(os.fstat(handle), os.fstat(self._file)):
                raise OSError(errno.ESTALE, "it was replaced while it was opened", str(self._path))
            self._keep(handle, at, bad)
            os.fsync(handle)
        finally:
            os.close(handle)
        if bad:
            self._doubtful = before
            self._look_through(at)

    def _look_through(self, at: int) -> list[tuple[int, int]]:
        """Remember the lines after `at` as in doubt. Returns what to cut: torn lines of ours, and holes."""
        bad: list[tuple[int, int]] = []
        tail = b""
        while piece := os.pread(self._file, CHUNK, at):
            begin = at - len(tail)
            lines = (tail + piece).split(b"\n")
            tail = lines.pop()
            at += len(piece)
            for line in lines:
                if key := _key(line):
                    self._doubt(key, begin)
                elif line.startswith(OURS) or HOLE in line:
                    bad.append((begin, begin + len(line) + 1))
                begin += len(line) + 1
        if tail and (tail.startswith(OURS) or OURS.startswith(tail) or HOLE in tail):
            bad.append((at - len(tail), at))
        return bad

    def _doubt(self, key: tuple[str, str], begin: int) -> None:
        self._doubtful.setdefault(key, begin)
        if len(self._doubtful) > DOUBT_LINES:
            del self._doubtful[next(iter(self._doubtful))]  # the earliest

    def _keep(self, handle: int, at: int, bad: Sequence[tuple[int, int]]) -> None:
        """Write what is after `at` once more, without the ranges in `bad`."""
        to, source = at, at
        for begin, end in (*bad, (ENDLESS, ENDLESS)):  # to the end, with what another process wrote meanwhile
            while source < begin:
                piece = os.pread(self._file, min(CHUNK, begin - source), source)
                if not piece:
                    break
                source += len(piece)
                while piece:
                    written = os.pwrite(handle, piece, to)
                    to, piece = to + written, piece[written:]
            source = end
        if bad:
            os.ftruncate(handle, to)
        self._size = os.fstat(handle).st_size

    def _rotated_since(self, receipt: Receipt) -> bool:
        """Whether a file was rotated after the last ack; False for receipts of versions that did not record it."""
        after, newest = receipt.get("rotated"), max(self._rotated.all(), default=None)
        if after is None or newest is None:
            return False
        return newest[:2] > (self._rotated.place_of(after) or ("", 0))

    def _look_into_rotated(self, receipt: Receipt) -> None:
        """Remember lines without ack in newer rotated files: a power cut may lose the last second's acks."""
        after = receipt.get("rotated")
        if after is None:
            return  # written by an older version, which does not record it
        since = self._rotated.place_of(after)
        newer = [each for each in self._rotated.all() if since is None or each[:2] > since]
        skip, room = int(receipt.get("size", 0)), DOUBT_BYTES
        for _, _, name in newer:  # the first of them is the file of the receipt
            with suppress(OSError, EOFError, zlib.error):  # unreadable or damaged: continue without it
                for line in self._lines_of(name, skip):
                    room -= len(line)
                    if room < 0:
                        return
                    if key := _key(line):
                        self._doubt(key, ELSEWHERE)
            skip = 0

    def _lines_of(self, name: str, skip: int) -> Iterator[bytes]:
        """The lines of a rotated file, compressed or not, after its first `skip` bytes."""
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        with os.fdopen(os.open(name, flags, dir_fd=self._folder), "rb") as file:
            require_file(file.fileno())
            with gzip.open(file, "rb") if name.endswith(".gz") else file as source:
                left = skip
                while left and (piece := source.read(min(left, CHUNK))):
                    left -= len(piece)
                yield from source

    def _line_start(self, at: int) -> int:
        while at > 0:
            begin = max(0, at - CHUNK)
            found = os.pread(self._file, at - begin, begin).rfind(b"\n")
            if found >= 0:
                return begin + found + 1
            at = begin
        return 0

    # -- rotation ----------------------------------------------------------------------------------------------------

    def _rotate_for(self, length: int) -> None:
        """Start a new file if these bytes are too many for this one, or on another day; never in a batch."""
        options, today = self._options, day(self._now())
        too_large = options.rotate_size is not None and self._size + length > options.rotate_size
        rotated = None
        if self._size and (too_large or (options.rotate_daily and today != self._day)):
            rotated = self._rotated.free_name(self._day)
            os.rename(self._path.name, rotated, src_dir_fd=self._folder, dst_dir_fd=self._folder)
            os.close(self._file)
            self._file = -1
            self._open_file()
            self._doubtful = dict.fromkeys(self._doubtful, ELSEWHERE)
            self._last = rotated
        if rotated or not self._tidy:
            self._rotated.tidy(rotated, self._now())
            self._tidy = True
        self._day = today


def _key(line: bytes) -> tuple[str, str] | None:
    if not line.startswith(OURS):
        return None
    with suppress(Unreadable, KeyError, AttributeError, TypeError):
        document = wire.decode(line)
        return document["source"].rpartition("/")[2], document["id"]
    return None
