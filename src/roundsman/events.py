"""What happened, as CloudEvents 1.0: encoded once, when it is first seen, and from then on carried as bytes.

The shapes of `data` are `TypedDict`s: plain dictionaries where speed counts, and the source of the JSON Schemas that
`roundsman schema events` prints. Specification: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Annotated, Any, Literal, NotRequired

import msgspec
from pydantic import ConfigDict, Field, TypeAdapter, with_config
from typing_extensions import TypedDict

from roundsman import wire
from roundsman.masking import mask, masked

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
    """Somebody; all null when the vendor has blanked personal data."""

    id: str | None
    name: str | None
    email: str | None


@_strict
class Access(TypedDict):
    """Somebody tried a door."""

    occurred_at: Time | None
    """When it happened at the door."""
    recorded_at: Time | None
    """When the vendor stored it; later than `occurred_at` for locks that were offline."""
    door: Ref | None
    user: Person | None
    place: Ref | None
    key: Ref | None
    activity: str | None
    """The vendor's word for what was done, where it sends one."""
    raw: dict[str, Any]
    """The vendor's object, untouched."""


@_strict
class FieldError(TypedDict):
    """What is wrong with one field of what was sent."""

    field: str | None
    message: str | None


@_strict
class Failure(TypedDict):
    """Something that somebody asked for did not happen: the same shape whoever reports it."""

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
    """Whom it concerns, where the vendor says so."""
    about: Ref | None
    """What it concerns: a key, a journal entry."""
    raw: dict[str, Any]
    """The vendor's object, untouched, except that signed links are cut out."""


@_strict
class Item(TypedDict):
    """Something that somebody asked for happened."""

    batch_id: str | None
    item_id: str | None
    index: int | None
    code: str | None
    person: Person | None
    about: Ref | None
    raw: dict[str, Any]


@_strict
class Push(Failure):
    """One write to an accounting system has ended; where it failed, with all that a `Failure` has."""

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
    """What it became at the accounting system."""


@_strict
class FailedItem(TypedDict):
    """A failure in short."""

    item_id: str | None
    code: str | None
    message: str | None
    person: Person | None


@_strict
class Batch(TypedDict):
    """Many things that somebody asked for at once have ended, each in its own way."""

    batch_id: str
    outcome: Outcome
    status: str | None
    """The vendor's word; "finished" is not yet success."""
    total: int | None
    failed: int | None
    submitted_at: Time | None
    completed_at: Time | None
    failures: list[FailedItem] | None
    """The first of what failed, each of which is an event of its own; null where that is not known (yet)."""
    failures_cap: int
    """How many of them are listed at most."""
    raw: dict[str, Any]


@_strict
class Notice(TypedDict):
    """The daemon's own trouble, told like everything else."""

    source: str
    """The configured source's name; `daemon` for what is about the daemon itself."""
    message: str
    """What happened and what to do, in a sentence."""
    since: Time | None
    """When it began."""
    details: dict[str, Any]


FAILURES_CAP = 20
"""Failures that a batch's event lists."""

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


class Event(msgspec.Struct, frozen=True, gc=False):
    """One thing that happened: what decides its way through us, and its JSON, encoded once."""

    id: str
    """Unique within its source, and derived from the vendor's own id."""
    source: str
    """The configured source's name."""
    type: str
    outcome: str | None
    body: bytes
    """The whole CloudEvent as one line of JSON, without the line's end."""
    seq: int = 0
    """Its number in our log; 0 until it is there."""
    stamp: float | None = None
    """The vendor's time that readings go by (Unix): ids are remembered 35 days back from the newest.

    None where a reading may bring anything, however old: then the id is kept for good.
    """
    failure: int | None = None
    """1 where something went wrong for somebody, which `roundsman failures` lists."""
    unless: str | None = None
    """An id of its source: once the log has that one, this event comes too late and is left out."""

    @classmethod
    def of(
        cls,
        *,
        vendor: str,
        source: str,
        type: str,  # noqa: A002 - the CloudEvents attribute's name
        id: str,  # noqa: A002 - likewise
        data: Mapping[str, Any],
        time: str | None = None,
        subject: str | None = None,
        outcome: Outcome | None = None,
        stamp: datetime | None = None,
        unless: str | None = None,
        lists_failures: bool = False,
    ) -> "Event":
        """`lists_failures`: what failed in it is told in events of its own, so that it is no failure beside them."""
        envelope: dict[str, Any] = {
            "specversion": "1.0",
            "id": id,
            "source": f"/{vendor}/{source}",
            "type": type,
        }
        if subject:
            envelope["subject"] = subject
        if time:
            envelope["time"] = time
        envelope["datacontenttype"] = "application/json"
        if outcome:
            envelope["outcome"] = outcome
        envelope["data"] = data
        at = stamp.timestamp() if stamp is not None else None
        if unless is None and "\\ud" in id:
            # A lone surrogate, spelled out. Versions before 0.5 wrote a question mark, and it must not be told again.
            unless = _SPELLED.sub("?", id)
        # A batch that lists its failures does not count: they are events of their own.
        listed = lists_failures or bool(data.get("failures"))
        failure = 1 if outcome in {"failed", "partial"} and not listed else None
        return cls(id, source, type, outcome, wire.encode(envelope), 0, at, failure, unless)

    @property
    def sound(self) -> bool:
        """Whether the body is JSON in one line: a damaged store may hand over anything."""
        return wire.is_line(self.body)

    def document(self) -> dict[str, Any]:
        """The CloudEvent as a dictionary."""
        document: dict[str, Any] = wire.decode(self.body)
        return document


