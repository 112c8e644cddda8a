"""Reads the results of a Mailchimp batch, operation by operation: whom each one failed, and why."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterator
from typing import IO, Any

from roundsman import wire
from roundsman.errors import Overlong, Unreadable
from roundsman.events import Event
from roundsman.kit import archive, fields
from roundsman.shapes import (
    FAILURES_CAP,
    Batch,
    FailedItem,
    Failure,
    FieldError,
    Item,
    Outcome,
    Person,
    in_short,
)
from roundsman.times import parse_time

EMAIL = re.compile(r"[^\s@\"'<>(),;:]{1,64}@[^\s@\"'<>(),;:]+\.[A-Za-z]{2,24}")
GENERIC = re.compile(r"see the 'errors' array", re.IGNORECASE)
"""The text of a refusal that gives its reasons elsewhere."""
FAKE = re.compile(r"(\S.{0,99}?) looks fake or invalid")
BROKEN_EMAIL = re.compile(r"[^\s\"'<>(),;:@]{0,64}@[^\s\"'<>(),;:]{0,255}[^\s\"'<>(),;:.!?]")
"""Addresses with a mistake in them: an address that the vendor refuses is seldom valid."""
EVENTS_AT_ONCE, OPERATIONS_AT_ONCE = 2000, 250
"""Maximum events of an archive per commit, and operations read before other tasks get a turn."""
PROBLEM = re.compile(rb'status\\*"\s{0,9}:\s{0,9}[45]\d\d')
"""An error status in the answer of an operation that itself has a status of success."""
FAULTS = ("error", "errors", "detail", "instance")
"""Members that only the answers of failed operations have; other objects may have a `title` or `message`."""
SIGNED = re.compile(r"(https?://[^\s?\"]{1,500})\?[^\s\"]{0,2000}?Signature[^\s\"]*")
LINK = re.compile(r"(https?://[^\s?]{1,500})\?\S+")
"""Signed links in the vendor's texts: anybody who has one can download the results."""


