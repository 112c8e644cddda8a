"""The values that pass between a source of jobs and the kit: jobs, pages of lists, and what errors mean."""

import hashlib
from datetime import datetime
from typing import Any, Literal, NamedTuple

from roundsman import wire
from roundsman.errors import Backoff, Denied, NoToken, RequestFailed, Unreadable
from roundsman.times import rfc3339

FAULTS = (RequestFailed, Unreadable, Denied, Backoff)
"""What a question can fail with."""
FULL_FROM = 10
"""A page without a total that has at least so many rows may not be all."""


End = Literal["runs", "ended", "settles", "unknown"]
"""`settles`: it has ended if it still looks the same an interval later. `unknown`: a state of no known meaning."""


class Job(NamedTuple):
    """What could be understood of one job."""

    key: str
    state: str | None
    """The vendor's word for its state."""
    end: End
    seen: list[Any]
    """The values whose change counts."""
    data: dict[str, Any]
    raw: Any = None
    """The object as it came; by default `data`."""
    begun: datetime | None = None
    ended: datetime | None = None
    group: str | None = None
    whole: bool = True
    """Whether this row is all that there is to know; else the job has to be asked for."""


class Look(NamedTuple):
    """What an answer shows of one job."""

    job: Job | None = None
    """None: the vendor does not know it."""
    tag: Any = None
    unchanged: bool = False


class Spec(NamedTuple):
    """An id to track, as a person or a webhook writes it."""

    key: str
    part: str | None = None
    """The part that it belongs to; None: any."""
    group: bool = False


class Cut(NamedTuple):
    """A list that shows fewer rows than it has, or may have."""

    total: int | None
    shown: int
    why: str = ""


class At(NamedTuple):
    """Which rows of a list are asked for."""

    offset: int = 0
    limit: int | None = None
    """How many rows; None: the vendor's default."""
    tag: Any = None


class Page(NamedTuple):
    """One answer of a list."""

    rows: dict[str, Job]
    size: int = 0
    """Rows in the answer, readable or not."""
    total: int | None = None
    """How many rows the list has, as far as the answer proves it."""
    tag: Any = None
    unchanged: bool = False
    unread: int = 0
    """Rows that could not be read."""
    doubtful: bool = False
    """The stated total equals these rows, so it may count the page only.

    It is used until an answer contradicts it.
    """

    @property
    def oldest(self) -> str:
        """The key of the job that was begun first."""
        return min(self.rows, key=lambda key: (_stamp(self.rows[key].begun), key))

    @property
    def stamps(self) -> list[datetime | None]:
        return [job.begun for job in self.rows.values()]

    @property
    def first(self) -> str | None:
        """The key of its first row."""
        return next(iter(self.rows), None)

    def is_all(self, found: int) -> bool:
        """Whether `found` rows are all. Without a total, a full page needs one more request."""
        total = self.total_for(found)
        return found >= total if total is not None else self.size < FULL_FROM

    def total_for(self, found: int) -> int | None:
        """The stated total; None if `found` rows, or those of this answer, are more: then it counts something else."""
        return self.total if self.total is not None and self.total >= max(found, self.size) else None

    def digest(self) -> str:
        """A fingerprint of what counts in it."""
        count = self.total if self.total is not None else len(self.rows)
        rows = [[job.key, job.seen, job.group] for job in self.rows.values()]
        return hashlib.blake2b(wire.encode([count, rows]), digest_size=8).hexdigest()


def _stamp(moment: datetime | None) -> str:
    return rfc3339(moment) if moment is not None else "~"


def is_about_one(exc: Exception) -> bool:
    """Whether a refusal concerns what was asked for, and is not a fault of the vendor."""
    return 400 <= (getattr(exc, "status", None) or 0) < 500 and not getattr(exc, "passing", False)


def is_about_all(exc: Exception) -> bool:
    """Whether the credentials are refused: every other question would be refused, too."""
    return isinstance(exc, NoToken) or (isinstance(exc, Denied) and exc.status == 401)
