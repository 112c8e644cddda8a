"""Railz's webhooks: what authenticates them, and what they contain about pushes, batches and deletions."""

import re
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Protocol

from roundsman.errors import Unreadable
from roundsman.events import Event
from roundsman.kit import fields
from roundsman.kit.questions import ID
from roundsman.options.secrets import Secret
from roundsman.plugin import Received
from roundsman.sources.railz.shapes import DELETES, OUTCOMES, PUSHES, Row, Shapes, batch_id, other_end
from roundsman.webhook import Scheme, SignedHook, Strong

SIGNATURE = Scheme("railz-signature", "v", per_second=1000)
OTHER_EVENTS = frozenset({"login", "auth", "connectionStatus", "customerRequest", "data", "dataPerType"})
"""Events of the vendor's webhooks that are not pushes: they are accepted and ignored."""
SPEC = re.compile(r"(?:([^/\x00-\x1f]{1,120})/)?(batch:)?([0-9A-Za-z_-]{1,64})")


class Webhook(SignedHook):
    """`webhook`: what a caller must present to be accepted as the vendor. All that is set must be correct."""

    signing_secrets: tuple[Strong, ...] = ()
    """The signing secrets from the dashboard, one for each URL. With any, each webhook needs a valid signature by one of
    them.
    """

    scheme: ClassVar[Scheme] = SIGNATURE

    def signing(self) -> Sequence[Secret]:
        return self.signing_secrets

    @classmethod
    def ways(cls) -> str:
        return "signing_secrets, or header and value, or token"


class Watched(Protocol):
    """The options that decide which calls are for a source."""

    @property
    def connections(self) -> tuple[str, ...] | Literal["discover"]: ...
    @property
    def api_version(self) -> str: ...
    @property
    def deletes(self) -> bool: ...


class PushCall:
    """One webhook about pushes or deletions."""

    def __init__(self, watched: Watched, shapes: Shapes, data: dict[str, Any]) -> None:
        self._watched, self._shapes = watched, shapes
        self._data = data
        self._kind = DELETES if data["event"] == "delete" else PUSHES
        self._connection = self._whose()

    def read(self) -> Received:
        watched = self._watched.connections
        if watched != "discover" and self._connection and self._connection not in watched:
            return Received()  # a connection that is not watched here
        batched = self._data["event"] == "batchPush"
        batch = batch_id(self._data.get("batchId"))
        found = self._data.get("batch") if batched else [self._data]
        found = found if isinstance(found, list) else []
        rows = [row for row in found if isinstance(row, dict)]
        events = [event for row in rows for event in self._events_of(row, batch)]
        unsaid = [row for row in rows if not self._says_all(row)]
        if not batched:
            return Received(events, *self._ask(unsaid))
        if batch is None or not ID.fullmatch(batch):
            raise Unreadable("a batchPush without the id of the batch")
        if rows and len(rows) == len(found) and not unsaid and self._connection:
            return Received([*events, self._shapes.batch(self._connection, batch, rows)])
        return Received(events, [self._spec(f"batch:{batch}")], ring=True)

    def _whose(self) -> str | None:
        """The connection, in any spelling that webhooks use."""
        names = ("connectionUuid", "connectionUUid", "connectionId")
        watched = self._watched
        found = fields.first(self._data, *(("businessName",) if watched.api_version == "v1" else names))
        alone = watched.connections != "discover" and len(watched.connections) == 1
        return found or (watched.connections[0] if alone else None)

    def _says_all(self, row: dict[str, Any]) -> bool:
        """Whether the row is complete: it has ended, and has a completion time or a response code."""
        ended = row.get("completedOn") or row.get("responseCode") is not None
        status = fields.text(row.get("status"))
        return bool(self._connection and status in OUTCOMES and ended and self._key(row))

    def _key(self, row: dict[str, Any]) -> str | None:
        key = row.get(self._kind.id)
        return key if isinstance(key, str) and ID.fullmatch(key) else None

    def _events_of(self, row: dict[str, Any], batch: str | None) -> list[Event]:
        key, status = self._key(row), fields.text(row.get("status"))
        if key is None or status is None or self._connection is None or not self._says_all(row):
            return []
        # A push that was reported with the other status keeps it: webhooks come late, and in any order.
        own = batch_id(row.get("batchId")) or batch
        found = Row(self._kind, self._connection, key, row, row, own)
        return self._shapes.row(found, unless=other_end(key, status))

    def _ask(self, rows: list[dict[str, Any]]) -> tuple[list[str], bool]:
        """The ids to track for incomplete rows, and whether to ring."""
        keys = [self._key(row) for row in rows]
        if None in keys:
            raise Unreadable(f"a {self._data['event']} without its id")
        if self._kind is DELETES and keys:
            if not self._watched.deletes:
                raise Unreadable(
                    "a deletion without its outcome: set deletes = true, so that it can be requested"
                )
            return [], False  # the next visit finds it
        return [self._spec(key) for key in keys if key], bool(keys)

    def _spec(self, key: str) -> str:
        spec = f"{self._connection}/{key}"
        return spec if self._connection and SPEC.fullmatch(spec) else key
