"""pipx, for one user on a fresh Debian, by the README: installed, a first event, an upgrade from 0.4, removed."""

import json
import re
from collections.abc import Iterator

import pytest

import pages
import terminal
from conftest import need
from installed import TOKEN, VENDOR, put_oldest
from machine import Machine, missing


class Person:
    """A user of the machine, with a clone."""

    def __init__(self, machine: Machine, name: str) -> None:
        self.machine, self.name, self.home = machine, name, f"/home/{name}"
        machine.run("useradd", "--create-home", "--shell=/bin/bash", name)
        machine.shell(f"cp -r /root/roundsman {self.home}/ && chown -R {name}: {self.home}")

    def types(self, line: str, folder: str = "") -> str:
        """A line in a shell of theirs; what it printed."""
        command = ("runuser", "--user", self.name, "--", "env", f"HOME={self.home}", "bash", "-lc", line)
        return self.machine.run(*command, folder=f"{self.home}/{folder}")

    def configures(self) -> None:
        """Step 2 of the README."""
        self.types("roundsman init")
        file = self.machine.root / self.home[1:] / "roundsman.toml"
        text = file.read_text()
        text = text.replace("[sources.front-doors]\n", f'[sources.front-doors]\nbase_url = "{VENDOR}"\n')
        text, changed = re.subn(r'(?m)^interval = "60s".*$', 'interval = "2s"', text)
        assert changed == 1
        file.write_text(text)

    def runs_until(self, more: int) -> str:
        """Start the daemon, wait until so many more events are in its file, and press Ctrl-C; what it printed."""
        before, unit = len(self.told()), f"run-{self.name}"
        self.machine.run(
            *("systemd-run", f"--unit={unit}", f"--uid={self.name}", f"--working-directory={self.home}"),
            *(f"--setenv=HOME={self.home}", f"--setenv=PARAKEY_ACCESS_TOKEN={TOKEN}"),
            *("bash", "-lc", "roundsman run > printed 2> log; echo $? > status"),
        )
        self.machine.until(lambda: len(self.told()) >= before + more)
        self.machine.run("systemctl", "kill", "--signal=INT", unit)
        self.machine.until(lambda: self.machine.show("ActiveState", unit) == "inactive")
        assert self.types("cat status") == "0\n"
        return self.types("cat printed")

    def told(self) -> list[str]:
        """The ids in the file of the sink, in order."""
        file = self.machine.root / self.home[1:] / "events.jsonl"
        lines = file.read_text().splitlines(keepends=True) if file.exists() else []
        return [json.loads(line)["id"] for line in lines if line.endswith("\n")]

    def logged(self) -> list[str]:
        """The ids in the log, in order."""
        return [
            json.loads(line)["id"] for line in self.types("roundsman events --json -n 100000").splitlines()
        ]


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine on which root has installed the program for all by the guide's line; it simulates the vendor."""
    why = missing()
    need(why is None, why or "")
    with Machine(tmp_path_factory.mktemp("pipx")) as machine:
        machine.shell(terminal.PIPX_FOR_ALL, folder="/root/roundsman")
        sandbox = ("roundsman", "sandbox", "--port", "8399", "--per-second", "20")
        machine.run("systemd-run", "--unit=sandbox", "--collect", "--uid=nobody", *sandbox)
        yield machine


def left(person: Person) -> list[str]:
    """What is called like the program in the user's folder, but for the clone."""
    clone = f"{person.home}/roundsman"
    return person.types(f"find ~ -path {clone} -prune -o -iname '*roundsman*' -print").split()


def test_the_readmes_way_leads_to_a_first_event_and_away_again(machine: Machine) -> None:
    anna = Person(machine, "anna")
    [line] = [each.text for each in pages.commands("README.md", "Install") if each.text in terminal.PIPX]
    anna.types(line, folder="roundsman")
    assert anna.types("command -v roundsman") == "/home/anna/.local/bin/roundsman\n"
    anna.configures()
    checked = anna.types(f"PARAKEY_ACCESS_TOKEN={TOKEN} roundsman check --live")
    assert "sources.front-doors: answers\n" in checked
    printed = anna.runs_until(20)
    told = anna.told()
    assert "event_log.created" in printed
    assert told == anna.logged()
    assert len(set(told)) == len(told)
    assert "front-doors" in anna.types("roundsman status")

    anna.types(f"{terminal.UNINSTALLED[0]}; rm -r roundsman.toml events.jsonl ~/.local/state/roundsman")
    assert left(anna) == []


def test_version_0_4_is_upgraded_by_pipx_with_its_store(machine: Machine) -> None:
    bert = Person(machine, "bert")
    put_oldest(machine, f"{bert.home}/old")
    machine.run("chown", "-R", "bert:", f"{bert.home}/old")
    bert.types("pipx install .", folder="old")
    assert bert.types("roundsman --version") == "roundsman 0.4.0\n"
    bert.configures()
    bert.runs_until(20)
    before = bert.told()

    [again] = [line for line in terminal.PIPX if "--force" in line]
    bert.types(again, folder="roundsman")
    assert bert.types("roundsman --version") != "roundsman 0.4.0\n"
    bert.runs_until(20)
    after = bert.told()
    assert after[: len(before)] == before
    assert len(set(after)) == len(after)
    assert bert.logged() == after


def test_what_root_installed_is_removed_by_the_guides_line(machine: Machine) -> None:
    machine.run("roundsman", "init", "--service")
    machine.run("systemctl", "stop", "sandbox")
    machine.shell(f"{terminal.UNINSTALLED[1]}; rm -r /etc/roundsman")
    assert machine.shell("find /opt/pipx/venvs /usr/local /etc /var/lib -iname '*roundsman*'") == ""
