"""The README is short, and its steps lead to a first event."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import pages
from ports import free_port
from reader import Shell

README = "README.md"
SECTION = "First event"
LONGEST = 150
"""Lines."""
STEPS = {
    "roundsman sandbox --port 8399",
    "roundsman init",
    "roundsman check --live",
    "roundsman run",
    "roundsman status",
    "roundsman events -f",
}


class Beginner:
    """Does what the code spans of the section say, from its top."""

    def __init__(self, shell: Shell) -> None:
        self.shell = shell
        self.steps = [span.text for span in pages.spans(README, SECTION)]
        self._vendor = ""

    def does(self, step: str) -> None:
        if step.startswith("roundsman sandbox"):
            self._simulates()
        elif step == "roundsman init":
            self._types(step)
            self._edits(self.shell.folder / "roundsman.toml")
        elif step.startswith("export "):
            name, _, value = step.removeprefix("export ").partition("=")
            self.shell.environ[name] = value
        elif step == "roundsman run":
            self.shell.starts(step, until="co.parakey.event_log.created")
        elif step == "roundsman events -f":
            self.shell.starts(step, until="front-doors").stop()
        elif step.startswith("roundsman "):
            self._types(step)

    def _types(self, line: str) -> None:
        done = self.shell.types(line)
        assert done.returncode == 0, (line, done.stderr)

    def _simulates(self) -> None:
        line = f"roundsman sandbox --per-second 20 --listen 127.0.0.1:{free_port()}"
        sandbox = self.shell.starts(line, until="[sinks.archive]")
        self._vendor = re.findall(r"http://\S+", sandbox.output())[0]

    def _edits(self, path: Path) -> None:
        """Sets the options that the section names, below the source."""
        options = [step for step in self.steps if re.fullmatch(r"\w+ = \S+", step)]
        assert len(options) == 2, options
        ours = "\n".join(options).replace("http://127.0.0.1:8399", self._vendor)
        head = "[sources.front-doors]\n"
        text = path.read_text().replace('interval = "60s"', "")
        path.write_text(text.replace(head, f"{head}{ours}\n"))


@pytest.fixture
def beginner(tmp_path: Path) -> Iterator[Beginner]:
    with Shell(tmp_path) as shell:
        yield Beginner(shell)


def test_its_steps_lead_to_a_first_event(beginner: Beginner) -> None:
    assert set(beginner.steps) >= STEPS
    for step in beginner.steps:
        beginner.does(step)
    status = beginner.shell.types("roundsman status").stdout
    assert "source front-doors type=parakey.event_logs state=ok" in status


def test_it_is_short() -> None:
    assert len(pages.text_of(README).splitlines()) <= LONGEST
