"""Files and folders: whose they are, whether they are on the disk, and how much room there is for more."""

import errno
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


def make(path: Path, flags: int, mode: int) -> tuple[int, bool]:
    """Open a file of ours, or make it; its handle, and whether it is new.

    What root makes in somebody's folder is theirs: a command with sudo must not lock the service out of its own files. Nor may
    they have root write, or give them, what a link that they put there leads to.
    """
    theirs = os.geteuid() == 0 and path.parent.stat().st_uid != 0
    flags |= os.O_CLOEXEC | (os.O_NOFOLLOW if theirs else 0)
    try:
        handle, new = os.open(path, flags | os.O_CREAT | os.O_EXCL, mode), True
    except FileExistsError:
        handle, new = os.open(path, flags, mode), False
    if new and theirs:
        owner = path.parent.stat()
        with suppress(PermissionError):  # where root may not, on a network's disk
            os.fchown(handle, owner.st_uid, owner.st_gid)
    return handle, new


def refuse_links(*paths: Path) -> None:
    """OSError, where root is about to follow a link that the owner of a folder put there."""
    for path in paths:
        if os.geteuid() == 0 and path.is_symlink() and path.parent.stat().st_uid != 0:
            raise OSError(errno.ELOOP, "it is a link in a folder that is not root's", str(path))


def sync_folder(folder: Path) -> None:
    """A new name in this folder survives a power cut."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
