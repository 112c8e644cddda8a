"""Parakey: who opened which door, and how batches of access keys ended.

Documented: every endpoint sends an ETag and answers 304 to `If-None-Match`; the list of event logs takes
`limit`, `startDate` and `orderBy=createdAt:DESC`; a client may poll once in 60 seconds at most
(https://help.parakey.co/sv/articles/209-event-log-polling). Not documented: whether `orderBy=createdAt:ASC`
works, how many rows an answer may have, whether there are pages, what `startDate` compares with and whether
it is inclusive. None of this is assumed; `kit/probing.py` infers it from the answers.

Webhooks bring the bare resource, an event log or a batch, and do not say which. They are authenticated by a
header that a person entered at Parakey
(https://help.parakey.co/nb/articles/681873-receiving-batch-completions). So each source has its own address,
and refuses the other kind of resource.

For batches, `GET /batches/{id}` is documented, with results that say which items failed and why
(https://help.parakey.co/nb/articles/681873-receiving-batch-completions). Their states, their fields and a
list of them are not: all names are options.
"""

import asyncio
import hashlib
import math
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Literal, NamedTuple
from urllib.parse import quote

import httpx
from pydantic import Field

from roundsman import wire
from roundsman.errors import Backoff, Denied, Failed, NoRows, RequestFailed, TooLarge, Unreadable
from roundsman.events import Event, notice
from roundsman.http.answers import Answer
from roundsman.http.auth import HeaderToken
from roundsman.http.urls import Url, is_loopback
from roundsman.kit import fields, probing, tracking
from roundsman.kit.builder import PollBuilder
from roundsman.kit.probing import Row
from roundsman.kit.unread import Unread
from roundsman.options.secrets import Secret
from roundsman.options.values import Duration, HeaderName, HeaderValue, Options, Start
from roundsman.plugin import Poll, Received, Source, State, Visit
from roundsman.shapes import (
    FAILURES_CAP,
    Access,
    Batch,
    FailedItem,
    Failure,
    Outcome,
    Ref,
    batch_outcome,
    in_short,
)
from roundsman.times import is_due, parse_time, rfc3339, spell
from roundsman.webhook import Call

GRANTED = frozenset({"true", "success", "succeeded", "granted", "ok", "allowed", "opened", "unlocked"})
DENIED = frozenset({"false", "failure", "failed", "denied", "refused", "rejected", "error", "forbidden"})


BATCH_ID = re.compile(r"[0-9A-Za-z_-]{1,64}")
PLAIN = re.compile(r"[!->@-\[\]-~]{1,200}")
"""Ids that were surely decoded as the vendor wrote them.

A backslash or a question mark may stand for a character that is not valid text.
"""
FULL_FROM, PAGES = 10, 20
"""A page of at least `FULL_FROM` batches may not be the last; a visit reads at most `PAGES` pages."""
ERRORS = ("error", "fault", "request")
"""Prefixes of members that are not the batch, although they may contain its id."""
LIST_TRIES = 3
"""Failures of a second page after which the list is taken to have no pages."""
AT_ONCE = 30
"""Maximum batches asked for at one visit; the others are asked for at later visits."""
OLDEST_WEBHOOK = 34 * 86400.0
"""Maximum age in seconds of a row that a webhook may report: ids are kept for 35 days only."""
LONGEST_LOOKBACK = 30 * 86400.0
"""Maximum seconds that a reading may look back.

Ids are remembered for 35 days; a row whose id was forgotten is reported again.
"""
GIVE_UP_AFTER = 7 * 86400.0
"""Seconds after which a batch that answers only with errors is given up."""
REFUSED = frozenset({400, 403, 404, 405, 406, 409, 413, 414, 416, 422, 501})
"""Statuses that refuse a question as it was asked."""
DOUBTFUL = frozenset({403, 406, 409})
"""Those of them that may have another cause."""
NO_TIME, NO_YEAR = (None, "", 0, "null", "-"), ("0000-", "0001-", "1900-", "1753-", "1601-")
"""Values that mean "no time", and the prefixes of times that mean it."""
ABSORBED = 20_000
"""Maximum rows with unreadable times that are remembered as old when a source begins with `start = "now"`."""
Paths = tuple[str, ...]


