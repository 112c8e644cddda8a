"""The service in a booted systemd, installed by the lines of the guide."""

import json
import re
import threading
import time
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

import terminal
from installed import CONFIG, FIGURES, TOKEN, Service, Vendor, cron_line, removal, steps
from machine import Machine

STATE = "/var/lib/private/roundsman"


# -- starting and reporting --------------------------------------------------------------------------------------------


def test_it_is_active_only_once_the_rounds_have_begun(service: Service) -> None:
    entries = service.entries()
    said = [entry["MESSAGE"] for entry in entries]
    [ready] = [n for n, text in enumerate(said) if '"daemon.started"' in text]
    [active] = [n for n, text in enumerate(said) if text.startswith("Started ")]
    assert ready < active
    assert service.machine.show("Type") == "notify"


def test_the_status_text_counts_visits_and_events(service: Service, vendor: Vendor) -> None:
    service.tells(vendor.add("a", 3))
    text = service.machine.until(
        lambda: re.search(r"1 source, 2 sinks; (\d+) visits, 3 events", service.machine.show("StatusText"))
    )
    assert int(text[1]) > 0
    assert text[0] in service.machine.run("systemctl", "status", "roundsman")


def test_events_and_logs_reach_the_journal_as_json_and_with_priorities(
    service: Service, vendor: Vendor
) -> None:
    ids = vendor.add("a", 3)
    service.tells(ids)
    vendor.tell(faults="answer", times=9)
    service.machine.until(lambda: service.logged("poll.failed"))
    service.configure(lambda text: text.replace("[sources", "[source"))
    service.machine.fails("systemctl", "reload", "roundsman")
    service.machine.until(lambda: service.logged("config.refused"))
    found = [e for e in service.entries() if e["_PID"] != "1"]
    priorities = {json.loads(e["MESSAGE"]).get("event"): e["PRIORITY"] for e in found}
    assert priorities["daemon.started"] == "6"
    assert priorities["poll.failed"] == "4"
    assert priorities["config.refused"] == "3"
    assert {e["SYSLOG_IDENTIFIER"] for e in found} == {"roundsman"}
    events = [json.loads(e["MESSAGE"]) for e in found if "specversion" in e["MESSAGE"]]
    assert sorted(e["id"] for e in events if e["type"].startswith("co.")) == ids
    # As a person reads it: all lines of ours are JSON; systemd's own ("Started ...") are among them only with -u.
    lines = service.machine.run(
        "journalctl", "-t", "roundsman", "-o", "cat", f"--since=@{service.began:.6f}"
    ).splitlines()
    assert len(lines) >= len(found)
    assert all(isinstance(json.loads(line), dict) for line in lines)
    lines = service.machine.run(
        "journalctl", "-u", "roundsman", "-o", "cat", f"--since=@{service.began:.6f}"
    ).splitlines()
    theirs = [line for line in lines if not line.startswith("{")]
    assert all("roundsman.service" in line or "Roundsman" in line for line in theirs), theirs


def test_a_wrong_configuration_ends_it_for_a_person_to_see(service: Service, machine: Machine) -> None:
    """Not started again and again, and the journal has the reasons, in a line of JSON."""
    machine.run("systemctl", "stop", "roundsman")
    service.configure(lambda text: text.replace("interval", "intervall"))
    machine.fails("systemctl", "start", "roundsman")
    assert (machine.show("ActiveState"), machine.show("ExecMainStatus"), machine.show("NRestarts")) == (
        "failed",
        "2",
        "0",
    )
    [why] = service.logged("command.failed")
    assert "sources.front-doors.intervall: unknown option; did you mean interval?" in why["problems"][1]


# -- reloading ---------------------------------------------------------------------------------------------------------


