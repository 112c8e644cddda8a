"""A store is copied from a file to a server and back, whole, also after interruptions; what differs is not used."""

import asyncio
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from inside import visited
from postgres import Postgres
from roundsman.options.server import Server
from roundsman.store import (
    KEYS_KEPT,
    Counted,
    Filter,
    Intake,
    Place,
    Store,
    StoreError,
    copy,
    copying,
    open_desk,
    open_store,
    open_view,
)
from roundsman.wire import Damage
from worlds import START, a_failure, an_event

KINDS = {"doors": "parakey.event_logs", "windows": "parakey.event_logs"}


async def filled(place: Place, events: int = 50) -> None:
    """A store with something in each of its tables, and numbers that were given out and are not there any more."""
    store = await open_store(place)
    await store.register(KINDS, {"archive": "file", "crm": "http"}, {"doors": "https://a.example"})
    many = [an_event(n) for n in range(events)]
    await store.commit(
        "doors",
        0,
        *visited(
            {"cursor": "å\0"}, [*many, a_failure(events)], unread=[Damage(b"\xff\0", "odd")], error="n\0"
        ),
    )
    await store.receive(Intake("windows", [an_event(1, "windows")], ["b1", "b2"]), START + 1)
    await store.commit("windows", 0, *visited({}, [], taken=(await store.memory("windows")).taken))
    await store.ack("archive", 0, 20, {"size": 7}, START)
    await store.bury("crm", 0, 3, "no", START)
    await store.record_counts([Counted("source", "doors", START, {"poll.new": 3, "odd": 1})])
    await store.record_counts([Counted("sink", "crm", START, {"lag": 9})])
    await store.tick_off(None, "anna", "seen", START)
    await store.pause("source", "windows", "bo", START)
    while await store.prune(["archive"], START + 2 * KEYS_KEPT, 60.0):
        pass
    await store.close()


async def shown(place: Place) -> dict[str, Any]:
    """What a store has, as its readers see it."""
    view = await open_view(place)
    try:
        return {
            "events": [(event, at) for event, at in await view.events(0, 10**6, 10**6, Filter())],
            "head": await view.head(),
            "sources": await view.sources(),
            "sinks": await view.sinks(),
            "memory": [await view.memory(name) for name in KINDS],
            "dead": await view.dead("crm"),
            "acts": await view.acts(),
            "unread": await view.unread("doors"),
            "known": await view.known("doors", [f"id{n:05d}" for n in range(99)]),
            "tallies": await view.tallies("source", "doors", "hour", START),
            "pruned": await view.has_pruned_ids(),
        }
    finally:
        await view.close()


async def copied(source: Place, target: Place) -> int:
    return await asyncio.to_thread(copy, source, target, lambda _table, _rows: None)


async def goes_on(place: Place, number: int) -> None:
    """A daemon works on a copy: ids are known, and numbers go on."""
    store: Store = await open_store(place)
    await store.register(KINDS, {"archive": "file"})
    head = await store.head()
    assert await store.commit("doors", 0, *visited({}, [an_event(1), an_event(number)])) == 1
    assert await store.head() == head + 1
    before = (await store.memory("windows")).taken
    assert await store.follow("windows", ["later"]) == 1
    assert (await store.memory("windows")).taken > max(before, 2), "no number is given out again"
    await store.close()


async def test_a_store_is_the_same_on_a_server_and_back_in_a_file(database: str, tmp_path: Path) -> None:
    first, server, last = tmp_path / "a.db", Server(database), tmp_path / "b.db"
    await filled(first)
    before = await shown(first)
    assert await copied(first, server) == before["head"]
    there = await shown(server)
    [doors, _] = there["sources"]
    assert doors.status.error == "n\ufffd", "the server stores no NUL"
    there["sources"][0] = before["sources"][0]
    assert there == before
    assert await copied(server, last) == before["head"]
    back = await shown(last)
    back["sources"][0] = before["sources"][0]
    assert back == before
    assert await copied(first, server) == before["head"], "it is complete, and stays as it is"
    assert await copied(server, last) == before["head"]
    await filled(tmp_path / "other.db", 5)
    for place in (server, last):
        with pytest.raises(StoreError, match="has a store already: name an empty one"):
            await copied(tmp_path / "other.db", place)
    assert not list(tmp_path.glob("*.copying*")), "nothing is left beside it"
    await goes_on(last, 1000)
    await goes_on(server, 1000)


