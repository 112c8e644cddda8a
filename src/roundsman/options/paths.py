"""Paths in options: relative to the configuration file, or to systemd's state directory."""

import os
import re
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import BeforeValidator, WithJsonSchema

if TYPE_CHECKING:
    from collections.abc import Iterator


_folder: ContextVar[Path] = ContextVar("folder", default=Path())


@contextmanager
def relative_to(folder: Path) -> "Iterator[None]":
    """Paths in options are read relative to the configuration file, not to the working directory."""
    token = _folder.set(folder)
    try:
        yield
    finally:
        _folder.reset(token)


def beside(path: str | Path) -> Path:
    try:
        return _folder.get() / Path(path).expanduser()
    except RuntimeError:
        raise ValueError("names the home of an unknown user") from None


def _path(value: object) -> Path:
    if not isinstance(value, str | Path) or not str(value) or "\0" in str(value):
        raise ValueError("is not a path")
    if isinstance(value, str) and _NO_PATH.match(value):
        raise ValueError("is a URL and not a path")
    return beside(value)


_NO_PATH = re.compile(
    r"[A-Za-z][A-Za-z0-9+.-]*://|(?:sqlite|file|jdbc|postgres|postgresql|mysql|redis|http|https):|:memory:|\S+=\S+ \S+=\S+"
    r"|(?:postgres|postgresql)//"
    r"|.*\?(?:mode|cache|vfs|immutable)=",
    re.IGNORECASE,
)
"""The forms in which other programs name a database."""


def data_path(value: object) -> Path:
    folder = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    path = _path(value)
    if str(value).endswith(("/", "/.", "/..")) or str(value) in {".", ".."}:
        raise ValueError("is a folder and not a file")
    if folder and isinstance(value, str) and not value.startswith("~"):
        path = Path(folder) / value
    if os.path.isdir(path):  # noqa: PTH112 - Path.is_dir fails where this user may not look
        raise ValueError("is a folder and not a file")
    return path


_PATH_SCHEMA = {"type": "string", "minLength": 1}
FilePath = Annotated[Path, BeforeValidator(_path), WithJsonSchema(_PATH_SCHEMA)]
"""A file to read. A relative path begins at the folder of the configuration file; `~` is the home folder."""
DataPath = Annotated[Path, BeforeValidator(data_path), WithJsonSchema(_PATH_SCHEMA)]
"""A file to write. A relative path begins at `$STATE_DIRECTORY` if systemd sets it, else at the folder of the
configuration file; `~` is the home folder.
"""
