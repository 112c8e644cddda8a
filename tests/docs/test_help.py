"""`roundsman help`: pages of the documentation, in a terminal."""

import io
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from roundsman.cli.pages import help_

DOCS = Path(__file__).parents[2] / "docs"
PAGES = sorted(page for page in DOCS.rglob("*.md") if page.parent != DOCS)


def topic(page: Path) -> str:
    return page.parent.name if page.stem == "index" else page.stem


def command(*words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "roundsman", "help", *words], capture_output=True, text=True, check=False
    )


def on_terminal(*words: str) -> str:
    """What a terminal of 80 columns gets."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "roundsman", "help", *words],
        stdout=theirs,
        stdin=theirs,
        env={**os.environ, "COLUMNS": "80", "TERM": "xterm"},
    )
    os.close(theirs)
    got = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        got += piece
    os.close(ours)
    assert process.wait() == 0
    return re.sub(r"\x1b\[[0-9;]*m", "", got.decode()).replace("\r\n", "\n")


def test_each_topic_is_one_page() -> None:
    topics = [topic(page) for page in PAGES]
    assert len(topics) == len(set(topics))
    listed = command().stdout
    for page in PAGES:
        title = page.read_text().partition("\n")[0].removeprefix("# ")
        assert re.search(rf"^  {re.escape(topic(page))} +{re.escape(title)}$", listed, re.MULTILINE), page


def test_a_page_is_printed_for_a_program_as_markdown_and_its_links_are_topics() -> None:
    text = command("gap").stdout
    assert text.startswith("# A gap\n")
    assert "](" not in text
    assert "## What to do" in text


class Screen(io.StringIO):
    """A terminal in this process."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("page", PAGES, ids=topic)
def test_a_page_fits_a_terminal_of_80_columns(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    help_(topic(page))
    text = re.sub(r"\x1b\[[0-9;]*m", "", screen.getvalue())
    assert page.read_text().partition("\n")[0].removeprefix("# ").replace("`", "") in text
    assert max(map(len, text.splitlines())) <= 80
    assert "](" not in text


def test_a_page_on_a_terminal_names_the_topics_that_it_links_to() -> None:
    text = on_terminal("dead-letters")
    assert max(map(len, text.splitlines())) <= 80, "in a process of its own, too"
    assert re.search(r"See also: roundsman help .*store-damaged", text.replace("\n", " "))


def test_an_unknown_topic_names_the_nearest() -> None:
    done = command("gaps")
    assert done.returncode == 2
    assert done.stderr == "gaps: no such topic; did you mean gap? `roundsman help` lists all topics\n"


def test_a_part_of_the_name_of_a_topic_names_the_topics_that_have_it() -> None:
    assert "did you mean upgrade-from-0.4 or backups-and-upgrades?" in command("upgrade").stderr


def test_the_words_of_a_title_are_a_topic() -> None:
    assert command("Dead letters").stdout == command("dead-letters").stdout
