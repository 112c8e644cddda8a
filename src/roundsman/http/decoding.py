"""Decodes compressed bodies in small pieces, with a limit at every stage, without blocking the event loop.

It reads gzip (also with several members), deflate (with and without a zlib header) and stacks of them. brotli
and zstd, which are never requested, are named in the error.
"""

import asyncio
import codecs
import re
import zlib
from collections.abc import AsyncIterable, Iterator, Sequence

PIECE = 64 * 1024
"""Maximum bytes that one step decompresses."""
TURN = 16
"""Steps between two returns to the event loop: about a millisecond."""
SIP = 4096
"""Bytes fed into a stage at once: zlib copies the rest of them, once for each member of a gzip file."""
MEMBERS = 10_000
"""Maximum members of a gzip file: a small body could hold millions of empty ones."""
UNSEEN = 2**20
"""Maximum bytes that a stage decompresses for a `Beginning`: a small body could hold gigabytes of nothing."""
STAGES = 3
"""Maximum codings in a stack."""
PLAIN = frozenset({"", "identity", "none", "binary", "8bit", "7bit", "utf-8", "utf8"})
"""Values that servers send if nothing is compressed; of these, only identity is a coding."""
NAMED = frozenset({"br", "zstd", "compress", "dcb", "dcz"})
"""Codings that an error may name. Any other name is text from the server."""
_CHARSET = re.compile(r";\s*charset\s*=\s*\"?([A-Za-z0-9._:-]{1,40})", re.IGNORECASE)


class Undecodable(Exception):
    """The body does not match its headers, as the message explains."""


class TooMuch(Exception):
    """A body is larger than the limit after decompression, or between two stages of it."""


async def read(body: AsyncIterable[bytes], coding: str, limit: int) -> bytes:
    """The decoded body. Raises TooMuch if it has more than `limit` bytes, Undecodable if it is damaged."""
    stages: list[_Inflate] | None = None
    whole = bytearray()
    steps = 0
    async for piece in body:
        if stages is None:  # an empty body is complete with any Content-Encoding
            stages = [_stage(name, limit) for name in reversed(_names(coding))]
        for out in _through(stages, piece):
            whole += out
            if len(whole) > limit:
                raise TooMuch
            steps += 1
            if steps % TURN == 0:
                await asyncio.sleep(0)
    for stage in stages or ():
        stage.end()
    return bytes(whole)


class Beginning:
    """The first bytes of a body, decoded as they come. What follows is not decoded."""

    def __init__(self, coding: str, limit: int) -> None:
        self._coding = coding
        self._limit = limit
        self._stages: list[_Inflate] | None = None
        self._kept = bytearray()
        self._damaged = False

    def feed(self, piece: bytes) -> None:
        """The next bytes of the body."""
        if self._damaged or len(self._kept) >= self._limit:
            return
        try:
            if self._stages is None:
                self._stages = [_stage(name, UNSEEN) for name in reversed(_names(self._coding))]
            for out in _through(self._stages, piece):
                self._kept += out
                if len(self._kept) >= self._limit:
                    break
        except (Undecodable, TooMuch):
            self._damaged = True

    def read(self, *, ended: bool) -> bytes:
        """At most `limit` bytes; none if the body is damaged, or if it did not end before that many were there."""
        whole = ended or len(self._kept) >= self._limit
        return bytes(self._kept[: self._limit]) if whole and not self._damaged else b""


def _names(coding: str) -> list[str]:
    """The codings in the order in which they were applied."""
    names = [name for part in coding.lower().split(",") if (name := part.strip()) not in PLAIN]
    if len(names) > STAGES:
        raise Undecodable("is compressed several times over")
    return names


def _stage(name: str, limit: int) -> "_Inflate":
    if name in {"gzip", "x-gzip"}:
        return _Inflate(31, limit)
    if name == "deflate":
        return _Inflate(15, limit)
    known = name if name in NAMED else "a coding that we do not know"
    raise Undecodable(f"is compressed with {known} although gzip was asked for")


def _through(stages: "Sequence[_Inflate]", piece: bytes) -> Iterator[bytes]:
    """The output of the last stage for one piece that is fed into the first.

    A stage yields at most `PIECE` bytes at a time; b"" for a step that only it or an earlier stage consumed.
    """
    if not stages or not piece:
        yield piece
        return
    for out in stages[0].feed(piece):
        yield from _through(stages[1:], out)


class _Inflate:
    """One stage: gzip, zlib or raw deflate."""

    def __init__(self, bits: int, limit: int) -> None:
        self._bits = bits
        self._flow = zlib.decompressobj(bits)
        self._begun = False
        self._left = limit
        """Bytes of output that are still allowed."""
        self._ended = False
        self._members = 1

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """The output, step by step; b"" for a step that only consumed input."""
        for begin in range(0, len(piece), SIP):
            yield from self._feed(piece[begin : begin + SIP])

    def _feed(self, piece: bytes) -> Iterator[bytes]:
        while True:
            if self._ended:
                if self._bits != 31 or not piece.strip(b"\0"):
                    return  # padding, or garbage after the end
                self._members += 1
                if self._members > MEMBERS:
                    raise Undecodable(f"is a gzip file of more than {MEMBERS} members")
                self._flow, self._ended = zlib.decompressobj(31), False  # the next member of a gzip file
            out = self._step(piece)
            self._left -= len(out)
            if self._left < 0:
                raise TooMuch
            yield out
            if self._flow.eof:
                self._ended, piece = True, self._flow.unused_data
            else:
                piece = self._flow.unconsumed_tail
                if not piece and len(out) < PIECE:
                    return

    def _step(self, piece: bytes) -> bytes:
        """At most `PIECE` bytes of output. If it is as many, there may be more although no input is left."""
        try:
            out = self._flow.decompress(piece, PIECE)
        except zlib.error:
            if self._bits == 15 and not self._begun:  # "deflate" without the zlib header that it should have
                self._bits, self._flow = -15, zlib.decompressobj(-15)
                return self._step(piece)
            raise Undecodable("does not decompress") from None
        self._begun = self._begun or bool(piece)
        return out

    def end(self) -> None:
        """The input has ended. Raises Undecodable if the output is not complete."""
        if not self._ended:
            raise Undecodable("does not decompress: it ends in the middle")


def utf8(body: bytes, content_type: str) -> bytes:
    """A text body as UTF-8, from the charset that its Content-Type names. Raises Undecodable if that fails.

    A byte order mark comes first. The charset counts only if the body is not UTF-8, or if it is UTF-16 or
    UTF-32 and the body has NUL bytes: JSON is UTF-8, also if a server's default label differs.
    """
    mark = next((name for bom, name in _BOMS if body.startswith(bom)), None)
    found = _CHARSET.search(content_type)
    named = found[1].lower() if found else ""
    wide = named.replace("-", "").startswith(("utf16", "utf32", "ucs"))
    if mark is None and not (wide and b"\0" in body):
        if body.isascii() or named.replace("-", "") in {"", "utf8", "usascii", "ascii"}:
            return body  # the JSON reader accepts broken UTF-8
        try:
            body.decode("utf-8")
        except UnicodeDecodeError:
            pass
        else:
            return body
    try:
        codec = codecs.lookup(mark or named)
        text = body.decode(codec.name) if getattr(codec, "_is_text_encoding", True) else None
    except (LookupError, UnicodeDecodeError, ValueError):
        text = None
    if text is None:
        raise Undecodable(f"is not text in {mark or 'the charset that it names'}")
    return text.removeprefix("\ufeff").encode("utf-8", "surrogatepass")


_BOMS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
