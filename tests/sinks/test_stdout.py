"""Standard output: one line an event, for programs or for people, and never two writers."""

import errno
import os
import pty
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from roundsman.http.client import Http
from roundsman.http.transport import Clients
from roundsman.sinks import stdout
from roundsman.sinks.stdout import StdoutSink
from worlds import an_event


async def test_one_line_an_event(capfd: pytest.CaptureFixture[str]) -> None:
    await stdout._deliver([an_event(1), an_event(2)])
    assert capfd.readouterr().out.splitlines() == [an_event(n).body.decode() for n in (1, 2)]


async def test_while_a_write_waits_for_its_reader_no_other_write_begins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gate, entered = threading.Event(), threading.Event()

    def hang(fd: int, data: memoryview) -> int:
        entered.set()
        gate.wait(5)
        return len(data)

    monkeypatch.setattr(os, "write", hang)
    first = threading.Thread(target=stdout._write, args=(b"first",))
    first.start()
    assert entered.wait(5)
    with pytest.raises(OSError, match="an earlier write still waits") as caught:
        await stdout._deliver([an_event(1)])
    assert caught.value.errno == errno.EBUSY
    gate.set()
    first.join()


async def test_a_reader_that_went_away_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(fd: int, data: memoryview) -> int:
        raise BrokenPipeError

    monkeypatch.setattr(os, "write", broken)
    with pytest.raises(OSError, match="the reader of standard output has closed it"):
        await stdout._deliver([an_event(1)])


@contextmanager
def output(handle: int) -> Iterator[None]:
    """This is standard output meanwhile."""
    before = os.dup(1)
    os.dup2(handle, 1)
    try:
        yield
    finally:
        os.dup2(before, 1)
        os.close(before)


async def written(form: str, *, terminal: bool) -> str:
    """What the sink writes to a terminal or to a pipe."""
    reader, writer = pty.openpty() if terminal else os.pipe()
    sink = StdoutSink(type="stdout", format=form).named("console")
    events = [
        an_event(1, user={"id": None, "name": "Eve\x1b[31m", "email": None}),
        an_event(2, outcome="denied"),
    ]
    try:
        with output(writer):
            async with sink.open(Http(Clients()), None) as deliver:
                await deliver(events)
        return os.read(reader, 2**16).decode().replace("\r\n", "\n")
    finally:
        os.close(reader)
        os.close(writer)


@pytest.mark.parametrize(
    ("form", "terminal", "is_json"),
    [
        ("auto", False, True),
        ("auto", True, False),
        ("json", True, True),
        ("text", False, False),
        ("text", True, False),
    ],
)
async def test_a_terminal_gets_lines_for_people_and_a_pipe_json(
    form: str, terminal: bool, is_json: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    out = await written(form, terminal=terminal)
    assert out.startswith('{"specversion"') == is_json
    assert len(out.splitlines()) == 2
    if not is_json:
        assert "Eve\\x1b[31m: granted at id00001" in out
        assert ("\x1b[32m" in out) == terminal, "a pipe has no colours"
        assert ("2026-05-01T06:00:00Z" in out) != terminal, "a pipe has UTC"


async def test_a_terminal_without_colours_gets_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in await written("auto", terminal=True)


async def test_lines_for_people_fit_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("TZ", "UTC-3")
    time.tzset()
    try:
        lines = re.sub(r"\x1b\[\d+m", "", await written("auto", terminal=True)).splitlines()
    finally:
        monkeypatch.undo()
        time.tzset()
    assert all(len(line) <= 60 for line in lines)
    assert "1 May" in lines[0]
    assert lines[1] == "    Eve\\x1b[31m: granted at id00001"