def test_a_good_file_is_taken_over_and_a_bad_one_refused_in_a_living_service(
    service: Service, vendor: Vendor
) -> None:
    machine, pid = service.machine, service.pid
    service.configure(lambda text: text + '\n[sinks.second]\ntype = "file"\npath = "second.jsonl"\n')
    machine.run("systemctl", "reload", "roundsman")
    machine.until(lambda: "3 sinks" in machine.show("StatusText"))
    service.configure(lambda text: text.replace('interval = "300ms"', 'interval = "never"'))
    machine.fails("systemctl", "reload", "roundsman")
    assert "refused" in machine.show("StatusText")
    [refused] = service.logged("config.refused")
    assert "sources.front-doors.interval: never is not a duration" in refused["problems"][0]
    assert (machine.show("ActiveState"), service.pid, machine.show("NRestarts")) == ("active", pid, "0")
    ids = vendor.add("a", 2)
    service.tells(ids)
    machine.until(lambda: (machine.root / STATE[1:] / "second.jsonl").read_text().count("co.parakey") == 2)
    service.configure()
    machine.run("systemctl", "reload", "roundsman")
    assert "refused" not in machine.show("StatusText")


# -- what it may and may not -------------------------------------------------------------------------------------------


def test_a_secret_is_read_and_appears_nowhere(service: Service, vendor: Vendor) -> None:
    machine = service.machine
    service.tells(vendor.add("a", 1))  # the vendor requires the token
    machine.run("systemctl", "reload", "roundsman")
    places = {
        "the journal": machine.run("journalctl", "--boot", "--output=export", "--all"),
        "systemctl": machine.run("systemctl", "show", "roundsman")
        + machine.ask("systemctl", "status", "roundsman"),
        "the command line": machine.shell(f"tr '\\0' ' ' < /proc/{service.pid}/cmdline"),
        "the environment": machine.shell(f"tr '\\0' ' ' < /proc/{service.pid}/environ"),
        "the commands": machine.run("roundsman", "status"),
    }
    for place, text in places.items():
        assert text, place
        assert TOKEN not in text, place
    for file in (machine.root / STATE[1:]).iterdir():
        assert TOKEN.encode() not in file.read_bytes(), file
    machine.run("systemctl", "stop", "roundsman")
    assert not (machine.inside("/run/credentials/roundsman.service")).exists()


def test_doctor_reads_the_unit_the_journal_and_the_disk_of_the_service(
    service: Service, vendor: Vendor
) -> None:
    service.tells(vendor.add("a", 1))
    said = service.machine.ask("roundsman", "doctor", "--bundle", "/root/doctor.tar.gz", "--force")
    assert re.search(r"^ok +service: active, \d+ restarts, result success$", said, re.MULTILINE), said
    assert re.search(r"^ok +log: the last \d+ lines of the journal$", said, re.MULTILINE), said
    assert re.search(r"^ok +disk: .* \(store\)", said, re.MULTILINE), said
    assert "(sinks.archive)" not in said, (
        "its relative path begins at the state folder, on the disk of the store"
    )
    packed = service.machine.shell("tar -xzOf /root/doctor.tar.gz; rm /root/doctor.tar.gz")
    assert "ExecStart=/opt/roundsman/bin/roundsman run --config /etc/roundsman/roundsman.toml\n" in packed
    assert '"daemon.started"' in packed
    assert TOKEN not in said + packed


def test_its_files_are_its_own(service: Service, vendor: Vendor) -> None:
    service.tells(vendor.add("a", 1))
    folder = service.machine.root / STATE[1:]
    assert folder.stat().st_mode & 0o7777 == 0o700
    owner = folder.stat().st_uid
    assert owner > 1000
    found = {file.name: (file.stat().st_mode & 0o777, file.stat().st_uid) for file in folder.iterdir()}
    assert {"roundsman.db", "roundsman.db-wal", "roundsman.db.lock", "events.jsonl"} <= set(found)
    assert set(found.values()) == {(0o600, owner)}


