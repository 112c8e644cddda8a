"""Every mistake and every warning carries the file and the line that it is about."""

import json
import random
import tomllib
from collections.abc import Iterator
from typing import Any

from hypothesis import given, settings, strategies as st

from roundsman.config.lines import lines

SINK = '[sinks.out]\ntype = "stdout"\n'
FINE = '[sources.doors]\ntype = "parakey.event_logs"\naccess_token = "s3cret-token"\n' + SINK
NAMES = ["a", "b-c", "1", "type", "x.y", 'q"t', "it's", "\u00e9", "", "two words", "#", "[z]", "k = 1"]
COMMENTS = ["# [sources.doors]", '# "', "# '''", "#", "# a = {", '\t# x = """']
VALUES = [
    "1",
    "-0.5e3",
    "true",
    "inf",
    "2026-05-01",
    "2026-05-01 10:00:00Z",
    '"a # b"',
    '"\\"[x]\\\\"',
    "'C:\\'",
    '""',
    '"""\n[x]\na = "1" \\\n  # no comment\n\\""" """',
    '"""a""""',
    '"""a"""""',
    "'''\n'a' = {''''",
    "''''''",
]


class Writer:
    """Writes a TOML text, and notes in which line each place stands."""

    def __init__(self, seed: int) -> None:
        self.random, self.text = random.Random(seed), ""
        self.expected: dict[tuple[str | int, ...], int] = {}

    def any(self, choices: list[Any]) -> Any:
        return self.random.choice(choices)

    def names(self, most: int) -> list[str]:
        return self.random.sample(NAMES, self.random.randint(0, most))

    def notes(self, place: tuple[str | int, ...]) -> None:
        self.expected.setdefault(place, self.text.count("\n") + 1)

    def key(self, name: str) -> str:
        ways = [json.dumps(name), json.dumps(name, ensure_ascii=False)]
        if "'" not in name:
            ways.append(f"'{name}'")
        if name in {"a", "b-c", "1", "type"}:
            ways += [name] * 3
        return self.any(ways)

    def dotted(self, names: list[str]) -> str:
        return self.any([".", " . ", "\t."]).join(map(self.key, names))

    def gap(self) -> str:
        return self.any(["", " ", "\n", f" {self.any(COMMENTS)}\n", "\n\n\t"])

    def value(self, place: tuple[str | int, ...], depth: int) -> None:
        kind = self.any(["plain"] * 4 + (["list", "table"] if depth else []))
        if kind == "list":
            self.text += "[" + self.gap()
            for number in range(self.random.randint(0, 3)):
                self.notes((*place, number))
                self.value((*place, number), depth - 1)
                self.text += self.gap() + "," + self.gap()
            self.text += "]"
        elif kind == "table":
            self.text += "{ "
            for number, name in enumerate(self.names(3)):
                self.text += ", " if number else ""
                self.pair((*place,), [name], depth - 1)
            self.text += " }"
        else:
            self.text += self.any(VALUES)

    def pair(self, table: tuple[str | int, ...], names: list[str], depth: int) -> None:
        for end in range(1, len(names) + 1):
            self.notes((*table, *names[:end]))
        self.text += self.dotted(names) + self.any(["=", " = ", "\t= "])
        self.value((*table, *names), depth)

    def between(self) -> None:
        """Ends a line; more lines without a statement may follow."""
        self.text += self.any(
            ["\n", " \n", f" {self.any(COMMENTS)}\n", "\n\n", f"\n  {self.any(COMMENTS)}\n"]
        )

    def pairs(self, table: tuple[str | int, ...]) -> None:
        for name in self.names(3):
            if (*table, name) not in self.expected:
                self.text += self.any(["", "  "])
                self.pair(table, [name, *self.any([[], [], ["a"], ["1", "x.y"]])], 2)
                self.between()

    def header(self, place: tuple[str | int, ...], *, listed: bool = False) -> None:
        names = [each for each in place if isinstance(each, str)]
        for end in range(1, len(place)):
            self.notes(place[:end])
        self.expected[place] = self.text.count("\n") + 1
        self.text += f"[[{self.dotted(names)}]]" if listed else f"[ {self.dotted(names)} ]"
        self.between()

    def document(self) -> str:
        self.text = self.any(["", "\n", "# a comment\n"])
        self.pairs(())
        for name in self.names(4):
            if (name,) in self.expected:
                continue
            match self.any(["table", "parent", "list"]):
                case "table":
                    self.header((name,))
                    self.pairs((name,))
                case "parent":
                    self.header((name, "sub"))
                    self.pairs((name, "sub"))
                    self.header((name,))
                    self.pairs((name,))
                case "list":
                    for number in range(self.random.randint(1, 3)):
                        self.header((name, number), listed=True)
                        self.pairs((name, number))
                        if self.any([True, False]) and (name, number, "sub") not in self.expected:
                            self.header((name, number, "sub"))
                            self.pairs((name, number, "sub"))
        return self.text


def written(seed: int) -> tuple[str, dict[tuple[str | int, ...], int]]:
    """A document, and the line of each place in it."""
    writer = Writer(seed)
    text = writer.document()
    return text.replace("\n", writer.any(["\n", "\r\n"])), writer.expected


def places(value: object, place: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Every place of a document."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inside:
        yield (*place, key)
        yield from places(each, (*place, key))


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32))
def test_each_key_has_its_own_line(seed: int) -> None:
    text, expected = written(seed)
    assert set(places(tomllib.loads(text))) == set(expected)
    found = lines(text)
    assert (found.known, found.twice) == (expected, None)


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="[]{}=\"'\\#.,\n\r ab1-", max_size=60), st.integers(0, 2**32), st.integers(0, 500))
def test_no_text_stops_the_scan_and_no_line_is_given_for_what_is_not_there(
    text: str, seed: int, cut: int
) -> None:
    document, _ = written(seed)
    for each in (text, document[:cut] + text, document[cut:]):
        found = lines(each)
        assert all(1 <= line <= each.count("\n") + 1 for line in found.known.values())
        try:
            there = set(places(tomllib.loads(each)))
        except tomllib.TOMLDecodeError:
            continue
        assert set(found.known) == there
