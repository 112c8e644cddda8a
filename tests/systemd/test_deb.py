"""The Debian package: built on the machine, installed there, upgraded, removed."""

import json
from collections.abc import Iterator

import pytest

import pages
import terminal
from conftest import need
from installed import CONFIG, GUIDE, TOKEN, for_the_sandbox
from machine import Machine, missing

STATE = "/var/lib/private/roundsman"
APT = "apt-get install --yes --quiet"


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine with nothing but the package, installed by the guide's line."""
    why = missing()
    need(why is None, why or "")
    [line] = pages.commands(GUIDE, "Debian package")
    assert "apt install" in line.text
    with Machine(tmp_path_factory.mktemp("bare")) as machine:
        machine.shell(line.text.replace("apt install", APT), folder="/root/roundsman")
        yield machine


def test_it_brings_the_program_and_the_unit_and_starts_once_configured(bare: Machine) -> None:
    assert bare.show("LoadState") == "loaded"
    assert bare.show("ActiveState") == "inactive", "there is nothing yet that it could do"
    bare.run("roundsman", "init", "--service")
    file = bare.root / CONFIG[1:]
    file.write_text(for_the_sandbox(file.read_text()))
    bare.shell("(umask 077; cat > /etc/roundsman/credentials/parakey)", stdin=TOKEN + "\n")
    sandbox = ["--unit=vendor", "--collect", "--setenv=PYTHONPATH=/usr/lib/roundsman"]
    bare.run(
        "systemd-run", *sandbox, "python3", "-m", "roundsman.sandbox", "--port", "8399", "--per-second", "20"
    )
    bare.run("systemctl", "enable", "--now", "roundsman")
    bare.until(lambda: "co.parakey" in bare.ask("cat", f"{STATE}/events.jsonl"))
    assert bare.show("ActiveState") == "active"
    assert "state=ok" in bare.run("roundsman", "status")
    assert bare.run("ls", "/usr/share/doc/roundsman/examples").split() == [
        "compose",
        "compose.yaml",
        "grafana",
        "prometheus",
    ]


def test_an_upgrade_restarts_it_and_it_goes_on(bare: Machine) -> None:
    pid, before = bare.show("MainPID"), bare.run("roundsman", "events", "--json", "-n", "100000")
    bare.shell(f"{APT} --reinstall ./dist/roundsman_*.deb", folder="/root/roundsman")
    assert (bare.show("ActiveState"), bare.show("MainPID") == pid) == ("active", False)
    assert bare.run("roundsman", "events", "--json", "-n", "100000").startswith(before)


def test_an_upgrade_is_done_with_any_configuration(bare: Machine) -> None:
    """What does not start is the service's trouble, and no reason for apt to be stuck."""
    file = bare.root / CONFIG[1:]
    good = file.read_text()
    file.write_text(good.replace("interval", "intervall"))
    bare.shell(f"{APT} --reinstall ./dist/roundsman_*.deb", folder="/root/roundsman")
    assert bare.run("dpkg-query", "--show", "--showformat=${db:Status-Abbrev}", "roundsman").strip() == "ii"
    file.write_text(good)
    bare.run("systemctl", "restart", "roundsman")
    assert "belongs to a package" in bare.fails("roundsman", "service", "install")


def test_a_plugin_is_unpacked_without_pip(bare: Machine) -> None:
    bare.run("roundsman", "new", "source", "acme.orders", "--into", "/root/your-package")
    bare.shell(
        "python3 -m venv elsewhere && elsewhere/bin/pip wheel --quiet --no-deps ./your-package",
        folder="/root",
    )
    bare.shell("mv roundsman_acme_orders-*.whl your_package-1.0-py3-none-any.whl", folder="/root")
    bare.shell(terminal.UNPACKED, folder="/root")
    found = {each["type"]: each for each in json.loads(bare.run("roundsman", "plugins", "--json"))}
    assert found["acme.orders"]["error"] is None


def test_removed_it_leaves_the_log_and_the_configuration(bare: Machine) -> None:
    said = bare.run("apt-get", "purge", "--yes", "--quiet", "roundsman")
    assert (
        "roundsman: /etc/roundsman with its secrets and the log in /var/lib/private/roundsman are kept"
        in said
    )
    assert bare.show("ActiveState") == "inactive"
    assert bare.ask("systemctl", "list-unit-files", "--no-legend", "roundsman*") == ""
    assert (bare.root / CONFIG[1:]).exists()
    assert (bare.root / STATE[1:] / "roundsman.db").exists()
    assert not (bare.root / "usr/lib/roundsman").exists()
