"""A simulated Mailchimp: batches that progress, paged lists, and archives behind signed links that expire.

As documented at https://mailchimp.com/developer/marketing/guides/run-async-requests-batch-endpoint/ and in
the vendor's OpenAPI. A parameter that the OpenAPI does not have is refused, so that no source relies on it.
What is not documented (the order of the list) is a quirk.
"""

import base64
import hashlib
import hmac
import io
import json
import secrets
import tarfile
import uuid
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from urllib.parse import urlencode

from roundsman.sandbox.vendor import Outgoing, Reply, Subscription, Vendor, document, signature, tagged

API_KEY = "0123456789abcdef0123456789abcdef-us6"
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
ERRORS = "https://mailchimp.com/developer/marketing/docs/errors/"
MOST_WEBHOOKS = 20
STATUSES = ("pending", "preprocessing", "started", "finalizing", "finished")
LIST = {"count", "offset", "fields", "exclude_fields"}
FIELDS = {
    "id",
    "status",
    "total_operations",
    "finished_operations",
    "errored_operations",
    "submitted_at",
    "completed_at",
    "response_body_url",
    "_links",
}


@dataclass(slots=True)
class Quirks:
    """What the vendor's documentation leaves open, and behaviour that users reported."""

    order: Literal["newest", "oldest", "shuffled"] = "newest"
    etag: bool = False
    cap: int = 1000
    keep: timedelta = timedelta(days=7)
    link_life: timedelta = timedelta(minutes=10)
    together: bool = False
    """All operations in one file of the archive, as observed; else one file per operation, as documented."""
    counts_204: bool = False
    """`errored_operations` counts every status but 200, as documented: also a 204."""
    signs: bool = True
    """Whether webhooks are signed."""


@dataclass(frozen=True, slots=True)
class Operation:
    """The result of one request in a batch."""

    status: int = 200
    response: Any = None
    """A JSON value, or a text that is sent as it is."""
    id: str | int | None = None

    def result(self) -> dict[str, Any]:
        text = self.response if isinstance(self.response, str) else json.dumps(self.response or {})
        return {
            "status_code": self.status,
            **({"operation_id": self.id} if self.id is not None else {}),
            "response": text,
        }


@dataclass(slots=True)
class Batch:
    id: str
    submitted: datetime
    operations: Sequence[Operation]
    took: timedelta
    stuck: str | None = None
    """A status beyond which it does not progress."""
    deleted: bool = False
    archive: bytes | None = None
    """Replaces the archive of `operations`."""
    counts: dict[str, int] = field(default_factory=dict)
    """Replaces the counts of `operations`."""

    def status(self, now: datetime) -> str:
        age = (now - self.submitted) / self.took if self.took else 9.0
        at = 0 if age < 0.1 else 1 if age < 0.2 else 2 if age < 0.8 else 3 if age < 1 else 4
        status = STATUSES[at]
        if self.stuck and (self.stuck not in STATUSES or STATUSES.index(self.stuck) < at):
            return self.stuck
        return status

    def seen(self, now: datetime, counts_204: bool = False) -> dict[str, Any]:
        """The batch as the API shows it, without links."""
        status = self.status(now)
        total = len(self.operations)
        begun = status != "pending"
        share = min(1.0, (now - self.submitted) / self.took) if self.took else 1.0
        done = total if status in {"finalizing", "finished"} else int(total * share) if begun else 0
        good = range(200, 201 if counts_204 else 300)
        failed = sum(o.status not in good for o in self.operations[:done])
        finished = status == "finished"
        return {
            "id": self.id,
            "status": status,
            "total_operations": total if begun else 0,
            "finished_operations": done,
            "errored_operations": failed,
            "submitted_at": _stamp(self.submitted),
            "completed_at": _stamp(self.submitted + self.took) if finished else "",
            **self.counts,
        }


