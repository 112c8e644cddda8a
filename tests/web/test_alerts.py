"""The alert rules in contrib/: each one fires when it has to, stays silent otherwise, and leads to a page."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

import pages
from conftest import need
from pages import ROOT
from roundsman.web.metrics import METRICS

FOLDER = ROOT / "contrib/prometheus"
RULES, TRIES = FOLDER / "roundsman.rules.yml", FOLDER / "roundsman.test.yml"
ALERTS: list[dict[str, Any]] = [
    rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
]
NAMES = [rule["alert"] for rule in ALERTS]


def promtool(*arguments: str, folder: Path = FOLDER) -> subprocess.CompletedProcess[str]:
    need(shutil.which("promtool") is not None, "needs promtool: apt install prometheus")
    return subprocess.run(["promtool", *arguments], cwd=folder, capture_output=True, text=True, check=False)


def series(expression: str) -> set[str]:
    """The names of our metrics in an expression; of a histogram, its own name."""
    names = set(re.findall(r"\broundsman_\w+", expression))
    known = {each.name for each in METRICS}
    return {name if name in known else re.sub(r"_(bucket|sum|count)$", "", name) for name in names}


def test_each_alert_fires_and_stays_silent_as_its_tries_say() -> None:
    done = promtool("test", "rules", TRIES.name)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_each_alert_has_a_try_in_which_it_fires_and_one_in_which_it_does_not(name: str) -> None:
    [group] = [group for group in yaml.safe_load(TRIES.read_text())["tests"] if group["name"] == name]
    [rule] = [rule for rule in ALERTS if rule["alert"] == name]
    given = {each["series"].partition("{")[0] for each in group["input_series"]}
    assert set(re.findall(r"\broundsman_\w+|\bup\b", rule["expr"])) <= given, "the tries have what it reads"
    tries = group["promql_expr_test"]
    assert all(f'alertname="{name}"' in each["expr"] for each in tries)
    assert [each for each in tries if each["exp_samples"]]
    assert [each for each in tries if not each["exp_samples"]]


@pytest.mark.parametrize("name", NAMES)
def test_the_tries_notice_an_alert_that_never_fires_or_that_fires_at_once(name: str, tmp_path: Path) -> None:
    for change in (
        lambda rule: rule.update(expr="vector(1) > 2"),
        lambda rule: rule.update({"for": "0s"}),
    ):
        rules = yaml.safe_load(RULES.read_text())
        for rule in rules["groups"][0]["rules"]:
            if rule["alert"] == name:
                change(rule)
        (tmp_path / RULES.name).write_text(yaml.safe_dump(rules))
        tries = yaml.safe_load(TRIES.read_text())
        tries["tests"] = [group for group in tries["tests"] if group["name"] == name]
        (tmp_path / TRIES.name).write_text(yaml.safe_dump(tries))
        done = promtool("test", "rules", TRIES.name, folder=tmp_path)
        assert done.returncode == 1
        assert name in done.stdout + done.stderr


def test_each_metric_that_an_alert_reads_exists() -> None:
    named = set().union(*(series(rule["expr"]) for rule in ALERTS))
    assert named <= {each.name for each in METRICS}
    described = " ".join(text for rule in ALERTS for text in rule["annotations"].values())
    assert series(described) <= {each.name for each in METRICS}


@pytest.mark.parametrize("rule", ALERTS, ids=NAMES)
def test_each_alert_leads_to_a_page_and_says_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    assert rule["for"]
    assert set(rule["annotations"]) == {"summary", "description", "runbook"}
    page, _, anchor = rule["annotations"]["runbook"].partition("#")
    assert page.startswith("docs/runbook/")
    assert (ROOT / page).is_file()
    assert not anchor or anchor in pages.anchors(page)


def test_each_runbook_page_about_a_metric_is_reached_by_an_alert() -> None:
    """The table of metrics in the runbook's index, except what only shows at a vendor."""
    index = pages.text_of("docs/runbook/index.md").partition("| Metric or endpoint |")[2].partition("\n\n")[0]
    reached = {rule["annotations"]["runbook"].partition("#")[0] for rule in ALERTS}
    assert {f"docs/runbook/{page}" for page in re.findall(r"\(([\w-]+\.md)", index)} <= reached


def test_the_scrape_configuration_of_the_guide_is_one(tmp_path: Path) -> None:
    [block] = pages.blocks("docs/guides/monitoring.md", "yaml")
    document = yaml.safe_load(block.text)
    [scrape] = document["scrape_configs"]
    assert f'job="{scrape["job_name"]}"' in RULES.read_text()
    [file] = document["rule_files"]
    (tmp_path / "prometheus.yml").write_text(block.text.replace(file, RULES.name))
    shutil.copy(RULES, tmp_path)
    done = promtool("check", "config", "prometheus.yml", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(ALERTS)} rules found" in done.stdout


def test_the_guide_names_each_alert() -> None:
    named = re.findall(r"^\| `(Roundsman\w+)`", pages.text_of("docs/guides/monitoring.md"), re.MULTILINE)
    assert named == NAMES
