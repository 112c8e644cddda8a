"""The unit, judged by systemd itself."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import need
from roundsman import unit
from roundsman.cli.service import literal_secrets, out_of_reach, without_environment
from roundsman.config import Config, load
from roundsman.settings import Secret
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
def test_the_unit_that_is_shown_is_one_whatever_paths_are_called(
    name: str, user: bool, tmp_path: Path
) -> None:
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
    for said in ("wrote {}", "{}: as it was"):
        done = roundsman(
            "service", "install", "--user", "-c", config, XDG_CONFIG_HOME=str(tmp_path / "config")
        )
        assert (done.returncode, said.format(place) in done.stdout) == (0, True), done.stderr
    assert place.stat().st_mode & 0o777 == 0o644
    assert [path.name for path in place.parent.iterdir()] == ["roundsman.service"]
    assert "next: systemctl --user enable --now roundsman" in done.stdout


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
    assert f"{hidden}: /root is hidden from the service, and the configuration is there" in done.stderr
    assert "chmod" not in done.stderr, "of /root, of all things"


def test_what_is_only_roots_to_read_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unit, "HIDDEN", ())
    config = configure(tmp_path / "etc")
    config.chmod(0o600)
    assert f"{config}: cannot be read by the service's user: chmod o+r {config}" in unit.obstacles(config)


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
    monkeypatch.setattr(unit, "STATE", Path("/var/lib/roundsman"))
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
    config.write_text(text.replace(f'{{ file = "{token}" }}', '"a-token-of-sixteen"'))
    [mistake] = literal_secrets(load(config))
    assert "sources.doors: a secret stands in the file, which the service's user could not read" in mistake


def test_secrets_from_a_shell_are_warned_of() -> None:
    loaded = Config(
        Path("/etc/roundsman/roundsman.toml"),
        sources={"doors": event_logs(access_token=Secret("x", "env PARAKEY_ACCESS_TOKEN"))},
    )
    [warning] = without_environment(loaded)
    assert "sources.doors: the service does not have the variable PARAKEY_ACCESS_TOKEN; put" in warning
    assert 'into /etc/roundsman/credentials, and write { credential = "name" }' in warning
