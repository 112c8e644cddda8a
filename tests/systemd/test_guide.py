"""The other lines of the guides for a service: each is on a page, and is run here."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator

import pytest

import pages
import terminal
from installed import CONFIG, GUIDE, Service, Vendor
from machine import Machine

WRITTEN = {place.text for page in pages.written() for place in [*pages.commands(page), *pages.spans(page)]}


def typed(service: Service, line: str) -> str:
    """Run the line as root in a clone of the repository; its output."""
    machine = service.machine
    if re.search(r"^journalctl .* -f ", line):
        # The first line that it follows with; the reader is then ended.
        return machine.shell(f'exec 3< <({line}); read -r text <&3; kill $!; echo "$text"')
    command, _, filtered = line.partition(" | jq ")
    if filtered:
        command += f" --since=@{service.began:.6f}"  # other tests had another program write in its name
    text = machine.shell(command, stdin="0123456789abcdef\n", folder="/root/roundsman")
    if not filtered or shutil.which("jq") is None:
        return text
    return subprocess.run(
        f"jq -c {filtered}", input=text, shell=True, capture_output=True, text=True, check=True
    ).stdout


@pytest.mark.parametrize("topic", terminal.BOOTED)
def test_each_line_of_the_guides_works_on_a_service(service: Service, vendor: Vendor, topic: str) -> None:
    ids = vendor.add(topic, 2)
    service.tells(ids)
    service.machine.ask("rm", "-rf", "/root/roundsman-damaged", "/var/backups/roundsman.db")
    for line in terminal.BOOTED[topic]:
        assert line in WRITTEN, line
        text = typed(service, line)
        if "jq" in line:
            member = re.findall(r"select\(\.(\w+)\)", line)[0]
            assert all(member in json.loads(each) for each in text.splitlines())
            assert text
    ids += vendor.add(f"{topic}-after", 2)
    service.tells(ids)


def test_a_sink_writes_to_a_folder_of_a_group(service: Service, vendor: Vendor) -> None:
    """By "Files in another folder"."""
    machine = service.machine
    [command] = pages.commands(GUIDE, "Files in another folder")
    assert command.text == terminal.FOLDER
    machine.shell(command.text)
    [unit] = pages.blocks(GUIDE, "ini")
    service.drop_in(*unit.text.removeprefix("[Service]\n").splitlines())
    [sink] = [block for block in pages.blocks(GUIDE, "toml") if block.section == "Files in another folder"]
    service.configure(lambda text: text + "\n" + sink.text.replace("[sinks.archive]", "[sinks.shared]"))
    machine.run("systemctl", "restart", "roundsman")
    ids = vendor.add("shared", 3)
    service.tells(ids)
    path = machine.root / "srv/events/events.jsonl"
    machine.until(lambda: path.exists() and path.read_text().count("co.parakey") == len(ids))
    assert machine.run("stat", "--format=%a %G", "/srv/events/events.jsonl") == "640 events\n"
    machine.shell("rm -rf /srv/events; groupdel events")


@pytest.fixture
def without_a_socket(machine: Machine) -> Iterator[None]:
    yield
    machine.shell("rm -f /etc/systemd/system/roundsman.socket; systemctl daemon-reload")


def test_a_socket_is_set_up_and_taken_away_by_the_guides_lines(
    service: Service, vendor: Vendor, without_a_socket: None
) -> None:
    machine = service.machine
    install, stop, disable = terminal.SOCKET
    assert {install, stop, disable} <= WRITTEN
    service.configure(lambda text: text + '\n[listen]\naddress = "127.0.0.1:8377"\n')
    machine.shell(machine.shell(install).partition("next: ")[2])
    assert machine.show("ActiveState", "roundsman.socket") == "active"
    machine.shell(stop)
    assert machine.show("ActiveState") == "inactive"
    machine.shell("systemctl start roundsman.socket roundsman")
    assert machine.show("ActiveState") == "active"
    machine.shell(disable)
    assert machine.show("ActiveState", "roundsman.socket") == "inactive"


def test_the_reload_of_a_wrong_file_says_what_the_guide_shows(service: Service) -> None:
    [shown] = [command for command in pages.commands(GUIDE) if command.text == "roundsman reload"]
    good = (service.machine.root / CONFIG[1:]).read_text()
    service.configure(lambda text: text.replace('type = "file"', 'type = "fil"'))
    said = service.machine.fails("roundsman", "reload")
    assert said.splitlines() == list(shown.shown)
    (service.machine.root / CONFIG[1:]).write_text(good)
    assert service.machine.run("roundsman", "reload") == "reloaded: nothing has changed\n"


def test_a_plugin_is_installed_beside_the_service(service: Service) -> None:
    machine = service.machine
    assert terminal.PLUGIN in WRITTEN
    machine.run("roundsman", "new", "source", "acme.orders", "--into", "/root/your-package")
    machine.shell(terminal.PLUGIN)
    found = {each["type"]: each for each in json.loads(machine.run("roundsman", "plugins", "--json"))}
    assert (found["acme.orders"]["origin"], found["acme.orders"]["error"]) == (
        "roundsman-acme-orders 0.1.0",
        None,
    )
    machine.shell("/opt/roundsman/bin/pip uninstall --yes roundsman-acme-orders; rm -rf /root/your-package")
