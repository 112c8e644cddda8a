"""Reads an untrusted tar archive as a stream: its names, sizes and contents are not trusted.

Nothing is extracted. Only regular files are read, one at a time; links, devices and folders are skipped;
names are never used as paths. What is too large ends the reading before it is in memory.
"""

import re
import tarfile
import tempfile
import zlib
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from functools import partial
from typing import IO, Annotated, NamedTuple
from zlib import adler32

from pydantic import Field

from roundsman.errors import Oversized, Unreadable
from roundsman.options.values import Options, Size

BLOCK = 512
"""Bytes of a tar header; everything is padded to a multiple of them."""
LARGE = 1024 * 1024
"""A file of more bytes than this is read in pieces."""
PIECE = 64 * 1024
PACKED, UNPACKED = 32 * 1024, 256 * 1024
"""Bytes that are read, and maximum bytes that are unpacked from them, at a time: 1 ms of work."""
IDLE = 100
"""Pieces in a row that may unpack to nothing. More are an attempt to keep the reader busy."""
IN_MEMORY = 1024 * 1024
"""Up to this many bytes, a compressed archive is in memory; a larger one is in a nameless temporary file."""
WITHOUT_DATA = frozenset(
    {tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE}
)
"""Kinds of entries that carry no data, even if their header states a size."""
FILES = frozenset({tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE})
NAME = 100
"""Bytes of a name in a header."""
_NUMBER = rb"(?:[0-7]{7}[ \0]|[0-7]{6}[ \0]{2}|\0{8})"
_USUAL = re.compile(
    _NUMBER * 3 + rb"([0-7]{11})[ \0][0-7]{11}[ \0]([0-7]{6})[ \0]{2}0.{172}" + _NUMBER * 2 + rb"\0",
    re.DOTALL,
)
"""The header of a regular file after its name, as nearly all are; the groups are the size and the checksum.

`TarInfo` reads the same from it in ten times the time, and reads every header that looks different.
"""


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


class Member(NamedTuple):
    """One file of an archive."""

    title: bytes
    """The name in the archive, up to a zero byte; it may be any bytes."""
    body: bytes
    """The whole content, if the file is small."""
    rest: "Iterator[bytes | None] | None" = None
    """The content in pieces, if the file is large; unread pieces are skipped before the next file.

    None after each piece: a moment at which other tasks may run.
    """

    @property
    def name(self) -> str:
        """The name as text."""
        return (
            self.title.partition(b"\0")[0]
            .decode("utf-8", "surrogateescape")
            .encode("utf-8", "replace")
            .decode()
        )


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


def members(packed: IO[bytes], limits: Limits) -> Iterator[Member | None]:
    """The files in a tar archive, gzipped or not. Raises `Unreadable` if damaged, `Oversized` if too big.

    None after each piece that was unpacked: a moment at which other tasks may run.
    """
    try:
        yield from _members(packed, limits)
    except (OSError, tarfile.HeaderError) as exc:
        raise Unreadable(f"the archive is damaged: {exc}") from None


def _members(packed: IO[bytes], limits: Limits) -> Iterator[Member | None]:
    zipped = packed.read(2) == b"\x1f\x8b"
    packed.seek(0)
    stream = _Stream(packed, zipped, limits.unpacked)
    large = min(LARGE, limits.member)
    count = 0
    while True:
        if (member := stream.usual(large)) is not None:
            count = _counted(count, limits)
            yield member
            continue
        header = yield from stream.read(BLOCK)
        # gzip's checksum proves that an archive without an end mark is complete.
        ends = header == tarfile.NUL * BLOCK or (not header and zipped and count)
        if ends and not stream.damage:
            return
        if ends or len(header) < BLOCK:
            raise stream.broken()
        # Only the plain header is read. Extended headers (a longer name, for example) are skipped like
        # everything that is not a file: with them, an archive can make a reader hold too much in memory.
        info = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
        count, size = _counted(count, limits), info.size
        title = info.name.encode("utf-8", "surrogateescape")
        if size < 0:
            raise Unreadable("the archive is damaged: a size under zero")
        if info.type not in FILES:
            yield from stream.skip(0 if info.type in WITHOUT_DATA else size)
        elif size > large:
            left = _Left(stream, size)
            yield Member(title, b"", left.pieces())
            yield from stream.skip(left.size, after=size - left.size)
        else:
            body = yield from stream.read(size, -size % BLOCK)
            if len(body) < size:
                raise stream.broken()
            yield Member(title, body[:size])
            if len(body) < size + -size % BLOCK:
                raise stream.broken()


def _counted(count: int, limits: Limits) -> int:
    if count == limits.members:
        raise Oversized(f"the archive has more than limits.members ({limits.members}) entries")
    return count + 1


