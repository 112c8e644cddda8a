"""What the pages point at is there: pages, headings, files of the repository, targets of make."""

import re
import subprocess
from pathlib import PurePosixPath

import pytest

import pages
from pages import ROOT

NAVIGATION = {f"docs/{path}" for path in re.findall(r"[\w./-]+\.md", (ROOT / "mkdocs.yml").read_text())}
THERE = {page for page in NAVIGATION if (ROOT / page).exists() or not (ROOT / pages.GENERATED).exists()}
FILE = re.compile(
    r"(tests|src|systemd|debian|docs|contrib)/[\w./-]*|[a-z_]+/[\w./-]+\.(py|toml|service|socket)"
)
"""A path of the repository, or of the program's package."""


def resolved(page: str, target: str) -> str:
    """The path that a relative link means, from the root of the repository."""
    parts: list[str] = []
    for part in (PurePosixPath(page).parent / target).parts:
        if part == "..":
            parts.pop()
        else:
            parts.append(part)
    return "/".join(parts)


@pytest.mark.parametrize("page", pages.pages())
def test_each_link_leads_to_a_page_and_a_heading(page: str) -> None:
    wrong = []
    for link in pages.links(page):
        if link.text.startswith(("http://", "https://", "mailto:")):
            continue
        target, _, anchor = link.text.partition("#")
        path = resolved(page, target) if target else page
        if path in THERE - set(pages.pages()):
            continue
        if not (ROOT / path).exists():
            wrong.append(f"{link.place}: {link.text}: there is no {path}")
        elif anchor and anchor not in pages.anchors(path):
            wrong.append(f"{link.place}: {link.text}: no heading of {path} has this anchor")
    assert wrong == []


@pytest.mark.parametrize("page", pages.pages())
def test_each_file_of_the_repository_that_a_page_names_is_there(page: str) -> None:
    wrong = [
        f"{span.place}: {span.text}"
        for span in pages.spans(page)
        if FILE.fullmatch(span.text) and "acme" not in span.text and not _exists(span.text)
    ]
    assert wrong == []


@pytest.mark.parametrize("page", pages.written())
def test_each_test_that_a_command_names_is_there(page: str) -> None:
    named = {
        path for command in pages.commands(page) for path in re.findall(r"\btests/[\w./]+", command.text)
    }
    assert {path for path in named if not _exists(path)} == set()


def _exists(path: str) -> bool:
    """Pages name packages of the program from its own folder, too: `engine/visit.py`, `sources/`."""
    return (ROOT / path).exists() or (ROOT / "src/roundsman" / path).exists()


def test_each_page_of_the_site_is_in_its_navigation() -> None:
    found = {page for page in pages.pages() if page.startswith("docs/")}
    assert found | (THERE - found) == NAVIGATION


def test_each_target_of_make_that_a_page_names_is_there() -> None:
    text = subprocess.run(["make", "help"], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    there = set(re.findall(r"^  make ([a-z-]+)", text, re.MULTILINE))
    named = {
        (target, place.place)
        for page in pages.written()
        for place in [*pages.commands(page), *pages.spans(page)]
        for target in re.findall(r"^make ([a-z-]+)", place.text)
    }
    assert named
    assert [each for each in sorted(named) if each[0] not in there] == []
