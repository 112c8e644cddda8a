"""The values that the store takes and returns; they are independent of SQL."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from operator import attrgetter
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, NamedTuple

from roundsman.events import Event
from roundsman.system.files import Space
from roundsman.wire import Damage

if TYPE_CHECKING:
    from roundsman.plugin import State

DAEMON = "daemon"
"""The source of the daemon's own notices; no configured source can have this name."""

KEYS_KEPT = 35 * 86400.0
"""Minimum seconds that `(source, id)` is kept: longer than the lookback of any re-read."""

Kind = Literal["source", "sink"]
"""What a person can pause."""

Via = Literal["push", "ring"] | None
"""What brought an event first: a webhook, a webhook-triggered visit, or (None) another visit."""


class New(int):
    """The number of new events of a commit, with their outcomes."""

    outcomes: Mapping[str | None, int] = MappingProxyType({})
    """How many of them have each outcome, or (None) no outcome."""
    ring: int = 0
    """The number of the ring that was stored with them; 0 if none was."""

    @classmethod
    def of(cls, events: Sequence[Event], ring: int = 0) -> "New":
        found = cls(len(events))
        if ring:
            found.ring = ring
        if events:
            found.outcomes = Counter(map(attrgetter("outcome"), events))
        return found


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """When a source is due, and the results of its visits. All times are Unix times."""

    due: float = 0.0
    """The next scheduled visit."""
    not_before: float = 0.0
    """No request is made before this time, because the vendor asked to wait."""
    last_visit: float | None = None
    last_success: float | None = None
    """When the last good answer came."""
    visits: int = 0
    failures: int = 0
    """Scheduled visits that failed in a row; webhook-triggered visits count in `ring_failures`."""
    failing_since: float | None = None
    """When `roundsman.source.failing` was reported; None while the source answers."""
    unanswered_since: float | None = None
    """When the first request without a good answer was made."""
    error: str | None = None
    """Why the last visit failed."""
    failed_with: str | None = None
    """The fingerprint of the options with which the source last failed: with other options, it is retried at once."""
    paused: float | None = None
    """Since when a person has paused the source; None if none has. Only `Desk.pause` and `Desk.resume` store it."""
    ring_at: float | None = None
    """When to visit for a ring, if before `due`. Not stored: a scheduled visit answers a ring, too."""
    last_ring: float = float("-inf")
    """When the last webhook-triggered visit began. Not stored."""
    ring_failures: int = 0
    """Webhook-triggered visits that failed in a row. Not stored."""

    @property
    def next_visit(self) -> float:
        """The next visit, scheduled or for a ring; never, while the source is paused."""
        if self.paused is not None:
            return inf
        return self.due if self.ring_at is None else min(self.due, self.ring_at)


class Filter(NamedTuple):
    """Which events match. Each field is a sequence of names and globs; an empty one matches all."""

    types: Sequence[str] = ()
    sources: Sequence[str] = ()
    outcomes: Sequence[str] = ()
    for_people: bool = False
    """Only what a person must know: outcomes `failed` and `partial`, and the daemon's notices."""

    @classmethod
    def of(
        cls, types: Sequence[str], sources: Sequence[str], outcomes: Sequence[str], *, for_people: bool
    ) -> "Filter":
        """The filter with these options of a sink; `for_people`: what it selects without types and outcomes."""
        return cls(types, sources, outcomes, for_people and not (types or outcomes))


class Memory(NamedTuple):
    """What a visit begins with."""

    state: "State"
    revision: int = 0
    """Incremented by a rewind: a poll that is based on an earlier revision is void."""
    ids: Sequence[str] = ()
    """Ids to track that no visit has taken up yet, at most 1,000."""
    taken: int = 0
    """The inbox number of the last of them."""


class Slice(NamedTuple):
    """The next events for a sink."""

    cursor: int
    """The sink's cursor when it was read."""
    events: Sequence[Event]
    head: int
    """The last `seq` that was looked at: without events, nothing up to here is left to deliver."""
    damaged: Sequence[Event] = ()
    """Further ones, whose bodies are not JSON in one line: a damaged store may return any bytes."""


class SourceRecord(NamedTuple):
    """What the store has about a source; the daemon continues from it."""

    name: str
    status: SourceStatus
    last_webhook: float | None
    """When the last authentic webhook was received."""


