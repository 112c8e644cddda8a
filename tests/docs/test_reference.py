"""The pages of the reference are what the code says of itself."""

import re
from pathlib import Path
from typing import get_args

import pytest

from generated import PAGES
from generated.markdown import slug
from roundsman import kinds, shapes
from roundsman.web import endpoints, metrics
from roundsman.web.endpoints import ENDPOINTS

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "reference"
RECEIVING = ("webhook.py", "web/app.py", "engine/reception.py")


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_what_the_code_says(name: str) -> None:
    file = FOLDER / f"{name}.md"
    if not file.exists() or file.read_text(encoding="utf-8") != PAGES[name]():
        pytest.fail(f"docs/reference/{name}.md is not what the code says: run `make docs`", pytrace=False)


def test_each_page_of_the_reference_is_generated() -> None:
    assert {page.stem for page in FOLDER.glob("*.md")} == set(PAGES)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_can_be_read_at_80_columns(name: str) -> None:
    lines = (FOLDER / f"{name}.md").read_text(encoding="utf-8").splitlines()
    can_be_broken = [
        line for line in lines if not re.match(r"\||\s*\[[^\]]*\]\(\S*$", line)
    ]  # a table, a link
    assert [line for line in can_be_broken if len(line) > 80] == []


def test_each_outcome_has_a_meaning_and_each_notice_that_the_runbook_names_links_there() -> None:
    assert set(shapes.OUTCOMES) == set(get_args(shapes.Outcome))
    for page in (ROOT / "docs" / "runbook").glob("*.md"):
        for kind in re.findall(r"`(roundsman\.(?!db)[a-z]+\.[a-z_]+)`", page.read_text()):
            assert kinds.KINDS[kind].page.startswith("runbook/"), (page.name, kind)


def test_the_metric_of_webhooks_names_each_result_that_the_code_counts() -> None:
    written = "".join((ROOT / "src" / "roundsman" / name).read_text() for name in RECEIVING)
    reasons = re.findall(r'(?:NotAuthentic\(|refuse\((?:name|""), )"([a-z ]+)"', written)
    reasons += re.findall(r'NotAuthentic\("([a-z ]+)" if .* else "([a-z ]+)"\)', written)[0]
    results = re.findall(r'webhooks\[source.name, "([a-z ]+)"\]|False, "(unread)"', written)
    results += re.findall(r'"(taken)" if said else "(ignored)"', written)
    counted = {*reasons, *(each for pair in results for each in pair if each)}
    assert set(re.findall(r"`([a-z ]+)`", metrics.WEBHOOKS.labels["result"])) == counted


def test_the_endpoints_and_their_statuses_are_those_of_the_code() -> None:
    text = (ROOT / "src" / "roundsman" / "web" / "app.py").read_text()
    routes = set(re.findall(r'Route\(f?"([^"]+)"', text))
    documented = {
        path for name in ("healthz", "readyz", "metrics", "hooks") for path in ENDPOINTS[name].paths
    }
    paths = {
        path.replace("/hooks/NAME", "{PATH}{{name}}").replace("TOKEN", "{{token}}") for path in documented
    }
    assert routes - {"{PATH}{{rest:path}}"} == paths
    statuses = {int(each) for each in re.findall(r"(?:_say\(|status_code=)(\d{3})", text)}
    open_to_all = [each for each in ENDPOINTS.values() if each.page != endpoints.PAGE]
    assert statuses == {status for each in open_to_all for status, _ in each.answers}


def test_the_paths_of_the_page_and_their_statuses_are_those_of_the_code() -> None:
    """But for the pages that the page links to."""
    of_page = [each for each in ENDPOINTS.values() if each.page == endpoints.PAGE]
    documented = {path for each in of_page for path in each.paths}
    folder = ROOT / "src" / "roundsman" / "web" / "page"
    texts = {path.name: path.read_text() for path in folder.glob("*.py")}
    route = r'door\.(?:reader|actor|anyone)\(\s*"([^"]+)"'
    routes = {name: set(re.findall(route, text)) for name, text in texts.items()}
    assert documented <= {path for found in routes.values() for path in found}
    assert routes["routes.py"] | routes["login.py"] <= documented
    written = r"(?:refusal\(|status_code=|Response\(.*?, |form\(target, )([2-5]\d\d)\b"
    of_programs = [text for name, text in texts.items() if name != "views.py"]
    statuses = {int(each) for text in of_programs for each in re.findall(written, text)}
    assert statuses | {200} == {status for each in of_page for status, _ in each.answers}


@pytest.mark.parametrize("name", PAGES)
def test_each_link_of_a_page_leads_to_a_heading_that_there_is(name: str) -> None:
    text = (FOLDER / f"{name}.md").read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^):]+)\)", text):
        path, _, anchor = target.partition("#")
        page = (FOLDER / path).resolve() if path else FOLDER / f"{name}.md"
        headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
        assert not anchor or anchor in map(slug, headings), target
