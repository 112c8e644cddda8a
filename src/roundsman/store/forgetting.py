"""Forgets a person in everything that a store keeps: the steps. What a step reads and writes, each kind of store defines."""

import asyncio
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from roundsman import wire
from roundsman.errors import Unreadable
from roundsman.events import Event
from roundsman.redaction import leaves
from roundsman.store.person import Person
from roundsman.store.rows import about_event
from roundsman.store.tail import Tail
from roundsman.store.values import Filter, Forgotten

PIECE, PIECE_BYTES = 100, 2**20
"""Maximum events, and approximate bytes of them, of one commit: a daemon that writes waits until it ends."""
READ = 500
"""Events that are read in one step."""
ROUNDS = 5
"""How often texts are read again that have changed meanwhile."""
PATIENCE = 20.0
"""Seconds in which what sinks hold back is looked at again."""
AGAIN = 2.5
"""Seconds until then."""
Which = Literal["<=", ">"]
"""Events up to the cursor of a sink, or after it."""


class Change(NamedTuple):
    """An event that names the person."""

    was: Event
    now: Event

    def again(self, event: Event, who: Person) -> "Change | None":
        """The change of the event as it is now; None if it does not name the person any more."""
        if event.body == self.now.body:
            return self
        now = self.now if event.body == self.was.body else who.without(event)
        return Change(event, now) if now is not None else None


class Text(NamedTuple):
    """A text that names the person."""

    table: str
    column: str
    of: str
    """Its source, in SQL."""
    source: str | None
    text: object
    """A text; of a damaged store, any value."""


