"""The path from an installed program to a first event, and on to all sources, as that page describes it."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import pages
from pages import Command
from ports import free_port
from reader import Running, Shell, awaited, form

PAGE = "docs/start/first-event.md"
SANDBOX = r"(python -m roundsman\.|roundsman )sandbox"
PATH_LINE = 'export PATH="$PWD/venv/bin:$PATH"'


class Follower:
    """Types the page's commands one after the other, and compares what is printed with what the page shows."""

    def __init__(self, shell: Shell) -> None:
        self.shell = shell
        self.listener = f"127.0.0.1:{free_port()}"
        self.replaced = {"127.0.0.1:8377": self.listener}
        """What a reader has instead of the page's examples."""
        self._left = [command for command in pages.commands(PAGE) if command.text != PATH_LINE]

    def next(self, begins: str) -> Command:
        """The next command of the page, with the reader's own values."""
        command = self._left.pop(0)
        assert re.match(begins, command.text), command.place
        text = command.text
        for theirs, ours in self.replaced.items():
            text = text.replace(theirs, ours)
        return command._replace(text=text)

    def types(self, begins: str) -> str:
        """Run the next command; what it printed, without its errors."""
        command = self.next(begins)
        done = self.shell.types(command.text)
        assert done.returncode == 0, (command.place, done.stderr)
        return done.stdout + done.stderr

    def shows(self, begins: str) -> str:
        """The same, for a command that prints what the page shows, but for its values."""
        shown = {form(line) for line in self._left[0].shown}
        printed = self.types(begins)
        assert shown == {form(line) for line in printed.splitlines()}, begins
        return printed

    def starts(self, begins: str, until: str, more: str = "") -> Running:
        """Start the next command, which runs until it is stopped."""
        command, _, target = self.next(begins).text.partition(" > ")
        return self.shell.starts(f"{command}{more}" + (f" > {target}" if target else ""), until=until)

    def done(self) -> bool:
        return not self._left


@pytest.fixture
def follower(tmp_path: Path) -> Iterator[Follower]:
    with Shell(tmp_path) as shell:
        yield Follower(shell)


def test_a_new_reader_sees_a_first_event_and_then_all_sources(follower: Follower) -> None:
    one_source(follower)
    all_sources(follower)
    assert follower.done(), "the page goes on"


def one_source(reader: Follower) -> None:
    shell = reader.shell
    reader.shows("roundsman init")
    lively = f" --per-second 20 --listen {reader.listener}"
    reader.replaced["--port 8399"] = "--port 0"
    sandbox = reader.starts(SANDBOX, "[sinks.archive]", lively)
    vendor = re.findall(r"http://\S+", sandbox.output())[0]
    reader.replaced |= {"http://127.0.0.1:8399": vendor}
    edited(shell.folder / "roundsman.toml", reader)
    name, _, value = reader.next("export").text.removeprefix("export ").partition("=")
    shell.environ[name] = value
    reader.shows("roundsman check --live")
    daemon = reader.starts("roundsman run", "co.parakey.event_log.created")
    [shown] = [json.loads(block.text) for block in pages.blocks(PAGE, "json")]
    first = next(line for line in daemon.output().splitlines() if '"specversion"' in line)
    assert list(json.loads(first)) == list(shown)
    assert list(json.loads(first)["data"]) == list(shown["data"])
    awaited(lambda: "cursor=0" not in shell.types("roundsman status").stdout)
    status = reader.shows("roundsman status")
    assert "source front-doors type=parakey.event_logs state=ok" in status
    assert len(reader.types("roundsman events -n 3").splitlines()) == 3
    assert daemon.stop() == 0
    sandbox.kill()


def edited(path: Path, reader: Follower) -> None:
    """The reader changes one table of the configuration to the page's."""
    [block] = pages.blocks(PAGE, "toml")
    table = block.text
    for theirs, ours in reader.replaced.items():
        table = table.replace(theirs, ours)
    head, _, rest = path.read_text().partition("[sources.front-doors]\n")
    path.write_text(head + table + "\n[sinks." + rest.partition("[sinks.")[2])


def all_sources(reader: Follower) -> None:
    shell = reader.shell
    lively = f" --per-second 20 --listen {reader.listener}"
    sandbox = reader.starts(SANDBOX, "submitted: ", lively)
    printed = (shell.folder / "all.toml").read_text()
    shell.exports(printed)
    daemon = reader.starts("roundsman run -c all.toml", "daemon.started")
    reader.shows("roundsman hooks create")
    key = re.findall(r"submitted: roundsman track keys (\w+)", sandbox.output())[-1]
    reader.replaced |= {"91653ad818": key}
    reader.shows("roundsman track keys")
    wanted = {"keys", "newsletter", "ledger"}

    def failed() -> list[dict[str, str]]:
        rows: list[dict[str, str]] = json.loads(shell.types("roundsman failures -c all.toml --json").stdout)
        return rows

    awaited(lambda: wanted <= {row["source"] for row in failed()}, otherwise=daemon.output)
    assert len(reader.types("roundsman failures").splitlines()) == 2
    reader.replaced |= {"done 833": f"done {failed()[0]['id']}"}
    reader.shows("roundsman failures done")
    assert '"webhook.taken"' in daemon.output()
    assert daemon.stop() == 0