PROBE = r"""
try() { if "$@" >/dev/null 2>&1; then echo "could: $*"; else echo "could not: $*"; fi; }
try cat /etc/roundsman/credentials/parakey
try cat /etc/shadow
try ls /root
try ls /home/anna
try cat /var/lib/private/other/secret
try touch /etc/roundsman/x
try touch /opt/roundsman/x
try touch /var/tmp/x-of-roundsman
try cat /proc/1/cmdline
try unshare --user true
try ls /dev/sda /dev/mem
try touch /var/lib/roundsman/x
try cat /etc/roundsman/roundsman.toml
echo seen: $(ls /proc | grep -c '^[0-9]')
"""


def test_its_user_can_read_no_files_of_others(service: Service) -> None:
    """A script in the place of the program, in the same unit."""
    machine = service.machine
    machine.shell(
        "mkdir -p -m 755 /home/anna; mkdir -p -m 700 /var/lib/private/other; echo s > /var/lib/private/other/secret"
    )
    (machine.root / "srv/probe.sh").write_text(PROBE)
    service.drop_in("Type=oneshot", "Restart=no", "ExecStart=", "ExecStart=/bin/bash /srv/probe.sh")
    machine.run("systemctl", "stop", "roundsman")
    service.start()
    said = [e["MESSAGE"] for e in service.entries("_COMM=bash")]
    could = {line.removeprefix("could: ") for line in said if line.startswith("could: ")}
    assert could == {
        "touch /var/tmp/x-of-roundsman",  # its own, PrivateTmp
        "touch /var/lib/roundsman/x",
        "cat /etc/roundsman/roundsman.toml",
    }
    assert sum(line.startswith("could not: ") for line in said) == 10
    assert not (machine.root / "var/tmp/x-of-roundsman").exists()


def test_its_exposure_is_rated_one_and_a_half_at_most(service: Service) -> None:
    text = service.machine.run("systemd-analyze", "security", "--no-pager", "roundsman")
    rated = re.search(r"Overall exposure level for roundsman.service: ([0-9.]+)", text)
    assert rated
    FIGURES["exposure"] = f"{rated[1]} (goal 1.5)"
    assert float(rated[1]) <= 1.5


# -- ending, and beginning again ---------------------------------------------------------------------------------------


def test_it_stops_in_time_and_cleanly_while_a_vendor_hangs(service: Service, vendor: Vendor) -> None:
    machine = service.machine
    vendor.tell(faults="hang", times=3)
    machine.until(lambda: vendor.tell()["faults"] < 3)
    began = time.monotonic()
    machine.run("systemctl", "stop", "roundsman")
    FIGURES["systemctl stop, a vendor hanging"] = f"{time.monotonic() - began:.2f} s (goal 2 s)"
    assert (machine.show("Result"), machine.show("ExecMainStatus")) == ("success", "0")
    assert [line["signal"] for line in service.logged("daemon.stopping")] == ["SIGTERM"]
    assert service.logged("daemon.stopped")
    took = int(machine.show("InactiveEnterTimestampMonotonic")) - int(
        machine.show("ActiveExitTimestampMonotonic")
    )
    assert took < 10e6, "microseconds, by systemd itself"


def test_the_first_poll_comes_soon_after_the_start(service: Service, vendor: Vendor) -> None:
    machine = service.machine
    took = []
    for _ in range(3):
        machine.run("systemctl", "stop", "roundsman")
        machine.run("systemctl", "clean", "--what=state", "roundsman")  # nothing that is not due yet
        before = len(vendor.asked)
        service.start()
        machine.until(lambda before=before: len(vendor.asked) > before)
        started = machine.ask("date", "+%s.%N", "--date", machine.show("ExecMainStartTimestamp"))
        exact = machine.journal("--output-fields=MESSAGE", f"--since=@{service.began:.6f}")
        begun = [int(e["__REALTIME_TIMESTAMP"]) / 1e6 for e in exact if e["MESSAGE"].startswith("Starting ")]
        assert begun, started
        took.append(vendor.asked[before] - begun[-1])
    FIGURES["systemctl start to the first poll"] = f"{sorted(took)[1]:.2f} s (goal 0.7 s)"