class Forgetting(ABC):
    """A store that can forget a person."""

    _tail: Tail

    async def forget(
        self, person: str, sinks: Mapping[str, Filter], *, sources: Sequence[str] = (), dry: bool = False
    ) -> Forgotten:
        """Blank a person in everything that the store keeps. Several commits if there is much."""
        who = Person(person, sources)
        seqs: dict[int, str] = {}
        in_ids = Counter[str]()
        after = 0
        while found := await self._some(after):
            after = found[-1].seq
            mine = (event for event in found if who.is_of(event.source))
            changes = [Change(event, now) for event in mine if (now := who.without(event)) is not None]
            seqs |= {change.was.seq: change.was.source for change in changes}
            in_ids.update(change.was.source for change in changes if who.is_in(change.was.id))
            for piece in () if dry else pieces(changes):
                await self._blank(piece, who)
            await asyncio.sleep(0)
        unread = await self._unread_with(who)
        texts = await self._texts_with(who)
        held = {name: count for name, what in await self._held() if (count := lines_with(what, who))}
        still_held: Sequence[str] = ()
        if not dry:
            for n, _ in unread:
                await self._blank_unread(n)
            await self._blank_texts(texts, who)
            still_held = await self._blank_what_is_used(who)
            self._tail.clear()
        runs = not dry and await self._is_used()
        reached = await self._reached()  # once: an event that is delivered meanwhile is counted all the same
        return Forgotten(
            events=Counter(seqs.values()),
            unread=Counter(source for _, source in unread),
            texts=len({(each.table, each.column, each.text) for each in texts}),
            delivered=await self._count(list(seqs), sinks, "<=", reached),
            in_ids=in_ids,
            in_states=await self._states_with(who),
            held=held,
            still_held=still_held,
            due=await self._count(list(seqs), sinks, ">", reached) if runs else {},
            others={other: sorted(who.others[other]) for other in sorted(who.others)},
            erased=not dry and await self._erase(),
        )

    async def _blank_texts(self, texts: Sequence[Text], who: Person) -> None:
        """Blank the person in these texts, and again in those that have changed since they were read."""
        for _ in range(ROUNDS):
            for text in texts:
                was = str(text.text)
                await self._blank_text(text, who.json(was) if text.column == "problems" else who.text(was))
            texts = await self._texts_with(who)
            if not texts:
                return

    async def _blank_what_is_used(self, who: Person) -> Sequence[str]:
        """Blank what sinks hold back to send it later. Returns the sinks that had it still when the time was over.

        The daemon opens such a sink again within a second or two. Until then, the sink may store once more what it has in
        memory: so it is looked at again.
        """
        ends = time.monotonic() + PATIENCE
        while True:
            found = await self._blank_receipts(who)
            if not found or time.monotonic() > ends:
                return found
            await asyncio.sleep(AGAIN)

    # -- each kind of store --------------------------------------------------------------------------------------------

    @abstractmethod
    async def _some(self, after: int) -> list[Event]:
        """The next events that are not pruned, up to `READ`."""

    @abstractmethod
    async def _blank(self, changes: Sequence[Change], who: Person) -> None:
        """Store these events without the person. What an act on them was about no longer shows who it was.

        Another command may have blanked another person in one of them since it was read: then it is read again.
        """

    @abstractmethod
    async def _unread_with(self, who: Person) -> list[tuple[int, str]]:
        """The numbers and sources of unread webhooks and rows that name the person."""

    @abstractmethod
    async def _blank_unread(self, n: int) -> None:
        """Store an unread webhook or row without its content."""

    @abstractmethod
    async def _texts_with(self, who: Person) -> list[Text]:
        """Texts that name the person, each once for a source."""

    @abstractmethod
    async def _blank_text(self, text: Text, now: str) -> None:
        """Store a text as it is now, unless it has changed since it was read."""

    @abstractmethod
    async def _held(self) -> list[tuple[str, Any]]:
        """The receipts of sinks that hold events back, by name."""

    @abstractmethod
    async def _blank_receipts(self, who: Person) -> list[str]:
        """The sinks of which there was anything to blank."""

    @abstractmethod
    async def _states_with(self, who: Person) -> list[str]:
        """The sources whose states name the person."""

    @abstractmethod
    async def _reached(self) -> Mapping[str, int]:
        """The last event that each sink has: its cursor, also the one before a replay."""

    @abstractmethod
    async def _count(
        self, seqs: Sequence[int], sinks: Mapping[str, Filter], which: Which, reached: Mapping[str, int]
    ) -> dict[str, int]:
        """How many of these events each sink has. Or, of a configured sink, how many it does not have yet."""

    @abstractmethod
    async def _is_used(self) -> bool:
        """Whether a daemon uses the store."""

    @abstractmethod
    async def _erase(self) -> bool:
        """Delete the old bytes of what was written. Returns whether that was done."""


def abouts(changes: Sequence[Change]) -> list[str]:
    """What these failures were about, if they are not any more. A failure that only mentions the person is about another one."""
    found = ((about_event(change.was), about_event(change.now)) for change in changes)
    return list({was for was, now in found if was is not None and was != now})


def pieces(changes: Sequence[Change]) -> list[list[Change]]:
    """The changes, in pieces for one commit each."""
    found: list[list[Change]] = []
    size = 0
    for change in changes:
        size += len(change.was.body)
        if not found or len(found[-1]) >= PIECE or size > PIECE_BYTES:
            found.append([])
            size = len(change.was.body)
        found[-1].append(change)
    return found


def document(receipt: bytes) -> Any:
    """A receipt; of a damaged store, a text that is no JSON."""
    try:
        return wire.decode(receipt)
    except Unreadable:
        return receipt.decode("utf-8", "replace")


def lines_with(value: Any, who: Person) -> int:
    """How many lines of a receipt name the person."""
    return sum(isinstance(each, str) and who.line(each) != each for each in leaves(value))


def lines_without(value: Any, who: Person) -> Any:
    """A receipt without the lines that name the person."""
    if isinstance(value, dict):
        return {key: lines_without(each, who) for key, each in value.items()}
    if isinstance(value, list):
        return [lines_without(each, who) for each in value]
    return who.line(value) if isinstance(value, str) else value