def doctor(folder: Path, url: str) -> str:
    """What `roundsman doctor` prints about a daemon on this store."""
    config = folder / "doctor.toml"
    config.write_text(f'[daemon]\nstore = "{url}"\n')
    command = [sys.executable, "-m", "roundsman", "doctor", "-c", str(config)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60).stdout


@pytest.mark.parametrize("to_server", [True, False])
async def test_an_interrupted_copy_goes_on_and_is_not_used_before(
    to_server: bool, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = (
        (tmp_path / "a.db", Server(database)) if to_server else (Server(database), tmp_path / "a.db")
    )
    await filled(source)
    monkeypatch.setattr(copying, "ROWS", 10)
    put: list[tuple[str, int]] = []

    def report(table: str, rows: int) -> None:
        put.append((table, rows))
        if len(put) == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        try:
            await asyncio.to_thread(lambda: copied_until(source, target, report))
        except RuntimeError as exc:
            raise exc.__cause__ or exc from None
    if to_server:
        for used in (open_store, open_view):
            with pytest.raises(StoreError, match="has a part of .*: run `roundsman store copy` again"):
                await used(target)
        said = await asyncio.to_thread(doctor, tmp_path, database)
        about = [line for line in said.splitlines() if " store: " in line]
        assert len(about) == 1, said
        assert about[0].startswith("failure"), said
        assert "has a part of" in about[0], said
    else:
        assert isinstance(target, Path)
        assert not target.exists()
    await copied(source, target)
    before, after = await shown(source), await shown(target)
    assert after["events"] == before["events"]
    assert after["head"] == before["head"]
    assert ("events", 10) in put
    other = tmp_path / "other.db"
    await filled(other, 3)
    with pytest.raises(StoreError, match="has a store already"):
        await copied(other, target)


def copied_until(source: Place, target: Place, report: Any) -> None:
    try:
        copy(source, target, report)
    except KeyboardInterrupt as exc:  # that a thread cannot hand over
        raise RuntimeError from exc


async def test_a_part_of_one_store_is_not_completed_with_another(database: str, tmp_path: Path) -> None:
    one, two = tmp_path / "a.db", tmp_path / "b.db"
    await filled(one)
    await filled(two, 5)

    def stop(_table: str, _rows: int) -> None:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        await asyncio.to_thread(copy, one, Server(database), stop)
    with pytest.raises(StoreError, match=r"has a part of .*a\.db, and not of .*b\.db"):
        await copied(two, Server(database))


async def test_a_copy_that_differs_is_not_used(
    database: str, postgres_server: Postgres, tmp_path: Path
) -> None:
    source = tmp_path / "a.db"
    await filled(source)

    def spoil(table: str, _rows: int) -> None:
        if table == "daemons":
            sql = "UPDATE events SET outcome = 'another' WHERE seq = 40"
            postgres_server.run(sql, (), database.rpartition("/")[2])

    with pytest.raises(StoreError, match="differs from .* in events"):
        await asyncio.to_thread(copy, source, Server(database), spoil)
    with pytest.raises(StoreError, match="has a part of"):
        await open_store(Server(database))


async def test_a_store_in_use_is_not_copied(database: str, tmp_path: Path) -> None:
    await filled(Server(database))
    store = await open_store(Server(database))
    with pytest.raises(StoreError, match="is in use by roundsman, pid"):
        await copied(Server(database), tmp_path / "b.db")
    desk = await open_desk(Server(database))
    await desk.backup(tmp_path / "backup.db")
    with pytest.raises(StoreError, match="is not overwritten; use --force"):
        await desk.backup(tmp_path / "backup.db")
    await desk.backup(tmp_path / "backup.db", replace=True)
    await desk.close()
    await store.close()
    assert [each.name for each in tmp_path.iterdir()] == ["backup.db"]
    with closing(sqlite3.connect(tmp_path / "backup.db")) as db:
        assert db.execute("SELECT count(*) FROM events").fetchone()[0] > 0
    assert (tmp_path / "backup.db").stat().st_mode & 0o777 == 0o600
    assert (await shown(tmp_path / "backup.db"))["head"] == (await shown(Server(database)))["head"]