class Asking(Options):
    """How to send requests, if your API differs from what is known."""

    auth_header: HeaderName = "access-token"
    """The header that carries the token."""
    auth_format: Annotated[HeaderValue, Field(pattern=r"\{token\}")] = "{token}"
    """The header's value; "Bearer {token}" for a bearer token."""
    version_header: HeaderName | None = None
    """The header that selects the version of the API; `version` is its value."""
    version: HeaderValue | None = None
    query: dict[str, str] = {}
    """Further query parameters for every request."""
    domain_param: str = "domainId"
    """The query parameter that carries `domain_id`."""


class Request(Asking):
    """`request`: how to send requests, if your API differs from what is known."""

    path: str = "/eventLogs"
    """The path of the list. The vendor's help spells it so; its code elsewhere uses dashes."""


class BatchRequest(Asking):
    """`request`: how to send requests, if your API differs from what is known."""

    path: Annotated[str, Field(pattern=r"\{id\}")] = "/batches/{id}"
    """The path of one batch."""
    list_path: str | None = None
    """The path of a list of batches, if your API has one: then all of its batches are tracked."""


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
    place: Paths = ("domain", "place", "domainId")
    door: Paths = ("device", "door", "lock", "eventConfiguration", "deviceId")
    key: Paths = ("access", "key", "accessId")
    user: Paths = ("user", "member", "userId")
    outcome: Paths = ("success", "succeeded", "granted", "result", "status")
    activity: Paths = ("activity", "activityType")


class BatchFields(Options):
    """`fields`: where the values of a batch are: lists of dotted paths; the first one present counts."""

    id: Paths = ("id",)
    status: Paths = ("status", "state")
    submitted_at: Paths = ("createdAt",)
    completed_at: Paths = ("completedAt", "finishedAt")
    items: Paths = ("items", "results")
    item_id: Paths = ("id", "itemId")
    item_status: Paths = ("status", "state", "success", "result.status")
    code: Paths = ("error.code", "errorCode", "code")
    message: Paths = ("error.message", "error", "message", "reason")
    user: Paths = ("user", "member", "email", "userId")
    key: Paths = ("access", "key", "accessId")


class States(Options):
    """`states`: the words for states of batches and items; case, dashes and underscores do not matter."""

    running: Paths = (
        "pending",
        "queued",
        "created",
        "scheduled",
        "running",
        "processing",
        "in progress",
        "started",
    )
    """A batch in one of these states is still running."""
    ended: Paths = (
        *("completed", "complete", "done", "finished", "succeeded", "success", "failed", "failure", "error"),
        *(
            "partial",
            "partially completed",
            "partially failed",
            "completed with errors",
            "completed with failures",
        ),
        *("cancelled", "canceled", "aborted", "expired", "timed out"),
    )
    """A batch in one of these states has ended. A state in neither list is not an end; it is logged once."""
    failed: Paths = (
        "failed",
        "failure",
        "error",
        "rejected",
        "refused",
        "denied",
        "invalid",
        "cancelled",
        "canceled",
        "expired",
        "timed out",
        "false",
    )
    """An item in one of these states has failed; so has one of unknown state that has an error."""
    succeeded: Paths = ("succeeded", "success", "completed", "complete", "done", "ok", "granted", "true")
    """An item in one of these states succeeded. An unknown state alone is no failure; it is logged once."""


class _Parakey(Source):
    """What Parakey's sources have in common."""

    base_url: Url = "https://api.parakey.co"
    """Where the vendor's API is."""
    access_token: Secret
    """The integration's access token."""
    domain_id: str | None = None
    """The place's id, if the integration sees several."""
    request: Asking

    account: ClassVar[tuple[str, ...]] = ("domain_id",)
    webhook_place: ClassVar[str] = "in Parakey: Settings, Integrations, your integration, Webhooks"

    def auth(self) -> httpx.Auth:
        value = self.request.auth_format.replace("{token}", self.access_token.reveal())
        return HeaderToken(self.request.auth_header, value)

    def query(self, **more: str | int) -> dict[str, str | int]:
        domain = {self.request.domain_param: self.domain_id} if self.domain_id else {}
        return {**domain, **self.request.query, **more}

    def headers(self) -> dict[str, str]:
        chosen = self.request.version_header
        return {chosen: self.request.version or ""} if chosen else {}


class EventLogs(_Parakey):
    """Parakey's event logs: one event per unlock, whether it succeeded or not."""

    type: Literal["parakey.event_logs"]
    webhook_place: ClassVar[str] = f"{_Parakey.webhook_place}, a webhook of the type Unlock event"
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


