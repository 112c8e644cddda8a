"""A simulated Railz: tokens that expire, pushes that end, lists with and without working pages.

As documented at https://docs.railz.ai/reference/push-creating-and-updating-data and in the vendor's OpenAPI.
What is not documented (order, whether `offset` works on this list) is a quirk.
"""

import base64
import json
import secrets
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from roundsman.sandbox.vendor import Outgoing, Reply, Subscription, Vendor, document, signature, tagged

CLIENT_ID = "sandbox-client"
SECRET_KEY = "SB_sandbox-secret-key"  # noqa: S105 - not a real secret


@dataclass(slots=True)
class Quirks:
    """What the vendor's documentation leaves open."""

    paging: Literal["honoured", "ignored", "refused", "absent"] = "honoured"
    """The effect of `offset`; "absent": the answer does not mention pages, and contains all rows."""
    refuses: frozenset[str] = frozenset()
    """Parameters that are refused in queries for pushes and deletions."""
    pagination: bool = True
    """Whether pushStatus has the number of rows in `pagination`; connections and deletions never have it."""
    miscounts: Literal["total", "page", "zero"] = "total"
    """What `pagination.count` counts."""
    meta_count: Literal["total", "page"] = "page"
    """What `meta.count` counts."""
    order: Literal["newest", "oldest", "shuffled"] = "newest"
    cap: int = 100
    etag: bool = True
    token_life: timedelta = timedelta(minutes=60)
    says_expiry: bool = True
    """Whether tokens contain their expiry time."""
    empty: Literal[200, 204] = 200
    per_minute: int | None = None
    """Requests answered in a minute; further ones get 429. Headers give the seconds until the next minute."""


@dataclass(slots=True)
class Push:
    """One write, pending or ended."""

    id: str
    connection: str
    requested: datetime
    completed: datetime | None
    """When it ends; None: never."""
    status: str = "success"
    """Its final status."""
    code: int = 200
    batch: str | None = None
    data_type: str = "journalEntries"
    errors: Any = None
    visible: datetime | None = None
    """When lists begin to contain it, if later than `requested`."""
    hidden: bool = False
    """The vendor no longer shows it."""
    deletion: bool = False
    more: dict[str, Any] = field(default_factory=dict)

    def row(self, now: datetime) -> dict[str, Any]:
        ended = self.completed is not None and self.completed <= now
        failed = ended and self.status == "failed"
        return {
            ("deleteCommunicationId" if self.deletion else "pushCommunicationId"): self.id,
            **({"batchId": self.batch} if self.batch else {}),
            "serviceName": "xero",
            "dataType": self.data_type,
            "requestedOn": _stamp(self.requested),
            **(
                {"completedOn": _stamp(self.completed)} if ended and self.completed else {"completedOn": None}
            ),
            "status": self.status if ended else "pending",
            "responseCode": self.code if ended else 202,
            "sourceObjectIds": [] if failed or not ended else [str(zlib.crc32(self.id.encode()))],
            **({"validation": {"errors": self.errors}} if failed and self.errors is not None else {}),
            **self.more,
        }


