"""The file sink: exact after a crash, whatever the crash was."""

import asyncio
import gzip
import os
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from roundsman import wire
from roundsman.events import Event
from roundsman.http import Http, Web
from roundsman.sinks.file import FileSink, _Appender
from worlds import Time, an_event


class Writer:
    """Opens, delivers, and may crash: the next open gets the receipt of the last delivery that was acked."""

    def __init__(self, folder: Path, time: Time, **options: Any) -> None:
        self.path = folder / "events.jsonl"
        self.sink = FileSink(type="file", path=self.path, **options).named("archive")
        self.time = time
        self.receipt: Any = None

    async def deliver(self, *events: Event, ack: bool = True) -> None:
        async with self.sink.open(Http(Web(now=self.time.now)), self.receipt) as deliver:
            receipt = await deliver(events)
            if ack:
                self.receipt = receipt

    def ids(self) -> list[str]:
        return [wire.decode(line)["id"] for line in self.path.read_bytes().splitlines()]


@pytest.fixture
def writer(tmp_path: Path, time: Time) -> Writer:
    return Writer(tmp_path, time)


E = [an_event(n) for n in range(20)]


async def test_one_line_an_event(writer: Writer) -> None:
    await writer.deliver(*E[:3])
    assert writer.path.read_bytes() == b"".join(e.body + b"\n" for e in E[:3])
    assert writer.path.stat().st_mode & 0o777 == 0o600


async def test_what_was_written_and_not_acked_is_not_written_twice(writer: Writer) -> None:
    await writer.deliver(*E[:3])
    await writer.deliver(*E[3:6], ack=False)
    await writer.deliver(*E[3:8])
    assert writer.ids() == [e.id for e in E[:8]]


async def test_also_when_the_first_delivery_ever_was_not_acked(writer: Writer) -> None:
    await writer.deliver(*E[:3], ack=False)
    await writer.deliver(*E[:2])
    await writer.deliver(*E[2:5])
    assert writer.ids() == [e.id for e in E[:5]]


@pytest.mark.parametrize("cut", [1, 10, 150])
async def test_a_torn_line_goes_and_is_written_whole(cut: int, writer: Writer) -> None:
    await writer.deliver(*E[:3])
    await writer.deliver(*E[3:6], ack=False)
    with writer.path.open("r+b") as file:
        file.truncate(file.seek(0, os.SEEK_END) - cut)
    await writer.deliver(*E[3:8])
    assert writer.ids() == [e.id for e in E[:8]]


async def test_a_replay_is_written_again(writer: Writer) -> None:
    await writer.deliver(*E[:3])
    await writer.deliver(*E[:3])
    assert writer.ids() == [e.id for e in E[:3]] * 2


async def test_a_crash_in_the_middle_of_a_replay_doubles_nothing(writer: Writer) -> None:
    await writer.deliver(*E[:4])
    await writer.deliver(*E[:2], ack=False)
    await writer.deliver(*E[:4])
    assert writer.ids() == [e.id for e in [*E[:4], *E[:4]]]


async def test_somebody_elses_unfinished_line_is_left_alone(writer: Writer) -> None:
    writer.path.write_bytes(b'{"not": "ours"}')
    await writer.deliver(E[0])
    assert writer.path.read_bytes() == b'{"not": "ours"}\n' + E[0].body + b"\n"


async def test_it_rotates_by_size_and_never_within_a_batch(tmp_path: Path, time: Time) -> None:
    writer = Writer(tmp_path, time, rotate_size=1000)
    for n in range(0, 20, 2):
        await writer.deliver(*E[n : n + 2])
    files = sorted(tmp_path.glob("events-*.jsonl"))
    assert len(files) >= 3
    lines = [line for path in [*files, writer.path] for line in path.read_bytes().splitlines()]
    assert [wire.decode(line)["id"] for line in lines] == [e.id for e in E]
    assert all(path.stat().st_size <= 1000 for path in files)


async def test_it_rotates_by_day_compresses_and_prunes(tmp_path: Path, time: Time) -> None:
    writer = Writer(tmp_path, time, rotate_daily=True, compress=True, keep=2)
    day = datetime(2026, 5, 1, tzinfo=UTC).timestamp()
    for n in range(5):
        time.wall = day + n * 86400
        await writer.deliver(E[n])
        os.utime(writer.path, (time.wall, time.wall))
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "events-2026-05-03.0001.jsonl.gz",
        "events-2026-05-04.0001.jsonl.gz",
        "events.jsonl",
    ]
    assert gzip.decompress((tmp_path / "events-2026-05-04.0001.jsonl.gz").read_bytes()) == E[3].body + b"\n"
    assert (tmp_path / "events-2026-05-04.0001.jsonl.gz").stat().st_mode & 0o777 == 0o600


