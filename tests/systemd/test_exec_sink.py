"""A program of an exec sink inside the service's isolation, on the booted machine."""

import json
import stat
from pathlib import Path

import pages
from installed import Service, Vendor
from machine import Machine

STATE = "var/lib/private/roundsman"
BELL = '\n[sinks.bell]\ntype = "exec"\ncommand = ["/usr/local/bin/ring-bell"]\ntypes = ["co.*"]\n'
PAGE = "docs/sinks/exec.md"

PROBE = r"""#!/bin/sh
cat >> "$STATE_DIRECTORY/bell.jsonl"
try() { if "$@" >/dev/null 2>&1; then echo "could: $*"; else echo "could not: $*"; fi; }
exec > "$STATE_DIRECTORY/bell.txt"
try python3 -c 'pass'
try logger --tag bell -- "rung by $ROUNDSMAN_SINK"
try touch /tmp/bell /var/lib/roundsman/bell
try python3 -c 'import socket; socket.create_connection(("127.0.0.1", 8399))'
try touch /srv/bell/x
try touch /usr/local/bin/x
try ls /root
try python3 -c 'import mmap; mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)'
try unshare --user true
try su -c true
env
"""


def program(machine: Machine, text: str) -> None:
    path = machine.root / "usr/local/bin/ring-bell"
    path.write_text(text)
    path.chmod(0o755)


def state(service: Service, name: str) -> Path:
    return service.machine.root / STATE / name


def rung(service: Service) -> list[str]:
    """The ids that the program got."""
    path = state(service, "bell.jsonl")
    return [json.loads(line)["id"] for line in path.read_text().splitlines()] if path.exists() else []


def ring(service: Service, vendor: Vendor, name: str) -> str:
    """What the program finds out, with a new event."""
    before = len(rung(service))
    state(service, "bell.txt").unlink(missing_ok=True)
    vendor.add(name, 2)
    service.machine.until(lambda: len(rung(service)) == before + 2)
    text = state(service, "bell.txt")
    service.machine.until(lambda: text.exists() and "ROUNDSMAN_SINK=" in text.read_text())
    return text.read_text()


def test_a_program_can_do_in_the_service_what_the_page_says(service: Service, vendor: Vendor) -> None:
    machine = service.machine
    machine.shell("install -d -m 777 /srv/bell")
    program(machine, PROBE)
    service.configure(lambda text: text + BELL)
    machine.run("systemctl", "reload", "roundsman")
    text = ring(service, vendor, "a")
    said = dict(line.split(": ", 1)[::-1] for line in text.splitlines() if line.startswith("could"))
    assert {what for what, could in said.items() if could == "could"} == {
        "python3 -c pass",
        "logger --tag bell -- rung by bell",
        "touch /tmp/bell /var/lib/roundsman/bell",
        'python3 -c import socket; socket.create_connection(("127.0.0.1", 8399))',
    }
    assert len(said) == 10
    machine.until(lambda: "rung by bell" in machine.run("journalctl", "-t", "bell", "-o", "cat"))
    assert not (machine.root / "tmp/bell").exists(), "it has a /tmp of its own"
    names = {line.partition("=")[0] for line in text.splitlines() if "=" in line}
    assert {"ROUNDSMAN_SINK", "STATE_DIRECTORY", "PATH"} <= names
    assert not names & {"CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"}
    assert stat.S_IMODE(state(service, "bell.jsonl").stat().st_mode) == 0o600
    # The drop-in of the page.
    [drop_in] = pages.blocks(PAGE, "ini")
    service.drop_in(*drop_in.text.splitlines()[1:])
    machine.run("systemctl", "restart", "roundsman")
    opened = ring(service, vendor, "b")
    assert "could: touch /srv/bell/x" in opened
    assert "could: python3 -c import mmap" in opened
    assert "could not: touch /usr/local/bin/x" in opened


SLOW = """#!/bin/sh
trap 'echo asked >> "$STATE_DIRECTORY/asked"' TERM
cat > "$STATE_DIRECTORY/input"
echo $$ > "$STATE_DIRECTORY/pid"
(trap '' TERM; exec sleep 600) &
for _ in $(seq %d); do sleep 0.1; done
cat "$STATE_DIRECTORY/input" >> "$STATE_DIRECTORY/bell.jsonl"
"""


def test_a_stop_leaves_a_run_its_time_and_nothing_of_it_stays(service: Service, vendor: Vendor) -> None:
    """The signal of `systemctl stop` goes to the daemon alone: KillMode=mixed."""
    machine = service.machine
    program(machine, SLOW % 3)
    service.configure(lambda text: text + BELL)
    machine.run("systemctl", "reload", "roundsman")
    ids = vendor.add("a", 1)
    machine.until(lambda: state(service, "pid").exists())
    machine.run("systemctl", "stop", "roundsman")
    assert rung(service) == ids
    assert not state(service, "asked").exists()
    machine.fails("pgrep", "sleep")
    program(machine, SLOW % 600)
    state(service, "pid").unlink()
    service.start()
    ids += vendor.add("b", 1)
    machine.until(lambda: state(service, "pid").exists())
    machine.run("systemctl", "stop", "roundsman")
    assert state(service, "asked").read_text() == "asked\n"
    assert (machine.show("Result"), machine.show("ExecMainStatus")) == ("success", "0")
    machine.fails("pgrep", "sleep")
    assert rung(service) == ids[:1], "the second is not acknowledged"
    program(machine, PROBE)
    service.start()
    machine.until(lambda: rung(service) == ids)


def test_a_program_that_the_service_cannot_see_is_warned_of(service: Service) -> None:
    machine = service.machine
    program(machine, PROBE)
    (machine.root / "usr/local/bin/ring-bell").chmod(0o700)
    service.configure(lambda text: text + BELL)
    said = machine.shell("roundsman service install 2>&1")
    assert (
        "warning: sinks.bell.command: /usr/local/bin/ring-bell cannot be executed by the service's user; chmod o+rx\n"
        in said
    )
    machine.shell("install -m 755 /usr/local/bin/ring-bell /root/ring-bell")
    service.configure(lambda text: text + BELL.replace("/usr/local/bin", "/root"))
    said = machine.shell("roundsman service install 2>&1")
    assert (
        "warning: sinks.bell.command: /root/ring-bell: /root is hidden from the service; move the program to /usr/local/bin\n"
        in said
    )
