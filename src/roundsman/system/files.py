"""Files and folders: whose they are, whether they are on the disk, and how much room there is for more."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

LINKS = 40
"""Links on the way to a file, at most: what the kernel allows, too."""
_ENTER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
"""To go through a folder, which asks for less than to read it: root may be without its capabilities."""


class Room(NamedTuple):
    """What a file system has, in bytes."""

    free: int
    """For us: what is reserved for root does not count."""
    total: int


def room(path: Path) -> Room:
    """The room where `path` is, or would be."""
    status = os.statvfs(next(p for p in (path, *path.absolute().parents) if p.exists()))
    return Room(status.f_bavail * status.f_frsize, status.f_blocks * status.f_frsize)


def real(path: Path, folders: int | None = None) -> Path:
    """A file's path without links; `folders` is the mode to make a missing folder of it with.

    OSError where root would follow a link that somebody else may have put there.
    """
    if os.geteuid() == 0:
        folder, path = _walk(path, folders)
        os.close(folder)
        return path
    path = Path(os.path.realpath(path))
    if folders is not None:
        path.parent.mkdir(folders, parents=True, exist_ok=True)
    return path


def enter(path: Path, folders: int | None = None) -> tuple[int, Path]:
    """As `real`, with a handle of the folder: what is done there by name happens there, whatever becomes of the way to it."""
    if os.geteuid() == 0:
        return _walk(path, folders)
    path = real(path, folders)
    return os.open(path.parent, _ENTER), path


def refuse_links(*paths: Path) -> None:
    """OSError, where root is about to follow a link that somebody else may have put there."""
    for path in paths:
        real(path)


def _walk(path: Path, folders: int | None) -> tuple[int, Path]:
    """`enter` for root, whose rights others would like to borrow: from folder to folder, by handle.

    A link is followed where only root can have made it. From the first folder on that somebody else may write to, none is: its
    owner can put there whatever leads to /etc, move what is there, and do so between two looks. So /var/lib/roundsman, root's
    own link in root's own folder, is followed, and the folder of the service that it leads to is the end of that. (In a folder
    such as /tmp everybody may make links, and nobody may touch root's.)
    """
    folder, there, trusted, links = os.open("/", _ENTER), Path("/"), True, 0
    left = [*reversed(path.absolute().parts)]
    try:
        while True:
            name = left.pop()
            owner = os.fstat(folder)
            try:
                found = os.lstat(name, dir_fd=folder)
            except FileNotFoundError:
                if not left:
                    return folder, there / name
                if folders is None:
                    raise
                _make_folder(folder, name, folders if len(left) == 1 else 0o777)
                found = os.lstat(name, dir_fd=folder)
            shared = owner.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
            sticky = owner.st_mode & stat.S_ISVTX and found.st_uid == 0
            trusted = trusted and owner.st_uid == 0 and bool(not shared or sticky)
            if stat.S_ISLNK(found.st_mode):
                links += 1
                _may_follow(trusted, links)
                left += reversed(Path(os.readlink(name, dir_fd=folder)).parts or (".",))
            elif left:
                inner = os.open(name, _ENTER, dir_fd=folder)
                os.close(folder)
                folder, there = inner, there / name
            else:
                return folder, there / name
    except BaseException as exc:
        os.close(folder)
        if isinstance(exc, OSError):
            exc.filename = str(there / name)
        raise


def _may_follow(trusted: bool, links: int) -> None:
    if not trusted:
        raise OSError(errno.ELOOP, "it is a link in a folder that is not root's alone")
    if links > LINKS:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))


def _make_folder(folder: int, name: str, mode: int) -> None:
    with suppress(FileExistsError):  # somebody else was quicker
        os.mkdir(name, mode, dir_fd=folder)
        if owner := _owner(folder):
            with suppress(OSError):
                os.chown(name, *owner, dir_fd=folder, follow_symlinks=False)


def make_at(folder: int, path: Path, flags: int, mode: int) -> tuple[int, bool]:
    """Open a file of ours in its folder, or make it; its handle, and whether it is new. OSError where it is no file: a link, say.

    What root makes in somebody's folder is theirs: a command with sudo must not lock the service out of its own files.
    """
    # Without O_NONBLOCK, a FIFO that somebody puts there would hold us up until somebody writes to it.
    flags |= os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        try:
            handle, new = os.open(path.name, flags | os.O_CREAT | os.O_EXCL, mode, dir_fd=folder), True
        except FileExistsError:
            if flags & os.O_EXCL:
                raise
            handle, new = os.open(path.name, flags, mode, dir_fd=folder), False
        try:
            require_file(handle)
            if new and (owner := _owner(folder)):
                with suppress(OSError):  # where root may not, on a network's disk or in a container
                    os.fchown(handle, *owner)
        except BaseException:
            os.close(handle)
            raise
    except OSError as exc:
        exc.filename = str(path)
        raise
    return handle, new


def require_file(handle: int) -> None:
    """OSError, where something that is no file has a file's name: a FIFO, say."""
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        raise OSError(errno.EINVAL, "it is not a file")


def _owner(folder: int) -> tuple[int, int] | None:
    """Whom to give what root makes in this folder; None where it may stay as it is."""
    owner = os.fstat(folder)
    return (owner.st_uid, owner.st_gid) if os.geteuid() == 0 and owner.st_uid != 0 else None


def make(path: Path, flags: int, mode: int) -> tuple[int, bool]:
    """`make_at`, by the whole path."""
    folder, path = enter(path)
    try:
        return make_at(folder, path, flags, mode)
    finally:
        os.close(folder)


@contextmanager
def reading(folder: int) -> Iterator[int]:
    """A handle of a folder by which it can also be read and synced."""
    handle = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
    try:
        yield handle
    finally:
        os.close(handle)


def sync_folder(folder: Path) -> None:
    """A new name in this folder survives a power cut."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
