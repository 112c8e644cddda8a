"""Railz (FIS Accounting Data as a Service): how pushes to accounting systems ended.

Documented: a token by `GET getAccess`, valid for an hour; `pushStatus` for one connection, or for one push or
batch of it, without a filter by time; statuses `pending`, `success`, `failed`; answers with `pagination`, but
without `offset` among the parameters of this list
(https://docs.railz.ai/reference/push-creating-and-updating-data). There is no resource for a batch: it has
ended when none of its pushes is pending. So each visit asks every connection, and pending pushes are tracked
by id.
"""

import asyncio
import hashlib
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self

import httpx
from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from roundsman import wire
from roundsman.errors import Backoff, Denied, NoToken, RequestFailed, Unreadable
from roundsman.events import Event, notice
from roundsman.http.answers import Answer
from roundsman.http.auth import PasswordToken
from roundsman.http.urls import Endpoint, Url, is_loopback
from roundsman.kit import fields, tracking
from roundsman.kit.builder import PollBuilder
from roundsman.options.secrets import Secret
from roundsman.options.values import Duration, Start
from roundsman.plugin import Poll, Received, Source, State, Visit
from roundsman.shapes import FAILURES_CAP, Batch, Failure, FieldError, Outcome, Push, batch_outcome
from roundsman.times import is_due, parse_time, rfc3339, spell
from roundsman.webhook import Call, Scheme, SignedHook, Strong

SIGNATURE = Scheme("railz-signature", "v", per_second=1000)
OTHER_EVENTS = frozenset({"login", "auth", "connectionStatus", "customerRequest", "data", "dataPerType"})
"""Events of the vendor's webhooks that are not pushes: they are accepted and ignored."""
OUTCOMES: dict[str, Outcome] = {"success": "succeeded", "failed": "failed"}
"""The terminal states. Any other status is not an end."""
SPEC = re.compile(r"(?:([^/\x00-\x1f]{1,120})/)?(batch:)?([0-9A-Za-z_-]{1,64})")
ID = re.compile(r"[0-9A-Za-z_-]{1,64}")
CHUNK = 20
"""Connections that are asked in one group."""
COMMIT_AFTER = 500
"""Connections asked, or events found, before a commit."""
OVERLAP = 10
"""Rows by which two pages overlap: lists shift while they are read."""
LARGEST = 500
"""Maximum rows to ask for per request."""
REFUSED = frozenset({400, 404, 422})
"""Statuses that refuse a parameter."""
FULL_FROM, ROUND_TO = 10, 10
"""A page of `FULL_FROM` rows without a total may not be all; servers truncate at multiples of `ROUND_TO`."""
PAGES = 20
"""Maximum pages of one list that are read per visit; the next visit continues."""
FAILING = ("fail", "error", "reject", "invalid", "unsupported", "refused", "denied")
"""Prefixes of the words for a file that failed."""
FILE_MESSAGES = ("message", "error", "reason")
"""Members of a file that may say why it failed; not documented."""
SINGLE_REQUESTS = 50
"""Maximum pushes (and batches) of one connection that a visit asks for singly; the others come later."""
BREAKER_AFTER = 3
"""Connections in a row without any answer, after which the fault is taken to be the vendor's."""
GIVEN_UP_KEPT = 100
"""Given-up batches that a connection remembers: their pushes do not open them again."""
SEARCH_EVERY = 30
"""Visits between two searches of all connections for an id, while one that may have it fails."""
REPORT_AFTER = 3
"""Failures of one connection in a row, after which they are reported."""
LONGEST = 3600.0
"""Maximum seconds between two tries of a connection that fails."""


def _connections(value: object) -> object:
    if value == "discover":
        return value
    if isinstance(value, str):
        raise ValueError(f'is neither "discover" nor a list; write ["{value}"] if it is a connection')
    if not isinstance(value, list | tuple) or not all(isinstance(v, str) and v.strip() for v in value):
        raise ValueError('is neither "discover" nor a list of connections such as ["CON-..."]')
    if not value:
        raise ValueError('is empty; write "discover" to watch all there are')
    return tuple(dict.fromkeys(value))


