"""The public names: what a plugin's author imports, and that a type checker sees it."""

import base64
import importlib.util
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib.resources import files
from pathlib import Path

import httpx
import pytest

import roundsman
from conftest import need
from roundsman import Auth, Secret, basic, bearer, header
from roundsman.http.client import Http
from worlds import Time, web_of

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("name", roundsman.__all__)
def test_each_public_name_can_be_imported(name: str) -> None:
    assert getattr(roundsman, name) is not None


@pytest.mark.parametrize(
    ("auth", "name", "value"),
    [
        (bearer(Secret("s3cret")), "authorization", "Bearer s3cret"),
        (header("X-Api-Key", Secret("s3cret")), "x-api-key", "s3cret"),
        (header("Authorization", Secret("s3cret"), prefix="Token "), "authorization", "Token s3cret"),
        (
            basic("ada", Secret("s3cret")),
            "authorization",
            "Basic " + base64.b64encode(b"ada:s3cret").decode(),
        ),
    ],
)
async def test_a_secret_is_sent_as_the_vendor_expects_it(
    auth: Auth, name: str, value: str, time: Time
) -> None:
    sent: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(200, json=[])

    await Http(web_of(httpx.MockTransport(answer), time), auth).get("http://127.0.0.1:1/")
    assert sent[0].headers[name] == value


def test_a_type_checker_reads_the_installed_package() -> None:
    assert files("roundsman").joinpath("py.typed").is_file()


def test_the_wheel_has_the_marker_for_type_checkers_and_the_pages_of_help(tmp_path: Path) -> None:
    need(importlib.util.find_spec("hatchling") is not None, "needs hatchling: pip install hatchling")
    for name in ("src", "systemd", "docs", "README.md", "pyproject.toml"):
        place = ROOT / name
        (shutil.copytree if place.is_dir() else shutil.copy)(place, tmp_path / name)
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", "dist"], cwd=tmp_path, check=True
    )
    [wheel] = (tmp_path / "dist").glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert "roundsman/py.typed" in names
    pages = {
        f"roundsman/{page.relative_to(ROOT)}"
        for page in (ROOT / "docs").rglob("*.md")
        if page.parent != ROOT / "docs"
    }
    assert pages <= names, pages - names


def test_the_source_distribution_has_the_alert_rules_and_the_dashboard(tmp_path: Path) -> None:
    need(importlib.util.find_spec("hatchling") is not None, "needs hatchling: pip install hatchling")
    for name in ("src", "systemd", "docs", "contrib", "README.md", "pyproject.toml"):
        place = ROOT / name
        (shutil.copytree if place.is_dir() else shutil.copy)(place, tmp_path / name)
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", "dist"], cwd=tmp_path, check=True
    )
    [archive] = (tmp_path / "dist").glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        names = {name.partition("/")[2] for name in opened.getnames()}
    files = {str(path.relative_to(ROOT)) for path in (ROOT / "contrib").rglob("*") if path.is_file()}
    assert "contrib/prometheus/roundsman.rules.yml" in files
    assert files <= names, files - names
