"""aiohttp's connections, with a bound where it has none: on interim answers (1xx), which it reads without end."""

import asyncio
import functools
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler

INTERIM = 100
"""Interim answers (1xx) before the real one, at most; servers send one or two."""


class BoundedProtocol(ResponseHandler):
    """Ends a connection that sends interim answers and nothing else: at full speed they would hold up the loop."""

    _interim = 0

    def feed_data(self, data: Any, size: int = 0) -> None:
        """One more answer from the parser."""
        message, _ = data
        if not 100 <= message.code < 200 or message.code == 101:
            self._interim = 0
        elif self._interim >= INTERIM:
            if self.exception() is None:
                self.set_exception(aiohttp.ClientPayloadError("endless interim answers"))
                self.close()
            return
        else:
            self._interim += 1
        super().feed_data(data, size)


def connector(**options: Any) -> aiohttp.TCPConnector:
    """aiohttp's pool of connections, each of them bounded."""
    made = aiohttp.TCPConnector(**options)
    made._factory = functools.partial(  # type: ignore[assignment] # noqa: SLF001 - it has no other door
        BoundedProtocol, loop=asyncio.get_running_loop()
    )
    return made
