"""A container of the image: an ordinary user, files of this machine only where they are mounted, and signals as under systemd."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest

from containers import IMAGE, USER, Podman
from machine import REPOSITORY, awaited
from roundsman.sandbox.parakey import TOKEN

CONFIG = """
[listen]
address = "127.0.0.1:8377"
[sources.front-doors]
type = "parakey.event_logs"
base_url = "http://127.0.0.1:8399"
interval = "300ms"
access_token = { file = "/run/secrets/parakey" }
[sinks.archive]
type = "file"
path = "events.jsonl"
"""
COMPOSE = REPOSITORY / "contrib/compose"
ISOLATED = ("--network=none", "--read-only", "--cap-drop=all")


def unpacked(folder: Path) -> Path:
    """The files of a plugin's wheel."""
    program = [
        sys.executable,
        "-m",
        "roundsman",
        "new",
        "source",
        "acme.orders",
        "--into",
        str(folder / "package"),
    ]
    subprocess.run(program, check=True, capture_output=True)
    build = "import sys; from hatchling.builders.wheel import WheelBuilder as W; print(next(W(sys.argv[1]).build(directory=sys.argv[2])))"
    command = [sys.executable, "-c", build, str(folder / "package"), str(folder)]
    wheel = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    with ZipFile(wheel) as packed:
        packed.extractall(folder / "plugins")
    return folder / "plugins"


class Daemon:
    """A container that runs the daemon and, beside it, a simulated vendor; and its volume."""

    def __init__(self, podman: Podman, folder: Path) -> None:
        self.podman = podman
        self.config = folder / "config" / "roundsman.toml"
        self.config.parent.mkdir()
        self.config.write_text(CONFIG)
        token = folder / "token"
        token.write_text(TOKEN + "\n")
        token.chmod(0o400)
        os.chown(token, USER, USER)
        self.mounts = (
            f"--volume={self.config.parent}:/etc/roundsman:ro",
            f"--volume={token}:/run/secrets/parakey:ro",
        )
        self.name = ""

    def start(self, name: str) -> None:
        self.name = name
        state = "--volume=state:/var/lib/roundsman"
        self.podman.run("run", "--detach", f"--name={name}", *ISOLATED, *self.mounts, state, IMAGE)
        self.podman.run("exec", "--detach", name, "roundsman", "sandbox", "--port=8399", "--per-second=20")

    def inside(self, *command: str) -> str:
        return self.podman.run("exec", self.name, *command)

    def events(self) -> list[str]:
        """The ids of the file sink, in the volume."""
        done = self.podman.ask("exec", self.name, "cat", "events.jsonl")
        return [
            json.loads(line)["id"] for line in done.stdout.splitlines(keepends=True) if line.endswith("\n")
        ]

    def logged(self) -> str:
        done = self.podman.ask("logs", self.name)
        return str(done.stdout + done.stderr)

    def until(self, condition: Any) -> Any:
        return awaited(condition, 60, self.logged)


