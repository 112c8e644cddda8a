"""Standard output: one line an event, and never two writers."""

import errno
import os
import threading

import pytest

from roundsman.sinks import stdout
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
