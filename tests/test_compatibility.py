"""What a released version had is still there: each name, and each value of its configuration."""

import os
import re
from pathlib import Path

import pytest

from compatibility import lost, names, released, version
from roundsman import config

ROOT = Path(__file__).parents[1]
OLDEST = ROOT / "tests" / "stores" / "0.4.toml"
"""The configuration that version 0.4 came with, as an example of all its options."""


def test_each_name_that_a_released_version_had_is_there() -> None:
    assert lost(released(), names()) == []


def test_a_name_that_is_removed_is_noticed() -> None:
    before = {"logs": {"poll.failed": ["error", "wait"], "poll.rung": []}, "metrics": {"polls": ["source"]}}
    now = {"logs": {"poll.failed": ["error", "more"], "new": []}}
    assert lost(before, now) == ["logs: poll.failed: wait", "logs: poll.rung", "metrics: polls"]


def test_the_list_is_that_of_the_last_release() -> None:
    """Or of the one before it, until `python tests/compatibility.py` has added the names of the last one."""
    heads = re.findall(r"^## (\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert version().rpartition(".")[0] in heads[:2]


def test_the_example_of_version_0_4_has_no_mistake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = OLDEST.read_text()
    for name in re.findall(r'\benv = "(\w+)"', text):
        value = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3" if "SECRET" in name else "0123456789abcdef"
        monkeypatch.setitem(os.environ, name, f"{value}-us6" if "MAILCHIMP" in name else value)
    for name in re.findall(r'\bfile = "([\w.-]+)"', text):
        (tmp_path / name).write_text("0123456789abcdef-us6")
    file = tmp_path / "roundsman.toml"
    file.write_text(text)
    loaded = config.load(file)
    assert sorted(loaded.sources) == ["front-doors", "keys", "ledger", "newsletter"]
