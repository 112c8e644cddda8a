"""Files and folders: whose they are, whether they are on the disk, and how much room there is for more."""

import os
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple


class Room(NamedTuple):
    """What a file system has, in bytes."""

    free: int
    """For us: what is reserved for root does not count."""
    total: int


def room(path: Path) -> Room:
    """The room where `path` is, or would be."""
    status = os.statvfs(next(p for p in (path, *path.absolute().parents) if p.exists()))
    return Room(status.f_bavail * status.f_frsize, status.f_blocks * status.f_frsize)


def hand_over(path: Path) -> None:
    """What root makes in somebody's folder is theirs: a command with sudo must not lock the service out of its own files."""
    owner = path.parent.stat()
    if os.geteuid() == 0 and owner.st_uid != 0:
        with suppress(PermissionError):  # where root may not, on a network's disk
            # A link that somebody planted there must not give them what it leads to.
            os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)


def sync_folder(folder: Path) -> None:
    """A new name in this folder survives a power cut."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
