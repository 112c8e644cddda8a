"""What the list APIs of the sandbox share: rows with versions, Link headers, rate limits, faults in pages.

The switches of `Faulty` are no documented behaviour: each is a way in which a server, or a proxy before it,
misleads a client that follows pages.
"""

import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, TypeVar
from urllib.parse import urlencode

from roundsman.sandbox.vendor import Reply, Vendor, document

ELSEWHERE = "http://elsewhere.invalid"
"""The origin of links under `next_elsewhere`; the name never resolves (RFC 2606)."""
NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(slots=True, kw_only=True)
class Faulty:
    """The switches that all list APIs have. Set them at any time."""

    next_elsewhere: bool = False
    """Whether links to other pages lead to another origin, `ELSEWHERE`."""
    loops: bool = False
    """Whether each page names itself as the next one."""
    errors_in_200: int = 0
    """The number of next answers that are 200 with `{"errors": [...]}`; counts down."""
    no_total: bool = False
    """Leaves out every statement of the list's length: totals, and the link to the last page."""
    cap: int | None = None
    """Maximum rows in one answer, for each limit; None: the documented maximum."""
    drop_ids: frozenset[str] = frozenset()
    """The ids of rows that are sent without their id member: broken rows."""
    limit: int | None = None
    """Requests that are granted in `limit_window`; None: no limit."""
    limit_window: timedelta = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Limits:
    """The state of a rate limit after one request."""

    limit: int
    left: int
    """Requests that remain in the window; negative if this one is too many."""
    reset: int
    """When the window ends: Unix seconds, rounded up."""
    retry_after: int
    """Whole seconds until then."""

    def headers(self, prefix: str) -> dict[str, str]:
        """Limit, Remaining and Reset with this prefix."""
        values = {"Limit": self.limit, "Remaining": max(0, self.left), "Reset": self.reset}
        return {prefix + name: str(value) for name, value in values.items()}


class Window:
    """Counts requests in windows: consecutive ones, or one that ends now (`rolling`)."""

    def __init__(self, *, rolling: bool = False) -> None:
        self._rolling = rolling
        self._granted = deque[float]()

    def take(self, now: datetime, limit: int | None, window: timedelta, cost: int = 1) -> Limits | None:
        """Count a request if the limit grants it. Returns the limit's state; None without a limit."""
        if limit is None:
            return None
        moment, length = now.timestamp(), window.total_seconds()
        start = moment - length if self._rolling else moment // length * length
        while self._granted and self._granted[0] < start:
            self._granted.popleft()
        left = limit - len(self._granted) - cost
        if left >= 0:
            self._granted.extend([moment] * cost)
        end = (self._granted[0] if self._rolling and self._granted else start) + length
        return Limits(limit, left, math.ceil(end), max(1, math.ceil(end - moment)))


@dataclass(slots=True)
class Version:
    """One row, or one version of a row that changes."""

    key: str
    """The row's id."""
    at: datetime
    """The row's own time."""
    shown: datetime
    """When lists begin to contain it; later than `at` if it is late."""
    row: dict[str, Any]
    number: int
    """Grows in the order of insertion."""
    added: datetime
    """When it was inserted; later than `shown` if it is history that the test made."""
    gone: datetime | None = None
    """When it was removed or replaced."""


QuirksT = TypeVar("QuirksT", bound=Faulty)


