"""The questions that a source of jobs answers.

A vendor may keep its jobs in parts, each with a list of its own, and in groups, which end when all of their
jobs have.
"""

import re
from abc import abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, ClassVar

from roundsman.events import Event
from roundsman.kit.asking import Ask, JobsState
from roundsman.kit.listing import Paging
from roundsman.kit.pages import At, Cut, Job, Look, Page, Spec
from roundsman.kit.tracked import Tracked
from roundsman.options.values import Duration, Start
from roundsman.plugin import Poll, Source

ID = re.compile(r"[0-9A-Za-z_-]{1,64}")
"""An id that can stand in a path and in a query."""


class Questions(Source):
    """The questions that a source of jobs answers. A vendor's class overrides these, and nothing else."""

    start: Start
    stall_after: Duration

    document: ClassVar[type[JobsState]] = JobsState
    noun: ClassVar[str] = "batch"
    """The vendor's word for a job; `nouns`: for jobs; `group_noun`: for a group."""
    nouns: ClassVar[str] = "batches"
    group_noun: ClassVar[str] = "batch"
    unknown_by: ClassVar[frozenset[int]] = frozenset({404})
    """Statuses that mean that the vendor does not know a job."""
    list_is_optional: ClassVar[bool] = False
    """Jobs that are tracked by id do not need the list."""
    rows_are_whole: ClassVar[bool] = True
    """The list shows all that there is to know of a job."""
    at_once: ClassVar[int] = 30
    """Maximum jobs that are asked for singly per visit and part; the others come at later visits."""

    @property
    def give_up_after(self) -> float:
        """Seconds after which a job that answers only with errors is given up."""
        return 7 * 86400.0

    # -- ids -------------------------------------------------------------------------------------------------

    @classmethod
    def spec(cls, written: str) -> Spec | None:
        """The id as a person or a webhook wrote it; None if it cannot be one."""
        return Spec(written, "") if ID.fullmatch(written) else None

    @classmethod
    def id_help(cls) -> str:
        """How an id may be written, if it is not the id alone; the end of a message."""
        return ""

    @classmethod
    def label(cls, part: str, key: str, *, group: bool = False) -> str:
        """A job or a group as `spec` reads it."""
        return key

    def event_ids(self, key: str) -> Sequence[str]:
        """Ids of events that report the end of this job."""
        return [f"{key}:completed"]

    def event_id(self, job: Job) -> str:
        """The id of the event that reports this end of the job."""
        return f"{job.key}:completed"

    @classmethod
    def part_title(cls, part: str) -> str:
        """A part as a person knows it."""
        return part

    # -- what the vendor has ---------------------------------------------------------------------------------

    async def parts(self, ask: Ask) -> Sequence[str]:
        """The names of the parts; one without a name if the vendor has none."""
        return [""]

    def takes_ids(self, part: str) -> bool:
        """Whether ids can be tracked in this part."""
        return True

    def has_groups(self, part: str) -> bool:
        """Whether jobs of this part have groups."""
        return False

    @property
    def lists(self) -> bool:
        """Whether the vendor has a list of jobs."""
        return True

    def paging(self) -> Paging:
        """How the list is asked for."""
        return Paging()

    async def listed(self, ask: Ask, part: str, at: At) -> Page:
        """One answer of the list."""
        raise NotImplementedError

    @abstractmethod
    async def one(self, ask: Ask, part: str, key: str, tag: Any) -> Look:
        """One job. Raises `Unreadable` if the answer is not provably about it."""

    async def members(self, ask: Ask, part: str, group: str, at: At) -> Page:
        """Jobs of a group, only where jobs have groups."""
        raise NotImplementedError

    @abstractmethod
    def ended(self, ask: Ask, part: str, job: Job) -> Sequence[Event]:
        """The events of a job that has ended: what failed, then the job."""

    def group_ended(self, part: str, group: str, jobs: Sequence[Job]) -> Event:
        """The event of a group all of whose jobs have ended."""
        raise NotImplementedError

    def finished(self, ask: Ask) -> None:
        """A round of everything that is due has ended."""

    def has_more(self, ask: Ask) -> bool:
        """Whether `after` has something to do."""
        return False

    def after(self, ask: Ask) -> AsyncIterator[Poll]:
        """More polls after the jobs were looked at."""
        return _nothing()

    def is_wanted_again(self, ask: Ask, key: str) -> bool:
        """Whether a job whose end was reported is looked at once more."""
        return False

    def pace(self) -> float:
        """Seconds between two requests of this source; not applied to a loopback address."""
        return 0.0

    # -- words -----------------------------------------------------------------------------------------------

    def unknown_state(self, job: Job) -> tuple[str, str]:
        """The remark on a state of no known meaning, and its subject."""
        what = f"{self.noun} {job.key} has the unknown status {job.state!r}, which does not count as an end"
        return what, f"status {job.state}"

    def oddity(self, before: list[Any], job: Job) -> str:
        """What is odd about a job that looked otherwise before; "" if nothing is."""
        return ""

    def details(self, part: str, entry: Tracked) -> Mapping[str, Any]:
        """What the notice of a stall has besides the id."""
        return {}

    def cut(self, ask: Ask, part: str, cut: Cut) -> Event | None:
        """The notice of a list that shows fewer jobs than it has, or may have; None if that is not known."""
        return None

    def group_cut(self, ask: Ask, part: str, group: str, cut: Cut) -> Event:
        """The notice of a group that shows fewer jobs than it has."""
        raise NotImplementedError


async def _nothing() -> AsyncIterator[Poll]:
    for poll in list[Poll]():
        yield poll
