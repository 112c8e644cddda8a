"""The exec sink: what a program gets, what its end means, and that nothing of it is left behind."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time as clock
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from doors import until
from processes import Daemon, configure
from roundsman import config, program
from roundsman.config import advice
from roundsman.errors import ConfigError, RequestFailed
from roundsman.http.client import Http
from roundsman.http.transport import Clients
from roundsman.masking import mask
from roundsman.options import environment
from roundsman.options.secrets import Secret
from roundsman.sandbox import TOKEN, Sandbox
from roundsman.sinks.exec import ExecSink
from roundsman.testing import Delivered, deliver, sink_contract
from worlds import an_event

SECRET = "s3cret-token"
MANY = 600
"""Events that do not fit into a pipe, with a note of a thousand characters."""


def sink(script: str, *arguments: object, **options: Any) -> ExecSink:
    """A sink that runs a script of the shell."""
    command = ["/bin/sh", "-c", script, "sh", *map(str, arguments)]
    return ExecSink(type="exec", command=command, **options).named("bell")  # type: ignore[arg-type] # pydantic reads the list


def delivered(script: str, *arguments: object, events: int = 1, **options: Any) -> Delivered:
    found = [an_event(number, note="x" * 1000) for number in range(events)]
    return deliver(sink(script, *arguments, **options), found)


def failure(script: str, *arguments: object, **options: Any) -> str:
    """The error of a delivery that is retried."""
    found = delivered(script, *arguments, **options)
    assert isinstance(found.error, RequestFailed), found
    assert (found.acked, found.buried) == ([], {})
    return str(found.error)


def alive(group: int) -> list[str]:
    """The command lines of a process group, without those that have ended and wait for their parent."""
    found = []
    for process in Path("/proc").iterdir():
        try:
            stat = (process / "stat").read_text().rpartition(")")[2].split() if process.name.isdigit() else []
            if stat and int(stat[2]) == group and stat[0] != "Z":
                found.append((process / "cmdline").read_text())
        except OSError:  # it ended meanwhile
            continue
    return found


def gone(group: int) -> bool:
    return not alive(group)


def ends(group: int) -> None:
    """Wait until nothing of a group is alive: a process that gets SIGKILL ends soon, and not at once."""
    asyncio.run(until(lambda: gone(group)))


def number_in(file: Path) -> int:
    """A process id that a program has written there; 0 while it has not."""
    text = file.read_text() if file.exists() else ""
    return int(text) if text.endswith("\n") else 0


@pytest.fixture
def pid(tmp_path: Path) -> Path:
    """Where a program writes its process id, which is that of its group."""
    return tmp_path / "pid"


# -- what it gets ------------------------------------------------------------------------------------------------------


def test_each_event_is_a_line_of_its_input_in_order_and_then_it_ends(tmp_path: Path) -> None:
    found = delivered('cat > "$1"; echo end >> "$1"', tmp_path / "out", events=MANY, batch=1000)
    assert len(found.acked) == MANY
    lines = (tmp_path / "out").read_text().splitlines()
    assert lines == [an_event(n, note="x" * 1000).body.decode() for n in range(MANY)] + ["end"]


def test_a_run_gets_at_most_as_many_events_as_batch_says(tmp_path: Path) -> None:
    delivered('wc -l >> "$1"', tmp_path / "out", events=7, batch=3)
    assert (tmp_path / "out").read_text().split() == ["3", "3", "1"]


def test_it_keeps_the_contract(tmp_path: Path) -> None:
    place = tmp_path / "out"
    bell = sink('cat >> "$1"', place, environment={"TOKEN": Secret(SECRET)})
    sink_contract(bell, lambda: [json.loads(line)["id"] for line in place.read_text().splitlines()])


@pytest.fixture
def variables(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(environment, "_variables", set())
    yield
    mask.clear()


def test_its_environment_has_no_secret_and_nothing_of_systemd(
    tmp_path: Path, variables: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden = (
        "CREDENTIALS_DIRECTORY NOTIFY_SOCKET WATCHDOG_USEC WATCHDOG_PID LISTEN_FDS LISTEN_PID LISTEN_FDNAMES"
    )
    for name in (*hidden.split(), "STATE_DIRECTORY"):
        monkeypatch.setenv(name, "/somewhere")
    monkeypatch.setenv("A_SECRET", SECRET)
    monkeypatch.setenv("ANOTHER", "another-token")
    Secret.read({"env": "A_SECRET"})  # as a source reads it
    given = {"NUMBER": 7, "TEXT": "a 'b' $c\n", "OTHER": {"env": "ANOTHER"}}
    delivered('env -0 > "$1"', tmp_path / "out", environment=given)
    found = dict(each.split("=", 1) for each in (tmp_path / "out").read_text().split("\0") if each)
    assert not found.keys() & {*hidden.split(), "A_SECRET", "ANOTHER"}
    assert SECRET not in str(found)
    assert (found["NUMBER"], found["TEXT"], found["OTHER"]) == ("7", "a 'b' $c\n", "another-token")
    assert (found["ROUNDSMAN_SINK"], found["STATE_DIRECTORY"]) == ("bell", "/somewhere")
    assert found["PATH"] == os.environ["PATH"]


def test_it_has_no_file_of_the_daemon_and_stands_in_the_root_folder(tmp_path: Path) -> None:
    script = (
        "import os, sys; found = {n: os.readlink(f'/proc/self/fd/{n}') for n in range(3, 200) if os.path.exists(f'/proc/self/fd/{n}')}\n"
        "open(sys.argv[1], 'w').write(repr((found, os.readlink('/proc/self/fd/1'), os.getcwd(), os.getpid() == os.getsid(0))))"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "out")]
    held = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(held, True)
    try:
        deliver(ExecSink(type="exec", command=command).named("bell"), [an_event(1)])  # type: ignore[arg-type] # as above
    finally:
        os.close(held)
    assert (tmp_path / "out").read_text() == "({}, '/dev/null', '/', True)"


@pytest.mark.parametrize("text", ["$(touch x)", "a b", "'\"", "; exit 3", "*", "", "-n", "é\n"])
def test_no_shell_reads_its_arguments(text: str, tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text(f"#!{sys.executable}\nimport sys\nopen(sys.argv[1], 'w').write(repr(sys.argv[2:]))\n")
    program.chmod(0o755)
    command = [str(program), str(tmp_path / "out"), text, "last"]
    bell = ExecSink(type="exec", command=command).named("bell")  # type: ignore[arg-type] # as above
    assert len(deliver(bell, [an_event(1)]).acked) == 1
    assert (tmp_path / "out").read_text() == repr([text, "last"])


def test_a_program_without_a_slash_is_found_in_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ring-bell").write_text('#!/bin/sh\ncat > "$1"\n')
    (tmp_path / "ring-bell").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    bell = ExecSink(type="exec", command=["ring-bell", f"{tmp_path}/out"]).named("bell")  # type: ignore[arg-type] # as above
    assert len(deliver(bell, [an_event(1)]).acked) == 1
    assert (tmp_path / "out").read_bytes() == an_event(1).body + b"\n"


# -- what its end means ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [1, 2, 64, 66, 75, 126, 127, 255])
def test_a_status_other_than_0_and_65_is_tried_again(status: int) -> None:
    assert failure(f"cat > /dev/null; echo no bell >&2; exit {status}") == f"exit status {status}: no bell"


@pytest.mark.parametrize("name", ["KILL", "TERM", "SEGV", "PIPE"])
def test_a_signal_that_ends_it_is_named_and_it_is_tried_again(name: str) -> None:
    assert failure(f"echo no bell >&2; kill -{name} $$; sleep 60") == f"ended by SIG{name}: no bell"


def test_a_signal_without_a_name_has_its_number() -> None:
    assert failure("kill -40 $$; sleep 60") == "ended by signal 40"


def test_a_bad_event_of_a_batch_is_buried_and_the_others_arrive(tmp_path: Path) -> None:
    script = (
        'cat > "$1.run"; if grep -q id00003 "$1.run"; then echo bad id >&2; exit 65; fi; cat "$1.run" >> "$1"'
    )
    found = delivered(script, tmp_path / "out", events=6)
    ids = [f"id{n:05d}" for n in range(6) if n != 3]
    assert [event.id for event in found.acked] == ids
    assert found.buried == {"id00003": "exit status 65: bad id"}
    assert found.error is None
    assert [json.loads(line)["id"] for line in (tmp_path / "out").read_text().splitlines()] == ids


def test_one_that_closes_its_input_early_and_succeeds_has_acknowledged() -> None:
    assert len(delivered("exec 0<&-; sleep 0.1; exit 0", events=MANY, batch=1000).acked) == MANY
    assert len(delivered("head -n 1 > /dev/null", events=MANY, batch=1000).acked) == MANY


def test_one_that_closes_its_input_early_and_fails_has_not() -> None:
    assert failure("exec 0<&-; exit 3", events=MANY, batch=1000) == "exit status 3"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: None, "cannot be started: No such file or directory"),
        (lambda path: path.write_text("#!/bin/sh\n"), "is not executable: chmod +x"),
        (lambda path: path.mkdir(), "cannot be started: it is not a file"),
    ],
    ids=["missing", "not executable", "a folder"],
)
def test_a_program_that_cannot_be_started_is_tried_again(make: Any, said: str, tmp_path: Path) -> None:
    make(tmp_path / "bell")
    bell = ExecSink(type="exec", command=[f"{tmp_path}/bell"]).named("bell")  # type: ignore[arg-type] # as above
    found = deliver(bell, [an_event(1)])
    assert isinstance(found.error, RequestFailed)
    assert (str(found.error), found.acked) == (f"{tmp_path}/bell {said}", [])
    assert list(bell.warnings()) == [f"command: {tmp_path}/bell {said}"]


def test_an_interpreter_that_is_missing_is_tried_again(tmp_path: Path) -> None:
    (tmp_path / "bell").write_text("#!/no/such/interpreter\n")
    (tmp_path / "bell").chmod(0o755)
    bell = ExecSink(type="exec", command=[f"{tmp_path}/bell"]).named("bell")  # type: ignore[arg-type] # as above
    assert str(deliver(bell, [an_event(1)]).error).startswith("exit status 127: ")


def test_a_status_that_was_lost_is_not_an_ack() -> None:
    """The daemon's parent can have left SIGCHLD ignored. Then the system keeps no status."""
    said = in_a_process(
        "import signal; signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
        "found = delivered('exit 1'); print(len(found.acked), found.error)"
    )
    assert said == "0 [Errno 10] the exit status is lost, because SIGCHLD is ignored\n"


