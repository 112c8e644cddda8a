"""A small Debian with a real systemd as its first process, in a container: what `tests/systemd` installs Roundsman into.

The system is made once (debootstrap) and kept in a cache; each machine is that with a layer of its own on top, which is thrown
away. It has a network of its own with nothing but loopback: what pip installs is put there beforehand.
"""

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

REPOSITORY = Path(__file__).parent.parent
SUITE = "bookworm"
"""Debian 12: the oldest systemd (252) and Python (3.11) that we promise."""
PYTHON = "3.11"
NO_CGROUP = "219"
"""Exit status of a service whose control group systemd could not use, systemd.exec(5)."""
PACKAGES = ("systemd", "systemd-sysv", "dbus", "libpam-systemd", "python3", "python3-venv", "pipx", "make")
SHARED = (
    "pyproject.toml",
    "constraints.txt",
    "README.md",
    "CHANGELOG.md",
    "Makefile",
    "config.example.toml",
    "src",
    "docs",
    "systemd",
    "debian",
    "contrib",
)
"""What a clone has, as far as an installation needs it."""
ENVIRON = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
}


def cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or Path(os.environ.get("HOME", "/root")) / ".cache"
    return Path(home) / "roundsman-tests"


def missing() -> str | None:
    """What to do so that a machine can be booted; None where nothing is missing, and all that it is made of is there."""
    if os.geteuid() != 0:
        return "needs root, to boot a systemd: sudo make test-systemd"
    if shutil.which("systemd-nspawn") is None or shutil.which("debootstrap") is None:
        return "needs systemd-nspawn and debootstrap: apt-get install systemd-container debootstrap"
    if "overlay" not in Path("/proc/filesystems").read_text():
        return "needs overlay file systems: modprobe overlay"
    try:
        debian(), wheels()
    except AssertionError as exc:
        return f"needs the mirrors of Debian and of Python's packages, once: {exc}"
    return None


def debian() -> Path:
    """The system that every machine begins with, made where it is not there yet (a minute)."""
    name = hashlib.sha256(repr((SUITE, PACKAGES)).encode()).hexdigest()[:12]
    ready = cache() / f"{SUITE}-{name}"
    if not ready.exists():
        half = ready.with_name(f"{ready.name}.{os.getpid()}")
        half.mkdir(parents=True)
        mirror = _output(
            "apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", f"Codename: {SUITE}"
        )
        command = ["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", SUITE, str(half)]
        _check(*command, *mirror.split()[:1])
        shutil.rmtree(half / "var/cache/apt", ignore_errors=True)
        os.sync()  # now, and not while a machine boots and writes
        _put(half, ready)
    return ready


def wheels() -> Path:
    """All that `pip install '.[notify,postgres]'` and `pipx install .` need, for the Python of that system."""
    text = (REPOSITORY / "pyproject.toml").read_text()
    project = tomllib.loads(text)
    extras = [each for extra in project["project"]["optional-dependencies"].values() for each in extra]
    wanted = [*project["project"]["dependencies"], *extras, *project["build-system"]["requires"]]
    wanted += ["pip", "setuptools", "wheel"]  # pipx brings these up to date in an environment of its own
    constraints = REPOSITORY / "constraints.txt"
    versions = f"{wanted} {constraints.read_text()}"
    ready = cache() / f"wheels-{hashlib.sha256(versions.encode()).hexdigest()[:12]}"
    if not ready.exists():
        half = ready.with_name(f"{ready.name}.{os.getpid()}")
        machine = platform.machine()
        tags = [
            f"--platform={tag}_{machine}"
            for tag in ("manylinux_2_36", "manylinux_2_28", "manylinux_2_17", "manylinux2014")
        ]
        pip = [sys.executable, "-m", "pip", "--quiet"]
        half.mkdir(parents=True, exist_ok=True)
        options = [
            "--only-binary=:all:",
            f"--python-version={PYTHON}",
            *tags,
            f"--find-links={half}",
            f"--dest={half}",
            f"--constraint={constraints}",
        ]
        _check(*pip, "download", *options, *wanted)
        _put(half, ready)
    return ready


def _put(half: Path, ready: Path) -> None:
    """Move what was made to its place, unless another process has made it meanwhile."""
    try:
        half.rename(ready)
    except OSError:
        if not ready.exists():
            raise
        shutil.rmtree(half, ignore_errors=True)


def awaited(condition: Callable[[], Any], seconds: float = 60, otherwise: Callable[[], str] = str) -> Any:
    """What the condition says once it says something; after so many seconds, a failure that says `otherwise`."""
    ends = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < ends, otherwise()
        time.sleep(0.02)
    return found


def leader(parent: int) -> int | None:
    """The child of this process that is the first one of a system of its own; None while there is none.

    Not any child: systemd-nspawn sets the system up in one that goes away again, and who entered that would be nowhere.
    """
    for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
        with suppress(FileNotFoundError, ProcessLookupError):  # it has gone
            [ids] = [
                line
                for line in Path(f"/proc/{child}/status").read_text().splitlines()
                if line.startswith("NSpid:")
            ]
            if ids.split()[2:] == ["1"]:  # its number here, and its number there
                return int(child)
    return None


