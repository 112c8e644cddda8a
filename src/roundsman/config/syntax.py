"""One TOML file, or what is wrong with its syntax: the parser's words, the name that is set twice, the likely cause."""

import errno
import os
import re
import stat
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from roundsman.errors import ConfigError, Problem
from roundsman.options.secrets import forbidden

LARGEST = 64 * 2**20
"""Maximum bytes of a file: that is a million sources."""
_pipes: dict[tuple[Path, int, int], bytes] = {}
"""What was in each pipe."""
_WHERE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")
_NAMES = re.compile(r"\((?:'[^']*'|\"[^\"]*\")(?:, (?:'[^']*'|\"[^\"]*\"))*,?\)")
"""The keys of a table, as the parser quotes them."""
_QUOTED = re.compile(r"(?<!Expected )(?:'(?!\\)[^']*'|\"[^\"]*\")")
"""What the parser quotes of the file, which may be part of a secret.

What it expects in its place, such as `'='`, and an escaped character are no text of the file.
"""
_OPENED = re.compile(
    r'#[^\n]*|"""(?:\\.|[^\\])*?""""{0,2}|'
    r"'''.*?''''{0,2}|"
    r"(?P<several>'''|\"\"\")|"
    r'"(?:\\.|[^"\\\n])*"|'
    r"'[^'\n]*'|(?P<one>[\"'])",
    re.DOTALL,
)
"""A comment, a text, or the quote of a text that has no end."""
_TWICE = (
    "Cannot overwrite a value",
    "Cannot declare",
    "Duplicate inline table key",
    "Cannot redefine namespace",
)


@dataclass(frozen=True)
class File:
    """A file of the configuration."""

    path: Path
    """As the user has named it."""
    text: str
    tables: dict[str, Any]


def parse(path: Path, *, regular: bool = False) -> File:
    """The file. ConfigError if it cannot be read, or is no TOML. With `regular`, a pipe or a device is not waited for."""
    text = ""
    try:
        # utf-8-sig: on Windows, editors write a byte order mark.
        text = (content(path) if regular else _content(path)).decode("utf-8-sig")
        text = text.replace("\r\n", "\n").replace("\r", "\n")
        return File(path, text, tomllib.loads(text))
    except OSError as exc:
        hint = forbidden(exc, f"the service's user must be able to read it: chmod 644 {path}")
        why = f"cannot be read: {exc.strerror}{hint}"
    except UnicodeDecodeError as exc:
        is_wide = exc.object[:2] in {b"\xff\xfe", b"\xfe\xff"}
        words = f"is not UTF-8 text{'; it is UTF-16: save it as UTF-8' if is_wide else ''}"
        line = None if is_wide else exc.object.count(b"\n", 0, exc.start) + 1
        raise ConfigError([Problem((), words, path, line)]) from None
    except RecursionError:
        why = "is not TOML: nested too deeply"
    except tomllib.TOMLDecodeError as exc:
        raise ConfigError([_mistake(path, text, str(exc))]) from None
    raise ConfigError([Problem((), why, path)])


def _content(path: Path) -> bytes:
    """What is in the file. A pipe, such as `-c <(...)`, gives it once only, and a command needs it several times."""
    status = path.stat()
    if not stat.S_ISFIFO(status.st_mode):
        return path.read_bytes()
    which = (path, status.st_dev, status.st_ino)
    if which not in _pipes:
        _pipes[which] = path.read_bytes()
    return _pipes[which]


def content(path: Path) -> bytes:
    """What is in the file, without waiting for it. OSError if it is not a regular file, is too large, or cannot be read."""
    _must_be_regular(path, path.stat().st_mode)  # to open a device can have effects
    with open(path, "rb", opener=_without_waiting) as file:
        _must_be_regular(path, os.fstat(file.fileno()).st_mode)
        found = file.read(LARGEST + 1)
    if len(found) > LARGEST:
        raise OSError(errno.EFBIG, f"it has more than {LARGEST // 2**20} MiB", str(path))
    return found


def _must_be_regular(path: Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def _mistake(path: Path, text: str, message: str) -> Problem:
    from roundsman.config.causes import UNCLOSED, likely_cause

    found = _WHERE.search(message)
    words = message[: found.start()] if found else message
    if found and found[1]:
        line, column = int(found[1]), int(found[2])
    else:  # the end of the document
        at = _opened(text) if words.startswith(UNCLOSED) else len(text)
        line, column = text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)
    if words.startswith(_TWICE) and (known := _twice(path, text, line)):
        return known
    shown = _QUOTED.sub("...", _NAMES.sub(lambda match: _dotted(match[0]), words))
    cause = likely_cause(text, line, column, words)
    return Problem((), f"is not TOML: {shown}{f'; {cause}' if cause else ''}", path, line, column)


def _opened(text: str) -> int:
    """Where the text begins that has no closing quote."""
    return next((each.start() for each in _OPENED.finditer(text) if each.lastgroup), len(text))


def _twice(path: Path, text: str, line: int) -> Problem | None:
    """The name that is set for the second time, if the scan sees it where the parser does."""
    from roundsman.config.lines import lines

    twice = lines(text).twice
    if twice is None or twice.second > line:
        return None
    name = ".".join(map(str, twice.place))
    here = text.splitlines()[twice.second - 1].strip()
    what = f"[{name}] is written twice" if here.startswith("[") else f"{name} is set twice"
    more = ""
    if (
        here.startswith("[")
        and not here.startswith("[[")
        and re.match(r"\[\s*(?:sources|sinks)\s*\.[^.]+\]", here)
    ):
        more = ": give one of the two another name"
    words = f"is not TOML: {what}, first in line {twice.first}{more}"
    return Problem((), words, path, twice.second)


def _dotted(names: str) -> str:
    return ".".join(re.findall(r"['\"]([^'\"]*)['\"]", names))
