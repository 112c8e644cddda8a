"""What programs read of the page: `/events` in the order of the log, and `/status.json` as the command prints it."""

import asyncio
import json
import re
import threading
import time
from collections.abc import AsyncIterator, Callable
from html import unescape
from pathlib import Path
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator

from doors import Door, open_door
from inside import put, sql
from roundsman import kinds, screen, wire
from roundsman.events import Event
from roundsman.options.listen import ListenOptions
from roundsman.store import Filter, searching
from roundsman.web.page.words import LONGEST
from worlds import a_failure, an_event, event_logs

TOKEN = "a-token-of-24-letters-ok"
KEY = {"authorization": f"Bearer {TOKEN}"}


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    options = ListenOptions(address="127.0.0.1:0", page={"token": TOKEN})
    async with open_door(
        tmp_path, event_logs(), event_logs("windows"), rounds=False, options=options
    ) as door:
        yield door


async def ask(door: Door, path: str) -> httpx.Response:
    return await door.client.get(door.url + path, headers=KEY)


async def pulled(door: Door, query: str = "") -> dict[str, Any]:
    found = await ask(door, f"/events?{query}")
    assert (found.status_code, found.headers["content-type"]) == (200, "application/json")
    return found.json()  # type: ignore[no-any-return]


async def test_a_program_pulls_every_event_once_as_it_is_in_the_log(door: Door) -> None:
    await put(door.store, *(an_event(n, note='</script>\\u2028"') for n in range(25)))
    at, seen = 0, []
    while True:
        found = await pulled(door, f"after={at}&limit=10")
        seen += found["events"]
        at = found["next"]
        if at == found["head"]:
            break
    logged = door.events()
    assert [each["event"] for each in seen] == [json.loads(event.body) for event in logged]
    assert [each["seq"] for each in seen] == [event.seq for event in logged]
    assert (await pulled(door, f"after={at}"))["events"] == []
    await put(door.store, an_event(99))
    assert [each["event"]["id"] for each in (await pulled(door, f"after={at}"))["events"]] == ["id00099"]


async def test_the_bytes_of_an_event_are_those_of_the_log(door: Door) -> None:
    await put(door.store, an_event(1, amount=1.10, text="é"))
    [event] = door.events()
    assert event.body in (await ask(door, "/events")).content


