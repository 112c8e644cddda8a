"""The machine that all tests here share, and the service on it, fresh for each test."""

from collections.abc import Iterator
from typing import Any

import pytest

from conftest import need
from installed import CONFIG, FIGURES, TOKEN, Service, Vendor, for_the_sandbox, readme_steps
from machine import Machine, missing


def pytest_terminal_summary(terminalreporter: Any) -> None:
    for name, value in FIGURES.items():
        terminalreporter.write_line(f"booted: {name}: {value}")


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine on which README's service section was executed, line by line, by somebody with a careful umask."""
    why = missing()
    need(why is None, why or "")
    with Machine(tmp_path_factory.mktemp("machine")) as machine:
        install, init, secret, unit, start = [f"umask 077; {line}" for line in readme_steps()]
        machine.shell(install, folder="/root/roundsman")
        machine.shell(init)
        edited = for_the_sandbox((machine.root / CONFIG[1:]).read_text())
        (machine.root / CONFIG[1:]).write_text(edited)
        machine.shell(secret, stdin=TOKEN + "\n")
        machine.shell(unit)
        machine.shell(start)
        assert machine.ask("systemctl", "is-enabled", "roundsman") == "enabled"
        assert machine.ask("systemctl", "is-active", "roundsman") == "active"
        machine.original = edited
        yield machine


@pytest.fixture
def vendor(machine: Machine) -> Iterator[Vendor]:
    vendor = Vendor(machine)
    yield vendor
    vendor.stop()


@pytest.fixture
def service(machine: Machine, vendor: Vendor) -> Iterator[Service]:
    """As README leaves it, running, with an empty log; and stopped afterwards."""
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
