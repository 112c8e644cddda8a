"""The status of sources and sinks as tables that fit a terminal, and sentences about what needs a look."""

import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from roundsman.masking import safe
from roundsman.screen.words import age, share, since, unix
from roundsman.screen.workers import remarks, unheld
from roundsman.store.origins import another_origin
from roundsman.terminal.columns import KEPT, Cell, Column, Table, kept, table
from roundsman.terminal.events import GAP
from roundsman.terminal.terminal import Terminal

TONES = {
    "ok": "green",
    "failing": "bold red",
    "refusing": "bold red",
    "retrying": "yellow",
    "gap": "yellow",
    "paused": "yellow",
}
"""The colours of the states; another one is dim."""
URGENT = ("failing", "refusing", "retrying", "gap", "paused", "waiting")
"""The states that are shown first where there is no room for all."""
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z")

SOURCES = (
    Column("source"),
    Column("state", label=""),
    Column("worker", label="on"),
    Column("answered"),
    Column("changed"),
    Column("next"),
    Column("webhook"),
    Column("errors", right=True),
    Column("304s", right=True),
    Column("events", right=True),
    Column("at work", label=""),
)
SINKS = (
    Column("sink"),
    Column("state", label=""),
    Column("worker", label="on"),
    Column("last delivery", label="delivered"),
    Column("waiting", right=True),
    Column("oldest"),
    Column("buried", right=True),
)

WORKERS = (
    Column("worker"),
    Column("state", label=""),
    Column("since"),
    Column("last beat"),
    Column("sources", right=True),
    Column("sinks", right=True),
    Column("version"),
)


class Sentence(NamedTuple):
    """What needs a look."""

    text: str
    tone: str


class Parts(NamedTuple):
    """What `status` shows on a terminal, from top to bottom."""

    running: list[str]
    sources: Table
    sinks: Table
    workers: Table
    sentences: list[list[str]]


def status_tables(found: Mapping[str, Any], terminal: Terminal) -> list[str]:
    """All of it, in lines that fit the terminal's width."""
    parts = _parts(found, terminal)
    lines = [*parts.running, ""]
    for each in (parts.sources, parts.sinks, parts.workers):
        if each.rows:
            lines += [each.head, *(line for row in each.rows for line in row), ""]
    if not parts.sources.rows:
        lines += [*terminal.paragraph(EMPTY, "yellow"), ""]
    lines += [line for sentence in parts.sentences for line in sentence]
    return lines if parts.sentences else lines[:-1]


EMPTY = "no source yet: the daemon has not loaded a configuration with one"


