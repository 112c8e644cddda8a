"""Pieces of Markdown that can be read as text: lines of 80 columns where that is possible."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

DOCS = Path(__file__).parents[2]
WIDTH = 80
GENERATED = "<!-- Written from the code by docs/tools/reference.py: run `make docs`. -->"
_WORD = re.compile(r"(?:`[^`]*`|\[[^\]]*\]\([^)\s]*\)|\S)+")
"""A word: code and links are not broken."""


def document(title: str, *parts: str) -> str:
    """A page: its title, and its parts, with an empty line between two of them."""
    return "\n\n".join([f"# {title}", GENERATED, *(part for part in parts if part)]) + "\n"


def wrapped(text: str, first: str = "", then: str = "") -> str:
    """A paragraph; its first line begins with `first`, the others with `then`."""
    lines, line = [], first
    for word in _WORD.findall(text):
        if line.strip() and len(line) + len(word) >= WIDTH and line != first:
            lines.append(line.rstrip())
            line = then
        line += word + " "
    return "\n".join([*lines, line.rstrip()])


def prose(text: str) -> str:
    """A docstring's paragraphs. What is indented, and each line of a list, stays as it is."""
    paragraphs = re.split(r"\n\s*\n", text.strip())
    return "\n\n".join(each if each.startswith(("- ", "    ")) else wrapped(each) for each in paragraphs)


def item(head: str, text: str = "") -> str:
    """An item of a list: what it is about on a line of its own, and below that the text."""
    return wrapped(head, "- ", "  ") + (f"\n\n{wrapped(text, '    ', '    ')}" if text else "")


def items(pairs: Iterable[tuple[str, str]]) -> str:
    return "\n\n".join(item(head, text) for head, text in pairs)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; a bar in a cell is escaped."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    return "\n".join([line(head), "|" + "---|" * len(head), *map(line, rows)])


def code(text: object) -> str:
    return f"`{text}`"


def codes(names: Iterable[object]) -> str:
    return ", ".join(map(code, names))


def link(page: str) -> str:
    """A link from a page of the reference to another page, by its path in docs/ (an anchor may follow)."""
    path, _, _ = page.partition("#")
    folder, _, name = path.rpartition("/")
    if folder == "reference":
        return (
            f"[{name.removesuffix('.md').replace('-', ' ').capitalize()}]({page.removeprefix('reference/')})"
        )
    title = (DOCS / path).read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
    return f"[{title}](../{page})"


def slug(heading: str) -> str:
    """The anchor of a heading."""
    return re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower())