def in_a_process(script: str) -> str:
    """The output of a script with the names of this file, in a process of its own."""
    whole = f"from sinks.test_exec import *\n{script}"
    return subprocess.run(
        [sys.executable, "-c", whole],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
    ).stdout


# -- what it says ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (r"\033[1;31mred\033[0m \033]0;title\007and \033(Bplain\r\n", "red and plain"),
        (r"\302\2331mC1\302\233m \033]8;;http://x\033\\link", "C1 link"),
        (r"beep\007 back\010 nul\000 right\342\200\256left", "beep back nul rightleft"),
        (r"one\n\n\ttwo\n", "one two"),
        (r"\377\376 no text", "\ufffd\ufffd no text"),
        (f"the token {SECRET} is wrong", "the token *** is wrong"),
        (rf"{SECRET[:5]}\033[0m{SECRET[5:]}\010", "***"),
        (r"\n\n", ""),
    ],
)
def test_its_last_words_are_printable_and_without_secrets(written: str, said: str) -> None:
    mask.add([SECRET])
    error = failure("printf '%b' \"$1\" >&2; exit 9", written.replace("\\0", "\\00").replace("\\3", "\\03"))
    assert error == f"exit status 9: {said}".removesuffix(": ")


def test_a_megabyte_in_one_line_is_its_last_200_characters() -> None:
    error = failure("head -c 1000000 /dev/zero | tr '\\0' x >&2; printf ' the end' >&2; exit 9")
    words = error.removeprefix("exit status 9: ")
    assert len(words) == 200
    assert words.startswith("...xxx")
    assert words.endswith("xxx the end")


