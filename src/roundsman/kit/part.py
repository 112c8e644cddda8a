"""One part of a source of jobs at one visit: its list, what the list does not show, and its groups."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import datetime
from typing import Any

from roundsman import wire
from roundsman.errors import Backoff, Denied, RequestFailed, Unreadable
from roundsman.kit.asking import Ask
from roundsman.kit.failing import Breaker, Failing, PartLabel
from roundsman.kit.listing import Listing, whole
from roundsman.kit.pages import FAULTS, At, Cut, Job, Look, Page, Spec, is_about_all, is_about_one
from roundsman.kit.questions import ID, Questions
from roundsman.kit.tracked import GONE_AFTER, About, Tracked
from roundsman.times import parse_time, rfc3339

GIVEN_UP_KEPT = 100
"""Given-up groups that a part remembers."""
SEARCH_EVERY = 30
"""Visits between two searches of all parts for an id, while one that may have it fails."""


class PartVisit:
    """One part. State and events agree after each step, so that what came before an error counts."""

    def __init__(self, round_: Ask, source: Questions, name: str) -> None:
        self._round, self._source, self._visit = round_, source, round_.visit
        self._name = name
        self._label = PartLabel(name, source.part_title(name))
        self._state = round_.doc.part(name)
        self._found: dict[str, bool] = {}
        """Jobs that were seen at this visit, and whether the list shows them in its first answer."""
        self._told: set[str] = set()
        """Ids of the events of this visit."""
        self._answers = 0
        self._failed: list[tuple[dict[str, Tracked], str, Exception]] = []
        """What could not be asked for, and why."""
        self._list_fault: Exception | None = None
        self._fatal: Exception | None = None
        """An error that concerns all questions."""
        self._breaker = Breaker()

    async def visit_it(self) -> None:
        state, named = self._state, self._round.named
        if named is None and self._source.lists:
            await self._read_list()
        else:
            await self._place_wanted()
        await self._forget_what_is_told()
        if not self._round.skips_singles:
            await self._each(state.open, self._hidden(), self._single)
        shown = {entry.group for entry in state.open.values() if entry.listed}
        now = self._round.now
        groups = [
            key
            for key, entry in state.groups.items()
            if not entry.is_early(now) and (key in named if named is not None else key not in shown)
        ]
        await self._each(state.groups, groups, self._group)
        if named is None and not self._visit.wait:
            await self._search()
        self._give_up()
        self._report_stalls()
        if self._fatal is not None:
            raise self._fatal
        self._raise_if_nothing_was_answered()

    # -- how the part fares ----------------------------------------------------------------------------------

    def rests(self) -> bool:
        """Whether it failed recently and is left alone."""
        return self._state.failing is not None and self._state.failing.rests(self._round.now)

    def succeed(self) -> None:
        """Record that the part answered."""
        failing, self._state.failing = self._state.failing, None
        if failing is not None:
            self._round.events += failing.recovered(self._source.name, self._label, self._round.now)

    def fail(self, exc: Exception) -> None:
        """Record the error, leave the part alone for a while, and report the third failure in a row."""
        round_ = self._round
        if round_.alone:
            return  # then the source itself fails
        failing = self._state.failing = self._state.failing or Failing(rfc3339(round_.now))
        pause = failing.count(round_.now, self._source.interval)
        round_.events += failing.failed(self._source.name, self._label, exc, round_.now)
        about = f"failing {self._name} {failing.since}"
        round_.remark(f"connection {self._label.title}: {exc}; again in {pause}", about=about)

    def _raise_if_nothing_was_answered(self) -> None:
        """Without any good answer, the fault is the vendor's or the credentials', unless a job is refused."""
        if self._answers or self._round.tired is not None:
            return
        errors = [exc for _, _, exc in self._failed] + ([self._list_fault] if self._list_fault else [])
        # If the credentials were accepted before, a single 403 concerns that one job; a stall notice will
        # report it.
        ours = [exc for exc in errors if isinstance(exc, Denied)]
        ours = [] if self._round.doc.fine and len(ours) == 1 else ours
        for exc in (*ours, *(exc for exc in errors if not is_about_one(exc))):
            raise exc

    # -- the list --------------------------------------------------------------------------------------------

    async def _read_list(self) -> None:
        hidden = sum(not entry.listed for entry in self._state.open.values())
        hidden = hidden if self._source.rows_are_whole else 0
        listing = Listing(self._source.paging(), self._state.list, self._round.now, self)
        try:
            first = await listing.first(hidden)
            await self._place_wanted()
            goes_on = listing.goes_on
            if first is not None:
                self._answers += 1
                await listing.rest(first)
        except (RequestFailed, Unreadable) as exc:
            if not self._source.list_is_optional:
                raise
            self._list_fault = exc
            self._round.remark(f"the list of batches cannot be read: {exc}", about="list")
            await self._place_wanted()
            return
        if first is not None and not first.unchanged and not goes_on:
            for key, entry in self._state.open.items():
                entry.listed = self._found.get(key, False)

    async def ask(self, at: At) -> Page:
        return await self._source.listed(self._round, self._name, at)

    async def knows(self, key: str) -> bool:
        return (await self._ask_for(key, None)).job is not None

    def cut(self, total: int | None, shown: int, why: str) -> bool:
        event = self._source.cut(self._round, self._name, Cut(total, shown, why))
        self._round.events += [event] if event is not None else []
        return event is not None

    # -- jobs ------------------------------------------------------------------------------------------------

    async def take(self, page: Page, *, listed: bool, group: str | None = None, asked: bool = False) -> int:
        """Track what has not ended; report what has, unless it ended untracked before `floor`."""
        ids = [self._source.event_id(job) for job in page.rows.values() if job.end != "runs" or not job.whole]
        known = self._told | await self._visit.known(ids)
        opened: set[str | None] = set()
        news = 0
        for key, job in page.rows.items():
            if job.whole:
                self._found[key] = self._found.get(key, False) or listed
            own = job.group or group
            if self._source.event_id(job) in known and not self._source.is_wanted_again(self._round, key):
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
        self._round.rows += news
        await self._open(opened - {None, *self._state.groups, *self._state.given_up})
        return news

    def _follow(self, job: Job) -> int:
        """Track a job of which the list shows only that it is there. Returns whether that is news."""
        if job.key in self._state.open or (job.end != "runs" and self._is_old(job.begun)):
            return 0
        self._state.open[job.key] = Tracked.follow(self._visit)
        return 1

    def _has_ended(self, job: Job, group: str | None, *, listed: bool) -> bool:
        """Whether it has ended; if not, record how it looks."""
        if job.end == "ended":
            return True
        if job.end == "unknown":
            self._round.remark(*self._source.unknown_state(job))
        entry = self._state.open.get(job.key)
        if entry is None:
            entry = self._state.open[job.key] = Tracked.follow(self._visit)
            entry.listed = listed
        if job.end == "settles" and entry.stands(job.seen, self._visit, self._source.interval):
            return True
        entry.group = group
        if entry.seen and (odd := self._source.oddity(entry.seen, job)) and entry.remarks("odd"):
            self._round.remark(odd)
        entry.saw(job.seen, self._visit)
        return False

    def _report(self, job: Job) -> None:
        self._told.add(self._source.event_id(job))
        self._round.events += self._source.ended(self._round, self._name, job)

    def _is_old(self, at: datetime | None) -> bool:
        floor = parse_time(self._round.memory.get("floor"))
        return floor is not None and at is not None and at < floor

    async def _forget_what_is_told(self) -> None:
        """A webhook may have reported what is still tracked here."""
        ids = {each: key for key in self._state.open for each in self._source.event_ids(key)}
        for each in await self._visit.known(list(ids)):
            if not self._source.is_wanted_again(self._round, ids[each]):
                self._state.open.pop(ids[each], None)

    # -- one by one ------------------------------------------------------------------------------------------

    def _hidden(self) -> list[str]:
        """Jobs that neither the list nor a look at their group shows, and whose time has come."""
        named, state = self._round.named, self._state
        return [
            key
            for key, entry in state.open.items()
            if not entry.is_early(self._round.now)
            and (
                key in named
                if named is not None
                else not (entry.listed or key in self._found or entry.group in state.groups)
            )
        ]

    async def _each(
        self, entries: dict[str, Tracked], keys: Sequence[str], look: Callable[[str], Awaitable[None]]
    ) -> None:
        """Ask about each in turn; if there are very many, about those that have waited longest.

        If the vendor asks us to wait, ask about one only: if it always does, poll slowly instead of never.
        """
        asked: list[str] = []
        waiting = iter(sorted(keys, key=lambda key: entries[key].looked or "")[: self._source.at_once])

        async def one_after_the_other() -> None:
            for key in waiting:
                if self._is_enough(len(asked)):
                    return
                asked.append(key)
                await look(key)

        side_by_side = self._source.concurrency or 1 if self._round.alone else 1
        await asyncio.gather(*(one_after_the_other() for _ in range(side_by_side)))
        if len(asked) < len(keys):
            for key in asked:
                if key in entries:
                    entries[key].looked = rfc3339(self._round.now)

    def _is_enough(self, asked: int) -> bool:
        """Whether to ask no more at this visit."""
        spoilt = self._fatal is not None or self._round.tired is not None or self._round.stop is not None
        return spoilt or self._breaker.is_open or bool(asked and self._visit.wait)

    async def _single(self, key: str) -> None:
        entry = self._state.open[key]
        if not ID.fullmatch(key):
            self._gone(self._state.open, key)  # an id that cannot be asked for
            return
        try:
            look = await self._ask_for(key, entry.tag)
            self._answers, self._round.doc.fine = self._answers + 1, True
            self._breaker.answered()
            await self._looked(key, entry, look)
        except FAULTS as exc:
            self._trouble(self._state.open, key, exc)

    async def _looked(self, key: str, entry: Tracked, look: Look) -> None:
        if look.unchanged:
            entry.answered()
        elif look.job is None:
            if entry.not_found(self._visit, self._source.interval):
                self._gone(self._state.open, key)
        else:
            # What has to look the same twice needs a second answer: a 304 would prevent it.
            entry.tag = look.tag if look.job.end != "settles" else None
            await self.take(Page({key: look.job}), listed=False, asked=entry.asked)

    def _is_unknown(self, exc: Exception) -> bool:
        """Whether the vendor says that it does not know what was asked for."""
        return getattr(exc, "status", None) in self._source.unknown_by and is_about_one(exc)

    def _trouble(self, entries: dict[str, Tracked], key: str, exc: Exception) -> None:
        """Handle the error of one job or group. It does not concern the others, unless it is about all."""
        entry = entries[key]
        if is_about_all(exc):
            self._fatal = exc
            return
        self._failed.append((entries, key, exc))
        self._breaker.count(exc)
        if isinstance(exc, Backoff):
            self._visit.defer(exc.after)
            entry.postpone(self._round.now)
            self._round.tired = exc
            self._round.doc.singles_rest = self._source.has_more(self._round)
        if entry.remarks("asking"):
            self._round.remark(f"{self._noun(entries)} {key} cannot be asked for: {exc}")

    def _give_up(self) -> None:
        """Give up what fails for days while others are answered, or is refused as such.

        Otherwise, the fault is the vendor's.
        """
        for entries, key, exc in self._failed:
            if (
                key in entries
                and (self._answers or is_about_one(exc))
                and entries[key].has_failed(self._visit, self._source.give_up_after)
            ):
                self._gone(entries, key, f"({exc}) ")

    def _noun(self, entries: dict[str, Tracked]) -> str:
        return self._source.noun if entries is self._state.open else self._source.group_noun

    def _gone(self, entries: dict[str, Tracked], key: str, why: str = "") -> None:
        """Report that the vendor no longer knows it, and ask no more."""
        entry = entries[key]
        if entries is self._state.groups:
            self._drop_group(key)
        else:
            del entries[key]
        about = About(self._source.name, self._noun(entries), key)
        self._round.events.append(about.gone(entry, self._round.now, why))

    def _report_stalls(self) -> None:
        for entries in (self._state.open, self._state.groups):
            for key, entry in entries.items():
                if entry.stalls(self._visit, self._source.stall_after):
                    about = About(self._source.name, self._noun(entries), key)
                    details = self._source.details(self._name, entry)
                    self._round.events.append(about.stalled(entry, self._round.now, details))

    # -- groups ----------------------------------------------------------------------------------------------

    async def _open(self, groups: Iterable[str | None]) -> None:
        found = sorted(group for group in groups if group is not None)
        known = await self._visit.known([f"{group}:completed" for group in found]) if found else set()
        for group in found:
            if f"{group}:completed" not in known:
                self._state.groups[group] = Tracked.follow(self._visit)

    async def _group(self, key: str) -> None:
        """Look at all jobs of one group.

        It has ended when two looks an interval apart show the same ones, none of them under way.
        """
        try:
            await self._look_at(key, self._state.groups[key])
        except FAULTS as exc:
            self._trouble(self._state.groups, key, exc)

    async def _look_at(self, group: str, entry: Tracked) -> None:
        source = self._source
        page = await whole(
            lambda at: self._guess(lambda: source.members(self._round, self._name, group, at)),
            *source.paging().sizes,
        )
        jobs = page.rows
        self._breaker.answered()
        if not jobs:
            if entry.not_found(self._visit, source.interval):
                self._gone(self._state.groups, group)
            return
        await self.take(page, listed=False, group=group, asked=entry.asked)
        for key, each in self._state.open.items():
            if each.group == group and key not in jobs:
                each.group = None
        pending = sorted(key for key, job in jobs.items() if job.end != "ended")
        seen = [hashlib.blake2b(wire.encode([sorted(jobs), pending]), digest_size=8).hexdigest()]
        stands = entry.stands(seen, self._visit, source.interval)
        entry.saw(seen, self._visit)
        if page.total is not None and len(jobs) < page.total:
            self._drop_group(group)
            cut = Cut(page.total, len(jobs))
            self._round.events.append(source.group_cut(self._round, self._name, group, cut))
        elif stands and not pending:
            del self._state.groups[group]
            self._round.events.append(source.group_ended(self._name, group, list(jobs.values())))

    async def _guess(self, ask: Callable[[], Awaitable[Page]]) -> Page:
        """An answer; an empty one if the vendor does not know what was asked for, or refuses to show it."""
        try:
            return await ask()
        except (RequestFailed, Denied) as exc:
            if not self._is_unknown(exc):
                raise
            return Page({}, total=0)

    def _drop_group(self, group: str) -> None:
        """Stop looking at the group; its jobs that are under way are asked for singly from now on."""
        del self._state.groups[group]
        self._state.given_up = [*self._state.given_up, group][-GIVEN_UP_KEPT:]
        for entry in self._state.open.values():
            if entry.group == group:
                entry.group = None

    # -- ids to track ----------------------------------------------------------------------------------------

    async def _place_wanted(self) -> None:
        """Track the ids that can only be in this part; the others are searched for after the list."""
        for written, spec in self._round.specs.items():
            home = self._round.only if spec.part is None else spec.part
            if home == self._name and self._round.doc.wanted.pop(written, None) is not None:
                await self._track(spec)

    async def _track(self, spec: Spec) -> None:
        """Track what a person or a webhook named, unless its end was reported."""
        ids = [f"{spec.key}:completed"] if spec.group else self._source.event_ids(spec.key)
        again = not spec.group and self._source.is_wanted_again(self._round, spec.key)
        if again or not await self._visit.known(ids):
            entries = self._state.groups if spec.group else self._state.open
            entries.setdefault(spec.key, Tracked.follow(self._visit, asked=True))

    async def _search(self) -> None:
        """Ask for the ids that may be in any part, and track those that are in this one."""
        wanted = self._round.doc.wanted
        everywhere = [
            each for each, spec in self._round.specs.items() if spec.part is None and each in wanted
        ]
        if not self._source.takes_ids(self._name):
            return
        for written in everywhere[: self._source.at_once]:
            if not searches(wanted.get(written, 0)) or not await self._is_here(self._round.specs[written]):
                continue
            wanted.pop(written, None)
            await self._track(self._round.specs[written])

    async def _is_here(self, spec: Spec) -> bool:
        """Whether the vendor knows it in this part; what it says about a job counts at once."""
        if spec.group:
            members = self._source.members
            return bool((await self._guess(lambda: members(self._round, self._name, spec.key, At()))).rows)
        look = await self._ask_for(spec.key, None)
        if look.job is not None:
            await self.take(Page({spec.key: look.job}), listed=False, asked=True)
        return look.job is not None

    async def _ask_for(self, key: str, tag: Any) -> Look:
        """The answer about one job; an empty one if the vendor does not know it."""
        try:
            return await self._source.one(self._round, self._name, key, tag)
        except (RequestFailed, Denied) as exc:
            if not self._is_unknown(exc):
                raise
            return Look()


def searches(rounds: int) -> bool:
    """Whether to search all parts for an id: at first always, later every `SEARCH_EVERY` rounds."""
    return rounds < GONE_AFTER or rounds % SEARCH_EVERY == 0
