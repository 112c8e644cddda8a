"""Jobs: things that somebody started and that end. A vendor answers small questions; the kit does the rest.

Each visit reads the vendor's list of jobs, if there is one, and asks singly for what the list does not show.
A job ends once; a job that does not move, that the vendor no longer knows, or that answers only with errors
for days is reported.
"""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime

from roundsman.kit.questions import Questions
from roundsman.kit.rounds import Round
from roundsman.plugin import Poll, State, Visit
from roundsman.times import rfc3339


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
