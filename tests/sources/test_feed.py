"""The state of a feed: one version after the other goes on with what the one before has stored."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from inside import feed
from roundsman.kit.feed.state import FeedState, Gap, Progress
from roundsman.kit.probing import Learned, Mark, Reading
from roundsman.sandbox import Parakey
from roundsman.sources.parakey import EventLogs
from worlds import Time, event_logs

OLD: Any = json.loads((Path(__file__).parent.parent / "stores" / "readings.json").read_text())
"""States that 0.6 stored in the middle of a reading of the rows h0 to h99, and which rows it had reported."""


@pytest.mark.parametrize("way", sorted(OLD))
async def test_a_reading_that_an_earlier_version_began_is_gone_on_with(
    way: str, rounds: Any, parakey: Parakey, time: Time
) -> None:
    old = OLD[way]
    parakey.quirks.cap = 20
    if way != "keyset":
        parakey.quirks.order, parakey.quirks.offset_param = "descending", "skip"
    for n in range(100):
        created = time.utc() - timedelta(minutes=100 - n)
        parakey.add(created=created, timestamp=created - timedelta(seconds=1), log_id=f"h{n}")
    world = rounds()
    await world.store.rewind("doors", old["state"])
    assert await world.visit(after=0)
    first, *_ = world.asked()
    assert first["limit"] != "1", "it goes on instead of beginning again"
    assert feed(world.state).reading is None
    assert {*world.ids(), *old["reported"]} == {f"h{n}" for n in range(100)}
    assert len(world.ids()) <= 100 - len(old["reported"]) + 1, "pages overlap by a row"
    parakey.add(log_id="new")
    await world.visit()
    assert "new" in world.ids()


MORNING = datetime(2026, 5, 1, 6, tzinfo=UTC)


def test_each_member_of_an_earlier_versions_state_is_read() -> None:
    morning = "2026-05-01T06:00:00Z"
    old = {
        "begun": True,
        "floor": None,
        "cursor": "2026-05-01T06:00:00.250Z",
        "before": ["a"],
        "edge": ["e", morning],
        "gap": morning,
        "newest_told": "n",
        "newest_at": morning,
        "unread": ["d1"],
        "ways": ["grow", "gap"],
        "fits": 250,
        "tag": 1,
        "walk": {
            "start": morning,
            "way": "grow",
            "limit": 20,
            "full": 10,
            "edge": ["e", morning],
            "newest": "n",
            "oldest": ["o", morning],
            "sweep": True,
            "tag": {"etag": "x"},
        },
    }
    edge = Mark("e", MORNING)
    assert FeedState.load(old) == FeedState(
        begun=True,
        cursor=MORNING + timedelta(milliseconds=250),
        before=["a"],
        edge=edge,
        gap=Gap(since=morning, pinned=False, newest="n", newest_at=MORNING),
        unread=["d1"],
        learned=Learned(strategies=["grow", "gap"], fits=250),
        reading=Reading(start=MORNING, strategy="grow", limit=20, full=10, edge=edge),
        progress=Progress(awaited="n", oldest=Mark("o", MORNING), sweep=True, tag={"etag": "x"}),
        dropped=["tag"],
    )


def test_a_state_of_this_version_is_read() -> None:
    """As it is stored: another form needs another version."""
    document = {
        "v": 1,
        "begun": True,
        "cursor": "2026-05-01T06:00:00Z",
        "edge": {"id": "e", "created": "2026-05-01T06:00:00Z"},
        "gap": {"since": "beginning", "pinned": True},
        "learned": {"largest": 8, "dates": True},
        "reading": {"strategy": "keyset", "limit": 1000, "at": "2026-05-01T06:00:00Z", "anchor": "e"},
        "progress": {"sweep": True, "awaited": "n"},
    }
    state = FeedState.load(document)
    assert state == FeedState(
        begun=True,
        cursor=MORNING,
        edge=Mark("e", MORNING),
        gap=Gap(since="beginning", pinned=True),
        learned=Learned(largest=8, dates=True),
        reading=Reading(strategy="keyset", limit=1000, at=MORNING, anchor="e"),
        progress=Progress(sweep=True, awaited="n"),
    )
    assert state.dump() == document


def test_a_gap_of_an_earlier_version_is_shown() -> None:
    assert EventLogs.gap({"begun": True, "gap": "2026-05-01T05:00:00Z"}) == "2026-05-01T05:00:00Z"
    assert EventLogs.gap({"begun": True, "gap": "beginning", "pinned": True}) == "beginning"
    assert EventLogs.gap({"begun": True}) is None


def test_a_rewind_keeps_only_what_shows_that_answers_are_cut() -> None:
    old = {"begun": True, "largest": 20, "cursor": "2026-05-01T05:00:00Z", "heads": True}
    to = datetime(2026, 4, 1, tzinfo=UTC)
    assert feed(event_logs().rewound(old, to)) == FeedState(begun=True, floor=to, learned=Learned(largest=20))
    cut = Learned(largest=20, cuts=20)
    assert feed(event_logs().rewound({**old, "gap": "beginning"}, to)) == FeedState(
        begun=True, floor=to, learned=cut
    )


def test_a_state_says_its_version() -> None:
    assert FeedState().dump() == {"v": 1, "learned": {}}


TIMES = st.none() | st.datetimes(datetime(1970, 1, 2), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis adds the zone
MARKS = st.none() | st.builds(Mark, st.text(), TIMES.filter(bool))
COUNTS = st.integers(0, 10**6)
STATES = st.builds(
    FeedState,
    floor=TIMES,
    cursor=TIMES,
    before=st.lists(st.text(), max_size=3),
    edge=MARKS,
    leads=st.none() | st.booleans(),
    gap=st.none() | st.builds(Gap, since=st.text(), pinned=st.booleans(), newest_at=TIMES),
    learned=st.builds(Learned, largest=COUNTS, strategies=st.lists(st.text(), max_size=3)),
    reading=st.none() | st.builds(Reading, start=TIMES, offset=COUNTS, full=st.none() | COUNTS, edge=MARKS),
    progress=st.none() | st.builds(Progress, sweep=st.booleans(), top=TIMES, oldest=MARKS),
)


@given(state=STATES)
def test_what_is_stored_is_what_is_read(state: FeedState) -> None:
    assert FeedState.load(json.loads(json.dumps(state.dump()))) == state


@pytest.mark.parametrize("at", range(2, 12))
async def test_a_list_that_is_emptied_between_two_questions_breaks_nothing(
    at: int, rounds: Any, parakey: Parakey, time: Time
) -> None:
    parakey.quirks.order = "descending"
    for n in range(5):
        parakey.add(created=time.utc() - timedelta(minutes=5 - n), log_id=f"h{n}")
    world = rounds()
    asked = 0

    def empty() -> None:
        nonlocal asked
        asked += 1
        if asked == 2 * at - 1:  # it is called before a request and after it
            parakey.logs.clear()

    world.transport.before = empty
    assert await world.visit()
