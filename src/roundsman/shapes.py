"""The shape of an event and of its data."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, NotRequired

from pydantic import ConfigDict, Field, with_config
from typing_extensions import TypedDict

Outcome = Literal["succeeded", "partial", "failed", "empty", "granted", "denied", "unknown"]
OUTCOMES: Mapping[Outcome, str] = {
    "succeeded": "All that was requested was done.",
    "partial": "A part of what was requested failed.",
    "failed": "It failed, or all of it failed. A row of `http.json` is `failed` if `rows.failed` is true.",
    "empty": "The batch had no operations.",
    "granted": "The door opened.",
    "denied": "The door stayed shut. `roundsman failures` does not list it.",
    "unknown": "The vendor does not say.",
}
"""What the outcomes mean."""
Time = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
"""RFC 3339 in UTC, ending in `Z`."""


_strict = with_config(ConfigDict(extra="forbid", use_attribute_docstrings=True))


@_strict
class Ref(TypedDict):
    """A thing at the vendor."""

    id: str | None
    """The vendor's id."""
    name: str | None
    """The name, if the vendor sends one."""


@_strict
class Person(TypedDict):
    """A person; all null if the vendor has removed personal data."""

    id: str | None
    """The vendor's id."""
    name: str | None
    """The name, if the vendor sends one."""
    email: str | None
    """The e-mail address, if the vendor sends one."""


@_strict
class Access(TypedDict):
    """A person tried to open a door."""

    occurred_at: Time | None
    """When it happened at the door."""
    recorded_at: Time | None
    """When the vendor stored it; later than `occurred_at` for locks that were offline."""
    door: Ref | None
    """The door."""
    user: Person | None
    """The person who tried."""
    place: Ref | None
    """The place that the door belongs to."""
    key: Ref | None
    """The access key that was used."""
    activity: str | None
    """The vendor's word for the action, if it sends one."""
    raw: dict[str, Any]
    """The vendor's object, unchanged."""


@_strict
class FieldError(TypedDict):
    """What is wrong with one field of the request."""

    field: str | None
    """The name of the field."""
    message: str | None
    """What is wrong with it."""


@_strict
class Failure(TypedDict):
    """A requested operation that failed; the same shape for every vendor."""

    batch_id: str | None
    """The vendor's id of the batch, if it was in one."""
    item_id: str | None
    """The vendor's id of the item, or the id that its sender gave it."""
    index: int | None
    """Its place in the batch, from 0."""
    code: str | None
    """The vendor's word or number for what went wrong."""
    message: str | None
    """The vendor's text about what went wrong."""
    fields: list[FieldError]
    """What is wrong with single fields of the request, if the vendor says so."""
    person: Person | None
    """The person concerned, if the vendor names one."""
    about: Ref | None
    """The thing concerned: a key, a journal entry."""
    raw: dict[str, Any]
    """The vendor's object, unchanged except that signed links are removed."""


@_strict
class Item(TypedDict):
    """A requested operation that succeeded."""

    batch_id: str | None
    """The vendor's id of the batch."""
    item_id: str | None
    """The vendor's id of the item, or the id that its sender gave it."""
    index: int | None
    """Its place in the batch, from 0."""
    code: str | None
    """The vendor's word or number for how it ended."""
    person: Person | None
    """The person concerned, if the vendor names one."""
    about: Ref | None
    """The thing concerned."""
    raw: dict[str, Any]
    """The vendor's object, unchanged except that signed links are removed."""


@_strict
class Push(Failure):
    """One write to an accounting system that has ended. If it failed, it has all that a `Failure` has."""

    connection: str | None
    """The connection that it went through, or the business."""
    environment: Literal["sandbox", "production"] | None
    """The environment of the key that Roundsman has."""
    service: str | None
    """The accounting system."""
    status: str | None
    """The vendor's word for the state."""
    requested_at: Time | None
    """When it was requested."""
    completed_at: Time | None
    """When it ended."""
    object_ids: list[str]
    """The ids of the resulting objects in the accounting system."""


@_strict
class Row(Failure):
    """A row of a JSON API. If it failed, it has all that a `Failure` has."""


@_strict
class FailedItem(TypedDict):
    """The short form of a failure."""

    item_id: str | None
    """The id of the item."""
    code: str | None
    """The vendor's word or number for what went wrong."""
    message: str | None
    """The vendor's text about what went wrong."""
    person: Person | None
    """The person concerned, if the vendor names one."""


