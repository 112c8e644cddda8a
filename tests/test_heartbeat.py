"""The heartbeat: what a dead man's switch on a real socket gets, and what never reaches a log."""

import asyncio
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from doors import until
from inside import broken, disk_has, done, fail_sink, set_due
from processes import Daemon, configure
from raw import answer
from rounds import SCRIPTS, Scripted
from roundsman import config as configuration
from roundsman.config import advice
from roundsman.config.heartbeat import HeartbeatOptions
from roundsman.engine.clock import Clock
from roundsman.engine.engine import Engine
from roundsman.engine.notices import SINK_PATIENCE
from roundsman.errors import Denied
from roundsman.http.transport import Clients
from roundsman.options.secrets import Secret
from roundsman.plugin import Poll, State, Visit
from roundsman.sandbox import TOKEN, Fault, Sandbox
from roundsman.service.heartbeat import FIRST, LINE, LINES, Heartbeat, reasons
from roundsman.store.sqlite.store import SqliteStore
from switches import Switch, a_switch
from worlds import ByHand, Recorder, Time

FILE = '[sinks.archive]\ntype = "file"\npath = "events.jsonl"\n'
KEY = "5f0d9c6a-1b2c-4d3e-8f90-a1b2c3d4e5f6"
PATH = f"/ping/{KEY}"


@pytest.fixture
async def switch() -> AsyncIterator[Switch]:
    async with a_switch() as made:
        yield made


def beating(url: str, every: str = "100ms") -> str:
    return f'[heartbeat]\nurl = "{url}"\nevery = "{every}"\n'


def lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


# -- the running daemon ------------------------------------------------------------------------------------------------


async def test_it_pings_while_all_is_well_and_reports_a_failing_source_and_its_recovery(
    sandbox: Sandbox, switch: Switch, tmp_path: Path
) -> None:
    config = configure(tmp_path, sandbox.url, beating(switch.url + PATH, "1s") + FILE, interval="100ms")
    async with Daemon(config, PARAKEY_TOKEN=TOKEN) as daemon:
        await daemon.until(lambda: len(switch.pings) >= 3)
        assert {ping[:2] for ping in switch.pings} == {("GET", PATH)}
        assert {ping.body for ping in switch.pings} == {""}
        sandbox.vendor.token = "another"
        await daemon.until(lambda: switch.seen("POST"))
        [first, *_] = switch.seen("POST")
        assert first.target == f"{PATH}/fail"
        assert first.headers["content-type"] == "text/plain; charset=utf-8"
        assert first.body.startswith("doors: GET http://127.0.0.1:")
        assert "the credentials are refused" in first.body
        assert first.body.count("\n") == 1
        sandbox.vendor.token = TOKEN
        await daemon.until(lambda: switch.pings[-1].method == "GET")
        assert not daemon.logged("heartbeat.failed"), "that a source fails is no failure of a ping"
        assert TOKEN not in str(switch.pings), "the source's credentials are not sent"
        await daemon.stop()


async def test_a_sink_that_has_failed_for_a_short_time_is_no_reason(
    sandbox: Sandbox, switch: Switch, tmp_path: Path
) -> None:
    dead = '[sinks.crm]\ntype = "http"\nurl = "http://127.0.0.1:1/"\n'
    config = configure(tmp_path, sandbox.url, beating(switch.url + PATH) + FILE + dead, interval="100ms")
    sandbox.vendor.add()
    async with Daemon(config, PARAKEY_TOKEN=TOKEN) as daemon:
        await daemon.until(lambda: daemon.logged("sink.failing"))
        before = len(switch.pings)
        await daemon.until(lambda: len(switch.pings) >= before + 3)
        assert not switch.seen("POST")
        await daemon.stop()


