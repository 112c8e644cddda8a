"""The benchmarks work: each fast row at a very small size. Their figures are not tested here."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import need
from postgres import HOW, programs

BENCHMARKS = Path(__file__).parent / "benchmarks"
FAST = ("backlog", "process", "million", "archives", "latency", "storm")


def run(script: str, *args: str) -> str:
    command = [sys.executable, str(BENCHMARKS / script), *args]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout


@pytest.fixture(scope="module")
def printed() -> str:
    return run("run.py", "tiny", *FAST)


def table(text: str) -> list[list[str]]:
    """The cells of each row, the head and its line too."""
    return [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]


def test_a_benchmark_prints_a_table_that_the_readme_can_show(printed: str) -> None:
    head, line, *rows = table(printed)
    assert [cell.strip() for cell in head] == [
        "work",
        "Roundsman",
        "the bare tool, same run",
        "ratio",
        "goal",
    ]
    assert line == ["---"] * 5
    assert all(len(row) == 5 and all(cell.strip() for cell in row) for row in rows)
    assert [row[0].split(",")[0].strip() for row in rows] == [
        "backlog of 2",
        "backlog of 2",
        "backlog of 5",
        "backlog of 2",
        *["results of 500 operations"] * 3,
        "the vendor's first answer with a row to the sink called",
        "50 webhooks/s and 10 sources at 1 s while a backlog of 5",
        "stalls of the event loop meanwhile",
    ]


def test_a_benchmark_measures_work_that_was_done(printed: str) -> None:
    _, _, backlog, _, _, _, some, every, one_file, _, storm, _ = table(printed)
    assert "2,000 of 2,000 delivered" in backlog[1]
    assert "25 events and the batch's own" in some[1]
    assert "500 events and the batch's own" in every[1]
    assert "500 events and the batch's own" in one_file[1]
    assert re.search(r"; 0 of 5,\d+ lost, 0 refused, 0 unsent", storm[1])


def test_a_benchmark_says_beside_what_it_measured(printed: str) -> None:
    said = r"\d+ cores, Python [\d.]+, SQLite [\d.]+; an fsync takes [\d.]+ ms \(median\), [\d.]+ ms \(p99\); load average [\d. ]+"
    assert re.fullmatch(rf"Before: {said}\.", printed.splitlines()[0])
    assert re.fullmatch(rf"After: {said}\.", printed.splitlines()[-1])


def test_a_benchmark_says_nothing_of_where_it_ran(printed: str) -> None:
    assert not re.search(r"/(?:tmp|home|root|usr)\b|127\.0\.0\.1", printed)


def test_every_row_is_in_the_help() -> None:
    text = run("run.py", "--help")
    makefile = (BENCHMARKS.parent.parent / "Makefile").read_text()
    named = re.search(r'ROWS="([a-z ]+)"', makefile)
    assert named
    assert all(re.search(rf"^  {row} +\S", text, re.MULTILINE) for row in (*FAST, *named[1].split()))


def test_an_unknown_row_is_refused_with_the_names_that_there_are() -> None:
    command = [sys.executable, str(BENCHMARKS / "run.py"), "backlogs"]
    refused = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert refused.returncode == 2
    assert "there is no row backlogs; there is backlog, process," in refused.stderr


def test_a_profile_names_functions_of_ours() -> None:
    text = run("profiled.py", "2000")
    assert re.search(r"^no profiler: [\d,]+ events/s", text)
    assert "\nsampled: " in text
    counted = text.partition("\ncProfile: ")[2]
    assert re.search(r"^ +[\d.]+ +[\d,]+  parakey/event_logs\.py:\d+ event$", counted, re.MULTILINE)


def test_workers_are_measured_beside_one_daemon_with_the_cpu_of_each_part() -> None:
    need(programs() is not None, HOW)
    lines = [line for line in run("fleet.py", "tiny", "quiet").splitlines() if line.startswith("|")]
    assert all(len(line) <= 100 for line in lines)
    head, _, _, single, workers = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    assert head[2:5] == ["worker us", "server us", "vendor us"]
    assert [single[0], single[3], single[6]] == ["SQLite", "0", "1.00"]
    assert workers[0] == "2 workers"
    assert float(workers[1].replace(",", "")) > 1
    assert float(workers[6]) > 0
