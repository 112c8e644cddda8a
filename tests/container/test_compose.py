"""contrib/compose.yaml: each file, variable and secret that it names exists or is explained, and its configuration is right."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import need
from machine import REPOSITORY
from typed import Program

CONTRIB = REPOSITORY / "contrib"
TEXT = (CONTRIB / "compose.yaml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
HEAD = TEXT.partition("\nname:")[0]
WORKERS = ("worker-1", "worker-2")
VALUES = {
    "store": "postgresql://roundsman:x@db/roundsman?sslmode=disable",
    "parakey": "0123456789",
    "parakey-hook": "Bearer 0123456789",
}
KEYS = {
    *(
        "image",
        "init",
        "restart",
        "stop_grace_period",
        "read_only",
        "tmpfs",
        "cap_drop",
        "security_opt",
        "depends_on",
    ),
    *("secrets", "environment", "volumes", "healthcheck", "ports"),
}
"""The keys of the Compose specification that are used in a service: a misspelled one would be refused."""


def test_it_has_a_database_two_workers_and_a_proxy_by_keys_of_the_specification() -> None:
    assert set(COMPOSE) == {"name", "x-worker", "services", "volumes", "secrets"}
    assert set(COMPOSE["services"]) == {"db", *WORKERS, "proxy"}
    assert {key for service in COMPOSE["services"].values() for key in service} <= KEYS
    assert all(COMPOSE["services"][name]["depends_on"]["db"] for name in WORKERS)
    assert "healthcheck" in COMPOSE["services"]["db"], "the workers wait for it"


def test_each_file_that_it_mounts_is_there_and_each_volume_is_declared() -> None:
    mounted = [each.split(":") for service in COMPOSE["services"].values() for each in service["volumes"]]
    files = {source for source, *_ in mounted if source.startswith(".")}
    assert [source for source in files if not (CONTRIB / source).exists()] == []
    assert {source for source, *_ in mounted} - files == set(COMPOSE["volumes"])
    assert all(mode == ["ro"] for source, _, *mode in mounted if source in files)


def test_each_secret_and_each_variable_is_explained() -> None:
    used = {name for service in COMPOSE["services"].values() for name in service.get("secrets", [])}
    assert used == set(COMPOSE["secrets"])
    assert {name: each["file"] for name, each in COMPOSE["secrets"].items()} == {
        name: f"./compose/secrets/{name}" for name in used
    }
    variables = set(re.findall(r"\$\{(\w+)", TEXT))
    explained = set(re.findall(r"^#   ([\w-]+) ", HEAD, re.MULTILINE))
    assert explained == used | variables


@pytest.mark.parametrize("name", WORKERS)
def test_its_configuration_has_no_mistake_on_each_worker(
    name: str, roundsman: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = COMPOSE["services"][name]
    for key, value in service["environment"].items():
        monkeypatch.setenv(key, value)
    text = (CONTRIB / "compose/config/roundsman.toml").read_text()
    secrets = set(re.findall(r"/run/secrets/([\w-]+)", text))
    assert secrets == set(service["secrets"])
    for secret in secrets:
        (tmp_path / secret).write_text(VALUES[secret])
        (tmp_path / secret).chmod(0o600)
    (tmp_path / "roundsman.toml").write_text(text.replace("/run/secrets/", f"{tmp_path}/"))
    done = roundsman("check")
    assert done.code == 0, done
    assert set(re.findall(r'on = "(.+)"', text)) <= set(WORKERS)


def test_the_proxy_knows_the_workers_and_their_port() -> None:
    text = (CONTRIB / "compose/Caddyfile").read_text()
    config = (CONTRIB / "compose/config/roundsman.toml").read_text()
    [port] = re.findall(r'address = "0\.0\.0\.0:(\d+)"', config)
    assert f"reverse_proxy {' '.join(f'{name}:{port}' for name in WORKERS)} " in text
    assert set(re.findall(r"\{\$(\w+)\}", text)) <= set(COMPOSE["services"]["proxy"]["environment"])


def test_the_proxys_configuration_is_valid(tmp_path: Path) -> None:
    need(shutil.which("caddy") is not None, "needs caddy: apt-get install caddy")
    command = ["caddy", "validate", "--adapter=caddyfile", "--config", str(CONTRIB / "compose/Caddyfile")]
    environ = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "HOOKS_HOST": "hooks.example.org"}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_lines_of_the_page_make_secrets_that_only_the_image_and_root_can_read(tmp_path: Path) -> None:
    need(os.geteuid() == 0, "needs root, to give files to the user of the image")
    page = (REPOSITORY / "docs/guides/container.md").read_text()
    [lines] = re.findall(r"```sh\n(    install -d .*?)    ```", page, re.DOTALL)
    subprocess.run(["bash", "-ec", lines], cwd=tmp_path, check=True)
    files = {each.name: each for each in (tmp_path / "compose/secrets").iterdir()}
    password = files["db-password"].read_text().strip()
    assert files["store"].read_text() == f"postgresql://roundsman:{password}@db/roundsman?sslmode=disable\n"
    assert len(password) >= 32
    modes = {(each.stat().st_uid, each.stat().st_mode & 0o777) for each in files.values()}
    assert modes == {(10001, 0o400)}
