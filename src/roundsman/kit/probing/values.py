"""A row, a question, a refusal, and the user's limits: what probing and its callers exchange."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple

from roundsman.wire import Item

MILLISECOND = timedelta(milliseconds=1)
"""The precision of times in questions."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Mode = Literal["auto", "keyset", "offset", "grow"]


class Row(NamedTuple):
    """One row of a list, reduced to what reading needs."""

    id: str
    created: datetime | None
    """When the vendor stored it: the sort key of the list."""
    occurred: datetime | None
    """When it happened: earlier than `created`, sometimes much earlier."""
    item: Item
    odd_time: str = ""
    """The form of `created`, if it is present and cannot be read as a time."""

    @property
    def when(self) -> datetime:
        """When it was stored or, if that is not known, happened; 1970 for a row without a time."""
        return self.created or self.occurred or EPOCH


class Question(NamedTuple):
    """One request for rows."""

    start: datetime | None
    limit: int
    offset_param: str = ""
    offset: int = 0
    backwards: bool = False
    """Newest first."""


class Refused(Exception):
    """The server refuses a question; `cause` is its error. `doubtful`: it may also be a transient fault."""

    def __init__(self, cause: Exception, *, doubtful: bool = False) -> None:
        super().__init__(str(cause))
        self.cause = cause
        self.doubtful = doubtful


Ask = Callable[[Question], Awaitable[tuple[list[Row], int]]]
"""Returns the rows, and the limit of the request that succeeded: lower than asked for if the answer was too
large. Raises `Refused` if the server refuses the question itself.
"""


class Limits(NamedTuple):
    """The user's options for reading."""

    limit: int
    most: int
    mode: Mode
    offset_params: tuple[str, ...]

    def strategies(self) -> list[str]:
        """All strategies to get past a truncation, in the order to try them."""
        offsets = [f"offset:{name}" for name in self.offset_params]
        first = {"auto": [], "keyset": ["keyset"], "offset": offsets, "grow": ["grow"]}[self.mode]
        return [*first, *(each for each in ("keyset", *offsets, "grow") if each not in first), "gap"]
