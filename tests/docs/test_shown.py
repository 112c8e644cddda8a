"""What the pages show as output is what the program prints: its texts, log lines, metrics, events and options."""

import importlib.util
import json
import re
from collections.abc import Iterator

import pytest

import pages
import said
from pages import Span
from roundsman import shapes
from roundsman.events import Event
from roundsman.http.answers import REJECTED
from roundsman.sinks import SINKS
from roundsman.sources import SOURCES
from worlds import keeps_the_contract

DRAWINGS = {"docs/explained/design.md"}
"""Pages whose text blocks are drawings."""
THEIRS = {("wrong", "password"), ("connection", "disconnected"), ("synchronized", "yes")}
"""Words of vendors and of other programs, in shown output."""
OTHER_NAMES = {
    *("actor.login", "meta.count"),  # members of answers
    *("answer.tag", "answer.unchanged", "first.state", "http.post", "http.send", "visit.http"),  # of objects
}
FILES = (".toml", ".py", ".db", ".jsonl", ".socket", ".service", ".org", ".md", ".json")
LABELS = {"source", "sink", "host", "result", "via", "version", "le", "job"}
MESSAGE = re.compile(
    r"(?!(?:await|roundsman|make|apt|pipx?|python3?|curl|journalctl|systemctl|loginctl|kill) )"
    r"[\w.…/*-]+(?:[,;:] |: | )[^=(]*[a-z?.…]"
)
TYPE = re.compile(
    r"\b(?:roundsman(?!\.db\.|\.schema\.)|co\.parakey|com\.mailchimp|ai\.railz)\.[a-z_]+\.[a-z_]+\b"
)
HAND_WRITTEN = pages.written()


def shown(page: str) -> Iterator[Span]:
    """The lines that a page shows as output."""
    for command in pages.commands(page):
        for number, text in enumerate(command.shown, command.line + 1):
            yield Span(page, number, text)
    for block in pages.blocks(page, "text"):
        if page not in DRAWINGS:
            for number, text in enumerate(block.text.splitlines(), block.line):
                yield Span(page, number, text)


def documents(page: str) -> Iterator[tuple[str, dict[str, object]]]:
    """The JSON objects that a page shows, with their places: one a line, or one that is wrapped."""
    for block in pages.blocks(page, "json"):
        lines = block.text.splitlines()
        whole = lines if all(line.startswith("{") for line in lines) else [block.text]
        for number, text in enumerate(whole, block.line):
            yield f"{page}:{number}", json.loads(text)


@pytest.mark.parametrize("page", HAND_WRITTEN)
def test_each_text_that_a_page_shows_is_one_of_the_programs(page: str) -> None:
    """Neighbouring words of the output are neighbours in a text of the code."""
    found = [*shown(page)]
    for place, document in documents(page):
        line = int(place.rpartition(":")[2])
        found += [
            Span(page, line, str(document[key])) for key in ("what", "error", "reason") if key in document
        ]
    wrong = [
        (span.place, *pair)
        for span in found
        for pair in sorted(said.pairs(span.text))
        if not said.says(pair) and pair not in THEIRS
    ]
    assert wrong == []


@pytest.mark.parametrize("page", HAND_WRITTEN)
def test_each_message_in_the_prose_is_one_of_the_programs(page: str) -> None:
    """A code span of several words is one, unless it is a command, an option or Python."""
    wrong = [
        (span.place, *pair)
        for span in pages.spans(page)
        if MESSAGE.fullmatch(span.text)
        for pair in sorted(said.pairs(re.sub(r"…|\.\.\.", " 0 ", span.text)))
        if not said.says(pair) and pair not in THEIRS
    ]
    assert wrong == []


def test_a_message_that_the_program_does_not_print_is_noticed() -> None:
    assert all(map(said.says, said.pairs("crm: 1 events will be tried again")))
    assert not all(map(said.says, said.pairs("refused, and the previous configuration goes on")))


@pytest.mark.parametrize("page", HAND_WRITTEN)
def test_each_key_of_a_status_line_is_printed_by_status(page: str) -> None:
    wrong = [
        f"{span.place}: {key}="
        for span in shown(page)
        if re.match(r"(source|sink|failures) ", span.text)
        for key in re.findall(r" ([a-z_]+)=", span.text)
        if key not in said.status_keys()
    ]
    assert wrong == []


@pytest.mark.parametrize("page", HAND_WRITTEN)
def test_each_log_line_exists_with_its_fields(page: str) -> None:
    wrong = []
    for place, document in documents(page):
        if "level" not in document:
            continue
        name = str(document["event"])
        if name not in said.log_lines():
            wrong.append(f"{place}: there is no {name}")
        elif (fields := said.log_lines()[name]) is not None:
            wrong += [f"{place}: {name} has no {key}" for key in document.keys() - fields - said.BOUND]
    assert wrong == []


@pytest.mark.parametrize("page", HAND_WRITTEN)
def test_each_event_that_a_page_shows_keeps_the_contract(page: str) -> None:
    for place, document in documents(page):
        if "specversion" in document:
            body = json.dumps(document).encode()
            source = str(document["source"]).rpartition("/")[2]
            assert document["type"] in shapes.TYPES, place
            kind, key = str(document["type"]), str(document["id"])
            keeps_the_contract(Event(id=key, source=source, type=kind, outcome=None, body=body))


@pytest.mark.parametrize("page", HAND_WRITTEN)
def test_each_type_of_event_exists(page: str) -> None:
    named = set(TYPE.findall(pages.text_of(page)))
    assert {each for each in named if each not in shapes.TYPES and not _exists(each)} == set()


@pytest.mark.parametrize("page", HAND_WRITTEN)
def test_each_metric_exists_with_its_labels(page: str) -> None:
    wrong = []
    for name, labels in re.findall(r"\b(roundsman_[a-z_]+)(\{[^}]*\})?", pages.text_of(page)):
        base = re.sub(r"_(total|bucket|sum|count)$", "", name)
        if base not in said.metrics():
            wrong.append(f"there is no metric {name}")
        wrong += [f"{name} has no {key}" for key in re.findall(r"(\w+)=", labels) if key not in LABELS]
    assert wrong == []


@pytest.mark.parametrize("page", HAND_WRITTEN)
def test_each_dotted_name_is_one_of_the_programs(page: str) -> None:
    """In the prose: an option in a table, a log line, a type of event, source or sink, a module, a file."""
    types = {*SOURCES, *SINKS, *shapes.TYPES, *(kind.partition(".")[2] for kind in shapes.TYPES)}
    types |= {kind.split(".", 2)[-1] for kind in shapes.TYPES}
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
