"""What the configuration says about the state of the daemon, read again when its files change."""

from pathlib import Path
from typing import Any

from roundsman.config.daemon import store_of, worker_of
from roundsman.config.document import names
from roundsman.config.includes import paths
from roundsman.config.selection import filters
from roundsman.config.syntax import parse
from roundsman.errors import ConfigError

Stamp = tuple[Path, int, int, int]
"""A file: its path, its inode, its size, and when it was changed; zeros if there is none."""


class Current:
    """The store, the name of this machine, the filter of each sink, and the names of sources and sinks."""

    def __init__(self, path: Path) -> None:
        """ConfigError if the files have mistakes."""
        self._path = path
        self._main: Stamp | None = None
        self._tables: dict[str, Any] = {}
        self._stamps: list[Stamp] = []
        self._read()

    def renew(self) -> None:
        """Read the files again if one of them has changed. While they have mistakes, what they said before stays; also while
        they name no source and no sink: many editors empty a file before they write it.
        """
        try:
            if self._seen() != self._stamps and any(names(self._path)):
                self._read()
        except ConfigError:
            pass

    def _read(self) -> None:
        # The stamps are older than what is read: a change meanwhile is seen the next time.
        stamps = self._seen()
        store = store_of(self._path)
        self.filters, self.names, self.worker = filters(self._path), names(self._path), worker_of(self._path)
        self.store, self._stamps = store, stamps

    def _seen(self) -> list[Stamp]:
        main = _stamp(self._path)
        if main != self._main:
            self._tables = parse(self._path).tables
            self._main = main
        return [main, *map(_stamp, paths(self._path, self._tables))]


def _stamp(file: Path) -> Stamp:
    try:
        status = file.stat()
    except OSError:
        return file, 0, 0, 0
    return file, status.st_ino, status.st_size, status.st_mtime_ns
