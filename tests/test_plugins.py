"""Plugins of one's own: `roundsman new` writes them, `roundsman plugins` shows them, and every launcher finds them."""

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from plugins import install
from typed import typed

ROOT = Path(__file__).parent.parent
SRC = ROOT / "src"
Roundsman = Callable[..., "subprocess.CompletedProcess[str]"]


def environment(*folders: Path) -> dict[str, str]:
    path = os.pathsep.join(map(str, (*folders, SRC)))
    return {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "PYTHONPATH": path, "ACME_TOKEN": "a-token"}


@pytest.fixture
def roundsman(tmp_path: Path) -> Roundsman:
    """The program, with these folders on the path of Python."""

    def run(*args: str, path: tuple[Path, ...] = ()) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "roundsman", *args]
        return subprocess.run(
            command, cwd=tmp_path, env=environment(*path), capture_output=True, text=True, check=False
        )

    return run


def shown(roundsman: Roundsman, kind: str, *path: Path) -> Any:
    """What `plugins --json` says of a type."""
    done = roundsman("plugins", "--json", path=path)
    assert (done.returncode, done.stderr) == (0, "")
    [found] = [each for each in json.loads(done.stdout) if each["type"] == kind]
    return found


# -- new ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["source", "sink"])
def test_the_tests_of_a_new_plugin_pass(kind: str, roundsman: Roundsman, tmp_path: Path) -> None:
    done = roundsman("new", kind, "acme.big-orders")
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "roundsman-acme-big-orders"
    wrote, pip, pytest_ = done.stdout.splitlines()
    assert wrote.startswith("wrote roundsman-acme-big-orders: pyproject.toml, README.md, src/acme_big_orders")
    assert pip == f"next: pip install --editable '{folder}[test]'"
    assert pytest_ == "      pytest roundsman-acme-big-orders"
    tests = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error::SyntaxWarning"]
    ran = subprocess.run(tests, cwd=folder, env=environment(), capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout
    assert "2 passed" in ran.stdout
    assert len((folder / "README.md").read_text().splitlines()) <= 10
    source = (folder / "src/acme_big_orders/__init__.py").read_text()
    assert len(source.splitlines()) < 60
    assert "class AcmeBigOrders(" in source


def test_a_new_plugin_and_its_tests_are_typed(roundsman: Roundsman, tmp_path: Path) -> None:
    places = {"source": "orders", "sink": "posts"}
    for kind, name in places.items():
        assert roundsman("new", kind, f"acme.{name}", "--into", name).returncode == 0
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--no-incremental"]
    command += [f"{name}/{part}" for name in places.values() for part in ("src", "tests")]
    sources = [str(tmp_path / name / "src") for name in places.values()]
    where = environment() | {"MYPYPATH": os.pathsep.join([*sources, str(SRC)])}
    done = subprocess.run(command, cwd=tmp_path, env=where, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no issues found in 4 source files" in done.stdout


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("Acme Orders", "is not the name of a type"),
        ("acme..orders", "is not the name of a type"),
        ("a" * 61, "is not the name of a type"),
        ("../acme", "is not the name of a type"),
        ("json", "would be the package json, which belongs to Python or Roundsman"),
        ("class", "would be the package class"),
        ("roundsman", "would be the package roundsman"),
        ("pytest", "would be the package pytest, which pytest has"),
        ("aiohttp", "would be the package aiohttp, which aiohttp has"),
        (
            "parakey.batches",
            "there is a source of this type already (roundsman.sources.parakey.batches:Batches)",
        ),
    ],
)
def test_a_bad_name_is_one_sentence(
    name: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    done = typed(tmp_path, monkeypatch, capfd)("new", "source", name)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"{name}: {why}")
    assert done.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_not_overwritten(roundsman: Roundsman, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    done = roundsman("new", "sink", "acme.alerts", "--into", "mine")
    assert (done.returncode, done.stderr) == (1, "mine: exists already and is not overwritten\n")
    assert [each.name for each in (tmp_path / "mine").iterdir()] == ["notes.txt"]
    (tmp_path / "file").write_text("mine")
    done = roundsman("new", "sink", "acme.alerts", "--into", "file/in/it")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert (tmp_path / "file").read_text() == "mine"


class Acme(BaseHTTPRequestHandler):
    """Answers with one thing, and takes events."""

    def do_GET(self) -> None:
        body = b'[{"id": 7, "created_at": "2026-05-01T06:00:00Z"}]' if "after" not in self.path else b"[]"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


def test_a_new_plugin_works_once_it_is_installed(roundsman: Roundsman, tmp_path: Path) -> None:
    """With the entry points that its own pyproject.toml states."""
    path = []
    for kind, name in (("source", "acme.orders"), ("sink", "acme.alerts")):
        assert roundsman("new", kind, name, "--into", kind).returncode == 0
        project = tomllib.loads((tmp_path / kind / "pyproject.toml").read_text())["project"]
        points = {group.removeprefix("roundsman."): found for group, found in project["entry-points"].items()}
        install(tmp_path / kind / "src", project["name"], project["version"], **points)
        path.append(tmp_path / kind / "src")
    with HTTPServer(("127.0.0.1", 0), Acme) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        (tmp_path / "roundsman.toml").write_text(
            f"""
            [daemon]
            store = "roundsman.db"
            [sources.orders]
            type = "acme.orders"
            base_url = "http://127.0.0.1:{server.server_port}"
            token = {{ env = "ACME_TOKEN" }}
            start = "beginning"
            [sinks.alerts]
            type = "acme.alerts"
            url = "http://127.0.0.1:{server.server_port}/events"
            token = {{ env = "ACME_TOKEN" }}
            """
        )
        checked = roundsman("check", "-c", "roundsman.toml", path=tuple(path))
        assert (checked.returncode, checked.stderr) == (0, "")
        polled = roundsman("poll", "orders", "-c", "roundsman.toml", "--json", path=tuple(path))
        server.shutdown()
    assert polled.returncode == 0, polled.stderr
    [event] = map(json.loads, polled.stdout.splitlines())
    assert (event["id"], event["source"], event["type"]) == ("7", "/acme/orders", "com.acme.orders.created")
    found = shown(roundsman, "acme.orders", *path)
    assert found["origin"] == "roundsman-acme-orders 0.1.0"
    assert found["folder"] == str(tmp_path / "source" / "src")
    assert shown(roundsman, "acme.alerts", *path)["kind"] == "sink"


# -- plugins -----------------------------------------------------------------------------------------------------------

OLD = """
from typing import Literal
from roundsman import Poll, Sink, Source

class Old(Source):
    type: Literal["acme.old"]
    base_url: str = "http://127.0.0.1:1"

    async def poll(self, http, state):
        return Poll(state)

    @classmethod
    def follow(cls, state, ids):
        return state

    def rewound(self, state, to):
        return state

NOTHING = 7
"""


@pytest.fixture
def acme(tmp_path: Path) -> Path:
    folder = tmp_path / "acme"
    points = {
        "acme.old": "acme_old:Old",
        "acme.other": "acme_old:Old",
        "acme.nothing": "acme_old:NOTHING",
        "acme.gone": "acme_nowhere:Gone",
        "railz.pushes": "acme_old:Old",
    }
    install(folder, "acme-old", "2.1", sources=points, sinks={"acme.old": "acme_old:Old"})
    (folder / "acme_old.py").write_text(OLD)
    return folder


def test_what_is_built_in_is_shown(roundsman: Roundsman) -> None:
    assert shown(roundsman, "mailchimp.batches") == {
        "type": "mailchimp.batches",
        "kind": "source",
        "origin": "built in",
        "folder": None,
        "shadows": [],
        "error": None,
        "abilities": ["webhooks", "track", "rewind", "registers"],
        "deprecated": False,
    }
    assert shown(roundsman, "http")["kind"] == "sink"


def test_an_installed_type_is_shown_with_its_origin_and_abilities(roundsman: Roundsman, acme: Path) -> None:
    found = json.loads(roundsman("plugins", "--json", path=(acme,)).stdout)
    by_name = {(each["kind"], each["type"]): each for each in found}
    old = by_name["source", "acme.old"]
    assert (old["origin"], old["folder"], old["error"]) == ("acme-old 2.1", str(acme), None)
    assert (old["abilities"], old["deprecated"]) == (["ring", "track", "rewind"], True)
    errors = {key[1]: each["error"] for key, each in by_name.items() if key[0] == "source" and each["error"]}
    assert errors == {
        "acme.other": 'the entry point calls it "acme.other", and its field type is "acme.old"',
        "acme.nothing": "acme_old:NOTHING is not a Source",
        "acme.gone": "the plugin acme.gone (acme_nowhere:Gone) cannot be loaded: "
        "ModuleNotFoundError: No module named 'acme_nowhere'",
        "railz.pushes": 'the entry point calls it "railz.pushes", and its field type is "acme.old"',
    }
    assert by_name["sink", "acme.old"]["error"] == "acme_old:Old is not a Sink"
    assert by_name["source", "railz.pushes"]["shadows"] == ["built in"]


def test_the_list_fits_a_terminal(roundsman: Roundsman, acme: Path) -> None:
    done = roundsman("plugins", path=(acme,))
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert max(len(line) for line in lines if str(acme) not in line) <= 80
    at = lines.index("  railz.pushes")
    assert lines[at + 1].strip().startswith("acme-old 2.1, in")
    assert "    hides the type of the same name: built in" in lines
    assert "    can: ring, track, rewind" in lines
    assert any(line.startswith("    is written for versions before 0.6") for line in lines)
    assert any(line.startswith("    does not load: the plugin acme.gone") for line in lines)


EXITS = "import sys; print('loading'); sys.exit('no licence')"
UNFINISHED = """
from __future__ import annotations

from typing import TYPE_CHECKING
from roundsman import Poll, Source

if TYPE_CHECKING:
    from typing import Literal

class NoPoll(Source):
    type: str = "acme.nopoll"
    base_url: str = "http://127.0.0.1:1"

class NoImport(Source):
    type: Literal["acme.noimport"]
    base_url: str = "http://127.0.0.1:1"

    async def poll(self, visit, state):
        return Poll(state)

NOTHING = 7
"""


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("exits", "the plugin acme.exits (acme_exits:Exits) cannot be loaded: SystemExit: no licence"),
        ("nopoll", "acme_unfinished:NoPoll has no method poll"),
        ("noimport", "acme_unfinished:NoImport has an option of a type that its module does not import"),
        ("nothing", "acme_unfinished:NOTHING is not a Source"),
    ],
)
def test_a_plugin_that_cannot_be_used_is_one_sentence(
    kind: str, why: str, roundsman: Roundsman, tmp_path: Path
) -> None:
    """In `plugins`, beside all others, and in `check`, where a table is of its type."""
    folder = tmp_path / "bad"
    points = {
        "acme.exits": "acme_exits:Exits",
        "acme.nopoll": "acme_unfinished:NoPoll",
        "acme.noimport": "acme_unfinished:NoImport",
        "acme.nothing": "acme_unfinished:NOTHING",
    }
    install(folder, "bad", sources=points)
    (folder / "acme_exits.py").write_text(EXITS)
    (folder / "acme_unfinished.py").write_text(UNFINISHED)
    done = roundsman("plugins", "--json", path=(folder,))
    assert (done.returncode, done.stderr) == (0, "loading\n")
    errors = {each["type"]: each["error"] for each in json.loads(done.stdout)}
    assert errors[f"acme.{kind}"].startswith(why)
    (tmp_path / "roundsman.toml").write_text(f'[sources.shop]\ntype = "acme.{kind}"\n')
    checked = roundsman("check", "-c", "roundsman.toml", path=(folder,))
    assert checked.returncode == 2
    assert why in checked.stderr
    assert "Traceback" not in checked.stderr


