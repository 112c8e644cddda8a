"""Parakey's event logs: who opened which door.

Documented: every endpoint sends an ETag and answers 304 to `If-None-Match`; the list of event logs takes
`limit`, `startDate` and `orderBy=createdAt:DESC`; a client may poll once in 60 seconds at most
(https://help.parakey.co/sv/articles/209-event-log-polling). Not documented: whether `orderBy=createdAt:ASC`
works, how many rows an answer may have, whether there are pages, what `startDate` compares with and whether
it is inclusive. None of this is assumed; `kit/probing.py` infers it from the answers.
"""

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from roundsman import wire
from roundsman.errors import Denied, Failed, NoRows, RequestFailed, TooLarge, Unreadable
from roundsman.events import Event, notice
from roundsman.http.answers import Answer
from roundsman.http.urls import is_loopback
from roundsman.kit import fields, probing
from roundsman.kit.probing import Row
from roundsman.kit.unread import Unread
from roundsman.options.values import Duration, Options, Start
from roundsman.plugin import Poll, Received, State, Visit
from roundsman.shapes import (
    Access,
    Outcome,
    Ref,
)
from roundsman.sources.parakey.account import PLACE, REFUSED, Account, Asking, Paths
from roundsman.times import is_due, parse_time, rfc3339, spell
from roundsman.webhook import Call

GRANTED = frozenset({"true", "success", "succeeded", "granted", "ok", "allowed", "opened", "unlocked"})
DENIED = frozenset({"false", "failure", "failed", "denied", "refused", "rejected", "error", "forbidden"})
PLAIN = re.compile(r"[!->@-\[\]-~]{1,200}")
"""Ids that were surely decoded as the vendor wrote them.

A backslash or a question mark may stand for a character that is not valid text.
"""
OLDEST_WEBHOOK = 34 * 86400.0
"""Maximum age in seconds of a row that a webhook may report: ids are kept for 35 days only."""
LONGEST_LOOKBACK = 30 * 86400.0
"""Maximum seconds that a reading may look back.

Ids are remembered for 35 days; a row whose id was forgotten is reported again.
"""
DOUBTFUL = frozenset({403, 406, 409})
"""Those of them that may have another cause."""
NO_TIME, NO_YEAR = (None, "", 0, "null", "-"), ("0000-", "0001-", "1900-", "1753-", "1601-")
"""Values that mean "no time", and the prefixes of times that mean it."""
ABSORBED = 20_000
"""Maximum rows with unreadable times that are remembered as old when a source begins with `start = "now"`."""


class Request(Asking):
    """`request`: how to send requests, if your API differs from what is known."""

    path: str = "/eventLogs"
    """The path of the list. The vendor's help spells it so; its code elsewhere uses dashes."""


class Paging(Options):
    """`paging`: how to read lists, if it should not be detected automatically."""

    mode: Literal["auto", "keyset", "offset", "grow"] = "auto"
    """The strategy to read a long list with first."""
    limit: Annotated[int, Field(ge=2, le=100_000)] = 1000
    """Rows to ask for per request."""
    max_limit: Annotated[int, Field(ge=2, le=100_000)] = 8000
    """Maximum rows to ask for per request, if only a larger limit helps."""
    limit_param: str = "limit"
    start_param: str = "startDate"
    order_param: str = "orderBy"
    order: str = "createdAt:ASC"
    """The order to read in."""
    probe_order: str | None = "createdAt:DESC"
    """The order of the one-row request whose ETag shows changes."""
    offset_params: Paths = ("offset", "skip")
    """Query parameters that may mean "skip the first n rows", tried in turn."""
    items: str = ""
    """The path of the list in the answer, such as "data.rows"; not needed if there is only one list."""
    requests_per_minute: Annotated[int, Field(ge=1, le=6000)] = 60
    """Maximum pages of a backlog to read per minute; not applied to a loopback address."""


class Reread(Options):
    """`reread`: how far to look back for late rows. Reading a row again does not report it again."""

    overlap: Annotated[Duration, Field(le=LONGEST_LOOKBACK)] = 600.0
    """How far behind the newest row to read again whenever something changed; 30 days at most."""
    full_read_every: Duration = 1800.0
    """How often to ignore the ETag."""
    sweep_interval: Duration = 6 * 3600.0
    """How often to sweep: to look far back."""
    sweep_depth: Annotated[Duration, Field(le=LONGEST_LOOKBACK)] = 7 * 86400.0
    """How far a sweep looks back, for locks that were offline; 30 days at most: ids are remembered for 35."""


