"""The Python of the guides runs: the source, the sink and their tests."""

import importlib
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from http.server import HTTPServer
from pathlib import Path
from threading import Thread
from types import ModuleType
from typing import Any

import httpx
import pytest

import pages
from roundsman import Http, Sink, Source, plugin, testing
from roundsman.engine.reading import visit_to
from worlds import Time, web_of

SOURCE, SINK, TESTS = (
    "docs/guides/write-a-source.md",
    "docs/guides/write-a-sink.md",
    "docs/guides/test-a-plugin.md",
)
RECEIVER = "docs/sinks/http.md"
LONGEST_SOURCE, LONGEST_SINK = 80, 30
"""Lines; a first plugin is short."""


def python(page: str, line: str) -> str:
    """The block of Python on a page that has this line."""
    [block] = [block for block in pages.blocks(page, "python") if line in block.text]
    return block.text


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """`your_package`, with the source and the sink of the guides."""
    folder = tmp_path / "your_package"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "github.py").write_text(python(SOURCE, "class Releases"))
    (folder / "chat.py").write_text(python(SINK, "class Chat"))
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] in {"your_package", "guide"}]:
        del sys.modules[name]


def module(package: Path, *blocks: str) -> ModuleType:
    """The blocks as a module."""
    (package / "guide.py").write_text("\n".join(blocks))
    return importlib.import_module("guide")


def test_a_source_and_a_sink_are_short() -> None:
    assert len(python(SOURCE, "class Releases").splitlines()) < LONGEST_SOURCE
    assert len(python(SINK, "class Chat").splitlines()) < LONGEST_SINK


async def test_the_source_reports_the_oldest_first_and_nothing_after_a_304(package: Path, time: Time) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.headers.get("if-none-match") == '"1"':
            return httpx.Response(304)
        rows = [
            {"id": 2, "tag_name": "v2", "published_at": "2026-05-02T00:00:00Z"},
            {"id": 1, "tag_name": "v1"},
        ]
        return httpx.Response(200, json=rows, headers={"ETag": '"1"'})

    releases: Any = importlib.import_module("your_package.github").Releases
    source = releases(type="github.releases", repository="a/b").named("mine")
    visit = visit_to(source, web_of(httpx.MockTransport(answer), time))
    first = await source.poll(visit, {})
    assert [event.id for event in first.events] == ["1", "2"]
    second = await source.poll(visit, first.state)
    assert second.state is first.state
    assert second.events == ()


def test_the_tests_of_the_source_pass(package: Path) -> None:
    """The blocks of "Test a source", as one file."""
    tests = module(package, python(TESTS, "contract(source"), python(TESTS, "import visit"))
    tests.test_it_keeps_the_contract()
    tests.test_it_reports_the_oldest_first()


def test_the_tests_of_the_sink_pass(package: Path) -> None:
    tests = module(package, python(TESTS, "sink_contract(sink"), python(TESTS, "import deliver"))
    tests.test_it_keeps_the_contract()
    tests.test_a_refused_event_is_a_dead_letter()


def test_a_sink_with_a_place_of_its_own_names_it(package: Path) -> None:
    """The method of "A place of its own", in the sink of that page."""
    method = textwrap.indent(python(SINK, "def place"), "    ")
    text = f"from pathlib import Path\nfrom your_package.chat import Chat\n\n\nclass Placed(Chat):\n    path: Path\n{method}"
    placed: Any = module(package, text).Placed
    assert placed(type="chat", url="http://127.0.0.1:1/chat", path="/srv/chat").place() == "/srv/chat"
    assert inspect.signature(placed.place) == inspect.signature(Sink.place)


def test_a_source_says_what_it_reports_and_how_many_requests_it_makes(package: Path) -> None:
    """The methods of "What else a source can do", in the source of that page."""
    methods = textwrap.indent(python(SOURCE, "def reported_types"), "    ")
    text = f"from collections.abc import Sequence\nfrom your_package.github import Releases\n\n\nclass More(Releases):\n{methods}"
    more: Any = module(package, text).More
    source = more(type="github.releases", repository="a/b", interval="10m")
    assert source.reported_types() == ["com.github.release.published"]
    assert source.requests_a_day() == (144, "1 request a visit")
    for name in ("reported_types", "requests_a_day"):
        assert inspect.signature(getattr(more, name)) == inspect.signature(getattr(Source, name))