class Machine:
    """A booted system: `with Machine(folder) as machine`."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        """Its files, as this side sees them; not what it mounts itself, such as /run."""
        self.original = ""
        """The configuration that the installing fixture wrote."""
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._leader = 0

    def __enter__(self) -> Self:
        system, packages = debian(), wheels()
        # In memory: what a machine does must not hang on how busy the disk is.
        memory = self._folder / "layer"
        memory.mkdir(parents=True)
        _check("mount", "-t", "tmpfs", "-o", "size=4g", "tmpfs", str(memory))
        layers = [memory / name for name in ("upper", "work")]
        for folder in (self.root, *layers):
            folder.mkdir(parents=True)
        options = f"lowerdir={system},upperdir={layers[0]},workdir={layers[1]}"
        _check("mount", "-t", "overlay", "-o", options, "overlay", str(self.root))
        try:
            shutil.copytree(packages, self.root / "srv/wheels")
            (self.root / "etc/pip.conf").write_text(
                "[global]\nno-index = true\nfind-links = /srv/wheels\nroot-user-action = ignore\ndisable-pip-version-check = true\n"
            )
            for name in SHARED:
                place = self.root / "root/roundsman" / name
                place.parent.mkdir(exist_ok=True)
                if (REPOSITORY / name).is_dir():
                    shutil.copytree(REPOSITORY / name, place, ignore=shutil.ignore_patterns("__pycache__"))
                elif (REPOSITORY / name).exists():
                    shutil.copy(REPOSITORY / name, place)
            self.boot()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._leader:
            self.halt()
        elif self._process is not None:
            self._process.kill()
            self._process.wait()
        for mounted in (self.root, self._folder / "layer"):
            subprocess.run(["umount", "-l", str(mounted)], check=False, stderr=subprocess.DEVNULL)

    def boot(self) -> None:
        command = ["systemd-nspawn", "--quiet", "--boot", "--register=no", "--keep-unit", "--private-network"]
        command += ["--link-journal=no", "--resolv-conf=off", "--timezone=off", "--console=pipe"]
        command += [f"--directory={self.root}", f"--machine=roundsman-{os.getpid()}"]
        # Its own idea of who started it: a service manager around us is none of its business.
        environ = {
            key: value for key, value in os.environ.items() if key not in {"NOTIFY_SOCKET", "LISTEN_FDS"}
        }
        with (self._folder / "console.log").open("ab") as console:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=console, stderr=console, env=environ
            )
        starter = self._process
        self._leader = self.until(lambda: _alive(starter) and leader(starter.pid), 180)
        self.until(lambda: self.ask("systemctl", "is-system-running") in {"running", "degraded"}, 180)

    def halt(self) -> None:
        """Switched off; what was written stays for the next boot."""
        assert self._process is not None
        self.ask("systemctl", "poweroff", "--force")
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._leader = 0

    def inside(self, path: str) -> Path:
        """A path of the machine, for this side: also what the machine has mounted itself."""
        return Path(f"/proc/{self._leader}/root") / path.lstrip("/")

    # -- commands --------------------------------------------------------------------------------------------------------

    def _call(self, *command: str, stdin: str | None, folder: str) -> "subprocess.CompletedProcess[str]":
        enter = ["nsenter", f"--target={self._leader}", "--all", f"--wdns={folder}"]
        return subprocess.run(
            [*enter, *command],
            input=stdin or "",
            capture_output=True,
            text=True,
            check=False,
            env=ENVIRON,
            timeout=300,
        )

    def run(self, *command: str, stdin: str | None = None, folder: str = "/root") -> str:
        """A command as root, from which success is expected; its output."""
        done = self._call(*command, stdin=stdin, folder=folder)
        for _ in range(3):
            # The kernel below sometimes refuses the control group of a service that has just ended.
            starts = command[0] == "systemctl" or command[-1].startswith("systemctl ")
            if done.returncode == 0 or not starts or self.show("ExecMainStatus") != NO_CGROUP:
                break
            done = self._call(*command, stdin=stdin, folder=folder)
        assert done.returncode == 0, (
            f"{command}: {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}\n"
            # systemctl says only that a service has failed.
            + self.ask("journalctl", "--unit=roundsman", "--lines=20", "--no-pager", "--output=cat")
        )
        return done.stdout

    def ask(self, *command: str) -> str:
        """A command whose status does not matter; its output, in one line."""
        return self._call(*command, stdin=None, folder="/").stdout.strip()

    def fails(self, *command: str) -> str:
        """A command from which failure is expected; everything that it said."""
        done = self._call(*command, stdin=None, folder="/root")
        assert done.returncode != 0, command
        return done.stdout + done.stderr

    def shell(self, script: str, stdin: str | None = None, folder: str = "/root") -> str:
        """A line as it is typed."""
        return self.run("bash", "-euo", "pipefail", "-c", script, stdin=stdin, folder=folder)

    def show(self, what: str, unit: str = "roundsman") -> str:
        """A property of a unit, systemctl(1)."""
        return self.ask("systemctl", "show", unit, "--property", what, "--value")

    def journal(self, *options: str, unit: str = "roundsman") -> list[dict[str, Any]]:
        """What the journal has of a unit, from the machine's boot on."""
        text = self.run("journalctl", "--quiet", "--output=json", f"--unit={unit}", "--boot", *options)
        return [json.loads(line) for line in text.splitlines()]

    def until(self, condition: Callable[[], Any], seconds: float = 60) -> Any:
        """What the condition says once it says something; it is another system, so it has to be asked."""
        return awaited(condition, seconds, self._last_words)

    def _last_words(self) -> str:
        console = (self._folder / "console.log").read_text(errors="replace")[-1000:]
        if not self._leader:
            return console
        return (
            console
            + self.ask("journalctl", "--no-pager", "--lines=40")
            + self.ask("systemctl", "status", "roundsman")
        )


def _alive(process: "subprocess.Popen[bytes]") -> bool:
    assert process.poll() is None, f"{process.args}: ended with {process.returncode}"
    return True


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def _check(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout[-2000:]}\n{done.stderr[-2000:]}"


if __name__ == "__main__":
    # The long part beforehand, while something else is done.
    debian()
