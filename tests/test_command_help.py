"""The help of each command as a terminal of 80 columns shows it."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from roundsman import cli  # noqa: F401 - the modules that add the commands
from roundsman.cli.app import app
from roundsman.cli.examples import EXAMPLES
from roundsman.cli.layout import GROUPS, first_sentence
from typed import Result

ROOT: Any = typer.main.get_command(app)


def of(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from of(inner, (*path, name))


EVERY = dict(of(ROOT))


@pytest.fixture(autouse=True)
def a_terminal_of_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def shown(path: tuple[str, ...]) -> str:
    """The help of a command, with the terminal's width."""
    context = ROOT.context_class(ROOT, info_name="roundsman", **ROOT.context_settings)
    for end, name in enumerate(path, 1):
        context = ROOT.context_class(EVERY[path[:end]], parent=context, info_name=name)
    return str(EVERY[path].get_help(context))


@pytest.mark.parametrize("path", EVERY, ids=" ".join)
def test_the_help_fits_80_columns_and_cuts_no_sentence(path: tuple[str, ...]) -> None:
    text = shown(path)
    assert max(map(len, text.splitlines())) <= 80
    assert not re.search(r"\w\.\.\.", text.partition("\n")[2])
    assert "<" not in text, "no name of a type of Python"
    words = " ".join(text.split())
    for name, inner in getattr(EVERY[path], "commands", {}).items():
        assert f" {name} {first_sentence(inner.help)} " in words, "also if it takes two lines"


@pytest.mark.parametrize("path", EVERY, ids=" ".join)
def test_the_help_ends_with_examples_of_this_command(path: tuple[str, ...]) -> None:
    examples = EXAMPLES[" ".join(path)]
    assert all(each.startswith(" ".join(("roundsman", *path))) for each in examples)
    printed = shown(path).partition("\nExamples:\n")[2]
    assert [line.removeprefix("  ") for line in printed.splitlines()] == list(examples)


@pytest.mark.parametrize("path", [(), ("events",), ("failures", "done"), ("dead",)], ids=" ".join)
def test_h_is_help(path: tuple[str, ...], roundsman: Any) -> None:
    found = roundsman(*path, "-h")
    assert (found.code, found.out.rstrip("\n")) == (0, shown(path))
    assert roundsman(*path, "--help") == found


def test_each_command_is_in_one_group() -> None:
    """A new command is named in `GROUPS` and `EXAMPLES`; until then, the help shows it in a group at the end."""
    grouped = [name for names in GROUPS.values() for name in names]
    assert sorted(grouped) == sorted(ROOT.commands)
    assert set(EXAMPLES) == {" ".join(path) for path in EVERY}


def test_a_command_without_its_subcommand_shows_its_help(roundsman: Any) -> None:
    found: Result = roundsman("dead")
    assert found.code == 2
    assert "\nExamples:\n  roundsman dead list crm\n" in found.out + found.err