@pytest.fixture(scope="module")
def daemon(podman: Podman, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    daemon = Daemon(podman, tmp_path_factory.mktemp("daemon"))
    daemon.start("first")
    yield daemon
    podman.run("rm", "--force", "--time=0", daemon.name)  # else it runs beside all tests that follow


def test_the_demo_runs_inside(podman: Podman) -> None:
    printed = podman.run("run", "--rm", *ISOLATED, IMAGE, "demo", "--for", "4s")
    assert "one for each." in printed


def test_the_daemon_is_an_ordinary_user_that_reads_its_secret_from_a_file(daemon: Daemon) -> None:
    daemon.until(lambda: len(daemon.events()) > 3)
    assert daemon.inside("id", "-u") == f"{USER}\n"
    assert daemon.inside("stat", "--format=%u %a", ".", "roundsman.db") == f"{USER} 700\n{USER} 600\n"
    assert TOKEN not in daemon.logged() + daemon.podman.run("inspect", daemon.name)


def test_the_image_asks_the_daemon_for_its_health(daemon: Daemon) -> None:
    daemon.until(lambda: len(daemon.events()) > 0)
    assert daemon.podman.ask("healthcheck", "run", daemon.name).returncode == 0
    check = json.loads(
        daemon.podman.run("inspect", "--format={{json .Config.Healthcheck.Test}}", daemon.name)
    )
    done = daemon.podman.ask("run", "--rm", *ISOLATED, *daemon.mounts, IMAGE, *check[2:])
    assert (check[:2], done.returncode) == (["CMD", "roundsman"], 1), done


def test_a_signal_reloads_it(daemon: Daemon) -> None:
    daemon.until(lambda: len(daemon.events()) > 0)
    daemon.config.write_text(CONFIG + '[sinks.second]\ntype = "file"\npath = "second.jsonl"\n')
    daemon.podman.run("kill", "--signal=HUP", daemon.name)
    daemon.until(lambda: "second" in daemon.inside("roundsman", "status"))
    daemon.config.write_text(CONFIG)
    assert "sinks.second: removed" in daemon.inside("roundsman", "reload")


def test_it_ends_at_once_and_a_new_container_goes_on_with_its_volume(daemon: Daemon) -> None:
    daemon.until(lambda: len(daemon.events()) > 0)
    before, since = daemon.events(), time.monotonic()
    daemon.podman.run("stop", "--time=60", daemon.name)
    assert time.monotonic() - since < 30
    assert daemon.podman.run("inspect", "--format={{.State.ExitCode}}", daemon.name) == "0\n"
    daemon.podman.run("rm", daemon.name)
    daemon.start("second")
    daemon.until(lambda: len(daemon.events()) > len(before) + 3)
    after = daemon.events()
    assert after[: len(before)] == before
    assert len(set(after)) == len(after)


def test_it_ends_at_once_also_while_it_starts(daemon: Daemon) -> None:
    """The kernel drops signals for the first process of a container unless that has a handler."""
    podman = daemon.podman
    podman.run("run", "--detach", "--name=stopped", *ISOLATED, *daemon.mounts, IMAGE)

    def ended() -> bool:
        podman.ask("kill", "--signal=TERM", "stopped")
        return podman.run("inspect", "--format={{.State.Status}}", "stopped") == "exited\n"

    awaited(ended, 60)
    assert podman.run("inspect", "--format={{.State.ExitCode}}", "stopped") == "143\n"
    assert "daemon.started" not in podman.ask("logs", "stopped").stderr


def test_a_plugin_is_a_folder_that_is_mounted(daemon: Daemon, tmp_path: Path) -> None:
    """As that of the Debian package: the files of an unpacked wheel."""
    mounted = f"--volume={unpacked(tmp_path)}:/usr/local/lib/roundsman/plugins:ro"
    text = daemon.podman.run("run", "--rm", *ISOLATED, mounted, IMAGE, "plugins", "--json")
    found = {each["type"]: each for each in json.loads(text)}
    assert found["acme.orders"]["error"] is None


def page(start: str) -> str:
    """The rest of a line or of a block of the page about containers."""
    text = (REPOSITORY / "docs/guides/container.md").read_text()
    return (
        text.partition(start)[2].partition("\n")[0]
        if "\n" not in start
        else text.partition(start)[2].partition("```")[0]
    )


def test_the_line_of_the_page_checks_a_configuration(daemon: Daemon) -> None:
    """Beside the daemon: the file is the same, and so is its owner."""
    line = page("    podman run --rm ")
    folder = daemon.config.parent
    (folder / "parakey.secret").write_text(TOKEN)
    text = page("```toml\n")
    (folder / "roundsman.toml").write_text(text)
    for each in (folder, *folder.iterdir()):
        os.chown(each, USER, USER)
    try:
        said = daemon.podman.run("run", "--rm", *line.split(), cwd=folder.parent)
        assert "1 source, 1 sink" in said, said
    finally:
        daemon.config.write_text(CONFIG)


def test_an_image_on_this_one_has_a_plugin(podman: Podman, tmp_path: Path) -> None:
    """By the lines of the page."""
    files = unpacked(tmp_path)
    [wheel] = tmp_path.glob("*.whl")
    (tmp_path / "Containerfile").write_text(
        page("```dockerfile\n").replace("your_package-1.0-py3-none-any.whl", wheel.name)
    )
    podman.run(
        "build",
        "--format=docker",
        "--isolation=chroot",
        "--layers=false",
        "--tag=localhost/more",
        ".",
        cwd=tmp_path,
    )
    text = podman.run("run", "--rm", *ISOLATED, "localhost/more", "plugins", "--json")
    assert {each["type"]: each["error"] for each in json.loads(text)}["acme.orders"] is None, files


def test_workers_of_the_compose_file_share_a_database(podman: Podman, database: str, tmp_path: Path) -> None:
    """Its configuration, with a name for each container, and a server and a vendor on this machine's loopback."""
    shutil.copytree(COMPOSE / "config", tmp_path / "config")
    config = tmp_path / "config" / "roundsman.toml"
    vendor = '[sources.front-doors]\nbase_url = "http://127.0.0.1:1"\n'
    text = (
        config.read_text()
        .replace("[sources.front-doors]\n", vendor)
        .replace('"0.0.0.0:8377"', '"127.0.0.1:0"')
    )
    config.write_text(text)
    secrets = {"store": database, "parakey": TOKEN, "parakey-hook": "Bearer 0123456789abcdef"}
    mounts = [f"--volume={tmp_path / 'config'}:/etc/roundsman:ro"]
    for name, value in secrets.items():
        file = tmp_path / name
        file.write_text(value + "\n")
        os.chown(file, USER, USER)
        mounts.append(f"--volume={file}:/run/secrets/{name}:ro")
    names = ("worker-1", "worker-2")
    for name in names:
        podman.run(
            "run",
            "--detach",
            "--read-only",
            "--network=host",
            f"--env=MACHINE={name}",
            f"--name={name}",
            *mounts,
            IMAGE,
        )
    try:
        for name in names:
            awaited(lambda name=name: podman.ask("exec", name, "roundsman", "healthy").returncode == 0, 60)
        said = podman.run("exec", "worker-2", "roundsman", "status")
        assert all(f"worker {name} " in said for name in names), said
    finally:
        for name in names:
            podman.run("stop", "--time=60", name)
    assert {podman.run("inspect", "--format={{.State.ExitCode}}", name) for name in names} == {"0\n"}
