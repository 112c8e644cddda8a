"""JSON in and out: fast for valid input, lenient for broken input, and never a newline inside a document.

A fault in one row of a list (NaN, a number that no JSON reader takes, a thousand levels of brackets) concerns
that row only: it is read as far as possible, or returned as its raw bytes, and the others are read.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any, NamedTuple, cast

import msgspec
from msgspec import structs

from roundsman.errors import Failed, NoRows, Unreadable


def plain_time(value: Any) -> Any:
    """An `enc_hook`: msgspec takes no subclasses of datetime and int, and a plugin may have one."""
    if isinstance(value, int):
        return int(value)
    if isinstance(value, datetime):
        return datetime.combine(value.date(), value.timetz())
    raise TypeError(f"Encoding objects of type {type(value).__name__} is unsupported")


_encode = msgspec.json.Encoder(enc_hook=plain_time).encode
_decode = msgspec.json.Decoder().decode
_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class _AnyObject(msgspec.Struct):
    """An object whose members are checked and not kept."""


_check_object = msgspec.json.Decoder(_AnyObject).decode

DEPTH = 60
"""Maximum levels of nesting that are read: common JSON readers stop at 64, and an event adds some."""
DIGITS = 300
"""Maximum digits of an integer that is read: more than a double's precision, fewer than readers refuse."""
SLOWLY = 8 * 2**20
"""Maximum bytes of a broken answer that are searched for rows: the search blocks the event loop."""
TURN = 250
"""Unreadable rows that are read before other tasks may run: some 3 ms."""
NO_ROWS = frozenset({"error", "errors", "warning", "warnings", "messages"})
"""Members of an envelope that are never the list of rows, even if there is no other list."""
NOTHING = frozenset({b"", b"null", b"false", b'""', b"[]", b"{}", b"0"})
"""Values of a member that mean that there is nothing in it."""
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+("?)|[\[\]{},]', re.DOTALL)
"""Strings and structure; between them are numbers, words and blanks. The group is empty if a string is cut.

It never reads a byte twice: otherwise an unterminated string would take hours.
"""

Item = tuple[dict[str, Any], msgspec.Raw]
"""One object of a list: decoded, and its bytes."""


class Damage(NamedTuple):
    """What could not be read in a list of rows."""

    raw: bytes
    """The row as it came."""
    why: str
    told: bool = True
    """Whether the rest of the row was read."""
    rest: bytes = b""
    """The part that was read, as JSON."""


def encode(document: Any) -> bytes:
    """The document as JSON in one line. Lone surrogates, which UTF-8 cannot encode, are spelled out."""
    try:
        return _encode(document)
    except UnicodeEncodeError:
        return _encode(_clean(document))


def decode(body: bytes | msgspec.Raw) -> Any:
    """The document in `body`.

    Input that msgspec refuses but servers send (lone surrogates, a byte order mark, broken UTF-8, NaN, too
    many levels) is read by a slower reader. Raises `Unreadable` if it is not JSON at all.
    """
    try:
        return _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _lenient(bytes(body))[0]


def is_line(body: bytes) -> bool:
    """Whether it is a JSON object in one line."""
    if b"\n" in body:
        return False
    try:
        if not body.isascii():
            body.decode()  # what is skipped is not checked
        _check_object(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        try:  # lone surrogates, which JSON can spell
            return isinstance(json.loads(body.decode(), parse_constant=_no_number), dict)
        except (ValueError, RecursionError):
            return False
    return True


def _no_number(name: str) -> Any:
    raise ValueError(name)


def line(body: bytes) -> Any:
    """The object in `body` for use in another document: its own bytes in one line, or decoded if refused."""
    body, _ = _shallow(body)
    decoded = decode(body)
    try:
        _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return decoded
    return (
        msgspec.Raw(msgspec.json.format(body, indent=-1))
        if b"\n" in body or b"\r" in body
        else msgspec.Raw(body)
    )


def each(body: bytes, path: str = "", damaged: list[Damage] | None = None) -> Iterator[Item]:
    """The objects of a list answer: a bare array, or the only list in an envelope (or the one at `path`).

    One is decoded at a time: a thousand decoded rows of a page take 3 MB, and three times as long.
    With `damaged`, rows that cannot be read, or only in part, are appended to it and the others are returned.
    Raises `NoRows` if there are rows and none can be read as an object, or if one cannot and `damaged` is
    None. Raises `Unreadable` for text that is not JSON, and for an envelope without a list, with several, or
    that states an error itself.
    """
    return filter(None, _each(body, path, damaged))


def _each(body: bytes, path: str, damaged: list[Damage] | None) -> Iterator[Item | None]:
    """The same. None after every `TURN` unreadable rows: a moment at which other tasks may run."""
    body = body.removeprefix(b"\xef\xbb\xbf")
    try:
        if not path and body.lstrip(b" \t\r\n")[:1] == b"[":
            raws = _decode_list(body)
        else:
            raws = _decode_list(_list_in(body, path))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raws = [msgspec.Raw(raw) for raw in _rows_in(body, path)]
    except Unreadable:
        refuse_failure(decode(body))
        raise
    found = 0
    wrong: list[Damage] = []
    lines = b"\n" in body or b"\r" in body
    for position, raw in enumerate(raws):
        plain = bytes(raw)
        if not lines and plain.count(b"[") + plain.count(b"{") <= DEPTH:  # the common case
            try:
                row = _decode(plain)
            except (msgspec.DecodeError, UnicodeDecodeError):
                pass
            else:
                if type(row) is dict:
                    found += 1
                    yield row, raw
                    continue
        try:
            row, clean, why = _item(raw)
        except Unreadable as exc:
            row, clean, why = None, raw, str(exc).replace("the answer", f"item {position} of the list")
        if not isinstance(row, dict):
            why = why or f"item {position} of the list is {_kind(row)}, not an object"
            wrong.append(Damage(bytes(raw), why, told=False))
            if len(wrong) % TURN == 0:
                yield None
            continue
        clean = _one_line(clean, row) if lines else clean
        if why:
            wrong.append(Damage(bytes(raw), f"item {position} of the list {why}", rest=bytes(clean)))
        found += 1
        yield row, clean
    if found < len(raws) and (damaged is None or not found):
        raise NoRows(next(fault.why for fault in wrong if not fault.told), wrong)
    if damaged is not None:
        damaged += wrong
    if not raws and body.lstrip()[:1] == b"{":
        refuse_failure(decode(body))


def refuse_failure(document: Any) -> None:
    """Raises `Failed` if an answer with a status of success states an error itself."""
    if not isinstance(document, Mapping):
        return
    status = document.get("status")
    said = isinstance(status, str) and status.lower() in {"error", "fail", "failed", "failure"}
    codes = (document.get("code"), document.get("statusCode"), status)
    said = said or any(type(code) is int and 400 <= code < 600 for code in codes)
    said = said or any(document.get(name) is False for name in ("success", "ok"))
    if said or document.get("error") or document.get("errors"):
        raise Failed("the answer has a status of success and states an error")


def has_errors(body: bytes) -> bool:
    """Whether an answer that is an object has errors in it, beside anything else."""
    if b'"error' not in body or body.lstrip()[:1] != b"{":
        return False
    try:
        members = _decode_object(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    found = (bytes(members.get(name, b"")) for name in ("error", "errors"))
    return any(each not in NOTHING for each in found)


def envelope(body: bytes) -> dict[str, Any]:
    """The members of an answer that are not lists, if readable; empty if the answer is not an object."""
    body = body.removeprefix(b"\xef\xbb\xbf").strip()
    if body[:1] != b"{":
        return {}
    try:
        members: Mapping[str, Any] = _decode_object(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        try:
            members = dict(_members(body))
        except Unreadable:
            return {}
    found = {}
    for name, raw in members.items():
        if bytes(raw)[:1] != b"[":
            with suppress(Unreadable):
                found[name] = decode(raw)
    return found


def objects(body: bytes, damaged: list[Damage] | None = None) -> list[Item]:
    """The objects in `body`, which is one object or a list of them; an empty list if it is empty."""
    return list(filter(None, each_object(body, damaged)))


def each_object(body: bytes, damaged: list[Damage] | None = None) -> Iterator[Item | None]:
    """The same, one after the other. None after every `TURN` unreadable ones: other tasks may run."""
    body = body.strip().removeprefix(b"\xef\xbb\xbf").strip()
    if body:
        yield from _each(b"[" + body + b"]" if body[:1] == b"{" else body, "", damaged)


def _item(raw: msgspec.Raw) -> tuple[Any, msgspec.Raw, str]:
    """A row, the bytes of it to keep, and which part of it could not be read."""
    body, deep = _shallow(bytes(raw))
    why = f"has more than {DEPTH} levels; what is deeper is left out" if deep else ""
    try:
        return _decode(body), msgspec.Raw(body) if deep else raw, why
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        row, left_out = _lenient(body)
    if left_out:
        why = why or "has a number that JSON does not know, which is left out"
    elif _is_utf8(body):  # lone surrogates, for example, which JSON can spell
        return row, msgspec.Raw(body) if deep else raw, why
    return row, msgspec.Raw(_encode(row)), why


def _one_line(raw: msgspec.Raw, row: dict[str, Any]) -> msgspec.Raw:
    """The row's bytes without line breaks between its members."""
    try:
        return msgspec.Raw(msgspec.json.format(raw, indent=-1))
    except msgspec.DecodeError:  # lone surrogates, which msgspec does not read
        return msgspec.Raw(_encode(row))


def _is_utf8(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def _shallow(body: bytes) -> tuple[bytes, bool]:
    """JSON with null in place of what is nested too deeply, and whether there was any."""
    if body.count(b"[") + body.count(b"{") <= DEPTH:
        return body, False
    kept: list[bytes] = []
    depth = at = 0
    for token in _TOKEN.finditer(body):
        mark = token[0]
        if mark[:1] == b'"':
            if not token[1]:
                return body, False
        elif mark in b"[{":
            depth += 1
            if depth == DEPTH + 1:
                kept += [body[at : token.start()], b"null"]
        elif mark in b"]}":
            depth -= 1
            if depth == DEPTH:
                at = token.end()
    if not kept:
        return body, False
    return b"".join([*kept, body[at:]]), True


def _list_in(body: bytes, path: str) -> msgspec.Raw:
    """The bytes of the list inside an envelope."""
    at: msgspec.Raw | None = msgspec.Raw(body)
    if path:
        for step in path.split("."):
            try:
                at = _decode_object(at or b"").get(step)
            except msgspec.ValidationError:
                at = None
            if at is None:
                raise Unreadable(f"the answer has no {path}")
        if at is None or bytes(at)[:1] != b"[":
            raise Unreadable(f"{path} of the answer is not a list")
        return at
    try:
        members = _decode_object(body)
    except msgspec.ValidationError:
        raise Unreadable(f"the answer is {_kind(decode(body))}, not a list") from None
    lists = {name: raw for name, raw in members.items() if bytes(raw)[:1] == b"[" and name not in NO_ROWS}
    return cast("msgspec.Raw", _only(lists, members))


def _rows_in(body: bytes, path: str) -> list[bytes]:
    """The rows that `_list_in` finds, if the answer is not JSON: split by brackets, commas and strings."""
    if len(body) > SLOWLY:
        raise Unreadable(f"the answer is {_guess(body)}, not JSON")
    body = body.strip()
    for step in filter(None, path.split(".")):
        body = dict(_members(body)).get(step, b"") if body[:1] == b"{" else b""
        if not body:
            raise Unreadable(f"the answer has no {path}")
    if body[:1] == b"{" and not path:
        members = dict(_members(body))
        lists = {name: raw for name, raw in members.items() if raw[:1] == b"[" and name not in NO_ROWS}
        body = _only(lists, members)
    if body[:1] != b"[":
        raise Unreadable(f"the answer is {_kind(_lenient(body)[0])}, not a list")
    return [body[begin:end].strip() for begin, end in _parts(body)]


def _members(body: bytes) -> Iterator[tuple[str, bytes]]:
    for begin, end in _parts(body):
        member = body[begin:end].strip()
        key = _TOKEN.match(member)
        if key is not None and key[1]:
            yield key[0][1:-1].decode("utf-8", "replace"), member[key.end() :].lstrip(b" \t\r\n:")


def _parts(body: bytes) -> Iterator[tuple[int, int]]:
    """The begin and end of each part of the array or object in `body`."""
    depth, at = 0, 1
    for token in _TOKEN.finditer(body):
        mark = token[0]
        if mark[:1] == b'"':
            if not token[1]:
                break
        elif mark in b"[{":
            depth += 1
        elif mark in b"]}":
            depth -= 1
            if depth == 0:
                if body[at : token.start()].strip():
                    yield at, token.start()
                if body[token.end() :].strip():
                    break
                return
        elif depth == 1:
            yield at, token.start()
            at = token.end()
    raise Unreadable(f"the answer is {_guess(body)}, not JSON")


def _only(lists: Mapping[str, Any], members: Mapping[str, Any]) -> Any:
    if len(lists) == 1:
        return next(iter(lists.values()))
    if not lists:
        raise Unreadable(
            f"the answer is an object without a list (keys: {', '.join(list(members)[:8]) or 'none'})"
        )
    raise Unreadable(
        f"the answer has several lists: {', '.join(list(lists)[:8])}; name one in the source's options"
    )


def _lenient(body: bytes) -> tuple[Any, bool]:
    """The document, and whether a number that JSON does not know was left out of it."""
    left_out = False

    def leave_out(_: str) -> Any:
        nonlocal left_out
        left_out = True

    def whole(text: str) -> Any:
        return int(text) if len(text) <= DIGITS else leave_out(text)

    def real(text: str) -> Any:
        value = float(text)
        return value if math.isfinite(value) else leave_out(text)

    text = _shallow(body)[0].decode("utf-8-sig", "replace")
    try:
        found = json.loads(text, parse_constant=leave_out, parse_int=whole, parse_float=real)
    except (ValueError, RecursionError):
        raise Unreadable(f"the answer is {_guess(body)}, not JSON") from None
    return _clean(found), left_out


def _clean(value: Any) -> Any:
    """The value in UTF-8 texts: a lone surrogate is spelled out, so that two different ones stay so."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {_clean(key): _clean(each) for key, each in value.items()}
    if isinstance(value, msgspec.Struct):  # it keeps its type, which decides how it is encoded
        return structs.replace(value, **{name: _clean(each) for name, each in structs.asdict(value).items()})
    return [_clean(each) for each in value] if isinstance(value, list | tuple) else value


def _guess(body: bytes) -> str:
    head = body[:200].lstrip().lower()
    if not body.strip():
        return "empty"
    if head.startswith((b"<!doctype html", b"<html")):
        return "HTML"
    return (
        "XML" if head.startswith(b"<") else f"broken after {len(body)} bytes" if head[:1] in b"[{" else "text"
    )


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")
