"""The files of the documentation are those that the program, the units and the package make."""

import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from roundsman.service.layout import BESIDE_FILE, BESIDE_STORE, INSTALLATIONS, SOCKET_FILE, STORED
from roundsman.service.units import CONFIG
from roundsman.store.sqlite import files, migrations

ROOT = Path(__file__).parents[2]
MODES = {
    name: {place.path: place.mode for place in each.places if place.mode}
    for name, each in INSTALLATIONS.items()
}


def mode(path: Path) -> str:
    return f"{stat.S_IMODE(path.stat().st_mode):04o}"


def roundsman(*words: str, home: Path, umask: int = 0o022) -> None:
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": os.environ.get("PYTHONPATH", ""), "HOME": str(home)}
    subprocess.run(
        [sys.executable, "-m", "roundsman", *words],
        cwd=home,
        env={**environ, "PARAKEY_ACCESS_TOKEN": "0123456789abcdef"},
        umask=umask,
        capture_output=True,
        check=False,
    )


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_the_files_of_a_user_are_where_they_are_documented(tmp_path: Path, umask: int) -> None:
    roundsman("init", home=tmp_path, umask=umask)
    roundsman("init", "--user", home=tmp_path, umask=umask)
    (tmp_path / ".config/roundsman/credentials/parakey").write_text("0123456789abcdef")
    text = (tmp_path / "roundsman.toml").read_text()
    local = text.replace("[sources.front-doors]", '[sources.front-doors]\nbase_url = "http://127.0.0.1:1"')
    (tmp_path / "roundsman.toml").write_text(local)
    roundsman("once", "--now", home=tmp_path, umask=umask)
    for path, documented in MODES["For a user"].items():
        if "systemd" not in path:
            assert mode(tmp_path / path.removeprefix("~/")) == documented, path


def test_the_unit_of_a_user_is_where_it_is_documented(tmp_path: Path) -> None:
    roundsman("init", "--user", home=tmp_path)
    (tmp_path / ".config/roundsman/credentials/parakey").write_text("0123456789abcdef")
    roundsman("service", "install", "--user", home=tmp_path)
    place = "~/.config/systemd/user/roundsman.service"
    assert mode(tmp_path / place.removeprefix("~/")) == MODES["For a user"][place]


def test_the_unit_keeps_the_state_where_it_is_documented() -> None:
    unit = dict(
        re.findall(r"^(\w+)=(.*)$", (ROOT / "systemd" / "roundsman.service").read_text(), re.MULTILINE)
    )
    assert STORED[0].path == f"/var/lib/{unit['StateDirectory']}"
    assert STORED[1].mode == unit["StateDirectoryMode"]
    assert unit["LoadCredential"].partition(":")[2] == f"{CONFIG.parent}/credentials"
    assert unit["ExecStart"].startswith("/opt/roundsman/")
    text = (ROOT / "systemd" / "roundsman.socket").read_text()
    held = dict(re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE))
    assert SOCKET_FILE[0] == held["ListenStream"]
    assert SOCKET_FILE[2:] == (f"root:{held['SocketGroup']}", held["SocketMode"])


def test_the_package_makes_its_files_where_they_are_documented() -> None:
    made = (ROOT / "debian" / "build").read_text() + (ROOT / "debian" / "roundsman").read_text()
    for path in (each.path for each in INSTALLATIONS["Debian package"].places):
        if path.startswith("/usr/"):
            name = (
                path.rstrip("/")
                .replace("/usr/lib/systemd/system/", "/usr/lib/systemd/system")
                .partition("roundsman.")[0]
            )
            assert name in made, path
    folders = re.findall(r"mkdir -p -m (\d+) (\S+)", (ROOT / "debian" / "postinst").read_text())
    assert {path: number for number, path in folders} == {
        path.rstrip("/"): number.removeprefix("0")
        for path, number in MODES["Debian package"].items()
        if path.startswith("/etc/") and path.endswith("/")
    }


def test_the_files_beside_the_store_are_those_of_the_code() -> None:
    written = Path(files.__file__).read_text() + Path(migrations.__file__).read_text()
    ends = {*files.BESIDE, *re.findall(r'_half\(\w+, "(\.\w+)"\)', written)}
    ends |= set(re.findall(r'path\.name \+ "(\.\w+)"', written)) | set(re.findall(r"\}(\.before-)", written))
    named = {re.sub(r"-NNN$", "-", end) for end in BESIDE_STORE}
    assert named - {".before-NNN.part"} | {".part"} == ends


def test_a_rotated_file_is_called_as_it_is_documented(tmp_path: Path) -> None:
    from roundsman.sinks.rotated import Rotated

    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        rotated = Rotated(folder, tmp_path / "events.jsonl", None, compress=False)
        name = rotated.free_name("2026-05-01")
    finally:
        os.close(folder)
    plain, packed, _ = BESIDE_FILE
    assert plain == name.replace("2026-05-01", "DAY").replace("0001", "NNNN")
    assert rotated.place_of(packed.replace("DAY", "2026-05-01").replace("NNNN", "0001"))
