"""A disk that loses what was not synced: what a process did to its files, played back up to any moment.

`disk.c` records; `Disk` plays back. The model is that of a journalling file system (ext4, xfs): what was written survives a power
cut for certain once the file was synced; its name does, once the file or its folder was. All else survives sector by sector, by
chance, or not at all.
"""

import os
import random
import shutil
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

SECTOR = 512
HERE = Path(__file__).parent
HEAD = struct.Struct("<cQqII")


def library(folder: Path) -> Path | None:
    """The recorder, compiled; None where there is no compiler."""
    if shutil.which("cc") is None:
        return None
    made = folder / "disk.so"
    if not made.exists():
        command = ["cc", "-shared", "-fPIC", "-O2", "-o", str(made), str(HERE / "disk.c"), "-ldl"]
        subprocess.run(command, check=True, capture_output=True)
    return made


class Change(NamedTuple):
    kind: str
    """w written, t cut, s file synced, d folder synced, m moved, u unlinked."""
    inode: int
    at: int
    path: str
    data: bytes
    end: int
    """Where the record ends in the log: a moment, for who notes its size."""


def changes(log: Path) -> list[Change]:
    found, body, at = [], log.read_bytes(), 0
    while at + HEAD.size <= len(body):
        kind, inode, position, name, size = HEAD.unpack_from(body, at)
        at += HEAD.size
        path, data = body[at : at + name].decode(), body[at + name : at + name + size]
        at += name + size
        found.append(Change(kind.decode(), inode, position, path, data, at))
    return found


@dataclass
class File:
    disk: bytearray = field(default_factory=bytearray)
    """What is surely there."""
    pending: list[Change] = field(default_factory=list)
    linked: bool = False
    """Whether it has a name at present."""


class Disk:
    """The files below a folder, as they were on the disk and in memory, change by change."""

    def __init__(self, root: Path) -> None:
        self.root = str(root)
        self.names: dict[str, File] = {}
        """In memory."""
        self.surely: dict[str, File] = {}
        """On the disk."""
        self._files: dict[int, File] = {}
        self.inodes: dict[str, int] = {}
        """The recorded inode by the name in memory."""

    def play(self, change: Change) -> None:
        match change.kind:
            case "w" | "t":
                self._at(change).pending.append(change)
            case "s":
                file = self._at(change)
                for each in file.pending:
                    _apply(file.disk, each)
                file.pending.clear()
                self._keep_name(change.path, file)
            case "d":
                folder = change.path
                for kept in [name for name in self.surely if name.rpartition("/")[0] == folder]:
                    del self.surely[kept]
                self.surely |= {n: f for n, f in self.names.items() if n.rpartition("/")[0] == folder}
            case "m":
                target = change.data.decode()
                if (file := self.names.pop(change.path, None)) is not None:
                    self._forget(target)
                    self.names[target] = file
                    self.inodes[target] = self.inodes.pop(change.path, change.inode)
            case "u":
                self._forget(change.path)

    def _at(self, change: Change) -> File:
        file = self._files.get(change.inode)
        if file is None or not file.linked:  # inodes are used again
            file = self._files[change.inode] = File(linked=True)
        if self.names.get(change.path) is not file and file not in self.names.values():
            self._forget(change.path)
            self.names[change.path] = file
            self.inodes[change.path] = change.inode
        return file

    def _forget(self, path: str) -> None:
        file = self.names.pop(path, None)
        self.inodes.pop(path, None)
        if file is not None:
            file.linked = False

    def _keep_name(self, path: str, file: File) -> None:
        name = next((each for each, found in self.names.items() if found is file), None)
        if name is not None:
            for old in [each for each, found in self.surely.items() if found is file]:
                del self.surely[old]
            self.surely[name] = file

    def after_a_cut(self, chance: random.Random | None) -> Iterator[tuple[str, bytes]]:
        """The files that are left, by their paths; without `chance`, nothing survives that was not synced."""
        names = self.surely
        if chance is not None and chance.random() < 0.5:
            names = self.names
        for path, file in names.items():
            body = bytearray(file.disk)
            for change in file.pending if chance is not None else ():
                for part in _sectors(change):
                    if chance is not None and chance.random() < 0.6:
                        _apply(body, part)
            yield os.path.relpath(path, self.root), bytes(body)


def _apply(body: bytearray, change: Change) -> None:
    if change.kind == "t":
        del body[change.at :]
        body.extend(bytes(change.at - len(body)))
        return
    if len(body) < change.at:
        body.extend(bytes(change.at - len(body)))
    body[change.at : change.at + len(change.data)] = change.data


def _sectors(change: Change) -> Iterator[Change]:
    if change.kind == "t":
        yield change
        return
    for begin in range(0, len(change.data), SECTOR):
        yield change._replace(at=change.at + begin, data=change.data[begin : begin + SECTOR])
