"""HTTP/1.1 for callers that may be slow or hostile."""

import asyncio
from collections.abc import Callable
from typing import NamedTuple

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

KEPT = 75.0
"""Seconds that an idle connection is kept: longer than proxies keep theirs, so that they do not find it closed."""


FIRST_WORD = 0.5
"""Seconds of these for who was taken and has not yet asked anything: the question is on its way, or here and unread."""


class Limits(NamedTuple):
    """What callers are allowed."""

    whole: float = 10.0
    """Seconds within which a request must be there, counted from the connection, or from its first byte where that is kept."""
    most: int = 1000
    """Connections at the same time; with few open files allowed, fewer."""
    young: float = 1.0
    """Seconds after which an idle connection may have to make room."""
    look_again: float = 1.0
    """Seconds between two looks at whether the store can be written, for `/readyz`."""


class BoundedCalls(H11Protocol):
    """uvicorn's protocol, which waits for ever neither for a request nor for somebody to read an answer.

    On h11, not on the faster httptools: that drops the body of a request with `Upgrade`, and limits neither heads nor how many
    requests wait behind the first.
    """

    limits = Limits()
    left: Callable[[], None]
    """Called when the connection has gone."""
    since = 0.0
    """When it began to wait for a request, by the loop's clock."""
    last = False
    """The next answer is the last one: the listener is about to close."""
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
            # Nonsense behind an answer that has begun: there is nothing left to say.
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
        """Take no more than one request, and that only from who has had no answer yet."""
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
        """Whether nobody waits for an answer here: there is no request, or not all of it."""
        return self.cycle is None or self.cycle.response_complete or self.conn.their_state is h11.SEND_BODY