class Fields(Options):
    """`fields`: where the values of a row are: lists of dotted paths; the first one present counts."""

    id: Paths = ("id",)
    created_at: Paths = ("createdAt",)
    occurred_at: Paths = ("timestamp",)
    place: Paths = PLACE
    door: Paths = ("device", "door", "lock", "eventConfiguration", "deviceId")
    key: Paths = ("access", "key", "accessId")
    user: Paths = ("user", "member", "userId")
    outcome: Paths = ("success", "succeeded", "granted", "result", "status")
    activity: Paths = ("activity", "activityType")


class EventLogs(Account):
    """Parakey's event logs: one event per unlock, whether it succeeded or not."""

    type: Literal["parakey.event_logs"]
    webhook_place: ClassVar[str] = f"{Account.webhook_place}, a webhook of the type Unlock event"
    start: Start = "now"
    """Where to begin on the first run: "now", "beginning", or a date-time."""
    dedupe: Literal["id", "place"] = "id"
    """What makes a row unique: its id, or its id within a place (if places that share locks repeat ids)."""
    request: Request = Request()
    paging: Paging = Paging()
    reread: Reread = Reread()
    fields_: Annotated[Fields, Field(alias="fields")] = Fields()

    async def poll(self, visit: Visit, state: State) -> Poll:
        return await _Round(self, visit, dict(state)).poll(state)

    def receive(self, call: Call) -> Received:
        """Reads event logs. A row that a poll might report with another id only rings."""
        shape, events, damaged = self.shape, [], list[wire.Damage]()
        items = wire.objects(call.body, damaged)
        if not items:
            raise Unreadable("the body is empty")
        ring = bool(damaged)  # the next visit reads the row, or keeps it as unread
        for item in items:
            row, data = shape.row(item), item[0]
            if row is None or (row.occurred is None and row.created is None):
                if len(items) == 1:
                    raise Unreadable("an object without the time of an event log")
                ring = True  # the other rows are still reported
                continue
            if any(isinstance(data.get(name), list) for name in ("items", "results")):
                raise Unreadable("a batch, which belongs to the address of a parakey.batches source")
            place = shape.place(row)
            if self.domain_id and place and place["id"] not in {None, self.domain_id}:
                continue  # it belongs to a place that another source watches
            # Report only what a poll would report with the same id; lists may contain the place or not. The
            # id of an older row may have been forgotten, and that row was reported long ago.
            stamp = row.created or row.occurred
            fresh = stamp is not None and call.now - stamp.timestamp() < OLDEST_WEBHOOK
            if shape.named(row) and PLAIN.fullmatch(row.id) and self.dedupe == "id" and fresh:
                events.append(shape.event(row, self.name))
            else:
                ring = True
        return Received(events, ring=ring)

    def rewound(self, state: State, to: datetime | None) -> State:
        learned = {"largest": state["largest"]} if "largest" in state else {}
        return {**learned, "begun": True, "floor": rfc3339(to) if to else None, "cursor": None}

    @classmethod
    def gap(cls, state: State) -> str | None:
        found: str | None = state.get("gap")
        return found

    @property
    def shape(self) -> "_Shape":
        """How this source's rows are read."""
        return _shape(self.fields_, self.dedupe == "place", self.paging.items)

    def url(self) -> str:
        return f"{self.base_url}/{self.request.path.lstrip('/')}"


