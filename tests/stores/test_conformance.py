"""What every store promises: `store/protocol.py`, over all implementations.

An implementation joins with a `Place` of its own in the fixture `place`. Numbers of events may have holes here: no test counts on
their values, only on their order.
"""

import asyncio
import random
import re
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

import msgspec
import pytest

from inside import visited
from roundsman.events import Event, notice as about
from roundsman.plugin import State
from roundsman.store import (
    DAEMON,
    KEYS_KEPT,
    NEVER,
    Act,
    Conflict,
    Counted,
    Desk,
    Filter,
    Intake,
    Later,
    New,
    Reload,
    Server,
    SourceStatus,
    Store,
    StoreError,
    View,
    lags,
    open_desk,
    open_store,
    open_view,
    searching,
)
from roundsman.store.tally import SPANS
from roundsman.wire import Damage
from worlds import START, a_failure, an_event

T = TypeVar("T")
KINDS = {"doors": "parakey.event_logs", "windows": "parakey.event_logs"}
ALL = Filter()
LATE = START + 2 * KEYS_KEPT


class Place(Protocol):
    """Where an implementation keeps its data, and how it is opened."""

    has_disk: bool
    """Whether its disk is seen from here."""

    async def store(self) -> Store:
        """For the daemon."""

    async def desk(self) -> Desk:
        """As a command in another process opens it."""

    async def view(self) -> View: ...

    def writing(self, *events: Event) -> Any:
        """A context in which another process is in the middle of a write; these events of `doors` are committed at its
        end.
        """


class Sqlite:
    """A store in one file."""

    has_disk = True

    def __init__(self, folder: Path) -> None:
        self.path = folder / "roundsman.db"

    async def store(self) -> Store:
        return await open_store(self.path)

    async def desk(self) -> Desk:
        return await open_desk(self.path)

    async def view(self) -> View:
        return await open_view(self.path)

    @contextmanager
    def writing(self, *events: Event) -> Iterator[None]:
        with closing(sqlite3.connect(self.path, isolation_level=None)) as db:
            db.execute("BEGIN IMMEDIATE")
            for event in events:
                db.execute(
                    "INSERT INTO events (source, id, type, logged, body) "
                    "SELECT id, ?, ?, ?, ? FROM sources WHERE name = 'doors'",
                    (event.id, event.type, START, event.body),
                )
            yield
            db.execute("COMMIT")


class Postgres:
    """A store on a server, in a database of its own."""

    has_disk = False

    def __init__(self, url: str) -> None:
        self.url, self.server = url, Server(url)

    async def store(self) -> Store:
        return await open_store(self.server)

    async def desk(self) -> Desk:
        return await open_desk(self.server)

    async def view(self) -> View:
        return await open_view(self.server)

    @contextmanager
    def writing(self, *events: Event) -> Iterator[None]:
        import psycopg

        with psycopg.connect(self.url, autocommit=True) as db:
            db.execute("BEGIN")
            db.execute("LOCK TABLE workers IN EXCLUSIVE MODE")  # as a migration does
            for event in events:
                db.execute("INSERT INTO ids SELECT id, %s FROM sources WHERE name = 'doors'", (event.id,))
                db.execute(
                    "WITH h AS (UPDATE log_head SET seq = seq + 1 RETURNING seq) INSERT INTO events (seq, source, id, type, "
                    "logged, body) SELECT h.seq, s.id, %s, %s, %s, %s FROM h, sources s WHERE s.name = 'doors'",
                    (event.id, event.type, START, event.body),
                )
            yield
            db.execute("COMMIT")


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "sqlite":
        return Sqlite(tmp_path)
    return Postgres(request.getfixturevalue("database"))


@pytest.fixture
async def store(place: Place) -> AsyncIterator[Store]:
    """With two sources, a sink, and nothing in its log."""
    store = await place.store()
    await store.register(KINDS, {"archive": "file"})
    yield store
    await store.close()


@pytest.fixture
async def desk(place: Place, store: Store) -> AsyncIterator[Desk]:
    desk = await place.desk()
    yield desk
    await desk.close()


@pytest.fixture
async def view(place: Place, store: Store) -> AsyncIterator[View]:
    view = await place.view()
    yield view
    await view.close()


async def find(
    store: Store,
    *events: Event,
    state: State | None = None,
    name: str = "doors",
    revision: int | None = None,
    **more: Any,
) -> New:
    """Commit a visit that found these events. Returns how many were new."""
    if revision is None:
        revision = (await store.memory(name)).revision
    return await store.commit(name, revision, *visited(state or {}, events, **more))


async def ids(store: View, wanted: Filter = ALL) -> list[str]:
    """Of the log, in its order."""
    return [event.id for event, _ in await store.events(0, await store.head(), 10**6, wanted)]


async def seqs(store: View) -> list[int]:
    return [event.seq for event, _ in await store.events(0, await store.head(), 10**6, ALL)]


async def pruned(
    store: Store, now: float, retention: float = 60.0, sinks: Sequence[str] = ("archive",)
) -> None:
    """A whole round of pruning."""
    while await store.prune(sinks, now, retention):
        pass


async def fails(work: Coroutine[Any, Any, object]) -> BaseException:
    [found] = await asyncio.gather(work, return_exceptions=True)
    assert isinstance(found, BaseException), found
    return found


async def status(store: Store, name: str = "doors") -> SourceStatus:
    [found] = [record.status for record in await store.statuses() if record.name == name]
    return found


async def turns() -> None:
    """Let others run."""
    for _ in range(20):
        await asyncio.sleep(0)


def stamped(number: int, at: float) -> Event:
    return msgspec.structs.replace(an_event(number), stamp=at)


def notice(number: int, kind: str = "roundsman.test.one") -> Event:
    return Event.of(
        vendor="roundsman",
        source=DAEMON,
        type=kind,
        id=f"daemon:{number}",
        data={"message": "m"},
        time="2026-05-01T06:00:00Z",
    )


def unstorable(number: int) -> Event:
    """An event that no store can take."""
    return msgspec.structs.replace(an_event(number), outcome=object())


# -- pauses ------------------------------------------------------------------------------------------------------------


async def test_a_pause_is_kept_with_its_person_and_its_time_until_it_is_ended(
    store: Store, desk: Desk, view: View
) -> None:
    assert await view.pauses() == []
    assert await desk.pause("source", "doors", "anna", START)
    assert await desk.pause("sink", "archive", "uid 1000", START + 1)
    assert sorted(await view.pauses()) == [
        ("sink", "archive", START + 1, "uid 1000"),
        ("source", "doors", START, "anna"),
    ]
    [doors, windows] = await view.sources()
    assert (doors.status.paused, doors.paused_by) == (START, "anna")
    assert (windows.status.paused, windows.paused_by) == (None, None)
    [archive] = await view.sinks()
    assert (archive.paused, archive.paused_by) == (START + 1, "uid 1000")
    assert (await status(store)).paused == START
    assert await desk.resume("source", "doors")
    assert await desk.resume("sink", "archive")
    assert await view.pauses() == []
    assert not await desk.resume("source", "doors")


async def test_a_second_pause_changes_nothing_and_what_was_never_registered_cannot_be_paused(
    desk: Desk,
) -> None:
    assert await desk.pause("source", "doors", "anna", START)
    assert not await desk.pause("source", "doors", "bob", START + 9)
    assert not await desk.pause("source", "attic", "bob", START)
    assert not await desk.pause("sink", "doors", "bob", START), "that is a source"
    assert [tuple(pause) for pause in await desk.pauses()] == [("source", "doors", START, "anna")]


async def test_the_daemon_detects_a_pause_and_its_end_which_requests_a_visit(
    store: Store, desk: Desk
) -> None:
    await store.commanded()
    await desk.pause("source", "doors", "anna", START)
    assert await store.commanded() == []
    await desk.resume("source", "doors")
    assert await store.commanded() == ["doors"]


async def test_visits_registrations_and_deliveries_keep_a_pause(store: Store, desk: Desk) -> None:
    await desk.pause("source", "doors", "anna", START)
    await desk.pause("sink", "archive", "anna", START)
    paused = await status(store)
    await find(store, an_event(1))
    await store.begin([("doors", SourceStatus(due=START))])
    await store.record([("doors", SourceStatus(due=START))])
    await store.schedule([("doors", SourceStatus(due=START))])
    await store.receive(Intake("doors", [an_event(2)]), START)
    await desk.rewind("doors", {})
    cursor, _ = await store.cursor("archive")
    await store.ack("archive", cursor, await store.head(), None, START)
    await desk.replay("archive", 0)
    await store.register(KINDS, {"archive": "file"})
    assert (await status(store)).paused == paused.paused == START
    assert len(await store.pauses()) == 2


# -- names and types ---------------------------------------------------------------------------------------------------


