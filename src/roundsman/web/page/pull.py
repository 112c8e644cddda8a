"""`GET /events`: events in the order of the log, for programs that pull them."""

from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import Response

from roundsman.config.vocabulary import Vocabulary, of_sources
from roundsman.engine.engine import Engine
from roundsman.events import Event
from roundsman.screen.words import stamp
from roundsman.store import Filter, Pulled, View
from roundsman.web.page.door import Session, refusal
from roundsman.web.page.queries import Query
from roundsman.web.pieces import Pieces

DEFAULT, MOST = 100, 1000
"""Events of one answer, if the request does not say how many, and at most."""
UNDER_WAY = 8
"""Answers at the same time: each holds some MiB until its reader has it."""
KNOWN = ("after", "limit", "source", "type", "outcome")


class Answer(NamedTuple):
    """What was pulled."""

    pulled: Pulled
    sound: Sequence[tuple[Event, float]]
    """Its events without damaged ones."""


class Pull:
    """The endpoint."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._under_way = 0

    async def __call__(self, request: Request, _: Session) -> Response:
        query = Query(request, KNOWN)
        after, limit = query.number("after", 0), query.number("limit", DEFAULT, (1, MOST))
        sources, types = query.words("source"), query.words("type")
        # Short names match, too, as in `roundsman events`: batch.completed of any vendor.
        outcomes = query.words("outcome")
        wanted = Filter([*types, *(f"*.{each}" for each in types)], sources, outcomes)
        if self._under_way >= UNDER_WAY:
            raise refusal(503, "busy", {"retry-after": "1"})

        unknowns = self._unknown(types, outcomes)

        async def read(view: View) -> Answer | str:
            for name in sources:
                if not set(name) & set("*?[") and await view.kind(name) is None:
                    return f"source: {name} is no source of the log"
            for problem, unknown in unknowns:
                # A misspelt one would match nothing, and the program would pass all events.
                if not await view.last(1, unknown):
                    return problem
            found = await view.pull(after, limit, wanted)
            # Here, because to look through some MiB takes some 10 ms.
            return Answer(found, [each for each in found.events if each[0].sound])

        self._under_way += 1
        try:
            found = await self._engine.store.apart(read)
        except BaseException:
            self._done()
            raise
        if isinstance(found, str):
            self._done()
            raise refusal(400, found)
        head = found.pulled.head
        if after > head:
            # Else the program would wait here, and miss all events up to this number.
            self._done()
            why = "the store was replaced, or restored from a backup; begin again with after=0"
            raise refusal(409, f"after: {after} is beyond the last event, {head}: {why}")
        return Pieces(_json(found), "application/json", self._done)

    def _unknown(self, types: Sequence[str], outcomes: Sequence[str]) -> list[tuple[str, Filter]]:
        """What the daemon's sources cannot report: a message for each, and a filter to look whether the log has it."""

        def hints(words: Vocabulary) -> list[tuple[str, Filter]]:
            asked = [
                ("type", each, words.unknown_type(each, shortened=True), Filter([each, f"*.{each}"]))
                for each in types
            ]
            asked += [
                ("outcome", each, words.unknown_outcome(each), Filter(outcomes=[each])) for each in outcomes
            ]
            what = "is none of the sources' and of the log's"
            return [
                (f"{name}: {each} {what}{hint}", wanted)
                for name, each, hint, wanted in asked
                if hint is not None
            ]

        if not hints(of_sources(())):  # the schema has them: 50,000 sources are not looked through
            return []
        words = of_sources(watched.source for watched in self._engine.roster.values())
        return [] if words.is_open else hints(words)

    def _done(self) -> None:
        self._under_way -= 1


async def _json(answer: Answer) -> AsyncIterator[bytes]:
    """The answer. Each event is spliced in as it is stored."""
    found, sound = answer
    damaged = len(found.events) - len(sound)
    head = f'"next":{found.next},"head":{found.head},"pruned":{found.pruned},"damaged":{damaged}'
    yield f'{{{head},"events":['.encode()
    for number, (event, logged) in enumerate(sound):
        comma = "," if number else ""
        yield f'{comma}\n{{"seq":{event.seq},"logged":"{stamp(logged)}","event":'.encode() + event.body + b"}"
    yield b"\n]}\n"