def test_after_kill_9_it_is_started_again_and_nothing_is_lost(service: Service, vendor: Vendor) -> None:
    machine = service.machine
    ids = vendor.add("before", 20)
    service.tells(ids)
    ids += vendor.add("meanwhile", 200)
    service.kill()
    ids += vendor.add("down", 20)
    machine.until(lambda: machine.show("NRestarts") == "1")
    ids += vendor.add("after", 5)
    service.tells(ids)
    machine.until(lambda: machine.show("ActiveState") == "active")


def test_one_that_hangs_is_shot_by_the_watchdog_and_started_again(service: Service, vendor: Vendor) -> None:
    machine = service.machine
    assert machine.show("WatchdogUSec") == "1min"
    service.drop_in("WatchdogSec=5s", "TimeoutAbortSec=1s", "RestartSec=100ms")
    machine.run("systemctl", "restart", "roundsman")
    ids = vendor.add("before", 3)
    service.tells(ids)
    service.kill("STOP")
    ids += vendor.add("meanwhile", 3)
    machine.until(lambda: machine.show("NRestarts") in {"1", "2"})
    assert any("Watchdog timeout" in entry["MESSAGE"] for entry in service.entries())
    service.tells(ids)


def test_a_crash_loop_does_not_ask_a_vendor_before_due(service: Service, vendor: Vendor) -> None:
    machine = service.machine
    machine.run("systemctl", "stop", "roundsman")
    service.configure(lambda text: text.replace('interval = "300ms"', 'interval = "600s"'))
    service.drop_in("RestartSec=100ms")
    machine.run("systemctl", "clean", "--what=state", "roundsman")
    before = len(vendor.asked)
    service.start()
    machine.until(lambda: len(vendor.asked) > before)
    asked = len(vendor.asked)
    for crash in range(1, 7):
        pid = service.pid
        machine.until(lambda: "visit" in machine.show("StatusText"))
        service.kill()
        machine.until(lambda crash=crash: machine.show("NRestarts") == str(crash))
        machine.until(lambda pid=pid: machine.show("ActiveState") == "active" and service.pid != pid)
    assert len(vendor.asked) - asked <= 1, "the visit that was under way at the first crash"


def test_a_restart_in_the_middle_of_a_backlog_loses_nothing(service: Service, vendor: Vendor) -> None:
    """And the journal has them all, however many come at once."""
    machine = service.machine
    machine.run("systemctl", "stop", "roundsman")
    machine.run("systemctl", "clean", "--what=state", "roundsman")
    ids = vendor.add("old", 15_000, 0.25)
    service.configure(lambda text: text.replace('start = "now"', 'start = "beginning"'))
    service.start()
    machine.until(lambda: len(service.told()) > 0)
    machine.run("systemctl", "stop", "roundsman")
    assert len(service.told()) < len(ids), "in the middle"
    service.start()
    service.tells(ids)
    counting = (
        f"journalctl -t roundsman -o cat --since=@{service.began:.6f}"
        """ | grep -o '"id":"old-[0-9]*' | sort -u | wc -l"""
    )
    # The sinks are independent, and journald reads at its own pace: the file has them all before the journal.
    machine.until(lambda: int(machine.shell(counting)) == len(ids))


def test_after_a_boot_it_is_there_again(service: Service, vendor: Vendor) -> None:
    machine = service.machine
    ids = vendor.add("before", 3)
    service.tells(ids)
    machine.halt()
    machine.boot()
    machine.until(lambda: machine.ask("systemctl", "is-active", "roundsman") == "active")
    again = Vendor(machine)
    try:
        ids += again.add("after", 3)
        service.tells(ids)
    finally:
        again.stop()


# -- commands beside it ------------------------------------------------------------------------------------------------


def test_commands_of_roots_do_not_lock_it_out(service: Service, vendor: Vendor) -> None:
    """`check --live` before the first start makes files; they must be the service's."""
    machine = service.machine
    machine.run("systemctl", "stop", "roundsman")
    machine.run("systemctl", "clean", "--what=state", "roundsman")
    machine.run("roundsman", "check", "--live")
    machine.run("roundsman", "once", "--now")
    service.start()
    service.tells(vendor.add("a", 2))
    machine.run("systemctl", "stop", "roundsman")
    vendor.add("b", 2)
    machine.run("roundsman", "once", "--now")
    service.start()
    service.tells([f"{name}-{n:05d}" for name in "ab" for n in range(2)])


