"""What a visit to a source of jobs works with: the state, requests at the vendor's pace, and remarks."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, ClassVar

import msgspec

from roundsman import wire
from roundsman.errors import Backoff
from roundsman.http.answers import Answer
from roundsman.kit.builder import PollBuilder
from roundsman.kit.documents import Count, Document, renamed
from roundsman.kit.failing import Failing
from roundsman.kit.listing import ListState
from roundsman.kit.pages import Job, Page, Spec
from roundsman.kit.searching import Searches
from roundsman.kit.tracked import Tracked
from roundsman.plugin import Poll, State, Visit

Keys = list[str]  # in a class with an attribute `list`, Python 3.14 reads `list[str]` as of that
"""Keys of groups, in their order."""


class PartState(Document):
    """The state of one part."""

    open: dict[str, Tracked] = {}
    """Jobs that have not ended."""
    groups: dict[str, Tracked] = {}
    """Groups that have not ended."""
    given_up: Keys = []
    """Groups that were given up: their jobs do not open them again."""
    list: ListState = msgspec.field(default_factory=ListState)
    failing: Failing | None = None

    version: ClassVar = 0  # the state of the source has the version

    def repaired(self) -> None:
        """What is missing now is found again by reading the list from the beginning."""
        self.list = ListState(cut=self.list.cut)


class JobsState(PartState):
    """The state of a source; if the vendor keeps no parts, that of its only part, too."""

    floor: str | None = None
    """What ended before it is not reported; "" for no floor, null before the first answer."""
    wanted: dict[str, Count] = {}
    """Ids to track, and in how many rounds they were not found."""
    parts: dict[str, dict[str, Any]] = {}
    """The states of the parts as they are stored, because there may be thousands; `part` reads one."""
    next_part: str | None = None
    """Where the next round begins, if this one was cut short."""
    singles_rest: bool = False
    """The next due visit makes no single requests: it goes on with what follows them."""
    fine: bool = False
    """An answer about a single job was good: the credentials were accepted once."""
    remarked: list[str] = []
    unread: list[str] = []

    version: ClassVar = 1

    @classmethod
    def upgrade(cls, old: dict[str, Any]) -> dict[str, Any]:
        """Until 0.6, states were loose objects without a version."""
        new = renamed(old, {"odd": "remarked"})
        if "wanted" in new:
            new["wanted"] = (
                dict(new["wanted"]) if isinstance(new["wanted"], dict) else dict.fromkeys(new["wanted"], 0)
            )
        return new

    def repaired(self) -> None:
        super().repaired()
        for name in self.parts:
            part = self.part(name)
            part.repaired()
            self.keep(name, part)

    def part(self, name: str) -> PartState:
        """The state of one part. Its changes count once `keep` has it."""
        if not name:
            return self
        part = PartState.load(self.parts.get(name, {}) | {"v": 0})
        self.dropped = list(dict.fromkeys([*self.dropped, *(f"parts.{each}" for each in part.dropped)]))
        part.dropped = []
        return part

    def keep(self, name: str, part: PartState) -> None:
        if name and (stored := part.dump()) != self.parts.get(name, {}):
            self.parts[name] = stored

    def dump(self) -> dict[str, Any]:
        """As `Document.dump`, but it shares the states of the parts: `keep` replaces them and changes none."""
        parts, self.parts = self.parts, {}
        dumped, self.parts = super().dump(), parts
        return {**dumped, "parts": dict(parts)} if parts else dumped


class Ask(PollBuilder):
    """The working data of one visit."""

    doc: Any

    def __init__(self, base_url: str, start: str | datetime, visit: Visit, state: State, doc: Any) -> None:
        super().__init__(state, doc)
        self._base_url, self._start = base_url, start
        self.visit, self.now = visit, visit.now
        self.pause = 0.0
        """Seconds to wait before each request."""
        self.stop: Exception | None = None
        """Why the round is cut short."""
        self.tired: Backoff | None = None
        """Why no more requests are made at this visit; what was found so far counts."""
        self.specs: dict[str, Spec] = {}
        """The ids to track, as they are written."""
        self.searches = Searches()
        self.named: set[str] | None = None
        """Jobs and groups that a webhook named: only those are asked for. None: all that are due."""
        self.only: str | None = None
        """The part of every id, if there is only one."""
        self.alone = False
        """Whether the source has one part only."""
        self.skips_singles = False
        """This visit makes no single requests: the last one ended there, and had more to do."""
        self._parts: dict[str, PartState] = {}
        """The states of the parts that were visited since the last poll."""

    def part(self, name: str) -> PartState:
        """The state of one part, until the next poll."""
        if name not in self._parts:
            self._parts[name] = self.doc.part(name)
        return self._parts[name]

    def poll(self) -> Poll:
        for name, part in self._parts.items():
            self.doc.keep(name, part)
        self._parts = {}
        self.remarks += self.doc.remarks()
        return super().poll()

    async def get(
        self,
        path: str,
        query: Mapping[str, str | int],
        headers: Mapping[str, str] | None = None,
        tag: Any = None,
    ) -> Answer:
        """As `http.get`, of a path below `base_url`."""
        if self.pause:
            await self.visit.pause(self.pause)
        return await self.visit.http.get(f"{self._base_url}/{path}", query, headers, tag)

    def rows_of(
        self,
        answer: Answer,
        path: str,
        read: Callable[[dict[str, Any], Any], Job | None],
        total: Callable[[dict[str, Any], int], int | None] | None = None,
    ) -> Page:
        """The jobs in one answer of a list; `read` returns None for a row that it remarked on.

        `total` gets the members beside the rows and the number of rows, and returns that of the whole list.
        """
        if self.doc.floor is None:
            self.begin(self._start, answer.date(), self.now)
        if answer.unchanged:
            return Page({}, tag=answer.tag, unchanged=True)
        if answer.status == 204:
            return Page({}, total=0)
        damaged: list[wire.Damage] = []
        items = answer.items(path, damaged)
        self.keep(damaged)
        jobs = [job for data, raw in items if (job := read(data, raw)) is not None]
        count = total(answer.envelope(), len(items)) if total is not None else None
        unread = len(damaged) + len(items) - len(jobs)
        return Page({job.key: job for job in jobs}, len(items), count, answer.tag, unread=unread)