@_strict
class Batch(TypedDict):
    """Operations that were requested together and have ended, each with its own result."""

    batch_id: str
    """The vendor's id of the batch."""
    outcome: Outcome
    """The same as the attribute of the event."""
    status: str | None
    """The vendor's word for the state. `finished` does not mean success."""
    total: int | None
    """The number of operations."""
    failed: int | None
    """The number of operations that failed; null if it is not known."""
    submitted_at: Time | None
    """When the batch was submitted."""
    completed_at: Time | None
    """When the batch ended."""
    failures: list[FailedItem] | None
    """The first failures, each of which is also an event of its own; null if they are not known (yet)."""
    failures_cap: int
    """Maximum number of failures that are listed."""
    raw: dict[str, Any]
    """The vendor's object, unchanged except that signed links are removed. Railz has none for a batch."""


@_strict
class Notice(TypedDict):
    """A report of the daemon about itself, a source or a sink."""

    source: str
    """The configured source's name; `daemon` for a report about the daemon itself or a sink."""
    message: str
    """What happened and what to do, in a sentence."""
    since: Time | None
    """When it began."""
    details: dict[str, Any]
    """More facts, by the type of the notice."""


FAILURES_CAP = 20
"""Maximum failures that a batch's event lists."""


@_strict
class Envelope(TypedDict):
    """A CloudEvent, with the extension attributes `outcome` and `summary`."""

    specversion: Literal["1.0"]
    """The version of CloudEvents."""
    id: Annotated[str, Field(min_length=1)]
    """The id. `source` and `id` together are unique: a receiver that gets an event again knows it by them."""
    source: Annotated[str, Field(min_length=1)]
    """`/VENDOR/NAME`. NAME is the name of the source in the configuration. VENDOR is `roundsman` for notices, and `json`
    for `http.json`.
    """
    type: Annotated[str, Field(min_length=1)]
    """The type of the event."""
    subject: NotRequired[Annotated[str, Field(min_length=1)]]
    """What the event is about. Left out if that is not known."""
    time: NotRequired[Time]
    """When it happened, by the vendor's clock; for a notice, when it was reported. Left out if that is not known."""
    datacontenttype: Literal["application/json"]
    """The type of `data`."""
    outcome: NotRequired[Outcome]
    """How it ended. Left out for notices, and for rows of `http.json` that did not fail."""
    summary: NotRequired[Annotated[str, Field(min_length=1, max_length=200)]]
    """The event in one line for a person: the person, the thing, the result, the reason, the place, and the source in
    brackets. Unprintable characters are escaped, secrets of the configuration are masked, and mentions are defused. In
    no header of the binary mode. Versions before 0.10 delivered events without it.
    """
    data: dict[str, Any]
    """The data, in the shape of the type. Members that the vendor does not send are null."""


_open = with_config(ConfigDict(extra="allow", use_attribute_docstrings=True))
"""The status: later versions add members."""


@_strict
class LoggedEvent(TypedDict):
    """An event in the answer of `/events`."""

    seq: int
    """Its number in the log, as `roundsman events` and `roundsman failures` show it."""
    logged: Time
    """When it was logged."""
    event: dict[str, Any]
    """The CloudEvent, as it is stored."""


@_strict
class EventsAnswer(TypedDict):
    """The answer of `/events`: a stretch of the log after `after`."""

    next: int
    """Where to go on: the `after` of the next request. It has moved also if no event matched."""
    head: int
    """The last number of the log. While `next` is less, there may be more: ask again at once."""
    pruned: int
    """Numbers of the stretch whose events were pruned. Whether they matched is not known."""
    damaged: int
    """Events that cannot be read because the store is damaged."""
    events: list[LoggedEvent]
    """In the order of the log."""