@pytest.mark.parametrize("left", range(0, 12, 3))
def test_a_secret_that_is_cut_in_two_is_not_shown(left: int) -> None:
    """Terminal codes fill what is kept, up to the end of a secret."""
    mask.add([SECRET])
    fill = 16_384 - left
    script = (
        f"head -c 50000 /dev/zero | tr '\\0' y >&2; printf {SECRET} >&2; head -c {fill} /dev/zero >&2; exit 9"
    )
    assert not any(SECRET[at:] in failure(script) for at in range(len(SECRET) - 3))


@pytest.mark.parametrize("left", [4, 7, len(SECRET) - 1])
def test_a_secret_that_it_was_killed_while_writing_is_not_shown(left: int) -> None:
    mask.add([SECRET])
    error = failure('printf %s "a token: $1" >&2; kill -KILL $$', SECRET[:left])
    assert error == "ended by SIGKILL: a token: ***"


def test_a_refusal_has_its_words_without_secrets() -> None:
    mask.add([SECRET])
    found = delivered(f"echo {SECRET} is no event >&2; exit 65")
    assert list(found.buried.values()) == ["exit status 65: *** is no event"]


def test_what_it_says_without_end_fills_no_memory() -> None:
    tracemalloc.start()
    try:
        error = failure("head -c 50000000 /dev/zero >&2; exit 9")
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert error == "exit status 9"
    assert most < 5e6