def test_a_backup_is_made_while_it_runs_and_put_back(service: Service, vendor: Vendor) -> None:
    machine = service.machine
    ids = vendor.add("before", 5)
    service.tells(ids)
    assert "the log up to #" in machine.run("roundsman", "backup", "/root/copy.db")
    ids += vendor.add("after", 5)
    service.tells(ids)
    assert "is in use by roundsman, pid" in machine.fails("roundsman", "restore", "/root/copy.db", "--force")
    machine.run("systemctl", "stop", "roundsman")
    machine.run(
        "sh", "-c", f"cat {STATE}/roundsman.db > /dev/null; rm {STATE}/roundsman.db"
    )  # the disk is gone, say
    machine.run("roundsman", "restore", "/root/copy.db")
    service.start()
    # What came after the backup is read again, and the file sink knows what it has.
    ids += vendor.add("later", 2)
    service.tells(ids)


def test_the_line_for_cron_makes_a_backup(service: Service, vendor: Vendor) -> None:
    """With what cron has, which is little, and again over the one of last night."""
    machine = service.machine
    service.tells(vendor.add("a", 2))
    *times, user, command = cron_line().split(maxsplit=6)
    assert (len(times), user) == (5, "root")
    for _ in range(2):
        machine.run(
            "env", "-i", "PATH=/usr/bin:/bin", "HOME=/root", "SHELL=/bin/sh", "/bin/sh", "-c", command
        )
    assert machine.run("stat", "--format=%a", "/var/backups/roundsman.db") == "600\n"


AGED = """
import sqlite3
with sqlite3.connect("/var/lib/private/roundsman/roundsman.db") as db:
    db.execute("UPDATE daemons SET beat = beat - 300, started = started - 300")
"""


def test_the_line_for_cron_prints_only_while_the_daemon_is_unhealthy(service: Service) -> None:
    """cron mails what it prints."""
    machine = service.machine
    command = cron_line("heartbeat").split(maxsplit=6)[-1]
    as_cron = ("env", "-i", "PATH=/usr/bin:/bin", "HOME=/root", "SHELL=/bin/sh", "/bin/sh", "-c", command)
    assert machine.run(*as_cron) == ""
    machine.run("systemctl", "stop", "roundsman")
    assert machine.run(*as_cron) == "", "for three minutes after a stop"
    machine.run("/opt/roundsman/bin/python", "-c", AGED)
    assert machine.fails(*as_cron).startswith("unhealthy: no daemon has recorded since 20")


# -- the listener ------------------------------------------------------------------------------------------------------

HOOK = """
[listen]
address = "unix:/run/roundsman.sock"
[sources.front-doors.webhook]
header = "Authorization"
value = { credential = "hook" }
"""


@pytest.fixture
def listening(service: Service) -> Any:
    """With a socket that systemd holds, as the guide describes it."""
    machine = service.machine
    machine.shell(
        "(umask 077; echo 'Bearer 0123456789abcdef' > /etc/roundsman/credentials/hook); groupadd --force www-data"
    )
    service.configure(lambda text: text.replace("[sinks.console]", HOOK + "[sinks.console]"))
    said = machine.run("roundsman", "service", "install", "--socket")
    # The command that it prints after `next: `, while the service runs.
    machine.shell(said.partition("next: ")[2])
    yield machine.inside("/run/roundsman.sock")
    machine.run("systemctl", "stop", "roundsman")
    machine.shell(
        "systemctl disable --now roundsman.socket; rm /etc/systemd/system/roundsman.socket; systemctl daemon-reload"
    )


