"""Standard output: one event a line, for pipes and for people."""

import errno
import os
import select
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Literal

from pydantic import Field

from roundsman.events import Event
from roundsman.http.client import Http
from roundsman.plugin import Deliver, Receipt, Sink
from roundsman.system.threads import in_thread


class StdoutSink(Sink):
    """Writes each event as one line of JSON to the daemon's standard output."""

    type: Literal["stdout"]
    batch: Annotated[int, Field(ge=1, le=10_000)] = 100
    """Maximum number of events in one write."""

    def place(self) -> str:
        return "standard output"

    @asynccontextmanager
    async def open(self, http: Http, receipt: Receipt | None) -> AsyncIterator[Deliver]:  # noqa: ARG002 - this sink needs neither
        yield _deliver


async def _deliver(events: Sequence[Event]) -> None:
    # In a thread: a reader of our output that has stopped reading must not block the event loop.
    await in_thread(_write, b"".join([event.body + b"\n" for event in events]))


_one = threading.Lock()


def _write(lines: bytes) -> None:
    if not _one.acquire(blocking=False):
        raise OSError(errno.EBUSY, "an earlier write still waits for its reader")
    try:
        _write_all(memoryview(lines))
    finally:
        _one.release()


def _write_all(left: memoryview) -> None:
    while left:
        try:
            left = left[os.write(1, left) :]
        except BlockingIOError:  # another process made it non-blocking: a terminal is shared
            select.select([], [1], [], 1.0)
        except BrokenPipeError:
            raise OSError(errno.EPIPE, "the reader of standard output has closed it") from None