# -- how long it may take, and what is left ----------------------------------------------------------------------------


@pytest.mark.parametrize("script", ["yes >&2", "yes", "sleep 60", "exec 0<&- 1<&- 2<&-; sleep 60"])
def test_one_that_does_not_end_is_ended_after_its_time(script: str, pid: Path) -> None:
    error = failure(f'echo $$ > "$1"; {script}', pid, events=MANY, timeout=3.0, batch=1000)
    assert error.startswith("did not end within 3s")
    ends(number_in(pid))


def test_one_that_ends_after_its_time_has_not_acknowledged() -> None:
    script = "trap 'echo asked >&2; exit 0' TERM; while :; do :; done"
    assert failure(script, timeout=3.0) == "did not end within 3s: asked"


def test_one_that_ignores_sigterm_is_killed(pid: Path) -> None:
    began = clock.monotonic()
    script = 'echo $$ > "$1"; trap "" TERM; while :; do sleep 60; done'
    assert failure(script, pid, timeout=3.0) == "did not end within 3s"
    assert 4 < clock.monotonic() - began < 30
    ends(number_in(pid))


def test_what_it_leaves_in_the_background_ends_with_it(pid: Path) -> None:
    """Also if that holds its standard error open, and ignores what can be ignored."""
    began = clock.monotonic()
    script = "echo $$ > \"$1\"; (trap '' TERM HUP INT; sleep 60) & sleep 60 & cat > /dev/null"
    assert len(delivered(script, pid).acked) == 1
    assert clock.monotonic() - began < 10
    ends(number_in(pid))


def test_a_process_that_left_its_group_holds_up_nothing(pid: Path) -> None:
    """It lives on, as documented."""
    began = clock.monotonic()
    script = (
        'setsid sh -c \'echo $$ > "$1"; exec yes >&2\' sh "$1" & while ! [ -s "$1" ]; do sleep 0.01; done'
    )
    assert len(delivered(script, pid).acked) == 1
    assert clock.monotonic() - began < 10
    os.kill(number_in(pid), signal.SIGKILL)


def test_a_program_that_waits_for_all_its_children_does_not_wait_for_a_watcher() -> None:
    wait = (
        f"exec {sys.executable} -c 'import os\ntry: os.wait()\nexcept ChildProcessError: pass\nelse: exit(1)'"
    )
    assert len(delivered(wait).acked) == 1


def test_no_zombie_is_left_also_if_the_daemon_is_the_first_process() -> None:
    """The first process of a container gets the processes whose parent has ended. So does a subreaper, prctl(2)."""
    said = in_a_process(
        "import ctypes; assert ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0\n"
        "for _ in range(3): delivered('sleep 60 & exit 0')\n"
        "try: print(os.waitpid(-1, os.WNOHANG))\n"
        "except ChildProcessError: print('none')"
    )
    assert said == "none\n"