async def test_a_receiver_that_hangs_has_one_request_at_a_time_and_delays_nothing(
    sandbox: Sandbox, switch: Switch, tmp_path: Path
) -> None:
    switch.reply = None
    config = configure(tmp_path, sandbox.url, beating(switch.url + PATH, "300ms") + FILE, interval="100ms")
    async with Daemon(config, PARAKEY_TOKEN=TOKEN) as daemon:
        await daemon.until(lambda: len(switch.pings) >= 3)
        sandbox.vendor.add()
        await daemon.until(lambda: lines(tmp_path / "events.jsonl") == 1)
        assert switch.most_pending == 1
        [failed] = daemon.logged("heartbeat.failed")
        assert failed["level"] == "warning"
        assert failed["error"] == f"{switch.url} did not answer within the timeout"
        await daemon.until(lambda: switch.pending == 1)
        assert await daemon.stop() < 10
        assert daemon.code == 0
    assert len(daemon.logged("heartbeat.failed")) == 1


async def test_pings_that_fail_are_logged_once_and_their_recovery_once(
    sandbox: Sandbox, switch: Switch, tmp_path: Path
) -> None:
    replies = {
        answer(b"boom", 500): "answered 500",
        answer(status=404): "answered 404",
        answer(status=302, Location=f"http://127.0.0.1:1{PATH}"): (
            "answered 302: a redirect is not followed: check url"
        ),
        answer(b"OK (not found)\n"): "answered 200 with OK (not found): check url",
        b"": "closed the connection without an answer",
        b"nonsense\r\n\r\n": "sent an answer that is not HTTP",
    }
    config = configure(tmp_path, sandbox.url, beating(switch.url + PATH, "500ms") + FILE, interval="100ms")
    config.write_text(config.read_text() + "[http]\nattempts = 1\n")
    async with Daemon(config, PARAKEY_TOKEN=TOKEN) as daemon:

        async def pinged() -> None:
            before = len(switch.pings)
            await daemon.until(lambda: len(switch.pings) > before)

        for times, (reply, why) in enumerate(replies.items()):
            switch.reply = reply
            await daemon.until(lambda times=times: len(daemon.logged("heartbeat.failed")) > times)
            await pinged()
            assert len(daemon.logged("heartbeat.recovered")) == times
            *earlier, failed = daemon.logged("heartbeat.failed")
            assert (len(earlier), failed["error"]) == (times, f"{switch.url} {why}")
            switch.reply = answer(b"OK")
            await daemon.until(lambda times=times: len(daemon.logged("heartbeat.recovered")) > times)
            await pinged()
        await daemon.stop()
    assert len(daemon.logged("heartbeat.failed")) == len(daemon.logged("heartbeat.recovered")) == len(replies)
    assert KEY not in daemon.stderr