async def test_what_is_registered_is_there_and_keeps_its_type(store: Store) -> None:
    await store.register(KINDS, {"archive": "file"})
    assert [(each.name, each.type) for each in await store.sources()] == sorted(KINDS.items())
    assert [(each.name, each.type) for each in await store.sinks()] == [("archive", "file")]
    assert await store.kind("doors") == "parakey.event_logs"
    assert await store.kind("attic") is None
    for sources, sinks in (({"doors": "parakey.batches"}, {}), ({}, {"archive": "http"})):
        with pytest.raises(StoreError, match="give the new (source|sink) another name"):
            await store.fits(sources, sinks)
        with pytest.raises(StoreError, match="give the new (source|sink) another name"):
            await store.register({"attic": "parakey.batches"} | sources, sinks)
    assert await store.kind("attic") is None, "whole or not at all"
    await store.fits({"attic": "parakey.batches", **KINDS}, {"late": "stdout"})


async def test_a_new_sink_begins_at_the_head(store: Store) -> None:
    await find(store, an_event(1), an_event(2))
    await store.register({}, {"late": "stdout"})
    assert await store.cursor("late") == (await store.head(), None)
    assert await store.cursor("archive") == (0, None)
    assert (await store.read("late", 10, ALL)).events == []
    await find(store, an_event(3))
    assert [each.id for each in (await store.read("late", 10, ALL)).events] == ["id00003"]


async def test_a_state_of_another_address_is_noted_until_a_person_decides(store: Store, desk: Desk) -> None:
    async def moved() -> dict[str, tuple[str | None, str]]:
        return {each.name: (each.origin, each.reads) for each in await store.sources() if each.reads}

    async def reads(origin: str) -> None:
        await store.register(KINDS, {}, {"doors": origin})

    await reads("https://a.example")
    await reads("https://b.example")
    assert await moved() == {}, "nothing was read yet"
    await find(store, an_event(1))
    await reads("https://c.example")
    assert await moved() == {"doors": ("https://b.example", "https://c.example")}
    await reads("https://b.example")
    assert await moved() == {}, "it was taken back"
    await reads("https://c.example")
    assert await desk.accept("doors")
    assert not await desk.accept("doors")
    await reads("https://d.example")
    await desk.rewind("doors", {}, "https://d.example")
    await reads("https://d.example")
    assert await moved() == {}


# -- commits -----------------------------------------------------------------------------------------------------------


async def test_an_id_is_logged_once_by_poll_and_by_webhook(store: Store) -> None:
    assert await find(store, an_event(1), an_event(2), an_event(1)) == 2
    assert await find(store, an_event(2), an_event(3)) == 1
    assert await store.receive(Intake("doors", [an_event(3), an_event(4)]), START) == 1
    assert await find(store, an_event(4)) == 0
    assert await find(store, an_event(4, "windows"), name="windows") == 1, "an id is its source's own"
    assert await ids(store) == ["id00001", "id00002", "id00003", "id00004", "id00004"]
    assert await seqs(store) == sorted(set(await seqs(store)))
    assert await store.known("doors", ["id00001", "id00009"]) == {"id00001"}
    assert await store.known("windows", ["id00001"]) == set()


async def test_an_event_that_is_too_late_is_left_out(store: Store) -> None:
    early, late = (msgspec.structs.replace(an_event(n), unless="id00005") for n in (1, 2))
    assert await find(store, early) == 1
    assert await find(store, an_event(5), late) == 1
    assert await ids(store) == ["id00001", "id00005"]


async def test_a_commit_is_whole_or_not_at_all(store: Store) -> None:
    await find(store, an_event(1), state={"cursor": "a"}, due=START + 60)
    await store.follow("doors", ["b1"])
    memory = await store.memory("doors")
    many = [an_event(n) for n in range(2, 1000)]
    await fails(
        find(store, *many, unstorable(1000), state={"cursor": "b"}, due=START + 90, taken=memory.taken)
    )
    assert await store.memory("doors") == memory
    assert await ids(store) == ["id00001"]
    assert (await status(store)).due == START + 60
    assert await find(store, *many, an_event(1000), state={"cursor": "b"}) == 999


async def test_a_visit_leaves_its_state_and_its_status(store: Store) -> None:
    assert (await store.memory("attic")).state == {}
    left = SourceStatus(
        due=START + 60,
        not_before=START + 30,
        last_visit=START,
        last_success=START - 5,
        visits=7,
        failures=2,
        failing_since=START - 100,
        unanswered_since=START - 200,
        error="no",
        failed_with="abc",
    )
    found, _, _ = visited({"cursor": ["x", 1, None]}, [an_event(1)])
    await store.commit("doors", 0, found, left, START)
    assert await status(store) == left
    assert (await store.memory("doors")).state == {"cursor": ["x", 1, None]}
    await store.commit("doors", 0, found._replace(state=None, events=[]), left, START)
    assert (await store.memory("doors")).state == {"cursor": ["x", 1, None]}, "None keeps the old one"


async def test_a_source_that_was_rewound_meanwhile_is_not_overwritten(store: Store, desk: Desk) -> None:
    await find(store, state={"cursor": "old"})
    revision = (await store.memory("doors")).revision
    await store.commanded()
    await desk.rewind("doors", {"cursor": "back"})
    with pytest.raises(Conflict):
        await find(store, an_event(1), state={"cursor": "new"}, revision=revision)
    assert (await store.memory("doors")).state == {"cursor": "back"}
    assert await store.head() == 0
    assert await store.commanded() == ["doors"], "and the visit that it requests is still to be made"
    assert await find(store, an_event(1), state={"cursor": "new"}) == 1


async def test_rows_that_cannot_be_read_are_kept_with_the_commit(store: Store, desk: Desk) -> None:
    await find(store, unread=[Damage(b"{", "no object"), Damage(b"[", "no list")])
    kept = await store.unread("doors")
    assert [(each.why, each.body, each.received) for each in kept] == [
        ("no object", b"{", START),
        ("no list", b"[", START),
    ]
    assert await store.unread_counts() == {"doors": 2}
    assert await desk.drop_unread("doors", [kept[0].n, 10**9]) == 1
    assert [each.why for each in await store.unread("doors")] == ["no list"]
    assert await desk.drop_unread("doors", None) == 1
    assert await store.unread_counts() == {}


# -- webhooks and notices ----------------------------------------------------------------------------------------------


async def test_a_webhook_adds_events_and_ids_and_moves_no_position(store: Store) -> None:
    await find(store, an_event(1), state={"cursor": "a"}, due=START + 60)
    content = Intake("doors", [an_event(1), an_event(2)], ["b1", "b2"], ("odd", b"%"))
    assert await store.receive(content, START + 5) == 1
    assert await store.receive(content._replace(unread=None), START + 6) == 0
    memory = await store.memory("doors")
    assert (memory.state, memory.ids) == ({"cursor": "a"}, ["b1", "b2"])
    assert [each.why for each in await store.unread("doors")] == ["odd"]
    [entry] = [each for each in await store.sources() if each.name == "doors"]
    assert (entry.webhooks, entry.record.last_webhook, entry.changed) == (2, START + 6, START + 5)
    assert entry.status.due == START + 60
    assert await store.via(await seqs(store)) == dict(zip(await seqs(store), [None, "push"], strict=True))


async def test_a_webhook_is_whole_or_not_at_all(store: Store) -> None:
    await fails(store.receive(Intake("doors", [an_event(1), unstorable(2)], ["b1"]), START))
    assert await ids(store) == []
    assert (await store.memory("doors")).ids == []
    assert await store.receive(Intake("doors", unread=("cannot be stored", b"x")), START) == 0


async def test_refused_webhooks_are_counted(store: Store) -> None:
    await store.note_refused([("doors", 2, "no signature"), ("windows", 1, "too old")])
    await store.note_refused([("doors", 3, "wrong signature")])
    found = {each.name: (each.refused, each.refusal) for each in await store.sources()}
    assert found == {"doors": (5, "wrong signature"), "windows": (1, "too old")}


async def test_the_daemons_notices_are_events_and_are_found_by_type(store: Store) -> None:
    assert await store.last_notice("roundsman.test.*") is None
    await find(store, an_event(1), now=START + 1)
    first, second = notice(1), notice(2, "roundsman.test.two")
    assert await store.append_notices(DAEMON, [first, second], START + 2) == 2
    assert await store.append_notices(DAEMON, [first], START + 3) == 0
    found = await store.last_notice("roundsman.test.*")
    assert found is not None
    assert (found[0].id, found[1]) == (second.id, START + 2)
    assert await store.last_notice("roundsman.other.*") is None
    assert await store.logged_before(found[0].seq) == START + 1, "notices of the daemon do not count"
    assert await store.logged_before((await seqs(store))[0]) is None
    assert [each.name for each in await store.sources()] == sorted(KINDS), "the daemon is no source"


