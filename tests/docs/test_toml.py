"""Every TOML block of the documentation is a configuration that loads."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

import pages
import plugins
from conftest import need
from pages import ROOT, Block
from roundsman import config
from roundsman.errors import ConfigError
from tables import joined, lines

SECRET = "0123456789abcdef-us6"
SIGNING_SECRET = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
SOURCES: dict[str, dict[str, Any]] = {
    "front-doors": {"type": "parakey.event_logs", "access_token": SECRET},
    "keys": {"type": "parakey.batches", "access_token": SECRET},
    "newsletter": {"type": "mailchimp.batches", "api_key": SECRET},
    "ledger": {
        "type": "railz.pushes",
        "client_id": "ID_1",
        "secret_key": SECRET,
        "connections": "discover",
    },
    "audit": {"type": "http.json", "base_url": "http://127.0.0.1:1", "rows": {"id": "id", "time": "created"}},
    "feed": {"type": "http.json", "base_url": "http://127.0.0.1:1", "rows": {"id": "id"}},
}
"""What a block leaves out that has only some options of a source: the name decides."""
SINKS: dict[str, dict[str, Any]] = {
    "archive": {"type": "file", "path": "events.jsonl"},
    "crm": {"type": "http", "url": "https://crm.example.org/events"},
}
BLOCKS = [block for page in pages.pages() for block in pages.blocks(page, "toml")]
CONFIGURATIONS = [block for block in BLOCKS if "[project." not in block.text]
PAGES = sorted({block.page for block in CONFIGURATIONS})


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the plugin of "Write a source" is installed."""
    folder = tmp_path_factory.mktemp("plugin")
    command = [sys.executable, "-m", "roundsman", "new", "source", "acme.orders"]
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    place = folder / "roundsman-acme-orders/src"
    plugins.install(place, "acme-orders", sources={"acme.orders": "acme_orders:AcmeOrders"})
    return place


@pytest.fixture
def folder(tmp_path: Path, plugin: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for a configuration."""
    monkeypatch.syspath_prepend(plugin)
    return tmp_path


def mistakes(folder: Path, document: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What `config.load` says about the document, with every secret that it names in its place."""
    text = "".join(lines(document, ""))
    for name in re.findall(r'\benv = "(\w+)"', text):
        monkeypatch.setenv(name, _secret(name))
    (folder / "credentials").mkdir(exist_ok=True)
    for name in re.findall(r'\bcredential = "([\w-]+)"', text):
        (folder / "credentials" / name).write_text(_secret(name))
    for name in re.findall(r'\bfile = "([\w.-]+)"', text):
        (folder / name).write_text(_secret(name))
    for name in re.findall(r'\bcommand = \["(op|sops|vault)"', text):
        program = folder / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\necho {SECRET}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(folder / "bin"), prepend=":")
    if "tls_certificate" in text:
        a_certificate(folder)
    file = folder / "roundsman.toml"
    file.write_text(text)
    try:
        config.load(file)
    except ConfigError as exc:
        return exc.problems
    return []


def _secret(name: str) -> str:
    """A secret that fits the name; URLs, and those that sign requests, have a form of their own."""
    if "apprise" in name.lower():
        return f"mailtos://roundsman:{SECRET}@mail.example.org"
    if "warehouse" in name.lower():
        return f"postgresql://roundsman:{SECRET}@db.example.org/warehouse"
    if "url" in name.lower():
        return f"https://hc-ping.com/{SECRET}"
    return SIGNING_SECRET if "signing" in name.lower() else SECRET


def a_certificate(folder: Path) -> None:
    need(shutil.which("openssl") is not None, "needs openssl: apt-get install openssl")
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost -keyout key.pem -out cert.pem"
    )
    subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)


def completed(document: dict[str, Any]) -> dict[str, Any]:
    """The document with what a block leaves out: a type, a source, a sink, a listener."""
    sources = dict(document.get("sources", {})) or {"feed": {}}
    sinks = dict(document.get("sinks", {})) or {"archive": {}}
    for tables, known in ((sources, SOURCES), (sinks, SINKS)):
        for name, table in tables.items():
            if "type" not in table:
                assert name in known, f"{name} has no type on the page: name it in this test"
                tables[name] = joined(known[name], table)
    whole = {**document, "sources": sources, "sinks": sinks}
    if any("webhook" in table for table in sources.values()):
        whole.setdefault("listen", {})
    return whole


@pytest.mark.parametrize("block", CONFIGURATIONS, ids=lambda block: block.place)
def test_each_block_loads(block: Block, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert mistakes(folder, completed(tomllib.loads(block.text)), monkeypatch) == [], block.place


@pytest.mark.parametrize("page", PAGES)
def test_the_blocks_of_a_page_load_together(page: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a reader who follows the page from its top writes them into one file."""
    whole: dict[str, Any] = {}
    for block in CONFIGURATIONS:
        if block.page == page:
            whole = joined(whole, tomllib.loads(block.text))
            assert mistakes(folder, completed(whole), monkeypatch) == [], block.place


def test_the_entry_points_on_the_pages_are_of_the_groups_that_are_read() -> None:
    found = [(block, tomllib.loads(block.text)["project"]) for block in BLOCKS if block not in CONFIGURATIONS]
    assert found
    for block, project in found:
        assert set(project["entry-points"]) <= {"roundsman.sources", "roundsman.sinks"}, block.place


def test_an_option_that_does_not_exist_is_noticed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [block] = [block for block in CONFIGURATIONS if block.place.startswith("docs/sources/railz.md")]
    wrong = tomllib.loads(block.text.replace("connections", "conections"))
    assert mistakes(folder, completed(wrong), monkeypatch)


def test_the_example_configuration_is_written_as_it_is_read() -> None:
    """`lines` is the opposite of `tomllib.loads`."""
    document = tomllib.loads((ROOT / "config.example.toml").read_text())
    assert tomllib.loads("".join(lines(document, ""))) == document
