"""Writes contrib/grafana/roundsman.json, the dashboard for Grafana: `python docs/tools/dashboard.py`.

A dashboard in JSON has a hundred lines for each panel, and most of them are the same. Here a panel is a few lines:
its title, its queries, each with a legend, and its unit.
"""

import json
from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

FILE = Path(__file__).parents[2] / "contrib" / "grafana" / "roundsman.json"
SCHEMA = 39
"""Grafana 11's version of this JSON. Later ones bring it up to date as they read it."""
WIDTH = 24
"""Columns of a row."""
PROMETHEUS = {"type": "prometheus", "uid": "${datasource}"}
ALL = 'instance=~"$instance"'
SOURCE, SINK = f'{ALL}, source=~"$source"', f'{ALL}, sink=~"$sink"'
UNCHANGED = f'{ALL}, status="304"'
GREEN, YELLOW, RED, BLUE = "green", "yellow", "red", "blue"


class Panel(NamedTuple):
    """A panel. Its queries: expression -> legend."""

    title: str
    queries: Mapping[str, str]
    unit: str = "short"
    kind: str = "timeseries"
    about: str = ""
    """The help of the panel."""
    width: int = 8
    stacked: bool = False
    bad: float | None = None
    """The value from which on it is red."""
    states: Mapping[int, tuple[str, str]] = {}
    """Values that are states: each has a text and a colour."""


class Row(NamedTuple):
    """A row of panels under a title."""

    title: str
    panels: tuple[Panel, ...]


def rate(metric: str, labels: str) -> str:
    return f"rate({metric}{{{labels}}}[$__rate_interval])"


def by_source(what: str) -> str:
    """A gauge of each source, over all daemons that have one of this name."""
    return f"max by (source) (roundsman_source_{what}{{{SOURCE}}})"


def quantiles(metric: str, labels: str, by: str = "") -> dict[str, str]:
    """The median and the 99th percentile of a histogram."""
    buckets = f"sum by (le{by and f', {by}'}) ({rate(f'{metric}_bucket', labels)})"
    legend = f" {{{{{by}}}}}" if by else ""
    return {f"histogram_quantile({q}, {buckets})": f"p{q * 100:g}{legend}" for q in (0.5, 0.99)}


def stat(title: str, expression: str, about: str, *, bad: float | None = 1, unit: str = "short") -> Panel:
    return Panel(title, {expression: ""}, unit, "stat", about, 3, bad=bad)


