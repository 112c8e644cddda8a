"""The events of Railz's pushes, deletions and batches, from the rows of lists and webhooks."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from roundsman.events import Event
from roundsman.kit import fields
from roundsman.shapes import FAILURES_CAP, Batch, Failure, FieldError, Outcome, Push, batch_outcome
from roundsman.times import parse_time, rfc3339

OUTCOMES: dict[str, Outcome] = {"success": "succeeded", "failed": "failed"}
"""The terminal states. Any other status is not an end."""
FAILING = ("fail", "error", "reject", "invalid", "unsupported", "refused", "denied")
"""Prefixes of the words for a file that failed."""
FILE_MESSAGES = ("message", "error", "reason")
"""Members of a file that may have the reason of its failure; not documented."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of list: pushes or deletions, which have the same form."""

    path: str
    id: str
    event: str


PUSHES = Kind("data/pushStatus", "pushCommunicationId", "ai.railz.push.completed")
DELETES = Kind("data/deleteStatus", "deleteCommunicationId", "ai.railz.delete.completed")


@dataclass(frozen=True, slots=True)
class Row:
    """One push or deletion that has ended."""

    kind: Kind
    connection: str
    key: str
    data: dict[str, Any]
    raw: Any
    batch: str | None
    """The id of its batch, from the row or from what it came in."""


@dataclass(frozen=True, slots=True)
class Shapes:
    """Makes the events of one source."""

    source: str
    environment: Literal["sandbox", "production"] | None
    messages: bool
    """Keep the accounting system's messages."""

    def row(self, row: Row, unless: str | None = None) -> list[Event]:
        """A failure for each failed file of a push, then the push."""
        return [*self._files(row), self._push(row, unless)]

    def _push(self, row: Row, unless: str | None) -> Event:
        data, raw, status = row.data, row.raw, fields.text(row.data.get("status"))
        requested, completed = parse_time(data.get("requestedOn")), parse_time(data.get("completedOn"))
        wrong = _validation(data) if self.messages else []
        if not self.messages and {"validation", "files"} & data.keys():
            raw = _without_messages(data)
        what = fields.text(data.get("dataType"))
        push: Push = {
            "batch_id": row.batch,
            "item_id": row.key,
            "index": None,
            "code": fields.text(data.get("responseCode")),
            "message": _why(data) if self.messages else None,
            "fields": wrong,
            "person": None,
            "about": {"id": next(iter(_ids(data)), None), "name": what} if what else None,
            "raw": raw,
            "connection": row.connection,
            "environment": self.environment,
            "service": fields.text(data.get("serviceName")),
            "status": status,
            "requested_at": rfc3339(requested) if requested else None,
            "completed_at": rfc3339(completed) if completed else None,
            "object_ids": _ids(data),
        }
        at = completed or requested
        return Event.of(
            vendor="railz",
            source=self.source,
            type=row.kind.event,
            id=f"{row.key}:{status}",
            data=push,
            time=rfc3339(at) if at else None,
            subject=row.key,
            outcome=_outcome(data),
            unless=unless,
            lists_failures=bool(_failed_files(data)),
        )

    def _files(self, row: Row) -> list[Event]:
        found = []
        at = parse_time(row.data.get("completedOn")) or parse_time(row.data.get("requestedOn"))
        names = Counter[str]()
        for index, file in _failed_files(row.data):
            name = fields.first(file, "path", "name") or str(index)
            names[name] += 1
            if names[name] > 1:
                name = f"{name}\n{names[name]}"  # two files with the same name are two failures
            digest = hashlib.blake2b(name.encode("utf-8", "replace"), digest_size=6).hexdigest()
            failure: Failure = {
                "batch_id": row.batch,
                "item_id": row.key,
                "index": index,
                "code": fields.text(file.get("status")),
                "message": fields.first(file, *FILE_MESSAGES) if self.messages else None,
                "fields": [],
                "person": None,
                "about": {"id": fields.text(file.get("path")), "name": fields.text(file.get("name"))},
                "raw": file if self.messages else _without_words(file),
            }
            found.append(
                Event.of(
                    vendor="railz",
                    source=self.source,
                    type="ai.railz.push.file_failed",
                    id=f"{row.key}:file:{digest}",
                    data=failure,
                    time=rfc3339(at) if at else None,
                    subject=row.key,
                    outcome="failed",
                )
            )
        return found

    def batch(self, connection: str, batch: str, rows: Sequence[dict[str, Any]]) -> Event:
        """A batch none of whose pushes is pending."""
        failed = [data for data in rows if data.get("status") == "failed" or _failed_files(data)]
        outcome = batch_outcome(len(rows), len(failed))
        if any(data.get("status") == "success" for data in failed):
            outcome = "partial"
        begun = min(filter(None, (parse_time(data.get("requestedOn")) for data in rows)), default=None)
        ended = max(filter(None, (parse_time(data.get("completedOn")) for data in rows)), default=None)
        data: Batch = {
            "batch_id": batch,
            "outcome": outcome,
            "status": None,
            "total": len(rows),
            "failed": len(failed),
            "submitted_at": rfc3339(begun) if begun else None,
            "completed_at": rfc3339(ended) if ended else None,
            "failures": [
                {
                    "item_id": fields.first(row, PUSHES.id),
                    "code": fields.text(row.get("responseCode")),
                    "message": _why(row) if self.messages else None,
                    "person": None,
                }
                for row in failed[:FAILURES_CAP]
            ],
            "failures_cap": FAILURES_CAP,
            "raw": {"batchId": batch, "connection": connection},
        }
        return Event.of(
            vendor="railz",
            source=self.source,
            type="ai.railz.batch_push.completed",
            id=f"{batch}:completed",
            data=data,
            time=data["completed_at"],
            subject=batch,
            outcome=data["outcome"],
        )


