"""The shape of each event type's data, and their JSON Schemas."""

from typing import Annotated, Any, Literal, NotRequired

from pydantic import ConfigDict, Field, TypeAdapter, with_config
from typing_extensions import TypedDict

Outcome = Literal["succeeded", "partial", "failed", "empty", "granted", "denied", "unknown"]
Time = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
"""RFC 3339 in UTC, ending in `Z`."""


_strict = with_config(ConfigDict(extra="forbid", use_attribute_docstrings=True))


@_strict
class Ref(TypedDict):
    """A thing at the vendor."""

    id: str | None
    name: str | None


@_strict
class Person(TypedDict):
    """A person; all null if the vendor has removed personal data."""

    id: str | None
    name: str | None
    email: str | None


@_strict
class Access(TypedDict):
    """An attempt to open a door."""

    occurred_at: Time | None
    """When it happened at the door."""
    recorded_at: Time | None
    """When the vendor stored it; later than `occurred_at` for locks that were offline."""
    door: Ref | None
    user: Person | None
    place: Ref | None
    key: Ref | None
    activity: str | None
    """The vendor's word for the action, if it sends one."""
    raw: dict[str, Any]
    """The vendor's object, unchanged."""


@_strict
class FieldError(TypedDict):
    """What is wrong with one field of the request."""

    field: str | None
    message: str | None


@_strict
class Failure(TypedDict):
    """A requested operation that failed; the same shape for every vendor."""

    batch_id: str | None
    item_id: str | None
    """The vendor's id of the item, or the one that its sender gave it."""
    index: int | None
    """Its place in the batch, from 0."""
    code: str | None
    """The vendor's word or number for what went wrong."""
    message: str | None
    fields: list[FieldError]
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
    item_id: str | None
    index: int | None
    code: str | None
    person: Person | None
    about: Ref | None
    raw: dict[str, Any]


@_strict
class Push(Failure):
    """One write to an accounting system that has ended; if it failed, with all that a `Failure` has."""

    connection: str | None
    """The connection that it went through, or the business."""
    environment: Literal["sandbox", "production"] | None
    service: str | None
    """The accounting system."""
    status: str | None
    """The vendor's word."""
    requested_at: Time | None
    completed_at: Time | None
    object_ids: list[str]
    """The ids of the resulting objects in the accounting system."""


@_strict
class Row(Failure):
    """A row of a JSON API; if it failed, with all that a `Failure` has."""


@_strict
class FailedItem(TypedDict):
    """The short form of a failure."""

    item_id: str | None
    code: str | None
    message: str | None
    person: Person | None


@_strict
class Batch(TypedDict):
    """Operations that were requested together and have ended, each with its own result."""

    batch_id: str
    outcome: Outcome
    status: str | None
    """The vendor's word; "finished" does not mean success."""
    total: int | None
    failed: int | None
    submitted_at: Time | None
    completed_at: Time | None
    failures: list[FailedItem] | None
    """The first failures, each of which is also an event of its own; null if they are not known (yet)."""
    failures_cap: int
    """Maximum number of failures that are listed."""
    raw: dict[str, Any]


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


FAILURES_CAP = 20
"""Maximum failures that a batch's event lists."""


TYPES: dict[str, Any] = {
    "co.parakey.event_log.created": Access,
    "co.parakey.batch.completed": Batch,
    "co.parakey.batch.item_failed": Failure,
    "com.mailchimp.batch.completed": Batch,
    "com.mailchimp.batch.operation_failed": Failure,
    "com.mailchimp.batch.operation_succeeded": Item,
    "ai.railz.push.completed": Push,
    "ai.railz.push.file_failed": Failure,
    "ai.railz.delete.completed": Push,
    "ai.railz.batch_push.completed": Batch,
    "http.json.row": Row,
    "roundsman.source.failing": Notice,
    "roundsman.source.recovered": Notice,
    "roundsman.source.gap": Notice,
    "roundsman.source.webhook_silent": Notice,
    "roundsman.sink.failing": Notice,
    "roundsman.sink.recovered": Notice,
    "roundsman.sink.gap": Notice,
    "roundsman.store.damaged": Notice,
    "roundsman.disk.low": Notice,
    "roundsman.disk.recovered": Notice,
    "roundsman.clock.jumped": Notice,
    "roundsman.batch.stalled": Notice,
    "roundsman.batch.gone": Notice,
}
"""Every event type with the shape of its data."""


@_strict
class Envelope(TypedDict):
    """A CloudEvent, with `outcome` as our one extension attribute."""

    specversion: Literal["1.0"]
    id: Annotated[str, Field(min_length=1)]
    source: Annotated[str, Field(min_length=1)]
    type: Annotated[str, Field(min_length=1)]
    subject: NotRequired[Annotated[str, Field(min_length=1)]]
    time: NotRequired[Time]
    datacontenttype: Literal["application/json"]
    outcome: NotRequired[Outcome]
    data: dict[str, Any]


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
    for kind, shape in TYPES.items():
        schema = TypeAdapter(shape).json_schema(ref_template="#/$defs/{model}")
        definitions |= schema.pop("$defs", {})
        definitions[shape.__name__] = schema
        choices.append(
            {
                "if": {"properties": {"type": {"const": kind}}},
                "then": {"properties": {"data": {"$ref": f"#/$defs/{shape.__name__}"}}},
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
