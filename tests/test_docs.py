"""The README says what is: commands, logs, events, the plugin example, the layout."""

import ast
import importlib
import json
import re
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest

import lists
import roundsman
from roundsman import config, shapes, testing
from roundsman.cli.app import app
from roundsman.cli.control import dead_app
from roundsman.cli.hooks import hooks_app
from roundsman.cli.service import service_app
from roundsman.engine.reading import visit_to
from roundsman.http.answers import REJECTED
from roundsman.sinks import SINKS
from roundsman.sources import SOURCES
from worlds import Time, web_of

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def section(title: str) -> str:
    return README.split(f"\n## {title}\n")[1].split("\n## ")[0]


def test_the_table_of_logs_is_the_code() -> None:
    documented = set(
        re.findall(
            r"`([a-z]+\.[a-z]+)`",
            "\n".join(line.split("|")[1] for line in section("Logs").splitlines() if line.startswith("| `")),
        )
    )
    written = set()
    for path in (ROOT / "src").rglob("*.py"):
        text = path.read_text()
        written |= set(re.findall(r'log(?:ger\(\))?\.(?:debug|info|warning|error|log)\(\s*"([a-z.]+)"', text))
        written |= set(re.findall(r'log\.log\([^"]*"([a-z.]+)"', text))
        written |= set(re.findall(r'"event": "([a-z]+\.[a-z]+)"', text))
    assert documented == written


def test_the_table_of_events_is_the_code() -> None:
    assert set(re.findall(r"^\| `([a-z_.]+)`", section("Events"), re.MULTILINE)) == set(shapes.TYPES)


def test_the_table_of_commands_is_the_code() -> None:
    documented = set(re.findall(r"^\| `roundsman ([a-z]+)", section("Commands"), re.MULTILINE))
    assert documented == {c.name or c.callback.__name__ for c in app.registered_commands} | {
        "dead",
        "failures",
        "hooks",
        "service",
    }
    assert {c.name for c in service_app.registered_commands} == {"show", "install"}
    assert {c.name for c in hooks_app.registered_commands} == {"list", "create", "delete", "unread"}
    assert {c.name for c in dead_app.registered_commands} == {"list", "retry", "drop"}
    for line in re.findall(r"^\| `roundsman (.*?)` \|", section("Commands"), re.MULTILINE):
        names = line.split()[:1] + [word for word in line.split()[1:2] if word in {"unread", "done"}]
        names += ["install"] if names == ["service"] else []
        name = " ".join(names)
        help_text = subprocess.run(
            [sys.executable, "-m", "roundsman", *names, "--help"], capture_output=True, text=True, check=True
        ).stdout
        for option in re.findall(r"--[a-z]+", line):
            assert option in help_text, (name, option)


def test_the_sinks_and_sources_are_documented() -> None:
    assert set(re.findall(r"^\| `([a-z]+)`", section("Sinks"), re.MULTILINE)) == set(SINKS)
    assert set(re.findall(r"^### `([a-z._]+)`", section("Sources"), re.MULTILINE)) == set(SOURCES)
    told = set(
        map(int, re.findall(r"\b(4\d\d)\b", section("Sinks").split("refuse an event")[0].split("2xx")[1]))
    )
    assert told == REJECTED


