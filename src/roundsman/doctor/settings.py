"""The configuration as a stranger may read it: the keys, and only values that cannot be secrets.

Values are shown by a list of options, so that a value at a wrong place, or of an option of a plugin, is hidden.
"""

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

from roundsman.doctor.outside import text_of
from roundsman.doctor.scrub import Scrub, conceal, conceal_parts, conceal_url, is_secret_name
from roundsman.masking import HIDDEN, MASK, name_of
from roundsman.options.server import is_server

SHOWN = frozenset(
    {
        *(
            "type",
            "types",
            "outcomes",
            "sources",
            "path",
            "store",
            "log_level",
            "log_format",
            "address",
            "format",
        ),
        *("ca_file", "tls_certificate", "include", "mode", "fsync", "rotate", "compress", "order"),
    }
)
"""Options whose text is shown."""
_DURATION = re.compile(r"[0-9.]{1,9} ?(?:ms|s|m|h|d|w|KB|MB|GB|KiB|MiB|GiB|kB|B)")
_PLACES = ("env", "file", "credential", "command")
_NAMED = re.compile(r"\b(env|file|credential)\s*=\s*(?:\"([^\"\n]*)\"|'([^'\n]*)')")
_INCLUDE = re.compile(r"^\s*include\s*=\s*\[([^\]]*)\]", re.MULTILINE)
_TEXT = re.compile(r"\"((?:\\.|[^\"\\\n])*)\"|'([^'\n]*)'|\"([^\"\n]*)$|'([^'\n]*)$", re.MULTILINE)
_HEAD = re.compile(r"\s*\[+[A-Za-z0-9_. -]{1,80}\]+\s*(?:#.*)?")
_KEY = re.compile(r"\s*([a-z][a-z_]{0,23})\s*=")


@dataclass(frozen=True)
class Settings:
    """The files of the configuration, as they may be shown."""

    files: dict[str, str] = field(default_factory=dict)
    """The text by the path."""
    urls: set[str] = field(default_factory=set)
    """URLs that requests go to, as they are written."""
    unread: list[str] = field(default_factory=list)
    """A sentence about each file that could not be read."""
    tables: dict[str, Any] = field(default_factory=dict)
    """All tables together, with their secrets, as far as the files are TOML."""


def settings(path: Path, environ: Mapping[str, str], scrub: Scrub) -> Settings:
    """The configuration without secrets. Every secret and every possible secret in it is masked from then on.

    `environ`: the variables of the service, which this process may not have.
    """
    found = Settings()
    texts: list[tuple[Path, str]] = []
    seen = set[str]()
    _take(path, texts, found, seen)
    for each in _included(path, texts[0][1]) if texts else ():
        _take(each, texts, found, seen)
    parsed: list[tuple[Path, str, dict[str, Any] | None]] = []
    for each, text in texts:
        try:
            tables = tomllib.loads(text)
        except (ValueError, RecursionError):
            tables = None
        _hide_text(text, path.absolute().parent, environ, whole=tables is None)
        if tables is not None:
            _hide((), tables)
        parsed.append((each, text, tables))
    for each, text, tables in parsed:  # after all secrets are known
        if tables is None:
            found.files[str(each)] = _broken(text, scrub)
            continue
        for key, value in tables.items():
            if isinstance(value, dict) and isinstance(known := found.tables.get(key), dict):
                found.tables[key] = {**value, **known}
            else:
                found.tables.setdefault(key, value)
        found.urls.update(_urls(tables))
        found.files[str(each)] = scrub("\n".join(_lines(tables, ()))) + "\n"
    return found


def _take(path: Path, texts: list[tuple[Path, str]], found: Settings, seen: set[str]) -> None:
    if (real := os.path.realpath(path)) in seen:
        return
    seen.add(real)
    try:
        texts.append((path, text_of(path)))
    except OSError as exc:
        found.unread.append(f"{path} cannot be read: {exc.strerror}")


def _included(path: Path, text: str) -> list[Path]:
    from roundsman.config.includes import paths

    try:
        tables = tomllib.loads(text)
    except (ValueError, RecursionError):
        listed = _INCLUDE.search(text)
        patterns = [a or b for a, b, *_ in _TEXT.findall(listed[1])] if listed else []
        tables = {"include": patterns}
    return paths(path, tables)


def _hide_text(text: str, folder: Path, environ: Mapping[str, str], *, whole: bool) -> None:
    """Mask what the text names as the place of a secret, and if it is no TOML, everything in it that may be a secret."""
    for kind, one, other in _NAMED.findall(text):
        name = one or other
        if kind == "env":
            for variables in (environ, os.environ):
                _hide_value(variables.get(name, ""))
            continue
        place = Path(name) if kind == "file" else Path("credentials") / Path(name).name
        handed = os.environ.get("CREDENTIALS_DIRECTORY")
        places = [folder / place.expanduser() if str(place).startswith("~/") else folder / place]
        if kind == "credential" and handed:
            places += [Path(handed) / name, Path(handed) / f"roundsman_{name}"]
        for each in places:
            with suppress(OSError, ValueError):
                _hide_value(text_of(each))
    if whole:
        section = ""
        for line in text.splitlines():
            key = _KEY.match(line)
            if _HEAD.fullmatch(line):
                section = line.strip(" [").partition(".")[0]
            if _HEAD.fullmatch(line) or (
                key and key[1] in SHOWN and (section, key[1]) != ("sources", "path")
            ):
                continue
            value = line.partition("=")[2].strip() or line.strip()
            secret = is_secret_name(line.partition("=")[0])
            texts = [_unescaped(next(filter(None, each), "")) for each in _TEXT.findall(value)]
            bare = value.strip("\"' ,]}")
            conceal(
                [each for each in (*texts, bare) if not _is_web(each)],
                surely=secret and not _NAMED.search(line),
            )
            for written in texts or [bare]:
                if "://" in written:
                    conceal_url(written)
                elif key and key[1].endswith("path"):
                    conceal_url(f"https://host{written}")
                if not _is_web(written):
                    conceal_parts(written, surely=False)


