"""Charts as SVG: values in, text out.

An SVG has no style and no script, as the page's Content-Security-Policy demands. The stylesheet of the page has to
set, for `svg.chart` and inside it:

    text            font-size 10px, and `fill`: the colour of quiet text
    .c-grid         `stroke`: the lines behind the values
    .t-bad .t-warn .t-good .t-plain
                    `color`: bars and swatches of failures, warnings, good results and all else; 3:1 against the page.
                    Patterns are made of it and of the page's own colour.
    .t-paper        `color`: the colour of the page
    .t-line         `color`: the lines of durations, and the band between them
    .c-hit          transparent: the pointer's place over each hour or day; `:hover` may tint it

The width is 360 units, so that an SVG that is 358 pixels wide, on a small phone, has text of 10 pixels.
"""

from collections.abc import Iterable, Sequence
from html import escape
from itertools import groupby
from math import log10
from typing import NamedTuple

from roundsman.masking import safe
from roundsman.web.page.scales import Slot, decades, lasting, short, steps, whole
from roundsman.web.page.series import Bars, Line, Look

WIDTH, LEFT, RIGHT = 360.0, 40.0, 356.0
"""The width of a chart, and where its values begin and end."""
ROW, PLOT, FOOT = 14.0, 100.0, 18.0
"""The heights of a line of the legend, of the values, and of the labels below them."""
LETTER = 5.6
"""The width of a letter, for breaking the legend into lines."""
LEAST = 1.5
"""The least height of a bar, so that one failure among a thousand events is seen."""
DRAWN = {
    "stripes": '<path d="M-1 1l2-2M0 4l4-4M3 5l2-2" stroke="currentColor" stroke-width="1.5"/>',
    "dots": '<circle cx="1" cy="1" r=".9" fill="currentColor"/><circle cx="3" cy="3" r=".9" fill="currentColor"/>',
    "lines": '<path d="M0 1h4M0 3h4" stroke="currentColor" stroke-width="1"/>',
}
"""What is drawn on a square of 4 units."""


class Chart(NamedTuple):
    """A chart, and its numbers as a table."""

    title: str
    svg: str
    """Markup: texts in it are escaped."""
    head: Sequence[str] = ()
    """The heads of the table's columns; empty if there is no data."""
    rows: Sequence[Sequence[str]] = ()
    """The rows of the table as plain text, newest first: the hour or day, and a number for each series."""


class Frame(NamedTuple):
    """What a chart is about."""

    key: str
    """Unique on the page; for ids."""
    title: str
    about: str
    """Title and name in words, for a screen reader."""
    slots: Sequence[Slot]
    nothing: str = "no data yet"
    """What is said without any value."""
    note: str = ""
    """Said in the legend after the series."""


# -- bars --------------------------------------------------------------------------------------------------------------


def bars(frame: Frame, series: Sequence[Bars]) -> Chart:
    """Numbers by hour or day, the series on each other."""
    if not series:
        return _without_data(frame)
    sums = [sum(values) for values in zip(*(each.values for each in series), strict=True)]
    ticks = steps(max(sums))
    legend, top = _legend(frame, [(_swatch(frame, each.look), each.named) for each in series])
    bottom = top + PLOT
    unit = PLOT / ticks[-1]
    axis = "".join(_gridline(bottom - tick * unit, short(tick)) for tick in ticks)
    step = (RIGHT - LEFT) / len(frame.slots)
    drawn = []
    heights = [0.0] * len(frame.slots)
    for each in series:
        path = ""
        edge = ""
        for number, value in enumerate(each.values):
            if value:
                height = max(LEAST, value * unit)
                heights[number] += height
                x, y = LEFT + number * step + step * 0.1, bottom - heights[number]
                path += f"M{x:.1f} {y:.1f}h{step * 0.8:.1f}v{height:.1f}h-{step * 0.8:.1f}z"
                edge += f"M{x:.1f} {y + 0.5:.1f}h{step * 0.8:.1f}"
        tone = f'class="t-{each.look.tone}"'
        drawn.append(f'<path {tone} {_fill(frame, each.look)} d="{path}"/>')
        if each.look.pattern == "pale":
            drawn.append(f'<path {tone} stroke="currentColor" d="{edge}"/>')
    texts = [
        ", ".join(f"{whole(each.values[number])} {each.look.word}" for each in series if each.values[number])
        for number in range(len(frame.slots))
    ]
    said = f"{'; '.join(each.named for each in series)}. {_most(frame, sums)}"
    body = [*_patterns(frame, series), legend, axis, *drawn, *_hits(frame, texts, top)]
    columns = [(each.look.word, [whole(value) for value in each.values]) for each in series]
    return _chart(frame, said, body, bottom, columns)


