"""The pages of the sources: each type has one, and their examples work against the simulated vendors."""

import json
import re

import lists
import pages
from reader import Reader, awaited, examples
from roundsman.sinks import SINKS
from roundsman.sources import SOURCES

REPORTED = {
    "co.parakey.event_log.created",
    "co.parakey.batch.item_failed",
    "co.parakey.batch.completed",
    "com.mailchimp.batch.operation_failed",
    "com.mailchimp.batch.completed",
    "ai.railz.push.completed",
    "ai.railz.batch_push.completed",
    "com.example.audit.login",
}


def test_each_type_has_an_example_on_its_page() -> None:
    assert {table["type"] for table in examples().values()} == set(SOURCES)


def test_the_example_of_a_list_is_the_one_that_init_prints() -> None:
    """It has a simulation of its own: tests/test_mimics.py."""
    assert examples()["repo"] == lists.example("github")


def test_the_examples_report_what_the_vendors_have(reader: Reader) -> None:
    """They are the configuration of the daemon that these tests share."""
    archive = reader.folder / "events.jsonl"

    def types() -> set[str]:
        return {json.loads(line)["type"] for line in archive.read_text().splitlines(keepends=True)[:-1]}

    awaited(lambda: types() >= REPORTED, otherwise=reader.daemon.output)


def test_the_overview_lists_the_types() -> None:
    text = pages.text_of("docs/index.md")
    assert set(re.findall(r"^\| \[`([a-z._]+)`\]\(sources/", text, re.MULTILINE)) == set(SOURCES)
    assert set(SINKS) <= set(re.findall(r"^\| \[?`([a-z]+)`", text, re.MULTILINE))
