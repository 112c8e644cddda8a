"""The pages of the reference are what the code says of itself."""

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "reference"
sys.path.insert(0, str(ROOT / "docs" / "tools"))

from pages import PAGES  # noqa: E402 - found by the line above


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_what_the_code_says(name: str) -> None:
    if (FOLDER / f"{name}.md").read_text(encoding="utf-8") != PAGES[name]():
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
