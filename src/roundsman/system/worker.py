"""One thread for blocking calls that must run one after the other."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")


class Worker:
    """A daemon thread that runs calls in order. It starts with the first call.

    A call that hangs on a dead disk keeps the process from nothing: the thread ends with the process.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    async def run(self, function: Callable[[], T]) -> T:
        """What `function` returns or raises. It runs to its end even if the caller is cancelled."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Any] = loop.create_future()

        def work() -> None:
            try:
                settle, what = _resolve, function()
            except BaseException as exc:  # noqa: BLE001 - handed over, not swallowed
                settle, what = _refuse, exc  # type: ignore[assignment]
            with suppress(RuntimeError):  # the loop has closed meanwhile
                loop.call_soon_threadsafe(settle, done, what)

        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, daemon=True, name=self._name)
            self._thread.start()
        self._calls.put(work)
        result: T = await asyncio.shield(done)
        return result

    def close(self) -> None:
        """End the thread after the calls that are under way."""
        if self._thread is not None:
            self._calls.put(None)
            self._thread = None

    def _serve(self) -> None:
        while (call := self._calls.get()) is not None:
            call()


def _resolve(done: "asyncio.Future[Any]", result: object) -> None:
    if not done.done():
        done.set_result(result)


def _refuse(done: "asyncio.Future[Any]", error: BaseException) -> None:
    if not done.done():
        done.set_exception(error)
