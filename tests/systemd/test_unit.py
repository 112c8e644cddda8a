"""The unit, judged by systemd itself."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from conftest import need
from roundsman.cli.check import check
from roundsman.cli.service import following
from roundsman.config.loading import Config, load
from roundsman.options.listen import Address
from roundsman.options.secrets import Secret
from roundsman.service import units
from roundsman.service.fitness import literal_secrets, out_of_reach, without_environment, without_group
from worlds import event_logs

UNIT = Path(__file__).parents[2] / "systemd" / "roundsman.service"


@pytest.fixture(autouse=True)
def analyze() -> None:
    need(shutil.which("systemd-analyze") is not None, "needs systemd-analyze: apt-get install systemd")


def test_systemd_finds_nothing_wrong(tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("roundsman")
    written = tmp_path / UNIT.name
    written.write_text(UNIT.read_text().replace("/opt/roundsman/bin/roundsman", str(program)))
    done = subprocess.run(
        ["systemd-analyze", "verify", str(written)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    socket = tmp_path / "roundsman.socket"
    socket.write_text(UNIT.with_name("roundsman.socket").read_text())
    done = subprocess.run(
        ["systemd-analyze", "verify", str(socket)], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_its_exposure_is_rated_one_and_a_half_at_most() -> None:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--no-pager", str(UNIT)],
        capture_output=True,
        text=True,
        check=True,
    )
    rated = re.search(r"Overall exposure level for roundsman.service: ([0-9.]+)", done.stdout)
    assert rated
    assert float(rated[1]) <= 1.5


def test_every_setting_has_its_reason() -> None:
    """In each block that begins with a comment, or right above the line."""
    for block in UNIT.read_text().split("\n\n"):
        body = [line for line in block.splitlines() if not line.startswith("[")]
        if "Restrict" in block or "Protect" in block:
            assert body[0].startswith("#"), block


CONFIG = """
[daemon]
store = "roundsman.db"
[listen]
address = "{address}"
[sources.doors]
type = "parakey.event_logs"
access_token = {{ credential = "parakey" }}
[sources.doors.webhook]
header = "Authorization"
value = {{ credential = "parakey" }}
[sinks.archive]
type = "file"
path = "events.jsonl"
"""

FINE = """
[sources.doors]
type = "parakey.event_logs"
access_token = { credential = "parakey" }
[sinks.archive]
type = "file"
path = "events.jsonl"
"""


def configure(folder: Path, address: str = "127.0.0.1:8377") -> Path:
    (folder / "credentials").mkdir(parents=True)
    (folder / "credentials" / "parakey").write_text("a-token-of-sixteen")
    config = folder / "roundsman.toml"
    config.write_text(CONFIG.format(address=address))
    config.chmod(0o644)
    return config


def roundsman(*args: object, **environ: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "roundsman", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **environ})


def verify(*units: Path, user: bool = False) -> str:
    command = ["systemd-analyze", *(["--user"] if user else []), "verify", *map(str, units)]
    environ = {**os.environ, "XDG_RUNTIME_DIR": str(units[0].parent), "SYSTEMD_LOG_LEVEL": "warning"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environ)
    return done.stdout + done.stderr


@pytest.mark.parametrize("user", [False, True])
@pytest.mark.parametrize(
    "name", ["plain", "a folder with spaces", "100%n", 'quote"d', "dollar$HOME", "back\\slash"]
)
def test_the_unit_that_is_shown_is_valid_with_any_paths(name: str, user: bool, tmp_path: Path) -> None:
    config = configure(tmp_path / name)
    done = roundsman("service", "show", "-c", config, *(["--user"] if user else []))
    assert done.returncode == 0, done.stderr
    written = tmp_path / "roundsman.service"
    written.write_text(done.stdout)
    assert verify(written, user=user) == ""
    assert "/opt/" not in done.stdout
    assert ("DynamicUser" in done.stdout) == (not user)
    # What systemd makes of it: asked of the program that would be started.
    line = next(line for line in done.stdout.splitlines() if line.startswith("ExecStart="))
    if name == "plain":
        assert line.endswith(f" run --config {config}")


@pytest.mark.parametrize("address", ["127.0.0.1:8377", "[::1]:8377", "unix:/run/roundsman.sock"])
def test_the_socket_is_one_for_each_kind_of_address(address: str, tmp_path: Path) -> None:
    config = configure(tmp_path / "etc", address)
    done = roundsman("service", "show", "--socket", "-c", config)
    service, socket = re.split(r"^# /etc/systemd/system/roundsman\.socket\n", done.stdout, flags=re.MULTILINE)
    (tmp_path / "roundsman.service").write_text(service)
    (tmp_path / "roundsman.socket").write_text(socket)
    assert verify(tmp_path / "roundsman.service", tmp_path / "roundsman.socket") == ""
    assert f"ListenStream={address.removeprefix('unix:')}\n" in socket
    assert "Service=roundsman.service\n\n[Install]\nWantedBy=sockets.target\n" in socket
    assert ("SocketGroup" in socket) == address.startswith("unix:")


def test_a_users_own_is_installed_where_theirs_are(tmp_path: Path) -> None:
    config = configure(tmp_path / "etc")
    place = tmp_path / "config" / "systemd" / "user" / "roundsman.service"
    for said in ("wrote {}", "{}: unchanged"):
        done = roundsman(
            "service", "install", "--user", "-c", config, XDG_CONFIG_HOME=str(tmp_path / "config")
        )
        assert (done.returncode, said.format(place) in done.stdout) == (0, True), done.stderr
    assert place.stat().st_mode & 0o777 == 0o644
    assert [path.name for path in place.parent.iterdir()] == ["roundsman.service"]
    assert "next: systemctl --user enable --now roundsman" in done.stdout


def test_a_socket_that_is_there_is_kept_and_goes_with_the_configuration(tmp_path: Path) -> None:
    """An upgrade runs `service install` without `--socket`."""
    config = configure(tmp_path / "etc")
    place = tmp_path / "config" / "systemd" / "user"

    def install(*options: str) -> str:
        done = roundsman(
            "service", "install", "--user", *options, "-c", config, XDG_CONFIG_HOME=str(tmp_path / "config")
        )
        return done.stdout + done.stderr

    install()
    assert not (place / "roundsman.socket").exists()
    install("--socket")
    config.write_text(config.read_text().replace("8377", "8378"))
    said = install()
    assert f"{place}/roundsman.service: unchanged" in said
    assert f"wrote {place}/roundsman.socket" in said
    assert "next: systemctl --user enable --now roundsman.socket roundsman.service" in said
    assert "ListenStream=127.0.0.1:8378\n" in (place / "roundsman.socket").read_text()
    assert "systemctl --user stop roundsman;" in (place / "roundsman.socket").read_text()
    config.write_text(config.read_text().partition("[listen]")[0] + FINE)
    assert (
        f"without [listen], the daemon does not use the socket; add it, or disable roundsman.socket and remove {place}/"
        in install()
    )


@pytest.mark.parametrize(
    ("running", "socket", "new", "then"),
    [
        ([], False, True, "enable --now roundsman"),
        (["roundsman.service"], False, True, "restart roundsman"),
        ([], True, True, "enable --now roundsman.socket roundsman.service"),
        (
            ["roundsman.service"],
            True,
            True,
            "stop roundsman.service; systemctl enable --now roundsman.socket roundsman.service",
        ),
        (["roundsman.socket", "roundsman.service"], True, False, "restart roundsman"),
        (
            ["roundsman.socket", "roundsman.service"],
            True,
            True,
            "stop roundsman.socket roundsman.service; systemctl enable --now roundsman.socket roundsman.service",
        ),
    ],
)
def test_what_is_to_be_done_next_makes_the_units_count(
    running: list[str], socket: bool, new: bool, then: str
) -> None:
    """systemd opens no socket for a service that runs, and moves none that is open."""
    assert following("systemctl", running, socket=socket, new=new) == f"systemctl {then}"


def test_a_socket_is_opened_before_the_service_however_that_is_started(tmp_path: Path) -> None:
    for user in (False, True):
        text = units.service(tmp_path / "roundsman.toml", user=user, socket=True)
        assert "[Service]\n# The socket is opened before" in text
        assert "\nSockets=roundsman.socket\n" in text
        assert "Sockets=" not in units.service(tmp_path / "roundsman.toml", user=user)


def test_a_group_that_there_is_not_is_said_before_systemd_fails(tmp_path: Path) -> None:
    text = units.socket(Address("", 0, Path("/run/roundsman.sock"))).replace("www-data", "no-such-group")
    [warning] = without_group(text, tmp_path)
    assert "this machine has no group no-such-group, and systemd would not open the socket" in warning
    assert "groupadd --system no-such-group, or systemctl edit roundsman.socket" in warning
    assert without_group(text.replace("no-such-group", "root"), tmp_path) == []
    assert without_group(units.socket(Address("127.0.0.1", 8377)), tmp_path) == []
    (tmp_path / "roundsman.socket.d").mkdir()
    (tmp_path / "roundsman.socket.d" / "override.conf").write_text("[Socket]\nSocketGroup=root\n")
    assert without_group(text, tmp_path) == [], "a drop-in names another"


def test_the_unit_is_shown_before_there_is_a_configuration(tmp_path: Path) -> None:
    done = roundsman("service", "show", "--user", XDG_CONFIG_HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"# {tmp_path}/systemd/user/roundsman.service\n[Unit]\n")
    assert f" run --config {tmp_path}/roundsman/roundsman.toml\n" in done.stdout
    socket = roundsman("service", "show", "--user", "--socket", XDG_CONFIG_HOME=str(tmp_path))
    assert socket.returncode == 2, "it is for an address"
    assert "there is no configuration yet; `roundsman init --user` writes one" in socket.stderr


def test_a_users_unit_speaks_of_a_users_systemd(tmp_path: Path) -> None:
    text = units.service(tmp_path / "roundsman.toml", user=True)
    assert "`systemctl --user reload` fails if the file is refused" in text
    assert "systemctl reload" not in text
    assert "# No core dumps: they would contain secrets.\nLimitCORE=0\n" in text


def test_a_mistake_in_the_configuration_installs_nothing(tmp_path: Path) -> None:
    config = configure(tmp_path / "etc")
    config.write_text(config.read_text().replace("access_token", "acess_token"))
    done = roundsman("service", "install", "--user", "-c", config, XDG_CONFIG_HOME=str(tmp_path / "config"))
    assert done.returncode == 2
    assert "sources.doors.acess_token: unknown option; did you mean access_token?" in done.stderr
    assert not (tmp_path / "config").exists()


def test_what_the_service_could_not_see_is_said_before_it_is_installed(tmp_path: Path) -> None:
    need(os.geteuid() == 0, "needs root, to be asked for the system's unit")
    config = configure(tmp_path / "etc")
    hidden = Path("/root") / f"roundsman-test-{os.getpid()}.toml"
    hidden.write_text(config.read_text())
    try:
        done = roundsman("service", "install", "-c", hidden)
    finally:
        hidden.unlink()
    assert done.returncode == 2
    assert f"{hidden}: the configuration is there, and /root is hidden from the service" in done.stderr
    assert "chmod" not in done.stderr, "of /root, of all things"


def test_what_is_only_roots_to_read_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(units, "HIDDEN", ())
    config = configure(tmp_path / "etc")
    config.chmod(0o600)
    assert f"{config}: cannot be read by the service's user: chmod o+r {config}" in units.obstacles(config)


@pytest.fixture
def opt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program like one in /opt, all of it for everybody; and it is this one."""
    tree = tmp_path / "opt"
    for name in ("bin/roundsman", "bin/python", "lib/one.py", "lib/more/two.py", "lib/__pycache__/one.pyc"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).touch(0o644)
    for program in (tree / "bin").iterdir():
        program.chmod(0o755)
    monkeypatch.setattr(units, "HIDDEN", ())
    monkeypatch.setattr(sys, "prefix", str(tree))
    monkeypatch.setattr(sys, "executable", str(tree / "bin" / "python"))
    return tree