def _most(frame: Frame, sums: Sequence[int]) -> str:
    most = max(sums)
    return f"Most: {whole(most)}, {frame.slots[sums.index(most)].label}."


def _fill(frame: Frame, look: Look) -> str:
    """The attributes of an area."""
    if look.pattern in DRAWN:
        return f'fill="url(#{frame.key}-{look.tone}-{look.pattern})"'
    return 'fill="currentColor"' + (' fill-opacity=".3"' if look.pattern == "pale" else "")


def _patterns(frame: Frame, series: Sequence[Bars]) -> list[str]:
    """The patterns of these series, each with an id of its own: several charts are on one page."""
    looks = {(each.look.tone, each.look.pattern) for each in series if each.look.pattern in DRAWN}
    return [
        f'<pattern id="{frame.key}-{tone}-{pattern}" width="4" height="4" patternUnits="userSpaceOnUse">'
        f'<rect class="t-paper" width="4" height="4" fill="currentColor"/><g class="t-{tone}">{DRAWN[pattern]}</g></pattern>'
        for tone, pattern in sorted(looks)
    ]


def _swatch(frame: Frame, look: Look) -> str:
    """The mark of a series in the legend, at the place of its line."""
    return f'<rect class="t-{look.tone}" {_fill(frame, look)} stroke="currentColor" stroke-width=".8" x="0" y="-8" width="9" height="9"/>'


# -- lines -------------------------------------------------------------------------------------------------------------


def lines(frame: Frame, series: Sequence[Line]) -> Chart:
    """The median and the 95th percentile of durations by hour or day, on a scale of decades."""
    values = [value for each in series for value in each.values if value is not None]
    if not values:
        return _without_data(frame)
    powers = decades(values)
    named = [f"{each.word} {lasting(each.whole)}" for each in series]
    marks = [_dash(number) for number in range(len(series))]
    legend, top = _legend(frame, list(zip(marks, named, strict=True)))
    bottom = top + PLOT
    unit = PLOT / (powers[-1] - powers[0])

    def y(value: float) -> float:
        return bottom - (max(powers[0], log10(max(value, 1e-9))) - powers[0]) * unit

    axis = "".join(_gridline(bottom - (power - powers[0]) * unit, _decade(power)) for power in powers)
    step = (RIGHT - LEFT) / len(frame.slots)
    drawn = []
    points = [
        [
            (LEFT + (n + 0.5) * step, y(value)) if value is not None else None
            for n, value in enumerate(each.values)
        ]
        for each in series
    ]
    if len(points) == 2:  # the band between the two
        for run in _runs(zip(*points, strict=True)):
            edge = [low for low, _ in run] + [high for _, high in reversed(run)]
            drawn.append(f'<path class="t-line" fill="currentColor" fill-opacity=".15" d="M{_path(edge)}z"/>')
    for number, line in enumerate(points):
        dashed = ' stroke-dasharray="4 2.5"' if number else ""
        for run in _runs([(each,) for each in line]):
            places = [place for [place] in run]
            if len(places) == 1:
                drawn.append(
                    f'<circle class="t-line" fill="currentColor" cx="{places[0][0]:.1f}" cy="{places[0][1]:.1f}" r="1.6"/>'
                )
            else:
                drawn.append(
                    f'<path class="t-line" fill="none" stroke="currentColor" stroke-width="1.5"{dashed} d="M{_path(places)}"/>'
                )
    columns = [
        (each.word, ["" if value is None else lasting(value) for value in each.values]) for each in series
    ]
    texts = [
        ", ".join(f"{word} {column[number]}" for word, column in columns if column[number])
        for number in range(len(frame.slots))
    ]
    said = f"Over the whole time: {', '.join(named)}. {_worst(frame, series[-1])} The scale is logarithmic."
    return _chart(frame, said, [legend, axis, *drawn, *_hits(frame, texts, top)], bottom, columns)


def _dash(number: int) -> str:
    """The mark of a line in the legend: the first one is whole, the second one dashed."""
    dashed = ' stroke-dasharray="4 2.5"' if number else ""
    return (
        f'<path class="t-line" fill="none" stroke="currentColor" stroke-width="1.5"{dashed} d="M-3 -3h13"/>'
    )


def _worst(frame: Frame, line: Line) -> str:
    worst, at = max((value, number) for number, value in enumerate(line.values) if value is not None)
    return f"Largest {line.word}: {lasting(worst)}, {frame.slots[at].label}."