class Batches(_Parakey):
    """Parakey's batches of access keys: one event per batch that ended, and one per item that failed."""

    type: Literal["parakey.batches"]
    webhook_place: ClassVar[str] = f"{_Parakey.webhook_place}, a webhook of the type Batch completed"
    start: Start = "now"
    """With `request.list_path`: where to begin on the first run."""
    concurrency: Annotated[int, Field(ge=1, le=100)] = 2
    """Maximum requests with this token at the same time."""
    stall_after: Duration = 3600.0
    """Report a batch that has not changed for this long."""
    request: BatchRequest = BatchRequest()
    fields_: Annotated[BatchFields, Field(alias="fields")] = BatchFields()
    states: States = States()

    def poll(self, visit: Visit, state: State) -> AsyncIterator[Poll]:
        return _BatchRound(self, visit, state).polls()

    def receive(self, call: Call) -> Received:
        """Reads bare batches: each is reported if it is complete and has ended, else tracked."""
        shape = _BatchShape(self)
        events: list[Event] = []
        ids: list[str] = []
        rows = wire.objects(call.body)
        if not rows:
            raise Unreadable("the body is empty")
        for data, raw in rows:
            read = shape.read(data)
            if read.key is None or not BATCH_ID.fullmatch(read.key):
                raise Unreadable("an object without the id of a batch")
            if read.state is None and read.items is None:
                raise Unreadable("an object that is no batch; does an event log's webhook lead here?")
            if self.domain_id and read.domain not in {None, self.domain_id}:
                continue  # it belongs to a place that another source watches
            # An incomplete batch is asked for: nothing can be added once the batch is reported.
            whole = bool(read.items) and "unknown" not in read.outcomes
            if whole and shape.has_ended(read, again=False):
                events += shape.events(read, bytes(raw), datetime.fromtimestamp(call.now, UTC))
            else:
                ids.append(read.key)
        return Received(events, ids, ring=bool(ids))

    @classmethod
    def follow(cls, state: State, ids: Sequence[str]) -> State:
        for each in ids:
            if not BATCH_ID.fullmatch(each):
                raise ValueError(f"{each[:80]!r} is not the id of a batch")
        return {**state, "wanted": list(dict.fromkeys([*state.get("wanted", ()), *ids]))}

    @classmethod
    def following(cls, state: State) -> Sequence[str]:
        return [*state.get("wanted", ()), *state.get("open", ())]

    def rewound(self, state: State, to: datetime | None) -> State:
        if not self.request.list_path:
            raise ValueError("without request.list_path there is nothing to read again")
        kept = {key: value for key, value in state.items() if key not in ("list", "list_at", "list_read")}
        return {**kept, "floor": rfc3339(to) if to else ""}


