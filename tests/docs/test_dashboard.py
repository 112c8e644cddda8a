"""The dashboard in contrib/: each of its queries finds something in a Prometheus that scrapes a real daemon."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
import yaml

import dashboard
from conftest import need
from pages import ROOT
from ports import free_port
from reader import Reader, awaited
from roundsman.web.metrics import METRICS

FILE = dashboard.FILE
DOCUMENT = json.loads(FILE.read_text())
PANELS = [panel for panel in DOCUMENT["panels"] if panel["type"] != "row"]
VARIABLES = {
    "$__rate_interval": "1m",
    "$instance": ".*",
    "$source": ".*",
    "$sink": ".*",
}
"""What Grafana puts in their places, if all are chosen."""
EMPTY = {
    "Retries": "no request of this daemon fails for a moment",
    "Rows of the backlog read so far": "no backlog is read any more when Prometheus begins to scrape",
    "Workers": "this daemon is alone",
    "What each worker holds": "this daemon is alone",
}
"""Panels that may find nothing, and why."""


class Query(NamedTuple):
    """An expression of a panel."""

    title: str
    expression: str

    @property
    def completed(self) -> str:
        """As Grafana sends it."""
        text = self.expression
        for name, value in VARIABLES.items():
            text = text.replace(name, value)
        return text


QUERIES = [Query(panel["title"], target["expr"]) for panel in PANELS for target in panel["targets"]]


class Prometheus:
    """Debian's Prometheus on a free port, which scrapes one daemon four times a second."""

    def __init__(self, folder: Path, target: str) -> None:
        self._url = f"http://127.0.0.1:{(port := free_port())}"
        self._log = folder / "prometheus.log"
        config = {
            "global": {"scrape_interval": "250ms", "scrape_timeout": "250ms"},
            "scrape_configs": [{"job_name": "roundsman", "static_configs": [{"targets": [target]}]}],
        }
        (folder / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML
        line = [
            *("prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"),
            f"--web.listen-address=127.0.0.1:{port}",
        ]
        with self._log.open("w") as log:
            self._process = subprocess.Popen(line, cwd=folder, stdout=log, stderr=log)

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(30)

    def finds(self, expression: str) -> list[dict[str, Any]]:
        """The series of a query; none if Prometheus does not answer yet. A query that is refused fails the test."""
        try:
            answer = httpx.get(f"{self._url}/api/v1/query", params={"query": expression}, trust_env=False)
        except httpx.TransportError:
            assert self._process.poll() is None, self._log.read_text()
            return []
        if answer.status_code == 503:
            return []
        document = answer.json()
        assert document["status"] == "success", (expression, document)
        found: list[dict[str, Any]] = document["data"]["result"]
        return found


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Beside a daemon with each kind of source, a sink with dead letters, and webhooks that cannot be read."""
    need(shutil.which("prometheus") is not None, "needs prometheus: apt install prometheus")
    with Reader(tmp_path_factory.mktemp("reader")) as reader:
        server = Prometheus(tmp_path_factory.mktemp("prometheus"), reader.listener.removeprefix("http://"))
        try:
            awaited(lambda: server.finds('up{job="roundsman"} == 1'))
            yield server
        finally:
            server.close()


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: f"{query.title} {query.expression[:20]}")
def test_each_query_finds_something(query: Query, prometheus: Prometheus) -> None:
    if query.title in EMPTY:
        prometheus.finds(query.completed)  # it is a query
        return
    awaited(lambda: prometheus.finds(query.completed), otherwise=lambda: query.completed)


@pytest.mark.parametrize("variable", DOCUMENT["templating"]["list"][1:], ids=lambda each: each["name"])
def test_each_variable_has_values(variable: dict[str, Any], prometheus: Prometheus) -> None:
    found = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
    assert found
    selector, label = Query("", found[1]).completed, found[2]
    awaited(lambda: prometheus.finds(selector), otherwise=lambda: selector)
    names = {series["metric"].get(label) for series in prometheus.finds(selector)}
    assert names
    assert None not in names


def test_the_alert_rules_are_answered_and_find_what_is_wrong_with_this_daemon(prometheus: Prometheus) -> None:
    """It has dead letters and unread webhooks, which wait for a person. How long each alert waits is tried apart."""
    rules = yaml.safe_load((ROOT / "contrib/prometheus/roundsman.rules.yml").read_text())["groups"][0][
        "rules"
    ]

    def fires() -> set[str]:
        return {rule["alert"] for rule in rules if prometheus.finds(rule["expr"])}

    awaited(lambda: {"RoundsmanDeadLetters", "RoundsmanUnread"} <= fires())
    well = {
        "RoundsmanDown",
        "RoundsmanAbsent",
        "RoundsmanStoreFailing",
        "RoundsmanVisitsLate",
        "RoundsmanSourceFailing",
    }
    assert not fires() & well


def test_the_file_is_what_its_tool_writes() -> None:
    assert FILE.read_text() == dashboard.text(), "run `make docs`"


def test_the_queries_have_no_other_variable_and_name_metrics_with_their_labels() -> None:
    known = {each.name: set(each.labels) for each in METRICS}
    for query in QUERIES:
        assert "$" not in query.completed
        for name, selector in re.findall(r"(roundsman_\w+?)(?:_bucket)?\{([^}]*)\}", query.expression):
            assert set(re.findall(r"(\w+)=", selector)) <= known[name] | {"instance"}, query
        assert "roundsman_" in query.expression


def test_each_metric_is_on_the_dashboard() -> None:
    shown = " ".join(query.expression for query in QUERIES)
    names = {each.name for each in METRICS}
    assert {name for name in names if not re.search(rf"\b{name}(_bucket)?\b", shown)} == {
        "roundsman_rows_unread_total",  # the gauge of what is unread shows more
    }


def test_the_panels_fill_rows_without_overlaps_and_ask_the_chosen_source_of_data() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DOCUMENT["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
    asked = [each["datasource"] for panel in PANELS for each in (panel, *panel["targets"])]
    assert all(each == {"type": "prometheus", "uid": "${datasource}"} for each in asked)
    assert len({panel["id"] for panel in DOCUMENT["panels"]}) == len(DOCUMENT["panels"])
    assert {panel["type"] for panel in PANELS} <= {"timeseries", "stat", "state-timeline"}, (
        "Grafana has these"
    )


def test_the_table_of_empty_panels_names_panels() -> None:
    assert EMPTY.keys() <= {panel["title"] for panel in PANELS}