class SourceEntry(NamedTuple):
    """A source as commands show it."""

    type: str
    changed: float | None
    """When it last had new events."""
    webhooks: int
    """Number of authentic webhooks."""
    refused: int
    """Number of refused webhooks."""
    refusal: str | None
    """Why the last one was refused."""
    origin: str | None
    """What its state was read from: an address and an account."""
    reads: str | None
    """What it reads now, if that is another origin."""
    paused_by: str | None
    """Who has paused it; `status.paused` has since when."""
    record: SourceRecord

    @property
    def name(self) -> str:
        return self.record.name

    @property
    def status(self) -> SourceStatus:
        return self.record.status


class SinkEntry(NamedTuple):
    """A sink as commands show it. Times are Unix times."""

    name: str
    type: str
    cursor: int
    """The last `seq` that it has."""
    delivered: float | None
    failures: int
    failing: float | None
    """Since when it fails."""
    error: str | None
    dead: int
    """Number of its dead letters."""
    until: float | None
    """When it is called again on purpose, also without events."""
    held: int
    """Events that it has acked, and sends then."""

    paused: float | None = None
    """Since when a person has paused it."""
    paused_by: str | None = None
    dead_since: float | None = None
    """When the first of its dead letters was buried."""
    refused: int = 0
    """Number of dead letters since its last delivery."""


class Pause(NamedTuple):
    """A source or a sink that a person has paused, configured or not."""

    kind: Kind
    name: str
    since: float
    """When (Unix)."""
    by: str


class Later(NamedTuple):
    """When a sink that waits on purpose is called again."""

    until: float | None
    """When (Unix), also without events; None: with the next events."""
    held: int
    """Events that it has acked, and sends then."""


NEVER = Later(None, 0)


class Lag(NamedTuple):
    """What waits for a sink."""

    events: int | None
    """Number of events; None if they are not counted yet."""
    oldest: float | None
    """When the oldest of them was logged (Unix); None if there is none, or it is not found yet."""


class Census(NamedTuple):
    """What the metrics show of a store."""

    failures: Mapping[str, int]
    """Number of failures that are not marked as done, by source. A source without one is left out."""
    unread: Mapping[str, int]
    """Number of unread webhooks and rows, by source, likewise."""
    dead: Mapping[str, int]
    """Number of dead letters, by sink, likewise."""
    lags: Mapping[str, Lag]
    """What waits, by sink."""
    sizes: Mapping[str, int]
    """Bytes of each file: `store`, and `wal`, the file beside it with the latest changes."""
    disk: Space | None
    """The space on its disk; None if that cannot be found out."""


class Forgotten(NamedTuple):
    """What named a person in the store, and was blanked."""

    events: Mapping[str, int]
    """Number of events, by source."""
    unread: Mapping[str, int]
    """Number of unread webhooks and rows, by source."""
    texts: int
    """Number of different notes, reasons and error messages."""
    delivered: Mapping[str, int]
    """How many of the events a sink has, by sink. A sink that has none is left out."""
    in_ids: Mapping[str, int]
    """Number of events whose ids name the person, by source: an id stays."""
    in_states: Sequence[str]
    """Sources whose states name the person: a state stays, because the source reads by it."""
    held: Mapping[str, int]
    """Number of lines that a sink holds back, by sink."""
    still_held: Sequence[str]
    """Sinks that stored such lines again and again, until the time was over."""
    due: Mapping[str, int]
    """How many of the events a sink of a daemon that runs does not have yet: one may be under way as it was."""
    others: Mapping[str, Sequence[str]]
    """Other ids and addresses of the person, as the events had them -> the sources of these events."""
    erased: bool
    """Whether the old bytes are gone from the files of the store."""


class DeadLetter(NamedTuple):
    """An event that a sink rejected permanently."""

    seq: int
    buried: float
    """When (Unix)."""
    reason: str
    retry: bool
    """Whether it was requeued."""
    source: str | None
    """None, as the following, if the event was pruned."""
    id: str | None
    type: str | None
    outcome: str | None


class LoggedFailure(NamedTuple):
    """A failure in the log."""

    event: Event
    logged: float
    """When (Unix)."""
    done: bool
    """Whether a person has marked it as done."""


