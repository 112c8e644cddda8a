"""What a store promises. Every implementation passes the same suite of tests, `tests/stores/test_conformance.py`.

Each method that writes returns once its change is committed, or raises and has written nothing. `StoreError` states in
one sentence what is wrong; `Conflict` means that a command moved a position meanwhile.
"""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from roundsman.events import Event
from roundsman.store.fleet import Fleet, Worker
from roundsman.store.joint import Joint
from roundsman.store.place import Place
from roundsman.store.tally import Counted, Span, Tally
from roundsman.store.values import (
    NEVER,
    Act,
    Acted,
    Census,
    DaemonRecord,
    DeadLetter,
    Filter,
    Forgotten,
    Found,
    Intake,
    Kind,
    Later,
    LoggedAct,
    LoggedFailure,
    Memory,
    New,
    Pause,
    Pulled,
    Searched,
    SinkEntry,
    Slice,
    SourceEntry,
    SourceRecord,
    SourceStatus,
    StillOpen,
    UnreadItem,
    Via,
)
from roundsman.system.files import Space

if TYPE_CHECKING:
    from roundsman.plugin import Receipt, State

T = TypeVar("T")


class View(Protocol):
    """What a command, the page and the metrics read. A read never waits for a write."""

    @property
    def place(self) -> Place:
        """Where it is."""

    async def close(self) -> None: ...

    async def head(self) -> int:
        """The last event's `seq`; 0 for an empty log."""

    async def events(self, after: int, upto: int, limit: int, wanted: Filter) -> list[tuple[Event, float]]:
        """Events after `after` in log order, and when each was logged (Unix); pruned ones are left out."""

    async def pull(self, after: int, limit: int, wanted: Filter) -> Pulled:
        """The next events after `after` that match the filter, in log order: at most `limit`, and some MiB of them. It looks
        at a part of the log only, if the rest would take long.
        """

    async def last(self, count: int, wanted: Filter, since: float = 0.0) -> list[tuple[Event, float]]:
        """The newest `count` events, the oldest of them first."""

    async def search(
        self, wanted: Filter, words: str, span: tuple[int, int], limit: int, *, oldest_first: bool = False
    ) -> Searched:
        """Events that match the filter and whose summary contains `words`, in upper or lower case, with a `seq` after the
        first number of the span and up to the second one: the newest, or the oldest. The newest of them comes first. It
        looks at a part of the log only, if the rest would take long.
        """

    async def failures(
        self, sources: Sequence[str] = (), since: float = 0.0, *, done: bool = False, limit: int = -1
    ) -> list[LoggedFailure]:
        """Failures, newest first; with `done`, those too that are marked as done."""

    async def still_open(self, wanted: Filter, span: tuple[int, int], limit: int) -> StillOpen:
        """Failures that match the filter, are not marked as done, and have a `seq` after the first number of the span, up
        to the second one: how many there are, and the newest `limit` of them.
        """

    async def open_failures(self) -> int:
        """Number of failures that are not marked as done."""

    async def last_acts(self, seqs: Sequence[int]) -> dict[int, Act]:
        """The last act on each of these failures, by `seq`."""

    async def again(self, failures: Sequence[Event]) -> dict[int, Act]:
        """For each failure, by `seq`, the newest act that marked an earlier one as done which was about the same person
        and thing of its source. An act that was undone does not count.
        """

    async def acts(
        self, sources: Sequence[str] = (), seq: int | None = None, *, limit: int = -1
    ) -> list[LoggedAct]:
        """What persons did with failures (with `seq`: with this one), newest first."""

    async def via(self, seqs: Sequence[int]) -> dict[int, Via]:
        """What brought each of these events first, by `seq`."""

    async def seq_since(self, when: float) -> int:
        """The `seq` after which events were logged at or after `when`."""

    async def counts(self, names: Sequence[str] | None = None) -> dict[str, int]:
        """Number of events in the log, by source; with `names`, of these sources."""

    async def names(self, offset: int = 0, limit: int = -1) -> tuple[list[str], int]:
        """Names of sources that were ever configured, in order: at most `limit`, after the first `offset`. And how many
        there are in all.
        """

    async def sources(self, names: Sequence[str] | None = None) -> list[SourceEntry]:
        """Every source that was ever configured; with `names`, those of them."""

    async def kind(self, source: str) -> str | None:
        """The type that a source was registered with; None if it never was."""

    async def memory(self, name: str) -> Memory:
        """What a source remembers; empty if it was never registered."""

    async def known(self, name: str, ids: Sequence[str]) -> set[str]:
        """Which of these event ids of a source are in the log."""

    async def reported(self, source: str, kind: str) -> float | None:
        """When the newest notice of this type about a source was logged (Unix); None if the log has none."""

    async def has_pruned_ids(self) -> bool:
        """Whether ids of events were ever pruned: a source that is read again from an earlier time may repeat some."""

    async def unread(self, source: str) -> list[UnreadItem]:
        """Webhooks and rows of a source that could not be read, oldest first."""

    async def unread_counts(self) -> dict[str, int]:
        """Number of unread webhooks and rows, by source."""

    async def sinks(self) -> list[SinkEntry]:
        """Every sink that was ever configured."""

    async def cursor(self, sink: str) -> "tuple[int, Receipt | None]":
        """A sink's cursor, and the receipt of its last ack."""

    async def later(self, sink: str) -> Later:
        """When a sink is called again on purpose."""

    async def lag(self, cursor: int, wanted: Filter) -> int:
        """Number of events after `cursor` that match the filter and can be delivered: those not pruned."""

    async def dead(self, sink: str, limit: int = -1) -> list[DeadLetter]:
        """The sink's dead letters in the order of the log, at most `limit`."""

    async def tallies(self, kind: Kind, name: str, span: Span, now: float) -> list[Tally]:
        """What was counted of a source or a sink in each of the last 48 hours or 35 days, the oldest first. The last one is
        that of `now` (Unix). One without counts is left out.
        """

    async def unchanged_shares(self, now: float) -> dict[str, float]:
        """By source, the share of its requests that were answered 304 Not Modified, yesterday and today (UTC). A source
        without requests is left out.
        """

    async def pauses(self) -> list[Pause]:
        """Every source and sink that is paused."""

    async def daemon(self, worker: str | None = None) -> DaemonRecord:
        """The record of the daemon that runs on the store, or of the last one. If workers share it: of the one with this
        name on this machine, empty if there is none; without a name, of any of this machine.
        """

    async def workers(self) -> list[Worker]:
        """The workers that share a store on a server; none for a store in a file."""

    async def holders(self, kind: Kind, names: Sequence[str] | None = None) -> dict[str, str]:
        """By name, the worker that holds a source or a sink; with `names`, of these. None has those that are left out."""

    async def backup(self, target: Path, *, replace: bool = False) -> None:
        """Write a complete copy of the store, while others may write. StoreError on failure."""

    async def full(self) -> str | None:
        """A message if the disk is full; None if it is not."""

    async def known_damage(self) -> str | None:
        """What the daemon's last check found to be damaged; None if it found nothing, or none was made."""


