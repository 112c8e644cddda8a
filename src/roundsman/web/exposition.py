"""The values of the metrics, as text. Format: https://prometheus.io/docs/instrumenting/exposition_formats/

A scrape does not delay the daemon: what is in the store is counted in a thread, and the text is made in pieces.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import accumulate, islice
from typing import Any

import roundsman
from roundsman.engine.engine import Engine
from roundsman.engine.meter import SECONDS, Histogram
from roundsman.engine.roster import Watched
from roundsman.store import Census, StoreError
from roundsman.web import metrics as m
from roundsman.web.metrics import Described

LINES = 250
"""Lines that are made at a time: less than a millisecond."""
PATIENCE = 5.0
"""Seconds to wait for the store. Prometheus gives up after 10."""

Values = Iterable[tuple[tuple[str, ...], float | None]]
"""The values of a metric, each with the values of its labels. None: there is no value."""


class Exposition:
    """All metrics of one engine. Scrapes at the same time share what is counted."""

    def __init__(self, engine: Engine, patience: float = PATIENCE) -> None:
        self._engine = engine
        self._patience = patience
        self._counting: asyncio.Task[Census] | None = None

    async def pieces(self) -> AsyncIterator[bytes]:
        """The text, in pieces."""
        lines = _lines(self._engine, await self._census())
        while piece := list(islice(lines, LINES)):
            yield "".join(piece).encode("utf-8", "replace")
            await asyncio.sleep(0)

    async def _census(self) -> Census | None:
        """What the store has; None if it cannot be read, or its disk does not answer in time."""
        engine = self._engine
        if self._counting is None or self._counting.done():
            sinks = {name: delivery.wanted for name, delivery in engine.deliveries.items()}
            self._counting = asyncio.create_task(engine.store.census(sinks), name="metrics")
            self._counting.add_done_callback(_seen)
        counting = self._counting
        with suppress(TimeoutError):
            try:
                return await asyncio.wait_for(asyncio.shield(counting), self._patience)
            except StoreError as exc:
                engine.trouble.report(exc)
        return None


def _seen(task: "asyncio.Task[Census]") -> None:
    """An error that comes after every scrape has given up is not asked for."""
    if not task.cancelled():
        task.exception()


def _lines(engine: Engine, census: Census | None) -> Iterator[str]:
    yield from _about_sources(engine, census)
    yield from _about_sinks(engine, census)
    meter = engine.meter
    yield from _histograms(m.LATENESS, {(): meter.late})
    yield from _histograms(m.REQUESTS, {(host,): histogram for host, histogram in meter.requests.items()})
    yield from _samples(m.EXCHANGES, _counts(meter.exchanges))
    yield from _samples(m.RETRIES, _counts(meter.retries))
    yield from _samples(m.WEBHOOKS, _counts(meter.webhooks))
    yield from _histograms(m.WEBHOOK_DURATION, {(): meter.answers})
    yield from _samples(m.STORE_FAILING, [((), engine.trouble.error is not None)])
    yield from _samples(m.STORE_BYTES, _counts(census.sizes if census is not None else {}))
    disk = census.disk if census is not None else None
    yield from _samples(m.DISK_FREE, [((), disk.free)] if disk is not None else [])
    yield from _samples(m.DISK_TOTAL, [((), disk.total)] if disk is not None else [])
    fleet = engine.fleet
    yield from _samples(m.WORKERS, [((), len(fleet.workers))] if fleet is not None else [])
    held = fleet.held.items() if fleet is not None else ()
    yield from _samples(m.HELD, [((kind,), len(names)) for kind, names in held])
    yield from _samples(m.BUILD_INFO, [((roundsman.__version__,), 1)])


def _about_sources(engine: Engine, census: Census | None) -> Iterator[str]:
    now = engine.time.now()
    meter = engine.meter
    names = list(engine.roster)  # it may change between two pieces
    yield from _samples(m.POLLS, _counts(meter.polls))
    yield from _samples(m.EVENTS, _counts(meter.events))
    yield from _samples(m.ROWS_UNREAD, _counts(meter.unread))

    def of(value: Callable[[Watched], float | None]) -> Values:
        found = ((name, engine.roster.get(name)) for name in names)
        return (((name,), value(watched) if watched is not None else None) for name, watched in found)

    def age(since: float | None) -> float | None:
        return max(0.0, now - since) if since is not None else None

    yield from _samples(m.ANSWERED_AGE, of(lambda each: age(each.status.last_success)))
    yield from _samples(m.UNANSWERED, of(lambda each: age(each.status.unanswered_since) or 0.0))
    yield from _samples(m.INTERVAL, of(lambda each: each.interval))
    yield from _samples(m.SOURCE_FAILING, of(_is_reported))
    yield from _samples(m.SOURCE_PAUSED, of(lambda each: each.status.paused is not None))
    yield from _samples(m.SOURCE_GAP, of(lambda each: each.gap))
    yield from _samples(m.BACKLOG, of(lambda each: each.backlog is not None))
    yield from _samples(
        m.BACKLOG_ROWS, of(lambda each: each.backlog.rows if each.backlog is not None else None)
    )
    if census is not None:
        yield from _samples(m.OPEN_FAILURES, _all(engine, names, census.failures))
        yield from _samples(m.UNREAD, _all(engine, names, census.unread))


def _about_sinks(engine: Engine, census: Census | None) -> Iterator[str]:
    now = engine.time.now()
    sinks = list(engine.deliveries)
    lags = census.lags if census is not None else {}
    ages = [
        ((name,), max(0.0, now - lag.oldest) if lag.oldest is not None else 0.0)
        for name, lag in lags.items()
        if lag.oldest is not None or lag.events is not None
    ]
    yield from _samples(m.OLDEST_AGE, ages)
    waiting = [((name,), lag.events) for name, lag in lags.items() if lag.events is not None]
    yield from _samples(m.WAITING, waiting)
    dead = [((name,), census.dead.get(name, 0)) for name in sinks] if census is not None else []
    yield from _samples(m.DEAD_LETTERS, dead)
    yield from _samples(
        m.SINK_FAILING, [((name,), each.outage.fails) for name, each in engine.deliveries.items()]
    )
    yield from _samples(m.SINK_FAILURES, [((name,), engine.meter.failures[name]) for name in sinks])
    paused = [((name,), each.paused is not None) for name, each in engine.deliveries.items()]
    yield from _samples(m.SINK_PAUSED, paused)
    yield from _samples(m.SINK_HELD, [((name,), each.held) for name, each in engine.deliveries.items()])


def _is_reported(watched: Watched) -> bool:
    """Whether the failure of a source is reported. A paused source does not count."""
    return watched.status.failing_since is not None and watched.status.paused is None


def _counts(counter: Mapping[Any, int]) -> Values:
    """The counts by labels, or by the only label. Only the keys are copied at once: there may be 200,000."""
    keys = list(counter)
    return ((key if isinstance(key, tuple) else (key,), counter[key]) for key in keys)


def _all(engine: Engine, names: Iterable[str], counts: Mapping[str, int]) -> Values:
    """A value for each of these sources, and for those that were taken out of the configuration.

    Workers count all of a store that they share: each leaves out what others hold, and one has what was taken out.
    """
    left = dict(counts)
    for name in names:
        yield (name,), left.pop(name, 0)
    fleet, elsewhere = engine.fleet, engine.roster.elsewhere
    for name, count in left.items():
        yield (name,), count if fleet is None or (fleet.leads and name not in elsewhere) else None


def _samples(metric: Described, values: Values) -> Iterator[str]:
    yield from _head(metric)
    keys = list(metric.labels)
    order = sorted(range(len(keys)), key=keys.__getitem__)
    form = f"{metric.name}{_labels([keys[at] for at in order])} %r\n"
    for labels, value in values:
        # An empty line counts, too: or 50,000 sources without a value would be gone through at once.
        yield form % (*[_escaped(labels[at]) for at in order], float(value)) if value is not None else ""


def _histograms(metric: Described, found: Mapping[tuple[str, ...], Histogram]) -> Iterator[str]:
    yield from _head(metric)
    keys = list(metric.labels)
    bucket = f"{metric.name}_bucket{_labels([*keys, 'le'])} %r\n"
    plain = _labels(keys)
    bounds = [*map(str, SECONDS), "+Inf"]
    for labels, histogram in found.items():
        escaped = [_escaped(value) for value in labels]
        cumulative = list(accumulate(histogram.counts))
        for bound, count in zip(bounds, cumulative, strict=True):
            yield bucket % (*escaped, bound, float(count))
        yield f"{metric.name}_count{plain} %r\n" % (*escaped, float(cumulative[-1]))
        yield f"{metric.name}_sum{plain} %r\n" % (*escaped, histogram.total)


def _head(metric: Described) -> Iterator[str]:
    yield f"# HELP {metric.name} {metric.help}\n# TYPE {metric.name} {metric.kind}\n"


def _labels(keys: Sequence[str]) -> str:
    """The labels, with a place for each value."""
    return "{" + ",".join(f'{key}="%s"' for key in keys) + "}" if keys else ""


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
