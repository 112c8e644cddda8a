"""The shape of Parakey's batches, none of which is documented: its names and words are options."""

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, NamedTuple

from pydantic import Field

from roundsman import wire
from roundsman.errors import Unreadable
from roundsman.events import Event
from roundsman.kit import fields
from roundsman.kit.pages import End, Job
from roundsman.options.values import Options
from roundsman.shapes import (
    FAILURES_CAP,
    Batch,
    FailedItem,
    Failure,
    Outcome,
    batch_outcome,
    in_short,
)
from roundsman.sources.parakey.account import PLACE, Asking, Paths
from roundsman.times import parse_time, rfc3339

Words = tuple[str, ...]
Remark = Callable[[str, str], None]
ERRORS = ("error", "fault", "request")
"""Prefixes of members that are not the batch, although they may contain its id."""


class BatchRequest(Asking):
    """`request`: how to send requests, if your API differs from what is known."""

    path: Annotated[str, Field(pattern=r"\{id\}")] = "/batches/{id}"
    """The path of one batch, with `{id}` in it."""
    list_path: str | None = None
    """The path of a list of batches, if your API has one. With it, all batches of the list are tracked."""


class BatchFields(Options):
    """`fields`: where the values of a batch and of its items are. Each option is a list of dotted paths; the first path
    that the object has counts.
    """

    id: Paths = ("id",)
    """The id of the batch."""
    status: Paths = ("status", "state")
    """The state of the batch: a word that `states` has."""
    submitted_at: Paths = ("createdAt",)
    """When the batch was submitted."""
    completed_at: Paths = ("completedAt", "finishedAt")
    """When the batch ended."""
    items: Paths = ("items", "results")
    """The list of the items. The next options are paths in an item."""
    item_id: Paths = ("id", "itemId")
    """The id of an item."""
    item_status: Paths = ("status", "state", "success", "result.status")
    """The state of an item: a boolean, or a word that `states` has."""
    code: Paths = ("error.code", "errorCode", "code")
    """The code of the error of an item."""
    message: Paths = ("error.message", "error", "message", "reason")
    """The text that says what went wrong with an item."""
    user: Paths = ("user", "member", "email", "userId")
    """The person of an item."""
    key: Paths = ("access", "key", "accessId")
    """The access key that an item concerns."""


class States(Options):
    """`states`: the words for the states of batches and items. Case, dashes and underscores do not matter."""

    running: Words = (
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
    ended: Words = (
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
    """A batch in one of these states has ended. A state in neither list is not taken for an end; it is logged once."""
    failed: Words = (
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
    """An item in one of these states has failed. So has an item in an unknown state that has an error."""
    succeeded: Words = ("succeeded", "success", "completed", "complete", "done", "ok", "granted", "true")
    """An item in one of these states has succeeded. An unknown state alone is not taken for a failure; it is logged
    once.
    """


class Read(NamedTuple):
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


class Shape:
    """Turns the vendor's batches into events. `remark` receives what is unexpected."""

    def __init__(self, name: str, paths: BatchFields, states: States, remark: Remark) -> None:
        self._name, self._remark = name, remark
        self._get = {name: fields.getter(getattr(paths, name)) for name in BatchFields.model_fields}
        self._domain = fields.getter(PLACE)
        self._running, self._ended = _words(states.running), _words(states.ended)
        self._failed, self._succeeded = _words(states.failed), _words(states.succeeded)

    def read(self, data: dict[str, Any]) -> Read:
        """What can be understood of a batch."""
        get = self._get
        status, items = get["status"](data), get["items"](data)
        if isinstance(items, dict) and items and all(isinstance(item, dict) for item in items.values()):
            items = list(items.values())  # an object with the items by id
        items = (
            [item if isinstance(item, dict) else {} for item in items] if isinstance(items, list) else None
        )
        place = fields.ref(self._domain(data))
        return Read(
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

    def about(self, key: str, data: Any, body: bytes) -> Job:
        """The batch that was asked for. Raises `Unreadable` if the answer is not provably about it."""
        if not isinstance(data, dict):
            raise Unreadable(f"the answer about batch {key} is not an object")
        read = self.read(data)
        if read.key is None and (inner := self._inside(data, key)):
            if not inner.items:
                wire.refuse_failure(data)  # it may be an error about the batch
            body, read = wire.encode(inner.data), inner
        if read.key is not None and read.key != key:
            raise Unreadable(f"the answer about batch {key} is about another one")
        if read.key is None and not (read.items and (read.submitted or read.completed)):
            wire.refuse_failure(read.data)  # it may be any list
        if read.key is None and not (read.items or read.submitted or read.completed):
            raise Unreadable(f"the answer about batch {key} has neither its id nor the shape of a batch")
        return self.job(key, read, body)

    def job(self, key: str, read: Read, raw: Any) -> Job:
        counts = [read.outcomes.count(each) for each in ("succeeded", "failed", "unknown")]
        seen = [fields.text(read.status), *counts]
        return Job(key, read.state, self.end(read), seen, read.data, raw, read.submitted, read.completed)

    def _inside(self, data: dict[str, Any], key: str) -> Read | None:
        """The batch of this id, if it is wrapped in an object with other members."""
        names = (name for name in data if not name.lower().startswith(ERRORS))
        read = (self.read(data[name]) for name in names if isinstance(data[name], dict))
        return next((each for each in read if each.key == key), None)

    def end(self, read: Read) -> End:
        """Whether it has ended.

        An answer without items may be a transient error, or the items may not be there yet, and without a
        state only a second look that shows the same proves the end.
        """
        if read.state in self._ended:
            return "ended" if read.items else "settles"
        if read.state is None:  # then a completion time counts, or known outcomes that no longer change
            if self._get["completed_at"](read.data):
                return "ended" if read.items else "settles"
            return "settles" if read.outcomes and "unknown" not in read.outcomes else "runs"
        return "runs" if read.state in self._running else "unknown"

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

    def events(self, key: str, read: Read, body: bytes, now: datetime) -> list[Event]:
        """The events of a batch that has ended: its failed items, then the batch itself.

        Failed items are reported together with the batch or not at all, because webhooks and polls may number
        items differently.
        """
        items, outcomes = read.items, read.outcomes
        submitted, completed = read.submitted, read.completed
        time = rfc3339(completed or submitted or now)
        events: list[Event] = []
        brief: list[FailedItem] = []
        seen: set[str] = set()
        for index, (item, outcome) in enumerate(zip(items or (), outcomes, strict=True)):
            if outcome == "unknown":
                state = self._get["item_status"](item)
                self._remark(
                    f"item {index} of batch {key} has the unknown state {fields.text(state)!r}, which does not count as a failure; "
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


def _words(words: Words) -> frozenset[str | None]:
    return frozenset(_word(word) for word in words)


def _word(value: Any) -> str | None:
    """A state as one word in lower case: "Timed_Out" and "timed out" are the same."""
    if isinstance(value, bool):
        return str(value).lower()
    return "".join(c for c in value.lower() if c.isalnum()) or None if isinstance(value, str) else None
