"""A simulated Zendesk: the incremental export of tickets by cursor, in which a changed ticket comes again.

Documented at https://developer.zendesk.com/api-reference/ticketing/ticket-management/incremental_exports/ and
https://developer.zendesk.com/documentation/ticketing/managing-tickets/using-the-incremental-export-api/:
- `start_time` (Unix seconds, more than a minute ago) or `cursor`, `per_page` (at most 1000);
- `after_cursor`, `after_url`, `before_cursor`, `before_url`, `end_of_stream`; the last `after_cursor` is kept for
  the next export;
- tickets that changed within the last minute are left out;
- `start_time` is compared with `generated_timestamp`, which changes with every update; updates by the system
  leave `updated_at` as it was, and so a ticket may come again with the same `updated_at`;
- deleted tickets come with the status `deleted`, unless `exclude_deleted=true`;
- 10 requests a minute, then 429 with `Retry-After`.
Basic authentication as `EMAIL/token`: https://developer.zendesk.com/api-reference/introduction/security-and-auth/.

Observed, not documented: a cursor is the base64 of `TIMESTAMP.0||ID|`; the texts of errors.
Guesses, and so `Quirks`: the answer to a `start_time` that is too recent, the cursor of an export without any
row, the place of late rows, rows that come twice.
"""

import base64
import binascii
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from roundsman.sandbox.paging import Faulty, Listing, Version, iso, with_headers
from roundsman.sandbox.vendor import Reply, document

EMAIL = "agent@example.com"
API_TOKEN = "sandbox-zendesk-token"  # noqa: S105 - not a real secret
PATH = "/api/v2/incremental/tickets/cursor.json"


@dataclass(slots=True, kw_only=True)
class Quirks(Faulty):
    """What the vendor's documentation leaves open, and what it allows."""

    limit: int | None = 10
    delay: timedelta = timedelta(minutes=1)
    """The time after a change in which the ticket is left out."""
    too_recent: Literal[400, 422] = 422
    """The answer to a `start_time` within the last minute; both were observed, with different texts."""
    late_behind: bool = False
    """Whether a late row keeps its old `generated_timestamp`: behind a cursor, and so lost to its reader."""
    repeats: int = 0
    """The number of rows at the end of a page that come again on the next one."""
    null_when_empty: bool = False
    """Whether the answer to a `start_time` without any row has null as its cursors and URLs."""


