"""Events as CloudEvents 1.0: encoded once, when they are first seen, and from then on passed on as bytes.

The shapes of `data` are `TypedDict`s: plain dictionaries for speed, and the source of the JSON Schemas that
`roundsman schema events` prints. Specification:
https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md
"""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from roundsman import wire
from roundsman.errors import Unreadable
from roundsman.masking import mask, masked
from roundsman.summary import notice_line, summary as summary_of
from roundsman.times import rfc3339

if TYPE_CHECKING:
    from roundsman.shapes import Notice, Outcome


class _Envelope(msgspec.Struct, gc=False):
    """A CloudEvent's members, in the order in which they are written."""

    specversion: str
    id: str
    source: str
    type: str
    subject: str | msgspec.UnsetType
    time: str | msgspec.UnsetType
    datacontenttype: str
    outcome: str | msgspec.UnsetType
    summary: str
    data: Mapping[str, Any]


class _Said(msgspec.Struct, gc=False):
    """Of an event, only the summary is decoded."""

    summary: str = ""


_said = msgspec.json.Decoder(_Said).decode


class Event(msgspec.Struct, frozen=True, gc=False):
    """One event: the fields that the daemon decides by, and its JSON, encoded once."""

    id: str
    """Unique within its source, and derived from the vendor's own id."""
    source: str
    """The configured source's name."""
    type: str
    outcome: str | None
    body: bytes
    """The whole CloudEvent as one line of JSON, without the line's end."""
    seq: int = 0
    """Its number in the log; 0 until it is committed."""
    stamp: float | None = None
    """The vendor's time that the source reads by (Unix seconds): ids are kept 35 days back from the newest.

    None if a poll may return events of any age: then the id is kept permanently.
    """
    failure: int | None = None
    """1 if something failed and `roundsman failures` lists it; else None."""
    unless: str | None = None
    """An id of its source: once the log has that id, this event is too late and is left out."""

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
        outcome: "Outcome | None" = None,
        stamp: datetime | None = None,
        unless: str | None = None,
        lists_failures: bool = False,
    ) -> "Event":
        """`lists_failures`: its failures are reported as events of their own, so it does not count as one."""
        envelope = _Envelope(
            "1.0",
            id,
            f"/{vendor}/{source}",
            type,
            subject or msgspec.UNSET,
            time or msgspec.UNSET,
            "application/json",
            outcome or msgspec.UNSET,
            summary_of(source, type, outcome, data, subject or id),
            data,
        )
        at = stamp.timestamp() if stamp is not None else None
        if unless is None and "\\ud" in id:
            # A lone surrogate, spelled out. Versions before 0.5 wrote "?"; it must not be reported twice.
            unless = _SPELLED.sub("?", id)
        # A batch that lists its failures does not count: they are events of their own.
        listed = lists_failures or bool(data.get("failures"))
        failure = 1 if outcome in {"failed", "partial"} and not listed else None
        return cls(id, source, type, outcome, wire.encode(envelope), 0, at, failure, unless)

    @property
    def sound(self) -> bool:
        """Whether the body is JSON in one line: a damaged store may return any bytes."""
        return wire.is_line(self.body)

    @property
    def summary(self) -> str:
        """The event in one line for a person: at most 200 printable characters."""
        body = with_summary(self.body, self.source)
        try:
            return _said(body).summary or self.id
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):  # what only the slower reader takes
            return str(wire.decode(body).get("summary", self.id))

    @property
    def line(self) -> str:
        """The summary; of a notice its whole text, because the end of it says what to do."""
        data = self.document().get("data") if self.type.startswith("roundsman.") else None
        message = data.get("message") if isinstance(data, dict) else None
        return notice_line(self.source, message) if isinstance(message, str) and message else self.summary

    def document(self) -> dict[str, Any]:
        """The CloudEvent as a dictionary."""
        document: dict[str, Any] = wire.decode(self.body)
        return document


KIND, _OUTCOME, SUMMARY = b',"datacontenttype":"application/json"', b',"outcome":"', b',"summary":'
"""Members of an envelope. Within a text of JSON, their quotes would be escaped."""


def with_summary(body: bytes, source: str) -> bytes:
    """The body of an event with its summary, which versions before 0.10 did not store; unchanged if it is not readable."""
    at = body.find(KIND)
    if at >= 0:
        at += len(KIND)
        if body.startswith(_OUTCOME, at):
            at = body.index(b'"', at + len(_OUTCOME)) + 1
        if body.startswith(SUMMARY, at):
            return body
    try:
        document = wire.decode(body)
    except Unreadable:
        return body
    if not isinstance(document, dict) or "summary" in document or not isinstance(document.get("data"), dict):
        return body
    kind, outcome = str(document.get("type")), document.get("outcome")
    thing = str(document.get("subject") or document.get("id"))
    text = wire.encode(summary_of(source, kind, outcome, document["data"], thing))
    if at < 0:  # the event of a plugin, with its members in another order
        at = body.rindex(b"}")
    return body[:at] + SUMMARY + text + body[at:]


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
    """The daemon's own event `kind`. Its id is derived from `about`, so that a repeat is the same event."""
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