class Desk(View, Protocol):
    """What commands write beside a daemon, which detects it (`Store.commanded`)."""

    async def replay(self, sink: str, after: int) -> bool:
        """Move a sink's cursor back, never forward. Returns whether it exists."""

    async def rewind(self, source: str, state: "State", origin: str | None = None) -> None:
        """Replace a source's state (from `origin`) and request a visit. A poll under way becomes void."""

    async def accept(self, source: str) -> bool:
        """Accept a source's state for the origin that it reads now. Returns whether that was another one."""

    async def pause(self, kind: Kind, name: str, who: str, now: float) -> bool:
        """Pause a source or a sink. Returns whether that changed anything: False if it is paused, or was never registered."""

    async def resume(self, kind: Kind, name: str) -> bool:
        """End a pause; for a source, request a visit. Returns whether it was paused."""

    async def follow(self, source: str, ids: Sequence[str]) -> int:
        """Put ids into a source's inbox, for its next visit to track. Returns how many are new there."""

    async def requeue_dead(self, sink: str, seqs: Sequence[int] | None) -> int:
        """Mark dead letters (all of the sink's if `seqs` is None) for a retry. Returns how many."""

    async def drop_dead(self, sink: str, seqs: Sequence[int] | None) -> int:
        """Delete dead letters (all of the sink's if `seqs` is None). Returns how many."""

    async def drop_unread(self, source: str, numbers: Sequence[int] | None) -> int:
        """Delete unread webhooks and rows of a source (all if `numbers` is None). Returns how many."""

    async def tick_off(self, seqs: Sequence[int] | None, who: str, note: str | None, now: float) -> Acted:
        """Mark failures as done (all open ones if `seqs` is None), and record who did it. Several commits if there are
        many.
        """

    async def reopen(self, seqs: Sequence[int], who: str, note: str | None, now: float) -> Acted:
        """Undo that failures were marked as done, and record who did it. Those whose payloads were pruned stay done."""

    async def forget(
        self, person: str, sinks: Mapping[str, Filter], *, sources: Sequence[str] = (), dry: bool = False
    ) -> Forgotten:
        """Blank a person (an id or an address) in everything that the store keeps, in many small commits.

        `sinks`: what each sink selects, to count what it has. `sources`: only what is of these sources; none: of all. With
        `dry`, nothing is written.
        """