REQUESTS = "roundsman_http_requests_total"
OK, GAP, FAILING, PAUSED = ("ok", GREEN), ("gap", YELLOW), ("failing", RED), ("paused", BLUE)
ROWS = (
    Row(
        "Overview",
        (
            stat("Daemons", f"sum(roundsman_build_info{{{ALL}}})", "Daemons that answer.", bad=None),
            stat(
                "Sources failing",
                f"sum(roundsman_source_failing{{{SOURCE}}})",
                "`roundsman help source-failing`",
            ),
            stat("Gaps", f"sum(roundsman_source_gap{{{SOURCE}}})", "`roundsman help gap`"),
            stat("Sinks failing", f"sum(roundsman_sink_failing{{{SINK}}})", "`roundsman help sink-failing`"),
            stat(
                "Open failures",
                f"sum(roundsman_source_open_failures{{{SOURCE}}})",
                "What vendors refused: `roundsman failures`",
            ),
            stat("Unread", f"sum(roundsman_source_unread{{{SOURCE}}})", "`roundsman help unread`"),
            stat(
                "Dead letters", f"sum(roundsman_sink_dead_letters{{{SINK}}})", "`roundsman help dead-letters`"
            ),
            stat(
                "Stores failing", f"sum(roundsman_store_failing{{{ALL}}})", "`roundsman help store-damaged`"
            ),
        ),
    ),
    Row(
        "Sources",
        (
            Panel(
                "State of each source",
                {
                    f"clamp_max(clamp_max(2 * {by_source('failing')} + ({by_source('gap')} or 0 * {by_source('failing')}), 2) "
                    f"+ 3 * {by_source('paused')}, 3)": "{{source}}"
                },
                kind="state-timeline",
                about="A gap: rows may be missing. Paused: by a person.",
                states={0: OK, 1: GAP, 2: FAILING, 3: PAUSED},
            ),
            Panel(
                "Last good answer",
                {f"roundsman_source_answered_age_seconds{{{SOURCE}}}": "{{source}}"},
                "s",
                about="Time since then. A source that has nothing to ask about gets no answer: see the next panel.",
            ),
            Panel(
                "Time without an answer",
                {f"roundsman_source_unanswered_seconds{{{SOURCE}}}": "{{source}}"},
                "s",
                about="Since the first request without a good answer.",
            ),
            Panel(
                "Polls by result",
                {f"sum by (result) ({rate('roundsman_polls_total', SOURCE)})": "{{result}}"},
                "reqps",
                stacked=True,
            ),
            Panel(
                "New events by source",
                {f"sum by (source) ({rate('roundsman_events_total', SOURCE)})": "{{source}}"},
                "cps",
                stacked=True,
            ),
            Panel(
                "New events by what brought them",
                {f"sum by (via) ({rate('roundsman_events_total', SOURCE)})": "{{via}}"},
                "cps",
                about="push: the webhook itself. ring: a visit that a webhook started. poll: a scheduled visit.",
                stacked=True,
            ),
            Panel(
                "Sources that read a backlog",
                {f"sum by (source) (roundsman_source_backlog{{{SOURCE}}})": "{{source}}"},
                stacked=True,
            ),
            Panel(
                "Rows of the backlog read so far",
                {f"roundsman_source_backlog_rows{{{SOURCE}}}": "{{source}}"},
            ),
            Panel(
                "Interval",
                {f"roundsman_source_interval_seconds{{{SOURCE}}}": "{{source}}"},
                "s",
                about="As configured.",
            ),
        ),
    ),
    Row(
        "Failures",
        (
            Panel(
                "Open failures",
                {f"sum by (source) (roundsman_source_open_failures{{{SOURCE}}})": "{{source}}"},
                about="What vendors refused, and is not marked as done.",
                width=12,
                stacked=True,
            ),
            Panel(
                "Unread webhooks and rows",
                {f"sum by (source) (roundsman_source_unread{{{SOURCE}}})": "{{source}}"},
                width=12,
                stacked=True,
            ),
        ),
    ),
    Row(
        "Sinks",
        (
            Panel(
                "State of each sink",
                {
                    f"clamp_max(max by (sink) (roundsman_sink_failing{{{SINK}}}) "
                    f"+ 2 * max by (sink) (roundsman_sink_paused{{{SINK}}}), 2)": "{{sink}}"
                },
                kind="state-timeline",
                about="Paused: by a person.",
                states={0: OK, 1: FAILING, 2: PAUSED},
            ),
            Panel("Events that wait", {f"roundsman_sink_waiting_events{{{SINK}}}": "{{sink}}"}),
            Panel("Age of the oldest", {f"roundsman_sink_oldest_age_seconds{{{SINK}}}": "{{sink}}"}, "s"),
            Panel("Dead letters", {f"roundsman_sink_dead_letters{{{SINK}}}": "{{sink}}"}),
            Panel(
                "Events sent later",
                {f"roundsman_sink_held_events{{{SINK}}}": "{{sink}}"},
                about="A sink has taken them, and sends them later on purpose, such as the digest of `notify`.",
            ),
            Panel(
                "Deliveries that failed",
                {f"sum by (sink) ({rate('roundsman_sink_failures_total', SINK)})": "{{sink}}"},
                "cps",
            ),
        ),
    ),
    Row(
        "Requests",
        (
            Panel(
                "By status",
                {f"sum by (status) ({rate(REQUESTS, ALL)})": "{{status}}"},
                "reqps",
                about="error: no answer that could be read.",
                stacked=True,
            ),
            Panel("By host", {f"sum by (host) ({rate(REQUESTS, ALL)})": "{{host}}"}, "reqps", stacked=True),
            Panel(
                "Share of 304",
                {
                    f"sum by (host) ({rate(REQUESTS, UNCHANGED)}) / sum by (host) ({rate(REQUESTS, ALL)})": "{{host}}"
                },
                "percentunit",
                about="Answers that cost the vendor next to nothing: nothing has changed since the last one.",
            ),
            Panel(
                "Duration", quantiles("roundsman_http_request_duration_seconds", ALL, "host"), "s", width=12
            ),
            Panel(
                "Retries",
                {f"sum by (host) ({rate('roundsman_http_retries_total', ALL)})": "{{host}}"},
                "reqps",
                about="Requests that were sent again after a transient fault.",
                width=12,
            ),
        ),
    ),
    Row(
        "Webhooks and schedule",
        (
            Panel(
                "Webhooks by result",
                {
                    f"sum by (source, result) ({rate('roundsman_webhooks_total', ALL)})": "{{source}} {{result}}"
                },
                "cps",
                stacked=True,
            ),
            Panel("Duration of webhooks", quantiles("roundsman_webhook_duration_seconds", ALL), "s"),
            Panel("How late visits begin", quantiles("roundsman_due_lateness_seconds", ALL), "s", bad=10),
        ),
    ),
    Row(
        "Store",
        (
            Panel(
                "Size of the store",
                {f"roundsman_store_bytes{{{ALL}}}": "{{instance}} {{file}}"},
                "bytes",
                about="wal: the file beside it with the latest changes.",
                stacked=True,
            ),
            Panel("Free space", {f"roundsman_disk_free_bytes{{{ALL}}}": "{{instance}}"}, "bytes"),
            Panel(
                "Share of the disk in use",
                {
                    f"1 - roundsman_disk_free_bytes{{{ALL}}} / roundsman_disk_total_bytes{{{ALL}}}": "{{instance}}"
                },
                "percentunit",
                bad=0.95,
            ),
        ),
    ),
    Row(
        "Many machines",
        (
            Panel(
                "Workers",
                {f"roundsman_workers{{{ALL}}}": "{{instance}}"},
                about="Daemons that share a store on PostgreSQL, as each of them counts them.",
                width=12,
            ),
            Panel(
                "What each worker holds",
                {f"roundsman_worker_held{{{ALL}}}": "{{instance}} {{kind}}"},
                stacked=True,
                width=12,
            ),
        ),
    ),
)