async def test_a_large_answer_is_made_beside_the_event_loop(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put(door.store, *map(an_event, range(3)))
    made = []

    def noted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            made.append((function.__name__, threading.current_thread() is threading.main_thread()))
            return function(*args, **options)

        return call

    monkeypatch.setattr(wire, "is_line", noted(wire.is_line))
    monkeypatch.setattr(json, "dumps", noted(json.dumps))
    await pulled(door)
    await ask(door, "/status.json")
    assert set(made) == {("is_line", False), ("dumps", False)}


async def test_a_pull_can_select(door: Door) -> None:
    await put(door.store, *(an_event(n, outcome="denied" if n % 2 else "granted") for n in range(4)))
    await put(door.store, an_event(9, source="windows"))

    async def ids(query: str) -> list[str]:
        return [each["event"]["id"] for each in (await pulled(door, query))["events"]]

    assert await ids("outcome=denied") == ["id00001", "id00003"]
    assert await ids("source=windows") == await ids("source=w*&source=x*") == ["id00009"]
    assert len(await ids("type=event_log.created")) == 5
    assert await ids("type=push.completed") == []


@pytest.mark.garbles
async def test_what_was_pruned_is_counted_and_what_is_damaged_left_out(door: Door) -> None:
    await put(door.store, *(an_event(n) for n in range(6)))
    await sql(door.store, "UPDATE events SET body = NULL WHERE id = 'id00000'")
    for number, body in ((2, b"\xff{"), (3, 17), (4, "{")):
        await sql(door.store, f"UPDATE events SET body = ? WHERE id = 'id0000{number}'", (body,))
    found = await pulled(door)
    assert [each["event"]["id"] for each in found["events"]] == ["id00001", "id00005"]
    assert (found["pruned"], found["damaged"]) == (1, 3)
    for path in ("/", "/log", "/log?q=id", "/log?after=0", "/event/4", "/event/5"):
        assert (await ask(door, path)).status_code == 200, path
    read = await door.store.events(0, 9, 9, Filter())
    assert sum(not event.sound for event, _ in read) == 3


async def test_a_program_with_a_number_of_another_store_learns_that_it_would_miss_events(door: Door) -> None:
    await put(door.store, *(an_event(n) for n in range(3)))
    found = await ask(door, "/events?after=4")
    assert (found.status_code, found.text) == (
        409,
        "after: 4 is beyond the last event, 3: the store was replaced, or restored from a backup; begin again with after=0\n",
    )
    await sql(door.store, "DELETE FROM events WHERE id != 'id00000'")
    gone = await pulled(door, "after=1")
    assert (gone["events"], gone["next"], gone["head"], gone["pruned"]) == ([], 3, 3, 2)
    assert (await pulled(door, "after=3"))["events"] == [], (
        "a number of this log, also if its event was pruned whole"
    )


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("after=-1", "after: -1 is not a whole number of 0 or more"),
        ("after=", 'after: "" is not a whole number of 0 or more'),
        ("after=1e3", "after: 1e3 is not a whole number of 0 or more"),
        ("after=%D9%A3", "after: ٣ is not a whole number of 0 or more"),
        ("after=99999999999999999999", "after: 99999999999999999999 is not a whole number of 0 or more"),
        ("limit=0", "limit: 0 is not a whole number from 1 to 1000"),
        ("limit=1001", "limit: 1001 is not a whole number from 1 to 1000"),
        ("limit=1e9", "limit: 1e9 is not a whole number from 1 to 1000"),
        ("source=%00", "source: \\x00 is not a name or a glob"),
        ("source=", 'source: "" is not a name or a glob'),
        ("source=nowhere", "source: nowhere is no source of the log"),
        ("type=" + "x" * 201, "type: " + "x" * 60 + "... is not a name or a glob"),
        ("&".join(["outcome=x"] * 51), "outcome: is given 51 times; at most 50"),
        (
            "type=event_log.creatd",
            "type: event_log.creatd is none of the sources' and of the log's; did you mean event_log.created?",
        ),
        ("outcome=FAILED", "outcome: FAILED is none of the sources' and of the log's; did you mean failed?"),
        ("afer=1", "afer: unknown parameter; known: after, limit, source, type, outcome"),
        ("%1b[31m=1", "\\x1b[31m: unknown parameter; known: after, limit, source, type, outcome"),
    ],
)
async def test_a_wrong_query_is_refused_with_a_sentence(query: str, problem: str, door: Door) -> None:
    found = await ask(door, f"/events?{query}")
    assert (found.status_code, found.text) == (400, problem + "\n")


async def test_what_only_the_log_has_is_no_mistake_in_a_pull(door: Door) -> None:
    for query in ("type=co.parakey.test.failed", "type=test.failed", "type=*.test.*"):
        assert (await ask(door, f"/events?{query}")).status_code == 400, query
    await put(door.store, a_failure(1))
    for query in ("type=co.parakey.test.failed", "type=test.failed", "type=*.test.*"):
        found = await ask(door, f"/events?{query}")
        assert (found.status_code, len(found.json()["events"])) == (200, 1), query


async def test_a_glob_that_is_hostile_ends_soon(door: Door) -> None:
    await put(door.store, *(an_event(n) for n in range(50)))
    began = time.monotonic()
    assert (await ask(door, "/events?type=" + "*a" * 100)).status_code == 400
    assert time.monotonic() - began < 5


async def test_a_large_event_is_cut_on_the_page_and_not_inside_a_secret(door: Door) -> None:
    def shown(pad: int) -> tuple[Event, int]:
        event = an_event(1, note="x" * pad + TOKEN + "y" * 2_000_000)
        return event, json.dumps(event.document()["data"], indent=2).index(TOKEN)

    event, at = shown(LONGEST - 10 - shown(0)[1])
    assert at < LONGEST < at + len(TOKEN)
    await put(door.store, event)
    text = (await ask(door, "/event/1")).text
    assert "xxx***" in text
    assert TOKEN[:5] not in text
    assert "and more than these" in text
    assert len(text) < 2 * LONGEST


