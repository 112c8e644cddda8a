"""A vendor that costs little beside what is measured. Prints its port.

`stub.py`: Parakey with one row for each path, on all addresses of the loopback. `/quiet/N` never changes, `/busy/N` has
a new row at each visit, `/some/N` at one visit of a hundred.
"""

import asyncio
import json
from datetime import UTC, datetime
from itertools import count
from typing import cast

import uvloop

from roundsman.times import rfc3339

ADDRESSES = [f"127.0.0.{n}" for n in range(2, 18)]
"""Vendors, for a worker that shares work by the host."""
NEW = {b"busy": 1, b"some": 100}
"""One request of so many finds a new row."""
START = rfc3339(datetime.now(UTC))


class Answers(asyncio.Protocol):
    """One connection, whose requests have no body."""

    rows: dict[bytes, tuple[int, str]] = {}
    """By path, the number of its row, and when that was made."""
    asked = count()

    def __init__(self) -> None:
        self._read = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop has a class of its own

    def data_received(self, data: bytes) -> None:
        *requests, self._read = (self._read + data).split(b"\r\n\r\n")
        for request in requests:
            self._transport.write(self._answer(request))

    def _answer(self, request: bytes) -> bytes:
        path = request.split(b" ", 2)[1].partition(b"?")[0]
        row, made = self.rows.get(path) or (0, START)
        _, kind, key, *_ = path.split(b"/")
        every = NEW.get(kind)
        if every is not None and b"if-none-match" in request.lower() and next(self.asked) % every == 0:
            row, made = row + 1, rfc3339(datetime.now(UTC))
            self.rows[path] = row, made
        if b'"%d"' % row in request:  # If-None-Match
            return b'HTTP/1.1 304 Not Modified\r\nETag: "%d"\r\n\r\n' % row
        body = json.dumps(
            [{"id": f"{key.decode()}-{row}", "createdAt": made, "timestamp": made, "what": "x" * 200}]
        ).encode()
        head = (
            b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nETag: "%d"\r\nContent-Length: %d\r\n\r\n'
        )
        return head % (row, len(body)) + body


async def serve() -> None:
    loop, port = asyncio.get_running_loop(), 0
    for address in ADDRESSES:
        server = await loop.create_server(Answers, address, port, backlog=1000)
        port = server.sockets[0].getsockname()[1]
    print(port, flush=True)
    await loop.create_future()


if __name__ == "__main__":
    uvloop.run(serve())