async def test_a_run_leaves_no_open_file_in_the_daemon() -> None:
    bell = await opened(sink("cat > /dev/null; exit 3"))

    async def fails() -> set[str]:
        with pytest.raises(RequestFailed):
            await bell([an_event(1)])
        return {each.name for each in Path("/proc/self/fd").iterdir()}

    before = await fails()
    for _ in range(3):
        assert await fails() == before


async def opened(bell: ExecSink) -> Any:
    """What delivers, without the loop of the daemon."""
    return await bell.open(Http(Clients()), None).__aenter__()


async def test_one_that_never_reads_delays_nothing_else(pid: Path) -> None:
    events = [an_event(number, note="x" * 1000) for number in range(MANY)]
    hanging = asyncio.create_task((await opened(sink('echo $$ > "$1"; sleep 60', pid)))(events))
    await until(lambda: number_in(pid))
    other = await opened(sink("cat > /dev/null"))
    for _ in range(3):
        await other(events)
    assert not hanging.done()
    hanging.cancel()
    with pytest.raises(asyncio.CancelledError):
        await hanging
    await until(lambda: gone(number_in(pid)))


async def test_a_cancelled_run_is_asked_to_end(
    pid: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program, "GRACE_AT_STOP", 10.0)
    script = 'trap \'echo asked > "$2"; exit\' TERM; echo $$ > "$1"; while :; do :; done'
    run = asyncio.create_task((await opened(sink(script, pid, tmp_path / "asked")))([an_event(1)]))
    await until(lambda: number_in(pid))
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert (tmp_path / "asked").read_text() == "asked\n"


async def test_a_cancelled_run_that_does_not_end_is_killed(
    pid: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program, "GRACE", 60.0)
    script = "trap '' TERM; echo $$ > \"$1\"; while :; do sleep 60; done"
    run = asyncio.create_task((await opened(sink(script, pid)))([an_event(1)]))
    await until(lambda: number_in(pid))
    began = clock.monotonic()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert clock.monotonic() - began < program.GRACE
    await until(lambda: gone(number_in(pid)))


async def test_a_stop_does_not_wait_for_the_grace_of_one_that_was_late(
    pid: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program, "GRACE", 60.0)
    script = "trap 'echo $$ > \"$1\"' TERM; while :; do sleep 0.01; done"
    run = asyncio.create_task((await opened(sink(script, pid, timeout=3.0)))([an_event(1)]))
    await until(lambda: number_in(pid))  # it was asked to end after its time, and has a minute
    began = clock.monotonic()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert clock.monotonic() - began < program.GRACE
    await until(lambda: gone(number_in(pid)))


# -- the real daemon ---------------------------------------------------------------------------------------------------

SCRIPT = (
    'echo $$ > "$1"; (trap "" TERM; sleep 60) & trap "exit 0" TERM; exec 1<&- 2<&-; while :; do sleep 1; done'
)


def configured(folder: Path, url: str, script: str) -> Path:
    """A daemon with a program and a file."""
    command = json.dumps(["/bin/sh", "-c", script, "sh", str(folder / "pid"), str(folder / "out")])
    sinks = f'[sinks.bell]\ntype = "exec"\ncommand = {command}\n[sinks.archive]\ntype = "file"\npath = "events.jsonl"\n'
    return configure(folder, url, sinks, interval="100ms")


def ids_in(file: Path) -> list[str]:
    return [json.loads(line)["id"] for line in file.read_text().splitlines()] if file.exists() else []


async def test_nothing_of_a_run_is_left_when_the_daemon_is_killed(
    sandbox: Sandbox, tmp_path: Path, pid: Path
) -> None:
    sandbox.vendor.add(log_id="a")
    async with Daemon(configured(tmp_path, sandbox.url, SCRIPT), PARAKEY_TOKEN=TOKEN) as daemon:
        await daemon.until(lambda: number_in(pid))
        group = number_in(pid)
        await daemon.until(lambda: len(alive(group)) >= 4)  # the program, its children and the watcher
        daemon.send(signal.SIGKILL)
        await daemon.process.wait()
        await until(lambda: gone(group))


