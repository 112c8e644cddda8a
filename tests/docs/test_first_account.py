"""`check` prints what the page of the first account shows."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import pages
from pages import Command
from reader import Shell, form
from tables import lines

PAGE = "docs/start/first-account.md"


def typed(text: str) -> list[Command]:
    return [command for command in pages.commands(PAGE) if command.text == text]


@pytest.fixture
def document() -> dict[str, Any]:
    """The page's configuration."""
    block, _including = pages.blocks(PAGE, "toml")
    return tomllib.loads(block.text)


def printed(shell: Shell, document: dict[str, Any], command: str) -> tuple[int, list[str]]:
    """The exit status, and the forms of the lines."""
    (shell.folder / "roundsman.toml").write_text("".join(lines(document, "")))
    shell.environ["PARAKEY_ACCESS_TOKEN"] = "a-wrong-token"
    done = shell.types(command)
    return done.returncode, [form(line) for line in (done.stdout + done.stderr).splitlines()]


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    with Shell(tmp_path) as shell:
        yield shell


def test_check_prints_what_the_page_shows(shell: Shell, document: dict[str, Any]) -> None:
    right, _ = typed("roundsman check")
    assert printed(shell, document, right.text) == (0, [form(line) for line in right.shown])


def test_each_mistake_is_printed_as_the_page_shows(shell: Shell, document: dict[str, Any]) -> None:
    _, wrong = typed("roundsman check")
    document["sources"]["front-doors"]["intervall"] = "60s"
    document["sinks"]["archive"]["type"] = "files"
    assert printed(shell, document, wrong.text) == (2, [form(line) for line in wrong.shown])


def test_a_wrong_token_is_reported_as_the_page_shows(shell: Shell, document: dict[str, Any]) -> None:
    sandbox = shell.starts("roundsman sandbox --per-second 0", until="[sinks.archive]")
    document["sources"]["front-doors"]["base_url"] = re.findall(r"http://\S+", sandbox.output())[0]
    status, found = printed(shell, document, "roundsman check --live")
    [shown] = [block for block in pages.blocks(PAGE, "text") if "answered 401" in block.text]
    assert status == 1
    assert form(shown.text.strip()) in found