def test_no_caller_is_refused_while_it_restarts(service: Service, listening: Any) -> None:
    """Webhooks come all the time; each is answered, and each is in the log once."""
    machine = service.machine
    assert oct(listening.stat().st_mode & 0o777) == "0o660"
    stop, sent, wrong = threading.Event(), list[str](), list[object]()

    def post(worker: int) -> None:
        n = 0
        while not stop.is_set():
            n += 1
            key = f"hook-{worker}-{n}"
            now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.000Z}"
            body = {"id": key, "createdAt": now, "timestamp": now}
            try:
                with httpx.Client(transport=httpx.HTTPTransport(uds=str(listening)), timeout=30) as client:
                    answer = client.post(
                        "http://hooks/hooks/front-doors",
                        json=body,
                        headers={"Authorization": "Bearer 0123456789abcdef"},
                    )
                if answer.is_success:
                    sent.append(key)
                else:
                    wrong.append((answer.status_code, answer.text))
            except httpx.HTTPError as exc:
                wrong.append(exc)

    threads = [threading.Thread(target=post, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(3):
            before = len(sent)
            machine.run("systemctl", "restart", "roundsman")
            machine.until(lambda before=before: len(sent) > before + 20)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert wrong == []
    assert len(sent) > 60
    service.machine.until(lambda: set(sent) <= set(service.told()))
    assert len(service.told()) == len(set(service.told()))


def test_a_port_can_be_held_too(service: Service) -> None:
    machine = service.machine
    machine.shell("(umask 077; echo 'Bearer 0123456789abcdef' > /etc/roundsman/credentials/hook)")
    tcp = HOOK.replace("unix:/run/roundsman.sock", "127.0.0.1:8377")
    service.configure(lambda text: text.replace("[sinks.console]", tcp + "[sinks.console]"))
    said = machine.run("roundsman", "service", "install", "--socket")
    try:
        machine.shell(said.partition("next: ")[2])
        assert machine.ask("systemctl", "is-enabled", "roundsman.socket") == "enabled"
        machine.run("systemctl", "stop", "roundsman")
        ask = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8377/healthz').status)"
        assert machine.run("/opt/roundsman/bin/python", "-c", ask) == "200\n"
        machine.until(lambda: machine.show("ActiveState") == "active")
    finally:
        machine.shell(
            "systemctl disable --now roundsman.socket; rm /etc/systemd/system/roundsman.socket; systemctl daemon-reload"
        )


def test_an_upgrade_keeps_the_socket(service: Service, listening: Any) -> None:
    """And warns of nothing that there is not."""
    said = service.machine.shell("roundsman service install 2>&1")
    assert "/etc/systemd/system/roundsman.socket: unchanged\n" in said
    assert "cannot make" not in said
    assert said.endswith("next: systemctl restart roundsman\n")
    assert listening.exists()


def test_a_wrong_configuration_is_not_tried_all_the_time_for_who_waits(
    service: Service, listening: Any
) -> None:
    """systemd starts it again for each caller, with any exit status; at last an operator mends the file."""
    machine = service.machine
    machine.run("systemctl", "stop", "roundsman.service")
    text = (machine.root / CONFIG[1:]).read_text()
    (machine.root / CONFIG[1:]).write_text(text.replace("interval", "intervall"))
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(listening)), timeout=60) as client:
        answers: list[int] = []
        caller = threading.Thread(
            target=lambda: answers.append(client.get("http://hooks/healthz").status_code)
        )
        caller.start()
        machine.until(lambda: len(service.logged("command.failed")) == 2)
        (machine.root / CONFIG[1:]).write_text(text)
        first, second = (
            datetime.fromisoformat(line["timestamp"]).timestamp() for line in service.logged("command.failed")
        )
        caller.join()
    assert answers == [200]
    assert second - first > 4.5


