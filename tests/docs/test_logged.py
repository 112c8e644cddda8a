"""The catalog of log lines is what the code logs: each name, its level, and its fields."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from roundsman.system.logged import LOGGED

ROOT = Path(__file__).parents[2]
CATALOG = "src/roundsman/system/logged.py, and run `make docs`"
"""What to change after a change of a call."""
LEVELS = {"debug", "info", "warning", "error"}


class Line(NamedTuple):
    name: str
    levels: set[str]
    fields: set[str]


def keys(node: ast.AST, within: ast.AST) -> set[str]:
    """The names in each literal dictionary here, also in one that has a name in the function around it."""
    found = {
        key.value
        for each in ast.walk(node)
        if isinstance(each, ast.Dict)
        for key in each.keys
        if isinstance(key, ast.Constant)
    }
    for name in (each.id for each in ast.walk(node) if isinstance(each, ast.Name)):
        for value in values(name, within):
            found |= keys(value, value) if isinstance(value, ast.Dict) else set()
    return found


def values(name: str, within: ast.AST) -> Iterator[ast.AST]:
    """What a name is set to."""
    for each in ast.walk(within):
        if isinstance(each, ast.Assign) and any(ast.unparse(target) == name for target in each.targets):
            yield each.value


def levels(node: ast.AST, within: ast.AST) -> set[str]:
    """The levels of `log.log(LEVEL, ...)`."""
    found = {each.attr.lower() for each in ast.walk(node) if isinstance(each, ast.Attribute)}
    for name in (each.id for each in ast.walk(node) if isinstance(each, ast.Name)):
        for value in values(name, within):
            found |= levels(value, value)
    return found & LEVELS


def lines(tree: ast.Module) -> Iterator[Line]:
    for function in (
        each for each in ast.walk(tree) if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)
    ):
        for call in (each for each in ast.walk(function) if isinstance(each, ast.Call)):
            if not isinstance(call.func, ast.Attribute) or call.func.attr not in {*LEVELS, "log"}:
                continue
            if not re.fullmatch(r"log|.*get_logger\(\)", ast.unparse(call.func.value)):
                continue
            level, *_ = call.args
            logs = call.func.attr == "log"
            name = call.args[1] if logs else level
            assert isinstance(name, ast.Constant), ast.unparse(call)
            fields: set[str] = set()
            for keyword in call.keywords:
                fields |= {keyword.arg} if keyword.arg else keys(keyword.value, function)
            yield Line(
                name.value, levels(level, function) if logs else {call.func.attr}, fields - {"exc_info"}
            )


def logged() -> dict[str, Line]:
    """Each name, with the levels and fields of all places that log it."""
    found: dict[str, Line] = {}
    for path in (ROOT / "src").rglob("*.py"):
        for name, level, fields in lines(ast.parse(path.read_text())):
            _, other, more = found.get(name, Line(name, set(), set()))
            found[name] = Line(name, level | other, fields | more)
    return found


WRITTEN = logged()
ELSEWHERE = {"library.message"}
"""Made of a record of another logger: its levels and fields are not in a call of ours."""


def test_each_line_that_the_code_logs_is_in_the_catalog() -> None:
    wrong = (set(WRITTEN) | ELSEWHERE) ^ set(LOGGED)
    assert not wrong, f"{wrong}: name them in {CATALOG}"


@pytest.mark.parametrize("name", sorted(LOGGED.keys() - ELSEWHERE))
def test_the_level_and_the_fields_of_a_line_are_those_of_the_code(name: str) -> None:
    assert name in WRITTEN, f"no call logs {name}: remove it from {CATALOG}"
    line, written = LOGGED[name], WRITTEN[name]
    assert set(line.levels) == written.levels, f"correct the level of {name} in {CATALOG}"
    assert set(line.fields) == written.fields, f"correct the fields of {name} in {CATALOG}"


def test_a_message_of_a_library_has_the_fields_of_the_catalog() -> None:
    text = (ROOT / "src" / "roundsman" / "system" / "logs.py").read_text()
    made = next(
        each
        for each in ast.walk(ast.parse(text))
        if isinstance(each, ast.Dict) and "library.message" in ast.unparse(each)
    )
    assert keys(made, made) == {"event", *LOGGED["library.message"].fields}
