"""aiohttp's connections with a limit on interim answers (1xx), which aiohttp reads without end.

They also keep the head of an answer whose body is broken. aiohttp drops the head if both arrive at once, and
the status may be all that the caller needs.
"""

import asyncio
import functools
import re
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import HttpProcessingError

INTERIM = 100
"""Maximum interim answers (1xx) before the final one; servers send one or two."""
FIELDS = 1000
"""Maximum headers of one answer; aiohttp's default is 128."""
FIRST_BYTES = 64 * 1024
"""Maximum bytes of an answer that are kept until its head is read."""
HEAD = 64 * 1024
"""Maximum bytes of one header of an answer."""
_HEAD = re.compile(rb"HTTP/1\.[01] ([2-5]\d\d)(?: [^\r\n]*)?\r?\n(.*?\r?\n)??\r?\n", re.DOTALL)
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t\x20-\x7e]*)")
_INTERIM = re.compile(rb"HTTP/1\.[01] 1\d\d.*?\r?\n\r?\n", re.DOTALL)


class BrokenAnswer(HttpProcessingError):
    """The head of an answer arrived, but what follows it is not HTTP. `code` is the status."""

    def __init__(self, status: int, fields: list[tuple[bytes, bytes]]) -> None:
        super().__init__(code=status)
        self.fields = fields


class BoundedProtocol(ResponseHandler):
    """Closes a connection that sends only interim answers: at full speed they would block the event loop."""

    _interim = 0
    _first_bytes: bytearray | None = None
    """The bytes since the request, until the head of the answer is read."""

    def set_response_params(self, **options: Any) -> None:
        """A request is about to be sent."""
        self._first_bytes = bytearray()
        super().set_response_params(**{**options, "max_headers": FIELDS})

    def data_received(self, data: bytes) -> None:
        """Bytes from the socket."""
        if self._first_bytes is not None:
            self._first_bytes += data[: FIRST_BYTES - len(self._first_bytes)]
        super().data_received(data)

    def set_exception(self, exc: Any, *cause: Any) -> None:
        """Something failed. If a head had arrived, the request fails with a `BrokenAnswer` and its status."""
        if self._first_bytes and isinstance(exc, HttpProcessingError):
            exc = _broken(bytes(self._first_bytes)) or exc
        super().set_exception(exc, *cause)

    def feed_data(self, data: Any, size: int = 0) -> None:
        """The parser has one more answer, interim or final."""
        message, _ = data
        if not 100 <= message.code < 200 or message.code == 101:
            self._interim, self._first_bytes = 0, None
        elif self._interim >= INTERIM:
            if self.exception() is None:
                self.set_exception(aiohttp.ClientPayloadError("endless interim answers"))
                self.close()
            return
        else:
            self._interim += 1
        super().feed_data(data, size)


def _broken(received: bytes) -> BrokenAnswer | None:
    at = 0
    while interim := _INTERIM.match(received, at):
        at = interim.end()
    head = _HEAD.match(received, at)
    if head is None:
        return None
    fields = [
        (found[1], found[2]) for line in (head[2] or b"").splitlines() if (found := _FIELD.fullmatch(line))
    ]
    return BrokenAnswer(int(head[1]), fields)


def broken(exc: BaseException | None) -> BrokenAnswer | None:
    """The `BrokenAnswer` that caused an error, if there is one."""
    while exc is not None:
        if isinstance(exc, BrokenAnswer):
            return exc
        exc = exc.__cause__
    return None


def connector(**options: Any) -> aiohttp.TCPConnector:
    """aiohttp's connection pool, with a `BoundedProtocol` for each connection."""
    made = aiohttp.TCPConnector(**options)
    made._factory = functools.partial(  # type: ignore[assignment] # noqa: SLF001 - aiohttp has no public way to set it
        BoundedProtocol, loop=asyncio.get_running_loop()
    )
    return made
