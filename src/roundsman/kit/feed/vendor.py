"""What a vendor's class defines: its options, how a request is sent, and how a row of its list is read."""

import asyncio
import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any

import msgspec
from pydantic import Field

from roundsman import wire
from roundsman.errors import NoRows
from roundsman.events import Event
from roundsman.http.answers import Answer
from roundsman.kit import fields
from roundsman.kit.probing import Limits, Mode, Row
from roundsman.options.values import Duration, Lookback, Options, Start
from roundsman.plugin import Source
from roundsman.times import parse_time

NO_TIME, NO_YEAR = (None, "", 0, "null", "-"), ("0000-", "0001-", "1900-", "1753-", "1601-")
"""Values that mean "no time", and the prefixes of times that mean it."""


class Paging(Options):
    """`paging`: how to read lists, if it should not be detected automatically."""

    mode: Mode = "auto"
    """The strategy to read a long list with first: `keyset` (by time), `offset`, or `grow` (larger answers). `auto`
    finds out which one works.
    """
    limit: Annotated[int, Field(ge=2, le=100_000)] = 1000
    """Rows to ask for in one request."""
    max_limit: Annotated[int, Field(ge=2, le=100_000)] = 8000
    """Maximum rows to ask for in one request, if only a larger answer shows more rows."""
    limit_param: str = "limit"
    """The query parameter that carries the number of rows."""
    start_param: str
    """The query parameter that carries the time to begin at."""
    order_param: str
    """The query parameter that carries the order."""
    order: str
    """The value of `order_param` for reading: the oldest row first."""
    probe_order: str | None
    """The value of `order_param` for the one-row request whose ETag shows changes: the newest row first."""
    offset_params: tuple[str, ...] = ("offset", "skip")
    """Query parameters that may carry the number of rows to skip. They are tried in turn."""
    items: str = ""
    """The path of the list in the answer, such as `"data.rows"`. Not needed if the answer has only one list."""
    requests_per_minute: Annotated[int, Field(ge=1, le=6000)] = 60
    """Maximum pages of a backlog to read in a minute. Not applied to a loopback address."""

    def limits(self) -> Limits:
        return Limits(self.limit, self.max_limit, self.mode, self.offset_params)


class Reread(Options):
    """`reread`: how far to look back for late rows. Reading a row again does not report it again."""

    overlap: Lookback = 600.0
    """The lookback: how far behind the newest row to read again whenever something changed. 30 days at most."""
    full_read_every: Duration = 1800.0
    """How often to read without `If-None-Match`, in case an ETag is wrong."""
    sweep_interval: Duration = 6 * 3600.0
    """How often to sweep: to read again as far back as `sweep_depth`."""
    sweep_depth: Lookback = 7 * 86400.0
    """How far back a sweep reads, for rows of locks that were offline. 30 days at most: ids are kept for 35."""


PIECE = 250
"""Rows that are read before other tasks may run: some 3 ms."""
Stamps = tuple[datetime | None, datetime | None]
"""When a row was stored, and when it happened."""


class Shape(ABC):
    """Turns a vendor's rows into events, each as soon as it is decoded.

    Its getters are made once, because they run for every row.
    """

    def __init__(
        self, key: Sequence[str], created: Sequence[str], occurred: Sequence[str], *more: Sequence[str]
    ) -> None:
        """Dotted paths to a row's id, to when it was stored, to when it happened, and to what `event` needs."""
        self._values = fields.getters(key, created, occurred, *more)
        self.created_name = created[0]

    @abstractmethod
    def event(self, source: str, key: str, stamps: Stamps, values: Sequence[Any], raw: msgspec.Raw) -> Event:
        """The row as an event of this source. `values`: what is at the paths of `__init__`, in their order."""

    async def rows(self, source: str, answer: Answer, path: str, damaged: list[wire.Damage]) -> list[Row]:
        """The rows of the list at `path`; anything else is added to `damaged`.

        Raises `NoRows` if no item is a row.
        """
        found: list[Row] = []
        none: list[bytes] = []
        with answer.naming():
            for count, item in enumerate(answer.each(path, damaged), 1):
                if count % PIECE == 0:
                    await asyncio.sleep(0)
                row = self.row(source, item)
                if row is not None:
                    found.append(row)
                else:
                    none.append(bytes(item[1]))
        if none:
            why = "an object of the list has neither an id nor a time"
            said = {each.rest for each in damaged}
            damaged += [wire.Damage(raw, why) for raw in none if raw not in said]
            if not found:
                raise NoRows("nothing in the list has an id or a time")
        return found

    def row(self, source: str, item: wire.Item) -> Row | None:
        """A row; without an id, its content identifies it. None if it has neither an id nor a time."""
        data, raw = item
        values = self._values(data)
        key, written = values[0], values[1]
        created, occurred = parse_time(written), parse_time(values[2])
        if not isinstance(key, str) or not key:
            key = str(key) if type(key) is int else f"row:{_digest(bytes(raw))}"
        if created is None:
            odd = "" if written in NO_TIME or str(written).startswith(NO_YEAR) else _form(written)
            if not odd and occurred is None and key.startswith("row:") and values[0] is None:
                return None
            return Row(key, None, occurred, self.event(source, key, (None, occurred), values, raw), odd)
        return Row(key, created, occurred, self.event(source, key, (created, occurred), values, raw))

    def named(self, row: Row) -> bool:
        """Whether it has an id of its own."""
        return not row.id.startswith("row:")


class Growing(Source):
    """A list that only grows."""

    start: Start = "now"
    """Where to begin on the first run: `"now"`, `"beginning"`, or a date-time such as `"2026-05-01T00:00:00Z"`."""
    paging: Paging
    reread: Reread = Reread()

    @property
    @abstractmethod
    def shape(self) -> Shape:
        """How this source's rows are read."""

    @abstractmethod
    def url(self) -> str:
        """Where the list is."""

    @abstractmethod
    def query(self, **more: str | int) -> dict[str, str | int]:
        """The parameters of every request, with these."""

    @abstractmethod
    def headers(self) -> dict[str, str]:
        """The headers of every request, besides the credentials."""


def _form(value: object) -> str:
    """The form of a value without its content: 9 for digits, a for letters."""
    if not isinstance(value, str):
        return "a number" if isinstance(value, int | float) else type(value).__name__
    text = re.sub(r"[^\W\d_]", "a", re.sub(r"\d", "9", value[:40]))
    return f"{text!r}"


def _digest(raw: bytes) -> str:
    return hashlib.blake2b(raw, digest_size=12).hexdigest()
