"""A made-up Parakey: event logs with ETags, `limit`, `startDate` and `orderBy`, and every doubt about them as a quirk.

It is a function from request to answer, so that it can stand behind a socket (`server.py`) or behind a transport. What the
vendor documents is the default; what it leaves open are the `Quirks`. The shape of a row is made up except for `id`,
`createdAt` and `timestamp` (https://help.parakey.co/sv/articles/209-event-log-polling).
"""

import bisect
import json
import secrets
import zlib
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from roundsman.events import parse_time, rfc3339

TOKEN = "sandbox-access-token"  # noqa: S105 - it opens nothing


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong instead of the next answer."""

    status: int = 500
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    kind: Literal["answer", "hang", "drop", "endless"] = "answer"


@dataclass(slots=True)
class Quirks:
    """What the vendor's documentation leaves open."""

    cap: int = 1000
    """Rows in one answer at most, whatever `limit` says."""
    default_limit: int = 100
    inclusive: bool = True
    """Whether `startDate` includes its own instant."""
    filters: Literal["createdAt", "timestamp", "nothing"] = "createdAt"
    """What `startDate` compares with."""
    order: Literal["honoured", "descending", "shuffled", "newest-ascending"] = "honoured"
    """What `orderBy` does; the last: the newest rows, but in ascending order."""
    offset_param: str | None = None
    envelope: str | None = None
    """The name of the list's member in an object around it; None for a bare list."""
    weak_etag: bool = False
    unconditional: bool = False
    """Answers 200 with the same ETag instead of 304."""


@dataclass(slots=True)
class Log:
    """One event log."""

    id: str
    created: datetime
    timestamp: datetime
    visible: datetime
    """When queries begin to see it: a moment after `created`, where transactions or replicas are slow."""
    data: dict[str, Any]
    encoded: bytes = b""


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes
    kind: str = "answer"


class Parakey:
    """A place's event logs, and the list that answers questions about them."""

    def __init__(self, now: Callable[[], datetime] | None = None, quirks: Quirks | None = None) -> None:
        self.now = now or (lambda: datetime.now(UTC))
        self.quirks = quirks or Quirks()
        self.token = TOKEN
        self.logs: list[Log] = []
        """In order of `created`."""
        self.faults: deque[Fault] = deque()
        self.asked = 0
        """Requests so far, faults included."""
        self._latest_visible = datetime.min.replace(tzinfo=UTC)

    def add(
        self,
        *,
        created: datetime | None = None,
        timestamp: datetime | None = None,
        visible: datetime | None = None,
        log_id: str | None = None,
        **data: Any,
    ) -> Log:
        """Store an unlock. `timestamp` is when it happened; `created` later than that makes it a late row."""
        created = _milliseconds(created or self.now())
        log = Log(
            log_id or secrets.token_urlsafe(8)[:10],
            created,
            _milliseconds(timestamp or created),
            visible or created,
            data,
        )
        self._encode(log)
        bisect.insort(self.logs, log, key=lambda log: log.created)
        self._latest_visible = max(self._latest_visible, log.visible)
        return log

    def blank(self, before: datetime) -> int:
        """Retention: personal data of older rows goes, the rows stay. How many were blanked."""
        count = 0
        for log in self.logs:
            if log.created >= before:
                break
            if log.data.get("user") is not None:
                log.data["user"] = None
                self._encode(log)
                count += 1
        return count

    def answer(self, method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str]) -> Reply:
        """The answer to one request. Header names in lower case."""
        self.asked += 1
        date = {"Date": self.now().strftime("%a, %d %b %Y %H:%M:%S GMT"), "Content-Type": "application/json"}
        if self.faults:
            fault = self.faults.popleft()
            return Reply(fault.status, {**date, **fault.headers}, fault.body, fault.kind)
        if headers.get("access-token") != self.token:
            return Reply(401, date, b'{"message":"Unauthorized"}')
        if path != "/eventLogs" or method != "GET":
            return Reply(404, date, b'{"message":"Not found"}')
        body = self._list(query)
        etag = f'"{zlib.crc32(body):08x}-{len(body):x}"'
        etag = "W/" + etag if self.quirks.weak_etag else etag
        if headers.get("if-none-match") == etag and not self.quirks.unconditional:
            return Reply(304, {**date, "ETag": etag}, b"")
        return Reply(200, {**date, "ETag": etag}, body)

    def _list(self, query: Mapping[str, str]) -> bytes:
        quirks, logs = self.quirks, self.logs
        now = self.now()
        if self._latest_visible > now:
            logs = [log for log in logs if log.visible <= now]
        start = parse_time(query.get("startDate"))
        if start is not None and quirks.filters == "createdAt":
            first = bisect.bisect_left if quirks.inclusive else bisect.bisect_right
            logs = logs[first(logs, start, key=lambda log: log.created) :]
        elif start is not None and quirks.filters == "timestamp":
            edge = timedelta(0) if quirks.inclusive else timedelta(microseconds=1)
            logs = [log for log in logs if log.timestamp >= start + edge]
        limit = min(int(query.get("limit", quirks.default_limit)), quirks.cap)
        offset = int(query.get(quirks.offset_param, 0)) if quirks.offset_param else 0
        wanted = query.get("orderBy", "")
        descending = not wanted or wanted.endswith(":DESC")
        if quirks.order == "shuffled":
            logs = sorted(logs, key=lambda log: zlib.crc32(log.id.encode()))
            page = logs[offset : offset + limit]
        elif quirks.order == "descending" or (quirks.order == "honoured" and descending):
            end = len(logs) - offset
            page = logs[max(0, end - limit) : max(0, end)][::-1]
        elif quirks.order == "newest-ascending":
            end = len(logs) - offset
            page = logs[max(0, end - limit) : max(0, end)]
        else:
            page = logs[offset : offset + limit]
        body = b"[" + b",".join([log.encoded for log in page]) + b"]"
        return (
            b'{"%s":%s,"total":%d}' % (quirks.envelope.encode(), body, len(logs)) if quirks.envelope else body
        )

    def _encode(self, log: Log) -> None:
        head = {"id": log.id, "timestamp": rfc3339(log.timestamp), "createdAt": rfc3339(log.created)}
        log.encoded = json.dumps({**head, **log.data}, separators=(",", ":")).encode()


def _milliseconds(moment: datetime) -> datetime:
    """The vendor's precision."""
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)
