"""A server that answers with the very bytes a test says: for what no well-behaved server sends."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

Answer = Callable[[str], bytes]
"""From the request's first line to the bytes of the whole answer."""


def answer(body: bytes = b"", status: int = 200, **headers: str) -> bytes:
    """A whole answer; `Content_Type="..."` becomes the header Content-Type."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    named = {"Content-Length": str(len(body)), **named}
    head = "".join(f"{name}: {value}\r\n" for name, value in named.items())
    return f"HTTP/1.1 {status} X\r\n{head}\r\n".encode("latin-1") + body


class Raw:
    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.asked: list[str] = []
        """The first line of each request."""
        self.connections = 0


@asynccontextmanager
async def raw_server(say: Answer, *, close: bool = False, again: bool = False) -> AsyncIterator[Raw]:
    """`close` ends the connection after an answer; `again` says it for ever."""
    made: list[Raw] = []
    writers: list[asyncio.StreamWriter] = []
    serving: list[asyncio.Task[None]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        task = asyncio.current_task()
        assert task is not None
        serving.append(task)
        made[0].connections += 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                length = [line for line in head.lower().split("\r\n") if line.startswith("content-length:")]
                if length:
                    await reader.readexactly(int(length[0].partition(":")[2]))
                first = head.partition("\r\n")[0]
                made[0].asked.append(first)
                writer.write(say(first))
                await writer.drain()
                while again:
                    writer.write(say(first))
                    await writer.drain()
                    await asyncio.sleep(0)
                if close:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    made.append(Raw(server.sockets[0].getsockname()[1]))
    try:
        yield made[0]
    finally:
        server.close()
        for writer in writers:
            writer.close()
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, *(each.wait_closed() for each in writers), return_exceptions=True)
