"""Finds the rows of an answer, and turns each into an event."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from roundsman import wire
from roundsman.errors import Failed, NoRows, Unreadable
from roundsman.events import Event
from roundsman.http.answers import EMPTY, Answer
from roundsman.http.words import said
from roundsman.kit import fields, paths
from roundsman.shapes import Person, Row as Data
from roundsman.sources.http_json import options
from roundsman.times import parse_time, rfc3339


class Row(NamedTuple):
    """One row."""

    key: str
    """Its id: of several parts, they are joined by colons."""
    time: datetime | None
    since: Any
    """The value that `since.param` compares with, as the vendor writes it."""
    item: wire.Item


@dataclass(frozen=True, slots=True)
class Found:
    """The rows of one page."""

    rows: list[Row]
    damaged: list[wire.Damage]
    """What cannot be reported: rows that cannot be read, and rows without an id."""
    nameless: int
    """How many rows have no id."""

    @property
    def count(self) -> int:
        """How many rows the vendor counts on this page."""
        return len(self.rows) + sum(not each.told for each in self.damaged)


class Reader:
    """Reads the rows of one source. Its getters are made once, because they run for every row."""

    def __init__(
        self, name: str, rows: options.Rows, since: options.Since | None, event: options.Event
    ) -> None:
        self._name = name
        self._options = rows
        self._ids = [paths.getter(path) for path in rows.id]
        self._time, self._failed = _getter(rows.time), _getter(rows.failed)
        self._since = _getter(since.row if since else None)
        self._since_path = since.row if since else None
        self._type = paths.template(event.type)
        self._subject, self._message, self._code = map(_getter, (event.subject, event.message, event.code))
        person = event.person
        self._person = tuple(map(_getter, (person.id, person.name, person.email)))
        self._has_person = any((person.id, person.name, person.email))

    def read(self, answer: Answer, *, proven: bool) -> Found:
        """The rows of one page. Raises `Unreadable` if a path finds nothing in any of them.

        `proven`: the paths have found rows before, so a single row without an id is that row's fault.
        """
        damaged: list[wire.Damage] = []
        try:
            items = self._items(answer, damaged)
        except NoRows as exc:
            if not proven or len(exc.items) != 1:
                raise
            items = []
            damaged += exc.items
        found = [(item, self._key(item[0])) for item in items]
        rows = [
            Row(key, parse_time(self._time(item[0])), self._since(item[0]), item)
            for item, key in found
            if key is not None
        ]
        missing = [item for item, key in found if key is None]
        said = {each.rest for each in damaged}
        damaged += [
            wire.Damage(raw, f"the row has no {self._id_path}", told=False)
            for raw in (bytes(item[1]) for item in missing)
            if raw not in said
        ]
        if items and not rows and not (proven and len(items) == 1):
            raise NoRows(f"no row has a {self._id_path}: check rows.id")
        if rows and self._since_path and all(row.since is None for row in rows):
            # What depends on it would stand still.
            raise Unreadable(f"no row has a {self._since_path}: check since.row")
        return Found(rows, damaged, len(missing))

    @property
    def _id_path(self) -> str:
        return " and ".join(self._options.id)

    def _items(self, answer: Answer, damaged: list[wire.Damage]) -> list[wire.Item]:
        at = self._options.at
        if at is None or paths.is_plain(at):
            try:
                items = answer.items(at or "", damaged)
            except NoRows:
                raise
            except Failed:
                raise _failed(answer) from None
            except Unreadable:
                if at is None or not _says_none(answer, at):
                    raise
                items = []
            self._refuse_errors(answer)
            return items
        if answer.status in EMPTY:
            return []
        document = answer.json()
        found = paths.getter(at)(document)
        if not isinstance(found, list):
            try:
                wire.refuse_failure(document)
            except Failed:
                raise _failed(answer) from None
            raise Unreadable(f"the answer has no list at {at}: check rows.at")
        self._refuse_errors(answer)
        items = [(each, wire.line(wire.encode(each))) for each in found if isinstance(each, dict)]
        strange = [wire.encode(each) for each in found if not isinstance(each, dict)]
        damaged += [wire.Damage(raw, "an item of the list is no object", told=False) for raw in strange]
        if found and not items:
            raise NoRows("no item of the list is an object", damaged)
        return items

    def _refuse_errors(self, answer: Answer) -> None:
        """Rows beside errors are not all of the rows."""
        at = self._options.at
        if wire.has_errors(answer.body) and not (at and at.startswith("error")):
            raise _failed(answer)

    def _key(self, row: dict[str, Any]) -> str | None:
        parts = [fields.text(get(row)) for get in self._ids]
        if None in parts:
            return None
        *first, last = [part for part in parts if part is not None]
        # A colon in an earlier part is escaped: two different rows never have one id.
        return ":".join([*(part.replace("%", "%25").replace(":", "%3A") for part in first), last])

    def event(self, row: Row, stamp: datetime | None) -> Event:
        """The row as an event. `stamp`: the time that the list is read by; None if it is not read by time."""
        data, raw = row.item
        code, message = fields.text(self._code(data)), fields.text(self._message(data))
        content: Data = {
            "batch_id": None,
            "item_id": row.key,
            "index": None,
            "code": code,
            "message": message[:500] if message else None,
            "fields": [],
            "person": self._who(data) if self._has_person else None,
            "about": None,
            "raw": raw,  # type: ignore[typeddict-item] # bytes that encode as the object they are
        }
        return Event.of(
            vendor="json",
            source=self._name,
            type=_not_ours(self._type(data)),
            id=row.key,
            data=content,
            time=rfc3339(row.time) if row.time else None,
            subject=fields.text(self._subject(data)),
            outcome="failed" if paths.is_true(self._failed(data)) else None,
            stamp=stamp,
        )

    def _who(self, data: dict[str, Any]) -> Person | None:
        key, name, email = (fields.text(get(data)) for get in self._person)
        return {"id": key, "name": name, "email": email} if key or name or email else None


def _not_ours(kind: str) -> str:
    """The type, never one of the daemon's own: a vendor must not write a notice."""
    return f"http.json.{kind}" if kind.startswith("roundsman.") else kind


def _failed(answer: Answer) -> Failed:
    what = said(answer.body)
    return Failed(f"the answer has a status of success and states an error{f' ({what})' if what else ''}")


def _getter(path: str | None) -> paths.Getter:
    return paths.getter(path) if path is not None else lambda _: None


def _says_none(answer: Answer, at: str) -> bool:
    """Whether the answer has null in the place of its list, as some programs write an empty one."""
    document = answer.json()
    *way, last = at.split(".")
    around = paths.getter(".".join(way))(document) if way else document
    return isinstance(around, dict) and last in around and around[last] is None
