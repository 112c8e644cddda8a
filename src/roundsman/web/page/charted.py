"""The charts of a source and of a sink: the last two days by hour, and the last five weeks by day."""

from collections.abc import Sequence
from typing import NamedTuple

from roundsman.screen.words import share
from roundsman.store.tally import Span, Tally
from roundsman.web.page.charts import Chart, Frame, bars, lines
from roundsman.web.page.scales import Slot, slots, whole
from roundsman.web.page.series import OUTCOMES, POLLS, Look, aligned, quantiles, single, stacked, total


class Group(NamedTuple):
    """The charts of one span."""

    title: str
    charts: Sequence[Chart]


class Counted(NamedTuple):
    """What the store has counted of one source or sink."""

    name: str
    hours: Sequence[Tally]
    days: Sequence[Tally]


class Period(NamedTuple):
    """The counts of one source or sink in all hours, or in all days."""

    name: str
    span: Span
    tallies: Sequence[Tally]
    slots: Sequence[Slot]

    @property
    def title(self) -> str:
        return {"hour": "Last two days", "day": "Last five weeks"}[self.span]

    def frame(self, title: str, note: str = "") -> Frame:
        """What a chart with this title is about."""
        about = f"{title}, {self.name}, last {len(self.slots)} {self.span}s"
        nothing = "none" if any(tally.counts for tally in self.tallies) else "no data yet"
        key = f"{self.span}-{title.lower().replace(' ', '-')}"
        return Frame(key, title, about, self.slots, nothing, note)


def of_source(counted: Counted, now: float) -> list[Group]:
    """The charts of a source."""
    return [Group(each.title, _of_source(each)) for each in _periods(counted, now)]


def of_sink(counted: Counted, now: float) -> list[Group]:
    """The charts of a sink."""
    return [Group(each.title, _of_sink(each)) for each in _periods(counted, now)]


def _of_source(period: Period) -> list[Chart]:
    tallies, frame = period.tallies, period.frame
    counts = total(tallies).counts
    asked, unchanged = counts.get("request", 0), counts.get("request.304", 0)
    requests = f"{whole(asked)} {'request' if asked == 1 else 'requests'}"
    note = f"{share(unchanged / asked)} of {requests} answered 304" if asked else ""
    return [
        bars(frame("Events by outcome"), stacked(tallies, "event", OUTCOMES)),
        bars(frame("Polls by result", note), stacked(tallies, "poll", POLLS)),
        lines(frame("Time of a request"), quantiles(tallies, "latency")),
        lines(frame("Lateness of polls"), quantiles(tallies, "lateness")),
    ]


def _of_sink(period: Period) -> list[Chart]:
    tallies, frame = period.tallies, period.frame
    return [
        bars(frame("Waiting events"), single(tallies, "lag", Look("waiting", "plain"))),
        bars(frame("Delivered events"), single(tallies, "delivered", Look("delivered", "good"))),
        bars(frame("Failed deliveries"), single(tallies, "failed", Look("failed", "bad"))),
    ]


def _periods(counted: Counted, now: float) -> list[Period]:
    """Both, with a tally for each hour and each day."""
    found = []
    given: tuple[tuple[Span, Sequence[Tally]], ...] = (("hour", counted.hours), ("day", counted.days))
    for span, tallies in given:
        places = slots(span, now)
        found.append(Period(counted.name, span, aligned(tallies, places), places))
    return found
