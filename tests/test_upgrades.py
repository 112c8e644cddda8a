"""Stores of earlier versions: brought up to date, and gone on with as if nothing had been.

`stores/` has what the programs of those versions really wrote, watching the sandbox for some seconds: `.dump` of SQLite's shell, bodies as text.
"""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlite_utils import Database

from inside import done, seen, statuses
from roundsman.engine.engine import Engine
from roundsman.sandbox.company import Company
from roundsman.sinks.file import FileSink
from roundsman.store import DAEMON, KEYS_KEPT, Filter
from roundsman.store.sqlite import schema as module
from roundsman.store.sqlite.migrations import migrations
from roundsman.store.sqlite.reader import Reader
from roundsman.store.sqlite.store import SqliteStore
from roundsman.times import parse_time
from worlds import (
    START,
    ByHand,
    Straight,
    Time,
    an_event,
    event_logs,
    mailchimp_batches,
    parakey_batches,
    railz_pushes,
    web_of,
)

STORES = Path(__file__).parent / "stores"
SOURCES = {
    "front-doors": event_logs,
    "keys": parakey_batches,
    "newsletter": mailchimp_batches,
    "ledger": railz_pushes,
}


def all_of(store: Reader) -> list[str]:
    return [event.id for event, _ in seen(store.events(0, 10**9, 10**6, Filter()))]


def told(lines: list[bytes]) -> list[str]:
    """The ids; not of notices that what an earlier version followed is gone, for the vendor of these tests never had it."""
    return [e["id"] for e in map(json.loads, lines) if e["type"] != "roundsman.batch.gone"]


class Old:
    """A store as an earlier version left it, the file of its sink beside it."""

    def __init__(self, version: str, folder: Path) -> None:
        self.path = folder / "roundsman.db"
        with closing(sqlite3.connect(self.path)) as db:
            db.execute("PRAGMA page_size = 8192")
            db.execute("PRAGMA journal_mode = WAL")
            db.executescript((STORES / f"{version}.sql").read_text())
            self.names = [
                name
                for [name] in db.execute("SELECT name FROM sources WHERE type != 'roundsman' ORDER BY id")
            ]
            self.bodies = [body for [body] in db.execute("SELECT body FROM events ORDER BY seq")]
            [self.last] = db.execute("SELECT max(due) FROM sources").fetchone()
        self.file = folder / "events.jsonl"
        self.file.write_bytes(b"".join(body + b"\n" for body in self.bodies))

    def logs(self) -> list[dict[str, Any]]:
        """The vendor's own rows of event logs."""
        documents = [json.loads(body) for body in self.bodies]
        return [d["data"]["raw"] for d in documents if d["type"] == "co.parakey.event_log.created"]


@pytest.mark.parametrize("version", sorted(path.stem for path in STORES.glob("*.sql")))
async def test_a_store_that_an_earlier_version_wrote_is_gone_on_with(version: str, tmp_path: Path) -> None:
    """Its vendor still has the same rows, and one new one: that is told, and nothing else again, neither in log nor file."""
    old = Old(version, tmp_path)
    assert "front-doors" in old.names
    time = Time(old.last + 1)
    company = Company(now=time.utc)
    for row in old.logs():
        created, happened = parse_time(row["createdAt"]), parse_time(row["timestamp"])
        rest = {k: v for k, v in row.items() if k not in {"id", "createdAt", "timestamp"}}
        company.parakey.add(log_id=row["id"], created=created, timestamp=happened, **rest)
    store = SqliteStore.open(old.path)
    engine = Engine(store, ByHand(), web_of(Straight(company.town), time), clock=time.clock())
    archive = FileSink(type="file", path=old.file).named("archive")
    await engine.setup({name: SOURCES[name](name) for name in old.names}, {"archive": archive})
    before = all_of(store)
    assert len(before) == len(old.bodies) > 15
    assert await engine.once()
    time.advance(61)
    new = company.parakey.add(note="new")
    assert await engine.once()
    time.advance(61)
    assert await engine.once()
    lines = old.file.read_bytes().splitlines()
    assert lines[: len(before)] == old.bodies
    assert told(lines) == [*before, new.id]
    assert [event["id"] for event in map(json.loads, lines)] == all_of(store)
    assert [fate.failing_since for fate in (await statuses(engine)).values()] == [None] * len(old.names)
    await store.close()


@pytest.mark.garbles
@pytest.mark.parametrize("before", sorted(module.STEPS.keys() - {"001_log"}))
def test_a_store_of_any_schema_is_brought_up_to_date(before: str, tmp_path: Path) -> None:
    """Written by the program that knew the migrations before this one; also where somebody has a source named `daemon`."""
    path = tmp_path / "roundsman.db"
    old = Database(path)
    migrations.apply(old, stop_before=before)
    old.execute(
        "INSERT INTO sources (name, type, state) VALUES ('doors', 'parakey.event_logs', '{\"tag\":1}')"
    )
    if before == "004_own":
        old.execute("INSERT INTO sources (name, type) VALUES ('daemon', 'parakey.batches')")
    old.execute(
        "INSERT INTO events (source, id, type, logged, body) VALUES (1, 'a', 'co.x', 5.0, '{}'), (1, 'b', 'co.x', 6.0, '{}')"
    )
    old.execute("INSERT INTO sinks (name, type, cursor) VALUES ('archive', 'file', 1)")
    old.conn.commit()
    old.close()
    store = SqliteStore.open(path)
    done(store.register({"doors": "parakey.event_logs"}, {"archive": "file"}))
    assert seen(store.memory("doors")).state == {"tag": 1}
    assert seen(store.cursor("archive")) == (1, None)
    assert all_of(store) == ["a", "b"]
    assert done(store.append_notices(DAEMON, [an_event(1, DAEMON)], 7.0)) == 1
    names = [row.name for row in seen(store.sources())]
    assert names == (["daemon (a source)", "doors"] if before == "004_own" else ["doors"])
    while done(store.prune(["archive"], START + 2 * KEYS_KEPT, 60.0)):
        pass
    assert not done(store.shrink()), "an old file cannot be shrunk in steps, and is left alone"
    done(store.close())


@pytest.mark.garbles
def test_what_was_known_of_the_daemon_is_kept(tmp_path: Path) -> None:
    """Until 0.5 it stood in the row that the daemon's notices belong to."""
    path = tmp_path / "roundsman.db"
    old = Database(path)
    migrations.apply(old, stop_before="006_daemons")
    state = json.dumps({"config": "/x.toml", "digest": "d", "problems": ["p"]})
    old.execute(
        "UPDATE sources SET visited = 9, revision = 3, position = 7, state = ? WHERE name = ?",
        (state, DAEMON),
    )
    old.conn.commit()
    old.close()
    store = SqliteStore.open(path)
    assert seen(store.last_beat()) == 9
    assert seen(store.daemon()).reloads == 3
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT pruned FROM daemons").fetchall() == [(7,)]
        assert db.execute("SELECT state, revision FROM sources").fetchall() == [("{}", 0)]
    done(store.close())
