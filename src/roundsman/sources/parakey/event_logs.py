"""Parakey's event logs: who opened which door.

Documented: every endpoint sends an ETag and answers 304 to `If-None-Match`; the list of event logs takes
`limit`, `startDate` and `orderBy=createdAt:DESC`; a client may poll once in 60 seconds at most
(https://help.parakey.co/sv/articles/209-event-log-polling). Not documented: whether `orderBy=createdAt:ASC`
works, how many rows an answer may have, whether there are pages, what `startDate` compares with and whether
it is inclusive. None of this is assumed; `kit/probing` infers it from the answers.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Raw
from pydantic import Field

from roundsman import wire
from roundsman.errors import Unreadable
from roundsman.events import Event
from roundsman.kit import feed, fields
from roundsman.options.values import Options
from roundsman.plugin import Received
from roundsman.shapes import Access, Outcome, Ref
from roundsman.sources.parakey.account import PLACE, Account, Asking, Paths
from roundsman.times import restated
from roundsman.webhook import Call

GRANTED = frozenset({"true", "success", "succeeded", "granted", "ok", "allowed", "opened", "unlocked"})
DENIED = frozenset({"false", "failure", "failed", "denied", "refused", "rejected", "error", "forbidden"})
PLAIN = re.compile(r"[!->@-\[\]-~]{1,200}")
"""Ids that were surely decoded as the vendor wrote them.

A backslash or a question mark may stand for a character that is not valid text.
"""
OLDEST_WEBHOOK = 34 * 86400.0
"""Maximum age in seconds of a row that a webhook may report: ids are kept for 35 days only."""


class Request(Asking):
    """`request`: how to send requests, if your API differs from what is known."""

    path: str = "/eventLogs"
    """The path of the list of event logs. The vendor's help spells it so."""


class Paging(feed.Paging):
    """`paging`: how to read lists, if it should not be detected automatically."""

    start_param: str = "startDate"
    order_param: str = "orderBy"
    order: str = "createdAt:ASC"
    probe_order: str | None = "createdAt:DESC"


class Fields(Options):
    """`fields`: where the values of a row are. Each option is a list of dotted paths; the first path that the row has
    counts.
    """

    id: Paths = ("id",)
    """The id of the row."""
    created_at: Paths = ("createdAt",)
    """When the vendor stored the row. Cursors are made of it."""
    occurred_at: Paths = ("timestamp",)
    """When it happened at the door."""
    place: Paths = PLACE
    """The place: an object with `id` and `name`, or an id. The next three are alike."""
    door: Paths = ("device", "door", "lock", "eventConfiguration", "deviceId")
    """The door."""
    key: Paths = ("access", "key", "accessId")
    """The access key."""
    user: Paths = ("user", "member", "userId")
    """The person."""
    outcome: Paths = ("success", "succeeded", "granted", "result", "status")
    """Whether the door opened: a boolean, or a word such as `granted` or `denied`."""
    activity: Paths = ("activity", "activityType")
    """The vendor's word for what was done."""


class EventLogs(Account, feed.Feed):
    """Parakey's event logs: one event per unlock, whether it succeeded or not."""

    type: Literal["parakey.event_logs"]
    webhook_place: ClassVar[str] = f"{Account.webhook_place}, a webhook of the type Unlock event"
    dedupe: Literal["id", "place"] = "id"
    """What makes a row unique: `id`, its id, or `place`, its id within a place, for places that share locks and
    repeat ids.
    """
    request: Request = Request()
    paging: Paging = Paging()
    fields_: Annotated[Fields, Field(alias="fields")] = Fields()

    def reported_types(self) -> Sequence[str]:
        return ["co.parakey.event_log.created"]

    def receive(self, call: Call) -> Received:
        """Reads event logs. A row that a poll might report with another id only rings."""
        shape, events, damaged = self.shape, [], list[wire.Damage]()
        items = wire.objects(call.body, damaged)
        if not items:
            raise Unreadable("the body is empty")
        ring = bool(damaged)  # the next visit reads the row, or keeps it as unread
        for item in items:
            row, data = shape.row(self.name, item), item[0]
            if row is None or (row.occurred is None and row.created is None):
                if len(items) == 1:
                    raise Unreadable("an object without the time of an event log")
                ring = True  # the other rows are still reported
                continue
            if any(isinstance(data.get(name), list) for name in ("items", "results")):
                raise Unreadable("a batch, which belongs to the address of a parakey.batches source")
            place = shape.place(data)
            if self.domain_id and place and place["id"] not in {None, self.domain_id}:
                continue  # it belongs to a place that another source watches
            # Report only what a poll would report with the same id; lists may contain the place or not. The
            # id of an older row may have been forgotten, and that row was reported long ago.
            stamp = row.created or row.occurred
            fresh = stamp is not None and call.now - stamp.timestamp() < OLDEST_WEBHOOK
            if shape.named(row) and PLAIN.fullmatch(row.id) and self.dedupe == "id" and fresh:
                events.append(row.event)
            else:
                ring = True
        return Received(events, ring=ring)

    @property
    def shape(self) -> "_Shape":
        return _shape(self.fields_, self.dedupe == "place")

    def url(self) -> str:
        return f"{self.base_url}/{self.request.path.lstrip('/')}"


class _Shape(feed.Shape):
    """Turns event logs into events."""

    def __init__(self, paths: Fields, by_place: bool) -> None:
        more = (paths.place, paths.door, paths.key, paths.user, paths.outcome, paths.activity)
        super().__init__(paths.id, paths.created_at, paths.occurred_at, *more)
        self._by_place = by_place
        self._place = fields.getter(paths.place)

    def place(self, data: dict[str, Any]) -> Ref | None:
        """The place that a row belongs to."""
        return fields.ref(self._place(data))

    def event(self, source: str, key: str, stamps: feed.Stamps, values: Sequence[Any], raw: Raw) -> Event:
        created, occurred = stamps
        _, stored_at, happened_at, at, device, used, user, outcome, activity = values
        door, place = fields.ref(device), fields.ref(at)
        occurred_at = restated(happened_at, occurred) if occurred else None
        recorded_at = restated(stored_at, created) if created else None
        access: Access = {
            "occurred_at": occurred_at,
            "recorded_at": recorded_at,
            "door": door,
            "user": fields.person(user),
            "place": place,
            "key": fields.ref(used),
            "activity": activity if isinstance(activity, str) else None,
            "raw": raw,  # type: ignore[typeddict-item] # bytes that encode as the object they are
        }
        return Event.of(
            vendor="parakey",
            source=source,
            type="co.parakey.event_log.created",
            id=f"{place['id']}:{key}" if self._by_place and place else key,
            data=access,
            time=occurred_at or recorded_at,
            subject=door["id"] if door else None,
            outcome=_outcome(outcome),
            stamp=created or occurred,
        )


_shape = lru_cache(_Shape)  # nearly all sources have the same shape, and there may be very many sources


def _outcome(value: Any) -> Outcome:
    """A missing or unknown value is not a success: a log does not prove that the door opened."""
    if value is True:
        return "granted"
    word = str(value).lower() if isinstance(value, bool | str) else ""
    return "granted" if word in GRANTED else "denied" if word in DENIED else "unknown"
