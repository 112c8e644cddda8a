"""A file with one event a line: rotated, and exact. After a crash no line is torn, lost or doubled.

What is in the file but was not acked any more is found by the receipt of the last ack (which file, how long): lines after
that are complete and not delivered again, or torn and cut off. So the crash between "written" and "acked" costs nothing.
"""

import errno
import fcntl
import gzip
import os
import re
import shutil
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from roundsman import wire
from roundsman.events import Event
from roundsman.files import make, refuse_links, sync_folder
from roundsman.http import Http
from roundsman.plugin import Deliver, Receipt, Sink
from roundsman.settings import DataPath, Size
from roundsman.threads import in_thread

OURS = b'{"specversion":"1.0"'
"""How our lines begin: only a torn line of our own is ever cut off."""
CHUNK = 1 << 16
DOUBT = 16 << 20
"""Bytes at the end of a file that a batch without ack can have written, amply."""


class FileSink(Sink):
    """Appends each event as one line of JSON to a file."""

    type: Literal["file"]
    path: DataPath
    """The file; its folder is made if need be."""
    rotate_size: Size | None = None
    """Begin a new file before this one gets larger than this."""
    rotate_daily: bool = False
    """Begin a new file with each UTC day."""
    keep: Annotated[int, Field(ge=1)] | None = None
    """Rotated files to keep; the oldest go first. Default: all."""
    compress: bool = False
    """Compress rotated files with gzip."""
    mode: Annotated[str, Field(pattern=r"^0?[0-7]{3}$")] = "0600"
    """Permissions of a new file."""

    def place(self) -> str:
        return str(self.path.resolve())

    @asynccontextmanager
    async def open(self, http: Http, receipt: Receipt | None) -> AsyncIterator[Deliver]:
        appender = _Appender(self, http.now)
        try:
            # In a thread: the disk may be slow or gone, and that must not stop the others.
            await in_thread(appender.open, receipt)

            async def deliver(events: Sequence[Event]) -> Receipt:
                return await in_thread(appender.append, events)

            yield deliver
        finally:
            appender.close()