def notice(
    kind: str,
    source: str,
    about: str,
    message: str,
    *,
    since: datetime | None = None,
    now: datetime | None = None,
    details: Mapping[str, Any] | None = None,
    subject: str | None = None,
) -> Event:
    """The daemon's own event `kind`; its id is derived from what it is `about`, so that a repeat is the same event."""
    data: Notice = {
        "source": source,
        "message": mask(message),
        "since": rfc3339(since) if since else None,
        "details": masked(details or {}),
    }
    return Event.of(
        vendor="roundsman",
        source=source,
        type=kind,
        id=f"{source}:{kind.rpartition('.')[2]}:{about}",
        data=data,
        time=rfc3339(when) if (when := now or since) else None,
        subject=subject or source,
    )


_SPELLED = re.compile(r"\\ud[89a-f][0-9a-f]{2}")
_FRACTION = re.compile(r"(\.\d{6})\d+")
_UNIX = re.compile(r"(\d{9,19}(?:\.\d+)?)|/Date\((-?\d{1,19})(?:[+-]\d{4})?\)/")
_MAIL = re.compile(r"(?:[A-Za-z]{3}, )?\d{1,2} [A-Za-z]{3} \d{4} ")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def parse_time(value: object) -> datetime | None:
    """A vendor's time as UTC, or None where it is none.

    Takes ISO 8601 text (any offset, none meaning UTC, any number of decimals), Unix times as numbers or text in seconds or
    smaller units, "/Date(1777618692000)/", and dates as in mail headers.
    """
    try:
        if isinstance(value, str):
            try:
                parsed = datetime.fromisoformat(value)
            except ValueError:
                parsed = datetime.fromisoformat(_FRACTION.sub(r"\1", value.strip()))
            if parsed.year < 1970:
                return None  # how some programs write "none"
            if parsed.tzinfo is UTC:
                return parsed
            return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return _EPOCH + timedelta(seconds=_in_seconds(value))
    except (ValueError, OverflowError):
        pass
    return _otherwise(value) if isinstance(value, str) else None


def _in_seconds(number: float) -> float:
    """A Unix time in seconds from one in seconds, milliseconds, microseconds or nanoseconds."""
    while abs(number) > 1e11:
        number /= 1000
    return number


def _otherwise(text: str) -> datetime | None:
    """A time that is not ISO 8601: a Unix time as text, as .NET writes it, or as mail does (RFC 2822)."""
    try:
        if found := _UNIX.fullmatch(text.strip()):
            return _EPOCH + timedelta(seconds=_in_seconds(float(found[1] or found[2])))
        if found := _MAIL.match(text):
            parsed = parsedate_to_datetime(text)
            return parsed.replace(tzinfo=parsed.tzinfo or UTC).astimezone(UTC)
    except (ValueError, TypeError, OverflowError):
        pass
    return None


def is_due(last: object, every: float, now: datetime) -> bool:
    """Whether `every` seconds have passed since a time that was written down; also where none was, or one of the future."""
    then = parse_time(last)
    return then is None or not 0 <= (now - then).total_seconds() < every


def in_short(failure: Failure) -> FailedItem:
    """The failure as its batch lists it."""
    return {
        "item_id": failure["item_id"],
        "code": failure["code"],
        "message": failure["message"],
        "person": failure["person"],
    }


def batch_outcome(total: int | None, failed: int | None) -> Outcome:
    """Our word for how a batch ended: "finished" alone says nothing."""
    if failed:
        return "partial" if total is None or failed < total else "failed"
    if failed is None:
        return "unknown"
    return "empty" if total == 0 else "succeeded"


def rfc3339(moment: datetime) -> str:
    """`2026-05-01T06:58:12Z` from a UTC date-time, with milliseconds (or microseconds) only where there are some."""
    text = moment.isoformat()[:-6]  # without +00:00
    return (text[:-3] if text.endswith("000") and moment.microsecond else text) + "Z"


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