async def test_a_crash_after_a_rotation_doubles_nothing(tmp_path: Path, time: Time) -> None:
    writer = Writer(tmp_path, time, rotate_size=500, compress=True)
    await writer.deliver(*E[:2])
    await writer.deliver(*E[2:4], ack=False)  # rotated, written, not acked
    await writer.deliver(*E[2:5])
    lines = [
        line
        for path in sorted(tmp_path.glob("events-*.gz"))
        for line in gzip.decompress(path.read_bytes()).splitlines()
    ]
    assert [wire.decode(line)["id"] for line in lines] + writer.ids() == [e.id for e in E[:5]]


async def test_a_compression_that_was_cut_off_is_done_again(tmp_path: Path, time: Time) -> None:
    (tmp_path / "events-2026-05-01.0001.jsonl").write_bytes(E[0].body + b"\n")
    (tmp_path / "events-2026-05-01.0001.jsonl.gz.tmp").write_bytes(b"half")
    await Writer(tmp_path, time, compress=True).deliver(E[1])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["events-2026-05-01.0001.jsonl.gz", "events.jsonl"]


async def test_logrotate_can_move_it_away(writer: Writer) -> None:
    await writer.deliver(E[0])
    writer.path.rename(writer.path.with_suffix(".1"))
    await writer.deliver(E[1])
    assert writer.ids() == [E[1].id]


async def test_logrotates_copytruncate_is_survived(writer: Writer) -> None:
    await writer.deliver(*E[:2])
    writer.path.write_bytes(b"")
    await writer.deliver(E[2])
    assert writer.ids() == [E[2].id]


async def test_two_writers_never_share_a_file(writer: Writer) -> None:
    async with writer.sink.open(Http(Web()), None):
        with pytest.raises(OSError, match="another writer has it open"):
            await writer.deliver(E[0])


async def test_a_full_disk_tears_nothing(small_disk: Path, time: Time) -> None:
    writer = Writer(small_disk, time)
    filler = small_disk / "filler"
    filler.write_bytes(b"x" * 2_080_000)
    big = [an_event(n, note="x" * 9000) for n in range(20)]
    with pytest.raises(OSError, match="No space left"):
        await writer.deliver(*big)
    filler.unlink()
    await writer.deliver(*big)
    assert writer.ids() == [e.id for e in big]


async def test_a_path_that_cannot_be_written_is_an_error_each_time(tmp_path: Path, time: Time) -> None:
    (tmp_path / "file").write_text("")
    sink = FileSink(type="file", path=tmp_path / "file" / "events.jsonl")
    with pytest.raises(OSError, match="Not a directory|File exists"):
        async with sink.open(Http(Web()), None):
            pass


async def test_a_slow_disk_does_not_hold_the_loop(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    gate = threading.Event()
    monkeypatch.setattr(os, "fdatasync", lambda fd: gate.wait(5))
    task = asyncio.create_task(writer.deliver(E[0]))
    for _ in range(20):
        await asyncio.sleep(0)
    assert not task.done()
    gate.set()
    await task


async def test_keeping_some_keeps_the_newest(tmp_path: Path, time: Time) -> None:
    writer = Writer(tmp_path, time, rotate_size=400, keep=2)
    for event in E:
        await writer.deliver(event)
    files = [*sorted(tmp_path.glob("events-*.jsonl")), writer.path]
    lines = [line for path in files for line in path.read_bytes().splitlines()]
    assert [wire.decode(line)["id"] for line in lines] == [e.id for e in E[-3:]]


async def test_two_crashes_in_a_row_double_nothing(tmp_path: Path, time: Time) -> None:
    """A rotation between them would have left lines without ack behind in the old file."""
    writer = Writer(tmp_path, time, rotate_size=1200)
    await writer.deliver(*E[:3])
    await writer.deliver(*E[3:6], ack=False)
    await writer.deliver(*E[3:10], ack=False)
    await writer.deliver(*E[3:12])
    files = [*sorted(tmp_path.glob("events-*.jsonl")), writer.path]
    lines = [line for path in files for line in path.read_bytes().splitlines()]
    assert [wire.decode(line)["id"] for line in lines] == [e.id for e in E[:12]]


async def test_a_very_large_batch_without_ack_is_not_doubled(writer: Writer) -> None:
    await writer.deliver(E[0])
    large = [an_event(n, note="x" * 3_000_000) for n in range(10, 17)]
    await writer.deliver(*large, ack=False)
    await writer.deliver(*large)
    assert writer.ids() == [e.id for e in [E[0], *large]]


async def test_a_sink_that_is_left_while_it_opens_locks_nobody_out(
    writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reload, or a stop, that comes while a slow disk opens the file."""
    inside, gate, really = threading.Event(), threading.Event(), _Appender._open

    def slow(self: Any, receipt: Any) -> None:
        inside.set()
        gate.wait(5)
        really(self, receipt)

    with monkeypatch.context() as patched:
        patched.setattr(_Appender, "_open", slow)
        task = asyncio.create_task(writer.deliver(E[0]))
        while not inside.is_set():
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        gate.set()
        for thread in threading.enumerate():
            if thread.daemon:
                thread.join(5)
    await writer.deliver(E[1])
    assert writer.ids() == [E[1].id]