async def test_the_receiver_prints_each_request(package: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """`receiver.py`, on a port of its own."""
    receiver: Any = module(package, python(RECEIVER, "class Receiver")).Receiver
    with HTTPServer(("127.0.0.1", 0), receiver) as server:
        receiver.log_message = lambda *_: None
        thread = Thread(target=server.handle_request)
        thread.start()
        async with httpx.AsyncClient() as client:
            answer = await client.post(f"http://127.0.0.1:{server.server_address[1]}/", content=b"an event")
        thread.join()
    assert answer.status_code == 204
    assert "an event" in capfd.readouterr().out


def test_every_python_block_of_the_guides_is_run() -> None:
    run = {
        *(python(SOURCE, "class Releases"), python(SINK, "class Chat"), python(SINK, "def place")),
        python(SOURCE, "def reported_types"),
        *(python(TESTS, "contract(source"), python(TESTS, "import visit")),
        *(python(TESTS, "sink_contract(sink"), python(TESTS, "import deliver")),
        *(python(RECEIVER, "class Receiver"), python(RECEIVER, "def is_authentic")),  # test_pages_of_sinks.py
        python("docs/sinks/exec.md", "sys.stdin"),  # test_pages_of_sinks.py, too
    }
    written = [block for page in pages.written() for block in pages.blocks(page, "python")]
    assert [block.place for block in written if block.text not in run and not _is_signature(block.text)] == []


SIGNATURES = {"poll": Source.poll, "open": Sink.open}


def _is_signature(text: str) -> bool:
    """Whether it is a method of the plugin API with its parameters, and nothing else."""
    found = re.fullmatch(r"(?:async )?def (\w+)\((.*)\) -> .*: \.\.\.\n", text)
    if found is None:
        return False
    names = [each.partition(":")[0] for each in re.split(r",\s*(?=\w+(?::|$|,))", found[2])]
    return [each.strip() for each in names] == list(inspect.signature(SIGNATURES[found[1]]).parameters)


def test_the_methods_that_a_page_names_are_there() -> None:
    """The tables of "Write a source": methods of the HTTP client and of a visit, options of a poll, abilities."""
    text = pages.text_of(SOURCE)
    http = set(re.findall(r"^\| `(\w+)\(", pages.section(SOURCE, "Requests"), re.MULTILINE))
    assert {"get", "search", "post", "send"} <= http
    assert {name for name in http if not hasattr(Http, name)} - _auth_helpers() == set()
    visit = re.findall(r"`(?:await )?(\w+)", _first_column(pages.section(SOURCE, "What a visit has")))
    assert [
        name for name in visit if name not in dir(plugin.Visit) and name not in _fields(plugin.Visit)
    ] == []
    poll = re.findall(r"`(\w+)", _first_column(pages.section(SOURCE, "What a poll can return")))
    assert [name for name in poll if name not in inspect.signature(plugin.Poll).parameters] == []
    abilities = re.findall(r"^\| `(\w+)\([\w, ]*\)`[^|]* \| `(\w+)` \|", text, re.MULTILINE)
    assert abilities
    assert [each for each in abilities if not hasattr(getattr(plugin, each[1]), each[0])] == []


def test_the_names_of_the_testing_page_are_there() -> None:
    names = re.findall(r"`(\w+)`", _first_column(pages.section(TESTS, "The parts")))
    assert names
    assert [name for name in names if not hasattr(testing, name)] == []


def _first_column(text: str) -> str:
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    return "\n".join(row.split("|")[1] for row in rows)


def _fields(cls: type) -> set[str]:
    return set(inspect.signature(cls).parameters)


def _auth_helpers() -> set[str]:
    return {"bearer", "header", "basic"}
