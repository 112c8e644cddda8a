"""What the program makes of a command line, without running it."""

import re
import shlex
from functools import cache
from typing import Any, NamedTuple

import typer

from roundsman.cli import UsageError
from roundsman.cli.app import app


class Parsed(NamedTuple):
    whole: bool
    """Whether it can be run as it stands: it has all its arguments."""
    mistake: str | None = None
    """What does not exist: a command, an option."""


@cache
def root() -> Any:
    """The root command. It takes some 20 ms to make."""
    return typer.main.get_command(app)


@cache
def parsed(line: str) -> Parsed:
    """A line that begins with `roundsman`, with or without `sudo`; only its first command."""
    text = re.split(r"\s(?:[|]|>>?|&&)\s?|;", re.sub(r"^(sudo )?roundsman\b", "", line))[0]
    words = [word for word in shlex.split(text.replace("COMMAND", "status")) if word != "…"]
    if words[:1] in (["--version"], ["--install-completion"]):
        return Parsed(whole=True)
    command = root()
    context = command.context_class(command, info_name="roundsman")
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]
        context = command.context_class(command, parent=context, info_name=command.name)
    if hasattr(command, "commands") and words and not words[0].startswith("-"):
        return Parsed(whole=False, mistake=f"there is no command {words[0]}")
    if {"-h", "--help"} & set(words):
        return Parsed(whole=True)
    try:
        command.parse_args(context, words)
    except UsageError as exc:
        unknown = type(exc).__name__ == "NoSuchOption"
        return Parsed(whole=False, mistake=exc.format_message() if unknown else None)
    return Parsed(whole=not hasattr(command, "commands") or command.invoke_without_command)


@cache
def options_of_commands() -> frozenset[str]:
    """The options of all commands: `--force`, `-c`."""

    def of(command: Any) -> frozenset[str]:
        found = frozenset(option for each in command.params for option in each.opts)
        return found.union(*map(of, getattr(command, "commands", {}).values()))

    return of(root())