def test_the_socket_comes_back_with_the_service_however_they_were_stopped(
    service: Service, listening: Any
) -> None:
    """As after `systemctl edit roundsman.socket`: the service must not be there first, and take the place itself."""
    machine = service.machine
    for before in ("stop roundsman.socket roundsman", "restart roundsman.socket roundsman"):
        machine.ask(
            "systemctl", *before.split()
        )  # systemd may refuse the second: no socket beside a service that runs
        machine.run("systemctl", "restart", "roundsman")
        assert machine.show("ActiveState", "roundsman.socket") == "active"
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(listening)), timeout=30) as client:
            assert client.get("http://hooks/healthz").status_code == 200


def test_a_call_starts_it(service: Service, listening: Any) -> None:
    machine = service.machine
    machine.run("systemctl", "stop", "roundsman")
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(listening)), timeout=30) as client:
        assert client.get("http://hooks/healthz").status_code == 200
    machine.until(lambda: machine.show("ActiveState") == "active")


# -- a user's own ------------------------------------------------------------------------------------------------------


def test_a_user_can_have_one_of_their_own(service: Service, vendor: Vendor) -> None:
    machine = service.machine
    machine.run("systemctl", "stop", "roundsman")
    machine.shell(
        "id anna >/dev/null 2>&1 || useradd --create-home anna; chown anna: /home/anna; loginctl enable-linger anna"
    )
    machine.until(
        lambda: (
            machine.ask(
                "systemctl",
                "is-active",
                "user@$(id -u anna)".replace("$(id -u anna)", machine.ask("id", "-u", "anna")),
            )
            == "active"
        )
    )

    def anna(script: str, stdin: str | None = None) -> str:
        line = f"{terminal.USER[0]} PATH=/opt/roundsman/bin:$PATH; cd; {script}"
        return machine.run(
            "runuser", "-u", "anna", "--", "env", "HOME=/home/anna", "bash", "-euc", line, stdin=stdin
        )

    init, install, enable = terminal.USER[1:]
    anna(init)
    file = machine.root / "home/anna/.config/roundsman/roundsman.toml"
    file.write_text(
        file.read_text()
        .replace("[sources.front-doors]\n", '[sources.front-doors]\nbase_url = "http://127.0.0.1:8399"\n')
        .replace('"60s"', '"1s"')
    )
    anna("(umask 077; cat > .config/roundsman/credentials/parakey)", stdin=TOKEN)
    said = anna(install)
    assert "next: systemctl --user enable --now roundsman" in said
    before = len(vendor.asked)
    anna(enable)
    machine.until(lambda: len(vendor.asked) > before)
    ids = vendor.add("hers", 2)
    machine.until(lambda: anna("cat .config/roundsman/events.jsonl").count("co.parakey") == len(ids))
    assert anna("systemctl --user show roundsman -p ActiveState --value").strip() == "active"
    anna("systemctl --user reload roundsman")
    anna("systemctl --user disable --now roundsman.service")


# -- removing it -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("failed", [False, True])
def test_it_is_removed_whole_and_can_be_installed_again(
    service: Service, vendor: Vendor, failed: bool
) -> None:
    machine = service.machine
    service.tells(vendor.add("a", 2))
    service.drop_in("Nice=1")
    if failed:
        service.configure(lambda text: text.replace("interval", "intervall"))
        machine.fails("systemctl", "restart", "roundsman")
    # What the vendor of these tests runs from is kept aside; the rest of the machine knows nothing of it.
    machine.shell("cp -a /opt/roundsman /srv/opt")
    for line in removal():
        machine.shell(line)
    left = machine.shell(
        "find / -xdev -path /srv -prune -o -path /root -prune -o -path /proc -prune -o -name '*roundsman*' -print"
    )
    assert [
        path
        for path in left.splitlines()
        if not path.startswith(("/var/backups", "/tmp", "/var/tmp", "/home"))
    ] == []
    assert machine.show("LoadState") == "not-found"
    machine.shell("mv /srv/opt /opt/roundsman")
    guide = steps()
    machine.shell(guide.install.rpartition("&& ")[2])
    machine.shell(guide.init)
    service.configure()
    machine.shell(guide.secret, stdin=TOKEN + "\n")
    machine.shell(guide.unit)
    machine.shell(guide.start)
    service.tells([])