def dashboard() -> dict[str, Any]:
    """The whole document, as `Dashboards > Import` reads it."""
    return {
        "title": "Roundsman",
        "uid": "roundsman",
        "description": "Sources, sinks, requests and the store of Roundsman.",
        "tags": ["roundsman"],
        "schemaVersion": SCHEMA,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "",
        "templating": {
            "list": [
                {
                    "name": "datasource",
                    "label": "Data source",
                    "type": "datasource",
                    "query": "prometheus",
                    "current": {},
                },
                _variable("instance", "Daemon", "roundsman_build_info", "instance"),
                _variable("source", "Source", f"roundsman_source_failing{{{ALL}}}", "source"),
                _variable("sink", "Sink", f"roundsman_sink_failing{{{ALL}}}", "sink"),
            ]
        },
        "annotations": {"list": []},
        "links": [],
        "panels": list(_panels()),
    }


def text() -> str:
    """The file."""
    return json.dumps(dashboard(), indent=2) + "\n"


def _variable(name: str, label: str, metric: str, of: str) -> dict[str, Any]:
    query = f"label_values({metric}, {of})"
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": PROMETHEUS,
        "definition": query,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
    }


def _panels() -> Iterator[dict[str, Any]]:
    numbers = count(1)
    x = y = height = 0
    for row in ROWS:
        x, y = 0, y + height
        place = {"h": 1, "w": WIDTH, "x": 0, "y": y}
        yield {
            "id": next(numbers),
            "type": "row",
            "title": row.title,
            "collapsed": False,
            "gridPos": place,
            "panels": [],
        }
        y, height = y + 1, 4 if row.panels[0].kind == "stat" else 8
        for panel in row.panels:
            if x + panel.width > WIDTH:
                x, y = 0, y + height
            yield _panel(panel, next(numbers), {"h": height, "w": panel.width, "x": x, "y": y})
            x += panel.width


def _panel(panel: Panel, number: int, place: Mapping[str, int]) -> dict[str, Any]:
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": PROMETHEUS,
        "gridPos": place,
        "targets": [
            {
                "refId": chr(ord("A") + at),
                "datasource": PROMETHEUS,
                "expr": expression,
                "legendFormat": legend or "__auto",
                "instant": panel.kind == "stat",
                "range": panel.kind != "stat",
            }
            for at, (expression, legend) in enumerate(panel.queries.items())
        ],
        "fieldConfig": {"defaults": _field(panel), "overrides": []},
        "options": _options(panel),
    }


def _field(panel: Panel) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": GREEN, "value": None}]
    if panel.bad is not None:
        steps.append({"color": RED, "value": panel.bad})
    field: dict[str, Any] = {
        "unit": panel.unit,
        "min": 0,
        "color": {"mode": "thresholds" if panel.kind == "stat" else "palette-classic"},
        "thresholds": {"mode": "absolute", "steps": steps},
        "mappings": [],
    }
    if panel.states:
        options = {
            str(value): {"text": words, "color": color, "index": at}
            for at, (value, (words, color)) in enumerate(panel.states.items())
        }
        field["mappings"] = [{"type": "value", "options": options}]
        field["custom"] = {"fillOpacity": 70, "lineWidth": 0}
    elif panel.kind == "timeseries":
        field["custom"] = {
            "drawStyle": "line",
            "lineWidth": 1,
            "fillOpacity": 20 if panel.stacked else 0,
            "showPoints": "never",
            "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"},
            "thresholdsStyle": {"mode": "line" if panel.bad is not None else "off"},
        }
    return field


def _options(panel: Panel) -> dict[str, Any]:
    if panel.kind == "stat":
        shown = {"calcs": ["lastNotNull"], "fields": "", "values": False}
        return {"reduceOptions": shown, "colorMode": "background", "graphMode": "none", "textMode": "value"}
    legend = {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []}
    if panel.states:
        return {"legend": legend, "mergeValues": True, "showValue": "never", "rowHeight": 0.8}
    return {"legend": legend, "tooltip": {"mode": "multi", "sort": "desc"}}


def main() -> None:
    FILE.parent.mkdir(parents=True, exist_ok=True)
    FILE.write_text(text(), encoding="utf-8")


if __name__ == "__main__":
    main()
