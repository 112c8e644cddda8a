"""Takes in webhooks: each is acknowledged after its commit.

`except Exception` is used here for the same reason as in `visit.py`: any error of a plugin about a webhook
means "not understood", and must not end the daemon. One webhook that cannot be stored must not block the
others.
"""

import asyncio
from collections.abc import Callable
from typing import NamedTuple

import structlog

from roundsman.engine.keeping import received_without, size_of
from roundsman.engine.roster import Roster
from roundsman.engine.shared import Shared
from roundsman.engine.turns import Turns
from roundsman.errors import Unclear, reason
from roundsman.events import Event
from roundsman.plugin import Received, Receives, Source, Tracks
from roundsman.store import Intake, New, StoreError
from roundsman.webhook import Call

LOG_EVERY = 10.0
"""Minimum seconds between two log lines about the same thing, however many webhooks come."""

log = structlog.get_logger()


class Pending(NamedTuple):
    """What was counted and not logged yet."""

    calls: int = 0
    new: int = 0
    why: str = ""
    """Of the last call, as are `what` and `exc`."""
    what: str | None = None
    exc: Exception | None = None


class ThrottledLog:
    """Counts by key. The first call is logged at once, later ones at most every `LOG_EVERY` seconds."""

    def __init__(self, say: Callable[[str, Pending], None], monotonic: Callable[[], float]) -> None:
        self._say = say
        self._monotonic = monotonic
        self._said: dict[tuple[str, str], float] = {}
        self._unsaid: dict[tuple[str, str], Pending] = {}

    def add(
        self,
        source: str,
        why: str = "",
        *,
        new: int = 0,
        what: str | None = None,
        exc: Exception | None = None,
    ) -> None:
        key = (source, why)
        before = self._unsaid.get(key, Pending())
        self._unsaid[key] = Pending(before.calls + 1, before.new + new, why, what, exc)
        if self._quiet(key):
            self._out(key)

    def flush(self) -> None:
        """Log what is due; the heartbeat calls it."""
        for key in [key for key in self._unsaid if self._quiet(key)]:
            self._out(key)
        self._said = {key: at for key, at in self._said.items() if not self._quiet(key)}

    def _quiet(self, key: tuple[str, str]) -> bool:
        """Whether nothing was logged about the key within `LOG_EVERY` seconds."""
        return self._monotonic() - self._said.get(key, float("-inf")) >= LOG_EVERY

    def _out(self, key: tuple[str, str]) -> None:
        self._said[key] = self._monotonic()
        self._say(key[0], self._unsaid.pop(key))


