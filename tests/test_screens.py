"""What a person sees on a terminal: lines that fit it, times of the place, one event whole, sentences where there is nothing."""

import json
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from inside import commit, done
from roundsman.kit.feed.state import FeedState, Progress
from roundsman.kit.probing import Reading
from roundsman.screen.words import age, share
from roundsman.sources.http_json.source import HttpJson
from roundsman.sources.http_json.state import ListState, Memory, Walk
from roundsman.store import Counted
from roundsman.store.sqlite.store import SqliteStore
from roundsman.terminal.clock import clock
from roundsman.terminal.terminal import WIDEST, Row, Terminal
from roundsman.wire import Damage
from typed import Program, Result, typed
from worlds import START, a_failure, an_event

CONFIG = """
[daemon]
store = "roundsman.db"
[sources.doors]
type = "parakey.event_logs"
base_url = "http://127.0.0.1:1"
access_token = "s3cret"
[sources.keys]
type = "parakey.batches"
base_url = "http://127.0.0.1:1"
access_token = "s3cret"
[sinks.archive]
type = "file"
path = "events.jsonl"
[sinks.crm]
type = "http"
url = "http://127.0.0.1:1"
outcomes = ["failed"]
"""
LONG = "https://status.example.org/incidents/" + "0123456789abcdef" * 20
"""A word that no line can hold."""
NAME = "\u674e\u96f7 \u5357\u4eac\u9326\u901a\u904b\u8f38\u682a\u5f0f\u4f1a\u793e e\u0301le\u0300ve \U0001f511 \u1112\u1161\u11ab"
"""Wide characters, accents of their own, an emoji, and a Korean syllable in parts."""