def other_end(key: str, status: str | None) -> str:
    """The id of the event with the other end: a push ends once, so what was reported first stays."""
    return next(f"{key}:{word}" for word in OUTCOMES if word != status)


def _outcome(data: dict[str, Any]) -> Outcome:
    """The outcome of a push: a success with failed files is partial."""
    outcome = OUTCOMES[fields.text(data.get("status")) or ""]
    return "partial" if outcome == "succeeded" and _failed_files(data) else outcome


def _failed_files(data: dict[str, Any]) -> list[tuple[int, dict[str, Any]]]:
    """The failed files of a push, with their indexes: a push of files can succeed without them."""
    files = data.get("files")
    if not isinstance(files, list):
        return []
    return [(index, file) for index, file in enumerate(files) if isinstance(file, dict) and _is_failed(file)]


def _is_failed(file: dict[str, Any]) -> bool:
    """Whether a file failed: by a status or a code, or by an error beside it. None of this is documented."""
    codes = (file.get(name) for name in ("status", "statusCode", "responseCode", "code"))
    if any(400 <= (fields.count(code) or 0) < 600 for code in codes):
        return True
    if file.get("error") or file.get("errors"):
        return True
    return (fields.text(file.get("status")) or "").lower().startswith(FAILING)


def _without_messages(data: dict[str, Any]) -> dict[str, Any]:
    """A push as it came, without the texts of the accounting system and of the files."""
    kept = {name: value for name, value in data.items() if name != "validation"}
    if isinstance(files := data.get("files"), list):
        kept["files"] = [_without_words(file) if isinstance(file, dict) else None for file in files]
    return kept


def _without_words(file: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in file.items() if name in ("path", "name", "status", "type", "size")}


def _why(data: dict[str, Any]) -> str | None:
    """Why a push or some of its files failed, in the accounting system's words."""
    said = [field["message"] for field in _validation(data)]
    said += [fields.first(file, *FILE_MESSAGES) for _, file in _failed_files(data)]
    return "; ".join(filter(None, said)) or None


def batch_id(value: Any) -> str | None:
    """The id of the batch: text in the vendor's examples, an object in its schema."""
    if isinstance(value, dict):
        return next((each for each in value.values() if isinstance(each, str) and each), None)
    return value if isinstance(value, str) and value else None


def _ids(data: dict[str, Any]) -> list[str]:
    """The ids of the objects that a push made: a list in v2, one id in v1."""
    many = data.get("sourceObjectIds")
    found = [text for each in many if (text := fields.text(each))] if isinstance(many, list) else []
    one = fields.text(data.get("sourceObjectId"))
    return found or ([one] if one else [])


def _validation(data: dict[str, Any]) -> list[FieldError]:
    """The validation errors of the accounting system.

    Fields and even the list may be missing; the message may be a list.
    """
    validation = data.get("validation")
    errors = validation.get("errors") if isinstance(validation, dict) else validation
    found: list[FieldError] = []
    for each in (errors if isinstance(errors, list) else [errors] if errors else [])[:100]:
        if isinstance(each, dict):
            message = each.get("message")
            text = (
                "; ".join(m for m in message if isinstance(m, str))
                if isinstance(message, list)
                else fields.text(message)
            )
            found.append({"field": fields.text(each.get("field")), "message": text or None})
        elif isinstance(each, str) and each:
            found.append({"field": None, "message": each})
    return found