def test_a_path_stays_in_one_piece(roundsman: Roundsman, acme: Path, tmp_path: Path) -> None:
    folder = tmp_path / ("a-long-" * 8 + "folder") / ("of-plugins-" * 6)
    folder.parent.mkdir()
    acme.rename(folder)
    lines = roundsman("plugins", path=(folder,)).stdout.splitlines()
    assert any(line.endswith(str(folder)) for line in lines)


def test_an_editable_install_is_shown_with_its_folder(roundsman: Roundsman, acme: Path) -> None:
    link = {"url": "file:///srv/acme%20old", "dir_info": {"editable": True}}
    (acme / "acme_old-2.1.dist-info" / "direct_url.json").write_text(json.dumps(link))
    assert shown(roundsman, "acme.gone", acme)["folder"] == "/srv/acme old"


# -- the Debian package ------------------------------------------------------------------------------------------------

PLUGINS = "/usr/local/lib/roundsman/plugins"


def test_the_packaged_program_finds_what_is_in_the_folder_for_plugins(tmp_path: Path, acme: Path) -> None:
    """Its launcher, with the two folders moved here and without PYTHONPATH."""
    launcher = (ROOT / "debian" / "roundsman").read_text()
    assert launcher.count(f'"{PLUGINS}"') == 1
    moved = launcher.replace(PLUGINS, str(acme)).replace("/usr/lib/roundsman", str(SRC))
    program = tmp_path / "roundsman"
    program.write_text(moved)
    command = [sys.executable, "-I", str(program), "plugins", "--json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    found = {each["type"]: each for each in json.loads(done.stdout) if each["kind"] == "source"}
    assert (found["acme.old"]["origin"], found["acme.old"]["folder"]) == ("acme-old 2.1", str(acme))


def test_a_plugin_replaces_no_library_of_the_packaged_program(tmp_path: Path, acme: Path) -> None:
    (acme / "httpx.py").write_text("raise SystemExit('the wrong one')")
    (acme / "roundsman").mkdir()
    test_the_packaged_program_finds_what_is_in_the_folder_for_plugins(tmp_path, acme)


def test_the_guide_says_where_plugins_go() -> None:
    guide = (ROOT / "docs/guides/write-a-source.md").read_text()
    assert f"pip install --no-deps --upgrade --target {PLUGINS}" in guide
    assert "pipx inject" in guide