Connections = Annotated[
    Literal["discover"] | tuple[str, ...],
    BeforeValidator(_connections),
    WithJsonSchema(
        {"anyOf": [{"const": "discover"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}
    ),
]


class Webhook(SignedHook):
    """`webhook`: what a call must show to be accepted as the vendor's. All of what is set must be right."""

    signing_secrets: tuple[Strong, ...] = ()
    """The signing secrets from the dashboard, one per URL; a call may be signed with any of them."""

    def proofs(self) -> list[Secret]:
        return [*super().proofs(), *self.signing_secrets]

    @property
    def wants_signature(self) -> bool:
        return bool(self.signing_secrets)

    @classmethod
    def ways(cls) -> str:
        return "signing_secrets, or header and value, or token"

    def check(self, call: Call) -> None:
        super().check(call)
        if self.signing_secrets:
            SIGNATURE.check(call, self.signing_secrets, self.signature_tolerance)


class Pushes(Source):
    """Railz's pushes: one event per push that ended, and one per batch of them."""

    type: Literal["railz.pushes"]
    base_url: Url = "https://api.railz.ai"
    """Where the vendor's API is."""
    auth_url: Endpoint = "https://auth.railz.ai/getAccess"
    """Where tokens are fetched."""
    client_id: Annotated[str, Field(min_length=1)]
    """The client's id, from the dashboard."""
    secret_key: Secret
    """The secret key: "SB_..." is the sandbox's, "ID_..." production's."""
    connections: Connections
    """Connections to watch, by their uuid, or "discover" for all; with v1, names of businesses."""
    concurrency: Annotated[int, Field(ge=1, le=1000)] = 2
    """Maximum requests with this key at the same time."""
    start: Start = "now"
    """Where to begin on the first run: "now", "beginning", or a date-time."""
    api_version: Literal["v2", "v1"] = "v2"
    """The version of the API to use."""
    deletes: bool = False
    """Watch deletions, too: a second request per connection."""
    messages: bool = True
    """Keep the accounting system's messages in events; they may hold your customers' data."""
    page_size: Annotated[int, Field(ge=20, le=500)] = 100
    """Rows to ask for per request, if a list has pages."""
    overlap: Duration = 600.0
    """How far behind the newest push to read again whenever a long list changed."""
    full_read_every: Duration = 1800.0
    """How often to read long lists completely."""
    discover_every: Duration = 600.0
    """How often to look for new connections."""
    requests_per_minute: Annotated[int, Field(ge=1, le=60_000)] = 300
    """Maximum requests per minute; not applied to a loopback address."""
    stall_after: Duration = 24 * 3600.0
    """Report a push that has been pending for this long."""
    token_ttl: Annotated[Duration, Field(gt=0)] = 3600.0
    """How long a token is valid, if it does not say so itself."""
    token_refresh_margin: Duration = 300.0
    """How long before its expiry a token is renewed."""
    webhook: Webhook | None = None
    """Take the vendor's webhooks, too, at /hooks/NAME."""
    account: ClassVar[tuple[str, ...]] = ("client_id", "environment")
    webhook_place: ClassVar[str] = (
        "in the Railz dashboard: Developers, Webhooks; events push, batchPush and delete; "
        "its signing secret belongs into signing_secrets"
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.api_version == "v1" and self.connections == "discover":
            raise ValueError('cannot discover with api_version = "v1": list the businesses in connections')
        if self.api_version == "v1" and self.deletes:
            raise ValueError('cannot watch deletes with api_version = "v1"')
        return self

    def auth(self) -> httpx.Auth:
        key = self.secret_key.reveal()
        return PasswordToken(
            self.auth_url, self.client_id, key, life=self.token_ttl, margin=self.token_refresh_margin
        )

    def poll(self, visit: Visit, state: State) -> AsyncIterator[Poll]:
        return _Round(self, visit, state).polls()

    def receive(self, call: Call) -> Received:
        """Reads a push, a batch of pushes or a deletion: reported if complete and ended, else asked for."""
        document = wire.decode(call.body)
        data = document.get("data") if isinstance(document, dict) else None
        if not isinstance(data, dict):
            raise Unreadable("a body without the object data")
        kind = fields.text(data.get("event"))
        if kind in OTHER_EVENTS:
            return Received()
        if kind not in {"push", "batchPush", "delete"}:
            raise Unreadable(f"the unknown event {kind}"[:100])
        return _PushCall(self, data).read()

    @classmethod
    def follow(cls, state: State, ids: Sequence[str]) -> State:
        for each in ids:
            if not SPEC.fullmatch(each):
                raise ValueError(
                    f"{each[:80]!r} is not the id of a push; write ID, batch:ID, CONNECTION/ID or CONNECTION/batch:ID"
                )
        return {**state, "wanted": {**dict.fromkeys(ids, 0), **state.get("wanted", {})}}

    @classmethod
    def following(cls, state: State) -> Sequence[str]:
        books = state.get("books", {})
        pending = [f"{name}/{key}" for name, book in books.items() for key in book.get("pending", ())]
        batches = [f"{name}/batch:{key}" for name, book in books.items() for key in book.get("batches", ())]
        return [*state.get("wanted", ()), *pending, *batches]

    def rewound(self, state: State, to: datetime | None) -> State:
        kept = ("pending", "batches", "cut")
        books = {
            name: {k: book[k] for k in kept if k in book} for name, book in state.get("books", {}).items()
        }
        return {**state, "floor": rfc3339(to) if to else "", "books": books}

    @property
    def environment(self) -> Literal["sandbox", "production"] | None:
        """The environment that the key opens; both are at the same address."""
        kinds: dict[str, Literal["sandbox", "production"]] = {"SB": "sandbox", "ID": "production"}
        return kinds.get(self.secret_key.reveal().partition("_")[0])


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of list: pushes or deletions, which have the same form."""

    path: str
    id: str
    event: str


PUSHES = Kind("data/pushStatus", "pushCommunicationId", "ai.railz.push.completed")
DELETES = Kind("data/deleteStatus", "deleteCommunicationId", "ai.railz.delete.completed")


class _PushCall:
    """One webhook about pushes or deletions."""

    def __init__(self, source: Pushes, data: dict[str, Any]) -> None:
        self._source = source
        self._data = data
        self._kind = DELETES if data["event"] == "delete" else PUSHES
        self._connection = self._whose()

    def read(self) -> Received:
        watched = self._source.connections
        if watched != "discover" and self._connection and self._connection not in watched:
            return Received()  # a connection that is not watched here
        batched = self._data["event"] == "batchPush"
        batch = _batch_id(self._data.get("batchId"))
        found = self._data.get("batch") if batched else [self._data]
        found = found if isinstance(found, list) else []
        rows = [row for row in found if isinstance(row, dict)]
        events = [event for row in rows for event in self._told(row, batch)]
        unsaid = [row for row in rows if not self._says_all(row)]
        if not batched:
            return Received(events, *self._ask(unsaid))
        if batch is None or not ID.fullmatch(batch):
            raise Unreadable("a batchPush without the id of the batch")
        if rows and len(rows) == len(found) and not unsaid and self._connection:
            return Received([*events, _batch_event(self._source, self._connection, batch, rows)])
        return Received(events, [self._spec(f"batch:{batch}")], ring=True)

    def _whose(self) -> str | None:
        """The connection, in any spelling that webhooks use."""
        source = self._source
        names = ("connectionUuid", "connectionUUid", "connectionId")
        found = fields.first(self._data, *(("businessName",) if source.api_version == "v1" else names))
        only = (
            source.connections[0]
            if source.connections != "discover" and len(source.connections) == 1
            else None
        )
        return found or only

    def _says_all(self, row: dict[str, Any]) -> bool:
        """Whether the row is complete: it has ended, and has a completion time or a response code."""
        ended = row.get("completedOn") or row.get("responseCode") is not None
        status = fields.text(row.get("status"))
        return bool(self._connection and status in OUTCOMES and ended and self._key(row))

    def _key(self, row: dict[str, Any]) -> str | None:
        key = row.get(self._kind.id)
        return key if isinstance(key, str) and ID.fullmatch(key) else None

    def _told(self, row: dict[str, Any], batch: str | None) -> list[Event]:
        key, status = self._key(row), fields.text(row.get("status"))
        if key is None or status is None or self._connection is None or not self._says_all(row):
            return []
        # A push that was reported with the other status keeps it: webhooks come late, and in any order.
        other = next(word for word in OUTCOMES if word != status)
        own = _batch_id(row.get("batchId")) or batch
        push = _push_event(
            self._source, self._kind, self._connection, key, status, row, row, own, unless=f"{key}:{other}"
        )
        return [*_file_events(self._source, key, row, own), push]

    def _ask(self, rows: list[dict[str, Any]]) -> tuple[list[str], bool]:
        """The ids to track for incomplete rows, and whether to ring."""
        keys = [self._key(row) for row in rows]
        if None in keys:
            raise Unreadable(f"a {self._data['event']} without its id")
        if self._kind is DELETES and keys:
            if not self._source.deletes:
                raise Unreadable(
                    "a deletion that does not say how it ended; only with deletes = true can that be asked for"
                )
            return [], False  # the next visit finds it
        return [self._spec(key) for key in keys if key], bool(keys)

    def _spec(self, key: str) -> str:
        spec = f"{self._connection}/{key}"
        return spec if self._connection and SPEC.fullmatch(spec) else key


class Page(NamedTuple):
    """Some rows of a list, and the stated total."""

    rows: dict[str, wire.Item]
    total: int | None
    tag: Any = None
    unchanged: bool = False
    doubtful: bool = False
    """The stated total equals these rows and is a round number, so it may count the page only.

    It is believed until an answer contradicts it.
    """

    @property
    def oldest(self) -> str:
        """The id of the row with the earliest `requestedOn`."""
        return min(self.rows, key=lambda key: (fields.text(self.rows[key][0].get("requestedOn")) or "~", key))


class _Round(PollBuilder):
    """One visit to all connections. `memory` is the new state:

    floor     what ended before it is not reported; "" for no floor
    found     the connections that were discovered, and when
    books     the state of each connection (and of "#deletes"), as in `_Connection`
    wanted    ids to track, and in how many rounds they were not found
    at        where the next round begins, if this one was cut short
    odd       subjects that were remarked on
    """

    def __init__(self, source: Pushes, visit: Visit, state: State) -> None:
        super().__init__({key: value for key, value in state.items() if key != "books"})
        self._state = state
        self.source, self.visit = source, visit
        # By far the largest part: its members are replaced and never changed in place, so they need no copy.
        self.parts: dict[str, Any] = dict(state.get("books", {}))
        self.wanted: dict[str, int] = dict(self.memory.get("wanted", {}))
        self.now = visit.now
        self.good = 0
        self.errors: list[Exception] = []
        self.stop: Exception | None = None
        """Why the round is cut short."""
        self.tried: set[str] = set()
        self.done: set[str] = set()
        """Connections that were asked in this round, and those whose turn is over."""
        self.only: str | None = None
        """The connection, if there is only one."""
        self.alone, self.asked = False, 0
        self._silent = 0
        self._turns = asyncio.Semaphore(source.concurrency)

    async def polls(self) -> AsyncIterator[Poll]:
        connections = await self._which()
        self.only = connections[0] if len(connections) == 1 else None
        kinds = (PUSHES, DELETES) if self.source.deletes else (PUSHES,)
        names = [name + ("#deletes" if kind is DELETES else "") for name in connections for kind in kinds]
        self.alone, self.asked = len(names) == 1, len(names)
        self._tidy(names)
        named = self._named(connections)
        narrow = named is not None
        names = names if named is None else named
        begin = self.memory.pop("at", None) if not narrow else None
        if begin in names:
            names = names[names.index(begin) :] + names[: names.index(begin)]
        unsaid = 0
        for at in range(0, len(names), CHUNK):
            chunk = names[at : at + CHUNK]
            await asyncio.gather(*(self._one(name) for name in chunk))
            rest = names[at + CHUNK :]
            cut = self.stop is not None or self.visit.wait
            # The next round begins where this one ended; if the first connection ended it, after that one,
            # because the fault may be its own.
            left = next((name for name in names if name not in self.done), None) if cut else None
            if left is not None and not narrow:
                self.memory["at"] = names[1 % len(names)] if left == names[0] and left in self.tried else left
            unsaid += len(chunk)
            if cut or not rest or unsaid >= COMMIT_AFTER or len(self.events) >= COMMIT_AFTER:
                unsaid = 0
                yield self._poll()
            if self.stop is not None:
                raise self.stop
            if self.visit.wait:
                break  # the vendor asks us to wait
        if not self.good and names and (self.errors or not narrow):
            raise self.errors[0] if self.errors else RequestFailed("none of the connections answers")
        if not narrow:
            self._not_found(connections)
        yield self._poll()

    def _named(self, connections: Sequence[str]) -> list[str] | None:
        """The connections named by the webhook that triggered this visit; the others are asked when due.

        None for all.
        """
        if self.visit.trigger != "webhook" or "floor" not in self.memory or not self.wanted:
            return None
        found = [at[1] or self.only for at in map(SPEC.fullmatch, self.wanted) if at]
        return None if None in found else [name for name in connections if name in found]

    def _poll(self) -> Poll:
        self.memory |= {"books": dict(self.parts), "wanted": dict(self.wanted)}
        return self.poll(settled=True)

    async def get(self, url: str, query: Mapping[str, str | int], tag: Any = None) -> Answer:
        """As `http.get`, but not faster than `requests_per_minute`."""
        if not is_loopback(self.source.base_url):
            await self.visit.pause(60 * self.source.concurrency / self.source.requests_per_minute)
        return await self.visit.http.get(url, query, tag=tag)

    async def _one(self, name: str) -> None:
        """Ask one connection when its turn comes.

        Its error does not affect the others, unless it ends the round. What it answered before the error
        counts.
        """
        async with self._turns:
            if self.stop is not None or (self.visit.wait and self.tried):
                return  # the vendor asks us to wait; but each round asks one connection
            self.tried.add(name)
            connection = _Connection(self, name)
            if connection.waits():
                self.done.add(name)
                return
            try:
                await connection.visit()
            except (RequestFailed, Unreadable, Denied, Backoff) as exc:
                connection.hand_over()
                if isinstance(exc, Backoff):
                    self.visit.defer(exc.after)  # for all connections; this one also waits after `fail`
                if self._ends_round(exc):
                    self.stop = self.stop or exc
                else:
                    self.done.add(name)
                    self.errors.append(exc)
                    connection.fail(exc)
            else:
                self._silent = 0
                self.good += 1
                self.rows += 1  # one answer, for the progress line
                self.done.add(name)
                connection.succeed()

    def _ends_round(self, exc: Exception) -> bool:
        """Whether the error concerns all connections: a key or token is refused, or the vendor is down."""
        if isinstance(exc, NoToken) or (isinstance(exc, Denied) and exc.status == 401):
            return True
        silent = isinstance(exc, RequestFailed) and (exc.status is None or exc.status >= 500)
        self._silent = self._silent + 1 if silent else 0
        return self._silent >= BREAKER_AFTER

    # -- which connections -----------------------------------------------------------------------------------

    async def _which(self) -> list[str]:
        if self.source.connections != "discover":
            return list(self.source.connections)
        found = self.memory.get("found", {})
        looked = parse_time(found.get("at"))
        age = (self.now - looked).total_seconds() if looked else -1.0
        unknown = any(
            at[1] and at[1] not in found.get("ids", ()) for at in map(SPEC.fullmatch, self.wanted) if at
        )
        if unknown or not 0 <= age < self.source.discover_every:
            try:
                ids = await self._discover()
            except RequestFailed as exc:
                if not found:
                    raise
                self.remarks.append(f"connections cannot be discovered: {exc}")
                ids = found["ids"]
            if not ids and found.get("ids"):
                self.remark(
                    "no connection is discovered any more, although there were some: they are watched on",
                    "no connections",
                )
                ids = found["ids"]
            self.memory["found"] = {"ids": ids, "at": rfc3339(self.now)}
        known: list[str] = self.memory["found"]["ids"]
        # A push or batch that is under way at a connection that is no longer listed can still end.
        busy = [
            n.partition("#")[0]
            for n, book in self.parts.items()
            if book.get("pending") or book.get("batches")
        ]
        return sorted({*known, *busy})

    async def _discover(self) -> list[str]:
        found: dict[str, None] = {}
        offset = 0
        while True:
            try:
                answer = await self.get(
                    f"{self.source.base_url}/v2/connections", {"limit": 500, "offset": offset}
                )
            except RequestFailed as exc:
                if not offset or exc.status not in REFUSED or exc.passing:
                    raise
                return sorted(found)  # the list has no pages
            if answer.status == 204:
                return sorted(found)
            self.begin(self.source.start, answer.date(), self.now)
            damaged: list[wire.Damage] = []
            rows = answer.items("data", damaged)
            self.unread.add(damaged)
            names = [
                name
                for data, _ in rows
                if (name := fields.first(data, "connectionUuid", "connectionUUid", "connectionId"))
            ]
            fresh = [name for name in names if name not in found]
            found |= dict.fromkeys(fresh)
            total = _total(answer.envelope(), len(rows))
            offset += len(rows)
            if not fresh or _is_all(total, len(found), len(rows)):
                return sorted(found)

    def _tidy(self, names: Iterable[str]) -> None:
        """Drop the state of connections that are no longer watched."""
        if self.parts.keys() - set(names):
            self.parts = {name: book for name, book in self.parts.items() if name in set(names)}

    @staticmethod
    def asks(rounds: int) -> bool:
        """Whether to ask all connections for an id: at first always, later every `SEARCH_EVERY` rounds."""
        return rounds < tracking.GONE_AFTER or rounds % SEARCH_EVERY == 0

    def _not_found(self, connections: Sequence[str]) -> None:
        """After a complete round: the ids that no connection knew."""
        for spec, rounds in list(self.wanted.items()):
            at = SPEC.fullmatch(spec)
            assert at is not None
            strange = at[1] is not None and at[1] not in connections
            if not strange and at[1]:
                continue  # its connection did not answer
            unsure = self.good < self.asked and not strange  # a connection that may have it did not answer
            if rounds + 1 >= tracking.GONE_AFTER and self.asks(rounds) and not unsure:
                why = f"{at[1]} is not among the connections of this source. " if strange else ""
            else:
                self.wanted[spec] = rounds + 1
                continue
            del self.wanted[spec]
            entry = tracking.entry(self.now)
            self.events.append(tracking.gone(self.source.name, "push", spec, entry, self.now, why))


class _Connection:
    """The list of one connection at one visit. `_part` is its state:

    page      a digest of the list's first answer; `count`: its stated number of rows; `tag`: its ETag
    newest    when the newest push was requested: how far a long list has to be read
    full      when a long list was last read completely
    cut       its pages do not work, which was reported; `larger`: a larger answer shows more rows
    whole     a round number of rows that was taken for all: the number, and the id of the oldest row
    pending   pushes by id, as in `kit/tracking.py`; `listed`: in the first answer; `batch`
    batches   batches by id; `look`: a digest of what the last look showed
    left      batches that were given up
    failed    how many times in a row it failed, since when, and until when it is left alone
    """

    def __init__(self, round_: _Round, name: str) -> None:
        self._round = round_
        self._source = round_.source
        self._name = name
        self._connection, _, kind = name.partition("#")
        self._kind = DELETES if kind else PUSHES
        self._part: dict[str, Any] = wire.decode(wire.encode(round_.parts.get(name, {})))
        self._pending: dict[str, Any] = self._part.setdefault("pending", {})
        self._batches: dict[str, Any] = self._part.setdefault("batches", {})
        self._events: dict[str, Event] = {}
        self._found: dict[str, bool] = {}
        """Ids that were seen at this visit, and whether in the first answer."""
        self._rows = 0
        self._stumbles = 0
        self._placed: list[str] = []

    def waits(self) -> bool:
        """Whether it failed recently and is left alone."""
        until = parse_time(self._part.get("failed", {}).get("until"))
        return until is not None and 0 < (until - self._round.now).total_seconds() <= LONGEST

    async def visit(self) -> None:
        first = await self._ask(tag=None if self._wants_all() else self._part.get("tag"))
        await self._place_wanted()
        if not first.unchanged:
            await self._list(first)
        await self._each(self._pending, self._hidden(), self._singly)
        pending = {e.get("batch") for e in self._pending.values() if e.get("listed")}
        await self._each(
            self._batches, [batch for batch in self._batches if batch not in pending], self._look
        )
        if not self._round.visit.wait:
            await self._wanted()
        for what, entries in (("push", self._pending), ("batch", self._batches)):
            for key, entry in entries.items():
                details = {"connection": self._connection, "batch": entry.get("batch")}
                after, now = self._source.stall_after, self._round.visit.vendor_now
                for event in tracking.stalled(self._source.name, what, key, entry, after, now, details):
                    self._events[event.id] = event

    def succeed(self) -> None:
        """Record that the connection answered, and hand over what was found."""
        failed = self._part.pop("failed", None)
        if failed and failed["times"] >= REPORT_AFTER:
            since = parse_time(failed["since"])
            text = f"The connection {self._connection} answers again."
            self._notice("roundsman.source.recovered", f"{self._name}:{failed['since']}", text, since)
        self.hand_over()

    def hand_over(self) -> None:
        """Add what was found so far to the visit. After each step, state and events are consistent."""
        round_ = self._round
        round_.events += self._events.values()
        round_.rows += self._rows
        self._events, self._rows = {}, 0
        for spec in self._placed:
            round_.wanted.pop(spec, None)
        self._keep()

    def fail(self, exc: Exception) -> None:
        """Record the error, leave the connection alone for a while, and report the third failure in a row."""
        round_ = self._round
        if round_.alone:
            return  # then the source itself fails
        failed = self._part.setdefault("failed", {"times": 0, "since": rfc3339(round_.now)})
        failed["times"] += 1
        pause = min(LONGEST, self._source.interval * 2.0 ** min(failed["times"] - 1, 10))
        failed["until"] = rfc3339(round_.now + timedelta(seconds=pause - 1))
        if failed["times"] == REPORT_AFTER:
            since = parse_time(failed["since"])
            text = f"No good answer about the connection {self._connection} since {failed['since']}: {exc}"
            self._notice("roundsman.source.failing", f"{self._name}:{failed['since']}", text, since)
        about = f"failing {self._name} {failed['since']}"
        round_.remark(f"connection {self._connection}: {exc}; again in {spell(pause)}", about=about)
        self.hand_over()

    def _keep(self) -> None:
        book = {key: value for key, value in self._part.items() if value not in ({}, [], None)}
        if book != self._round.parts.get(self._name, {}):
            self._round.parts[self._name] = book

    def _notice(self, kind: str, about: str, message: str, since: datetime | None = None) -> None:
        details = {"connection": self._connection}
        now, name = self._round.now, self._source.name
        event = notice(kind, name, about, message, since=since, now=now, details=details)
        self._events[event.id] = event

    # -- asking ----------------------------------------------------------------------------------------------

    async def _ask(self, tag: Any = None, **query: str | int) -> Page:
        v2 = self._source.api_version == "v2"
        url = f"{self._source.base_url}/{'v2/' if v2 else ''}{self._kind.path}"
        about = {"connectionUuid" if v2 else "businessName": self._connection}
        answer = await self._round.get(url, {**about, **query}, tag)
        if answer.status == 204:
            return Page({}, 0)
        self._round.begin(self._source.start, answer.date(), self._round.now)
        if answer.unchanged:
            return Page({}, None, answer.tag, unchanged=True)
        rows = {}
        damaged: list[wire.Damage] = []
        items = answer.items("data", damaged)
        self._round.unread.add(damaged)
        for data, raw in items:
            key = fields.first(data, self._kind.id)
            if key:
                rows[key] = (data, raw)
            else:
                self._round.remark(f"a row without {self._kind.id} is in the list of {self._connection}")
        if items and not rows:
            raise Unreadable(f"nothing in the list has a {self._kind.id}")
        envelope, count = answer.envelope(), len(items)
        total = _total(envelope, count)
        return Page(rows, total, answer.tag, doubtful=total is None and _stated(envelope) == count)

    async def _list(self, first: Page) -> None:
        """Read the list, as far as it has changed."""
        book, now = self._part, self._round.now
        count = first.total if first.total is not None else len(first.rows)
        if not first.rows and book.get("count"):
            self._round.remark(
                f"the list of {self._connection} is empty although it had rows before",
                about=f"empty {self._name}",
            )
        long = not _is_all(first.total, len(first.rows), len(first.rows))
        full = long and ("full" not in book or self._wants_all())
        page = hashlib.blake2b(
            wire.encode(
                [
                    count,
                    [[key, data.get("status"), data.get("batchId")] for key, (data, _) in first.rows.items()],
                ]
            ),
            digest_size=8,
        ).hexdigest()
        known = book.get("page")
        await self._take(first.rows, listed=True)
        complete = True
        if long and (full or page != known):
            complete = await self._pages(first, first.total, full=full)
        elif not long:
            book.pop("cut", None)
        for key, entry in self._pending.items():
            entry["listed"] = self._found.get(key, False)
        if complete:
            book |= {"page": page, "count": count, "tag": first.tag}
            if full:
                book["full"] = rfc3339(now)

    async def _pages(self, first: Page, count: int | None, *, full: bool) -> bool:
        """Read the rest of a long list, or as much of it as can be new. Returns whether no row was missed.

        `count`: the stated total, or None.
        """
        book = self._part
        if book.get("cut") and not full:
            # If a larger answer shows more rows, it has to arrive before this list counts as read.
            return not book.get("larger") or await self._larger() is not None
        newest, older = parse_time(book.get("newest")), timedelta(seconds=self._source.overlap)
        stamps = [parse_time(data.get("requestedOn")) for data, _ in first.rows.values()]
        falling = all(a and b and a >= b for a, b in pairwise(stamps))
        rising = all(a and b and a <= b for a, b in pairwise(stamps)) and not falling
        top = max(filter(None, [newest, *stamps]), default=None)
        seen, size = set(first.rows), len(first.rows)
        offset = step(size)
        if "resume" in book:
            offset = book.pop("resume")
        elif not full and newest and rising:
            offset = max(offset, book.get("count", 0) - size)  # new rows are at the end
        last, steady = stamps[-1] if stamps else None, True
        more = {"limit": min(self._source.page_size, max(size, OVERLAP * 2))}
        for _ in range(PAGES):
            if not full and newest and falling and last and last < newest - older:
                break
            page = await self._guess(offset=offset, **more)
            if page is None and more:
                more = {}  # perhaps it refuses the limit
                page = await self._guess(offset=offset)
            if page is None:
                return await self._ends(first, seen, count, "it refuses offset")
            if page.rows and list(page.rows) == list(first.rows):
                if count is None and more and len(page.rows) > more["limit"]:
                    break  # it has no pages, and shows all rows
                why = "it answers with the same rows whatever the offset"
                return await self._ends(first, seen, count, why)
            if not page.rows and count is not None and offset < count:
                return await self._ends(first, seen, count, "its further pages are empty")
            fresh = page.rows.keys() - seen
            await self._take(page.rows, listed=False)
            seen |= fresh
            stamps = [parse_time(data.get("requestedOn")) for data, _ in page.rows.values()]
            last, top = stamps[-1] if stamps else None, max(filter(None, [top, *stamps]), default=None)
            if page.total is not None:
                # The total may change while the list is read. If it changes by more than the overlap of two
                # pages, a row may have been missed.
                steady, count = steady and (count is None or abs(page.total - count) <= OVERLAP), page.total
            if count is not None and offset + len(page.rows) >= count:
                break
            if not fresh and count is None:
                break  # one further request brought no new row: that was all
            if not fresh:
                return await self._ends(first, seen, count, "its pages bring nothing new")
            offset += step(len(page.rows))
        else:
            book["resume"] = offset
            return False
        book.pop("cut", None)
        if top is not None:
            book["newest"] = rfc3339(top)
        return steady

    async def _guess(self, **query: str | int) -> Page | None:
        """As `_ask`, with parameters that are not documented for this list; None if they are refused."""
        try:
            return await self._ask(**query)
        except RequestFailed as exc:
            if exc.status not in REFUSED or exc.passing:
                raise
            return None

    async def _ends(self, first: Page, seen: set[str], count: int | None, why: str) -> bool:
        """Handle a list whose pages lead no further. Returns whether the list counts as read.

        A larger answer may show the rest; if it does not, report a gap, unless these rows may be all.
        """
        larger = await self._larger()
        if larger is None and self._part.get("stumbled", 0) < BREAKER_AFTER:
            self._part["stumbled"] = self._part.get("stumbled", 0) + 1
            return False  # the next visit tries again
        self._part.pop("stumbled", None)
        larger = larger or Page({}, None)
        seen |= larger.rows.keys()
        count = larger.total if larger.total is not None else count
        rows, helped = len(seen), len(first.rows) < len(larger.rows) < LARGEST
        if len(larger.rows) > len(first.rows):
            self._part["larger"] = True
        if count is not None and rows >= count:
            self._part.pop("cut", None)
            return True
        size = max(len(first.rows), len(larger.rows))
        if count is None and (
            size % ROUND_TO or await self._may_be_all(first, larger if helped else first, rows)
        ):
            if helped:
                self._part.pop("cut", None)
            return True
        if count is None and self._part.get("whole", (0,))[0] == rows:
            why = f"older ones leave it when new ones come, and {why}"  # so that number was not the total
        if not self._part.get("cut"):
            self._part["cut"] = True
            has = f"has {count} pushes" if count is not None else "does not say how many pushes it has,"
            message = (
                f"The list of {self._connection} {has} and shows {rows}: {why}. Pushes beyond that may be "
                f"missing; those known to be pending are followed one by one, and `roundsman track {self._source.name} "
                f"{self._connection}/ID` follows any other."
            )
            self._notice("roundsman.source.gap", f"{self._name}:cut:{rfc3339(self._round.now)}", message)
        return True

    async def _larger(self) -> Page | None:
        """The largest possible answer; an empty one if refused, None after an error that may be transient."""
        try:
            page = await self._ask(limit=LARGEST)
        except (RequestFailed, Denied, Unreadable, Backoff) as exc:
            # The request is a guess: if it fails, what was read before still counts.
            status = getattr(exc, "status", None)
            refused = status is not None and status < 500 and not getattr(exc, "passing", False)
            return Page({}, None) if refused else None
        await self._take(page.rows, listed=False)
        return page

    async def _may_be_all(self, first: Page, largest: Page, rows: int) -> bool:
        """Whether a round number of rows may be all: the list says so, or a larger answer had room for more.

        Refuted if the same number comes again and the oldest row has left the list, but the vendor still
        knows it.
        """
        if largest is first and not (first.doubtful and rows == len(first.rows)):
            return False
        count, oldest = self._part.get("whole", (0, None))
        if count == rows and oldest not in self._found:
            page = await self._about(**{self._kind.id: oldest})
            if oldest in page.rows:
                return False
        self._part["whole"] = [rows, largest.oldest]
        return True

    def _wants_all(self) -> bool:
        """Whether a complete read of a long list is due, or cheaper than asking for hidden pushes singly."""
        book = self._part
        if "full" not in book:
            return False
        hidden = sum(not entry.get("listed") for entry in self._pending.values())
        few = book.get("count", 0) / (self._source.page_size - OVERLAP) + 2
        return is_due(book["full"], self._source.full_read_every, self._round.now) or (
            hidden > few and not book.get("cut")
        )

    def _hidden(self) -> list[str]:
        """Pending pushes that neither the list nor a look at their batch shows."""
        return [
            key
            for key, entry in self._pending.items()
            if not (entry.get("listed") or key in self._found or entry.get("batch") in self._batches)
        ]

    async def _each(
        self, entries: dict[str, Any], keys: list[str], step: Callable[[str], Coroutine[Any, Any, None]]
    ) -> None:
        """Ask about each in turn.

        If the vendor asks us to wait, ask about one only: if it always does, poll slowly instead of never.
        """
        turn = self._in_turn(entries, keys)
        for number, key in enumerate(turn):
            if self._round.visit.wait and number:
                self._note_looks(entries, turn[:number])
                break
            await self._patiently(step(key))

    def _in_turn(self, entries: dict[str, Any], keys: list[str]) -> list[str]:
        """What to ask for at this visit: if there are very many, those that have waited longest."""
        if len(keys) > SINGLE_REQUESTS:
            keys = sorted(keys, key=lambda key: entries[key].get("looked") or "")[:SINGLE_REQUESTS]
            self._note_looks(entries, keys)
        return sorted(keys, key=lambda key: entries[key].get("looked") or "")

    def _note_looks(self, entries: dict[str, Any], keys: Iterable[str]) -> None:
        for key in keys:
            if key in entries:
                entries[key]["looked"] = rfc3339(self._round.now)

    async def _about(self, **query: str | int) -> Page:
        """As `_ask`, about one thing; an empty page if the vendor does not know it or refuses to show it.

        That is no failure of the connection.
        """
        try:
            return await self._ask(**query)
        except (RequestFailed, Denied) as exc:
            if exc.status not in {400, 403, 404, 410} or getattr(exc, "passing", False):
                raise
            return Page({}, 0)

    async def _patiently(self, step: Coroutine[Any, Any, None]) -> None:
        """Run one step about one thing.

        One or two server errors or unreadable answers in a visit are no failure of the connection.
        """
        try:
            await step
        except (RequestFailed, Unreadable) as exc:
            self._stumbles += 1
            theirs = isinstance(exc, Unreadable) or (exc.status or 0) >= 500
            if isinstance(exc, NoToken) or self._stumbles >= BREAKER_AFTER or not theirs:
                raise

    async def _singly(self, key: str) -> None:
        page = await self._about(**{self._kind.id: key})
        row = page.rows.get(key)
        if row is not None:
            await self._take({key: row}, listed=False)
        elif tracking.missed(self._pending[key], self._round.now, self._source.interval):
            entry = self._pending.pop(key)
            event = tracking.gone(self._source.name, "push", key, entry, self._round.now)
            self._events[event.id] = event

    async def _look(self, batch: str) -> None:
        """All pushes of one batch. It has ended when two looks in a row show the same ones, none pending."""
        book = self._batches[batch]
        rows, total = await self._rows_of(batch)
        if not rows:
            if tracking.missed(book, self._round.now, self._source.interval):
                self._give_up(batch)
                event = tracking.gone(self._source.name, "batch", batch, book, self._round.now)
                self._events[event.id] = event
            return
        book["misses"] = 0
        await self._take(rows, listed=False, batch=batch, asked=book.get("asked", False))
        for key in [k for k, e in self._pending.items() if e.get("batch") == batch and k not in rows]:
            self._pending[key]["batch"] = None
        pending = [key for key, (data, _) in rows.items() if fields.text(data.get("status")) not in OUTCOMES]
        look = hashlib.blake2b(wire.encode([sorted(rows), sorted(pending)]), digest_size=8).hexdigest()
        same = book.get("look") == look
        book["look"] = look
        tracking.saw(book, [look], self._round.visit.vendor_now)  # `since`: when it first looked so
        since = parse_time(book["since"])
        waited = since is not None and tracking.apart(
            since, self._round.visit.vendor_now, self._source.interval
        )
        if total is not None and len(rows) < total:
            message = (
                f"Batch {batch} has {total} pushes and shows {len(rows)}, and no parameter tried shows the others: when it has "
                "ended cannot be seen, and will not be told. Its pushes are told as far as the list shows them."
            )
            self._notice("roundsman.source.gap", f"batch:{batch}", message)
            self._give_up(batch)
            return
        if pending or not same or not waited:
            return
        del self._batches[batch]
        event = _batch_event(self._source, self._connection, batch, [data for data, _ in rows.values()])
        self._events[event.id] = event

    async def _rows_of(self, batch: str) -> tuple[dict[str, wire.Item], int | None]:
        """The pushes of a batch that are shown, and the stated total."""
        rows: dict[str, wire.Item] = {}
        more: dict[str, str | int] = {}
        total: int | None = None
        for _ in range(PAGES):
            page = await self._about(batchId=batch, **more)
            found = self._of_batch(page.rows, batch)
            fresh = found.keys() - rows.keys()
            rows |= found
            if page.total is not None and not more:
                total = page.total  # later answers may be refusals
            if not rows or _is_all(total, len(rows), len(page.rows)):
                break
            if fresh and "limit" not in more:
                more = {"offset": step(len(rows)), "limit": self._source.page_size}
            elif fresh:
                more = {**more, "offset": step(len(rows))}
            elif total is None:
                break  # one further request brought no new row
            elif more.get("limit") != LARGEST:
                more = {"limit": LARGEST}  # perhaps a larger answer shows more, if there are no pages
            else:
                break
        return rows, total

    def _of_batch(self, rows: Mapping[str, wire.Item], batch: str) -> dict[str, wire.Item]:
        """Without rows of other batches, which a server that ignores the parameter would show."""
        return {key: row for key, row in rows.items() if (_batch_id(row[0].get("batchId")) or batch) == batch}

    def _give_up(self, batch: str) -> None:
        """Stop looking at the batch; its pending pushes are asked for singly from now on."""
        del self._batches[batch]
        self._part["left"] = [*self._part.get("left", []), batch][-GIVEN_UP_KEPT:]
        for entry in self._pending.values():
            if entry.get("batch") == batch:
                entry["batch"] = None

    # -- ids to track ----------------------------------------------------------------------------------------

    def _mine(self) -> Iterable[tuple[str, "re.Match[str]"]]:
        """The wanted ids that may be at this connection."""
        if self._kind is PUSHES:
            for spec in self._round.wanted:
                at = SPEC.fullmatch(spec)
                if at is not None and (at[1] or self._round.only or self._connection) == self._connection:
                    yield spec, at

    async def _place_wanted(self) -> None:
        """Track the ids that can only be at this connection; the others are asked for after the list."""
        for spec, at in self._mine():
            key = at[3]
            if not (at[1] or self._round.only):
                continue
            self._placed.append(spec)
            done = [f"{key}:completed"] if at[2] else [f"{key}:{status}" for status in OUTCOMES]
            if await self._round.visit.known(done):
                continue
            if at[2]:
                self._batches.setdefault(key, {**tracking.entry(self._round.visit.vendor_now), "asked": True})
            else:
                self._pending.setdefault(
                    key, {**tracking.entry(self._round.visit.vendor_now), "batch": None, "listed": False}
                )

    async def _wanted(self) -> None:
        """Ask for the ids that may be at any connection, and track those that are at this one."""
        for spec, at in list(self._mine())[:SINGLE_REQUESTS]:
            if spec in self._placed or not self._round.asks(self._round.wanted[spec]):
                continue
            key = at[3]
            page = await self._about(**{"batchId" if at[2] else self._kind.id: key})
            rows = (
                self._of_batch(page.rows, key)
                if at[2]
                else {k: row for k, row in page.rows.items() if k == key}
            )
            if rows:
                self._placed.append(spec)
                if at[2] and not await self._round.visit.known([f"{key}:completed"]):
                    self._batches.setdefault(
                        key, {**tracking.entry(self._round.visit.vendor_now), "asked": True}
                    )
                elif not at[2]:
                    await self._take(rows, listed=False, asked=True)

    # -- rows ------------------------------------------------------------------------------------------------

    async def _take(
        self, rows: Mapping[str, wire.Item], *, listed: bool, batch: str | None = None, asked: bool = False
    ) -> None:
        """Track what is pending; report what has ended, unless it ended untracked before `floor`."""
        floor = parse_time(self._round.memory.get("floor"))
        states = {key: fields.text(data.get("status")) or "" for key, (data, _) in rows.items()}
        ended = [f"{key}:{status}" for key, status in states.items() if status in OUTCOMES]
        known = await self._round.visit.known(ended) if ended else set()
        opened = set()
        for key, (data, raw) in rows.items():
            self._found[key] = self._found.get(key, False) or listed
            status = states[key]
            own = _batch_id(data.get("batchId")) or batch
            if status not in OUTCOMES:
                if status != "pending":
                    self._round.remark(
                        f"push {key} has the unknown status {status!r}: not taken for an end",
                        about=f"status {status}",
                    )
                entry = self._pending.setdefault(
                    key, {**tracking.entry(self._round.visit.vendor_now), "listed": listed}
                )
                entry["batch"] = own
                tracking.saw(entry, [status], self._round.visit.vendor_now)
                opened.add(own)
                continue
            followed = self._pending.pop(key, None) is not None or asked
            if f"{key}:{status}" in known:
                opened.add(own)  # a webhook may have reported the push, and not yet its batch
                continue
            stamp = parse_time(data.get("completedOn")) or parse_time(data.get("requestedOn"))
            if floor is not None and stamp is not None and stamp < floor and not followed:
                continue
            self._rows += 1
            for event in (
                *_file_events(self._source, key, data, own),
                _push_event(self._source, self._kind, self._connection, key, status, data, raw, own),
            ):
                self._events[event.id] = event
            opened.add(own)
        if self._kind is PUSHES:
            await self._open(opened - {None, *self._batches, *self._part.get("left", ())})

    async def _open(self, batches: set[Any]) -> None:
        known = (
            await self._round.visit.known([f"{batch}:completed" for batch in batches]) if batches else set()
        )
        for batch in sorted(batches):
            if f"{batch}:completed" not in known:
                self._batches[batch] = tracking.entry(self._round.visit.vendor_now)


def _push_event(
    source: Pushes,
    kind: Kind,
    connection: str,
    key: str,
    status: str,
    data: dict[str, Any],
    raw: Any,
    batch: str | None,
    unless: str | None = None,
) -> Event:
    requested, completed = parse_time(data.get("requestedOn")), parse_time(data.get("completedOn"))
    wrong = _validation(data) if source.messages else []
    if not source.messages and {"validation", "files"} & data.keys():
        raw = _without_messages(data)
    what = fields.text(data.get("dataType"))
    push: Push = {
        "batch_id": batch,
        "item_id": key,
        "index": None,
        "code": fields.text(data.get("responseCode")),
        "message": _why(data) if source.messages else None,
        "fields": wrong,
        "person": None,
        "about": {"id": next(iter(_ids(data)), None), "name": what} if what else None,
        "raw": raw,
        "connection": connection,
        "environment": source.environment,
        "service": fields.text(data.get("serviceName")),
        "status": status,
        "requested_at": rfc3339(requested) if requested else None,
        "completed_at": rfc3339(completed) if completed else None,
        "object_ids": _ids(data),
    }
    at = completed or requested
    return Event.of(
        vendor="railz",
        source=source.name,
        type=kind.event,
        id=f"{key}:{status}",
        data=push,
        time=rfc3339(at) if at else None,
        subject=key,
        outcome=_outcome(data),
        unless=unless,
        lists_failures=bool(_failed_files(data)),
    )


def _outcome(data: dict[str, Any]) -> Outcome:
    """The outcome of a push: a success with failed files is partial."""
    outcome = OUTCOMES[fields.text(data.get("status")) or ""]
    return "partial" if outcome == "succeeded" and _failed_files(data) else outcome


def _failed_files(data: dict[str, Any]) -> list[tuple[int, dict[str, Any]]]:
    """The failed files of a push, with their indexes: a push of files can succeed without them."""
    files = data.get("files")
    if not isinstance(files, list):
        return []
    return [(index, file) for index, file in enumerate(files) if isinstance(file, dict) and _is_failed(file)]


def _is_failed(file: dict[str, Any]) -> bool:
    """Whether a file failed: by a status or a code, or by an error beside it. None of this is documented."""
    codes = (file.get(name) for name in ("status", "statusCode", "responseCode", "code"))
    if any(400 <= (fields.count(code) or 0) < 600 for code in codes):
        return True
    if file.get("error") or file.get("errors"):
        return True
    return (fields.text(file.get("status")) or "").lower().startswith(FAILING)


def _without_messages(data: dict[str, Any]) -> dict[str, Any]:
    """A push as it came, without the texts of the accounting system and of the files."""
    kept = {name: value for name, value in data.items() if name != "validation"}
    if isinstance(files := data.get("files"), list):
        kept["files"] = [_without_words(file) if isinstance(file, dict) else None for file in files]
    return kept


def _without_words(file: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in file.items() if name in ("path", "name", "status", "type", "size")}


def _file_events(source: Pushes, key: str, data: dict[str, Any], batch: str | None) -> list[Event]:
    """One failure for each failed file of a push."""
    found = []
    at = parse_time(data.get("completedOn")) or parse_time(data.get("requestedOn"))
    names = Counter[str]()
    for index, file in _failed_files(data):
        name = fields.first(file, "path", "name") or str(index)
        names[name] += 1
        if names[name] > 1:
            name = f"{name}\n{names[name]}"  # two files with the same name are two failures
        digest = hashlib.blake2b(name.encode("utf-8", "replace"), digest_size=6).hexdigest()
        failure: Failure = {
            "batch_id": batch,
            "item_id": key,
            "index": index,
            "code": fields.text(file.get("status")),
            "message": fields.first(file, *FILE_MESSAGES) if source.messages else None,
            "fields": [],
            "person": None,
            "about": {"id": fields.text(file.get("path")), "name": fields.text(file.get("name"))},
            "raw": file if source.messages else _without_words(file),
        }
        found.append(
            Event.of(
                vendor="railz",
                source=source.name,
                type="ai.railz.push.file_failed",
                id=f"{key}:file:{digest}",
                data=failure,
                time=rfc3339(at) if at else None,
                subject=key,
                outcome="failed",
            )
        )
    return found


def _why(data: dict[str, Any]) -> str | None:
    """Why a push or some of its files failed, in the accounting system's words."""
    said = [field["message"] for field in _validation(data)]
    said += [fields.first(file, *FILE_MESSAGES) for _, file in _failed_files(data)]
    return "; ".join(filter(None, said)) or None


def _batch_event(source: Pushes, connection: str, batch: str, rows: list[dict[str, Any]]) -> Event:
    failed = [data for data in rows if data.get("status") == "failed" or _failed_files(data)]
    outcome = batch_outcome(len(rows), len(failed))
    if any(data.get("status") == "success" for data in failed):
        outcome = "partial"
    begun = min(filter(None, (parse_time(data.get("requestedOn")) for data in rows)), default=None)
    ended = max(filter(None, (parse_time(data.get("completedOn")) for data in rows)), default=None)
    data: Batch = {
        "batch_id": batch,
        "outcome": outcome,
        "status": None,
        "total": len(rows),
        "failed": len(failed),
        "submitted_at": rfc3339(begun) if begun else None,
        "completed_at": rfc3339(ended) if ended else None,
        "failures": [
            {
                "item_id": fields.first(row, PUSHES.id),
                "code": fields.text(row.get("responseCode")),
                "message": _why(row) if source.messages else None,
                "person": None,
            }
            for row in failed[:FAILURES_CAP]
        ],
        "failures_cap": FAILURES_CAP,
        "raw": {"batchId": batch, "connection": connection},
    }
    return Event.of(
        vendor="railz",
        source=source.name,
        type="ai.railz.batch_push.completed",
        id=f"{batch}:completed",
        data=data,
        time=data["completed_at"],
        subject=batch,
        outcome=data["outcome"],
    )


def step(rows: int) -> int:
    """How far to move the offset to the next page: pages overlap, because lists shift while they are read."""
    return max(1, rows - min(OVERLAP, rows // 2))


def _total(found: dict[str, Any], rows: int) -> int | None:
    """How many rows the list has, if an answer of `rows` rows proves it; else None.

    `meta.count` may count the page only: it is believed if it is larger than `rows`. `pagination.count` may
    count the page only, too: if it is smaller than `rows`, or equal and a round number, one more request
    checks it.
    """
    total, meta = _stated(found), _stated(found, "meta")
    if total is not None and total >= rows and not (total == rows >= FULL_FROM and rows % ROUND_TO == 0):
        return total
    return meta if meta is not None and meta > rows else None


def _stated(found: dict[str, Any], name: str = "pagination") -> int | None:
    """The count that is stated beside the rows."""
    about = found.get(name)
    return fields.count(about.get("count")) if isinstance(about, dict) else None


def _is_all(total: int | None, found: int, page: int) -> bool:
    """Whether these rows are all. Without a total, a page of `FULL_FROM` rows needs one more request."""
    return found >= total if total is not None else page < FULL_FROM


def _batch_id(value: Any) -> str | None:
    """The id of the batch: text in the vendor's examples, an object in its schema."""
    if isinstance(value, dict):
        return next((each for each in value.values() if isinstance(each, str) and each), None)
    return value if isinstance(value, str) and value else None


def _ids(data: dict[str, Any]) -> list[str]:
    """The ids of the objects that a push made: a list in v2, one id in v1."""
    many = data.get("sourceObjectIds")
    found = [text for each in many if (text := fields.text(each))] if isinstance(many, list) else []
    one = fields.text(data.get("sourceObjectId"))
    return found or ([one] if one else [])


def _validation(data: dict[str, Any]) -> list[FieldError]:
    """The validation errors of the accounting system.

    Fields and even the list may be missing; the message may be a list.
    """
    validation = data.get("validation")
    errors = validation.get("errors") if isinstance(validation, dict) else validation
    found: list[FieldError] = []
    for each in (errors if isinstance(errors, list) else [errors] if errors else [])[:100]:
        if isinstance(each, dict):
            message = each.get("message")
            text = (
                "; ".join(m for m in message if isinstance(m, str))
                if isinstance(message, list)
                else fields.text(message)
            )
            found.append({"field": fields.text(each.get("field")), "message": text or None})
        elif isinstance(each, str) and each:
            found.append({"field": None, "message": each})
    return found