async def test_a_daemon_that_was_started_without_standard_files_delivers(
    sandbox: Sandbox, tmp_path: Path, pid: Path
) -> None:
    sandbox.vendor.add(log_id="a")
    config = configured(tmp_path, sandbox.url, 'cat > "$2"; echo $$ > "$1"')
    command = [
        "/bin/sh",
        "-c",
        'exec "$@" <&- >&- 2>&-',
        "sh",
        sys.executable,
        "-m",
        "roundsman",
        "run",
        "-c",
    ]
    process = await asyncio.create_subprocess_exec(
        *command, str(config), env={**os.environ, "PARAKEY_TOKEN": TOKEN}
    )
    try:
        await until(lambda: number_in(pid) or process.returncode is not None)
        assert ids_in(tmp_path / "out") == ["a"]
    finally:
        if process.returncode is None:
            process.terminate()
    assert await process.wait() == 0


async def test_a_stop_ends_a_run_in_time_and_its_events_come_again(
    sandbox: Sandbox, tmp_path: Path, pid: Path
) -> None:
    config = configured(tmp_path, sandbox.url, SCRIPT)
    first = sandbox.vendor.add(log_id="a").id
    async with Daemon(config, PARAKEY_TOKEN=TOKEN) as daemon:
        await daemon.until(lambda: number_in(pid))
        second = sandbox.vendor.add(log_id="b").id
        # Another sink goes on meanwhile.
        await daemon.until(lambda: ids_in(tmp_path / "events.jsonl") == [first, second])
        assert await daemon.stop() < 10
        assert daemon.code == 0
    await until(lambda: gone(number_in(pid)))
    config = configured(tmp_path, sandbox.url, 'cat >> "$2"')
    async with Daemon(config, PARAKEY_TOKEN=TOKEN) as daemon:
        await daemon.until(lambda: ids_in(tmp_path / "out") == [first, second])
        await daemon.stop()


async def test_a_run_that_ends_within_the_grace_of_a_stop_is_acknowledged(
    sandbox: Sandbox, tmp_path: Path, pid: Path
) -> None:
    script = 'echo $$ > "$1"; cat >> "$2"; sleep 0.2'
    config = configured(tmp_path, sandbox.url, script)
    sandbox.vendor.add(log_id="a")
    async with Daemon(config, PARAKEY_TOKEN=TOKEN) as daemon:
        await daemon.until(lambda: number_in(pid))
        await daemon.stop()
    pid.unlink()
    second = sandbox.vendor.add(log_id="b").id
    async with Daemon(config, PARAKEY_TOKEN=TOKEN) as daemon:
        await daemon.until(lambda: second in ids_in(tmp_path / "out"))
        await daemon.stop()
    assert ids_in(tmp_path / "out") == ["a", second]


# -- the configuration -------------------------------------------------------------------------------------------------

SOURCE = '[sources.doors]\ntype = "parakey.event_logs"\naccess_token = "s3cret-token"\n'


def load(folder: Path, table: str) -> config.Config:
    path = folder / "roundsman.toml"
    path.write_text(f'{SOURCE}[sinks.bell]\ntype = "exec"\n{table}\n')
    path.chmod(0o600)
    return config.load(path)


