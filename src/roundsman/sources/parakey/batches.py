"""Parakey's batches of access keys: how they ended, and which items failed.

`GET /batches/{id}` is documented, with results that say which items failed and why
(https://help.parakey.co/nb/articles/681873-receiving-batch-completions). The states, the fields and a list of
batches are not: all names are options.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Literal, NamedTuple
from urllib.parse import quote

from pydantic import Field

from roundsman import wire
from roundsman.errors import Backoff, Denied, RequestFailed, Unreadable
from roundsman.events import Event
from roundsman.http.answers import Answer
from roundsman.kit import fields, tracking
from roundsman.kit.builder import PollBuilder
from roundsman.options.values import Duration, Options, Start
from roundsman.plugin import Poll, Received, State, Visit
from roundsman.shapes import (
    FAILURES_CAP,
    Batch,
    FailedItem,
    Failure,
    Outcome,
    batch_outcome,
    in_short,
)
from roundsman.sources.parakey.account import PLACE, REFUSED, Account, Asking, Paths
from roundsman.times import parse_time, rfc3339
from roundsman.webhook import Call

BATCH_ID = re.compile(r"[0-9A-Za-z_-]{1,64}")
FULL_FROM, PAGES = 10, 20
"""A page of at least `FULL_FROM` batches may not be the last; a visit reads at most `PAGES` pages."""
ERRORS = ("error", "fault", "request")
"""Prefixes of members that are not the batch, although they may contain its id."""
LIST_TRIES = 3
"""Failures of a second page after which the list is taken to have no pages."""
AT_ONCE = 30
"""Maximum batches asked for at one visit; the others are asked for at later visits."""
GIVE_UP_AFTER = 7 * 86400.0
"""Seconds after which a batch that answers only with errors is given up."""


class BatchRequest(Asking):
    """`request`: how to send requests, if your API differs from what is known."""

    path: Annotated[str, Field(pattern=r"\{id\}")] = "/batches/{id}"
    """The path of one batch."""
    list_path: str | None = None
    """The path of a list of batches, if your API has one: then all of its batches are tracked."""


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


class Batches(Account):
    """Parakey's batches of access keys: one event per batch that ended, and one per item that failed."""

    type: Literal["parakey.batches"]
    webhook_place: ClassVar[str] = f"{Account.webhook_place}, a webhook of the type Batch completed"
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
        self._domain = fields.getter(PLACE)
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
