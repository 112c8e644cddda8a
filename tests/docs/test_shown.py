"""What the pages show as output is what the program prints: its texts, its status, its logs, its events."""

import json
import re
from collections.abc import Iterator

import pytest

import pages
import said
from pages import Span
from roundsman import kinds
from roundsman.events import Event
from worlds import keeps_the_contract

DRAWINGS = {"docs/explained/design.md"}
"""Pages whose text blocks are drawings."""
THEIRS = {
    ("submitting", "email"),
    ("wrong", "password"),
    ("connection", "disconnected"),
    ("synchronized", "yes"),
    ("op", "exit"),
}
"""Words of vendors and of other programs, in shown output."""
MESSAGE = re.compile(
    r"(?!(?:await|roundsman|make|apt|pipx?|python3?|curl|journalctl|systemctl|loginctl|kill|podman|docker) )"
    r"[\w.…/*-]+(?:[,;:] |: | )[^=(]*[a-z?.…]"
)
HAND_WRITTEN = pages.written()


def shown(page: str) -> Iterator[Span]:
    """The lines that a page shows as output."""
    for command in pages.commands(page):
        for number, text in enumerate(command.shown, command.line + 1):
            yield Span(page, number, text)
    for block in pages.blocks(page, "text") if page not in DRAWINGS else ():
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
            assert document["type"] in kinds.TYPES, place
            kind, key = str(document["type"]), str(document["id"])
            keeps_the_contract(Event(id=key, source=source, type=kind, outcome=None, body=body))