class Zendesk(Listing[Quirks]):
    """An account's tickets, at /api/v2/incremental/tickets/cursor.json."""

    def __init__(self, now: Callable[[], datetime] | None = None, quirks: Quirks | None = None) -> None:
        super().__init__(now, quirks or Quirks())
        self.token = API_TOKEN

    def add(
        self, key: str | None = None, at: datetime | None = None, shown: datetime | None = None, **row: Any
    ) -> str:
        """Create a ticket. `at` is its `updated_at`; it is exported `delay` after `shown`. Returns its id."""
        key = key or str(35436 + len(self.versions))
        created = (at or self.now()).replace(microsecond=0)
        full = {
            "url": f"https://example.zendesk.com/api/v2/tickets/{key}.json",
            "id": int(key),
            "external_id": None,
            "created_at": iso(created),
            "type": "incident",
            "subject": f"Ticket {key}",
            "raw_subject": f"Ticket {key}",
            "description": "The printer does not print.",
            "priority": "normal",
            "status": "open",
            "requester_id": 20978392,
            "assignee_id": None,
            "tags": [],
            "via": {"channel": "web"},
        }
        return self._write(key, created, shown, full | row).key

    def edit(self, key: str, at: datetime | None = None, shown: datetime | None = None, **row: Any) -> None:
        """Change a ticket: it leaves its place and comes again, `delay` after the change."""
        self._replace(key, (at or self.now()).replace(microsecond=0), shown, row)

    def touch(self, key: str) -> None:
        """An update by the system: the ticket comes again with the same `updated_at`."""
        self._replace(key, self.latest(key).at, self.now(), {})

    def remove(self, key: str) -> None:
        """Delete a ticket: it comes again, with the status `deleted`."""
        self.edit(key, status="deleted")

    def _replace(self, key: str, at: datetime, shown: datetime | None, row: dict[str, Any]) -> None:
        old = self.latest(key)
        old.gone = self.now()
        self._write(key, at, shown, old.row | row)

    def _write(self, key: str, at: datetime, shown: datetime | None, row: dict[str, Any]) -> Version:
        version = self.store(key, at, shown, row)
        version.row |= {"updated_at": iso(at), "generated_timestamp": self._generated(version)}
        return version

    def _generated(self, version: Version) -> int:
        moment = version.at if self.quirks.late_behind else max(version.at, version.shown)
        return int(moment.timestamp())

    def seen_from(self, version: Version) -> datetime:
        generated = datetime.fromtimestamp(version.row["generated_timestamp"], UTC)
        return max(version.shown, generated + self.quirks.delay)

    def event_id(self, version: Version) -> str:
        return f"{version.key}:{iso(version.at)}"

    def refusal(self, headers: Mapping[str, str]) -> Reply | None:
        expected = base64.b64encode(f"{EMAIL}/token:{self.token}".encode()).decode()
        if headers.get("authorization") != f"Basic {expected}":
            return document(401, {"error": "Couldn't authenticate you"})
        limits = self.limits()
        if limits is not None and limits.left < 0:
            refused = _error(
                429, "APIRateLimitExceeded", "Number of allowed API requests per minute exceeded"
            )
            return with_headers(refused, {"Retry-After": str(limits.retry_after)})
        return None

    def page(self, method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str]) -> Reply:
        if method != "GET" or path != PATH:
            return _error(404, "RecordNotFound", "Not found")
        if "cursor" in query:
            try:
                start = _position(query["cursor"])
            except ValueError:
                return _error(400, "InvalidPaginationParameter", "cursor is invalid")
        elif query.get("start_time", "").isdecimal():
            start = (int(query["start_time"]), -1)
            if datetime.fromtimestamp(start[0], UTC) > self.now() - timedelta(minutes=1):
                return self._too_recent()
        else:
            return _error(400, "MissingParameters", "Provide start_time or cursor")
        return self._export(start, query, headers)

    def _too_recent(self) -> Reply:
        if self.quirks.too_recent == 400:
            return _error(400, "StartTimeTooRecent", "start_time is too recent")
        return _error(422, "InvalidValue", "Too recent start_time. Use a start_time older than 1 minute")

    def _export(self, start: tuple[int, int], query: Mapping[str, str], headers: Mapping[str, str]) -> Reply:
        """The tickets behind a place: a `generated_timestamp` and an id."""
        hides = query.get("exclude_deleted") == "true"
        rows = [v for v in self.visible() if not (hides and v.row["status"] == "deleted")]
        rows = sorted((v for v in rows if _place(v) > start), key=_place)
        size = self.size(query.get("per_page"), 1000, 1000)
        page, more = rows[:size], len(rows) > size
        repeated = self.quirks.repeats if more and size > self.quirks.repeats else 0
        place = _place(page[-1 - repeated]) if page else start
        kept = {k: v for k, v in query.items() if k not in {"start_time", "cursor"}}
        after = query.get("cursor", _cursor(start)) if self.quirks.loops else _cursor(place)
        before = _cursor(_place(page[0])) if page and "cursor" in query else None
        nothing = self.quirks.null_when_empty and not page and "cursor" not in query
        return document(
            200,
            {
                "tickets": [self.sent(v) for v in page],
                "after_url": None if nothing else self.url(headers, PATH, {**kept, "cursor": after}),
                "after_cursor": None if nothing else after,
                "before_url": before and self.url(headers, PATH, {**kept, "cursor": before}),
                "before_cursor": before,
                "end_of_stream": not (more or self.quirks.loops),
            },
        )


def _place(version: Version) -> tuple[int, int]:
    return int(version.row["generated_timestamp"]), int(version.key)


def _cursor(place: tuple[int, int]) -> str:
    return base64.b64encode(f"{place[0]}.0||{place[1] if place[1] >= 0 else ''}|".encode()).decode()


def _position(cursor: str) -> tuple[int, int]:
    """The place that a cursor names. Raises ValueError if it is none."""
    try:
        moment, _, number, _ = base64.b64decode(cursor, validate=True).decode().split("|")
    except binascii.Error as exc:
        raise ValueError(str(exc)) from exc
    return int(float(moment)), int(number or -1)


def _error(status: int, error: str, description: str) -> Reply:
    return document(status, {"error": error, "description": description})
