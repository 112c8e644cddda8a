"""Compatibility with plugins written before 0.6, until 1.0."""

import inspect
from collections.abc import Sequence
from datetime import datetime
from functools import cache

from roundsman.http.client import Http
from roundsman.plugin import Source, Visit


class VisitHttp(Http):
    """The `http` of `poll(http, state)`: a client that also has what a visit has now."""

    __slots__ = ("_visit",)

    def __init__(self, visit: Visit) -> None:
        http = visit.http
        super().__init__(
            http.clients, http.auth, http.identity, http.concurrency, http.retry_timeouts, http.account
        )
        self._visit = visit

    @property
    def rung(self) -> bool:
        """Now `visit.trigger == "webhook"`."""
        return self._visit.trigger == "webhook"

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

    @property
    def asked(self) -> int:
        """Now `http.account.asked`."""
        return self.account.asked

    @property
    def date(self) -> datetime | None:
        """Now `http.account.date`."""
        return self.account.date

    def told(self, ids: Sequence[str]) -> set[str]:
        """Now `await visit.known(ids)`."""
        return self._visit.log(ids) if ids else set()

    def vendor_now(self) -> datetime:
        """Now `visit.vendor_now`."""
        return self._visit.vendor_now

    async def rest(self, seconds: float) -> None:
        """Now `await visit.pause(seconds)`."""
        await self._visit.pause(seconds)


@cache
def takes_a_visit(kind: type[Source]) -> bool:
    """Whether its `poll` is `poll(visit, state)`: the first parameter's name or annotation decides.

    Before 0.6, the first parameter was an `Http`.
    """
    parameters = list(inspect.signature(kind.poll).parameters.values())
    first = parameters[1] if len(parameters) > 1 else parameters[0]
    return first.name == "visit" or getattr(first.annotation, "__name__", first.annotation) == "Visit"
