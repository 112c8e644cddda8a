"""Asks a question; if it is refused, asks without what was guessed in it, one guess after the other."""

from collections.abc import Awaitable, Callable

from roundsman.kit.probing.documents import Learned, Limits, Question, Row

SMALLER_LIMITS = (100, 20)
"""Limits to try if a larger one is refused."""


class Refused(Exception):
    """The server refuses a question; `cause` is its error. `doubtful`: it may also be a transient fault."""

    def __init__(self, cause: Exception, *, doubtful: bool = False) -> None:
        super().__init__(str(cause))
        self.cause = cause
        self.doubtful = doubtful


Ask = Callable[[Question], Awaitable[tuple[list[Row], int]]]
"""Returns the rows, and the limit of the request that succeeded: lower than asked for if the answer was too
large. Raises `Refused` if the server refuses the question itself.
"""


async def asked(learned: Learned, question: Question, ask: Ask) -> tuple[list[Row], int]:
    """The rows, and the limit of the request that succeeded.

    What the server accepts is remembered. Raises `Refused` if it accepts nothing.
    """
    if learned.descending:
        question = question._replace(backwards=True)
    if learned.undated:
        question = question._replace(start=None)
    first: Refused | None = None
    easier = _easier(learned, question)
    for each in (question, question, *easier):
        # Ask the same question a second time only if the fault may be transient: the status is doubtful, or
        # all of the question was accepted before.
        if each is question and first is not None and easier and not first.doubtful:
            continue
        try:
            rows, limit = await ask(each)
        except Refused as refused:
            first = first or refused
            continue
        learned.accepts(each, limit)
        if each is not question:  # accepted at the second try, the fault was transient
            learned.accepts_only(each, question)
        return rows, limit
    assert first is not None
    raise first


async def newest(learned: Learned, limits: Limits, ask: Ask) -> list[Row]:
    """The newest rows, for a list that no strategy reads whole. Raises the server's error if it refuses."""
    try:
        rows, _ = await asked(learned, Question(None, learned.limit(limits), backwards=True), ask)
    except Refused as refused:
        raise refused.cause from None
    return rows


def _easier(learned: Learned, question: Question) -> list[Question]:
    """The same question with fewer guesses: a smaller limit, descending order, no start."""
    known = [learned.accepted] if learned.accepted > 1 else SMALLER_LIMITS  # a limit that was accepted once
    found = [question._replace(limit=n) for n in known if n < question.limit]
    if not question.backwards and not learned.ascends:
        found += [each._replace(backwards=True) for each in (question, *found)]
    if question.start is not None and not learned.dates:
        found += [each._replace(start=None) for each in (question, *found)]
    return found
