"""One reading: the pages of a list, strategy after strategy, until the list is read or none is left."""

from collections.abc import AsyncGenerator
from typing import NamedTuple

from roundsman.kit.probing.documents import Learned, Reading
from roundsman.kit.probing.easier import asked
from roundsman.kit.probing.proofs import Inquiry
from roundsman.kit.probing.strategies import Step, step
from roundsman.kit.probing.values import Ask, Limits, Question, Refused, Row


class Truncated(Exception):
    """No strategy gets past the truncation: rows may be missing."""


class Page(NamedTuple):
    """What one step of a reading brought."""

    rows: list[Row]
    doubts: list[str]
    """What the answers neither prove nor contradict, for a person; each is reported only once."""
    resumable: bool
    """The reading has advanced: the caller may store it here, and go on with another generator later."""


class Probing:
    """Reads a list. `reading` is where it begins or goes on; it and `learned` change with each page."""

    def __init__(self, learned: Learned, reading: Reading, limits: Limits, ask: Ask) -> None:
        self._learned = learned
        self._reading = reading
        self._limits = limits
        self._ask = ask

    async def pages(self) -> AsyncGenerator[Page, None]:
        """The pages of the list. When they end, the list is read.

        The same row may be in several pages. Raises `Truncated` if no strategy is left, and the server's
        error if it refuses a question that has no guess in it, or one that it accepted before.
        """
        reading = self._reading
        if not reading.strategy:
            reading.begin_with(self._strategies()[0], self._learned.limit(self._limits))
        while reading.strategy != "gap":
            inquiry = Inquiry(self._learned, reading, self._limits, self._ask)
            came = await self._step(inquiry)
            if came == "failed":
                self._try_another()
            yield Page(inquiry.rows, inquiry.doubts, came == "more")
            if came == "done":
                return
        self._learned.strategies = []
        raise Truncated

    async def _step(self, inquiry: Inquiry) -> Step:
        try:
            return await step(inquiry)
        except Refused as refused:
            if await self._is_no_answer(refused):
                raise refused.cause from None
            return "failed"

    async def _is_no_answer(self, refused: Refused) -> bool:
        """Whether a refusal says nothing about the strategy: nothing was guessed, or it is transient."""
        reading = self._reading
        guessed = reading.limit > self._learned.accepted or (
            reading.strategy.startswith("offset") and not reading.proved
        )
        if refused.doubtful and not guessed and not await self._is_about_the_offset():
            return True  # all of it was accepted before
        return reading.anchor is None and reading.full is None

    async def _is_about_the_offset(self) -> bool:
        """Whether a page was refused for its offset: the same question without an offset is accepted."""
        reading = self._reading
        if not reading.offset:
            return False
        try:
            await asked(self._learned, Question(reading.start, reading.limit), self._ask)
        except Refused:
            return False
        return True

    def _strategies(self) -> list[str]:
        """The strategies that are left to try."""
        return self._learned.strategies or self._limits.strategies()

    def _try_another(self) -> None:
        """Begin again with the next strategy, and remember that the others failed."""
        every, failed = self._limits.strategies(), self._reading.strategy
        left = every[every.index(failed) + 1 :] if failed in every else every
        self._learned.strategies = left
        self._reading.begin_with(left[0], self._learned.limit(self._limits))
