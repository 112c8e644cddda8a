"""What a store on a server promises to a sink that writes into the same database: its rows and its position are one transaction."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol


class Step(NamedTuple):
    """What a delivery changes of the position of a sink."""

    sink: str
    was: int
    """The cursor before the delivery."""
    cursor: int
    """The cursor after it."""
    retried: int | None = None
    """The number of a dead letter that was delivered: it is none any more, and the cursor stays."""
    refused: Sequence[tuple[int, str]] = ()
    """Events of the delivery that become dead letters, by their number, and why."""


class Joint(Protocol):
    """The positions of sinks, for transactions of others. `connection`: an asynchronous one of the driver of the store."""

    async def is_here(self, connection: Any) -> bool:
        """Whether this connection, which is in no transaction, is one to the store, whose user may move positions.

        StoreError if that cannot be found out now.
        """

    async def move(self, connection: Any, step: Step, now: float) -> None:
        """Move a position in the transaction of this connection. The caller then commits it, or undoes it.

        `Conflict` if the position was moved meanwhile. StoreError if the right to write has ended.
        """
