"""Plain technical English: words that make a sentence hard to read stand nowhere, and what to write instead."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WORDS = {
    r"whoever|whomever|whom": "name the person or the program: the caller, the receiver, an operator",
    r"whatever": "say what it is: any, each, all",
    r"nobody|somebody|anybody": "name the subject: no reader, an operator, another program",
    r"tells?|told|telling": "report, deliver, log, print, say",
    r"hears?|heard": "receive",
    r"wants": "needs, requires, asks for",
    r"had better": "should",
    r"out loud": "report",
    r"is to be (?:had|done)|are to be had": "say who can do it",
    r"in vain": "say what failed",
    r"made[- ]up": "simulated",
    r"thanked for": "acknowledged",
    r"comes? to nothing": "fails",
    r"so to speak|as it were|of its own accord|goes? without saying|by and large": "leave it out",
    r"the former|the latter": "repeat the name",
    r"in order to": "to",
    r"utili[sz]e[sd]?": "use",
    r"simply|obviously|of course|basically": "leave it out",
    r"whilst|hence|thus|thereby|herein|whence|thence": "while, so, by that",
}
"""Pattern -> what to write instead. A contract that has such a word stands in backticks: `heard`."""

QUOTED = {
    "systemd/roundsman.service": {"Wants"},  # a setting of systemd
    "src/roundsman/sandbox/github.py": {"In order to"},  # the vendor's words
    "src/roundsman/store/sqlite/log.py": {"heard"},  # a column
    "src/roundsman/store/rows.py": {"heard"},
    "src/roundsman/store/copying.py": {"heard"},
    "src/roundsman/store/postgres/log.py": {"heard"},
    "src/roundsman/store/postgres/holds.py": {"heard"},
    "src/roundsman/store/sqlite/schema.py": {"heard"},
    "src/roundsman/store/postgres/schema.py": {"heard"},
    "tests/test_json_keys.py": {"heard"},  # a key of `status --json`
}
"""Words of others, columns in SQL, and names that stay."""

TEXTS = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "src").rglob("*.toml"),
        *(ROOT / "src").rglob("*.txt"),
        *(ROOT / "systemd").iterdir(),
        *(ROOT / "debian").iterdir(),
        ROOT / "config.example.toml",
        ROOT / "Makefile",
        ROOT / "Containerfile",
        ROOT / "contrib" / "compose.yaml",
        ROOT / "contrib" / "compose" / "Caddyfile",
        ROOT / ".ci" / "run",
    ]
)
CODE = sorted(
    path
    for folder in ("src", "docs", "tests")
    for path in (ROOT / folder).rglob("*.py")
    if path != Path(__file__)  # it lists the words
)


def sentences(path: Path) -> Iterator[tuple[int, str]]:
    """(line, text) of what a reader reads: prose without code; comments, docstrings and messages of a program."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        # What stands between backticks is a name, a command or a quotation.
        kept = re.sub(
            r"^( *)```.*?^\1```|``.*?``|`[^`\n]*`|\]\([^)]*\)",
            lambda found: "\n" * found[0].count("\n"),
            text,
            flags=re.DOTALL | re.MULTILINE,
        )
        yield from enumerate(kept.splitlines(), 1)
        return
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], re.sub(r"`[^`]*`", "", token.string)
    for node in ast.walk(ast.parse(text)):
        # A constant without a blank is a key, a path or a name.
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value.strip():
            for number, line in enumerate(re.sub(r"`[^`\n]*`", "", node.value).split("\n")):
                yield node.lineno + number, line


def found(path: Path) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}:{number}: {word[0]!r}: {instead}"
        for number, line in sentences(path)
        for pattern, instead in WORDS.items()
        for word in re.finditer(rf"\b(?:{pattern})\b", line, re.IGNORECASE)
        if word[0] not in QUOTED.get(str(path.relative_to(ROOT)), ())
    ]


@pytest.mark.parametrize("path", [*TEXTS, *CODE], ids=lambda path: str(path.relative_to(ROOT)))
def test_the_english_is_plain(path: Path) -> None:
    assert found(path) == []


def test_the_list_finds_a_word_in_each_kind_of_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    code = tmp_path / "a.py"
    code.write_text(
        '"""Whoever reads."""\n# nobody hears\nprint("it wants a key")\nnobody = "told"\n"`whatever` x"\n'
    )
    assert [line.split(":")[1] for line in found(code)] == ["2", "2", "1", "3"]
    page = tmp_path / "a.md"
    page.write_text("`whom`\n\n```text\nnobody\n```\n[a](whatever.md) Nobody\n")
    assert [line.split(":")[1] for line in found(page)] == ["6"]
