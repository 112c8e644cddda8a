"""The metrics for Prometheus: the meter's counts, and ages computed at each request.

Names and labels are a contract, listed in the documentation. Format:
https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

import roundsman
from roundsman.engine.engine import Engine
from roundsman.engine.meter import SECONDS, Histogram

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


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
        yield _histogram(
            "roundsman_due_lateness_seconds", "How long after its time a visit began.", {(): meter.late}
        )
        requests = {(host,): histogram for host, histogram in meter.requests.items()}
        yield _histogram(
            "roundsman_http_request_duration_seconds", "Requests to vendors and sinks.", requests, "host"
        )
        retries = {(host,): count for host, count in meter.retries.items()}
        yield _counter("roundsman_http_retries", "Requests that were tried again.", retries, "host")
        yield _counter(
            "roundsman_webhooks", "Webhooks by what became of them.", meter.webhooks, "source", "result"
        )
        yield _histogram(
            "roundsman_webhook_duration_seconds", "From a webhook's head to its answer.", {(): meter.answers}
        )
        build = GaugeMetricFamily("roundsman_build_info", "The version, as a label.", labels=["version"])
        build.add_metric([roundsman.__version__], 1)
        yield build

    def _about_sources(self) -> Iterator[Metric]:
        engine = self._engine
        now = engine.time.now()
        yield _counter("roundsman_polls", "Visits by result.", engine.meter.polls, "source", "result")
        yield _counter(
            "roundsman_events", "New events by who had them first.", engine.meter.events, "source", "via"
        )
        unread = {(name,): count for name, count in engine.meter.unread.items()}
        yield _counter(
            "roundsman_rows_unread", "Rows that could not be read, and are kept.", unread, "source"
        )
        answered = GaugeMetricFamily(
            "roundsman_source_answered_age_seconds", "Since the last good answer.", labels=["source"]
        )
        failing = GaugeMetricFamily(
            "roundsman_source_failing", "1 while a source is failing, out loud.", labels=["source"]
        )
        gap = GaugeMetricFamily(
            "roundsman_source_gap",
            "1 while rows of a source may be missing. No value before the first good visit since the start.",
            labels=["source"],
        )
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
        oldest = GaugeMetricFamily(
            "roundsman_sink_oldest_age_seconds",
            "Age of the oldest event that a sink wants and has not got; 0 where it has everything.",
            labels=["sink"],
        )
        for name, logged in self._oldest.items():
            oldest.add_metric([name], max(0.0, now - logged) if logged is not None else 0.0)
        yield oldest
        dead = GaugeMetricFamily(
            "roundsman_sink_dead_letters",
            "Events that a sink refused for good, and that were neither delivered nor dropped since.",
            labels=["sink"],
        )
        for name in engine.deliveries:
            dead.add_metric([name], self._dead.get(name, 0))
        yield dead
        failures = {(name,): engine.meter.failures[name] for name in engine.deliveries}
        yield _counter("roundsman_sink_failures", "Deliveries that failed.", failures, "sink")


def _counter(name: str, text: str, counts: Mapping[Any, int], *labels: str) -> Metric:
    family = CounterMetricFamily(name, text, labels=labels)
    for values, count in counts.items():
        family.add_metric(values, count)
    return family


def _histogram(name: str, text: str, found: Mapping[Any, Histogram], *labels: str) -> Metric:
    family = HistogramMetricFamily(name, text, labels=labels)
    bounds = [*map(str, SECONDS), "+Inf"]
    for values, histogram in found.items():
        buckets = list(zip(bounds, accumulate(histogram.counts), strict=True))
        family.add_metric(values, buckets, histogram.total)
    return family