class _Shape:
    """Turns the vendor's rows into events. Its getters are made once, because they run for every row."""

    def __init__(self, paths: Fields, by_place: bool, items: str) -> None:
        self._by_place = by_place
        self._items = items
        self._id, self._created, self._occurred = map(
            fields.getter, (paths.id, paths.created_at, paths.occurred_at)
        )
        self._door, self._place, self._key = map(fields.getter, (paths.door, paths.place, paths.key))
        self._user, self._outcome, self._activity = map(
            fields.getter, (paths.user, paths.outcome, paths.activity)
        )

    def rows(self, answer: Answer, unread: Unread) -> list[Row]:
        """The rows of the list; anything else goes to `unread`. Raises `NoRows` if no item is a row."""
        damaged: list[wire.Damage] = []
        items = answer.items(self._items, damaged)
        found = [row for item in items if (row := self.row(item)) is not None]
        if len(found) < len(items):
            why = "an object of the list has neither an id nor a time"
            said = {each.rest for each in damaged}
            none = (bytes(item[1]) for item in items if self.row(item) is None)
            damaged += [wire.Damage(raw, why) for raw in none if raw not in said]
        if items and not found:
            raise NoRows("nothing in the list has an id or a time")
        unread.add(damaged)
        return found

    def row(self, item: wire.Item) -> Row | None:
        """A row; without an id, its content identifies it. None if it has neither an id nor a time."""
        data, raw = item
        key, written = self._id(data), self._created(data)
        created, occurred = parse_time(written), parse_time(self._occurred(data))
        if not isinstance(key, str) or not key:
            key = str(key) if type(key) is int else f"row:{_digest(bytes(raw))}"
        if created is None:
            odd = "" if written in NO_TIME or str(written).startswith(NO_YEAR) else _form(written)
            if not odd and occurred is None and key.startswith("row:") and self._id(data) is None:
                return None
            return Row(key, None, occurred, item, odd)
        return Row(key, created, occurred, item)

    def named(self, row: Row) -> bool:
        """Whether it has an id of its own."""
        return not row.id.startswith("row:")

    def place(self, row: Row) -> Ref | None:
        """The place it belongs to."""
        return fields.ref(self._place(row.item[0]))

    def event(self, row: Row, source: str) -> Event:
        """The row as an event of this source."""
        data, raw = row.item
        door, place = fields.ref(self._door(data)), fields.ref(self._place(data))
        occurred = rfc3339(row.occurred) if row.occurred else None
        recorded = rfc3339(row.created) if row.created else None
        activity = self._activity(data)
        access: Access = {
            "occurred_at": occurred,
            "recorded_at": recorded,
            "door": door,
            "user": fields.person(self._user(data)),
            "place": place,
            "key": fields.ref(self._key(data)),
            "activity": activity if isinstance(activity, str) else None,
            "raw": raw,  # type: ignore[typeddict-item] # bytes that encode as the object they are
        }
        return Event.of(
            vendor="parakey",
            source=source,
            type="co.parakey.event_log.created",
            id=f"{place['id']}:{row.id}" if self._by_place and place else row.id,
            data=access,
            time=occurred or recorded,
            subject=door["id"] if door else None,
            outcome=_outcome(self._outcome(data)),
            stamp=row.created or row.occurred,
        )


_shape = lru_cache(_Shape)  # nearly all sources have the same shape, and there may be very many sources


