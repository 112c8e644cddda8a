"""A dead man's switch on a real socket: it keeps what it is sent, and answers as a test says."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

from raw import answer


class Ping(NamedTuple):
    """A request that arrived."""

    method: str
    target: str
    headers: dict[str, str]
    body: str


class Switch:
    """Answers 200, unless a test sets another answer."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.host = f"127.0.0.1:{port}"
        self.pings: list[Ping] = []
        self.reply: bytes | None = answer(b"OK")
        """The bytes of the answer; empty: it closes the connection. None: it hangs."""
        self.when_asked: Callable[[], None] = lambda: None
        self.pending = self.most_pending = 0
        """Requests without an answer: now, and the most at a time."""

    def seen(self, method: str) -> list[Ping]:
        return [ping for ping in self.pings if ping.method == method]


@asynccontextmanager
async def a_switch() -> AsyncIterator[Switch]:
    made: list[Switch] = []
    serving: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        switch = made[0]
        waits = False
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                headers = {n.lower(): v for n, _, v in (line.partition(": ") for line in head[1:]) if n}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                method, target, _ = head[0].split(" ")
                switch.pings.append(Ping(method, target, headers, body.decode()))
                switch.when_asked()
                switch.pending += 1
                waits = True
                switch.most_pending = max(switch.most_pending, switch.pending)
                if switch.reply is None:
                    await reader.read()  # until the caller gives up
                    return
                writer.write(switch.reply)
                await writer.drain()
                switch.pending -= 1
                waits = False
                if not switch.reply:
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            switch.pending -= waits
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    made.append(Switch(server.sockets[0].getsockname()[1]))
    try:
        yield made[0]
    finally:
        server.close()
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
