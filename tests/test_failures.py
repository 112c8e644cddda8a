"""`roundsman failures`: what a person reads of them, marks as done and undoes, and what is known of that later."""

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from conftest import need
from inside import commit, done
from processes import Daemon, configure
from roundsman.events import Event
from roundsman.sandbox import Parakey
from roundsman.sandbox.parakey import TOKEN
from roundsman.sandbox.server import Sandbox
from roundsman.screen.words import day
from roundsman.store.sqlite.store import SqliteStore
from typed import Program, typed
from worlds import START, a_failure

STORES = Path(__file__).parent / "stores"
CONFIG = """
[daemon]
store = "roundsman.db"
[sources.doors]
type = "parakey.event_logs"
base_url = "http://127.0.0.1:1"
access_token = "s3cret"
"""
ADA = {"person": {"id": None, "name": "Ada", "email": "ada@a.example"}, "item_id": "i1", "code": "NO_KEY"}
NOW = START + 86400


@pytest.fixture
def roundsman(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> Program:
    """The command, as the user `me` on the day after `START`."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("roundsman.cli.persons._login", lambda: "me")
    monkeypatch.delenv("SUDO_USER", raising=False)
    monkeypatch.setattr(time, "time", lambda: NOW)
    (tmp_path / "roundsman.toml").write_text(CONFIG)
    return typed(tmp_path, monkeypatch, capfd)


def store_at(path: Path) -> SqliteStore:
    store = SqliteStore.open(path)
    done(store.register({"doors": "parakey.event_logs", "gates": "parakey.event_logs"}, {"archive": "file"}))
    return store


@pytest.fixture
def put(tmp_path: Path) -> Callable[..., None]:
    """Log these failures of a source."""

    def put(*events: Event, source: str = "doors") -> None:
        store = store_at(tmp_path / "roundsman.db")
        commit(store, source, {}, list(events), now=START, due=0)
        done(store.close())

    return put


def rows(roundsman: Any, *args: str) -> dict[int, dict[str, Any]]:
    return {row["id"]: row for row in json.loads(roundsman("failures", "--json", *args).out)}


def test_who_marked_a_failure_as_done_is_shown(roundsman: Any, put: Any) -> None:
    put(*(a_failure(n, **ADA | {"person": None}) for n in range(4)))
    result = roundsman("failures", "done", "1", "3-4", "--by", " anna ", "--note", "ordered a new key")
    assert result == (0, "3 failures marked as done, 1 left\n", "")
    assert roundsman("failures").out.count("\n") == 1
    line = roundsman("failures", "--all").out.splitlines()[0]
    assert line.endswith("  i1: failed: NO_KEY  (done by anna on 2 May: ordered a new key)")
    found = rows(roundsman, "--all")
    assert [(row["done_by"], row["done_at"], row["note"]) for row in found.values()] == [
        ("anna", "2026-05-02T06:00:00Z", "ordered a new key"),
        ("anna", "2026-05-02T06:00:00Z", "ordered a new key"),
        (None, None, None),
        ("anna", "2026-05-02T06:00:00Z", "ordered a new key"),
    ]
    assert len({frozenset(row) for row in found.values()}) == 1


def test_a_failure_that_is_done_is_not_done_again(roundsman: Any, put: Any) -> None:
    put(*(a_failure(n) for n in range(30)))
    roundsman("failures", "done", "1", "--by", "anna", "--note", "called")
    again = roundsman("failures", "done", "1", "2", "--by", "bo")
    assert again == (0, "1 failure marked as done, 28 left\n", "1: done already by anna on 2 May: called\n")
    assert [row["by"] for row in json.loads(roundsman("failures", "log", "1", "--json").out)] == ["anna"]
    roundsman("failures", "done", "--all", "--by", "bo")
    many = roundsman("failures", "done", "1-30")
    assert many == (0, "0 failures marked as done, 0 left\n", "30 failures done already\n")


@pytest.mark.parametrize("verb", ["done", "undo"])
@pytest.mark.parametrize(
    ("span", "sentence"),
    [
        ("2-1", "2-1: is an empty range: the lower number comes first, as in 9-12\n"),
        ("1-100001", "1-100001: has more than 100000 numbers; give several ranges\n"),
        ("1-999999999999999999", "1-999999999999999999: has more than 100000 numbers; give several ranges\n"),
    ],
)
def test_a_range_is_marked_as_a_whole_or_refused(
    span: str, sentence: str, verb: str, roundsman: Any, put: Any
) -> None:
    put(*(a_failure(n) for n in range(2)))
    assert roundsman("failures", verb, span, "1") == (2, "", sentence)
    assert len(rows(roundsman)) == 2
    assert roundsman("failures", "done", "1-100000")[:2] == (0, "2 failures marked as done, 0 left\n")


def test_a_failure_is_opened_again_once(roundsman: Any, put: Any) -> None:
    put(*(a_failure(n) for n in range(3)))
    roundsman("failures", "done", "1-2", "--by", "anna", "--note", "called")
    assert roundsman("failures", "undo", "#1", "--by", "bo", "--note", "not yet") == (
        0,
        "1 failure opened again, 2 open\n",
        "",
    )
    row = rows(roundsman)[1]
    assert (row["done"], row["done_by"], row["done_at"], row["note"]) == (False, None, None, None)
    twice = roundsman("failures", "undo", "1")
    assert twice == (1, "", "1: is open; there is nothing to undo\n")
    assert roundsman("failures", "undo", "3") == (1, "", "3: is open; there is nothing to undo\n")
    assert roundsman("failures", "undo", "1-3") == (0, "1 failure opened again, 3 open\n", "")
    none = roundsman("failures", "undo", "1-3")
    assert none == (1, "", "none of these failures is done; there is nothing to undo\n")
    unknown = roundsman("failures", "undo", "99")
    assert unknown == (1, "", "99: no such failure, or its event was pruned\n")
    for wrong in ("x", "1-x", "9" * 30):
        assert roundsman("failures", "undo", wrong).code == 2, wrong
    assert roundsman("failures", "undo").code == 2
    assert roundsman("failures", "log", "1").out.splitlines() == [
        "2026-05-02T06:00:00Z  1       doors         opened again by bo: not yet  (id00000: failed)",
        "2026-05-02T06:00:00Z  1       doors         done by anna: called  (id00000: failed)",
    ]


def test_the_log_of_what_was_done_is_read_by_source_and_number(roundsman: Any, put: Any) -> None:
    put(a_failure(1), a_failure(2))
    put(a_failure(1, "gates"), source="gates")
    assert roundsman("failures", "log") == (0, "", "no failure was marked as done\n")
    assert json.loads(roundsman("failures", "log", "--json").out) == []
    roundsman("failures", "done", "1-3", "--by", "anna")
    assert [line.split()[1] for line in roundsman("failures", "log").out.splitlines()] == ["3", "2", "1"]
    assert [line.split()[1] for line in roundsman("failures", "log", "-n", "1").out.splitlines()] == ["3"]
    assert [line.split()[1] for line in roundsman("failures", "log", "--source", "do*").out.splitlines()] == [
        "2",
        "1",
    ]
    assert json.loads(roundsman("failures", "log", "3", "--json").out) == [
        {
            "id": 3,
            "at": "2026-05-02T06:00:00Z",
            "by": "anna",
            "done": True,
            "note": None,
            "source": "gates",
            "summary": "id00001: failed [gates]",
        }
    ]
    assert roundsman("failures", "log", "99") == (0, "", "no failure that matches was marked as done\n")
    assert roundsman("failures", "log", "1-2") == (2, "", "1-2: is a range; give one number\n")
    assert roundsman("failures", "log", "one").code == 2
    assert roundsman("failures", "log", "--source", "nope").code == 2


def test_the_log_of_what_was_done_outlives_the_failures(roundsman: Any, put: Any, tmp_path: Path) -> None:
    put(a_failure(1, **ADA))
    roundsman("failures", "done", "1", "--by", "anna", "--note", "called")
    store = store_at(tmp_path / "roundsman.db")
    while done(store.prune([], START + 1000, 60.0)):
        pass
    done(store.close())
    assert rows(roundsman, "--all") == {}
    assert (
        roundsman("failures", "log").out
        == "2026-05-02T06:00:00Z  1       doors         done by anna: called\n"
    )
    undo = roundsman("failures", "undo", "1")
    assert undo == (1, "", "1: no such failure, or its event was pruned\n"), "it could not be listed"


def test_what_fails_again_for_the_same_person_names_who_ticked_it_off(roundsman: Any, put: Any) -> None:
    put(a_failure(1, **ADA))
    roundsman("failures", "done", "1", "--by", "anna", "--note", "called")
    other = ADA | {"person": ADA["person"] | {"email": "ADA@A.example"}}  # type: ignore[operator]
    same_name = ADA | {"person": {"id": None, "name": "Ada", "email": "ada@b.example"}}
    put(a_failure(2, **other), a_failure(3, **same_name), a_failure(4, **ADA | {"person": None}))
    put(a_failure(1, "gates", **ADA), source="gates")
    found = rows(roundsman)
    again = {"id": 1, "by": "anna", "at": "2026-05-02T06:00:00Z", "note": "called"}
    assert {seq: row["again"] for seq, row in found.items()} == {2: again, 3: None, 4: None, 5: None}, (
        "in another case; another address; no person; another source"
    )
    lines = {line.split()[0]: line for line in roundsman("failures").out.splitlines()}
    assert lines["2"].endswith("  (again; ticked off by anna on 2 May)")
    assert not any("again" in line for number, line in lines.items() if number != "2")
    roundsman("failures", "undo", "1")
    assert rows(roundsman)[2]["again"] is None, "it was not ticked off after all"


@pytest.mark.parametrize("name", ["one", "two"])
def test_persons_with_one_name_are_known_by_their_ids(name: str, roundsman: Any, put: Any) -> None:
    put(a_failure(1, person={"id": "one", "name": "Ada", "email": None}))
    roundsman("failures", "done", "1")
    put(a_failure(2, person={"id": name, "name": "Ada", "email": None}))
    assert (rows(roundsman)[2]["again"] is not None) == (name == "one")


def test_a_day_of_another_year_has_its_year() -> None:
    def at(*when: int) -> float:
        return datetime(*when, tzinfo=UTC).timestamp()  # type: ignore[misc]

    assert day(at(2026, 5, 3), at(2026, 12, 31, 23, 59)) == "3 May"
    assert day(at(2025, 12, 31, 23, 59), at(2026, 1, 1)) == "31 December 2025"
    assert day(at(2027, 1, 1), at(2026, 12, 31)) == "1 January 2027", "the clock was set back"


# -- names and notes ---------------------------------------------------------------------------------------------------


def test_names_and_notes_cannot_control_the_terminal(roundsman: Any, put: Any) -> None:
    put(a_failure(1, **ADA), a_failure(2, **ADA))
    evil = "\x1b]0;x\x07two\nlines\u202e\x9b"
    roundsman("failures", "done", "1", "--by", "Eve\x1b[31m", "--note", evil)
    row = rows(roundsman, "--all")[1]
    assert (row["done_by"], row["note"]) == ("Eve\x1b[31m", evil), "stored as they are"
    for out in (
        roundsman("failures").out,
        roundsman("failures", "--all").out,
        roundsman("failures", "log").out,
        roundsman("failures", "done", "1").err,
    ):
        assert "Eve" in out
        assert all(line.isprintable() for line in out.splitlines()), out
        assert "\ntwo" not in out
        assert "\nlines" not in out
    assert roundsman("failures", "log").out.count("\n") == 1


def test_a_secret_in_a_persons_words_stays_as_it_is(roundsman: Any, put: Any) -> None:
    put(a_failure(1))
    roundsman("failures", "done", "1", "--note", "see https://a.example/?token=abcdefghijkl")
    assert rows(roundsman, "--all")[1]["note"] == "see https://a.example/?token=abcdefghijkl"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--note", "x" * 10_000), "--note: is 10000 characters long; at most 500 are stored\n"),
        (("--by", "x" * 501), "--by: is 501 characters long; at most 500 are stored\n"),
        (("--by", ""), '--by: is empty; it should be a name, as in --by "anna"\n'),
        (("--by", " \n"), '--by: is empty; it should be a name, as in --by "anna"\n'),
    ],
)
@pytest.mark.parametrize("command", ["done", "undo"])
def test_a_name_or_note_that_cannot_be_stored_changes_nothing(
    args: tuple[str, ...], message: str, command: str, roundsman: Any, put: Any
) -> None:
    put(a_failure(1))
    assert roundsman("failures", command, "1", *args) == (2, "", message)
    assert not rows(roundsman)[1]["done"]
    assert json.loads(roundsman("failures", "log", "--json").out) == []


def test_an_empty_note_is_none_and_one_of_500_characters_is_stored(roundsman: Any, put: Any) -> None:
    put(a_failure(1), a_failure(2))
    roundsman("failures", "done", "1", "--note", " \n ")
    roundsman("failures", "done", "2", "--note", "\u00e9" * 500)
    assert [row["note"] for row in rows(roundsman, "--all").values()] == ["\u00e9" * 500, None]


def command(*args: str, config: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "roundsman", "failures", *args, "-c", str(config)],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def shared() -> Iterator[Path]:
    """A configuration and a store with 5 failures, for the real program. pytest's folders let no other user through."""
    with tempfile.TemporaryDirectory() as above:
        folder = Path(above)
        config = folder / "roundsman.toml"
        config.write_text(CONFIG.replace('"roundsman.db"', f'"{folder / "roundsman.db"}"'))
        store = store_at(folder / "roundsman.db")
        commit(store, "doors", {}, [a_failure(n) for n in range(5)], now=START, due=0)
        done(store.close())
        yield config


def test_who_does_it_is_found_out(shared: Path) -> None:
    """The user who runs sudo, the login name, or the number of a user without an entry, as in a container."""
    need(os.geteuid() == 0, "needs root, to become another user")
    environ = {key: value for key, value in os.environ.items() if key != "SUDO_USER"}
    # With root's rights, so that the other user can read the interpreter.
    start = "import os, sys; os.setresuid(int(sys.argv.pop(1)), 0, 0); from roundsman.cli import main; main()"

    def tick_off(number: int, user: int, **more: str) -> None:
        for path in (shared.parent, *shared.parent.iterdir()):
            os.chown(path, user, user)
        ran = subprocess.run(
            [sys.executable, "-c", start, str(user), "failures", "done", str(number), "-c", str(shared)],
            env=environ | more,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr

    tick_off(1, 0, SUDO_USER="anna")
    tick_off(2, 0)
    tick_off(3, 54321)
    tick_off(4, 54321, SUDO_USER="anna")  # only sudo itself makes a process root's
    tick_off(5, 0, SUDO_USER="x" * 501)
    acts = json.loads(command("log", "--json", config=shared).stdout)
    assert [row["by"] for row in reversed(acts)] == ["anna", "root", "uid 54321", "uid 54321", "root"]


def test_bytes_that_are_no_utf_8_are_spelled_out(shared: Path) -> None:
    assert command("done", "1", "--by", "J\udcf6rg", "--note", "\udcff", config=shared).returncode == 0
    [row] = json.loads(command("log", "--json", config=shared).stdout)
    assert (row["by"], row["note"]) == ("J\\xf6rg", "\\xff")


def test_numbers_beside_all_mark_nothing_that_was_not_meant(roundsman: Any, put: Any) -> None:
    """`failures done --all 5` marked every open failure as done."""
    put(*(a_failure(n, **ADA | {"person": None}) for n in range(4)))
    result = roundsman("failures", "done", "--all", "2")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("numbers and --all are both given; give one of them")
    assert len(rows(roundsman)) == 4


# -- stores ------------------------------------------------------------------------------------------------------------


def test_a_store_that_may_not_be_written_is_one_sentence(shared: Path) -> None:
    store = shared.parent / "roundsman.db"
    store.chmod(0o400)
    # Root without root's right to write everything.
    setpriv = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    for args in (("done", "1"), ("done", "--all"), ("undo", "1")):
        ran = subprocess.run(
            [*setpriv, sys.executable, "-m", "roundsman", "failures", *args, "-c", str(shared)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (ran.returncode, ran.stdout) == (1, "")
        assert ran.stderr.count("\n") == 1, ran.stderr
        assert ran.stderr.startswith(str(store))
    assert json.loads(command("log", "--json", config=shared).stdout) == []


def test_what_0_9_marked_as_done_is_done_without_a_name(roundsman: Any, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "roundsman.db")) as db:
        db.executescript((STORES / "0.9.sql").read_text())
        failed = [seq for [seq] in db.execute("SELECT seq FROM events WHERE failure = 1 ORDER BY seq")]
        db.execute("UPDATE events SET failure = 0 WHERE seq IN (?, ?)", failed[:2])
        db.commit()
    done(SqliteStore.open(tmp_path / "roundsman.db").close())
    one, two, three, *_ = failed
    old = rows(roundsman, "--all")[one]
    assert (old["done"], old["done_by"], old["done_at"], old["note"]) == (True, None, None, None)
    assert sum(line.endswith("  (done)") for line in roundsman("failures", "--all").out.splitlines()) == 2
    assert roundsman("failures", "done", str(one)).err == f"{one}: done already\n"
    assert roundsman("failures", "log").out == "", "who did it is not known"
    assert roundsman("failures", "undo", str(two), "--by", "bo").code == 0
    assert roundsman("failures", "done", str(three), "--by", "anna").code == 0
    acts = json.loads(roundsman("failures", "log", "--json").out)
    assert [(row["id"], row["by"], row["done"]) for row in acts] == [
        (three, "anna", True),
        (two, "bo", False),
    ]


async def test_failures_are_ticked_off_beside_the_daemon(tmp_path: Path) -> None:
    """It goes on writing meanwhile, and neither of them is refused."""
    path = tmp_path / "roundsman.db"
    store = store_at(path)
    commit(store, "gates", {}, [a_failure(n, "gates", **ADA) for n in range(8000)], now=START, due=0)
    await store.close()
    vendor = Parakey()
    async with Sandbox(vendor) as box:
        config = configure(
            tmp_path, box.url, '[sinks.archive]\ntype = "file"\npath = "events.jsonl"\n', interval="1s"
        )
        async with Daemon(config, PARAKEY_TOKEN=TOKEN) as daemon:
            await daemon.ready()

            async def run(*args: str) -> tuple[int | None, str, str]:
                process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", "roundsman", "failures", *args, "-c", str(config)),
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.PIPE,
                    cwd=tmp_path,
                )
                out, err = await process.communicate()
                return process.returncode, out.decode(), err.decode()

            vendor.add(log_id="a")
            code, out, err = await run("done", "--all", "--by", "anna")
            assert (code, out, err) == (0, "8000 failures marked as done, 0 left\n", "")
            vendor.add(log_id="b")
            await daemon.until(lambda: _logged(path, "b"))
            code, out, _ = await run("undo", "1-3", "--by", "bo")
            assert (code, out) == (0, "3 failures opened again, 3 open\n")
            await daemon.stop()
        assert daemon.code == 0
        # The source was registered by the test, with another address.
        problems = {entry["event"] for entry in daemon.logs if entry["level"] in {"warning", "error"}}
        assert problems <= {"source.changed"}
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT count(*), sum(done) FROM acts").fetchone() == (8003, 8000)


def _logged(path: Path, key: str) -> bool:
    with closing(sqlite3.connect(path)) as db:
        return db.execute("SELECT 1 FROM events WHERE id = ?", (key,)).fetchone() is not None
