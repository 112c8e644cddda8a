"""The machine that all tests here share, and the service on it, fresh for each test."""

from collections.abc import Iterator
from typing import Any

import pytest

from conftest import need
from installed import CONFIG, FIGURES, TOKEN, Service, Steps, Vendor, for_the_sandbox, steps
from machine import Machine, missing


def pytest_terminal_summary(terminalreporter: Any) -> None:
    for name, value in FIGURES.items():
        terminalreporter.write_line(f"booted: {name}: {value}")


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine on which the guide's installation was executed, line by line, with a careful umask."""
    why = missing()
    need(why is None, why or "")
    with Machine(tmp_path_factory.mktemp("machine")) as machine:
        guide = Steps(*(f"umask 077; {line}" for line in steps()))
        machine.shell(guide.install, folder="/root/roundsman")
        machine.shell(guide.init)
        edited = for_the_sandbox((machine.root / CONFIG[1:]).read_text())
        (machine.root / CONFIG[1:]).write_text(edited)
        machine.shell(guide.secret, stdin=TOKEN + "\n")
        vendor = Vendor(machine)
        assert "sources.front-doors: answers\n" in machine.shell(guide.check)
        machine.shell(guide.unit)
        machine.shell(guide.start)
        assert machine.ask("systemctl", "is-enabled", "roundsman") == "enabled"
        assert machine.shell(guide.active) == "active\n"
        assert "source front-doors" in machine.shell(guide.status)
        vendor.stop()
        machine.original = edited
        yield machine


@pytest.fixture
def vendor(machine: Machine) -> Iterator[Vendor]:
    vendor = Vendor(machine)
    yield vendor
    vendor.stop()


@pytest.fixture
def service(machine: Machine, vendor: Vendor) -> Iterator[Service]:
    """As the guide leaves it, running, with an empty log; and stopped afterwards."""
    machine.run("systemctl", "stop", "roundsman")
    machine.run("systemctl", "clean", "--what=state", "roundsman")
    service = Service(machine)
    service.configure()
    service.start()
    machine.until(lambda: len(vendor.asked) > 1)  # start = "now": only what happens after the first visit
    yield service
    machine.ask("systemctl", "stop", "roundsman")
    machine.shell(
        "rm -rf /etc/systemd/system/roundsman.service.d; systemctl daemon-reload; systemctl reset-failed"
    )
