"""The configuration as TOML, before anything in it is read as options: the main file, and those that it includes."""

import hashlib
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from roundsman.config.syntax import File, content, parse
from roundsman.errors import ConfigError, Place, Problem


@dataclass(frozen=True)
class Document:
    """The files, and what stands in them together."""

    files: tuple[File, ...]
    """The main file, and those that it includes."""
    tables: dict[str, Any]
    origins: Mapping[Place, File] = field(default_factory=dict)
    """The file of each table, source and sink that is not in the main file."""
    problems: tuple[Problem, ...] = ()
    """Mistakes in how the files fit together."""
    warnings: tuple[Problem, ...] = ()

    @property
    def path(self) -> Path:
        """The main file, as the user has named it."""
        return self.files[0].path

    def refused(self, problems: Iterable[Problem]) -> ConfigError:
        """An error with these mistakes and their lines."""
        return ConfigError(self.located(problems), self.path)

    def located(self, problems: Iterable[Problem | str]) -> list[Problem]:
        """The problems with their lines, in the order of the files and the lines.

        A text is a sentence that begins with a place, such as `sinks.archive.path: ...`, as a plugin's warnings do. If it
        does not, or two places may be meant, it gets no line.
        """
        from roundsman.config.lines import Lines, lines

        order = {file.path: number for number, file in enumerate(self.files)}
        known: dict[Path, Lines] = {}
        found = []
        for each in problems:
            place, problem = _placed(each, self.tables) if isinstance(each, str) else (each.place, each)
            if place:
                path = problem.file or self.file_of(place).path
                if path not in known:
                    known[path] = lines(self.files[order[path]].text)
                problem = replace(problem, file=path, line=known[path].of(place))
            found.append(problem)

        def position(each: Problem) -> tuple[int, float]:
            file = order.get(each.file, len(order)) if each.file else len(order)
            return file, each.line or float("inf")

        return sorted(found, key=position)

    def file_of(self, place: Place) -> File:
        """The file that a place is in, or would be in."""
        return self.origins.get(place[:2]) or self.origins.get(place[:1]) or self.files[0]


def read(path: Path, *, regular: bool = False) -> Document:
    """The document in the file. ConfigError if it, or a file that it includes, cannot be read.

    A command takes its configuration from a pipe, too. With `regular`, nothing but regular files is read.
    """
    return whole(parse(path, regular=regular))


def whole(main: File) -> Document:
    """The document of this main file. ConfigError if a file that it includes cannot be read."""
    if "include" not in main.tables:
        return Document((main,), main.tables)
    from roundsman.config.includes import included

    found = included(main)
    return _joined((main, *found.files), tuple(found.warnings))


def _joined(files: tuple[File, ...], warnings: tuple[Problem, ...]) -> Document:
    """The files as one document. What stands in two of them is a mistake, and the first one counts."""
    tables: dict[str, Any] = {}
    origins: dict[Place, File] = {}
    problems = []

    def add(into: dict[str, Any], place: tuple[str, ...], value: Any, file: File) -> None:
        if place[-1] in into:
            from roundsman.config.lines import lines

            there = origins[place]
            where = f"{there.path}:{lines(there.text).of(place)}"
            one = "give one of the two another name" if len(place) > 1 else "it may stand in one file only"
            problems.append(Problem(place, f"is in {where} already; {one}", file.path))
        else:
            into[place[-1]] = value
            origins[place] = file

    for file in files:
        for key, value in file.tables.items():
            if key == "include":
                if file is not files[0]:
                    problems.append(Problem((key,), "only the main file can include others", file.path))
            elif (
                key in {"sources", "sinks"}
                and isinstance(value, dict)
                and isinstance(tables.get(key, {}), dict)
            ):
                origins.setdefault((key,), file)
                for name, table in value.items():
                    add(tables.setdefault(key, {}), (key, name), table, file)
            else:
                add(tables, (key,), value, file)
    return Document(files, tables, origins, tuple(problems), warnings)


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


def names(path: Path) -> tuple[set[str], set[str]]:
    """The names of sources and sinks in the files, even if these have mistakes. ConfigError if one is not TOML."""
    tables = read(path).tables
    sources, sinks = (tables.get(section, {}) for section in ("sources", "sinks"))
    return set(sources) if isinstance(sources, dict) else set(), set(sinks) if isinstance(
        sinks, dict
    ) else set()


def digest(path: Path) -> str:
    """A hash of the content of the file and of those that it includes; empty if one cannot be read. Nothing but regular
    files is read.
    """
    try:
        main = content(path)
        found = hashlib.blake2b(main, digest_size=16)
        if b"include" in main:
            from roundsman.config.includes import contents

            with suppress(ValueError, RecursionError):  # not TOML: it includes nothing
                for name, inside in contents(path, tomllib.loads(main.decode("utf-8-sig"))):
                    found.update(b"\0%b\0%b" % (name.encode("utf-8", "surrogateescape"), inside))
        return found.hexdigest()
    except OSError:
        return ""


def included_files(path: Path) -> list[Path]:
    """The files that the file includes, as far as this user can see them; none if it cannot be read."""
    from roundsman.config.includes import paths

    try:
        return paths(path, parse(path).tables)
    except ConfigError:
        return []