@pytest.mark.parametrize("closed", [".", "lib", "lib/more", "lib/one.py", "lib/more/two.py", "bin/roundsman"])
def test_a_program_that_is_not_everybodys_to_read_is_one_command(closed: str, opt: Path) -> None:
    """Who installed it had a umask of 077."""
    path = opt / closed
    path.chmod(path.stat().st_mode & 0o700)
    found = [line for line in units.obstacles(configure(opt.parent / "etc")) if str(opt) in line]
    assert found == [f"{opt}: not all of it can be read by the service's user: chmod -R o+rX {opt}"]
    subprocess.run(found[0].partition("user: ")[2].split(), check=True)
    assert not any(str(opt) in line for line in units.obstacles(opt.parent / "etc" / "roundsman.toml"))


def test_the_program_is_the_one_beside_its_python_however_it_was_called(
    opt: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = opt.parent / "roundsman"
    link.symlink_to(opt / "bin" / "roundsman")
    monkeypatch.setattr(sys, "argv", [str(link)])
    assert units.program() == str(opt / "bin" / "roundsman")


def test_what_the_service_can_do_without_is_no_obstacle(opt: Path) -> None:
    (opt / "lib" / "__pycache__").chmod(0o700)
    (opt / "lib" / "__pycache__" / "one.pyc").chmod(0o600)
    assert not any(str(opt) in line for line in units.obstacles(configure(opt.parent / "etc")))


def test_what_only_root_can_do_is_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Secrets in files of root's, sinks in folders of others, sockets in /run: `check` as root sees nothing wrong there."""
    config = configure(tmp_path / "etc", "unix:/run/roundsman.sock")
    token = tmp_path / "token"
    token.write_text("a-token-of-sixteen")
    token.chmod(0o600)
    text = config.read_text().replace(
        'access_token = { credential = "parakey" }', f'access_token = {{ file = "{token}" }}'
    )
    config.write_text(
        text.replace('"events.jsonl"', '"/var/log/events.jsonl"').replace(
            '"roundsman.db"', '"/var/lib/roundsman/roundsman.db"'
        )
    )
    monkeypatch.setattr(units, "STATE", Path("/var/lib/roundsman"))
    found = out_of_reach(load(config), socket=False)
    assert len(found) == 3, found
    assert (
        f"sources.doors: {token} cannot be read by the service; put it into {tmp_path}/etc/credentials"
        in found[0]
    )
    assert (
        "sinks.archive.path: the service can write only below /var/lib/roundsman; for /var/log/events.jsonl"
        in found[1]
    )
    assert (
        "listen.address: the service cannot make /run/roundsman.sock; service install --socket has systemd"
        in found[2]
    )
    assert len(out_of_reach(load(config), socket=True)) == 2
    drop_in = tmp_path / "units" / "roundsman.service.d" / "override.conf"
    drop_in.parent.mkdir(parents=True)
    drop_in.write_text("[Service]\nReadWritePaths=/srv/events -/var/log\n")
    assert len(out_of_reach(load(config), socket=True, folder=tmp_path / "units")) == 1, "a drop-in allows it"
    config.write_text(text.replace(f'{{ file = "{token}" }}', '"a-token-of-sixteen"'))
    [mistake] = literal_secrets(load(config))
    assert "sources.doors: a secret stands in the file, which all users have to be able to read" in mistake


def test_a_program_that_the_service_cannot_run_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "ring-bell"
    program.write_text("#!/bin/sh\n")
    config = configure(tmp_path / "etc")
    config.write_text(f'{config.read_text()}[sinks.bell]\ntype = "exec"\ncommand = ["{program}"]\n')

    def found() -> list[str]:
        return [line for line in out_of_reach(load(config), socket=False) if line.startswith("sinks.bell.")]

    monkeypatch.setattr(units, "HIDDEN", (tmp_path,))
    why = f"{tmp_path} is hidden from the service; move the program to /usr/local/bin"
    assert found() == [f"sinks.bell.command: {program}: {why}"]
    monkeypatch.setattr(units, "HIDDEN", ())
    program.chmod(0o700)
    assert found() == [f"sinks.bell.command: {program} cannot be executed by the service's user; chmod o+rx"]
    program.chmod(0o755)
    assert found() == []


def test_a_key_that_only_root_can_read_is_a_sentence_of_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    need(os.geteuid() == 0, "needs root, who can read it")
    config = configure(tmp_path / "etc", "127.0.0.1:8377")
    pem = [*("-keyout", str(tmp_path / "key.pem")), *("-out", str(tmp_path / "cert.pem"))]
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", *pem]
    subprocess.run(make, check=True, capture_output=True)
    (tmp_path / "cert.pem").chmod(0o644)
    (tmp_path / "key.pem").chmod(0o600)
    tls = f'[listen]\ntls_certificate = "{tmp_path}/cert.pem"\ntls_key = "{tmp_path}/key.pem"\n'
    config.write_text(config.read_text().replace("[listen]\n", tls))
    monkeypatch.setattr(units, "CONFIG", config)
    monkeypatch.setattr(units, "STATE", tmp_path)
    monkeypatch.setattr(units, "PACKAGED", tmp_path / "packaged.service")
    monkeypatch.setattr(units, "SYSTEM", tmp_path / "system")
    said = f"listen.tls_key: {tmp_path}/key.pem, mode 0600, may be unreadable for the service; systemctl edit"
    check(config)
    assert "tls_" not in capsys.readouterr().err, "there is no service"
    (tmp_path / "packaged.service").touch()
    check(config)
    [line] = [line for line in capsys.readouterr().err.splitlines() if "tls_" in line]
    assert f": warning: {said}" in line


def test_secrets_from_a_shell_are_warned_of() -> None:
    loaded = Config(
        Path("/etc/roundsman/roundsman.toml"),
        sources={"doors": event_logs(access_token=Secret("x", "env PARAKEY_ACCESS_TOKEN"))},
    )
    [warning] = without_environment(loaded)
    assert "sources.doors: the service does not have the variable PARAKEY_ACCESS_TOKEN; put" in warning
    assert 'into /etc/roundsman/credentials, and write { credential = "name" }' in warning
