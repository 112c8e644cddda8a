"""A simulated GitHub: a repository's events, newest first, with Link headers and an ETag for each page.

Documented:
- `per_page` (at most 100, default 30), `page`, up to 300 events of the past 30 days (90 in older texts), ETags,
  304 answers that cost nothing, `X-Poll-Interval`, events that appear 30 seconds to 6 hours late:
  https://docs.github.com/en/rest/activity/events
- the Link header, whose URLs name the repository by number:
  https://docs.github.com/en/rest/using-the-rest-api/using-pagination-in-the-rest-api
- `X-RateLimit-*`, 403 or 429, `Retry-After` for secondary limits:
  https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api
- GraphQL: connections with `pageInfo`, `first` at most 100, 200 with `errors`:
  https://docs.github.com/en/graphql/guides/using-pagination-in-the-graphql-api

Observed, not documented: 422 for a page that begins beyond the 300th event; weak ETags.
Guesses, and so `Quirks`: the order of equal stamps, the place of late rows, Link headers on 304.
Invented: the GraphQL connection `repository.events`; the real schema has none.
"""

import base64
import binascii
import json
import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from roundsman.sandbox.paging import Faulty, Limits, Listing, Version, iso, link, whole, with_headers
from roundsman.sandbox.vendor import Reply, document, tagged

TOKEN = "sandbox-github-token"  # noqa: S105 - not a real secret
REPOSITORY = "harbour/house"
"""The one repository's owner and name."""
NUMBER = 1300192
"""Its number, which links name."""
TIMELINE = 300
"""Maximum number of events in the list."""


@dataclass(slots=True, kw_only=True)
class Quirks(Faulty):
    """What the vendor's documentation leaves open, and what it allows."""

    limit: int | None = 5000
    limit_window: timedelta = timedelta(hours=1)
    limited: Literal[403, 429] = 403
    """The status beyond a rate limit; both are documented."""
    secondary: int = 0
    """The number of next answers that are refused by a secondary rate limit; counts down."""
    secondary_wait: int = 60
    """The `Retry-After` of those, in seconds."""
    poll_interval: int = 60
    """`X-Poll-Interval`, in seconds."""
    retention: timedelta = timedelta(days=30)
    """The age at which events leave the list."""
    ties: Literal["newest", "oldest", "shuffled"] = "newest"
    """The order of events with equal stamps: by insertion, or by no visible rule."""
    late: Literal["by_stamp", "on_top"] = "by_stamp"
    """The place of a late event: where its stamp belongs, which may be on page 2, or at the top."""
    weak_tag: bool = False
    """Whether ETags are weak."""
    stale_tag: bool = False
    """Whether a page's ETag covers its first row only, so that a late row further down does not change it."""
    link_on_304: bool = False
    """Whether 304 answers have the Link header."""


