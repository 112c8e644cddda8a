"""What a scrape reports of sources, sinks, requests and the store, and that it delays and breaks nothing."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import pytest

from doors import HEADER, PARAKEY, RECENT, VALUE, Door, metrics, open_door, until
from inside import answered, caught_up, disk_says, put
from roundsman.errors import RequestFailed
from roundsman.http.client import Http
from roundsman.plugin import Poll, Source, State, Visit
from roundsman.sandbox import Parakey, Sandbox
from roundsman.store.sqlite.store import SqliteStore
from roundsman.system.files import Space
from roundsman.web import exposition
from roundsman.web.exposition import Exposition
from worlds import PLANS, an_event, event_logs

GATES: dict[str, asyncio.Event] = {}


class Paged(Source):
    """A list of two pages; the second one comes when the test says so."""

    type: Literal["paged"] = "paged"
    base_url: str = "http://127.0.0.1:1"

    async def poll(self, visit: Visit, state: State) -> AsyncIterator[Poll]:
        yield Poll({"page": 1}, [an_event(1, self.name)], rows=40)
        await GATES[self.name].wait()
        yield Poll({"page": 2}, [an_event(2, self.name)], rows=2)


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    """With a source that is not visited."""
    async with open_door(
        tmp_path, event_logs(webhook=PARAKEY, interval=90), event_logs("other"), rounds=False
    ) as door:
        yield door


async def test_open_failures_are_counted_by_source_until_they_are_done(door: Door) -> None:
    failures = 'roundsman_source_open_failures{source="%s"}'
    assert (await metrics(door))[failures % "doors"] == 0
    await put(door.store, *(an_event(n, outcome="failed") for n in range(3)), an_event(9))
    found = await metrics(door)
    assert (found[failures % "doors"], found[failures % "other"]) == (3, 0)
    await door.store.tick_off([door.events()[0].seq], "anna", None, 0.0)
    assert (await metrics(door))[failures % "doors"] == 2


async def test_failures_of_a_source_that_was_taken_out_are_still_counted(door: Door) -> None:
    await door.store.register({"gone": "parakey.event_logs"}, {})
    await put(door.store, an_event(1, "gone", outcome="failed"))
    assert (await metrics(door))['roundsman_source_open_failures{source="gone"}'] == 1


async def test_unread_webhooks_are_counted_until_they_are_dropped(door: Door) -> None:
    unread = 'roundsman_source_unread{source="doors"}'
    assert (await metrics(door))[unread] == 0
    assert await door.post("/hooks/doors", b"no json", {HEADER: VALUE}) == 200
    assert (await metrics(door))[unread] == 1
    await door.store.drop_unread("doors", None)
    assert (await metrics(door))[unread] == 0


async def test_a_backlog_shows_while_it_is_read_with_its_rows(tmp_path: Path) -> None:
    GATES["slow"] = asyncio.Event()
    backlog, rows = 'roundsman_source_backlog{source="slow"}', 'roundsman_source_backlog_rows{source="slow"}'
    async with open_door(tmp_path, Paged(interval=3600).named("slow")) as door:
        await until(lambda: door.ids() == ["id00001"])

        async def shows() -> bool:
            return (await metrics(door))[backlog] == 1

        await until(shows)
        assert (await metrics(door))[rows] == 40
        GATES["slow"].set()
        await until(lambda: door.engine.meter.polls["slow", "new"])
        await until(lambda: door.engine.roster["slow"].task is None)
        found = await metrics(door)
        assert found[backlog] == 0
        assert rows not in found


async def test_the_interval_and_the_time_without_an_answer_are_those_of_the_source(tmp_path: Path) -> None:
    async with Sandbox(Parakey()) as box:
        lost = event_logs("lost", base_url="http://127.0.0.1:9", interval=7200)
        async with open_door(tmp_path, event_logs(base_url=box.url, interval=3600), lost) as door:
            await until(lambda: answered(door.engine))
            found = await metrics(door)
            assert found['roundsman_source_interval_seconds{source="doors"}'] == 3600
            assert found['roundsman_source_interval_seconds{source="lost"}'] == 7200
            assert found['roundsman_source_unanswered_seconds{source="doors"}'] == 0
            assert 0 < found['roundsman_source_unanswered_seconds{source="lost"}'] < 60


async def test_a_sink_that_fails_shows_with_what_waits_for_it_until_it_recovers(tmp_path: Path) -> None:
    failing, waiting, oldest = (
        f'roundsman_sink_{name}{{sink="rec"}}' for name in ("failing", "waiting_events", "oldest_age_seconds")
    )
    async with Sandbox(Parakey()) as box:
        doors = event_logs(base_url=box.url, interval=3600, webhook=PARAKEY)
        async with open_door(tmp_path, doors) as door:
            await until(lambda: answered(door.engine))
            found = await metrics(door)
            assert (found[failing], found[waiting], found[oldest]) == (0, 0, 0)

            def down(event: Any) -> None:
                raise OSError("down")

            PLANS["rec"] = down
            for n in range(3):
                log = {"id": f"log{n}", "createdAt": RECENT, "timestamp": RECENT}
                assert await door.post("/hooks/doors", log, {HEADER: VALUE}) == 200
            await until(lambda: door.engine.meter.failures["rec"])
            found = await metrics(door)
            assert (found[failing], found[waiting]) == (1, 3)
            assert found[oldest] > 0
            assert found['roundsman_sink_failures_total{sink="rec"}'] >= 1
            PLANS.clear()
            await until(lambda: caught_up(door.engine, "rec"))
            found = await metrics(door)
            assert (found[failing], found[waiting], found[oldest]) == (0, 0, 0)


async def test_requests_are_counted_by_host_and_status(tmp_path: Path) -> None:
    requests = 'roundsman_http_requests_total{host="127.0.0.1",status="%s"}'
    async with Sandbox(Parakey()) as box:
        box.vendor.add(log_id="first")
        sources = [
            event_logs(base_url=box.url, interval=3600),
            event_logs("lost", base_url="http://127.0.0.1:9", interval=3600),
            event_logs("denied", base_url=box.url, access_token="wrong", interval=3600),
        ]
        async with open_door(tmp_path, *sources) as door:
            await until(lambda: answered(door.engine))
            found = await metrics(door)
            assert found[requests % "200"] >= 1
            assert found[requests % "401"] == 1
            assert found[requests % "error"] == 3, "each attempt is a request"
            assert found['roundsman_http_retries_total{host="127.0.0.1"}'] == 2
            assert requests % "304" not in found
            await door.engine.visit("doors")
            assert (await metrics(door))[requests % "304"] == 1


async def test_a_host_cannot_make_series_by_statuses_that_do_not_exist(door: Door) -> None:
    """It can answer with any number of three digits. Downloads are counted, too, by a host that the configuration names."""
    statuses = iter([*range(600, 700), 499, 520, 404])

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 %d Odd\r\ncontent-length: 0\r\nconnection: close\r\n\r\n" % next(statuses))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    http = Http(door.engine.clients)
    for _ in range(102):
        await http.send("POST", url)
    with pytest.raises(RequestFailed):
        async with http.download(url, ["127.0.0.1"], local=True):
            pass
    server.close()
    counted = {
        name: count
        for name, count in (await metrics(door)).items()
        if name.startswith("roundsman_http_requests_total")
    }
    form = 'roundsman_http_requests_total{host="127.0.0.1",status="%s"}'
    assert counted == {form % "6xx": 100, form % "4xx": 1, form % "5xx": 1, form % "404": 1}
    assert (await metrics(door))['roundsman_http_request_duration_seconds_count{host="127.0.0.1"}'] == 102


async def test_a_request_that_the_daemon_gives_up_is_not_counted_as_an_error(door: Door) -> None:
    """At a stop or a reload, for example. It has an end all the same, and a duration."""
    came = asyncio.Event()

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.set()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    asking = asyncio.create_task(Http(door.engine.clients).send("GET", url))
    await came.wait()
    asking.cancel()
    with suppress(asyncio.CancelledError):
        await asking
    server.close()
    found = await metrics(door)
    assert found['roundsman_http_request_duration_seconds_count{host="127.0.0.1"}'] == 1
    assert not [name for name in found if name.startswith("roundsman_http_requests_total")]


async def test_the_store_and_its_disk_show_in_bytes(door: Door) -> None:
    disk_says(door.store, lambda path: Space(7 * 2**30, 9 * 2**30))
    found = await metrics(door)
    assert found['roundsman_store_bytes{file="store"}'] == door.store.path.stat().st_size
    assert found['roundsman_store_bytes{file="wal"}'] == Path(f"{door.store.path}-wal").stat().st_size > 0
    assert found["roundsman_disk_free_bytes"] == 7 * 2**30
    assert found["roundsman_disk_total_bytes"] == 9 * 2**30
    assert found["roundsman_store_failing"] == 0


async def test_a_disk_that_refuses_to_answer_leaves_only_its_own_metrics_out(door: Door) -> None:
    def refuse(path: Path) -> Space:
        raise OSError(5, "Input/output error")

    disk_says(door.store, refuse)
    found = await metrics(door)
    assert not [name for name in found if name.startswith("roundsman_disk")]
    assert found['roundsman_store_bytes{file="store"}'] > 0
    assert found['roundsman_source_open_failures{source="doors"}'] == 0


async def test_a_disk_that_hangs_stops_neither_the_loop_nor_a_scrape(door: Door) -> None:
    """What is in memory is answered, and no second thread is started while the first one hangs."""
    through = threading.Event()
    looks = 0

    def hang(path: Path) -> Space:
        nonlocal looks
        looks += 1
        through.wait(20)
        return Space(1, 2)

    disk_says(door.store, hang)
    scrapes = Exposition(door.engine, patience=0.05)
    for _ in range(2):
        text = b"".join([piece async for piece in scrapes.pieces()]).decode()
        assert 'roundsman_source_failing{source="doors"} 0.0' in text
        assert "\nroundsman_disk_free_bytes " not in text
    assert looks == 1
    through.set()

    async def answers() -> bool:
        text = b"".join([piece async for piece in scrapes.pieces()]).decode()
        return "\nroundsman_disk_free_bytes 1.0" in text

    await until(answers)


async def test_a_damaged_store_shows_as_such_and_the_rest_is_answered(door: Door) -> None:
    await put(door.store, an_event(1))
    for path in (door.store.path, Path(f"{door.store.path}-wal")):
        path.write_bytes(b"no store" * 5000)
    found = await metrics(door)
    assert found["roundsman_store_failing"] == 1
    assert found['roundsman_source_failing{source="doors"}'] == 0
    assert not [
        name for name in found if name.startswith(("roundsman_store_bytes", "roundsman_sink_waiting"))
    ]


async def test_damage_that_a_check_found_shows(door: Door) -> None:
    door.store.damage = "it is damaged"
    assert (await metrics(door))["roundsman_store_failing"] == 1


@pytest.mark.parametrize(
    "name",
    [
        'a "quoted" one',
        "back\\slash",
        "two\nlines",
        '"} 1\nroundsman_polls_total{source="',
        "ünï ☃",
        "%s %r {}",
        " ",
    ],
)
async def test_any_name_of_a_source_is_a_label_with_that_value(name: str, tmp_path: Path) -> None:
    async with open_door(tmp_path, event_logs(name), rounds=False) as door:
        door.engine.meter.polls[name, "new"] += 2
        await put(door.store, an_event(1, name, outcome="failed"), source=name)
        found = await metrics(door)
        assert found[f'roundsman_source_failing{{source="{name}"}}'] == 0
        assert found[f'roundsman_source_open_failures{{source="{name}"}}'] == 1
        assert found[f'roundsman_polls_total{{result="new",source="{name}"}}'] == 2


async def test_a_name_that_is_no_text_is_written_with_question_marks(door: Door) -> None:
    """UTF-8 has no form for half of a pair of surrogates."""
    door.engine.meter.retries["half \ud800"] += 1
    assert (await metrics(door))['roundsman_http_retries_total{host="half ?"}'] == 1


async def test_others_run_between_the_pieces_of_many_sources(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where no source has a value, and if one leaves meanwhile."""
    monkeypatch.setattr(exposition, "LINES", 50)
    sources = [event_logs(f"s{n}") for n in range(300)]
    async with open_door(tmp_path, *sources, rounds=False) as door:
        turns = 0

        async def others() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        running = asyncio.create_task(others())
        pieces: list[bytes] = []
        async for piece in Exposition(door.engine).pieces():
            assert piece.count(b"\n") <= 100, "a line of a head is two"
            if not pieces:
                turns = 0
                del door.engine.roster["s299"]
            pieces.append(piece)
        assert turns >= len(pieces) - 1 > 300 * 7 / 50
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


async def test_a_scrape_runs_no_statement_on_the_connection_that_the_daemon_reads_by(door: Door) -> None:
    """With half a million events behind a filter, one took a quarter of a second there."""
    said = []
    door.store._db.set_trace_callback(said.append)
    await metrics(door)
    assert said == []


async def test_a_scrape_that_is_under_way_keeps_no_removed_wal_file_from_being_recovered(
    tmp_path: Path,
) -> None:
    """It is recovered once the scrape's connection is closed, and not before."""
    through, looking = threading.Event(), threading.Event()

    def hang(path: Path) -> Space:
        looking.set()
        through.wait(20)
        return Space(1, 2)

    store = SqliteStore.open(tmp_path / "roundsman.db")
    await put(store, an_event(1))
    disk_says(store, hang)
    counting = asyncio.create_task(store.census({}))
    await until(looking.is_set)
    (tmp_path / "roundsman.db-wal").unlink()
    assert not await store.recover()
    through.set()
    await counting
    assert await store.recover()
    await store.close()
