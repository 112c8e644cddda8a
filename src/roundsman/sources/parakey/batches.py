"""Parakey's batches of access keys: how they ended, and which items failed.

`GET /batches/{id}` is documented, with results that say which items failed and why
(https://help.parakey.co/nb/articles/681873-receiving-batch-completions). The states, the fields and a list of
batches are not: all names are options.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import quote

from pydantic import Field

from roundsman import wire
from roundsman.errors import Unreadable
from roundsman.events import Event
from roundsman.kit.asking import Ask, JobsState
from roundsman.kit.documents import renamed
from roundsman.kit.jobs import Jobs
from roundsman.kit.listing import Paging
from roundsman.kit.pages import At, Job, Look, Page
from roundsman.kit.questions import ID
from roundsman.options.values import Duration, Start
from roundsman.plugin import Received, State
from roundsman.sources.parakey.account import Account
from roundsman.sources.parakey.batch_shape import BatchFields, BatchRequest, Remark, Shape, States
from roundsman.webhook import Call

FULL_EVERY = 6 * 3600.0
"""Seconds between two complete reads of a long list."""


class BatchesState(JobsState):
    """What is remembered of the batches."""

    @classmethod
    def upgrade(cls, old: dict[str, Any]) -> dict[str, Any]:
        """Until 0.6, the state of the list was beside the rest: its tag in `list`, its place in `list_at`."""
        new = renamed(super().upgrade(old), {"list": "list_tag"})
        rising, at = old.get("list_order", 0) > 0, old.get("list_at")
        complete = bool(old.get("list_read"))
        under_way = "full" if at and not (rising and complete) else ""
        new["list"] = {"at": at, "under_way": under_way, "rising": rising, "complete": complete}
        new["list"] |= {"paged": bool(old.get("list_pages")), "tag": None if at else old.get("list")}
        return new


class Batches(Account, Jobs):
    """Parakey's batches of access keys: one event per batch that ended, and one per item that failed."""

    type: Literal["parakey.batches"]
    webhook_place: ClassVar[str] = f"{Account.webhook_place}, a webhook of the type Batch completed"
    start: Start = "now"
    """Where to begin on the first run with `request.list_path`: `"now"`, `"beginning"`, or a date-time. Without a list,
    it does nothing.
    """
    concurrency: Annotated[int, Field(ge=1, le=100)] = 2
    """Maximum concurrent requests with this token."""
    stall_after: Duration = 3600.0
    """Report a batch that has not changed for this long, with `roundsman.batch.stalled`."""
    request: BatchRequest = BatchRequest()
    fields_: Annotated[BatchFields, Field(alias="fields")] = BatchFields()
    states: States = States()

    document: ClassVar = BatchesState
    list_is_optional: ClassVar = True
    rows_are_whole: ClassVar = False

    def reported_types(self) -> Sequence[str]:
        return ["co.parakey.batch.completed", "co.parakey.batch.item_failed"]

    def requests_a_day(self) -> tuple[float, str]:
        if self.lists:
            return 86400 / self.interval, "1 request a visit, and 1 for each batch under way"
        return 0, "1 request a visit for each batch that is tracked"

    def receive(self, call: Call) -> Received:
        """Reads bare batches: each is reported if it is complete and has ended, else tracked."""
        shape = self.shape()
        events: list[Event] = []
        ids: list[str] = []
        rows = wire.objects(call.body)
        if not rows:
            raise Unreadable("the body is empty")
        for data, raw in rows:
            read = shape.read(data)
            if read.key is None or not ID.fullmatch(read.key):
                raise Unreadable("an object without the id of a batch")
            if read.state is None and read.items is None:
                raise Unreadable(
                    "an object that is no batch: check that no webhook for event logs has this URL"
                )
            if self.domain_id and read.domain not in {None, self.domain_id}:
                continue  # it belongs to a place that another source watches
            # An incomplete batch is asked for: nothing can be added once the batch is reported.
            if read.items and "unknown" not in read.outcomes and shape.end(read) == "ended":
                events += shape.events(read.key, read, bytes(raw), datetime.fromtimestamp(call.now, UTC))
            else:
                ids.append(read.key)
        return Received(events, ids, ring=bool(ids))

    def rewound(self, state: State, to: datetime | None) -> State:
        if not self.lists:
            raise ValueError("without request.list_path there is nothing to read again")
        return super().rewound(state, to)

    def shape(self, remark: Remark = lambda *_: None) -> Shape:
        return Shape(self.name, self.fields_, self.states, remark)

    @property
    def lists(self) -> bool:
        return bool(self.request.list_path)

    def paging(self) -> Paging:
        return Paging(full_every=FULL_EVERY)

    async def listed(self, ask: Ask, part: str, at: At) -> Page:
        """The paging is not documented: `offset` is a guess."""
        query = self.query(**{"offset": at.offset} if at.offset else {})
        path = (self.request.list_path or "").lstrip("/")
        answer = await ask.get(path, query, self.headers(), at.tag)
        shape = self.shape()

        def read(data: dict[str, Any], raw: Any) -> Job | None:
            found = shape.read(data)
            if found.key is not None and ID.fullmatch(found.key):
                return shape.job(found.key, found, raw)._replace(whole=False)
            what = f"the list has a batch with an id that cannot be asked for: {str(found.key)[:80]!r}"
            ask.remark(what, f"id {found.key}")
            return None

        return ask.rows_of(answer, "", read)

    async def one(self, ask: Ask, part: str, key: str, tag: Any) -> Look:
        path = self.request.path.lstrip("/").replace("{id}", quote(key, safe=""))
        answer = await ask.get(path, self.query(), self.headers(), tag)
        if answer.unchanged:
            return Look(unchanged=True)
        return Look(self.shape().about(key, answer.json(), answer.body), answer.tag)

    def ended(self, ask: Ask, part: str, job: Job) -> Sequence[Event]:
        shape = self.shape(ask.remark)
        return shape.events(job.key, shape.read(job.data), job.raw, ask.now)

    def unknown_state(self, job: Job) -> tuple[str, str]:
        what = f"batch {job.key} has the unknown state {job.seen[0]!r}, which does not count as an end; if it is one, name it in states.ended"
        return what, f"state {job.state}"
