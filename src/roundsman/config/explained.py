"""What a configuration does: how many requests a day it makes, and which sink gets which event types."""

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from math import ceil
from textwrap import wrap
from typing import NamedTuple

from roundsman.config.loading import Config
from roundsman.config.vocabulary import meets
from roundsman.kinds import KINDS
from roundsman.options.values import counted
from roundsman.plugin import Sink
from roundsman.store import DAEMON, Filter
from roundsman.times import spell

WIDTH = 80
"""Columns of a line."""
ALARMING = ("failed", "partial")
"""The outcomes that a sink for people gets without a filter."""
NOTICES = tuple(name for name in KINDS if name.startswith("roundsman."))
"""The types of the daemon's own notices."""


class Reads(NamedTuple):
    """What a source does in a day without anything new."""

    source: str
    interval: float
    """Seconds."""
    requests: float
    """A day."""
    assumed: str
    """What the number of requests assumes."""
    types: Sequence[str]
    """The types of its events; empty if they are unknown."""


class Gets(NamedTuple):
    """What a sink gets of one event type of one source."""

    source: str
    type: str
    """`*` stands for what depends on the data, and alone for the unknown types of a source."""
    outcomes: Sequence[str] | None
    """Only events with one of these outcomes, or with one that matches a glob here; None: all events."""


def reads(config: Config) -> list[Reads]:
    """Each source, in the order of the file."""
    return [
        Reads(name, source.interval, *source.requests_a_day(), source.reported_types())
        for name, source in config.sources.items()
    ]


def gets(config: Config, sink: Sink) -> list[Gets]:
    """What the sink gets, by its filter; the daemon's notices last."""
    wanted = Filter.of(sink.types, sink.sources, sink.outcomes, for_people=sink.for_people)
    there = {name: source.reported_types() or ["*"] for name, source in config.sources.items()}
    found = []
    for source, types in [*there.items(), (DAEMON, NOTICES)]:
        if wanted.sources and not _any(source, wanted.sources):
            continue
        for each in types:
            outcomes = _outcomes(each, wanted)
            if (not wanted.types or any(meets(each, glob) for glob in wanted.types)) and outcomes != ():
                found.append(Gets(source, each, outcomes))
    return found


def _any(word: str, globs: Sequence[str]) -> bool:
    return any(fnmatchcase(word, glob) for glob in globs)


def _outcomes(type_: str, wanted: Filter) -> Sequence[str] | None:
    """The outcomes that are let through; None: all; empty: none."""
    if not (wanted.outcomes or wanted.for_people):
        return None
    if wanted.for_people and type_ in NOTICES:
        return None
    globs = ALARMING if wanted.for_people else wanted.outcomes
    if type_ not in KINDS:  # of a plugin, or named by a template: its outcomes are unknown
        return tuple(globs)
    known = KINDS[type_].outcomes
    found = tuple(each for each in known if _any(each, globs))
    return None if known and found == known else found


def lines(config: Config) -> Iterator[str]:
    """All of it for a person, in lines of at most 80 columns."""
    yield "Requests a day, if nothing is new:"
    all_reads = reads(config)
    wide = max(map(len, [*config.sources, "together"]))
    for each in all_reads:
        number = f"{ceil(each.requests):,}"
        yield from _row(
            f"  {each.source:{wide}}  {number:>9}  ", f"every {spell(each.interval)}, {each.assumed}"
        )
    if len(all_reads) > 1:
        yield f"  {'together':{wide}}  {ceil(sum(each.requests for each in all_reads)):>9,}"
    yield from wrap(
        "  Not counted: new rows, retries, webhooks. An answer 304 counts as a request.",
        WIDTH,
        subsequent_indent="  ",
    )
    for name, sink in config.sinks.items():
        yield ""
        found = gets(config, sink)
        yield f"sinks.{name} ({sink.type}) gets" + (
            ":" if found else " nothing: its filter matches no event."
        )
        yield from _given(found)
    yield ""
    yield from wrap(_for_people(config), WIDTH, break_on_hyphens=False)


def _given(found: Sequence[Gets]) -> Iterator[str]:
    """What one sink gets, by source."""
    wide = max((len(each.source) for each in found), default=0)
    before = ""
    ours = [each for each in found if each.source == DAEMON]
    for each in found:
        if each.source == DAEMON and len(ours) == len(NOTICES):
            continue
        named = "all types, which are unknown here" if each.type == "*" else each.type
        only = "" if each.outcomes is None else f", only {', '.join(each.outcomes)}"
        yield from _row(f"  {each.source if each.source != before else '':{wide}}  ", named + only)
        before = each.source
    if len(ours) == len(NOTICES):
        yield from _row(f"  {DAEMON:{wide}}  ", f"all {len(ours)} notices of the daemon: roundsman.*")


def _row(head: str, text: str) -> list[str]:
    """A row of a table whose last column is wrapped; a long head has a line of its own."""
    if len(head) > WIDTH // 2:
        return [
            head.rstrip(),
            *wrap(text, WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6, break_on_hyphens=False),
        ]
    return wrap(
        text, WIDTH, initial_indent=head, subsequent_indent=" " * len(head), break_on_hyphens=False
    ) or [head]


def _for_people(config: Config) -> str:
    """Who gets a message, in a sentence or two."""
    people = {name: sink for name, sink in config.sinks.items() if sink.for_people}
    if not people:
        return "No sink sends messages to people: failures are in `roundsman status` and `roundsman failures` alone."
    without = [
        name
        for name in config.sources
        if not any(each.source == name for sink in people.values() for each in gets(config, sink))
    ]
    notices = any(each.source == DAEMON for sink in people.values() for each in gets(config, sink))
    text = f"Messages to people: {counted(len(people), 'sink')}, {', '.join(people)}."
    text += f" No message comes about events of {', '.join(without)}." if without else ""
    return text + (
        "" if notices else f" No message comes when a source or a sink fails: `sources` leaves out {DAEMON}."
    )