def pack(operations: Sequence[Operation], *, together: bool = False) -> bytes:
    """The result archive, as observed: `./`, then files named by seven hexadecimal digits; some are empty."""
    groups = [operations] if together else [[each] for each in operations]
    bodies = [json.dumps([each.result() for each in group]).encode() for group in groups]
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", compresslevel=1) as tar:
        folder = tarfile.TarInfo("./")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        for number, body in enumerate([*bodies, b""]):
            info = tarfile.TarInfo(f"./{number:07x}.json")
            info.size = len(body)
            tar.addfile(info, io.BytesIO(body))
    return out.getvalue()


class Mailchimp(Vendor):
    """An account: its batches and batch webhooks."""

    slots = 10

    def __init__(self, now: Callable[[], datetime] | None = None, quirks: Quirks | None = None) -> None:
        super().__init__(now)
        self.quirks = quirks or Quirks()
        self.key = API_KEY
        self.batches: dict[str, Batch] = {}
        """In the order of submission."""
        self.webhooks: dict[str, Subscription] = {}
        """By id."""
        self.downloads = 0
        self._secret = secrets.token_bytes(16)
        self._packed: dict[str, bytes] = {}

    def add(
        self,
        operations: Sequence[Operation] = (),
        *,
        batch_id: str | None = None,
        submitted: datetime | None = None,
        took: timedelta = timedelta(0),
        **more: Any,
    ) -> Batch:
        """Submit a batch; `took` is the time until it is finished."""
        key = batch_id or "".join(secrets.choice(LETTERS) for _ in range(10))
        batch = self.batches[key] = Batch(key, submitted or self.now(), operations, took, **more)
        if self.subscriptions:
            self.announce(batch.submitted + took, "batch_operation_completed", lambda: self._form(batch))
        return batch

    def _form(self, batch: Batch) -> dict[str, str] | None:
        """The form of a webhook; None if the batch is not finished, or deleted."""
        now = self.now()
        row = self._row(batch, now, "storage.googleapis.com")
        if row["status"] != "finished" or batch.deleted:
            return None
        links = row.pop("_links")
        fields = {f"data[{name}]": str(value) for name, value in row.items()}
        fields |= {
            f"data[_links][{n}][{name}]": str(value)
            for n, link in enumerate(links)
            for name, value in link.items()
        }
        fired = now.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
        return {"type": "batch_operation_completed", "fired_at": fired, **fields}

    def letter(self, subscription: Subscription, document: Any) -> Outgoing:
        body = urlencode(document).encode()
        headers = {"content-type": "application/x-www-form-urlencoded"}
        if subscription.secret:
            time = str(int(self.now().timestamp()))
            headers["x-mailchimp-signature"] = signature(subscription.secret, time, "v1", body)
        return Outgoing(subscription.url, headers, body)

    def tries(self, method: str, path: str) -> str | None:
        if (method, path) != ("POST", "/3.0/batch-webhooks"):
            return None
        body = json.loads(self.body or b"{}")
        return str(body.get("url", "")) if isinstance(body, dict) else ""

    def holds_slot(self, path: str) -> bool:
        return path.startswith("/3.0/")  # downloads come from another host

    def reply(self, method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str]) -> Reply:
        if path.startswith("/rsg-api-batches-prod/"):
            return self._download(path, query, headers)
        if not self._knows(headers.get("authorization", "")):
            return _problem(
                401,
                "API Key Invalid",
                "Your API key may be invalid, or you've attempted to access the wrong datacenter.",
            )
        if path == "/3.0/batch-webhooks" or path.startswith("/3.0/batch-webhooks/"):
            return self._webhooks(method, path[20:])
        if method != "GET" or not path.startswith("/3.0/batches"):
            return _problem(404, "Resource Not Found", "The requested resource could not be found.")
        unknown = set(query) - (LIST if path == "/3.0/batches" else {"fields", "exclude_fields"})
        if unknown or {"fields", "exclude_fields"} <= set(query):
            return _problem(
                400, "Invalid Resource", f"Unknown or clashing parameters: {', '.join(sorted(unknown))}"
            )
        host = headers.get("host", "127.0.0.1")
        return self._list(query, headers) if path == "/3.0/batches" else self._one(path[13:], query, host)

    def _webhooks(self, method: str, key: str) -> Reply:
        """List, create or delete batch webhooks. The secret is shown once, in the answer to the creation."""
        if method == "GET" and not key:
            rows = [_webhook(i, s, self.quirks.signs) for i, s in self.webhooks.items()]
            return document(200, {"webhooks": rows, "total_items": len(rows), "_links": []})
        if method == "POST" and not key:
            if len(self.webhooks) >= MOST_WEBHOOKS:
                return _problem(
                    400, "Invalid Resource", f"You may only have a maximum of {MOST_WEBHOOKS} batch webhooks."
                )
            url = json.loads(self.body).get("url")
            made = Subscription(url, secrets.token_hex(16))
            row = _webhook(self.subscribe(made), made, self.quirks.signs)
            return document(200, {**row, "signing_secret": made.secret})
        if method == "DELETE" and key in self.webhooks:
            self.subscriptions.remove(self.webhooks.pop(key))
            return Reply(204, {}, b"")
        return _problem(404, "Resource Not Found", "The requested resource could not be found.")

    def subscribe(self, subscription: Subscription) -> str:
        """Add a batch webhook; returns its id."""
        key = secrets.token_hex(5)
        self.webhooks[key] = subscription
        self.subscriptions.append(subscription)
        return key

    def _knows(self, authorization: str) -> bool:
        kind, _, value = authorization.partition(" ")
        if kind == "Basic":
            password = base64.b64decode(value).decode().partition(":")[2]
            return password == self.key and "-" in self.key  # an OAuth token is no password
        return kind == "Bearer" and value == self.key

    def _list(self, query: Mapping[str, str], headers: Mapping[str, str]) -> Reply:
        now = self.now()
        rows = [b for b in self.batches.values() if not b.deleted and now - b.submitted < self.quirks.keep]
        rows = [b for b in rows if b.submitted <= now]
        if self.quirks.order == "newest":
            rows.reverse()
        elif self.quirks.order == "shuffled":
            rows.sort(key=lambda b: zlib.crc32(b.id.encode() + str(now.minute).encode()))
        count, offset = int(query.get("count", 10)), int(query.get("offset", 0))
        if count > 1000:
            return _problem(400, "Invalid Resource", "count must be at most 1000")
        page = rows[offset : offset + min(count, self.quirks.cap)]
        left_out = set(filter(None, query.get("exclude_fields", "").split(",")))
        if not left_out <= {*(f"batches.{name}" for name in FIELDS), "_links", "total_items", "batches"}:
            return _problem(400, "Invalid Resource", f"Invalid exclude_fields: {query['exclude_fields']}")
        inner = {name.removeprefix("batches.") for name in left_out if name.startswith("batches.")}
        listed = [{k: v for k, v in self._row(b, now, "").items() if k not in inner} for b in page]
        body: dict[str, Any] = {"batches": listed, "total_items": len(rows)}
        if "_links" not in left_out:
            body["_links"] = []
        encoded = json.dumps(body).encode()
        return tagged(encoded, headers) if self.quirks.etag else Reply(200, {}, encoded)

    def _one(self, key: str, query: Mapping[str, str], host: str) -> Reply:
        batch, now = self.batches.get(key), self.now()
        if batch is None or batch.deleted or now - batch.submitted >= self.quirks.keep:
            return _problem(404, "Resource Not Found", "The requested resource could not be found.")
        left_out = set(filter(None, query.get("exclude_fields", "").split(",")))
        if not left_out <= FIELDS:
            return _problem(400, "Invalid Resource", f"Invalid exclude_fields: {query['exclude_fields']}")
        return document(200, {k: v for k, v in self._row(batch, now, host).items() if k not in left_out})

    def _row(self, batch: Batch, now: datetime, host: str) -> dict[str, Any]:
        seen = batch.seen(now, self.quirks.counts_204)
        link = ""
        if seen["status"] == "finished" and (batch.operations or batch.archive is not None):
            # A new signature each time, even within a second.
            expires = f"{int((now + self.quirks.link_life).timestamp())}.{secrets.randbelow(10**6):06d}"
            path = f"/rsg-api-batches-prod/{batch.id}-response.tar.gz"
            link = f"http://{host}{path}?GoogleAccessId=sandbox&Expires={expires}&Signature={self._sign(path, expires)}"
        return {
            **seen,
            "response_body_url": link,
            "_links": [{"rel": "parent", "href": "https://x", "method": "GET"}],
        }

    def _sign(self, path: str, expires: str) -> str:
        return hmac.new(self._secret, f"{path}?{expires}".encode(), hashlib.sha256).hexdigest()

    def _download(self, path: str, query: Mapping[str, str], headers: Mapping[str, str]) -> Reply:
        expires = query.get("Expires", "")
        good = hmac.compare_digest(self._sign(path, expires), query.get("Signature", ""))
        kind = {"Content-Type": "application/xml"}
        if "authorization" in headers:  # the other host must not get the credentials
            return Reply(400, kind, b"<Error><Code>InvalidArgument</Code></Error>")
        if not good or float(expires) < self.now().timestamp():
            return Reply(403, kind, b"<Error><Code>AccessDenied</Code><Message>Expired</Message></Error>")
        batch = self.batches[path.rpartition("/")[2].removesuffix("-response.tar.gz")]
        self.downloads += 1
        packed = batch.archive
        if packed is None:
            packed = self._packed.get(batch.id)
        if packed is None:
            packed = self._packed[batch.id] = pack(batch.operations, together=self.quirks.together)
        return Reply(200, {"Content-Type": "application/gzip"}, packed)


