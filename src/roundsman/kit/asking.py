"""What a vendor's methods get for one visit: requests at its pace, pages of its lists, and remarks."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from roundsman import wire
from roundsman.errors import Backoff
from roundsman.http.answers import Answer
from roundsman.http.urls import is_loopback
from roundsman.kit.builder import PollBuilder
from roundsman.kit.pages import Job, Page, Spec
from roundsman.plugin import State, Visit


class Ask(PollBuilder):
    """The working data of one visit."""

    doc: Any

    def __init__(self, base_url: str, start: str | datetime, visit: Visit, state: State, doc: Any) -> None:
        super().__init__(state, doc)
        self._base_url, self._start = base_url, start
        self.visit, self.now = visit, visit.now
        self.pause = 0.0
        """Seconds to wait before each request; not applied to a loopback address."""
        self.stop: Exception | None = None
        """Why the round is cut short."""
        self.tired: Backoff | None = None
        """Why no more requests are made at this visit; what was found so far counts."""
        self.specs: dict[str, Spec] = {}
        """The wanted ids, as they are written."""
        self.named: set[str] | None = None
        """Jobs and groups that a webhook named: only those are asked for. None: all that are due."""
        self.only: str | None = None
        """The part of every id, if there is only one."""
        self.alone = False
        """Whether the source has one part only."""
        self.skips_singles = False
        """This visit asks for nothing singly: the last one ended there, and had more to do."""

    async def get(
        self,
        path: str,
        query: Mapping[str, str | int],
        headers: Mapping[str, str] | None = None,
        tag: Any = None,
    ) -> Answer:
        """As `http.get`, of a path below `base_url`."""
        if self.pause and not is_loopback(self._base_url):
            await self.visit.pause(self.pause)
        return await self.visit.http.get(f"{self._base_url}/{path}", query, headers, tag)

    def rows_of(self, answer: Answer, path: str, read: Callable[[dict[str, Any], Any], Job | None]) -> Page:
        """The jobs in one answer of a list; `read` returns None for a row that it remarked on."""
        self.begin(self._start, answer.date(), self.now)
        if answer.unchanged:
            return Page({}, tag=answer.tag, unchanged=True)
        if answer.status == 204:
            return Page({}, total=0)
        damaged: list[wire.Damage] = []
        items = answer.items(path, damaged)
        self.keep(damaged)
        jobs = [job for data, raw in items if (job := read(data, raw)) is not None]
        return Page({job.key: job for job in jobs}, len(items), tag=answer.tag)