async def test_when_a_source_last_got_a_notice_of_a_type_is_known(store: Store) -> None:
    gap, gone = "roundsman.source.gap", "roundsman.source.gone"
    assert await store.reported("doors", gap) is None
    await store.append_notices("doors", [about(gap, "doors", "1", "Missing.")], START + 1)
    await store.append_notices("doors", [about(gap, "doors", "2", "Missing.")], START + 2)
    await store.append_notices("doors", [about(gone, "doors", "3", "Gone.")], START + 3)
    assert await store.reported("doors", gap) == START + 2
    assert await store.reported("doors", gone) == START + 3
    assert await store.reported("windows", gap) is None


# -- ids to track ------------------------------------------------------------------------------------------------------


async def test_what_came_into_the_inbox_during_a_visit_waits_for_the_next(store: Store, desk: Desk) -> None:
    assert await desk.follow("doors", ["x", "y", "x"]) == 2
    memory = await store.memory("doors")
    assert memory.ids == ["x", "y"]
    assert await desk.follow("doors", ["y", "z"]) == 1
    await find(store, state={"open": memory.ids}, taken=memory.taken)
    assert (await store.memory("doors")).ids == ["z"]
    assert await desk.follow("doors", ["x"]) == 1, "what was taken up may come again"
    assert (await store.memory("doors")).ids == ["z", "x"]
    assert not (await store.memory("windows")).ids


async def test_a_visit_that_fails_takes_nothing_from_the_inbox(store: Store) -> None:
    await store.follow("doors", ["a"])
    found, failed, now = visited(None, [], failures=1)
    await store.commit("doors", 0, found, failed, now)
    assert (await store.memory("doors")).ids == ["a"]


async def test_a_visit_is_given_a_thousand_ids_at_most(store: Store) -> None:
    await store.follow("doors", [f"b{n}" for n in range(1500)])
    first = await store.memory("doors")
    assert list(first.ids) == [f"b{n}" for n in range(1000)]
    await find(store, taken=first.taken)
    assert list((await store.memory("doors")).ids) == [f"b{n}" for n in range(1000, 1500)]


# -- visits ------------------------------------------------------------------------------------------------------------


async def test_what_a_visit_found_not_leaves_its_due_alone(store: Store) -> None:
    await find(store, due=START + 60)
    later = replace(
        await status(store), due=START + 999, visits=2, last_visit=START + 30, last_success=START + 31
    )
    await store.record([("doors", later)])
    assert await status(store) == replace(later, due=START + 60)


async def test_a_command_is_noticed_and_its_wish_lasts_until_a_scheduled_visit(
    store: Store, desk: Desk
) -> None:
    await find(store, due=START + 60)
    await store.commanded()
    await find(store, an_event(1), due=START + 120)
    assert await store.commanded() is None, "our own writes are no command"
    await desk.follow("doors", ["x"])
    assert await store.commanded() == []
    await desk.rewind("doors", {})
    assert await store.commanded() == ["doors"]
    assert await store.commanded() is None
    planned = [("doors", SourceStatus(due=START + 180, not_before=START + 10))]
    await store.schedule(planned)
    assert (await status(store)).due == 0.0
    await store.begin([], planned)
    assert (await status(store)).due == 0.0, "a webhook's visit does not fulfil it"
    await find(store, due=START + 180, keeps_wish=True)
    assert (await status(store)).due == 0.0
    await store.begin(planned)
    assert ((await status(store)).due, (await status(store)).not_before) == (START + 180, START + 10)
    await store.schedule([("doors", SourceStatus(due=START + 240))])
    assert (await status(store)).due == START + 240


async def test_what_the_daemon_is_doing_is_recorded(store: Store, view: View, tmp_path: Path) -> None:
    assert await store.last_beat() is None
    await store.runs(tmp_path / "a.toml", "d1")
    await store.reloaded(tmp_path / "a.toml", "d2", ["a problem", "\udcff.toml: another"])
    await store.beat(START)
    found = await view.daemon()
    assert (found.config, found.digest, found.reloads) == (str(tmp_path / "a.toml"), "d2", 1)
    assert (found.problems, found.beat) == (("a problem", "\\udcff.toml: another"), START)
    await store.reloaded(tmp_path / "a.toml", "d3", [], ["one change"], dry=True)
    assert await view.daemon() == found._replace(
        compared=Reload(1, str(tmp_path / "a.toml"), "d3", (), ("one change",))
    ), "that of the reload stays"
    await store.reloaded(tmp_path / "a.toml", "d4", [], ["another change"])
    found = await view.daemon()
    assert (found.digest, found.reloads, found.problems, found.changes) == ("d4", 2, (), ("another change",))
    assert found.compared.number == 1
    await store.runs(tmp_path / "a.toml", "d1")
    found = await view.daemon()
    assert (found.problems, found.changes, found.compared) == ((), (), Reload(0))
    await find(store, now=START + 9)
    assert await store.last_beat() == START + 9
    await store.writable()


# -- deliveries --------------------------------------------------------------------------------------------------------


async def test_a_sink_reads_on_from_where_it_has_acked(store: Store) -> None:
    await find(store, *map(an_event, range(5)))
    numbers = await seqs(store)
    cursor, events, head, _ = await store.read("archive", 3, ALL)
    assert (cursor, [each.seq for each in events], head) == (0, numbers[:3], numbers[-1])
    await store.ack("archive", 0, numbers[2], {"size": 7}, START)
    assert await store.cursor("archive") == (numbers[2], {"size": 7})
    await store.ack("archive", numbers[2], numbers[3], None, START + 1)
    assert await store.cursor("archive") == (numbers[3], {"size": 7}), "a receipt lasts until the next one"
    read = await store.read("archive", 3, Filter(types=("nothing.*",)))
    assert (read.events, read.head) == ([], numbers[-1])
    await store.ack("archive", numbers[3], read.head, None, START + 2, moved=False)
    [entry] = await store.sinks()
    assert (entry.cursor, entry.delivered) == (numbers[-1], START + 1)


async def test_a_sink_that_waits_on_purpose_is_called_again(store: Store, desk: Desk) -> None:
    await find(store, *map(an_event, range(5)))
    numbers = await seqs(store)
    assert await store.later("archive") == NEVER
    later = Later(START + 300, 2)
    await store.ack("archive", 0, numbers[2], {"held": ["a"]}, START, later=later)
    assert await store.later("archive") == later
    [row] = [entry for entry in await desk.sinks() if entry.name == "archive"]
    assert (row.until, row.held) == later
    await store.ack("archive", numbers[2], numbers[3], None, START + 1, moved=False)
    assert await store.later("archive") == later, "events that it does not select change nothing"
    await store.ack("archive", numbers[3], numbers[3], {}, START + 300)
    assert await store.later("archive") == NEVER
    assert await store.cursor("archive") == (numbers[3], {})


async def test_a_sink_that_was_replayed_meanwhile_is_not_overwritten(store: Store, desk: Desk) -> None:
    await find(store, *map(an_event, range(5)))
    numbers = await seqs(store)
    await store.ack("archive", 0, numbers[3], None, START)
    assert await desk.replay("archive", numbers[1])
    with pytest.raises(Conflict):
        await store.ack("archive", numbers[3], numbers[4], None, START)
    with pytest.raises(Conflict):
        await store.bury("archive", numbers[3], numbers[4], "no", START)
    assert (await store.cursor("archive"))[0] == numbers[1]
    assert await store.dead("archive") == []
    assert await desk.replay("archive", numbers[4])
    assert (await store.cursor("archive"))[0] == numbers[1], "back, and never forward"
    assert not await desk.replay("attic", 0)


async def test_a_dead_letter_is_passed_and_waits_for_a_person(store: Store, desk: Desk) -> None:
    await find(store, *map(an_event, range(4)))
    numbers = await seqs(store)
    await store.bury("archive", 0, numbers[0], "no", START)
    await store.bury("archive", numbers[0], numbers[1], "never", START + 1)
    assert (await store.cursor("archive"))[0] == numbers[1]
    found = await store.dead("archive")
    assert [(each.seq, each.buried, each.reason, each.retry, each.id) for each in found] == [
        (numbers[0], START, "no", False, "id00000"),
        (numbers[1], START + 1, "never", False, "id00001"),
    ]
    assert await store.dead("archive", 1) == found[:1]
    assert [each.dead for each in await store.sinks()] == [2]
    assert await store.retries("archive") == []
    assert await desk.requeue_dead("archive", [numbers[1], numbers[3]]) == 1
    assert [each.id for each in await store.retries("archive")] == ["id00001"]
    await store.bury_again("archive", numbers[1], "still not", START + 2)
    assert await store.retries("archive") == []
    assert (await store.cursor("archive"))[0] == numbers[1]
    assert [each.reason for each in await store.dead("archive")] == ["no", "still not"]
    assert await desk.requeue_dead("archive", None) == 2
    assert await desk.drop_dead("archive", [numbers[0]]) == 1
    assert [each.seq for each in await store.dead("archive")] == [numbers[1]]
    assert await desk.drop_dead("archive", None) == 1
    assert await store.retries("archive") == []


