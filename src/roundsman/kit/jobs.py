"""Jobs: work that was requested and that ends. A vendor answers small questions; the kit does the rest.

Each visit reads the vendor's list of jobs, if there is one, and asks singly for what the list does not show.
A job ends once; a job that does not move, that the vendor no longer knows, or that answers only with errors
for days is reported.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import datetime

from roundsman.errors import Backoff, RequestFailed
from roundsman.http.urls import is_loopback
from roundsman.kit.asking import Ask
from roundsman.kit.failing import Breaker
from roundsman.kit.pages import FAULTS, is_about_all
from roundsman.kit.part import PartVisit
from roundsman.kit.questions import Questions
from roundsman.kit.searching import HOPELESS_AFTER, is_due
from roundsman.kit.tracked import GONE_AFTER, About, Tracked
from roundsman.plugin import Poll, State, Visit
from roundsman.times import rfc3339

CHUNK = 20
"""Parts that are asked in one group."""
COMMIT_AFTER = 500
"""Parts asked, or events found, before a commit."""
NAMED = 10
"""Connections that one notice names."""


class Jobs(Questions):
    """A source of jobs: the answers to `Questions` make one."""

    def poll(self, visit: Visit, state: State) -> AsyncIterator[Poll]:
        return Round(self, visit, state).polls()

    @classmethod
    def follow(cls, state: State, ids: Sequence[str]) -> State:
        for each in ids:
            if cls.spec(each) is None:
                raise ValueError(f"{each[:80]!r} is not the id of a {cls.noun}{cls.id_help()}")
        found = cls.document.load(state)
        found.wanted = {**found.wanted, **{each: 0 for each in ids if each not in found.wanted}}
        return found.dump()

    @classmethod
    def following(cls, state: State) -> Sequence[str]:
        found = cls.document.load(state)
        parts = {name: found.part(name) for name in ("", *found.parts)}
        jobs = [cls.label(name, key) for name, part in parts.items() for key in part.open]
        groups = [cls.label(name, key, group=True) for name, part in parts.items() for key in part.groups]
        return list(dict.fromkeys([*found.wanted, *jobs, *groups]))

    def rewound(self, state: State, to: datetime | None) -> State:
        found = self.document.load(state)
        found.floor = rfc3339(to) if to else ""
        for name in ("", *found.parts):
            part = found.part(name)
            part.repaired()
            part.given_up, part.failing = [], None
            found.keep(name, part)
        return found.dump()


class Round(Ask):
    """One visit: all parts in turn, and what a webhook named."""

    def __init__(self, source: Questions, visit: Visit, state: State) -> None:
        super().__init__(source.base_url, source.start, visit, state, source.document.load(state))
        self.source = source
        self.pause = 0.0 if is_loopback(source.base_url) else source.pace() * (source.concurrency or 1)
        self.good = 0
        """Parts that answered."""
        self.errors: list[tuple[str, Exception]] = []
        """The parts that failed, and why."""
        self._tried: set[str] = set()
        self._done: set[str] = set()
        """Parts that were asked in this round, and those whose turn is over."""
        self._breaker = Breaker()
        self._turns = asyncio.Semaphore(source.concurrency or 1)

    async def polls(self) -> AsyncIterator[Poll]:
        found = ((each, self.source.spec(each)) for each in self.doc.wanted)
        self.specs = {each: spec for each, spec in found if spec is not None}
        names = list(await self.source.parts(self))
        homes = [name for name in names if self.source.takes_ids(name)]
        self.only = homes[0] if len(homes) == 1 else None
        self.alone = len(names) == 1
        anywhere = [each for each, spec in self.specs.items() if spec.part is None]
        self.searches.choose(anywhere, self.doc.wanted, self.source.at_once)
        watched = set(names)
        self.doc.parts = {name: part for name, part in self.doc.parts.items() if name in watched}
        narrow = self._named(homes)
        if narrow is None:
            self.skips_singles, self.doc.singles_rest = self.doc.singles_rest, False
        names = self._from_where_it_ended(names) if narrow is None else narrow
        async for poll in self._visit(names, narrow=narrow is not None):
            yield poll
        silent = not self.good and names and (self.errors or (narrow is None and not self.tired))
        if self.stop is None and silent:
            self.stop = self._first_error() or RequestFailed("no connection answers")
        if self.stop is None and narrow is None:
            self._report_not_found(set(homes))
            self.source.finished(self)
        yield self.poll()
        if self.stop is not None:
            raise self.stop
        if self.tired is None and not self.visit.wait:
            async for poll in self.source.after(self):
                yield poll
        if self.tired is not None and self.alone:
            raise self.tired

    def _first_error(self) -> Exception | None:
        """The first error of a part. Its message names the connection, if no other one failed."""
        if not self.errors:
            return None
        _, exc = self.errors[0]
        titles = {self.source.part_title(name) for name, _ in self.errors}
        if len(titles) == 1 and (title := titles.pop()):
            exc.args = (f"connection {title}: {exc}", *exc.args[1:])
        return exc

    def _named(self, homes: Sequence[str]) -> list[str] | None:
        """The parts named by the webhook that triggered this visit; None for all."""
        begun = self.doc.floor is not None or not self.source.lists
        if self.visit.trigger != "webhook" or not begun or not self.doc.wanted:
            return None
        specs = self.specs.values()
        found = {self.only if spec.part is None else spec.part for spec in specs}
        if None in found:
            return None
        self.named = {spec.key for spec in specs}
        return [name for name in homes if name in found]

    def _from_where_it_ended(self, names: list[str]) -> list[str]:
        begin, self.doc.next_part = self.doc.next_part, None
        at = names.index(begin) if begin in names else 0
        return names[at:] + names[:at]

    async def _visit(self, names: list[str], *, narrow: bool) -> AsyncIterator[Poll]:
        unsaid = 0
        for at in range(0, len(names), CHUNK):
            chunk, rest = names[at : at + CHUNK], names[at + CHUNK :]
            await asyncio.gather(*(self._one(name) for name in chunk))
            cut = bool(self.stop is not None or self.visit.wait)
            # The next round begins where this one ended; if the first part ended it, after that one, because
            # the fault may be its own.
            left = next((name for name in names if name not in self._done), None) if cut else None
            if left is not None and not narrow and not self.alone:
                ended_it = left == names[0] and left in self._tried
                self.doc.next_part = names[1 % len(names)] if ended_it else left
            if cut:
                return
            unsaid += len(chunk)
            if rest and (unsaid >= COMMIT_AFTER or len(self.events) >= COMMIT_AFTER):
                unsaid = 0
                yield self.poll()

    async def _one(self, name: str) -> None:
        """Visit one part when its turn comes.

        Its error does not affect the others, unless it ends the round. What it answered before the error
        counts.
        """
        async with self._turns:
            if self.stop is not None or (self.visit.wait and self._tried):
                return  # the vendor asks us to wait; but each round asks one part
            self._tried.add(name)
            part = PartVisit(self, self.source, name)
            if part.rests():
                self.searches.silent.add(name)
                self._done.add(name)
                return
            try:
                await part.visit()
            except FAULTS as exc:
                if isinstance(exc, Backoff):
                    self.visit.defer(exc.after)  # for all parts; this one also waits after `fail`
                # Refused credentials, and a vendor that is down, concern all parts.
                if is_about_all(exc) or self._breaker.count(exc):
                    self.stop = self.stop or exc
                    return
                self._done.add(name)
                self.errors.append((name, exc))
                self.searches.silent.add(name)
                part.fail(exc)
            else:
                self._breaker.answered()
                self.good += 1
                self._done.add(name)
                part.succeed()

    def _report_not_found(self, homes: set[str]) -> None:
        """After a round: the ids that no part knew."""
        for written, spec in self.specs.items():
            if written not in self.doc.wanted:
                continue
            if spec.part is None:
                self._count_search(written, homes)
            elif spec.part not in homes:  # else its part did not answer
                why = f"{spec.part} is not among the connections of this source. "
                self._count_not_found(written, why)

    def _count_search(self, written: str, homes: set[str]) -> None:
        """Count the round for an id that may be in any part, unless a part was left out of its search."""
        rounds, missing = self.doc.wanted[written], sorted(self.searches.missing(written, homes))
        if not is_due(rounds):
            self.doc.wanted[written] = rounds + 1
        elif written not in self.searches.due or not self.searches.is_complete(written, homes):
            return
        elif not missing:
            self._count_not_found(written)
        elif rounds < HOPELESS_AFTER:
            self.doc.wanted[written] = rounds + 1
        else:
            titles = ", ".join(self.source.part_title(name) for name in missing[:NAMED])
            more = f" and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
            self._count_not_found(written, f"These connections never answered about it: {titles}{more}. ")

    def _count_not_found(self, written: str, why: str = "") -> None:
        rounds = self.doc.wanted[written]
        if rounds + 1 < GONE_AFTER:
            self.doc.wanted[written] = rounds + 1
            return
        del self.doc.wanted[written]
        about = About(self.source.name, self.source.noun, written)
        self.events.append(about.gone(Tracked.follow(self.visit), self.now, why))