@_open
class SourceState(TypedDict):
    """A source in `roundsman status --json` and in `/status.json`."""

    name: str
    """The name in the configuration."""
    type: str
    """Its type, such as `parakey.event_logs`."""
    state: Literal["ok", "idle", "new", "retrying", "failing", "gap", "paused", "retired"]
    """`new`: not visited yet; `idle`: visited, and no good answer yet; `retired`: not in the configuration any more."""
    visited: Time | None
    """The last visit."""
    answered: Time | None
    """The last good answer."""
    changed: Time | None
    """When it last had new events."""
    due: Time | None
    """The next visit; null if none is scheduled."""
    visits: int
    """Visits so far."""
    unchanged_share: float | None
    """The share of its requests that were answered 304, 0 to 1, yesterday and today (UTC); null without requests."""
    failures: int
    """Visits that failed in a row."""
    error: str | None
    """Why the last visit failed."""
    events: int
    """Its events in the log."""
    following: int
    """Ids that it follows."""
    webhooks: int
    """Authentic webhooks so far."""
    heard: Time | None
    """The last authentic webhook."""
    unread: int
    """Webhooks and rows that could not be read and are kept."""
    refused: int
    """Refused webhooks so far."""
    refusal: str | None
    """Why the last one was refused."""
    gap: str | None
    """Since when rows may be missing: a time or a word; null if none are."""
    gap_reported: Time | None
    """The last notice of a gap, if its state does not show whether it lasts."""
    rests_until: Time | None
    """Until when the vendor asked for no request, if that is more than a minute."""
    origin: str | None
    """What its state was read from: an address and an account."""
    reads: str | None
    """What it reads now, if that is another origin."""
    paused: Time | None
    """Since when a person has paused it."""
    paused_by: str | None
    """Who."""
    reading: str | None
    """How far a reading over several visits has come: a time or words, or empty; null if none is under way."""
    tracks: bool | None
    """Whether it follows jobs by id; null if it does not."""
    worker: str | None
    """The worker that holds it, if machines share the store."""


@_open
class SinkState(TypedDict):
    """A sink in `roundsman status --json` and in `/status.json`."""

    name: str
    """The name in the configuration."""
    type: str
    """Its type, such as `file`."""
    state: Literal["ok", "failing", "refusing", "waiting", "paused", "retired"]
    """`refusing`: its receiver has refused each event since the last delivery; `waiting`: it holds events on purpose, and
    sends them later; `retired`: not in the configuration any more.
    """
    cursor: int
    """The number of the last event that it has."""
    waiting: int
    """Events that wait for it."""
    held: int | None
    """Events that it has gathered, and sends later."""
    until: Time | None
    """When it sends them."""
    delivered: Time | None
    """The last delivery."""
    failures: int
    """Deliveries that failed in a row."""
    error: str | None
    """Why the last one failed."""
    dead: int
    """Its dead letters."""
    dead_since: Time | None
    """When the first of them was buried."""
    paused: Time | None
    """Since when a person has paused it."""
    paused_by: str | None
    """Who."""
    oldest: Time | None
    """When the oldest event that waits for it was logged."""
    worker: str | None
    """The worker that holds it, if machines share the store."""


@_open
class WorkerState(TypedDict):
    """A worker of a shared store in `roundsman status --json` and in `/status.json`."""

    name: str
    """`name` of its `[daemon]`, or its host name."""
    state: Literal["ok", "silent"]
    """`silent`: its last beat was more than 15 seconds ago. After 20 seconds, others take over what it holds."""
    host: str
    """The host name of its machine."""
    pid: int
    """Its process."""
    version: str
    """The version of Roundsman."""
    since: str
    """When its session began."""
    beat: str
    """When it last recorded that it runs."""
    sources: int
    """How many sources it holds."""
    sinks: int
    """How many sinks it holds."""
    config: str | None
    """A digest of the configuration that it took over or refused last."""


@_open
class StatusAnswer(TypedDict):
    """What `roundsman status --json` prints, and the answer of `/status.json`."""

    store: str
    """The path of the store."""
    daemon: str | None
    """The daemon that runs on it; null if none does."""
    trouble: str | None
    """A full disk, or a daemon that does not write; null if there is no such trouble."""
    damage: str | None
    """Damage to the store that is known."""
    events: int
    """The last number of the log."""
    open_failures: int
    """Failures that no person has marked as done."""
    sources: list[SourceState]
    """By name."""
    sinks: list[SinkState]
    """By name."""
    workers: NotRequired[list[WorkerState]]
    """Only if machines share the store: each worker, the oldest first."""
    offset: NotRequired[int]
    """Only in `/status.json`: the number of sources before these."""
    next: NotRequired[int | None]
    """Only in `/status.json`: the `offset` of the next request; null if these are the last ones."""
    total: NotRequired[int]
    """Only in `/status.json`: the number of all sources."""


def in_short(failure: Failure) -> FailedItem:
    """The failure as its batch lists it."""
    return {
        "item_id": failure["item_id"],
        "code": failure["code"],
        "message": failure["message"],
        "person": failure["person"],
    }


def batch_outcome(total: int | None, failed: int | None) -> Outcome:
    """How a batch ended, from its counts: the vendor's "finished" alone does not show it."""
    if failed:
        return "partial" if total is None or failed < total else "failed"
    if failed is None:
        return "unknown"
    return "empty" if total == 0 else "succeeded"