@pytest.fixture
def roundsman(store: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> Program:
    """The command beside a store, its output a pipe."""
    for name in ("FORCE_COLOR", "NO_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    return typed(store, monkeypatch, capfd)


@pytest.fixture
def terminal(roundsman: Program, monkeypatch: pytest.MonkeyPatch) -> Program:
    """The same on a terminal: `terminal(80, "events")`."""

    def run(columns: int, *args: str) -> Result:
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("COLUMNS", str(columns))
        return roundsman(*args)

    return run


@pytest.fixture(autouse=True)
def _zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """In Nepal: five hours and three quarters ahead, without summer time."""
    monkeypatch.setenv("TZ", "<+0545>-05:45")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (tmp_path / "roundsman.toml").write_text(CONFIG)
    store = SqliteStore.open(tmp_path / "roundsman.db")
    done(
        store.register(
            {"doors": "parakey.event_logs", "keys": "parakey.batches"}, {"archive": "file", "crm": "http"}
        )
    )
    events = [
        an_event(
            1, user={"id": None, "name": NAME, "email": None}, door={"id": "d", "name": "Main entrance"}
        ),
        an_event(2, outcome="denied", user={"id": None, "name": "Eve\x1b[31m\u202e", "email": None}),
        a_failure(
            3,
            person={"id": None, "name": NAME, "email": "li@example.org"},
            about=None,
            message=f"the provider's page {LONG} says why",
        ),
    ]
    commit(
        store,
        "doors",
        {},
        events,
        now=START,
        unread=[Damage(b"null", f"{NAME}: an item of the list is null")],
    )
    done(store.bury("archive", 0, 1, f"422: {NAME}: the receiver knows no such person", START))
    done(store.tick_off([3], "anna", NAME, START))
    done(store.reopen([3], "anna", "again", START))
    done(store.pause("sink", "crm", "anna", START))
    done(store.close())
    return tmp_path


LISTS = (
    "events",
    "failures --all",
    "failures log",
    "unread doors",
    "dead list archive",
    "events show 1",
    "events show 3",
    "status",
    "plugins",
)


TIMED = [line for line in LISTS if line != "plugins"]


@pytest.mark.parametrize("columns", [30, 60, 80, 200])
def test_no_line_is_wider_than_the_terminal_and_no_word_is_broken(columns: int, terminal: Program) -> None:
    whole = {line: terminal(1000, *line.split()).words for line in LISTS}
    for line in LISTS:
        result = terminal(columns, *line.split())
        assert result.code == 0, line
        assert [each for each in result.lines if cell_len(each) > columns] == []
        # Each word is there in one piece, but for one that no line can hold.
        words = [word for word in whole[line].split() if cell_len(word) <= columns - 16]
        assert set(words) <= set(result.words.split()) | {"state", "at", "work"}, line


def test_nothing_from_a_vendor_controls_the_terminal(terminal: Program) -> None:
    for line in LISTS:
        out = re.sub(r"\x1b\[[0-9;]*m", "", terminal(80, *line.split()).out)
        assert not set(out) & {"\x1b", "\u202e", "\r"}, line
    assert "Eve\\x1b[31m\\u202e" in terminal(200, "events").words


def test_a_terminal_shows_local_times_and_a_pipe_utc(roundsman: Program, terminal: Program) -> None:
    this_year = time.localtime().tm_year == 2026
    shown = "1 May 11:45:00" if this_year else "1 May 2026 11:45"
    in_utc = "1 May 06:00:00Z" if this_year else "1 May 2026 06:00Z"
    for line in TIMED:
        assert shown in terminal(200, *line.split()).words, line
        assert in_utc in terminal(200, *line.split(), "--utc").words, line
    assert "2026-05-01T06:00:00Z" in terminal(200, "events", "--json").out


def test_a_pipe_gets_the_lines_that_it_always_got(roundsman: Program) -> None:
    first, second, third = roundsman("events").lines
    assert second == (
        "2026-05-01T06:00:00Z  doors         event_log.created       denied     "
        "Eve\\x1b[31m\\u202e: denied at id00002"
    )
    assert "#" not in first.split("  ")[0]
    assert third.startswith("2026-05-01T06:00:00Z  doors         ")
    assert roundsman("dead", "list", "archive").out.startswith("#1  2026-05-01T06:00:00Z  doors  ")
    assert "\x1b" not in roundsman("status").out
    assert "sink crm type=http state=paused" in roundsman("status").out


def test_an_event_is_shown_by_its_number_with_what_was_done_and_who_has_it(
    roundsman: Program, terminal: Program
) -> None:
    assert "#3 " in terminal(200, "events").words
    found = json.loads(roundsman("events", "show", "#3", "--json").out)
    assert (found["event"]["id"], found["event"]["outcome"]) == ("id00003", "failed")
    assert (found["seq"], found["via"], found["failure"]["done"]) == (3, "poll", False)
    assert [each["done"] for each in found["failure"]["acts"]] == [False, True], "the newest first"
    states = {each["name"]: each["state"] for each in found["sinks"]}
    assert states == {"archive": "waiting", "crm": "waiting"}
    assert [each["before"] for each in found["sinks"]] == [1, 0]
    words = terminal(80, "events", "show", "3").words
    assert "roundsman failures done 3" in words
    assert "opened again by anna" in words
    assert "archive: waits for it behind 1 other " in words
    assert "crm: paused; it waits" in words
    dead = json.loads(roundsman("events", "show", "1", "--json").out)["sinks"]
    assert [(each["name"], each["state"]) for each in dead] == [("archive", "dead"), ("crm", "filtered")]
    assert "refused for good: 422" in terminal(80, "events", "show", "1").words


@pytest.mark.parametrize(
    ("number", "code", "said"),
    [
        ("x", 2, "x: is not the number of an event; `roundsman events` shows the numbers on a terminal"),
        (
            "9" * 30,
            2,
            f"{'9' * 30}: is not the number of an event; `roundsman events` shows the numbers on a terminal",
        ),
        ("4", 1, "#4: no event has this number; the last number is 3"),
        ("0", 1, "#0: no event has this number; the last number is 3"),
    ],
)
def test_a_number_of_no_event_is_one_sentence(number: str, code: int, said: str, roundsman: Program) -> None:
    assert roundsman("events", "show", number) == (code, "", f"{said}\n")


def test_status_says_what_a_source_does_and_how_old_what_waits_is(
    roundsman: Program, terminal: Program, store: Path
) -> None:
    found = json.loads(roundsman("status", "--json").out)
    doors, keys = found["sources"]
    assert (doors["reading"], doors["tracks"], keys["tracks"]) == (None, None, True)
    assert "tracks=true" in roundsman("status").out, "as in JSON"
    assert [sink["oldest"] for sink in found["sinks"]] == ["2026-05-01T06:00:00Z"] * 2
    assert "nothing to follow" in terminal(200, "status").words
    db = SqliteStore.open(store / "roundsman.db")
    at = datetime(2026, 4, 3, 4, 5, 6, tzinfo=UTC)
    reading = Reading(at=at, strategy="keyset", limit=100)
    commit(db, "doors", FeedState(begun=True, reading=reading, progress=Progress()).dump(), [])
    done(db.close())
    assert json.loads(roundsman("status", "--json").out)["sources"][0]["reading"] == "2026-04-03T04:05:06Z"
    assert "reading, at 3 Apr" in terminal(80, "status").words
    walk = Walk(at=7, rows=12_345, top="2026-05-01T06:00:00Z")
    assert HttpJson.reading(ListState(list=Memory(walk=walk)).dump()) == "12,345 rows"
    assert HttpJson.reading({}) is None
    assert roundsman("track", "keys", "b1").code == 0
    assert "follows 1" in terminal(80, "status").words


def test_a_sink_that_refuses_each_event_is_not_ok(roundsman: Program, terminal: Program, store: Path) -> None:
    def archive() -> tuple[str, str]:
        [sink, _] = json.loads(roundsman("status", "--json").out)["sinks"]
        return sink["state"], sink["dead_since"]

    assert archive() == ("ok", "2026-05-01T06:00:00Z"), "one bad event may come to any sink"
    db = SqliteStore.open(store / "roundsman.db")
    done(db.bury("archive", 1, 2, "422", START + 60))
    assert archive() == ("refusing", "2026-05-01T06:00:00Z")
    words = "archive: it refuses all events; 2 events were refused for good since 1 May 11:45:00: roundsman dead list archive"
    assert words in terminal(80, "status").words
    done(db.ack("archive", 2, 3, None, START + 90))
    assert archive() == ("ok", "2026-05-01T06:00:00Z")
    done(db.close())


def test_where_there_is_nothing_a_sentence_on_standard_error_says_so(roundsman: Program, store: Path) -> None:
    assert roundsman("events", "--outcome", "granted", "--source", "keys") == (0, "", "no event matches\n")
    assert roundsman("unread", "keys") == (
        0,
        "",
        "keys: nothing is unread: every webhook and every row could be read\n",
    )
    assert roundsman("dead", "list", "crm").out == ""
    assert "crm: no dead letters" in roundsman("dead", "list", "crm").err
    for end in ("", "-wal", "-shm"):
        (store / f"roundsman.db{end}").unlink(missing_ok=True)
    done(SqliteStore.open(store / "roundsman.db").close())
    said = "no events yet: no daemon runs; `roundsman run` starts one\n"
    assert roundsman("events") == (0, "", said)
    assert roundsman("events", "--json") == (0, "", said)
    assert roundsman("events", "-n", "0") == (0, "", "")


def test_the_cells_of_a_list_stand_below_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wide characters and accents count as the columns that they take."""
    monkeypatch.setenv("COLUMNS", "200")
    text = [Row([NAME, "x"], "a"), Row(["b", "y"], "c"), Row(["\u674e", "z"], "d")]
    lines = Terminal(colours=False).rows(text)
    places = [cell_len(line[: line.rindex(mark)]) for line, mark in zip(lines, "xyz", strict=True)]
    assert places == [WIDEST + 2 if cell_len(NAME) <= WIDEST else cell_len(NAME) + 2, WIDEST + 2, WIDEST + 2]


def test_status_shows_the_share_of_unchanged_answers_where_there_were_requests(
    terminal: Program, store: Path
) -> None:
    assert "304s" not in terminal(100, "status").words
    db = SqliteStore.open(store / "roundsman.db")
    done(db.record_counts([Counted("source", "doors", time.time(), {"request": 40, "request.304": 38})]))
    done(db.close())
    shown = terminal(100, "status")
    assert "304s" in shown.words
    assert "95 %" in next(line for line in shown.lines if line.startswith("doors"))


@pytest.mark.parametrize(
    ("part", "said"),
    [(None, ""), (0, "0 %"), (1, "100 %"), (0.976, "98 %"), (0.9999, "> 99 %"), (0.0001, "< 1 %")],
)
def test_a_share_is_only_all_or_none_if_it_is(part: float | None, said: str) -> None:
    assert share(part) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0s"),
        (-5, "0s"),
        (59.7, "1m"),
        (312, "5m12s"),
        (2385, "39m"),
        (3600 * 9 + 60, "9h1m"),
        (86400 * 212, "212d"),
    ],
)
def test_an_age_is_short(seconds: float, said: str) -> None:
    assert age(seconds) == said


@pytest.mark.parametrize(
    ("moment", "now", "said"),
    [
        ("2026-05-03T00:00:00Z", "2026-05-03T10:00:00Z", "05:45:00"),
        ("2026-05-02T18:20:00Z", "2026-05-02T18:10:00Z", "3 May 00:05:00"),
        ("2025-12-31T18:10:00Z", "2026-01-05T00:00:00Z", "31 Dec 2025 23:55"),
        ("2025-12-31T18:20:00Z", "2026-01-05T00:00:00Z", "1 Jan 00:05:00"),
    ],
)
def test_a_time_of_another_local_day_has_its_date(moment: str, now: str, said: str) -> None:
    times = [datetime.fromisoformat(each).timestamp() for each in (moment, now)]
    assert clock(*times) == said
