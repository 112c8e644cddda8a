"""Reads the results of a Mailchimp batch, operation by operation: which failed, for which person, and why."""

import hashlib
import re
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import IO, Any

import msgspec

from roundsman import wire
from roundsman.errors import Overlong, Unreadable
from roundsman.events import Event
from roundsman.kit import archive, fields
from roundsman.kit.splitting import stream
from roundsman.shapes import (
    FAILURES_CAP,
    Batch,
    FailedItem,
    Failure,
    FieldError,
    Item,
    Person,
    in_short,
)
from roundsman.sources.mailchimp.digests import DIGEST, Digests
from roundsman.sources.mailchimp.stencils import Stencil

EMAIL = re.compile(r"[^\s@\"'<>(),;:]{1,64}@[^\s@\"'<>(),;:]+\.[A-Za-z]{2,24}")
GENERIC = re.compile(r"see the 'errors' array", re.IGNORECASE)
"""The text of a refusal that gives its reasons elsewhere."""
FAKE_WORDS = " looks fake or invalid"
FAKE = re.compile(rf"(\S.{{0,99}}?){FAKE_WORDS}")
BROKEN_EMAIL = re.compile(r"[^\s\"'<>(),;:@]{0,64}@[^\s\"'<>(),;:]{0,255}[^\s\"'<>(),;:.!?]")
"""Addresses with a mistake in them: an address that the vendor refuses is seldom valid."""
EVENTS_AT_ONCE, OPERATIONS_AT_ONCE = 2000, 250
"""Maximum events of an archive per commit, and operations read before other tasks get a turn."""
BYTES_AT_ONCE = 4 * 2**20
"""Events of so many bytes are committed, however few they are."""
PEOPLE = 1000
"""Maximum people in the list of an error that is kept with each of them. The vendor takes 500 per operation."""
PROBLEM = re.compile(rb'status\\*"\s{0,9}:\s{0,9}[45]\d\d')
"""An error status in the answer of an operation that itself has a status of success."""
FAULTS = ("error", "errors", "detail", "instance")
"""Members that only the answers of failed operations have; other objects may have a `title` or `message`."""
QUERIED = re.compile(r"(https?://[^\s?\"]{1,500})\?([^\s\"]*)")
LINK = re.compile(r"(https?://[^\s?]{1,500})\?\S+")
"""Signed links in the vendor's texts: each allows a download of the results without credentials."""


