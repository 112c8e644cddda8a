"""The pages with many sources, and with requests that no browser of a person sends."""

import asyncio
import base64
import re
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from doors import Door, open_door
from inside import visited
from roundsman.engine.roster import Watched
from roundsman.options.listen import ListenOptions
from roundsman.store import Census, Filter, open_desk
from roundsman.web.page import rows
from worlds import a_failure, event_logs, mailchimp_batches

KEY = {"authorization": "Basic " + base64.b64encode(b"anna:correct horse").decode()}
PAGE = {"user": "anna", "password": "correct horse"}
MANY = 600


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    sources = [event_logs(f"door-{number:04}") for number in range(MANY)]
    options = ListenOptions(address="127.0.0.1:0", page=PAGE)
    async with open_door(tmp_path, *sources, rounds=False, options=options) as door:
        found = visited({}, [a_failure(1, "door-0000", person={"id": "p"}, about={"id": "k"})])
        await door.store.commit("door-0000", 0, *found)
        yield door


async def get(door: Door, path: str) -> tuple[int, str]:
    answer = await door.client.get(door.url + path, headers=KEY)
    return answer.status_code, answer.text


async def test_the_page_of_a_source_says_what_it_follows(tmp_path: Path) -> None:
    options = ListenOptions(address="127.0.0.1:0", page=PAGE)
    sources = (event_logs(), mailchimp_batches())
    async with open_door(tmp_path, *sources, rounds=False, options=options) as door:
        assert "nothing to follow" not in (await get(door, "/source/doors"))[1]
        assert "<dd>nothing to follow</dd>" in (await get(door, "/source/news"))[1]
        desk = await open_desk(door.store.path)
        await desk.follow("news", ["b1", "b2"])
        await desk.close()
        assert "<dt>Follows</dt><dd>2</dd>" in (await get(door, "/source/news"))[1]


def names(text: str) -> list[str]:
    return re.findall(r'href="/source/([^"]+)"', text)


async def test_many_sources_are_paged_and_searched(door: Door) -> None:
    _, text = await get(door, "/")
    assert len(names(text)) == 25
    assert "All 600 sources" in text
    _, text = await get(door, "/sources?from=550")
    assert names(text)[-1] == "door-0599"
    assert len(set(names(text))) == 50
    _, text = await get(door, "/sources?q=DOOR-030")
    assert set(names(text)) == {f"door-030{number}" for number in range(10)}
    status, text = await get(door, "/sources?from=100000&state=nonsense")
    assert (status, names(text)) == (200, [])


@pytest.mark.parametrize(
    "path",
    [
        "/log?before=-1&after=x",
        "/log?before=99999999999999999999999",
        "/log?source=%00&type=%5B&outcome=%27&q=%00%25_",
        "/log?q=" + "x" * 5000,
        "/sources?from=-5&q=%00",
        "/failures?before=abc&source=%5B",
        "/?acted=99",
        "/?acted=%F0%9F%98%80",
    ],
)
async def test_a_query_that_is_none_is_left_out(door: Door, path: str) -> None:
    assert (await get(door, path))[0] == 200


async def test_what_does_not_exist_is_404_and_its_name_is_a_text(door: Door) -> None:
    for path in (
        "/source/%3Cb%3E",
        "/sink/%3Cb%3E",
        "/event/0",
        "/event/%3Cb%3E",
        "/event/12345678901234567890",
    ):
        status, text = await get(door, path)
        assert (status, "<b>" in text) == (404, False), path


async def test_a_form_that_says_too_little_or_too_much_changes_nothing(door: Door) -> None:
    [token] = set(re.findall(r'name="form_token" value="([^"]+)"', (await get(door, "/failures"))[1]))
    [failure] = await door.store.failures()
    right = {
        "form_token": token,
        "seq": str(failure.event.seq),
        "who": "anna",
        "back": "/failures?source=door-0000",
    }
    for wrong, status in (
        ({"seq": "one"}, 400),
        ({"seq": "99"}, 404),
        ({"who": "  "}, 400),
        ({"who": "x" * 501}, 400),
        ({"note": "x" * 501}, 400),
    ):
        answer = await door.client.post(f"{door.url}/failures/done", data=right | wrong, headers=KEY)
        assert (answer.status_code, "Nothing was changed" in answer.text) == (status, True), wrong
    assert await door.store.open_failures() == 1
    for back, led in (("//evil.example", "/?acted="), (right["back"], "/failures?source=door-0000&acted=")):
        answer = await door.client.post(f"{door.url}/failures/done", data=right | {"back": back}, headers=KEY)
        assert answer.status_code == 303
        assert answer.headers["location"] == f"{led}{failure.event.seq}"
    assert await door.store.open_failures() == 0


async def test_a_sink_that_refuses_each_event_is_not_ok(door: Door) -> None:
    for number in (1, 2):
        cursor, _ = await door.store.cursor("rec")
        await door.store.bury("rec", cursor, cursor + number, "422", door.engine.time.now())
    _, text = await get(door, "/")
    assert '<span class="state refusing">' in text
    assert re.search(r"refuses all events: 2 dead letters, the first <time", text)
    assert "1 refusing" in text
    _, text = await get(door, "/sink/rec")
    assert "roundsman help dead-letters" in text


async def test_a_sink_that_a_reload_removes_meanwhile_is_missing(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = door.store.census

    async def census(sinks: Mapping[str, Filter]) -> Census:
        door.engine.sinks = {}
        door.engine.deliveries.pop("rec")
        return await counted(sinks)

    monkeypatch.setattr(door.store, "census", census)
    status, text = await get(door, "/sink/rec")
    assert (status, "rec: no such sink" in text) == (404, True)


async def test_a_list_of_many_sources_lets_other_tasks_run_by_the_time_that_it_takes(door: Door) -> None:
    class Slow(dict[str, Watched]):
        """The sources, on a machine that is busy."""

        def get(self, name: str, default: Any = None) -> Any:
            ends = time.perf_counter() + 0.0005
            while time.perf_counter() < ends:
                pass
            return super().get(name, default)

    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    listed = await rows.listing(SimpleNamespace(roster=Slow(door.engine.roster)))  # type: ignore[arg-type] # all that it reads
    task.cancel()
    assert listed.total == MANY
    assert turns > MANY * 0.0005 / (2 * rows.TURN + rows.FEW * 0.0005)
