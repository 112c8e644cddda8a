"""The configuration file as TOML, before anything in it is read as options."""

import hashlib
import re
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from roundsman.errors import ConfigError, Place, Problem
from roundsman.options.secrets import forbidden


@dataclass(frozen=True)
class Document:
    """The file, and what stands in it."""

    path: Path
    """As the user has named it."""
    text: str
    tables: dict[str, Any]

    def refused(self, problems: Iterable[Problem]) -> ConfigError:
        """An error with these mistakes and their lines."""
        return ConfigError(self.located(problems), self.path)

    def located(self, problems: Iterable[Problem | str]) -> list[Problem]:
        """The problems with their lines, in the order of the lines.

        A text is a sentence that begins with a place, such as `sinks.archive.path: ...`, as a plugin's warnings do. If it
        does not, or two places may be meant, it gets no line.
        """
        from roundsman.config.lines import lines

        known = lines(self.text)
        found = []
        for each in problems:
            place, problem = _placed(each, self.tables) if isinstance(each, str) else (each.place, each)
            found.append(replace(problem, file=self.path, line=known.of(place)) if place else problem)
        return sorted(found, key=lambda each: (each.line is None, each.line))


def read(path: Path) -> Document:
    """The document in the file. ConfigError if there is none that can be read."""
    try:
        # utf-8-sig: on Windows, editors write a byte order mark.
        text = path.read_text(encoding="utf-8-sig")
        return Document(path, text, tomllib.loads(text))
    except OSError as exc:
        hint = forbidden(exc, f"the service's user must be able to read it: chmod 644 {path}")
        raise ConfigError([f"{path}: cannot be read: {exc.strerror}{hint}"]) from None
    except UnicodeDecodeError:
        raise ConfigError([f"{path}: is not UTF-8 text"]) from None
    except RecursionError:
        raise ConfigError([f"{path}: is not TOML: nested too deeply"]) from None
    except tomllib.TOMLDecodeError as exc:
        raise ConfigError([f"{path}: is not TOML: {_without_values(str(exc))}"]) from None


def _placed(text: str, tables: dict[str, Any]) -> tuple[Place, Problem]:
    """A sentence that begins with a place as a problem, and the part of the place that is in the tables."""
    chains = list(_chains(text, 0, tables))
    if len(chains) != 1:
        return (), Problem((), text)
    [(end, place)] = chains
    head, _, words = text.partition(": ")
    if not words or " " in head[end:]:  # such as `sinks.out was a file`
        return place, Problem((), text)
    return place, Problem((*place, *head[end + 1 :].split(".")) if head[end:] else place, words)


def _chains(text: str, at: int, table: dict[str, Any]) -> Iterator[tuple[int, Place]]:
    """Each place of the tables that the text may begin with, as far as the keys are there; and where it ends."""
    for key, value in table.items():
        end = at + len(key)
        if not text.startswith(key, at) or text[end : end + 1] not in {"", ":", ".", " "}:
            continue
        inner = (
            list(_chains(text, end + 1, value))
            if text[end : end + 1] == "." and isinstance(value, dict)
            else []
        )
        if inner:
            yield from ((last, (key, *rest)) for last, rest in inner)
        else:
            yield end, (key,)


_TWICE = (
    (r"Cannot overwrite a value", "a name is set twice in one table"),
    (r"Cannot declare \(.*\) twice", "a table is written twice"),
)
"""Messages of the TOML parser that a reader of the file may not understand."""


def _without_values(message: str) -> str:
    """The TOML parser's message without the text that it quotes of the file, which may be part of a secret.

    What it expects in its place, such as `'='`, is no text of the file.
    """
    for pattern, words in _TWICE:
        message = re.sub(pattern, words, message)
    return re.sub(r"(?<!Expected )(?:'[^']*'|\"[^\"]*\")", "...", message)


def names(path: Path) -> tuple[set[str], set[str]]:
    """The names of sources and sinks in the file, even if it has mistakes. ConfigError if it is not TOML."""
    tables = read(path).tables
    sources, sinks = (tables.get(section, {}) for section in ("sources", "sinks"))
    return set(sources) if isinstance(sources, dict) else set(), set(sinks) if isinstance(
        sinks, dict
    ) else set()


def digest(path: Path) -> str:
    """A hash of the file's content; empty if the file cannot be read."""
    try:
        return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
    except OSError:
        return ""