class _Round:
    """One poll. `memory` is the new state; its `walk` is a reading that may span several polls."""

    def __init__(self, source: EventLogs, visit: Visit, memory: dict[str, Any]) -> None:
        self.source = source
        self.visit = visit
        self.memory = memory
        self.events: list[Event] = []
        self.count = 0
        self.remarks: list[str] = []
        self.unread = Unread(memory)

    async def poll(self, state: State) -> Poll:
        poll = await self._poll(state)
        if poll.state is state:
            return poll
        return replace(poll, remarks=self.remarks, unread=self.unread.found)

    async def _poll(self, state: State) -> Poll:
        if state.get("walk"):
            if not is_loopback(self.source.base_url):
                await self.visit.pause(60 / self.source.paging.requests_per_minute)
            self.memory["walk"] = dict(state["walk"])
            return await self._read()
        now, reread = self.visit.now, self.source.reread
        sweep = is_due(state.get("swept_at"), reread.sweep_interval, now)
        full = sweep or is_due(state.get("full_at"), reread.full_read_every, now)
        if sweep:
            probing.forget(self.memory)
        probe = await self._probe(None if full else state.get("tag"))
        if probe.unchanged:
            return Poll(state)
        try:
            rows, newest = self.source.shape.rows(probe, self.unread), True
        except NoRows:
            rows, newest = [], False  # the other rows are asked for below; the reading meets this one again
        if newest and not rows and state.get("cursor"):
            raise RequestFailed(
                "the list is empty although it had rows before: has the integration lost its keys or its place? "
                "(if it is meant to be empty: roundsman rewind)"
            )
        self.memory["full_at"] = rfc3339(now)
        if sweep:
            self.memory["swept_at"] = rfc3339(now)
        if len(rows) > 1:
            self.memory["ignores_limit"] = len(rows)  # one row was asked for: the server ignores `limit`
        self._mind_times(rows)
        if not state.get("begun"):
            if not newest:
                rows = await self._readable()
            if not await self._begin(probe, rows):
                settled = newest and not self._ahead(probe, rows) and self._leads
                return Poll({**self.memory, "begun": True, "tag": probe.tag if settled else None})
        self.memory["begun"] = True
        self._set_out(probe, rows, sweep=sweep)
        if not newest:
            self.memory["walk"]["tag"] = None  # whether it is in the list cannot be checked
        if state.get("gap") and not sweep:
            return await self._read_newest()
        return await self._read()

    async def _probe(self, tag: Mapping[str, str] | None) -> Answer:
        paging = self.source.paging
        order = {paging.order_param: paging.probe_order} if paging.probe_order else {}
        if self.memory.get("unordered"):
            order = {}
        try:
            return await self._probed(order, tag)
        except (RequestFailed, Denied) as exc:
            if not order or exc.status not in REFUSED - {403} or getattr(exc, "passing", False):
                raise
            refused = exc
        try:
            answer = await self._probed({}, tag)
        except (RequestFailed, Denied):
            raise refused from None  # the order was not the cause
        self.memory["unordered"] = True
        return answer

    async def _probed(self, order: Mapping[str, str], tag: Mapping[str, str] | None) -> Answer:
        query = self.source.query(**{self.source.paging.limit_param: 1}, **order)
        # The source schedules full reads itself, by `reread.full_read_every`.
        return await self.visit.http.get(self.source.url(), query, self.source.headers(), tag, math.inf)

    def _mind_times(self, rows: list[Row]) -> None:
        """Log once that times cannot be read: they are present, not missing."""
        odd = next((row.odd_time for row in rows if row.odd_time), None)
        if odd and not self.memory.get("odd_times"):
            self.memory["odd_times"] = True
            field = self.source.fields_.created_at[0]
            self.remarks.append(f"{field} of a row cannot be read as a time: it is of the form {odd}")

    async def _begin(self, probe: Answer, rows: list[Row]) -> bool:
        """At the first visit, set `floor`: nothing before it is reported. Returns whether to read now."""
        start = self.source.start
        if start != "now":
            self.memory |= {"floor": rfc3339(start) if isinstance(start, datetime) else None, "cursor": None}
            return True
        overlap = timedelta(seconds=self.source.reread.overlap)
        date = probe.date()
        if date is not None and not rows:
            date = min(date, self.visit.now)  # the list is empty: an earlier floor reports no old row
        vendor_now = date - overlap if date else None
        newest = rows[0] if rows else None
        if newest is None or newest.created is None:
            # Never use our clock: if the vendor sends no time, every row that it shows from now on is new.
            self.memory |= {"floor": rfc3339(vendor_now) if vendor_now else None, "cursor": None}
            if newest is not None and newest.odd_time:
                self.memory["absorbs"] = True  # the rows there now are old, however their times are written
            return bool(rows)
        ahead: list[Row] = []
        if self._ahead(probe, rows):
            # A time in the future is no floor: rows before it would not be new.
            listed = (
                await self._some(probing.Question(None, self.source.paging.limit, backwards=True)) or rows
            )
            ahead = self._ahead(probe, listed)
            past = [row for row in listed if row.created is not None and row not in ahead]
            newest = max(past, key=_when, default=None)
        before = {row.id for row in ahead}
        if newest is None or newest.created is None:
            self.memory |= {"floor": rfc3339(vendor_now) if vendor_now else None, "cursor": None}
            self.memory["before"] = sorted(before)
            return True
        created = newest.created
        beside = await self._some(probing.Question(created, self.source.paging.limit))
        if beside is not None and all(row.id != newest.id for row in beside):
            # startDate may be exclusive.
            beside = await self._some(
                probing.Question(created - probing.MILLISECOND, self.source.paging.limit)
            )
        if ahead and beside is not None:
            before |= {row.id for row in self._ahead(probe, beside)}
            beside = [row for row in beside if row.id not in before]
        if beside is None or any(row.created and row.created > created for row in beside):
            # This row is not the newest: another row has just been added, or the order is not the one asked
            # for. Then the vendor's clock, minus the overlap, decides.
            ours = self.visit.now
            ours_is_behind = any(row.created and row.created > ours for row in beside or ())
            vendor_now = min(vendor_now, ours) if vendor_now and not ours_is_behind else vendor_now
            floor = max(created, vendor_now) if vendor_now else created
            self.memory |= {"floor": rfc3339(floor), "cursor": None, "before": sorted(before)}
            return True
        # Rows that share the stamp and are added later are new.
        before |= {
            row.id for row in beside if row.created == created or (row.created, row.occurred) == (None, None)
        }
        self.memory |= {
            "floor": rfc3339(created),
            "cursor": rfc3339(created),
            "anchor": newest.id,
            "before": sorted(before | {newest.id}),
        }
        return False

    @property
    def _leads(self) -> bool:
        """Whether the probe shows the newest row: the ETag of any other row would hide new ones.

        If the server refuses the order, a reading must prove it first.
        """
        leads: bool = self.memory.get("leads", not self.memory.get("unordered"))
        return leads

    def _latest(self, probe: Answer) -> datetime:
        """The latest time that a row may have: the vendor's clock, or ours if unknown, plus the overlap."""
        return (probe.date() or self.visit.now) + timedelta(seconds=self.source.reread.overlap)

    def _ahead(self, probe: Answer, rows: list[Row]) -> list[Row]:
        """The rows from the future."""
        latest = self._latest(probe)
        return [row for row in rows if row.created is not None and row.created > latest]

    async def _readable(self) -> list[Row]:
        """The newest readable row, for a list whose first row is unreadable."""
        rows = await self._some(probing.Question(None, self.source.paging.limit, backwards=True))
        return [max(rows, key=_when)] if rows else []

    async def _some(self, question: probing.Question) -> list[Row] | None:
        """Rows that are useful but not required; None if the server refuses all forms of the question."""
        try:
            rows, _ = await probing.asked(self.memory, question, self._ask)
        except probing.Refused:
            return None
        return rows

    def _set_out(self, probe: Answer, rows: list[Row], *, sweep: bool) -> None:
        """Begin a reading: `overlap` before the cursor, or on a sweep `sweep_depth` before it."""
        reread = self.source.reread
        cursor, floor = parse_time(self.memory.get("cursor")), parse_time(self.memory.get("floor"))
        back = timedelta(seconds=max(reread.sweep_depth, reread.overlap) if sweep else reread.overlap)
        begin = cursor or floor
        # A sweep asks from before the floor, too: a server whose startDate compares with the time of the
        # unlock would not list what happened before the floor and was stored after it. A millisecond more
        # serves servers whose startDate is exclusive.
        start = begin - back - probing.MILLISECOND if begin else None
        self.memory["walk"] = {
            "start": rfc3339(start) if start else None,
            # A row from the future stays the newest one: its ETag would hide new rows.
            "tag": None if self._ahead(probe, rows) else probe.tag,
            # A stamp from the future would move the cursor past rows to come.
            "latest": rfc3339(self._latest(probe)),
            "newest": rows[0].id if rows else None,
            "probed": rfc3339(rows[0].created) if rows and rows[0].created else None,
            # For new rows it is enough to reach the newest known row; a sweep looks for rows below it.
            "known": None if sweep else self.memory.get("anchor"),
            "edge": self.memory.get("edge"),
            "since": self.memory.get("swept" if sweep else "cursor") or self.memory.get("floor"),
            "sweep": sweep,
        }

    async def _read(self) -> Poll:
        paging = self.source.paging
        limits = probing.Limits(paging.limit, paging.max_limit, paging.mode, paging.offset_params)
        reading = probing.Probing(self.memory, limits, self._ask, self._take)
        result = await reading.advance()
        self.remarks += reading.doubts
        if result == "more":
            return Poll(self.memory, self.events, more=True, rows=self.count)
        if result == "gap":
            return await self._read_newest()
        self._arrive()
        self.memory.pop("absorbs", None)
        del self.memory["walk"]
        return Poll(self.memory, self.events, rows=self.count)

    async def _read_newest(self) -> Poll:
        """If no strategy gets past the truncation, report the newest rows, and a gap before them."""
        limit = min(self.memory.get("fits", self.source.paging.limit), self.source.paging.limit)
        try:
            rows, _ = await probing.asked(
                self.memory, probing.Question(None, limit, backwards=True), self._ask
            )
        except probing.Refused as refused:
            raise refused.cause from None
        reading, known = self.memory["walk"], parse_time(self.memory.get("newest_at"))
        if known is not None and not self.memory.get("pinned"):
            # Old ids from a gap that an earlier version opened have been forgotten; rows that old were
            # reported when they were new.
            known = min(known, self.visit.now)  # a row's time can lie in the future
            start = parse_time(reading["start"])
            reading["start"] = rfc3339(
                max(filter(None, (start, known - timedelta(seconds=LONGEST_LOOKBACK))))
            )
        self._take(rows)
        self._tell_gap(rows)
        self.memory["tag"] = None if reading["newest"] else reading["tag"]
        self.memory.pop("absorbs", None)
        del self.memory["walk"]
        return Poll(self.memory, self.events, rows=self.count)

    async def _ask(self, question: probing.Question) -> tuple[list[Row], int]:
        paging, limit = self.source.paging, question.limit
        field = paging.order.partition(":")[0]
        while True:
            query: dict[str, str | int] = {paging.limit_param: limit}
            if not self.memory.get("unordered"):
                query[paging.order_param] = f"{field}:DESC" if question.backwards else paging.order
            if question.start is not None:
                query[paging.start_param] = _wire_time(question.start)
            if question.offset_param:
                query[question.offset_param] = question.offset
            try:
                answer = await self.visit.http.get(
                    self.source.url(), self.source.query(**query), self.source.headers()
                )
                rows = self.source.shape.rows(answer, self.unread)
                self._mind_times(rows)
                return rows, limit
            except TooLarge:
                if limit < 2:
                    raise
                limit = max(1, limit // 4)
            except Failed as exc:
                raise probing.Refused(exc, doubtful=True) from None
            except (RequestFailed, Denied) as exc:
                if exc.status in REFUSED and not getattr(exc, "passing", False):
                    raise probing.Refused(exc, doubtful=exc.status in DOUBTFUL) from None
                raise

    def _take(self, rows: list[Row]) -> None:
        """Turn rows into events, and record the newest row."""
        reading = self.memory["walk"]
        floor = parse_time(self.memory.get("floor"))
        # A server that ignores startDate answers with all rows: those older than asked for are not new.
        bound = max(filter(None, (floor, parse_time(reading["start"]))), default=None)
        before = frozenset(self.memory.get("before", ()))
        top = parse_time(reading.get("top"))
        top_id, newest = reading.get("top_id"), reading["newest"]
        latest = parse_time(reading["latest"]) or datetime.max.replace(tzinfo=UTC)
        event, name = self.source.shape.event, self.source.name
        absorbs, absorbed = self.memory.get("absorbs"), list[str]()
        oldest = parse_time(reading.get("oldest", [None, None])[1])
        for row in rows:
            stamp = row.created or row.occurred
            if row.created is not None and (top is None or top < row.created) and row.created <= latest:
                top, top_id = row.created, row.id
            if row.id == newest:
                reading["newest"] = None
            if row.id in before or (bound is not None and stamp is not None and stamp < bound):
                continue
            if absorbs and stamp is None:
                absorbed.append(row.id)
                continue
            self.events.append(event(row, name))
            if row.created is not None and (oldest is None or row.created < oldest):
                oldest = row.created
                reading["oldest"] = [row.id, rfc3339(row.created)]
        if absorbed:
            self.memory["before"] = list(dict.fromkeys([*self.memory.get("before", ()), *absorbed]))[
                :ABSORBED
            ]
        if top is not None:
            reading |= {"top": rfc3339(top), "top_id": top_id}
        self.count += len(rows)

    def _arrive(self) -> None:
        """The reading is complete: move the cursor, and store the ETag from before the reading."""
        reading, memory = self.memory["walk"], self.memory
        top, cursor = parse_time(reading.get("top")), parse_time(memory.get("cursor"))
        if top is not None and (cursor is None or top > cursor):
            memory |= {"cursor": reading["top"], "anchor": reading["top_id"]}
        if reading["sweep"]:
            memory["swept"] = memory.get("cursor")
        edge, depth = memory.get("edge"), timedelta(seconds=self.source.reread.sweep_depth)
        now = parse_time(memory.get("cursor"))
        if reading.get("oldest") and now and not (edge and (parse_time(edge[1]) or now) > now - depth / 2):
            memory["edge"] = reading["oldest"]  # a row that a sweep should show, too
        probed, low = parse_time(reading.get("probed")), parse_time(reading.get("low"))
        if top is not None and probed is not None and probed < top:
            # A row was added since, or the order is not the one asked for and the first row stays the same.
            memory["leads"] = False
        elif probed is not None and low is not None and low < probed:
            memory["leads"] = True
        elif memory.get("leads") is False:
            del memory["leads"]
        # If the list lacked the row that the probe showed, do not store the ETag until the list has it.
        memory["tag"] = reading["tag"] if not reading["newest"] and self._leads else None
        for key in ("gap", "pinned", "newest_told", "newest_at"):
            memory.pop(key, None)

    def _tell_gap(self, newest: list[Row]) -> None:
        """Report once, with its bounds, that no strategy gets past the truncation.

        The cursor stays, and each sweep tries again.
        """
        memory = self.memory
        since = parse_time(memory["walk"]["since"])
        top = memory.get("newest_told")
        if memory.get("gap") and not (top and all(row.id != top for row in newest)):
            since = None  # already reported, and the newest rows reach down to those reported before
        elif memory.get("gap"):
            since = (
                parse_time(memory.get("newest_at")) or since
            )  # another gap: more rows came than an answer shows
        if newest:
            latest = max(newest, key=_when)
            memory |= {"newest_told": latest.id, "newest_at": rfc3339(_when(latest))}
        if memory.get("gap") and since is None:
            return
        about = rfc3339(since) if since else "beginning"
        if not memory.get("gap"):
            memory |= {"gap": about, "pinned": True}  # from now on, ids since then are kept
        until = rfc3339(min(map(_when, newest))) if newest else None
        rows = memory.get("largest", 0)
        every = spell(self.source.reread.sweep_interval)
        message = (
            f"The server cuts its answers at {rows} rows, and no parameter tried gets past that: rows after {about}"
            f"{f' and before {until}' if until else ''} may be missing. The newest are told at every visit, and the gap is tried "
            f"again every {every}. Raise paging.max_limit, name the right parameter in paging.offset_params, or set "
            'paging.mode = "keyset" if startDate is known to compare with createdAt; '
            f"`roundsman rewind {self.source.name} --to` a later time accepts the loss."
        )
        details = {"cursor": memory.get("cursor"), "since": about, "until": until, "rows": rows}
        gap, now = "roundsman.source.gap", self.visit.now
        self.events.append(
            notice(gap, self.source.name, about, message, since=since, now=now, details=details)
        )


def _when(row: Row) -> datetime:
    return row.created or row.occurred or datetime(1970, 1, 1, tzinfo=UTC)


def _form(value: object) -> str:
    """The form of a value without its content: 9 for digits, a for letters."""
    if not isinstance(value, str):
        return "a number" if isinstance(value, int | float) else type(value).__name__
    text = re.sub(r"[^\W\d_]", "a", re.sub(r"\d", "9", value[:40]))
    return f"{text!r}"


def _digest(raw: bytes) -> str:
    return hashlib.blake2b(raw, digest_size=12).hexdigest()


def _wire_time(stamp: datetime) -> str:
    """UTC with milliseconds and `Z`, rounded down: the only form seen in use."""
    return stamp.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{stamp.microsecond // 1000:03d}Z"


def _outcome(value: Any) -> Outcome:
    """A missing or unknown value is not a success: a log does not prove that the door opened."""
    if value is True:
        return "granted"
    word = str(value).lower() if isinstance(value, bool | str) else ""
    return "granted" if word in GRANTED else "denied" if word in DENIED else "unknown"