def bad_address(email: str, key: str | None = None) -> Operation:
    """The result for an invalid address."""
    detail = f"{email} looks fake or invalid, please enter a real email address."
    problem = {
        "type": ERRORS,
        "title": "Invalid Resource",
        "status": 400,
        "detail": detail,
        "instance": str(uuid.uuid4()),
    }
    return Operation(400, problem, key)


def partly(refused: Mapping[str, str], key: str | None = None, taken: Sequence[str] = ()) -> Operation:
    """The result of an operation over many people that refuses some (address to reason): status 200."""
    errors = [
        {
            "email_address": email,
            "error": why,
            "error_code": "ERROR_GENERIC",
            "field": "",
            "field_message": "",
        }
        for email, why in refused.items()
    ]
    body = {
        "new_members": [{"email_address": email} for email in taken],
        "updated_members": [],
        "errors": errors,
        "total_created": len(taken),
        "total_updated": 0,
        "error_count": len(errors),
        "_links": [],
    }
    return Operation(200, body, key)


def _webhook(key: str, subscription: Subscription, signs: bool) -> dict[str, Any]:
    return {
        "id": key,
        "url": subscription.url,
        "enabled": True,
        "signing_enabled": signs,
        "_links": [],
    }


def _problem(status: int, title: str, detail: str) -> Reply:
    body = {
        "type": ERRORS,
        "title": title,
        "status": status,
        "detail": detail,
        "instance": str(uuid.uuid4()),
    }
    reply = document(status, body)
    link = '<https://us6.api.mailchimp.com/schema/3.0/ProblemDetailDocument.json>; rel="describedBy"'
    return Reply(
        status, {"Content-Type": "application/problem+json; charset=utf-8", "Link": link}, reply.body
    )


def _stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).replace(microsecond=0).isoformat()