class Operation(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """The result of one operation, as documented. `None` for what it lacks."""

    status_code: int | float | str | None = None
    operation_id: int | float | str | None = None
    response: str | None = None
    """An answer of the API: JSON as text."""

    @classmethod
    def of(cls, row: dict[str, Any]) -> "Operation":
        """The same of any object: each member may be anything."""
        return cls(row.get("status_code"), row.get("operation_id"), row.get("response"))


Read = tuple[Operation, bytes]
"""An operation and its JSON."""
_decode_operation = msgspec.json.Decoder(Operation).decode
_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode


class Operations:
    """Reads one archive, operation by operation."""

    def __init__(self, source: str, batch: Batch, limits: archive.Limits, *, all_: bool) -> None:
        self._limits, self._all = limits, all_
        self._batch_id = batch["batch_id"]
        self._failed = Stencil(source, batch, "operation_failed", "failed")
        self._succeeded = Stencil(source, batch, "operation_succeeded", "succeeded")
        self.failures: list[FailedItem] = []
        """The first failed operations, in short form."""
        self.failed = 0
        """Operations that failed."""
        self.in_part = 0
        """Operations that succeeded and left people out."""
        self.other = 0
        """Operations that succeeded with another status than 200: the vendor may count them as failed."""
        self._seen = Digests()
        self.bad = 0
        self.problems: list[str] = []
        """The first files that could not be read, and why."""

    def pages(self, packed: IO[bytes]) -> Iterator[list[Event]]:
        """The events, some at a time; sometimes none, so that other tasks get a turn."""
        events: list[Event] = []
        count = size = 0
        try:
            for found in self._operations(packed):
                if found is not None:
                    count += 1
                    for event in self._events(*found):
                        events.append(event)
                        size += len(event.body)
                        if len(events) >= EVENTS_AT_ONCE or size >= BYTES_AT_ONCE:
                            yield events
                            events, count, size = [], 0, 0
                if found is None or count >= OPERATIONS_AT_ONCE:
                    yield []
                    count = 0
        except Unreadable:
            yield events  # what was read before the damage counts
            raise
        yield events

    def _operations(self, packed: IO[bytes]) -> Iterator[Read | None]:
        """The operations of the archive, one after the other; None is a moment at which other tasks may run."""
        for member in archive.members(packed, self._limits):
            if member is None:
                yield None
            elif member.rest is not None:
                yield from self._large(member, member.rest)
            elif (one := _only(member.body)) is not None:
                yield one
            else:
                yield from self._small(member)

    def _small(self, member: archive.Member) -> Iterator[Read | None]:
        """The operations of a file that is held; unreadable ones are recorded as problems."""
        damaged: list[wire.Damage] = []
        try:
            yield from _several(member.body, damaged)
        except Unreadable as exc:
            self._bad(member.name, str(exc))
        self._damaged(member, damaged)

    def _large(self, member: archive.Member, rest: Iterator[bytes | None]) -> Iterator[Read | None]:
        """The operations of a file that is read in pieces; unreadable ones are recorded as problems."""
        try:
            for raw in stream(rest, self._limits.member):
                if raw is None:
                    yield None
                elif (one := _operation(raw)) is not None:
                    yield one, raw
                else:
                    damaged: list[wire.Damage] = []
                    yield from _several(raw, damaged)
                    self._damaged(member, damaged)
        except Overlong:
            most = self._limits.member
            self._bad(member.name, f"an operation in it is larger than limits.member ({most} bytes)")
        except Unreadable as exc:
            self._bad(member.name, str(exc))

    def _damaged(self, member: archive.Member, damaged: Iterable[wire.Damage]) -> None:
        for each in damaged:
            if not each.told:
                self._bad(member.name, each.why)

    def _key(self, body: bytes) -> str:
        """An operation's name in ids: a digest of its content, numbered if the same content occurs again.

        The position is not used: if results are read again because some were missing, it may change.
        """
        digest = hashlib.blake2b(body, digest_size=DIGEST).digest()
        times = self._seen.add(digest)
        return digest.hex() if times == 1 else f"{digest.hex()}:{times}"

    def _bad(self, name: str, why: str) -> None:
        self.bad += 1
        if len(self.problems) < 10:
            self.problems.append(
                f"{name[:80]!r}, which {why}" if why.startswith("is ") else f"{name[:80]!r}: {why}"
            )

    def _events(self, operation: Operation, body: bytes) -> Iterable[Event]:
        """The events of one operation: its failure, its success if that is reported, or the people that it left out."""
        status = operation.status_code
        if isinstance(status, str):
            status = fields.count(status)
        good = type(status) is int and 200 <= status < 300
        if good and not self._all and b"error" not in body and not PROBLEM.search(body):
            self.other += status != 200
            return ()  # the common case
        response = _response(operation.response)
        answer = response if type(response) is dict else {}
        stated = answer.get("status")
        said = fields.count(stated)
        refused = said is not None and 400 <= said < 600 and (answer.get("title") or answer.get("detail"))
        if status is None and answer and said is None and not _says_fault(answer):
            good = True  # the answer looks like a success
        item_id = _unsigned(_text(operation.operation_id))
        if good and not refused:
            self.other += status not in {200, None}
            left_out = _left_out(answer)
            if (first := next(left_out, None)) is not None:
                # The operation succeeded, but its answer states that it left out some of many people.
                self.in_part += 1
                key = self._key(body)
                people = enumerate(chain((first,), left_out))
                return (self._left_out(entry, item_id, f"{key}:{n}") for n, entry in people)
            if not self._all:
                return ()
        raw: Any = msgspec.Raw(body)
        if b"response_body_url" in body or b"Signature" in body:
            raw = _without_links(wire.decode(body))
        item: Item = {
            "batch_id": self._batch_id,
            "item_id": item_id,
            "index": None,
            "code": _text(stated if refused or status is None else status),
            "person": _person(answer, item_id),
            "about": None,
            "raw": raw,
        }
        key = self._key(body)
        if good and not refused:
            return [self._succeeded.event(key, item_id, item)]
        errors = answer.get("errors")
        wrong = _fields(errors) if errors else []
        text = _text(answer.get("detail")) or _text(answer.get("title")) or _plain(response)
        self.failed += 1
        return [self._failure({**item, "message": _message(text, wrong), "fields": wrong}, key)]

    def _left_out(self, entry: dict[str, Any], item_id: str | None, key: str) -> Event:
        """The failure of one person that an operation over many people left out."""
        what = fields.text(entry.get("error"))
        field, why = fields.text(entry.get("field")), _unsigned(fields.text(entry.get("field_message")))
        wrong: list[FieldError] = [{"field": field, "message": why}] if field or why else []
        email = fields.text(entry.get("email_address"))
        person = {"email_address": email.strip('"') if email else None, "detail": what}
        return self._failure(
            {
                "batch_id": self._batch_id,
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
        return self._failed.event(key, failure["item_id"], failure)


def _only(body: bytes) -> Read | None:
    """The operation in a file that is a list of one, as most are."""
    if body[:2] != b"[{" or body[-2:] != b"}]":
        return None
    one = _operation(raw := body[1:-1])
    return (one, raw) if one is not None else None


def _operation(body: bytes) -> Operation | None:
    """The operation in `body`, if it is one in one line, with no more members than documented; else None."""
    if b"\n" in body or b"\r" in body:
        return None
    try:
        return _decode_operation(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _several(body: bytes, damaged: list[wire.Damage]) -> Iterator[Read | None]:
    """The operations in `body`. Those that cannot be read are appended to `damaged`.

    None is a moment at which other tasks may run.
    """
    text, read = body.strip(), 0
    if b"\n" not in text and b"\r" not in text:
        try:
            for raw in _decode_list(text):
                each = bytes(raw)
                yield _decode_operation(each), each
                read += 1
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pass  # the rest is read leniently
        else:
            return
    for item in wire.each_object(body, damaged):
        if item is None:
            yield None
        elif read:
            read -= 1
        else:
            row, raw = item
            yield Operation.of(row), bytes(raw)


def _says_fault(answer: dict[str, Any]) -> bool:
    """Whether an answer without a status describes an error; `_left_out` handles members not taken."""
    members = any(name in answer for name in ("new_members", "updated_members", "error_count"))
    faults = [name for name in FAULTS if answer.get(name) and not (name == "errors" and members)]
    return bool(faults) or ("id" not in answer and any(answer.get(name) for name in ("title", "message")))


def _left_out(answer: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The people that a successful answer names as left out; one nameless entry if it only counts them."""
    errors = answer.get("errors")
    found = 0
    for each in errors if isinstance(errors, list) else ():
        for entry in _entries(each):
            found += 1
            yield entry
    more = (fields.count(answer.get("error_count")) or 0) - found
    if more > 0:
        other = "more " if found else ""
        yield {"error": f"{more} {other}of the people in this operation were not taken", "error_count": more}


def _entries(error: Any) -> Iterator[dict[str, Any]]:
    """An error as one entry for each person that it names."""
    if isinstance(error, str) and error:
        yield {"error": error}
    elif isinstance(error, dict) and isinstance(many := error.get("email_addresses"), list) and many:
        if len(many) > PEOPLE:  # events of n people with n addresses in each would have no bound
            error = {name: value for name, value in error.items() if name != "email_addresses"}
        for email in many:
            if isinstance(email, str):
                yield {**error, "email_address": email}
    elif isinstance(error, dict):
        yield error


def _text(value: Any) -> str | None:
    """As `fields.text`, and quicker for the common cases."""
    kind = type(value)
    if value is None or kind is str:
        return value or None
    return str(value) if kind is int else fields.text(value)


def _message(said: str | None, wrong: list[FieldError]) -> str | None:
    """What was wrong, in one line: the messages of the fields, if the text only points at them."""
    if wrong:
        texts = [f"{f['field']}: {f['message']}" if f["field"] else f["message"] or "" for f in wrong]
        about = "; ".join(texts)
        if said is None or GENERIC.search(said):
            said = about or said
        elif about and about not in said:
            said = f"{said} ({about})"
    if not said:
        return None
    text = said[:2000]
    if "://" in text:
        text = LINK.sub(r"\1?***", text)
    return text if len(text) <= 500 else text[:497] + "..."


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
        try:
            return wire.encode(_without_links(inner)).decode()
        except RecursionError:
            return "(cut: it is nested too deeply)"
    if "response_body_url" in inner:
        return "(cut: it holds a signed link)"
    if "Signature" not in inner:
        return inner
    return QUERIED.sub(lambda link: f"{link[1]}?***" if "Signature" in link[2] else link[0], inner)


def _unsigned(text: str | None) -> str | None:
    """A text without signed links."""
    return fields.text(_without_links(text)) if text and "://" in text else text


def _person(problem: dict[str, Any], item_id: str | None) -> Person | None:
    """The person concerned: by the address in the answer, in its text, or in the operation's id."""
    email = _text(problem.get("email_address"))
    if email is None:
        email = _address(problem.get("detail"))
    errors = problem.get("errors")
    if email is None and isinstance(errors, list):
        words = [each.get("message") for each in errors if isinstance(each, dict)]
        email = next((found for each in words[:20] if (found := _address(each)) is not None), None)
    if email is None:
        email = _address(item_id)
    name, key = _text(problem.get("full_name")), _text(problem.get("unique_email_id"))
    return {"id": key, "name": name, "email": email} if email or name else None


def _address(text: Any) -> str | None:
    """The address that a text is about. Only its beginning counts: a longer text is not a message to a person."""
    if not isinstance(text, str):
        return None
    text = text[:1000]
    if FAKE_WORDS in text and (found := FAKE.match(text)):
        return found[1]
    if "@" not in text:
        return None
    found = EMAIL.search(text) or BROKEN_EMAIL.search(text)
    return found[0] if found else None


def _fields(errors: Any) -> list[FieldError]:
    return [
        {"field": fields.text(each.get("field")), "message": _unsigned(fields.text(each.get("message")))}
        for each in (errors if isinstance(errors, list) else [])[:100]
        if isinstance(each, dict)
    ]


def _plain(response: Any) -> str | None:
    """An answer that is not a problem object, as text for a person."""
    if isinstance(response, str) and response.strip():
        text = " ".join(response.split())
        return text if len(text) <= 300 else text[:297] + "..."
    return None
