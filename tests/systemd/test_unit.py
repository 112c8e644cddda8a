"""The unit, judged by systemd itself."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import need

UNIT = Path(__file__).parents[2] / "systemd" / "roundsman.service"


@pytest.fixture(autouse=True)
def analyze() -> None:
    need(shutil.which("systemd-analyze") is not None, "needs systemd-analyze: apt-get install systemd")


def test_systemd_finds_nothing_wrong(tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("roundsman")
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/roundsman/bin/roundsman", str(program)))
    done = subprocess.run(
        ["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False
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
