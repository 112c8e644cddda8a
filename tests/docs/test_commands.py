"""Every command line of the documentation is run, beside a daemon that has the names of the pages."""

import re
import shutil
import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import uuid4

import pytest

import pages
from conftest import need
from parsing import parsed
from reader import TOKENS, Reader, form
from roundsman.cli.examples import EXAMPLES
from terminal import (
    ELSEWHERE,
    FAMILIES,
    NOT_RUN,
    ON_A_MACHINE,
    PHASES,
    SHOWN_ELSEWHERE,
    STATUS,
    STOPPED,
    UNTIL_STOPPED,
)

PROGRAMS = re.compile(
    r"(sudo )?(roundsman|systemctl|systemd-analyze|journalctl|make|curl|pip|pipx|python3?|apt|loginctl|timedatectl|smartctl|export|pytest|cp|rm|/\S+/pip|\(umask) \S"
)
"""Code spans in the prose that begin like this are command lines, or begin one."""
OURS = re.compile(r"(sudo )?roundsman [\w-]")


HARMLESS = {"roundsman", "curl", "pytest", "export", "cat", "grep", "echo", "jq", "tail"}
"""Programs that a line here may call."""


INTERRUPTED = {0, 130, -signal.SIGINT}
"""Exit statuses after Ctrl-C."""


class Line(NamedTuple):
    text: str
    places: tuple[str, ...]
    shown: tuple[str, ...]
    """The output that the pages show below it."""


def lines() -> list[Line]:
    """Each line once: of the shell blocks, of the help, and the whole ones in the prose, in the order to run them."""
    found: dict[str, list[str]] = {}
    shown: dict[str, list[str]] = {}
    for page in pages.written():
        for command in pages.commands(page):
            found.setdefault(command.text, []).append(command.place)
            shown.setdefault(command.text, []).extend(command.shown)
        for span in pages.spans(page):
            if PROGRAMS.match(span.text) and (not OURS.match(span.text) or parsed(span.text).whole):
                found.setdefault(span.text, []).append(span.place)
    for command, examples in EXAMPLES.items():
        for example in examples:
            found.setdefault(typed(example), []).append(f"roundsman {command} --help")
    known = [Line(text, tuple(places), tuple(shown.get(text, ()))) for text, places in found.items()]
    return sorted(known, key=lambda line: _phase(line.text))


def typed(example: str) -> str:
    """A line of the help without what stands behind it."""
    return re.sub(r"\s{2,}#.*", "", example)


def _phase(text: str) -> int:
    return max(number for number, pattern in enumerate(PHASES) if re.search(pattern, text))


NAMED = {
    r"(?<=keys )91653ad818\b": "ID",
    r"\btrack SOURCE (?=CONNECTION)": "track ledger ",
    r"\bSOURCE\b": "front-doors",
    r"\bSINK\b|\bwarehouse\b": "crm",
    r"\bNAME\b": "github",
    r"\bCOMMAND\b": "status",
    r"(?<=--to )(TIME|20\S+Z)": "WHEN",
    r"(?<=--from )WHEN": "2h",
    r"/var/lib/roundsman/roundsman\.db\.before-00\d|/(?:root|var)/backups/roundsman\.db|\bFILE\b": "copy.db",
    r"/etc/roundsman/roundsman\.toml": "roundsman.toml",
}
"""What the pages call the same thing that the reader here has."""


def named(text: str) -> str:
    for pattern, name in NAMED.items():
        text = re.sub(pattern, name, text)
    return text


def once_each(found: list[Line]) -> Iterator[Line]:
    """Of lines that only name the same thing in several ways, the first one, with the places and outputs of all."""
    same: dict[object, list[Line]] = {}
    for line in found:
        how = (STATUS.get(line.text), UNTIL_STOPPED.get(line.text), line.text in SHOWN_ELSEWHERE)
        same.setdefault((_phase(line.text), named(line.text), how), []).append(line)
    for alike in same.values():
        places, shown = ([part for line in alike for part in line[at]] for at in (1, 2))
        yield Line(alike[0].text, tuple(places), tuple(shown))


LINES = lines()
HERE = list(
    once_each(
        [
            line
            for line in LINES
            if line.text not in ELSEWHERE and not any(re.fullmatch(family, line.text) for family in FAMILIES)
        ]
    )
)


