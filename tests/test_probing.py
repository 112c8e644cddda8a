"""Probing without a source: the pages of a simulated server, and a reading that is interrupted after any of them."""

from collections.abc import Callable
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from roundsman.events import Event
from roundsman.kit.probing import Learned, Limits, Mark, Probing, Question, Reading, Refused, Row, Truncated

BEGIN = datetime(2026, 5, 1, tzinfo=UTC)
EVENT = Event.of(vendor="parakey", source="doors", type="opened", id="r", data={})
LIMITS = Limits(10, 40, "auto", ("offset", "skip"))
Answers = Callable[[Question], list[Row]]


def rows(count: int) -> list[Row]:
    stamps = [BEGIN + timedelta(minutes=number) for number in range(count)]
    return [Row(f"r{n}", at, at - timedelta(seconds=2), EVENT) for n, at in enumerate(stamps)]


def documented(there: list[Row], question: Question) -> list[Row]:
    """As the vendor documents it; 10 rows at most."""
    found = [row for row in there if question.start is None or row.when >= question.start]
    return sorted(found, key=lambda row: row.when, reverse=question.backwards)[: min(question.limit, 10)]


def newest_first(there: list[Row], question: Question) -> list[Row]:
    """For any order in the request; with an offset."""
    offset = question.offset if question.offset_param == "skip" else 0
    return sorted(there, key=lambda row: row.when, reverse=True)[offset : offset + min(question.limit, 10)]


def unlimited(there: list[Row], question: Question) -> list[Row]:
    """Newest first, and as many as are asked for."""
    return sorted(there, key=lambda row: row.when, reverse=True)[: question.limit]


def asking(answers: Any, there: list[Row]) -> Any:
    async def ask(question: Question) -> tuple[list[Row], int]:
        return answers(there, question), question.limit

    return ask


async def read(learned: Learned, reading: Reading, ask: Any, pages: int = 1000) -> tuple[list[str], bool]:
    """The ids of so many pages that have advanced the reading, and whether it is complete."""
    found: list[str] = []
    async with aclosing(Probing(learned, reading, LIMITS, ask).pages()) as generator:
        async for page in generator:
            found += [row.id for row in page.rows]
            pages -= page.resumable
            if not pages:
                return found, False
    return found, True


@pytest.mark.parametrize(
    ("answers", "count", "strategy"),
    [(documented, 55, "keyset"), (newest_first, 55, "offset:skip"), (unlimited, 33, "grow")],
)
async def test_a_reading_goes_on_after_any_page_from_what_was_stored(
    answers: Any, count: int, strategy: str
) -> None:
    there = rows(count)
    ask = asking(answers, there)
    whole, _ = await read(Learned(), Reading(), ask)
    assert set(whole) == {row.id for row in there}
    learned, reading, found, complete = Learned(), Reading(), list[str](), False
    while not complete:
        part, complete = await read(learned, reading, ask, 1)
        found += part
        learned = msgspec.json.decode(msgspec.json.encode(learned), type=Learned)
        reading = msgspec.json.decode(msgspec.json.encode(reading), type=Reading)
    assert found == whole
    assert reading.strategy == strategy


async def test_pages_end_with_an_error_if_no_strategy_gets_past_the_truncation() -> None:
    def stuck(there: list[Row], question: Question) -> list[Row]:
        return documented(there, question._replace(start=None, limit=7))

    learned = Learned()
    with pytest.raises(Truncated):
        await read(learned, Reading(), asking(stuck, rows(50)))
    assert learned.strategies == [], "the next reading tries all of them again"


async def test_the_error_of_the_server_is_raised_where_nothing_was_guessed() -> None:
    async def refuse(question: Question) -> tuple[list[Row], int]:
        raise Refused(ZeroDivisionError("no"))

    with pytest.raises(ZeroDivisionError):
        await read(Learned(), Reading(), refuse)


def test_what_is_forgotten_is_all_but_the_longest_answer_and_what_was_said() -> None:
    learned = Learned(largest=9, doubted=["cut"], strategies=["grow", "gap"], accepted=50, ignores_limit=3)
    for name in (
        "ascends",
        "descending",
        "dates",
        "undated",
        "unordered",
        "heads",
        "by_created",
        "exclusive",
    ):
        setattr(learned, name, True)
    learned.forget()
    assert learned == Learned(largest=9, doubted=["cut"])


def test_another_strategy_begins_where_the_reading_began() -> None:
    begun = Reading(start=BEGIN, known="k", edge=Mark("e", BEGIN), low=BEGIN, high=BEGIN)
    reading = msgspec.structs.replace(
        begun, strategy="keyset", limit=9, at=BEGIN, anchor="a", earlier=True, offset=5
    )
    reading = msgspec.structs.replace(reading, first="f", back=2, proved=True, full=20)
    reading.begin_with("grow", 7)
    assert reading == msgspec.structs.replace(begun, strategy="grow", limit=7)
