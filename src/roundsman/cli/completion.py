"""What a shell completes: names of sources, sinks, event types and outcomes. It reads the configuration, and is silent on errors."""

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import typer

from roundsman.errors import ConfigError

VARIABLE = "_ROUNDSMAN_COMPLETE"
"""Set by the shell when it asks what can follow."""


def _documents(context: typer.Context) -> Iterator[dict[str, Any]]:
    """The configuration file and those that it includes, as TOML. Not by `config.document`, which is slow to import."""
    from roundsman.config.places import find

    try:
        path = find(context.params.get("config"))
        document = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        yield document
        included = document.get("include", [])
        for pattern in included if isinstance(included, list) else []:
            for each in sorted(path.absolute().parent.glob(pattern)):
                if each.is_file():  # a pipe would block the shell
                    yield tomllib.loads(each.read_text(encoding="utf-8-sig"))
    except (ConfigError, OSError, ValueError, TypeError, NotImplementedError, RecursionError):
        return  # it is half written, say: `check` reports that


def _names(context: typer.Context, *sections: str) -> list[str]:
    tables = [document.get(section) for document in _documents(context) for section in sections]
    return [str(name) for table in tables if isinstance(table, dict) for name in table]


def sources(context: typer.Context, incomplete: str) -> list[str]:
    return _begin(incomplete, _names(context, "sources"))


def sinks(context: typer.Context, incomplete: str) -> list[str]:
    return _begin(incomplete, _names(context, "sinks"))


def sources_and_sinks(context: typer.Context, incomplete: str) -> list[str]:
    return _begin(incomplete, _names(context, "sources", "sinks"))


def types(context: typer.Context, incomplete: str) -> list[str]:
    """The short forms that the commands print, and the whole types."""
    from roundsman.config.vocabulary import of_document, short

    known = [each for document in _documents(context) for each in of_document(document).types]
    names = [name for name in known or of_document({}).types if not set(name) & set("*?[")]
    return _begin(incomplete, [*map(short, names), *names])


def outcomes(incomplete: str) -> list[str]:
    from roundsman.shapes import OUTCOMES

    return _begin(incomplete, list(OUTCOMES))


def _begin(incomplete: str, names: list[str]) -> list[str]:
    """Those that begin so, each once. Shells evaluate them: a name with other characters is none that may be configured."""
    found = [each for each in dict.fromkeys(names) if each.startswith(incomplete)]
    return [each for each in found if re.fullmatch(r"[A-Za-z0-9._-]+", each)]


BY_METAVAR: Mapping[str, Callable[..., list[str]]] = {
    "SOURCE": sources,
    "SINK": sinks,
    "TYPE": types,
    "OUTCOME": outcomes,
}
"""What an argument or an option with this name in the help is completed with. For others, shells offer files."""
