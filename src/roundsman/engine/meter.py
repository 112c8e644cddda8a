"""The daemon's counters and histograms, for metrics and status lines. They begin at zero with the process."""

from bisect import bisect_left
from collections import Counter, defaultdict
from http import HTTPStatus

from roundsman.engine.pending import Pending
from roundsman.http.exchange import Exchange
from roundsman.store import New

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds of the histograms' buckets."""


STATUSES = {int(status): str(int(status)) for status in HTTPStatus}
"""The statuses that are counted as they are. Others count as `4xx`, for example: a host can answer any number."""


class Histogram:
    """A histogram of durations in seconds."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(SECONDS) + 1)
        """Counts by bucket; the last one is for durations above every bound."""
        self.total = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(SECONDS, seconds)] += 1
        self.total += seconds


class Meter:
    """All counters and histograms."""

    def __init__(self) -> None:
        self.pending = Pending()
        """What goes into the store for the charts."""
        self.polls: Counter[tuple[str, str]] = Counter()
        """Visits by source and result: `new`, `unchanged`, `failed`."""
        self.events: Counter[tuple[str, str]] = Counter()
        """New events by source and by what brought them first: `poll`, `ring`, `push`."""
        self.unread: Counter[str] = Counter()
        """Rows that could not be read, by source."""
        self.failures: Counter[str] = Counter()
        """Deliveries that failed, by sink."""
        self.changes = 0
        """How often a source or sink failed or recovered; a change updates the status that systemd shows."""
        self.late = Histogram()
        """Seconds from `due` to the beginning of the visit."""
        self.requests: defaultdict[str, Histogram] = defaultdict(Histogram)
        """Seconds that requests took, by host."""
        self.exchanges: Counter[tuple[str, str]] = Counter()
        """Requests, downloads too, by host and status; `error` if there was no answer that could be read."""
        self.retries: Counter[str] = Counter()
        """Requests that were retried, by host."""
        self.webhooks: Counter[tuple[str, str]] = Counter()
        """Webhooks by source ("" if there is no such source) and result."""
        self.answers = Histogram()
        """Seconds from a webhook to its answer."""

    def visited(self, source: str, result: str) -> None:
        """A visit has ended: `new`, `unchanged` or `failed`."""
        self.polls[source, result] += 1
        self.pending.add(source, f"poll.{result}")

    def logged(self, source: str, via: str, new: New) -> None:
        """New events are in the log."""
        self.events[source, via] += new
        self.pending.logged(source, new)

    def was_late(self, source: str, seconds: float) -> None:
        """A scheduled visit has begun so many seconds after its due time."""
        self.late.add(seconds)
        self.pending.late(source, seconds)

    def delivered(self, sink: str, events: int) -> None:
        """A sink has acknowledged events."""
        if events:
            self.pending.add_to_sink(sink, "delivered", events)

    def failed(self, sink: str) -> None:
        """A delivery has failed."""
        self.failures[sink] += 1
        self.pending.add_to_sink(sink, "failed")

    def exchanged(self, exchange: Exchange) -> None:
        """A request has ended. The time of a download is not counted: it takes as long as it is large."""
        host, status = exchange.target.host, exchange.status
        if not exchange.is_link:
            self.requests[host].add(exchange.seconds)
        if exchange.error != "CancelledError":  # we gave it up, at a stop for example
            label = "error" if status is None else STATUSES.get(status) or f"{status // 100}xx"
            self.exchanges[host, label] += 1
            if exchange.asker and not exchange.is_link:
                self.pending.requested(exchange.asker, exchange.seconds, status)

    def retried(self, host: str) -> None:
        """A request is retried."""
        self.retries[host] += 1