class Upkeep(Protocol):
    """What keeps a store in order. A store without files needs little of it."""

    damage: str | None
    """What a check found to be damaged; while it is set, webhooks are refused."""
    gone: str
    """Why what is written is lost, once it is (`lost`): a few words."""
    recoveries: int
    """How often files that were deleted in use were recovered."""

    def space(self) -> Space | None:
        """The space on the disk that the store is on; None if that disk is not seen from here. OSError."""

    def lost(self) -> bool:
        """Whether what is written now would be lost, because files were deleted or replaced; or is refused, because
        another daemon has taken over the store.
        """

    async def recover(self) -> bool:
        """Recover deleted files if that is possible. Returns whether it was done."""

    async def sync(self) -> None:
        """Let relaxed writes survive a power cut, too."""

    async def check(self) -> str | None:
        """A sentence about damage to the store; None if it is sound. GaveUp if that cannot be found out now."""

    async def record_check(self, damage: str | None) -> None:
        """Record what a check has found, for `known_damage`. Relaxed."""

    async def prune(self, sinks: Sequence[str], now: float, retention: float, limit: int = 500) -> bool:
        """One small step of pruning, also of old counts. Returns whether there is more to examine in this round."""

    async def shrink(self, pages: int = 200) -> bool:
        """One small step of returning free space to the disk. Returns whether there may be more."""

    async def checkpoint(self) -> None:
        """Tidy up after pruning."""