def test_the_makefile_has_what_is_promised() -> None:
    text = subprocess.run(["make", "help"], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    for target in ("help", "demo", "test", "check", "bench"):
        assert f"make {target}" in text


def example() -> str:
    return next(
        block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "Releases" in block
    )


def test_a_source_is_under_80_lines() -> None:
    assert len(example().splitlines()) < 80


@pytest.fixture
def releases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    (tmp_path / "readme_example.py").write_text(example())
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("readme_example").Releases
    del sys.modules["readme_example"]


async def test_the_example_source_works(releases: Any, time: Time) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.headers.get("if-none-match") == '"1"':
            return httpx.Response(304)
        rows = [
            {"id": 2, "tag_name": "v2", "published_at": "2026-05-02T00:00:00Z"},
            {"id": 1, "tag_name": "v1"},
        ]
        return httpx.Response(200, json=rows, headers={"ETag": '"1"'})

    source = releases(type="github.releases", repository="a/b").named("mine")
    visit = visit_to(source, web_of(httpx.MockTransport(answer), time))
    first = await source.poll(visit, {})
    assert [event.id for event in first.events] == ["1", "2"]
    second = await source.poll(visit, first.state)
    assert second.state is first.state
    assert second.events == ()


def written(line: str) -> str:
    """The Python of "Write a source" that has this line."""
    blocks: list[str] = re.findall(r"```python\n(.*?)```", section("Write a source"), re.DOTALL)
    return next(block for block in blocks if line in block)


def test_the_example_source_keeps_the_contract_as_its_test_says(releases: Any) -> None:
    source = releases(type="github.releases", repository="owner/name").named("mine")
    names: dict[str, Any] = {"Web": testing.Web, "contract": testing.contract, "source": source}
    exec(written("def test_it_keeps_the_contract"), names)
    names["test_it_keeps_the_contract"]()


def test_the_example_sink_works_and_keeps_the_contract() -> None:
    text = written("class Chat")
    assert len([line for line in text.splitlines()[3:] if line.strip()]) <= 12
    names = {name: getattr(roundsman, name) for name in ("Deliver", "Event", "Http", "Receipt", "Sink")} | {
        "AsyncIterator": AsyncIterator,
        "Literal": Literal,
        "Sequence": Sequence,
        "asynccontextmanager": asynccontextmanager,
        "json": json,
        "__name__": "example",
    }
    exec(text, names)
    posted: list[str] = []

    def chat(request: testing.Request) -> int:
        posted.append(request.json()["text"].rpartition(": ")[2])
        return 204

    sink = names["Chat"](type="chat", url="http://127.0.0.1:1/chat")
    testing.sink_contract(sink, lambda: posted, testing.Web(chat))


def test_the_service_is_installed_in_five_lines() -> None:
    """What they do is shown in a booted systemd: tests/systemd."""
    steps = re.search(r"```sh\n(.*?)```", section("As a service"), re.DOTALL)
    assert steps
    assert len(steps[1].strip().splitlines()) == 5


def test_every_file_the_readme_links_to_is_there() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target
    for target in re.findall(r"`((?:tests|src|systemd)/[\w./]+)`", README):
        assert (ROOT / target).exists(), target


def test_the_first_event_is_reached_as_described(tmp_path: Path) -> None:
    """From `init` to the first event, with the sandbox as vendor: the commands of that section, run."""
    text = section("From nothing to the first event")
    assert 'base_url = "http://127.0.0.1:8399"' in text
    box = subprocess.Popen(
        [sys.executable, "-m", "roundsman.sandbox", "--per-second", "20"], stdout=subprocess.PIPE, text=True
    )
    assert box.stdout
    head = "".join(box.stdout.readline() for _ in range(5))
    url = re.findall(r"http://\S+", head)[0]
    token = re.findall(r"PARAKEY_ACCESS_TOKEN=(\S+)", head)[0]
    assert token == re.findall(r"PARAKEY_ACCESS_TOKEN=(\S+)", text)[0]
    environ = {
        "PATH": str(Path(sys.executable).parent),
        "HOME": str(tmp_path),
        "PARAKEY_ACCESS_TOKEN": token,
    }

    def roundsman(*args: str) -> str:
        command = [sys.executable, "-m", "roundsman", *args]
        return subprocess.run(
            command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=True
        ).stdout

    try:
        roundsman("init")
        starter = (tmp_path / "roundsman.toml").read_text()
        head = "[sources.front-doors]\n"
        (tmp_path / "roundsman.toml").write_text(
            starter.replace(head, f'{head}base_url = "{url}"\n').replace(
                'interval = "60s"', 'interval = "2s"'
            )
        )
        assert "sources.front-doors: answers" in roundsman("check", "--live")
        roundsman("once", "--now")
        found = ""
        while not found:
            found = roundsman("once", "--now")
        assert '"co.parakey.event_log.created"' in found
        assert "front-doors" in roundsman("status")
        assert textwrap.shorten(roundsman("events"), 40)
    finally:
        box.terminate()
        box.wait()
        box.stdout.close()


def test_each_vendors_example_works_against_the_sandbox(tmp_path: Path) -> None:
    """The TOML of each source's section, pointed at the sandbox, until each has told something."""
    box = subprocess.Popen(
        [sys.executable, "-m", "roundsman.sandbox", "--per-second", "5"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert box.stdout
    printed = "".join(iter(box.stdout.readline, "[sinks.archive]\n"))
    secrets = dict(pair.split("=", 1) for pair in re.findall(r"[A-Z_]+=\S+", printed))
    theirs = tomllib.loads("[sources" + printed.partition("[sources")[2])["sources"]
    examples = "\n".join(re.findall(r"```toml\n(.*?)```", section("Sources"), re.DOTALL))
    assert examples.count("[sources.") == len(SOURCES)
    document = tomllib.loads(examples)["sources"]
    assert document.pop("repo") == lists.example("github"), "as it is printed; it has a mimic of its own"
    assert {table["type"] for table in document.values()} == {table["type"] for table in theirs.values()}
    for name, table in document.items():
        table.pop("domain_id", None)
        table |= {
            key: theirs[name][key] for key in ("base_url", "auth_url", "client_id") if key in theirs[name]
        }
        table["interval"] = "1s"
        document[name] = table
    lines = [
        f"[sources.{name}]\n" + "".join(f"{k} = {_toml(v)}\n" for k, v in t.items())
        for name, t in document.items()
    ]
    file = tmp_path / "roundsman.toml"
    file.write_text('[daemon]\nstore = "x.db"\n' + "".join(lines) + '[sinks.out]\ntype = "stdout"\n')
    environ = {"PATH": str(Path(sys.executable).parent), "HOME": str(tmp_path), **secrets}

    def roundsman(*args: str) -> str:
        command = [sys.executable, "-m", "roundsman", *args]
        return subprocess.run(
            command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=True
        ).stdout

    try:
        roundsman("check", "--live")
        roundsman("once", "--now")
        batch = next(line for line in iter(box.stdout.readline, "") if "track keys" in line).split()[-1]
        roundsman("track", "keys", batch)
        told = ""
        wanted = {
            *("co.parakey.event_log.created", "co.parakey.batch.item_failed", "co.parakey.batch.completed"),
            *("com.mailchimp.batch.operation_failed", "com.mailchimp.batch.completed"),
            *("ai.railz.push.completed", "ai.railz.batch_push.completed"),
        }
        while not all(kind in told for kind in wanted):
            told += roundsman("once", "--now")
        assert {row["source"] for row in json.loads(roundsman("failures", "--json"))} == {
            "keys",
            "newsletter",
            "ledger",
        }
    finally:
        box.terminate()
        box.wait()
        box.stdout.close()


def test_the_webhook_tables_of_the_readme_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The TOML of "Push and poll", put beside the sources' own."""
    examples = "\n".join(
        re.findall(r"```toml\n(.*?)```", section("Sources") + section("Push and poll"), re.DOTALL)
    )
    for name in re.findall(r'env = "(\w+)"', examples):
        monkeypatch.setenv(name, "0123456789abcdef")
    (tmp_path / "mailchimp-hook.secret").write_text("0123456789abcdef\n")
    file = tmp_path / "roundsman.toml"
    file.write_text(examples + '[sinks.out]\ntype = "stdout"\n')
    hooked = {name for name, source in config.load(file).sources.items() if source.webhook is not None}
    assert hooked == {"front-doors", "newsletter", "ledger"}


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{k} = {_toml(v)}" for k, v in value.items()) + " }"
    return json.dumps(value)


def test_the_table_of_rooms_is_the_code() -> None:
    """Each room of the house says in its first sentence what it is for."""
    said = {}
    for path in (ROOT / "src" / "roundsman").iterdir():
        file = path / "__init__.py" if path.is_dir() else path
        if file.suffix == ".py" and file.exists() and not path.name.startswith("__"):
            first = (ast.get_docstring(ast.parse(file.read_text())) or "").splitlines()[0]
            said[path.name + "/" * path.is_dir()] = re.split(r"(?<=\.) ", first)[0].rstrip(".")
    documented = dict(re.findall(r"^\| `([a-z_/.]+)` \| (.+) \|$", section("Development"), re.MULTILINE))
    assert documented == said
