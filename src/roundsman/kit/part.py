"""One part of a source of jobs at one visit: its list, what the list does not show, and its groups."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from roundsman import wire
from roundsman.errors import Backoff, Denied, RequestFailed, Unreadable
from roundsman.kit.asking import Ask
from roundsman.kit.failing import Breaker, Failing, PartLabel
from roundsman.kit.listing import Listing, whole
from roundsman.kit.pages import FAULTS, At, Cut, Look, Page, Spec, is_about_all, is_about_one
from roundsman.kit.questions import ID, Questions
from roundsman.kit.records import Records
from roundsman.kit.tracked import Tracked
from roundsman.times import rfc3339


class PartVisit(Records):
    """One visit to a part: its requests, and their results."""

    def __init__(self, ask: Ask, source: Questions, name: str) -> None:
        super().__init__(ask, source, name)
        self._label = PartLabel(name, source.part_title(name))
        self._answers = 0
        self._failed: list[tuple[dict[str, Tracked], str, Exception]] = []
        """What could not be asked for, and why."""
        self._list_fault: Exception | None = None
        self._fatal: Exception | None = None
        """An error that concerns all questions."""
        self._breaker = Breaker()

    async def visit(self) -> None:
        state, named = self._state, self._ask.named
        if named is None and self._source.lists:
            await self._read_list()
        else:
            await self.place_wanted()
        await self.forget_reported()
        if not self._ask.skips_singles:
            await self._each(state.open, self._hidden(), self._single)
        self._breaker = Breaker()  # failures of single jobs prove nothing about groups
        await self._each(state.groups, self._due_groups(), self._group)
        if named is None and not self._visit.wait:
            await self._search()
        self._give_up()
        self.report_stalls()
        if self._fatal is not None:
            raise self._fatal
        self._raise_if_nothing_was_answered()

    # -- the state of the part -------------------------------------------------------------------------------

    def rests(self) -> bool:
        """Whether it failed recently and is left alone."""
        return self._state.failing is not None and self._state.failing.rests(self._ask.now)

    def succeed(self) -> None:
        """Record that the part answered."""
        failing, self._state.failing = self._state.failing, None
        if failing is not None:
            self._ask.events += failing.recovered(self._source.name, self._label, self._ask.now)

    def fail(self, exc: Exception) -> None:
        """Record the error, leave the part alone for a while, and report the third failure in a row."""
        ask = self._ask
        if ask.alone:
            return  # then the source itself fails
        failing = self._state.failing = self._state.failing or Failing(rfc3339(ask.now))
        pause = failing.count(ask.now, self._source.interval)
        ask.events += failing.failed(self._source.name, self._label, exc, ask.now)
        about = f"failing {self._name} {failing.since}"
        ask.remark(f"connection {self._label.title}: {exc}; again in {pause}", about=about)

    def _raise_if_nothing_was_answered(self) -> None:
        """Without any good answer, the fault is the vendor's or the credentials', unless a job is refused."""
        if self._answers or self._ask.tired is not None:
            return
        errors = [exc for _, _, exc in self._failed] + ([self._list_fault] if self._list_fault else [])
        # If the credentials were accepted before, a single 403 concerns that one job; a stall notice will
        # report it.
        ours = [exc for exc in errors if isinstance(exc, Denied)]
        ours = [] if self._ask.doc.fine and len(ours) == 1 and ours[0] is not self._list_fault else ours
        for exc in (*ours, *(exc for exc in errors if not is_about_one(exc))):
            raise exc

    # -- the list --------------------------------------------------------------------------------------------

    async def _read_list(self) -> None:
        hidden = sum(not entry.listed for entry in self._state.open.values())
        hidden = hidden if self._source.rows_are_whole else 0
        listing = Listing(self._source.paging(), self._state.list, self._ask.now, self)
        try:
            first = await listing.first(hidden)
            await self.place_wanted()
            goes_on = listing.goes_on
            if first is not None:
                self._answers += 1
                await listing.rest(first)
        except (RequestFailed, Unreadable, Denied) as exc:
            if not self._source.list_is_optional or is_about_all(exc):
                raise
            self._list_fault = exc
            self._ask.remark(f"the list of {self._source.nouns} cannot be read: {exc}", about="list")
            await self.place_wanted()
            return
        if first is not None and not first.unchanged and not goes_on:
            for key, entry in self._state.open.items():
                entry.listed = self.found.get(key, False)

    async def ask(self, at: At) -> Page:
        return await self._source.listed(self._ask, self._name, at)

    async def knows(self, key: str) -> bool:
        return (await self._ask_for(key, None)).job is not None

    def cut(self, total: int | None, shown: int, why: str) -> bool:
        event = self._source.cut(self._ask, self._name, Cut(total, shown, why))
        self._ask.events += [event] if event is not None else []
        return event is not None

    # -- one by one ------------------------------------------------------------------------------------------

    def _hidden(self) -> list[str]:
        """Jobs that neither the list nor a look at their group shows, and whose time has come."""
        named, state = self._ask.named, self._state
        return [
            key
            for key, entry in state.open.items()
            if not entry.is_early(self._ask.now)
            and (
                key in named
                if named is not None
                else not (entry.listed or key in self.found or entry.group in state.groups)
            )
        ]

    async def _each(
        self, entries: dict[str, Tracked], keys: Sequence[str], look: Callable[[str], Awaitable[None]]
    ) -> None:
        """Ask about each in turn; if there are very many, about those that have waited longest.

        If the vendor asks us to wait, ask about one only: if it always does, poll slowly instead of never.
        """
        if not keys:
            return
        asked: list[str] = []
        waiting = iter(sorted(keys, key=lambda key: self._waited_since(entries[key]))[: self._source.at_once])

        async def one_after_the_other() -> None:
            for key in waiting:
                if self._is_enough(len(asked)):
                    return
                asked.append(key)
                await look(key)

        side_by_side = self._source.concurrency or 1 if self._ask.alone else 1
        await asyncio.gather(*(one_after_the_other() for _ in range(side_by_side)))
        if len(asked) < len(keys):
            for key in asked:
                if key in entries:
                    entries[key].looked = rfc3339(self._ask.now)

    def _waited_since(self, entry: Tracked) -> str:
        """When its last turn was; "" if a clock that was ahead wrote it: that time may not come for long."""
        now = rfc3339(self._ask.now)
        return entry.looked if entry.looked is not None and entry.looked <= now else ""

    def _is_enough(self, asked: int) -> bool:
        """Whether to ask no more at this visit."""
        spoilt = self._fatal is not None or self._ask.tired is not None or self._ask.stop is not None
        return spoilt or self._breaker.is_open or bool(asked and self._visit.wait)

    async def _single(self, key: str) -> None:
        entry = self._state.open[key]
        if not ID.fullmatch(key):
            self.gone(self._state.open, key)  # an id that cannot be asked for
            return
        try:
            look = await self._ask_for(key, entry.tag)
            self._answers, self._ask.doc.fine = self._answers + 1, True
            self._breaker.answered()
            await self._looked(key, entry, look)
        except FAULTS as exc:
            self._trouble(self._state.open, key, exc)

    async def _looked(self, key: str, entry: Tracked, look: Look) -> None:
        if look.unchanged:
            entry.answered()
        elif look.job is None:
            if entry.not_found(self._visit, self._source.interval):
                self.gone(self._state.open, key)
        else:
            # What has to look the same twice needs a second answer: a 304 would prevent it.
            entry.tag = look.tag if look.job.end != "settles" else None
            await self.take(Page({key: look.job}), listed=False, asked=entry.asked)

    def _is_unknown(self, exc: Exception) -> bool:
        """Whether the answer means that the vendor does not know what was asked for."""
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
            entry.postpone(self._ask.now)
            self._ask.tired = exc
            self._ask.doc.singles_rest = self._source.has_more(self._ask)
        if entry.remarks("asking"):
            self._ask.remark(f"{self.noun(entries)} {key} cannot be asked for: {exc}")

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
                self.gone(entries, key, f"({exc}) ")

    # -- groups ----------------------------------------------------------------------------------------------

    def _due_groups(self) -> list[str]:
        """Groups whose time has come.

        A group has not ended while the list shows that one of its jobs has not. But another one may end
        meanwhile: where a reading of the whole list did not show it, only a look at the group does.
        """
        state, named = self._state, self._ask.named
        listed = {entry.group for entry in state.open.values() if entry.listed}
        if state.groups and state.list.full == rfc3339(self._ask.now):
            listed -= {entry.group for key, entry in state.open.items() if key not in self.found}
        return [
            key
            for key, entry in state.groups.items()
            if not entry.is_early(self._ask.now)
            and (key in named if named is not None else key not in listed)
        ]

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
            lambda at: self._guess(lambda: source.members(self._ask, self._name, group, at)),
            *source.paging().sizes,
        )
        jobs = page.rows
        self._answers += 1
        self._breaker.answered()
        if not jobs:
            if entry.not_found(self._visit, source.interval):
                self.gone(self._state.groups, group)
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
            self.drop_group(group)
            cut = Cut(page.total, len(jobs))
            self._ask.events.append(source.group_cut(self._ask, self._name, group, cut))
        elif stands and not pending:
            del self._state.groups[group]
            self._ask.events.append(source.group_ended(self._name, group, list(jobs.values())))

    async def _guess(self, ask: Callable[[], Awaitable[Page]]) -> Page:
        """An answer; an empty one if the vendor does not know what was asked for, or refuses to show it."""
        try:
            return await ask()
        except (RequestFailed, Denied) as exc:
            if not self._is_unknown(exc):
                raise
            return Page({}, total=0)

    # -- ids to track ----------------------------------------------------------------------------------------

    async def _search(self) -> None:
        """Ask for the ids that may be in any part, and track those that are in this one."""
        ask, wanted = self._ask, self._ask.doc.wanted
        if not self._source.takes_ids(self._name):
            return
        self._breaker = Breaker()
        for written in ask.searches.due:
            if self._is_enough(0) or self._visit.wait:
                return
            if written not in wanted:
                continue
            try:
                is_here = await self._is_here(ask.specs[written])
            except FAULTS as exc:
                if isinstance(exc, Backoff) or is_about_all(exc):
                    raise
                # It concerns this id: the next ones are still requested.
                self._breaker.count(exc)
                ask.searches.failed(written, self._name)
                continue
            self._breaker.answered()
            if not is_here:
                ask.searches.answered(written, self._name)
                continue
            wanted.pop(written, None)
            await self.track(ask.specs[written])

    async def _is_here(self, spec: Spec) -> bool:
        """Whether the vendor knows it in this part; what it shows of a job counts at once."""
        if spec.group:
            members = self._source.members
            return bool((await self._guess(lambda: members(self._ask, self._name, spec.key, At()))).rows)
        look = await self._ask_for(spec.key, None)
        if look.job is not None:
            await self.take(Page({spec.key: look.job}), listed=False, asked=True)
        return look.job is not None

    async def _ask_for(self, key: str, tag: Any) -> Look:
        """The answer about one job; an empty one if the vendor does not know it."""
        try:
            return await self._source.one(self._ask, self._name, key, tag)
        except (RequestFailed, Denied) as exc:
            if not self._is_unknown(exc):
                raise
            return Look()
