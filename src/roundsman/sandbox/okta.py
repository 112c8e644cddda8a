"""A simulated Okta: the system log, whose next link always comes when it is polled.

Documented at https://developer.okta.com/docs/reference/api/system-log/ and
https://developer.okta.com/docs/reference/system-log-query/:
- `since` (default: 7 days ago), `until`, `after`, `sortOrder`, `limit` (default 100, at most 1000), links with
  rel `self` and `next`, an opaque `after`;
- a request without `until` in ascending order polls: rows come by the time they were persisted, perhaps out of
  the order of `published`; `since` is compared with that time, too; the next link is always there;
- a request with `since` and `until` is bounded: rows come by `published`, and the last page has no next link.
The form and codes of errors: https://developer.okta.com/docs/reference/error-codes/. `X-Rate-Limit-*` and 429:
https://developer.okta.com/docs/reference/rl-best-practices/.

Observed, not documented: on an empty page, the next link is the self link.
Guesses, and so `Quirks`: how long `after` is good for, and the answer when it no longer is. A guess without a
switch: `until` excludes its own moment.
"""

import base64
import binascii
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from roundsman.sandbox.paging import Faulty, Listing, Version, link, milliseconds, whole, with_headers
from roundsman.sandbox.vendor import Reply, document
from roundsman.times import parse_time

API_TOKEN = "sandbox-okta-token"  # noqa: S105 - not a real secret
PATH = "/api/v1/logs"


@dataclass(slots=True, kw_only=True)
class Quirks(Faulty):
    """What the vendor's documentation leaves open, and what it allows."""

    limit: int | None = 120
    order: Literal["persisted", "published"] = "persisted"
    """The order in polling requests; with "published", a late row may come behind the cursor and be lost."""
    after_life: timedelta | None = None
    """How long after its last issue a cursor is accepted; None: always. Beyond it: 400."""
    retry_after: bool = False
    """Whether 429 has a `Retry-After`, too."""