class Store(Desk, Upkeep, Protocol):
    """Everything that a daemon keeps over a restart."""

    @property
    def fleet(self) -> Fleet | None:
        """This process among the workers that share the store; None if it does not share it."""

    @property
    def joint(self) -> Joint | None:
        """The positions of sinks, for sinks that write into the database of the store; None for a store in a file."""

    # -- the daemon ----------------------------------------------------------------------------------------------------

    async def runs(self, config: Path, digest: str) -> None:
        """Record that the daemon runs with this configuration. Relaxed."""

    async def reloaded(
        self,
        config: Path,
        digest: str,
        problems: Sequence[str],
        changes: Sequence[str] = (),
        *,
        dry: bool = False,
    ) -> None:
        """Record a reload of this configuration; `problems`: why it was refused, else empty; `changes`: what it changed,
        or with `dry`, what it would change. Relaxed.
        """

    async def beat(self, now: float) -> None:
        """Record that the daemon runs. Relaxed."""

    async def last_beat(self) -> float | None:
        """When a daemon last recorded a beat, a visit or a delivery (Unix); None if it never did."""

    async def apart(self, work: "Callable[[View], Coroutine[Any, Any, T]]", patience: float = ...) -> T:
        """What `work` reads, in a thread and by a view of its own: a long read delays nothing of the daemon. One at a time.
        StoreError if it takes more than `patience` seconds.
        """

    async def census(self, sinks: Mapping[str, Filter]) -> Census:
        """What the metrics show, for these sinks (name -> filter). It is counted in a thread, a few seconds at most."""

    async def commanded(self) -> list[str] | None:
        """Sources for which a command requested a visit; None if no other process has written since the last call."""

    async def writable(self) -> None:
        """StoreError if the store cannot be written."""

    async def fits(self, sources: Mapping[str, str], sinks: Mapping[str, str]) -> None:
        """StoreError if `register` would refuse one of these types."""

    async def register(
        self, sources: Mapping[str, str], sinks: Mapping[str, str], origins: Mapping[str, str] = ...
    ) -> None:
        """Create missing rows of configured sources and sinks (name -> type). A new sink starts at the head.

        `origins`: what each source reads. If its state is from another origin, both origins are stored.
        StoreError if the type of a name has changed.
        """

    # -- visits --------------------------------------------------------------------------------------------------------

    async def statuses(self) -> list[SourceRecord]:
        """The stored status of each source."""

    async def begin(
        self, scheduled: Sequence[tuple[str, SourceStatus]], rung: Sequence[tuple[str, SourceStatus]] = ()
    ) -> None:
        """Store when these sources are due next, *before* their visits: a daemon that dies during one does not ask
        again until then. A scheduled visit fulfils a command's wish; one that a webhook `rung` for does not. Relaxed.
        """

    async def schedule(self, statuses: Sequence[tuple[str, SourceStatus]]) -> None:
        """Store `due` and `not_before` of these sources; `due` stays if a command has requested a visit. Relaxed."""

    async def record(self, statuses: Sequence[tuple[str, SourceStatus]]) -> None:
        """Store visits that found nothing. Not `due`: a command may have changed it. Relaxed."""

    async def commit(self, name: str, revision: int, found: Found, status: SourceStatus, now: float) -> New:
        """Commit a poll's result and the source's new status. Returns the number of new events.

        `Conflict` if the source was rewound since `revision` was read.
        """

    async def receive(self, intake: Intake, now: float) -> New:
        """Commit the content of a webhook. Returns the number of new events."""

    async def record_counts(self, counted: Sequence[Counted]) -> None:
        """Add these counts to those of their hours and days; counts of unknown sources and sinks are ignored. Relaxed.

        With a few hundred at a time, no other task waits for it.
        """

    async def note_refused(self, refused: Sequence[tuple[str, int, str]]) -> None:
        """Count refused webhooks: source, how many, and why the last one was refused. Relaxed."""

    async def append_notices(self, name: str, events: Sequence[Event], now: float) -> int:
        """Append notices that no poll returned, such as the daemon's own. Returns the number of new ones."""

    async def last_notice(self, kind: str) -> tuple[Event, float] | None:
        """The daemon's newest notice of this type (a glob), and when it was logged (Unix)."""

    async def logged_before(self, seq: int) -> float | None:
        """When the last event before `seq` that is not the daemon's was logged (Unix); None if none."""

    # -- deliveries ----------------------------------------------------------------------------------------------------

    async def failure(self, sink: str) -> tuple[int, float | None]:
        """How often a sink has failed in a row, and since when (Unix)."""

    async def record_failure(
        self, sink: str, failures: int, failing: float | None, error: str | None
    ) -> None:
        """Store a sink's failures, for `status` and for the next start. Relaxed."""

    async def read(self, sink: str, limit: int, wanted: Filter) -> Slice:
        """The next events for a sink, at most `limit`, and about 8 MiB of them."""

    async def retries(self, sink: str) -> list[Event]:
        """Dead letters of a sink that were requeued, at most 100 at a time."""

    async def ack(
        self,
        sink: str,
        was: int,
        cursor: int,
        receipt: "Receipt | None",
        now: float,
        *,
        moved: bool = True,
        later: Later = NEVER,
    ) -> None:
        """The sink has everything up to `cursor`, and is called again `later`. `Conflict` if it was replayed meanwhile.

        `moved`: it was called; else only events that it does not select were passed over. Relaxed in a file: a server that
        is killed loses relaxed commits, and its workers go on.
        """

    async def bury(self, sink: str, was: int, seq: int, reason: str, now: float) -> None:
        """Bury an event as a dead letter and move the cursor past it. `Conflict` as `ack`."""

    async def bury_again(self, sink: str, seq: int, reason: str, now: float) -> None:
        """Bury an event without moving the cursor: a retry that was refused again, or a damaged event."""

    async def lost_to_pruning(self, sink: str, wanted: Filter) -> tuple[int, int]:
        """Number of undelivered events of a sink whose payloads were pruned; and its last `seq`."""