class Railz(Vendor):
    """An account: its connections and their pushes."""

    def __init__(self, now: Callable[[], datetime] | None = None, quirks: Quirks | None = None) -> None:
        super().__init__(now)
        self.quirks = quirks or Quirks()
        self.secret = SECRET_KEY
        self.connections: dict[str, dict[str, Any]] = {}
        self.broken: dict[str, int] = {}
        """Connections that answer with an error: the HTTP status, by id."""
        self.pushes: dict[str, list[Push]] = {}
        """By connection."""
        self.tokens: dict[str, datetime] = {}
        """The expiry time of each."""
        self.handed_out = 0
        self._minute, self._count = 0, 0

    def connect(self, key: str, business: str = "Harbour House") -> str:
        """Add a connection to a business's accounting system; returns its id."""
        self.connections[key] = {
            "connectionUuid": key,
            "businessName": business,
            "serviceName": "xero",
            "status": "active",
        }
        self.pushes.setdefault(key, [])
        return key

    def push(
        self,
        connection: str,
        *,
        push_id: str | None = None,
        requested: datetime | None = None,
        took: timedelta | None = timedelta(0),
        **more: Any,
    ) -> Push:
        """Request a write; `took` is the time until it ends, None: never."""
        begun = requested or self.now()
        ended = begun + took if took is not None else None
        push = Push(push_id or secrets.token_hex(12), connection, begun, ended, **more)
        self.pushes[connection].append(push)
        if push.completed is not None and self.subscriptions:
            kind = "delete" if push.deletion else "push"
            self.announce(push.completed, kind, lambda: self._told(kind, connection, push.row(self.now())))
            if push.batch and not any(p.batch == push.batch for p in self.pushes[connection][:-1]):
                self.announce(
                    push.completed, "batchPush", lambda: self._told_batch(connection, push.batch or "")
                )
        return push

    def _told(self, kind: str, connection: str, about: dict[str, Any]) -> dict[str, Any]:
        """The envelope of a webhook."""
        owner = self.connections[connection]
        names = {
            "connectionId": connection,
            "businessName": owner["businessName"],
            "serviceName": owner["serviceName"],
        }
        data = {"event": kind, **names, **about}
        return {"data": data, "requestId": secrets.token_hex(16)}

    def _told_batch(self, connection: str, batch: str) -> dict[str, Any] | None:
        """The webhook of a whole batch; None until all of it has ended."""
        rows = [p.row(self.now()) for p in self.pushes[connection] if p.batch == batch and not p.hidden]
        if any(row["status"] == "pending" for row in rows):
            return None
        outer = ("batchId", "serviceName")
        rows = [{k: v for k, v in row.items() if k not in outer} for row in rows]
        return self._told("batchPush", connection, {"batchId": batch, "batch": rows})

    def letter(self, subscription: Subscription, document: Any) -> Outgoing:
        body = json.dumps(document, separators=(",", ":")).encode()
        time = str(int(self.now().timestamp() * 1000))
        headers = {
            "content-type": "application/json",
            "railz-signature": signature(subscription.secret, time, "v", body),
        }
        return Outgoing(subscription.url, {**headers, **subscription.headers}, body)

    def reply(self, method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str]) -> Reply:
        if method != "GET":
            return _error(404, "Not Found")
        if self.quirks.per_minute is None:
            return self._reply(path, query, headers)
        seconds = int(self.now().timestamp())
        self._minute, self._count = seconds // 60, self._count * (self._minute == seconds // 60) + 1
        limits = {
            "X-RateLimit-Limit": str(self.quirks.per_minute),
            "X-RateLimit-Remaining": str(max(0, self.quirks.per_minute - self._count)),
            "X-RateLimit-Reset": str(60 - seconds % 60),
        }
        over = self._count > self.quirks.per_minute
        reply = _error(429, "Too Many Requests") if over else self._reply(path, query, headers)
        return Reply(reply.status, {**reply.headers, **limits}, reply.body)

    def _reply(self, path: str, query: Mapping[str, str], headers: Mapping[str, str]) -> Reply:
        if path == "/getAccess":
            return self._token(headers.get("authorization", ""))
        kind, _, token = headers.get("authorization", "").partition(" ")
        if kind != "Bearer" or self.tokens.get(token, self.now()) <= self.now():
            return _error(401, "Unauthorized")
        match path:
            case "/v2/connections":
                return self._page(list(self.connections.values()), query, headers, {})
            case "/v2/data/pushStatus" | "/v2/data/deleteStatus":
                return self._status(
                    query.get("connectionUuid"), path.endswith("deleteStatus"), query, headers
                )
            case "/data/pushStatus":
                names = [
                    k for k, c in self.connections.items() if c["businessName"] == query.get("businessName")
                ]
                return self._status(names[0] if names else None, False, query, headers)
        return _error(404, "Not Found")

    def _token(self, authorization: str) -> Reply:
        expected = base64.b64encode(f"{CLIENT_ID}:{self.secret}".encode()).decode()
        if authorization != f"Basic {expected}":
            return _error(401, "Unauthorized")
        now = self.now()
        claims: dict[str, Any] = {"customerId": 1, "sandbox": True, "iat": int(now.timestamp())}
        if self.quirks.says_expiry:
            claims["exp"] = int((now + self.quirks.token_life).timestamp())
        middle = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
        token = f"eyJhbGciOiJIUzI1NiJ9.{middle}.{secrets.token_urlsafe(24)}"
        self.tokens[token] = now + self.quirks.token_life
        self.handed_out += 1
        return document(200, {"access_token": token})

    def _status(
        self, connection: str | None, deletions: bool, query: Mapping[str, str], headers: Mapping[str, str]
    ) -> Reply:
        if connection is None:
            return _error(400, "connectionUuid or businessName is required")
        if connection in self.broken:
            return _error(self.broken[connection], "Something is wrong with this connection")
        if connection not in self.connections:
            return _error(404, "Connection not found")
        now = self.now()
        shown = [p for p in self.pushes[connection] if p.deletion is deletions and not p.hidden]
        shown = [p for p in shown if (p.visible or p.requested) <= now]
        only = query.get("deleteCommunicationId" if deletions else "pushCommunicationId")
        if only is not None:
            shown = [p for p in shown if p.id == only]
        if "batchId" in query:
            shown = [p for p in shown if p.batch == query["batchId"]]
        if self.quirks.order == "shuffled":
            shown.sort(key=lambda p: zlib.crc32(p.id.encode()))
        else:
            shown.sort(key=lambda p: p.requested, reverse=self.quirks.order == "newest")
        if not shown and self.quirks.empty == 204:
            return Reply(204, {}, b"")
        meta = {**self.connections[connection]}
        rows = [p.row(now) for p in shown]
        return self._page(rows, query, headers, {"meta": meta} | ({} if deletions else {"pagination": {}}))

    def _page(
        self,
        rows: list[dict[str, Any]],
        query: Mapping[str, str],
        headers: Mapping[str, str],
        around: dict[str, Any],
    ) -> Reply:
        """One page of the rows; `around` is the rest of the answer, with `pagination` if the list has it."""
        quirks = self.quirks
        if quirks.paging == "absent":
            around = {name: each for name, each in around.items() if name != "pagination"}
            return self._tagged({**around, "data": rows}, headers)
        if quirks.paging == "refused" and {"offset", "limit"} & query.keys() and "meta" in around:
            return _error(400, ["property offset should not exist"])
        if (strange := quirks.refuses & query.keys()) and "meta" in around:
            return _error(400, [f"property {name} should not exist" for name in sorted(strange)])
        works = quirks.paging == "honoured" or "meta" not in around
        offset = int(query.get("offset", 0)) if works else 0
        limit = min(int(query.get("limit", 100)), 500, quirks.cap) if works else min(100, quirks.cap)
        page = rows[offset : offset + limit]
        count = len(rows) if quirks.meta_count == "total" else len(page)
        about: dict[str, Any] = {**around, "meta": {**around.get("meta", {}), "count": count}}
        about.pop("pagination", None)
        if "pagination" in around and quirks.pagination:
            counts = {"total": len(rows), "page": len(page), "zero": 0}
            about["pagination"] = {"offset": offset, "limit": limit, "count": counts[quirks.miscounts]}
        return self._tagged({**about, "data": page}, headers)

    def _tagged(self, body: dict[str, Any], headers: Mapping[str, str]) -> Reply:
        encoded = json.dumps(body, separators=(",", ":")).encode()
        return tagged(encoded, headers, weak=True) if self.quirks.etag else Reply(200, {}, encoded)


def _error(status: int, message: Any) -> Reply:
    text = message if isinstance(message, list) else [message]
    return document(
        status, {"error": {"statusCode": status, "message": text, "error": "Error"}, "payload": {}}
    )


def _stamp(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"
