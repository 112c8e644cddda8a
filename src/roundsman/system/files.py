"""Files and folders: owners, links, syncing to the disk, and free space."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

LINKS = 40
"""Maximum links on the way to a file; the kernel's limit is the same."""
_ENTER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
"""Flags to pass through a folder, which needs fewer rights than reading it: root may lack capabilities."""


class Space(NamedTuple):
    """The space of a file system, in bytes."""

    free: int
    """Free for us: blocks that are reserved for root do not count."""
    total: int


def is_there(path: Path) -> bool:
    """Whether there is such a file or folder. OSError if that cannot be known: `Path.exists` says no to that from Python 3.14 on."""
    try:
        path.stat()
    except OSError as exc:
        if exc.errno not in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}:
            raise
        return False
    return True


def space(path: Path) -> Space:
    """The space of the file system that `path` is on, or would be."""
    status = os.statvfs(next(p for p in (path, *path.absolute().parents) if is_there(p)))
    return Space(status.f_bavail * status.f_frsize, status.f_blocks * status.f_frsize)


def resolve(path: Path, folders: int | None = None) -> Path:
    """A file's path with links resolved; `folders` is the mode with which a missing folder of it is created.

    Raises OSError if root would follow a link that another user may have created.
    """
    if os.geteuid() == 0:
        folder, path = _descend(path, folders)
        os.close(folder)
        return path
    path = Path(os.path.realpath(path))
    if folders is not None:
        path.parent.mkdir(folders, parents=True, exist_ok=True)
    return path


def open_folder(path: Path, folders: int | None = None) -> tuple[int, Path]:
    """As `resolve`, with a handle of the file's folder. What is done by name with the handle happens in that
    folder, even if the path to it changes.
    """
    if os.geteuid() == 0:
        return _descend(path, folders)
    path = resolve(path, folders)
    return os.open(path.parent, _ENTER), path


def refuse_links(*paths: Path) -> None:
    """Raises OSError if root is about to follow a link that another user may have created."""
    for path in paths:
        resolve(path)


def _descend(path: Path, folders: int | None) -> tuple[int, Path]:
    """`open_folder` for root: it opens each folder by handle, so that no other user can borrow root's rights.

    A link is followed only if root alone can have created it. After the first folder that another user may
    write to, no link is followed: its owner can link to /etc or move what is there, even between two checks.
    So /var/lib/roundsman, root's own link in root's own folder, is followed, but no link in the service's
    folder that it leads to. (In a sticky folder such as /tmp all users may create links, but not replace
    root's.)
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
    with suppress(FileExistsError):  # another process created it meanwhile
        os.mkdir(name, mode, dir_fd=folder)
        if owner := _owner(folder):
            with suppress(OSError):
                os.chown(name, *owner, dir_fd=folder, follow_symlinks=False)


def create_at(folder: int, path: Path, flags: int, mode: int) -> tuple[int, bool]:
    """Open one of our files in its folder, or create it. Returns its handle, and whether it is new. Raises
    OSError if it is not a regular file but a link, for example.

    Root's new files in another user's folder are given to that user: a command with sudo must not lock the
    service out of its own files.
    """
    # Without O_NONBLOCK, opening a FIFO in place of the file would block until another process opens it.
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
                with suppress(OSError):  # root may not do it on a network disk or in a container
                    os.fchown(handle, *owner)
        except BaseException:
            os.close(handle)
            raise
    except OSError as exc:
        exc.filename = str(path)
        raise
    return handle, new


def require_file(handle: int) -> None:
    """Raises OSError if the handle is not of a regular file but of a FIFO, for example."""
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        raise OSError(errno.EINVAL, "it is not a file")


def _owner(folder: int) -> tuple[int, int] | None:
    """The user and group to give root's new files in this folder to; None if they may stay root's."""
    owner = os.fstat(folder)
    return (owner.st_uid, owner.st_gid) if os.geteuid() == 0 and owner.st_uid != 0 else None


def create(path: Path, flags: int, mode: int) -> tuple[int, bool]:
    """`create_at`, by the whole path."""
    folder, path = open_folder(path)
    try:
        return create_at(folder, path, flags, mode)
    finally:
        os.close(folder)


@contextmanager
def reading(folder: int) -> Iterator[int]:
    """A handle with which a folder can also be read and synced."""
    handle = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
    try:
        yield handle
    finally:
        os.close(handle)


def sync_folder(folder: Path) -> None:
    """Sync the folder, so that a new name in it survives a power cut."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