class Okta(Listing[Quirks]):
    """An organization's system log, at /api/v1/logs."""

    def __init__(self, now: Callable[[], datetime] | None = None, quirks: Quirks | None = None) -> None:
        super().__init__(now, quirks or Quirks())
        self.token = API_TOKEN
        self._limit_headers: dict[str, str] = {}
        self._issued: dict[str, datetime] = {}
        """When each cursor was last handed out."""

    def add(
        self,
        key: str | None = None,
        at: datetime | None = None,
        shown: datetime | None = None,
        failed: bool = False,
        **row: Any,
    ) -> str:
        """Log an event. `at` is `published`, `shown` when it is persisted. Returns its uuid."""
        key = key or str(uuid.uuid5(uuid.NAMESPACE_OID, f"log {len(self.versions)}"))
        at = at or self.now()
        outcome = {"result": "FAILURE", "reason": "INVALID_CREDENTIALS"} if failed else {"result": "SUCCESS"}
        full = {
            "actor": {
                "id": "00u1qw1mqitPHM8AJ0g7",
                "type": "User",
                "alternateId": "admin@example.com",
                "displayName": "Admin",
                "detailEntry": None,
            },
            "client": {"ipAddress": "192.0.2.7", "device": "Computer", "zone": "null"},
            "displayMessage": "User login to Okta",
            "eventType": "user.session.start",
            "outcome": {"reason": None, **outcome},
            "published": milliseconds(at) + "Z",
            "severity": "WARN" if failed else "INFO",
            "debugContext": {"debugData": {"requestUri": "/api/v1/authn"}},
            "transaction": {"type": "WEB", "id": f"W{len(self.versions):019d}", "detail": {}},
            "uuid": key,
            "version": "0",
            "target": None,
        }
        return self.store(key, at, shown, full | row).key

    def event_id(self, version: Version) -> str:
        return version.key

    def refusal(self, headers: Mapping[str, str]) -> Reply | None:
        if headers.get("authorization") != f"SSWS {self.token}":
            return _error(401, "E0000011", "Invalid token provided")
        limits = self.limits()
        self._limit_headers = limits.headers("X-Rate-Limit-") if limits is not None else {}
        if limits is not None and limits.left < 0:
            more = {"Retry-After": str(limits.retry_after)} if self.quirks.retry_after else {}
            refused = _error(429, "E0000047", "API call exceeded rate limit due to too many requests.")
            return with_headers(refused, {**self._limit_headers, **more})
        return None

    def page(self, method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str]) -> Reply:
        if method != "GET" or path != PATH:
            found = _error(404, "E0000022", "The endpoint does not support the provided HTTP method")
        elif whole(query.get("limit"), 100) > 1000:
            found = _error(400, "E0000001", "Api validation failed: limit")
        else:
            try:
                found = self._logs(query, headers)
            except ValueError as exc:
                found = _error(400, "E0000001", f"Api validation failed: {exc}")
        return with_headers(found, self._limit_headers)

    def _place(self, version: Version, polls: bool) -> tuple[int, int]:
        persisted = polls and self.quirks.order == "persisted"
        moment = max(version.at, version.shown) if persisted else version.at
        return int(moment.timestamp() * 1e6), version.number

    def _logs(self, query: Mapping[str, str], headers: Mapping[str, str]) -> Reply:
        descends = query.get("sortOrder", "ASCENDING") == "DESCENDING"
        polls = "until" not in query and not descends
        start, end = self._bounds(query)
        rows = [(self._place(v, polls), v) for v in self.visible()]
        rows = sorted((each for each in rows if start <= each[0] < end), key=lambda each: each[0])
        if descends:
            rows.reverse()
        after = self._position(query["after"]) if "after" in query else None
        if after is not None:
            rows = [(place, v) for place, v in rows if (place < after if descends else place > after)]
        size = self.size(query.get("limit"), 100, 1000)
        page = rows[:size]
        pages = {"self": self.url(headers, PATH, query)}
        if polls or len(rows) > size or self.quirks.loops:
            place = page[-1][0] if page else after or (start[0], -1)
            kept = {k: v for k, v in query.items() if k != "after"}
            pages["next"] = (
                pages["self"]
                if self.quirks.loops
                else self.url(headers, PATH, {**kept, "after": self._cursor(place)})
            )
        sent = [self.sent(v, "uuid") for _, v in page]
        return with_headers(document(200, sent), link(pages))

    def _bounds(self, query: Mapping[str, str]) -> tuple[tuple[int, int], tuple[int, int]]:
        """The places at which `since` and `until` are. Raises ValueError if they are no times."""
        times = {name: parse_time(query[name]) for name in ("since", "until") if name in query}
        for name, each in times.items():
            if each is None:
                raise ValueError(name)
        until = times.get("until")
        since = times.get("since") or (until or self.now()) - timedelta(days=7)
        last = until or datetime.max.replace(tzinfo=UTC)
        return (int(since.timestamp() * 1e6), -1), (int(last.timestamp() * 1e6), -1)

    def _cursor(self, place: tuple[int, int]) -> str:
        cursor = base64.urlsafe_b64encode(f"{place[0]}_{place[1]}".encode()).decode().rstrip("=")
        self._issued[cursor] = self.now()
        return cursor

    def _position(self, cursor: str) -> tuple[int, int]:
        """The place that a cursor names. Raises ValueError if it is none, or expired."""
        life = self.quirks.after_life
        if (
            life is not None
            and self._issued.get(cursor, datetime.min.replace(tzinfo=UTC)) + life < self.now()
        ):
            raise ValueError("after")
        try:
            moment, number = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode().split("_")
            return int(moment), int(number)
        except (binascii.Error, ValueError) as exc:
            raise ValueError("after") from exc


def _error(status: int, code: str, summary: str) -> Reply:
    body = {
        "errorCode": code,
        "errorSummary": summary,
        "errorLink": code,
        "errorId": "oaeSandbox",
        "errorCauses": [],
    }
    return document(status, body)