LISTED = 'such as ["/usr/local/bin/ring-bell", "--all"]'


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ("", "command: is missing"),
        (
            'command = "foo | bar"',
            f"command: foo | bar is not a list, and no shell reads it; write the program and each argument as a text, {LISTED}",
        ),
        ("command = []", 'command: names no program; write ["/usr/local/bin/ring-bell", "--all"]'),
        ('command = [""]', "command: names no program"),
        ('command = [" "]', "command: names no program"),
        ('command = ["-x"]', "command: names no program"),
        ('command = ["a", 7]', f"command: each argument must be a text, a number too, {LISTED}"),
        ("command = 7", "command: 7 is not a list of texts"),
        ('command = ["a", "b\\u0000c"]', "command: has a NUL character, which no program can get in an argument"),
        ('command = ["a"]\ntimeout = 0', "timeout: 0 is not more than 0"),
        ('command = ["a"]\ntimeout = "1h"', "timeout: 1h is more than 10m"),
        ('command = ["a"]\nbatch = 0', "batch: 0 is less than 1"),
        ('command = ["a"]\nenvironment = { "A B" = "x" }', "environment.A B: is not the name of a variable"),
        ('command = ["a"]\nenvironment = { A = "x\\u0000y" }', "environment.A: has a NUL character"),
        ('command = ["a"]\nenvironment = { A = ["x"] }', "environment.A: "),
        ('command = ["a"]\nenvironment = { A = { env = "NO_SUCH" } }', "environment.A: the environment has no variable NO_SUCH"),
        ('command = ["a"]\nshell = true', "shell: unknown option"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_sentence(table: str, problem: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, table)
    assert len(caught.value.problems) == 1, caught.value.problems
    assert problem in caught.value.problems[0]
    assert ": sinks.bell." in caught.value.problems[0]


@pytest.mark.parametrize(
    ("command", "warning"),
    [
        ('["no-such-bell"]', "command: no-such-bell is in no folder of PATH; write its absolute path"),
        ('["foo bar"]', "command: foo bar is in no folder of PATH; each argument is a text of its own"),
        ('["/no/such/bell"]', "command: /no/such/bell cannot be started: No such file or directory"),
        ('["cat", ">", "/tmp/x"]', "command: > is passed to the program as it is: no shell reads it"),
        ('["cat", "$HOME"]', "command: $HOME is passed to the program as it is: no shell reads it"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_a_warning(
    command: str, warning: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    found = [
        line for line in advice.warnings(load(tmp_path, f"command = {command}")) if "bell.command" in line
    ]
    assert found == [f"sinks.bell.{warning}"]


@pytest.mark.parametrize(
    "command", ['["cat"]', '["/bin/sh", "-c", "cat | wc > /tmp/x"]', '["/bin/cut", "-d", "|"]']
)
def test_what_works_is_not_warned_of(command: str, tmp_path: Path) -> None:
    found = advice.warnings(load(tmp_path, f"command = {command}"))
    assert not [line for line in found if line.startswith("sinks.")]


def test_a_program_that_others_may_change_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bell").write_text("#!/bin/sh\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    for mode, found in ((0o755, []), (0o775, ["bell"]), (0o757, ["bell"])):
        (tmp_path / "bell").chmod(mode)
        for command in (f"{tmp_path}/bell", "bell"):
            warnings = load(tmp_path, f'command = ["{command}"]').sinks["bell"].warnings()
            assert list(warnings) == [
                f"command: {tmp_path}/{name} can be changed by other users; chmod go-w" for name in found
            ]


def test_a_relative_path_begins_at_the_folder_of_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/op")
    [bell] = load(tmp_path, 'command = ["bin/bell", "bin/x"]').sinks.values()
    assert bell.command == (f"{tmp_path}/bin/bell", "bin/x")  # type: ignore[attr-defined] # it is an ExecSink
    [bell] = load(tmp_path, 'command = ["~/bell"]').sinks.values()
    assert bell.command == ("/home/op/bell",)  # type: ignore[attr-defined] # as above


def test_a_secret_in_the_file_is_warned_of_and_not_shown(tmp_path: Path, variables: None) -> None:
    (tmp_path / "token").write_text("another-s3cret")
    loaded = load(tmp_path, 'command = ["cat"]\nenvironment = { TOKEN = { file = "token" } }')
    assert "another-s3cret" not in repr(loaded.sinks["bell"])
    assert mask("another-s3cret") == "***"


def test_it_costs_nothing_unless_it_is_configured(tmp_path: Path) -> None:
    """Its modules are not imported for other sinks."""
    path = tmp_path / "roundsman.toml"
    script = (
        "from pathlib import Path; from roundsman import config; import sys\n"
        f"config.load(Path({str(path)!r}))\n"
        "print([name for name in sys.modules if name in ('roundsman.sinks.exec', 'roundsman.sinks.program')])"
    )
    for table, found in (
        ('type = "stdout"', []),
        ('type = "exec"\ncommand = ["cat"]', ["roundsman.sinks.program", "roundsman.sinks.exec"]),
    ):
        path.write_text(f"{SOURCE}[sinks.bell]\n{table}\n")
        done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
        assert sorted(done.stdout.strip()) == sorted(str(found))
