"""The Debian package: built on the machine, installed there, upgraded, removed."""

import json
from collections.abc import Iterator

import pytest

import pages
import terminal
from conftest import need
from installed import CONFIG, GUIDE, TOKEN, for_the_sandbox, put_oldest, removal
from machine import Machine, missing

STATE = "/var/lib/private/roundsman"
APT = "apt-get install --yes --quiet"
VENDOR = (
    *("systemd-run", "--unit=vendor", "--collect", "--setenv=PYTHONPATH=/srv/vendor"),
    *("python3", "-m", "roundsman.sandbox", "--port", "8399", "--per-second", "20"),
)


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
    bare.run("cp", "-a", "/usr/lib/roundsman", "/srv/vendor")  # it stays when the package is removed
    bare.run(*VENDOR)
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


def test_each_shell_finds_its_completions(bare: Machine) -> None:
    """That they work is in tests/test_completion.py."""
    found = bare.run("dpkg-query", "--listfiles", "roundsman").splitlines()
    files = [path for path in found if "ompletions" in path and (bare.root / path[1:]).is_file()]
    assert sorted(files) == [
        "/usr/share/bash-completion/completions/roundsman",
        "/usr/share/fish/vendor_completions.d/roundsman.fish",
        "/usr/share/zsh/vendor-completions/_roundsman",
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


@pytest.fixture
def clean(bare: Machine) -> Machine:
    """Nothing is left of the package, after what the guide removes."""
    bare.ask("systemctl", "stop", "vendor")
    bare.ask("apt-get", "purge", "--yes", "--quiet", "roundsman")
    [data] = [line for line in removal() if "/etc/roundsman" in line]
    bare.shell(f"{data}; rm -rf /usr/local/lib/roundsman")
    return bare


def test_purged_and_by_the_guides_line_nothing_is_left(clean: Machine) -> None:
    kept = [f"-path {path} -prune -o" for path in ("/proc", "/sys", "/srv", "/root", "/tmp", "/var/tmp")]
    assert clean.shell(f"find / -xdev {' '.join(kept)} -name '*roundsman*' -print") == ""


def test_version_0_4_is_upgraded_with_its_store_and_its_service(clean: Machine) -> None:
    """The package of that version, its configuration and its daemon: then the package of this one."""
    put_oldest(clean, "/root/old")
    clean.shell(f"make deb && {APT} ./dist/roundsman_0.4.0_*.deb", folder="/root/old")
    clean.run("roundsman", "init", "--service")
    file = clean.root / CONFIG[1:]
    file.write_text(for_the_sandbox(file.read_text()))
    text = file.read_text()
    clean.shell("(umask 077; cat > /etc/roundsman/credentials/parakey)", stdin=TOKEN + "\n")
    clean.run(*VENDOR)
    clean.run("systemctl", "enable", "--now", "roundsman")
    clean.until(lambda: "co.parakey" in clean.ask("cat", f"{STATE}/events.jsonl"))
    assert clean.run("roundsman", "--version") == "roundsman 0.4.0\n"
    pid, before = clean.show("MainPID"), sent(clean)

    clean.shell(f"{APT} ./dist/roundsman_*.deb", folder="/root/roundsman")
    assert clean.run("roundsman", "--version") != "roundsman 0.4.0\n"
    assert (clean.show("ActiveState"), clean.show("MainPID") == pid) == ("active", False)
    assert clean.ask("systemctl", "is-enabled", "roundsman") == "enabled"
    assert file.read_text() == text
    clean.until(lambda: len(sent(clean)) > len(before) + 20)
    after = sent(clean)
    assert after[: len(before)] == before
    assert len(set(after)) == len(after)
    logged = [
        json.loads(line)["id"]
        for line in clean.run("roundsman", "events", "--json", "-n", "100000").splitlines()
    ]
    assert [each for each in logged if each in set(after)] == after
    assert "state=ok" in clean.run("roundsman", "status")


def sent(machine: Machine) -> list[str]:
    """The ids in the file sink, in order."""
    lines = (machine.root / STATE[1:] / "events.jsonl").read_text().splitlines(keepends=True)
    return [json.loads(line)["id"] for line in lines if line.endswith("\n")]
