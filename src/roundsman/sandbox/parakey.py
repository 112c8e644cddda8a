"""A simulated Parakey: event logs with ETags, `limit`, `startDate` and `orderBy`.

The defaults follow the vendor's documentation; `Quirks` are what it leaves open. The shape of a row is
invented except for `id`, `createdAt` and `timestamp`
(https://help.parakey.co/sv/articles/209-event-log-polling).
"""

import bisect
import json
import secrets
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from roundsman.sandbox.vendor import Reply, Vendor, tagged
from roundsman.times import parse_time, rfc3339

TOKEN = "sandbox-access-token"  # noqa: S105 - not a real secret


@dataclass(slots=True)
class Quirks:
    """What the vendor's documentation leaves open."""

    cap: int = 1000
    """Maximum rows in one answer, for each `limit`."""
    smallest: int = 1
    """Minimum rows in one answer, for each `limit`."""
    default_limit: int = 100
    inclusive: bool = True
    """Whether `startDate` includes rows of exactly that time."""
    filters: Literal["createdAt", "timestamp", "nothing"] = "createdAt"
    """The field that `startDate` is compared with."""
    order: Literal["honoured", "descending", "shuffled", "newest-ascending"] = "honoured"
    """The effect of `orderBy`; "newest-ascending": the newest rows, but in ascending order."""
    offset_param: str | None = None
    envelope: str | None = None
    """The key of the list in an enclosing object; None for a bare list."""
    weak_etag: bool = False
    batch_list: bool = False
    """Whether there is a list of batches."""
    batch_pages: bool = True
    """Whether the list of batches honours `offset`."""
    batch_order: Literal["newest", "oldest"] = "newest"
    refuses: frozenset[str] = frozenset()
    """What is answered with 400: names of parameters, "ascending", or "limit>N"."""
    unconditional: bool = False
    """Answers 200 with the same ETag instead of 304."""


@dataclass(slots=True)
class Log:
    """One event log."""

    id: str
    created: datetime
    timestamp: datetime
    visible: datetime
    """When queries begin to return it: later than `created` if transactions or replicas are slow."""
    data: dict[str, Any]
    encoded: bytes = b""


@dataclass(slots=True)
class Batch:
    """A batch of access keys.

    Its shape is invented: only its address is documented, and that items say what failed.
    """

    id: str
    created: datetime
    completed: datetime | None
    items: Sequence[dict[str, Any]]
    """The final items; those that failed have an `error`."""
    status: str = "completed"
    hidden: bool = False

    def seen(self, now: datetime) -> dict[str, Any]:
        ended = self.completed is not None and self.completed <= now
        items = [
            {
                "index": n,
                **item,
                "status": ("failed" if "error" in item else "succeeded") if ended else "pending",
            }
            if ended
            else {"index": n, **{k: v for k, v in item.items() if k != "error"}, "status": "pending"}
            for n, item in enumerate(self.items)
        ]
        return {
            "id": self.id,
            "domain": {"id": "dOmAiN0001"},
            "status": self.status if ended else "processing",
            "createdAt": rfc3339(self.created),
            "completedAt": rfc3339(self.completed) if ended and self.completed else None,
            "items": items,
        }


class Parakey(Vendor):
    """A domain's event logs and batches."""

    def __init__(self, now: Callable[[], datetime] | None = None, quirks: Quirks | None = None) -> None:
        super().__init__(now)
        self.quirks = quirks or Quirks()
        self.token = TOKEN
        self.logs: list[Log] = []
        """In order of `created`."""
        self.batches: dict[str, Batch] = {}
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
        """Store an unlock. `timestamp` is when it happened; if `created` is later, the row is late."""
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
        if self.subscriptions:  # no webhooks for events before the first subscription
            self.announce(log.created, "eventLog", lambda: json.loads(log.encoded))
        return log

    def blank(self, before: datetime) -> int:
        """Retention: remove personal data from older rows, and keep the rows. Returns how many changed."""
        count = 0
        for log in self.logs:
            if log.created >= before:
                break
            if log.data.get("user") is not None:
                log.data["user"] = None
                self._encode(log)
                count += 1
        return count

    def reply(self, method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str]) -> Reply:
        if headers.get("access-token") != self.token:
            return Reply(401, {}, b'{"message":"Unauthorized"}')
        if method == "GET" and (path == "/batches" or path.startswith("/batches/")):
            return self._batches(path[9:], query, headers)
        if path != "/eventLogs" or method != "GET":
            return Reply(404, {}, b'{"message":"Not found"}')
        if what := self._refused(query):
            return Reply(400, {}, json.dumps({"message": f"property {what} should not exist"}).encode())
        body = self._list(query)
        return tagged(body, headers, weak=self.quirks.weak_etag, conditional=not self.quirks.unconditional)

    def _refused(self, query: Mapping[str, str]) -> str | None:
        """The part of the query that is refused; None if there is none."""
        for each in self.quirks.refuses:
            name, _, most = each.partition(">")
            too_much = most and int(query.get(name, 0)) > int(most)
            ascends = each == "ascending" and query.get("orderBy", "").endswith(":ASC")
            if too_much or ascends or (not most and each in query):
                return each
        return None

    def _batches(self, key: str, query: Mapping[str, str], headers: Mapping[str, str]) -> Reply:
        now, quirks = self.now(), self.quirks
        if not key:
            if not quirks.batch_list:
                return Reply(404, {}, b'{"message":"Not found"}')
            rows = [
                {k: v for k, v in b.seen(now).items() if k != "items"}
                for b in self.batches.values()
                if not b.hidden
            ]
            offset = int(query.get("offset", 0)) if quirks.batch_pages else 0
            rows = rows[:: 1 if quirks.batch_order == "oldest" else -1][
                offset : offset + quirks.default_limit
            ]
            return tagged(json.dumps(rows).encode(), headers)
        batch = self.batches.get(key)
        if batch is None or batch.hidden:
            return Reply(404, {}, b'{"message":"Not found"}')
        return tagged(json.dumps(batch.seen(now), separators=(",", ":")).encode(), headers)

    def batch(
        self,
        items: Sequence[dict[str, Any]],
        *,
        batch_id: str | None = None,
        took: timedelta | None = timedelta(0),
        **more: Any,
    ) -> Batch:
        """Submit a batch of keys; `took` is the time until it ends, None: never."""
        key = batch_id or secrets.token_hex(5)
        now = _milliseconds(self.now())
        batch = self.batches[key] = Batch(key, now, now + took if took is not None else None, items, **more)
        if batch.completed is not None and self.subscriptions:
            self.announce(batch.completed, "batch", lambda: batch.seen(self.now()))
        return batch

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
        limit = min(max(int(query.get("limit", quirks.default_limit)), quirks.smallest), quirks.cap)
        offset = int(query.get(quirks.offset_param, 0)) if quirks.offset_param else 0
        order = query.get("orderBy", "")
        descending = not order or order.endswith(":DESC")
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
    """Truncated to milliseconds, the vendor's precision."""
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)