def _is_web(value: str) -> bool:
    return value.lower().startswith(("http://", "https://")) or is_server(value)


def _unescaped(text: str) -> str:
    try:
        return str(tomllib.loads(f'text = "{text}"')["text"])
    except ValueError:
        return text


def _hide_value(value: str) -> None:
    if not is_server(value):
        conceal([value.rstrip("\r\n")], surely=True)
    if "://" in value:
        conceal_url(value.strip())


def _hide(place: tuple[str, ...], value: Any) -> None:
    """Mask each hidden text of a table in other texts."""
    key = place[-1] if place else ""
    surely = is_secret_name(key) or key == "value"
    if isinstance(value, dict):
        for name, each in value.items():
            if name not in _PLACES or len(value) > 2 or name == "command":
                _hide((*place, name), each)
            elif isinstance(each, str) and name_of(each) == HIDDEN:
                conceal([each], surely=False)
    elif isinstance(value, list):
        for each in value:
            _hide(place, each)
    elif isinstance(value, str):
        if "://" in value:
            conceal_url(value)
        if not _is_shown(place) and not _is_web(value):  # the host of a URL is shown, and is not to be masked
            conceal([value], surely=surely)
            conceal_parts(value, surely=surely)
            if key.endswith("path"):
                conceal_url(f"https://host{value}")
    elif isinstance(value, int) and not isinstance(value, bool) and value > 99_999:
        conceal([str(value)], surely=surely)


def _is_shown(place: tuple[str, ...]) -> bool:
    """Whether the text of an option is shown. The path of a source is a part of a URL."""
    depth = 3 if place[0] in {"sources", "sinks"} else 2
    return place[-1] in SHOWN and len(place) <= depth and (place[0], place[-1]) != ("sources", "path")


def _urls(table: Any) -> Iterator[str]:
    """The http URLs among the options."""
    for key, value in table.items():
        if isinstance(value, dict) and key not in {"headers", "query", "params", "body", "form"}:
            yield from _urls(value)
        elif isinstance(value, str) and (key == "url" or key.endswith("_url")):
            yield value


def _lines(table: Mapping[str, Any], place: tuple[str, ...]) -> Iterator[str]:
    inner = {}
    for key, value in table.items():
        if isinstance(value, dict) and len(place) < 2 and not _is_place(value):
            inner[key] = value
        else:
            yield f"{key} = {_shown((*place, key), value)}"
    for key, value in inner.items():
        if place or key not in {"sources", "sinks"}:
            yield ""
            yield f"[{'.'.join((*place, key))}]"
        yield from _lines(value, (*place, key))


def _is_place(value: dict[str, Any]) -> bool:
    return bool(value) and set(value) <= {*_PLACES, "timeout"}


def _shown(place: tuple[str, ...], value: Any) -> str:
    """A value as it may be shown; `place`: its key behind those of the tables around it."""
    if isinstance(value, bool | datetime | date | time):
        return str(value).lower()
    if isinstance(value, dict):
        if _is_place(value):
            return "{ " + ", ".join(f"{kind} = {_named(name)}" for kind, name in value.items()) + " }"
        return (
            "{ "
            + ", ".join(f"{name} = {_shown((*place, name), each)}" for name, each in value.items())
            + " }"
        )
    if isinstance(value, list):
        return "[" + ", ".join(_shown(place, each) for each in value) + "]"
    hidden = len(place) > 3 or is_secret_name(place[-1])
    if isinstance(value, int | float):
        return MASK if hidden else str(value)
    if not isinstance(value, str) or hidden:
        return MASK
    if _is_web(value) or _is_shown(place) or _DURATION.fullmatch(value):
        return f'"{value}"'  # the caller scrubs it: of a URL, the host is left
    return MASK


def _named(name: object) -> str:
    """The name of a place; of a program the name alone."""
    if isinstance(name, list):
        return f"[{_named(name[0])}, {MASK}]" if name else "[]"
    shown = name_of(str(name))
    return MASK if shown == HIDDEN else f'"{shown}"'


def _broken(text: str, scrub: Scrub) -> str:
    """The headers and keys of a text that is no TOML."""
    shown = ["# This file is not TOML. Only its headers and keys are shown."]
    for number, line in enumerate(text.splitlines(), 1):
        key = _KEY.match(line)
        if _HEAD.fullmatch(line):
            shown.append(f"{number}: {scrub(line.partition('#')[0].strip())}")
        elif key:
            shown.append(f"{number}: {scrub(key[1])} = {MASK}")
        elif line.strip() and not line.lstrip().startswith("#"):
            shown.append(f"{number}: {MASK}")
    return "\n".join(shown) + "\n"
