"""What sources remember. All that is asked for while the server answers is read by one statement."""

from collections.abc import Mapping, Sequence
from typing import Any

from roundsman import wire
from roundsman.options.server import Server
from roundsman.store.postgres.gathering import Reads
from roundsman.store.postgres.reading import Reading, Row, reading
from roundsman.store.values import Memory

FEW = 20
"""Ids of one question that may wait for other questions: more are worth a statement."""
Question = tuple[str, tuple[str, ...]]
"""A source, and ids of events."""


class Memories(Reading):
    """Reads what sources remember, at the beginning of each visit, and which events are in the log."""

    # A statement for each visit costs worker and server more than the rest of a visit.

    def __init__(self, place: Server) -> None:
        super().__init__(place)
        self._remembered = Reads(self._states)
        self._logged = Reads(self._logged_ids)

    async def memory(self, name: str) -> Memory:
        """What a source remembers; empty if it was never registered."""
        row = await self._remembered.get(name)
        if row is None:
            return Memory({})
        source, state, revision, followed = row
        inbox = await self._inbox(source) if followed else []
        ids, taken = [each for each, _ in inbox], inbox[-1][1] if inbox else 0
        return Memory(wire.decode(state.encode()), revision, ids, taken)

    @reading
    async def _states(self, names: Sequence[str]) -> dict[str, Row]:
        sql = (
            "SELECT name, id, state, revision, EXISTS (SELECT 1 FROM inbox WHERE source = sources.id) "
            "FROM sources WHERE name = ANY (%s)"
        )
        return {name: tuple(rest) for name, *rest in await self._rows(sql, (list(names),))}

    @reading
    async def _inbox(self, source: int) -> list[Any]:
        # Rare, and each statement costs.
        sql = "SELECT id, n FROM inbox WHERE source = %s ORDER BY n LIMIT 1000"
        return await self._rows(sql, (source,))

    async def known(self, name: str, ids: Sequence[str]) -> set[str]:
        """Which of these event ids of a source are in the log."""
        question = (name, tuple(ids))
        if not ids:
            return set()
        if len(ids) > FEW or not all(map(_can_be_sent, ids)):
            return (await self._logged_ids([question]))[question]
        return set(await self._logged.get(question) or ())

    @reading
    async def _logged_ids(self, questions: Sequence[Question]) -> Mapping[Question, set[str]]:
        # OFFSET 0: the server looks up each id. Without statistics of the arrays, it could read whole tables.
        sql = (
            "SELECT g.n, i.id FROM unnest(%s::int[], %s::text[], %s::text[]) AS g (n, name, id) "
            "CROSS JOIN LATERAL (SELECT s.id FROM sources s WHERE s.name = g.name OFFSET 0) s "
            "CROSS JOIN LATERAL (SELECT i.id FROM ids i WHERE i.source = s.id AND i.id = g.id OFFSET 0) i"
        )
        flat = [(n, name, each) for n, (name, ids) in enumerate(questions) for each in ids]
        found: dict[Question, set[str]] = {question: set() for question in questions}
        for n, each in await self._rows(sql, [list(column) for column in zip(*flat, strict=True)]):
            found[questions[n]].add(each)
        return found


def _can_be_sent(key: object) -> bool:
    """Whether the driver sends it as a text. A plugin may ask for anything: that must not fail the questions of other sources."""
    try:
        str.encode(key)  # type: ignore[arg-type]
    except (TypeError, UnicodeEncodeError):  # no text; half a pair of surrogates
        return False
    return True