@pytest.mark.parametrize(
    ("form", "good", "bad"),
    [
        ("http://{host}" + PATH, PATH, PATH + "/fail"),
        ("http://{host}" + PATH + "/", PATH + "/", PATH + "/fail"),
        ("http://{host}" + PATH + "?create=1&token=t0ken-0f-the-query", None, None),
        ("http://{host}/", "/", "/fail"),
        ("http://{host}", "/", "/fail"),
        ("http://beat:pa55word-of-it@{host}" + PATH, PATH, PATH + "/fail"),
        ("http://{host}/api/push/c2354d53d2?status=up&msg=OK&ping=", None, None),
    ],
    ids=["plain", "slash", "query", "root", "bare", "password", "push"],
)
async def test_the_key_of_any_url_is_sent_and_logged_nowhere(
    form: str, good: str | None, bad: str | None, sandbox: Sandbox, switch: Switch, tmp_path: Path
) -> None:
    url = form.format(host=switch.host)
    path, _, query = url.partition(switch.host)[2].partition("?")
    config = configure(
        tmp_path,
        sandbox.url,
        FILE + '[heartbeat]\nurl = { env = "HEARTBEAT_URL" }\nevery = "100ms"\n',
        interval="100ms",
    )
    config.write_text(config.read_text().replace("[daemon]", '[daemon]\nlog_level = "debug"'))
    async with Daemon(config, PARAKEY_TOKEN=TOKEN, HEARTBEAT_URL=url) as daemon:
        await daemon.until(lambda: switch.seen("GET"))
        sandbox.vendor.token = "another"
        await daemon.until(lambda: switch.seen("POST"))
        switch.reply = answer(status=503)
        await daemon.until(lambda: daemon.logged("heartbeat.failed"))
        await daemon.stop()
    assert {ping.target for ping in switch.seen("GET")} == {good or f"{path}?{query}"}
    assert {ping.target for ping in switch.seen("POST")} == {bad or f"{path}/fail?{query}"}
    password = "Basic YmVhdDpwYTU1d29yZC1vZi1pdA==" if "@" in url else None
    assert {ping.headers.get("authorization") for ping in switch.pings} == {password}
    logged = {line["url"] for line in daemon.logged("http.request")}
    ours = {each for each in logged if not each.startswith(sandbox.url)}
    assert ours == {"***" if url == switch.url else switch.url}
    for secret in (KEY, "/ping/", "pa55word-of-it", "t0ken-0f-the-query", "c2354d53d2"):
        assert secret not in daemon.stderr
        assert secret not in "".join(daemon.said)
        assert secret.encode() not in (tmp_path / "roundsman.db").read_bytes()


async def test_a_reload_takes_over_another_url_and_ends_the_heartbeat(
    sandbox: Sandbox, switch: Switch, tmp_path: Path
) -> None:
    config = configure(tmp_path, sandbox.url, FILE, interval="100ms")
    text = config.read_text()

    async def take_over(daemon: Daemon, more: str) -> None:
        count = len(daemon.logged("config.reloaded"))
        config.write_text(text + more)
        daemon.send(signal.SIGHUP)
        await daemon.until(lambda: len(daemon.logged("config.reloaded")) > count)

    async with Daemon(config, PARAKEY_TOKEN=TOKEN) as daemon, a_switch() as other:
        await daemon.ready()
        await take_over(daemon, beating(switch.url + PATH, "1h"))
        await daemon.until(lambda: len(switch.pings) == 1)
        await take_over(daemon, beating(switch.url + PATH, "1h") + "[http]\nattempts = 1\n")
        await take_over(daemon, beating(other.url + "/other"))
        await daemon.until(lambda: len(other.pings) >= 3)
        assert len(switch.pings) == 1, "the same options keep their rhythm, and the old URL gets no more"
        await take_over(daemon, "")
        count, asked = len(other.pings), sandbox.vendor.asked
        await daemon.until(lambda: sandbox.vendor.asked >= asked + 5)
        assert len(other.pings) == count
        await daemon.stop()


async def test_a_stop_sends_nothing(sandbox: Sandbox, switch: Switch, tmp_path: Path) -> None:
    """The switch raises the alarm by itself; so it does for a daemon that ends right after each start."""
    config = configure(tmp_path, sandbox.url, beating(switch.url + PATH, "60s") + FILE, interval="100ms")
    async with Daemon(config, PARAKEY_TOKEN=TOKEN) as daemon:
        await daemon.ready()
        await daemon.until(lambda: sandbox.vendor.asked >= 2)
        await daemon.stop()
        assert daemon.code == 0
    assert switch.pings == []


async def once(config: Path, *options: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "roundsman", "once", "-c", str(config), *options),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    _, said = await process.communicate()
    return process.returncode or 0, said.decode()


