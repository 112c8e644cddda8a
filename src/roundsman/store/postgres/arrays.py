"""Columns of rows as PostgreSQL's binary arrays: made before a transaction ends, and sent as they are."""

import struct
from collections.abc import Callable, Sequence
from typing import Any

from roundsman.events import Event
from roundsman.store.values import Via

Fields = tuple[bytes | None, ...]
"""The values of one row in PostgreSQL's binary form; None is NULL."""

_FLOAT, _SMALL, _INT, _LONG = (struct.Struct(form).pack for form in ("!d", "!h", "!i", "!q"))
_HEADER = struct.Struct("!iiIii")
INT2, INT4, INT8, FLOAT8, TEXT, BYTEA = 21, 23, 20, 701, 25, 17
ARRAYS = {INT2: 1005, INT4: 1007, FLOAT8: 1022, TEXT: 1009, BYTEA: 1001}
"""The number of the array's type, by that of its elements."""
COLUMNS = (INT4, TEXT, TEXT, TEXT, FLOAT8, FLOAT8, BYTEA, INT2, TEXT)
"""The types of an event's columns: source, id, type, outcome, logged, stamp, body, failure, via."""


BODY = 6
"""The place of the body among them."""


def clean(text: str) -> str:
    """A text as it is stored: PostgreSQL stores no NUL, and a vendor may send one."""
    return text.replace("\0", "\ufffd") if "\0" in text else text


def fields_of(source: int, event: Event, now: float, via: Via) -> Fields:
    """An event in the order of `COLUMNS`. Any error if a value is of another type."""
    return (
        _INT(source),
        clean(event.id).encode(),
        clean(event.type).encode(),
        _maybe(event.outcome, lambda text: clean(text).encode()),
        _FLOAT(now),
        _maybe(event.stamp, _FLOAT),
        bytes(event.body),
        _maybe(event.failure, _SMALL),
        _maybe(via, str.encode),
    )


def _maybe(value: Any, form: Callable[[Any], bytes]) -> bytes | None:
    return None if value is None else form(value)


def long(number: int) -> bytes:
    """A bigint."""
    return _LONG(number)


def columns(rows: Sequence[Fields]) -> list[bytes]:
    """The rows as one array for each of `COLUMNS`."""
    return [_array(kind, column) for kind, column in zip(COLUMNS, zip(*rows, strict=True), strict=True)]


def _array(kind: int, column: Sequence[bytes | None]) -> bytes:
    parts = [_HEADER.pack(1, int(None in column), kind, len(column), 1)]
    for each in column:
        if each is None:
            parts.append(b"\xff\xff\xff\xff")
        else:
            parts.append(_INT(len(each)))
            parts.append(each)
    return b"".join(parts)


def joined(parts: Sequence[tuple[int, Sequence[bytes]]]) -> tuple[int, list[bytes]]:
    """Columns of several parts, each with its number of rows, as one."""
    rows = sum(size for size, _ in parts)
    header = [_HEADER.pack(1, 1, kind, rows, 1) for kind in COLUMNS]  # 1: with NULLs, perhaps
    by_column = zip(header, zip(*(values for _, values in parts), strict=True), strict=True)
    return rows, [
        b"".join([first, *(memoryview(each)[_HEADER.size :] for each in column)])
        for first, column in by_column
    ]