class Listing(Vendor, ABC, Generic[QuirksT]):
    """A list API: its rows, and what a reader has to find in them."""

    def __init__(
        self, now: Callable[[], datetime] | None, quirks: QuirksT, window: Window | None = None
    ) -> None:
        super().__init__(now)
        self.quirks = quirks
        self.window = window or Window()
        self.versions: list[Version] = []
        """In the order of insertion."""
        self._number = 0
        self._last_asked = NEVER

    def reply(self, method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str]) -> Reply:
        self._last_asked = self.now()
        refused = self.refusal(headers)
        if refused is None and self.quirks.errors_in_200 > 0:
            self.quirks.errors_in_200 -= 1
            return document(200, {"errors": [{"message": "Something went wrong."}]})
        return refused or self.page(method, path, query, headers)

    def limits(self, cost: int = 1) -> Limits | None:
        """Count a request in the window of `Quirks.limit`, if that grants it."""
        return self.window.take(self.now(), self.quirks.limit, self.quirks.limit_window, cost)

    @abstractmethod
    def refusal(self, headers: Mapping[str, str]) -> Reply | None:
        """The answer to a request with wrong credentials, or beyond the rate limit."""

    @abstractmethod
    def page(self, method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str]) -> Reply:
        """The answer to a request that was not refused."""

    @abstractmethod
    def event_id(self, version: Version) -> str:
        """The id of the event that the worked example of `http.json` makes of this version."""

    def seen_from(self, version: Version) -> datetime:
        """When lists begin to contain the version."""
        return version.shown

    def visible(self) -> list[Version]:
        """The versions that lists contain now, in the order of insertion."""
        now = self.now()
        return [v for v in self.versions if self.seen_from(v) <= now and (v.gone is None or v.gone > now)]

    def current(self) -> set[str]:
        """The event ids that an exact reader has reported when it has read the list as it is now."""
        return {self.event_id(v) for v in self.visible() if v.key not in self.quirks.drop_ids}

    def expected(self) -> set[str]:
        """The event ids that an exact reader may have reported by now: of each version that was ever visible.

        A version that was replaced before a reader came may be missed; `current` is what may not.
        """
        now = self.now()
        ever = [v for v in self.versions if self.seen_from(v) <= min(now, v.gone or now)]
        return {self.event_id(v) for v in ever if v.key not in self.quirks.drop_ids}

    def remove(self, key: str) -> None:
        """Take the row out of the list now."""
        self.latest(key).gone = self.now()

    def latest(self, key: str) -> Version:
        """The newest version of a row. Raises StopIteration if there is none."""
        return next(v for v in reversed(self.versions) if v.key == key)

    def store(self, key: str, at: datetime, shown: datetime | None, row: dict[str, Any]) -> Version:
        """Insert a version. A list that was already answered did not contain it: `shown` is not before that."""
        shown = max(shown or at, self._last_asked)
        self._number += 1
        version = Version(key, at, shown, row, self._number, self.now())
        self.versions.append(version)
        return version

    def size(self, asked: str | None, default: int, most: int) -> int:
        """The number of rows in a page, from the text of a parameter."""
        return min(whole(asked, default) or default, most, self.quirks.cap or most)

    def url(self, headers: Mapping[str, str], path: str, query: Mapping[str, str]) -> str:
        """The absolute URL of a page: on the host that was asked, or elsewhere."""
        origin = ELSEWHERE if self.quirks.next_elsewhere else f"http://{headers.get('host', 'localhost')}"
        return f"{origin}{path}?{urlencode(query)}"

    def sent(self, version: Version, member: str = "id") -> dict[str, Any]:
        """The row as answers contain it: without its id member if it is broken."""
        broken = version.key in self.quirks.drop_ids
        return {name: each for name, each in version.row.items() if not (broken and name == member)}


def link(pages: Mapping[str, str]) -> dict[str, str]:
    """The Link header (RFC 8288) of URLs by relation; no header if there are none."""
    return {"Link": ", ".join(f'<{url}>; rel="{rel}"' for rel, url in pages.items())} if pages else {}


def whole(text: str | None, default: int) -> int:
    """The number in the text of a parameter; the default if it is none."""
    return int(text) if text is not None and text.isdecimal() else default


def iso(moment: datetime) -> str:
    """`2026-05-01T06:58:12Z`: seconds, in UTC."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def milliseconds(moment: datetime) -> str:
    """`2026-05-01T06:58:12.000`: milliseconds, in UTC, without a zone."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds")


def with_headers(reply: Reply, headers: Mapping[str, str]) -> Reply:
    """The answer with more headers."""
    return Reply(reply.status, {**reply.headers, **headers}, reply.body)
