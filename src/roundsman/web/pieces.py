"""An answer that is sent in pieces, at the pace of its reader."""

from collections.abc import AsyncIterable, Callable

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send


class Pieces(StreamingResponse):
    """Starlette's own imports anyio to send it, which stops the event loop."""

    def __init__(
        self, pieces: AsyncIterable[bytes], media_type: str, done: Callable[[], None] = lambda: None
    ) -> None:
        """`done` is called at the end, however it comes."""
        super().__init__(pieces, media_type=media_type)
        self._done = done

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - as ASGI has it
        try:
            await self.stream_response(send)
        finally:
            self._done()