def _runs(
    places: Iterable[tuple[tuple[float, float] | None, ...]],
) -> list[list[tuple[tuple[float, float], ...]]]:
    """Places that follow on each other without a gap."""
    found = []
    for there, run in groupby(places, key=lambda each: None not in each):
        if there:
            found.append([tuple(place for place in each if place is not None) for each in run])
    return found


def _path(places: Sequence[tuple[float, float]]) -> str:
    return "L".join(f"{x:.1f} {y:.1f}" for x, y in places)


def _decade(power: int) -> str:
    return f"{10 ** (power + 3)} ms" if power < 0 else f"{10**power} s"


# -- what all charts have ----------------------------------------------------------------------------------------------


def _chart(
    frame: Frame,
    said: str,
    body: Iterable[str],
    bottom: float,
    columns: Sequence[tuple[str, Sequence[str]]] = (),
) -> Chart:
    """The chart with this content, whose values end at `bottom`. `columns`: of the table, each with its head."""
    about = _text(frame.about)
    desc = _text(f"{said} {frame.note[:1].upper()}{frame.note[1:]}." if frame.note else said)
    svg = (
        f'<svg class="chart" viewBox="0 0 {WIDTH:g} {bottom + FOOT:g}" role="img" aria-labelledby="{frame.key}-t {frame.key}-d">'
        f'<title id="{frame.key}-t">{about}</title><desc id="{frame.key}-d">{desc}</desc>{"".join(body)}{_times(frame, bottom)}</svg>'
    )
    if not columns:
        return Chart(frame.title, svg)
    head = [frame.slots[0].span.capitalize(), *(word for word, _ in columns)]
    rows = [*zip((slot.label for slot in frame.slots), *(column for _, column in columns), strict=True)]
    return Chart(frame.title, svg, head, rows[::-1])


def _without_data(frame: Frame) -> Chart:
    top, bottom = ROW, ROW + PLOT / 2
    said = f'<text x="{(LEFT + RIGHT) / 2:g}" y="{(top + bottom) / 2:g}" text-anchor="middle">{_text(frame.nothing)}</text>'
    return _chart(frame, f"{frame.nothing.capitalize()}.", [_gridline(bottom, ""), said], bottom)


def _legend(frame: Frame, entries: Sequence[tuple[str, str]]) -> tuple[str, float]:
    """The series with their marks and numbers, in as many lines as they need; and where the values begin."""
    x, y, drawn = LEFT, ROW - 4, []
    for mark, text in [*entries, *([("", frame.note)] if frame.note else [])]:
        wide = (14 if mark else 0) + len(text) * LETTER
        if x > LEFT and x + wide > RIGHT:
            x, y = LEFT, y + ROW
        drawn.append(
            f'<g transform="translate({x:.1f} {y:.1f})">{mark}<text x="{14 if mark else 0}">{_text(text)}</text></g>'
        )
        x += wide + 12
    return "".join(drawn), y + 8


def _gridline(y: float, label: str) -> str:
    return (
        f'<path class="c-grid" d="M{LEFT:g} {y:.1f}H{RIGHT:g}"/>'
        f'<text x="{LEFT - 4:g}" y="{y + 3.5:.1f}" text-anchor="end">{_text(label)}</text>'
    )


def _times(frame: Frame, bottom: float) -> str:
    """The labels of the hours or days, and their time zone. A label at an edge is moved inwards."""
    step = (RIGHT - LEFT) / len(frame.slots)
    found = [f'<text x="{LEFT - 4:g}" y="{bottom + 13:.1f}" text-anchor="end">UTC</text>']
    for number, slot in enumerate(frame.slots):
        if slot.tick:
            x = LEFT + number * step
            anchor = "start" if x < LEFT + 14 else "middle" if x < RIGHT - 14 else "end"
            found.append(
                f'<path class="c-grid" d="M{x:.1f} {bottom:.1f}v3"/>'
                f'<text x="{min(x, RIGHT):.1f}" y="{bottom + 13:.1f}" text-anchor="{anchor}">{_text(slot.tick)}</text>'
            )
    return "".join(found)


def _hits(frame: Frame, texts: Sequence[str], top: float) -> list[str]:
    """For the pointer: the numbers of each hour and day."""
    step = (RIGHT - LEFT) / len(frame.slots)
    return [
        f'<rect class="c-hit" fill="none" pointer-events="all" x="{LEFT + number * step:.1f}" y="{top:g}" width="{step:.1f}" '
        f'height="{PLOT:g}"><title>{_text(f"{frame.slots[number].label}: {text}")}</title></rect>'
        for number, text in enumerate(texts)
        if text
    ]


def _text(text: str) -> str:
    return escape(safe(text))