class Searched(NamedTuple):
    """What a search of the log found."""

    events: Sequence[tuple[Event, float]]
    """The newest first, each with when it was logged (Unix)."""
    reached: int
    """Up to where it looked: a search of the rest goes on from here. The end of the span, if nothing is left."""


class Pulled(NamedTuple):
    """The next stretch of the log, for a program that pulls it."""

    events: Sequence[tuple[Event, float]]
    """In log order, each with when it was logged (Unix). A damaged store may return any bytes (`Event.sound`)."""
    next: int
    """Up to where it looked: the next call goes on after this number."""
    head: int
    """The last number that the log has given. If `next` is less, there may be more; a caller with a greater one has it from
    another store, or from this one before it was restored.
    """
    pruned: int
    """Numbers of the stretch whose events were pruned: whether they matched the filter is not known any more."""


class StillOpen(NamedTuple):
    """Failures that are not marked as done."""

    total: int
    newest: Sequence[LoggedFailure]
    """Some of them, the newest first."""


class Act(NamedTuple):
    """A person marked a failure as done, or undid that."""

    seq: int
    """The failure."""
    at: float
    """When (Unix)."""
    who: str
    done: bool
    """False: it was undone."""
    note: str | None


class Acted(NamedTuple):
    """What was changed by marking failures as done, or by undoing that."""

    changed: Sequence[int]
    """By `seq`."""
    already: Mapping[int, Act | None]
    """Those that were so before, and the last act on each; None if none is recorded."""


class LoggedAct(NamedTuple):
    """An act, and what is left of its failure."""

    act: Act
    source: str | None
    """None if the failure was deleted, and was about neither a person nor a thing."""
    event: Event | None
    """None if it was pruned."""


class UnreadItem(NamedTuple):
    """A webhook or row that could not be read."""

    n: int
    received: float
    """When (Unix)."""
    why: str
    body: bytes


class Found(NamedTuple):
    """The result of one poll, committed in one transaction."""

    state: "State | None" = None
    """The new state; None keeps the old one."""
    events: Sequence[Event] = ()
    """New and known events: an id that is in the log already is skipped."""
    taken: int = 0
    """The number of the last inbox id that the state includes; 0 for none."""
    via: Via = None
    unread: Sequence[Damage] = ()
    """Rows that could not be read."""
    keeps_wish: bool = False
    """A command's request for a visit is kept: only a scheduled visit fulfils it."""
    gap: float | None = None
    """Since when rows may be missing (Unix). Ids are kept from then on: the source reads from there again."""


class Intake(NamedTuple):
    """The content of one webhook, for one source."""

    source: str
    events: Sequence[Event] = ()
    follow: Sequence[str] = ()
    unread: tuple[str, bytes] | None = None
    """Why the body was not understood, and the raw body."""
    ring: bool = False
    """The source is to be visited, by the worker that holds it."""


class Reload(NamedTuple):
    """The result of a reload that was made, or of one that was only compared."""

    number: int
    """Another one than that of the one before; 0 for none."""
    config: str | None = None
    """The path of the configuration."""
    digest: str | None = None
    """A digest of the files, as they were then."""
    problems: tuple[str, ...] = ()
    """Why it was refused; empty if it was not."""
    changes: tuple[str, ...] = ()
    """What it changed, or would change, a sentence each."""


class DaemonRecord(NamedTuple):
    """What the store has about its daemon, which may have ended meanwhile."""

    pid: int | None
    started: float | None
    beat: float | None
    """When it last wrote that it runs."""
    version: str | None
    config: str | None
    """The path of its configuration; None for `roundsman once`."""
    digest: str | None
    """A digest of the configuration file that it loaded or refused last."""
    reloads: int
    """Number of reloads that were attempted, without those that were only compared."""
    problems: tuple[str, ...]
    """Why the last reload was refused; empty if it was not."""
    changes: tuple[str, ...] = ()
    """What the last reload changed, a sentence each."""
    compared: Reload = Reload(0)
    """The last reload that was only compared, and not made."""

    @property
    def reload(self) -> Reload:
        """The last one that was made."""
        return Reload(self.reloads, self.config, self.digest, self.problems, self.changes)
