"""The charts of the page: right numbers in shapes, in words and in a table, and nothing that a name could add."""

import re
from datetime import UTC, datetime
from itertools import pairwise
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, strategies as st

from roundsman.shapes import OUTCOMES as MEANINGS
from roundsman.store.tally import Tally, bucket, window
from roundsman.web.page import charts
from roundsman.web.page.charted import Counted, of_sink, of_source
from roundsman.web.page.charts import LEAST, PLOT, Chart
from roundsman.web.page.scales import decades, lasting, short, slots, steps
from roundsman.web.page.series import OUTCOMES, POLLS, stacked

NOW = datetime(2026, 11, 29, 7, 40, tzinfo=UTC).timestamp()
HOURS = [number * 3600.0 for number in window("hour", NOW)]
SVG = "{http://www.w3.org/2000/svg}"
KNOWN = {*re.findall(r"\.([ct]-[a-z]+)", charts.__doc__ or ""), "chart"}
"""The classes that `charts.py` documents for the stylesheet."""


def source(**hours: dict[str, int]) -> list[Chart]:
    """The charts of a source by hour. `h3`: the fourth of the 48 hours."""
    tallies = [Tally(HOURS[int(name[1:])], counts) for name, counts in hours.items()]
    [by_hour, _] = of_source(Counted("doors", tallies, []), NOW)
    return list(by_hour.charts)


def parsed(chart: Chart) -> ET.Element:
    return ET.fromstring(chart.svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1))


def words(chart: Chart) -> str:
    """What a screen reader says."""
    root = parsed(chart)
    ids = root.attrib["aria-labelledby"].split()
    return " ".join(element.text or "" for key in ids for element in root.iter() if element.get("id") == key)


def shapes(chart: Chart, tone: str) -> list[tuple[float, float]]:
    """The bars of a tone: where each begins at its bottom, and its height."""
    found = []
    for path in parsed(chart).iter(f"{SVG}path"):
        if path.get("class") == f"t-{tone}" and path.get("d", "").endswith("z"):
            for _, top, height in re.findall(r"M([\d.]+) ([\d.]+)h[\d.]+v([\d.]+)", path.attrib["d"]):
                found.append((float(top) + float(height), float(height)))
    return found


def every_chart() -> list[Chart]:
    """Charts with every look that there is."""
    counts = {f"event.{name}": 5 for name in (*OUTCOMES, "odd", "<odd>")} | {
        f"poll.{name}": 3 for name in POLLS
    }
    counts |= {f"{group}.{n}": 1 for group in ("latency", "lateness") for n in (2, 9, 30)}
    counts |= {"request": 9, "request.304": 4, "lag": 3, "delivered": 5, "failed": 1}
    tallies = [Tally(HOURS[n], counts) for n in (1, 2, 3, 40, 47)]
    groups = [*of_source(Counted("doors", tallies, []), NOW), *of_sink(Counted("archive", tallies, []), NOW)]
    return [chart for group in groups for chart in group.charts]


def test_the_numbers_are_in_shapes_in_words_and_in_a_table() -> None:
    events, *_ = source(h3={"event.failed": 20, "event.succeeded": 80}, h47={"event.failed": 50})
    assert words(events) == (
        "Events by outcome, doors, last 48 hours failed 70; succeeded 80. Most: 100, Fri 27 Nov 11:00."
    )
    assert events.head == ["Hour", "failed", "succeeded"]
    assert [row for row in events.rows if row[1:] != ("0", "0")] == [
        ("Sun 29 Nov 07:00", "50", "0"),
        ("Fri 27 Nov 11:00", "20", "80"),
    ]
    [(bottom, _), _] = failed = shapes(events, "bad")
    assert [height for _, height in failed] == pytest.approx([PLOT * 0.2, PLOT * 0.5])
    assert {at for at, _ in failed} == {bottom}, "what failed begins at zero"
    assert shapes(events, "good") == [(pytest.approx(bottom - PLOT * 0.2), pytest.approx(PLOT * 0.8))]


def test_one_failure_among_thousands_of_events_is_seen() -> None:
    events, *_ = source(h3={"event.failed": 1, "event.succeeded": 99_999})
    assert [height for _, height in shapes(events, "bad")] == [LEAST]


def test_the_polls_say_how_many_requests_were_answered_304() -> None:
    _, polls, *_ = source(h5={"poll.unchanged": 60, "request": 1200, "request.304": 1188})
    assert ">99 % of 1,200 requests answered 304</text>" in polls.svg
    assert words(polls).endswith("99 % of 1,200 requests answered 304.")
    _, polls, *_ = source(h5={"poll.new": 1, "request": 1})
    assert "0 % of 1 request answered 304" in polls.svg


def test_the_lines_say_median_and_95th_percentile_and_stop_where_nothing_was_counted() -> None:
    slow = {f"latency.{bucket(0.08)}": 90, f"latency.{bucket(4.0)}": 10}
    *_, time, late = source(h1=slow, h2=slow, h3=slow, h10=slow, h20=slow, h21=slow)
    said = words(time)
    assert re.search(r"median 8\d ms, 95th percentile 4\.\d s\. Largest 95th percentile: 4\.\d s, ", said), (
        said
    )
    drawn = [
        path.attrib["d"] for path in parsed(time).iter(f"{SVG}path") if path.get("stroke-width") == "1.5"
    ]
    assert sorted(path.count("L") for path in drawn if "h13" not in path) == [1, 1, 2, 2]
    assert len(list(parsed(time).iter(f"{SVG}circle"))) == 2, "one hour alone is a dot of each line"
    assert words(late).endswith("None.")


