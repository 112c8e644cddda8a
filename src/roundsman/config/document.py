"""The configuration file as TOML, before anything in it is read as options."""

import hashlib
import re
import tomllib
from pathlib import Path
from typing import Any

from roundsman.errors import ConfigError
from roundsman.options.secrets import forbidden


def parse(path: Path) -> dict[str, Any]:
    try:
        # utf-8-sig: on Windows, editors write a byte order mark.
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as exc:
        hint = forbidden(exc, f"the service's user must be able to read it: chmod 644 {path}")
        raise ConfigError([f"{path}: cannot be read: {exc.strerror}{hint}"]) from None
    except UnicodeDecodeError:
        raise ConfigError([f"{path}: is not UTF-8 text"]) from None
    except RecursionError:
        raise ConfigError([f"{path}: is not TOML: nested too deeply"]) from None
    except tomllib.TOMLDecodeError as exc:
        raise ConfigError([f"{path}: is not TOML: {_without_values(str(exc))}"]) from None


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
    document = parse(path)
    sources, sinks = document.get("sources", {}), document.get("sinks", {})
    return set(sources) if isinstance(sources, dict) else set(), set(sinks) if isinstance(
        sinks, dict
    ) else set()


def digest(path: Path) -> str:
    """A hash of the file's content; empty if the file cannot be read."""
    try:
        return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
    except OSError:
        return ""