class _Left:
    """The unread rest of a large file."""

    def __init__(self, stream: "_Stream", size: int) -> None:
        self._stream = stream
        self.size = size

    def pieces(self) -> Iterator[bytes | None]:
        while self.size:
            piece = yield from self._stream.read(min(self.size, PIECE))
            if not piece:
                raise self._stream.broken()
            self.size -= len(piece)
            yield piece
            yield None


class _Stream:
    """Reads unpacked bytes, counts them, and stops at the limit."""

    def __init__(self, packed: IO[bytes], zipped: bool, most: int) -> None:
        pieces = self._unzipped(packed) if zipped else iter(partial(packed.read, UNPACKED), b"")
        self._next: Callable[[], bytes] = partial(next, pieces, b"")
        self._most = most
        self._left = most
        self._held, self._at = b"", 0
        self.damage = ""
        """Why not all of it can be unpacked, as soon as that is known: what precedes the damage counts."""

    def broken(self) -> Unreadable:
        return Unreadable(f"the archive is damaged: {self.damage or 'it ends in the middle'}")

    def usual(self, large: int) -> Member | None:
        """The next file, if its header is the usual one and all of it is held; else None, and nothing was read."""
        held, at = self._held, self._at
        found = _USUAL.match(held, at + NAME)
        if found is None:
            return None
        size = int(found[1], 8)
        begin = at + BLOCK
        end = begin + size + -size % BLOCK
        if size > large or end > len(held) or end - at > self._left:
            return None
        # The lower half of Adler-32 is one more than the sum of up to 256 bytes. The checksum counts as spaces.
        total = adler32(held[at : at + 148]) & 0xFFFF
        total += adler32(held[at + 156 : at + 412]) & 0xFFFF
        total += adler32(held[at + 412 : begin]) & 0xFFFF
        if total - 3 + 8 * ord(" ") != int(found[2], 8):
            return None
        self._at = end
        self._left -= end - at
        return Member(held[at : at + NAME], held[begin : begin + size])

    def read(self, size: int, after: int = 0) -> Generator[None, None, bytes]:
        """So many bytes and those `after` them; fewer at the end."""
        size += after
        if size > self._left:
            raise Oversized(f"the archive unpacks to more than limits.unpacked ({self._most} bytes)")
        self._left -= size
        end = self._at + size
        if end > len(self._held):
            yield from self._fill(size)
            end = self._at + size
        found = self._held[self._at : end]
        self._at += len(found)
        return found

    def skip(self, size: int, *, after: int = 0) -> Iterator[None]:
        """Skip `size` bytes and the padding after them (and after the `after` bytes read before)."""
        left = size + -(size + after) % BLOCK
        if left > self._left:
            yield from self.read(left)  # raises Oversized before anything is unpacked
        while left:
            piece = yield from self.read(min(left, PIECE))
            if not piece:
                raise self.broken()
            left -= len(piece)
            yield None

    def _fill(self, size: int) -> Iterator[None]:
        """Unpack until so many bytes are held, or the archive ends or is broken. None after each piece, or 100 small
        ones.
        """
        held = [self._held[self._at :]]
        size -= len(held[0])
        try:
            while size > 0 and (piece := self._next()):
                held.append(piece)
                size -= len(piece)
                if len(piece) >= BLOCK or len(held) % IDLE == 0:
                    yield None
        except (OSError, EOFError, zlib.error) as exc:
            self.damage = self.damage or str(exc)
        self._held, self._at = b"".join(held), 0

    def _unzipped(self, packed: IO[bytes]) -> Iterator[bytes]:
        """The content of a gzip file, which may have several parts, in pieces. zlib checks the checksums."""
        data, most, idle = packed.read(PACKED), UNPACKED, 0
        while data:
            inflate = zlib.decompressobj(zlib.MAX_WBITS + 16)
            while not inflate.eof:
                before = inflate.copy()
                try:
                    piece = inflate.decompress(data, most)
                except zlib.error as exc:
                    if most == 1:
                        raise
                    self.damage, inflate = str(exc), before
                    most = BLOCK if most > BLOCK else 1  # nearer and nearer to the damage
                    continue
                data, idle = inflate.unconsumed_tail, 0 if piece else idle + 1
                if piece:
                    yield piece
                elif idle > IDLE:
                    raise EOFError("it unpacks to nothing")
                elif not inflate.eof:
                    data = packed.read(PACKED)
                    if not data:
                        raise EOFError("it ends in the middle")
            data = inflate.unused_data.lstrip(b"\0")  # padding
            while not data and (more := packed.read(PACKED)):
                data = more.lstrip(b"\0")
