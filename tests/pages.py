"""The documentation as data: blocks, commands, code spans, links and headings, each with its page and line."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
GENERATED = "docs/reference/"
"""Pages that are written from the code."""
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)
SHELL = ("sh", "console", "cron")


class Block(NamedTuple):
    """A fenced block."""

    page: str
    line: int
    """Of its first line of text, from 1 on."""
    language: str
    text: str
    section: str
    """The heading above it."""

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"


class Command(NamedTuple):
    """A line that a reader types."""

    page: str
    line: int
    text: str
    section: str
    shown: tuple[str, ...] = ()
    """The lines that the page shows below it as output, in the same block."""

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"


class Span(NamedTuple):
    """A code span in the prose."""

    page: str
    line: int
    text: str

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[str]:
    """The pages, as paths from the root of the repository."""
    top = [name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md") if (ROOT / name).exists()]
    return top + sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md"))


def written() -> list[str]:
    """The pages that are written by hand."""
    return [page for page in pages() if not page.startswith(GENERATED)]


def text_of(page: str) -> str:
    return (ROOT / page).read_text()


def blocks(page: str, *languages: str) -> list[Block]:
    """The fenced blocks of a page, without their indentation; of all languages if none is named."""
    text = text_of(page)
    found = []
    for match in FENCE.finditer(text):
        indent, language, body = match.groups()
        if languages and language not in languages:
            continue
        lines = [line.removeprefix(indent) for line in body.splitlines()]
        above = re.findall(r"^#{1,4} (.+)$", FENCE.sub("", text[: match.start()]), re.MULTILINE)
        found.append(
            Block(
                page,
                _line(text, match.start(3)),
                language,
                "\n".join(lines) + "\n",
                above[-1] if above else "",
            )
        )
    return found


def commands(page: str, section: str | None = None) -> list[Command]:
    """The lines of a page's shell blocks that a reader types; of one section, if it is named."""
    return [
        command
        for block in blocks(page, *SHELL)
        if section in {None, block.section}
        for command in _typed(block)
    ]


def _typed(block: Block) -> Iterator[Command]:
    lines = list(enumerate(block.text.splitlines(), block.line))
    if block.language != "console":
        for number, line in lines:
            text = re.sub(r"(^|\s{2,})#.*", "", line).strip()
            if text:
                yield Command(block.page, number, text, block.section)
        return
    prompts = [at for at, (_, line) in enumerate(lines) if line.startswith(("$ ", "# roundsman", "# system"))]
    for at, end in zip(prompts, [*prompts[1:], len(lines)], strict=True):
        number, line = lines[at]
        shown = tuple(text for _, text in lines[at + 1 : end])
        yield Command(block.page, number, line[2:].strip(), block.section, shown)


def spans(page: str, title: str = "") -> list[Span]:
    """The code spans outside of fenced blocks; below one heading of the second level, if it is named."""
    text = _prose(page)
    begin = text.index(f"\n## {title}\n") + 1 if title else 0
    end = text.find("\n## ", begin) if title else -1
    return [
        Span(page, _line(text, match.start()), " ".join(match[1].split()))
        for match in re.compile(r"(?<!`)`([^`]+)`(?!`)").finditer(text, begin, end if end > 0 else len(text))
    ]


def links(page: str) -> list[Span]:
    """The targets of the links outside of fenced blocks."""
    text = re.sub(r"`[^`\n]*`", lambda match: " " * len(match[0]), _prose(page))
    return [
        Span(page, _line(text, match.start()), match[1]) for match in re.finditer(r"\]\(([^)\s]+)\)", text)
    ]


def anchors(page: str) -> set[str]:
    """The anchors of a page's headings, as the site and GitHub make them."""
    found: set[str] = set()
    for heading in re.findall(r"^#{1,6} +(.+?)\s*$", _prose(page), re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
        words = re.sub(r"[^\w\s-]", "", plain).strip().lower()
        slug = re.sub(r"\s", "-", words) if "/" not in page else re.sub(r"[-\s]+", "-", words)
        while slug in found:
            slug += "_1"
        found.add(slug)
    return found


def section(page: str, title: str) -> str:
    """The text below a heading of the second level."""
    return text_of(page).split(f"\n## {title}\n")[1].split("\n## ")[0]


def _prose(page: str) -> str:
    """The page with its fenced blocks blanked; lines keep their numbers."""
    return FENCE.sub(lambda match: "\n" * match[0].count("\n"), text_of(page))


def _line(text: str, at: int) -> int:
    return text.count("\n", 0, at) + 1
