"""What is counted while the daemon runs: plain numbers, for whoever asks. They begin at zero with the process."""

from bisect import bisect_left
from collections import Counter, defaultdict

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds of the histograms' buckets."""


class Histogram:
    """How often something took how long."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(SECONDS) + 1)
        """By bucket; the last is for what took longer than any bound."""
        self.total = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(SECONDS, seconds)] += 1
        self.total += seconds


class Meter:
    """All there is to count."""

    def __init__(self) -> None:
        self.polls: Counter[tuple[str, str]] = Counter()
        """Visits by source and result: `new`, `unchanged`, `failed`."""
        self.events: Counter[tuple[str, str]] = Counter()
        """New events by source and who had them first: `poll`, `ring`, `push`."""
        self.unread: Counter[str] = Counter()
        """Rows that could not be read, by source."""
        self.failures: Counter[str] = Counter()
        """Deliveries that failed, by sink."""
        self.changes = 0
        """How often a source or sink began to fail or to do well again, or failed once more."""
        self.late = Histogram()
        """How long after its time a visit began."""
        self.requests: defaultdict[str, Histogram] = defaultdict(Histogram)
        """How long requests took, by host."""
        self.retries: Counter[str] = Counter()
        """Requests that were tried again, by host."""
        self.webhooks: Counter[tuple[str, str]] = Counter()
        """Webhooks by source ("" where there is no such) and what became of them."""
        self.answers = Histogram()
        """How long webhooks waited for their answer."""

    def took(self, host: str, seconds: float) -> None:
        """A request ended."""
        self.requests[host].add(seconds)

    def retried(self, host: str) -> None:
        """A request is tried again."""
        self.retries[host] += 1