def status_screen(found: Mapping[str, Any], terminal: Terminal, clock: str) -> list[str]:
    """As much of it as fits the terminal's height, below a line with the clock. If not all fits: the most urgent."""
    height = terminal.lines - 1
    whole = status_tables(found, terminal)
    head = terminal.paint(f"  {clock}", "dim")
    if len(whole) <= height:
        return [head, *whole]
    found = {**found, "sources": _urgent(found["sources"]), "sinks": _urgent(found["sinks"])}
    parts = _parts(found, terminal)
    room = height - len(parts.running)
    sentences = _cut(parts.sentences, max(2, room // 3), "    and {} more: roundsman status")
    sinks = [parts.sinks.head, *_cut(parts.sinks.rows, max(2, room // 4), _more(found["sinks"], "sink"))]
    left = room - len(sentences) - len(sinks) - 1
    sources = [parts.sources.head, *_cut(parts.sources.rows, left, _more(found["sources"], "source"))]
    return [head, *parts.running, *sources, *sinks, *sentences][: height + 1]


def _urgent(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return sorted(rows, key=lambda row: URGENT.index(row["state"]) if row["state"] in URGENT else len(URGENT))


def _cut(rows: Sequence[Sequence[str]], room: int, more: Any) -> list[str]:
    """As many rows as fit into so many lines; the last line then says how many more there are."""
    if sum(map(len, rows)) <= room:
        return [line for row in rows for line in row]
    lines: list[str] = []
    for number, row in enumerate(rows):
        if len(lines) + len(row) > room - 1:
            return [*lines, more.format(len(rows) - number) if isinstance(more, str) else more(number)]
        lines += row
    return lines


def _more(rows: Sequence[Mapping[str, Any]], noun: str) -> Any:
    """The line about the rows from a number on: how many there are, by state."""

    def line(number: int) -> str:
        states = Counter(row["state"] for row in rows[number:])
        count = len(rows) - number
        named = ", ".join(f"{many} {state}" for state, many in states.most_common())
        return f"    and {count:,} more {noun if count == 1 else f'{noun}s'}: {named}"

    return line


def _parts(found: Mapping[str, Any], terminal: Terminal) -> Parts:
    now = time.time()
    running = found["daemon"] or "no daemon is running"
    sentences = [
        terminal.paragraph(_local(_safe(each.text), terminal), each.tone) for each in _sentences(found)
    ]
    space, paint = terminal.columns, terminal.paint
    return Parts(
        terminal.paragraph(_local(running, terminal), "dim"),
        table(SOURCES, [_source(row, found, terminal, now) for row in found["sources"]], space, paint),
        table(SINKS, [_sink(row, found, now) for row in found["sinks"]], space, paint),
        table(WORKERS, [_worker(row, now) for row in found.get("workers", ())], space, paint),
        sentences,
    )


def _safe(text: str) -> str:
    """The text with everything unprintable escaped, but for the spaces of ours at which no line is wrapped."""
    return KEPT.join(map(safe, text.split(KEPT)))


def _local(text: str, terminal: Terminal) -> str:
    """A text of ours with its times as the terminal shows them."""
    return TIME.sub(lambda found: kept(terminal.moment(found[0])), text)


def _source(row: Mapping[str, Any], found: Mapping[str, Any], terminal: Terminal, now: float) -> list[Cell]:
    due = unix(row["due"])
    soon = due is None or due < now + 0.5
    # Without a daemon, nothing visits it.
    idle = row["state"] in {"retired", "paused"} or (soon and not found["daemon"])
    return [
        Cell(safe(row["name"])),
        Cell(row["state"], TONES.get(row["state"], "dim")),
        _holder(row, found),
        Cell(since(unix(row["answered"]), now) or "never"),
        Cell(since(unix(row["changed"]), now) or "never"),
        Cell("-" if idle else "now" if soon else since(due, now)),
        Cell((since(unix(row["heard"]), now) or "never") if row["webhooks"] else ""),
        Cell(str(row["failures"] or ""), "yellow"),
        Cell(share(row["unchanged_share"]) if row["answered"] else ""),
        Cell(f"{row['events']:,}"),
        Cell(_work(row, terminal), "" if row["following"] or row["reading"] is not None else "dim"),
    ]


def _work(row: Mapping[str, Any], terminal: Terminal) -> str:
    """What a source is doing over several visits."""
    if row["state"] == "retired":
        return ""
    work = []
    if row["reading"] is not None:
        at = safe(terminal.moment(row["reading"])) if row["reading"] else ""
        work.append(f"reading, at {at}" if at else "reading")
    if row["following"]:
        work.append(f"follows {row['following']:,}")
    elif row["tracks"]:
        work.append("nothing to follow")
    return ", ".join(work)


def _holder(row: Mapping[str, Any], found: Mapping[str, Any]) -> Cell:
    """The worker that visits a source, or delivers to a sink; empty if the store is not shared."""
    if row["worker"] is not None:
        return Cell(safe(row["worker"]))
    return Cell("none", "yellow") if found.get("workers") and row["state"] != "retired" else Cell("")


def _sink(row: Mapping[str, Any], found: Mapping[str, Any], now: float) -> list[Cell]:
    oldest = unix(row["oldest"])
    return [
        Cell(safe(row["name"])),
        Cell(row["state"], TONES.get(row["state"], "dim")),
        _holder(row, found),
        Cell(since(unix(row["delivered"]), now) or "never"),
        Cell(f"{row['waiting']:,}"),
        Cell(age(now - oldest) if oldest else ""),
        Cell(f"{row['dead']:,}", "red" if row["dead"] else ""),
    ]


def _worker(row: Mapping[str, Any], now: float) -> list[Cell]:
    return [
        Cell(safe(row["name"])),
        Cell(row["state"], "green" if row["state"] == "ok" else "yellow"),
        Cell(since(unix(row["since"]), now) or ""),
        Cell(since(unix(row["beat"]), now) or ""),
        Cell(f"{row['sources']:,}"),
        Cell(f"{row['sinks']:,}"),
        Cell(safe(row["version"])),
    ]


def _sentences(found: Mapping[str, Any]) -> Iterator[Sentence]:
    """What needs a look, the most urgent first."""
    for key in ("trouble", "damage"):
        if found[key]:
            yield Sentence(found[key], "red")
    for line in [*remarks(found.get("workers", ())), *unheld(found)]:
        yield Sentence(line, "yellow")
    for row in [*found["sources"], *found["sinks"]]:
        if row["error"] and row["state"] not in {"retired", "paused"}:
            yield Sentence(f"{row['name']}: {row['error']}", "red")
    for row in found["sinks"]:
        if row["held"] and row["state"] != "retired":
            yield Sentence(f"{row['name']}: {row['held']:,} gathered, {_when_sent(row)}", "dim")
    for line in _paused(found):
        yield Sentence(line, "yellow")
    for row in found["sources"]:
        name = row["name"]
        if row["unread"]:
            shows = kept(f"roundsman unread {name}")
            yield Sentence(f"{name}: {row['unread']:,} could not be read and are kept: {shows}", "yellow")
        if row["state"] != "retired":
            yield from (Sentence(line, "yellow") for line in _remarks(row))
        if row["refused"]:
            noun = "webhook was" if row["refused"] == 1 else "webhooks were"
            yield Sentence(
                f"{name}: {row['refused']:,} {noun} refused, the last one: {row['refusal']}", "dim"
            )
    for row in found["sinks"]:
        if row["dead"]:
            noun = "event was" if row["dead"] == 1 else "events were"
            shows = kept(f"roundsman dead list {row['name']}")
            since = f" since {row['dead_since']}" if row["dead_since"] else ""
            every = "it refuses all events; " if row["state"] == "refusing" else ""
            words = f"{row['dead']:,} {noun} refused for good{since}"
            yield Sentence(f"{row['name']}: {every}{words}: {shows}", "red")
    if count := found["open_failures"]:
        noun = "failure is" if count == 1 else "failures are"
        yield Sentence(f"{count:,} {noun} open: {kept('roundsman failures')}", "yellow")


def _when_sent(row: Mapping[str, Any]) -> str:
    return {
        "failing": "sent once it works again",
        "paused": "sent after the pause",
    }.get(row["state"], f"sent at {row['until']}")


def _paused(found: Mapping[str, Any]) -> Iterator[str]:
    """A line for each source and sink that is paused, also one that is not in the configuration now."""
    both = {row["name"] for row in found["sources"]} & {row["name"] for row in found["sinks"]}
    for kind in ("source", "sink"):
        for row in found[f"{kind}s"]:
            if row["paused"]:
                option = f" --{kind}" if row["name"] in both else ""
                name, who = row["name"], row["paused_by"]
                ends = kept(f"roundsman resume {name}{option}")
                yield f"{name}: paused by {who} since {row['paused']}: {ends}"


def _remarks(row: Mapping[str, Any]) -> Iterator[str]:
    """Warnings about a source that is not failing: a gap, a long backoff, a changed origin."""
    name = row["name"]
    shows = kept(f"roundsman events --source {name} --type {GAP}")
    if row["gap"]:
        yield f"{name}: gap since {row['gap']}: rows may be missing; details: {shows}"
    elif row["gap_reported"]:
        yield f"{name}: a gap was reported at {row['gap_reported']}; details: {shows}"
    if row["rests_until"]:
        yield f"{name}: the vendor asked for no request until {row['rests_until']}"
    if row["reads"]:
        yield f"{name}: {another_origin(name, row['origin'], row['reads'])}"
