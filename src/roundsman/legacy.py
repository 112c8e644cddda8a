"""Compatibility with plugins written before 0.6, until 1.0."""

import inspect
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import datetime
from functools import cache
from typing import Any

from roundsman.http.client import Http
from roundsman.http.transport import Clients
from roundsman.plugin import Source, Trigger, Visit


class Moment(datetime):
    """The time, which can also be asked for it again: `http.now()` of before, and `visit.now`."""

    clock: Callable[[], datetime]

    @classmethod
    def of(cls, clock: Callable[[], datetime]) -> "Moment":
        now = clock()
        moment = cls.fromtimestamp(now.timestamp(), now.tzinfo)
        moment.clock = clock
        return moment

    def __call__(self) -> datetime:
        return self.clock()


class OldHttp(Http):
    """The client as it was: what its answers stated about time were attributes of its own."""

    __slots__ = ()

    @property
    def web(self) -> Clients:
        """Now `http.clients`."""
        return self.clients

    @property
    def wait(self) -> float:
        """Now `visit.wait`."""
        return self.account.wait

    @wait.setter
    def wait(self, seconds: float) -> None:
        """Now `visit.defer(seconds)`."""
        self.account.wait = seconds

    @property
    def interval(self) -> float:
        """Now `http.account.interval`."""
        return self.account.interval

    @interval.setter
    def interval(self, seconds: float) -> None:
        self.account.interval = seconds

    @property
    def asked(self) -> int:
        """Now `http.account.asked`."""
        return self.account.asked

    @asked.setter
    def asked(self, count: int) -> None:
        self.account.asked = count

    @property
    def date(self) -> datetime | None:
        """Now `http.account.date`."""
        return self.account.date

    @date.setter
    def date(self, date: datetime | None) -> None:
        self.account.date = date

    @property
    def rung(self) -> bool:
        """Now `visit.trigger == "webhook"`."""
        return False

    def told(self, ids: Sequence[str]) -> set[str]:  # noqa: ARG002 - only a visit knows
        """Now `await visit.known(ids)`."""
        return set()

    @property
    def vendor_now(self) -> Any:
        """Now `visit.vendor_now`; a method before."""
        return Moment.of(lambda: self.account.date or self.clients_now())

    def clients_now(self) -> datetime:
        """Our clock."""
        return Http.now(self)

    async def rest(self, seconds: float) -> None:
        """Now `await visit.pause(seconds)`."""
        await self.clients.sleep(seconds)


class VisitHttp(OldHttp):
    """The `http` of `poll(http, state)`: a client that also knows the visit.

    It can stand for the visit, too: a source may derive from one that is given a visit, and call its `poll`.
    """

    __slots__ = ("_visit",)

    def __init__(self, visit: Visit) -> None:
        http = visit.http
        super().__init__(
            http.clients,
            http.auth,
            http.identity,
            http.concurrency,
            http.retry_timeouts,
            http.account,
            http.asker,
        )
        self._visit = visit

    @property
    def now(self) -> Any:
        """Our clock."""
        return Moment.of(self.clients_now)

    @property
    def rung(self) -> bool:
        return self._visit.trigger == "webhook"

    def told(self, ids: Sequence[str]) -> set[str]:
        return _at_once(self._visit.log(ids)) if ids else set()

    @property
    def http(self) -> Http:
        return self

    @property
    def trigger(self) -> Trigger:
        return self._visit.trigger

    @property
    def ids(self) -> Sequence[str]:
        return self._visit.ids

    @property
    def log(self) -> Callable[[Sequence[str]], Awaitable[set[str]]]:
        return self._visit.log

    def defer(self, seconds: float) -> None:
        self._visit.defer(seconds)

    async def known(self, ids: Sequence[str]) -> set[str]:
        return await self._visit.known(ids)

    async def pause(self, seconds: float) -> None:
        await self._visit.pause(seconds)


def _at_once(known: Awaitable[set[str]]) -> set[str]:
    """The result without waiting: `http.told` is no coroutine. RuntimeError if the store cannot give it so."""
    steps = known.__await__()
    try:
        next(steps)
    except StopIteration as end:
        found: set[str] = end.value
        return found
    raise RuntimeError(
        "this store does not answer at once: write poll(visit, state), and await visit.known(ids)"
    )


def old_http(visit: Visit) -> Http:
    """The client for a plugin's method that gets an `Http`, whichever version it was written for."""
    return VisitHttp(visit)


@cache
def takes_a_visit(kind: type[Source]) -> bool:
    """Whether its `poll` is `poll(visit, state)`: by the first parameter's name or annotation. Before 0.6 it was an `Http`."""
    found = inspect.getattr_static(kind, "poll")
    bare = isinstance(found, staticmethod)
    poll = inspect.unwrap(getattr(found, "__func__", found))
    code = getattr(poll, "__code__", None)
    names = code.co_varnames[: code.co_argcount] if code is not None else ()
    first = names[0 if bare else 1] if len(names) > (0 if bare else 1) else ""
    annotation: object = None
    with suppress(Exception):  # annotations may name what was imported for a type checker only
        annotation = getattr(poll, "__annotations__", {}).get(first)
    named = getattr(annotation, "__name__", None) or str(annotation).strip("'\"").rpartition(".")[2]
    return first == "visit" or named == "Visit"