class _BatchRound(PollBuilder):
    """One visit to the tracked batches. `memory` is the new state:

    open     batches by id, as in `kit/tracking.py`, each with the `tag` of its last answer
    wanted   ids to track, from webhooks and `roundsman track`
    list     the tag of the list, if there is one; `floor`: batches submitted before it are not
             tracked, unless they are running
    odd      subjects that were remarked on
    """

    def __init__(self, source: Batches, visit: Visit, state: State) -> None:
        super().__init__(state)
        self.source, self.visit = source, visit
        self.open: dict[str, Any] = self.memory.setdefault("open", {})
        self.now = visit.now
        self.good = 0
        self.errors: list[Exception] = []
        self.failed: dict[str, Exception] = {}
        """Batches whose request failed at this visit."""
        self.stop: Exception | None = None
        """Why no more requests are made at this visit."""
        self.shape = _BatchShape(source, self.remark)

    async def polls(self) -> AsyncIterator[Poll]:
        wanted = self.memory.pop("wanted", [])
        named = (
            set(wanted) if self.visit.trigger == "webhook" else None
        )  # a webhook named these; the others are asked for when due
        if self.source.request.list_path and not named:
            try:
                wanted += await self._list(self.source.request.list_path)
            except (RequestFailed, Unreadable) as exc:
                self.errors.append(exc)  # batches that are tracked by id do not need the list
                self.remark(f"the list of batches cannot be read: {exc}", about="list")
        known = await self.visit.known([f"{key}:completed" for key in (*wanted, *self.open)])
        for key in [*wanted, *self.open]:
            if f"{key}:completed" in known:  # reported by a webhook, if it is still open here
                self.open.pop(key, None)
            else:
                self.open.setdefault(key, tracking.entry(self.visit.vendor_now))
        turns = asyncio.Semaphore(self.source.concurrency)
        keys = [key for key in self.open if key in named][:AT_ONCE] if named else self._in_turn()
        if self.visit.wait:
            # The vendor asks us to wait. If it always does, poll slowly instead of never: ask for the one
            # batch that has waited longest.
            keys = sorted(keys, key=self._looked)[:1]
            for key in keys:
                self.open[key]["looked"] = rfc3339(self.now)
        await asyncio.gather(*(self._one(key, turns) for key in keys))
        self._give_up()
        for key, entry in self.open.items():
            after = self.source.stall_after
            self.events += tracking.stalled(
                self.source.name, "batch", key, entry, after, self.visit.vendor_now, {}
            )
        if self.good or self.events or wanted or self.memory.get("list_at"):
            yield self.poll()
        if self.stop is not None:
            raise self.stop
        # Without any good answer, the fault is the vendor's or the token's, unless a batch itself is refused.
        theirs = [exc for exc in self.errors if not _about_one_thing(exc)]
        # If the token was accepted before, a single 403 concerns that one batch; a stall notice will report
        # it.
        ours = [exc for exc in self.errors if isinstance(exc, Denied)]
        if self.memory.get("fine") and len(ours) == 1:
            ours = []
        if not self.good and (theirs or ours):
            raise (ours or theirs)[0]
        yield self.poll()

    def _in_turn(self) -> list[str]:
        """Batches to ask for at this visit: if there are very many, those that have waited longest."""
        keys = list(self.open)
        if len(keys) > AT_ONCE:
            keys = sorted(keys, key=self._looked)[:AT_ONCE]
            for key in keys:
                self.open[key]["looked"] = rfc3339(self.now)
        return keys

    def _looked(self, key: str) -> str:
        return self.open[key].get("looked") or ""

    async def _one(self, key: str, turns: asyncio.Semaphore) -> None:
        """Ask for one batch. Its error does not affect the others, unless it is a `Backoff` or a 401."""
        async with turns:
            if self.stop is not None:
                return
            try:
                self._take(key, await self._ask(key))
            except Backoff as exc:
                self.stop = exc
            except (RequestFailed, Unreadable, Denied) as exc:
                if isinstance(exc, Denied) and exc.status == 401:
                    self.stop = exc
                    return
                self.errors.append(exc)
                self.failed[key] = exc
                self.remark(f"batch {key} cannot be asked for: {exc}", about=f"asking {key}")
            else:
                self.good += 1
                self.memory["fine"] = True

    def _give_up(self) -> None:
        """Give up batches that fail for days while others are answered, or that are refused as such.

        Otherwise, the fault is the vendor's.
        """
        for key, exc in self.failed.items():
            entry = self.open[key]
            if (self.good or _about_one_thing(exc)) and tracking.hopeless(
                entry, GIVE_UP_AFTER, self.visit.vendor_now
            ):
                del self.open[key]
                self.events.append(
                    tracking.gone(self.source.name, "batch", key, entry, self.now, f"({exc}) ")
                )

    async def _list(self, path: str) -> list[str]:
        """Ids in the list that are not tracked yet.

        The paging is not documented. `offset` is a guess: if it fails, the first answer still counts.
        """
        url = f"{self.source.base_url}/{path.lstrip('/')}"
        memory, found, seen = self.memory, dict[str, None](), set[str]()
        tag, (offset, first) = memory.pop("list", None), memory.pop("list_at", (0, None))
        last = [offset, first]
        for _ in range(PAGES):
            query = self.source.query(**{"offset": offset} if offset else {})
            try:
                answer = await self.visit.http.get(url, query, self.source.headers(), None if offset else tag)
                if answer.unchanged:
                    memory["list"] = tag
                    return []
                rows = self._rows(answer)
            except (RequestFailed, Denied, Unreadable, Backoff) as exc:
                if not offset:
                    raise
                memory["list_read"] = False  # the rows beyond were not seen
                if isinstance(exc, Backoff) and seen:
                    memory |= {"list": tag, "list_at": (offset, None)}  # the next visit continues here
                else:
                    memory["list"] = tag if self._has_no_pages(exc) else None
                break
            moved = first and memory.get("list_order", 0) >= 0 and [row.key for row in rows[:1]] != [first]
            if offset and not seen and moved:
                offset, tag = (
                    0,
                    None,
                )  # older batches have left the list: new ones may be before this offset
                continue
            tag = tag if offset else answer.tag
            fresh = await self._fresh(rows)
            found |= dict.fromkeys(fresh)
            memory["list_order"] = order = _order(rows) or memory.get("list_order", 0)
            ids = {row.key for row in rows if row.key is not None}
            over = len(rows) < FULL_FROM or ids <= seen
            if offset and not ids <= seen:
                memory["list_pages"] = True
            last = last if ids <= seen else [offset, rows[0].key]
            if over or (order < 0 and memory.get("list_read") and not fresh):
                memory |= {"list_read": True, "list_failed": 0}
                # Rows that are added to a later page do not change the tag of the first one.
                if order > 0 and last[0]:
                    memory |= {"list_at": last} if last[1] else {}
                else:
                    memory["list"] = tag
                break
            seen |= ids
            offset += len(rows)
        else:
            memory |= {"list": tag, "list_at": last}  # the next visit continues here
        return list(found)

    async def _fresh(self, rows: list["_Read"]) -> list[str]:
        """The ids of the batches that must be tracked, and are neither tracked nor reported yet."""
        wanted = self._wanted(rows)
        known = await self.visit.known([f"{key}:completed" for key in wanted])
        return [key for key in wanted if key not in self.open and f"{key}:completed" not in known]

    def _rows(self, answer: Answer) -> list["_Read"]:
        """The batches in one answer of the list."""
        self.begin(self.source.start, answer.date(), self.now)
        damaged: list[wire.Damage] = []
        items = answer.items(damaged=damaged)
        self.unread.add(damaged)
        return [self.shape.read(item[0]) for item in items]

    def _has_no_pages(self, exc: Exception) -> bool:
        """Whether the error of a second page means that there is none: it is refused, or fails repeatedly."""
        passing = getattr(exc, "passing", False) or isinstance(exc, Unreadable | Backoff)
        if not passing and getattr(exc, "status", None) in REFUSED:
            return True
        self.memory["list_failed"] = self.memory.get("list_failed", 0) + 1
        return not self.memory.get("list_pages") and bool(self.memory["list_failed"] >= LIST_TRIES)

    def _wanted(self, rows: list["_Read"]) -> list[str]:
        """The ids of the batches to track: all that run, and those that were not submitted before `floor`."""
        floor, ids = parse_time(self.memory["floor"]), []
        for read in rows:
            key, begun = read.key, read.submitted
            if key is None or not BATCH_ID.fullmatch(key):
                self.remark(
                    f"the list has a batch with an id that cannot be asked for: {str(key)[:80]!r}",
                    f"id {key}",
                )
            elif self.shape.runs(read) or floor is None or begun is None or begun >= floor:
                ids.append(key)
        return ids

    async def _ask(self, key: str) -> Answer | None:
        """The batch; None if the vendor does not know it."""
        url = f"{self.source.base_url}/{self.source.request.path.lstrip('/').replace('{id}', quote(key, safe=''))}"
        tag = self.open[key].get("tag")
        try:
            return await self.visit.http.get(url, self.source.query(), self.source.headers(), tag)
        except RequestFailed as exc:
            if exc.status != 404 or exc.passing:
                raise
            return None

    def _take(self, key: str, answer: Answer | None) -> None:
        """One batch as it is now: track it further, or report it with its failed items."""
        entry = self.open[key]
        if answer is None:
            if tracking.missed(entry, self.now, self.source.interval):
                del self.open[key]
                self.events.append(tracking.gone(self.source.name, "batch", key, entry, self.now))
            return
        if answer.unchanged:
            tracking.answered(entry)
            return
        data = answer.json()
        if not isinstance(data, dict):
            raise Unreadable(f"the answer about batch {key} is not an object")
        body, read = answer.body, self.shape.read(data)
        if read.key is None and (inner := self.shape.inside(data, key)):
            if not inner.items:
                wire.refuse_failure(data)  # it may be an error about the batch
            data, body, read = inner.data, wire.encode(inner.data), inner
        if read.key is not None and read.key != key:
            raise Unreadable(f"the answer about batch {key} is about another one")
        if read.key is None and not read.items:
            wire.refuse_failure(data)
        if read.key is None and read.items and not (read.submitted or read.completed):
            wire.refuse_failure(data)  # it may be any list
        if read.key is None and not (read.items or read.submitted or read.completed):
            raise Unreadable(f"the answer about batch {key} has neither its id nor the shape of a batch")
        read = read._replace(key=key)
        # Without a state, only a second look that shows the same proves the end. So no tag is kept: a 304
        # would prevent that look.
        seen = [
            fields.text(read.status),
            *(read.outcomes.count(o) for o in ("succeeded", "failed", "unknown")),
        ]
        known = read.items or self.shape.runs(read) or entry["seen"] == seen
        entry["tag"] = answer.tag if read.state and known else None
        since = parse_time(entry["since"])
        waited = since is not None and tracking.apart(since, self.visit.vendor_now, self.source.interval)
        again = entry["seen"] == seen and waited
        # An answer without items may be a transient error, or the items may not be there yet: wait for a
        # second look.
        if self.shape.has_ended(read, again=again) and (read.items or again):
            del self.open[key]
            self.events += self.shape.events(read, body, self.now)
        else:
            tracking.saw(entry, seen, self.visit.vendor_now)