class Operations:
    """Reads one archive, operation by operation."""

    def __init__(self, source: str, batch: Batch, limits: archive.Limits, *, all_: bool) -> None:
        self._source, self._limits, self._all = source, limits, all_
        self._batch = batch
        self._stamp = parse_time(batch["completed_at"] or batch["submitted_at"])
        self.failures: list[FailedItem] = []
        """The first failed operations, in short form."""
        self.failed = 0
        """Operations that failed."""
        self.in_part = 0
        """Operations that succeeded and left people out."""
        self.other = 0
        """Operations that succeeded with another status than 200: the vendor may count them as failed."""
        self._seen: Counter[str] = Counter()
        self.bad = 0
        self.problems: list[str] = []
        """The first files that could not be read, and why."""

    def pages(self, packed: IO[bytes]) -> Iterator[list[Event]]:
        """The events, some at a time; sometimes none, so that other tasks get a turn."""
        events: list[Event] = []
        count = 0
        for member in self._members(packed):
            if isinstance(member, Unreadable):
                yield events  # what was read before the damage counts
                raise member
            for operation, raw in self._operations(member):
                events += self._events(operation, raw)
                count += 1
                if len(events) >= EVENTS_AT_ONCE:
                    yield events
                    events = []
                elif count % OPERATIONS_AT_ONCE == 0:
                    yield []
        yield events

    def _operations(self, member: archive.Member) -> Iterator[wire.Item]:
        """The operations of one file, one after the other; unreadable ones are recorded as problems."""
        damaged: list[wire.Damage] = []
        try:
            if member.rest is None:
                yield from wire.objects(member.body, damaged)
            else:
                for raw in wire.stream(member.rest, self._limits.member):
                    yield from wire.objects(raw, damaged)
        except Overlong:
            most = self._limits.member
            self._bad(member.name, f"an operation in it is larger than limits.member ({most} bytes)")
        except Unreadable as exc:
            self._bad(member.name, str(exc))
        for each in damaged:
            if not each.told:
                self._bad(member.name, each.why)

    def _members(self, packed: IO[bytes]) -> Iterator[archive.Member | Unreadable]:
        """The files of the archive; if it cannot be read to the end, the last item is the reason."""
        try:
            yield from archive.members(packed, self._limits)
        except Unreadable as exc:
            yield exc

    def _key(self, body: bytes) -> str:
        """An operation's name in ids: a digest of its content, numbered if the same content occurs again.

        The position is not used: if results are read again because some were missing, it may change.
        """
        digest = hashlib.blake2b(body, digest_size=9).hexdigest()
        self._seen[digest] += 1
        times = self._seen[digest]
        return digest if times == 1 else f"{digest}:{times}"

    def _bad(self, name: str, why: str) -> None:
        self.bad += 1
        if len(self.problems) < 10:
            self.problems.append(
                f"{name[:80]!r}, which {why}" if why.startswith("is ") else f"{name[:80]!r}: {why}"
            )

    def _events(self, operation: dict[str, Any], raw: Any) -> list[Event]:
        """The events of one operation: its failure, its success if wanted, or the people that it left out."""
        status = operation.get("status_code")
        if isinstance(status, str):
            status = fields.count(status)
        good = type(status) is int and 200 <= status < 300
        body = bytes(raw)
        if good and not self._all and b"error" not in body and not PROBLEM.search(body):
            self.other += status != 200
            return []  # the common case
        response = _response(operation.get("response"))
        answer = response if isinstance(response, dict) else {}
        refused = 400 <= (fields.count(answer.get("status")) or 0) < 600 and bool(
            answer.get("title") or answer.get("detail")
        )
        if (
            status is None
            and answer
            and not _says_fault(answer)
            and fields.count(answer.get("status")) is None
        ):
            good = True  # the answer looks like a success
        good = good and not refused
        self.other += good and status not in {200, None}
        if b"response_body_url" in body or b"Signature" in body:
            raw = _without_links(operation)
        item_id = fields.text(operation.get("operation_id"))
        left_out = _left_out(answer) if good else []
        if good and not left_out and not self._all:
            return []
        key = self._key(body)
        if left_out:
            # The operation succeeded, but its answer says that it did not take some of many people.
            self.in_part += 1
            return [self._left_out(entry, item_id, f"{key}:{n}") for n, entry in enumerate(left_out)]
        stated = answer.get("status") if refused or status is None else status
        code = fields.text(stated)
        item: Item = {
            "batch_id": self._batch["batch_id"],
            "item_id": item_id,
            "index": None,
            "code": code,
            "person": _person(answer, item_id),
            "about": None,
            "raw": raw,
        }
        if good:
            return [self._event("operation_succeeded", "succeeded", item, key)]
        wrong = _fields(answer.get("errors"))
        said = fields.text(answer.get("detail")) or fields.text(answer.get("title")) or _plain(response)
        failure: Failure = {**item, "message": _message(said, wrong), "fields": wrong}
        self.failed += 1
        return [self._failure(failure, key)]

    def _left_out(self, entry: dict[str, Any], item_id: str | None, key: str) -> Event:
        """The failure of one person whom an operation over many people did not take."""
        what = fields.text(entry.get("error"))
        field, why = fields.text(entry.get("field")), fields.text(entry.get("field_message"))
        wrong: list[FieldError] = [{"field": field, "message": why}] if field or why else []
        email = fields.text(entry.get("email_address"))
        person = {"email_address": email.strip('"') if email else None, "detail": what}
        return self._failure(
            {
                "batch_id": self._batch["batch_id"],
                "item_id": item_id,
                "index": None,
                "code": fields.text(entry.get("error_code")),
                "person": _person(person, None),
                "about": None,
                "raw": _without_links(entry),
                "message": _message(what, wrong),
                "fields": wrong,
            },
            key,
        )

    def _failure(self, failure: Failure, key: str) -> Event:
        if len(self.failures) < FAILURES_CAP:
            self.failures.append(in_short(failure))
        return self._event("operation_failed", "failed", failure, key)

    def _event(self, kind: str, outcome: Outcome, data: Item | Failure, key: str) -> Event:
        return Event.of(
            vendor="mailchimp",
            source=self._source,
            type=f"com.mailchimp.batch.{kind}",
            id=f"{self._batch['batch_id']}:{key}",
            data=data,
            time=self._batch["completed_at"],
            subject=data["item_id"] or self._batch["batch_id"],
            outcome=outcome,
            stamp=self._stamp,
        )


