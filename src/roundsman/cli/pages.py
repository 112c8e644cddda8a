"""The command `help`: prints pages of the documentation that is installed with the program."""

import re
import sys
from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path, PurePosixPath
from typing import Annotated

import typer

from roundsman.cli.app import app, fail

SECTIONS = {
    "start": "Start",
    "guides": "Guides",
    "sources": "Sources",
    "sinks": "Sinks",
    "runbook": "Runbook: a symptom, and what to do",
    "reference": "Reference",
    "explained": "Explained",
}


def _folder() -> Traversable:
    """The documentation: a folder of the installed package, or docs/ of a clone."""
    installed = files("roundsman").joinpath("docs")
    return installed if installed.is_dir() else Path(__file__).parents[3] / "docs"


def _pages() -> Iterator[tuple[str, str, Traversable]]:
    """(section, topic, page) of each page, in the order of the documentation."""
    for section in SECTIONS:
        folder = _folder().joinpath(section)
        for page in sorted(folder.iterdir(), key=lambda page: page.name) if folder.is_dir() else ():
            name = PurePosixPath(page.name)
            if name.suffix == ".md":
                yield section, section if name.stem == "index" else name.stem, page


def _title(page: Traversable) -> str:
    return page.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")


def _complete(begun: str) -> list[str]:
    return [topic for _, topic, _ in _pages() if topic.startswith(begun)]


def _topics() -> str:
    """The list of all topics, under the names of their sections."""
    lines = []
    last = ""
    for section, topic, page in _pages():
        if section != last:
            lines += ["", SECTIONS[section]]
            last = section
        lines.append(f"  {topic:22}{_title(page)}")
    return "\n".join(
        ["roundsman help TOPIC prints one of these pages. Options: roundsman COMMAND --help", *lines]
    )


def _linked(text: str) -> tuple[str, list[str]]:
    """A page without the targets of its links, and the topics that it links to, in order."""
    topics: dict[str, None] = {}

    def shown(link: re.Match[str]) -> str:
        target = PurePosixPath(link[2].partition("#")[0])
        if "://" in link[2]:
            return f"{link[1]} ({link[2]})"
        if target.suffix == ".md":
            topics[target.parent.name if target.stem == "index" else target.stem] = None
        return link[1]

    # A fenced block is shown as it is.
    parts = re.split(r"(^ *```.*?^ *```$)", text, flags=re.DOTALL | re.MULTILINE)
    parts[::2] = [re.sub(r"\[([^\]\n]*(?:\n[^\]\n]+)?)\]\(([^)\s]+)\)", shown, part) for part in parts[::2]]
    return "".join(parts), [topic for topic in topics if topic]


def _on_terminal(text: str, topics: list[str]) -> None:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.markdown import Markdown, TableElement
    from rich.table import Table

    class Folded(TableElement):
        """A table that breaks a long name, where rich's own would cut it off."""

        def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
            for part in super().__rich_console__(console, options):
                for column in part.columns if isinstance(part, Table) else ():
                    column.overflow = "fold"
                yield part

    class Page(Markdown):
        elements = {**Markdown.elements, "table_open": Folded}

    console = Console()
    console.print(Page(text, code_theme="ansi_dark", hyperlinks=False))
    if topics:
        console.print("\nSee also: roundsman help", ", ".join(topics), style="dim", highlight=False)


@app.command("help")
def help_(
    topic: Annotated[
        str | None,
        typer.Argument(
            metavar="[TOPIC]", help="A page, such as gap. Default: list all topics.", autocompletion=_complete
        ),
    ] = None,
) -> None:
    """Print a page of the documentation: a guide, a page of the runbook, or an explanation."""
    if topic is None:
        print(_topics())
        return
    found = {name: page for _, name, page in _pages()}
    page = found.get(topic) or found.get(topic.lower().replace(" ", "-").removesuffix(".md"))
    if page is None:
        import difflib

        word = topic.lower()
        near = sorted(
            (name for name in found if word in name), key=lambda name: (not name.startswith(word), len(name))
        )
        near = near or difflib.get_close_matches(topic, found, 1)
        hint = f"did you mean {' or '.join(near[:4])}? " if near else ""
        fail(f"{topic}: no such topic; {hint}`roundsman help` lists all topics", 2)
    text, topics = _linked(page.read_text(encoding="utf-8"))
    if sys.stdout.isatty():
        _on_terminal(text, topics)
    else:
        print(text, end="")
