"""What was counted of each source and each sink since the counts were last written to the store."""

from roundsman.shapes import OUTCOMES
from roundsman.store import Counted, New
from roundsman.store.tally import BUCKETS, LARGEST, bucket

LATENCY = tuple(f"latency.{each}" for each in BUCKETS)
LATENESS = tuple(f"lateness.{each}" for each in BUCKETS)
"""The names of the counts by bucket."""


class Pending:
    """Counts by source and by sink, with the names of `store/tally.py`."""

    def __init__(self) -> None:
        self._sources: dict[str, dict[str, int]] = {}
        self._sinks: dict[str, dict[str, int]] = {}

    def __len__(self) -> int:
        """Number of sources and sinks that have counts."""
        return len(self._sources) + len(self._sinks)

    def add(self, source: str, name: str, n: int = 1) -> None:
        """Count something of a source."""
        counts = self._of(source)
        counts[name] = counts.get(name, 0) + n

    def _of(self, source: str) -> dict[str, int]:
        counts = self._sources.get(source)
        if counts is None:
            counts = self._sources[source] = {}
        return counts

    def logged(self, source: str, new: New) -> None:
        """New events of a source are in the log."""
        for outcome, n in new.outcomes.items():
            # A plugin may report any text: sentences would be ever more names.
            name = outcome if not outcome or outcome in OUTCOMES else "other"
            self.add(source, f"event.{name or ''}", n)

    def requested(self, source: str, seconds: float, status: int | None) -> None:
        """A request of a source has ended, with this status or (None) without an answer."""
        counts = self._of(source)
        took = LATENCY[bucket(seconds)]
        counts["request"] = counts.get("request", 0) + 1
        counts[took] = counts.get(took, 0) + 1
        if status == 304:
            counts["request.304"] = counts.get("request.304", 0) + 1

    def late(self, source: str, seconds: float) -> None:
        """A scheduled visit has begun so many seconds after its due time."""
        self.add(source, LATENESS[bucket(seconds)])

    def add_to_sink(self, sink: str, name: str, n: int = 1) -> None:
        """Count something of a sink."""
        counts = self._sinks.setdefault(sink, {})
        before = counts.get(name, 0)
        counts[name] = max(before, n) if name in LARGEST else before + n

    def take(self, at: float) -> list[Counted]:
        """Everything, as counts of the hour of this time (Unix); then there is nothing."""
        found = [Counted("source", name, at, counts) for name, counts in self._sources.items()]
        found += [Counted("sink", name, at, counts) for name, counts in self._sinks.items()]
        self._sources, self._sinks = {}, {}
        return found
