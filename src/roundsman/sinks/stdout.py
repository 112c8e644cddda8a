"""Standard output: one event a line, as JSON for programs or as text for people."""

import errno
import os
import select
import sys
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Literal

from pydantic import Field

from roundsman.events import Event
from roundsman.http.client import Http
from roundsman.plugin import Deliver, Receipt
from roundsman.sinks.local import LocalSink
from roundsman.system.threads import in_thread


class StdoutSink(LocalSink):
    """Writes each event to the daemon's standard output: as one line of JSON, or on a terminal as a line for people."""

    type: Literal["stdout"]
    format: Literal["auto", "json", "text"] = "auto"
    """How events are written: `"json"`, a line with the whole event; `"text"`, a line for people, as `roundsman events`
    shows it; `"auto"`, text on a terminal and JSON elsewhere: in a pipe, a file or the journal.
    """
    batch: Annotated[int, Field(ge=1, le=10_000)] = 100
    """Maximum number of events in one write."""

    def place(self) -> str:
        return "standard output"

    @asynccontextmanager
    async def open(self, http: Http, receipt: Receipt | None) -> AsyncIterator[Deliver]:  # noqa: ARG002 - this sink needs neither
        on_terminal = os.isatty(1)
        if self.format == "json" or (self.format == "auto" and not on_terminal):
            yield _deliver
            return
        from roundsman.terminal.events import event_line, event_rows
        from roundsman.terminal.terminal import Terminal, colours

        terminal = Terminal(colours=colours()) if on_terminal else None

        async def deliver_text(events: Sequence[Event]) -> None:
            found = (event_rows(e, terminal) if terminal is not None else [event_line(e)] for e in events)
            text = "".join([f"{line}\n" for lines in found for line in lines])
            # The terminal may have another encoding: what it cannot show becomes a question mark.
            await in_thread(_write, text.encode(getattr(sys.stdout, "encoding", None) or "utf-8", "replace"))

        yield deliver_text


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
