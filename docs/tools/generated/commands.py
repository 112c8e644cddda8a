"""commands.md, from the commands' functions: their texts, arguments and options."""

import re
import textwrap
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import typer

import roundsman.cli  # noqa: F401 - the modules that add the commands
from generated.markdown import DOCS, WIDTH, document, item, link, prose, slug, table
from generated.signatures import Parameter, parameters
from generated.texts import doc
from roundsman.cli.app import app, when
from roundsman.cli.examples import EXAMPLES
from roundsman.config.places import find

INTRODUCTION = """
`roundsman COMMAND --help` prints the same in a terminal, and `roundsman help` prints these pages. Results go to
standard output, messages to standard error. [Exit statuses](exit-statuses.md) are 0 for success, 1 for a failure and
2 for a wrong command line or configuration.
"""


class Command(NamedTuple):
    """A command, or a group of commands that is a command itself."""

    name: str
    help: str
    callback: Callable[..., Any]


def page() -> str:
    commands = list(_commands(app, ""))
    every = [parameter for each in commands for parameter in parameters(each.callback)]
    config = next(each for each in every if "--config" in each.names)
    parts = [part for each in commands for part in _command(each, config)]
    rows = [
        (f"[{each.name}](#{slug(each.name)})", each.help.partition(". ")[0].split("\n\n")[0])
        for each in commands
    ]
    root = app.registered_callback
    assert root is not None
    assert root.callback is not None
    return document(
        "Commands",
        prose(INTRODUCTION),
        "## Options of every command",
        *_described(parameters(root.callback)),
        "## Values",
        item("FILE", _marked(f"{config.help} {_paragraphs(find, 2)}")),
        item("WHEN", doc(when)),
        "## All commands",
        table(
            ("Command", "Does"), [(name, _marked(" ".join(text.split()).rstrip("."))) for name, text in rows]
        ),
        *parts,
    )


def _commands(of: typer.Typer, before: str) -> Iterator[Command]:
    """The commands of an app in the order of its help, those of its groups last."""
    for each in of.registered_commands:
        assert each.callback is not None
        name = each.name or each.callback.__name__.replace("_", "-")
        yield Command(before + name, each.help or doc(each.callback), each.callback)
    for group in of.registered_groups:
        inner = group.typer_instance
        assert inner is not None
        if inner.registered_callback is not None and inner.registered_callback.callback is not None:
            yield Command(f"{group.name}", str(inner.info.help), inner.registered_callback.callback)
        yield from _commands(inner, f"{group.name} ")


def _command(command: Command, config: Parameter) -> Iterator[str]:
    found = list(parameters(command.callback))
    words = [each.usage() for each in sorted(found, key=lambda each: bool(each.names))]
    usage = textwrap.fill(
        " ".join(word.replace(" ", "\0") for word in (f"roundsman {command.name}", *words)),
        WIDTH,
        subsequent_indent="    ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    yield f"## {command.name}"
    yield "```text\n" + usage.replace("\0", " ") + "\n```"
    yield prose(_marked(command.help))
    yield from _described(each for each in found if each.head() != config.head() or each.help != config.help)
    if examples := EXAMPLES.get(command.name):
        yield "```sh\n" + "\n".join(examples) + "\n```"


def _described(found: Iterator[Parameter]) -> Iterator[str]:
    for each in found:
        shows = each.default not in (None, False) and not each.required and "Default" not in each.help
        default = f" Default: `{each.default}`." if shows else ""
        yield item(
            f"`{each.head()}`" + (" (required)" if each.required and each.names else ""), each.help + default
        )


def _marked(text: str) -> str:
    """A help text with options, variables and paths as code, and the pages of `roundsman help` as links."""
    text = re.sub(r"`roundsman help ([a-z-]+)`", lambda match: link(_page(match[1])), text)
    parts = re.split(r"(\[[^\]]*\]\([^)]*\)|`[^`]*`|\"[^\"]*\")", text)
    parts[::2] = [
        re.sub(r"(?<![\w`])(--?[a-z][a-z-]*|[$~./][\w$~./-]*\w)", r"`\1`", part) for part in parts[::2]
    ]
    return "".join(f"`{part}`" if part.startswith('"') else part for part in parts)


def _page(topic: str) -> str:
    """The page of a topic of `roundsman help`, by its path in docs/."""
    [page] = [*DOCS.glob(f"*/{topic}.md"), *DOCS.glob(f"{topic}/index.md")]
    return str(page.relative_to(DOCS))


def _paragraphs(of: object, begin: int) -> str:
    return " ".join(doc(of).split("\n\n")[begin:])
