"""The layout of a command's help: commands in groups, whole sentences, and examples at the end."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from roundsman.cli.completion import BY_METAVAR
from roundsman.cli.examples import EXAMPLES

GROUPS: Mapping[str, tuple[str, ...]] = {
    "Set up": ("init", "check", "schema", "poll", "hooks", "notify-test", "service"),
    "Run": ("run", "once", "reload", "healthy"),
    "Look": ("status", "events", "failures", "dead", "unread", "page", "doctor"),
    "Act": ("pause", "resume", "replay", "rewind", "track"),
    "Keep": ("backup", "restore", "store", "forget"),
    "Learn and extend": ("help", "demo", "sandbox", "plugins", "new"),
}
"""The commands by what they are for, in the order of the help. `test_each_command_is_in_one_group` compares it."""

OTHER = "More"
"""The heading of commands that are in no group."""


WIDEST = 22
"""Maximum columns of the names of options; the text of a longer one begins in the next line."""


def first_sentence(text: str) -> str:
    """The first sentence of a help text, without the stop at its end."""
    paragraph = " ".join(text.split("\n\n", maxsplit=1)[0].split())
    return paragraph.partition(". ")[0].rstrip(".")


def _path(context: Any) -> str:
    """The command without the name of the program: `dead list`."""
    names: list[str] = []
    while context.parent is not None:
        names.insert(0, str(context.info_name))
        context = context.parent
    return " ".join(names)


def _write_examples(context: Any, formatter: Any) -> None:
    lines = EXAMPLES.get(_path(context), ())
    if lines:
        with formatter.section("Examples"):
            for line in lines:  # as they are: a line that is wrapped is no command
                formatter.write(f"  {line}\n")


def _head(parameter: Any, context: Any) -> str:
    """A parameter as the help names it: `SOURCE`, `source|sink`, `--port PORT`. Newer versions of typer add `<str>`."""
    name, _ = parameter.get_help_record(context)
    name, _, kind = name.partition(" <")
    choices = kind.removesuffix(">") if "|" in kind else ""
    if parameter.param_type_name == "argument":
        return choices or name.strip("[]{}.").upper()
    return f"{name} {choices}".rstrip()


def _write_options(command: Any, context: Any, formatter: Any) -> None:
    """The arguments and options."""
    rows: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
    for parameter in command.get_params(context):
        if record := parameter.get_help_record(context):
            text = re.sub(r"\[x>=(\d+)\]", r"[at least \1]", record[1])
            if parameter.param_type_name == "argument":  # the usage shows whether it is required
                rows["Arguments"].append((_head(parameter, context), text.replace("  [required]", "")))
            else:
                rows["Options"].append((_head(parameter, context), text))
    for title, those in rows.items():
        if those:
            with formatter.section(title):
                formatter.write_dl(those, col_max=WIDEST)


class Command(TyperCommand):
    """A command whose help ends with examples."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        pieces = [self.options_metavar or ""]
        for each in self.get_params(ctx):
            if each.param_type_name == "argument":
                word = _head(each, ctx)
                pieces.append((word if each.required else f"[{word}]") + ("..." if each.nargs != 1 else ""))
        return pieces

    def format_options(self, ctx: Any, formatter: Any) -> None:
        _write_options(self, ctx, formatter)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        super().format_epilog(ctx, formatter)
        _write_examples(ctx, formatter)


class Group(TyperGroup):
    """A group of commands whose help has each command's whole first sentence."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        _write_options(self, ctx, formatter)
        self.format_commands(ctx, formatter)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        names = self.list_commands(ctx)
        width = max(map(len, names), default=0)
        for title, those in _grouped(names, root=ctx.parent is None):
            # write_dl makes the first column as wide as the longest name that it gets: the same in all groups.
            rows = [(f"{name:{width}}", first_sentence(self.commands[name].help or "")) for name in those]
            with formatter.section(title):
                formatter.write_dl(rows)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        super().format_epilog(ctx, formatter)
        _write_examples(ctx, formatter)


def _grouped(names: list[str], *, root: bool) -> Iterator[tuple[str, list[str]]]:
    """The commands in their groups; those of a command with subcommands are one group."""
    if not root:
        yield "Commands", names
        return
    left = [name for name in names if not any(name in those for those in GROUPS.values())]
    for title, known in (*GROUPS.items(), (OTHER, tuple(left))):
        if those := [name for name in known if name in names]:
            yield title, those


class App(typer.Typer):
    """Commands with this help. They have `-h`, too."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(
            cls=Group,
            rich_markup_mode=None,  # without rich, which is slow to import
            context_settings={"help_option_names": ["-h", "--help"]},
            **settings,
        )

    def command(self, name: str | None = None, **settings: Any) -> Callable[[Any], Any]:
        """`typer.Typer.command` with this help, and with completion."""
        return _then(_complete, super().command(name, cls=Command, **settings))

    def callback(self, **settings: Any) -> Callable[[Any], Any]:
        """`typer.Typer.callback` with completion."""
        return _then(_complete, super().callback(**settings))


def _then(first: Callable[[Any], None], second: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def both(function: Any) -> Any:
        first(function)
        return second(function)

    return both


def _complete(function: Any) -> None:
    """Give each parameter of a command its completion, by its name in the help."""
    for hint in function.__annotations__.values():
        for info in getattr(hint, "__metadata__", ()):
            if info.autocompletion is None:
                info.autocompletion = BY_METAVAR.get(info.metavar)
