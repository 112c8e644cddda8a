"""The sink `postgres`: its options, and what becomes of events that the server refuses."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, Field, PrivateAttr, field_validator

from roundsman.errors import Reject, Unreadable
from roundsman.events import Event
from roundsman.http.client import Http
from roundsman.options.places import ServerUrl
from roundsman.options.values import Duration
from roundsman.plugin import Deliver, Position, Receipt, Sink
from roundsman.sinks.postgres.names import name_of, table_of
from roundsman.sinks.postgres.values import KEY, Part, Reading, part_of

if TYPE_CHECKING:
    from roundsman.sinks.postgres.link import Link
    from roundsman.sinks.postgres.table import Finish, Row, Table

DEFAULT = {
    name: name for name in ("source", "id", "seq", "type", "time", "subject", "outcome", "summary", "event")
}
"""The columns of a sink that names none."""


ENDS = 1.0
"""Seconds to wait for the end of a transaction whose connection was cut."""

T = TypeVar("T")


def _table(text: str) -> str:
    table_of(text)
    return text


class PostgresSink(Sink):
    """Writes each event as a row of a table on a PostgreSQL server; an event that comes again updates its row."""

    type: Literal["postgres"]
    url: ServerUrl
    """The database, such as `"postgresql://roundsman@db.example.org/warehouse?sslmode=verify-full"`. With a password in it,
    write the place of the URL, such as `{ credential = "warehouse-url" }`.
    """
    table: Annotated[str, AfterValidator(_table)]
    """The table: `"events"`, or with its schema, `"crm.events"`. A name with a dot in it stands in double quotes. Upper and
    lower case are as written.
    """
    columns: dict[Annotated[str, AfterValidator(name_of)], str] = DEFAULT
    """What each column gets of an event: `source`, `id`, `seq`, `type`, `time`, `subject`, `outcome`, `summary`, a path such
    as `data.user.email`, `data` for the whole data, `event` for the whole event. Two columns must get `source` and `id`.
    """
    create: bool = False
    """Create the table if it is missing, with (source, id) as its primary key."""
    timeout: Annotated[Duration, Field(ge=0.1, le=300)] = 30.0
    """Maximum duration of a statement, including a wait for locks. Then the delivery is made again."""

    _sorted: deque[tuple[Event, str | None]] = PrivateAttr(default_factory=deque)
    """Events of a batch of which some were refused, and why. The others are committed. They come again, each alone."""

    @field_validator("columns")
    @classmethod
    def _has_a_key(cls, columns: dict[str, str]) -> dict[str, str]:
        parts = [part_of(name).name for name in columns.values()]
        for each in KEY:
            if parts.count(each) != 1:
                raise ValueError(
                    f'{each} is in {parts.count(each)} columns: exactly one must get it, such as {each} = "{each}"'
                )
        return columns

    def open(self, http: Http, receipt: Receipt | None) -> AbstractAsyncContextManager[Deliver]:
        return self.open_with_position(http, receipt, None)

    async def examined(self) -> str:
        """Write no row into the table, in a transaction that is undone: the server checks what it would check of a delivery."""
        return await _Place(self, None).examined()

    @asynccontextmanager
    async def open_with_position(
        self,
        http: Http,  # noqa: ARG002 - of this server, it needs no HTTP
        receipt: Receipt | None,  # noqa: ARG002 - it leaves none
        position: Position | None,
    ) -> AsyncIterator[Deliver]:
        place = _Place(self, position)

        async def deliver(events: Sequence[Event]) -> None:
            await self._deliver(place, events)

        try:
            await place.connect()
            yield deliver
        finally:
            await place.close()

    async def _deliver(self, place: "_Place", events: Sequence[Event]) -> None:
        if len(events) == 1 and self._sorted and self._sorted[0][0] == events[0]:
            why = self._sorted.popleft()[1]
            if why is not None:
                raise Reject(why)
            return
        self._sorted.clear()
        refused = await place.write(events)
        if not refused or place.moved:
            return
        if len(events) > 1:
            self._sorted.extend((event, refused.get(n)) for n, event in enumerate(events))
            raise Reject(f"{len(refused)} of {len(events)} events were refused")
        raise Reject(refused[0])


class _Place:
    """The connection of an open sink, and its table."""

    def __init__(self, sink: PostgresSink, position: Position | None) -> None:
        self._sink, self._position = sink, position
        self._joins = False
        """Whether the position is in the same database: it is moved with the rows."""
        self._name = table_of(sink.table)
        self._parts: Mapping[str, Part] = {column: part_of(name) for column, name in sink.columns.items()}
        self._link: Link | None = None
        self._table: Table | None = None

    async def connect(self) -> None:
        """Connect, and check the table. RequestFailed in one sentence."""
        from roundsman.sinks.postgres.link import Link, translated  # the driver is slow to import
        from roundsman.sinks.postgres.table import Table

        sink = self._sink
        await self.close()
        link = self._link = await Link.open(sink.url, sink.timeout, f"roundsman sink {sink.name}")
        with translated(sink.url):
            self._table = await self._finished(Table.open(link, self._name, self._parts, create=sink.create))
            if self._position is not None:
                self._joins = await self._finished(link.lend(self._position.is_here))

    async def examined(self) -> str:
        """A sentence about the table. RequestFailed in one sentence."""
        from roundsman.sinks.postgres.link import Link, translated
        from roundsman.sinks.postgres.table import Table

        sink = self._sink
        link = await Link.open(sink.url, sink.timeout, f"roundsman check {sink.name}")
        try:
            with translated(sink.url):
                await link.begin()
                table = await Table.open(link, self._name, self._parts, create=sink.create)
                await table.insert(link, [])
        finally:
            await link.close()
        what = "can be created and written" if table.is_new else "fits, and can be written"
        return f"table {'.'.join(self._name)} at {sink.url} {what}"

    async def _finished(self, work: Coroutine[Any, Any, T]) -> T:
        """What the work returns. If this task is cancelled meanwhile, the connection is cut, and its transaction is undone."""
        task = asyncio.ensure_future(work)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if self._link is not None:
                self._link.cut()
            await asyncio.wait([task], timeout=ENDS)
            if task.done() and not task.cancelled():
                task.exception()  # taken note of: it has failed because of the cut
            raise

    async def close(self) -> None:
        if self._link is not None:
            await self._link.close()

    @property
    def moved(self) -> bool:
        """Whether the last `write` has also moved the position past all its events, and buried those that are refused."""
        return self._position is not None and self._position.moved

    async def write(self, events: Sequence[Event]) -> dict[int, str]:
        """Write these events in one transaction. Returns which of them are refused, by their place, and why.

        If the server has ended a connection that was idle, the events are written on another one.
        """
        import psycopg

        from roundsman.sinks.postgres.link import is_lost, translated

        refused, rows = self._rows(events)
        if not rows and not self._joins:
            return refused
        places = list(rows)

        def all_refused(found: Mapping[int, str]) -> dict[int, str]:
            return refused | {places[n]: why for n, why in found.items()}

        async def finish(found: Mapping[int, str]) -> None:
            """Move the position. If all events are refused, the caller buries them: nothing was delivered."""
            dead = {events[n].seq: why for n, why in all_refused(found).items()}
            position, link = self._position, self._link
            if position is None or link is None:
                return
            position.moved = False  # a transaction before this one may not have been committed
            if self._joins and len(dead) < len(events):
                await link.lend(lambda connection: position.move(connection, dead))

        with translated(self._sink.url):
            try:
                found = await self._write(list(rows.values()), finish)
            except psycopg.Error as exc:
                if not is_lost(exc):
                    raise
                await self.connect()
                found = await self._write(list(rows.values()), finish)
        return all_refused(found)

    async def _write(self, rows: "Sequence[Row]", finish: "Finish") -> dict[int, str]:
        assert self._table is not None
        assert self._link is not None
        return await self._finished(self._table.write(self._link, rows, finish))

    def _rows(self, events: Sequence[Event]) -> "tuple[dict[int, str], dict[int, Row]]":
        """The events that cannot be read, and the rows of the others, both by place. The last event with a key counts."""
        assert self._table is not None
        refused: dict[int, str] = {}
        rows: dict[int, Row] = {}
        key = [n for n, part in enumerate(self._parts.values()) if part.name in KEY]
        last: dict[Row, int] = {}
        for place, event in enumerate(events):
            reading = Reading(event)
            try:
                row = tuple(
                    reading.value(part, as_json=as_json)
                    for part, as_json in zip(self._parts.values(), self._table.json, strict=True)
                )
            except Unreadable as exc:
                refused[place] = f"the event cannot be read: {exc}"
                continue
            earlier = last.pop(tuple(row[n] for n in key), None)
            if earlier is not None:
                del rows[earlier]
            last[tuple(row[n] for n in key)] = place
            rows[place] = row
        return refused, rows
