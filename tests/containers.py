"""Podman with a storage of its own: the image of the Containerfile on the Debian of tests/systemd, and containers of it."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import machine

BASE = "localhost/base"
IMAGE = "localhost/roundsman"
USER = 10001
"""The user of the image."""
SETTINGS = """
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
log_driver = "k8s-file"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
"""
"""No systemd is needed, and no right to raise limits. runc runs on each layout of control groups."""


def missing() -> str | None:
    """What to do so that containers can be run; None if nothing is missing."""
    if os.geteuid() != 0:
        return "needs root, to run containers"
    if shutil.which("podman") is None or shutil.which("runc") is None:
        return "needs podman and runc: apt-get install podman runc"
    if shutil.which("debootstrap") is None:
        return "needs debootstrap: apt-get install debootstrap"
    try:
        machine.debian(), machine.wheels()
    except AssertionError as exc:
        return f"needs the mirrors of Debian and of Python's packages, once: {exc}"
    return None


class Podman:
    """The command `podman`. Images, volumes and containers are in a folder of the tests."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running = Path(tempfile.mkdtemp(dir="/tmp"))  # Podman takes no more than 50 characters
        settings = folder / "containers.conf"
        settings.write_text(SETTINGS)
        self._environ = os.environ | {"CONTAINERS_CONF": str(settings), "TMPDIR": str(folder)}
        self._command = [
            "podman",
            "--log-level=fatal",
            f"--root={folder / 'root'}",
            f"--runroot={self._running}",
        ]

    def ask(self, *args: object, **more: Any) -> "subprocess.CompletedProcess[str]":
        """Of a command, the exit status and all that it printed."""
        more = {"capture_output": True, "text": True, "timeout": 300} | more
        return subprocess.run([*self._command, *map(str, args)], env=self._environ, check=False, **more)

    def run(self, *args: object, **more: Any) -> str:
        """What a command printed that succeeds."""
        done = self.ask(*args, **more)
        assert done.returncode == 0, (args, done.returncode, done.stdout[-3000:], done.stderr[-3000:])
        return str(done.stdout)

    def build(self) -> None:
        """Make the base of Debian, and the image on it. No registry is asked, and no index of packages."""
        left_out = [f"--exclude=./{name}" for name in ("dev", "proc", "sys", "run", "boot")]
        packed = ["tar", f"--directory={machine.debian()}", *left_out, "--create", "."]
        with subprocess.Popen(packed, stdout=subprocess.PIPE) as tar:
            self.run("import", "--quiet", "-", BASE, stdin=tar.stdout)
        pip = self._folder / "pip.conf"
        pip.write_text("[global]\nno-index = true\nfind-links = /srv/wheels\nroot-user-action = ignore\n")
        mounts = [f"--volume={machine.wheels()}:/srv/wheels:ro", f"--volume={pip}:/etc/pip.conf:ro"]
        self.run(
            *("build", "--format=docker", "--isolation=chroot", "--layers=false", *mounts),
            *(f"--build-arg=BASE={BASE}", f"--tag={IMAGE}", "--file=Containerfile", "."),
            cwd=machine.REPOSITORY,
        )

    def close(self) -> None:
        """End all containers, and remove all that was made."""
        self.ask("rm", "--all", "--force", "--time=0")
        subprocess.run(["umount", "--quiet", str(self._folder / "root/overlay")], check=False)
        for each in (self._folder, self._running):
            shutil.rmtree(each, ignore_errors=True)