class _Appender:
    """The open file. Any error leaves it to the next `open` to put things right."""

    def __init__(self, options: FileSink, now: Callable[[], datetime]) -> None:
        self._options = options
        refuse_links(options.path)
        self._path = options.path.resolve()  # rotation must not rename a link
        self._now = now
        self._file = -1
        self._size = 0
        self._day = ""
        self._busy = threading.Lock()
        self._left = False
        """Closed while a thread was opening or writing: then that thread closes."""
        self._doubtful: dict[tuple[str, str], int] = {}
        """Source and id of the lines that are there and not acked, with where each ends."""

    def open(self, receipt: Receipt | None) -> None:
        with self._busy:
            try:
                self._open(receipt)
            finally:
                if self._left:
                    self._close()

    def _open(self, receipt: Receipt | None) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._open_file()
        self._finish_rotation()
        inode = os.fstat(self._file).st_ino
        if receipt and receipt.get("inode") == inode:
            known = min(receipt.get("size", 0), self._size)
        else:
            # Another file than at the last ack: we rotated before a batch that was not acked, or somebody moved it.
            known = max(0, self._size - DOUBT)
        self._repair(known)

    def close(self) -> None:
        self._left = True
        if self._busy.acquire(blocking=False):
            self._close()
            self._busy.release()

    def _close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def append(self, events: Sequence[Event]) -> Receipt:
        """Write, and make sure that it is on the disk; the receipt says up to where."""
        with self._busy:
            try:
                return self._append(events)
            finally:
                if self._left:
                    self._close()

    def _append(self, events: Sequence[Event]) -> Receipt:
        acked, certain = self._size, not self._doubtful
        if self._doubtful:
            fresh = []
            for event in events:
                end = self._doubtful.pop((event.source, event.id), None)
                if end is None:
                    fresh.append(event)
                else:
                    acked = end
            if fresh:  # past what was in doubt; from here on an old event is a replay, and written again
                self._doubtful.clear()
            events = fresh
        if events:
            lines = b"".join([event.body + b"\n" for event in events])
            if certain:  # else lines without ack would be left behind in the old file
                self._rotate_for(len(lines))
            left = memoryview(lines)
            while left:
                left = left[os.write(self._file, left) :]
            os.fdatasync(self._file)
            self._size += len(lines)
        if not self._doubtful:
            acked = self._size
        return {"inode": os.fstat(self._file).st_ino, "size": acked}

    def _open_file(self) -> None:
        self._file, new = make(self._path, os.O_RDWR | os.O_APPEND, int(self._options.mode, 8))
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._close()
            raise BlockingIOError(errno.EBUSY, "another writer has it open", str(self._path)) from None
        if new:
            sync_folder(self._path.parent)
        status = os.fstat(self._file)
        self._size = status.st_size
        # The day that the file is of: that of its last line, not of today, or a restart would put off the rotation.
        self._day = _day(datetime.fromtimestamp(status.st_mtime, UTC) if self._size else self._now())

    def _repair(self, known: int) -> None:
        """Read what is after `known`: whole lines are in doubt, a torn one goes."""
        at = known
        tail = b""
        if at and os.pread(self._file, 1, at - 1) != b"\n":
            at = self._line_start(at)
        while piece := os.pread(self._file, CHUNK, at):
            end = at - len(tail)
            lines = (tail + piece).split(b"\n")
            tail = lines.pop()
            at += len(piece)
            for line in lines:
                end += len(line) + 1
                if key := _key(line):
                    self._doubtful[key] = end
        if tail:
            if tail.startswith(OURS) or OURS.startswith(tail):
                self._size -= len(tail)
                os.ftruncate(self._file, self._size)
            else:  # not our line: end it, and begin after it
                self._size += os.write(self._file, b"\n")
            os.fsync(self._file)

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
        """Begin a new file if these bytes are too many for this one, or of another day. Never within a batch."""
        options, today = self._options, _day(self._now())
        too_large = options.rotate_size is not None and self._size + length > options.rotate_size
        if self._size and (too_large or (options.rotate_daily and today != self._day)):
            target = self._free_name()
            self._path.rename(target)
            self._close()
            self._open_file()
            self._finish_rotation()
        self._day = today

    def _free_name(self) -> Path:
        """`events-2026-05-01.0001.jsonl` and so on; never the number of one that was there before."""
        taken = [number for day, number, _ in self._rotated() if day == self._day]
        path = self._path
        return path.with_name(f"{path.stem}-{self._day}.{max(taken, default=0) + 1:04d}{path.suffix}")

    def _rotated(self) -> list[tuple[str, int, Path]]:
        """Day, number and path of what is rotated, oldest first."""
        path = self._path
        name = re.compile(
            re.escape(path.stem) + r"-(\d{4}-\d\d-\d\d)\.(\d{4,})" + re.escape(path.suffix) + r"(?:\.gz)?"
        )
        with os.scandir(path.parent) as entries:
            found = [(name.fullmatch(entry.name), entry.path) for entry in entries]
        return sorted((match[1], int(match[2]), Path(where)) for match, where in found if match)

    def _finish_rotation(self) -> None:
        """Compress and prune what is rotated; also what a crash left undone."""
        rotated = self._rotated()
        if self._options.keep is not None:
            for _, _, path in rotated[: -self._options.keep]:
                path.unlink()
            rotated = rotated[-self._options.keep :]
        if self._options.compress:
            for _, _, path in rotated:
                if path.suffix != ".gz":
                    _compress(path)


def _compress(path: Path) -> None:
    half = path.with_name(path.name + ".gz.tmp")
    with path.open("rb") as source, half.open("wb") as target:
        with gzip.open(target, "wb", compresslevel=6) as packed:
            shutil.copyfileobj(source, packed, 1 << 20)
        target.flush()
        os.fsync(target.fileno())
    half.chmod(path.stat().st_mode & 0o777)
    half.replace(path.with_name(path.name + ".gz"))
    sync_folder(path.parent)
    path.unlink()


def _key(line: bytes) -> tuple[str, str] | None:
    if not line.startswith(OURS):
        return None
    with suppress(wire.Unreadable, KeyError, AttributeError, TypeError):
        document = wire.decode(line)
        return document["source"].rpartition("/")[2], document["id"]
    return None


def _day(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d")