def substituted(line: str, reader: Reader) -> str:
    """The line with what a reader puts in place of the examples on the pages."""
    line = named(line)
    since = f"{datetime.now(UTC) - timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}"
    keys = {
        r"(?<=keys )ID\b": uuid4().hex[:10],  # the same one may be waiting already
        r"\bCONNECTION\b": "CON-harbour-xero",
        r"(?<=/ledger/)TOKEN": TOKENS["ledger"],
        r"(?<=/newsletter/)TOKEN": TOKENS["newsletter"],
        r"https://(hooks|crm)\.example\.org": reader.others.url,
        r"http://127\.0\.0\.1:8377": reader.listener,
        r"(?<=--to )WHEN": since,
        r"(?<=--for )12s": "2s",
        r"^roundsman run (?=\|)": "roundsman once --now ",
    }
    for pattern, value in keys.items():
        line = re.sub(pattern, lambda _, value=value: value, line)
    if "5596bdddde" in line:
        hooks = reader.asks("roundsman hooks list newsletter --json")
        line = line.replace("5596bdddde", hooks[0]["id"])
    if "180" in line:
        letters = reader.asks("roundsman dead list crm --json")
        line = line.replace("180", str(letters[0]["seq"]))
    if "833" in line:  # the number of a failure
        failed = reader.asks("roundsman failures --all --json")
        number = next(each["id"] for each in failed if each["done"] == ("undo" in line))
        line = line.replace("833", str(number))
    return line


def harmless(text: str) -> bool:
    """Whether a line that was substituted changes nothing outside of the reader's folder: a page may have any line."""
    parts = re.split(r"[|;&]+", re.sub(r"'[^']*'", "''", text.removeprefix("sudo ")))
    programs = {part.split()[0] for part in parts if part.split()}
    paths = set(re.findall(r"""(?:^|(?<=[\s>'"=]))/\S+""", text))
    hosts = set(re.findall(r"\bhttps?://([\w.]+)", text))
    return programs <= HARMLESS and paths <= {"/dev/null"} and hosts <= {"127.0.0.1"}


def prepare(line: str, reader: Reader) -> None:
    """What has happened on the page before this line is typed."""
    if "--accept" in line:
        reader.reads_another_address()
    if re.search(STOPPED, line) and not reader.daemon.ended():
        assert reader.daemon.stop() == 0
    if "echo $?" in line:
        reader.damages_the_store()


@pytest.mark.parametrize("line", HERE, ids=lambda line: line.text)
def test_each_line_works(line: Line, reader: Reader) -> None:
    for program in ("curl", "jq"):
        if program in line.text.split():
            need(shutil.which(program) is not None, f"needs {program}: apt-get install {program}")
    prepare(line.text, reader)
    text = substituted(line.text, reader)
    assert harmless(text), f"{line.places}: name it in tests/terminal.py, and where it is run"
    folder = reader.folder
    if found := re.search(r"\b(init|new)\b", text):
        folder = reader.fresh()
        # The plugin that `new` writes on the pages is installed here.
        text = f"PYTHONPATH={pages.ROOT / 'src'} {text}" if found[1] == "new" else text
    if until := UNTIL_STOPPED.get(line.text):
        running = reader.starts(text, until=until, folder=folder)
        assert running.stop() in INTERRUPTED, line.places
        return
    done = reader.types(text, folder=folder)
    assert done.returncode == STATUS.get(line.text, 0), (line.places, text, done.stdout, done.stderr)
    if line.text not in SHOWN_ELSEWHERE:
        printed = {form(each) for each in (done.stdout + done.stderr).splitlines()}
        assert {form(each) for each in line.shown if "..." not in each} <= printed, line.places


def test_each_command_in_the_prose_exists_with_its_options() -> None:
    """Also where only its name is mentioned: `roundsman track`, `--force`."""
    wrong = [
        f"{place.place}: {place.text}: {mistake}"
        for page in pages.pages()
        for place in [*pages.commands(page), *pages.spans(page)]
        if OURS.match(place.text)
        if (mistake := parsed(place.text).mistake)
    ]
    assert wrong == []


def test_the_tables_name_only_lines_of_the_pages() -> None:
    known = {place.text for page in pages.pages() for place in [*pages.commands(page), *pages.spans(page)]}
    known |= {typed(example) for examples in EXAMPLES.values() for example in examples}
    assert [text for text in (*ON_A_MACHINE, *NOT_RUN, *STATUS, *UNTIL_STOPPED) if text not in known] == []


@pytest.mark.parametrize(
    "line",
    [
        "rm -rf x",
        "roundsman backup /var/x",
        "roundsman events > /etc/x",
        "roundsman status; reboot",
        "curl https://example.org",
    ],
)
def test_a_line_that_could_change_this_machine_is_not_run_here(line: str) -> None:
    assert not harmless(line)
