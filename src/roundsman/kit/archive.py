"""Reads an untrusted tar archive as a stream: its names, sizes and contents are not trusted.

Nothing is extracted. Only regular files are read, one at a time; links, devices and folders are skipped;
names are never used as paths. What is too large ends the reading before it is in memory.
"""

import gzip
import tarfile
import tempfile
import zlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import IO, Annotated

from pydantic import Field

from roundsman.errors import Oversized, Unreadable
from roundsman.options.values import Options, Size

BLOCK = 512
"""Bytes of a tar header; everything is padded to a multiple of them."""
LARGE = 1024 * 1024
"""A file of more bytes than this is read in pieces."""
PIECE = 64 * 1024
IN_MEMORY = 1024 * 1024
"""Up to this many bytes, a compressed archive is in memory; a larger one is in a nameless temporary file."""
WITHOUT_DATA = frozenset(
    {tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE}
)
"""Kinds of entries that carry no data, whatever size their header claims."""
FILES = frozenset({tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE})


class Limits(Options):
    """`limits`: the largest archive that is read."""

    packed: Size = 64 * 2**20
    """Maximum bytes to download."""
    unpacked: Size = 1024 * 2**20
    """Maximum bytes after decompression; they are read as a stream, never held."""
    member: Size = 16 * 2**20
    """Maximum bytes of one operation's result, which is held in memory; a file may contain many results."""
    members: Annotated[int, Field(ge=1)] = 1_000_000
    """Maximum entries in the archive."""


@dataclass(frozen=True, slots=True)
class Member:
    """One file of an archive."""

    name: str
    """The name in the archive; it may be any text."""
    body: bytes
    """The whole content, if the file is small."""
    rest: "Iterator[bytes] | None" = None
    """The content in pieces, if the file is large; unread pieces are skipped before the next file."""


async def fetch(pieces: AsyncIterator[bytes], limits: Limits) -> IO[bytes]:
    """The whole compressed archive, in memory or a nameless file. The caller closes it."""
    file = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115 - the caller closes it
    size = 0
    try:
        async for piece in pieces:
            size += len(piece)
            if size > limits.packed:
                raise Oversized(f"the archive is larger than limits.packed ({limits.packed} bytes)")  # noqa: TRY301 - handled like any other fault
            file.write(piece)
    except BaseException:
        file.close()
        raise
    file.seek(0)
    return file


def members(packed: IO[bytes], limits: Limits) -> Iterator[Member]:
    """The files in a tar archive, gzipped or not. Raises `Unreadable` if damaged, `Oversized` if too big."""
    try:
        yield from _members(packed, limits)
    except (OSError, EOFError, zlib.error, tarfile.HeaderError) as exc:
        raise Unreadable(f"the archive is damaged: {exc}") from None


def _members(packed: IO[bytes], limits: Limits) -> Iterator[Member]:
    zipped = packed.read(2) == b"\x1f\x8b"
    packed.seek(0)
    stream = _Counted(gzip.GzipFile(fileobj=packed, mode="rb") if zipped else packed, limits.unpacked)
    count = 0
    while True:
        header = stream.read(BLOCK)
        if header == tarfile.NUL * BLOCK or (not header and zipped and count):
            return  # gzip's checksum proves that an archive without an end mark is complete
        if len(header) < BLOCK:
            raise Unreadable("the archive is damaged: it ends in the middle")
        # Only the plain header is read. Extended headers (a longer name, for example) are skipped like
        # everything that is not a file: with them, an archive can make a reader hold too much in memory.
        info = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
        count += 1
        if count > limits.members:
            raise Oversized(f"the archive has more than limits.members ({limits.members}) entries")
        if info.size < 0:
            raise Unreadable("the archive is damaged: a size under zero")
        name = info.name.encode("utf-8", "replace").decode()
        if info.type not in FILES:
            stream.skip(0 if info.type in WITHOUT_DATA else info.size)
        elif info.size > min(LARGE, limits.member):
            left = _Left(stream, info.size)
            yield Member(name, b"", left.pieces())
            stream.skip(left.size, after=info.size - left.size)
        else:
            body = stream.read(info.size)
            if len(body) < info.size:
                raise Unreadable("the archive is damaged: it ends in the middle")
            stream.skip(0, after=info.size)
            yield Member(name, body)


class _Left:
    """The unread rest of a large file."""

    def __init__(self, stream: "_Counted", size: int) -> None:
        self._stream = stream
        self.size = size

    def pieces(self) -> Iterator[bytes]:
        while self.size:
            piece = self._stream.read(min(self.size, PIECE))
            if not piece:
                raise Unreadable("the archive is damaged: it ends in the middle")
            self.size -= len(piece)
            yield piece


class _Counted:
    """Counts the decompressed bytes, and stops at the limit."""

    def __init__(self, stream: IO[bytes] | gzip.GzipFile, most: int) -> None:
        self._read = stream.read
        self._most = most
        self._left = most

    def read(self, size: int) -> bytes:
        self._left -= size
        if self._left < 0:
            raise Oversized(f"the archive unpacks to more than limits.unpacked ({self._most} bytes)")
        return self._read(size)

    def skip(self, size: int, *, after: int = 0) -> None:
        """Skip `size` bytes and the padding after them (and after the `after` bytes read before)."""
        left = size + -(size + after) % BLOCK
        if left > self._left:
            self.read(left)  # raises Oversized before anything is decompressed
        while left:
            piece = self.read(min(left, 65536))
            if not piece:
                raise Unreadable("the archive is damaged: it ends in the middle")
            left -= len(piece)