async def test_a_sinks_failures_are_kept_until_it_acks(store: Store) -> None:
    assert await store.failure("archive") == (0, None)
    await store.record_failure("archive", 3, START, "it is down")
    assert await store.failure("archive") == (3, START)
    assert [(each.failures, each.error) for each in await store.sinks()] == [(3, "it is down")]
    await store.ack("archive", 0, 0, None, START)
    assert await store.failure("archive") == (0, None)


# -- failures ----------------------------------------------------------------------------------------------------------


async def test_failures_are_listed_until_they_are_ticked_off(store: Store, desk: Desk) -> None:
    failed = [msgspec.structs.replace(an_event(n), failure=1) for n in range(3)]
    await find(store, an_event(9), *failed[:2], now=START)
    window = msgspec.structs.replace(an_event(2, "windows"), failure=1)
    await find(store, window, name="windows", now=START + 10)
    listed = await store.failures()
    assert [(each.event.id, each.logged, each.done) for each in listed] == [
        ("id00002", START + 10, False),
        ("id00001", START, False),
        ("id00000", START, False),
    ]
    assert [each.event.id for each in await store.failures(["doors"], limit=1)] == ["id00001"]
    assert [each.event.id for each in await store.failures(since=START + 5)] == ["id00002"]
    first = listed[-1].event.seq
    good = (await store.events(0, await store.head(), 1, ALL))[0][0].seq
    assert await desk.tick_off([first, good, first], "anna", None, START + 20) == ([first], {})
    by_anna = Act(first, START + 20, "anna", True, None)
    assert await desk.tick_off([first], "bo", "me too", START + 30) == ([], {first: by_anna}), (
        "once is enough"
    )
    assert [each.act for each in await store.acts()] == [by_anna]
    assert await store.open_failures() == 2
    assert [each.event.seq for each in await store.failures(done=True) if each.done] == [first]


async def test_the_newest_open_failures_are_read_with_their_number(store: Store, desk: Desk) -> None:
    failed = [msgspec.structs.replace(an_event(n), failure=1) for n in range(5)]
    await find(store, an_event(9), *failed[:3], now=START)
    window = msgspec.structs.replace(an_event(7, "windows", outcome="failed"), failure=1)
    await find(store, window, name="windows", now=START + 10)
    upto = await store.head()
    await find(store, *failed[3:], now=START + 20)

    async def read(wanted: Filter, upto: int, limit: int, after: int = 0) -> tuple[int, list[str]]:
        count, newest = await store.still_open(wanted, (after, upto), limit)
        assert not any(each.done for each in newest)
        return count, [each.event.id for each in newest]

    assert await read(ALL, upto, 2) == (4, ["id00007", "id00002"]), "those after `upto` do not count"
    assert await read(ALL, upto, 0) == (4, []), "the number alone"
    assert await read(ALL, upto, 9, upto - 1) == (1, ["id00007"]), "nor those before"
    assert (await store.still_open(ALL, (0, upto), 1)).newest[0].logged == START + 10
    assert (await store.still_open(ALL, (0, upto), 1)).newest[0].event.body == window.body
    assert await read(Filter(sources=["door*"]), await store.head(), 1) == (5, ["id00004"])
    assert await read(Filter(outcomes=["failed"]), upto, 9) == (1, ["id00007"])
    assert await read(Filter(types=["none.such"]), upto, 9) == (0, [])
    assert await read(ALL, 0, 9) == (0, [])
    oldest = (await store.still_open(ALL, (0, upto), 9)).newest[-1].event
    await desk.tick_off([oldest.seq], "anna", None, START)
    assert await read(ALL, upto, 9) == (3, ["id00007", "id00002", "id00001"])
    await store.ack("archive", 0, await store.head(), None, START)
    await pruned(store, START + 75)
    assert await read(ALL, await store.head(), 9) == (2, ["id00004", "id00003"]), (
        "what was pruned cannot be shown"
    )


async def test_what_persons_did_with_a_failure_is_kept(store: Store, desk: Desk) -> None:
    await find(store, a_failure(1), a_failure(2), now=START)
    await find(store, a_failure(3, "windows"), name="windows", now=START)
    one, two = (await seqs(store))[:2]
    three = (await store.failures(["windows"]))[0].event.seq
    assert await desk.reopen([one], "bo", None, START) == ([], {one: None}), "it is open, and always was"
    assert await desk.tick_off([one, two], "anna", "new key", START + 1) == ([one, two], {})
    assert await desk.reopen([two, three, 10**9], "bo", "not so", START + 2) == ([two], {three: None})
    assert await desk.reopen([two], "bo", None, START + 3) == (
        [],
        {two: (two, START + 2, "bo", False, "not so")},
    )
    assert await desk.tick_off(None, "cy", None, START + 4) == ([two, three], {}), "all that are open"
    first, second = (one, START + 1, "anna", True, "new key"), (two, START + 1, "anna", True, "new key")
    undone, third = (two, START + 2, "bo", False, "not so"), (two, START + 4, "cy", True, None)
    last = (three, START + 4, "cy", True, None)
    assert [each.act for each in await store.acts()] == [last, third, undone, second, first], (
        "the newest first"
    )
    assert [each.act for each in await store.acts(limit=2)] == [last, third]
    assert [each.act for each in await store.acts(["door*"])] == [third, undone, second, first]
    assert [each.act for each in await store.acts(["windows"], three)] == [last]
    assert await store.acts(["windows"], one) == []
    assert [(each.source, each.event and each.event.id) for each in await store.acts((), one)] == [
        ("doors", "id00001")
    ]
    assert await store.last_acts([one, two, 10**9]) == {one: first, two: third}
    assert await store.open_failures() == 0


async def test_a_failure_of_the_same_person_and_thing_is_known_again(store: Store, desk: Desk) -> None:
    ada, bo = {"person": {"email": "ada@a.example"}}, {"person": {"email": "bo@a.example"}}
    await find(
        store,
        a_failure(1, **ada),
        a_failure(2, **bo),
        a_failure(3, **ada),
        a_failure(4),
        a_failure(5, **ada),
        now=START,
    )
    await find(store, a_failure(6, "windows", **ada), name="windows", now=START)
    listed = {each.event.id: each.event for each in await store.failures()}
    number = {name: event.seq for name, event in listed.items()}

    async def again() -> dict[str, tuple[str, str]]:
        names = {seq: name for name, seq in number.items()}
        found = await store.again([*listed.values()])
        return {names[seq]: (names[act.seq], act.who) for seq, act in found.items()}

    assert await again() == {}
    await desk.tick_off([number["id00003"]], "anna", None, START + 1)
    assert await again() == {"id00005": ("id00003", "anna")}, (
        "not an earlier one, another person's or source's"
    )
    await desk.tick_off([number["id00001"], number["id00004"]], "cy", None, START + 2)
    assert await again() == {"id00003": ("id00001", "cy"), "id00005": ("id00001", "cy")}, "the newest act"
    await desk.reopen([number["id00001"]], "cy", None, START + 3)
    assert await again() == {"id00005": ("id00003", "anna")}, "what was undone does not count"
    await desk.tick_off([number["id00001"]], "di", "sure", START + 4)
    assert await again() == {"id00003": ("id00001", "di"), "id00005": ("id00001", "di")}
    assert await store.again([]) == {}


async def test_acts_outlive_their_events(store: Store, desk: Desk) -> None:
    ada = {"person": {"email": "ada@a.example"}}
    old = [
        msgspec.structs.replace(each, stamp=START)
        for each in (a_failure(1, **ada), a_failure(2), a_failure(3))
    ]
    await find(store, *old, now=START)
    one, two, three = await seqs(store)
    await desk.tick_off([one, two], "anna", None, START + 1)
    await store.ack("archive", 0, await store.head(), None, START)
    await pruned(store, START + 1000)
    assert await desk.reopen([one], "bo", None, START + 2) == ([], {}), "it could not be listed"
    assert [(each.act.seq, each.source, each.event) for each in await store.acts()] == [
        (two, "doors", None),
        (one, "doors", None),
    ]
    assert (await desk.tick_off(None, "bo", None, START + 2)).changed == [], "what was pruned is not open"
    assert (await desk.tick_off([three], "bo", None, START + 2)).changed == [three], "but can be named"
    await find(store, stamped(9, LATE), a_failure(10, **ada), now=LATE)
    await store.ack("archive", three, await store.head(), None, START)
    await pruned(store, LATE + 30)
    assert not await store.known("doors", ["id00001", "id00002"]), "they are deleted"
    assert [(each.act.seq, each.source) for each in await store.acts()] == [
        (three, None),
        (two, None),
        (one, "doors"),
    ], "one that was about a person still has its source"
    assert [each.act.seq for each in await store.acts(["do*"])] == [one]
    assert await desk.tick_off([one], "bo", None, LATE) == ([], {}), "it is gone"
    failed = (await store.failures())[0].event
    assert (await store.again([failed]))[failed.seq].seq == one, "and is remembered"


