"""Every event type: its shape, what it means, how its id is made; and the JSON Schemas."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from pydantic import TypeAdapter

from roundsman.shapes import (
    Access,
    Batch,
    Envelope,
    EventsAnswer,
    Failure,
    Item,
    Notice,
    Outcome,
    Push,
    Row,
    StatusAnswer,
)


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


def answers() -> dict[str, Any]:
    """JSON Schemas of the answers of `/events` and `/status.json`, by name, in the schema of events."""
    definitions: dict[str, Any] = {}
    for shape in (EventsAnswer, StatusAnswer):
        schema = TypeAdapter(shape).json_schema(ref_template="#/$defs/{model}")
        definitions |= schema.pop("$defs")
        definitions[shape.__name__] = schema
    described = definitions["LoggedEvent"]["properties"]["event"]["description"]
    definitions["LoggedEvent"]["properties"]["event"] = {"$ref": "#", "description": described}
    return definitions


def schemas() -> dict[str, Any]:
    """A JSON Schema of every event: the envelope, and by type the shape of its data. Among its definitions, the answers of
    the page for programs.
    """
    definitions = answers()
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