def _says_fault(answer: dict[str, Any]) -> bool:
    """Whether an answer without a status describes an error; `_left_out` handles members not taken."""
    members = any(name in answer for name in ("new_members", "updated_members", "error_count"))
    faults = [name for name in FAULTS if answer.get(name) and not (name == "errors" and members)]
    return bool(faults) or ("id" not in answer and any(answer.get(name) for name in ("title", "message")))


def _left_out(answer: dict[str, Any]) -> list[dict[str, Any]]:
    """The people whom a successful answer names as not taken; one nameless entry if it only counts them."""
    errors = answer.get("errors")
    found: list[dict[str, Any]] = []
    for each in errors if isinstance(errors, list) else ():
        if isinstance(each, str) and each:
            found.append({"error": each})
        elif isinstance(each, dict) and isinstance(many := each.get("email_addresses"), list) and many:
            found += [{**each, "email_address": email} for email in many if isinstance(email, str)]
        elif isinstance(each, dict):
            found.append(each)
    more = (fields.count(answer.get("error_count")) or 0) - len(found)
    if more > 0:
        other = "more " if found else ""
        found.append(
            {"error": f"{more} {other}of the people in this operation were not taken", "error_count": more}
        )
    return found


def _message(said: str | None, wrong: list[FieldError]) -> str | None:
    """What was wrong, in one line: the messages of the fields, if the text only points at them."""
    about = "; ".join(f"{f['field']}: {f['message']}" if f["field"] else f["message"] or "" for f in wrong)
    if said is None or GENERIC.search(said):
        said = about or said
    elif about and about not in said:
        said = f"{said} ({about})"
    text = LINK.sub(r"\1?***", said[:2000]) if said else None
    return text if text is None or len(text) <= 500 else text[:497] + "..."


def _response(value: Any) -> Any:
    """The answer to the operation, decoded if it is JSON as text; else as it is."""
    if not isinstance(value, str):
        return value
    try:
        found = wire.decode(value.encode("utf-8", "replace"))
    except Unreadable:
        return value
    # Some are encoded twice.
    return (
        _response(found) if isinstance(found, str) and found[:1] in {"{", "["} and found != value else found
    )


def _without_links(value: Any) -> Any:
    """The value without links that would let a reader download results, also inside a response's text."""
    if isinstance(value, dict):
        return {k: _without_links(v) for k, v in value.items() if k not in {"response_body_url", "_links"}}
    if isinstance(value, list):
        return [_without_links(each) for each in value]
    if not isinstance(value, str) or not ("response_body_url" in value or "Signature" in value):
        return value
    inner = _response(value)
    if not isinstance(inner, str):
        return wire.encode(_without_links(inner)).decode()
    if "response_body_url" in inner:
        return "(cut: it holds a signed link)"
    return SIGNED.sub(r"\1?***", inner)


def _person(problem: dict[str, Any], item_id: str | None) -> Person | None:
    """The person concerned: by the address in the answer, in its text, or in the operation's id."""
    email = fields.text(problem.get("email_address"))
    errors = problem.get("errors")
    words = (
        [each.get("message") for each in errors if isinstance(each, dict)] if isinstance(errors, list) else []
    )
    for each in (problem.get("detail"), *words[:20], item_id):
        if email is None and isinstance(each, str):
            each = each[:1000]  # noqa: PLW2901 - a longer text is not a message to a person
            found = FAKE.match(each) or ("@" in each and (EMAIL.search(each) or BROKEN_EMAIL.search(each)))
            email = found[found.lastindex or 0] if found else None
    name = fields.text(problem.get("full_name"))
    key = fields.text(problem.get("unique_email_id")) or None
    return {"id": key, "name": name, "email": email} if email or name else None


def _fields(errors: Any) -> list[FieldError]:
    return [
        {"field": fields.text(each.get("field")), "message": fields.text(each.get("message"))}
        for each in (errors if isinstance(errors, list) else [])[:100]
        if isinstance(each, dict)
    ]


def _plain(response: Any) -> str | None:
    """An answer that is not a problem object, as text for a person."""
    if isinstance(response, str) and response.strip():
        text = " ".join(response.split())
        return text if len(text) <= 300 else text[:297] + "..."
    return None
