"""The files that the main file of the configuration includes: `include = ["conf.d/*.toml"]`."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from roundsman.config.places import is_safe_beside
from roundsman.config.syntax import File, content, parse
from roundsman.errors import ConfigError, Problem
from roundsman.options.secrets import forbidden
from roundsman.system.files import is_there

EXAMPLE = 'write include = ["conf.d/*.toml"]'


@dataclass(frozen=True)
class Included:
    """What the main file includes."""

    files: list[File] = field(default_factory=list)
    """In the order of the patterns, and of the names that match one."""
    warnings: list[Problem] = field(default_factory=list)
    """Patterns that match no file."""


def included(main: File) -> Included:
    """The files that it includes, each once. ConfigError with every mistake if one of them cannot be read."""
    if "include" not in main.tables:
        return Included()
    found, problems = Included(), list[Problem]()
    seen = {os.path.realpath(main.path)}
    for number, pattern in _patterns(main.tables):
        place = ("include", number)
        try:
            matches = [main.path.parent / name for name in names(main.path, pattern)]
        except ValueError as exc:
            problems.append(Problem(place, f"{pattern} {exc}"))
            continue
        except OSError as exc:
            why = f"{exc.filename} cannot be read: {exc.strerror}{forbidden(exc, 'chmod o+rx it')}"
            problems.append(Problem(place, why))
            continue
        if not matches:
            found.warnings.append(Problem(place, f"{pattern} matches no file"))
        for path in matches:
            real = os.path.realpath(path)
            if real in seen:
                continue
            seen.add(real)
            if not is_safe_beside(path, main.path):
                why = "another user than root may change it or its folder; chown root, and chmod go-w"
                problems.append(Problem((), f"is not included: {why}", path))
            else:
                try:
                    found.files.append(parse(path, regular=True))
                except ConfigError as exc:
                    # A file that cannot be read has no lines: the mistake is where it is named.
                    problems += [
                        each if each.line else Problem(place, f"{path} {each.words}") for each in exc.found
                    ]
    if not _is_list(main.tables["include"]):
        problems.append(Problem(("include",), f"is not a list of file names and patterns; {EXAMPLE}"))
    if problems:
        from roundsman.config.lines import lines

        known = lines(main.text)
        raise ConfigError(
            [
                replace(each, file=main.path, line=known.of(each.place)) if each.place else each
                for each in problems
            ],
            main.path,
        )
    return found


def contents(path: Path, tables: dict[str, Any]) -> Iterator[tuple[str, bytes]]:
    """The names and the contents of the files that a main file includes. OSError or ValueError if one cannot be read."""
    for _, pattern in _patterns(tables):
        for name in names(path, pattern):
            yield name, content(path.parent / name)


def paths(path: Path, tables: dict[str, Any]) -> list[Path]:
    """The files that a main file includes, as far as this user can see them."""
    found: list[Path] = []
    for _, pattern in _patterns(tables):
        try:
            found += [path.parent / name for name in names(path, pattern)]
        except (OSError, ValueError):
            continue
    return found


def names(main: Path, pattern: str) -> list[str]:
    """The files that match, sorted, relative to the main file. OSError if a folder cannot be listed, ValueError if the
    pattern begins with the home of an unknown user.

    A name without `*`, `?` and `[` is itself the match, whether the file exists or not.
    """
    from glob import glob, has_magic

    try:
        pattern = str(Path(pattern).expanduser()) if pattern.startswith("~") else pattern
    except RuntimeError:
        raise ValueError("names the home of an unknown user") from None
    if not has_magic(pattern):
        return [pattern]
    folder = main.parent
    for part in Path(pattern).parts[:-1]:
        if has_magic(part):
            break
        folder /= part
    if is_there(folder):
        os.scandir(folder).close()  # glob passes over a folder that it cannot list
    return sorted(glob(pattern, root_dir=main.parent, recursive=True))  # noqa: PTH207 - no hidden files, as in a shell


def _patterns(tables: dict[str, Any]) -> Iterator[tuple[int, str]]:
    given = tables.get("include")
    for number, each in enumerate(given if isinstance(given, list) else ()):
        if isinstance(each, str) and each and "\0" not in each:
            yield number, each


def _is_list(given: object) -> bool:
    return isinstance(given, list) and all(
        isinstance(each, str) and each and "\0" not in each for each in given
    )
