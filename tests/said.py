"""What the program can print, read from its code: texts, log lines, options, metrics."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from typing import Any

from pages import ROOT
from roundsman import config

CODE = ROOT / "src/roundsman"
ANY = "\0"
"""A value in a text."""
BOUND = {"timestamp", "level", "event", "source", "visit", "sink"}
"""Fields that a log line may have without naming them: the time, and what is bound for a visit or a delivery."""


@cache
def trees() -> list[ast.Module]:
    return [ast.parse(path.read_text()) for path in CODE.rglob("*.py")]


def _nodes() -> Iterator[ast.AST]:
    for tree in trees():
        yield from ast.walk(tree)


@cache
def texts() -> list[str]:
    """The texts in the code, with a mark for each value; and the files that it prints."""
    found = []
    for node in _nodes():
        if isinstance(node, ast.JoinedStr):
            parts = [each.value if isinstance(each, ast.Constant) else ANY for each in node.values]
            found.append("".join(map(str, parts)))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.append(node.value)
    files = [path for path in CODE.rglob("*") if path.suffix in {".toml", ".txt"}]
    return found + [path.read_text() for path in files]


WORD = re.compile(rf"[A-Za-z]+|{ANY}")
DATA = re.compile(r"""\S*[\w*][._/@=-]+[\w*]\S*|\d\S*|["<>]|\s{2,}""")
"""What separates words in an output: names with a dot, a dash, a slash or an underscore; numbers; columns."""


def pairs(text: str) -> set[tuple[str, str]]:
    """The words of an output that stand side by side; those with a capital may be names."""
    found: set[tuple[str, str]] = set()
    for part in DATA.split(text.strip()):
        found |= {pair for pair in pairwise(WORD.findall(part)) if all(map(str.islower, pair))}
    return found


@cache
def known_pairs() -> set[tuple[str, str]]:
    """The words that stand side by side in the texts of the code; a text may be a part of another."""
    found: set[tuple[str, str]] = set()
    for text in texts():
        whole = re.sub(r"^[;:,. ]|[;:,. ]$", f" {ANY} ", text)
        found |= set(pairwise(map(str.lower, WORD.findall(whole))))
    return found


def says(pair: tuple[str, str]) -> bool:
    """Whether the program can print these two words side by side; a value may be any word."""
    first, second = pair
    return bool({pair, (ANY, second), (first, ANY)} & known_pairs())


@cache
def log_lines() -> dict[str, set[str] | None]:
    """The names of the log lines with their fields; None if they are not all named."""
    found: dict[str, set[str] | None] = {}
    for node in _nodes():
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        if node.func.attr not in {"debug", "info", "warning", "error", "log"}:
            continue
        names = [each.value for each in node.args[:2] if isinstance(each, ast.Constant)]
        name = next((each for each in names if re.fullmatch(r"[a-z]+\.[a-z_]+", str(each))), None)
        if name is None:
            continue
        fields = {each.arg for each in node.keywords if each.arg}
        before = found.get(name, set())
        named = before is not None and all(each.arg for each in node.keywords)
        found[name] = (before or set()) | fields if named else None
    for text in texts():
        for name in re.findall(r'"event": "([a-z]+\.[a-z_]+)"', text):
            found.setdefault(name, None)
    return found


@cache
def options() -> set[str]:
    """The names of all options, and the paths of those in tables: `interval`, `since.overlap`."""
    schema = config.json_schema()
    found: set[str] = set()

    def visit(node: Any, place: str, seen: tuple[str, ...]) -> None:
        if isinstance(node, list):
            for each in node:
                visit(each, place, seen)
        if not isinstance(node, dict):
            return
        if (name := node.get("$ref", "").rpartition("/")[2]) and name not in seen:
            visit(schema["$defs"][name], place, (*seen, name))
        for option, described in node.get("properties", {}).items():
            found.update((option, f"{place}.{option}".lstrip(".")))
            visit(described, option, seen)
        for key in ("anyOf", "allOf", "oneOf", "then", "items", "additionalProperties"):
            visit(node.get(key), place, seen)

    visit(schema, "", ())
    return found


@cache
def metrics() -> set[str]:
    return set(re.findall(r'"(roundsman_[a-z_]+)"', (CODE / "web/metrics.py").read_text()))


@cache
def status_keys() -> set[str]:
    """The keys of the lines and of the JSON of `roundsman status`."""
    return {*re.findall(r'"(\w+)":', (CODE / "screen/status.py").read_text()), "open"}
