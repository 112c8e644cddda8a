"""The names in the prose exist: events, metrics, options, log lines, modules, statuses."""

import fnmatch
import importlib.util
import re

import pytest

import pages
import said
from parsing import options_of_commands
from roundsman import kinds
from roundsman.http.answers import REJECTED
from roundsman.sinks import SINKS
from roundsman.sources import SOURCES

OTHER_NAMES = {
    *("actor.login", "meta.count"),  # members of answers
    *("answer.tag", "answer.unchanged", "first.state", "http.post", "http.send", "visit.http"),  # of objects
}
FILES = (
    ".toml",
    ".py",
    ".db",
    ".jsonl",
    ".socket",
    ".service",
    ".org",
    ".md",
    ".json",
    ".yml",
    ".yaml",
    ".txt",
)
LABELS = {"source", "sink", "host", "status", "result", "via", "version", "file", "le", "job"}
TYPE = re.compile(
    r"\b(?:roundsman(?!\.db\.|\.schema\.|\.rules\.|\.test\.)|co\.parakey|com\.mailchimp|ai\.railz)\.[a-z_]+\.[a-z_]+\b"
)
HAND_WRITTEN = pages.written()


@pytest.mark.parametrize("page", HAND_WRITTEN)
def test_each_type_of_event_exists(page: str) -> None:
    named = set(TYPE.findall(pages.text_of(page)))
    assert {each for each in named if each not in kinds.TYPES and not _exists(each)} == set()


@pytest.mark.parametrize("page", HAND_WRITTEN)
def test_each_glob_of_a_type_in_an_address_matches_a_type(page: str) -> None:
    globs = re.findall(r"[?&]type=([\w.*]+)", pages.text_of(page))
    assert [each for each in globs if not fnmatch.filter(kinds.TYPES, f"*{each}")] == []


@pytest.mark.parametrize("page", HAND_WRITTEN)
def test_each_metric_exists_with_its_labels(page: str) -> None:
    wrong = []
    for name, labels in re.findall(r"\b(roundsman_[a-z_]+)(\{[^}]*\})?", pages.text_of(page)):
        if not {name, re.sub(r"_(bucket|sum|count)$", "", name)} & said.metrics():
            wrong.append(f"there is no metric {name}")
        wrong += [f"{name} has no {key}" for key in re.findall(r"(\w+)=", labels) if key not in LABELS]
    assert wrong == []


@pytest.mark.parametrize("page", HAND_WRITTEN)
def test_each_dotted_name_is_one_of_the_programs(page: str) -> None:
    """In the prose: an option in a table, a log line, a type of event, source or sink, a module, a file."""
    types = {*SOURCES, *SINKS, *kinds.TYPES, *(kind.partition(".")[2] for kind in kinds.TYPES)}
    types |= {kind.split(".", 2)[-1] for kind in kinds.TYPES}
    known = {*said.options(), *said.log_lines(), *types, *OTHER_NAMES}
    wrong = [
        f"{span.place}: {span.text}"
        for span in pages.spans(page)
        if re.fullmatch(r"[a-z_]+(\.[a-z_]+)+", span.text)
        and span.text not in known
        and not span.text.startswith(("data.", "details.", "roundsman.db."))
        and not span.text.endswith(FILES)
        and not (span.text.startswith("roundsman.") and _exists(span.text))
    ]
    assert wrong == []


def _exists(name: str) -> bool:
    """Whether it is a module of the program, a name in one, or a group of entry points."""
    module, _, last = name.rpartition(".")
    if not name.startswith("roundsman"):
        return False
    if importlib.util.find_spec(name if module == "roundsman" else module) is None:
        return False
    return module == "roundsman" or hasattr(importlib.import_module(module), last)


@pytest.mark.parametrize("page", HAND_WRITTEN)
def test_each_option_in_a_table_of_options_exists(page: str) -> None:
    wrong = []
    for table in re.findall(r"^\| option \|.*\n\|[-|]+\n((?:\|.*\n)+)", pages.text_of(page), re.MULTILINE):
        for row in table.splitlines():
            for name in re.findall(r"`([a-z_.]+)(?: = [^`]*)?`", row.split("|")[1]):
                if name not in said.options() | {"more", "rows", "remarks", "unread"}:
                    wrong.append(name)
    assert wrong == []


@pytest.mark.parametrize("page", ["docs/runbook/dead-letters.md", "docs/runbook/sink-failing.md"])
def test_the_statuses_that_refuse_an_event_are_those_of_the_code(page: str) -> None:
    listed = re.findall(r"\b(4\d\d(?:, 4\d\d)+)(?:\s+or\s+|, )(4\d\d)", " ".join(pages.text_of(page).split()))
    assert {int(each) for each in re.findall(r"4\d\d", str(listed[0]))} == REJECTED


@pytest.mark.parametrize("page", HAND_WRITTEN)
def test_each_option_that_a_span_sets_exists(page: str) -> None:
    """`interval = "2s"`, `[http] ca_file`, `[sources.NAME.paging] mode`, `[sources.NAME.limits]`."""
    wrong = []
    for span in pages.spans(page):
        if found := re.match(r"([a-z_.]+) = ", span.text):
            wrong += [span] if found[1] not in said.options() else []
        if found := re.fullmatch(r"\[(?:(?:sources|sinks)\.[\w-]+\.?)?([a-z_]*)\](?: ([a-z_]+))?", span.text):
            path = ".".join(filter(None, found.groups()))
            is_table = "." in span.text or " " in span.text
            wrong += [span] if is_table and path and path not in said.options() else []
    assert wrong == []


@pytest.mark.parametrize("page", HAND_WRITTEN)
def test_each_option_of_a_command_that_a_span_names_alone_exists(page: str) -> None:
    named = {span.text.split()[0] for span in pages.spans(page) if span.text.startswith("--")}
    assert named - options_of_commands() - {"--upgrade", "--build-arg"} == set()  # of pip and Podman


@pytest.mark.parametrize("page", [page for page in HAND_WRITTEN if page.startswith("docs/runbook/")])
def test_each_key_of_status_that_a_span_names_exists(page: str) -> None:
    """`dead=N`, `source … state=gap`."""
    named = {key for span in pages.spans(page) for key in re.findall(r"(?:^|(?<= ))([a-z_]+)=", span.text)}
    assert named - said.status_keys() - {"key"} == set()
