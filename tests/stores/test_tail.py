"""A sink that is given what was just committed gets the very events that it would read from the log."""

import asyncio
import random
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings, strategies as st

from inside import forget_tail, put, statements
from roundsman.store import Filter, Intake, open_store, open_view
from roundsman.store.sqlite.store import SqliteStore
from worlds import START, an_event

WANTED = st.sampled_from(
    [
        Filter(),
        Filter(sources=("doors",)),
        Filter(types=("co.parakey.*",), outcomes=("granted",)),
        Filter(outcomes=("d*", "[f-h]ranted")),
        Filter(sources=("[^d]*", "door?")),
        Filter(sources=("*[^w]", "[d")),
        Filter(outcomes=("[!g]*",)),
        Filter(types=("none",)),
    ]
)
STEPS = st.lists(
    st.tuples(st.sampled_from(["poll", "webhook", "notice", "beside"]), st.integers(1, 12)), max_size=8
)


@settings(max_examples=60, deadline=None)
@given(STEPS, WANTED, st.integers(1, 40), st.integers(0, 60))
def test_what_was_just_committed_is_what_the_log_has(
    steps: list[tuple[str, int]], wanted: Filter, limit: int, cursor: int
) -> None:
    asyncio.run(_compare(steps, wanted, limit, cursor))


async def _compare(steps: list[tuple[str, int]], wanted: Filter, limit: int, cursor: int) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "roundsman.db"
        store = await open_store(path)
        await store.register(
            {"doors": "parakey.event_logs", "windows": "parakey.event_logs"}, {"archive": "file"}
        )
        ids = random.Random(len(steps))
        for how, count in steps:
            source, outcome = ids.choice(("doors", "windows")), ids.choice(("granted", "denied", None))
            events = [an_event(ids.randrange(60), source, outcome) for _ in range(count)]
            if how == "poll":
                await put(store, *events, source=source)  # type: ignore[arg-type]
            elif how == "webhook":
                await store.receive(Intake(source, events), START)
            elif how == "notice":
                await store.append_notices(source, events, START)
            else:  # another process
                beside = SqliteStore.open(path, daemon=False)
                await put(beside, *events, source=source)
                await beside.close()
        head = await store.head()
        await store.ack("archive", 0, at := min(cursor, head), None, START)
        given_, again = await store.read("archive", limit, wanted), await _reread(path, at, limit, wanted)
        assert [_facts(each) for each in given_.events] == [_facts(each) for each in again][
            : len(given_.events)
        ]
        if len(given_.events) < limit:  # then these are all up to there
            assert [each.seq for each in again if each.seq <= given_.head] == [
                each.seq for each in given_.events
            ]
        assert given_.head == head or given_.head > at
        await store.close()


async def _reread(path: Path, after: int, limit: int, wanted: Filter) -> list[Any]:
    view = await open_view(path)
    found = [event for event, _ in await view.events(after, 10**9, limit, wanted)]
    await view.close()
    return found


def _facts(event: Any) -> tuple[Any, ...]:
    return event.seq, event.source, event.id, event.type, event.outcome, event.body


async def test_a_sink_that_keeps_up_reads_nothing_back(store: SqliteStore) -> None:
    await put(store, *map(an_event, range(5)))
    with statements(store) as run:
        slice_ = await store.read("archive", 10, Filter())
    assert [event.seq for event in slice_.events] == [1, 2, 3, 4, 5]
    assert not [each for each in run if "FROM events" in each]


@pytest.mark.garbles
@pytest.mark.parametrize("glob", ["[", "[!", "*[x", "[^", "x[]"])
async def test_a_glob_means_the_same_for_an_event_in_memory(glob: str, store: SqliteStore) -> None:
    await put(store, msgspec.structs.replace(an_event(1), type=glob), an_event(2))
    kept = await store.read("archive", 10, Filter(types=(glob,)))
    [logged] = [await store.events(0, 10, 10, Filter(types=(glob,)))]
    assert list(kept.events) == [event for event, _ in logged]
    assert kept.head == 2


@pytest.mark.garbles
async def test_an_event_that_is_not_one_line_is_not_given_from_memory(store: SqliteStore) -> None:
    broken = msgspec.structs.replace(an_event(2), body=b'{"specversion":"1.0",\n"id":"x"}')
    await put(store, an_event(1), broken, an_event(3))
    found = await store.read("archive", 10, Filter())
    assert [event.seq for event in found.events] == [1, 3]
    assert [event.seq for event in found.damaged] == [2]


async def test_a_sink_with_a_narrow_filter_reaches_the_head_in_short_reads(store: SqliteStore) -> None:
    """A filter that matched nothing looked at the whole log at once: 0.4 s for a million events."""
    await put(store, *map(an_event, range(25_000)))
    await put(store, an_event(25_000, outcome="denied"))
    forget_tail(store)
    wanted, looks, found = Filter(outcomes=("denied",)), 0, []
    while (read := await store.read("archive", 100, wanted)).head > read.cursor:
        found += [event.seq for event in read.events]
        looks += 1
        await store.ack("archive", read.cursor, found[-1] if found else read.head, None, START)
    assert found == [25_001]
    assert looks == 3