class GitHub(Listing[Quirks]):
    """A repository's events, at /repos/OWNER/NAME/events, /repositories/NUMBER/events and POST /graphql."""

    def __init__(self, now: Callable[[], datetime] | None = None, quirks: Quirks | None = None) -> None:
        super().__init__(now, quirks or Quirks())
        self.token = TOKEN

    def add(
        self, key: str | None = None, at: datetime | None = None, shown: datetime | None = None, **row: Any
    ) -> str:
        """Make an event. `at` is its `created_at`; `shown` when lists begin to contain it. Returns its id."""
        key = key or str(22249084947 + len(self.versions))
        at = (at or self.now()).replace(microsecond=0)
        login = "octocat"
        full = {
            "id": key,
            "type": "PushEvent",
            "actor": {"id": 583231, "login": login, "url": f"https://api.github.com/users/{login}"},
            "repo": {
                "id": NUMBER,
                "name": REPOSITORY,
                "url": f"https://api.github.com/repos/{REPOSITORY}",
            },
            "payload": {"ref": "refs/heads/main", "size": 1},
            "public": True,
            "created_at": iso(at),
        }
        return self.store(key, at, shown, full | row).key

    def event_id(self, version: Version) -> str:
        return version.key

    def refusal(self, headers: Mapping[str, str]) -> Reply | None:
        if headers.get("authorization") not in {f"Bearer {self.token}", f"token {self.token}"}:
            return _error(401, "Bad credentials")
        if self.quirks.secondary > 0:
            self.quirks.secondary -= 1
            refused = _error(self.quirks.limited, "You have exceeded a secondary rate limit.")
            return with_headers(refused, {"Retry-After": str(self.quirks.secondary_wait)})
        limits = self.limits(cost=0)
        if limits is not None and limits.left < 1:
            refused = _error(self.quirks.limited, "API rate limit exceeded for user ID 583231.")
            return with_headers(refused, _limit_headers(limits))
        return None

    def page(self, method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str]) -> Reply:
        if method == "POST" and path == "/graphql":
            found = self._graphql()
        elif method == "GET" and path in {f"/repos/{REPOSITORY}/events", f"/repositories/{NUMBER}/events"}:
            found = self._events(query, headers)
        else:
            found = _error(404, "Not Found")
        limits = self.limits(cost=int(found.status != 304))
        return with_headers(found, _limit_headers(limits))

    def _timeline(self) -> list[Version]:
        """The events in the list now, newest first."""
        oldest, quirks = self.now() - self.quirks.retention, self.quirks

        def place(v: Version) -> tuple[datetime, int]:
            tie = {
                "newest": v.number,
                "oldest": -v.number,
                "shuffled": zlib.crc32(v.key.encode()),
            }[quirks.ties]
            return (v.at if quirks.late == "by_stamp" else max(v.at, v.shown), tie)

        recent = [v for v in self.visible() if v.at > oldest]
        return sorted(recent, key=place, reverse=True)[:TIMELINE]

    def current(self) -> set[str]:
        return super().current() & {self.event_id(v) for v in self._timeline()}

    def expected(self) -> set[str]:
        too_old = {v.key for v in self.versions if max(v.shown, v.added) - v.at >= self.quirks.retention}
        return super().expected() - too_old

    def _events(self, query: Mapping[str, str], headers: Mapping[str, str]) -> Reply:
        size, number = self.size(query.get("per_page"), 30, 100), whole(query.get("page"), 1) or 1
        first = (number - 1) * size
        if first >= TIMELINE:
            return _error(
                422, "In order to keep the API fast for everyone, pagination is limited for this resource."
            )
        rows = self._timeline()
        page = [self.sent(v) for v in rows[first : first + size]]
        body = json.dumps(page, separators=(",", ":")).encode()
        covered = json.dumps(page[:1]).encode() if self.quirks.stale_tag else body
        found = tagged(covered, headers, weak=self.quirks.weak_tag)
        extra = {"X-Poll-Interval": str(self.quirks.poll_interval)}
        if found.status == 200 or self.quirks.link_on_304:
            extra |= link(self._pages(number, -(-len(rows) // size), query, headers))
        return Reply(found.status, {**found.headers, **extra}, body if found.status == 200 else b"")

    def _pages(
        self, number: int, last: int, query: Mapping[str, str], headers: Mapping[str, str]
    ) -> dict[str, str]:
        """The URLs in the Link header."""
        numbers: dict[str, int] = {}
        if number > 1:
            numbers["prev"] = number - 1
        if self.quirks.loops or number < last:
            numbers["next"] = number + (not self.quirks.loops)
        if number < last and not self.quirks.no_total:
            numbers["last"] = last
        if number > 1:
            numbers["first"] = 1
        path = f"/repositories/{NUMBER}/events"
        return {rel: self.url(headers, path, {**query, "page": str(n)}) for rel, n in numbers.items()}

    def _graphql(self) -> Reply:
        """The connection `repository.events`: ascending in the order of appearance."""
        try:
            asked = json.loads(self.body)
            query, given = str(asked["query"]), asked.get("variables") or {}
        except (ValueError, KeyError, TypeError, AttributeError):
            return _error(400, "Problems parsing JSON")
        if not re.search(r"\bevents\b", query):
            return _graphql_error("undefinedField", "The query has no field 'events'.")
        first = given.get("first", 100)
        if not isinstance(first, int) or not 0 < first <= 100:
            what = f"Requesting {first} records on the `events` connection exceeds the `first` limit of 100 records."
            return _graphql_error("EXCESSIVE_PAGINATION", what)
        after = given.get("after")
        try:
            start = _position(after) if after else (0, 0)
        except ValueError:
            return _graphql_error(
                "INVALID_CURSOR_ARGUMENTS", f"`{after}` does not appear to be a valid cursor."
            )
        rows = sorted(self.visible(), key=_place)
        behind = [v for v in rows if _place(v) > start]
        page = behind[: min(first, self.quirks.cap or first)]
        end = _cursor(page[-1]) if page else None
        more = self.quirks.loops or len(behind) > len(page)
        info = {"endCursor": after if self.quirks.loops else end, "hasNextPage": more}
        total = {} if self.quirks.no_total else {"totalCount": len(rows)}
        connection = {**total, "pageInfo": info, "nodes": [self._node(v) for v in page]}
        return document(200, {"data": {"repository": {"events": connection}}})

    def _node(self, version: Version) -> dict[str, Any]:
        row = self.sent(version)
        names = {"created_at": "createdAt", "type": "type", "id": "id", "actor": "actor"}
        return {name: row[member] for member, name in names.items() if member in row}


def _place(version: Version) -> tuple[int, int]:
    return int(version.shown.timestamp() * 1e6), version.number


def _cursor(version: Version) -> str:
    return base64.b64encode("cursor:{}:{}".format(*_place(version)).encode()).decode()


def _position(cursor: Any) -> tuple[int, int]:
    """The place that a cursor names. Raises ValueError for anything else."""
    try:
        _, moment, number = base64.b64decode(str(cursor), validate=True).decode().split(":")
    except binascii.Error as exc:
        raise ValueError(str(exc)) from exc
    return int(moment), int(number)


def _limit_headers(limits: Limits | None) -> dict[str, str]:
    return limits.headers("X-RateLimit-") if limits is not None else {}


def _error(status: int, message: str) -> Reply:
    return document(
        status,
        {"message": message, "documentation_url": "https://docs.github.com/rest", "status": str(status)},
    )


def _graphql_error(kind: str, message: str) -> Reply:
    """GraphQL reports errors with status 200."""
    return document(
        200, {"data": None, "errors": [{"type": kind, "path": ["repository"], "message": message}]}
    )
