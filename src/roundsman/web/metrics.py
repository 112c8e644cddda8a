"""The metrics for Prometheus: the meter's counts, and ages computed at each request.

Names and labels are a contract; the documentation is made of `METRICS`. Format:
https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import Any, NamedTuple

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

import roundsman
from roundsman.engine.engine import Engine
from roundsman.engine.meter import SECONDS, Histogram

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Described(NamedTuple):
    """A metric: its name, kind, help text and labels, each with its meaning."""

    name: str
    """The name of the family; a counter ends in `_total` in the exposition."""
    kind: type[CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily]
    help: str
    labels: Mapping[str, str] = {}

    def family(self) -> Any:
        """An empty family, to add values to."""
        return self.kind(self.name, self.help, labels=list(self.labels))


SOURCE, SINK = {"source": "The name of the source."}, {"sink": "The name of the sink."}
HOST = {"host": "The host."}

POLLS = Described(
    "roundsman_polls",
    CounterMetricFamily,
    "Visits that have ended.",
    {**SOURCE, "result": "`new`, `unchanged` or `failed`."},
)
EVENTS = Described(
    "roundsman_events",
    CounterMetricFamily,
    "New events, by what reported them first.",
    {
        **SOURCE,
        "via": "`poll` (a scheduled visit), `ring` (a visit that a webhook started) or `push` (the webhook itself).",
    },
)
ROWS_UNREAD = Described(
    "roundsman_rows_unread",
    CounterMetricFamily,
    "Rows that could not be read. They are stored as they came.",
    SOURCE,
)
ANSWERED_AGE = Described(
    "roundsman_source_answered_age_seconds",
    GaugeMetricFamily,
    "Time since the last good answer. Without a value if there was none.",
    SOURCE,
)
SOURCE_FAILING = Described(
    "roundsman_source_failing",
    GaugeMetricFamily,
    "1 while the failure of a source is reported, else 0.",
    SOURCE,
)
SOURCE_GAP = Described(
    "roundsman_source_gap",
    GaugeMetricFamily,
    "1 while rows of a source may be missing, else 0. Without a value before the first good visit since the start.",
    SOURCE,
)
OLDEST_AGE = Described(
    "roundsman_sink_oldest_age_seconds",
    GaugeMetricFamily,
    "Age of the oldest event that a sink has not acknowledged. 0 if it has all.",
    SINK,
)
DEAD_LETTERS = Described(
    "roundsman_sink_dead_letters",
    GaugeMetricFamily,
    "Events that a sink refused for good, and that were neither delivered nor dropped since.",
    SINK,
)
SINK_FAILURES = Described("roundsman_sink_failures", CounterMetricFamily, "Deliveries that failed.", SINK)
LATENESS = Described(
    "roundsman_due_lateness_seconds", HistogramMetricFamily, "How long after its due time a visit began."
)
REQUESTS = Described(
    "roundsman_http_request_duration_seconds",
    HistogramMetricFamily,
    "How long requests to vendors and receivers took. Downloads are not counted.",
    HOST,
)
RETRIES = Described(
    "roundsman_http_retries",
    CounterMetricFamily,
    "Requests that were sent again after a transient fault.",
    HOST,
)
WEBHOOKS = Described(
    "roundsman_webhooks",
    CounterMetricFamily,
    "Webhooks that came.",
    {
        "source": "The name of the source. Empty if no source has this path.",
        "result": "Stored: `taken` (understood), `ignored` (about something else) or `unread` (not understood). Not stored: "
        "`not stored` (the store cannot be written), or the reason of a refusal: `unknown source`, `wrong method`, `too large`, "
        "`cut off`, `busy`, `wrong token`, `no header`, `wrong header`, `no signature`, `unreadable signature`, "
        "`wrong signature` or `stale signature`.",
    },
)
WEBHOOK_DURATION = Described(
    "roundsman_webhook_duration_seconds",
    HistogramMetricFamily,
    "Time from the head of a webhook to its answer.",
)
BUILD_INFO = Described(
    "roundsman_build_info", GaugeMetricFamily, "Always 1.", {"version": "The version of Roundsman."}
)
METRICS = (
    *(POLLS, EVENTS, ROWS_UNREAD, ANSWERED_AGE, SOURCE_FAILING, SOURCE_GAP),
    *(OLDEST_AGE, DEAD_LETTERS, SINK_FAILURES),
    *(LATENESS, REQUESTS, RETRIES, WEBHOOKS, WEBHOOK_DURATION, BUILD_INFO),
)
"""All metrics, in the order of the documentation."""


async def exposition(engine: Engine) -> bytes:
    """All metrics, as text."""
    oldest = {
        name: await engine.store.oldest(name, delivery.wanted)
        for name, delivery in list(engine.deliveries.items())
    }
    dead = {sink.name: sink.dead for sink in await engine.store.sinks()}
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(engine, oldest, dead))
    return generate_latest(registry)


class _Collector(Collector):
    def __init__(self, engine: Engine, oldest: Mapping[str, float | None], dead: Mapping[str, int]) -> None:
        self._engine = engine
        self._dead = dead
        """Number of dead letters of each sink that was ever configured."""
        self._oldest = oldest
        """When the oldest event that waits for each sink was logged (Unix)."""

    def describe(self) -> list[Metric]:
        return []  # otherwise the registry calls collect() once more, for the names

    def collect(self) -> Iterator[Metric]:
        yield from self._about_sources()
        yield from self._about_sinks()
        meter = self._engine.meter
        yield _histogram(LATENESS, {(): meter.late})
        yield _histogram(REQUESTS, {(host,): histogram for host, histogram in meter.requests.items()})
        yield _counter(RETRIES, {(host,): count for host, count in meter.retries.items()})
        yield _counter(WEBHOOKS, meter.webhooks)
        yield _histogram(WEBHOOK_DURATION, {(): meter.answers})
        build = BUILD_INFO.family()
        build.add_metric([roundsman.__version__], 1)
        yield build

    def _about_sources(self) -> Iterator[Metric]:
        engine = self._engine
        now = engine.time.now()
        yield _counter(POLLS, engine.meter.polls)
        yield _counter(EVENTS, engine.meter.events)
        yield _counter(ROWS_UNREAD, {(name,): count for name, count in engine.meter.unread.items()})
        answered, failing, gap = ANSWERED_AGE.family(), SOURCE_FAILING.family(), SOURCE_GAP.family()
        for name, watched in engine.roster.items():
            status = watched.status
            if watched.gap is not None:
                gap.add_metric([name], watched.gap)
            failing.add_metric([name], status.failing_since is not None)
            if status.last_success is not None:
                answered.add_metric([name], max(0.0, now - status.last_success))
        yield answered
        yield failing
        yield gap

    def _about_sinks(self) -> Iterator[Metric]:
        engine = self._engine
        now = engine.time.now()
        oldest = OLDEST_AGE.family()
        for name, logged in self._oldest.items():
            oldest.add_metric([name], max(0.0, now - logged) if logged is not None else 0.0)
        yield oldest
        dead = DEAD_LETTERS.family()
        for name in engine.deliveries:
            dead.add_metric([name], self._dead.get(name, 0))
        yield dead
        yield _counter(SINK_FAILURES, {(name,): engine.meter.failures[name] for name in engine.deliveries})


def _counter(metric: Described, counts: Mapping[Any, int]) -> Metric:
    family = metric.family()
    for values, count in counts.items():
        family.add_metric(values, count)
    return family  # type: ignore[no-any-return] # the three kinds of families have no common type


def _histogram(metric: Described, found: Mapping[Any, Histogram]) -> Metric:
    family = metric.family()
    bounds = [*map(str, SECONDS), "+Inf"]
    for values, histogram in found.items():
        buckets = list(zip(bounds, accumulate(histogram.counts), strict=True))
        family.add_metric(values, buckets, histogram.total)
    return family  # type: ignore[no-any-return] # as above