def _about_one_thing(exc: Exception) -> bool:
    """Whether a refusal concerns what was asked for, and is not a fault of the vendor."""
    return 400 <= (getattr(exc, "status", None) or 0) < 500 and not getattr(exc, "passing", False)


class _Read(NamedTuple):
    """What could be understood of a batch."""

    data: dict[str, Any]
    key: str | None
    status: Any
    """The vendor's word for its state; `state` is that as one word in lower case."""
    state: str | None
    items: list[dict[str, Any]] | None
    outcomes: list[Outcome]
    """The outcome of each item."""
    submitted: datetime | None
    completed: datetime | None
    domain: str | None


def _order(rows: list[_Read]) -> int:
    """How batches are sorted by submission time: 1 oldest first, -1 newest first, 0 unknown."""
    stamps = [row.submitted for row in rows if row.submitted is not None]
    if len(stamps) < max(3, len(rows)) or stamps[:1] == stamps[-1:]:
        return 0
    return 1 if stamps == sorted(stamps) else -1 if stamps == sorted(stamps, reverse=True) else 0


class _BatchShape:
    """Turns the vendor's batches into events. `remark` receives what is unexpected."""

    def __init__(self, source: Batches, remark: Callable[[str, str], None] = lambda *_: None) -> None:
        self._name = source.name
        self._remark = remark
        paths = source.fields_
        self._get = {name: fields.getter(getattr(paths, name)) for name in BatchFields.model_fields}
        self._domain = fields.getter(Fields().place)
        states = source.states
        self._running, self._ended = _words(states.running), _words(states.ended)
        self._failed, self._succeeded = _words(states.failed), _words(states.succeeded)

    def read(self, data: dict[str, Any]) -> _Read:
        """What can be understood of a batch."""
        get = self._get
        status, items = get["status"](data), get["items"](data)
        if isinstance(items, dict) and items and all(isinstance(item, dict) for item in items.values()):
            items = list(items.values())  # an object with the items by id
        items = (
            [item if isinstance(item, dict) else {} for item in items] if isinstance(items, list) else None
        )
        place = fields.ref(self._domain(data))
        return _Read(
            data,
            fields.text(get["id"](data)),
            status,
            _word(status),
            items,
            [self._outcome(item) for item in items or ()],
            parse_time(get["submitted_at"](data)),
            parse_time(get["completed_at"](data)),
            place["id"] if place else None,
        )

    def inside(self, data: dict[str, Any], key: str) -> _Read | None:
        """The batch of this id, if it is wrapped in an object with other members."""
        names = (name for name in data if not name.lower().startswith(ERRORS))
        read = (self.read(data[name]) for name in names if isinstance(data[name], dict))
        return next((each for each in read if each.key == key), None)

    def runs(self, read: _Read) -> bool:
        """Whether its state says that it is still running."""
        return read.state in self._running

    def has_ended(self, read: _Read, *, again: bool) -> bool:
        """Whether it has ended; `again`: it looked the same at the last look."""
        if read.state in self._ended:
            return True
        if read.state is None:  # then a completion time counts, or known outcomes that no longer change
            completed = bool(self._get["completed_at"](read.data))
            return completed or (again and bool(read.outcomes) and "unknown" not in read.outcomes)
        if not self.runs(read):
            self._remark(
                f"batch {read.key} has the unknown state {fields.text(read.status)!r}: not taken for an end; if it is one, "
                "name it in states.ended",
                f"state {read.state}",
            )
        return False

    def _outcome(self, item: dict[str, Any]) -> Outcome:
        """The outcome of an item: by its state, or by an error in any spelling."""
        state = self._get["item_status"](item)
        word = _word(state)
        if type(state) is int:  # perhaps an HTTP status
            word = "true" if 200 <= state < 300 else "false" if state >= 400 else None
        if word in self._failed:
            return "failed"
        if word in self._succeeded:
            return "succeeded"
        faults = (self._get["code"](item), self._get["message"](item), item.get("error"), item.get("errors"))
        return "failed" if any(faults) and word not in self._running else "unknown"

    def events(self, read: _Read, body: bytes, now: datetime) -> list[Event]:
        """The events of a batch that has ended: its failed items, then the batch itself.

        Failed items are reported together with the batch or not at all, because webhooks and polls may number
        items differently.
        """
        key, items, outcomes = read.key or "", read.items, read.outcomes
        submitted, completed = read.submitted, read.completed
        time = rfc3339(completed or submitted or now)
        events: list[Event] = []
        brief: list[FailedItem] = []
        seen: set[str] = set()
        for index, (item, outcome) in enumerate(zip(items or (), outcomes, strict=True)):
            if outcome == "unknown":
                state = self._get["item_status"](item)
                self._remark(
                    f"item {index} of batch {key} has the unknown state {fields.text(state)!r}: not taken for a failure; "
                    "if it is one, name it in states.failed",
                    f"item {_word(state)}",
                )
            if outcome != "failed":
                continue
            failure = self._failure(key, index, item)
            own = failure["item_id"] or str(index)
            own = own if own not in seen else f"{own}#{index}"
            seen.add(own)
            brief.append(in_short(failure))
            events.append(
                Event.of(
                    vendor="parakey",
                    source=self._name,
                    type="co.parakey.batch.item_failed",
                    id=f"{key}:{own}:failed",
                    data=failure,
                    time=time,
                    subject=key,
                    outcome="failed",
                    unless=f"{key}:completed",
                )
            )
        total = len(items) if items is not None else None
        failed = outcomes.count("failed") if items is not None else None
        word = read.state
        if not failed and (word in self._failed or "unknown" in outcomes):
            failed = None  # it failed without saying what, or the state of an item is unknown
        batch: Batch = {
            "batch_id": key,
            "outcome": batch_outcome(total, failed)
            if failed is not None or word not in self._failed
            else "failed",
            "status": fields.text(read.status),
            "total": total,
            "failed": failed,
            "submitted_at": rfc3339(submitted) if submitted else None,
            "completed_at": rfc3339(completed) if completed else None,
            "failures": brief[:FAILURES_CAP] if failed is not None else None,
            "failures_cap": FAILURES_CAP,
            "raw": wire.line(body),
        }
        events.append(
            Event.of(
                vendor="parakey",
                source=self._name,
                type="co.parakey.batch.completed",
                id=f"{key}:completed",
                data=batch,
                time=time,
                subject=key,
                outcome=batch["outcome"],
            )
        )
        return events

    def _failure(self, key: str, index: int, item: dict[str, Any]) -> Failure:
        get = self._get
        code, message = get["code"](item), get["message"](item)
        about = fields.ref(get["key"](item))
        return {
            "batch_id": key,
            "item_id": fields.text(get["item_id"](item)),
            "index": index,
            "code": fields.text(code),
            "message": fields.text(message),
            "fields": [],
            "person": fields.person(get["user"](item)),
            "about": about if about and (about["id"] or about["name"]) else None,
            "raw": item,
        }


def _words(words: Paths) -> frozenset[str | None]:
    return frozenset(_word(word) for word in words)


def _word(value: Any) -> str | None:
    """A state as one word in lower case: "Timed_Out" and "timed out" are the same."""
    if isinstance(value, bool):
        return str(value).lower()
    return "".join(c for c in value.lower() if c.isalnum()) or None if isinstance(value, str) else None