class Reception:
    """Takes in webhooks."""

    def __init__(self, shared: Shared, roster: Roster, turns: Turns) -> None:
        self.meter = shared.meter
        self._shared, self._store, self._time = shared, shared.store, shared.time
        self._roster = roster
        self._turns = turns
        self._taking: dict[asyncio.Task[int], str] = {}
        """Webhooks that are being stored, each with its source."""
        self._taken = ThrottledLog(
            lambda source, it: log.info("webhook.taken", source=source, calls=it.calls, new=it.new),
            self._time.monotonic,
        )
        self._refused = ThrottledLog(
            lambda source, it: log.warning(
                "webhook.refused",
                **({"source": source} if source else {}),
                reason=it.why,
                calls=it.calls,
                **({"path": it.what} if it.what else {}),
            ),
            self._time.monotonic,
        )
        self._unread = ThrottledLog(
            lambda source, it: log.error(
                "webhook.unread", source=source, reason=it.what, calls=it.calls, exc_info=it.exc
            ),
            self._time.monotonic,
        )
        self._tested = ThrottledLog(
            lambda source, it: log.info("webhook.tested", source=source, calls=it.calls), self._time.monotonic
        )
        self._failed = ThrottledLog(
            lambda path, it: log.error("listen.failed", path=path, calls=it.calls, exc_info=it.exc),
            self._time.monotonic,
        )
        self._strangers = ThrottledLog(
            lambda why, it: log.warning("page.refused", reason=why, address=it.what, calls=it.calls),
            self._time.monotonic,
        )
        self._unnoted: dict[str, tuple[int, str]] = {}
        """Refusals by source that are not stored yet: how many, and the reason of the last one."""
        self.rang: Callable[[str, int], bool] | None = None
        """In a fleet, called after a webhook that rings was stored, with the source and the number of the ring. Returns whether
        it is still to be followed here.
        """

    def source(self, name: str) -> Source | None:
        """The source that takes webhooks under this name; None if there is none."""
        source = self._roster.source(name)
        return source if source is not None and source.webhook is not None else None

    def is_taking(self, name: str) -> bool:
        """Whether a webhook for this source is being stored. It may ring then."""
        return name in self._taking.values()

    def now(self) -> float:
        return self._time.now()

    def refuse(self, source: str, why: str, path: str | None = None) -> None:
        """Count a refused webhook; without such a source, `source` is "" and `path` is the requested path."""
        self.meter.webhooks[source, why] += 1
        self._refused.add(source, why, what=path[:80] if path else None)
        if source:
            self._unnoted[source] = (self._unnoted.get(source, (0, ""))[0] + 1, why)

    def fail(self, path: str, exc: Exception) -> None:
        """Count a request that could not be answered because of an error."""
        self._failed.add(path, exc=exc)

    def refuse_login(self, address: str, why: str) -> None:
        """Count a login to the page that was refused."""
        self._strangers.add(why, what=address)

    async def take(self, source: Source, call: Call) -> None:
        """Take in an authentic webhook. Returns when it is on the disk; StoreError if it cannot be stored."""
        intake, ring, what = self._understand(source, call)
        try:
            new = await self._commit(intake, ring)
        except StoreError:
            self.meter.webhooks[source.name, "not stored"] += 1
            raise
        self.meter.webhooks[source.name, what] += 1
        if what != "unread":
            self._taken.add(source.name, new=new)

    async def test(self, source: Source) -> None:
        """An authentic sample of `roundsman hooks test` came. StoreError if a webhook could not be stored now."""
        await self._store.writable()
        self._tested.add(source.name)

    async def flush(self) -> None:
        """Log what was counted, and store refusals for `status`."""
        self._taken.flush()
        self._tested.flush()
        self._refused.flush()
        self._unread.flush()
        self._failed.flush()
        self._strangers.flush()
        if self._unnoted:
            unnoted, self._unnoted = self._unnoted, {}
            try:
                await self._store.note_refused([(name, *noted) for name, noted in unnoted.items()])
            except Unclear:
                raise  # rather lost than counted twice
            except StoreError:
                for name, (count, why) in unnoted.items():
                    more, later = self._unnoted.get(name, (0, why))
                    self._unnoted[name] = (count + more, later)
                raise

    def _understand(self, source: Source, call: Call) -> tuple[Intake, bool, str]:
        """The content of a webhook, or its unread body; whether to ring; and the result for the metrics."""
        try:
            received = source.receive(call) if isinstance(source, Receives) else Received(ring=True)
            if not isinstance(received, Received):
                raise TypeError(f"receive() must return a Received, not {type(received).__name__}")  # noqa: TRY301 - handled like any other fault
            received = received_without(source, received)
            events = [event for event in received.events if isinstance(event, Event)]
            if received.follow and not isinstance(source, Tracks):
                raise TypeError("receive() named ids to follow, and the source has no follow()")  # noqa: TRY301 - handled like any other fault
            if received.follow and isinstance(source, Tracks):
                # An id that the source refuses would make each of its visits fail.
                source.follow({}, received.follow)
        except Exception as exc:  # noqa: BLE001 - see the module's docstring
            expected = type(exc).__module__.startswith("roundsman.")
            why = reason(exc).replace("the answer", "the body")  # the error was worded for a vendor's answer
            if source.redact:  # the words of an error that is not ours can quote the body
                body, why = size_of(call.body), why if expected else type(exc).__name__
                return self._keep(source.name, body, why), False, "unread"
            return self._keep(source.name, call.body, why, None if expected else exc), False, "unread"
        said = bool(events or received.follow or received.ring)
        return Intake(source.name, events, received.follow), received.ring, "taken" if said else "ignored"

    def _keep(self, name: str, body: bytes, why: str, exc: Exception | None = None) -> Intake:
        self._unread.add(name, what=why[:200], exc=exc)
        return Intake(name, unread=(why, body))

    async def _commit(self, intake: Intake, ring: bool) -> int:
        """Commit, also if the caller closes the connection meanwhile. Returns the number of new events."""
        task = asyncio.get_running_loop().create_task(self._take(intake, ring))
        self._taking[task] = intake.source
        task.add_done_callback(self._taken_in)
        return await asyncio.shield(task)

    def _taken_in(self, task: "asyncio.Task[int]") -> None:
        self._taking.pop(task, None)
        if not task.cancelled():
            task.exception()  # the caller got it, or is gone

    async def _take(self, intake: Intake, ring: bool) -> New:
        now = self._time.now()
        try:
            # A worker may be killed before the visit: the next holder finds the ring.
            new = await self._write(intake._replace(ring=ring and self.rang is not None), now)
        except StoreError as exc:
            self._shared.trouble.report(exc)
            raise
        except Exception as exc:
            log.error("store.failed", error=reason(exc), exc_info=exc)
            raise StoreError(reason(exc)) from None
        watched = self._roster.get(intake.source)
        if watched is not None and watched.silence is not None:
            watched.silence.received(now)
        if new:
            self.meter.logged(intake.source, "push", new)
            self._shared.news.publish()
        if ring and (self.rang is None or self.rang(intake.source, new.ring)):
            self._turns.ring(intake.source)
        return new

    async def _write(self, intake: Intake, now: float) -> New:
        """Store it; as unread, if it cannot be stored as what it is."""
        try:
            return await self._store.receive(intake, now)
        except StoreError:
            raise
        except Exception as exc:
            if intake.unread is not None:
                raise
            body = (
                intake.events[0].body
                if intake.events
                else "\n".join(intake.follow).encode("utf-8", "replace")
            )
            self._unread.add(intake.source, what=reason(exc)[:200], exc=exc)
            kept = Intake(intake.source, unread=(reason(exc), body), ring=intake.ring)
            return await self._store.receive(kept, now)
