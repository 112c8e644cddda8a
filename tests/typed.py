"""The command as if it was typed, in this process: what it prints, and its exit status."""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from roundsman import cli

CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
"""Control sequences of terminals."""


class Result(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return CODES.sub("", self.out).splitlines()

    @property
    def words(self) -> str:
        """Its words in one line, as if nothing was wrapped."""
        return " ".join(CODES.sub("", self.out).split())


Program = Callable[..., Result]


def typed(folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> Program:
    """The command in this folder, its output a pipe: `roundsman("status", "--json")`."""
    monkeypatch.chdir(folder)
    for name in ("ROUNDSMAN_CONFIG", "STATE_DIRECTORY", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)

    def run(*args: str) -> Result:
        monkeypatch.setattr(sys, "argv", ["roundsman", *args])
        code = 0
        try:
            cli.main()
        except SystemExit as exc:
            code = exc.code if isinstance(exc.code, int) else 1
        return Result(code, *capfd.readouterr())

    return run
