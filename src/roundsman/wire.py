"""JSON in and out: fast where it is sane, lenient where it is not, and never a newline inside a document."""

import json
import math
from collections.abc import Mapping
from typing import Any, cast

import msgspec

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode

Item = tuple[dict[str, Any], msgspec.Raw]
"""One object of a list: decoded, and the bytes it came as."""


class Unreadable(Exception):
    """An answer that is not the JSON it should be; the message says what it is instead."""


def encode(document: Any) -> bytes:
    """The document as JSON in one line. What UTF-8 cannot say (lone surrogates) becomes a question mark."""
    try:
        return _encode(document)
    except UnicodeEncodeError:
        return _encode(_clean(document))


def decode(body: bytes | msgspec.Raw) -> Any:
    """The document in `body`.

    What msgspec refuses and others send (lone surrogates, a byte order mark, broken UTF-8) is read the slow way;
    what is no JSON at all raises `Unreadable`.
    """
    try:
        return _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _clean(_lenient(bytes(body)))


def line(body: bytes) -> Any:
    """The object in `body` for use inside another document: its bytes as they came, if they are fit for one line."""
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


def items(body: bytes, path: str = "") -> list[Item]:
    """The objects of a list answer: a bare array, or the one list member of an envelope (or the one at `path`).

    A list of anything but objects, an envelope without a list or with several raises `Unreadable`.
    """
    try:
        if not path and body.lstrip(b" \t\r\n")[:1] == b"[":
            raws = _decode_list(body)
        else:
            raws = _decode_list(_list_in(body, path))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        listed = _find(_lenient(body), path)
        found = [
            (_clean(row), msgspec.Raw(json.dumps(_finite(row), allow_nan=False).encode())) for row in listed
        ]
    else:
        found = [_item(raw) for raw in raws]
    if b"\n" in body or b"\r" in body:
        found = [(row, msgspec.Raw(msgspec.json.format(raw, indent=-1))) for row, raw in found]
    for position, (row, _) in enumerate(found):
        if not isinstance(row, dict):
            raise Unreadable(f"item {position} of the list is {_kind(row)}, not an object")
    return found


def objects(body: bytes) -> list[Item]:
    """The objects in `body`, which is one object or a list of them; none where it is empty."""
    body = body.strip()
    if not body:
        return []
    return items(b"[" + body + b"]" if body[:1] == b"{" else body)


def _item(raw: msgspec.Raw) -> tuple[Any, msgspec.Raw]:
    """A row, and its bytes as they came, unless they are no UTF-8."""
    try:
        return _decode(raw), raw
    except UnicodeDecodeError:
        row = _lenient(bytes(raw))
        return row, msgspec.Raw(json.dumps(_finite(row), allow_nan=False).encode())
    except (msgspec.DecodeError, RecursionError):
        return _clean(_lenient(bytes(raw))), raw


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
    lists = {name: raw for name, raw in members.items() if bytes(raw)[:1] == b"["}
    return cast("msgspec.Raw", _only(lists, members))


def _find(document: Any, path: str) -> list[Any]:
    """As `_list_in`, in a document that only the slow way could read."""
    for step in filter(None, path.split(".")):
        document = document.get(step) if isinstance(document, dict) else None
    if isinstance(document, dict) and not path:
        document = _only({k: v for k, v in document.items() if isinstance(v, list)}, document)
    if not isinstance(document, list):
        raise Unreadable(f"the answer is {_kind(document)}, not a list")
    return document


def _only(lists: Mapping[str, Any], members: Mapping[str, Any]) -> Any:
    if len(lists) == 1:
        return next(iter(lists.values()))
    if not lists:
        raise Unreadable(
            f"the answer is an object without a list (keys: {', '.join(list(members)[:8]) or 'none'})"
        )
    raise Unreadable(
        f"the answer has several lists: {', '.join(list(lists)[:8])}; say which in the source's options"
    )


def _lenient(body: bytes) -> Any:
    def refuse(word: str) -> Any:
        raise ValueError(word)

    try:
        return json.loads(body.decode("utf-8-sig", "replace"), parse_constant=refuse)
    except (ValueError, RecursionError):
        raise Unreadable(f"the answer is {_guess(body)}, not JSON") from None


def _clean(value: Any) -> Any:
    """The value with every text one that UTF-8 can say."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_clean(key): _clean(each) for key, each in value.items()}
    return [_clean(each) for each in value] if isinstance(value, list) else value


def _finite(value: Any) -> Any:
    """The value with null for every number that JSON cannot say, such as 1e999."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    return [_finite(each) for each in value] if isinstance(value, list) else value


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
