"""HTTP/1.1 for callers that may be slow or hostile."""

import asyncio
from collections.abc import Callable
from typing import NamedTuple

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

KEPT = 75.0
"""Seconds that an idle connection is kept: longer than by proxies, so that they do not find it closed."""


FIRST_WORD = 0.5
"""Seconds of the listener's GRACE for new connections' first requests, which may be in transit or unread."""


class Limits(NamedTuple):
    """Limits for callers."""

    whole: float = 10.0
    """Seconds until a request must be there, from the connection's start or a later request's first byte."""
    most: int = 1000
    """Maximum number of connections; fewer if only few files may be open."""
    young: float = 1.0
    """Seconds after which an idle connection may be cut to make room."""
    look_again: float = 1.0
    """Seconds between two checks for `/readyz` that the store can be written."""


class BoundedCalls(H11Protocol):
    """uvicorn's protocol, with a time limit for a request to arrive and for an answer to be read.

    It uses h11, not the faster httptools: that drops the body of a request with `Upgrade`, and limits neither
    the size of heads nor the number of requests that wait behind the first.
    """

    limits = Limits()
    left: Callable[[], None]
    """Called when the connection is closed."""
    since = 0.0
    """When it began to wait for a request, by the loop's clock."""
    last = False
    """The listener is about to close: the next answer is the last one."""
    _cut: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        super().connection_made(transport)
        self.since = self.loop.time()
        self._cut = self.loop.call_later(self.limits.whole, transport.abort)

    def on_response_complete(self) -> None:
        self.since = self.loop.time()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self.left()
        for timer in (self._cut, self._unread):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        try:
            super().handle_events()
        except h11.LocalProtocolError:
            # Invalid data after an answer has begun: an error can no longer be answered.
            self.transport.abort()
            return
        if self.last and self.cycle is not None:
            self.cycle.keep_alive = False
        begun = self.conn.their_state is h11.SEND_BODY or bool(self.conn.trailing_data[0])
        waits = self.idle() and (begun or self.timeout_keep_alive_task is None)
        if waits and self._cut is None:
            self._cut = self.loop.call_later(self.limits.whole, self.transport.abort)
        elif not waits and self._cut is not None:
            self._cut.cancel()
            self._cut = None

    def leave(self) -> None:
        """Take at most one more request, and only on a new connection that has had none yet."""
        if self.cycle is None and self.loop.time() - self.since < FIRST_WORD:
            self.last = True
        else:
            self.shutdown()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread = self.loop.call_later(self.limits.whole, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def idle(self) -> bool:
        """Whether no answer is pending here: there is no request, or it is incomplete."""
        return self.cycle is None or self.cycle.response_complete or self.conn.their_state is h11.SEND_BODY