@pytest.mark.garbles
async def test_a_failure_that_cannot_be_read_is_ticked_off(store: Store, desk: Desk) -> None:
    for body in (b"\xff{", b"[1]", b'{"data":7}'):
        await find(store, msgspec.structs.replace(a_failure(len(body)), body=body), now=START)
    assert len((await desk.tick_off(None, "anna", None, START)).changed) == 3
    assert len(await store.acts()) == 3


async def test_thousands_of_failures_are_ticked_off_at_once(store: Store, desk: Desk) -> None:
    many = [a_failure(n, person={"id": str(n % 100)}) for n in range(5500)]
    await find(store, *many, now=START)
    numbers = await seqs(store)
    await desk.tick_off(numbers[:1000:2], "bo", None, START)
    acted = await desk.tick_off([*numbers, *numbers], "anna", None, START + 1)
    assert (len(acted.changed), len(acted.already)) == (5000, 500)
    assert {act.who for act in acted.already.values() if act} == {"bo"}
    assert await store.open_failures() == 0
    assert len(await store.last_acts(numbers)) == 5500
    assert len((await desk.reopen(numbers, "cy", None, START + 2)).changed) == 5500
    assert await store.again([each.event for each in await store.failures()]) == {}
    assert len(await store.acts()) == 11_000


async def test_two_persons_tick_off_at_the_same_time(place: Place, store: Store) -> None:
    """Each failure is done by one of them, and the other one learns who it was."""
    await find(store, *(a_failure(n) for n in range(3000)), now=START)
    numbers = await seqs(store)
    desks = [await place.desk(), await place.desk()]
    anna, bo = await asyncio.gather(
        desks[0].tick_off(numbers, "anna", None, START), desks[1].tick_off(numbers[::-1], "bo", None, START)
    )
    for each in desks:
        await each.close()
    assert sorted([*anna.changed, *bo.changed]) == numbers
    for one, other, name in ((anna, bo, "bo"), (bo, anna, "anna")):
        assert one.already.keys() == set(other.changed)
        assert {act.who for act in one.already.values() if act} <= {name}
    assert len(await store.acts()) == 3000


# -- pruning -----------------------------------------------------------------------------------------------------------


async def test_payloads_go_first_and_ids_stay_for_35_days(store: Store) -> None:
    await find(store, *(stamped(n, START) for n in range(3)))
    numbers = await seqs(store)
    await store.ack("archive", 0, numbers[1], None, START)
    await pruned(store, START + 1000)
    assert await ids(store) == ["id00002"], "what a sink has not got stays"
    assert await find(store, stamped(0, START), stamped(1, START)) == 0, "and what it has got is still known"
    assert not await store.has_pruned_ids()
    await find(store, stamped(9, LATE), now=LATE)
    await store.ack("archive", numbers[1], await store.head(), None, START)
    await pruned(store, LATE + 61)
    assert await store.known("doors", ["id00000", "id00009"]) == {"id00009"}
    assert await store.has_pruned_ids()


async def test_ids_without_a_stamp_are_kept_for_good(store: Store) -> None:
    """A source that always lists everything would report it all again."""
    await find(store, *map(an_event, range(3)))
    await store.ack("archive", 0, await store.head(), None, START)
    await pruned(store, START + 10 * KEYS_KEPT)
    assert await find(store, *map(an_event, range(4)), now=START + 10 * KEYS_KEPT) == 1


async def test_ids_are_kept_as_far_back_as_a_quiet_source_is_read(store: Store) -> None:
    quiet = [stamped(n, START + n * 86400) for n in range(7)]
    await find(store, *quiet, now=START + 7 * 86400)
    await store.ack("archive", 0, await store.head(), None, START)
    late = START + 400 * 86400
    await pruned(store, late)
    assert await find(store, *quiet, now=late) == 0, "however long it is quiet"
    await find(store, stamped(99, late), now=late)
    await store.ack("archive", (await store.cursor("archive"))[0], await store.head(), None, late)
    await pruned(store, late + 36 * 86400)
    known = await store.known("doors", [each.id for each in (*quiet, an_event(99))])
    assert known == {"id00099"}, "and no longer than that"


async def test_that_ids_were_pruned_is_known_although_the_first_one_is_kept(store: Store) -> None:
    """An event without a stamp keeps its id for good; those after it do not."""
    await find(store, an_event(1), stamped(2, START), stamped(3, START))
    await find(store, stamped(4, START + 80 * 86400), now=START + 80 * 86400)
    await store.ack("archive", 0, await store.head(), None, START)
    assert not await store.has_pruned_ids()
    await pruned(store, START + 80 * 86400, 86400.0)
    assert await store.known("doors", ["id00001", "id00002"]) == {"id00001"}
    assert await store.has_pruned_ids()


async def test_buried_events_are_never_pruned(store: Store) -> None:
    await find(store, *map(an_event, range(3)))
    numbers = await seqs(store)
    await store.bury("archive", 0, numbers[0], "no", START)
    await store.ack("archive", numbers[0], numbers[2], None, START)
    await pruned(store, START + 10 * KEYS_KEPT)
    assert await seqs(store) == [numbers[0]]
    assert (await store.dead("archive"))[0].reason == "no"


async def test_a_clock_that_was_in_the_past_prunes_nothing_recent(store: Store) -> None:
    await find(store, *map(an_event, range(10)))
    await find(store, *map(an_event, range(10, 20)), now=5000.0)
    await find(store, *map(an_event, range(20, 25)))
    await store.ack("archive", 0, await store.head(), None, START)
    await pruned(store, START + 3600, 35 * 86400.0)
    assert {f"id{n:05d}" for n in (*range(10), *range(20, 25))} <= set(await ids(store))


async def test_what_a_removed_sink_never_got_is_counted(store: Store, desk: Desk) -> None:
    await find(store, *map(an_event, range(3)), an_event(3, outcome="denied"))
    first = (await seqs(store))[0]
    await store.ack("archive", 0, first, None, START)
    await desk.replay("archive", 0)
    await pruned(store, START + 1000, sinks=())
    assert await store.lost_to_pruning("archive", ALL) == (3, first)
    assert await store.lost_to_pruning("archive", Filter(outcomes=("denied",))) == (1, first)


async def test_unread_rows_go_after_retention(store: Store) -> None:
    await store.receive(Intake("doors", unread=("odd", b"old")), START)
    await store.receive(Intake("doors", unread=("odd", b"new")), START + 500)
    await pruned(store, START + 520)
    assert [each.body for each in await store.unread("doors")] == [b"new"]


# -- views -------------------------------------------------------------------------------------------------------------


async def test_a_view_sees_what_was_committed(store: Store, view: View) -> None:
    await find(store, an_event(1), an_event(2, outcome="denied"), now=START)
    await find(store, an_event(3, "windows", outcome=None), name="windows", now=START + 10, via="ring")
    numbers = await seqs(view)
    assert await view.head() == numbers[-1]
    found = await view.events(numbers[0], numbers[2], 1, ALL)
    assert [(each.seq, each.id, each.source, each.type, each.outcome, at) for each, at in found] == [
        (numbers[1], "id00002", "doors", "co.parakey.event_log.created", "denied", START)
    ]
    assert found[0][0].body == an_event(2, outcome="denied").body
    assert [each.id for each, _ in await view.last(2, ALL)] == ["id00002", "id00003"]
    assert [each.id for each, _ in await view.last(9, ALL, START + 5)] == ["id00003"]
    assert await view.counts() == {"doors": 2, "windows": 1}
    assert await view.lag(0, ALL) == 3
    assert await view.lag(numbers[0], Filter(sources=("doors",))) == 1
    assert await view.via(numbers) == {numbers[0]: None, numbers[1]: None, numbers[2]: "ring"}


async def test_a_census_counts_by_source_and_by_sink(store: Store, place: Place) -> None:
    await store.register(KINDS, {"archive": "file", "tickets": "http"})
    await find(store, an_event(1, outcome="failed"), an_event(2, outcome="failed"), an_event(3), now=START)
    await find(store, an_event(4, "windows", outcome="failed"), name="windows", now=START + 10)
    await store.receive(Intake("doors", unread=("odd", b"body")), START)
    first, *_, last = await seqs(store)
    await store.bury("archive", 0, last, "no", START)
    wanted = {"archive": ALL, "tickets": Filter(sources=("windows",))}
    found = await store.census(wanted)
    assert (found.failures, found.unread, found.dead) == (
        {"doors": 2, "windows": 1},
        {"doors": 1},
        {"archive": 1},
    )
    assert found.lags == {"archive": (0, None), "tickets": (1, START + 10)}
    assert found.sizes["store"] > 0
    assert (found.disk is not None) == place.has_disk
    assert found.disk is None or 0 < found.disk.free <= found.disk.total
    await store.tick_off([first], "anna", None, START)
    await store.drop_dead("archive", None)
    await store.drop_unread("doors", None)
    await store.replay("archive", 0)
    found = await store.census(wanted)
    assert (found.failures, found.unread, found.dead) == ({"doors": 1, "windows": 1}, {}, {})
    assert found.lags["archive"] == (4, START)


