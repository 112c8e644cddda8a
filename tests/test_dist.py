"""What strangers download: both archives are the same bytes each time, and state what they were tested with."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
import tomllib
import zipfile
from email import message_from_string
from pathlib import Path

import pytest

from conftest import need

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
UNWANTED = re.compile(
    r"__pycache__|\.pyc$|(^|/)\.(git|venv|hypothesis|\w+_cache)(/|$)|\.(pem|key|db|db-wal)$|(^|/)(build|dist|secrets)/|(^|/)\.env$"
)
"""Caches, stores, keys and what was built."""


def built(folder: Path, *, at: float) -> dict[str, bytes]:
    """Both archives, built in that folder from files of that time."""
    folder.mkdir(parents=True)
    for name in ("pyproject.toml", "README.md", ".gitignore", *stated()):
        place = ROOT / name
        if place.is_dir():
            shutil.copytree(place, folder / name)
        else:
            shutil.copy(place, folder / name)
    for path in folder.rglob("*"):
        os.utime(path, (at, at))
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build"],
        cwd=folder,
        check=True,
        env={**os.environ, "SOURCE_DATE_EPOCH": "1700000000"},
    )
    return {path.name: path.read_bytes() for path in (folder / "dist").iterdir()}


def stated() -> list[str]:
    """The files and folders of the source archive."""
    return PROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, bytes], dict[str, bytes], Path]:
    need(importlib.util.find_spec("hatchling") is not None, "needs hatchling: pip install hatchling")
    folder = tmp_path_factory.mktemp("built")
    first = built(folder / "one", at=time.time())
    return first, built(folder / "another/deeper", at=1_600_000_000), folder / "one/dist"


Twice = tuple[dict[str, bytes], dict[str, bytes], Path]


def test_two_builds_in_two_folders_at_two_times_are_the_same_bytes(twice: Twice) -> None:
    first, again, _ = twice
    assert sorted(Path(name).suffix for name in first) == [".gz", ".whl"]
    assert [name for name in first if first[name] != again.get(name)] == []


def test_no_archive_has_caches_keys_or_stores(twice: Twice) -> None:
    [wheel], [archive] = twice[2].glob("*.whl"), twice[2].glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        names = [*opened.getnames(), *zipfile.ZipFile(wheel).namelist()]
    assert [name for name in names if UNWANTED.search(name)] == []


def test_the_source_archive_has_all_that_make_test_needs(twice: Twice) -> None:
    [archive] = twice[2].glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        names = {name.partition("/")[2] for name in opened.getnames()}
    tracked = {
        str(path.relative_to(ROOT))
        for name in ("src", "tests", "docs", "contrib", "systemd", "debian", ".ci")
        for path in (ROOT / name).rglob("*")
        if path.is_file() and not UNWANTED.search(str(path.relative_to(ROOT)))
    }
    files = {
        path.name
        for path in ROOT.iterdir()
        if path.is_file() and path.suffix in {".md", ".toml", ".txt", ".yml"}
    }
    missing = (tracked | files | {"Makefile"}) - names - {"roundsman.toml"}
    assert sorted(missing) == []


def test_the_wheel_has_the_marker_for_type_checkers_and_the_pages_of_help(twice: Twice) -> None:
    [wheel] = twice[2].glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert "roundsman/py.typed" in names
    pages = {
        f"roundsman/{page.relative_to(ROOT)}"
        for page in (ROOT / "docs").rglob("*.md")
        if page.parent != ROOT / "docs"
    }
    assert pages <= names, pages - names


def test_the_wheel_states_the_versions_of_python_and_no_address_that_is_empty(twice: Twice) -> None:
    [wheel] = twice[2].glob("*.whl")
    opened = zipfile.ZipFile(wheel)
    [name] = [each for each in opened.namelist() if each.endswith(".dist-info/METADATA")]
    stated = message_from_string(opened.read(name).decode())
    versions = [
        found[1]
        for each in stated.get_all("Classifier", [])
        if (found := re.fullmatch(r"Programming Language :: Python :: (3\.\d+)", each))
    ]
    assert f">={versions[0]}" == stated["Requires-Python"]
    assert versions == [f"3.{number}" for number in range(11, 11 + len(versions))]
    assert stated["Keywords"]
    assert all(url.partition(", ")[2] for url in stated.get_all("Project-URL", []))


def test_the_constraints_have_each_library_at_a_version_that_the_project_allows() -> None:
    """Other versions would be installed in CI than a person gets."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if not line.startswith("#"))
    groups = PROJECT["dependency-groups"].values()
    extras = PROJECT["project"]["optional-dependencies"].values()
    stated = [*PROJECT["project"]["dependencies"], *(each for list_ in (*groups, *extras) for each in list_)]
    for each in stated:
        name = re.match(r"[\w.-]+", each)
        bounds = re.findall(r"(>=|<)([\d.]+)", each)
        assert name
        assert bounds, each
        version = numbers(pinned[name[0].lower()])
        for sign, bound in bounds:
            assert (version >= numbers(bound)) if sign == ">=" else (version < numbers(bound)), each


def numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def test_the_lowest_versions_are_the_bounds_that_the_project_states() -> None:
    command = [sys.executable, str(ROOT / ".ci/pins.py"), "lowest"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    extras = PROJECT["project"]["optional-dependencies"].values()
    stated = [
        *PROJECT["project"]["dependencies"],
        *PROJECT["dependency-groups"]["test"],
        *(each for extra in extras for each in extra),
    ]
    bounds = {
        re.sub(r"\[[^]]*\]", "", each.partition(";")[0]).split(",")[0].replace(">=", "==") for each in stated
    }
    assert sorted(lines) == sorted(bounds)
