"""The file sink: exact after any crash."""

import asyncio
import gzip
import os
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from conftest import need
from roundsman import wire
from roundsman.events import Event
from roundsman.http.client import Http
from roundsman.http.transport import Clients
from roundsman.sinks.file import FileSink, _Appender
from worlds import Time, an_event


class Writer:
    """Opens, delivers, and may crash: the next open gets the receipt of the last delivery that was acked."""

    def __init__(self, folder: Path, time: Time, **options: Any) -> None:
        self.path = folder / "events.jsonl"
        self.sink = FileSink(type="file", path=self.path, **options).named("archive")
        self.time = time
        self.receipt: Any = None
        """Of the last ack; as the store keeps it, so a test may take it back."""

    async def deliver(self, *events: Event, ack: bool = True) -> None:
        async with self.sink.open(Http(Clients(now=self.time.now)), self.receipt) as deliver:
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


async def test_an_unfinished_line_of_another_program_is_left_alone(writer: Writer) -> None:
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
    async with writer.sink.open(Http(Clients()), None):
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
        async with sink.open(Http(Clients()), None):
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


async def test_a_sink_that_is_left_while_it_opens_keeps_no_lock(
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


# -- a clock that was wrong --------------------------------------------------------------------------------------------


async def _days(writer: Writer, *days: float) -> None:
    """One event a day; `days` are those since START, by the clock of the machine, which stamps the file, too."""
    began = writer.time.wall
    for n, day in enumerate(days):
        writer.time.wall = began + day * 86400
        await writer.deliver(E[n])
        os.utime(writer.path, (writer.time.wall, writer.time.wall))


def _kept(folder: Path) -> set[str]:
    text = "".join(path.read_text() for path in folder.glob("events*.jsonl"))
    return {event.id for event in E if event.id in text}


async def test_a_clock_that_was_ahead_for_a_while_costs_no_good_file(tmp_path: Path, time: Time) -> None:
    writer = Writer(tmp_path, time, rotate_daily=True, keep=2)
    await _days(writer, 0, 3650, 3651, 3, 4, 5, 6, 7, 8)
    assert _kept(tmp_path) == {E[6].id, E[7].id, E[8].id}


async def test_what_was_just_rotated_is_never_pruned(tmp_path: Path, time: Time) -> None:
    """The clock has just been set back, or forward."""
    for place, days in (("ahead", (0, 1, 2, 3650, 3)), ("behind", (0, 1, 2, -20000, 3))):
        (tmp_path / place).mkdir()
        writer = Writer(tmp_path / place, Time(), rotate_daily=True, keep=1)
        await _days(writer, *days)
        assert _kept(tmp_path / place) == {E[3].id, E[4].id}


async def test_a_disk_whose_clock_is_a_little_ahead_costs_nothing(tmp_path: Path, time: Time) -> None:
    writer = Writer(tmp_path, time, rotate_size=100, keep=2)
    tomorrow = time.wall + 86400
    for event in E[:6]:
        await writer.deliver(event)
        os.utime(writer.path, (tomorrow, tomorrow))
    assert _kept(tmp_path) == {E[3].id, E[4].id, E[5].id}


# -- a store that was put back -----------------------------------------------------------------------------------------


A, B = [an_event(n, "a") for n in range(9)], [an_event(n + 100, "b") for n in range(9)]


async def test_what_a_restored_store_delivers_again_is_not_doubled_in_any_order(
    writer: Writer,
) -> None:
    await writer.deliver(A[0])
    backup = writer.receipt
    await writer.deliver(A[1], B[0], B[1])
    writer.receipt = backup
    await writer.deliver(A[1], A[2])  # this source is visited first, and has something new, too
    await writer.deliver(A[3])
    await writer.deliver(B[0], A[4])  # each is another run of `once`
    await writer.deliver(B[1])
    assert writer.ids() == [e.id for e in [A[0], A[1], B[0], B[1], A[2], A[3], A[4]]]


async def test_nor_by_a_daemon_that_goes_on(writer: Writer) -> None:
    await writer.deliver(A[0])
    backup = writer.receipt
    await writer.deliver(A[1], B[0])
    async with writer.sink.open(Http(Clients(now=writer.time.now)), backup) as deliver:
        for event in (A[1], A[2], B[0], A[3]):
            receipt = await deliver([event])
    assert writer.ids() == [e.id for e in [A[0], A[1], B[0], A[2], A[3]]]
    assert receipt == {
        "inode": writer.path.stat().st_ino,
        "size": writer.path.stat().st_size,
        "rotated": "",
    }


async def test_a_replay_is_written_again_a_day_after_a_restore(writer: Writer) -> None:
    """An event that only a webhook reported does not come again; the sink stops waiting for its line."""
    await writer.deliver(A[0])
    backup = writer.receipt
    await writer.deliver(A[1], B[0])
    writer.receipt = backup
    await writer.deliver(A[2])
    for n in range(3):
        writer.time.advance(30_000)
        await writer.deliver(A[3 + n])
    told = len(writer.ids())
    await writer.deliver(A[0], A[1], B[0], A[2])
    assert len(writer.ids()) == told + 4
    assert writer.receipt == {
        "inode": writer.path.stat().st_ino,
        "size": writer.path.stat().st_size,
        "rotated": "",
    }


async def test_a_replay_is_written_again_however_quiet_that_day_was(writer: Writer) -> None:
    await writer.deliver(A[0])
    backup = writer.receipt
    await writer.deliver(A[1], B[0])
    async with writer.sink.open(Http(Clients(now=writer.time.now)), backup) as deliver:
        await deliver([A[2]])
        writer.time.advance(90_000)
        await deliver([A[0], A[1], B[0], A[2]])
    assert len(writer.ids()) == 4 + 4


async def test_rotation_does_not_wait_for_what_does_not_come_again(tmp_path: Path, time: Time) -> None:
    writer = Writer(tmp_path, time, rotate_size=1000)
    await writer.deliver(A[0])
    backup = writer.receipt
    await writer.deliver(B[0])
    async with writer.sink.open(Http(Clients(now=time.now)), backup) as deliver:
        for event in A[1:]:
            writer.receipt = await deliver([event])
        assert len(list(tmp_path.glob("events-*.jsonl"))) >= 2
        await deliver([B[0]])
    await writer.deliver(B[1])
    files = [*sorted(tmp_path.glob("events-*.jsonl")), writer.path]
    lines = [wire.decode(line)["id"] for path in files for line in path.read_bytes().splitlines()]
    assert sorted(lines) == sorted(e.id for e in [*A, B[0], B[1]])


@pytest.mark.parametrize("seconds", [-3, -30 * 86400, 3650 * 86400])
async def test_a_clock_that_is_corrected_after_a_crash_doubles_nothing(
    seconds: float, writer: Writer
) -> None:
    await writer.deliver(A[0])
    await writer.deliver(A[1], ack=False)
    async with writer.sink.open(Http(Clients(now=writer.time.now)), writer.receipt) as deliver:
        writer.time.set_wall(seconds)
        await deliver([A[1], A[2]])
    assert writer.ids() == [e.id for e in A[:3]]


# -- places ------------------------------------------------------------------------------------------------------------


async def test_a_circle_of_links_is_an_error_as_any_other(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    sink = FileSink(type="file", path=tmp_path / "loop" / "events.jsonl")
    assert sink.place()
    with pytest.raises(OSError, match="symbolic links|not root's|Not a directory|File exists"):
        async with sink.open(Http(Clients()), None):
            pass


async def test_a_pipe_in_the_place_of_the_file_is_an_error(writer: Writer) -> None:
    os.mkfifo(writer.path)
    with pytest.raises(OSError, match="it is not a file"):
        await writer.deliver(E[0])


async def test_a_dead_disk_holds_the_loop_neither_when_it_is_looked_at(
    writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, waited = threading.Event(), threading.Event()
    loop = threading.get_ident()

    def dead(function: Any) -> Any:
        def look(*args: Any, **more: Any) -> Any:
            if str(args[0]) in {str(writer.path), writer.path.name}:
                assert threading.get_ident() != loop
                waited.set()
                gate.wait(5)
            return function(*args, **more)

        return look

    for name in ("open", "stat", "lstat", "readlink", "mkdir"):
        monkeypatch.setattr(os, name, dead(getattr(os, name)))
    task = asyncio.create_task(writer.deliver(E[0]))
    while not (waited.is_set() or task.done()):
        await asyncio.sleep(0)
    assert not task.done()
    gate.set()
    await task
    monkeypatch.undo()
    assert writer.ids() == [E[0].id]


async def test_a_look_whether_it_opens_rotates_nothing(tmp_path: Path, time: Time) -> None:
    for day in (1, 2, 3):
        (tmp_path / f"events-2026-04-0{day}.0001.jsonl").write_bytes(E[0].body + b"\n")
    before = sorted(path.name for path in tmp_path.iterdir())
    writer = Writer(tmp_path, time, rotate_daily=True, keep=1, compress=True)
    async with writer.sink.open(Http(Clients()), None):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == [*before, "events.jsonl"]


# -- root, in the service's folder -------------------------------------------------------------------------------------


SERVICE = 12345


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """A folder that is not root's; so is all that is put there."""
    need(os.geteuid() == 0, "needs root, to make a folder that is another's")
    folder = tmp_path / "theirs"
    folder.mkdir()
    os.chown(folder, SERVICE, SERVICE)
    return folder


async def test_root_packs_nothing_that_a_planted_link_leads_to(
    tmp_path: Path, theirs: Path, time: Time
) -> None:
    secret, victim = tmp_path / "secret", tmp_path / "victim"
    secret.write_text("secret")
    victim.write_text("precious")
    (theirs / "events-2026-04-01.0001.jsonl").symlink_to(secret)
    (theirs / "events-2026-04-02.0001.jsonl").write_bytes(E[0].body + b"\n")
    (theirs / "events-2026-04-02.0001.jsonl.gz.tmp").symlink_to(victim)
    (theirs / "events-2026-04-02.0001.jsonl.gz").symlink_to(victim)
    os.mkfifo(theirs / "events-2026-04-03.0001.jsonl")
    await Writer(theirs, time, rotate_daily=True, compress=True).deliver(E[1])
    assert (secret.read_text(), victim.read_text()) == ("secret", "precious")
    assert [path.name for path in theirs.glob("*.gz")] == ["events-2026-04-02.0001.jsonl.gz"]
    packed = theirs / "events-2026-04-02.0001.jsonl.gz"
    assert gzip.decompress(packed.read_bytes()) == E[0].body + b"\n"
    assert (packed.lstat().st_uid, packed.lstat().st_gid) == (SERVICE, SERVICE)


async def test_root_prunes_and_renames_only_in_the_folder_it_has_open(
    tmp_path: Path, theirs: Path, time: Time
) -> None:
    """The folder above belongs to them, too: what has its name may be another one by now."""
    (out := theirs / "out").mkdir()
    (elsewhere := tmp_path / "elsewhere").mkdir()
    for folder in (out, elsewhere):
        for day in (1, 2):
            (folder / f"events-2026-04-0{day}.0001.jsonl").write_bytes(E[0].body + b"\n")
        (folder / "events.jsonl").touch()
    before = {path.name: path.read_bytes() for path in elsewhere.iterdir()}
    writer = Writer(out, time, rotate_size=100, keep=1, compress=True)
    looks = [0.0] * 9

    def now() -> float:
        looks.append(time.now())
        if len(looks) == 2:  # between the look whether it is still the same place, and the rotation
            out.rename(theirs / "moved")
            out.symlink_to(elsewhere)
        return time.now()

    async with writer.sink.open(Http(Clients(now=now)), None) as deliver:
        await deliver([E[0]])
        looks.clear()
        with pytest.raises(OSError, match="removed or replaced"):
            await deliver([E[1]])
    assert {path.name: path.read_bytes() for path in elsewhere.iterdir()} == before
    assert len(list((theirs / "moved").glob("*.gz"))) == 1


@pytest.mark.parametrize("rest", ["events.jsonl", "deeper/events.jsonl"])
async def test_root_makes_nothing_where_a_planted_link_leads_to(
    rest: str, tmp_path: Path, theirs: Path
) -> None:
    """However far above the file the link is: /var/lib/roundsman/out, which leads to /etc/cron.d."""
    (elsewhere := tmp_path / "elsewhere").mkdir()
    (theirs / "out").symlink_to(elsewhere)
    os.chown(theirs / "out", SERVICE, SERVICE, follow_symlinks=False)
    sink = FileSink(type="file", path=theirs / "out" / rest)
    with pytest.raises(OSError, match="is a link in a folder that is not root's alone"):
        async with sink.open(Http(Clients()), None):
            pass
    (theirs / "out").unlink()
    (theirs / "roots").mkdir()  # may have been moved there
    (theirs / "roots" / "out").symlink_to(elsewhere)
    sink = FileSink(type="file", path=theirs / "roots" / "out" / rest)
    with pytest.raises(OSError, match="is a link in a folder that is not root's alone"):
        async with sink.open(Http(Clients()), None):
            pass
    assert list(elsewhere.iterdir()) == []


async def test_root_follows_its_own_links_and_what_it_makes_is_the_services(
    tmp_path: Path, theirs: Path, time: Time
) -> None:
    """As systemd has it: /var/lib/roundsman is a link to private/roundsman, which is the service's."""
    (tmp_path / "state").symlink_to("theirs")
    (tmp_path / "events").symlink_to(tmp_path / "state")
    writer = Writer(tmp_path / "events" / "a" / "b", time)
    await writer.deliver(E[0])
    for path in (theirs / "a", theirs / "a" / "b", theirs / "a" / "b" / "events.jsonl"):
        assert (path.stat().st_uid, path.stat().st_gid) == (SERVICE, SERVICE)


async def test_in_a_folder_of_everybodys_root_follows_only_its_own_links(tmp_path: Path, time: Time) -> None:
    need(os.geteuid() == 0, "needs root, to make a link that is another's")
    (shared := tmp_path / "tmp").mkdir()
    (mine := tmp_path / "mine").mkdir()
    shared.chmod(0o1777)
    (shared / "out").symlink_to(mine)
    await Writer(shared / "out", time).deliver(E[0])
    assert (mine / "events.jsonl").exists()
    os.chown(shared / "out", SERVICE, SERVICE, follow_symlinks=False)
    with pytest.raises(OSError, match="is a link"):
        await Writer(shared / "out", time).deliver(E[1])
    shared.chmod(0o777)  # not even its own: any user may have moved it there
    os.chown(shared / "out", 0, 0, follow_symlinks=False)
    with pytest.raises(OSError, match="is a link"):
        await Writer(shared / "out", time).deliver(E[1])


# -- the open file is not the place -----------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["removed", "moved", "replaced", "folder removed", "folder replaced"])
async def test_a_place_that_is_gone_is_noticed_before_the_ack(how: str, tmp_path: Path, time: Time) -> None:
    (folder := tmp_path / "out").mkdir()
    writer = Writer(folder, time)
    async with writer.sink.open(Http(Clients(now=time.now)), None) as deliver:
        writer.receipt = await deliver(E[:2])
        if how.startswith("folder"):
            folder.rename(tmp_path / "old")
            if how == "folder replaced":
                folder.mkdir()
        elif how == "removed":
            writer.path.unlink()
        else:
            writer.path.rename(tmp_path / "old.jsonl")
            if how == "replaced":
                writer.path.touch()
        with pytest.raises(OSError, match="removed or replaced"):
            await deliver(E[2:4])
    await writer.deliver(*E[2:4])
    assert writer.ids() == [e.id for e in E[2:4]], "in a file that has the name"


async def test_a_place_that_goes_while_it_is_written_is_no_ack_either(
    writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    fdatasync = os.fdatasync

    def gone(handle: int) -> None:
        fdatasync(handle)
        writer.path.unlink()

    async with writer.sink.open(Http(Clients(now=writer.time.now)), None) as deliver:
        monkeypatch.setattr(os, "fdatasync", gone)
        with pytest.raises(OSError, match="removed or replaced"):
            await deliver(E[:2])
    monkeypatch.undo()
    await writer.deliver(*E[:2])
    assert writer.ids() == [e.id for e in E[:2]]


async def test_a_file_that_is_moved_while_it_is_written_keeps_what_it_got(
    writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Logrotate moves it between our write and our look: what is in the moved file is not written again."""
    fdatasync, old = os.fdatasync, writer.path.with_name("events.jsonl.1")

    def moved(handle: int) -> None:
        fdatasync(handle)
        writer.path.rename(old)

    async with writer.sink.open(Http(Clients(now=writer.time.now)), None) as deliver:
        monkeypatch.setattr(os, "fdatasync", moved)
        writer.receipt = await deliver(E[:2])
        with pytest.raises(OSError, match="removed or replaced"):
            await deliver(E[2:4])
    monkeypatch.undo()
    await writer.deliver(*E[2:4])
    assert [wire.decode(line)["id"] for line in old.read_bytes().splitlines()] == [e.id for e in E[:2]]
    assert writer.ids() == [e.id for e in E[2:4]]


async def test_half_a_line_of_another_program_swallows_none_of_ours(writer: Writer) -> None:
    async with writer.sink.open(Http(Clients(now=writer.time.now)), None) as deliver:
        await deliver(E[:2])
        with writer.path.open("ab") as other:
            other.write(b"half a line")
        await deliver(E[2:4])
    lines = writer.path.read_bytes().splitlines()
    assert [wire.decode(line)["id"] for line in lines if line != b"half a line"] == [e.id for e in E[:4]]


async def test_nor_where_it_comes_between_our_look_and_our_write(
    writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write

    def late(handle: int, data: Any) -> int:
        monkeypatch.setattr(os, "write", write)
        with writer.path.open("ab") as other:
            other.write(b"half a line")
        return write(handle, data)

    async with writer.sink.open(Http(Clients(now=writer.time.now)), None) as deliver:
        await deliver(E[:2])
        monkeypatch.setattr(os, "write", late)
        await deliver(E[2:4])
    lines = [line for line in writer.path.read_bytes().splitlines() if not line.startswith(b"half")]
    assert {wire.decode(line)["id"] for line in lines} == {e.id for e in E[:4]}


async def test_a_file_that_was_cut_under_our_hands_gets_no_hole(writer: Writer) -> None:
    async with writer.sink.open(Http(Clients(now=writer.time.now)), None) as deliver:
        await deliver(E[:2])
        os.truncate(writer.path, writer.path.stat().st_size - 20)
        await deliver(E[2:4])
    lines = writer.path.read_bytes().splitlines()
    assert b"\0" not in writer.path.read_bytes()
    assert [wire.decode(line)["id"] for line in (lines[0], *lines[2:])] == [E[0].id, E[2].id, E[3].id]


# -- what is acked is on the disk -------------------------------------------------------------------------------------


class Syncs:
    """What was synced, by name, in order; the real thing is done, too."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen: list[str] = []
        for name in ("fsync", "fdatasync"):
            monkeypatch.setattr(os, name, self._noting(getattr(os, name)))

    def _noting(self, sync: Any) -> Any:
        def noted(handle: int) -> None:
            sync(handle)
            self.seen.append(Path(f"/proc/self/fd/{handle}").readlink().name)

        return noted


async def test_lines_and_a_new_name_are_on_the_disk_before_the_ack(
    writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    syncs = Syncs(monkeypatch)
    async with writer.sink.open(Http(Clients(now=writer.time.now)), None) as deliver:
        assert writer.path.parent.name in syncs.seen, "the folder that has the new name"
        syncs.seen.clear()
        await deliver(E[:2])
        assert syncs.seen == ["events.jsonl"]


async def test_what_a_crash_left_is_written_anew_before_it_is_acked(
    writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process died between writing and syncing, or the disk reported an error: it may be in the memory only."""
    await writer.deliver(*E[:2])
    await writer.deliver(*E[2:5], ack=False)
    syncs, written = Syncs(monkeypatch), bytearray()
    pwrite = os.pwrite

    def noted(handle: int, data: Any, at: int) -> int:
        written.extend(data)
        return pwrite(handle, data, at)

    monkeypatch.setattr(os, "pwrite", noted)
    await writer.deliver(*E[2:5])
    assert "events.jsonl" in syncs.seen
    assert bytes(written) == b"".join(e.body + b"\n" for e in E[2:5]), (
        "after an error, a sync alone may do nothing"
    )
    assert writer.ids() == [e.id for e in E[:5]]


async def test_a_rotation_is_on_the_disk(tmp_path: Path, time: Time, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = Writer(tmp_path, time, rotate_size=600)
    await writer.deliver(*E[:2])
    syncs = Syncs(monkeypatch)
    await writer.deliver(*E[2:4])
    assert syncs.seen.index(tmp_path.name) < syncs.seen.index("events.jsonl")


async def test_a_packed_file_is_whole_on_the_disk_and_keeps_its_owner(
    tmp_path: Path, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the plain one goes: a power cut must find one of the two."""
    writer = Writer(tmp_path, time, rotate_size=600, compress=True, mode="0640")
    await writer.deliver(*E[:2])
    fsync, synced = os.fsync, dict[str, bytes]()

    def noted(handle: int) -> None:
        fsync(handle)
        place = Path(f"/proc/self/fd/{handle}").readlink()
        if place.name.endswith(".gz.tmp"):
            synced[place.name] = place.read_bytes()

    monkeypatch.setattr(os, "fsync", noted)
    await writer.deliver(*E[2:4])
    await writer.deliver(*E[4:6])
    packed = sorted(tmp_path.glob("events-*.gz"))
    assert len(packed) == len(synced) >= 1
    for path in packed:
        assert synced[path.name + ".tmp"] == path.read_bytes()
        assert path.stat().st_mode & 0o777 == 0o640


async def test_a_new_file_has_the_mode_of_the_option_with_any_umask(tmp_path: Path, time: Time) -> None:
    writer = Writer(tmp_path, time, rotate_size=600, mode="0640")
    before = os.umask(0o077)
    try:
        await writer.deliver(*E[:2])
        await writer.deliver(*E[2:4])
    finally:
        os.umask(before)
    files = [*tmp_path.glob("events*.jsonl")]
    assert len(files) == 2
    assert {file.stat().st_mode & 0o777 for file in files} == {0o640}


async def test_a_file_that_is_there_keeps_its_mode(tmp_path: Path, time: Time) -> None:
    writer = Writer(tmp_path, time, mode="0640")
    writer.path.touch(mode=0o604)
    writer.path.chmod(0o604)
    await writer.deliver(*E[:2])
    assert writer.path.stat().st_mode & 0o777 == 0o604


async def test_acks_that_were_lost_over_two_rotations_double_nothing(tmp_path: Path, time: Time) -> None:
    """The last ack knew of a rotated file already: what was rotated after that one is looked through, and no more."""
    writer = Writer(tmp_path, time, rotate_size=1100)
    for n in range(0, 4, 2):
        await writer.deliver(*E[n : n + 2])
    acked = writer.receipt
    assert acked["rotated"]
    for n in range(4, 12, 2):
        await writer.deliver(*E[n : n + 2])
    writer.receipt = acked
    await writer.deliver(*E[4:14])
    lines = b"".join(path.read_bytes() for path in tmp_path.glob("events*.jsonl")).splitlines()
    assert sorted(wire.decode(line)["id"] for line in lines) == [e.id for e in E[:14]]


@pytest.mark.parametrize("hole", [slice(0, 200), slice(150, 700), slice(400, 1100), slice(-300, None)])
async def test_a_hole_in_the_open_batch_is_cut_out_wherever_it_is(hole: slice, writer: Writer) -> None:
    """After a power cut some blocks of what was written last did not reach the disk."""
    await writer.deliver(*E[:3])
    before = writer.path.stat().st_size
    await writer.deliver(*E[3:8], ack=False)
    body = bytearray(writer.path.read_bytes())
    tail = body[before:]
    tail[hole] = b"\0" * len(tail[hole])
    writer.path.write_bytes(bytes(body[:before] + tail))
    await writer.deliver(*E[3:9])
    assert b"\0" not in writer.path.read_bytes()
    assert sorted(writer.ids()) == [e.id for e in E[:9]]


@pytest.mark.parametrize("compress", [False, True])
async def test_acks_that_a_power_cut_took_double_nothing_in_rotated_files(
    compress: bool, tmp_path: Path, time: Time
) -> None:
    """An ack is on the disk a moment after its lines: meanwhile the file may have been rotated, and packed."""
    writer = Writer(tmp_path, time, rotate_size=1100, compress=compress)
    await writer.deliver(*E[:2])
    acked = writer.receipt
    for n in range(2, 12, 2):
        await writer.deliver(*E[n : n + 2])
    assert len(list(tmp_path.glob("events-*"))) >= 2
    writer.receipt = acked
    await writer.deliver(*E[2:14])
    lines = [
        line
        for path in tmp_path.glob("events*")
        for line in (
            gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        ).splitlines()
    ]
    assert sorted(wire.decode(line)["id"] for line in lines) == [e.id for e in E[:14]]
    writer.receipt = acked
    await writer.deliver(*E[2:14])
    again = sum(path.read_bytes().count(b"\n") for path in tmp_path.glob("events*.jsonl"))
    assert compress or again == 14, "also after a second one"


async def test_an_inode_that_was_used_again_doubles_nothing(tmp_path: Path, time: Time) -> None:
    """The file of the last ack was rotated and packed, and a newer one has its inode."""
    writer = Writer(tmp_path, time, rotate_size=1100, compress=True)
    await writer.deliver(*E[:2])
    acked = writer.receipt
    for n in range(2, 12, 2):
        await writer.deliver(*E[n : n + 2])
    writer.receipt = {**acked, "inode": writer.path.stat().st_ino}
    await writer.deliver(*E[2:14])
    packed = [gzip.decompress(path.read_bytes()) for path in tmp_path.glob("events-*.gz")]
    plain = [path.read_bytes() for path in tmp_path.glob("events*.jsonl")]
    lines = b"".join([*packed, *plain]).splitlines()
    assert sorted(wire.decode(line)["id"] for line in lines) == [e.id for e in E[:14]]


@pytest.mark.parametrize("kind", ["damaged", "link", "folder", "fifo"])
async def test_what_is_no_rotated_file_of_ours_keeps_nothing_from_being_written(
    kind: str, tmp_path: Path, time: Time
) -> None:
    writer = Writer(tmp_path, time, rotate_size=1100, compress=True)
    await writer.deliver(*E[:2])
    acked = writer.receipt
    for n in range(2, 12, 2):
        await writer.deliver(*E[n : n + 2])
    [*_, rotated] = sorted(tmp_path.glob("events-*.gz"))
    body = rotated.read_bytes()
    rotated.unlink()
    match kind:
        case "damaged":
            rotated.write_bytes(body[:-8] + b"\0" * 8)
        case "link":
            (tmp_path / "elsewhere").write_bytes(body)
            rotated.symlink_to("elsewhere")
        case "folder":
            rotated.mkdir()
        case "fifo":
            os.mkfifo(rotated)
    writer.receipt = acked
    await writer.deliver(*E[12:14])
    assert {e.id for e in E[12:14]} <= set(writer.ids())


async def test_a_replay_is_written_again_although_there_are_rotated_files(tmp_path: Path, time: Time) -> None:
    writer = Writer(tmp_path, time, rotate_size=600)
    for n in range(0, 8, 2):
        await writer.deliver(*E[n : n + 2])
    writer.path.unlink()
    await writer.deliver(*E[:4])
    assert writer.ids() == [e.id for e in E[:4]]


@pytest.mark.parametrize("back", [1, 10, 200])
async def test_a_receipt_that_ends_in_the_middle_of_a_line_doubles_nothing(back: int, writer: Writer) -> None:
    """Another program cut the file and wrote to it: the line at the receipt's position is read from its beginning."""
    await writer.deliver(*E[:4])
    writer.receipt = {**writer.receipt, "size": writer.receipt["size"] - back}
    await writer.deliver(E[3], E[4])
    assert writer.ids() == [e.id for e in E[:5]]