async def test_a_search_that_stopped_early_says_how_far_it_looked_and_leads_on_to_the_end(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searching, "PATIENCE", 0.0)
    monkeypatch.setattr(searching, "FIRST", 10)
    await put(door.store, an_event(1, source="windows"))
    await put(door.store, *(an_event(n) for n in range(2, 36)))
    text = (await ask(door, "/source/windows")).text
    assert "None was found down to #26, where the search stopped." in text
    stops, way = [], re.findall(r'href="([^"]+)">Search on<', text)
    while way and len(stops) < 9:
        text = (await ask(door, unescape(way[0]))).text
        stops += re.findall(r"No event matches[^.]*", text)
        way = re.findall(r'href="([^"]+)" rel="next"', text)
    assert stops == [f"No event matches down to #{n}, where the search stopped" for n in (16, 6)]
    assert 'href="/event/1"' in text
    stops, way = [], ["/log?q=nowhere&after=0"]
    while way and len(stops) < 9:
        text = (await ask(door, unescape(way[0]))).text
        stops += re.findall(r"No event matches[^.]*", text)
        way = re.findall(r'href="([^"]+)" rel="prev"', text)
    assert stops == [
        *(f"No event matches up to #{n}, where the search stopped" for n in (10, 20, 30)),
        "No event matches after #30",
    ]


@pytest.mark.parametrize(
    "path",
    [
        "//events",
        "/events/",
        "/hooks/../status.json",
        "/%2e%2e/events",
        "/%2fevents",
        "/events%00",
        "/Events",
    ],
)
async def test_no_other_path_leads_to_an_answer(path: str, door: Door) -> None:
    sent = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\nConnection: close\r\n\r\n"
    assert (await raw(door, sent.encode())).startswith(b"HTTP/1.1 404 ")


async def raw(door: Door, sent: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(door.url.rpartition(":")[2]))
    writer.write(sent)
    answer = await reader.read()
    writer.close()
    return answer


async def test_a_head_that_is_too_long_is_refused(door: Door) -> None:
    sent = f"GET /events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {'x' * 70_000}\r\nConnection: close\r\n\r\n"
    assert not (await raw(door, sent.encode())).startswith(b"HTTP/1.1 200")
    assert (await pulled(door))["events"] == []


async def test_the_status_is_that_of_the_command(door: Door) -> None:
    await put(door.store, an_event(1))
    found = (await ask(door, "/status.json")).json()
    there = (set(door.engine.roster), set(door.engine.deliveries))
    filters = {"rec": Filter()}
    shown = await screen.status(door.store, filters, lambda *_: (), there, lambda *_: "")
    assert {key: found[key] for key in shown} == shown
    assert (found["offset"], found["next"], found["total"]) == (0, None, 2)


async def test_many_sources_are_a_page_at_a_time(door: Door) -> None:
    await door.store.register({f"s{n:04}": "parakey.event_logs" for n in range(1500)}, {})
    names, at = [], 0
    while at is not None:
        found = (await ask(door, f"/status.json?offset={at}&limit=400")).json()
        names += [each["name"] for each in found["sources"]]
        at = found["next"]
    assert names == sorted(names)
    assert len(names) == found["total"] == 1502
    assert len((await ask(door, "/status.json")).json()["sources"]) == 1000
    assert (await ask(door, "/status.json?limit=5000")).status_code == 400


async def test_the_answers_have_the_shapes_of_the_schema(door: Door) -> None:
    """`roundsman schema events` has them among its definitions; `$defs/EventsAnswer` refers to the events themselves."""
    await put(door.store, *(an_event(n) for n in range(3)))
    schema = kinds.schemas()
    for path, name in (("/events", "EventsAnswer"), ("/status.json", "StatusAnswer")):
        found = (await ask(door, path)).json()
        definition = schema["$defs"][name]
        Draft202012Validator({**definition, "$defs": _inside(schema)}).validate(found)
        assert found.keys() == definition["properties"].keys() - {"workers"}, (
            "no other machine shares the store"
        )
    for name, part in (("SourceState", "sources"), ("SinkState", "sinks")):
        assert found[part][0].keys() == schema["$defs"][name]["properties"].keys()
    wrong = {**found, "events": "many"}
    assert not Draft202012Validator({**definition, "$defs": _inside(schema)}).is_valid(wrong)


def _inside(schema: dict[str, Any]) -> dict[str, Any]:
    """The definitions, with the schema of an event at the place that `#` refers to there."""
    text = json.dumps(schema["$defs"]).replace('"$ref": "#"', '"$ref": "#/$defs/Event"')
    event = {key: value for key, value in schema.items() if key not in {"$defs", "$schema"}}
    return {**json.loads(text), "Event": event}


async def test_nothing_is_read_without_the_login(door: Door) -> None:
    for path in ("/status.json", "/events"):
        found = await door.client.get(door.url + path)
        assert (found.status_code, found.text) == (401, "not logged in\n")
    for path in ("/healthz", "/metrics", "/hooks/doors"):
        assert "www-authenticate" not in (await door.client.get(door.url + path)).headers
