"""The shape of each event type's data, and their JSON Schemas."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple, NotRequired

from pydantic import ConfigDict, Field, TypeAdapter, with_config
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


class Kind(NamedTuple):
    """What an event type means."""

    shape: Any
    """The shape of its data."""
    when: str
    """When it is reported."""
    id: str
    """How its id is made; a digest is of its content."""
    subject: str
    """What the attribute `subject` is."""
    outcomes: tuple[Outcome, ...] = ()
    """The outcomes that it can have; without any, the attribute is left out."""
    details: Mapping[str, str] = {}
    """The members of `data.details` of a notice, with their meaning."""
    page: str = ""
    """The page of the documentation that says what to do."""


ENDED: tuple[Outcome, ...] = ("succeeded", "partial", "failed")
ENDS: tuple[Outcome, ...] = (*ENDED, "empty", "unknown")
BATCH, PUSH = "the id of the batch", "the id of the push"
OPERATION = "the id of the operation, else of the batch"


def _notice(when: str, page: str, subject: str = "the name of the source", **details: str) -> Kind:
    about = "`{source}:{kind}:`, and what it is about, such as a time"
    return Kind(Notice, when, about, subject, details=details, page=f"runbook/{page}")


KINDS = {
    "co.parakey.event_log.created": Kind(
        Access,
        "A person tried to open a door.",
        "the id of the row",
        "the id of the door",
        ("granted", "denied", "unknown"),
    ),
    "co.parakey.batch.completed": Kind(
        Batch, "A batch of access keys has ended.", "`{batch}:completed`", BATCH, ENDS
    ),
    "co.parakey.batch.item_failed": Kind(
        Failure,
        "A person did not get (or lose) an access key.",
        "`{batch}:{item}:failed`",
        BATCH,
        ("failed",),
    ),
    "com.mailchimp.batch.completed": Kind(
        Batch, "A batch is finished, which does not mean success.", "`{batch}:completed`", BATCH, ENDS
    ),
    "com.mailchimp.batch.operation_failed": Kind(
        Failure,
        "An operation of a batch failed, or an operation over many people left out one of them.",
        "`{batch}:{digest}`",
        OPERATION,
        ("failed",),
    ),
    "com.mailchimp.batch.operation_succeeded": Kind(
        Item,
        'An operation of a batch succeeded; only with `results = "all"`.',
        "`{batch}:{digest}`",
        OPERATION,
        ("succeeded",),
    ),
    "ai.railz.push.completed": Kind(
        Push, "A write to an accounting system has ended.", "`{push}:{status}`", PUSH, ENDED
    ),
    "ai.railz.push.file_failed": Kind(
        Failure, "One file of a push failed.", "`{push}:file:{digest}`", PUSH, ("failed",)
    ),
    "ai.railz.delete.completed": Kind(
        Push,
        "A deletion in an accounting system has ended; only with `deletes = true`.",
        "`{delete}:{status}`",
        "the id of the deletion",
        ENDED,
    ),
    "ai.railz.batch_push.completed": Kind(
        Batch, "No push of a batch is pending any more.", "`{batch}:completed`", BATCH, ENDED
    ),
    "http.json.row": Kind(
        Row,
        "A row of a list is new. `event.type` of the source can name this type otherwise.",
        "the value of `rows.id`; several values are joined by colons",
        "the value of `event.subject`",
        ("failed",),
    ),
    "roundsman.source.failing": _notice(
        "The credentials of a source are refused, it has had no good answer for three intervals, or more than three visits "
        "in a row failed. At Railz: a connection failed three times in a row.",
        "source-failing.md",
        connection="`railz.pushes`: the connection, if it is one connection that fails.",
    ),
    "roundsman.source.recovered": _notice(
        "It answers again.", "source-failing.md", connection="`railz.pushes`: the connection, if it was one."
    ),
    "roundsman.source.gap": _notice(
        "Events may be missing, and Roundsman cannot find them by itself.",
        "gap.md",
        since="`parakey.event_logs`, `http.json`: rows after this time may be missing.",
        until="`parakey.event_logs`: rows before this time may be missing.",
        cursor="`parakey.event_logs`: the cursor.",
        rows="`parakey.event_logs`: the most rows that an answer had. `http.json`: the rows that were read.",
        pages="`http.json`: the pages that were read.",
        batch_id="`mailchimp.batches`: the batch whose results could not be read.",
        total="`mailchimp.batches`: its operations.",
        failed="`mailchimp.batches`: its operations that failed, by the vendor's count.",
        connection="`railz.pushes`: the connection.",
    ),
    "roundsman.source.webhook_silent": _notice(
        "Three scheduled visits over half an hour or more found something new, and no webhook came.",
        "silent-webhook.md",
    ),
    "roundsman.sink.failing": _notice(
        "A sink has acknowledged nothing for ten minutes. The other sinks deliver this notice.",
        "sink-failing.md",
        "the name of the sink",
        error="What went wrong.",
    ),
    "roundsman.sink.recovered": _notice(
        "A failing sink acknowledges events again.", "sink-failing.md", "the name of the sink"
    ),
    "roundsman.sink.gap": _notice(
        "A sink was configured again after the payloads of some of its events were pruned.",
        "sink-failing.md#a-sink-came-back-too-late",
        "the name of the sink",
        missed="The number of events that it cannot get any more.",
    ),
    "roundsman.store.damaged": _notice(
        "A check found damage in the store. It is reported once.", "store-damaged.md", "`store`"
    ),
    "roundsman.disk.low": _notice(
        "Less than 5 % and less than 512 MiB are free on the disk of the store.",
        "disk-low.md",
        "`disk`",
        free="Bytes that are free.",
        total="Bytes of the disk.",
    ),
    "roundsman.disk.recovered": _notice(
        "There is space again on the disk of the store.", "disk-low.md", "`disk`"
    ),
    "roundsman.clock.jumped": _notice(
        "The clock of the machine was set by a minute or more.",
        "clock.md",
        "`clock`",
        seconds="By how much, in seconds; negative if it was set back.",
    ),
    "roundsman.batch.stalled": _notice(
        "A batch or push has not changed for `stall_after`. It is still followed.",
        "stalled-batch.md",
        id="The id of the batch or push.",
        seen="`mailchimp.batches`: what was last seen of it: the vendor's state and counts.",
        connection="`railz.pushes`: the connection.",
        batch="`railz.pushes`: the batch of the push, if it is in one.",
    ),
    "roundsman.batch.gone": _notice(
        "The vendor does not know a batch or push any more. It was asked twice.",
        "stalled-batch.md",
        id="The id of the batch or push.",
        last_seen="What was last seen of it: the vendor's state and counts.",
    ),
}
"""Every event type with its meaning, in the order of the documentation."""

TYPES: dict[str, Any] = {name: kind.shape for name, kind in KINDS.items()}
"""Every event type with the shape of its data."""


@_strict
class Envelope(TypedDict):
    """A CloudEvent, with `outcome` as its one extension attribute."""

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
    data: dict[str, Any]
    """The data, in the shape of the type. Members that the vendor does not send are null."""


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


def schemas() -> dict[str, Any]:
    """A JSON Schema of every event: the envelope, and by type the shape of its data."""
    definitions: dict[str, Any] = {}
    choices = []
    for kind, (shape, _, _, _, outcomes, *_) in KINDS.items():
        schema = TypeAdapter(shape).json_schema(ref_template="#/$defs/{model}")
        definitions |= schema.pop("$defs", {})
        definitions[shape.__name__] = schema
        choices.append(
            {
                "if": {"properties": {"type": {"const": kind}}},
                "then": {
                    "properties": {
                        "data": {"$ref": f"#/$defs/{shape.__name__}"},
                        "outcome": {"enum": list(outcomes)} if outcomes else False,
                    }
                },
            }
        )
    envelope = TypeAdapter(Envelope).json_schema()
    envelope["properties"]["type"]["examples"] = list(TYPES)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Roundsman event",
        **envelope,
        "allOf": choices,
        "$defs": definitions,
    }