async def test_once_pings_once_by_its_result(
    sandbox: Sandbox, switch: Switch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARAKEY_TOKEN", TOKEN)
    config = configure(tmp_path, sandbox.url, beating(switch.url + PATH, "60s") + FILE)
    assert (await once(config, "--now"))[0] == 0
    assert [ping[:2] for ping in switch.pings] == [("GET", PATH)]
    dead = '[sinks.crm]\ntype = "http"\nurl = "http://127.0.0.1:1/"\n'
    config.write_text(config.read_text() + dead)
    sandbox.vendor.add()
    assert (await once(config, "--now"))[0] == 1
    sandbox.vendor.token = "another"
    assert (await once(config, "--now"))[0] == 1
    assert [ping[:2] for ping in switch.pings[1:]] == [("POST", PATH + "/fail")] * 2
    assert switch.pings[1].body == "crm: http://127.0.0.1:1 cannot be reached: the connection was refused\n"
    assert [line.partition(":")[0] for line in switch.pings[2].body.splitlines()] == ["doors", "crm"]
    config.write_text(config.read_text().replace(dead, ""))
    asked = sandbox.vendor.asked
    assert (await once(config))[0] == 0
    assert sandbox.vendor.asked == asked, "it was not due"
    assert (switch.pings[3].method, switch.pings[3].body[:6]) == ("POST", "doors:"), "it still fails"
    switch.reply = answer(status=500)
    sandbox.vendor.token = TOKEN
    status, said = await once(config, "--now")
    assert (status, said.count('"heartbeat.failed"')) == (0, 1), "a ping decides nothing about the result"
    assert switch.pings[4].method == "GET"
    assert KEY not in said


async def test_once_that_is_interrupted_sends_nothing(
    sandbox: Sandbox, switch: Switch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARAKEY_TOKEN", TOKEN)
    sandbox.vendor.faults.extend([Fault(kind="hang")] * 3)
    config = configure(tmp_path, sandbox.url, beating(switch.url + PATH) + FILE)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "roundsman", "once", "-c", str(config)), stderr=subprocess.DEVNULL
    )
    await until(lambda: sandbox.vendor.asked)
    process.terminate()
    assert await process.wait() == 130
    assert switch.pings == []