async def test_a_census_follows_a_sink_wherever_its_cursor_goes(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against the count of the whole log: events, acks, replays and other filters in random order."""
    monkeypatch.setattr(lags, "PART", 4)
    dice = random.Random(7)
    filters = [ALL, Filter(outcomes=("denied",)), Filter(sources=("windows",)), Filter(types=("none",))]
    wanted, n = ALL, 0
    for turn in range(300):
        match dice.randrange(8):
            case 0 | 1 | 2:
                name = dice.choice(["doors", "windows"])
                outcomes = [dice.choice(["granted", "denied"]) for _ in range(dice.randrange(1, 9))]
                await find(
                    store,
                    *(an_event(n + at, name, outcome=each) for at, each in enumerate(outcomes)),
                    name=name,
                    now=START + turn,
                )
                n += len(outcomes)
            case 3:
                await store.replay("archive", dice.randrange(n + 1))
            case 4:
                wanted = dice.choice(filters)
            case _:
                cursor, _ = await store.cursor("archive")
                upto = dice.randint(cursor, await store.head())
                await store.ack("archive", cursor, upto, None, START)
        [lag] = (await store.census({"archive": wanted})).lags.values()
        cursor, _ = await store.cursor("archive")
        left = [at for _, at in await store.events(cursor, await store.head(), 10**6, wanted)]
        assert lag == (len(left), left[0] if left else None), turn


async def test_a_long_lag_is_counted_over_several_censuses(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lags, "PART", 2)
    await find(store, *(an_event(n) for n in range(9)), now=START)
    wanted = {"archive": ALL}
    monkeypatch.setattr(lags, "PATIENCE", 0.0)
    assert (await store.census(wanted)).lags["archive"] == (None, None), "no time for any part"
    monkeypatch.setattr(lags, "PATIENCE", 60.0)
    assert (await store.census(wanted)).lags["archive"] == (9, START)


async def test_the_place_in_the_log_is_found_by_time_even_if_a_clock_was_set_back(store: Store) -> None:
    for n, at in enumerate((0.0, 60.0, 120.0, 30.0, 180.0)):
        await find(store, an_event(n), now=START + at)
    numbers = await seqs(store)

    async def after(seconds: float) -> list[int]:
        start = await store.seq_since(START + seconds)
        return [each.seq for each, _ in await store.events(start, await store.head(), 99, ALL)]

    assert await after(-1) == numbers
    assert await after(60) == numbers[1:]
    assert await after(125) == numbers[4:]
    assert await after(1e6) == []


async def test_filters_are_globs_over_types_sources_and_outcomes(store: Store) -> None:
    await find(store, an_event(1), an_event(2, outcome="denied"), an_event(3, outcome=None))
    for wanted, count in (
        (Filter(outcomes=("d*",)), 1),
        (Filter(types=("co.parakey.*",), sources=("do*",)), 3),
        (Filter(sources=("windows",)), 0),
        (Filter(outcomes=("granted", "denied")), 2),
        (Filter(outcomes=("gr?nted", "[d]enied")), 2),
    ):
        assert await store.lag(0, wanted) == count
        assert len(await ids(store, wanted)) == count
        assert len((await store.read("archive", 9, wanted)).events) == count


async def test_a_filter_for_people_selects_failures_and_notices(store: Store) -> None:
    wanted = Filter(for_people=True)
    kinds = ("granted", "failed", "partial", "denied", "succeeded")
    await find(store, *(an_event(n, outcome=outcome) for n, outcome in enumerate(kinds)))
    own = about("roundsman.disk.low", DAEMON, "disk", "Little is left.", subject="disk")
    await store.append_notices(DAEMON, [own], START)
    numbers = await seqs(store)
    for cursor in (0, 1):  # from the store, and from what was just committed
        found = await store.read("archive", 99, wanted)
        assert [each.seq for each in found.events] == [numbers[1], numbers[2], numbers[5]], cursor
        await store.ack("archive", cursor, 1, None, START, moved=False)
    assert await store.lag(0, wanted) == 3
    assert await store.lag(0, wanted._replace(sources=["doors"])) == 2
    assert await store.lag(0, Filter.of(["*"], [], [], for_people=True)) == 6


async def test_a_filter_may_name_fifty_thousand_sources(store: Store) -> None:
    await find(store, an_event(1))
    await find(store, an_event(2, "windows"), name="windows")
    names = tuple(f"s{n}" for n in range(50_000))
    assert await store.lag(0, Filter(sources=names)) == 0
    assert await store.lag(0, Filter(sources=(*names, "doors"))) == 1
    assert await store.lag(0, Filter(sources=(*names, "do*"), types=("co.parakey.event_log.created",))) == 1
    globs = tuple(f"s{n}*" for n in range(5_000))
    assert await store.lag(0, Filter(sources=globs)) == 0
    assert await store.lag(0, Filter(sources=(*globs, "d[o]ors"), outcomes=("granted", *names))) == 1


async def test_large_events_are_read_a_few_at_a_time(store: Store) -> None:
    await find(store, *(an_event(n, note="x" * 3_000_000) for n in range(6)))
    assert len(await store.events(0, await store.head(), 1000, ALL)) == 3
    assert len((await store.read("archive", 1000, ALL)).events) == 3


async def test_a_program_pulls_the_log_in_stretches(store: Store) -> None:
    await find(store, *(an_event(n, outcome="denied" if n % 5 else "granted") for n in range(10)))
    at, seen = 0, []
    while True:
        found = await store.pull(at, 3, ALL)
        if not found.events:
            break
        seen += [event.id for event, logged in found.events if logged == START]
        assert at < found.next <= found.head == await store.head()
        at = found.next
    assert seen == await ids(store)
    assert (found.next, found.head) == (at, at)
    granted = await store.pull(0, 100, Filter(outcomes=("granted",)))
    assert [event.id for event, _ in granted.events] == ["id00000", "id00005"]
    assert granted.next == granted.head, "what does not match is passed"


async def test_a_program_that_pulls_learns_that_events_were_pruned(store: Store) -> None:
    await find(store, *(stamped(n, START) for n in range(3)))
    await store.ack("archive", 0, await store.head(), None, START)
    await pruned(store, START + 1000)
    await find(store, stamped(9, LATE), now=LATE)
    found = await store.pull(0, 100, ALL)
    assert ([event.id for event, _ in found.events], found.pruned) == (["id00009"], 3)
    await pruned(store, LATE + 61, sinks=())
    gone = await store.pull(0, 100, ALL)
    assert (gone.events, gone.next) == ([], gone.head)
    assert gone.pruned >= 3


async def test_a_pull_of_large_events_is_bounded(store: Store) -> None:
    await find(store, *(an_event(n, note="x" * 3_000_000) for n in range(6)))
    found = await store.pull(0, 1000, ALL)
    assert len(found.events) == 2
    assert found.next == found.events[-1][0].seq


async def test_sources_are_counted_and_named_a_part_at_a_time(store: Store) -> None:
    await store.register({f"s{n}": "parakey.event_logs" for n in range(5)}, {})
    await find(store, an_event(1), an_event(2))
    assert await store.names(0, 2) == (["doors", "s0"], 7)
    assert await store.names(5) == (["s4", "windows"], 7)
    assert await store.names(99, 5) == ([], 7)
    assert await store.counts(["doors", "s0"]) == {"doors": 2}
    assert await store.counts(["s0"]) == {}


async def test_what_takes_long_is_read_apart(store: Store) -> None:
    await find(store, an_event(1))

    async def read(view: View) -> tuple[int, str]:
        return await view.head(), threading.current_thread().name

    found = await asyncio.gather(*(store.apart(read) for _ in range(5)))
    assert {head for head, _ in found} == {await store.head()}
    assert threading.current_thread().name not in {name for _, name in found}

    async def fail(view: View) -> None:
        raise StoreError("broken")

    assert str(await fails(store.apart(fail))) == "broken"
    assert (await store.apart(read))[0] == await store.head(), "and the next one reads"


async def test_readers_that_give_up_leave_one_thread_and_not_one_each(store: Store) -> None:
    on, began = threading.Event(), threading.Event()
    before = set(threading.enumerate())

    async def hang(_: View) -> None:
        began.set()
        on.wait(60)  # a disk that does not answer

    async def read(view: View) -> int:
        return await view.head()

    try:
        patience = 0.02
        while not began.is_set():  # on a busy machine the first ones are late before they begin
            assert "takes too long" in str(await fails(store.apart(hang, patience)))
            patience *= 2
        for _ in range(3):
            assert "takes too long" in str(await fails(store.apart(hang, 0.02)))
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(store.apart(read), 0.02)
        # Only those that read: the event loop, and tests before this one, have threads that come and go.
        reading = [each for each in threading.enumerate() if each.name == "_read_apart"]
        assert len(set(reading) - before) == 1
    finally:
        on.set()
    assert await store.apart(read) == await store.head()


async def test_a_read_that_takes_too_long_is_ended_and_not_only_left(store: Store) -> None:
    await find(store, *map(an_event, range(3000)))
    began, ended = threading.Event(), threading.Event()

    async def read(view: View) -> None:
        began.set()
        try:
            while True:
                await view.lag(0, ALL)
        finally:
            ended.set()

    patience = 1.0
    while not began.is_set():  # on a busy machine it may be late before it begins
        assert "takes too long" in str(await fails(store.apart(read, patience)))
        patience *= 2
    assert await asyncio.to_thread(ended.wait, 10)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store in a file waits for another process for longer than a busy machine needs."""
    monkeypatch.setattr("roundsman.store.sqlite.writer.BUSY", 30.0)


# -- writes at the same moment -----------------------------------------------------------------------------------------


async def test_a_write_that_fails_fails_alone(store: Store) -> None:
    await find(store, an_event(1), state={"cursor": "a"})
    results = await asyncio.gather(
        find(store, an_event(2), state={"cursor": "b"}, revision=0),
        find(store, an_event(3), state={"cursor": "x"}, revision=9),
        store.receive(Intake("doors", [an_event(4)], ["b1"]), START),
        store.ack("archive", 10**9, 1, None, START),
        store.register({"doors": "parakey.batches", "attic": "parakey.batches"}, {}),
        store.receive(Intake("doors", [an_event(5), unstorable(6)], ["b2"]), START),
        store.record_failure("archive", 1, START, "down"),
        find(store, an_event(7, "windows"), name="windows", revision=0),
        return_exceptions=True,
    )
    assert [type(each) for each in results[:5]] == [New, Conflict, New, Conflict, StoreError]
    assert isinstance(results[5], Exception)
    assert results[6:] == [None, 1]
    assert await ids(store) == ["id00001", "id00002", "id00004", "id00007"], "in the order of the calls"
    memory = await store.memory("doors")
    assert (memory.state, memory.ids) == ({"cursor": "b"}, ["b1"])
    assert await store.failure("archive") == (1, START)
    assert await store.kind("attic") is None
    assert await store.cursor("archive") == (0, None)


async def test_what_a_write_has_returned_is_seen_by_everybody(store: Store, view: View) -> None:
    async def one(number: int) -> None:
        assert await store.receive(Intake("doors", [an_event(number)]), START) == 1
        assert await view.known("doors", [f"id{number:05d}"])

    await asyncio.gather(*map(one, range(200)))
    assert await view.counts() == {"doors": 200}


@pytest.mark.usefixtures("patient")
async def test_writes_wait_for_another_process_and_are_made_when_it_has_ended(
    store: Store, place: Place, view: View
) -> None:
    with place.writing():
        writes = asyncio.gather(
            find(store, an_event(1), revision=0), store.receive(Intake("doors", [an_event(2)]), START)
        )
        await turns()
        assert not writes.done()
        assert await view.head() == 0, "a read does not wait"
        assert await store.head() == 0
    async with asyncio.timeout(20):
        assert await writes == [1, 1]
    assert await ids(view) == ["id00001", "id00002"]


async def test_a_write_that_waits_for_too_long_is_refused_and_no_other_waits(
    store: Store, place: Place
) -> None:
    others_ran, ended = 0, False

    async def others() -> None:
        nonlocal others_ran
        while not ended:
            await asyncio.sleep(0)
            others_ran += 1

    beside = asyncio.create_task(others())
    began = time.monotonic()
    with place.writing():
        refused = await asyncio.gather(
            find(store, an_event(1), revision=0),
            store.receive(Intake("doors", [an_event(2)]), START),
            store.record_failure("archive", 1, START, "down"),
            return_exceptions=True,
        )
    lasted, ended = time.monotonic() - began, True
    await beside
    assert [isinstance(each, StoreError) for each in refused] == [True] * 3
    assert "is locked by another program" in str(refused[0])
    assert 0.5 < lasted < 5
    assert others_ran > 100, "the loop went on"
    assert await ids(store) == []
    assert await store.failure("archive") == (0, None)
    assert await find(store, an_event(1)) == 1, "and the next one is made"


@pytest.mark.usefixtures("patient")
async def test_a_caller_that_is_cancelled_before_its_write_begins_has_written_nothing(
    store: Store, place: Place
) -> None:
    with place.writing():
        gone = asyncio.create_task(find(store, an_event(1), state={"cursor": "x"}, revision=0))
        stays = asyncio.create_task(store.receive(Intake("doors", [an_event(2)]), START))
        await turns()
        gone.cancel()
        await turns()
        assert gone.cancelled()
    assert await stays == 1
    assert await ids(store) == ["id00002"]
    assert (await store.memory("doors")).state == {}


@pytest.mark.usefixtures("patient")
async def test_closing_writes_what_waits_and_refuses_what_comes(place: Place) -> None:
    store = await place.store()
    await store.register(KINDS, {"archive": "file"})
    with place.writing():
        writes = asyncio.gather(
            store.receive(Intake("doors", [an_event(1)]), START),
            store.record_failure("archive", 1, START, "down"),
        )
        await turns()
        closing_it = asyncio.create_task(store.close())
        await turns()
        with pytest.raises(StoreError, match="is closed"):
            await store.receive(Intake("doors", [an_event(2)]), START)
        assert not closing_it.done()
    await closing_it
    assert await writes == [1, None]
    again = await place.store()
    assert await ids(again) == ["id00001"]
    assert await again.failure("archive") == (1, START)
    await again.close()


@pytest.mark.usefixtures("patient")
async def test_no_reader_skips_an_event_of_a_write_that_ends_late(store: Store, place: Place) -> None:
    """Its numbers may be lower than those of a write that has ended before it."""
    got: list[str] = []

    async def deliver() -> None:
        while len(got) < 3:
            cursor, events, head, _ = await store.read("archive", 10, ALL)
            got.extend(each.id for each in events)
            end = events[-1].seq if events else head
            if end > cursor:
                await store.ack("archive", cursor, end, None, START)
            await asyncio.sleep(0)

    delivering = asyncio.create_task(deliver())
    with place.writing(an_event(1)):
        writing = asyncio.create_task(find(store, an_event(2), revision=0))
        await turns()
    assert await writing == 1
    await find(store, an_event(3))
    async with asyncio.timeout(20):
        await delivering
    assert sorted(got) == ["id00001", "id00002", "id00003"]
    assert await ids(store) == got, "and each once, in the order of the log"


# -- counts ------------------------------------------------------------------------------------------------------------


def of_doors(at: float, **counts: int) -> Counted:
    """What was counted of `doors`: `poll_new=1` is `poll.new`."""
    return Counted("source", "doors", at, {name.replace("_", "."): n for name, n in counts.items()})


async def test_counts_add_up_by_hour_and_by_day(store: Store, view: View) -> None:
    hour = START - START % 3600
    await store.record_counts([of_doors(hour, poll_new=1, event_failed=3), of_doors(hour + 1, poll_new=2)])
    await store.record_counts(
        [of_doors(hour + 3599, poll_new=4, event_odd=200), of_doors(hour + 3600, poll_failed=1)]
    )
    assert await view.tallies("source", "doors", "hour", hour + 3600) == [
        (hour, {"poll.new": 7, "event.failed": 3, "event.odd": 200}),
        (hour + 3600, {"poll.failed": 1}),
    ]
    [day] = await view.tallies("source", "doors", "day", hour + 3600)
    assert day.start == hour - hour % 86400
    assert day.counts == {"poll.new": 7, "poll.failed": 1, "event.failed": 3, "event.odd": 200}
    assert await view.tallies("source", "windows", "hour", hour) == []


async def test_what_waited_for_a_sink_is_the_largest_number_that_was_seen(store: Store) -> None:
    for lag in (5, 400, 7):
        await store.record_counts([Counted("sink", "archive", START, {"lag": lag, "delivered": 10})])
    [hour] = await store.tallies("sink", "archive", "hour", START)
    [day] = await store.tallies("sink", "archive", "day", START)
    assert hour.counts == day.counts == {"lag": 400, "delivered": 30}


async def test_counts_of_a_source_and_a_sink_of_one_name_are_apart(store: Store) -> None:
    await store.register({"both": "parakey.event_logs"}, {"both": "file"})
    await store.record_counts(
        [Counted("source", "both", START, {"poll.new": 1}), Counted("sink", "both", START, {"delivered": 2})]
    )
    assert [each.counts for each in await store.tallies("source", "both", "hour", START)] == [{"poll.new": 1}]
    assert [each.counts for each in await store.tallies("sink", "both", "hour", START)] == [{"delivered": 2}]


async def test_counts_of_what_was_never_registered_are_ignored(store: Store) -> None:
    await store.record_counts(
        [
            Counted("source", "archive", START, {"poll.new": 1}),
            Counted("sink", "doors", START, {"delivered": 1}),
            of_doors(START, poll_new=2),
        ]
    )
    assert await store.tallies("source", "archive", "hour", START) == []
    assert await store.tallies("sink", "doors", "hour", START) == []
    assert [each.counts for each in await store.tallies("source", "doors", "hour", START)] == [
        {"poll.new": 2}
    ]


async def test_hours_are_kept_for_two_days_and_days_for_thirty_five(store: Store) -> None:
    for day in range(40):
        await store.record_counts(
            [of_doors(START + day * 86400 + hour * 3600, poll_new=1) for hour in range(24)]
        )
    now = START + 39 * 86400 + 23 * 3600
    hours = await store.tallies("source", "doors", "hour", now)
    days = await store.tallies("source", "doors", "day", now)
    assert [each.start for each in hours] == [now - now % 3600 - back * 3600 for back in reversed(range(48))]
    assert len(days) == 35
    while await store.prune(["archive"], now, KEYS_KEPT, limit=7):
        pass
    assert await store.tallies("source", "doors", "hour", now) == hours
    assert await store.tallies("source", "doors", "day", now) == days
    assert await store.tallies("source", "doors", "hour", now - 86400) == hours[:24], "older ones are deleted"
    assert await store.tallies("source", "doors", "day", now - 86400) == days[:-1], "older ones are deleted"


async def test_counts_by_a_clock_that_was_ahead_are_neither_shown_nor_added_to_others(store: Store) -> None:
    await store.record_counts([of_doors(START + 900 * 86400, poll_failed=1)])
    await store.record_counts([of_doors(START, poll_new=1)])
    await store.record_counts([of_doors(-5e9, poll_new=7)])
    for span in SPANS:
        assert [each.counts for each in await store.tallies("source", "doors", span, START)] == [
            {"poll.new": 1}
        ]


async def test_the_share_of_unchanged_answers_is_that_of_yesterday_and_today(
    store: Store, view: View
) -> None:
    day = START - START % 86400
    await store.record_counts([of_doors(day - 86401, request=100)])
    await store.record_counts(
        [of_doors(day - 1, request=10, request_304=9), of_doors(day + 1, request=10, request_304=6)]
    )
    await store.record_counts([Counted("source", "windows", day, {"poll.failed": 1})])
    assert await view.unchanged_shares(day + 5) == {"doors": 0.75}


async def test_a_commit_returns_the_outcomes_of_its_new_events(store: Store) -> None:
    granted, failed = an_event(1, outcome="granted"), an_event(2, outcome="failed")
    assert (await find(store, granted)).outcomes == {"granted": 1}
    new = await find(store, granted, failed, an_event(3, outcome=None))
    assert (new, new.outcomes) == (2, {"failed": 1, None: 1})
    assert (await find(store, granted)).outcomes == {}
    pushed = await store.receive(Intake("doors", [failed, an_event(4, outcome="granted")]), START)
    assert (pushed, pushed.outcomes) == (1, {"granted": 1})


# -- searching ---------------------------------------------------------------------------------------------------------


async def searched(view: View, words: str = "", wanted: Filter = ALL, **more: Any) -> list[str]:
    """The ids that a search of the whole log finds, in its order."""
    found = await view.search(wanted, words, (0, 10**9), more.pop("limit", 100), **more)
    return [event.id for event, _ in found.events]


async def test_a_search_finds_the_words_of_summaries_in_any_case(store: Store, view: View) -> None:
    named = [
        an_event(number, user={"id": "u", "name": name, "email": None})
        for number, name in enumerate(('Åsa "Quotes" O\\Neil', "100% sure_of <it>", "Nobody"))
    ]
    await find(store, *named)
    for words in ("åsa", "ÅSA", '"quotes" o\\neil', "O\\NEIL"):
        assert await searched(view, words) == [named[0].id]
    for words in ("100%", "sure_of", "IT>"):
        assert await searched(view, words) == [named[1].id]
    assert await searched(view, "1%0") == []
    assert await searched(view, "sureXof") == []
    assert await searched(view, "specversion") == []  # of the event, but not of its summary
    assert await searched(view) == [each.id for each in reversed(named)]


async def test_a_search_finds_words_that_only_the_summary_of_an_event_of_an_older_version_has(
    store: Store, view: View
) -> None:
    """Versions before 0.10 stored no summary: it is made when the event is read."""
    events = [an_event(1, outcome="denied"), a_failure(2), an_event(3, outcome=None)]
    old = [
        msgspec.structs.replace(each, body=re.sub(rb',"summary":"[^"]*"', b"", each.body)) for each in events
    ]
    assert all(b"summary" not in each.body for each in old)
    await find(store, *old, an_event(4, note=',"summary":"denied at"'))
    assert await searched(view, "denied at") == [events[0].id]
    assert await searched(view, "Failed") == [events[1].id]
    assert await searched(view, "result unknown at") == [events[2].id]


async def test_a_search_that_takes_long_ends_and_says_how_far_it_came(
    store: Store, view: View, monkeypatch: pytest.MonkeyPatch
) -> None:
    await find(store, *map(an_event, range(300)))
    numbers = await seqs(view)
    monkeypatch.setattr(searching, "PATIENCE", 0.0)
    monkeypatch.setattr(searching, "FIRST", 100)
    low, high = numbers[0] - 1, numbers[-1]
    for words in ("", "nowhere to be found"):
        found = await view.search(ALL, words, (low, high), 1000)
        assert low < found.reached < high
        assert [event.seq for event, _ in found.events] == ([] if words else [high])
        found = await view.search(ALL, words, (low, high), 1000, oldest_first=True)
        assert low < found.reached < high


async def test_a_search_goes_on_where_it_ended_and_in_both_directions(store: Store, view: View) -> None:
    await find(store, *(an_event(number) for number in range(7)))
    numbers = await seqs(view)
    found = await view.search(ALL, "", (0, 10**9), 3)
    assert [event.seq for event, _ in found.events] == numbers[:3:-1]
    found = await view.search(ALL, "", (0, found.reached), 3)
    assert [event.seq for event, _ in found.events] == numbers[3:0:-1]
    found = await view.search(ALL, "", (0, found.reached), 3)
    assert ([event.seq for event, _ in found.events], found.reached) == (numbers[:1], 0)
    newer = await view.search(ALL, "", (numbers[2], 10**9), 2, oldest_first=True)
    assert ([event.seq for event, _ in newer.events], newer.reached) == (numbers[4:2:-1], numbers[4])
    assert await view.search(ALL, "", (numbers[-1], 10**9), 2) == ([], numbers[-1])


async def test_a_search_knows_filters_and_leaves_out_what_was_pruned(store: Store, view: View) -> None:
    await find(store, an_event(1), a_failure(2))
    await find(store, an_event(3, "windows"), name="windows")
    assert await searched(view, wanted=Filter(outcomes=["failed"])) == [a_failure(2).id]
    assert await searched(view, wanted=Filter(sources=["win*"])) == [an_event(3, "windows").id]
    await store.ack("archive", 0, await store.head(), None, START)
    await pruned(store, LATE)
    assert await searched(view) == []


async def test_sources_are_read_by_name(store: Store, view: View) -> None:
    assert [entry.name for entry in await view.sources(["windows", "none"])] == ["windows"]
    assert [entry.name for entry in await view.sources([])] == []
    assert [entry.name for entry in await view.sources()] == ["doors", "windows"]


async def test_a_person_that_a_command_forgets_is_in_no_event_and_the_events_are_known_as_before(
    store: Store, desk: Desk
) -> None:
    person = {"id": "u1", "name": "Ada", "email": "ada@a.example"}
    await find(store, a_failure(1, person=person), a_failure(2), name="doors")
    before = [event for event, _ in await store.events(0, 10**9, 10, ALL)]
    shown = await desk.forget("ADA@a.example", {}, dry=True)
    assert [event for event, _ in await store.events(0, 10**9, 10, ALL)] == before
    found = await desk.forget("ADA@a.example", {})
    assert (found.events, shown.events) == ({"doors": 1}, {"doors": 1})
    after = [event for event, _ in await store.events(0, 10**9, 10, ALL)]
    assert [replace_body(event) for event in after] == [replace_body(event) for event in before]
    assert (b"Ada" in after[0].body, after[1]) == (False, before[1])
    assert await find(store, a_failure(1, person=person)) == 0, "its id is known"
    await store.commanded()  # as a daemon does every second
    assert (await store.open_failures(), (await store.read("archive", 10, ALL)).events) == (2, after)


def replace_body(event: Event) -> Event:
    return msgspec.structs.replace(event, body=b"")
