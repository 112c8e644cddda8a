"""What is known of one part of a source of jobs: the jobs and groups under way, and what was reported of them.

It makes no request. State and events agree after each call, so that what came before an error counts.
"""

from collections.abc import Iterable
from datetime import datetime

from roundsman.kit.asking import Ask
from roundsman.kit.pages import Job, Page, Spec
from roundsman.kit.questions import Questions
from roundsman.kit.tracked import About, Tracked
from roundsman.times import parse_time

GIVEN_UP_KEPT = 100
"""Given-up groups that a part remembers."""


class Records:
    """The records of one part at one visit."""

    def __init__(self, ask: Ask, source: Questions, name: str) -> None:
        self._ask, self._source, self._visit, self._name = ask, source, ask.visit, name
        self._state = ask.part(name)
        self.found: dict[str, bool] = {}
        """Jobs that were seen at this visit, and whether the list shows them in its first answer."""
        self._reported: set[str] = set()
        """Ids of the events of this visit."""

    async def place_wanted(self) -> None:
        """Track the ids that can only be in this part; the others are searched for after the list."""
        for written, spec in self._ask.specs.items():
            home = self._ask.only if spec.part is None else spec.part
            if home == self._name and self._ask.doc.wanted.pop(written, None) is not None:
                await self.track(spec)

    async def track(self, spec: Spec) -> None:
        """Track what a person or a webhook named, unless its end was reported."""
        ids = [f"{spec.key}:completed"] if spec.group else self._source.event_ids(spec.key)
        again = not spec.group and self._source.is_wanted_again(self._ask, spec.key)
        if again or not (self._reported | await self._visit.known(ids)).intersection(ids):
            entries = self._state.groups if spec.group else self._state.open
            entries.setdefault(spec.key, Tracked.follow(self._visit, asked=True))

    def shows(self, page: Page) -> None:
        """Its jobs look as they did. A row that does not show all of a job does not stand for a look at it."""
        for key, job in page.rows.items():
            entry = self._state.open.get(key)
            # What was never seen is asked for singly until it is.
            if job.whole and (entry is None or entry.seen is not None):
                self.found[key] = True

    async def take(self, page: Page, *, listed: bool, group: str | None = None, asked: bool = False) -> int:
        """Track what has not ended; report what has, unless it ended untracked before `floor`."""
        ids = [self._source.event_id(job) for job in page.rows.values() if job.end != "runs" or not job.whole]
        known = self._reported | await self._visit.known(ids)
        opened: set[str | None] = set()
        news = 0
        for key, job in page.rows.items():
            if job.whole:
                self.found[key] = self.found.get(key, False) or listed
            own = job.group or group
            if self._source.event_id(job) in known and not self._is_wanted_again(key):
                if job.whole:
                    self._state.open.pop(key, None)
                opened.add(own)  # a webhook may have reported the job, and not yet its group
                continue
            if not job.whole:
                news += self._follow(job)
            elif self._has_ended(job, own, listed=listed):
                followed = self._state.open.pop(key, None) is not None or asked
                if not followed and self._is_old(job.ended or job.begun):
                    continue
                news += 1
                self._report(job._replace(group=own))
                opened.add(own)
            else:
                opened.add(own)
        self._ask.rows += news
        if self._source.has_groups(self._name):
            await self._open(opened - {None, *self._state.groups, *self._state.given_up})
        return news

    def _follow(self, job: Job) -> int:
        """Track a job of which the list shows only that it is there. Returns whether that is news."""
        if job.key in self._state.open or (job.end != "runs" and self._is_old(job.ended or job.begun)):
            return 0
        self._state.open[job.key] = Tracked.follow(self._visit)
        return 1

    def _has_ended(self, job: Job, group: str | None, *, listed: bool) -> bool:
        """Whether it has ended; if not, record how it looks."""
        if job.end == "ended":
            return True
        if job.end == "unknown":
            self._ask.remark(*self._source.unknown_state(job))
        entry = self._state.open.get(job.key)
        if entry is None:
            entry = self._state.open[job.key] = Tracked.follow(self._visit)
            entry.listed = listed
        if job.end == "settles" and entry.stands(job.seen, self._visit, self._source.interval):
            return True
        entry.group = group
        if entry.seen and (odd := self._source.oddity(entry.seen, job)) and entry.remarks("odd"):
            self._ask.remark(odd)
        entry.saw(job.seen, self._visit)
        return False

    def _report(self, job: Job) -> None:
        self._reported.add(self._source.event_id(job))
        self._ask.events += self._source.ended(self._ask, self._name, job)

    def _is_old(self, at: datetime | None) -> bool:
        floor = parse_time(self._ask.doc.floor)
        return floor is not None and at is not None and at < floor

    async def forget_reported(self) -> None:
        """A webhook may have reported what is still tracked here."""
        ids = {each: key for key in self._state.open for each in self._source.event_ids(key)}
        for each in await self._visit.known(list(ids)):
            if not self._is_wanted_again(ids[each]):
                self._state.open.pop(ids[each], None)

    def _is_wanted_again(self, key: str) -> bool:
        """Whether it was reported, and is tracked again on purpose."""
        return key in self._state.open and self._source.is_wanted_again(self._ask, key)

    async def _open(self, groups: Iterable[str | None]) -> None:
        found = sorted(group for group in groups if group is not None)
        known = await self._visit.known([f"{group}:completed" for group in found]) if found else set()
        for group in found:
            if f"{group}:completed" not in known:
                self._state.groups[group] = Tracked.follow(self._visit)

    def drop_group(self, group: str) -> None:
        """Stop looking at the group; its jobs that are under way are asked for singly from now on."""
        del self._state.groups[group]
        self._state.given_up = [*self._state.given_up, group][-GIVEN_UP_KEPT:]
        for entry in self._state.open.values():
            if entry.group == group:
                entry.group = None

    def noun(self, entries: dict[str, Tracked]) -> str:
        return self._source.noun if entries is self._state.open else self._source.group_noun

    def gone(self, entries: dict[str, Tracked], key: str, why: str = "") -> None:
        """Report that the vendor no longer knows it, and ask no more."""
        entry = entries[key]
        if entries is self._state.groups:
            self.drop_group(key)
        else:
            del entries[key]
        about = About(self._source.name, self.noun(entries), key)
        self._ask.events.append(about.gone(entry, self._ask.now, why))

    def report_stalls(self) -> None:
        for entries in (self._state.open, self._state.groups):
            for key, entry in entries.items():
                if entry.stalls(self._visit, self._source.stall_after):
                    about = About(self._source.name, self.noun(entries), key)
                    details = self._source.details(self._name, entry)
                    self._ask.events.append(about.stalled(entry, self._ask.now, details))
