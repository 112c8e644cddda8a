"""The keys of what each command prints with `--json`: a key that a released version had stays."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from inside import commit, done, seen
from parsing import root
from roundsman.store.sqlite.store import SqliteStore
from roundsman.wire import Damage
from typed import Program

STORE = Path(__file__).parent / "stores" / "0.12.sql"
CONFIG = """
[daemon]
store = "roundsman.db"
[sources.front-doors]
type = "parakey.event_logs"
base_url = "http://127.0.0.1:1"
access_token = "s3cret"
[sinks.archive]
type = "file"
path = "events.jsonl"
"""
SOME = {
    "events show": ["1"],
    "failures log": [],
    "dead list": ["archive"],
    "unread": ["front-doors"],
    "hooks unread": ["front-doors"],
    "forget": ["greta@harbour.example", "--dry-run"],
}
"""The arguments of commands that have some."""
ELSEWHERE = {"poll", "hooks list"}
"""They ask a vendor. `poll` prints events; tests/docs/test_commands.py reads the output of the other one."""
THEIRS = {"raw", "data", "event", "body", "also_named_in", "versions"}
"""Members whose own members are of an event, or of a vendor."""
KEYS = {
    "check": """
        file heartbeat listen live problems sinks sinks.for_people sinks.gets sinks.gets.outcomes
        sinks.gets.source sinks.gets.type sinks.name sinks.outcomes sinks.place sinks.sources
        sinks.type sinks.types sources sources.assumed sources.event_types sources.interval
        sources.name sources.reads sources.requests_a_day sources.type sources.webhook store valid
        warnings warnings.column warnings.file warnings.line warnings.message warnings.place
    """,
    "doctor": "checks checks.advice checks.check checks.message checks.state ok versions",
    "plugins": "abilities deprecated error folder kind origin shadows type",
    "status": """
        daemon damage events open_failures sinks sinks.cursor sinks.dead sinks.dead_since
        sinks.delivered sinks.error sinks.failures sinks.held sinks.name sinks.oldest sinks.paused
        sinks.paused_by sinks.state sinks.type sinks.until sinks.waiting sinks.worker sources
        sources.answered sources.changed sources.due sources.error sources.events sources.failures
        sources.following sources.gap sources.gap_reported sources.heard sources.name sources.origin
        sources.paused sources.paused_by sources.reading sources.reads sources.refusal
        sources.refused sources.rests_until sources.state sources.tracks sources.type
        sources.unchanged_share sources.unread sources.visited sources.visits sources.webhooks
        sources.worker store trouble
    """,
    "events": "data datacontenttype id outcome source specversion subject summary time type",
    "events show": """
        event failure logged seq sinks sinks.before sinks.name sinks.paused sinks.reason sinks.state
        sinks.until via
    """,
    "failures": """
        about about.id about.name again batch_id code connection done done_at done_by environment
        fields fields.field fields.message id item_id logged message note outcome person
        person.email person.id person.name source summary time type
    """,
    "failures log": "at by done id note source summary",
    "dead list": "buried id outcome reason retry seq source type",
    "unread": "body n received why",
    "hooks unread": "body n received why",
    "forget": """
        also_named also_named_in copies dry_run due erased events held in_ids in_states sinks
        sinks.events sinks.name sinks.place still_held texts unread vendors
    """,
}
"""By command: the paths of the keys. A new version may add keys, here too; it takes none out."""


def keys(document: Any, place: str = "") -> set[str]:
    """The paths of all keys: `sources.name`."""
    if isinstance(document, list):
        return set[str]().union(*(keys(each, place) for each in document))
    if not isinstance(document, dict):
        return set()
    inside = (keys(value, f"{place}{key}.") for key, value in document.items() if key not in THEIRS)
    return {f"{place}{key}" for key in document}.union(*inside)


@pytest.fixture
def filled(tmp_path: Path, roundsman: Program) -> Path:
    """A store with something of each kind."""
    with closing(sqlite3.connect(tmp_path / "roundsman.db")) as db:
        db.executescript(STORE.read_text())
    (tmp_path / "roundsman.toml").write_text(CONFIG)
    store = SqliteStore.open(tmp_path / "roundsman.db")
    cursor, _ = seen(store.cursor("archive"))
    done(store.bury("archive", cursor, cursor, "too large", 1.0))
    commit(store, "front-doors", {}, [], unread=[Damage(b"null", "is no object")])
    done(store.close())
    number = str(json.loads(roundsman("failures", "--json").out)[0]["id"])
    assert roundsman("failures", "done", number, "--by", "anna").code == 0
    return tmp_path


@pytest.mark.parametrize("command", KEYS)
def test_each_key_that_a_released_version_printed_is_printed(
    command: str, filled: Path, roundsman: Program
) -> None:
    text = roundsman(*command.split(), *SOME.get(command, []), "--json").out
    documents = [json.loads(line) for line in text.splitlines()] if command == "events" else json.loads(text)
    assert set(KEYS[command].split()) - keys(documents) == set()


def test_each_command_that_prints_json_is_covered_here() -> None:
    def of(command: Any, name: str = "") -> set[str]:
        found = {name} if any("--json" in each.opts for each in command.params) else set()
        return found.union(
            *(of(each, f"{name} {below}".strip()) for below, each in getattr(command, "commands", {}).items())
        )

    assert of(root()) == KEYS.keys() | ELSEWHERE