def test_without_data_a_chart_says_so_in_words() -> None:
    [hours, days] = of_source(Counted("doors", [], []), NOW)
    for chart in (*hours.charts, *days.charts):
        assert words(chart).endswith("No data yet.")
        assert ">no data yet</text>" in chart.svg
        assert (chart.head, chart.rows) == ((), ())
    events, *_ = source(h1={"poll.unchanged": 3})
    assert words(events).endswith("None."), "something was counted, but no event"


def test_what_waited_for_a_sink_is_no_sum() -> None:
    tallies = [Tally(HOURS[n], {"lag": lag}) for n, lag in ((1, 400), (2, 7000), (3, 20))]
    [hours, _] = of_sink(Counted("archive", tallies, []), NOW)
    assert "waiting, at most 7,000" in words(hours.charts[0])


@pytest.mark.parametrize(
    "hostile", ["<script>alert(1)</script>\"&'", "</desc></svg><h1>x", "\x1b[31mred\u202e", "\ud800", "]]>"]
)
def test_a_hostile_name_or_outcome_is_only_text(hostile: str) -> None:
    tallies = [Tally(HOURS[4], {f"event.{hostile}": 3})]
    [hours, _] = of_source(Counted(hostile, tallies, []), NOW)
    for chart in hours.charts:
        root = parsed(chart)
        tags = {element.tag.removeprefix(SVG) for element in root.iter()}
        assert tags <= {"svg", "title", "desc", "text", "path", "g", "rect", "pattern", "circle"}
        assert "\x1b" not in chart.svg
        assert "\u202e" not in chart.svg


def test_nothing_in_a_chart_is_forbidden_by_the_content_security_policy() -> None:
    for chart in every_chart():
        for element in parsed(chart).iter():
            assert element.tag.removeprefix(SVG) not in {"style", "script", "image", "use", "a"}
            assert not {"style", "href"} & element.attrib.keys()
            assert not any(name.startswith("on") for name in element.attrib)
            assert not any(re.search(r"url\((?!#)", value) for value in element.attrib.values())


def test_every_class_is_documented_for_the_stylesheet() -> None:
    used = {
        name
        for chart in every_chart()
        for each in parsed(chart).iter()
        for name in each.get("class", "").split()
    }
    assert used == KNOWN


def test_ids_are_unique_on_a_page_and_lead_somewhere() -> None:
    ids = [
        each.attrib["id"] for chart in every_chart() for each in parsed(chart).iter() if "id" in each.attrib
    ]
    assert len(ids) == len(set(ids))
    for chart in every_chart():
        assert set(re.findall(r"url\(#([^)]*)\)", chart.svg)) <= set(ids)


def test_no_series_of_a_chart_is_known_by_its_colour_alone() -> None:
    assert OUTCOMES.keys() - {""} == MEANINGS.keys(), "each outcome has a look"
    tallies = [Tally(NOW, {f"event.{name}": 1 for name in (*OUTCOMES, "odd")})]
    found = [each.look for each in stacked(tallies, "event", OUTCOMES)]
    assert len({(look.tone, look.pattern) for look in found}) == len(found)
    for chart in every_chart():
        for word in chart.head[1:]:
            assert word.replace("<odd>", "&lt;odd&gt;") in chart.svg, (
                "each has its word and number in the legend"
            )


def test_each_hour_says_its_numbers_to_the_pointer() -> None:
    events, *_ = source(h3={"event.failed": 2, "event.partial": 1})
    titles = [
        each.findtext(f"{SVG}title")
        for each in parsed(events).iter(f"{SVG}rect")
        if each.get("class") == "c-hit"
    ]
    assert titles == ["Fri 27 Nov 11:00: 2 failed, 1 partial"]


# -- axes --------------------------------------------------------------------------------------------------------------


def test_hours_and_days_are_named_in_utc() -> None:
    hours = slots("hour", NOW)
    assert (len(hours), hours[0].label, hours[-1].label) == (48, "Fri 27 Nov 08:00", "Sun 29 Nov 07:00")
    assert [slot.tick for slot in hours if slot.tick] == ["12:00", "Sat 28", "12:00", "Sun 29"]
    days = slots("day", NOW)
    assert (len(days), days[0].label, days[-1].label) == (35, "Mon 26 Oct", "Sun 29 Nov")
    assert [slot.tick for slot in days if slot.tick] == ["26 Oct", "2 Nov", "9 Nov", "16 Nov", "23 Nov"]


@given(st.integers(1, 10**12))
def test_steps_are_round_and_few_and_reach_the_largest_number(largest: int) -> None:
    found = steps(largest)
    assert found[0] == 0
    assert found[-2] < largest <= found[-1]
    assert len(found) <= 5
    [step] = {high - low for low, high in pairwise(found)}
    assert re.fullmatch(r"(1|2|5)0*", str(step))


@given(st.lists(st.floats(0, 1e4), min_size=1))
def test_decades_hold_every_duration(values: list[float]) -> None:
    found = decades(values)
    assert len(found) >= 3
    assert found == list(range(found[0], found[-1] + 1))
    assert all(10.0 ** found[0] <= max(value, 1e-3) <= 10.0 ** found[-1] * 1.0001 for value in values)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0004, "0.4 ms"),
        (0.00996, "10 ms"),
        (0.0843, "84 ms"),
        (0.999, "1000 ms"),
        (2.44, "2.4 s"),
        (44.4, "44 s"),
        (690, "12 min"),
    ],
)
def test_a_duration_has_two_digits_that_count(seconds: float, text: str) -> None:
    assert lasting(seconds) == text


def test_large_numbers_are_short_on_an_axis() -> None:
    assert [short(n) for n in (0, 950, 1200, 50_000, 2_500_000, 3 * 10**9)] == [
        "0",
        "950",
        "1.2k",
        "50k",
        "2.5M",
        "3G",
    ]
