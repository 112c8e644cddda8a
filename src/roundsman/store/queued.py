"""A unit: one caller's change, which a store's writer makes together with others, and the caller that waits for it."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(slots=True, eq=False)
class Queued:
    """A unit in the queue of a writer."""

    work: Callable[..., Any]
    """Its statements. They run again if a transaction is undone."""
    done: "asyncio.Future[Any]"
    durable: bool = False
    """Whether it must survive a power cut; else it survives only the end of the process."""
    large: bool = False
    """Whether it takes many pieces: then it begins a transaction, and those before it do not wait for it."""
    result: Any = None

    @property
    def abandoned(self) -> bool:
        """Whether its caller was cancelled."""
        return self.done.cancelled()

    def settle(self) -> None:
        if not self.done.done():
            self.done.set_result(self.result)

    def refuse(self, error: BaseException) -> None:
        if not self.done.done():
            self.done.set_exception(error)


def refuse(units: Iterable[Queued], error: BaseException) -> None:
    """Nothing is written of these units."""
    for unit in units:
        unit.refuse(error)