async def test_a_passing_fault_of_the_receiver_is_no_failure(
    sandbox: Sandbox, switch: Switch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARAKEY_TOKEN", TOKEN)

    def recover() -> None:
        switch.reply = answer(status=503) if len(switch.pings) == 1 else answer(b"OK")

    switch.when_asked = recover
    config = configure(tmp_path, sandbox.url, beating(switch.url + PATH, "60s") + FILE)
    status, said = await once(config)
    assert (status, len(switch.pings)) == (0, 2)
    assert '"http.retry"' in said
    assert "heartbeat.failed" not in said
    assert KEY not in said


async def test_without_the_table_nothing_of_it_is_imported(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARAKEY_TOKEN", TOKEN)
    config = configure(tmp_path, sandbox.url, FILE)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-X", "importtime", "-m", "roundsman", "once", "-c", str(config)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    _, said = await process.communicate()
    assert process.returncode == 0
    assert b"roundsman.service.service" in said
    assert b".heartbeat" not in said


# -- an engine whose clock a test sets ---------------------------------------------------------------------------------


class Beaten:
    """An engine with one source and one sink, and its heartbeat."""

    def __init__(self, folder: Path, time: Time, url: str, sleep: Any = None) -> None:
        self.time = time
        self.store = SqliteStore.open(folder / "roundsman.db")
        clock = Clock(time.now, lambda: time.ticks, sleep or time.never, lambda: 0.0)
        self.engine = Engine(self.store, ByHand(), Clients(), clock=clock)
        disk_has(self.engine, lambda: 2**40, 2**40)
        done(self.engine.setup({"a": Scripted().named("a")}, {"crm": Recorder().named("crm")}))
        self.options = HeartbeatOptions(url=Secret.read(url), every=300)
        self.heart = Heartbeat(self.engine)

    async def visited(self) -> None:
        """As if its source had been visited, and were due again in a day."""
        await set_due(self.engine, "a", self.time.now() + 86400)

    async def ping(self) -> None:
        await self.heart.ping(self.options, await reasons(self.engine))


@pytest.fixture
async def make(tmp_path: Path, time: Time, switch: Switch) -> AsyncIterator[Callable[..., Beaten]]:
    made: list[Beaten] = []

    def one(sleep: Any = None) -> Beaten:
        made.append(Beaten(tmp_path, time, switch.url + PATH, sleep))
        return made[-1]

    async def nothing(visit: Visit, state: State) -> Poll:
        return Poll(state)

    SCRIPTS["a"] = nothing
    yield one
    for each in made:
        each.heart.stop()
        await each.engine.aclose()
        await each.store.close()


async def test_a_sink_counts_from_the_time_on_at_which_its_failure_is_reported(
    make: Callable[..., Beaten], switch: Switch, time: Time
) -> None:
    beaten = make()
    await beaten.visited()
    await beaten.ping()
    fail_sink(beaten.engine, "crm", OSError(111, "Connection refused"))
    time.advance(SINK_PATIENCE - 1)
    await beaten.ping()
    time.advance(1)
    await beaten.ping()
    assert [ping.method for ping in switch.pings] == ["GET", "GET", "POST"]
    assert switch.pings[-1].body == "crm: Connection refused\n"
    assert await beaten.engine.deliveries.once()
    await beaten.ping()
    assert switch.pings[-1].method == "GET"


async def test_a_store_that_cannot_be_written_is_a_reason_and_its_sinks_errors_are_not_needed(
    make: Callable[..., Beaten], switch: Switch, time: Time
) -> None:
    beaten = make()
    await beaten.visited()
    fail_sink(beaten.engine, "crm", OSError(111, "Connection refused"))
    time.advance(SINK_PATIENCE)
    with broken(beaten.store, sqlite3.OperationalError("disk I/O error")):
        await beaten.engine.beat()
        await beaten.ping()
    first, second = switch.pings[-1].body.splitlines()
    assert first == "crm: no event can be delivered"
    assert second.startswith(f"store: {beaten.store.path}")
    assert "disk I/O error" in second


async def test_a_source_that_is_not_visited_when_it_is_due_is_a_reason(
    make: Callable[..., Beaten], switch: Switch, time: Time
) -> None:
    beaten = make()
    assert await beaten.engine.once(everything=True)
    await beaten.ping()
    time.advance(3600)
    await beaten.ping()
    assert [ping.body for ping in switch.pings] == [
        "",
        "visits or deliveries do not run, or the store does not answer\n",
    ]


async def test_reasons_are_short_single_lines_without_control_characters_and_secrets(
    make: Callable[..., Beaten], switch: Switch
) -> None:
    beaten = make()
    Secret.read("s3cret-of-the-vendor")
    hostile = "\x1b[2J\r\nX: 1\0 s3cret-of-the-vendor \u2028\ud800 " + "x" * 2**20

    async def refuse(visit: Visit, state: State) -> Poll:
        raise Denied(hostile)

    SCRIPTS["a"] = refuse
    assert not await beaten.engine.once(everything=True)
    await beaten.ping()
    [ping] = switch.pings
    [line] = ping.body.split("\n")[:-1]
    assert line.startswith(r"a: \x1b[2J\r\nX: 1\x00 *** \u2028")
    assert line.isprintable()
    assert len(line) <= LINE + 3


async def test_very_many_reasons_are_counted(make: Callable[..., Beaten], switch: Switch) -> None:
    beaten = make()
    await beaten.heart.ping(beaten.options, [f"source-{n}: " + "\u00e4" * 2000 for n in range(5000)])
    sent = switch.pings[-1].body.splitlines()
    assert len(sent) == LINES + 1
    assert sent[-1] == f"and {5000 - LINES} more"
    assert len(switch.pings[-1].body.encode()) < 100_000


async def test_a_period_is_counted_from_ping_to_ping_and_one_that_is_missed_is_left_out(
    make: Callable[..., Beaten], switch: Switch, time: Time
) -> None:
    waits: list[float] = []
    go: asyncio.Queue[None] = asyncio.Queue()

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        await go.get()
        time.advance(seconds)

    beaten = make(sleep)
    took = iter([2.0, 400.0, 0.0])
    switch.when_asked = lambda: time.advance(next(took))
    beaten.heart.follow(beaten.options)
    await asyncio.sleep(0)
    assert waits == [], "nothing before the engine has started"
    beaten.engine.started.set()
    for count in (1, 2, 3):
        await until(lambda count=count: len(waits) == count)
        go.put_nowait(None)
        await until(lambda count=count: len(switch.pings) == count)
    await until(lambda: len(waits) == 4)
    assert waits == [FIRST, 298.0, 200.0, 300.0]


async def test_a_new_url_that_works_ends_a_failure(make: Callable[..., Beaten], switch: Switch) -> None:
    beaten = make(lambda seconds: asyncio.sleep(0 if not seconds else 3600))
    beaten.engine.started.set()
    with capture_logs() as logs:
        beaten.heart.follow(HeartbeatOptions(url=Secret.read("http://127.0.0.1:1/x"), every=300))

        def names() -> list[str]:
            return [each["event"] for each in logs if each["event"].startswith("heartbeat.")]

        await until(lambda: names() == ["heartbeat.failed"])
        beaten.heart.follow(beaten.options)
        await until(lambda: names() == ["heartbeat.failed", "heartbeat.recovered"])


async def test_an_unexpected_error_that_ends_the_pings_is_logged(
    make: Callable[..., Beaten], switch: Switch
) -> None:
    def fail() -> bool:
        raise RuntimeError("out of order")

    beaten = make(lambda seconds: asyncio.sleep(0))
    beaten.engine.healthy = fail  # type: ignore[method-assign]
    beaten.engine.started.set()
    with capture_logs() as logs:
        beaten.heart.follow(beaten.options)
        await until(lambda: any(each["event"] == "heartbeat.failed" for each in logs))
    [line] = [each for each in logs if each["event"] == "heartbeat.failed"]
    assert line["error"] == "out of order"
    assert isinstance(line["exc_info"], RuntimeError)


# -- the configuration -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "warned"),
    [
        ('url = { env = "HEARTBEAT_URL" }', []),
        (
            f'url = "https://hc.example.org{PATH}"',
            [
                'heartbeat: a secret is in the file; write { credential = "name" }, { env = "NAME" } or { file = "path" } instead'
            ],
        ),
        (
            'url = { env = "PLAIN_URL" }',
            ["heartbeat.url: hc.example.org gets the key without TLS; write https://"],
        ),
    ],
)
def test_check_warns_of_a_url_in_the_file_and_of_one_without_tls(
    table: str, warned: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARAKEY_TOKEN", TOKEN)
    monkeypatch.setenv("HEARTBEAT_URL", f"https://hc.example.org{PATH}")
    monkeypatch.setenv("PLAIN_URL", f"http://hc.example.org{PATH}")
    config = configure(tmp_path, "http://127.0.0.1:1", FILE + f"[heartbeat]\n{table}\n")
    assert [line for line in advice.warnings(configuration.load(config)) if "heartbeat" in line] == warned


def test_its_url_is_not_in_a_representation_of_the_configuration(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("PARAKEY_TOKEN", TOKEN)
    config = configure(tmp_path, "http://127.0.0.1:1", FILE + beating(f"https://hc.example.org{PATH}", "5m"))
    loaded = configuration.load(config)
    assert loaded.heartbeat is not None
    assert KEY not in repr(loaded)


async def test_poll_needs_no_url_of_the_heartbeat(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARAKEY_TOKEN", TOKEN)
    config = configure(
        tmp_path, sandbox.url, FILE + '[heartbeat]\nurl = { env = "NOT_SET_HERE" }\n', interval="100ms"
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "roundsman", "poll", "doors", "-c", str(config))
    )
    assert await process.wait() == 0
