"""aiohttp's connections, with a bound where it has none: on interim answers (1xx), which it reads without end.

And with the head of an answer whose body is broken: aiohttp forgets it where both came at once, and the status may be all that
matters.
"""

import asyncio
import functools
import re
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import HttpProcessingError

INTERIM = 100
"""Interim answers (1xx) before the real one, at most; servers send one or two."""
FIELDS = 1000
"""Headers of one answer, at most; aiohttp takes 128."""
HEARD = 64 * 1024
"""Bytes of an answer that are kept until its head is read."""
HEAD = 64 * 1024
"""Bytes of one header of an answer, at most."""
_HEAD = re.compile(rb"HTTP/1\.[01] ([2-5]\d\d)(?: [^\r\n]*)?\r?\n(.*?\r?\n)??\r?\n", re.DOTALL)
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t\x20-\x7e]*)")
_INTERIM = re.compile(rb"HTTP/1\.[01] 1\d\d.*?\r?\n\r?\n", re.DOTALL)


class BrokenAnswer(HttpProcessingError):
    """The head of an answer came, and what follows it is not HTTP. Its status is `code`."""

    def __init__(self, status: int, fields: list[tuple[bytes, bytes]]) -> None:
        super().__init__(code=status)
        self.fields = fields


class BoundedProtocol(ResponseHandler):
    """Ends a connection that sends interim answers and nothing else: at full speed they would hold up the loop."""

    _interim = 0
    _heard: bytearray | None = None
    """What came since the request, until its head was read."""

    def set_response_params(self, **options: Any) -> None:
        """A request is about to be sent."""
        self._heard = bytearray()
        super().set_response_params(**{**options, "max_headers": FIELDS})

    def data_received(self, data: bytes) -> None:
        """Bytes from the socket."""
        if self._heard is not None:
            self._heard += data[: HEARD - len(self._heard)]
        super().data_received(data)

    def set_exception(self, exc: Any, *cause: Any) -> None:
        """Something failed: where a head had come, whoever waits for the answer is told its status."""
        if self._heard and isinstance(exc, HttpProcessingError):
            exc = _broken(bytes(self._heard)) or exc
        super().set_exception(exc, *cause)

    def feed_data(self, data: Any, size: int = 0) -> None:
        """One more answer from the parser."""
        message, _ = data
        if not 100 <= message.code < 200 or message.code == 101:
            self._interim, self._heard = 0, None
        elif self._interim >= INTERIM:
            if self.exception() is None:
                self.set_exception(aiohttp.ClientPayloadError("endless interim answers"))
                self.close()
            return
        else:
            self._interim += 1
        super().feed_data(data, size)


def _broken(heard: bytes) -> BrokenAnswer | None:
    at = 0
    while interim := _INTERIM.match(heard, at):
        at = interim.end()
    head = _HEAD.match(heard, at)
    if head is None:
        return None
    fields = [
        (found[1], found[2]) for line in (head[2] or b"").splitlines() if (found := _FIELD.fullmatch(line))
    ]
    return BrokenAnswer(int(head[1]), fields)


def broken(exc: BaseException | None) -> BrokenAnswer | None:
    """The head of the answer that an error is about, if one came."""
    while exc is not None:
        if isinstance(exc, BrokenAnswer):
            return exc
        exc = exc.__cause__
    return None


def connector(**options: Any) -> aiohttp.TCPConnector:
    """aiohttp's pool of connections, each of them bounded."""
    made = aiohttp.TCPConnector(**options)
    made._factory = functools.partial(  # type: ignore[assignment] # noqa: SLF001 - it has no other door
        BoundedProtocol, loop=asyncio.get_running_loop()
    )
    return made
