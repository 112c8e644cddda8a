"""Roundsman as the guide installs it on a machine, and a simulated vendor beside it."""

import itertools
import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import httpx
import pytest

import pages
from machine import REPOSITORY, Machine

GUIDE = "docs/guides/systemd.md"
TOKEN = "sandbox-access-token"
CONFIG = "/etc/roundsman/roundsman.toml"
EVENTS = "/var/lib/private/roundsman/events.jsonl"
VENDOR = "http://127.0.0.1:8399"
OLDEST = "1fe2b15"
"""The last commit of version 0.4, the first that had a package."""
SINCE_GONE = ("prometheus-client", "sdnotify")
"""What that version needs, and this one does not."""
FIGURES: dict[str, str] = {}
"""What a person may want to know of this run; printed at its end."""


class Steps(NamedTuple):
    """The lines of the guide's installation, in order."""

    install: str
    init: str
    secret: str
    check: str
    unit: str
    start: str
    active: str
    status: str


def steps() -> Steps:
    """The lines that install the service."""
    return Steps(*(command.text for command in pages.commands(GUIDE, "Install")))


def removal() -> list[str]:
    """The lines that remove it."""
    return [command.text for command in pages.commands(GUIDE, "Remove")]


def cron_line(guide: str = "backups-and-upgrades") -> str:
    """What is for /etc/cron.d."""
    [block] = pages.blocks(f"docs/guides/{guide}.md", "cron")
    return block.text.strip()


def for_the_sandbox(text: str) -> str:
    """What a reader of the guide edits in the configuration, with a sandbox instead of an account."""
    text = text.replace("[sources.front-doors]\n", f'[sources.front-doors]\nbase_url = "{VENDOR}"\n')
    text = text.replace('# [sinks.console]\n# type = "stdout"', '[sinks.console]\ntype = "stdout"')
    return text.replace('interval = "60s"', 'interval = "300ms"')


def put_oldest(machine: Machine, folder: str) -> None:
    """A clone of version 0.4, and the libraries that only that version needs."""
    archive = ["git", "-C", str(REPOSITORY), "archive", OLDEST]
    packed = subprocess.run(archive, capture_output=True, check=False).stdout
    if not packed:
        pytest.skip("needs a clone with its history: git fetch --unshallow")
    place = machine.root / folder.lstrip("/")
    place.mkdir()
    subprocess.run(["tar", "-x", "-C", place], input=packed, check=True)
    wheel = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    wheel += [f"--wheel-dir={machine.root / 'srv/wheels'}", *SINCE_GONE]
    subprocess.run(wheel, check=True, capture_output=True)


class Vendor:
    """The simulated Parakey inside the machine, from this side."""

    _started = itertools.count(1)
    """Each has a unit of its own: systemd may know the unit of an ended one for long."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._unit = f"vendor-{next(self._started)}"
        (machine.root / "srv/vendor.py").write_text((REPOSITORY / "tests/systemd/vendor.py").read_text())
        socket = machine.root / "srv/vendor.sock"
        socket.unlink(missing_ok=True)
        machine.run(
            "systemd-run",
            f"--unit={self._unit}",
            "--collect",
            "/opt/roundsman/bin/python",
            "/srv/vendor.py",
            "/srv/vendor.sock",
        )
        machine.until(lambda: "/srv/vendor.sock" in machine.ask("cat", "/proc/net/unix"))
        self._client = httpx.Client(transport=httpx.HTTPTransport(uds=str(socket)), timeout=60)

    def tell(self, **wish: Any) -> Any:
        return self._client.post("http://vendor/", content=json.dumps(wish)).json()

    def add(self, name: str, count: int, apart: float = 0.0) -> list[str]:
        """So many event logs happen, or happened, so many seconds apart; their ids."""
        self.tell(add=count, name=name, apart=apart)
        return [f"{name}-{n:05d}" for n in range(count)]

    @property
    def asked(self) -> list[float]:
        """When it was asked (Unix)."""
        return list(self.tell()["asked"])

    def stop(self) -> None:
        self._client.close()
        self._machine.ask("systemctl", "stop", self._unit)


class Service:
    """The installed service: its configuration, its events, its logs."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.began = float(machine.ask("date", "+%s.%N"))

    def configure(self, change: Callable[[str], str] = str) -> None:
        (self.machine.root / CONFIG[1:]).write_text(change(self.machine.original))

    def drop_in(self, *lines: str) -> None:
        """As `systemctl edit` leaves them."""
        place = self.machine.root / "etc/systemd/system/roundsman.service.d/test.conf"
        place.parent.mkdir(exist_ok=True)
        place.write_text("\n".join(["[Service]", *lines, ""]))
        self.machine.run("systemctl", "daemon-reload")

    def start(self) -> None:
        self.machine.run("systemctl", "start", "roundsman")

    @property
    def pid(self) -> int:
        return int(self.machine.show("MainPID"))

    def kill(self, signal: str = "KILL") -> None:
        """A signal for its process, as the kernel's when memory is out: past systemd."""
        self.machine.shell(f"kill -{signal} {self.pid}")  # bash has it; the machine has no program for it

    def told(self) -> list[str]:
        """The ids in the file sink, in order."""
        path = self.machine.root / EVENTS[1:]
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        if lines and not lines[-1].endswith("\n"):
            lines.pop()  # it is being written
        return [event["id"] for event in map(json.loads, lines) if event["type"].startswith("co.parakey.")]

    def tells(self, ids: list[str], seconds: float = 60) -> None:
        """Waits until exactly these were reported, each once."""
        self.machine.until(lambda: len(self.told()) >= len(ids), seconds)
        assert sorted(self.told()) == sorted(ids), len(self.told())

    def entries(self, *options: str) -> list[dict[str, Any]]:
        """What the journal has of it since this test began."""
        return self.machine.journal(f"--since=@{self.began:.6f}", *options)

    def logged(self, event: str) -> list[dict[str, Any]]:
        """The lines of its log with this name."""
        found = [
            json.loads(entry["MESSAGE"])
            for entry in self.entries("_COMM=roundsman")
            if entry["MESSAGE"].startswith("{")
        ]
        return [line for line in found if line.get("event") == event]
