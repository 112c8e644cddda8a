"""Splits JSON that arrives in pieces into the objects of its list, without the list in memory."""

import re
from collections.abc import Iterable, Iterator

import msgspec

from roundsman.errors import Overlong, Unreadable

_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_REST = rb'[^"\\]*+(?:\\.[^"\\]*+)*+("?)'
_TOKEN = re.compile(b'"' + _REST + rb"|[\[\]{},]", re.DOTALL)
"""Strings and structure; between them are numbers, words and blanks. The group is empty if a string is cut.

It never reads a byte twice: otherwise an unterminated string would take hours.
"""
_STRING_ON = re.compile(_REST, re.DOTALL)
"""The rest of a string that began in the previous piece."""


def stream(pieces: Iterable[bytes | None], largest: int) -> Iterator[bytes | None]:
    """The objects of a list, or of several documents in a row, that arrives in pieces. One object and one piece
    are held at a time, and no byte is read more than twice. A None among the pieces is passed on.

    Raises `Overlong` if an object has more than `largest` bytes and does not end in the piece in which it begins,
    `Unreadable` if there is no object, if other text follows the last one, or if the input ends early.
    """
    held, at, begin = bytearray(), 0, -1
    depth = around = 0
    inside = found = False
    for piece in pieces:
        if piece is None:
            yield None
            continue
        held += piece
        read = 0  # the end of the last token: what follows it is held, and is not searched again
        if inside:
            read, inside = _string_on(held, at)
            at = read
        more, tried = not inside, False
        while more:
            more = False
            if begin < 0 and not tried:
                tried = True
                whole, opened, at = _whole(held, at)
                if whole:
                    around, found, read = around + opened, True, at
                    yield from whole
            for token in _TOKEN.finditer(held, at):
                mark, at = token[0], token.end()
                read = at
                if mark[:1] == b'"':
                    inside = not token[1]
                elif mark in {b"{", b"["}:
                    # A bracket of a list around the objects is not part of any object.
                    if begin < 0 and mark == b"{":
                        begin, depth = token.start(), 0
                    depth += begin >= 0
                    around += begin < 0
                elif mark == b",":
                    continue
                elif begin < 0:
                    around -= 1
                else:
                    depth -= 1
                    if depth == 0:
                        yield bytes(held[begin:at])
                        begin, found, more = -1, True, not tried
                        if more:
                            break
        keep = read if begin < 0 else begin
        at, begin = (read if inside else len(held)) - keep, min(begin, 0)
        del held[:keep]
        if len(held) > largest:
            raise Overlong
    if begin >= 0 or inside or around > 0 or held.strip(b" \t\r\n,]"):
        raise Unreadable("ends in the middle")
    if not found:
        raise Unreadable("holds no objects")


def _string_on(held: bytearray, at: int) -> tuple[int, bool]:
    """How far the string that `at` is in goes, and whether it goes on: a backslash at the end waits for its byte."""
    rest = _STRING_ON.match(held, at)
    assert rest is not None  # it matches anything
    return rest.end(), not rest[1]


def _whole(held: bytearray, at: int) -> tuple[list[bytes], int, int]:
    """The objects of a list from `at` on but the last, the brackets that open before them, and their end.

    None if it is not a plain list of objects: then the caller reads on from `at`. Where the last one begins is a
    guess. JSON that ends inside a string or another object is broken, so that a wrong guess shows.
    """
    begin = held.find(b"{", at)
    end = max(held.rfind(b'},{"', at), held.rfind(b'}, {"', at)) + 1
    if not 0 <= begin < end:
        return [], 0, at
    before = bytes(held[at:begin]).strip(b" \t\r\n,")
    if before not in {b"", b"["}:
        return [], 0, at
    try:
        found = [bytes(raw) for raw in _decode_list(b"[%b]" % bytes(held[begin:end]))]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return [], 0, at
    if not all(raw[:1] == b"{" for raw in found):
        return [], 0, at
    return found, len(before), end
