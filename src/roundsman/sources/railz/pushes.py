"""Railz's pushes to accounting systems: one event per push that ended, and one per batch of them.

Documented: a token by `GET getAccess`, valid for an hour; `pushStatus` for one connection, or for one push or
batch of it, without a filter by time; statuses `pending`, `success`, `failed`; answers with `pagination`, but
without `offset` among the parameters of this list
(https://docs.railz.ai/reference/push-creating-and-updating-data). There is no resource for a batch: it has
ended when none of its pushes is pending. So each visit asks every connection, and pending pushes are tracked
by id.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

import msgspec
from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from roundsman import wire
from roundsman.errors import Denied, RequestFailed, Unreadable
from roundsman.events import Event, notice
from roundsman.http.answers import is_refusal
from roundsman.http.urls import Endpoint, Url
from roundsman.kit import fields
from roundsman.kit.asking import Ask, JobsState
from roundsman.kit.documents import renamed
from roundsman.kit.jobs import Jobs
from roundsman.kit.listing import Paging, whole
from roundsman.kit.pages import FULL_FROM, At, Cut, End, Job, Look, Page, Spec, is_about_all
from roundsman.kit.tracked import Tracked
from roundsman.options.elsewhere import Name
from roundsman.options.secrets import Secret
from roundsman.options.values import Duration, Start, counted
from roundsman.plugin import Received
from roundsman.sources.railz.calls import OTHER_EVENTS, SPEC, PushCall, Webhook
from roundsman.sources.railz.shapes import DELETES, OUTCOMES, PUSHES, Kind, Row, Shapes, batch_id, other_end
from roundsman.times import is_due, parse_time, rfc3339
from roundsman.webhook import Call

if TYPE_CHECKING:
    from roundsman.http.auth import Auth

LARGEST = 500
"""Maximum rows to ask for per request."""
DISCOVERY_PAGES = 1000
"""Maximum pages of the list of connections."""
DELETIONS = "#deletes"
"""What follows the name of a connection in the name of the part that has its deletions."""


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
        {
            "anyOf": [
                {"const": "discover"},
                {"type": "array", "items": {"type": "string", "pattern": r"\S"}, "minItems": 1},
            ]
        }
    ),
]


class Discovered(msgspec.Struct):
    """The connections that were discovered, and when."""

    ids: list[str]
    at: str


class PushesState(JobsState):
    """What is remembered of the pushes; the parts are connections, and those with "#deletes" after them."""

    found: Discovered | None = None

    @classmethod
    def upgrade(cls, old: dict[str, Any]) -> dict[str, Any]:
        """Until 0.6, `books` had the parts, and `at` the one to begin with."""
        new = renamed(super().upgrade(old), {"at": "next_part"})
        return new | {"parts": {name: _upgraded(book) for name, book in old.get("books", {}).items()}}

    def repaired(self) -> None:
        super().repaired()
        self.found = None  # a connection that is missing there would not be watched any more


def _upgraded(book: dict[str, Any]) -> dict[str, Any]:
    """The state of one connection; a reading of its list that was under way goes on where it was."""
    new = renamed(book, {"left": "given_up", "failed": "failing"})
    new["open"] = {key: renamed(entry, {"batch": "group"}) for key, entry in book.get("pending", {}).items()}
    new["groups"] = {key: renamed(entry, {}) for key, entry in book.get("batches", {}).items()}
    names = ("tag", "count", "newest", "full", "cut", "larger", "whole")
    new["list"] = {name: book[name] for name in names if book.get(name) is not None}
    if (resume := book.get("resume")) is not None:
        under_way = "part" if "full" in book else "full"
        new["list"] |= {"at": [resume, None], "under_way": under_way, "tag": None}
    return new


class Pushes(Jobs):
    """Railz's pushes: one event per push that ended, and one per batch of them."""

    type: Literal["railz.pushes"]
    base_url: Url = "https://api.railz.ai"
    """The URL of the vendor's API."""
    auth_url: Endpoint = "https://auth.railz.ai/getAccess"
    """The URL that tokens are fetched from."""
    client_id: Name
    """The client's id, from the dashboard."""
    secret_key: Secret
    """The secret key. One that begins with `SB_` is for the sandbox, one that begins with `ID_` for production."""
    connections: Connections
    """The connections to watch, by their uuid, or `"discover"` for all. With `api_version = "v1"`: names of businesses."""
    concurrency: Annotated[int, Field(ge=1, le=1000)] = 2
    """Maximum concurrent requests with this key."""
    start: Start = "now"
    """Where to begin on the first run: `"now"`, `"beginning"`, or a date-time such as `"2026-05-01T00:00:00Z"`."""
    api_version: Literal["v2", "v1"] = "v2"
    """The version of the API to use."""
    deletes: bool = False
    """Watch deletions, too. This is a second request for each connection at each visit."""
    messages: bool = True
    """Keep the messages of the accounting system in events. They may have data of your customers."""
    page_size: Annotated[int, Field(ge=20, le=500)] = 100
    """Rows to ask for in one request, if a list has pages."""
    overlap: Duration = 600.0
    """The lookback: how far behind the newest push to read again whenever a long list changed."""
    full_read_every: Duration = 1800.0
    """How often to read long lists from beginning to end."""
    discover_every: Duration = 600.0
    """How often to look for new connections."""
    requests_per_minute: Annotated[int, Field(ge=1, le=60_000)] = 300
    """Maximum requests in a minute. Not applied to a loopback address."""
    stall_after: Duration = 24 * 3600.0
    """Report a push that has been pending for this long, with `roundsman.batch.stalled`."""
    token_ttl: Annotated[Duration, Field(gt=0)] = 3600.0
    """How long a token is valid, if the token itself does not have that."""
    token_refresh_margin: Duration = 300.0
    """How long before its expiry a token is renewed."""
    webhook: Webhook | None = None
    """Receive the vendor's webhooks, too, at `/hooks/NAME`. Needs `[listen]`."""

    document: ClassVar = PushesState
    noun: ClassVar = "push"
    nouns: ClassVar = "pushes"
    unknown_by: ClassVar = frozenset({400, 403, 404, 410})
    at_once: ClassVar = 50
    account: ClassVar[tuple[str, ...]] = ("client_id", "environment")
    webhook_place: ClassVar[str] = (
        "in the Railz dashboard: Developers, Webhooks; events push, batchPush and delete; "
        "put its signing secret into signing_secrets"
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.api_version == "v1" and self.connections == "discover":
            raise ValueError('cannot discover with api_version = "v1": list the businesses in connections')
        if self.api_version == "v1" and self.deletes:
            raise ValueError('cannot watch deletes with api_version = "v1"')
        return self

    def auth(self) -> "Auth":
        from roundsman.http.auth import PasswordToken

        key = self.secret_key.reveal()
        return PasswordToken(
            self.auth_url, self.client_id, key, life=self.token_ttl, margin=self.token_refresh_margin
        )

    def reported_types(self) -> Sequence[str]:
        found = ["push.completed", "push.file_failed", "batch_push.completed"]
        return [f"ai.railz.{each}" for each in [*found, *(["delete.completed"] if self.deletes else [])]]

    def requests_a_day(self) -> tuple[float, str]:
        lists = 2 if self.deletes else 1
        each = f"{counted(lists, 'request')} a visit for each connection, and tokens"
        day = 86400 / max(self.token_ttl - self.token_refresh_margin, 1.0)
        if self.connections == "discover":
            found = 86400 / max(self.discover_every, self.interval)
            return day + found + lists * 86400 / self.interval, f"{each}; 1 connection is assumed"
        there = len(self.connections)
        return day + there * lists * 86400 / self.interval, f"{each}; {counted(there, 'connection')}"

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
        return PushCall(self, self.shapes(), data).read()

    @property
    def environment(self) -> Literal["sandbox", "production"] | None:
        """The environment that the key opens; both are at the same address."""
        kinds: dict[str, Literal["sandbox", "production"]] = {"SB": "sandbox", "ID": "production"}
        return kinds.get(self.secret_key.reveal().partition("_")[0])

    def shapes(self) -> Shapes:
        return Shapes(self.name, self.environment, self.messages)

    # -- ids -------------------------------------------------------------------------------------------------

    @classmethod
    def spec(cls, written: str) -> Spec | None:
        found = SPEC.fullmatch(written)
        return Spec(found[3], found[1], group=bool(found[2])) if found else None

    @classmethod
    def id_help(cls) -> str:
        return "; write ID, batch:ID, CONNECTION/ID or CONNECTION/batch:ID"

    @classmethod
    def label(cls, part: str, key: str, *, group: bool = False) -> str:
        return f"{part}/batch:{key}" if group else f"{part}/{key}"

    def event_ids(self, key: str) -> Sequence[str]:
        return [f"{key}:{status}" for status in OUTCOMES]

    def event_id(self, job: Job) -> str:
        return f"{job.key}:{job.state}"

    @classmethod
    def part_title(cls, part: str) -> str:
        return part.removesuffix(DELETIONS)

    # -- connections -----------------------------------------------------------------------------------------

    async def parts(self, ask: Ask) -> Sequence[str]:
        names = self.connections if self.connections != "discover" else await self._discovered(ask)
        return [name + kind for name in names for kind in (("", DELETIONS) if self.deletes else ("",))]

    def takes_ids(self, part: str) -> bool:
        return not part.endswith(DELETIONS)

    def has_groups(self, part: str) -> bool:
        return not part.endswith(DELETIONS)

    async def _discovered(self, ask: Ask) -> Sequence[str]:
        known: Discovered | None = ask.doc.found
        named = {spec.part for spec in ask.specs.values()} - {None}
        if known is None or named - set(known.ids) or is_due(known.at, self.discover_every, ask.now):
            ids: Sequence[str] = known.ids if known else ()
            try:
                ids = await self._discover(ask)
            except (RequestFailed, Unreadable, Denied) as exc:
                if known is None or is_about_all(exc):
                    raise
                ask.remarks.append(f"connections cannot be discovered: {exc}")
            if not ids and known is not None and known.ids:
                what = "no connection is discovered any more: those found before are still watched"
                ask.remark(what, "no connections")
                ids = known.ids
            known = ask.doc.found = Discovered(list(ids), rfc3339(ask.now))
        # A push or batch that is under way at a connection that is no longer listed can still end.
        busy = [
            self.part_title(name) for name, part in ask.doc.parts.items() if {"open", "groups"} & part.keys()
        ]
        return sorted({*known.ids, *busy})

    async def _discover(self, ask: Ask) -> Sequence[str]:
        def read(data: dict[str, Any], raw: Any) -> Job | None:
            name = fields.first(data, "connectionUuid", "connectionUUid", "connectionId")
            return Job(name, None, "runs", [], data, raw) if name else None

        async def page(at: At) -> Page:
            try:
                answer = await ask.get("v2/connections", {"limit": LARGEST, "offset": at.offset})
            except RequestFailed as exc:
                if not at.offset or not is_refusal(exc):
                    raise
                return Page({})  # the list has no pages
            return ask.rows_of(answer, "data", read, _total)

        return sorted((await whole(page, LARGEST, LARGEST, DISCOVERY_PAGES)).rows)

    # -- pushes ----------------------------------------------------------------------------------------------

    def paging(self) -> Paging:
        return Paging(
            size=self.page_size, largest=LARGEST, full_every=self.full_read_every, overlap=self.overlap
        )

    def pace(self) -> float:
        return 60 / self.requests_per_minute

    async def listed(self, ask: Ask, part: str, at: At) -> Page:
        page = await self._page(ask, part, at)
        if not (page.rows or page.unchanged or at.offset) and ask.part(part).list.count:
            title = self.part_title(part)
            what = f"the list of {title} is empty although it had rows before"
            ask.remark(what, about=f"empty {part}")
        return page

    async def one(self, ask: Ask, part: str, key: str, tag: Any) -> Look:
        page = await self._page(ask, part, At(), **{_kind(part).id: key})
        return Look(page.rows.get(key))

    async def members(self, ask: Ask, part: str, group: str, at: At) -> Page:
        """Without rows of other batches, which a server that ignores the parameter would show."""
        page = await self._page(ask, part, at, batchId=group)
        return page._replace(
            rows={key: job for key, job in page.rows.items() if (job.group or group) == group}
        )

    async def _page(self, ask: Ask, part: str, at: At, **about: str) -> Page:
        v2, kind, connection = self.api_version == "v2", _kind(part), self.part_title(part)
        query: dict[str, str | int] = {"connectionUuid" if v2 else "businessName": connection, **about}
        query |= {"offset": at.offset} if at.offset else {}
        query |= {"limit": at.limit} if at.limit else {}
        answer = await ask.get(f"{'v2/' if v2 else ''}{kind.path}", query, tag=at.tag)

        def read(data: dict[str, Any], raw: Any) -> Job | None:
            if key := fields.first(data, kind.id):
                return _job(key, data, raw)
            ask.remark(f"a row without {kind.id} is in the list of {connection}")
            return None

        page = ask.rows_of(answer, "data", read, _total)
        if page.unchanged or page.total is not None:
            return page
        if page.size and not page.rows:
            raise Unreadable(f"nothing in the list has a {kind.id}")
        return page._replace(doubtful=_stated(answer.envelope()) == page.size)

    def ended(self, ask: Ask, part: str, job: Job) -> Sequence[Event]:
        row = Row(_kind(part), self.part_title(part), job.key, job.data, job.raw, job.group)
        return self.shapes().row(row, unless=other_end(job.key, job.state))

    def group_ended(self, part: str, group: str, jobs: Sequence[Job]) -> Event:
        return self.shapes().batch(self.part_title(part), group, [job.data for job in jobs])

    # -- words -----------------------------------------------------------------------------------------------

    def details(self, part: str, entry: Tracked) -> Mapping[str, Any]:
        return {"connection": self.part_title(part), "batch": entry.group}

    def cut(self, ask: Ask, part: str, cut: Cut) -> Event | None:
        title, total = self.part_title(part), cut.total
        has = f"has {total} pushes" if total is not None else "does not state how many pushes it has,"
        message = (
            f"The list of {title} {has} and shows {cut.shown}: {cut.why}. Other pushes may be missing. Pushes "
            "that are known to be pending are still followed; to follow another one, run "
            f"`roundsman track {self.name} {title}/ID`."
        )
        return self._gap(ask, part, f"{part}:cut:{rfc3339(ask.now)}", message)

    def group_cut(self, ask: Ask, part: str, group: str, cut: Cut) -> Event:
        message = (
            f"Batch {group} has {cut.total} pushes and shows {cut.shown}, and no parameter tried shows the others. "
            "The end of the batch is not reported. Its pushes are reported as far as the list shows them."
        )
        return self._gap(ask, part, f"batch:{group}", message)

    def _gap(self, ask: Ask, part: str, about: str, message: str) -> Event:
        details = {"connection": self.part_title(part)}
        return notice("roundsman.source.gap", self.name, about, message, now=ask.now, details=details)


def _kind(part: str) -> Kind:
    return DELETES if part.endswith(DELETIONS) else PUSHES


def _job(key: str, data: dict[str, Any], raw: Any) -> Job:
    status = fields.text(data.get("status")) or ""
    end: End = "ended" if status in OUTCOMES else "runs" if status == "pending" else "unknown"
    begun, ended = parse_time(data.get("requestedOn")), parse_time(data.get("completedOn"))
    return Job(key, status, end, [status], data, raw, begun, ended, batch_id(data.get("batchId")))


def _total(found: dict[str, Any], rows: int) -> int | None:
    """How many rows the list has, if an answer of `rows` rows proves it; else None.

    `meta.count` may count the page only: it is used if it is larger than `rows`. `pagination.count` may
    count the page only, too: if it is smaller than `rows`, or equals a page that may be full, one more
    request checks it.
    """
    total, meta = _stated(found), _stated(found, "meta")
    if total is not None and total >= rows and not total == rows >= FULL_FROM:
        return total
    return meta if meta is not None and meta > rows else None


def _stated(found: dict[str, Any], name: str = "pagination") -> int | None:
    """The count that is stated beside the rows."""
    about = found.get(name)
    return fields.count(about.get("count")) if isinstance(about, dict) else None
