"""The rotated files beside a file: their names, their order, and how many of them are kept."""

import gzip
import os
import re
import shutil
import stat
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

from roundsman.system.files import create_at, reading, require_file


class Rotated:
    """The files that a rotation has left in a folder, by a handle of the folder."""

    def __init__(self, folder: int, path: Path, keep: int | None, *, compress: bool) -> None:
        """`path`: of the file that is rotated. `keep`: number of rotated files to keep; None: all."""
        self._folder = folder
        self._path = path
        self._keep = keep
        self._compress = compress

    def free_name(self, today: str) -> str:
        """`events-2026-05-01.0001.jsonl` and so on: above the numbers of all files of that day."""
        taken = [number for day, number, _ in self.all() if day == today]
        return f"{self._path.stem}-{today}.{max(taken, default=0) + 1:04d}{self._path.suffix}"

    def all(self) -> list[tuple[str, int, str]]:
        """Day, number and name of the rotated files, in this order."""
        with reading(self._folder) as folder, os.scandir(folder) as entries:
            found = [(*place, each.name) for each in entries if (place := self.place_of(each.name))]
        return sorted(found)

    def place_of(self, name: str) -> tuple[str, int] | None:
        """Day and number of a rotated file, compressed or not; None for any other file."""
        stem, suffix = re.escape(self._path.stem), re.escape(self._path.suffix)
        match = re.fullmatch(stem + r"-(\d{4}-\d\d-\d\d)\.(\d{4,})" + suffix + r"(?:\.gz)?", name)
        return (match[1], int(match[2])) if match else None

    def tidy(self, just: str | None, now: datetime) -> None:
        """Compress and prune rotated files, but never prune `just`; also finish what a crash interrupted."""
        # A day in the future is from a wrong clock: its file would stay the newest for years, and all good
        # ones would be pruned. Tomorrow is allowed: the clock that stamps files may be a little ahead of
        # ours.
        tomorrow = day(now + timedelta(days=1))
        rotated = sorted(self.all(), key=lambda each: (each[2] == just, each[0] <= tomorrow))
        for at, (_, _, name) in enumerate(reversed(rotated)):
            if not stat.S_ISREG(os.lstat(name, dir_fd=self._folder).st_mode):
                continue  # a link, for example
            if self._keep is not None and at >= self._keep:
                os.unlink(name, dir_fd=self._folder)
            elif self._compress and not name.endswith(".gz"):
                self._pack(name)

    def _pack(self, name: str) -> None:
        folder, half, packed = self._folder, name + ".gz.tmp", name + ".gz"
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        with os.fdopen(os.open(name, flags, dir_fd=folder), "rb") as source:
            require_file(source.fileno())
            with suppress(FileNotFoundError):
                os.unlink(half, dir_fd=folder)
            handle, _ = create_at(folder, self._path.with_name(half), os.O_WRONLY | os.O_EXCL, 0o600)
            with os.fdopen(handle, "wb") as target:
                with gzip.open(target, "wb", compresslevel=6) as stream:
                    shutil.copyfileobj(source, stream, 1 << 20)
                target.flush()
                os.fchmod(handle, stat.S_IMODE(os.fstat(source.fileno()).st_mode) & 0o777)
                os.fsync(handle)
        os.replace(half, packed, src_dir_fd=folder, dst_dir_fd=folder)
        sync(folder)
        os.unlink(name, dir_fd=folder)


def day(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d")


def sync(folder: int) -> None:
    """Sync the folder, so that a file that was created or renamed in it survives a power cut."""
    with reading(folder) as handle:
        os.fsync(handle)
