"""Health, readiness and metrics: what machines ask."""

import asyncio
import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from conftest import need
from doors import HEADER, PARAKEY, RECENT, VALUE, Door, metrics, open_door, until
from inside import answered, caught_up, set_due, set_visited
from roundsman.errors import Reject
from roundsman.sandbox import Parakey, Sandbox
from roundsman.store import StoreError
from roundsman.store.sqlite.store import SqliteStore
from roundsman.web.protocol import Limits
from worlds import PLANS, event_logs

KEY = {HEADER: VALUE}
LOG = {"id": "log1", "createdAt": RECENT, "timestamp": RECENT}
ROOT = Path(__file__).parents[2]
REFERENCE = (ROOT / "docs/reference/metrics.md").read_text()


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    async with Sandbox(Parakey()) as box:
        box.vendor.add(log_id="first")
        lost = event_logs("lost", base_url="http://127.0.0.1:9", interval=3600)
        doors = event_logs(base_url=box.url, interval=3600, webhook=PARAKEY)
        async with open_door(tmp_path, doors, lost) as door:
            yield door


async def test_prometheus_takes_what_it_reads(door: Door) -> None:
    need(shutil.which("promtool") is not None, "needs promtool: apt install prometheus")
    await until(lambda: answered(door.engine))
    await door.post("/hooks/doors", LOG, KEY)
    answer = await door.client.get(f"{door.url}/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=answer.content, capture_output=True, check=False
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")


async def test_the_metrics_are_those_of_the_reference(door: Door) -> None:
    await until(lambda: answered(door.engine))
    await door.post("/hooks/doors", LOG, KEY)
    text = (await door.client.get(f"{door.url}/metrics")).text
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    documented = set(re.findall(r"^\| \[(roundsman_[a-z_]+)\]", REFERENCE, re.MULTILINE))
    assert documented == set(kinds)


async def test_they_count_what_happened(door: Door) -> None:
    await until(lambda: answered(door.engine))
    await until(lambda: door.ids() == ["first"])
    await door.post("/hooks/doors", LOG, KEY)
    await door.post("/hooks/doors", LOG, {})
    await door.post("/hooks/nobody", LOG, KEY)
    found = await metrics(door)
    assert found['roundsman_polls_total{result="new",source="doors"}'] == 1
    assert found['roundsman_polls_total{result="failed",source="lost"}'] == 1
    assert found['roundsman_events_total{source="doors",via="poll"}'] == 1
    assert found['roundsman_events_total{source="doors",via="push"}'] == 1
    assert found['roundsman_webhooks_total{result="taken",source="doors"}'] == 1
    assert found['roundsman_webhooks_total{result="no header",source="doors"}'] == 1
    assert found['roundsman_webhooks_total{result="unknown source",source=""}'] == 1
    assert found["roundsman_webhook_duration_seconds_count"] == 3
    assert found["roundsman_due_lateness_seconds_count"] == 2
    assert found['roundsman_http_request_duration_seconds_count{host="127.0.0.1"}'] >= 4
    assert 0 <= found['roundsman_source_answered_age_seconds{source="doors"}'] < 60
    assert 'roundsman_source_answered_age_seconds{source="lost"}' not in found
    assert found['roundsman_sink_oldest_age_seconds{sink="rec"}'] >= 0
    cumulative = [v for k, v in found.items() if k.startswith("roundsman_webhook_duration_seconds_bucket")]
    assert cumulative == sorted(cumulative)
    assert cumulative[-1] == 3


async def test_dead_letters_are_counted_until_they_are_dropped(door: Door) -> None:
    await until(lambda: door.ids() == ["first"])
    await until(lambda: caught_up(door.engine, "rec"))
    assert (await metrics(door))['roundsman_sink_dead_letters{sink="rec"}'] == 0

    def refuse(event: Any) -> None:
        raise Reject("no")

    PLANS["rec"] = refuse
    await door.post("/hooks/doors", LOG, KEY)
    await until(lambda: caught_up(door.engine, "rec"))
    assert (await metrics(door))['roundsman_sink_dead_letters{sink="rec"}'] == 1
    await door.engine.store.drop_dead("rec", None)
    assert (await metrics(door))['roundsman_sink_dead_letters{sink="rec"}'] == 0


async def test_a_gap_shows_as_long_as_the_state_has_it(tmp_path: Path) -> None:
    gap = 'roundsman_source_gap{source="doors"}'
    async with (
        Sandbox(Parakey()) as box,
        open_door(tmp_path, event_logs(base_url=box.url), rounds=False) as door,
    ):
        assert gap not in await metrics(door)
        await door.engine.visit("doors")
        assert (await metrics(door))[gap] == 0
        state = (await door.engine.store.memory("doors")).state
        await door.engine.store.rewind("doors", {**state, "gap": {"since": RECENT, "pinned": True}})
        box.vendor.add(log_id="second")
        await door.engine.visit("doors")
        assert (await metrics(door))[gap] == 1
        await door.engine.store.rewind("doors", state)
        await door.engine.visit("doors")
        assert (await metrics(door))[gap] == 0


async def test_it_is_ready_once_every_source_was_visited_and_the_store_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_door(tmp_path, event_logs(), rounds=False, limits=Limits(look_again=0.0)) as door:
        assert (await door.client.get(f"{door.url}/healthz")).text == "ok\n"
        answer = await door.client.get(f"{door.url}/readyz")
        assert (answer.status_code, answer.text) == (503, "doors: not visited yet\n")
        await set_visited(door.engine, "doors", 1.0)
        answer = await door.client.get(f"{door.url}/readyz")
        assert (answer.status_code, answer.text) == (200, "ready\n")

        def full(self: SqliteStore) -> None:
            raise StoreError("the disk is full")

        monkeypatch.setattr(SqliteStore, "writable", full)
        answer = await door.client.get(f"{door.url}/readyz")
        assert (answer.status_code, answer.text) == (503, "the disk is full\n")


async def test_it_is_not_ready_while_it_looks_whether_the_store_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_door(tmp_path, event_logs(), rounds=False, limits=Limits(look_again=60.0)) as door:
        await set_visited(door.engine, "doors", 1.0)
        goes = asyncio.Event()

        async def hangs(self: object) -> None:
            await goes.wait()
            raise StoreError("the server does not answer")

        monkeypatch.setattr(type(door.engine.store), "writable", hangs)
        asked = [asyncio.create_task(door.client.get(f"{door.url}/readyz")) for _ in range(3)]
        await asyncio.wait(asked, timeout=0.3)
        assert not any(each.done() for each in asked), "no one gets an answer that is not known yet"
        goes.set()
        assert {(await each).status_code for each in asked} == {503}


async def test_a_store_that_does_not_answer_is_not_ready_within_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roundsman.web.app.PATIENCE", 0.1)
    async with open_door(tmp_path, event_logs(), rounds=False, limits=Limits(look_again=0.0)) as door:
        await set_visited(door.engine, "doors", 1.0)
        goes, looks = asyncio.Event(), []

        async def hangs(self: object) -> None:
            looks.append(self)
            await goes.wait()

        monkeypatch.setattr(type(door.engine.store), "writable", hangs)
        for _ in range(2):
            answer = await door.client.get(f"{door.url}/readyz")
            assert (answer.status_code, "has not answered for" in answer.text) == (503, True)
        assert len(looks) == 1, "the second one waits for the same look"
        monkeypatch.setattr("roundsman.web.app.PATIENCE", 20.0)
        goes.set()
        assert (await door.client.get(f"{door.url}/readyz")).status_code == 200


async def test_it_is_not_healthy_when_the_rounds_are_not_made(tmp_path: Path) -> None:
    async with open_door(tmp_path, event_logs(), rounds=False) as door:
        await set_due(door.engine, "doors", 1.0)
        answer = await door.client.get(f"{door.url}/healthz")
        assert (answer.status_code, answer.text) == (
            503,
            "visits or deliveries do not run, or the store does not answer\n",
        )
